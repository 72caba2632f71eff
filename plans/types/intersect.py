"""Alternatives of schemas: put together without a loss, and told apart.

Where `union` may say less than its parts, a type made here has exactly the values of its alternatives: it is what others have
to fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, cast

from ..values import Json, canonical
from .constraints import are_apart, condition, holds, relevant, required_by, together
from .types import (
    ALTERNATIVES_MAX,
    NEVER,
    UNKNOWN,
    VALUES_MAX,
    Conditions,
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
    members,
    unabsorbed,
)

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


# --- What two types have in common: the type of values that have both.
#
# Schemas say so with `allOf`, with a reference beside other keywords, and with conditions beside alternatives. Parts of a
# composition know the fields of one another, as their author means: an object that is closed on its own says nothing there of other
# fields. Whether the whole is closed, `reading.py` says.


Alternative: TypeAlias = Scalar | ListType | ObjectType | Unknown

PAIRS_MAX = 2_000
"""Pairs of parts that are compared."""

FIELDS_MAX = 100_000
"""Fields that are compared: wide alternatives multiply as many ones do."""

DEPTH_MAX = 60
"""Levels that a comparison goes down: types that hold themselves have no end."""


def meet(left: Type, right: Type, *, composing: bool = False) -> Type | None:
    """Return the type of exactly the values that have both types; `None` if no type says just that.

    Args:
        left: One type.
        right: The other.
        composing: Whether both are parts of one composition, whose closed objects leave it to the whole to be closed.
    """
    try:
        return _Meeting(composing=composing).meet(left, right, 0)
    except _Unsaid:
        return None


def narrowed(of: Type, demanded: Conditions) -> Type | None:
    """Return the type of exactly the values that meet conditions as well; `None` if no type says just that."""
    return meet(of, Unknown(demanded))


def parts_of(of: Type) -> tuple[Alternative, ...] | None:
    """Return the alternatives of a type, or `None` if a name among them is still being read."""
    named = [one for one in (of.members if isinstance(of, Union) else (of,)) if isinstance(one, Named)]
    if any(one.name not in one.book for one in named):
        return None
    return members(of)


class _Unsaid(Exception):  # noqa: N818  # not an error: nobody sees it
    """No type says what two types have in common."""


class _Meeting:
    """One comparison, with the work that it may still do: alternatives within alternatives multiply."""

    def __init__(self, *, composing: bool) -> None:
        self.composing = composing
        self.pairs = PAIRS_MAX
        self.fields = FIELDS_MAX

    def meet(self, left: Type, right: Type, depth: int) -> Type:
        if left in (UNKNOWN, right):
            return right
        if right == UNKNOWN:
            return left
        mine, theirs = parts_of(left), parts_of(right)
        if mine is None or theirs is None or depth > DEPTH_MAX:
            raise _Unsaid
        self.pairs -= len(mine) * len(theirs)
        if self.pairs < 0:
            raise _Unsaid
        return _said(alternatives([self.members(one, other, depth) for one in mine for other in theirs]))

    def members(self, left: Alternative, right: Alternative, depth: int) -> Type:
        match left, right:
            case Unknown(), _:
                return _narrowed(right, left.beyond)
            case _, Unknown():
                return _narrowed(left, right.beyond)
            case Scalar(), Scalar():
                return _scalars(left, right)
            case ListType(), ListType():
                item = self.meet(left.item, right.item, depth + 1)
                return ListType(item, together(left.beyond, right.beyond))
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
            mine = left.fields.get(name) or Property(self.rest(left), required=False)
            theirs = right.fields.get(name) or Property(self.rest(right), required=False)
            fields[name] = Property(
                self.meet(mine.type, theirs.type, depth + 1), mine.required or theirs.required
            )
        if any(known.required and isinstance(known.type, Never) for known in fields.values()):
            return NEVER
        extra: Type | None
        if left.extra is not None and right.extra is not None:
            extra = self.meet(left.extra, right.extra, depth + 1)
        elif self.composing:
            extra = right.extra if left.extra is None else left.extra
        else:
            extra = None
        kept = {name: known for name, known in fields.items() if extra is not None or known.type != NEVER}
        return ObjectType(kept, extra, together(left.beyond, right.beyond))

    def rest(self, of: ObjectType) -> Type:
        """Return what an object may hold in a field that it has no name for."""
        if of.extra is None:
            return UNKNOWN if self.composing else NEVER
        return of.extra


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
    if only is not None and len(kinds) == 2:
        only = tuple(
            value for value in only if type(value) is int or (isinstance(value, float) and value.is_integer())
        )
        only = tuple(int(cast("float", value)) for value in only)
    return NEVER if only == () else _narrowed(Scalar(kind, only), together(left.beyond, right.beyond))


def _narrowed(of: Alternative, demanded: Iterable[str]) -> Type:
    """Return what of a type meets conditions."""
    match of:
        case Unknown():
            return Unknown(together(of.beyond, demanded))
        case Scalar():
            return _narrowed_scalar(of, relevant(together(of.beyond, demanded), of.kind))
        case ListType():
            return ListType(of.item, together(of.beyond, relevant(tuple(demanded), "array")))
        case ObjectType():
            return _narrowed_object(of, relevant(tuple(demanded), "object"))


_EVERY: Mapping[str, tuple[Json, ...]] = {"null": (None,), "boolean": (True, False)}


def _narrowed_scalar(of: Scalar, demanded: Conditions) -> Type:
    values = of.only or _EVERY.get(of.kind, ())
    if not demanded or not values:
        return Scalar(of.kind, of.only, demanded)
    kept = [(value, holds(value, demanded)) for value in values]
    good = tuple([value for value, answer in kept if answer is not False])
    if not good:
        return NEVER
    unsure = any(answer is None for _, answer in kept)
    if of.kind == "null":
        if unsure:
            raise _Unsaid
        return Scalar("null")
    only = None if of.kind == "boolean" and len(good) == 2 else good
    return Scalar(of.kind, only, demanded if unsure else ())


def _narrowed_object(of: ObjectType, demanded: Conditions) -> ObjectType:
    """Return an object with further conditions; fields that it knows can be required without one."""
    names, others = required_by(demanded)
    fields = dict(of.fields)
    strange: list[Json] = [name for name in names if name not in fields]
    for name in names:
        if name in fields:
            fields[name] = Property(fields[name].type)
    kept = [condition({"required": strange})] if strange else []
    return ObjectType(fields, of.extra, together(of.beyond, others, kept))
