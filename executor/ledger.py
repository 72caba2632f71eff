"""Effect order: which step may touch which resource now.

On one resource, in program order, a write waits for every earlier read and write, and a read for every earlier
write. `"world"` conflicts with every resource. There are no edges: for each resource one *track* holds, in program
order, the steps that read it and one those that write it; a track knows its first unfinished step and its first bad
one, which answers every question exactly, also across skipped steps, in time linear in the touches.

A ledger belongs to one frame (one running instance of a plan); it knows positions and ranks, never values.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ..plans.program import Program, StepCode

WORLD: Final = "world"
NEVER: Final = 1 << 62


@dataclass(slots=True)
class Track:
    """The steps that read, or write, one resource, by rank in program order."""

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


class Ledger:
    """The effect order of one frame."""

    def __init__(self, program: Program) -> None:
        self._order = program.order
        self._rank = {position: rank for rank, position in enumerate(program.order)}
        self._reads: dict[str, Track] = {}
        self._writes: dict[str, Track] = {}
        self._any_reads = Track()
        self._any_writes = Track()
        for rank, position in enumerate(program.order):
            self._enter(rank, program.steps[position])

    def _enter(self, rank: int, step: StepCode) -> None:
        for touch in step.touches:
            tracks = self._writes if touch.writes else self._reads
            tracks.setdefault(touch.resource, Track()).ranks.append(rank)
            everything = self._any_writes if touch.writes else self._any_reads
            if not everything.ranks or everything.ranks[-1] != rank:
                everything.ranks.append(rank)

    def _held_by(self, step: StepCode) -> list[Track]:
        """The tracks whose earlier steps this step waits for."""
        found: list[Track] = []
        for touch in step.touches:
            if touch.resource == WORLD:
                found += [self._any_writes, self._any_reads] if touch.writes else [self._any_writes]
                continue
            for resource in (touch.resource, WORLD):
                found += [self._writes[resource]] if resource in self._writes else []
                found += [self._reads[resource]] if touch.writes and resource in self._reads else []
        return found

    def admit(self, step: StepCode) -> bool:
        """Whether the step may start now; otherwise it is remembered and `settle` will name it."""
        rank = self._rank[step.position]
        for track in self._held_by(step):
            if track.is_open_before(rank):
                heapq.heappush(track.waiters, rank)
                return False
        return True

    def is_blocked(self, step: StepCode) -> bool:
        """Whether an earlier step on a resource that this step writes went wrong."""
        rank = self._rank[step.position]
        writes = [touch for touch in step.touches if touch.writes]
        return any(track.first_bad < rank for touch in writes for track in self._conflicts(touch.resource))

    def _conflicts(self, resource: str) -> list[Track]:
        if resource == WORLD:
            return [self._any_reads, self._any_writes]
        tracks = [t.get(r) for t in (self._reads, self._writes) for r in (resource, WORLD)]
        return [track for track in tracks if track is not None]

    def settle(self, step: StepCode, *, is_bad: bool) -> Sequence[int]:
        """Mark a step finished; return the positions to look at again, in program order."""
        if not step.touches:
            return ()
        rank = self._rank[step.position]
        tracks = {id(track): track for track in self._own(step)}
        released: set[int] = set()
        for track in tracks.values():
            released.update(track.settle(rank, is_bad=is_bad))
        return [self._order[rank] for rank in sorted(released)]

    def _own(self, step: StepCode) -> list[Track]:
        found: list[Track] = []
        for touch in step.touches:
            found.append((self._writes if touch.writes else self._reads)[touch.resource])
            found.append(self._any_writes if touch.writes else self._any_reads)
        return found
