"""A store on a medium that takes no writes can be looked at; whatever writes says that it is read-only.

The medium is a file system that is mounted so: that holds for root as well.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from firmplan import Engine, StoreError, tool
from firmplan.cli.app import app
from public import call, plan
from typer.main import get_command

PLAN = plan(
    call("a", "double", args={"x": "${inputs.n}"}),
    call("p", "pay", args={}),
    inputs={"n": {"type": "integer"}},
    output="${a}",
)
ONE = plan(call("a", "double", args={"x": "${inputs.n}"}), inputs={"n": {"type": "integer"}}, output="${a}")


@tool(effect="pure", version="1")
def double(x: int) -> int:
    """Double."""
    return 2 * x


@tool(effect="write", approval="always", resource="bank")
def pay() -> int:
    """Pay."""
    return 1


TOOLS = [double, pay]


class Disk:
    """A file system of its own, which is mounted to be written or only to be read."""

    def __init__(self, folder):
        self.folder = folder
        self.store = folder / "s.db"

    def names(self):
        return sorted(path.name for path in self.folder.iterdir())

    def mount(self, how):
        subprocess.run(["mount", "-o", f"remount,{how}", self.folder], check=True)


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    words = [mount, "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder]
    if mount is None or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield Disk(folder)
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def filled(disk):
    """Two runs that ended, and one that waits, on a disk that takes no more writes."""
    with Engine(TOOLS, store=disk.store) as engine:
        for number in (1, 2):
            engine.run_sync(ONE, inputs={"n": number}, run_id=f"r{number}")
        engine.run_sync(PLAN, inputs={"n": 1}, run_id="waits")
        engine.save_plan_sync("one", ONE)
    disk.mount("ro")
    return disk


def look_at_all(engine):
    """Whatever only looks."""
    assert [run.id for run in engine.list_runs_sync().runs] == ["waits", "r2", "r1"]
    assert engine.get_sync("r2").output == 4
    assert engine.get_sync("waits").status == "waiting"
    assert engine.replay_sync("r2").digest == engine.get_sync("r2").digest
    assert [step.change for step in engine.diff_sync("r1", "r2").steps] == ["changed"]
    assert "args.x was 1, now 2" in str(engine.explain_sync("r2", "a"))
    assert len(engine.explain_all_sync("r1")) == 1
    assert next(event.type for event in engine.events_sync("r1")) == "RunStarted"
    assert engine.find_plan_sync("one") is not None
    assert engine.check_store_sync().ok
    assert engine.verify_sync("r1").ok
    assert engine.cache_stats_sync().results == 2
    assert engine.prune_sync(older_than=0, dry_run=True).runs == ("r2", "r1")


def test_a_store_on_a_read_only_disk_is_looked_at(filled):
    """Nothing appears beside it."""
    before = filled.names()
    with Engine(TOOLS, store=filled.store) as engine:
        look_at_all(engine)
    assert filled.names() == before == ["s.db"]


def test_what_writes_says_that_it_is_read_only(filled):
    """With the reason and what to do; the engine goes on looking."""
    with Engine(TOOLS, store=filled.store) as engine:
        for write in (
            lambda: engine.run_sync(ONE, inputs={"n": 3}),
            lambda: engine.fork_sync("r1", at="a"),
            lambda: engine.approve_sync("waits", "p", by="me"),
            lambda: engine.cancel_sync("waits"),
            lambda: engine.replay_sync("r1", keep=True),
            lambda: engine.save_plan_sync("two", ONE),
            lambda: engine.save_artifact_sync(b"x"),
            lambda: engine.delete_sync("r1"),
            lambda: engine.prune_sync(older_than=0),
            lambda: engine.shrink_cache_sync(max_bytes=0),
            engine.prune_artifacts_sync,
        ):
            with pytest.raises(
                StoreError,
                match=r"s\.db is read-only: its file system is mounted read-only; its runs can be shown",
            ):
                write()
        look_at_all(engine)


def test_an_engine_that_looks_writes_once_the_disk_takes_it(filled):
    """The same engine goes on with the run that waits."""
    with Engine(TOOLS, store=filled.store) as engine:
        with pytest.raises(StoreError, match="read-only"):
            engine.approve_sync("waits", "p", by="me")
        filled.mount("rw")
        engine.approve_sync("waits", "p", by="me")
        assert engine.resume_sync("waits").output == 2
        assert engine.run_sync(ONE, inputs={"n": 3}).output == 6
        assert any("-owner-" in name for name in filled.names())
    with closing(sqlite3.connect(filled.store)) as db:
        assert db.execute("SELECT count(*) FROM runs WHERE owner IS NOT NULL").fetchone() == (0,)


CHILD = """
import os, signal, sys
from firmplan import Engine
from safety.test_read_only import ONE, PLAN, TOOLS
engine = Engine(TOOLS, store=sys.argv[1])
for number in (1, 2):
    engine.run_sync(ONE, inputs={"n": number}, run_id=f"r{number}")
engine.run_sync(PLAN, inputs={"n": 1}, run_id="waits")
engine.save_plan_sync("one", ONE)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_log_that_a_killed_process_left_is_read(disk):
    """What was acknowledged stands in the log alone; the file of the owner that died is there, and nothing is driven."""
    tests = Path(__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), str(tests / "support")])}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, disk.store], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert Path(f"{disk.store}-wal").stat().st_size > 100_000
    Path(f"{disk.store}-shm").unlink()  # as where file and log were copied without it
    disk.mount("ro")
    before = disk.names()
    with Engine(TOOLS, store=disk.store) as engine:
        look_at_all(engine)
        with pytest.raises(StoreError, match="read-only"):
            engine.cancel_sync("waits")
    assert disk.names() == before


@pytest.mark.parametrize("version", ["0.1", "0.2", "0.3"])
def test_a_store_of_an_older_format_is_looked_at(disk, version):
    """It is not brought up, and shows all it has."""
    golden = Path(__file__).parents[1] / "vectors" / "journals" / version
    shutil.copyfile(golden / "store.sqlite", disk.store)
    runs = json.loads((golden / "runs.json").read_text(encoding="utf-8"))
    disk.mount("ro")
    with Engine([], store=disk.store) as engine:
        assert {run.id for run in engine.list_runs_sync().runs} == set(runs)
        for run_id, run in runs.items():
            assert engine.get_sync(run_id).digest == run["digest"]
        assert engine.check_store_sync().ok
        assert [each.name for each in engine.list_plans_sync()] == ["golden"]
        assert engine.explain_all_sync("plain")


def test_the_commands_look_and_say(filled, monkeypatch, capsys, tmp_path):
    """`runs`, `show`, `replay`, `diff`, `explain`, `store check` and a backup elsewhere; a run and an upgrade are refused with code 1 or 2."""
    monkeypatch.chdir(tmp_path)
    command = get_command(app)

    def firmplan(*words):
        code = command.main([*words, "--store", str(filled.store)], standalone_mode=False)
        said = capsys.readouterr()
        return code, said.out, said.err

    for words, part in (
        (("runs",), "waits"),
        (("show", "r1"), "succeeded"),
        (("replay", "r1"), ""),
        (("diff", "r1", "r2"), "differ"),
        (("explain", "r1"), "ran because"),
        (("store", "check"), "everything is as it was written"),
        (("plans",), "one"),
        (("store", "backup", "copy.db"), "is copied to copy.db"),
    ):
        code, out, err = firmplan(*words)
        assert (code, part in out) == (0, True), (words, out, err)
    (tmp_path / "plan.json").write_text(json.dumps(plan({"id": "a", "set": 1})))
    for words in (("run", "plan.json"), ("runs", "delete", "r1"), ("store", "upgrade")):
        code, _, err = firmplan(*words)
        assert code in (1, 2)
        assert "is read-only: its file system is mounted read-only" in err, words
    with Engine(TOOLS, store=tmp_path / "copy.db") as engine:
        assert engine.resume_sync("waits").status == "waiting"


def test_no_store_is_made_on_a_read_only_disk(disk):
    """As ever: the message names the folder."""
    disk.mount("ro")

    async def main():
        async with Engine([], store=disk.store):
            pass

    with pytest.raises(StoreError, match="may not write in its folder"):
        asyncio.run(main())
