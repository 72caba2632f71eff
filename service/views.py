"""The shapes of the answers, for the schema at `/openapi.json`.

Handlers answer with what the engine's own `to_dict` gives; these models say what that is. The tests hold every
answer to its model, so the schema is true without a second serialisation on every request.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

RunStatus = Literal[
    "queued",
    "running",
    "waiting",
    "indeterminate",
    "succeeded",
    "failed",
    "cancelled",
    "over_budget",
    "parked",
]
StepStatus = Literal[
    "pending", "running", "waiting", "indeterminate", "succeeded", "failed", "skipped", "cancelled"
]
Abandoned = Annotated[
    bool, Field(description="Queued or running, but no process drives it: `resume` goes on with it.")
]
UnixSeconds = Annotated[float, Field(description="Unix time in seconds.")]


class _View(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ErrorView(_View):
    """One failure."""

    step: Annotated[str, Field(description="Path of the step; empty for the run as a whole.")]
    code: str
    message: str
    temporary: bool
    took_effect: Annotated[
        bool, Field(description="A write that is done: only its result was refused. Left out where false.")
    ] = False


class StepView(_View):
    """One step, item or iteration."""

    status: StepStatus
    output: Any
    attempts: int
    reused: bool
    cost: Annotated[float, Field(description="US dollars.")]
    started: UnixSeconds | None
    finished: UnixSeconds | None
    error: ErrorView | None
    reason: str | None
    output_digest: str | None
    args: Annotated[Any, Field(description="What a person has to decide about; else null.")]
    attempt: Annotated[
        int | None,
        Field(
            description="The attempt that a person has to decide about; a decision may name it. Else null."
        ),
    ]
    decision: Annotated[
        Any, Field(description="What a person decided, with `by`, `reason` and edited `args`; else null.")
    ]
    past_write: Annotated[
        Any, Field(description="What an earlier run knows of a call that waits for a person; else null.")
    ] = None


class NamedStepView(StepView):
    """One step with its path and its run."""

    run: str
    path: str


class RunView(_View):
    """A run as it stands."""

    id: str
    status: RunStatus
    output: Any
    errors: list[ErrorView]
    digest: str
    plan: dict[str, Any] | None
    plan_digest: str | None
    inputs: dict[str, Any]
    steps: Annotated[dict[str, StepView], Field(description="Path -> step, in plan order.")]
    usage: dict[str, Any]
    parent: str | None
    task: str | None
    created: UnixSeconds | None
    updated: UnixSeconds | None
    last_event: Annotated[
        int, Field(description="The newest durable event; `Last-Event-ID` goes on from there.")
    ]
    abandoned: Abandoned


class RunSummaryView(_View):
    """A run in a list."""

    id: str
    status: RunStatus
    task: str | None
    plan_digest: str | None
    parent: str | None
    created: UnixSeconds
    updated: UnixSeconds
    digest: str
    abandoned: Abandoned
    reason: Annotated[str | None, Field(description="Why the run is parked; else null.")]


class RunPageView(_View):
    """Some runs, newest first; `cursor` leads to the next ones, null at the end."""

    runs: list[RunSummaryView]
    cursor: str | None


class ProblemView(_View):
    """One fault, with its place."""

    code: str
    path: str
    message: str
    hint: str
    severity: Literal["error", "warning"]
    at: list[int] | None
    line: int | None


class RefusalView(BaseModel):
    """`application/problem+json`."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    problems: list[ProblemView]


class ReportView(_View):
    """What a check found."""

    ok: bool
    problems: list[ProblemView]
    bounds: dict[str, Any]
    types: Annotated[dict[str, Any], Field(description="Step path -> JSON Schema of its value.")]


class SavedPlanView(_View):
    """A saved plan in a list."""

    name: str
    digest: str
    task: str | None
    inputs: Annotated[dict[str, Any], Field(description="Input name -> JSON Schema.")]
    hits: Annotated[int, Field(description="Tasks that it answered.")] = 0
    false_hits: Annotated[int, Field(description="Tasks that it only seemed to answer.")] = 0
    false_hits_by: Annotated[
        dict[str, int],
        Field(description="Of these, refused by its check, by a model, by what came of the run."),
    ] = {}


class SavedPlansView(_View):
    """All saved plans, by name."""

    plans: list[SavedPlanView]


class ToolView(_View):
    """One tool of this server."""

    name: str
    description: str
    effect: Literal["pure", "read", "model", "write"]
    parameters: dict[str, Any]
    returns: dict[str, Any] | None
    resource: str
    trust: Literal["trusted", "untrusted"]
    idempotent: bool
    asks_approval: bool
    fingerprint: str | None


class ToolsView(_View):
    """All tools, by name."""

    tools: list[ToolView]


class HealthView(_View):
    """Whether the server can work."""

    status: Literal["ok", "unavailable"]
