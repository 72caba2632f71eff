"""Pictures of a plan: as text for a terminal, as Mermaid, as SVG, and as JSON for programs that draw it themselves.

All draw one model, `picture.Picture`, so that they agree. The folder knows the plan value and the survey of the check; it does not know runs.
Begin with `picture.py`.
"""

from __future__ import annotations

from .document import graph_of
from .picture import render

__all__ = ["graph_of", "render"]
