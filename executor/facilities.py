"""What the runs of one engine share: tools, models, store, clock, threads, places for calls."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ..tools import Models, Tool, Toolset
from ..tools.logbook import open_log, read_setting
from .pace import Pace
from .processes import Processes
from .store import Reusable, Store
from .threads import Threads

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


class Clock(Protocol):
    """Time, as data: `FakeClock` in tests."""

    def now(self) -> float:
        """Unix seconds."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after that long."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Return after that long."""
        await asyncio.sleep(seconds)


@dataclass(slots=True)
class Facilities:
    """See the module.

    Attributes:
        places: Calls at a time, over all runs.
        in_flight: Content key -> the result that an identical call is about to give.
    """

    tools: Toolset
    models: Models
    store: Store
    places: asyncio.Semaphore
    clock: Clock = field(default_factory=SystemClock)
    threads: Threads = field(default_factory=Threads)
    processes: Processes = field(default_factory=Processes)
    secrets: Mapping[str, str] = field(default_factory=dict[str, str])
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    in_flight: dict[str, asyncio.Future[Reusable | None]] = field(
        default_factory=dict[str, "asyncio.Future[Reusable | None]"]
    )
    tool_places: dict[str, asyncio.Semaphore] = field(default_factory=dict[str, asyncio.Semaphore])

    paces: dict[str, Pace] = field(default_factory=dict[str, Pace])

    def __post_init__(self) -> None:
        read_setting(
            os.environ
        )  # a wrong word is told when the engine opens, not when it first has something to say

    @property
    def log(self) -> FilteringBoundLogger:
        """The engine's log."""
        return open_log()

    def places_of(self, tool: str) -> asyncio.Semaphore | None:
        """Places for calls of one tool, where it has a limit."""
        found = self.tools.find(tool)
        if found is None or found.max_concurrency is None:
            return None
        return self.tool_places.setdefault(tool, asyncio.Semaphore(found.max_concurrency))

    async def keep_pace(self, tool: Tool) -> None:
        """Wait until a tool with a rate may be called again."""
        if tool.rate is not None:
            delay_s = self.paces.setdefault(tool.name, Pace(tool.rate)).book(self.clock.now())
            if delay_s > 0:
                await self.clock.sleep(delay_s)
