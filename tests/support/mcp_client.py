"""`firmplan mcp` in a process of its own, and the end that a client has: its stdin and stdout, or its address."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
from forked import Program
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
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


@contextmanager
def over_http(folder: Path, *words: str, keys: str = "") -> Generator[tuple[Program, str]]:
    """Start `firmplan mcp --http` in a folder; yield the process and the address of its endpoint."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("FIRMPLAN_")}
    env |= {"FIRMPLAN_API_KEYS": keys} if keys else {}
    words = ("-m", "firmplan", "mcp", "--http", "127.0.0.1:0", *words)
    with Program(words, cwd=folder, env=env, stdin=True) as server:
        said = ""
        while "serves MCP at" not in said:
            said = server.stderr.readline()
            assert said, "it has ended"
        yield server, said.split()[-1]


@asynccontextmanager
async def at_address(url: str, *, key: str = "", **options: Any) -> AsyncGenerator[Client]:
    """Yield a client of an MCP server at an address, which sends a bearer key."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(url, http_client=http), cache=None, **options) as client,
    ):
        yield client
