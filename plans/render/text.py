"""A plan as text for a terminal: stages from top to bottom, one line a step, and rails from each step to those that wait for it.

    1 ●    wa      read   weather(city=inputs.a)
      │ ●  wb      read   weather(city=inputs.b)
    2 ●─╯  warmer  set    inputs.a if wa.celsius >= wb.celsius else inputs.b

The rail of a step runs down to the last step that waits for it. A line from a rail to the right ends at a step that waits for it, and passes behind
rails between (`├─│─●`). A plan with more rails than fit on a screen names the steps that each step waits for instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .picture import Picture, PictureNode
from .width import columns, cut, padded, wrapped

WIDTH_MIN = 40
"""Columns; with fewer, only the names of steps would be left."""
ID_WIDTH_MAX = 24
LINES_MAX = 20
"""Lines of one sentence about what a plan leaves out."""
RAILS_MAX = 12
"""Rails side by side that an eye can follow."""
RAILED_STEPS_MAX = 500
"""Steps up to which rails are drawn."""


def text_of(picture: Picture, width: int) -> str:
    """Return the picture as lines of text, none longer than `width` columns."""
    width = max(width, WIDTH_MIN)
    lines: list[str] = [cut(picture.title, width)] if picture.title else []
    if picture.inputs:
        lines.append(cut(f"inputs  {', '.join(picture.inputs)}", width))
    if picture.deadline:
        lines.append(cut(f"deadline  {picture.deadline} after a run has begun", width))
    if lines:
        lines.append("")
    lines += _steps(picture, width)
    for inner in picture.inner:
        lines += [
            "",
            cut(f"plan {inner.title}({', '.join(inner.inputs)})", width),
            *_steps(inner, width, indent="  "),
        ]
        if inner.output:
            lines.append(cut(f"  output  {inner.output}", width))
    if picture.output:
        lines += ["", cut(f"output  {picture.output}", width)]
    if picture.left_out:
        lines += ["", *_left_out(picture, width)]
    if legend := "   ".join(_signs([node for each in (picture, *picture.inner) for node in each.nodes])):
        lines += ["", legend]
    return "\n".join(lines)


def _left_out(picture: Picture, width: int) -> list[str]:
    """Return what the plan leaves out, complete: it is for a person who decides whether the plan will do."""
    label = "left out  "
    lines: list[str] = []
    for text in picture.left_out:
        first, *rest = wrapped(text, width - len(label), LINES_MAX) or [""]
        lines += [f"{label}{first}", *(f"{'':<{len(label)}}{line}" for line in rest)]
    return lines


def _steps(picture: Picture, width: int, indent: str = "") -> list[str]:
    """Return the lines of the steps, by stages."""
    order = sorted(range(len(picture.nodes)), key=lambda position: (picture.nodes[position].stage, position))
    rows = _rows(picture, order)
    stage_width = len(str(picture.nodes[order[-1]].stage)) if order else 1
    rails_width = max((columns(row.at) for row in rows), default=0) if rows else 0
    id_width = min(max((columns(node.id) for node in picture.nodes), default=0), ID_WIDTH_MAX)
    lines: list[str] = []
    before = 0
    for number, position in enumerate(order):
        node = picture.nodes[position]
        row = rows[number] if rows else RailRow(None, "", "")
        gutter = f"{indent}{'' if node.stage == before else node.stage:>{stage_width}} "
        blank = f"{indent}{'':>{stage_width}} "
        if row.above is not None:
            lines.append((blank + row.above).rstrip())
        head = f"{padded(cut(node.id, id_width), id_width)}  {node.word:<5}  "
        names = [] if rows else [picture.nodes[other].id for other in node.needs]
        lines.append(_cut_line(f"{gutter}{padded(row.at, rails_width)}  {head}", node, names, width))
        lead = f"{blank}{padded(row.below, rails_width)}  {'':<{columns(head)}}"
        lines += [cut(lead + condition, width) for condition in node.conditions]
        before = node.stage
    return lines


def _rows(picture: Picture, order: Sequence[int]) -> list[RailRow]:
    """Return the rails of each step in order; none if they would be too many to follow."""
    if len(order) > RAILED_STEPS_MAX:
        return []
    waiting = [0] * len(order)
    for node in picture.nodes:
        for other in node.direct:
            waiting[other] += 1
    rails = Rails(waiting)
    rows: list[RailRow] = []
    for position in order:
        node = picture.nodes[position]
        rows.append(rails.row(position, node.direct, _mark(node), has_more_lines=bool(node.conditions)))
        if columns(rows[-1].at) > 2 * RAILS_MAX:
            return []
    return rows


def _mark(node: PictureNode) -> str:
    if node.effect == "write":
        return "◇" if node.is_conditional else "◆"
    return "○" if node.is_conditional else "●"


def _cut_line(head: str, node: PictureNode, waits: Sequence[str], width: int) -> str:
    """Return a step's line; the names of the steps that it waits for take at most a third of it."""
    tail = cut(f"  <- {', '.join(waits)}", width // 3) if waits else ""
    does = node.detail if node.kind == "set" else f"{node.does} {node.detail}".rstrip()
    return (head + cut(does, max(width - columns(head) - columns(tail), 12)) + tail).rstrip()


def _signs(nodes: Sequence[PictureNode]) -> Iterator[str]:
    """Yield the meaning of each sign that a picture has."""
    if any(node.effect == "write" for node in nodes):
        yield "◆ changes the world"
    if any(node.is_conditional for node in nodes):
        yield "○ may be skipped"


@dataclass(frozen=True, slots=True)
class RailRow:
    """The rails before a step.

    Attributes:
        above: The rails of an extra line above the step, if they need one.
        at: The rails of the step's line, with its mark.
        below: The rails of the step's further lines.
    """

    above: str | None
    at: str
    below: str


@dataclass(slots=True)
class Rails:
    """The rails of the steps drawn so far.

    Attributes:
        waiting: How many steps still wait for each step.
    """

    waiting: list[int]
    _columns: list[int | None] = field(default_factory=list["int | None"])
    _bare: int | None = None

    def row(self, step: int, waits: Sequence[int], mark: str, *, has_more_lines: bool) -> RailRow:
        """Return the rails of the next step.

        Args:
            step: The step.
            waits: The steps that it waits for; all are drawn already.
            mark: Its sign.
            has_more_lines: Whether lines for its conditions follow.
        """
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
        return RailRow(above, at, self._rails())

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
