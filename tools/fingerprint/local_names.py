"""Which names of a function say nothing: local variables whose renaming, and only that, changes no result.

A name is such a name only if everything says so, and keeps its spelling else, so that a doubt leads to a call too many and never to a
wrong reuse:

- it is assigned in the function, and stands for nothing outside in any scope of it;
- it is no parameter (whoever calls by keyword says it), no function, class or import, no attribute of a class, no capture of a
  pattern, and not declared `global` or `nonlocal`;
- it is no word of a text that the function holds or reads: libraries look names up that stand in a query or formula;
- nothing in the function looks at names: `locals()`, `eval`, frames, queries over local tables.

One name is one variable: where two scopes of a function use the same name, both are renamed or neither is. Pure.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from itertools import chain
from typing import Final, cast

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

_LOOKING: Final = frozenset(
    {
        *("locals", "vars", "dir", "eval", "exec", "compile", "globals", "__import__", "breakpoint"),
        *("f_locals", "f_back", "f_code", "_getframe", "currentframe", "stack", "getouterframes", "inspect"),
        *("__code__", "co_varnames", "co_names", "__closure__", "co_freevars", "co_cellvars"),
        *("sql", "query", "execute", "executemany", "evaluate", "from_query", "query_df", "sqldf"),
        *(
            "register_globals",
            "dmatrix",
            "dmatrices",
            "from_formula",
            "ols",
            "glm",
            "varname",
            "argname",
            "nameof",
        ),
    }
)
_WORD: Final = re.compile(r"\w+")


def own_names(node: FunctionNode, fixed: Collection[str] = ()) -> frozenset[str]:
    """Return the names of a function whose spelling does not matter.

    Args:
        node: The function, with all that is nested in it.
        fixed: Names that it looks up outside, and others that keep their spelling.
    """
    inside = list(_inside(node))
    if any(_looks_at_names(each) for each in inside):
        return frozenset()
    assigned = set(chain.from_iterable(_assigned(each) for each in inside))
    kept = set(chain.from_iterable(_said(each) for each in inside))
    kept |= {each.id for part in _head(node) for each in ast.walk(part) if isinstance(each, ast.Name)}
    return frozenset(name for name in assigned - kept if name not in fixed and not name.startswith("__"))


def is_note(node: object) -> bool:
    """Whether a statement is a text that stands alone: a docstring, or what is said below an attribute or between statements."""
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
        case _:
            return False


def words_in(*texts: str) -> frozenset[str]:
    """Return all that could be a name in some texts."""
    return frozenset(word for text in texts for word in _WORD.findall(text))


def texts_in(node: ast.AST) -> Iterator[str]:
    """Yield the texts that code holds, docstrings left out."""
    for each in _inside(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield each.value


def _inside(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and all that it holds, docstrings and other notes left out: they are no part of what code does."""
    waiting = [node]
    while waiting:
        each = waiting.pop()
        yield each
        waiting += (child for child in ast.iter_child_nodes(each) if not is_note(child))


def _looks_at_names(node: ast.AST) -> bool:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in _LOOKING
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            parts = {part for each in names for part in each.name.split(".")}
            return bool(parts & _LOOKING)
        case _:
            return False


def _assigned(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name(id=name, ctx=ast.Store()):
            yield name
        case ast.ExceptHandler(name=str() as name):
            yield name
        case _:
            pass


def _said(node: ast.AST) -> Iterator[str]:
    """Yield the names that a node says in a way that a renaming would not follow."""
    match node:
        case ast.Name() | ast.ExceptHandler() | ast.Attribute() | ast.keyword():
            pass  # variables, and names of other things
        case ast.Constant(value=str() as text):
            yield from words_in(text)
        case ast.Constant(value=bytes() as data):
            yield from words_in(data.decode("latin-1"))
        case ast.ClassDef(name=name):
            yield name
            yield from (
                each.id
                for each in ast.walk(node)
                if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
            )
        case ast.alias(name=name, asname=asname):
            yield asname or name.partition(".")[0]
        case _:
            for _, part in ast.iter_fields(node):
                texts = cast("list[object]", part) if isinstance(part, list) else [part]
                yield from (text for text in texts if isinstance(text, str))


def _head(node: FunctionNode) -> list[ast.AST]:
    """Return the parts of a function that are evaluated where it stands, not inside it."""
    arguments: list[ast.AST] = [node.args]
    if isinstance(node, ast.Lambda):
        return arguments
    return [*arguments, *node.decorator_list, *([node.returns] if node.returns is not None else [])]
