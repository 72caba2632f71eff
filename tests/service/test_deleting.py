"""`DELETE /v1/runs/{id}`, over a real socket."""

from __future__ import annotations

from served import MAIL, PLAN


def test_a_run_is_deleted(server):
    """204, and then there is none; a key that made it makes a new one."""
    keyed = {"headers": {"Idempotency-Key": "once"}}
    run = server.client.post("/v1/runs", json={"plan": PLAN, "inputs": {"a": 4000}}, **keyed).json()["id"]
    server.wait(run)
    answer = server.client.delete(f"/v1/runs/{run}")
    assert (answer.status_code, answer.content) == (204, b"")
    for missing in (server.client.get(f"/v1/runs/{run}"), server.client.delete(f"/v1/runs/{run}")):
        assert (missing.status_code, missing.json()["code"]) == (404, "run-not-found")
    again = server.client.post("/v1/runs", json={"plan": PLAN, "inputs": {"a": 4000}}, **keyed).json()["id"]
    assert server.wait(again)["status"] == "succeeded"


def test_a_key_whose_run_was_deleted_is_free_for_another_request(server):
    """The new request is repeated safely from then on; the one that the deleted run came with is another one."""

    def post(a):
        headers = {"Idempotency-Key": "freed"}
        return server.client.post("/v1/runs", json={"plan": PLAN, "inputs": {"a": a}}, headers=headers)

    run = post(4002).json()["id"]
    server.wait(run)
    assert server.client.delete(f"/v1/runs/{run}").status_code == 204
    assert [post(each).status_code for each in (4003, 4003, 4002)] == [202, 202, 409]
    server.wait(run)


def test_what_has_not_ended_or_has_a_fork_stays(server):
    """409, with a code for each."""
    waits = server.post("/v1/runs", {"plan": MAIL}).json()["id"]
    server.wait(waits, "waiting")
    run = server.post("/v1/runs", {"plan": PLAN, "inputs": {"a": 4001}}).json()["id"]
    server.wait(run)
    fork = server.post(f"/v1/runs/{run}/fork", {"at": "total"}).json()["id"]
    server.wait(fork)
    for each, code in ((waits, "not-ended"), (run, "has-children")):
        answer = server.client.delete(f"/v1/runs/{each}")
        assert (answer.status_code, answer.json()["code"]) == (409, code)
        assert server.client.get(f"/v1/runs/{each}").status_code == 200
