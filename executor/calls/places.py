"""Places for calls, shared fairly: those who wait are served run by run, and within a run in the order in which they came.

A run of a thousand ready calls and a run of one get every other place, whoever was first. `asyncio.Semaphore` serves whoever came first,
so that the thousand would go before the one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import AbstractAsyncContextManager


class Places:
    """So many places, each held by one call at a time.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = count
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by run; the first run is next

    def hold(self, run: str) -> AbstractAsyncContextManager[None]:
        """Return what holds a place for a call of that run, once it is entered, waiting for it if need be."""
        return _Hold(self, run)

    def take_free(self) -> bool:
        """Take a place if one is free, which is so only while nobody waits; return whether it was."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def take(self, run: str) -> None:
        """Wait for a place, and take it."""
        if self.take_free():
            return
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(run, deque()).append(given)
        try:
            await given
        except asyncio.CancelledError:
            if given.done() and not given.cancelled():  # it was given in the same instant
                self.give_back()
            raise

    def give_back(self) -> None:
        """Hand the place to the next run that waits; O(1), over all calls that were cancelled meanwhile."""
        while self._waiting:
            run = next(iter(self._waiting))
            queue = self._waiting.pop(run)
            given = queue.popleft()
            if queue:
                self._waiting[run] = queue  # behind the others
            if not given.done():
                given.set_result(None)
                return
        self._free += 1


class _Hold(AbstractAsyncContextManager[None]):
    """A class and no generator: each call enters one."""

    __slots__ = ("_places", "_run")

    def __init__(self, places: Places, run: str) -> None:
        self._places = places
        self._run = run

    async def __aenter__(self) -> None:
        if not self._places.take_free():
            await self._places.take(self._run)

    async def __aexit__(self, *_: object) -> None:
        self._places.give_back()
