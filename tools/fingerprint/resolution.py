"""Name resolution: the values of the names that a function or class reads, each followed to its end.

- A name that code only reads is hashed by its value. A name that code itself changes is mutable state (`mutable_state.py`).
- Through modules of the project a chain of attributes is followed to the value that it leads to: `prices.RATES` is the table, and
  not the module.
- In other modules a chain is hashed as the module. It is looked up all the same, since it may lead to project code that someone
  put there, or to an opaque call.

The module knows no digest. `closure.py` keeps the parts that are found, and names the gaps.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import resolve_name
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, cast

from ...plans.immutable import record
from .constants import Unseen
from .mutable_state import Mutation, captured_state, initial_state, is_plain
from .names import Imported, NamesRead, Path
from .observations import Observations
from .opaque_calls import HOMES, find_opaque
from .origin import Origin, is_missing, origin_of
from .syntax import ABSENT, FunctionNode, syntax_text

if TYPE_CHECKING:
    from .closure import ClosureWalk

_PLACES = frozenset(
    {"__name__", "__file__", "__package__", "__spec__", "__loader__", "__builtins__", "__debug__"}
)
"""Names that say where a module is. Moving code changes no result that a fingerprint is about."""


@record
class NameScope:
    """Where the names of one piece of code are looked up."""

    owner: str
    filename: str
    module: Mapping[str, Any]
    captured: dict[str, Any]
    observations: Observations
    node: FunctionNode | None = None

    def find(self, name: str) -> Any:  # noqa: ANN401  # any value
        """Return the value of a name; `ABSENT`: it has none."""
        if name in self.captured:
            return self.captured[name]
        for names in (self.module, vars(builtins)):
            if (value := self.observations.add_name(names, name)) is not ABSENT:
                return value
        return ABSENT


class NameResolver:
    """Follows the names of one function or class."""

    def __init__(self, walk: ClosureWalk, scope: NameScope) -> None:
        self._walk = walk
        self._scope = scope

    def follow(self, read: NamesRead, mutations: Mapping[str, Mutation]) -> list[str]:
        """Return a line for each name that is read, with a reference to its value, and follow the value.

        Args:
            read: The names that the code reads.
            mutations: The names that the code changes.
        """
        lines: list[str] = []
        # Mutable state first: a statement of the initial state may name other variables, and those that are mutable
        # state themselves must not be followed by value from there.
        held = {*read.names, *read.assigned} - _PLACES
        state = [
            name
            for name in sorted(held & set(mutations))
            if name in read.assigned or is_plain(self._scope.find(name))
        ]
        for name in state:
            is_bound = name in read.assigned
            lines += self._mutable(name, state, is_read=mutations[name].is_read, is_bound=is_bound)
        for name in sorted(held - set(state)):
            if name in mutations and mutations[name].is_stored:  # an object, class or module
                self._not_fixed(name)
            lines += self._followed(name, self._scope.find(name), read.paths.get(name, ((),)))
        # A name that only an annotation mentions may be missing at run time (`if TYPE_CHECKING`), and then it decides
        # nothing.
        for name in read.annotated:
            if (value := self._scope.find(name)) is not ABSENT:
                lines += self._followed(name, value, read.paths.get(name, ((),)))
        for each in read.imports:
            lines += self._imported(each, read.paths.get(each.name, ()))
        for what in read.hidden:
            self._walk.unseen(f"{self._scope.owner} reads {what}")
        return lines

    # --- names that code changes

    def _mutable(self, name: str, state: Sequence[str], *, is_read: bool, is_bound: bool) -> list[str]:
        """Return the lines of a variable that code changes: its initial state if it is also read, and the code that it holds.

        Args:
            name: The variable.
            state: All variables that the code changes; none of them is followed from another.
            is_read: Whether the code reads it.
            is_bound: Whether the code binds the name anew, and does not only change its object.
        """
        lines, scope = [f"{name} is mutable state"], self._scope
        # Only written to: a counter or a log of calls. No result follows from it.
        if not is_read:
            return lines
        made: Sequence[ast.AST] = self._initial_state(name)
        if not made:
            self._not_fixed(name)
        for each in made:
            lines.append(f"{name} is initially {syntax_text(each)}")
            for part in sorted(_loaded(each) - {name, *state}):
                if (value := scope.find(part)) is not ABSENT:
                    lines += self._followed(part, value, ((),))
        # Functions that decorators registered in it stand in no statement of the module's own. What other code registers in it later is no change of
        # the name, so what it holds is observed. If each call binds the name to another object, nothing tells that from a new module.
        container = scope.find(name)
        found = _code_in(container)
        if is_bound:
            scope.observations.end()
        else:
            scope.observations.add_held(container, found, _code_in)
        held = sorted(found, key=lambda code: (code.__module__ or "", code.__qualname__))
        return lines + [
            f"{name} holds {self._walk.constant('constant', name, code, scope.owner)}" for code in held
        ]

    def _initial_state(self, name: str) -> Sequence[ast.AST]:
        scope = self._scope
        if name not in scope.captured:
            return initial_state(name, scope.filename, scope.module)
        if scope.node is None:
            return []
        made = captured_state(name, scope.node, scope.filename, scope.module)
        return [] if made is None else [made]

    def _not_fixed(self, name: str) -> None:
        self._walk.unseen(f"{self._scope.owner} changes '{name}' while it runs, so its value is not fixed")

    # --- names that code reads

    def _followed(self, name: str, value: object, paths: Iterable[Path]) -> list[str]:
        if value is ABSENT:
            self._walk.unseen(f"{self._scope.owner} reads '{name}', which is not defined")
            return []
        kind = "captured" if name in self._scope.captured else "constant"
        return [f"{'.'.join((name, *path))} is {self._at(kind, name, value, path)}" for path in paths]

    def _at(self, kind: str, name: str, value: object, path: Path) -> str:
        """Return the reference to the value at the end of a chain of attributes, which may lead through modules."""
        # `getattr`, not `vars`: a module may define `__getattr__`, and the code would get its value from there.
        while isinstance(value, ModuleType):
            if origin_of(value.__name__) is not Origin.PROJECT or not path:
                return self._in_module(kind, name, value, path)
            name = f"{name}.{path[0]}"
            held = self._scope.observations.add_name(vars(value), path[0])
            value, path = getattr(value, path[0], ABSENT), path[1:]
            if value is not held:  # made by `__getattr__`, which may return another value the next time
                self._scope.observations.end()
        if value is ABSENT:
            self._walk.unseen(f"{self._scope.owner} reads '{name}', which is not defined")
            return "absent"
        return self._walk.constant(kind, name.rpartition(".")[2], value, self._scope.owner)

    def _in_module(self, kind: str, name: str, module: ModuleType, path: Path) -> str:
        """Return the reference to a module outside the project; project code and opaque calls that it holds are added to the reference."""
        if module is sys and path[:1] == ("modules",):
            self._walk.unseen(f"{self._scope.owner} looks modules up in sys.modules, by name")
        found = reached(module, path, self._scope.observations)
        self._walk.references.reach.see_name(".".join((module.__name__, *path)), found)
        if isinstance(found, ModuleType):
            return self._walk.constant(kind, name, found if path else module, self._scope.owner)
        # The standard library is hashed by the name of the module and not of the attribute: `json.dumps` and
        # `json.loads` differ in the syntax already.
        if origin_of(module.__name__) is Origin.STANDARD:
            reference = f"module {module.__name__}"
        else:
            reference = self._walk.constant(kind, name, module, self._scope.owner)
        if isinstance(found, FunctionType | BuiltinFunctionType | type) and (
            find_opaque(found) or _is_project(found)
        ):
            reference += f".{self._walk.constant(kind, '.'.join((name, *path)), found, self._scope.owner)}"
        return reference

    def _imported(self, each: Imported, paths: Iterable[Path]) -> list[str]:
        """Follow an import inside a function; project modules are imported, as the call would."""
        self._scope.observations.end()
        package = str(self._scope.module.get("__package__") or "")
        try:
            module = resolve_name("." * each.level + each.module, package) if each.level else each.module
            # The call would import the module anyway, and without its code there is nothing to hash.
            if origin_of(module) is Origin.PROJECT:
                importlib.import_module(each.full_name or module)
                value: object = sys.modules[module]
                if each.part is not None and not hasattr(value, each.part):
                    importlib.import_module(f"{module}.{each.part}")
                if each.part is not None:
                    value = getattr(value, each.part)
                return self._followed(each.name, value, paths)
            self._walk.references.reach.see_import(module, each.part, paths)
            if is_missing(module):
                return [f"{each.name} is missing: there is no {module}"]
            # Modules with opaque calls are imported to look the name up, since `from importlib import import_module`
            # inside a function must be found.
            if module.partition(".")[0] in HOMES:
                importlib.import_module(module)
            if (loaded := sys.modules.get(module)) is not None:
                part = () if each.part is None else (each.part,)
                for path in paths:
                    self._in_module("constant", each.name, loaded, (*part, *path))
            return [f"{each.name} is {self._walk.references.module(module)}.{each.part}"]
        except Unseen as error:
            self._walk.unseen(f"{self._scope.owner} imports '{each.module}', {error}")
        except Exception as error:  # noqa: BLE001  # whatever a module raises when imported
            self._walk.unseen(
                f"{self._scope.owner} imports '{each.module}', which cannot be imported here ({error})"
            )
        return []


def reached(value: Any, path: Path, observations: Observations) -> Any:  # noqa: ANN401  # any value
    """Return the value at a chain of attributes, as far as modules are looked into: looking into an object may run code.

    Args:
        value: The start of the chain.
        path: The names of the attributes.
        observations: Take note of each value on the way.
    """
    for attribute in path:
        if not isinstance(value, ModuleType):
            break
        value = observations.add_name(vars(value), attribute)
    return value


def _loaded(node: ast.AST) -> set[str]:
    """Return the names that an expression or statement reads."""
    return {
        each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)
    }


def _code_in(value: object) -> list[FunctionType | type]:
    """Return the project's functions and classes in a container, such as a registry."""
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
