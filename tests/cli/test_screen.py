"""What a terminal is able to show decides how answers are spelled, and nothing else."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
from firmplan.cli import screen
from forked import Program


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_signs_have_others_where_the_encoding_lacks_them(monkeypatch, encoding):
    """Pictures stay pictures, in as many columns; other text is escaped, and what can be written stays."""
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", out)
    screen.answer("1 ●─┴─╯ ◇ ○ ├│ ☃ abc")
    out.seek(0)
    assert out.read() == "1 *-+-' w o +| \\u2603 abc\n"


def test_a_picture_is_drawn_without_unicode(home):
    """`LC_ALL=C firmplan show`: as it is elsewhere, sign by sign."""
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = [sys.executable, "-m", "firmplan", "show", "plan.json", "--tools", "tools.py"]
    shown = [
        subprocess.run(words, cwd=home, env=env, capture_output=True, check=True).stdout.decode()
        for env in (plain, {**os.environ, "PYTHONUTF8": "1"})
    ]
    assert "1 *  total  pure   add(a=inputs.a, b=inputs.b)" in shown[0]
    assert shown[0] == shown[1].replace("●", "*")


def test_a_picture_is_as_wide_as_its_terminal(monkeypatch):
    """No wider, and where there is no terminal as wide as everywhere."""
    monkeypatch.setenv("COLUMNS", "60")
    assert screen.picture_width(Terminal()) == 60
    assert screen.picture_width(io.StringIO()) == screen.PICTURE_WIDTH
    monkeypatch.setenv("COLUMNS", "300")
    assert screen.picture_width(Terminal()) == screen.PICTURE_WIDTH


@pytest.mark.parametrize(
    ("words", "closed"),
    [
        *(
            ("run plan.json -t tools.py -i a=1 --run-id r", closed)
            for closed in (">&-", "2>&-", "<&- >&- 2>&-")
        ),
        ("check plan.json -t tools.py", "<&- >&- 2>&-"),
        ("runs", "<&- >&- 2>&-"),
    ],
)
def test_a_command_works_without_the_streams_that_it_was_not_given(home, closed, words):
    """As a scheduler may start it: what would be said there is lost, and nothing else."""
    line = f"{sys.executable} -m firmplan {words} {closed}"
    done = subprocess.run(
        ["sh", "-c", line],
        check=False,
        cwd=home,
        env={**os.environ, "FIRMPLAN_LOG": "info"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, "error" in done.stdout + done.stderr) == (0, False), done


def test_debug_shows_where_a_tool_failed(home, plan_file):
    """`--debug` is for mistakes in tools too: the traceback, from the tool's own code on."""
    path = plan_file(inputs={}, steps=[{"id": "odd", "tool": "half", "args": {"n": 3}}], output=None)
    with Program(["-m", "firmplan", "run", path, "-t", "tools.py", "--debug"], cwd=home) as done:
        _, said = done.communicate()
    assert done.returncode == 1
    assert 'tools.py", line ' in said
    assert "ValueError: 3 is odd" in said.partition("Traceback (most recent call last):")[2]
