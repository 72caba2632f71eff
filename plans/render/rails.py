"""A DAG in box characters: each step has a rail that runs down to the last step that waits for it.

    ●       wa
    │ ●     wb
    ●─╯     warmer     waits for both
    ├─●     note       waits for warmer, whose rail runs on
    ●─╯     mail       waits for warmer and note

A horizontal line that meets a rail it has nothing to do with passes behind it: `├─│─●`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Row:
    """What stands before a step.

    Attributes:
        above: A line of its own before the step, if the rails need one.
        at: The rails in the step's line, with its mark.
        below: The rails in further lines of the step.
    """

    above: str | None
    at: str
    below: str


@dataclass(slots=True)
class Rails:
    """Draws steps one by one, from the first to the last.

    Attributes:
        waiting: How many steps still wait for each step.
    """

    waiting: list[int]
    _columns: list[int | None] = field(default_factory=list["int | None"])
    _bare: int | None = None

    def row(self, step: int, waits: Sequence[int], mark: str, *, has_more_lines: bool) -> Row:
        """Return the rails of the next step; `waits` are among the steps drawn already."""
        for other in waits:
            self.waiting[other] -= 1
        sources = sorted(self._columns.index(other) for other in waits)
        ending = [column for column in sources if not self._runs_on(column)]
        target = ending[0] if ending else self._free(sources[-1] + 1 if sources else 0)
        # Without a line between, a step would look as if it stood beside the one it waits for.
        needs_line = target in sources and self._bare == self._columns[target]
        above = self._rails() if needs_line else None
        at = self._line(sources, target, mark)
        for column in ending:
            self._columns[column] = None
        self._columns[target] = step if self.waiting[step] else None
        while self._columns and self._columns[-1] is None:
            self._columns.pop()
        self._bare = None if has_more_lines else step
        return Row(above, at, self._rails())

    def _runs_on(self, column: int) -> bool:
        step = self._columns[column]
        return step is not None and self.waiting[step] > 0

    def _free(self, start: int) -> int:
        for column in range(start, len(self._columns)):
            if self._columns[column] is None:
                return column
        self._columns += [None] * (max(start, len(self._columns)) + 1 - len(self._columns))
        return len(self._columns) - 1

    def _rails(self) -> str:
        return " ".join(" " if step is None else "│" for step in self._columns)

    def _line(self, sources: list[int], target: int, mark: str) -> str:
        low, high = min([target, *sources]), max([target, *sources])
        made: list[str] = []
        for column, step in enumerate(self._columns):
            inside = low <= column <= high
            if column == target:
                made.append(mark)
            elif column in sources:
                made.append(_turn(column, low, high, runs_on=self._runs_on(column)))
            else:
                made.append("│" if step is not None else "─" if inside else " ")
            made.append("─" if low <= column < high else " ")
        return "".join(made).rstrip()


def _turn(column: int, low: int, high: int, *, runs_on: bool) -> str:
    if column == low:
        return "├" if runs_on else "╰"
    if column == high:
        return "┤" if runs_on else "╯"
    return "┼" if runs_on else "┴"
