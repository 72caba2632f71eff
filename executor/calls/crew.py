"""The workers of one run: tasks that make the calls that are due, one after the other.

A task a call would cost more than a call that never waits. So a worker goes on with the next call when one has ended; where a call has
to wait, its worker waits with it, and others take the rest. There are as many workers as calls under way, up to a limit, and calls
that never wait need but one. A worker stays for what its call makes ready. One that is cancelled ends with its call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from typing import Any, Final, Generic, Protocol, TypeVar, cast

TURN_S: Final = 0.002  # how long calls that never wait may keep the event loop, before others have their turn
STAYS: Final = 2  # turns of the event loop, in which what a call makes ready becomes due


class Due(Protocol):
    """A call that is due."""

    @property
    def step(self) -> str: ...  # noqa: D102  # path of the leaf


C = TypeVar("C", bound=Due)


class Crew(Generic[C]):
    """See the module.

    Args:
        make: Makes one call.
        is_wanted: Whether a call is still to be made, asked right before.
        spawn: Starts a worker.
        at_work: Step -> the task that works on it; filled here with workers.
        workers_max: Calls under way, and waiting for a place, at most; what else is due waits here.
    """

    def __init__(
        self,
        make: Callable[[C], Awaitable[None]],
        is_wanted: Callable[[C], bool],
        spawn: Callable[[str, Coroutine[Any, Any, None]], None],
        at_work: dict[str, asyncio.Task[None]],
        workers_max: int,
    ) -> None:
        self._make = make
        self._is_wanted = is_wanted
        self._spawn = spawn
        self._at_work = at_work
        self._workers_max = workers_max
        self._due: deque[C] = deque()
        self._hired = 0  # workers that have not begun yet
        self._idle = 0  # workers that stay
        self._busy = 0

    def add(self, call: C) -> None:
        """Have a call made, once `hire` says so."""
        self._due.append(call)

    def hire(self) -> None:
        """See to it that someone takes the calls that are due: one worker, or one for each that waits in its call."""
        room = self._workers_max - self._busy - self._idle
        for _ in range(min(len(self._due) - self._idle, max(self._busy, 1), room) - self._hired):
            self._hired += 1
            self._spawn("", self._work())

    async def _work(self) -> None:
        """Make calls until none is due any more, or until it is someone else's turn."""
        self._hired -= 1
        try:
            while await self._make_due() and await self._stay():
                pass
        finally:
            self.hire()

    async def _make_due(self) -> bool:
        """Make the calls that are due; return `False` where this worker is to end: cancelled, changed by its call, or at work too long."""
        due, at_work, time = self._due, self._at_work, asyncio.get_running_loop().time
        worker, context = cast("asyncio.Task[None]", asyncio.current_task()), copy_context()
        until = time() + TURN_S
        while due:
            call = due.popleft()
            if not self._is_wanted(call):
                continue
            at_work[call.step] = worker
            self._busy += 1
            if due and self._hired < self._busy:
                self.hire()
            try:
                await self._make(call)
            finally:
                self._busy -= 1
                if at_work.get(call.step) is worker:
                    del at_work[call.step]
            # The call may have left something in the task that is not for the next one.
            if worker.cancelling() or copy_context() != context or (due and time() > until):
                return False
        return True

    async def _stay(self) -> bool:
        """Let others have their turn; return whether a call is due then."""
        self._idle += 1
        try:
            for _ in range(STAYS):
                await asyncio.sleep(0)
                if self._due:
                    return True
        finally:
            self._idle -= 1
        return False


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The fault that stopped the run: TaskGroup bundles it, the caller wants the error itself."""
    first = group.exceptions[0]
    is_group = isinstance(first, BaseExceptionGroup)
    return first_of(cast("BaseExceptionGroup[BaseException]", first)) if is_group else first
