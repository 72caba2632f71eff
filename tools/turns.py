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

_Slots: TypeAlias = dict[tuple[str, str], asyncio.Semaphore]


@dataclass(slots=True)
class Spacing:
    """The times at which requests may start: one second's worth at once after a pause, then evenly.

    Source: generic cell rate algorithm, ITU-T I.371.
    """

    rate_per_s: float
    _next: float = 0.0

    def book(self, now: float) -> float:
        """Return how many seconds from `now` the next request may start, and take that place."""
        gap_s = 1.0 / self.rate_per_s
        self._next = max(self._next, now - max(1.0, gap_s) + gap_s)
        delay_s = max(0.0, self._next - now)
        self._next += gap_s
        return delay_s


@dataclass(slots=True)
class Turns:
    """The turns at all endpoints that have a limit."""

    clock: Callable[[], float] = monotonic
    _slots: WeakKeyDictionary[asyncio.AbstractEventLoop, _Slots] = field(
        default_factory=WeakKeyDictionary[asyncio.AbstractEventLoop, "_Slots"]
    )
    _spacings: dict[tuple[str, str], Spacing] = field(default_factory=dict[tuple[str, str], Spacing])

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
        spacing = self._spacings.setdefault(key, Spacing(endpoint.rate_per_s))
        delay_s = spacing.book(self.clock())
        if delay_s:
            await asyncio.sleep(delay_s)
