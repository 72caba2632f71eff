"""Constraints: the demands of a schema that its type does not express, such as a pattern or a minimum.

A constraint is a JSON Schema of its own, as canonical JSON, so equal texts demand the same wherever they stand. A constraint that rests on definitions, or
is very long, is kept as a digest only; whether a value meets it is then decided at run time.

A *whole* constraint repeats a complete schema that its type does not express exactly.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import cast

from ..values import Json, canonical, digest
from .standalone import find_validator
from .types import UNKNOWN, Constraints, ListType, ObjectType, Scalar, Unknown

# --- Keywords that demand something of values beyond their type


KINDS = ("null", "boolean", "integer", "number", "string", "array", "object")

NUMERIC = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")

_Group = tuple[str, ...]

_OF_NUMBERS: tuple[_Group, ...] = tuple((key,) for key in NUMERIC)

GROUPS: Mapping[str, tuple[_Group, ...]] = MappingProxyType(
    {
        "string": (("pattern",), ("minLength",), ("maxLength",)),
        "integer": _OF_NUMBERS,
        "number": _OF_NUMBERS,
        "array": (
            ("prefixItems", "items"),
            ("contains", "minContains", "maxContains"),
            ("minItems",),
            ("maxItems",),
            ("uniqueItems",),
        ),
        "object": (
            ("patternProperties", "additionalProperties"),
            ("minProperties",),
            ("maxProperties",),
            ("propertyNames",),
            ("dependentRequired",),
            ("dependentSchemas",),
        ),
        "boolean": (),
        "null": (),
    }
)
"""By kind, what narrows it further than a type can say: keywords that demand something together, the one that does it first."""

# The order within a group matters: the first keyword says that there is a demand at all, the others only change it (`minContains` alone demands nothing).
_OF_ANY_KIND: tuple[_Group, ...] = (("not",), ("if", "then", "else"))
_OF_UNTYPED: tuple[_Group, ...] = (
    *GROUPS["string"],
    *GROUPS["number"],
    *GROUPS["array"],
    *GROUPS["object"],
    ("required",),
    ("additionalProperties", "patternProperties"),
)

KIND_OF_KEYWORD: Mapping[str, str] = MappingProxyType(
    {
        **{key: kind for kind, groups in GROUPS.items() for group in groups for key in group},
        "properties": "object",
        "required": "object",
    }
)
"""The kind of values that a keyword is about; what is not here is about values of every kind."""


def demands(schema: Mapping[str, Json], kind: str | None) -> Iterator[dict[str, Json]]:
    """Yield what a schema demands of values of one kind beyond their type; `None`: of all kinds, if it says no type."""
    for group in (*(_OF_UNTYPED if kind is None else GROUPS[kind]), *_OF_ANY_KIND):
        # Beside `properties`, the schemas of other fields mean nothing alone: `read.py` then demands the whole schema.
        starts = group[0] in schema and not (group[0] == "patternProperties" and "properties" in schema)
        if starts and not _says_nothing(group[0], schema):
            yield {key: schema[key] for key in group if key in schema}


# Demands that every value meets are dropped: a type with one would be another type than the same type without it.
def _says_nothing(key: str, schema: Mapping[str, Json]) -> bool:
    value = schema.get(key)
    if key == "uniqueItems":
        return value is not True
    if key in ("required", "additionalProperties"):
        return value is True or value == []
    return key.startswith("min") and value == 0 and key != "minimum"


# --- Ranges (`minimum`, `maxLength`, `minItems` ..): which imply others, and which exclude one another

_End = tuple[float, bool]  # how far in a range begins from one side, and whether beyond that number only

_ENDS: Mapping[str, tuple[str, int, bool]] = MappingProxyType(
    {
        "minimum": ("number", 1, False),
        "exclusiveMinimum": ("number", 1, True),
        "maximum": ("number", -1, False),
        "exclusiveMaximum": ("number", -1, True),
        **{f"min{what}": (what, 1, False) for what in ("Length", "Items", "Properties")},
        **{f"max{what}": (what, -1, False) for what in ("Length", "Items", "Properties")},
    }
)
"""For each keyword: what it measures, from below (1) or from above (-1), and whether the number itself is left out."""


def implies(every: Constraints, one: str) -> bool:
    """Whether constraints on values leave no value that does not meet one more."""
    # Of two demands on the same side of the same measure the stricter one implies the other; all else is compared as text.
    wanted = _ends((one,))
    given = _ends(every)
    return bool(wanted) and all(side in given and given[side] >= end for side, end in wanted.items())


def are_apart(left: Constraints, right: Constraints) -> bool:
    """Whether no value meets the constraints of both sides."""
    if not left or not right:
        return False
    mine, theirs = _ends(left), _ends(right)
    return _is_past(mine, theirs) or _is_past(theirs, mine)


def _is_past(low: Mapping[tuple[str, int], _End], high: Mapping[tuple[str, int], _End]) -> bool:
    """Whether a range begins where another has ended."""
    for (what, sign), (begin, begin_strict) in low.items():
        end = high.get((what, -1)) if sign == 1 else None
        if end is not None and (begin > -end[0] or (begin == -end[0] and (begin_strict or end[1]))):
            return True
    return False


@lru_cache(maxsize=1024)
def _ends(every: Constraints) -> dict[tuple[str, int], _End]:
    """Return where ranges begin, from each side, as numbers that grow inwards."""
    found: dict[tuple[str, int], _End] = {}
    for one in every:
        known = cast("dict[str, float]", json.loads(one))
        key = next(iter(known))
        if key in _ENDS and len(known) == 1:
            # A lower bound grows inwards as it is; an upper bound does with its sign changed. So both sides are compared by one rule, and an excluded end
            # is further in than the same end included.
            what, sign, is_strict = _ENDS[key]
            end = (sign * known[key], is_strict)
            found[what, sign] = max(found.get((what, sign), end), end)
    return found


# --- Making constraints, and holding values and types against them


TEXT_MAX = 2_000
"""Characters of a constraint that is kept as it is."""

_OF_SHAPE = ("minItems", "maxItems", "minProperties", "maxProperties", "propertyNames", "dependentRequired")

WHOLE = "allOf"
"""The only key of a whole constraint; no other constraint has it."""


def constraint(demanded: Mapping[str, Json], rests_on: Sequence[str] = ()) -> str:
    """Return a constraint.

    Args:
        demanded: Keywords of JSON Schema that demand something together.
        rests_on: Digests of the definitions that they name.
    """
    text = canonical(demanded)
    # Two constraints with equal texts may rest on different definitions. The digest covers these, so equal constraints demand the same.
    if rests_on or len(text) > TEXT_MAX:
        parts: list[Json] = [text.decode(), *rests_on]
        text = canonical({"$comment": f"{min(demanded)} {digest(canonical(parts))}"})
    return text.decode()


def together(*every: Iterable[str]) -> Constraints:
    """Return all constraints of several types, each once."""
    return tuple(sorted({one for some in every for one in some}))


def relevant(every: Constraints, kind: str) -> Constraints:
    """Return the constraints that say something of a kind of values: `minLength` nothing of numbers."""
    if not every:
        return every
    kind = "number" if kind == "integer" else kind
    return tuple([one for one in every if _kind_of(one) in (kind, None)])


def is_met(demanded: Constraints, by: Scalar | ListType | ObjectType | Unknown) -> bool:
    """Whether every value of a type is known to meet constraints, since its own schema demands the same or more."""
    return all(one in by.constraints or implies(by.constraints, one) for one in demanded)


def holds(value: Json, demanded: Constraints) -> bool | None:
    """Return whether a value meets constraints; `None`: nobody can say."""
    # One constraint that is not met decides, whatever is unknown of the others.
    answers = [_holds(value, one) for one in demanded]
    return False if False in answers else None if None in answers else True


def required_by(every: Constraints) -> tuple[list[str], list[str]]:
    """Return the fields that constraints require, and the constraints that say something else."""
    names: dict[str, None] = {}
    others: list[str] = []
    for one in every:
        if _key_of(one) == "required" and not _is_opaque(one):
            names.update(dict.fromkeys(cast("dict[str, list[str]]", json.loads(one))["required"]))
        else:
            others.append(one)
    return list(names), others


def of_shape(every: Constraints) -> Constraints:
    """Return the constraints that are about how many parts a list or an object has, and about their names."""
    return tuple([one for one in every if _key_of(one) in _OF_SHAPE and not _is_opaque(one)])


def is_plain_tuple(one: str, of: ListType | ObjectType) -> bool:
    """Whether a constraint on a list's places says no more than what all its items are."""
    known = cast("dict[str, Json]", json.loads(one))
    heads = known.get("prefixItems")
    if not isinstance(heads, list) or not isinstance(of, ListType) or of.item == UNKNOWN:
        return False
    rest = [known["items"]] if known.get("items", False) is not False else []
    return all(head == heads[0] for head in (*heads, *rest))


def repeated_by(one: str) -> dict[str, Json] | None:
    """Return the schema that a whole constraint repeats; `None` if it is another constraint, or known by its digest only."""
    known = cast("dict[str, list[dict[str, Json]]]", json.loads(one))
    return known[WHOLE][0] if WHOLE in known else None


def as_schema(every: Constraints) -> dict[str, Json]:
    """Return constraints as one JSON Schema; what is known by its digest only becomes a comment."""
    made: dict[str, Json] = {}
    others: list[Json] = []  # constraints that share a keyword with an earlier one, such as two patterns
    for one in every:
        schema = cast("dict[str, Json]", json.loads(one))
        if made.keys().isdisjoint(schema):
            made.update(schema)
        else:
            others.append(cast("Json", schema))
    return {**made, WHOLE: [*cast("list[Json]", made.get(WHOLE, [])), *others]} if others else made


def _holds(value: Json, one: str) -> bool | None:
    if _is_opaque(one):
        return None
    try:
        validator = find_validator(one.encode())
        return None if validator is None else validator.is_valid(value)
    except ValueError:  # no JSON, or too deep for the validator
        return None


def _is_opaque(one: str) -> bool:
    """Whether a constraint is known by its digest only."""
    return one.startswith('{"$comment"')


def _kind_of(one: str) -> str | None:
    return KIND_OF_KEYWORD.get(_key_of(one))


@lru_cache(maxsize=1024)
def _key_of(one: str) -> str:
    """Return the keyword that a constraint is about: the first of several."""
    known = cast("dict[str, str]", json.loads(one))
    return known["$comment"].partition(" ")[0] if "$comment" in known else min(known)
