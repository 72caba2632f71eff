"""The other ends of a planning: the model says that the task cannot be done, or asks the user a question first.

A draft says so in `cannot` or `question`, with no steps. A draft with steps is a plan, whatever else it says.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import Cannot, PlanningFailed, Question
from ...plans.types.read import read_schema
from ...plans.values import Json
from ...tools.models.completion import Completion
from .attempt import Attempt, quoted_task
from .draft import parsed, unwrapped

QUESTIONS_MAX = 3
"""Questions of one planning that the user is asked; a model that asks more does not get to a plan."""
TEXT_CHARACTERS_MAX = 2_000
"""A reason or a question is a few sentences; a longer one is cut."""
_TEXT: dict[str, Json] = {"type": "string"}


def outcome_in(value: Json) -> Cannot | Question | None:
    """Return what a model's answer says in the place of a plan; `None`: it is a plan, or nothing."""
    value = parsed(value)
    draft = unwrapped(value) if isinstance(value, dict) else {}
    if draft.get("steps"):
        return None
    if reason := _text_in(draft.get("cannot")):
        return Cannot(reason)
    match parsed(draft.get("question")):
        case {"text": str(text), "returns": dict(returns)} if _text_in(text) and not read_schema(returns)[1]:
            return Question(_text_in(text), returns)
        # A question of an odd form is still a question: its answer is text.
        case str(text) | {"text": str(text)} if _text_in(text):
            return Question(_text_in(text), _TEXT)
        case _:
            return None


def no_plan_in(
    completion: Completion, outcome: Cannot | Question, number: int, approach: str = "draft"
) -> Attempt:
    """Return an answer in the place of a plan as an attempt of the planning.

    Args:
        completion: The model's words.
        outcome: What they say.
        number: The number of the attempt.
        approach: What was asked for.
    """
    word = "cannot" if isinstance(outcome, Cannot) else "a question"
    return Attempt(
        number,
        completion.raw,
        usage=completion.usage,
        error=f"{word} in the place of a {'patch' if approach == 'patch' else 'plan'}",
        approach=approach,
    )


def ended_by(
    task: str,
    outcome: Cannot | Question,
    attempts: Sequence[Attempt],
    asked: int,
    advice: str | None = None,
) -> PlanningFailed:
    """Return the end of a planning by something else than a plan.

    Args:
        task: The words.
        outcome: What the model said.
        attempts: What was tried.
        asked: How many questions the user has answered so far.
        advice: What to do about a task that cannot be done.
    """
    words = quoted_task(task)
    if isinstance(outcome, Cannot):
        message = f"the planner says that the task {words} cannot be done: {outcome.reason}"
        message += "" if advice is None else f"\nWhat to do: {advice}"
        return PlanningFailed(message, attempts, outcome=outcome)
    if asked >= QUESTIONS_MAX:
        message = (
            f"no plan for the task {words}: the planner asks again after {asked} answers: {outcome.text}"
        )
        return PlanningFailed(f"{message}\nWhat to do: say the task more precisely.", attempts)
    message = f"the planner asks before it plans the task {words}: {outcome.text}"
    return PlanningFailed(message, attempts, outcome=outcome)


def _text_in(value: Json) -> str:
    """Return a text without surrounding space, bounded; empty for any other value."""
    return value.strip()[:TEXT_CHARACTERS_MAX] if isinstance(value, str) else ""
