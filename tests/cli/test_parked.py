"""A run that kills its process is parked, and told as such wherever runs are looked at: commands, server, web page."""

from __future__ import annotations

import re
from contextlib import suppress

import httpx2
import pytest
from forked import Program
from served import Server

TOOLS = '''
import os
from pathlib import Path

from firmplan import tool


@tool(effect="read")
def bite() -> int:
    """Kill the process, unless told otherwise."""
    with Path("bites").open("a") as file:
        file.write("bite\\n")
    if not Path("cured").exists():
        os._exit(9)
    return 7
'''
STEPS = [{"id": "b", "tool": "bite"}]
REASON = "its process died 3 times in a row without progress of the run; in flight: step 'b' (tool 'bite')"


def bites(folder):
    """Return how often the tool was called."""
    return (folder / "bites").read_text().count("bite")


@pytest.fixture
def parked(home, plan_file):
    """A run that has killed three processes of `firmplan run`, and its plan's file."""
    (home / "biting.py").write_text(TOOLS)
    path = str(plan_file(inputs={}, task=None, steps=STEPS, output="${b}"))
    for _ in range(3):
        killed(home, path)
    return path


def killed(home, path):
    """Run the plan in a process of its own, which dies of it."""
    with Program(["-m", "firmplan", "run", path, "-t", "biting.py", "--run-id", "r"], cwd=home) as process:
        assert process.wait(120) == 9


def test_commands_say_that_a_run_is_parked(firmplan, home, parked):
    """Exit code 4; `runs` and `show` name the call that was in flight, and how to go on; an explicit resume does."""
    again = firmplan("run", parked, "-t", "biting.py", "--run-id", "r")
    assert again.code == 4
    assert again.err.count("parked: run r") == 1
    assert REASON in again.err
    assert "after the cause is fixed, continue it with\n  firmplan resume r" in again.out
    assert bites(home) == 3
    (line,) = firmplan("runs", "--json", "--status", "parked").document["runs"]
    assert (line["status"], line["abandoned"], line["reason"].startswith(REASON)) == ("parked", False, True)
    told = firmplan("runs")
    assert "parked" in told.out
    assert f"parked: run r: {REASON}" in told.err
    assert "\n  firmplan resume r" in told.err
    shown = firmplan("show", "r")
    assert f"error: step 'b' is parked: {REASON}" in shown.out
    document = firmplan("show", "r", "--json").document
    assert (document["status"], document["errors"][0]["code"]) == ("parked", "parked")
    (home / "cured").touch()
    assert firmplan("resume", "r", "-t", "biting.py").code == 0
    assert bites(home) == 4


def test_a_setting_says_after_how_many_deaths(firmplan, home, plan_file, monkeypatch):
    """`FIRMPLAN_PARK_AFTER`, or `park_after` in the file."""
    (home / "biting.py").write_text(TOOLS)
    path = str(plan_file(inputs={}, task=None, steps=STEPS, output="${b}"))
    killed(home, path)
    monkeypatch.setenv("FIRMPLAN_PARK_AFTER", "1")
    assert firmplan("run", path, "-t", "biting.py", "--run-id", "r").code == 4
    assert bites(home) == 1
    monkeypatch.setenv("FIRMPLAN_PARK_AFTER", "none")
    wrong = firmplan("runs")
    assert (wrong.code, "park_after" in wrong.err) == (2, True)


def test_servers_leave_a_parked_run_alone(tmp_path):
    """Each new server takes the run up and dies of it; the fourth one serves, shows why, and goes on when it is asked to."""
    (tmp_path / "bites").touch()
    plan = {"firmplan": 1, "steps": STEPS, "output": "${b}"}
    headers = {"Idempotency-Key": "k"}
    with Server(tmp_path, tools=TOOLS) as first:
        with suppress(httpx2.TransportError):  # it may die before it answers
            first.post("/v1/runs", {"plan": plan}, headers=headers)
        assert first.process.wait(20) == 9
    for _ in range(2):
        with Server(tmp_path, tools=TOOLS) as server:
            assert server.process.wait(20) == 9
    with Server(tmp_path, tools=TOOLS) as server:
        (run,) = [each["id"] for each in server.get("/v1/runs").json()["runs"]]
        found = server.wait(run, "parked")
        assert found["errors"][0]["message"].startswith(REASON)
        assert found["abandoned"] is False
        (listed,) = server.get("/v1/runs?status=parked").json()["runs"]
        assert listed["reason"] == found["errors"][0]["message"]
        assert 'firmplan_runs_active{status="parked"} 1' in server.get("/metrics").text
        assert server.post("/v1/runs", {"plan": plan}, headers=headers).json()["status"] == "parked"
        script = re.search(r'src="([^"]+)"', server.get("/").text)[1]
        assert "lost its process several times" in server.get(f"/{script.lstrip('./')}").text
        assert server.events(run)[-1][1]["type"] == "RunParked"
        assert bites(tmp_path) == 3
        (tmp_path / "cured").touch()
        server.post(f"/v1/runs/{run}/resume")
        assert server.wait(run)["output"] == 7
        assert bites(tmp_path) == 4
