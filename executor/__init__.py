"""How a plan runs: machine, driver, journal, store, reuse and replay. Planners are unknown here."""

from .events import Approved, Cause, Denied, ResolvedDone, ResolvedFailed, ResolvedRetry
from .execution import Execution, Planned, RunPage, RunSummary
from .facilities import Clock, Facilities, SystemClock
from .header import Header, default_seed
from .lock import Lock
from .records import Event
from .reuse import ReuseMode
from .run import Run, RunError, StepView
from .sealed import Sealed
from .sqlite_store import SqliteStore
from .states import FINAL, MOVES, RunStatus, State
from .store import Store

__all__ = [
    "FINAL",
    "MOVES",
    "Approved",
    "Cause",
    "Clock",
    "Denied",
    "Event",
    "Execution",
    "Facilities",
    "Header",
    "Lock",
    "Planned",
    "ResolvedDone",
    "ResolvedFailed",
    "ResolvedRetry",
    "ReuseMode",
    "Run",
    "RunError",
    "RunPage",
    "RunStatus",
    "RunSummary",
    "Sealed",
    "SqliteStore",
    "State",
    "StepView",
    "Store",
    "SystemClock",
    "default_seed",
]
