"""`POST /v1/tasks:plan`: a task is planned and checked, and nothing runs; while the model writes, the plan grows on an event stream."""

from __future__ import annotations

import json

import pytest
from firmplan.testing import ScriptedModel
from served import Server

TASK = "Add 1 and 2, then mail it"
STEPS = [
    {"id": "total", "tool": "add", "args": {"a": 1, "b": 2}},
    {"id": "twice", "tool": "add", "args": {"a": "${total}", "b": "${total}"}},
    {"id": "mail", "tool": "send", "args": {"to": "${inputs.who}"}},
]
PLAN = {"firmplan": 1, "inputs": {"who": {"type": "string"}}, "steps": STEPS, "output": "${mail}"}


def planner(request):
    """Plan the one task; ask about another; write nonsense for all others."""
    said = request["messages"][-1]["content"]
    if "Add 1 and 2" in said:
        return PLAN
    if "Ask" in said:
        return {"firmplan": 1, "steps": [], "question": {"text": "Which one?", "returns": {"type": "string"}}}
    return {"firmplan": 1, "steps": [{"id": "x", "tool": "fly", "args": {}}], "output": "${x}"}


@pytest.fixture(scope="module")
def planning(tmp_path_factory):
    with ScriptedModel(planner, seconds_per_chunk=0.005) as model:
        env = {"FIRMPLAN_MODEL": "m", "FIRMPLAN_BASE_URL": model.base_url}
        with Server(tmp_path_factory.mktemp("planning"), **env) as running:
            running.model = model
            yield running


def streamed(server, **body):
    """Return the events of a planning, as (name, document)."""
    with server.client.stream("POST", "/v1/tasks:plan", json={**body, "stream": True}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        text = "".join(answer.iter_text())
    blocks = [
        dict(line.split(": ", 1) for line in block.splitlines())
        for block in text.split("\n\n")
        if "data: " in block
    ]
    return [(block["event"], json.loads(block["data"])) for block in blocks]


def test_a_task_is_planned_and_nothing_runs(planning):
    """The plan comes with its check; run later, it needs no model for planning; no run is stored until then."""
    answer = planning.post("/v1/tasks:plan", {"task": TASK})
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert [step["id"] for step in document["plan"]["steps"]] == ["total", "twice", "mail"]
    assert document["report"]["ok"]
    assert document["report"]["bounds"]["calls_max"]
    assert planning.get("/v1/runs").json()["runs"] == []
    asked = len(planning.model.requests)
    run = planning.post("/v1/runs", {"plan": document["plan"], "inputs": {"who": "ann"}}).json()
    assert planning.wait(run["id"], "waiting")["task"] == TASK
    assert len(planning.model.requests) == asked
    planning.post(f"/v1/runs/{run['id']}/cancel")


def test_the_plan_grows_on_the_stream(planning):
    """Partial plans, each longer than the last, then the plan with its check."""
    # Another wording, so that no plan that was made before answers.
    events = streamed(planning, task="Please: Add 1 and 2, then mail it")
    assert events[-1][0] == "plan"
    drafts = [
        [step["id"] for step in document["plan"]["steps"]] for name, document in events if name == "draft"
    ]
    assert drafts
    assert drafts == sorted(drafts, key=len)
    assert drafts[0] == ["total"]
    assert events[-1][1]["report"]["ok"]


def test_why_there_is_no_plan_is_the_last_event(planning):
    """The same document as the error of a request without a stream."""
    for task in ("Ask me", "Fly"):
        (name, problem) = streamed(planning, task=task)[-1]
        assert (name, problem["code"], problem["status"]) == ("problem", "planning-failed", 422)
        refused = planning.post("/v1/tasks:plan", {"task": task})
        assert (refused.status_code, refused.json()["code"]) == (422, "planning-failed")
    assert "Which one?" in planning.post("/v1/tasks:plan", {"task": "Ask me"}).json()["detail"]
    for body in ({}, {"task": ""}, {"task": 3}, {"task": "x", "budget": {}}):
        assert planning.post("/v1/tasks:plan", body).status_code == 422
