"""The listing of an MCP server: its name and its tools, with limits on everything, since a server may be anyone's.

Pages, tools and schemas are bounded, and names are made valid. Text for people and models is cut to one short line without invisible
characters. Schemas keep their conditions; only their prose is cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from ...errors import ConfigError
from ...plans.values import Json, NotJson, canonical, digest
from ..failures import writable
from ..provider import NAME_CHARACTERS_MAX, plain, shown_name
from ..types.schemas import with_prose

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import Tool as TheirTool

TOOLS_MAX: Final = 1_000  # more tools than any planner can choose from
PAGES_MAX: Final = 200  # a list that goes on for ever ends here
SCHEMA_BYTES_MAX: Final = 256 * 1024  # of one tool: generated ones come near a tenth of it
DESCRIPTION_CHARACTERS_MAX: Final = 1_000  # of a tool
NOTE_CHARACTERS_MAX: Final = 300  # of a parameter


@dataclass(frozen=True, slots=True)
class ListedTool:
    """One tool as a server lists it.

    Attributes:
        name: At the server.
        parameters: JSON Schema of the arguments.
        returns: JSON Schema of the structured result; `None`: none is promised.
        is_read_only: The server says that it changes nothing.
        is_idempotent: The server says that a second equal call changes nothing more.
    """

    name: str
    description: str
    parameters: Mapping[str, Json]
    returns: Mapping[str, Json] | None
    is_read_only: bool | None
    is_idempotent: bool

    @property
    def says(self) -> dict[str, Json]:
        """Everything that the server says of the tool: a server that changes a part of it has another tool."""
        return {
            "description": self.description,
            "parameters": dict(self.parameters),
            "returns": None if self.returns is None else dict(self.returns),
            "read_only": bool(self.is_read_only),
            "idempotent": self.is_idempotent,
        }

    @property
    def digest(self) -> str:
        """Digest of everything that the server says of the tool."""
        return digest(canonical([self.name, self.says]))


@dataclass(frozen=True, slots=True)
class Listing:
    """A server's name, its version, and its tools in the order of their names."""

    name: str
    version: str
    tools: tuple[ListedTool, ...]


async def read_listing(client: Client) -> Listing:
    """Return the listing of a connected server.

    Raises:
        ConfigError: It has no tools or too many, its list does not end, or a schema is too large.
    """
    info = client.server_info
    name = shown_name(info.name if info else "") or "unnamed"
    version = shown_name(info.version if info else "")
    found: dict[str, ListedTool] = {}
    cursor: str | None = None
    for _ in range(PAGES_MAX):
        # Without the client's cache: a server that was restarted may have other tools.
        page = await client.list_tools(cursor=cursor, cache_mode="bypass")
        for tool in page.tools:
            if writable(tool.name) != tool.name:
                raise ConfigError(
                    f"the MCP server '{name}' lists a tool whose name is no text: {_shown(tool.name)}"
                )
            if tool.name in found:
                raise ConfigError(f"the MCP server '{name}' lists two tools called {_shown(tool.name)}")
            found[tool.name] = _listed(name, tool)
        # After each page, so that a list without end stops early.
        if len(found) > TOOLS_MAX:
            raise ConfigError(f"the MCP server '{name}' lists more than {TOOLS_MAX} tools")
        cursor = page.next_cursor
        if cursor is None:
            break
    else:
        raise ConfigError(f"the MCP server '{name}' lists its tools on more than {PAGES_MAX} pages")
    if not found:
        raise ConfigError(f"the MCP server '{name}' lists no tools")
    return Listing(name, version, tuple(found[each] for each in sorted(found)))


def _listed(server: str, tool: TheirTool) -> ListedTool:
    hints = tool.annotations
    where = f"the MCP server '{server}', tool {_shown(tool.name)}"
    return ListedTool(
        name=tool.name,
        description=plain(tool.description or tool.title or "", DESCRIPTION_CHARACTERS_MAX),
        parameters=_schema(where, "input schema", tool.input_schema),
        returns=None if tool.output_schema is None else _schema(where, "output schema", tool.output_schema),
        is_read_only=None if hints is None else hints.read_only_hint,
        is_idempotent=hints is not None and hints.idempotent_hint is True,
    )


def _schema(where: str, what: str, schema: Mapping[str, Any]) -> dict[str, Json]:
    try:
        # The size of the canonical form, since spaces in a server's JSON mean nothing.
        size = len(canonical(cast("Json", schema)))
    except (NotJson, RecursionError) as error:
        raise ConfigError(f"{where}: its {what} is not JSON: {error}") from error
    if size > SCHEMA_BYTES_MAX:
        raise ConfigError(
            f"{where}: its {what} has {size} bytes; expected at most {SCHEMA_BYTES_MAX}. Leave the tool out with only=[..]"
        )
    return cast("dict[str, Json]", with_prose(cast("Json", dict(schema)), _short))


def _short(prose: Json) -> Json:
    return plain(prose, NOTE_CHARACTERS_MAX) if isinstance(prose, str) else prose


def _shown(name: str) -> str:
    return repr(plain(name, NAME_CHARACTERS_MAX))


def changed(before: Sequence[ListedTool], now: Sequence[ListedTool]) -> frozenset[str]:
    """Return the names of tools whose digest has changed, or that are gone."""
    current = {tool.name: tool.digest for tool in now}
    return frozenset(tool.name for tool in before if current.get(tool.name) != tool.digest)
