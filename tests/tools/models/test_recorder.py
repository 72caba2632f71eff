"""Model traffic is recorded as it was and found again by its request, without a secret in it."""

from __future__ import annotations

import asyncio
import json

import pytest
from firmplan import ConfigError, Planner, PlanningFailed, tool
from firmplan.testing import Body, HttpError, Refusal, ScriptedModel, Text, Truncated
from firmplan.tools import Model, ModelError, Models, ask_request
from firmplan.tools.models.recorder import recorders, recording

AT_ONCE = {"retry-after-ms": "1"}
NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
KEY = "a-key-that-nobody-may-see"


@tool(effect="pure")
def one() -> int:
    """Return 1."""
    return 1


def asked(script, path=None, *, prompts=("How many?",), returns=NUMBER):
    """Return what came of each prompt; recorded where a path is given."""

    async def main():
        async with ScriptedModel(script) as model:
            models = Models({"default": Model("m", model.base_url, KEY)})
            found = []
            for prompt in prompts:
                try:
                    reply = await models.ask(ask_request(prompt, returns=returns))
                    found.append((reply.value, reply.usage))
                except ModelError as error:
                    found.append((error.code, str(error).replace(model.base_url, "")))
            return found

    if path is None:
        return asyncio.run(main())
    with recording(path):
        return asyncio.run(main())


@pytest.mark.parametrize(
    "script",
    [
        [{"n": 1}],
        [{"m": 1}, {"n": 2}],
        [Text("hm"), Text('so: {"n": 3}')],
        [Text('so\u2028\x85: {"n": 6}')],
        [Refusal("No.")],
        [Truncated({"n": 123456})],
        [HttpError(429, "slow down", AT_ONCE), {"n": 4}],
        [HttpError(401, "bad key")],
        [HttpError(400, "no tools here"), {"n": 5}],
        [Body("<html>log in</html>", "text/html")],
    ],
)
def test_a_replay_says_what_was_said(script, tmp_path):
    """Values, failures, usage and retries alike, from the file alone."""
    path = tmp_path / "calls.jsonl"
    live = asked(script, path)
    assert asked(path) == live
    assert path.read_text(encoding="utf-8").count("\n") == len(script) + 1


def test_answers_are_found_by_their_requests(tmp_path):
    """In any order; the same question asked twice gets its answers in turn."""
    path = tmp_path / "calls.jsonl"
    asked([{"n": 1}, {"n": 2}, {"n": 3}], path, prompts=["a", "b", "a"])
    values = [value for value, _ in asked(path, prompts=["b", "a", "a"])]
    assert values == [{"n": 2}, {"n": 1}, {"n": 3}]


def test_no_secret_is_written(tmp_path, monkeypatch):
    """The key, values of variables that are secrets by name, texts handed over, and what looks like a key."""
    monkeypatch.setenv("SOME_TOKEN", 'token-"quoted"-value')
    path = tmp_path / "calls.jsonl"
    shaped = "sk-" + "abcdef0123456789" * 2
    said = f'{KEY} token-"quoted"-value handed-over {shaped}'

    async def main():
        async with ScriptedModel([Text(f"You said {said}"), HttpError(401, f"bad key {KEY}")]) as model:
            models = Models({"default": Model("m", model.base_url, KEY)})
            await models.ask(ask_request(said))
            with pytest.raises(ModelError):
                await models.ask(ask_request("x"))

    with recording(path, ["handed-over"]):
        asyncio.run(main())
    text = path.read_text()
    for secret in (KEY, "token-", "quoted", "handed-over", shaped):
        assert secret not in text
    assert all(json.loads(line) for line in text.splitlines())


def test_a_planning_replays(tmp_path):
    """Repair and all."""
    bad, good = ({"firmplan": 1, "steps": [{"id": "a", "tool": name}]} for name in ("on", "one"))
    path = tmp_path / "calls.jsonl"

    async def plan(script):
        async with ScriptedModel(script) as model:
            return await Planner("m", base_url=model.base_url).plan("x", [one])

    with recording(path):
        live = asyncio.run(plan([bad, good]))
    again = asyncio.run(plan(path))
    assert (again.plan, again.usage) == (live.plan, live.usage)
    assert [each.to_dict() for each in again.attempts] == [each.to_dict() for each in live.attempts]

    async def other():
        async with ScriptedModel(path) as model:
            await Planner("m", base_url=model.base_url).plan("another task", [one])

    with pytest.raises(
        PlanningFailed,
        match=r"no reply that fits request number 1: of its replies \(2\) those that are left \(2\)",
    ):
        asyncio.run(other())


def test_what_was_streamed_replays_streamed_or_not(tmp_path):
    """A recording holds answers, not how they came."""
    steps = [{"id": "a", "tool": "one", "why": "A text may hold\u2028\x85ends of lines"}]
    good = {"firmplan": 1, "steps": steps, "output": "${a}"}
    path = tmp_path / "calls.jsonl"

    async def plan(script, heard):
        async with ScriptedModel(script) as model:
            planned = await Planner("m", base_url=model.base_url).plan("x", [one], heard=heard)
            return planned.plan, planned.usage

    beginnings = []
    with recording(path):
        live = asyncio.run(plan([good], beginnings.append))
    assert beginnings
    assert asyncio.run(plan(path, beginnings.append)) == asyncio.run(plan(path, None)) == live


def test_the_environment_names_a_recording(tmp_path, monkeypatch):
    """Where no block is open; a block goes before it."""
    path = tmp_path / "env.jsonl"
    monkeypatch.setenv("FIRMPLAN_RECORD", str(path))
    asked([{"n": 1}])
    assert len(path.read_text().splitlines()) == 2
    asked([{"n": 1}], tmp_path / "other.jsonl")
    assert len(path.read_text().splitlines()) == 2
    monkeypatch.delenv("FIRMPLAN_RECORD")
    assert recorders() == []


def test_what_cannot_be_written_is_told_at_once(tmp_path):
    """Before anybody is asked."""
    with pytest.raises(ConfigError, match="expected a file to record to"), recording(tmp_path):
        raise AssertionError("not reached")
