"""The types of the values that flow through a plan, and how types combine.

A type says which JSON values may stand in a place: scalars by kind, lists by item, objects by field, alternatives as a union. Rules:

- types are immutable; equal types hash alike; the order of fields, of alternatives and of known values means nothing;
- a type is never deeper than `DEPTH_MAX` nor larger than `SIZE_MAX`: a part that would pass a bound becomes unknown, so every walk over a type is
  bounded, however hostile the plan;
- recursion stands in a `Named` type, which is looked up on demand.

This module knows neither JSON Schema (`read.py`) nor which type fits which place (`assignable.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from enum import Enum
from types import MappingProxyType
from typing import Literal, TypeAlias

from ..immutable import immutable
from ..values import Json


def type_of(value: Json) -> Type:
    """Return the exact type of a value that is known: its scalars can have no other value. O(size of the value)."""
    return _type_of(value, DEPTH_MAX)


def _type_of(value: Json, room: int) -> Type:  # noqa: PLR0911  # one case, one line
    match value:
        case None:
            return NULL
        case bool():
            return Scalar("boolean", (value,))
        case int():
            return Scalar("integer", (value,))
        case float():
            return Scalar("number", (value,))
        case str():
            return Scalar("string", (value,))
        case _ if room <= 0:
            return UNKNOWN
        case list():
            # Equal types are joined before `union` sees them: rows of a table mostly have few types.
            items = dict.fromkeys(_type_of(item, room - 1) for item in value)
            return ListType(union(*items) if items else NEVER)
        case dict():
            return ObjectType(
                {name: Property(_type_of(part, room - 1), required=True) for name, part in value.items()}
            )


# --- The types


Kind: TypeAlias = Literal["null", "boolean", "integer", "number", "string", "date", "datetime", "timedelta"]
"""The last three are of values inside an expression only (`expressions/dates.py`): no schema, and no value of a run, has them."""

DEPTH_MAX = 48
"""Lists and objects inside one another in a type: every walk stays far from Python's recursion limit."""

SIZE_MAX = 10_000
"""Parts of a type, shared ones counted as often as they are met: stops types that double from step to step."""


Constraints: TypeAlias = tuple[str, ...]
"""What a schema demands of values beyond their type: each demand as canonical JSON, sorted. `constraints.py` makes them."""

CUT = '{"$comment":"cut"}'
"""The constraint of what was cut off at a bound: nobody knows it, so no two of it are known to be the same."""


@immutable
class Unknown:
    """The type of values of any kind; `UNKNOWN` demands nothing of them.

    Attributes:
        constraints: As of `Scalar`.
    """

    constraints: Constraints = ()

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Unknown)
            and self.constraints == other.constraints
            and CUT not in self.constraints
        )

    def __hash__(self) -> int:
        return hash(("unknown", self.constraints))


# An enum member is a value of its own class, so that type checkers can narrow by it; a plain sentinel object they could not.
class Never(Enum):
    """The type that no value has; its one member is `NEVER`."""

    NEVER = "never"


# Types have their own equality: that of dataclasses compares tuples of fields, where `1`, `1.0` and `True` are equal and the order of fields counts. Hashes
# are kept, because types are keys of every cache of the check.


UNKNOWN = Unknown()
NEVER = Never.NEVER


@immutable
class Scalar:
    """Null, a boolean, a number or text.

    Attributes:
        kind: As JSON Schema names it; every `integer` is also a `number`.
        only: The values it can have, if they are known; all of exactly this kind (`1` is integer, `1.0` number).
        constraints: Further demands of a schema (`pattern`, `minimum` ..); without any, kind and `only` say all.
    """

    kind: Kind
    only: tuple[Json, ...] | None = None
    constraints: Constraints = ()
    _key: object = field(init=False, repr=False)
    _hash: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        values = None if self.only is None else frozenset(self.only)  # one kind: `1` cannot meet `True` here
        key = (self.kind, values, self.constraints)
        object.__setattr__(self, "_key", key)
        object.__setattr__(self, "_hash", hash(key))

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Scalar) and self._key == other._key)

    def __hash__(self) -> int:
        return self._hash


@immutable
class ListType:
    """A list; the type of `[]` is `ListType(NEVER)`.

    Attributes:
        item: What each item is.
        constraints: As of `Scalar` (`minItems`, `uniqueItems` ..).
    """

    item: Type
    constraints: Constraints = ()
    depth: int = field(init=False, repr=False)
    size: int = field(init=False, repr=False)
    wide: Type | None = field(init=False, repr=False, default=None)
    _hash: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # The bound is kept where types are made, so that no walk over a type needs a bound of its own.
        if depth_of(self.item) >= DEPTH_MAX or size_of(self.item) >= SIZE_MAX:
            object.__setattr__(self, "item", Unknown((CUT,)))
        object.__setattr__(self, "depth", depth_of(self.item) + 1)
        object.__setattr__(self, "size", size_of(self.item) + 1)
        object.__setattr__(self, "_hash", hash(("list", self.item, self.constraints)))

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, ListType)
            and self._hash == other._hash
            and self.constraints == other.constraints
            and self.item == other.item
        )

    def __hash__(self) -> int:
        return self._hash


@immutable
class Property:
    """One field of an object: its type, and whether it is always there."""

    type: Type
    required: bool = True


@immutable
class ObjectType:
    """An object.

    Attributes:
        fields: The known fields, in the order given.
        extra: What other fields hold; `None`: there are no others.
        constraints: As of `Scalar` (`minProperties`, `propertyNames` ..).
    """

    fields: Mapping[str, Property]
    extra: Type | None = None
    constraints: Constraints = ()
    depth: int = field(init=False, repr=False)
    size: int = field(init=False, repr=False)
    wide: Type | None = field(init=False, repr=False, default=None)
    _hash: int | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        fields, extra = self.fields, self.extra
        size, depth = _extent(fields, extra)
        if size > SIZE_MAX or depth >= DEPTH_MAX:
            # All names of fields stay: a wide object without fields would make every reference to it a problem. Only what lies below them is cut.
            shallow = size > SIZE_MAX
            fields = {name: Property(_cut(p.type, shallow=shallow), p.required) for name, p in fields.items()}
            extra = None if extra is None else _cut(extra, shallow=shallow)
            size, depth = _extent(fields, extra)
            object.__setattr__(self, "extra", extra)
        object.__setattr__(self, "fields", MappingProxyType(dict(fields)))
        object.__setattr__(self, "depth", 1 + depth)
        object.__setattr__(self, "size", size)

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, ObjectType)
            and hash(self) == hash(other)
            and self.constraints == other.constraints
            and self.extra == other.extra
            and self.fields == other.fields
        )

    def __hash__(self) -> int:
        if self._hash is None:  # worked out when asked for: most types of a large plan are never compared
            made = hash(("object", frozenset(self.fields.items()), self.extra, self.constraints))
            object.__setattr__(self, "_hash", made)
            return made
        return self._hash


@immutable
class Union:
    """Alternatives: at least two, flat, each once. Made by `union`, never directly."""

    members: tuple[Scalar | ListType | ObjectType | Named, ...]
    depth: int = field(init=False, repr=False)
    size: int = field(init=False, repr=False)
    wide: Type | None = field(init=False, repr=False, default=None)
    _hash: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Members are no deeper and, being at most `ALTERNATIVES_MAX`, not much larger than the bound; so a union is never cut.
        object.__setattr__(self, "depth", max(map(depth_of, self.members)))
        object.__setattr__(self, "size", sum(map(size_of, self.members)))
        object.__setattr__(self, "_hash", hash(("union", frozenset(self.members))))

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Union)
            and self._hash == other._hash
            and frozenset(self.members) == frozenset(other.members)
        )

    def __hash__(self) -> int:
        return self._hash


@immutable
class Named:
    """A type by its name in a schema's definitions: how a type can hold itself.

    Attributes:
        name: As people know it, such as `Tree`.
        key: Digest of the definitions that it rests on: equal names from different schemas stay apart.
        book: The definitions, by name; complete once the schema is read.
    """

    name: str
    key: str
    book: Mapping[str, Type] = field(compare=False, repr=False)

    @property
    def resolved(self) -> Type:
        """The type itself; never a `Named`."""
        return self.book.get(self.name, UNKNOWN)


Type: TypeAlias = Scalar | ListType | ObjectType | Unknown | Never | Union | Named

NULL = Scalar("null")
BOOLEAN = Scalar("boolean")
INTEGER = Scalar("integer")
NUMBER = Scalar("number")
TEXT = Scalar("string")


def _extent(fields: Mapping[str, Property], extra: Type | None) -> tuple[int, int]:
    """Return how large an object's type is, and how deep the deepest of its parts."""
    size, depth = 1, 0
    for known in fields.values():
        part = known.type
        if isinstance(part, ListType | ObjectType | Union):
            size += part.size
            depth = max(depth, part.depth)
        else:
            size += 1
    return (size, depth) if extra is None else (size + size_of(extra), max(depth, depth_of(extra)))


def depth_of(of: Type) -> int:
    """Return how many lists and objects stand inside one another in a type."""
    return of.depth if isinstance(of, ListType | ObjectType | Union) else 0


def size_of(of: Type) -> int:
    """Return how many parts a type has."""
    return of.size if isinstance(of, ListType | ObjectType | Union) else 1


def _cut(part: Type, *, shallow: bool) -> Type:
    """Return a part of an object that would pass a bound: itself if it does no harm, else what nobody knows."""
    harms = size_of(part) > 1 if shallow else depth_of(part) >= DEPTH_MAX
    return Unknown((CUT,)) if harms else part


# --- Combining types
#
# `union` is associative, commutative and idempotent. It is the join of inference and may be wider than its parts; `intersect.alternatives` is the exact
# union of schemas. Two lists of different items stay apart, because a reader can tell them apart; types that differ only in known values (the rows of a
# literal table) are joined, so that the type of data stays small however much data there is.


Member: TypeAlias = Scalar | ListType | ObjectType | Named

VALUES_MAX = 64
"""Known values of one kind: more are told by their kind alone."""

ALTERNATIVES_MAX = 64
"""Alternatives of a union: more say nothing that anybody reads, and become `UNKNOWN`."""


def union(*types: Type) -> Type:
    """Return the type of values that have one of the types. O(size of the types)."""
    if len(types) == 1:
        return types[0]
    flat = flattened(types)
    if len(flat) <= 1:
        return next(iter(flat), NEVER)
    if any(isinstance(one, Unknown) for one in flat):
        return UNKNOWN  # also for an unknown type with constraints: inference does not combine constraints
    groups: dict[object, list[Member]] = {}
    for member in flat:
        if not isinstance(member, Unknown):
            groups.setdefault(_group(member), []).append(member)
    made = unabsorbed([_joined(group) for group in groups.values()])
    if len(made) == 1:
        return made[0]
    return UNKNOWN if len(made) > ALTERNATIVES_MAX else Union(made)


def flattened(types: Iterable[Type]) -> dict[Member | Unknown, None]:
    """Return the alternatives of all types, names kept, each once."""
    flat: dict[Member | Unknown, None] = {}
    for one in types:
        if isinstance(one, Union):
            flat.update(dict.fromkeys(one.members))
        elif not isinstance(one, Never):
            flat[one] = None
    return flat


def members(of: Type) -> tuple[Scalar | ListType | ObjectType | Unknown, ...]:
    """Return the alternatives of a type with names looked up; `UNKNOWN` is its own, `NEVER` has none."""
    if isinstance(of, Scalar | ListType | ObjectType | Unknown):
        return (of,)
    if isinstance(of, Never):
        return ()
    # A name may stand for a union of names, and come back to itself; hence the loop over what is still to be looked up.
    found: dict[Scalar | ListType | ObjectType | Unknown, None] = {}
    seen: set[Named] = set()
    waiting: list[Type] = [of]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Named):
            if one not in seen:
                seen.add(one)
                waiting.append(one.resolved)
        elif isinstance(one, Union):
            waiting.extend(reversed(one.members))
        elif not isinstance(one, Never):
            found[one] = None
    return tuple(found)


def is_nullable(of: Type) -> bool:
    """Whether null is among the alternatives; of an unknown type that is not known, and so false."""
    return NULL in members(of)


def without_null(of: Type) -> Type:
    """Return the type of the same values but null; of null alone that is `NEVER`."""
    if of == NULL:
        return NEVER
    if not is_nullable(of):
        return of
    return union(*(member for member in members(of) if member != NULL))


def widened(of: Type) -> Type:
    """Return the type without known values: that of `"Rome"` is text. What schemas demand beyond it stays."""
    if isinstance(of, Scalar):
        return of if of.only is None else Scalar(of.kind, None, of.constraints)
    if not isinstance(of, ListType | ObjectType | Union):
        return of
    # `union` widens every member to group it, at each level of nested data: without the cache that is quadratic in the depth.
    if of.wide is None:
        made = _widened(of)
        if made == of:
            made = of
        elif isinstance(made, ListType | ObjectType | Union):
            object.__setattr__(made, "wide", made)
        object.__setattr__(of, "wide", made)  # a cache: says nothing that the type does not say
    return of if of.wide is None else of.wide


def _widened(of: ListType | ObjectType | Union) -> Type:
    if isinstance(of, ListType):
        return ListType(widened(of.item), of.constraints)
    if isinstance(of, Union):
        return union(*map(widened, of.members))
    extra = None if of.extra is None else widened(of.extra)
    wide = [widened(known.type) for known in of.fields.values()]
    if extra is of.extra and all(
        one is known.type for one, known in zip(wide, of.fields.values(), strict=True)
    ):
        return of
    fields = {
        name: Property(one, known.required)
        for one, (name, known) in zip(wide, of.fields.items(), strict=True)
    }
    return ObjectType(fields, extra, of.constraints)


def _group(member: Member) -> object:
    """Return what members that can be joined without a loss have in common."""
    if isinstance(member, Scalar):
        return (member.kind, member.constraints)
    # Two objects join only if all that tells them apart are known values. Joining any two objects would lose which fields go together.
    return widened(member)


def _joined(group: Sequence[Member]) -> Member:
    """Return one member for members of one group."""
    head = group[0]
    if len(group) == 1 or isinstance(head, Named):
        return head if not isinstance(head, Scalar) else joined_scalars([head])
    if isinstance(head, Scalar):
        return joined_scalars([member for member in group if isinstance(member, Scalar)])
    if isinstance(head, ListType):
        items = [member.item for member in group if isinstance(member, ListType)]
        return ListType(union(*items), head.constraints)
    objects = [member for member in group if isinstance(member, ObjectType)]
    fields = {
        name: Property(union(*(other.fields[name].type for other in objects)), known.required)
        for name, known in head.fields.items()
    }
    extras = [other.extra for other in objects if other.extra is not None]
    return ObjectType(fields, union(*extras) if extras else None, head.constraints)


def joined_scalars(group: Sequence[Scalar]) -> Scalar:
    """Return one scalar for those of one kind, with the same constraints; it has more values than they where they know more than `VALUES_MAX`."""
    head = group[0]
    values: dict[Json, None] = {}
    for member in group:
        if member.only is None:
            return member
        values.update(dict.fromkeys(member.only))
    # Both booleans are every boolean: else `union` would not be associative.
    everything = head.kind == "boolean" and len(values) == 2
    return Scalar(
        head.kind, None if everything or len(values) > VALUES_MAX else tuple(values), head.constraints
    )


def unabsorbed(made: Sequence[Member]) -> tuple[Member, ...]:
    """Return the members that no other one holds: numbers hold integers, text holds known texts, a list holds `[]`."""
    # Only what has no constraints can hold another alternative: of constraints it is not known which is wider.
    plain = {member.kind for member in made if isinstance(member, Scalar) and _is_plain(member)}
    lists = any(
        isinstance(member, ListType) and not member.constraints and member.item != NEVER for member in made
    )
    return tuple(member for member in made if not _is_held(member, plain, has_lists=lists))


def _is_plain(member: Scalar) -> bool:
    return member.only is None and not member.constraints


def _is_held(member: Member, plain: Iterable[str], *, has_lists: bool) -> bool:
    if isinstance(member, Scalar):
        if member.kind == "integer" and "number" in plain:
            return True
        return member.kind in plain and not _is_plain(member)
    return has_lists and isinstance(member, ListType) and member.item == NEVER
