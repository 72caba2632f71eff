"""A store that was made before a table was added to its format gets it, and keeps all that it has."""

from __future__ import annotations

import asyncio
import re
import sqlite3

from firmplan.executor import SqliteStore
from firmplan.executor.stores.sqlite_file import ADDED
from firmplan.executor.stores.store import LearntKey, RunRow


def test_an_older_store_gets_what_was_added(tmp_path):
    """Its plans are there, and what the new tables are for works."""
    path = tmp_path / "s.db"

    async def main():
        store = SqliteStore(path)
        await store.open()
        await store.save_plan("a", "{}", "sha256:1", 1.0)
        await store.close()
        with sqlite3.connect(path) as db:
            for table in ADDED:
                db.execute(f"DROP TABLE {table}")
            db.execute("DROP INDEX runs_driven")
            db.execute("DROP INDEX runs_by_status")
            db.execute("DROP INDEX runs_of_tenant")
            db.execute("DROP INDEX runs_of_tenant_by_status")
            db.execute("ALTER TABLE runs DROP COLUMN tenant")
        db.close()
        await store.open()
        await store.note_use("a", "sha256:1", "check", None, 2.0)
        found = await store.count_uses(), [(each.name, each.text) for each in await store.list_plans()]
        await store.create_run(RunRow("r", "queued", None, None, None, 1.0, 1.0, "", {}, tenant="acme"))
        assert [
            row.tenant for row in await store.list_runs(status=None, limit=9, before=None, tenant="acme")
        ] == ["acme"]
        assert await store.list_runs(status=None, limit=9, before=None, tenant="other") == []
        assert (await store.claim("r", "me", is_alive=lambda *_: False)).beat is not None
        assert await store.raise_beat("me")
        assert await store.pin_tools("sha256:3", {"a": b"{}"}, 1.0)
        assert await store.list_learnt([]) == {}
        await store.merge_learnt({LearntKey("a", "sha256:4"): b"{}"}, 1.0, lambda kept, _: kept)
        await store.add_value("sha256:2", b"x", 1.0)
        assert (await store.prune_values(saved_before=2.0)).values == 1
        await store.close()
        with sqlite3.connect(path) as db:
            made = db.execute(
                "SELECT name FROM sqlite_master WHERE name IN ('runs_driven', 'runs_by_status')"
            )
            assert len(made.fetchall()) == 2
        db.close()
        return found

    assert asyncio.run(main()) == ([("a", "sha256:1", "check", 1)], [("a", "{}")])


def test_runs_of_a_status_are_found_without_a_look_at_the_others(tmp_path, monkeypatch):
    """Every submission to a server counts the runs under way: that may not cost more the more runs have ended."""
    asked = []

    async def main():
        store = SqliteStore(tmp_path / "s.db")
        await store.open()
        read = store._read

        async def noted(statement, values=None):
            asked.append(statement)
            return await read(statement, values or {})

        monkeypatch.setattr(store, "_read", noted)
        await store.list_runs(status="queued", limit=50, before=None)
        await store.list_runs(status="failed", limit=50, before=(1.0, "r"))
        await store.count_runs(["queued", "waiting"])
        await store.close()

    asyncio.run(main())
    with sqlite3.connect(tmp_path / "s.db") as db:
        for statement in asked:
            words = re.sub(r":\w+", "1", statement.replace("@", ""))
            plan = " ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {words}"))
            assert re.search(r"SEARCH runs USING (COVERING )?INDEX runs_by_status", plan)
            assert "SCAN runs" not in plan
            assert "TEMP B-TREE" not in plan
    db.close()
