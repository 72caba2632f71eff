"""A plan as an SVG picture: cards in layers, lines from what a step uses to the step.

A card's colour is its effect, a dashed border says that it may be skipped, a stack that it runs once an item. Thick lines are the
longest chain, dashed ones only an order, dotted ones the order that effects on one resource force, pale ones follow from others. Inner plans have panels of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ...errors import ConfigError
from .cards import CHARACTER, CHARACTER_LABEL, LINE, Card, card_of, draw_card, rect, text
from .layers import Box, Layout, Line, layout_of
from .picture import Picture
from .style import stylesheet
from .width import columns, wrapped

MARGIN = 28.0
LAYER_GAP = 44.0
"""Pixels between layers: room for lines to turn."""
STEPS_MAX = 2_000
"""Steps that a picture can hold before nobody can read it, and before laying it out takes seconds."""
_PORT_GAP = 14.0
_TITLE_COLUMNS = 64


@dataclass(slots=True)
class Part:
    """A piece of the picture, drawn from its own corner.

    Attributes:
        elements: SVG, placed from (0, 0).
    """

    width: float
    height: float
    elements: list[str]


def svg_of(picture: Picture) -> str:
    """Return the picture as an SVG document.

    Raises:
        ConfigError: It has more than `STEPS_MAX` steps.
    """
    count = len(picture.nodes) + sum(len(inner.nodes) for inner in picture.inner)
    if count > STEPS_MAX:
        raise ConfigError(
            f"expected a plan of at most {STEPS_MAX} steps for a picture, found {count}: render it as text"
        )
    parts = [_heading(picture), _graph(picture), *map(_panel, picture.inner)]
    parts = [part for part in parts if part.elements]
    width = max((part.width for part in parts), default=0.0) + 2 * MARGIN
    placed: list[str] = []
    y = MARGIN
    for part in parts:
        x = MARGIN if part is parts[0] and picture.title else (width - part.width) / 2
        placed += [f'<g transform="translate({x:.1f} {y:.1f})">', *part.elements, "</g>"]
        y += part.height + 26
    height = y - 26 + MARGIN
    label = escape(picture.title or "A plan")
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{label}">'
    )
    ground = rect(0.5, 0.5, round(width) - 1, round(height) - 1, 14, "ground")
    return "\n".join([head, f"<style>\n{stylesheet()}\n</style>", ground, *placed, "</svg>", ""])


def _heading(picture: Picture) -> Part:
    """Return the title and the inputs."""
    made: list[str] = []
    width, y = 0.0, 0.0
    for line in wrapped(picture.title, _TITLE_COLUMNS, 3):
        made.append(text(0, y + 14, line, "title"))
        width = max(width, columns(line) * 10.2)
        y += 23
    chips = _chips(picture.inputs, y + 4 if y else 0)
    return Part(max(width, chips.width), max(y, chips.height), [*made, *chips.elements])


def _chips(inputs: Sequence[str], top: float) -> Part:
    """Return the inputs in rows of chips."""
    if not inputs:
        return Part(0, 0, [])
    made = [text(0, top + 15, "inputs", "label")]
    left = start = 6 * CHARACTER_LABEL + 8
    widest = 0.0
    for each in inputs:
        (line,) = wrapped(each, 48, 1)
        width = columns(line) * CHARACTER + 18
        if left > start and left + width > 560:
            left, top = start, top + 28
        made += [rect(left, top, width, 22, 11, "chip"), text(left + 9, top + 15, line, "does mono")]
        left += width + 8
        widest = max(widest, left)
    return Part(widest, top + 22, made)


def _panel(picture: Picture) -> Part:
    """Return an inner plan in a frame, with its name and its inputs."""
    graph = _graph(picture)
    chips = _chips(picture.inputs, 0)
    title = f"plan {picture.title}"
    width = max(graph.width, chips.width, columns(title) * 8.0) + 40
    top = 44 + (chips.height + 14 if chips.elements else 0)
    height = top + graph.height + 20
    made = [rect(0, 0, width, height, 12, "panel"), text(20, 27, title, "heading")]
    made += ['<g transform="translate(20 42)">', *chips.elements, "</g>"] if chips.elements else []
    made += [f'<g transform="translate({(width - graph.width) / 2:.1f} {top:.1f})">', *graph.elements, "</g>"]
    return Part(width, height, made)


def _graph(picture: Picture) -> Part:
    """Return the cards and the lines between them, and what comes out at the end."""
    cards = [card_of(node) for node in picture.nodes]
    boxes = [Box(*card.outer, card.node.row - 1) for card in cards]
    lines = [
        Line(other, at, _weight(picture, other, at))
        for at, node in enumerate(picture.nodes)
        for other in (*node.waits, *node.ordered)
    ]
    result = wrapped(picture.output, 44, 3) if picture.output else []
    if result:
        layer = max((box.layer for box in boxes), default=-1) + 1
        width = 7 * CHARACTER_LABEL + max(map(columns, result)) * CHARACTER + 34
        boxes.append(Box(width, LINE * len(result) + 14, layer))
        lines += [Line(other, len(cards), 0.5) for other in picture.output_needs]
    if not boxes:
        return Part(0, 0, [])
    drawing = _Drawing(picture, cards, boxes, lines, layout_of(boxes, lines))
    return drawing.part(result)


def _weight(picture: Picture, start: int, end: int) -> float:
    """Return how much a line should be straight: those of the longest chain most, those that follow from others hardly."""
    node = picture.nodes[end]
    if start in node.implied:
        return 0.1
    return 3.0 if node.critical_from == start else 0.5 if start in node.ordered else 1.0


class _Drawing:
    """One graph, laid out."""

    def __init__(
        self,
        picture: Picture,
        cards: Sequence[Card],
        boxes: Sequence[Box],
        lines: Sequence[Line],
        layout: Layout,
    ) -> None:
        self.picture = picture
        self.cards = cards
        self.boxes = boxes
        self.lines = lines
        self.bends = layout.bends
        left = min(layout.x[at] - box.width / 2 for at, box in enumerate(boxes))
        left = min([left, *layout.x[len(boxes) :]])
        self.x = [x - left for x in layout.x]
        edges = [self.x[at] + box.width / 2 for at, box in enumerate(boxes)]
        self.width = max([*edges, *self.x[len(boxes) :]])
        self.heights = [0.0] * len(layout.layers)
        for box in boxes:
            self.heights[box.layer] = max(self.heights[box.layer], box.height)
        self.tops = [0.0]
        for height in self.heights:
            self.tops.append(self.tops[-1] + height + LAYER_GAP)
        self.ports = self._ports()

    def part(self, result: Sequence[str]) -> Part:
        # Lines of the longest chain come last, so that they lie on top.
        order = sorted(range(len(self.lines)), key=lambda number: self._rank(self._kind(number)))
        made = [element for number in order for element in self._line(number)]
        for at, card in enumerate(self.cards):
            made += draw_card(card, self._left(at), self._top(at))
        if result:
            made += self._result(len(self.cards), result)
        return Part(self.width, self.tops[-1] - LAYER_GAP, made)

    def _left(self, at: int) -> float:
        return self.x[at] - self.boxes[at].width / 2

    def _top(self, at: int) -> float:
        box = self.boxes[at]
        return self.tops[box.layer] + (self.heights[box.layer] - box.height) / 2

    def _ports(self) -> dict[tuple[int, bool], float]:
        """Return where each line leaves (false) and enters (true) its boxes: side by side, in the order of where they lead."""
        found: dict[tuple[int, bool], float] = {}
        for is_end in (False, True):
            at_box: list[list[int]] = [[] for _ in self.boxes]
            for number, line in enumerate(self.lines):
                at_box[line.end if is_end else line.start].append(number)
            for at, numbers in enumerate(at_box):
                numbers.sort(key=lambda number: (self._beyond(number, is_end=is_end), number))
                room = self.boxes[at].width * 0.6
                gap = min(_PORT_GAP, room / max(len(numbers) - 1, 1))
                for place, number in enumerate(numbers):
                    found[number, is_end] = self.x[at] + (place - (len(numbers) - 1) / 2) * gap
        return found

    def _beyond(self, number: int, *, is_end: bool) -> float:
        """Return where the next point of a line is, seen from one of its ends."""
        bends = self.bends[number]
        if bends:
            return self.x[bends[-1 if is_end else 0]]
        line = self.lines[number]
        return self.x[line.start if is_end else line.end]

    def _kind(self, number: int) -> str:
        start, end = self.lines[number].start, self.lines[number].end
        nodes = self.picture.nodes
        if end >= len(nodes):
            return "result"
        node = nodes[end]
        what = "after" if start in node.after else "ordered" if start in node.ordered else ""
        if node.critical_from == start:
            return f"{what} critical".lstrip()
        if start in node.implied:
            return "implied after" if what else "implied"
        return what or "direct"

    @staticmethod
    def _rank(kind: str) -> int:
        lines = ("implied after", "implied", "result", "ordered", "after", "direct")
        return len(lines) if kind.endswith("critical") else lines.index(kind)

    def _line(self, number: int) -> list[str]:
        start, end = self.lines[number].start, self.lines[number].end
        x, end_x = self.ports[number, False], self.ports[number, True]
        y = self._top(start) + self.boxes[start].height
        layer = self.boxes[start].layer
        path = [f"M{x:.1f} {y:.1f}"]
        for bend in [*self.bends[number], end]:
            bottom = self.tops[layer] + self.heights[layer]
            if bottom > y + 0.5:
                path.append(f"V{bottom:.1f}")
            layer += 1
            top = self.tops[layer]
            next_x = end_x if bend == end else self.x[bend]
            half = (top - bottom) / 2
            path.append(f"C{x:.1f} {bottom + half:.1f} {next_x:.1f} {top - half:.1f} {next_x:.1f} {top:.1f}")
            x, y = next_x, top
        tip = self._top(end)
        if tip - 6 > y:
            path.append(f"V{tip - 6:.1f}")
        kind = self._kind(number)
        head = f"M{end_x:.1f} {tip:.1f}l-4.5 -8h9Z"
        return [f'<path class="line {kind}" d="{"".join(path)}"/>', f'<path class="head {kind}" d="{head}"/>']

    def _result(self, at: int, lines: Sequence[str]) -> list[str]:
        left, top = self._left(at), self._top(at)
        box = self.boxes[at]
        made = [
            rect(left, top, box.width, box.height, min(box.height / 2, 15), "outcome"),
            text(left + 14, top + 19, "output", "label"),
        ]
        start = left + 14 + 7 * CHARACTER_LABEL
        made += [
            text(start, top + 19 + LINE * number, line, "does mono") for number, line in enumerate(lines)
        ]
        return made
