"""Every recipe for extending firmplan works: it is carried out in a copy of the package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import firmplan
import pytest

ROOT = Path(firmplan.__file__).parent
PAGE = (ROOT / "docs" / "RECIPES.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
FOLDERS = ("plans", "tools", "executor", "planner", "service", "cli", "testing")
PART = re.compile(
    r'^In `(?P<file>[\w/]+\.py)`|^```python (?P<how>\w+)(?: "(?P<where>[^\n]+)")?\n(?P<code>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_works(name, tmp_path):
    """Its blocks go where it says, one place each; its last block runs."""
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tmp_path / "firmplan" / folder)  # compiled files included
    for file in ROOT.glob("*.py"):
        shutil.copy2(file, tmp_path / "firmplan")
    target, ran = None, 0
    for part in PART.finditer(RECIPES[name]):
        if part["file"]:
            target = tmp_path / "firmplan" / part["file"]
        elif part["how"] == "run":
            run(part["code"], tmp_path)
            ran += 1
        else:
            insert(target, part["how"], part["where"].replace('\\"', '"'), part["code"])
    assert ran == 1


def insert(path, how, where, code):
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    (at,) = [number for number, line in enumerate(lines) if line.rstrip("\n") == where]
    first, last = {"before": (at, at), "after": (at + 1, at + 1), "replace": (at, at + 1)}[how]
    lines[first:last] = [code]
    path.write_text("".join(lines), encoding="utf-8")


def run(code, folder):
    env = {**os.environ, "PYTHONPATH": str(folder)}
    code += "\nimport firmplan\nprint(firmplan.__file__)\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(str(folder)), "the copy is what ran"
