"""Which saved plans a plan uses, by the names or digests that its steps give."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from itertools import chain
from typing import Any

from pydantic import ValidationError

from ..collecting import collector_paused
from ..plan import OWNED, Plan, PlanStep
from ..values import canonical, digest, parse_canonical
from .source import SourceError, parse_source

PLANS_MAX = 1000  # saved plans that one plan may lead to; more is a mistake


def references_of(plan: Plan) -> list[str]:
    """Return what a plan's `plan` steps name that are not its own inner plans, each once, in the plan's order."""
    steps = chain(plan.steps, *(inner.steps for inner in plan.plans.values()))
    names = (step.plan for step in steps if isinstance(step, PlanStep))
    return list(dict.fromkeys(name for name in names if name not in plan.plans))


def template_digest(plan: Plan) -> str:
    """Return what tells saved plans apart as answers to tasks: the plan's digest leaves out the task, which is the pattern."""
    return digest(canonical([plan.digest, plan.task]))


async def saved_plans_of(plan: Plan, find: Callable[[str], Awaitable[Plan | None]]) -> dict[str, Plan]:
    """Return every saved plan that a plan leads to, by the name or digest that leads there; what is missing is left out."""
    found: dict[str, Plan] = {}
    queue = references_of(plan)
    while queue and len(found) < PLANS_MAX:
        name = queue.pop()
        if name in found:
            continue
        other = await find(name)
        if other is not None:
            found[name] = other
            queue += references_of(other)
    return found


def find_plan_in(given: Plan | Mapping[str, Any] | str | bytes) -> Plan | None:
    """Return the plan that a value or a text is, or `None` if it has not the shape of one."""
    if isinstance(given, Plan):
        return given
    try:
        with collector_paused():
            return Plan.model_validate(parse_source(given).value if isinstance(given, str | bytes) else given)
    except (SourceError, ValidationError):
        return None


def find_plan_of_json(text: bytes) -> Plan | None:
    """Return the plan that a text of `text_in_given_order` says, or `None` if it has not the shape of one."""
    try:
        with collector_paused():
            return Plan.model_validate(parse_canonical(text), context={OWNED: True})
    except ValidationError:
        return None
