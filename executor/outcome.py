"""What became of a run: its cells in plan order, and the digest over them.

The run digest covers plan digest, inputs, and every step's status and output in plan order. It knows no time, no
worker, no attempt and no reuse: two runs with one digest are the same run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Final

from ..plans.values import Json, digest_of_pieces, spelled_in_pieces
from .cells import Frame, Turn

DIGEST_FORMAT: Final = 1


def walk(frame: Frame) -> Iterator[Turn]:
    """Yield each step of a frame, in plan order, followed by its items, iterations and inner steps."""
    for node in frame.nodes:
        yield node
        if node.is_plain:
            continue
        for item in node.items:
            if item is not node:
                yield item
            for turn in item.turns:
                if turn is not item:
                    yield turn
                for inner in turn.frames:
                    yield from walk(inner)


def run_digest(root: Frame, inputs: Mapping[str, Json]) -> str:
    """Return the digest of a finished run: over `[format, plan digest, inputs, [[path, status, output digest], ..]]`, canonical."""
    steps = ",".join([_spelled(cell) for cell in walk(root)])
    before = b'[%d,"%b",' % (DIGEST_FORMAT, root.program.plan.digest.encode())
    after = b",[%b]]" % steps.encode()
    # Hash in pieces: the inputs may be large, and one copy is in memory already.
    return digest_of_pieces(chain([before], spelled_in_pieces(dict(inputs)), [after]))


def _spelled(cell: Turn) -> str:
    """Return a cell as canonical JSON: nothing in a path has to be escaped."""
    output = f'"{cell.output.digest}"' if cell.output is not None else "null"
    return f'["{cell.path}","{cell.state}",{output}]'
