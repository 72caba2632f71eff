"""Planners side by side: the tasks of a set, planned several times by each, scored and summed up.

Runs are whoever calls' business: `run` gives a plan's output, or raises. The order of results is that of planners, tasks and
samples, whatever ends first.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from ...errors import FirmplanError, PlanningFailed
from ...plans.plan import AskStep, Plan, PlanStep, SetStep, Step, ToolStep
from ...plans.values import Json
from ...tools.models.completion import Usage
from ...tools.schemas import Checker
from ..drafting.attempt import Attempt
from ..planner import Planned, Planner
from .task_set import EvalTask, Expected, TaskSet

Run = Callable[[EvalTask, Planned], Awaitable[Json]]
"""Returns the output of a run of a plan. Raises: FirmplanError: there is none."""


@dataclass(frozen=True, slots=True)
class TaskResult:
    """One task, planned several times by one planner."""

    planner: str
    task: str
    scores: tuple[Score, ...]

    @property
    def agreement(self) -> float | None:
        """How alike its plans are; `None` where there are no two."""
        return agreement([shape for each in self.scores if (shape := each.shape) is not None])

    def to_dict(self) -> dict[str, Json]:
        """Return the result as JSON."""
        scores: list[Json] = [each.to_dict() for each in self.scores]
        return {"planner": self.planner, "task": self.task, "agreement": self.agreement, "scores": scores}


@dataclass(frozen=True, slots=True)
class PlannerSummary:
    """One planner over all tasks; rates and means are from 0 to 1, `None` where nothing was measured."""

    planner: str
    samples: int
    good: float
    valid: float
    valid_first: float
    rounds: float
    tools: float | None
    forbidden: int
    steps: float | None
    edges: float | None
    answer: float | None
    agreement: float | None
    seconds_median: float
    seconds_max: float
    tokens: int
    usd: float | None

    @classmethod
    def of(cls, planner: str, results: Sequence[TaskResult]) -> PlannerSummary:
        """Return the summary of one planner's results."""
        scores = [score for result in results for score in result.scores]
        usage = sum((score.usage for score in scores), Usage())
        return cls(
            planner,
            len(scores),
            _mean(score.good for score in scores) or 0.0,
            _mean(score.valid for score in scores) or 0.0,
            _mean(score.valid_first for score in scores) or 0.0,
            _mean(score.rounds for score in scores) or 0.0,
            _mean(score.tools for score in scores),
            sum(len(score.forbidden) for score in scores),
            _mean(score.steps for score in scores),
            _mean(score.edges for score in scores),
            _mean(score.answer for score in scores),
            _mean(result.agreement for result in results),
            statistics.median(score.seconds for score in scores) if scores else 0.0,
            max((score.seconds for score in scores), default=0.0),
            usage.prompt_tokens + usage.completion_tokens,
            usage.usd,
        )

    def to_dict(self) -> dict[str, Json]:
        """Return the summary as JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of a set."""

    name: str
    summaries: tuple[PlannerSummary, ...]
    results: tuple[TaskResult, ...]

    def to_dict(self) -> dict[str, Json]:
        """Return all of it as JSON."""
        return {
            "set": self.name,
            "planners": [each.to_dict() for each in self.summaries],
            "tasks": [each.to_dict() for each in self.results],
        }


async def measure(
    tasks: TaskSet,
    planners: Mapping[str, Planner],
    *,
    samples: int = 1,
    concurrency: int = 4,
    run: Run | None = None,
) -> Measured:
    """Return how well planners plan the tasks of a set.

    Args:
        tasks: The set.
        planners: By the names under which they are told.
        samples: How often each task is planned by each.
        concurrency: Plannings at a time.
        run: Gives the output of a plan's run where an answer is expected; `None`: answers are not looked at.
    """
    slots = asyncio.Semaphore(concurrency)

    async def one(planner: Planner, task: EvalTask) -> Score:
        async with slots:
            return await _sample(planner, task, run)

    async with asyncio.TaskGroup() as group:
        waiting = [
            (name, task.id, [group.create_task(one(planner, task)) for _ in range(samples)])
            for name, planner in planners.items()
            for task in tasks.tasks
        ]
    results = [
        TaskResult(name, task, tuple(each.result() for each in scores)) for name, task, scores in waiting
    ]
    summaries = [
        PlannerSummary.of(name, [each for each in results if each.planner == name]) for name in planners
    ]
    return Measured(tasks.name, tuple(summaries), tuple(results))


async def _sample(planner: Planner, task: EvalTask, run: Run | None) -> Score:
    """Plan a task once."""
    begun = time.monotonic()
    try:
        planned = await planner.plan(task.task, task.tools, inputs=task.inputs, complete=True)
    except PlanningFailed as failure:
        attempts: tuple[Attempt, ...] = tuple(failure.attempts)
        return no_plan(attempts, time.monotonic() - begun, str(failure))
    seconds = time.monotonic() - begun
    score = score_of(planned.plan, planned.attempts, seconds, task.expected)
    if run is None or task.expected.answer is None:
        return score
    try:
        output = await run(task, planned)
    except FirmplanError as failure:
        return replace(score, answer=False, error=str(failure))
    return replace(score, answer=is_answer(output, task.expected.answer))


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of what was measured."""
    found = [float(value) for value in values if value is not None]
    return sum(found) / len(found) if found else None


# --- How good one plan is for one task, by what is expected of it.


@dataclass(frozen=True, slots=True)
class Score:
    """One planning of one task, measured; what is `None` was not expected, or could not be looked at.

    Attributes:
        valid: Whether a plan came that passes its check.
        valid_first: Whether the first draft did.
        rounds: Drafts that were sent back.
        tools: Whether every tool that must be called is.
        forbidden: Tools that are called and must not be.
        steps: F1 of the plan's actions against the solution's.
        edges: F1 of what feeds what.
        brief: Whether it has no more steps than it may.
        answer: Whether a run's output is as expected.
        seconds: From the task to the plan.
        plan: The plan that came.
        error: Why no plan came, or why its run gave no output.
    """

    valid: bool
    valid_first: bool
    rounds: int
    seconds: float
    usage: Usage
    tools: bool | None = None
    forbidden: tuple[str, ...] = ()
    steps: float | None = None
    edges: float | None = None
    brief: bool | None = None
    answer: bool | None = None
    plan: Plan | None = None
    error: str | None = None

    @property
    def good(self) -> bool:
        """Whether nothing that must hold fails: F1 is a measure, and no condition."""
        return (
            self.valid
            and not self.forbidden
            and all(each is not False for each in (self.tools, self.brief, self.answer))
        )

    @property
    def shape(self) -> PlanShape | None:
        """What the plan does."""
        return None if self.plan is None else PlanShape.of(self.plan)

    def to_dict(self) -> dict[str, Json]:
        """Return the score as JSON."""
        return {
            "good": self.good,
            "valid": self.valid,
            "valid_first": self.valid_first,
            "rounds": self.rounds,
            "tools": self.tools,
            "forbidden": list(self.forbidden),
            "steps": self.steps,
            "edges": self.edges,
            "brief": self.brief,
            "answer": self.answer,
            "seconds": self.seconds,
            "usage": self.usage.to_dict(),
            "plan": None if self.plan is None else self.plan.to_dict(),
            "error": self.error,
        }


def score_of(plan: Plan, attempts: tuple[Attempt, ...], seconds: float, expected: Expected) -> Score:
    """Return the score of a plan that came."""
    shape = PlanShape.of(plan)
    wanted = None if expected.solution is None else PlanShape.of(expected.solution)
    drafts = [each for each in attempts if each.source == "model"]
    return Score(
        valid=True,
        valid_first=not drafts or drafts[0].ok,
        rounds=max(0, len(drafts) - 1),
        seconds=seconds,
        usage=usage_of(attempts),
        tools=shape.tools.issuperset(expected.tools) if expected.tools else None,
        forbidden=tuple(each for each in expected.forbidden if each in shape.tools),
        steps=None if wanted is None else f1(shape.actions, wanted.actions),
        edges=None if wanted is None else f1(shape.edges, wanted.edges),
        brief=None if expected.steps_max is None else len(plan.steps) <= expected.steps_max,
        plan=plan,
    )


def no_plan(attempts: tuple[Attempt, ...], seconds: float, error: str) -> Score:
    """Return the score where none came."""
    drafts = [each for each in attempts if each.source == "model"]
    return Score(
        valid=False,
        valid_first=False,
        rounds=max(0, len(drafts) - 1),
        seconds=seconds,
        usage=usage_of(attempts),
        error=error,
    )


def is_answer(output: Json, wanted: Mapping[str, Json]) -> bool:
    """Return whether an output is the answer that is expected."""
    match wanted:
        case {"equals": value}:
            return output == value
        case {"contains": value}:
            return all(_holds(output, part) for part in (value if isinstance(value, list) else [value]))
        case {"schema": dict(schema)}:
            return Checker(schema).accepts(output)
        case _:
            return True


def usage_of(attempts: tuple[Attempt, ...]) -> Usage:
    """Return what attempts cost together."""
    return sum((each.usage for each in attempts), Usage())


def _holds(output: Json, part: Json) -> bool:
    """Return whether a value, or a text, stands anywhere in an output."""
    if output == part:
        return True
    match output:
        case str():
            return isinstance(part, str) and part.casefold() in output.casefold()
        case list():
            return any(_holds(each, part) for each in output)
        case dict():
            return any(_holds(each, part) for each in output.values())
        case _:
            return False


# --- What a plan does, whatever it calls its steps: its actions, and which feeds which. For comparing plans.
#
# An action is a tool's name, `ask`, `agent` or `plan:name`. `set` steps are computing, not doing: they are looked through, so
# that two plans that compute in one step or in three are alike. Pure.


Edge = tuple[str, str]


@dataclass(frozen=True, slots=True)
class PlanShape:
    """Actions and edges, sorted; an action that stands twice stands twice here."""

    actions: tuple[str, ...]
    edges: tuple[Edge, ...]

    @classmethod
    def of(cls, plan: Plan) -> PlanShape:
        """Return the outline of a plan; steps of inner plans are not looked into."""
        known = {step.id for step in plan.steps}
        needs = {step.id: _needs(step, known) for step in plan.steps}
        labels = {step.id: label for step in plan.steps if (label := _label(step)) is not None}
        fed: dict[str, frozenset[str]] = {}
        edges = [
            (labels[source], label)
            for id_, label in labels.items()
            for source in sorted(_sources(id_, needs, labels, fed, ()))
        ]
        return cls(tuple(sorted(labels.values())), tuple(sorted(edges)))

    @property
    def tools(self) -> frozenset[str]:
        """Names of the tools that are called."""
        return frozenset(each for each in self.actions if each not in ("ask", "agent"))


def f1(found: Iterable[object], wanted: Iterable[object]) -> float:
    """Return the harmonic mean of precision and recall of one bag against another; 1 where both are empty."""
    one, other = Counter(found), Counter(wanted)
    total = one.total() + other.total()
    return 1.0 if not total else 2 * (one & other).total() / total


def agreement(outlines: Sequence[PlanShape]) -> float | None:
    """Return how alike plans for one task are: the mean over pairs of their F1 of actions and edges; `None`: no pair."""
    pairs = list(combinations(outlines, 2))
    if not pairs:
        return None
    likeness = [(f1(one.actions, other.actions) + f1(one.edges, other.edges)) / 2 for one, other in pairs]
    return sum(likeness) / len(likeness)


def _label(step: Step) -> str | None:
    match step:
        case ToolStep():
            return step.tool
        case AskStep():
            return "ask"
        case PlanStep():
            return f"plan:{step.plan}"
        case SetStep():
            return None
        case _:
            return "agent"


def _needs(step: Step, known: set[str]) -> tuple[str, ...]:
    """Return the steps that a step waits for, in a fixed order."""
    named = {name for template in step.templates.values() for name in template.formula.names}
    return tuple(sorted(((named & known) | (set(step.after) & known)) - {step.id}))


def _sources(
    id_: str,
    needs: Mapping[str, tuple[str, ...]],
    labels: Mapping[str, str],
    fed: dict[str, frozenset[str]],
    way: tuple[str, ...],
) -> frozenset[str]:
    """Return the acting steps that feed a step, straight or through computing ones."""
    if id_ in fed or id_ in way:
        return fed.get(id_, frozenset())
    found: set[str] = set()
    for each in needs[id_]:
        found |= {each} if each in labels else _sources(each, needs, labels, fed, (*way, id_))
    fed[id_] = frozenset(found)
    return fed[id_]
