"""Prints an expression in canonical form: one text for every way to write the same tree.

Spelling changes only spacing, quotes, redundant parentheses and how literals are written: parsing the text gives
the same tree again. Nothing is folded, reordered or unified: `x["a"]` stays apart from `x.a`, and `(a and b) and c` from
`a and b and c`, whose trees differ. Text is quoted as JSON quotes it, which Python reads alike.
"""

from __future__ import annotations

import json
from typing import assert_never

from . import nodes
from .nodes import Node

# How tightly a form binds, from Python's grammar: a part that binds less than its place wants gets parentheses.
_CONDITION, _OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _SIGN, _POWER, _ATOM = range(10)
_BINDS = {
    "+": _SUM,
    "-": _SUM,
    "*": _PRODUCT,
    "/": _PRODUCT,
    "//": _PRODUCT,
    "%": _PRODUCT,
    "**": _POWER,
}


def unparse(node: Node) -> str:
    """Return the canonical text of an expression, as parsed: folded nodes have no spelling."""
    return _printed(node)[0]


def quoted(value: str) -> str:
    """Return a text in canonical quotes."""
    return json.dumps(value, ensure_ascii=False)


def _at(node: Node, least: int) -> str:
    """Return the text of a node for a place that wants a form that binds at least so tightly."""
    text, binds = _printed(node)
    return text if binds >= least else f"({text})"


def _printed(node: Node) -> tuple[str, int]:  # noqa: C901, PLR0911, PLR0912  # one case, one line for each kind
    match node:
        case nodes.Literal(value=value):
            return _literal(value)
        case nodes.Name() | nodes.Local():
            return node.name, _ATOM
        case nodes.Field():
            return f"{_base(node.base)}.{node.name}", _ATOM
        case nodes.Index():
            return f"{_base(node.base)}[{unparse(node.key)}]", _ATOM
        case nodes.Slice():
            return _slice(node), _ATOM
        case nodes.Unary():
            return _unary(node)
        case nodes.Binary():
            return _binary(node)
        case nodes.Compare():
            return _compare(node), _COMPARE
        case nodes.Logic():
            binds = _AND if node.operator == "and" else _OR
            return f" {node.operator} ".join([_at(part, binds + 1) for part in node.operands]), binds
        case nodes.Condition():
            then, test = _at(node.then, _OR), _at(node.test, _OR)
            return f"{then} if {test} else {unparse(node.otherwise)}", _CONDITION
        case nodes.ListOf():
            return f"[{', '.join(map(unparse, node.items))}]", _ATOM
        case nodes.DictOf():
            return "{" + ", ".join(
                [f"{unparse(key)}: {unparse(value)}" for key, value in node.pairs]
            ) + "}", _ATOM
        case nodes.Comprehension():
            return _comprehension(node), _ATOM
        case nodes.Call():
            return _call(node), _ATOM
        case nodes.Method():
            return f"{_base(node.base)}.{node.name}({_arguments(node.arguments)})", _ATOM
        case nodes.Constant() | nodes.Broken():
            raise AssertionError("a folded expression has no spelling")
        case _:
            assert_never(node)


def _literal(value: object) -> tuple[str, int]:
    if isinstance(value, str):
        return quoted(value), _ATOM
    # The least integer is the one literal with a sign: its digits alone are past 64 bits.
    return repr(value), _SIGN if isinstance(value, int) and value < 0 else _ATOM


def _base(node: Node) -> str:
    """Return what stands before a dot or a bracket; a number there needs parentheses."""
    is_number = isinstance(node, nodes.Literal) and type(node.value) in {int, float}
    return f"({unparse(node)})" if is_number else _at(node, _ATOM)


def _slice(node: nodes.Slice) -> str:
    low, high, step = ("" if part is None else unparse(part) for part in (node.low, node.high, node.step))
    return f"{_base(node.base)}[{low}:{high}{':' if step else ''}{step}]"


def _unary(node: nodes.Unary) -> tuple[str, int]:
    if node.operator == "not":
        return f"not {_at(node.operand, _NOT)}", _NOT
    return f"{node.operator}{_at(node.operand, _SIGN)}", _SIGN


def _binary(node: nodes.Binary) -> tuple[str, int]:
    binds = _BINDS[node.operator]
    if node.operator == "**":  # binds to the right, and less tightly than a sign on its right
        return f"{_at(node.left, _ATOM)} ** {_at(node.right, _SIGN)}", binds
    return f"{_at(node.left, binds)} {node.operator} {_at(node.right, binds + 1)}", binds


def _compare(node: nodes.Compare) -> str:
    links = zip(node.operators, node.rest, strict=True)
    rest = "".join([f" {operator} {_at(right, _SUM)}" for operator, right in links])
    return _at(node.first, _SUM) + rest


def _comprehension(node: nodes.Comprehension) -> str:
    element = (
        unparse(node.element) if node.value is None else f"{unparse(node.element)}: {unparse(node.value)}"
    )
    inside = element + "".join(map(_clause, node.clauses))
    if node.generator:
        return f"({inside})"
    return f"[{inside}]" if node.value is None else "{" + inside + "}"


def _clause(clause: nodes.Clause) -> str:
    names = ", ".join([target.name for target in clause.targets])
    conditions = "".join([f" if {_at(condition, _OR)}" for condition in clause.conditions])
    return f" for {names} in {_at(clause.iterable, _OR)}{conditions}"


def _arguments(arguments: tuple[Node, ...]) -> str:
    text = ", ".join(map(unparse, arguments))
    lone = len(arguments) == 1 and isinstance(arguments[0], nodes.Comprehension) and arguments[0].generator
    return text[1:-1] if lone else text


def _call(node: nodes.Call) -> str:
    named: list[tuple[int, str]] = []
    if node.key is not None:
        named.append((node.key.start, f"key=lambda {node.key.parameter.name}: {unparse(node.key.body)}"))
    if node.reverse is not None:
        named.append((node.reverse.start, f"reverse={unparse(node.reverse)}"))
    named += [
        (each.start, f"{name}={unparse(each)}") for name, each in zip(node.names, node.named, strict=True)
    ]
    if not named:
        return f"{node.function}({_arguments(node.arguments)})"
    words = [text for _, text in sorted(named)]  # in the order in which they were written
    return f"{node.function}({', '.join([*map(unparse, node.arguments), *words])})"
