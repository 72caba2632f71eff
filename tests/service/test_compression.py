"""Answers are compressed just as the framework's middleware would, which looks at each of them longer."""

from __future__ import annotations

import asyncio

import pytest
from firmplan.service.app import GZIP_BYTES_MIN, GZIP_LEVEL, Compression
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse, Response, StreamingResponse


async def _pieces(size, count):
    for _ in range(count):
        yield "x" * size


ANSWERS = {
    "nothing": lambda: Response(status_code=204),
    "small": lambda: JSONResponse({"a": 1}),
    "one byte short": lambda: Response("x" * (GZIP_BYTES_MIN - 1)),
    "just large": lambda: Response("x" * GZIP_BYTES_MIN),
    "large": lambda: JSONResponse({"a": "x" * 10_000}),
    "compressed": lambda: Response("x" * 10_000, headers={"content-encoding": "br"}),
    "a part": lambda: Response("x" * 10_000, 206),
    "events": lambda: StreamingResponse(_pieces(6_000, 2), media_type="text/event-stream"),
    "in pieces": lambda: StreamingResponse(_pieces(3_000, 3), media_type="text/plain"),
    "in pieces, with a length": lambda: StreamingResponse(
        _pieces(3_000, 3), headers={"content-length": "9000"}, media_type="text/plain"
    ),
}


async def _answer(middleware, answer, accepted):
    """Return the messages of an answer, and how many there were when the application had sent each of its own."""
    sent, steps = [], []

    async def app(scope, receive, send):
        async def counted(message):
            await send(message)
            steps.append(len(sent))

        await ANSWERS[answer]()(scope, receive, counted)

    async def receive():
        await asyncio.Event().wait()

    async def send(message):
        sent.append({**message, "headers": list(message.get("headers", []))})

    headers = [(b"accept-encoding", accepted)] if accepted else []
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": headers,
        "asgi": {"spec_version": "2.4"},
    }
    await middleware(app)(scope, receive, send)
    return sent, steps[-1]


@pytest.mark.parametrize("accepted", [b"", b"gzip, br", b"identity"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_is_compressed_as_the_framework_would(answer, accepted):
    """The same messages, for clients that take gzip and for those that do not."""

    def theirs(app):
        return GZipMiddleware(app, minimum_size=GZIP_BYTES_MIN, compresslevel=GZIP_LEVEL)

    expected = asyncio.run(_answer(theirs, answer, accepted))
    assert asyncio.run(_answer(Compression, answer, accepted)) == expected
