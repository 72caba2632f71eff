"""A plan as a Mermaid flowchart: effects are colours, `when` is a dashed border, `for_each` a box with double sides.

Thick lines are the longest chain, dotted lines mere `after`. Each inner plan is a subgraph.
"""

from __future__ import annotations

from collections.abc import Iterator

from .picture import EFFECT_COLOURS, Picture, PictureNode
from .width import cut, wrapped

LABEL_MAX = 60
"""Columns of a line in a box."""

_OUTPUT_COLOURS = ("#334155", "#ffffff", "#1e293b")
_ENTITIES = (("#", "#35;"), ("&", "#amp;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;"), ("`", "#96;"))


def mermaid_of(picture: Picture) -> str:
    """Return the picture as a Mermaid flowchart."""
    chart = _Chart()
    chart.draw(picture, "s", "  ")
    for number, inner in enumerate(picture.inner):
        title = f"plan {inner.title}({', '.join(inner.inputs)})"
        chart.lines.append(f'  subgraph p{number}["{_escaped(title)}"]')
        chart.draw(inner, f"p{number}s", "    ")
        chart.lines.append("  end")
    for number, text in enumerate(picture.left_out):
        label = "<br/>".join(map(_escaped, wrapped(f"left out: {text}", LABEL_MAX, 10)))
        chart.lines.append(f'  leftout{number}>"{label}"]')
    return "\n".join(["flowchart TD", *chart.lines, *chart.styles()])


class _Chart:
    """The lines of a flowchart; Mermaid styles links by their number, so they are counted."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.links = 0
        self.bold: list[str] = []
        self.conditional: list[str] = []
        self.used: set[str] = set()

    def draw(self, picture: Picture, prefix: str, indent: str) -> None:
        """Add a plan's steps and links. Nodes have numbers as names, since ids such as `end` are words of Mermaid.

        Args:
            picture: The plan.
            prefix: Begins the names of its nodes.
            indent: Begins its lines.
        """
        for number, node in enumerate(picture.nodes):
            effect = node.effect or "unknown"
            self.used.add(effect)
            self.lines.append(f"{indent}{prefix}{number}{_box(node)}:::{effect}")
            if node.is_conditional:
                self.conditional.append(f"{prefix}{number}")
        for number, node in enumerate(picture.nodes):
            for other in node.needs:
                is_bold = node.is_critical and picture.nodes[other].is_critical and other not in node.implied
                self._link(f"{indent}{prefix}{other} --> {prefix}{number}", is_bold=is_bold)
            for other in node.after:
                self._link(f"{indent}{prefix}{other} -.-> {prefix}{number}")
        if picture.output:
            self.used.add("output")
            self.lines.append(f'{indent}{prefix}out(["output: {_escaped(picture.output)}"]):::output')
            for other in picture.output_needs:
                self._link(f"{indent}{prefix}{other} --> {prefix}out")

    def styles(self) -> Iterator[str]:
        """Yield the lines that style nodes and links."""
        colours = {effect: light for effect, (light, _) in EFFECT_COLOURS.items()} | {
            "output": _OUTPUT_COLOURS
        }
        for name, (line, ground, text) in colours.items():
            if name in self.used:
                yield f"  classDef {name} fill:{ground},stroke:{line},color:{text}"
        if self.conditional:
            yield "  classDef conditional stroke-dasharray:5 4"
            yield f"  class {','.join(self.conditional)} conditional"
        if self.bold:
            yield f"  linkStyle {','.join(self.bold)} stroke-width:3px"

    def _link(self, line: str, *, is_bold: bool = False) -> None:
        if is_bold:
            self.bold.append(str(self.links))
        self.links += 1
        self.lines.append(line)


def _box(node: PictureNode) -> str:
    does = f"{node.does} {node.detail}".strip()
    label = "<br/>".join([f"<b>{_escaped(node.id)}</b>", _escaped(does), *map(_escaped, node.conditions)])
    left, right = ('[["', '"]]') if node.fans_out else ('["', '"]')
    return f"{left}{label}{right}"


def _escaped(text: str) -> str:
    """Return text on one line that Mermaid shows as it is: its own signs become entities."""
    short = cut(" ".join(text.split()), LABEL_MAX)
    for plain, entity in _ENTITIES:
        short = short.replace(plain, entity)
    return short
