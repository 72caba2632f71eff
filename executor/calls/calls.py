"""Carrying out one call, and saying what came of it.

Three ends, as the contract has them: it returned; it failed and did nothing; or its outcome is unknown. The last is only ever
said of a `write`: for other effects a timeout or a lost connection is a failure like any other.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import CoroutineType
from typing import TypeAlias, cast

from ...errors import EngineBug, OutcomeUnknown, ToolError
from ...plans.signature import Effect
from ...plans.values import LARGE_BYTES, Json, is_spelled
from ...tools import Context, Tool
from ...tools.failures import (
    ResultRefused,
    code_of,
    described,
    is_interruption,
    refused,
    text_of,
    trace_of,
)
from ...tools.logbook import is_enabled, open_log
from ..limits import has_room, is_small_enough, run_too_large, too_large
from ..sealed import Sealed
from .coroutines import see_apart, see_through
from .threads import Forks, Threads, leave_if_forked


@dataclass(slots=True)
class Returned:
    """The call returned a value that fits its type. Nobody changes it."""

    output: Sealed


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
_Work: TypeAlias = "CoroutineType[object, object, object]"


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
        return Returned(Sealed.known(data, result))
    return Returned(Sealed(data))


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
