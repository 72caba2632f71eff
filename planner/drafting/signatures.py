"""Tools as a model reads them: one line of signature, types in short, and what a call may do.

    - send_mail(to: text, body: text, copies: integer = 1) -> {id: text}  [write, a person approves]
        Send a mail.

Short forms lose what only a schema can say (patterns, bounds); a draft that breaks these is told by its check.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from ...plans.signature import Signature
from ...plans.values import Json, canonical

DEPTH_MAX = 5
"""Objects inside objects that are spelled out; what lies deeper is called `object`."""

DESCRIPTION_CHARACTERS_MAX = 600
ENUM_MAX = 24


def signature_line(tool: Signature) -> str:
    """Return a tool as the prompt shows it."""
    schema = tool.parameters
    required = cast("list[Json]", schema.get("required") or [])
    properties = cast("dict[str, Json]", schema.get("properties") or {})
    parameters = [
        _parameter(name, properties[name], schema, is_required=name in required)
        for name in sorted(properties, key=lambda name: name not in required)
    ]
    result = "anything" if tool.returns is None else shown_schema(tool.returns)
    head = f"- {tool.name}({', '.join(parameters)}) -> {result}  [{', '.join(_marks(tool))}]"
    notes = [
        f"    {name}: {_one_line(text)}"
        for name, part in properties.items()
        if isinstance(part, dict) and isinstance(text := part.get("description"), str)
    ]
    about = [f"    {_one_line(tool.description)}"] if tool.description.strip() else []
    return "\n".join([head, *about, *notes])


def shown_schema(schema: Mapping[str, Json]) -> str:
    """Return a JSON Schema in short: `{title: text, tags?: list of text}`."""
    return _shown(dict(schema), schema, 0)


def _marks(tool: Signature) -> list[str]:
    """Return what a call may do, as far as it bears on a plan."""
    marks = [str(tool.effect)]
    if tool.asks_approval:
        marks.append("a person approves")
    if tool.trust == "untrusted":
        marks.append("untrusted result")
    if tool.allow_untrusted:
        marks.append("takes untrusted values in " + ", ".join(sorted(tool.allow_untrusted)))
    return marks


def _parameter(name: str, schema: Json, root: Mapping[str, Json], *, is_required: bool) -> str:
    shown = _shown(schema, root, 0)
    if is_required:
        return f"{name}: {shown}"
    if isinstance(schema, dict) and "default" in schema:
        return f"{name}: {shown} = {canonical(schema['default']).decode()}"
    return f"{name}?: {shown}"


def _shown(schema: Json, root: Mapping[str, Json], depth: int) -> str:
    """Return one schema in short."""
    if not isinstance(schema, dict):
        return "anything"
    match schema:
        case {"$ref": str(ref)}:
            target = _target(ref, root)
            shown = "object" if target is None or depth >= DEPTH_MAX else _shown(target, root, depth + 1)
        case {"const": value}:
            shown = canonical(value).decode()
        case {"enum": list(options)}:
            spelled = [canonical(option).decode() for option in options[:ENUM_MAX]]
            shown = "|".join([*spelled, ".."] if len(options) > ENUM_MAX else spelled)
        case {"anyOf": list(branches)} | {"oneOf": list(branches)}:
            shown = " or ".join(dict.fromkeys(_shown(branch, root, depth) for branch in branches))
        case {"type": list(kinds)}:
            shown = " or ".join(_shown({**schema, "type": kind}, root, depth) for kind in kinds)
        case {"type": "array"}:
            items = schema.get("items")
            shown = f"list of {_shown(items, root, depth + 1)}" if items else "list"
        case {"type": "object"} | {"properties": _}:
            shown = _object(schema, root, depth)
        case {"type": str(kind)}:
            shown = "text" if kind == "string" else kind
        case _:
            shown = "anything"
    return shown


def _object(schema: Mapping[str, Json], root: Mapping[str, Json], depth: int) -> str:
    properties = schema.get("properties")
    if not isinstance(properties, dict) or not properties:
        values = schema.get("additionalProperties")
        return (
            f"object of {_shown(values, root, depth + 1)}"
            if isinstance(values, dict) and values
            else "object"
        )
    if depth >= DEPTH_MAX:
        return "object"
    required = cast("list[Json]", schema.get("required") or [])
    fields = [
        f"{name}{'' if name in required else '?'}: {_shown(part, root, depth + 1)}"
        for name, part in properties.items()
    ]
    return "{" + ", ".join(fields) + "}"


def _target(ref: str, root: Mapping[str, Json]) -> Json:
    value: Json = dict(root)
    for part in ref.removeprefix("#/").split("/"):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= DESCRIPTION_CHARACTERS_MAX else line[:DESCRIPTION_CHARACTERS_MAX] + ".."
