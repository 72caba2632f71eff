"""The server as a process: keys, limits, and what it leaves behind however it ends."""

from __future__ import annotations

import json
import signal
import urllib.error
import urllib.request

import pytest
from forked import Program
from served import MAIL, PLAN, Server
from stopping import stop

SLOW = {
    "firmplan": 1,
    "steps": [
        {"id": "slow", "tool": "nap", "args": {"seconds": 0.3}},
        {"id": "second", "tool": "add", "args": {"a": "${len([slow])}", "b": 1}},
    ],
    "output": "${second}",
}
OTHER = 'from firmplan import tool\n\n\n@tool(effect="pure")\ndef other() -> int:\n    """Return one."""\n    return 1\n'


def test_an_accepted_run_outlives_a_killed_server(tmp_path):
    """What was answered with 202 is durable: killed at once, the run is finished by the next server."""
    with Server(tmp_path) as first:
        runs = [first.post("/v1/runs", {"plan": SLOW}).json()["id"] for _ in range(3)]
        assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    with Server(tmp_path) as second:
        assert [second.wait(run)["output"] for run in runs] == [2, 2, 2]


def test_a_living_server_takes_over_what_a_killed_one_left(tmp_path):
    """Two servers on one store: one is killed in mid-call, and the other finishes its runs within seconds."""
    slow = {**SLOW, "steps": [{"id": "slow", "tool": "nap", "args": {"seconds": 1.5}}, SLOW["steps"][1]]}
    with Server(tmp_path) as first, Server(tmp_path) as second:
        runs = [first.post("/v1/runs", {"plan": slow}).json()["id"] for _ in range(3)]
        assert [second.get(f"/v1/runs/{run}").json()["abandoned"] for run in runs] == [False] * 3
        assert first.stop(signal.SIGKILL) == -signal.SIGKILL
        assert [second.wait(run)["output"] for run in runs] == [2, 2, 2]


def test_a_run_is_taken_from_a_server_that_hangs(tmp_path):
    """The other server goes on with it at once, although the first one lives."""
    slow = {**SLOW, "steps": [{"id": "slow", "tool": "nap", "args": {"seconds": 1.5}}, SLOW["steps"][1]]}
    with Server(tmp_path) as first, Server(tmp_path) as second:
        run = first.post("/v1/runs", {"plan": slow}).json()["id"]
        stop(tmp_path / "firmplan.db", first.process.pid)
        assert second.post(f"/v1/runs/{run}/resume", {"take_over": "yes"}).status_code == 422
        assert second.post(f"/v1/runs/{run}/resume", {"take_over": True}).status_code == 202
        assert second.wait(run)["output"] == 2
        first.process.send_signal(signal.SIGCONT)


def test_sigterm_parks_runs_and_ends_in_order(tmp_path):
    """A stopped server says goodbye with the signal's code, and its runs go on later."""
    with Server(tmp_path) as first:
        run = first.post("/v1/runs", {"plan": SLOW}).json()["id"]
        assert first.stop(signal.SIGTERM) in (0, 143)
        assert first.said[-1].startswith("stopped; 1 run under way kept: the next server continues there")
    with Server(tmp_path) as second:
        assert second.wait(run)["output"] == 2


def test_keys_are_asked_for(tmp_path):
    """With keys set, a request without one is a 401; health and the page need none."""
    with Server(tmp_path, FIRMPLAN_API_KEYS="k1,k2") as server:
        assert server.get("/v1/runs").status_code == 401
        assert server.get("/v1/runs", headers={"Authorization": "Bearer nope"}).status_code == 401
        assert server.get("/v1/runs", headers={"Authorization": "Bearer k2"}).status_code == 200
        assert server.get("/healthz").status_code == 200
        assert server.get("/").status_code == 200


def test_without_keys_only_loopback_is_served(tmp_path):
    """Another interface is refused, and the message says what to set."""
    with Server(tmp_path, "--host", "0.0.0.0") as server:
        assert server.process.wait(20) == 2
        assert "FIRMPLAN_API_KEYS" in "".join(server.said)
    with Server(tmp_path) as server:
        assert "only this machine" in "".join(server.said)


def test_limits_answer_413_and_429(tmp_path):
    """Too large a body, and too many runs."""
    with Server(tmp_path, "--body-limit", "1", "--queue", "2") as server:
        large = server.post("/v1/tasks", {"task": "x" * 2_000_000})
        assert large.status_code == 413
        slow = {**SLOW, "steps": [{"id": "slow", "tool": "nap", "args": {"seconds": 20.0}}], "output": None}
        codes = [server.post("/v1/runs", {"plan": slow}).status_code for _ in range(4)]
        assert codes == [202, 202, 429, 429]
        assert server.post("/v1/runs", {"plan": PLAN, "inputs": {"a": 1}}).headers.get("retry-after")


def test_a_client_that_sends_all_before_it_listens_hears_413(tmp_path):
    """Past what buffers hold, such a client met a closed connection; so it is with `urllib`."""
    with Server(tmp_path, "--body-limit", "1") as server:
        body = b'{"task": "' + b"x" * 20_000_000 + b'"}'
        request = urllib.request.Request(f"{server.url}/v1/tasks", body, {"Content-Type": "application/json"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=30)
        with refused.value as answer:
            assert (answer.code, json.load(answer)["code"]) == (413, "body-too-large")


def test_a_busy_port_is_told(tmp_path):
    """The address in use is named."""
    with Server(tmp_path) as first:
        port = first.url.rpartition(":")[2]
        with Server(tmp_path, "--port", port, "--store", "other.db") as second:
            assert second.process.wait(20) == 2
            assert port in "".join(second.said)


def test_a_run_that_nobody_drives_is_told(tmp_path):
    """A run whose process was killed is abandoned by this server's word too, where its tools are missing here."""
    with Server(tmp_path, "--store", "shared.db") as first:
        run = first.post("/v1/runs", {"plan": SLOW}).json()["id"]
        assert first.get(f"/v1/runs/{run}").json()["abandoned"] is False
        first.stop(signal.SIGKILL)
    with Server(tmp_path, "--store", "shared.db", "--queue", "1", tools=OTHER) as second:
        found = second.get(f"/v1/runs/{run}").json()
        listed = second.get("/v1/runs").json()["runs"]
        assert (found["abandoned"], [each["abandoned"] for each in listed]) == (True, [True])
        other = {"firmplan": 1, "steps": [{"id": "o", "tool": "other"}], "output": "${o}"}
        taken = second.post("/v1/runs", {"plan": other})  # it takes no place in the queue
        assert taken.status_code == 202
        assert second.wait(taken.json()["id"])["output"] == 1


def test_a_decision_beside_the_server_lets_its_run_go_on(tmp_path):
    """`firmplan approve` on the same store: the server that has the run goes on with it, and nobody has to resume."""
    with Server(tmp_path) as server:
        run = server.post("/v1/runs", {"plan": MAIL}).json()["id"]
        server.wait(run, "waiting")
        words = ["-m", "firmplan", "approve", run, "mail", "--by", "me"]
        with Program(words, cwd=tmp_path) as approving:
            assert approving.wait(60) == 0
        assert server.wait(run)["output"] == "sent to me"


def test_the_next_server_still_knows_what_a_key_asked_for(tmp_path):
    """The body is in the store: after a restart the same request gives the same run, and one with another budget is refused."""
    headers = {"Idempotency-Key": "kept"}

    def post(server, **more):
        return server.client.post(
            "/v1/runs", json={"plan_name": "sum", "inputs": {"a": 1}, **more}, headers=headers
        )

    with Server(tmp_path) as first:
        assert first.client.put("/v1/plans/sum", json=PLAN).status_code == 200
        run = post(first).json()["id"]
        first.wait(run)
    with Server(tmp_path) as second:
        assert post(second).json()["id"] == run
        refused = post(second, budget={"steps": 9})
        assert (refused.status_code, refused.json()["code"]) == (409, "idempotency-conflict")
        # The request is the same one, although its words mean another plan by now.
        assert second.client.put("/v1/plans/sum", json={**PLAN, "output": "${total + 1}"}).status_code == 200
        assert post(second).json()["id"] == run
