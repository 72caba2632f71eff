"""What the names of a function or class stand for: values that decide what it does, each followed to its end.

A name that code only reads counts by its value. One that it changes itself is its memory, and counts by how it begins. Through modules
of the project a chain of attributes is followed to what it leads to; in other modules it counts by the module, and is looked at for
what is the project's, or reads what stands in no code.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import resolve_name
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, Protocol, cast

from .constants import Unseen
from .mutable_state import Change, begin_alike, captured_beginning, is_memory, module_beginnings, without
from .names import Imported, Path, Reading
from .opaque_calls import HOMES, revealing
from .origin import Origin, is_missing, origin_of
from .references import ProjectReferences
from .syntax import ABSENT, spelled, words_in

_PLACES = frozenset(
    {"__name__", "__file__", "__package__", "__spec__", "__loader__", "__builtins__", "__debug__"}
)


class Seer(Protocol):
    """Whoever follows what is found: the walk of a portrait."""

    @property
    def references(self) -> ProjectReferences: ...  # noqa: D102  # the names that were given

    def constant(self, kind: str, name: str, value: object, owner: str = "it") -> str: ...  # noqa: D102  # see `portrait.py`

    def unseen(self, sentence: str) -> None: ...  # noqa: D102  # takes note of it


@dataclass
class Scope:
    """Where the names of one piece of code are looked up."""

    owner: str
    filename: str
    module: Mapping[str, Any]
    captured: dict[str, Any]
    node: ast.AST

    def find(self, name: str) -> Any:  # noqa: ANN401  # any value
        """Return what a name stands for; `ABSENT`: nothing."""
        if name in self.captured:
            return self.captured[name]
        if name in self.module:
            return self.module[name]
        return getattr(builtins, name, ABSENT)


class Edges:
    """Follows the names of one function or class."""

    def __init__(self, seer: Seer, scope: Scope) -> None:
        self._seer = seer
        self._scope = scope

    def follow(self, reading: Reading, changes: Mapping[str, Change]) -> list[str]:
        """Return what the names that are read stand for, a line for each, and follow them."""
        lines: list[str] = []
        held = {*reading.names, *reading.assigned} - _PLACES
        memories = [name for name in sorted(held & set(changes)) if self._is_memory(name, reading, changes)]
        for name in memories:
            lines += self._begun(name, changes[name], memories)
        for name in sorted(held - set(memories)):
            value = self._scope.find(name)
            if name in changes:
                value = self._unchanged(name, value, changes[name])
            lines += self._followed(name, value, reading.paths.get(name, ((),)))
        for name in reading.annotated:
            if (value := self._scope.find(name)) is not ABSENT:
                lines += self._followed(name, value, reading.paths.get(name, ((),)))
        for each in reading.imports:
            lines += self._imported(each, reading.paths.get(each.name, ()))
        for what in reading.hidden:
            self._seer.unseen(f"{self._scope.owner} reads {what}")
        return lines

    # --- what code changes

    def _is_memory(self, name: str, reading: Reading, changes: Mapping[str, Change]) -> bool:
        """Whether code changes all that a name stands for: what it holds by now is then not looked at."""
        return name in reading.assigned or (not changes[name].parts and is_memory(self._scope.find(name)))

    def _begun(self, name: str, change: Change, memories: Sequence[str]) -> list[str]:
        """Return how a memory begins, where that may decide a result; code that it holds counts too."""
        lines, scope = [f"{name} is its own memory"], self._scope
        if not change.is_read:
            return lines
        found: list[ast.AST] = []
        if name not in scope.captured:
            found += module_beginnings(name, scope.filename, scope.module)
        elif (begun := captured_beginning(name, scope.node, scope.filename, scope.module)) is not None:
            found.append(begun)
        if not found:
            self._not_fixed(name)
        for each in found:
            lines.append(f"{name} begins as {spelled(each)}")
            for part in sorted(_loaded(each) - {name, *memories}):
                if (value := scope.find(part)) is not ABSENT:
                    lines += self._followed(part, value, ((),))
        held = sorted(_code_in(scope.find(name)), key=lambda code: (code.__module__ or "", code.__qualname__))
        return lines + [
            f"{name} holds {self._seer.constant('constant', name, code, scope.owner)}" for code in held
        ]

    def _unchanged(self, name: str, value: object, change: Change) -> object:
        """Return a value without the parts that code changes, unless a result follows from how these began."""
        left = without(value, change.parts) if change.parts else value
        if left is value and change.is_stored:
            self._not_fixed(name)
        if change.decides_of(value) and not begin_alike(type(value), change.parts):
            return value
        return left

    def _not_fixed(self, name: str) -> None:
        self._seer.unseen(f"{self._scope.owner} changes '{name}' while it runs, so its value is not fixed")

    # --- what code reads

    def _followed(self, name: str, value: object, paths: Iterable[Path]) -> list[str]:
        if value is ABSENT:
            self._seer.unseen(f"{self._scope.owner} reads '{name}', which is not defined")
            return []
        kind = "captured" if name in self._scope.captured else "constant"
        return [f"{'.'.join((name, *path))} is {self._at(kind, name, value, path)}" for path in paths]

    def _at(self, kind: str, name: str, value: object, path: Path) -> str:
        """Return the reference to what a chain of attributes leads to: through modules to a value of theirs."""
        while isinstance(value, ModuleType):
            if origin_of(value.__name__) is not Origin.PROJECT or not path:
                return self._in_module(kind, name, value, path)
            name = f"{name}.{path[0]}"
            value, path = getattr(value, path[0], ABSENT), path[1:]
        if value is ABSENT:
            self._seer.unseen(f"{self._scope.owner} reads '{name}', which is not defined")
            return "absent"
        return self._seer.constant(kind, name.rpartition(".")[2], value, self._scope.owner)

    def _in_module(self, kind: str, name: str, module: ModuleType, path: Path) -> str:
        """Return the reference to a module that is no part of the project, and to what a name of it is beyond that."""
        if module is sys and path[:1] == ("modules",):
            self._seer.unseen(f"{self._scope.owner} looks modules up in sys.modules, by name")
        found = _reached(module, path)
        if isinstance(found, ModuleType):
            return self._seer.constant(kind, name, found if path else module, self._scope.owner)
        is_standard = origin_of(module.__name__) is Origin.STANDARD
        told = (
            f"module {module.__name__}"
            if is_standard
            else self._seer.constant(kind, name, module, self._scope.owner)
        )
        if isinstance(found, FunctionType | BuiltinFunctionType | type) and (
            revealing(found) or _is_project(found)
        ):
            told += f".{self._seer.constant(kind, '.'.join((name, *path)), found, self._scope.owner)}"
        return told

    def _imported(self, each: Imported, paths: Iterable[Path]) -> list[str]:
        """Follow an import inside a function; project modules are imported, as the call would."""
        package = str(self._scope.module.get("__package__") or "")
        try:
            module = resolve_name("." * each.level + each.module, package) if each.level else each.module
            if origin_of(module) is Origin.PROJECT:
                importlib.import_module(each.whole or module)
                value: object = sys.modules[module]
                if each.part is not None and not hasattr(value, each.part):
                    importlib.import_module(f"{module}.{each.part}")
                if each.part is not None:
                    value = getattr(value, each.part)
                return self._followed(each.name, value, paths)
            if is_missing(module):
                return [f"{each.name} is missing: there is no {module}"]
            if module.partition(".")[0] in HOMES:
                importlib.import_module(module)
            if (loaded := sys.modules.get(module)) is not None:
                part = () if each.part is None else (each.part,)
                for path in paths:
                    self._in_module("constant", each.name, loaded, (*part, *path))
            return [f"{each.name} is {self._seer.references.module(module)}.{each.part}"]
        except Unseen as fault:
            self._seer.unseen(f"{self._scope.owner} imports '{each.module}', {fault}")
        except Exception as fault:  # noqa: BLE001  # whatever a module raises when imported
            self._seer.unseen(
                f"{self._scope.owner} imports '{each.module}', which cannot be imported here ({fault})"
            )
        return []


def _loaded(node: ast.AST) -> set[str]:
    """Return the names that an expression or statement reads."""
    return {
        each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)
    }


def _code_in(value: object) -> list[FunctionType | type]:
    """Return the project's functions and classes that a container holds: what was registered in it."""
    match value:
        case dict():
            parts: Iterable[object] = cast("dict[object, object]", value).values()
        case list() | tuple() | set() | deque():
            parts = cast("Iterable[object]", value)
        case _:
            return []
    found: list[FunctionType | type] = []
    for part in parts:
        if isinstance(part, FunctionType | type) and _is_project(part):
            found.append(part)
        elif isinstance(part, list | tuple):
            found += _code_in(cast("object", part))
    return found


def _is_project(code: FunctionType | BuiltinFunctionType | type) -> bool:
    return origin_of(str(code.__module__ or "builtins")) is Origin.PROJECT


def spoken_names(reading: Reading, scope: Scope) -> frozenset[str]:
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
