"""What was just made of a plan stands for the same plan, and for no other."""

from __future__ import annotations

import pytest
from firmplan import Engine, Plan, PlanRejected, Toolset, tool
from firmplan.executor import ToolsetLock
from firmplan.executor.journal.header import program_of, read_plan
from firmplan.executor.lru_cache import ENTRY_STEPS, LruCache
from firmplan.executor.runs.request import AcceptedPlans
from firmplan.plans.expressions.functions import EXPRESSION_VERSION
from firmplan.testing import MemoryStore
from hypothesis import given
from hypothesis import strategies as st
from public import call, plan, within

ONE = plan(call("a", "add", args={"a": 1, "b": 2}), output="${a}", task="One")


@tool(effect="pure")
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@given(
    keys=st.lists(st.integers(0, 9), max_size=40),
    weights=st.lists(st.integers(1, 400), min_size=10, max_size=10),
)
def test_a_value_is_that_of_its_key_and_the_weight_is_bounded(keys, weights):
    """Whatever is asked for in whatever order, the value is that of the key; nothing kept weighs more than the limit."""
    recent = LruCache[int, tuple[int, int]](weight_max=500)
    for number, key in enumerate(keys):
        value = recent.get(key, lambda key=key, number=number: (key, number), lambda made: weights[made[0]])
        assert value[0] == key
    assert sum(weight for _, weight in recent._kept.values()) == recent._weight <= 500


def test_what_was_used_last_stays():
    """The least recently used goes first, and what is too heavy is not kept at all."""
    recent = LruCache[str, str](weight_max=2 * ENTRY_STEPS)
    made = []

    def use(key, steps=1):
        return recent.get(key, lambda: made.append(key) or key, lambda _: steps)

    for key in ("a", "b", "a", "c", "a", "b"):
        use(key)
    assert made == ["a", "b", "c", "b"]
    use("heavy", steps=10_000)
    use("heavy", steps=10_000)
    assert made[4:] == ["heavy", "heavy"]


def test_a_plan_object_is_known_by_identity_and_a_dict_by_content():
    """An equal dict is the same plan; an equal `Plan` object may have other words for people."""
    accepted, tools = AcceptedPlans(), object()
    first = Plan.model_validate(ONE)
    accepted.keep(first, tools, first)
    assert accepted.find(first, tools) is first
    assert accepted.find(first, object()) is None, "other tools"
    assert accepted.find(Plan.model_validate({**ONE, "task": "Two"}), tools) is None
    accepted.keep(ONE, tools, first)
    assert accepted.find({**ONE}, tools) is first
    assert accepted.find({**ONE, "task": "Two"}, tools) is None
    assert accepted.find({**ONE, "output": float("nan")}, tools) is None


def test_a_plan_that_runs_saved_plans_is_checked_every_time():
    """What is saved under a name may change: then the same plan is another one."""

    async def main():
        async with Engine([add], store=MemoryStore()) as engine:
            outer = plan({"id": "x", "plan": "inner", "args": {}}, output="${x}")
            await engine.save_plan("inner", plan({"id": "a", "set": 1}, output="${a}"))
            first = await engine.run(outer)
            await engine.save_plan("inner", plan({"id": "a", "set": 2}, output="${a}"))
            second = await engine.run(outer)
            await engine.save_plan("inner", plan(inputs={"n": {"type": "integer"}}, output="${inputs.n}"))
            with pytest.raises(PlanRejected):
                await engine.run(outer)
            return first.output, second.output

    assert within(main()) == (1, 2)


def test_a_task_is_that_of_the_plan_that_was_given():
    """Plans that differ only in their words are kept apart: a run shows its own."""

    async def main():
        async with Engine([add], store=MemoryStore()) as engine:
            runs = [await engine.run({**ONE, "task": task}) for task in ("One", "Two", "One")]
            plans = [await engine.run(Plan.model_validate({**ONE, "task": task})) for task in ("One", "Two")]
            return [run.task for run in (*runs, *plans)], {run.plan.task for run in plans}

    assert within(main()) == (["One", "Two", "One", "One", "Two"], {"One", "Two"})


def test_a_program_is_that_of_plan_and_lock():
    """The same plan and lock: the same program. A tool that needs approval now: another one."""
    stored = Plan.model_validate(ONE).to_dict()
    assert read_plan(stored) is read_plan(dict(stored))

    @tool(effect="write", name="add")
    def other(a: int, b: int) -> int:
        return a + b

    one = read_plan(stored)
    locks = [ToolsetLock.of([one], Toolset([each])) for each in (add, add, other)]
    programs = [program_of(one, lock, {}, EXPRESSION_VERSION) for lock in locks]
    assert programs[0] is programs[1]
    assert programs[0] is not programs[2]
    assert programs[2].steps[0].touches
