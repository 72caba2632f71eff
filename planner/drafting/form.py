"""The schema of a plan that a model is shown: made for the tools, as far as there is room.

| form | tools | arguments |
| --- | --- | --- |
| typed | one alternative for each | by name and type; an expression may stand for any value |
| named | an enum of names | any |
| plain | any text | any |

The first form that is not too large is shown. It has only the keys that the prompt explains, since each key costs its tokens once for each tool, and
nothing that the prompt says in words: no descriptions, and no types of modifiers. All actions but calls of tools share one alternative. The
schema does not decide which answers are accepted: every object is read, also a plan exactly in the format, and the check reports its problems.
Constraints that servers with grammars refuse (patterns, formats) are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, TypeAlias, cast

from ...plans.format.json_schema import EXPRESSION, argument_schemas
from ...plans.signature import Signature
from ...plans.values import Json, canonical
from ...tools.models.answer import AnswerForm
from ...tools.types.schemas import with_prose
from .prompt import shows_ways

FORM_BYTES_MAX = 16_000
"""Size of a schema as canonical JSON: about 5,000 tokens, as much as the prompt beside it."""

Form: TypeAlias = Literal["typed", "named", "plain"]

_Object = dict[str, Json]
_TEXT: Json = {"type": "string"}
_ANY: Json = {}
_OBJECT: Json = {"type": "object"}
_NAMES: Json = {"type": "array", "items": _TEXT}
_NOT_SHOWN = ("pattern", "format", "title", "description", "default", "$schema", "examples")

_ASK: Json = {
    "type": "object",
    "properties": {
        "prompt": _TEXT,
        "returns": _OBJECT,
        "model": _TEXT,
        "guard": _ANY,
    },
    "required": ["prompt"],
}
_AGENT: Json = {
    "type": "object",
    "properties": {
        "goal": _TEXT,
        "tools": {"type": "array"},
        "returns": _OBJECT,
        "max_steps": {"type": "integer"},
    },
    "required": ["goal", "tools"],
}
# Any value: the prompt tells their types once, and here they would stand once for each tool.
_MODIFIERS: _Object = {"for_each": _ANY, "when": _ANY, "after": _ANY, "on_error": _ANY, "repeat": _ANY}
_OF_CALLS: _Object = {"retries": _ANY, "timeout": _ANY}
_ACTIONS: _Object = {
    "ask": _ASK,
    "set": _ANY,
    "agent": _AGENT,
    "plan": _TEXT,
    "args": _OBJECT,
    "plan_for": _TEXT,
    "given": _ANY,
    "tools": _ANY,
    "ask_person": _TEXT,
    "wait": _OBJECT,
    "fail": _TEXT,
    "returns": _OBJECT,
}
"""The actions that are no calls of tools, with what stands beside them."""
_REASONING: Json = _TEXT
_REST: _Object = {"inputs": _OBJECT, "types": _OBJECT, "plans": _OBJECT}
_LEFT_OUT: Json = {"type": "array"}


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
        "firmplan": {"const": 1},
        **_REST,
        "steps": steps,
        "output": _ANY,
        "cannot": _TEXT,
        "question": _ANY,
        # Last: what is missing is known once the steps are written.
        "left_out": _LEFT_OUT,
    }
    return {"type": "object", "properties": properties, "required": ["firmplan", "steps"]}


def _changes(steps: _Object) -> _Object:
    properties: _Object = {
        "reasoning": _REASONING,
        "changes": steps,
        "remove": _NAMES,
        "inputs": _OBJECT,
        "types": _OBJECT,
        "output": _ANY,
        "left_out": _LEFT_OUT,
    }
    return {"type": "object", "properties": properties, "required": ["changes"]}


def _any_step(tool: Json) -> tuple[Json, _Object]:
    """Return one schema for all steps, and no definitions."""
    properties: _Object = {"id": _TEXT, "tool": tool, **_ACTIONS, **_MODIFIERS, **_OF_CALLS}
    return {"type": "object", "properties": properties, "required": ["id"]}, {}


def _typed(tools: Sequence[Signature]) -> tuple[Json, _Object]:
    """Return a schema with one alternative for each tool and one for all other actions, and its definitions."""
    lifted = argument_schemas(list(tools))
    definitions: _Object = {}
    alternatives: list[Json] = []
    for tool in tools:
        # Prose stands in the prompt, that of strangers as data between marks; here it would be said twice, and read as an instruction.
        args = with_prose(_shown(lifted[tool.name], tool.name), lambda _: None)
        # A schema that refers to parts of itself needs a name.
        if f"#/$defs/{tool.name}_args" in canonical(args).decode():
            definitions[f"{tool.name}_args"] = args
            args = cast("Json", {"$ref": f"#/$defs/{tool.name}_args"})
        # A tool without required arguments may be called with none, and models leave `args` out then.
        required: list[Json] = ["id", "tool", *(["args"] if tool.parameters.get("required") else [])]
        name: Json = {"const": tool.name}
        call: _Object = {"id": _TEXT, "tool": name, "args": args, **_MODIFIERS, **_OF_CALLS}
        alternatives.append({"type": "object", "properties": call, "required": required})
    endorse: _Object = {"endorse": _ANY} if shows_ways(tools) else {}
    others: _Object = {
        "type": "object",
        "properties": {"id": _TEXT, **_ACTIONS, **endorse, **_MODIFIERS},
        "required": ["id"],
        # Closed: else it would take a call of a tool that does not exist.
        "additionalProperties": False,
    }
    return {"anyOf": [*alternatives, others]}, definitions


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
        # Nor is said that there are no other arguments: a grammar has no others, and the check tells.
        if not is_names and (key in _NOT_SHOWN or (key == "additionalProperties" and part is False)):
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
