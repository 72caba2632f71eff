"""Strategies of the laws of schemas: JSON Schemas with every keyword that types read or keep as a condition, and a pool of values."""

from __future__ import annotations

from itertools import product
from typing import Any

from hypothesis import strategies as st

Schema = Any

NAMES = ("a", "b", "k")
SCALARS = (None, True, False, 0, 1, 2, -1, 1.0, 1.5, "", "x", "y", "xyz")
_FIELDS = (1, "x", "y", None, [1])
VALUES: tuple[Any, ...] = (
    *SCALARS,
    [],
    *([one] for one in SCALARS),
    *(list(pair) for pair in product((1, 2, "x", "y", None), repeat=2)),
    [1, 2, "x"],
    [1, 1, 1],
    [[]],
    [[1], ["x"]],
    [{"a": 1}],
    [{"a": 1, "b": "x"}, {}],
    *(
        {name: value for name, value in zip(NAMES, values, strict=True) if value != "absent"}
        for values in product((*_FIELDS, "absent"), repeat=3)
    ),
    {"z": 1},
    {"a": 1, "z": "x"},
    {"a": {"a": 1}},
    {"a": {"a": {"a": "x"}, "b": 1}},
    {"a": [{"a": "x"}], "k": "x"},
    {"xa": 1, "xb": "y"},
)
"""Values that tell schemas of this module apart."""

_names = st.sampled_from(NAMES)
_some_names = st.lists(_names, max_size=2, unique=True)
_listed = st.lists(st.sampled_from([*SCALARS, [1], [1, 2], [2, 1], {"a": 1}, {}]), min_size=1, max_size=3)
_count = st.integers(0, 2)

_demands = st.fixed_dictionaries(
    {},
    optional={
        "pattern": st.sampled_from(["^x", "y$", "."]),
        "minLength": _count,
        "maxLength": _count,
        "minimum": st.sampled_from([0, 1, 1.5]),
        "exclusiveMaximum": st.sampled_from([1, 2]),
        "multipleOf": st.sampled_from([1, 2, 0.5]),
        "minItems": _count,
        "maxItems": _count,
        "uniqueItems": st.booleans(),
        "minProperties": _count,
        "maxProperties": _count,
        "dependentRequired": st.dictionaries(_names, _some_names, max_size=1),
        "required": _some_names,
        "format": st.just("date"),
    },
)
_kinds = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
_types = st.fixed_dictionaries(
    {"type": _kinds | st.lists(_kinds, min_size=1, max_size=2, unique=True)},
    optional={"nullable": st.booleans()},
)
_simple: st.SearchStrategy[Schema] = (
    st.booleans()
    | st.just({})
    | _types
    | st.builds(lambda values: {"enum": values}, _listed)
    | st.builds(lambda values: {"const": values[0]}, _listed)
    | _demands
    | st.builds(lambda *parts: {**parts[0], **parts[1]}, _types, _demands)
    | st.sampled_from(["#/types/A", "#/types/B", "#/types/Tree", "#/$defs/D"]).map(lambda ref: {"$ref": ref})
)


def _wider(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    fields = st.dictionaries(_names, inner, max_size=2)
    several = st.lists(inner, min_size=1, max_size=3)
    is_object = st.fixed_dictionaries(
        {},
        optional={
            "type": st.just("object"),
            "properties": fields,
            "required": _some_names,
            "additionalProperties": inner,
            "patternProperties": st.dictionaries(st.sampled_from(["^x", "a"]), inner, max_size=1),
            "propertyNames": inner,
            "dependentSchemas": st.dictionaries(_names, inner, max_size=1),
            "unevaluatedProperties": inner,
            "minProperties": _count,
        },
    )
    is_list = st.fixed_dictionaries(
        {},
        optional={
            "type": st.just("array"),
            "items": inner | several,
            "prefixItems": several,
            "additionalItems": inner,
            "contains": inner,
            "minContains": _count,
            "unevaluatedItems": inner,
            "maxItems": _count,
        },
    )
    is_composed = st.fixed_dictionaries(
        {},
        optional={
            "anyOf": several,
            "oneOf": several,
            "allOf": several,
            "not": inner,
            "if": inner,
            "then": inner,
            "else": inner,
            "$ref": st.sampled_from(["#/types/A", "#/types/B", "#/types/Tree"]),
        },
    )
    tag = st.sampled_from(["x", "y", 1]).map(lambda value: {"const": value})
    is_tagged = st.builds(
        lambda kind, more, required: {"properties": {**more, "k": kind}, "required": required},
        tag,
        fields,
        _some_names,
    )
    return (
        is_object
        | st.builds(lambda known: {"type": "object", "properties": known}, fields)
        | is_list
        | is_composed
        | st.builds(
            lambda known, branches: {"oneOf": branches, **known},
            st.just({}) | is_object,
            st.lists(is_tagged, max_size=3, min_size=2),
        )
        | st.builds(lambda one, other: {**one, **other}, is_object | is_list, is_composed)
        | st.builds(
            lambda one, other: {**one, **other} if isinstance(one, dict) else other, inner, is_composed
        )
    )


schemas: st.SearchStrategy[Schema] = st.recursive(_simple, _wider, max_leaves=6)
_nameless = schemas.filter(
    lambda schema: not any(ref in str(schema) for ref in ("#/types/A", "#/types/B", "#/$defs"))
)
_trees = (
    st.builds(
        lambda fields: {"type": "object", "properties": fields},
        st.dictionaries(_names, _nameless, max_size=2),
    )
    | st.builds(lambda inner: {"anyOf": [{"type": "string"}, {"type": "array", "items": inner}]}, _nameless)
    | st.just({"type": "object", "properties": {"a": {"$ref": "#/types/Tree"}}, "additionalProperties": {}})
)
named: st.SearchStrategy[dict[str, Schema]] = st.fixed_dictionaries(
    {"A": _nameless, "B": st.just({"properties": {"a": {"type": "string"}}}), "Tree": _trees}
)
"""Types that `schemas` name; one of them holds itself."""


@st.composite
def neighbours(draw: st.DrawFn) -> tuple[Schema, Schema]:
    """Draw two schemas that have much in common: one is made of the other."""
    one = draw(schemas)
    other = draw(schemas)
    known = one if isinstance(one, dict) else {}
    beside = other if isinstance(other, dict) else {}
    made = draw(
        st.sampled_from(
            [
                one,
                {"anyOf": [one, other]},
                {"oneOf": [one, other]},
                {"allOf": [one, other]},
                {**known, **beside},
                {key: value for key, value in known.items() if key not in beside},
                {"type": "array", "items": one},
                {"properties": {"a": one}, "required": ["a"]},
                {"properties": {"a": one, "b": other}},
            ]
        )
    )
    pair = draw(st.sampled_from([(one, made), (made, one), (other, made), (made, other), (made, made)]))
    return with_definition(draw, pair[0]), with_definition(draw, pair[1])


def with_definition(draw: st.DrawFn, schema: Schema) -> Schema:
    """Draw what a schema defines for itself, if it names it."""
    return {**schema, "$defs": {"D": draw(_nameless)}} if "#/$defs/D" in str(schema) else schema
