"""How a plan runs: state machine, journal, stores, calls, runs and reviews.

The modules of this folder itself are the heart, which is pure: events in, commands out. Around it lie `stores`, `journal`, `calls`, `runs` and
`review`; each knows only those before it. The executor does not know planners, the service or the command line. Begin with `machine.py`, then
`runs/driver.py`, which feeds it. Names are imported on first use: a process that calls tools needs few of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy_imports import on_first_use

if TYPE_CHECKING:
    from .approvals.quotes import Quote
    from .approvals.view import CallDetails, EarlierCall, Origin, ShownArgument, WaitingCall, WaitingCalls
    from .budget import PlanningCost
    from .calls.early import EarlySteps
    from .calls.facilities import Clock, Facilities, SystemClock
    from .calls.flow.policies import Policy, ValueLabels
    from .calls.words import Words
    from .journal.header import Header, Submitter, default_seed
    from .journal.records import Event
    from .journal.toolset_lock import ToolsetLock
    from .policy import REUSE_MODES, ReuseMode
    from .review.bisect import Bisection
    from .review.explain import Explanation
    from .review.key_changes import KeyChange
    from .review.model_calls import RecordedModelCall, RecordedModelCalls
    from .review.review import Review
    from .review.run_diff import RunDiff, StepDiff
    from .review.shadow_report import ShadowAnswer, ShadowEffect, ShadowReport
    from .review.verify import ToolVerdict, Verification
    from .runs.archive import RunPage, RunSummary
    from .runs.execution import Execution
    from .runs.owner import RunOwner
    from .runs.planning import PlannedRun
    from .runs.run import Run, RunError, StepView
    from .runs.store_care import Damage, RunsDeleted, StoreReport
    from .states import FINAL, MOVES, RunStatus, State
    from .stores.api_keys import ApiKey
    from .stores.sqlite_store import SqliteStore
    from .stores.store import CacheStats, PlanUses, PlanVersion, Pruned, RunFilter, Store

__getattr__, __dir__ = on_first_use(
    __name__,
    {
        "approvals.quotes": ("Quote",),
        "approvals.view": (
            "CallDetails",
            "EarlierCall",
            "Origin",
            "ShownArgument",
            "WaitingCall",
            "WaitingCalls",
        ),
        "budget": ("PlanningCost",),
        "calls.early": ("EarlySteps",),
        "calls.facilities": ("Clock", "Facilities", "SystemClock"),
        "calls.flow.policies": ("Policy", "ValueLabels"),
        "calls.words": ("Words",),
        "journal.header": ("Header", "Submitter", "default_seed"),
        "journal.records": ("Event",),
        "journal.toolset_lock": ("ToolsetLock",),
        "policy": ("REUSE_MODES", "ReuseMode"),
        "review.bisect": ("Bisection",),
        "review.explain": ("Explanation",),
        "review.key_changes": ("KeyChange",),
        "review.model_calls": ("RecordedModelCall", "RecordedModelCalls"),
        "review.review": ("Review",),
        "review.run_diff": ("RunDiff", "StepDiff"),
        "review.shadow_report": ("ShadowAnswer", "ShadowEffect", "ShadowReport"),
        "review.verify": ("ToolVerdict", "Verification"),
        "runs.archive": ("RunPage", "RunSummary"),
        "runs.execution": ("Execution",),
        "runs.owner": ("RunOwner",),
        "runs.planning": ("PlannedRun",),
        "runs.run": ("Run", "RunError", "StepView"),
        "runs.store_care": ("Damage", "RunsDeleted", "StoreReport"),
        "states": ("FINAL", "MOVES", "RunStatus", "State"),
        "stores.api_keys": ("ApiKey",),
        "stores.sqlite_store": ("SqliteStore",),
        "stores.store": ("CacheStats", "PlanUses", "PlanVersion", "Pruned", "RunFilter", "Store"),
    },
)

__all__ = [
    "FINAL",
    "MOVES",
    "REUSE_MODES",
    "ApiKey",
    "Bisection",
    "CacheStats",
    "CallDetails",
    "Clock",
    "Damage",
    "EarlierCall",
    "EarlySteps",
    "Event",
    "Execution",
    "Explanation",
    "Facilities",
    "Header",
    "KeyChange",
    "Origin",
    "PlanUses",
    "PlanVersion",
    "PlannedRun",
    "PlanningCost",
    "Policy",
    "Pruned",
    "Quote",
    "RecordedModelCall",
    "RecordedModelCalls",
    "ReuseMode",
    "Review",
    "Run",
    "RunDiff",
    "RunError",
    "RunFilter",
    "RunOwner",
    "RunPage",
    "RunStatus",
    "RunSummary",
    "RunsDeleted",
    "ShadowAnswer",
    "ShadowEffect",
    "ShadowReport",
    "ShownArgument",
    "SqliteStore",
    "State",
    "StepDiff",
    "StepView",
    "Store",
    "StoreReport",
    "Submitter",
    "SystemClock",
    "ToolVerdict",
    "ToolsetLock",
    "ValueLabels",
    "Verification",
    "WaitingCall",
    "WaitingCalls",
    "Words",
    "default_seed",
]
