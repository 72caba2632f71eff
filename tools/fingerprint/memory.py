"""What code changes outside itself while it runs: counters, logs of calls, caches. It is the code's own memory.

A memory's present value decides nothing that the author has not answered for by declaring an effect, and would differ after
every call; so a fingerprint counts how a memory begins, where its module says so, and not what it holds by now. Knows
syntax and shapes of values; how a memory begins says `beginnings.py`, who follows what `portrait.py`.
"""

from __future__ import annotations

import ast
import queue
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from .names import TREES_KEPT

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
