"""What became of a run: its cells in plan order, and the digest over them.

The run digest covers plan digest, inputs, and every step's status and output in plan order. It knows no time, no
worker, no attempt and no reuse: two runs with one digest are the same run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from ..plans.values import Json, canonical, digest
from .cells import Frame, Item, Node, Turn

DIGEST_FORMAT: Final = 1

Cell: TypeAlias = Node | Item | Turn


def walk(frame: Frame) -> Iterator[Cell]:
    """Yield each step of a frame, in plan order, followed by its items, iterations and inner steps.

    Where a step is its own only item, or an item its own only iteration, it is one cell, not three.
    """
    for node in frame.nodes:
        yield node
        for item in node.items:
            if item.path != node.path:
                yield item
            for turn in item.turns:
                if turn.path != item.path:
                    yield turn
                for inner in turn.frames:
                    yield from walk(inner)


def run_digest(root: Frame, inputs: Mapping[str, Json]) -> str:
    """Return the digest of a finished run."""
    steps = [
        [cell.path, cell.state.value, cell.output.digest if cell.output else None] for cell in walk(root)
    ]
    return digest(canonical([DIGEST_FORMAT, root.program.plan.digest, dict(inputs), steps]))
