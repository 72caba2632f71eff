"""Python values as text, such that equal texts mean equal values: the constants and captured variables of code.

- A value is written only if it can be read to its last part. Any other value raises `Unseen`, whose message names it.
- A text is the same in every process: no address and no hash is in it, and sets are put in order.
- `pickle` and `repr` would not do: both contain addresses or ids of memory, and both run code of the value.
- Functions, classes and modules are not written but referred to (`references.py`).
"""

from __future__ import annotations

import ast
import datetime as dt
import functools
import logging
import operator
import random
import re
import typing
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, UserString, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from contextvars import Context, ContextVar
from dataclasses import MISSING, fields, is_dataclass
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from types import CellType, CodeType, GenericAlias, MappingProxyType, SimpleNamespace, UnionType
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from .names import names_in
from .syntax import ABSENT

if TYPE_CHECKING:
    from .references import ProjectReferences

# Values inside values: far from Python's own limit, and deeper data is not a constant of a program.
DEPTH_MAX = 60
VALUES_MAX = 1_000_000  # parts of one constant; a larger one belongs into a file that a tool reads

_AS_WRITTEN = (
    dt.date,
    dt.time,
    dt.datetime,
    dt.timedelta,
    dt.timezone,
    Decimal,
    Fraction,
    UUID,
    ZoneInfo,
    range,
    complex,
    float,
    str,
    bytes,
    bytearray,
    bool,
    type(None),
    type(Ellipsis),
    type(NotImplemented),
)
_PARTS: Final[Mapping[type, Callable[[Any], Iterable[object]]]] = {
    slice: lambda raw: (raw.start, raw.stop, raw.step),
    re.Pattern: lambda raw: (raw.pattern, raw.flags),
    deque: lambda raw: (raw.maxlen, list(raw)),
    defaultdict: lambda raw: (raw.default_factory, dict(raw)),
    ChainMap: lambda raw: raw.maps,
    SimpleNamespace: lambda raw: (cast("dict[str, object]", vars(raw)),),
    property: lambda raw: (raw.fget, raw.fset, raw.fdel),
    classmethod: lambda raw: (raw.__func__,),
    staticmethod: lambda raw: (raw.__func__,),
    functools.cached_property: lambda raw: (raw.func,),
    functools.partial: lambda raw: (raw.func, raw.args, raw.keywords),
    functools.partialmethod: lambda raw: (raw.func, raw.args, raw.keywords),
    functools.singledispatchmethod: lambda raw: (raw.func, dict(raw.dispatcher.registry)),
    operator.itemgetter: lambda raw: raw.__reduce__()[1:],
    operator.attrgetter: lambda raw: raw.__reduce__()[1:],
    operator.methodcaller: lambda raw: raw.__reduce__()[1:],
    typing.NewType: lambda raw: (raw.__name__, raw.__supertype__),
    TypeAdapter: lambda raw: (raw._type, raw._config),  # noqa: SLF001  # no public name for them
}
"""Objects that are the sum of these parts. Subclasses are none of them: they may hold more."""
_HELD_PLAINLY = (UserDict, UserList, UserString)  # their content is an attribute like others
_LOCKS = frozenset(
    {"lock", "RLock", "Semaphore", "BoundedSemaphore", "Lock", "Condition", "Event", "Barrier"}
)


class Unseen(Exception):  # noqa: N818  # reads as what it says
    """A value cannot be read in full. The message ends a sentence: "a Session, whose state cannot be seen"."""


class ValueText:
    """Writes one constant, whose parts it counts."""

    def __init__(self, references: ProjectReferences) -> None:
        self._references = references
        self._open: list[int] = []
        self._count = 0

    def text(self, value: object) -> str:
        """Return a value as text.

        Raises:
            Unseen: It cannot be read in full.
        """
        # Both bounds hold for the complete constant and not for a part of it, since a walk over a large value of
        # small parts takes as long as one over a large part.
        self._count += 1
        if self._count > VALUES_MAX:
            raise Unseen(f"which holds more than {VALUES_MAX} values")
        if len(self._open) > DEPTH_MAX:
            raise Unseen(f"which is nested deeper than {DEPTH_MAX} levels")
        # A value that holds itself is written as the number of steps upwards: an id would differ in each process.
        if id(value) in self._open:
            return f"above({len(self._open) - self._open.index(id(value))})"
        self._open.append(id(value))
        try:
            return self._text(value)
        finally:
            self._open.pop()

    def _text(self, value: object) -> str:
        # The order matters: an enumeration's member is a scalar before it is an instance, and a class is code before
        # it is a container.
        for write in (self._scalar, self._references.code, self._container, self._typing, self._known):
            if (found := write(value)) is not None:
                return found
        return self._instance(value)

    def _scalar(self, value: object) -> str | None:
        # `Any` keeps the type checkers from narrowing what they cannot narrow fully; the same below.
        raw: Any = value
        # `type(..) is`, so that `True` is no integer. Hexadecimal, since Python limits the length of decimal texts.
        if type(value) is int:
            return hex(value)
        if isinstance(value, Enum):
            name: str | None = raw.name  # a combination of flags has none
            return f"{self.text(type(value))}.{name or self.text(value.value)}"
        # The text of a time zone object may not tell all of it, so it is written as a value of its own.
        if isinstance(value, dt.datetime | dt.time) and value.tzinfo is not None:
            return f"{value.replace(tzinfo=None)!a} in {self.text(value.tzinfo)}"
        if type(value) in _AS_WRITTEN:
            return ascii(value)
        if isinstance(value, PurePath) and type(value).__module__.startswith("pathlib"):
            return f"Path({str(value)!a})"
        return "object" if type(value) is object else None

    def _container(self, value: object) -> str | None:
        kind: Any = type(value)
        if kind in (list, tuple):
            return f"{kind.__name__}[{self._each(cast('Iterable[object]', value))}]"
        if kind in (set, frozenset):
            return f"{kind.__name__}[{self._set(cast('Iterable[object]', value))}]"
        # In the order of insertion: code that iterates over the mapping sees that order.
        if kind in (dict, OrderedDict, Counter, MappingProxyType):
            return f"{kind.__name__}{self._mapping(cast('Mapping[object, object]', value))}"
        # `type(..) in`, not `isinstance`: a subclass may hold more than these parts.
        if kind in _PARTS:
            return f"{kind.__name__}[{self._each(_PARTS[kind](value))}]"
        return None

    def _typing(self, value: object) -> str | None:  # one kind of type, one line
        """Write a type expression: `list[Item]`, `Item | None`, `Annotated[int, Gt(0)]`, a type variable."""
        if isinstance(value, GenericAlias | UnionType) or typing.get_origin(value) is not None:
            extra = getattr(value, "__metadata__", ())
            write = self._type_part if isinstance(value, GenericAlias) else self.text
            parts = ",".join(map(write, (*typing.get_args(value), *extra)))
            return f"type({self.text(typing.get_origin(value))})[{parts}]"
        if type(value).__name__ == "TypeAliasType":
            return f"type alias[{self.text(cast('Any', value).__value__)}]"
        # A forward reference says the same text for two classes of one name, so the class that it means is
        # written too.
        if isinstance(value, typing.ForwardRef):
            return self._forward(value.__forward_arg__)
        if isinstance(value, typing.TypeVar):
            return f"typing {value!r}{self._bounds(value)}"
        if type(value).__module__ in ("typing", "typing_extensions"):
            return f"typing {value!r}"
        return None

    def _type_part(self, value: object) -> str:
        """Write an argument of `list[..]` and the like, where text names a type."""
        return self._forward(value) if isinstance(value, str) else self.text(value)

    def _forward(self, text: str) -> str:
        """Write a type that stands as text, with the values of its names where it is read."""
        found = {name: self._references.find(name) for name in sorted(names_in(ast.Constant(text)))}
        known = {name: value for name, value in found.items() if value is not ABSENT}
        return f"typing ForwardRef({text!r}){self._mapping(known) if known else ''}"

    def _bounds(self, variable: typing.TypeVar) -> str:
        """Write the bound, the constraints and the default of a type variable."""
        raw: Any = variable
        bounds: list[object] = [raw.__bound__, *raw.__constraints__]
        if getattr(raw, "has_default", bool)():  # since Python 3.13, or of typing_extensions
            bounds.append(raw.__default__)
        return f"[{self._each(bounds)}]" if any(each is not None for each in bounds) else ""

    def _known(self, value: object) -> str | None:  # noqa: PLR0911  # one kind of object, one line
        """Write objects of the standard library, pydantic, structlog and OpenTelemetry whose state is known, or decides no result."""
        kind, raw = type(value), cast("Any", value)
        if isinstance(value, logging.Logger | logging.LoggerAdapter) or kind.__module__.startswith(
            ("structlog.", "opentelemetry.")
        ):
            return "logger"  # or what takes spans and measurements
        # Its present value belongs to the context of a call and not to the code.
        if kind is ContextVar:
            return f"ContextVar({raw.name}){self._default_of(raw)}"
        if kind.__name__ in _LOCKS and kind.__module__ in ("_thread", "threading", "asyncio.locks"):
            return kind.__name__
        if kind is random.Random and value is cast("Any", random)._inst:  # noqa: SLF001  # the generator of the module
            return "random.Random"
        if isinstance(value, FieldInfo):
            return self._field(raw)
        if kind.__module__ == "pydantic._internal._fields":  # constraints that have no class of their own
            return f"{kind.__name__.lstrip('_')}{self._mapping(cast('Mapping[str, object]', vars(raw)))}"
        if value is PydanticUndefined or value is MISSING:
            return "nothing given"
        return None

    def _field(self, raw: Any) -> str:  # noqa: ANN401  # pydantic's, with its private part
        """Write a field of pydantic: what its call was given, with the present values, since they may have been changed."""
        given: dict[str, object] = raw._attributes_set  # noqa: SLF001  # what the call was given
        if raw.description is not None:  # pydantic can read it from a text below the field
            given = given | {"description": raw.description}
        now = {key: getattr(raw, key, given[key]) for key in sorted(given) if key != "annotation"}
        # Newer pydantic keeps constraints (`ge`, `pattern`, `strict`) apart from the other arguments.
        constraints = f"[{self._each(raw.metadata)}]" if raw.metadata else ""
        return f"Field{self._mapping(now)}{constraints}"

    def _default_of(self, variable: ContextVar[object]) -> str:
        """Write the default of a context variable. Its present value belongs to the outside world, as an environment variable does."""
        with suppress(LookupError):
            return self.text(Context().run(variable.get))
        return ""

    def _instance(self, value: object) -> str:
        """Write an instance by its class and its state."""
        kind: type = type(value)
        raw: Any = value
        # The attributes beside the fields count as well: `__post_init__` and callers may set any.
        if is_dataclass(value):
            state = {field.name: getattr(value, field.name, None) for field in fields(value)}
            return f"{self.text(kind)}{self._mapping(state | getattr(value, '__dict__', {}))}"
        if isinstance(value, BaseModel):
            extra = value.__pydantic_private__ or {}
            return (
                f"{self.text(kind)}{self._mapping({**value.__dict__, **(value.model_extra or {}), **extra})}"
            )
        if isinstance(value, tuple) and hasattr(kind, "_fields"):
            return f"{self.text(kind)}[{self._each(raw)}]"
        # An instance of a class from elsewhere may hold its state in C, in a connection or in a file: fail closed.
        if not self._references.is_project_class(kind):
            raise Unseen(f"a {kind.__qualname__}, whose state cannot be seen")
        return f"{self.text(kind)}{self._content(raw)}{self._mapping(_state(raw))}"

    def _content(self, value: object) -> str:
        """Write the text or the number of an instance whose class extends a scalar type of Python."""
        # A class of the project holds its state in attributes, which `_instance` writes. Of the types that it may extend,
        # only scalars are read; a class that extends `dict` or `list` is refused. `UserDict` and its like keep their
        # content in an attribute.
        for cls in type(value).__mro__:
            if cls in (str, int, float, bytes):
                return self.text(cast("Callable[[object], object]", cls)(value))
            is_plain = (
                cls is object
                or cls in _HELD_PLAINLY
                or cls.__module__ in ("abc", "typing", "collections.abc", "contextlib")
            )
            if not is_plain and not self._references.is_project_class(cls):
                raise Unseen(
                    f"a {type(value).__qualname__}, whose state in {cls.__qualname__} cannot be seen"
                )
        return ""

    def _set(self, values: Iterable[object]) -> str:
        """Write the elements of a set in order. Code among them gets its names in a fixed order, since the order of a set is random."""
        return ",".join(sorted(map(self.text, sorted(values, key=_place))))

    def _each(self, values: Iterable[object]) -> str:
        return ",".join(self.text(value) for value in values)

    def _mapping(self, value: Mapping[Any, object]) -> str:
        return "{" + ",".join(f"{self.text(key)}:{self.text(item)}" for key, item in value.items()) + "}"


def _place(value: object) -> tuple[str, str, str, str]:
    """Return the place of code and the scalars that it captured: enough to order the functions of a set in most cases."""
    code = getattr(value, "__code__", None)
    cells: tuple[CellType, ...] = (getattr(value, "__closure__", None) or ()) if code else ()
    held = [cell.cell_contents for cell in cells if cell != CellType()]
    return (
        str(getattr(value, "__module__", "")),
        str(getattr(value, "__qualname__", "")),
        f"{code.co_firstlineno:9}{list(code.co_positions())}" if isinstance(code, CodeType) else "",
        ascii([each for each in held if isinstance(each, int | float | str)]),
    )


def _state(value: object) -> dict[str, object]:
    """Return the attributes of an instance, slots included, by name in order."""
    found: dict[str, object] = dict(getattr(value, "__dict__", {}))
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for each in (slots,) if isinstance(slots, str) else tuple(slots):
            mangled = each.startswith("__") and not each.endswith("__")
            name = f"_{cls.__name__.lstrip('_')}{each}" if mangled else each
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found[name] = getattr(value, name)
    return {name: found[name] for name in sorted(found)}
