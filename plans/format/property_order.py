"""The order in which a schema's author names the properties of a value: the order in which a model is asked to write them.

A model writes its answer from left to right, so `{why, holds}` is reasoned and `{holds, why}` is justified afterwards. The digest of a plan
does not see the order; the plan's text keeps it, the schema that a model is sent has it, and the content key of a prompt carries it.
Values have no order: they are stored with their keys sorted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from ..types.definitions import LISTS, MAPS, SINGLE, Documents, placed_schemas, rewritten
from ..types.standalone import composed_parts
from ..values import Json, canonical, normal_in_order, parse_canonical


def property_order(schema: Json) -> dict[str, Json]:
    """Return the names of all properties that are not declared in sorted order, by JSON pointer of their declaration."""
    return {
        pointer: list(properties)
        for pointer, properties in _declared(schema, "")
        if list(properties) != sorted(properties)
    }


def _declared(schema: Json, at: str) -> Iterator[tuple[str, Mapping[str, Json]]]:
    """Yield where a schema declares properties, and these."""
    if not isinstance(schema, Mapping):
        return
    properties = schema.get("properties")
    if isinstance(properties, Mapping):
        yield f"{at}/properties", properties
    for parts, inner in placed_schemas(schema):
        yield from _declared(inner, "/".join([at, *map(str, parts)]))


def as_written(schema: Mapping[str, Json]) -> dict[str, Json]:
    """Return a schema with its properties in their author's order, and all else sorted: equal schemas of one order are equal text."""
    return cast("dict[str, Json]", rewritten(cast("Json", schema), _sorted))


def _sorted(schema: dict[str, Json]) -> dict[str, Json]:
    """Return a schema with its keywords, and the names under them, sorted; the schemas in it are so already."""
    return {key: _sorted_value(key, schema[key]) for key in sorted(schema)}


def _sorted_value(key: str, value: Json) -> Json:
    if key == "properties" or key in SINGLE or key in LISTS:
        return value
    if key in MAPS and isinstance(value, dict):
        return {name: value[name] for name in sorted(value)}
    return parse_canonical(canonical(value))


def arranged(value: Json, schema: Mapping[str, Json]) -> Json:
    """Return a value with the fields of its objects in the order in which a self-contained schema names them; others follow, sorted."""
    return _arranged(value, [cast("Json", schema)], Documents(schema, {}))


def _arranged(value: Json, schemas: Sequence[Json], documents: Documents) -> Json:
    # Every schema that may apply to the value counts, whether or not the value fits its branch: at worst a field comes earlier than it had to.
    parts = [part for part in composed_parts(schemas, "", documents) if part is not None]
    match value:
        case dict():
            held = [part["properties"] for part in parts if isinstance(part.get("properties"), dict)]
            known = [cast("Mapping[str, Json]", properties) for properties in held]
            names = dict.fromkeys(name for properties in known for name in properties if name in value)
            names.update(dict.fromkeys(sorted(value)))
            return {
                name: _arranged(value[name], [each[name] for each in known if name in each], documents)
                for name in names
            }
        case list():
            items = [part["items"] for part in parts if "items" in part]
            return [_arranged(item, items, documents) for item in value]
        case _:
            return value


def text_in_order(value: Json) -> str:
    """Return a value as JSON text, spelled as canonical JSON is, with its keys in the order in which they stand."""
    return json.dumps(normal_in_order(value), ensure_ascii=False, separators=(",", ":"))
