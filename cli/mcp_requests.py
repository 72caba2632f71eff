"""The tools that `firmplan mcp` offers beside the saved plans: what each takes, and what a model is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

EXAMPLE: Final = (
    '{"firmplan": 1, "inputs": {"city": {"type": "string"}}, "steps": [{"id": "w", "tool": "weather", "args": {"city": '
    '"${inputs.city}"}}], "output": "${w.celsius}"}'
)


class Request(BaseModel):
    """The arguments of one tool, and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Inputs = Annotated[dict[str, Any] | None, Field(description="Values of the inputs, by name.")]
Budget = Annotated[
    dict[Literal["steps", "model_calls", "tokens", "usd", "seconds"], float] | None,
    Field(description="At these amounts the run stops and waits."),
]
RunId = Annotated[str, Field(min_length=1, description="The run's id.")]
RunName = Annotated[
    str | None,
    Field(
        description="The new run's id; one of that id with the same plan and inputs is continued or returned."
    ),
]
PlanDocument = Annotated[dict[str, Any], Field(description=f"A plan, such as {EXAMPLE}")]
Task = Annotated[str, Field(min_length=1, description="What to do, in words.")]


class RunPlan(Request):
    """Run a plan: one that is given, or a saved one by name. Writes that need a person's approval wait for it."""

    plan: PlanDocument | None = None
    name: Annotated[str | None, Field(description="Name or digest of a saved plan.")] = None
    inputs: Inputs = None
    budget: Budget = None
    run_id: RunName = None

    @model_validator(mode="after")
    def _one_plan(self) -> RunPlan:
        if (self.plan is None) == (self.name is None):
            raise ValueError("expected exactly one of plan and name")
        return self


class RunTask(Request):
    """Run a task in words: by a saved plan that fits it, else by a plan that a model writes and the check accepts."""

    task: Task
    inputs: Inputs = None
    budget: Budget = None
    run_id: RunName = None


class MakePlan(Request):
    """Turn a task in words into a checked plan. Nothing is run."""

    task: Task
    inputs: Inputs = None


class CheckPlan(Request):
    """Find every fault of a plan, each with its place and a hint, and how much it may call. Nothing is run."""

    plan: PlanDocument


class ListPlans(Request):
    """List the saved plans, with their tasks and inputs."""


class ListTools(Request):
    """List the tools that steps of plans may call, with their types and effects."""


class ListRuns(Request):
    """List runs, newest first."""

    status: Annotated[str | None, Field(description="Only runs of this status.")] = None
    limit: Annotated[int, Field(ge=1, le=200)] = 20
    cursor: Annotated[str | None, Field(description="Go on where an earlier list ended.")] = None


class GetRun(Request):
    """Return a run as it stands, with its plan and every step."""

    run_id: RunId


class WaitRun(Request):
    """Wait for a run that has not ended yet, and return what came of it."""

    run_id: RunId


class ResumeRun(Request):
    """Go on with a run after a crash, after a person's decision, or with a larger budget."""

    run_id: RunId
    budget: Budget = None


class Explain(Request):
    """Say why a step of a run was called, or which earlier result stood for it; without a step, of all steps."""

    run_id: RunId
    step: Annotated[
        str | None, Field(description="The step's path, such as mail, spots[3] or outer/inner.")
    ] = None


class ReadArtifact(Request):
    """Return the bytes of an artifact that stands in a run's output or in a step's: a picture, a text, or base64."""

    artifact: Annotated[
        dict[str, Any], Field(description="The artifact as it stands there: digest, size and so on.")
    ]


REQUESTS: Final[Mapping[str, type[Request]]] = {
    "run_plan": RunPlan,
    "run_task": RunTask,
    "make_plan": MakePlan,
    "check_plan": CheckPlan,
    "list_plans": ListPlans,
    "list_tools": ListTools,
    "list_runs": ListRuns,
    "get_run": GetRun,
    "wait_run": WaitRun,
    "resume_run": ResumeRun,
    "explain": Explain,
    "read_artifact": ReadArtifact,
}
"""Tool name -> its arguments."""

CHANGING: Final = frozenset({"run_plan", "run_task", "resume_run"})
"""Tools whose call may change the world."""
