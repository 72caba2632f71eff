"""The evidence on planning is what is measured: the page is made by a command, from recordings that are in the repository."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import firmplan

ROOT = Path(firmplan.__file__).parent


def test_the_tables_are_what_is_measured():
    """A change that moves a measure changes the page, so that a reviewer sees it."""
    words = [sys.executable, str(ROOT / "scripts" / "planning.py"), "--check"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
