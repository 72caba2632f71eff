"""A process that is stopped in the middle of a write, and wakes after its run was taken from it, does not make the write twice happen."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import sqlite3
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import lease_child
import pytest
from firmplan import ConfigError, Engine, RunNotFound
from firmplan.executor.calls.lease import EXIT_CODE, Lease, Moment, Watchdog, elapsed_s, ends_surely
from firmplan.executor.limits import LEASE_S
from firmplan.executor.runs.owner import HOST_ENV, LockFilePresence, Owner, ProcessPresence
from firmplan.executor.stores.store import OwnerName
from forked import Program
from lease_child import effects
from stopping import stop

CHILD = Path(lease_child.__file__)
SHORT_S = 3.0
needs_timer = pytest.mark.skipif(
    not ends_surely(), reason="the system has no timer that strikes a stopped process"
)


class Zombie:
    """A process of `lease_child`, stopped in the middle of its write: before the effect, with all that the effect waits for being there.

    Args:
        folder: Where it notes what it does.
        command: Which plan it runs.
        env: What its environment has beside this process's.
    """

    def __init__(self, folder, command, env):
        self.folder = folder
        self.process = Program(
            [CHILD, command, folder],
            env={**os.environ, "LEASE_FOLDER": str(folder), **env},
        )
        until = time.monotonic() + 60
        while not (folder / "waiting").exists() or not (folder / "waiting").read_text():
            assert time.monotonic() < until
            assert self.process.poll() is None, "it did not begin"
            time.sleep(0.02)
        self.caller = int((folder / "waiting").read_text())  # the process of the tool
        stop(env.get("LEASE_STORE", folder / "s.db"), *self._pids())
        (folder / "go").touch()

    def _pids(self):
        return dict.fromkeys([self.process.pid, self.caller])

    def wake(self):
        """Let it go on, if it lives; the tool first."""
        for pid in (self.caller, self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def wait(self):
        """Return how it ended, once the process of the tool is gone as well."""
        self.process.communicate(timeout=60)
        until = time.monotonic() + 30
        while Path(f"/proc/{self.caller}").exists():
            assert time.monotonic() < until, "the process of the tool is there"
            time.sleep(0.02)
        return self.process.returncode

    def end(self):
        """Leave nothing behind."""
        for pid in self._pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def stop_in_write(tmp_path, monkeypatch):
    """Starts a `Zombie`; this process has its tools."""
    monkeypatch.setattr(lease_child, "FOLDER", tmp_path)
    monkeypatch.setenv("LEASE_FOLDER", str(tmp_path))
    monkeypatch.setenv("FIRMPLAN_PROCESS_ENV", "LEASE_FOLDER,LEASE_WITHOUT_TIMER")
    made = []

    def start(command="send", **env):
        made.append(Zombie(tmp_path, command, {"LEASE_S": str(SHORT_S), **env}))
        return made[-1]

    yield start
    for zombie in made:
        zombie.end()


def resolved(engine, folder):
    """Return the run once a person, who has looked at the world, has said what became of its write."""
    if effects(folder):
        engine.resolve_sync("r", "s", done="letter")
    else:
        engine.resolve_sync("r", "s", retry=True)
    return engine.resume_sync("r")


# --- owners that see each other: a file


@pytest.mark.parametrize("command", ["send", "send_apart"])
def test_a_stopped_write_in_a_file_is_not_repeated_while_its_process_may_wake(
    tmp_path, stop_in_write, command
):
    """Taken over by force: `reconcile` finds nothing, which says nothing yet. Once the process is gone, a person has the write made."""
    zombie = stop_in_write(command)
    with Engine(lease_child.TOOLS, store=tmp_path / "s.db") as engine:
        run = engine.resume_sync("r", take_over=True)
        assert (run.status, effects(tmp_path)) == ("indeterminate", [])
        assert f"process {zombie.process.pid} on host" in run.steps["s"].error.message
        zombie.wake()
        assert zombie.wait() in (EXIT_CODE, 1), (
            "it ended itself, or its call was quicker: then its record was refused"
        )
        assert resolved(engine, tmp_path).output == "letter"
        assert engine.replay_sync("r").digest == engine.get_sync("r").digest
    assert [word for word, _ in effects(tmp_path)] == ["letter"]


def test_a_write_whose_process_is_dead_is_repeated_at_once(tmp_path, stop_in_write):
    """It is seen to be gone."""
    zombie = stop_in_write()
    zombie.process.kill()
    zombie.process.wait()
    with Engine(lease_child.TOOLS, store=tmp_path / "s.db") as engine:
        assert engine.resume_sync("r").output == "letter"
    assert effects(tmp_path) == [("letter", str(os.getpid()))]


def test_of_several_owners_the_first_one_counts_too(tmp_path, stop_in_write):
    """Whoever took the run over from the stopped process is dead: a third one still knows who made the call."""
    zombie = stop_in_write()
    second = Program(
        [CHILD, "take_over", tmp_path],
        env={**os.environ, "LEASE_FOLDER": str(tmp_path)},
    )
    assert second.stdout.readline() == "taken\n"
    second.kill()
    second.communicate()
    (tmp_path / "go").touch()
    with Engine(lease_child.TOOLS, store=tmp_path / "s.db") as engine:
        assert engine.get_sync("r").abandoned
        assert engine.resume_sync("r").status == "indeterminate"
        zombie.end()
        assert resolved(engine, tmp_path).output == "letter"
    assert effects(tmp_path) == [("letter", str(os.getpid()))]


def test_a_hung_owner_is_named_to_the_program(tmp_path, stop_in_write, capfd):
    """Whoever waits is called with its owner, in place of the log; anybody else may ask for it."""
    zombie = stop_in_write("run")
    told = queue.Queue()
    with Engine(lease_child.TOOLS, store=tmp_path / "s.db", on_waiting=told.put) as engine:
        waiting = threading.Thread(target=lambda: engine.resume_sync("r"))
        waiting.start()
        owner = told.get(timeout=60)
        assert (owner.run, owner.is_here) == ("r", False)
        assert f"process {zombie.process.pid} on host" in owner.process
        found = engine.find_owner_sync("r")
        assert (found.process, found.is_here) == (owner.process, False)
        assert found.silent_s >= owner.silent_s > 0
        engine.resume_sync("r", take_over=True)
        waiting.join()
        assert engine.find_owner_sync("r") is None
        with pytest.raises(RunNotFound):
            engine.find_owner_sync("none")
    assert "waits for another process" not in capfd.readouterr().err


def test_a_hung_owner_is_told_and_overruled(tmp_path, stop_in_write, capfd):
    """Whoever waits is told for whom; taken over by force, the run ends here, and what the other one says is refused."""
    zombie = stop_in_write("run")
    with Engine(lease_child.TOOLS, store=tmp_path / "s.db") as engine:
        waiting = threading.Thread(target=lambda: engine.resume_sync("r"))
        waiting.start()
        told = ""
        while "waits for another process that drives the run" not in told:
            told += capfd.readouterr().err
            time.sleep(0.05)
        assert f"process {zombie.process.pid} on host" in told
        assert "--take-over" in told
        assert engine.get_sync("r").status == "running"
        run = engine.resume_sync("r", take_over=True)
        waiting.join()
        assert run.output == "second"
        zombie.wake()
        out, _ = zombie.process.communicate(timeout=60)
        assert out == "succeeded\n", "as this process left it"
        assert engine.get_sync("r").last_event == run.last_event
    assert effects(tmp_path) == [("first", str(zombie.process.pid)), ("second", str(os.getpid()))]


# --- owners that do not see each other: a server


@needs_timer
@pytest.mark.postgres
@pytest.mark.parametrize("command", ["send", "send_apart"])
@pytest.mark.parametrize("host", [None, "elsewhere"])
def test_a_stopped_write_ends_with_its_lease(tmp_path, postgres_url, stop_in_write, host, command):
    """Its process is ended while it stands still, with the tool's; then the write is made here, once."""
    zombie = stop_in_write(command, LEASE_STORE=postgres_url, **({} if host is None else {HOST_ENV: host}))
    with Engine(lease_child.TOOLS, store=postgres_url) as engine:
        run = engine.resume_sync("r")
        zombie.wake()
        ended = zombie.wait()
        made = [word for word, _ in effects(tmp_path)]
        assert (run.status, run.output, made, ended) == ("succeeded", "letter", ["letter"], -signal.SIGKILL)
        assert engine.replay_sync("r").digest == run.digest


@needs_timer
@pytest.mark.postgres
def test_a_stopped_write_that_is_overruled_ends_with_its_lease(tmp_path, postgres_url, stop_in_write):
    """By force, at once: the write is repeated only once the other process has ended."""
    zombie = stop_in_write(LEASE_STORE=postgres_url, **{HOST_ENV: "elsewhere"})
    began = time.monotonic()
    with Engine(lease_child.TOOLS, store=postgres_url) as engine:
        assert engine.resume_sync("r", take_over=True).output == "letter"
        assert time.monotonic() - began >= SHORT_S
        assert zombie.process.wait(10) == -signal.SIGKILL
    assert effects(tmp_path) == [("letter", str(os.getpid()))]


@pytest.mark.postgres
@pytest.mark.parametrize("command", ["send", "send_apart"])
def test_without_a_timer_a_stopped_write_is_left_to_a_person(tmp_path, postgres_url, stop_in_write, command):
    """Nothing ends the stopped process, which may go on at any time: `reconcile` finds nothing, and the outcome is unknown. It happens at most once."""
    zombie = stop_in_write(
        command, LEASE_STORE=postgres_url, LEASE_WITHOUT_TIMER="1", **{HOST_ENV: "elsewhere"}
    )
    with Engine(lease_child.TOOLS, store=postgres_url) as engine:
        run = engine.resume_sync("r")
        assert (run.status, effects(tmp_path)) == ("indeterminate", [])
        assert f"process {zombie.process.pid} on host elsewhere" in run.steps["s"].error.message
        zombie.wake()
        assert zombie.wait() in (EXIT_CODE, 1)
        assert resolved(engine, tmp_path).output == "letter"
        assert engine.replay_sync("r").digest == engine.get_sync("r").digest
    assert [word for word, _ in effects(tmp_path)] == ["letter"]


@pytest.mark.postgres
def test_a_running_process_that_is_overruled_in_mid_write_ends(tmp_path, postgres_url, stop_in_write):
    """It wakes before its lease has ended, learns of it with its next beat, and says why it ends."""
    zombie = stop_in_write(LEASE_STORE=postgres_url, LEASE_S="24")
    (tmp_path / "go").unlink()
    with Engine(lease_child.TOOLS, store=postgres_url) as engine:
        taking = threading.Thread(target=lambda: engine.resume_sync("r", take_over=True))
        taking.start()
        while engine.get_sync("r").abandoned or _owner(postgres_url) == str(zombie.process.pid):
            time.sleep(0.02)
        zombie.wake()
        _, told = zombie.process.communicate(timeout=60)
        assert zombie.process.returncode == EXIT_CODE
        assert "was taken from this process while a write of it is under way" in told
        (tmp_path / "go").touch()
        taking.join()
        assert engine.get_sync("r").output == "letter"
    assert effects(tmp_path) == [("letter", str(os.getpid()))]


def _owner(url):
    import psycopg

    with psycopg.connect(url) as db:
        return OwnerName.of(db.execute("SELECT owner FROM firmplan_runs").fetchone()[0]).process


# --- the parts


def test_a_process_that_cannot_renew_its_lease_says_so_and_ends(tmp_path):
    """A little before the kernel would end it, where a write is under way, and not where none is."""
    script = """
import sys, time
from firmplan.executor.calls.lease import Lease
lease = Lease(3.0, is_needed=True)
if sys.argv[1] == "writes":
    with lease.guarding("r"):
        time.sleep(30)
with lease.guarding("r"):
    time.sleep(0.1)
time.sleep(3.5)
print("alive")
"""
    path = tmp_path / "renewing.py"
    path.write_text(script)
    with Program([path, "writes"]) as writes, Program([path, "rests"]) as rests:
        for process, code, out in ((writes, EXIT_CODE, ""), (rests, 0, "alive\n")):
            said, told = process.communicate(timeout=60)
            assert (process.returncode, said) == (code, out)
            assert ("cannot renew its lease" in told) == (process is writes)


def test_a_lease_that_is_renewed_does_not_end():
    """The moment moves on; a child that shares it sees the same."""
    ended = threading.Event()
    until = [elapsed_s() + 0.5]
    watchdog = Watchdog(lambda: until[0], 0.1, lambda _why: ended.set())
    with watchdog.guarding():
        until[0] += 60
        assert not ended.wait(1.0)
    watchdog.close()
    lease = Lease(5.0, is_needed=True)
    lease.renewed(100.0)
    assert Moment(os.dup(lease.moment.fd)).get() == 105.0
    lease.close()


def test_the_name_of_an_owner_says_what_others_need(tmp_path, monkeypatch):
    """Process, machine, length of the lease, and whether it ends by itself; older names say less."""
    monkeypatch.setenv(HOST_ENV, "web-1")
    seen = OwnerName.of(ProcessPresence().new_name(7.5))
    assert (seen.process, seen.host, seen.lease_s, seen.ends_surely) == (
        str(os.getpid()),
        "web-1",
        7.5,
        ends_surely(),
    )
    beside_a_file = OwnerName.of(LockFilePresence(str(tmp_path / "s.db")).new_name(7.5))
    assert (beside_a_file.lease_s, beside_a_file.ends_surely) == (7.5, False)
    old = OwnerName.of("17.99.4026531836-0123456789ab@db~deadbeef")
    assert (old.process, old.host, old.lease_s, old.ends_surely) == ("17", "db", LEASE_S, False)
    assert str(OwnerName.of("")) == "process ? on host ?"


def test_of_an_owner_that_nobody_can_be_sure_of_nothing_is_repeated(tmp_path, monkeypatch):
    """One of another machine that is beside a file, or of a firmplan that did not end itself."""

    async def law():
        owner = Owner(ProcessPresence())
        old = "17.99.4026531836-0123456789ab@elsewhere~"
        assert await owner.find_survivor([old]) == "process 17 on host elsewhere"
        assert await Owner(LockFilePresence(str(tmp_path / "s.db"))).find_survivor([old]) is not None
        assert await owner.find_survivor([owner.name]) is None
        if ends_surely():
            assert await owner.find_survivor(["17.99.1-k10x0123456789ab@elsewhere~"]) is None

    asyncio.run(law())


@pytest.mark.parametrize("lease", [0, 0.5, 3601, True, "30", float("nan"), None])
def test_a_lease_that_is_none_is_told(lease):
    """What was expected, and what was found."""
    with pytest.raises(ConfigError, match="lease: expected a number of seconds from 1 to 3600, found"):
        Engine([], lease=lease)


def test_the_journal_says_who_drove_a_run_from_the_beginning(tmp_path):
    """So that a call of it has a process."""
    with Engine([], store=tmp_path / "s.db", lease=12) as engine:
        engine.run_sync({"firmplan": 1, "steps": [{"id": "a", "set": 1}]}, run_id="r")
    with closing(sqlite3.connect(tmp_path / "s.db")) as db:
        (lines,) = db.execute("SELECT lines FROM journal ORDER BY first_seq").fetchone()
    by = OwnerName.of(json.loads(lines.split(b"\n")[0])["by"])
    assert (by.process, by.lease_s) == (str(os.getpid()), 12)
