"""Every guarantee names a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

import firmplan

ROOT = Path(firmplan.__file__).parent
PAGE = (ROOT / "docs" / "GUARANTEES.md").read_text(encoding="utf-8")


def test_every_row_names_a_test_that_exists():
    """Each line of a table ends with a file of tests, or with one test in it."""
    rows = [
        line
        for line in PAGE.splitlines()
        if line.startswith("| ") and not re.match(r"\| (what holds|fault|---)", line)
    ]
    assert len(rows) > 10
    for row in rows:
        named = re.search(r"\| `(tests/[\w/]+\.py)(?:::(\w+))?` \|$", row)
        assert named, row
        source = (ROOT / named[1]).read_text(encoding="utf-8")
        assert named[2] is None or f"def {named[2]}(" in source, row
