"""One call of a tool: run it where it is declared to run, and turn its result or its error into an outcome.

A call has three outcomes: it returned; it failed and did nothing; or it is unknown whether it took effect. The third outcome exists only
for a `write`. For other effects a timeout or a lost connection is a plain failure, because repeating the call does no harm.

An asynchronous tool runs in the task of its caller, a synchronous one on a thread of the pool. `processes.py` runs tools in child
processes, whose side also uses this module. This module knows neither runs nor journals: `caller.py` decides when a call is made.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import CoroutineType
from typing import Any, Final, TypeAlias, cast

from ....errors import EngineBug, OutcomeUnknown, ToolError
from ....plans.immutable import immutable, record
from ....plans.signature import Effect
from ....plans.values import LARGE_BYTES, Json, canonical, is_spelled, parse_canonical
from ....tools import Context, Tool
from ....tools.failures import (
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
from ....tools.guards.guard import GUARD_REFUSED, Question, Refusal, find_refusal
from ....tools.logbook import is_enabled, open_log
from ....tools.timeouts import SparingTimeout, time_left
from ... import limits
from ...canonical_value import CanonicalValue
from ...limits import run_too_large, too_large
from .loop_watch import NO_WATCH, LoopWatch, Owner, fields_of
from .stoppable import (
    RETURNED,
    STOPPED,
    BegunCall,
    Forks,
    NotHeeded,
    ThreadPool,
    Work,
    as_coroutine,
    await_in_task,
    await_stoppable,
    exit_if_forked,
    follow,
)

# --- outcomes

NOWHERE: Final[Mapping[str, Any]] = {}
"""Of calls outside a run: lines of the log about them name no step."""


@record
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
    # A tool may fork. The child process, which comes back here too, must not go on as a second engine, so forks are counted around every call.
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
                made = as_coroutine(made)
            work: Any = made  # pyright: ignore[reportUnknownVariableType]  # a `Work`; no cast, which is a call
            try:
                awaited = work.send(None)
            except StopIteration as done:  # it never waited, so it cost no more than a plain await
                result = done.value
            else:
                return BegunCall(work, awaited, began, forks, None, given, watch, owner)
            # Guards may take their time about a large result, so they do not hold the event loop.
            if tool.guard:
                return BegunCall(work, RETURNED, began, forks, result, given, watch, owner)
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
    # Only now: a call that never waits can't be ended by a timer, and needs none.
    limit = _Limit(begun.began, timeout_s, begun.watch, begun.owner) if timeout_s is not None else None
    try:
        try:
            try:
                result = begun.result if begun.awaited is RETURNED else await follow(begun)
            except NotHeeded:
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
        # The limit first: its cancel looks like one of the engine, which would be raised.
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
        # A call that another one kept from running gets that time back, so the timer is set again until the call has had all of its own.
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
        # More cancels than before mean that somebody else has cancelled the task, too, and that goes before the limit.
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
    if tool.is_on_loop:
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
            _Begun(cast("Work", result))
            if type(result) is CoroutineType
            else _accept(tool, result, args, given)
        )

    done = await _in_thread(tool, call, context, threads, where)
    if not isinstance(done, _Begun):
        return done
    # The coroutine belongs on the loop of the engine: what it awaits may be bound to that.
    result = await (await_in_task if is_limited else await_stoppable)(done.work, warn)
    if tool.guard:
        return cast("Outcome", await threads.call(lambda: _accept(tool, result, args, given)))
    return _accept(tool, result, args, given)


@immutable
class _Begun:
    """The coroutine that a plain function returned, because it wraps an asynchronous one."""

    work: Work


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
    return replace(
        failed, retryable=False, question=asked if len(asked.data) <= limits.VALUE_BYTES_MAX else None
    )


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
    # A large text that a tool hands on is not written and hashed again: the arguments have its bytes and its digest.
    known = given.find_text(result) if given is not None and type(result) is str else None
    try:
        data, mismatch = tool.accept(result, None if known is None else known.data)
    except ToolError as fault:
        # A write that took effect does not fail because of what its type says, unless the type is enforced.
        if tool.effect is not Effect.WRITE or tool.result_rule == "enforce":
            return refused_result(tool, fault)
        data, mismatch = b"null", (f"{text_of(fault)}; null stands for it",)
    if len(data) > limits.VALUE_BYTES_MAX:
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
    if type(outcome) is not Returned or size + len(outcome.output.data) <= limits.RUN_BYTES_MAX:
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
