"""`demo`: hands over to the demonstration, which is the licence audit of the examples, shipped as `firmplan.demo`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..demo.demo import show


def demo_command(folder: Path | None, flags: Mapping[str, object]) -> int:
    """Show the whole of firmplan on one task; return the exit code."""
    return show(folder, flags)
