"""Which parts of some texts stand verbatim in other texts: the pieces of a call's arguments that untrusted results hold.

A piece is the longest common run of characters, of at least `PIECE_MIN` characters; a shorter text counts if all of it is found. Pieces of one text do
not overlap: the longest goes first. All texts are indexed once, and each result is read once, so the work is linear in their sizes; it is
bounded besides, and `is_complete` says whether a bound was reached. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from ...plans.reports.paths import key
from ...plans.values import Json, canonical

PIECE_MIN: Final = 8
"""Characters of the shortest piece of a longer text: shorter ones occur by chance."""
AROUND: Final = 40
"""Characters of the source that are shown before and after a piece."""
PIECES_MAX: Final = 200
"""Pieces of one text; hostile text could otherwise hold one for every few characters."""
INDEXED_MAX: Final = 2_000_000
"""Characters of arguments that are compared for one view."""
READ_MAX: Final = 8_000_000
"""Characters of results that are read for one view; together with `INDEXED_MAX` a few seconds of work."""
WORK_MAX: Final = 32_000_000
"""Characters that are compared while pieces are made as long as possible; each attempt counts as `PIECE_MIN` squared more."""
SPOTS_MAX: Final = 8
"""Places of one text of `PIECE_MIN` characters that are kept: text that repeats itself has thousands."""


@dataclass(frozen=True, slots=True)
class Quote:
    """A piece of an argument that stands verbatim in an untrusted result or input.

    Attributes:
        place: The text in the argument: empty for the argument itself, else such as `.lines[0]`.
        start: The piece's first character in that text, from 0.
        end: The character after its last one.
        text: The piece.
        source: Path of the call whose result has it, or the input.
        source_place: The text in that result, as `place`.
        before: The text before the piece in the source.
        after: The text after it.
    """

    place: str
    start: int
    end: int
    text: str
    source: str
    source_place: str
    before: str
    after: str

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class _Target:
    """One text that is compared.

    Attributes:
        groups: The groups of sources in which its pieces are looked for.
        raw: Pieces as they were found: length, start, source, place, the source's text, start there.
    """

    place: str
    text: str
    is_number: bool
    groups: frozenset[int]
    raw: list[tuple[int, int, str, str, str, int]] = field(
        default_factory=list["tuple[int, int, str, str, str, int]"]
    )


class QuoteFinder:
    """Finds the pieces of many arguments in many sources.

    Attributes:
        is_complete: Whether everything was compared.
    """

    def __init__(self) -> None:
        self._targets: list[_Target] = []
        self._spots: dict[str, list[tuple[int, int]]] = {}
        self._short: list[int] = []
        self._numbers: dict[str, list[int]] = {}
        self._indexed = 0
        self._read = 0
        self._work = 0
        self.is_complete = True

    def add(self, value: Json, groups: frozenset[int]) -> range:
        """Add an argument whose pieces are looked for in the sources of these groups; return the numbers of its texts."""
        first = len(self._targets)
        for place, text, is_number in _texts(value):
            if self._indexed + len(text) > INDEXED_MAX:
                self.is_complete = False
                break
            self._indexed += len(text)
            self._index(len(self._targets), text, is_number=is_number)
            self._targets.append(_Target(place, text, is_number, groups))
        return range(first, len(self._targets))

    def _index(self, number: int, text: str, *, is_number: bool) -> None:
        if is_number:
            self._numbers.setdefault(text, []).append(number)
        elif len(text) < PIECE_MIN:
            if text.strip():
                self._short.append(number)
        else:
            for at in range(len(text) - PIECE_MIN + 1):
                spots = self._spots.setdefault(text[at : at + PIECE_MIN], [])
                if len(spots) < SPOTS_MAX:
                    spots.append((number, at))

    def read(self, source: str, value: Json, groups: Collection[int]) -> None:
        """Look for pieces in one source, which belongs to these groups."""
        for place, text, is_number in _texts(value):
            if self._read + len(text) > READ_MAX or self._work > WORK_MAX:
                self.is_complete = False
                return
            self._read += len(text)
            if is_number:
                for number in self._numbers.get(text, ()):
                    self._keep(number, 0, len(text), (source, place, text, 0), groups)
                continue
            for number in self._short:
                if (at := text.find(self._targets[number].text)) >= 0:
                    self._keep(number, 0, len(self._targets[number].text), (source, place, text, at), groups)
            if self._spots:
                self._scan(source, place, text, groups)

    def _scan(self, source: str, place: str, text: str, groups: Collection[int]) -> None:
        spots, at, last = self._spots, 0, len(text) - PIECE_MIN
        while at <= last:
            found = spots.get(text[at : at + PIECE_MIN])
            if found is None:
                at += 1
                continue
            longest = PIECE_MIN
            for number, start in found:
                target = self._targets[number]
                if target.groups.isdisjoint(groups):
                    continue
                ahead = _common(target.text, start, text, at)
                # Also backwards: the scan has jumped here over the piece of another text.
                back = _common_back(target.text, start, text, at)
                longest = max(longest, ahead)
                self._work += ahead + back + PIECE_MIN**2
                self._keep(number, start - back, back + ahead, (source, place, text, at - back), groups)
            if self._work > WORK_MAX:
                self.is_complete = False
                return
            at += longest - PIECE_MIN + 1

    def _keep(
        self,
        number: int,
        start: int,
        length: int,
        where: tuple[str, str, str, int],
        groups: Collection[int],
    ) -> None:
        target = self._targets[number]
        if target.groups.isdisjoint(groups):
            return
        piece = (length, start, *where)
        if target.raw and target.raw[-1] == piece:
            return
        # Twice as many as are shown, since shorter pieces may lie inside longer ones. The shortest go when there are too many.
        if len(target.raw) >= 4 * PIECES_MAX:
            target.raw.sort(key=lambda each: -each[0])
            del target.raw[2 * PIECES_MAX :]
            self.is_complete = False
        target.raw.append(piece)

    def quotes(self, numbers: Sequence[int]) -> tuple[Quote, ...]:
        """Return the pieces of some texts, in their order."""
        made: list[Quote] = []
        for number in numbers:
            target = self._targets[number]
            kept = _without_overlaps(target)
            if len(kept) > PIECES_MAX:
                self.is_complete = False
            made += sorted(kept[:PIECES_MAX], key=lambda quote: quote.start)
        return tuple(made)


def _without_overlaps(target: _Target) -> list[Quote]:
    """Return the longest pieces of a text, none of which overlap; what an earlier source holds goes before equals."""
    taken = bytearray(len(target.text))
    kept: list[Quote] = []
    ordered = sorted(enumerate(target.raw), key=lambda each: (-each[1][0], each[0]))
    for _, (length, start, source, place, text, at) in ordered:
        # What a longer piece covers is cut off; the rest counts if it is still a piece.
        first, end = start, start + length
        while first < end and taken[first]:
            first += 1
        while end > first and taken[end - 1]:
            end -= 1
        is_all = end - first == len(target.text)
        if end == first or any(taken[first:end]) or (end - first < PIECE_MIN and not is_all):
            continue
        taken[first:end] = b"\x01" * (end - first)
        there = at + first - start
        kept.append(
            Quote(
                target.place,
                first,
                end,
                target.text[first:end],
                source,
                place,
                text[max(0, there - AROUND) : there],
                text[there + end - first : there + end - first + AROUND],
            )
        )
    return kept


def _texts(value: Json) -> Iterator[tuple[str, str, bool]]:
    """Yield the texts and numbers in a value with their places, in order; of a number its canonical text."""
    waiting: list[tuple[str, Json]] = [("", value)]
    while waiting:
        place, part = waiting.pop()
        match part:
            case str():
                yield place, part, False
            case dict():
                waiting += [(f"{place}{key(name)}", part[name]) for name in reversed(part)]
            case list():
                waiting += [(f"{place}[{index}]", part[index]) for index in reversed(range(len(part)))]
            case bool() | None:
                pass
            case _:
                yield place, canonical(part).decode(), True


def _common(one: str, i: int, other: str, j: int) -> int:
    """Return the number of equal characters from two places on."""
    return _longest(
        min(len(one) - i, len(other) - j), lambda a, b: one[i + a : i + b] == other[j + a : j + b]
    )


def _common_back(one: str, i: int, other: str, j: int) -> int:
    """Return the number of equal characters before two places."""
    return _longest(min(i, j), lambda a, b: one[i - b : i - a] == other[j - b : j - a])


def _longest(most: int, is_equal: Callable[[int, int], bool]) -> int:
    """Return the length of the longest equal run, at most `most`; `is_equal(a, b)` compares the characters from `a` to `b`."""
    # Growing slices are compared in C; character by character a long piece would take a hundred times as long.
    known, step = 0, 16
    while known < most and is_equal(known, min(known + step, most)):
        known = min(known + step, most)
        step *= 2
    high = min(known + step, most)
    while high - known > 1:
        middle = (known + high) // 2
        if is_equal(known, middle):
            known = middle
        else:
            high = middle
    return known
