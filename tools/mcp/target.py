"""Where an MCP server is: a command that is started here, or an address that is called. And the way to it.

A command is started without a shell, with a small environment (`PATH`, `HOME` and their like) and what `env` adds. An
address is spoken to by streamable HTTP; answers past `MESSAGE_BYTES_MAX` are refused while they come in. What a command
writes to its stderr goes to ours; its stdout is the protocol's.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, TypeAlias, cast
from urllib.parse import urlsplit

from ...errors import ConfigError
from ...plans.values import Json

if TYPE_CHECKING:
    import httpx2

MESSAGE_BYTES_MAX: Final = (
    96 * 1024 * 1024
)  # one answer over HTTP: a value of 64 MiB, and what JSON adds to it
CONNECT_S: Final = 30.0  # to reach an address; how long an answer takes is for the call's timeout


@dataclass(frozen=True, slots=True)
class Command:
    """A server that is started as a child process and spoken to through its stdin and stdout."""

    words: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    cwd: str | None = None

    def __str__(self) -> str:
        # Options may hold secrets; the program, and what it is to run, do not.
        shown = [
            word for word in self.words[:2] if word == self.words[0] or not (word[0] == "-" or "=" in word)
        ]
        return f"'{shlex.join(shown)}{' ..' if len(self.words) > len(shown) else ''}'"

    @property
    def decides(self) -> Json:
        """What of it may decide a result; only ever kept as part of a digest."""
        return {"command": list(self.words), "env": dict(self.env), "cwd": self.cwd}

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Any]:
        """Start it, and yield what comes from it and what goes to it; at the end it is stopped, heeding or not."""
        from mcp.client.stdio import StdioServerParameters, stdio_client  # noqa: PLC0415  # an extra

        parameters = StdioServerParameters(
            command=self.words[0], args=list(self.words[1:]), env=dict(self.env), cwd=self.cwd
        )
        with _stderr() as log:
            async with stdio_client(parameters, errlog=log) as streams:
                yield streams


@dataclass(frozen=True, slots=True)
class Address:
    """A server that is spoken to by streamable HTTP."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def decides(self) -> Json:
        """What of it may decide a result; only ever kept as part of a digest."""
        return {"url": self.url, "headers": dict(self.headers)}

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Any]:
        """Yield what comes from it and what goes to it."""
        import httpx2  # noqa: PLC0415  # only for servers at an address
        from mcp.client.streamable_http import streamable_http_client  # noqa: PLC0415  # an extra

        client = httpx2.AsyncClient(
            # What comes is counted as it comes, so it must not be packed.
            headers={"Accept-Encoding": "identity", **self.headers},
            timeout=httpx2.Timeout(CONNECT_S, read=None),
            event_hooks={"response": [_bound]},
        )
        async with (
            client,
            streamable_http_client(
                self.url, http_client=client, max_sse_event_size=MESSAGE_BYTES_MAX
            ) as streams,
        ):
            yield streams


Target: TypeAlias = Command | Address


def read_target(
    server: object,
    env: Mapping[str, str] | None,
    cwd: str | PathLike[str] | None,
    headers: Mapping[str, str] | None,
) -> Target:
    """Return where a server is. Raises: ConfigError: it is neither a command nor an address, or has settings of the other."""
    if isinstance(server, str) and server.lower().startswith(("http://", "https://")):
        if env is not None or cwd is not None:
            raise ConfigError(f"{Address(server)}: env and cwd are for a server that is started by a command")
        if not urlsplit(server).hostname:
            raise ConfigError(f"expected an address such as https://host/mcp, found {server!r}")
        return Address(server, dict(headers or {}))
    words = _words(server)
    if headers is not None:
        raise ConfigError(
            f"{Command(words)}: headers are for a server at an address; hand secrets to a command with env="
        )
    return Command(words, dict(env or {}), None if cwd is None else os.fspath(cwd))


def _words(server: object) -> tuple[str, ...]:
    """Return the words of a command, or say what is there instead."""
    wanted = 'expected a command such as "python server.py", a list of its words, or an http(s) address'
    if isinstance(server, str):
        try:
            words: Sequence[object] = shlex.split(server)
        except ValueError as fault:
            raise ConfigError(f"{wanted}, found {server!r}: {fault}") from fault
    elif isinstance(server, Sequence):
        words = cast("Sequence[object]", server)
    else:
        raise ConfigError(f"{wanted}, found {server!r}")
    if not words or not all(isinstance(word, str | PathLike) and str(cast("object", word)) for word in words):
        raise ConfigError(f"{wanted}, found {server!r}")
    return tuple(os.fspath(cast("str | PathLike[str]", word)) for word in words)


@contextmanager
def _stderr() -> Generator[TextIO]:
    """Yield our stderr for a child process; where there is none, nowhere."""
    own = sys.__stderr__
    try:
        if own is not None:
            own.fileno()
    except (OSError, ValueError):
        own = None
    if own is not None:
        yield own
        return
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        yield nowhere


async def _bound(response: httpx2.Response) -> None:
    """Bound an answer that comes in one piece; events of a stream are bounded one by one by its reader.

    Raises:
        ConfigError: The server wants to know who asks.
    """
    import httpx2  # noqa: PLC0415  # as above

    if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise ConfigError(
            f"{Address(str(response.request.url))}: the server does not let us in ({response.status_code}); hand over what it "
            'asks for, such as headers={"Authorization": "Bearer .."}'
        )
    if response.headers.get("content-type", "").lower().startswith("text/event-stream"):
        return
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise httpx2.RemoteProtocolError("the answer is compressed, which was not asked for")
    inner = cast("httpx2.AsyncByteStream", response.stream)

    class Bounded(httpx2.AsyncByteStream):
        """The same bytes, as far as the bound."""

        async def __aiter__(self) -> AsyncIterator[bytes]:
            size = 0
            async for part in inner:
                size += len(part)
                if size > MESSAGE_BYTES_MAX:
                    raise httpx2.RemoteProtocolError(f"the answer is larger than {MESSAGE_BYTES_MAX} bytes")
                yield part

        async def aclose(self) -> None:
            await inner.aclose()

    response.stream = Bounded()
