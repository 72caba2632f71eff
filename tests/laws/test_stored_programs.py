"""A program that was put together from its stored facts is the program that the compiler makes."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from random import Random

import hypothesis.strategies as st
import orjson
from firmplan import Plan, PlanRejected
from firmplan.plans.compile import compile_plan
from firmplan.plans.expressions.formula import Formula
from firmplan.plans.stored_program import program_from_json, program_to_json
from hypothesis import given, reject
from seeds import examples
from small_plans import RECORDING_TOOLS, small_plans
from typed_plans import TYPED_TOOLS, typed_plans
from untrusted_plans import TOOLS, Author


def parts(value):
    """Return a program as values that can be compared: a formula by what it was read from."""
    match value:
        case Formula():
            return ("formula", value.value, value.strict, value.lenient, value.secret)
        case Plan():
            return ("plan", value.to_dict())
        case _ if is_dataclass(value):
            return (type(value).__name__, [parts(getattr(value, each.name)) for each in fields(value)])
        case tuple() | list():
            return [parts(each) for each in value]
        case dict():
            return {name: parts(each) for name, each in value.items()}
        case _:
            return value


def expect_equal(plan, tools, **options):
    made = compile_plan(Plan.model_validate(plan), tools, **options)
    facts = orjson.loads(orjson.dumps(program_to_json(made)))
    again, digest = program_from_json(facts, Plan.model_validate(plan), tools, options.get("plans", {}))
    assert parts(again) == parts(made)
    assert digest == made.plan.digest


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
