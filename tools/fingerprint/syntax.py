"""The source of functions and classes: it is found, compared with the running code, and written as text in which only meaning counts.

The text is the syntax tree without comments, docstrings, positions and formatting, in a form of our own: `ast.dump` changes between
Python versions, and bytecode changes even more.

A file that was edited after its import is no source of the running code. So the file is compiled again, and the running code has to be
among the compiled code. The modification time would be cheaper, but it is too coarse and survives copies.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, TypeAlias, cast

from ...plans.immutable import immutable
from .names import TREES_KEPT, all_codes, attribute_chain
from .origin import Origin, origin_of

FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

Find: TypeAlias = Callable[[str], object]
"""Return the value of a name where a function stands; `ABSENT`: the name has none."""

ABSENT: object = object()

_DEFINING = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
_NOT_MEANING = frozenset({"ctx", "kind", "type_comment", "type_ignores", "lineno", "col_offset"})


class NoSource(Exception):  # noqa: N818  # reads as what it says
    """The source is missing, or the running code has another source. The message says which, as the end of a sentence."""


@immutable
class SourceFile:
    """One parsed file.

    Attributes:
        codes: All code objects that the file compiles to, by qualified name.
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


_sources: dict[str, tuple[bytes, SourceFile]] = {}


def function_node(code: CodeType, module: Mapping[str, Any]) -> FunctionNode:
    """Return the syntax tree of the function that has this code.

    Args:
        code: The code that runs.
        module: The function's globals.

    Raises:
        NoSource: There is no source, or it has changed since it was imported.
    """
    # The line number alone would not do: lines move when the file is edited. So the code that runs is matched with
    # the code that the file compiles to, and the line of the match leads to the tree.
    source = _read(code.co_filename, module)
    if "@pytest_ar" not in module:  # pytest rewrites asserts: then the code is not what the file compiles to
        code = _same_code(code, source.codes.get(code.co_qualname, []))
    if code.co_name == "<lambda>":
        return _lambda_node(code, source)
    found = source.functions.get((code.co_name, code.co_firstlineno))
    if found is None:
        raise NoSource("has no source")
    return found


def _lambda_node(code: CodeType, source: SourceFile) -> ast.Lambda:
    """Return the innermost lambda that begins at the code's line and holds all its instructions.

    Python 3.12 keeps no position of a lambda that returns a constant. Such a lambda is identified by its meaning instead: two lambdas
    that return the same constant are equally good.
    """
    places = [
        (line, column)
        for line, _, column, _ in code.co_positions()
        if line is not None and column is not None and (line, column) != (code.co_firstlineno, 0)
    ]
    # Several lambdas may begin on one line. The positions of the instructions tell which of them ran: they lie inside
    # it, and the innermost one that holds them all is the one.
    found = [
        node
        for node in source.lambdas.get(code.co_firstlineno, [])
        if all(
            (node.lineno, node.col_offset) <= place <= (node.end_lineno or 0, node.end_col_offset or 0)
            for place in places
        )
        and (places or _returns_the_same_constant(node, code))
    ]
    if not found:
        raise NoSource("has no source")
    return max(found, key=lambda node: (node.lineno, node.col_offset))


def _returns_the_same_constant(node: ast.Lambda, code: CodeType) -> bool:
    outer = compile(ast.Expression(node), "<lambda>", "eval", dont_inherit=True)
    alone = [each for each in outer.co_consts if isinstance(each, CodeType)][-1]
    arguments = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
    one, other = (each.replace(co_flags=each.co_flags & arguments) for each in (alone, code))
    return _meaning(one) == _meaning(other)


def class_node(cls: type, filename: str, module: Mapping[str, Any]) -> tuple[ast.ClassDef, CodeType]:
    """Return the definition of a class, with the code of its body.

    Args:
        cls: The class.
        filename: The file of its module.
        module: The names of its module.

    Raises:
        NoSource: The file has no definition of the class, or more than one.
    """
    source = _read(filename, module)
    nodes = source.classes.get(cls.__qualname__, [])
    codes = source.codes.get(cls.__qualname__, [])
    # Python does not record which branch of `if FAST: class A .. else: class A ..` ran. `inspect.getsource` takes one
    # of them, and a class would be hashed by a definition that never ran.
    if len(nodes) > 1:
        raise NoSource("has several definitions, and nothing says which of them ran")
    if not nodes or len(codes) != 1:
        raise NoSource("has no source")
    return nodes[0], codes[0]


def module_statements(filename: str, module: Mapping[str, Any]) -> Sequence[ast.stmt]:
    """Return a module's own statements that define nothing and import nothing; none if there is no source."""
    try:
        return _read(filename, module).statements
    except NoSource:
        return ()


# Decorators. `@tool` and `@agent` declare and do not change what the function does, so that they are left out; whatever else
# decorates a function is part of its text.


def enclosing_functions(node: FunctionNode, filename: str, module: Mapping[str, Any]) -> list[FunctionNode]:
    """Return the functions in which a function of a file stands, the innermost first; none if there is no source."""
    try:
        source = _read(filename, module)
    except NoSource:
        return []
    found = [
        each
        for (_, first_line), each in source.functions.items()
        # The lines are asked first: to walk through every function of a large file takes longer than all else of a fingerprint.
        if first_line <= node.lineno <= (each.end_lineno or node.lineno)
        and each is not node
        and any(part is node for part in ast.walk(each))
    ]
    return sorted(found, key=lambda each: -each.lineno)


def without_own_decorators(node: FunctionNode, find: Find) -> FunctionNode:
    """Return a function without `@tool` and `@agent`: their arguments are settings, and a changed timeout is no changed code."""
    if isinstance(node, ast.Lambda):
        return node
    return _decorated(node, tuple(each for each in node.decorator_list if not _is_own(each, find)))


@lru_cache(TREES_KEPT)
def _decorated(
    node: ast.FunctionDef | ast.AsyncFunctionDef, decorators: tuple[ast.expr, ...]
) -> ast.FunctionDef | ast.AsyncFunctionDef:
    """Return the function with these decorators only: for the same ones the same tree, which `syntax_text` remembers."""
    bare = copy(node)
    bare.decorator_list = list(decorators)
    return bare


def is_decorated_in_text(wrapper: object) -> bool:
    """Whether each wrapper around a function stands as a decorator above its `def`, so that its arguments are in the text."""
    # Counted, not compared: a wrapper does not tell which decorator made it. If there are as many decorators as
    # wrappers, the text has the arguments of each; if there are fewer, some wrapper was applied by a call, and its
    # arguments are hidden.
    wrappers, value = 0, wrapper
    while (inner := getattr(value, "__wrapped__", None)) is not None:
        wrappers, value = wrappers + 1, inner
    if not isinstance(value, FunctionType):
        return not wrappers
    try:
        node = function_node(value.__code__, value.__globals__)
    except NoSource:
        return not wrappers
    return wrappers <= len(cast("list[Any]", getattr(node, "decorator_list", [])))


def _is_own(decorator: ast.expr, find: Find) -> bool:
    head, attributes = attribute_chain(decorator.func if isinstance(decorator, ast.Call) else decorator)
    if not isinstance(head, ast.Name):
        return False
    value = find(head.id)
    # The name cannot be resolved from inside the function, so the spelling decides.
    if value is ABSENT:  # imported where the function stands, which the function itself does not see
        return (attributes or (head.id,))[-1] in ("tool", "agent", "resource")
    return origin_of(str(getattr(value, "__module__", None) or getattr(value, "__name__", ""))) is Origin.OWN


# Writing syntax.


@lru_cache(TREES_KEPT)
def syntax_text(node: ast.AST) -> str:
    """Return the syntax of a node as text; equal texts mean equal programs."""
    return _text(node)


def _text(value: object) -> str:
    match value:
        case ast.JoinedStr(values=values):
            return f"JoinedStr({','.join(_text(part) for part in _joined(values))})"
        # Fields that are absent or empty are left out, since newer versions of Python add fields (`type_params`) that
        # would change the text of older code.
        case ast.AST():
            shown = [
                f"{name}={_text(part)}"
                for name, part in ast.iter_fields(value)
                if name not in _NOT_MEANING and part is not None and part != []
            ]
            return f"{type(value).__name__}({','.join(shown)})"
        case list():
            parts = cast("list[object]", value)
            return f"[{','.join(_text(part) for part in parts if not _is_note(part))}]"
        case _:
            return ascii(value)


def _is_note(node: object) -> bool:
    """Whether a statement is a text that stands alone: a docstring, or a text below an attribute or between statements."""
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
        case _:
            return False


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


# Reading files.


def _read(filename: str, module: Mapping[str, Any]) -> SourceFile:
    text = _file_text(filename, module)
    if not text:
        raise NoSource("has no source")
    # One parsed tree for each text of a file. `lru_cache` on the text would keep trees of every edit of a session;
    # this keeps the last.
    known = _sources.get(filename)
    if known is None or known[0] != text:
        try:
            with warnings.catch_warnings(action="ignore"):  # the import has given them already
                tree = ast.parse(text, filename)
                known = (text, _indexed(tree, compile(tree, filename, "exec", dont_inherit=True)))
        except (SyntaxError, ValueError) as error:
            raise NoSource("has another source now than when it was imported") from error
        _sources[filename] = known
    return known[1]


def _file_text(filename: str, module: Mapping[str, Any]) -> bytes:
    """Return the source. Files are read each time: their times are too coarse to tell whether they changed."""
    try:
        return Path(filename).read_bytes()
    except (OSError, ValueError):
        linecache.checkcache(filename)
        return "".join(linecache.getlines(filename, dict(module))).encode()  # notebooks, zip archives


def _indexed(tree: ast.Module, code: CodeType) -> SourceFile:
    functions: dict[tuple[str, int], ast.FunctionDef | ast.AsyncFunctionDef] = {}
    lambdas: dict[int, list[ast.Lambda]] = {}
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                first_line = node.decorator_list[0].lineno if node.decorator_list else node.lineno
                functions[node.name, first_line] = node
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
    return SourceFile(codes, classes, functions, lambdas, list(_statements(tree)))


def _statements(node: ast.AST) -> Iterator[ast.stmt]:
    """Yield the statements below a node; those that hold definitions or imports are looked into."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (*_DEFINING, ast.expr)):
            continue
        if isinstance(child, ast.stmt) and not any(isinstance(part, _DEFINING) for part in ast.walk(child)):
            yield child
        else:
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
        NoSource: There is none, so the running code has another source.
    """
    # Two functions of one qualified name and equal code, as in two branches, are equally good; the nearest line wins,
    # so that messages and trees agree with what a reader sees.
    alike = [other for other in compiled if _meaning(other) == _meaning(code)]
    if not alike:
        raise NoSource("has another source now than when it was imported")
    return min(alike, key=lambda other: abs(other.co_firstlineno - code.co_firstlineno))


def _meaning(code: CodeType) -> tuple[object, ...]:
    """Return the meaning of a code object, without its position."""
    # Positions, file name and first line are left out: they change when other lines do. Flags and exception table
    # belong to the meaning.
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
