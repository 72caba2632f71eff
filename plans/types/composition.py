"""Schemas that several parts make: whether the whole is open or closed.

JSON Schema composes with `allOf`, `anyOf`, `oneOf`, `$ref` beside other keywords, and conditions. What the parts say as types is
in `composing.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, TypeAlias

from ..values import Json
from .definitions import Documents, Place, as_mapping

Closedness: TypeAlias = Literal["closed", "open", "silent"]

PARTS_MAX = 1_000
"""Parts of one composition that are looked at; a larger one counts as open."""

CONDITIONAL = ("if", "dependentSchemas")

_OPENING = ("additionalProperties", "unevaluatedProperties")


def is_composed(schema: Mapping[str, Json]) -> bool:
    """Whether several parts of a schema may add fields to one object."""
    every = schema.get("allOf")
    count = sum(key in schema for key in ("properties", "$ref", "anyOf", "oneOf", *CONDITIONAL))
    return count + (len(every) if isinstance(every, list) else 0) > 1


def closedness(schema: Json, document: str, documents: Documents) -> Closedness:
    """Return whether objects may have other fields than the parts of a schema name.

    One part that is open on purpose, or that adds fields on a condition, opens the whole; else one that names fields closes
    it. The checker and validation at run time both go by this answer.
    """
    found: Closedness = "silent"
    for known in _parts(schema, document, documents):
        if (
            known is None
            or any(known.get(key, False) is not False for key in _OPENING)
            or any(key in known for key in ("patternProperties", *CONDITIONAL))
        ):
            return "open"
        if "properties" in known or "additionalProperties" in known:
            found = "closed"
    return found


def is_strict(schema: Json, document: str, documents: Documents) -> bool:
    """Whether a part of a schema says of itself that it has no other fields: it refuses those of the other parts."""
    parts = _parts(schema, document, documents)
    return any(known is None or known.get("additionalProperties") is False for known in parts)


def _parts(schema: Json, document: str, documents: Documents) -> Iterator[Mapping[str, Json] | None]:
    """Yield a schema and the parts that it is composed of; `None` in the end if there are too many."""
    seen: set[Place] = set()
    waiting = [(schema, document)]
    for _ in range(PARTS_MAX):
        if not waiting:
            return
        one, where = waiting.pop()
        known = as_mapping(one)
        if known is None:
            continue
        yield known
        for key in ("allOf", "anyOf", "oneOf"):
            branches = known.get(key)
            waiting += [(branch, where) for branch in branches] if isinstance(branches, list) else []
        ref = known.get("$ref")
        place = documents.place(ref, where) if isinstance(ref, str) else None
        if place is not None and place not in seen:
            seen.add(place)
            waiting.append((documents.at(place), place.document))
    if waiting:
        yield None
