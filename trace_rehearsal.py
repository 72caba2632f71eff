"""`learn_from_trace`: from what other agents did to a plan, with the proof that the plan makes the same calls.

`planner/traces` proposes the plan; this module runs it with the executor, in memory: every tool is a stand-in that gives the results of the trace, and every
`ask` step gets the text that the trace's model made. The calls that the plan made are then compared with the calls of the trace, and so is their order where
it matters. Nothing in the world is called. It knows neither formats of traces nor how a plan is found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Final, cast

from typing_extensions import override

from .errors import InputRejected, ToolError
from .executor.calls.concurrency import FairSemaphore
from .executor.calls.facilities import Facilities
from .executor.journal.header import Header, default_seed
from .executor.journal.toolset_lock import ToolLock, ToolsetLock
from .executor.runs.execution import Execution
from .executor.runs.owner import MemoryPresence
from .executor.runs.request import fitted_inputs
from .executor.stores.sqlite_store import SqliteStore
from .planner.traces.calls import Call
from .planner.traces.learning import Proposal, Recording, Remark, StepOrigin, propose
from .planner.traces.origins import KINDS, shown
from .planner.traces.reading import TraceLike, read_traces
from .planner.traces.secrecy import masked
from .planner.traces.trace import Trace
from .plans import CheckReport, Plan, check
from .plans.edit.differences import differences
from .plans.signature import Effect
from .plans.values import Json, canonical, parse
from .tools import Context, ModelReply, ModelRequest, Models, Tool, Toolset, Usage, make_tool
from .tools.background import Background, call
from .tools.secret import Secrets
from .tools.types.schemas import SchemaTypes

if TYPE_CHECKING:
    from .executor import Run

__all__ = ["LearnedPlan", "TraceRehearsal", "learn_from_trace"]

NOT_RECORDED: Final = "not-recorded"
DIFFERENCES_SHOWN: Final = 12
PLACES_SHOWN: Final = 3
_CONTEXT: Final = "firmplan_context"


@dataclass(frozen=True, slots=True)
class TraceRehearsal:
    """The run of a learnt plan with the results of one trace.

    Attributes:
        trace: The name of the trace.
        calls: How many calls of the trace the plan had to make.
        made: How many of them it made, with the same arguments.
        asked: How many questions it put to a model.
        differences: A sentence for each difference; none: the plan makes the same calls, in an order that keeps effects.
    """

    trace: str
    calls: int
    made: int
    asked: int
    differences: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the plan made the calls of the trace."""
        return not self.differences

    def __str__(self) -> str:
        asked = (
            f", with {self.asked} answer{'' if self.asked == 1 else 's'} of its model" if self.asked else ""
        )
        if self.ok:
            calls = "the 1 call" if self.calls == 1 else f"the {self.calls} calls"
            return f"{self.trace}: the plan makes {calls} of the trace, with the same arguments, in an order that keeps effects{asked}"
        lines = [f"{self.trace}: the plan makes {self.made} of {self.calls} calls of the trace{asked}"]
        lines += [f"  {each}" for each in self.differences[:DIFFERENCES_SHOWN]]
        more = len(self.differences) - DIFFERENCES_SHOWN
        return "\n".join([*lines, *([f"  and {more} more"] if more > 0 else [])])

    def to_dict(self) -> dict[str, Json]:
        """Return the rehearsal as JSON."""
        return {
            "trace": self.trace,
            "ok": self.ok,
            "calls": self.calls,
            "made": self.made,
            "asked": self.asked,
            "differences": list(self.differences),
        }


@dataclass(frozen=True, slots=True)
class LearnedPlan:
    """A plan that was learnt from traces.

    Attributes:
        plan: The plan. Its inputs have the values of the first trace as defaults.
        report: The check of the plan with the tools.
        origins: Where each argument of each step comes from, with other possible explanations.
        remarks: What a person should know: calls that were dropped, arguments that nothing explains, ambiguities, secrets.
        rehearsals: The plan, run with the results of each trace.
    """

    plan: Plan
    report: CheckReport
    origins: tuple[StepOrigin, ...]
    remarks: tuple[Remark, ...]
    rehearsals: tuple[TraceRehearsal, ...]

    @property
    def ok(self) -> bool:
        """Whether the plan passes the check and makes the calls of all traces."""
        return self.report.ok and all(each.ok for each in self.rehearsals)

    def __str__(self) -> str:
        lines = [str(each) for each in self.rehearsals]
        lines += ["", "where the values come from:"]
        lines += [f"  {_origin_text(each)}" for each in self.origins]
        titles = (
            ("secret", "secrets (the plan names them and does not have them):"),
            ("unexplained", "not explained (constants in the plan; look at them):"),
            ("ambiguous", "more than one explanation:"),
            ("failed", "calls that failed, not in the plan:"),
            ("dropped", "calls that nothing used, not in the plan:"),
            ("left-out", "traces that are left out:"),
            ("trace", "about the traces:"),
        )
        for kind, title in titles:
            found = [
                f"  {each.place}{': ' if each.place else ''}{each.message}"
                for each in self.remarks
                if each.kind == kind
            ]
            lines += ["", title, *found] if found else []
        if not self.report.ok:
            lines += ["", "the check:", *(f"  {each}" for each in self.report.errors)]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Json]:
        """Return all of it as JSON."""
        return {
            "ok": self.ok,
            "plan": self.plan.to_dict(),
            "problems": [each.to_dict() for each in self.report.problems],
            "origins": [each.to_dict() for each in self.origins],
            "remarks": [each.to_dict() for each in self.remarks],
            "rehearsals": [each.to_dict() for each in self.rehearsals],
        }


def _origin_text(each: StepOrigin) -> str:
    origin = each.origin
    return f"{each.place} = {shown(origin.template)}  [{KINDS[origin.kind]}]"


def learn_from_trace(
    trace: TraceLike | Sequence[str | PathLike[str] | Trace],
    tools: Toolset | Sequence[Tool],
    *,
    task: str | None = None,
) -> LearnedPlan:
    """Return the plan that an agent's trace shows, checked and rehearsed with the results of the trace. Nothing in the world is called.

    A trace is a list of OpenAI chat messages, chat requests and responses, items of the Responses API, or OpenTelemetry GenAI spans; as JSON or JSON lines
    (docs/TRACES.md). Several traces of one task tell constants from inputs. Equal traces give equal plans.

    Args:
        trace: A file, what one holds, or a list of files of one task.
        tools: The tools that the agent called, as firmplan has them.
        task: The words of the task, if the trace does not have them.

    Raises:
        InputRejected: A file cannot be read, is no trace (the message names line and place), or has no call of which a plan could be made.
        ConfigError: The tools are none.
    """
    toolset = Toolset.of(tools)
    traces = _all_of(trace)
    proposal = propose(traces, toolset, task=task)
    rehearsals = tuple(_Rehearsal(proposal, recording, toolset).run() for recording in proposal.recordings)
    return LearnedPlan(proposal.plan, proposal.report, proposal.origins, proposal.remarks, rehearsals)


def _all_of(trace: object) -> list[Trace]:
    listed = list(cast("Sequence[object]", trace)) if isinstance(trace, list | tuple) else None
    if listed == []:
        raise InputRejected("expected a trace, found an empty list")
    is_many = listed is not None and all(isinstance(each, str | PathLike | Trace) for each in listed)
    sources = cast("Sequence[TraceLike]", listed if is_many else [trace])
    return [each for source in sources for each in read_traces(source)]


# --- The rehearsal


@dataclass(slots=True)
class _MadeCall:
    """A call of the rehearsal.

    Attributes:
        step: The path of the step.
        tool: The tool.
        args: The bound arguments.
        expected: The number of the trace's call that it is; `None`: the trace has no such call.
    """

    step: str
    tool: str
    args: bytes
    expected: int | None


@dataclass(slots=True)
class _Rehearsal:
    """Runs a plan with the results of one trace."""

    proposal: Proposal
    recording: Recording
    tools: Toolset
    made: list[_MadeCall] = field(default_factory=list[_MadeCall])
    types: dict[str, SchemaTypes] = field(default_factory=dict[str, SchemaTypes])
    bound: list[bytes] = field(default_factory=list[bytes])

    def run(self) -> TraceRehearsal:
        """Run the plan with the results of the trace, and return how it went."""
        calls = self.recording.calls
        names = sorted({each.name for each in calls})
        self.types = {name: self._types(name) for name in names}
        self.bound = [self._bound(each) for each in calls]
        models = _TraceModels(self.recording.answers)
        stand_ins = Toolset([self._stand_in(name) for name in names])
        # The tools as they are may refuse the plan (the report says so) where the stand-ins do not; what these refuse cannot run.
        report = check(self.proposal.plan, stand_ins)
        if report.ok:
            found = self._found(stand_ins, models)
        else:
            found = [f"the plan does not run: {report.errors[0]}"]
        done = sum(each.expected is not None for each in self.made)
        return TraceRehearsal(
            self.recording.name,
            len(calls),
            done,
            models.asked,
            tuple(masked(each, self.recording.hidden) for each in found),
        )

    def _found(self, tools: Toolset, models: Models) -> list[str]:
        """Run the plan, and return how its calls differ from those of the trace."""
        loop = Background()
        try:
            return self._differences(call(loop.loop, self._executed(tools, models)))
        except InputRejected as error:
            return [f"the plan does not run: {error}"]
        finally:
            loop.close()

    async def _executed(self, tools: Toolset, models: Models) -> Run:
        """Return the run of the plan."""
        # One call at a time, so that the order of the calls is the one that the plan allows first, in every rehearsal.
        facilities = Facilities(
            tools,
            models,
            SqliteStore(":memory:"),
            FairSemaphore(1),
            flow="off",
            secrets=Secrets(dict(self.recording.secrets)),
        )
        execution = Execution(facilities, MemoryPresence(), expires=False)
        await execution.open()
        try:
            plan = self.proposal.plan
            inputs = fitted_inputs(plan, self.recording.inputs)
            lock = ToolsetLock([ToolLock.of(tool) for tool in tools])
            header = Header(plan, inputs, default_seed(plan, inputs), lock, {}, plan.task, reuse="off")
            run_id = (await execution.submissions.submit(header, run_id="rehearsal")).id
            await execution.resume(run_id)
            return await execution.wait(run_id)
        finally:
            await execution.close()

    def _types(self, name: str) -> SchemaTypes:
        tool = self.tools.find(name)
        where = f"stand-in for '{name}'"
        if tool is None:
            return SchemaTypes(where, {"type": "object"}, None, _CONTEXT)
        return SchemaTypes(where, tool.parameters, tool.returns, _CONTEXT)

    def _bound(self, traced: Call) -> bytes:
        """Return the arguments of a call of the trace in the form in which the plan's calls arrive."""
        try:
            return self.types[traced.name].bind(traced.args)
        except ToolError:  # they do not fit the tool as it is now; the check of the plan says how
            return canonical(traced.args)

    def _stand_in(self, name: str) -> Tool:
        """Return a tool that has the types and effects of a tool, and the results of the trace."""
        tool = self.tools.find(name)

        async def play(firmplan_context: Context | None = None, **args: Json) -> Json:
            step = firmplan_context.step if firmplan_context is not None else ""
            return self._answer(step, name, canonical(cast("Json", args)))

        return make_tool(
            play,
            # The fingerprint would be that of all results of the trace, which `play` reaches.
            source=_recorded,
            types=self.types[name],
            name=name,
            description=tool.description if tool is not None else "",
            effect=(tool.effect if tool is not None else Effect.WRITE).value,
            resource=tool.resource if tool is not None else "world",
            # Nothing is called, so that whatever may be called again.
            idempotent=tool is None or tool.effect is Effect.WRITE,
            version="stand-in",
            default_results="warn",
        )

    def _answer(self, step: str, name: str, args: bytes) -> Json:
        calls = self.recording.calls
        taken = {each.expected for each in self.made}
        fitting = (
            at
            for at, each in enumerate(calls)
            if at not in taken and each.name == name and self.bound[at] == args
        )
        at = next(fitting, None)
        self.made.append(_MadeCall(step, name, args, at))
        if at is None:
            raise ToolError(f"the trace has no such call of '{name}'", code=NOT_RECORDED)
        return calls[at].result

    # --- the differences

    def _differences(self, run: Run) -> list[str]:
        found = [self._extra(each) for each in self.made if each.expected is None]
        made = {each.expected: order for order, each in enumerate(self.made) if each.expected is not None}
        calls = self.recording.calls
        found += [
            f"{each.traced.place}: the plan does not make the call of '{each.name}' with {_short(each.args)}"
            for at, each in enumerate(calls)
            if at not in made
        ]
        found += [
            f"the plan calls '{later.name}' ({later.traced.place}) before '{each.name}' ({each.traced.place}), and one of them may change what the "
            "other depends on"
            for at, each in enumerate(calls)
            for later_at, later in enumerate(calls[at + 1 :], at + 1)
            if at in made and later_at in made and made[at] > made[later_at] and each.conflicts_with(later)
        ]
        found += [
            f"step '{each.step}' failed: {each.message} [{each.code}]"
            for each in run.errors
            if each.code != NOT_RECORDED
        ]
        answer = self.recording.answer
        if not found and answer is not None and canonical(run.output) != canonical(answer):
            found.append(f"the plan gives {_short(run.output)}, and the agent answered {_short(answer)}")
        return found

    def _extra(self, each: _MadeCall) -> str:
        """Return the sentence about a call that the trace does not have: how it differs from the nearest call of the trace that the plan has not made."""
        taken = {made.expected for made in self.made}
        near = [
            differences(parse(self.bound[at]), parse(each.args))
            for at, one in enumerate(self.recording.calls)
            if one.name == each.tool and at not in taken
        ]
        nearest = min(near, key=len, default=None)
        how = (
            "" if nearest is None else "; it differs from one: " + "; ".join(map(str, nearest[:PLACES_SHOWN]))
        )
        return f"step '{each.step}' calls '{each.tool}' as the trace does not{how}"


async def _recorded() -> Json:
    """Stand for the code of every stand-in: its results are recorded."""
    return None


class _TraceModels(Models):
    """Models that give the texts that the trace's model made."""

    def __init__(self, answers: Mapping[str, Json]) -> None:
        super().__init__({})
        self._answers = answers
        self.asked = 0

    @override
    async def ask(
        self, request: ModelRequest, *, timeout_s: float | None = None, listener: object = None
    ) -> ModelReply:
        self.asked += 1
        return ModelReply(self._answers[request.step], Usage(), "trace", "")


def _short(value: Json) -> str:
    text = canonical(value).decode()
    return text if len(text) <= 120 else f"{text[:117]}..."
