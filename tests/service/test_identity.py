"""Who decides: over HTTP the name of the key is recorded, and a named key approves no call of its own runs."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import httpx2
import pytest
import uvicorn
from firmplan import ConfigError, Engine, InputRejected, Planner, Submitter, tool
from firmplan.service.app import create_app, serve
from firmplan.testing import ScriptedModel

MAIL = {
    "firmplan": 1,
    "task": "Send a mail",
    "steps": [{"id": "mail", "tool": "send", "args": {"to": "me"}}],
    "output": "${mail}",
}
NAMED = {"ann": "key-of-ann", "bob": "key-of-bob"}


@tool(effect="write", approval="always", resource="mail")
def send(to: str) -> str:
    """Send a mail."""
    return f"sent to {to}"


@asynccontextmanager
async def served(store="memory:", planner=None, **options):
    """Clients of a server on a real socket: a function from a key to a client."""
    async with Engine([send], store=store, planner=planner) as engine:
        config = uvicorn.Config(create_app(engine, **options), port=0, log_level="warning")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        clients = []

        def client(key):
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            clients.append(
                httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30)
            )
            return clients[-1]

        try:
            yield client
        finally:
            for each in clients:
                await each.aclose()
            server.should_exit = True
            await serving


async def waiting(client, run, status="waiting"):
    """Return the run once it has the status."""
    for _ in range(600):
        found = (await client.get(f"/v1/runs/{run}")).json()
        if found["status"] == status:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(found)


def test_a_named_key_decides_under_its_name_and_not_about_its_own_runs():
    """Ann's run is approved by Bob, under Bob's name whatever he says; Ann may deny her own, and approves nothing of it."""

    async def main():
        async with served(named_keys=NAMED, api_keys=("plain",)) as client:
            ann, bob, plain = client("key-of-ann"), client("key-of-bob"), client("plain")
            run = (await ann.post("/v1/runs", json={"plan": MAIL})).json()["id"]
            await waiting(ann, run)
            shown = (await bob.get(f"/v1/runs/{run}/waiting")).json()
            assert (shown["submitter"], shown["task"]) == ("ann", "Send a mail")
            own = await ann.post(f"/v1/runs/{run}/steps/mail/approve", json={})
            assert (own.status_code, own.json()["code"]) == (403, "own-run")
            assert "who submitted run" in own.json()["detail"]
            both = await ann.post(f"/v1/runs/{run}/decide", json={"decisions": {"mail": "approve"}})
            assert (both.status_code, both.json()["code"]) == (403, "own-run")
            posing = await ann.post(f"/v1/runs/{run}/steps/mail/approve", json={"by": "bob"})
            assert (posing.status_code, posing.json()["code"]) == (403, "other-name")
            assert (await bob.post(f"/v1/runs/{run}/steps/mail/approve", json={})).status_code == 200
            done = await waiting(bob, run, "succeeded")
            assert done["steps"]["mail"]["decision"] == {"decision": "approved", "by": "bob"}

            second = (await ann.post("/v1/runs", json={"plan": MAIL})).json()["id"]
            await waiting(ann, second)
            assert (
                await ann.post(f"/v1/runs/{second}/steps/mail/deny", json={"reason": "oh"})
            ).status_code == 200
            retried = (await bob.post(f"/v1/runs/{second}/retry", json={})).json()["id"]
            await waiting(bob, retried)
            assert (await bob.post(f"/v1/runs/{retried}/steps/mail/approve", json={})).status_code == 403
            assert (await ann.post(f"/v1/runs/{retried}/steps/mail/approve", json={})).status_code == 200
            forked = (await plain.post(f"/v1/runs/{run}/fork", json={"at": "mail"})).json()["id"]
            await waiting(plain, forked)
            assert (await ann.post(f"/v1/runs/{forked}/steps/mail/approve", json={})).status_code == 403

    asyncio.run(main())


def test_a_question_is_answered_under_the_name_of_the_key():
    """Whoever submitted a run may answer its questions; an answer of another type is refused."""
    asks = {
        "firmplan": 1,
        "steps": [{"id": "n", "ask_person": "How many?", "returns": {"type": "integer"}}],
        "output": "${n}",
    }

    async def main():
        async with served(named_keys=NAMED) as client:
            ann = client("key-of-ann")
            run = (await ann.post("/v1/runs", json={"plan": asks})).json()["id"]
            await waiting(ann, run)
            (call,) = (await ann.get(f"/v1/runs/{run}/waiting")).json()["calls"]
            assert (call["about"], call["returns"]) == ("question", {"type": "integer"})
            path = f"/v1/runs/{run}/steps/n"
            assert (await ann.post(f"{path}/answer", json={"value": "many"})).status_code == 422
            assert (await ann.post(f"{path}/answer", json={})).status_code == 422
            assert (await client("key-of-bob").post(f"{path}/approve", json={})).status_code == 422
            assert (await ann.post(f"{path}/answer", json={"value": 3})).status_code == 200
            done = await waiting(ann, run, "succeeded")
            assert (done["output"], done["steps"]["n"]["decision"]) == (
                3,
                {"decision": "answered", "by": "ann"},
            )
            assert (await ann.post(f"{path}/answer", json={"value": 4})).status_code == 409

    asyncio.run(main())


def test_a_question_of_the_planner_is_answered_under_the_name_of_the_key():
    """The server plans on by itself."""
    asks = {"firmplan": 1, "steps": [], "question": {"text": "How many?", "returns": {"type": "integer"}}}
    plan = {"firmplan": 1, "steps": [{"id": "n", "set": 3}], "output": "${n}"}

    async def main():
        async with (
            ScriptedModel([json.dumps(asks), json.dumps(plan)]) as model,
            served(
                planner=Planner("scripted", base_url=model.base_url, api_key="x"), named_keys=NAMED
            ) as client,
        ):
            ann = client("key-of-ann")
            run = (await ann.post("/v1/tasks", json={"task": "Count"})).json()["id"]
            asked = await waiting(ann, run)
            assert asked["question"] == asks["question"]
            path = f"/v1/runs/{run}/answer"
            assert (await ann.post(path, json={"value": "many"})).status_code == 422
            assert (await ann.post(path, json={"value": 3, "by": "bob"})).status_code == 403
            assert (await ann.post(path, json={"value": 3})).status_code == 200
            done = await waiting(ann, run, "succeeded")
            assert (done["output"], done["question"]) == (3, None)

    asyncio.run(main())


@pytest.mark.parametrize("options", [{}, {"api_keys": ("plain",)}])
def test_keys_without_a_name_approve_their_own(options):
    """Environment keys and keyless loopback: the body names who decides, and has to."""

    async def main():
        async with served(**options) as client:
            plain = client("plain" if options else "")
            run = (await plain.post("/v1/runs", json={"plan": MAIL})).json()["id"]
            await waiting(plain, run)
            assert (await plain.get(f"/v1/runs/{run}/waiting")).json()["submitter"] is None
            for body in ({}, {"by": None}, {"by": ""}):
                nobody = await plain.post(f"/v1/runs/{run}/steps/mail/approve", json=body)
                assert nobody.status_code == 422, body
                assert nobody.json()["problems"], body
            assert (
                await plain.post(f"/v1/runs/{run}/steps/mail/approve", json={"by": "me"})
            ).status_code == 200
            await waiting(plain, run, "succeeded")

    asyncio.run(main())


def test_a_named_key_that_is_wrong_or_unnamed_besides_gets_no_more_rights():
    """A wrong key is a 401; a key in both lists is the named one; named keys alone count as keys for other machines."""

    async def main():
        async with served(named_keys=NAMED, api_keys=("key-of-ann",)) as client:
            assert (await client("nothing").get("/v1/runs")).status_code == 401
            ann = client("key-of-ann")
            run = (await ann.post("/v1/runs", json={"plan": MAIL})).json()["id"]
            await waiting(ann, run)
            refused = await ann.post(f"/v1/runs/{run}/steps/mail/approve", json={"by": "ann"})
            assert refused.status_code == 403
        async with Engine([send], store="memory:") as engine:
            with pytest.raises(ConfigError, match="no API keys"):
                await serve(engine, host="0.0.0.0")

    asyncio.run(main())


STORES = ["file", pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.mark.parametrize("kind", STORES)
def test_the_submitter_is_stored_with_the_run_and_its_children(kind, tmp_path, request):
    """Another engine on the same store keeps the rule; forks, retries and patched plans do not lose the name."""
    store = tmp_path / "s.db" if kind == "file" else request.getfixturevalue("postgres_url")
    submitter = Submitter("ann", may_approve=False)
    with Engine([send], store=store) as engine:
        run = engine.run_sync(MAIL, submitter=submitter)
        free = engine.run_sync(MAIL, submitter=Submitter("ann"))
    with Engine([send], store=store) as engine:
        assert engine.waiting_sync(run.id).submitter == "ann"
        with pytest.raises(InputRejected) as refused:
            engine.approve_sync(run.id, "mail", by="ann")
        assert refused.value.code == "own-run"
        engine.approve_sync(free.id, "mail", by="ann")
        engine.deny_sync(run.id, "mail", by="ann", reason="no")
        engine.resume_sync(run.id)
        children = [engine.retry_sync(run.id), engine.fork_sync(run.id, at="mail")]
        for child in children:
            with pytest.raises(InputRejected, match="may not approve"):
                engine.approve_sync(child.id, "mail", by="ann")
        bundle = engine.export_sync(run.id, tmp_path / "b")
        assert engine.replay_sync(bundle).digest == engine.get_sync(run.id).digest
        for name in ("", "  ", 3):
            with pytest.raises(InputRejected, match="submitter"):
                engine.run_sync(MAIL, submitter=Submitter(name))


def test_a_patched_plan_keeps_the_submitter():
    """A planner that patches a failed run's plan makes a run of the same submitter."""

    @tool(effect="pure")
    def fail(n: int) -> int:
        """Fail."""
        raise ValueError("no")

    plan = {
        "firmplan": 1,
        "steps": [
            {"id": "bad", "tool": "fail", "args": {"n": 1}},
            {"id": "mail", "tool": "send", "args": {"to": "me"}, "after": ["bad"]},
        ],
    }
    patch = {"reasoning": "leave it out", "operations": []}
    patched = {**plan, "steps": [{"id": "bad", "set": 1}, plan["steps"][1]]}

    async def main():
        from firmplan import Planner

        async with ScriptedModel([json.dumps(each) for each in (patched, patched, patch)]) as model:
            planner = Planner(model="m", base_url=model.base_url)
            async with Engine([fail, send], store="memory:", planner=planner) as engine:
                run = await engine.run(plan, replan=1, submitter=Submitter("ann", may_approve=False))
                assert run.parent is not None, run.errors
                assert run.status == "waiting", (run.errors, model.requests)
                with pytest.raises(InputRejected, match="may not approve"):
                    await engine.approve(run.id, "mail", by="ann")

    asyncio.run(main())


def test_a_kept_replay_stays_in_the_tenant(tmp_path):
    """Of a run of the store, and of a bundle in another store."""
    plan = {"firmplan": 1, "steps": [{"id": "x", "set": 1}], "output": "${x}"}
    with Engine([], store="memory:") as engine:
        run = engine.run_sync(plan, submitter=Submitter("ann", tenant="acme"))
        kept = engine.replay_sync(run.id, keep=True)
        listed = [each.id for each in engine.list_runs_sync(tenant="acme").runs]
        assert set(listed) == {run.id, kept.id}
        bundle = engine.export_sync(run.id, tmp_path / "b")
    with Engine([], store="memory:") as engine:
        kept = engine.replay_sync(bundle, keep=True)
        assert [each.id for each in engine.list_runs_sync(tenant="acme").runs] == [kept.id]
        with pytest.raises(InputRejected, match="tenant"):
            engine.run_sync(plan, submitter=Submitter("ann", tenant="a:b"))
