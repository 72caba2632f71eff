"""How types combine: alternatives, their members, and types without null or without known values.

`union` is associative, commutative and idempotent, and may say less than its parts: what schemas demand is put together by
`alternatives.py`, which may not. It keeps alternatives apart where a reader can tell them apart
(two lists of different items), and joins those that differ only in known values (the rows of a literal table), so that
the type of data stays small however much data there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from ..values import Json
from .kinds import (
    NEVER,
    NULL,
    UNKNOWN,
    ListType,
    Named,
    Never,
    ObjectType,
    Property,
    Scalar,
    Type,
    Union,
    Unknown,
)

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
        return UNKNOWN
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
        return of if of.only is None else Scalar(of.kind, None, of.beyond)
    if not isinstance(of, ListType | ObjectType | Union):
        return of
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
        return ListType(widened(of.item), of.beyond)
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
    return ObjectType(fields, extra, of.beyond)


def _group(member: Member) -> object:
    """Return what members that can be joined without a loss have in common."""
    if isinstance(member, Scalar):
        return (member.kind, member.beyond)
    return widened(member)


def _joined(group: Sequence[Member]) -> Member:
    """Return one member for members of one group."""
    head = group[0]
    if len(group) == 1 or isinstance(head, Named):
        return head if not isinstance(head, Scalar) else _scalar(head, [head])
    if isinstance(head, Scalar):
        return _scalar(head, [member for member in group if isinstance(member, Scalar)])
    if isinstance(head, ListType):
        items = [member.item for member in group if isinstance(member, ListType)]
        return ListType(union(*items), head.beyond)
    objects = [member for member in group if isinstance(member, ObjectType)]
    fields = {
        name: Property(union(*(other.fields[name].type for other in objects)), known.required)
        for name, known in head.fields.items()
    }
    extras = [other.extra for other in objects if other.extra is not None]
    return ObjectType(fields, union(*extras) if extras else None, head.beyond)


def _scalar(head: Scalar, group: Sequence[Scalar]) -> Scalar:
    values: dict[Json, None] = {}
    for member in group:
        if member.only is None:
            return member
        values.update(dict.fromkeys(member.only))
    everything = head.kind == "boolean" and len(values) == 2
    return Scalar(head.kind, None if everything or len(values) > VALUES_MAX else tuple(values), head.beyond)


def unabsorbed(made: Sequence[Member]) -> tuple[Member, ...]:
    """Return the members that no other one holds: numbers hold integers, text holds known texts, a list holds `[]`."""
    plain = {member.kind for member in made if isinstance(member, Scalar) and _is_plain(member)}
    lists = any(isinstance(member, ListType) and member.exact and member.item != NEVER for member in made)
    return tuple(member for member in made if not _is_held(member, plain, has_lists=lists))


def _is_plain(member: Scalar) -> bool:
    return member.only is None and member.exact


def _is_held(member: Member, plain: Iterable[str], *, has_lists: bool) -> bool:
    if isinstance(member, Scalar):
        if member.kind == "integer" and "number" in plain:
            return True
        return member.kind in plain and not _is_plain(member)
    return has_lists and isinstance(member, ListType) and member.item == NEVER
