"""Asynchronous calls: coroutines that tidy up when they are stopped, and end soon after whether they heed it or not.

A coroutine goes on only while someone sends to it. So, unlike a thread, one that swallows its cancel can be ended: after a moment to
tidy up it is closed, and whoever waits for the call goes on. It runs in the task of its caller from beginning to end: what is
bound to a task (`asyncio.timeout`, `TaskGroup`, context variables) works in a tool as anywhere.

A cancel is told apart from one that the tool made itself, as `asyncio.timeout` does: who stops a call cancels its task with
`STOPPED` as the message, or has a limit that has expired.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from inspect import CORO_CREATED, getcoroutinestate
from types import CoroutineType, coroutine
from typing import Any, Final, TypeAlias, TypeGuard, cast

_Work: TypeAlias = "CoroutineType[Any, Any, object]"

STOPPED: Final = "nobody waits for this call any more"
HEED_S: Final = 1.0  # how long a call that was stopped may tidy up


async def see_through(made: object, on_end: Callable[[], None] | None = None) -> object:
    """Return what an asynchronous call returns, or raise what it raises; in the task of whoever asks.

    Args:
        made: What calling the function made: a coroutine, or anything else that can be awaited.
        on_end: Told that the call was ended since it did not heed its cancel.

    Raises:
        asyncio.CancelledError: The call was stopped.
    """
    work: _Work = cast(
        "_Work", made if type(made) is CoroutineType else _awaited(cast("Awaitable[object]", made))
    )
    try:
        following = _followed(work, work.send(None))
    except StopIteration as done:  # it never waited, and cost no more than a plain await
        return done.value
    try:
        return await following
    except _NotHeeded:
        if on_end is not None:
            on_end()
        raise asyncio.CancelledError(STOPPED) from None


class _NotHeeded(Exception):  # noqa: N818  # what happened
    """A call that was stopped goes on all the same."""


async def see_apart(made: object, on_end: Callable[[], None] | None = None) -> object:
    """Do the same in a task of its own, which a cancel of this one stops: for calls with a limit."""
    work = asyncio.ensure_future(see_through(made, on_end))
    work.add_done_callback(lambda done: done.cancelled() or done.exception())  # raised below, or of no use
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        if work.cancel(STOPPED):
            await asyncio.wait([work])
        if type(made) is CoroutineType and getcoroutinestate(cast("_Work", made)) == CORO_CREATED:
            made.close()  # it was never begun, and Python would warn of that
        raise
    finally:
        del work  # it holds the exception, whose traceback holds this frame: a cycle


async def _awaited(made: Awaitable[object]) -> object:
    return await made


async def _followed(work: _Work, awaited: object) -> object:
    """Go on with a coroutine as a task does, each time that what it waits for is done; raises `_NotHeeded` past its time."""
    loop = asyncio.get_running_loop()
    until: float | None = None
    while True:
        fault: BaseException | None = None
        try:
            if until is None and _is_plain(awaited, loop):
                await _handed_on(awaited)
            elif (fault := _objection(awaited, loop)) is None:
                await _settled(awaited, loop, until)
        except asyncio.CancelledError as cancel:
            if until is None and cancel.args == (STOPPED,):
                until = loop.time() + HEED_S
            if asyncio.isfuture(awaited) and awaited.cancel(*cancel.args):
                continue  # it will be done soon, as a cancelled future is, or swallows it too
            fault = cancel
        except GeneratorExit:
            _close(work)
            raise
        if until is not None and loop.time() >= until:
            _close(work)
            raise _NotHeeded
        awaited = (
            None  # a failed future holds the exception, whose traceback is about to hold this frame: a cycle
        )
        try:
            awaited = work.send(None) if fault is None else work.throw(fault)
        except StopIteration as done:
            return done.value
        finally:
            fault = None  # the same


def _objection(awaited: object, loop: asyncio.AbstractEventLoop) -> RuntimeError | None:
    """Return what a task says of something that it cannot wait for."""
    if awaited is None:
        return None
    if not asyncio.isfuture(awaited):
        return RuntimeError(f"a call got bad yield: {awaited!r}")
    if awaited.get_loop() is not loop:
        return RuntimeError(f"a call got Future attached to a different loop: {awaited!r}")
    return None


async def _settled(awaited: object, loop: asyncio.AbstractEventLoop, until: float | None) -> None:
    """Wait until a future is done, or until then; for nothing: one turn of the loop."""
    if awaited is None:
        await asyncio.sleep(0)
        return
    future = cast("asyncio.Future[object]", awaited)
    future._asyncio_future_blocking = False  # noqa: SLF001  # how who awaits a future says that it has taken it
    woken: asyncio.Future[None] = loop.create_future()

    def wake(_: object = None) -> None:
        if not woken.done():
            woken.set_result(None)

    timer = loop.call_at(until, wake) if until is not None else None
    future.add_done_callback(wake)
    try:
        await woken
    finally:
        future.remove_done_callback(wake)
        if timer is not None:
            timer.cancel()


def _is_plain(awaited: object, loop: asyncio.AbstractEventLoop) -> TypeGuard[asyncio.Future[object]]:
    """Whether our task can wait for it by itself: a cancel ends a future, unlike a task."""
    return type(awaited) is asyncio.Future and awaited.get_loop() is loop


@coroutine
def _handed_on(future: asyncio.Future[object]) -> Generator[object, None, None]:
    """Have our task wait for a future; what that fails with is for the coroutine, which is about to look at it."""
    try:
        yield future
    except (asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException:
        if not future.done():
            raise


def _close(work: _Work) -> None:
    """End a coroutine where it stands; what it raises meanwhile is of no use to anybody."""
    try:
        work.close()
    except BaseException:  # noqa: BLE001  # it swallowed that too, or failed at it
        if work.cr_frame is not None:
            _keep_for_ever(work)


def _keep_for_ever(work: object) -> None:
    """Keep Python from closing a coroutine once more when it lets go of it, at the latest at its own end: that may never return."""
    from ctypes import py_object, pythonapi  # noqa: PLC0415  # hardly ever needed

    pythonapi.Py_IncRef(py_object(work))
