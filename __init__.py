"""firmplan: an agent execution engine with deterministic plans.

A planner writes a typed plan, the plan is checked like a program, and a deterministic executor runs it: every
step is recorded, reused where nothing changed, and can be replayed. Every public name is imported on first use, so that
`import firmplan` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy_imports import on_first_use

if TYPE_CHECKING:
    from .client import AsyncClient, Client
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
        ServerError,
        StoreError,
        ToolError,
    )
    from .executor import (
        ApiKey,
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
    from .tools import (
        Artifact,
        Context,
        Model,
        Models,
        Resource,
        Secret,
        Tool,
        Toolset,
        agent,
        resource,
        tool,
    )
    from .trace_rehearsal import LearnedPlan, TraceRehearsal, learn_from_trace
    from .webhooks import Webhook

__getattr__, __dir__ = on_first_use(
    __name__,
    {
        "client": ("AsyncClient", "Client"),
        "engine": ("Engine",),
        "errors": (
            "Cannot",
            "ConfigError",
            "Diverged",
            "EngineBug",
            "FirmplanError",
            "InputRejected",
            "OutcomeUnknown",
            "PlanError",
            "PlanRejected",
            "PlanningFailed",
            "Question",
            "RunFailed",
            "RunNotFound",
            "ServerError",
            "StoreError",
            "ToolError",
        ),
        "executor": (
            "ApiKey",
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
            "Webhook",
        ),
        "planner": ("Planner", "SavedPlan"),
        "plans": ("CheckReport", "Plan", "PlanBuilder", "Problem", "check"),
        "tools": (
            "Artifact",
            "Context",
            "Model",
            "Models",
            "Resource",
            "Secret",
            "Tool",
            "Toolset",
            "agent",
            "resource",
            "tool",
        ),
        "trace_rehearsal": ("LearnedPlan", "TraceRehearsal", "learn_from_trace"),
        "webhooks": ("Webhook",),
    },
)

__version__ = "0.1.0"
__all__ = [
    "ApiKey",
    "Artifact",
    "AsyncClient",
    "CheckReport",
    "Client",
    "ConfigError",
    "Context",
    "Diverged",
    "Engine",
    "EngineBug",
    "Event",
    "Explanation",
    "FirmplanError",
    "InputRejected",
    "LearnedPlan",
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
    "Resource",
    "Run",
    "RunDiff",
    "RunError",
    "RunFailed",
    "RunNotFound",
    "RunOwner",
    "RunsDeleted",
    "SavedPlan",
    "Secret",
    "ServerError",
    "StepDiff",
    "StepView",
    "StoreError",
    "Submitter",
    "Tool",
    "ToolError",
    "Toolset",
    "TraceRehearsal",
    "ValueLabels",
    "Verification",
    "WaitingCall",
    "WaitingCalls",
    "Webhook",
    "agent",
    "check",
    "learn_from_trace",
    "resource",
    "tool",
]
