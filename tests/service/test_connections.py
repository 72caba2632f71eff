"""Connections that say half a request, on real sockets: each is closed, and the server goes on."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from firmplan import ConfigError, Engine, tool
from firmplan.service import app as service_app
from firmplan.service import auth, connections
from firmplan.service.app import serve

BODY = json.dumps({"plan": {"firmplan": 1, "steps": [{"id": "x", "set": 1}]}}).encode()
HEAD = b"POST /v1/runs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@tool(effect="pure")
def add(a: int) -> int:
    """Add one."""
    return a + 1


class Stoppable(service_app._Server):
    """A server that a test can stop without a signal."""

    last = None

    def __init__(self, *given):
        super().__init__(*given)
        Stoppable.last = self


@asynccontextmanager
async def serving(monkeypatch, **options):
    """The port of a server."""
    monkeypatch.setattr(service_app, "_Server", Stoppable)
    async with Engine([add], store="memory:") as engine:
        bound = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(serve(engine, port=0, on_bound=bound.set_result, drain_s=0, **options))
        await asyncio.wait((bound, task), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        try:
            yield int(bound.result().rpartition(":")[2])
        finally:
            Stoppable.last.should_exit = True
            await task


async def said(port, *parts, pause_s=0.0):
    """Return everything that the server answers until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def test_a_connection_without_a_complete_head_is_closed(monkeypatch):
    """Nothing at all, a part of the first line, a head without an end, one that comes byte by byte, and a second request that stays half."""
    monkeypatch.setattr(connections, "HEAD_S_MAX", 0.5)

    async def main():
        async with serving(monkeypatch) as port:
            assert await said(port) == b""
            for begun in (
                b"G",
                b"GET /healthz HTTP/1.1\r\n",
                b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-a: b\r\n",
            ):
                assert (await said(port, begun)).startswith(b"HTTP/1.1 408 "), begun
            slow = [bytes([each]) for each in b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 200]
            assert (await said(port, *slow, pause_s=0.02))[:12] in (b"", b"HTTP/1.1 408")
            whole = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
            twice = await said(port, whole, b"GET /hea", pause_s=0.1)
            assert twice.startswith(b"HTTP/1.1 200 ")
            assert twice.count(b"HTTP/1.1") == 1
            # Two in order, with a pause that is shorter than the limit, are answered.
            kept = await said(
                port, whole, whole[:10], whole[10:-2] + b"connection: close\r\n\r\n", pause_s=0.1
            )
            assert kept.count(b"HTTP/1.1 200 ") == 2

    asyncio.run(main())


def test_a_head_without_an_end_is_closed_by_its_size(monkeypatch):
    """However fast it comes."""
    monkeypatch.setattr(connections, "HEAD_S_MAX", 60.0)

    async def main():
        async with serving(monkeypatch) as port:
            lines = b"".join(b"x-%d: y\r\n" % number for number in range(20_000))
            answer = await said(port, b"GET / HTTP/1.1\r\nhost: localhost\r\n" + lines)
            assert answer[:12] in (b"", b"HTTP/1.1 431", b"HTTP/1.1 400")

    asyncio.run(main())


def test_an_idle_connection_is_kept_for_longer_than_clients_keep_theirs(monkeypatch):
    """A load balancer keeps it for 60 seconds; the server closes it at its own limit, and not before."""
    assert connections.IDLE_S_MAX > 60
    monkeypatch.setattr(connections, "IDLE_S_MAX", 0.1)

    async def main():
        async with serving(monkeypatch) as port:
            answer = await said(port, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 ")

    asyncio.run(main())


def test_half_a_body_is_answered_and_closed(monkeypatch):
    """408, with the connection closed after it; a body that is slow, and complete in time, is taken."""
    monkeypatch.setattr(auth, "BODY_S_MAX", 0.5)

    async def main():
        async with serving(monkeypatch) as port:
            length = b"content-length: %d\r\n\r\n" % len(BODY)
            for begun in (b"", BODY[:5]):
                answer = await said(port, HEAD + length + begun)
                assert answer.startswith(b"HTTP/1.1 408 ")
                assert b"connection: close" in answer.lower()
                assert b'"code":"body-too-slow"' in answer
            chunked = HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\n" + BODY[:5] + b"\r\n"
            assert (await said(port, chunked)).startswith(b"HTTP/1.1 408 ")
            drip = [HEAD + length, *(bytes([each]) for each in BODY)]
            assert (await said(port, *drip, pause_s=0.05))[:12] in (b"", b"HTTP/1.1 408")
            close = HEAD + b"connection: close\r\n" + length
            taken = await said(port, close, BODY[:20], BODY[20:], pause_s=0.05)
            assert taken.startswith(b"HTTP/1.1 202 ")

    asyncio.run(main())


def test_a_refused_request_with_half_a_body_is_closed(monkeypatch):
    """The refusal comes, and the rest of the body is not waited for."""
    monkeypatch.setattr(auth, "DROPPED_S_MAX", 0.2)

    async def main():
        async with serving(monkeypatch, api_keys=("secret",)) as port:
            answer = await said(port, HEAD + b"content-length: 100\r\n\r\nhalf")
            assert answer.startswith(b"HTTP/1.1 401 ")
            assert b"connection: close" in answer.lower()

    asyncio.run(main())


def test_a_rest_that_drips_after_the_answer_is_cut(monkeypatch):
    """A route that refuses before it reads leaves the rest of the body to the connection, which does not wait for ever."""
    monkeypatch.setattr(connections, "HEAD_S_MAX", 0.5)

    async def main():
        async with serving(monkeypatch) as port:
            drip = [
                b"POST /nothing HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n",
                *([b"x"] * 100),
            ]
            answer = await said(port, *drip, pause_s=0.05)
            assert answer[:12] in (b"", b"HTTP/1.1 404")

    asyncio.run(main())


def test_only_a_proxy_says_where_a_request_comes_from(monkeypatch):
    """Without one the header counts nothing; with one each of its clients has its own count of wrong keys."""
    monkeypatch.setattr(auth, "WRONG_KEYS_MAX", 1)

    def asked(address):
        return (
            b"GET /v1/runs HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer wrong\r\nconnection: close\r\n"
            b"x-forwarded-for: %b\r\n\r\n" % address
        )

    async def statuses(port, *addresses):
        return [(await said(port, asked(address)))[9:12] for address in addresses]

    async def main():
        three = (b"192.0.2.1", b"192.0.2.2", b"192.0.2.1")
        async with serving(monkeypatch, api_keys=("secret",)) as port:
            assert await statuses(port, *three) == [b"401", b"429", b"429"]
        async with serving(monkeypatch, api_keys=("secret",), proxies=["127.0.0.1"]) as port:
            assert await statuses(port, *three) == [b"401", b"401", b"429"]
            # What the client itself says stands before what the proxy adds.
            assert await statuses(port, b"192.0.2.9, 192.0.2.1", b"192.0.2.8, 192.0.2.1") == [b"429", b"429"]
            # A client may choose among the addresses of its IPv6 network.
            six = (b"2001:db8::1", b"2001:db8::2", b"2001:db8:0:1::1", b"no:address", b"no:address")
            assert await statuses(port, *six) == [b"401", b"429", b"401", b"401", b"429"]
        async with serving(monkeypatch, api_keys=("secret",), proxies=["10.0.0.0/8"]) as port:
            assert await statuses(port, *three) == [b"401", b"429", b"429"]
        for wrong in ("*", "proxy.example.org", "10.0.0.0/99", ""):
            with pytest.raises(ConfigError, match="proxies: expected an address"):
                async with serving(monkeypatch, proxies=[wrong]):
                    pass

    asyncio.run(main())
