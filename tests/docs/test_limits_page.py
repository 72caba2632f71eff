"""The page on limits has them all, with their values, and each names a test that holds it."""

from __future__ import annotations

import re
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import firmplan
from firmplan.executor.budget import LIMITS
from firmplan.plans import Limits
from firmplan.service.auth import ServerLimits

ROOT = Path(firmplan.__file__).parent
PAGE = (ROOT / "docs" / "LIMITS.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
ROWS = re.findall(r"^\| `([\w.]+)` \| (\d+) \|", PAGE, re.MULTILINE)


def told_in(section):
    """Return the fields that a section tells, with their values."""
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", SECTIONS[section], re.MULTILINE)
    return {name: int(value) for name, value in rows}


def test_every_limit_that_can_be_raised_is_told_with_its_default():
    for section, limits in (
        ("Limits of plans that can be raised", Limits),
        ("Limits of a server", ServerLimits),
    ):
        bounded = {field.name: field.default for field in fields(limits) if field.default is not None}
        assert told_in(section) == bounded


def test_every_part_of_a_budget_is_told():
    names = re.findall(r"^\| `(\w+)` \|", SECTIONS["Limits of a run"], re.MULTILINE)
    assert names == list(LIMITS)


def test_constants_have_the_values_that_the_page_says():
    constants = {name: int(value) for name, value in ROWS if "." in name}
    assert len(constants) >= 30
    for name, value in constants.items():
        module, constant = name.rsplit(".", 1)
        assert getattr(import_module(f"firmplan.{module}"), constant) == value, name


def test_every_row_names_the_test_that_holds_it():
    """Each line of each table ends with one test, which is there."""
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert len(rows) >= 45
    for row in rows:
        named = re.search(r"\| `(tests/[\w/]+\.py)::(\w+)` \|$", row)
        assert named, row
        assert f"def {named[2]}(" in (ROOT / named[1]).read_text(encoding="utf-8"), row
