"""A plan that asks a model which nobody can ask is refused before anything runs."""

from __future__ import annotations

import asyncio

import pytest
from firmplan import Engine, Model, Planner, PlanRejected, agent, check, tool
from firmplan.testing import ScriptedModel

HERE = "http://127.0.0.1:9/v1"  # nothing answers there: no test of this file may ask it


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    for name in ("FIRMPLAN_MODEL", "FIRMPLAN_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def written():
    return []


@pytest.fixture
def note(written):
    @tool(effect="write", idempotent=True, resource="notes")
    def note(text: str) -> str:
        """Write a note."""
        written.append(text)
        return text

    return note


@agent(model="small")
def classify(text: str) -> str:
    """Name the topic of ${text}."""


@tool(effect="read", guard=[{"judge": "It is polite", "model": "judge"}])
def greeting() -> str:
    """Return a greeting."""
    return "hi"


def plan_of(*steps):
    return {"firmplan": 1, "steps": [{"id": "w", "tool": "note", "args": {"text": "a"}}, *steps]}


ASK = {"id": "b", "ask": {"prompt": "Hi ${w}"}}


def faults(report):
    return [(each.code, each.path) for each in report.errors]


def test_no_model_is_a_fault_before_the_write(note, written):
    """The report names the step and says what to set; the write has not happened."""
    with Engine([note], store="memory:") as engine:
        with pytest.raises(PlanRejected) as refused:
            engine.run_sync(plan_of(ASK))
        (problem,) = refused.value.report.errors
        assert (problem.code, problem.path) == ("unknown-model", "$.steps[1].ask")
        assert "step 'b'" in problem.message
        assert "FIRMPLAN_MODEL" in problem.hint
        assert faults(engine.check_plan_sync(plan_of(ASK))) == [("unknown-model", "$.steps[1].ask")]
    assert written == []


@pytest.mark.parametrize(
    ("step", "place"),
    [
        ({"id": "b", "ask": {"prompt": "Hi ${w}", "model": "smal"}}, ".ask.model"),
        (
            {"id": "b", "ask": {"prompt": "Hi ${w}", "guard": [{"judge": "x", "model": "no"}]}},
            ".ask.guard[0].model",
        ),
        ({"id": "b", "tool": "classify", "args": {"text": "${w}"}}, ".tool"),
        ({"id": "b", "tool": "greeting"}, ".tool"),
        ({"id": "b", "agent": {"goal": "x", "tools": ["greeting"]}}, ".agent.tools[0]"),
        ({"id": "b", "plan_for": "x", "tools": ["classify"]}, ".tools[0]"),
    ],
)
def test_every_place_that_asks_a_model_is_looked_at(step, place, note):
    """Also judges, agents, tools of agent steps, and tools of parts that are planned later."""
    known = {"default": Model("m", base_url=HERE)}
    planner = Planner("m", base_url=HERE)
    with Engine([note, classify, greeting], store="memory:", models=known, planner=planner) as engine:
        report = engine.check_plan_sync(plan_of(step))
    assert faults(report) == [("unknown-model", f"$.steps[1]{place}")]


def test_the_nearest_name_is_told(note):
    known = {name: Model("m", base_url=HERE) for name in ("default", "small")}
    step = {"id": "b", "ask": {"prompt": "Hi ${w}", "model": "smal"}}
    with Engine([note], store="memory:", models=known) as engine:
        (problem,) = engine.check_plan_sync(plan_of(step)).errors
    assert problem.hint == "did you mean 'small'?"


def test_plan_for_needs_the_model_of_the_planner(note):
    """It may have another one than the steps."""
    step = {"id": "b", "plan_for": "x", "tools": ["note"]}
    known = {"default": Model("m", base_url=HERE)}
    with Engine([note], store="memory:", models=known) as engine:
        assert faults(engine.check_plan_sync(plan_of(step))) == [("unknown-model", "$.steps[1].plan_for")]
    with Engine([note], store="memory:", planner=Planner("m", base_url=HERE)) as engine:
        assert engine.check_plan_sync(plan_of(step)).ok


def test_a_check_without_an_engine_knows_only_what_it_is_told(note):
    assert check(plan_of(ASK), [note]).ok
    assert check(plan_of(ASK), [note], models=["default"]).ok
    assert faults(check(plan_of(ASK), [note], models=["small"])) == [("unknown-model", "$.steps[1].ask")]


def test_a_missing_key_is_a_fault_unless_only_stored_answers_count(note):
    """What is only saved, or runs from stored answers alone, asks nobody; an unknown name is a fault there, too."""
    away = {"default": Model("m", base_url="https://models.example/v1")}
    odd = {"id": "b", "ask": {"prompt": "Hi ${w}", "model": "odd"}}
    with Engine([note], store="memory:", models=away) as engine:
        (problem,) = engine.check_plan_sync(plan_of(ASK)).errors
        assert problem.code == "unknown-model"
        assert "OPENAI_API_KEY" in problem.hint
        engine.save_plan_sync("greet", plan_of(ASK))
        with pytest.raises(PlanRejected):
            engine.save_plan_sync("greet", plan_of(odd))
        run = engine.run_sync(plan_of(ASK), reuse="only")
        assert [(each.step, each.code) for each in run.errors] == [("b", "not-reusable")]
        with pytest.raises(PlanRejected):
            engine.run_sync({"firmplan": 1, "steps": [{"id": "p", "plan": "greet"}]})


def test_what_asks_nobody_needs_no_model(note, tmp_path, monkeypatch):
    """A replay, a fork of a run whose answer stands, and a run from stored answers alone."""
    asyncio.run(_asking_nobody(note, tmp_path / "f.db", monkeypatch))


async def _asking_nobody(note, path, monkeypatch):
    monkeypatch.setenv("GREETING_KEY", "k")
    async with ScriptedModel(["Hello"]) as model:
        known = {"default": Model("m", base_url=model.base_url, api_key={"env": "GREETING_KEY"})}
        async with Engine([note], store=path, models=known) as engine:
            run = await engine.run(plan_of(ASK, {"id": "c", "set": "${b}"}))
    async with Engine([note], store=path) as engine:
        assert (await engine.replay(run.id)).digest == run.digest
        forked = await engine.fork(run.id, at="c")
        assert forked.status == "succeeded", forked.errors
    monkeypatch.delenv("GREETING_KEY")
    async with Engine([note], store=path, models=known) as engine:
        with pytest.raises(PlanRejected):
            await engine.run(plan_of(ASK))
        again = await engine.run(plan_of(ASK), reuse="only")
        assert again.steps["b"].reused


def test_a_planner_repairs_a_model_that_it_made_up(note):
    """The fault goes back with the names that there are."""
    asyncio.run(_repaired(note))


async def _repaired(note):
    bad = plan_of({"id": "b", "ask": {"prompt": "Hi ${w}", "model": "gtp"}})
    async with ScriptedModel([{**bad, "output": "${b}"}, {**plan_of(ASK), "output": "${b}"}]) as model:
        planner = Planner("m", base_url=model.base_url)
        async with Engine([note], store="memory:", planner=planner) as engine:
            plan = await engine.plan("Note a and greet")
        assert plan.steps[1].ask.model is None
        sent = model.requests[-1]["messages"][-1]["content"]
        assert "no model is called 'gtp'" in sent
        assert "default" in sent
