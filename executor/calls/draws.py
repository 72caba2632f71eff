"""What calls are told of time and chance, on record before they are told: a repeated call of the step is told the same.

A time or an id may be in a payment. So a call of a `write` gets a new one only once it is durable through a power loss, and the
payment that is made again after a crash is the same payment. For other effects it is recorded with the next group: what a lost
one has led to is lost as well, since no write is durable before all that went before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from ...tools import Used
from ..events import CallMade, CallReused, CallSucceeded, IdMade, ResolvedDone, TimeTold
from ..journal.records import Entry

if TYPE_CHECKING:
    from ..journal.journal import Journal

_NOTHING: Final[Mapping[str, Used]] = {}


def recalled(entries: Iterable[Entry], before: Mapping[str, Used] = _NOTHING) -> dict[str, Used]:
    """Return step -> the recorded times and ids of its open calls, as a journal has them; steps that have returned are left out.

    Args:
        entries: The journal.
        before: What the calls of an earlier run have drawn that this run makes again under the same key.
    """
    found: dict[str, Used] = dict(before)
    for entry in entries:
        match entry.event:
            case TimeTold(step=step, seconds=drawn) | IdMade(step=step, id=drawn):
                _add(found.setdefault(step, Used()), drawn)
            case (
                CallSucceeded(step=step)
                | CallMade(step=step)
                | CallReused(step=step)
                | ResolvedDone(step=step)
            ):
                found.pop(step, None)
            case _:
                pass
    return found


class Draws:
    """What the calls of one run have drawn so far, by step.

    Args:
        known: What was drawn before this process drove the run.
        journal: Where it is recorded.
        now: The clock.
        is_running: Whether a step's call is under way: one that was given up draws off the record.
    """

    def __init__(
        self,
        known: Mapping[str, Used],
        journal: Journal,
        now: Callable[[], float],
        is_running: Callable[[str], bool],
    ) -> None:
        self._drawn = dict(known)
        self._journal = journal
        self._now = now
        self._is_running = is_running

    def of(self, step: str) -> Used:
        """Return what the step's calls have drawn; it grows as they draw."""
        return self._drawn.setdefault(step, Used())

    async def record(self, step: str, drawn: float | str, *, is_write: bool) -> None:
        """Put on record what a call draws; after that the call may be told. Raises: StoreError."""
        if self._note(step, drawn, is_write=is_write) and is_write:
            await self._journal.flush()

    def recorder(self, step: str, *, is_write: bool) -> Callable[[float | str], None]:
        """Return the same for a call that cannot await, on whatever thread it runs."""
        loop = asyncio.get_running_loop()

        def record(drawn: float | str) -> None:
            if not _is_here(loop):
                work = self.record(step, drawn, is_write=is_write)
                asyncio.run_coroutine_threadsafe(work, loop).result()
            elif self._note(step, drawn, is_write=is_write) and is_write:
                self._journal.flush_here()

        return record

    def _note(self, step: str, drawn: float | str, *, is_write: bool) -> bool:
        if not self._is_running(step):
            return False
        _add(self.of(step), drawn)
        event = IdMade(step, drawn) if isinstance(drawn, str) else TimeTold(step, drawn)
        self._journal.add(event, self._now(), is_synced=is_write)
        return True

    def take_over(self, step: str, used: Used) -> None:
        """Put on record what a call drew that was made elsewhere, and that changes nothing."""
        drawn: list[float | str] = [*used.now, *used.uuids]
        for each in drawn:
            self._note(step, each, is_write=False)

    def forget(self, step: str) -> None:
        """Forget a step that has returned."""
        self._drawn.pop(step, None)


def _is_here(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether this is the thread of the loop."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _add(used: Used, drawn: float | str) -> None:
    if isinstance(drawn, str):
        used.uuids.append(drawn)
    else:
        used.now.append(drawn)
