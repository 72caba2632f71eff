"""What functions and classes hold: defaults, methods, and the file in which a person wrote them. Looks, and follows nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partialmethod, singledispatchmethod
from types import FunctionType
from typing import Any, Final

from .origin import is_project_file

MARKS: Final = frozenset(
    {
        "__deprecated__",
        "__final__",
        "__isabstractmethod__",
        "__no_type_check__",
        "__override__",
        "__signature__",
    }
)
"""Attributes of functions that decorators of the standard library set: their text says them."""


def defaults_of(fn: FunctionType) -> dict[str, object]:
    """Return the defaults of a function by parameter."""
    positional = fn.__code__.co_varnames[: fn.__code__.co_argcount]
    given = fn.__defaults__ or ()
    return dict(zip(positional[len(positional) - len(given) :], given, strict=True)) | (
        fn.__kwdefaults__ or {}
    )


def methods_of(cls: type) -> list[FunctionType]:
    """Return the functions that a class defines under its own name, whatever kind of method they are."""
    found = [each for value in vars(cls).values() for each in functions_in(value)]
    return [each for each in found if each.__code__.co_qualname.startswith(f"{cls.__qualname__}.")]


def functions_in(value: object) -> list[FunctionType]:
    """Return the functions inside a method of any kind; none if it is no method."""
    inner: Any = value
    match value:
        case FunctionType():
            return [value]
        case staticmethod() | classmethod():
            parts = [inner.__func__]
        case property():
            parts = [value.fget, value.fset, value.fdel]
        case cached_property() | partialmethod():
            parts = [inner.func]
        case singledispatchmethod():
            parts = [inner.func, *inner.dispatcher.registry.values()]
        case _:
            parts = [getattr(value, "__dict__", {}).get("__wrapped__")]  # `lru_cache`, and wrappers like it
    return [each for each in parts if isinstance(each, FunctionType)]


def file_of(cls: type, module: Mapping[str, Any]) -> str:
    """Return the file of a class: its module's, or in a notebook that of its methods."""
    if file := module.get("__file__"):
        return str(file)
    return next((each.__code__.co_filename for each in methods_of(cls) if is_written(each)), "")


def is_written(fn: FunctionType) -> bool:
    """Whether a person wrote a function, rather than `namedtuple`, `dataclass` or `Enum`."""
    file = fn.__code__.co_filename
    return is_project_file(file) and not file.startswith(("<string>", "<attrs generated"))
