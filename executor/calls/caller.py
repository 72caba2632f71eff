"""Makes the calls of one run: tools on the event loop, in threads or in child processes; models over the network.

A call gets its context, which returns the times and ids that an earlier attempt got, and the bytes of the artifacts that its arguments name.
The result is an `Outcome`. What follows from an outcome is decided by the machine, not here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from ...errors import EngineBug, ToolError
from ...plans.signature import Effect
from ...plans.values import Json
from ...tools import Context, ModelRequest, Tool, Used
from ...tools.failures import text_of
from ...tools.models.agent_turns import answer_in
from ...tools.models.completion import Usage as ModelUsage
from ...tools.models.errors import ModelError
from ...tools.models.marks import as_text
from ...tools.timeouts import stalls
from ..budget import usage_of_models
from ..canonical_value import CanonicalValue
from ..commands import StartToolCall
from ..events import (
    CallFailed,
    CallMade,
    CallReused,
    CallStarted,
    CallSucceeded,
    IdMade,
    ResolvedDone,
    ResolvedFailed,
    ResolvedRetry,
    RunResumed,
    RunStarted,
    TimeTold,
)
from ..journal.journal import Journal
from ..journal.records import Entry
from .artifacts import CallBlobs, digests_in, find_blobs, keep_files
from .dispatch import Preparation, PreparedCall
from .facilities import Facilities
from .identity import idempotency_key
from .running.invoke import (
    Failed,
    Lost,
    Outcome,
    Returned,
    call_tool,
    finish_call,
    is_unrepeatable,
    reconcile,
    refused_by,
    refused_result,
)
from .running.stoppable import BegunCall

if TYPE_CHECKING:
    from .far import FarCalls
    from .words import AnswerWords

Usage: TypeAlias = Mapping[str, Json]

# Events after which a step needs no more calls, and those after which it is known what became of its calls so far.
_RETURNED: Final = (CallSucceeded, CallMade, CallReused, ResolvedDone)
_SETTLED: Final = (*_RETURNED, CallFailed, ResolvedRetry, ResolvedFailed)


def callers_in(entries: Iterable[Entry]) -> dict[str, tuple[str, ...]]:
    """Return step -> the owners, oldest first, that started a call of the step whose outcome is not in the journal."""
    owner: str | None = None
    found: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        event = entry.event
        if isinstance(event, RunStarted | RunResumed):
            owner = event.by
        elif isinstance(event, CallStarted) and owner is not None:
            found[event.step] = (*(name for name in found.get(event.step, ()) if name != owner), owner)
        elif isinstance(event, _SETTLED):
            found.pop(event.step, None)
    return found


class Caller:
    """Makes the calls of one run.

    Args:
        facilities: What the runs of an engine share.
        preparation: What the calls of the run are prepared with.
        seed: The seed of the run.
        journal: Where the run is recorded; `None`: nowhere.
        on_progress: Called with the progress of a call: step, fraction, note.
        nondeterminism: Records the times and ids that calls get; `None`: they are not recorded.
        callers: Step -> the former owners whose calls of the step may be in flight.
        is_ending: As for `finish_call`.
        far: Has the calls of tools with a queue carried out; `None`: they are made here.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # everything that calls are made with
        self,
        facilities: Facilities,
        preparation: Preparation,
        seed: str,
        journal: Journal | None = None,
        on_progress: Callable[[str, float, str], None] | None = None,
        nondeterminism: Nondeterminism | None = None,
        callers: Mapping[str, Sequence[str]] | None = None,
        is_ending: Callable[[], bool] = lambda: True,
        far: FarCalls | None = None,
    ) -> None:
        self._is_ending = is_ending
        self._far = far
        self._facilities = facilities
        self._journal = journal
        self._run_id = preparation.run_id
        self._seed = seed
        self._preparation = preparation
        self._redacted = preparation.redacted
        self._on_progress = on_progress
        self._nondeterminism = nondeterminism
        self._callers = callers or {}

    async def reconcile(self, call: PreparedCall) -> Outcome | None:
        """Return the outcome of a write that may have been called before; `None`: it took no effect, or its tool cannot say."""
        if call.tool is None or not getattr(call.command, "reconcile", False):
            return None
        found = await self._reconciled(call, call.tool)
        callers, ownership = self._callers.get(call.step, ()), self._facilities.ownership
        if found is not None or ownership is None or not ownership.may_survive(callers):
            return found
        # `reconcile` found nothing so far, but a former owner that stood still may be about to continue its call. So wait until it cannot,
        # then ask again.
        if (survivor := await ownership.find_survivor(callers)) is not None:
            return Lost(
                f"reconcile found nothing, but {survivor}, which made the call and lost the run, may still continue the call; end that process, "
                "then resolve the step"
            )
        return await self._reconciled(call, call.tool)

    async def _reconciled(self, call: PreparedCall, tool: Tool) -> Outcome | None:
        args = cast("dict[str, Json]", CanonicalValue(call.args).value)
        threads, timeout_s = self._facilities.threads, call.command.timeout_s
        return await reconcile(tool, call.write_key, args, threads, timeout_s)

    def finish(self, call: PreparedCall, tool: Tool, begun: BegunCall) -> Coroutine[Any, Any, Outcome]:
        """Follow a call that waits to its end. Raises: asyncio.CancelledError: it was stopped."""
        timeout_s, threads = call.command.timeout_s, self._facilities.threads
        return finish_call(begun, tool, call.args, threads, timeout_s, call.context, self._is_ending)

    def can_begin_with_context(self, call: PreparedCall, tool: Tool, on_draw: Callable[[], None]) -> bool:
        """Give a call its context, unless artifacts have to be fetched for it first; return whether it has one.

        Args:
            call: The call.
            tool: Its tool, which has a context parameter.
            on_draw: Called before the first time or id that the call draws from its context is recorded.
        """
        if digests_in(call.args):
            return False
        if self._nondeterminism is not None:
            self._nondeterminism.expect(call.step, on_draw)
        call.blobs = CallBlobs({})
        call.context = self._context(call, tool, call.blobs)
        return True

    def has_begun(self, call: PreparedCall) -> None:
        """Expect no more draws of a call whose start is not on record: it has ended, or its start is."""
        if self._nondeterminism is not None:
            self._nondeterminism.expect(call.step, None)

    async def make(self, call: PreparedCall) -> tuple[Outcome, Usage | None]:
        """Return the outcome of a call and its model usage. Raises: StoreError: the lease was lost before a write was called."""
        if not call.is_write:
            is_far = self._far is not None and self.is_far(call.tool)
            return await (self._make_far(call) if is_far else self._make(call))
        # The intent is durable, but waiting for the disk may have taken longer than the lease. Then another process may be making this write.
        if self._facilities.expect_lease is not None:
            await self._facilities.expect_lease(call.handed)
        if self._far is not None and self.is_far(
            call.tool
        ):  # from here on it is in the hands of a worker, whose process guards it
            return await self._make_far(call)
        ownership = self._facilities.ownership
        # An idempotent write needs no guard: if it happens twice, it has happened once.
        if ownership is None or call.tool is None or not is_unrepeatable(call.tool):
            return await self._make(call)
        with ownership.lease.guarding(self._run_id):
            return await self._make(call)

    async def _make(self, call: PreparedCall) -> tuple[Outcome, Usage | None]:
        if call.request is not None:
            return await self._ask(call, call.request, call.tool, call.command.timeout_s)
        tool = _tool_of(call)
        # A tool without a context parameter needs no context and no artifacts, unless it takes or returns frames and the like.
        if tool.needs_context or (tool.isolation == "process" and not tool.is_async):
            outcome = await self._call(call, tool)
        else:
            outcome = await self._call_tool(call, tool, None)
        return await self._judge(call, outcome, tool) if tool.guard else (outcome, None)

    def is_far(self, tool: Tool | None) -> bool:
        """Whether workers of a queue carry out the calls of a tool."""
        return self._far is not None and tool is not None and tool.queue is not None

    async def _make_far(self, call: PreparedCall) -> tuple[Outcome, Usage | None]:
        """Have a worker of the tool's queue make a call; return its outcome."""
        tool, far = _tool_of(call), cast("FarCalls", self._far)
        if self._journal is not None and digests_in(call.args):
            await self._journal.flush()  # the worker reads the artifacts from the store
        context = call.context = self._context(call, tool, CallBlobs({}))
        if tool.wants_context and tool.effect is not Effect.PURE and not context.has_recorded_time:
            # The first time that a call gets is recorded before a worker has it: every attempt gets the same one.
            await self._drawn(call, self._facilities.clock.now())
        outcome = await far.make(call, tool, context)
        return await self._judge(call, outcome, tool) if tool.guard else (outcome, None)

    async def follow(self, call: PreparedCall) -> tuple[Outcome, Usage | None]:
        """Return the outcome of a call that a former owner has had a worker make."""
        tool, far = _tool_of(call), cast("FarCalls", self._far)
        context = call.context = self._context(call, tool, CallBlobs({}))
        outcome = await far.follow(call, tool, context)
        if outcome is None and not call.is_write:
            return await self._make_far(call)
        if outcome is None:
            outcome = Lost(
                f"the former owner of the run died in mid-call, and the queue '{tool.queue}' does not know the call"
            )
        return await self._judge(call, outcome, tool) if tool.guard else (outcome, None)

    async def make_here(self, call: PreparedCall, tool: Tool) -> Outcome:
        """Make a call that has its context and its artifacts in this process or a child of it; return its outcome, before any judge."""
        assert call.context is not None
        assert call.blobs is not None
        return await self._call_with(call, tool, call.context, call.blobs)

    async def _judge(self, call: PreparedCall, outcome: Outcome, tool: Tool) -> tuple[Outcome, Usage | None]:
        """Return the outcome of a call after the judges among its guards, and their usage."""
        if not tool.asks_judge:
            return outcome, None
        if not isinstance(outcome, Returned):
            return outcome, _usage(ModelUsage())  # a model call was reserved, and none was made
        # The judge sees what the journal will hold: a result without the secrets of its call.
        shown = self._redacted(call, outcome)
        value = shown.output.value if isinstance(shown, Returned) else None
        try:
            judged = await self._facilities.models.judge(value, tool.guard, tool.description)
        except ModelError as fault:
            # Without a verdict the result does not pass.
            return _failed(fault), _spent(fault)
        usage = _usage_with(judged.usage, judged.guards)
        return (outcome if judged.refusal is None else refused_by(tool, judged.refusal)), usage

    def adopt(self, call: PreparedCall, ended: tuple[Outcome, Usage | None]) -> tuple[Outcome, Usage | None]:
        """Return the outcome of a call that started early, and record the times and ids that it got, so that a later attempt gets the same."""
        if call.context is not None and self._nondeterminism is not None:
            record = self._nondeterminism.recorder(call.step, is_write=False)  # a write never starts early
            every: list[float | str] = [*call.context.used.now, *call.context.used.uuids]
            for drawn in every:
                record(drawn)
        return ended

    def forget(self, call: PreparedCall) -> None:
        """Forget the times and ids that the attempts of a call got: it has returned."""
        if self._nondeterminism is not None:
            self._nondeterminism.forget(call.step)

    async def _call(self, call: PreparedCall, tool: Tool) -> Outcome:
        blobs = call.blobs = await self._blobs(call.args)
        context = call.context = self._context(call, tool, blobs)
        return await self._call_with(call, tool, context, blobs)

    async def _call_with(self, call: PreparedCall, tool: Tool, context: Context, blobs: CallBlobs) -> Outcome:
        timeout_s = call.command.timeout_s
        if tool.isolation != "process":
            # Before the call: a write whose resource does not open did nothing.
            if tool.injected:
                failed = await self._facilities.resources.inject(tool, context, timeout_s)
                if failed is not None:
                    return failed
            return await self._call_tool(call, tool, context)
        return await self._facilities.processes.call(
            tool,
            call.args,
            context,
            blobs,
            timeout_s=timeout_s,
            on_drawn=lambda drawn: self._drawn(call, drawn),
        )

    async def _call_tool(self, call: PreparedCall, tool: Tool, context: Context | None) -> Outcome:
        timeout_s, threads = call.command.timeout_s, self._facilities.threads
        is_ending, where = self._is_ending, self._where(call)
        return await call_tool(
            tool, call.args, context, threads, timeout_s, call.given, is_ending, where=where
        )

    def _where(self, call: PreparedCall) -> Mapping[str, Any]:
        return {"run": self._run_id, "step": call.step, "attempt": call.command.attempt}

    async def _drawn(self, call: PreparedCall, drawn: float | str) -> None:
        if self._nondeterminism is not None:
            await self._nondeterminism.record(call.step, drawn, is_write=call.is_write)

    async def keep_files(self, call: PreparedCall, outcome: Outcome) -> Outcome:
        """Write the files that a call has saved to the store, before its result is recorded; return the outcome."""
        if call.blobs is None or not isinstance(outcome, Returned):
            return outcome
        try:
            await keep_files(self._facilities.store, call.blobs, self._facilities.clock.now)
        except ToolError as fault:
            return refused_result(_tool_of(call), fault)
        return outcome

    async def _blobs(self, args: bytes) -> CallBlobs:
        """Return the bytes of the artifacts in a call's arguments."""
        if self._journal is not None and digests_in(args):
            await self._journal.flush()  # a step of this run may have saved them a moment ago
        return await find_blobs(self._facilities.store, args)

    def _context(self, call: PreparedCall, tool: Tool, blobs: CallBlobs) -> Context:
        nondeterminism = self._nondeterminism if tool.wants_context else None
        key = call.write_key
        if not key and tool.wants_context:  # a tool without a context parameter cannot ask for the key
            key = idempotency_key(self._run_id, call.step, call.args_digest)
        return Context(
            run_id=self._run_id,
            step=call.step,
            attempt=call.command.attempt,
            idempotency_key=key,
            seed=self._seed,
            effect=tool.effect,
            clock=self._facilities.clock.now,
            env=self._facilities.environ,
            secrets=self._preparation.secrets.of_tool(tool.name, call.step) if tool.wants_context else None,
            recorded=nondeterminism.of(call.step) if nondeterminism is not None else None,
            on_drawn=nondeterminism.recorder(call.step, is_write=call.is_write)
            if nondeterminism is not None
            else None,
            blobs=blobs,
            on_progress=self._progress_of(call.step),
            given=self._given(call.command.secrets) if isinstance(call.command, StartToolCall) else None,
            answers=call.command.answers if isinstance(call.command, StartToolCall) else (),
            resources=(self._facilities.resources, tool),
        )

    def _given(self, secrets: Mapping[str, str]) -> Mapping[str, str] | None:
        """Return the secrets (argument -> name) among the arguments of a call, by name."""
        if not secrets:
            return None
        return {
            name: value
            for name in secrets.values()
            if (value := self._preparation.secrets.find(name)) is not None
        }

    def _progress_of(self, step: str) -> Callable[[float, str], None] | None:
        """Return the callback for the progress of a call, which may run on any thread."""
        note = self._on_progress
        if note is None:
            return None
        loop = asyncio.get_running_loop()
        return lambda fraction, words: _soon(loop, note, step, fraction, words)

    def _words_of(self, call: PreparedCall) -> AnswerWords | None:
        """Return what hears the model of a call; `None`: nobody does."""
        names = call.command.secrets.values() if isinstance(call.command, StartToolCall) else ()
        secrets = {
            name: value for name in names if (value := self._preparation.secrets.find(name)) is not None
        }
        return self._facilities.words.of(self._run_id, call.step, secrets)

    async def _ask(
        self, call: PreparedCall, request: ModelRequest, tool: Tool | None, timeout_s: float | None
    ) -> tuple[Outcome, Usage | None]:
        listeners, models = self._facilities.words, self._facilities.models
        watch = self._facilities.loop_watch
        # For this call and its retries: a tool beside it that blocks the loop must not use up their time.
        token = stalls.set(lambda since: watch.blocked_s(since, None))
        try:
            if listeners.is_empty or (words := self._words_of(call)) is None:
                reply = await models.ask(request, timeout_s=timeout_s)
            else:
                reply = await models.ask(request, timeout_s=timeout_s, listener=words)
                words.end(as_text(reply.value))
            output = CanonicalValue.of(reply.value) if tool is None else _sealed(tool, request, reply.value)
        except ToolError as fault:
            return _failed(fault), _spent(fault)
        finally:
            stalls.reset(token)
        return Returned(output), {**_usage_with(reply.usage, reply.guards), "model": text_of(reply.model)}


def _tool_of(call: PreparedCall) -> Tool:
    if call.tool is None:
        raise EngineBug(f"step '{call.step}' has neither tool nor request")
    return call.tool


def _sealed(tool: Tool, request: ModelRequest, value: Json) -> CanonicalValue:
    """Return an answer to an `@agent` tool as a value of its type; of a turn of one that calls tools, the answer in it."""
    if request.turns is None:
        return CanonicalValue(tool.seal(request.result(value)))
    given = answer_in(value)
    if not given:
        return CanonicalValue.of(value)
    sealed = CanonicalValue(tool.seal(request.result(given["answer"]))).value
    return CanonicalValue.of({**cast("dict[str, Json]", value), "answer": sealed})


def _failed(fault: ToolError) -> Failed:
    return Failed(fault.code, text_of(fault), fault.temporary, retryable=fault.temporary)


def _spent(fault: ToolError) -> Usage | None:
    """Return the usage of requests that ended in an error: they have cost tokens, too, and count against the budget."""
    if not isinstance(fault, ModelError) or fault.usage is None:
        return None
    return _usage_with(fault.usage, fault.guards)


def _usage_with(usage: ModelUsage, guards: Mapping[str, Json]) -> dict[str, Json]:
    """Return the usage of requests, with the verdicts of guards where there are any."""
    return {**_usage(usage), "guards": dict(guards)} if guards else _usage(usage)


def _usage(usage: ModelUsage) -> dict[str, Json]:
    tokens = usage.prompt_tokens + usage.completion_tokens
    return usage_of_models(usage.requests, tokens, usage.usd, usage.cached_tokens)


def _soon(
    loop: asyncio.AbstractEventLoop,
    note: Callable[[str, float, str], None],
    step: str,
    fraction: float,
    words: str,
) -> None:
    with suppress(RuntimeError):  # the loop has closed: nobody reads the progress
        loop.call_soon_threadsafe(note, step, fraction, words)


# --- recorded nondeterminism
#
# The times and ids that a tool takes from its context are recorded, and a repeated call of the step gets the same ones. A time or an id may
# be part of a payment. So a write gets a new one only after it is durable: the payment that is made again after a crash is the same
# payment. For other effects the next group commit records it: if it is lost, everything that followed from it is lost, too, since no
# write becomes durable before the records that precede it.


_NOTHING: Final[Mapping[str, Used]] = {}


def recorded_values(entries: Iterable[Entry], before: Mapping[str, Used] = _NOTHING) -> dict[str, Used]:
    """Return step -> the times and ids that its calls got, by the journal; steps that have returned are left out.

    Args:
        entries: The journal.
        before: The values that an earlier run gave to calls that this run makes again under the same key.
    """
    found: dict[str, Used] = dict(before)
    for entry in entries:
        event = entry.event
        if isinstance(event, TimeTold):
            found.setdefault(event.step, Used()).now.append(event.seconds)
        elif isinstance(event, IdMade):
            found.setdefault(event.step, Used()).uuids.append(event.id)
        elif isinstance(event, _RETURNED):
            found.pop(event.step, None)
    return found


class Nondeterminism:
    """The times and ids that the calls of one run got so far, by step.

    Args:
        known: The values from before this process drove the run.
        journal: Where new values are recorded.
        now: The clock.
        is_running: Whether the call of a step is under way; the values of an abandoned call are not recorded.
    """

    def __init__(
        self,
        known: Mapping[str, Used],
        journal: Journal,
        now: Callable[[], float],
        is_running: Callable[[str], bool],
    ) -> None:
        self._drawn = dict(known)
        self._journal = journal
        self._now = now
        self._is_running = is_running
        self._starts: dict[
            str, Callable[[], None]
        ] = {}  # step -> records the start of its call, which is not on record

    def expect(self, step: str, on_draw: Callable[[], None] | None) -> None:
        """Call this before the first value of a step is recorded; `None`: call nothing."""
        if on_draw is None:
            self._starts.pop(step, None)
        else:
            self._starts[step] = on_draw

    def of(self, step: str) -> Used:
        """Return the values that the calls of a step got; the object grows with each new value."""
        return self._drawn.setdefault(step, Used())

    async def record(self, step: str, drawn: float | str, *, is_write: bool) -> None:
        """Record a new value of a call; only then may the tool get it.

        Args:
            step: Path of the leaf.
            drawn: A time in Unix seconds, or an id.
            is_write: Whether the value must be durable before the tool gets it.

        Raises:
            StoreError: The store cannot be read or written.
        """
        if self._note(step, drawn, is_write=is_write) and is_write:
            await self._journal.flush()

    def recorder(self, step: str, *, is_write: bool) -> Callable[[float | str], None]:
        """Return a function that does the same for a call that cannot await, on any thread."""
        loop = asyncio.get_running_loop()

        def record(drawn: float | str) -> None:
            if not _is_here(loop):
                work = self.record(step, drawn, is_write=is_write)
                asyncio.run_coroutine_threadsafe(work, loop).result()
            elif self._note(step, drawn, is_write=is_write) and is_write:
                self._journal.flush_here()

        return record

    def _note(self, step: str, drawn: float | str, *, is_write: bool) -> bool:
        if (start := self._starts.pop(step, None)) is not None:
            start()
        if not self._is_running(step):
            return False
        known = self.of(step)
        if isinstance(drawn, str):
            known.uuids.append(drawn)
            self._journal.add(IdMade(step, drawn), self._now(), is_synced=is_write)
        else:
            known.now.append(drawn)
            self._journal.add(TimeTold(step, drawn), self._now(), is_synced=is_write)
        return True

    def forget(self, step: str) -> None:
        """Forget a step that has returned."""
        self._drawn.pop(step, None)


def _is_here(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether this is the thread of the loop."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
