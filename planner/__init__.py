"""Where plans come from: saved plans whose task fits, else a model whose drafts are checked and repaired."""

from .drafting.attempt import Attempt
from .drafting.mending import Mended
from .library.learning import learn
from .library.pattern import pattern_fault
from .library.uses import Use
from .planner import Planned, Planner
from .reuse import PlanCache
from .saved import SavedPlan

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
