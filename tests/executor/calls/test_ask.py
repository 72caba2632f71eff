"""`ask` steps: one prompt, answered over HTTP; what is kept of it, and what fails."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from firmplan.testing import Body, HttpError, ScriptedModel
from firmplan.tools import Models
from firmplan.tools.agents.agent import agent
from rig import Rig, one_run, plan_of, statuses

NOTE = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def asking(**keys):
    return plan_of(
        {"id": "a", "ask": {"prompt": "Say ${inputs.word}", **keys}},
        output="${a}",
        inputs={"word": {"type": "string"}},
    )


def with_model(replies, law, **models):
    """Run a law with an executor whose model answers from a script."""

    async def main():
        async with ScriptedModel(replies) as model:
            spec = {"name": "scripted", "base_url": model.base_url, "api_key": "k"}
            async with Rig([], models=Models({"default": spec, **models})) as rig:
                return await law(rig, model)

    return asyncio.run(main())


def test_an_answer_is_kept_and_stands_for_the_same_prompt():
    """The second run asks nothing; another word is another prompt."""

    async def law(rig, model):
        one = await rig.run(asking(), "r1", inputs={"word": "hi"})
        two = await rig.run(asking(), "r2", inputs={"word": "hi"})
        three = await rig.run(asking(), "r3", inputs={"word": "ho"})
        assert (one.output, two.output, three.output) == ("hello", "hello", "other")
        assert len(model.requests) == 2
        assert (one.usage["model_calls"], two.usage["model_calls"]) == (1, 0)
        assert one.usage["tokens"] > 0
        assert two.steps["a"].reused
        assert two.digest == one.digest
        assert (await rig.execution.replays.replay("r1", keep=False)).digest == one.digest
        assert len(model.requests) == 2

    with_model(["hello", "other"], law)


@pytest.mark.parametrize(("temperature", "asked"), [(None, 3), (0, 1), (0.7, 3)])
def test_samples_are_different_answers_unless_the_temperature_is_zero(temperature, asked):
    """Three items of one prompt."""
    keys = {} if temperature is None else {"temperature": temperature}
    plan = plan_of({"id": "a", "ask": {"prompt": "Say", **keys}, "for_each": "${[1, 2, 3]}"}, output="${a}")

    async def law(rig, model):
        run = await rig.run(plan)
        assert len(model.requests) == asked
        assert run.status == "succeeded"

    with_model(["a", "b", "c"], law)


def test_an_answer_has_the_type_that_was_asked_for():
    """An object, parsed and checked; asked again where it does not fit."""

    async def law(rig, model):
        run = await rig.run(asking(returns=NOTE), inputs={"word": "x"})
        assert run.output == {"n": 3}
        assert len(model.requests) == 2
        assert run.steps["a"].attempts == 1

    with_model([{"n": "three"}, {"n": 3}], law)


def test_a_refusal_of_the_endpoint_is_a_failed_step():
    """Code and message of the endpoint; nothing is kept."""

    async def law(rig, model):
        run = await rig.run(asking(), inputs={"word": "x"})
        assert [(e.step, e.code) for e in run.errors] == [("a", "model-auth")]
        assert (await rig.run(asking(), inputs={"word": "x"})).output == "now"

    with_model([HttpError(401), "now"], law)


def test_a_prompt_that_was_given_a_secret_is_asked_anew_and_keeps_it_to_itself():
    """Neither its key nor what is kept for explanations holds the secret; nor does the journal."""

    @agent
    def greet(key: str) -> str:
        """Say hello to ${key}."""

    plan = plan_of({"id": "a", "tool": "greet", "args": {"key": '${secret("KEY")}'}}, output="${a}")

    async def main():
        async with ScriptedModel(["one", "two"]) as model:
            spec = {"name": "scripted", "base_url": model.base_url, "api_key": "k"}
            options = {"models": Models({"default": spec}), "secrets": {"KEY": "sk-very-secret"}}
            async with Rig([greet], **options) as rig:
                outputs = [(await rig.run(plan, run_id)).output for run_id in ("r1", "r2")]
                assert outputs == ["one", "two"]
                assert "sk-very-secret" in str(model.requests[0])
                dumped = await rig.store._call(lambda: "".join(rig.store._db.iterdump()))
                assert "sk-very-secret" not in dumped
                assert b"sk-very-secret".hex().upper() not in dumped

    asyncio.run(main())


def test_a_prompt_that_cannot_be_made_is_a_failed_step():
    """Whatever goes wrong in making it."""

    def fails(args):
        raise KeyError("no")

    @agent
    def greet(name: str) -> str:
        """Say hello to ${name}."""

    broken = replace(greet, request_of=fails)
    run = one_run(plan_of({"id": "a", "tool": "greet", "args": {"name": "x"}}), broken)
    assert [(e.step, e.code) for e in run.errors] == [("a", "bad-prompt")]


def test_without_a_model_the_step_fails_and_says_what_to_set(monkeypatch):
    """Not the run's machinery, and no exception."""
    for name in ("FIRMPLAN_MODEL", "FIRMPLAN_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    run = one_run(asking(), inputs={"word": "x"})
    (error,) = run.errors
    assert (error.step, error.code) == ("a", "no-model")
    assert "FIRMPLAN_MODEL" in error.message


def test_examples_that_are_not_examples_fail_the_step():
    """They may be computed, so a check cannot see them."""
    plan = plan_of({"id": "l", "set": [1, 2]}, {"id": "a", "ask": {"prompt": "Say", "examples": "${l}"}})

    async def law(rig, model):
        run = await rig.run(plan)
        assert statuses(run) == {"l": "succeeded", "a": "failed"}
        assert run.errors[0].code == "bad-prompt"
        assert model.requests == []

    with_model([], law)


def test_what_failed_attempts_cost_counts():
    """Requests that gave no valid answer cost tokens all the same: a failed step's usage is that of all its attempts."""

    async def law(rig, model):
        run = await rig.run(asking(returns=NOTE), "r1", inputs={"word": "hi"})
        assert run.status == "failed"
        assert run.usage["model_calls"] == len(model.requests)
        assert run.usage["tokens"] > 0

    with_model([{"wrong": 1}] * 12, law)


def spoken(content, **usage):
    """Return a whole chat completion as text, with what `json` spells as an escape."""
    message = {"role": "assistant", "content": content}
    body = {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "half \ud800",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, **usage},
    }
    return Body(json.dumps(body))


@pytest.mark.parametrize("returns", [None, {"type": "array", "items": {"type": "string"}}])
def test_an_answer_with_half_a_character_is_asked_for_again(returns):
    """Models write them when they are cut inside an escape: no value, and no end of the run either."""
    good, bad = ("hello", "half \ud800") if returns is None else ('["hello"]', '["half \ud800"]')
    keys = {} if returns is None else {"returns": returns}

    async def law(rig, model):
        run = await rig.run(asking(**keys), "r", inputs={"word": "hi"})
        assert (run.status, run.output) == ("succeeded", "hello" if returns is None else ["hello"])
        assert run.usage["model_calls"] == 2
        assert (await rig.execution.replays.replay("r", keep=False)).digest == run.digest

    with_model([spoken(bad), spoken(good)], law)


def test_an_answer_that_never_is_whole_fails_the_step():
    """With what was wrong."""

    async def law(rig, model):
        run = await rig.run(asking(), "r", inputs={"word": "hi"})
        (error,) = run.errors
        assert (error.code, "half a character" in error.message) == ("bad-output", True)

    with_model([spoken("half \ud800")] * 5, law)


def test_what_an_endpoint_counts_is_bounded():
    """A count past 64 bits is none that a journal could hold."""

    async def law(rig, model):
        run = await rig.run(asking(), "r", inputs={"word": "hi"})
        assert (run.status, run.usage["tokens"]) == ("succeeded", 10**12 + 1)

    with_model([spoken("hello", prompt_tokens=10**30)], law)
