"""How classes of values are defined: frozen for every reader and type checker, and quick to make and to import.

A frozen dataclass sets its attributes the slow way, three times as long as an open one; with some hundred thousand nodes and
references in a large plan that is much of a check. And the standard decorator compiles a function for each method of a class whenever the module is
imported, six for a frozen one: with all classes of firmplan that was half of the start of a process. These classes share all methods but
`__init__`. Those inside compile that for their first instance, and most of them have none in a process.
Type checkers hold the immutable ones to be frozen, and nobody changes them. The values that users get are frozen.

To everybody else they are dataclasses, made by the standard decorator: `fields`, `replace` and `is_dataclass` know them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from operator import attrgetter
from reprlib import recursive_repr
from typing import Any, Final, TypeVar, cast

from typing_extensions import dataclass_transform

_Class = TypeVar("_Class")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def immutable(of: type[_Class]) -> type[_Class]:
    """Make a class a slotted dataclass whose instances are equal and hash alike by their attributes."""
    return _defined(of)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def immutable_with_cache(of: type[_Class]) -> type[_Class]:
    """Make a class as `immutable`, with a `__dict__` for what a `cached_property` keeps."""
    return _defined(of, has_slots=False)


@dataclass_transform(field_specifiers=(field,))
def record(of: type[_Class]) -> type[_Class]:
    """Make a class a slotted dataclass whose instances are equal by their attributes, which may change."""
    return _defined(of, is_hashed=False)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(of: type[_Class]) -> type[_Class]:
    """Make a class of values that users get: as `immutable`, and an attribute cannot be set."""
    return _defined(of, is_frozen=True)


def _defined(
    of: type[_Class], *, is_hashed: bool = True, is_frozen: bool = False, has_slots: bool = True
) -> type[_Class]:
    own = vars(of)
    made = cast("Any", dataclass(init=False, repr=False, eq=False, slots=has_slots, frozen=is_frozen)(of))
    if "__init__" not in own:
        # `inspect.signature` sees the parameters of a class for users; nobody asks for those of a class inside.
        made.__init__ = _init_of(made, is_frozen=True) if is_frozen else _init_on_first_use(made)
    compared = [each.name for each in fields(made) if each.compare]
    made._compared = attrgetter(*compared) if compared else _nothing  # noqa: SLF001  # read by the functions below
    if "__eq__" not in own:
        made.__eq__ = _equals
    if own.get("__hash__") is None:
        made.__hash__ = _hash if is_hashed else None
    if "__repr__" not in own:
        made.__repr__ = _text
    return cast("type[_Class]", made)


# --- __init__


class _Factory:
    """Stands in signatures for a default that is made for each instance."""

    def __repr__(self) -> str:
        return "<factory>"


_FACTORY: Final = _Factory()


def _init_on_first_use(made: Any) -> Callable[..., None]:  # noqa: ANN401  # the class
    """Return an `__init__` that puts the class's own one into its place when the first instance is made."""

    def __init__(self: Any, *given: Any, **named: Any) -> None:  # noqa: ANN401, N807  # as the class has them
        made.__init__ = _init_of(made)
        made.__init__(self, *given, **named)

    return __init__


def _init_of(made: Any, *, is_frozen: bool = False) -> Callable[..., None]:  # noqa: ANN401  # the class
    """Return the `__init__` that the standard decorator would make."""
    parameters: list[str] = ["self"]
    lines: list[str] = []
    names: dict[str, Any] = {"_factory": _FACTORY, "_set": object.__setattr__, "__name__": made.__module__}
    for each in fields(made):
        name = value = each.name
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
        lines.append(f"    _set(self, '{name}', {value})" if is_frozen else f"    self.{name} = {value}")
    if hasattr(made, "__post_init__"):
        lines.append("    self.__post_init__()")
    exec(f"def __init__({', '.join(parameters)}):\n" + "\n".join(lines or ["    pass"]), names)  # noqa: S102  # names of fields alone, as the standard decorator does
    init = names["__init__"]
    init.__qualname__ = f"{made.__qualname__}.__init__"
    init.__annotations__ = {
        **{each.name: each.type for each in fields(made) if each.init},
        "return": None,
    }
    return cast("Callable[..., None]", init)


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
