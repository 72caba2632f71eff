"""Decorators of functions: which are firmplan's own, and so decide nothing, and whether all that were applied stand in the text."""

from __future__ import annotations

import ast
from collections.abc import Callable
from copy import copy
from functools import lru_cache
from types import FunctionType
from typing import Any, cast

from .names import TREES_KEPT
from .origin import Origin, origin_of
from .syntax import NoSource, function_node

Find = Callable[[str], object]
"""What a name stands for where a function stands; `ABSENT`: nothing."""

ABSENT: object = object()


def without_own(node: ast.AST, find: Find) -> ast.AST:
    """Return a function without `@tool` and `@agent`: what they declare does not change what it does."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return node
    return _decorated(node, tuple(each for each in node.decorator_list if not _is_own(each, find)))


@lru_cache(TREES_KEPT)
def _decorated(
    node: ast.FunctionDef | ast.AsyncFunctionDef, decorators: tuple[ast.expr, ...]
) -> ast.FunctionDef | ast.AsyncFunctionDef:
    """Return the function with these decorators only: for the same ones the same tree."""
    bare = copy(node)
    bare.decorator_list = list(decorators)
    return bare


def wrappings(value: object) -> int:
    """Return how many wrappers stand around a function."""
    count = 0
    while (inner := getattr(value, "__wrapped__", None)) is not None:
        count, value = count + 1, inner
    return count


def decorations(value: object) -> int:
    """Return how many decorators stand in the text of the function inside some wrappers."""
    while (inner := getattr(value, "__wrapped__", None)) is not None:
        value = inner
    if not isinstance(value, FunctionType):
        return 0
    try:
        node = function_node(value.__code__, value.__globals__)
    except NoSource:
        return 0
    return len(cast("list[Any]", getattr(node, "decorator_list", [])))


def _is_own(decorator: ast.expr, find: Find) -> bool:
    head = decorator.func if isinstance(decorator, ast.Call) else decorator
    attributes: list[str] = []
    while isinstance(head, ast.Attribute):
        attributes.insert(0, head.attr)
        head = head.value
    if not isinstance(head, ast.Name):
        return False
    value = find(head.id)
    if value is ABSENT:  # imported where the function stands, which the function itself does not see
        return (attributes or [head.id])[-1] in ("tool", "agent")
    return origin_of(str(getattr(value, "__module__", None) or getattr(value, "__name__", ""))) is Origin.OWN
