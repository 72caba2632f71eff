"""What type an operator gives, from the types of its operands.

Integers give integers, everything else that is a number gives a number; booleans are not numbers. Functions and methods are
in `signatures.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from ..types.types import (
    BOOLEAN,
    INTEGER,
    NEVER,
    NULL,
    NUMBER,
    TEXT,
    UNKNOWN,
    ListType,
    ObjectType,
    Scalar,
    Type,
    Unknown,
    members,
    union,
)
from ..types.wording import shown
from ..values import Json
from .nodes import Node
from .operands import A_LIST, A_NUMBER, Findings, Member, kind_of, operand

_NUMBERS = frozenset({"integer", "number"})
_MIXED = "str(..) makes text of a number, int(..) and float(..) make numbers of text"
_BOOLEANS = "a boolean is no number: int(..) makes 0 or 1 of it"

Table: TypeAlias = "Callable[[Member, Member], Type | None]"


def _arithmetic(left: Member, right: Member) -> Type | None:
    """`-`, `//`, `%`: of two numbers."""
    kinds = {kind_of(left), kind_of(right)}
    if kinds == {"integer"}:
        return INTEGER
    return NUMBER if kinds <= _NUMBERS | {"unknown"} else None


def _division(left: Member, right: Member) -> Type | None:
    return None if _arithmetic(left, right) is None else NUMBER


def _addition(left: Member, right: Member) -> Type | None:
    match left, right:
        case (Unknown(), Unknown()):
            return UNKNOWN
        case (ListType(), ListType()):
            return ListType(union(left.item, right.item))
        case (ListType(), Unknown()) | (Unknown(), ListType()):
            return ListType(UNKNOWN)
        case _:
            texts = {kind_of(left), kind_of(right)} <= {"string", "unknown"}
            return TEXT if texts else _arithmetic(left, right)


def _product(left: Member, right: Member) -> Type | None:
    for one, count in ((left, right), (right, left)):
        if kind_of(count) in {"integer", "number", "unknown"}:
            if kind_of(one) == "string":
                return TEXT
            if isinstance(one, ListType):
                return ListType(one.item)
    if "unknown" in {kind_of(left), kind_of(right)}:
        return UNKNOWN if {kind_of(left), kind_of(right)} <= _NUMBERS | {"unknown"} else None
    return _arithmetic(left, right)


_BINARY: dict[str, tuple[Table, str]] = {
    "+": (_addition, "two numbers, two texts or two lists"),
    "-": (_arithmetic, "two numbers"),
    "*": (_product, "two numbers, or a text or list and an integer"),
    "/": (_division, "two numbers"),
    "//": (_arithmetic, "two numbers"),
    "%": (_arithmetic, "two numbers"),
    "**": (_division, "two numbers"),
}

Operand: TypeAlias = tuple[Node, Type]


def arithmetic(findings: Findings, node: Node, operator: str, left: Operand, right: Operand) -> Type:
    """Return the type of `left operator right`."""
    table, wanted = _BINARY[operator]
    return _pairs(findings, node, (f"'{operator}'", wanted), left, right, table)


def exact_power(findings: Findings, node: Node, left: Operand, right: Operand) -> Type:
    """Return the type of `left ** n`, with n written as a non-negative integer."""
    return _pairs(findings, node, ("'**'", "two numbers"), left, right, _arithmetic)


def _pairs(
    findings: Findings, node: Node, what: tuple[str, str], left: Operand, right: Operand, table: Table
) -> Type:
    """Return the union of what a table gives for each pair of alternatives."""
    sides = [[member for member in members(of) if kind_of(member) != "null"] for _, of in (left, right)]
    if not members(left[1]) or not members(right[1]):
        return NEVER
    results = [table(one, other) for one in _distinct(sides[0]) for other in _distinct(sides[1])]
    given = [result for result in results if result is not None]
    if not given:
        found = f"{shown(left[1])} and {shown(right[1])}"
        hint = _hint(what[0], left[1], right[1])
        findings.add("bad-expr", node, f"{what[0]} takes {what[1]}, found {found}", hint)
        return NEVER
    for (part, of), side in zip((left, right), sides, strict=True):
        if len(side) < len(members(of)):
            findings.null(part, what[0])
        if any(isinstance(member, Unknown) for member in side):
            findings.unchecked(part, UNKNOWN, what[0])
    if len(given) < len(results):
        odd = left if len(sides[0]) > 1 or len(sides[1]) == 1 else right
        findings.unchecked(*odd, what[0])
    elif _needs_whole(results, sides):
        odd = left if any(kind_of(member) == "number" for member in sides[0]) else right
        findings.unchecked(*odd, what[0])
    return union(*given)


def _distinct(side: Sequence[Member]) -> Sequence[Member]:
    """Return alternatives that matter to an operator: scalars of one kind count once."""
    once: dict[object, Member] = {}
    for member in side:
        once.setdefault(kind_of(member) if isinstance(member, Scalar | ObjectType) else member, member)
    return list(once.values())


def _needs_whole(results: Sequence[Type | None], sides: Sequence[Sequence[Member]]) -> bool:
    """Whether a text or list is repeated by a number that may not be whole."""
    repeats = any(
        result is not None and (result == TEXT or isinstance(result, ListType)) for result in results
    )
    return repeats and any(kind_of(member) == "number" for side in sides for member in side)


def _hint(what: str, left: Type, right: Type) -> str:
    kinds = {kind_of(member) for of in (left, right) for member in members(of)}
    if "boolean" in kinds:
        return _BOOLEANS
    if what == "'%'" and "string" in kinds:
        return "put values into text with ${..}, or join text with +"
    return _MIXED if "string" in kinds and kinds & _NUMBERS else ""


def signed(findings: Findings, node: Node, operator: str, of: Type) -> Type:
    """Return the type of `-x` and `+x`."""
    good = operand(findings, node, of, A_NUMBER, f"'{operator}'")
    return numeric(good)


def numeric(good: Sequence[Member]) -> Type:
    """Return integer if all are, else number; of nothing, nothing."""
    if not good:
        return NEVER
    return INTEGER if all(kind_of(member) == "integer" for member in good) else NUMBER


def ordering(findings: Findings, node: Node, operator: str, left: Operand, right: Operand) -> Type:
    """Return the type of `<`, `<=`, `>` and `>=`."""

    def table(one: Member, other: Member) -> Type | None:
        kinds = {kind_of(one), kind_of(other)}
        ordered = kinds <= _NUMBERS | {"unknown"} or kinds <= {"string", "unknown"}
        return BOOLEAN if ordered else None

    _pairs(findings, node, (f"'{operator}'", "two numbers or two texts"), left, right, table)
    return BOOLEAN


def contains(findings: Findings, node: Node, operator: str, left: Operand, right: Operand) -> Type:
    """Return the type of `in` and `not in`: null may be looked for in a list only."""

    def table(one: Member, other: Member) -> Type | None:
        kinds = {kind_of(one), kind_of(other)}
        fits = isinstance(other, ListType | Unknown) or (
            kind_of(other) in {"string", "object"} and kinds <= {"string", "object", "unknown"}
            and kind_of(one) != "object"
        )  # fmt: skip
        return BOOLEAN if fits else None

    what = (f"'{operator}'", "an item and a list, or a text and a text or an object")
    if all(
        isinstance(member, ListType | Unknown) for member in members(right[1]) if kind_of(member) != "null"
    ):
        good = operand(findings, right[0], right[1], A_LIST, f"'{operator}' on its right")
        return BOOLEAN if good or not members(right[1]) else NEVER
    _pairs(findings, node, what, left, right, table)
    return BOOLEAN


def truthy(of: Type) -> Type:
    """Return the type of a value that counts as true."""
    return (
        union(*[part for member in members(of) for part in [_truthy(member)] if part is not None])
        if members(of)
        else NEVER
    )


def _truthy(member: Member) -> Type | None:
    if not isinstance(member, Scalar):
        return None if member == _NO_FIELDS or member == ListType(NEVER) else member
    if member.kind == "null":
        return None
    if member.kind == "boolean" and member.only is None:
        return Scalar("boolean", (True,))
    if member.only is None:
        return member
    kept = tuple(value for value in member.only if value)
    return Scalar(member.kind, kept, member.beyond) if kept else None


_NO_FIELDS = ObjectType({})
_EMPTY: dict[str, Json] = {"boolean": False, "integer": 0, "number": 0.0, "string": ""}


def falsy(of: Type) -> Type:
    """Return the type of a value that counts as false."""
    parts = [part for member in members(of) for part in _falsy(member)]
    return union(*parts) if parts else NEVER


def _falsy(member: Member) -> Sequence[Type]:
    match member:
        case Scalar(kind="null"):
            return [NULL]
        case Scalar(kind="number", only=None):
            return [Scalar("number", (0.0,)), Scalar("integer", (0,))]
        case Scalar(kind=kind):
            empty = _EMPTY[kind]
            return [Scalar(kind, (empty,))] if member.only is None or empty in member.only else []
        case ListType():
            return [ListType(NEVER)]
        case ObjectType(fields=fields):
            return [] if any(known.required for known in fields.values()) else [_NO_FIELDS]
        case Unknown():
            return [UNKNOWN]
