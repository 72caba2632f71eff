"""Where answers go, and that a command which could do nothing does not look as if it had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def two_runs(firmplan):
    for name, number in (("a", 1), ("b", 2)):
        firmplan("run", "plan.json", "-t", "tools.py", "-i", f"a={number}", "--run-id", name)
    return firmplan


DOUBTFUL = '''
from firmplan import OutcomeUnknown, tool


@tool(effect="write", resource="box")
def lose() -> int:
    """Write, and nobody knows."""
    raise OutcomeUnknown("no answer")
'''


def test_a_diff_may_be_written_and_told(two_runs, home):
    """`-o` writes the form that is asked for and says where; `--json` prints its document as ever."""
    written = two_runs("diff", "a", "b", "--format", "html", "-o", "d.html")
    assert (written.code, written.out, written.err) == (0, "", "written to d.html\n")
    both = two_runs("diff", "a", "b", "--format", "html", "-o", "d.html", "--json")
    assert both.document["same"] is False
    assert (home / "d.html").read_text().startswith("<!doctype html>")
    two_runs("diff", "a", "b", "--format", "json", "-o", "d.json")
    assert json.loads((home / "d.json").read_text())["a"] == "a"


def test_verify_without_tools_is_no_success(two_runs):
    """Nothing was called again: exit code 2, with what to do."""
    for words in ((), ("--json",)):
        answer = two_runs("verify", "a", *words)
        assert answer.code == 2
        assert "name them with --tools" in answer.err
    assert two_runs("verify", "a", "-t", "tools.py").code == 0


def test_resume_without_tools_says_what_to_do(firmplan, plan_file):
    """The tool that is missing, and how tools are named."""
    path = plan_file(inputs={}, steps=[{"id": "m", "tool": "send", "args": {"to": "me"}}], output=None)
    firmplan("run", path, "-t", "tools.py", "--run-id", "r")
    firmplan("approve", "r", "m", "--by", "me")
    answer = firmplan("resume", "r")
    assert answer.code == 2
    assert "uses the tool 'send'" in answer.err
    assert "name them with --tools" in answer.err


def test_a_replay_of_nothing_names_both_that_it_could_be(firmplan):
    """A run's id or a bundle's file."""
    answer = firmplan("replay", "nope.bundle")
    assert answer.code == 2
    assert "expected a run's id or a bundle's file, found neither under 'nope.bundle'" in answer.err


SETTINGS = {
    'concurrency = "x"': """setting 'concurrency' (in {file}): expected integer, found "x\"""",
    "concurrency = 0": "setting 'concurrency' (in {file}): expected a number of at least 1, found 0",
    'stoer = "x"': "unknown setting 'stoer' (in {file}); did you mean 'store'?",
    "tools = [1]": "setting 'tools[0]' (in {file}): expected text, found 1",
    'flow = "enforec"': "found \"enforec\"; did you mean 'enforce'?",
    "[planner]\ntiemout = 3": "unknown setting 'planner.tiemout' (in {file}); did you mean 'timeout'?",
    "[planner]\ntimeout = -3": "setting 'planner.timeout' (in {file}): expected a number above 0, found -3",
}


@pytest.mark.parametrize("text", SETTINGS)
def test_a_wrong_setting_is_told_in_our_words(firmplan, home, text):
    """Expected, found, where; nothing of the words of the library that reads settings."""
    (home / "firmplan.toml").write_text(text)
    answer = firmplan("runs")
    assert answer.code == 2
    assert SETTINGS[text].format(file=home / "firmplan.toml") in answer.err
    assert "Input should" not in answer.err


def test_values_of_options_are_told_in_our_words(two_runs):
    """A budget that is no number, JSON that is none, a number out of its range."""
    budget = two_runs("run", "plan.json", "-t", "tools.py", "-i", "a=1", "--budget", "steps=x")
    assert "--budget steps: expected a number, found 'x'" in budget.err
    value = two_runs("fork", "a", "-t", "tools.py", "--set", "total=x")
    assert "--set total: expected JSON, found 'x'; text needs quotes: \"x\" [" in value.err
    limit = two_runs("runs", "--limit", "0")
    assert limit.code == 2
    assert "expected a number greater than or equal to 1" in limit.err
    assert "'--limit' / '-n': expected an integer\n" in two_runs("runs", "-n", "x").err
    assert "'--rate': expected a number\n" in two_runs("serve", "--rate", "x").err
    assert "'--format' / '-f': 'bogus' is not one of 'text'" in two_runs("show", "a", "-f", "bogus").err


ANSWERING = (
    ("show", "a"),
    ("show", "a", "--json"),
    ("runs", "--help"),
    ("--version",),
    ("nonsense", "--json"),
    ("demo", "--folder", "demo"),
)
"""Command lines whose answer goes to stdout by each of the ways there are: text, document, typer's, an error's, rich's."""
BUFFERING = pytest.mark.parametrize(
    ("answering", "environment"),
    [(ANSWERING, {}), (ANSWERING[:2], {"PYTHONUNBUFFERED": "1"})],
    ids=["buffered", "unbuffered"],
)


def run_writing_to(stdout, home, words, **environment):
    """Run a command line in an environment that says nothing, but for what is given."""
    return subprocess.run(
        [sys.executable, "-m", "firmplan", *words],
        check=False,
        cwd=home,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **environment},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


@BUFFERING
def test_a_full_disk_behind_stdout_is_one_message(two_runs, home, answering, environment):
    """What cannot be written, and exit code 1: no traceback, and nothing of Python's own while it ends."""
    with Path("/dev/full").open("w") as full:
        for words in answering:
            done = run_writing_to(full, home, words, **environment)
            assert done.stderr == "error: the output cannot be written: No space left on device\n", words
            assert done.returncode == 1, words


@BUFFERING
def test_a_closed_pipe_is_no_message(two_runs, home, answering, environment):
    """`firmplan show a | head -0`: who reads has read enough, so nothing is told, and the exit code is 1."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as unread:
        for words in answering:
            done = run_writing_to(unread, home, words, **environment)
            assert done.stderr == "", words
            assert done.returncode == 1, words


def test_what_a_tool_prints_onto_a_full_disk_is_told(firmplan, home):
    """The tool's text waits in a buffer until the command ends; that it is lost is no success."""
    (home / "loud.py").write_text(
        "from firmplan import tool\n\n\n@tool(effect='pure')\n"
        'def loud() -> int:\n    """Print."""\n    print(\'loud\')\n    return 1\n'
    )
    plan = {"firmplan": 1, "steps": [{"id": "a", "tool": "loud", "args": {}}]}
    (home / "loud.json").write_text(json.dumps(plan))
    with Path("/dev/full").open("w") as full:
        done = run_writing_to(full, home, ("run", "loud.json", "-t", "loud.py"))
    assert "succeeded" in done.stderr
    assert done.stderr.endswith("error: the output cannot be written: No space left on device\n")
    assert "Exception ignored" not in done.stderr
    assert done.returncode == 1


# declared type, what is written, and the value or words of the message
WRITTEN = [
    ({"type": "integer"}, "4.0", 4),
    ({"type": ["integer", "null"]}, "null", None),
    ({"type": ["string", "null"]}, "null", "null"),
    ({"enum": ["1", 2]}, "2", 2),
    ({"enum": ["1", 2]}, "1", "1"),
    ({"$ref": "#/types/T"}, "7", 7),
    ({"type": "string"}, "a=b", "a=b"),
    ({}, "abc", "abc"),
    ({"type": "boolean"}, "yes", "--input v: expected boolean, found 'yes', which is not JSON ["),
    (
        {"type": "array", "items": {"type": "string"}},
        "a,b",
        "expected list of text, found 'a,b', which is not JSON [",
    ),
    ({"type": "integer"}, "9" * 20, "an integer past 64 bits"),
    (
        {"type": "string", "minLength": 5},
        "ab",
        '--input v: expected text of at least 5 characters, found "ab" [',
    ),
    (
        {"type": "string", "minLength": 5},
        "42",
        '--input v: expected text of at least 5 characters, found "42" [',
    ),
    ({"enum": ["left", "right"]}, "lft", "found \"lft\"; did you mean 'left'?"),
    ({"type": "integer", "minimum": 3}, "1", "--input v: expected a number of at least 3, found 1 ["),
]


@pytest.mark.parametrize(("schema", "text", "expected"), WRITTEN)
def test_an_input_is_read_by_its_type_and_told_by_it(firmplan, plan_file, schema, text, expected):
    """Text where the type takes it as it is, else JSON; a misfit is told in the words of types, never as a schema."""
    path = plan_file(
        types={"T": {"type": "integer"}}, inputs={"v": schema}, steps=[], output="${inputs.v}", task=None
    )
    answer = firmplan("run", path, "-i", f"v={text}", "--json")
    if answer.code == 0:
        assert answer.document["output"] == expected
        assert type(answer.document["output"]) is type(expected)
    else:
        told = firmplan("run", path, "-i", f"v={text}").err
        assert answer.code == 2
        assert expected in told
        assert "{" not in told


def test_the_name_of_a_run_is_no_task(two_runs):
    """Who runs a run is told what there is to do with one."""
    answer = two_runs("run", "a", "-t", "tools.py")
    assert answer.code == 2
    assert "found 'a', which is a run: `firmplan resume a` goes on with it" in answer.err


def test_a_run_that_is_there_already_is_not_shown_as_if_it_ran_again(firmplan, plan_file):
    """The same name again: what happened before is not told as progress, and the answer says that nothing was run."""
    words = ("run", "plan.json", "-t", "tools.py", "-i", "a=1", "--run-id", "r")
    first, again = firmplan(*words), firmplan(*words)
    assert "done total" in first.err
    assert "done total" not in again.err
    assert "run r has ended before and is not repeated" in again.err
    assert again.out == first.out
    path = plan_file(inputs={}, steps=[{"id": "m", "tool": "send", "args": {"to": "me"}}], output=None)
    waits = ("run", path, "-t", "tools.py", "--run-id", "w")
    firmplan(*waits)
    told = firmplan(*waits)
    assert (told.code, "run w exists already (waiting) and is continued" in told.err) == (4, True)


def test_a_budget_that_is_used_up_says_what_was_used(firmplan, plan_file):
    """Spelled as `--budget` takes it, so that a larger one can be named."""
    path = plan_file(
        inputs={},
        steps=[{"id": "s", "tool": "half", "for_each": [2, 4, 6], "args": {"n": "${item}"}}],
        output=None,
    )
    answer = firmplan("run", path, "-t", "tools.py", "--budget", "steps=2")
    assert answer.code == 4
    assert "the budget is used up (so far steps=2, seconds=" in answer.out


def test_a_denial_without_a_reason_says_who_denied(firmplan, plan_file):
    """No colon with nothing behind it."""
    path = plan_file(
        inputs={}, steps=[{"id": "m", "tool": "send", "args": {"to": "me"}}], output=None, task=None
    )
    firmplan("run", path, "-t", "tools.py", "--run-id", "r")
    firmplan("deny", "r", "m", "--by", "me")
    assert "error: step 'm' was denied by me\n" in firmplan("resume", "r", "-t", "tools.py").err


def test_a_cancel_says_what_is_open_all_the_same(firmplan, plan_file, tmp_path):
    """A write of unknown outcome is not forgotten: a resume alone would not end the run."""
    (tmp_path / "doubtful.py").write_text(DOUBTFUL)
    path = plan_file(inputs={}, steps=[{"id": "m", "tool": "lose", "args": {}}], output=None, task=None)
    firmplan("run", path, "-t", "doubtful.py", "--run-id", "r")
    cancelled = firmplan("cancel", "r")
    assert "no further calls start; the outcome of one call is unknown" in cancelled.out
    assert "step 'm', attempt 1: it is unknown whether the call took effect" in cancelled.out
    assert "firmplan resolve r m --done JSON --attempt 1" in cancelled.out
    assert "resolved; run r has failed" in firmplan("resolve", "r", "m", "--fail", "it did nothing").out


def test_a_run_of_a_plan_that_leaves_something_out_says_so(firmplan, home):
    """`run` and `show` say it below the status, on one line without control characters; `show PLAN` shows it too."""
    plan = json.loads((home / "plan.json").read_text())
    (home / "less.json").write_text(json.dumps({**plan, "left_out": ["mail: no address\x1b[2J\nis named"]}))
    ran = firmplan("run", "less.json", "-t", "tools.py", "-i", "a=1", "--run-id", "less")
    assert ran.code == 0
    assert "left out: mail: no address" in ran.err
    shown = firmplan("show", "less")
    assert "left out: mail: no address" in shown.out
    assert "left out  mail: no address" in firmplan("show", "less.json").out
    assert "\x1b" not in ran.err + shown.out
    assert firmplan("show", "less", "--json").document["left_out"] == ["mail: no address\x1b[2J\nis named"]


FRAMES = '''
import pandas as pd

from firmplan import tool


@tool(effect="pure")
def table(n: int) -> pd.DataFrame:
    """Number rows."""
    return pd.DataFrame({"a": range(n)})
'''


def test_a_frame_in_the_output_is_shown_by_its_size(firmplan, home, plan_file):
    """Not by what stands for it in the journal; its first rows come below."""
    (home / "frames.py").write_text(FRAMES)
    path = plan_file(
        inputs={}, steps=[{"id": "t", "tool": "table", "args": {"n": 2}}], output={"it": "${t}", "n": 1}
    )
    firmplan("run", path, "-t", "frames.py", "--run-id", "r")
    shown = firmplan("show", "r").out
    assert 'output: {\n  "it": "2 rows of a int64",\n  "n": 1\n}' in shown
    assert "it: 2 rows of a int64\na (int64)\n0\n1\n" in shown
