"""Pictures of a plan: as text for a terminal, as Mermaid, as SVG, and as JSON for programs that draw it themselves.

All draw one model, `picture.Picture`, so that they agree. The folder knows the plan value and the survey of the check; it does not know runs.
Begin with `picture.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy_imports import on_first_use

if TYPE_CHECKING:
    from .document import graph_of
    from .picture import render

# Tables of every command need `width.py`, and few commands a picture.
__getattr__, __dir__ = on_first_use(__name__, {"document": ("graph_of",), "picture": ("render",)})

__all__ = ["graph_of", "render"]
