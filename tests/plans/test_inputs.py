"""Inputs handed to a plan: names, types, defaults."""

from __future__ import annotations

import math

import pytest
from firmplan.plans.inputs import fit_inputs
from firmplan.plans.plan import Plan


def plan_with(inputs, types=None):
    return Plan.model_validate({"firmplan": 1, "inputs": inputs, "types": types or {}, "steps": []})


def found(plan, given):
    _, problems = fit_inputs(plan, given)
    return [(problem.code, problem.path) for problem in problems]


def test_defaults_are_filled_in_in_the_order_of_the_plan():
    """Whatever the order of what is given, inputs come as declared."""
    plan = plan_with(
        {"a": {"type": "string"}, "b": {"type": "string", "default": "Oslo"}, "c": {"type": "string"}}
    )
    inputs, problems = fit_inputs(plan, {"c": "z", "a": "x"})
    assert (list(inputs.items()), problems) == ([("a", "x"), ("b", "Oslo"), ("c", "z")], [])


def test_an_input_without_default_must_be_given():
    assert found(plan_with({"a": {"type": "string"}}), {}) == [("bad-input", "$.inputs.a")]


def test_an_unknown_input_has_the_nearest_name():
    _, problems = fit_inputs(plan_with({"city": {"type": "string", "default": "Rome"}}), {"citty": "Oslo"})
    assert [(problem.path, problem.hint) for problem in problems] == [
        ("$.inputs.citty", "did you mean 'city'?")
    ]


@pytest.mark.parametrize(
    ("schema", "given", "made"),
    [
        ({"type": "integer"}, 2.0, 2),
        ({"type": "number"}, 2.0, 2.0),
        ({"type": "number"}, 2, 2),
        ({"type": ["integer", "null"]}, 2.0, 2),
        ({"type": ["integer", "string"]}, 2.0, 2),
        ({"type": "array", "items": {"type": "integer"}}, [1.0, 2], [1, 2]),
        ({"$ref": "#/types/Point"}, {"x": 1.0, "y": 1.0}, {"x": 1, "y": 1.0}),
        (
            {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"$ref": "#/types/Point"}]},
            {"x": 1.0, "y": 2},
            {"x": 1, "y": 2},
        ),
        ({}, 2.0, 2.0),
    ],
)
def test_integral_floats_become_integers_where_integers_are_wanted(schema, given, made):
    """And nowhere else: a number keeps its kind where any number will do."""
    point = {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "number"}}}
    inputs, problems = fit_inputs(plan_with({"n": schema}, {"Point": point}), {"n": given})
    assert problems == []
    assert repr(inputs["n"]) == repr(made)


@pytest.mark.parametrize("given", ["2", True, 2.5, None, [2], {"n": 2}])
def test_validation_is_that_of_json_schema_and_not_lax(given):
    """`"2"` is no integer, `true` is no number."""
    assert found(plan_with({"n": {"type": "integer"}}), {"n": given}) == [("bad-input", "$.inputs.n")]


def test_a_fault_inside_a_value_is_told_at_its_place():
    plan = plan_with({"xs": {"type": "array", "items": {"type": "integer"}}})
    assert found(plan, {"xs": [1, "two", 3]}) == [("bad-input", "$.inputs.xs[1]")]


@pytest.mark.parametrize("given", [math.nan, {1, 2}, object(), 2**64, "\ud800"])
def test_what_is_not_json_is_refused(given):
    assert found(plan_with({"n": {}}), {"n": given}) == [("bad-input", "$.inputs.n")]


@pytest.mark.parametrize("given", [None, [], "a", 7])
def test_inputs_are_an_object(given):
    assert found(plan_with({}), given) == [("bad-input", "$.inputs")]


def test_every_fault_is_told_at_once():
    plan = plan_with({"a": {"type": "string"}, "b": {"type": "integer"}})
    assert found(plan, {"b": "x", "c": 1}) == [
        ("bad-input", "$.inputs.a"),
        ("bad-input", "$.inputs.b"),
        ("bad-input", "$.inputs.c"),
    ]


def test_given_values_are_copied():
    """What the caller does to a value afterwards changes nothing."""
    given = {"xs": [1]}
    inputs, _ = fit_inputs(plan_with({"xs": {"type": "array"}}), given)
    given["xs"].append(2)
    assert inputs == {"xs": [1]}


def test_names_that_are_no_text_are_unknown():
    assert [code for code, _ in found(plan_with({}), {7: 1})] == ["bad-input"]
