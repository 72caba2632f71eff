"""The inbox: everything that waits for a person, over all runs.

Two lists make it. A run that can do nothing without a person has a status that says so, and an index finds it. A run that still works on other steps is
`running`, although a call of it may wait: such runs are looked at one by one, because the store does not know their steps. Nobody but people who look
at the list pays for that.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Response

from ...engine import Engine
from ...errors import RunNotFound
from ...executor import Run, RunSummary, StepView
from ..schemas import WaitingRunsView
from .runs import Asking, Served, StrictRoute, answer, answer_heads

inbox_router = APIRouter(prefix="/v1", route_class=StrictRoute, tags=["runs"])

WAITS: Final = ("indeterminate", "waiting", "over_budget", "parked")
"""The statuses of runs that do nothing until a person acts."""
AT_WORK: Final = "running"
ROUNDS_MAX: Final = 5
"""Lists of candidates that one request looks through: where hundreds of runs are at work and none waits, the answer is short and has a cursor."""


@inbox_router.get("/waiting", response_model=WaitingRunsView, summary="List what waits for a person")
async def list_waiting(
    served: Served, caller: Asking, limit: Annotated[int, Query(ge=1, le=100)] = 20, cursor: str | None = None
) -> Response:
    """Answer with the runs that wait for a person or a larger budget, newest first, with their calls; `/v1/runs/RUN/waiting` has these in full."""
    found: list[dict[str, Any]] = []
    for _ in range(ROUNDS_MAX):
        candidates, cursor = await _candidates(served.engine, caller.tenant, limit, cursor)
        for summary in candidates:
            document = await _waiting_run(served.engine, summary)
            if document is not None:
                found.append(document)
        if cursor is None or found:
            break
    return answer({"runs": found, "cursor": cursor})


async def _candidates(
    engine: Engine, tenant: str, limit: int, cursor: str | None
) -> tuple[list[RunSummary], str | None]:
    """Return the next runs that may wait, newest first, and the cursor of those after them."""
    runs: list[RunSummary] = []
    for status in (*WAITS, AT_WORK):
        runs += (await engine.list_runs(status=status, limit=limit + 1, cursor=cursor, tenant=tenant)).runs
    runs.sort(key=lambda run: (run.created, run.id), reverse=True)
    return runs[:limit], runs[limit - 1].cursor if len(runs) > limit else None


async def _waiting_run(engine: Engine, summary: RunSummary) -> dict[str, Any] | None:
    """Return the run with what waits in it; `None`: it is at work, and nothing of it waits."""
    try:
        run = await engine.get(summary.id)
    except RunNotFound:  # somebody has just deleted it
        return None
    calls = [
        {"step": path, "attempt": step.attempt, "about": _about(step)}
        for path, step in run.steps.items()
        if step.attempt is not None
    ]
    if not calls and run.status not in WAITS:
        return None
    return {"run": {**summary.to_dict(), "status": run.status}, "calls": calls, "question": _question(run)}


def _about(step: StepView) -> Literal["call", "question", "outcome"]:
    if step.status == "indeterminate":
        return "outcome"
    return "question" if step.reason == "question" else "call"


def _question(run: Run) -> dict[str, Any] | None:
    return dict(run.question) if run.question is not None else None


answer_heads(inbox_router)
