"""The types of values that flow through a plan, as immutable values.

A type says which JSON values may stand in a place: scalars by kind, lists by item, objects by field, alternatives as a
union. Rules kept here:

- equal types are equal and hash alike; the order of fields, of alternatives and of known values means nothing;
- a type is never deeper than `DEPTH_MAX` nor larger than `SIZE_MAX`: what would pass a bound is cut off and unknown,
  so that every walk over a type is cheap and safe, however hostile the plan;
- recursion stands in a `Named` type, which is looked up when somebody asks what it is.

How types combine is in `union.py`; which type fits which place in `assign.py`. Neither JSON Schema nor plans are known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Literal, TypeAlias

from ..immutable import immutable
from ..values import Json

Kind: TypeAlias = Literal["null", "boolean", "integer", "number", "string"]

DEPTH_MAX = 48
"""Lists and objects inside one another in a type: every walk stays far from Python's recursion limit."""

SIZE_MAX = 10_000
"""Parts of a type, shared ones counted as often as they are met: stops types that double from step to step."""


Conditions: TypeAlias = tuple[str, ...]
"""What a schema demands of values beyond their type: each demand as canonical JSON, sorted. `beyond.py` makes them."""

CUT = '{"$comment":"cut"}'
"""The condition of what was cut off at a bound: nobody knows it, so no two of it are known to be the same."""


@dataclass(frozen=True, slots=True, eq=False)
class Unknown:
    """The type of values of any kind; `UNKNOWN` demands nothing of them.

    Attributes:
        beyond: As of `Scalar`.
    """

    beyond: Conditions = ()

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Unknown) and self.beyond == other.beyond and CUT not in self.beyond
        )

    def __hash__(self) -> int:
        return hash(("unknown", self.beyond))


class Never(Enum):
    """The type that no value has; its one member is `NEVER`."""

    NEVER = "never"


UNKNOWN = Unknown()
NEVER = Never.NEVER


@dataclass(frozen=True, slots=True, eq=False)
class Scalar:
    """Null, a boolean, a number or text.

    Attributes:
        kind: As JSON Schema names it; every `integer` is also a `number`.
        only: The values it can have, if they are known; all of exactly this kind (`1` is integer, `1.0` number).
        beyond: Further conditions of a schema (`pattern`, `minimum` ..).
    """

    kind: Kind
    only: tuple[Json, ...] | None = None
    beyond: Conditions = ()
    _key: object = field(init=False, repr=False)
    _hash: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        values = None if self.only is None else frozenset(self.only)  # one kind: `1` cannot meet `True` here
        key = (self.kind, values, self.beyond)
        object.__setattr__(self, "_key", key)
        object.__setattr__(self, "_hash", hash(key))

    @property
    def exact(self) -> bool:
        """Whether kind and `only` say all that the type demands."""
        return not self.beyond

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Scalar) and self._key == other._key)

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True, slots=True, eq=False)
class ListType:
    """A list; the type of `[]` is `ListType(NEVER)`.

    Attributes:
        item: What each item is.
        beyond: As of `Scalar` (`minItems`, `uniqueItems` ..).
    """

    item: Type
    beyond: Conditions = ()
    depth: int = field(init=False, repr=False)
    size: int = field(init=False, repr=False)
    wide: Type | None = field(init=False, repr=False, default=None)
    _hash: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if depth_of(self.item) >= DEPTH_MAX or size_of(self.item) >= SIZE_MAX:
            object.__setattr__(self, "item", Unknown((CUT,)))
        object.__setattr__(self, "depth", depth_of(self.item) + 1)
        object.__setattr__(self, "size", size_of(self.item) + 1)
        object.__setattr__(self, "_hash", hash(("list", self.item, self.beyond)))

    @property
    def exact(self) -> bool:
        """Whether the item's type says all that the type demands."""
        return not self.beyond

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, ListType)
            and self._hash == other._hash
            and self.beyond == other.beyond
            and self.item == other.item
        )

    def __hash__(self) -> int:
        return self._hash


@immutable
class Property:
    """One field of an object: its type, and whether it is always there."""

    type: Type
    required: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class ObjectType:
    """An object.

    Attributes:
        fields: The known fields, in the order given.
        extra: What other fields hold; `None`: there are no others.
        beyond: As of `Scalar` (`minProperties`, `propertyNames` ..).
    """

    fields: Mapping[str, Property]
    extra: Type | None = None
    beyond: Conditions = ()
    depth: int = field(init=False, repr=False)
    size: int = field(init=False, repr=False)
    wide: Type | None = field(init=False, repr=False, default=None)
    _hash: int | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        fields, extra = self.fields, self.extra
        size, depth = _extent(fields, extra)
        if size > SIZE_MAX or depth >= DEPTH_MAX:
            shallow = size > SIZE_MAX
            fields = {name: Property(_cut(p.type, shallow=shallow), p.required) for name, p in fields.items()}
            extra = None if extra is None else _cut(extra, shallow=shallow)
            size, depth = _extent(fields, extra)
            object.__setattr__(self, "extra", extra)
        object.__setattr__(self, "fields", MappingProxyType(dict(fields)))
        object.__setattr__(self, "depth", 1 + depth)
        object.__setattr__(self, "size", size)

    @property
    def exact(self) -> bool:
        """Whether the fields say all that the type demands."""
        return not self.beyond

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, ObjectType)
            and hash(self) == hash(other)
            and self.beyond == other.beyond
            and self.extra == other.extra
            and self.fields == other.fields
        )

    def __hash__(self) -> int:
        if self._hash is None:  # worked out when asked for: most types of a large plan are never compared
            made = hash(("object", frozenset(self.fields.items()), self.extra, self.beyond))
            object.__setattr__(self, "_hash", made)
            return made
        return self._hash


@dataclass(frozen=True, slots=True, eq=False)
class Union:
    """Alternatives: at least two, flat, each once. Made by `union`, never directly."""

    members: tuple[Scalar | ListType | ObjectType | Named, ...]
    depth: int = field(init=False, repr=False)
    size: int = field(init=False, repr=False)
    wide: Type | None = field(init=False, repr=False, default=None)
    _hash: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
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


@dataclass(frozen=True, slots=True)
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
