"""Routes about one step of a run: look at it, and decide what only a person can.

A step's path may hold `/`, `[`, `]` and `#`; in a URL it is percent-encoded (`spots%5B0%5D`, `outer%2Finner`). The
server has decoded it before it gets here, which is why the path is matched greedily.
"""

from __future__ import annotations

from collections.abc import Awaitable
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Response

from ..errors import DECIDED, InputRejected
from ..executor import Run
from .bodies import ApproveBody, DenyBody, ResolveBody, StrictRoute
from .hosting import REFUSALS, Hosted, Hosting, answer
from .problems import Refusal
from .views import NamedStepView, RunView

router = APIRouter(
    prefix="/v1/runs/{run_id}/steps", route_class=StrictRoute, tags=["steps"], responses=REFUSALS
)


@router.get("/{path:path}", response_model=NamedStepView, summary="Get a step, item or iteration")
async def get_step(run_id: str, path: str, hosted: Hosted) -> Response:
    """Answer with the step as it stands."""
    run = await hosted.engine.get(run_id)
    if path not in run.steps:
        raise _unknown_step(run, path)
    return answer({"run": run.id, "path": path, **run.steps[path].to_dict()})


@router.post("/{path:path}/approve", response_model=RunView, summary="Allow a call that waits")
async def approve_step(run_id: str, path: str, body: ApproveBody, hosted: Hosted) -> Response:
    """Record the approval, which is for exactly the arguments that were shown; the run goes on."""
    decision = hosted.engine.approve(run_id, path, by=body.by, edit=body.edit, attempt=body.attempt)
    return await _decided(hosted, run_id, path, "waiting", decision)


@router.post("/{path:path}/deny", response_model=RunView, summary="Refuse a call that waits")
async def deny_step(run_id: str, path: str, body: DenyBody, hosted: Hosted) -> Response:
    """Record the denial; what depends on the call is cancelled, and the run goes on."""
    decision = hosted.engine.deny(run_id, path, by=body.by, reason=body.reason, attempt=body.attempt)
    return await _decided(hosted, run_id, path, "waiting", decision)


@router.post("/{path:path}/resolve", response_model=RunView, summary="Settle a call of unknown outcome")
async def resolve_step(run_id: str, path: str, body: ResolveBody, hosted: Hosted) -> Response:
    """Record what a person knows of the call: it is done, may be made again, or failed; the run goes on."""
    verdict: dict[str, Any] = (
        {"done": body.done}
        if "done" in body.model_fields_set
        else {"retry": True}
        if body.retry
        else {"fail": body.fail}
    )
    decision = hosted.engine.resolve(run_id, path, by=body.by, attempt=body.attempt, **verdict)
    return await _decided(hosted, run_id, path, "indeterminate", decision)


async def _decided(
    hosted: Hosting, run_id: str, path: str, status: str, decision: Awaitable[Run]
) -> Response:
    """Answer with the run after a decision about a step of that status, and let it go on.

    Raises:
        Refusal: 404 for an unknown step, 409 if nothing waits for such a decision or another decision stands.
        InputRejected: Something does, but what was decided does not fit it.
    """
    try:
        run = await decision
    except InputRejected as error:
        current = await hosted.engine.get(run_id)
        if path not in current.steps:
            raise _unknown_step(current, path) from error
        if current.steps[path].status == status and error.code != DECIDED:
            raise
        raise Refusal(HTTPStatus.CONFLICT, error.code, error.message) from error
    hosted.intake.go_on(run_id, hosted.engine.resume(run_id))
    return answer(run.to_dict())


def _unknown_step(run: Run, path: str) -> Refusal:
    known = ", ".join(list(run.steps)[:10]) or "none yet"
    return Refusal(
        HTTPStatus.NOT_FOUND, "unknown-step", f"run {run.id} has no step {path!r}; its steps are {known}"
    )
