"""Time limits that do not count the time in which the event loop stood still, because a tool blocked it.

What is waited for may have come long ago, but while the loop stands still nobody hears of it. Whoever watches the loop says for how long it stood
still (`executor/calls/running/loop_watch.py`): to a timeout by an argument, and to the requests of models by the context variable `stalls`, since they are sent
through layers that know no engine. Without a watch, all time counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from time import monotonic
from typing import TYPE_CHECKING, Final, Self, TypeAlias

if TYPE_CHECKING:
    from types import TracebackType

Stalled: TypeAlias = Callable[[float], float]
"""Returns for how many seconds the event loop has stood still since a time of `time.monotonic`. Called on the loop."""


def _never(_: float) -> float:
    return 0.0


stalls: Final[ContextVar[Stalled]] = ContextVar("firmplan_stalls", default=_never)
"""What says, for the requests of the current context, how long the loop stood still."""


class SparingTimeout:
    """As `asyncio.timeout`, but the time in which the event loop stood still does not count.

    Args:
        limit_s: `None`: no limit.
        stalled_s: Says for how long it stood still.
    """

    __slots__ = ("_began", "_limit_s", "_stalled_s", "_timeout", "_timer")

    def __init__(self, limit_s: float | None, stalled_s: Stalled) -> None:
        self._timeout = asyncio.timeout(None)
        self._limit_s, self._stalled_s = limit_s, stalled_s
        self._began = monotonic()
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        if self._limit_s is not None:
            self._timer = asyncio.get_running_loop().call_later(self._limit_s, self._pass, self._limit_s)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._timeout.__aexit__(kind, error, trace)  # raises `TimeoutError` where it has expired

    def _pass(self, limit_s: float) -> None:
        loop = asyncio.get_running_loop()
        if (left_s := time_left(self._began, limit_s, self._stalled_s)) > 0:
            self._timer = loop.call_later(left_s, self._pass, limit_s)
        else:
            self._timeout.reschedule(loop.time())

    def expired(self) -> bool:
        """Whether it has ended what it limits."""
        return self._timeout.expired()


def time_left(began: float, limit_s: float, stalled_s: Stalled) -> float:
    """Return how much is left once a limit would have passed: above zero only if the loop stood still meanwhile."""
    stalled = stalled_s(began)
    return began + limit_s + stalled - monotonic() if stalled else 0.0
