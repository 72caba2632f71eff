"""The graph of a plan: program order, cycles, cones, longest chains.

Positions stand for steps, and `waits[i]` are the positions that step `i` waits for. The functions that every check or fork
calls are our own: importing networkx takes 160 ms of processor time, while the check of a ten-step plan takes 1 ms (measured in 2026 with
`time.process_time()`). networkx finds the cycles, which only faulty plans have.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import networkx as nx

WaitLists: TypeAlias = Sequence[Sequence[int]]
_BACK = -1  # stands for the first step where a cycle comes back to it


def program_order(waits: WaitLists) -> tuple[list[int], bool]:
    """Return the program order, and whether it is one: false if steps wait for one another in a cycle.

    The order is the list's, with each step preceded by its not yet listed dependencies, in the order in which `waits` has them. This is a
    depth-first order; networkx has topological orders, but none that keeps to the list. O(steps + edges), without recursion.
    """
    # An explicit stack: a chain of 200,000 steps is allowed, and Python's own stack is shorter.
    fresh, open_, done = 0, 1, 2
    state = [fresh] * len(waits)
    order: list[int] = []
    is_order = True
    for first in range(len(waits)):
        if state[first] != fresh:
            continue
        state[first] = open_
        stack = [(first, iter(waits[first]))]
        while stack:
            step, rest = stack[-1]
            for other in rest:
                if state[other] == fresh:
                    state[other] = open_
                    stack.append((other, iter(waits[other])))
                    break
                if state[other] == open_:
                    is_order = False
            else:
                state[step] = done
                order.append(step)
                stack.pop()
    return order, is_order


def to_networkx(waits: WaitLists) -> nx.DiGraph[int]:
    """Return the graph with an edge from each step to each step that it waits for."""
    import networkx as nx  # noqa: PLC0415  # see the module's docstring

    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(len(waits)))
    graph.add_edges_from((step, other) for step, others in enumerate(waits) for other in others)
    return graph


def cycles(waits: WaitLists) -> list[list[int]]:
    """Return one cycle of every group of steps that wait for one another, each from its first step back to it.

    A cycle reads as `a` waits for `b`: `[a, b, a]`. It is a shortest one through the group's first step. O(steps + edges).
    """
    import networkx as nx  # noqa: PLC0415  # only for plans that have a cycle

    graph = to_networkx(waits)
    found: list[list[int]] = []
    for group in nx.strongly_connected_components(graph):
        first = min(group)
        if len(group) > 1 or first in waits[first]:
            inside = graph.subgraph(group).copy()
            # A shortest path needs two different ends, so the edges back to the first step lead to a stand-in for it.
            inside.add_edges_from((step, _BACK) for step in [*inside.pred[first]])
            found.append([*nx.bidirectional_shortest_path(inside, first, _BACK)[:-1], first])
    return sorted(found)


def cone(waits: WaitLists, roots: Iterable[int]) -> list[int]:
    """Return the roots and every step that depends on one of them, in the plan's order. O(steps + edges)."""
    dependants: list[list[int]] = [[] for _ in waits]
    for step, others in enumerate(waits):
        for other in others:
            dependants[other].append(step)
    # Steps are entered when they are found, not when they are visited, so none is queued twice.
    seen = set(roots)
    queue = list(seen)
    while queue:
        for other in dependants[queue.pop()]:
            if other not in seen:
                seen.add(other)
                queue.append(other)
    return sorted(seen)


def depths(waits: WaitLists, order: Sequence[int]) -> list[int]:
    """Return how many steps the longest chain up to each step has, the step included. O(steps + edges)."""
    depth = [0] * len(waits)
    for step in order:
        # Dependencies come first in the order, so their depths are known.
        depth[step] = 1 + max((depth[other] for other in waits[step]), default=0)
    return depth


def direct_waits(waits: Sequence[int], order: Sequence[int]) -> list[tuple[int, ...]]:
    """Return, for each step, the waits that no other wait implies, sorted: the transitive reduction. O(steps * direct waits) on integers of that many bits.

    networkx's own takes explicit edges, of which steps that write one resource have quadratically many.

    Args:
        waits: For each step: the steps that it waits for, as bits by their place in `order`.
        order: The steps, each after those that it waits for.
    """
    reach = [0] * len(order)  # by place: the step itself, and all that it waits for directly or not
    found: list[tuple[int, ...]] = [()] * len(order)
    for place, step in enumerate(order):
        left, reach[place] = waits[step], 1 << place
        direct: list[int] = []
        while left:
            latest = left.bit_length() - 1  # no other wait can imply the latest one
            direct.append(order[latest])
            reach[place] |= reach[latest]
            left &= ~reach[latest]
        found[step] = tuple(sorted(direct))
    return found
