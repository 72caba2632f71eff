"""The page on the engine: its tables are held against the code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import firmplan
from firmplan import Engine
from firmplan.executor import RunStatus

PAGE = (Path(firmplan.__file__).parent / "docs" / "ENGINE.md").read_text(encoding="utf-8")
NOT_IN_THE_TABLE = {"aclose", "replay_run", "submit_fork", "submit_retry"}
"""Methods for `with`, and the parts of `replay` and `fork` that servers need."""


def table(head):
    """Return the first cells of a table's rows, as the names in backquotes that stand in them."""
    rows = PAGE.partition(f"| {head} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [re.findall(r"`(\w+)(?:\(\))?`", row.split("|")[1]) for row in rows]


def test_every_status_is_told():
    """In the order of the contract's words, each once."""
    assert sorted(name for (name,) in table("status")) == sorted(status.value for status in RunStatus)


def test_every_method_is_told_and_has_its_twin():
    """The table names the coroutine methods and the iterator of events, all of them, and each has a `_sync` twin."""
    methods = {
        name
        for name, member in vars(Engine).items()
        if not name.startswith("_")
        and (inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member))
    }
    told = {name for names in table("method") for name in names}
    assert told == methods - NOT_IN_THE_TABLE
    assert all(hasattr(Engine, f"{name}_sync") for name in methods - {"aclose"})
