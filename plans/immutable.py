"""Values that are frozen for every reader and type checker, but quick to make, and quick to define; and records, which change.

A frozen dataclass sets its attributes the slow way, three times as long as an open one; with some hundred thousand nodes and
references in a large plan that is much of a check. And Python compiles six functions for each frozen dataclass whenever its module is
imported: with all classes of firmplan that was half of the start of a process. These classes share all of them but `__init__`.
Type checkers hold the immutable ones to be frozen, and nobody changes them. Values that users get are frozen dataclasses.

To everybody else they are dataclasses: `fields`, `replace` and `is_dataclass` know them. The standard decorator makes those that have a base, a class
variable or whatever else is not just fields: it takes three times as long, since it knows all kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import MISSING, Field, dataclass, field, fields
from operator import attrgetter
from reprlib import recursive_repr
from typing import Any, Final, TypeVar, cast

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
    made = cast("Any", _quickly(of) or dataclass(slots=True, repr=False, eq=False)(of))
    compared = [each.name for each in fields(made) if each.compare]
    made._compared = attrgetter(*compared) if compared else _nothing  # noqa: SLF001  # read by the functions below
    if "__eq__" not in own:
        made.__eq__ = _equals
    if own.get("__hash__") is None:
        made.__hash__ = _hash if is_hashed else None
    if "__repr__" not in own:
        made.__repr__ = _text
    return cast("type[_Class]", made)


# --- the quick way


@dataclass(repr=False, eq=False)
class _Sample:
    """What its field and its parameters look like, those of all quick classes do."""

    some: int


class _Factory:
    """Stands for a default that is made for each instance, in signatures."""

    def __repr__(self) -> str:
        return "<factory>"


_SAMPLE_FIELD: Final[Field[Any]] = fields(_Sample)[0]
_FACTORY: Final = _Factory()
_SPECIAL: Final = ("ClassVar", "InitVar", "KW_ONLY", "typing.", "dataclasses.")


def _quickly(of: type) -> type | None:
    """Return a class with fields, slots and an `__init__`; `None`: it has more than fields of the usual kind."""
    own: dict[str, Any] = dict(vars(of))
    found: dict[str, Field[Any]] = {}
    if of.__bases__ != (object,) or "__init__" in own or "__slots__" in own or "__annotations__" not in own:
        return None
    for name, annotation in own["__annotations__"].items():
        if not isinstance(annotation, str) or annotation.startswith(_SPECIAL) or name == "self":
            return None
        given = own.pop(name, MISSING)
        made = found[name] = copy(_SAMPLE_FIELD)
        made.name, made.type = name, annotation
        if not isinstance(given, Field):
            if given is not MISSING and given.__class__.__hash__ is None:
                return None  # the standard decorator says what is wrong
            made.default = given
            continue
        told = cast("Any", given)
        if told.kw_only is True or told.hash is not None:
            return None
        made.default, made.default_factory, made.metadata = told.default, told.default_factory, told.metadata
        made.init, made.repr, made.compare = told.init, told.repr, told.compare
    own.pop("__dict__", None)
    own.pop("__weakref__", None)
    own["__slots__"] = tuple(found)
    own["__dataclass_fields__"] = found
    own["__dataclass_params__"] = vars(_Sample)["__dataclass_params__"]
    own["__match_args__"] = tuple([name for name, each in found.items() if each.init])
    own["__init__"] = _init_of(of, found)
    quick = type(of)(of.__name__, of.__bases__, own)
    quick.__qualname__ = of.__qualname__
    return quick


def _init_of(of: type, of_name: Mapping[str, Field[Any]]) -> Callable[..., None]:
    parameters: list[str] = ["self"]
    lines: list[str] = []
    names: dict[str, Any] = {"_factory": _FACTORY, "__name__": of.__module__}
    for name, each in of_name.items():
        value = name
        if each.default_factory is not MISSING:
            names[f"_make_{name}"] = each.default_factory
            value = f"_make_{name}() if {name} is _factory else {name}" if each.init else f"_make_{name}()"
            parameters += [f"{name}=_factory"] * each.init
        elif each.default is not MISSING:
            names[f"_default_{name}"] = each.default
            value = name if each.init else f"_default_{name}"
            parameters += [f"{name}=_default_{name}"] * each.init
        elif each.init:
            parameters.append(name)
        else:
            continue
        lines.append(f"    self.{name} = {value}")
    if hasattr(of, "__post_init__"):
        lines.append("    self.__post_init__()")
    exec(f"def __init__({', '.join(parameters)}):\n" + "\n".join(lines or ["    pass"]), names)  # noqa: S102  # names of fields alone, as the standard decorator does
    init = names["__init__"]
    init.__qualname__ = f"{of.__qualname__}.__init__"
    init.__annotations__ = {
        **{name: each.type for name, each in of_name.items() if each.init},
        "return": None,
    }
    return init  # type: ignore[no-any-return]


# --- what they share


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
