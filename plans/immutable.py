"""Values that are frozen for every reader and type checker, but quick to make, and quick to define; and records, which change.

A frozen dataclass sets its attributes the slow way, three times as long as an open one; with some hundred thousand nodes and
references in a large plan that is much of a check. And Python compiles six functions for each frozen dataclass whenever its module is
imported: with all classes of firmplan that was half of the start of a process. Of these classes it compiles only `__init__`; they share the others.
Type checkers hold the immutable ones to be frozen, and nobody changes them. Values that users get are frozen dataclasses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from operator import attrgetter
from reprlib import recursive_repr
from typing import Any, TypeVar, cast

from typing_extensions import dataclass_transform

_Class = TypeVar("_Class")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def immutable(of: type[_Class]) -> type[_Class]:
    """Make a class a slotted dataclass whose instances are equal and hash alike by their attributes."""
    return _defined(of, is_hashed=True)


@dataclass_transform(field_specifiers=(field,))
def record(of: type[_Class]) -> type[_Class]:
    """Make a class a slotted dataclass whose instances are equal by their attributes, which may change."""
    return _defined(of, is_hashed=False)


def _defined(of: type[_Class], *, is_hashed: bool) -> type[_Class]:
    own = vars(of)
    made = cast("Any", dataclass(slots=True, repr=False, eq=False)(of))
    compared = [each.name for each in fields(made) if each.compare]
    made._compared = attrgetter(*compared) if compared else _nothing  # noqa: SLF001  # read by the functions below
    if "__eq__" not in own:
        made.__eq__ = _equals
    if own.get("__hash__") is None:
        made.__hash__ = _hash if is_hashed else None
    if "__repr__" not in own:
        made.__repr__ = _text
    return cast("type[_Class]", made)


def _nothing(_of: object) -> None:
    """Stand for the attributes of a class that has none."""


def _equals(self: Any, other: object) -> Any:  # noqa: ANN401  # an instance of any such class; whether it is equal, or `NotImplemented`
    if other.__class__ is not self.__class__:
        return NotImplemented
    compared = _compared(self)
    return compared(self) == compared(other)


def _hash(self: Any) -> int:  # noqa: ANN401  # the same
    return hash(_compared(self)(self))


@recursive_repr()
def _text(self: Any) -> str:  # noqa: ANN401  # the same
    shown = [f"{each.name}={getattr(self, each.name)!r}" for each in fields(self) if each.repr]
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _compared(of: object) -> Callable[[Any], Any]:
    """Return what takes the compared attributes of an instance."""
    return cast("Callable[[Any], Any]", type(of)._compared)  # type: ignore[attr-defined]  # noqa: SLF001  # set above
