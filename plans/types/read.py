"""Types read from JSON Schemas.

The type of a schema has every value that the schema accepts: it is an upper bound. A demand that no type expresses (a pattern, a minimum, a `not`) stays
with the type as a constraint. So the check can tell a value that fits from one that may fit, and validation at run time decides the rest.

A schema is first written as one that stands alone (`standalone.py`): that is the schema which validation uses at run time, so the check and validation read the
same text. In it plain JSON Schema holds: objects are open unless the schema closes them, `nullable` and other dialects are gone, and every reference
names an entry of `$defs`. References are inlined where that is harmless, and stay names where a type holds itself or would get large.

Whatever cannot be computed exactly is bounded: the type keeps what is known, and one constraint repeats the complete schema. The values of a bound that
meet the schema are exactly the values of the schema, however wide the bound is. So a bound costs a warning `unchecked-type`, never a wrong answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from ..reports.errors import LocalProblem
from ..values import Json, canonical, digest
from .constraints import KINDS, WHOLE, constraint, demands, together
from .definitions import Documents, as_mapping, refs_in, same_value_schemas
from .intersect import alternatives, are_disjoint, intersect
from .standalone import is_composed, named_fields, self_contained
from .types import (
    BOOLEAN,
    NEVER,
    NULL,
    NUMBER,
    TEXT,
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
    union,
)
from .wellformed import PARTS_MAX, schema_problems

INLINE_SIZE_MAX = 300
"""Parts of a definition that is written out where it is named; a larger one stays a name."""

INLINE_DEPTH_MAX = 8
"""Levels of the same."""

KEYS_MAX = 16
"""Definitions of one schema that are told apart by what each rests on: finding that out costs a walk each."""

FIELDS_MAX = 100_000
"""Fields that the alternatives of one composition get from one another; a larger one stays open."""

_ENDLESS = "expected a type, found one that says of a value only what it says of that same value"
_NO_TYPES: Mapping[str, Json] = {}


def read_schema(
    schema: Mapping[str, Json], types: Mapping[str, Json] = _NO_TYPES
) -> tuple[Type, list[LocalProblem]]:
    """Return the type of a schema and what is wrong with it. O(size of the schema and of what it names).

    Args:
        schema: Any JSON; what is not a JSON Schema is a problem and reads as `UNKNOWN`.
        types: Schemas for `#/types/Name`. Their own problems are not reported here: read each of them for that.
    """
    made, problems, _ = read_with_warnings(schema, types)
    return made, problems


def read_with_warnings(
    schema: Mapping[str, Json], types: Mapping[str, Json] = _NO_TYPES
) -> tuple[Type, list[LocalProblem], list[LocalProblem]]:
    """As `read_schema`; also return a warning for each schema that constrains one kind and has no `type`."""
    problems, warnings = schema_problems(schema, types)
    reader = _Reader(self_contained(schema, types))
    made = reader.read_all()
    if reader.endless:
        problems.append(LocalProblem("bad-shape", _ENDLESS))
    return made, problems, warnings


def read_standalone(schema: Mapping[str, Json]) -> Type:
    """Return the type of a schema that `self_contained` made."""
    return _Reader(schema).read_all()


class _Reader:
    """The reading of one schema that stands alone: its definitions first, each after those that it rests on, then the schema itself.

    The order replaces recursion through references: a chain of thousands of definitions needs no stack. Definitions are known by the reference that names
    them; `#` is the schema itself.
    """

    def __init__(self, root: Mapping[str, Json]) -> None:
        definitions = as_mapping(root.get("$defs")) or {}
        self.documents = Documents(root, {})
        self.schemas: dict[str, Json] = {
            "#": {key: value for key, value in root.items() if key != "$defs"},
            **{f"#/$defs/{name}": schema for name, schema in definitions.items()},
        }
        # The order comes from one walk over all references. Reading on demand would be shorter, but a chain of references is as deep as its author likes.
        self.edges = {ref: tuple(dict.fromkeys(refs_in(one))) for ref, one in self.schemas.items()}
        self.order, self.loops, _ = _depth_first(self.edges)
        # A walk from an endless definition comes around without going into a part of the value: the definition has no meaning.
        self.endless = (
            self.loops
            and _depth_first(
                {ref: tuple(refs_in(one, same_value_schemas)) for ref, one in self.schemas.items()}
            )[2]
        )
        self.known: dict[str, Type] = {}
        self.book: dict[str, Type] = {}
        self.keys: dict[str, str] = {}

    def read_all(self) -> Type:
        for ref in self.order:
            # Definitions are kept as parts: whether a definition without `type` admits every kind depends on the schemas beside the reference.
            self.known[ref] = UNKNOWN if ref in self.endless else self.part(self.schemas[ref])
            if ref in self.loops:
                self.book[_name_of(ref)] = self.settled(self.known[ref], self.schemas[ref])
        made = self.settled(self.known["#"], self.schemas["#"])
        # The root is written out, since whoever asked for its type looks at its alternatives first.
        return made.resolved if isinstance(made, Named) else made

    def read(self, schema: Json) -> Type:
        """Return the type of a schema that alone constrains a value."""
        return self.settled(self.part(schema), schema)

    def settled(self, made: Type, schema: Json) -> Type:
        """Return the type of a complete schema, given the type of it as a part. A schema that names no kind is one constraint on any value.

        Parts of a schema are read kind by kind, so that `{"allOf": [{"type": "object"}, {"properties": ..}]}` is an object with fields. Without a kind, a union
        of all kinds would claim more than the author wrote: its text alternative would fit no parameter for an object.
        """
        known = as_mapping(schema)
        if known is None or not set(map(_kind_of, members(made))) >= _EVERY_KIND:
            return made
        return UNKNOWN if made == _ANYTHING else Unknown((self.repeated(known),))

    def part(self, schema: Json) -> Type:
        """Return the type of a schema that may be one of several which constrain the same value."""
        if isinstance(schema, bool):
            return UNKNOWN if schema else NEVER
        known = as_mapping(schema)
        if known is None:
            return UNKNOWN
        made: Type = UNKNOWN  # the top of the lattice: each part only narrows it
        # To compute a composition exactly, each branch of each part would have to be combined with each branch of all others and with the fields that these
        # evaluate, for schemas that few tools have. `unevaluated..` means something only beside the other keywords of its schema.
        is_exact = not is_composed(known) and not any(key.startswith("unevaluated") for key in known)
        for part in self.parts(known):
            both = None if part is None else intersect(made, part)
            is_exact = is_exact and both is not None
            made = made if both is None else both  # without an exact intersection the wider side stays
        # Closing comes before the constraint, which then tells values with these fields from values that the schema accepts.
        return made if is_exact else self.bounded(self.closed(made, known), known)

    def bounded(self, bound: Type, schema: Mapping[str, Json]) -> Type:
        """Return exactly the values that a schema accepts, given a type that has all of them.

        The other constraints of the bound are dropped, as the schema implies them. Constraints of parts also must not outlive their composition: they repeat
        schemas that leave it to the composition to close objects.
        """
        demanded = Unknown((self.repeated(schema),))
        # If even the bound has no exact form with the constraint, the constraint alone is exact: it is the schema.
        bare = alternatives([replace(one, constraints=()) for one in members(bound)])
        made = None if bare is None else intersect(bare, demanded)
        return demanded if made is None else made

    def closed(self, made: Type, schema: Mapping[str, Json]) -> Type:
        """Return the type of a composed schema whose objects have only the fields that some part names.

        A value that fits one branch may also fit others and have their fields. So each alternative gets the names of all others, with values of any type.
        """
        names = (
            named_fields(cast("Json", schema), "", self.documents)
            if schema.get("unevaluatedProperties") is False
            else None
        )
        every = members(made)
        if names is None or len(names) * len(every) > FIELDS_MAX:
            return made
        others = {name: Property(UNKNOWN, required=False) for name in names}
        closed: list[Type] = [
            ObjectType({**one.fields, **{k: v for k, v in others.items() if k not in one.fields}}, None)
            if isinstance(one, ObjectType)
            else one
            for one in every
        ]
        return alternatives(closed) or made

    def parts(self, schema: Mapping[str, Json]) -> Iterator[Type | None]:
        """Yield the types of which a value must have all; `None` stands for a demand that no type expresses exactly."""
        # Intersection is commutative, so the order of the parts decides only the order in which messages list fields.
        yield self.typed(schema)
        if "patternProperties" in schema and "properties" in schema:
            yield None  # which schema a field is held to depends on both
        for listed in ([schema["const"]] if "const" in schema else None, schema.get("enum")):
            if isinstance(listed, list):
                yield alternatives(map(type_of, listed))
                if any(isinstance(value, list | dict) for value in listed):
                    yield None  # the types of two lists may be equal though their items differ in order
        ref = schema.get("$ref")
        if isinstance(ref, str):
            yield self.named(ref)
        for key in ("anyOf", "oneOf"):
            branches = schema.get(key)
            if isinstance(branches, list) and branches:
                yield from self.branches(branches, is_exclusive=key == "oneOf")
        every = schema.get("allOf")
        if isinstance(every, list):
            yield from map(self.part, every[:PARTS_MAX])
            if len(every) > PARTS_MAX:
                yield None

    def branches(self, schemas: Sequence[Json], *, is_exclusive: bool) -> Iterator[Type | None]:
        """As `parts`, for `anyOf` and `oneOf`: a value that fits two branches of `oneOf` is refused, which no union says."""
        read = list(map(self.part, schemas))
        yield alternatives(read)
        if is_exclusive and not are_disjoint(read):
            yield None

    def typed(self, schema: Mapping[str, Json]) -> Type | None:
        """Return the type that `type` and the keywords of single kinds say."""
        kinds = _kinds(schema)
        if kinds is not None:
            every = [self.kind(kind, schema) for kind in kinds]
            known = [one for one in every if one is not None]
            return alternatives(known) if len(known) == len(every) else None
        if schema.get("not") in ({}, True):
            return NEVER  # how types write the empty type (`show.py`); any other `not` is a constraint
        return Unknown(self.constraints(schema, None))

    def kind(self, kind: str, schema: Mapping[str, Json]) -> Type | None:
        """Return the type of the values of one kind."""
        constraints = self.constraints(schema, kind)
        if kind == "array":
            return ListType(self.item(schema), constraints)
        if kind == "object":
            return self.object(schema, constraints)
        # Where a kind has few values (null, booleans), the intersection decides at once which of them meet the constraints.
        return intersect(Scalar(cast("Kind", kind)), Unknown(constraints))

    def constraints(self, schema: Mapping[str, Json], kind: str | None) -> Constraints:
        """Return what a schema demands of values of a kind beyond their type."""
        return together([self.constraint(one) for one in demands(schema, kind)])

    def repeated(self, schema: Mapping[str, Json]) -> str:
        """Return the constraint that repeats a schema."""
        return self.constraint({WHOLE: [cast("Json", schema)]})

    def constraint(self, demanded: dict[str, Json]) -> str:
        return constraint(demanded, [self.key(ref) for ref in dict.fromkeys(refs_in(cast("Json", demanded)))])

    def item(self, schema: Mapping[str, Json]) -> Type:
        """Return the type of all items; which of them stands at which place is a constraint of the list."""
        heads = schema.get("prefixItems")
        first = heads if isinstance(heads, list) else []
        most = schema.get("maxItems")
        # A tuple has nothing after its heads, so the schema of further items says nothing.
        is_tuple = bool(first) and isinstance(most, int) and most <= len(first)
        rest = False if is_tuple else schema.get("items", True)
        # Item types by position would help tuples only, and every rule for lists would have to know them.
        return alternatives(map(self.read, [*first, rest])) or UNKNOWN

    def object(self, schema: Mapping[str, Json], constraints: Constraints) -> ObjectType:
        properties = as_mapping(schema.get("properties")) or {}
        names = schema.get("required")
        required = {name: None for name in names if isinstance(name, str)} if isinstance(names, list) else {}
        fields = {name: Property(self.read(field), name in required) for name, field in properties.items()}
        # A field that patterns may match has no schema of its own here, so nothing is known of it.
        others = True if "patternProperties" in schema else schema.get("additionalProperties", True)
        extra = None if others is False else self.read(others)
        for name in required:
            if name not in fields:
                # Required and forbidden: no object is valid.
                fields[name] = Property(NEVER if extra is None else extra)
        return ObjectType(fields, extra, constraints)

    def named(self, ref: str) -> Type:
        """Return the type that a reference names."""
        made = self.known.get(ref)  # absent while the definition is being read: the reference closes a loop
        if ref in self.endless or ref not in self.schemas:
            return UNKNOWN
        if ref not in self.loops and made is not None and _is_small(made):
            return made
        # Large definitions stay names as well: written out at each reference, they would double from definition to definition.
        if made is not None:
            self.book.setdefault(_name_of(ref), self.settled(made, self.schemas[ref]))
        return Named(_name_of(ref), self.key(ref), self.book)

    def key(self, ref: str) -> str:
        """Return the digest of what a definition rests on; past `KEYS_MAX` definitions, of all that the schema rests on."""
        start = ref if ref in self.keys or len(self.keys) < KEYS_MAX else "#"
        if start not in self.keys:
            reached = {start: None}
            waiting = [start]
            while waiting:
                ahead = [each for each in self.edges.get(waiting.pop(), ()) if each not in reached]
                reached.update(dict.fromkeys(ahead))
                waiting += ahead
            self.keys[start] = digest(canonical([[each, self.schemas.get(each)] for each in reached]))
        return self.keys[start]


_EVERY_KIND = frozenset(KINDS) - {"integer"}
"""The kinds of all values, each once: an integer is a number."""

_ANYTHING = union(NULL, BOOLEAN, NUMBER, TEXT, ListType(UNKNOWN), ObjectType({}, UNKNOWN))


def _kind_of(member: Scalar | ListType | ObjectType | Unknown) -> str:
    match member:
        case Scalar(kind=kind):
            return kind
        case ListType():
            return "array"
        case ObjectType():
            return "object"
        case Unknown():
            return "unknown"


def _kinds(schema: Mapping[str, Json]) -> Sequence[str] | None:
    """Return the kinds that a schema admits; `None`: constraints say all that it demands."""
    if "type" not in schema:
        return sorted(_EVERY_KIND) if "properties" in schema or "items" in schema else None
    given = schema["type"]
    every = given if isinstance(given, list) else [given]
    known = [kind for kind in every if isinstance(kind, str) and kind in KINDS]
    return known if len(known) == len(every) and every else None


def _name_of(ref: str) -> str:
    return ref.rpartition("/")[2] if ref != "#" else "Self"


def _is_small(of: Type) -> bool:
    return size_of(of) <= INLINE_SIZE_MAX and depth_of(of) <= INLINE_DEPTH_MAX


def _depth_first(edges: Mapping[str, Iterable[str]]) -> tuple[list[str], set[str], set[str]]:
    """Walk a graph, depth first, without recursion. O(nodes + edges).

    Returns:
        The nodes, each after those that it leads to; the nodes at which a walk comes back to one that it has not left; the nodes that lead to a loop.
    """
    order: list[str] = []
    loops: set[str] = set()
    endless: set[str] = set()
    seen: set[str] = set()
    open_now: dict[str, Iterator[str]] = {}  # the path from a start to where the walk is
    for start in edges:
        ahead: str | None = start if start not in seen else None
        while ahead is not None or open_now:
            if ahead is not None:
                seen.add(ahead)
                open_now[ahead] = iter(edges.get(ahead, ()))
            here = next(reversed(open_now))
            ahead = None
            for other in open_now[here]:
                if other in open_now:
                    loops.add(other)
                if other in open_now or other in endless:
                    endless.add(here)
                elif other not in seen:
                    ahead = other
                    break
            else:
                del open_now[here]
                order.append(here)
                if here in endless and open_now:
                    endless.add(next(reversed(open_now)))
    return order, loops, endless
