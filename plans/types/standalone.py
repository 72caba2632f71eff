"""Self-contained JSON Schemas: definitions are copied into `$defs`, and the rules of plans are written in JSON Schema's own keywords.

JSON Schema leaves objects open and knows no `nullable`; plans close objects and know it. So that validation at run time agrees with the types
that the checker computed, objects are closed here: with `additionalProperties`, or with `unevaluatedProperties` on a composed schema as a whole. A
definition that is a part of a composition is copied a second time and left open. Schemas under `if` and `not` are copied unchanged: closing a
question would change its answer.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypeAlias, cast
from urllib.parse import quote

import orjson

from ..values import Json
from .definitions import (
    DEPTH_MAX,
    MAPS,
    ROOT,
    SINGLE,
    Documents,
    Place,
    as_mapping,
)

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator


Mode: TypeAlias = Literal["closed", "open", "verbatim"]

_DROPPED = frozenset(
    {
        "$defs",
        "definitions",
        "$schema",
        "$id",
        "$anchor",
        "$dynamicAnchor",
        "$dynamicRef",
        "nullable",
        "additionalItems",
    }
)
_NO_TYPES: Mapping[str, Json] = {}


def self_contained(schema: Mapping[str, Json], types: Mapping[str, Json] = _NO_TYPES) -> dict[str, Json]:
    """Return a schema that means the same without `types`: all that it reaches is in its `$defs`, objects are closed.

    A reference that leads nowhere admits anything; `read_schema` tells of it.
    """
    # Program headers and content keys hold the result, so its text must stay the same for the same schema: names, order of keys and all.
    carrying = _Carrying(Documents(schema, types))
    made = carrying.carried(cast("Json", schema), "", "closed", DEPTH_MAX)
    alone: dict[str, Json] = made if isinstance(made, dict) else {} if made else {"not": {}}
    definitions = carrying.definitions()
    return {**alone, "$defs": definitions} if definitions else alone


class _Carrying:
    """One schema on its way to standing alone."""

    def __init__(self, documents: Documents) -> None:
        self.documents = documents
        self.names: dict[tuple[Place, Mode], str] = {}
        self.taken: set[str] = set()
        self.waiting: list[tuple[Place, Mode]] = []

    def definitions(self) -> dict[str, Json]:
        """Return every definition met, also those met on the way."""
        made: dict[str, Json] = {}
        # A loop instead of recursion through references: a chain of them may be as long as `types`.
        for place, mode in self.waiting:  # grows while definitions name others
            name = self.names[place, mode]
            made[name] = self.carried(self.documents.at(place), place.document, mode, DEPTH_MAX)
        return made

    def carried(self, schema: Json, document: str, mode: Mode, room: int) -> Json:
        """Return one schema as it stands alone; what is none, or is too deep, admits anything."""
        if isinstance(schema, bool):
            return schema
        given = as_mapping(schema)
        if given is None or room <= 0:
            return {}
        made: dict[str, Json] = {}
        # `additionalProperties` sees only the `properties` beside it, so closing a part would forbid the fields of all other parts. A composition is closed as a
        # whole, by `unevaluatedProperties`, which sees the fields of all parts that accept the value.
        composed = mode == "closed" and is_composed(given)
        inner: Mode = "open" if composed else mode
        for key, value in given.items():
            if key not in _DROPPED:
                self.keyword(made, key, value, document, _mode_of(key, mode, inner), room - 1)
        # Before 2020-12, `items` was the list of heads and `additionalItems` what follows; `keyword` has made `prefixItems` of the former.
        if "additionalItems" in given and _is_old_tuple(given):
            made.setdefault("items", self.carried(given["additionalItems"], document, "closed", room - 1))
        if mode != "verbatim":
            _name_required(made, given)
        if mode == "closed":
            self.close(made, given, document, composed=composed)
        return made if given.get("nullable") is not True else {"anyOf": [made, {"type": "null"}]}

    def keyword(
        self, made: dict[str, Json], key: str, value: Json, document: str, mode: Mode, room: int
    ) -> None:
        """Carry one keyword of a schema over into `made`."""
        if key == "$ref":
            if isinstance(value, str):
                self.refer(made, value, document, mode)
        elif isinstance(value, list) and key in {"anyOf", "oneOf", "allOf", "prefixItems"}:
            made[key] = [self.carried(one, document, mode, room) for one in value]
        elif isinstance(value, list) and key == "items":  # how drafts before 2020-12 spell tuples
            made.setdefault("prefixItems", [self.carried(one, document, mode, room) for one in value])
        elif isinstance(value, Mapping) and key in MAPS:
            made[key] = {name: self.carried(one, document, mode, room) for name, one in value.items()}
        elif key in SINGLE:
            made[key] = self.carried(value, document, mode, room)
        else:
            made[key] = value

    def refer(self, made: dict[str, Json], ref: str, document: str, mode: Mode) -> None:
        place = self.documents.place(ref, document)
        if place is None:
            return
        # The root is closed, so a reference to it from a part that must stay open needs an open copy.
        if place == ROOT and mode == "closed":
            made["$ref"] = "#"
            return
        if (place, mode) not in self.names:
            self.names[place, mode] = self.name(place, mode)
            self.waiting.append((place, mode))
        made["$ref"] = f"#/$defs/{self.names[place, mode]}"

    def name(self, place: Place, mode: Mode) -> str:
        plain = re.sub(r"[^A-Za-z0-9_.-]", "_", place.name) + ("" if mode == "closed" else f"_{mode}")
        name, number = plain, 2
        while name in self.taken:
            name, number = f"{plain}_{number}", number + 1
        self.taken.add(name)
        return name

    def close(
        self, made: dict[str, Json], given: Mapping[str, Json], document: str, *, composed: bool
    ) -> None:
        """Let an object have no fields but those that it names."""
        if not composed and "properties" in given:
            made.setdefault("additionalProperties", False)
        elif composed and named_fields(cast("Json", given), document, self.documents) is not None:
            made["unevaluatedProperties"] = False


def _is_old_tuple(given: Mapping[str, Json]) -> bool:
    """Whether a schema says what stands in a list's places as drafts before 2020-12 did."""
    return isinstance(given.get("items"), list) and "prefixItems" not in given


def _mode_of(key: str, mode: Mode, inner: Mode) -> Mode:
    """Return how what stands under a keyword is carried."""
    # What these keywords ask of a value must not change: a closed object under `not` would let values pass that the author excluded.
    if mode == "verbatim" or key in {"if", "not", "contains", "propertyNames"}:
        return "verbatim"
    if key in {"then", "else", "dependentSchemas"}:
        return "open"
    return inner if key in {"$ref", "anyOf", "oneOf", "allOf"} else "closed"


def _name_required(made: dict[str, Json], given: Mapping[str, Json]) -> None:
    """Name the fields that a schema requires."""
    # A field that is required but not among `properties` would be forbidden as soon as the object is closed.
    fields, required = made.get("properties"), given.get("required")
    if isinstance(fields, dict) and isinstance(required, list):
        for name in required:
            if isinstance(name, str):
                fields.setdefault(name, made.get("additionalProperties") or {})


# --- Composed schemas: open or closed
#
# JSON Schema composes with `allOf`, `anyOf`, `oneOf`, conditions, and `$ref` beside other keywords. `read.py` asks the same rule of the schema that stands alone,
# so that the check and validation agree.


PARTS_MAX = 1_000
"""Parts of one composition that are looked at; a larger one counts as open."""

CONDITIONAL = ("if", "dependentSchemas")

_OPENING = ("additionalProperties", "unevaluatedProperties")


def is_composed(schema: Mapping[str, Json]) -> bool:
    """Whether several parts of a schema may add fields to one object."""
    every = schema.get("allOf")
    count = sum(key in schema for key in ("properties", "$ref", "anyOf", "oneOf", *CONDITIONAL))
    return count + (len(every) if isinstance(every, list) else 0) > 1


def named_fields(schema: Json, document: str, documents: Documents) -> list[str] | None:
    """Return the names of all fields of a composed schema whose objects have no other fields; `None`: they may have others.

    One part that is open on purpose, or that adds fields on a condition, opens the composition; else one that names fields closes it.

    Args:
        schema: The schema.
        document: The document in which it stands.
        documents: The documents that hold what it names.
    """
    names: dict[str, None] = {}
    is_closed = False
    for known in composed_parts([schema], document, documents):
        if (
            known is None
            or any(known.get(key, False) is not False for key in _OPENING)
            or any(key in known for key in ("patternProperties", *CONDITIONAL))
        ):
            return None
        is_closed = is_closed or "properties" in known or "additionalProperties" in known
        names.update(dict.fromkeys(as_mapping(known.get("properties")) or {}))
    return list(names) if is_closed else None


def composed_parts(
    schemas: Iterable[Json], document: str, documents: Documents
) -> Iterator[Mapping[str, Json] | None]:
    """Yield schemas of one value and all parts that they are composed of, the nearest first; `None` in the end if there are too many.

    Args:
        schemas: Schemas that apply to the value.
        document: Where their references are looked up.
        documents: The documents that hold what they name.
    """
    seen: set[Place] = set()
    waiting = deque((schema, document) for schema in schemas)
    for _ in range(PARTS_MAX):
        if not waiting:
            return
        one, where = waiting.popleft()
        known = as_mapping(one)
        if known is None:
            continue
        yield known
        ref = known.get("$ref")
        place = documents.place(ref, where) if isinstance(ref, str) else None
        if place is not None and place not in seen:
            seen.add(place)
            waiting.append((documents.at(place), place.document))
        # `not` names no fields, and `if` and `dependentSchemas` open a composition anyhow.
        for key in ("allOf", "anyOf", "oneOf"):
            branches = known.get(key)
            waiting.extend((branch, where) for branch in (branches if isinstance(branches, list) else ()))
    if waiting:
        yield None


# --- Compiled schemas: jsonschema-rs behind a cache, imported only when a value is validated


VALIDATORS_KEPT = 256
"""Compiled schemas that are kept: a plan uses few, many times."""


@lru_cache(maxsize=VALIDATORS_KEPT)
def find_validator(schema: bytes) -> Draft202012Validator | None:
    """Return the validator of a schema that stands alone, as canonical JSON; `None` if the schema is invalid."""
    from jsonschema_rs import Draft202012Validator, ReferencingError  # noqa: PLC0415  # only once values are validated

    try:
        return Draft202012Validator(schema.decode(), offline=True)
    except (ValueError, ReferencingError):
        return None


_BASE = "https://schema.invalid/"
"""Where a document stands in its registry; nothing is ever fetched."""


@lru_cache(maxsize=VALIDATORS_KEPT)
def find_validator_inside(document: bytes, pointer: str) -> Draft202012Validator | None:
    """Return the validator of a schema inside a document; its references may point anywhere in the document.

    Args:
        document: A schema that stands alone, as canonical JSON.
        pointer: JSON pointer of the schema inside it.

    Returns:
        `None` if the document is invalid.
    """
    from jsonschema_rs import Draft202012Validator, ReferencingError, Registry  # noqa: PLC0415  # only once values are validated

    root = orjson.loads(document)
    root.pop("$schema", None)  # a document is always read as draft 2020-12
    try:
        registry = Registry([(_BASE, root)])
        return Draft202012Validator(
            {"$ref": f"{_BASE}#{quote(pointer, safe='/~')}"}, registry=registry, offline=True
        )
    except (ValueError, ReferencingError):
        return None
