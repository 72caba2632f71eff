"""Effect order at run time: which step may touch which resource now.

`Touch` (`plans/program/program.py`) states the rule: which tracks a step is on, and which it awaits. A track holds its steps in program order, and
knows its first unfinished step and its first bad step. This answers every question exactly, also across skipped steps, in time linear in the
touches. Rejected: edges between the steps. Reads between two writes make their number quadratic, and a skipped step would have to hand its
edges on.

A ledger belongs to one frame (one running instance of a plan). It knows positions and ranks, never values.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Final

from ..plans.immutable import record

if TYPE_CHECKING:
    from ..plans.program.program import Program, StepCode, Touch
    from ..plans.program.program import Track as TrackKey

NEVER: Final = 1 << 62


@record
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


@record
class _Place:
    """What the steps with the same touches have in common.

    Attributes:
        on: The tracks that they are on.
        awaited: The tracks whose earlier steps they wait for.
        blocking: Of those, the tracks whose bad steps block them.
    """

    on: Sequence[Track]
    awaited: Sequence[Track] = ()
    blocking: Sequence[Track] = ()


class Ledger:
    """The effect order of one frame."""

    def __init__(self, program: Program) -> None:
        self._order = program.order
        # By position, of the steps that touch anything: most touch nothing, so that they wait for nobody, and are on no track. Most of the others
        # touch the same, so the rule is asked once for all steps with the same touches.
        self._of: dict[int, tuple[int, _Place]] = {}
        tracks: dict[TrackKey, Track] = {}
        places: dict[tuple[Touch, ...], _Place] = {}
        for rank, position in enumerate(program.order):
            if touches := tuple(program.steps[position].touches):
                place = places.get(touches)
                if place is None:
                    on = [tracks.setdefault(key, Track()) for key in tracks_of(touches)]
                    place = places[touches] = _Place(on)
                self._of[position] = rank, place
                for track in place.on:
                    track.ranks.append(rank)
        for touches, place in places.items():
            place.awaited = _awaited(touches, tracks)
            # A read is blocked by nothing: it looks at a resource as it is. A write after a failed step could build on an effect that is not there.
            place.blocking = _awaited([touch for touch in touches if touch.writes], tracks)

    def admit(self, step: StepCode) -> bool:
        """Whether the step may start now; if not, `settle` will return its position when it may."""
        if not step.touches:
            return True
        rank, place = self._of[step.position]
        for track in place.awaited:
            # One queue is enough: if the step is released here and must wait for another track, it comes back through `admit`.
            if track.is_open_before(rank):
                heapq.heappush(track.waiters, rank)
                return False
        return True

    def is_blocked(self, step: StepCode) -> bool:
        """Whether an earlier step on a resource that this step writes went wrong."""
        if not step.touches:
            return False
        rank, place = self._of[step.position]
        for track in place.blocking:  # noqa: SIM110  # `any` would take as long as the rest
            if track.first_bad < rank:
                return True
        return False

    def settle(self, step: StepCode, *, is_bad: bool) -> Sequence[int]:
        """Mark a step finished; return the positions to look at again, in program order."""
        if not step.touches:
            return ()
        rank, place = self._of[step.position]
        released: set[int] = set()
        for track in place.on:
            released.update(track.settle(rank, is_bad=is_bad))
        return [self._order[rank] for rank in sorted(released)]


def _awaited(touches: Iterable[Touch], tracks: Mapping[TrackKey, Track]) -> list[Track]:
    """Return the tracks whose earlier steps a step with these touches waits for."""
    keys = dict.fromkeys(key for touch in touches for key in touch.awaited)
    return [tracks[key] for key in keys if key in tracks]
