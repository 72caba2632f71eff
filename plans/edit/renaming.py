"""Renames a step or an input in every expression of a plan's JSON.

Expressions are parsed, so quoted text, fields and loop variables of the same name stay. Text that does not parse stays too. The rest of
each expression keeps its spelling: only the spans of the name are replaced, which printing the parsed form again would not do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, cast

from ..checker.templates import TEMPLATE_PLACES
from ..expressions.nodes import Field, Index, Literal, Name, Node, walk
from ..expressions.template import Expression, pieces_of
from ..values import with_texts

_Raw: TypeAlias = dict[str, Any]
Span: TypeAlias = tuple[int, int, str]
"""Start and end in an expression, and the new text."""


class NameCapturedError(Exception):
    """A loop variable in an expression has the new name already, and would hide the step."""

    def __init__(self, name: str, expression: str) -> None:
        super().__init__(
            f"expected a name that no loop uses, found '{name}', which stands in the expression {expression!r}"
        )


def rename_step(body: _Raw, old: str, new: str) -> None:
    """Rename every reference to a step in a body, `after` included; the step itself keeps its id.

    Args:
        body: A plan or an inner plan, as JSON; changed in place.
        old: The id.
        new: The new id.

    Raises:
        NameCapturedError: The new name means something else in an expression.
    """

    def spans(node: Node) -> Iterator[Span]:
        if isinstance(node, Name) and node.name == old:
            yield node.start, node.end, new

    _rewrite(body, spans, new)
    for step in cast("list[_Raw]", body["steps"]):
        if "after" in step:
            step["after"] = [new if id_ == old else id_ for id_ in step["after"]]


def rename_input(body: _Raw, old: str, new: str) -> None:
    """Rename every reference to an input in a body; the declaration itself keeps its name.

    Args:
        body: A plan or an inner plan, as JSON; changed in place.
        old: The name.
        new: The new name.
    """

    def spans(node: Node) -> Iterator[Span]:
        match node:
            case Field(base=Name(name="inputs"), name=name, end=end) if name == old:
                yield end - len(old), end, new
            case Index(base=Name(name="inputs"), key=Literal(value=value, start=start, end=end)) if (
                value == old
            ):
                yield start, end, f'"{new}"'
            case _:
                pass

    _rewrite(body, spans, None)


def _rewrite(body: _Raw, spans: Callable[[Node], Iterator[Span]], free: str | None) -> None:
    """Rewrite every template of a body; `free` is the new name, which must be free (bound by no loop) where it was put."""

    def rewritten(text: str) -> str:
        return _text(text, spans, free)

    if "output" in body:
        body["output"] = with_texts(body["output"], rewritten)
    for step in cast("list[_Raw]", body["steps"]):
        for *way, last in TEMPLATE_PLACES.values():
            holder = step.get(way[0]) if way else step
            if isinstance(holder, dict) and last in holder:
                found = cast("_Raw", holder)
                found[last] = with_texts(found[last], rewritten)


def _text(text: str, spans: Callable[[Node], Iterator[Span]], free: str | None) -> str:
    found = [(at + start, at + end, new) for at, node in _nodes(text) for start, end, new in spans(node)]
    parts: list[str] = []
    last = 0
    for start, end, new in sorted(found):
        parts += [text[last:start], new]
        last = end
    made = "".join([*parts, text[last:]])
    # A loop variable of the new name would capture the reference: then fewer occurrences are free than were replaced.
    if free is not None and _free_count(made, free) < _free_count(text, free) + len(found):
        raise NameCapturedError(free, text)
    return made


def _nodes(text: str) -> Iterator[tuple[int, Node]]:
    """Yield the nodes of all expressions of a string, each with the place of its expression; text that does not parse has none."""
    for piece in pieces_of(text)[0]:
        if isinstance(piece, Expression) and piece.parsed.node is not None:
            for node in walk(piece.parsed.node):
                yield piece.start, node


def _free_count(text: str, name: str) -> int:
    """Return how often a name is free in the expressions of a string."""
    return sum(isinstance(node, Name) and node.name == name for _, node in _nodes(text))
