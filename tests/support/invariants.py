"""What is true of a machine at every moment, whatever came before; tests ask after every event."""

from __future__ import annotations

from firmplan.executor.execution_tree import Item, Iteration, Node, walk
from firmplan.executor.machine import Machine
from firmplan.executor.states import TERMINAL, State
from small_plans import TOOLS

BEGUN = {State.READY, State.RUNNING, State.WAITING, State.INDETERMINATE}
TOUCHING = {State.RUNNING, State.INDETERMINATE}  # what is, or may be, changing the world


def assert_invariants(machine: Machine) -> None:
    """Raise where one does not hold. O(size of the run)."""
    cells = list(walk(machine.root))
    for cell in cells:
        assert (cell.output is not None) == (cell.state is State.SUCCEEDED), f"{cell.path}: {cell.state}"
        if cell.state in TERMINAL:
            assert all(part.state in TERMINAL for part in _parts(cell)), f"{cell.path} ended before its parts"
    if machine.status is not None:
        assert all(cell.state in TERMINAL for cell in cells), "the run ended before its steps"
    leaves = [iteration for iteration in machine.iterations.values() if iteration.is_leaf]
    for iteration in leaves:
        if iteration.state in BEGUN:
            _assert_may_run(iteration)
            if not iteration.is_ahead:
                assert iteration.item.state in BEGUN, (
                    f"{iteration.path} began, and the item that it belongs to did not"
                )
    _assert_order([iteration for iteration in leaves if iteration.state in TOUCHING], machine)


def _parts(cell: Node | Item | Iteration) -> list[Node | Item | Iteration]:
    match cell:
        case Node(items=items):
            return list(items)
        case Item(iterations=iterations):
            return list(iterations)
        case Iteration(frames=frames):
            return [node for frame in frames for node in frame.nodes]


def _assert_may_run(iteration: Iteration) -> None:
    """What it refers to and comes after has ended."""
    node = iteration.item.node
    for at in (*node.code.needs_when, *node.code.needs, *node.code.after):
        before = node.frame.nodes[at]
        assert before.state in TERMINAL, f"{iteration.path} began before {before.path} had ended"


def _assert_order(touching: list[Iteration], machine: Machine) -> None:
    """A write has its resource to itself."""
    for iteration in touching:
        for other in touching:
            if iteration is not other:
                (effect, resource), (_, beside) = (
                    TOOLS[machine.tool_of(each.path) or ""] for each in (iteration, other)
                )
                is_shared = resource == beside or "world" in (resource, beside)
                other_effect = TOOLS[machine.tool_of(other.path) or ""][0]
                assert not (effect == "write" and other_effect != "pure" and is_shared), (
                    f"{iteration.path} and {other.path} touch one resource at once"
                )
