"""`firmplan watch`, and the last line of a terminal: how many steps have ended, how long it took, what it cost, what is under way."""

from __future__ import annotations

import json
import os
import pty
import re
import time

import pytest
from firmplan.cli.progress import RunCounts
from firmplan.executor import Event, Run
from firmplan.plans import Plan
from forked import Program, read_terminal

SLOW_TOOLS = '''
import time

from firmplan import Context, tool


@tool(effect="read", resource="shelf")
def read(page: int, *, ctx: Context) -> int:
    """Read a page, and say how far it is."""
    ctx.progress(0.45, f"page {page}\\x1b[2J")
    time.sleep(1.2)
    return page


@tool(effect="write", approval="always", resource="mail")
def send(to: str) -> str:
    """Send a mail."""
    return f"sent to {to}"
'''
PLAN = {
    "firmplan": 1,
    "steps": [
        {"id": "a", "set": 1},
        {"id": "pages", "tool": "read", "for_each": [4], "args": {"page": "${item}"}},
        {"id": "mail", "tool": "send", "args": {"to": "${str(pages) + str(a)}"}},
    ],
    "output": "${mail}",
}


@pytest.fixture
def slow_home(home):
    (home / "slow.py").write_text(SLOW_TOOLS)
    (home / "slow.json").write_text(json.dumps(PLAN))
    return home


def plain_environment(**env):
    kept = {name: os.environ[name] for name in ("PATH", "HOME")}
    return {**kept, "PYTHONUTF8": "1", "TERM": "xterm-256color", "COLUMNS": "100", **env}


def on_terminal(home, *words, **env):
    """Return what a command prints on a terminal, without colours and moves, and its exit code."""
    main, other = pty.openpty()
    with Program(["-m", "firmplan", *words], cwd=home, env=plain_environment(**env), terminal=other) as child:
        os.close(other)
        text = read_terminal(main)
        code = child.wait()
    return re.sub("\x1b\\[[0-9;?]*[A-Za-z]|\r", "", text), code


def test_the_last_line_has_how_far_the_run_is(slow_home):
    """N of m steps, the time that goes on, and the progress that a call reports, its escapes visible."""
    text, code = on_terminal(slow_home, "run", "slow.json", "-t", "slow.py", "--run-id", "r")
    assert code == 4
    lines = re.findall(r"(\d) of 3 steps, (\S+ m?s): pages\[0\] 45% page 4\\x1b\[2J", text)
    assert {count for count, _ in lines} == {"1"}
    assert len({took for _, took in lines}) > 3


def test_the_last_line_fits_a_narrow_terminal(slow_home):
    """It is cut, never broken: a second line would stay on the screen each time it is drawn."""
    main, other = pty.openpty()
    words = ["-m", "firmplan", "run", "slow.json", "-t", "slow.py"]
    with Program(words, cwd=slow_home, env=plain_environment(COLUMNS="30"), terminal=other) as child:
        os.close(other)
        text = read_terminal(main)
        child.wait()
    drawn = [
        re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", part) for part in text.split("\r") if " of 3 steps" in part
    ]
    assert drawn
    assert max(len(part.partition("\n")[0]) for part in drawn) <= 30


def test_watch_shows_a_run_of_another_process(slow_home, firmplan):
    """From its start until it waits, with the outcome and the exit code of `run`; the run is not driven."""
    words = ["-m", "firmplan", "run", "slow.json", "-t", "slow.py", "--run-id", "r"]
    with Program(words, cwd=slow_home, env=plain_environment()) as running:
        until = time.monotonic() + 30
        while firmplan("show", "r", "--json").code != 0:
            assert time.monotonic() < until
        answer = firmplan("watch", "r")
        running.wait(30)
    assert answer.code == 4
    assert re.search(r"run r\ndone a\ndone pages\[0\]  \S+ m?s\n", answer.err), answer.err
    assert "WAIT mail  waits for approval" in answer.err
    assert "firmplan approve r mail" in answer.out
    events = firmplan("show", "r", "--json").document["last_event"]
    again = firmplan("watch", "r", "--json")
    assert (again.code, again.document["status"], again.document["last_event"]) == (4, "waiting", events)


def test_watch_of_an_ended_run_is_its_outcome(firmplan):
    firmplan("run", "plan.json", "-t", "tools.py", "-i", "a=1", "--run-id", "r")
    answer = firmplan("watch", "r")
    assert (answer.code, answer.out) == (0, "3\n")
    assert "done total" in answer.err
    missing = firmplan("watch", "nothing")
    assert (missing.code, "run-not-found" in missing.err) == (2, True)


def test_an_interrupted_watch_changes_nothing(slow_home, firmplan):
    words = ["-m", "firmplan", "run", "slow.json", "-t", "slow.py", "--run-id", "r"]
    with Program(words, cwd=slow_home, env=plain_environment()) as running:
        until = time.monotonic() + 30
        while firmplan("show", "r", "--json").code != 0:
            assert time.monotonic() < until
        with Program(["-m", "firmplan", "watch", "r"], cwd=slow_home, env=plain_environment()) as watching:
            assert watching.stderr.readline() == "run r\n"
            watching.send_signal(2)
            _, said = watching.communicate(30)
            assert watching.returncode == 130
        running.wait(30)
    assert "only watched" in said
    assert "firmplan watch r" in said
    assert firmplan("show", "r", "--json").document["status"] == "waiting"


def event(seq, kind, step="", at=0.0, **data):
    return Event(seq, kind, step, at, data)


def test_the_cost_is_counted_once():
    """The usage of events is added to that of the run as it stood, if the run stood before these events."""
    plan = Plan.model_validate(PLAN)
    usage = {"usd": 0.25, "tokens": 100}
    made = event(3, "CallSucceeded", "pages[0]", usage={"calls": 1, "usd": 0.5, "tokens": 10})
    fresh = RunCounts(Run("r", "queued", plan=plan), 0)
    known = RunCounts(Run("r", "running", plan=plan, usage=usage, last_event=2), 2)
    late = RunCounts(Run("r", "running", plan=plan, usage=usage, last_event=3), 2)
    for counts, line in ((fresh, "0.5 USD"), (known, "0.75 USD"), (late, "0.5 USD")):
        counts.take(made)
        assert line in counts.line(0.0)
    unpriced = RunCounts(Run("r", "queued", plan=plan), 0)
    unpriced.take(event(1, "RunStarted", at=5.0))
    unpriced.take(event(3, "CallSucceeded", "pages[0]", usage={"usd": None, "tokens": 10}))
    assert unpriced.line(7.0) == "0 of 3 steps, 2.0 s, 10 tokens: working"


def test_a_run_without_a_plan_has_no_number():
    counts = RunCounts(Run("r", "queued", task="words"), 0)
    assert counts.line(0.0) == "working"
    counts.take(event(1, "RunStarted", at=1.0))
    counts.take(event(2, "CallStarted", "x[1]", at=1.5))
    assert counts.line(0.0) == "0 ms: x[1]"  # another machine's clock may be ahead
    counts.take(event(3, "RunResumed", at=9.0))
    assert counts.line(10.5) == "1.5 s: working"
