"""Where plans come from: saved plans whose task fits, else a model whose drafts are checked and repaired."""

from .attempt import Attempt
from .mending import Mended
from .pattern import pattern_fault
from .planner import Planned, Planner
from .reuse import PlanCache
from .saved import SavedPlan
from .uses import Use

__all__ = ["Attempt", "Mended", "PlanCache", "Planned", "Planner", "SavedPlan", "Use", "pattern_fault"]
