"""What to do about a value that does not fit its place, as hints of a report say it."""

from __future__ import annotations

from ..nearest import did_you_mean
from .types import ListType, ObjectType, Scalar, Type, members

EXPRESSION_SHOWN_MAX = 80  # characters of an expression in a hint
FIELDS_TRIED_MAX = 100  # fields of an object that are looked through for one that would fit

_CONVERSIONS = {"string": "str", "integer": "int", "number": "float"}


def for_null(expression: str = "", otherwise: str = "a value for that case") -> str:
    """Return the hint for a value that may be null or absent: the value of an expression, if that is known."""
    if not expression or len(expression) > EXPRESSION_SHOWN_MAX:
        return f"say what to take instead: first(value, {otherwise})"
    return f"write first({expression}, {otherwise})"


def expression_of(text: object) -> str:
    """Return the expression that is all of a template; empty if it is none, or holds more."""
    is_one = isinstance(text, str) and text.startswith("${") and text.endswith("}")
    return str(text)[2:-1].strip() if is_one else ""


def for_mismatch(source: Type, target: Type) -> str:
    """Return the hint for a value that cannot fit."""
    given, wanted = members(source), members(target)
    kinds = _kinds(target)
    if all(isinstance(member, Scalar) for member in given):
        lists = [member for member in wanted if isinstance(member, ListType)]
        if lists and not kinds:
            return "a list of one is [value]"
        return _conversion(source, kinds)
    if any(isinstance(member, ListType) for member in given):
        if any(isinstance(member, ListType) for member in wanted):
            return ""
        return "a list: take one item with [0], go through all with for_each, or make text of it with join(list, ', ')"
    objects = [member for member in given if isinstance(member, ObjectType)]
    return _field_for(objects[0], kinds) if objects and kinds else ""


def for_unchecked(source: Type, target: Type) -> str:
    """Return the hint for a value that may fit."""
    if _kinds(source) == ["number"] and _kinds(target) == ["integer"]:
        return "make it an integer with round(value) or int(value)"
    return ""


def for_stranger(name: str, source: ObjectType, target: ObjectType) -> str:
    """Return the hint for a field that the target has no name for."""
    return did_you_mean(
        name, [known for known in target.fields if known not in source.fields], "leave it out"
    )


def _kinds(of: Type) -> list[str]:
    """Return the kinds of a type's scalars but null, each once."""
    every = [member.kind for member in members(of) if isinstance(member, Scalar) and member.kind != "null"]
    return list(dict.fromkeys(every))


def _conversion(source: Type, kinds: list[str]) -> str:
    given = _kinds(source)
    if len(kinds) != 1 or kinds == given or kinds[0] not in _CONVERSIONS:
        return ""
    if kinds[0] != "string" and "boolean" in given:  # booleans are no numbers
        return ""
    return f"convert it with {_CONVERSIONS[kinds[0]]}(value)"


def _field_for(given: ObjectType, kinds: list[str]) -> str:
    """Return a hint with the fields of an object that have one of the kinds."""
    tried = list(given.fields.items())[:FIELDS_TRIED_MAX]
    fit = [name for name, known in tried if _kinds(known.type) and set(_kinds(known.type)) <= set(kinds)]
    return f"refer to one of its fields, such as .{fit[0]}" if fit else ""
