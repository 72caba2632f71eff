"""The evidence on planning is what is measured: the page is made by a command, from recordings that are in the repository."""

from __future__ import annotations

import runpy
from pathlib import Path

import firmplan
from forked import run

ROOT = Path(firmplan.__file__).parent


def said_by(words, environment):
    """Return the output of an evaluation, as `scripts/planning.py` has it from a new interpreter."""
    done = run(words, cwd=ROOT / "examples" / "evals" / "recorded", env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_tables_are_what_is_measured():
    """A change that moves a measure changes the page, so that a reviewer sees it; `make docs` makes it again."""
    planning = runpy.run_path(str(ROOT / "scripts" / "planning.py"))
    text = planning["PAGE"].read_text(encoding="utf-8")
    assert planning["page"](text, said_by) == text
