"""The JSON Schema of the plan format: for editors, for models that write plans, for anyone who checks plans elsewhere.

It is the schema of the models in `plan.py`, so it accepts what has the shape of a plan, and nothing else. With a toolset it goes further: a `tool` step names a
tool of the set and gives its arguments by their names and types, where `${..}` may stand for any value.

What JSON Schema cannot say is `check`'s: names, references, the types of expressions, flow. (It also takes `1.0` for the
integer 1.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cache
from typing import cast

from ..plan import STEPS, Plan
from ..signature import Signature, Signatures, signatures_of
from ..types.definitions import escaped, rewritten, with_rewritten_parts
from ..values import Json

DIALECT = "https://json-schema.org/draft/2020-12/schema"
EXPRESSION: dict[str, Json] = {"type": "string", "pattern": r"\$\{", "description": "An expression."}

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
    """Return the JSON Schema of the format; with a toolset, tool names and arguments are listed."""
    tools = None if toolset is None else signatures_of(toolset)
    made = deepcopy(_of_any_tools())
    definitions = cast("dict[str, _Object]", made.pop("$defs"))
    steps: list[Json] = [{"$ref": f"#/$defs/{model.__name__}"} for model in STEPS.values()]
    if tools is not None:
        call = definitions.pop("ToolStep")
        steps = [*(_call(call, tools, name) for name in tools.names), *steps[1:]]
        definitions.update({_definition(name): _arguments(tools, name) for name in tools.names})
        _properties(definitions["Agent"])["tools"]["items"] = {"enum": list(tools.names)}
    definitions["step"] = {"oneOf": steps}
    for body in (made, definitions["InnerPlan"]):
        _properties(body)["steps"]["items"] = {"$ref": "#/$defs/step"}
    head: _Object = {"$schema": DIALECT, "title": "A firmplan plan"}
    del made["description"]  # it is about the class
    return {**head, **made, "$defs": cast("Json", definitions)}


def argument_schemas(toolset: Signatures | Sequence[Signature]) -> dict[str, dict[str, Json]]:
    """Return the schema of each tool's arguments by the tool's name, where expressions may stand for values, as `json_schema` has them."""
    tools = signatures_of(toolset)
    return {name: _arguments(tools, name) for name in tools.names}


@cache  # pydantic takes some 50 ms, and planners ask for it with each task
def _of_any_tools() -> _Object:
    # The models of the format are the one place that knows its keys; pydantic writes them as JSON Schema.
    return cast("_Object", rewritten(Plan.model_json_schema(), _in_standard_words))


def _in_standard_words(schema: _Object) -> _Object:
    """Return a schema of pydantic's without titles, which repeat names, and with the bounds that it leaves in words of its own."""
    words = {"ge": "minimum", "gt": "exclusiveMinimum"}
    made = {words.get(key, key): part for key, part in schema.items() if key != "title"}
    # `null` as a default would say that a null `when` is as good as none.
    return {key: part for key, part in made.items() if key != "default" or part is not None}


def _properties(schema: Mapping[str, Json]) -> dict[str, _Object]:
    return cast("dict[str, _Object]", schema["properties"])


def _call(step: _Object, tools: Signatures, name: str) -> _Object:
    """Return the schema of a step that calls one tool, made from that of any tool step."""
    tool = tools.find(name)
    assert tool is not None
    properties: _Object = {
        **_properties(step),
        "tool": {"const": name},
        "args": {"$ref": f"#/$defs/{_pointer(_definition(name))}"},
    }
    required: list[Json] = ["id", "tool", *(["args"] if tool.parameters.get("required") else [])]
    return {
        **step,
        "properties": properties,
        "required": required,
        "description": tool.description or f"Call {name}.",
    }


def _definition(tool: str) -> str:
    return f"args of {tool}"


def _pointer(name: str) -> str:
    """Return a key as part of a `$ref`: a JSON pointer in a URI."""
    return escaped(name).replace(" ", "%20")


def _arguments(tools: Signatures, name: str) -> _Object:
    tool = tools.find(name)
    assert tool is not None
    root = f"#/$defs/{_pointer(_definition(name))}"

    def lifted(schema: _Object) -> _Object:
        """Return the schema of a value that may also be an expression, wholly or in parts; its own parts are lifted already."""
        # The description stays outside the alternatives: it is about the argument, whichever way its value is given.
        described = {key: value for key, value in schema.items() if key in ("description", "default")}
        inner = _relaxed({key: value for key, value in schema.items() if key not in described}, root)
        return {**described, "anyOf": [inner, EXPRESSION]} if inner else described

    return _relaxed(with_rewritten_parts(tool.parameters, lifted), root)


def _relaxed(schema: _Object, root: str) -> _Object:
    """Return a schema whose parts may be expressions, without what an expression would fail; its own references lead into `root`."""
    made: _Object = {}
    for key, value in schema.items():
        if key in _DROPPED:
            continue
        if key in ("oneOf", "allOf"):
            # An expression fits every member, so that "exactly one" would refuse it.
            parts: list[Json] = [{"anyOf": value}] if key == "oneOf" else cast("list[Json]", value)
            made["allOf"] = [*cast("list[Json]", made.get("allOf", [])), *parts]
        elif key == "$ref" and isinstance(value, str) and value.startswith("#"):
            # The tool's schema became a definition, and its own definitions lie inside that.
            made[key] = root + value[1:]
        else:
            made[key] = value
    return made
