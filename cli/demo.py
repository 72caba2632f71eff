"""`demo`: the demonstration that is shipped with the package (`examples/licence_audit`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def demo_command(folder: Path | None, flags: Mapping[str, object]) -> int:
    """Show the whole of firmplan on one task; return the exit code."""
    from ..demo.demo import show  # noqa: PLC0415  # loads tools that nothing else needs

    return show(folder, flags)
