"""Observations of a closure walk: all that it looked at, so that a few comparisons tell later whether anything has changed.

A walk reads source files and follows every name, which costs more than a small run does. A run needs the fingerprint as the code is
now, since globals may have changed since the last run. Comparing what the walk looked at is enough, if each object is one that cannot
change itself: then the same object means the same text.

A class of the project may change and stay the same object, so its attributes, methods and fields are compared one by one. Fail closed: a list
or an instance may change in the same way. One such value makes the observations incomplete, and the walk is done again for each run.
"""

from __future__ import annotations

import abc
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, fields
from operator import is_
from types import BuiltinFunctionType, CellType, FunctionType, GenericAlias, ModuleType, UnionType
from typing import Any, Final, cast

import typing_extensions
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from .attributes import DATACLASS_PARTS, FIELD_PARTS, functions_in
from .origin import Origin, is_project_function, origin_of
from .syntax import ABSENT

# The words of `typing` have one of two types: that of `Final`, `ClassVar` and `Union`, or that of `Literal` and, in Python 3.13, `Annotated`.
_WORDS: Final = (type(typing.Final), type(typing.Literal))
_IMMUTABLE: Final = frozenset({int, float, complex, str, bytes, bool, type(None), type(Ellipsis), *_WORDS})
# What says that a field has no default, and what a class is written with: `class Page(TypedDict)`.
_KNOWN: Final = frozenset(
    map(
        id,
        (
            MISSING,
            PydanticUndefined,
            typing.TypedDict,
            typing.NamedTuple,
            typing_extensions.TypedDict,
            typing_extensions.NamedTuple,
        ),
    )
)
_EMPTY: Final = CellType()


class Observations:
    """The objects that one walk looked at."""

    def __init__(self) -> None:
        self._is_complete = True
        self._names: dict[tuple[int, str], tuple[Mapping[str, Any], str, object]] = {}
        self._functions: list[tuple[FunctionType, tuple[object, ...]]] = []
        self._classes: list[tuple[type, Sequence[object]]] = []
        self._held: list[tuple[object, Sequence[object], Callable[[object], Sequence[object]]]] = []
        self._registrations: int | None = None  # `abc.get_cache_token`, if an abstract class was looked at

    def add_name(self, names: Mapping[str, Any], name: str) -> object:
        """Return the value of a name (`ABSENT`: it has none), and observe it."""
        value: object = names.get(name, ABSENT)
        self._names[id(names), name] = (names, name, value)
        return value

    def add_function(self, fn: FunctionType) -> None:
        """Observe a function of the project: its code, defaults, captured variables and attributes."""
        self._functions.append((fn, _state_of(fn)))

    def add_class(self, cls: type) -> None:
        """Observe a class of the project: its bases, its attributes, the state of its methods, and its fields."""
        state = _state_of_class(cls)
        if state is None:
            self._is_complete = False
        else:
            self._classes.append((cls, state))
        if isinstance(cls, abc.ABCMeta):
            self._registrations = cast("int", abc.get_cache_token())

    def add_value(self, value: object) -> None:
        """Observe a value that was read: a value that may change makes the observations incomplete."""
        self._is_complete = self._is_complete and _is_constant(value)

    def add_held(
        self, container: object, held: Sequence[object], find: Callable[[object], Sequence[object]]
    ) -> None:
        """Observe what a container holds of a kind, whatever else code puts into it.

        Args:
            container: The container; whoever reads it by a name observes the name, too.
            held: What it holds now.
            find: Finds what it holds later.
        """
        self._held.append((container, held, find))

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
            if not _is_same(state, _state_of(fn)):
                return False
        for container, held, find in self._held:
            if not _is_same(held, find(container)):
                return False
        return not self._classes or self._are_classes_current()

    def _are_classes_current(self) -> bool:
        if self._registrations not in (None, abc.get_cache_token()):
            return False
        # An attribute that cannot be looked at any more has changed.
        with suppress(Exception):
            return all(_is_same(state, _state_of_class(cls)) for cls, state in self._classes)
        return False


def _is_same(before: Sequence[object], after: Sequence[object] | None) -> bool:
    """Whether two states have the same objects in the same places."""
    return after is not None and len(before) == len(after) and all(map(is_, before, after))


def _state_of(fn: FunctionType) -> tuple[object, ...]:
    """Return every object that decides what a function does, beside its globals."""
    state: list[object] = [fn.__code__, fn.__defaults__, fn.__doc__]
    for held in (fn.__kwdefaults__ or {}, fn.__dict__):
        for name in held:
            state += (name, held[name])
    for cell in fn.__closure__ or ():
        state.append(ABSENT if cell == _EMPTY else cell.cell_contents)
    return tuple(state)


def _state_of_class(cls: type) -> Sequence[object] | None:
    """Return every object that decides what a class is, beside the globals of its methods; `None`: a part may change and stay the same object.

    The walk reads the same parts (`attributes.py`): attributes as they are, functions inside methods of any kind, and what the declarations of
    dataclasses and pydantic's models say now. An attribute that the walk reads by its value is looked at there (`add_value`).
    """
    held: Mapping[str, Any] = vars(cls)
    state: list[object] = [cls.__bases__]
    for name, value in held.items():
        state += (name, value)
        for fn in functions_in(value):
            state += _state_of(fn)
    declared: list[object] = []
    if issubclass(cls, BaseModel):
        config: Mapping[str, object] = held.get("model_config") or {}
        state += config
        declared += config.values()
        for name, field in cls.model_fields.items():
            given: Mapping[str, object] = cast("Any", field)._attributes_set  # noqa: SLF001  # as in `constants.py`
            state += (name, field, *given)
            declared += (field.annotation, field.description, *(getattr(field, each, None) for each in given))
            if field.metadata:  # constraints are objects of many kinds
                return None
    if "__dataclass_fields__" in held:
        for each in fields(cast("Any", cls)):
            state.append(each.name)
            declared += [getattr(each, part) for part in FIELD_PARTS]
        declared += [getattr(held["__dataclass_params__"], part) for part in DATACLASS_PARTS]
    return [*state, *declared] if all(map(_is_constant, declared)) else None


def _is_constant(value: object) -> bool:  # noqa: PLR0911  # one kind of value, one line
    """Whether the text of a value cannot change while the value is the same object."""
    if type(value) in _IMMUTABLE or id(value) in _KNOWN:
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
            # The walk adds a class of the project, with its state, unless a call made it (`make_dataclass`, `Page[Item]`).
            if origin_of(value.__module__) is Origin.PROJECT:
                made: Any = vars(value).get("__pydantic_generic_metadata__") or {}
                return made.get("origin") is None
            is_model = issubclass(value, BaseModel) and value is not BaseModel
            return value.__module__ != types.__name__ and not is_model
        case _ if isinstance(value, GenericAlias | UnionType) or typing.get_origin(value) is not None:
            extra: tuple[object, ...] = getattr(value, "__metadata__", ())
            return all(map(_is_constant, (typing.get_origin(value), *typing.get_args(value), *extra)))
        case _:
            return False
