"""A program that was put together from its stored facts is the program that the compiler makes."""

from __future__ import annotations

from random import Random

import hypothesis.strategies as st
import orjson
from firmplan import Plan, PlanRejected
from firmplan.plans.compile import compile_plan
from firmplan.plans.stored_program import program_from_json, program_to_json
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
