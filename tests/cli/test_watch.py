"""`firmplan watch`, and the last line of a terminal: how many steps have ended, how long it took, what it cost, what is under way."""

from __future__ import annotations

import json
import os
import pty
import re
import time

import pytest
from firmplan.cli import screen
from firmplan.cli.progress import RunCounts
from firmplan.executor import Event, Run, StepView
from firmplan.plans import Plan
from firmplan.testing import ScriptedModel
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
    assert unpriced.line(7.0) == "0 of 3 steps, 2.0 s, 10 tokens"


def test_a_run_without_a_plan_has_no_number():
    counts = RunCounts(Run("r", "queued", task="words"), 0)
    assert counts.line(0.0) == "planning"
    counts.take(event(1, "RunStarted", at=1.0))
    counts.take(event(2, "CallStarted", "x[1]", at=1.5))
    assert counts.line(0.0) == "0 ms: x[1]"  # another machine's clock may be ahead
    counts.take(event(3, "RunResumed", at=9.0))
    assert counts.line(10.5) == "1.5 s"


def long_list(ended, failed, length=500):
    """Return the counts of a run with a list under way."""
    steps = {"a": StepView("succeeded")} | {f"pages[{n}]": StepView("pending") for n in range(length)}
    counts = RunCounts(Run("r", "running", plan=Plan.model_validate(PLAN), steps=steps), 0)
    counts.take(event(1, "RunStarted", at=0.0))
    for number in range(ended):
        if counts.lacks_length_of(f"pages[{number}]"):
            counts.know(Run("r", "running", plan=Plan.model_validate(PLAN), steps=steps))
        counts.take(event(2, "CallStarted", f"pages[{number}]", at=0.0))
        kind = "StepFailed" if number in failed else "CallSucceeded"
        counts.take(event(3, kind, f"pages[{number}]", code="c", message="m"))
    return counts


def test_the_items_of_a_long_list_are_counted():
    """One part of the last line for all of them; a short list has its items, and at the end of the list nothing of it stays."""
    counts = long_list(312, (3, 7))
    assert counts.line(4.2) == "0 of 3 steps, 4.2 s: pages 312/500, 2 failed"
    counts.take(event(4, "CallStarted", "pages[400]", at=1.0))
    counts.take(event(5, "CallFailed", "pages[400]", code="tool-error", message="busy"))
    counts.take(event(6, "RetryScheduled", "pages[400]", attempt=2, delay_s=0.5))
    assert counts.line(4.2).endswith(": pages 312/500, 2 failed, 1 tried again")
    for number in range(312, 500):
        counts.take(event(7, "CallSucceeded", f"pages[{number}]"))
    counts.take(event(8, "StepSucceeded", "pages"))
    assert counts.line(4.2) == "1 of 3 steps, 4.2 s"
    short = long_list(3, (), length=4)
    short.take(event(4, "CallStarted", "pages[3]", at=1.0))
    assert short.line(1.0) == "0 of 3 steps, 1.0 s: pages[3]"


def test_no_line_names_a_call_that_has_ended():
    """After a failure, a skip, a question, an unknown outcome and the end of the run: nothing is under way."""
    for kind in (
        "StepFailed",
        "StepSkipped",
        "StepCancelled",
        "CallReused",
        "StepSucceeded",
        "RunFinished",
        "RunParked",
    ):
        counts = RunCounts(Run("r", "running", plan=Plan.model_validate(PLAN)), 0)
        counts.take(event(1, "RunStarted", at=0.0))
        counts.take(event(2, "CallStarted", "mail", at=0.0))
        assert counts.line(1.0).endswith(": mail")
        counts.take(event(3, kind, "mail" if kind.startswith(("Step", "Call")) else ""))
        assert ":" not in counts.line(1.0), kind
    for kind in ("ApprovalAsked", "StepIndeterminate", "BudgetReached"):
        counts.take(event(2, "CallStarted", "mail", at=0.0))
        counts.take(event(3, kind, "mail"))
        assert counts.line(1.0).endswith(": waits for 1 decision"), kind


FLAKY = '''
from firmplan import Context, ToolError, tool


@tool(effect="read", retries=1)
async def read(n: int, *, ctx: Context) -> int:
    """Read a page."""
    if n == 5 and ctx.attempt == 1:
        raise ToolError("busy, come again", temporary=True)
    if n % 20 == 7:
        raise ValueError(f"no page {n}")
    return n
'''


def test_a_run_of_many_items_says_what_went_wrong(home, firmplan):
    """Progress has the failures and the counts, `show` why it was tried again, `show --failed` the failed items alone."""
    (home / "flaky.py").write_text(FLAKY)
    steps = [{"id": "few", "tool": "read", "args": {"n": 5}}]
    steps += [
        {"id": "many", "tool": "read", "for_each": "${range(30)}", "args": {"n": "${item}"}, "after": ["few"]}
    ]
    (home / "many.json").write_text(json.dumps({"firmplan": 1, "steps": steps, "output": "${many}"}))
    said = firmplan("run", "many.json", "-t", "flaky.py", "--run-id", "r").err
    assert re.search(r"again few  attempt 2 follows in \S+ m?s: tool-error: busy, come again\n", said), said
    assert "done many[" not in said
    assert re.search(r"FAILED many\[7\]  tool-error: ValueError: no page 7", said), said
    assert "FAILED many  30/30 items, 2 failed, 1 tried again\n" in said
    shown = firmplan("show", "r").out
    assert "few: attempt 1 failed: tool-error: busy, come again" in shown
    failed = firmplan("show", "r", "--failed").out
    assert [line.split()[0] for line in failed.splitlines()[-3:]] == ["many", "many[7]", "many[27]"]
    assert list(firmplan("show", "r", "--failed", "--json").document["steps"]) == [
        "many",
        "many[7]",
        "many[27]",
    ]


@pytest.mark.parametrize(("typed", "status", "code"), [("y\n", "succeeded", 0), ("\n", "cancelled", 1)])
def test_a_person_sees_the_plan_of_a_task_first(home, firmplan, monkeypatch, typed, status, code):
    """On a terminal the plan is shown before it runs; only a yes lets it run, and the run keeps what the planning cost."""

    async def ask(question):
        assert question == "run this plan? [y/N] "
        return typed == "y\n"

    monkeypatch.setattr(screen, "ask", ask)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    made = {
        "firmplan": 1,
        "task": "Add two numbers",
        "steps": [{"id": "sums", "tool": "add", "args": {"a": 1, "b": 2}}],
        "output": "${sums}",
    }
    with ScriptedModel([made]) as model:
        endpoint = ("--model", "m", "--base-url", model.base_url)
        ran = firmplan("run", "Add two numbers", "--tools", "tools.py", *endpoint, "--run-id", "r")
    assert ran.code == code, ran.err
    assert "add(a=1, b=2)" in ran.err
    kept = firmplan("show", "r", "--json").document
    assert (kept["status"], kept["usage"]["planning"]["model_calls"]) == (status, 1)
    assert kept["usage"]["calls"] == (1 if code == 0 else 0)
