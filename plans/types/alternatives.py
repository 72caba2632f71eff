"""Alternatives of schemas: put together without a loss, and told apart.

Where `union` may say less than its parts, a type made here has exactly the values of its alternatives: it is what others have
to fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..values import Json, canonical
from .beyond import condition, together
from .kinds import NEVER, UNKNOWN, Named, Never, ObjectType, Property, Scalar, Type, Union, Unknown
from .ranges import are_apart
from .union import ALTERNATIVES_MAX, VALUES_MAX, Member, flattened, members, unabsorbed

APART_PAIRS_MAX = 20_000
"""Pairs of types that are looked at to tell the alternatives of one schema apart."""

APART_DEPTH_MAX = 8
"""Levels that this goes down."""


def alternatives(types: Iterable[Type]) -> Type | None:
    """Return the type of exactly the values that have one of the types; `None` if no type says just that."""
    flat = flattened(types)
    if UNKNOWN in flat:
        return UNKNOWN
    if len(flat) <= 1:
        return next(iter(flat), NEVER)
    groups: dict[object, list[Scalar]] = {}
    others: list[Member] = []
    for member in flat:
        if isinstance(member, Unknown):
            return None
        if isinstance(member, Scalar):
            groups.setdefault((member.kind, member.beyond), []).append(member)
        else:
            others.append(member)
    made = unabsorbed([*map(_one_of, groups.values()), *others])
    return None if len(made) > ALTERNATIVES_MAX else made[0] if len(made) == 1 else Union(made)


def _one_of(group: Sequence[Scalar]) -> Scalar:
    """Return one scalar for those of one kind, with the same conditions."""
    head = group[0]
    values: dict[Json, None] = {}
    for member in group:
        if member.only is None:
            return member
        values.update(dict.fromkeys(member.only))
    if head.kind == "boolean" and len(values) == 2:
        return Scalar(head.kind, None, head.beyond)
    if len(values) > VALUES_MAX:
        return Scalar(
            head.kind, None, together(head.beyond, [condition({"enum": sorted(values, key=canonical)})])
        )
    return Scalar(head.kind, tuple(values), head.beyond)


class Apart:
    """Whether types have no value in common, as far as bounded work can tell.

    Args:
        closed: Whether closed objects have no other fields; as parts of a composition they may.
    """

    def __init__(self, *, closed: bool) -> None:
        self.closed = closed
        self.pairs = APART_PAIRS_MAX

    def all(self, types: Sequence[Type]) -> bool:
        """Whether no value has two of the types."""
        return all(self.from_others(at, one, types) for at, one in enumerate(types))

    def from_others(self, at: int, one: Type, types: Sequence[Type]) -> bool:
        """Whether a type has no value in common with any of several but that at a position."""
        return all(self.two(one, other) for number, other in enumerate(types) if number != at)

    def two(self, left: Type, right: Type, room: int = APART_DEPTH_MAX) -> bool:
        """Whether no value has both types."""
        if isinstance(left, Never) or isinstance(right, Never):
            return True
        if room <= 0 or self.pairs <= 0 or isinstance(left, Unknown) or isinstance(right, Unknown):
            return False
        if any(
            isinstance(one, Named) and one.name not in one.book for one in (*_named(left), *_named(right))
        ):
            return False
        mine, theirs = members(left), members(right)
        self.pairs -= len(mine) * len(theirs)
        return self.pairs > 0 and all(self._members(one, other, room) for one in mine for other in theirs)

    def _members(self, left: Member | Unknown, right: Member | Unknown, room: int) -> bool:
        if isinstance(left, Unknown | Named) or isinstance(right, Unknown | Named):
            return False
        if type(left) is not type(right) or are_apart(left.beyond, right.beyond):
            return True
        if isinstance(left, Scalar) and isinstance(right, Scalar):
            if left.kind != right.kind and {left.kind, right.kind} != {"integer", "number"}:
                return True
            return left.only is not None and right.only is not None and not set(left.only) & set(right.only)
        if isinstance(left, ObjectType) and isinstance(right, ObjectType):
            return self._by_field(left, right, room) or self._by_field(right, left, room)
        return False

    def _by_field(self, left: ObjectType, right: ObjectType, room: int) -> bool:
        """Whether a field that one object always has tells it from the other."""
        for name, known in left.fields.items():
            if known.required:
                other = right.fields.get(name)
                if other is not None or right.extra is not None:
                    wanted = right.extra if other is None else other.type
                    if wanted is not None and self.two(known.type, wanted, room - 1):
                        return True
                elif self.closed:
                    return True
        return False


def tagged(at: int, types: Sequence[Type], apart: Apart) -> Iterable[Type]:
    """Yield one of several types with a field required that then tells it from all others: a tag with a default."""
    one = types[at]
    if isinstance(one, ObjectType):
        for name, known in one.fields.items():
            if not known.required and isinstance(known.type, Scalar) and known.type.only is not None:
                made = ObjectType({**one.fields, name: Property(known.type)}, one.extra, one.beyond)
                if apart.from_others(at, made, types):
                    yield made


def _named(of: Type) -> Iterable[Type]:
    return of.members if isinstance(of, Union) else (of,)
