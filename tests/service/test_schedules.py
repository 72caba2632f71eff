"""Schedules over HTTP, with real servers that start the runs, and that are killed."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import AsyncExitStack
from datetime import datetime

import httpx2
import pytest
from firmplan import Engine, tool
from firmplan.service.app import create_app
from firmplan.testing import FakeClock
from served import MAIL, PLAN, Server


@tool(effect="pure")
def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


@tool(effect="write", approval="always", resource="mail")
def send(to: str) -> str:
    """Send a mail."""
    return f"sent to {to}"


BODY = {"plan": "adding", "every": 3600, "inputs": {"a": 1}}


@pytest.fixture(autouse=True)
def saved(server):
    server.client.put("/v1/plans/adding", json=PLAN)


def fires_of(server, name, count, state="started"):
    """Return the times of a schedule, the earliest first, once so many have this state."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        fires = server.get(f"/v1/schedules/{name}/fires").json()["fires"]
        if sum(fire["state"] == state for fire in fires) >= count:
            return fires[::-1]
        time.sleep(0.1)
    raise AssertionError(fires)


def test_a_server_starts_the_runs_whose_time_has_come(server):
    """Each names its schedule, and has its inputs; after a pause there are no more."""
    body = {**BODY, "every": "1s", "time_input": None, "overlap": "allow", "priority": 4}
    made = server.client.put("/v1/schedules/often", json=body)
    assert (made.status_code, made.headers["etag"], made.json()["revision"]) == (200, '"1"', 1)
    fires = fires_of(server, "often", 2)
    run = server.wait(fires[0]["run_id"])
    assert (run["status"], run["output"]) == ("succeeded", 3)
    assert run["schedule"] == {"name": "often", "at": fires[0]["at"]}
    assert run["priority"] == made.json()["priority"] == 4
    paused = server.post("/v1/schedules/often/pause").json()
    assert (paused["paused"], paused["next_at"], len(paused["next"])) == (True, None, 5)
    assert {fire["run_id"] for fire in paused["fires"]} >= {fires[0]["run_id"]}
    resumed = server.post("/v1/schedules/often/resume")
    assert (resumed.json()["paused"], resumed.json()["revision"]) == (False, 3)
    assert server.client.delete("/v1/schedules/often").status_code == 204
    assert server.get("/v1/schedules/often").status_code == 404
    assert server.get(f"/v1/runs/{fires[0]['run_id']}").status_code == 200


def test_a_schedule_is_changed_only_where_it_was_read(server):
    put = server.client.put
    made = put("/v1/schedules/kept", json=BODY, headers={"If-None-Match": "*"})
    assert made.status_code == 200
    taken = put("/v1/schedules/kept", json=BODY, headers={"If-None-Match": "*"})
    assert (taken.status_code, taken.json()["code"]) == (412, "replaced")
    body = {"plan": "adding", "cron": "30 9 * * *", "tz": "Europe/Rome", "inputs": {"a": 2}}
    changed = put("/v1/schedules/kept", json=body, headers={"If-Match": made.headers["etag"]})
    assert (changed.status_code, changed.headers["etag"], changed.json()["every"]) == (200, '"2"', None)
    assert put("/v1/schedules/kept", json=BODY, headers={"If-Match": made.headers["etag"]}).status_code == 412
    for tag in ("*", "3", 'W/"3"', '"3", "4"', '"³"'):
        refused = put("/v1/schedules/kept", json=BODY, headers={"If-Match": tag.encode()})
        assert (refused.status_code, refused.json()["code"]) == (422, "bad-request")
    (listed,) = [each for each in server.get("/v1/schedules").json()["schedules"] if each["name"] == "kept"]
    assert listed["cron"] == "30 9 * * *"
    assert listed["next"] == [listed["next_at"]]


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"plan": "nothing"}, 404, "unknown-plan"),
        ({"every": None}, 422, "input-rejected"),
        ({"cron": "0 0 * * *"}, 422, "input-rejected"),
        ({"every": "never"}, 422, "input-rejected"),
        ({"every": 0.5}, 422, "bad-request"),
        ({"every": None, "cron": "0 0 30 2 *"}, 422, "input-rejected"),
        ({"tz": "Mars/Base"}, 422, "input-rejected"),
        ({"inputs": {"c": 1}}, 422, "input-rejected"),
        ({"inputs": {}}, 422, "input-rejected"),
        ({"overlap": "perhaps"}, 422, "bad-request"),
        ({"catch_up_max": 1001}, 422, "bad-request"),
        ({"budget": {"steps": -1}}, 422, "bad-request"),
        ({"start": "tomorrow"}, 422, "input-rejected"),
        ({"start": 1e300}, 422, "input-rejected"),
        ({"priority": 6}, 422, "bad-request"),
        ({"wish": 1}, 422, "bad-request"),
    ],
)
def test_a_faulty_schedule_is_refused(server, changes, status, code):
    body = {key: value for key, value in {**BODY, **changes}.items() if value is not None}
    refused = server.client.put("/v1/schedules/faulty", json=body)
    assert (refused.status_code, refused.json()["code"]) == (status, code), refused.text
    assert server.get("/v1/schedules/faulty").json()["code"] == "unknown-schedule"


def test_times_are_shown_before_a_schedule_is_made(server):
    body = {"cron": "0 8 * * 1-5", "tz": "Europe/Berlin", "start": "2030-03-29T00:00:00+01:00"}
    times = server.post("/v1/schedules:next?count=2", body).json()["times"]
    expected = [
        "2030-03-29T08:00:00+01:00",
        "2030-04-01T08:00:00+02:00",
    ]  # a weekend, and a change of the clock
    assert times == [datetime.fromisoformat(each).timestamp() for each in expected]
    assert server.post("/v1/schedules:next", {"cron": "x"}).status_code == 422
    assert server.post("/v1/schedules:next?count=101", body).status_code == 422


def test_overlapping_runs_wait_behind_one_that_waits_for_a_person(server):
    """With `queue`, the second run starts when the first has ended."""
    server.client.put("/v1/plans/mailing", json=MAIL)
    server.client.put("/v1/schedules/mails", json={"plan": "mailing", "every": 1, "overlap": "queue"})
    fires = fires_of(server, "mails", 1, "skipped")
    assert [fire["state"] for fire in fires[:3]] == ["started", "due", "skipped"]
    first = fires[0]["run_id"]
    server.post("/v1/schedules/mails/pause")
    assert server.post(f"/v1/runs/{first}/steps/mail/deny", {"by": "ada"}).status_code == 200
    server.wait(first)
    server.client.delete("/v1/schedules/mails")


def test_a_server_whose_queue_is_full_starts_no_runs_of_schedules(tmp_path):
    """Their times wait until there is room."""
    nap = {"firmplan": 1, "steps": [{"id": "nap", "tool": "nap", "args": {"seconds": 4}}]}
    with Server(tmp_path, "--queue", "1") as server:
        server.client.put("/v1/plans/adding", json=PLAN)
        busy = server.post("/v1/runs", {"plan": nap}).json()["id"]
        server.client.put("/v1/schedules/often", json={**BODY, "every": 1})
        time.sleep(2.2)
        assert server.get("/v1/schedules/often/fires").json()["fires"] == []
        ended = server.wait(busy)["updated"]
        # Times that were due together find the first one's run under way, and may be skipped.
        started = next(fire for fire in fires_of(server, "often", 1) if fire["state"] == "started")
        assert server.get(f"/v1/runs/{started['run_id']}").json()["created"] >= ended


def all_fires(server):
    found = [server.get(f"/v1/schedules/s{number}/fires?limit=500").json()["fires"] for number in range(6)]
    return [fire for fires in found for fire in fires]


def test_killed_servers_start_each_time_once(tmp_path):
    """Two servers on one store, of which one is killed again and again while runs start each second: every time has one run, and each run ends."""
    with Server(tmp_path) as steady:
        steady.client.put("/v1/plans/adding", json=PLAN)
        for number in range(6):
            body = {**BODY, "every": 1, "overlap": "allow", "catch_up": "all"}
            assert steady.client.put(f"/v1/schedules/s{number}", json=body).status_code == 200
        for _ in range(5):
            other = Server(tmp_path)
            time.sleep(1.3)
            other.stop(signal.SIGKILL)
        until = time.monotonic() + 30
        while any(
            fire["state"] == "due" and fire["at"] < time.time() - 3 for fire in all_fires(steady)
        ):  # the lease of the last dead server
            assert time.monotonic() < until
            time.sleep(0.2)
        for number in range(6):
            steady.post(f"/v1/schedules/s{number}/pause")
        fires = all_fires(steady)
        started = [fire for fire in fires if fire["state"] == "started"]
        for fire in started:
            run = steady.wait(fire["run_id"])
            assert (run["status"], run["output"]) == ("succeeded", 3)
            assert run["schedule"]["at"] == fire["at"]
        runs = [run["id"] for run in steady.get("/v1/runs?limit=500").json()["runs"]]
        assert len(runs) == len(set(runs))
        assert {fire["run_id"] for fire in started} <= set(runs)
        for number in range(6):
            times = sorted(fire["at"] for fire in fires if fire["schedule"] == f"s{number}")
            assert times == [times[0] + second for second in range(len(times))]
        assert len(started) > 30


def test_schedules_of_tenants_are_apart():
    """A tenant sees its own schedules, under its own names; their runs are its own, and so is the plan. A key of no tenant sees all."""
    clock = FakeClock(1_767_225_600.0, auto=False)

    async def main():
        async with Engine([add], store="memory:", clock=clock) as engine, AsyncExitStack() as stack:
            app = create_app(engine)

            async def client(name, scopes, tenant=""):
                key = await engine.add_key(name, scopes=scopes, tenant=tenant)
                asking = httpx2.AsyncClient(
                    transport=httpx2.ASGITransport(app=app),
                    base_url="http://localhost",
                    headers={"Authorization": f"Bearer {key.text}"},
                )
                return await stack.enter_async_context(asking)

            ann = await client("ann", ["read", "submit"], "acme")
            bob = await client("bob", ["read", "submit", "admin"], "bolt")
            root = await client("root", ["admin"])
            for asking, output in ((ann, "${total}"), (bob, "${total + 100}")):
                await asking.put("/v1/plans/adding", json={**PLAN, "output": output})
                made = await asking.put("/v1/schedules/hourly", json=BODY)
                assert (made.status_code, made.json()["name"]) == (200, "hourly")
            assert (await ann.get("/v1/schedules/hourly")).json()["by"] == "ann"
            assert (await ann.put("/v1/schedules/bolt:hourly", json=BODY)).status_code == 422
            for path in ("bolt:hourly", "acme:hourly"):
                assert (await ann.get(f"/v1/schedules/{path}")).status_code == 404
            assert (await ann.delete("/v1/schedules/hourly")).status_code == 403
            clock.advance(3600)
            await engine.fire_schedules()
            outputs = {}
            for asking in (ann, bob):
                (fire,) = (await asking.get("/v1/schedules/hourly/fires")).json()["fires"]
                run = await engine.wait(fire["run_id"])
                outputs[fire["schedule"], run.output] = run.id
                assert (await asking.get(f"/v1/runs/{run.id}")).status_code == 200
                assert len((await asking.get("/v1/runs")).json()["runs"]) == 1
                other = bob if asking is ann else ann
                assert (await other.get(f"/v1/runs/{run.id}")).status_code == 404
            assert set(outputs) == {("hourly", 3), ("hourly", 103)}
            listed = (await root.get("/v1/schedules")).json()["schedules"]
            assert [each["name"] for each in listed] == ["acme:hourly", "bolt:hourly"]
            assert [each["fires"][0]["schedule"] for each in listed] == ["acme:hourly", "bolt:hourly"]
            assert (await root.post("/v1/schedules/acme:hourly/pause")).json()["paused"] is True
            assert (await bob.get("/v1/schedules/hourly")).json()["paused"] is False
            changed = await root.put("/v1/schedules/acme:hourly", json={**BODY, "inputs": {"a": 40}})
            assert (changed.status_code, changed.json()["by"]) == (200, "root")
            clock.advance(3600)
            (fire, _) = sorted(await engine.fire_schedules(), key=lambda fire: fire.tenant)
            assert (await engine.wait(fire.run_id)).output == 42
            assert (await ann.get(f"/v1/runs/{fire.run_id}")).status_code == 200
            assert (await root.delete("/v1/schedules/acme:hourly")).status_code == 204

    asyncio.run(main())


@pytest.mark.parametrize("is_named", [True, False])
@pytest.mark.parametrize("is_inner", [True, False])
def test_who_changes_the_plan_of_a_schedule_may_not_approve_its_calls(is_named, is_inner):
    """Also a plan that its plan runs; until the schedule is saved again by somebody who thereby stands for the new plan."""
    clock = FakeClock(1_767_225_600.0, auto=False)
    outer = {"firmplan": 1, "steps": [{"id": "mails", "plan": "mailing"}], "output": "${mails}"}
    evil = {**MAIL, "steps": [{"id": "mail", "tool": "send", "args": {"to": "mallory"}}]}

    async def main():
        async with Engine([send], store="memory:", clock=clock) as engine, AsyncExitStack() as stack:
            app = create_app(engine, api_keys=() if is_named else ("plain",))

            async def client(name):
                key = await engine.add_key(name, scopes=["read", "submit", "approve"])
                asking = httpx2.AsyncClient(
                    transport=httpx2.ASGITransport(app=app),
                    base_url="http://localhost",
                    headers={"Authorization": f"Bearer {key.text}"},
                )
                return await stack.enter_async_context(asking)

            ann, bob = await client("ann"), await client("bob")
            maker = ann if is_named else await client("maker")
            if not is_named:
                maker.headers["Authorization"] = "Bearer plain"

            async def save(asking, plan):
                assert (await asking.put("/v1/plans/mailing", json=plan)).status_code == 200

            async def schedule():
                body = {"plan": "outer" if is_inner else "mailing", "every": 3600, "overlap": "allow"}
                assert (await maker.put("/v1/schedules/hourly", json=body)).status_code == 200

            async def approved(asking):
                """Return the answer to an approval of the waiting call in the run of the next time."""
                clock.advance(3600)
                (fire,) = await engine.fire_schedules()
                await engine.wait(fire.run_id)
                step = "mails%2Fmail" if is_inner else "mail"
                return await asking.post(f"/v1/runs/{fire.run_id}/steps/{step}/approve", json={})

            await save(bob, MAIL)
            put = await ann.put("/v1/plans/outer", json=outer)
            assert put.status_code == 200, put.text
            await schedule()
            # Whoever made the schedule has seen bob's plan.
            assert (await approved(bob)).status_code == 200
            await save(bob, evil)
            refused = await approved(bob)
            assert (refused.status_code, refused.json()["code"]) == (403, "own-run")
            assert "changed the plan of the schedule" in refused.json()["detail"]
            if not is_named:
                assert (await approved(ann)).status_code == 200
            await schedule()
            assert (await approved(bob)).status_code == 200
            await save(bob, MAIL)
            await save(bob, evil)  # as the schedule knows it
            assert (await approved(bob)).status_code == 200

    asyncio.run(main())
