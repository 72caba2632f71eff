"""A model's own settings: how long a request may take, and who is asked if it cannot answer. They hold for prompts, agents and planners alike."""

from __future__ import annotations

import asyncio
import json

import pytest
from firmplan import ConfigError, Engine, Model, Models, Planner, PlanningFailed, PlanRejected, Secret, tool
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


def test_a_name_is_text():
    with pytest.raises(ConfigError, match="model: expected a model's name as text, or None, found 3"):
        Model(3)


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


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"env": ""}, "api_key: expected a key, or where it is"),
        ({"envv": "X"}, "api_key: expected a key, or where it is"),
        ({"env": "X", "file": "y"}, "api_key: expected a key, or where it is"),
        ({"file": "a", "keyring": "b/c"}, "api_key: a secret: expected one of"),
        (7, "api_key: expected a key, or where it is"),
    ],
)
def test_a_source_of_a_key_that_is_none_is_refused(given, fault):
    with pytest.raises(ConfigError, match=fault):
        Model("m", api_key=given)


def test_a_key_is_read_where_its_model_says(tmp_path):
    """From a variable of any name or a file, when it is used; what is missing is named, and the usual key is not sent in its place."""
    env = {"OPENAI_API_KEY": "usual", "OTHER_KEY": "own"}
    far = {"name": "m", "base_url": "https://models.example.org/v1"}
    assert Model(**far, api_key={"env": "OTHER_KEY"}).resolve(env).api_key == "own"
    assert Model(**far, api_key={"env": "OPENAI_API_KEY"}).resolve(env).api_key == "usual"
    assert Model(**far, api_key=Secret(env="OTHER_KEY")).resolve(env).api_key == "own"
    assert Model(**far).resolve(env).api_key == "usual"
    (tmp_path / "key").write_text("filed\n")
    assert Model(**far, api_key={"file": str(tmp_path / "key")}).resolve(env).api_key == "filed"
    for source, named in (
        ({"env": "NONE_SET"}, "NONE_SET"),
        ({"file": str(tmp_path / "no")}, "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=named):
            Model(**far, api_key=source).resolve(env)
    assert "own" not in repr(Model(**far, api_key={"env": "OTHER_KEY"}).resolve(env))


def test_a_refused_key_is_named_by_its_source(monkeypatch):
    monkeypatch.setenv("OTHER_KEY", "wrong-key")

    async def work():
        async with ScriptedModel([HttpError(401, "wrong-key is no key")]) as model:
            spec = Model("m", model.base_url, {"env": "OTHER_KEY"})
            async with Engine([], models={"default": spec}, store="memory:") as engine:
                return await engine.run(ASK), model.headers

    run, headers = asked(work)
    assert headers[0]["authorization"] == "Bearer wrong-key"
    assert run.errors[0].code == "model-auth"
    assert "OTHER_KEY" in run.errors[0].message
    assert "wrong-key" not in run.errors[0].message


def test_no_plan_may_use_the_key_of_a_model_as_a_secret(monkeypatch):
    """Neither by name nor out of the open environment; also not that of a fallback."""
    monkeypatch.setenv("OTHER_KEY", "own")
    spec = {"default": Model("m", api_key="x", fallback=Model("n", api_key={"env": "OTHER_KEY"}))}
    with pytest.raises(ConfigError, match="OTHER_KEY holds the key of a model"):
        Engine([], models=spec, store="memory:", secrets={"K": Secret(env="OTHER_KEY")})

    @tool(effect="read")
    def show(key: str) -> str:
        """Show."""
        return key

    plan = {"firmplan": 1, "steps": [{"id": "a", "tool": "show", "args": {"key": '${secret("OTHER_KEY")}'}}]}

    async def work():
        async with Engine([show], models=spec, store="memory:", secrets="environment") as engine:
            with pytest.raises(PlanRejected) as refused:
                await engine.run(plan)
            return refused.value.report

    assert [each.code for each in asked(work).errors] == ["unknown-secret"]


@pytest.mark.parametrize(("retries", "requests"), [(0, 1), (1, 2), (None, 3), (4, 5)])
def test_a_request_is_sent_again_as_often_as_its_model_says(retries, requests):
    """For prompts and planners alike."""
    down = [HttpError(503, headers={"retry-after-ms": "1"})] * 20

    async def work():
        async with ScriptedModel(down) as model:
            spec = at(model, retries=retries)
            async with Engine([], models={"default": spec}, store="memory:") as engine:
                run = await engine.run(ASK)
            by_step = len(model.requests)
            with pytest.raises(PlanningFailed):
                await Planner(spec, adapt=False).plan("Say hi", [])
            return run, by_step, len(model.requests) - by_step

    run, by_step, by_planner = asked(work)
    assert run.errors[0].code == "model-unavailable"
    assert (by_step, by_planner) == (requests, requests)


def test_retries_that_are_none_are_refused():
    for wrong in (-1, 1.5, True, "2"):
        with pytest.raises(ConfigError, match="retries"):
            Model("m", retries=wrong)


def test_an_engine_and_its_planner_share_the_concurrency_of_a_model():
    """`max_concurrency` counts requests of steps and of plannings together."""
    flying, most = 0, 0

    async def counted(_request):
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(0.02)
        flying -= 1
        return PLAN if "firmplan" in json.dumps(_request) else "hi"

    async def work():
        async with ScriptedModel(counted) as model:
            spec = at(model, max_concurrency=1)
            async with Engine([], models={"default": spec}, store="memory:", planner=Planner(spec)) as engine:
                steps = [{"id": f"a{each}", "ask": {"prompt": f"Say {each}"}} for each in range(3)]
                runs = await asyncio.gather(
                    engine.run({"firmplan": 1, "steps": steps}),
                    engine.run("Return three"),
                    engine.run("Return 3"),
                )
                return [run.status for run in runs]

    assert asked(work) == ["succeeded"] * 3
    assert most == 1
