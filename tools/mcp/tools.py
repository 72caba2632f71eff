"""The tools of an MCP server as tools of a plan: `Toolset.from_mcp`.

A server is not trusted: its outputs are untrusted until the user declares otherwise, a tool that it does not call read-only is a
`write`, and its descriptions are cut, and marked as the server's words where a model reads them. The target of the server, its version
and the schemas of the tool are part of the tool's fingerprint.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from importlib.util import find_spec
from os import PathLike
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, assert_never, cast
from urllib.parse import urlsplit

from ...errors import ConfigError, ToolError
from ...plans.durations import parse_duration
from ...plans.signature import Effect
from ...plans.values import Json, canonical, digest
from ..context import Context
from ..declaration import ToolOptions, ToolSettings, parsed
from ..failures import ResultRefused
from ..provider import CONTEXT, ProvidedTool, Provider, plain, valid_name
from ..remote.provided import expect_known, keep_answer, make_provided_tool, read_names
from ..tool import Tool
from ..types.schemas import SchemaTypes
from .listing import NOTE_CHARACTERS_MAX, ListedTool, Listing
from .session import McpServer, ServerCall, read_target

if TYPE_CHECKING:
    from mcp.shared.dispatcher import ProgressFnT
    from mcp.types import (
        AudioContent,
        CallToolResult,
        EmbeddedResource,
        ImageContent,
        ResourceLink,
        TextContent,
    )

    from .oauth import OAuthSettings

    Part = TextContent | ImageContent | AudioContent | ResourceLink | EmbeddedResource


TIMEOUT: Final = "5m"  # of one call, unless said otherwise: a server may never answer
CONNECT_TIMEOUT: Final = "30s"
KEY: Final = "firmplan/idempotency-key"  # where a server that knows it finds the key of a write


class McpSettings(ToolSettings, total=False):
    """The keywords of `Toolset.from_mcp` beside the server: where and which, then those of `@tool` for all its tools.

    Attributes:
        only: Names of the tools to take, as the server says them; by default all.
        prefix: Stands before every name.
        overrides: A tool's name at the server -> keywords of `@tool` for it alone, `name` included.
        env: For a command: environment variables beside `PATH`, `HOME` and their like.
        cwd: For a command: the folder in which it is started.
        headers: For an address: sent with every request.
        oauth: For an address that a person has to log in to: `True`, or a table (`OAuthSettings`); first `firmplan tools login ADDRESS`.
        connect_timeout: How long it may take until the server has listed its tools.
    """

    only: Iterable[str] | None
    prefix: str
    overrides: Mapping[str, ToolOptions] | None
    env: Mapping[str, str] | None
    cwd: str | PathLike[str] | None
    headers: Mapping[str, str] | None
    oauth: bool | OAuthSettings | None
    connect_timeout: str | float | timedelta


class RemoteTool:
    """Calls one tool of a server: the function of a tool that is elsewhere.

    Args:
        server: The server; whoever has the tool keeps it.
        listed: The tool as the server listed it.
    """

    def __init__(self, server: McpServer, listed: ListedTool) -> None:
        self.server = server
        self._name = listed.name

    async def __call__(self, /, *, firmplan_context: Context | None = None, **arguments: Json) -> Json:
        """Return the tool's value for its arguments. Raises: as `McpServer.call_tool` and `value_of`."""
        context = firmplan_context
        meta: dict[str, Any] = {}
        if context is not None and context.effect is Effect.WRITE and context.idempotency_key:
            meta[KEY] = context.idempotency_key
        call = ServerCall(self._name, arguments, meta)
        if context is not None:
            call = replace(call, progress=_progress_of(context), answers=context.answers)
        return value_of(await self.server.call_tool(call), context)


def import_tools(server: str | Sequence[str | PathLike[str]], settings: Mapping[str, Any]) -> list[Tool]:
    """Return the tools of a server, by name. `settings` are `McpSettings`.

    Raises:
        ConfigError: The server cannot be reached, its listing cannot be used, or a setting is wrong.
    """
    rest = dict(settings)
    where = {key: rest.pop(key, None) for key in ("env", "cwd", "headers", "oauth")}
    only, prefix = rest.pop("only", None), rest.pop("prefix", "")
    overrides = cast("Mapping[str, ToolOptions]", rest.pop("overrides", None) or {})
    open_s = _seconds(rest.pop("connect_timeout", CONNECT_TIMEOUT))
    if where["oauth"]:
        _check_installed()  # what it says is read with the package
    # The target is read before the package `mcp` is looked for, so that a wrong setting is named first.
    target = read_target(server, **where)
    _check_installed()
    found = McpServer(target, open_s)
    offered = found.list_tools()
    chosen = _chosen(found, offered, only, overrides)
    says = {tool.name: tool.says for tool in offered.tools}
    key = digest(canonical(["mcp", target.identity]))
    provider = Provider("MCP server", offered.name, str(target), key, says)
    made: dict[str, Tool] = {}
    for listed in chosen:
        options = cast("ToolOptions", {**rest, **overrides.get(listed.name, {})})
        name = options.get("name") or valid_name(f"{prefix}{listed.name}")
        tool = _made(found, provider, offered, listed, {**options, "name": name})
        if tool.name in made:
            raise ConfigError(
                f"the MCP server '{offered.name}' has two tools that would be called '{tool.name}'; name one with "
                f'overrides={{{listed.name!r}: {{"name": ".."}}}}'
            )
        made[tool.name] = tool
    return list(made.values())


def _check_installed() -> None:
    if find_spec("mcp") is None:
        raise ConfigError(
            "MCP servers need the package 'mcp', which is not installed: pip install 'firmplan[mcp]'"
        )


def _seconds(value: object) -> float:
    if (seconds := parsed("connect_timeout", parse_duration, value)) <= 0:
        raise ConfigError(f"connect_timeout: expected more than zero, found {value!r}")
    return seconds


def _chosen(
    server: McpServer, offered: Listing, only: Iterable[str] | None, overrides: Mapping[str, ToolOptions]
) -> list[ListedTool]:
    """Return the tools that are wanted. Raises: ConfigError: the server has no tool of a name."""
    known = [tool.name for tool in offered.tools]
    wanted = known if only is None else read_names("only", only)
    expect_known({"only": wanted, "overrides": overrides}, known, f"the MCP server {server}", "tool")
    return [tool for tool in offered.tools if tool.name in wanted]


def _made(
    server: McpServer, provider: Provider, offered: Listing, listed: ListedTool, options: ToolOptions
) -> Tool:
    where = f"tool '{listed.name}' of the MCP server '{offered.name}'"
    types = SchemaTypes(where, listed.parameters, listed.returns, CONTEXT)
    if CONTEXT in cast("dict[str, Json]", types.parameters["properties"]):
        raise ConfigError(f"{where}: an argument is called '{CONTEXT}', which is firmplan's own word")
    # A server that says nothing about effects has made no promise, so that `@tool`'s default (`write`) stands. A
    # server that denies `readOnly` has declared a write.
    effect: ToolOptions = {} if listed.is_read_only is None else {"effect": "write"}
    if listed.is_read_only:
        effect["effect"] = "read"
    settings: ToolOptions = {"trust": "untrusted", "timeout": TIMEOUT, **effect, **options}
    if settings.get("effect", "write") == "write":
        # The promise of the server decides whether a call of unknown outcome is repeated; `overrides` can say otherwise.
        settings.setdefault("idempotent", listed.is_idempotent)
    return make_provided_tool(
        RemoteTool(server, listed),
        ProvidedTool(provider, listed.name, listed.description),
        where=where,
        types=types,
        version=offered.version,
        decides={"mcp": listed.name, "server": server.target.decides},
        settings=settings,
    )


def _progress_of(context: Context) -> ProgressFnT:
    async def tell(progress: float, total: float | None, message: str | None) -> None:
        note = plain(message or "", NOTE_CHARACTERS_MAX)
        if not total:
            # Of how many, the server does not know: the number is a part of the words.
            note = f"{note} ({progress:g})" if note else f"{progress:g}"
        context.progress(progress / total if total else 0.0, note)

    return tell


# Results. A structured result is the value. Without one, the parts of the answer are: one part is the value itself, several parts are a
# list, none is null. Text stays text, even if it looks like JSON. Pictures, sounds and files are artifacts; a link is an object.


ERROR_CHARACTERS_MAX: Final = 2_000  # of a server's message about a failure, which may be any text


def value_of(result: CallToolResult, context: Context | None) -> Json:
    """Return the value of an answer.

    Args:
        result: The answer.
        context: Keeps the bytes of pictures, sounds and files.

    Raises:
        ToolError: The call failed, or bytes came that cannot be read or kept.
        ResultRefused: The same of a write, which is done.
    """
    if result.is_error:
        raise ToolError(_said(result) or "the server says that the call failed, and nothing more")
    try:
        return _taken(result, context)
    except ToolError as error:
        # A write whose answer cannot be used has happened all the same, and must not be repeated.
        if context is None or context.effect is not Effect.WRITE:
            raise
        raise ResultRefused(str(error), code=error.code) from error


def _taken(result: CallToolResult, context: Context | None) -> Json:
    # The text beside a structured result repeats it for people. A server that promises one and gives none has said what it has in the parts.
    if result.structured_content is not None:
        return cast("Json", result.structured_content)
    parts = [_value(part, context) for part in result.content]
    return parts[0] if len(parts) == 1 else parts or None


def _said(result: CallToolResult) -> str:
    texts = [part.text for part in result.content if part.type == "text"]
    return plain(" ".join(texts), ERROR_CHARACTERS_MAX)


def _value(part: Part, context: Context | None) -> Json:
    match part.type:
        case "text":
            return part.text
        case "image" | "audio":
            return _artifact(part.data, part.mime_type, "", context)
        case "resource_link":
            link: dict[str, Json] = {"uri": part.uri, "name": part.name}
            return link | ({"media_type": part.mime_type} if part.mime_type else {})
        case "resource":
            held = part.resource
            if (blob := getattr(held, "blob", None)) is not None:
                return _artifact(blob, held.mime_type, _name(held.uri), context)
            text: dict[str, Json] = {"uri": held.uri, "text": cast("str", getattr(held, "text", ""))}
            return text | ({"media_type": held.mime_type} if held.mime_type else {})
        case _:
            assert_never(part)


def _artifact(data: str, media_type: str | None, name: str, context: Context | None) -> Json:
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ToolError(
            f"the server answers with bytes that are not in base64: {error}", code="bad-result"
        ) from None
    return keep_answer(context, content, media_type, name)


def _name(uri: str) -> str:
    return PurePosixPath(urlsplit(uri).path).name
