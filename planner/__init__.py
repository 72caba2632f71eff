"""From a task in words to a checked plan: saved plans that match the task, else a model whose drafts are checked and repaired.

The folder knows the signatures of tools and the check, and neither results of tools nor runs. Begin with `planner.py`, then `request.py`;
`library/` holds saved plans, `drafting/` the work with a model, `evaluate/` the measuring of planners.
"""

from .drafting.attempt import Attempt
from .drafting.patching import Mended
from .library.learning import learn
from .library.library import SavedPlan, Use
from .library.pattern import pattern_fault
from .planner import PlanCache, Planned, Planner

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
