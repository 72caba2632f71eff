"""A plan as an SVG picture: cards in layers, lines from what a step uses to the step.

A card's colour is its effect, a dashed border says that it may be skipped, a stack that it runs once an item. Thick lines are the
longest chain, dashed ones only an order, dotted ones the order that effects on one resource force, pale ones follow from others. Inner plans have panels of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ...errors import ConfigError
from .layout import Box, Layout, Line, layout_of
from .picture import Picture, PictureNode
from .width import columns, cut, wrapped

# --- The boxes of the SVG: what a step's card says, how large it is, and how it is drawn.


CHARACTER = 7.2
"""Pixels of a monospaced character of the text in cards, for the widest of the usual fonts."""
CHARACTER_ID = 8.2
"""The same of an id."""
CHARACTER_LABEL = 7.0
"""Pixels of a character of a label: an upper estimate, since its font is not known."""
LINE = 16.0
"""Pixels from line to line."""
COLUMNS_MAX = 40
LINES_MAX = 4
STACK = 4.0
"""Pixels by which the cards behind a `for_each` stand out, twice."""

_HEAD = 30.0
_LEFT = 16.0
_RIGHT = 12.0
_KEYWORDS = ("for each", "when", "until", "after")


@dataclass(frozen=True, slots=True)
class Card:
    """A card of a step, ready to be drawn.

    Attributes:
        lines: Its text: keyword (may be empty), and the rest.
    """

    node: PictureNode
    word: str
    lines: tuple[tuple[str, str], ...]
    width: float
    height: float

    @property
    def outer(self) -> tuple[float, float]:
        """Its size with the cards behind it."""
        behind = 2 * STACK if self.node.fans_out else 0.0
        return self.width + behind, self.height + behind


def card_of(node: PictureNode) -> Card:
    """Return the card of a step."""
    word = node.kind if node.kind == "set" else node.effect or node.kind
    lines = [("", line) for line in wrapped(_does(node), COLUMNS_MAX, LINES_MAX)]
    for condition in node.conditions:
        keyword = next((each for each in _KEYWORDS if condition.startswith(f"{each} ")), "")
        rest = condition.removeprefix(keyword).lstrip()
        first, *more = wrapped(f"{keyword} {rest}".strip(), COLUMNS_MAX, 2)
        lines.append((keyword, first.removeprefix(keyword).lstrip()))
        lines += [("", line) for line in more]
    text = max((columns(f"{keyword} {line}".strip()) for keyword, line in lines), default=0) * CHARACTER
    head = columns(cut(node.id, COLUMNS_MAX)) * CHARACTER_ID + 24 + len(word) * CHARACTER_LABEL
    width = max(_LEFT + _RIGHT + max(text, head), 120.0)
    return Card(node, word, tuple(lines), width, _HEAD + LINE * len(lines) + (9.0 if lines else 0.0))


def _does(node: PictureNode) -> str:
    """Return what a card says under its id: the pill says already that something is asked or set."""
    return f"{node.does} {node.detail}".strip() if node.kind in ("tool", "plan") else node.detail


def draw_card(card: Card, left: float, top: float) -> list[str]:
    """Return the card as SVG."""
    node = card.node
    effect = node.effect or "unknown"
    kind = f"card {effect}{' conditional' if node.is_conditional else ''}"
    made = ["<g>", f"<title>{escape(_full(node))}</title>"]
    offsets = (2 * STACK, STACK) if node.fans_out else ()
    made += [rect(left + offset, top + offset, card.width, card.height, 9, kind) for offset in offsets]
    made += [
        rect(left, top, card.width, card.height, 9, kind),
        f'<path class="bar {effect}" d="{_bar(left, top, card.height)}"/>',
        text(left + _LEFT, top + 20, cut(node.id, COLUMNS_MAX), "id mono"),
        *_pill(card, left + card.width, top, effect),
    ]
    for number, (keyword, line) in enumerate(card.lines):
        y = top + _HEAD + LINE * number + 9
        made.append(text(left + _LEFT, y, line, "does mono", keyword=keyword, keyword_kind=f"word {effect}"))
    return [*made, "</g>"]


def _full(node: PictureNode) -> str:
    return "\n".join([node.id, f"{node.does} {node.detail}".strip(), *node.conditions])


def _pill(card: Card, right: float, top: float, effect: str) -> list[str]:
    width = len(card.word) * CHARACTER_LABEL + 12
    left = right - width - 8
    return [
        rect(left, top + 8, width, 17, 8.5, f"pill {effect}"),
        text(left + width / 2, top + 20, card.word, f"label word {effect}", anchor="middle"),
    ]


def _bar(left: float, top: float, height: float) -> str:
    """Return the left edge of a card, 5 pixels wide, inside its round corners."""
    bottom = top + height
    return (
        f"M{left + 5:.1f} {top + 0.9:.1f}A9 9 0 0 0 {left:.1f} {top + 9:.1f}"
        f"V{bottom - 9:.1f}A9 9 0 0 0 {left + 5:.1f} {bottom - 0.9:.1f}Z"
    )


def rect(left: float, top: float, width: float, height: float, radius: float, kind: str) -> str:
    """Return a rectangle with round corners."""
    return f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius:g}"/>'


def text(
    x: float,
    y: float,
    content: str,
    kind: str,
    *,
    anchor: str = "start",
    keyword: str = "",
    keyword_kind: str = "",
) -> str:
    """Return a line of text; `y` is its baseline, `keyword` a word before it in a colour of its own."""
    place = "" if anchor == "start" else f' text-anchor="{anchor}"'
    before = f'<tspan class="{keyword_kind}">{escape(keyword)}</tspan> ' if keyword else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}"{place}>{before}{escape(content)}</text>'


# --- How the SVG looks: its colours by effect, for light and for dark screens.
#
# Every class is written out for both, without CSS variables, which several SVG readers lack. The picture brings its own ground, so
# that it can be read on any page.


SANS = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"

_LIGHT = {
    "ground": "#f8fafc",
    "panel": "#ffffff",
    "edge": "#e2e8f0",
    "card": "#ffffff",
    "ink": "#0f172a",
    "soft": "#475569",
    "line": "#94a3b8",
    "faint": "#cbd5e1",
    "bold": "#334155",
}
_DARK = {
    "ground": "#0d1117",
    "panel": "#11161f",
    "edge": "#2b3340",
    "card": "#161c27",
    "ink": "#e6edf3",
    "soft": "#a3b1c2",
    "line": "#6b7a90",
    "faint": "#3a4556",
    "bold": "#c3d0e0",
}
_EFFECTS_LIGHT = {
    "pure": ("#64748b", "#f1f5f9", "#334155"),
    "read": ("#0284c7", "#e0f2fe", "#075985"),
    "model": ("#7c3aed", "#ede9fe", "#5b21b6"),
    "write": ("#ea580c", "#ffedd5", "#9a3412"),
    "unknown": ("#94a3b8", "#f1f5f9", "#475569"),
}
"""Effect -> line, ground and text."""
_EFFECTS_DARK = {
    "pure": ("#8494aa", "#232c3a", "#cbd5e1"),
    "read": ("#38bdf8", "#0b2f45", "#bae6fd"),
    "model": ("#a78bfa", "#2a1f4d", "#ddd6fe"),
    "write": ("#fb923c", "#43220d", "#fed7aa"),
    "unknown": ("#64748b", "#1f2733", "#a3b1c2"),
}


def stylesheet() -> str:
    """Return the CSS of a picture."""
    dark = "\n".join(f"  {line}" for line in _rules(_DARK, _EFFECTS_DARK))
    fonts = [
        f"text {{ font-family: {SANS}; }}",
        f".mono {{ font-family: {MONO}; white-space: pre; }}",
        ".title { font-size: 17px; font-weight: 650; }",
        ".heading { font-size: 13px; font-weight: 650; }",
        ".id { font-size: 13px; font-weight: 700; }",
        ".does { font-size: 11.5px; }",
        ".label { font-size: 10.5px; font-weight: 650; letter-spacing: .02em; }",
        ".line { fill: none; stroke-width: 1.4; }",
        ".line.implied { stroke-width: 1; }",
        ".line.critical { stroke-width: 2.4; }",
        ".line.after { stroke-dasharray: 5 4; }",
        ".line.ordered { stroke-dasharray: 0.1 4.5; stroke-linecap: round; stroke-width: 2; }",
        ".conditional { stroke-dasharray: 6 4; }",
    ]
    return "\n".join(
        [*fonts, *_rules(_LIGHT, _EFFECTS_LIGHT), "@media (prefers-color-scheme: dark) {", dark, "}"]
    )


def _rules(colours: dict[str, str], effects: dict[str, tuple[str, str, str]]) -> list[str]:
    plain = [
        f".ground {{ fill: {colours['ground']}; stroke: {colours['edge']}; }}",
        f".panel {{ fill: {colours['panel']}; stroke: {colours['edge']}; }}",
        f".card {{ fill: {colours['card']}; }}",
        f".title, .heading, .id {{ fill: {colours['ink']}; }}",
        f".does, .label {{ fill: {colours['soft']}; }}",
        f".line {{ stroke: {colours['line']}; }}",
        f".line.implied {{ stroke: {colours['faint']}; }}",
        f".line.ordered {{ stroke: {effects['write'][0]}; }}",
        f".line.critical {{ stroke: {colours['bold']}; }}",
        f".head {{ fill: {colours['line']}; }}",
        f".head.implied {{ fill: {colours['faint']}; }}",
        f".head.ordered {{ fill: {effects['write'][0]}; }}",
        f".head.critical {{ fill: {colours['bold']}; }}",
        f".chip {{ fill: {colours['card']}; stroke: {colours['faint']}; }}",
        f".outcome {{ fill: {colours['card']}; stroke: {colours['bold']}; }}",
    ]
    for name, (line, ground, text) in effects.items():
        plain += [
            f".card.{name} {{ stroke: {line}; }}",
            f".bar.{name} {{ fill: {line}; }}",
            f".pill.{name} {{ fill: {ground}; }}",
            f".word.{name} {{ fill: {text}; }}",
        ]
    return plain


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
