"""`POST /v1/tasks` with `stream` starts steps while the plan is still being written."""

from __future__ import annotations

from awaiting import TOOLS, awaiting
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
