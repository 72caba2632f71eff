"""`Toolset`: the tools that a plan may use, by name.

Rules: names are unique; order does not matter, and everything that lists tools lists them by name. A toolset is
immutable: `a + b` is a new one. The second half of the module loads tools from files and modules.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from importlib.machinery import SourceFileLoader
from os import PathLike, fspath
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, cast, get_args

from typing_extensions import Unpack

from ..errors import ConfigError
from ..plans.reports.nearest import did_you_mean, listing
from ..plans.signature import Effect
from ..plans.values import Json
from .declaration import Results, Trust, results_of, word_fault
from .provider import is_address
from .tool import Tool

if TYPE_CHECKING:
    from .mcp.tools import McpSettings
    from .openapi.auth import Auth
    from .openapi.tools import OpenApiSettings


class Toolset:
    """The tools that a plan may use.

    Args:
        tools: Tools, or functions decorated with `@tool`.
        results: What becomes of a result that does not fit its declared type, for the tools that do not state it (`@tool`).

    Raises:
        ConfigError: Two tools have one name, something is no tool, or `results` is none of the three words.
    """

    __slots__ = ("_tools", "names")

    def __init__(self, tools: Iterable[Tool] = (), *, results: Results | None = None) -> None:
        found: dict[str, Tool] = {}
        rule = results_of("", results)
        for each in _each(tools):
            tool = each.with_default_results(rule)
            earlier = found.setdefault(tool.name, tool)
            if earlier is not tool and not _is_same_agent(earlier, tool):
                raise ConfigError(
                    f"two tools are called '{tool.name}': {_home(earlier)} and {_home(tool)}; "
                    f"give one of them another name with {_way_to_name(earlier, tool)}"
                )
        if any(tool.called for tool in found.values()):
            found = _with_called(found, rule)
        self._tools = {name: found[name] for name in sorted(found)}
        self.names: tuple[str, ...] = tuple(self._tools)
        """All names, sorted."""

    @classmethod
    def of(cls, tools: Toolset | Iterable[Tool]) -> Toolset:
        """Return `tools` as a toolset: wherever one is wanted, a list of tools will do."""
        return tools if isinstance(tools, Toolset) else cls(tools)

    @classmethod
    def load(cls, source: str | PathLike[str] | Iterable[str | PathLike[str]]) -> Toolset:
        """Return the tools of a file (`"tools.py"`), of a module (`"package.module"`), of an OpenAPI document (`"shop.json"`, `"shop.yaml"` or its address), or of several of them.

        Raises:
            ConfigError: A source is missing, fails when imported, or holds no tool; the message has file, line and
                the original error.
        """
        sources = [source] if isinstance(source, str | PathLike) else list(source)
        found: list[Tool] = []
        for each in {home_of(each): each for each in sources}.values():
            found += [tool for tool in load_tools(each) if tool not in found]
        return cls(found)

    @classmethod
    def from_mcp(
        cls, server: str | Sequence[str | PathLike[str]], **settings: Unpack[McpSettings]
    ) -> Toolset:
        """Return the tools of an MCP server, untrusted until said otherwise; waits until it has listed them.

        Args:
            server: A command (`"python server.py"`, or its words), or an `http(s)://` address. A command is started when it
                is first needed, shared by all runs of this process, and stopped when the last engine that has it closes.
            settings: `only`, `prefix`, `overrides`, `env`, `cwd`, `headers`, `oauth`, `connect_timeout`, and the keywords of `@tool`
                for all of the tools (docs/MCP.md).

        Raises:
            ConfigError: The extra `mcp` is not installed, the server cannot be reached, what it lists cannot be used, or
                a setting is wrong.
        """
        from .mcp.tools import import_tools  # noqa: PLC0415  # most programs have no such server

        return cls(import_tools(server, settings))

    @classmethod
    def from_openapi(
        cls,
        document: str | PathLike[str] | Mapping[str, object],
        *,
        base_url: str | None = None,
        auth: Auth | None = None,
        **settings: Unpack[OpenApiSettings],
    ) -> Toolset:
        """Return the operations of an OpenAPI document (3.0 or 3.1) as tools, untrusted until said otherwise.

        Args:
            document: A path, an `http(s)://` address, or the document as a mapping.
            base_url: Where the operations are called; by default at the first server of the document, if there is no `auth`.
            auth: The credentials, such as `{"bearer": Secret(env="API_TOKEN")}`.
            settings: `only`, `tags`, `leave_out`, `deprecated`, `prefix`, `overrides`, `pages`, `idempotency_header`, `path_slashes`, and the
                keywords of `@tool` for all of the tools (docs/OPENAPI.md).

        Raises:
            ConfigError: The extra `openapi` is not installed, the document cannot be read or used, or a setting is wrong.
        """
        from .openapi.tools import import_tools  # noqa: PLC0415  # most programs have no such document

        return cls(import_tools(document, base_url, auth, settings))

    def find(self, name: str) -> Tool | None:
        """Return the tool of that name, or `None`."""
        return self._tools.get(name)

    def get(self, name: str) -> Tool:
        """Return the tool of that name.

        Raises:
            ConfigError: There is none; the message has the nearest name.
        """
        if (found := self._tools.get(name)) is not None:
            return found
        hint = did_you_mean(name, self.names)
        raise ConfigError(
            f"there is no tool '{name}'; the toolset has {listing(self.names)}"
            + (f"; {hint}" if hint else "")
        )

    def expect_called(self) -> None:
        """Check that the toolset has the tools that its agents may call. Raises: ConfigError: one is missing."""
        for tool in self:
            for name in tool.called:
                if isinstance(name, str):
                    known = [each.name for each in self if each.effect in (Effect.READ, Effect.PURE)]
                    hint = did_you_mean(name, known)
                    raise ConfigError(
                        f"agent '{tool.name}': tools: there is no tool '{name}' in the toolset; an agent may call {listing(known)}"
                        + (f"; {hint}" if hint else "")
                    )

    def with_default_trust(self, trust: Trust) -> Toolset:
        """Return the toolset in which a tool that does not state its trust has this one.

        With `"untrusted"`, tools stay trusted if nothing from outside is in their results: those of models, and pure tools whose code can be seen in
        full and reaches nothing outside.

        Raises:
            ConfigError: It is no trust.
        """
        if trust not in get_args(Trust):
            raise word_fault("default_trust", trust, get_args(Trust))
        return self if trust == "trusted" else Toolset(tool.untrusted_unless_stated for tool in self)

    def with_default_results(self, results: Results | None) -> Toolset:
        """Return the toolset in which a tool that does not state `results` has this one. Raises: ConfigError: it is none of the three words."""
        if (rule := results_of("", results)) is None:
            return self
        return Toolset(tool.with_default_results(rule) for tool in self)

    def with_replaced_resources(self, replaced: Mapping[Any, object]) -> Toolset:
        """Return the toolset where others stand for resources of its tools (`Tool.with_replaced_resources`)."""
        return Toolset(tool.with_replaced_resources(replaced) for tool in self) if replaced else self

    def to_list(self) -> list[Json]:
        """Return the tools' signatures as JSON, by name."""
        return [_signature(tool) for tool in self]

    def __add__(self, other: Toolset | Iterable[Tool]) -> Toolset:
        return Toolset([*self, *Toolset.of(other)])

    def __radd__(self, other: Iterable[Tool]) -> Toolset:
        return Toolset.of(other) + self

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def __contains__(self, tool: object) -> bool:
        return tool in self._tools if isinstance(tool, str) else tool in self._tools.values()

    def __getitem__(self, name: str) -> Tool:
        return self.get(name)

    def __repr__(self) -> str:
        return f"Toolset([{', '.join(self.names)}])"


def _each(tools: object) -> Iterator[Tool]:
    """Yield tools whose types resolve. Raises: ConfigError: something else stands there."""
    if isinstance(tools, Tool | str) or not isinstance(tools, Iterable):
        cure = f"[{tools.name}]" if isinstance(tools, Tool) else "[my_tool]"
        if isinstance(tools, str):
            cure = f"Toolset.load({tools!r}), if it is a file or a module"
        raise ConfigError(f"expected a list of tools, found {tools!r}; write {cure}")
    for tool in cast("Iterable[object]", tools):
        if not isinstance(tool, Tool):
            name = getattr(tool, "__name__", None)
            hint = f"decorate {name} with @tool" if name else "decorate a function with @tool"
            raise ConfigError(f"expected a tool, found {tool!r}; {hint}")
        if tool.needs_instance:
            owner = tool.source.__qualname__.split(".")[-2]
            raise ConfigError(
                f"tool '{tool.name}' is a method of {owner}; hand over the method of an instance: {owner}(..).{tool.source.__name__}"
            )
        _ = tool.types  # an annotation that cannot be resolved is said here, not in a run
        yield tool


def _is_same_agent(one: Tool, other: Tool) -> bool:
    """Whether two are one agent that was told in two toolsets which tools it may call."""
    return bool(one.called) and one.source == other.source and one.agent_tools == other.agent_tools


def _with_called(given: Mapping[str, Tool], rule: Results | None) -> dict[str, Tool]:
    """Return tools with those that their agents may call, each agent with the tools of the toolset."""
    found = dict(given)
    for agent in given.values():
        for each in agent.called:
            if isinstance(each, str):
                continue
            known = found.setdefault(each.name, each.with_default_results(rule))
            if known.source != each.source:
                raise ConfigError(
                    f"agent '{agent.name}' may call '{each.name}', which is {_home(each)}, but the toolset has {_home(known)} under that name; "
                    f"give one of them another name with {_way_to_name(known, each)}"
                )
    return {name: tool.with_called(found) if tool.called else tool for name, tool in found.items()}


def _way_to_name(*tools: Tool) -> str:
    """Return how to give one of these tools another name."""
    provided = [tool.provided for tool in tools if tool.provided is not None]
    if not provided:
        return '@tool(name="..")'
    return f'{"from_mcp" if provided[0].provider.kind.startswith("MCP") else "from_openapi"}(.., prefix="..")'


def _home(tool: Tool) -> str:
    return f"{tool.source.__module__}.{tool.source.__qualname__}"


def _signature(tool: Tool) -> Json:
    return {
        "name": tool.name,
        "description": tool.description,
        "effect": tool.effect.value,
        "parameters": dict(tool.parameters),
        "returns": None if tool.returns is None else dict(tool.returns),
        "resource": tool.resource,
        "trust": tool.trust,
        "idempotent": tool.idempotent,
        "asks_approval": tool.asks_approval,
        "fingerprint": tool.fingerprint,
        "opens": [each.name for each in tool.opens],
        **({} if tool.agent_tools is None else {"may_call": list(tool.agent_tools.tools)}),
    }


# Loading: the border between a toolset and Python's import system.
#
# A file gets a module name made from its path, so that it hides no other module and no other module hides it. Its own folder is put at
# the end of the import path, as when a script is run. A file that is loaded again is read again. An error in it becomes a `ConfigError`
# with file, line and the original error.


def load_tools(source: str | PathLike[str]) -> list[Tool]:
    """Return the tools that a file or a module holds as global names, alone or in toolsets, in the order of definition; or those of an OpenAPI document.

    Raises:
        ConfigError: It is missing, fails when imported, or holds no tool.
    """
    name = fspath(source)
    if _is_document(name):
        from .openapi.tools import import_tools  # noqa: PLC0415  # most programs have no such document

        return import_tools(name, None, None, {})
    module = _load_file(Path(name)) if _is_file(source) else _load_module(name)

    found: list[Tool] = []
    for value in list(vars(module).values()):
        # `issubclass` of the type, not `isinstance`: a proxy answers for the object behind it, or raises while there is none.
        if issubclass(type(value), Toolset):
            found += value
        elif issubclass(type(value), Tool):
            found.append(value)
    found = list(dict.fromkeys(found))
    found = [tool for tool in found if not tool.needs_instance]
    if not found:
        raise ConfigError(
            f"{name}: expected functions decorated with @tool, found none; add one, or load another file"
        )
    return found


def home_of(source: str | PathLike[str]) -> str:
    """Return the identity of a source: two spellings of one file have the same home."""
    if is_address(fspath(source)):
        return fspath(source)
    return str(Path(source).resolve()) if _is_file(source) else fspath(source)


def _is_document(source: str) -> bool:
    return is_address(source) or source.lower().endswith((".json", ".yaml", ".yml"))


def _is_file(source: str | PathLike[str]) -> bool:
    name = fspath(source)
    return not isinstance(source, str) or name.endswith(".py") or "/" in name or "\\" in name


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "nothing"
        raise ConfigError(
            f"{path}: expected a Python file with tools, found {kind} there; check the path (now in {Path.cwd()})"
        )
    where = path.resolve()
    name = f"firmplan_tools_{where.stem}_{sha256(str(where).encode()).hexdigest()[:12]}"
    loader = _FromSource(name, str(where))
    module = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(name, loader, origin=str(where)))
    module.__file__ = str(where)
    # A failed load leaves the module of an earlier one in place: its tools may be in use.
    earlier = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses and pydantic look their module up while it loads
    try:
        _make_importable(where.parent)
        loader.exec_module(module)
    except BaseException as error:
        if earlier is None:
            del sys.modules[name]
        else:
            sys.modules[name] = earlier
        if isinstance(error, Exception | SystemExit):
            raise _load_error(str(path), error) from error
        raise
    return module


class _FromSource(SourceFileLoader):
    """Compiles the file as it is now. Cached bytecode goes by the modification time, too coarse for a file that is being edited."""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002  # importlib's signature
        """Return the file's code."""
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code


def _load_module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(
            f'{name!r}: expected a file such as "tools.py" or a module such as "package.module"'
        )
    try:
        _make_importable(Path.cwd())
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            hint = f"; to load the file, write {name}.py" if Path(f"{name}.py").is_file() else ""
            raise ConfigError(
                f"{name}: expected a module that can be imported, found no '{error.name}'{hint}"
            ) from error
        raise _load_error(name, error) from error
    except (Exception, SystemExit) as error:
        raise _load_error(name, error) from error


def _make_importable(folder: Path) -> None:
    """Append a folder to the import path: for imports at load time and in later calls."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _load_error(source: str, error: BaseException) -> ConfigError:
    """Return the error for an exception inside a loaded file."""
    if isinstance(error, ConfigError):
        return error
    if isinstance(error, SyntaxError):
        place = f"{error.filename}:{error.lineno}"
    else:
        steps = [
            step for step in traceback.extract_tb(error.__traceback__) if not _is_machinery(step.filename)
        ]
        place = f"{steps[-1].filename}:{steps[-1].lineno}" if steps else source
    reason = error.msg if isinstance(error, SyntaxError) else str(error)
    return ConfigError(
        f"{source} cannot be loaded: {type(error).__name__} at {place}: {reason}; correct it and try again"
    )


def _is_machinery(filename: str) -> bool:
    """Whether a frame is this module's or the import system's."""
    return filename == __file__ or filename.startswith("<frozen importlib")
