"""Places for calls, shared fairly: those who wait are served run by run, and within a run in the order in which they came.

A run of a thousand ready calls and a run of one get every other place, whoever was first. `asyncio.Semaphore` serves whoever came first,
so that the thousand would go before the one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from contextvars import copy_context
from functools import partial
from types import coroutine
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from ..stores.store import Reusable


class Places:
    """So many places, each held by one call at a time.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = count
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by run; the first run is next

    def hold(self, run: str) -> AbstractAsyncContextManager[None]:
        """Return what holds a place for a call of that run, once it is entered, waiting for it if need be."""
        return _Hold(self, run)

    def take_free(self) -> bool:
        """Take a place if one is free, which is so only while nobody waits; return whether it was."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def take(self, run: str) -> None:
        """Wait for a place, and take it."""
        if self.take_free():
            return
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(run, deque()).append(given)
        try:
            await given
        except asyncio.CancelledError:
            if given.done() and not given.cancelled():  # it was given in the same instant
                self.give_back()
            raise

    def give_back(self) -> None:
        """Hand the place to the next run that waits; O(1), over all calls that were cancelled meanwhile."""
        while self._waiting:
            run = next(iter(self._waiting))
            queue = self._waiting.pop(run)
            given = queue.popleft()
            if queue:
                self._waiting[run] = queue  # behind the others
            if not given.done():
                given.set_result(None)
                return
        self._free += 1


class _Hold(AbstractAsyncContextManager[None]):
    """A class and no generator: each call enters one."""

    __slots__ = ("_places", "_run")

    def __init__(self, places: Places, run: str) -> None:
        self._places = places
        self._run = run

    async def __aenter__(self) -> None:
        if not self._places.take_free():
            await self._places.take(self._run)

    async def __aexit__(self, *_: object) -> None:
        self._places.give_back()


# --- Single flight: identical calls that come up while one is under way take what it returns.


class Shared:
    """A call under way whose result stands for identical ones; most are waited for by nobody.

    Args:
        key: Content key of the call; empty: nothing is identical to it.
        in_flight: Where others find it until it has ended.
    """

    __slots__ = ("_in_flight", "_key", "_waiter")

    def __init__(self, key: str, in_flight: dict[str, Shared]) -> None:
        self._key = key
        self._in_flight = in_flight
        self._waiter: asyncio.Future[Reusable | None] | None = None
        if key:
            in_flight[key] = self

    async def made(self) -> Reusable | None:
        """Wait for the end of the call; return its result if it may stand for others."""
        if self._waiter is None:
            self._waiter = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._waiter)

    def end(self, made: Reusable | None) -> None:
        """Hand the result, if it may stand for others, to all who wait."""
        if self._key:
            del self._in_flight[self._key]
        if self._waiter is not None:
            self._waiter.set_result(made)


# --- Telling calls that return at once from calls that wait.
#
# Most calls of a plan that computes never wait: what there is to record of them is one thing that happened, not two. Whether a call
# waits shows when it does, so it is begun first; nothing else can happen on the event loop before it waits.


T = TypeVar("T")


@coroutine
def noticed(work: Coroutine[Any, Any, T], on_wait: Callable[[], None]) -> Generator[Any, Any, T]:
    """Return what a coroutine returns, as awaiting it would; `on_wait` is called right before it first waits, if it does."""
    try:
        waits_for = work.send(None)
    except StopIteration as end:
        return cast("T", end.value)
    try:
        on_wait()
    except BaseException:
        work.close()
        raise
    while True:
        try:
            answer = yield waits_for
        except GeneratorExit:
            work.close()
            raise
        except BaseException as fault:  # noqa: BLE001  # whatever it is, it is for the coroutine
            go_on: Callable[[], Any] = partial(work.throw, fault)
        else:
            go_on = partial(work.send, answer)
        waits_for = (
            None  # a failed future holds the exception, whose traceback is about to hold this frame: a cycle
        )
        try:
            waits_for = go_on()
        except StopIteration as end:
            return cast("T", end.value)
        finally:
            del go_on  # the same, where it throws an exception


# --- The workers of one run: tasks that make the calls that are due, one after the other.
#
# A task a call would cost more than a call that never waits. So a worker goes on with the next call when one has ended; where a call has
# to wait, its worker waits with it, and others take the rest. There are as many workers as calls under way, up to a limit, and calls
# that never wait need but one. A worker stays for what its call makes ready. One that is cancelled ends with its call.


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
