"""What the runs of one engine share: tools, models, store, clock, threads, places for calls."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol
from weakref import WeakKeyDictionary

from ...tools import Models, Tool, Toolset
from ...tools.logbook import open_log, read_setting
from ...tools.models.limits import RateLimiter
from ..journal.journal import Commits
from ..stores.store import Store
from .concurrency import Places, Shared
from .flow_policy import Flow
from .invoke import Threads
from .processes import Processes

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from .lease import Lease


class Clock(Protocol):
    """Time, as data: `FakeClock` in tests."""

    def now(self) -> float:
        """Unix seconds."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after that long."""
        ...


class Ownership(Protocol):
    """How this process has its runs: `Owner`.

    Attributes:
        lease: For how long.
    """

    lease: Lease

    def may_survive(self, names: Iterable[str], /) -> bool:
        """Whether a call of one of these former owners may still be in flight."""
        ...

    async def find_survivor(self, names: Iterable[str], /) -> str | None:
        """Return a former owner that no lease ends, so that its calls may stay in flight; wait first for the owners that end by themselves."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Return after that long."""
        await asyncio.sleep(seconds)


# By tool, of all engines of this process, and by clock: the machine's (`None`), or one of a test.
_RATE_LIMITERS: Final[WeakKeyDictionary[Tool, dict[Clock | None, RateLimiter]]] = WeakKeyDictionary()


@dataclass(slots=True)
class Facilities:
    """See the module.

    Attributes:
        places: Calls at a time, over all runs.
        flow: What untrusted data at a write means (`clearance.py`).
        expect_lease: Raises a `StoreError` where this process may have lost its runs: asked before each write, with the time at which its
            intent was handed to the store, by `elapsed_s`.
        ownership: How this process has its runs; `None`: nobody else can have them.
        commits: Make journals durable.
        in_flight: Content key -> the result that an identical call is about to give.
    """

    tools: Toolset
    models: Models
    store: Store
    places: Places
    clock: Clock = field(default_factory=SystemClock)
    threads: Threads = field(default_factory=Threads)
    processes: Processes = field(default_factory=Processes)
    secrets: Mapping[str, str] = field(default_factory=dict[str, str])
    flow: Flow = "enforce"
    expect_lease: Callable[[float], Awaitable[None]] | None = None
    ownership: Ownership | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    commits: Commits = field(init=False)
    in_flight: dict[str, Shared] = field(default_factory=dict[str, Shared])
    tool_places: dict[str, Places] = field(default_factory=dict[str, Places])
    turns: dict[str, Places] = field(default_factory=dict[str, Places])

    def __post_init__(self) -> None:
        self.commits = Commits(self.store)
        # A wrong word is told when the engine opens, not when it first has something to say.
        read_setting(os.environ)

    @property
    def log(self) -> FilteringBoundLogger:
        """The engine's log."""
        return open_log()

    def take_free(self, tool: Tool | None) -> bool:
        """Take a place for a call that only the engine's limit bounds, as it does most, if one is free now."""
        is_bound = tool is not None and (tool.max_concurrency is not None or tool.rate is not None)
        return not is_bound and self.places.take_free()

    @asynccontextmanager
    async def place_for(
        self, run: str, tool: Tool | None, of_run: asyncio.Semaphore | None = None
    ) -> AsyncGenerator[None]:
        """Hold a place for a call of a run, in the run, its tool and the engine; a tool with a rate is waited for before."""
        of_tool: AbstractAsyncContextManager[None] = nullcontext()
        if tool is not None:
            await self._wait_for_rate(run, tool)
            if tool.max_concurrency is not None:
                of_tool = self.tool_places.setdefault(tool.name, Places(tool.max_concurrency)).hold(run)
        async with of_run or nullcontext(), of_tool, self.places.hold(run):
            yield

    async def _wait_for_rate(self, run: str, tool: Tool) -> None:
        """Wait until a tool with a rate may be called again: one call at a time, so that runs take turns."""
        if tool.rate is None:
            return
        async with self.turns.setdefault(tool.name, Places(1)).hold(run):
            delay_s = self._limiter_of(tool, tool.rate).reserve(self._now())
            if delay_s > 0:
                await self.clock.sleep(delay_s)

    def _limiter_of(self, tool: Tool, rate: float) -> RateLimiter:
        return _RATE_LIMITERS.setdefault(tool, {}).setdefault(
            None if self._has_system_clock else self.clock, RateLimiter(rate)
        )

    def _now(self) -> float:
        """Return seconds by a clock that does not jump, if it is ours."""
        return time.monotonic() if self._has_system_clock else self.clock.now()

    @property
    def _has_system_clock(self) -> bool:
        return isinstance(self.clock, SystemClock)
