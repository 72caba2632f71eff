"""firmplan: an agent execution engine with deterministic plans.

A planner writes a typed plan, the plan is checked like a program, and a deterministic executor runs it: every
step is recorded, reused where nothing changed, and can be replayed. Every public name is imported on first use, so that
`import firmplan` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine import Engine
    from .errors import (
        ConfigError,
        Diverged,
        EngineBug,
        FirmplanError,
        InputRejected,
        OutcomeUnknown,
        PlanError,
        PlanningFailed,
        PlanRejected,
        RunFailed,
        RunNotFound,
        StoreError,
        ToolError,
    )
    from .executor import (
        Event,
        Explanation,
        Policy,
        Run,
        RunDiff,
        RunError,
        RunOwner,
        RunsDeleted,
        StepDiff,
        StepView,
        Submitter,
        ValueLabels,
        Verification,
        WaitingCall,
        WaitingCalls,
    )
    from .planner import Planner, SavedPlan
    from .plans import CheckReport, Plan, PlanBuilder, Problem, check
    from .tools import Artifact, Context, Model, Models, Secret, Tool, Toolset, agent, tool

_ROOMS = {
    "engine": ("Engine",),
    "errors": (
        "ConfigError",
        "Diverged",
        "EngineBug",
        "FirmplanError",
        "InputRejected",
        "OutcomeUnknown",
        "PlanError",
        "PlanRejected",
        "PlanningFailed",
        "RunFailed",
        "RunNotFound",
        "StoreError",
        "ToolError",
    ),
    "executor": (
        "Event",
        "Explanation",
        "Policy",
        "Run",
        "RunDiff",
        "RunError",
        "RunOwner",
        "RunsDeleted",
        "StepDiff",
        "StepView",
        "ValueLabels",
        "Submitter",
        "Verification",
        "WaitingCall",
        "WaitingCalls",
    ),
    "planner": ("Planner", "SavedPlan"),
    "plans": ("CheckReport", "Plan", "PlanBuilder", "Problem", "check"),
    "tools": ("Artifact", "Context", "Model", "Models", "Secret", "Tool", "Toolset", "agent", "tool"),
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}

__version__ = "0.1.0"
__all__ = [
    "Artifact",
    "CheckReport",
    "ConfigError",
    "Context",
    "Diverged",
    "Engine",
    "EngineBug",
    "Event",
    "Explanation",
    "FirmplanError",
    "InputRejected",
    "Model",
    "Models",
    "OutcomeUnknown",
    "Plan",
    "PlanBuilder",
    "PlanError",
    "PlanRejected",
    "Planner",
    "PlanningFailed",
    "Policy",
    "Problem",
    "Run",
    "RunDiff",
    "RunError",
    "RunFailed",
    "RunNotFound",
    "RunOwner",
    "RunsDeleted",
    "SavedPlan",
    "Secret",
    "StepDiff",
    "StepView",
    "StoreError",
    "Submitter",
    "Tool",
    "ToolError",
    "Toolset",
    "ValueLabels",
    "Verification",
    "WaitingCall",
    "WaitingCalls",
    "agent",
    "check",
    "tool",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401  # any public name
    room = _HOME.get(name)
    if room is None:
        raise AttributeError(f"module 'firmplan' has no attribute {name!r}")
    value = getattr(import_module(f".{room}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
