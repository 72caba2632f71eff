"""Laws over random plans: whatever is offered while a plan is being written, its run is the run of the plan."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from firmplan import Plan, check
from firmplan.executor import Header, PlannedRun, ToolsetLock
from hypothesis import given
from hypothesis import strategies as st
from rig import Rig, statuses
from seeds import examples, seeds
from small_plans import RECORDER, RECORDING_TOOLS, TOOLS, Recorder, small_plan, small_plans


@examples(150)
@given(plan=small_plans(), n=st.integers(0, 9), pauses=st.lists(st.integers(0, 12), min_size=1, max_size=9))
def test_a_run_that_starts_early_is_the_run_of_its_plan(plan, n, pauses):
    """Status, value and digest, whenever the beginnings come; and no call is made that the run does not make."""
    plain, calls = asyncio.run(run_of(plan, n))
    early, early_calls = asyncio.run(run_of(plan, n, [plan], pauses))
    expect_same(early, plain)
    assert sorted(early_calls) == sorted(calls)


@examples(150)
@given(
    plan=small_plans(),
    others=st.lists(small_plans(), max_size=2),
    n=st.integers(0, 9),
    pause=st.integers(0, 12),
)
def test_drafts_that_were_given_up_leave_no_trace(plan, others, n, pause):
    """Steps of other plans have the same names: nothing of theirs is taken for a call of the plan, and no write is made."""
    plain, calls = asyncio.run(run_of(plan, n))
    early, early_calls = asyncio.run(run_of(plan, n, [*others, plan], [pause]))
    expect_same(early, plain)
    assert writes(early_calls) == writes(calls)


@pytest.mark.sweep
@pytest.mark.parametrize("seed", seeds(1_000, sampled=10))
def test_a_seeded_run_that_starts_early_is_the_run_of_its_plan(seed):
    """The same from a seed alone, for `make sweep`."""
    random = Random(seed)
    plans = [small_plan(random) for _ in range(3)]
    plain, calls = asyncio.run(run_of(plans[-1], seed % 10))
    early, early_calls = asyncio.run(
        run_of(plans[-1], seed % 10, plans, [random.randrange(12) for _ in range(9)])
    )
    expect_same(early, plain)
    assert writes(early_calls) == writes(calls)


async def run_of(plan, n, drafts=(), pauses=(0,)):
    """Return a run and its calls; the beginnings of the drafts are offered before it, with so many turns of the loop between."""
    RECORDER.set(Recorder())
    async with Rig(RECORDING_TOOLS) as rig:
        made = Plan.model_validate(plan)

        class Planning:
            async def plan_run(self, row, inputs, cost, early):
                del row, inputs, cost
                await offer(early)
                return PlannedRun(made, {}, {"n": n}, ToolsetLock.of([made], rig.tools), None)

        async def offer(early):
            for number, beginning in enumerate(each for draft in drafts for each in beginnings(draft)):
                early.offer(beginning, {"n": n}, ToolsetLock.of([beginning], rig.tools))
                for _ in range(pauses[number % len(pauses)]):
                    await asyncio.sleep(0)

        header = Header(None, {"n": n}, "", ToolsetLock(()), task="drawn")
        row = await rig.execution.submissions.submit(header, run_id="run")
        rig.execution.planning.planner = Planning()
        await (await rig.execution.start(row, stream=True))
        run = await rig.execution.wait(row.id)
        calls = [(name, step, args["x"]) for what, name, step, args in RECORDER.get().log if what == "start"]
        return run, calls


def beginnings(plan):
    """Yield the beginnings of a plan that pass their check."""
    for count in range(1, len(plan["steps"]) + 1):
        beginning = {**plan, "steps": plan["steps"][:count]}
        del beginning["output"]
        if check(beginning, RECORDING_TOOLS).ok:
            yield Plan.model_validate(beginning)


def expect_same(early, plain):
    assert (early.status, early.digest, early.output) == (plain.status, plain.digest, plain.output)
    assert statuses(early) == statuses(plain)
    assert [(path, view.output, view.attempts) for path, view in early.steps.items()] == [
        (path, view.output, view.attempts) for path, view in plain.steps.items()
    ]


def writes(calls):
    """Return the calls of writes, sorted."""
    return sorted(call for call in calls if TOOLS[call[0]][0] == "write")
