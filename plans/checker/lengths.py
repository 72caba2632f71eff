"""The greatest lengths of lists, as far as a plan itself says them: what a `for_each` runs over, before it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from ..expressions.formula import EvaluationError
from ..expressions.nodes import Call, Comprehension, ListOf, Name, Node
from ..plan import SetStep
from .body import Body
from .templates import Template

NO_LONGER = frozenset({"sorted", "reversed", "distinct", "enumerate", "zip"})
"""Functions whose list is at most as long as their first argument."""

_LengthOf: TypeAlias = Callable[[str], "int | None"]


def list_lengths(body: Body, order: Sequence[int]) -> list[int | None]:
    """Return the greatest length of each step's `for_each`: 1 without one, `None` if it depends on data. O(references)."""
    lengths: list[int | None] = [1] * len(body.steps)
    made: list[int | None] = [None] * len(body.steps)

    def length_of(name: str) -> int | None:
        position = body.position.get(name)
        return None if position is None else made[position]

    for position in order:
        step = body.steps[position]
        if "for_each" in step.templates:
            lengths[position] = made[position] = _length(step.templates["for_each"], length_of)
        elif isinstance(step, SetStep) and step.on_error in ("fail", "skip"):
            made[position] = _length(step.templates["set"], length_of)
    return lengths


def _length(template: Template, length_of: _LengthOf) -> int | None:
    if isinstance(template.value, list):
        return len(template.value)
    if template.faults or not template.formula.leaves:
        return None
    if template.formula.constant:
        return _constant_length(template)
    whole = template.formula.leaves[0].whole
    node = None if whole is None else whole.parsed.node
    return None if node is None else _node_length(node, length_of)


def _constant_length(template: Template) -> int | None:
    try:
        value = template.formula.evaluate({})
    except EvaluationError:
        return None
    return len(value) if isinstance(value, list) else None


def _node_length(node: Node, length_of: _LengthOf) -> int | None:
    match node:
        case Name(name=name):
            return length_of(name)
        case ListOf(items=items):
            return len(items)
        case Comprehension(value=None, clauses=(clause,)):
            return _node_length(clause.iterable, length_of)
        case Call(function=function, arguments=(first, *_)) if function in NO_LONGER:
            return _node_length(first, length_of)
        case _:
            return None
