"""The planning of a `plan_for` step: from a command of the machine to the event of its outcome.

The executor does not know planners, so the engine hands in a `StepPlanner`. What belongs to the run is here: what the planner may see, its share of
the budget, and the last look at its sub-plan, which may not go past the bounds of its step whoever made it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field
from itertools import chain
from typing import TYPE_CHECKING, Final, Protocol, cast

from ...errors import (
    Cannot,
    ConfigError,
    InputRejected,
    PlanError,
    PlanningFailed,
    PlanRejected,
    Question,
)
from ...plans.expressions.functions import EXPRESSION_VERSION
from ...plans.immutable import immutable
from ...plans.plan import EndorseStep, Plan, PlanForStep, ToolStep
from ...plans.values import Json
from ..budget import PLANNING, PlanningCost, usage_of_models
from ..canonical_value import CanonicalValue
from ..events import BudgetReached, CallFailed, CallSucceeded
from ..journal.toolset_lock import tool_names
from ..limits import bounded
from ..loops import ASKED, EXPRESSIONS, PLAN

if TYPE_CHECKING:
    from ..budget import Budget
    from ..commands import StartPlanning

CANNOT: Final = "cannot"
"""Code of a step whose planner says that it cannot be done."""
UNFIT_PLAN: Final = PlanRejected.code
"""Code of a step whose sub-plan goes past the bounds of the step."""
NOT_ALLOWED: Final = (PlanForStep, EndorseStep)
"""Steps that no sub-plan has: another planning would have no bound, and whoever saw untrusted data must not choose what is endorsed."""


@immutable
class StepTask:
    """What the planner is asked for.

    Attributes:
        words: What the sub-plan is to do.
        given: The values that are its inputs.
        hidden: Names of those that hold untrusted data.
        tools: The tools that its steps may call.
        steps_max: The most steps that it has, those of its inner plans included.
        returns: JSON Schema of its output.
        answers: The planner's questions so far, each with the answer.
    """

    words: str
    given: Mapping[str, Json]
    hidden: frozenset[str] = field(compare=False)
    tools: Sequence[str]
    steps_max: int
    returns: Mapping[str, Json]
    answers: Sequence[tuple[str, Json]] = field(default=())

    @classmethod
    def of(cls, request: Json, hidden: Collection[str] | None = ()) -> StepTask:
        """Return the task of a request, as `StartPlanning` has it; `hidden` is `None` if every value counts as untrusted."""
        asked = cast("dict[str, Json]", request)
        given = cast("dict[str, Json]", asked["given"])
        answers = cast("list[tuple[str, Json]]", asked.get("answers", []))
        return cls(
            words=str(asked["task"]),
            given=given,
            hidden=frozenset(given if hidden is None else hidden),
            tools=cast("list[str]", asked["tools"]),
            steps_max=cast("int", asked["max_steps"]),
            returns=cast("dict[str, Json]", asked["returns"]),
            answers=[(question, answer) for question, answer in answers],
        )


class StepPlanner(Protocol):
    """Makes the sub-plans of `plan_for` steps."""

    async def plan_step(self, task: StepTask, cost: PlanningCost) -> Plan:
        """Return a checked sub-plan, whose inputs are the given values.

        Args:
            task: What is asked for.
            cost: Counts the usage of the planning, and says what is left for it.

        Raises:
            PlanningFailed: There is no plan.
            PlanRejected: The plan does not pass the check.
            InputRejected: The words are no task.
            ConfigError: No model is configured.
        """
        ...


def cost_of(budget: Budget, now: Callable[[], float]) -> PlanningCost:
    """Return what is left for a planning that begins now, before it is reserved in the budget of its run."""
    return PlanningCost(now, dict(budget.limits), {name: budget.spent[name] for name in PLANNING})


async def sub_plan_of(
    command: StartPlanning,
    planner: StepPlanner | None,
    task: StepTask,
    cost: PlanningCost,
) -> CallSucceeded | CallFailed | BudgetReached:
    """Return the outcome of a planning.

    Args:
        command: What the machine asks for.
        planner: Who plans; `None`: nobody.
        task: The task of the command.
        cost: The rest of the budget of the run, and what the planning uses.
    """
    step = command.step
    if planner is None:
        return CallFailed(step, ConfigError.code, f"'{step}' needs a planner, and this run has none")
    try:
        async with asyncio.timeout(command.timeout_s):
            plan = await planner.plan_step(task, cost)
    except TimeoutError:
        message = f"no sub-plan within {command.timeout_s:g} s"
        return CallFailed(step, "timeout", message, retryable=True, usage=usage_of(cost))
    except PlanningFailed as fault:
        return _without_plan(step, fault, usage_of(cost))
    except (PlanError, InputRejected, ConfigError) as fault:
        return CallFailed(step, fault.code, bounded(str(fault)), usage=usage_of(cost))
    if (unfit := find_unfit(plan, task)) is not None:
        return CallFailed(step, UNFIT_PLAN, unfit, usage=usage_of(cost))
    made: Json = {PLAN: plan.to_dict(), EXPRESSIONS: EXPRESSION_VERSION}
    return CallSucceeded(step, CanonicalValue.of(made), usage=usage_of(cost))


def _without_plan(
    step: str, fault: PlanningFailed, usage: dict[str, Json]
) -> CallSucceeded | CallFailed | BudgetReached:
    """Return the outcome of a planning that ended in something else than a plan."""
    if fault.limit is not None:
        return BudgetReached(step, fault.limit, usage)
    match fault.outcome:
        case Cannot(reason):
            return CallFailed(step, CANNOT, bounded(reason), usage=usage)
        case Question(text, returns):
            asked: Json = {ASKED: {"text": text, "returns": dict(returns)}}
            return CallSucceeded(step, CanonicalValue.of(asked), usage=usage)
        case None:
            return CallFailed(step, fault.code, bounded(str(fault)), retryable=True, usage=usage)


def find_unfit(plan: Plan, task: StepTask) -> str | None:
    """Return in words how a sub-plan goes past the bounds of its step; `None`: it does not."""
    steps = list(chain(plan.steps, *(inner.steps for inner in plan.plans.values())))
    if others := sorted({name for name in tool_names(plan) if name not in task.tools}):
        allowed = ", ".join(task.tools) or "none"
        return f"the sub-plan calls '{others[0]}', which the step does not list: expected only tools of it ({allowed})"
    if len(steps) > task.steps_max:
        return f"the sub-plan has {len(steps)} steps, with those of its inner plans: expected at most {task.steps_max}"
    for step in steps:
        if isinstance(step, NOT_ALLOWED):
            kind = "plan_for" if isinstance(step, PlanForStep) else "endorse"
            return f"step '{step.id}' of the sub-plan is a '{kind}' step, and no sub-plan has such steps: use another step"
        if isinstance(step, ToolStep) and step.templates["args"].secrets:
            return f"step '{step.id}' of the sub-plan uses a secret: a sub-plan has none"
    return None


def usage_of(cost: PlanningCost) -> dict[str, Json]:
    """Return the usage of a planning, as records of calls have it."""
    used, usd = cost.used, cost.used["usd"] if cost.is_priced else None
    return usage_of_models(int(used["model_calls"]), int(used["tokens"]), usd, cost.cached)
