"""Write a value's numbers and sets the way its schema does: `2.0` where an integer is wanted is `2`.

JSON Schema takes `2.0` for an integer; Python and firmplan's values do not. So wherever a value is held to a schema (inputs of plans,
arguments and results of tools, answers of models), an integral float becomes an integer if the schema takes nothing but integers
there. One function decides that for all of them: equal values would get different digests within one run, if two did.

The rules that hold of it (`tests/plans/types/test_integers.py`): the made value equals the given one as JSON, so it is valid just if that was; doing it
again changes nothing; and schemas that mean the same make the same of a value. So of several branches that a value fits, all have
to want an integer: `anyOf: [integer, number]` takes any number, as `number` does, in whatever order it is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias, cast
from urllib.parse import unquote

from ..values import INTEGER_MAX, INTEGER_MIN, Json, canonical
from .definitions import escaped, part_at
from .standalone import find_validator, find_validator_inside

Schema: TypeAlias = Mapping[str, Json]


def with_integers(value: Json, schema: Schema) -> Json:
    """Return `value` with an integer for each integral float where `schema` takes integers only.

    A value that fits no branch of a union is left unchanged, and validation refuses it. Parts without an integral float are not copied.

    Args:
        value: Any JSON.
        schema: The schema that the value is validated by, self-contained.
    """
    return _Walk(schema).made(value, "", ()) if has_integral(value) else value


def with_ordered_sets(value: Json, schema: Schema) -> Json:
    """Return `value` with the items of each array that is a set (`uniqueItems`) in canonical order.

    The order of a Python set means nothing, so equal sets are to be equal bytes.
    """
    return _OrderingWalk(schema).made(value, "", ())


def has_integral(value: Json) -> bool:
    """Whether a value has an integral float in it: without one, `with_integers` changes nothing."""
    match value:
        case float():
            return value.is_integer()
        case list():
            parts: Iterable[Json] = value
        case dict():
            parts = value.values()
        case _:
            return False
    for part in parts:
        kind = type(part)
        # Texts and integers are most parts of most values.
        if kind is not str and kind is not int and has_integral(part):
            return True
    return False


# Most schemas compose nothing, and every part of every value comes here: one look at the keys saves the generators below.
_COMPOSING = frozenset({"$ref", "allOf", "anyOf", "oneOf", "if", "dependentSchemas"})
"""The keywords that apply further schemas to the same value."""


class _Walk:
    """One walk over a value and its schema, side by side.

    A schema is known by its JSON pointer in the document, since its branches are validated where they stand: what they name may
    lie anywhere in the document.
    """

    def __init__(self, root: Schema) -> None:
        self.root = root
        # By pointer: items of a list come back to the same schema.
        self._found: dict[str, Json] = {"": cast("Json", root)}
        self._places: dict[tuple[str, str], list[str]] = {}  # of a field: the schemas that it is held to
        self._spelled: bytes | None = None

    def made(self, value: Json, at: str, active: tuple[str, ...]) -> Json:
        """Return a value, normalised by the schema at a pointer.

        Args:
            value: The value.
            at: JSON pointer of the schema.
            active: Pointers of the schemas that are being applied to this same value: a loop of references ends there.
        """
        kind = type(value)
        if kind is not float and kind is not list and kind is not dict:
            return value  # most parts of most values
        schema = self.schema(at)
        # Recursion ends: either the value gets smaller, which empties `active`, or a schema on this same value comes back and is in it.
        if not isinstance(schema, dict) or at in active:
            return value
        if _COMPOSING.isdisjoint(schema):
            return self.own(value, schema, at)
        active = (*active, at)
        # All of these schemas apply, so what any of them takes as an integer is one: conversions add up.
        for part in self.conjuncts(value, schema, at):
            value = self.made(value, part, active)
        for union in ("anyOf", "oneOf"):
            if isinstance(branches := schema.get(union), list):
                value = self.chosen(
                    value, [f"{at}/{union}/{number}" for number in range(len(branches))], active
                )
        return self.own(value, schema, at)

    def conjuncts(self, value: Json, schema: Schema, at: str) -> Iterator[str]:
        """Yield the pointers of the further schemas that apply to the same value."""
        ref = schema.get("$ref")
        if isinstance(ref, str) and (ref == "#" or ref.startswith("#/")):
            yield unquote(ref[1:])
        if isinstance(parts := schema.get("allOf"), list):
            yield from (f"{at}/allOf/{number}" for number in range(len(parts)))
        if "if" in schema and ("then" in schema or "else" in schema):
            branch = "then" if self.accepts(f"{at}/if", value) else "else"
            if branch in schema:
                yield f"{at}/{branch}"
        dependent = schema.get("dependentSchemas")
        if isinstance(dependent, dict) and isinstance(value, dict):
            yield from (f"{at}/dependentSchemas/{escaped(name)}" for name in dependent if name in value)

    def chosen(self, value: Json, branches: Sequence[str], active: tuple[str, ...]) -> Json:
        """Return a value, normalised by all branches that it fits."""
        # Of a union only the branches that accept the value say how it is written, and only together: which of two accepting branches "is meant" depends on
        # the order in which the author wrote them, and equal schemas must give equal bytes.
        fitting = [branch for branch in branches if self.accepts(branch, value)]
        return _agreed(value, [self.made(value, branch, active) for branch in fitting])

    def own(self, value: Json, schema: Schema, at: str) -> Json:
        """Return a value, normalised by the keywords of one schema alone."""
        match value:
            case float():
                value = self.number(value, schema)
            case list():
                value = self.array(value, schema, at)
            case dict():
                value = self.object(value, schema, at)
            case _:
                pass
        return _as_listed(value, schema)

    def number(self, value: float, schema: Schema) -> Json:
        kind = schema.get("type")
        kinds = kind if isinstance(kind, list) else [kind]
        return _whole(value) if "integer" in kinds and "number" not in kinds else value

    def array(self, value: list[Json], schema: Schema, at: str) -> list[Json]:
        # Parts are values of their own, so `active` starts empty: a recursive type comes back to its schema at every level.
        heads = schema.get("prefixItems")
        count = len(heads) if isinstance(heads, list) else 0
        rest = f"{at}/items"
        parts = [self.made(item, f"{at}/prefixItems/{place}", ()) for place, item in enumerate(value[:count])]
        parts += [self.made(item, rest, ()) for item in value[count:]]
        return parts if _differ(parts, value) else value

    def object(self, value: dict[str, Json], schema: Schema, at: str) -> dict[str, Json]:
        parts = {name: self.field(name, item, schema, at) for name, item in value.items()}
        return parts if _differ(parts.values(), value.values()) else value

    def field(self, name: str, item: Json, schema: Schema, at: str) -> Json:
        # As validation has it: `properties` and all matching patterns apply, and `additionalProperties` only where none of these does.
        places = self._places.get((at, name))
        if places is None:
            known, patterns = schema.get("properties"), schema.get("patternProperties")
            places = [f"{at}/properties/{escaped(name)}"] if isinstance(known, dict) and name in known else []
            if isinstance(patterns, dict):
                places += [
                    f"{at}/patternProperties/{escaped(each)}" for each in patterns if _matches(name, each)
                ]
            places = self._places[at, name] = places or [f"{at}/additionalProperties"]
        for place in places:
            item = self.made(item, place, ())
        return item

    def accepts(self, at: str, value: Json) -> bool:
        """Whether a value passes the schema at a pointer; an invalid document accepts nothing."""
        # The validator sees the document and a pointer, not the branch alone, since references in the branch lead into the document.
        if self._spelled is None:
            self._spelled = canonical(self.root)
        validator = find_validator_inside(self._spelled, at)
        return validator is not None and validator.is_valid(value)

    def schema(self, at: str) -> Json:
        """Return the schema at a pointer; a missing schema admits every value."""
        if at not in self._found:
            above, _, token = at.rpartition("/")
            self._found[at] = part_at(self.schema(above), token)
        return self._found[at]


class _OrderingWalk(_Walk):
    """The same walk, which puts sets in order and leaves numbers alone."""

    def chosen(self, value: Json, branches: Sequence[str], active: tuple[str, ...]) -> Json:
        """Return a value, normalised by the first branch that it fits: of `set | list`, Python's types take the first."""
        fitting = next((branch for branch in branches if self.accepts(branch, value)), None)
        return value if fitting is None else self.made(value, fitting, active)

    def own(self, value: Json, schema: Schema, at: str) -> Json:
        match value:
            case list():
                made = self.array(value, schema, at)
                return sorted(made, key=canonical) if schema.get("uniqueItems") is True else made
            case dict():
                return self.object(value, schema, at)
            case _:
                return value


@lru_cache(maxsize=1024)
def _matches(name: str, pattern: str) -> bool:
    """Whether a field's name has a pattern, by the regular expressions that validation has."""
    validator = find_validator(canonical({"pattern": pattern}))
    return validator is not None and validator.is_valid(name)


def _whole(value: float) -> Json:
    return int(value) if value.is_integer() and INTEGER_MIN <= value <= INTEGER_MAX else value


def _as_listed(value: Json, schema: Schema) -> Json:
    """Return a value, written as the equal options of `enum` or `const`, if there are any."""
    # `enum: [1, 2.5]` accepts `1.0`. It becomes `1`, which the option is; `enum: [1, 1.0]` accepts both spellings, and the value stays.
    if "const" not in schema and "enum" not in schema:
        return value
    for key in ("const", "enum"):
        if key in schema:
            options = schema[key] if key == "enum" else [schema[key]]
            equal = (
                [option for option in options if _are_equal(value, option)]
                if isinstance(options, list)
                else []
            )
            value = _agreed(value, [_written(value, option) for option in equal])
    return value


def _are_equal(value: Json, other: Json) -> bool:
    """Whether two values are equal as JSON: numbers by value, and no boolean is a number."""
    # Python's `==` would take `True` for `1`, inside lists and objects too.
    match value, other:
        case bool(), _:
            return other is value
        case _, bool():
            return False
        case list(), list():
            return len(value) == len(other) and all(map(_are_equal, value, other))
        case dict(), dict():
            return value.keys() == other.keys() and all(
                _are_equal(part, other[name]) for name, part in value.items()
            )
        case _:
            return value == other


def _written(value: Json, option: Json) -> Json:
    """Return a value with the integers of one that it equals."""
    match value, option:
        case float(), int():
            return _whole(value)
        case list(), list():
            return [_written(part, other) for part, other in zip(value, option, strict=True)]
        case dict(), dict():
            return {name: _written(part, option[name]) for name, part in value.items()}
        case _:
            return value


def _agreed(value: Json, every: Sequence[Json]) -> Json:
    """Return a value with the integers on which several spellings of the value agree."""
    # A branch that changed nothing returns the value itself; then not all branches want an integer.
    if not every or any(made is value for made in every):
        return value
    match value:
        case float():
            return every[0] if all(type(made) is int for made in every) else value
        case list():
            return [_agreed(part, parts) for part, *parts in zip(value, *_lists(every), strict=True)]
        case dict():
            objects = [made for made in every if isinstance(made, dict)]
            return {name: _agreed(part, [made[name] for made in objects]) for name, part in value.items()}
        case _:
            return value


def _lists(every: Sequence[Json]) -> Iterator[list[Json]]:
    return (made for made in every if isinstance(made, list))


def _differ(made: Iterable[Json], given: Iterable[Json]) -> bool:
    return any(one is not other for one, other in zip(made, given, strict=True))
