"""Each way in which a value breaks a schema, as a fault: expected, found, what to do.

The table `TOLD` has one line for each keyword of JSON Schema that stands for itself; what needs the type of the whole (fields,
alternatives) is in `literal.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from ..faults import Fault
from ..nearest import did_you_mean, listing
from ..paths import path_of
from ..values import Json, NotJson, canonical
from .wording import CONDITIONS, bounded

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError

SHOWN_MAX = 60
"""Characters of a found value: enough to recognise it."""

_KINDS = {"string": "text", "array": "list"}


def wrong_type(error: ValidationError) -> Fault:
    """Tell of a value of another kind than its place wants."""
    kinds = [kind_word(one) for one in cast("list[str]", getattr(error.kind, "types", [])) if one != "null"]
    kinds += ["null"] * (len(getattr(error.kind, "types", [])) - len(kinds))
    return fault_at(
        error,
        f"expected {' or '.join(kinds)}, found {found_text(error.instance)}",
        _cure(kinds, error.instance),
    )


def _cure(kinds: Sequence[str], found: object) -> str:
    """Return a hint for the commonest slips: numbers and lists written as text, and the other way round."""
    if kinds == ["list"] and not isinstance(found, dict) and found is not None:
        return f"write [{found_text(found)}]"
    if kinds == ["text"] and isinstance(found, int | float):
        return f'write "{found_text(found)}"'
    if isinstance(found, str) and "text" not in kinds:
        try:
            plain = json.loads(found)
        except ValueError:
            return ""
        return f"write {found_text(plain)} without quotes" if _is_of(plain, kinds) else ""
    return ""


def _is_of(value: object, kinds: Sequence[str]) -> bool:
    """Whether a value is a boolean or number of one of the kinds."""
    if isinstance(value, bool):
        return "boolean" in kinds
    return isinstance(value, int | float) and (
        "number" in kinds or ("integer" in kinds and isinstance(value, int))
    )


def not_listed(error: ValidationError, options: Sequence[Json] = ()) -> Fault:
    """Tell of a value that is none of those listed: by the schema, or in `options`."""
    options = options or options_of(error)
    found = error.instance
    hint = (
        did_you_mean(found, [one for one in options if isinstance(one, str)])
        if isinstance(found, str)
        else ""
    )
    listed = listing([found_text(one) for one in options])
    expected = listed if len(options) == 1 else f"one of {listed}"
    return fault_at(error, f"expected {expected}, found {found_text(found)}", hint)


def options_of(error: ValidationError) -> list[Json]:
    """Return the values that a schema lists."""
    if error.kind.name == "const":
        return [cast("Json", getattr(error.kind, "expected_value", None))]
    return cast("list[Json]", getattr(error.kind, "options", []))


def _name_expected(error: ValidationError) -> str:
    inner = cast("ValidationError", getattr(error.kind, "error", error))
    tell = TOLD.get(inner.kind.name) if inner is not error else None
    said = inner.message if tell is None else tell(inner).message
    return f"a name of a field: {said}"


def _limit(words: str) -> Callable[[ValidationError], Fault]:
    """Return what tells of a bound: `words` with the bound for `{}`."""

    def tell(error: ValidationError) -> Fault:
        told = bounded(words, error.kind.value)
        return fault_at(error, f"expected {told}, found {found_text(error.instance)}")

    return tell


TOLD: Mapping[str, Callable[[ValidationError], Fault]] = {
    "type": wrong_type,
    "enum": not_listed,
    "const": not_listed,
    "falseSchema": lambda error: fault_at(
        error, f"expected nothing here, found {found_text(error.instance)}"
    ),
    "oneOf": lambda error: fault_at(
        error, f"expected a value that fits only one of several types, found {found_text(error.instance)}"
    ),
    "propertyNames": lambda error: fault_at(error, _name_expected(error)),
    "unevaluatedItems": lambda error: fault_at(
        error, f"expected no items that its schema has no place for, found {found_text(error.instance)}"
    ),
    "not": lambda error: fault_at(
        error, f"expected a value that the schema does not rule out, found {found_text(error.instance)}"
    ),
    "uniqueItems": lambda error: fault_at(
        error, f"expected items that differ, found {found_text(error.instance)}"
    ),
    "contains": lambda error: fault_at(
        error, f"expected a list with an item that its schema asks for, found {found_text(error.instance)}"
    ),
    "minimum": _limit(f"a number {CONDITIONS['minimum']}"),
    "maximum": _limit(f"a number {CONDITIONS['maximum']}"),
    "exclusiveMinimum": _limit(f"a number {CONDITIONS['exclusiveMinimum']}"),
    "exclusiveMaximum": _limit(f"a number {CONDITIONS['exclusiveMaximum']}"),
    "multipleOf": _limit("a multiple of {}"),
    "minLength": _limit(f"text {CONDITIONS['minLength']}"),
    "maxLength": _limit(f"text {CONDITIONS['maxLength']}"),
    "pattern": _limit(f"text {CONDITIONS['pattern']}"),
    "minItems": _limit("a list of at least {} items"),
    "maxItems": _limit("a list of at most {} items"),
    "minProperties": _limit("an object of at least {} fields"),
    "maxProperties": _limit("an object of at most {} fields"),
}


def fault_at(error: ValidationError, message: str, hint: str = "") -> Fault:
    """Return a fault with the place of a finding."""
    return Fault("bad-literal", message, hint, path_of(error.instance_path, ""))


def kind_word(name: str) -> str:
    """Return JSON Schema's name of a kind as messages say it."""
    return _KINDS.get(name, name)


def found_text(value: object) -> str:
    """Return a value as it stands in a plan, cut short."""
    try:
        text = canonical(value).decode()
    except NotJson:
        text = repr(value)
    return text if len(text) <= SHOWN_MAX else f"{text[: SHOWN_MAX - 2]}.."
