"""Where schemas stand inside schemas, and which named schemas a schema rests on.

A reference names a schema in one of two places: `#/types/Name` in the plan's `types`, anything else that starts with `#` in the document where the reference
stands, which is the schema itself or one of the `types`. Nothing is ever fetched.

The lists of keywords here are the only ones: whoever walks through schemas uses `placed_schemas`, `refs_in` or `rewritten`. What stands under any other
keyword (`enum`, `const`, `default`, `x-..`) is data, even if it looks like a schema. Walks are loops or bounded by a depth: schemas come from strangers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from typing import cast
from urllib.parse import unquote

from ..immutable import immutable, record
from ..values import Json

DEPTH_MAX = 64
"""Schemas inside one another in one definition."""

SINGLE = (
    *("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"),
    *("unevaluatedProperties", "unevaluatedItems", "additionalItems"),
)
"""The keywords that hold one schema; drafts before 2020-12 also have a list under `items`."""

LISTS = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
"""The keywords that hold a list of schemas."""

DEFINITIONS = ("$defs", "definitions")
MAPS = ("properties", "patternProperties", "dependentSchemas", *DEFINITIONS)
"""The keywords that hold schemas by name."""

SAME_VALUE = ("anyOf", "oneOf", "allOf", "not", "if", "then", "else", "dependentSchemas")
"""The keywords whose schemas are about the same value, not about a part of it."""


@immutable
class Place:
    """Where a schema stands: in which document (`""`: the schema itself, else a name in `types`), and where in it.

    Attributes:
        document: Name of the document.
        pointer: JSON pointer, empty for the whole document.
    """

    document: str
    pointer: str

    @property
    def name(self) -> str:
        """The name that people know it by."""
        last = self.pointer.rsplit("/", 1)[-1] if self.pointer else self.document
        return unescaped(last) or "Self"


ROOT = Place("", "")
"""The schema itself."""


@record
class Documents:
    """A schema and the types that it may name."""

    schema: Mapping[str, Json]
    types: Mapping[str, Json]
    _found: dict[tuple[str, str], Place | None] = field(default_factory=dict[tuple[str, str], "Place | None"])

    def place(self, ref: str, document: str) -> Place | None:
        """Return where a reference that stands in a document leads, or `None` if there is nothing."""
        # A large schema names few types many times, and each lookup walks along a pointer.
        key = (ref, document)
        if key not in self._found:
            place = _place(ref, document)
            self._found[key] = place if place is not None and self.at(place) is not None else None
        return self._found[key]

    def at(self, place: Place) -> Json:
        """Return what stands in a place, or `None`."""
        found = cast("Json", self.schema) if not place.document else self.types.get(place.document)
        for token in place.pointer.split("/")[1:]:
            found = part_at(found, token)
        return found


def _place(ref: str, document: str) -> Place | None:
    if "%" in ref:
        ref = unquote(ref)  # references are URIs: `#/types/My%20Type`
    if ref.startswith("#/types/"):
        head, slash, rest = ref.removeprefix("#/types/").partition("/")
        return Place(unescaped(head), slash + rest)
    if ref == "#" or ref.startswith("#/"):
        return Place(document, ref[1:])
    return None  # another address, or an `$anchor`: the former would make the check depend on the network


def refs_in(
    schema: Json, inside: Callable[[Mapping[str, Json]], Iterator[Json]] | None = None
) -> Iterator[str]:
    """Yield every reference in a schema, in order; what stands in `enum`, `const`, `default` and the like is data.

    Args:
        schema: Any JSON.
        inside: Where to look; by default in all schemas that stand in a schema.
    """
    waiting: list[Json] = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            ref = one.get("$ref")
            if isinstance(ref, str):
                yield ref
            waiting.extend(reversed(list((inside or inner_schemas)(one))))


def same_value_schemas(schema: Mapping[str, Json]) -> Iterator[Json]:
    """Yield the schemas in a schema that are about the same value, not about a part of it."""
    for key in SAME_VALUE:
        value = schema.get(key)
        if isinstance(value, list):
            yield from value
        elif isinstance(value, Mapping):
            yield from value.values() if key == "dependentSchemas" else [value]


def inner_schemas(schema: Mapping[str, Json]) -> Iterator[Json]:
    """Yield the schemas that stand directly in a schema, its definitions left out."""
    return (inner for parts, inner in placed_schemas(schema) if parts[0] not in DEFINITIONS)


def placed_schemas(schema: Mapping[str, Json]) -> Iterator[tuple[tuple[str | int, ...], Json]]:
    """Yield the schemas that stand directly in a schema, its definitions included, each with the keys that lead to it."""
    for key, value in schema.items():
        if isinstance(value, list) and key in LISTS:
            yield from (((key, at), one) for at, one in enumerate(value))
        elif isinstance(value, Mapping) and key in MAPS:
            yield from (((key, name), one) for name, one in value.items())
        elif isinstance(value, Mapping) and key in SINGLE:
            yield (key,), value


def rewritten(schema: Json, change: Callable[[dict[str, Json]], dict[str, Json]]) -> Json:
    """Return a schema with a change applied to it and to all schemas in it, its definitions included; the innermost are changed first.

    Data in a schema (`enum`, `const`, `default` ..) and unknown keywords are handed to `change` as they are.
    """
    return change(with_rewritten_parts(schema, change)) if isinstance(schema, dict) else schema


def with_rewritten_parts(
    schema: Mapping[str, Json], change: Callable[[dict[str, Json]], dict[str, Json]]
) -> dict[str, Json]:
    """Return a schema with a change applied to all schemas in it, as of `rewritten`, but not to itself."""
    made: dict[str, Json] = {}
    for key, value in schema.items():
        if isinstance(value, list) and key in LISTS:
            made[key] = [rewritten(one, change) for one in value]
        elif isinstance(value, dict) and key in MAPS:
            made[key] = {name: rewritten(one, change) for name, one in value.items()}
        else:
            made[key] = rewritten(value, change) if key in SINGLE else value
    return made


def named_parts(schema: Json, types: Mapping[str, Json], most: int) -> int:
    """Return how many parts the schemas have that a schema names, each once; counting ends past `most`.

    Args:
        schema: The schema; its own parts do not count.
        types: Schemas for `#/types/Name`.
        most: The count past which nobody needs to know more.
    """
    documents = Documents(as_mapping(schema) or {}, types)
    seen: set[Place] = set()
    waiting: list[tuple[Json, str]] = [(schema, "")]
    count = 0
    # The walk counts what `self_contained` would copy, without copying it: a short plan can name large types again and again.
    while waiting and count <= most:
        one, document = waiting.pop()
        known = as_mapping(one)
        if known is None:
            continue
        if seen:  # the schema's own parts are in the plan's text, which has a bound of its own
            count += 1 + sum([len(value) for value in known.values() if isinstance(value, list | dict)])
        ref = known.get("$ref")
        place = documents.place(ref, document) if isinstance(ref, str) else None
        if place is not None and place not in seen:
            seen.add(place)
            waiting.append((documents.at(place), place.document))
        waiting.extend((inner, document) for inner in inner_schemas(known))
    return count


def unescaped_name(ref: str) -> str:
    """Return the last part of a reference, as people know it."""
    return unescaped(ref.rsplit("/", 1)[-1])


def part_at(holder: Json, token: str) -> Json:
    """Return the part of an object or a list that one token of a JSON pointer names; `None`: there is none."""
    key = unescaped(token)
    if isinstance(holder, Mapping):
        return holder.get(key)
    is_index = isinstance(holder, list) and key.isdecimal() and int(key) < len(holder)
    return cast("list[Json]", holder)[int(key)] if is_index else None


def escaped(name: str) -> str:
    """Return a name as a token of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def unescaped(token: str) -> str:
    """Return the name that a token of a JSON pointer stands for."""
    return token.replace("~1", "/").replace("~0", "~")


def as_mapping(value: Json) -> Mapping[str, Json] | None:
    """Return a JSON object as one, anything else as `None`."""
    return cast("Mapping[str, Json]", value) if isinstance(value, Mapping) else None
