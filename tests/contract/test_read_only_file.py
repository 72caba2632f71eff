"""A store in a file that this user may not write: it is read as it stands, nothing is made beside it, and it is written once that is allowed.

`tests/safety/test_read_only.py` holds the same of engines and commands, on a file system that is mounted read-only.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from appending import append, batch_of, claimed, emptied, leave, row_of, with_store
from firmplan.errors import StoreError
from firmplan.executor import SqliteStore
from firmplan.executor.stores.sqlite_file import BUSY_TIMEOUT_MS, STORE_FORMAT, format_of, look_at
from firmplan.executor.stores.store import CallRecord, Pruned, ReuseEntries
from firmplan.plans.values import digest

NAME = digest(b"value")


class Folder:
    """A folder with a store in it, which this user may write or only read."""

    def __init__(self, path):
        self.path, self.store, self.copies = path, path / "s.db", path.parent / "copies"

    def names(self):
        return sorted(each.name for each in self.path.iterdir())

    @contextmanager
    def as_its_maker(self):
        """The tests may run as a user who may do all: the rest of a test runs as another one."""
        user = os.geteuid()
        if os.getuid() == 0:
            os.seteuid(0)
        yield
        os.seteuid(user)

    def lock(self):
        with self.as_its_maker():
            for each in (*self.path.iterdir(), self.path):
                each.chmod(0o555 if each.is_dir() else 0o444)

    def unlock(self):
        with self.as_its_maker():
            for each in (*self.path.iterdir(), self.path):
                each.chmod(0o777 if each.is_dir() else 0o666)


@pytest.fixture
def folder(monkeypatch):
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        top.chmod(0o755)
        for each in ("store", "copies"):
            (top / each).mkdir()
            (top / each).chmod(0o777)
        monkeypatch.setattr(tempfile, "tempdir", str(top / "copies"))
        made = Folder(top / "store")
        yield made
        os.seteuid(os.getuid())
        made.unlock()


def become_ordinary():
    if os.getuid() == 0:
        os.seteuid(65534)


def call_of(step, started, key="k"):
    return CallRecord("r", step, "t", started, key, b"{}")


async def fill(store):
    """A run with two records, calls of which nobody has asked yet, and a value that nothing names."""
    row = await claimed(store)
    await append(store, batch_of(row, b"one", b"two"))
    await leave(store, ReuseEntries([call_of("a", 1.0, "old"), call_of("b", 2.0)]))
    await leave(store, ReuseEntries([call_of("a", 3.0, "new")]))
    await store.add_value(NAME, b"value", 1.0)
    await store.save_plan("p", "{}", digest(b"{}"), 1.0)


async def look(store):
    """What can be asked about it."""
    assert store.is_read_only
    assert await store.read_journal("r") == [b"one", b"two"]
    found = await store.find_calls("r", ["a", "b"])
    assert {step: (call.started, call.key) for step, call in found.items()} == {
        "a": (3.0, "new"),
        "b": (2.0, "k"),
    }
    earlier = await store.find_earlier_calls("t", {"a": 9.0}, limit=5)
    assert [(call.step, call.started) for call in earlier["a"]] == [("a", 3.0), ("b", 2.0)]
    assert (await store.cache_stats()).calls == 2
    assert [plan.name for plan in await store.list_plans()] == ["p"]
    assert await store.find_values([NAME]) == {NAME: b"value"}
    assert await store.find_damage() == []


WRITES = {
    "a run": lambda store: store.create_run(row_of("s")),
    "a plan": lambda store: store.save_plan("q", "{}", digest(b"{}"), 1.0),
    "a value": lambda store: store.add_value(digest(b"x"), b"x", 1.0),
    "removing values": lambda store: store.prune_values(saved_before=9.0),
    "giving back room": lambda store: store.give_back_room(),
    "compacting": lambda store: store.compact(),
    "asking whether it can be written": lambda store: store.expect_writable(),
}


def test_it_is_read_and_whatever_writes_is_refused(folder):
    """With the reason, also what removes bytes, which goes through a connection of its own; it goes on being read."""

    async def law(store):
        await look(store)
        for what, write in WRITES.items():
            with pytest.raises(
                StoreError, match="is read-only: this user may not write the file or its folder"
            ):
                await write(store)
            assert store.is_read_only, what
            await look(store)

    with_store(lambda: SqliteStore(folder.store), fill)
    folder.lock()
    become_ordinary()
    before = folder.store.read_bytes()
    with_store(lambda: SqliteStore(folder.store), law)
    assert (folder.names(), folder.store.read_bytes()) == (["s.db"], before)


@pytest.mark.parametrize("write", WRITES)
def test_it_is_written_once_that_is_allowed(folder, write):
    """By the store that is open: what writes connects anew, and what was looked up in copies is looked up in the file."""

    async def law(store):
        await look(store)
        folder.unlock()
        returned = {"a plan": True, "a run": True, "removing values": Pruned(1, 5), "compacting": False}.get(
            write
        )
        assert await WRITES[write](store) == returned
        assert not store.is_read_only
        await store.prune_values(saved_before=9.0)
        assert await store.find_values([NAME]) == {}
        await leave(store, ReuseEntries([call_of("a", 4.0, "newest")]))
        assert (await store.find_calls("r", ["a"]))["a"].key == "newest"
        assert await store.create_run(row_of("later"))

    with_store(lambda: SqliteStore(folder.store), fill)
    folder.lock()
    become_ordinary()
    with_store(lambda: SqliteStore(folder.store), law)
    with closing(sqlite3.connect(folder.store)) as db:
        assert db.execute("SELECT key FROM calls WHERE step='a'").fetchall() == [("newest",)]
        assert db.execute("SELECT 1 FROM runs WHERE id='later'").fetchone()


def test_work_that_fails_otherwise_is_done_once(folder):
    """Only what the connection refuses to write is done again, on one that writes."""

    async def law(store):
        folder.unlock()
        for code, count in (
            (sqlite3.SQLITE_BUSY, 1),
            (sqlite3.SQLITE_FULL, 1),
            (sqlite3.SQLITE_READONLY_CANTLOCK, 2),
        ):
            fault, done = sqlite3.OperationalError("it said"), []
            fault.sqlite_errorcode = code

            def work(fault=fault, done=done):
                done.append(store.is_read_only)
                raise fault

            with pytest.raises(StoreError, match="it said"):
                await store._call(work)
            assert done == [True, False][:count]

    with_store(lambda: SqliteStore(folder.store), fill)
    folder.lock()
    become_ordinary()
    with_store(lambda: SqliteStore(folder.store), law)


@pytest.mark.parametrize("is_unlocked", [False, True])
def test_what_stands_in_its_log_alone_is_read_from_a_copy(folder, is_unlocked):
    """As a killed process left it: the copy goes with the store, or once the store is written."""

    async def copied(store):
        await fill(store)
        for name in ("s.db", "s.db-wal"):
            shutil.copyfile(folder.path / name, folder.copies / name)

    with_store(lambda: SqliteStore(folder.store), copied)
    for name in ("s.db", "s.db-wal"):
        shutil.move(folder.copies / name, folder.path / name)
    folder.lock()
    become_ordinary()
    assert format_of(folder.store) == STORE_FORMAT
    assert list(folder.copies.iterdir()) == []

    async def law(store):
        await look(store)
        assert len(list(folder.copies.iterdir())) == 1
        if is_unlocked:
            folder.unlock()
            await store.expect_writable()
            assert list(folder.copies.iterdir()) == []
            assert await store.read_journal("r") == [b"one", b"two"]

    with_store(lambda: SqliteStore(folder.store), law)
    assert list(folder.copies.iterdir()) == []
    if not is_unlocked:
        assert folder.names() == ["s.db", "s.db-wal"]


def test_an_older_one_is_read_as_if_it_were_brought_up(folder):
    """It stays of its format, without what was added since."""
    emptied(folder.store)
    with closing(sqlite3.connect(folder.store)) as db:
        db.execute("INSERT INTO plans VALUES ('p', '{}', ?, 1.0)", (digest(b"{}"),))
        db.commit()
    folder.lock()
    become_ordinary()
    before = folder.store.read_bytes()

    async def law(store):
        assert store.is_read_only
        assert [plan.name for plan in await store.list_plans()] == ["p"]
        assert await store.find_reusable(["k"]) == {}
        assert await store.count_uses() == []
        assert await store.find_calls("r", ["a"]) == {}
        assert list(await store.list_decisions("r")) == []

    with_store(lambda: SqliteStore(folder.store), law)
    assert (folder.store.read_bytes(), format_of(folder.store)) == (before, 1)


@pytest.mark.parametrize("change", ["PRAGMA user_version=99", "DROP TABLE runs"])
def test_one_that_cannot_be_read_is_refused(folder, change):
    """Of a later format, or without one of its tables: nothing of a copy is left."""
    with_store(lambda: SqliteStore(folder.store), fill)
    db = sqlite3.connect(folder.store, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute(change)
    for name in ("s.db", "s.db-wal"):
        shutil.copyfile(folder.path / name, folder.copies / name)
    db.close()
    for name in ("s.db", "s.db-wal"):
        shutil.move(folder.copies / name, folder.path / name)
    folder.lock()
    become_ordinary()
    store = SqliteStore(folder.store)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"has format 99|has no table 'runs'"):
            asyncio.run(store.open())
        assert not store.is_read_only
    assert list(folder.copies.iterdir()) == []
    asyncio.run(store.close())


def test_a_look_writes_nothing(folder):
    """Neither where it may: the connection waits for others as one that writes does, and refuses to write."""
    with_store(lambda: SqliteStore(folder.store), fill)
    for is_locked in (False, True):
        if is_locked:
            folder.lock()
            become_ordinary()
        db, copied = look_at(folder.store)
        with closing(db):
            assert copied is None
            assert db.execute("PRAGMA busy_timeout").fetchone() == (BUSY_TIMEOUT_MS,)
            assert db.execute("PRAGMA temp_store").fetchone() == (2,)
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                db.execute("DELETE FROM runs")
