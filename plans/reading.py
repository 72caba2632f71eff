"""JSON Schemas read as types.

What a type cannot say (a pattern, a minimum) stays with it as a condition, so that the checker can tell a value that fits
from one that may fit. An object is closed unless `additionalProperties` is given and not false, or it has no
`properties`. References are followed where they are harmless and kept as names where a type holds itself or would get
large.

Which schema names which is in `definitions.py`, how parts make a whole in `composition.py` and `meeting.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from .composition import closedness, composed, is_composed
from .definitions import DEPTH_MAX, ROOT, Documents, Names, Place, as_mapping, order_of, unescaped_name
from .expressions.faults import Fault
from .keywords import KINDS, SLIPS, conditions, misshapen
from .kinds import size_of
from .meeting import meet
from .nearest import did_you_mean, listing
from .types import (
    BOOLEAN,
    NEVER,
    NULL,
    UNKNOWN,
    Kind,
    ListType,
    Named,
    Never,
    ObjectType,
    Property,
    Scalar,
    Type,
    Unknown,
    members,
    type_of,
    union,
)
from .values import Json, into

INLINE_SIZE_MAX = 300
"""Parts of a definition that is written out where it is named; a larger one stays a name."""

PARTS_MAX = 200
"""Schemas in one `allOf`: each is held against all before it."""

SUGGESTIONS_MAX = 20
"""Faults of one schema that get a nearest name: finding one costs time for every name."""

_ENDLESS = "expected a type, found one that refers only to itself"
_NO_TYPES: Mapping[str, Json] = {}


def read_schema(
    schema: Mapping[str, Json], types: Mapping[str, Json] = _NO_TYPES
) -> tuple[Type, list[Fault]]:
    """Return the type of a schema and what is wrong with it. O(size of the schema and of what it names).

    Args:
        schema: Any JSON; what is not a JSON Schema is a fault and reads as `UNKNOWN`.
        types: Schemas for `#/types/Name`. Their own faults are not told here: read each of them for that.
    """
    reader = _Reader(Documents(schema, types))
    return reader.read_all(), reader.faults


class _Reader:
    """One reading: the definitions first, each after those that it rests on, then the schema itself."""

    def __init__(self, documents: Documents) -> None:
        self.documents = documents
        self.order = order_of(documents)
        self.names = Names(documents, self.order)
        self.book: dict[str, Type] = {}
        self.read_places: dict[Place, Type] = {}
        self.endless: set[str] = set()
        self.faults: list[Fault] = []

    def read_all(self) -> Type:
        made: Type = UNKNOWN
        for place in self.order.places:
            made = self.read(
                self.documents.at(place), "" if place == ROOT else None, place.document, DEPTH_MAX
            )
            self.read_places[place] = made
            if place in self.order.loops:
                self.book[self.names.name(place)] = self.unfolded(made, place)
        return made.resolved if isinstance(made, Named) else made

    def unfolded(self, made: Type, place: Place) -> Type:
        """Return what a name stands for: `UNKNOWN` if that is only itself."""
        if not isinstance(made, Named):
            return made
        if made.name not in self.book:
            self.endless.add(made.name)
            self.fault("bad-shape", "" if place == ROOT else None, _ENDLESS)
        return self.book.get(made.name, UNKNOWN)

    def read(self, schema: Json, path: str | None, document: str, room: int) -> Type:
        """Return the type of one schema.

        Args:
            schema: What stands at `path`.
            path: For faults; `None`: they are told elsewhere.
            document: Where references are looked up.
            room: Levels that may still be read.
        """
        if isinstance(schema, bool):
            return UNKNOWN if schema else NEVER
        known = as_mapping(schema)
        if known is None:
            self.fault(
                "bad-shape", path, f"expected a JSON Schema, found {_found(schema)}", _not_a_schema(schema)
            )
            return UNKNOWN
        if room <= 0:
            message = f"expected at most {DEPTH_MAX} schemas inside one another, found more"
            self.fault("limit-exceeded", path, message, "name parts of it in 'types'")
            return UNKNOWN
        for key, expected, found in misshapen(known):
            self.fault("bad-shape", _at(path, key), f"expected {expected}, found {found}")
        made = self.own(known, path, document, room)
        for part in self.parts(known, path, document, room):
            made = meet(made, part)
        if is_composed(known):
            made = composed(made, closedness(schema, document, self.documents))
        if known.get("nullable") is True:
            made = union(made, NULL)
        return made

    def parts(self, schema: Mapping[str, Json], path: str | None, document: str, room: int) -> Iterable[Type]:
        """Yield the types that a schema is composed of besides its own."""
        ref = schema.get("$ref")
        if isinstance(ref, str):
            yield self.named(ref, path, document)
        for key in ("anyOf", "oneOf"):
            branches = schema.get(key)
            if isinstance(branches, list) and branches:
                place = _at(path, key)
                read = [self.read(one, _at(place, at), document, room - 1) for at, one in enumerate(branches)]
                yield union(*read)
        every = schema.get("allOf")
        if isinstance(every, list):
            place = _at(path, "allOf")
            if len(every) > PARTS_MAX:
                message = f"expected at most {PARTS_MAX} schemas in one 'allOf', found {len(every)}"
                self.fault("limit-exceeded", place, message, "write them as one schema")
            for at, one in enumerate(every[:PARTS_MAX]):
                yield self.read(one, _at(place, at), document, room - 1)

    def own(self, schema: Mapping[str, Json], path: str | None, document: str, room: int) -> Type:
        """Return the type that a schema's `type`, `enum` and `const` say, with the keywords that go with them."""
        kinds = self.kinds(schema, path)
        made: Type = UNKNOWN
        if kinds is not None:
            made = union(*(self.kind(kind, schema, path, document, room) for kind in kinds))
        elif schema.get("not") in ({}, True):
            return NEVER
        if "const" in schema:
            made = meet(_without_conditions(made), type_of(schema["const"]))
        values = schema.get("enum")
        if isinstance(values, list):
            made = meet(_without_conditions(made), union(*map(type_of, values)))
        return made

    def kinds(self, schema: Mapping[str, Json], path: str | None) -> list[str] | None:
        """Return the kinds that a schema admits; `None`: it does not say."""
        given = schema.get("type")
        if given is None and "type" not in schema:
            implied = [kind for key, kind in (("properties", "object"), ("items", "array")) if key in schema]
            return implied[:1] or None
        every = given if isinstance(given, list) else [given]
        known = [kind for kind in every if isinstance(kind, str) and kind in KINDS]
        if len(known) < len(every) or not every:
            wrong = next((kind for kind in every if kind not in KINDS), None)
            self.fault(
                "bad-shape",
                _at(path, "type"),
                f"expected one of {', '.join(KINDS)}, found {_found(wrong)}",
                _slip(wrong),
            )
            return None
        return known

    def kind(self, kind: str, schema: Mapping[str, Json], path: str | None, document: str, room: int) -> Type:
        """Return the type of values of one kind."""
        beyond = conditions(schema, kind)
        if kind == "array":
            return ListType(self.item(schema, path, document, room), beyond)
        if kind == "object":
            return self.object(schema, path, document, room, beyond)
        if kind == "null":
            return NULL
        return BOOLEAN if kind == "boolean" and not beyond else Scalar(cast("Kind", kind), None, beyond)

    def item(self, schema: Mapping[str, Json], path: str | None, document: str, room: int) -> Type:
        heads = schema.get("prefixItems")
        rest = schema.get("items", schema.get("additionalItems", True))
        most = schema.get("maxItems")
        if isinstance(heads, list) and isinstance(most, int) and most <= len(heads):
            rest = False  # a tuple: there is nothing after its heads
        read: list[Type] = []
        for key, value in (("prefixItems", heads), ("items", rest)):
            place = _at(path, key)
            if isinstance(value, list):
                read += [self.read(one, _at(place, at), document, room - 1) for at, one in enumerate(value)]
            elif isinstance(value, Mapping | bool):
                read.append(self.read(value, place, document, room - 1))
        return union(*read) if read else UNKNOWN

    def object(
        self, schema: Mapping[str, Json], path: str | None, document: str, room: int, beyond: str
    ) -> ObjectType:
        properties = as_mapping(schema.get("properties")) or {}
        names = schema.get("required")
        required = {name: None for name in names if isinstance(name, str)} if isinstance(names, list) else {}
        place = _at(path, "properties")
        fields: dict[str, Property] = {}
        for name, field in properties.items():
            fields[name] = Property(self.read(field, _at(place, name), document, room - 1), name in required)
        extra = self.others(schema, path, document, room)
        for name in required:
            if name not in fields:
                fields[name] = Property(UNKNOWN if extra is None else extra, required=True)
        return ObjectType(fields, extra, beyond)

    def others(self, schema: Mapping[str, Json], path: str | None, document: str, room: int) -> Type | None:
        """Return what fields without a name of their own may hold; `None`: there are none."""
        given = schema.get("additionalProperties")
        if isinstance(schema.get("patternProperties"), Mapping):
            return UNKNOWN
        if given is None:
            return None if "properties" in schema or schema.get("unevaluatedProperties") is False else UNKNOWN
        if given is False:
            return None
        return self.read(given, _at(path, "additionalProperties"), document, room - 1)

    def named(self, ref: str, path: str | None, document: str) -> Type:
        """Return the type that a reference names."""
        place = self.documents.place(ref, document)
        if place is None:
            self.unknown(ref, path)
            return UNKNOWN
        made = self.read_places.get(place)
        if isinstance(made, Named) and made.name in self.endless:
            self.fault("bad-shape", path, _ENDLESS)
        if place not in self.order.loops and made is not None and size_of(made) <= INLINE_SIZE_MAX:
            return made
        name = self.names.name(place)
        if made is not None:
            self.book.setdefault(name, made)
        return Named(name, self.names.key(place), self.book)

    def unknown(self, ref: str, path: str | None) -> None:
        """Note a reference that leads nowhere."""
        known = list(self.documents.types)
        name = unescaped_name(ref)
        if name in self.documents.types:
            hint = f"write '#/types/{name}'"
        elif len(self.faults) < SUGGESTIONS_MAX:
            hint = did_you_mean(name, known, "define it in the plan's 'types'")
        else:
            hint = ""
        self.fault(
            "unknown-type", path, f"expected the name of a type ({listing(known)}), found '{ref[:80]}'", hint
        )

    def fault(self, code: str, path: str | None, message: str, hint: str = "") -> None:
        if path is not None:
            self.faults.append(Fault(code, message, hint, path))


def _at(path: str | None, part: str | int) -> str | None:
    return None if path is None else into(path, part)


def _without_conditions(of: Type) -> Type:
    """Return a type without its conditions: the listed values are what counts."""
    plain = [Scalar(one.kind, one.only) if isinstance(one, Scalar) else one for one in members(of)]
    return of if isinstance(of, Unknown | Never) else union(*plain)


def _found(value: Json) -> str:
    match value:
        case None:
            return "null"
        case str():
            return f"'{value[:40]}'"
        case list():
            return "a list"
        case _:
            return str(value)[:40]


def _not_a_schema(value: Json) -> str:
    if isinstance(value, str):
        kind = value if value in KINDS else SLIPS.get(value)
        return f'write {{"type": "{kind}"}}' if kind else ""
    return "for any value write {}" if value is None else ""


def _slip(wrong: Json) -> str:
    if not isinstance(wrong, str):
        return ""
    if wrong in SLIPS:
        return f"write '{SLIPS[wrong]}'" if SLIPS[wrong] else "leave 'type' out for any value"
    return did_you_mean(wrong, KINDS)
