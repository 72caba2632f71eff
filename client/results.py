"""From the server's documents to the values that an engine returns for the same calls.

A field that this version does not know is left out, so that a client reads the answers of a newer server. A document that lacks a field is a
`ServerError` with the code `bad-answer`: something else than firmplan answered.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

from ..executor import (
    EarlierCall,
    Event,
    Explanation,
    KeyChange,
    Origin,
    PlanUses,
    PlanVersion,
    Quote,
    Run,
    RunDiff,
    RunError,
    ShownArgument,
    StepDiff,
    StepView,
    ToolVerdict,
    Verification,
    WaitingCall,
    WaitingCalls,
)
from ..executor.execution_tree import RunWarning
from ..executor.journal.decision_history import RecordedDecision
from ..plans import CheckReport, Plan, Problem
from ..plans.edit.diff import PlanChange, PlanDiff
from ..plans.edit.differences import Difference
from ..plans.reports.problems import Bounds
from ..plans.types.read import read_schema
from ..plans.values import Json
from ..tools import ArtifactPreview, PreviewColumn

if TYPE_CHECKING:
    from ..executor import RunPage
    from ..schedules import Fire, Schedule

Document: TypeAlias = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PlanEntry:
    """A saved plan in the list of a server.

    Attributes:
        name: Its name.
        digest: The plan's digest.
        task: The pattern of the tasks that it answers.
        inputs: Input name -> JSON Schema.
        uses: How often it answered a task, and how often it only seemed to.
    """

    name: str
    digest: str
    task: str | None
    inputs: Mapping[str, Json]
    uses: PlanUses

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        own: dict[str, Json] = {"name": self.name, "digest": self.digest, "task": self.task}
        return {**own, "inputs": dict(self.inputs), **self.uses.to_dict()}


@dataclass(frozen=True, slots=True)
class ServedTool:
    """A tool of a server: what plans and planners know of it, never its code.

    Attributes:
        name: Its name.
        description: What it says of itself.
        effect: `pure`, `read`, `model` or `write`.
        parameters: JSON Schema of its arguments.
        returns: JSON Schema of its result; `None`: anything.
        resource: The resource that the effect touches.
        trust: `trusted` or `untrusted`.
        idempotent: Whether a write may be made again under the same key.
        asks_approval: Whether a person may be asked before a call.
        fingerprint: Digest of its code; `None`: it has none.
        opens: The names of the resources that its calls may open.
    """

    name: str
    description: str
    effect: str
    parameters: Mapping[str, Json]
    returns: Mapping[str, Json] | None = None
    resource: str = "world"
    trust: str = "trusted"
    idempotent: bool = False
    asks_approval: bool = False
    fingerprint: str | None = None
    opens: Sequence[str] = ()

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {each.name: cast("Json", getattr(self, each.name)) for each in fields(self)}


def run_in(data: Document) -> Run:
    """Return a run."""
    return _made(
        Run,
        data,
        errors=_each(_plain(RunError)),
        plan=plan_of,
        steps=lambda steps: {path: _step(step) for path, step in steps.items()},
        left_out=tuple,
        warnings=_each(_plain(RunWarning)),
    )


def plan_of(data: Document) -> Plan:
    """Return a plan."""
    return Plan.model_validate(data)


def page_of(data: Document) -> RunPage:
    """Return a page of a list of runs."""
    from ..executor import RunPage, RunSummary  # noqa: PLC0415  # its module loads what drives runs

    return RunPage(_each(_plain(RunSummary))(data["runs"]), data["cursor"])


def event_of(data: Document) -> Event:
    """Return a record of a journal."""
    return _made(Event, data)


def report_of(data: Document) -> CheckReport:
    """Return what a check found."""
    inferred = {path: read_schema(schema)[0] for path, schema in data["types"].items()}
    return CheckReport(problems_of(data["problems"]), _bounds(data["bounds"]), inferred)


def _cells(rows: list[list[str]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(row) for row in rows)


def preview_in(data: Document) -> ArtifactPreview:
    """Return the first rows of an artifact."""
    return _made(
        ArtifactPreview,
        data,
        columns=_each(_plain(PreviewColumn)),
        rows=_cells,
        shape=tuple,
    )


def problems_of(data: Sequence[Document]) -> tuple[Problem, ...]:
    """Return problems of a plan or of a request."""
    return _each(lambda each: _made(Problem, each, at=tuple))(data)


def waiting_of(data: Document) -> WaitingCalls:
    """Return the calls of a run that wait for a person."""
    return _made(WaitingCalls, data, calls=_each(_waiting_call))


def explanations_of(data: Document) -> list[Explanation]:
    """Return why each step ran or was reused."""
    return [_explanation(each) for each in data["steps"]]


def diff_of(data: Document, before: Plan, after: Plan) -> RunDiff:
    """Return what differs between two runs.

    Args:
        data: The document, which has only the changes of the plan.
        before: The plan of the first run.
        after: The plan of the second one.
    """
    steps = {each["step"]: _step_diff(each) for each in data["steps"]}
    changes = _each(_plain(PlanChange))(data["plan"])
    made: dict[str, Any] = {
        "steps": tuple(steps.values()),
        "plan": PlanDiff(changes, before, after),
        "first": steps.get(data["first"]),
    }
    return _made(
        RunDiff, {**data, **made}, status=tuple, inputs=_differences, output=_differences, usage=tuple
    )


def verification_of(data: Document) -> Verification:
    """Return the verdicts on the pure tools of a run."""
    return Verification(data["run"], _each(_verdict)(data["tools"]))


def plan_entries_of(data: Document) -> list[PlanEntry]:
    """Return the saved plans of a list."""
    return [
        PlanEntry(
            each["name"],
            each["digest"],
            each["task"],
            each["inputs"],
            PlanUses(each["hits"], **each["false_hits_by"]),
        )
        for each in data["plans"]
    ]


def saved_plan_of(data: Document) -> PlanEntry:
    """Return a plan that has just been saved; nobody has used it yet."""
    return PlanEntry(data["name"], data["digest"], data["task"], data["inputs"], PlanUses())


def versions_of(data: Document) -> list[PlanVersion]:
    """Return the versions of a saved plan."""
    return [
        PlanVersion(
            data["name"],
            each["version"],
            each["digest"] or "",
            each["text_digest"] or "",
            each["saved"],
            each["by"] or "",
        )
        for each in data["versions"]
    ]


def schedule_of(data: Document) -> Schedule:
    """Return a schedule."""
    from ..schedules.schedule import Schedule  # noqa: PLC0415  # its folder loads the tables of a store

    return Schedule.from_dict(data)


def schedules_of(data: Document) -> list[Schedule]:
    """Return the schedules of a list."""
    return [schedule_of(each) for each in data["schedules"]]


def fires_of(data: Document) -> list[Fire]:
    """Return times of a schedule."""
    from ..schedules.schedule import Fire  # noqa: PLC0415  # as above

    return [Fire.from_dict(each) for each in data["fires"]]


def served_tools_of(data: Document) -> list[ServedTool]:
    """Return the tools of a server."""
    return [_made(ServedTool, each) for each in data["tools"]]


def _step(data: Document) -> StepView:
    return _made(StepView, data, error=_plain(RunError))


def _bounds(data: Document) -> Bounds:
    return _made(Bounds, data, critical_path=tuple)


def _waiting_call(data: Document) -> WaitingCall:
    return _made(
        WaitingCall, data, args=_each(_argument), controlled_by=_each(_origin), last_time=_earlier_call
    )


def _argument(data: Document) -> ShownArgument:
    return _made(ShownArgument, data, origins=_each(_origin), quotes=_each(_plain(Quote)))


def _origin(data: Document) -> Origin:
    return _made(Origin, data, via=tuple)


def _earlier_call(data: Document) -> EarlierCall:
    return _made(EarlierCall, data, decisions=_each(_plain(RecordedDecision)))


def _explanation(data: Document) -> Explanation:
    return _made(
        Explanation,
        {**data, "run_id": data["run"]},
        changes=_each(_plain(KeyChange)),
        source=lambda call: (call["run"], call["step"]),
        parts=_each(_explanation),
        decisions=_each(_plain(RecordedDecision)),
    )


def _verdict(data: Document) -> ToolVerdict:
    return _made(ToolVerdict, data, differences=_differences)


def _step_diff(data: Document) -> StepDiff:
    pairs: dict[str, Any] = dict.fromkeys(("status", "reused", "cost", "seconds", "tokens"), tuple)
    return _made(StepDiff, data, output=_differences, args=_differences, **pairs)


def _made(kind: type[T], data: Document, **read: Callable[[Any], object]) -> T:
    """Return a value of a dataclass from its document.

    Args:
        kind: The dataclass; fields of the document that it does not have are left out.
        data: The document.
        read: Field -> the reader of its value, if that is more than plain JSON; null stays `None`.
    """
    known = _fields_of(cast("Hashable", kind))
    return kind(
        **{
            name: read[name](value) if name in read and value is not None else value
            for name, value in data.items()
            if name in known
        }
    )


@cache
def _fields_of(kind: Hashable) -> frozenset[str]:
    return frozenset(each.name for each in fields(cast("Any", kind)))


def _plain(kind: type[T]) -> Callable[[Document], T]:
    """Return the reader of a dataclass whose fields are plain JSON."""
    return lambda data: _made(kind, data)


def _each(read: Callable[[Any], T]) -> Callable[[Sequence[Any]], tuple[T, ...]]:
    """Return the reader of a list."""
    return lambda data: tuple(read(each) for each in data)


_differences: Final = _each(_plain(Difference))
