"""What every store keeps: one suite over the stores in memory, in a file and in PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import orjson
import pytest
from appending import ALIVE, DEAD, after, append, batch_of, claimed, emptied, leave, row_of, with_store
from firmplan.errors import StoreError
from firmplan.executor import SqliteStore
from firmplan.executor.journal.records import chain
from firmplan.executor.stores.sqlite_file import (
    BUSY_TIMEOUT_MS,
    CACHE_KIB,
    INCREMENTAL,
    STORE_FORMAT,
    format_of,
)
from firmplan.executor.stores.sqlite_store import LARGE_BYTES, PORTION_BYTES
from firmplan.executor.stores.store import (
    EVERYTHING,
    LEARNT_MAX,
    REPLAY,
    CallRecord,
    DecisionKey,
    LearntKey,
    OwnerName,
    Pruned,
    Reusable,
    ReuseEntries,
    RunFilter,
)
from firmplan.plans.values import digest
from firmplan.testing import MemoryStore


def test_a_run_is_made_once(make_store):
    """The second of one id changes nothing."""

    async def law(store):
        assert await store.create_run(row_of())
        assert not await store.create_run(row_of(task="other"))
        assert await store.find_run("r") == row_of()
        assert await store.find_run("s") is None

    with_store(make_store, law)


def test_a_store_has_an_identity_of_its_own(make_store):
    """Every process sees the same, whoever asks first; another store has another."""

    async def law(store):
        names = await asyncio.gather(*(store.identity() for _ in range(3)))
        if not isinstance(store, MemoryStore):
            second = make_store()
            await second.open()
            names.append(await second.identity())
            await second.close()
        other = MemoryStore()
        await other.open()
        assert {name for name in names if name} != {await other.identity()}
        assert len(set(names)) == 1
        await other.close()

    with_store(make_store, law)


def test_what_may_not_be_lost_waits_for_the_disk_at_its_commit(tmp_path):
    """In a file: runs, headers, decisions, saved values and plans, and each group with one batch that has to last; other appends wait for nothing."""

    async def law(store):
        async def level(doing):
            statements = []
            await store._call(lambda: store._open_db().set_trace_callback(statements.append))
            await doing
            await store._call(lambda: store._open_db().set_trace_callback(None))
            assert not statements[-1].startswith("PRAGMA synchronous")  # so what holds now held at the commit
            (found,) = await store._call(lambda: store._sql("PRAGMA synchronous").fetchone())
            return {1: "NORMAL", 2: "FULL"}[found]

        async def wait_for_nothing():
            nonlocal other
            batch = batch_of(other, b"x")
            assert await level(append(store, batch)) == "NORMAL"
            other = after(other, batch)

        other = await claimed(store, "s")
        for doing in (
            store.create_run(row_of()),
            store.set_header("r", {"plan": 1}, "sha256:p", 0, "queued", 2.0),
            store.add_decision("r", b"one"),
            store.add_decisions("r", {DecisionKey("pay", 1, ""): b"two"}),
            store.add_value("v", b"data", 1.0),
            store.save_plan("p", "{}", "sha256:p", 1.0),
        ):
            await wait_for_nothing()
            assert await level(doing) == "FULL"
        row = await store.claim("r", "me", **DEAD)
        await wait_for_nothing()
        group = [batch_of(row, b"one", is_synced=True), batch_of(other, b"last")]
        assert await level(asyncio.to_thread(store.append, group)) == "FULL"
        other = after(other, group[1])
        await wait_for_nothing()

    with_store(lambda: SqliteStore(tmp_path / "s.db"), law)


def test_runs_that_arrive_together_are_each_made_once(make_store):
    """They share transactions: of each id one is made, whoever is refused or cancelled takes no other along, and all are there afterwards."""

    async def law(store):
        async def create(row):
            try:
                return await store.create_run(row)
            except StoreError:
                return "refused"

        rows = [row_of(f"r{n % 20}", header={"n": n}) for n in range(40)]
        rows.append(row_of("child", parent="gone"))
        cancelled = asyncio.ensure_future(create(row_of("cancelled")))
        creating = [asyncio.ensure_future(create(row)) for row in rows]
        await asyncio.sleep(0)
        cancelled.cancel()
        made = await asyncio.gather(*creating)
        assert made == [True] * 20 + [False] * 20 + ["refused"]
        found = [await store.find_run(f"r{n}") for n in range(20)]
        assert [row.header for row in found] == [{"n": n} for n in range(20)]
        assert await store.create_run(row_of("later"))

    with_store(make_store, law)


def test_a_run_is_made_and_claimed_together(make_store):
    """Its owner has it at once, in the epoch of a first claim; nobody else gets it while that lives, and it appends behind its fence."""

    async def law(store):
        mine = row_of("r", owner="me", epoch=1)
        assert await store.create_run(mine)
        assert not await store.create_run(row_of("r", owner="other", epoch=1))
        found = await store.find_run("r")
        assert (found.owner, found.epoch, found.beat is not None) == ("me", 1, True)
        assert await store.list_owned("me") == {"r": 1}
        assert await store.raise_beat("me")
        assert await store.claim("r", "other", is_alive=lambda name, _: name == "me") is None
        assert await append(store, batch_of(mine, b"one")) is None
        taken = await store.claim("r", "other", **DEAD)
        assert (taken.owner, taken.epoch, taken.taken_from) == ("other", 2, "me")

    with_store(make_store, law)


def test_runs_are_made_and_claimed_in_one_transaction(make_store):
    """Each by its owner, whose beat has begun; a run that is there already stays as it is."""

    async def law(store):
        assert await store.create_run(row_of("old"))
        owners = {"a": "me", "b": "you", "c": "me", "d": None, "old": "Zoe"}
        rows = [row_of(run_id, owner=owner, epoch=int(owner is not None)) for run_id, owner in owners.items()]
        assert await asyncio.to_thread(store.create_runs, rows) == [True, True, True, True, False]
        found = [await store.find_run(run_id) for run_id in owners]
        assert [row.owner for row in found] == ["me", "you", "me", None, None]
        assert [row.beat is not None for row in found] == [True, True, True, False, False]
        assert found[0].beat == found[2].beat

    with_store(make_store, law)


def test_a_run_that_comes_of_one_that_is_gone_is_not_made(make_store):
    """It would need that one's journal. A kept replay needs none; and whoever was refused leaves the store usable."""

    async def law(store):
        with pytest.raises(StoreError, match="run gone was deleted meanwhile"):
            await store.create_run(row_of("child", parent="gone"))
        assert await store.find_run("child") is None
        assert await store.create_run(row_of(f"{REPLAY}x", parent="gone"))
        assert await store.create_run(row_of("parent"))
        assert await store.create_run(row_of("child", parent="parent"))

    with_store(make_store, law)


def test_only_one_owner_at_a_time(make_store):
    """A claim raises the epoch; a living owner keeps the run, a dead one loses it."""

    async def law(store):
        first = await claimed(store)
        assert (first.owner, first.epoch) == ("me", 1)
        assert await store.claim("r", "you", **ALIVE) is None
        second = await store.claim("r", "you", **DEAD)
        assert (second.owner, second.epoch) == ("you", 2)
        await store.release({"r": first.epoch})
        assert (await store.find_run("r")).owner == "you"
        await store.release({"r": second.epoch})
        assert (await store.find_run("r")).owner is None
        assert await store.claim("nothing", "me", **DEAD) is None

    with_store(make_store, law)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("12.7-k2500xab12@box~1", OwnerName("12", "box", 2.5, ends_surely=True)),
        ("12.7-l90000x0@box", OwnerName("12", "box", 90.0, ends_surely=False)),
        ("12.7-ab12@box", OwnerName("12", "box", 30.0, ends_surely=False)),
        ("a-b-k1xf@a@b", OwnerName("a-b", "a@b", 0.001, ends_surely=True)),
        ("12-k1500xZ@box", OwnerName("12", "box", 30.0, ends_surely=False)),
    ],
)
def test_an_owner_is_known_by_its_name(name, told):
    """Its lease, and whether its process ends with it, decide when another one may take over its runs."""
    assert OwnerName.of(name) == told


def test_an_owner_beats_until_it_is_overtaken_or_owns_nothing(make_store):
    """Whoever asks whether it lives is told its beat as it is in that moment."""

    async def law(store):
        for run_id in ("r", "s"):
            await claimed(store, run_id)
        before = (await store.find_run("s")).beat
        assert await store.raise_beat("me")
        asked = []
        assert await store.claim("r", "you", is_alive=lambda *known: not asked.append(known)) is None
        assert asked == [("me", before + 1)]
        assert [row.beat for row in await store.list_driven()] == [before + 1] * 2
        assert (await store.claim("r", "you", **DEAD)).beat == (await store.find_run("r")).beat
        assert not await store.raise_beat("me")
        assert (await store.find_run("s")).beat is None
        row = await store.find_run("r")
        await store.release({"r": row.epoch})
        assert not await store.raise_beat("you")

    with_store(make_store, law)


def test_each_claim_is_a_beat_that_nobody_has_seen(make_store):
    """Also of an owner that had let go of all its runs: who watched it before does not take it for one that stands still."""

    async def law(store):
        first = await claimed(store, "r")
        assert (await claimed(store, "s")).beat == first.beat + 1
        await store.release({"r": 1, "s": 1})
        assert (await claimed(store, "t")).beat not in (first.beat, first.beat + 1)

    with_store(make_store, law)


def test_an_owner_that_loses_a_run_by_force_keeps_the_others(make_store):
    """It goes on beating for them; with its last run it goes."""

    async def law(store):
        for run_id in ("r", "s"):
            await claimed(store, run_id)
        assert (await store.claim("r", "you", **DEAD, by_force=True)).epoch == 2
        assert await store.list_owned("me") == {"s": 1}
        assert await store.list_owned("you") == {"r": 2}
        assert await store.raise_beat("me")
        assert (await store.claim("s", "you", **DEAD, by_force=True)).epoch == 2
        assert not await store.raise_beat("me")

    with_store(make_store, law)


def test_a_claim_whose_question_fails_leaves_the_store_usable(make_store):
    """No transaction stays open behind an exception."""

    async def law(store):
        await claimed(store)

        def fails(name, beat):
            raise RuntimeError("who knows")

        with pytest.raises(StoreError):
            await store.claim("r", "you", is_alive=fails)
        assert (await store.claim("r", "you", **DEAD)).owner == "you"

    with_store(make_store, law)


def test_an_older_owner_is_fenced_off(make_store):
    """Its appends and headers are refused, and change nothing."""

    async def law(store):
        old = await claimed(store)
        new = await store.claim("r", "you", **DEAD)
        with pytest.raises(StoreError, match="another owner"):
            await append(store, batch_of(old, b"late"))
        with pytest.raises(StoreError, match="another owner"):
            await store.set_header("r", {}, None, old.epoch, "failed", 9.0)
        await append(store, batch_of(new, b"one"))
        assert await store.read_journal("r") == [b"one"]

    with_store(make_store, law)


def test_an_append_goes_to_the_end_or_nowhere(make_store):
    """A gap and a repetition are refused."""

    async def law(store):
        row = await claimed(store)
        first = batch_of(row, b"one", b"two")
        await append(store, first)
        with pytest.raises(StoreError):
            await append(store, first)
        with pytest.raises(StoreError):
            await append(store, replace(first, first_seq=9))
        row = after(row, first)
        second = batch_of(row, b"three")
        await append(store, second)
        assert await store.read_journal("r") == [b"one", b"two", b"three"]
        found = await store.find_run("r")
        assert (found.last_seq, found.head, found.status) == (3, second.head, "running")

    with_store(make_store, law)


def test_a_batch_that_is_repeated_changes_nothing(make_store):
    """Neither its records nor its writes and decisions count twice."""

    async def law(store):
        row = await claimed(store)
        first = batch_of(row, b"one", opened={"w": "box"})
        await append(store, first)
        await append(store, batch_of(after(row, first), b"two", closed=["w"]))
        await store.add_decision("r", b"decided")
        ((number, _),) = await store.list_decisions("r")
        before = await store.epochs(["box", EVERYTHING])
        with pytest.raises(StoreError):
            await append(store, replace(first, decided=[number]))
        assert await store.epochs(["box", EVERYTHING]) == before
        assert await store.list_decisions("r") == [(number, b"decided")]

    with_store(make_store, law)


def test_one_fenced_batch_does_not_harm_others_of_its_group(make_store):
    """What is appended together is committed together, each by its own right."""

    async def law(store):
        old = await claimed(store, "old")
        await store.claim("old", "you", **DEAD)
        rows = [await claimed(store, f"r{n}") for n in range(5)]
        batches = [batch_of(row, b"x") for row in rows]
        batches.insert(2, batch_of(old, b"late"))
        outcomes = await asyncio.to_thread(store.append, batches)
        assert [type(outcome) for outcome in outcomes] == [type(None)] * 2 + [StoreError] + [type(None)] * 3
        assert [await store.read_journal(row.id) for row in rows] == [[b"x"]] * 5
        assert await store.read_journal("old") == []

    with_store(make_store, law)


def test_runs_are_counted_by_status(make_store):
    """Those of the statuses that are asked for; a status without a run is left out."""

    async def law(store):
        assert await store.count_runs(["queued", "waiting"]) == {}
        for name in ("a", "b", "c"):
            await store.create_run(replace(row_of(), id=name))
        ended = await claimed(store, "ended")
        await append(store, replace(batch_of(ended, b"one"), status="succeeded"))
        waiting = await claimed(store, "w")
        await append(store, replace(batch_of(waiting, b"one"), status="waiting"))
        assert await store.count_runs(["queued", "waiting", "parked"]) == {"queued": 3, "waiting": 1}

    with_store(make_store, law)


def test_runs_that_someone_drives_are_listed(make_store):
    """Those that have not ended and have an owner, alive or not."""

    async def law(store):
        await store.create_run(row_of("free"))
        driven = await claimed(store, "driven")
        ended = await claimed(store, "ended")
        await append(store, replace(batch_of(ended, b"one"), status="succeeded"))
        let_go = await claimed(store, "parked")
        await store.release({"parked": let_go.epoch})
        listed = [replace(await store.find_run("driven"), header={})]
        assert await store.list_driven() == await store.list_driven(["nobody", "me"]) == listed
        assert await store.list_driven(["nobody"]) == await store.list_driven([]) == []
        assert driven.owner == "me"

    with_store(make_store, law)


def test_the_owners_of_runs_are_listed_with_their_beats(make_store):
    """Each once, however many runs it has, and without a beat once it was taken for dead; who has no run is left out."""

    async def law(store):
        assert await store.list_owners() == {}
        for run_id, owner in (("a", "me"), ("b", "me"), ("c", "you"), ("d", "you"), ("e", "Zoe")):
            await store.create_run(row_of(run_id))
            assert await store.claim(run_id, owner, is_alive=lambda *_: False)
        beats = dict(await store.list_owners())
        assert list(beats) == ["Zoe", "me", "you"]
        assert await store.raise_beat("me")
        assert await store.list_owners() == {**beats, "me": beats["me"] + 1}
        assert await store.claim("c", "me", is_alive=lambda *_: False)
        assert (await store.list_owners())["you"] is None
        await store.release({"e": (await store.find_run("e")).epoch})
        assert list(await store.list_owners()) == ["me", "you"]

    with_store(make_store, law)


def test_runs_that_go_on_at_a_time_are_listed_when_it_has_come(make_store):
    """Earliest first: those that have a plan and no owner, and have neither ended nor been parked."""

    async def law(store):
        await store.create_run(row_of("deadline", due=5.0))
        await store.create_run(row_of("task", due=5.0, plan_digest=None))
        for name, status, due in (
            ("timed", "waiting", 4.0),
            ("late", "waiting", 9.0),
            ("parked", "parked", 1.0),
        ):
            row = await claimed(store, name)
            await append(store, replace(batch_of(row, b"one"), status=status, due=due))
            assert await listed(store, 5.0) == (["deadline"] if name == "timed" else ["timed", "deadline"])
            await store.release({name: row.epoch})
        assert await listed(store, 5.0) == ["timed", "deadline"]
        assert await listed(store, 9.0) == ["timed", "deadline", "late"]
        assert [row.id for row in await store.list_due(9.0, limit=1)] == ["timed"]
        row = await claimed(store, "timed")
        batch = replace(batch_of(row, b"two"), first_seq=2, status="succeeded", releases="me", due=0.0)
        await append(store, batch)
        assert await listed(store, 9.0) == ["deadline", "late"]
        await append(store, replace(batch_of(await claimed(store, "late"), b"two"), first_seq=2, due=20.0))
        assert await listed(store, 9.0) == ["deadline"]

    async def listed(store, at):
        return [row.id for row in await store.list_due(at)]

    with_store(make_store, law)


def test_why_the_last_attempt_was_unfit(make_store):
    """It stands until the run is claimed again, by the epoch of the attempt, and goes with the run."""

    async def law(store):
        row = await claimed(store)
        await store.note_unfit("r", row.epoch, "no tool", 1.0)
        assert await store.find_unfit("r") is None  # somebody has it
        await store.release({"r": row.epoch})
        assert await store.find_unfit("r") == "no tool"
        await store.note_unfit("r", row.epoch, "other tool", 2.0)
        await store.note_unfit("r", row.epoch + 1, "of no attempt", 3.0)
        await store.note_unfit("nowhere", 1, "of no run", 3.0)
        assert (await store.find_unfit("r"), await store.find_unfit("nowhere")) == ("other tool", None)
        row = await claimed(store)
        await store.note_unfit("r", row.epoch - 1, "late", 4.0)
        await store.release({"r": row.epoch})
        assert await store.find_unfit("r") is None

    with_store(make_store, law)


def test_a_claim_tells_of_the_owner_that_it_overtook(make_store):
    """A dead one; one that has let go, or the same again, is none."""

    async def law(store):
        assert (await claimed(store)).taken_from is None
        assert (await store.claim("r", "me", **DEAD)).taken_from is None
        taken = await store.claim("r", "you", **DEAD)
        assert (taken.owner, taken.taken_from) == ("you", "me")
        await store.release({"r": taken.epoch})
        assert (await store.claim("r", "they", **DEAD)).taken_from is None
        assert (await store.find_run("r")).taken_from is None

    with_store(make_store, law)


def test_a_journal_is_read_in_pages(make_store):
    """At most so many lines, from anywhere in a flush; a page past the end is empty."""

    async def law(store):
        row = await claimed(store)
        for part in ((b"1", b"2", b"3"), (b"4",), (b"5", b"6", b"7", b"8")):
            await append(store, batch_of(row, *part))
            row = replace(row, last_seq=row.last_seq + len(part), head=chain(row.head, part))
        whole = [b"%d" % n for n in range(1, 9)]
        for start in range(9):
            for limit in range(1, 10):
                found = await store.read_journal("r", start, limit=limit)
                assert found == whole[start : start + limit], (start, limit)

    with_store(make_store, law)


def test_many_runs_are_released_at_once(make_store):
    """Each only where the epoch is the one it was claimed with; the owner goes with its last run."""

    async def law(store):
        rows = [await claimed(store, f"r{n}") for n in range(5)]
        taken = await store.claim("r3", "you", **DEAD)
        await store.claim("r0", "me", is_alive=lambda name, _: name != "me")
        await store.release({row.id: row.epoch for row in rows})
        owners = [(await store.find_run(row.id)).owner for row in rows]
        assert owners == ["me", None, None, "you", None]
        assert await store.raise_beat("me")
        await store.release({"r0": rows[0].epoch + 1, "r3": taken.epoch})
        assert not await store.raise_beat("me")
        assert not await store.raise_beat("you")

    with_store(make_store, law)


def test_the_last_batch_of_a_run_releases_it(make_store):
    """The owner has gone with the record that ends the run, and no further statement is needed; a refused batch releases nothing."""

    async def law(store):
        one, other = await claimed(store, "one"), await claimed(store, "other")
        await append(store, replace(batch_of(one, b"end"), status="succeeded", releases="me"))
        assert ((await store.find_run("one")).owner, (await store.find_run("other")).owner) == (None, "me")
        assert await store.raise_beat("me")
        new = await store.claim("other", "you", **DEAD)
        with pytest.raises(StoreError, match="another owner"):
            await append(store, replace(batch_of(other, b"end"), status="succeeded", releases="me"))
        assert (await store.find_run("other")).owner == "you"
        await append(store, replace(batch_of(new, b"end"), status="succeeded", releases="you"))
        assert not await store.raise_beat("you")

    with_store(make_store, law)


@pytest.mark.parametrize("after_seq", range(8))
def test_a_journal_is_read_from_any_place(make_store, after_seq):
    """Whatever the flushes were."""

    async def law(store):
        row = await claimed(store)
        for lines in ([b"1"], [b"2", b"3", b"4"], [b"5"], [b"6"]):
            batch = batch_of(row, *lines)
            await append(store, batch)
            row = after(row, batch)
        assert await store.read_journal("r", after_seq) == [b"1", b"2", b"3", b"4", b"5", b"6"][after_seq:]

    with_store(make_store, law)


def test_values_are_kept_by_digest(make_store):
    """More than one statement's worth of them; what is missing is left out."""

    async def law(store):
        row = await claimed(store)
        values = {f"sha256:{n}": b"v%d" % n for n in range(1200)}
        await append(store, replace(batch_of(row, b"x"), values=values))
        assert await store.find_values([*values, "sha256:none"]) == values
        assert await store.find_values([]) == {}

    with_store(make_store, law)


def header_of(size, letter):
    """Return a header whose text has so many bytes."""
    header = {"plan": None, "x": ""}
    return {"plan": None, "x": letter * (size - len(orjson.dumps(header)))}


def test_a_batch_has_all_of_its_values_or_none(make_store):
    """Small ones and a large one: a batch that is refused leaves none of them."""
    values = {digest(data): data for data in (b"x" * size for size in (1, 2, 30_000, 3_000_000))}

    async def law(store):
        row = await claimed(store)
        with pytest.raises(StoreError):
            await append(store, batch_of(replace(row, epoch=7), b"late", values=values))
        assert await store.find_values(list(values)) == {}
        await append(store, batch_of(row, b"one", values=values))
        assert await store.find_values(list(values)) == values

    with_store(make_store, law)


@pytest.mark.parametrize(
    "size", [LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + 1, LARGE_BYTES + 3 * PORTION_BYTES + 7]
)
def test_large_bytes_are_what_they_were(make_store, size):
    """Headers, values and results, which a file takes in portions; those that are there already stay, and no other ones change."""
    one, other = Random(1).randbytes(size), Random(2).randbytes(size)
    headers = [header_of(size, letter) for letter in "abc"]
    assert len(orjson.dumps(headers[0])) == size

    async def law(store):
        for run_id, header in zip("rs", headers, strict=False):
            assert await store.create_run(row_of(run_id, header=header))
            assert not await store.create_run(row_of(run_id, header=headers[2]))
        for run_id, header in zip("rsrs", [*headers[:2]] * 2, strict=True):
            assert (await store.find_run(run_id)).header == header
        row = await store.claim("r", "me", **DEAD)
        assert row.header == headers[0]
        await store.set_header("r", headers[2], "sha256:p", row.epoch, "running", 2.0)
        assert [(await store.find_run(run_id)).header for run_id in "rs"] == [headers[2], headers[1]]
        first = batch_of(row, b"x", values={"sha256:a": one, "sha256:b": other})
        await append(store, first)
        await append(store, batch_of(after(row, first), b"x", values={"sha256:a": other}))
        await store.add_value("sha256:b", one, 1.0)
        await store.add_value("sha256:c", one, 1.0)
        found = await store.find_values(["sha256:a", "sha256:b", "sha256:c"])
        assert found == {"sha256:a": one, "sha256:b": other, "sha256:c": one}
        for outputs in ((one, other), (other, one)):
            results = [Reusable(key, "r", "s", data, 1.0) for key, data in zip("kl", outputs, strict=True)]
            await leave(store, ReuseEntries(results=results))
            assert await store.find_reusable(["k", "l"]) == dict(zip("kl", results, strict=True))

    with_store(make_store, law)


@pytest.mark.parametrize("at", [0, LARGE_BYTES // 2, -3])
def test_a_large_header_that_was_changed_in_the_file_is_read_as_it_is_there(tmp_path, at):
    """Although the store that wrote it still has it in memory: its digest would say that nothing was changed."""
    header = header_of(LARGE_BYTES + PORTION_BYTES, "a")
    text = bytearray(orjson.dumps(header))
    text[text.index(b"aaaa") if at == 0 else at] = ord("b")

    async def law(store):
        await store.create_run(row_of(header=header))
        assert (await store.find_run("r")).header == header
        with closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as db:
            db.execute("UPDATE headers SET header=?", (bytes(text),))
        assert (await store.find_run("r")).header == orjson.loads(text) != header

    with_store(lambda: SqliteStore(tmp_path / "s.db"), law)


def test_what_nothing_refers_to_is_removed(make_store):
    """Named in a header, a journal, a large value, a decision, a plan or a result for reuse, it stays, and so does what was saved lately."""
    named = {
        name: digest(name.encode())
        for name in ("header", "line", "large", "inside", "decision", "plan", "result", "late")
    }
    orphans = {digest(b"x" * n): b"x" * n for n in (3, 5)}

    async def law(store):
        values = {name: where.encode() for where, name in named.items()} | orphans
        values[named["large"]] = b'{"file":{"digest":"%s"}}' % named["inside"].encode()
        await store.create_run(
            row_of("h", header={"plan": None, "inputs": {"f": {"digest": named["header"]}}})
        )
        row = await claimed(store)
        lines = (
            b'{"output":"%s"}' % named["large"].encode(),
            b'{"output":{"$value":"%s"}}' % named["large"].encode(),
            b'{"digest":"%s"}' % named["line"].encode(),
        )
        await append(store, replace(batch_of(row, *lines), values=values))
        await store.add_decision("r", b'{"edit":{"digest":"%s"}}' % named["decision"].encode())
        await store.save_plan("p", json.dumps({"digest": named["plan"]}), "sha256:p", 1.0)
        result = Reusable("k", "r", "s", b'{"digest":"%s"}' % named["result"].encode(), 1.0, {}, {})
        await leave(store, ReuseEntries(results=[result]))
        await store.add_value(named["late"], b"late", 100.0)
        await store.add_value(digest(b"x" * 5), b"x" * 5, 10.0)
        assert await store.prune_values(saved_before=50.0) == Pruned(2, 8)
        assert set(await store.find_values(list(values))) == set(named.values())
        assert await store.prune_values(saved_before=50.0) == Pruned(0, 0)
        assert await store.prune_values(saved_before=200.0) == Pruned(1, 4)

    with_store(make_store, law)


def test_decisions_wait_in_order_until_a_journal_holds_them(make_store):
    """They go with the batch that has them, or when they are dropped."""

    async def law(store):
        row = await claimed(store)
        for record in (b"a", b"b", b"c", b"d"):
            await store.add_decision("r", record)
        await store.add_decision("other", b"z")
        assert sorted(await asyncio.to_thread(store.list_decided)) == ["other", "r"]
        listed = await store.list_decisions("r")
        assert [record for _, record in listed] == [b"a", b"b", b"c", b"d"]
        numbers = [number for number, _ in listed]
        assert numbers == sorted(numbers)
        await append(store, batch_of(row, b"x", decided=[numbers[1]]))
        await store.drop_decisions([numbers[3]])
        assert [record for _, record in await store.list_decisions("r")] == [b"a", b"c"]
        assert [record for _, record in await store.list_decisions("other")] == [b"z"]
        await store.drop_decisions([numbers[0], numbers[2]])
        assert await asyncio.to_thread(store.list_decided) == ["other"]

    with_store(make_store, law)


def test_of_decisions_about_one_attempt_the_first_stands(make_store):
    """Also once a journal holds it; others are left all or none, and who comes second is given what stands."""
    first, second = DecisionKey("s", 1, "call"), DecisionKey("s", 2, "call")
    outcome, item = DecisionKey("s", 1, "outcome"), DecisionKey("t[0]", 1, "call")

    async def law(store):
        row = await claimed(store)
        assert await store.add_decisions("r", {first: b"yes", item: b"yes too"}) == {}
        assert await store.add_decisions("r", {second: b"a", first: b"no", outcome: b"b"}) == {first: b"yes"}
        listed = await store.list_decisions("r")
        assert [record for _, record in listed] == [b"yes", b"yes too"]
        await append(store, batch_of(row, b"x", decided=[listed[0][0]]))
        assert await store.add_decisions("r", {first: b"no"}) == {first: b"yes"}
        assert await store.add_decisions("r", {second: b"a", outcome: b"b"}) == {}
        assert await store.add_decisions("other", {first: b"no"}) == {}
        await store.drop_decisions([listed[1][0]])  # it came too late, and does not stand
        assert await store.add_decisions("r", {item: b"no"}) == {}
        assert [record for _, record in await store.list_decisions("r")] == [b"a", b"b", b"no"]

    with_store(make_store, law)


def test_of_decisions_at_once_one_stands(make_store):
    """Several connections, many attempts, in other orders: of each key one, and nobody waits for ever."""
    keys = [DecisionKey(f"s[{n}]", 1, "call") for n in range(20)]

    async def law(store):
        others = [store] if isinstance(store, MemoryStore) else [store, make_store()]
        for other in others[1:]:
            await other.open()
        try:
            await store.create_run(row_of())
            wanted = [(others[n % len(others)], b"%d" % n, keys[:: 1 if n % 2 else -1]) for n in range(8)]
            answers = await asyncio.gather(
                *(each.add_decisions("r", dict.fromkeys(order, word)) for each, word, order in wanted)
            )
        finally:
            for other in others[1:]:
                await other.close()
        assert [bool(answer) for answer in answers].count(False) == 1
        winner = b"%d" % [bool(answer) for answer in answers].index(False)
        assert all(answer == dict.fromkeys(keys, winner) for answer in answers if answer)
        assert [record for _, record in await store.list_decisions("r")] == [winner] * len(keys)

    with_store(make_store, law)


def test_writes_raise_the_epoch_of_their_resource_when_they_start_and_when_they_end(make_store):
    """`EVERYTHING` counts all; what is open says so, until it is closed, whoever asks."""

    async def law(store):
        names = ["box", "mail", EVERYTHING]
        start = await store.epochs(names)
        assert (start.count, start.open) == ({"box": 0, "mail": 0, EVERYTHING: 0}, frozenset())
        row = await claimed(store)
        opening = batch_of(row, b"x", opened={"w": "box"})
        await append(store, opening)
        under_way = await store.epochs(names)
        assert under_way.count == {"box": 1, "mail": 0, EVERYTHING: 1}
        assert under_way.open == {"box", EVERYTHING}
        assert (await store.epochs(["mail"])).open == frozenset()
        await append(store, batch_of(after(row, opening), b"y", closed=["w"]))
        ended = await store.epochs(names)
        assert (ended.count, ended.open) == ({"box": 2, "mail": 0, EVERYTHING: 2}, frozenset())

    with_store(make_store, law)


def test_a_write_that_ends_and_begins_again_in_one_batch_stays_open(make_store):
    """Both are counted: the end and the beginning."""

    async def law(store):
        row = await claimed(store)
        first = batch_of(row, b"one", opened={"w": "box", "v": "mail"})
        await append(store, first)
        await append(store, batch_of(after(row, first), b"two", closed=["w", "v"], opened={"w": "box"}))
        found = await store.epochs(["box", "mail", EVERYTHING])
        assert found.count == {"box": 3, "mail": 2, EVERYTHING: 5}
        assert found.open == {"box", EVERYTHING}

    with_store(make_store, law)


@pytest.mark.parametrize("seed", range(2))
def test_a_read_is_kept_only_where_no_write_began_or_ended(make_store, seed):
    """Whatever batches writes come in: between two looks at which no write on a resource is open, its epoch stays if no write came, and else changes."""
    random = Random(seed)
    names = ["box", "mail", EVERYTHING]

    async def law(store):
        row = await claimed(store)
        under_way: dict[str, str] = {}
        looks = [(await store.epochs(names), frozenset[str]())]
        for number in range(60):
            # A chain is most common: one ends, and one begins. A step may begin anew, as after a failure, and be open already, as after a death.
            closed = random.sample(sorted(under_way), min(len(under_way), random.choice([0, 1, 1, 1, 2])))
            opened = {
                random.choice([f"s{number}{at}", *under_way]): random.choice(names[:2])
                for at in range(random.choice([0, 1, 1, 1, 2]) if number % 5 else 0)
            }
            touched = {*(under_way[step] for step in closed), *opened.values()}
            touched |= {under_way[step] for step in opened if step in under_way}
            under_way = {step: name for step, name in under_way.items() if step not in closed} | opened
            batch = batch_of(row, b"x", closed=closed, opened=opened)
            await append(store, batch)
            row = after(row, batch)
            found = await store.epochs(names)
            assert found.open == {*under_way.values(), *([EVERYTHING] if under_way else [])}
            looks.append((found, frozenset({*touched, *([EVERYTHING] if touched else [])})))
        for at, (before, _) in enumerate(looks):
            changed: set[str] = set()
            for now, touched_since in looks[at + 1 :]:
                changed |= touched_since
                for name in set(names) - before.open - now.open:
                    assert (before.count[name] != now.count[name]) == (name in changed)

    with_store(make_store, law)


def test_closing_a_write_that_is_not_open_changes_no_epoch(make_store):
    """A decision may close what nobody opened."""

    async def law(store):
        row = await claimed(store)
        await append(store, batch_of(row, b"x", closed=["w"]))
        assert (await store.epochs(["box"])).count == {"box": 0}

    with_store(make_store, law)


def test_the_newest_result_of_a_key_is_found(make_store):
    """Entries are replaced, and come back whole."""

    async def law(store):
        entry = Reusable("k", "r", "s", b"1", created=5.0, epochs={"box": 3}, env={"HOME": None})
        await leave(store, ReuseEntries(results=[entry, replace(entry, key="l")]))
        await leave(store, ReuseEntries(results=[replace(entry, output=b"2", created=6.0)]))
        assert await store.find_reusable(["k", "l", "m"]) == {
            "k": replace(entry, output=b"2", created=6.0),
            "l": replace(entry, key="l"),
        }

    with_store(make_store, law)


def test_what_calls_leave_is_kept_whatever_becomes_of_the_records(make_store):
    """Of a group, in order: the last entry of a key stays, also beside a batch that is refused."""

    async def law(store):
        old = await claimed(store)
        await store.claim("r", "you", **DEAD)
        entry = Reusable("k", "r", "s", b"1", created=5.0)
        call = CallRecord("r", "s", "t", 5.0, "k", b"{}", "sha256:c")
        lefts = [
            ReuseEntries([call], [entry], {"sha256:c": {"a": "b"}}),
            ReuseEntries([call], [replace(entry, output=b"2")]),
        ]
        batches = [batch_of(old, b"late", reuse=lefts[0]), batch_of(replace(old, id="x"), reuse=lefts[1])]
        faults = await asyncio.to_thread(store.append, batches)
        assert [type(fault) for fault in faults] == [StoreError, type(None)]
        assert (await store.find_reusable(["k"]))["k"].output == b"2"
        assert await store.find_calls("r", ["s"]) == {"s": call}
        assert await store.find_codes(["sha256:c"]) == {"sha256:c": {"a": "b"}}
        assert await store.read_journal("r") == []

    with_store(make_store, law)


def test_runs_are_listed_newest_first_in_pages(make_store):
    """No run is missed or shown twice, also where several were made at once."""

    async def law(store):
        for n in range(23):
            await store.create_run(
                row_of(f"r{n:02}", created=float(n // 4), status=["queued", "failed"][n % 2])
            )
        seen, before = [], None
        while page := await store.list_runs(status=None, limit=5, before=before):
            seen += [row.id for row in page]
            before = (page[-1].created, page[-1].id)
        assert seen == sorted(
            (f"r{n:02}" for n in range(23)), key=lambda r: (int(r[1:]) // 4, r), reverse=True
        )
        failed = await store.list_runs(status="failed", limit=100, before=None)
        assert [row.id for row in failed] == [run_id for run_id in seen if int(run_id[1:]) % 2]

    with_store(make_store, law)


def test_runs_are_listed_by_plan_text_and_time(make_store):
    """Every condition counts, with a status and in pages too; signs of a pattern stand for themselves, and of letters only A to Z have two sizes."""

    async def law(store):
        tasks = ["Mail Ann 50%", "mail bob", None, "pay_ann", "payXann", "Ångström"]
        for n, task in enumerate(tasks):
            plan = f"sha256:{n % 2}"
            await store.create_run(
                row_of(
                    f"r{n}", created=float(n), task=task, plan_digest=plan, status=["queued", "failed"][n % 2]
                )
            )

        async def found(status=None, before=None, limit=9, **where):
            rows = await store.list_runs(status=status, limit=limit, before=before, where=RunFilter(**where))
            return [row.id for row in rows]

        assert await found(text="MAIL") == ["r1", "r0"]
        assert await found(text="50%") == ["r0"]
        assert await found(text="%") == ["r0"]
        assert await found(text="y_a") == ["r3"]
        assert await found(text="Ång") == ["r5"]
        assert await found(text="!") == []
        assert await found(text="r2") == ["r2"]
        assert await found(plan="sha256:1") == ["r5", "r3", "r1"]
        assert await found(plan="sha256:1", text="a", status="failed", since=1, until=4) == ["r3", "r1"]
        assert await found(since=4.0) == ["r5", "r4"]
        assert await found(until=1.0) == ["r0"]
        assert await found(plan="sha256:1", before=(5.0, "r5"), limit=1) == ["r3"]
        assert await found() == [f"r{n}" for n in reversed(range(6))]
        assert await found(usd_min=0.01) == []
        for run_id, usd in (("r1", 0.25), ("r4", 0.5)):
            row = await store.claim(run_id, "me", **DEAD)
            await append(store, batch_of(row, b"x", usd=usd))
        assert await found(usd_min=0.01) == ["r4", "r1"]
        assert await found(usd_min=0.5) == ["r4"]
        assert (await store.find_run("r1")).usd == 0.25

    with_store(make_store, law)


def test_plans_are_saved_by_name_and_found_by_digest(make_store):
    """A name comes before a digest; saving again replaces."""

    async def law(store):
        await store.save_plan("b", "{1}", "sha256:1", 1.0)
        await store.save_plan("a", "{2}", "sha256:2", 1.0)
        await store.save_plan("b", "{3}", "sha256:3", 2.0)
        assert [(each.name, each.text) for each in await store.list_plans()] == [("a", "{2}"), ("b", "{3}")]
        assert (await store.find_plan("b")).text == "{3}"
        assert (await store.find_plan("sha256:2")).text == "{2}"
        assert await store.find_plan("sha256:1") is None
        await store.save_plan("~kept", "{4}", "sha256:4", 3.0)
        marks = [("a", 1.0, "sha256:2"), ("b", 2.0, "sha256:3")]
        assert list(await store.list_plan_marks("~")) == marks, "without the plan that sorts after"

    with_store(make_store, law)


def test_a_plan_is_replaced_only_where_digest_and_text_are_those_that_were_read(make_store):
    """Prose is in no digest, so that the text decides where the saver has read it."""

    async def law(store):
        assert await store.save_plan("a", "{1}", "sha256:1", 1.0, replaces="")
        assert not await store.save_plan("a", "{2}", "sha256:1", 2.0, replaces="sha256:1", of_text="{0}")
        assert await store.save_plan("a", "{2}", "sha256:1", 3.0, replaces="sha256:1", of_text="{1}")
        assert not await store.save_plan("a", "{3}", "sha256:3", 4.0, replaces="sha256:1", of_text="{1}")
        assert await store.save_plan("a", "{3}", "sha256:3", 5.0, replaces="sha256:1")
        assert (await store.find_plan("a")).text == "{3}"

    with_store(make_store, law)


def test_uses_of_plans_are_counted_by_what_became_of_them(make_store):
    """By name, digest and outcome; an answer is a false one while its run stands failed or cancelled."""

    async def law(store):
        owned = await claimed(store)
        await store.note_use("a", "sha256:1", "answered", "r", 1.0)
        await store.note_use("a", "sha256:1", "answered", None, 2.0)
        await store.note_use("a", "sha256:1", "check", "r", 3.0)
        await store.note_use("a", "sha256:2", "answered", "gone", 4.0)
        before = [
            ("a", "sha256:1", "answered", 2),
            ("a", "sha256:1", "check", 1),
            ("a", "sha256:2", "answered", 1),
        ]
        assert list(await store.count_uses()) == before
        for status in ("failed", "cancelled"):
            await store.set_header("r", {}, None, owned.epoch, status, 5.0)
            counts = {tuple(row[:3]): row[3] for row in await store.count_uses()}
            assert counts[("a", "sha256:1", "answered")] == 1
            assert counts[("a", "sha256:1", "run")] == 1
            assert counts[("a", "sha256:1", "check")] == 1
        await store.set_header("r", {}, None, owned.epoch, "succeeded", 6.0)
        assert list(await store.count_uses()) == before

    with_store(make_store, law)


def test_pins_stay_until_they_are_replaced(make_store):
    """What was pinned first stands, as a whole; a replacement leaves nothing of it."""

    async def law(store):
        assert await store.list_pins("p") == {}
        assert await store.pin_tools("p", {"a": b"1", "b": b"2"}, 1.0)
        assert not await store.pin_tools("p", {"a": b"3", "c": b"4"}, 2.0)
        assert await store.list_pins("p") == {"a": b"1", "b": b"2"}
        assert await store.pin_tools("q", {"a": b"5"}, 3.0)
        assert await store.pin_tools("p", {"c": b"4"}, 4.0, replaces=True)
        assert (await store.list_pins("p"), await store.list_pins("q")) == ({"c": b"4"}, {"a": b"5"})

    with_store(make_store, law)


def test_what_is_learnt_is_merged_inside_the_store(make_store):
    """Under the fingerprint of a tool; of several at once each keeps its own, and of edits the last few stay."""

    def joined(kept, added):
        return kept + added

    async def law(store):
        first, second = LearntKey("a", "sha256:1"), LearntKey("b", "sha256:1")
        assert await store.list_learnt([first]) == {}
        await store.merge_learnt({first: b"1", second: b"2"}, 1.0, joined)
        await store.merge_learnt({first: b"3"}, 2.0, joined)
        await asyncio.gather(*(store.merge_learnt({second: b"4"}, 3.0, joined) for _ in range(20)))
        assert await store.list_learnt([first, second, LearntKey("a", "sha256:2")]) == {
            first: b"13",
            second: b"2" + b"4" * 20,
        }
        for number in range(LEARNT_MAX + 2):
            await store.merge_learnt({LearntKey("c", f"sha256:{number}"): b"x"}, float(number), joined)
        every = [LearntKey("c", f"sha256:{number}") for number in range(LEARNT_MAX + 2)]
        assert sorted(await store.list_learnt(every)) == sorted(every[2:])
        assert len(await store.list_learnt([first, second])) == 2

    with_store(make_store, law)


def test_a_closed_store_says_so(make_store):
    """And may be closed twice."""

    async def main():
        store = make_store()
        await store.open()
        await store.close()
        await store.close()
        with pytest.raises(StoreError, match="closed"):
            await store.find_run("r")

    asyncio.run(main())


# --- files


def open_fault(path) -> str:
    async def main():
        store = SqliteStore(path)
        with pytest.raises(StoreError) as raised:
            await store.open()
        return str(raised.value)

    return asyncio.run(main())


def test_a_newer_format_is_refused_and_left_alone(tmp_path):
    """The message says what to do."""
    path = tmp_path / "s.db"
    with_store(lambda: SqliteStore(path), lambda store: store.create_run(row_of()))
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    assert "format 99" in open_fault(path)
    assert "upgrade" in open_fault(path)


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path):
    """So is a folder, and a database of something else."""
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, " * 100)
    assert f"the store {path} cannot be used: it is a file of another kind, no store" in open_fault(path)
    assert path.read_text().startswith("these are my notes")
    assert f"the store {tmp_path} cannot be used: it is a folder; expected a file" in open_fault(tmp_path)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE t (x)")
    db.close()
    before = other.read_bytes()
    assert "something else" in open_fault(other)
    assert other.read_bytes() == before


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    """With what to do; nothing is made."""
    path = tmp_path / "no" / "s.db"
    told = f"the store {path} cannot be used: its folder {path.parent} does not exist: make it (mkdir -p)"
    assert told in open_fault(path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    beside = open_fault(tmp_path / "file" / "s.db")
    assert f"{tmp_path / 'file'}, which should be its folder, is a file" in beside


@pytest.fixture
def ordinary_user():
    """The tests may run as a user who may do all: then as another one."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.fixture
def locked_folder():
    """A folder that nobody but its maker may change, and who may only read it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)


@pytest.fixture
def unreadable_file():
    """A file that its maker locked, in a folder that everybody may write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "s.db").touch()
        (folder / "s.db").chmod(0)
        yield folder / "s.db"
        folder.chmod(0o755)


def test_a_folder_that_cannot_be_written_is_a_store_error(locked_folder, ordinary_user):
    """It names the store, the folder and what to do, also where the file is there already; nothing is made."""
    path = locked_folder / "s.db"
    told = f"the store {path} cannot be used: this user may not write in its folder {locked_folder}"
    assert told in open_fault(path)
    assert "let the user write there, or name a store elsewhere" in open_fault(path)
    assert list(locked_folder.iterdir()) == []


def test_a_file_that_cannot_be_written_is_a_store_error(unreadable_file, ordinary_user):
    """It names the file and what to do."""
    assert f"the store {unreadable_file} cannot be used: this user may not read and write it" in open_fault(
        unreadable_file
    )


def test_a_new_file_may_be_opened_by_many_at_once(tmp_path):
    """Whoever comes first makes it."""

    async def main():
        stores = [SqliteStore(tmp_path / "s.db") for _ in range(12)]
        await asyncio.gather(*(store.open() for store in stores))
        assert [await store.create_run(row_of(f"r{n}")) for n, store in enumerate(stores)] == [True] * 12
        assert len(await stores[0].list_runs(status=None, limit=99, before=None)) == 12
        for store in stores:
            await store.close()

    asyncio.run(main())


def test_how_a_file_is_opened(tmp_path):
    """A log that writers and readers share, room that is given back in portions, others' locks waited for; the look-ups wait for nobody, and write nothing."""

    async def law(store):
        def settings(db, *names):
            return [db.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

        names = ("journal_mode", "auto_vacuum", "user_version", "busy_timeout", "synchronous")
        found = await store._call(lambda: settings(store._open_db(), *names))
        assert found == ["wal", INCREMENTAL, STORE_FORMAT, BUSY_TIMEOUT_MS, 1]
        assert settings(store._reader, "query_only", "busy_timeout") == [1, 0]
        cache = await store._call(lambda: settings(store._open_db(), "cache_size"))
        assert cache == settings(store._reader, "cache_size") == [-CACHE_KIB]
        assert not store.is_read_only
        await store.expect_writable()

    for _ in range(2):
        with_store(lambda: SqliteStore(tmp_path / "s.db"), law)


@pytest.mark.parametrize("found", [1, STORE_FORMAT, STORE_FORMAT + 1])
def test_a_file_of_this_format_and_of_those_before_is_opened_and_of_the_next_is_not(tmp_path, found):
    """Whoever opens it finds the tables of this format, and the file says so."""
    path = emptied(tmp_path / "s.db")
    if found > 1:
        with_store(lambda: SqliteStore(path), lambda store: store.create_run(row_of()))
        with closing(sqlite3.connect(path)) as db:
            db.execute(f"PRAGMA user_version={found}")
    assert format_of(path) == found
    if found > STORE_FORMAT:
        assert f"has format {found}; this firmplan reads up to {STORE_FORMAT}" in open_fault(path)
        assert format_of(path) == found
        return
    with_store(lambda: SqliteStore(path), lambda store: store.save_plan("p", "{}", "sha256:p", 1.0))
    assert format_of(path) == STORE_FORMAT


@pytest.mark.parametrize("table", ["runs", "journal", "stored_values", "open_writes"])
def test_a_file_without_one_of_its_tables_is_refused(tmp_path, table):
    """It was made by a firmplan between releases, or somebody removed it; nothing is made in its place."""
    path = tmp_path / "s.db"
    with_store(lambda: SqliteStore(path), lambda store: store.create_run(row_of()))
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"DROP TABLE {table}")
    assert f"the store {path} has no table '{table}'" in open_fault(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT 1 FROM sqlite_master WHERE name=?", (table,)).fetchone() is None


def test_a_failure_in_the_middle_of_a_transaction_leaves_nothing_of_it(make_store):
    """Neither for the next statement, nor for a store that is opened later; the same store goes on."""

    async def law(store):
        row = await claimed(store)
        wrong = batch_of(row, b"one", opened={"w": "box"}, reuse=ReuseEntries([], [object()]))
        with pytest.raises(StoreError):
            await append(store, wrong)
        assert await store.read_journal("r") == []
        assert (await store.epochs(["box"])).count == {"box": 0}
        await append(store, batch_of(row, b"two"))
        assert await store.read_journal("r") == [b"two"]

    with_store(make_store, law)


def test_a_look_that_finds_what_nobody_wrote_is_a_store_error(tmp_path):
    """Not an error of the language."""

    async def law(store):
        await store.create_run(row_of())
        with closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as db:
            db.execute("UPDATE headers SET header=x'7b'")
        with pytest.raises(StoreError, match=r"the store .*s\.db failed"):
            await store.find_run("r")

    with_store(lambda: SqliteStore(tmp_path / "s.db"), law)


def test_a_look_waits_for_nobody_and_a_write_for_others(tmp_path):
    """While another process is in the middle of a write, what was committed is read at once; a write goes on once that one has ended."""

    async def law(store):
        await store.create_run(row_of())
        with closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("UPDATE runs SET status='failed'")
            assert (await store.find_run("r")).status == "queued"
            writing = asyncio.create_task(store.create_run(row_of("s")))
            assert (await store.find_run("r")).status == "queued"
            assert not writing.done()
            other.execute("COMMIT")
            assert (await store.find_run("r")).status == "failed"
        assert await writing

    with_store(lambda: SqliteStore(tmp_path / "s.db"), law)


def test_all_files_of_a_store_are_named_after_it(tmp_path):
    """A store at path P is P and files named P-*."""
    path = tmp_path / "s.db"

    async def main():
        store = SqliteStore(path)
        await store.open()
        await store.create_run(row_of())
        names = {name.partition("-")[0] for name in os.listdir(tmp_path)}  # noqa: PTH208  # names are wanted
        await store.close()
        return names

    assert asyncio.run(main()) == {"s.db"}
    assert [file.name for file in tmp_path.iterdir()] == ["s.db"]
