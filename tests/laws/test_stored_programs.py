"""A program that was put together from its stored facts is the program that the compiler makes."""

from __future__ import annotations

from random import Random

import hypothesis.strategies as st
import orjson
import pytest
from firmplan import Plan, PlanRejected
from firmplan.plans.expressions.formula import Formula, read_formula, splices_of_names
from firmplan.plans.program.compile import compile_plan
from firmplan.plans.program.stored_program import program_from_json, program_to_json
from hypothesis import given, reject
from program_parts import parts
from seeds import examples
from small_plans import RECORDING_TOOLS, small_plans
from typed_plans import TYPED_TOOLS, typed_plans
from untrusted_plans import TOOLS, Author


def expect_equal(plan, tools, **options):
    made = compile_plan(Plan.model_validate(plan), tools, **options)
    facts = orjson.loads(orjson.dumps(program_to_json(made)))
    again, digest = program_from_json(facts, Plan.model_validate(plan), tools, options.get("plans", {}))
    assert parts(again) == parts(made)
    assert digest == made.plan.digest


NAMED = st.sampled_from(
    [
        "${a}",
        "${b}",
        "${ a }",
        "${a.x}",
        "$${a}",
        "x ${a}",
        "${inputs.n}",
        "${item}",
        "{{a}}",
        "a",
        1,
        None,
        2.5,
    ]
)
NAMED |= st.lists(NAMED, max_size=2) | st.dictionaries(st.sampled_from("xy"), NAMED, max_size=2)


@examples(200)
@given(st.dictionaries(st.text('ab$"é', max_size=2), NAMED, max_size=4))
def test_arguments_that_are_names_are_not_read(value):
    """Where arguments are put together without being read, they are what they are when read, at every question."""
    read, problems = read_formula(value)
    splices = read.names_in()
    if splices is None:
        assert not value or any(isinstance(each, str) and "$" in each for each in leaves(value)) or problems
        return
    made = Formula.of_names(value, splices_of_names(value))
    assert parts(made) == parts(read)
    scope = {"a": [1, {"k": "v"}], "b": "text"}
    assert made.evaluate(scope) == read.evaluate(scope)
    assert made.serialize(scope, {}) == read.serialize(scope, {})
    assert Formula.of_names(value, splices).whole == read.whole
    with pytest.raises(AttributeError):
        _ = made.nothing


def leaves(value):
    match value:
        case dict() | list():
            for each in value.values() if isinstance(value, dict) else value:
                yield from leaves(each)
        case _:
            yield value


@examples(150)
@given(typed_plans())
def test_typed_plans(plan):
    expect_equal(plan, TYPED_TOOLS)


@examples(150)
@given(small_plans())
def test_plans_with_effects_and_inner_plans(plan):
    expect_equal(plan, RECORDING_TOOLS)


@examples(150)
@given(st.integers(0, 2**32), st.booleans())
def test_plans_with_untrusted_data(seed, is_chosen):
    plan = Author(Random(seed), has_models=True).plan()
    try:
        expect_equal(plan, TOOLS, is_chosen=is_chosen)
    except PlanRejected:
        reject()
