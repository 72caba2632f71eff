"""What holds of the connections to one file, whatever its tables mean: how often work is done, how large bytes travel, what is waited for."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest
from appending import emptied, row_of, with_store
from firmplan.errors import StoreError
from firmplan.executor import SqliteStore
from firmplan.executor.stores import sqlite_file
from firmplan.executor.stores.sqlite_file import BUSY_TIMEOUT_MS, numbered_tables
from firmplan.executor.stores.sqlite_store import LARGE_BYTES, PORTION_BYTES
from firmplan.plans.values import digest


def fault_of(code):
    fault = sqlite3.OperationalError("it said")
    fault.sqlite_errorcode = code
    return fault


# --- opening and closing


@pytest.mark.parametrize("is_file", [True, False])
def test_a_store_that_is_opened_twice_is_the_same(tmp_path, is_file):
    """What is in memory alone is not lost by it; closed, it may be opened again."""

    async def main():
        store = SqliteStore(tmp_path / "s.db" if is_file else ":memory:")
        await store.open()
        await store.create_run(row_of())
        before = store._db
        await store.open()
        assert store._db is before
        assert await store.find_run("r") == row_of()
        await store.close()
        await store.open()
        assert (await store.find_run("r") is not None) == is_file
        await store.close()

    asyncio.run(main())


def test_a_store_that_could_not_be_opened_is_closed(tmp_path):
    """It says so, and opens once the cause is gone."""

    async def main():
        store = SqliteStore(tmp_path / "no" / "s.db")
        for _ in range(2):
            with pytest.raises(StoreError, match="does not exist: make it"):
                await store.open()
            with pytest.raises(StoreError, match="is closed"):
                await store.create_run(row_of())
        (tmp_path / "no").mkdir()
        await store.open()
        assert await store.create_run(row_of())
        await store.close()

    asyncio.run(main())


def test_a_copy_has_all_that_was_committed(tmp_path):
    """Also what stands in the log alone; the store goes on, and the copy stays as it is."""

    async def law(store):
        await store.create_run(row_of())
        await store.copy_to(tmp_path / "copy.db")
        await store.create_run(row_of("later"))

    async def look(store):
        assert [row.id for row in await store.list_runs(status=None, limit=9, before=None)] == ["r"]

    with_store(lambda: SqliteStore(tmp_path / "s.db"), law)
    with_store(lambda: SqliteStore(tmp_path / "copy.db"), look)


# --- work


@pytest.mark.parametrize("fault", [fault_of(sqlite3.SQLITE_FULL), fault_of(sqlite3.SQLITE_READONLY), ValueError("it said")])  # fmt: skip
def test_work_that_fails_is_done_once(tmp_path, fault):
    """Whoever asked hears of it; nothing is repeated behind its back."""

    async def law(store):
        done = []

        def work():
            store._sql("BEGIN IMMEDIATE")
            store._sql("DELETE FROM runs")
            done.append(1)
            raise fault

        await store.create_run(row_of())
        with pytest.raises(StoreError, match="it said"):
            await store._call(work)
        assert done == [1]
        assert await store.find_run("r") == row_of()
        assert await store.create_run(row_of("s"))

    with_store(lambda: SqliteStore(tmp_path / "s.db"), law)


class Noting(SqliteStore):
    """A store that notes its statements, and the largest bytes that one of them was handed."""

    largest = 0
    statements = ()

    def _sql(self, statement, values=()):
        self.statements = (*self.statements, statement)
        self.largest = max(
            [self.largest, *(len(each) for each in dict(values).values() if isinstance(each, bytes))]
        )
        return super()._sql(statement, values)


@pytest.mark.parametrize("size", [LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + PORTION_BYTES + 1])
def test_large_bytes_are_handed_over_in_portions(tmp_path, size):
    """No statement is handed them, and the memory for them is given back once; bytes that are there already are not written again."""
    data = b"x" * size
    name, is_large = digest(data), size >= LARGE_BYTES

    async def law(store):
        store.statements = ()
        await store.add_value(name, data, 1.0)
        assert store.largest < LARGE_BYTES
        assert store.statements.count("PRAGMA shrink_memory") == is_large
        await store.add_value(name, b"y" * size, 1.0)
        assert await store.find_values([name]) == {name: data}
        store.statements = ()
        await store.add_value(digest(b"small"), b"small", 1.0)
        assert "PRAGMA shrink_memory" not in store.statements

    with_store(lambda: Noting(tmp_path / "s.db"), law)


def test_where_rows_have_no_numbers_large_bytes_are_handed_over_whole(tmp_path):
    """As in tables that an older firmplan made."""
    data = b"x" * LARGE_BYTES
    path = emptied(tmp_path / "s.db")

    async def law(store):
        assert "stored_values" not in await store._call(lambda: numbered_tables(store._open_db()))
        await store.add_value(digest(data), data, 1.0)
        assert store.largest == LARGE_BYTES
        assert await store.find_values([digest(data)]) == {digest(data): data}

    with_store(lambda: Noting(path), law)


# --- the switch to a write-ahead log, for which SQLite does not wait


class Switching:
    """A connection whose switch fails so many times, and a clock that only sleeping moves."""

    def __init__(self, *faults):
        self.faults, self.now, self.asked = list(faults), 1_000.0, 0

    def execute(self, statement):
        assert statement == "PRAGMA journal_mode=WAL"
        self.asked += 1
        if self.faults:
            raise self.faults.pop(0)

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def switched(monkeypatch, *faults):
    db = Switching(*faults)
    monkeypatch.setattr(sqlite_file, "time", db)
    sqlite_file._use_wal(db)
    return db


def test_a_lock_that_keeps_a_file_from_its_log_is_waited_for(monkeypatch):
    """As often as needed, with short pauses; what else is wrong is told at once."""
    db = switched(monkeypatch, *[fault_of(sqlite3.SQLITE_BUSY)] * 7)
    assert (db.asked, round(db.now - 1_000.0, 3)) == (8, 0.07)
    assert switched(monkeypatch).now == 1_000.0
    for code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL):
        db = Switching(fault_of(sqlite3.SQLITE_BUSY), fault_of(code), fault_of(sqlite3.SQLITE_BUSY))
        monkeypatch.setattr(sqlite_file, "time", db)
        with pytest.raises(sqlite3.OperationalError):
            sqlite_file._use_wal(db)
        assert db.asked == 2


def test_and_not_longer_than_other_locks(monkeypatch):
    """Then it is told."""
    db = Switching(*[fault_of(sqlite3.SQLITE_BUSY)] * 10_000)
    monkeypatch.setattr(sqlite_file, "time", db)
    with pytest.raises(sqlite3.OperationalError):
        sqlite_file._use_wal(db)
    assert db.now - 1_000.0 == pytest.approx(BUSY_TIMEOUT_MS / 1000, abs=0.02)
