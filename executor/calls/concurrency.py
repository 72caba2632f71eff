"""How the calls of many runs share one event loop: fair semaphores, the synchronous fast path, and the worker pool of a run.

These are scheduling primitives. Of a call they know only its step path, of a run only its name.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from contextvars import copy_context
from functools import partial
from time import monotonic
from types import coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

if TYPE_CHECKING:
    from .dispatch import PreparedCall, StartCall

T = TypeVar("T")


# --- fair semaphore


PRIORITY_MAX: Final = 5
"""The priority of the runs that come last; 1 is that of the first."""
PRIORITY_DEFAULT: Final = 3
"""The priority of a run for which none was given."""


class FairSemaphore:
    """A semaphore that serves the waiting runs by priority, those of one priority in turn, and the calls of one run in the order in which they came.

    `asyncio.Semaphore` serves the calls in the order in which they came: a run of a thousand ready calls would keep a run of one call
    waiting until the thousand have been made.

    Args:
        count: How many calls may hold it at a time.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = count
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by run; the first run is next
        self._priorities: dict[str, int] = {}  # of runs that have one; without any, nothing is compared

    def prefer(self, run: str, priority: int | None) -> None:
        """Serve a run by a priority, from 1, first, to 5, until `forget`; `None`: it has none."""
        if priority is not None:
            self._priorities[run] = priority

    def forget(self, run: str) -> None:
        """Forget the priority of a run: it takes its turn with the runs that have none."""
        self._priorities.pop(run, None)

    def _next(self) -> str:
        """Return the waiting run that is served next: of the first priority, the one that has waited longest for its turn."""
        if not self._priorities:
            return next(iter(self._waiting))
        return min(self._waiting, key=lambda run: self._priorities.get(run, PRIORITY_DEFAULT))

    @asynccontextmanager
    async def hold(self, run: str) -> AsyncGenerator[None]:
        """Hold the semaphore for a call of that run."""
        await self.acquire(run)
        try:
            yield
        finally:
            self.release()

    def try_acquire(self) -> bool:
        """Acquire the semaphore if it is free, which implies that nobody waits; return whether it was."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def acquire(self, run: str) -> None:
        """Wait until the semaphore is free, and acquire it."""
        if self.try_acquire():
            return
        slot: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(run, deque()).append(slot)
        try:
            await slot
        except asyncio.CancelledError:
            # `release` may have given this call a slot before the cancel arrived: the slot must not be lost.
            if slot.done() and not slot.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Give the slot to the next run that waits. O(1), amortised over the calls that were cancelled while they waited; O(waiting runs) with priorities."""
        while self._waiting:
            run = self._next()
            queue = self._waiting.pop(run)
            slot = queue.popleft()
            if queue:
                self._waiting[run] = queue  # inserted again, so at the end: the other runs come first
            if not slot.done():
                slot.set_result(None)
                return
        self._free += 1


# --- synchronous fast path


@coroutine
def notify_wait(work: Coroutine[Any, Any, T], on_wait: Callable[[], None]) -> Generator[Any, Any, T]:
    """Return the result of a coroutine, as `await` would, and call `on_wait` right before the coroutine first waits, if it does.

    A call that never waits is one record in the journal; a call that waits has a record of its start, too. Whether a call will wait cannot
    be known before it runs. So the call runs up to its first await, and its start is recorded there: nothing else can happen on the
    event loop in between.
    """
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
        except BaseException as fault:  # noqa: BLE001  # whatever was thrown in is for the coroutine
            go_on: Callable[[], Any] = partial(work.throw, fault)
        else:
            go_on = partial(work.send, answer)
        # A failed future holds its exception, and the traceback of that holds this frame. Both references are dropped, because the
        # cycle would keep the values of an ended run in memory until the next collection.
        waits_for = None
        try:
            waits_for = go_on()
        except StopIteration as end:
            return cast("T", end.value)
        finally:
            del go_on


# --- worker pool

TURN_S: Final = 0.002  # how long calls that never wait may hold the event loop before other tasks run


class WorkerPool:
    """The worker tasks of one run, which prepare the calls that are ready, and make the calls that are due.

    A task for each call would cost more than a call that never waits. So a worker makes one call after the other. When a call waits, its
    worker waits with it, and another worker is started for the calls that are due. Calls that never wait need one worker in all; calls
    that wait need as many workers as there are calls under way, up to a limit.

    A call is begun like a plain function, so that a call that never waits costs neither a task nor a coroutine. What its outcome makes ready is
    prepared by the same worker once no call is due.

    A call that is cancelled cancels its worker's task, so that worker ends, and so does one whose call has changed the task's context. A worker
    also ends when nothing is left.

    Args:
        prepare: Prepares the calls that are ready, and adds those that are to be made.
        begin: Begins a call, and returns the rest of the work on it; `None`: it has ended.
        is_wanted: Whether a call is still to be made, asked right before.
        spawn: Starts the task of a worker.
        tasks: Step -> the task that works on it; this pool enters its workers here.
        workers_max: Workers at a time, whether their calls run or wait for a semaphore; further calls wait in a queue.

    Attributes:
        ready: The calls that are to be prepared. Whoever adds one from outside the pool calls `start_workers`.
    """

    def __init__(
        self,
        prepare: Callable[[], Awaitable[None]],
        begin: Callable[[PreparedCall], Awaitable[None] | None],
        is_wanted: Callable[[PreparedCall], bool],
        spawn: Callable[[str, Coroutine[Any, Any, None]], None],
        tasks: dict[str, asyncio.Task[None]],
        workers_max: int,
    ) -> None:
        self._prepare = prepare
        self._begin = begin
        self._is_wanted = is_wanted
        self._spawn = spawn
        self._tasks = tasks
        self._workers_max = workers_max
        self.ready: list[StartCall] = []
        self._due: deque[PreparedCall] = deque()
        self._starting = 0  # workers that are about to look for calls
        self._busy = 0

    def add(self, call: PreparedCall) -> None:
        """Add a call that is due. It is made after the next `start_workers`."""
        self._due.append(call)

    def start_workers(self, *, free: int = 0) -> None:
        """Start as many workers as are needed: one, or one for each busy worker, because a busy worker may be waiting in its call.

        Args:
            free: Workers that look for due calls right after this.
        """
        if not (self._due or self.ready):
            return
        room = self._workers_max - self._busy
        wanted = min(len(self._due), max(self._busy, 1), room)
        # What is ready may need no call, so it waits for no room.
        for _ in range((wanted or bool(self.ready)) - self._starting - free):
            self._starting += 1
            self._spawn("", self._work())

    async def _work(self) -> None:
        """Make the calls that are due, and prepare those that are ready, until this worker has to end: nothing is left, cancelled, or its context changed."""
        self._starting -= 1
        due, begin, tasks = self._due, self._begin, self._tasks
        worker, context = cast("asyncio.Task[None]", asyncio.current_task()), copy_context()
        until, has_waited = monotonic() + TURN_S, False
        try:
            while (can_call := due and self._busy < self._workers_max) or self.ready:
                if (has_waited and not due) or monotonic() > until:
                    # Others get their turn. And calls that end in one turn of the event loop have what follows from them prepared together, so
                    # that the store is asked once for the earlier results of all of them.
                    self._starting += 1
                    try:
                        await asyncio.sleep(0)
                    finally:
                        self._starting -= 1
                    until, has_waited = monotonic() + TURN_S, False
                elif not can_call:
                    await self._prepare()
                elif self._is_wanted(call := due.popleft()):
                    if (rest := begin(call)) is not None:
                        tasks[call.step] = worker
                        self._busy += 1
                        if (due or self.ready) and self._starting < self._busy:
                            self.start_workers()
                        try:
                            await rest
                        finally:
                            self._busy -= 1
                            if tasks.get(call.step) is worker:
                                del tasks[call.step]
                        has_waited = True
                    # A cancel, or a context variable that the call has set, belongs to that call: the next one gets a new task.
                    if worker.cancelling() or copy_context() != context:
                        return
        finally:
            if due or self.ready:
                self.start_workers()


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error that stopped the tasks of a group: callers expect the error itself, not the group."""
    first = group.exceptions[0]
    is_group = isinstance(first, BaseExceptionGroup)
    return first_error(cast("BaseExceptionGroup[BaseException]", first)) if is_group else first
