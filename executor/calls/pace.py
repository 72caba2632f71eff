"""How fast one tool may be called: so many calls a second, evenly, over all runs of an engine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Pace:
    """The times at which calls of one tool may start.

    A burst of one second's calls may start at once after a pause; then calls are spaced. Places are given in the order in
    which they are asked for. Source: generic cell rate algorithm, ITU-T I.371.
    """

    rate_per_s: float
    _next: float = 0.0

    def book(self, now: float) -> float:
        """Return how many seconds from `now` the next call may start, and take that place."""
        burst_s = max(1.0, 1.0 / self.rate_per_s)
        self._next = max(self._next, now - burst_s + 1.0 / self.rate_per_s)
        delay_s = max(0.0, self._next - now)
        self._next += 1.0 / self.rate_per_s
        return delay_s
