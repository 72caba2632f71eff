"""The page on stores tells what the code does: defaults, tables, versions, times."""

from __future__ import annotations

import re
from pathlib import Path

import firmplan
from firmplan.executor.calls.lease import BEATS
from firmplan.executor.limits import LEASE_S
from firmplan.executor.stores.location import open_location
from firmplan.executor.stores.postgres_connection import DEFAULTS, SERVER_MIN

PAGE = (Path(firmplan.__file__).parent / "docs" / "STORES.md").read_text(encoding="utf-8")


def test_each_kind_of_store_is_one_that_can_be_named():
    """Every spelling of the table's first column."""
    rows = PAGE.partition("| store |")[2].partition("\n\n")[0].splitlines()[2:]
    spellings = [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert len(spellings) == 4
    for spelling in spellings:
        assert open_location(spelling).store.name


def test_the_defaults_of_a_url_are_those_of_the_code():
    """Names and numbers; milliseconds stand there as seconds."""
    rows = PAGE.partition("| parameter |")[2].partition("\n\n")[0].splitlines()[2:]
    told = {}
    for row in rows:
        names, values = (re.findall(r"[\w.]+", cell.replace(" s", "")) for cell in row.split("|")[1:3])
        told |= dict(zip(names, values, strict=True))
    told["tcp_user_timeout"] += "000"
    assert told == DEFAULTS


def test_versions_and_times_are_those_of_the_code():
    """The oldest server, the beat and the lease."""
    assert f"PostgreSQL {SERVER_MIN // 10000} or newer" in PAGE
    assert f"every {LEASE_S / BEATS:.0f} seconds" in PAGE
    assert f"stand still for {LEASE_S:.0f} seconds" in PAGE
