"""No request reads all stored runs: what a submission, `/metrics` and lists ask for is found by indexes, however many runs have ended.

How long they take is measured by `benchmarks/bench_stored_runs.py`.
"""

from __future__ import annotations

import asyncio
import re
import time

import pytest
from firmplan import Engine, tool
from firmplan.service.auth import ServerLimits
from firmplan.service.metrics import Metrics
from firmplan.service.run_queue import RunQueue
from stored_runs import COPIED, fill_file, fill_server

RUNS = 3_000  # a server reads fewer rows of a small table as quickly without its indexes
TABLES = ("runs", *(name for name in COPIED if name != "runs"))
SCAN = re.compile(rf"SCAN ({'|'.join(TABLES)})\b")
# They read the beginning of an index: the list of all runs, and the key filter, which reads the index once, a portion at a time.
BEGINNINGS = re.compile(
    r"WHERE 1=1\s+ORDER BY created DESC, id DESC LIMIT|FROM reusable WHERE key > |FROM reuse_keys WHERE prefix >= "
)


@tool(effect="pure", version=1)
async def double(n: int) -> int:
    """Double it."""
    return 2 * n


def plan(number):
    """Two steps."""
    steps = [
        {"id": "a", "tool": "double", "args": {"n": number}},
        {"id": "b", "tool": "double", "args": {"n": "${a}"}},
    ]
    return {"firmplan": 1, "steps": steps, "output": "${b}"}


async def make(store):
    """Make the run that is copied."""
    async with Engine([double], store=store) as engine:
        run = await engine.run(plan(1))
        await engine.explain(run.id, "a")  # its calls are then where they are looked for


async def ask(engine):
    """Ask for what servers ask for all the time."""
    queue = RunQueue(engine, ServerLimits(), Metrics())
    await queue.check_queue()
    run = await engine.submit(plan(1_000), run_id="mine")
    assert (await engine.wait(run.id)).output == 4_000
    assert (await engine.get("mine")).status == "succeeded"
    assert await queue.active() == dict.fromkeys(await queue.active(), 0)
    assert len((await engine.list_runs(limit=50)).runs) == 50
    assert len((await engine.list_runs(status="failed", limit=50)).runs) == 50
    assert (await engine.list_runs(status="waiting", limit=50)).runs == ()
    assert [each async for each in engine.events("mine")]
    execution = (await engine._open()).execution
    assert await execution._store.list_driven() == []
    assert execution._store.list_decided() == []


def test_in_a_file(tmp_path):
    """As SQLite plans each statement."""
    store = tmp_path / "s.db"
    statements = set()

    async def main():
        await make(store)
        await asyncio.to_thread(fill_file, str(store), RUNS)
        async with Engine([double], store=store) as engine:
            file = (await engine._open()).execution._store
            for db in (file._db, file._reader):
                db.set_trace_callback(statements.add)
            await ask(engine)
            for db in (file._db, file._reader):
                db.set_trace_callback(None)
            told = [each for each in statements if each.startswith(("SELECT", "UPDATE", "DELETE", "INSERT"))]
            return {
                each: [row[3] for row in file._reader.execute(f"EXPLAIN QUERY PLAN {each}")] for each in told
            }

    plans = asyncio.run(main())
    assert any("FROM runs" in each for each in plans)
    assert any("INTO reuse_keys" in each for each in plans)
    scans = {each: rows for each, rows in plans.items() if any(SCAN.search(row) for row in rows)}
    assert {each: rows for each, rows in scans.items() if not BEGINNINGS.search(each)} == {}


@pytest.mark.postgres
def test_on_a_server(cluster, postgres_url):
    """As PostgreSQL counts the rows that it read without an index."""
    schema = postgres_url.rpartition("%3D")[2]

    def read():
        rows = cluster.sql(
            f"SELECT relname, seq_tup_read, coalesce(idx_scan, 0) FROM pg_stat_user_tables WHERE schemaname = '{schema}'"
        )
        return {name.removeprefix("firmplan_"): (rows_read, looks) for name, rows_read, looks in rows}

    async def asked():
        async with Engine([double], store=postgres_url) as engine:
            await ask(engine)

    asyncio.run(make(postgres_url))
    fill_server(postgres_url, RUNS)
    time.sleep(0.1)
    before = read()
    asyncio.run(asked())
    until = time.monotonic() + 30
    while (after := read())["runs"][1] == before["runs"][1]:  # a connection tells when it ends
        assert time.monotonic() < until, "the requests were not counted"
        time.sleep(0.05)
    time.sleep(0.2)
    after = read()
    assert {name: after[name][0] - before[name][0] for name in TABLES} == dict.fromkeys(TABLES, 0)
