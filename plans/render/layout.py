"""The places of boxes and lines of an acyclic graph: layers from top to bottom, few crossings, straight lines.

The layered method of Sugiyama, Tagawa and Toda (1981). A line that spans layers gets a point in each layer (`Layout.bends`). Sweeps over the
layers sort each by the barycentres of its neighbours. Then each layer gets the x positions with the least squares of distances to neighbours
in that order, which pooling adjacent violators solves exactly. Nothing is random: equal graphs give equal pictures. networkx has no
layered layout that reduces crossings, and Graphviz is another program.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

GAP = 28.0
"""Pixels between boxes of a layer."""
LINE_GAP = 18.0
"""Pixels between lines that pass through a layer."""
SWEEPS = 12
STRAIGHT = 4.0
"""How much more weight a bend of a long line has than a box, so that long lines are straight."""


@dataclass(frozen=True, slots=True)
class Box:
    """A box to place: its size and its layer, from 0."""

    width: float
    height: float
    layer: int


@dataclass(frozen=True, slots=True)
class Edge:
    """A line from one box to a lower one; `weight` says how straight it should be."""

    start: int
    end: int
    weight: float = 1.0


@dataclass(slots=True)
class Layout:
    """The places of boxes and lines.

    Attributes:
        x: Centres of the boxes, followed by the bends.
        layers: The indices into `x` of each layer, from left to right.
        bends: For each line, its bends from top to bottom.
    """

    x: list[float]
    layers: list[list[int]]
    bends: list[list[int]]


@dataclass(slots=True)
class _Graph:
    """The graph with bends as boxes of no width, so that every line leads from one layer to the next."""

    widths: list[float]
    layers: list[list[int]]
    up: list[dict[int, float]]
    down: list[dict[int, float]]
    weights: list[float]
    box_count: int
    bends: list[list[int]] = field(default_factory=list[list[int]])

    def is_bend(self, vertex: int) -> bool:
        return vertex >= self.box_count


def layout_of(boxes: Sequence[Box], lines: Sequence[Edge]) -> Layout:
    """Return the places of boxes and lines. O(sweeps * (boxes + bends) log)."""
    graph = _graph(boxes, lines)
    _untangle(graph)
    return Layout(_places(graph), graph.layers, graph.bends)


def _graph(boxes: Sequence[Box], lines: Sequence[Edge]) -> _Graph:
    count = 1 + max((box.layer for box in boxes), default=-1)
    layers: list[list[int]] = [[] for _ in range(count)]
    for position, box in enumerate(boxes):
        layers[box.layer].append(position)
    ways: list[dict[int, float]] = [{} for _ in range(2 * len(boxes))]
    up, down = ways[: len(boxes)], ways[len(boxes) :]
    graph = _Graph([box.width for box in boxes], layers, up, down, [1.0] * len(boxes), len(boxes))
    for line in lines:
        bends: list[int] = []
        above = line.start
        for layer in range(boxes[line.start].layer + 1, boxes[line.end].layer):
            bend = len(graph.widths)
            graph.widths.append(0.0)
            # A bend has no width, but much weight, so that long lines stay straight and boxes make room.
            graph.weights.append(STRAIGHT * line.weight)
            graph.up.append({})
            graph.down.append({})
            layers[layer].append(bend)
            _join(graph, above, bend, line.weight)
            bends.append(bend)
            above = bend
        _join(graph, above, line.end, line.weight)
        graph.bends.append(bends)
    return graph


def _join(graph: _Graph, above: int, below: int, weight: float) -> None:
    graph.down[above][below] = weight
    graph.up[below][above] = weight


def _untangle(graph: _Graph) -> None:
    """Order the layers for few crossings by barycentre sweeps, down and up in turn, and keep the best order."""
    place = [0.0] * len(graph.widths)
    for layer in graph.layers:
        _note(layer, place)
    best, fewest = [list(layer) for layer in graph.layers], _crossings(graph, place)
    for sweep in range(SWEEPS):
        # A sweep may make the order worse, so the best order is kept and the sweeps go on from the last one.
        if fewest == 0:
            break
        goes_down = sweep % 2 == 0
        neighbours = graph.up if goes_down else graph.down
        for layer in graph.layers if goes_down else reversed(graph.layers):
            layer.sort(key=lambda vertex: _mean(neighbours[vertex], place, place[vertex]))
            _note(layer, place)
        crossings = _crossings(graph, place)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in graph.layers], crossings
    graph.layers = best


def _note(layer: Sequence[int], place: list[float]) -> None:
    for number, vertex in enumerate(layer):
        place[vertex] = float(number)


def _mean(near: Mapping[int, float], place: Sequence[float], otherwise: float) -> float:
    total = sum(near.values())
    return sum(place[other] * weight for other, weight in near.items()) / total if total else otherwise


def _crossings(graph: _Graph, place: Sequence[float]) -> int:
    """Return how many pairs of lines cross: the inversions of their lower ends, counted by insertion."""
    total = 0
    for layer in graph.layers:
        ends = [
            place[below] for vertex in layer for below in sorted(graph.down[vertex], key=place.__getitem__)
        ]
        seen: list[float] = []
        for end in ends:
            total += len(seen) - bisect_right(seen, end)
            insort(seen, end)
    return total


def _places(graph: _Graph) -> list[float]:
    x = [0.0] * len(graph.widths)
    for layer in graph.layers:
        at = 0.0
        for number, vertex in enumerate(layer):
            at += _apart(graph, layer[number - 1], vertex) if number else 0.0
            x[vertex] = at
        for vertex in layer:
            x[vertex] -= at / 2
    for sweep in range(SWEEPS * 2):
        # Sweeps down pull a box below its predecessors, sweeps up above its successors; the last two look at both.
        last = sweep >= SWEEPS * 2 - 2
        goes_down = sweep % 2 == 0
        for layer in graph.layers if goes_down else reversed(graph.layers):
            middle = _middle(graph, layer, x)
            wanted = [_wanted(graph, vertex, x, middle, both=last, goes_down=goes_down) for vertex in layer]
            for vertex, place in zip(layer, _nearest(graph, layer, wanted), strict=True):
                x[vertex] = place
    return x


def _middle(graph: _Graph, layer: Sequence[int], x: Sequence[float]) -> float:
    """Return the middle of the connected boxes of a layer; unconnected ones should stay near it."""
    connected = [x[vertex] for vertex in layer if graph.up[vertex] or graph.down[vertex]]
    return sum(connected) / len(connected) if connected else 0.0


def _wanted(
    graph: _Graph, vertex: int, x: Sequence[float], middle: float, *, both: bool, goes_down: bool
) -> tuple[float, float]:
    """Return the best place for a box alone, and the weight of that wish."""
    up, down = graph.up[vertex], graph.down[vertex]
    near = {**up, **down} if both else up if goes_down else down
    weight = graph.weights[vertex]
    if near:
        return _mean(near, x, 0.0), weight * max(near.values())
    return x[vertex] if up or down else middle, weight / 100


def _apart(graph: _Graph, left: int, right: int) -> float:
    gap = LINE_GAP if graph.is_bend(left) or graph.is_bend(right) else GAP
    return (graph.widths[left] + graph.widths[right]) / 2 + gap


def _nearest(graph: _Graph, layer: Sequence[int], wanted: Sequence[tuple[float, float]]) -> Iterator[float]:
    """Yield the places that keep order and distance and are nearest to the wanted ones by weighted squares (pool adjacent violators)."""
    shift = 0.0
    shifts: list[float] = []
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for number, (place, weight) in enumerate(wanted):
        shift += _apart(graph, layer[number - 1], layer[number]) if number else 0.0
        shifts.append(shift)
        # After the distances are subtracted, the order of places only has to rise. Neighbours that would fall are pooled at their
        # weighted mean, which is the exact solution of that least-squares problem.
        pool = (place - shift, weight, 1)
        while pools and pools[-1][0] > pool[0]:
            mean, mass, count = pools.pop()
            pool = ((mean * mass + pool[0] * pool[1]) / (mass + pool[1]), mass + pool[1], count + pool[2])
        pools.append(pool)
    means = (mean for mean, _, count in pools for _ in range(count))
    yield from (mean + each for mean, each in zip(means, shifts, strict=True))
