"""The plan in what a model answers.

Any JSON object is read, a plan in the format as it is among them; what is wrong with it is for the check to say. Only what models add for the wire's sake is taken off: `reasoning`, nulls for keys not used,
a wrapper around the plan, steps and arguments as a string of JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from ...plans.plan import ACTIONS
from ...plans.values import Json, NotJson, parse

_PLAN_KEYS_OFTEN_NULL = ("task", "description", "inputs", "types", "plans", "output")
_STEP_KEYS_OFTEN_NULL = (
    "args",
    "for_each",
    "when",
    "after",
    "on_error",
    "repeat",
    "retries",
    "timeout",
    "why",
)
WRAPPERS = ("plan", "answer")


def plan_in(value: Json, task: str) -> Json:
    """Return the plan in a model's answer; version and task are filled in where it left them out."""
    if not isinstance(value, dict):
        return value
    plan = unwrapped(value)
    kept = {
        key: part
        for key, part in plan.items()
        if key != "reasoning" and not (part is None and key in _PLAN_KEYS_OFTEN_NULL)
    }
    steps = parsed(kept.get("steps"))
    if isinstance(steps, list):
        kept["steps"] = [step_in(step) if isinstance(step, dict) else step for step in steps]
    return {"firmplan": 1, "task": task, **kept}


def unwrapped(value: dict[str, Json]) -> dict[str, Json]:
    """Return the plan inside an object that wraps it."""
    for wrapper in WRAPPERS:
        inner = parsed(value.get(wrapper))
        if "steps" not in value and isinstance(inner, dict) and "steps" in inner:
            return inner
    return value


def parsed(value: Json) -> Json:
    """Return JSON that came as text."""
    if not isinstance(value, str):
        return value
    try:
        return parse(value)
    except NotJson:
        return value


def step_in(step: Mapping[str, Json]) -> Json:
    """Return a step without nulls that stand for keys not used; `"set": null` alone is an action."""
    given = [key for key in ACTIONS if step.get(key) is not None]
    unused = [*_STEP_KEYS_OFTEN_NULL, *(ACTIONS if given else [key for key in ACTIONS if key != "set"])]
    kept = {key: part for key, part in step.items() if not (part is None and key in unused)}
    if isinstance(args := parsed(kept.get("args")), dict):
        kept["args"] = args
    return cast("Json", kept)
