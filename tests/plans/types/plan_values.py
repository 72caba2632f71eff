"""Strategies of the laws of types: JSON values, types, and schemas with values that fit them."""

from __future__ import annotations

from firmplan.plans.types.types import (
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
    union,
)
from hypothesis import strategies as st

names = st.sampled_from(["a", "b", "any key", "$ref", "type", "ü"])
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False).map(lambda value: value + 0.0)
    | st.text(st.characters(codec="utf-8"), max_size=5)
)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)

_plain = st.sampled_from([NULL, BOOLEAN, INTEGER, NUMBER, TEXT])
_known = (
    st.lists(st.sampled_from(["x", "y", "z"]), min_size=1, max_size=3, unique=True).map(
        lambda values: Scalar("string", tuple(values))
    )
    | st.integers(0, 3).map(lambda value: Scalar("integer", (value,)))
    | st.sampled_from([0.5, 1.5]).map(lambda value: Scalar("number", (value,)))
    | st.booleans().map(lambda value: Scalar("boolean", (value,)))
)
_bounded = st.sampled_from(
    [Scalar("string", None, ('{"pattern":"^x"}',)), Scalar("integer", None, ('{"minimum":1}',))]
)


def _records(inner: st.SearchStrategy[Type]) -> st.SearchStrategy[Type]:
    field = st.builds(Property, inner, st.booleans())
    extra = st.none() | st.just(UNKNOWN) | _plain
    return st.builds(ObjectType, st.dictionaries(names, field, max_size=3), extra)


plan_types: st.SearchStrategy[Type] = st.recursive(
    _plain | _known | _bounded | st.just(UNKNOWN) | st.just(NEVER),
    lambda inner: (
        inner.map(ListType)
        | _records(inner)
        | st.lists(inner, min_size=1, max_size=3).map(lambda every: union(*every))
    ),
    max_leaves=6,
)

_words = st.sampled_from(["x", "y", "xyz", ""])
_simple_schemas = st.sampled_from(
    [
        {},
        True,
        {"type": "string"},
        {"type": "integer"},
        {"type": "number", "minimum": 1},
        {"type": "boolean"},
        {"type": "null"},
        {"type": ["integer", "null"]},
        {"type": "string", "pattern": "^x"},
        {"type": "string", "nullable": True},
        {"enum": ["x", 1, None, True]},
        {"const": 1.0},
        {"not": {"type": "string"}},
    ]
)
small_values = st.recursive(
    st.sampled_from([None, True, False, 0, 1, 2, 1.0, 1.5]) | _words,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2)
    ),
    max_leaves=5,
)


def _schemas(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    fields = st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2)
    required = st.lists(st.sampled_from(["a", "b"]), max_size=1)
    several = st.lists(inner, min_size=1, max_size=2)
    return (
        st.builds(lambda items: {"type": "array", "items": items}, inner)
        | st.builds(
            lambda heads, rest: {"type": "array", "prefixItems": heads, "items": rest}, several, inner
        )
        | st.builds(
            lambda known, must: {"type": "object", "properties": known, "required": must}, fields, required
        )
        | st.builds(lambda known, rest: {"properties": known, "additionalProperties": rest}, fields, inner)
        | st.builds(lambda every: {"anyOf": every}, several)
        | st.builds(lambda every: {"oneOf": every}, several)
        | st.builds(lambda every: {"allOf": every}, several)
        | st.builds(lambda known, every: {"properties": known, "anyOf": every}, fields, several)
        | st.builds(lambda key: {"$ref": f"#/types/{key}"}, st.sampled_from(["A", "B"]))
    )


schemas = st.recursive(_simple_schemas, _schemas, max_leaves=5)

_keywords = st.sampled_from(
    [
        *(
            "type",
            "properties",
            "required",
            "items",
            "enum",
            "const",
            "anyOf",
            "allOf",
            "oneOf",
            "$ref",
            "nullable",
        ),
        *(
            "additionalProperties",
            "patternProperties",
            "pattern",
            "minimum",
            "minLength",
            "uniqueItems",
            "not",
            "if",
        ),
        *(
            "then",
            "prefixItems",
            "$defs",
            "definitions",
            "dependentSchemas",
            "propertyNames",
            "multipleOf",
            "a",
        ),
    ]
)
_scraps = st.sampled_from(
    [
        *(None, True, False, 1, -1, 1.5, "string", "object", "array", "integer", "null", "(", "a", [], {}),
        *(
            "#",
            "#/types/A",
            "#/types/B",
            "#/$defs/a",
            "#/properties/a",
            "#/items/0",
            "#/types/A/properties/a",
        ),
    ]
)
garbage = st.recursive(
    _scraps,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keywords, inner, max_size=4),
    max_leaves=12,
)
