"""The MCP server for an open engine, and its transport over stdin and stdout; `http_server.py` has the one over HTTP.

Over stdio one client is served until it leaves, or a signal comes. Only the protocol goes to stdout: the server takes stdout before the
tools are loaded, and whatever they print goes to stderr.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.models import InitializationOptions
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import ListenHandler
from mcp.types import CancelledNotificationParams
from typing_extensions import override

from ...engine import Engine
from ...errors import FirmplanError
from .. import screen
from ..config import Settings
from ..failure import Exit, exit_code, failure_text
from ..invocation import Invocation, drive
from .calls import Context
from .questions import Asker
from .tools import INSTRUCTIONS, Document, Tools

QUESTION_S = 24 * 3600.0
"""Seconds after which the answer to a question that came without a session is not taken any more; the run still waits."""


def serve_stdio(invocation: Invocation, wait_s: float, *, elicits: bool = True) -> int:
    """Serve until the client closes stdin, or a signal comes; runs under way stay resumable.

    Args:
        invocation: The command's settings.
        wait_s: Seconds that a call waits for a run to end.
        elicits: Whether a person is asked through the client.
    """

    async def work() -> int:
        # The transport opens first: it keeps the descriptors of the protocol before a module of tools can print to them.
        async with stdio_server() as (incoming, outgoing):
            try:
                with screen.stdout_for_the_document():
                    _ = invocation.toolset
                    async with (
                        invocation.engine(serves=True) as engine,
                        opened(engine, invocation.settings, wait_s, elicits=elicits) as served,
                    ):
                        server = served.server
                        await server.run(incoming, outgoing, server.create_initialization_options())
            except asyncio.CancelledError:
                # The engine is closed. A thread still reads stdin; nothing wakes it, and a normal exit would wait for it.
                os._exit(Exit.OK)
            except FirmplanError as error:
                screen.note(failure_text(error))
                os._exit(exit_code(error))  # for the same reason
        return Exit.OK

    return drive(work, stopped=Exit.OK)


class PlanServer(Server[Document]):
    """The SDK's server, which says of its tools that they change."""

    @override
    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        options = notification_options or NotificationOptions(tools_changed=True)
        return super().create_initialization_options(options, experimental_capabilities, extensions)


@dataclass(frozen=True, slots=True)
class Opened:
    """A server for an open engine.

    Attributes:
        server: The SDK's server.
        tools: Answers its requests.
        listens: The streams of clients that listen for changes without a session.
    """

    server: PlanServer
    tools: Tools
    listens: ListenHandler


@asynccontextmanager
async def opened(
    engine: Engine,
    settings: Settings,
    wait_s: float,
    *,
    elicits: bool = True,
    key_of: Callable[[Context], str | None] = lambda _: None,
    asker_of: Callable[[Context], Asker | None] = lambda _: None,
) -> AsyncGenerator[Opened]:
    """Yield the server for an open engine, which the caller closes.

    Args:
        engine: The engine that answers.
        settings: For the commands that a person is advised to type.
        wait_s: Seconds that a call waits for a run to end.
        elicits: Whether a person is asked through clients that can do that.
        key_of: Names the key of a request, to which the state of a question belongs; `None`: it has none.
        asker_of: As of `Tools`.
    """
    tools = Tools(engine, settings, wait_s, elicits=elicits, asker_of=asker_of)
    listens = ListenHandler(tools.plans.bus)
    server = PlanServer(
        "firmplan",
        version=version("firmplan"),
        instructions=INSTRUCTIONS,
        on_list_tools=tools.on_list,
        on_call_tool=tools.on_call,
        on_subscriptions_listen=listens,
        # No schema here asks for an argument in a header, so that the SDK need not list all tools before each call.
        get_tool_input_schema=lambda _name: None,
    )
    server.add_notification_handler(
        "notifications/cancelled", CancelledNotificationParams, tools.calls.on_cancelled
    )
    # A client returns the state of a question; sealed, it can be no other than it got.
    security = RequestStateSecurity.ephemeral(ttl=QUESTION_S)
    security.bind_principal = key_of
    server.middleware.append(RequestStateBoundary(security, default_audience="firmplan"))
    watching = asyncio.create_task(tools.plans.watch(), name="firmplan mcp saved plans")
    try:
        yield Opened(server, tools, listens)
    finally:
        tools.calls.closing.set()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await tools.calls.close()
