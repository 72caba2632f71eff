"""How good one plan is for one task, by what is expected of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...plans.plan import Plan
from ...plans.values import Json
from ...tools.models.completion import Usage
from ...tools.schemas import Checker
from ..drafting.attempt import Attempt
from .outline import Outline, f1
from .task_set import Expected


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
    def outline(self) -> Outline | None:
        """What the plan does."""
        return None if self.plan is None else Outline.of(self.plan)

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
    outline = Outline.of(plan)
    wanted = None if expected.solution is None else Outline.of(expected.solution)
    drafts = [each for each in attempts if each.source == "model"]
    return Score(
        valid=True,
        valid_first=not drafts or drafts[0].ok,
        rounds=max(0, len(drafts) - 1),
        seconds=seconds,
        usage=usage_of(attempts),
        tools=outline.tools.issuperset(expected.tools) if expected.tools else None,
        forbidden=tuple(each for each in expected.forbidden if each in outline.tools),
        steps=None if wanted is None else f1(outline.actions, wanted.actions),
        edges=None if wanted is None else f1(outline.edges, wanted.edges),
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
