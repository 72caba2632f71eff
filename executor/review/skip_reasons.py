"""Why a step that called nothing stands where it stands, as the end of a sentence: `was skipped because its `when` was false`."""

from __future__ import annotations

from typing import Final

from ..cells import Node, Turn
from ..machine import Machine
from ..states import Reason, State

_TEXTS: Final = {
    Reason.WHEN: "was skipped because its `when` was false",
    Reason.ON_ERROR: "was skipped because it failed, and on_error is 'skip'",
    Reason.CANCELLED: "was cancelled with the run",
    Reason.APPROVAL: "waits for a person to approve its call",
    Reason.BUDGET: "waits because its call would pass the run's budget",
}
_BAD: Final = (State.FAILED, State.CANCELLED, State.SKIPPED)


def standing(cell: Turn, machine: Machine) -> tuple[str, str]:
    """Return the reason as a word, and as the end of a sentence."""
    node = cell.item.node
    reason = cell.reason or node.reason
    if reason is not None:
        return reason.value, _reason_text(reason, node)
    failure = cell.failure or node.failure
    if cell.state is State.FAILED and failure is not None:
        return failure.code, f"failed before it called anything: {failure.message}"
    if cell.state is State.SUCCEEDED:
        return "empty", "called nothing: its list was empty"
    needs = [node.frame.nodes[at] for at in (*node.code.needs, *node.code.after)]
    waiting = dict.fromkeys(f"'{need.code.id}'" for need in needs if not _is_over(need))
    why = f": it waits for {' and '.join(waiting)}" if waiting else ""
    return (
        "pending",
        f"has not run yet{why}" if machine.is_started else "has not run: the run has not started",
    )


def _reason_text(reason: Reason, node: Node) -> str:
    match reason:
        case Reason.SKIPPED_REFERENCE:
            return f"was skipped because it refers to {_culprit(node, (State.SKIPPED,))}, which was skipped"
        case Reason.DEPENDENCY_FAILED:
            return f"was skipped because it refers to {_culprit(node, _BAD)}, which went wrong"
        case Reason.DENIED:
            need = _culprit(node, (State.CANCELLED,), "")
            return f"was cancelled because it depends on {need}" if need else "was cancelled"
        case Reason.BLOCKED:
            return f"was skipped because {_blocker(node)} before it went wrong"
        case _:
            return _TEXTS[reason]


def _is_over(node: Node) -> bool:
    return node.state in (State.SUCCEEDED, *_BAD)


def _culprit(node: Node, states: tuple[State, ...], otherwise: str = "a step") -> str:
    """Return the first step that this one refers to and that did not succeed."""
    needs = [node.frame.nodes[at] for at in (*node.code.needs_when, *node.code.needs)]
    found = next((need.code.id for need in needs if need.state in states), None)
    return f"'{found}'" if found is not None else otherwise


def _blocker(node: Node) -> str:
    """Return what blocks: a step of `after`, or one on the same resource."""
    after = [node.frame.nodes[at] for at in node.code.after]
    found = next((each.code.id for each in after if each.state in _BAD), None)
    return (
        f"'{found}', which it comes after,"
        if found is not None
        else "a step on a resource that it writes, or an item,"
    )
