"""The schema of a plan that a model is shown: made for the tools, as far as there is room.

| form | tools | arguments |
| --- | --- | --- |
| typed | one alternative for each | by name and type; an expression may stand for any value |
| named | an enum of names | any |
| plain | any text | any |

The first form that is not too large is shown. It has only the keys that the prompt explains, since each key costs its tokens once for each
tool. The schema does not decide which answers are accepted: every object is read, also a plan exactly in the format, and the check
reports its problems. Constraints that servers with grammars refuse (patterns, formats) are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, TypeAlias, cast

from ...plans.format.json_schema import EXPRESSION, json_schema
from ...plans.signature import Signature
from ...plans.values import Json, canonical
from ...tools.models.answer import AnswerForm
from ...tools.schemas import with_prose
from .prompt import shows_ways

FORM_BYTES_MAX = 16_000
"""Size of a schema as canonical JSON: about 5,000 tokens, as much as the prompt beside it."""

Form: TypeAlias = Literal["typed", "named", "plain"]

_Object = dict[str, Json]
_TEXT: Json = {"type": "string"}
_ANY: Json = {}
_OBJECT: Json = {"type": "object", "additionalProperties": True}
_NAMES: Json = {"type": "array", "items": _TEXT}
_NOT_SHOWN = ("pattern", "format", "title", "default", "$schema", "examples")

_ASK: Json = {
    "type": "object",
    "properties": {"system": _TEXT, "prompt": _TEXT, "returns": _OBJECT},
    "required": ["prompt"],
}
_AGENT: Json = {
    "type": "object",
    "properties": {"goal": _TEXT, "tools": _NAMES, "returns": _OBJECT, "max_steps": {"type": "integer"}},
    "required": ["goal", "tools"],
}
_COMMON: _Object = {
    "for_each": _ANY,
    "when": _ANY,
    "after": _NAMES,
    "on_error": _ANY,
    "repeat": {
        "type": "object",
        "properties": {"until": _TEXT, "max": {"type": "integer"}},
        "required": ["until", "max"],
    },
}
_REASONING: Json = {
    "type": "string",
    "description": "What has to be done, in which order, with which tools.",
}
_REST: _Object = {
    "task": _TEXT,
    "description": _TEXT,
    "inputs": _OBJECT,
    "types": _OBJECT,
    "plans": _OBJECT,
}
_LEFT_OUT: Json = {
    "type": "array",
    "items": _TEXT,
    "description": "What of the task the plan does not do: the tool that is not called, and why. Empty if it does all.",
}


def plan_answer(tools: Sequence[Signature], *, simplest: bool = False) -> tuple[AnswerForm, Form]:
    """Return the answer that is asked for if a complete plan is wanted, and the form of its schema."""
    schema, form = _fitting(_plan, tools, simplest=simplest)
    purpose = "A plan in the firmplan format, version 1."
    return AnswerForm({"type": "object"}, name="plan", purpose=purpose, shown_schema=schema), form


def changes_answer(tools: Sequence[Signature]) -> tuple[AnswerForm, Form]:
    """Return the answer that is asked for if some steps of a plan are to be repaired, and the form of its schema."""
    schema, form = _fitting(_changes, tools, simplest=False)
    purpose = "The steps that change, whole; or the whole plan."
    return AnswerForm({"type": "object"}, name="changes", purpose=purpose, shown_schema=schema), form


def _fitting(
    wrap: Callable[[_Object], _Object], tools: Sequence[Signature], *, simplest: bool
) -> tuple[_Object, Form]:
    """Return the schema in the first form that is small enough."""
    forms: dict[Form, Callable[[], tuple[Json, _Object]]] = {
        "typed": partial(_typed, tools),
        "named": partial(_any_step, {"enum": [tool.name for tool in tools]}),
    }
    # The size is measured and not guessed by the number of tools: one tool may have a schema of pages.
    for form, build in () if simplest or not tools else forms.items():
        step, definitions = build()
        schema = wrap({"type": "array", "items": step})
        if definitions:
            schema["$defs"] = definitions
        if len(canonical(schema)) <= FORM_BYTES_MAX:
            return schema, form
    return wrap({"type": "array", "items": _any_step(_TEXT)[0]}), "plain"


def _plan(steps: _Object) -> _Object:
    properties: _Object = {
        "reasoning": _REASONING,
        "firmplan": {"type": "integer", "const": 1},
        **_REST,
        "steps": steps,
        "output": _ANY,
        "cannot": _TEXT,
        "question": {
            "type": "object",
            "properties": {"text": _TEXT, "returns": _OBJECT},
            "required": ["text"],
        },
        # Last: what is missing is known once the steps are written.
        "left_out": _LEFT_OUT,
    }
    return {"type": "object", "properties": properties, "required": ["firmplan", "steps"]}


def _changes(steps: _Object) -> _Object:
    properties: _Object = {
        "reasoning": _REASONING,
        "changes": {**steps, "description": "Steps that change, whole, by their ids; new steps too."},
        "remove": {**cast("_Object", _NAMES), "description": "Ids of steps that go."},
        "inputs": _OBJECT,
        "types": _OBJECT,
        "output": _ANY,
        "left_out": _LEFT_OUT,
    }
    return {"type": "object", "properties": properties, "required": ["changes"]}


def _any_step(tool: Json) -> tuple[Json, _Object]:
    """Return one schema for all steps, and no definitions."""
    actions: _Object = {"tool": tool, "args": _OBJECT, "ask": _ASK, "set": _ANY, "plan": _TEXT, "fail": _TEXT}
    properties: _Object = {
        "id": _TEXT,
        "why": _TEXT,
        **actions,
        "agent": _AGENT,
        "ask_person": _TEXT,
        **_COMMON,
    }
    return {"type": "object", "properties": properties, "required": ["id"]}, {}


def _typed(tools: Sequence[Signature]) -> tuple[Json, _Object]:
    """Return a schema with one alternative for each tool and each other action, and its definitions."""
    lifted = cast("dict[str, _Object]", json_schema(list(tools))["$defs"])
    # A part of the schema that every alternative repeats goes into `$defs`; a reference costs fewer tokens.
    definitions: _Object = {f"{key}": part for key, part in _COMMON.items() if part not in (_ANY, _NAMES)}
    common: _Object = {
        key: {"$ref": f"#/$defs/{key}"} if key in definitions else part for key, part in _COMMON.items()
    }

    def step(action: _Object, required: list[Json]) -> Json:
        properties: _Object = {"id": _TEXT, "why": _TEXT, **action, **common}
        return {"type": "object", "properties": properties, "required": ["id", *required]}

    alternatives: list[Json] = []
    for tool in tools:
        args = _shown(lifted[f"args of {tool.name}"], tool.name)
        # A stranger's prose stands in the prompt alone, as data between marks: a schema is read as an instruction.
        args = with_prose(args, lambda _: None) if tool.is_provided else args
        definitions[f"{tool.name}_args"] = args
        action: _Object = {"tool": {"const": tool.name}, "args": {"$ref": f"#/$defs/{tool.name}_args"}}
        # A tool without required arguments may be called with none, and models leave `args` out then.
        needs = isinstance(args, dict) and bool(args.get("required"))
        alternatives.append(step(action, ["tool", "args"] if needs else ["tool"]))
    alternatives += [
        step({"ask": _ASK}, ["ask"]),
        step({"set": _ANY}, ["set"]),
        step({"plan": _TEXT, "args": _OBJECT}, ["plan"]),
        step({"agent": _AGENT}, ["agent"]),
        step({"ask_person": _TEXT, "returns": _OBJECT}, ["ask_person"]),
        step({"fail": _TEXT}, ["fail"]),
        *([step({"endorse": _ANY, "returns": _OBJECT}, ["endorse", "returns"])] if shows_ways(tools) else []),
    ]
    return {"anyOf": alternatives}, definitions


def _shown(schema: Json, tool: str, *, is_names: bool = False) -> Json:
    """Return a schema of arguments as it is shown: its references lead into `$defs`, and no alternative is repeated."""
    if isinstance(schema, list):
        parts = [_shown(part, tool) for part in schema]
        return [part for index, part in enumerate(parts) if part not in parts[:index]]
    if not isinstance(schema, dict):
        return schema
    if not is_names and schema == EXPRESSION:
        return _TEXT
    made: _Object = {}
    for key, part in schema.items():
        # Servers that compile a schema to a grammar refuse patterns and formats. The check holds the arguments to
        # them all the same.
        if key in _NOT_SHOWN and not is_names:
            continue
        if key == "$ref" and isinstance(part, str):
            made[key] = part.replace(f"#/$defs/args%20of%20{tool}", f"#/$defs/{tool}_args")
        # These hold values and not schemas: a value may look like a schema.
        elif key in ("enum", "const", "required") and not is_names:
            made[key] = part
        else:
            inner = key in ("properties", "$defs", "definitions") and not is_names
            made[key] = _shown(part, tool, is_names=inner)
    return _merged(made)


def _merged(schema: _Object) -> Json:
    """Return a schema with nested alternatives in one list; a single alternative replaces the list."""
    # Each argument is `anyOf` its type and an expression, so that lists of alternatives nest. Flat lists are
    # shorter, and models read them better.
    branches = schema.get("anyOf")
    if not isinstance(branches, list):
        return schema
    flat: list[Json] = []
    for branch in branches:
        inner = branch.get("anyOf") if isinstance(branch, dict) and list(branch) == ["anyOf"] else None
        flat += [each for each in (inner if isinstance(inner, list) else [branch]) if each not in flat]
    rest = {key: part for key, part in schema.items() if key != "anyOf"}
    match flat:
        case [dict(only)]:
            return {**rest, **only}
        case _:
            return {**rest, "anyOf": flat}
