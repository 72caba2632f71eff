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
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256
from types import FunctionType, ModuleType
from typing import Any, cast

from pydantic import BaseModel

from .constants import Spelling, Unseen
from .local_names import texts_in, words_in
from .members import defaults_of, file_of, is_written, methods_of
from .memory import Change, changes_in, is_memory, settled, without
from .names import Path, Reading, names_in, read_names
from .origin import Origin, origin_of
from .references import ProjectReferences, captured
from .syntax import NoSource, beginnings, class_nodes, function_node, spelled

PARTS_MAX = 20_000  # functions, classes and values of one tool: more is a whole program, and the walk says so
_DYNAMIC = frozenset({"eval", "exec", "compile", "__import__", "globals", "locals"})
_IMPORTERS = frozenset({"importlib", "runpy", "imp"})
_PLACES = frozenset(
    {"__name__", "__file__", "__package__", "__spec__", "__loader__", "__builtins__", "__debug__"}
)
_ABSENT: Any = object()


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


def draw(source: object, annotations: Mapping[str, object], influences: tuple[object, ...] = ()) -> Portrait:
    """Return the portrait of a callable.

    Args:
        source: A function, method, partial or callable object.
        annotations: Its resolved types by parameter, `return` included: classes that only they name count too.
        influences: Further values and functions that decide a result.
    """
    walk = _Walk()
    walk.constant("entry", "", settled(source))
    if annotations:
        walk.constant("types", "", dict(annotations))
    if influences:
        walk.constant("influences", "", influences)
    walk.finish()
    return walk.portrait


@dataclass
class _Scope:
    """Where the names of one piece of code are looked up."""

    owner: str
    filename: str
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
        self._references = ProjectReferences(self.portrait.versions)
        self._constants: dict[tuple[str, str], str] = {}

    def finish(self) -> None:
        """Draw everything that was referred to."""
        while self._references.waiting:
            if len(self._references) > PARTS_MAX:
                self._unseen(f"it reaches more than {PARTS_MAX} functions and classes")
                break
            value, name = self._references.waiting.popleft()
            try:
                if isinstance(value, type):
                    self._draw_class(value, name)
                else:
                    self._draw_function(value, name)
            except Exception as fault:  # noqa: BLE001  # proxies and lazy objects raise anything when looked at
                self._unseen(f"{name} reads what cannot be looked at ({type(fault).__name__}: {fault})")

    def constant(self, kind: str, name: str, value: object, owner: str = "it") -> str:
        """Return how a value that code reads is referred to; values that say more than a name become a part."""
        try:
            text = Spelling(self._references).text(value)
        except Unseen as fault:
            self._unseen(f"{owner} uses '{name}', {fault}" if name else f"the tool itself is {fault}")
            return "unseen"
        except Exception as fault:  # noqa: BLE001  # proxies and lazy objects raise anything when looked at
            self._unseen(
                f"{owner} uses '{name}', which cannot be looked at ({type(fault).__name__}: {fault})"
            )
            return "unseen"
        if self._references.code(value) is not None:
            if kind == "entry":
                self.portrait.parts["entry"] = _digest(text)
            return text
        label = f"{kind} {name}".strip()
        known = self._constants.get((label, text))
        if known is None:
            known = self._constants[label, text] = self._references.free(label)
            self.portrait.parts[known] = _digest(text)
        return known

    def _unseen(self, sentence: str) -> None:
        self.portrait.unseen[sentence] = None

    def _draw_function(self, fn: FunctionType, name: str) -> None:
        try:
            node = function_node(fn.__code__, fn.__globals__)
        except NoSource as fault:
            self._unseen(f"{name} {fault}")
            return
        scope = _Scope(name, fn.__code__.co_filename, fn.__globals__, captured(fn))
        reading = read_names([node], [fn.__code__], decorators=id(fn) in self._references.decorated)
        lines = [
            spelled(_without_own_decorators(node, scope), _spoken(reading, scope)),
            *self._edges(reading, changes_in([node]), scope),
        ]
        lines += [
            f"default {key}={self.constant('default', key, value, name)}"
            for key, value in defaults_of(fn).items()
        ]
        self.portrait.parts[name] = _digest("\n".join(lines))

    def _draw_class(self, cls: type, name: str) -> None:
        module = vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}
        filename = file_of(cls, module)
        own = [each for each in methods_of(cls) if each.__code__.co_filename == filename]
        try:
            found = class_nodes(cls, filename, module)
            for each in own:
                function_node(each.__code__, each.__globals__)
        except NoSource as fault:
            self._draw_made_class(cls, name, fault)
            return
        cells = {key: value for each in own for key, value in captured(each).items()}
        scope = _Scope(name, filename, module, cells)
        reading = read_names([node for node, _ in found], [code for _, code in found])
        fixed = _spoken(reading, scope) | words_in(*(text for node, _ in found for text in texts_in(node)))
        lines = [spelled(node, fixed) for node, _ in found]
        lines += self._edges(reading, changes_in([node for node, _ in found]), scope)
        lines += [f"base {self.constant('base', each.__name__, each, name)}" for each in cls.__bases__]
        lines.append(f"kind {self.constant('kind', type(cls).__name__, type(cls), name)}")
        lines += self._fields(cls, name)
        lines += self._attributes(cls, name)
        self.portrait.parts[name] = _digest("\n".join(lines))

    def _fields(self, cls: type, name: str) -> list[str]:
        """Return the types of a pydantic model's fields, which may be named nowhere else."""
        if not issubclass(cls, BaseModel):
            return []
        hints = {key: found.annotation for key, found in cls.model_fields.items()}
        return [f"field {key}: {self.constant('type', key, hint, name)}" for key, hint in hints.items()]

    def _attributes(self, cls: type, name: str) -> list[str]:
        """Return the values that a class holds: what its body says of them may have been added to since."""
        held: dict[str, object] = dict(vars(cls))
        if issubclass(cls, Enum):
            return []
        return [
            f"attribute {key}: {self.constant('attribute', key, value, name)}"
            for key, value in sorted(held.items())
            if not (key.startswith("_") and key.endswith("_"))
            and key not in ("_abc_impl", "model_config")
            and not isinstance(value, type)
            and not hasattr(type(value), "__get__")
        ]

    def _draw_made_class(self, cls: type, name: str, missing: NoSource) -> None:
        """Draw a class that a call made: `namedtuple(..)`, `Enum("Name", ..)`."""
        held: dict[str, Any] = dict(vars(cls))
        members: object = None
        if "_member_map_" in held:
            members = {key: member.value for key, member in held["_member_map_"].items()}
        elif "_fields" in held and "_field_defaults" in held:
            members = [held["_fields"], held["_field_defaults"]]
        if members is None or any(inspect.isfunction(each) and is_written(each) for each in held.values()):
            self._unseen(f"{name} {missing}")
            return
        bases = [self.constant("base", base.__name__, base, name) for base in cls.__bases__]
        try:
            self.portrait.parts[name] = _digest(f"{bases}{Spelling(self._references).text(members)}")
        except Unseen as fault:
            self._unseen(f"{name} holds {fault}")

    def _edges(self, reading: Reading, changes: Mapping[str, Change], scope: _Scope) -> list[str]:
        """Return what the names of a function or class stand for, and follow them."""
        lines: list[str] = []
        held = {*reading.names, *reading.assigned} - _PLACES
        memories = [
            name for name in sorted(held & set(changes)) if self._is_memory(name, reading, changes, scope)
        ]
        for name in memories:
            lines += self._begun(name, changes[name], scope, memories)
        for name in sorted(held - set(memories)):
            value = scope.find(name)
            if name in changes:
                value = self._unchanged(name, value, changes[name], scope)
            lines += self._followed(name, value, reading.paths.get(name, ((),)), scope)
        for name in reading.annotated:
            if (value := scope.find(name)) is not _ABSENT:
                lines += self._followed(name, value, reading.paths.get(name, ((),)), scope)
        lines += self._imported(reading, scope)
        for what in reading.hidden:
            self._unseen(f"{scope.owner} reads {what}")
        return lines

    def _is_memory(self, name: str, reading: Reading, changes: Mapping[str, Change], scope: _Scope) -> bool:
        """Whether code changes all that a name stands for: what it holds by now is then not looked at."""
        return name in reading.assigned or (not changes[name].parts and is_memory(scope.find(name)))

    def _begun(self, name: str, change: Change, scope: _Scope, memories: Sequence[str]) -> list[str]:
        """Return how a memory begins, where that may decide a result and the module says it."""
        lines = [f"{name} is its own memory"]
        if not change.is_read or name in scope.captured:
            return lines
        found = beginnings(name, scope.filename, scope.module)
        if not found:
            self._unseen(f"{scope.owner} changes '{name}' while it runs, so its value is not fixed")
        for each in found:
            lines.append(f"{name} begins as {spelled(each)}")
            for part in sorted(names_in(each) - {name, *memories}):
                if (value := scope.find(part)) is not _ABSENT:
                    lines += self._followed(part, value, ((),), scope)
        return lines

    def _unchanged(self, name: str, value: object, change: Change, scope: _Scope) -> object:
        """Return a value without the parts that code changes, or say that it is not fixed."""
        left = without(value, change.parts) if change.parts else value
        if left is value and change.is_stored:
            self._unseen(f"{scope.owner} changes '{name}' while it runs, so its value is not fixed")
        return left

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
            if value.__name__ in _IMPORTERS or (value is sys and path[:1] in (("modules",), ("_getframe",))):
                self._unseen(
                    f"{scope.owner} imports by name ({value.__name__}), so what it reads does not stand in its code"
                )
            if origin_of(value.__name__) is not Origin.PROJECT or not path:
                break
            name = f"{name}.{path[0]}"
            value, path = getattr(value, path[0], _ABSENT), path[1:]
        if value is _ABSENT:
            self._unseen(f"{scope.owner} reads '{name}', which is not defined")
            return "absent"
        if isinstance(value, FunctionType) and path and path[0] in vars(value):
            name, value = f"{name}.{path[0]}", vars(value)[path[0]]  # `f.table`, set beside the function
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
                    lines.append(f"{each.name} is {self._references.module(module)}.{each.part}")
            except Unseen as fault:
                self._unseen(f"{scope.owner} imports '{module}', {fault}")
            except Exception as fault:  # noqa: BLE001  # whatever a module raises when imported
                self._unseen(f"{scope.owner} imports '{module}', which cannot be imported here ({fault})")
        return lines


def _spoken(reading: Reading, scope: _Scope) -> frozenset[str]:
    """Return the names that no local variable may be taken for: those that are read outside, and words of the texts that are read."""
    texts: list[str] = []
    for name in reading.names:
        for path in reading.paths.get(name, ((),)):
            value = _reached(scope.find(name), path)
            held = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)
            texts += [each for each in held if isinstance(each, str)]
    return frozenset((*reading.names, *reading.annotated, *reading.assigned)) | words_in(*texts)


def _reached(value: Any, path: Path) -> Any:  # noqa: ANN401  # any value
    """Return what stands at a chain of attributes, as far as that is looked up in modules."""
    for attribute in path:
        if not isinstance(value, ModuleType):
            break
        value = vars(value).get(attribute)
    return value


def _without_own_decorators(node: ast.AST, scope: _Scope) -> ast.AST:
    """Return a function without `@tool` and `@agent`: what they declare does not change what it does."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return node
    kept = [each for each in node.decorator_list if not _is_own(each, scope)]
    bare = copy(node)
    bare.decorator_list = kept
    return bare


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
