"""Whether an expression may have no value because steps were skipped: then whoever asks for it is skipped too."""

from __future__ import annotations

from collections.abc import Container

from .expressions.nodes import Call, Name, Node
from .formula import Leaf


def may_skip(leaf: Leaf, skipped: Container[str]) -> bool:
    """Whether a string's value is lost if the steps in `skipped` are. Linear in its expressions."""
    nodes = (expression.reading.node for expression in leaf.expressions)
    return any(node is not None and _is_lost(node, skipped) for node in nodes)


def _is_lost(node: Node, skipped: Container[str]) -> bool:
    match node:
        case Name(name=name):
            return name in skipped
        case Call(function="first", arguments=arguments) if arguments:
            return all(_is_lost(argument, skipped) for argument in arguments)
        case _:
            return any(_is_lost(part, skipped) for part in node.parts)
