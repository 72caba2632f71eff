"""How a step ends because of what it waited for: the one order of precedence among failures, refusals and skips.

Pure questions to cells that have ended; nothing is moved here.
"""

from __future__ import annotations

from typing import TypeAlias

from .cells import Node, is_bad
from .states import SOFT, Reason, State

Verdict: TypeAlias = tuple[State, Reason]


def verdict_of_inputs(node: Node) -> Verdict | None:
    """Return how the step ends without running; `None`: it goes on. Failures first, then `after`, then skips."""
    bad = verdict_of(node, node.code.needs)
    if bad is not None and bad[1] is not Reason.SKIPPED_REFERENCE:
        return bad
    nodes, after = node.frame.nodes, node.code.after
    if after and any(is_bad(nodes[position], SOFT) for position in after):
        return State.SKIPPED, Reason.BLOCKED
    return bad


def verdict_of(node: Node, needs: tuple[int, ...]) -> Verdict | None:
    """Return how the step ends because of the steps that it refers to, looked at in plan order."""
    nodes, lenient = node.frame.nodes, node.code.lenient
    found: Verdict | None = None
    for position in needs:
        need = nodes[position]
        if need.state is State.SUCCEEDED:
            continue
        if need.state is State.FAILED or (need.state is State.SKIPPED and need.reason not in SOFT):
            return State.SKIPPED, Reason.DEPENDENCY_FAILED
        if need.state is State.CANCELLED:
            found = State.CANCELLED, need.reason or Reason.CANCELLED
        elif need.state is State.SKIPPED and position not in lenient and found is None:
            found = State.SKIPPED, Reason.SKIPPED_REFERENCE
    return found
