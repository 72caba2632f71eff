"""Whose turn it is at an endpoint: so many requests at a time, so many a second.

Both are settings of a `Model` and hold for all requests that one `Models` (one engine) sends to it. Waiting for a turn
is not the endpoint's doing and does not count against a request's time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import TypeAlias
from weakref import WeakKeyDictionary

from .endpoint import Endpoint
from .pace import Pace

_Slots: TypeAlias = dict[tuple[str, str], asyncio.Semaphore]


@dataclass(slots=True)
class Turns:
    """The turns at all endpoints that have a limit."""

    clock: Callable[[], float] = monotonic
    _slots: WeakKeyDictionary[asyncio.AbstractEventLoop, _Slots] = field(
        default_factory=WeakKeyDictionary[asyncio.AbstractEventLoop, "_Slots"]
    )
    _paces: dict[tuple[str, str], Pace] = field(default_factory=dict[tuple[str, str], Pace])

    @asynccontextmanager
    async def take(self, endpoint: Endpoint) -> AsyncGenerator[float]:
        """Wait for a turn, and keep it for one request; provides the seconds that were waited."""
        began = self.clock()
        slots = self._slots_of(endpoint)
        if slots is not None:
            await slots.acquire()
        try:
            await self._wait_for_rate(endpoint)
            yield self.clock() - began
        finally:
            if slots is not None:
                slots.release()

    def _slots_of(self, endpoint: Endpoint) -> asyncio.Semaphore | None:
        """Return the slots of an endpoint on this event loop."""
        if endpoint.max_concurrency is None:
            return None
        own = self._slots.setdefault(asyncio.get_running_loop(), {})
        return own.setdefault((endpoint.base_url, endpoint.name), asyncio.Semaphore(endpoint.max_concurrency))

    async def _wait_for_rate(self, endpoint: Endpoint) -> None:
        if endpoint.rate_per_s is None:
            return
        key = (endpoint.base_url, endpoint.name)
        delay_s = self._paces.setdefault(key, Pace(endpoint.rate_per_s)).book(self.clock())
        if delay_s:
            await asyncio.sleep(delay_s)
