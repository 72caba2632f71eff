"""A run whose process is gone is told as such, wherever runs are looked at, and goes on from there."""

from __future__ import annotations

import json
import re
import signal
import time

import pytest
from firmplan import Engine
from firmplan.executor.stores.store import OwnerName
from forked import Program
from stopping import stop

TOOLS = '''
import time
from pathlib import Path

from firmplan import tool


@tool(effect="read")
def stall() -> int:
    """Wait for ever, unless told otherwise."""
    Path("begun").touch()
    while not Path("go").exists():
        time.sleep(0.01)
    return 7
'''
PATIENCE_S = 60


@pytest.fixture
def stalled(home, plan_file):
    """A run that another process drives, in mid-call, and that process."""
    (home / "stalling.py").write_text(TOOLS)
    path = plan_file(inputs={}, task=None, steps=[{"id": "s", "tool": "stall"}], output="${s}")
    words = ("-m", "firmplan", "run", str(path), "-t", "stalling.py", "--run-id", "stuck")
    with Program(words, cwd=home) as process:
        until = time.monotonic() + PATIENCE_S
        while not (home / "begun").exists():
            assert time.monotonic() < until
            time.sleep(0.01)
        yield process


def test_a_killed_process_leaves_an_abandoned_run(firmplan, home, stalled):
    """While its process lives a run is running and not abandoned; once that was killed, `runs` and `show` say how to go on."""
    until = time.monotonic() + PATIENCE_S
    while (seen := firmplan("runs", "--json").document["runs"][0])[
        "status"
    ] != "running":  # its start is written in a group of records
        assert time.monotonic() < until
    assert seen["abandoned"] is False
    shown = firmplan("show", "stuck")
    assert "abandoned" not in shown.out
    assert "a process drives it now; wait for it with\n  firmplan resume stuck" in shown.out
    stalled.send_signal(signal.SIGKILL)
    stalled.wait(PATIENCE_S)
    listed = firmplan("runs", "--json").document["runs"][0]
    assert (listed["status"], listed["abandoned"]) == ("running", True)
    told = firmplan("runs")
    assert "running (abandoned)" in told.out
    assert "its process is gone; continue it with\n  firmplan resume RUN" in told.err
    run = firmplan("show", "stuck", "--json").document
    assert (run["status"], run["abandoned"]) == ("running", True)
    assert "its process is gone; continue it with\n  firmplan resume stuck" in firmplan("show", "stuck").out
    (home / "go").touch()
    done = firmplan("resume", "stuck", "-t", "stalling.py", "--json").document
    assert (done["status"], done["output"], done["abandoned"]) == ("succeeded", 7, False)


def test_a_run_is_taken_from_a_process_that_hangs(firmplan, home, stalled):
    """The command that `show` tells goes on with it, and says from whom it took it; the other process is not waited for."""
    stop(home / "firmplan.db", stalled.pid)
    (home / "go").touch()
    assert (
        "hangs, take the run from it with\n  firmplan resume stuck --take-over"
        in firmplan("show", "stuck").out
    )
    done = firmplan("resume", "stuck", "--take-over", "-t", "stalling.py", "--json")
    assert (done.document["status"], done.document["output"]) == ("succeeded", 7)
    assert f"owner='process {stalled.pid} on host" in done.err
    stalled.send_signal(signal.SIGCONT)
    stalled.communicate(timeout=PATIENCE_S)
    assert firmplan("show", "stuck", "--json").document["last_event"] == done.document["last_event"]


def test_suggested_commands_have_the_flags_that_they_need(firmplan, home, plan_file, monkeypatch):
    """Flags of this command are repeated; what stands in the file or the environment is not."""
    path = plan_file(
        inputs={}, steps=[{"id": "mail", "tool": "send", "args": {"to": "me"}}], output="${mail}"
    )
    given = firmplan("run", path, "-t", "tools.py", "-s", "my runs.db")
    run = given.out.partition("firmplan approve ")[2].partition(" ")[0]
    assert f"  firmplan approve {run} mail --store 'my runs.db'\n" in given.out
    assert f"  firmplan deny {run} mail --reason WHY --store 'my runs.db'\n" in given.out
    assert given.out.endswith(f"  firmplan resume {run} --tools tools.py --store 'my runs.db'\n")
    (home / "firmplan.toml").write_text('tools = "tools.py"\nstore = "kept.db"\n')
    told = firmplan("run", path).out
    assert "--" not in told.replace("--reason WHY", "")
    monkeypatch.setenv("FIRMPLAN_STORE", "env.db")
    assert "--store" not in firmplan("run", path).out


def interrupt(process):
    process.send_signal(signal.SIGINT)
    return process.communicate(timeout=PATIENCE_S)


def test_ctrl_c_says_what_was_stopped_and_how_to_go_on(firmplan, stalled):
    """One message: which step was under way, that the run is kept, and the command; no line of the log about threads."""
    _, said = interrupt(stalled)
    assert stalled.returncode == 130
    told = "interrupted while s ran; run stuck is kept; continue it with\n  firmplan resume stuck --tools stalling.py\n"
    assert said.endswith(told)
    assert "thread" not in said
    assert firmplan("show", "stuck", "--json").document["abandoned"] is True


@pytest.fixture
def waiting(home, stalled, monkeypatch):
    """A command that waits for a run whose process stands still; nothing is logged, and nobody looks at a terminal."""
    stop(home / "firmplan.db", stalled.pid)
    monkeypatch.setenv("FIRMPLAN_LOG", "off")
    processes = []

    def resume(*words):
        process = Program(["-m", "firmplan", "resume", "stuck", "-t", "stalling.py", *words])
        processes.append(process)
        return process

    yield resume
    for process in processes:
        with process:
            pass


def told_of_owner(command):
    """Return what a command has said once it has said for whom it waits."""
    told = ""
    while "--take-over" not in told:
        line = command.stderr.readline()
        assert line, told
        told += line
    return told


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_waiting_command_says_who_has_the_run(home, stalled, waiting, flags):
    """On stderr, whatever is logged: the process, its last record, how to overrule it. Once that one goes on, so does the command."""
    command = waiting(*flags)
    told = told_of_owner(command)
    assert f"run stuck is driven by process {stalled.pid} on host" in told
    assert re.search(r"whose last record of it is [\d.]+ s old; this command waits for it", told)
    assert told.endswith("\n  firmplan resume stuck --tools stalling.py --take-over\n")
    (home / "go").touch()
    stalled.send_signal(signal.SIGCONT)
    out, _ = command.communicate(timeout=PATIENCE_S)
    assert (command.returncode, json.loads(out)["output"] if flags else out) == (0, 7 if flags else "7\n")


def test_ctrl_c_of_a_waiting_command_says_where_the_run_goes_on(home, stalled, waiting):
    """This command ran nothing; the run is not its to keep, nor to go on with."""
    command = waiting("--json")
    command.stderr.readline()
    out, _ = interrupt(command)
    assert command.returncode == 130
    message = json.loads(out)["error"]["message"]
    assert message.startswith(f"interrupted; run stuck goes on in process {stalled.pid} on host")
    told = ", and this command changed nothing; wait for it with\n  firmplan resume stuck --tools stalling.py"
    assert message.endswith(told)
    command = waiting("--budget", "usd=9")
    told_of_owner(command)
    _, said = interrupt(command)
    assert f"goes on in process {stalled.pid} on host" in said
    assert "changed nothing" not in said
    (home / "go").touch()
    stalled.send_signal(signal.SIGCONT)
    stalled.communicate(timeout=PATIENCE_S)
    assert stalled.returncode == 0


def test_a_decision_says_who_goes_on(firmplan, plan_file, stalled):
    """The process that drives the run, where one does; else the command to type."""
    told = firmplan("cancel", "stuck")
    assert told.out == "cancelled; the process that drives run stuck continues it\n"
    path = plan_file(inputs={}, steps=[{"id": "mail", "tool": "send", "args": {"to": "me"}}], output=None)
    firmplan("run", path, "-t", "tools.py", "--run-id", "r")
    told = firmplan("approve", "r", "mail", "--by", "me")
    assert told.out.endswith(
        "approved; unless a server drives run r, continue it with\n  firmplan resume r\n"
    )


def test_with_a_backend_a_worker_goes_on(firmplan, plan_file, stalled, monkeypatch):
    """No command is told that would only ask for what happens anyway."""
    path = plan_file(inputs={}, steps=[{"id": "mail", "tool": "send", "args": {"to": "me"}}], output=None)
    firmplan("run", path, "-t", "tools.py", "--run-id", "r")
    monkeypatch.setenv("FIRMPLAN_BACKEND", "temporal://127.0.0.1:1/default")
    told = firmplan("show", "r").out
    assert "firmplan approve r mail" in told
    assert told.endswith("then a worker continues it; watch it with\n  firmplan watch r\n")
    assert firmplan("show", "stuck").out.endswith(
        "\na worker continues it; watch it with\n  firmplan watch stuck\n"
    )
    stalled.kill()
    stalled.communicate(timeout=PATIENCE_S)
    assert "abandoned: its process is gone; a worker takes it over\n" in firmplan("runs").err


def test_a_setting_says_how_long_a_lease_is(firmplan, home, monkeypatch):
    """`FIRMPLAN_LEASE`, or `lease` in the file: whoever drives a run has it in its name, by which others go."""

    def lease_of(run):
        words = ("run", "plan.json", "-i", "a=1", "-t", "tools.py", "--run-id", run)
        assert firmplan(*words).code == 0
        with Engine([], store=home / "firmplan.db") as engine:
            first = next(iter(engine.events_sync(run)))
        return OwnerName.of(first.data["by"]).lease_s

    (home / "firmplan.toml").write_text("lease = 7\n")
    assert lease_of("file") == 7
    monkeypatch.setenv("FIRMPLAN_LEASE", "2.5")
    assert lease_of("variable") == 2.5
    for wrong in ("0", "soon", "nan"):
        monkeypatch.setenv("FIRMPLAN_LEASE", wrong)
        said = firmplan("runs")
        assert (said.code, "'lease' (in the environment)" in said.err) == (2, True)
