"""Whether an expression may have no value because steps were skipped: then whoever asks for it is skipped too."""

from __future__ import annotations

from collections.abc import Container

from ..expressions.formula import Leaf
from ..expressions.nodes import Call, Field, Index, Name, Node, Slice


def may_skip(leaf: Leaf, skipped: Container[str]) -> bool:
    """Whether a string's value is lost if the steps in `skipped` are. Linear in its expressions."""
    return bool(lost_text(leaf, skipped))


def lost_text(leaf: Leaf, skipped: Container[str]) -> str:
    """Return the reference by which a string's value is lost, such as `step.field[0]`; empty if it is not."""
    for expression in leaf.expressions:
        node = expression.parsed.node
        if node is not None and (lost := _lost(node, skipped)) is not None:
            return expression.parsed.text[lost.start : lost.end]
    return ""


def _lost(node: Node, skipped: Container[str]) -> Node | None:
    """Return the widest reference to a skipped step that an expression cannot do without."""
    match node:
        case Name(name=name):
            return node if name in skipped else None
        case Call(function="first", arguments=arguments) if arguments:
            every = [_lost(argument, skipped) for argument in arguments]
            return None if None in every else every[-1]
        case _:
            lost = next((found for part in node.parts if (found := _lost(part, skipped)) is not None), None)
            is_whole = isinstance(node, Field | Index | Slice) and lost is node.base
            return node if is_whole else lost
