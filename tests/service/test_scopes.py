"""Every route, as the application has it, asked with every scope and by every tenant: a route without an entry in `SCOPES` fails here."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import httpx2
import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from firmplan import Engine, Planner, tool
from firmplan.executor.stores.api_keys import SCOPES as KEY_SCOPES
from firmplan.service import callers
from firmplan.service.app import create_app
from firmplan.service.auth import OPEN_FOLDER, OPEN_PATHS
from firmplan.service.callers import ANY, OPEN, SCOPES, SERVER, ScopedRoute
from firmplan.service.run_queue import run_id_of
from firmplan.testing import ScriptedModel

PLAN = {
    "firmplan": 1,
    "task": "Add {a}",
    "inputs": {"a": {"type": "integer"}},
    "steps": [{"id": "total", "tool": "add", "args": {"a": "${inputs.a}"}}],
    "output": "${total}",
}
MAIL = {
    "firmplan": 1,
    "steps": [{"id": "mail", "tool": "send", "args": {"to": "me"}}],
    "output": "${mail}",
}
VALUES = {
    "path": "mail",
    "name": "saved",
    "digest": f"sha256:{'0' * 64}",
    "other_id": "none",
    "run_id": "none",
    "delivery_id": "none",
}
REFUSED = ("unauthorized", "needs-read", "needs-submit", "needs-approve", "needs-admin")
CALLS = []


@tool(effect="pure")
def add(a: int) -> int:
    """Add one."""
    CALLS.append(a)
    return a + 1


@tool(effect="write", approval="always", resource="mail")
def send(to: str) -> str:
    """Send a mail."""
    return f"sent to {to}"


def routes():
    """Handler, method and path of each route of the application."""

    async def find():
        async with Engine([add, send], store="memory:") as engine:
            found = iter_route_contexts(create_app(engine).routes)
            return [each.original_route for each in found if each.path != "/openapi.json"]

    return asyncio.run(find())


ROUTES = routes()
SCOPED = [
    route for route in ROUTES if route.path not in OPEN_PATHS and not route.path.startswith(OPEN_FOLDER)
]
ASKED = sorted((method, route.path, route.name) for route in SCOPED for method in route.methods)


@asynccontextmanager
async def served(planner=None):
    """A function from a key's text to a client, and the engine, of an application in this process."""
    async with Engine([add, send], store="memory:", planner=planner) as engine:
        app = create_app(engine)
        clients = []

        def client(key):
            headers = {"Authorization": f"Bearer {getattr(key, 'text', key)}"}
            transport = httpx2.ASGITransport(app=app)
            clients.append(
                httpx2.AsyncClient(transport=transport, base_url="http://localhost", headers=headers)
            )
            return clients[-1]

        yield client, engine
        for each in clients:
            await each.aclose()


def filled(path, **values):
    """Return a path of a route with values in the place of its parameters."""
    for name, value in {**VALUES, **values}.items():
        path = path.replace(f"{{{name}}}", value).replace(f"{{{name}:path}}", value)
    assert "{" not in path, f"a new parameter needs a value in VALUES: {path}"
    return path


async def code_of(client, method, path):
    """Return status and code of an answer to a request without a body."""
    async with client.stream(method, path) as found:
        if found.headers.get("content-type") != "application/problem+json":
            return found.status_code, ""
        await found.aread()
        return found.status_code, found.json()["code"] if found.content else ""


def test_every_route_has_a_scope():
    """None is forgotten: it checks its scope, and the table knows its handler; the table has no other entries."""
    assert [route.path for route in SCOPED if not isinstance(route, ScopedRoute)] == []
    assert {route.name for route in SCOPED} <= set(SCOPES)
    every = {route.name for route in ROUTES if isinstance(route, APIRoute)}
    assert set(SCOPES) <= every
    assert {SCOPES[route.name] for route in SCOPED} <= {*KEY_SCOPES, ANY, SERVER}
    opened = {route.name for route in ROUTES if isinstance(route, ScopedRoute) and route not in SCOPED}
    assert opened == {name for name, scope in SCOPES.items() if scope == OPEN}


def test_every_route_is_refused_without_a_key_and_without_its_scope():
    """401 without a key; with one, 403 unless it has the route's scope or `admin`; the code names the scope."""

    async def main():
        async with served() as (client, engine):
            keys = {scope: await engine.add_key(scope, scopes=[scope]) for scope in KEY_SCOPES}
            clients = {scope: client(key) for scope, key in keys.items()}
            for method, path, name in ASKED:
                at = filled(path)
                assert await code_of(client(""), method, at) in ((401, "unauthorized"), (401, ""))
                wanted = "admin" if SCOPES[name] == SERVER else SCOPES[name]
                for scope, asking in clients.items():
                    status, code = await code_of(asking, method, at)
                    if scope in (wanted, "admin") or wanted == ANY:
                        assert code not in REFUSED, (method, path, scope)
                        assert status != 403, (method, path, scope)
                    else:
                        assert status == 403, (method, path, scope)
                        assert code in (f"needs-{wanted}", ""), (method, path, scope)

    asyncio.run(main())


@pytest.mark.parametrize("status", ["waiting", "succeeded"])
def test_every_route_about_a_run_of_another_tenant_answers_as_about_none(status):
    """404 with the same words, whatever is asked, and nothing of the run changes; its own tenant and a key of no tenant see it."""

    async def main():
        async with served() as (client, engine):
            ours = client(await engine.add_key("ann", scopes=["admin"], tenant="acme"))
            theirs = client(await engine.add_key("eve", scopes=["admin"], tenant="evil"))
            plain = client(await engine.add_key("root", scopes=["admin"]))
            body = {"plan": MAIL} if status == "waiting" else {"plan": PLAN, "inputs": {"a": 1}}
            run = (await ours.post("/v1/runs", json=body)).json()["id"]
            await engine.wait(run)
            before = (await ours.get(f"/v1/runs/{run}")).json()
            assert before["status"] == status
            own = (await theirs.post("/v1/runs", json={"plan": PLAN, "inputs": {"a": 2}})).json()["id"]
            seen = 0
            for method, path, _ in ASKED:
                names = [name for name in callers.RUNS if f"{{{name}}}" in path]
                for name in names:
                    asked = dict.fromkeys(names, own) | {name: run}
                    hidden = await theirs.request(method, filled(path, **asked), json={})
                    none = await theirs.request(method, filled(path, **{**asked, name: "none"}), json={})
                    assert (hidden.status_code, none.status_code) == (404, 404), (method, path)
                    if method != "HEAD":
                        assert hidden.json()["code"] == none.json()["code"] == "run-not-found"
                        assert hidden.json()["detail"].replace(run, "none") == none.json()["detail"]
                    seen += 1
            assert seen > 20
            for asking in (ours, plain):
                assert (await asking.get(f"/v1/runs/{run}")).json() == before

    asyncio.run(main())


def test_plans_of_tenants_are_apart():
    """A tenant lists and names what is its own, and its plans run its own; a key of no tenant sees all, and names plans of tenants with theirs."""

    async def main():
        async with served() as (client, engine):
            ours = client(await engine.add_key("ann", scopes=["read", "submit", "admin"], tenant="acme"))
            theirs = client(await engine.add_key("bob", scopes=["read", "submit", "admin"], tenant="bolt"))
            plain = client(await engine.add_key("root", scopes=["admin"]))
            changed = {**PLAN, "output": "${total + 1}"}
            assert (await ours.put("/v1/plans/sum", json=PLAN)).json()["name"] == "sum"
            assert (await theirs.put("/v1/plans/sum", json=changed)).status_code == 200
            assert (await theirs.put("/v1/plans/acme:sum", json=changed)).status_code == 422
            digest = (await ours.get("/v1/plans/sum")).json()
            assert digest["output"] == "${total}"
            assert (await theirs.get("/v1/plans/sum")).json()["output"] == "${total + 1}"
            listed = {
                who: [each["name"] for each in (await asking.get("/v1/plans")).json()["plans"]]
                for who, asking in (("ours", ours), ("theirs", theirs), ("plain", plain))
            }
            assert listed == {"ours": ["sum"], "theirs": ["sum"], "plain": ["acme:sum", "bolt:sum"]}
            saved = (await ours.get("/v1/plans")).json()["plans"][0]["digest"]
            for name in (saved, "acme:sum", "acme:" + saved):
                assert (await theirs.get(f"/v1/plans/{name}")).status_code == 404
                assert (await plain.get(f"/v1/plans/{name}")).status_code == 200
                by = {"plan_digest": name, "inputs": {"a": 1}}
                assert (await theirs.post("/v1/runs", json=by)).status_code == 404
            assert (await plain.get("/v1/plans/sum")).status_code == 404
            assert (await theirs.get("/v1/plans/sum/history")).json()["versions"][0]["by"] == "bob"
            assert len((await ours.get("/v1/plans/sum/history")).json()["versions"]) == 1
            inner = {"firmplan": 1, "steps": [{"id": "s", "plan": "sum", "args": {"a": 4}}], "output": "${s}"}
            assert (await plain.post("/v1/plans:check", json=inner)).json()["ok"] is False
            outputs = {}
            for who, asking in (("ours", ours), ("theirs", theirs)):
                assert (await asking.post("/v1/plans:check", json=inner)).json()["ok"] is True
                run = (await asking.post("/v1/runs", json={"plan": inner})).json()["id"]
                outputs[who] = (await engine.wait(run)).output
            assert outputs == {"ours": 5, "theirs": 6}

    asyncio.run(main())


def test_results_and_lists_of_runs_of_tenants_are_apart():
    """A run of one tenant reuses no result of another, and its explanation names no call of another; each list has the tenant's own runs."""

    async def main():
        async with served() as (client, engine):
            ours = client(await engine.add_key("ann", scopes=["read", "submit", "admin"], tenant="acme"))
            theirs = client(await engine.add_key("bob", scopes=["read", "submit", "admin"], tenant="bolt"))
            plain = client(await engine.add_key("root", scopes=["admin"]))
            CALLS.clear()
            runs = {}
            for who, asking in (("ours", ours), ("theirs", theirs), ("plain", plain), ("again", ours)):
                run = (await asking.post("/v1/runs", json={"plan": PLAN, "inputs": {"a": 77}})).json()["id"]
                runs[who] = run
                assert (await engine.wait(run)).output == 78
            assert CALLS == [77, 77, 77]
            assert (await engine.get(runs["again"])).steps["total"].reused
            why = (await ours.get(f"/v1/runs/{runs['again']}/explain")).json()["steps"][0]
            assert why["source"]["run"] == runs["ours"]
            why = (await theirs.get(f"/v1/runs/{runs['theirs']}/explain")).json()["steps"][0]
            assert why["source"] is None or why["source"]["run"] not in runs.values()

            pages = {}
            for who, asking in (("ours", ours), ("theirs", theirs), ("plain", plain)):
                found, cursor = [], None
                while True:
                    query = {"limit": 1, "status": "succeeded"} | ({"cursor": cursor} if cursor else {})
                    page = (await asking.get("/v1/runs", params=query)).json()
                    found += [each["id"] for each in page["runs"]]
                    if (cursor := page["cursor"]) is None:
                        break
                pages[who] = found
            assert len(pages["ours"]) == 2
            assert len(pages["theirs"]) == 1
            assert not set(pages["ours"]) & set(pages["theirs"])
            assert {*pages["ours"], *pages["theirs"], runs["plain"]} == set(pages["plain"])
            for asking, tenant, found in (
                (plain, "acme", pages["ours"]),
                (ours, "acme", pages["ours"]),
                (ours, "bolt", []),
                (plain, "none", []),
            ):
                page = (await asking.get("/v1/runs", params={"tenant": tenant})).json()
                assert [each["id"] for each in page["runs"]] == found
                assert {each["tenant"] for each in page["runs"]} <= {tenant}
            assert (await plain.get("/v1/runs", params={"tenant": "a:b"})).status_code == 422
            taken = await theirs.post(f"/v1/runs/{runs['theirs']}/fork", json={"run_id_new": runs["ours"]})
            assert taken.status_code == 422
            assert "acme" not in taken.text

    asyncio.run(main())


def test_nobody_takes_the_run_of_an_idempotency_key_first():
    """Its id follows from the key and the names of client and tenant, which others may guess; so does that of a time of a schedule."""

    async def main():
        async with served() as (client, engine):
            ours = client(await engine.add_key("ann", scopes=["admin"], tenant="acme"))
            theirs = client(await engine.add_key("eve", scopes=["admin"], tenant="evil"))
            run = (await theirs.post("/v1/runs", json={"plan": PLAN, "inputs": {"a": 1}})).json()["id"]
            await engine.wait(run)
            for wanted in (run_id_of("acme/ann\norder-1"), f"sched-{'0' * 32}"):
                for word in ("fork", "retry"):
                    taken = await theirs.post(f"/v1/runs/{run}/{word}", json={"run_id_new": wanted})
                    assert taken.status_code in (409, 422), taken.text
                    assert "run_id_new: expected an id" in taken.json()["detail"]
            made = await ours.post(
                "/v1/runs", json={"plan": PLAN, "inputs": {"a": 1}}, headers={"Idempotency-Key": "order-1"}
            )
            assert (made.status_code, made.json()["id"]) == (202, run_id_of("acme/ann\norder-1"))
            await engine.wait(made.json()["id"])

    asyncio.run(main())


def test_the_children_of_a_run_stay_in_its_tenant():
    """Also those that a key of no tenant makes."""

    async def main():
        async with served() as (client, engine):
            ours = client(await engine.add_key("ann", scopes=["admin"], tenant="acme"))
            plain = client(await engine.add_key("root", scopes=["admin"]))
            run = (await ours.post("/v1/runs", json={"plan": MAIL})).json()["id"]
            await engine.wait(run)
            assert (await plain.post(f"/v1/runs/{run}/steps/mail/deny", json={})).status_code == 200
            await engine.wait(run)
            children = []
            for asking in (ours, plain):
                for word in ("fork", "retry"):
                    made = await asking.post(f"/v1/runs/{run}/{word}", json={})
                    assert made.status_code == 202, made.text
                    children.append(made.json()["id"])
            listed = [each["id"] for each in (await ours.get("/v1/runs")).json()["runs"]]
            assert set(listed) == {run, *children}

    asyncio.run(main())


def test_a_key_may_ask_what_it_is():
    """Name, scopes, tenant; a scope that brings others names them; a client without a key has all, and no name."""

    async def main():
        every = list(KEY_SCOPES)
        async with served() as (client, _):
            free = (await client("").get("/v1/me")).json()
            assert free == {"name": None, "scopes": every, "tenant": None, "may_approve_own": True}
        async with served() as (client, engine):
            decides = await engine.add_key("ann", scopes=["approve"], tenant="acme")
            found = await client(decides).get("/v1/me")
            assert found.json() == {
                "name": "ann",
                "scopes": ["approve"],
                "tenant": "acme",
                "may_approve_own": False,
            }
            root = await engine.add_key("root", scopes=["admin"], may_approve_own=True)
            found = (await client(root).get("/v1/me")).json()
            assert found == {"name": "root", "scopes": every, "tenant": None, "may_approve_own": True}
            assert (await client("nothing").get("/v1/me")).status_code == 401

    asyncio.run(main())


def test_metrics_are_for_keys_of_no_tenant():
    """They count the runs of all; what the page and the health checks tell needs no key."""

    async def main():
        async with served() as (client, engine):
            ours = client(await engine.add_key("ann", scopes=["admin"], tenant="acme"))
            assert await code_of(ours, "GET", "/metrics") == (403, "needs-admin")
            plain = client(await engine.add_key("root", scopes=["admin"]))
            assert (await plain.get("/metrics")).status_code == 200
            nobody = client("nothing")
            for path in ("/", "/healthz", "/readyz", "/openapi.json"):
                assert (await nobody.get(path)).status_code == 200, path

    asyncio.run(main())


def test_a_task_of_a_tenant_is_answered_by_its_own_plans():
    """A plan that is saved for one tenant, or that a model wrote for its task, answers no task of another; uses are counted apart."""
    drafts = [json.dumps({**PLAN, "inputs": {"a": {"type": "integer", "default": n}}}) for n in (30, 40)]

    async def main():
        async with ScriptedModel(drafts) as model:
            planner = Planner("m", base_url=model.base_url, api_key="x")
            async with served(planner=planner) as (client, engine):
                ours = client(await engine.add_key("ann", scopes=["read", "submit"], tenant="acme"))
                theirs = client(await engine.add_key("bob", scopes=["read", "submit"], tenant="bolt"))
                await ours.put("/v1/plans/sum", json=PLAN)

                async def output(asking, task):
                    run = (await asking.post("/v1/tasks", json={"task": task})).json()["id"]
                    done = await engine.wait(run)
                    return done.output, done.errors

                assert await output(ours, "Add 5") == (6, ())
                assert model.requests == []
                assert await output(theirs, "Add 5") == (31, ())
                assert len(model.requests) == 1
                assert await output(theirs, "Add 5") == (31, ())  # as it was planned
                assert len(model.requests) == 1
                plain = client(await engine.add_key("root", scopes=["admin"]))
                assert await output(plain, "Add 5") == (41, ())
                (listed,) = (await ours.get("/v1/plans")).json()["plans"]
                assert (listed["name"], listed["hits"]) == ("sum", 1)
                (qualified,) = (await plain.get("/v1/plans")).json()["plans"]
                assert (qualified["name"], qualified["hits"]) == ("acme:sum", 1)

    asyncio.run(main())


def test_a_person_sees_what_their_own_tenant_did_last_time():
    """The view of a waiting call names no run of another tenant."""

    async def main():
        async with served() as (client, engine):
            scopes = ["read", "submit", "approve"]
            ours = client(await engine.add_key("ann", scopes=scopes, tenant="acme", may_approve_own=True))
            theirs = client(await engine.add_key("bob", scopes=scopes, tenant="bolt"))

            async def waiting(asking):
                run = (await asking.post("/v1/runs", json={"plan": MAIL})).json()["id"]
                await engine.wait(run)
                return run, (await asking.get(f"/v1/runs/{run}/waiting")).json()["calls"][0]["last_time"]

            first, _ = await waiting(ours)
            assert (await ours.post(f"/v1/runs/{first}/steps/mail/approve", json={})).status_code == 200
            await engine.wait(first)
            assert (await waiting(theirs))[1] is None
            assert (await waiting(ours))[1]["run"] == first

    asyncio.run(main())


def test_no_answer_to_a_tenant_names_what_another_has():
    """Every route that is about no run of its path: lists have nothing of another tenant, and names of its plans and schedules mean nothing."""

    async def main():
        async with served() as (client, engine):
            ours = client(await engine.add_key("ann", scopes=["admin"], tenant="acme"))
            theirs = client(await engine.add_key("eve", scopes=["admin"], tenant="evil"))
            run = (await ours.post("/v1/runs", json={"plan": {**MAIL, "task": "telltale task"}})).json()["id"]
            await engine.wait(run)
            saved = {**PLAN, "task": "telltale plan {a}"}
            assert (await ours.put("/v1/plans/telltale", json=saved)).status_code == 200
            when = {"plan": "telltale", "inputs": {"a": 1}, "every": "1h"}
            assert (await ours.put("/v1/schedules/telltale", json=when)).status_code == 200
            lists, named = 0, 0
            for method, path, _ in ASKED:
                if method == "HEAD" or any(f"{{{name}}}" in path for name in callers.RUNS):
                    continue
                if "{" not in path and method == "GET":
                    answer = await theirs.get(path)
                    assert "telltale" not in answer.text, path
                    assert run not in answer.text, path
                    lists += 1
                for name in ("telltale", "acme:telltale") if "{name}" in path else ():
                    answer = await theirs.request(method, filled(path, name=name), json={})
                    assert answer.status_code in (404, 422), (method, path, name, answer.text)
                    assert "telltale plan" not in answer.text
                    named += 1
            assert (lists >= 5, named >= 20) == (True, True)
            for path in ("/v1/plans/telltale", "/v1/schedules/telltale"):
                assert (await ours.get(path)).status_code == 200

    asyncio.run(main())
