"""A plan as text for a terminal: stages from top to bottom, one step a line, and what it waits for.

    1 ┬ wa      read   weather city=inputs.a
      └ wb      read   weather city=inputs.b
    2 ─ warmer  pure   = inputs.a if wa.celsius >= wb.celsius else inputs.b  <- wa, wb
"""

from __future__ import annotations

from itertools import groupby

from .picture import Node, Picture

WIDTH = 110
"""Characters of a line; longer ones are cut."""
ID_WIDTH_MAX = 24


def text_of(picture: Picture) -> str:
    """Return the picture as lines of text."""
    lines: list[str] = [picture.title] if picture.title else []
    if picture.inputs:
        lines.append(_cut(f"inputs  {', '.join(picture.inputs)}"))
    if lines:
        lines.append("")
    lines += _stages(picture)
    if picture.output:
        lines += ["", _cut(f"output  {picture.output}")]
    return "\n".join(lines)


def _stages(picture: Picture) -> list[str]:
    nodes = sorted(enumerate(picture.nodes), key=lambda numbered: numbered[1].stage)
    id_width = min(max((len(node.id) for node in picture.nodes), default=0), ID_WIDTH_MAX)
    stage_width = len(str(nodes[-1][1].stage)) if nodes else 1
    lines: list[str] = []
    for stage, group in groupby(nodes, key=lambda numbered: numbered[1].stage):
        members = [node for _, node in group]
        for number, node in enumerate(members):
            label = str(stage) if number == 0 else ""
            bar = _bar(number, len(members))
            lines.append(_line(picture, node, f"{label:>{stage_width}} {bar} ", id_width))
            lines += _conditions(node, stage_width, id_width, is_last=number == len(members) - 1)
    return lines


def _bar(number: int, count: int) -> str:
    if count == 1:
        return "─"
    if number == 0:
        return "┬"
    return "└" if number == count - 1 else "├"


def _line(picture: Picture, node: Node, lead: str, id_width: int) -> str:
    mark = "*" if node.is_critical else " "
    head = f"{lead}{node.id:<{id_width}} {mark} {node.effect or '?':<5}  "
    waits = [picture.nodes[other].id for other in (*node.needs, *node.after)]
    tail = f"  <- {', '.join(waits)}" if waits else ""
    tail = tail if len(tail) <= WIDTH // 3 else f"{tail[: WIDTH // 3 - 2]}.."
    does = f"{node.does} {node.detail}".strip()
    return head + _cut(does, WIDTH - len(head) - len(tail)) + tail


def _conditions(node: Node, stage_width: int, id_width: int, *, is_last: bool) -> list[str]:
    bar = " " if is_last else "│"
    lead = f"{'':>{stage_width}} {bar} {'':<{id_width}}          "
    return [_cut(f"{lead}{condition}") for condition in node.conditions]


def _cut(text: str, width: int = WIDTH) -> str:
    return text if len(text) <= width else f"{text[: width - 2]}.."
