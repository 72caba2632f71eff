"""Task patterns: `Compare the weather in {a} and {b}` answers `compare the weather in Rome and Oslo`.

A pattern is the `task` of a saved plan; its holes are names of the plan's inputs, anything else in braces is text. Case,
white space, quotes around a value and a full stop or question mark at the end do not matter. A hole takes as few words as
will do, and only words that its input's schema can be read from. A hole for text whose input has a default takes at most as many
words as the default has, and only where the task can be read in one way; else the pattern matches in doubt (`Reading.doubt`).

Time is bounded by holes, and by the square of the task's length, which is bounded itself.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TypeAlias

from ...plans.inputs import HOLE
from ...plans.plan import Plan
from ...plans.values import Json
from .words import NoFit, is_choice, is_free, read_words

TASK_CHARACTERS_MAX = 2_000
"""Longer tasks are not held against patterns: nobody phrases one that long twice, and time grows with the square."""

READINGS_MAX = 8
"""Number of readings of the rest of a task that are searched: two are enough to see an ambiguity."""

Values: TypeAlias = "list[tuple[str, Json]]"
_WORD = re.compile(r"\w+")
_PART = re.compile(r"(?:[^\s,;]|[,;](?=\d))+")


@dataclass(frozen=True, slots=True)
class Reading:
    """A task read by a pattern.

    Attributes:
        inputs: The values of the holes.
        doubt: Why the values may differ from the meaning of the task, so that only a model may decide; `None`: no doubt.
    """

    inputs: dict[str, Json]
    doubt: str | None = None


@dataclass(frozen=True)
class TaskPattern:
    """The tasks that a saved plan answers.

    Attributes:
        text: As it was written, white space evened out.
        literals: The text before, between and after the holes: one more than holes.
        holes: Names of inputs, in order.
        inputs: Their schemas.
        types: The plan's types.
    """

    text: str
    literals: tuple[str, ...]
    holes: tuple[str, ...]
    inputs: Mapping[str, Mapping[str, Json]] = field(repr=False)
    types: Mapping[str, Json] = field(repr=False)

    @classmethod
    def of(cls, plan: Plan) -> TaskPattern | None:
        """Return the pattern of a plan's task; `None` if it has no task, or one that is no pattern (`pattern_fault`)."""
        text = plain(plan.task or "")
        if not text or pattern_fault(plan) is not None:
            return None
        literals, holes = _split(text, plan.inputs)
        return cls(text, literals, holes, plan.inputs, plan.types)

    @property
    def rank(self) -> tuple[int, int]:
        """Sorts the more specific pattern first: by words of its own, then by holes that take any words."""
        words = sum(len(_WORD.findall(literal)) for literal in self.literals)
        return (-words, sum(is_free(self.inputs[name], self.types) for name in self.holes))

    def match(self, task: str) -> dict[str, Json] | None:
        """Return the inputs in a task's words; `None` if the task does not match the pattern, or matches only in doubt.

        A task that is the pattern itself, holes and all, gives none: whoever asks so gives the inputs apart.
        """
        reading = self.reading(task)
        return None if reading is None or reading.doubt is not None else reading.inputs

    def reading(self, task: str) -> Reading | None:
        """Return the result of `match`, including a match in doubt."""
        text = plain(task)
        if text.casefold() == self.text.casefold():
            return Reading({})
        if len(text) > TASK_CHARACTERS_MAX:
            return None
        head = _found(self.literals[0], text, 0, at_start=True)
        if head is None:
            return None
        if not self.holes:
            return Reading({}) if head == len(text) else None
        return self._filled(text, head)

    def _filled(self, text: str, head: int) -> Reading | None:
        """Return the reading of a task whose first hole begins at `head`."""
        if self._words_max:
            found = self._fill(text, 0, head, {}, READINGS_MAX, self._words_max)
            if found:
                same = all(dict(other) == dict(found[0]) for other in found)
                return Reading(dict(found[0]), None if same else "its words can be read in more than one way")
        found = self._fill(text, 0, head, {}, 1)
        if not found:
            return None
        values = dict(found[0])
        return Reading(values, self._excess(values))

    def _excess(self, values: Mapping[str, Json]) -> str | None:
        """Return the hole that takes more words than its input's default has."""
        for name, most in self._words_max.items():
            words = _length(str(values[name]))
            if words > most:
                return f"the input '{name}' would take {words} words, but its default has {most}"
        return None

    @cached_property
    def _words_max(self) -> dict[str, int]:
        """Most words of each hole that takes any words and whose input has a text as its default."""
        bounded: dict[str, int] = {}
        for name in self.holes:
            default = self.inputs[name].get("default")
            if isinstance(default, str) and not is_choice(self.inputs[name], self.types):
                bounded[name] = max(1, _length(default))
        return bounded

    def _fill(
        self,
        text: str,
        index: int,
        start: int,
        known: dict[tuple[int, int], list[Values]],
        most: int,
        bounds: Mapping[str, int] = MappingProxyType({}),
    ) -> list[Values]:
        """Return up to `most` lists of values for the holes from `index` on, the first of which begins at `start`.

        Args:
            text: The task.
            index: Of the first hole to fill.
            start: Where that begins.
            known: Earlier results, by `index` and `start`.
            most: Most lists to search for.
            bounds: Most words of a hole, by its name.
        """
        if (index, start) in known:
            return known[index, start]
        name = self.holes[index]
        is_last = index + 1 == len(self.holes)
        found: list[Values] = []
        for end, after in _ends(self.literals[index + 1], text, start + 1, is_last=is_last):
            if name in bounds and _length(text[start:end]) > bounds[name]:
                break
            value = self._read(index, text[start:end])
            if isinstance(value, NoFit):
                continue
            rests: list[Values] = [[]] if is_last else self._fill(text, index + 1, after, known, most, bounds)
            found += [
                [(name, value), *rest]
                for rest in rests
                if all(other == value for each, other in rest if each == name)
            ]
            if len(found) >= most:
                break
        known[index, start] = found[:most]
        return known[index, start]

    def _read(self, index: int, words: str) -> Json | NoFit:
        try:
            return read_words(words, self.inputs[self.holes[index]], self.types)
        except NoFit as fault:
            return fault


def said(value: object) -> str | None:
    """Return a value as a task's words say it: `8` for 8, 8.0 and "8", which words do not tell apart; `None`: no text or number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _length(text: str) -> int:
    """Return how many words a text has; a comma parts words, unless it is within a number."""
    return len(_PART.findall(text))


def pattern_fault(plan: Plan) -> str | None:
    """Return why a plan's task cannot tell its inputs from a task's words, and what to do; `None`: it can, or has no hole.

    A task that begins with a hole and has no word of its own would answer everything. A learnt template whose inputs share a default, and of which one has
    no hole, has lost that hole to the other: its default would answer for every value.
    """
    literals, holes = _split(plain(plan.task or ""), plan.inputs)
    if not holes:
        return None
    if not literals[0].strip() and not any(_WORD.search(literal) for literal in literals):
        return "its pattern has only holes and would answer every task; expected words beside the holes"
    if "" in literals[1:-1]:
        return "nothing tells two of its holes apart; expected words between them"
    defaults = {name: plan.inputs[name].get("default") for name in plan.inputs}
    for name, default in defaults.items():
        rivals = [hole for hole in holes if said(defaults[hole]) == said(default)]
        if (
            name not in holes
            and rivals
            and isinstance(default, str | int | float)
            and not isinstance(default, bool)
        ):
            return (
                f"its inputs '{rivals[0]}' and '{name}' have the same default {default!r}, but only '{rivals[0]}' has a hole; "
                f"expected a hole for '{name}' too, or another default"
            )
    return None


def own_words(plan: Plan) -> str:
    """Return the words of a plan's task without its holes."""
    return " ".join(_split(plain(plan.task or ""), plan.inputs)[0])


def _split(text: str, inputs: Container[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the text before, between and after the holes of a task, and the names of the holes."""
    literals, holes, position = [""], list[str](), 0
    for hole in HOLE.finditer(text):
        is_hole = hole[1] in inputs
        literals[-1] += text[position : hole.start() if is_hole else hole.end()]
        position = hole.end()
        if is_hole:
            holes.append(hole[1])
            literals.append("")
    literals[-1] += text[position:]
    return tuple(literals), tuple(holes)


def plain(text: str) -> str:
    """Return a task without what does not matter: runs of white space, marks at its end."""
    return " ".join(text.split()).rstrip(".!? ")


def _found(literal: str, text: str, start: int, *, at_start: bool = False) -> int | None:
    """Return where a literal that stands at `start` ends, whatever its case."""
    pattern = re.compile(re.escape(literal), re.IGNORECASE)
    found = pattern.match(text, start) if at_start else pattern.search(text, start)
    return None if found is None else found.end()


def _ends(literal: str, text: str, start: int, *, is_last: bool) -> list[tuple[int, int]]:
    """Return where a hole may end, the nearest first: (its end, the end of the literal after it)."""
    if is_last:
        pattern = re.compile(re.escape(literal) + r"\Z", re.IGNORECASE)
        found = pattern.search(text, start) if literal else None
        if not literal:
            return [(len(text), len(text))] if start <= len(text) else []
        return [] if found is None else [(found.start(), found.end())]
    pattern = re.compile(f"(?={re.escape(literal)})", re.IGNORECASE)
    return [(found.start(), found.start() + len(literal)) for found in pattern.finditer(text, start)]
