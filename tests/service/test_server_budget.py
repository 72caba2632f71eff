"""The budget of a server: what all runs spend on models together decides whether new work is taken."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import httpx2
import pytest
from firmplan import Engine, Model, Models, Planner, tool
from firmplan.cli.config import read_settings
from firmplan.errors import ConfigError, StoreError
from firmplan.service import ServerBudget, ServerLimits, create_app, spending
from firmplan.service.routes import schedules
from firmplan.testing import FakeClock, ScriptedModel

ASK = {
    "firmplan": 1,
    "inputs": {"n": {"type": "integer"}},
    "steps": [{"id": "say", "ask": {"prompt": "Say ${inputs.n}"}}],
    "output": "${say}",
}
SET = {"firmplan": 1, "steps": [{"id": "x", "set": 1}], "output": "${x}"}
STORES = ["file", pytest.param("postgres", marks=pytest.mark.postgres)]
DAY_S = 86_400.0


@tool(effect="pure")
def add(a: int) -> int:
    """Add one."""
    return a + 1


@asynccontextmanager
async def served(model, store, budget, clock=None, *, watched=True):
    """A client of a server whose runs ask a scripted model that costs a dollar for a million tokens."""
    prices = {"prices": 1, "models": [{"model": "m", "input": 1.0, "output": 1.0}]}
    models = Models({"default": Model("m", base_url=model.base_url, api_key="x")}, prices=prices)
    planner = Planner("m", base_url=model.base_url, api_key="x")
    options = {"clock": clock} if clock else {}
    async with Engine([add], store=store, models=models, planner=planner, **options) as engine:
        app = create_app(engine, limits=ServerLimits(budget=budget))
        queue = app.state.served.queue
        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app), base_url="http://localhost"
        ) as client:
            watching = asyncio.create_task(queue.watch()) if watched else None
            yield client, engine, queue
            if watching is not None:
                watching.cancel()
        await queue.close()


async def ask(client, engine, number):
    """Submit a run that asks the model, and return the answer, when the run has ended."""
    answer = await client.post("/v1/runs", json={"plan": ASK, "inputs": {"n": number}})
    if answer.status_code == 202:
        await engine.wait(answer.json()["id"])
    return answer


def replies():
    """Return a model that answers everything, and counts 15 tokens an answer."""
    return ScriptedModel(lambda _: "yes")


@pytest.mark.parametrize("budget", [ServerBudget(usd=1e-9), ServerBudget(tokens=1), ServerBudget(1.0, 1)])
def test_a_planning_is_counted_like_a_step(budget, monkeypatch):
    """In dollars and in tokens, whichever is used up first; a run that asks no model costs nothing."""
    monkeypatch.setattr(spending, "LOOK_S", 0.0)

    async def main():
        async with (
            ScriptedModel([json.dumps(SET)]) as model,
            served(model, "memory:", budget, watched=False) as (client, engine, _),
        ):
            for _ in range(2):
                run = (await client.post("/v1/runs", json={"plan": SET})).json()["id"]
                await engine.wait(run)
            planned = await client.post("/v1/tasks", json={"task": "Give me the number one"})
            assert planned.status_code == 202, planned.text
            done = await engine.wait(planned.json()["id"])
            assert done.output == 1, done.errors
            assert (await client.post("/v1/runs", json={"plan": SET})).json()["code"] == "server-budget"

    asyncio.run(main())


@pytest.mark.parametrize("kind", STORES)
def test_no_new_work_is_taken_when_the_budget_of_the_day_is_used_up(kind, tmp_path, request, monkeypatch):
    """429 with `Retry-After` at every server of the store, also after a restart; what is there can be looked at and decided."""
    monkeypatch.setattr(spending, "LOOK_S", 0.0)
    store = tmp_path / "s.db" if kind == "file" else request.getfixturevalue("postgres_url")

    async def main():
        async with replies() as model:
            budget = ServerBudget(tokens=1)
            async with (
                served(model, store, budget, watched=False) as (client, engine, queue),
                served(model, store, budget, watched=False) as (other, _, _),
            ):
                first = await ask(client, engine, 1)
                assert first.status_code == 202
                refused = await ask(client, engine, 2)
                assert (refused.status_code, refused.json()["code"]) == (429, "server-budget")
                assert "tokens=" in refused.json()["detail"]
                assert 0 < int(refused.headers["retry-after"]) <= DAY_S
                assert (await other.post("/v1/runs", json={"plan": SET})).status_code == 202  # not told yet
                await queue._spending.flush()
                run = first.json()["id"]
                for path, body in (
                    ("/v1/runs", {"plan": SET}),
                    ("/v1/tasks", {"task": "say something"}),
                    (f"/v1/runs/{run}/fork", {"at": "say"}),
                    (f"/v1/runs/{run}/resume", {}),
                ):
                    for each in (client, other):
                        answer = await each.post(path, json=body)
                        assert answer.json()["code"] == "server-budget", path
                assert (await client.get(f"/v1/runs/{run}")).json()["output"] == "yes"
                assert (await client.post(f"/v1/runs/{run}/replay", json={})).status_code == 200
            async with served(model, store, budget, watched=False) as (client, engine, _):
                assert (await ask(client, engine, 3)).status_code == 429
                assert (await engine.spending())["tokens"] > 0
            async with served(model, store, None) as (client, engine, _):
                assert (await ask(client, engine, 4)).status_code == 202

    asyncio.run(main())


def test_the_next_day_has_a_budget_of_its_own_and_a_total_has_none(tmp_path, monkeypatch):
    """A total budget answers 403, since waiting does not help."""
    monkeypatch.setattr(spending, "LOOK_S", 0.0)

    async def main():
        clock = FakeClock()
        async with replies() as model:
            async with served(model, tmp_path / "a.db", ServerBudget(tokens=1), clock, watched=False) as (
                client,
                engine,
                queue,
            ):
                assert (await ask(client, engine, 1)).status_code == 202
                await queue._spending.flush()
                assert (await ask(client, engine, 2)).status_code == 429
                clock.advance(DAY_S)
                assert (await ask(client, engine, 3)).status_code == 202
            total = ServerBudget(tokens=1, per="total")
            async with served(model, tmp_path / "a.db", total, clock, watched=False) as (client, engine, _):
                refused = await ask(client, engine, 4)
                assert (refused.status_code, refused.json()["code"]) == (403, "server-budget")
                assert "retry-after" not in refused.headers

    asyncio.run(main())


def test_what_cannot_be_kept_now_is_kept_later(monkeypatch):
    """A store that fails for a moment loses nothing of what was spent."""
    monkeypatch.setattr(spending, "LOOK_S", 0.0)

    async def main():
        async with Engine([], store="memory:") as engine:
            counted = spending.Spending(engine, ServerBudget(usd=1.0))
            counted.add(0.75, 10)
            keep = engine.note_spending

            async def fail(**_):
                raise StoreError("away")

            monkeypatch.setattr(engine, "note_spending", fail)
            with pytest.raises(StoreError):
                await counted.flush()
            await counted.expect_left()
            monkeypatch.setattr(engine, "note_spending", keep)
            await counted.flush()
            await counted.flush()
            assert await engine.spending() == {"usd": 0.75, "tokens": 10}
            counted.add(None, 5)
            counted.add(0.25, 5)
            with pytest.raises(spending.Refusal, match="usd=1 of 1"):
                await counted.expect_left()

    asyncio.run(main())


def test_the_budget_stands_in_the_settings(tmp_path):
    """In the file or the environment; a limit that is none is refused."""
    (tmp_path / "firmplan.toml").write_text('[server_budget]\nusd = 5\nper = "total"\n')
    found = read_settings({}, {}, tmp_path).server_budget
    assert (found.usd, found.tokens, found.per) == (5, None, "total")
    env = {"FIRMPLAN_SERVER_BUDGET": "tokens=1000,per=day"}
    found = read_settings({}, env, tmp_path).server_budget
    assert (found.usd, found.tokens, found.per) == (None, 1000, "day")
    for wrong in ("usd=-1", "usd=many", "per=year", "dollars=1"):
        with pytest.raises(ConfigError, match="server_budget"):
            read_settings({}, {"FIRMPLAN_SERVER_BUDGET": wrong}, tmp_path)


def test_schedules_start_nothing_without_a_budget(monkeypatch):
    """The time that passed is caught up on when there is a budget again."""
    monkeypatch.setattr(spending, "LOOK_S", 0.0)

    async def main():
        clock = FakeClock()
        async with (
            replies() as model,
            served(model, "memory:", ServerBudget(tokens=1), clock, watched=False) as (client, engine, queue),
        ):
            app_served = client._transport.app.state.served
            plan = {**SET, "task": "One"}
            assert (await client.put("/v1/plans/one", json=plan)).status_code == 200
            made = await client.put(
                "/v1/schedules/hourly", json={"plan": "one", "every": "1h", "catch_up": "latest"}
            )
            assert made.status_code == 200, made.text
            queue._spending.add(None, 5)
            clock.advance(3 * 3600)
            await schedules._fire_due(app_served)
            assert (await engine.list_runs()).runs == ()
            clock.advance(DAY_S)
            queue._spending._tokens = 0
            await schedules._fire_due(app_served)
            assert len((await engine.list_runs()).runs) == 1

    asyncio.run(main())
