"""Single flight: identical calls that come up while one is under way take what it returns."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .store import Reusable


class Shared:
    """A call under way whose result stands for identical ones; most are waited for by nobody."""

    __slots__ = ("_waiter",)

    def __init__(self) -> None:
        self._waiter: asyncio.Future[Reusable | None] | None = None

    async def made(self) -> Reusable | None:
        """Wait for the end of the call; return its result if it may stand for others."""
        if self._waiter is None:
            self._waiter = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._waiter)

    def end(self, made: Reusable | None) -> None:
        """Hand the result to all who wait."""
        if self._waiter is not None:
            self._waiter.set_result(made)
