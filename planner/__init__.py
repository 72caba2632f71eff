"""From a task in words to a checked plan: saved plans that match the task, else a model whose drafts are checked and repaired.

The folder knows the signatures of tools and the check, and neither results of tools nor runs. Begin with `planner.py`, then `request.py`;
`library/` holds saved plans, `drafting/` the work with a model, `evaluate/` the measuring of planners.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy_imports import on_first_use

if TYPE_CHECKING:
    from .drafting.attempt import Attempt
    from .drafting.patching import Mended
    from .library.learning import learn
    from .library.library import SavedPlan, Use
    from .library.pattern import pattern_fault
    from .planner import PlanCache, Planned, Planner

# Most processes run plans and write none: what writes them is imported when a plan is wanted.
__getattr__, __dir__ = on_first_use(
    __name__,
    {
        "drafting.attempt": ("Attempt",),
        "drafting.patching": ("Mended",),
        "library.learning": ("learn",),
        "library.library": ("SavedPlan", "Use"),
        "library.pattern": ("pattern_fault",),
        "planner": ("PlanCache", "Planned", "Planner"),
    },
)

__all__ = [
    "Attempt",
    "Mended",
    "PlanCache",
    "Planned",
    "Planner",
    "SavedPlan",
    "Use",
    "learn",
    "pattern_fault",
]
