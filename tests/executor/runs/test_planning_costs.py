"""What planning costs stands in the run, as an event too, and counts against the run's budget."""

from __future__ import annotations

import asyncio
import json

import pytest
from firmplan import Engine, Plan, Planner, PlanningFailed, tool
from firmplan.executor.runs.execution import Execution
from firmplan.testing import ScriptedModel, Slow

made: list[str] = []
TASK = "Tell the price of tea and of milk"


@tool(effect="read", resource="shop")
def price(item: str) -> int:
    """Price of an item in cents."""
    made.append(item)
    if item == "gold":
        raise ValueError("not for sale")
    return len(item)


@tool(effect="read", resource="shop", name="price", reuse_for="1h")
def price_kept(item: str) -> int:
    """Price of an item in cents."""
    made.append(item)
    return len(item)


def drafted(*items, name="price"):
    steps = [{"id": f"s{n}", "tool": name, "args": {"item": item}} for n, item in enumerate(items)]
    return {"firmplan": 1, "task": TASK, "steps": steps, "output": "${s0}"}


GOOD = drafted("tea", "milk")
BAD = drafted("tea", name="prize")
PATCH = {"operations": [{"op": "set", "step": "s0", "at": "args.item", "value": "silver"}]}


def tokens_of(usages):
    return sum(each["prompt_tokens"] + each["completion_tokens"] for each in usages)


def story(script, act, *, store="memory:", library=None, tools=(price,)):
    """Return what `act` comes to with an engine whose planner answers from a script, and the requests."""
    made.clear()

    async def main():
        async with ScriptedModel(script) as model:
            planner = Planner("m", base_url=model.base_url, library=library, adapt=False)
            async with Engine(tools, store=store, planner=planner) as engine:
                return await act(engine), model.requests

    return asyncio.run(main())


def planning_of(run):
    return run.usage["planning"]


def test_the_planning_stands_in_the_run_and_in_its_events(tmp_path):
    """Model calls, tokens, US dollars and seconds, whoever looks at the run; a replay is the same, and asks no planner."""

    async def act(engine):
        run = await engine.run(TASK)
        events = [event async for event in engine.events(run.id)]
        replayed = await engine.replay(run.id)
        bundle = await engine.export(run.id, tmp_path / "run.firmplan")
        far = await engine.replay(bundle)
        return run, events, replayed, far

    (run, events, replayed, far), requests = story([BAD, GOOD], act, store=tmp_path / "s.db")
    planning = planning_of(run)
    assert (run.status, len(requests)) == ("succeeded", 2)
    assert list(planning) == ["model_calls", "tokens", "usd", "seconds"]
    assert (planning["model_calls"], planning["usd"]) == (2, None)
    assert planning["tokens"] > len(json.dumps([request["messages"] for request in requests])) // 8
    assert planning["seconds"] > 0
    assert (run.usage["model_calls"], run.usage["tokens"], run.usage["steps"]) == (0, 0, 2)
    assert [event.type for event in events[:2]] == ["RunStarted", "PlanMade"]
    assert events[1].data == {"source": "model", "usage": planning}
    assert run.to_dict()["usage"]["planning"] == planning
    for again in (replayed, far):
        assert (again.digest, planning_of(again)) == (run.digest, planning)


def test_a_saved_plan_costs_no_request():
    """A planner began the run all the same, and says that it used nothing."""

    async def act(engine):
        return await engine.run(TASK)

    run, requests = story([], act, library=[Plan.model_validate(GOOD)])
    assert requests == []
    assert {**planning_of(run), "seconds": 0} == {"model_calls": 0, "tokens": 0, "usd": 0.0, "seconds": 0}


def test_a_run_of_a_plan_has_no_planning():
    """Nobody planned it."""

    async def act(engine):
        return await engine.run(GOOD)

    run, _ = story([], act)
    assert "planning" not in run.usage


def test_a_planning_that_fails_has_its_cost_too():
    """It was paid for."""

    async def act(engine):
        with pytest.raises(PlanningFailed) as failure:
            await engine.run(TASK, run_id="r")
        return await engine.get("r"), failure.value

    (run, failure), requests = story([BAD] * 9, act)
    assert run.status == "failed"
    assert planning_of(run)["model_calls"] == len(requests)
    assert planning_of(run)["tokens"] == tokens_of([each.usage.to_dict() for each in failure.attempts])


def test_a_resume_at_the_moment_at_which_a_planning_is_released_plans_on(monkeypatch):
    """Whoever sees that the run is over its budget may raise it at once, while the process is still giving the run up."""

    async def act(engine):
        told, goes_on = asyncio.Event(), asyncio.Event()
        release, start = Execution._let_go, Execution.start

        async def late(execution, claimed):
            told.set()
            await goes_on.wait()
            await release(execution, claimed)

        async def started(execution, row, **options):
            if told.is_set():
                goes_on.set()
            return await start(execution, row, **options)

        monkeypatch.setattr(Execution, "_let_go", late)
        monkeypatch.setattr(Execution, "start", started)
        run = await engine.submit(TASK, budget={"model_calls": 1})
        await told.wait()
        assert await engine.status(run.id) == "over_budget"
        return await engine.resume(run.id, budget={"model_calls": 9})

    run, requests = story([BAD, GOOD], act)
    assert (run.status, len(requests)) == ("succeeded", 2)


@pytest.mark.parametrize(("limit", "amount"), [("model_calls", 1), ("tokens", 10), ("usd", 1e-9)])
def test_a_planning_stops_at_its_budget_and_goes_on_with_a_larger_one(limit, amount, tmp_path, monkeypatch):
    """No further request is sent; the run is over its budget, and what was used before counts when it goes on."""
    prices = {"prices": 1, "models": [{"model": "m", "at": "http://127.0.0.1", "input": 1.0, "output": 4.0}]}
    (tmp_path / "prices.json").write_text(json.dumps(prices))
    monkeypatch.setenv("FIRMPLAN_PRICES", str(tmp_path / "prices.json"))

    async def act(engine):
        over = await engine.run(TASK, budget={limit: amount}, run_id="r")
        still = await engine.resume("r")
        first = list(made)
        done = await engine.resume("r", budget={limit: 1_000_000})
        events = [event.type async for event in engine.events("r")]
        return over, still, first, done, events

    (over, still, first, done, events), requests = story([BAD, GOOD], act, store=tmp_path / "s.db")
    for run in (over, still):
        assert (run.status, run.plan, planning_of(run)["model_calls"]) == ("over_budget", None, 1)
        assert planning_of(run)[limit] >= amount
    assert first == []
    assert (done.status, planning_of(done)["model_calls"], len(requests)) == ("succeeded", 2, 2)
    assert planning_of(done)["tokens"] > planning_of(over)["tokens"]
    assert (planning_of(done)["usd"] > planning_of(over)["usd"] > 0) is True
    assert events[:3] == ["RunStarted", "PlanMade", "BudgetRaised"]


@pytest.mark.parametrize("limit", ["tokens", "seconds"])
def test_a_plan_that_came_too_dear_is_kept_and_not_begun(limit):
    """What a request takes is known afterwards only: then no step begins before the budget is raised."""
    amount = {"tokens": 10, "seconds": 1e-9}[limit]
    library = [Plan.model_validate(GOOD)] if limit == "seconds" else None

    async def act(engine):
        over = await engine.run(TASK, budget={limit: amount}, run_id="r")
        first = list(made)
        return over, first, await engine.resume("r", budget={limit: 1_000_000})

    (over, first, done), requests = story([GOOD], act, library=library)
    assert (over.status, over.plan is not None, first) == ("over_budget", True, [])
    assert (done.status, sorted(made)) == ("succeeded", ["milk", "tea"])
    assert planning_of(done) == planning_of(over)
    assert len(requests) == (limit == "tokens")


def test_earlier_results_stand_though_the_planning_passed_the_budget():
    """They cost nothing, nor does a value that is only computed: nothing is called before the budget is raised."""
    steps = [GOOD["steps"][0], {"id": "more", "set": "${s0 + 1}"}, {**GOOD["steps"][1], "after": ["s0"]}]

    async def act(engine):
        await engine.run({"firmplan": 1, "steps": [GOOD["steps"][0]]})
        made.clear()
        over = await engine.run(TASK, budget={"tokens": 10}, run_id="r")
        return over, list(made), await engine.resume("r", budget={"tokens": 1_000_000})

    (over, called, done), _ = story([{**GOOD, "steps": steps}], act, tools=[price_kept])
    assert (over.status, called) == ("over_budget", [])
    assert {path: (step.status, step.reused) for path, step in over.steps.items()} == {
        "s0": ("succeeded", True),
        "more": ("succeeded", False),
        "s1": ("waiting", False),
    }
    assert (done.status, made) == ("succeeded", ["milk"])


def test_a_planning_that_would_last_too_long_is_cut_off():
    """In mid-request; the seconds of the planning count as those of the run do."""

    async def act(engine):
        over = await engine.run(TASK, budget={"seconds": 0.5}, run_id="r")
        return over, await engine.resume("r", budget={"seconds": 1000})

    (over, done), _ = story([Slow(GOOD, 60), GOOD], act)
    assert (over.status, over.plan) == ("over_budget", None)
    assert 0.5 <= planning_of(over)["seconds"] < 60
    assert done.status == "succeeded"
    assert planning_of(done)["seconds"] > planning_of(over)["seconds"]


def test_planning_and_steps_share_a_budget():
    """What the planning used is not there for the steps."""
    asks = [{"id": f"s{n}", "ask": {"prompt": f"Say {n}"}} for n in range(2)]
    plan = {"firmplan": 1, "task": TASK, "steps": asks, "output": "${s1}"}

    async def act(engine):
        over = await engine.run(TASK, budget={"model_calls": 2}, max_concurrency=1, run_id="r")
        return over, await engine.resume("r", budget={"model_calls": 3})

    (over, done), requests = story([plan, "one", "two"], act)
    assert (over.status, over.usage["model_calls"], planning_of(over)["model_calls"]) == ("over_budget", 1, 1)
    assert (done.status, done.usage["model_calls"], len(requests)) == ("succeeded", 2, 3)


def test_patches_cost_and_share_the_budget():
    """Each is planning of the run that goes on with it, on top of what was planned before; steps of the failed run count too."""

    async def act(engine):
        return await engine.run(TASK, replan=2, budget={"model_calls": 2, "steps": 3})

    run, requests = story([drafted("gold"), PATCH], act)
    assert (run.status, run.output, len(requests)) == ("succeeded", 6, 2)
    assert planning_of(run)["model_calls"] == 2

    async def failed(engine):
        return await engine.run(TASK, replan=2, budget={"model_calls": 1})

    run, requests = story([drafted("gold"), PATCH], failed)
    assert (run.status, len(requests)) == ("failed", 1)

    async def few_steps(engine):
        run = await engine.run(TASK, replan=2, budget={"steps": 1})
        return run, await engine.resume(run.id, budget={"steps": 1})

    (over, done), _ = story([drafted("gold"), PATCH], few_steps)
    assert (over.status, done.status, planning_of(done)["model_calls"]) == ("over_budget", "succeeded", 2)


def asking_twice():
    """Return a script whose second answer never comes, and what is set once it was asked for."""
    waiting = asyncio.Event()

    def reply(request):
        if "does not pass its check" in json.dumps(request):
            waiting.set()
            return Slow(GOOD, 60)
        return BAD

    return reply, waiting


def test_a_cancelled_planning_keeps_its_cost():
    """It was paid for."""
    reply, waiting = asking_twice()

    async def act(engine):
        await engine.submit(TASK, run_id="r")
        await waiting.wait()
        return await engine.cancel("r")

    run, _ = story(reply, act)
    assert (run.status, planning_of(run)["model_calls"]) == ("cancelled", 1)


def test_what_a_planning_used_before_its_engine_closed_counts(tmp_path):
    """It is planned again by another engine, within what is left."""
    reply, waiting = asking_twice()

    async def act(engine):
        await engine.submit(TASK, run_id="r", budget={"model_calls": 2})
        await waiting.wait()

    story(reply, act, store=tmp_path / "s.db")

    async def again(engine):
        return await engine.resume("r")

    run, requests = story([BAD, GOOD], again, store=tmp_path / "s.db")
    assert (run.status, planning_of(run)["model_calls"], len(requests)) == ("over_budget", 2, 1)
