"""Shadow runs: how a run would have gone with another model or another plan, without an effect on the world.

A new machine runs the plan once more. Each model step is asked again with its recorded input, and a second time with the new input if earlier answers
change it. A `pure` tool is called if its arguments or its code are new. Reads and writes are never called: for equal calls the recording
answers, and a call that would be different is reported with its arguments; steps that wait for it stay unknown. Nothing is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from ...errors import InputRejected, ToolError
from ...plans.expressions.data_spans import PromptData
from ...plans.program.program import AskAgent, AskModel, CallTool
from ...plans.signature import Effect
from ...plans.values import Json
from ...tools import Models
from ...tools.models.models import DEFAULT, Model, Spec
from ..calls.caller import Caller
from ..calls.dispatch import Preparation, endorsed
from ..calls.running.invoke import Failed, Outcome, Returned
from ..canonical_value import CanonicalValue
from ..commands import (
    Command,
    Continue,
    Pause,
    Record,
    RecordEndorsement,
    RuleApproval,
    StartModelCall,
    StartPlanning,
    StartToolCall,
)
from ..events import (
    Answered,
    ApprovalAsked,
    ApprovalRuled,
    Approved,
    CallFailed,
    CallReused,
    CallStarted,
    CallSucceeded,
    Cause,
    Denied,
    RetryDue,
    RunStarted,
    WorkContinued,
)
from ..execution_tree import Iteration
from ..fork import Inherited, inherited_from
from ..journal.header import Header, build_machine
from ..machine import Machine

if TYPE_CHECKING:
    from ..calls.facilities import Facilities
    from .recall import Recall

ALIAS: Final = "firmplan-shadow"  # the alias of the new model while it is asked
ASKS_PERSON: Final = "a person would be asked first"
OUTAGES: Final = frozenset(
    {"model-unreachable", "model-unavailable", "model-auth", "model-unknown", "rate-limited", "timeout"}
)
"""Codes of failures in which the model gave no answer, so that they say nothing about the model."""

StartCall: TypeAlias = StartToolCall | StartModelCall


@dataclass(frozen=True, slots=True)
class ShadowReply:
    """One answer of a model."""

    outcome: Outcome
    usage: Mapping[str, Json]

    @property
    def output(self) -> CanonicalValue | None:
        """The answer, if there is one."""
        return self.outcome.output if isinstance(self.outcome, Returned) else None


def shadow_models(models: Models, model: Spec) -> Models:
    """Return the models with the new model added under `ALIAS`; a text is an alias, else a name at the usual endpoint. Raises: ConfigError."""
    aliases = models.aliases
    new: Spec = model
    if isinstance(model, str):
        usual = aliases.get(DEFAULT, (Model(),))[0]
        new = aliases.get(model, (replace(usual, name=model),))
    made = Models({**aliases, ALIAS: new}, prices=models.own_prices)
    made.resolve(ALIAS)  # raises for a model that does not exist, before anything is asked
    return made


async def shadow(
    facilities: Facilities, recalled: Recall, header: Header | None, model: Spec | None
) -> ShadowWalk:
    """Return the walk through the run as it would have gone; `shadow_report.py` reports the differences.

    Args:
        facilities: Tools and models.
        recalled: The recorded run.
        header: A header with another plan; `None`: the plan of the run.
        model: The model to ask; `None`: each step's own model.

    Raises:
        InputRejected: The run asked no model, and the plan asks none.
        ConfigError: There is no such model.
    """
    if model is not None:
        facilities = replace(facilities, models=shadow_models(facilities.models, model))
    walker = ShadowWalk(facilities, recalled, header or recalled.header, is_other_model=model is not None)
    if header is None and not model_iterations(recalled):
        raise InputRejected(f"run {recalled.run.id} asked no model: there is nothing to shadow")
    await walker.go()
    if header is None:
        await walker.ask_the_rest()
    return walker


@dataclass(slots=True)
class ShadowWalk:
    """One walk of a new machine through the recorded run.

    Attributes:
        direct: Path of a model step -> the answer to the recorded input.
        flowing: Path of a model step -> the answer to the new input, if the input would be another.
        calls: Path -> the arguments or prompt of the leaf in this walk.
        withheld: Path -> why the call was not made.
    """

    facilities: Facilities
    recalled: Recall
    header: Header
    is_other_model: bool
    direct: dict[str, ShadowReply] = field(default_factory=dict[str, ShadowReply])
    flowing: dict[str, ShadowReply] = field(default_factory=dict[str, ShadowReply])
    calls: dict[str, CanonicalValue] = field(default_factory=dict[str, CanonicalValue])
    withheld: dict[str, str] = field(default_factory=dict[str, str])

    machine: Machine = field(init=False)
    known: Mapping[str, Inherited] = field(init=False)
    preparation: Preparation = field(init=False)
    caller: Caller = field(init=False)
    decided: Mapping[str, Approved | Answered | Denied] = field(init=False)
    ruled: Mapping[str, ApprovalRuled] = field(init=False)

    def __post_init__(self) -> None:
        # Without the budget: the recording has paid for most calls, and the walk must not stop for calls that it does not make.
        self.machine = build_machine(replace(self.header, budget={}))
        self.known = inherited_from(entry.event for entry in self.recalled.entries)
        run_id, seed = self.recalled.run.id, self.header.seed
        self.preparation = Preparation(self.facilities, run_id, tenant=self.header.tenant)
        self.caller = Caller(self.facilities, self.preparation, seed)
        events = [entry.event for entry in self.recalled.entries]
        self.decided = {
            event.step: event for event in events if isinstance(event, Approved | Denied | Answered)
        }
        self.ruled = {event.step: event for event in events if isinstance(event, ApprovalRuled)}

    async def go(self) -> None:
        """Walk until no command is left."""
        # In rounds, not as tasks that feed the machine whenever one ends: so the walk, and with it the report, does not depend on timing.
        batch = self._take(RunStarted(self.recalled.run.id))
        while batch:
            found = await asyncio.gather(*(self._carried_out(command) for command in batch))
            batch = [more for events in found for event in events for more in self._take(event)]

    def _take(self, event: Cause) -> list[Command]:
        if not isinstance(event, RunStarted | WorkContinued) and not self._is_wanted(event):
            return []
        return self.machine.handle(event)

    def _is_wanted(self, event: Cause) -> bool:
        """Whether the machine still waits for the event: another event of the same round may have cancelled its step."""
        step = getattr(event, "step", "")
        return (
            self.machine.is_callable(step)
            or self.machine.is_running(step)
            or self.machine.is_pausing(step)
            or self.machine.accepts(event)
        )

    async def _carried_out(self, command: Command) -> Sequence[Cause]:  # noqa: PLR0911  # one case for each kind of command
        match command:
            case StartModelCall():
                return await self._asked(command, command.request)
            case StartToolCall():
                return await self._called(command)
            case StartPlanning():
                return self._planned(command)
            case RecordEndorsement():  # people and policies decided about exactly this value
                self.calls[command.step] = command.args
                return [endorsed(command, 0.0)]
            # The world is not asked: rules of tools may read it, and people decided about the recorded arguments only.
            case RuleApproval(step=step, args=args):
                return self._ruled_again(step, args)
            case Record(event=ApprovalAsked(step=step, args=args)):
                return self._decided_again(step, args)
            case Pause(step=step):
                return [RetryDue(step)]
            case Continue(spent=spent):
                return [WorkContinued(spent)]
            case _:
                return []

    # --- calls

    async def _called(self, command: StartToolCall) -> Sequence[Cause]:
        self.calls[command.step] = command.args
        lock = self.header.lock.find(command.tool)
        # A tool that the header does not know counts as a write: it is not called.
        effect = lock.effect if lock is not None else Effect.WRITE
        if effect is Effect.MODEL:
            return await self._asked(command, command.args)
        recorded = self._recorded(command)
        tool = self.facilities.tools.find(command.tool)
        is_same_code = tool is None or lock is None or tool.fingerprint == self._old_fingerprint(command.tool)
        # A read or write with equal arguments is answered by the recording whatever its code is now: it cannot be called to find out.
        if recorded is not None and (effect is not Effect.PURE or is_same_code):
            return recorded
        if tool is not None and (unfit := self._unfit(command)) is not None:
            return [unfit]
        if effect is not Effect.PURE or tool is None:
            why = f"a {effect.value}, so it was not called"
            self.withheld[command.step] = why if effect is not Effect.PURE else self._missing(command.tool)
            return []
        return self._events(command, command.args, (await self._made(command)).outcome)

    def _recorded(self, command: StartToolCall) -> Sequence[Cause] | None:
        """Return the recorded events of an equal call; `None`: there is no call with these arguments and this tool."""
        step, args = command.step, command.args
        known, iteration = self.known.get(step), self.recalled.machine.iterations.get(step)
        action = iteration.item.node.code.action if iteration is not None else None
        is_same_tool = isinstance(action, CallTool | AskAgent) and action.tool == command.tool
        if known is None or known.args != args.digest or not is_same_tool:
            return None
        return self._outcome_of(step, args, known)

    def _outcome_of(self, step: str, args: CanonicalValue, known: Inherited) -> Sequence[Cause]:
        """Return the events by which the recording answers an equal call."""
        match known.outcome:
            # Not retryable: a retry would be another attempt of a call that the recording does not have.
            case CallFailed() as failed:
                return [CallStarted(step, 1, args.digest, ""), replace(failed, retryable=False)]
            case outcome:
                return [CallReused(step, args.digest, outcome.output, "", self.recalled.run.id)]

    def _unfit(self, command: StartToolCall) -> CallFailed | None:
        """Return the failure of a call whose arguments do not fit the tool; `None`: they fit."""
        try:
            self.preparation.prepare(command)
        except ToolError as fault:
            message = self.preparation.without_secrets(command, str(fault))
            return CallFailed(command.step, fault.code, message, fault.temporary)
        return None

    def _old_fingerprint(self, tool: str) -> str | None:
        lock = self.recalled.header.lock.find(tool)
        return lock.fingerprint if lock is not None else None

    def _missing(self, tool: str) -> str:
        return f"the tool '{tool}' is not loaded"

    async def _made(self, command: StartCall) -> ShadowReply:
        """Make a call of a model or of a pure tool."""
        try:
            call = self.preparation.prepare(command)
        except ToolError as fault:
            return ShadowReply(Failed(fault.code, str(fault), fault.temporary, retryable=False), {})
        if call.request is not None and self.is_other_model:
            call.request = replace(call.request, alias=ALIAS)
        async with self.facilities.slot_for(self.recalled.run.id, call.tool):
            outcome, usage = await self.caller.make(call)
        return ShadowReply(outcome, usage or {})

    def _events(self, command: StartCall, args: CanonicalValue, outcome: Outcome) -> Sequence[Cause]:
        start = CallStarted(command.step, command.attempt, args.digest, "")
        match outcome:
            case Returned(output):
                return [start, CallSucceeded(command.step, output)]
            case Failed(code, message, temporary):
                return [start, CallFailed(command.step, code, message, temporary)]
            case lost:
                return [start, CallFailed(command.step, "lost", lost.why)]

    # --- models

    async def _asked(self, command: StartCall, asked: CanonicalValue) -> Sequence[Cause]:
        """Ask the model with the recorded input, and with the input of this walk if that is different."""
        # Both are needed: the answer to the recorded input compares the models, the answer to the new input is what later steps would get.
        step = command.step
        self.calls[step] = asked
        if isinstance(command, StartToolCall) and self.facilities.tools.find(command.tool) is None:
            self.withheld[step] = self._missing(command.tool)
            return []
        old = self.recalled.calls.get(step)
        if old is None or old.digest == asked.digest or self.header is not self.recalled.header:
            answer = self.direct[step] = await self._made(command)
        else:
            before = _with_input(command, old, self.recalled.machine.iterations[step].data)
            self.direct[step], answer = await asyncio.gather(self._made(before), self._made(command))
            self.flowing[step] = answer
        return [] if self.is_unheard(step, answer) else self._events(command, asked, answer.outcome)

    def is_unheard(self, step: str, answer: ShadowReply) -> bool:
        """Whether the model could not be reached, unlike in the recording, so that the following steps are unknown."""
        if not isinstance(answer.outcome, Failed) or answer.outcome.code not in OUTAGES:
            return False
        known = self.recalled.run.steps.get(step)
        return known is None or known.error is None or known.error.code != answer.outcome.code

    async def ask_the_rest(self) -> None:
        """Ask the model also at the steps that the walk did not reach, with their recorded input."""
        wanted = [
            command
            for iteration in model_iterations(self.recalled)
            if iteration.path not in self.direct
            and (command := recorded_command(self.recalled, iteration, self.facilities)) is not None
        ]
        # Together, since they depend on nothing but the recording; the limits of the endpoint hold here as well.
        answers = await asyncio.gather(*(self._made(command) for command in wanted))
        self.direct.update({command.step: made for command, made in zip(wanted, answers, strict=True)})

    def _planned(self, command: StartPlanning) -> Sequence[Cause]:
        """Return what the planner answered in the recording; it is not asked again."""
        step, asked = command.step, command.args
        self.calls[step] = asked
        known = self.known.get(step)
        if known is None or known.args != asked.digest:
            self.withheld[step] = "the planner would be asked, and was not"
            return []
        return self._outcome_of(step, asked, known)

    # --- people

    def _ruled_again(self, step: str, args: CanonicalValue) -> Sequence[Cause]:
        self.calls[step] = args
        ruled, known = self.ruled.get(step), self.recalled.calls.get(step)
        if ruled is not None and (known is None or known.digest == args.digest):
            return [ruled]
        self.withheld[step] = "the tool's own rule would decide whether a person is asked"
        return []

    def _decided_again(self, step: str, args: CanonicalValue) -> Sequence[Cause]:
        self.calls[step] = args
        # An approval is about exactly its arguments; a denial is about the call, whatever its arguments have become.
        decided = self.decided.get(step)
        if isinstance(decided, Approved | Answered) and decided.args == args.digest:
            return [decided]
        if isinstance(decided, Denied):
            return [decided]
        # A step that waits in the recording too is no difference, so it is not reported.
        if self.recalled.run.steps.get(step) is None or self.recalled.run.steps[step].status != "waiting":
            self.withheld[step] = ASKS_PERSON
        return []


def recorded_command(recalled: Recall, iteration: Iteration, facilities: Facilities) -> StartCall | None:
    """Return the recorded call of a model step; `None`: its tool is not loaded.

    Args:
        recalled: The recorded run.
        iteration: The leaf that asked the model.
        facilities: Has the tools.
    """
    asked = recalled.calls[iteration.path]
    match iteration.item.node.code.action:
        case AskModel() as ask:
            return StartModelCall(
                iteration.path,
                asked,
                ask.returns,
                ask.model,
                ask.temperature,
                ask.max_tokens,
                ask.guard,
                attempt=1,
                sample=(),
                timeout_s=iteration.item.node.code.timeout_s,
                data=iteration.data,
            )
        case CallTool(tool=tool, secrets=secrets) if facilities.tools.find(tool) is not None:
            return StartToolCall(iteration.path, tool, asked, secrets, 1, (), None, reconcile=False)
        case AskAgent(tool=tool, secrets=secrets, turns=turns) if facilities.tools.find(tool) is not None:
            return StartToolCall(
                iteration.path, tool, asked, secrets, 1, (), None, reconcile=False, turns=turns
            )
        case _:
            return None


def model_iterations(recalled: Recall) -> list[Iteration]:
    """Return the leaves of a run that asked a model, in plan order."""
    found = [
        iteration for iteration in recalled.machine.iterations.values() if iteration.path in recalled.calls
    ]
    return sorted(
        (iteration for iteration in found if _asks(iteration, recalled.header)),
        key=lambda iteration: iteration.order,
    )


def _asks(iteration: Iteration, header: Header) -> bool:
    match iteration.item.node.code.action:
        case AskModel() | AskAgent():
            return True
        case CallTool(tool=tool):
            lock = header.lock.find(tool)
            return lock is not None and lock.effect is Effect.MODEL
        case _:
            return False


def _with_input(command: StartCall, asked: CanonicalValue, data: PromptData) -> StartCall:
    """Return the same call with the recorded input, of which `data` says what is data if it is a prompt."""
    return (
        replace(command, request=asked, data=data)
        if isinstance(command, StartModelCall)
        else replace(command, args=asked)
    )
