"""Observations of a closure walk: all that it looked at, so that a few comparisons tell later whether anything has changed.

A walk reads source files and follows every name, which costs more than a small run does. A run needs the fingerprint as the code is
now, since globals may have changed since the last run. Comparing what the walk looked at is enough, if each object is one that cannot
change itself: then the same object means the same text.

Fail closed: a list, an instance or a class of the project may change and stay the same object. One such value makes the observations
incomplete, and the walk is done again for each run.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping
from types import BuiltinFunctionType, CellType, FunctionType, GenericAlias, ModuleType, UnionType
from typing import Any, Final, cast

from pydantic import BaseModel

from .origin import Origin, is_project_function, origin_of
from .syntax import ABSENT

_IMMUTABLE: Final = frozenset({int, float, complex, str, bytes, bool, type(None), type(Ellipsis)})
_EMPTY: Final = CellType()


class Observations:
    """The objects that one walk looked at."""

    def __init__(self) -> None:
        self._is_complete = True
        self._names: dict[tuple[int, str], tuple[Mapping[str, Any], str, object]] = {}
        self._functions: list[tuple[FunctionType, tuple[object, ...]]] = []

    def add_name(self, names: Mapping[str, Any], name: str) -> object:
        """Return the value of a name (`ABSENT`: it has none), and observe it."""
        value: object = names.get(name, ABSENT)
        self._names[id(names), name] = (names, name, value)
        return value

    def add_function(self, fn: FunctionType) -> None:
        """Observe a function of the project: its code, defaults, captured variables and attributes."""
        self._functions.append((fn, _state_of(fn)))

    def add_value(self, value: object) -> None:
        """Observe a value that was read: a value that may change makes the observations incomplete."""
        self._is_complete = self._is_complete and _is_constant(value)

    def end(self) -> None:
        """Take note of something that identity does not show: the content of a container, an import at run time."""
        self._is_complete = False

    def are_current(self) -> bool:
        """Whether everything is as it was. `False` also where the observations are incomplete."""
        # A loop and not `all(..)`: it runs for each tool of each run, and a generator costs a Python call for each name.
        if not self._is_complete:
            return False
        for names, name, value in self._names.values():
            if names.get(name, ABSENT) is not value:
                return False
        for fn, state in self._functions:
            now = _state_of(fn)
            if len(now) != len(state):
                return False
            for before, after in zip(state, now, strict=True):
                if before is not after:
                    return False
        return True


def _state_of(fn: FunctionType) -> tuple[object, ...]:
    """Return every object that decides what a function does, beside its globals."""
    state: list[object] = [fn.__code__, fn.__defaults__, fn.__doc__]
    for held in (fn.__kwdefaults__ or {}, fn.__dict__):
        for name in held:
            state += (name, held[name])
    for cell in fn.__closure__ or ():
        state.append(ABSENT if cell == _EMPTY else cell.cell_contents)
    return tuple(state)


def _is_constant(value: object) -> bool:  # noqa: PLR0911  # one kind of value, one line
    """Whether the text of a value cannot change while the value is the same object."""
    if type(value) in _IMMUTABLE:
        return True
    match value:
        case tuple() | frozenset() if type(cast("object", value)) in (tuple, frozenset):
            return all(map(_is_constant, cast("Iterable[object]", value)))
        case ModuleType():
            return True
        case BuiltinFunctionType():
            return value.__self__ is None or isinstance(value.__self__, ModuleType)
        case FunctionType():
            # The walk adds a function of the project, with its state. Other code is known by name and version, but what the project handed to
            # it may be anything.
            return is_project_function(value) or (value.__closure__ is None and not value.__dict__)
        case type():
            # A class of the project is read attribute by attribute, as is a class that a call made (`make_dataclass`).
            is_named = (
                origin_of(value.__module__) is not Origin.PROJECT and value.__module__ != types.__name__
            )
            return is_named and not issubclass(value, BaseModel)
        case _ if isinstance(value, GenericAlias | UnionType) or typing.get_origin(value) is not None:
            extra: tuple[object, ...] = getattr(value, "__metadata__", ())
            return all(map(_is_constant, (typing.get_origin(value), *typing.get_args(value), *extra)))
        case _:
            return False
