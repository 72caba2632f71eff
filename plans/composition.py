"""Schemas that several parts make: whether the whole is open or closed.

JSON Schema composes with `allOf`, `anyOf`, `oneOf`, `$ref` beside other keywords, and conditions. What two parts have in common
is in `meeting.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from .definitions import Documents, Place, as_mapping
from .kinds import UNKNOWN, ObjectType, Type, Union
from .union import members, union
from .values import Json

Closedness: TypeAlias = Literal["closed", "open", "silent"]

PARTS_MAX = 1_000
"""Parts of one composition that are looked at; a larger one counts as open."""

CONDITIONAL = ("if", "dependentSchemas")


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
    seen: set[Place] = set()
    waiting = [(schema, document)]
    for _ in range(PARTS_MAX):
        if not waiting:
            return found
        one, where = waiting.pop()
        known = as_mapping(one)
        if known is None:
            continue
        if known.get("additionalProperties", False) is not False or "patternProperties" in known:
            return "open"
        if any(key in known for key in CONDITIONAL):
            return "open"
        if "properties" in known or "additionalProperties" in known:
            found = "closed"
        for key in ("allOf", "anyOf", "oneOf"):
            branches = known.get(key)
            waiting += [(branch, where) for branch in branches] if isinstance(branches, list) else []
        ref = known.get("$ref")
        place = documents.place(ref, where) if isinstance(ref, str) else None
        if place is not None and place not in seen:
            seen.add(place)
            waiting.append((documents.at(place), place.document))
    return "open"


def composed(made: Type, how: Closedness) -> Type:
    """Return the type of a composition whose parts together are closed, or open."""
    if how == "silent" or not isinstance(made, ObjectType | Union):
        return made
    return union(*(_closed_object(one, how) if isinstance(one, ObjectType) else one for one in members(made)))


def _closed_object(made: ObjectType, how: Closedness) -> ObjectType:
    extra = None if how == "closed" else UNKNOWN if made.extra is None else made.extra
    return made if extra == made.extra else ObjectType(made.fields, extra, made.beyond)
