"""A cache of results of the reuse log, by key.

Results that were made together are asked for together: the calls of a run that runs again follow each other as they did before, and so do their
results in the log. So a segment is kept with all of its lines when one of them is asked for. The index says which lines are the newest of their keys; once a
quarter of a segment was asked for, the index is asked about all of its lines at once. What the index says stays known: results that this process adds take the
place of older ones, and once another process has written to the file, all is forgotten.

A look into the index costs 7 us a key, among other things since SQLite drops the pages that a connection has read after each commit of another one. Without these looks a step of 500 that are
reused takes a fifth to a quarter less CPU (2026-12-03: `benchmarks/compare_versions.py`, row "all reused").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from threading import Lock
from typing import Final

from ...plans.immutable import record
from .reuse_log import INLINE_BYTES_MAX, is_inline, read_result
from .store import Reusable

# Of all lines that are kept: some dozens of segments, so that the calls of several runs at a time find theirs.
BYTES_MAX: Final = 2**21
OVERHEAD_BYTES: Final = 500  # of a result that was added, above its output
SHARE: Final = 4  # once one line in so many was asked for, the others of the segment are looked up too


@record
class _Kept:
    """A segment that was read, or some results that were added.

    Attributes:
        lines: Key -> line; empty for results that were added.
        size: Bytes of all lines, or about as many as the results take.
        results: Key -> the result, of the lines that were asked for, or of all that were added.
        newest: How many lines are known to be the newest of their keys.
        is_complete: Whether the index was asked about all lines.
    """

    lines: Mapping[str, bytes]
    size: int
    results: dict[str, Reusable] = field(default_factory=dict[str, Reusable])
    newest: int = 0
    is_complete: bool = False


class ResultCache:
    """Results by key. May be used on any thread.

    Attributes:
        changes: How often `add` or `forget` was called. Whoever reads the log notes it before, for `keep`.
    """

    def __init__(self) -> None:
        self.changes = 0
        self._segments: dict[int, _Kept] = {}  # the one that was read first comes first
        self._numbers: dict[str, int] = {}  # key -> the segment with its newest result
        self._size = 0
        self._added = 0  # results that were added are kept under numbers below 0
        self._lock = Lock()

    def find(self, keys: Iterable[str]) -> dict[str, Reusable]:
        """Return the results of some keys; those that are not known are left out."""
        found: dict[str, Reusable] = {}
        if not self._numbers:
            return found
        with self._lock:
            for key in keys:
                if (number := self._numbers.get(key)) is None:
                    continue
                kept = self._segments[number]
                if (result := kept.results.get(key)) is None:
                    result = kept.results[key] = read_result(kept.lines[key], _NO_VALUES.get)
                found[key] = result
        return found

    def lines_of(self, number: int) -> Mapping[str, bytes] | None:
        """Return the lines of a segment by key; `None`: it is not kept."""
        kept = self._segments.get(number)
        return None if kept is None else kept.lines

    def is_worth_all(self, number: int, lines: int, newest: int) -> bool:
        """Whether to ask the index about all lines of a segment.

        Args:
            number: The segment.
            lines: How many it has.
            newest: How many of them the index has just named.
        """
        kept = self._segments.get(number)
        if kept is not None and kept.is_complete:
            return False
        known = kept.newest if kept is not None else 0
        return (known + newest) * SHARE >= lines

    def keep(
        self,
        number: int,
        lines: Mapping[str, bytes],
        newest: Sequence[str],
        changes: int,
        *,
        is_complete: bool,
    ) -> None:
        """Keep a segment that was read.

        Args:
            number: Its number.
            lines: Key -> line.
            newest: The keys that lead to this segment.
            changes: What `changes` was before the index was asked; if it has changed since, there may be newer results, and nothing is kept.
            is_complete: Whether the index was asked about all of them.
        """
        with self._lock:
            if changes != self.changes:
                return
            if (kept := self._segments.get(number)) is None:
                kept = self._segments[number] = _Kept(lines, sum(map(len, lines.values())))
                self._size += kept.size
            # The value of a line that names one may have been removed.
            inline = [key for key in newest if is_inline(lines[key])]
            self._numbers.update(dict.fromkeys(inline, number))
            kept.newest += len(newest)
            kept.is_complete = kept.is_complete or is_complete
            self._make_room()

    def add(self, results: Iterable[Reusable]) -> None:
        """Keep results that this process has added to the log, in place of the older ones of their keys. They are in no segment that was read."""
        made = {result.key: result for result in results}
        inline = {key: each for key, each in made.items() if len(each.output) <= INLINE_BYTES_MAX}
        with self._lock:
            self.changes += 1
            for key in made:
                self._numbers.pop(key, None)
            if inline:
                self._added -= 1
                kept = _Kept({}, sum(OVERHEAD_BYTES + len(each.output) for each in inline.values()), inline)
                self._segments[self._added] = kept
                self._numbers.update(dict.fromkeys(inline, self._added))
                self._size += kept.size
                self._make_room()

    def forget(self, keys: Iterable[str]) -> None:
        """Forget the results of some keys, which may have newer ones."""
        with self._lock:
            self.changes += 1
            for key in keys:
                self._numbers.pop(key, None)

    def _make_room(self) -> None:
        while self._size > BYTES_MAX:
            self._drop(next(iter(self._segments)))

    def _drop(self, number: int) -> None:
        kept = self._segments.pop(number)
        self._size -= kept.size
        for key in kept.lines or kept.results:
            if self._numbers.get(key) == number:
                del self._numbers[key]


_NO_VALUES: Final[Mapping[str, bytes]] = {}  # a line that names a value is never looked for here
