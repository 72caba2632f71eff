"""Find the source of a function or class, and write its syntax so that only meaning counts.

What is written is the syntax tree without comments, docstrings, positions, formatting and names of local variables, in a form of our own:
`ast.dump` changes between Python versions, bytecode even more. A file that was edited after it was imported no longer
says what runs; that is noticed by compiling it again and comparing code.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, Final, cast

from .names import TREES_KEPT, all_codes
from .origin import Origin, origin_of

_DEFINING = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
_UNSPOKEN = frozenset({"ctx", "kind", "type_comment", "type_ignores", "lineno", "col_offset"})


class NoSource(Exception):  # noqa: N818  # reads as what it says
    """The source is missing, or is not what runs. The message says which, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Source:
    """One parsed file.

    Attributes:
        codes: All that it compiles to, by qualified name.
        classes: Every class, by qualified name.
        functions: Every `def`, by name and first line (its first decorator's, as in compiled code).
        lambdas: Every lambda, by first line.
        statements: The module's own statements that define nothing and import nothing, in the order of the file.
    """

    codes: Mapping[str, list[CodeType]]
    classes: Mapping[str, list[ast.ClassDef]]
    functions: Mapping[tuple[str, int], ast.FunctionDef | ast.AsyncFunctionDef]
    lambdas: Mapping[int, list[ast.Lambda]]
    statements: Sequence[ast.stmt]


_sources: dict[str, tuple[bytes, Source]] = {}


def function_node(code: CodeType, module: Mapping[str, Any]) -> FunctionNode:
    """Return the syntax tree of the function whose code this is.

    Args:
        code: The code that runs.
        module: The function's globals.

    Raises:
        NoSource: There is no source, or it has changed since it was imported.
    """
    source = _read(code.co_filename, module)
    if "@pytest_ar" not in module:  # pytest rewrites asserts: then the code is not what the file compiles to
        code = _same_code(code, source.codes.get(code.co_qualname, []))
    if code.co_name == "<lambda>":
        return _lambda_node(code, source)
    found = source.functions.get((code.co_name, code.co_firstlineno))
    if found is None:
        raise NoSource("has no source")
    return found


def _lambda_node(code: CodeType, source: Source) -> ast.Lambda:
    """Return the innermost lambda that begins at the code's line and holds all its instructions.

    Python 3.12 tells no place of one that gives a constant, and does not need it: those that do the same are as good.
    """
    places = [
        (line, column)
        for line, _, column, _ in code.co_positions()
        if line is not None and column is not None and (line, column) != (code.co_firstlineno, 0)
    ]
    found = [
        node
        for node in source.lambdas.get(code.co_firstlineno, [])
        if all(
            (node.lineno, node.col_offset) <= place <= (node.end_lineno or 0, node.end_col_offset or 0)
            for place in places
        )
        and (places or _is_constant(node, code))
    ]
    if not found:
        raise NoSource("has no source")
    return max(found, key=lambda node: (node.lineno, node.col_offset))


def _is_constant(node: ast.Lambda, code: CodeType) -> bool:
    """Whether a lambda that gives a constant does what `code` does."""
    outer = compile(ast.Expression(node), "<lambda>", "eval", dont_inherit=True)
    alone = [each for each in outer.co_consts if isinstance(each, CodeType)][-1]
    arguments = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
    one, other = (each.replace(co_flags=each.co_flags & arguments) for each in (alone, code))
    return _meaning(one) == _meaning(other)


def class_nodes(cls: type, filename: str, module: Mapping[str, Any]) -> list[tuple[ast.ClassDef, CodeType]]:
    """Return every definition of a class in its file, with the code of its body.

    There is more than one where branches define it differently; which of them ran is not recorded.

    Raises:
        NoSource: There is none.
    """
    source = _read(filename, module)
    nodes = source.classes.get(cls.__qualname__, [])
    codes = source.codes.get(cls.__qualname__, [])
    if not nodes or len(nodes) != len(codes):
        raise NoSource("has no source")
    return list(zip(nodes, codes, strict=True))


def module_statements(filename: str, module: Mapping[str, Any]) -> Sequence[ast.stmt]:
    """Return a module's own statements that define nothing and import nothing; none if there is no source."""
    try:
        return _read(filename, module).statements
    except NoSource:
        return ()


def enclosing_functions(node: ast.AST, filename: str, module: Mapping[str, Any]) -> list[FunctionNode]:
    """Return the functions in which a function of a file stands, the innermost first; none if there is no source."""
    try:
        source = _read(filename, module)
    except NoSource:
        return []
    found = [
        each
        for each in source.functions.values()
        if each is not node and any(part is node for part in ast.walk(each))
    ]
    return sorted(found, key=lambda each: -each.lineno)


@lru_cache(TREES_KEPT)
def spelled(node: ast.AST, fixed: frozenset[str] | None = None) -> str:
    """Return the syntax of a node as text; equal texts mean equal programs.

    Args:
        node: Code.
        fixed: Names that code looks up outside, and others that keep their spelling; then the local variables of functions are
            spelled by their number. `None`: every name is spelled.
    """
    return _Spelling(fixed).text(node)


class _Spelling:
    """One text. Within the outermost functions, local names have numbers, in the order in which they come."""

    def __init__(self, fixed: Collection[str] | None) -> None:
        self._fixed = fixed
        self._own: frozenset[str] | None = None
        self._numbers: dict[str, int] = {}

    def text(self, value: object) -> str:
        """Return a node, a list or a constant as text."""
        match value:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda() if self._is_outermost():
                self._own, self._numbers = own_names(value, self._fixed or ()), {}
                made = self._node(value)
                self._own = None
                return made
            case ast.AST():
                return self._node(value)
            case list():
                return f"[{','.join(self.text(part) for part in cast('list[object]', value))}]"
            case _:
                return ascii(value)

    def _is_outermost(self) -> bool:
        return self._fixed is not None and self._own is None

    def _number(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers))

    def _node(self, node: ast.AST) -> str:
        match node:
            case ast.Name(id=name) if self._own and name in self._own:
                return f"Name(id={self._number(name)})"
            case ast.ExceptHandler(name=str() as name) if self._own and name in self._own:
                return f"ExceptHandler({self.text(node.type)},{self._number(name)},{self.text(node.body)})"
            case ast.JoinedStr(values=values):
                return f"JoinedStr({','.join(self.text(part) for part in _joined(values))})"
            case _:
                pass
        shown = [
            f"{name}={self.text(part)}"
            for name, part in _parts(node)
            if name not in _UNSPOKEN and part is not None and part != []
        ]
        return f"{type(node).__name__}({','.join(shown)})"


def _parts(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """Yield a node's fields, docstrings and other notes left out of its statements."""
    for name, part in ast.iter_fields(node):
        if isinstance(part, list):
            statements = cast("list[object]", part)
            yield name, [each for each in statements if not is_note(each)]
        else:
            yield name, part


def _joined(parts: list[ast.expr]) -> list[ast.expr]:
    """Return the parts of an f-string with neighbouring texts put together and no empty ones: Python's versions differ in that."""
    made: list[ast.expr] = []
    for part in parts:
        if isinstance(part, ast.Constant) and part.value == "":
            continue
        last = made[-1] if made else None
        if (
            isinstance(part, ast.Constant)
            and isinstance(last, ast.Constant)
            and isinstance(part.value, str)
            and isinstance(last.value, str)
        ):
            made[-1] = ast.Constant(last.value + part.value)
        else:
            made.append(part)
    return made


def _read(filename: str, module: Mapping[str, Any]) -> Source:
    text = _text(filename, module)
    if not text:
        raise NoSource("has no source")
    known = _sources.get(filename)
    if known is None or known[0] != text:
        try:
            with warnings.catch_warnings(action="ignore"):  # the import has given them already
                tree = ast.parse(text, filename)
                known = (text, _indexed(tree, compile(tree, filename, "exec", dont_inherit=True)))
        except (SyntaxError, ValueError) as fault:
            raise NoSource("has another source now than when it was imported") from fault
        _sources[filename] = known
    return known[1]


def _text(filename: str, module: Mapping[str, Any]) -> bytes:
    """Return the source. Files are read each time: their times are too coarse to tell whether they changed."""
    try:
        return Path(filename).read_bytes()
    except (OSError, ValueError):
        linecache.checkcache(filename)
        return "".join(linecache.getlines(filename, dict(module))).encode()  # notebooks, zip archives


def _indexed(tree: ast.Module, code: CodeType) -> Source:
    functions: dict[tuple[str, int], ast.FunctionDef | ast.AsyncFunctionDef] = {}
    lambdas: dict[int, list[ast.Lambda]] = {}
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                functions[node.name, _first_line(node)] = node
            case ast.Lambda():
                lambdas.setdefault(node.lineno, []).append(node)
            case _:
                pass
    codes: dict[str, list[CodeType]] = {}
    for each in all_codes(code):
        codes.setdefault(each.co_qualname, []).append(each)
    classes: dict[str, list[ast.ClassDef]] = {}
    for name, found in _classes(tree, ""):
        classes.setdefault(name, []).append(found)
    return Source(codes, classes, functions, lambdas, list(_statements(tree)))


def _statements(node: ast.AST) -> Iterator[ast.stmt]:
    """Yield the statements below a node; those that hold definitions or imports are looked into."""
    for child in ast.iter_child_nodes(node):
        match child:
            case (
                ast.FunctionDef()
                | ast.AsyncFunctionDef()
                | ast.ClassDef()
                | ast.Import()
                | ast.ImportFrom()
                | ast.expr()
            ):
                continue
            case ast.stmt() if not any(isinstance(part, _DEFINING) for part in ast.walk(child)):
                yield child
            case _:
                yield from _statements(child)


def _classes(node: ast.AST, outer: str) -> Iterator[tuple[str, ast.ClassDef]]:
    """Yield every class below a node with its qualified name, in the order of the file."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.ClassDef():
                yield outer + child.name, child
                yield from _classes(child, f"{outer}{child.name}.")
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from _classes(child, f"{outer}{child.name}.<locals>.")
            case _:
                yield from _classes(child, outer)


def _same_code(code: CodeType, compiled: list[CodeType]) -> CodeType:
    """Return the freshly compiled code of the same name that does what `code` does, at the same line if there is a choice.

    Raises:
        NoSource: There is none, so the file is not what runs.
    """
    alike = [other for other in compiled if _meaning(other) == _meaning(code)]
    if not alike:
        raise NoSource("has another source now than when it was imported")
    return min(alike, key=lambda other: abs(other.co_firstlineno - code.co_firstlineno))


def _meaning(code: CodeType) -> tuple[object, ...]:
    """Return what a code object does, without where it stands."""
    consts = tuple(
        _meaning(each) if isinstance(each, CodeType) else _constant(each) for each in code.co_consts
    )
    shape = (
        code.co_flags,
        code.co_argcount,
        code.co_posonlyargcount,
        code.co_kwonlyargcount,
        code.co_exceptiontable,
    )
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    return code.co_code, shape, names, consts


def _constant(value: object) -> str:
    """Return a constant as text; unlike `==`, it tells `1` from `True` and `0.0` from `-0.0`."""
    if isinstance(value, frozenset):
        return f"frozenset({sorted(map(_constant, cast('frozenset[object]', value)))})"
    return repr(value)


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return node.decorator_list[0].lineno if node.decorator_list else node.lineno


# --- Which names of a function say nothing: local variables whose renaming, and only that, changes no result.
#
# A name is such a name only if everything says so, and keeps its spelling else, so that a doubt leads to a call too many and never to a
# wrong reuse:
#
# - it is assigned in the function, and stands for nothing outside in any scope of it;
# - it is no parameter (whoever calls by keyword says it), no function, class or import, no attribute of a class, no capture of a
#   pattern, and not declared `global` or `nonlocal`;
# - it is no word of a text that the function holds or reads: libraries look names up that stand in a query or formula;
# - nothing in the function looks at names: `locals()`, `eval`, frames, queries over local tables.
#
# One name is one variable: where two scopes of a function use the same name, both are renamed or neither is. Pure.


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


# --- Decorators of functions: which are firmplan's own, and so decide nothing, and whether all that were applied stand in the text.


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
