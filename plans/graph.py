"""The graph of a plan: who waits for whom, in which order, in which circle.

Positions stand for steps, and `waits[i]` are the positions that step `i` waits for. The passes that every check makes are
linear and our own (10,000 steps in some milliseconds); networkx, which costs more to load than a small plan to check, comes in
where a graph is asked questions that only some plans raise: circles, and whatever the caller of `to_networkx` likes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import networkx as nx

Waits: TypeAlias = Sequence[Sequence[int]]


def program_order(waits: Waits) -> tuple[list[int], bool]:
    """Return the program order, and whether it is one: false if steps wait for one another in a circle.

    The order is the list's, each step preceded by its not yet listed dependencies, in the order in which `waits` has them.
    O(steps + edges), without recursion.
    """
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


def to_networkx(waits: Waits, names: Sequence[str] | None = None) -> nx.DiGraph[int]:
    """Return the graph with an edge from each step to each step that waits for it; nodes carry their `name`."""
    import networkx as nx  # noqa: PLC0415  # heavy, and most checks need none of it

    graph: nx.DiGraph[int] = nx.DiGraph()
    for step in range(len(waits)):
        graph.add_node(step, name=str(step) if names is None else names[step])
    graph.add_edges_from((other, step) for step, others in enumerate(waits) for other in others)
    return graph


def cycles(waits: Waits) -> list[list[int]]:
    """Return one circle of every group of steps that wait for one another, each from its first step back to it.

    A circle reads as `a` waits for `b`: `[a, b, a]`. It is a shortest one through the group's first step. O(steps + edges).
    """
    import networkx as nx  # noqa: PLC0415  # only for plans that have a circle

    graph = to_networkx(waits)
    found: list[list[int]] = []
    for group in nx.strongly_connected_components(graph):
        first = min(group)
        if len(group) > 1 or first in waits[first]:
            found.append(_circle(waits, first, group))
    return sorted(found)


def _circle(waits: Waits, first: int, group: set[int]) -> list[int]:
    came_from = {first: first}
    queue = deque([first])
    while queue:
        step = queue.popleft()
        for other in waits[step]:
            if other == first:
                circle = [step]
                while circle[-1] != first:
                    circle.append(came_from[circle[-1]])
                return [*reversed(circle), first]
            if other in group and other not in came_from:
                came_from[other] = step
                queue.append(other)
    raise AssertionError("a group of steps that wait for one another has a circle through each of them")


def dependants(waits: Waits) -> list[list[int]]:
    """Return, for each step, the steps that wait for it, in the plan's order. O(steps + edges)."""
    made: list[list[int]] = [[] for _ in waits]
    for step, others in enumerate(waits):
        for other in others:
            made[other].append(step)
    return made


def cone(waits: Waits, roots: Iterable[int]) -> list[int]:
    """Return the roots and every step that depends on one of them, in the plan's order. O(steps + edges)."""
    after = dependants(waits)
    seen = set(roots)
    queue = list(seen)
    while queue:
        for other in after[queue.pop()]:
            if other not in seen:
                seen.add(other)
                queue.append(other)
    return sorted(seen)


def depths(waits: Waits, order: Sequence[int]) -> list[int]:
    """Return how many steps the longest chain up to each step has, itself included. O(steps + edges)."""
    depth = [0] * len(waits)
    for step in order:
        depth[step] = 1 + max((depth[other] for other in waits[step]), default=0)
    return depth
