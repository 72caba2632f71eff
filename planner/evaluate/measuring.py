"""Planners side by side: the tasks of a set, planned several times by each planner, scored and summed up.

A plan is scored by its shape: which actions it takes, and which action feeds which, whatever its steps are called. The caller runs plans:
`run` returns a plan's output, or raises. Results have the order of planners, tasks and samples, whichever ends first.

The output of a run is also measured by guards, which refuse nothing here, and compared with the outputs of the other variants of its task (`bias.py`).
Beside a planner, `rivals` solve the same tasks in another way, such as a ReAct loop (`react.py`), so that the tokens of both can be compared.
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
from ...tools.types.schemas import Checker
from ..drafting.attempt import Attempt
from ..library.library import SavedPlan
from ..planner import Planned, Planner
from .bias import SAMPLES_MAX, Difference, Outcome, VariantRuns, differences, outcome_of
from .expected_calls import MadeCall, are_expected
from .ranking import Retrieval, retrieval_of
from .react import ReactRun, is_in_words
from .task_set import EvalTask, Expected, TaskSet


@dataclass(frozen=True, slots=True)
class Ran:
    """A run, and the runs of its patched plans.

    Attributes:
        output: The output of the last of them.
        sources: The texts that the output may quote: inputs and the results of tools, by name.
        patches: How often the plan was patched after a failure, before it gave the output.
        calls: The calls of tools that were made; `None`: nobody recorded them.
        usage: The usage of the models of the steps and of the patches.
        failure: Why there is no output after all.
    """

    output: Json
    sources: Mapping[str, Json] = field(default_factory=dict[str, Json])
    patches: int = 0
    calls: tuple[MadeCall, ...] | None = None
    usage: Usage = field(default_factory=Usage)
    failure: str | None = None


Run = Callable[[EvalTask, Planned], Awaitable[Ran]]
"""Runs a plan. Raises: FirmplanError: there is no output."""

Rival = Callable[[EvalTask], Awaitable[ReactRun]]
"""Solves a task without a plan."""

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
        answer: Whether the output of a run is as expected, after patches if there were any.
        answer_first: Whether it is so without a patch.
        patches: How often the plan was patched after a failure.
        calls: Whether the calls that a run made are the expected ones.
        saved: Whether the expected saved plan answered the task.
        run_usage: The usage of models in the run and its patches.
        react: The result of the ReAct loop; `None`: there was none.
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
    answer_first: bool | None = None
    patches: int = 0
    calls: bool | None = None
    saved: bool | None = None
    run_usage: Usage = field(default_factory=Usage)
    react: ReactScore | None = None

    @property
    def good(self) -> bool:
        """Whether every condition holds; F1 is a measure, and no condition."""
        conditions = (self.tools, self.brief, self.answer, self.calls, self.saved)
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
            "run_usage": self.run_usage.to_dict(),
            "react": None if self.react is None else self.react.to_dict(),
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
    """Return the score of a planning that failed.

    Args:
        attempts: The attempts of the planning.
        seconds: Its time.
        error: Why there is no plan.
    """
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


def _is_right(ran: Ran, expected: Expected) -> tuple[bool | None, bool | None]:
    """Return whether the answer and the calls of a run are as expected; `None` where nothing is expected or known."""
    wanted, calls = expected.answer, expected.calls
    has_ended = ran.failure is None
    answer = None if wanted is None else has_ended and is_answer(ran.output, wanted)
    # A run that failed has not made the calls, whether they were recorded or not.
    if calls is None or (has_ended and ran.calls is None):
        return answer, None
    return answer, has_ended and are_expected(ran.calls or (), calls)


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


# --- a rival


@dataclass(frozen=True, slots=True)
class ReactScore:
    """The result of a ReAct loop, scored.

    Attributes:
        run: The loop.
        answer: Whether its answer is as expected; an answer in words is right if it says all that is expected.
        calls: Whether its calls are the expected ones.
    """

    run: ReactRun
    answer: bool | None
    calls: bool | None

    @property
    def right(self) -> bool | None:
        """Whether answer and calls are as expected; `None`: nothing is."""
        found = [each for each in (self.answer, self.calls) if each is not None]
        return all(found) if found else None

    def to_dict(self) -> dict[str, Json]:
        """Return the score as JSON."""
        return {
            "answer": self.answer,
            "calls": self.calls,
            "output": self.run.output,
            "made": [each.to_dict() for each in self.run.calls],
            "turns": self.run.turns,
            "usage": self.run.usage.to_dict(),
            "error": self.run.error,
        }


def react_score(run: ReactRun, expected: Expected) -> ReactScore:
    """Return the score of a ReAct loop."""
    wanted = expected.answer
    answer = None if wanted is None else run.text is not None and _is_said(run, wanted)
    calls = None if expected.calls is None else run.error is None and are_expected(run.calls, expected.calls)
    return ReactScore(run, answer, calls)


def _is_said(run: ReactRun, wanted: Mapping[str, Json]) -> bool:
    """Whether an answer is as expected, as JSON or in words; the benefit of the doubt is the loop's."""
    if is_answer(run.output, wanted):
        return True
    match wanted:
        case {"equals": value} | {"contains": value}:
            return is_in_words(run.text or "", value)
        case _:
            return False


@dataclass(frozen=True, slots=True)
class Against:
    """Plans beside a ReAct loop over the samples that both have: what their models read and wrote.

    Attributes:
        samples: The samples.
        planned: The usage of planning, of the steps and of patches.
        react: The usage of the loops.
        planned_right: The share of samples with right answers and calls; `None`: nothing is expected.
        react_right: The same of the loops.
    """

    samples: int
    planned: Usage
    react: Usage
    planned_right: float | None
    react_right: float | None

    @classmethod
    def of(cls, scores: Sequence[Score]) -> Against | None:
        """Return the comparison of the samples that have a loop; `None`: none has one."""
        both = [(score, score.react) for score in scores if score.react is not None]
        if not both:
            return None
        return cls(
            len(both),
            sum((usage for score, _ in both for usage in (score.usage, score.run_usage)), Usage()),
            sum((loop.run.usage for _, loop in both), Usage()),
            _mean(_right(score) if loop.right is not None else None for score, loop in both),
            _mean(loop.right for _, loop in both),
        )

    @property
    def output_ratio(self) -> float | None:
        """Tokens that models write for plans, over those that they write in loops; `None`: the endpoint counts none."""
        return _ratio(self.planned.completion_tokens, self.react.completion_tokens)

    @property
    def prompt_ratio(self) -> float | None:
        """Tokens that models read for plans, over those that they read in loops."""
        return _ratio(self.planned.prompt_tokens, self.react.prompt_tokens)

    def to_dict(self) -> dict[str, Json]:
        """Return the comparison as JSON."""
        return {
            "samples": self.samples,
            "planned": {**self.planned.to_dict(), "usd": cost_of(self.planned), "right": self.planned_right},
            "react": {**self.react.to_dict(), "usd": cost_of(self.react), "right": self.react_right},
            "output_ratio": self.output_ratio,
            "prompt_ratio": self.prompt_ratio,
        }


def cost_of(usage: Usage) -> float | None:
    """Return the price of requests in US dollars: nothing if there were none, `None` if the price of one is not known."""
    return usage.usd if usage.requests else 0.0


def _right(score: Score) -> bool:
    return score.valid and score.answer is not False and score.calls is not False


def _ratio(one: int, other: int) -> float | None:
    return one / other if other else None


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
    """One planner over all tasks. Rates and means are from 0 to 1; `None`: nothing was measured.

    Attributes:
        tokens: Of all plannings.
        usd: The price of all plannings; `None`: the price of a request is not known.
        answer: The share of right answers, after patches.
        answer_first: The share that was right without a patch.
        patched: Samples whose plan was patched.
        rescued: Those of them whose answer and calls are right.
        calls: The share of samples whose calls are the expected ones.
        saved: The share of tasks that the expected saved plan answered.
        run_tokens: Of the runs, with their patches.
        run_usd: The price of the runs, as `usd`.
        against: How a ReAct loop compares; `None`: there was none.
    """

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
    answer_first: float | None = None
    patched: int = 0
    rescued: int = 0
    calls: float | None = None
    saved: float | None = None
    run_tokens: int = 0
    run_usd: float | None = None
    against: Against | None = None

    @classmethod
    def of(cls, planner: str, results: Sequence[TaskResult]) -> PlannerSummary:
        """Return the summary of one planner's results."""
        scores = [score for result in results for score in result.scores]
        usage = sum((score.usage for score in scores), Usage())
        in_runs = sum((score.run_usage for score in scores), Usage())
        patched = [score for score in scores if score.patches]
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
            cost_of(usage),
            guard_rates(scores),
            _mean(score.answer_first for score in scores),
            len(patched),
            sum(score.error is None and _right(score) for score in patched),
            _mean(score.calls for score in scores),
            _mean(score.saved for score in scores),
            in_runs.prompt_tokens + in_runs.completion_tokens,
            cost_of(in_runs),
            Against.of(scores),
        )

    def to_dict(self) -> dict[str, Json]:
        """Return the summary as JSON."""
        guards: dict[str, Json] = {each.guard: each.to_dict() for each in self.guards}
        against = None if self.against is None else self.against.to_dict()
        return {
            **{name: getattr(self, name) for name in self.__slots__},
            "guards": guards,
            "against": against,
        }


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
    retrieval: tuple[Retrieval, ...] = ()

    def to_dict(self) -> dict[str, Json]:
        """Return all results as JSON."""
        return {
            "set": self.name,
            "retrieval": [each.to_dict() for each in self.retrieval],
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
    run: Run | Mapping[str, Run] | None = None,
    judges: Models | None = None,
    rivals: Mapping[str, Rival] | None = None,
) -> Measured:
    """Return how well planners plan the tasks of a set; a task with a swap counts once for each variant.

    Args:
        tasks: The set.
        planners: The planners, by the names in the results.
        samples: How often each planner plans each task.
        concurrency: Plannings at the same time.
        run: Runs a plan if an answer or calls are expected, a guard is measured, the task has variants or a rival solves it too; by planner, if there
            are several; `None`: outputs are not looked at.
        judges: The models of guards that ask one, each by its alias; `None`: such guards cannot be asked.
        rivals: By planner, what solves each task as well, without a plan.

    Raises:
        ConfigError: There are too many samples of tasks with variants.
    """
    if samples > SAMPLES_MAX and any(task.swap is not None for task in tasks.tasks):
        raise ConfigError(
            f"{tasks.name}: expected at most {SAMPLES_MAX} samples, since tasks have swaps, found {samples}; leave those tasks out, or take fewer"
        )
    slots = asyncio.Semaphore(concurrency)

    runners: dict[str, Run] = dict.fromkeys(planners, run) if callable(run) else dict(run or {})

    async def one(name: str, planner: Planner, task: EvalTask) -> Score:
        async with slots:
            rival = (rivals or {}).get(name)
            # Of a task that a rival solves too, the plan is run in any case: the usage of both is compared.
            runner = runners.get(name) if rival is not None or _is_run(task) else None
            score = await _sample(planner, task, tasks.library, runner, judges)
            if rival is None:
                return score
            try:
                loop = await rival(task)
            except FirmplanError as failure:
                loop = ReactRun(None, (), 0, error=str(failure))
            return replace(score, react=react_score(loop, task.expected))

    # All samples start together and a semaphore spaces them; results are collected in the order of planners and
    # tasks, whichever ends first.
    async with asyncio.TaskGroup() as group:
        waiting = [
            (name, task, [group.create_task(one(name, planner, task)) for _ in range(samples)])
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
    found = retrieval_of(tasks.tasks, tasks.library)
    return Measured(tasks.name, tuple(summaries), tuple(results), tuple(differences(runs)), found)


def _is_run(task: EvalTask) -> bool:
    """Whether something of the run of a task's plan is measured."""
    expected = task.expected
    is_wanted = expected.answer is not None or expected.calls is not None
    return is_wanted or bool(task.guards) or task.swap is not None


async def _sample(
    planner: Planner, task: EvalTask, library: Sequence[SavedPlan], run: Run | None, judges: Models | None
) -> Score:
    """Return the score of one planning of a task, and of the run of its plan.

    Args:
        planner: The planner.
        task: The task.
        library: Saved plans that may answer it.
        run: Runs the plan; `None`: the run is not looked at.
        judges: The models of guards that ask one.
    """
    begun = time.monotonic()
    try:
        # `complete=True`: a plan that still needs an input would be valid and could not be run.
        planned = await planner.plan(task.task, task.tools, inputs=task.inputs, saved=library, complete=True)
    except PlanningFailed as failure:
        attempts: tuple[Attempt, ...] = tuple(failure.attempts)
        score = no_plan(attempts, time.monotonic() - begun, str(failure))
        return score if task.swap is None else replace(score, outcome="no plan")
    score = score_of(planned.plan, planned.attempts, time.monotonic() - begun, task.expected)
    if (wanted := task.expected.plan) is not None:
        score = replace(score, saved=planned.source in (f"saved:{wanted}", f"adapted:{wanted}"))
    if run is None:
        return score
    try:
        ran = await run(task, planned)
    except FirmplanError as failure:
        ran = Ran(None, failure=str(failure))
    return await _with_run(score, task, ran, judges)


async def _with_run(score: Score, task: EvalTask, ran: Ran, judges: Models | None) -> Score:
    """Return the score with what a run came to."""
    answer, calls = _is_right(ran, task.expected)
    score = replace(
        score,
        answer=answer,
        answer_first=None if answer is None else answer and not ran.patches,
        patches=ran.patches,
        calls=calls,
        run_usage=ran.usage,
        error=ran.failure,
    )
    if ran.failure is not None:
        return score if task.swap is None else replace(score, outcome="no output")
    verdicts, usage = await ask_guards(task.guards, ran, task.task, judges)
    return replace(
        score,
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
