"""The type algebra: what the rest of the room knows of types.

The types themselves are in `kinds.py`, how they combine in `union.py`, how they read in `wording.py` (for people) and
`written.py` (as JSON Schema). Types are pure values: equal ones hash alike, none is changed.
"""

from __future__ import annotations

from ..values import Json
from .kinds import (
    DEPTH_MAX,
    NEVER,
    NULL,
    UNKNOWN,
    ListType,
    ObjectType,
    Property,
    Scalar,
    Type,
)
from .union import union


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
            items = dict.fromkeys(_type_of(item, room - 1) for item in value)
            return ListType(union(*items) if items else NEVER)
        case dict():
            return ObjectType(
                {name: Property(_type_of(part, room - 1), required=True) for name, part in value.items()}
            )
