"""What code changes outside itself while it runs: counters, logs of calls, caches. It is the code's own memory.

A memory's present value decides nothing that the author has not answered for by declaring an effect, and would differ after
every call; so a fingerprint counts how a memory begins, where its module says so, and not what it holds by now. Knows
syntax and shapes of values; how a memory begins says `beginnings.py`, who follows what `portrait.py`.
"""

from __future__ import annotations

import ast
import inspect
import queue
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import FunctionType, MethodType, SimpleNamespace
from typing import Any

from .names import TREES_KEPT
from .syntax import FunctionNode, NoSource, enclosing_functions, function_node, module_statements

_MUTATORS = frozenset(
    [
        "add",
        "append",
        "appendleft",
        "clear",
        "difference_update",
        "discard",
        "extend",
        "extendleft",
        "insert",
        "move_to_end",
        "pop",
        "popitem",
        "popleft",
        "put",
        "put_nowait",
        "remove",
        "reverse",
        "rotate",
        "setdefault",
        "sort",
        "subtract",
        "symmetric_difference_update",
        "update",
    ]  # reads best as words
)
_MEMORIES = (
    list,
    dict,
    set,
    deque,
    queue.Queue,
    queue.SimpleQueue,
    bytearray,
    int,
    float,
    str,
    bytes,
    type(None),
)
"""What may be written to without running project code: other things have methods of their own."""


@dataclass(frozen=True, slots=True)
class Change:
    """How a name is changed.

    Attributes:
        parts: First attributes that are changed, sorted; empty: what the name stands for itself.
        is_stored: Whether something is assigned to it or its parts, beside methods that change it.
        looked_at: First attributes that the code also reads, `""` for all of it; empty: no result follows from it.
    """

    parts: tuple[str, ...]
    is_stored: bool
    looked_at: frozenset[str] = frozenset()

    @property
    def is_read(self) -> bool:
        """Whether the code also reads it, so that a result may follow from it."""
        return bool(self.looked_at)

    def decides_of(self, value: object) -> bool:
        """Whether a result may follow from the parts that are changed: they are read, or a method is called that may read them."""
        state = getattr(value, "__dict__", {})
        return any(each in self.parts or each not in state for each in self.looked_at)


@lru_cache(TREES_KEPT)
def changes_in(nodes: tuple[ast.AST, ...]) -> Mapping[str, Change]:
    """Return name -> change for everything that code may change, local names included, sorted."""
    finder, read = _Finder(), dict[str, set[str]]()
    for node in nodes:
        finder.visit(node)
        for name, part in _reads(node):
            read.setdefault(name, set()).add(part)
    found: dict[str, set[str]] = {name: set() for name in finder.names}
    for name, part in (*finder.stored, *finder.mutated):
        found.setdefault(name, set()).add(part)
    stored = finder.names | {name for name, _ in finder.stored}
    return {
        name: Change(
            () if "" in parts else tuple(sorted(parts)),
            is_stored=name in stored,
            looked_at=frozenset(read.get(name, ())),
        )
        for name, parts in sorted(found.items())
    }


def is_memory(value: object) -> bool:
    """Whether a value is a plain container, counter or iterator: changing it runs no project code."""
    made_by = type(value).__module__
    return isinstance(value, _MEMORIES) or (
        isinstance(value, Iterator) and made_by in ("builtins", "itertools")
    )


def without(value: object, parts: Iterable[str]) -> object:
    """Return a copy of an object that lacks some attributes, or the object itself where copies have no such meaning."""
    cls = type(value)
    state = dict(getattr(value, "__dict__", {}))
    if isinstance(value, type) or not set(parts) <= set(state):
        return value
    left: dict[str, Any] = {name: each for name, each in state.items() if name not in set(parts)}
    if isinstance(value, SimpleNamespace):
        return SimpleNamespace(**left)
    try:
        made = object.__new__(cls)
        made.__dict__.update(left)
    except (TypeError, AttributeError):  # built by C code, or by a metaclass of its own
        return value
    return made


class _Finder(ast.NodeVisitor):
    """One walk over the syntax.

    Attributes:
        names: Names that are assigned.
        stored: (name, first attribute or "") of everything that something is assigned to.
        mutated: The same for what a method changes.
    """

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.stored: set[tuple[str, str]] = set()
        self.mutated: set[tuple[str, str]] = set()

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            self.names.add(node.id)

    def visit_Call(self, node: ast.Call) -> None:
        match node:
            case ast.Call(func=ast.Attribute(value=inner, attr=attr)) if attr in _MUTATORS:
                self._note(inner, self.mutated)
            case ast.Call(func=ast.Name(id="next"), args=[first, *_]):
                self._note(first, self.mutated)
            case _:
                pass
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self._stored(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._stored(node)

    def _stored(self, node: ast.Subscript | ast.Attribute) -> None:
        if isinstance(node.ctx, ast.Store | ast.Del):
            self._note(node, self.stored)
        self.generic_visit(node)

    def _note(self, node: ast.AST, places: set[tuple[str, str]]) -> None:
        if (place := _place(node)) is not None:
            places.add(place)


def _reads(root: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield (name, first attribute or "") of every place that is read, and not only named to change it."""
    waiting: list[tuple[ast.AST, bool]] = [(root, False)]
    while waiting:
        node, is_only_changed = waiting.pop()
        match node:
            case ast.Expr(
                value=ast.Call(func=ast.Attribute(value=inner, attr=attr), args=args, keywords=more)
            ) if attr in _MUTATORS:
                waiting += [(inner, True), *((each, False) for each in (*args, *more))]
                continue
            case _:
                pass
        if (place := _place(node)) is None:
            waiting += [(each, False) for each in ast.iter_child_nodes(node)]
            continue
        if not is_only_changed and isinstance(getattr(node, "ctx", None), ast.Load):
            yield place
        waiting += [(each, False) for each in _keys(node)]


def _keys(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the subscripts on the way to a place."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        if isinstance(node, ast.Subscript):
            yield node.slice
        node = node.value


def _place(node: ast.AST) -> tuple[str, str] | None:
    """Return the name that a place is a part of, and the first attribute on the way to it."""
    part = ""
    while isinstance(node, ast.Attribute | ast.Subscript):
        part = node.attr if isinstance(node, ast.Attribute) else ""
        node = node.value
    return (node.id, part) if isinstance(node, ast.Name) else None


# --- How what code changes while it runs begins: the statements that make it, before any call.
#
# Of a module's name these are the module's own statements that assign it, change it, or hand it to a call; of a captured one the
# assignment in the function around; of an attribute the one in `__init__`. Where a beginning depends on what a function is
# given, it is not known here. Knows syntax and classes only.


def module_beginnings(name: str, filename: str, module: Mapping[str, Any]) -> list[ast.stmt]:
    """Return the statements by which a module makes and fills one of its names; none if that cannot be said."""
    statements = [each for each in module_statements(filename, module) if _mentions(each, name)]
    found = [each for each in statements if name in changes_in((each,)) or _hands_over(each, name)]
    return found if any(name in changes_in((each,)) for each in found) else []


def captured_beginning(name: str, node: ast.AST, filename: str, module: Mapping[str, Any]) -> ast.expr | None:
    """Return what the function around assigns to a name that another captures; `None`: it depends on more than that says."""
    for around in enclosing_functions(node, filename, module):
        if name in _parameters(around):
            return None
        if found := _assigned(around, name):
            return found[0] if len(found) == 1 and _is_plain(found[0]) else None
    return None


def begin_alike(cls: type, parts: Iterable[str]) -> bool:
    """Whether some attributes begin the same in all instances: `__init__` assigns them, from nothing that it is given."""
    found = inspect.getattr_static(cls, "__init__", None)
    if not isinstance(found, FunctionType):
        return False
    try:
        node = function_node(found.__code__, found.__globals__)
    except NoSource:
        return False
    own = found.__code__.co_varnames[0] if found.__code__.co_argcount else ""
    begun = {part: _assigned(node, part, own) for part in parts}
    return all(values and all(map(_is_plain, values)) for values in begun.values())


def settled(source: object) -> object:
    """Return a bound method on an object that lacks what the method itself changes of it; anything else as it is."""
    if not isinstance(source, MethodType) or not isinstance(source.__func__, FunctionType):
        return source
    code = source.__func__.__code__
    try:
        node = function_node(code, source.__func__.__globals__)
    except NoSource:
        return source
    change = changes_in((node,)).get(code.co_varnames[0]) if code.co_argcount else None
    if change is None or not change.parts:
        return source
    if change.decides_of(source.__self__) and not begin_alike(type(source.__self__), change.parts):
        return source
    return MethodType(source.__func__, without(source.__self__, change.parts))


def _mentions(statement: ast.stmt, name: str) -> bool:
    return any(isinstance(each, ast.Name) and each.id == name for each in ast.walk(statement))


def _hands_over(statement: ast.stmt, name: str) -> bool:
    """Whether a statement is a call for its effect, and the name is among what it is given: `fill(TABLE)`."""
    match statement:
        case ast.Expr(value=ast.Call(args=args, keywords=more)):
            given = [*args, *(each.value for each in more)]
            return any(isinstance(each, ast.Name) and each.id == name for each in given)
        case _:
            return False


def _parameters(node: FunctionNode) -> set[str]:
    arguments = node.args
    every = [
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    ]
    return {each.arg for each in every if each is not None}


def _assigned(node: ast.AST, name: str, own: str = "") -> list[ast.expr]:
    """Return what is assigned to a name, or to the attribute `own.name`, anywhere inside."""
    found: list[ast.expr] = []
    for each in ast.walk(node):
        match each:
            case ast.Assign(targets=targets, value=value) if any(
                _is_place(one, name, own) for one in targets
            ):
                found.append(value)
            case ast.AnnAssign(target=target, value=ast.expr() as value) if _is_place(target, name, own):
                found.append(value)
            case _:
                pass
    return found


def _is_place(target: ast.expr, name: str, own: str) -> bool:
    match target:
        case ast.Attribute(value=ast.Name(id=base), attr=attr):
            return bool(own) and base == own and attr == name
        case ast.Name(id=found):
            return not own and found == name
        case _:
            return False


def _is_plain(value: ast.expr) -> bool:
    """Whether an expression says all by itself: `{}`, `0`, `[None] * 3`, `dict()`."""
    names = {each.id for each in ast.walk(value) if isinstance(each, ast.Name)}
    return names <= {
        "dict",
        "list",
        "set",
        "int",
        "float",
        "str",
        "deque",
        "defaultdict",
        "Counter",
        "OrderedDict",
    }
