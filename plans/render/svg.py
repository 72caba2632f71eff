"""A plan as an SVG picture: a card for each step in layers, and a line from each step to the steps that use it.

A card's colour is its effect; a dashed border means that the step may be skipped, a stack that it runs once an item. Thick lines are the
longest chain, dashed lines mere `after`, dotted lines the order of effects on one resource, pale lines waits that other lines imply. Each inner
plan has a panel of its own. Colours follow the screen, light or dark; the picture has its own background, so it is readable on any page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from ...errors import ConfigError
from .layout import Box, Edge, Layout, layout_of
from .picture import EFFECT_COLOURS, Picture, PictureNode
from .width import columns, cut, wrapped

MARGIN = 28.0
LAYER_GAP = 44.0
"""Pixels between layers: room for lines to turn."""
STEPS_MAX = 2_000
"""Steps of a picture; a larger one takes seconds to lay out, and nobody can read it."""
_PORT_GAP = 14.0
_TITLE_COLUMNS = 64
_INPUT_COLUMNS = 80
CHARACTER = 7.2
"""Pixels of a monospaced character of the text in cards, for the widest of the usual fonts."""
CHARACTER_ID = 8.2
"""Pixels of a character of an id."""
CHARACTER_LABEL = 7.0
"""Pixels of a character of a label, at most: its font is not known."""
LINE = 16.0
"""Pixels from line to line."""
COLUMNS_MAX = 40
LINES_MAX = 4
STACK = 4.0
"""Pixels by which each of the two cards behind a `for_each` stands out."""

_HEAD = 30.0
_LEFT = 16.0
_RIGHT = 12.0


@dataclass(slots=True)
class Piece:
    """A rectangle of the picture, with its own origin.

    Attributes:
        elements: SVG elements; the upper left corner is (0, 0).
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
    parts = [_heading(picture), _graph(picture), *map(_panel, picture.inner), _left_out(picture)]
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
    return "\n".join([head, f"<style>\n{_stylesheet()}\n</style>", ground, *placed, "</svg>", ""])


def _heading(picture: Picture) -> Piece:
    """Return the title and the inputs."""
    title = wrapped(picture.title, _TITLE_COLUMNS, 3)
    made = [text(0, 14 + 23 * number, line, "title") for number, line in enumerate(title)]
    inputs = _inputs(picture, 23.0 * len(title) + (4 if title else 0))
    width = max([columns(line) * 10.2 for line in title], default=0.0)
    return Piece(max(width, inputs.width), max(23.0 * len(title), inputs.height), [*made, *inputs.elements])


def _left_out(picture: Picture) -> Piece:
    """Return what the plan leaves out, as lines of text."""
    lines = [line for each in picture.left_out for line in wrapped(f"left out: {each}", _TITLE_COLUMNS, 10)]
    made = [text(0, 14 + LINE * number, line, "does") for number, line in enumerate(lines)]
    return Piece(max([columns(line) * CHARACTER for line in lines], default=0.0), LINE * len(lines), made)


def _inputs(picture: Picture, top: float) -> Piece:
    """Return the inputs as lines of text, from `top` on."""
    lines = wrapped(", ".join(picture.inputs), _INPUT_COLUMNS, 4)
    if not lines:
        return Piece(0, 0, [])
    left = 6 * CHARACTER_LABEL + 8
    made = [text(0, top + 15, "inputs", "label")]
    made += [text(left, top + 15 + LINE * number, line, "does mono") for number, line in enumerate(lines)]
    return Piece(left + max(map(columns, lines)) * CHARACTER, top + 6 + LINE * len(lines), made)


def _panel(picture: Picture) -> Piece:
    """Return an inner plan in a frame, with its name and its inputs."""
    graph, inputs = _graph(picture), _inputs(picture, 38)
    title = f"plan {picture.title}"
    width = max(graph.width, inputs.width, columns(title) * 8.0) + 40
    top = max(inputs.height + 14, 44.0)
    made = [rect(0, 0, width, top + graph.height + 20, 12, "panel"), text(20, 27, title, "heading")]
    made += ['<g transform="translate(20 0)">', *inputs.elements, "</g>"]
    made += [f'<g transform="translate({(width - graph.width) / 2:.1f} {top:.1f})">', *graph.elements, "</g>"]
    return Piece(width, top + graph.height + 20, made)


def _graph(picture: Picture) -> Piece:
    """Return the cards, the lines between them, and the output."""
    cards = [_card_of(node) for node in picture.nodes]
    boxes = [Box(*card.outer, card.node.row - 1) for card in cards]
    lines = [
        Edge(other, at, _weight(picture, other, at))
        for at, node in enumerate(picture.nodes)
        for other in (*node.waits, *node.ordered)
    ]
    result = wrapped(picture.output, 44, 3) if picture.output else []
    if result:
        layer = max((box.layer for box in boxes), default=-1) + 1
        width = 7 * CHARACTER_LABEL + max(map(columns, result)) * CHARACTER + 34
        boxes.append(Box(width, LINE * len(result) + 14, layer))
        lines += [Edge(other, len(cards), 0.5) for other in picture.output_needs]
    if not boxes:
        return Piece(0, 0, [])
    drawing = _Drawing(picture, cards, boxes, lines, layout_of(boxes, lines))
    return drawing.part(result)


def _weight(picture: Picture, start: int, end: int) -> float:
    """Return how straight a line should be: most on the longest chain, hardly if other lines imply it."""
    node = picture.nodes[end]
    if start in node.implied:
        return 0.1
    return 3.0 if node.critical_from == start else 0.5 if start in node.ordered else 1.0


class _Drawing:
    """The cards and lines of one graph, with their places."""

    def __init__(
        self,
        picture: Picture,
        cards: Sequence[Card],
        boxes: Sequence[Box],
        lines: Sequence[Edge],
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

    def part(self, result: Sequence[str]) -> Piece:
        # Lines of the longest chain come last, so that they lie on top.
        order = sorted(range(len(self.lines)), key=lambda number: self._rank(self._kind(number)))
        made = [element for number in order for element in self._line(number)]
        for at, card in enumerate(self.cards):
            made += _draw_card(card, self._left(at), self._top(at))
        if result:
            made += self._result(len(self.cards), result)
        return Piece(self.width, self.tops[-1] - LAYER_GAP, made)

    def _left(self, at: int) -> float:
        return self.x[at] - self.boxes[at].width / 2

    def _top(self, at: int) -> float:
        box = self.boxes[at]
        return self.tops[box.layer] + (self.heights[box.layer] - box.height) / 2

    def _ports(self) -> dict[tuple[int, bool], float]:
        """Return where each line leaves (false) and enters (true) its boxes: side by side, sorted by where they lead, so that they do not cross."""
        found: dict[tuple[int, bool], float] = {}
        for is_end in (False, True):
            # The next point of each line, seen from this end: a bend or the other box.
            next_x = [
                self.x[bends[-1 if is_end else 0] if bends else line.start if is_end else line.end]
                for line, bends in zip(self.lines, self.bends, strict=True)
            ]
            at_box: list[list[int]] = [[] for _ in self.boxes]
            for number, line in enumerate(self.lines):
                at_box[line.end if is_end else line.start].append(number)
            for at, numbers in enumerate(at_box):
                numbers.sort(key=lambda number: (next_x[number], number))
                room = self.boxes[at].width * 0.6
                gap = min(_PORT_GAP, room / max(len(numbers) - 1, 1))
                for place, number in enumerate(numbers):
                    found[number, is_end] = self.x[at] + (place - (len(numbers) - 1) / 2) * gap
        return found

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


@dataclass(frozen=True, slots=True)
class Card:
    """The card of a step, with its lines of text under the id."""

    node: PictureNode
    lines: tuple[str, ...]
    width: float
    height: float

    @property
    def outer(self) -> tuple[float, float]:
        """Width and height with the cards behind it."""
        behind = 2 * STACK if self.node.fans_out else 0.0
        return self.width + behind, self.height + behind


def _card_of(node: PictureNode) -> Card:
    """Return the card of a step."""
    # For `ask`, `set` and `agent` the pill names the action already.
    does = f"{node.does} {node.detail}".strip() if node.kind in ("tool", "plan") else node.detail
    lines = wrapped(does, COLUMNS_MAX, LINES_MAX)
    for condition in node.conditions:
        lines += wrapped(condition, COLUMNS_MAX, 2)
    body = max(map(columns, lines), default=0) * CHARACTER
    head = columns(cut(node.id, COLUMNS_MAX)) * CHARACTER_ID + 24 + len(node.word) * CHARACTER_LABEL
    width = max(_LEFT + _RIGHT + max(body, head), 120.0)
    return Card(node, tuple(lines), width, _HEAD + LINE * len(lines) + (9.0 if lines else 0.0))


def _draw_card(card: Card, left: float, top: float) -> list[str]:
    """Return the card as SVG."""
    node = card.node
    effect = node.effect or "unknown"
    kind = f"card {effect}{' conditional' if node.is_conditional else ''}"
    title = "\n".join([node.id, f"{node.does} {node.detail}".strip(), *node.conditions])
    pill = len(node.word) * CHARACTER_LABEL + 12
    pill_left = left + card.width - pill - 8
    offsets = (2 * STACK, STACK, 0.0) if node.fans_out else (0.0,)
    return [
        "<g>",
        f"<title>{escape(title)}</title>",
        *(rect(left + offset, top + offset, card.width, card.height, 9, kind) for offset in offsets),
        rect(left, top + 7, 4, card.height - 14, 2, f"bar {effect}"),
        text(left + _LEFT, top + 20, cut(node.id, COLUMNS_MAX), "id mono"),
        rect(pill_left, top + 8, pill, 17, 8.5, f"pill {effect}"),
        text(pill_left + pill / 2, top + 20, node.word, f"label word {effect}", anchor="middle"),
        *(
            text(left + _LEFT, top + _HEAD + LINE * number + 9, line, "does mono")
            for number, line in enumerate(card.lines)
        ),
        "</g>",
    ]


def rect(left: float, top: float, width: float, height: float, radius: float, kind: str) -> str:
    """Return a rectangle with round corners.

    Args:
        left: Its left edge.
        top: Its upper edge.
        width: Its width.
        height: Its height.
        radius: Of its corners.
        kind: Its classes.
    """
    return f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius:g}"/>'


def text(x: float, y: float, content: str, kind: str, *, anchor: str = "start") -> str:
    """Return a line of text.

    Args:
        x: Its left end or its middle, as `anchor` says.
        y: Its baseline.
        content: The text.
        kind: Its classes.
        anchor: As in SVG.
    """
    place = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}"{place}>{escape(content)}</text>'


_PALETTE = {
    "ground": ("#f8fafc", "#0d1117"),
    "panel": ("#ffffff", "#11161f"),
    "edge": ("#e2e8f0", "#2b3340"),
    "card": ("#ffffff", "#161c27"),
    "ink": ("#0f172a", "#e6edf3"),
    "soft": ("#475569", "#a3b1c2"),
    "line": ("#94a3b8", "#6b7a90"),
    "faint": ("#cbd5e1", "#3a4556"),
    "bold": ("#334155", "#c3d0e0"),
}
"""Colour -> on a light and on a dark screen."""

_COLOURED = (
    (".ground", "ground", "edge"),
    (".panel", "panel", "edge"),
    (".card", "card", ""),
    (".title, .heading, .id", "ink", ""),
    (".does, .label", "soft", ""),
    (".line", "", "line"),
    (".line.implied", "", "faint"),
    (".line.ordered", "", "write"),
    (".line.critical", "", "bold"),
    (".head", "line", ""),
    (".head.implied", "faint", ""),
    (".head.ordered", "write", ""),
    (".head.critical", "bold", ""),
    (".outcome", "card", "bold"),
)
"""Selector, its fill and its stroke."""

_SHAPES = """\
text { font-family: ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif; }
.mono { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; white-space: pre; }
.title { font-size: 17px; font-weight: 650; }
.heading { font-size: 13px; font-weight: 650; }
.id { font-size: 13px; font-weight: 700; }
.does { font-size: 11.5px; }
.label { font-size: 10.5px; font-weight: 650; letter-spacing: .02em; }
.line { fill: none; stroke-width: 1.4; }
.line.implied { stroke-width: 1; }
.line.critical { stroke-width: 2.4; }
.line.after { stroke-dasharray: 5 4; }
.line.ordered { stroke-dasharray: 0.1 4.5; stroke-linecap: round; stroke-width: 2; }
.conditional { stroke-dasharray: 6 4; }"""


def _stylesheet() -> str:
    """Return the CSS of a picture. It has no CSS variables, which several SVG readers lack, so each rule is there twice."""
    light, dark = (
        "\n".join(f"{selector} {{ {declared} }}" for selector, declared in _rules(screen))
        for screen in (0, 1)
    )
    return f"{_SHAPES}\n{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}"


def _rules(screen: int) -> Iterator[tuple[str, str]]:
    """Yield the rules of colour for light (0) or dark (1) screens: selectors and declarations."""
    colours = {name: pair[screen] for name, pair in _PALETTE.items()}
    colours["write"] = EFFECT_COLOURS["write"][screen][0]
    for selector, fill, stroke in _COLOURED:
        declared = [f"{key}: {colours[name]};" for key, name in (("fill", fill), ("stroke", stroke)) if name]
        yield selector, " ".join(declared)
    for name, pair in EFFECT_COLOURS.items():
        line, ground, text_colour = pair[screen]
        yield f".card.{name}", f"stroke: {line};"
        yield f".bar.{name}", f"fill: {line};"
        yield f".pill.{name}", f"fill: {ground};"
        yield f".word.{name}", f"fill: {text_colour};"
