"""Plans to look at: as text for a terminal, as Mermaid, as SVG."""

from __future__ import annotations

from .picture import render

__all__ = ["render"]
