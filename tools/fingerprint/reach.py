"""The reach of a tool: the networks, files and processes from which its code gets data.

The code closure shows each name and each value that the code uses to a `Reach`, which keeps those of libraries that it knows. The tables
are short. A library that they lack counts as one for networks if its distribution requires one of them. A name that nobody knows is
missed: the reach is a reason to ask the author about trust, and proves nothing. Calls that only write (`open(path, "w")`, `os.remove`) bring no data
in, and do not count.
"""

from __future__ import annotations

import ast
import builtins
import dis
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, requires
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Final, Literal

from ...lazy_imports import late_pattern
from .names import TREES_KEPT, Path, all_codes
from .origin import Origin, distributions_of, is_project_file, origin_of

if TYPE_CHECKING:
    from .resolution import NameScope

Kind = Literal["network", "files", "processes"]

# Qualified names: of a module that reaches outside with all that is in it (`socket`), or of the parts of one that do (`os.listdir`).
NETWORK: Final = frozenset({
    "aiohttp", "anthropic", "asyncio.open_connection", "asyncio.streams", "asyncpg", "boto3", "botocore", "elasticsearch", "ftplib", "google.cloud", "grpc",
    "http", "httpcore", "httplib2", "httpx", "httpx2", "imaplib", "kafka", "mysql", "nntplib", "openai", "paramiko", "pika", "playwright", "poplib",
    "psycopg", "psycopg2", "pymongo", "pymysql", "redis", "requests", "selenium", "smtplib", "socket", "sqlalchemy", "ssl", "telnetlib",
    "urllib", "urllib3", "websocket", "websockets", "xmlrpc", "zmq",
})  # fmt: skip
FILES: Final = frozenset({
    "_io", "aiofiles", "builtins.open", "bz2.open", "dbm", "fileinput", "glob", "gzip.open", "io.open", "linecache", "lzma.open", "mmap", "numpy.fromfile",
    "numpy.genfromtxt", "numpy.load", "numpy.loadtxt", "shelve", "sqlite3", "tarfile.open",
    *(f"{module}.{name}" for module in ("os", "posix", "nt") for name in (
        "fdopen", "fwalk", "listdir", "open", "pread", "read", "readlink", "scandir", "walk")),
    *(f"{module}.read_{kind}" for module in ("pandas", "polars") for kind in (
        "csv", "excel", "feather", "fwf", "html", "json", "orc", "parquet", "pickle", "sql", "table", "xml")),
})  # fmt: skip
PROCESSES: Final = frozenset({
    "asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell", "asyncio.subprocess", "docker", "pexpect", "plumbum", "pty", "sh", "subprocess",
    *(f"{module}.{name}" for module in ("os", "posix", "nt") for name in ("popen", "posix_spawn", "posix_spawnp", "system")),
    *(f"os.spawn{how}" for how in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
})  # fmt: skip
HARMLESS: Final = frozenset(
    {
        "http.HTTPMethod",
        "http.HTTPStatus",
        "io.BytesIO",
        "io.StringIO",
        "_io.BytesIO",
        "_io.StringIO",
        "urllib.parse",
    }
)
"""Parts of these modules that bring nothing in."""
REPORTING: Final = frozenset({"opentelemetry"})
"""Libraries that require one for networks, and only send out what a program reports of itself."""

_KINDS: Final[dict[str, Kind]] = {
    **dict.fromkeys(NETWORK, "network"),
    **dict.fromkeys(FILES, "files"),
    **dict.fromkeys(PROCESSES, "processes"),
}
_TOPS: Final = frozenset(name.partition(".")[0] for name in _KINDS)
_CLIENTS: Final = frozenset(
    {"aiohttp", "botocore", "grpcio", "httplib2", "httpx", "requests", "urllib3", "websockets"}
)
"""Distributions that reach networks: an installed library that requires one of them does so too."""
_READING: Final = frozenset(
    {"read_text", "read_bytes", "iterdir", "rglob"}
)  # of paths: no name tells that they are paths, but the methods do
_READ_NAMES: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF", "IMPORT_NAME"})
_READ_ATTRIBUTES: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM"})
_MODE: Final = late_pattern(r"[rwaxbtU+]{1,4}")


class Reach:
    """What one walk has seen of networks, files and processes.

    Attributes:
        found: Qualified name -> kind, in the order of the walk.
    """

    def __init__(self) -> None:
        self.found: dict[str, Kind] = {}

    def see(self, value: object) -> None:
        """Look at a value that code uses: a function, a class, or an object by its class. Modules are seen by the names that are read of them."""
        if isinstance(value, ModuleType):
            return
        # By the class and not by the name in the code: a client is found in a table and in a captured variable as well.
        if isinstance(value, BuiltinFunctionType) and not isinstance(value.__self__, ModuleType | None):
            value = type(value.__self__)  # a method of an object, such as `connection.execute`
        owner = value if isinstance(value, FunctionType | BuiltinFunctionType | type) else type(value)
        if owner is not open:  # whether it reads is told by its call: `see_files`
            self.see_name(f"{owner.__module__}.{owner.__qualname__}", owner)

    def see_name(self, name: str, value: object = None) -> None:
        """Look at a qualified name, with the value behind it if that is known."""
        if name in self.found:
            return
        kind = _kind_of(name)
        # Naming an exception, to catch it, reaches nothing.
        if kind is not None and not (isinstance(value, type) and issubclass(value, BaseException)):
            self.found[name] = kind

    def see_import(self, module: str, part: str | None, paths: Iterable[Path]) -> None:
        """Look at an import inside a function, by its text: the module need not be loaded.

        Args:
            module: The module.
            part: The name that is taken from it; `None`: the module itself.
            paths: The chains of attributes that are read of it.
        """
        head = (module,) if part is None else (module, part)
        for path in paths or ((),):
            self.see_name(".".join((*head, *path)))

    def see_code(self, fn: FunctionType) -> None:
        """Look at a function without source, and at those that it calls, by their compiled code: what was typed in, or made by `exec`."""
        # Without source there is no closure to walk, so the walk is repeated here in small: from one function of the project to the next.
        waiting, known = [fn], {id(fn)}
        while waiting:
            each = waiting.pop()
            names = {**vars(builtins), **each.__globals__, **inspect.getclosurevars(each).nonlocals}
            for code in all_codes(each.__code__):
                for value in self._see_chains(code, names):
                    if (
                        isinstance(value, FunctionType)
                        and id(value) not in known
                        and is_project_file(value.__code__.co_filename)
                    ):
                        known.add(id(value))
                        waiting.append(value)

    def _see_chains(self, code: CodeType, names: Mapping[str, object]) -> Iterator[object]:
        """Look at the names that compiled code reads, and yield their values."""
        # Nothing tells which constant is the mode of which call. One mode that writes decides for the whole function: a file that is read
        # as well is missed, which is better than asking for the trust of each tool that writes a report.
        opens_to_write = any(isinstance(each, str) and _is_write_mode(each) for each in code.co_consts)
        for is_import, (name, *path) in _chains(code):
            value = None if is_import else names.get(name)
            if is_import:
                self.see_name(".".join((name, *path)))
            elif isinstance(value, ModuleType):
                self.see_name(".".join((value.__name__, *path)), vars(value).get(path[0]) if path else None)
            elif value is open and not opens_to_write:
                self.found.setdefault("open", "files")
            self.see(value)
            if path and path[-1] in _READING:
                self.found.setdefault(f".{path[-1]}", "files")
            yield value

    def see_files(self, node: ast.AST, scope: NameScope) -> None:
        """Look at the calls by which a function or class reads files."""
        for name in _file_reads(node):
            if name != "open" or scope.find("open") is builtins.open:
                self.found.setdefault(name, "files")


def _kind_of(name: str) -> Kind | None:
    top = name.partition(".")[0]
    if top in REPORTING:
        return None
    if top not in _TOPS:
        return "network" if _is_client(top) else None
    parts = name.split(".")
    # A table may have any beginning of the name: `sqlite3` stands for `sqlite3.dbapi2.connect`.
    heads = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
    kind: Kind | None = next((_KINDS[head] for head in heads if head in _KINDS), None)
    # A module of the project may have the name of a library.
    if kind is None or any(head in HARMLESS for head in heads) or origin_of(top) is Origin.PROJECT:
        return None
    return kind


@cache
def _is_client(top: str) -> bool:
    """Whether a module belongs to an installed library that requires a library for networks."""
    # Clients of single services are countless. Nearly all of them require one of a few libraries, and their distribution says so.
    if top == "builtins" or origin_of(top) is not Origin.INSTALLED:
        return False
    return any(_CLIENTS & _required(each) for each in distributions_of(top))


def _required(distribution: str) -> set[str]:
    """Return the distributions that one requires in any case, without those of its extras."""
    try:
        stated = requires(distribution) or []
    except PackageNotFoundError:
        return set()
    # An extra is what somebody may install beside the library, and not what the library is made of.
    names = (re.match(r"[A-Za-z0-9._-]+", each) for each in stated if "extra ==" not in each)
    return {name[0].lower().replace("_", "-") for name in names if name is not None}


@lru_cache(TREES_KEPT)
def _file_reads(node: ast.AST) -> tuple[str, ...]:
    """Return the names of the methods by which code reads files, and `open` if it opens a file to read."""
    return tuple(dict.fromkeys(_each_read(node)))


def _each_read(node: ast.AST) -> Iterator[str]:
    called: set[int] = set()
    # `ast.walk` yields a call before the name in it. A name that was in no call is handed on, and opens a file in a mode that nobody knows.
    for each in ast.walk(node):
        match each:
            case ast.Call(func=ast.Name(id="open") as function):
                called.add(id(function))
                if not _only_writes(each, 1):
                    yield "open"
            case ast.Call(func=ast.Attribute(attr="open")):
                if _is_of_path(each) and not _only_writes(each, 0):
                    yield ".open"
            case ast.Attribute(attr=name) if name in _READING:
                yield f".{name}"
            case ast.Name(id="open", ctx=ast.Load()) if id(each) not in called:
                yield "open"
            case _:
                pass


def _is_of_path(call: ast.Call) -> bool:
    """Whether `x.open(..)` is called as a path is opened; `webbrowser.open(url)` is not."""
    mode = call.args[0] if call.args else None
    return mode is None or (
        isinstance(mode, ast.Constant) and isinstance(mode.value, str) and bool(_MODE.fullmatch(mode.value))
    )


def _only_writes(call: ast.Call, position: int) -> bool:
    """Whether a call opens a file only to write it; a mode that is computed may be any."""
    named = [each.value for each in call.keywords if each.arg == "mode"]
    mode = named[0] if named else call.args[position] if len(call.args) > position else None
    return isinstance(mode, ast.Constant) and isinstance(mode.value, str) and _is_write_mode(mode.value)


def _is_write_mode(text: str) -> bool:
    return bool(_MODE.fullmatch(text)) and not {"w", "a", "x"}.isdisjoint(text) and "+" not in text


def _chains(code: CodeType) -> Iterator[tuple[bool, list[str]]]:
    """Yield each name that compiled code reads, with the attributes that it reads of it, and whether it imports the name."""
    # A load of a name begins a chain, and loads of attributes extend it. Instructions that do nothing (caches, since 3.11) do not end it.
    is_import, chain = False, [""]
    for each in dis.get_instructions(code):
        if each.opname in _READ_ATTRIBUTES and isinstance(each.argval, str):
            chain.append(each.argval)
        elif each.opname not in ("CACHE", "PUSH_NULL", "EXTENDED_ARG"):
            yield is_import, chain
            is_import, chain = (
                each.opname == "IMPORT_NAME",
                [each.argval if each.opname in _READ_NAMES else ""],
            )
    yield is_import, chain
