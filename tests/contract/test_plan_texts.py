"""Laws of the texts of plans: a store keeps a large one once, for as long as a run has it, and nobody sees the difference."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest
from appending import with_store
from firmplan import StoreError
from firmplan.executor import SqliteStore
from firmplan.executor.stores import header_text
from firmplan.executor.stores.header_text import PLAN_BYTES_MIN
from firmplan.executor.stores.store import RunRow
from firmplan.plans.values import digest

VALUE = b"bytes that a plan names"
SMALL = {"firmplan": 1, "steps": []}
LARGE = {**SMALL, "task": "x" * PLAN_BYTES_MIN, "inputs": {"a": {"default": digest(VALUE)}}}
OTHER = {**LARGE, "task": "y" * PLAN_BYTES_MIN}
ENDED = ["succeeded"]


@pytest.fixture(autouse=True)
def new_process(monkeypatch):
    """Forgets what was read or written before, as a new process has."""

    def forget():
        for name in ("_PLANS", "_HEADERS", "_TEXTS"):
            kept = getattr(header_text, name)
            kept._kept.clear()
            kept._weight = 0

    forget()
    return forget


def run(name, plan, **keys):
    header = {"format": 1, "plan": plan, "inputs": {"of": name}}
    return RunRow(name, "succeeded", None, "sha256:1", None, 1.0, 1.0, "", header, **keys)


async def rows(store, table):
    return await store.look(lambda sql: sql.rows(f"SELECT * FROM @{table}"))


async def kept(store):
    """Return the texts that the store has, and how many runs have one."""
    return sorted(bytes(text) for _, text in await rows(store, "plan_texts")), len(
        await rows(store, "run_plans")
    )


def test_a_large_plan_is_stored_once_and_goes_with_its_last_run(make_store, new_process):
    """A small one stands in the headers of its runs. A header comes back as it was given, in the same order of keys."""

    async def law(store):
        for name, plan in (("a", LARGE), ("b", dict(LARGE)), ("c", OTHER), ("d", SMALL)):
            await store.create_run(run(name, plan))
        texts, runs = await kept(store)
        assert (len(texts), runs) == (2, 3)
        new_process()
        for name, plan in (("a", LARGE), ("b", LARGE), ("c", OTHER), ("d", SMALL)):
            header = (await store.find_run(name)).header
            assert list(header.items()) == list(run(name, plan).header.items())
            assert (await store.find_run(name)).header is header
        assert (await store.find_run("a")).header["plan"] is (await store.find_run("b")).header["plan"]
        assert await store.find_damage() == []
        for name, left in (("a", (2, 2)), ("c", (1, 1)), ("d", (1, 1)), ("b", (0, 0))):
            assert (await store.delete_run(name, ENDED)).is_removed
            texts, runs = await kept(store)
            assert (len(texts), runs) == left

    with_store(make_store, law)


def test_a_run_that_is_there_already_leaves_no_text(make_store):
    """Its header stays as it is, and so does its plan."""

    async def law(store):
        await store.create_run(run("a", SMALL))
        await store.create_run(run("a", LARGE))
        assert await kept(store) == ([], 0)
        await store.create_run(run("b", LARGE))
        await store.create_run(run("b", OTHER))
        assert (await store.find_run("b")).header["plan"] == LARGE
        assert [len(texts) for texts in [(await kept(store))[0]]] == [1]

    with_store(make_store, law)


def test_another_header_of_a_run_brings_its_own_plan(make_store):
    """A run gets its plan when a planner has made it; the text of an earlier one goes."""

    async def law(store):
        await store.create_run(run("a", LARGE))
        await store.set_header("a", run("a", OTHER).header, "sha256:2", 0, "queued", 2.0)
        assert (await store.find_run("a")).header["plan"] == OTHER
        texts, runs = await kept(store)
        assert (len(texts), runs) == (1, 1)
        await store.set_header("a", run("a", SMALL).header, "sha256:3", 0, "queued", 3.0)
        assert await kept(store) == ([], 0)

    with_store(make_store, law)


def test_values_that_a_large_plan_names_are_in_use(make_store):
    """Until its last run is deleted, which says that they may be unused now."""

    async def law(store):
        name = await store.add_value(digest(VALUE), VALUE, 1.0) or digest(VALUE)
        await store.create_run(run("a", LARGE))
        assert (await store.prune_values(saved_before=2.0)).values == 0
        assert name in (await store.delete_run("a", ENDED)).named
        assert (await store.prune_values(saved_before=2.0)).values == 1

    with_store(make_store, law)


def test_a_run_whose_plan_goes_while_it_is_read_is_looked_up_once_more(make_store, new_process, monkeypatch):
    """Between its header and the text of its plan somebody deletes it, or gives it another plan: that is no damage."""

    async def law(store):
        await store.create_run(run("a", LARGE))
        new_process()
        plain, seen = store._find_plan_text, []

        def find(sql, name):
            seen.append(name)
            return None if len(seen) == 1 else plain(sql, name)

        monkeypatch.setattr(store, "_find_plan_text", find)
        assert (await store.find_run("a")).header["plan"] == LARGE
        assert len(seen) == 2

    with_store(make_store, law)


@pytest.mark.parametrize(
    "change", ["UPDATE plan_texts SET data=CAST(data || x'20' AS BLOB)", "DELETE FROM plan_texts"]
)
def test_a_text_that_was_changed_is_no_plan(tmp_path, new_process, change):
    """Whoever reads a run of it hears so, and a check of the store names it."""
    path = tmp_path / "s.db"

    async def main():
        store = SqliteStore(path)
        await store.open()
        await store.create_run(run("a", LARGE))
        with sqlite3.connect(path) as db:
            db.execute(change)
        db.close()
        new_process()
        why = "is missing" if "DELETE" in change else "is not as it was written"
        with pytest.raises(StoreError, match=f"the text of the plan sha256:.* {why}"):
            await store.find_run("a")
        (damage,) = await store.find_damage()
        assert why in damage
        await store.create_run(run("b", LARGE))  # a text that is missing is stored anew with the next run
        is_repaired = "DELETE" in change
        assert bool(await store.find_damage()) != is_repaired
        await store.close()

    asyncio.run(main())


def test_a_large_text_is_written_and_read_in_portions(tmp_path, new_process, monkeypatch):
    """It comes back as it was given."""
    monkeypatch.setattr("firmplan.executor.stores.sqlite_store.LARGE_BYTES", 1000)
    plan = {**SMALL, "task": "z" * (1024 * 1024 + 1)}

    async def main():
        store = SqliteStore(tmp_path / "s.db")
        await store.open()
        for name in "ab":
            await store.create_run(run(name, plan))
        new_process()
        assert (await store.find_run("a")).header == run("a", plan).header
        await store.close()

    asyncio.run(main())
