"""One call of a tool: run it where it is declared to run, and turn its result or its error into an outcome.

A call has three outcomes: it returned; it failed and did nothing; or it is unknown whether it took effect. The third outcome exists only
for a `write`. For other effects a timeout or a lost connection is a plain failure, because repeating the call does no harm.

An asynchronous tool runs in the task of its caller, a synchronous one on a thread of the pool. `processes.py` runs tools in child
processes, whose side also uses this module. This module knows neither runs nor journals: `caller.py` decides when a call is made.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import CORO_CREATED, getcoroutinestate
from types import CoroutineType, coroutine
from typing import Any, Final, TypeAlias, cast

from ...errors import EngineBug, OutcomeUnknown, ToolError
from ...plans.immutable import immutable
from ...plans.signature import Effect
from ...plans.values import LARGE_BYTES, Json, canonical, is_spelled, parse_canonical
from ...tools import Context, Tool
from ...tools.failures import (
    QuestionRaised,
    ResultRefused,
    code_of,
    described,
    frames_of,
    is_interruption,
    refused,
    text_of,
    trace_of,
)
from ...tools.guards.guard import GUARD_REFUSED, Question, Refusal, find_refusal
from ...tools.logbook import is_enabled, open_log
from ...tools.timeouts import SparingTimeout, time_left
from ..canonical_value import CanonicalValue
from ..limits import has_room, is_small_enough, run_too_large, too_large
from .loop_watch import NO_WATCH, LoopWatch, Owner, fields_of

# --- outcomes

NOWHERE: Final[Mapping[str, Any]] = {}
"""Of calls outside a run: lines of the log about them name no step."""


@dataclass(slots=True)
class Returned:
    """The call returned a value. The value is never changed.

    Attributes:
        mismatch: One sentence for each place at which it does not fit the declared type, for a tool whose results stand all the same.
    """

    output: CanonicalValue
    mismatch: Sequence[str] = ()


@immutable
class Failed:
    """The call failed and did nothing, or its result was refused.

    Attributes:
        took_effect: Whether a write has taken effect and only its result was refused.
        trace: The traceback, for the log; empty if the log level does not include it.
        question: What a person has to answer before the call is made again (`QuestionRaised.asked`); `None`: nothing.
        frames: The last frames of the error in the tool's own code, for the journal; empty if there are none.
    """

    code: str
    message: str
    temporary: bool
    retryable: bool
    trace: str = ""
    took_effect: bool = False
    question: CanonicalValue | None = None
    frames: str = ""


@immutable
class Lost:
    """The call may or may not have taken effect. `trace` and `frames` are as in `Failed`."""

    why: str
    trace: str = ""
    frames: str = ""


Outcome: TypeAlias = Returned | Failed | Lost


def is_unrepeatable(tool: Tool) -> bool:
    """Whether a second call of the tool beside the first would change the world twice."""
    return tool.effect is Effect.WRITE and not tool.idempotent


# --- one call
#
# A call of an asynchronous tool is begun like a plain function: it runs up to its first await. Most calls that never wait end there, without a task
# or a coroutine of the engine's. A call that waits is followed from there (`finish_call`).


def is_on_loop(tool: Tool) -> bool:
    """Whether the tool runs on the event loop: it is asynchronous, or declared to be quick."""
    return tool.is_async or tool.isolation == "inline"


class BegunCall:
    """A call of an asynchronous tool that waits.

    Attributes:
        work: The rest of the call.
        awaited: What it waits for; `_RETURNED`: it has returned, and a guard has yet to judge its result.
        result: What the tool has returned, in that case.
        given: As for `call_tool`.
        is_stopped: Whether the engine stopped the call.
        watch: Is told when the call has the event loop.
        owner: The call, for the watch.
    """

    __slots__ = ("awaited", "began", "forks", "given", "is_stopped", "owner", "result", "watch", "work")

    def __init__(  # noqa: PLR0913, PLR0917  # the parts of a call
        self,
        work: _Work,
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


def begin_call(
    tool: Tool,
    args: bytes,
    context: Context | None,
    timeout_s: float | None,
    given: CanonicalValue | None = None,
    watch: LoopWatch = NO_WATCH,
    owner: Owner | None = None,
) -> Outcome | BegunCall:
    """Call a tool that runs on the event loop, up to its first await; return its outcome if it never waits.

    Args:
        tool: The tool.
        args: Bound arguments, canonical JSON.
        context: As for `call_tool`.
        timeout_s: As for `call_tool`.
        given: As for `call_tool`.
        watch: Is told when the call has the event loop.
        owner: The call, for the watch.
    """
    forks = Forks.count
    watch.number += 1
    watch.has_loop = owner
    began = time.monotonic() if timeout_s is not None else 0.0
    try:
        try:
            made = tool.invoke(args, context, None if given is None else given.value)
            if type(made) is not CoroutineType:
                if not tool.is_async:
                    return _accept(tool, made, args, given)
                made = _awaited(cast("Awaitable[object]", made))
            work: Any = made  # a `_Work`; no cast, which is a call
            try:
                awaited = work.send(None)
            except StopIteration as done:  # it never waited, so it cost no more than a plain await
                result = done.value
            else:
                return BegunCall(work, awaited, began, forks, None, given, watch, owner)
            # Guards may take their time about a large result, so they do not hold the event loop.
            if tool.guard:
                return BegunCall(work, _RETURNED, began, forks, result, given, watch, owner)
            return _accept(tool, result, args, given)
        finally:
            watch.has_loop = None
            if Forks.count != forks:
                exit_if_forked(forks)
    except (
        BaseException
    ) as error:  # a tool may raise SystemExit: that is a failure of the call, not the end of the engine
        if isinstance(error, asyncio.CancelledError) and is_cancelled():
            raise
        return _traced(_outcome_of(tool, error, None), error)


async def finish_call(
    begun: BegunCall,
    tool: Tool,
    args: bytes,
    threads: ThreadPool,
    timeout_s: float | None,
    context: Context | None = None,
    is_ending: Callable[[], bool] = lambda: True,
) -> Outcome:
    """Follow a call that waits to its end, in the task that began it.

    Args:
        begun: The call.
        tool: The tool.
        args: Bound arguments, canonical JSON.
        threads: Where guards run.
        timeout_s: The limit, from the beginning of the call; `None`: no limit.
        context: The context of the call, if it has one.
        is_ending: Whether a cancel of the task that is not `STOPPED` is the engine's, not one of the tool.

    Raises:
        asyncio.CancelledError: The call was stopped.
    """
    limit = _Limit(begun.began, timeout_s, begun.watch, begun.owner) if timeout_s is not None else None
    try:
        try:
            try:
                result = begun.result if begun.awaited is _RETURNED else await _follow(begun)
            except _NotHeeded:
                where = NOWHERE if begun.owner is None else fields_of(begun.owner)
                log = context.log if context is not None else open_log(**where)
                log.warning("a call was ended that did not heed its cancel", tool=tool.name)
                raise asyncio.CancelledError(STOPPED) from None
            if limit is not None and limit.has_passed:
                raise asyncio.CancelledError(STOPPED)  # it swallowed its cancel, and came too late
            if tool.guard:
                return cast("Outcome", await threads.call(lambda: _accept(tool, result, args, begun.given)))
            return _accept(tool, result, args, begun.given)
        finally:
            if Forks.count != begun.forks:
                exit_if_forked(begun.forks)
            if limit is not None:
                limit.close()
    except BaseException as error:  # as above
        if limit is not None and limit.is_reached():
            return _outcome_of(tool, TimeoutError(), timeout_s)
        if isinstance(error, asyncio.CancelledError) and is_cancelled():
            # A call with a limit is told from the engine's own cancels, so that a tool that cancels its task has failed.
            if limit is None or begun.is_stopped or is_ending():
                raise
            limit.forget_cancels()
        return _traced(_outcome_of(tool, error, None), error)


class _Limit:
    """The time limit of a call: when it has passed, the call is stopped by a cancel of the current task, as `asyncio.timeout` does.

    Rejected: `asyncio.timeout`. Its cancel looks like one of the tool's own, so that the tool needed a task of its own; that took as long as the rest
    of a call that waits.

    Args:
        began: When the call began, in seconds of `time.monotonic`.
        limit_s: How long it may take.
        watch: Says for how long others blocked the loop: the call could not run then, and so that time does not count.
        owner: The call, for the watch.
    """

    __slots__ = (
        "_before",
        "_began",
        "_limit_s",
        "_owner",
        "_task",
        "_timer",
        "_watch",
        "has_passed",
    )

    def __init__(self, began: float, limit_s: float, watch: LoopWatch, owner: Owner | None) -> None:
        self.has_passed = False
        self._task = cast("asyncio.Task[object]", asyncio.current_task())
        self._before = self._task.cancelling()
        self._began, self._limit_s = began, limit_s
        self._watch, self._owner = watch, owner
        self._timer = self._task.get_loop().call_later(began + limit_s - time.monotonic(), self._pass)

    def _pass(self) -> None:
        left_s = time_left(
            self._began, self._limit_s, lambda since: self._watch.blocked_s(since, self._owner)
        )
        if left_s > 0:
            self._timer = self._task.get_loop().call_later(left_s, self._pass)
            return
        self.has_passed = True
        self._task.cancel(STOPPED)

    def close(self) -> None:
        """Stop nothing any more."""
        self._timer.cancel()

    def is_reached(self) -> bool:
        """Whether the call has ended because of its limit, and of nobody's cancel; its own cancel is taken back."""
        return self.has_passed and self._task.uncancel() <= self._before

    def forget_cancels(self) -> None:
        """Forget the cancels that came from the tool."""
        while self._task.cancelling() > self._before:
            self._task.uncancel()


def call_timeout(limit_s: float | None, watch: LoopWatch) -> SparingTimeout:
    """Return the limit of a call beside the event loop, such as one on a thread."""
    return SparingTimeout(limit_s, lambda since: watch.blocked_s(since, None))


def _traced(outcome: Outcome, error: BaseException) -> Outcome:
    """Return an outcome with the last frames of its error, and with its traceback, if the log level includes it."""
    if isinstance(outcome, Returned) or isinstance(error, QuestionRaised):
        return outcome
    trace = trace_of(error) if is_enabled("debug") else ""
    return replace(outcome, trace=trace, frames=frames_of(error))


async def call_tool(  # noqa: PLR0913  # the parts of a call
    tool: Tool,
    args: bytes,
    context: Context | None,
    threads: ThreadPool,
    timeout_s: float | None,
    given: CanonicalValue | None = None,
    is_ending: Callable[[], bool] = lambda: True,
    *,
    where: Mapping[str, Any] = NOWHERE,
) -> Outcome:
    """Call the tool, wherever it is declared to run, and return the outcome.

    Args:
        tool: The tool.
        args: Bound arguments, canonical JSON.
        context: The context that is injected; `None` only for a tool that has no context parameter.
        threads: Where a synchronous tool runs.
        timeout_s: `None`: no limit.
        given: Large arguments with their parsed form, of which the tool gets a copy; `None`: `args` is parsed.
        is_ending: As for `finish_call`.
        where: Run, step and attempt, for lines of the log about a call without a context.
    """
    if is_on_loop(tool):
        begun = begin_call(tool, args, context, timeout_s, given, threads.watch, (where, "", tool.name))
        if not isinstance(begun, BegunCall):
            return begun
        return await finish_call(begun, tool, args, threads, timeout_s, context, is_ending)
    forks = Forks.count
    limit = call_timeout(timeout_s, threads.watch)
    try:
        try:
            async with limit:
                return await _result_in_thread(
                    tool, args, context, threads, given, where, is_limited=timeout_s is not None
                )
        finally:
            exit_if_forked(forks)
    except BaseException as error:  # as above
        is_ours = limit.expired()
        if isinstance(error, asyncio.CancelledError) and is_cancelled():
            raise
        outcome = _outcome_of(tool, error, timeout_s if is_ours else None)
        return outcome if is_ours else _traced(outcome, error)


async def _result_in_thread(
    tool: Tool,
    args: bytes,
    context: Context | None,
    threads: ThreadPool,
    given: CanonicalValue | None,
    where: Mapping[str, Any],
    *,
    is_limited: bool,
) -> Outcome:
    def warn() -> None:
        log = context.log if context is not None else open_log(**where)
        log.warning("a call was ended that did not heed its cancel", tool=tool.name)

    def call() -> Outcome | _Begun:
        result = tool.invoke(args, context, None if given is None else given.value)
        return (
            _Begun(cast("_Work", result))
            if type(result) is CoroutineType
            else _accept(tool, result, args, given)
        )

    done = await _in_thread(tool, call, context, threads, where)
    if not isinstance(done, _Begun):
        return done
    result = await (await_in_task if is_limited else await_stoppable)(done.work, warn)
    if tool.guard:
        return cast("Outcome", await threads.call(lambda: _accept(tool, result, args, given)))
    return _accept(tool, result, args, given)


@immutable
class _Begun:
    """The coroutine that a plain function returned, because it wraps an asynchronous one."""

    work: _Work


async def _in_thread(
    tool: Tool,
    call: Callable[[], Outcome | _Begun],
    context: Context | None,
    threads: ThreadPool,
    where: Mapping[str, Any],
) -> Outcome | _Begun:
    try:  # the thread also puts the result into canonical form, so that a large one does not hold the event loop
        return cast("Outcome | _Begun", await threads.call(call))
    except asyncio.CancelledError:
        if is_cancelled() and not threads.is_closing:
            fields = {"tool": tool.name, "all": threads.abandoned}
            log = context.log if context is not None else open_log(**where)
            log.warning("a thread goes on that nobody waits for", **fields)
        raise


async def reconcile(
    tool: Tool, key: str, args: dict[str, Json], threads: ThreadPool, timeout_s: float | None
) -> Outcome | None:
    """Ask the tool whether a write of unknown outcome took effect; `None`: it did not, so it may be called again.

    The tool answers with the result of the call, or with `None`. If the tool's results are not booleans, `False` means `None`, and `True`
    means that the call took effect, which suffices if the tool returns nothing.

    Args:
        tool: The tool, which has a `reconcile`.
        key: Idempotency key of the write.
        args: Its arguments.
        threads: Where `reconcile` runs if it is synchronous.
        timeout_s: The call's limit; `None`: no limit.
    """
    ask = tool.reconcile
    if ask is None:
        raise EngineBug(f"tool '{tool.name}' has no reconcile")

    async def work() -> object:
        answer = await threads.call(lambda: ask(key, args))
        return await await_in_task(answer) if inspect.isawaitable(answer) else answer

    try:
        async with asyncio.timeout(timeout_s):
            answer = await work()
    except BaseException as error:  # whatever it is, the outcome stays unknown
        if isinstance(error, asyncio.CancelledError) and is_cancelled():
            raise
        return Lost(f"reconcile failed: {described(error)}")
    if answer is None:
        return None
    # The answer is tried as a result first: a tool that returns booleans means its `False` as a result.
    given = canonical(cast("Json", args))
    accepted = _accept(tool, answer, given)
    if isinstance(accepted, Returned):
        return accepted
    if answer is False:
        return None
    accepted = _accept(tool, None, given) if answer is True else accepted
    return (
        accepted
        if isinstance(accepted, Returned)
        else Lost(f"the result that reconcile returned is refused: {accepted.message}")
    )


def _outcome_of(  # noqa: PLR0911  # one outcome for each kind of error: a table
    tool: Tool, error: BaseException, timeout_s: float | None
) -> Outcome:
    """Return the outcome that an error means: a table. `timeout_s` is the limit that the call passed, or `None`."""
    # The order matters: a `TimeoutError` of the tool is an interruption like the engine's own, and a `ResultRefused` is a `ToolError`.
    match error:
        case asyncio.CancelledError():
            message = "CancelledError: the tool cancelled itself"
            if tool.effect is Effect.WRITE:
                return Lost(message)
            return Failed("cancelled", message, temporary=False, retryable=is_worth_retrying(tool, error))
        case TimeoutError() if timeout_s is not None:
            return interrupted(tool, error, "timeout", f"no result within {timeout_s:g} s")
        case TimeoutError():
            return interrupted(tool, error, "timeout", described(error))
        case OutcomeUnknown():
            return interrupted(tool, error, code_of(error), text_of(error))
        case ResultRefused() if tool.effect is Effect.WRITE:
            return refused_result(tool, error)
        case ToolError():
            is_temporary = error.temporary is True
            failed = Failed(code_of(error), text_of(error), is_temporary, is_worth_retrying(tool, error))
            return _asking(failed, error)
        case _ if _was_interrupted(error):
            return interrupted(tool, error, "connection-error", described(error))
        case _:
            may_help = is_worth_retrying(tool, error)
            return Failed(ToolError.code, described(error), temporary=False, retryable=may_help)


def _asking(failed: Failed, error: ToolError) -> Failed:
    """Return the outcome of a failed call, with the question if it wants to know something first."""
    if not isinstance(error, QuestionRaised):
        return failed
    asked = CanonicalValue.of(cast("Json", error.asked))
    return replace(failed, retryable=False, question=asked if is_small_enough(len(asked.data)) else None)


def _accept(
    tool: Tool, result: object, args: bytes, given: CanonicalValue | None = None
) -> Returned | Failed:
    """Return a result in canonical form, or refuse it: it does not fit its type, is not JSON, is too large, or fails a guard.

    Args:
        tool: The tool.
        result: What it returned.
        args: The bound arguments, for guards that compare the two.
        given: The arguments with their parsed form, as for `call_tool`: a large text of theirs that is returned is known already.
    """
    known = given.find_text(result) if given is not None and type(result) is str else None
    try:
        data, mismatch = tool.accept(result, None if known is None else known.data)
    except ToolError as fault:
        # A write that took effect does not fail because of what its type says, unless the type is enforced.
        if tool.effect is not Effect.WRITE or tool.result_rule == "enforce":
            return refused_result(tool, fault)
        data, mismatch = b"null", (f"{text_of(fault)}; null stands for it",)
    if not is_small_enough(len(data)):
        return refused_result(tool, too_large(len(data), f"tool '{tool.name}' returned too much"))
    if tool.guard and (failed := _guarded(tool, data, args)) is not None:
        return failed
    if known is not None and data is known.data:
        return Returned(known, mismatch)
    if type(result) is str and len(data) >= LARGE_BYTES and is_spelled(result, data):
        return Returned(CanonicalValue.known(data, result), mismatch)
    return Returned(CanonicalValue(data), mismatch)


def _guarded(tool: Tool, data: bytes, args: bytes) -> Failed | None:
    """Return the outcome of a result that a guard refuses; `None`: all but judges hold, which are asked by `caller.py`."""
    question = Question("", cast("dict[str, Json]", parse_canonical(args)))
    try:
        refusal = find_refusal(parse_canonical(data), tool.guard, question)
    except ToolError as fault:
        return refused_result(tool, fault)
    return None if refusal is None else refused_by(tool, refusal)


def refused_by(tool: Tool, refusal: Refusal) -> Failed:
    """Return the outcome of a result that a guard refuses. The message holds nothing of the result, since a later prompt may show it."""
    why = f": {refusal.why}" if refusal.why else ""
    text = f"the guard '{refusal.guard}' refused the result of '{tool.name}'{why}"
    failed = refused_result(tool, ToolError(text, code=GUARD_REFUSED))
    return replace(failed, trace=f"{text}: {refusal.detail}") if is_enabled("debug") else failed


def refused_result(tool: Tool, fault: ToolError) -> Failed:
    """Return the outcome of a call whose result is refused. A write took effect, so it must not be repeated."""
    may_repeat = tool.effect is not Effect.WRITE and is_worth_retrying(tool, fault)
    return _after_effect(tool, Failed(code_of(fault), text_of(fault), temporary=False, retryable=may_repeat))


def fitting(outcome: Outcome, tool: Tool | None, size: int) -> Outcome:
    """Return the outcome, or its refusal if a run whose results have `size` bytes has no room for the result."""
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
    """Whether the engine cancelled this task; if not, a `CancelledError` comes from the tool itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _was_interrupted(error: BaseException) -> bool:
    """Whether the error is a timeout or a broken connection, or a group that holds one."""
    # One interrupted part is enough: for a write, the group then says nothing about that part's effect.
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return any(_was_interrupted(part) for part in group.exceptions)
    return is_interruption(error) or isinstance(error, OutcomeUnknown)


def interrupted(tool: Tool, error: BaseException, code: str, message: str) -> Outcome:
    """Return the outcome of a call that ended without an answer: for a write unknown, for other effects a temporary failure.

    Args:
        tool: The tool.
        error: The error that the tool's `retry_on` decides about.
        code: The code of a failure.
        message: Why there is no answer.
    """
    if tool.effect is Effect.WRITE:
        return Lost(message)
    return Failed(code, message, temporary=True, retryable=is_worth_retrying(tool, error))


def is_worth_retrying(tool: Tool, error: BaseException) -> bool:
    """Whether the tool's `retry_on` covers the error; if `retry_on` itself raises, it does not."""
    try:
        return tool.is_worth_retrying(error)
    except BaseException:  # noqa: BLE001  # code of the tool: the message is about the error of the call itself
        return False


# --- asynchronous tools
#
# A coroutine runs only while someone sends to it. So, unlike a thread, a coroutine that swallows its cancel can be ended: it gets
# `HEED_S` to clean up, then it is closed, and the caller continues. It runs in the task of its caller from beginning to end, because
# `asyncio.timeout`, `TaskGroup` and context variables are bound to a task and have to work in a tool, too.
#
# A tool may cancel its own task (`asyncio.timeout` does). So whoever stops a call cancels its task with the message `STOPPED`, or
# sets a limit that has expired; every other cancel belongs to the tool.

_Work: TypeAlias = "CoroutineType[Any, Any, object]"

STOPPED: Final = "nobody waits for this call any more"
HEED_S: Final = 1.0  # how long a call that was stopped may clean up


_RETURNED: Final = object()


class _NotHeeded(Exception):  # noqa: N818  # not an error: it says what happened
    """A call that was stopped continues all the same."""


async def await_stoppable(made: object, on_end: Callable[[], None] | None = None) -> object:
    """Return the result of an asynchronous call, or raise its error, in the task of the caller.

    Args:
        made: The coroutine or other awaitable that the function returned.
        on_end: Called if the call was closed because it did not heed its cancel.

    Raises:
        asyncio.CancelledError: The call was stopped.
    """
    work: _Work = cast(
        "_Work", made if type(made) is CoroutineType else _awaited(cast("Awaitable[object]", made))
    )
    try:
        following = _follow(BegunCall(work, work.send(None), 0.0, 0))
    except StopIteration as done:  # it never waited, so it cost no more than a plain await
        return done.value
    try:
        return await following
    except _NotHeeded:
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
        if type(made) is CoroutineType and getcoroutinestate(cast("_Work", made)) == CORO_CREATED:
            made.close()  # it never began, and Python would warn about that
        raise
    finally:
        del work  # it holds the exception, whose traceback holds this frame: a cycle


async def _awaited(made: Awaitable[object]) -> object:
    return await made


@coroutine
def _follow(  # noqa: C901, PLR0912  # what a task does, in one loop without a call
    begun: BegunCall,
) -> Generator[Any, Any, object]:
    """Step a coroutine as a task does, each time that the future it waits for is done. Raises: _NotHeeded: it ran past its time."""
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
            if until is None and type(awaited) is asyncio.Future and awaited.get_loop() is loop:
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
            raise _NotHeeded
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
    if awaited is None or (type(awaited) is asyncio.Future and not is_stopped):
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


def _close(work: _Work, waiter: asyncio.Future[None] | None) -> None:
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


# --- synchronous tools
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
