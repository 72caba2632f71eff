"""A store that was made before a table was added to its format gets it, and keeps all that it has."""

from __future__ import annotations

import asyncio
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
        db.close()
        await store.open()
        await store.note_use("a", "sha256:1", "check", None, 2.0)
        found = await store.count_uses(), [(each.name, each.text) for each in await store.list_plans()]
        await store.create_run(RunRow("r", "queued", None, None, None, 1.0, 1.0, "", {}))
        assert (await store.claim("r", "me", is_alive=lambda *_: False)).beat is not None
        assert await store.raise_beat("me")
        assert await store.pin_tools("sha256:3", {"a": b"{}"}, 1.0)
        assert await store.list_learnt([]) == {}
        await store.merge_learnt({LearntKey("a", "sha256:4"): b"{}"}, 1.0, lambda kept, _: kept)
        await store.add_value("sha256:2", b"x", 1.0)
        assert (await store.prune_values(saved_before=2.0)).values == 1
        await store.close()
        with sqlite3.connect(path) as db:
            assert db.execute("SELECT 1 FROM sqlite_master WHERE name='runs_driven'").fetchone()
        db.close()
        return found

    assert asyncio.run(main()) == ([("a", "sha256:1", "check", 1)], [("a", "{}")])
