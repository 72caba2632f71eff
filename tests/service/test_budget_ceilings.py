"""A server's budgets: finite by default, set by its settings, lowered by callers and never raised past its ceilings."""

from __future__ import annotations

import sqlite3

import orjson
import pytest
from firmplan.cli.config import SERVER_BUDGET_MAX
from served import PLAN, Server

FIVE = {
    "firmplan": 1,
    "steps": [
        {"id": "added", "tool": "add", "for_each": "${range(5)}", "args": {"a": "${item}", "b": 1}},
    ],
    "output": "${added}",
}


def budgets(folder):
    """The budgets in the headers of all runs, as the store has them."""
    with sqlite3.connect(folder / "firmplan.db") as db:
        return [
            orjson.loads(text)["budget"]
            for (text,) in db.execute("SELECT header FROM headers ORDER BY rowid")
        ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("ceilings")
    (made / "firmplan.toml").write_text(
        "[budget]\nseconds = 60\n[budget_max]\nitems = 4\nsteps = 3\ncalls = false\n"
    )
    return made


@pytest.fixture(scope="module")
def server(folder):
    with Server(folder, FIRMPLAN_LOG="off") as running:
        assert running.url, running.said
        yield running


def test_a_server_says_its_ceilings(server):
    """Those of its settings, and finite ones where they name none; `false` takes one away."""
    said = next(line for line in server.said if "each run waits" in line)
    assert "items=4" in said
    assert "steps=3" in said
    assert "model_calls=10000" in said
    assert "calls=200000" not in said


def test_without_a_wish_the_ceiling_is_the_limit(server, folder):
    """The list is past `items`, so none of its items is made; the run waits, and says why."""
    run = server.post("/v1/runs", {"plan": FIVE}).json()["id"]
    stopped = server.wait(run, "over_budget")
    assert (stopped["steps"]["added"]["status"], stopped["steps"]["added"]["reason"]) == ("waiting", "budget")
    assert budgets(folder)[-1] == {"seconds": 60, "items": 4, "steps": 3, "model_calls": 10000}
    events = [event["type"] for _, event in server.events(run)]
    assert events[-1] == "ListHeld"


def test_a_caller_may_lower_and_not_raise(server, folder):
    """Of a new run, of a task and of a resume; the answer names the ceiling, at once."""
    three = {**FIVE, "steps": [{**FIVE["steps"][0], "for_each": [1, 2, 3]}]}
    lowered = server.post("/v1/runs", {"plan": three, "budget": {"steps": 2}}).json()["id"]
    assert server.wait(lowered, "over_budget")["usage"]["steps"] == 2
    for path, body in (
        ("/v1/runs", {"plan": three, "budget": {"steps": 4}}),
        ("/v1/tasks", {"task": "add", "budget": {"items": 5}}),
        (f"/v1/runs/{lowered}/resume", {"budget": {"steps": 4}}),
    ):
        refused = server.post(path, body)
        assert refused.status_code == 422, refused.text
        assert "the ceiling of this engine (budget_max)" in refused.json()["detail"]
    assert server.post(f"/v1/runs/{lowered}/resume", {"budget": {"steps": 3}}).status_code == 202
    assert server.wait(lowered, "succeeded")["output"] == [2, 3, 4]
    assert server.post("/v1/runs", {"plan": three, "budget": {"calls": -1}}).status_code == 422


def test_a_server_without_settings_has_finite_ceilings(tmp_path):
    """Far above an honest run."""
    with Server(tmp_path) as plain:
        run = plain.post("/v1/runs", {"plan": PLAN, "inputs": {"a": 1}}).json()["id"]
        assert plain.wait(run)["output"] == 3
        assert budgets(tmp_path) == [dict(SERVER_BUDGET_MAX)]
        refused = plain.post("/v1/runs", {"plan": PLAN, "inputs": {"a": 1}, "budget": {"steps": 10**9}})
        assert refused.status_code == 422


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("steps", "setting 'budget_max' (in the environment): expected object, found \"steps\""),
        ("steps=x", "setting 'budget_max.steps' (in the environment)"),
        ("steps=-1", "setting 'budget_max.steps' (in the environment): expected"),
        ("stesp=1", "unknown setting 'budget_max.stesp' (in the environment); did you mean 'steps'?"),
        ("steps=1.5", "setting 'budget_max.steps' (in the environment)"),
    ],
)
def test_a_wrong_ceiling_keeps_the_server_from_starting(tmp_path, variable, message):
    """Expected, found, where."""
    with Server(tmp_path, FIRMPLAN_BUDGET_MAX=variable) as broken:
        broken.process.wait(20)
        assert message in "".join(broken.said)
        assert broken.process.returncode == 2
