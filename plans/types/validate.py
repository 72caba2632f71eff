"""Problems of a value that does not fit a schema, each at its place.

jsonschema-rs validates the value against the self-contained schema; this module turns its errors into problems that say what was expected and what was found. Of
alternatives, the one that the value comes closest to is explained.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from ..reports.errors import LocalProblem
from ..reports.nearest import did_you_mean, listing, nearest
from ..reports.paths import path_of
from ..values import Json, NotJson, canonical
from .error_count import has_too_many_errors
from .read import read_standalone
from .show import CONSTRAINT_WORDS, VALUE_SHOWN_MAX, bounded, type_text, value_text
from .standalone import find_validator, self_contained
from .types import ListType, ObjectType, Property, Type, members

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator, ValidationError


PROBLEMS_MAX = 100
"""Problems that are reported of one value; more help nobody."""

BRANCHES_MAX = 8
"""Alternatives within alternatives that are followed to a problem's own place."""

_NO_TYPES: Mapping[str, Json] = {}


def value_problems(
    value: Json, schema: Mapping[str, Json], types: Mapping[str, Json] = _NO_TYPES
) -> list[LocalProblem]:
    """Return what in a value does not fit a schema, one `bad-literal` problem for each violation, in the value's order.

    Numbers count as JSON Schema counts them: `4.0` is an integer, `true` is no number. A schema with problems of its own, which
    `read_schema` reports, accepts anything.

    Args:
        value: Any JSON.
        schema: The schema.
        types: Schemas for `#/types/Name`.
    """
    return ValueSchema(schema, types).problems(value)


class ValueSchema:
    """A schema that many values are checked against: it is made self-contained and compiled once, with the first value.

    Args:
        schema: The schema; nobody changes it.
        types: The types that it names.
    """

    def __init__(self, schema: Mapping[str, Json], types: Mapping[str, Json] = _NO_TYPES) -> None:
        self._schema = schema
        self._types = types
        self._alone: dict[str, Json] | None = None
        self._compiled: tuple[dict[str, Json], Draft202012Validator | None] | None = None

    @property
    def alone(self) -> dict[str, Json]:
        """The self-contained schema."""
        if self._alone is None:
            self._alone = self_contained(self._schema, self._types)
        return self._alone

    def problems(self, value: Json) -> list[LocalProblem]:
        """Return what in a value does not fit the schema, as `value_problems` does."""
        try:
            alone, validator = self._compiled or self._compile()
            # Nearly all values are valid: the type, which only messages need, is read after this question.
            if validator is None or validator.is_valid(value):
                return []
            wanted = read_standalone(alone)
            if has_too_many_errors(value, alone):
                return [_unexplained(value, wanted)]
            explanation = _Explanation(wanted)
            errors = list(validator.iter_errors(value))
            found = dict.fromkeys(problem for error in errors for problem in explanation.problems(error))
            # `unevaluatedProperties` also names fields that are known but have a wrong value. Their own problems explain them, so such names are skipped; if
            # only such names were found, the validator's own words have to do.
            if not found:
                found = dict.fromkeys(problem_at(error, error.message) for error in errors)
        except NotJson as problem:
            return [LocalProblem("bad-literal", f"expected JSON, found what is not: {problem}")]
        except ValueError as error:  # the validator's own bound on depth
            return [
                LocalProblem(
                    "bad-literal", f"expected a value of bounded depth, found one that is too deep ({error})"
                )
            ]
        return list(found)[:PROBLEMS_MAX]

    def _compile(self) -> tuple[dict[str, Json], Draft202012Validator | None]:
        self._compiled = self.alone, find_validator(canonical(self.alone))
        return self._compiled


def _unexplained(value: Json, wanted: Type) -> LocalProblem:
    """Return the problem of a value that fits none of so many nested alternatives that their errors cannot be listed."""
    message = f"expected {type_text(wanted)}, found {value_text(value)}, which fits none of the alternatives of its schema"
    return LocalProblem(
        "bad-literal",
        message,
        "give the alternatives different kinds or different required fields to see which part is wrong",
    )


class _Explanation:
    """Errors of one value in words. The type that the value should have knows the fields of every place, for hints."""

    def __init__(self, wanted: Type) -> None:
        self.wanted = wanted

    def problems(self, error: ValidationError, room: int = BRANCHES_MAX) -> Iterable[LocalProblem]:
        """Yield the problems of one finding: of alternatives, those of the closest."""
        # The errors of branches may hold errors of branches; `room` bounds how far a message is sought.
        kind = error.kind
        context: Sequence[Sequence[ValidationError]] = getattr(kind, "context", ())
        if kind.name in {"anyOf", "oneOf"} and room > 0 and context and all(context):
            yield from self.alternatives(error, context, room)
        elif kind.name in {"additionalProperties", "unevaluatedProperties"}:
            yield from self.unknown(error)
        elif kind.name == "required":
            yield self.missing(error)
        else:
            tell = TOLD.get(kind.name)
            yield problem_at(error, error.message) if tell is None else tell(error)

    def alternatives(
        self, error: ValidationError, context: Sequence[Sequence[ValidationError]], room: int
    ) -> Iterable[LocalProblem]:
        """Yield the problems of a value that fits none of several schemas."""
        best = _closest(error, context)
        tags = [
            inner for branch in context for inner in branch if _tells_apart(inner, len(error.instance_path))
        ]
        # If every branch fails at one and the same field with listed values, that field is the tag of the union; the message then lists all tags.
        if best is None:
            yield problem_at(error, f"expected {_alternatives(context)}, found {value_text(error.instance)}")
        elif len(tags) >= len(context) and len({tuple(tag.instance_path) for tag in tags}) == 1:
            yield not_listed(tags[0], [option for tag in tags for option in options_of(tag)])
        else:
            for inner in best:
                yield from self.problems(inner, room - 1)

    def fields(self, path: Sequence[str | int]) -> dict[str, Property]:
        """Return the fields that the wanted type knows at a place, of all its alternatives."""
        # Types are an upper bound, so this may know too many fields; it never decides whether a value is valid.
        here = [self.wanted]
        for part in path:
            here = [inner for one in here for inner in _inside(one, part)][:BRANCHES_MAX]
        objects = [member for one in here for member in members(one) if isinstance(member, ObjectType)]
        return {name: known for one in objects for name, known in one.fields.items()}

    def unknown(self, error: ValidationError) -> Iterable[LocalProblem]:
        found = error.instance if isinstance(error.instance, dict) else {}
        fields = self.fields(error.instance_path)
        for name in cast("list[str]", getattr(error.kind, "unexpected", [])):
            if name not in fields or error.kind.name == "additionalProperties":
                free = [known for known in fields if known not in found]
                listed = (
                    f"expected no other fields than {listing(fields)}"
                    if fields
                    else "expected no fields here"
                )
                yield LocalProblem(
                    "bad-literal",
                    f"{listed}, found '{name[:VALUE_SHOWN_MAX]}'",
                    did_you_mean(name, free, "leave it out"),
                    path_of([*error.instance_path, name], ""),
                )

    def missing(self, error: ValidationError) -> LocalProblem:
        name = str(getattr(error.kind, "property", ""))
        found = error.instance if isinstance(error.instance, dict) else {}
        fields = self.fields(error.instance_path)
        wanted = f" ({type_text(fields[name].type)})" if name in fields else ""
        listed = "{" + listing(found) + "}" if found else "an empty object"
        # A field that the type does not know is likely the missing one, misspelt.
        strangers = [other for other in found if other not in fields]
        close = nearest(name, strangers)
        hint = f"add '{name}'" if close is None else f"is '{close}' meant to be '{name}'?"
        return problem_at(error, f"expected the field '{name}'{wanted}, found {listed}", hint)


def _inside(of: Type, part: str | int) -> Iterable[Type]:
    """Yield what a type's alternatives hold under a key or index."""
    for member in members(of):
        if isinstance(member, ListType) and isinstance(part, int):
            yield member.item
        elif isinstance(member, ObjectType) and isinstance(part, str):
            known = member.fields.get(part)
            if known is not None:
                yield known.type
            elif member.extra is not None:
                yield member.extra


def _closest(
    error: ValidationError, context: Sequence[Sequence[ValidationError]]
) -> Sequence[ValidationError] | None:
    """Return the findings of the alternative that a value comes closest to, or `None` if it is of none's kind."""
    # A branch that refuses the value as a whole (a list where text was meant) explains nothing; of the others, the one with the right tag and the fewest
    # errors is the branch that the author most likely meant.
    here = len(error.instance_path)
    fitting = [branch for branch in context if not any(_refuses(inner, here) for inner in branch)]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        only = [branch for branch in context if not _is_of_null(branch)]
        return only[0] if len(only) == 1 else None
    return min(fitting, key=lambda branch: (any(_tells_apart(inner, here) for inner in branch), len(branch)))


def _refuses(error: ValidationError, here: int) -> bool:
    """Whether a finding says that the value as a whole is another kind of thing."""
    return len(error.instance_path) == here and error.kind.name in {"type", "const", "enum", "falseSchema"}


def _tells_apart(error: ValidationError, here: int) -> bool:
    """Whether a finding is about a field that names the alternative: `{"kind": "circle", ..}`."""
    return len(error.instance_path) == here + 1 and error.kind.name in {"const", "enum"}


def _is_of_null(branch: Sequence[ValidationError]) -> bool:
    return len(branch) == 1 and list(getattr(branch[0].kind, "types", ())) == ["null"]


def _alternatives(context: Sequence[Sequence[ValidationError]]) -> str:
    """Return what each alternative wants at the value's own place."""
    wishes: dict[str, None] = {}
    for branch in context:
        for error in branch:
            kind = error.kind
            if kind.name == "type":
                wishes.update(dict.fromkeys(map(kind_word, cast("list[str]", getattr(kind, "types", [])))))
            elif kind.name in {"enum", "const"}:
                wishes.update(dict.fromkeys(map(value_text, options_of(error))))
            elif kind.name in {"anyOf", "oneOf"}:
                wishes[_alternatives(getattr(kind, "context", ()))] = None
    return " or ".join(wishes) or "another value"


# --- The wording of each kind of error
#
# `TOLD` has one line for each keyword whose error explains itself; fields and alternatives need the type of the complete value, which `_Explanation` has.


_KINDS = {"string": "text", "array": "list"}


def wrong_type(error: ValidationError) -> LocalProblem:
    """Tell of a value of another kind than its place wants."""
    kinds = [kind_word(one) for one in cast("list[str]", getattr(error.kind, "types", [])) if one != "null"]
    # "or null" stands last: the other kinds say what was meant.
    kinds += ["null"] * (len(getattr(error.kind, "types", [])) - len(kinds))
    return problem_at(
        error,
        f"expected {' or '.join(kinds)}, found {value_text(error.instance)}",
        _cure(kinds, error.instance),
    )


def _cure(kinds: Sequence[str], found: object) -> str:
    """Return a hint for the commonest slips: numbers and lists written as text, and the other way round."""
    if kinds == ["list"] and not isinstance(found, dict) and found is not None:
        return f"write [{value_text(found)}]"
    if kinds == ["text"] and isinstance(found, int | float):
        return f'write "{value_text(found)}"'
    if isinstance(found, str) and "text" not in kinds:
        try:
            # What reads as a number or a boolean without its quotes was most likely meant as one.
            plain = json.loads(found)
        except ValueError:
            return ""
        return f"write {value_text(plain)} without quotes" if _is_of(plain, kinds) else ""
    return ""


def _is_of(value: object, kinds: Sequence[str]) -> bool:
    """Whether a value is a boolean or number of one of the kinds."""
    if isinstance(value, bool):
        return "boolean" in kinds
    return isinstance(value, int | float) and (
        "number" in kinds or ("integer" in kinds and isinstance(value, int))
    )


def not_listed(error: ValidationError, options: Sequence[Json] = ()) -> LocalProblem:
    """Tell of a value that is none of those listed: by the schema, or in `options`."""
    options = options or options_of(error)
    found = error.instance
    hint = (
        did_you_mean(found, [one for one in options if isinstance(one, str)])
        if isinstance(found, str)
        else ""
    )
    listed = listing([value_text(one) for one in options])
    expected = listed if len(options) == 1 else f"one of {listed}"
    return problem_at(error, f"expected {expected}, found {value_text(found)}", hint)


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


def _limit(words: str) -> Callable[[ValidationError], LocalProblem]:
    """Return what tells of a bound: `words` with the bound for `{}`."""

    def tell(error: ValidationError) -> LocalProblem:
        told = bounded(words, error.kind.value)
        return problem_at(error, f"expected {told}, found {value_text(error.instance)}")

    return tell


TOLD: Mapping[str, Callable[[ValidationError], LocalProblem]] = {
    "type": wrong_type,
    "enum": not_listed,
    "const": not_listed,
    "falseSchema": lambda error: problem_at(
        error, f"expected nothing here, found {value_text(error.instance)}"
    ),
    "oneOf": lambda error: problem_at(
        error, f"expected a value that fits only one of several types, found {value_text(error.instance)}"
    ),
    "propertyNames": lambda error: problem_at(error, _name_expected(error)),
    "unevaluatedItems": lambda error: problem_at(
        error, f"expected no items that its schema has no place for, found {value_text(error.instance)}"
    ),
    "not": lambda error: problem_at(
        error, f"expected a value that the schema does not rule out, found {value_text(error.instance)}"
    ),
    "uniqueItems": lambda error: problem_at(
        error, f"expected items that differ, found {value_text(error.instance)}"
    ),
    "contains": lambda error: problem_at(
        error, f"expected a list with an item that its schema asks for, found {value_text(error.instance)}"
    ),
    "minimum": _limit(f"a number {CONSTRAINT_WORDS['minimum']}"),
    "maximum": _limit(f"a number {CONSTRAINT_WORDS['maximum']}"),
    "exclusiveMinimum": _limit(f"a number {CONSTRAINT_WORDS['exclusiveMinimum']}"),
    "exclusiveMaximum": _limit(f"a number {CONSTRAINT_WORDS['exclusiveMaximum']}"),
    "multipleOf": _limit("a multiple of {}"),
    "minLength": _limit(f"text {CONSTRAINT_WORDS['minLength']}"),
    "maxLength": _limit(f"text {CONSTRAINT_WORDS['maxLength']}"),
    "pattern": _limit(f"text {CONSTRAINT_WORDS['pattern']}"),
    "minItems": _limit("a list of at least {} items"),
    "maxItems": _limit("a list of at most {} items"),
    "minProperties": _limit("an object of at least {} fields"),
    "maxProperties": _limit("an object of at most {} fields"),
}


def problem_at(error: ValidationError, message: str, hint: str = "") -> LocalProblem:
    """Return a problem with the place of a finding.

    Args:
        error: The finding of the validator.
        message: Expected, found.
        hint: What to do.
    """
    return LocalProblem("bad-literal", message, hint, path_of(error.instance_path, ""))


def kind_word(name: str) -> str:
    """Return JSON Schema's name of a kind as messages say it."""
    return _KINDS.get(name, name)
