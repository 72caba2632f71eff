"""Many processes, one store: a run has one driver, and a late one writes nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import lease_child
import pytest
from firmplan import Engine
from firmplan.executor import SqliteStore
from firmplan.executor.runs import owner
from firmplan.executor.runs import watch as takeover
from firmplan.executor.runs.owner import LockFilePresence, Owner
from firmplan.testing import ScriptedTool
from forked import Program
from lease_child import effects, wait_at_gate, wait_for
from rig import Rig, plan_of
from stopping import stop

CHILD = Path(lease_child.__file__)


def child(command, folder, *more):
    """A process of `lease_child`; as a context, it is killed at the end, if it lives."""
    return Program([CHILD, command, folder, *more])


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """The tools of the children, in this process."""
    monkeypatch.setattr(lease_child, "FOLDER", tmp_path)
    return lease_child.TOOLS


def test_many_processes_drive_a_run_once(tmp_path):
    """All of them resume it while it goes on: each write happens once, all by one process."""
    with child("many", tmp_path) as first:
        wait_for(tmp_path / "effects")
        others = [child("resume", tmp_path, "r") for _ in range(3)]
        for other in others:
            other.communicate(timeout=60)
        assert [other.returncode for other in others] == [0, 0, 0]
        assert first.wait(60) == 0
    words = [word for word, _ in effects(tmp_path)]
    assert words == [f"s{n}" for n in range(30)]


def test_a_dead_owner_is_recognised_at_once(tmp_path, tools, monkeypatch):
    """Killed in the middle: the next process goes on without waiting for any lease to end."""
    monkeypatch.setattr(owner, "LEASE_S", 600.0)  # far past the end of this test
    monkeypatch.setenv("LEASE_S", "600")
    with child("run", tmp_path) as first:
        wait_at_gate(tmp_path / "s.db")
        first.kill()
        first.wait()
    (tmp_path / "go").touch()
    with Engine(tools, store=tmp_path / "s.db") as engine:
        assert engine.resume_sync("r").output == "second"
    assert [word for word, _ in effects(tmp_path)] == ["first", "second"]
    assert not list(tmp_path.glob("s.db-owner-*"))


def test_recover_takes_over_what_dead_owners_left(tmp_path, tools):
    """And nothing else: a run whose owner lives is left to it."""
    with child("run", tmp_path, "alive") as alive, child("run", tmp_path, "dead") as dead:
        for run_id in ("alive", "dead"):
            wait_at_gate(tmp_path / "s.db", run_id)
        dead.kill()
        dead.wait()
        with Engine(tools, store=tmp_path / "s.db", recover=True) as engine:
            (tmp_path / "go").touch()
            assert engine.wait_sync("dead").output == "second"
            assert engine.wait_sync("alive").output == "second"
        assert alive.wait(30) == 0
        by_process = Counter(process for _, process in effects(tmp_path))
        assert by_process == {str(alive.pid): 2, str(dead.pid): 1, str(os.getpid()): 1}


def test_a_living_engine_takes_over_what_dies_meanwhile(tmp_path, tools):
    """It was open before its neighbour was killed: within seconds it goes on, and only with that run."""
    with (
        child("run", tmp_path, "alive") as alive,
        child("run", tmp_path, "dead") as dead,
        Engine(tools, store=tmp_path / "s.db", recover=True) as engine,
    ):
        for run_id in ("alive", "dead"):
            wait_at_gate(tmp_path / "s.db", run_id)
        dead.kill()
        dead.wait()
        (tmp_path / "go").touch()
        until = time.monotonic() + 20
        while engine.get_sync("dead").status != "succeeded":
            assert time.monotonic() < until, "nobody took it over"
            time.sleep(0.05)
        assert alive.wait(30) == 0
        by_process = Counter(process for _, process in effects(tmp_path))
        assert by_process == {str(alive.pid): 2, str(dead.pid): 1, str(os.getpid()): 1}


def test_of_many_living_engines_one_takes_over(tmp_path, tools):
    """All of them look; the write that was left happens once."""
    with child("run", tmp_path) as first:
        wait_at_gate(tmp_path / "s.db")
        engines = [Engine(tools, store=tmp_path / "s.db", recover=True) for _ in range(4)]
        for engine in engines:
            engine.list_runs_sync()
        first.kill()
        first.wait()
        (tmp_path / "go").touch()
        until = time.monotonic() + 20
        while engines[0].get_sync("r").status != "succeeded":
            assert time.monotonic() < until, "nobody took it over"
            time.sleep(0.05)
        for engine in engines:
            engine.close()
    assert [word for word, _ in effects(tmp_path)] == ["first", "second"]


def test_what_cannot_go_on_here_is_told_once(tmp_path, tools, capfd):
    """A living engine without the tool leaves the run alone, and does not say so every second."""
    with child("run", tmp_path) as first, Engine(tools[:1], store=tmp_path / "s.db", recover=True) as engine:
        wait_at_gate(tmp_path / "s.db")
        engine.list_runs_sync()
        first.kill()
        first.wait()
        said, end = "", time.monotonic() + 60
        while "run not recovered" not in said:
            assert time.monotonic() < end, "nobody looked"
            time.sleep(0.05)
            said += capfd.readouterr().err
        time.sleep(3 * takeover.LOOK_S)
        assert engine.get_sync("r").status == "running"
    assert (said + capfd.readouterr().err).count("run not recovered") == 1


def test_a_stopped_owner_is_alive(tmp_path, tools):
    """Nobody takes its run; it goes on where it was when it is woken."""
    with child("run", tmp_path) as first:
        wait_at_gate(tmp_path / "s.db")
        stop(tmp_path / "s.db", first.pid)
        (tmp_path / "go").touch()

        async def main():
            async with Rig(tools, str(tmp_path / "s.db")) as rig:
                await rig.execution.resume("r")
                assert not rig.execution._driving
                return (await rig.execution.archive.get("r")).status

        assert asyncio.run(main()) == "running"
        first.send_signal(signal.SIGCONT)
        assert first.communicate(timeout=30)[0] == "succeeded\n"
    assert [process for _, process in effects(tmp_path)] == [str(first.pid)] * 2


def test_an_owner_that_lost_its_run_writes_nothing(tmp_path, tools):
    """Stopped, overtaken, woken: its write is not called, its journal is refused, and it says so."""
    with child("run", tmp_path) as first:
        wait_at_gate(tmp_path / "s.db")
        stop(tmp_path / "s.db", first.pid)
        (tmp_path / "go").touch()

        async def overtake():
            store = SqliteStore(tmp_path / "s.db")
            await store.open()
            row = await store.claim("r", "someone", is_alive=lambda *_: False)
            await store.release({"r": row.epoch})
            await store.close()

        asyncio.run(overtake())
        with Engine(tools, store=tmp_path / "s.db") as engine:
            run = engine.resume_sync("r")
            assert run.output == "second"
            first.send_signal(signal.SIGCONT)
            assert first.communicate(timeout=30)[0].endswith("succeeded\n"), "as the other process left it"
            assert engine.get_sync("r").last_event == run.last_event
            assert engine.replay_sync("r").digest == run.digest
    assert effects(tmp_path) == [("first", str(first.pid)), ("second", str(os.getpid()))]


@pytest.mark.parametrize("jump_s", [-1e9, 1e9])
def test_clock_jumps_do_not_matter(tmp_path, tools, jump_s):
    """Leases know no time: an engine whose clock is decades off takes nobody's run, and keeps its own."""

    class Clock:
        def now(self):
            return time.time() + jump_s

        async def sleep(self, seconds):
            await asyncio.sleep(seconds)

    with child("run", tmp_path) as first:
        wait_at_gate(tmp_path / "s.db")

        async def main():
            async with Rig(tools, str(tmp_path / "s.db"), clock=Clock()) as rig:
                await rig.execution.resume("r")
                assert not (await rig.execution.archive.get("r")).abandoned
                (tmp_path / "go").touch()
                assert (await rig.execution.wait("r")).output == "second"
                assert (
                    await rig.run(plan_of({"id": "a", "tool": "note", "args": {"word": "late"}}))
                ).status == "succeeded"

        asyncio.run(main())
        assert first.wait(30) == 0
    assert [word for word, _ in effects(tmp_path)] == ["first", "second", "late"]


def test_engines_that_open_at_once_take_nobodys_run(tmp_path):
    """Many processes open and close the store, sweeping after the dead, while one drives a run: it stays the only one."""
    with child("run", tmp_path) as first:
        wait_at_gate(tmp_path / "s.db")
        others = [child("open", tmp_path) for _ in range(4)]
        said = [other.communicate(timeout=100)[1] for other in others]
        assert said == [""] * 4
        (tmp_path / "go").touch()
        assert first.communicate(timeout=30)[0] == "succeeded\n"
    assert [process for _, process in effects(tmp_path)] == [str(first.pid)] * 2
    assert [path.name for path in tmp_path.glob("s.db-*")] == []


def test_an_owner_is_never_seen_without_its_lock(tmp_path):
    """Between the making of its file and its lock there is no instant in which it looks dead."""
    store = str(tmp_path / "s.db")
    watcher = Owner(LockFilePresence(store))
    for _ in range(200):
        owner = Owner(LockFilePresence(store))
        owner.acquire()
        assert watcher.is_alive(owner.name)
        owner.release()
        assert not watcher.is_alive(owner.name)


def test_a_fork_that_a_tool_left_does_not_keep_the_owner_alive(tmp_path, tools):
    """What a forked process inherited is not the lease."""
    with child("fork", tmp_path) as first:
        wait_at_gate(tmp_path / "s.db", step="g")
        fork = int((tmp_path / "fork").read_text())
        first.kill()
        first.wait()
        try:
            (tmp_path / "go").touch()
            with Engine(tools, store=tmp_path / "s.db") as engine:
                assert engine.resume_sync("r").status == "succeeded"
        finally:
            os.kill(fork, signal.SIGKILL)


def test_a_store_by_another_name_is_the_same_store(tmp_path, tools, monkeypatch):
    """A link to it, or a relative path and a changed folder, do not make a living owner look dead."""
    (tmp_path / "link.db").symlink_to(tmp_path / "s.db")
    with child("run", tmp_path) as first:
        wait_at_gate(tmp_path / "s.db")

        async def main():
            async with Rig(tools, "link.db") as rig:
                os.chdir("/")
                await rig.execution.resume("r")
                assert not rig.execution._driving

        monkeypatch.chdir(tmp_path)
        asyncio.run(main())
        (tmp_path / "go").touch()
        assert first.wait(30) == 0


def test_a_failed_release_is_made_good(tmp_path, tools):
    """The store refused when the run was let go of: the same engine can go on with it, and others once it has ended."""
    (tmp_path / "go").touch()

    class Refusing(SqliteStore):
        is_refusing = True

        async def release(self, epochs):
            if self.is_refusing:
                await self._call(lambda: self._sql("SELECT nothing"))
            await super().release(epochs)

    async def main():
        store = Refusing(str(tmp_path / "s.db"))
        pay = ScriptedTool("pay", lambda: 1, effect="write", approval="always")
        async with Rig([pay], store) as rig:
            plan = plan_of({"id": "a", "tool": "pay"}, output="${a}")
            run_id = await rig.submit(plan, "r")
            await rig.execution.resume(run_id)
            await asyncio.gather(*rig.execution._driving.values(), return_exceptions=True)
            store.is_refusing = False
            await rig.decisions.approve("r", "a", by="me", edit=None)
            assert (await rig.resume("r")).output == 1

    asyncio.run(main())
    with closing(sqlite3.connect(tmp_path / "s.db")) as db, db:
        assert db.execute("SELECT status FROM runs").fetchall() == [("succeeded",)]
