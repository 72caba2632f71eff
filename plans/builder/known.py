"""What is known of a value that a run will have: enough for an editor to complete the names of its fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..types.read import read_schema
from ..types.types import ListType, ObjectType, Type, members, union


@dataclass(frozen=True, slots=True)
class Known:
    """A value's schema, or that of the value it is a part of.

    Attributes:
        schema: JSON Schema of the whole.
        types: The types that it may name.
        is_list: Whether the whole is a list of such values, since its step has a `for_each`.
        way: The keys that lead from the whole to the value.
    """

    schema: Mapping[str, Any]
    types: Mapping[str, Any]
    is_list: bool = False
    way: tuple[str | int, ...] = ()

    def part(self, key: object) -> Known | None:
        """Return what is known of a part; `None`: nothing."""
        return replace(self, way=(*self.way, key)) if isinstance(key, str | int) else None

    def fields(self) -> list[str]:
        """Return the names of the value's fields."""
        found, _ = read_schema(self.schema, self.types)
        found = ListType(found) if self.is_list else found
        for key in self.way:
            found = union(*[part for part in _parts(found, key) if part is not None])
        return list(dict.fromkeys(name for one in members(found) for name in _names(one)))


def _parts(of: Type, key: str | int) -> list[Type | None]:
    if isinstance(key, int):
        return [one.item for one in members(of) if isinstance(one, ListType)]
    objects = [one for one in members(of) if isinstance(one, ObjectType)]
    return [one.fields[key].type if key in one.fields else one.extra for one in objects]


def _names(of: Type) -> list[str]:
    return list(of.fields) if isinstance(of, ObjectType) else []
