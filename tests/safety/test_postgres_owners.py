"""Many processes, one database: a run has one driver. What holds of owners on other machines and of late ones: `test_hosts.py`."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import lease_child
import pytest
from firmplan import Engine
from firmplan.executor.runs import owner as presence
from firmplan.executor.runs.owner import HOST_ENV, ProcessPresence
from firmplan.executor.stores.postgres_store import PostgresStore
from forked import Program
from lease_child import effects, wait_at_gate, wait_for
from rig import stop_at_once
from stopping import stop

pytestmark = pytest.mark.postgres
CHILD = Path(lease_child.__file__)
LEASE_S = 3.0


@pytest.fixture
def start(tmp_path, postgres_url):
    """Starts a process of `lease_child`, on a machine of that name where one is given; killed at the end, if it lives."""
    with ExitStack() as started:

        def start(command, run_id="r", host=None, lease_s=LEASE_S):
            env = {**os.environ, "LEASE_STORE": postgres_url, "LEASE_S": str(lease_s)}
            named = {} if host is None else {HOST_ENV: host}
            return started.enter_context(Program([CHILD, command, tmp_path, run_id], env=env | named))

        yield start


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """The tools of the children, in this process, with their short leases."""
    monkeypatch.setattr(lease_child, "FOLDER", tmp_path)
    return lease_child.TOOLS


def test_many_processes_drive_a_run_once(tmp_path, start):
    """All of them resume it while it goes on: each write happens once, all by one process."""
    with start("many") as first:
        wait_for(tmp_path / "effects")
        with start("resume") as second, start("resume", host="elsewhere") as third:
            assert [process.communicate(timeout=60)[0] for process in (first, second, third)] == [
                "succeeded\n"
            ] * 3
    assert effects(tmp_path) == [(f"s{n}", str(first.pid)) for n in range(30)]


def test_a_dead_owner_of_this_machine_is_recognised_at_once(tmp_path, postgres_url, tools, start):
    """Killed in the middle: the next process goes on without waiting for the lease; a zombie is dead."""
    with start("run", lease_s=600.0) as first:  # far past the end of this test
        wait_at_gate(postgres_url)
        first.kill()
        (tmp_path / "go").touch()
        with Engine(tools, store=postgres_url) as engine:
            while not engine.get_sync("r").abandoned:
                time.sleep(0.01)
            assert engine.resume_sync("r").output == "second"
    assert effects(tmp_path) == [("first", str(first.pid)), ("second", str(os.getpid()))]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["effects", "go", "waiting"], "nothing on disk"


def test_a_living_engine_takes_over_what_dies_beside_it(tmp_path, postgres_url, tools, start):
    """It was open before its neighbour was killed: within a second or two it goes on."""
    with start("run") as first, Engine(tools, store=postgres_url, recover=True) as engine:
        wait_at_gate(postgres_url)
        assert not engine.get_sync("r").abandoned
        first.kill()
        first.wait()
        (tmp_path / "go").touch()
        until = time.monotonic() + 20
        while engine.get_sync("r").status != "succeeded":
            assert time.monotonic() < until, "nobody took it over"
            time.sleep(0.05)
    assert [word for word, _ in effects(tmp_path)] == ["first", "second"]


def test_a_process_that_stood_still_past_its_lease_begins_no_call(tmp_path, postgres_url, tools, start):
    """Overtaken and woken, it does not even read: the run has ended elsewhere."""
    first = start("looks", host="elsewhere")
    wait_at_gate(postgres_url)
    stop(postgres_url, first.pid)
    (tmp_path / "go").touch()
    with Engine(tools, store=postgres_url) as engine:
        run = engine.resume_sync("r")
        first.send_signal(signal.SIGCONT)
        assert first.communicate(timeout=30)[0] == "succeeded\n", "as the other process left it"
        assert engine.get_sync("r").last_event == run.last_event
    assert sorted(effects(tmp_path)) == [("looked", str(os.getpid())), ("looked_again", str(os.getpid()))]


def test_each_owner_has_a_lease_of_its_own_length(tmp_path, postgres_url, tools, start):
    """Of two that die on another machine, the one with the short lease is followed, and the one with the long lease is not."""
    short, long = (
        start("run", "short", host="elsewhere"),
        start("run", "long", host="elsewhere", lease_s=600.0),
    )
    for process, run_id in ((short, "short"), (long, "long")):
        wait_at_gate(postgres_url, run_id)
        process.kill()
        process.wait()
    (tmp_path / "go").touch()
    with Engine(tools, store=postgres_url, recover=True, lease=1) as engine:
        while engine.get_sync("short").status != "succeeded":
            time.sleep(0.05)
        assert not engine.get_sync("long").abandoned
    assert [word for word, _ in effects(tmp_path)] == ["first", "first", "second"]


def test_a_server_that_is_away_for_longer_than_a_lease_gives_nobodys_run_away(
    tmp_path, cluster, postgres_url, tools, start
):
    """The owner could not beat, and nobody could watch: when the server is back the run goes on, and each write is done once."""
    with start("run") as first, Engine(tools, store=postgres_url) as engine:
        wait_at_gate(postgres_url)
        assert not engine.get_sync("r").abandoned
        cluster.stop("immediate")
        time.sleep(1.2 * LEASE_S)
        cluster.start()
        (tmp_path / "go").touch()
        first.communicate(
            timeout=30
        )  # it ended the run, or the server has lost the end of its journal, and it stopped
        assert engine.resume_sync("r").output == "second"
    assert [word for word, _ in effects(tmp_path)] == ["first", "second"]


def test_runs_that_stop_at_once_are_released_together(cluster, postgres_url):
    """Their number does not decide how many transactions release them; the server counts those that write."""
    _, writing = asyncio.run(stop_at_once(postgres_url, lambda: cluster.sql("SELECT txid_current()")[0][0]))
    assert writing < 40


def test_a_store_shared_by_two_engines_of_one_process(postgres_url):
    """An engine that was closed is no owner any more, though its process lives on; one that is open is."""
    seer = ProcessPresence()
    name = seer.new_name(LEASE_S)
    assert seer.sees(name) is False
    seer.acquire(name)
    assert ProcessPresence().sees(name) is True
    seer.release(name)
    assert ProcessPresence().sees(name) is False


def test_what_cannot_be_seen_of_a_process_is_not_said(monkeypatch):
    """Of another machine, of another container, of a number that is taken again, where starts are not told."""
    seer = ProcessPresence()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        _, start, space = presence._process()
        host = seer.new_name(LEASE_S).partition("@")[2]
        its_start = presence._state(other.pid)[1]
        assert seer.sees(f"{other.pid}.{its_start}.{space}-x@{host}") is None, "it is there: its beat tells"
        assert seer.sees(f"{other.pid}.1.{space}-x@{host}") is False, "another had the number"
        assert seer.sees(f"{other.pid}.1.{space}0-x@{host}") is None
        assert seer.sees(f"{other.pid}.1.{space}-x@elsewhere~") is None
        assert seer.sees(f"nonsense-x@{host}") is None
        monkeypatch.setattr(presence, "_PROC", Path("/nowhere"))
        assert seer.sees(f"{other.pid}..-x@{host}") is None
        other.kill()
        other.wait()
        assert seer.sees(f"{other.pid}..-x@{host}") is False
    assert start


def test_an_owner_that_lost_its_beat_learns_it(postgres_url):
    """Overtaken by another process, it may not renew its lease."""

    async def main():
        one, other = PostgresStore(postgres_url), PostgresStore(postgres_url)
        await one.open()
        await other.open()
        from firmplan.executor.stores.store import RunRow

        await one.create_run(RunRow("r", "queued", None, None, None, 1.0, 1.0, "", {}))
        assert await one.claim("r", "first", is_alive=lambda *_: False)
        assert await one.raise_beat("first")
        assert await other.claim("r", "second", is_alive=lambda *_: False)
        assert not await one.raise_beat("first")
        await one.close()
        await other.close()

    asyncio.run(main())
