"""The README tells the truth: its code is run, and its output is compared to the letter."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import firmplan
import pytest
from firmplan.testing import ScriptedModel

ROOT = Path(firmplan.__file__).parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
FIRST_SCREEN_LINES = 60

DEARER = {
    "firmplan": 1,
    "steps": [
        {"id": "tea", "tool": "price", "args": {"item": "tea"}},
        {"id": "milk", "tool": "price", "args": {"item": "milk"}},
        {"id": "more", "set": "${round(tea - milk, 2)}"},
    ],
    "output": "${more}",
}
"""What the model of the README's second task writes."""


def test_every_block_is_of_a_kind_that_is_run():
    """Python and console blocks are run, text blocks are compared, sh blocks are recipes of the Makefile."""
    assert {kind for kind, _ in BLOCKS} <= {"python", "text", "console", "sh"}


def test_python_blocks_print_what_the_readme_says(tmp_path, monkeypatch):
    """All Python blocks, in order, in one program; each prints exactly the text block that follows it."""
    monkeypatch.chdir(tmp_path)
    said, namespace = [], {"__name__": "readme"}
    with ScriptedModel([DEARER]) as model:
        monkeypatch.setenv("FIRMPLAN_BASE_URL", model.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "any")
        for kind, text in BLOCKS:
            if kind == "python":
                said.append(printed(text, namespace))
    assert said == [text for kind, text in BLOCKS if kind == "text"]


def printed(source, namespace):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(source, "README.md", "exec"), namespace)
    return out.getvalue()


@pytest.mark.parametrize("block", [text for kind, text in BLOCKS if kind == "console"])
def test_console_blocks_print_what_the_readme_says(block, tmp_path):
    """Every command after `$`, in order, prints what stands below it."""
    shutil.copytree(
        ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("*.db*", "__pycache__")
    )
    commands = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
    script = "\n".join(f"printf '%s\\n' {shlex.quote('$ ' + command)}\n{command}" for command in commands)
    env = {key: value for key, value in os.environ.items() if not key.startswith("FIRMPLAN_")}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    done = subprocess.run(
        ["sh", "-ec", script], check=False, cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert (done.stdout, done.returncode) == (block, 0), done.stderr


def test_make_commands_are_recipes():
    """What the README tells to make is there to be made, and stands on its first screen."""
    recipes = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = re.findall(r"make (\w+)", "".join(text for kind, text in BLOCKS if kind == "sh"))
    assert named == ["demo", "test"]
    assert set(re.findall(r"`make (\w+)`", README)) | set(named) <= set(recipes)
    first_screen = "\n".join(README.splitlines()[:FIRST_SCREEN_LINES])
    assert "make demo" in first_screen
    assert "make test" in first_screen


def test_first_plan_is_short():
    """The first screen's plan, with its tool and its run, takes fewer than 15 lines."""
    first = next(text for kind, text in BLOCKS if kind == "python")
    assert len([line for line in first.splitlines() if line.strip()]) < 15


def test_links_lead_somewhere():
    """Every relative link of the README and of the docs names a file."""
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
        assert [target for target in targets if not (page.parent / target).exists()] == [], page.name


def test_commands_exist():
    """Every command that a README or a page tells to type is one of the command line's."""
    known = re.findall(
        r"^## (\w+)$", (ROOT / "docs" / "COMMANDS.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    for page in [
        ROOT / "README.md",
        *(ROOT / "examples").glob("*/README.md"),
        *(ROOT / "docs").rglob("*.md"),
    ]:
        typed = re.findall(
            r"^(?:    |\$ )firmplan (\w+)|`firmplan (\w+)", page.read_text(encoding="utf-8"), re.MULTILINE
        )
        assert {first or second for first, second in typed} <= set(known), page
