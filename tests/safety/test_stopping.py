"""A signal stops in order: what is in flight ends or is parked, within a limit; a second one stops at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager

import httpx2
import pytest
from firmplan import ConfigError, Engine, Toolset
from forked import Program
from served import PLAN, Server

TOOLS = '''
import asyncio
import time
from pathlib import Path
from firmplan import tool

@tool(effect="read", resource="clock", version=1)
def hang() -> int:
    """Take for ever, in a thread."""
    Path("begun").write_text("x")
    while not Path("go").exists():
        time.sleep(0.01)
    return 1

@tool(effect="write", resource="box", version=1)
def put(seconds: float) -> int:
    """Change something, slowly."""
    Path("begun").write_text("x")
    time.sleep(seconds)
    with Path("effects").open("a") as file:
        file.write("put\\n")
    return 1

@tool(effect="read", resource="clock", version=1)
async def stubborn() -> int:
    """Take for ever, and heed no cancel."""
    Path("begun").write_text("x")
    while not Path("go").exists():
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            pass
    return 1

@tool(effect="read", resource="clock", isolation="inline", version=1)
def block(seconds: float) -> int:
    """Block the loop."""
    Path("begun").write_text("x")
    time.sleep(seconds)
    return 1
'''


def plan(tool, **args):
    """One call, then a change of the world."""
    return {
        "firmplan": 1,
        "steps": [
            {"id": "a", "tool": tool, "args": args},
            {"id": "b", "tool": "put", "args": {"seconds": 0}, "after": ["a"]},
        ],
        "output": "${a + b}",
    }


def wait_for(path, within_s=30):
    """Wait until a file is there."""
    end = time.monotonic() + within_s
    while not path.exists():
        assert time.monotonic() < end, f"no {path.name}"
        time.sleep(0.01)


def signal_until_it_ends(process):
    """Send second signals until the process has ended: one that arrives before the first was looked at is lost in it."""
    end = time.monotonic() + 60
    while process.poll() is None:
        assert time.monotonic() < end, "a second signal did not end it"
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)


@contextmanager
def running(folder, plan):
    """`firmplan run` in a folder, once its first call has begun."""
    (folder / "tools.py").write_text(TOOLS)
    (folder / "plan.json").write_text(json.dumps(plan))
    words = ["run", "plan.json", "--tools", "tools.py", "--run-id", "r", "--store", "s.db"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FIRMPLAN_")}
    with Program(["-m", "firmplan", *words], cwd=folder, env=clean) as process:
        wait_for(folder / "begun")
        yield process


def resumed(folder, monkeypatch):
    """Go on with the run in this process."""
    monkeypatch.chdir(folder)
    (folder / "go").touch()
    with Engine(Toolset.load("tools.py"), store="s.db") as engine:
        return engine.resume_sync("r")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_is_parked(tmp_path, monkeypatch, number):
    """A call that changes nothing is cut off at once; the run can be resumed, and the last words say how."""
    with running(tmp_path, plan("hang")) as process:
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]  # the call itself would never end
        assert process.returncode == 128 + number
        assert "firmplan resume r" in said
    assert resumed(tmp_path, monkeypatch).output == 2
    assert (tmp_path / "effects").read_text() == "put\n"


def test_a_write_in_flight_is_waited_for(tmp_path, monkeypatch):
    """Its outcome is known afterwards; the next step has not begun."""
    with running(tmp_path, plan("put", seconds=1.0)) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    assert (tmp_path / "effects").read_text() == "put\n"
    run = resumed(tmp_path, monkeypatch)
    assert run.output == 2
    assert run.steps["a"].attempts == 1


def test_a_second_signal_stops_at_once(tmp_path, monkeypatch):
    """The write is of unknown outcome then, and is not called again by itself."""
    with running(tmp_path, plan("put", seconds=600.0)) as process:
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        signal_until_it_ends(process)
        assert process.returncode == 143
    assert resumed(tmp_path, monkeypatch).steps["a"].status == "indeterminate"
    assert not (tmp_path / "effects").exists()


def test_a_blocked_loop_hears_the_second_signal(tmp_path):
    """An inline tool that does not return keeps the loop from parking, not the process from ending."""
    with running(tmp_path, plan("block", seconds=600.0)) as process:
        process.send_signal(signal.SIGTERM)
        signal_until_it_ends(process)
        assert process.returncode == 143


def test_a_server_parks_and_ends_with_success(tmp_path, monkeypatch):
    """Told to stop, it did: code 0. The write in flight has ended, the run goes on elsewhere."""
    (tmp_path / "slow_tools.py").write_text(TOOLS)
    with Server(tmp_path, "--tools", "slow_tools.py", "--store", "s.db", FIRMPLAN_LOG="json") as server:
        run = server.post("/v1/runs", {"plan": plan("put", seconds=1.0)}).json()["id"]
        wait_for(tmp_path / "begun")
        assert server.stop(signal.SIGTERM) == 0
    assert logged(server, "waits for a write before it stops") == [(run, "a", "put")]
    assert logged(server, "stopped during a write") == []
    assert (tmp_path / "effects").read_text() == "put\n"
    monkeypatch.chdir(tmp_path)
    with Engine(Toolset.load("slow_tools.py"), store="s.db") as engine:
        assert engine.resume_sync(run).output == 2


def logged(server, words):
    """Return (run, step, tool) of the lines of a server's log that say so."""
    lines = [json.loads(line) for line in server.said if line.startswith("{")]
    return [(each["run"], each["step"], each["tool"]) for each in lines if each["event"] == words]


def test_a_write_past_its_grace_is_named_and_not_repeated(tmp_path, monkeypatch):
    """The server ends all the same, says which outcome is unknown, and a person decides about it."""
    (tmp_path / "slow_tools.py").write_text(TOOLS)
    env = {"FIRMPLAN_LOG": "json", "FIRMPLAN_WRITE_GRACE": "0.2"}
    with Server(tmp_path, "--tools", "slow_tools.py", "--store", "s.db", **env) as server:
        run = server.post("/v1/runs", {"plan": plan("put", seconds=600.0)}).json()["id"]
        wait_for(tmp_path / "begun")
        assert server.stop(signal.SIGTERM) == 0
    assert logged(server, "stopped during a write") == [(run, "a", "put")]
    monkeypatch.chdir(tmp_path)
    with Engine(Toolset.load("slow_tools.py"), store="s.db") as engine:
        assert engine.resume_sync(run).steps["a"].status == "indeterminate"
    assert not (tmp_path / "effects").exists()


@pytest.mark.parametrize("tool", ["hang", "stubborn"])
def test_a_server_gives_a_read_up_at_once_and_repeats_it_later(tmp_path, tool):
    """A read that would never end, in a thread or on the loop: the next server makes it again."""
    (tmp_path / "slow_tools.py").write_text(TOOLS)
    words = ("--tools", "slow_tools.py", "--store", "s.db")
    with Server(tmp_path, *words, FIRMPLAN_LOG="json") as server:
        run = server.post("/v1/runs", {"plan": plan(tool)}).json()["id"]
        wait_for(tmp_path / "begun")
        assert server.stop(signal.SIGTERM) == 0
    assert logged(server, "waits for a write before it stops") == []
    (tmp_path / "go").touch()
    with Server(tmp_path, *words) as second:
        assert second.wait(run)["output"] == 2
    assert (tmp_path / "effects").read_text() == "put\n"


def test_readyz_says_503_before_the_port_closes(tmp_path):
    """A load balancer notices in time: until the port closes, everything else works, runs included. SIGINT waits for no load balancer."""
    with Server(tmp_path, FIRMPLAN_DRAIN="2") as server:
        assert server.get("/readyz").status_code == 200
        server.process.send_signal(signal.SIGTERM)
        while server.get("/readyz").status_code == 200:
            pass
        assert server.get("/readyz").json() == {"status": "unavailable"}
        assert server.get("/healthz").status_code == 200
        run = server.post("/v1/runs", {"plan": PLAN, "inputs": {"a": 1}})
        assert run.status_code == 202
        assert server.wait(run.json()["id"])["output"] == 3
        assert server.process.wait(30) == 0
        with pytest.raises(httpx2.ConnectError):
            server.get("/readyz")
    with Server(tmp_path, FIRMPLAN_DRAIN="600") as server:
        assert server.stop(signal.SIGINT) == 0


def test_a_second_signal_cuts_the_wait_for_load_balancers_off(tmp_path):
    """At once, with the code of a signal."""
    with Server(tmp_path, FIRMPLAN_DRAIN="600") as server:
        server.process.send_signal(signal.SIGTERM)
        while server.get("/readyz").status_code == 200:
            pass
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 143


@pytest.mark.parametrize("wrong", [-1, 3601, "30", True, float("nan")])
def test_a_wrong_grace_is_refused(wrong):
    """With the range."""
    with pytest.raises(ConfigError, match="write_grace: expected a number of seconds from 0 to 3600"):
        Engine([], store="memory:", write_grace=wrong)


def test_a_server_stops_at_once_at_the_second_signal(tmp_path):
    """Whatever is in flight."""
    (tmp_path / "slow_tools.py").write_text(TOOLS)
    with Server(tmp_path, "--tools", "slow_tools.py", "--store", "s.db") as server:
        server.post("/v1/runs", {"plan": plan("put", seconds=600.0)})
        wait_for(tmp_path / "begun")
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(0.5)
        signal_until_it_ends(server.process)
        assert server.stop(signal.SIGTERM) in (143, -15)


def test_a_tool_that_heeds_no_cancel_keeps_no_process_alive(tmp_path, monkeypatch):
    """An asynchronous tool swallows its cancel: the command ends all the same, and its run goes on elsewhere."""
    with running(tmp_path, plan("stubborn")) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    assert resumed(tmp_path, monkeypatch).output == 2
