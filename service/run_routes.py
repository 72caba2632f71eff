"""Routes about runs: take them in, list them, follow them, move them on."""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from typing import Annotated, Any, cast

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from ..errors import InputRejected
from ..executor import Run
from ..plans import Plan, canonical
from .bodies import DecideBody, ForkBody, ResumeBody, RetryBody, RunBody, StrictRoute, TaskBody
from .guard import CLIENT
from .hosting import REFUSALS, Hosted, Hosting, answer
from .intake import Submission
from .journal_stream import event_stream
from .problems import Refusal
from .views import RunPageView, RunStatus, RunView

GONE_WRONG = ("failed", "cancelled")
ENDED = ("succeeded", *GONE_WRONG)

router = APIRouter(prefix="/v1", route_class=StrictRoute, tags=["runs"], responses=REFUSALS)

IdempotencyKey = Annotated[
    str | None,
    Header(max_length=255, description="The same key with the same request gives the same run, for ever."),
]


@router.post("/tasks", status_code=202, response_model=RunView, summary="Plan and run a task in words")
async def post_task(
    body: TaskBody, request: Request, hosted: Hosted, idempotency_key: IdempotencyKey = None
) -> Response:
    """Answer with the queued run, which is durable before the answer; planning and running go on behind it."""
    budget = body.budget.amounts() if body.budget else None
    return await _accept(request, hosted, body.task, body.inputs, budget, idempotency_key, stream=body.stream)


@router.post("/runs", status_code=202, response_model=RunView, summary="Run a plan")
async def post_run(
    body: RunBody, request: Request, hosted: Hosted, idempotency_key: IdempotencyKey = None
) -> Response:
    """Answer with the queued run, which is durable before the answer; a plan with faults is refused at once."""
    plan: Plan | dict[str, Any] | None = body.plan
    if plan is None:
        name = body.plan_name or body.plan_digest or ""
        plan = await hosted.engine.find_plan(name)
        if plan is None:
            raise Refusal(
                HTTPStatus.NOT_FOUND, "unknown-plan", f"no plan is saved as {name!r}; see GET /v1/plans"
            )
    budget = body.budget.amounts() if body.budget else None
    return await _accept(request, hosted, plan, body.inputs, budget, idempotency_key)


@router.get("/runs", response_model=RunPageView, summary="List runs, newest first")
async def list_runs(
    hosted: Hosted,
    status: RunStatus | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: str | None = None,
) -> Response:
    """Answer with one page; its `cursor` leads to the next."""
    page = await hosted.engine.list_runs(status=status, limit=limit, cursor=cursor)
    return answer({"runs": [run.to_dict() for run in page.runs], "cursor": page.cursor})


@router.get("/runs/{run_id}", response_model=RunView, summary="Get a run with its steps")
async def get_run(run_id: str, hosted: Hosted) -> Response:
    """Answer with the run as it stands."""
    return _run(await hosted.engine.get(run_id))


@router.delete("/runs/{run_id}", status_code=204, summary="Delete a run that has ended")
async def delete_run(run_id: str, hosted: Hosted) -> Response:
    """Delete a run and the bytes that only it needed, and answer with 204; 409 if the run has not ended, or has children."""
    try:
        await hosted.engine.delete(run_id)
    except InputRejected as error:
        raise Refusal(HTTPStatus.CONFLICT, error.code, error.message) from error
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.get(
    "/runs/{run_id}/events",
    summary="Follow a run's journal",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events: id, event, data (JSON)",
            "content": {"text/event-stream": {}},
        },
        204: {"description": "The run has ended, and the client has seen everything"},
    },
)
async def get_events(
    run_id: str,
    hosted: Hosted,
    last_event_id: Annotated[str | None, Header(description="Go on after this event.")] = None,
    after: Annotated[
        int | None, Query(ge=0, description="The same, for clients that cannot set headers.")
    ] = None,
) -> Response:
    """Answer with a stream that ends when the run has ended or waits and nothing more comes."""
    # The run itself would be its whole journal, read before the first event is sent.
    status = await hosted.engine.status(run_id)
    seen = _seen(last_event_id, after)
    if status in ENDED and seen and await _is_last(hosted, run_id, seen):
        return Response(status_code=HTTPStatus.NO_CONTENT)
    stream = event_stream(hosted.engine.events(run_id, after=seen), hosted.closing)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


@router.post("/runs/{run_id}/replay", response_model=RunView, summary="Replay a run strictly")
async def replay_run(run_id: str, hosted: Hosted) -> Response:
    """Answer with the replayed run, or 409 with the first step and field that differ; nothing is called or stored."""
    return _run(await hosted.engine.replay_run(run_id))


@router.post("/runs/{run_id}/resume", status_code=202, response_model=RunView, summary="Let a run go on")
async def resume_run(run_id: str, hosted: Hosted, body: ResumeBody | None = None) -> Response:
    """Answer with the run as it stands; it goes on behind the answer."""
    run = await hosted.engine.get(run_id)
    budget = body.budget.amounts() if body and body.budget else None
    take_over = body is not None and body.take_over
    if run.status in GONE_WRONG:  # nothing goes on behind the answer, but for a patch of the plan
        try:
            run = await hosted.engine.resume(run_id, budget=budget)
        except InputRejected as error:
            raise Refusal(HTTPStatus.CONFLICT, error.code, error.message) from error
        return _run(run, HTTPStatus.ACCEPTED)
    hosted.intake.go_on(run_id, hosted.engine.resume(run_id, budget=budget, take_over=take_over))
    return _run(run, HTTPStatus.ACCEPTED)


@router.post("/runs/{run_id}/fork", status_code=202, response_model=RunView, summary="Fork a run")
async def fork_run(run_id: str, hosted: Hosted, body: ForkBody | None = None) -> Response:
    """Answer with the new run, which is durable before the answer; what the change affects runs behind it."""
    given = body or ForkBody()
    await hosted.engine.get(run_id)
    await hosted.intake.check_queue()
    fork = await hosted.engine.submit_fork(
        run_id,
        at=given.at,
        set=given.set,
        inputs=given.inputs,
        plan=given.plan,
        allow_writes=given.allow_writes,
        run_id_new=given.run_id_new,
    )
    hosted.intake.adopt(fork.id)
    return answer(fork.to_dict(), HTTPStatus.ACCEPTED, {"Location": f"/v1/runs/{fork.id}"})


@router.post(
    "/runs/{run_id}/retry",
    status_code=202,
    response_model=RunView,
    summary="Continue a failed or cancelled run as a new run",
)
async def retry_run(run_id: str, hosted: Hosted, body: RetryBody | None = None) -> Response:
    """Answer with the new run, which is durable before the answer; its calls are made in the background. 409: the run has neither failed nor been cancelled."""
    given = body or RetryBody()
    run = await hosted.engine.get(run_id)
    await hosted.intake.check_queue()
    try:
        retried = await hosted.engine.submit_retry(run_id, run_id_new=given.run_id_new, replan=given.replan)
    except InputRejected as error:
        if run.status in GONE_WRONG:
            raise
        raise Refusal(HTTPStatus.CONFLICT, error.code, error.message) from error
    hosted.intake.adopt(retried.id)
    return answer(retried.to_dict(), HTTPStatus.ACCEPTED, {"Location": f"/v1/runs/{retried.id}"})


@router.post("/runs/{run_id}/decide", response_model=RunView, summary="Decide about several calls at once")
async def decide_run(run_id: str, body: DecideBody, hosted: Hosted) -> Response:
    """Record all decisions, or none if a decision is not valid; the run goes on."""
    run = await hosted.engine.decide(run_id, body.decisions, by=body.by)
    hosted.intake.go_on(run_id, hosted.engine.resume(run_id))
    return _run(run)


@router.post("/runs/{run_id}/cancel", response_model=RunView, summary="Stop a run")
async def cancel_run(run_id: str, hosted: Hosted) -> Response:
    """Record that the run shall stop: nothing new starts."""
    return _run(await hosted.engine.cancel(run_id))


async def _accept(
    request: Request,
    hosted: Hosting,
    what: Plan | dict[str, Any] | str,
    inputs: dict[str, Any] | None,
    budget: dict[str, Any] | None,
    key: str | None,
    *,
    stream: bool = False,
) -> Response:
    # Of its meaning: a repeated request may have been written anew, with its keys in another order.
    body = canonical(await request.json())
    digest = hashlib.sha256(request.url.path.encode() + b"\n" + body).hexdigest()
    client = cast("str", request.scope.get(CLIENT, ""))
    run = await hosted.intake.accept(
        Submission(what, inputs, budget, f"{client}\n{key}" if key else None, digest, stream)
    )
    return answer(run.to_dict(), HTTPStatus.ACCEPTED, {"Location": f"/v1/runs/{run.id}"})


def _run(run: Run, status: int = HTTPStatus.OK) -> Response:
    return answer(run.to_dict(), status)


def _seen(last_event_id: str | None, after: int | None) -> int:
    if last_event_id is None or not last_event_id.strip():
        return after or 0
    if last_event_id.strip().isdecimal():
        return int(last_event_id)
    raise Refusal(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "bad-request",
        f"Last-Event-ID: expected the number of an event, found {last_event_id!r}",
    )


async def _is_last(hosted: Hosting, run_id: str, seen: int) -> bool:
    async for _ in hosted.engine.events(run_id, after=seen):
        return False
    return True
