"""Contract, 1 and 2: model calls over HTTP: `@agent` and `ask` steps."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from firmplan import ConfigError, Engine, PlanRejected, Run, agent, check
from firmplan.testing import Cut, HttpError, Refusal, ScriptedModel, Text, Truncated, unmarked
from public import call, once, plan, within
from pydantic import BaseModel


class Queue(StrEnum):
    BILLING = "billing"
    SUPPORT = "support"


class Triage(BaseModel):
    queue: Queue
    urgency: int


@agent
def classify(ticket: str) -> Triage:
    """Decide the queue and urgency of this support ticket:
    ${ticket}"""  # noqa: D205, D209, D415  # a prompt


@agent(temperature=0, max_tokens=50, retries=1)
def shorten(text: str, words: int = 5) -> str:
    """Shorten to ${words} words: ${text}."""


GOOD = {"queue": "billing", "urgency": 3}
STEPS = plan(call("c", "classify", args={"ticket": "Where is my money?"}), output="${c}")


def at(model: ScriptedModel, **more: Any) -> dict[str, Any]:
    return {"models": {"default": {"name": "small", "base_url": model.base_url, "api_key": "k"}, **more}}


def asked(
    replies: Any, source: Any, store: Path, *, tools: Any = (classify, shorten), **options: Any
) -> tuple[Run, list[dict[str, Any]]]:
    """Run a plan against a scripted model; return the run and the requests."""
    with ScriptedModel(replies) as model:
        run = once(list(tools), source, store, engine=at(model), **options)
    return run, model.requests


def said(request: dict[str, Any]) -> str:
    return "\n".join(str(message["content"]) for message in request["messages"])


def test_an_agent_is_a_model_tool_with_structured_output(tmp_path: Path):
    """`@agent` turns a typed function whose docstring is the prompt template into a `model` tool."""
    assert classify.effect == "model"
    assert list(classify.parameters["properties"]) == ["ticket"]
    run, requests = asked([GOOD], STEPS, tmp_path / "s.db")
    assert (run.status, run.output) == ("succeeded", GOOD)
    assert len(requests) == 1
    assert requests[0]["model"] == "small"
    assert "Where is my money?" in said(requests[0])
    assert "Decide the queue and urgency" in said(requests[0])
    assert "${" not in said(requests[0])


def test_what_is_none_is_not_sent(tmp_path: Path):
    """`temperature=None`, `max_tokens=None`: `None` is not sent."""
    _, requests = asked([GOOD], STEPS, tmp_path / "s.db")
    assert "temperature" not in requests[0]
    assert not {"max_tokens", "max_completion_tokens"} & set(requests[0])
    source = plan(call("c", "shorten", args={"text": "many words"}), output="${c}")
    run, requests = asked(["few"], source, tmp_path / "s.db")
    assert run.output == "few"
    assert requests[0]["temperature"] == 0
    assert 50 in (requests[0].get("max_tokens"), requests[0].get("max_completion_tokens"))
    assert "Shorten to" in said(requests[0])


def test_an_answer_is_reused_by_content_key(tmp_path: Path):
    """`model`: reuse in a later run: by content key."""
    asked([GOOD], STEPS, tmp_path / "s.db")
    with ScriptedModel([{"queue": "support", "urgency": 1}]) as model:
        other = plan(call("c", "classify", args={"ticket": "Hello"}), output="${c}")
        run = once([classify], other, tmp_path / "s.db", engine=at(model))
        assert run.steps["c"].reused is False
        again = once([classify], other, tmp_path / "s.db", engine=at(model))
        assert again.steps["c"].reused is True
        assert again.output == {"queue": "support", "urgency": 1}
        assert again.usage["model_calls"] == 0
        assert len(model.requests) == 1


def test_a_key_names_the_model_and_base_url_never_an_alias(tmp_path: Path):
    """A `model` key names the resolved model and base URL, never an alias."""
    with ScriptedModel(lambda _: GOOD) as model:
        spec = {"name": "small", "base_url": model.base_url, "api_key": "k"}
        once([classify], STEPS, tmp_path / "s.db", engine={"models": {"default": spec}})
        big = once(
            [classify], STEPS, tmp_path / "s.db", engine={"models": {"default": {**spec, "name": "big"}}}
        )
        assert big.steps["c"].reused is False
        back = once([classify], STEPS, tmp_path / "s.db", engine={"models": {"default": spec}})
        assert back.steps["c"].reused is True
        assert [request["model"] for request in model.requests] == ["small", "big"]


def test_samples_are_several_answers_unless_temperature_is_zero(tmp_path: Path):
    """Unless temperature is 0 it also holds item index and iteration, so that five samples are five answers."""
    answers = iter(range(100))
    source = plan(
        {"id": "s", "ask": {"prompt": "A number?", "returns": {"type": "integer"}}, "for_each": [0, 0, 0]},
        output="${s}",
    )
    with ScriptedModel(lambda _: next(answers)) as model:
        run = once([], source, tmp_path / "s.db", engine=at(model))
        assert sorted(run.output) == [0, 1, 2]
        again = once([], source, tmp_path / "s.db", engine=at(model))
        assert again.output == run.output
        assert again.steps["s"].reused is True
        cold = plan(
            {
                "id": "s",
                "ask": {"prompt": "A number?", "returns": {"type": "integer"}, "temperature": 0},
                "for_each": [0, 0, 0],
            },
            output="${s}",
        )
        assert len(set(once([], cold, tmp_path / "s.db", engine=at(model)).output)) == 1
        assert len(model.requests) == 4


def test_an_answer_that_does_not_fit_is_asked_for_again(tmp_path: Path):
    """`retries=2`: an answer that does not fit is asked for again."""
    bad = {"queue": "nowhere", "urgency": 3}
    run, requests = asked([bad, {"queue": "billing", "urgency": "high"}, GOOD], STEPS, tmp_path / "s.db")
    assert (run.status, run.output) == ("succeeded", GOOD)
    assert len(requests) == 3
    assert run.usage["model_calls"] == 3
    run, requests = asked([bad] * 9, STEPS, tmp_path / "t.db")
    assert run.status == "failed"
    assert len(requests) == 3
    assert run.errors[0].step == "c"


@pytest.mark.parametrize("reply", [Refusal(), Truncated(GOOD)])
def test_refusals_and_truncated_answers_fail_and_are_not_reused(reply: Any, tmp_path: Path):
    """Never reused: errors, refusals, truncated model output."""
    run, _ = asked([reply] * 9, STEPS, tmp_path / "s.db")
    assert run.status == "failed"
    again, requests = asked([GOOD], STEPS, tmp_path / "s.db")
    assert again.output == GOOD
    assert len(requests) == 1


def test_errors_of_the_endpoint_fail_the_step_or_are_retried(tmp_path: Path):
    """Transport retries happen; a wrong key is a failure of the step, not an exception."""
    run, requests = asked([HttpError(401)] * 9, STEPS, tmp_path / "s.db")
    assert run.status == "failed"
    assert run.errors[0].step == "c"
    assert len(requests) == 1
    run, requests = asked([HttpError(503), Cut(GOOD), GOOD], STEPS, tmp_path / "t.db")
    assert (run.status, run.output) == ("succeeded", GOOD)
    assert len(requests) == 3


def test_on_error_handles_a_model_that_fails(tmp_path: Path):
    """`on_error` .. handle failures."""
    source = plan(
        call("c", "classify", args={"ticket": "x"}, on_error={"value": {"queue": "support", "urgency": 0}}),
        output="${c.queue}",
    )
    run, _ = asked([Refusal()] * 9, source, tmp_path / "s.db")
    assert (run.status, run.output) == ("succeeded", "support")


def test_an_ask_step_returns_text_unless_it_says_otherwise(tmp_path: Path):
    """`ask`: `prompt`; optional `returns` (JSON Schema; default string), `model`, `system`, `examples`, .."""
    source = plan(
        {"id": "a", "ask": {"prompt": "Say hello to ${inputs.who}", "system": "You are ${inputs.mood}."}},
        {
            "id": "b",
            "ask": {
                "prompt": "List two",
                "returns": {"$ref": "#/types/Note"},
                "temperature": 0.5,
                "max_tokens": 77,
                "examples": [{"input": "List one", "output": {"text": "t", "places": ["p"]}}],
            },
        },
        inputs={"who": {"type": "string"}, "mood": {"type": "string"}},
        types={
            "Note": {
                "type": "object",
                "properties": {
                    "text": {"type": "string"},
                    "places": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["text", "places"],
            }
        },
        output=["${a}", "${b.places[0]}"],
    )
    answers = {"hello": "Hello Bob", "List": {"text": "t", "places": ["x", "y"]}}
    run, requests = asked(
        lambda request: answers["hello" if "hello" in said(request) else "List"],
        source,
        tmp_path / "s.db",
        inputs={"who": "Bob", "mood": "kind"},
    )
    run.raise_for_status()
    assert run.output == ["Hello Bob", "x"]
    hello = next(request for request in requests if "hello" in said(request))
    assert "Bob" in said(hello)
    assert "You are kind." in unmarked(said(hello))
    other = next(request for request in requests if "List two" in said(request))
    assert other["temperature"] == 0.5
    assert "List one" in said(other)


def test_data_in_a_prompt_is_no_template(tmp_path: Path):
    """Only the plan's own strings are templates; data that flows is never scanned."""
    source = plan(
        {"id": "a", "ask": {"prompt": "Repeat ${inputs.x}"}},
        call("c", "classify", args={"ticket": "${inputs.x}"}),
        inputs={"x": {"type": "string"}},
        output="${a}",
    )
    run, requests = asked(
        lambda request: GOOD if "Decide" in said(request) else "${secret('K')}",
        source,
        tmp_path / "s.db",
        inputs={"x": "${inputs.x} ${ticket}"},
    )
    run.raise_for_status()
    assert run.output == "${secret('K')}"
    assert all("${inputs.x} ${ticket}" in said(request) for request in requests)


def test_text_around_json_is_understood(tmp_path: Path):
    """Structured output from any OpenAI-compatible endpoint."""
    run, _ = asked([Text("Sure!\n```json\n" + json.dumps(GOOD) + "\n```")], STEPS, tmp_path / "s.db")
    assert run.output == GOOD


def test_usage_counts_calls_and_tokens(tmp_path: Path):
    """`usage`; `budget`: any of `steps model_calls tokens usd seconds`."""
    run, _ = asked([GOOD], STEPS, tmp_path / "s.db")
    assert run.usage["model_calls"] == 1
    assert run.usage["tokens"] > 0
    assert run.usage["steps"] == 1


def test_an_agent_without_a_prompt_or_with_a_wrong_one_is_a_config_error():
    """`@agent`: whose docstring is the prompt template (`${parameter}`)."""
    with pytest.raises(ConfigError):

        @agent
        def silent(x: str) -> str: ...

    with pytest.raises(ConfigError):

        @agent
        def wrong(x: str) -> str:
            """Say ${y}."""

    for options in (
        {"temperature": -1},
        {"max_tokens": 0},
        {"retries": -1},
        {"model": ""},
        {"examples": "x"},
    ):
        with pytest.raises(ConfigError):

            @agent(**options)
            def said_wrongly(x: str) -> str:
                """Say ${x}."""


def test_models_may_be_named_by_alias(tmp_path: Path):
    """`@agent(model=..)`, `ask.model`, `Engine(models=)`."""

    @agent(model="cheap")
    def guess(x: str) -> str:
        """Guess ${x}."""

    with ScriptedModel(lambda _: "answer") as model:
        spec = {"name": "tiny", "base_url": model.base_url, "api_key": "k"}
        source = plan(
            call("a", "guess", args={"x": "1"}),
            {"id": "b", "ask": {"prompt": "P", "model": "cheap"}},
            output="${a}",
        )
        run = once([guess], source, tmp_path / "s.db", engine=at(model, cheap=spec))
        run.raise_for_status()
        assert [request["model"] for request in model.requests] == ["tiny", "tiny"]


def test_no_model_configured_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No model configured: one message, what to do, before anything runs."""
    for name in ("FIRMPLAN_MODEL", "FIRMPLAN_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert check(STEPS, [classify]).ok
    with pytest.raises(PlanRejected) as refused:
        once([classify], STEPS, tmp_path / "s.db")
    (problem,) = refused.value.problems
    assert problem.code == "unknown-model"
    assert "FIRMPLAN_MODEL" in problem.hint


def test_models_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Unset values come from `FIRMPLAN_MODEL`, `FIRMPLAN_BASE_URL`, `OPENAI_API_KEY`."""
    with ScriptedModel([GOOD]) as model:
        monkeypatch.setenv("FIRMPLAN_MODEL", "from-env")
        monkeypatch.setenv("FIRMPLAN_BASE_URL", model.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "env-key")
        assert once([classify], STEPS, tmp_path / "s.db").output == GOOD
        assert model.requests[0]["model"] == "from-env"
        assert model.headers[0]["authorization"] == "Bearer env-key"


def test_a_replay_asks_no_model(tmp_path: Path):
    """`replay`: strict, offline."""

    async def go() -> None:
        async with (
            ScriptedModel([GOOD]) as model,
            Engine([classify], store=tmp_path / "s.db", **at(model)) as engine,
        ):
            run = await engine.run(STEPS, run_id="r")
        async with Engine([], store=tmp_path / "s.db") as engine:
            same = await engine.replay("r")
        assert (same.digest, same.output) == (run.digest, GOOD)
        assert len(model.requests) == 1

    within(go())


def test_outputs_of_untrusted_tools_label_what_models_make_of_them(tmp_path: Path):
    """Labelled .. is everything derived from them: through arguments, `set`, `ask`, agents."""
    from firmplan import tool

    @tool(effect="read", trust="untrusted")
    def inbox() -> str:
        """Read mail."""
        return "mail"

    @tool(effect="write")
    def send(body: str) -> None:
        """Send."""

    source = plan(
        call("m", "inbox"),
        call("c", "classify", args={"ticket": "${m}"}),
        call("s", "send", args={"body": "${c.queue}"}),
    )
    report = check(source, [inbox, send, classify])
    assert [each.code for each in report.problems if each.severity == "error"] == ["unsafe-flow"]
