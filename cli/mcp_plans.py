"""Saved plans as tools of an MCP server: the plan's inputs are the arguments, with their types.

A tool is called `plan_` and the plan's name, in the letters that every client takes. Names that come to the same, and
plans past `PLANS_MAX`, are left to `run_plan`, which takes any plan by its own name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from ..planner import SavedPlan
from ..plans import Json, Plan

PREFIX: Final = "plan_"
NAME_MAX: Final = 64  # what the strictest clients take
VALUES: Final = frozenset({"const", "enum", "default", "examples"})  # what stands there is data
NAMED: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
PLANS_MAX: Final = 100  # more tools than that help no model to choose


def plan_tools(saved: Sequence[SavedPlan]) -> dict[str, SavedPlan]:
    """Return tool name -> plan, in the order of the plans' names."""
    found: dict[str, SavedPlan] = {}
    for each in sorted(saved, key=lambda each: each.name):
        name = (PREFIX + re.sub(r"[^A-Za-z0-9_-]", "_", each.name))[:NAME_MAX]
        if len(found) < PLANS_MAX:
            found.setdefault(name, each)
    return found


def input_schema(plan: Plan) -> dict[str, Any]:
    """Return the JSON Schema of a plan's inputs, self-contained."""
    schemas = {name: cast("Mapping[str, Json]", schema) for name, schema in plan.inputs.items()}
    made: dict[str, Any] = {
        "type": "object",
        "properties": {name: _moved(dict(schema)) for name, schema in schemas.items()},
        "required": [name for name, schema in schemas.items() if "default" not in schema],
        "additionalProperties": False,
    }
    if plan.types:
        made["$defs"] = {name: _moved(cast("Json", dict(schema))) for name, schema in plan.types.items()}
    return made


def description(saved: SavedPlan) -> str:
    """Return what a model reads of a plan: its task, what its author says of it, and how it is kept."""
    parts = [saved.plan.task or "", saved.plan.description or "", f"Runs the saved plan '{saved.name}'."]
    return "\n".join(part for part in parts if part)


def _moved(schema: Json) -> Json:
    """Return a schema whose references lead into the schema that it is put into."""
    match schema:
        case dict():
            made = {key: _part(key, part) for key, part in schema.items()}
            ref = made.get("$ref")
            if isinstance(ref, str) and ref.startswith("#/types/"):
                made["$ref"] = f"#/$defs/{ref.removeprefix('#/types/')}"
            return made
        case list():
            return [_moved(part) for part in schema]
        case _:
            return schema


def _part(key: str, part: Json) -> Json:
    if key in VALUES:
        return part
    if key in NAMED and isinstance(part, dict):
        return {name: _moved(each) for name, each in part.items()}
    return _moved(part)
