"""`McpServer`: one MCP server, with one session that all calls of all runs of this process share.

All sessions of a process live on one event loop, on a thread of its own, so that engines on any loop share them. A session is opened
when it is first needed, opened again when it has died, and closed when the last engine that holds its server closes, when no tool of
the server is left, or when the process ends.

- A call that could not be handed to a dead session is handed to a new one.
- A call that was in progress when its session died is not repeated, since the server may have received it.
- A tool that has changed since it was loaded is not called. The list is read again in each new session, and whenever the server says that
  it has changed.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import shlex
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TextIO, TypeAlias, cast
from urllib.parse import urlsplit

from ...errors import ConfigError, FirmplanError, ToolError
from ...plans.values import Json
from ..background import Background
from ..background import call as wait_for
from ..logbook import open_log
from ..provider import SAID_CHARACTERS_MAX, is_address, plain, plain_error
from ..remote.active_trace import trace_headers
from ..remote.web_page import is_page, login_fault, page_fault, shown_address
from .listing import Listing, changed, read_listing
from .questions import SessionQuestions, asked_by, responses_of

if TYPE_CHECKING:
    import httpx2
    from mcp import Client, MCPError
    from mcp.shared.dispatcher import ProgressFnT
    from mcp.types import CallToolResult

    from .oauth import OAuth


CLOSE_S: Final = 8.0  # the transport kills a server that does not heed after half of it
STATE_ROUNDS_MAX: Final = 20  # how often a server may want a call again without a question
STATE_PAUSE_S: Final = 0.25
RELIST_S: Final = 1.0  # at most so often the list is read again because the server says that it has changed
RELISTEN_S: Final = 1.0  # until the stream for notices is asked for again
RELISTEN_S_MAX: Final = 300.0
GONE: Final = "Session terminated"  # what the transport says where a server no longer knows the session


@dataclass(frozen=True, slots=True)
class ServerCall:
    """One call of a tool of a server.

    Attributes:
        name: The name of the tool at the server.
        meta: Sent as `_meta`, such as an idempotency key.
        progress: Called with the progress that the server reports.
        answers: What a person answered to the questions of earlier attempts (`Context.answers`).
    """

    name: str
    arguments: dict[str, Json]
    meta: dict[str, Any]
    progress: ProgressFnT | None = None
    answers: Sequence[Json] = ()


class McpServer:
    """One server. May be used from any thread and any event loop.

    Args:
        target: Where it is.
        open_s: How long it may take until it has listed its tools.
    """

    def __init__(self, target: Target, open_s: float) -> None:
        self._sessions = _Sessions(target, open_s)
        self._holders = 0
        self._lock = threading.Lock()
        # The tools hold the server. When the last of them is collected, its session is closed; at exit `_close_all`
        # does it, which waits.
        weakref.finalize(self, self._sessions.close_soon).atexit = False

    def __str__(self) -> str:
        return str(self._sessions.target)

    @property
    def target(self) -> Target:
        """Where it is."""
        return self._sessions.target

    def list_tools(self) -> Listing:
        """Return the listing of the first session; waits for it. Raises: ConfigError: it cannot be reached."""
        loop = _loop()
        try:
            return wait_for(loop, self._sessions.listed())
        except FirmplanError as error:
            raise ConfigError(str(error)) from error

    async def call_tool(self, call: ServerCall) -> CallToolResult:
        """Return its answer to a call. A cancel is passed on to the server.

        Raises:
            QuestionRaised: The server asks something of a person before it does anything.
            ToolError: It was not called, or says that it does not do such calls; temporary where it cannot be reached.
            ConnectionError: The connection broke, or the reply was no answer to a call: the server may have received the call.
        """
        asked = asyncio.run_coroutine_threadsafe(self._sessions.call(call), _loop())
        return await asyncio.wrap_future(asked)

    def hold(self) -> None:
        """Keep the session open until `release` was called as often as `hold`."""
        with self._lock:
            self._holders += 1

    async def release(self) -> None:
        """Undo one `hold`; the last release closes the session and waits until it is closed."""
        with self._lock:
            self._holders -= 1
            is_last = self._holders == 0
        if is_last and self._sessions.is_open:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._sessions.close(), _loop()))


@dataclass(eq=False)
class _Sessions:
    """The sessions of one server, one after the other. All but `close_soon` runs on the loop of all sessions."""

    target: Target
    open_s: float
    _session: _Session | None = None
    _first: Listing | None = None
    _changed: frozenset[str] = frozenset()
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    _is_stale: bool = False
    _relisting: asyncio.Lock = field(default_factory=asyncio.Lock)
    _watching: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        return self._session is not None

    async def listed(self) -> Listing:
        await self._connected()
        return cast("Listing", self._first)

    async def call(self, call: ServerCall) -> CallToolResult:
        from mcp import MCPError  # noqa: PLC0415  # an extra
        from pydantic import ValidationError  # noqa: PLC0415  # loaded with it

        # A server that was restarted does not know the session. It says so before it hears the call, so that one
        # further try is safe.
        for is_second in (False, True):
            session = await self._connected()
            await self._relist(session)
            if call.name in self._changed:
                raise ToolError(
                    f"the MCP server {self.target} has changed its tool '{call.name}' since it was loaded; load it again, and accept the "
                    "change if it is one that you want: firmplan tools accept shows the difference"
                )
            try:
                return await session.call(call)
            except MCPError as error:
                if error.message == GONE and not is_second:
                    await self.close()  # the server refused it unheard
                    continue
                raise await self._meaning(session, error) from error
            except ValidationError as error:
                raise ConnectionError(
                    f"the MCP server {self.target} answers with something that is no result of a call"
                ) from error
        raise ConnectionError(f"the MCP server {self.target} ends its sessions immediately")

    async def _meaning(self, session: _Session, error: MCPError) -> Exception:
        """Return the exception for an error in place of an answer: a refused call did nothing, of others nobody knows."""
        from mcp.types import (  # noqa: PLC0415  # an extra
            CONNECTION_CLOSED,
            INVALID_PARAMS,
            METHOD_NOT_FOUND,
            REQUEST_TIMEOUT,
        )

        said = plain(error.message, SAID_CHARACTERS_MAX)
        if error.code in (INVALID_PARAMS, METHOD_NOT_FOUND):
            return ToolError(f"the MCP server {self.target} refuses the call: {said}")
        if error.code == REQUEST_TIMEOUT:
            return TimeoutError(f"the MCP server {self.target}: {said}")
        if error.code == CONNECTION_CLOSED and (why := await session.wait_why()):
            said = f"{said}: {why}"
        return ConnectionError(f"the MCP server {self.target}: {said} (error {error.code})")

    async def _connected(self) -> _Session:
        """Return the living session, or open a new one. Raises: ToolError: the server cannot be reached."""
        async with self._opening:
            if self._session is not None and not self._session.is_over:
                return self._session
            # Under the lock: two concurrent calls must not open two sessions.
            await self.close()
            session = _Session(self.target, self._note_change)
            try:
                async with asyncio.timeout(self.open_s):
                    listing = await session.open()
            except BaseException as error:
                await session.close()
                if not isinstance(error, Exception):
                    raise
                raise _unreachable(self.target, error, self.open_s) from error
            self._session = session
            _servers.add(self)
            # Tools are compared with the first listing, from which they were made, and not with the last one.
            self._first = self._first or listing
            self._changed = changed(self._first.tools, listing.tools)
            self._is_stale = False
            return session

    def _note_change(self) -> None:
        """Have the list read again: before the next call, or soon, so that the log tells of a change though nothing is called."""
        self._is_stale = True
        if self._watching is None or self._watching.done():
            self._watching = asyncio.get_running_loop().create_task(
                self._relist_soon(), name="firmplan mcp list"
            )

    async def _relist_soon(self) -> None:
        while self._is_stale and (session := self._session) is not None and not session.is_over:
            # A server that says it without end is asked at this pace only.
            await asyncio.sleep(RELIST_S)
            try:
                await self._relist(session)
            except FirmplanError as error:
                open_log().warning("tools unknown", server=str(self.target), error=error.message)
                return  # the next call reads the list, and fails with it

    async def _relist(self, session: _Session) -> None:
        """Read the list again if the server has said that it changed. Raises: ToolError: it cannot be read."""
        async with self._relisting:
            if not self._is_stale:
                return
            self._is_stale = False
            try:
                async with asyncio.timeout(self.open_s):
                    listing = await session.list_tools()
            except Exception as error:
                # Nobody knows which tools have changed, so that none is called.
                self._is_stale = True
                raise ToolError(
                    f"the MCP server {self.target} says that its tools have changed, and does not list them: {plain_error(innermost(error))}",
                    temporary=True,
                ) from error
            first = cast("Listing", self._first).tools
            self._changed = changed(first, listing.tools)
            if told := sorted(self._changed | changed(listing.tools, first)):
                open_log().warning("tools changed", server=listing.name, place=str(self.target), tools=told)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def close_soon(self) -> None:
        if self._session is not None and (running := _running_loop()) is not None:
            asyncio.run_coroutine_threadsafe(self.close(), running)


class _Session:
    """One connection. It lives in a task of its own: a transport must end in the task in which it began."""

    def __init__(self, target: Target, on_change: Callable[[], None]) -> None:
        self._target = target
        self._on_change = on_change
        self._questions = SessionQuestions(str(target))
        self._ending = asyncio.Event()
        self._opened: asyncio.Future[tuple[Client, Listing]] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None
        self._why = ""

    @property
    def is_over(self) -> bool:
        """Whether no call can be handed to it any more."""
        return self._ending.is_set() or self._task is None or self._task.done()

    async def open(self) -> Listing:
        self._task = asyncio.get_running_loop().create_task(self._live(), name=f"firmplan mcp {self._target}")
        _, listing = await asyncio.shield(self._opened)
        return listing

    async def call(self, call: ServerCall) -> CallToolResult:
        from mcp.types import CallToolRequest, CallToolRequestParams, CallToolResult, InputRequiredResult  # noqa: PLC0415  # an extra
        from pydantic import TypeAdapter  # noqa: PLC0415  # loaded with it

        client, _ = self._opened.result()
        adapter: TypeAdapter[CallToolResult | InputRequiredResult] = TypeAdapter(
            CallToolResult | InputRequiredResult
        )
        given: dict[str, Any] = {
            "name": call.name,
            "arguments": call.arguments,
            "_meta": call.meta or None,
            **responses_of(call.answers),
        }

        async def send() -> CallToolResult | InputRequiredResult:
            # Not `client.call_tool`: it judges results itself, and a write with an unfit result has taken effect all the same.
            request = CallToolRequest(params=CallToolRequestParams.model_validate(given))
            return await client.session.send_request(request, adapter, progress_callback=call.progress)

        for _ in range(STATE_ROUNDS_MAX):
            answer = await self._questions.during(send, call.answers)
            if isinstance(answer, CallToolResult):
                return answer
            if answer.input_requests:
                raise asked_by(str(self._target), answer)
            # A state without a question: the server wants the call again with it, a moment later.
            given |= {"requestState": answer.request_state, "inputResponses": None}
            await asyncio.sleep(STATE_PAUSE_S)
        raise ToolError(f"the MCP server {self._target} asks for the call again and again", temporary=True)

    async def list_tools(self) -> Listing:
        """Return the tools as the server lists them now."""
        client, _ = self._opened.result()
        return await read_listing(client)

    async def wait_why(self) -> str:
        """Return why the session broke, once that is known; empty where it only ended."""
        if self._task is not None and self._ending.is_set():
            await asyncio.wait([self._task], timeout=CLOSE_S)
        return self._why

    async def close(self) -> None:
        self._ending.set()
        if self._task is None:
            return
        if not self._opened.done():
            self._task.cancel()
        await asyncio.wait([self._task], timeout=CLOSE_S)
        if not self._task.done():
            self._task.cancel()
            open_log().warning("an MCP server does not end", server=str(self._target))

    async def _live(self) -> None:
        from mcp import Client  # noqa: PLC0415  # an extra
        from mcp.types import Implementation  # noqa: PLC0415  # an extra

        known = Implementation(name="firmplan", version=version("firmplan"))
        # anyio's task groups have to end in the task that began them, so that one task opens, waits and closes.
        try:
            async with Client(
                _watched(self._target, self._ending),
                client_info=known,
                cache=None,
                message_handler=self._hear,
                elicitation_callback=self._questions.ask,
            ) as client:
                self._opened.set_result((client, await read_listing(client)))
                listening = asyncio.get_running_loop().create_task(self._listen(client))
                try:
                    await self._ending.wait()
                finally:
                    listening.cancel()
                    await asyncio.gather(listening, return_exceptions=True)
        except BaseException as error:
            if not self._opened.done():
                self._opened.set_exception(innermost(error))
                self._opened.exception()  # retrieved: `open` raises it
            else:
                self._why = plain_error(innermost(error))
            if not isinstance(error, Exception):
                raise
        finally:
            self._ending.set()

    async def _hear(self, message: object) -> None:
        """Hear a notification of a server that has sessions."""
        from mcp.types import ToolListChangedNotification  # noqa: PLC0415  # an extra

        if isinstance(message, ToolListChangedNotification):
            self._on_change()

    async def _listen(self, client: Client) -> None:
        """Listen to a server that has no sessions: by the protocol of 2026-07-28 it sends notices on a stream that is asked for."""
        from mcp.client.subscriptions import ListenNotSupportedError  # noqa: PLC0415  # an extra

        said = client.server_capabilities.tools
        if said is None or not said.list_changed:
            return
        pause_s = RELISTEN_S
        while True:
            try:
                async with client.listen(tools_list_changed=True) as notices:
                    pause_s = RELISTEN_S
                    async for _ in notices:
                        self._on_change()
            except ListenNotSupportedError:
                return
            except Exception as error:  # noqa: BLE001  # whatever ends the stream, calls go on without it
                open_log().info(
                    "an MCP server ends its notices", server=str(self._target), error=plain_error(error)
                )
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RELISTEN_S_MAX)
            self._on_change()  # a notice may have been missed


@asynccontextmanager
async def _watched(target: Target, ended: asyncio.Event) -> AsyncGenerator[Any]:
    """Yield the streams of a connection; set `ended` when nothing more comes."""
    async with target.connect() as (incoming, outgoing):
        yield _Watched(incoming, ended), outgoing


class _Watched:
    """A stream that sets an event when it has ended."""

    def __init__(self, inner: Any, ended: asyncio.Event) -> None:  # noqa: ANN401  # any of the transports' streams
        self._inner = inner
        self._ended = ended

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # `receive`, `aclose`, `last_context`: the inner stream's
        return getattr(self._inner, name)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:  # noqa: ANN401  # as above
        try:
            return await self._inner.__anext__()
        except BaseException:
            self._ended.set()
            raise

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._ended.set()
        return cast("bool | None", await self._inner.__aexit__(kind, error, trace))


# The meaning of errors.


def _unreachable(target: Target, error: Exception, open_s: float) -> FirmplanError:
    if isinstance(error, ConfigError):
        return error
    why = f"nothing within {open_s:g} s" if isinstance(error, TimeoutError) else plain_error(error)
    return ToolError(f"the MCP server {target} cannot be reached: {why}", temporary=True)


def innermost(error: BaseException) -> BaseException:
    """Return the error that task groups have bundled."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error


# The loop of all sessions.

_servers: weakref.WeakSet[_Sessions] = weakref.WeakSet()
_background: tuple[int, Background] | None = None
_starting = threading.Lock()


def _loop() -> asyncio.AbstractEventLoop:
    """Return the loop on which all sessions of this process live."""
    global _background  # noqa: PLW0603  # one a process
    with _starting:
        if (running := _running_loop()) is not None:
            return running
        _servers.clear()  # those of the process that this one was forked from
        _background = os.getpid(), Background()
        atexit.register(_close_all)
        return _background[1].loop


def _running_loop() -> asyncio.AbstractEventLoop | None:
    return _background[1].loop if _background is not None and _background[0] == os.getpid() else None


def _close_all() -> None:
    """Close all open sessions when the process ends, so that no server outlives it."""
    loop = _running_loop()
    if loop is not None and any(each.is_open for each in _servers):
        with suppress(Exception):
            asyncio.run_coroutine_threadsafe(_closed(list(_servers)), loop).result(CLOSE_S + 1)


async def _closed(servers: Iterable[_Sessions]) -> None:
    await asyncio.gather(*(each.close() for each in servers), return_exceptions=True)


# Targets: a server is a command that is started here, or an address.
#
# A command is started without a shell, with a small environment (`PATH`, `HOME` and the like) and the variables of `env`. Its stderr is
# ours, and its stdout belongs to the protocol. An address is spoken to by streamable HTTP; an answer past `MESSAGE_BYTES_MAX` is refused
# while it comes in.


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
        # Options may hold secrets; the program and its first argument do not.
        shown = [
            word for word in self.words[:2] if word == self.words[0] or not (word[0] == "-" or "=" in word)
        ]
        return f"'{shlex.join(shown)}{' ..' if len(self.words) > len(shown) else ''}'"

    @property
    def decides(self) -> Json:
        """The parts that may decide a result; stored only inside a digest, since they may hold secrets."""
        return {"command": list(self.words), "env": dict(self.env), "cwd": self.cwd}

    @property
    def identity(self) -> Json:
        """The parts that say which server it is, without its environment, which may change while the server is the same."""
        return {"command": list(self.words), "cwd": self.cwd}

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Any]:
        """Start the command and yield its two streams. At the end it is stopped, and killed if it does not heed."""
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
    oauth: OAuth | None = None
    auth: Callable[[], httpx2.Auth] | None = None  # in the place of the kept tokens: the login of a person

    def __str__(self) -> str:
        return shown_address(self.url)

    @property
    def decides(self) -> Json:
        """The parts that may decide a result; stored only inside a digest, since they may hold secrets."""
        made: dict[str, Json] = {"url": self.url, "headers": dict(self.headers)}
        return made if self.oauth is None else {**made, "oauth": self.oauth.decides}

    @property
    def identity(self) -> Json:
        """The parts that say which server it is, without its headers and password, which may change while the server is the same."""
        parts = urlsplit(self.url)
        return {"url": parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()}

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Any]:
        """Yield the two streams of a connection."""
        import httpx2  # noqa: PLC0415  # only for servers at an address
        from mcp.client.streamable_http import streamable_http_client  # noqa: PLC0415  # an extra

        client = httpx2.AsyncClient(
            # The bound counts bytes as they come, so that they must not be compressed.
            headers={"Accept-Encoding": "identity", **self.headers},
            timeout=httpx2.Timeout(CONNECT_S, read=None),
            event_hooks={
                "request": [_add_trace],
                "response": [_bound if self.oauth is None else _bound_in_login],
            },
            auth=self._auth(),
        )
        async with (
            client,
            streamable_http_client(
                self.url, http_client=client, max_sse_event_size=MESSAGE_BYTES_MAX
            ) as streams,
        ):
            yield streams

    def _auth(self) -> httpx2.Auth | None:
        """Return the login. Raises: ConfigError: a person has to log in first."""
        if self.oauth is None or self.auth is not None:
            return None if self.auth is None else self.auth()
        from .oauth import Login, expect_login  # noqa: PLC0415  # only for servers with a login

        expect_login(self.url, self.oauth)
        return Login(self.url, self.oauth)


Target: TypeAlias = Command | Address


def read_target(
    server: object,
    env: Mapping[str, str] | None,
    cwd: str | PathLike[str] | None,
    headers: Mapping[str, str] | None,
    oauth: object = None,
) -> Target:
    """Return the target of a server.

    Args:
        server: A command, its words, or an address.
        env: For a command: variables of its environment.
        cwd: For a command: its folder.
        headers: For an address: sent with every request.
        oauth: For an address: `True`, or `OAuthSettings`.

    Raises:
        ConfigError: It is neither a command nor an address, or has settings of the other kind.
    """
    if isinstance(server, str) and is_address(server):
        if env is not None or cwd is not None:
            raise ConfigError(f"{Address(server)}: env and cwd are for a server that is started by a command")
        if not urlsplit(server).hostname:
            raise ConfigError(f"expected an address such as https://host/mcp, found {server!r}")
        return Address(server, dict(headers or {}), _oauth(oauth))
    words = _words(server)
    if oauth:
        raise ConfigError(f"{Command(words)}: oauth is for a server at an address")
    if headers is not None:
        raise ConfigError(
            f"{Command(words)}: headers are for a server at an address; hand secrets to a command with env="
        )
    return Command(words, dict(env or {}), None if cwd is None else os.fspath(cwd))


def _oauth(given: object) -> OAuth | None:
    """Read `oauth=`. Raises: ConfigError: it is none, or the package `mcp` is not installed."""
    if not given:
        return None
    from .oauth import OAuth  # noqa: PLC0415  # only for servers with a login

    return OAuth.of(given)


def _words(server: object) -> tuple[str, ...]:
    """Return the words of a command. Raises: ConfigError: it is none."""
    wanted = 'expected a command such as "python server.py", a list of its words, or an http(s) address'
    if isinstance(server, str):
        try:
            words: Sequence[object] = shlex.split(server)
        except ValueError as error:
            raise ConfigError(f"{wanted}, found {server!r}: {error}") from error
    elif isinstance(server, Sequence):
        words = cast("Sequence[object]", server)
    else:
        raise ConfigError(f"{wanted}, found {server!r}")
    if not words or not all(isinstance(word, str | PathLike) and str(cast("object", word)) for word in words):
        raise ConfigError(f"{wanted}, found {server!r}")
    return tuple(os.fspath(cast("str | PathLike[str]", word)) for word in words)


@contextmanager
def _stderr() -> Generator[TextIO]:
    """Yield our stderr for a child process, or the null device where there is none."""
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


async def _add_trace(request: httpx2.Request) -> None:
    """Name the active trace in the header as well: the SDK names it in the message, where gateways do not look."""
    # The transport sends a message in the context of the call that it is from.
    request.headers.update(trace_headers())


async def _bound(response: httpx2.Response) -> None:
    """Bound an answer in one piece; the reader of a stream bounds its events one by one.

    Raises:
        ConfigError: The server wants to know who asks.
    """
    await _expect_server(response)
    if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise ConfigError(
            f"{Address(str(response.request.url))}: the server does not let us in ({response.status_code}); hand over what it "
            'asks for, such as headers={"Authorization": "Bearer .."}, or log in: oauth=True'
        )
    await _bound_body(response)


async def _expect_server(response: httpx2.Response) -> None:
    """Raise if a proxy, or the login of a network, answers in the place of the server. Raises: ConfigError."""
    asked = str(response.request.url)
    if is_page(response.status_code, response.headers) and "www-authenticate" not in response.headers:
        await _bound_body(response)
        raise ConfigError(f"{Address(asked)}: {page_fault(str(response.url), await response.aread())}")
    if (to := response.headers.get("location")) and response.is_redirect:
        fault = login_fault(asked, to)
        if fault is not None:
            raise ConfigError(f"{Address(asked)}: {fault}")


async def _bound_in_login(response: httpx2.Response) -> None:
    """Bound an answer of a server, or of the server of its login; a refusal is for the login to deal with."""
    if response.status_code == HTTPStatus.FORBIDDEN and "insufficient_scope" not in response.headers.get(
        "www-authenticate", ""
    ):
        raise ConfigError(f"{Address(str(response.request.url))}: the login does not allow this (403)")
    await _bound_body(response)


async def _bound_body(response: httpx2.Response) -> None:
    import httpx2  # noqa: PLC0415  # as above

    from ..remote.http_client import BoundedBody  # noqa: PLC0415  # loads httpx

    if response.headers.get("content-type", "").lower().startswith("text/event-stream"):
        return
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise httpx2.RemoteProtocolError("the answer is compressed, which was not asked for")
    error = httpx2.RemoteProtocolError(f"the answer is larger than {MESSAGE_BYTES_MAX} bytes")
    response.stream = BoundedBody(response.stream, MESSAGE_BYTES_MAX, error)
