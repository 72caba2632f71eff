"""The attributes of classes and functions that their source does not show.

The source of a class shows the attributes that its body makes. Code can set others later (`Page.price = price`), a decorator or metaclass can add
more, and of two definitions in two branches only one ran: hence the present attributes are hashed beside the source. The module reads
values, and follows nothing.
"""

from __future__ import annotations

import abc
import dis
from collections.abc import Collection, Mapping
from dataclasses import fields
from enum import Enum
from functools import cached_property, partialmethod, singledispatchmethod
from types import (
    CodeType,
    DynamicClassAttribute,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
)
from typing import Any, Final, NamedTuple, cast

from pydantic import BaseModel

from .origin import Origin, is_project_file, origin_of


class _Pair(NamedTuple):
    first: int


_FIELD = cast("type[object]", type(vars(_Pair)["first"]))
_MADE = (DynamicClassAttribute, GetSetDescriptorType, MemberDescriptorType, _FIELD)
"""Attributes that the standard library puts into classes: names of enumerations, slots, fields of named tuples."""
FIELD_PARTS = ("default", "default_factory", "init", "repr", "hash", "compare", "kw_only")
DATACLASS_PARTS = ("init", "repr", "eq", "order", "unsafe_hash", "frozen")
_MACHINERY = frozenset({"_abc_impl", "model_config"})


def bound_in(body: CodeType) -> frozenset[str]:
    """Return the names that the body of a class binds."""
    return frozenset(str(each.argval) for each in dis.get_instructions(body) if each.opname == "STORE_NAME")


def held_values(cls: type, bound: Collection[str]) -> dict[str, object]:
    """Return the attributes of a class by name, sorted, without those that its text defines in full.

    Args:
        cls: A class.
        bound: The names that its body binds.
    """
    held: dict[str, object] = dict(vars(cls))
    found = {key: value for key, value in sorted(held.items()) if _counts(cls, key, value, bound)}
    # `isinstance` of an abstract class depends on the classes that were registered with it, anywhere in the program.
    if (registered := _registered(held.get("_abc_impl"), cls)) is not None:
        found["__registered__"] = registered
    if issubclass(cls, Enum):
        members = cast("Mapping[str, Enum]", held["_member_map_"])
        found |= {f"{name}.value": _state(member) for name, member in members.items()}
    return found


def declared_values(cls: type) -> dict[str, object]:
    """Return the present state of a class's declarations, by name: fields with defaults and factories, settings."""
    held: dict[str, Any] = dict(vars(cls))
    found: dict[str, object] = {}
    if issubclass(cls, BaseModel):
        # `Model.model_fields[..].default = 2` after the class was made changes what the class does, and no text
        # says so.
        found["model_config"] = held.get("model_config")
        found |= {f"field {name}": each for name, each in cls.model_fields.items()}
    if "__dataclass_fields__" in held:
        found |= {
            f"field {each.name}": [getattr(each, part) for part in FIELD_PARTS]
            for each in fields(cast("Any", cls))
        }
        found["settings"] = [getattr(held["__dataclass_params__"], part) for part in DATACLASS_PARTS]
    return found


def _counts(cls: type, key: str, value: object, bound: Collection[str]) -> bool:
    """Whether the text of a class does not tell the value of an attribute, so that the present value counts."""
    is_special = key.startswith("__") and key.endswith("__")
    # A method under its own name stands in the text. Under another name, or from another class, it was set from
    # outside or by a decorator.
    functions = functions_in(value)
    if functions:
        is_own = all(each.__code__.co_qualname == f"{cls.__qualname__}.{key}" for each in functions)
        return not is_own and any(_is_projects(each, is_special=is_special) for each in functions)
    if is_special or key in _MACHINERY or (issubclass(cls, Enum) and key.startswith("_")):
        return False
    if issubclass(cls, Enum) and isinstance(value, cls):
        return False
    # A plain value may have been changed since the body ran, so it counts even if the text binds it. A descriptor
    # that the text binds is written there with its arguments.
    if isinstance(value, type) or not hasattr(type(value), "__get__"):
        return True
    return key not in bound and not isinstance(value, _MADE)


def _is_projects(fn: FunctionType, *, is_special: bool) -> bool:
    """Whether a function of a class is the project's. Special methods may be made by `dataclass` and the like."""
    if is_special:
        return is_written(fn)
    return is_project_file(fn.__code__.co_filename) and origin_of(fn.__module__ or "") is not Origin.STANDARD


def _state(member: Enum) -> list[object]:
    """Return the value and the further attributes of a member of an enumeration."""
    more = {key: value for key, value in sorted(vars(member).items()) if not key.startswith("_")}
    return [member.value, more]


def _registered(state: object, cls: object) -> list[type] | None:
    """Return the classes that were registered with an abstract class, by name; `None`: there are none."""
    if state is None or not isinstance(cls, abc.ABCMeta):
        return None
    weak = cast("Any", abc)._get_dump(cls)[0]  # noqa: SLF001  # nothing public tells
    found = cast("list[type]", [each for ref in weak if (each := ref()) is not None])
    return sorted(found, key=lambda each: (each.__module__, each.__qualname__)) or None


# The defaults of functions, the methods of classes, and the file in which a person wrote a class.


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
"""Attributes that decorators of the standard library set on functions; the decorator's text tells them."""


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
