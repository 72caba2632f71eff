"""The tables of TESTING.md are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import firmplan

PAGE = (Path(firmplan.__file__).parent / "docs" / "TESTING.md").read_text(encoding="utf-8")


def test_the_table_of_keys_is_that_of_the_code():
    """Every key of a case is on the page, and no other."""
    from firmplan.testing.assertions import EXPECT_KEYS, STEP_KEYS
    from firmplan.testing.golden import CASE_SCHEMA

    table = PAGE.partition("| key | means |")[2].partition("\n\n")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == tuple(CASE_SCHEMA["properties"])
    expect = table.partition("| `expect` |")[2]
    assert all(f"`{name}`" in expect for name in EXPECT_KEYS)
    assert all(f"`{name}`" in PAGE for name in STEP_KEYS)
