"""How fast something may be asked: at most so many times in any second, whoever asks."""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

MOST_AT_ONCE: Final = (
    1_000  # of a faster rate no more are remembered: they are counted over a part of a second
)


class Pace:
    """The times at which calls may start. Places are given in the order in which they are asked for, on any thread.

    Args:
        rate_per_s: Most calls a second; below one, or broken, so that calls are evenly spaced: "100/min" is one each 0.6 s.
    """

    def __init__(self, rate_per_s: float) -> None:
        most = min(max(1, int(rate_per_s)), MOST_AT_ONCE)
        self._within_s = most / rate_per_s
        self._starts: deque[float] = deque(maxlen=most)
        self._turn = threading.Lock()

    def book(self, now: float) -> float:
        """Return how many seconds from `now` the next call may start, and take that place."""
        with self._turn:
            at = max(now, self._starts[-1]) if self._starts else now
            if len(self._starts) == self._starts.maxlen:
                at = max(at, self._starts[0] + self._within_s)
            self._starts.append(at)
            return at - now
