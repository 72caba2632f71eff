"""Rehearse a run: run the plan as it is now, with the tools as they are now, without any effect on the world.

`pure` tools are called. Every other call, prompts included, gets a recorded or a written answer; the run is in memory, on a clock that
jumps over pauses. Calls that people approved or denied are approved or denied again. The result can be compared with the recording, step
by step, and kept as the new recording.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol, cast

from typing_extensions import override

from ..errors import (
    Cannot,
    ConfigError,
    InputRejected,
    OutcomeUnknown,
    PlanError,
    PlanningFailed,
    PlanRejected,
    Question,
    ToolError,
)
from ..executor.budget import PlanningCost
from ..executor.calls.concurrency import FairSemaphore
from ..executor.calls.facilities import Facilities
from ..executor.calls.running.invoke import Failed, Outcome, Returned
from ..executor.calls.step_planning import StepTask
from ..executor.events import Answered, Approved, Denied
from ..executor.fork import Fork, root_of
from ..executor.journal.header import Header, default_seed
from ..executor.journal.toolset_lock import ToolLock, ToolsetLock, tool_names
from ..executor.loops import ASKED, PLAN
from ..executor.review.recall import Recall, recall
from ..executor.runs.execution import Execution
from ..executor.runs.owner import MemoryPresence
from ..executor.runs.request import fitted_inputs
from ..plans import Plan, check
from ..plans.edit.differences import differences, shown
from ..plans.program.program import AskAgent, AskModel, AskPlanner
from ..plans.reports.nearest import did_you_mean, listing
from ..plans.signature import Effect, called_by
from ..plans.values import Json, canonical, digest, parse
from ..tools import Context, ModelReply, ModelRequest, Models, Tool, Toolset, Usage, ask_request, make_tool
from ..tools.declaration import Approval
from ..tools.failures import ResultRefused
from ..tools.secret import Secrets
from ..tools.types.schemas import SchemaTypes
from .fakes import FakeClock, MemoryStore
from .recorded import RecordedRun

PLACES = 64
DECISIONS_MAX = 1000  # decisions in one rehearsal: a plan that waits for ever is a mistake
ASK = "ask"  # under this name a test writes down answers for prompts


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A plan with its tools and the answers for its calls.

    Attributes:
        plan: As it is now.
        inputs: As they are given.
        tools: As they are now; tools that only the recording knows are answered from it.
        recorded: The run whose answers are given to calls.
        answers: Written answers by tool name; `ask`: for prompts. They take precedence over recorded answers.
        live: Names of tools that are called although they are not `pure`.
        artifacts: Bytes that inputs and answers may name as artifacts, beside those of the recording.
    """

    plan: Plan
    inputs: Mapping[str, Json] = field(default_factory=dict[str, Json])
    tools: Toolset = field(default_factory=Toolset)
    recorded: RecordedRun | None = None
    answers: Mapping[str, Json] = field(default_factory=dict[str, Json])
    live: Sequence[str] = ()
    artifacts: Sequence[bytes] = ()

    async def run(self, keep: Path | None = None) -> Recall:
        """Return the run; `keep`: also write it into a bundle there.

        Raises:
            PlanRejected: The plan does not pass the check.
            InputRejected: An input does not fit, or answers are given for an unknown tool.
        """
        saved: Mapping[str, Plan] = self.recorded.header.plans if self.recorded is not None else {}
        names = self._names(saved)
        self._expect_known(names)
        tools = Toolset(list(self._tools(saved)))
        others = [tool for tool in self.tools if tool.name not in tools.names]
        report = check(self.plan, tools + Toolset(others), plans=saved)
        if not report.ok:
            raise PlanRejected(report)
        inputs = fitted_inputs(self.plan, self.inputs)
        seed = self.recorded.header.seed if self.recorded is not None else default_seed(self.plan, inputs)
        # The lock names the real tools and not their stand-ins, so that the comparison finds the tools that changed since the recording.
        lock = ToolsetLock([self._lock(tool) for name in names if (tool := tools.find(name))])
        header = Header(self.plan, inputs, seed, lock, saved, self.plan.task, reuse="off", fork=self._fork())
        store = MemoryStore()
        facilities = Facilities(
            tools,
            StandInModels(self._prompts()),
            store,
            FairSemaphore(PLACES),
            clock=FakeClock(),
            secrets=Secrets(Untouched()),
            step_planner=_RecordedPlanner(tuple(self._plannings())),
        )
        # The clock runs through every pause at once, and a recorded answer came in time.
        execution = Execution(facilities, MemoryPresence(), expires=False)
        await execution.open()
        try:
            for name, data in self._blobs().items():
                await store.add_value(name, data, 0.0)
            run_id = await self._run(execution, header)
            if keep is not None:
                await execution.replays.export(run_id, keep)
            return await recall(store, await execution.archive.row(run_id))
        finally:
            await execution.close()

    def _expect_known(self, named: Sequence[str]) -> None:
        """Check that answers are given only for known tools. Raises: InputRejected."""
        known = sorted({*named, *self.tools.names})
        for what, names in (("answers", [name for name in self.answers if name != ASK]), ("live", self.live)):
            for name in names:
                if name not in known:
                    hint = did_you_mean(name, known, f"there are {listing(known)}")
                    raise InputRejected(f"{what}: there is no tool '{name}': {hint}")

    async def _run(self, execution: Execution, header: Header) -> str:
        """Run, and repeat the recorded decisions, until the run has ended or waits for another one."""
        name = self.recorded.run.id if self.recorded is not None else "rehearsal"
        run_id = (await execution.submissions.submit(header, run_id=name)).id
        await execution.resume(run_id)
        decided = dict(self.recorded.decided) if self.recorded is not None else {}
        # One decision at a time: it may bring the run to its next question, and the recording has the answer to that one too.
        for _ in range(DECISIONS_MAX):
            run = await execution.wait(run_id)
            waiting = [path for path, view in run.steps.items() if view.reason in ("approval", "question")]
            step = next((path for path in waiting if path in decided), None)
            if run.status != "waiting" or step is None:
                break
            match decided.pop(step):
                case Approved(by=by, edit=edit):
                    changed = cast("dict[str, Json]", edit.value) if edit is not None else None
                    said: dict[str, object] = {"approve": True, "edit": changed}
                case Answered(by=by, answer=answer):
                    said = {"answer": answer.value}
                case Denied(by=by, reason=reason):
                    said = {"deny": True, "reason": reason}
            await execution.decisions.decide_one(run_id, step, said, by=by)
            await execution.resume(run_id)
        return run_id

    def _fork(self) -> Fork | None:
        """Return how the recorded run was made from its parent: its given values are given again, and its waiting writes wait again."""
        fork = self.recorded.header.fork if self.recorded is not None else None
        if fork is None:
            return None
        known = {step.id for step in self.plan.steps}
        given = {path: value for path, value in fork.overrides.items() if root_of(path) in known}
        return replace(fork, overrides=given, at="")

    def _blobs(self) -> Mapping[str, bytes]:
        """Return the bytes of all artifacts that are known before anything runs, by digest."""
        given: dict[str, bytes] = {digest(data): data for data in self.artifacts}
        return {**self.recorded.blobs, **given} if self.recorded is not None else given

    # --- which tools are called, and which answers the others give

    def _tools(self, saved: Mapping[str, Plan]) -> Iterator[Tool]:
        """Yield each tool that the plan names, or its stand-in if it is not called."""
        for name in self._names(saved):
            tool = self.tools.find(name)
            lock = ToolLock.of(tool) if tool is not None else self._recorded_lock(name)
            if lock is None:
                continue  # the check reports it
            if tool is not None and (name in self.live or self._is_called(name, tool)):
                yield tool
            else:
                types = types_of(lock)
                answerer = self._answerer(name, types)
                if lock.agent_tools is not None:
                    answerer = _Turns(answerer)
                yield stand_in(lock, types, answerer, self._approval(tool, lock))

    def _names(self, saved: Mapping[str, Plan]) -> list[str]:
        """Return the names of the tools that the plan calls, and of those that their agents may call."""
        named = {name for each in (self.plan, *saved.values()) for name in tool_names(each)}
        called = (called_by(self.tools.find(name) or self._recorded_lock(name)) for name in named)
        return sorted(named.union(*called))

    def _is_called(self, name: str, tool: Tool) -> bool:
        # A pure tool has no effect on the world, and calling it shows what its present code returns.
        return tool.effect is Effect.PURE and name not in self.answers

    def _lock(self, tool: Tool) -> ToolLock:
        """Return a tool's lock; for a stand-in, the lock of its tool."""
        real = self.tools.find(tool.name)
        found = ToolLock.of(real) if real is not None else self._recorded_lock(tool.name)
        return found or ToolLock.of(tool)

    def _recorded_lock(self, name: str) -> ToolLock | None:
        return self.recorded.header.lock.find(name) if self.recorded is not None else None

    def _answerer(self, name: str, types: SchemaTypes) -> Answerer:
        what = f"call of '{name}'"
        if name in self.answers:
            return written(what, self.answers[name])
        return Answers(what, tuple(self._recorded_answers(name, types)))

    def _recorded_answers(self, name: str, types: SchemaTypes) -> Iterator[Answer]:
        if self.recorded is None:
            return
        for path, ended in self._ended():
            if self.recorded.recall.machine.tool_of(path) != name:
                continue
            asked = self.recorded.recall.calls[path]
            if isinstance(self.recorded.recall.machine.iterations[path].item.node.code.action, AskAgent):
                yield Answer(path, asked.data, ended)
                continue
            try:
                args = types.bind(cast("dict[str, Json]", asked.value))
            except ToolError:  # the tool's parameters have changed, so this call cannot be made any more
                continue
            yield Answer(path, args, ended)

    def _prompts(self) -> Answerer:
        if ASK in self.answers:
            return written("prompt", self.answers[ASK])
        return Answers("prompt", tuple(self._recorded_prompts()))

    def _recorded_prompts(self) -> Iterator[Answer]:
        if self.recorded is None:
            return
        machine = self.recorded.recall.machine
        for path, ended in self._ended():
            action = machine.iterations[path].item.node.code.action
            if not isinstance(action, AskModel):
                continue
            asked = cast("dict[str, Json]", self.recorded.recall.calls[path].value)
            try:
                request = ask_request(
                    cast("str", asked["prompt"]),
                    system=cast("str | None", asked.get("system")),
                    examples=cast("list[Json] | None", asked.get("examples")) or (),
                    returns=action.returns,
                    data=machine.iterations[path].data,
                )
            except ConfigError:  # an invalid example: the step failed because of it, and will fail again
                continue
            yield Answer(path, prompt_of(request), ended)

    def _plannings(self) -> Iterator[tuple[StepTask, Outcome]]:
        """Yield what the planner was asked in the recording by `plan_for` steps, with what it answered."""
        if self.recorded is None:
            return
        recall = self.recorded.recall
        for path, ended in self._ended():
            if isinstance(recall.machine.iterations[path].item.node.code.action, AskPlanner):
                yield StepTask.of(recall.calls[path].value), ended

    def _ended(self) -> Sequence[tuple[str, Outcome]]:
        """Return path and outcome of the calls, in plan order: which of several equal calls ended first was chance."""
        if self.recorded is None:
            return []
        iterations = self.recorded.recall.machine.iterations
        return sorted(self.recorded.ended.items(), key=lambda each: iterations[each[0]].order)

    def _approval(self, tool: Tool | None, lock: ToolLock) -> Approval:
        """Return when a person is asked: by the tool's rule, or for the calls that were asked about in the recording."""
        if tool is not None or lock.approval in ("never", "always", "untrusted"):
            kinds: Mapping[str, Approval] = {"always": "always", "untrusted": "untrusted"}
            return tool.approval if tool is not None else kinds.get(lock.approval)
        asked = {
            self.recorded.recall.calls[path].data
            for path in (self.recorded.decided if self.recorded is not None else ())
            if self.recorded is not None and path in self.recorded.recall.calls
        }
        # A rule that is a function cannot be in the recording: its answers are.
        return lambda args: canonical(args) in asked


@dataclass(frozen=True, slots=True)
class _RecordedPlanner:
    """Gives the sub-plans of a recording again; a `StepPlanner`."""

    plannings: Sequence[tuple[StepTask, Outcome]]

    async def plan_step(self, task: StepTask, cost: PlanningCost) -> Plan:  # noqa: ARG002  # it costs nothing
        ended = next((outcome for known, outcome in self.plannings if known == task), None)
        match ended:
            case Returned(output):
                made = cast("dict[str, Any]", output.value)
                if ASKED in made:
                    raise PlanningFailed("a question", outcome=Question(**made[ASKED]))
                return Plan.model_validate(made[PLAN])
            case Failed(code="cannot", message=reason):
                raise PlanningFailed(reason, outcome=Cannot(reason))
            case Failed(message=message):
                raise PlanningFailed(message)
            case _:
                raise _NotRecordedError(
                    f"the recording has no sub-plan for '{task.words}' with these values: record the run again"
                )


class _NotRecordedError(PlanError):
    code = "not-recorded"


# --- Answers: those of a recorded run, or those that a test wrote down. An answer is looked up by the tool and the arguments (by the prompt
# and the form of its answer), first at the same step. Equal calls get their answers in the order of the recording. A call without an
# answer fails with code `not-recorded`, and the message says how it differs from the nearest recorded call.


NOT_RECORDED: Final = "not-recorded"
PLACES_SHOWN: Final = 3


class Answerer(Protocol):
    """The source of answers for the calls of one tool, or for the prompts of a run."""

    def give(self, step: str, asked: bytes) -> Json:
        """Return the result of the call; `step` is empty if it is not known. Raises: ToolError, OutcomeUnknown."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer.

    Attributes:
        step: Path of the step that it was given to; empty: any step.
        asked: The bound arguments, or the prompt, as canonical JSON; `None`: any.
    """

    step: str
    asked: bytes | None
    ended: Outcome


@dataclass(slots=True)
class Answers:
    """The answers for one tool, or for all prompts.

    Attributes:
        what: For messages: `call of 'search'`, `prompt`.
        later: Index of the next answer for each question that was asked more than once.
    """

    what: str
    answers: Sequence[Answer]
    later: dict[tuple[str, bytes], int] = field(default_factory=dict[tuple[str, bytes], int])

    def give(self, step: str, asked: bytes) -> Json:
        """Return the recorded result of the call.

        Raises:
            ToolError: The call failed, or was not recorded.
            OutcomeUnknown: The outcome of the call is unknown.
        """
        fitting = [each for each in self.answers if each.asked in (None, asked)]
        here = [each for each in fitting if each.step == step and step] or fitting
        if not here:
            raise ToolError(self._missing(step, asked), code=NOT_RECORDED)
        # Equal calls of one step get the recorded answers in their order; when these are used up, the last one again, because a plan
        # of today may call more often than the recorded one.
        key = (step if here[0].step == step else "", asked)
        at = self.later.get(key, 0)
        self.later[key] = at + 1
        return _result_of(here[min(at, len(here) - 1)].ended)

    def _missing(self, step: str, asked: bytes) -> str:
        nearest = self._nearest(step, asked)
        if nearest is None or nearest.asked is None:
            return f"no {self.what} was recorded"
        found = differences(parse(nearest.asked), parse(asked))[:PLACES_SHOWN]
        where = f" (at '{nearest.step}')" if nearest.step else ""
        return f"no such {self.what} was recorded; it differs from one that was{where}: " + "; ".join(
            map(str, found)
        )

    def _nearest(self, step: str, asked: bytes) -> Answer | None:
        """Return the recorded answer at the same step, else the one with the fewest differing places."""
        known = [each for each in self.answers if each.asked is not None]
        here = [each for each in known if each.step == step and step]
        value = parse(asked)
        return min(
            here or known,
            key=lambda each: len(differences(parse(each.asked or b"null"), value)),
            default=None,
        )


def _result_of(ended: Outcome) -> Json:
    match ended:
        case Returned(output):
            return parse(output.data)
        case Failed(code, message, took_effect=True):
            raise ResultRefused(message, code=code)
        case Failed(code, message, temporary):
            raise ToolError(message, code=code, temporary=temporary)
        case lost:
            raise OutcomeUnknown(lost.why)


@dataclass(frozen=True, slots=True)
class Written:
    """Answers that a test wrote down for one tool or one prompt: each for some arguments, or for any."""

    what: str
    entries: Sequence[Mapping[str, Json]]

    def give(self, step: str, asked: bytes) -> Json:
        """Return the first answer whose `args` are all among those of the call. Raises: ToolError."""
        where = f" at '{step}'" if step else ""
        value = parse(asked)
        for entry in self.entries:
            wanted = entry.get("args", {})
            if isinstance(wanted, dict) and _are_among(wanted, value):
                if "fails" in entry:
                    raise ToolError(str(entry["fails"]), code="failed")
                return entry.get("returns")
        raise ToolError(
            f"no answer is written for this {self.what}{where}: {shown(value)}", code=NOT_RECORDED
        )


def _are_among(wanted: Mapping[str, Json], value: Json) -> bool:
    if not isinstance(value, dict):
        return not wanted
    return all(name in value and canonical(value[name]) == canonical(part) for name, part in wanted.items())


def written(what: str, given: Json) -> Written:
    """Return written answers: a list of `{"args", "returns"}` or `{"args", "fails"}`, or a value that answers every call."""
    return Written(what, tuple(_entries(given)))


def _entries(given: Json) -> Iterable[Mapping[str, Json]]:
    if isinstance(given, list) and given and all(_is_entry(each) for each in given):
        return [cast("dict[str, Json]", each) for each in given]
    return [{"returns": given}]


def _is_entry(given: Json) -> bool:
    return isinstance(given, dict) and ("returns" in given) != ("fails" in given) and set(given) <= _KEYS


_KEYS: Final = {"args", "returns", "fails"}


# --- Stand-ins: tools and models that give those answers. A stand-in has the name, types, effect and policies of its tool, so that plans are
# checked, ordered and approved as with the real tool. A `pure` tool needs no stand-in: it is called.


_CONTEXT: Final = "firmplan_context"


class Untouched(Mapping[str, str]):
    """Secrets for a rehearsal: each is its own expression, as it stands in a recording."""

    @override
    def __getitem__(self, name: str) -> str:
        return f'${{secret("{name}")}}'

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(())  # there are as many as are asked for

    @override
    def __len__(self) -> int:
        return 0


def types_of(lock: ToolLock) -> SchemaTypes:
    """Return the types of a tool's lock; they bind recorded calls and new calls alike."""
    kind = SchemaTypes if lock.agent_tools is None else _TurnTypes
    return kind(f"stand-in for '{lock.name}'", lock.parameters, lock.returns, _CONTEXT)


class _TurnTypes(SchemaTypes):
    """The types of an agent that may call tools: of its turns, only an answer is of its type."""

    @override
    def _sealed(self, result: object, known: bytes | None) -> tuple[bytes, list[str]]:
        turn = cast("Json", result)
        if isinstance(turn, dict) and "answer" in turn:
            return canonical(turn), super()._sealed(turn["answer"], None)[1]
        return canonical(turn), []


@dataclass(frozen=True, slots=True)
class _Turns:
    """The replies of an agent's model: as they were recorded, or the answer that a test wrote down, which comes without calls."""

    answers: Answerer

    def give(self, step: str, asked: bytes) -> Json:
        """Return a reply. Raises: as the answers do."""
        if isinstance(self.answers, Written):
            args = cast("dict[str, Json]", parse(asked))["args"]
            return {"answer": self.answers.give(step, canonical(args))}
        return self.answers.give(step, asked)


def stand_in(lock: ToolLock, types: SchemaTypes, answers: Answerer, approval: Approval) -> Tool:
    """Return a tool that gives the known answers.

    Args:
        lock: What the tool is: its name, types, effect and policies.
        types: Bind the arguments and seal the results.
        answers: The results of its calls.
        approval: When a person is asked.
    """

    async def play(firmplan_context: Context | None = None, **args: Json) -> Json:
        step = firmplan_context.step if firmplan_context is not None else ""
        return answers.give(step, canonical(cast("Json", args)))

    return make_tool(
        play,
        types=types,
        name=lock.name,
        description=lock.description,
        effect=lock.effect.value,
        idempotent=lock.idempotent,
        version="stand-in",
        timeout=lock.timeout_s,
        retries=lock.retries,
        approval=approval,
        trust=lock.trust,
        resource=lock.resource,
        allow_untrusted=tuple(lock.allow_untrusted),
        harmless=tuple(lock.harmless),
        private=lock.private,
        readers=tuple(lock.readers),
        egress=tuple(lock.egress),
        reconcile=_unknown if lock.can_reconcile else None,
        # A recorded result came as it is; one that a test wrote against the declared type is a mistake of the test.
        default_results="enforce" if isinstance(_source_of(answers), Written) else "warn",
        agent_tools=lock.agent_tools,
    )


def _source_of(answers: Answerer) -> Answerer:
    """Return where answers come from."""
    return answers.answers if isinstance(answers, _Turns) else answers


def _unknown(_key: str, _args: dict[str, Json]) -> None:
    """Return nothing: the outcome of an earlier call is unknown."""


class StandInModels(Models):
    """Models that give the known answers to prompts."""

    def __init__(self, answers: Answerer) -> None:
        super().__init__({})
        self._answers = answers

    @override
    def key_parts(self, request: ModelRequest) -> dict[str, Json]:
        raise ConfigError("a rehearsal keeps no results")

    @override
    async def ask(
        self, request: ModelRequest, *, timeout_s: float | None = None, listener: object = None
    ) -> ModelReply:
        return ModelReply(self._answers.give(request.step, prompt_of(request)), Usage(), "stand-in", "")


def prompt_of(request: ModelRequest) -> bytes:
    """Return the key of a prompt in a recording: its messages and the form of its answer."""
    messages: Sequence[Json] = [cast("Json", message.to_dict()) for message in request.messages]
    return canonical({"messages": list(messages), "returns": dict(request.schema)})
