"""What every store removes, and what stays: runs, results for reuse, and bytes that nothing refers to."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import pytest
from appending import DEAD, after, append, batch_of, claimed, leave, row_of, with_store
from firmplan.errors import StoreError
from firmplan.executor import SqliteStore
from firmplan.executor.stores import sql_store, sqlite_store
from firmplan.executor.stores.garbage import named_in, without
from firmplan.executor.stores.sqlite_file import BUSY_TIMEOUT_MS
from firmplan.executor.stores.sqlite_store import (
    CHECKPOINT_TIMEOUT_MS,
    PAUSE_S,
    PORTION_PAGES,
    _give_back_room,
)
from firmplan.executor.stores.store import (
    CHILDREN_TOLD,
    EVERYTHING,
    CacheStats,
    CallRecord,
    DecisionKey,
    Pruned,
    Removal,
    Reusable,
    ReuseEntries,
)
from firmplan.plans.values import digest

ENDED = ("succeeded", "failed", "cancelled")


def named(name):
    """Return what a text holds that names some bytes."""
    return b'{"digest":"%s"}' % digest(name.encode()).encode()


def call_of(run_id="r", step="s", started=1.0, **fields):
    return replace(CallRecord(run_id, step, "t", started, "k", b"{}"), **fields)


def entry_of(key, created, output=b"1", run_id="r"):
    return Reusable(key, run_id, "s", output, created)


def bytes_of(*entries):
    """Return how large results are, as stores count them."""
    return sum(len(entry.key) + len(entry.output) + len("{}{}") for entry in entries)


# --- runs


async def whole_run(store, run_id, number):
    """Make a run that has something in each table, and return the digests of the stored bytes that it names."""
    row = await claimed(
        store, run_id, header={"plan": None, "f": {"digest": digest(f"header {run_id}".encode())}}
    )
    large = b'{"inside":"%s"}' % digest(f"inside {run_id}".encode()).encode()
    values = {
        digest(text.encode()): text.encode()
        for text in (
            f"header {run_id}", f"line {run_id}", f"inside {run_id}", f"plain {run_id}", f"key {run_id}", f"unnamed {run_id}",
        )
    }  # fmt: skip
    lines = (named(f"line {run_id}"), b'{"output":{"$value":"%s"}}' % digest(large).encode())
    batch = batch_of(
        row,
        *lines,
        values=values | {digest(large): large},
        opened={"w": "box", "x": "box", "y": f"box {number}"},
        reuse=ReuseEntries([call_of(run_id)], [entry_of(f"key {run_id}", 1.0, run_id=run_id)]),
    )
    await append(store, batch)
    await store.add_decision(run_id, named(f"plain {run_id}"))
    await store.add_decisions(run_id, {DecisionKey("s", 1, "call"): named(f"key {run_id}")})
    kept = {digest(text) for text in (large, *values.values())} - {digest(f"unnamed {run_id}".encode())}
    return frozenset(kept)


async def seen(store, run_id):
    """Return all that can be asked about a run, but for the beat of its owner, which may have other runs."""
    row = await store.find_run(run_id)
    return (
        replace(row, beat=None) if row is not None else None,
        await store.read_journal(run_id),
        await store.read_heads(run_id),
        [record for _, record in await store.list_decisions(run_id)],
        await store.find_calls(run_id, ["s"]),
        await store.find_reusable([f"key {run_id}"]),
    )


def test_a_run_goes_with_all_that_belongs_to_it_alone(make_store):
    """Its writes that were open raise the epoch of their resource; results for reuse stay, and every other run as it was."""

    async def law(store):
        await whole_run(store, "s", 2)
        other = await seen(store, "s")
        kept = await whole_run(store, "r", 1)  # what its call was made from is not sorted when it goes
        before = await store.epochs(["box", "box 1", "box 2", EVERYTHING])
        assert (before.count["box"], before.count["box 1"], before.count["box 2"]) == (4, 1, 1)
        found = await store.delete_run("r", ["queued", "running"])
        assert found == Removal("running", (), is_removed=True, named=kept)
        assert await seen(store, "r") == (None, [], [], [], {}, {"key r": entry_of("key r", 1.0)})
        assert await seen(store, "s") == other
        assert await asyncio.to_thread(store.list_decided) == ["s"]
        now = await store.epochs(["box", "box 1", "box 2", EVERYTHING])
        assert now.count == {"box": 6, "box 1": 2, "box 2": 1, EVERYTHING: before.count[EVERYTHING] + 3}
        assert now.open == {"box", "box 2", EVERYTHING}
        assert set(await store.find_values(sorted(kept))) == kept  # until somebody prunes
        assert await store.list_owned("me") == {"s": 1}
        assert await store.raise_beat("me")
        assert await store.delete_run("r", ENDED) == Removal(None)
        assert await store.create_run(row_of())
        assert await store.claim("r", "me", **DEAD) is not None
        assert await store.add_decisions("r", {DecisionKey("s", 1, "call"): b"new"}) == {}
        await append(store, batch_of(await store.find_run("r"), b"new"))
        assert await store.read_journal("r") == [b"new"]

    with_store(make_store, law)


def test_a_run_of_another_status_or_with_children_stays_whole(make_store):
    """The children that were made first are told, so many at most; kept replays are children too."""

    async def law(store):
        await whole_run(store, "r", 1)
        before = await seen(store, "r")
        assert await store.delete_run("r", ENDED) == Removal("running")
        assert await seen(store, "r") == before
        assert CHILDREN_TOLD == 3
        for number, name in enumerate(["e", "d", "c", "b"]):
            await store.create_run(row_of(name, parent="r", created=float(number)))
        for name in ("z", "a"):
            await store.create_run(row_of(name, parent="r", created=9.0))
        for statuses in (["running"], ENDED):
            assert await store.delete_run("r", statuses) == Removal("running", ("e", "d", "c"))
        assert await seen(store, "r") == before
        for name in ("e", "d", "c", "b"):
            assert (await store.delete_run(name, ["queued"])).is_removed
        assert await store.delete_run("r", ["running"]) == Removal("running", ("a", "z"))
        for name in ("a", "z"):
            assert (await store.delete_run(name, ["queued"])).is_removed
        assert (await store.delete_run("r", ["running"])).is_removed

    with_store(make_store, law)


@pytest.mark.parametrize("status", ENDED)
def test_what_became_of_a_plan_is_counted_as_it_was_when_its_run_goes(make_store, status):
    """An answer whose run failed or was cancelled stays a false one, and others stay what they are."""

    async def law(store):
        row = await claimed(store)
        await store.note_use("p", "sha256:1", "answered", "r", 1.0)
        await store.note_use("p", "sha256:1", "check", "r", 1.0)
        await store.note_use("p", "sha256:2", "answered", "s", 1.0)
        await append(store, replace(batch_of(row, b"end"), status=status))
        before = await store.count_uses()
        became = "answered" if status == "succeeded" else "run"
        assert [tuple(each) for each in before] == [
            ("p", "sha256:1", *each) for each in sorted([(became, 1), ("check", 1)])
        ] + [("p", "sha256:2", "answered", 1)]
        assert (await store.delete_run("r", ENDED)).is_removed
        assert await store.count_uses() == before
        await store.create_run(row_of(status="failed"))  # another run of that id has no part in it
        assert await store.count_uses() == before

    with_store(make_store, law)


# --- results for reuse


def test_results_go_by_age_and_by_size_and_no_further(make_store):
    """What is exactly as old, or fits exactly, stays; calls go by age alone, and parts of fingerprints with the last call that names them."""
    entries = [entry_of(f"k{n}", float(n), b"1" * n) for n in range(1, 6)]
    calls = [call_of("r", f"s{n}", float(n), code=f"sha256:{n % 2}", key=f"k{n}") for n in (1, 2, 3, 4)]
    codes = {"sha256:0": {"a": "b"}, "sha256:1": {"c": "d"}, "sha256:9": {}}

    async def law(store):
        empty = await store.cache_stats()
        assert empty == CacheStats(0, 0, 0, None, None)
        await leave(store, ReuseEntries(calls, entries, codes))
        assert await store.cache_stats() == CacheStats(5, bytes_of(*entries), 4, 1.0, 5.0)
        assert await store.shrink_cache(before=None, bytes_max=None) == 0
        assert await store.shrink_cache(before=1.0, bytes_max=bytes_of(*entries)) == 0
        assert set(await store.find_codes(list(codes))) == {"sha256:0", "sha256:1"}
        assert await store.shrink_cache(before=2.0, bytes_max=None) == 1
        assert await store.cache_stats() == CacheStats(4, bytes_of(*entries[1:]), 3, 2.0, 5.0)
        assert set(await store.find_calls("r", [call.step for call in calls])) == {"s2", "s3", "s4"}
        assert await store.shrink_cache(before=4.0, bytes_max=bytes_of(*entries[3:])) == 2
        assert set(await store.find_codes(list(codes))) == {"sha256:0"}
        assert set(await store.find_reusable([entry.key for entry in entries])) == {"k4", "k5"}
        assert await store.shrink_cache(before=None, bytes_max=bytes_of(*entries[3:]) - 1) == 1
        assert set(await store.find_reusable([entry.key for entry in entries])) == {"k5"}
        assert (await store.cache_stats()).calls == 1
        assert await store.shrink_cache(before=9.0, bytes_max=0) == 1
        assert await store.cache_stats() == CacheStats(0, 0, 0, None, None)
        await leave(store, ReuseEntries([], entries[:1]))
        assert set(await store.find_reusable(["k1"])) == {"k1"}

    with_store(make_store, law)


def test_a_large_result_is_stored_once_and_goes_with_the_last_text_that_names_it(make_store):
    """Of equal outputs the store has one copy, beside the segments; small ones stand in them. Those of one key give way to the newest."""
    text = b'"%b"' % (b"x" * 40_000)

    async def law(store):
        row = await claimed(store, "r", header={"plan": None})
        values = {digest(text): text}
        results = [entry_of(f"k{n}", float(n), text) for n in range(100)]
        await append(
            store, batch_of(row, b'{"output":{"$value":"%s"}}' % digest(text).encode(), values=values)
        )
        await leave(store, ReuseEntries(results=results))
        await leave(store, ReuseEntries(results=[entry_of("k1", 200.0, b"1"), entry_of("k1", 201.0, b"2")]))
        found = await store.find_reusable([each.key for each in results])
        assert found == {each.key: each for each in results} | {"k1": entry_of("k1", 201.0, b"2")}
        assert (await store.cache_stats()).results == 100
        assert await store.find_damage() == []
        assert (await store.delete_run("r", ["running"])).is_removed
        assert await store.prune_values(saved_before=9.0) == Pruned(0, 0)
        assert (await store.find_reusable(["k2"]))["k2"].output == text
        assert await store.shrink_cache(before=99.5, bytes_max=None) == 99
        assert await store.prune_values(saved_before=9.0) == Pruned(1, len(text))
        assert set(await store.find_reusable(["k1", "k2"])) == {"k1"}

    with_store(make_store, law)


def test_a_large_result_whose_run_was_lost_is_stored_all_the_same(make_store):
    """Its records are refused, and hold the value no more; a result whose value is gone is not reused, and is damage."""
    text = b'"%b"' % (b"x" * 40_000)

    async def law(store):
        old = await claimed(store, "r", header={"plan": None})
        await store.claim("r", "you", is_alive=lambda *_: False)
        lost = batch_of(
            old, b"late", values={digest(text): text}, reuse=ReuseEntries(results=[entry_of("k", 1.0, text)])
        )
        (fault,) = await asyncio.to_thread(store.append, [lost])
        assert isinstance(fault, StoreError)
        assert (await store.find_reusable(["k"]))["k"].output == text
        assert await store.find_damage() == []

    with_store(make_store, law)


def test_earlier_calls_are_found_newest_first_up_to_a_number(make_store):
    """Those of the same step come first; nothing that started later, and nothing of another subject."""

    def call(run_id, step, started, subject="t"):
        return call_of(run_id, step, started, subject=subject)

    same = [call(f"r{n}", "s", float(n)) for n in range(6)]
    others = [call(f"r{n}", "o", n + 0.5) for n in range(6)]
    strange = [call(f"q{n}", "s", float(n), subject="u") for n in range(6)]

    async def law(store):
        await leave(store, ReuseEntries([*same, *others, *strange]))
        found = await store.find_earlier_calls("t", {"s": 4.0}, limit=2)
        assert found == {"s": [same[4], same[3], others[3]]}
        found = await store.find_earlier_calls("t", {"s": 4.5, "o": 0.5, "n": 2.0}, limit=3)
        assert found["s"] == [same[4], same[3], same[2], others[4], others[3]]
        assert found["o"][0] == others[0]
        assert all(each.started <= 0.5 for each in found["o"])
        assert all(each.started <= 2.0 for each in found["n"])
        assert await store.find_earlier_calls("nobody", {"s": 9.0}, limit=2) == {"s": []}
        assert await store.find_earlier_calls("t", {}, limit=2) == {}

    with_store(make_store, law)


# --- bytes


def test_only_bytes_that_were_asked_about_are_removed(make_store):
    """Others stay, although nothing refers to them; what was saved exactly at the limit stays as well."""

    async def law(store):
        names = {text: digest(text) for text in (b"one", b"two", b"three", b"held")}
        for text, name in names.items():
            await store.add_value(name, text, 1.0)
        await store.create_run(row_of(header={"plan": None, "f": {"digest": names[b"held"]}}))
        among = frozenset([names[b"one"], names[b"held"], digest(b"not there")])
        assert await store.prune_values(saved_before=1.0, among=among) == Pruned(0, 0)
        assert await store.prune_values(saved_before=1.0) == Pruned(0, 0)
        assert await store.prune_values(saved_before=2.0, among=frozenset()) == Pruned(0, 0)
        assert await store.prune_values(saved_before=2.0, among=among) == Pruned(1, 3)
        left = await store.find_values(sorted(names.values()))
        assert set(left.values()) == {b"two", b"three", b"held"}
        assert await store.prune_values(saved_before=2.0) == Pruned(2, 8)
        assert await store.prune_values(saved_before=2.0) == Pruned(0, 0)

    with_store(make_store, law)


def test_bytes_that_come_into_use_while_others_are_looked_for_stay(make_shared, monkeypatch):
    """Found unused, then named before they are removed: by each kind of text that may name them, and in a run that goes again meanwhile."""
    kinds = ("new run", "planned", "record", "again", "inside", "decision", "plan", "result", "saved")
    values = {kind: digest(kind.encode()) for kind in kinds}
    orphans = {digest(text): text for text in (b"orphan", b"other orphan")}
    is_read, is_taken = threading.Event(), threading.Event()
    remove = sql_store.remove_unused

    def late(sql, unused):
        assert unused.digests == {*values.values(), *orphans}
        is_read.set()
        assert is_taken.wait(30)
        return remove(sql, unused)

    monkeypatch.setattr(sql_store, "remove_unused", late)

    async def take(store, rows):
        await store.create_run(row_of("new", header={"plan": None, "f": {"digest": values["new run"]}}))
        header = {"plan": {"digest": values["planned"]}}
        await store.set_header("unplanned", header, "sha256:p", rows["unplanned"].epoch, "running", 2.0)
        large = named("inside")
        line = b'{"a":%s,"b":{"$value":"%s"}}' % (named("record"), digest(large).encode())
        await append(store, batch_of(rows["old"], line, values={digest(large): large}))
        assert (await store.delete_run("again", ["running"])).is_removed
        row = await claimed(store, "again", created=5.0)
        await append(store, batch_of(row, named("again")))
        await store.add_decision("old", named("decision"))
        await store.save_plan("p", json.dumps({"digest": values["plan"]}), "sha256:p", 1.0)
        result = entry_of("k", 1.0, named("result"), run_id="gone")
        await append(store, batch_of(rows["gone"], named("result"), reuse=ReuseEntries(results=[result])))
        assert (await store.delete_run("gone", ["running"])).is_removed
        await store.add_value(values["saved"], b"saved", 100.0)

    async def law(store):
        for kind, name in values.items():
            await store.add_value(name, kind.encode(), 1.0)
        for name, data in orphans.items():
            await store.add_value(name, data, 1.0)
        rows = {run_id: await claimed(store, run_id) for run_id in ("unplanned", "old", "again", "gone")}
        for run_id in ("old", "again", "gone"):
            batch = batch_of(rows[run_id], b"one", b"two")
            await append(store, batch)
            rows[run_id] = after(rows[run_id], batch)
        pruning = asyncio.create_task(store.prune_values(saved_before=50.0))
        assert await asyncio.to_thread(is_read.wait, 30)
        try:
            await take(store, rows)
        finally:
            is_taken.set()
        assert await pruning == Pruned(2, sum(map(len, orphans.values())))
        found = await store.find_values(sorted([*values.values(), *orphans]))
        assert sorted(found) == sorted(values.values())

    with_store(make_shared, law)


def test_what_texts_name_is_found_through_the_values_that_stand_in_their_places():
    """Each of them is read once, also where they name each other; the bytes of what is only mentioned name nothing."""
    name = {letter: digest(letter.encode()) for letter in "abcdefgh"}

    def text(*, stand_in="", mention=""):
        parts = [f'{{"$value":"{name[letter]}"}}' for letter in stand_in]
        return json.dumps([name[letter] for letter in mention]).encode() + "".join(parts).encode()

    stored = {
        name["a"]: text(stand_in="ab", mention="c"),
        name["b"]: text(stand_in="ae", mention="d"),
        name["f"]: text(stand_in="g"),
        name["g"]: text(mention="h"),
    }
    read = []

    def find_value(wanted):
        read.append(wanted)
        return stored.get(wanted)

    texts = [text(stand_in="a", mention="f"), text(stand_in="ab"), b"sha256:" + b"0" * 63]
    assert set(named_in(find_value, texts)) == {name[letter] for letter in "abcdef"}
    assert sorted(read) == sorted(name[letter] for letter in "abe")
    assert without({name["a"], name["g"]}, named_in(find_value, texts)) == {name["g"]}
    assert without({name["f"]}, [name["a"], name["f"]]) == frozenset()


def test_what_names_bytes_is_read_only_while_some_are_left():
    """A look for few bytes, or for none, need not read the whole store."""

    def named(*digests):
        yield from digests
        pytest.fail("read in vain")

    assert without((), named()) == frozenset()
    assert without(("a", "b"), named("b", "c", "a")) == frozenset()


@pytest.mark.parametrize("is_file", [True, False])
def test_a_removal_that_fails_removes_nothing_and_says_so(tmp_path, is_file):
    """In a file and in memory; what was begun is rolled back, so that the next one, and whoever else writes, goes on."""
    names = {text: digest(text) for text in (b"one", b"two")}

    def sql(store, statement):
        if not is_file:
            return store._call(lambda: store._sql(statement))

        def on_file():
            with closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None, timeout=0)) as db:
                db.execute(statement)

        return asyncio.to_thread(on_file)

    async def law(store):
        for text, name in names.items():
            await store.add_value(name, text, 1.0)
        last = max(names.values())  # the other one is removed before it
        stop = f"WHEN old.digest='{last}' BEGIN SELECT RAISE(ABORT, 'no more'); END"
        await sql(store, f"CREATE TRIGGER stop BEFORE DELETE ON stored_values {stop}")
        for _ in range(2):
            with pytest.raises(StoreError, match="failed: no more"):
                await store.prune_values(saved_before=9.0)
            assert set(await store.find_values(sorted(names.values()))) == set(names.values())
        await sql(store, "DROP TRIGGER stop")
        assert await store.create_run(row_of())
        assert await store.prune_values(saved_before=9.0) == Pruned(2, 6)

    with_store(lambda: SqliteStore(tmp_path / "s.db" if is_file else ":memory:"), law)


def test_a_removal_waits_for_others_as_a_write_does(tmp_path):
    """Through its connection of its own; only the last step, to cut the file, waits less long, since it holds up nothing."""
    found = []

    def note(db):
        found.append(db.execute("PRAGMA busy_timeout").fetchone()[0])

    def note_last(db):
        _give_back_room(db)
        note(db)

    async def law(store):
        await store._on_file(note)
        await store._on_file(note_last)
        with pytest.raises(StoreError, match=r"the store .*s\.db failed: a bug"):
            await store._on_file(_fail)

    with_store(lambda: SqliteStore(tmp_path / "s.db"), law)
    assert found == [BUSY_TIMEOUT_MS, CHECKPOINT_TIMEOUT_MS]


def _fail(_db):
    raise sqlite3.OperationalError("a bug")


def test_room_that_is_free_is_given_back(tmp_path, monkeypatch):
    """In portions of many pages, with a pause after each: the file and its log get smaller, and end with no free page."""
    pauses = []
    monkeypatch.setattr(sqlite_store, "time", SimpleNamespace(monotonic=time.monotonic, sleep=pauses.append))
    path, data = tmp_path / "s.db", b"x" * (4096 * PORTION_PAGES * 3 // 2)
    log = path.with_name("s.db-wal")

    async def law(store):
        await store.add_value(digest(data), data, 1.0)
        await store.give_back_room()
        whole = path.stat().st_size
        assert whole > len(data)
        assert await store.find_values([digest(data)]) == {digest(data): data}
        assert await store.prune_values(saved_before=9.0) == Pruned(1, len(data))
        assert pauses == []
        for _ in range(2):
            await store.give_back_room()
            assert pauses == [PAUSE_S] * 2
            assert path.stat().st_size < whole - len(data)
            assert log.stat().st_size == 0
            assert await store._call(lambda: store._sql("PRAGMA freelist_count").fetchone()) == (0,)

    with_store(lambda: SqliteStore(path), law)


def test_a_file_that_gives_back_nothing_is_not_asked_forever(tmp_path):
    """As one that cannot get smaller in portions: it stays as it is until it is rewritten, once."""
    path, data = tmp_path / "s.db", b"x" * 1_000_000
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("CREATE TABLE t (x)")  # only an empty file becomes one that can get smaller
        db.execute("DROP TABLE t")

    async def law(store):
        await store.add_value(digest(data), data, 1.0)
        await store.prune_values(saved_before=9.0)
        await store.give_back_room()
        whole = path.stat().st_size
        assert whole > len(data)
        assert await store.compact() is True
        assert path.stat().st_size < len(data) // 2
        assert path.with_name("s.db-wal").stat().st_size == 0
        assert await store.compact() is False

    with_store(lambda: SqliteStore(path), law)
