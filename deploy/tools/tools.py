"""The tools of the server: replace them by yours. `firmplan.toml` beside this file holds further settings."""

from __future__ import annotations

from firmplan import tool


@tool(effect="pure")
def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b
