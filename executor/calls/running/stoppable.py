"""Running code so that it can be stopped: coroutines that do not heed their cancel, and threads, which Python cannot stop.

This module knows neither tools nor outcomes: `invoke.py` begins the calls of tools, and makes outcomes of what they return or raise.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import queue
import threading
from collections.abc import Awaitable, Callable, Generator, Iterable
from inspect import CORO_CREATED, getcoroutinestate
from types import CoroutineType, coroutine
from typing import Any, Final, TypeAlias, cast

from ....tools.failures import described
from ...canonical_value import CanonicalValue
from .loop_watch import NO_WATCH, LoopWatch, Owner

# --- coroutines
#
# A coroutine runs only while someone sends to it. So, unlike a thread, a coroutine that swallows its cancel can be ended: it gets
# `HEED_S` to clean up, then it is closed, and the caller continues. It runs in the task of its caller from beginning to end, because
# `asyncio.timeout`, `TaskGroup` and context variables are bound to a task and have to work in a tool, too.
#
# A tool may cancel its own task (`asyncio.timeout` does). So whoever stops a call cancels its task with the message `STOPPED`, or
# sets a limit that has expired; every other cancel belongs to the tool.

Work: TypeAlias = "CoroutineType[Any, Any, object]"

STOPPED: Final = "nobody waits for this call any more"
HEED_S: Final = 1.0  # how long a call that was stopped may clean up
_PLAIN_FUTURE: Any = asyncio.Future  # of any result: a comparison with the class would make its type unknown


RETURNED: Final = object()
"""What a call waits for that has returned, and whose result has yet to be judged."""


class BegunCall:
    """A call of an asynchronous tool that waits.

    Attributes:
        work: The rest of the call.
        awaited: What it waits for; `RETURNED`: it has returned, and a guard has yet to judge its result.
        result: What the tool has returned, in that case.
        given: Large arguments with their parsed form; `None`: they are small.
        is_stopped: Whether the engine stopped the call.
        watch: Is told when the call has the event loop.
        owner: The call, for the watch.
    """

    __slots__ = ("awaited", "began", "forks", "given", "is_stopped", "owner", "result", "watch", "work")

    def __init__(  # noqa: PLR0913, PLR0917  # the parts of a call
        self,
        work: Work,
        awaited: object,
        began: float,
        forks: int,
        result: object = None,
        given: CanonicalValue | None = None,
        watch: LoopWatch = NO_WATCH,
        owner: Owner | None = None,
    ) -> None:
        self.work = work
        self.watch = watch
        self.owner = owner
        self.given = given
        self.awaited = awaited
        self.began = began
        self.forks = forks
        self.result = result
        self.is_stopped = False

    def close(self) -> None:
        """End the call where it stands."""
        self.work.close()


class NotHeeded(Exception):  # noqa: N818  # not an error: it says what happened
    """A call that was stopped continues all the same."""


async def await_stoppable(made: object, on_end: Callable[[], None] | None = None) -> object:
    """Return the result of an asynchronous call, or raise its error, in the task of the caller.

    Args:
        made: The coroutine or other awaitable that the function returned.
        on_end: Called if the call was closed because it did not heed its cancel.

    Raises:
        asyncio.CancelledError: The call was stopped.
    """
    work = as_coroutine(made)
    try:
        following = follow(BegunCall(work, work.send(None), 0.0, 0))
    except StopIteration as done:  # it never waited, so it cost no more than a plain await
        return done.value
    try:
        return await following
    except NotHeeded:
        if on_end is not None:
            on_end()
        raise asyncio.CancelledError(STOPPED) from None


async def await_in_task(made: object, on_end: Callable[[], None] | None = None) -> object:
    """Do the same in a task of its own, which is stopped if this task is cancelled: for calls with a time limit.

    `asyncio.timeout` cancels the current task without the message `STOPPED`, so the limit and the tool must not share a task.
    """
    work = asyncio.ensure_future(await_stoppable(made, on_end))
    work.add_done_callback(
        lambda done: done.cancelled() or done.exception()
    )  # marks the error as seen: it is raised below, or dropped
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        if work.cancel(STOPPED):
            await asyncio.wait([work])
        if type(made) is CoroutineType and getcoroutinestate(cast("Work", made)) == CORO_CREATED:
            made.close()  # it never began, and Python would warn about that
        raise
    finally:
        del work  # it holds the exception, whose traceback holds this frame: a cycle


def as_coroutine(made: object) -> Work:
    """Return a coroutine, or one that awaits what else an asynchronous function has returned."""
    return cast("Work", made if type(made) is CoroutineType else _awaited(cast("Awaitable[object]", made)))


async def _awaited(made: Awaitable[object]) -> object:
    return await made


@coroutine
def follow(  # noqa: C901, PLR0912  # what a task does, in one loop without a call
    begun: BegunCall,
) -> Generator[Any, Any, object]:
    """Step a coroutine as a task does, each time that the future it waits for is done. Raises: NotHeeded: it ran past its time."""
    work, watch = begun.work, begun.watch
    awaited: Any = begun.awaited  # a future, or what no task would take; no cast, which is a call
    begun.awaited = None
    loop = asyncio.get_running_loop()
    until: float | None = None  # set when the call is stopped: from then on it only cleans up
    waiter: asyncio.Future[None] | None = None
    while True:
        fault: BaseException | None = None
        try:
            # Nearly all calls wait for a plain future, and are not stopped: the task gets it as it is.
            if until is None and type(awaited) is _PLAIN_FUTURE and awaited.get_loop() is loop:
                try:
                    yield awaited
                except (asyncio.CancelledError, GeneratorExit):
                    raise
                except BaseException:  # that of the future, which the coroutine is about to see itself
                    if not awaited.done():
                        raise
            elif (fault := _bad_yield(awaited, loop)) is None:
                waiter = waiter or _waiter_for(awaited, is_stopped=until is not None)
                yield from _wait_until_done(awaited, waiter, until).__await__()
        except asyncio.CancelledError as cancel:
            if until is None and cancel.args == (STOPPED,):
                until, begun.is_stopped = loop.time() + HEED_S, True
            if asyncio.isfuture(awaited) and awaited.cancel(*cancel.args):
                continue  # a cancelled future is done soon; a cancelled task may swallow it, so it is waited for again
            fault = cancel
        except GeneratorExit:
            _close(work, waiter)
            raise
        if until is not None and loop.time() >= until:
            _close(work, waiter)
            raise NotHeeded
        # A failed future holds its exception, whose traceback is about to hold this frame: a cycle. So both are dropped.
        awaited = waiter = None
        watch.number += 1
        watch.has_loop = begun.owner
        try:
            awaited = work.send(None) if fault is None else work.throw(fault)
        except StopIteration as done:
            return done.value
        finally:
            watch.has_loop = None
            fault = None


def _bad_yield(awaited: object, loop: asyncio.AbstractEventLoop) -> RuntimeError | None:
    """Return the error that a task raises if its coroutine yields an object that cannot be waited for here."""
    if awaited is None:
        return None
    if not asyncio.isfuture(awaited):
        return RuntimeError(f"a call got bad yield: {awaited!r}")
    if awaited.get_loop() is not loop:
        return RuntimeError(f"a call got Future attached to a different loop: {awaited!r}")
    return None


def _waiter_for(awaited: object, *, is_stopped: bool) -> asyncio.Future[None] | None:
    """Return a task that waits for a future in the place of the current task; `None`: the current task waits for it.

    A cancel of the task that waits also cancels the future, and an inner task may swallow that. Then the current task must be able to stop
    waiting, so another task waits. Only a task can do this: `await` marks a future, and the task that gets it clears the mark. Rejected: a
    done callback instead of a task, because the mark is a private attribute of the future.
    """
    # A cancel always ends a plain future, and nearly all futures are plain; so calls that are not stopped rarely need a second task.
    if awaited is None or (type(awaited) is _PLAIN_FUTURE and not is_stopped):
        return None
    return asyncio.ensure_future(_wait_for(cast("asyncio.Future[object]", awaited)))


async def _wait_until_done(awaited: object, waiter: asyncio.Future[None] | None, until: float | None) -> None:
    """Wait until a future is done, or until that time; for `None`: one turn of the event loop."""
    if waiter is not None:
        timeout_s = None if until is None else until - asyncio.get_running_loop().time()
        await asyncio.wait([waiter], timeout=timeout_s)
    elif awaited is not None:
        await _pass_on(cast("asyncio.Future[object]", awaited))
    else:
        await asyncio.sleep(0)


async def _wait_for(future: asyncio.Future[object]) -> None:
    await _pass_on(future)


@coroutine
def _pass_on(future: asyncio.Future[object]) -> Generator[object, None, None]:
    """Let the current task wait for a future. The future's error is not raised here: the coroutine is about to see it itself."""
    try:
        yield future
    except (asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException:
        if not future.done():
            raise


def _close(work: Work, waiter: asyncio.Future[None] | None) -> None:
    """End a coroutine where it stands, and drop what it raises meanwhile."""
    if waiter is not None:
        waiter.cancel()  # nobody would ever end it
    try:
        work.close()
    except BaseException:  # noqa: BLE001  # it swallowed that, too, or failed at it
        if work.cr_frame is not None:
            _keep_for_ever(work)


def _keep_for_ever(work: object) -> None:
    """Keep Python from closing a coroutine again when it frees it, at the latest at exit: that close may never return."""
    from ctypes import py_object, pythonapi  # noqa: PLC0415  # hardly ever needed

    pythonapi.Py_IncRef(py_object(work))


# --- threads
#
# Python cannot stop a thread. A thread that overruns its timeout is abandoned: it is counted, its late result is dropped, and another
# takes its place. Threads are daemons, so that a tool that hangs cannot keep the process from ending. `concurrent.futures` would not do:
# it joins its threads at exit.

_Job: TypeAlias = tuple[
    Callable[[], object], contextvars.Context, asyncio.AbstractEventLoop, "asyncio.Future[object]"
]


class ThreadPool:
    """Threads for synchronous tools. It has no limit of its own: the engine's limits on calls bound it.

    Attributes:
        abandoned: Threads that were still in a call when its caller stopped waiting.
        is_closing: Whether the engine closes, so that it does not warn about each thread that it abandons.
        watch: Over the event loop whose calls come here.
    """

    def __init__(self, idle: Iterable[ToolThread] = ()) -> None:
        self._idle = list(idle)
        self.abandoned = 0
        self.is_closing = False
        self.watch: LoopWatch = NO_WATCH

    async def call(self, work: Callable[[], object]) -> object:
        """Return the result of `work`, or raise its error, from another thread. A cancel, and so a timeout, abandons the thread."""
        thread = self._idle.pop() if self._idle else ToolThread.started()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[object] = loop.create_future()
        thread.jobs.put((work, contextvars.copy_context(), loop, done))
        try:
            result = await done
        except asyncio.CancelledError:
            if done.cancelled():
                self.abandoned += 1
                thread.jobs.put(None)
            raise
        except BaseException:
            self._idle.append(thread)
            raise
        finally:
            del done  # it holds the exception, whose traceback holds this frame: a cycle
        self._idle.append(thread)
        return result

    def close(self) -> None:
        """End the idle threads."""
        for thread in self._idle:
            thread.jobs.put(None)
        self._idle.clear()


class ToolThread:
    """One thread that does jobs: a new one, or, in a child process, the main thread."""

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()

    @classmethod
    def started(cls) -> ToolThread:
        """Return one that runs on a new thread."""
        made = cls()
        threading.Thread(target=made.work, name="firmplan-tool", daemon=True).start()
        return made

    def work(self) -> None:
        """Do one job after the other, until the job is `None`."""
        while (job := self.jobs.get()) is not None:
            work, context, loop, done = job
            forks = Forks.count
            try:
                result: Any = context.run(work)
            except BaseException as error:  # noqa: BLE001  # a tool may raise SystemExit; it is the call's failure
                exit_if_forked(forks)
                _deliver(loop, done, None, error)
            else:
                exit_if_forked(forks)
                _deliver(loop, done, result, None)
            del job, work, context, done  # else the idle thread would keep the values of its last call


class Forks:
    """How many forks lie between this process and the one that loaded this module: a counter is cheaper to read than the process id."""

    count = 0

    @classmethod
    def note(cls) -> None:
        """Note that this process is a fork of its parent."""
        cls.count += 1


os.register_at_fork(after_in_child=Forks.note)


def exit_if_forked(forks: int) -> None:
    """Exit if this process is not the one that counted so many forks: a tool forked, and its child must not continue as a second engine."""
    if Forks.count != forks:
        os._exit(0)


def _deliver(
    loop: asyncio.AbstractEventLoop, done: asyncio.Future[object], result: object, error: BaseException | None
) -> None:
    def settle() -> None:
        if done.done():
            return
        if error is None:
            done.set_result(result)
        elif isinstance(error, StopIteration | GeneratorExit):  # a future cannot raise these
            done.set_exception(RuntimeError(described(error)))
        else:
            done.set_exception(error)

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:
        return  # the loop has closed: nobody waits
