"""The page on limits has them all, with their values."""

from __future__ import annotations

import re
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import firmplan
from firmplan.plans import Limits

PAGE = (Path(firmplan.__file__).parent / "docs" / "LIMITS.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([\w.]+)` \| (\d+) \|", PAGE, re.MULTILINE)


def test_every_limit_that_can_be_raised_is_told_with_its_default():
    told = {name: int(value) for name, value in ROWS if "." not in name}
    assert told == {field.name: field.default for field in fields(Limits)}


def test_constants_have_the_values_that_the_page_says():
    constants = {name: int(value) for name, value in ROWS if "." in name}
    assert len(constants) >= 10
    for name, value in constants.items():
        module, constant = name.rsplit(".", 1)
        assert getattr(import_module(f"firmplan.{module}"), constant) == value, name
