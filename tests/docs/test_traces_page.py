"""TRACES.md tells the truth: its files are written, its command is run, and what it says and writes is what the page says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import firmplan
from firmplan.planner.traces.origins import KINDS

PAGE = (Path(firmplan.__file__).parent / "docs" / "TRACES.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)(?: ([\w.]+))?\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_example_runs_as_it_says(tmp_path):
    """The command prints what the page says, and writes the plan that it shows."""
    said = ""
    for kind, name, text in BLOCKS:
        if kind in ("python", "json"):
            (tmp_path / name).write_text(text, encoding="utf-8")
        elif kind == "console":
            command, _, said = text.removeprefix("$ ").partition("\n")
            done = subprocess.run(
                [sys.executable, "-m", *shlex.split(command)],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
            )
            assert (done.returncode, done.stdout) == (0, said), done.stderr
        else:
            assert (tmp_path / name).read_text(encoding="utf-8") == text
    assert said


def test_every_kind_of_origin_is_told():
    """The table of origins has every kind, as reports name it, and no other."""
    table = PAGE.partition("| kind |")[2].partition("\n\n")[0]
    told = re.findall(r"^\| ([\w ,]+) \|", table, re.MULTILINE)
    assert sorted(told) == sorted(KINDS.values())
