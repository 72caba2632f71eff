"""Types read from JSON Schemas.

The type of a schema has every value that the schema accepts (it is an upper bound); a demand that no type expresses (a pattern, a minimum, a composition)
stays with the type as a constraint. So the check can tell a value that fits from one that may fit, and validation at run time decides the rest.

A schema without `type` admits values of every kind, as JSON Schema has it: its `properties` bind objects alone. An object is closed unless
`additionalProperties` is given and not false, or it has no `properties`. References are inlined where that is harmless, and stay names where a type holds itself
or would get large.

References are resolved in `definitions.py`, keywords are listed in `keywords.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import cast

from ..errors import LocalProblem
from ..nearest import did_you_mean, listing
from ..values import Json, into
from .constraints import WHOLE, constraint, is_whole, together
from .definitions import (
    DEPTH_MAX,
    ROOT,
    Documents,
    Names,
    Place,
    as_mapping,
    endless_places,
    order_of,
    unescaped_name,
)
from .intersect import Alternative, alternatives, are_disjoint, intersect, parts_of
from .keywords import (
    KIND_OF_KEYWORD,
    KINDS,
    demands,
    for_no_kind,
    for_no_schema,
    found_value,
    kinds_of,
    misshapen,
)
from .standalone import Closedness, closedness, is_composed
from .types import (
    NEVER,
    NULL,
    UNKNOWN,
    Constraints,
    Kind,
    ListType,
    Named,
    ObjectType,
    Property,
    Scalar,
    Type,
    Unknown,
    depth_of,
    members,
    size_of,
    type_of,
)

INLINE_SIZE_MAX = 300
"""Parts of a definition that is written out where it is named; a larger one stays a name."""

INLINE_DEPTH_MAX = 8
"""Levels of the same."""

DEPENDENT = ("unevaluatedProperties", "unevaluatedItems")
"""Keywords that mean something only beside the others of their schema."""

PARTS_MAX = 200
"""Schemas in one `allOf`: each is held against all before it."""

SUGGESTIONS_MAX = 20
"""Faults of one schema that get a nearest name: finding one costs time for every name."""

_ENDLESS = "expected a type, found one that says of a value only what it says of that same value"
_NO_TYPES: Mapping[str, Json] = {}


def read_schema(
    schema: Mapping[str, Json], types: Mapping[str, Json] = _NO_TYPES
) -> tuple[Type, list[LocalProblem]]:
    """Return the type of a schema and what is wrong with it. O(size of the schema and of what it names).

    Args:
        schema: Any JSON; what is not a JSON Schema is a problem and reads as `UNKNOWN`.
        types: Schemas for `#/types/Name`. Their own problems are not told here: read each of them for that.
    """
    made, problems, _ = read_with_warnings(schema, types)
    return made, problems


def read_with_warnings(
    schema: Mapping[str, Json], types: Mapping[str, Json] = _NO_TYPES
) -> tuple[Type, list[LocalProblem], list[LocalProblem]]:
    """As `read_schema`; also return a warning for each schema that constrains one kind and has no `type`."""
    reader = _Reader(Documents(schema, types))
    return reader.read_all(), reader.problems, reader.warnings


class _Reader:
    """The reading of one schema: the definitions first, each after those that it rests on, then the schema itself.

    The order replaces recursion through references: a chain of thousands of definitions needs no stack.
    """

    def __init__(self, documents: Documents) -> None:
        self.documents = documents
        self.order = order_of(documents)
        self.names = Names(documents, self.order)
        self.book: dict[str, Type] = {}
        self.read_places: dict[Place, Type] = {}
        self.endless = endless_places(documents, self.order)
        self.problems: list[LocalProblem] = []
        self.warnings: list[LocalProblem] = []
        self.said = SaidKinds(documents)
        self.context: frozenset[str] | None = (
            None  # kinds that the schema around a part says; `None`: it says none
        )

    def read_all(self) -> Type:
        made: Type = UNKNOWN
        for place in self.order.places:
            path = "" if place == ROOT else None
            schema = self.documents.at(place)
            self.context = None
            if place in self.endless:
                self.problem("bad-shape", path, _ENDLESS)
                made = UNKNOWN
            else:
                made = self.part(schema, path, place.document, DEPTH_MAX)
            self.read_places[place] = made
            made = self.settled(made, schema, path, place.document)
            if place in self.order.loops:
                self.book[self.names.name(place)] = made
        return made.resolved if isinstance(made, Named) else made

    def read(self, schema: Json, path: str | None, document: str, room: int) -> Type:
        """Return the type of one schema that alone constrains a value.

        Args:
            schema: What stands at `path`.
            path: For problems; `None`: they are told elsewhere.
            document: Where references are looked up.
            room: Levels that may still be read.
        """
        before, self.context = self.context, None
        made = self.settled(self.part(schema, path, document, room), schema, path, document)
        self.context = before
        return made

    def settled(self, made: Type, schema: Json, path: str | None, document: str) -> Type:
        """Return the type of a whole schema. If no part of the schema names a kind, return the type of any value, with the schema as a constraint.

        Parts of a schema are read kind by kind, so that `{"allOf": [{"type": "object"}, {"properties": ..}]}` is an object with fields.
        Without a kind, a union of all kinds would claim more than the author wrote: its text alternative would fit no parameter for an object.
        """
        known = as_mapping(schema)
        if known is None or self.said.of(schema, document) is not None or not members(made):
            return made
        if not isinstance(made, Unknown):
            made = Unknown((self.repeated(known, document),))
        key = next((key for key in known if key in KIND_OF_KEYWORD), None)
        if path is not None and key is not None:
            kind = KIND_OF_KEYWORD[key]
            message = f"expected 'type' beside '{key}', found none: a value that is no {kind} fits too"
            self.warnings.append(
                LocalProblem("unchecked-type", message, f'write "type": "{kind}" beside it', path)
            )
        return made

    def part(self, schema: Json, path: str | None, document: str, room: int) -> Type:
        """Return the type of one schema, which may be one of several that constrain a value; arguments as for `read`."""
        if isinstance(schema, bool):
            return UNKNOWN if schema else NEVER
        known = as_mapping(schema)
        if known is None:
            self.problem(
                "bad-shape",
                path,
                f"expected a JSON Schema, found {found_value(schema)}",
                for_no_schema(schema),
            )
            return UNKNOWN
        if room <= 0:
            message = f"expected at most {DEPTH_MAX} schemas inside one another, found more"
            self.problem("limit-exceeded", path, message, "name parts of it in 'types'")
            return UNKNOWN
        for key, expected, found in misshapen(known):
            self.problem("bad-shape", _at(path, key), f"expected {expected}, found {found}")
        # The kinds that the schemas around this part admit: `{"properties": ..}` inside `{"type": "object"}` is about objects only.
        around = self.context
        self.context = both_kinds(around, self.said.of(schema, document, nullable=False))
        made = self.whole(known, path, document, room)
        self.context = around
        if any(key in known for key in DEPENDENT):
            made = self.conditional(made, known, document)
        if known.get("nullable") is True:
            made = alternatives([made, NULL]) or Unknown((self.repeated(known, document),))
        return made

    def whole(self, schema: Mapping[str, Json], path: str | None, document: str, room: int) -> Type:
        """Return the type that all parts of a schema say together."""
        own = self.own(schema, path, document, room)
        parts = list(self.parts(schema, path, document, room))
        if is_composed(schema):
            return self.composition([(own, None), *parts], schema, document)
        made = own
        for part, _ in parts:
            made = intersect(made, part) or self.conditional(made, schema, document)
        return made

    def composition(
        self, parts: Iterable[tuple[Type, Json]], schema: Mapping[str, Json], document: str
    ) -> Type:
        """Return the type of a schema whose parts know the fields of one another.

        The type is an upper bound, and the whole schema stays with it as a constraint: validation decides at run time. To compute the exact type,
        each branch of each part would have to be combined with each branch of all others, for schemas that few tools have.
        """
        how = closedness(cast("Json", schema), document, self.documents)
        # If an intersection has no exact type, the wider side stays: still an upper bound.
        made: Type = UNKNOWN
        for of, said in parts:
            part = _as_part(of, closedness(said, document, self.documents))
            if part is None:
                how = "open"  # the part may name fields that nobody has seen
            else:
                made = intersect(made, part, composing=True) or made
        if how != "silent":
            every = [_closed(one, how) if isinstance(one, ObjectType) else one for one in members(made)]
            made = alternatives(every) or UNKNOWN
        return self.conditional(made, schema, document)

    def parts(
        self, schema: Mapping[str, Json], path: str | None, document: str, room: int
    ) -> Iterable[tuple[Type, Json]]:
        """Yield the types that a schema is composed of besides its own, and the schemas that say them."""
        ref = schema.get("$ref")
        if isinstance(ref, str):
            yield self.named(ref, path, document), {"$ref": ref}
        for key in ("anyOf", "oneOf"):
            branches = schema.get(key)
            if isinstance(branches, list) and branches:
                place = _at(path, key)
                read = [self.part(one, _at(place, at), document, room - 1) for at, one in enumerate(branches)]
                said: dict[str, Json] = {key: branches}
                made = alternatives(read) or Unknown((self.repeated(said, document),))
                is_exact = key == "anyOf" or are_disjoint(read)
                yield made if is_exact else self.conditional(made, said, document), said
        every = schema.get("allOf")
        if isinstance(every, list):
            place = _at(path, "allOf")
            if len(every) > PARTS_MAX:
                message = f"expected at most {PARTS_MAX} schemas in one 'allOf', found {len(every)}"
                self.problem("limit-exceeded", place, message, "write them as one schema")
            for at, one in enumerate(every[:PARTS_MAX]):
                yield self.part(one, _at(place, at), document, room - 1), one

    def conditional(self, of: Type, schema: Mapping[str, Json], document: str) -> Type:
        """Return the type of values that meet a schema, of those that have a type."""
        constraint = Unknown((self.repeated(schema, document),))
        return intersect(of, constraint) or constraint

    def repeated(self, schema: Mapping[str, Json], document: str) -> str:
        """Return the constraint that repeats a schema."""
        return self.constraint({WHOLE: [cast("Json", schema)]}, document)

    def constraint(self, demanded: dict[str, Json], document: str) -> str:
        places = self.documents.reached(cast("Json", demanded), document)
        return constraint(demanded, [self.names.key(place) for place in places])

    def constraints(self, schema: Mapping[str, Json], kind: str | None, document: str) -> Constraints:
        """Return what a schema demands of values of a kind beyond their type."""
        made = [self.constraint(one, document) for one in demands(schema, kind)]
        if kind == "object" and "patternProperties" in schema and "properties" in schema:
            made.append(self.repeated(schema, document))
        return together(made)

    def own(self, schema: Mapping[str, Json], path: str | None, document: str, room: int) -> Type:
        """Return the type that a schema's `type`, `enum` and `const` say, with the keywords that go with them."""
        kinds = self.kinds(schema, path)
        made: Type | None
        if kinds is not None:
            made = alternatives([self.kind(kind, schema, path, document, room) for kind in kinds])
        elif schema.get("not") in ({}, True):
            return NEVER
        else:
            made = Unknown(self.constraints(schema, None, document))
        values = schema.get("enum")
        for listed in ([schema["const"]] if "const" in schema else None, values):
            if isinstance(listed, list):
                only = alternatives(map(_listed, listed))
                made = None if made is None or only is None else intersect(made, only)
        return Unknown((self.repeated(schema, document),)) if made is None else made

    def kinds(self, schema: Mapping[str, Json], path: str | None) -> list[str] | None:
        """Return the kinds that a schema admits; `None`: it does not say."""
        given = schema.get("type")
        if given is None and "type" not in schema:
            if "properties" not in schema and "items" not in schema:
                return None  # constraints say it all
            return [kind for kind in KINDS if kind in (self.context or KINDS_APART)]
        every = given if isinstance(given, list) else [given]
        known = [kind for kind in every if isinstance(kind, str) and kind in KINDS]
        if len(known) < len(every) or not every:
            wrong = next((kind for kind in every if kind not in KINDS), None)
            self.problem(
                "bad-shape",
                _at(path, "type"),
                f"expected one of {', '.join(KINDS)}, found {found_value(wrong)}",
                for_no_kind(wrong),
            )
            return None
        return known

    def kind(self, kind: str, schema: Mapping[str, Json], path: str | None, document: str, room: int) -> Type:
        """Return the type of values of one kind."""
        constraints = self.constraints(schema, kind, document)
        if kind == "array":
            return ListType(self.item(schema, path, document, room), constraints)
        if kind == "object":
            return self.object(schema, path, document, room, constraints)
        made = intersect(Scalar(cast("Kind", kind)), Unknown(constraints))
        return Unknown((self.repeated(schema, document),)) if made is None else made

    def item(self, schema: Mapping[str, Json], path: str | None, document: str, room: int) -> Type:
        key = "prefixItems" if isinstance(schema.get("prefixItems"), list) else "items"
        heads = schema.get(key)
        rest = schema.get("items", True)
        if isinstance(heads, list):
            if isinstance(rest, list):  # how drafts before 2020-12 spell tuples
                rest = schema.get("additionalItems", True) if key == "items" else True
            most = schema.get("maxItems")
            if isinstance(most, int) and most <= len(heads):
                rest = False  # a tuple: there is nothing after its heads
        else:
            heads = []
        place = _at(path, key)
        read = [self.read(one, _at(place, at), document, room - 1) for at, one in enumerate(heads)]
        if isinstance(rest, Mapping | bool):
            read.append(self.read(rest, _at(path, "items"), document, room - 1))
        return alternatives(read) or UNKNOWN  # what stands in which place is a constraint of the list

    def object(
        self, schema: Mapping[str, Json], path: str | None, document: str, room: int, constraints: Constraints
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
        return ObjectType(fields, extra, constraints)

    def others(self, schema: Mapping[str, Json], path: str | None, document: str, room: int) -> Type | None:
        """Return what fields without a name of their own may hold; `None`: there are none."""
        given = schema.get("additionalProperties")
        if isinstance(schema.get("patternProperties"), Mapping):
            return UNKNOWN
        if given is None:
            return None if "properties" in schema else UNKNOWN
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
        if place in self.endless:
            self.problem("bad-shape", path, _ENDLESS)
            return UNKNOWN
        if place not in self.order.loops and made is not None and _is_small(made):
            return made
        name = self.names.name(place)
        if made is not None:
            self.book.setdefault(name, self.settled(made, self.documents.at(place), None, place.document))
        return Named(name, self.names.key(place), self.book)

    def unknown(self, ref: str, path: str | None) -> None:
        """Note a reference that leads nowhere."""
        known = list(self.documents.types)
        name = unescaped_name(ref)
        if name in self.documents.types:
            hint = f"write '#/types/{name}'"
        elif len(self.problems) < SUGGESTIONS_MAX:
            hint = did_you_mean(name, known, "define it in the plan's 'types'")
        else:
            hint = ""
        self.problem(
            "unknown-type", path, f"expected the name of a type ({listing(known)}), found '{ref[:80]}'", hint
        )

    def problem(self, code: str, path: str | None, message: str, hint: str = "") -> None:
        if path is not None:
            self.problems.append(LocalProblem(code, message, hint, path))


KINDS_APART = frozenset(KINDS) - {"integer"}
"""The kinds of all values, each once: an integer is a number."""


class SaidKinds:
    """The kinds that schemas admit, as far as their text shows; each schema is read once."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._known: dict[int, frozenset[str] | None] = {}  # by identity: the documents hold the schemas

    def of(self, schema: Json, document: str, *, nullable: bool = True) -> frozenset[str] | None:
        """Return an upper bound of the kinds that a schema admits; `None`: the schema names no kind.

        Args:
            schema: A schema of one of the documents.
            document: Where its references are looked up.
            nullable: Whether null counts where `nullable` admits it.
        """
        known = as_mapping(schema)
        if known is None:
            return None
        if id(schema) not in self._known:
            self._known[id(schema)] = None  # of a schema that comes back to itself
            self._known[id(schema)] = self._found(known, document)
        found = self._known[id(schema)]
        return found | {"null"} if found is not None and nullable and known.get("nullable") is True else found

    def _found(self, schema: Mapping[str, Json], document: str) -> frozenset[str] | None:
        found = kinds_of(schema)
        parts = schema.get("allOf")
        for part in parts if isinstance(parts, list) else ():
            found = both_kinds(found, self.of(part, document))
        ref = schema.get("$ref")
        place = self._documents.place(ref, document) if isinstance(ref, str) else None
        if place is not None:
            found = both_kinds(found, self.of(self._documents.at(place), place.document))
        for key in ("anyOf", "oneOf"):
            branches = schema.get(key)
            if isinstance(branches, list):
                every = [self.of(branch, document) for branch in branches]
                known = [kinds for kinds in every if kinds is not None]
                if len(known) == len(every):
                    found = both_kinds(found, frozenset[str]().union(*known))
        return found


def both_kinds(left: frozenset[str] | None, right: frozenset[str] | None) -> frozenset[str] | None:
    """Return the kinds that two schemas admit together; `None` stands for a schema that names no kind."""
    if left is None or right is None:
        return right if left is None else left
    both = left & right
    numbers = {"integer", "number"}
    return both | {"integer"} if left & numbers and right & numbers and not both & numbers else both


def _at(path: str | None, part: str | int) -> str | None:
    return None if path is None else into(path, part)


def _is_small(of: Type) -> bool:
    return size_of(of) <= INLINE_SIZE_MAX and depth_of(of) <= INLINE_DEPTH_MAX


def _listed(value: Json) -> Type:
    """Return the type of one value that a schema lists; of lists and objects, all but their value is a constraint."""
    made = type_of(value)
    if isinstance(value, list | dict) and value != []:
        return intersect(made, Unknown((constraint({"enum": [value]}),))) or UNKNOWN
    return made


FIELDS_MAX = 100_000
"""Fields that the branches of one part get from one another; a larger part counts as open."""


def _as_part(of: Type, own: Closedness) -> Type | None:
    """Return a type as that of a part of a composition; `None`: it does not show all fields that the part names.

    A part leaves it to the whole to be closed. So a value of one branch may also have the fields that other branches of the part name, and a
    constraint that repeats a closed schema says nothing of it.

    Args:
        of: What the part's schema reads as, alone.
        own: Whether that schema's objects are closed.
    """
    every = parts_of(of)
    if every is None:
        return None
    if own == "closed" and any(
        isinstance(one, Unknown) or (isinstance(one, ObjectType) and one.extra is not None) for one in every
    ):
        return None
    names = dict.fromkeys(name for one in every if isinstance(one, ObjectType) for name in one.fields)
    if len(every) * len(names) > FIELDS_MAX:
        return None
    others = {name: Property(UNKNOWN, required=False) for name in names}
    return alternatives([_open(one, others) for one in every])


def _open(of: Alternative, others: Mapping[str, Property]) -> Alternative:
    kept = tuple([one for one in of.constraints if not is_whole(one)])
    if isinstance(of, ObjectType):
        return ObjectType(
            {**of.fields, **{k: v for k, v in others.items() if k not in of.fields}}, of.extra, kept
        )
    return of if kept == of.constraints else replace(of, constraints=kept)


def _closed(made: ObjectType, how: Closedness) -> ObjectType:
    extra = None if how == "closed" else UNKNOWN if made.extra is None else made.extra
    return ObjectType(made.fields, extra, made.constraints)
