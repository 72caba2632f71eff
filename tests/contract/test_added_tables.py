"""A store that was made before a table was added to its format gets it, and keeps all that it has."""

from __future__ import annotations

import asyncio
import sqlite3

from firmplan.executor import SqliteStore
from firmplan.executor.sqlite_file import ADDED


def test_an_older_store_gets_what_was_added(tmp_path):
    """Its plans are there, and uses of them are counted."""
    path = tmp_path / "s.db"

    async def main():
        store = SqliteStore(path)
        await store.open()
        await store.save_plan("a", "{}", "sha256:1", 1.0)
        await store.close()
        with sqlite3.connect(path) as db:
            for table in ADDED:
                db.execute(f"DROP TABLE {table}")
        db.close()
        await store.open()
        await store.note_use("a", "sha256:1", "check", None, 2.0)
        found = await store.count_uses(), await store.list_plans()
        await store.close()
        return found

    assert asyncio.run(main()) == ([("a", "sha256:1", "check", 1)], [("a", "{}")])
