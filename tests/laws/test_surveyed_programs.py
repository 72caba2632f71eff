"""A program that was compiled with the survey of the check is the program that the compiler makes by itself."""

from __future__ import annotations

from random import Random

import hypothesis.strategies as st
from firmplan import Plan, PlanRejected, Toolset
from firmplan.executor.journal.toolset_lock import ToolsetLock
from firmplan.plans.checker.checker import check_draft
from firmplan.plans.checker.flow.labels import Counted
from firmplan.plans.format.shape import Draft
from firmplan.plans.limits import LIMITS
from firmplan.plans.program.compile import compile_plan
from firmplan.plans.signature import signatures_of
from hypothesis import given, reject
from program_parts import parts
from seeds import examples
from small_plans import RECORDING_TOOLS, small_plans
from typed_plans import TYPED_TOOLS, typed_plans
from untrusted_plans import TOOLS, Author


def surveyed(plan, tools):
    """Return the survey of the check, as an engine hands it to the compiler."""
    signatures = signatures_of(tools)
    return check_draft(Draft(plan), signatures, None, LIMITS, None, None, None).survey, signatures


def expect_equal(plan, tools, **options):
    plan, other = Plan.model_validate(plan), Plan.model_validate(plan)
    made = compile_plan(plan, tools, surveyed=surveyed(plan, tools), **options)
    assert parts(made) == parts(compile_plan(other, tools, **options))


@examples(150)
@given(typed_plans())
def test_typed_plans(plan):
    expect_equal(plan, TYPED_TOOLS)


@examples(150)
@given(small_plans(), st.booleans())
def test_plans_with_effects_and_inner_plans(plan, world):
    """Where the run counts otherwise than the check did, the survey of the check is not used."""
    expect_equal(plan, RECORDING_TOOLS, counted=Counted(world=world))


@examples(150)
@given(st.integers(0, 2**32), st.booleans(), st.booleans(), st.booleans())
def test_plans_with_untrusted_data(seed, is_chosen, is_written, is_patched):
    plan = Author(Random(seed), has_models=True).plan()
    ids = [step["id"] for step in plan["steps"]][:1]
    try:
        expect_equal(
            plan,
            TOOLS,
            is_chosen=is_chosen,
            written=ids if is_written else (),
            controlled=ids if is_patched else (),
        )
    except PlanRejected:
        reject()


@examples(100)
@given(st.integers(0, 2**32))
def test_tools_that_changed_since_the_check(seed):
    """A tool of the run that says something else than the tool of the check makes the survey unfit: the compiler makes its own."""
    random = Random(seed)
    text = Author(random, has_models=True).plan()
    plan, other = Plan.model_validate(text), Plan.model_validate(text)
    survey = surveyed(plan, TOOLS)
    lock = ToolsetLock.of((plan,), Toolset(TOOLS))
    now = lock.with_untrusted([name for name in sorted(lock.names) if random.random() < 0.3])
    try:
        expected = compile_plan(other, now)
    except PlanRejected:
        reject()
    assert parts(compile_plan(plan, now, surveyed=survey)) == parts(expected)
