"""The tables of PLANNING.md are what its command measures now."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import firmplan
import pytest

ROOT = Path(firmplan.__file__).parent
PAGE = (ROOT / "docs" / "PLANNING.md").read_text(encoding="utf-8")
TOLERANCE = 0.1
"""Share by which a number of tokens may differ, so that a changed word of a prompt needs no new page."""


@pytest.fixture(scope="module")
def measured():
    """The tables as the command makes them."""
    spec = importlib.util.spec_from_file_location("planning_script", ROOT / "scripts" / "planning.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script.tables()


def cells(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


@pytest.mark.parametrize("name", ["quality", "cost", "size"])
def test_a_table_is_what_is_measured(measured, name):
    """Shares and names are equal, tokens nearly so."""
    shown = cells(re.search(rf"<!-- {name} -->\n(.*?)\n<!-- end -->", PAGE, re.DOTALL)[1])
    made = cells(measured[name])
    assert [len(row) for row in shown] == [len(row) for row in made]
    for ours, theirs in zip(shown, made, strict=True):
        for cell, other in zip(ours, theirs, strict=True):
            if re.fullmatch(r"[\d.]+", cell) and re.fullmatch(r"[\d.]+", other):
                assert float(cell) == pytest.approx(float(other), rel=TOLERANCE), "run scripts/planning.py"
            else:
                assert cell == other, "run scripts/planning.py"


def test_every_test_that_the_page_names_is_there():
    named = re.findall(r"`(tests/[\w/]+\.py)`", PAGE)
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []
