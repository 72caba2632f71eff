"""The page on the client: its tables are held against the code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import firmplan
from firmplan import AsyncClient, Client

PAGE = (Path(firmplan.__file__).parent / "docs" / "CLIENT.md").read_text(encoding="utf-8")


def table(head):
    """Return the names in backquotes in the first cells of a table's rows."""
    rows = PAGE.partition(f"| {head} |")[2].partition("\n\n")[0].splitlines()[2:]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_every_method_and_setting_is_told():
    public = {name for name, _ in inspect.getmembers(Client, inspect.isfunction) if not name.startswith("_")}
    assert table("method") == public | {"aclose"}
    assert table("setting") == set(inspect.signature(AsyncClient).parameters)
