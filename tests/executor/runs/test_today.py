"""An input with `"x-given": "today"` has the date of the engine's clock when the run begins; the run keeps it, and whoever starts it may give another."""

from __future__ import annotations

import asyncio

import pytest
from firmplan import Engine, InputRejected, Planner, check
from firmplan.testing import FakeClock, ScriptedModel

DAY_S = 86_400
TODAY = {"type": "string", "format": "date", "x-given": "today"}
PLAN = {
    "firmplan": 1,
    "task": "Which day is it in a week?",
    "inputs": {"today": TODAY, "days": {"type": "integer", "default": 7}},
    "steps": [{"id": "day", "set": "${date(inputs.today) + timedelta(days=inputs.days)}"}],
    "output": "${day}",
}


def with_engine(work, script=(), start=0.0):
    async def main():
        clock = FakeClock(start)
        async with ScriptedModel(list(script)) as model:
            planner = Planner("m", base_url=model.base_url)
            async with Engine([], store="memory:", planner=planner, clock=clock) as engine:
                return await work(engine, clock)

    return asyncio.run(main())


def test_a_run_gets_the_day_and_keeps_it():
    """A replay, a fork and a repetition of the same run the next day have its day; a new run has the new one."""

    async def work(engine, clock):
        run = await engine.run(PLAN, run_id="r")
        clock.advance(DAY_S)
        same = await engine.run(PLAN, run_id="r")
        replayed = await engine.replay("r")
        forked = await engine.fork("r", inputs={"days": 1})
        forked = await engine.resume(forked.id)
        return run, same, replayed, forked, await engine.run(PLAN)

    run, same, replayed, forked, other = with_engine(work)
    assert (run.inputs["today"], run.output) == ("1970-01-01", "1970-01-08")
    assert (same.output, same.digest) == (run.output, run.digest)
    assert replayed.digest == run.digest
    assert forked.output == "1970-01-02"
    assert other.output == "1970-01-09"


def test_whoever_starts_a_run_may_give_the_day():
    async def work(engine, clock):
        run = await engine.run(PLAN, inputs={"today": "2026-12-01"}, run_id="r")
        with pytest.raises(InputRejected, match="other inputs"):
            await engine.run(PLAN, inputs={"today": "2026-12-02"}, run_id="r")
        return run

    assert with_engine(work).output == "2026-12-08"


def test_a_planned_task_gets_it_at_once_and_from_a_saved_plan():
    """The model declares the input as the prompt says, with no default, and no fault comes of it; the day stands in no prompt."""
    saved = {**PLAN, "task": "The day in {days} days"}

    async def work(engine, clock):
        planned = await engine.run("Which day is it in a week?")
        await engine.save_plan("day", saved)
        return planned, await engine.run("The day in 3 days")

    planned, found = with_engine(work, [PLAN])
    assert (planned.status, planned.output) == ("succeeded", "1970-01-08")
    assert (found.status, found.output) == ("succeeded", "1970-01-04")


def test_another_word_is_refused():
    report = check({**PLAN, "inputs": {**PLAN["inputs"], "today": {**TODAY, "x-given": "yesterday"}}})
    assert [(each.code, each.path) for each in report.errors] == [("bad-input", "$.inputs.today.x-given")]
