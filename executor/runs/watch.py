"""Noticing what other processes decide about the runs that this one drives, and renewing the lease meanwhile.

It is looked for on the thread of commits: the event loop is woken only where there is something for it to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ...errors import StoreError

if TYPE_CHECKING:
    from ..journal.journal import Commits
    from ..stores.store import Batch, Store
    from .archive import Archive
    from .driver import Driver
    from .owner import Owner

POLL_S: Final = 0.2  # how often it is looked


class Watch:
    """See the module; it lasts as long as a run is driven.

    Args:
        commits: Whose thread it is.
        store: Where decisions are left.
        archive: Reads them.
        owner: Whose lease it is.
        drivers: The runs that are driven, by id.
        driving: These, and those that are planned.
    """

    def __init__(  # what it looks at, and whom it tells
        self,
        commits: Commits,
        store: Store,
        archive: Archive,
        owner: Owner,
        drivers: Mapping[str, Driver],
        driving: Mapping[str, object],
    ) -> None:
        self._commits = commits
        self._store = store
        self._archive = archive
        self._owner = owner
        self._drivers = drivers
        self._driving = driving
        self._loop: asyncio.AbstractEventLoop | None = None
        self._telling: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Look now and then, and tell this event loop."""
        self._loop = asyncio.get_running_loop()
        self._commits.expect(self, POLL_S)

    def tasks(self) -> list[asyncio.Task[None]]:
        """Return what is under way on the event loop."""
        return [self._telling] if self._telling is not None else []

    # --- on the thread

    def take(self) -> Batch | None:
        """Look; nothing is to be committed."""
        decided = [run_id for run_id in self._store.list_decided() if run_id in self._driving]
        if self._loop is not None and (decided or self._owner.is_beat_due):
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._tell, decided)
        self._go_on()
        return None

    def settle(self, _batch: Batch | None, _fault: Exception | None, /) -> None:
        """Go on where the store failed: the runs themselves will say so, if that lasts."""
        self._go_on()

    def _go_on(self) -> None:
        if self._driving and self._loop is not None and not self._loop.is_closed():
            self._commits.expect(self, POLL_S)

    # --- on the event loop

    def _tell(self, decided: Sequence[str]) -> None:
        """Have the lease renewed, and hand over what was decided, unless that is under way."""
        if self._telling is None or self._telling.done():
            work = self._tell_drivers(decided)
            self._telling = asyncio.get_running_loop().create_task(work, name="firmplan decisions")

    async def _tell_drivers(self, decided: Sequence[str]) -> None:
        with suppress(StoreError):  # a run that is affected comes to it by itself
            await self._owner.keep_beating(self._store)
        for run_id in decided:
            if (driver := self._drivers.get(run_id)) is not None:
                with suppress(StoreError):  # the run itself will say so, if it lasts
                    await driver.take_decisions(await self._archive.decisions(run_id))
