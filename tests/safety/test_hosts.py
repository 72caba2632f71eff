"""One store, several machines: a run is taken over only once the lease of a machine that cannot be seen has ended.

Processes with another `FIRMPLAN_HOST` pretend to be on another machine: what they know of each other is in the store alone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import lease_child
import pytest
from firmplan import Engine, StoreError
from firmplan.executor import SqliteStore
from firmplan.executor.limits import LEASE_S as USUAL_LEASE_S
from firmplan.executor.runs import owner
from firmplan.executor.runs.owner import HOST_ENV, LockFilePresence, Owner, is_same_host, this_host
from firmplan.tools import tool
from forked import Program
from lease_child import effects, wait_at_gate
from rig import Rig, plan_of
from stopping import stop

CHILD = Path(lease_child.__file__)
LEASE_S = 3.0


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """The children's tools here, on machine `b`, with short leases."""
    monkeypatch.setattr(lease_child, "FOLDER", tmp_path)
    monkeypatch.setenv(HOST_ENV, "b")
    return lease_child.TOOLS


def on_postgres(host):
    return pytest.param(("postgres", host), marks=pytest.mark.postgres, id=f"postgres-{host}")


@pytest.fixture(params=[pytest.param(("file", "a"), id="file-a"), on_postgres("a"), on_postgres("b")])
def place(request, tmp_path):
    """A store, and the machine of the first process: another one than ours, or ours."""
    where, host = request.param
    return (tmp_path / "s.db" if where == "file" else request.getfixturevalue("postgres_url")), host


@pytest.fixture
def store(place):
    """The store of all machines."""
    return place[0]


@pytest.fixture
def first(tmp_path, place):
    """A process in the middle of the run `r`."""
    store, host = place
    env = {**os.environ, HOST_ENV: host, "LEASE_S": str(LEASE_S), "LEASE_STORE": str(store)}
    with Program([CHILD, "run", tmp_path], env=env) as process:
        wait_at_gate(store)
        yield process


def test_a_living_owner_keeps_its_run(tmp_path, store, tools, first):
    """It beats: however long it is watched, nobody else drives its run."""
    with Engine(tools, store=store, recover=True) as engine:
        until = time.monotonic() + 1.2 * LEASE_S
        while time.monotonic() < until:
            assert not engine.get_sync("r").abandoned
            time.sleep(0.05)
        (tmp_path / "go").touch()
        assert engine.resume_sync("r").output == "second"
    assert first.communicate(timeout=30)[0] == "succeeded\n"
    assert effects(tmp_path) == [("first", str(first.pid)), ("second", str(first.pid))]


@pytest.mark.parametrize("place", [pytest.param(("file", "a"), id="file-a"), on_postgres("a")], indirect=True)
@pytest.mark.parametrize("is_asked", [True, False], ids=["resume", "recover"])
def test_a_dead_owner_elsewhere_is_followed_once_its_lease_has_ended(tmp_path, store, tools, first, is_asked):
    """Not at once, since it cannot be seen; but then by whoever asked for it, and by whoever recovers."""
    first.kill()
    first.wait()
    (tmp_path / "go").touch()
    began = time.monotonic()
    with Engine(tools, store=store, recover=not is_asked) as engine:
        if is_asked:
            assert engine.resume_sync("r").output == "second"
        while engine.get_sync("r").status != "succeeded":
            assert time.monotonic() < began + 60
            time.sleep(0.05)
        assert time.monotonic() - began >= LEASE_S
    assert effects(tmp_path) == [("first", str(first.pid)), ("second", str(os.getpid()))]


def test_an_owner_that_slept_past_its_lease_writes_nothing(tmp_path, store, tools, first):
    """Stopped, overtaken, and woken: it sees how the run ended, and has done nothing more."""
    stop(store, first.pid)
    (tmp_path / "go").touch()
    with Engine(tools, store=store) as engine:
        run = engine.resume_sync("r")
        assert run.output == "second"
        first.send_signal(signal.SIGCONT)
        assert first.communicate(timeout=30)[0] == "succeeded\n"
        assert engine.get_sync("r").last_event == run.last_event
        assert engine.replay_sync("r").digest == run.digest
    assert effects(tmp_path) == [("first", str(first.pid)), ("second", str(os.getpid()))]


class Slow(SqliteStore):
    """A store in which time passes between an intent and the call; meanwhile another machine may take the run."""

    is_taken = False
    clock_s = 0.0

    def append(self, batches):
        faults = super().append(batches)
        if any(batch.opened for batch in batches):
            self.clock_s += USUAL_LEASE_S
            if self.is_taken:
                assert asyncio.run(self.claim("r", "1-x@c~", is_alive=lambda *_: False))
        return faults


@pytest.mark.parametrize("is_taken", [True, False])
def test_no_write_is_called_past_the_lease(tmp_path, monkeypatch, is_taken):
    """The intent is durable, and then the process slept: the write is called only if the lease could be renewed."""
    called = []

    @tool(effect="write")
    def pay() -> int:
        """Pay."""
        called.append(1)
        return 1

    store = Slow(str(tmp_path / "s.db"))
    store.is_taken = is_taken
    monkeypatch.setattr(owner, "elapsed_s", lambda: store.clock_s)

    async def main():
        async with Rig([pay], store) as rig:
            await rig.start(plan_of({"id": "p", "tool": "pay"}), "r")
            if not is_taken:
                return (await rig.execution.wait("r")).status
            with pytest.raises(StoreError, match="lost its lease"):
                await asyncio.wait_for(rig.execution._driving["r"], 30)
            return "stopped"

    assert (asyncio.run(main()), called) == (("stopped", []) if is_taken else ("succeeded", [1]))


def test_no_write_is_called_where_the_lease_cannot_be_renewed(tmp_path, monkeypatch):
    """The store fails when the lease is due: the write is not called, and goes on once the store is back."""
    called = []

    @tool(effect="write", idempotent=True)
    def pay() -> int:
        """Pay."""
        called.append(1)
        return 1

    class Failing(Slow):
        is_failing = True

        async def raise_beat(self, name):
            if self.is_failing:
                raise StoreError("the disk is gone")
            return await super().raise_beat(name)

    store = Failing(str(tmp_path / "s.db"))
    monkeypatch.setattr(owner, "elapsed_s", lambda: store.clock_s)

    async def main():
        async with Rig([pay], store) as rig:
            await rig.start(plan_of({"id": "p", "tool": "pay"}), "r")
            with pytest.raises(StoreError, match="the disk is gone"):
                await rig.execution.wait("r")
            assert called == []
            store.is_failing = False
            assert (await rig.resume("r")).status == "succeeded"
            assert called == [1]

    asyncio.run(main())


def test_a_beat_is_watched_by_this_machines_own_clock(tmp_path, monkeypatch):
    """It counts how long it was seen standing still from here: never from before the first look."""
    clock = [100.0]
    monkeypatch.setattr(owner, "elapsed_s", lambda: clock[0])
    watcher, far = Owner(LockFilePresence(str(tmp_path / "s.db"))), "7-x@elsewhere~"
    assert watcher.is_alive(far, 5)
    clock[0] += USUAL_LEASE_S
    assert watcher.is_alive(far, 5)
    assert watcher.is_alive(far, 6), "it beats"
    clock[0] += USUAL_LEASE_S
    assert watcher.is_alive(far, 6)
    clock[0] += 0.1
    assert not watcher.is_alive(far, 6)
    assert not watcher.is_alive(far, None), "it has no beat: it was overtaken, or owns nothing"


def test_containers_and_boots_of_one_machine_are_one(monkeypatch):
    """A kernel in common, or a name in common, is one machine; a name that is given stands for itself."""
    assert is_same_host("a~1", "a~2")
    assert is_same_host("a~1", "b~1")
    assert not is_same_host("a~1", "b~2")
    assert not is_same_host("a~", "b~")
    assert is_same_host(this_host(), this_host())
    monkeypatch.setenv(HOST_ENV, "web/1")
    assert this_host() == "web-1~"
