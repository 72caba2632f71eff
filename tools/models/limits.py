"""Limits of the requests to a model: the budget of a conversation, the retries of one request, and the limits of an endpoint.

- A `RequestBudget` bounds requests and seconds of a whole conversation, retries and waiting included. Every request is taken
  from it before it is sent.
- A `RetryPolicy` says which failures of the transport are tried again, how often, and after which pause. It never waits longer
  than the budget allows. tenacity runs it.
- `EndpointLimits` hold the settings `max_concurrency` and `rate` of a `Model`: a semaphore and a `RateLimiter` for each endpoint, or a `RateSource` that
  engines of other processes share.

The module knows no client. The clock is an argument.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import field
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias
from weakref import WeakKeyDictionary

from ...plans.immutable import immutable, record
from ..timeouts import stalls
from .endpoint import Endpoint
from .errors import ModelError

if TYPE_CHECKING:
    from tenacity import AsyncRetrying, RetryCallState

RETRY_AFTER_S_MAX: Final = 30.0
"""An endpoint that asks for a longer pause is not waited for: the caller's own retries, or a person, decide."""

STARTS_KEPT_MAX: Final = 1_000
"""Start times that a `RateLimiter` remembers; a faster rate is counted over a part of a second."""


@record
class RequestBudget:
    """The requests and the time that a conversation has left.

    Attributes:
        requests: Requests that may still be sent.
        seconds: Time for all of them, from the moment of making.
    """

    requests: int
    seconds: float
    clock: Callable[[], float] = monotonic
    _started: float = field(init=False)

    def __post_init__(self) -> None:
        self._started = self.clock()

    @property
    def seconds_left(self) -> float:
        """Time that is left; 0 once it is over. Time in which the event loop stood still does not count."""
        stalled_s = stalls.get()(self._started)
        return max(0.0, self.seconds + stalled_s - (self.clock() - self._started))

    def extend(self, seconds: float) -> None:
        """Give back time in which no endpoint was asked: waiting for its limits."""
        self.seconds += seconds

    def take(self) -> None:
        """Take one request. Raises: ModelError (`limit-exceeded`) when nothing is left."""
        if self.requests <= 0:
            raise ModelError("the model was asked as often as is allowed", code="limit-exceeded")
        if self.seconds_left <= 0:
            raise ModelError(
                f"the model was given {self.seconds:g} s, and they are over", code="limit-exceeded"
            )
        self.requests -= 1


@immutable
class RetryPolicy:
    """How failures of the transport are retried.

    Attributes:
        tries_max: Requests in all, the first included.
        wait_s: The first pause; each further one is twice as long.
        wait_s_max: The longest pause, unless the endpoint asks for another.
    """

    tries_max: int = 3
    wait_s: float = 0.5
    wait_s_max: float = 8.0

    @classmethod
    def of(cls, endpoint: Endpoint) -> RetryPolicy:
        """Return the policy of an endpoint: the usual one, with as many retries as its `Model` says."""
        return RETRY_POLICY if endpoint.retries is None else cls(tries_max=endpoint.retries + 1)

    def retrying(self, budget: RequestBudget) -> AsyncRetrying:
        """Return the policy as tenacity runs it, within a budget."""
        from tenacity import AsyncRetrying, stop_after_attempt  # noqa: PLC0415  # with the first call

        return AsyncRetrying(
            stop=stop_after_attempt(self.tries_max),
            wait=self._pause_s,
            retry=lambda state: self._is_worth_it(state, budget),
            reraise=True,
        )

    def _pause_s(self, state: RetryCallState) -> float:
        """Return the pause before the next try: the pause that the endpoint asks for, else twice the last pause."""
        error = state.outcome.exception() if state.outcome else None
        # No jitter: the pause of a recorded conversation should be the same each time, and an endpoint that wants
        # another pause says so.
        if isinstance(error, ModelError) and error.retry_after_s is not None:
            return error.retry_after_s
        return min(self.wait_s * 2.0 ** (state.attempt_number - 1), self.wait_s_max)

    def _is_worth_it(self, state: RetryCallState, budget: RequestBudget) -> bool:
        error = state.outcome.exception() if state.outcome else None
        if not isinstance(error, ModelError) or not error.temporary or budget.requests <= 0:
            return False
        return self._pause_s(state) <= min(RETRY_AFTER_S_MAX, budget.seconds_left)


RETRY_POLICY: Final = RetryPolicy()
"""The policy of a model call unless the caller sets another: three tries within about two seconds of waiting."""


class RateLimiter:
    """The times at which calls may start, in the order in which they are asked for, on any thread.

    Args:
        rate_per_s: Most calls a second; below one, or broken, so that calls are evenly spaced: "100/min" is one each 0.6 s.
    """

    def __init__(self, rate_per_s: float) -> None:
        most = min(max(1, int(rate_per_s)), STARTS_KEPT_MAX)
        self._within_s = most / rate_per_s
        self._starts: deque[float] = deque(maxlen=most)
        self._lock = threading.Lock()

    def reserve(self, now: float) -> float:
        """Reserve the next start; return how many seconds after `now` it is."""
        with self._lock:
            at = max(now, self._starts[-1]) if self._starts else now
            # The deque holds the last n starts, and the next start is a window after the oldest of them. Until the deque is full,
            # nothing limits.
            if len(self._starts) == self._starts.maxlen:
                at = max(at, self._starts[0] + self._within_s)
            self._starts.append(at)
            return at - now


class RateSource(Protocol):
    """Says when calls may start, for rates that hold beyond this process."""

    async def wait(self, name: str, rate_per_s: float) -> None:
        """Wait until another call of that name may start."""
        ...


_Semaphores: TypeAlias = dict[tuple[str, str], asyncio.Semaphore]


@record
class EndpointLimits:
    """The semaphores and rate limiters of all endpoints of one `Models`, and so of one engine.

    A semaphore belongs to one event loop, so there is one an event loop; a rate holds for all of them.

    Attributes:
        shared: Says when requests may start, in the place of our own rate limiters; `None`: rates hold in this process.
    """

    clock: Callable[[], float] = monotonic
    shared: RateSource | None = None
    _semaphores: WeakKeyDictionary[asyncio.AbstractEventLoop, _Semaphores] = field(
        default_factory=WeakKeyDictionary[asyncio.AbstractEventLoop, _Semaphores]
    )
    _rates: dict[tuple[str, str], RateLimiter] = field(default_factory=dict[tuple[str, str], RateLimiter])

    @asynccontextmanager
    async def acquire(self, endpoint: Endpoint) -> AsyncGenerator[float]:
        """Wait until a request may be sent, and hold its place while it is; provide the seconds that were waited."""
        # Waiting for the limits is no fault of the endpoint, so the seconds are handed to the caller, who gives them
        # back to the budget.
        began = self.clock()
        key = endpoint.key
        semaphore: asyncio.Semaphore | None = None
        if endpoint.max_concurrency is not None:
            own = self._semaphores.setdefault(asyncio.get_running_loop(), {})
            semaphore = own.setdefault(key, asyncio.Semaphore(endpoint.max_concurrency))
            await semaphore.acquire()
        try:
            if endpoint.rate_per_s is not None and self.shared is not None:
                await self.shared.wait(f"model:{endpoint.base_url} {endpoint.name}", endpoint.rate_per_s)
            elif endpoint.rate_per_s is not None:
                limiter = self._rates.setdefault(key, RateLimiter(endpoint.rate_per_s))
                if delay_s := limiter.reserve(self.clock()):
                    await asyncio.sleep(delay_s)
            yield self.clock() - began
        finally:
            if semaphore is not None:
                semaphore.release()
