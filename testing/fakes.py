"""A clock, a store and a run in one line, for tests.

`FakeClock(auto=True)` (the default) jumps to the next sleeper's time when the event loop is idle, so that retries with pauses of minutes
take no time. The order is that of a real clock: a task that was woken goes on before the next one is woken.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Final

from ..engine import Engine
from ..executor import Run, SqliteStore
from ..plans import Plan
from ..tools import Tool, Toolset

TURNS: Final = 8  # turns of the event loop between two wakings: enough for everything that a waking causes without a pause


class FakeClock:
    """A clock that a test controls; satisfies the executor's `Clock`.

    Args:
        start: Unix seconds at the beginning.
        auto: Whether a sleep ends as soon as the event loop is idle; else only `advance` ends it.
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
        """Return when the clock has moved by `seconds`."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + max(0.0, seconds), next(self._numbers), woken))
        if self._auto and not self._is_ticking:
            self._is_ticking = True
            self._tick(asyncio.get_running_loop(), TURNS)
        await woken

    def advance(self, seconds: float) -> None:
        """Move the clock on, and wake the sleepers whose time has come, in order."""
        until = self._now + seconds
        while self._sleepers and self._sleepers[0][0] <= until:
            _, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)
        self._now = until

    def _tick(self, loop: asyncio.AbstractEventLoop, turns: int) -> None:
        """Wake the sleepers one after another, each after some turns of the loop."""
        # A fixed number of turns and not "until the loop is idle", which asyncio does not tell.
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


class MemoryStore(SqliteStore):
    """A store in memory, to be given to `Engine(store=..)`. It is the SQLite store, so it keeps every rule of a store on disk."""

    def __init__(self) -> None:
        super().__init__(":memory:")


def run_plan(plan: Plan | Mapping[str, Any], tools: Toolset | Sequence[Tool], /, **inputs: Any) -> Run:  # noqa: ANN401  # any JSON
    """Return the run of a plan in a new store in memory.

    Raises:
        PlanRejected: The plan has faults.
        InputRejected: An input does not fit.
    """
    with Engine(tools, store=MemoryStore()) as engine:
        return engine.run_sync(plan, inputs=inputs)
