"""`POST /v1/runs/{id}/fork`, over a real socket."""

from __future__ import annotations

from served import MAIL, PLAN


def done(server, body, inputs):
    run = server.post("/v1/runs", {"plan": body, "inputs": inputs}).json()["id"]
    server.wait(run)
    return run


def test_a_fork_is_accepted_and_runs(server):
    """202 with a location; what the change affects runs behind the answer."""
    run = done(server, PLAN, {"a": 900})
    answer = server.post(f"/v1/runs/{run}/fork", {"set": {"total": 7}})
    assert answer.status_code == 202
    fork = answer.json()
    assert (answer.headers["location"], fork["parent"]) == (f"/v1/runs/{fork['id']}", run)
    assert server.wait(fork["id"])["output"] == 7
    again = server.post(f"/v1/runs/{run}/fork", {"inputs": {"a": 1}}).json()
    assert server.wait(again["id"])["output"] == 3
    edited = server.post(f"/v1/runs/{run}/fork", {"plan": {**PLAN, "output": "${total + 1}"}}).json()
    assert server.wait(edited["id"])["output"] == 903


def test_a_fork_without_a_body_is_the_parent_again(server):
    """Nothing differs, so nothing is called."""
    run = done(server, PLAN, {"a": 901})
    fork = server.client.post(f"/v1/runs/{run}/fork").json()
    assert server.wait(fork["id"])["steps"]["total"]["reused"]


def test_writes_of_a_fork_wait(server):
    """A write in the cone waits for approval."""
    run = server.post("/v1/runs", {"plan": MAIL}).json()["id"]
    fork = server.post(f"/v1/runs/{run}/fork", {"at": "mail"}).json()
    assert server.wait(fork["id"], "waiting")["parent"] == run


def test_what_does_not_fit_is_refused(server):
    """Unknown runs, steps and keys, values of another type, a plan with faults: problem documents with their codes."""
    run = done(server, PLAN, {"a": 902})
    for path, body, status, code in (
        ("nope", {}, 404, "run-not-found"),
        (run, {"at": "nope"}, 422, "input-rejected"),
        (run, {"set": {"total": "text"}}, 422, "input-rejected"),
        (run, {"attt": "total"}, 422, "bad-request"),
        (run, {"plan": {"firmplan": 1}}, 422, "plan-rejected"),
    ):
        answer = server.post(f"/v1/runs/{path}/fork", body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
