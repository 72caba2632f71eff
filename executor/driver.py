"""The loop around the machine: one run, driven by one process.

An event goes into the machine and the journal; the machine's commands are carried out; each outcome is the next event. An
event is handled and written down in one piece, without an await between, so the journal's order is the machine's order.

Rules it keeps: a write is called only once its intent is durable, with all that its arguments came from (the journal is
durable as a prefix); what follows from a write's outcome starts only once the outcome is durable; nothing starts that
the machine does not want any more. What it does not know: how a plan runs (`machine.py`), how a call is made (`calls.py`), what
may be reused (`reuse.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, cast

from ..errors import ConfigError, EngineBug, ToolError
from ..plans.signature import Effect
from ..plans.values import Digest, Json
from ..tools import Context, ModelRequest, Tool, ask_request
from ..tools.fingerprint import Fingerprint, fingerprint_of
from .artifacts import CallBlobs, digests_in
from .calls import Failed, Lost, Outcome, Returned, call_tool, reconcile
from .commands import Command, Pause, Record, RuleApproval, StartModelCall, StartToolCall, StopCall
from .events import (
    ApprovalRuled,
    BudgetReached,
    CallFailed,
    CallLost,
    CallReused,
    CallStarted,
    CallSucceeded,
    Cause,
    ResolvedDone,
    ResolvedFailed,
    RetryDue,
)
from .facilities import Facilities
from .fork import Inherited
from .harvest import FAILED, Harvest
from .header import Header
from .identity import ASK, ContentKey, idempotency_key, model_key, tool_key
from .journal import Journal
from .limits import check_run
from .lock import ToolLock
from .machine import Machine
from .reuse import Candidate, ReuseMode, Stale, epochs_at_start, find_results
from .run import run_status
from .sealed import Sealed
from .states import RunStatus
from .store import Decision, Reusable, RunRow

if TYPE_CHECKING:
    from ..tools.guard import Guard

PARK_GRACE_S: Final = 30.0  # how long a stopping process waits for its writes in flight

OUTCOMES: Final = (CallSucceeded, CallFailed, ResolvedDone, ResolvedFailed)


@dataclass(slots=True)
class PreparedCall:
    """A call that is about to be made: bound, named, and with what it needs on the way."""

    command: StartToolCall | StartModelCall
    args_digest: Digest
    tool: Tool | None
    args: bytes
    request: ModelRequest | None
    key: ContentKey
    context: Context | None = None
    why: Mapping[str, Json] | None = None
    started: float = 0.0
    blobs: CallBlobs | None = None

    @property
    def step(self) -> str:
        """Path of the leaf."""
        return self.command.step

    @property
    def is_write(self) -> bool:
        """Whether the call may change the world."""
        return self.tool is not None and self.tool.effect is Effect.WRITE


@dataclass(slots=True)
class Driver:
    """Drives one run until it has finished, or nothing goes on without a person.

    Attributes:
        row: The run's row, as claimed.
        header: What was settled when it was submitted.
        inherited: Of a fork: what the parent's calls came to, by path.
        places: Calls at a time in this run, if it has a limit of its own.
    """

    facilities: Facilities
    row: RunRow
    machine: Machine
    header: Header
    inherited: Mapping[str, Inherited] = field(default_factory=dict[str, Inherited])
    places: asyncio.Semaphore | None = field(init=False, default=None)
    journal: Journal = field(init=False)
    _group: asyncio.TaskGroup | None = field(init=False, default=None)
    _tasks: dict[str, asyncio.Task[None]] = field(init=False, default_factory=dict[str, "asyncio.Task[None]"])
    _writing: set[str] = field(init=False, default_factory=set[str])
    _harvest: Harvest = field(init=False)
    _fresh: dict[str, Reusable] = field(init=False, default_factory=dict[str, Reusable])
    _contexts: dict[str, Context] = field(init=False, default_factory=dict[str, Context])
    _is_parking: bool = field(init=False, default=False)
    _fingerprints: dict[str, Fingerprint] = field(init=False, default_factory=dict[str, Fingerprint])
    _taken: set[int] = field(init=False, default_factory=set[int])

    def __post_init__(self) -> None:
        self._harvest = Harvest(self.row.id)
        self.journal = Journal(self.facilities.store, self.row, self._standing)
        if self.header.concurrency_max is not None:
            self.places = asyncio.Semaphore(self.header.concurrency_max)

    def _standing(self) -> tuple[RunStatus, str]:
        return run_status(self.machine), self.machine.digest

    # --- life

    async def drive(self, first: Cause | None, decisions: Sequence[Decision] = ()) -> None:
        """Hand in the first event and what people decided since, and go on until nothing more happens by itself.

        Raises:
            StoreError: The journal cannot be written; the run stays where its durable prefix ends.
            EngineBug: A rule of firmplan was broken.
        """
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                if first is not None:
                    await self._take_in(first)
                await self._decide(decisions)
        except BaseExceptionGroup as group_of_faults:
            raise first_of(group_of_faults) from None
        finally:
            self._group = None
        await self.journal.flush()
        await self._harvest.store(self.facilities.store)

    async def take_decisions(self, decisions: Sequence[Decision]) -> None:
        """Take in what people decided, if the run is being driven now; else the next driver does."""
        if self._group is None or self._is_parking:
            return
        work = self._decide(decisions)
        try:
            task = self._group.create_task(work)
        except RuntimeError:  # the group has just ended
            work.close()
        else:
            await asyncio.wait([task])

    async def note(self, decisions: Sequence[Decision]) -> None:
        """Take in what people decided about a run that nobody drives; nothing is called. Raises: StoreError."""
        self._is_parking = True
        await self._decide(decisions)
        await self.journal.flush()

    async def _decide(self, decisions: Sequence[Decision]) -> None:
        """Hand in the decisions that still fit; drop the others, which another decision overtook."""
        stale: list[int] = []
        for decision in decisions:
            if decision.number in self._taken:
                continue
            self._taken.add(decision.number)
            if self.machine.accepts(decision.event):
                await self._take_in(decision.event, decision.number)
            else:
                stale.append(decision.number)
        if stale:
            await self.facilities.store.drop_decisions(stale)

    @property
    def is_parking(self) -> bool:
        """Whether the driver has been told to stop."""
        return self._is_parking

    async def park(self) -> None:
        """Stop here: start nothing more, cut off calls that change nothing, wait a while for writes in flight."""
        self._is_parking = True
        writing = [task for step, task in self._tasks.items() if step in self._writing]
        for step, task in self._tasks.items():
            if step not in self._writing:
                task.cancel()
        if writing:
            await asyncio.wait(writing, timeout=PARK_GRACE_S)
        for task in self._tasks.values():
            task.cancel()

    # --- the loop

    async def _take_in(self, event: Cause, decision: int | None = None) -> None:
        """Machine, journal, commands: the whole of it."""
        at = self.facilities.clock.now()
        commands = self.machine.handle(event, at)
        self._write_down(event, at, decision)
        for command in commands:
            if isinstance(command, Record):
                self.journal.add(command.event, at)
        follow_up = [command for command in commands if not isinstance(command, Record)]
        if self._is_write_outcome(event) and follow_up:
            await self.journal.flush()
        if follow_up and not self._is_parking:
            self._carry_out(follow_up)

    def _write_down(self, event: Cause, at: float, decision: int | None) -> None:
        tool = self._tool_of(event)
        is_write = tool is not None and tool.effect is Effect.WRITE
        opens = tool.resource if tool is not None and is_write and isinstance(event, CallStarted) else None
        self.journal.add(
            event, at, opens=opens, closes=is_write and isinstance(event, OUTCOMES), decision=decision
        )

    def _is_write_outcome(self, event: Cause) -> bool:
        tool = self._tool_of(event)
        return tool is not None and tool.effect is Effect.WRITE and not isinstance(event, CallStarted)

    def _tool_of(self, event: Cause) -> ToolLock | None:
        """Return the tool of an event's step as the run knows it: whoever notes a decision need not have the tool."""
        step = getattr(event, "step", None)
        name = self.machine.tool_of(step) if step is not None else None
        return self.header.lock.find(name) if name is not None else None

    def _carry_out(self, commands: Sequence[Command]) -> None:
        calls: list[StartToolCall | StartModelCall] = []
        for command in commands:
            match command:
                case StartToolCall() | StartModelCall():
                    calls.append(command)
                case Pause(step, delay_s):
                    self._spawn(step, self._pause(step, delay_s))
                case RuleApproval():
                    self._spawn(command.step, self._rule(command))
                case StopCall(step):
                    if step in self._tasks:
                        self._tasks[step].cancel()
                case Record():
                    raise EngineBug("records are written before commands are carried out")
        if calls:
            self._spawn("", self._start(calls))

    def _spawn(self, step: str, work: Coroutine[Any, Any, None]) -> None:
        if self._group is None:
            raise EngineBug("a command came while nobody drives the run")
        task = self._group.create_task(work)
        if step:
            self._tasks[step] = task
            task.add_done_callback(lambda done: self._forget(step, done))

    def _forget(self, step: str, done: asyncio.Task[None]) -> None:
        if self._tasks.get(step) is done:
            del self._tasks[step]

    async def _pause(self, step: str, delay_s: float) -> None:
        await self.facilities.clock.sleep(delay_s)
        if not self._is_parking and self.machine.is_pausing(step):
            await self._take_in(RetryDue(step))

    async def _rule(self, command: RuleApproval) -> None:
        rule = self.facilities.tools.get(command.tool).approval
        needed = True
        if callable(rule):
            try:
                needed = bool(rule(cast("dict[str, Json]", Sealed(command.args.data).value)))
            except Exception as error:  # noqa: BLE001  # a rule that fails cannot say that no person is needed
                self.facilities.log.warning("approval rule failed", step=command.step, error=repr(error))
        if self.machine.is_callable(command.step):
            await self._take_in(ApprovalRuled(command.step, needed))

    # --- calls

    async def _start(self, commands: Sequence[StartToolCall | StartModelCall]) -> None:
        """Prepare the calls, see which need not be made, and make the others."""
        calls: list[PreparedCall] = []
        for command in commands:
            if await self._inherit(command):
                continue
            try:
                calls.append(self._prepare(command))
            except ToolError as fault:
                if self.machine.is_callable(command.step):
                    message = self._without_secrets(command, str(fault))
                    await self._take_in(CallFailed(command.step, fault.code, message, fault.temporary))
        named = [
            _candidate(call) for call in calls if call.key.key and self._reuse(call.step) in ("auto", "only")
        ]
        found: Mapping[str, Reusable | Stale] = await find_results(self.facilities, named) if named else {}
        for call in calls:
            entry = found.get(call.step)
            if isinstance(entry, Reusable) and self.machine.is_callable(call.step):
                reused = CallReused(
                    call.step, call.args_digest, Sealed(entry.output), entry.key, entry.run_id
                )
                await self._take_in(reused)
            elif not self._is_parking:
                call.why = self._why(call, entry)
                self._spawn(call.step, self._make(call))

    def _why(self, call: PreparedCall, found: Reusable | Stale | None) -> Mapping[str, Json] | None:
        """Return why no earlier result stands for a call that is about to be made; `None`: there is none of its key."""
        if call.key.because is not None:
            return {"because": call.key.because, "detail": call.key.why_not}
        if (mode := self._reuse(call.step)) in ("off", "refresh"):
            return {"because": mode if mode == self.header.reuse else "afresh"}
        return found.why if isinstance(found, Stale) else None

    def _reuse(self, step: str) -> ReuseMode:
        """Return how far earlier results may stand for a step's calls."""
        fork = self.header.fork
        return "refresh" if fork is not None and fork.is_afresh(step) else self.header.reuse

    async def _inherit(self, command: StartToolCall | StartModelCall) -> bool:
        """Whether the parent of a fork answers for the call: outside the cone nothing is called."""
        fork, known = self.header.fork, self.inherited.get(command.step)
        args = command.args if isinstance(command, StartToolCall) else command.request
        if fork is None or known is None or fork.is_affected(command.step) or known.args != args.digest:
            return False
        match known.outcome:
            case CallFailed() as failed:
                await self._take_in(replace(failed, retryable=False))
            case outcome:
                source = self.row.parent or ""
                await self._take_in(CallReused(command.step, known.args, outcome.output, "", source))
        return True

    def _prepare(self, command: StartToolCall | StartModelCall) -> PreparedCall:
        """Bind arguments and name the call. Raises: ToolError: the arguments do not fit."""
        if isinstance(command, StartModelCall):
            request = _request(command)
            return PreparedCall(
                command, command.request.digest, None, b"", request, self._model_key(command, request)
            )
        tool = self.facilities.tools.get(command.tool)
        given = cast("dict[str, Json]", command.args.value)
        args = tool.bind(
            {**given, **{name: self._secret(command, secret) for name, secret in command.secrets.items()}}
        )
        if tool.request_of is not None:
            request = cast("ModelRequest", tool.request_of(cast("dict[str, Json]", Sealed(args).value)))
            key = self._model_key(command, request)
            return PreparedCall(command, command.args.digest, tool, args, request, key)
        key = ContentKey.none("secret", "it was given a secret")
        if not command.secrets:
            key = tool_key(tool, self._fingerprint(tool), args, command.sample)
        return PreparedCall(command, command.args.digest, tool, args, None, key)

    def _secret(self, command: StartToolCall, name: str) -> str:
        found = self.facilities.secrets.get(name)
        if found is None:
            raise ToolError(f"the secret '{name}' of step '{command.step}' is not set", code="no-secret")
        return found

    def _fingerprint(self, tool: Tool) -> Fingerprint:
        """Return a tool's fingerprint as this run found it: constants that it reads may have changed since the last run."""
        found = self._fingerprints.get(tool.name)
        if found is None:
            found = self._fingerprints[tool.name] = fingerprint_of(tool)
        return found

    def _model_key(self, command: StartToolCall | StartModelCall, request: ModelRequest) -> ContentKey:
        try:
            parts = self.facilities.models.key_parts(request)
        except ConfigError as fault:  # the call says so, as its failure
            return ContentKey.none("no-model", str(fault))
        subject = command.tool if isinstance(command, StartToolCall) else ASK
        return model_key(parts, command.sample, request.temperature, subject)

    async def _make(self, call: PreparedCall) -> None:
        """Make one call, unless an identical one is under way or was just made."""
        if await self._joined(call):
            return
        key = call.key.key
        shared: asyncio.Future[Reusable | None] | None = None
        if key and key not in self.facilities.in_flight:
            shared = asyncio.get_running_loop().create_future()
            self.facilities.in_flight[key] = shared
        made: Reusable | None = None
        try:
            made = await self._place_and_call(call)
        finally:
            if shared is not None:
                del self.facilities.in_flight[key]
                shared.set_result(made)

    async def _joined(self, call: PreparedCall) -> bool:
        """Whether another call's result stands for this one, or none may be made."""
        key = call.key.key
        if self._reuse(call.step) in ("off", "refresh"):
            return False
        made = self._fresh.get(key)
        while made is None and (under_way := self.facilities.in_flight.get(key)) is not None:
            made = await self._checked(call, await asyncio.shield(under_way)) or self._fresh.get(key)
        if made is not None:
            if self.machine.is_callable(call.step):
                await self._take_in(
                    CallReused(call.step, call.args_digest, Sealed(made.output), key, made.run_id)
                )
            return True
        if self.header.reuse == "only" and not call.is_write:
            message = f"no earlier result stands for this call, and reuse='only' makes none{_why_not(call)}"
            await self._take_in(CallFailed(call.step, "not-reusable", message))
            return True
        return False

    async def _checked(self, call: PreparedCall, made: Reusable | None) -> Reusable | None:
        """Return a joined result if no write came between: a read that started before one is of no use after it."""
        if made is None or call.tool is None or not _is_kept_read(call):
            return made
        epochs = await epochs_at_start(self.facilities, call.tool)
        return made if epochs is not None and epochs == made.epochs else None

    async def _place_and_call(self, call: PreparedCall) -> Reusable | None:
        tool_places = self.facilities.places_of(call.tool.name) if call.tool is not None else None
        if call.tool is not None:
            await self.facilities.keep_pace(call.tool)
        async with _held(self.places), _held(tool_places), self.facilities.places:
            if self._is_parking or not self.machine.is_callable(call.step):
                return None
            return await self._call(call)

    async def _call(self, call: PreparedCall) -> Reusable | None:
        """Start, call, and say what came of it; return the result if others may use it."""
        command, tool = call.command, call.tool
        write_key = idempotency_key(self.row.id, call.step, call.args_digest) if call.is_write else ""
        if isinstance(command, StartToolCall) and command.reconcile and tool is not None:
            known = await reconcile(
                tool,
                write_key,
                cast("dict[str, object]", Sealed(call.args).value),
                self.facilities.threads,
                command.timeout_s,
            )
            if known is not None and self.machine.is_callable(call.step):
                await self._take_in(self._start_of(call, write_key))
                return await self._conclude(call, known, None)
        epochs: Mapping[str, int] | None = {}
        if tool is not None and _is_kept_read(call):
            epochs = await epochs_at_start(self.facilities, tool)
        if not self.machine.is_callable(call.step):
            return None
        if (limit := self.machine.find_short(call.step, self.facilities.clock.now())) is not None:
            await self._take_in(BudgetReached(call.step, limit))
            return None
        await self._take_in(self._start_of(call, write_key))
        if call.is_write:
            self._writing.add(call.step)
            await self.journal.flush()
        try:
            outcome, usage = await self._perform(call, write_key)
        finally:
            self._writing.discard(call.step)
        return await self._conclude(call, outcome, epochs, usage)

    def _start_of(self, call: PreparedCall, write_key: str) -> CallStarted:
        intent = call.command.args if isinstance(call.command, StartToolCall) and call.is_write else None
        call.started = self.facilities.clock.now()
        why = call.why if call.command.attempt == 1 else None
        return CallStarted(
            call.step, call.command.attempt, call.args_digest, write_key or call.key.key, intent, why
        )

    async def _perform(self, call: PreparedCall, write_key: str) -> tuple[Outcome, Mapping[str, Json] | None]:
        timeout_s = call.command.timeout_s
        if call.request is not None:
            return await self._ask(call.request, call.tool, timeout_s)
        if call.tool is None:
            raise EngineBug(f"step '{call.step}' has neither tool nor request")
        known = await self._artifacts(call.args)
        call.blobs = CallBlobs(known)
        previous = self._contexts.get(call.step)
        call.context = Context(
            run_id=self.row.id,
            step=call.step,
            attempt=call.command.attempt,
            idempotency_key=write_key,
            seed=self.header.seed,
            effect=call.tool.effect,
            clock=self.facilities.clock.now,
            env=self.facilities.environ,
            secrets=self.facilities.secrets,
            recorded=previous.used if previous is not None else None,
            blobs=call.blobs,
        )
        self._contexts[call.step] = call.context
        if call.tool.isolation != "process":
            return await call_tool(
                call.tool, call.args, call.context, self.facilities.threads, timeout_s
            ), None
        secrets = self.facilities.secrets
        in_child = self.facilities.processes.call
        outcome = await in_child(
            call.tool, call.args, call.context, call.blobs, known, secrets=secrets, timeout_s=timeout_s
        )
        return outcome, None

    async def _artifacts(self, args: bytes) -> Mapping[str, bytes]:
        """Return the bytes of the artifacts in a call's arguments."""
        wanted = digests_in(args)
        if not wanted:
            return {}
        await self.journal.flush()  # a step of this run may just have made them
        return await self.facilities.store.find_values(wanted)

    async def _ask(
        self, request: ModelRequest, tool: Tool | None, timeout_s: float | None
    ) -> tuple[Outcome, Mapping[str, Json] | None]:
        try:
            reply = await self.facilities.models.ask(request, timeout_s=timeout_s)
            output = Sealed(tool.seal(reply.value)) if tool is not None else Sealed.of(reply.value)
        except ToolError as fault:
            return Failed(fault.code, str(fault), fault.temporary, retryable=fault.temporary), None
        usage: dict[str, Json] = {
            "calls": reply.usage.requests,
            "tokens": reply.usage.prompt_tokens + reply.usage.completion_tokens,
            "usd": reply.usage.usd,
            "model": reply.model,
        }
        return Returned(output), usage

    async def _conclude(
        self,
        call: PreparedCall,
        outcome: Outcome,
        epochs: Mapping[str, int] | None,
        usage: Mapping[str, Json] | None = None,
    ) -> Reusable | None:
        if not self.machine.is_running(call.step):  # it was stopped, and returned all the same
            return None
        match self._fitting(outcome):
            case Returned(output):
                used = _used(call.context)
                self._contexts.pop(call.step, None)
                if call.blobs is not None:
                    self.journal.keep(call.blobs.made)
                made = self._keep(call, output, epochs)
                await self._take_in(CallSucceeded(call.step, output, used, usage))
                if call.blobs is not None and call.blobs.made:
                    await self.journal.flush()  # an identical call of another run may wait for this one, and read them
                return made
            case Failed(code, message, temporary, retryable):
                message = self._without_secrets(call.command, message)
                fingerprint = self._fingerprint_of(call)
                self._harvest.note(
                    _candidate(call), started=call.started, fingerprint=fingerprint, lost=FAILED
                )
                await self._take_in(CallFailed(call.step, code, message, temporary, retryable, usage))
            case Lost(why):
                await self._take_in(CallLost(call.step, self._without_secrets(call.command, why)))
        return None

    def _fitting(self, outcome: Outcome) -> Outcome:
        """Return the outcome, or its refusal: the run has no room for such a result."""
        try:
            if isinstance(outcome, Returned):
                check_run(self.machine.size, len(outcome.output.data))
        except ToolError as fault:
            return Failed(fault.code, str(fault), temporary=False, retryable=False)
        return outcome

    def _without_secrets(self, command: StartToolCall | StartModelCall, message: str) -> str:
        """Return a message for the journal: a secret that the call was given stands in it as its expression."""
        secrets = command.secrets.values() if isinstance(command, StartToolCall) else ()
        for name in sorted(secrets):
            if secret := self.facilities.secrets.get(name):
                message = message.replace(secret, f'${{secret("{name}")}}')
        return message

    def _keep(self, call: PreparedCall, output: Sealed, epochs: Mapping[str, int] | None) -> Reusable | None:
        """Remember the result for later calls; return it if it may stand for others right now."""
        used = call.context.used if call.context is not None else None
        made = self._harvest.add(
            _candidate(call),
            output,
            started=call.started,
            at=self.facilities.clock.now(),
            epochs=epochs,
            used=used,
            fingerprint=self._fingerprint_of(call),
            is_kept=self._reuse(call.step) != "off",
        )
        if made is None or made.env:
            return None
        if not _is_kept_read(call):
            self._fresh[call.key.key] = made
        return made

    def _fingerprint_of(self, call: PreparedCall) -> Fingerprint | None:
        return self._fingerprint(call.tool) if call.tool is not None and call.key.code else None


def _candidate(call: PreparedCall) -> Candidate:
    return Candidate(call.step, call.key, call.tool)


def _request(command: StartModelCall) -> ModelRequest:
    """Return the request of an `ask` step. Raises: ToolError: an example or a guard is not one."""
    rendered = cast("dict[str, Any]", command.request.value)
    try:
        return ask_request(
            rendered["prompt"],
            system=rendered.get("system"),
            examples=rendered.get("examples") or (),
            returns=command.returns,
            model=command.model,
            temperature=command.temperature,
            max_tokens=command.max_tokens,
            guard=cast("tuple[Guard, ...]", command.guard),
        )
    except ConfigError as fault:
        raise ToolError(str(fault), code="bad-prompt") from fault


def _why_not(call: PreparedCall) -> str:
    return f": {call.key.why_not}" if call.key.why_not else ""


def _is_kept_read(call: PreparedCall) -> bool:
    return bool(call.key.key) and call.tool is not None and call.tool.effect is Effect.READ


def _used(context: Context | None) -> dict[str, Json] | None:
    if context is None or not (context.used.varies or context.used.env or context.used.secrets):
        return None
    return {name: value for name, value in asdict(context.used).items() if value}


class _held:  # noqa: N801  # reads as the statement that it is
    """`async with` a semaphore that may not be there."""

    def __init__(self, places: asyncio.Semaphore | None) -> None:
        self._places = places

    async def __aenter__(self) -> None:
        if self._places is not None:
            await self._places.acquire()

    async def __aexit__(self, *_: object) -> None:
        if self._places is not None:
            self._places.release()


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The fault that stopped the run: TaskGroup bundles it, the caller wants the error itself."""
    first = group.exceptions[0]
    if isinstance(first, BaseExceptionGroup):
        return first_of(cast("BaseExceptionGroup[BaseException]", first))
    return first
