"""Which profile suits a model: it plans two tiny tasks in the full profile, with one draft each.

A model that plans both, and calls no tool that a task does not need, gets along with the full profile. One that does not is planned with in the small
profile. Nothing is run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from ...errors import PlanningFailed, ToolError
from ...tools.models.endpoint import Model
from ...tools.tool import Tool, tool
from ..planner import Planner
from .measuring import PlanShape


@dataclass(frozen=True, slots=True)
class ProfileAdvice:
    """The profile that suits a model.

    Attributes:
        profile: `"full"` or `"small"`.
        found: Why, in a sentence.
    """

    profile: Literal["full", "small"]
    found: str


def _never_called(given: str) -> ToolError:
    return ToolError(
        f"expected a plan alone, found a call with {given!r}: the tools of this probe do nothing"
    )


@tool(effect="pure")
def calculate(expression: str) -> float:
    """The value of an arithmetic expression."""
    raise _never_called(expression)


@tool(effect="read")
def population(city: str) -> int:
    """How many people live in a city."""
    raise _never_called(city)


@tool(effect="read")
def search(query: str) -> list[str]:
    """Texts about a subject."""
    raise _never_called(query)


_TOOLS: Final[tuple[Tool, ...]] = (calculate, population, search)
_TASKS: Final = (
    ("What is 17 * 23?", frozenset({"calculate"}), frozenset[str]()),
    (
        "How many more people live in Rome than in Oslo?",
        frozenset({"population"}),
        frozenset({"calculate"}),
    ),
)
"""Each task with the tools that its plan calls, and those that it may call."""


async def advise_profile(model: Model) -> ProfileAdvice:
    """Return the profile that suits a model, after at most two requests for plans. Raises: ConfigError: no model is configured."""
    model.resolve()
    planner = Planner(model, max_repairs=0, adapt=False, profile="full")
    for task, needed, allowed in _TASKS:
        try:
            planned = await planner.plan(task, _TOOLS)
        except PlanningFailed as failure:
            why = next((attempt.error for attempt in failure.attempts[-1:] if attempt.error), "it has faults")
            return ProfileAdvice(
                "small", f"its plan for '{task}' cannot be used: {' '.join(why.split())[:200]}"
            )
        called = PlanShape.of(planned.plan).actions
        if not needed <= {*called} <= needed | allowed:
            return ProfileAdvice("small", f"its plan for '{task}' calls {', '.join(called) or 'nothing'}")
    return ProfileAdvice("full", "it plans two tiny tasks well")
