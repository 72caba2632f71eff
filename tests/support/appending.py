"""Putting things into a store as the thread of commits does, and the rows and batches that tests put there."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from firmplan.executor.journal.records import chain
from firmplan.executor.stores.store import Batch, ReuseEntries, RunRow, Store

DEAD = {"is_alive": lambda *_: False}
ALIVE = {"is_alive": lambda *_: True}
OLD = Path(__file__).parents[1] / "vectors" / "journals" / "0.3" / "store.sqlite"


async def append(store: Store, batch: Batch) -> None:
    """Append a batch on a thread that may wait. Raises: StoreError."""
    (fault,) = await asyncio.to_thread(store.append, [batch])
    if fault is not None:
        raise fault


async def leave(store: Store, left: ReuseEntries) -> None:
    """Add what calls leave, with no records beside it. Raises: StoreError."""
    await append(store, Batch("r", 0, 1, (), b"", {}, "running", "", 0.0, reuse=left))


def with_store(make_store, law):
    """Run a law on an open store."""

    async def main():
        store = make_store()
        await store.open()
        try:
            await law(store)
        finally:
            await store.close()

    asyncio.run(main())


def row_of(run_id="r", **fields):
    made = RunRow(run_id, "queued", "words", "sha256:p", None, 1.0, 1.0, "", {"plan": None, "n": [1, 2.5]})
    return replace(made, **fields)


async def claimed(store, run_id="r", **fields):
    await store.create_run(row_of(run_id, **fields))
    return await store.claim(run_id, "me", **DEAD)


def batch_of(row, *lines, **fields):
    made = Batch(row.id, row.epoch, row.last_seq + 1, lines, chain(row.head, lines), {}, "running", "", 2.0)
    return replace(made, **fields)


def after(row, batch):
    return replace(row, head=batch.head, last_seq=row.last_seq + len(batch.lines))


def emptied(path: Path) -> Path:
    """Make a store as an older firmplan made it, with nothing in it: it is brought up, but its rows never get numbers."""
    shutil.copyfile(OLD, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall():
            db.execute(f"DELETE FROM {table}")
    return path
