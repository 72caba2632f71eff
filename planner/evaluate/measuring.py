"""Planners side by side: the tasks of a set, planned several times by each planner, scored and summed up.

A plan is scored by its shape: which actions it takes, and which action feeds which, whatever its steps are called. The caller runs plans:
`run` returns a plan's output, or raises. Results have the order of planners, tasks and samples, whichever ends first.

The output of a run is also measured by guards, which refuse nothing here, and compared with the outputs of the other variants of its task (`bias.py`).
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from ...errors import ConfigError, FirmplanError, PlanningFailed, ToolError
from ...plans.plan import AskStep, Plan, PlanForStep, PlanStep, SetStep, Step, ToolStep
from ...plans.values import Json
from ...tools.guards.guard import Guard, Question, asks_model, find_refusal, name_of
from ...tools.models.completion import Usage
from ...tools.models.errors import ModelError
from ...tools.models.models import Models
from ...tools.schemas import Checker
from ..drafting.attempt import Attempt
from ..planner import Planned, Planner
from .bias import SAMPLES_MAX, Difference, Outcome, VariantRuns, differences, outcome_of
from .task_set import EvalTask, Expected, TaskSet


@dataclass(frozen=True, slots=True)
class Ran:
    """The output of a run, and the texts that it may quote: its inputs and the results of its tools, by name."""

    output: Json
    sources: Mapping[str, Json] = field(default_factory=dict[str, Json])


Run = Callable[[EvalTask, Planned], Awaitable[Ran]]
"""Runs a plan. Raises: FirmplanError: there is no output."""

Edge = tuple[str, str]
"""An action, and an action that it feeds."""


# --- the shape of a plan


@dataclass(frozen=True, slots=True)
class PlanShape:
    """The actions of a plan and the edges between them, sorted; an action that occurs twice is listed twice.

    An action is the name of a tool, `ask`, `agent`, `plan_for` or `plan:name`. `set` steps compute and do nothing, so they are looked through: two plans
    that compute the same in one step or in three have the same shape.
    """

    actions: tuple[str, ...]
    edges: tuple[Edge, ...]

    @classmethod
    def of(cls, plan: Plan) -> PlanShape:
        """Return the shape of a plan; steps of inner plans are not looked into."""
        known = {step.id for step in plan.steps}
        waits = {step.id: _waits(step, known) for step in plan.steps}
        # `set` steps have no action, and an edge through them goes from the action before to the action after.
        actions = {step.id: action for step in plan.steps if (action := _action(step)) is not None}
        edges = [
            (actions[source], action)
            for id_, action in actions.items()
            for source in _sources(id_, waits, actions)
        ]
        return cls(tuple(sorted(actions.values())), tuple(sorted(edges)))

    @property
    def tools(self) -> frozenset[str]:
        """Names of the tools that are called."""
        return frozenset(each for each in self.actions if each not in ("ask", "agent", "plan_for"))


def f1(found: Iterable[object], wanted: Iterable[object]) -> float:
    """Return the harmonic mean of precision and recall of one bag against another; 1 if both are empty."""
    one, other = Counter(found), Counter(wanted)
    total = one.total() + other.total()
    return 1.0 if not total else 2 * (one & other).total() / total


def agreement(shapes: Sequence[PlanShape]) -> float | None:
    """Return how alike plans for one task are: the mean, over pairs, of the F1 of actions and of edges; `None`: there is no pair."""
    return _mean(
        (f1(one.actions, other.actions) + f1(one.edges, other.edges)) / 2
        for one, other in combinations(shapes, 2)
    )


def _action(step: Step) -> str | None:
    match step:
        case ToolStep():
            return step.tool
        case AskStep():
            return "ask"
        case PlanStep():
            return f"plan:{step.plan}"
        case SetStep():
            return None
        case PlanForStep():
            return "plan_for"
        case _:
            return "agent"


def _waits(step: Step, known: set[str]) -> set[str]:
    """Return the steps that a step waits for."""
    named = {name for template in step.templates.values() for name in template.formula.names}
    return ((named | set(step.after)) & known) - {step.id}


def _sources(id_: str, waits: Mapping[str, set[str]], actions: Mapping[str, str]) -> list[str]:
    """Return the steps with an action that feed a step, directly or through `set` steps, sorted.

    Args:
        id_: The step.
        waits: The steps that each step waits for.
        actions: The action of each step that has one.
    """
    found: set[str] = set()
    pending = set(waits[id_])
    # A solution in a task set need not pass the check, so the `set` steps may form a cycle: each is visited once.
    visited = {id_}
    while pending:
        each = pending.pop()
        if each in actions:
            found.add(each)
        elif each not in visited:
            visited.add(each)
            pending |= waits[each]
    return sorted(found)


# --- scores


@dataclass(frozen=True, slots=True)
class Score:
    """One planning of one task, measured. A measure is `None` if nothing was expected, or if it could not be looked at.

    Attributes:
        valid: Whether there is a plan that passes its check.
        valid_first: Whether the first draft passed its check.
        rounds: The number of drafts that were sent back.
        tools: Whether every tool that must be called is called.
        forbidden: Tools that are called and must not be.
        steps: F1 of the plan's actions against those of the solution.
        edges: F1 of the plan's edges against those of the solution.
        brief: Whether the plan has at most as many steps as it may.
        answer: Whether the output of a run is as expected.
        seconds: The time from the task to the plan.
        plan: The plan.
        error: Why there is no plan, or why its run gave no output.
        guards: Guard -> whether it holds of the output of a run; `None`: it could not be asked. Empty: no output was looked at.
        guard_usage: The cost of the judges among the guards.
        outcome: What the run of a variant came to (`bias.py`); `None`: the task has no variants, or was not run.
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
    guards: Mapping[str, bool | None] = field(default_factory=dict[str, "bool | None"])
    guard_usage: Usage = field(default_factory=Usage)
    outcome: Outcome = None

    @property
    def good(self) -> bool:
        """Whether every condition holds; F1 is a measure, and no condition."""
        conditions = (self.tools, self.brief, self.answer)
        return self.valid and not self.forbidden and all(each is not False for each in conditions)

    def to_dict(self) -> dict[str, Json]:
        """Return the score as JSON."""
        return {
            "good": self.good,
            **{name: getattr(self, name) for name in self.__slots__},
            "forbidden": list(self.forbidden),
            "usage": self.usage.to_dict(),
            "plan": None if self.plan is None else self.plan.to_dict(),
            "guards": dict(self.guards),
            "guard_usage": self.guard_usage.to_dict(),
        }


def score_of(plan: Plan, attempts: tuple[Attempt, ...], seconds: float, expected: Expected) -> Score:
    """Return the score of a planning that gave a plan.

    Args:
        plan: The plan.
        attempts: The attempts of the planning.
        seconds: Its time.
        expected: What is expected of a plan.
    """
    shape = PlanShape.of(plan)
    solution = None if expected.solution is None else PlanShape.of(expected.solution)
    drafts = _drafts(attempts)
    return Score(
        valid=True,
        valid_first=not drafts or drafts[0].ok,
        rounds=max(0, len(drafts) - 1),
        seconds=seconds,
        usage=_usage_of(attempts),
        tools=shape.tools.issuperset(expected.tools) if expected.tools else None,
        forbidden=tuple(each for each in expected.forbidden if each in shape.tools),
        steps=None if solution is None else f1(shape.actions, solution.actions),
        edges=None if solution is None else f1(shape.edges, solution.edges),
        brief=None if expected.steps_max is None else len(plan.steps) <= expected.steps_max,
        plan=plan,
    )


def no_plan(attempts: tuple[Attempt, ...], seconds: float, error: str) -> Score:
    """Return the score of a planning that failed."""
    return Score(
        valid=False,
        valid_first=False,
        rounds=max(0, len(_drafts(attempts)) - 1),
        seconds=seconds,
        usage=_usage_of(attempts),
        error=error,
    )


def is_answer(output: Json, wanted: Mapping[str, Json]) -> bool:
    """Return whether an output is the expected answer."""
    match wanted:
        case {"equals": value}:
            return output == value
        case {"contains": value}:
            return all(_holds(output, part) for part in (value if isinstance(value, list) else [value]))
        case {"schema": dict(schema)}:
            return Checker(schema).accepts(output)
        case _:
            return True


def _drafts(attempts: tuple[Attempt, ...]) -> list[Attempt]:
    return [each for each in attempts if each.source == "model"]


def _usage_of(attempts: tuple[Attempt, ...]) -> Usage:
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


# --- a set of tasks


@dataclass(frozen=True, slots=True)
class TaskResult:
    """One task, or one variant of it, planned several times by one planner."""

    planner: str
    task: str
    scores: tuple[Score, ...]
    variant: str = ""

    @property
    def agreement(self) -> float | None:
        """How alike the plans are; `None`: there are no two plans."""
        return agreement([PlanShape.of(each.plan) for each in self.scores if each.plan is not None])

    def to_dict(self) -> dict[str, Json]:
        """Return the result as JSON."""
        scores: list[Json] = [each.to_dict() for each in self.scores]
        named: dict[str, Json] = {"planner": self.planner, "task": self.task}
        variant: dict[str, Json] = {"variant": self.variant} if self.variant else {}
        return {**named, **variant, "agreement": self.agreement, "scores": scores}


@dataclass(frozen=True, slots=True)
class GuardRate:
    """How often a guard holds of outputs.

    Attributes:
        held: The outputs of which it holds.
        refused: The outputs of which it does not.
        unasked: The outputs about which it could not be asked.
    """

    guard: str
    held: int
    refused: int
    unasked: int

    @property
    def rate(self) -> float | None:
        """The share of outputs of which it holds; `None`: none was measured."""
        measured = self.held + self.refused
        return self.held / measured if measured else None

    def to_dict(self) -> dict[str, Json]:
        """Return the rate as JSON."""
        return {"held": self.held, "refused": self.refused, "unasked": self.unasked, "rate": self.rate}


@dataclass(frozen=True, slots=True)
class PlannerSummary:
    """One planner over all tasks. Rates and means are from 0 to 1; `None`: nothing was measured."""

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
    guards: tuple[GuardRate, ...] = ()

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
            guard_rates(scores),
        )

    def to_dict(self) -> dict[str, Json]:
        """Return the summary as JSON."""
        guards: dict[str, Json] = {each.guard: each.to_dict() for each in self.guards}
        return {**{name: getattr(self, name) for name in self.__slots__}, "guards": guards}


def guard_rates(scores: Sequence[Score]) -> tuple[GuardRate, ...]:
    """Return how often each guard holds of the outputs, in the order in which the guards are first asked."""
    names = dict.fromkeys(name for score in scores for name in score.guards)
    verdicts = {name: [score.guards[name] for score in scores if name in score.guards] for name in names}
    return tuple(
        GuardRate(name, found.count(True), found.count(False), found.count(None))
        for name, found in verdicts.items()
    )


@dataclass(frozen=True, slots=True)
class Measured:
    """The results of a set of tasks."""

    name: str
    summaries: tuple[PlannerSummary, ...]
    results: tuple[TaskResult, ...]
    bias: tuple[Difference, ...] = ()

    def to_dict(self) -> dict[str, Json]:
        """Return all results as JSON."""
        return {
            "set": self.name,
            "planners": [each.to_dict() for each in self.summaries],
            "tasks": [each.to_dict() for each in self.results],
            "bias": [each.to_dict() for each in self.bias],
        }


async def measure(
    tasks: TaskSet,
    planners: Mapping[str, Planner],
    *,
    samples: int = 1,
    concurrency: int = 4,
    run: Run | None = None,
    judges: Models | None = None,
) -> Measured:
    """Return how well planners plan the tasks of a set; a task with a swap counts once for each variant.

    Args:
        tasks: The set.
        planners: The planners, by the names in the results.
        samples: How often each planner plans each task.
        concurrency: Plannings at the same time.
        run: Runs a plan if an answer is expected, a guard is measured or the task has variants; `None`: outputs are not looked at.
        judges: The models of guards that ask one, each by its alias; `None`: such guards cannot be asked.

    Raises:
        ConfigError: There are too many samples of tasks with variants.
    """
    if samples > SAMPLES_MAX and any(task.swap is not None for task in tasks.tasks):
        raise ConfigError(
            f"{tasks.name}: expected at most {SAMPLES_MAX} samples, since tasks have swaps, found {samples}; leave those tasks out, or take fewer"
        )
    slots = asyncio.Semaphore(concurrency)

    async def one(planner: Planner, task: EvalTask) -> Score:
        async with slots:
            return await _sample(planner, task, run, judges)

    # All samples start together and a semaphore spaces them; results are collected in the order of planners and
    # tasks, whichever ends first.
    async with asyncio.TaskGroup() as group:
        waiting = [
            (name, task, [group.create_task(one(planner, task)) for _ in range(samples)])
            for name, planner in planners.items()
            for each in tasks.tasks
            for task in each.variants()
        ]
    results = [
        TaskResult(name, task.id, tuple(each.result() for each in scores), task.variant)
        for name, task, scores in waiting
    ]
    runs = [
        VariantRuns(
            name, task.id, task.swap.name, task.variant, tuple(each.result().outcome for each in scores)
        )
        for name, task, scores in waiting
        if task.swap is not None and run is not None
    ]
    summaries = [
        PlannerSummary.of(name, [each for each in results if each.planner == name]) for name in planners
    ]
    return Measured(tasks.name, tuple(summaries), tuple(results), tuple(differences(runs)))


async def _sample(planner: Planner, task: EvalTask, run: Run | None, judges: Models | None) -> Score:
    """Return the score of one planning of a task."""
    begun = time.monotonic()
    try:
        # `complete=True`: a plan that still needs an input would be valid and could not be run.
        planned = await planner.plan(task.task, task.tools, inputs=task.inputs, complete=True)
    except PlanningFailed as failure:
        attempts: tuple[Attempt, ...] = tuple(failure.attempts)
        score = no_plan(attempts, time.monotonic() - begun, str(failure))
        return score if task.swap is None else replace(score, outcome="no plan")
    score = score_of(planned.plan, planned.attempts, time.monotonic() - begun, task.expected)
    wanted = task.expected.answer
    if run is None or not (wanted is not None or task.guards or task.swap is not None):
        return score
    try:
        ran = await run(task, planned)
    except FirmplanError as failure:
        outcome = None if task.swap is None else "no output"
        return replace(score, answer=None if wanted is None else False, error=str(failure), outcome=outcome)
    verdicts, usage = await ask_guards(task.guards, ran, task.task, judges)
    return replace(
        score,
        answer=None if wanted is None else is_answer(ran.output, wanted),
        guards=verdicts,
        guard_usage=usage,
        outcome=None if task.swap is None else outcome_of(ran.output, task.swap.paths),
    )


async def ask_guards(
    guards: Sequence[Guard], ran: Ran, task: str, judges: Models | None
) -> tuple[dict[str, bool | None], Usage]:
    """Return whether each guard holds of an output, and the cost of the judges; `None`: it could not be asked.

    Args:
        guards: The guards; each is asked, whatever the others say.
        ran: The output, and the texts that it may quote.
        task: The task, which the output answers.
        judges: The models of guards that ask one.
    """
    question = Question(task, ran.sources)
    verdicts: dict[str, bool | None] = {}
    usage = Usage()
    for guard in guards:
        name = name_of(guard)
        try:
            if not asks_model(guard):
                held: bool | None = (
                    await asyncio.to_thread(find_refusal, ran.output, [guard], question) is None
                )
            elif judges is not None:
                judged = await judges.judge(ran.output, [guard], task)
                held, usage = judged.refusal is None, usage + judged.usage
            else:
                held = None
        except ToolError as fault:
            spent = fault.usage if isinstance(fault, ModelError) else None
            held, usage = None, usage + (spent or Usage())
        # Two guards of one name are one line: it holds if both do, and is not known if one is not.
        known = verdicts.get(name, True)
        verdicts[name] = False if held is False or known is False else None if None in (held, known) else True
    return verdicts, usage


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the measured values; `None`: nothing was measured."""
    found = [float(value) for value in values if value is not None]
    return sum(found) / len(found) if found else None
