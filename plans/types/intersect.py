"""Intersections and exact unions of types, as schemas combine them.

`intersect` returns the type of the values that have both types: schemas demand that with `allOf`, with a reference beside other keywords, and with
constraints beside alternatives. `alternatives` returns exactly the values of several types, where `types.union` may widen. Both return `None` if no type
expresses the result exactly; the caller then keeps the schema as a constraint. Work is bounded, because alternatives within alternatives multiply.

Exactness matters in both directions. A type that has too few values would make the check refuse plans that run; a type that has too many values would let
the check accept arguments that the schema refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import TypeAlias, cast

from ..values import Json, canonical
from .constraints import are_apart, constraint, holds, relevant, required_by, together
from .types import (
    ALTERNATIVES_MAX,
    NEVER,
    UNKNOWN,
    VALUES_MAX,
    Constraints,
    ListType,
    Member,
    Named,
    Never,
    ObjectType,
    Property,
    Scalar,
    Type,
    Union,
    Unknown,
    flattened,
    joined_scalars,
    members,
    unabsorbed,
)


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
            return None  # values of any kind that meet a constraint: the union with another type has no form here
        if isinstance(member, Scalar):
            groups.setdefault((member.kind, member.constraints), []).append(member)
        else:
            others.append(member)
    made = unabsorbed([*map(_one_of, groups.values()), *others])
    return None if len(made) > ALTERNATIVES_MAX else made[0] if len(made) == 1 else Union(made)


def _one_of(group: Sequence[Scalar]) -> Scalar:
    """Return one scalar for those of one kind, with the same constraints."""
    made = joined_scalars(group)
    values: dict[Json, None] = {value: None for member in group for value in member.only or ()}
    if len(values) <= VALUES_MAX or any(member.only is None for member in group):
        return made
    # `union` drops values that nobody reads; here the list decides what is valid, so it becomes a constraint.
    listed = constraint({"enum": sorted(values, key=canonical)})
    return Scalar(made.kind, None, together(made.constraints, [listed]))


def are_disjoint(types: Sequence[Type]) -> bool:
    """Whether no value has two of the types, as far as their kinds, known values and ranges show it.

    Objects are told apart by a field that both always have, with known values: a tag. What this misses is validated at run time.
    """
    every = [parts_of(one) for one in types]
    flat = [(at, one) for at, members_ in enumerate(every) for one in members_ or (UNKNOWN,)]
    if len(flat) > ALTERNATIVES_MAX:
        return False  # each is compared with each other
    return all(
        _are_two_disjoint(one, other) for (at, one), (number, other) in combinations(flat, 2) if at != number
    )


def _are_two_disjoint(left: Alternative, right: Alternative) -> bool:
    match left, right:
        case (Unknown(), _) | (_, Unknown()):
            return False
        case Scalar(), Scalar():
            if left.kind != right.kind and {left.kind, right.kind} != {"integer", "number"}:
                return True
            # Python's equality is JSON Schema's here, as both sides are numbers or of one kind: `1` and `1.0` are one value.
            known = left.only is not None and right.only is not None
            return are_apart(left.constraints, right.constraints) or (
                known and set(left.only or ()).isdisjoint(right.only or ())
            )
        case ObjectType(), ObjectType():
            # A tag that one side may leave out proves nothing: `{}` would have both types.
            shared = [(left.fields[name], right.fields[name]) for name in left.fields if name in right.fields]
            return any(
                one.required
                and other.required
                and isinstance(one.type, Scalar)
                and isinstance(other.type, Scalar)
                and _are_two_disjoint(one.type, other.type)
                for one, other in shared
            )
        case _:
            # Two lists share at least `[]`, unless constraints forbid it.
            return type(left) is not type(right)


# --- Intersection


Alternative: TypeAlias = Scalar | ListType | ObjectType | Unknown

PAIRS_MAX = 2_000
"""Pairs of parts that are compared."""

FIELDS_MAX = 100_000
"""Fields that are compared: wide alternatives multiply as many alternatives do."""

DEPTH_MAX = 60
"""Levels that a comparison goes down: types that hold themselves have no end."""


def intersect(left: Type, right: Type) -> Type | None:
    """Return the type of exactly the values that have both types; `None` if no type says just that."""
    try:
        return _Intersection().of(left, right, 0)
    except _Unsaid:
        return None


def parts_of(of: Type) -> tuple[Alternative, ...] | None:
    """Return the alternatives of a type, or `None` if a name among them is still being read."""
    named = [one for one in (of.members if isinstance(of, Union) else (of,)) if isinstance(one, Named)]
    if any(one.name not in one.book for one in named):
        return None
    return members(of)


class _Unsaid(Exception):  # noqa: N818  # not an error: nobody sees it
    """No type says what two types have in common."""


class _Intersection:
    """One comparison, with the work that it may still do: alternatives within alternatives multiply."""

    def __init__(self) -> None:
        self.pairs = PAIRS_MAX
        self.fields = FIELDS_MAX

    def of(self, left: Type, right: Type, depth: int) -> Type:
        if left in (UNKNOWN, right):
            return right
        if right == UNKNOWN:
            return left
        mine, theirs = parts_of(left), parts_of(right)
        if mine is None or theirs is None or depth > DEPTH_MAX:
            raise _Unsaid
        # Intersection distributes over union: (a | b) & (c | d) is the union of four intersections, most of them empty.
        self.pairs -= len(mine) * len(theirs)
        if self.pairs < 0:
            raise _Unsaid
        return _said(alternatives([self.members(one, other, depth) for one in mine for other in theirs]))

    def members(self, left: Alternative, right: Alternative, depth: int) -> Type:
        match left, right:
            case Unknown(), _:
                return _narrowed(right, left.constraints)
            case _, Unknown():
                return _narrowed(left, right.constraints)
            case Scalar(), Scalar():
                return _scalars(left, right)
            case ListType(), ListType():
                # A list of (A & B) is exactly what is a list of A and a list of B. Both hold `[]`, so an empty item type is no empty list type.
                item = self.of(left.item, right.item, depth + 1)
                return ListType(item, together(left.constraints, right.constraints))
            case ObjectType(), ObjectType():
                return self.objects(left, right, depth)
            case _:
                return NEVER

    def objects(self, left: ObjectType, right: ObjectType, depth: int) -> Type:
        self.fields -= len(left.fields) + len(right.fields)
        if self.fields < 0:
            raise _Unsaid
        fields: dict[str, Property] = {}
        for name in dict.fromkeys([*left.fields, *right.fields]):
            mine = left.fields.get(name) or Property(_rest(left), required=False)
            theirs = right.fields.get(name) or Property(_rest(right), required=False)
            fields[name] = Property(
                self.of(mine.type, theirs.type, depth + 1), mine.required or theirs.required
            )
        # An object that must have a field without a possible value does not exist.
        if any(known.required and isinstance(known.type, Never) for known in fields.values()):
            return NEVER
        extra = None
        if left.extra is not None and right.extra is not None:
            extra = self.of(left.extra, right.extra, depth + 1)
        # A forbidden field needs its entry only where other fields are allowed.
        kept = {name: known for name, known in fields.items() if extra is not None or known.type != NEVER}
        return ObjectType(kept, extra, together(left.constraints, right.constraints))


def _rest(of: ObjectType) -> Type:
    """Return what an object may hold in a field that it has no name for."""
    return NEVER if of.extra is None else of.extra


def _said(of: Type | None) -> Type:
    if of is None:
        raise _Unsaid
    return of


def _scalars(left: Scalar, right: Scalar) -> Type:
    kinds = {left.kind, right.kind}
    if len(kinds) == 2 and kinds != {"integer", "number"}:
        return NEVER
    kind = left.kind if len(kinds) == 1 else "integer"
    only = left.only if right.only is None else right.only
    if left.only is not None and right.only is not None:
        only = tuple(value for value in left.only if value in right.only)
    # Integer and number together are the integers, and `2.0` is one of them, spelled as one.
    if only is not None and len(kinds) == 2:
        only = tuple(
            value for value in only if type(value) is int or (isinstance(value, float) and value.is_integer())
        )
        only = tuple(int(cast("float", value)) for value in only)
    return (
        NEVER if only == () else _narrowed(Scalar(kind, only), together(left.constraints, right.constraints))
    )


def _narrowed(of: Alternative, demanded: Iterable[str]) -> Type:
    """Return what of a type meets constraints."""
    match of:
        case Unknown():
            return Unknown(together(of.constraints, demanded))
        case Scalar():
            return _narrowed_scalar(of, relevant(together(of.constraints, demanded), of.kind))
        case ListType():
            return ListType(of.item, together(of.constraints, relevant(tuple(demanded), "array")))
        case ObjectType():
            return _narrowed_object(of, relevant(tuple(demanded), "object"))


_EVERY: Mapping[str, tuple[Json, ...]] = {"null": (None,), "boolean": (True, False)}


def _narrowed_scalar(of: Scalar, demanded: Constraints) -> Type:
    values = of.only or _EVERY.get(of.kind, ())
    if not demanded or not values:
        return Scalar(of.kind, of.only, demanded)
    # Where the values are known, constraints are decided now, so that they need not be compared as texts later.
    kept = [(value, holds(value, demanded)) for value in values]
    good = tuple([value for value, answer in kept if answer is not False])
    if not good:
        return NEVER
    unsure = any(answer is None for _, answer in kept)
    if of.kind == "null":
        if unsure:
            raise _Unsaid  # null with a constraint would no longer be equal to `NULL`, by which null is recognised
        return Scalar("null")
    only = None if of.kind == "boolean" and len(good) == 2 else good
    return Scalar(of.kind, only, demanded if unsure else ())


def _narrowed_object(of: ObjectType, demanded: Constraints) -> ObjectType:
    """Return an object with further constraints; fields that it knows can be required without one."""
    names, others = required_by(demanded)
    fields = dict(of.fields)
    # Requiring an unknown field stays a constraint: whether the object may have it at all is not decided here.
    strange: list[Json] = [name for name in names if name not in fields]
    for name in names:
        if name in fields:
            fields[name] = Property(fields[name].type)
    kept = [constraint({"required": strange})] if strange else []
    return ObjectType(fields, of.extra, together(of.constraints, others, kept))
