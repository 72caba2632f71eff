"""Tools of an MCP server at an address: streamable HTTP on loopback, by the official package's server."""

from __future__ import annotations

import asyncio
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from firmplan import ConfigError, Engine, Toolset
from mcp_http import Served

SUPPORT = Path(__file__).parents[2] / "support"


def step(name, args=None, **more):
    return {
        "firmplan": 1,
        "steps": [{"id": "a", "tool": name, "args": args or {}, **more}],
        "output": "${a}",
    }


def test_tools_at_an_address_are_called_as_others_are(served):
    """Structured results, texts and failures; many at once; also where an event loop runs already."""

    async def main():
        tools = Toolset.from_mcp(served.url)
        async with Engine(tools=tools, store="memory:") as engine:
            plans = [step("say", {"text": str(number)}) for number in range(20)]
            runs = await asyncio.gather(*(engine.run(plan) for plan in plans))
            weather = await engine.run(step("weather", {"city": "Rome"}))
            failed = await engine.run(step("fail"))
        return [run.output for run in runs], weather.output, failed.status

    said, weather, failed = asyncio.run(main())
    assert said == [str(number) for number in range(20)]
    assert (weather, failed) == ({"celsius": 4.0}, "failed")


def test_a_server_that_was_started_again_is_found(tmp_path):
    """What is called meanwhile is a temporary failure; afterwards the session is a new one."""
    server = Served(SUPPORT / "mcp_server.py", tmp_path)
    tools = Toolset.from_mcp(server.url)
    try:
        with Engine(tools=tools, store="memory:") as engine:
            before = engine.run_sync(step("pid")).output
            server.stop()
            gone = engine.run_sync(step("pid"))
            (error,) = gone.errors
            assert (gone.status, error.temporary) == ("failed", True)
            unsaid = engine.run_sync(step("pay", {"text": "x"}))
            assert (unsaid.status, unsaid.errors[0].temporary) == ("failed", True)
            assert "cannot be reached" in unsaid.errors[0].message
            server.start()
            after = engine.run_sync(step("pid")).output
    finally:
        server.stop()
    assert before != after


def test_an_endless_answer_is_refused_while_it_comes():
    """And of a write nobody knows what became; why is told."""
    server = Served(SUPPORT / "mcp_hostile.py", "huge")
    try:
        with Engine(tools=Toolset.from_mcp(server.url, effect="read"), store="memory:") as engine:
            (error,) = engine.run_sync(step("a")).errors
    finally:
        server.stop()
    assert error.code == "connection-error"
    assert "the answer is larger than" in error.message


def test_nobody_at_the_address():
    """Told with the address, without what stands in it of secrets."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match="cannot be reached") as raised:
            Toolset.from_mcp(f"http://me:word@127.0.0.1:{port}/mcp?key=secret")
    assert "word" not in str(raised.value)
    assert "secret" not in str(raised.value)
    assert f"http://127.0.0.1:{port}/mcp" in str(raised.value)


def test_a_server_that_wants_to_know_who_asks():
    """Which headers to give is told; with them the server is asked as any other."""

    class Closed(BaseHTTPRequestHandler):
        seen: ClassVar[list[str | None]] = []

        def do_POST(self):
            self.seen.append(self.headers["Authorization"])
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Closed) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/mcp"
        with pytest.raises(ConfigError, match=r"does not let us in \(401\).*headers="):
            Toolset.from_mcp(url, headers={"Authorization": "Bearer of a secret"})
        server.shutdown()
    assert set(Closed.seen) == {"Bearer of a secret"}


def test_a_command_has_no_headers_and_an_address_no_environment():
    """Before anything is asked."""
    with pytest.raises(ConfigError, match="env and cwd are for a server that is started"):
        Toolset.from_mcp("http://127.0.0.1:9/mcp", env={"A": "b"})
