"""Operands by their type: which alternatives an operation takes, and what to say of those it does not.

One rule for every operation: null among the alternatives is `maybe-missing`, an unknown type `unchecked-type`; if some
alternative fits and some does not, it is checked at run time (`unchecked-type`); if none fits, it is `bad-expr`. A value of
type `NEVER` (what is already faulty, an item of `[]`) fits everything, and nothing is said of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeAlias

from ..faults import Fault
from ..types.kinds import depth_of
from ..types.types import NEVER, ListType, ObjectType, Scalar, Type, Unknown, members, union
from ..types.wording import shown
from .nodes import Field, Index, Name, Node, Slice

Member: TypeAlias = Scalar | ListType | ObjectType | Unknown

NOBODY: Mapping[str, str] = MappingProxyType({})
"""No callers of tools are known."""

ROW_MAX = 16  # items of a list of which each is known by its place
# Lists and objects inside such an item: a row of rows of rows would double from step to step.
ROW_DEPTH_MAX = 2


class Row(ListType):
    """A list of known length, each item's type by its place: what `zip`, `items` and a written list give.

    To everybody else it is the list type that it equals.
    """

    __slots__ = ("cells",)

    cells: tuple[Type, ...]


def listed(cells: Sequence[Type]) -> ListType:
    """Return the type of a list whose items have these types, in their places."""
    item = joined(cells)
    if not 0 < len(cells) <= ROW_MAX or depth_of(item) > ROW_DEPTH_MAX:
        return ListType(item)
    row = Row(item)
    object.__setattr__(row, "cells", tuple(cells))
    return row


def joined(types: Sequence[Type]) -> Type:
    """Return the union of types; of rows of one length, a row."""
    if len(types) > 1 and isinstance(types[0], Row):
        rows = [each for each in types if isinstance(each, Row) and len(each.cells) == len(types[0].cells)]
        if len(rows) == len(types):
            return listed([joined(cells) for cells in zip(*[row.cells for row in rows], strict=True)])
    return union(*types) if types else NEVER


def kind_of(member: Member) -> str:
    """Return a member's kind: a scalar's, `list`, `object` or `unknown`."""
    match member:
        case Scalar():
            return member.kind
        case ListType():
            return "list"
        case ObjectType():
            return "object"
        case Unknown():
            return "unknown"


@dataclass(slots=True)
class Findings:
    """What was found wrong in one expression.

    Attributes:
        text: The expression, for messages.
        suggestions: Whether hints name the nearest known name.
        callers: The step that calls a tool, by the tool's name.
        faults: In characters of the expression.
        firsts: Arguments of `first(..)` around the part looked at that are not the last: what is missing there is passed over.
    """

    text: str
    suggestions: bool
    callers: Mapping[str, str] = field(default_factory=lambda: NOBODY)
    faults: list[Fault] = field(default_factory=list[Fault])
    firsts: int = 0

    def source(self, node: Node) -> str:
        """Return a part of the expression as it was written."""
        text = self.text[node.start : node.end]
        return text if len(text) <= 80 else text[:77] + ".."

    def add(self, code: str, node: Node, message: str, hint: str = "") -> None:
        """Note a fault, once for each code and place."""
        if not any(
            fault.code == code and fault.start == node.start and fault.end == node.end
            for fault in self.faults
        ):
            self.faults.append(Fault(code, message, hint, "", node.start, node.end))

    def rehint(self, code: str, node: Node, hint: str) -> None:
        """Give the fault of a code and place, if it was noted, a better hint."""
        self.faults = [
            replace(fault, hint=hint)
            if (fault.code, fault.start, fault.end) == (code, node.start, node.end)
            else fault
            for fault in self.faults
        ]

    def missing(self, node: Node, message: str) -> None:
        """Note that a value may be absent or null where one is wanted."""
        if not self.firsts:
            hint = f"write first({self.source(node)}, a value for that case)"
            self.add("maybe-missing", node, message, hint)

    def null(self, node: Node, what: str) -> None:
        """Note that an operand may be null."""
        self.missing(node, f"'{self.source(node)}' may be null, and {what} takes no null")

    def unchecked(self, node: Node, of: Type, what: str) -> None:
        """Note that an operand is checked at run time only; said once of an expression."""
        if any(fault.code == "unchecked-type" for fault in self.faults):
            return
        message = (
            f"'{self.source(node)}' is {shown(of)}: whether {what} takes it is checked when the step runs"
        )
        hint = _typing_hint(node) if isinstance(of, Unknown) else ""
        self.add("unchecked-type", node, message, hint)


def _typing_hint(node: Node) -> str:
    """Return what to give a type, so that an operand has one: an input, what a step's tool returns, or what a loop goes over."""
    while isinstance(node, Field | Index | Slice):
        node = node.base
    match node:
        case Name(name="inputs"):
            return "give the input a type"
        case Name(name=name) if name not in {"item", "prev"}:
            return "give the tool that makes it a return type"
        case _:
            return "give what it comes from a type"


@dataclass(frozen=True, slots=True)
class Takes:
    """What an operation takes as one of its operands.

    Attributes:
        kinds: The kinds that fit.
        wanted: The same for people.
        hint: What to do if something else is there.
        nulls: Whether null fits too.
    """

    kinds: frozenset[str]
    wanted: str
    hint: str = ""
    nulls: bool = False

    def fits(self, member: Member) -> bool | None:
        """Whether a member fits; `None`: some of its values do."""
        kind = kind_of(member)
        if kind == "unknown" or (kind == "number" and "integer" in self.kinds and "number" not in self.kinds):
            return None
        return kind in self.kinds


def takes(*kinds: str, wanted: str, hint: str = "", nulls: bool = False) -> Takes:
    """Return what an operation takes."""
    return Takes(frozenset(kinds), wanted, hint, nulls)


A_NUMBER = takes("integer", "number", wanted="a number", hint="int(..) and float(..) read numbers from text")
AN_INTEGER = takes("integer", wanted="an integer", hint="round(..) and int(..) give integers")
A_TEXT = takes("string", wanted="text", hint="str(..) makes text of any value")
A_LIST = takes("list", wanted="a list", hint="refer to a list, or write one: [..]")
AN_OBJECT = takes("object", wanted="an object")
A_BOOLEAN = takes("boolean", wanted="a boolean", hint="write a comparison, or bool(..)")


def operand(findings: Findings, node: Node, of: Type, wanted: Takes, what: str) -> tuple[Member, ...]:
    """Return the alternatives of an operand that an operation takes, and note what is wrong with the others.

    Empty if there are none, because of a fault or since it has no value.
    """
    every = members(of)
    others = [member for member in every if kind_of(member) != "null"]
    fits = [(member, wanted.fits(member)) for member in others]
    good = tuple([member for member, fit in fits if fit is not False])
    if every and not good and not (wanted.nulls and not others):
        findings.add("bad-expr", node, f"{what} takes {wanted.wanted}, found {shown(of)}", wanted.hint)
        return ()
    if len(others) < len(every) and not wanted.nulls:
        findings.null(node, what)
    if any(fit is not True for _, fit in fits):
        odd = next(member for member, fit in fits if fit is not True)
        findings.unchecked(node, odd if isinstance(odd, Unknown) else of, what)
    return good


def items_of(findings: Findings, node: Node, of: Type, what: str) -> Type:
    """Return the type of the items of what should be a list."""
    lists = operand(findings, node, of, A_LIST, what)
    return joined([member.item if isinstance(member, ListType) else member for member in lists])
