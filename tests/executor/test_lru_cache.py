"""What was just made of a plan stands for the same plan, and for no other."""

from __future__ import annotations

import asyncio

import pytest
from firmplan import Engine, Plan, PlanRejected, Toolset, tool
from firmplan.executor import ToolsetLock
from firmplan.executor.journal.header import program_of, read_plan
from firmplan.executor.lru_cache import ENTRY_STEPS, IdentityCache, LruCache
from firmplan.executor.runs.request import CheckedPlans, GivenPlan
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
    """The least recently used goes first, and what is too heavy stays alone, until the next comes."""
    recent = LruCache[str, str](weight_max=2 * ENTRY_STEPS)
    made = []

    def use(key, steps=1):
        return recent.get(key, lambda: made.append(key) or key, lambda _: steps)

    for key in ("a", "b", "a", "c", "a", "b"):
        use(key)
    assert made == ["a", "b", "c", "b"]
    use("heavy", steps=10_000)
    use("heavy", steps=10_000)
    assert made[4:] == ["heavy"]
    use("c")
    use("heavy", steps=10_000)
    assert made[5:] == ["c", "heavy"]


def test_some_stay_however_heavy_they_are():
    """A heavy value stays when another one comes in between, and goes when a third one comes."""
    recent = LruCache[str, str](weight_max=ENTRY_STEPS, count_min=2)
    for key in ("a", "b"):
        recent.keep(key, key, 10_000)
    assert (recent.find("b"), recent.find("a")) == ("b", "a")
    recent.keep("c", "c", 10_000)
    assert [recent.find(key) for key in "abc"] == ["a", None, "c"]


def test_what_fits_exactly_stays_and_a_value_that_is_kept_anew_weighs_anew():
    """Each entry weighs something; looking for a value counts as its use, and what is not there is none."""
    cache = LruCache[str, str](weight_max=10, weight_min=2)
    cache.keep("whole", "w", 10)
    assert cache.find("whole") == "w"
    cache.keep("past", "p", 11)
    assert (cache.find("past"), cache.find("whole")) == ("p", None)
    cache.keep("whole", "less", 3)
    for name in ("b", "c", "d"):
        cache.keep(name, name, 0)
    assert cache.find("whole") == "less"
    cache.keep("e", "e", 3)
    assert [cache.find(name) for name in ("whole", "b", "c", "d", "e")] == ["less", None, "c", "d", "e"]
    cache.keep("f", "f", 10)
    assert [cache.find(name) for name in ("whole", "c", "d", "e", "f")] == [None, None, None, None, "f"]
    cache.keep("g", "g", 2)
    assert [cache.find(name) for name in ("f", "g")] == [None, "g"]


def test_what_cannot_be_made_is_not_kept():
    """And is tried again."""
    cache = LruCache[str, int]()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            cache.get("a", lambda: 1 // 0, lambda _: 1)
    assert cache.get("a", lambda: 1, lambda _: 1) == 1


def test_a_few_objects_are_known_by_their_identity():
    """The last ones; an equal object is another one."""
    cache, made = IdentityCache[list, int](2), []

    def get(of):
        return cache.get(of, lambda given: made.append(given) or len(made))

    one, same, other = [1], [1], [2]
    assert [get(one), get(one), get(same), get(one)] == [1, 1, 2, 1]
    assert [get(other), get(one), get(same)] == [3, 1, 4]
    assert made == [one, same, other, same]


def test_a_plan_object_is_known_by_identity_and_a_dict_by_content():
    """An equal dict is the same plan; an equal `Plan` object may have other words for people."""
    accepted, tools = CheckedPlans(), object()
    first = Plan.model_validate(ONE)
    accepted.keep(GivenPlan(first), tools, first)
    assert accepted.find(GivenPlan(first), tools) is first
    assert accepted.find(GivenPlan(first), object()) is None, "other tools"
    assert accepted.find(GivenPlan(Plan.model_validate({**ONE, "task": "Two"})), tools) is None
    accepted.keep(GivenPlan(ONE), tools, first)
    assert accepted.find(GivenPlan({**ONE}), tools) is first
    assert accepted.find(GivenPlan({**ONE, "task": "Two"}), tools) is None
    nan, null = {**ONE, "output": float("nan")}, {**ONE, "output": None}
    accepted.keep(GivenPlan(null), tools, first)
    assert accepted.find(GivenPlan(null), tools) is first
    assert accepted.find(GivenPlan(nan), tools) is None, "its text would be that of null"


def test_a_plan_is_what_it_was_when_it_was_given():
    """Who changes a dict while its plan is checked in a thread changes nothing of the run, and the changed dict is another plan."""

    async def main():
        async with Engine([add], store=MemoryStore()) as engine:
            steps = [
                {"id": f"s{number}", "tool": "add", "args": {"a": number, "b": 1}} for number in range(200)
            ]
            given = {"firmplan": 1, "steps": steps, "output": "${s199}"}
            run = asyncio.ensure_future(engine.run(given))
            await asyncio.sleep(0)
            steps.clear()
            with pytest.raises(PlanRejected):
                await engine.run(given)
            return (await run).output

    assert within(main()) == 200


def test_a_plan_that_is_too_deep_is_rejected():
    """A plan of any depth has a report, also where nobody has read it before."""
    deep = 1
    for _ in range(5_000):
        deep = [deep]

    async def main():
        async with Engine([add], store=MemoryStore()) as engine:
            with pytest.raises(PlanRejected) as refused:
                await engine.run({**ONE, "output": deep})
            return [each.code for each in refused.value.report.errors]

    assert within(main()) == ["limit-exceeded"]


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


def test_a_dropped_value_leaves_room_for_others():
    """Its weight goes with it; dropping an absent key changes nothing."""
    cache = LruCache[str, str](2, weight_min=1)
    for key in ("a", "b"):
        cache.keep(key, key)
    cache.drop("a")
    cache.drop("a")
    cache.keep("c", "c")
    assert [cache.find(key) for key in ("a", "b", "c")] == [None, "b", "c"]
    cache.keep("d", "d")
    assert [cache.find(key) for key in ("b", "c", "d")] == [None, "c", "d"], "the bound is what it was"
