"""Observers hear what runs do, and change nothing."""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager

from firmplan import Engine, tool
from firmplan.executor import SqliteStore
from firmplan.testing import ScriptedModel
from firmplan.tools.logbook import RequestContext, current_request

PLAN = {
    "firmplan": 1,
    "steps": [
        {"id": "a", "tool": "one", "args": {"x": 1}},
        {"id": "w", "ask": {"prompt": "A word about ${a}."}},
        {"id": "b", "tool": "two", "args": {"x": "${a}"}},
    ],
    "output": ["${w}", "${b}"],
}


@tool(effect="pure")
def one(x: int) -> int:
    """Return it."""
    return x


@tool(effect="write", resource="box")
async def two(x: int) -> int:
    """Double it."""
    return 2 * x


class Ear:
    """Notes everything that it hears."""

    stands_around = True

    def __init__(self):
        self.heard = []

    def begin_run(self, run):
        self.run = run
        self.heard.append("begin")
        return self

    def begin_request(self, call):
        self.heard.append(f"ask {call.endpoint.name}")
        return self

    def answered(self, completion):
        self.heard.append(f"answered {completion.usage.requests}")

    def failed(self, error):
        self.heard.append(f"failed {error.code}")

    def begin_trace(self, run_id, context):
        self.heard.append("trace")

    def note(self, event, at):
        self.heard.append(type(event).__name__)

    def note_wait(self, step, seconds):
        assert seconds >= 0

    @contextmanager
    def around(self, call):
        self.heard.append(f"[{call.step}")
        yield
        self.heard.append(f"{call.step}]")

    def around_planning(self):
        self.heard.append("planning")

    def end(self, status, at):
        self.heard.append(f"end {status}")


class Broken(Ear):
    """Raises wherever it is asked."""

    def __getattribute__(self, name):
        if name in ("stands_around", "__class__"):
            return object.__getattribute__(self, name)

        def fail(*_):
            raise RuntimeError(name)

        return fail


class HalfBroken(Ear):
    """Begins, and raises later."""

    def note(self, event, at):
        raise RuntimeError("note")

    def around(self, call):
        raise RuntimeError("around")

    def end(self, status, at):
        raise RuntimeError("end")

    answered = failed = end


def run_with(*observers):
    return asyncio.run(watched(*observers))


async def watched(*observers):
    with ScriptedModel(["sea"]) as model:
        async with Engine(
            [one, two], store="memory:", models={"default": {"name": "m", "base_url": model.base_url}}
        ) as engine:
            for each in observers:
                engine.observe(each)
            return await engine.run(PLAN, run_id="r")


def test_an_observer_hears_the_events_the_calls_and_the_end():
    """In the order in which they happen; calls are enclosed."""
    ear = Ear()
    assert (run_with(ear)).status == "succeeded"
    heard = ear.heard
    assert heard[:3] == ["trace", "begin", "RunStarted"]
    assert heard[-2:] == ["RunFinished", "end succeeded"]
    for step in ("a", "w", "b"):
        assert heard.index(f"[{step}") < heard.index(f"{step}]")
    between = heard[heard.index("[w") : heard.index("w]")]
    assert "ask m" in between
    assert "answered 1" in between
    assert (ear.run.id, ear.run.tool_of("b"), ear.run.has_ended("b")) == ("r", "two", True)


def test_an_observer_that_raises_changes_no_run(capsys):
    """The run is the same as without it; the log tells it once, and the other observers go on."""
    plain = run_with()
    ear = Ear()
    run = run_with(Broken(), HalfBroken(), ear)
    assert (run.digest, run.status, run.output) == (plain.digest, "succeeded", ["sea", 2])
    assert ear.heard[-1] == "end succeeded"
    told = [line for line in capsys.readouterr().err.splitlines() if "an observer failed" in line]
    assert 0 < len(told) < 10


def test_a_replay_is_not_observed():
    """Nothing happens in it."""
    ear = Ear()
    with Engine([one], store="memory:") as engine:
        plan = {"firmplan": 1, "steps": [PLAN["steps"][0]], "output": "${a}"}
        engine.run_sync(plan, run_id="r")
        engine.observe(ear)
        assert json.dumps(engine.replay_sync("r").output) == "1"
    assert ear.heard == []


def test_the_request_of_a_run_is_in_its_header_and_in_no_digest(tmp_path):
    """Its id and its place in a trace; without a request the header is as it was. A fork has its own request, and none of its parent's."""
    plan = {"firmplan": 1, "steps": [PLAN["steps"][0]], "output": "${a}"}
    store = SqliteStore(tmp_path / "runs.db")

    async def main():
        async with Engine([one], store=store) as engine:
            plain = await engine.run(plan, run_id="plain")
            token = current_request.set(RequestContext("req-1", "00-" + "1" * 32 + "-" + "2" * 16 + "-01"))
            asked = await engine.run(plan, run_id="asked", reuse="off")
            current_request.reset(token)
            forked = await engine.fork("asked", at="a", run_id_new="forked")
            assert (await engine.replay("asked")).digest == asked.digest == plain.digest
            return [
                (each.id, each.request_id, (await store.find_run(each.id)).header.get("context"))
                for each in (plain, asked, forked)
            ]

    assert asyncio.run(main()) == [
        ("plain", None, None),
        ("asked", "req-1", {"id": "req-1", "traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"}),
        ("forked", None, None),
    ]
