"""The engine's own budgets: defaults for runs whose caller sets none, and ceilings that no caller passes; a run keeps what it began with."""

from __future__ import annotations

import asyncio

import pytest
from firmplan import ConfigError, Engine, InputRejected, Planner
from firmplan.executor import Header
from firmplan.testing import ScriptedModel
from firmplan.tools import tool
from rig import plan_of


@tool(effect="read", version=1)
def look(x: int) -> int:
    """Look."""
    return x


@tool(effect="read", version=1)
def broken(x: int) -> int:
    """Fail."""
    raise ValueError(f"{x}")


def chain(count, name="look"):
    return plan_of(*[{"id": f"s{n}", "tool": name, "args": {"x": n}} for n in range(count)])


def budget_in(engine, run_id):
    """The budget in the header of a run, as the store has it."""

    async def read():
        return Header.from_dict((await engine._opened.execution.archive.row(run_id)).header).budget

    return asyncio.run_coroutine_threadsafe(read(), engine._background.loop).result()


def test_an_engine_without_settings_has_no_limits():
    with Engine([look], store="memory:") as engine:
        run = engine.run_sync(chain(3))
        assert (run.status, budget_in(engine, run.id), engine.budget_for()) == ("succeeded", {}, {})


def test_a_default_counts_where_the_caller_says_nothing():
    """A caller may set more or less than a default; other names keep theirs."""
    with Engine([look], store="memory:", budget={"steps": 2, "seconds": 60}) as engine:
        assert engine.run_sync(chain(3)).status == "over_budget"
        run = engine.run_sync(chain(3), budget={"steps": 5})
        assert run.status == "succeeded"
        assert budget_in(engine, run.id) == {"steps": 5, "seconds": 60}


def test_a_ceiling_is_passed_by_nobody():
    """Not by `run`, `submit` or `resume`; up to it all may ask. Without a wish the ceiling is the limit."""
    with Engine([look], store="memory:", budget_max={"steps": 2}) as engine:
        for start in (engine.run_sync, engine.submit_sync):
            with pytest.raises(
                InputRejected, match=r"budget: 'steps': expected at most 2, the ceiling .* found 3"
            ):
                start(chain(3), budget={"steps": 3})
        run = engine.run_sync(chain(3), budget={"steps": 1})
        assert (run.status, run.usage["steps"]) == ("over_budget", 1)
        with pytest.raises(InputRejected, match="expected at most 2"):
            engine.resume_sync(run.id, budget={"steps": 3})
        assert engine.resume_sync(run.id, budget={"steps": 2}).usage["steps"] == 2
        assert engine.run_sync(chain(3)).usage["steps"] == 2
        assert engine.run_sync(chain(2)).status == "succeeded"


def test_forks_and_retries_are_new_runs_under_the_ceilings():
    """A retry keeps the limits of the ended run, as far as they are not above the ceilings; a fork has the defaults."""
    with Engine([look, broken], store="memory:", budget={"calls": 9}, budget_max={"steps": 4}) as engine:
        plan = plan_of(
            {"id": "a", "tool": "look", "args": {"x": 1}}, {"id": "b", "tool": "broken", "args": {"x": 1}}
        )
        run = engine.run_sync(plan, budget={"steps": 3})
        assert run.status == "failed"
        assert budget_in(engine, engine.retry_sync(run.id).id) == {"steps": 3, "calls": 9}
        assert budget_in(engine, engine.fork_sync(run.id, at="a").id) == {"steps": 4, "calls": 9}


def test_a_run_keeps_the_budget_that_it_began_with(tmp_path):
    """Under an engine with other budgets it resumes and replays with its own; a retry there is a new run, under the new ceiling."""
    store = tmp_path / "s.db"
    with Engine([look, broken], store=store) as engine:
        free = engine.run_sync(chain(4))
        failed = engine.run_sync(chain(4, "broken"), budget={"steps": 9})
    with Engine([look, broken], store=store, budget={"steps": 1}) as engine:
        stopped = engine.run_sync(chain(2, "look"), reuse="off")
        assert stopped.status == "over_budget"
    with Engine([look, broken], store=store, budget_max={"steps": 2}) as engine:
        assert engine.replay_sync(free.id).digest == free.digest
        assert budget_in(engine, free.id) == {}
        assert engine.resume_sync(stopped.id).status == "over_budget"
        assert budget_in(engine, engine.retry_sync(failed.id).id) == {"steps": 2}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budget": {"step": 1}}, r"budget: expected any of calls, items, steps, .*did you mean 'steps'"),
        (
            {"budget_max": {"step": 1}},
            r"budget_max: expected any of calls, items, steps, .*did you mean 'steps'",
        ),
        ({"budget": {"steps": -1}}, "budget: 'steps': expected a number from 0, found the integer -1"),
        ({"budget_max": {"usd": float("nan")}}, "budget_max: 'usd': expected a number from 0"),
        ({"budget_max": {"seconds": "60"}}, "budget_max: 'seconds': expected a number from 0"),
        ({"budget": {"calls": True}}, "budget: 'calls': expected a number from 0"),
        ({"budget_max": [1]}, "budget_max: expected amounts by name"),
        (
            {"budget": {"items": 5}, "budget_max": {"items": 4}},
            "budget: 'items': expected at most 4, the ceiling of budget_max, found 5",
        ),
    ],
)
def test_a_wrong_setting_is_refused_at_once(settings, message):
    with pytest.raises(ConfigError, match=message):
        Engine([look], store="memory:", **settings)


PLAN = {
    "firmplan": 1,
    "task": "look",
    "steps": [{"id": f"s{n}", "tool": "look", "args": {"x": n}} for n in range(3)],
}


@pytest.mark.parametrize(
    ("settings", "given", "early"),
    [
        ({}, None, 3),
        ({"budget_max": {"steps": 100, "seconds": 1000}}, None, 3),
        ({"budget_max": {"steps": 2}}, None, 2),
        ({"budget_max": {"tokens": 1_000_000}}, None, 0),
        ({"budget_max": {"steps": 100}}, {"steps": 50}, 0),
    ],
)
def test_the_engines_own_budget_lets_steps_start_early(settings, given, early, monkeypatch):
    """A caller's budget is exact, so nothing starts before the plan is whole; the engine's own is a guard, and bounds the early calls."""
    from firmplan.executor.calls.early import EarlySteps

    begun = []
    begin = EarlySteps._follow
    monkeypatch.setattr(
        EarlySteps, "_follow", lambda self, call: begun.append(call.command.step) or begin(self, call)
    )
    with ScriptedModel([PLAN]) as model:
        planner = Planner("m", base_url=model.base_url, api_key="k")
        with Engine([look], store="memory:", planner=planner, **settings) as engine:
            run = engine.run_sync("look", stream=True, budget=given)
    assert len(set(begun)) == early
    assert run.status == ("over_budget" if settings.get("budget_max") == {"steps": 2} else "succeeded")
