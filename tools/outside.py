"""Find what a function names of the world outside its arguments: clocks, dice, files, networks, processes.

A look at the function's own names, for advice; it follows no calls and proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

from .callables import plain_function
from .names import read_names
from .syntax import NoSource, function_node

_OUTSIDE = frozenset({
    "_io", "aiohttp", "asyncio.subprocess", "boto3", "builtins.input", "builtins.open", "ftplib", "glob", "http", "httpx",
    "httpx2", "imaplib", "io.open", "nt", "os", "paramiko", "posix", "psycopg", "random", "redis", "requests", "secrets",
    "select", "shutil", "smtplib", "socket", "sqlite3", "ssl", "subprocess", "tempfile", "time", "urllib", "urllib3", "uuid",
})  # fmt: skip
_HARMLESS = frozenset({
    "http.HTTPStatus", "os.PathLike", "os.fspath", "os.linesep", "os.path", "os.sep", "posixpath", "time.gmtime",
    "time.strftime", "time.strptime", "time.struct_time", "urllib.parse", "uuid.UUID", "uuid.uuid3", "uuid.uuid5",
})  # fmt: skip
_CLOCKS = frozenset(
    {"datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today"}
)


def outside_names(fn: Callable[..., Any]) -> list[str]:
    """Return the qualified names of what a function uses of the outside world, sorted; none if it has no source."""
    function = plain_function(fn)
    code = getattr(function, "__code__", None)
    scope: Mapping[str, object] = getattr(function, "__globals__", {})
    if code is None:
        return []
    try:
        reading = read_names([function_node(code, scope)], [code])
    except NoSource:
        return []
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
    return sorted(filter(_is_outside, found))


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
