"""The bytes of artifacts on their way through one call: fetched from the store before it, kept with its result after it.

A call is handed what its arguments name, so that a tool reads bytes without waiting, on whatever thread or in whatever process
it runs; what it saves becomes durable with its result, or not at all.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import queue
import re
import threading
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, replace
from inspect import CORO_CREATED, getcoroutinestate
from types import CoroutineType, coroutine
from typing import Any, Final, TypeAlias, TypeGuard, cast

from ...errors import EngineBug, OutcomeUnknown, ToolError
from ...plans.signature import Effect
from ...plans.values import LARGE_BYTES, Json, digest, is_spelled
from ...tools import Context, Tool
from ...tools.failures import ResultRefused, code_of, described, is_interruption, refused, text_of, trace_of
from ...tools.logbook import is_enabled, open_log
from ..canonical_value import CanonicalValue
from ..limits import check_artifact, has_room, is_small_enough, run_too_large, too_large

_DIGEST: Final = re.compile(rb'"digest":"(sha256:[0-9a-f]{64})"')


def digests_in(args: bytes) -> list[str]:
    """Return the digests of the artifacts in canonical arguments, each once, in order."""
    return list(dict.fromkeys(found.decode() for found in _DIGEST.findall(args)))


class CallBlobs:
    """The bytes that one call may read, and those it has made; satisfies `tools.artifact.Blobs`."""

    __slots__ = ("known", "made")

    def __init__(self, known: Mapping[str, bytes]) -> None:
        self.known = known
        self.made: dict[str, bytes] = {}

    def put(self, data: bytes, /) -> str:
        """Keep bytes for the result and return their digest. Raises: ToolError: they are too many."""
        check_artifact(len(data))
        name = digest(data)
        self.made[name] = data
        return name

    def get(self, name: str, /) -> bytes:
        """Return bytes. Raises: KeyError: neither the arguments nor this call have them."""
        return self.made[name] if name in self.made else self.known[name]


# --- Threads for synchronous tools: kept for the next call, and let go when a call overruns.
#
# Python cannot stop a thread. One that overruns its timeout is abandoned: it is counted, its late result is dropped, and
# another takes its place. They are daemons, so that a tool that hangs cannot keep the process from ending, which is why
# `concurrent.futures` does not serve here: it joins its threads at exit.


_Job: TypeAlias = tuple[
    Callable[[], object], contextvars.Context, asyncio.AbstractEventLoop, "asyncio.Future[object]"
]


class Threads:
    """A pool without an upper limit of its own: the engine's limits on calls bound it.

    Attributes:
        abandoned: Threads that were still in a call when nobody waited for it any more.
        is_closing: Whether that is what all that are in a call now are left to: who closes knows it.
    """

    def __init__(self, idle: Iterable[Worker] = ()) -> None:
        self._idle = list(idle)
        self.abandoned = 0
        self.is_closing = False

    async def call(self, work: Callable[[], object]) -> object:
        """Return what `work` returns, or raise what it raises, on another thread.

        A cancel, and so a timeout, abandons the thread.
        """
        worker = self._idle.pop() if self._idle else Worker.started()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[object] = loop.create_future()
        worker.jobs.put((work, contextvars.copy_context(), loop, done))
        try:
            result = await done
        except asyncio.CancelledError:
            if done.cancelled():
                self.abandoned += 1
                worker.jobs.put(None)
            raise
        except BaseException:
            self._idle.append(worker)
            raise
        finally:
            del done  # it holds the exception, whose traceback holds this frame: a cycle
        self._idle.append(worker)
        return result

    def close(self) -> None:
        """End the idle threads."""
        for worker in self._idle:
            worker.jobs.put(None)
        self._idle.clear()


class Worker:
    """One thread that takes jobs: a new one, or the one that calls `work`."""

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()

    @classmethod
    def started(cls) -> Worker:
        """Return a worker on a thread of its own."""
        worker = cls()
        threading.Thread(target=worker.work, name="firmplan-tool", daemon=True).start()
        return worker

    def work(self) -> None:
        """Do one job after the other, until there is `None`."""
        while (job := self.jobs.get()) is not None:
            work, context, loop, done = job
            forks = Forks.count
            try:
                result: Any = context.run(work)
            except BaseException as error:  # noqa: BLE001  # a tool may raise SystemExit; it is the call's failure
                leave_if_forked(forks)
                _deliver(loop, done, None, error)
            else:
                leave_if_forked(forks)
                _deliver(loop, done, result, None)
            del job, work, context, done


class Forks:
    """How many forks lie between this process and the one that loaded the module: cheaper to look at than a process id."""

    count = 0

    @classmethod
    def note(cls) -> None:
        """Note that this process is a fork of the one before."""
        cls.count += 1


os.register_at_fork(after_in_child=Forks.note)


def leave_if_forked(forks: int) -> None:
    """End here if this is not the process that had counted so many, but a fork that a tool forgot: only the first one goes on."""
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
        elif isinstance(error, StopIteration | GeneratorExit):  # asyncio does not carry them to who awaits
            done.set_exception(RuntimeError(described(error)))
        else:
            done.set_exception(error)

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:
        return  # the loop has ended: nobody waits


# --- Asynchronous calls: coroutines that tidy up when they are stopped, and end soon after whether they heed it or not.
#
# A coroutine goes on only while someone sends to it. So, unlike a thread, one that swallows its cancel can be ended: after a moment to
# tidy up it is closed, and whoever waits for the call goes on. It runs in the task of its caller from beginning to end: what is
# bound to a task (`asyncio.timeout`, `TaskGroup`, context variables) works in a tool as anywhere.
#
# A cancel is told apart from one that the tool made itself, as `asyncio.timeout` does: who stops a call cancels its task with
# `STOPPED` as the message, or has a limit that has expired.


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


# --- Carrying out one call, and saying what came of it.
#
# Three ends, as the contract has them: it returned; it failed and did nothing; or its outcome is unknown. The last is only ever
# said of a `write`: for other effects a timeout or a lost connection is a failure like any other.


@dataclass(slots=True)
class Returned:
    """The call returned a value that fits its type. Nobody changes it."""

    output: CanonicalValue


@dataclass(frozen=True, slots=True)
class Failed:
    """The call failed and did nothing, or its result was refused.

    Attributes:
        took_effect: Whether it is a write that is done: only its result was refused.
        trace: Where it was raised, line by line, for the log; empty where the log does not want it.
    """

    code: str
    message: str
    temporary: bool
    retryable: bool
    trace: str = ""
    took_effect: bool = False


@dataclass(frozen=True, slots=True)
class Lost:
    """The call may or may not have taken effect. `trace` is as in `Failed`."""

    why: str
    trace: str = ""


Outcome: TypeAlias = Returned | Failed | Lost


def is_unrepeatable(tool: Tool) -> bool:
    """Whether a second call of the tool beside the first would change the world twice."""
    return tool.effect is Effect.WRITE and not tool.idempotent


async def call_tool(
    tool: Tool,
    args: bytes,
    context: Context | None,
    threads: Threads,
    timeout_s: float | None,
    value: Json = None,
) -> Outcome:
    """Call the tool, wherever it is declared to run, and return what came of it.

    Args:
        tool: What is called.
        args: Bound.
        context: What it is handed; `None` only for an asynchronous tool that asks for none.
        threads: Where it runs if it is to run in one.
        timeout_s: `None`: it may take as long as it likes.
        value: Large arguments that are parsed already, and that the call gets a copy of; `None`: they are parsed for it.
    """
    forks = Forks.count
    limit = asyncio.timeout(timeout_s) if timeout_s is not None else None
    try:
        try:
            if limit is None:
                return await _result_of(tool, args, context, threads, value, is_limited=False)
            async with limit:
                return await _result_of(tool, args, context, threads, value, is_limited=True)
        finally:
            leave_if_forked(forks)
    except BaseException as error:  # SystemExit in a tool is the call's failure, not ours
        is_ours = limit is not None and limit.expired()
        if isinstance(error, asyncio.CancelledError) and is_cancelled():
            raise
        outcome = _outcome_of(tool, error, timeout_s if is_ours else None)
        if isinstance(outcome, Returned) or is_ours or not is_enabled("debug"):
            return outcome
        return replace(outcome, trace=trace_of(error))


async def _result_of(
    tool: Tool, args: bytes, context: Context | None, threads: Threads, value: Json, *, is_limited: bool
) -> Outcome:
    def tell() -> None:
        log = context.log if context is not None else open_log()
        log.warning("a call was ended that did not heed its cancel", tool=tool.name)

    see = see_apart if is_limited else see_through
    if tool.is_async:
        return _taken(tool, await see(tool.invoke(args, context, value), tell))

    def here() -> Outcome | _Begun:
        made = tool.invoke(args, context, value)
        return _Begun(cast("_Work", made)) if type(made) is CoroutineType else _taken(tool, made)

    done = here() if tool.isolation == "inline" else await _in_thread(tool, here, context, threads)
    return _taken(tool, await see(done.work, tell)) if isinstance(done, _Begun) else done


@dataclass(frozen=True, slots=True)
class _Begun:
    """What a plain function returned that is wrapped around an asynchronous one."""

    work: _Work


async def _in_thread(
    tool: Tool, here: Callable[[], Outcome | _Begun], context: Context | None, threads: Threads
) -> Outcome | _Begun:
    try:  # a large result is sealed there too: other runs go on
        return cast("Outcome | _Begun", await threads.call(here))
    except asyncio.CancelledError:
        if is_cancelled() and context is not None and not threads.is_closing:
            told = {"tool": tool.name, "all": threads.abandoned}
            context.log.warning("a thread goes on that nobody waits for", **told)
        raise


async def reconcile(
    tool: Tool, key: str, args: dict[str, Json], threads: Threads, timeout_s: float | None
) -> Outcome | None:
    """Ask whether a write of unknown outcome took place; `None`: it did not, and may be called again.

    The answer is what the call returned, or `None`. Of a tool whose results are no booleans, `False` says the same as `None`, and `True`
    that it took place: that is enough where there is nothing to return.
    """
    ask = tool.reconcile
    if ask is None:
        raise EngineBug(f"tool '{tool.name}' has no reconcile")

    async def work() -> object:
        answer = await threads.call(lambda: ask(key, args))
        return await see_apart(answer) if inspect.isawaitable(answer) else answer

    try:
        async with asyncio.timeout(timeout_s):
            answer = await work()
    except BaseException as error:  # whatever it is, the outcome stays unknown
        if isinstance(error, asyncio.CancelledError) and is_cancelled():
            raise
        return Lost(f"reconcile failed: {described(error)}")
    if answer is None:
        return None
    taken = _taken(tool, answer)
    if isinstance(taken, Returned):
        return taken
    if answer is False:
        return None
    taken = _taken(tool, None) if answer is True else taken
    return (
        taken if isinstance(taken, Returned) else Lost(f"what reconcile returned is refused: {taken.message}")
    )


def _outcome_of(  # noqa: PLR0911  # one end for each kind of error: a table
    tool: Tool, error: BaseException, timeout_s: float | None
) -> Outcome:
    """Return what an error means: a table. `timeout_s` is the limit that the call passed, or `None`."""
    match error:
        case asyncio.CancelledError():
            message = "CancelledError: the tool cancelled itself"
            if tool.effect is Effect.WRITE:
                return Lost(message)
            return Failed("cancelled", message, temporary=False, retryable=_is_worth_retrying(tool, error))
        case TimeoutError() if timeout_s is not None:
            return _interrupted(tool, error, "timeout", f"no result within {timeout_s:g} s")
        case TimeoutError():
            return _interrupted(tool, error, "timeout", described(error))
        case OutcomeUnknown():
            return _interrupted(tool, error, code_of(error), text_of(error))
        case ResultRefused() if tool.effect is Effect.WRITE:
            return _refused(tool, error)
        case ToolError():
            is_temporary = error.temporary is True
            return Failed(code_of(error), text_of(error), is_temporary, _is_worth_retrying(tool, error))
        case _ if _was_interrupted(error):
            return _interrupted(tool, error, "connection-error", described(error))
        case _:
            may_help = _is_worth_retrying(tool, error)
            return Failed(ToolError.code, described(error), temporary=False, retryable=may_help)


def _taken(tool: Tool, result: object) -> Returned | Failed:
    """Return what a tool returned, in canonical form, or why it is refused: unfit for its type, no JSON, or too large."""
    try:
        data = tool.seal(result)
    except ToolError as fault:
        return _refused(tool, fault)
    if not is_small_enough(len(data)):
        return _refused(tool, too_large(len(data), f"tool '{tool.name}' returned too much"))
    if type(result) is str and len(data) >= LARGE_BYTES and is_spelled(result, data):
        return Returned(CanonicalValue.known(data, result))
    return Returned(CanonicalValue(data))


def _refused(tool: Tool, fault: ToolError) -> Failed:
    """Return the end of a call that returned what cannot be taken; a write, which took effect, must not be repeated."""
    may_repeat = tool.effect is not Effect.WRITE and _is_worth_retrying(tool, fault)
    return _after_effect(tool, Failed(code_of(fault), text_of(fault), temporary=False, retryable=may_repeat))


def fitting(outcome: Outcome, tool: Tool | None, size: int) -> Outcome:
    """Return an outcome, or its refusal: a run whose results have `size` bytes has no room for such a result."""
    if not isinstance(outcome, Returned) or has_room(size, len(outcome.output.data)):
        return outcome
    fault = run_too_large(size, len(outcome.output.data))
    return _after_effect(tool, Failed(fault.code, str(fault), temporary=False, retryable=False))


def _after_effect(tool: Tool | None, failed: Failed) -> Failed:
    """Return the outcome of a call whose result was refused; for a write it says that the call took effect."""
    if tool is None or tool.effect is not Effect.WRITE:
        return failed
    return replace(failed, message=refused(failed.message), took_effect=True)


def is_cancelled() -> bool:
    """Whether someone asked for the end of this task: else a `CancelledError` is the tool's own."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _was_interrupted(error: BaseException) -> bool:
    """Whether a timeout or a broken connection is the error, or among those that a task group bundles."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return any(_was_interrupted(part) for part in group.exceptions)
    return is_interruption(error) or isinstance(error, OutcomeUnknown)


def _interrupted(tool: Tool, error: BaseException, code: str, message: str) -> Outcome:
    if tool.effect is Effect.WRITE:
        return Lost(message)
    return Failed(code, message, temporary=True, retryable=_is_worth_retrying(tool, error))


def _is_worth_retrying(tool: Tool, error: BaseException) -> bool:
    """Whether `retry_on` covers a failure; where it fails itself, it does not."""
    try:
        return tool.is_worth_retrying(error)
    except BaseException:  # noqa: BLE001  # a function of the tool's: the call's own failure is what is told
        return False
