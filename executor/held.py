"""What a write of unknown outcome holds back, as people are shown it.

As long as nobody has said what became of the write, no later write on its resource may start, nor a step that names it in
`after`. The machine keeps such steps pending, since a person's word may set them free; a snapshot shows them as skipped with
reason `blocked`, which is what they are if that word never comes.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..plans.program import Track
from .cells import Frame, Item, Node
from .states import Reason, State


def held_back(root: Frame) -> dict[str, Reason]:
    """Return path -> reason of every pending step and item that an unknown outcome holds back. O(size of the run)."""
    found: dict[str, Reason] = {}
    for frame in _frames(root):
        found.update(_held_in(frame))
    return found


def _held_in(frame: Frame) -> Iterator[tuple[str, Reason]]:
    touched: set[Track] = set()
    bad: set[int] = set()
    for position in frame.program.order:
        node = frame.nodes[position]
        if _is_unknown(node):
            yield from ((item.path, Reason.BLOCKED) for item in node.items if item.state is State.PENDING)
        elif node.state is State.PENDING and (reason := _reason(node, touched, bad)) is not None:
            yield node.path, reason
        else:
            continue
        bad.add(position)
        touched.update(track for touch in node.code.touches for track in touch.tracks)


def _reason(node: Node, touched: set[Track], bad: set[int]) -> Reason | None:
    writes = [touch for touch in node.code.touches if touch.writes]
    if any(not touched.isdisjoint(touch.awaited) for touch in writes) or not bad.isdisjoint(node.code.after):
        return Reason.BLOCKED
    is_blocked_need = any(
        position in bad and node.frame.nodes[position].state is State.PENDING for position in node.code.needs
    )
    return Reason.DEPENDENCY_FAILED if is_blocked_need else None


def _is_unknown(node: Node) -> bool:
    return any(_has_unknown(item) for item in node.items)


def _has_unknown(item: Item) -> bool:
    return any(
        turn.state is State.INDETERMINATE
        or any(_is_unknown(node) for frame in turn.frames for node in frame.nodes)
        for turn in item.turns
    )


def _frames(frame: Frame) -> Iterator[Frame]:
    yield frame
    for node in frame.nodes:
        for item in node.items:
            for turn in item.turns:
                for inner in turn.frames:
                    yield from _frames(inner)
