"""Which parts of a rendered text are data: those that an expression brought, and not the author of the plan.

A prompt is made of the author's words and of values: of inputs, steps and items. A value is data, whoever it came from: an input may come from a
webhook, a step's value from a page. The author's words are the constant parts of a template, constants inside an expression
included (`"yes" if x.ok else "no"`). A number or a boolean carries no words, so it is not a span.

The text stays as it is; `tools/models/marks.py` puts the marks around the spans when a model is asked. So the digest of a prompt, by which a run
replays, does not depend on how data is marked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from ...lazy_imports import late_pattern
from ..immutable import immutable
from ..reports.errors import Skipped
from ..values import Json
from .evaluate import compile_node
from .functions import text_of
from .nodes import Binary, Condition, Constant, Field, Index, Literal, Local, Name, Node, Slice
from .operators import CHARACTERS_MAX, Frame
from .template import Branch, Leaf, Tree

Scope: TypeAlias = Mapping[str, "Json | Skipped"]
Run: TypeAlias = "Callable[[Scope], Json]"

NAME_MAX = 24
"""Characters of a span's name: it stands in the prompt twice, and only has to tell values apart."""
UNNAMED = "data"
_NOT_IN_NAMES = late_pattern(r"[^a-z0-9_]+")


@immutable
class Span:
    """A part of a text that is data: the characters from `start` up to `end`, and a name for the value that they show."""

    start: int
    end: int
    name: str = UNNAMED

    def moved(self, by: int) -> Span:
        """Return the span in a text that has so many characters more in front of it."""
        return Span(self.start + by, self.end + by, self.name)


@immutable
class PromptData:
    """The parts of a rendered prompt that are data.

    Attributes:
        prompt: Spans of the prompt.
        system: Spans of the system prompt.
        examples: Indices of the worked examples that hold data; such an example is data as a whole.
        sections: Where the sections of the prompt begin whose data is marked by itself; none: all data of the prompt is marked together. The prompt of
            a later turn has the same first sections, and so the same marks in them.
    """

    prompt: tuple[Span, ...] = ()
    system: tuple[Span, ...] = ()
    examples: tuple[int, ...] = ()
    sections: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.prompt or self.system or self.examples)


NO_DATA = PromptData()


@immutable
class _Part:
    """A part of a text that is computed: its function, and its name if its value is data."""

    run: Run
    name: str | None
    inner: tuple[_Part, ...] = ()


class TextWithData:
    """A template of one string, prepared to be rendered together with the spans that are data."""

    def __init__(self, leaf: Leaf) -> None:
        self.is_whole = leaf.whole is not None
        self._parts = tuple(
            piece if isinstance(piece, str) else _part_of(piece.parsed.folded) for piece in leaf.pieces
        )

    def render(self, scope: Scope) -> tuple[Json, tuple[Span, ...]]:
        """Return the template's value, and the spans of it that are data if it is a text. Raises: EvaluationError."""
        frame, length = Frame(scope), 0
        made: list[str] = []
        spans: list[Span] = []
        for part in self._parts:
            if isinstance(part, str):
                made.append(part)
            else:
                value = part.run(scope)
                if self.is_whole and not isinstance(value, str):
                    return value, ()
                made.append(text_of(frame, value))
                spans += _spans(part, value, made[-1], length, scope)
            length += len(made[-1])
            if length > CHARACTERS_MAX:
                frame.pay_text(length)  # says what is too long
        return "".join(made), tuple(spans)


def _spans(part: _Part, value: Json, text: str, start: int, scope: Scope) -> Iterator[Span]:
    """Yield the spans of one computed part, which has the given value and text and begins at `start`."""
    if part.name is None or not _has_words(value):
        return
    # The parts of a concatenation are computed once more: the value itself is the one that the complete expression gave.
    values = [inner.run(scope) for inner in part.inner]
    texts = [each for each in values if isinstance(each, str)]
    if not texts or "".join(texts) != text:
        yield Span(start, start + len(text), part.name)
        return
    for inner, each in zip(part.inner, texts, strict=True):
        yield from _spans(inner, each, each, start, scope)
        start += len(each)


def _has_words(value: Json) -> bool:
    """Whether a value holds text, which could be words for a model; keys of objects are text too."""
    match value:
        case str():
            return value != ""
        case list():
            return any(map(_has_words, value))
        case dict():
            return bool(value)
        case _:
            return False


def data_indices(tree: Tree | None, count: int) -> tuple[int, ...]:
    """Return which of the `count` items of a rendered list hold data; `tree` is its template."""
    match tree:
        case None:
            return ()
        case Branch(value=list(), parts=parts):
            return tuple(at for at, part in parts.items() if isinstance(at, int) and _holds_expression(part))
        case _:
            return tuple(range(count))


def _holds_expression(tree: Tree) -> bool:
    if isinstance(tree, Leaf):
        return any(True for _ in tree.expressions)
    return any(map(_holds_expression, tree.parts.values()))


def _part_of(node: Node) -> _Part:
    if _is_authors(node):
        return _Part(compile_node(node), None)
    terms = _terms(node)
    # `+` joins texts only if one of its terms is sure to be a text; the sum of numbers is one value.
    is_text = any(isinstance(term, Literal | Constant) and isinstance(term.value, str) for term in terms)
    inner = tuple(_part_of(term) for term in terms) if is_text and len(terms) > 1 else ()
    return _Part(compile_node(node), _name_of(node), inner)


def _terms(node: Node) -> list[Node]:
    """Return the terms of a chain of `+`, in order."""
    found: list[Node] = []
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Binary) and node.operator == "+":
            waiting += [node.right, node.left]
        else:
            found.append(node)
    return found


def _is_authors(node: Node) -> bool:
    """Whether the value of an expression is one of the author's own constants, whatever decides which of them."""
    match node:
        case Literal() | Constant():
            return True
        case Condition(then=then, otherwise=otherwise):
            return _is_authors(then) and _is_authors(otherwise)
        case _:
            return False


def _name_of(node: Node) -> str:
    """Return a name for the value of an expression: the last name of a path, in letters that a tag may have."""
    match node:
        case Name(name=name) | Local(name=name) | Field(name=name):
            made = _NOT_IN_NAMES.sub("_", name.lower()).strip("_")[:NAME_MAX]
            return made if made[:1].isalpha() else UNNAMED
        case Index(key=Literal(value=str() as key)):
            return _name_of(Name(0, 0, key))
        case Index(base=base) | Slice(base=base):
            return _name_of(base)
        case _:
            return UNNAMED
