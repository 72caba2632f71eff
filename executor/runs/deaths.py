"""Deaths of processes: which deaths count against a run, and how the engine reacts.

If a step kills its process, every process that takes the run over would make the call again and die, with all its other runs. The engine
therefore counts deaths in the journal before a run is driven again. A death counts against a run that has made no progress since it was
last claimed: no outcome of a call became durable. A death also counts against each call that it cut off, since a run may make progress
beside the call that kills. The journal shows these calls only if every start was durable before its call, which holds after the first
death. The larger of both counts decides. An explicit resume sets both to zero.

After the first death, starts are durable before their calls (`driver.py`). After the second, the run is driven alone (`DriveLock`). After the
last, the run is parked: nobody drives it until someone resumes it. A process that ends in order releases its runs; this is no death.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Self

from ...plans.immutable import immutable
from ..events import CallFailed, CallLost, CallMade, CallReused, CallStarted, CallSucceeded, RunResumed

if TYPE_CHECKING:
    from types import TracebackType

    from ..journal.records import Entry

ALONE_AFTER: Final = 2  # deaths
# How long a new run lets the runs go first that wait to be driven alone. The time is bounded to prevent a deadlock: such a run may wait for
# a run that waits for the new one.
PATIENCE_S: Final = 30.0

OUTCOMES: Final = (CallSucceeded, CallMade, CallReused, CallFailed, CallLost)


@immutable
class Deaths:
    """How deaths affect a run that is about to be driven.

    Attributes:
        count: The number of deaths that count against the run.
        is_careful: Whether the run follows a death: starts are durable before their calls.
        suspects: Paths of the calls that deaths in a row cut off, and that have no outcome yet.
        cut_off: Paths of the calls that the last death cut off.
    """

    count: int = 0
    is_careful: bool = False
    suspects: frozenset[str] = frozenset()
    cut_off: tuple[str, ...] = ()


class _Count:
    """The count while a journal is read."""

    def __init__(self) -> None:
        self._of_run = 0
        self._of_calls: dict[str, int] = {}
        self._in_flight: dict[str, None] = {}
        self._has_progressed = False
        self._is_careful = False
        self.cut_off: tuple[str, ...] = ()

    def read(self, entry: Entry) -> None:
        match entry.event:
            case CallStarted(step=step):
                self._in_flight[step] = None
            case (
                CallSucceeded(step=step)
                | CallMade(step=step)
                | CallReused(step=step)
                | CallFailed(step=step)
                | CallLost(step=step)
            ):
                self._in_flight.pop(step, None)
                self._of_calls.pop(step, None)
                self._has_progressed = True
            case RunResumed(died=died, deaths=deaths):
                self.take_up(has_died=bool(died))
                if not deaths:
                    self._of_run = 0
                    self._of_calls.clear()
                self._is_careful = bool(died or deaths)
            case _:
                pass

    def take_up(self, *, has_died: bool) -> None:
        """Count the end of the previous owner: a death, or an end in order."""
        if self._has_progressed:
            self._of_run = 0
        elif has_died:
            self._of_run += 1
        if has_died and self._is_careful:
            for step in self._in_flight:
                self._of_calls[step] = self._of_calls.get(step, 0) + 1
        self.cut_off = tuple(self._in_flight) if has_died else ()
        self._in_flight.clear()
        self._has_progressed = False

    def deaths(self, *, has_died: bool) -> Deaths:
        count = max(self._of_run, *self._of_calls.values(), 0)
        return Deaths(count, has_died or count > 0, frozenset(self._of_calls), self.cut_off)


def count_deaths(entries: Iterable[Entry], *, has_died: bool) -> Deaths:
    """Return how deaths affect a run that is about to be driven.

    Args:
        entries: Its journal.
        has_died: Whether the process that had it last died with it.
    """
    count = _Count()
    for entry in entries:
        count.read(entry)
    count.take_up(has_died=has_died)
    return count.deaths(has_died=has_died)


class DriveLock:
    """A readers-writer lock over the runs that one engine drives: most runs share it, a run that is driven alone holds it exclusively.

    A run that a tool of a driven run starts does not wait for the lock, to avoid a deadlock between the two.

    Attributes:
        holder: The permit that excludes all others; `None`: none does.
    """

    def __init__(self) -> None:
        self._shared = 0
        self.holder: Permit | None = None
        self._waiting: deque[Permit] = deque()  # to be alone
        self._changed = asyncio.Event()
        self._waiters = 0

    @property
    def is_inside(self) -> bool:
        """Whether the current task belongs to a run that is driven under this lock."""
        return _INSIDE.get() is self

    def try_share(self) -> Permit | None:
        """Return a permit if the run may be driven beside others now."""
        is_inside = _INSIDE.get() is self
        if not is_inside and (self.holder is not None or self._waiting):
            return None
        self._shared += 1
        return Permit(self, is_inside=is_inside)

    async def share(self) -> Permit:
        """Return a permit once the run may be driven beside others."""
        clock = asyncio.get_running_loop().time
        until = clock() + PATIENCE_S
        while (permit := self.try_share()) is None:
            if self.holder is None and clock() >= until:
                self._shared += 1
                return Permit(self, is_inside=False)
            await self._wait(None if self.holder is not None else until - clock())
        return permit

    async def alone(self) -> Permit:
        """Return a permit once no other run is driven; waiting runs get it in order of arrival."""
        permit = Permit(self, is_inside=self.is_inside)
        await self.exclude(permit)
        return permit

    async def exclude(self, permit: Permit) -> None:
        """Give the exclusive lock to a permit that holds nothing."""
        self._waiting.append(permit)
        try:
            while self.holder is not None or self._shared or self._waiting[0] is not permit:
                await self._wait(None)
            self.holder = permit
        finally:
            self._waiting.remove(permit)
            self.notify()

    def give_back(self, permit: Permit, *, keep_share: bool = False) -> None:
        """Take a permit back, or turn an exclusive permit into a share."""
        if self.holder is permit:
            self.holder = None
            self._shared += keep_share
        elif not keep_share:
            self._shared -= 1
        if self._waiters:
            self.notify()

    def notify(self) -> None:
        """Wake all waiters, which then check again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _wait(self, seconds: float | None) -> None:
        self._waiters += 1
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass
        finally:
            self._waiters -= 1


_INSIDE: Final[ContextVar[DriveLock | None]] = ContextVar("firmplan_drive_lock", default=None)


class Permit:
    """The right to drive one run; a context manager that gives it back, in the task that drives.

    Attributes:
        is_inside: Whether a tool of another driven run has started the run.
    """

    def __init__(self, lock: DriveLock, *, is_inside: bool) -> None:
        self._lock = lock
        self.is_inside = is_inside
        self._is_held = True

    def __enter__(self) -> Self:
        _INSIDE.set(self._lock)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_back()

    @property
    def is_alone(self) -> bool:
        """Whether no other run may be driven meanwhile."""
        return self._lock.holder is self

    async def exclude_others(self) -> None:
        """Give the share back, and wait until the run may be driven alone."""
        self.give_back()
        await self._lock.exclude(self)
        self._is_held = True

    def let_others_in(self) -> None:
        """Let other runs be driven beside this one."""
        if self.is_alone:
            self._lock.give_back(self, keep_share=True)

    def give_back(self) -> None:
        """Give the permit back; idempotent."""
        if self._is_held:
            self._is_held = False
            self._lock.give_back(self)
