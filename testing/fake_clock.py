"""A clock that moves only when told to, or when everyone who can be waited for sleeps.

`FakeClock(auto=True)` (the default) jumps to the next sleeper's time at once, so that retries with pauses of minutes take no time,
in the same order as on a real clock: who was woken goes on before the next one is.
"""

from __future__ import annotations

import asyncio
import heapq
from itertools import count
from typing import Final

TURNS: Final = 8  # turns of the event loop between two wakings: enough for what a waking leads to at once


class FakeClock:
    """Time as a test wants it; satisfies the executor's `Clock`.

    Args:
        start: Unix seconds at the beginning.
        auto: Whether a sleep is over as soon as the event loop has nothing else to do; else `advance` ends it.
    """

    def __init__(self, start: float = 1_750_000_000.0, *, auto: bool = True) -> None:
        self._now = start
        self._auto = auto
        self._numbers = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._is_ticking = False

    def now(self) -> float:
        """Unix seconds."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Return once the clock stands `seconds` later."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + max(0.0, seconds), next(self._numbers), woken))
        if self._auto and not self._is_ticking:
            self._is_ticking = True
            self._tick(asyncio.get_running_loop(), TURNS)
        await woken

    def advance(self, seconds: float) -> None:
        """Move the clock on, and wake those whose time has come, in its order."""
        until = self._now + seconds
        while self._sleepers and self._sleepers[0][0] <= until:
            _, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)
        self._now = until

    def _tick(self, loop: asyncio.AbstractEventLoop, turns: int) -> None:
        """Wake the sleepers one after another, each after some turns of the loop."""
        if turns == 0:
            self._wake_next()
            turns = TURNS
        if self._sleepers:
            loop.call_soon(self._tick, loop, turns - 1)
        else:
            self._is_ticking = False

    def _wake_next(self) -> None:
        while self._sleepers:
            at, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():  # else it was cancelled, and time does not move for it
                self._now = max(self._now, at)
                woken.set_result(None)
                return
