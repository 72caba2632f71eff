"""`Run`: a snapshot of a run, for people and programs.

Made from the machine's cells (`snapshot`), never kept up to date: ask the engine for a newer one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from ...errors import RunFailed
from ...plans.nearest import listing
from ...plans.values import Json
from ..events import RunParked
from ..execution_tree import (
    INNER_FAILED,
    Failure,
    Frame,
    Item,
    Iteration,
    Node,
    is_asked,
    undecided_attempt,
    walk,
)
from ..fork import root_of
from ..skip_rules import blocked_by_unknown
from ..states import TERMINAL, RunStatus, State
from ..stores.store import REPLAY

if TYPE_CHECKING:
    from ...plans import Plan
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
"""Of a run no step of which has begun."""

_BECAME: Mapping[str, str] = {
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "was cancelled",
    RunStatus.OVER_BUDGET: "is over its budget",
    RunStatus.PARKED: "is parked",
}
# The worst state of a part is the state of the whole, as long as the whole has not ended.
WENT_WRONG = (State.FAILED, State.CANCELLED)
WORST = (State.INDETERMINATE, State.RUNNING, State.WAITING, State.READY, State.PENDING)


@dataclass(frozen=True, slots=True)
class RunError:
    """One failure.

    Attributes:
        step: Path of the leaf, empty for the run as a whole.
        temporary: Whether the same call may succeed later.
        took_effect: Whether it is a write that is done: only its result was refused.
    """

    step: str
    code: str
    message: str
    temporary: bool = False
    took_effect: bool = False

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON; `took_effect` stands in it where it is true."""
        said: dict[str, Json] = {"step": self.step, "code": self.code, "message": self.message}
        said["temporary"] = self.temporary
        return said | {"took_effect": True} if self.took_effect else said


@dataclass(frozen=True, slots=True)
class StepView:
    """One step, item or iteration as a person sees it.

    Attributes:
        status: `pending running waiting indeterminate succeeded failed skipped cancelled`.
        output: The value; `None` unless succeeded.
        attempts: Calls started.
        reused: An earlier result stood for the call (for a step of parts: for all of them).
        cost: US dollars spent on model calls, as far as prices are known.
        started: Unix seconds, or `None`.
        finished: Unix seconds, or `None`.
        reason: Why it was skipped or cancelled, or what it waits for.
        args: What it would be called with, while a person has to decide about the call; secrets by name.
        attempt: The attempt that a person has to decide about, counted from 1; `None`: no attempt waits. A decision may name it.
        decision: What a person decided about it: `decision`, and as far as they were given `by`, `reason` and the edited `args`.
        past_write: Why the step waits for a person in a fork, retry or patched run, where an earlier run has called it or a person has denied it there: `outcome`
            (`unknown`, `refused`, `denied`, `done`), `run`, `same_key` (whether the call, approved as it is, goes out under the earlier run's idempotency
            key) and `message`, a sentence.
    """

    status: str
    output: Json = None
    attempts: int = 0
    reused: bool = False
    cost: float = 0.0
    started: float | None = None
    finished: float | None = None
    error: RunError | None = None
    reason: str | None = None
    output_digest: str | None = None
    args: Json = None
    attempt: int | None = None
    decision: Json = None
    past_write: Json = None

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {
            "status": self.status,
            "output": self.output,
            "attempts": self.attempts,
            "reused": self.reused,
            "cost": self.cost,
            "started": self.started,
            "finished": self.finished,
            "error": self.error.to_dict() if self.error else None,
            "reason": self.reason,
            "output_digest": self.output_digest,
            "args": self.args,
            "attempt": self.attempt,
            "decision": self.decision,
            "past_write": self.past_write,
        }


@dataclass(frozen=True)
class Run:
    """A run as it stood when it was asked for.

    Attributes:
        status: `queued running waiting indeterminate succeeded failed cancelled over_budget parked`.
        output: The plan's output; `None` unless succeeded.
        errors: Failures in plan order; those that `on_error` handled are not among them. Of a parked run also the calls that were in
            flight when it last lost its process.
        digest: Over plan, inputs, statuses and outputs; final once succeeded or failed.
        plan: `None` while a task has not been planned.
        steps: Path -> view, in plan order, each step followed by its leaves.
        usage: `steps calls reused model_calls tokens usd seconds` of its steps; where a planner began it, `planning` has
            `model_calls tokens usd seconds` of making its plan, patches included. A budget holds for both together.
        parent: The run that this one replays or forks.
        task: The words it came from, if any.
        created: Unix seconds.
        updated: Unix seconds.
        last_event: Number of its newest durable event: `events(id, after=last_event)` goes on from this snapshot.
        abandoned: It is queued or running, but no process drives it any more: `resume` goes on with it.
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

    @property
    def is_replay(self) -> bool:
        """Whether it is a kept replay, which tells what happened in its parent and never goes on."""
        return self.parent is not None and self.id.startswith(REPLAY)

    def raise_for_status(self) -> Run:
        """Return the run if it succeeded.

        Raises:
            RunFailed: It did not; the message names the first error, or what it waits for.
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
        return ": it waits for a larger one" if self.status == RunStatus.OVER_BUDGET else ""

    def to_dict(self) -> dict[str, Any]:
        """Return the whole as JSON."""
        return {
            "id": self.id,
            "status": self.status,
            "output": self.output,
            "errors": [error.to_dict() for error in self.errors],
            "digest": self.digest,
            "plan": self.plan.to_dict() if self.plan else None,
            "plan_digest": self.plan.digest if self.plan else None,
            "inputs": dict(self.inputs),
            "steps": {path: step.to_dict() for path, step in self.steps.items()},
            "usage": dict(self.usage),
            "parent": self.parent,
            "task": self.task,
            "created": self.created,
            "updated": self.updated,
            "last_event": self.last_event,
            "abandoned": self.abandoned,
        }


def run_status(machine: Machine) -> RunStatus:
    """Return where the run stands."""
    if machine.status is not None:
        return machine.status
    if not machine.is_started:
        return RunStatus.QUEUED
    if machine.parked is not None:
        return RunStatus.PARKED
    if not machine.is_stuck():
        return RunStatus.RUNNING
    iterations = machine.iterations.values()
    if any(iteration.state is State.INDETERMINATE for iteration in iterations):
        return RunStatus.INDETERMINATE
    return (
        RunStatus.WAITING if any(is_asked(iteration) for iteration in iterations) else RunStatus.OVER_BUDGET
    )


class StepViews(Mapping[str, StepView]):
    """The steps of a run that has ended, made when someone first looks: most people want only the output."""

    def __init__(self, machine: Machine) -> None:
        self._machine: Machine | None = machine
        self._views: dict[str, StepView] = {}

    def _made(self) -> dict[str, StepView]:
        machine = self._machine
        if machine is not None:
            self._views = _views_of(machine)
            self._machine = None
        return self._views

    def __getitem__(self, path: str) -> StepView:
        return self._made()[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made())

    def __len__(self) -> int:
        return len(self._made())

    def __repr__(self) -> str:
        return repr(self._made())

    def __reduce__(self) -> tuple[type[dict[str, StepView]], tuple[dict[str, StepView]]]:
        return dict, (self._made(),)


def step_views(machine: Machine) -> Mapping[str, StepView]:
    """Return the view of every cell, in plan order."""
    return StepViews(machine) if machine.status is not None else _views_of(machine)


def _views_of(machine: Machine) -> dict[str, StepView]:
    views: dict[str, StepView] = {cell.path: _view(cell) for cell in walk(machine.root)}
    if machine.fork.past_writes or machine.fork.unknown or machine.fork.done_writes:
        for iteration in machine.iterations.values():
            if (past := machine.past_write_of(iteration)) is not None and iteration.call is not None:
                views[iteration.path] = replace(
                    views[iteration.path], past_write=_past_write(past, iteration.call.digest)
                )
    if any(iteration.state is State.INDETERMINATE for iteration in machine.iterations.values()):
        for path, reason in blocked_by_unknown(machine.root).items():
            views[path] = replace(views[path], status=State.SKIPPED.value, reason=reason.value)
    return views


def _past_write(past: PastWrite, args: str) -> Json:
    """Return what is known of an earlier run's call, for the person who decides about a call with these arguments."""
    same_key = bool(past.key) and past.args == args
    return {"outcome": past.outcome, "run": past.run, "same_key": same_key, "message": past.told(args)}


def run_errors(machine: Machine) -> tuple[RunError, ...]:
    """Return the failures that nothing handled, in plan order, each at its leaf."""
    found = list(_errors(machine.root))
    if machine.failure is not None:
        found.append(_error_of("", machine.failure))
    if machine.parked is not None and machine.status is None:
        found += parked_errors(machine.parked)
    return tuple(found)


def parked_errors(parked: RunParked) -> list[RunError]:
    """Return why a run is parked, as an error at each call that was in flight when it last lost its process."""
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
    """Return why a task is parked that died while its plan was made."""
    return _parked(deaths, "its plan was being made")


def _parked(deaths: int, when: str) -> str:
    times = "once" if deaths == 1 else f"{deaths} times in a row"
    return (
        f"its process died {times} without progress of the run; {when}; find the cause, then resume the run"
    )


def run_usage(machine: Machine) -> dict[str, Json]:
    """Return what the run has used so far."""
    steps = calls = reused = 0
    model_calls: float = 0
    tokens: float = 0
    usd = 0.0
    for iteration in machine.iterations.values():
        steps += iteration.attempts > 0
        calls += iteration.attempts
        reused += iteration.reused
        if (usage := iteration.usage) is not None:
            model_calls += _number(usage, "calls")
            tokens += _number(usage, "tokens")
            usd += _number(usage, "usd")
    return {
        "steps": steps,
        "calls": calls,
        "reused": reused,
        "model_calls": model_calls,
        "tokens": tokens,
        "usd": usd,
        "seconds": machine.budget.own["seconds"],
    }


def with_planning(usage: Mapping[str, Json], header: Header) -> dict[str, Json]:
    """Return the usage of a run's steps with that of its planning, where a planner began the run."""
    match header.planning:
        case {"cost": dict(cost)}:
            return {**usage, "planning": dict(cost)}
        case _:
            return dict(usage)


def _number(usage: Mapping[str, Json], name: str) -> int | float:
    value = usage.get(name)
    return value if isinstance(value, int | float) else 0


def _errors(frame: Frame) -> Iterator[RunError]:
    for node in frame.nodes:
        if node.state not in WENT_WRONG:
            continue
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


def _error(cell: Iteration) -> RunError:
    failure = cell.failure
    if failure is None:
        return RunError(cell.path, "failed", "a part of it failed")
    return _error_of(cell.path, failure)


def _error_of(path: str, failure: Failure) -> RunError:
    return RunError(path, failure.code, failure.message, failure.temporary, failure.took_effect)


def _view(cell: Iteration) -> StepView:
    if cell.state is State.SUCCEEDED and (only := _only_iteration(cell)) is not None:
        return _view_of_success(cell, only)
    iterations = list(iterations_of(cell))
    ends = [iteration.finished for iteration in iterations if iteration.finished is not None]
    starts = [iteration.started for iteration in iterations if iteration.started is not None]
    is_over = cell.state in TERMINAL
    failure = _own_failure(cell, iterations)
    asked = _undecided(cell, iterations)
    return StepView(
        status=_status(cell, iterations),
        output=cell.output.value if cell.output else None,
        attempts=sum(iteration.attempts for iteration in iterations),
        reused=bool(iterations) and all(iteration.reused for iteration in iterations),
        cost=float(
            sum(_number(iteration.usage, "usd") for iteration in iterations if iteration.usage is not None)
        ),
        started=min(starts, default=None),
        finished=max(ends, default=getattr(cell, "finished", None)) if is_over else None,
        error=_error_of(cell.path, failure) if failure else None,
        reason=_reason(cell, iterations),
        output_digest=cell.output.digest if cell.output else None,
        args=asked.call.value if asked is not None and asked.call is not None else None,
        attempt=undecided_attempt(asked) if asked is not None else None,
        decision=_decision(cell, iterations),
    )


def _view_of_success(cell: Iteration, iteration: Iteration) -> StepView:
    """Return the view of a cell that has succeeded by one call or value, as most have."""
    output, failure = (
        cell.output,
        cell.failure or (iteration.failure if iteration.path == cell.path else None),
    )
    return StepView(
        status=State.SUCCEEDED.value,
        output=output.value if output is not None else None,
        attempts=iteration.attempts,
        reused=iteration.reused,
        cost=float(_number(iteration.usage, "usd")) if iteration.usage is not None else 0.0,
        started=iteration.started,
        finished=iteration.finished if iteration.finished is not None else getattr(cell, "finished", None),
        error=_error_of(cell.path, failure) if failure else None,
        reason=cell.reason.value if cell.reason is not None else None,
        output_digest=output.digest if output is not None else None,
        decision=iteration.decision.to_dict()
        if iteration.decision is not None and iteration.path == cell.path
        else None,
    )


def _only_iteration(cell: Iteration) -> Iteration | None:
    """Return the one call or value that a cell consists of; `None`: it consists of several, or of inner steps."""
    if isinstance(cell, Node):
        if len(cell.items) != 1:
            return None
        cell = cell.items[0]
    if isinstance(cell, Item):
        if len(cell.iterations) != 1:
            return None
        cell = cell.iterations[0]
    return cell if cell.is_leaf else None


def iterations_of(cell: Iteration) -> Iterator[Iteration]:
    """The calls and values that a cell consists of."""
    items: Sequence[Iteration] = cell.items if isinstance(cell, Node) else (cell,)
    for item in items:
        for iteration in item.iterations if isinstance(item, Item) else (item,):
            if iteration.is_leaf:
                yield iteration
            for frame in iteration.frames:
                for node in frame.nodes:
                    yield from iterations_of(node)


def _status(cell: Iteration, iterations: list[Iteration]) -> str:
    if cell.state in TERMINAL:
        return cell.state.value
    states = {iteration.state for iteration in iterations}
    worst = next((state for state in WORST if state in states), cell.state)
    is_under_way = len(iterations) > 1 or any(state in TERMINAL for state in states)
    if worst in (State.READY, State.PENDING):
        return State.RUNNING.value if is_under_way else State.PENDING.value
    return worst.value


def _decision(cell: Iteration, iterations: list[Iteration]) -> Json:
    """Return what a person decided about the one call of a leaf."""
    if len(iterations) != 1 or iterations[0].path != cell.path or iterations[0].decision is None:
        return None
    return iterations[0].decision.to_dict()


def _undecided(cell: Iteration, iterations: list[Iteration]) -> Iteration | None:
    """Return the leaf's only call, where a person has to decide about it."""
    if len(iterations) != 1 or iterations[0].path != cell.path:
        return None
    return iterations[0] if undecided_attempt(iterations[0]) is not None else None


def _own_failure(cell: Iteration, iterations: list[Iteration]) -> Failure | None:
    if cell.failure is not None:
        return cell.failure
    return iterations[0].failure if len(iterations) == 1 and iterations[0].path == cell.path else None


def _reason(cell: Iteration, iterations: list[Iteration]) -> str | None:
    if cell.reason is not None:
        return cell.reason.value
    waiting = [
        iteration.reason
        for iteration in iterations
        if iteration.state is State.WAITING and iteration.reason is not None
    ]
    return waiting[0].value if waiting else None


# --- amounts for people: one way to count steps, one way to round; programs get the exact numbers


def steps_in(paths: Iterable[str]) -> int:
    """Return the number of steps among these paths. Each step of the plan's own list counts once, whatever its items, iterations and inner steps."""
    return len({root_of(path) for path in paths})


def counted(steps: int) -> str:
    """Return a number of steps as text."""
    return "1 step" if steps == 1 else f"{steps} steps"


def amount(value: float) -> str:
    """Return an amount as text: whole numbers as they are, others rounded, small ones to three digits."""
    if isinstance(value, int):
        return str(value)
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}".rstrip("0").rstrip(".")
