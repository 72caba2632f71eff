"""Every write of the store fails once, the disk is full, the file is locked, read-only or torn: a clear error, and it goes on.

`tests/crash/test_disk.py` fills the file of the store; here the faults come from below it and around it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from crash_child import PLAN, World, tools_of
from firmplan import ConfigError, Engine, StoreError
from firmplan.executor import SqliteStore
from firmplan.executor.journal.restore import load_entries
from firmplan.executor.stores import sqlite_file
from firmplan.testing import ScriptedTool
from rig import Rig, plan_of

SAMPLE = 14  # of some ninety writes
WRITES = ("BEGIN", "INSERT", "UPDATE", "DELETE", "COMMIT")


class FailingStore(SqliteStore):
    """A store whose statements fail from the `fail_at`-th write on, `fail_count` times.

    A failing COMMIT may have taken effect all the same (`is_late`): nobody who is told of an I/O error knows.
    """

    def __init__(self, path, fail_at, fail_count=1, *, is_late=False):
        super().__init__(path)
        self.writes, self.fail_at, self.fail_count, self.is_late = 0, fail_at, fail_count, is_late
        self.failed = 0

    def _sql(self, statement, values=()):
        if statement.startswith(WRITES):
            self.writes += 1
            if self.fail_at and self.fail_at <= self.writes < self.fail_at + self.fail_count:
                self.failed += 1
                if self.is_late and statement == "COMMIT":
                    super()._sql(statement, values)
                raise sqlite3.OperationalError(
                    "disk I/O error" if self.is_late else "database or disk is full"
                )
        return super()._sql(statement, values)


async def go_on(rig, world, run_id="run"):
    """Resume until the run has ended, deciding as a person who has seen the world would."""
    run = await rig.resume(run_id)
    while run.status == "indeterminate":
        (step,) = [path for path in ("once",) if run.steps[path].status == "indeterminate"]
        if world.effects("put_once"):
            await rig.decisions.resolve_done(run_id, step, run.steps["keyed"].output + 1)
        else:
            await rig.decisions.resolve_retry(run_id, step)
        run = await rig.resume(run_id)
    return run


async def count_writes(folder):
    """Return how many writes a run takes, and its digest."""
    store = FailingStore(str(folder / "s.db"), 0)
    async with Rig(tools_of(World(folder / "effects")), store) as rig:
        run = await rig.run(PLAN, "run", inputs={"n": 1})
    return store.writes, run.digest


@pytest.mark.parametrize("is_late", [False, True], ids=["full", "io-error"])
@pytest.mark.parametrize("fail_count", [1, 7])
def test_every_write_fails_once(tmp_path, is_late, fail_count):
    """At each write in turn: the run ends well or says StoreError; the same engine goes on, and no effect happens twice."""

    async def main():
        (tmp_path / "0").mkdir()
        most, digest = await count_writes(tmp_path / "0")
        chosen = range(1, most + 1)
        if "FIRMPLAN_SWEEP" not in os.environ:  # all of them are for `make sweep`
            chosen = sorted(Random(fail_count + is_late).sample(chosen, SAMPLE))
        for fail_at in chosen:
            folder = tmp_path / str(fail_at)
            folder.mkdir()
            world = World(folder / "effects")
            store = FailingStore(str(folder / "s.db"), fail_at, fail_count, is_late=is_late)
            async with Rig(tools_of(world), store) as rig:
                try:
                    await rig.run(PLAN, "run", inputs={"n": 1})
                except StoreError as fault:
                    assert ("I/O" if is_late else "full") in str(fault)  # noqa: PT017  # it may also go well
                store.fail_at = 0  # the cause is gone
                if await store.find_run("run") is None:
                    await rig.submit(PLAN, "run", inputs={"n": 1})
                run = await go_on(rig, world)
                assert (run.status, run.digest) == ("succeeded", digest), f"write {fail_at}"
                assert (await rig.execution.replays.replay("run", keep=False)).digest == digest
                await rig.run(plan_of({"id": "next", "set": 1}))  # what could not be let go of is now
                row = await store.find_run("run")
                assert row.owner is None, f"write {fail_at}"
                await load_entries(store, row)
            for name in ("put_once", "put_asked"):
                assert max(Counter(key for _, key in world.effects(name)).values()) == 1, f"write {fail_at}"
            assert len({key for _, key in world.effects("put_keyed")}) == 1, f"write {fail_at}"

    asyncio.run(main())


def test_a_disk_that_became_read_only(small_disk):
    """EROFS from the system, also for root: a StoreError; writable again, the same engine goes on."""
    plan = {"firmplan": 1, "steps": [{"id": "a", "set": 1}], "output": "${a}"}
    with Engine([], store=small_disk / "s.db") as engine:
        assert engine.run_sync(plan).output == 1
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    engine = Engine([], store=small_disk / "s.db")
    with pytest.raises(StoreError, match=r"s\.db"):
        engine.run_sync(plan)
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert engine.run_sync(plan).output == 1
    engine.close()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 KiB, where the system lets us have one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run(
            [mount, "-t", "tmpfs", "-o", "size=400k", "tmpfs", folder], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_is_really_full(small_disk):
    """ENOSPC from the system: the run stops; with room again the same engine goes on."""
    look = ScriptedTool("look", lambda x: "x" * 20_000 + str(x), effect="read", resource="box")
    plan = plan_of(
        {"id": "a", "tool": "look", "for_each": "${range(40)}", "args": {"x": "${item}"}}, output="${len(a)}"
    )

    async def main():
        async with Rig([look], str(small_disk / "s.db")) as rig:
            await rig.submit(plan, "r")
            with pytest.raises(StoreError, match=r"full|I/O"):
                await rig.resume("r")
            subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)  # noqa: ASYNC221  # nothing else runs
            run = await rig.resume("r")
            assert run.output == 40
            assert (await rig.execution.replays.replay("r", keep=False)).digest == run.digest

    asyncio.run(main())


FILLING = """
import asyncio, resource, signal, sys
sys.path.insert(0, sys.argv[2])
from firmplan import StoreError
from firmplan.testing import ScriptedTool
from rig import Rig, plan_of

look = ScriptedTool("look", lambda x: "x" * 20_000 + str(x), effect="read", resource="box")
plan = plan_of({"id": "a", "tool": "look", "for_each": "${range(40)}", "args": {"x": "${item}"}}, output="${len(a)}")

async def main():
    async with Rig([look], sys.argv[1]) as rig:
        await rig.submit(plan, "r")
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        try:
            print((await rig.resume("r")).status)
        except StoreError as fault:
            print("StoreError", fault)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print((await rig.resume("r")).output)

asyncio.run(main())
"""


def test_a_file_that_may_not_grow(tmp_path):
    """EFBIG from the system, where nothing can be mounted."""
    support = os.path.dirname(sys.modules["rig"].__file__)  # noqa: PTH120  # a text for a command line
    said = subprocess.check_output([sys.executable, "-c", FILLING, tmp_path / "s.db", support], text=True)
    first, second = said.splitlines()
    assert first.startswith("StoreError")
    assert second == "40"


def test_a_locked_store_is_waited_for_and_then_told(tmp_path, monkeypatch):
    """Another process holds the file: commits wait a while, then say so; afterwards the run goes on."""
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT_MS", 300)
    world = World(tmp_path / "effects")

    async def main():
        async with Rig(tools_of(world), str(tmp_path / "s.db")) as rig:
            await rig.submit(PLAN, "run", inputs={"n": 1})
            other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="locked"):
                await rig.resume("run")
            with pytest.raises(StoreError, match="locked"):
                await rig.submit(PLAN, "late", inputs={"n": 1})
            assert world.lines() == []
            other.execute("ROLLBACK")
            assert (await go_on(rig, world)).status == "succeeded"
            other.execute("BEGIN IMMEDIATE")
            asyncio.get_running_loop().call_later(0.1, other.execute, "ROLLBACK")
            assert (await rig.run(PLAN, "patient", inputs={"n": 1})).status == "succeeded"
            other.close()

    asyncio.run(main())


HOLDS = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


def test_whoever_locks_a_store_is_named(tmp_path, monkeypatch):
    """The process and its command, without what may be a secret in it; where the system does not tell, the command that does."""
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT_MS", 100)
    path, plan = tmp_path / "s.db", {"firmplan": 1, "steps": [{"id": "a", "set": 1}]}
    with Engine([], store=path) as engine:
        engine.list_runs_sync()
        command = [sys.executable, "-c", HOLDS, path, "--password=x"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout.readline() == "locked\n"
            with pytest.raises(StoreError) as raised:
                engine.run_sync(plan)
            monkeypatch.setattr(sqlite_file, "_LOCKS", Path("/nowhere"))
            with pytest.raises(
                StoreError, match=r"locked, by another process, which `fuser -v .*s\.db` or `lsof"
            ):
                engine.run_sync(plan)
            other.stdin.close()
        if Path("/proc/locks").exists():
            assert f"is locked, by process {other.pid} ({sys.executable} -c)" in raised.value.message
            assert "password" not in raised.value.message
        assert engine.run_sync(plan).status == "succeeded"


def test_a_store_that_is_locked_when_it_is_opened(tmp_path, monkeypatch):
    """The engine says so, and opens later."""
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT_MS", 100)
    with Engine([], store=tmp_path / "s.db"):
        pass
    other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    engine = Engine([], store=tmp_path / "s.db")
    plan = {"firmplan": 1, "steps": [{"id": "a", "set": 1}], "output": "${a}"}
    with pytest.raises(StoreError, match="locked"):
        engine.run_sync(plan)
    other.close()
    assert engine.run_sync(plan).output == 1
    engine.close()


READ_ONLY = """
import os, sys
from firmplan import Engine, FirmplanError
from firmplan.testing import run_plan
run_plan({"firmplan": 1, "steps": [{"id": "a", "set": 1}]}, [])  # loads all that the other user may not read
os.setuid(65534) if os.getuid() == 0 else None
try:
    with Engine([], store=sys.argv[1]) as engine:
        engine.run_sync({"firmplan": 1, "steps": [{"id": "a", "set": 1}]})
except FirmplanError as fault:
    print(type(fault).__name__, fault)
"""


@pytest.mark.parametrize("is_there", [False, True])
def test_a_store_that_may_not_be_written(tmp_path, is_there):
    """A folder without write permission, with a store in it or not: one StoreError that names the store."""
    folder = tmp_path / "closed"
    folder.mkdir()
    if is_there:
        with Engine([], store=folder / "s.db") as engine:
            engine.run_sync({"firmplan": 1, "steps": [{"id": "a", "set": 1}]})
    for parent in (tmp_path, *tmp_path.parents):
        if any(
            part.startswith("pytest-of-") for part in parent.parts
        ):  # pytest's, which only this user may enter
            parent.chmod(0o755)
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    said = subprocess.run(
        [sys.executable, "-c", READ_ONLY, folder / "s.db"], capture_output=True, text=True, check=False
    )
    folder.chmod(0o755)
    assert said.stdout.startswith("StoreError"), said
    assert "s.db" in said.stdout


def test_a_store_that_is_a_folder_or_no_database(tmp_path):
    """What stands at the path is left as it is."""
    (tmp_path / "text.db").write_text("dear diary\n" * 1000)
    for name in ("text.db", ""):
        with pytest.raises((StoreError, ConfigError)), Engine([], store=tmp_path / name) as engine:
            engine.run_sync({"firmplan": 1, "steps": [{"id": "a", "set": 1}]})
    assert (tmp_path / "text.db").read_text() == "dear diary\n" * 1000


@pytest.mark.parametrize("seed", range(8))
def test_a_torn_log_leaves_a_legal_prefix(tmp_path, seed):
    """The write-ahead log ends anywhere, with garbage behind it: the store opens, each journal is whole as far as it goes."""
    random = Random(seed)
    world = World(tmp_path / "effects")

    async def before():
        async with Rig(tools_of(world), str(tmp_path / "s.db")) as rig:
            for number in range(3):
                await rig.run(PLAN, f"run{number}", inputs={"n": number}, reuse="off")
            for name in ("s.db", "s.db-wal"):  # as a power loss would leave them
                shutil.copy(tmp_path / name, tmp_path / f"torn{name[1:]}")

    asyncio.run(before())
    log = tmp_path / "torn.db-wal"
    data = log.read_bytes()
    cut = random.randrange(len(data))
    log.write_bytes(data[:cut] + random.randbytes(random.randrange(5000)))
    effects = len(world.lines())

    async def after():
        async with Rig(tools_of(world), str(tmp_path / "torn.db")) as rig:
            rows = await rig.store.list_runs(status=None, limit=10, before=None)
            for row in rows:
                run = await rig.execution.archive.get(row.id)
                assert (await rig.execution.replays.replay(row.id, keep=False)).digest == run.digest
            return len(rows)

    assert asyncio.run(after()) <= 3
    assert len(world.lines()) == effects


def test_a_changed_record_is_found(tmp_path):
    """Whatever byte of a journal is changed behind our back: StoreError, and nothing is called."""
    world = World(tmp_path / "effects")

    async def main():
        async with Rig(tools_of(world), str(tmp_path / "s.db")) as rig:
            await rig.run(PLAN, "run", inputs={"n": 1})
            effects = len(world.lines())
            for number in range(20):
                with sqlite3.connect(tmp_path / "s.db") as db:
                    first, lines = db.execute(
                        "SELECT first_seq, lines FROM journal LIMIT 1 OFFSET ?", (number % 4,)
                    ).fetchone()
                    changed = bytearray(lines)
                    changed[Random(number).randrange(len(lines))] ^= 1 << (number % 7)
                    db.execute("UPDATE journal SET lines=? WHERE first_seq=?", (bytes(changed), first))
                db.close()
                with pytest.raises(StoreError):
                    await rig.execution.replays.replay("run", keep=False)
                with sqlite3.connect(tmp_path / "s.db") as db:
                    db.execute("UPDATE journal SET lines=? WHERE first_seq=?", (lines, first))
                db.close()
            assert (await rig.execution.replays.replay("run", keep=False)).status == "succeeded"
            assert len(world.lines()) == effects

    asyncio.run(main())
