"""A plan as it is asked of a model, and the plan in what comes back.

The model is shown a schema of the format in short, with one field more, `reasoning`, first: room to think before the first
step. What it must keep to is the format itself, and the check says so: any JSON object is read, a plan in the
format as it is among them. Only what models add for the wire's sake is taken off: `reasoning`, nulls for keys not used,
a wrapper around the plan, steps and arguments as a string of JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from ..plans.plan import ACTIONS
from ..plans.values import Json, NotJson, parse
from ..tools.answer import Answer

_TEXT: Json = {"type": "string"}
_ANY: Json = {}
_OBJECT: Json = {"type": "object", "additionalProperties": True}
_NAMES: Json = {"type": "array", "items": _TEXT}

_STEP: Json = {
    "type": "object",
    "properties": {
        "id": _TEXT,
        "why": _TEXT,
        "tool": _TEXT,
        "args": _OBJECT,
        "ask": {
            "type": "object",
            "properties": {"system": _TEXT, "prompt": _TEXT, "returns": _OBJECT},
            "required": ["prompt"],
        },
        "set": _ANY,
        "plan": _TEXT,
        "agent": _OBJECT,
        "for_each": _ANY,
        "when": _ANY,
        "after": _NAMES,
        "on_error": _ANY,
        "repeat": {
            "type": "object",
            "properties": {"until": _TEXT, "max": {"type": "integer"}},
            "required": ["until", "max"],
        },
        "retries": {"type": "integer"},
        "timeout": {"type": "number"},
    },
    "required": ["id"],
}
_PLAN: dict[str, Json] = {
    "type": "object",
    "properties": {
        "reasoning": {
            "type": "string",
            "description": "What has to be done, in which order, with which tools.",
        },
        "firmplan": {"type": "integer", "const": 1},
        "task": _TEXT,
        "description": _TEXT,
        "inputs": _OBJECT,
        "types": _OBJECT,
        "plans": _OBJECT,
        "steps": {"type": "array", "items": _STEP},
        "output": _ANY,
    },
    "required": ["firmplan", "steps"],
}

ANSWER = Answer(
    {"type": "object"}, name="plan", purpose="A plan in the firmplan format, version 1.", told=_PLAN
)
"""What a model is asked for: shown as a plan, read as any object."""

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
_WRAPPERS = ("plan", "answer")


def plan_in(value: Json, task: str) -> Json:
    """Return the plan in a model's answer; version and task are filled in where it left them out."""
    if not isinstance(value, dict):
        return value
    plan = _unwrapped(value)
    kept = {
        key: part
        for key, part in plan.items()
        if key != "reasoning" and not (part is None and key in _PLAN_KEYS_OFTEN_NULL)
    }
    steps = _parsed(kept.get("steps"))
    if isinstance(steps, list):
        kept["steps"] = [_step(step) if isinstance(step, dict) else step for step in steps]
    return {"firmplan": 1, "task": task, **kept}


def _unwrapped(value: dict[str, Json]) -> dict[str, Json]:
    for wrapper in _WRAPPERS:
        inner = _parsed(value.get(wrapper))
        if "steps" not in value and isinstance(inner, dict) and "steps" in inner:
            return inner
    return value


def _parsed(value: Json) -> Json:
    """Return JSON that came as text."""
    if not isinstance(value, str):
        return value
    try:
        return parse(value)
    except NotJson:
        return value


def _step(step: Mapping[str, Json]) -> Json:
    """Return a step without nulls that stand for keys not used; `"set": null` alone is an action."""
    given = [key for key in ACTIONS if step.get(key) is not None]
    unused = [*_STEP_KEYS_OFTEN_NULL, *(ACTIONS if given else [key for key in ACTIONS if key != "set"])]
    kept = {key: part for key, part in step.items() if not (part is None and key in unused)}
    if isinstance(args := _parsed(kept.get("args")), dict):
        kept["args"] = args
    return cast("Json", kept)
