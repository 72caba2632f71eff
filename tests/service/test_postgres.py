"""`firmplan serve` on a store in PostgreSQL: accepted runs outlive killed servers, and several serve one database."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from served import PLAN, Server

pytestmark = pytest.mark.postgres
SECRET = "s3cr3t-Pa55"
NAP = {
    "firmplan": 1,
    "steps": [
        {"id": "slow", "tool": "nap", "args": {"seconds": 1.5}},
        {"id": "second", "tool": "add", "args": {"a": "${len([slow])}", "b": 1}},
    ],
    "output": "${second}",
}


def test_accepted_runs_outlive_a_killed_server_and_another_goes_on_with_them(tmp_path, postgres_url):
    """What was answered with 202 is durable; a neighbour on the same database finishes it within seconds."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with (
        Server(tmp_path / "a", FIRMPLAN_STORE=postgres_url) as first,
        Server(tmp_path / "b", "--store", postgres_url) as second,
    ):
        assert f"store {postgres_url.replace(f':{SECRET}@', '@')} " in "".join(first.said)
        runs = [first.post("/v1/runs", {"plan": NAP}).json()["id"] for _ in range(3)]
        assert [second.get(f"/v1/runs/{run}").json()["abandoned"] for run in runs] == [False] * 3
        assert first.stop(signal.SIGKILL) == -signal.SIGKILL
        assert [second.wait(run)["output"] for run in runs] == [2, 2, 2]
        run = second.post("/v1/runs", {"plan": PLAN, "inputs": {"a": 1}}).json()["id"]
        assert second.wait(run)["output"] == 3
        assert second.get("/readyz").status_code == 200
        assert SECRET not in "".join([*first.said, *second.said])
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["tools.py"]


def test_a_server_whose_database_is_away_says_so_and_goes_on(tmp_path, cluster, postgres_url):
    """Requests are refused with a problem that has no password; once the database is back they are answered."""
    with Server(tmp_path, "--store", postgres_url) as server:
        assert server.post("/v1/runs", {"plan": PLAN, "inputs": {"a": 1}}).status_code == 202
        cluster.stop("immediate")
        refused = server.post("/v1/runs", {"plan": PLAN, "inputs": {"a": 1}})
        assert refused.status_code >= 500
        assert refused.json()["code"] == "store-error"
        assert SECRET not in refused.text
        cluster.start()
        run = server.post("/v1/runs", {"plan": PLAN, "inputs": {"a": 1}}).json()["id"]
        assert server.wait(run)["output"] == 3


def test_of_two_requests_with_one_key_at_two_servers_one_is_taken(tmp_path, postgres_url):
    """Whichever comes first makes the run; the other server refuses every request that differs, also in its budget alone."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with (
        Server(tmp_path / "a", FIRMPLAN_STORE=postgres_url) as first,
        Server(tmp_path / "b", "--store", postgres_url) as second,
        ThreadPoolExecutor(2) as pool,
    ):
        servers, budgets = (first, second), ({"steps": 10}, {"steps": 20})

        def post(server, budget, key):
            body = {"plan": PLAN, "inputs": {"a": 1}, "budget": budget}
            return server.client.post("/v1/runs", json=body, headers={"Idempotency-Key": key})

        for turn in range(10):
            key = f"turn {turn}"
            answers = list(pool.map(post, servers, budgets, (key, key)))
            assert sorted(each.status_code for each in answers) == [202, 409]
            taken = 0 if answers[0].status_code == 202 else 1
            assert answers[1 - taken].json()["code"] == "idempotency-conflict"
            run = answers[taken].json()["id"]
            assert servers[1 - taken].wait(run)["output"] == 3
            for server in servers:
                assert post(server, budgets[taken], key).json()["id"] == run
                assert post(server, budgets[1 - taken], key).status_code == 409
