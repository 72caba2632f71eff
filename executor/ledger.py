"""Effect order at run time: which step may touch which resource now.

`Touch` (`plans/program.py`) states the rule: which tracks a step is on, and which it awaits. A track holds its steps in program order, and
knows its first unfinished step and its first bad step. This answers every question exactly, also across skipped steps, in time linear in the
touches. Rejected: edges between the steps. Reads between two writes make their number quadratic, and a skipped step would have to hand its
edges on.

A ledger belongs to one frame (one running instance of a plan). It knows positions and ranks, never values.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ..plans.program import Program, StepCode, Touch
    from ..plans.program import Track as TrackKey

NEVER: Final = 1 << 62


@dataclass(slots=True)
class Track:
    """The steps that read, or write, one resource, by rank in program order."""

    # `ranks` is sorted, and `first_open` only moves forward over settled ranks. `settled` holds those that ended before an earlier one did.
    ranks: list[int] = field(default_factory=list[int])
    settled: set[int] = field(default_factory=set[int])
    first_open: int = 0
    first_bad: int = NEVER
    waiters: list[int] = field(default_factory=list[int])

    def is_open_before(self, rank: int) -> bool:
        """Whether a step earlier than `rank` has not finished."""
        return self.first_open < len(self.ranks) and self.ranks[self.first_open] < rank

    def settle(self, rank: int, *, is_bad: bool) -> list[int]:
        """Mark a step finished; return the waiting ranks that this track no longer holds back, in order."""
        self.settled.add(rank)
        if is_bad and rank < self.first_bad:
            self.first_bad = rank
        while self.first_open < len(self.ranks) and self.ranks[self.first_open] in self.settled:
            self.settled.discard(self.ranks[self.first_open])
            self.first_open += 1
        released: list[int] = []
        while self.waiters and not self.is_open_before(self.waiters[0]):
            released.append(heapq.heappop(self.waiters))
        return released


def tracks_of(touches: Iterable[Touch]) -> set[TrackKey]:
    """Return the tracks that a step with these touches is on."""
    return {track for touch in touches for track in touch.tracks}


def comes_after(touches: Iterable[Touch], tracks: set[TrackKey]) -> bool:
    """Whether a step with these touches waits for earlier steps on some of the tracks."""
    return any(not tracks.isdisjoint(touch.awaited) for touch in touches)


class Ledger:
    """The effect order of one frame."""

    def __init__(self, program: Program) -> None:
        self._order = program.order
        self._rank: dict[int, int] = {}
        self._tracks: dict[TrackKey, Track] = {}
        for rank, position in enumerate(program.order):
            # Most steps touch nothing: they wait for nobody, and are on no track.
            if touches := program.steps[position].touches:
                self._rank[position] = rank
                for track in tracks_of(touches):
                    self._tracks.setdefault(track, Track()).ranks.append(rank)

    def _awaited(self, touches: Iterable[Touch]) -> Iterator[Track]:
        """Yield the tracks whose earlier steps a step with these touches waits for."""
        for touch in touches:
            for key in touch.awaited:
                if key in self._tracks:
                    yield self._tracks[key]

    def admit(self, step: StepCode) -> bool:
        """Whether the step may start now; if not, `settle` will return its position when it may."""
        if not step.touches:
            return True
        rank = self._rank[step.position]
        for track in self._awaited(step.touches):
            # One queue is enough: if the step is released here and must wait for another track, it comes back through `admit`.
            if track.is_open_before(rank):
                heapq.heappush(track.waiters, rank)
                return False
        return True

    def is_blocked(self, step: StepCode) -> bool:
        """Whether an earlier step on a resource that this step writes went wrong."""
        if not step.touches:
            return False
        rank = self._rank[step.position]
        # A read is blocked by nothing: it looks at a resource as it is. A write after a failed step could build on an effect that is not there.
        writes = [touch for touch in step.touches if touch.writes]
        return any(track.first_bad < rank for track in self._awaited(writes))

    def settle(self, step: StepCode, *, is_bad: bool) -> Sequence[int]:
        """Mark a step finished; return the positions to look at again, in program order."""
        if not step.touches:
            return ()
        rank = self._rank[step.position]
        released: set[int] = set()
        for track in tracks_of(step.touches):
            released.update(self._tracks[track].settle(rank, is_bad=is_bad))
        return [self._order[rank] for rank in sorted(released)]
