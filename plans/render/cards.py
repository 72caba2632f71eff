"""The boxes of the SVG: what a step's card says, how large it is, and how it is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from .picture import Node
from .width import columns, cut, wrapped

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

    node: Node
    word: str
    lines: tuple[tuple[str, str], ...]
    width: float
    height: float

    @property
    def outer(self) -> tuple[float, float]:
        """Its size with the cards behind it."""
        behind = 2 * STACK if self.node.fans_out else 0.0
        return self.width + behind, self.height + behind


def card_of(node: Node) -> Card:
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


def _does(node: Node) -> str:
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


def _full(node: Node) -> str:
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
