"""Deleting runs: what goes, what stays, and that a file gets smaller. On real files and PostgreSQL, beside other processes, and killed in between."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from delete_child import SIZE, TOOLS, delete_and_die
from firmplan import Engine, InputRejected, RunNotFound, StoreError
from firmplan.executor import SqliteStore
from firmplan.executor.stores.sql_store import OF_ONE_RUN
from firmplan.executor.stores.store import RunRow
from firmplan.testing import FakeClock
from forked import is_killed, start
from public import call, plan

LONG = plan(
    call("long", "stretch", args={"of": "${inputs.of}"}),
    inputs={"of": {"type": "string"}},
    output="${len(long)}",
)
FILE = plan(
    call("file", "save", args={"of": "${inputs.of}"}), inputs={"of": {"type": "string"}}, output="${file}"
)
WAITS = plan(call("pay", "pay", args={}))
DAY = 24 * 3600.0


class Where:
    """A store, and what stands in its tables."""

    def __init__(self, where, is_shared):
        self.where = where
        self.is_shared = is_shared

    def engine(self, **settings):
        return Engine(TOOLS, store=self.where, **settings)

    def rows(self, statement):
        if not self.is_shared:
            with closing(sqlite3.connect(self.where)) as db:
                return db.execute(statement).fetchall()
        with psycopg.connect(self.where) as db:
            return db.execute(statement).fetchall()

    def tables(self):
        """Table -> the ids of runs that its rows name."""
        if self.is_shared:
            found = self.rows(
                "SELECT table_name FROM information_schema.columns WHERE column_name='run_id' AND table_schema=current_schema()"
            )
        else:
            found = self.rows(
                "SELECT m.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type='table' AND c.name='run_id'"
            )
        return {
            name.removeprefix("firmplan_"): {run_id for (run_id,) in self.rows(f"SELECT run_id FROM {name}")}
            for (name,) in found
        }

    def values(self):
        return {
            digest
            for (digest,) in self.rows(
                f"SELECT digest FROM {'firmplan_' if self.is_shared else ''}stored_values"
            )
        }


@pytest.fixture(params=["file", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request, tmp_path):
    if request.param == "file":
        return Where(str(tmp_path / "s.db"), is_shared=False)
    return Where(request.getfixturevalue("postgres_url"), is_shared=True)


def test_a_run_goes_with_all_that_is_its_own(store):
    """No table names it any more but that of reusable results, its values are gone, and the other run is as it was."""
    with store.engine() as engine:
        other = engine.run_sync(LONG, inputs={"of": "b"})
        kept = store.values()
        run = engine.run_sync(LONG, inputs={"of": "a"}, run_id="r")
        assert len(store.values()) == 2
        told = engine.delete_sync(run.id)
        assert (told.runs, told.values) == (("r",), 1)
        assert told.bytes > SIZE
        assert store.values() == kept
        tables = store.tables()
        assert {"journal", "headers", "calls", "decisions", "open_writes"} < set(tables)
        assert [name for name, runs in tables.items() if "r" in runs and name != "reusable"] == []
        for look in (engine.get_sync, engine.replay_sync, engine.delete_sync, engine.wait_sync):
            with pytest.raises(RunNotFound):
                look("r")
        assert engine.replay_sync(other.id).digest == other.digest
        assert engine.check_store_sync().ok
        again = engine.run_sync(LONG, inputs={"of": "a"}, run_id="r")
        assert again.digest == run.digest


def test_a_run_that_has_not_ended_stays(store):
    """It says so; once it is cancelled it can be deleted. A kept replay of it never ends, and can be deleted at once."""
    with store.engine() as engine:
        run = engine.run_sync(WAITS)
        with pytest.raises(InputRejected, match=r"has not ended .* cancel it first") as told:
            engine.delete_sync(run.id)
        assert told.value.code == "not-ended"
        assert engine.prune_sync(older_than=0).runs == ()
        copy = engine.replay_sync(run.id, keep=True)
        assert engine.delete_sync(copy.id).runs == (copy.id,)
        engine.cancel_sync(run.id)
        engine.resume_sync(run.id)
        assert engine.delete_sync(run.id).runs == (run.id,)


def test_a_run_that_another_came_of_stays(store):
    """A fork needs its parent's journal; the message names the fork, and once that is gone the parent goes, too."""
    with store.engine() as engine:
        run = engine.run_sync(LONG, inputs={"of": "a"})
        fork = engine.fork_sync(run.id, at="long")
        with pytest.raises(InputRejected, match=f"stays: {fork.id} was made from it") as told:
            engine.delete_sync(run.id)
        assert told.value.code == "has-children"
        assert engine.replay_sync(fork.id).digest == fork.digest
        engine.delete_sync(fork.id)
        assert engine.delete_sync(run.id).runs == (run.id,)


def test_what_other_runs_took_stays(store):
    """A run that reused a result keeps value and artifact; the result stays of use though its run is gone, and is checked as before."""
    with store.engine() as engine:
        first = engine.run_sync(FILE, inputs={"of": "a"})
        second = engine.run_sync(FILE, inputs={"of": "a"})
        assert second.steps["file"].reused
        assert engine.delete_sync(first.id).values == 0
        assert engine.read_artifact_sync(second.output) == b"a" * SIZE
        assert engine.replay_sync(second.id).digest == second.digest
        engine.delete_sync(second.id)
        third = engine.run_sync(FILE, inputs={"of": "a"})
        assert third.steps["file"].reused
        assert engine.read_artifact_sync(third.output) == b"a" * SIZE
        assert "was reused" in str(engine.explain_sync(third.id, "file"))
        assert engine.check_store_sync().ok
        engine.delete_sync(third.id)
        engine.shrink_cache_sync(max_bytes=0)
        assert engine.prune_artifacts_sync().values == 1


def test_old_runs_are_pruned(store):
    """By age and status, children first; what stays though it is old is told with the reason, and a dry run deletes nothing."""
    clock = FakeClock()

    async def main():
        async with store.engine(clock=clock) as engine:
            old = await engine.run(LONG, inputs={"of": "a"})
            failed = await engine.run(plan(call("f", "fail", args={"of": "a"})))
            waits = await engine.run(WAITS)
            fork = await engine.fork(old.id, at="long")
            clock.advance(10 * DAY)
            young = await engine.run(LONG, inputs={"of": "b"})
            parent = await engine.fork(failed.id, at="f")
            told = await engine.prune(older_than="9d", dry_run=True)
            assert (set(told.runs), set(told.kept), told.is_dry_run) == ({old.id, fork.id}, {failed.id}, True)
            assert parent.id in told.kept[failed.id]
            assert len((await engine.list_runs()).runs) == 6
            done = await engine.prune(older_than="9d", statuses=["succeeded"])
            assert set(done.runs) == {fork.id, old.id}
            assert (done.kept, done.values) == ({}, 1)
            left = {run.id for run in (await engine.list_runs()).runs}
            assert left == {failed.id, waits.id, young.id, parent.id}
            assert set((await engine.prune(older_than=0)).runs) == {failed.id, young.id, parent.id}
            for wrong in ({}, {"older_than": "soon"}, {"statuses": ["waiting"]}, {"statuses": "done"}):
                with pytest.raises(InputRejected):
                    await engine.prune(**wrong)

    asyncio.run(main())


def test_a_fork_of_a_run_that_was_just_deleted_is_refused(store):
    """Whoever was looking at the parent when it went does not make a run without one."""

    async def main():
        async with store.engine() as engine:
            await engine.run(LONG, inputs={"of": "a"}, run_id="r")
            await engine.delete("r")
            made = RunRow("s", "queued", None, None, "r", 1.0, 1.0, "", {})
            with pytest.raises(StoreError, match="run r was deleted meanwhile"):
                await (await engine._open()).execution._store.create_run(made)
            assert (await engine.list_runs()).runs == ()

    asyncio.run(main())


@pytest.mark.parametrize("read", [1, 2])
@pytest.mark.parametrize("how", ["replay", "keep", "export", "fork", "explain", "diff"])
def test_a_run_that_is_deleted_while_it_is_read_is_told_as_deleted(store, tmp_path, how, read):
    """Not as changed outside firmplan; and no copy is left that lacks what went."""

    async def main():
        async with store.engine() as engine, store.engine() as other:
            await engine.run(LONG, inputs={"of": "a"}, run_id="r")
            looks = {
                "replay": lambda: engine.replay("r"),
                "keep": lambda: engine.replay("r", keep=True),
                "export": lambda: engine.export("r", tmp_path / "bundle"),
                "fork": lambda: engine.fork("r", at="long"),
                "explain": lambda: engine.explain("r", "long"),
                "diff": lambda: engine.diff("r", "r"),
            }
            kept = (await engine._open()).execution._store
            whole, reads = kept.read_journal, []

            async def read_journal(run_id, *args, **more):
                reads.append(run_id)
                if len(reads) == read:
                    await other.delete("r")
                return await whole(run_id, *args, **more)

            kept.read_journal = read_journal
            if read == 1 or how in ("keep", "export", "diff"):
                with pytest.raises(RunNotFound, match=r"deleted|no run"):
                    await looks[how]()
                assert (await other.list_runs()).runs == ()
            assert not (tmp_path / "bundle").exists()
            assert (await other.check_store()).ok

    asyncio.run(main())


def test_the_uses_of_a_plan_stay_as_they_are(store):
    """A false hit is one also when the run that showed it is gone."""

    async def main():
        async with store.engine() as engine:
            archive = (await engine._open()).execution.archive
            run = await engine.run(plan(call("f", "fail", args={"of": "a"})))
            await archive.uses.note([("p", "sha256:p", "answered")], run.id)
            before = await archive.uses.of({"p": "sha256:p"})
            await engine.delete(run.id)
            assert await archive.uses.of({"p": "sha256:p"}) == before
            assert before["p"].run == 1

    asyncio.run(main())


def sizes(path):
    return sum(each.stat().st_size for each in Path(path).parent.glob(f"{Path(path).name}*"))


def test_the_file_gets_smaller(tmp_path):
    """With the engine open, and by about what the runs had taken."""
    path = tmp_path / "s.db"
    with Engine(TOOLS, store=path) as engine:
        for letter in "abcdefghij":
            engine.run_sync(LONG, inputs={"of": letter})
        engine.run_sync(LONG, inputs={"of": "z"}, run_id="kept")
        before = sizes(path)
        assert before > 11 * SIZE
        told = engine.prune_sync(older_than=0)
        assert len(told.runs) == 11
        assert sizes(path) < 2 * SIZE  # the tables of an empty store take nearly one of these
        assert path.stat().st_size < 2 * SIZE
        assert engine.run_sync(LONG, inputs={"of": "a"}).output == SIZE


def test_the_file_of_an_older_store_gets_smaller_after_its_upgrade(tmp_path, monkeypatch):
    """It was made without what that takes, so that only its room is used again; `compact` writes it anew once. A copy is as its store."""
    path = tmp_path / "s.db"
    with closing(sqlite3.connect(path)) as db:  # as stores were made before
        db.execute("PRAGMA auto_vacuum=NONE")
        db.execute("VACUUM")
        db.execute("CREATE TABLE t (a)")
        db.execute("DROP TABLE t")
        assert db.execute("PRAGMA auto_vacuum").fetchone() == (0,)
    with Engine(TOOLS, store=path) as engine:
        for letter in "abcdefghij":
            engine.run_sync(LONG, inputs={"of": letter})
        engine.prune_sync(older_than=0)
        assert path.stat().st_size > 10 * SIZE

    async def upgrade():
        store = SqliteStore(path)
        await store.open()
        assert await store.compact()
        assert not await store.compact()
        await store.copy_to(tmp_path / "copy.db")
        await store.close()

    asyncio.run(upgrade())
    assert path.stat().st_size < 2 * SIZE
    with Engine(TOOLS, store=tmp_path / "empty.db") as engine:
        engine.list_runs_sync()
    empty = (tmp_path / "empty.db").stat().st_size
    for each in (path, tmp_path / "copy.db"):
        with Engine(TOOLS, store=each) as engine:
            engine.run_sync(LONG, inputs={"of": "a"}, run_id="r")
            engine.delete_sync("r")
            assert each.stat().st_size < empty + 0.2 * SIZE
            assert engine.check_store_sync().ok


def test_a_delete_that_is_killed_anywhere_leaves_the_run_whole_or_gone(tmp_path):
    """Killed before each statement of it; the store is sound, and the next prune removes what was left."""
    seen = set()
    for at in range(1, 100):
        path = tmp_path / f"{at}.db"
        with Engine(TOOLS, store=path) as engine:
            digest = engine.run_sync(LONG, inputs={"of": "a"}, run_id="r").digest
        if not is_killed(start(delete_and_die, str(path), at)):
            break
        with Engine(TOOLS, store=path) as engine:
            assert engine.check_store_sync().ok
            is_there = bool(engine.list_runs_sync().runs)
            if is_there:
                assert engine.replay_sync("r").digest == digest
            values = Where(str(path), is_shared=False).values
            seen.add((is_there, len(values())))
            engine.prune_sync(older_than=0)
            assert values() == set()
    else:
        pytest.fail("the delete did not come to its end")
    assert seen == {(True, 1), (False, 1), (False, 0)}
    assert at > len(OF_ONE_RUN)


def test_deleting_beside_engines_that_claim_and_reuse(store):
    """While one engine runs and reuses, another deletes what ended: every run ends as it should, and none is lost that has not ended."""
    stop = threading.Event()
    faults = []

    def work(letter):
        try:
            with store.engine() as engine:
                while not stop.is_set():
                    run = engine.run_sync(FILE, inputs={"of": letter})
                    assert run.status == "succeeded"
                    assert engine.read_artifact_sync(run.output) == letter.encode() * SIZE
        except RunNotFound:
            pytest.fail("the other engine deleted a run before its caller had it")
        except BaseException as fault:
            faults.append(fault)
            raise

    threads = [threading.Thread(target=work, args=(letter,)) for letter in "ab"]
    for thread in threads:
        thread.start()
    deleted = 0
    try:
        with store.engine() as engine:
            while deleted < 12 and not faults:
                deleted += len(engine.prune_sync(older_than=1).runs)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert faults == []
    with store.engine() as engine:
        assert engine.check_store_sync().ok
