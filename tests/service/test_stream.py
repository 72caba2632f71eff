"""What the server streams: steps that start while their plan is still being written, and the events of a run."""

from __future__ import annotations

import asyncio

import httpx2
from awaiting import TOOLS, awaiting
from firmplan import Engine
from firmplan.errors import StoreError
from firmplan.service.app import create_app
from firmplan.testing import ScriptedModel
from served import Server


def test_a_step_runs_before_the_plan_is_whole(tmp_path):
    """The model writes the end of its plan only once a step has run; anything but a boolean is refused."""
    reply, was_there = awaiting(tmp_path / "looked")
    with (
        ScriptedModel([reply]) as model,
        Server(tmp_path, tools=TOOLS, FIRMPLAN_MODEL="m", FIRMPLAN_BASE_URL=model.base_url) as server,
    ):
        taken = server.post("/v1/tasks", {"task": "Look six times", "stream": True})
        assert taken.status_code == 202
        run = server.wait(taken.json()["id"])
        assert (run["status"], run["output"]) == ("succeeded", 5)
        assert model.requests[0]["stream"] is True
        wrong = server.post("/v1/tasks", {"task": "Look six times", "stream": "yes"})
        assert (wrong.status_code, wrong.json()["problems"][0]["path"]) == (422, "$.stream")
    assert was_there == [True]


def test_events_are_streamed_without_the_run_being_read_first(monkeypatch):
    """A client waits for one page of the journal, not for the whole of it; a run that is over is told by its row."""

    async def whole(_engine, run_id):
        raise StoreError(f"the whole journal of {run_id} was read")

    async def main():
        async with Engine([], store="memory:") as engine:
            run = await engine.run({"firmplan": 1, "steps": [{"id": "a", "set": 1}]}, run_id="r")
            monkeypatch.setattr(Engine, "get", whole)
            assert await engine.status("r") == run.status == "succeeded"
            transport = httpx2.ASGITransport(app=create_app(engine))
            async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
                answers = [
                    await client.get("/v1/runs/" + path)
                    for path in ("r/events", f"r/events?after={run.last_event}", "nowhere/events")
                ]
        assert [each.status_code for each in answers] == [200, 204, 404]
        assert answers[0].text.count("event: ") == run.last_event

    asyncio.run(main())
