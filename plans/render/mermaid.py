"""A plan as a Mermaid flowchart: effects as colours, `when` as a dashed border, `for_each` as a box with double sides.

Thick lines are the longest chain, dotted ones only an order. Inner plans are subgraphs of their own.
"""

from __future__ import annotations

from collections.abc import Iterator

from .picture import Picture, PictureNode
from .width import cut

LABEL_MAX = 60
"""Columns of a line in a box."""

_COLOURS = {
    "pure": "fill:#f1f5f9,stroke:#64748b,color:#1e293b",
    "read": "fill:#e0f2fe,stroke:#0284c7,color:#0c4a6e",
    "model": "fill:#ede9fe,stroke:#7c3aed,color:#4c1d95",
    "write": "fill:#ffedd5,stroke:#ea580c,color:#7c2d12",
    "unknown": "fill:#ffffff,stroke:#94a3b8,color:#1e293b",
    "output": "fill:#ffffff,stroke:#334155,color:#1e293b",
}
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
    return "\n".join(["flowchart TD", *chart.lines, *chart.styles()])


class _Chart:
    """The lines of a flowchart in the making; links are styled by their number."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.links = 0
        self.bold: list[str] = []
        self.conditional: list[str] = []
        self.used: set[str] = set()

    def draw(self, picture: Picture, prefix: str, indent: str) -> None:
        """Add a plan's steps and what leads from one to another; names are numbers, since ids such as `end` are words of Mermaid."""
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
        """Yield the lines that say how things look."""
        yield from (f"  classDef {name} {style}" for name, style in _COLOURS.items() if name in self.used)
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
    """Return text that Mermaid shows as it is: on one line, its own signs as entities."""
    short = cut(" ".join(text.split()), LABEL_MAX)
    for plain, entity in _ENTITIES:
        short = short.replace(plain, entity)
    return short
