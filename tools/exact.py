"""Types whose values are JSON as they stand: nothing to build, nothing to convert, nothing that a schema says beyond the type.

Most tools take and give texts, numbers, booleans, and lists and dicts of them. A value that is exactly of such a type is what
pydantic would read and write again, so nobody needs to ask it. This is a quick yes only: what is not exactly of its type (an
integer for a float, a subclass, a wrong value) goes the long way, which converts it or says what is wrong.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Any, TypeAlias, cast

Fits: TypeAlias = Callable[[object], bool]

_SCALARS = (int, str, bool, float, NoneType)  # `type(..) is`, so that `True` is no integer


def exactly(annotation: Any) -> Fits | None:  # noqa: ANN401  # any annotation
    """Return what tells whether a value is exactly of a type; `None`: values of this type have to be read and written.

    Metadata (`Annotated`) makes a type one that has to be read: it may be a condition.
    """
    if annotation is None:
        return _scalar(NoneType)
    if any(annotation is kind for kind in _SCALARS):
        return _scalar(annotation)
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is list:
        return _list(exactly(parts[0]))
    if origin is dict and parts[0] is str:
        return _dict(exactly(parts[1]))
    if origin in (typing.Union, UnionType):
        return _union([exactly(part) for part in parts])
    return None


def scalar(annotation: Any) -> type | None:  # noqa: ANN401  # any annotation
    """Return the class that a value of a type has to be of, and nothing more; `None`: there is more to it."""
    return next((kind for kind in _SCALARS if annotation is kind), None)


def _scalar(kind: type) -> Fits:
    return lambda value: type(value) is kind


def _list(item: Fits | None) -> Fits | None:
    if item is None:
        return None

    def fits(value: object) -> bool:
        return type(value) is list and all(map(item, cast("list[object]", value)))

    return fits


def _dict(item: Fits | None) -> Fits | None:
    if item is None:
        return None

    def fits(value: object) -> bool:
        if type(value) is not dict:
            return False
        parts = cast("dict[object, object]", value)
        return all(type(key) is str for key in parts) and all(map(item, parts.values()))

    return fits


def _union(found: list[Fits | None]) -> Fits | None:
    branches = [branch for branch in found if branch is not None]
    if len(branches) < len(found):
        return None
    return lambda value: any(branch(value) for branch in branches)
