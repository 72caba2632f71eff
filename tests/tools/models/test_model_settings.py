"""A model's own settings: how long a request may take, and who is asked if it cannot answer. They hold for prompts, agents and planners alike."""

from __future__ import annotations

import asyncio
import json

import pytest
from firmplan import ConfigError, Engine, Model, Models, Planner, PlanningFailed
from firmplan.testing import HttpError, ScriptedModel, Slow

ASK = {"firmplan": 1, "steps": [{"id": "a", "ask": {"prompt": "Say hi"}}], "output": "${a}"}
PLAN = {"firmplan": 1, "steps": [{"id": "n", "set": 3}], "output": "${n}"}
DOWN = [HttpError(500, headers={"retry-after-ms": "1", "x-should-retry": "false"})] * 20


def at(server, name="scripted", **settings):
    return Model(name, base_url=server.base_url, api_key="x", **settings)


def names(server):
    return [request["model"] for request in server.requests]


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"timeout": 0}, "timeout: expected a duration above 0"),
        ({"timeout": "soon"}, "timeout: expected a duration"),
        ({"timeout": -1}, "timeout"),
        ({"fallback": 3}, "fallback: expected a model's name"),
        ({"fallback": []}, "fallback: expected a model's name"),
        ({"fallback": {"nam": "x"}}, "fallback: expected one of|fallback: expected .*'nam'"),
    ],
)
def test_a_setting_that_is_none_is_refused_where_it_is_written(settings, fault):
    with pytest.raises(ConfigError, match=fault):
        Model("m", **settings)


def test_a_fallback_by_name_is_at_the_same_endpoint():
    model = Model(
        "big",
        base_url="http://127.0.0.1:1/v1",
        api_key="k",
        fallback=["small", {"name": "far", "base_url": "http://127.0.0.2:2/v1"}],
    )
    assert [(each.name, each.base_url, each.api_key) for each in model.resolve_all({})] == [
        ("big", "http://127.0.0.1:1/v1", "k"),
        ("small", "http://127.0.0.1:1/v1", "k"),
        ("far", "http://127.0.0.2:2/v1", "no-key-needed"),
    ]


def asked(work):
    return asyncio.run(work())


def test_a_prompt_is_given_up_when_the_time_of_its_model_is_over():
    async def work():
        async with (
            ScriptedModel([Slow("hi", 5)] * 3) as model,
            Engine([], models={"default": at(model, timeout=0.2)}, store="memory:") as engine,
        ):
            return await engine.run(ASK)

    run = asked(work)
    assert run.steps["a"].error.code == "timeout"
    assert "within 0.2 s" in run.steps["a"].error.message


def test_a_slow_model_gets_the_time_that_it_is_given():
    async def work():
        async with (
            ScriptedModel([Slow("hi", 0.3)]) as model,
            Engine([], models={"default": at(model, timeout="2m")}, store="memory:") as engine,
        ):
            return await engine.run(ASK)

    assert asked(work).output == "hi"


def test_the_fallback_answers_a_prompt_when_the_model_is_down():
    async def work():
        async with ScriptedModel(DOWN) as down, ScriptedModel(["hi"]) as up:
            models = Models(
                {
                    "default": {
                        "name": "big",
                        "base_url": down.base_url,
                        "api_key": "x",
                        "fallback": at(up, "small"),
                    }
                }
            )
            async with Engine([], models=models, store="memory:") as engine:
                return await engine.run(ASK), names(down), names(up)

    run, first, second = asked(work)
    assert (run.output, set(first), second) == ("hi", {"big"}, ["small"])


def test_the_fallback_plans_when_the_model_is_down_and_goes_on_with_it():
    async def work():
        async with ScriptedModel(DOWN) as down, ScriptedModel(["no plan", json.dumps(PLAN)]) as up:
            found = await Planner(at(down, "big", fallback=at(up, "small"))).plan("Count")
            return found, names(down), names(up)

    found, first, second = asked(work)
    assert (found.plan.output, second) == ("${n}", ["small", "small"])
    assert set(first) == {"big"}


def test_a_planner_gives_up_when_the_time_of_its_model_is_over():
    async def work():
        async with ScriptedModel([Slow(json.dumps(PLAN), 5)] * 20) as model:
            with pytest.raises(PlanningFailed) as failed:
                await Planner(at(model, timeout=0.1)).plan("Count")
            return failed.value

    assert "within 0.1 s" in asked(work).message or "longer than 1 s" in asked(work).message


def test_a_wrong_answer_is_no_reason_for_the_fallback():
    async def work():
        async with ScriptedModel(["no json"] * 9) as first, ScriptedModel(["hi"]) as second:
            models = {"default": at(first, fallback=at(second))}
            plan = {**ASK, "steps": [{"id": "a", "ask": {"prompt": "Say 1", "returns": {"type": "integer"}}}]}
            async with Engine([], models=models, store="memory:") as engine:
                return await engine.run(plan), names(second)

    run, asked_second = asked(work)
    assert (run.steps["a"].error.code, asked_second) == ("bad-output", [])
