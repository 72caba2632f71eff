"""The types of what large plans mostly hold: plain paths, and arithmetic on numbers. The rest is `infer.py`'s business.

Answers only where nothing is wrong and nothing doubtful, and then as `infer.py` does; `None` says: look closely.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..types.types import BOOLEAN, INTEGER, NUMBER, ObjectType, Scalar, Type
from .nodes import Binary, Compare, Field, Literal, Name, Node

_KEEPS_WHOLE = frozenset({"+", "-", "*", "//", "%"})
_ORDERS = frozenset({"<", "<=", ">", ">="})
_EQUALS = frozenset({"==", "!="})


def plain_type(node: Node, scope: Mapping[str, Type]) -> Type | None:
    """Return the type of an expression that is surely right, or `None`."""
    if isinstance(node, Field):
        base = plain_type(node.base, scope)
        known = base.fields.get(node.name) if isinstance(base, ObjectType) else None
        return known.type if known is not None and known.required else None
    if isinstance(node, Name):
        return None if node.name == "prev" else scope.get(node.name)
    if isinstance(node, Binary):
        whole = _is_whole(node.left, scope), _is_whole(node.right, scope)
        if None in whole or not (node.operator in _KEEPS_WHOLE or node.operator == "/"):
            return None
        return INTEGER if all(whole) and node.operator != "/" else NUMBER
    return _comparison(node, scope) if isinstance(node, Compare) else None


def _is_whole(node: Node, scope: Mapping[str, Type]) -> bool | None:
    """Whether an operand is an integer and no other number; `None`: it is perhaps no number."""
    if isinstance(node, Literal):
        kind: object = type(node.value)
        return kind is int if kind in (int, float) else None
    found = plain_type(node, scope)
    if not isinstance(found, Scalar) or found.kind not in ("integer", "number"):
        return None
    return found.kind == "integer"


def _comparison(node: Compare, scope: Mapping[str, Type]) -> Type | None:
    operands = (node.first, *node.rest)
    if all(operator in _ORDERS for operator in node.operators):
        return None if None in [_is_whole(part, scope) for part in operands] else BOOLEAN
    if all(operator in _EQUALS for operator in node.operators):
        kinds = [isinstance(part, Literal) or plain_type(part, scope) is not None for part in operands]
        return BOOLEAN if all(kinds) else None
    return None
