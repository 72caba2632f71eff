"""Every guarantee, and everything that the threat model says holds, names a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

import firmplan
import pytest

ROOT = Path(firmplan.__file__).parent
HEADS = {"GUARANTEES.md": r"\| (what holds|fault) .*\|", "SECURITY.md": r"\| what holds \| the test \|"}


@pytest.mark.parametrize("page", HEADS)
def test_every_row_names_a_test_that_exists(page):
    """Each line of a table of promises ends with a file of tests, or with one test in it."""
    rows, is_promised = [], False
    for line in (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            is_promised = False
        elif re.fullmatch(HEADS[page], line):
            is_promised = True
        elif is_promised and not line.startswith("| ---"):
            rows.append(line)
    assert len(rows) > 30
    for row in rows:
        named = re.search(r"\| `(tests/[\w/]+\.py)(?:::(\w+))?` \|$", row)
        assert named, row
        source = (ROOT / named[1]).read_text(encoding="utf-8")
        assert named[2] is None or f"def {named[2]}(" in source, row
