"""Webhooks of real servers: a receiver that fails, cuts connections or is away, and servers that are killed between the end of a run and its message."""

from __future__ import annotations

import asyncio
import json
import signal
import time

import httpx2
from firmplan import Engine, Webhook
from firmplan.service.app import create_app
from hook_receiver import SECRET, Receiver, settings
from served import MAIL, PLAN, Server


def test_a_server_tells_when_a_run_waits_and_ends(tmp_path):
    """The message has what a decision needs; a failing and a cutting receiver get it again; the list says how it fared."""
    with Receiver(500, "cut", 204) as receiver:
        settings(tmp_path, receiver)
        with Server(tmp_path) as server:
            run = server.post("/v1/runs", {"plan": MAIL}).json()["id"]
            (told,) = receiver.wait(1)
            assert (told["type"], told["data"]["run_id"]) == ("run.waiting", run)
            ((waits),) = told["data"]["waiting"]
            decision = {"by": "ada", "attempt": waits["attempt"]}
            assert server.post(f"/v1/runs/{run}/steps/{waits['step']}/approve", decision).status_code == 200
            assert receiver.wait(3, seconds=30)[-1]["data"]["run_id"] == run
            until = time.monotonic() + 30
            while True:
                listed = server.get("/v1/webhooks/deliveries").json()["deliveries"]
                if sorted(each["state"] for each in listed) in (
                    ["delivered", "delivered"],
                    ["delivered", "pending"],
                ):
                    break
                assert time.monotonic() < until, listed
                time.sleep(0.1)
            assert {each["event"] for each in listed} == {"run.waiting", "run.succeeded"}
            assert {each["run_id"] for each in listed} == {run}
            assert (
                server.get("/v1/webhooks").json()["webhooks"][0]["host"] == receiver.url.partition("/hook")[0]
            )
            for path in ("/v1/webhooks", "/v1/webhooks/deliveries"):
                assert "t0p" not in server.get(path).text
            done = next(each for each in listed if each["state"] == "delivered")
            again = server.post(f"/v1/webhooks/deliveries/{done['id']}/retry").json()
            assert (again["state"], again["attempts"]) == ("pending", 0)
            unknown = server.post("/v1/webhooks/deliveries/msg_0/retry")
            assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown-delivery")
            assert server.get("/v1/webhooks/deliveries?state=lost").status_code == 422
            assert server.get("/v1/webhooks/deliveries?cursor=x").status_code == 422


def test_a_server_that_is_killed_between_the_end_of_a_run_and_its_message_loses_none(tmp_path):
    """Killed again and again while runs end: every run that has ended is told, if twice then under one id, by whichever server is there."""
    runs = []
    with Receiver() as receiver:
        settings(tmp_path, receiver, events=["run.succeeded"])
        for _ in range(5):
            server = Server(tmp_path)
            runs += [
                server.post("/v1/runs", {"plan": PLAN, "inputs": {"a": each}}).json()["id"]
                for each in range(8)
            ]
            server.wait(runs[-1])
            server.stop(signal.SIGKILL)
        with Server(tmp_path) as one, Server(tmp_path) as two:
            for run in runs:
                one.wait(run)
            until = time.monotonic() + 100  # the lease of a killed server, and as long again
            while True:
                told = {each["data"]["run_id"]: headers["webhook-id"] for each, (headers, _) in zip(receiver.messages(), list(receiver.requests), strict=False)}  # fmt: skip
                if set(told) == set(runs):
                    break
                assert time.monotonic() < until, set(runs) - set(told)
                time.sleep(0.2)
            assert two.get("/healthz").status_code == 200
        by_run = {}
        for headers, body in receiver.requests:
            by_run.setdefault(json.loads(body)["data"]["run_id"], set()).add((headers["webhook-id"], body))
        assert {run: len(sent) for run, sent in by_run.items()} == dict.fromkeys(runs, 1)


def test_a_slow_endpoint_holds_up_no_other(tmp_path):
    with Receiver("slow") as slow, Receiver() as quick:
        (tmp_path / "hook.secret").write_text(SECRET)
        text = "".join(
            f'[webhooks.{name}]\nurl = "{each.url}"\nsecret = {{file = "hook.secret"}}\n'
            for name, each in (("slow", slow), ("quick", quick))
        )
        (tmp_path / "firmplan.toml").write_text(text)
        with Server(tmp_path) as server:
            for number in range(3):
                server.post("/v1/runs", {"plan": PLAN, "inputs": {"a": number}})
            assert len(quick.wait(3, seconds=10)) == 3
            assert len(slow.wait(1)) >= 1


def test_messages_of_tenants_are_apart():
    """A key of a tenant lists and repeats messages about its own runs; the endpoints are for keys without a tenant."""

    async def main():
        with Receiver(500) as receiver:
            webhooks = [Webhook(name="ops", url=receiver.url, secret=SECRET)]
            async with Engine([], store="memory:", webhooks=webhooks) as engine:
                app = create_app(engine)

                async def ask(key, method, path, body=None):
                    transport = httpx2.ASGITransport(app=app)
                    headers = {"Authorization": f"Bearer {key.text}"}
                    async with httpx2.AsyncClient(
                        transport=transport, base_url="http://localhost", headers=headers
                    ) as client:
                        return await client.request(method, path, json=body)

                ann = await engine.add_key("ann", scopes=["admin"], tenant="acme")
                bob = await engine.add_key("bob", scopes=["admin"], tenant="bolt")
                root = await engine.add_key("root", scopes=["admin"])
                plan = {"firmplan": 1, "steps": [{"id": "x", "set": 1}]}
                for key in (ann, bob):
                    run = (await ask(key, "POST", "/v1/runs", {"plan": plan})).json()["id"]
                    await engine.wait(run)
                await engine.deliver_webhooks()
                listed = {}
                for key in (ann, bob, root):
                    page = (await ask(key, "GET", "/v1/webhooks/deliveries")).json()["deliveries"]
                    listed[key.name] = {each["id"] for each in page}
                assert [len(listed[name]) for name in ("ann", "bob", "root")] == [1, 1, 2]
                assert listed["ann"] | listed["bob"] == listed["root"]
                (foreign,) = listed["bob"]
                assert (await ask(ann, "POST", f"/v1/webhooks/deliveries/{foreign}/retry")).status_code == 404
                assert (await ask(bob, "POST", f"/v1/webhooks/deliveries/{foreign}/retry")).status_code == 200
                assert (await ask(ann, "GET", "/v1/webhooks")).status_code == 403
                assert (await ask(root, "GET", "/v1/webhooks")).status_code == 200

    asyncio.run(main())
