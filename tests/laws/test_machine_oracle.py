"""Runs agree with a naive interpreter of plans: statuses, values, calls, and the order of effects."""

from __future__ import annotations

import asyncio
from random import Random

import hypothesis.strategies as st
import pytest
from firmplan.plans import Plan
from firmplan.plans.reports.errors import SKIPPED
from hypothesis import given
from oracle import Oracle, in_program_order
from rig import Rig
from seeds import examples, seeds
from small_plans import ORACLE_TOOLS, RECORDER, RECORDING_TOOLS, TOOLS, Recorder, small_plan, small_plans


async def run_in_any_order(plan, n, seed, log):
    """Run the plan; tools end in an order drawn from `seed`."""
    random = Random(seed)

    async def pause(step):
        for _ in range(random.randrange(12)):
            await asyncio.sleep(0)

    RECORDER.set(Recorder(log, pause))
    async with Rig(RECORDING_TOOLS, places=random.choice([1, 4, 64])) as rig:
        return await rig.run(Plan.model_validate(plan), inputs={"n": n}, reuse="off")


@examples(150)
@given(plan=small_plans(), n=st.integers(0, 9), seed=st.integers(0, 2**32))
def test_a_run_agrees_with_the_naive_interpreter(plan, n, seed):
    """Every step's status, reason and value, and the calls made, are those of one step after another."""
    assert_agrees(plan, n, seed)


@pytest.mark.sweep
@pytest.mark.parametrize("seed", seeds(10_000, sampled=20))
def test_a_seeded_run_agrees_with_the_naive_interpreter(seed):
    """The same from a seed alone, for `make sweep`."""
    random = Random(seed)
    assert_agrees(small_plan(random), random.randrange(10), seed)


def assert_agrees(plan, n, seed):
    log = []
    run = asyncio.run(run_in_any_order(plan, n, seed, log))
    oracle = Oracle(ORACLE_TOOLS)
    scope = oracle.interpret(plan["steps"], {"n": n}, plan.get("plans", {}))
    found = {
        path: view.status if view.reason is None else f"{view.status}:{view.reason}"
        for path, view in run.steps.items()
        if path in oracle.status
    }
    assert found == {path: oracle.status[path] for path in found}
    assert set(oracle.status) <= set(found)
    values = {step["id"]: scope[step["id"]] for step in plan["steps"]}
    assert {name: run.steps[name].output for name in values} == {
        name: None if value is SKIPPED else value for name, value in values.items()
    }
    started = [(tool, step, args) for kind, tool, step, args in log if kind == "start"]
    assert sorted(started, key=repr) == sorted(oracle.calls, key=repr)
    assert run.status == ("failed" if "failed" in {oracle.status[n] for n in values} else "succeeded")
    assert_effect_order(log, [step for _, step, _ in oracle.calls])


def assert_effect_order(log, in_order):
    """On one resource a write has the resource to itself, and calls come in program order where one of them writes."""
    start = {step: at for at, (kind, _, step, _) in enumerate(log) if kind == "start"}
    end = {step: at for at, (kind, _, step, _) in enumerate(log) if kind == "end"}
    tool_of = {step: tool for _, tool, step, _ in log}
    for later, step in enumerate(in_order):
        for earlier in in_order[:later]:
            if conflict(tool_of[earlier], tool_of[step]):
                assert end[earlier] < start[step], f"{earlier} and {step} overlap or are out of order"


def conflict(one, other):
    (effect, resource), (other_effect, other_resource) = TOOLS[one], TOOLS[other]
    if "pure" in (effect, other_effect) or "write" not in (effect, other_effect):
        return False
    return resource == other_resource or "world" in (resource, other_resource)


def test_program_order_puts_dependencies_first():
    """References come before `after`, each in the order of the list."""
    steps = [
        {"id": "a", "set": "${d + c}", "after": ["b"]},
        {"id": "b", "set": 1},
        {"id": "c", "set": 1},
        {"id": "d", "set": 1},
    ]
    assert [step["id"] for step in in_program_order(steps)] == ["c", "d", "b", "a"]
