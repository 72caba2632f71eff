"""Task patterns: `Compare the weather in {a} and {b}` answers `compare the weather in Rome and Oslo`.

A pattern is the `task` of a saved plan; its holes are names of the plan's inputs, anything else in braces is text. Case,
white space, quotes around a value and a full stop or question mark at the end do not matter. A hole takes as few words as
will do, and only words that its input's schema can be read from.

Time is bounded by holes, and by the square of the task's length, which is bounded itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..plans.holes import HOLE
from ..plans.plan import Plan
from ..plans.values import Json
from .words import NoFit, is_free, read_words

TASK_CHARACTERS_MAX = 2_000
"""Longer tasks are not held against patterns: nobody phrases one that long twice, and time grows with the square."""

_WORD = re.compile(r"\w+")


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
        """Return the pattern of a plan's task; `None` if it has no task, or holes that nothing tells apart."""
        text = plain(plan.task or "")
        if not text:
            return None
        literals, holes, position = [""], list[str](), 0
        for hole in HOLE.finditer(text):
            literals[-1] += (
                text[position : hole.start()] if hole[1] in plan.inputs else text[position : hole.end()]
            )
            position = hole.end()
            if hole[1] in plan.inputs:
                holes.append(hole[1])
                literals.append("")
        literals[-1] += text[position:]
        if "" in literals[1:-1]:
            return None
        return cls(text, tuple(literals), tuple(holes), plan.inputs, plan.types)

    @property
    def rank(self) -> tuple[int, int]:
        """Sorts the more specific pattern first: by words of its own, then by holes that take any words."""
        words = sum(len(_WORD.findall(literal)) for literal in self.literals)
        return (-words, sum(is_free(self.inputs[name], self.types) for name in self.holes))

    def match(self, task: str) -> dict[str, Json] | None:
        """Return the inputs that a task's words give; `None` if the task is not of this pattern.

        A task that is the pattern itself, holes and all, gives none: whoever asks so gives the inputs apart.
        """
        text = plain(task)
        if text.casefold() == self.text.casefold():
            return {}
        if len(text) > TASK_CHARACTERS_MAX:
            return None
        head = _found(self.literals[0], text, 0, at_start=True)
        if head is None:
            return None
        if not self.holes:
            return {} if head == len(text) else None
        values = self._fill(text, 0, head, set())
        return None if values is None else dict(values)

    def _fill(
        self, text: str, index: int, start: int, failed: set[tuple[int, int]]
    ) -> list[tuple[str, Json]] | None:
        """Return values for the holes from `index` on, the first of them beginning at `start`."""
        if (index, start) in failed:
            return None
        literal = self.literals[index + 1]
        is_last = index + 1 == len(self.holes)
        for end, after in _ends(literal, text, start + 1, is_last=is_last):
            value = self._read(index, text[start:end])
            if isinstance(value, NoFit):
                continue
            rest = [] if is_last else self._fill(text, index + 1, after, failed)
            if rest is not None and all(other == value for name, other in rest if name == self.holes[index]):
                return [(self.holes[index], value), *rest]
        failed.add((index, start))
        return None

    def _read(self, index: int, words: str) -> Json | NoFit:
        try:
            return read_words(words, self.inputs[self.holes[index]], self.types)
        except NoFit as fault:
            return fault


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
