"""How what code changes while it runs begins: the statements that make it, before any call.

Of a module's name these are the module's own statements that assign it, change it, or hand it to a call; of a captured one the
assignment in the function around; of an attribute the one in `__init__`. Where a beginning depends on what a function is
given, it is not known here. Knows syntax and classes only.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Mapping
from types import FunctionType, MethodType
from typing import Any

from .local_names import FunctionNode
from .memory import changes_in, without
from .syntax import NoSource, enclosing_functions, function_node, module_statements


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
