"""Laws over random plans: run, replay, export, import and replay have one digest; no flipped byte goes unseen."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from random import Random

import pytest
from firmplan import Engine, FirmplanError, InputRejected
from firmplan.errors import StoreError
from firmplan.executor.journal.bundle import read_bundle
from firmplan.executor.journal.restore import read_entries
from firmplan.testing import MemoryStore
from hypothesis import given
from hypothesis import strategies as st
from seeds import examples, seeds
from small_plans import RECORDER, RECORDING_TOOLS, Recorder, small_plan, small_plans

FLIPS = 15  # bits flipped in each journal and each bundle


@examples(200)
@given(plan=small_plans(), n=st.integers(0, 9), seed=st.integers(0, 2**32))
def test_a_run_is_the_same_wherever_it_travels(tmp_path_factory, plan, n, seed):
    """Run, replay, kept replay, bundle, bundle kept in another store: one digest; a flipped bit is found in each."""
    random = Random(seed)
    flips = [(random.random(), random.randrange(8)) for _ in range(FLIPS)]
    folder = tmp_path_factory.getbasetemp()
    asyncio.run(travelled(folder / "law.bundle", plan, n, flips))


@pytest.mark.sweep
@pytest.mark.parametrize("seed", seeds(1_000, sampled=10))
def test_a_seeded_run_is_the_same_wherever_it_travels(tmp_path, seed):
    """The same from a seed alone, for `make sweep`."""
    random = Random(seed)
    flips = [(random.random(), random.randrange(8)) for _ in range(FLIPS)]
    asyncio.run(travelled(tmp_path / "law.bundle", small_plan(random), random.randrange(10), flips))


async def travelled(path, plan, n, flips):
    RECORDER.set(Recorder())
    here, there = MemoryStore(), MemoryStore()
    async with Engine(RECORDING_TOOLS, store=here) as engine:
        run = await engine.run(plan, inputs={"n": n})
        calls = len(RECORDER.get().log)
        replayed = await engine.replay(run.id)
        kept = await engine.replay(run.id, keep=True)
        await engine.export(run.id, path)
        await check_journal(here, run.id, flips)
    async with Engine([], store=there) as other:
        bundled = await other.replay(path)
        landed = await other.replay(path, keep=True)
        again = await other.replay(landed.id)
        back = await other.export(landed.id, path.with_suffix(".back"))
    assert len(RECORDER.get().log) == calls, "something was called"
    runs = (run, replayed, kept, bundled, landed, again, await Engine([]).replay(back))
    assert {each.digest for each in runs} == {run.digest}
    assert {each.status for each in runs} == {run.status}
    assert all(dict(each.steps) == dict(run.steps) for each in runs)
    check_bundle(path.read_bytes(), flips)


def check_bundle(data, flips):
    """Flip bits of a bundle, one at a time: each is refused."""
    changed = bytearray(data)
    for share, bit in flips:
        at = int(share * len(changed))
        changed[at] ^= 1 << bit
        with pytest.raises(InputRejected):
            read_bundle(bytes(changed), "bundle")
        changed[at] ^= 1 << bit


async def check_journal(store, run_id, flips):
    """Flip bits of a journal, one at a time: each is found, and located."""
    row = await store.find_run(run_id)
    lines = list(await store.read_journal(run_id))
    for share, bit in flips:
        number = int(share * len(lines))
        line = bytearray(lines[number])
        line[int(share * len(lines) * len(line)) % len(line)] ^= 1 << bit
        with pytest.raises(StoreError) as found:
            await read_entries(store, row, [*lines[:number], bytes(line), *lines[number + 1 :]])
        assert is_located(str(found.value), number + 1)


def is_located(message, record):
    """Whether a message names the record, or the few that were written with it."""
    words = message.replace(":", " ").split()
    if "record" in words:
        return int(words[words.index("record") + 1]) == record
    first, last = (int(words[words.index("records") + at]) for at in (1, 3))
    return first <= record <= last


def test_a_header_that_was_changed_diverges(tmp_path):
    """What the chain does not cover, the replay does: other inputs in the row come to another run."""
    plan = {
        "firmplan": 1,
        "inputs": {"n": {"type": "integer"}},
        "steps": [{"id": "s", "tool": "double", "args": {"x": "${inputs.n}"}}],
        "output": "${s}",
    }

    async def main():
        RECORDER.set(Recorder())
        async with Engine(RECORDING_TOOLS, store=tmp_path / "s.db") as engine:
            run = await engine.run(plan, inputs={"n": 4})
        with closing(sqlite3.connect(tmp_path / "s.db")) as db, db:
            text = db.execute("SELECT header FROM headers").fetchone()[0]
            assert b'"inputs":{"n":4}' in text
            db.execute(
                "UPDATE headers SET header=?", (text.replace(b'"inputs":{"n":4}', b'"inputs":{"n":5}'),)
            )
        async with Engine([], store=tmp_path / "s.db") as engine:
            with pytest.raises(FirmplanError) as found:
                await engine.replay(run.id)
        return found.value

    assert asyncio.run(main()).code == "diverged"
