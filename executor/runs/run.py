"""`Run`: a snapshot of a run, for people and programs.

A snapshot is made from the execution tree of the run's machine (`archive.py`) and never updated: ask the engine for a newer one. The status, errors
and reasons of a step are derived here from its parts, so that every reader sees the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, cast

from typing_extensions import TypeVar

from ...errors import RunFailed
from ...plans.durations import time_text
from ...plans.immutable import frozen
from ...plans.reports.nearest import listing
from ...plans.values import Json
from ..budget import CACHED, GUARDS, added_verdicts, is_priced
from ..events import RunParked
from ..execution_tree import (
    INNER_FAILED,
    Failure,
    Frame,
    Item,
    Iteration,
    Node,
    RunWarning,
    is_asked,
    is_timed,
    undecided_attempt,
    walk,
)
from ..fork import root_of
from ..lru_cache import IdentityCache
from ..skip_rules import blocked_by_unknown
from ..states import FINAL, TERMINAL, Reason, RunStatus, State
from ..stores.store import REPLAY

if TYPE_CHECKING:
    from ...plans import Plan
    from ...plans.python_types import OutputType
    from ..fork import PastWrite
    from ..journal.header import Header
    from ..machine import Machine


PARKED: Final = "parked"  # the code of the error that says why a run is parked
NO_USAGE: Mapping[str, Json] = {
    "steps": 0,
    "calls": 0,
    "reused": 0,
    "model_calls": 0,
    "tokens": 0,
    "usd": 0.0,
    "seconds": 0.0,
}
"""The usage of a run in which no step has begun."""

_BECAME: Mapping[str, str] = {
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "was cancelled",
    RunStatus.OVER_BUDGET: "is over its budget",
    RunStatus.PARKED: "is parked",
}
_MAY_BE_TIMED: Final = frozenset({"running", "waiting", "indeterminate"})
# A step that has not ended has the worst state of its parts.
WENT_WRONG = (State.FAILED, State.CANCELLED)
WORST = (State.INDETERMINATE, State.RUNNING, State.WAITING, State.READY, State.PENDING)


@frozen
class RunError:
    """One failure.

    Attributes:
        step: Path of the leaf; empty if the failure is that of the run itself.
        temporary: Whether the same call may succeed later.
        took_effect: Whether the call is a write that took effect, and only its result was refused.
        traceback: The last frames of the error in the tool's own code, as Python prints them, of at most 100 calls of a run; empty: none are known. It
            is not in `to_dict`: it shows code of who runs the engine.
    """

    step: str
    code: str
    message: str
    temporary: bool = False
    took_effect: bool = False
    traceback: str = field(default="", compare=False, repr=False)

    def to_dict(self) -> dict[str, Json]:
        """Return the failure as JSON; `took_effect` is left out where it is false."""
        data = report_json(self)
        del data["traceback"]
        if not self.took_effect:
            del data["took_effect"]
        return data


@frozen
class StepView:
    """The snapshot of one step, item or iteration.

    Attributes:
        status: `pending running waiting indeterminate succeeded failed skipped cancelled`.
        output: The value; `None` unless the step succeeded.
        attempts: The number of calls that were started.
        reused: Whether an earlier result was used in place of the call; for a step with parts, whether that holds for all of them.
        cost: US dollars spent on model calls; `None`: a model was asked whose price nobody knows.
        started: Unix seconds, or `None`.
        finished: Unix seconds, or `None`.
        reason: Why the step was skipped or cancelled, or what it waits for.
        args: The arguments of the call, while a person has to decide about it; secrets by name.
        attempt: The attempt that a person has to decide about, counted from 1; `None`: no attempt waits. A decision may name it.
        decision: The decision of a person about the call: `decision`, and as far as they were given `by`, `reason` and the edited `args`.
        until: When its wait ends, in Unix seconds: that of a `wait` step, or the time in which a person can answer or decide; `None`: it waits for ever,
            or not at all.
        past_write: Why the step waits for a person in a fork, retry or patched run, where an earlier run has called it or a person has denied it there: `outcome`
            (`unknown`, `refused`, `denied`, `done`), `run`, `same_key` (whether the call, approved as it is, goes out under the earlier run's idempotency
            key) and `message`, a sentence.
        asked_again: Why a person is asked a second time about the call, a sentence: its tool has changed since they were asked.
        guards: The verdicts of the guards on its answers: guard -> how many answers `held` and were `refused`, and `why` the last refused one was;
            `None`: no guard was asked.
    """

    status: str
    output: Json = None
    attempts: int = 0
    reused: bool = False
    cost: float | None = 0.0
    started: float | None = None
    finished: float | None = None
    error: RunError | None = None
    reason: str | None = None
    output_digest: str | None = None
    args: Json = None
    attempt: int | None = None
    decision: Json = None
    past_write: Json = None
    guards: Json = None
    until: float | None = None
    asked_again: str | None = None

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        # Not `report_json`: it takes twice as long, and a large run has thousands of these.
        data: dict[str, Json] = {name: getattr(self, name) for name in self.__match_args__}
        data["error"] = self.error.to_dict() if self.error is not None else None
        return data


T = TypeVar("T", default=Any)
R = TypeVar("R")
V = TypeVar("V")


@dataclass(frozen=True)
class Run(Generic[T]):
    """A snapshot of a run; `Run[Report]` where `returns=Report` was asked for.

    Attributes:
        status: `queued running waiting indeterminate succeeded failed cancelled over_budget parked`.
        output: The plan's output; `None` unless the run succeeded.
        errors: The failures that `on_error` did not handle, in plan order. A parked run also has the calls that were in flight when it
            last lost its process.
        digest: The digest over plan, inputs, statuses and outputs; final when the run has succeeded or failed.
        plan: `None` while a task has not been planned.
        steps: Path -> snapshot of the step, in plan order, each step followed by its leaves.
        usage: `steps calls reused model_calls tokens usd seconds` of the steps; if a planner made the plan, `planning` has
            `model_calls tokens usd seconds` of the planning, patches included. A budget holds for both together. `usd` is `None` where
            a model was asked whose price nobody knows. `cached_tokens` is there where an endpoint had parts of prompts in its cache.
        parent: The run that this run replays, forks or retries.
        task: The words of the task, if there is one.
        created: Unix seconds.
        updated: Unix seconds.
        last_event: Number of the newest durable event: `events(id, after=last_event)` continues from this snapshot.
        abandoned: Whether the run is queued or running, but no process drives it; `resume` continues it.
        left_out: What of its task the plan does not do, and why, by the plan's own word and that of the saved plans that it runs: a run that
            succeeded has done the plan, which may be less than the task.
        warnings: What went other than declared and failed nothing, each `step code message`: a result that does not fit the declared type of its
            tool (`result-mismatch`), a part of the output that is null because it asks for an absent field (`absent-field`). Each is told once. `unfit-worker` stands
            there while the run waits for a worker whose tools fit: `get` says which steps would differ at the last one that tried.
        question: What the planner asks before it plans the task: `text`, and `returns`, the JSON Schema of the answer (`answer(id, None, ..)`);
            `None`: nothing.
        output_labels: The parts of `output` that were made with content from outside: place (`$` for all of it, `$.title`) -> names of the untrusted
            tools and inputs. Show these parts as data. From the plan alone, so a replay has the same; empty where there is no output.
        schedule: The schedule whose time made the run: `name` and `at` (Unix seconds); `None`: no schedule did.
        deadline: When the run is to have ended, in Unix seconds: later it is cancelled. `None`: it has no deadline.
        request_id: The id of the HTTP request that submitted the run; `None`: there was none.
        priority: Which runs get a place before it where runs wait for one: from 1, first, to 5, last; `None`: none was given, which is as 3.
    """

    id: str
    status: str
    output: Json = None
    errors: tuple[RunError, ...] = ()
    digest: str = ""
    plan: Plan | None = None
    inputs: Mapping[str, Json] = field(default_factory=dict[str, Json])
    steps: Mapping[str, StepView] = field(default_factory=dict[str, StepView])
    usage: Mapping[str, Json] = field(default_factory=dict[str, Json])
    parent: str | None = None
    task: str | None = None
    created: float | None = None
    updated: float | None = None
    last_event: int = 0
    abandoned: bool = False
    left_out: tuple[str, ...] = ()
    # Not in the text of a run, for which they would have to be found: `asyncio.run` makes it of each run that a program returns.
    output_labels: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]], repr=False)
    warnings: tuple[RunWarning, ...] = ()
    question: Mapping[str, Json] | None = None
    schedule: Mapping[str, Json] | None = None
    request_id: str | None = None
    deadline: float | None = None
    priority: int | None = None

    @property
    def until(self) -> float | None:
        """When the first `wait` step that waits goes on, in Unix seconds; `None`: none does."""
        steps = self.steps.values() if self.status in _MAY_BE_TIMED else ()
        times = (step.until for step in steps if step.reason == Reason.TIMER and step.until is not None)
        return min(times, default=None)

    @property
    def due(self) -> float | None:
        """When the run goes on by itself, in Unix seconds: a `wait` step ends, a question or an approval expires, or its deadline comes; `None`: never."""
        if self.status in FINAL:
            return None
        times = [step.until for step in self.steps.values() if step.until is not None]
        return min([*times, *([] if self.deadline is None else [self.deadline])], default=None)

    _wanted: ClassVar[OutputType[Any] | None] = None  # of one run: a field would be shown and compared

    @property
    def value(self) -> T:
        """The output as a value of the type that `returns=` asked for; without one the output itself.

        Raises:
            RunFailed: The run has not succeeded, or its output is no value of the type.
        """
        self.raise_for_status()
        wanted = self._wanted
        if wanted is None:
            return cast("T", self.output)
        made = self.__dict__
        if "_value" not in made:
            try:
                made["_value"] = wanted.read(self.output)
            except ValueError as fault:
                raise RunFailed(
                    f"run {self.id} succeeded, and its output is no {wanted.name}: {fault}", self
                ) from fault
        return cast("T", made["_value"])

    def typed(self, returns: type[R] | Mapping[str, Any]) -> Run[R]:
        """Return the run with an output of a type: `run.typed(Report).value` is a `Report`.

        Args:
            returns: A Python type that JSON can carry, or a JSON Schema, which `value` then has to fit.

        Raises:
            ConfigError: The type is none that JSON can carry.
        """
        from ...plans.python_types import OutputType  # noqa: PLC0415  # only where it is asked for

        return self.of_type(OutputType(returns))

    def of_type(self, wanted: OutputType[R]) -> Run[R]:
        """Return the run with an output of a type that was read before, as `typed` does."""
        made = copy(self)
        made.__dict__.pop("_value", None)
        made.__dict__["_wanted"] = wanted
        return cast("Run[R]", made)

    @property
    def is_replay(self) -> bool:
        """Whether it is a kept replay, which repeats its parent from the journal and never continues."""
        return self.parent is not None and self.id.startswith(REPLAY)

    def tracebacks(self) -> dict[str, str]:
        """Return path -> the last frames of each failed call in its tool's own code, as far as they are on record (`RunError.traceback`)."""
        return {
            path: step.error.traceback
            for path, step in self.steps.items()
            if step.error is not None and step.error.traceback
        }

    def raise_for_status(self) -> Run[T]:
        """Return the run if it succeeded.

        Raises:
            RunFailed: The run did not succeed; the message names the first error, or what the run waits for.
        """
        if self.status == RunStatus.SUCCEEDED:
            return self
        raise RunFailed(f"run {self.id} {_BECAME.get(self.status, f'is {self.status}')}{self._why()}", self)

    def _why(self) -> str:
        if self.errors:
            first = self.errors[0]
            return f": step '{first.step}': {first.message}" if first.step else f": {first.message}"
        waiting = [(path, step) for path, step in self.steps.items() if step.args is not None]
        if waiting:
            path, step = waiting[0]
            return f": step '{path}' waits for {step.reason or 'a person to say what became of it'}"
        timed = [
            (path, step.until)
            for path, step in self.steps.items()
            if step.reason == Reason.TIMER and step.until
        ]
        if timed:
            return f": step '{timed[0][0]}' waits until {time_text(timed[0][1])}"
        return ": it waits for a larger one" if self.status == RunStatus.OVER_BUDGET else ""

    def to_dict(self) -> dict[str, Any]:
        """Return the run as JSON."""
        return run_json(self, self.plan.to_dict() if self.plan else None)


def run_json(run: Run, plan: object) -> dict[str, Any]:
    """Return a run as JSON, with `plan` in the place of its plan: a server has written that already, and answers with it again and again."""
    apart: dict[str, object] = {
        "plan": plan,
        "warnings": [report_json(warning) for warning in run.warnings],
        "steps": {path: step.to_dict() for path, step in run.steps.items()},
        "output_labels": {place: list(names) for place, names in run.output_labels.items()},
    }
    made = {name: apart[name] if name in apart else _json_of(getattr(run, name)) for name in _names(Run)}
    return {**made, "plan_digest": run.plan.digest if run.plan else None}


# Those of an artifact. Descriptions of frames and the like have more (`tools/codecs`).
ARTIFACT_KEYS: Final = {"digest", "media_type", "size", "name"}


def artifacts_in(run: Run) -> Iterator[dict[str, Json]]:
    """Yield the artifacts in the inputs, the output and the steps of a run, each as often as it stands there."""
    return artifacts_within(dict(run.inputs), run.output, *(step.output for step in run.steps.values()))


def artifacts_within(*values: Json) -> Iterator[dict[str, Json]]:
    """Yield the artifacts in some values, each as often as it stands there."""
    waiting: list[Json] = list(values)
    while waiting:
        value = waiting.pop()
        match value:
            case dict() if value.keys() >= ARTIFACT_KEYS and str(value["digest"]).startswith("sha256:"):
                yield value
            case dict():
                waiting.extend(value.values())
            case list():
                waiting.extend(value)
            case _:
                pass


# --- reports as JSON


def report_json(report: object, **renamed: str) -> dict[str, Json]:
    """Return the fields of a report as JSON, nested reports included.

    Args:
        report: The report, a dataclass.
        renamed: Field -> its name in JSON, where the names differ.
    """
    return {renamed.get(name, name): _json_of(getattr(report, name)) for name in _names(type(report))}


_NAMES: Final = dict[type[object], tuple[str, ...]]()


def _names(kind: type[object]) -> tuple[str, ...]:
    found = _NAMES.get(kind)
    if found is None:
        found = _NAMES[kind] = tuple(each.name for each in fields(cast("Any", kind)))
    return found


_PLAIN: Final = frozenset((str, int, float, bool, type(None)))


def _json_of(value: object) -> Json:
    if type(value) in _PLAIN:  # most are, and the questions below take longer
        return value  # type: ignore[return-value]  # a call of `cast` takes longer, too
    if hasattr(value, "to_dict"):
        return cast("Json", cast("Any", value).to_dict())
    if isinstance(value, tuple):
        return [_json_of(each) for each in cast("Sequence[object]", value)]
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Json]", value))
    return cast("Json", value)


# --- from a machine to its snapshot


def run_status(machine: Machine) -> RunStatus:
    """Return the status of a run from its machine."""
    if machine.status is not None:
        return machine.status
    if not machine.is_started:
        return RunStatus.QUEUED
    if machine.parked is not None:
        return RunStatus.PARKED
    if not machine.is_stuck():
        return RunStatus.RUNNING
    # The worst of what the run waits for: an unknown outcome needs a person to find something out, an approval only a yes.
    iterations = machine.iterations.values()
    if any(iteration.state is State.INDETERMINATE for iteration in iterations):
        return RunStatus.INDETERMINATE
    is_waiting = any(is_asked(iteration) or is_timed(iteration) for iteration in iterations)
    return RunStatus.WAITING if is_waiting else RunStatus.OVER_BUDGET


class Deferred(Mapping[str, V]):
    """A part of a snapshot that is made at the first access: most callers want only the output, and a large run has many steps.

    Args:
        make: Makes the part. It is forgotten then, with all that it needed.
    """

    def __init__(self, make: Callable[[], Mapping[str, V]]) -> None:
        self._make: Callable[[], Mapping[str, V]] | None = make
        self._made: Mapping[str, V] = {}

    def _known(self) -> Mapping[str, V]:
        if self._make is not None:
            self._made, self._make = self._make(), None
        return self._made

    def __getitem__(self, name: str) -> V:
        return self._known()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known())

    def __len__(self) -> int:
        return len(self._known())

    def __repr__(self) -> str:
        return repr(self._known())

    def __reduce__(self) -> tuple[type[dict[str, V]], tuple[dict[str, V]]]:
        return dict, (dict(self._known()),)


def output_labels(header: Header) -> Mapping[str, Sequence[str]]:
    """Return the labels of a run's output, by the tools as the run knows them; the header has a plan."""
    # Deferred, since they need the plan's information flow.
    return Deferred(lambda: _LABELS.get(header, _output_labels))


def _output_labels(header: Header) -> Mapping[str, Sequence[str]]:
    from ...plans.checker.flow.labels import UNNAMED  # noqa: PLC0415  # a warm run does not ask
    from ...plans.checker.flow.sources import Sources  # noqa: PLC0415  # as above

    if header.plan is None:
        return {}
    found = Sources(header.plan, header.lock, header.plans, header.written).of_output()
    return found | {"$": (*found.get("$", ()), UNNAMED)} if "" in header.written else found


_LABELS: Final = IdentityCache["Header", Mapping[str, Sequence[str]]](
    8
)  # a run that is followed is shown often


def step_views(machine: Machine) -> Mapping[str, StepView]:
    """Return the snapshots of all steps, items and iterations, in plan order."""
    if not machine.is_started and machine.status is None:  # cancelled before it began, it has ended
        return dict.fromkeys([node.path for node in machine.root.nodes], _NOT_BEGUN)
    # Lazy only if the run has ended: the machine of a driven run goes on, and a snapshot must not change.
    return Deferred(lambda: _views_of(machine)) if machine.status is not None else _views_of(machine)


_NOT_BEGUN: Final = StepView(State.PENDING.value)
"""The view of each step of a run that has not begun: a submission is answered with it."""


# The machine knows parts (items, iterations, inner steps), and readers ask for steps. Everything that a view says of a step with parts follows from
# its parts here, and is stored nowhere: so no version can store it differently.
def _views_of(machine: Machine) -> dict[str, StepView]:
    views: dict[str, StepView] = {part.path: _view(part) for part in walk(machine.root)}
    if machine.fork.past_writes or machine.fork.unknown or machine.fork.done_writes:
        for iteration in machine.iterations.values():
            if (past := machine.past_write_of(iteration)) is not None and iteration.call is not None:
                views[iteration.path] = replace(
                    views[iteration.path], past_write=_past_write(past, iteration.call.digest)
                )
    # In the machine these steps are pending, since a decision about the unknown write may still let them run; readers see what blocks them.
    if any(iteration.state is State.INDETERMINATE for iteration in machine.iterations.values()):
        for path, reason in blocked_by_unknown(machine.root).items():
            views[path] = replace(views[path], status=State.SKIPPED.value, reason=reason.value)
    return views


def _past_write(past: PastWrite, args: str) -> Json:
    """Return what an earlier run knows of a call, for the person who decides about a call with these arguments."""
    same_key = bool(past.key) and past.args == args
    return {"outcome": past.outcome, "run": past.run, "same_key": same_key, "message": past.describe(args)}


def run_errors(machine: Machine) -> tuple[RunError, ...]:
    """Return the failures that nothing handled, in plan order, each at its leaf."""
    found = list(_errors(machine.root))
    if machine.failure is not None:
        found.append(_error_of("", machine.failure))
    if machine.parked is not None and machine.status is None:
        found += parked_errors(machine.parked)
    return tuple(found)


def parked_errors(parked: RunParked) -> list[RunError]:
    """Return an error that says why a run is parked, at each call that was in flight when it last lost its process."""
    message = parked_message(parked)
    return [RunError(str(call["step"]), PARKED, message) for call in parked.calls] or [
        RunError("", PARKED, message)
    ]


def parked_message(parked: RunParked) -> str:
    """Return why a run is parked, as a sentence that names the calls that were in flight."""
    calls = [
        f"step '{call['step']}' " + (f"(tool '{call['tool']}')" if "tool" in call else "(a prompt)")
        for call in parked.calls
    ]
    return _parked(parked.deaths, f"in flight: {listing(calls)}" if calls else "no call was in flight")


def parked_planning_message(deaths: int) -> str:
    """Return why a task is parked whose process died while the plan was made."""
    return _parked(deaths, "its plan was being made")


def _parked(deaths: int, when: str) -> str:
    times = "once" if deaths == 1 else f"{deaths} times in a row"
    return (
        f"its process died {times} without progress of the run; {when}; find the cause, then resume the run"
    )


def run_usage(machine: Machine) -> dict[str, Json]:
    """Return the usage of a run's steps so far."""
    budget = machine.budget
    steps = calls = reused = 0
    model_calls: float = 0
    tokens: float = 0
    cached: float = 0
    usd: float | None = 0.0
    for iteration in machine.iterations.values():
        steps += iteration.attempts > 0
        calls += iteration.attempts
        reused += iteration.reused
        if (usage := iteration.usage) is not None:
            model_calls += _number(usage, "calls")
            tokens += _number(usage, "tokens")
            cached += _number(usage, CACHED)
            usd = _added_usd(usd, usage)
    made: dict[str, Json] = {
        "steps": steps,
        "calls": calls,
        "reused": reused,
        "model_calls": model_calls,
        "tokens": tokens,
        "usd": usd,
        "seconds": budget.spent["seconds"] - budget.planning.get("seconds", 0.0),
    }
    if cached:
        made[CACHED] = cached
    # Only where it is limited: runs of earlier versions are shown as they were.
    return {**made, "items": int(budget.spent["items"])} if "items" in budget.limits else made


def with_planning(usage: Mapping[str, Json], header: Header) -> dict[str, Json]:
    """Return the usage of a run's steps, with the usage of its planning if a planner made the plan."""
    match header.planning:
        case {"cost": dict(cost)}:
            return {**usage, "planning": dict(cost)}
        case _:
            return dict(usage)


def _added_usd(usd: float | None, usage: Mapping[str, Json]) -> float | None:
    """Return a sum of prices with the price of another call; `None`: a model was asked whose price nobody knows."""
    if usd is None or not is_priced(usage):
        return None
    return usd + _number(usage, "usd")


def _cost_of(iterations: Sequence[Iteration]) -> float | None:
    """Return the price of the model calls of a step; `None`: nobody knows it."""
    usd: float | None = 0.0
    for iteration in iterations:
        if iteration.usage is not None:
            usd = _added_usd(usd, iteration.usage)
    return usd


def _number(usage: Mapping[str, Json], name: str) -> int | float:
    value = usage.get(name)
    return value if isinstance(value, int | float) else 0


def _errors(frame: Frame) -> Iterator[RunError]:
    if frame.is_well:  # as most are: no step has failed, and none was cancelled
        return
    for node in frame.nodes:
        if node.state not in WENT_WRONG:
            continue
        # Errors of the innermost parts only: the failure of a step with failed parts says nothing more.
        inner = [error for item in node.items if item.state in WENT_WRONG for error in _item_errors(item)]
        yield from inner
        if not inner and node.failure is not None:
            yield _error(node)


def _item_errors(item: Item) -> Iterator[RunError]:
    last = item.iterations[-1] if item.iterations else None
    if last is not None and last.frames and last.failure in (None, INNER_FAILED):
        yield from _errors(last.frames[-1])
    elif last is not None and last.failure is not None:
        yield _error(last)
    elif item.failure is not None:
        yield _error(item)


def _error(part: Iteration) -> RunError:
    failure = part.failure
    if failure is None:
        return RunError(part.path, "failed", "a part of it failed")
    return _error_of(part.path, failure)


def _error_of(path: str, failure: Failure) -> RunError:
    return RunError(
        path, failure.code, failure.message, failure.temporary, failure.took_effect, failure.frames
    )


def _view(part: Iteration) -> StepView:
    iterations = list(iterations_of(part))
    ends = [iteration.finished for iteration in iterations if iteration.finished is not None]
    starts = [iteration.started for iteration in iterations if iteration.started is not None]
    is_over = part.state in TERMINAL
    # What is of one call alone is shown only where the part is that call: nobody decides about several calls together.
    leaf = iterations[0] if len(iterations) == 1 and iterations[0].path == part.path else None
    failure = part.failure or (leaf.failure if leaf is not None else None)
    attempt = undecided_attempt(leaf) if leaf is not None else None
    asked = leaf if attempt is not None else None
    return StepView(
        status=_status(part, iterations),
        output=part.output.value if part.output else None,
        attempts=sum(iteration.attempts for iteration in iterations),
        reused=bool(iterations) and all(iteration.reused for iteration in iterations),
        cost=_cost_of(iterations),
        started=min(starts, default=None),
        finished=max(ends, default=getattr(part, "finished", None)) if is_over else None,
        error=_error_of(part.path, failure) if failure else None,
        reason=_reason(part, iterations),
        output_digest=part.output.digest if part.output else None,
        args=_shown(asked),
        attempt=attempt,
        decision=leaf.decision.to_dict() if leaf is not None and leaf.decision is not None else None,
        guards=_guards(iterations),
        until=None if is_over else _until(iterations),
        asked_again=(asked.why_anew or None) if asked is not None else None,
    )


def _shown(asked: Iteration | None) -> Json:
    """Return what a person sees of the call that waits."""
    if asked is None or asked.call is None:
        return None
    if asked.question is None:
        return asked.call.value
    # What the tool needs to go on is its own, and may be long.
    given = cast("dict[str, Json]", asked.question.value)
    return {"question": given["question"], "returns": given["returns"]}


def _until(iterations: list[Iteration]) -> float | None:
    """Return when the first wait of a part ends that has an end."""
    times = (each.until for each in iterations if each.state is State.WAITING and each.until is not None)
    return min(times, default=None)


def _guards(iterations: list[Iteration]) -> Json:
    """Return the verdicts of the guards on all calls of a part."""
    found: dict[str, Json] = {}
    for iteration in iterations:
        if iteration.usage is not None:
            found = added_verdicts(found, iteration.usage.get(GUARDS))
    return cast("Json", found) or None


def iterations_of(part: Iteration) -> Iterator[Iteration]:
    """Yield the calls and values that a step, item or iteration consists of."""
    if isinstance(part, Node) and part.state is State.WAITING and not part.items:
        yield part  # its items wait for a larger budget, and are not made yet
    items: Sequence[Iteration] = part.items if isinstance(part, Node) else (part,)
    for item in items:
        for iteration in item.iterations if isinstance(item, Item) else (item,):
            if iteration.is_leaf:
                yield iteration
            for frame in iteration.frames:
                for node in frame.nodes:
                    yield from iterations_of(node)


def _status(part: Iteration, iterations: list[Iteration]) -> str:
    if part.state in TERMINAL:
        return part.state.value
    states = {iteration.state for iteration in iterations}
    worst = next((state for state in WORST if state in states), part.state)
    is_under_way = len(iterations) > 1 or any(state in TERMINAL for state in states)
    if worst in (State.READY, State.PENDING):
        return State.RUNNING.value if is_under_way else State.PENDING.value
    return worst.value


def _reason(part: Iteration, iterations: list[Iteration]) -> str | None:
    if part.reason is not None:
        return part.reason.value
    waiting = [
        iteration.reason
        for iteration in iterations
        if iteration.state is State.WAITING and iteration.reason is not None
    ]
    return waiting[0].value if waiting else None


# --- amounts for people: one way to count and one way to round; programs get the exact numbers


def steps_in(paths: Iterable[str]) -> int:
    """Return the number of steps among these paths. Each step of the plan's own list counts once, whatever its items, iterations and inner steps."""
    return len({root_of(path) for path in paths})


def counted(count: int, noun: str = "step") -> str:
    """Return a number of things as text: `1 step`, `2 steps`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def and_more(lines: Sequence[str], count: int, rest: str = "more") -> list[str]:
    """Return the first lines of a long list, and a line that says how many of all `count` are not shown."""
    left = count - len(lines)
    return [*lines, f"and {left} {rest}"] if left > 0 else list(lines)


def amount(value: float) -> str:
    """Return an amount as text: integers as they are, other numbers rounded, small ones to three digits."""
    if isinstance(value, int):
        return str(value)
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}".rstrip("0").rstrip(".")
