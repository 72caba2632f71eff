"""Types of schemas that several parts make.

Parts see the fields of one another: what one leaves out another may name. What two parts have in common is in `meeting.py`,
whether the whole is closed in `composition.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from .alternatives import Apart, alternatives
from .beyond import is_whole
from .composition import Closedness
from .kinds import UNKNOWN, ListType, ObjectType, Property, Scalar, Type, Union, Unknown
from .meeting import Alternative, parts_of
from .union import members

FIELDS_MAX = 100_000
"""Fields that alternatives beside one another get; more say nothing that anybody reads."""


@dataclass(frozen=True, slots=True)
class Part:
    """The type of a part of a composition.

    Attributes:
        type: Of all values that the part may have beside other parts, where closed objects leave the closing to the whole.
        is_exact: Whether it says all that the part demands.
        is_known: Whether it knows every field that the part names.
    """

    type: Type
    is_exact: bool = True
    is_known: bool = True


def as_part(of: Type, own: Closedness, whole: Closedness, elsewhere: AbstractSet[str] = frozenset()) -> Part:
    """Return a type as that of a part.

    Args:
        of: What the part's schema reads as, alone.
        own: Whether that schema's objects are closed.
        whole: Whether those of the composition are.
        elsewhere: The fields that other parts name.
    """
    every = parts_of(of)
    if every is None:
        return _NOTHING
    bare = [_without_whole(one) for one in every]
    objects = [one for one in bare if isinstance(one, ObjectType)]
    is_known = own != "closed" or not any(
        isinstance(one, Unknown) or (isinstance(one, ObjectType) and one.extra is not None) for one in bare
    )
    is_exact = tuple(bare) == every and is_known
    if len(objects) > 1 and not Apart(closed=False).all(objects):
        is_exact = False
        if len(objects) * sum(len(one.fields) for one in objects) > FIELDS_MAX:
            is_known = False
        elif whole == "closed":
            bare = [_beside(one, objects, elsewhere) if isinstance(one, ObjectType) else one for one in bare]
    made = alternatives(bare)
    return _NOTHING if made is None else Part(made, is_exact, is_known)


_NOTHING = Part(UNKNOWN, is_exact=False, is_known=False)
"""Stands for a part of which no type says anything."""


def _without_whole(of: Alternative) -> Alternative:
    """Return a type without the conditions that hold only for its schema alone."""
    kept = tuple([one for one in of.beyond if not is_whole(one)])
    if kept == of.beyond:
        return of
    match of:
        case Unknown():
            return Unknown(kept)
        case Scalar():
            return Scalar(of.kind, of.only, kept)
        case ListType():
            return ListType(of.item, kept)
        case ObjectType():
            return ObjectType(of.fields, of.extra, kept)


def names_in(of: Type) -> frozenset[str]:
    """Return the fields that a type's objects name."""
    every = parts_of(of) or ()
    return frozenset[str]().union(*(one.fields for one in every if isinstance(one, ObjectType)))


def _beside(one: ObjectType, objects: Iterable[ObjectType], elsewhere: AbstractSet[str]) -> ObjectType:
    """Return an object with the fields that it may have since it is one of the others as well; of those named elsewhere more is said there."""
    fields = dict(one.fields)
    for other in objects:
        for name, known in other.fields.items():
            if name not in one.fields:
                met = name in elsewhere or (name in fields and fields[name].type != known.type)
                fields[name] = Property(UNKNOWN if met else known.type, required=False)
    return ObjectType(fields, one.extra, one.beyond)


def composed(made: Type, how: Closedness) -> Type | None:
    """Return the type of a composition whose parts together are closed, or open; `None` if no type says it."""
    if how == "silent" or not isinstance(made, ObjectType | Union):
        return made
    return alternatives(
        [_closed_object(one, how) if isinstance(one, ObjectType) else one for one in members(made)]
    )


def _closed_object(made: ObjectType, how: Closedness) -> ObjectType:
    extra = None if how == "closed" else UNKNOWN if made.extra is None else made.extra
    return made if extra == made.extra else ObjectType(made.fields, extra, made.beyond)
