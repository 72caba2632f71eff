"""What type a part of a value has: `.field`, `["key"]`, `[index]`, `[computed]` and slices.

A part that cannot be there is `unknown-field`, whatever the reason: a misspelt field, an index into an object, a name on a list.
One that is not always there is `maybe-missing`. A key that is computed has the union of an object's field types, and may
be absent.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..nearest import listing, nearest
from ..types.types import NEVER, TEXT, UNKNOWN, ListType, ObjectType, Scalar, Type, Unknown, members, union
from ..types.wording import shown
from .methods import METHODS
from .nodes import Constant, Field, Index, Literal, Name, Node, Slice
from .operands import Findings, Member, Row, joined, kind_of, operand, takes

_VALUE_NAMES = frozenset({"output", "outputs", "result", "results", "value", "return", "response"})
_FIELDS_LISTED_MAX = 12
_KEY = takes("string", "integer", wanted="text or an integer")
_BOUND = takes("integer", wanted="integers", nulls=True)


def field_of(findings: Findings, node: Field | Index, base: Type, name: str) -> Type:
    """Return the type of the field of a name."""
    every = [member for member in members(base) if kind_of(member) != "null"]
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
            case _:
                absent = True
    if not members(base):
        return NEVER
    if not found:
        _no_field(findings, node, base, name)
        return NEVER
    _doubts(findings, node, base, absent=absent)
    return joined(found)


def _doubts(findings: Findings, node: Field | Index, base: Type, *, absent: bool) -> None:
    """Note what may be wrong with reaching into a value."""
    every = members(base)
    if any(kind_of(member) == "null" for member in every):
        findings.missing(node, f"'{findings.source(node.base)}' may be null, which has no parts")
    elif absent:
        findings.missing(node, f"'{findings.source(node)}' may be absent")
    if any(isinstance(member, Unknown) for member in every):
        findings.unchecked(node.base, UNKNOWN, "that part")


def _no_field(findings: Findings, node: Field | Index, base: Type, name: str) -> None:
    source = findings.source(node.base)
    names = list(dict.fromkeys(_names(base)))
    what = f"fields {listing(names, _FIELDS_LISTED_MAX)}" if names else shown(base)
    message = f"'{source}' has no field '{name}': expected one of its {what}" if names else (
        f"'{source}' has no field '{name}': it is {what}"
    )  # fmt: skip
    findings.add("unknown-field", node, message, _field_hint(findings, node, base, name, names))


_LENGTHS = frozenset({"length", "size", "count", "len"})


def _names(base: Type) -> Sequence[str]:
    return [name for member in members(base) if isinstance(member, ObjectType) for name in member.fields]


def _field_hint(findings: Findings, node: Field | Index, base: Type, name: str, names: Sequence[str]) -> str:  # noqa: PLR0911  # one case, one line for each slip
    source = findings.source(node.base)
    if isinstance(node.base, Name) and name in _VALUE_NAMES:
        return f"a step's id is its value itself, write: {source}"
    if name in METHODS and any(kind_of(member) == "string" for member in members(base)):
        return f"call the method: {source}.{name}(..)"
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
    return "" if names else "only objects have fields"


def unquoted(findings: Findings, node: Index, base: Type, key: Name) -> None:
    """Say of a key that is no name what it was meant to be, if it is a field's: `w[celsius]`."""
    if key.name in _names(base):
        findings.rehint("unknown-ref", key, f"write: {findings.source(node.base)}.{key.name}")


def index(findings: Findings, node: Index, base: Type, key: Type) -> Type:
    """Return the type of `base[key]`."""
    position = node.key.value if isinstance(node.key, Literal | Constant) else None
    if isinstance(position, str) and not any(kind_of(member) == "string" for member in members(base)):
        return field_of(findings, node, base, position)
    keys = operand(findings, node.key, key, _KEY, "[..]")
    if not members(base) or not keys:
        return NEVER
    kinds = {kind_of(member) for member in keys}
    every = [member for member in members(base) if kind_of(member) != "null"]
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
        case Row(cells=cells) if whole and type(position) is int and -len(cells) <= position < len(cells):
            return cells[position]
        case ListType(item=item) if whole:
            return item
        case Scalar(kind="string") if whole:
            return TEXT
        case _:
            return None


def _misfit(findings: Findings, node: Index, base: Type, key: Type) -> str:
    return f"'{findings.source(node.base)}' is {shown(base)}: it has no part [{findings.source(node.key)}] ({shown(key)})"


def _index_hint(findings: Findings, node: Index, base: Type) -> str:
    kinds = {kind_of(member) for member in members(base)}
    source = findings.source(node.base)
    if "object" in kinds:
        return f"an object has fields, such as {source}.name; values({source}) is the list of their values"
    if "list" in kinds:
        return f"a list has positions: {source}[0] is its first item"
    return "only lists, texts and objects have parts"


def cut(findings: Findings, node: Slice, base: Type, bounds: Sequence[tuple[Node, Type]]) -> Type:
    """Return the type of `base[low:high:step]`."""
    for bound, of in bounds:
        operand(findings, bound, of, _BOUND, "a slice")
    every = [member for member in members(base) if kind_of(member) != "null"]
    found = [part for member in every if (part := _cut(member)) is not None]
    if not members(base):
        return NEVER
    if not found:
        message = f"'{findings.source(node.base)}' is {shown(base)}: only lists and texts have slices"
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
