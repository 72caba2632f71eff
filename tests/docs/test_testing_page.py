"""TESTING.md tells the truth: its files are written, its commands run in order, and they say what the page says."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import firmplan
from forked import Program

PAGE = (Path(firmplan.__file__).parent / "docs" / "TESTING.md").read_text(encoding="utf-8")
# Quicker, and the output is the same; the forked process has loaded firmplan before pytest could rewrite its assertions.
PLAIN = "-p no:cacheprovider -p no:hypothesispytest -p no:xdist -p no:timeout -W ignore::pytest.PytestAssertRewriteWarning"
BLOCKS = re.findall(r"^```([^\n]*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def settled(text: str) -> list[str]:
    """Return lines without what differs from run to run."""
    lines = re.sub(r"\d+\.\d+s", "0.00s", text).splitlines()
    return [re.sub(r"; seconds .*", "", line).rstrip() for line in lines]


def run(command: str, folder: Path) -> list[str]:
    """Run a command of the page in a user's environment: none of ours, and not on a CI machine, where pytest shortens nothing."""
    ours = ("FIRMPLAN_", "PYTEST_")
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(ours) and name not in {"CI", "BUILD_NUMBER"}
    }
    env |= {"PYTHONPATH": str(folder), "PYTEST_ADDOPTS": PLAIN, "COLUMNS": "80"}
    words, _, file = command.strip().partition(" > ")
    with Program(["-m", *shlex.split(words)], cwd=folder, env=env) as program:
        said, _ = program.communicate()
    if file:
        (folder / file).write_text(said, encoding="utf-8")
    return [] if file else settled(said)


def test_the_page_runs_as_it_says(tmp_path):
    """Blocks with a file's name are written there, commands are run, and their output is that of the page."""
    for info, text in BLOCKS:
        kind, _, name = info.partition(" ")
        if kind != "console":
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf-8")
            continue
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            assert run(command, tmp_path) == settled(expected), command
        if "test_plan.py" in PAGE and not (tmp_path / ".tested").exists():
            (tmp_path / ".tested").touch()
            assert "2 passed" in "\n".join(run("pytest -q test_plan.py", tmp_path))


def test_the_table_of_keys_is_that_of_the_code():
    """Every key of a case is on the page, and no other."""
    from firmplan.testing.assertions import EXPECT_KEYS, STEP_KEYS
    from firmplan.testing.golden import CASE_SCHEMA

    table = PAGE.partition("| key | means |")[2].partition("\n\n")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == tuple(CASE_SCHEMA["properties"])
    expect = table.partition("| `expect` |")[2]
    assert all(f"`{name}`" in expect for name in EXPECT_KEYS)
    assert all(f"`{name}`" in PAGE for name in STEP_KEYS)
