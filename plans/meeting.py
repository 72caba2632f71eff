"""What two types have in common: the type of values that have both.

Schemas say so with `allOf`, with a reference beside other keywords, and with conditions beside alternatives. Two closed
objects that are composed know the fields of both, as their author means; whether the whole is closed, `reading.py` says.
"""

from __future__ import annotations

import json
from typing import cast

from .kinds import NEVER, UNKNOWN, ListType, Never, ObjectType, Property, Scalar, Type, Unknown
from .union import members, union
from .values import Json, canonical

PAIRS_MAX = 2_000
"""Pairs of parts that are compared; what is left then is taken from the first type alone."""


def meet(left: Type, right: Type) -> Type:
    """Return the type of values that have both types."""
    return _Meeting().meet(left, right)


class _Meeting:
    """One comparison, with the work that it may still do: alternatives within alternatives multiply."""

    def __init__(self) -> None:
        self.pairs = PAIRS_MAX

    def meet(self, left: Type, right: Type) -> Type:
        if isinstance(left, Unknown):
            return right
        if isinstance(right, Unknown) or left == right:
            return left
        mine, theirs = members(left), members(right)
        self.pairs -= len(mine) * len(theirs)
        if self.pairs < 0:
            return left
        return union(*(self._members(one, other) for one in mine for other in theirs))

    def _members(self, left: Type, right: Type) -> Type:
        if isinstance(left, Unknown):
            return right
        if isinstance(right, Unknown):
            return left
        if isinstance(left, Scalar) and isinstance(right, Scalar):
            return _scalars(left, right)
        if isinstance(left, ListType) and isinstance(right, ListType):
            return ListType(self.meet(left.item, right.item), both(left.beyond, right.beyond))
        if isinstance(left, ObjectType) and isinstance(right, ObjectType):
            return self._objects(left, right)
        return NEVER

    def _objects(self, left: ObjectType, right: ObjectType) -> Type:
        fields: dict[str, Property] = {}
        for name in dict.fromkeys([*left.fields, *right.fields]):
            mine = left.fields.get(name) or Property(_rest(left), required=False)
            theirs = right.fields.get(name) or Property(_rest(right), required=False)
            fields[name] = Property(self.meet(mine.type, theirs.type), mine.required or theirs.required)
        if any(known.required and isinstance(known.type, Never) for known in fields.values()):
            return NEVER
        if left.extra is None or right.extra is None:
            extra = right.extra if left.extra is None else left.extra
        else:
            extra = self.meet(left.extra, right.extra)
        return ObjectType(fields, extra, both(left.beyond, right.beyond))


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
    return NEVER if only == () else Scalar(kind, only, both(left.beyond, right.beyond))


def _rest(of: ObjectType) -> Type:
    """Return what the other half of a composition may put into a field that this one does not know."""
    return UNKNOWN if of.extra is None else of.extra


def both(left: str, right: str) -> str:
    """Return the conditions of both types as one."""
    if not left or not right or left == right:
        return left or right
    mine = cast("dict[str, Json]", json.loads(left))
    theirs = cast("dict[str, Json]", json.loads(right))
    if mine.keys().isdisjoint(theirs):
        return canonical({**mine, **theirs}).decode()
    return canonical({"allOf": [mine, theirs]}).decode()
