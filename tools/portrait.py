"""Draw all code and values that decide what a function does, as named parts.

Starting from one function, the walk follows the names that the code reads: to project functions and classes, through
module attributes, closures, partials, bound methods, decorators that keep `__wrapped__`, base classes and
annotations; to constants, by value. The standard library counts by name, installed code by name and version. A part
is named as people name it (`function parse_price`, `constant RATES`), never by file or line, so that moving code
changes nothing. What cannot be seen is said in `unseen`: fail closed.

Parts hold digests, so that no constant (which may be a secret) is written into a journal.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import importlib.util
import inspect
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import singledispatch
from hashlib import sha256
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
from typing import Any, cast

from pydantic import BaseModel

from .constants import Spelling, Unseen
from .names import Path, Reading, read_names
from .origin import Origin, distributions_of, is_project_file, origin_of
from .syntax import NoSource, class_nodes, function_node, spelled
from .tool import Tool

PARTS_MAX = 20_000  # functions, classes and values of one tool: more is a whole program, and the walk says so
_DYNAMIC = frozenset({"eval", "exec", "compile", "__import__", "globals", "locals"})
_IMPORTERS = frozenset({"importlib", "runpy", "imp"})
_PLACES = frozenset(
    {"__name__", "__file__", "__package__", "__spec__", "__loader__", "__builtins__", "__debug__"}
)
_DESCRIPTORS = (
    MethodDescriptorType,
    WrapperDescriptorType,
    ClassMethodDescriptorType,
    GetSetDescriptorType,
    MemberDescriptorType,
)
_ABSENT: Any = object()
_DISPATCH = singledispatch(len).__code__


@dataclass
class Portrait:
    """What has been seen.

    Attributes:
        parts: Name -> digest; equal digests mean equal behaviour.
        versions: Distribution -> version.
        unseen: What could not be seen, each as a sentence.
    """

    parts: dict[str, str] = field(default_factory=dict[str, str])
    versions: dict[str, str] = field(default_factory=dict[str, str])
    unseen: dict[str, None] = field(default_factory=dict[str, None])


def draw(source: object, annotations: Mapping[str, object]) -> Portrait:
    """Return the portrait of a callable.

    Args:
        source: A function, method, partial or callable object.
        annotations: Its resolved types by parameter, `return` included: classes that only they name count too.
    """
    walk = _Walk()
    walk.constant("function", "", source)
    if annotations:
        walk.constant("types", "", dict(annotations))
    walk.finish()
    return walk.portrait


@dataclass
class _Scope:
    """Where the names of one piece of code are looked up."""

    owner: str
    module: Mapping[str, Any]
    captured: dict[str, Any]

    def find(self, name: str) -> Any:  # noqa: ANN401  # any value
        if name in self.captured:
            return self.captured[name]
        if name in self.module:
            return self.module[name]
        return getattr(builtins, name, _ABSENT)


class _Walk:
    """One walk. Functions and classes wait in a queue, so that long chains of calls need no deep stack."""

    def __init__(self) -> None:
        self.portrait = Portrait()
        self._named: dict[int, tuple[object, str]] = {}  # the object is kept, so that its id stays its own
        self._taken: dict[str, int] = {}
        self._constants: dict[tuple[str, str], str] = {}
        self._waiting: deque[tuple[FunctionType | type, str]] = deque()
        self._decorated: set[int] = set()

    def finish(self) -> None:
        """Draw everything that was referred to."""
        while self._waiting:
            if len(self._named) > PARTS_MAX:
                self._unseen(f"it reaches more than {PARTS_MAX} functions and classes")
                return
            value, name = self._waiting.popleft()
            if isinstance(value, type):
                self._draw_class(value, name)
            else:
                self._draw_function(value, name)

    def constant(self, kind: str, name: str, value: object, owner: str = "it") -> str:
        """Return how a value that code reads is referred to; values that say more than a name become a part."""
        try:
            text = Spelling(self).text(value)
        except Unseen as fault:
            self._unseen(f"{owner} uses '{name}', {fault}" if name else f"its {kind} is {fault}")
            return "unseen"
        if self.code(value) is not None:
            if kind == "function":
                self.portrait.parts["entry"] = _digest(text)
            return text
        label = f"{kind} {name}".strip()
        known = self._constants.get((label, text))
        if known is None:
            known = self._constants[label, text] = self._free(label)
            self.portrait.parts[known] = _digest(text)
        return known

    # What `Spelling` asks for.

    def code(self, value: object) -> str | None:  # noqa: PLR0911  # one kind, one line
        """Return the reference to a function, class, method or module; `None`: it is none of these."""
        match value:
            case ModuleType():
                return self._module(value.__name__)
            case FunctionType():
                return self._function(value)
            case type():
                return self._class(value)
            case MethodType():
                return f"method {self.code(value.__func__) or 'callable'} of {self._bound(value)}"
            case BuiltinFunctionType() | MethodWrapperType():
                return self._builtin(value)
            case _ if isinstance(value, _DESCRIPTORS):
                return f"{self._class(value.__objclass__)}.{value.__name__}"
            case Tool():
                return f"tool of {Spelling(self).text(value.source)}"
            case _ if callable(value) and inspect.isfunction(getattr(value, "__wrapped__", None)):
                return self._wrapper(value)
            case _:
                return None

    def is_project_class(self, cls: type) -> bool:
        """Whether a class is the project's own."""
        return origin_of(cls.__module__) is Origin.PROJECT

    def _module(self, name: str) -> str:
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
            self.portrait.versions[distribution] = version

    def _function(self, fn: FunctionType) -> str:
        home = str(fn.__globals__.get("__name__", ""))
        if (not home or origin_of(home) is Origin.PROJECT) and is_project_file(fn.__code__.co_filename):
            return self._refer(fn, f"function {fn.__code__.co_qualname}")
        if id(fn) in self._named:
            return self._named[id(fn)][1]
        label = f"{home}.{fn.__code__.co_qualname}"
        self._named[id(fn)] = (fn, label)
        self._module(home)
        inner = [*_captured(fn).values(), *_registered(fn)]
        if hasattr(fn, "__wrapped__"):
            label = f"{label} around {self._wrapper(fn)}"
            inner = list(_registered(fn))
        label += "".join(f" with {Spelling(self).text(value)}" for value in inner)
        self._named[id(fn)] = (fn, label)
        return label

    def _wrapper(self, value: Any) -> str:  # noqa: ANN401  # a wrapper of any kind
        """Return the reference to what a foreign decorator made; its arguments are read from the decorator's text."""
        inner = value.__wrapped__
        self._decorated.add(id(inner))
        kind = type(value)
        made_by = "" if isinstance(value, FunctionType) else f"{kind.__module__}.{kind.__qualname__} of "
        return f"{made_by}{Spelling(self).text(inner)}"

    def _bound(self, method: MethodType) -> str:
        owner = method.__self__
        return self._class(owner) if isinstance(owner, type) else Spelling(self).text(owner)

    def _builtin(self, value: Any) -> str:  # noqa: ANN401  # a builtin function or a method of a builtin's instance
        owner = value.__self__
        if owner is None or isinstance(owner, ModuleType):
            home = value.__module__ or (owner.__name__ if owner is not None else "builtins")
            self._module(home)
            return f"{home}.{value.__qualname__}"
        return f"{value.__qualname__} of {Spelling(self).text(owner)}"

    def _class(self, cls: type) -> str:
        if self.is_project_class(cls):
            return self._refer(cls, f"class {cls.__qualname__}")
        self._module(cls.__module__)
        return f"{cls.__module__}.{cls.__qualname__}"

    def _refer(self, value: FunctionType | type, label: str) -> str:
        if id(value) not in self._named:
            self._named[id(value)] = (value, self._free(label))
            self._waiting.append((value, self._named[id(value)][1]))
        return self._named[id(value)][1]

    def _free(self, label: str) -> str:
        count = self._taken[label] = self._taken.get(label, 0) + 1
        return label if count == 1 else f"{label} ({count})"

    def _unseen(self, sentence: str) -> None:
        self.portrait.unseen[sentence] = None

    # Drawing.

    def _draw_function(self, fn: FunctionType, name: str) -> None:
        try:
            node = function_node(fn.__code__, fn.__globals__)
        except NoSource as fault:
            self._unseen(f"{name} {fault}")
            return
        scope = _Scope(name, fn.__globals__, _captured(fn))
        reading = read_names([node], [fn.__code__], decorators=id(fn) in self._decorated)
        lines = [spelled(_without_own_decorators(node, scope)), *self._edges(reading, scope)]
        lines += [
            f"default {key}={self.constant('default', key, value, name)}"
            for key, value in _defaults(fn).items()
        ]
        self.portrait.parts[name] = _digest("\n".join(lines))

    def _draw_class(self, cls: type, name: str) -> None:
        module = vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}
        methods = [each for each in map(_plain, vars(cls).values()) if isinstance(each, FunctionType)]
        own = [each for each in methods if each.__code__.co_qualname.startswith(f"{cls.__qualname__}.")]
        files = [
            each.__code__.co_filename for each in own if not each.__code__.co_filename.startswith("<string>")
        ]
        filename = next(iter(files), str(module.get("__file__", "")))
        try:
            found = class_nodes(cls, filename, module)
            for each in own:
                if each.__code__.co_filename == filename:
                    function_node(each.__code__, each.__globals__)
        except NoSource as fault:
            self._draw_made_class(cls, name, fault)
            return
        captured = {key: value for each in own for key, value in _captured(each).items()}
        scope = _Scope(name, module, captured)
        reading = read_names([node for node, _ in found], [code for _, code in found])
        lines = [spelled(node) for node, _ in found] + self._edges(reading, scope)
        lines += [f"base {self.constant('base', each.__name__, each, name)}" for each in cls.__bases__]
        lines.append(f"kind {self.constant('kind', type(cls).__name__, type(cls), name)}")
        lines += self._fields(cls, name)
        self.portrait.parts[name] = _digest("\n".join(lines))

    def _fields(self, cls: type, name: str) -> list[str]:
        """Return the types of a pydantic model's fields, which may be named nowhere else."""
        if not issubclass(cls, BaseModel):
            return []
        hints = {key: found.annotation for key, found in cls.model_fields.items()}
        return [f"field {key}: {self.constant('type', key, hint, name)}" for key, hint in hints.items()]

    def _draw_made_class(self, cls: Any, name: str, missing: NoSource) -> None:  # noqa: ANN401  # a class of any kind
        """Draw a class that a call made: `namedtuple(..)`, `Enum("Name", ..)`."""
        members: object = None
        if hasattr(cls, "__members__"):
            members = {key: member.value for key, member in cls.__members__.items()}
        elif issubclass(cls, tuple) and hasattr(cls, "_fields"):
            members = [cls._fields, cls._field_defaults]
        if members is None or any(
            inspect.isfunction(each) and _is_written(each) for each in vars(cls).values()
        ):
            self._unseen(f"{name} {missing}")
            return
        bases = [self.constant("base", base.__name__, base, name) for base in cls.__bases__]
        try:
            self.portrait.parts[name] = _digest(f"{bases}{Spelling(self).text(members)}")
        except Unseen as fault:
            self._unseen(f"{name} holds {fault}")

    def _edges(self, reading: Reading, scope: _Scope) -> list[str]:
        """Return what the names of a function or class stand for, and follow them."""
        lines: list[str] = []
        for name in reading.names:
            if name not in _PLACES:
                paths = reading.paths.get(name, ((),))
                lines += self._followed(name, scope.find(name), paths, scope)
        for name in reading.annotated:
            if (value := scope.find(name)) is not _ABSENT:
                lines += self._followed(name, value, reading.paths.get(name, ((),)), scope)
        lines += self._imported(reading, scope)
        for name in reading.written:
            self._unseen(f"{scope.owner} changes '{name}' while it runs, so its value is not fixed")
        for name in reading.mutated:
            if isinstance(scope.find(name), list | dict | set | deque):
                self._unseen(f"{scope.owner} changes '{name}' while it runs, so its value is not fixed")
        if reading.docstrings:
            self._unseen(f"{scope.owner} reads docstrings, which do not count as code")
        return lines

    def _followed(self, name: str, value: object, paths: Iterable[Path], scope: _Scope) -> list[str]:
        if value is _ABSENT:
            self._unseen(f"{scope.owner} reads '{name}', which is not defined")
            return []
        if name in _DYNAMIC and value is getattr(builtins, name):
            self._unseen(f"{scope.owner} calls {name}, so what it reads does not stand in its code")
            return []
        kind = "captured" if name in scope.captured else "constant"
        return [f"{'.'.join((name, *path))} is {self._at(kind, name, value, path, scope)}" for path in paths]

    def _at(self, kind: str, name: str, value: object, path: Path, scope: _Scope) -> str:
        """Return the reference to what a chain of attributes leads to: through modules to a value of theirs."""
        while isinstance(value, ModuleType):
            if value.__name__ in _IMPORTERS:
                self._unseen(
                    f"{scope.owner} imports by name ({value.__name__}), so what it reads does not stand in its code"
                )
            if origin_of(value.__name__) is not Origin.PROJECT or not path:
                break
            name, path = f"{name}.{path[0]}", path
            value, path = getattr(value, path[0], _ABSENT), path[1:]
        if value is _ABSENT:
            self._unseen(f"{scope.owner} reads '{name}', which is not defined")
            return "absent"
        return self.constant(kind, name.rpartition(".")[2], value, scope.owner)

    def _imported(self, reading: Reading, scope: _Scope) -> list[str]:
        """Follow the imports inside a function; project modules are imported, as the call would."""
        lines: list[str] = []
        for each in reading.imports:
            module = (
                importlib.util.resolve_name(
                    "." * each.level + each.module, str(scope.module.get("__package__") or "")
                )
                if each.level
                else each.module
            )
            try:
                if origin_of(module) is Origin.PROJECT:
                    value: object = importlib.import_module(each.whole or module)
                    value = sys.modules[module]
                    if each.part is not None and not hasattr(value, each.part):
                        importlib.import_module(f"{module}.{each.part}")
                    if each.part is not None:
                        value = getattr(value, each.part)
                    lines += self._followed(each.name, value, reading.paths.get(each.name, ()), scope)
                else:
                    if module.partition(".")[0] in _IMPORTERS:
                        self._unseen(
                            f"{scope.owner} imports by name ({module}), so what it reads does not stand in its code"
                        )
                    lines.append(f"{each.name} is {self._module(module)}.{each.part}")
            except Unseen as fault:
                self._unseen(f"{scope.owner} imports '{module}', {fault}")
            except Exception as fault:  # noqa: BLE001  # whatever a module raises when imported
                self._unseen(f"{scope.owner} imports '{module}', which cannot be imported here ({fault})")
        return lines


def _captured(fn: FunctionType) -> dict[str, Any]:
    """Return what a function closes over; a cell that is still empty is left out, and so not defined."""
    found: dict[str, Any] = {}
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue
    found.pop("__class__", None)
    return found


def _defaults(fn: FunctionType) -> dict[str, object]:
    positional = fn.__code__.co_varnames[: fn.__code__.co_argcount]
    given = fn.__defaults__ or ()
    return dict(zip(positional[len(positional) - len(given) :], given, strict=True)) | (
        fn.__kwdefaults__ or {}
    )


def _registered(fn: FunctionType) -> list[object]:
    """Return the implementations of a `functools.singledispatch` function."""
    return list(cast("Any", fn).registry.values()) if fn.__code__ is _DISPATCH else []


def _plain(value: object) -> object:
    """Return the function inside a method of any kind."""
    match value:
        case staticmethod() | classmethod():
            return cast("object", cast("Any", value).__func__)
        case property():
            return value.fget
        case _:
            return value


def _is_written(fn: FunctionType) -> bool:
    """Whether a person wrote a function, rather than `namedtuple` or `Enum`."""
    return is_project_file(fn.__code__.co_filename) and not fn.__code__.co_filename.startswith("<")


def _without_own_decorators(node: ast.AST, scope: _Scope) -> ast.AST:
    """Return a function without `@tool` and `@agent`: what they declare does not change what it does."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return node
    kept = [each for each in node.decorator_list if not _is_own(each, scope)]
    return type(node)(**{**dict(ast.iter_fields(node)), "decorator_list": kept})


def _is_own(decorator: ast.expr, scope: _Scope) -> bool:
    head = decorator.func if isinstance(decorator, ast.Call) else decorator
    attributes: list[str] = []
    while isinstance(head, ast.Attribute):
        attributes.insert(0, head.attr)
        head = head.value
    if not isinstance(head, ast.Name):
        return False
    value = scope.find(head.id)
    if value is _ABSENT:  # imported where the function stands, which the function itself does not see
        return (attributes or [head.id])[-1] in ("tool", "agent")
    return origin_of(str(getattr(value, "__module__", None) or getattr(value, "__name__", ""))) is Origin.OWN


def _digest(text: str) -> str:
    return "sha256:" + sha256(text.encode()).hexdigest()
