"""A budget to the last unit: what is counted, when it is counted, and where the run stops."""

from __future__ import annotations

import asyncio

import pytest
from firmplan import OutcomeUnknown, ToolError
from firmplan.executor.budget import LIMITS, Budget, PlanningCost, added, amount_of
from firmplan.testing import FakeClock
from firmplan.tools import tool
from rig import Rig, plan_of


def spent(**amounts):
    """Return what a budget says was spent: nothing but these amounts."""
    return {**dict.fromkeys(LIMITS, 0.0), **amounts}


def call(id_, name="work", **keys):
    return {"id": id_, "tool": name, "args": {"x": 1}, **keys}


def working(clock, **options):
    """A tool that takes as many seconds as it is told."""

    @tool(effect="read", version=1, **options)
    async def work(x: int) -> int:
        """Take three seconds."""
        clock.advance(3.0)
        return x

    return work


def paying(clock):
    @tool(effect="write", version=1, approval="always", resource="till")
    async def pay(x: int) -> int:
        """Take three seconds, once allowed."""
        clock.advance(3.0)
        return x

    return pay


def failing_twice(tries):
    """A tool that fails twice for each step, and notes every attempt."""

    @tool(effect="read", version=1, retries=2)
    async def flaky(x: int) -> int:
        """Fail twice for each step."""
        tries.append(x)
        if len(tries) % 3:
            raise ToolError("busy", temporary=True)
        return x

    return flaky


def in_rig(drive, clock, *tools):
    async def main():
        async with Rig(tools, clock=clock) as rig:
            return await drive(rig)

    return asyncio.run(main())


# --- seconds


def chain(count, name="work"):
    return plan_of(*[call(f"s{n}", name, **({"after": [f"s{n - 1}"]} if n else {})) for n in range(count)])


def test_the_seconds_of_calls_count():
    """Three calls of three seconds; the limit stops the call that would begin after it, and not the one before."""
    clock = FakeClock()
    runs = {
        limit: in_rig(
            lambda rig, limit=limit: rig.run(chain(4), budget={"seconds": limit}), clock, working(clock)
        )
        for limit in (0, 3, 6.5, 9, 9.5, 100)
    }
    assert {
        limit: [step.status for step in run.steps.values()].count("succeeded") for limit, run in runs.items()
    } == {
        0: 0,
        3: 1,
        6.5: 3,
        9: 3,
        9.5: 4,
        100: 4,
    }
    assert {limit: run.status for limit, run in runs.items()} == {
        **dict.fromkeys((0, 3, 6.5, 9), "over_budget"),
        **dict.fromkeys((9.5, 100), "succeeded"),
    }
    assert runs[100].usage["seconds"] == 12.0
    assert runs[3].usage["seconds"] == 3.0


def test_time_in_which_a_run_waits_for_a_person_does_not_count():
    """A day until the approval; what was used before it and after it does."""
    clock = FakeClock()

    async def drive(rig):
        plan = plan_of(call("a"), call("p", "pay", after=["a"]), call("b", after=["p"]))
        waiting = await rig.run(plan, "r", budget={"seconds": 9.5})
        assert (waiting.status, waiting.usage["seconds"]) == ("waiting", 3.0)
        clock.advance(86_400.0)
        await rig.decisions.approve("r", "p", by="ann")
        await rig.execution.resume("r")
        return await rig.execution.wait("r")

    run = in_rig(drive, clock, working(clock), paying(clock))
    assert (run.status, run.usage["seconds"]) == ("succeeded", 9.0)


def test_time_in_which_nobody_drives_a_run_does_not_count():
    """Stopped over its budget, the run lies there for a day; with more seconds it goes on where its clock stood."""
    clock = FakeClock()

    async def drive(rig):
        stopped = await rig.run(chain(4), "r", budget={"seconds": 6})
        assert (stopped.status, stopped.usage["seconds"]) == ("over_budget", 6.0)
        clock.advance(86_400.0)
        await rig.decisions.raise_budget("r", {"seconds": 9})
        await rig.execution.resume("r")
        again = await rig.execution.wait("r")
        assert (again.status, again.usage["seconds"]) == ("over_budget", 9.0)
        clock.advance(86_400.0)
        await rig.decisions.raise_budget("r", {"seconds": 13})
        await rig.execution.resume("r")
        return await rig.execution.wait("r")

    run = in_rig(drive, clock, working(clock))
    assert (run.status, run.usage["seconds"]) == ("succeeded", 12.0)


def test_pauses_before_another_attempt_count():
    """A run that pauses goes on by itself: its time is used."""
    clock = FakeClock()

    @tool(effect="read", version=1, retries=1)
    async def flaky(x: int) -> int:
        """Fail once."""
        clock.advance(1.0)
        if not failed:
            failed.append(x)
            raise ToolError("busy", temporary=True)
        return x

    failed = []
    run = in_rig(lambda rig: rig.run(plan_of(call("a", "flaky"))), clock, flaky)
    assert run.status == "succeeded"
    assert 2.0 < run.usage["seconds"] < 2.5


# --- steps


@pytest.mark.parametrize("limit", [0, 1, 3, 4])
def test_the_steps_of_a_run_count_once_each(limit):
    """The limit itself is used up; a further attempt of a step is no further step."""
    clock, tries = FakeClock(), []
    run = in_rig(lambda rig: rig.run(chain(4, "flaky"), budget={"steps": limit}), clock, failing_twice(tries))
    assert run.usage["steps"] == limit
    assert len(tries) == 3 * limit
    assert run.status == ("succeeded" if limit == 4 else "over_budget")


def test_many_calls_at_once_do_not_pass_the_limit_together():
    """What is under way is set aside before the next one begins."""
    clock, begun = FakeClock(), []

    @tool(effect="read", version=1)
    async def work(x: int) -> int:
        """Note that it began."""
        begun.append(x)
        await asyncio.sleep(0)
        return x

    plan = plan_of({"id": "a", "tool": "work", "for_each": "${range(20)}", "args": {"x": "${item}"}})
    run = in_rig(lambda rig: rig.run(plan, budget={"steps": 7}), clock, work)
    assert (run.status, len(begun), run.usage["steps"]) == ("over_budget", 7, 7)


def test_a_lost_write_that_is_called_again_is_one_step():
    clock, calls = FakeClock(), []

    @tool(effect="write", version=1, idempotent=True, resource="till")
    async def pay(x: int) -> int:
        """Lose the first outcome."""
        calls.append(x)
        if len(calls) == 1:
            raise OutcomeUnknown("cut off")
        return x

    run = in_rig(lambda rig: rig.run(plan_of(call("a", "pay")), budget={"steps": 1}), clock, pay)
    assert (run.status, run.usage["steps"], len(calls)) == ("succeeded", 1, 2)


# --- what models use


def needs(budget, *, first=True, tokens=None):
    return budget.needs_of(is_first=first, is_model=True, tokens_max=tokens)


def test_a_call_needs_what_the_largest_so_far_took():
    """Tokens at least as many as its own answer may have; other calls need a step and a call, and a further attempt a call."""
    budget = Budget({})
    assert budget.needs_of(is_first=True, is_model=False, tokens_max=None) == {"steps": 1.0, "calls": 1.0}
    assert budget.needs_of(is_first=False, is_model=False, tokens_max=None) == {"calls": 1.0}
    assert needs(budget) == {"steps": 1.0, "calls": 1.0, "model_calls": 1.0, "tokens": 0.0, "usd": 0.0}
    assert needs(budget, first=False, tokens=50) == {
        "steps": 0.0,
        "calls": 1.0,
        "model_calls": 1.0,
        "tokens": 50.0,
        "usd": 0.0,
    }
    for tokens, usd in ((70, 0.5), (20, 0.75), (60, 0.25)):
        budget.reserve("a", needs(budget))
        budget.settle("a", {"calls": 1, "tokens": tokens, "usd": usd})
    assert needs(budget) == {"steps": 1.0, "calls": 1.0, "model_calls": 1.0, "tokens": 70.0, "usd": 0.75}
    assert needs(budget, tokens=90)["tokens"] == 90.0
    assert budget.spent == spent(steps=3.0, calls=3.0, model_calls=3.0, tokens=150.0, usd=1.5)


def test_what_was_set_aside_gives_way_to_what_was_used():
    """More, or less; what is not known keeps the call that was made, and no tokens."""
    budget = Budget({})
    budget.reserve("a", needs(budget, tokens=100))
    assert budget.spent == spent(steps=1.0, calls=1.0, model_calls=1.0, tokens=100.0)
    budget.settle("a", {"calls": 3, "tokens": 40, "usd": 0.5})
    assert budget.spent == spent(steps=1.0, calls=1.0, model_calls=3.0, tokens=40.0, usd=0.5)
    budget.reserve("b", needs(budget))
    assert budget.spent == spent(steps=2.0, calls=2.0, model_calls=4.0, tokens=80.0, usd=1.0)
    budget.settle("b", None)
    assert budget.spent == spent(steps=2.0, calls=2.0, model_calls=4.0, tokens=40.0, usd=0.5)
    budget.settle("b", None)
    budget.settle("c", None)
    assert budget.spent == spent(steps=2.0, calls=2.0, model_calls=4.0, tokens=40.0, usd=0.5)


def test_what_was_used_counts_also_where_nothing_was_set_aside():
    """A tool that is no model may have asked one."""
    budget = Budget({})
    budget.settle("a", {"calls": 2, "tokens": 7, "usd": 0.5})
    assert budget.spent == spent(model_calls=2.0, tokens=7.0, usd=0.5)


@pytest.mark.parametrize("name", ["steps", "calls", "model_calls", "tokens", "usd"])
def test_a_limit_is_reached_exactly(name):
    """As much as the limit fits; a hundredth more does not; and nothing fits where it is used up."""
    budget = Budget({name: 10.0})
    assert budget.find_short({name: 10.0}, 0.0) is None
    assert budget.find_short({name: 10.01}, 0.0) == name
    budget.spent[name] = 9.0
    assert budget.find_short({name: 1.0}, 0.0) is None
    assert budget.find_short({name: 1.01}, 0.0) == name
    budget.spent[name] = 10.0
    assert budget.find_short({name: 0.0}, 0.0) == name
    assert Budget({}).find_short({name: 1e9}, 1e9) is None


def test_seconds_are_looked_at_first_and_end_at_their_limit():
    budget = Budget({"seconds": 5.0, "steps": 0.0})
    assert budget.find_short({"steps": 1.0}, 5.0) == "seconds"
    assert budget.find_short({"steps": 1.0}, 4.99) == "steps"
    assert Budget({"seconds": 5.0}).find_short({"steps": 1.0}, 4.99) is None


def test_the_use_of_several_attempts_is_added():
    """Calls and tokens are integers; what else a usage says is the last one's."""
    one = {"calls": 1, "tokens": 10, "usd": 0.5, "model": "a"}
    assert added(None, None) is None
    assert added(one, None) == added(None, one) == one
    both = added(one, {"calls": 2, "tokens": 5, "usd": 0.25, "model": "b"})
    assert both == {"calls": 3, "tokens": 15, "usd": 0.75, "model": "b"}
    assert [type(both[name]) for name in ("calls", "tokens", "usd")] == [int, int, float]
    assert [amount_of({"usd": value}, "usd") for value in (2, 0.5, "5", None)] == [2.0, 0.5, 0.0, 0.0]
    assert amount_of(None, "usd") == amount_of({}, "usd") == 0.0


# --- what a planning uses


def test_what_the_planning_used_counts_from_the_start():
    """But not as the run's own; a planning that passed a limit, which it knows only afterwards, lets nothing start."""
    budget = Budget({"tokens": 100.0, "usd": 1.0}, {"tokens": 90.0, "usd": 0.25})
    assert budget.spent == spent(tokens=90.0, usd=0.25)
    assert budget.own == spent()
    assert budget.find_short(needs(budget, tokens=10), 0.0) is None
    assert budget.find_short(needs(budget, tokens=11), 0.0) == "tokens"
    budget.reserve("a", needs(budget, tokens=10))
    assert budget.own == spent(steps=1.0, calls=1.0, model_calls=1.0, tokens=10.0)
    assert Budget({"tokens": 100.0}, {"tokens": 100.0}).find_short({"steps": 1.0}, 0.0) is None
    assert Budget({"tokens": 100.0}, {"tokens": 101.0}).find_short({"steps": 1.0}, 0.0) == "tokens"
    assert Budget({"steps": 1.0}, {"tokens": 101.0}).find_short({"steps": 1.0}, 0.0) is None


def test_a_planning_has_what_the_steps_and_earlier_plannings_left():
    """Nothing where they took more; a price that nobody knows is none; a clock that goes back takes no seconds."""
    clock = FakeClock()
    cost = PlanningCost(
        clock.now,
        limits={"tokens": 100.0, "usd": 1.0, "seconds": 9.0, "model_calls": 1.0},
        own={"tokens": 30.0, "model_calls": 2.0},
        before={"tokens": 5.0, "seconds": 4.0},
    )
    assert cost.rest == {"tokens": 70.0, "usd": 1.0, "seconds": 9.0, "model_calls": 0.0}
    assert cost.left == {"tokens": 65.0, "usd": 1.0, "seconds": 5.0, "model_calls": 0.0}
    cost.add(model_calls=1, tokens=10, usd=None)
    cost.add(model_calls=2, tokens=60, usd=0.25)
    clock.advance(2.0)
    assert cost.left == {"tokens": 0.0, "usd": 0.75, "seconds": 3.0, "model_calls": 0.0}
    assert cost.to_dict() == {"model_calls": 3, "tokens": 75, "usd": None, "seconds": 6.0}
    clock.advance(-5.0)
    assert cost.to_dict()["seconds"] == 4.0
    assert "steps" not in PlanningCost(clock.now, limits={"steps": 3.0}).left


# --- calls and items


@pytest.mark.parametrize("limit", [3, 5, 6])
def test_calls_count_every_attempt(limit):
    """Two steps of three attempts each: the call that would pass the limit is not made, wherever it falls."""
    clock, tries = FakeClock(), []
    run = in_rig(lambda rig: rig.run(chain(2, "flaky"), budget={"calls": limit}), clock, failing_twice(tries))
    assert (len(tries), run.usage["calls"]) == (limit, limit)
    assert run.status == ("succeeded" if limit == 6 else "over_budget")


def listed(count, **keys):
    return {"id": "a", "tool": "work", "for_each": f"${{range({count})}}", "args": {"x": "${item}"}, **keys}


@pytest.mark.parametrize(("limit", "made"), [(0, 0), (4, 0), (5, 5), (8, 5), (9, 9)])
def test_a_list_past_the_items_is_not_begun(limit, made):
    """A list fits whole, or none of its items is made; the step waits, and says why."""
    plan = plan_of(listed(5), {**listed(4), "id": "b", "after": ["a"]})
    clock = FakeClock()
    run = in_rig(lambda rig: rig.run(plan, budget={"items": limit}), clock, working(clock))
    assert run.status == ("succeeded" if made == 9 else "over_budget")
    assert run.usage["calls"] == made
    assert run.usage["items"] == made
    held = "a" if made == 0 else "b"
    if made < 9:
        assert (run.steps[held].status, run.steps[held].reason) == ("waiting", "budget")
        assert f"{held}[0]" not in run.steps


def test_a_held_list_goes_on_with_a_larger_budget_and_replays():
    """Too small a raise holds it again; each time is an event with the items that the list has. A replay comes to the same."""
    clock = FakeClock()

    async def drive(rig):
        stopped = await rig.run(plan_of(listed(5)), "r", budget={"items": 2})
        assert (stopped.status, stopped.digest) == ("over_budget", "")
        for items in (4, 5):
            await rig.decisions.raise_budget("r", {"items": items})
            await rig.execution.resume("r")
            run = await rig.execution.wait("r")
            assert run.status == ("over_budget" if items == 4 else "succeeded")
        events = [event async for event in rig.execution.events("r", 0)]
        assert [event.data["items"] for event in events if event.type == "ListHeld"] == [5, 5]
        replayed = await rig.execution.replays.replay("r", keep=False)
        assert replayed.digest == run.digest
        return run

    assert in_rig(drive, clock, working(clock)).output is None


def test_a_held_list_can_be_cancelled_and_blocks_what_comes_after():
    """It counts as a step that has not ended; a cancel ends it, and the run."""
    clock = FakeClock()

    async def drive(rig):
        plan = plan_of(listed(5), call("b", after=["a"]), call("c"))
        stopped = await rig.run(plan, "r", budget={"items": 2})
        assert {path: step.status for path, step in stopped.steps.items()} == {
            "a": "waiting",
            "b": "pending",
            "c": "succeeded",
        }
        await rig.decisions.cancel("r")
        await rig.execution.resume("r")
        return await rig.execution.wait("r")

    run = in_rig(drive, clock, working(clock))
    assert run.status == "cancelled"
    assert (run.steps["a"].status, run.steps["b"].status) == ("cancelled", "cancelled")


def test_lists_inside_lists_that_call_nothing_end_at_the_items():
    """Values cost no call, so no other limit would end a plan of nested lists; the step that holds them waits."""
    inner = {
        "inputs": {},
        "steps": [{"id": "i", "for_each": "${range(1000)}", "set": "${item}"}],
        "output": "${i}",
    }
    plan = plan_of({"id": "p", "plan": "inner", "for_each": "${range(1000)}"}, plans={"inner": inner})
    clock = FakeClock()
    run = in_rig(lambda rig: rig.run(plan, budget={"items": 5000}), clock)
    assert run.status == "over_budget"
    assert run.usage["items"] == 5000
    assert (run.steps["p"].status, run.steps["p"].reason) == ("waiting", "budget")


def test_a_failing_list_is_no_budget_stop():
    """What is no list fails before its items are counted, and a skipped reference skips."""
    clock = FakeClock()
    plan = plan_of({"id": "v", "set": {"n": 1}}, {**listed(1), "for_each": "${v}"})
    run = in_rig(lambda rig: rig.run(plan, budget={"items": 0}), clock, working(clock))
    assert (run.status, run.errors[0].code) == ("failed", "not-a-list")
