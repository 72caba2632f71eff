"""TRACES.md tells every kind of origin."""

from __future__ import annotations

import re
from pathlib import Path

import firmplan
from firmplan.planner.traces.origins import KINDS

PAGE = (Path(firmplan.__file__).parent / "docs" / "TRACES.md").read_text(encoding="utf-8")


def test_every_kind_of_origin_is_told():
    """The table of origins has every kind, as reports name it, and no other."""
    table = PAGE.partition("| kind |")[2].partition("\n\n")[0]
    told = re.findall(r"^\| ([\w ,]+) \|", table, re.MULTILINE)
    assert sorted(told) == sorted(KINDS.values())
