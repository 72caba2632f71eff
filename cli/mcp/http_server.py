"""`firmplan mcp --http`: the MCP server over streamable HTTP; needs the extra `firmplan[server]` too.

The checks of `firmplan serve` stand before each request: host, origin, key, rate and size. A session, and the state of a question, belong
to the key with which they were made. The server ends with a signal; runs under way stay resumable.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from sse_starlette.sse import AppStatus
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ...service.app import LOOPBACK_NAMES, check_exposure, serve_app
from ...service.auth import CLIENT, Guard, ServerLimits
from ...service.callers import CALLER, SERVER, Caller, KeyRing
from ..failure import Exit
from ..invocation import Invocation, drive
from .calls import Context
from .questions import Asker
from .transports import Opened, opened

PATH: Final = "/mcp"
ANSWERS_S: Final = 5.0
"""Seconds in which calls that wait for runs get their answers when the server stops."""
WRITING_S: Final = 5.0
"""Seconds for the last answers to be written, however busy the machine is; the server stops as soon as they are."""


def serve_http(  # the settings of a server
    invocation: Invocation,
    host: str,
    port: int,
    wait_s: float,
    *,
    api_keys: Sequence[str],
    limits: ServerLimits,
    on_bound: Callable[[str], None],
    elicits: bool = True,
) -> int:
    """Serve until SIGINT or SIGTERM; runs under way stay resumable.

    Args:
        invocation: The command's settings.
        host: The interface; anything but loopback needs API keys.
        port: The port; 0 takes a free one.
        wait_s: Seconds that a call waits for a run to end.
        api_keys: Bearer keys that are accepted.
        limits: Body size and rate.
        on_bound: Called with the endpoint's URL once clients can connect.
        elicits: Whether a person is asked through the client.

    Raises:
        ConfigError: No keys for a public interface, or the address cannot be bound.
    """
    check_exposure(host, has_keys=bool(api_keys))
    hosts = () if api_keys else (*LOOPBACK_NAMES, host)

    # The library of the SDK's streams would cut them half a second after the signal, with answers that are not written yet. Ours end with the sessions.
    AppStatus.enable_automatic_graceful_drain = False

    async def work() -> int:
        _ = invocation.toolset
        async with (
            invocation.engine(recover=True, serves=True) as engine,
            opened(
                engine, invocation.settings, wait_s, elicits=elicits, key_of=_key_of, asker_of=_asker_of
            ) as served,
        ):
            manager = StreamableHTTPSessionManager(served.server, max_request_body_size=limits.body_bytes)
            # The SDK refuses a body that is too large in the words of its protocol, so that the guard counts none.
            answers = _Answers(Starlette(routes=[Route(PATH, StreamableHTTPASGIApp(manager))]))
            guarded = Guard(
                _Owned(answers),
                keys=KeyRing(engine, api_keys),
                # The tools of MCP know no tenants, and can do everything.
                scope=SERVER,
                hosts=hosts,
                limits=replace(limits, body_bytes=sys.maxsize),
            )
            sessions = asyncio.create_task(
                _keep_sessions(manager, served, answers), name="firmplan mcp sessions"
            )
            try:
                await serve_app(
                    guarded,
                    host=host,
                    port=port,
                    closing=served.tools.calls.closing,
                    draining=asyncio.Event(),
                    on_bound=lambda url: on_bound(f"{url}{PATH}"),
                )
            finally:
                served.tools.calls.closing.set()
                await asyncio.gather(sessions, return_exceptions=True)
        return Exit.OK

    return drive(work, stopped=Exit.OK)


async def _keep_sessions(manager: StreamableHTTPSessionManager, served: Opened, answers: _Answers) -> None:
    """Keep the sessions open until the server stops; then end them, since a client's stream for notices does not end by itself."""
    calls = served.tools.calls
    async with manager.run():
        await calls.closing.wait()
        served.listens.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWERS_S):
                await calls.answered()
        # The SDK does not say when an answer has been written, and ending the session before that would lose it.
        with suppress(TimeoutError):
            async with asyncio.timeout(WRITING_S):
                await answers.written()


class _Answers:
    """ASGI middleware that knows whether clients still receive answers. What they listen to with GET has no end, and does not count."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open = 0
        self._none_open = asyncio.Event()
        self._none_open.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") != "POST":
            await self._app(scope, receive, send)
            return
        self._open += 1
        self._none_open.clear()
        try:
            await self._app(scope, receive, send)
        finally:
            self._open -= 1
            if not self._open:
                self._none_open.set()

    async def written(self) -> None:
        """Wait until no POST is being answered."""
        await self._none_open.wait()


class _Owned:
    """ASGI middleware that tells the SDK whose key a request has, so that a session can be used with the key alone that opened it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (client := scope.get(CLIENT)):
            scope["user"] = AuthenticatedUser(AccessToken(token="", client_id=client, scopes=[]))
        await self._app(scope, receive, send)


def _key_of(context: Context) -> str | None:
    """Return what tells the clients apart by their keys; `None` where there are no keys."""
    return None if context.request is None else context.request.scope.get(CLIENT) or None


def _asker_of(context: Context) -> Asker | None:
    """Return who calls, if the key has a name: the name restricts its rights, also where it answers for its user."""
    caller: Caller | None = None if context.request is None else context.request.scope.get(CALLER)
    if caller is None or caller.name is None or caller.submitter is None:
        return None
    return Asker(caller.name, caller.submitter)
