"""How often saved plans answered tasks, and how often they only seemed to: told by what became of each."""

from __future__ import annotations

import asyncio
import json

import pytest
from firmplan import Engine, Planner, PlanningFailed, ToolError, tool
from firmplan.testing import ScriptedModel


@tool(effect="read")
def weather(city: str) -> float:
    """Temperature in a city."""
    if city == "Atlantis":
        raise ToolError("it is under water")
    return 1.0


@tool(effect="write", approval="always")
def send(city: str) -> str:
    """Send word of a city."""
    return city


def plan_of(task, name="weather"):
    return {
        "firmplan": 1,
        "task": task,
        "inputs": {"city": {"type": "string"}},
        "steps": [{"id": "w", "tool": name, "args": {"city": "${inputs.city}"}}],
        "output": "${w}",
    }


WARM = plan_of("Tell how warm the weather of {city} is")
NEAR = "Is the weather warm? Tell of Rome."
FILLED = {"reasoning": ".", "fits": True, "inputs": {"city": "Rome"}}
NOT = {"reasoning": ".", "fits": False, "inputs": {}}
GOOD = {"firmplan": 1, "steps": [{"id": "x", "set": 1}], "output": "${x}"}


def uses_after(work, script=(), saved=WARM):
    """Return the uses of a saved plan after work with an engine."""

    async def main():
        async with ScriptedModel(script) as model:
            planner = Planner("m", base_url=model.base_url)
            async with Engine([weather, send], store="memory:", planner=planner) as engine:
                await engine.save_plan("warm", saved)
                await work(engine)
                return (await engine.plan_uses())["warm"].to_dict()

    return asyncio.run(main())


def counts(hits=0, check=0, model=0, run=0):
    by = {"check": check, "model": model, "run": run}
    return {"hits": hits, "false_hits": check + model + run, "false_hits_by": by}


def test_an_answer_is_a_hit():
    """Planned or run, by its pattern or filled in by a model."""

    async def work(engine):
        await engine.plan("Tell how warm the weather of Rome is")
        assert (await engine.run("Tell how warm the weather of Oslo is")).status == "succeeded"
        assert (await engine.run(NEAR, stream=True)).status == "succeeded"

    assert uses_after(work, [FILLED]) == counts(hits=3)
    assert uses_after(lambda engine: asyncio.sleep(0)) == counts()


def test_an_answer_whose_run_fails_is_none():
    """However it was found; other uses stay."""

    async def work(engine):
        for city in ("Atlantis", "Rome"):
            await engine.run(f"Tell how warm the weather of {city} is")

    assert uses_after(work) == counts(hits=1, run=1)


def test_a_person_says_no_by_denying_or_cancelling():
    """A run that waits is a hit until somebody stops it."""
    saved = plan_of("Send word of {city}", "send")

    async def waits(engine):
        assert (await engine.run("Send word of Rome", run_id="r")).status == "waiting"

    async def denied(engine):
        await waits(engine)
        await engine.deny("r", "w", by="me", reason="not what I meant")
        await engine.resume("r")

    async def cancelled(engine):
        await waits(engine)
        await engine.cancel("r")
        await engine.resume("r")

    assert uses_after(waits, saved=saved) == counts(hits=1)
    assert uses_after(denied, saved=saved) == counts(run=1)
    assert uses_after(cancelled, saved=saved) == counts(run=1)


def test_a_model_says_no():
    """A plan is written instead; also where no plan comes of it."""

    async def work(engine):
        await engine.run(NEAR)
        with pytest.raises(PlanningFailed):
            await engine.plan(f"{NEAR} And of Oslo.")

    assert uses_after(work, [NOT, GOOD, NOT, *["no"] * 9]) == counts(model=2)


def test_plans_of_a_library_are_counted_too(tmp_path):
    """By the name of their file; where the store has a plan of that name, it is meant."""
    (tmp_path / "tell.json").write_text(json.dumps(plan_of("Tell of {city}")))
    (tmp_path / "warm.json").write_text(json.dumps(plan_of("Is {city} warm")))

    async def main():
        async with Engine([weather], store="memory:", planner=Planner(library=tmp_path)) as engine:
            await engine.save_plan("warm", WARM)
            for task in (
                "Tell of Rome",
                "Tell of Oslo",
                "Is Rome warm?",
                "Tell how warm the weather of Rome is",
            ):
                await engine.plan(task)
            return {name: uses.to_dict() for name, uses in (await engine.plan_uses()).items()}

    assert asyncio.run(main()) == {"tell": counts(hits=2), "warm": counts(hits=1)}


def test_a_plan_that_is_saved_anew_starts_anew():
    """Its uses are those of the plan under its name now; the old plan's come back with it."""

    async def work(engine):
        await engine.plan("Tell how warm the weather of Rome is")
        await engine.save_plan("warm", plan_of("Say how warm {city} is"))
        assert (await engine.plan_uses())["warm"].to_dict() == counts()
        await engine.plan("Say how warm Rome is")
        await engine.plan("Say how warm Oslo is")
        assert (await engine.plan_uses())["warm"].to_dict() == counts(hits=2)
        await engine.save_plan("warm", WARM)

    assert uses_after(work) == counts(hits=1)
