"""Where plans come from: saved plans whose task fits, else a model whose drafts are checked and repaired."""

from .attempt import Attempt
from .planner import Planned, Planner
from .saved import SavedPlan

__all__ = ["Attempt", "Planned", "Planner", "SavedPlan"]
