"""A plan as a Mermaid flowchart: effects as colours, `when` as a dashed border, `for_each` as a stacked shape, the longest chain bold."""

from __future__ import annotations

from .picture import Node, Picture

LABEL_MAX = 60
"""Characters of a line in a box."""

_COLOURS = {
    "pure": "fill:#eef2f7,stroke:#64748b,color:#1e293b",
    "read": "fill:#e0f2fe,stroke:#0284c7,color:#0c4a6e",
    "model": "fill:#f3e8ff,stroke:#9333ea,color:#581c87",
    "write": "fill:#ffedd5,stroke:#ea580c,color:#7c2d12",
    "unknown": "fill:#ffffff,stroke:#94a3b8,color:#1e293b",
}


def mermaid_of(picture: Picture) -> str:
    """Return the picture as a Mermaid flowchart."""
    lines = ["flowchart TD"]
    for number, node in enumerate(picture.nodes):
        lines.append(f"  {_name(number)}{_box(node)}:::{node.effect or 'unknown'}")
    links: list[bool] = []
    for number, node in enumerate(picture.nodes):
        for other in node.needs:
            lines.append(f"  {_name(other)} --> {_name(number)}")
            links.append(node.is_critical and picture.nodes[other].is_critical)
        for other in node.after:
            lines.append(f"  {_name(other)} -.-> {_name(number)}")
            links.append(False)
    used = {node.effect or "unknown" for node in picture.nodes}
    lines += [f"  classDef {name} {style}" for name, style in _COLOURS.items() if name in used]
    conditional = [_name(number) for number, node in enumerate(picture.nodes) if node.is_conditional]
    if conditional:
        lines += [
            "  classDef conditional stroke-dasharray:5 4",
            f"  class {','.join(conditional)} conditional",
        ]
    bold = [str(number) for number, is_bold in enumerate(links) if is_bold]
    if bold:
        lines.append(f"  linkStyle {','.join(bold)} stroke-width:3px")
    return "\n".join(lines)


def _name(number: int) -> str:
    """Return a node's name: ids such as `end` are words of Mermaid."""
    return f"s{number}"


def _box(node: Node) -> str:
    does = f"{node.does} {node.detail}".strip()
    label = "<br/>".join([f"<b>{_escaped(node.id)}</b>", _escaped(does), *map(_escaped, node.conditions)])
    left, right = ('[["', '"]]') if node.fans_out else ('["', '"]')
    return f"{left}{label}{right}"


def _escaped(text: str) -> str:
    short = text if len(text) <= LABEL_MAX else f"{text[: LABEL_MAX - 2]}.."
    for plain, entity in (
        ("#", "#35;"),
        ("&", "#amp;"),
        ('"', "#quot;"),
        ("<", "#lt;"),
        (">", "#gt;"),
        ("`", "#96;"),
    ):
        short = short.replace(plain, entity)
    return short
