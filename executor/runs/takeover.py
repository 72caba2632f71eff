"""Runs whose process has died, found so that another goes on with them: those that are there, and those that come.

A run that was parked in order has no owner any more: it goes on when someone resumes it, or when an engine opens that recovers.
What an engine looks for all the time are runs that still have an owner, and the owner is dead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Final

from ...errors import FirmplanError
from ..journal.header import Header
from ..stores.store import RunRow, Store
from .archive import LIMIT_MAX, UNDER_WAY, Archive
from .run import Run

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

LOOK_S: Final = 1.0  # how often dead owners are looked for


class Takeover:
    """See the module.

    Args:
        store: Where runs are.
        archive: Shows them.
        is_driven: Whether a living owner has a run.
        expect_tools: Raises a `ConfigError` where a run needs tools that are not here.
        log: Told of runs that cannot go on here.
    """

    def __init__(
        self,
        store: Store,
        archive: Archive,
        is_driven: Callable[[RunRow], bool],
        expect_tools: Callable[[str, Header], None],
        log: Callable[[], FilteringBoundLogger],
    ) -> None:
        self._store = store
        self._archive = archive
        self._is_driven = is_driven
        self._expect_tools = expect_tools
        self._log = log
        self._left: set[tuple[str, int]] = set()  # what was told that it cannot go on here, by run and epoch

    async def find(self) -> list[Run]:
        """Return every unfinished run that nobody drives, oldest first, as it stands; kept replays never go on.

        What cannot go on here, since its journal was changed or its tools are missing, is left out and told to the log.
        """
        found: list[RunRow] = []
        for status in UNDER_WAY:
            before: tuple[float, str] | None = None
            while rows := await self._store.list_runs(status=status, limit=LIMIT_MAX, before=before):
                found += [row for row in rows if not row.is_replay and not self._is_driven(row)]
                before = (rows[-1].created, rows[-1].id)
        return await self._recoverable(found)

    async def watch(self, go_on: Callable[[Run], Awaitable[object]]) -> None:
        """Go on, for as long as this is awaited, with every run whose owner dies."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                orphans = [row for row in await self._store.list_driven() if not self._is_driven(row)]
                runs = await self._recoverable(
                    row for row in orphans if (row.id, row.epoch) not in self._left
                )
            except FirmplanError as fault:  # the store: whoever uses it next is told
                self._log().warning("no look for runs of dead processes", error=str(fault), code=fault.code)
                continue
            for run in runs:
                await self._go_on(run, go_on)

    async def _go_on(self, run: Run, go_on: Callable[[Run], Awaitable[object]]) -> None:
        try:
            self._log().info("run taken over", run=run.id)
            await go_on(run)
        except FirmplanError as fault:
            self._log().warning("run not recovered", run=run.id, error=str(fault), code=fault.code)

    async def _recoverable(self, rows: Iterable[RunRow]) -> list[Run]:
        runs: list[Run] = []
        for row in sorted(rows, key=lambda row: (row.created, row.id)):
            try:
                header = Header.from_dict((await self._archive.row(row.id)).header)
                self._expect_tools(row.id, header)
                runs.append(await self._archive.get(row.id))
            except FirmplanError as fault:
                self._left.add((row.id, row.epoch))
                self._log().warning("run not recovered", run=row.id, error=str(fault), code=fault.code)
        return runs
