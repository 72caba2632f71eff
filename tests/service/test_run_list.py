"""The list of runs over HTTP: filters of plan, text and time, with status and pages."""

from __future__ import annotations

import json
import time

import pytest
from firmplan.testing import ScriptedModel
from served import MAIL, PLAN, Server


def test_runs_are_filtered(server):
    """By a saved plan's name or a digest, by words, by time; wrong values and unknown parameters are refused."""
    begun = time.time()
    named = {**PLAN, "task": "Count the geese"}
    run = server.post("/v1/runs", {"plan": named, "inputs": {"a": 1}}).json()
    mail = server.post("/v1/runs", {"plan": MAIL}).json()
    server.wait(run["id"])
    server.wait(mail["id"], "waiting")
    assert server.client.put("/v1/plans/geese", json=named).status_code == 200

    def found(**query):
        answer = server.get("/v1/runs", params=query)
        assert answer.status_code == 200, answer.text
        return [each["id"] for each in answer.json()["runs"]]

    assert found(text="GEESE") == found(plan="geese") == found(plan=run["plan_digest"]) == [run["id"]]
    assert found(text=mail["id"][4:]) == [mail["id"]]
    assert found(text="geese", status="failed") == []
    assert found(since=begun, limit=1) == [mail["id"]]
    assert found(until=begun) == []
    page = server.get("/v1/runs", params={"since": begun, "limit": 1}).json()
    assert found(since=begun, cursor=page["cursor"]) == [run["id"]]
    assert found(plan="no-such-plan") == []
    for query in (
        {"text": ""},
        {"text": "a\0b"},
        {"plan": ""},
        {"since": "yesterday"},
        {"until": "nan"},
        {"txt": "a"},
    ):
        refused = server.get("/v1/runs", params=query)
        assert refused.status_code == 422, query
        assert refused.headers["content-type"] == "application/problem+json"


def test_runs_are_found_by_their_cost(tmp_path):
    """A list has what the models of each run cost, and filters by it."""
    table = tmp_path / "prices.json"
    table.write_text(
        json.dumps({"prices": 1, "models": [{"model": "small", "input": 1000.0, "output": 1000.0}]})
    )
    ask = {"firmplan": 1, "steps": [{"id": "a", "ask": {"prompt": "Say yes"}}], "output": "${a}"}
    with (
        ScriptedModel(["yes"]) as model,
        Server(
            tmp_path, FIRMPLAN_MODEL="small", FIRMPLAN_BASE_URL=model.base_url, FIRMPLAN_PRICES=str(table)
        ) as server,
    ):
        dear = server.post("/v1/runs", {"plan": ask}).json()["id"]
        free = server.post("/v1/runs", {"plan": PLAN, "inputs": {"a": 1}}).json()["id"]
        usage = server.wait(dear)["usage"]
        server.wait(free)
        assert usage["usd"] > 0
        listed = {run["id"]: run["usd"] for run in server.get("/v1/runs").json()["runs"]}
        assert listed == {dear: pytest.approx(usage["usd"]), free: 0}
        found = server.get("/v1/runs", params={"usd_min": usage["usd"] / 2}).json()["runs"]
        assert [run["id"] for run in found] == [dear]
