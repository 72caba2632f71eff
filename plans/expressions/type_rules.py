"""The types of operators, of parts (`.field`, `[index]`) and of operands, and the problems of operands that an operation does not take.

One rule for every operation: null among the alternatives is `maybe-missing`, an unknown type `unchecked-type`; if some alternative fits and some do not, the value
is checked at run time (`unchecked-type`); if none fits, the problem is `bad-expr`. A value of type `NEVER` (an expression with a reported problem, an
item of `[]`) fits everything, so that one mistake is reported once.

In all rules `findings` gets the problems, `node` is the operation, `base` and `key` are the types of what stands before and inside brackets, and `left` and `right` are
operands: a node with its type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from types import MappingProxyType
from typing import TypeAlias, cast

from ..immutable import immutable, record
from ..reports.errors import LocalProblem
from ..reports.nearest import listing, nearest
from ..types.show import type_text
from ..types.types import (
    BOOLEAN,
    INTEGER,
    NEVER,
    NULL,
    NUMBER,
    TEXT,
    UNKNOWN,
    Kind,
    ListType,
    ObjectType,
    Property,
    Scalar,
    Type,
    Union,
    Unknown,
    depth_of,
    members,
    union,
)
from ..values import Json
from . import dates
from .functions import METHODS
from .nodes import Constant, Field, Index, Literal, Name, Node, Slice

Member: TypeAlias = Scalar | ListType | ObjectType | Unknown

NOBODY: Mapping[str, str] = MappingProxyType({})
"""No callers of tools are known."""

ROW_MAX = 16  # items of a list of which each is known by its place
# Lists and objects inside such an item: a row of rows of rows would double from step to step.
ROW_DEPTH_MAX = 2


class TupleType(ListType):
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
    row = TupleType(item)
    # The type is frozen and its constructor knows no cells.
    object.__setattr__(row, "cells", tuple(cells))
    return row


def joined(types: Sequence[Type]) -> Type:
    """Return the union of types; of rows of one length, a row."""
    # Rows of one length stay rows, so that `for k, v in [["a", 1], ["b", 2]]` knows both types.
    if len(types) > 1 and isinstance(types[0], TupleType):
        rows = [
            each for each in types if isinstance(each, TupleType) and len(each.cells) == len(types[0].cells)
        ]
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


@record
class ExpressionProblems:
    """The problems of one expression.

    Attributes:
        text: The expression, for messages.
        suggestions: Whether hints name the nearest known name.
        callers: The step that calls a tool, by the tool's name.
        problems: In characters of the expression.
        has_dates: Whether the expression makes dates, so that a value of unknown type may be one.
        firsts: Arguments of `first(..)` around the part looked at that are not the last: what is missing there is passed over.
    """

    text: str
    suggestions: bool
    callers: Mapping[str, str] = field(default_factory=lambda: NOBODY)
    problems: list[LocalProblem] = field(default_factory=list[LocalProblem])
    firsts: int = 0
    has_dates: bool = False

    def source(self, node: Node) -> str:
        """Return a part of the expression as it was written."""
        text = self.text[node.start : node.end]
        return text if len(text) <= 80 else text[:77] + ".."

    def add(self, code: str, node: Node, message: str, hint: str = "") -> None:
        """Note a problem, once for each code and place.

        Args:
            code: A code of the plan language.
            node: The part of the expression that has the problem.
            message: Expected, found.
            hint: What to do.
        """
        # Several rules may look at one operand, and its problem is reported once.
        if not any(
            problem.code == code and problem.start == node.start and problem.end == node.end
            for problem in self.problems
        ):
            self.problems.append(LocalProblem(code, message, hint, "", node.start, node.end))

    def rehint(self, code: str, node: Node, hint: str) -> None:
        """Give the problem of a code and place, if it was noted, a better hint.

        Args:
            code: The code of the problem.
            node: Its place.
            hint: The better hint.
        """
        self.problems = [
            replace(problem, hint=hint)
            if (problem.code, problem.start, problem.end) == (code, node.start, node.end)
            else problem
            for problem in self.problems
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
        """Note that an operand is checked at run time only; said once of an expression.

        Args:
            node: The operand.
            of: Its type.
            what: The operation, for the message.
        """
        # One doubt is enough: what is computed from a value of unknown type is unknown too.
        if any(problem.code == "unchecked-type" for problem in self.problems):
            return
        message = (
            f"'{self.source(node)}' is {type_text(of)}: whether {what} takes it is checked when the step runs"
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


@immutable
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
        # A number may be an integer, so where an integer is wanted it fits in part.
        if kind == "unknown" or (kind == "number" and "integer" in self.kinds and "number" not in self.kinds):
            return None
        return kind in self.kinds


def takes(*kinds: str, wanted: str, hint: str = "", nulls: bool = False) -> Takes:
    """Return what an operation takes.

    Args:
        kinds: The kinds that fit.
        wanted: The same for people.
        hint: What to do if something else is there.
        nulls: Whether null fits too.
    """
    return Takes(frozenset(kinds), wanted, hint, nulls)


DATE = Scalar("date")
DATETIME = Scalar("datetime")
TIMEDELTA = Scalar("timedelta")

A_NUMBER = takes("integer", "number", wanted="a number", hint="int(..) and float(..) read numbers from text")
AN_INTEGER = takes("integer", wanted="an integer", hint="round(..) and int(..) give integers")
A_TEXT = takes("string", wanted="text", hint="str(..) makes text of any value")
A_LIST = takes("list", wanted="a list", hint="refer to a list, or write one: [..]")
AN_OBJECT = takes("object", wanted="an object")
A_BOOLEAN = takes("boolean", wanted="a boolean", hint="write a comparison, or bool(..)")


def _present(of: Type) -> list[Member]:
    """Return the alternatives of a type but null, about which operations differ."""
    return [member for member in members(of) if kind_of(member) != "null"]


def operand(
    findings: ExpressionProblems, node: Node, of: Type, wanted: Takes, what: str
) -> tuple[Member, ...]:
    """Return the alternatives of an operand that an operation takes, and note what is wrong with the others.

    Empty if there are none, because of a problem or since it has no value.

    Args:
        findings: Get the problems.
        node: The operand.
        of: Its type.
        wanted: What the operation takes.
        what: The operation, for messages.
    """
    every = members(of)
    others = [member for member in every if kind_of(member) != "null"]
    fits = [(member, wanted.fits(member)) for member in others]
    good = tuple([member for member, fit in fits if fit is not False])
    # An error needs certainty: no alternative fits. If one fits, the run decides.
    if every and not good and not (wanted.nulls and not others):
        findings.add("bad-expr", node, f"{what} takes {wanted.wanted}, found {type_text(of)}", wanted.hint)
        return ()
    if len(others) < len(every) and not wanted.nulls:
        findings.null(node, what)
    if any(fit is not True for _, fit in fits):
        # The unknown alternative is the one that needs a type, so the message names it instead of the union.
        odd = next(member for member, fit in fits if fit is not True)
        findings.unchecked(node, odd if isinstance(odd, Unknown) else of, what)
    return good


def items_of(findings: ExpressionProblems, node: Node, of: Type, what: str) -> Type:
    """Return the type of the items of what should be a list.

    Args:
        findings: Get the problems.
        node: The operand.
        of: Its type.
        what: The operation, for messages.
    """
    lists = operand(findings, node, of, A_LIST, what)
    if not lists and any(isinstance(member, ObjectType) for member in members(of)):
        source = findings.source(node)
        findings.rehint(
            "bad-expr",
            node,
            f"items({source}) are its keys with their values, values({source}) the values alone",
        )
    return joined([member.item if isinstance(member, ListType) else member for member in lists])


# --- Parts: `.field`, `["key"]`, `[index]`, `[computed]` and slices
#
# A part that cannot be there is `unknown-field`, whatever the reason: a misspelt field, an index into an object, a name on a list. A part that is not always there is
# `maybe-missing`. A computed key has the union of an object's field types, and may be absent.


_VALUE_NAMES = frozenset({"output", "outputs", "result", "results", "value", "return", "response"})
_FIELDS_LISTED_MAX = 12
_KEY = takes("string", "integer", wanted="text or an integer")
_BOUND = takes("integer", wanted="integers", nulls=True)


def field_of(findings: ExpressionProblems, node: Field | Index, base: Type, name: str) -> Type:
    """Return the type of the field of a name."""
    # Null has no fields; `_doubts` reports it once for the base, whatever the other alternatives have.
    every = _present(base)
    found: list[Type] = []
    absent = False
    for member in every:
        match member:
            case Unknown():
                found.append(UNKNOWN)
            case ObjectType(fields=fields, extra=extra):
                known = fields.get(name)
                part = extra if known is None else known.type
                absent = absent or known is None or not known.required
                if part is not None:
                    found.append(part)
            case Scalar(kind=kind) if kind in dates.FIELDS:
                if name in dates.FIELDS[kind]:
                    found.append(INTEGER)
                else:
                    absent = True
            # A text, a number or a list has no fields, so the field is absent where the value is one.
            case _:
                absent = True
    if not members(base):
        return NEVER
    if not found:
        _no_field(findings, node, base, name)
        return NEVER
    _doubts(findings, node, base, absent=absent)
    return joined(found)


def _doubts(findings: ExpressionProblems, node: Field | Index, base: Type, *, absent: bool) -> None:
    """Note what may be wrong with reaching into a value."""
    every = members(base)
    if any(kind_of(member) == "null" for member in every):
        findings.missing(node, f"'{findings.source(node.base)}' may be null, which has no parts")
    elif absent:
        findings.missing(node, f"'{findings.source(node)}' may be absent")
    if any(isinstance(member, Unknown) for member in every):
        findings.unchecked(node.base, UNKNOWN, "that part")


def _no_field(findings: ExpressionProblems, node: Field | Index, base: Type, name: str) -> None:
    source = findings.source(node.base)
    names = list(dict.fromkeys(_names(base)))
    what = f"fields {listing(names, _FIELDS_LISTED_MAX)}" if names else type_text(base)
    message = f"'{source}' has no field '{name}': expected one of its {what}" if names else (
        f"'{source}' has no field '{name}': it is {what}"
    )  # fmt: skip
    findings.add("unknown-field", node, message, _field_hint(findings, node, base, name, names))


_LENGTHS = frozenset({"length", "size", "count", "len"})


def _names(base: Type) -> Sequence[str]:
    return [
        name
        for member in members(base)
        for name in (
            member.fields if isinstance(member, ObjectType) else dates.FIELDS.get(kind_of(member), ())
        )
    ]


def _field_hint(  # noqa: PLR0911  # one case, one line for each slip
    findings: ExpressionProblems, node: Field | Index, base: Type, name: str, names: Sequence[str]
) -> str:
    source = findings.source(node.base)
    # From the most specific slip to the most general one, because a later hint fits earlier cases too.
    if isinstance(node.base, Name) and name in _VALUE_NAMES:
        return f"a step's id is its value itself, write: {source}"
    method = METHODS.get(name)
    kinds = {kind_of(member) for member in members(base)}
    if method is not None and kinds & (DATE_KINDS if method.of == "date" else {"string"}):
        return f"call the method: {source}.{name}(..)"
    if "string" in kinds and name in dates.FIELDS["datetime"]:
        return f"write: datetime({source}).{name}"
    if kinds & {"string"} and name in dates.FIELDS["timedelta"]:
        return f"write: timedelta({source}).{name}"
    lists = [member for member in members(base) if isinstance(member, ListType)]
    if lists and any(name in _names(member.item) for member in lists):
        return f"write {source}[0].{name} for the first, [x.{name} for x in {source}] for all"
    close = nearest(name, names) if findings.suggestions else None
    if close is not None:
        return f"did you mean '{source}.{close}'?"
    if name in _LENGTHS and (names or lists or any(kind_of(member) == "string" for member in members(base))):
        return f"write: len({source})"
    if lists:
        return f"a list has positions: {source}[0] is its first item"
    return (
        f"its fields are {listing(names)}"
        if kinds & DATE_KINDS
        else ""
        if names
        else "only objects have fields"
    )


def without_dates(of: Type) -> Type:
    """Return the type of what an expression hands out: text in the place of every date (`dates.plain`)."""
    match of:
        case Scalar(kind=kind):
            return TEXT if kind in DATE_KINDS else of
        case TupleType(cells=cells):
            return listed([without_dates(cell) for cell in cells])
        case ListType(item=item, constraints=constraints):
            made = without_dates(item)
            return of if made == item else ListType(made, constraints)
        case ObjectType(fields=fields, extra=extra, constraints=constraints):
            parts = {
                name: Property(without_dates(known.type), known.required) for name, known in fields.items()
            }
            rest = None if extra is None else without_dates(extra)
            return of if rest == extra and parts == fields else ObjectType(parts, rest, constraints)
        case Union(members=every):
            return union(*map(without_dates, every))
        case _:
            return of


def unquoted(findings: ExpressionProblems, node: Index, base: Type, key: Name) -> None:
    """Hint that a key which is no known name, but the name of a field, needs no brackets: `w[celsius]`."""
    if key.name in _names(base):
        findings.rehint("unknown-ref", key, f"write: {findings.source(node.base)}.{key.name}")


def index(findings: ExpressionProblems, node: Index, base: Type, key: Type) -> Type:
    """Return the type of `base[key]`."""
    position = node.key.value if isinstance(node.key, Literal | Constant) else None
    # A text as key asks for a field. If the base may be text itself, the key may be wrong, so the rule for positions judges it.
    if isinstance(position, str) and not any(kind_of(member) == "string" for member in members(base)):
        return field_of(findings, node, base, position)
    keys = operand(findings, node.key, key, _KEY, "[..]")
    if not members(base) or not keys:
        return NEVER
    kinds = {kind_of(member) for member in keys}
    every = _present(base)
    parts = [_part(member, kinds, position) for member in every]
    found = [part for part in parts if part is not None]
    if not found:
        findings.add(
            "unknown-field", node, _misfit(findings, node, base, key), _index_hint(findings, node, base)
        )
        return NEVER
    dynamic = any(isinstance(member, ObjectType) for member in every)
    _doubts(findings, node, base, absent=dynamic)
    if len(found) < len(every):
        findings.unchecked(node.base, base, f"[{findings.source(node.key)}]")
    return joined(found)


def _part(member: Member, kinds: set[str], position: object) -> Type | None:
    """Return the type of a part of one alternative, or `None` if it has no such parts."""
    whole = bool(kinds & {"integer", "number", "unknown"})
    named = bool(kinds & {"string", "unknown"})
    match member:
        case Unknown():
            return UNKNOWN
        case ObjectType(fields=fields, extra=extra) if named and (fields or extra is not None):
            return union(*[known.type for known in fields.values()], *([] if extra is None else [extra]))
        # A position outside the row falls through to the union of its cells: the run reports it, as of any list.
        case TupleType(cells=cells) if (
            whole and type(position) is int and -len(cells) <= position < len(cells)
        ):
            return cells[position]
        case ListType(item=item) if whole:
            return item
        case Scalar(kind="string") if whole:
            return TEXT
        case _:
            return None


def _misfit(findings: ExpressionProblems, node: Index, base: Type, key: Type) -> str:
    return f"'{findings.source(node.base)}' is {type_text(base)}: it has no part [{findings.source(node.key)}] ({type_text(key)})"


def _index_hint(findings: ExpressionProblems, node: Index, base: Type) -> str:
    kinds = {kind_of(member) for member in members(base)}
    source = findings.source(node.base)
    if "object" in kinds:
        return f"an object has fields, such as {source}.name; values({source}) is the list of their values"
    if "list" in kinds:
        return f"a list has positions: {source}[0] is its first item"
    return "only lists, texts and objects have parts"


def cut(findings: ExpressionProblems, node: Slice, base: Type, bounds: Sequence[tuple[Node, Type]]) -> Type:
    """Return the type of `base[low:high:step]`."""
    for bound, of in bounds:
        operand(findings, bound, of, _BOUND, "a slice")
    every = _present(base)
    found = [part for member in every if (part := _cut(member)) is not None]
    if not members(base):
        return NEVER
    if not found:
        message = f"'{findings.source(node.base)}' is {type_text(base)}: only lists and texts have slices"
        findings.add("unknown-field", node, message)
        return NEVER
    if len(every) < len(members(base)):
        findings.null(node.base, "a slice")
    if any(isinstance(member, Unknown) for member in every) or len(found) < len(every):
        findings.unchecked(node.base, base, "a slice")
    return union(*found)


def _cut(member: Member) -> Type | None:
    match member:
        case Unknown():
            return UNKNOWN
        case ListType(item=item):
            return ListType(item)
        case Scalar(kind="string"):
            return TEXT
        case _:
            return None


# --- Operators: integers give integers, any other number gives a number; booleans are not numbers


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
        # A list can only be added to a list, so an unknown operand beside one has to be a list.
        case (ListType(), Unknown()) | (Unknown(), ListType()):
            return ListType(UNKNOWN)
        case _:
            texts = {kind_of(left), kind_of(right)} <= {"string", "unknown"}
            return TEXT if texts else _arithmetic(left, right)


def _product(left: Member, right: Member) -> Type | None:
    # `3 * "ab"` and `"ab" * 3` are the same.
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


def arithmetic(
    findings: ExpressionProblems, node: Node, operator: str, left: Operand, right: Operand
) -> Type:
    """Return the type of `left operator right`."""
    table, wanted = _BINARY[operator]

    def with_dates(one: Member, other: Member) -> Type | None:
        if kind_of(one) in DATE_KINDS or kind_of(other) in DATE_KINDS:
            return _date_result(operator, one, other)
        if findings.has_dates and isinstance(one, Unknown) and isinstance(other, Unknown):
            return UNKNOWN
        return table(one, other)

    return _pairs(findings, node, (f"'{operator}'", wanted), left, right, with_dates)


DATE_KINDS = frozenset(dates.KINDS.values())
"""The kinds of values that only live inside an expression."""


def _date_result(operator: str, one: Member, other: Member) -> Type | None:
    """Return the type of an operation of which one side is a date, a datetime or a timedelta."""
    sides = kind_of(one), kind_of(other)
    given = [
        kind
        for (sign, left, right), kind in dates.RESULTS.items()
        if sign == operator and sides[0] in {left, "unknown"} and sides[1] in {right, "unknown"}
    ]
    return union(*[Scalar(cast("Kind", kind)) for kind in dict.fromkeys(given)]) if given else None


def exact_power(findings: ExpressionProblems, node: Node, left: Operand, right: Operand) -> Type:
    """Return the type of `left ** n`, with n written as a non-negative integer."""
    return _pairs(findings, node, ("'**'", "two numbers"), left, right, _arithmetic)


def _pairs(
    findings: ExpressionProblems,
    node: Node,
    what: tuple[str, str],
    left: Operand,
    right: Operand,
    table: Table,
) -> Type:
    """Return the union of what a table gives for each pair of alternatives."""
    sides = [_present(of) for _, of in (left, right)]
    # An operand without values has a problem that is reported already.
    if not members(left[1]) or not members(right[1]):
        return NEVER
    # Judged pair by pair: no pair fits is an error, and some pairs fit is a doubt.
    results = [table(one, other) for one in _distinct(sides[0]) for other in _distinct(sides[1])]
    given = [result for result in results if result is not None]
    if not given:
        found = f"{type_text(left[1])} and {type_text(right[1])}"
        hint = _hint(what[0], left[1], right[1])
        findings.add("bad-expr", node, f"{what[0]} takes {what[1]}, found {found}", hint)
        return NEVER
    for (part, of), side in zip((left, right), sides, strict=True):
        if len(side) < len(members(of)):
            findings.null(part, what[0])
        if any(isinstance(member, Unknown) for member in side):
            findings.unchecked(part, UNKNOWN, what[0])
    if len(given) < len(results):
        # The operand with several alternatives is the doubtful one; the left one if both have several.
        odd = left if len(sides[0]) > 1 or len(sides[1]) == 1 else right
        findings.unchecked(*odd, what[0])
    elif _needs_whole(results, sides):
        odd = left if any(kind_of(member) == "number" for member in sides[0]) else right
        findings.unchecked(*odd, what[0])
    return union(*given)


def _distinct(side: Sequence[Member]) -> Sequence[Member]:
    """Return alternatives that matter to an operator: scalars of one kind count once."""
    # Two unions of a hundred known texts each would otherwise be ten thousand equal pairs.
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
    if kinds & DATE_KINDS:
        return _date_hint(kinds)
    if "boolean" in kinds:
        return _BOOLEANS
    if what == "'%'" and "string" in kinds:
        return "put values into text with ${..}, or join text with +"
    return _MIXED if "string" in kinds and kinds & _NUMBERS else ""


def _date_hint(kinds: set[str]) -> str:
    """Return what to do with operands of which one is a date, a datetime or a timedelta."""
    if "string" in kinds:
        return "date(x), datetime(x) and timedelta(x) read ISO text"
    if kinds & _NUMBERS:
        return "write a duration: timedelta(days=n); (a - b).days and .total_seconds() are numbers"
    if {"date", "datetime"} <= kinds:
        return "x.date() is the date of a datetime, datetime(x) the midnight of a date"
    return "a date and a timedelta are added; a date minus a date is a timedelta"


def equality(findings: ExpressionProblems, node: Node, operator: str, left: Operand, right: Operand) -> None:
    """Note that `==` or `!=` compares a date with a value of another kind: Python would say without a word that they differ."""
    # Any two other values may be compared: numbers by value, and kinds that differ are not equal.
    if not findings.has_dates:
        return
    one, other = ({kind_of(member) for member in members(of)} - {"null"} for _, of in (left, right))
    every = one | other
    if not one or not other or len(every) == 1 or every.isdisjoint(DATE_KINDS):
        return
    if "unknown" not in every and one.isdisjoint(other):
        found = f"{type_text(left[1])} and {type_text(right[1])}"
        message = f"'{operator}' takes two values of one kind if one is a date, found {found}"
        findings.add("bad-expr", node, message, _date_hint(every))
    else:
        odd = left if len(one) > 1 or "unknown" in one else right
        findings.unchecked(*odd, f"'{operator}'")


def signed(findings: ExpressionProblems, node: Node, operator: str, of: Type) -> Type:
    """Return the type of `-x` and `+x`."""
    if operator == "-" and of == TIMEDELTA:
        return TIMEDELTA
    good = operand(findings, node, of, A_NUMBER, f"'{operator}'")
    return numeric(good)


def numeric(good: Sequence[Member]) -> Type:
    """Return integer if all are, else number; of nothing, nothing."""
    if not good:
        return NEVER
    return INTEGER if all(kind_of(member) == "integer" for member in good) else NUMBER


def ordering(findings: ExpressionProblems, node: Node, operator: str, left: Operand, right: Operand) -> Type:
    """Return the type of `<`, `<=`, `>` and `>=`."""

    def table(one: Member, other: Member) -> Type | None:
        kinds = {kind_of(one), kind_of(other)}
        ordered = kinds <= _NUMBERS | {"unknown"} or any(
            kinds <= {kind, "unknown"} for kind in ("string", *DATE_KINDS)
        )
        return BOOLEAN if ordered else None

    _pairs(findings, node, (f"'{operator}'", "two numbers or two texts"), left, right, table)
    return BOOLEAN


def contains(findings: ExpressionProblems, node: Node, operator: str, left: Operand, right: Operand) -> Type:
    """Return the type of `in` and `not in`: null may be looked for in a list only."""

    def table(one: Member, other: Member) -> Type | None:
        kinds = {kind_of(one), kind_of(other)}
        fits = isinstance(other, ListType | Unknown) or (
            kind_of(other) in {"string", "object"} and kinds <= {"string", "object", "unknown"}
            and kind_of(one) != "object"
        )  # fmt: skip
        return BOOLEAN if fits else None

    what = (f"'{operator}'", "an item and a list, or a text and a text or an object")
    # Any value may be an item of a list, null included, so only the right operand is judged.
    if all(
        isinstance(member, ListType | Unknown) for member in members(right[1]) if kind_of(member) != "null"
    ):
        equality(findings, node, operator, left, (right[0], items_of(findings, right[0], right[1], operator)))
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
    return Scalar(member.kind, kept, member.constraints) if kept else None


_NO_FIELDS = ObjectType({})
_EMPTY: dict[str, Json] = {"boolean": False, "integer": 0, "number": 0.0, "string": ""}


def falsy(of: Type) -> Type:
    """Return the type of a value that counts as false."""
    parts = [part for member in members(of) for part in _falsy(member)]
    return union(*parts) if parts else NEVER


def _falsy(member: Member) -> Sequence[Type]:  # noqa: PLR0911  # one case, one line
    match member:
        case Scalar(kind="null"):
            return [NULL]
        # A JSON number that is zero may be 0.0 or the integer 0.
        case Scalar(kind="number", only=None):
            return [Scalar("number", (0.0,)), Scalar("integer", (0,))]
        case Scalar(kind=kind) if kind in DATE_KINDS:
            return [member] if member == TIMEDELTA else []
        case Scalar(kind=kind):
            empty = _EMPTY[kind]
            return [Scalar(kind, (empty,))] if member.only is None or empty in member.only else []
        case ListType():
            return [ListType(NEVER)]
        case ObjectType(fields=fields):
            # Only an object without fields counts as false.
            return [] if any(known.required for known in fields.values()) else [_NO_FIELDS]
        case Unknown():
            return [UNKNOWN]
