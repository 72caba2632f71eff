"""Find what functions name of the world outside their arguments: clocks, dice, files, networks, processes.

A look at names, for advice; it proves nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from types import ModuleType
from typing import Any, cast

from ..callables import plain_function
from .names import read_names
from .syntax import NoSource, function_node

_OUTSIDE = frozenset({
    "_io", "aiohttp", "asyncio.subprocess", "boto3", "builtins.input", "builtins.open", "ctypes", "decimal.getcontext", "ftplib", "glob", "http", "httpx",
    "httpx2", "imaplib", "importlib.metadata", "importlib.resources", "io.open", "locale", "nt", "os", "paramiko", "posix", "psycopg", "random", "redis", "requests", "secrets",
    "select", "shutil", "smtplib", "socket", "sqlite3", "ssl", "subprocess", "tempfile", "time", "urllib", "urllib3", "uuid",
})  # fmt: skip
_HARMLESS = frozenset({
    "http.HTTPStatus", "os.PathLike", "os.fspath", "os.linesep", "os.path", "os.sep", "posixpath", "time.gmtime",
    "time.strftime", "time.strptime", "time.struct_time", "urllib.parse", "uuid.UUID", "uuid.uuid3", "uuid.uuid5",
})  # fmt: skip
_CLOCKS = frozenset(
    {"datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today"}
)
_OF_FILES = frozenset(
    {"read_text", "read_bytes", "write_text", "write_bytes", "iterdir", "rglob", "exists", "is_file"}
)  # of paths: no name tells, but their methods do


def outside_names(fn: Callable[..., Any]) -> list[str]:
    """Return the qualified names of what a function uses of the outside world, sorted; none if it has no source."""
    function = plain_function(fn)
    code = getattr(function, "__code__", None)
    scope: Mapping[str, object] = getattr(function, "__globals__", {})
    if code is None:
        return []
    try:
        node = function_node(code, scope)
    except NoSource:
        return []
    reading = read_names((node,), (code,))
    builtin: Mapping[str, object] = getattr(function, "__builtins__", {})
    known = {**builtin, **scope}
    found = {
        name
        for each in reading.names
        if each in known
        for path in reading.paths.get(each, ((),))
        for name in _qualified(known[each], path)
    }
    for each in reading.imports:
        head = each.module if each.part is None else f"{each.module}.{each.part}"
        found |= {".".join((head, *path)) for path in reading.paths.get(each.name, ((),))}
    ambient = {f"the context variable '{each.name}'" for each in _variables(reading.names, scope)}
    return sorted({*filter(_is_outside, found), *ambient, *_file_methods(node)})


def _variables(names: Iterable[str], scope: Mapping[str, object]) -> Iterator[ContextVar[object]]:
    for name in names:
        if isinstance(value := scope.get(name), ContextVar):
            yield cast("ContextVar[object]", value)


def _file_methods(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute) and each.attr in _OF_FILES:
            yield f".{each.attr}"


def _qualified(value: object, path: tuple[str, ...]) -> Iterator[str]:
    """Yield the full name of an attribute of a module, class or function."""
    home = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", None)
    if isinstance(value, ModuleType):
        yield ".".join((value.__name__, *path))
    elif name is None:  # an instance
        return
    elif home is None:  # methods of a hidden instance: `from random import random`
        yield ".".join((type(getattr(value, "__self__", None)).__module__, str(name), *path))
    else:
        yield ".".join((str(home), str(name), *path))


def _is_outside(name: str) -> bool:
    parts = name.split(".")
    heads = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
    if name == "random.Random":  # seeded by its user
        return False
    return name in _CLOCKS or (bool(heads & _OUTSIDE) and not heads & _HARMLESS)
