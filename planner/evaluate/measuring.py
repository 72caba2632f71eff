"""Planners side by side: the tasks of a set, planned several times by each, scored and summed up.

Runs are whoever calls' business: `run` gives a plan's output, or raises. The order of results is that of planners, tasks and
samples, whatever ends first.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ...errors import FirmplanError, PlanningFailed
from ...plans.values import Json
from ...tools.models.completion import Usage
from ..drafting.attempt import Attempt
from ..planner import Planned, Planner
from .outline import agreement
from .scoring import Score, is_answer, no_plan, score_of
from .task_set import SetTask, TaskSet

Run = Callable[[SetTask, Planned], Awaitable[Json]]
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
        return agreement([outline for each in self.scores if (outline := each.outline) is not None])

    def to_dict(self) -> dict[str, Json]:
        """Return the result as JSON."""
        scores: list[Json] = [each.to_dict() for each in self.scores]
        return {"planner": self.planner, "task": self.task, "agreement": self.agreement, "scores": scores}


@dataclass(frozen=True, slots=True)
class Summary:
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
    def of(cls, planner: str, results: Sequence[TaskResult]) -> Summary:
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
    summaries: tuple[Summary, ...]
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

    async def one(planner: Planner, task: SetTask) -> Score:
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
    summaries = [Summary.of(name, [each for each in results if each.planner == name]) for name in planners]
    return Measured(tasks.name, tuple(summaries), tuple(results))


async def _sample(planner: Planner, task: SetTask, run: Run | None) -> Score:
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
