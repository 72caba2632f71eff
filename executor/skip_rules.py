"""How a step ends without running, because of the steps that it waited for; the order of precedence of failures, denials and skips.

A failed input beats everything, then a bad step in `after`, then a skipped reference. The order is fixed and follows the plan, never the
time at which inputs ended: so two runs with equal outcomes of the inputs skip the same steps for the same reason.

The functions only read the execution tree. The machine moves it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from ..plans.program.program import Track
from .execution_tree import Frame, Item, Node, is_bad, walk
from .ledger import comes_after, tracks_of
from .states import SOFT, Reason, State

Ending: TypeAlias = tuple[State, Reason]


def ending_by_inputs(node: Node) -> Ending | None:
    """Return how the step ends without running; `None`: it goes on. Failures first, then `after`, then skips."""
    bad = ending_by(node, node.code.needs)
    if bad is not None and bad[1] is not Reason.SKIPPED_REFERENCE:
        return bad
    nodes, after = node.frame.nodes, node.code.after
    if after and any(is_bad(nodes[position], SOFT) for position in after):
        return State.SKIPPED, Reason.BLOCKED
    return bad


def ending_by(node: Node, needs: tuple[int, ...]) -> Ending | None:
    """Return how the step ends because of the steps that it refers to, looked at in plan order."""
    nodes, lenient = node.frame.nodes, node.code.lenient
    found: Ending | None = None
    for position in needs:
        need = nodes[position]
        if need.state is State.SUCCEEDED:
            continue
        if need.state is State.FAILED or (need.state is State.SKIPPED and need.reason not in SOFT):
            return State.SKIPPED, Reason.DEPENDENCY_FAILED
        # Later needs may still have failed, which beats a cancel: the loop goes on.
        if need.state is State.CANCELLED:
            found = State.CANCELLED, need.reason or Reason.CANCELLED
        elif need.state is State.SKIPPED and position not in lenient and found is None:
            found = State.SKIPPED, Reason.SKIPPED_REFERENCE
    return found


# --- steps that are blocked by a write of unknown outcome, as snapshots of a run show them
#
# Until somebody resolves the write, no later write on its resource may start, and no step that names it in `after`. The machine keeps these
# steps pending, because the resolution may let them start. A snapshot shows them as skipped with reason `blocked`, which is their state if
# nobody ever resolves the write.


def blocked_by_unknown(root: Frame) -> dict[str, Reason]:
    """Return path -> reason of every pending step and item that a write of unknown outcome blocks. O(size of the run)."""
    found: dict[str, Reason] = {}
    for frame in [root, *(inner for each in walk(root) for inner in each.frames)]:
        found.update(_blocked_in(frame))
    return found


def _blocked_in(frame: Frame) -> Iterator[tuple[str, Reason]]:
    # One pass in program order, with what the unknown outcome has blocked so far: a blocked step blocks others in its turn.
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
        touched |= tracks_of(node.code.touches)


def _reason(node: Node, touched: set[Track], bad: set[int]) -> Reason | None:
    # As in `Ledger.is_blocked`: only a write is blocked by a bad step on its resource.
    writes = [touch for touch in node.code.touches if touch.writes]
    if comes_after(writes, touched) or not bad.isdisjoint(node.code.after):
        return Reason.BLOCKED
    is_blocked_need = any(
        position in bad and node.frame.nodes[position].state is State.PENDING for position in node.code.needs
    )
    return Reason.DEPENDENCY_FAILED if is_blocked_need else None


def _is_unknown(node: Node) -> bool:
    return any(_has_unknown(item) for item in node.items)


def _has_unknown(item: Item) -> bool:
    return any(
        iteration.state is State.INDETERMINATE
        or any(_is_unknown(node) for frame in iteration.frames for node in frame.nodes)
        for iteration in item.iterations
    )
