"""What the runs of one engine share: tools, models, store, clock, threads, child processes, and the limits on concurrent calls."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import field
from typing import TYPE_CHECKING, Any, Final, Protocol
from weakref import WeakKeyDictionary

from ...plans.immutable import record
from ...tools import Context, Models, Tool, Toolset
from ...tools.context import resource_context
from ...tools.logbook import open_log, read_setting
from ...tools.models.limits import RateLimiter, RateSource
from ...tools.resources import Resource
from ...tools.secret import Secrets
from ..budget import BudgetPolicy
from ..journal.journal import Commits
from ..journal.known_plans import KnownPlans
from ..journal.learnt_types import LearntTypes
from ..journal.tool_pins import ToolPins
from ..observer import Observers
from ..stores.store import Reusable, Store
from .concurrency import FairSemaphore
from .flow.flow_policy import Flow
from .flow.policies import Policies
from .running.loop_watch import LoopWatch
from .running.processes import ProcessPool
from .running.resources import OpenResources
from .running.stoppable import ThreadPool
from .words import WordsListeners

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from ..far_call import FarDispatch
    from .identity import ToolKeys
    from .lease import Lease
    from .step_planning import StepPlanner


class Clock(Protocol):
    """The source of time; tests have a `FakeClock`."""

    def now(self) -> float:
        """Unix seconds."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after that long."""
        ...


class Ownership(Protocol):
    """What a call needs to know of the owner of its run (`runs.owner.Owner`).

    Attributes:
        lease: The lease of this process on its runs.
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

    now = staticmethod(time.time)  # Unix seconds; not a call more, since each step asks twice

    async def sleep(self, seconds: float) -> None:
        """Return after that long."""
        await asyncio.sleep(seconds)


# The rate of a tool is a promise to the service behind it, so it holds for all engines of this process. The inner key is the clock: `None` stands
# for the system's clock, the others are clocks of tests, whose times cannot be compared.
_RATE_LIMITERS: Final[WeakKeyDictionary[Tool, dict[Clock | None, RateLimiter]]] = WeakKeyDictionary()


@record
class Facilities:
    """See the module.

    Attributes:
        semaphore: Limits the calls at a time, over all runs.
        policies: Rules about the arguments of calls (`flow/policies.py`).
        flow: What happens if untrusted data reaches a write (`flow/flow_policy.py`).
        budgets: The default budget of new runs, and its ceilings.
        expect_lease: Raises `StoreError` if this process may have lost its runs. Called before each write with the time, by `elapsed_s`, at
            which the write's intent was handed to the store.
        ownership: The owner of the runs; `None`: no other process can drive them.
        commits: Makes journals durable.
        in_flight: Content key -> the result of the call under way that identical calls wait for; `None`: they may not take the result.
        tool_semaphores: Tool -> the limit on its calls at a time (`max_concurrency`).
        turns: Held by the run whose dear expressions have their turn.
        loop_watch: Sees which call keeps the event loop from the others.
        resources: What tools share, opened at its first use.
        tool_keys: Tool -> its content keys, as they were last made.
        rate_queues: Tool -> the queue of the calls that wait for the tool's rate.
        rates: Rates that hold over all engines on the store; `None`: the rate of a tool holds in this process.
        pins: What providers of tools said when it was accepted.
        learnt: Gathers what results of tools look like.
        known: What the store knows of plans from before.
        observers: Who watches the runs from outside.
        tells_webhooks: Whether it is noted in the store what webhooks are to be told.
        wake_at: Has a run woken at a time (`runs/watch.py`); `None`: nothing does.
        approval_expires_s: How long approvals of new runs are waited for, where their tools do not say; `None`: for ever.
        expires: Whether questions, approvals and runs end when their time is over; waits always do.
        words: Who hears what models write (`words.py`).
        far: Has the calls of tools with a queue carried out (`far.py`); `None`: they are made where the run is driven.
        step_planner: Makes the sub-plans of `plan_for` steps; `None`: such steps fail.
    """

    tools: Toolset
    models: Models
    store: Store
    semaphore: FairSemaphore
    clock: Clock = field(default_factory=SystemClock)
    threads: ThreadPool = field(default_factory=ThreadPool)
    resources: OpenResources = field(default_factory=OpenResources)
    processes: ProcessPool = field(default_factory=ProcessPool)
    secrets: Secrets = field(default_factory=Secrets)
    flow: Flow = "enforce"
    policies: Policies = field(default_factory=Policies)
    budgets: BudgetPolicy = field(default_factory=BudgetPolicy)
    expect_lease: Callable[[float], Awaitable[None]] | None = None
    ownership: Ownership | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    observers: Observers = field(default_factory=Observers)
    tells_webhooks: bool = False
    loop_watch: LoopWatch = field(default_factory=LoopWatch)
    commits: Commits = field(init=False)
    pins: ToolPins = field(init=False)
    learnt: LearntTypes = field(init=False)
    known: KnownPlans = field(init=False)
    in_flight: dict[str, asyncio.Future[Reusable | None]] = field(
        default_factory=dict[str, "asyncio.Future[Reusable | None]"]
    )
    tool_semaphores: dict[str, FairSemaphore] = field(default_factory=dict[str, FairSemaphore])
    tool_keys: dict[str, ToolKeys] = field(default_factory=dict[str, "ToolKeys"])
    turns: asyncio.Lock = field(default_factory=asyncio.Lock)
    rate_queues: dict[str, FairSemaphore] = field(default_factory=dict[str, FairSemaphore])
    rates: RateSource | None = None
    far: FarDispatch | None = None
    step_planner: StepPlanner | None = None
    wake_at: Callable[[str, float | None], None] | None = None
    expires: bool = True
    approval_expires_s: float | None = None
    words: WordsListeners = field(default_factory=WordsListeners)

    def __post_init__(self) -> None:
        self.threads.watch = self.processes.watch = self.loop_watch
        self.resources.context_for = self._context_of_resource
        self.commits = Commits(self.store)
        self.pins = ToolPins(self.store, self.tools)
        self.learnt = LearntTypes(self.store)
        self.known = KnownPlans(self.store, self.clock.now)
        # A wrong setting raises when the engine opens, not at the first line of the log.
        read_setting(os.environ)

    def _context_of_resource(self, resource: Resource[Any]) -> Context:
        """Return the context of a resource: its secrets are those that are for its name."""
        secrets = self.secrets.reader().of_tool(resource.name, "")
        return resource_context(resource, env=self.environ, secrets=secrets, clock=self.clock.now)

    @property
    def log(self) -> FilteringBoundLogger:
        """The engine's log."""
        return open_log()

    def try_acquire(self, tool: Tool | None) -> bool:
        """Acquire the engine's semaphore if it is free now and no limit of the tool applies; return whether it was acquired."""
        is_bound = tool is not None and (tool.max_concurrency is not None or tool.rate is not None)
        return not is_bound and self.semaphore.try_acquire()

    @asynccontextmanager
    async def slot_for(
        self, run: str, tool: Tool | None, of_run: asyncio.Semaphore | None = None
    ) -> AsyncGenerator[None]:
        """Hold the semaphores of the run, the tool and the engine for one call, after the tool's rate allows the call.

        Args:
            run: The run, which shares the engine with others in turn.
            tool: Its tool; `None`: the call is a prompt.
            of_run: The run's own limit on calls at a time; `None`: it has none.
        """
        # The order prevents that a call holds a slot of the engine while it waits for its tool or its run: other calls could use the slot.
        of_tool: AbstractAsyncContextManager[None] = nullcontext()
        if tool is not None:
            await self._wait_for_rate(run, tool)
            if tool.max_concurrency is not None:
                of_tool = self.tool_semaphores.setdefault(
                    tool.name, FairSemaphore(tool.max_concurrency)
                ).hold(run)
        async with of_run or nullcontext(), of_tool, self.semaphore.hold(run):
            yield

    async def _wait_for_rate(self, run: str, tool: Tool) -> None:
        """Wait until the tool's rate allows another call. Only one call waits for the limiter at a time, so that runs take turns."""
        if tool.rate is None:
            return
        async with self.rate_queues.setdefault(tool.name, FairSemaphore(1)).hold(run):
            if self.rates is not None:
                await self.rates.wait(f"tool:{tool.name}", tool.rate)
                return
            delay_s = self._limiter_of(tool, tool.rate).reserve(self._now())
            if delay_s > 0:
                await self.clock.sleep(delay_s)

    def _limiter_of(self, tool: Tool, rate: float) -> RateLimiter:
        return _RATE_LIMITERS.setdefault(tool, {}).setdefault(
            None if self._has_system_clock else self.clock, RateLimiter(rate)
        )

    def _now(self) -> float:
        """Return seconds of a clock that does not jump, unless a test replaced the clock."""
        return time.monotonic() if self._has_system_clock else self.clock.now()

    @property
    def _has_system_clock(self) -> bool:
        return isinstance(self.clock, SystemClock)
