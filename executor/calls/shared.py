"""Single flight: identical calls that come up while one is under way take what it returns."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..stores.store import Reusable


class Shared:
    """A call under way whose result stands for identical ones; most are waited for by nobody.

    Args:
        key: Content key of the call; empty: nothing is identical to it.
        in_flight: Where others find it until it has ended.
    """

    __slots__ = ("_in_flight", "_key", "_waiter")

    def __init__(self, key: str, in_flight: dict[str, Shared]) -> None:
        self._key = key
        self._in_flight = in_flight
        self._waiter: asyncio.Future[Reusable | None] | None = None
        if key:
            in_flight[key] = self

    async def made(self) -> Reusable | None:
        """Wait for the end of the call; return its result if it may stand for others."""
        if self._waiter is None:
            self._waiter = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._waiter)

    def end(self, made: Reusable | None) -> None:
        """Hand the result, if it may stand for others, to all who wait."""
        if self._key:
            del self._in_flight[self._key]
        if self._waiter is not None:
            self._waiter.set_result(made)
