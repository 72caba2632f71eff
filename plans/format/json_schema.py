"""The JSON Schema of the plan format: for editors, for models that write plans, for anyone who checks plans elsewhere.

It accepts what has the shape of a plan (`shape.py`), and nothing else. With a toolset it goes further: a `tool` step names a
tool that is there and gives its arguments by their names and types, where `${..}` may stand for any value.

What JSON Schema cannot say is `check`'s: names, references, the types of expressions, flow. (It also takes `1.0` for the
integer 1.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from ..signature import Signature, Signatures, signatures_of
from ..values import Json

DIALECT = "https://json-schema.org/draft/2020-12/schema"
EXPRESSION: dict[str, Json] = {"type": "string", "pattern": r"\$\{", "description": "An expression."}

_LIFTED = (
    "items",
    "additionalProperties",
    "contains",
    "then",
    "else",
    "unevaluatedProperties",
    "unevaluatedItems",
)
_LIFTED_LISTS = ("prefixItems", "anyOf", "allOf")
_LIFTED_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_DROPPED = (
    "not",
    "if",
    "then",
    "else",
    "uniqueItems",
    "propertyNames",
    "dependentRequired",
    "$schema",
    "$id",
    "discriminator",
)
"""Keywords that a value whose parts are still expressions may fail though its outcome does not."""

_Object = dict[str, Json]


def json_schema(toolset: Signatures | Sequence[Signature] | None = None) -> dict[str, Json]:
    """Return the JSON Schema of the format; with a toolset, tool names and arguments are spelled out."""
    tools = None if toolset is None else signatures_of(toolset)
    definitions: _Object = {
        "schema": {"type": "object", "description": "A JSON Schema; `$ref` may name `#/types/Name`."},
        "value": {"description": "JSON whose strings may hold ${expression}."},
        "repeat": _object({
            "until": _said("A condition on the value just made, by the step's own id.", type=["string", "boolean"]),
            "max": _said("The most iterations.", type="integer", minimum=1),
        }, ["until", "max"]),
        "ask": _ask(),
        "agent": _agent(tools),
        "step": _steps(tools),
        "inner": _object(_body(), ["steps"]),
    }  # fmt: skip
    if tools is not None:
        for name in tools.names:
            definitions[_definition(name)] = _arguments(tools, name)
    head: _Object = {
        "firmplan": _said("Version of the format.", const=1, type="integer"),
        "task": _optional("string", "What the plan is for, in words."),
        "description": _optional("string", "More about it."),
    }
    own: _Object = {"plans": _map("#/$defs/inner", "Plans that only this one runs, by name.")}
    schema = _object({**head, **_body(), **own}, ["firmplan", "steps"])
    return {"$schema": DIALECT, "title": "A firmplan plan", **schema, "$defs": definitions}


def _body() -> _Object:
    return {
        "inputs": _map(
            "#/$defs/schema", "The plan's inputs: a JSON Schema each, which may have a `default`."
        ),
        "types": _map("#/$defs/schema", "Named types: `#/types/Name` in every schema of the plan."),
        "steps": _said("The steps.", type="array", items={"$ref": "#/$defs/step"}),
        "output": _value("What the plan gives."),
    }


def _steps(tools: Signatures | None) -> _Object:
    args = _map("#/$defs/value", "Arguments by name.")
    plan = _said("One of the plan's own `plans`, or a saved plan by name or digest.", type="string")
    actions: list[Json] = [
        _step("Ask a model one small thing.", {"ask": {"$ref": "#/$defs/ask"}}, ["ask"]),
        _step("Compute a value.", {"set": _value("The value.")}, ["set"]),
        _step("Run a plan as one step.", {"plan": plan, "args": args}, ["plan"]),
        _step("Let a model act, within bounds.", {"agent": {"$ref": "#/$defs/agent"}}, ["agent"]),
    ]
    if tools is None:
        named = _said("The tool's name.", type="string")
        return {"oneOf": [_step("Call a tool.", {"tool": named, "args": args}, ["tool"]), *actions]}
    return {"oneOf": [*(_tool_step(tools, name) for name in tools.names), *actions]}


def _tool_step(tools: Signatures, name: str) -> _Object:
    tool = tools.find(name)
    assert tool is not None
    needs_args = bool(tool.parameters.get("required"))
    properties: _Object = {
        "tool": {"const": name},
        "args": {"$ref": f"#/$defs/{_pointer(_definition(name))}"},
    }
    return _step(
        tool.description or f"Call {name}.", properties, ["tool", "args"] if needs_args else ["tool"]
    )


def _step(description: str, action: _Object, required: list[str]) -> _Object:
    common: _Object = {
        "id": _said("The step's name, by which others refer to it.", type="string"),
        "for_each": _value("A list: the action runs once an item, with `item` and `index` in scope."),
        "when": _value("A condition: false skips the step, or leaves the item out."),
        "after": _said("Ids of steps that must finish first.", type="array", items={"type": "string"}),
        "on_error": {
            "description": "What a failure becomes: a failed step, a skipped one, or a value.",
            "anyOf": [
                {"enum": ["fail", "skip"]},
                _object({"value": _value("The value instead.")}, ["value"]),
            ],
        },
        "repeat": {"anyOf": [{"$ref": "#/$defs/repeat"}, {"type": "null"}]},
        "retries": {**_optional("integer", "Further calls after a failed one."), "minimum": 0},
        "timeout": {**_optional("number", "Seconds a call."), "exclusiveMinimum": 0},
        "why": _optional("string", "What the step is for, in words."),
    }
    return {
        **_object({"id": common.pop("id"), **action, **common}, ["id", *required]),
        "description": description,
    }


def _ask() -> _Object:
    return _object({
        "prompt": _said("The prompt; ${..} puts values into it.", type="string"),
        "returns": {"$ref": "#/$defs/schema"},
        "model": _optional("string", "The model, or an alias of one."),
        "system": _optional("string", "The system prompt."),
        "examples": _said("Examples: a list, or an expression that gives one.", type=["array", "string", "null"]),
        "temperature": {**_optional("number", "0 for the likeliest answer."), "minimum": 0},
        "max_tokens": {**_optional("integer", "The most tokens of the answer."), "minimum": 1},
        "guard": _said("Conditions on the answer.", type="array"),
    }, ["prompt"])  # fmt: skip


def _agent(tools: Signatures | None) -> _Object:
    named: _Object = {"type": "string"} if tools is None else {"enum": list(tools.names)}
    amounts: _Object = {
        name: {"type": "number", "minimum": 0}
        for name in ("steps", "model_calls", "tokens", "usd", "seconds")
    }
    return _object({
        "goal": _said("What to achieve; ${..} puts values into it.", type="string"),
        "tools": _said("Names of the tools it may call.", type="array", items=named),
        "returns": {"$ref": "#/$defs/schema"},
        "max_steps": _said("The most model calls.", type="integer", minimum=1),
        "budget": {**_object(amounts, []), "description": "The most it may use."},
    }, ["goal"])  # fmt: skip


def _object(properties: _Object, required: list[str]) -> _Object:
    made: _Object = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**made, "required": list[Json](required)} if required else made


def _said(description: str, **keywords: Json) -> _Object:
    return {"description": description, **keywords}


def _optional(kind: str, description: str) -> _Object:
    return {"description": description, "type": [kind, "null"]}


def _value(description: str) -> _Object:
    return {"$ref": "#/$defs/value", "description": description}


def _map(target: str, description: str) -> _Object:
    return {"description": description, "type": "object", "additionalProperties": {"$ref": target}}


def _definition(tool: str) -> str:
    return f"args of {tool}"


def _pointer(name: str) -> str:
    """Return a key as part of a `$ref`: a JSON pointer in a URI."""
    return name.replace("~", "~0").replace("/", "~1").replace(" ", "%20")


def _arguments(tools: Signatures, name: str) -> Json:
    tool = tools.find(name)
    assert tool is not None
    root = f"#/$defs/{_pointer(_definition(name))}"
    return _lifted_parts(tool.parameters, root)


def _lifted(schema: Json, root: str) -> Json:
    """Return the schema of a value that may also be an expression, wholly or in parts."""
    if not isinstance(schema, dict):
        return schema
    # The description stays outside the alternatives: it is about the argument, whichever way its value is given.
    described: _Object = {key: value for key, value in schema.items() if key in ("description", "default")}
    inner: Json = _lifted_parts({key: value for key, value in schema.items() if key not in described}, root)
    return {**described, "anyOf": [inner, EXPRESSION]} if inner else described


def _lifted_parts(schema: Mapping[str, Json], root: str) -> _Object:
    """Return the schema with its parts lifted, and its own references leading into `root`."""
    made: _Object = {}
    for key, value in schema.items():
        if key in _DROPPED:
            continue
        if key == "oneOf":
            # An expression fits every member, so that "exactly one" would refuse it.
            branches = [_lifted(part, root) for part in cast("list[Json]", value)]
            made["allOf"] = [*cast("list[Json]", made.get("allOf", [])), {"anyOf": branches}]
        elif key == "allOf":
            parts = [_lifted(part, root) for part in cast("list[Json]", value)]
            made["allOf"] = [*cast("list[Json]", made.get("allOf", [])), *parts]
        elif key == "$ref" and isinstance(value, str) and value.startswith("#"):
            made[key] = (
                root + value[1:]
            )  # the tool's schema became a definition, and its own definitions lie inside that
        elif key in _LIFTED:
            made[key] = _lifted(value, root)
        elif key in _LIFTED_LISTS and isinstance(value, list):
            made[key] = [_lifted(part, root) for part in value]
        elif key in _LIFTED_MAPS and isinstance(value, dict):
            made[key] = {name: _lifted(part, root) for name, part in value.items()}
        else:
            made[key] = value
    return made
