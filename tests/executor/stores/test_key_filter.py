"""What is known of the reuse index without a look: never that a result is not there which is."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from random import Random

import pytest
from appending import leave
from firmplan.executor import SqliteStore
from firmplan.executor.stores import result_cache, sqlite_store
from firmplan.executor.stores.reuse_log import prefix_of
from firmplan.executor.stores.sqlite_store import KeyFilter
from firmplan.executor.stores.store import Reusable, ReuseEntries, RunRow
from firmplan.tools import tool
from rig import Rig, plan_of

DEAD = {"is_alive": lambda *_: False}


def entry(key, output=1):
    return Reusable(key, "r", "s", b"%d" % output, 1.0)


async def opened(path):
    store = SqliteStore(path)
    await store.open()
    return store


async def look(store):
    return await asyncio.to_thread(store.list_decided)


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """What others do is forgotten at once."""
    monkeypatch.setattr(sqlite_store, "QUIET_S", 0.0)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_others_do_what_is_there_is_found(tmp_path, monkeypatch, seed):
    """Two processes add, look, begin runs, and forget, in any order; each finds its own, and what was there when it last looked, or newer."""
    random = Random(seed)
    monkeypatch.setattr(sqlite_store, "PORTION", random.choice([1, 3, 1_000]))
    monkeypatch.setattr(sqlite_store, "KEYS_MAX", random.choice([5, 1_000]))
    monkeypatch.setattr(result_cache, "BYTES_MAX", random.choice([500, 1_000_000]))
    keys = [f"sha256:{number}" for number in range(40)]

    async def main():
        stores = [await opened(tmp_path / "s.db") for _ in range(2)]
        await stores[0].create_run(RunRow("r", "queued", None, None, None, 1.0, 1.0, "", {}))
        there: dict[str, int] = {}  # key -> its newest output
        seen = [dict[str, int](), dict[str, int]()]  # what each has to find, or something newer
        removed = [set[str](), set[str]()]  # by the other one, since it last looked
        for made in range(150):
            at = random.randrange(2)
            store = stores[at]
            has_looked = True
            match random.randrange(6):
                case 0 | 1:
                    added = dict.fromkeys(random.sample(keys, 2), made)
                    await leave(store, ReuseEntries(results=[entry(key, made) for key in added]))
                    there |= added
                case 2:
                    await look(store)
                case 3:
                    await store.claim("r", f"owner{at}", **DEAD)
                case 4 if random.random() < 0.1:
                    await store.shrink_cache(before=2.0, bytes_max=None)
                    removed[1 - at] |= set(there)
                    there = {}
                    seen = [{}, {}]
                case _:
                    has_looked = False
                    await store.find_reusable(random.sample(keys, 20))
            if has_looked:
                seen[at], removed[at] = dict(there), set()
            found = {key: int(each.output) for key, each in (await store.find_reusable(keys)).items()}
            assert set(seen[at]) <= set(found) <= set(there) | removed[at]
            for key in set(found) - removed[at]:
                assert seen[at].get(key, 0) <= found[key] <= there[key]
        for store in stores:
            await store.close()

    asyncio.run(main())


def test_what_is_not_there_is_not_looked_for(tmp_path, monkeypatch):
    """Once all keys were read; after somebody else has written, it is looked for again."""

    async def main():
        store, other = await opened(tmp_path / "s.db"), await opened(tmp_path / "s.db")
        looks = []
        plain = store._look
        monkeypatch.setattr(store, "_look", lambda work: looks.append(1) or plain(work))
        await look(store)
        await leave(store, ReuseEntries(results=[entry("a")]))
        assert await store.find_reusable(["b", "c"]) == {}
        assert looks == []
        assert set(await store.find_reusable(["a", "b"])) == {"a"}
        assert looks == []
        await leave(other, ReuseEntries(results=[entry("b")]))
        await store.claim("r", "me", **DEAD)
        assert set(await store.find_reusable(["b", "c"])) == {"b"}
        assert looks == [1]
        await store.close()
        await other.close()

    asyncio.run(main())


def test_a_run_reuses_what_another_process_has_just_made(tmp_path):
    """Also where this one knew all keys before."""

    @tool(effect="pure", version=1)
    async def double(n: int) -> int:
        """Double."""
        return 2 * n

    def plan(*numbers):
        return plan_of(*({"id": f"s{n}", "tool": "double", "args": {"n": n}} for n in numbers))

    async def main():
        async with Rig([double], str(tmp_path / "s.db")) as one, Rig([double], str(tmp_path / "s.db")) as two:
            assert (await one.run(plan(1, 2))).status == "succeeded"
            await look(one.store)
            assert await one.store.find_reusable(["sha256:none"]) == {}
            await two.run(plan(3, 4))
            run = await one.run(plan(1, 2, 3, 4, 5))
            return [view.reused for view in run.steps.values()]

    assert asyncio.run(main()) == [True, True, True, True, False]


def test_an_engine_of_small_runs_looks_for_no_new_call(tmp_path, monkeypatch):
    """Their last commits, which are their only ones, read the keys."""

    @tool(effect="pure", version=1)
    async def double(n: int) -> int:
        """Double."""
        return 2 * n

    async def main():
        looks = []
        async with Rig([double], str(tmp_path / "s.db")) as rig:
            find = sqlite_store._numbers_of
            monkeypatch.setattr(
                sqlite_store, "_numbers_of", lambda db, wanted: looks.append(wanted) or find(db, wanted)
            )
            for n in range(4):
                run = await rig.run(plan_of({"id": "s", "tool": "double", "args": {"n": n}}))
                assert run.status == "succeeded"
        return len(looks)

    assert asyncio.run(main()) <= 1


def test_a_file_that_cannot_be_read_leaves_nothing_known():
    """It is looked for, and whoever looks is told."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    make_tables(db)
    known = KeyFilter()
    known.read_on(db)
    assert known.among([1]) == []
    db.close()
    known.read_on(db)
    assert known.among([1]) == [1]


def make_tables(db):
    db.execute("CREATE TABLE reusable (key TEXT PRIMARY KEY)")
    db.execute("CREATE TABLE reuse_keys (prefix INTEGER PRIMARY KEY)")


def keys_in(*prefixes):
    db = sqlite3.connect(":memory:", isolation_level=None)
    make_tables(db)
    db.executemany("INSERT INTO reuse_keys VALUES (?)", [(prefix,) for prefix in prefixes])
    return db


def test_so_many_keys_are_known_and_of_a_larger_index_none(monkeypatch):
    """Then all are looked for: those that were known, and those that come later."""
    monkeypatch.setattr(sqlite_store, "KEYS_MAX", 3)
    known = KeyFilter()
    known.read_on(keys_in(1, 2))
    assert known.among([1, 3]) == [1]
    known.add([3])
    assert known.among([3, 4]) == [3]
    known.add([4])
    assert known.among([1, 4, 5]) == [1, 4, 5]
    known.add([5])
    assert known.among([5, 6]) == [5, 6]
    assert len(known._bits) == 0


def test_keys_that_an_older_version_has_left_are_known_too(monkeypatch):
    """Portion by portion, and before those of this version; until all are read, everything is looked for."""
    monkeypatch.setattr(sqlite_store, "PORTION", 2)
    older = [f"sha256:{number:064x}" for number in (1, 2, 3)]
    db = keys_in(-(2**63), 2**63 - 1)
    db.executemany("INSERT INTO reusable VALUES (?)", [(key,) for key in older])
    known = KeyFilter()
    for _ in range(6):
        assert known.among([77]) == [77]
        known.read_on(db)
        if known.among([77]) == []:
            break
    wanted = [*map(prefix_of, older), -(2**63), 2**63 - 1]
    assert known.among([*wanted, 77]) == wanted


def test_its_memory_does_not_grow_with_the_keys():
    """However many there are: each is known, and few others seem to be."""
    known = KeyFilter()
    known.read_on(keys_in(1))
    size = len(known._bits)
    prefixes = [prefix_of(f"key {number}") for number in range(50_000)]
    known.add(prefixes)
    assert known.among(prefixes) == prefixes
    assert len(known.among([prefix_of(f"other {number}") for number in range(50_000)])) < 2_500
    assert len(known._bits) == size == sqlite_store.FILTER_BYTES


def test_what_another_process_adds_while_the_last_keys_are_read_is_looked_for(tmp_path):
    """It was not among them."""
    path = tmp_path / "k.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        make_tables(other)
        with closing(sqlite3.connect(path, isolation_level=None)) as db:

            class Late:
                """A connection, beside which somebody writes right after keys were read."""

                def execute(self, statement, *values):
                    found = db.execute(statement, *values).fetchall()
                    if "SELECT prefix" in statement:
                        other.execute("INSERT INTO reuse_keys VALUES (7)")
                    return iter(found) if "LIMIT" in statement else Answer(found)

            known = KeyFilter()
            known.read_on(Late())
            assert known.among([7]) == [7]
            known.read_on(db)
            assert known.among([7, 8]) == [7]


class Answer:
    """The rows of an answer."""

    def __init__(self, found):
        self.fetchone = found.pop


def test_a_store_that_is_opened_again_knows_nothing_of_before(tmp_path):
    """Meanwhile others may have written."""

    async def main():
        store, other = await opened(tmp_path / "s.db"), await opened(tmp_path / "s.db")
        await look(store)
        assert await store.find_reusable(["a"]) == {}
        await store.close()
        await leave(other, ReuseEntries(results=[entry("a")]))
        await other.close()
        await store.open()
        assert set(await store.find_reusable(["a"])) == {"a"}
        await store.close()

    asyncio.run(main())
