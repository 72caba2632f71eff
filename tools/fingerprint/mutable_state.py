"""Mutable state: globals and captured variables that code changes while it runs, such as counters, logs of calls, caches.

Hashing the present value of such a variable would give another fingerprint after every call. So code that only writes to it
ignores the variable, and code that also reads it hashes the initial state: the module's own statements that make and fill the
variable, before any call; for a captured variable it is the assignment in the function around. Fail closed: where the initial state
is unknown (it depends on a parameter, or is an attribute of an object), the fingerprint is unseen.

The module knows syntax and kinds of values. `resolution.py` decides which names are followed.
"""

from __future__ import annotations

import ast
import queue
from collections import deque
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from ...plans.immutable import immutable
from .names import TREES_KEPT
from .syntax import FunctionNode, enclosing_functions, module_statements

_MUTATORS: Final = frozenset({
    "add", "append", "appendleft", "clear", "difference_update", "discard", "extend", "extendleft",
    "insert", "move_to_end", "pop", "popitem", "popleft", "put", "put_nowait", "remove", "reverse",
    "rotate", "setdefault", "sort", "subtract", "symmetric_difference_update", "update",
})  # fmt: skip
_PLAIN: Final = (
    *(list, dict, set, deque, queue.Queue, queue.SimpleQueue),
    *(bytearray, int, float, str, bytes, type(None)),
)


@immutable
class Mutation:
    """How code changes a variable.

    Attributes:
        is_stored: Whether it assigns to the variable or to a part of it, beside calling methods that change it.
        is_read: Whether it also reads the variable, so that a result may follow from it.
    """

    is_stored: bool
    is_read: bool


@lru_cache(TREES_KEPT)
def mutations_in(node: ast.AST) -> Mapping[str, Mutation]:
    """Return name -> mutation for every variable that code may change, local ones included, sorted."""
    finder = _Finder()
    finder.visit(node)
    return {
        name: Mutation(is_stored=name in finder.stored, is_read=name in finder.read)
        for name in sorted(finder.stored | finder.mutated)
    }


def is_plain(value: object) -> bool:
    """Whether a value is a plain container, scalar or iterator: changing it runs no project code."""
    made_by = type(value).__module__
    # An instance of a project class is not plain: which attributes a method changes would have to be followed
    # through its code.
    return isinstance(value, _PLAIN) or (isinstance(value, Iterator) and made_by in ("builtins", "itertools"))


def initial_state(name: str, filename: str, module: Mapping[str, Any]) -> list[ast.stmt]:
    """Return the statements by which a module makes and fills one of its variables; none if the initial state is unknown.

    These are the statements that assign the variable, change it, or hand it to a call: `fill(TABLE)`.

    Args:
        name: The variable.
        filename: The file of the module.
        module: The names of the module.
    """
    # Definitions are no statements here: what a function does to the variable happens in a call, after the initial
    # state.
    statements = [
        each
        for each in module_statements(filename, module)
        if any(_mentions(part, name) for part in ast.walk(each))
    ]
    # A variable that no statement makes comes from somewhere else (`setattr` on the module): then its initial state
    # is unknown.
    # A statement that only reads the variable is left out: it may read other names, which decide nothing of the
    # initial state.
    changing = [each for each in statements if name in mutations_in(each)]
    return [each for each in statements if each in changing or _hands_over(each, name)] if changing else []


def captured_state(
    name: str, node: FunctionNode, filename: str, module: Mapping[str, Any]
) -> ast.expr | None:
    """Return the value that the function around gives to a variable which another function captures; `None`: unknown.

    The initial state is known if the function around assigns the variable once, from an expression that stands for itself
    (`{}`, `0`, `[None] * 3`), and does not mention it otherwise. Then no code of the function around, which is not part of the
    fingerprint, decides the state.

    Args:
        name: The variable.
        node: The function that captures it.
        filename: The file of the module.
        module: The names of the module.
    """
    # The innermost function that mentions the variable owns it; Python's scopes work in the same order.
    for around in enclosing_functions(node, filename, module):
        outside = list(_walk_outside(around, node))
        mentions = [each for each in outside if _mentions(each, name)]
        if not mentions:
            continue
        values = [value for each in outside if (value := _assigned_value(each, name)) is not None]
        # Any other mention may fill the variable: `kept["a"] = 1`, `fill(kept)`, `kept.update(..)`, a parameter. To tell
        # mentions that fill from those that only read would repeat what Python's own scopes decide.
        return values[0] if len(mentions) == len(values) == 1 and _is_literal(values[0]) else None
    return None


class _Finder(ast.NodeVisitor):
    """One walk over the syntax, which sorts names into those that are stored to, changed by a method, and read.

    A statement that only calls a mutator (`LOG.append(x)`) and the target of an assignment (`COUNTS[key] += 1`) do not read the
    variable: what they take from it reaches no result.
    """

    def __init__(self) -> None:
        self.stored: set[str] = set()
        self.mutated: set[str] = set()
        self.read: set[str] = set()

    def visit_Name(self, node: ast.Name) -> None:
        (self.read if isinstance(node.ctx, ast.Load) else self.stored).add(node.id)

    def visit_Expr(self, node: ast.Expr) -> None:
        match node.value:
            case ast.Call(func=ast.Attribute(value=inner, attr=attr), args=args, keywords=more) if (
                attr in _MUTATORS
            ):
                self._write_only(inner, self.mutated)
                for each in (*args, *more):
                    self.visit(each)
            case _:
                self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        match node:
            # Inside an expression, `KEPT.pop()` both changes and reads the variable; only a statement of its own
            # is a pure write.
            case ast.Call(func=ast.Attribute(value=inner, attr=attr)) if attr in _MUTATORS:
                self._note(inner, self.mutated)
            # An iterator is changed by taking from it, without any method that says so.
            case ast.Call(func=ast.Name(id="next"), args=[first, *_]):
                self._note(first, self.mutated)
            case _:
                pass
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript | ast.Attribute) -> None:
        if isinstance(node.ctx, ast.Load):
            self.generic_visit(node)
        else:
            self._write_only(node, self.stored)

    visit_Attribute = visit_Subscript  # noqa: N815  # as `ast` calls it

    def _write_only(self, node: ast.AST, names: set[str]) -> None:
        """Note the variable of a place that is only written to, and visit the subscripts on the way to it."""
        self._note(node, names)
        while isinstance(node, ast.Attribute | ast.Subscript):
            if isinstance(node, ast.Subscript):
                self.visit(node.slice)
            node = node.value
        if not isinstance(node, ast.Name):
            self.visit(node)

    @staticmethod
    def _note(node: ast.AST, names: set[str]) -> None:
        if isinstance(base := _base(node), ast.Name):
            names.add(base.id)


def _mentions(node: ast.AST, name: str) -> bool:
    """Whether a node reads or binds a name: as a variable, a parameter, a definition, an import, a capture of `match`."""
    return name in {getattr(node, key, None) for key in ("id", "arg", "name", "asname", "rest")}


def _hands_over(statement: ast.stmt, name: str) -> bool:
    """Whether a statement is a call for its effect, and the variable is among its arguments."""
    match statement:
        case ast.Expr(value=ast.Call(args=args, keywords=more)):
            given = [*args, *(each.value for each in more)]
            return any(isinstance(each, ast.Name) and each.id == name for each in given)
        case _:
            return False


def _walk_outside(around: ast.AST, inner: ast.AST) -> Iterator[ast.AST]:
    """Yield every node of a function, except those of a function inside it."""
    waiting = [around]
    while waiting:
        node = waiting.pop()
        if node is not inner:
            yield node
            waiting += ast.iter_child_nodes(node)


def _assigned_value(node: ast.AST, name: str) -> ast.expr | None:
    match node:
        case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
            return value
        case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value) if target == name:
            return value
        case _:
            return None


def _base(node: ast.AST) -> ast.AST:
    """Return the variable at the beginning of a chain of attributes and subscripts."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node


def _is_literal(value: ast.expr) -> bool:
    """Whether an expression stands for itself: it reads no name but those of plain containers and scalars."""
    names = {each.id for each in ast.walk(value) if isinstance(each, ast.Name)}
    return names <= {"dict", "list", "set", "int", "float", "str"}
