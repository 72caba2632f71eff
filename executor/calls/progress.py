"""How far calls have come, written down seldom enough for a tool that says so in a loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..events import CallProgressed

if TYPE_CHECKING:
    from ..journal.journal import Journal

EVERY_S: Final = 0.2  # of one step: more is more than anyone reads
NOTE_MAX: Final = 500  # characters


class Progress:
    """The progress of one run's calls.

    Args:
        journal: Where it is written down.
        now: The clock.
        is_running: Whether a step's call is under way: others have nothing to say any more.
    """

    def __init__(self, journal: Journal, now: Callable[[], float], is_running: Callable[[str], bool]) -> None:
        self._journal = journal
        self._now = now
        self._is_running = is_running
        self._told: dict[str, tuple[float, float]] = {}  # when, and how far it was then

    def note(self, step: str, fraction: float, words: str) -> None:
        """Write down how far a call has come, unless it said so just before; its end is written down once in any case."""
        at = self._now()
        before, done = self._told.get(step, (-EVERY_S, 0.0))
        is_due = at - before >= EVERY_S or done < 1.0 <= fraction
        if is_due and self._is_running(step):
            self._told[step] = at, fraction
            self._journal.add(CallProgressed(step, fraction, words[:NOTE_MAX]), at)
