"""Rates that hold over all engines on one store: a token bucket for each tool and each model's endpoint, whose state is one row of the store.

An engine leases the times of the next few starts in one statement, so that a call costs no transaction of its own. The bucket is a queue of such
times: a lease moves its end, and never fails or has to be asked for again, so that engines that wait are served in the order in which they asked. What an
engine has leased and does not use is lost; a process that dies loses at most one batch.

The law: in no second (for rates below one a second, in no 1/rate seconds) do all engines together start more calls than the rate allows. Starts are evenly
spaced, except that up to a tenth of what a second allows may start together. That tenth pays for the bucket's burst and for the time in which a leased start may be used, half
each, so fast rates are used up to nine tenths.

The clock is the database's: an engine learns how far ahead a start lies, and measures that from the answer on its own monotonic clock. An engine whose
database is away uses what it has leased, and then waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

from ...errors import StoreError
from ...plans.immutable import immutable
from ...tools.models.limits import STARTS_KEPT_MAX
from .store import Store

if TYPE_CHECKING:
    from .sql_store import Outlives, Sql

T = TypeVar("T")

BURST_SHARE: Final = 10  # a tenth of what a second may have may come together
AWAY_S_MAX: Final = (
    60.0  # how long a database is waited for that is away; then the run stops, as it does at its next record
)
AWAY_PAUSE_S: Final = 1.0
# The end of the queue is the time of the last start that is leased and one interval more. A queue that ended earlier begins now.
_LEASE: Final = """
    WITH clock AS MATERIALIZED (SELECT CAST(extract(epoch FROM clock_timestamp()) AS double precision) AS now)
    INSERT INTO @rate_limits AS bucket (name, next) SELECT :name, now + :span FROM clock
    ON CONFLICT (name) DO UPDATE SET next = greatest(bucket.next, excluded.next - :span) + :span
    RETURNING next - :span - (SELECT now FROM clock)
"""


class _Tables(Protocol):
    async def change(self, work: Callable[[Sql], T], *, outlives: Outlives = "power") -> T: ...


@immutable
class BucketRule:
    """What a rate means for its bucket.

    Attributes:
        interval_s: Between two starts, on average.
        burst: Starts that the bucket itself lets come together.
        valid_s: How long after its time a leased start may be used.
        batch_max: Starts of one lease.
    """

    interval_s: float
    burst: float
    valid_s: float
    batch_max: int

    @classmethod
    def of(cls, rate_per_s: float) -> BucketRule:
        """Return the rule of a rate, such that no window of a second has more starts than the rate allows, however late leased starts are used."""
        most = min(max(1, int(rate_per_s)), STARTS_KEPT_MAX)
        window_s = most / rate_per_s
        together = max(1, most // BURST_SHARE)
        # n starts at this interval and `together` more at once are the most that a window has; the first of them is in both.
        interval_s = window_s / (most + 1 - together)
        late = (together - 1) / 2
        return cls(interval_s, together - late, late * interval_s, max(1, together // 2))

    def starts(self, ahead_s: float, count: int) -> list[float]:
        """Return how many seconds from now the starts of a lease are, whose first one stands so far behind the queue's head."""
        early_s = (self.burst - 1) * self.interval_s
        return [max(0.0, ahead_s + at * self.interval_s - early_s) for at in range(count)]


@dataclass(slots=True)
class _Bucket:
    """What this engine has leased of one bucket, on one event loop; `starts` are times of its own clock."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    starts: deque[float] = field(default_factory=deque[float])
    waiting: int = 0
    batch: int = 0  # of the last lease
    fresh_until: float = 0.0  # until when the last lease could be used


class SharedRates:
    """The rates of the engines on a store, as one engine sees them; satisfies `tools.models.limits.RateSource`.

    Args:
        store: A store on a server.
        clock: Seconds of a clock that does not jump.
        sleep: Returns after that many seconds.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._tables = cast("_Tables", store)
        self._clock = clock
        self._sleep = sleep
        self._buckets: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Bucket]] = WeakKeyDictionary()

    async def wait(self, name: str, rate_per_s: float) -> None:
        """Wait until another call may start. Calls that wait are served in the order in which they came.

        Args:
            name: The bucket; engines that name the same one share it.
            rate_per_s: The rate. Engines that give different rates for one bucket (a change that is being rolled out) each use it up at their own.

        Raises:
            StoreError: The database is away for longer than `AWAY_S_MAX`.
        """
        rule = BucketRule.of(rate_per_s)
        of_loop = self._buckets.setdefault(asyncio.get_running_loop(), {})
        bucket = of_loop.setdefault(name, _Bucket())
        bucket.waiting += 1
        try:
            # The turn is held while its holder sleeps: an engine with a thousand calls that wait has still leased no more than one batch.
            async with bucket.turn:
                start = await self._next_start(bucket, name, rule)
                try:
                    if (delay_s := start - self._clock()) > 0:
                        await self._sleep(delay_s)
                except asyncio.CancelledError:
                    bucket.starts.appendleft(start)  # the next call may have it
                    raise
        finally:
            bucket.waiting -= 1

    async def _next_start(self, bucket: _Bucket, name: str, rule: BucketRule) -> float:
        now, lost = self._clock(), 0
        while bucket.starts:
            if (start := bucket.starts.popleft()) + rule.valid_s >= now:
                return start
            lost += 1
        count = _size_of_next(bucket, rule, lost, now)
        ahead_s = await self._lease(name, count * rule.interval_s)
        # From the answer on, not from the question: a start may be used late, never early.
        now = self._clock()
        bucket.starts.extend(now + each for each in rule.starts(ahead_s, count))
        bucket.batch, bucket.fresh_until = count, bucket.starts[-1] + rule.valid_s
        return bucket.starts.popleft()

    async def _lease(self, name: str, span_s: float) -> float:
        """Move the end of a queue, and return how many seconds from now the end was."""
        values = {"name": name, "span": span_s}
        gives_up = self._clock() + AWAY_S_MAX
        while True:
            try:
                # A server that crashes may forget the last half a second of leases: to wait for its disk would cost more than that.
                found = await self._tables.change(lambda sql: sql.rows(_LEASE, values), outlives="process")
                return max(0.0, float(found[0][0]))
            except StoreError:
                if self._clock() >= gives_up:
                    raise
                await self._sleep(AWAY_PAUSE_S)


def _size_of_next(bucket: _Bucket, rule: BucketRule, lost: int, now: float) -> int:
    """Return how many starts to lease: as many as wait, and more while leases are used up in time. What is leased and not used is lost to all engines."""
    used_up = bucket.batch * 2 if now <= bucket.fresh_until else 1
    wanted = bucket.batch - lost if lost else used_up
    return min(max(wanted, bucket.waiting, 1), rule.batch_max)
