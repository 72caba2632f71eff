"""`firmplan mcp` in a process of its own, and the end of its stdin and stdout that a client has."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from forked import Program
from mcp.server.stdio import stdio_server


def mcp_process(folder: Path, *words: str) -> Program:
    """Start `firmplan mcp` in a folder."""
    return Program(
        ["-m", "firmplan", "mcp", *words],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("FIRMPLAN_")},
        stdin=True,
    )


@asynccontextmanager
async def served(folder: Path, *words: str) -> AsyncGenerator[Any]:
    """Yield what `Client` takes for a server."""
    with mcp_process(folder, *words) as server:
        # Messages are lines in both directions, so the transport of servers is one of clients too.
        async with stdio_server(anyio.wrap_file(server.stdout), anyio.wrap_file(server.stdin)) as streams:
            try:
                yield streams
            finally:
                server.stdin.close()
