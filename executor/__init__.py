"""How a plan runs: machine, driver, journal, store, reuse and replay. Planners are unknown here."""

from .archive import RunPage, RunSummary
from .bisect import Bisection
from .budget import LIMITS as BUDGET_LIMITS
from .early import EarlySteps
from .execution import Execution
from .explanation import Explanation
from .facilities import Clock, Facilities, SystemClock
from .header import Header, default_seed
from .key_changes import KeyChange
from .lock import Lock
from .plan_uses import PlanUses
from .policy import REUSE_MODES, ReuseMode
from .records import Event
from .review import Review
from .run import Run, RunError, StepView
from .run_diff import RunDiff, StepDiff
from .shadow_report import ShadowAnswer, ShadowEffect, ShadowReport
from .sqlite_store import SqliteStore
from .states import FINAL, MOVES, RunStatus, State
from .store import CacheStats, Pruned, Store
from .store_care import Damage, StoreReport
from .submission import Planned
from .verification import ToolVerdict, Verification

__all__ = [
    "BUDGET_LIMITS",
    "FINAL",
    "MOVES",
    "REUSE_MODES",
    "Bisection",
    "CacheStats",
    "Clock",
    "Damage",
    "EarlySteps",
    "Event",
    "Execution",
    "Explanation",
    "Facilities",
    "Header",
    "KeyChange",
    "Lock",
    "PlanUses",
    "Planned",
    "Pruned",
    "ReuseMode",
    "Review",
    "Run",
    "RunDiff",
    "RunError",
    "RunPage",
    "RunStatus",
    "RunSummary",
    "ShadowAnswer",
    "ShadowEffect",
    "ShadowReport",
    "SqliteStore",
    "State",
    "StepDiff",
    "StepView",
    "Store",
    "StoreReport",
    "SystemClock",
    "ToolVerdict",
    "Verification",
    "default_seed",
]
