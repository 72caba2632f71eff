"""The types that functions and methods return, from the types of their arguments.

A test holds the tables of this module and of `functions.py` to the same names. `first` and `secret` are typed in `infer.py`, because they do not
evaluate their arguments like the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import TypeAlias

from ..immutable import immutable
from ..reports.errors import EvaluationError
from ..reports.nearest import listing, nearest, short
from ..types.show import type_text
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
    Property,
    Scalar,
    Type,
    Unknown,
    members,
    union,
    without_null,
)
from . import dates, patterns
from .functions import check_form, path_of, position_of
from .nodes import Constant, Literal, Node
from .type_rules import (
    A_BOOLEAN,
    A_LIST,
    A_NUMBER,
    A_TEXT,
    AN_INTEGER,
    AN_OBJECT,
    DATE,
    DATE_KINDS,
    DATETIME,
    TIMEDELTA,
    ExpressionProblems,
    Member,
    Takes,
    TupleType,
    items_of,
    joined,
    kind_of,
    listed,
    numeric,
    operand,
    takes,
)

Argument: TypeAlias = tuple[Node, Type]

_SIZED = takes("string", "list", "object", wanted="text, a list or an object")
_READABLE = takes("integer", "number", "string", "boolean", wanted="a number, text or a boolean")
_OPTIONAL_TEXT = takes("string", wanted="text", nulls=True)
_GROUP_KEY = takes(
    "string",
    "integer",
    "boolean",
    *DATE_KINDS,
    wanted="text, an integer or a boolean",
    hint="str(..) makes text of any value",
)
_PATH = takes("string", "list", wanted="text or a list", hint='write: "a.b[0]"')
_ORDERED = takes("integer", "number", "string", *DATE_KINDS, wanted="all numbers or all text")


@immutable
class FunctionUse:
    """One use of a function.

    Attributes:
        name: As messages have it: `len(..)`.
        arguments: With their types.
        key: The lambda's body, with its type.
        named: What stands behind names other than `key` and `reverse`.
        key_parts: The parts of the lambda's body, each with its type, if it is written as a list.
        reverse: What `reverse=` is, with its type.
    """

    findings: ExpressionProblems
    node: Node
    name: str
    arguments: Sequence[Argument]
    key: Argument | None = None
    reverse: Argument | None = None
    key_parts: Sequence[Argument] | None = None
    named: Mapping[str, Argument] = field(default_factory=dict[str, Argument])

    def each(self, *wanted: Takes) -> list[tuple[Member, ...]]:
        """Return the alternatives of each argument that it takes."""
        return [
            operand(self.findings, node, of, want, self.name)
            for (node, of), want in zip(self.arguments, wanted, strict=False)
        ]

    def items(self, position: int = 0) -> Type:
        """Return the type of the items of an argument that is a list."""
        node, of = self.arguments[position]
        return items_of(self.findings, node, of, self.name)

    def item_is(self, wanted: Takes) -> tuple[Member, ...]:
        """Return the alternatives of the items of the first argument that it takes."""
        return operand(self.findings, self.arguments[0][0], self.items(), wanted, f"an item of {self.name}")


Rule: TypeAlias = "Callable[[FunctionUse], Type]"


def _gives(result: Type, *wanted: Takes) -> Rule:
    """Return the rule of a function whose result does not depend on its arguments' types."""

    def rule(use: FunctionUse) -> Type:
        use.each(*wanted)
        return result

    return rule


def _sum(use: FunctionUse) -> Type:
    # The sum of an empty list is the integer 0.
    return numeric(use.item_is(A_NUMBER)) if members(use.items()) else INTEGER


def _avg(use: FunctionUse) -> Type:
    use.item_is(A_NUMBER)
    return NUMBER


def _abs(use: FunctionUse) -> Type:
    return numeric(use.each(A_NUMBER)[0])


def _round(use: FunctionUse) -> Type:
    use.each(A_NUMBER, AN_INTEGER)
    # The second argument decides by being there, so that the type does not depend on its value.
    return NUMBER if len(use.arguments) > 1 else INTEGER


def _extreme(use: FunctionUse) -> Type:
    """`min` and `max`: of a list, or of several values."""
    lone = len(use.arguments) == 1
    candidates = use.items() if lone else joined([of for _, of in use.arguments])
    if use.key is not None:
        _check_key(use, *use.key)
        return candidates
    if lone:
        good = _check_order(use, use.arguments[0][0], candidates, _cells(use.arguments[0][1]))
    else:
        good = _check_order(use, use.node, candidates, [of for _, of in use.arguments])
    kinds = {kind_of(member) for member in good}
    # Of one kind, known values stay. Of integers beside other numbers the evaluator makes a number, also if it chooses an integer.
    if kinds <= {"integer"} or kinds <= {"string"}:
        return union(*good) if good else NEVER
    return NUMBER if kinds <= {"integer", "number"} else union(*good)


def _cells(of: Type) -> Sequence[Type]:
    """Return the types of items that are surely all there."""
    return of.cells if isinstance(of, TupleType) else ()


def _check_order(use: FunctionUse, node: Node, of: Type, cells: Sequence[Type] = ()) -> tuple[Member, ...]:
    """Note if values are neither all numbers nor all text."""
    # What has no order at all is refused here; what has, may still be of several kinds.
    good = operand(use.findings, node, of, _ORDERED, use.name)
    if not good or not _is_mixed(good):
        return good
    # An error needs two values that are surely there and of different kinds; several alternatives of one value are only a doubt.
    sure = [{_order_of(member) for member in members(cell)} for cell in cells]
    if len({kind for kinds in sure if len(kinds) == 1 for kind in kinds & _ORDERED.kinds}) > 1:
        message = f"{use.name} takes {_ORDERED.wanted}, found {type_text(of)}"
        use.findings.add(
            "bad-expr", node, message, "str(..) makes text of numbers, float(..) numbers of text"
        )
        return ()
    use.findings.unchecked(node, of, use.name)
    return good


def _check_key(use: FunctionUse, node: Node, of: Type) -> None:
    """Note if the key of `sorted`, `min` or `max` has no order."""
    if use.key_parts is None:
        _check_order(use, node, of)
        return
    for part, found in use.key_parts:
        # A part may be a boolean; a key that is one alone is refused, as ever.
        if any(kind_of(member) != "boolean" for member in members(found)):
            _check_order(use, part, found)


def _is_mixed(good: Sequence[Member]) -> bool:
    return len({_order_of(member) for member in good} - {"unknown"}) > 1


def _order_of(member: Member) -> str:
    """Return the kind within which a value has an order: integers are numbers."""
    kind = kind_of(member)
    return "number" if kind == "integer" else kind


def _sorted(use: FunctionUse) -> Type:
    item = use.items()
    if use.key is not None:
        _check_key(use, *use.key)
    else:
        _check_order(use, use.arguments[0][0], item, _cells(use.arguments[0][1]))
    if use.reverse is not None:
        operand(use.findings, *use.reverse, A_BOOLEAN, "reverse=")
    return ListType(item)


def _same_list(use: FunctionUse) -> Type:
    return ListType(use.items())


def _any(use: FunctionUse) -> Type:
    use.items()
    return BOOLEAN


def _zip(use: FunctionUse) -> Type:
    # Rows keep the type of each place, so that `for a, b in zip(..)` knows both.
    return ListType(listed([use.items(position) for position in range(len(use.arguments))]))


def _enumerate(use: FunctionUse) -> Type:
    if len(use.arguments) > 1:
        operand(use.findings, *use.arguments[1], AN_INTEGER, "the second argument of enumerate(..)")
    return ListType(listed([INTEGER, use.items()]))


def _fields(use: FunctionUse) -> Type:
    objects = use.each(AN_OBJECT)[0]
    # Whether a field is always there does not matter: what the list holds has one of these types.
    parts = [
        part
        for member in objects
        for part in (_values_of(member) if isinstance(member, ObjectType) else [UNKNOWN])
    ]
    return joined(parts)


def _values_of(member: ObjectType) -> list[Type]:
    return [known.type for known in member.fields.values()] + ([] if member.extra is None else [member.extra])


def _flatten(use: FunctionUse) -> Type:
    lists = use.item_is(A_LIST)
    return ListType(joined([each.item if isinstance(each, ListType) else UNKNOWN for each in lists]))


def _keyed(use: FunctionUse) -> Type:
    """Note if the key of a group cannot be the name of a field; return the type of the items."""
    item = use.items()
    # Without a key the items themselves name their groups.
    node, of = (use.arguments[0][0], item) if use.key is None else use.key
    operand(use.findings, node, of, _GROUP_KEY, f"a key of {use.name}")
    return item


def _group_by(use: FunctionUse) -> Type:
    return ObjectType({}, ListType(_keyed(use)))


def _count_by(use: FunctionUse) -> Type:
    _keyed(use)
    return ObjectType({}, INTEGER)


def _get(use: FunctionUse) -> Type:
    (base, of), (node, path), *rest = use.arguments
    operand(use.findings, node, path, _PATH, "the path of get(..)")
    default = rest[0][1] if rest else NULL
    value = node.value if isinstance(node, Literal | Constant) else None
    # A computed path may lead anywhere.
    if not isinstance(value, str | list):
        return UNKNOWN
    try:
        parts = path_of(value)
    except EvaluationError as error:
        use.findings.add("bad-expr", node, str(error))
        return NEVER
    for part in parts:
        if not members(of):
            return NEVER
        found = [inner for member in members(of) if (inner := _at(member, part)) is not None]
        if not found:
            # No value can have that part, so the path is wrong: `get` is for what may be missing, not for what cannot be there.
            _no_part(use, node, base, of, part)
            return NEVER
        of = joined(found)
    # Null counts as absent at run time, so the default stands in its place.
    return union(without_null(of), default)


def _at(member: Member, part: str | int) -> Type | None:
    """Return the type of a part of an alternative, `None` if there can be none; of null, the part is absent."""
    match member:
        case Unknown():
            return UNKNOWN
        case ObjectType(fields=fields, extra=extra) if isinstance(part, str):
            return fields[part].type if part in fields else extra
        case ListType(item=item) if (position := position_of(part)) is not None:
            cells = _cells(member)
            return cells[position] if -len(cells) <= position < len(cells) else item
        case Scalar(kind="null"):
            return NULL
        case _:
            return None


def _no_part(use: FunctionUse, node: Node, base: Node, of: Type, part: str | int) -> None:
    names = [name for member in members(of) if isinstance(member, ObjectType) for name in member.fields]
    message = f"there is no '{part}' in {type_text(of)}, which {use.findings.source(node)} of '{use.findings.source(base)}' leads to"
    close = nearest(part, names) if isinstance(part, str) and use.findings.suggestions else None
    hint = (
        f"did you mean '{close}'?"
        if close is not None
        else f"its fields are {listing(names, 12)}"
        if names
        else ""
    )
    use.findings.add("unknown-field", node, message, hint)


def _literal(node: Node) -> str | None:
    """Return a text that is written out or folded; `None`: it is computed when the step runs."""
    value = node.value if isinstance(node, Literal | Constant) else None
    return value if isinstance(value, str) else None


def _format(use: FunctionUse) -> Type:
    values, _ = use.each(_FORMATTED, A_TEXT)
    node = use.arguments[1][0]
    form = _literal(node)
    kinds = [kind_of(member) for member in values]
    # Only a form that no alternative has is an error; for the others the run decides.
    if form is not None and kinds and all(_has_no_form(kind, form) for kind in kinds):
        found = type_text(use.arguments[0][1])
        message = f"format(..) has no form '{short(form)}' for {found}"
        use.findings.add(
            "bad-expr", node, message, "numbers: ',.2f', '08d', '.1%'; text: '<20'; dates: '%d.%m.%Y'"
        )
    return TEXT


_SAMPLES: Mapping[str, int | float | str] = {"integer": 1, "number": 1.5, "string": "a"}


def _has_no_form(kind: str, form: str) -> bool:
    """Whether no value of a kind can be written in a form."""
    if kind == "unknown":
        return False
    try:
        # Whether a form is right depends on the kind of the value alone, so one sample of each kind decides.
        if kind in _SAMPLES:
            check_form(form)
            format(_SAMPLES[kind], form)
        else:
            dates.check_form(form)
    except (EvaluationError, ValueError):
        return True
    return False


def _pattern(use: FunctionUse) -> patterns.Pattern | None:
    """Return the regular expression of a use, if it is written out and right."""
    use.each(A_TEXT, A_TEXT)
    node = use.arguments[0][0]
    text = _literal(node)
    if text is None:
        return None
    try:
        return patterns.compiled(text)
    except patterns.PatternError:  # noted when constants were worked out
        return None


def _match(use: FunctionUse) -> Type:
    pattern = _pattern(use)
    # A group that took no part in the match is empty text, so all fields are text and always there.
    names = (patterns.WHOLE,) if pattern is None else (patterns.WHOLE, *pattern.names)
    # A pattern that is not written out may have any groups.
    others = TEXT if _literal(use.arguments[0][0]) is None else None
    return union(ObjectType({name: Property(TEXT) for name in names}, others), NULL)


def _findall(use: FunctionUse) -> Type:
    pattern = _pattern(use)
    if pattern is None:
        return ListType(union(TEXT, ListType(TEXT)))
    # As of `re.findall`: one group gives its text, several give a list for each match.
    return ListType(TEXT if pattern.groups <= 1 else listed([TEXT] * pattern.groups))


def _date(use: FunctionUse) -> Type:
    use.findings.has_dates = True
    if len(use.arguments) == 1:
        use.each(_DATED)
    elif len(use.arguments) == 2:
        _wrong_count(use, "one value, or a year, a month and a day")
    else:
        use.each(*[AN_INTEGER] * 3)
    return DATE


def _datetime(use: FunctionUse) -> Type:
    use.findings.has_dates = True
    # Two arguments are a time and its zone; a date in numbers has three at least.
    if len(use.arguments) > 2:
        use.each(*[AN_INTEGER] * 7)
        return DATETIME
    use.each(_DATED, _ZONE)
    for node, _ in use.arguments[1:]:
        _check_zone(use, node)
    return DATETIME


def _timedelta(use: FunctionUse) -> Type:
    use.findings.has_dates = True
    use.each(_DURATION)
    # Names such as `days=` were held to the known ones when the text was read.
    for node, of in use.named.values():
        operand(use.findings, node, of, A_NUMBER, use.name)
    return TIMEDELTA


def _wrong_count(use: FunctionUse, wanted: str) -> None:
    use.findings.add("bad-expr", use.node, f"{use.name} takes {wanted}, found {len(use.arguments)} arguments")


def _check_zone(use: FunctionUse, node: Node) -> None:
    name = _literal(node)
    if name is None:
        return
    try:
        dates.zone_of(name)
    except EvaluationError as error:
        hint = dates.nearest_zone(name) if use.findings.suggestions else ""
        use.findings.add("bad-expr", node, str(error), hint)


_FORMATTED = takes("integer", "number", "string", "date", "datetime", wanted="a number, text or a date")
_DATED = takes(
    "string",
    "date",
    "datetime",
    wanted="ISO text or a date",
    hint='write: date("2026-01-31"), or date(year, month, day)',
)
_DURATION = takes(
    "string", "integer", "number", "timedelta", wanted="names such as days=, or ISO text such as 'P7D'"
)
_ZONE = takes("string", wanted="a name such as 'Europe/Rome'")


def _join(use: FunctionUse) -> Type:
    use.item_is(A_TEXT)
    if len(use.arguments) > 1:
        operand(use.findings, *use.arguments[1], A_TEXT, "the second argument of join(..)")
    return TEXT


FUNCTION_TYPES: Mapping[str, Rule] = {
    "len": _gives(INTEGER, _SIZED),
    "sum": _sum,
    "min": _extreme,
    "max": _extreme,
    "avg": _avg,
    "abs": _abs,
    "round": _round,
    "sorted": _sorted,
    "reversed": _same_list,
    "range": _gives(ListType(INTEGER), AN_INTEGER, AN_INTEGER, AN_INTEGER),
    "any": _any,
    "all": _any,
    "zip": _zip,
    "enumerate": _enumerate,
    "str": _gives(TEXT),
    "int": _gives(INTEGER, _READABLE),
    "float": _gives(NUMBER, _READABLE),
    "bool": _gives(BOOLEAN),
    "keys": _gives(ListType(TEXT), AN_OBJECT),
    "values": lambda use: ListType(_fields(use)),
    "items": lambda use: ListType(listed([TEXT, _fields(use)])),
    "flatten": _flatten,
    "distinct": _same_list,
    "join": _join,
    "group_by": _group_by,
    "count_by": _count_by,
    "unique_by": _same_list,
    "get": _get,
    "format": _format,
    "match": _match,
    "search": _match,
    "findall": _findall,
    "date": _date,
    "datetime": _datetime,
    "timedelta": _timedelta,
}


def _method(result: Type, *wanted: Takes) -> Rule:
    """Return the rule of a method of text; the text is the first argument."""
    return _gives(result, A_TEXT, *wanted)


def _join_method(use: FunctionUse) -> Type:
    (base, of), (node, items) = use.arguments
    # The commonest slip is the other order, `xs.join(", ")`: the hint turns it round.
    if operand(use.findings, base, of, A_TEXT, use.name) or not members(of):
        item = items_of(use.findings, node, items, use.name)
        operand(use.findings, node, item, A_TEXT, f"an item of {use.name}")
    elif any(isinstance(member, ListType) for member in members(of)):
        hint = f"write: {use.findings.source(node)}.join({use.findings.source(base)})"
        use.findings.rehint("bad-expr", base, hint)
    return TEXT


def _count_method(use: FunctionUse) -> Type:
    (base, of), (node, _) = use.arguments
    # A list has no methods here; the hint says how its items are counted.
    is_list = any(isinstance(member, ListType) for member in members(of))
    if is_list and not operand(use.findings, base, of, A_TEXT, use.name):
        hint = f"write: len([x for x in {use.findings.source(base)} if x == {use.findings.source(node)}])"
        use.findings.rehint("bad-expr", base, hint)
        return INTEGER
    return _method(INTEGER, A_TEXT)(use)


def _of_date(result: Type, kinds: tuple[str, ...], *wanted: Takes) -> Rule:
    """Return the rule of a method of dates; the date is the first argument."""
    hint = "date(x), datetime(x) and timedelta(x) read ISO text"
    return _gives(
        result, takes(*kinds, wanted=" or ".join(f"a {kind}" for kind in kinds), hint=hint), *wanted
    )


def _strftime(use: FunctionUse) -> Type:
    # A form that is written out is checked now, a computed one when the step runs.
    form = _literal(use.arguments[1][0])
    if form is not None:
        try:
            dates.check_form(form)
        except EvaluationError as error:
            use.findings.add("bad-expr", use.arguments[1][0], str(error))
    return _of_date(TEXT, _DAYS, A_TEXT)(use)


def _astimezone(use: FunctionUse) -> Type:
    _check_zone(use, use.arguments[1][0])
    return _of_date(DATETIME, ("datetime",), _ZONE)(use)


_DAYS = ("date", "datetime")

METHOD_TYPES: Mapping[str, Rule] = {
    "lower": _method(TEXT),
    "upper": _method(TEXT),
    "title": _method(TEXT),
    "strip": _method(TEXT, _OPTIONAL_TEXT),
    "split": _method(ListType(TEXT), _OPTIONAL_TEXT, AN_INTEGER),
    "splitlines": _method(ListType(TEXT)),
    "replace": _method(TEXT, A_TEXT, A_TEXT, AN_INTEGER),
    "startswith": _method(BOOLEAN, A_TEXT),
    "endswith": _method(BOOLEAN, A_TEXT),
    "join": _join_method,
    "count": _count_method,
    "find": _method(INTEGER, A_TEXT),
    "isoformat": _of_date(TEXT, _DAYS),
    "strftime": _strftime,
    "weekday": _of_date(INTEGER, _DAYS),
    "isoweekday": _of_date(INTEGER, _DAYS),
    "date": _of_date(DATE, ("datetime",)),
    "astimezone": _astimezone,
    "timestamp": _of_date(NUMBER, ("datetime",)),
    "total_seconds": _of_date(NUMBER, ("timedelta",)),
}
