"""Make a value say its numbers the way its place does: `2.0` where an integer is wanted is `2`.

JSON Schema takes `2.0` for an integer, Python and firmplan's values do not. Nothing else is changed, and what fits no branch
of a union is left as it is, for validation to refuse.
"""

from __future__ import annotations

from collections.abc import Mapping

from .schema import read_schema
from .types import NULL, ListType, ObjectType, Scalar, Type, Unknown, members
from .values import INTEGER_MAX, INTEGER_MIN, Json

_KIND_OF: dict[type, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}


def with_integers(value: Json, schema: Mapping[str, Json], types: Mapping[str, Json]) -> Json:
    """Return `value` with an integer for each integral float that `schema` wants as an integer. O(size of both)."""
    if not _has_integral(value):
        return value
    wanted, _ = read_schema(schema, types)
    return _fitted(value, wanted)[0]


def _has_integral(value: Json) -> bool:
    match value:
        case float():
            return value.is_integer()
        case list():
            return any(map(_has_integral, value))
        case dict():
            return any(map(_has_integral, value.values()))
        case _:
            return False


def _fitted(value: Json, wanted: Type) -> tuple[Json, bool]:
    """Return the value as the first alternative that it fits would have it, and whether there is one."""
    for member in members(wanted):
        made, fits = _as_member(value, member)
        if fits:
            return made, True
    return value, False


def _as_member(value: Json, member: Scalar | ListType | ObjectType | Unknown) -> tuple[Json, bool]:
    match member, value:
        case Unknown(), _:
            return value, True
        case Scalar(), _:
            return _as_scalar(value, member)
        case ListType(item=item), list():
            parts = [_fitted(part, item) for part in value]
            return [made for made, _ in parts], all(fits for _, fits in parts)
        case ObjectType(), dict():
            return _as_object(value, member)
        case _:
            return value, False


def _as_scalar(value: Json, member: Scalar) -> tuple[Json, bool]:
    if value is None:
        return value, member == NULL
    if isinstance(value, list | dict):
        return value, False
    kind = _KIND_OF[type(value)]
    if kind == "number" and member.kind == "integer" and isinstance(value, float) and value.is_integer():
        if not INTEGER_MIN <= value <= INTEGER_MAX:
            return value, False
        value, kind = int(value), "integer"
    fits = kind == member.kind or (kind == "integer" and member.kind == "number")
    return value, fits and (member.only is None or value in member.only)


def _as_object(value: dict[str, Json], member: ObjectType) -> tuple[Json, bool]:
    made: dict[str, Json] = {}
    fits = all(name in value for name, known in member.fields.items() if known.required)
    for name, part in value.items():
        known = member.fields.get(name)
        wanted = known.type if known is not None else member.extra
        if wanted is None:
            made[name], fits = part, False
        else:
            made[name], part_fits = _fitted(part, wanted)
            fits = fits and part_fits
    return made, fits
