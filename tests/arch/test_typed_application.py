"""An application whose types are known from end to end: it runs, both type checkers pass it, and they find each mistake in the file beside it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import date
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from firmplan import Engine

HERE = Path(__file__).parent / "typed_application"
ROOT = Path(__file__).parents[2]


def lines_with_errors(said: str) -> dict[str, set[int]]:
    """Return the lines of each file that a checker reports, from lines such as `misuse.py:15: error:` or `/x/misuse.py:15:11 - error:`."""
    found: dict[str, set[int]] = {}
    for name, line in re.findall(r"(briefing|misuse)\.py:(\d+)(?::\d+)?(?: -|:) error", said):
        found.setdefault(name, set()).add(int(line))
    return found


def test_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its references are values to a type checker only."""
    spec = spec_from_file_location("briefing", HERE / "briefing.py")
    assert spec is not None
    assert spec.loader is not None
    briefing = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "briefing", briefing)
    spec.loader.exec_module(briefing)
    with Engine([briefing.search, briefing.longest, briefing.shout], store="memory:") as engine:
        said = briefing.brief_sync(engine, briefing.Topic("bees", date(2026, 1, 1)))
    assert said == "BEES 2: bees 1, bees 2 (200 words)"


def test_both_checkers_pass_it_and_find_each_mistake() -> None:
    """One run of each over both files; with the cache of `make check` it takes seconds."""
    pytest.importorskip("mypy")
    pytest.importorskip("pyright")
    files = [str(HERE / name) for name in ("briefing.py", "misuse.py")]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "scripts/typecheck", *files],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
    )
    mypy, _, pyright = done.stdout.partition("source files)")
    wrong = {
        number
        for number, line in enumerate((HERE / "misuse.py").read_text(encoding="utf-8").splitlines(), 1)
        if "# wrong:" in line
    }
    for said in (mypy, pyright):
        assert lines_with_errors(said) == {"misuse": wrong}, done.stdout + done.stderr
