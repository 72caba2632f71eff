"""A run's journal as server-sent events: `id` is the event's number, `event` its type, `data` the whole event.

The stream ends where the engine's own iterator ends: when the run has ended, or waits and nothing more comes. A
client that comes back with `Last-Event-ID` misses nothing and gets nothing twice; one that has seen the end of an
ended run gets 204, which tells a browser to stop asking.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress

from ..executor import Event

KEEPALIVE_S = 15.0
"""A comment line this often keeps proxies from closing a quiet stream, and finds clients that left."""
RETRY_MS = 1_000
"""How soon a browser shall come back after the stream ended."""


async def event_stream(events: AsyncIterator[Event], closing: asyncio.Event) -> AsyncIterator[str]:
    """Yield the text of the stream until the events end or the server closes."""
    yield f"retry: {RETRY_MS}\n\n"
    stop = asyncio.ensure_future(closing.wait())
    coming = asyncio.ensure_future(anext(events, None))
    try:
        while not closing.is_set():
            await asyncio.wait((stop, coming), timeout=KEEPALIVE_S, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                yield ": still here\n\n"
                continue
            event = coming.result()
            if event is None:
                return
            yield event_text(event)
            coming = asyncio.ensure_future(anext(events, None))
    finally:
        for task in (stop, coming):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


def event_text(event: Event) -> str:
    """Return one event in the wire format; JSON holds no raw line breaks, so one `data` line is enough."""
    data = json.dumps(event.to_dict(), ensure_ascii=False, separators=(",", ":"))
    return f"id: {event.seq}\nevent: {event.type}\ndata: {data}\n\n"
