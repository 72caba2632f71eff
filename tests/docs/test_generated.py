"""The generated pages of the docs say what the code says today."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import firmplan

ROOT = Path(firmplan.__file__).parent


def test_generated_pages_are_up_to_date():
    """`make docs` would change nothing."""
    words = [sys.executable, str(ROOT / "scripts" / "docs.py"), "--check"]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_architecture_is_short():
    """The architecture page stays one that is read: under 200 lines."""
    assert len((ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines()) < 200


def test_architecture_names_modules_that_exist():
    """Every module that the architecture page names is in the rooms."""
    page = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    paths = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py") if ".venv" not in path.parts]
    named = set(re.findall(r"`([\w/]+\.py)`", page))
    assert [name for name in named if not any(f"/{path}".endswith(f"/{name}") for path in paths)] == []
