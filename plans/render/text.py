"""A plan as text for a terminal: stages from top to bottom, one step a line, rails from each step to those that wait for it.

    1 ●    wa      read   weather(city=inputs.a)
      │ ●  wb      read   weather(city=inputs.b)
    2 ●─╯  warmer  set    inputs.a if wa.celsius >= wb.celsius else inputs.b

A plan with more rails than fit on a screen names what each step waits for instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .picture import Node, Picture
from .rails import Rails, Row
from .width import columns, cut, padded

WIDTH_MIN = 40
"""Columns below which nothing would be left of a step but its name."""
ID_WIDTH_MAX = 24
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
    if legend := _legend([node for each in (picture, *picture.inner) for node in each.nodes]):
        lines += ["", legend]
    return "\n".join(lines)


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
        row = rows[number] if rows else Row(None, "", "")
        gutter = f"{indent}{'' if node.stage == before else node.stage:>{stage_width}} "
        blank = f"{indent}{'':>{stage_width}} "
        if row.above is not None:
            lines.append((blank + row.above).rstrip())
        head = f"{padded(cut(node.id, id_width), id_width)}  {_what(node):<5}  "
        names = () if rows else _names(picture, node)
        lines.append(_cut_line(f"{gutter}{padded(row.at, rails_width)}  {head}", node, names, width))
        lead = f"{blank}{padded(row.below, rails_width)}  {'':<{columns(head)}}"
        lines += [cut(lead + condition, width) for condition in node.conditions]
        before = node.stage
    return lines


def _rows(picture: Picture, order: Sequence[int]) -> list[Row]:
    """Return the rails of each step in order; none if they would be too many to follow."""
    if len(order) > RAILED_STEPS_MAX:
        return []
    waiting = [0] * len(order)
    for node in picture.nodes:
        for other in node.direct:
            waiting[other] += 1
    rails = Rails(waiting)
    rows: list[Row] = []
    for position in order:
        node = picture.nodes[position]
        rows.append(rails.row(position, node.direct, _mark(node), has_more_lines=bool(node.conditions)))
        if columns(rows[-1].at) > 2 * RAILS_MAX:
            return []
    return rows


def _mark(node: Node) -> str:
    if node.effect == "write":
        return "◇" if node.is_conditional else "◆"
    return "○" if node.is_conditional else "●"


def _what(node: Node) -> str:
    return node.kind if node.kind == "set" else node.effect or node.kind


def _names(picture: Picture, node: Node) -> tuple[str, ...]:
    return tuple(picture.nodes[other].id for other in node.needs)


def _cut_line(head: str, node: Node, waits: Sequence[str], width: int) -> str:
    """Return a step's line; the names of what it waits for take at most a third of it."""
    tail = cut(f"  <- {', '.join(waits)}", width // 3) if waits else ""
    does = node.detail if node.kind == "set" else f"{node.does} {node.detail}".rstrip()
    return (head + cut(does, max(width - columns(head) - columns(tail), 12)) + tail).rstrip()


def _legend(nodes: Sequence[Node]) -> str:
    return "   ".join(_signs(nodes))


def _signs(nodes: Sequence[Node]) -> Iterator[str]:
    if any(node.effect == "write" for node in nodes):
        yield "◆ changes the world"
    if any(node.is_conditional for node in nodes):
        yield "○ may be skipped"
