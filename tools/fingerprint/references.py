"""References to functions, classes, methods and modules: the names by which a code closure knows them.

- The project's functions and classes get a name that is theirs alone (`function parse_price`, `class Page (2)`), and wait in a queue
  until the walk adds them.
- All other code is referred to by its qualified name, and installed code by the version of its distribution too.
- A wrapper that a foreign decorator made is followed to the function inside, and to the variables that it captured.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections import deque
from functools import lru_cache, singledispatch
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Annotated, Any, cast

from ..resources import Resource
from ..tool import Tool
from .constants import Unseen, ValueText
from .opaque_calls import find_opaque, reads_docstrings
from .origin import Origin, distributions_of, is_project_function, lasting_name, origin_of
from .reach import Reach
from .syntax import ABSENT, Find, is_decorated_in_text

_DESCRIPTORS = (
    MethodDescriptorType,
    WrapperDescriptorType,
    ClassMethodDescriptorType,
    GetSetDescriptorType,
    MemberDescriptorType,
)
_HARMLESS = type(lru_cache(len))  # its size changes no result
_DISPATCH = cast("FunctionType", singledispatch(len)).__code__


class ProjectReferences:
    """The names given so far: the `CodeReferences` of `constants.py`.

    Attributes:
        waiting: Functions and classes of the project that were named and are still to be added.
        versions: Distribution -> version, of all installed code that was referred to.
        decorated: Ids of functions that a foreign decorator wrapped: its arguments stand in their decorators.
        shown: Functions whose docstrings an installed decorator may have read.
        find: What a name stands for in the code that is being added.
        reach: Is shown every value that code refers to.
    """

    def __init__(self, versions: dict[str, str]) -> None:
        self.reach = Reach()
        self.waiting: deque[tuple[FunctionType | type, str]] = deque()
        self.versions = versions
        self.decorated: set[int] = set()
        self.shown: list[FunctionType] = []
        self.find: Find = _nothing
        self._named: dict[
            int, tuple[object, str]
        ] = {}  # the object is kept, so that no other object gets its id
        self._taken: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._named)

    def free(self, label: str) -> str:
        """Return a part's name that nothing else has: the label, or `label (2)`."""
        count = self._taken[label] = self._taken.get(label, 0) + 1
        return label if count == 1 else f"{label} ({count})"

    def code(self, value: object) -> str | None:  # noqa: C901, PLR0911  # one kind, one line
        """Return the reference to a function, class, method or module; `None`: it is none of these."""
        # Asked of each value that is referred to, so that an opaque function is found under any name and in any
        # table. The same for the libraries by which code reaches outside.
        self.reach.see(value)
        if (why := find_opaque(value)) is not None:
            raise Unseen(why)
        match value:
            case ModuleType():
                return self.module(value.__name__)
            case FunctionType():
                return self._function(value)
            case type():
                return self._class(value)
            case _ if value is Annotated:  # a class until Python 3.12
                return "typing.Annotated"
            case MethodType():
                return f"method {self.code(value.__func__) or 'callable'} of {self._bound(value)}"
            case BuiltinFunctionType() | MethodWrapperType():
                return self._builtin(value)
            case _ if isinstance(value, _DESCRIPTORS):
                return f"{self._class(value.__objclass__)}.{value.__name__}"
            case Tool():
                said = (value.version, value.fingerprint_extra, value.influences)
                return f"tool of {ValueText(self).text(value.source)} with {ValueText(self).text(said)}"
            case Resource():
                return f"resource {ValueText(self).text(value.fn)}"
            # Objects that keep `__wrapped__`, such as those of `lru_cache`; wrapping functions are functions, above.
            case _ if callable(value) and inspect.isfunction(getattr(value, "__wrapped__", None)):
                return self._wrapper(value)
            case _:
                return None

    def is_project_class(self, cls: type) -> bool:
        """Whether a class is the project's own."""
        return origin_of(cls.__module__) is Origin.PROJECT

    def module(self, name: str) -> str:
        """Return the reference to a module. Raises `Unseen` for the project's own: they are read name by name."""
        match origin_of(name):
            case Origin.PROJECT:
                raise Unseen(f"the module {name} as a value; read its attributes by name")
            case Origin.INSTALLED:
                self._count_version(name)
            case _:
                pass
        return f"module {name}"

    def _count_version(self, module: str) -> None:
        for distribution, version in distributions_of(module).items():
            if version is None:
                raise Unseen(f"of '{distribution}', whose version is not known")
            self.versions[distribution] = version

    def _function(self, fn: FunctionType) -> str:
        home = str(fn.__globals__.get("__name__", ""))
        if is_project_function(fn):
            return self._refer(fn, f"function {fn.__code__.co_qualname}")
        if id(fn) in self._named:
            return self._named[id(fn)][1]
        # Named before it is followed: a function may capture itself.
        label = lasting_name(home, fn.__code__.co_qualname)
        self._named[id(fn)] = (fn, label)
        if (
            home.partition(".")[0] not in sys.modules
        ):  # code that was handed to `exec` with the name of no module
            self.reach.see_code(fn)
        self.module(home)
        # Installed code is fixed by its version, but what the project handed to it is not: captured variables and
        # registered functions.
        inner = [*captured(fn).values(), *_registered(fn)]
        if hasattr(fn, "__wrapped__"):
            label = f"{label} around {self._wrapper(fn)}"
            inner = list(_registered(fn))
        label += "".join(f" with {ValueText(self).text(value)}" for value in inner)
        self._named[id(fn)] = (fn, label)
        return label

    def _wrapper(self, value: Any) -> str:  # noqa: ANN401  # a wrapper of any kind
        """Return the reference to the wrapper that a foreign decorator made, with the function inside. The decorator's text tells its arguments."""
        inner = value.__wrapped__
        self.decorated.add(id(inner))
        if isinstance(inner, FunctionType) and reads_docstrings(value):
            self.shown.append(inner)
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        made_by = "" if isinstance(value, FunctionType) else f"{kind} of "
        return f"{made_by}{ValueText(self).text(inner)}{self._given(value)}"

    def _given(self, wrapper: Any) -> str:  # noqa: ANN401  # a wrapper of any kind
        """Return the captured variables of a wrapper without a decorator's text, as in `fetch = retry(stop)(fetch)`."""
        if isinstance(wrapper, _HARMLESS) or is_decorated_in_text(wrapper):
            return ""
        if not isinstance(wrapper, FunctionType):
            raise Unseen(f"a {type(wrapper).__qualname__} around a function, whose state cannot be seen")
        inner = vars(wrapper)["__wrapped__"]
        held = {key: value for key, value in captured(wrapper).items() if value is not inner}
        return f" given {ValueText(self).text(held)}" if held else ""

    def _bound(self, method: MethodType) -> str:
        owner = method.__self__
        return self._class(owner) if isinstance(owner, type) else ValueText(self).text(owner)

    def _builtin(self, value: Any) -> str:  # noqa: ANN401  # a builtin function or a method of a builtin's instance
        owner = value.__self__
        if owner is None or isinstance(owner, ModuleType):
            home = value.__module__ or (owner.__name__ if owner is not None else "builtins")
            self.module(home)
            return lasting_name(home, value.__qualname__)
        return f"{value.__qualname__} of {ValueText(self).text(owner)}"

    def _class(self, cls: type) -> str:
        made: dict[str, Any] = vars(cls).get("__pydantic_generic_metadata__") or {}
        # pydantic makes a class for each argument of a generic model. It has no text of its own.
        if made.get("origin") is not None:  # `Page[Item]`: a class that pydantic made of another
            return f"{self._class(made['origin'])}{ValueText(self).text(made['args'])}"
        if self.is_project_class(cls) or _is_made(cls):
            return self._refer(cls, f"class {cls.__qualname__}")
        self.module(cls.__module__)
        return lasting_name(cls.__module__, cls.__qualname__)

    def _refer(self, value: FunctionType | type, label: str) -> str:
        if id(value) not in self._named:
            # The name is taken before the body is read: recursive functions refer to each other, and order of
            # naming is order of reading.
            self._named[id(value)] = (value, self.free(label))
            self.waiting.append((value, self._named[id(value)][1]))
        return self._named[id(value)][1]


def captured(fn: FunctionType) -> dict[str, Any]:
    """Return the variables that a function captured. An empty cell is left out: its name is not defined yet."""
    found: dict[str, Any] = {}
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue
    found.pop("__class__", None)
    return found


def _nothing(_name: str) -> object:
    """Find no name: no code is being added."""
    return ABSENT


def _is_made(cls: type) -> bool:
    """Whether a call made a class that claims to be the standard library's: `make_dataclass`, `new_class`."""
    return cls.__module__ == types.__name__ and getattr(types, cls.__qualname__, None) is not cls


def _registered(fn: FunctionType) -> list[object]:
    """Return the implementations of a `functools.singledispatch` function."""
    return list(cast("Any", fn).registry.values()) if fn.__code__ is _DISPATCH else []
