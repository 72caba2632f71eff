"""The command that serves firmplan to other programs' models: `mcp`."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options

PANEL = "This machine"
WAIT_S = 45.0
"""Most clients give up on a call after a minute."""


def register(app: typer.Typer) -> None:
    """Add the command to the group."""
    app.command(rich_help_panel=PANEL)(mcp)


def mcp(
    tools: options.Tools = None,
    store: options.Store = None,
    model: options.Model = None,
    base_url: options.BaseUrl = None,
    concurrency: options.Concurrency = None,
    wait: Annotated[
        float,
        typer.Option("--wait", metavar="SECONDS", min=0, help="How long a call waits for a run to end."),
    ] = WAIT_S,
) -> int:
    """Serve firmplan to an MCP client over stdin and stdout. It can check and run plans; each saved plan is a tool."""
    from .mcp_serving import mcp_command

    flags = {"tools": tools, "store": store, "model": model, "base_url": base_url, "concurrency": concurrency}
    return mcp_command(flags, wait)
