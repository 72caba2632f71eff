"""The tables and the plot of docs/PERFORMANCE.md, from the figures that `make performance` and `make peers` leave.

    python benchmarks/report.py

Figures are in `figures.json` (`bench_steps.py --json`) and `peers/figures.json` (`compare_peers.py --json`). What is between two markers of the page is
written anew; the rest of the page is written by hand. `tests/docs/test_performance_page.py` compares page and figures.
"""

from __future__ import annotations

import json
import math
import re
from html import escape
from pathlib import Path
from typing import Any, Final, TypeAlias

HERE: Final = Path(__file__).parent
PAGE: Final = HERE.parent / "docs" / "PERFORMANCE.md"
PLOT: Final = HERE.parent / "docs" / "performance.svg"
MARKED: Final = "<!-- {name}: written by benchmarks/report.py -->\n{text}\n<!-- end of {name} -->"

Document: TypeAlias = "dict[str, Any]"


def read(path: Path) -> Document:
    """Return the figures of a file."""
    return json.loads(path.read_text())


def number_of(value: float | None) -> str:
    """Return a figure in as many digits as tell something."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    digits = 3 if value < 2 else 2 if value < 10 else 1
    return f"{value:.{digits}f}"


def about(document: Document, command: str) -> str:
    """Return on what the figures were measured."""
    machine = document["machine"]
    load = machine["load"]
    return (
        f"Measured by `{command}` on {machine['date']}: {machine['processor']}, {machine['system']}, "
        f"Python {machine['python']}; a load of {load} when it began; {document['rounds']} rounds."
    )


def verdict_of(row: Document, gate: float | None, goal: float | None) -> str:
    """Return where a row stands."""
    if goal is not None and row["figure"] <= goal:
        return "goal"
    if gate is not None and row["figure"] <= gate:
        return "gate" if goal is not None else "reached"
    return "**not reached**"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def of(row: Document) -> str:
    """Return what a row's figure counts."""
    return f"x {row['floor']}" if row["floor"] else row["unit"]


def asked_table(steps: Document) -> str:
    """Return the rows of which something is asked."""
    found: list[list[str]] = []
    for row in steps["rows"]:
        gate, goal = row["gate"], row["goal"]
        if gate is None and goal is None:
            continue
        spread = f"{number_of(row['low'])} to {number_of(row['high'])}"
        found.append(
            [
                f"{row['group']}: {row['name']}",
                of(row),
                f"**{number_of(row['figure'])}**",
                spread,
                "" if gate is None else f"{gate:,g}",
                "" if goal is None else f"{goal:,g}",
                verdict_of(row, gate, goal),
            ]
        )
    head = ["row", "in", "median", "least to most", "gate", "goal", "reached"]
    return f"{about(steps, 'make performance')}\n\n{table(head, found)}"


def other_table(steps: Document) -> str:
    """Return all other rows."""
    found = [
        [
            f"{row['group']}: {row['name']}",
            of(row),
            number_of(row["figure"]),
            f"{number_of(row['low'])} to {number_of(row['high'])}",
            row["amount"],
        ]
        for row in steps["rows"]
        if row["gate"] is None and row["goal"] is None
    ]
    return table(["row", "in", "median", "least to most", "typically"], found)


def peers_table(peers: Document) -> str:
    """Return firmplan beside its peers."""
    found = [
        [
            f"{row['peer']} {row['version']}: {row['name']}",
            number_of(row["figure"]),
            f"{number_of(row['low'])} to {number_of(row['high'])}",
            *row["does"],
        ]
        for row in peers["rows"]
    ]
    head = ["engine", "x gather", "least to most", "durable", "reuses", "replays", "validates"]
    return f"{about(peers, 'make peers')}\n\n{table(head, found)}"


STYLE: Final = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.axis { stroke: #8c959f; stroke-width: 1 } .tick { font-size: 11px; fill: #59636e }
.own { fill: #0969da } .peer { fill: #8c959f } .gate { stroke: #bc4c00; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
 text { fill: #f0f6fc } .tick { fill: #9198a1 } .axis { stroke: #656c76 }
 .own { fill: #4493f8 } .peer { fill: #656c76 } .gate { stroke: #f0883e }
}
"""
LEFT: Final = 290
WIDTH: Final = 860
LINE: Final = 24
TOP: Final = 34


def plot(steps: Document, peers: Document) -> str:
    """Return a picture of a step's cost in all engines, on a logarithmic scale; a mark shows the gate of our rows."""
    gates = {row["name"]: row["gate"] for row in steps["rows"] if row["group"] == "TypedDict"}
    rows = sorted(peers["rows"], key=lambda row: row["figure"])
    top = 10 ** math.ceil(math.log10(max(row["figure"] for row in rows)))
    height = TOP + LINE * len(rows) + 40

    def at(value: float) -> float:
        return LEFT + (WIDTH - LEFT - 70) * math.log10(max(value, 1)) / math.log10(top)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>CPU time of a step, as multiples of asyncio.gather</title>",
        f"<style>{STYLE}</style>",
        f'<text x="{LEFT}" y="18">CPU time of a step, times bare asyncio.gather (logarithmic)</text>',
    ]
    for power in range(round(math.log10(top)) + 1):
        x = at(10**power)
        parts.append(f'<line class="axis" x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{height - 34}"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{height - 18}" text-anchor="middle">{10**power:,}</text>'
        )
    for number, row in enumerate(rows):
        y, is_own = TOP + LINE * number, row["peer"] == "firmplan"
        title = escape(
            f"{row['peer']}: {row['name'].removesuffix(': store') + ' store' * row['name'].endswith(': store')}"
        )
        parts.append(f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{title}</text>')
        end = at(row["figure"])
        parts.append(
            f'<rect class="{"own" if is_own else "peer"}" x="{LEFT}" y="{y + 3}" width="{end - LEFT:.1f}" height="15"/>'
        )
        parts.append(f'<text class="tick" x="{end + 6:.1f}" y="{y + 15}">{number_of(row["figure"])}</text>')
        if is_own and gates.get(row["name"]):
            x = at(gates[row["name"]])
            parts.append(f'<line class="gate" x1="{x:.1f}" y1="{y}" x2="{x:.1f}" y2="{y + 21}"/>')
    parts.append(
        f'<text class="tick" x="{LEFT}" y="{height - 3}">blue: firmplan, with the gate of each row; grey: peers</text>'
    )
    return "\n".join([*parts, "</svg>\n"])


def rendered(page: str) -> tuple[str, str]:
    """Return the page with its tables written anew, and the plot."""
    steps, peers = read(HERE / "figures.json"), read(HERE / "peers" / "figures.json")
    texts = {"asked": asked_table(steps), "others": other_table(steps), "peers": peers_table(peers)}
    for name, text in texts.items():
        found = re.search(rf"<!-- {name}: .*?<!-- end of {name} -->", page, re.DOTALL)
        assert found is not None, f"no markers for {name}"
        start, end = found.span()
        page = page[:start] + MARKED.format(name=name, text=text) + page[end:]
    return page, plot(steps, peers)


def main() -> None:
    """Write the page and the plot."""
    page, picture = rendered(PAGE.read_text())
    PAGE.write_text(page)
    PLOT.write_text(picture)


if __name__ == "__main__":
    main()
