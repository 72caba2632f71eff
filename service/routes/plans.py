"""The routes of plans and tools: plan a task, check, save and list plans, list tools. Nothing here runs a plan."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Annotated, Any, Final, cast

from fastapi import APIRouter, Body, Header, Request, Response
from fastapi import Path as InPath
from fastapi.responses import StreamingResponse

from ...errors import FirmplanError, PlanningFailed
from ...plans import Plan
from ..callers import Caller
from ..problems import Refusal, on_firmplan_error, on_http_error
from ..schemas import (
    MeView,
    PlanGraphView,
    PlanHistoryView,
    PlannedTaskView,
    PlanTaskBody,
    ReportView,
    SavedPlansView,
    SavedPlanView,
    ToolsView,
)
from .runs import (
    KEEPALIVE_S,
    UNBUFFERED,
    Asking,
    Served,
    ServedEngine,
    StrictRoute,
    answer,
    answer_heads,
    get_plan_of,
    replaced_tag,
    with_etag,
)

plan_router = APIRouter(prefix="/v1", route_class=StrictRoute, tags=["plans"])

WITH_ETAG: Final = with_etag("The digest of the plan's text, in quotes.")
_TAG: Final = re.compile('"([^,]+)"')
IfMatch = Annotated[
    str | None,
    Header(description='Save the plan only in the place of the one with this ETag: `"sha256:.."`.'),
]
IfNoneMatch = Annotated[
    str | None,
    Header(
        description="`*`: save the plan only if none has the name. An ETag: answer only if the plan is another one."
    ),
]
PlanBody = Annotated[
    dict[str, Any],
    Body(
        description='A plan, or `{"plan": a plan}`; to be checked also `{"plan": "JSON or YAML"}`.',
        examples=[{"firmplan": 1, "steps": [{"id": "x", "set": 1}]}],
    ),
]


@plan_router.post(
    "/tasks:plan",
    response_model=PlannedTaskView,
    responses={
        200: {
            "description": "The plan; with `stream` server-sent events: `draft`, and at the end `plan` or `problem`",
            "content": {"text/event-stream": {}},
        }
    },
    summary="Plan a task in words, and run nothing",
)
async def plan_task(body: PlanTaskBody, request: Request, served: Served, caller: Asking) -> Response:
    """Answer with the plan and its check. A run of this plan needs no model for planning again."""
    if not body.stream:
        return answer(await _planned_task(served, caller, body))
    return StreamingResponse(
        _planning(request, served, caller, body), media_type="text/event-stream", headers=UNBUFFERED
    )


async def _planned_task(
    served: ServedEngine, caller: Caller, body: PlanTaskBody, heard: Callable[[Plan], None] | None = None
) -> dict[str, Any]:
    """Return the plan of a task, and its check. Raises: Refusal: 422, there is no plan; the detail says why."""
    try:
        plan = await served.engine.plan(
            body.task, inputs=body.inputs, tenant=caller.tenant, heard=heard, returns=body.returns
        )
    except PlanningFailed as error:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, error.code, error.message) from error
    report = await served.engine.check_plan(plan, tenant=caller.tenant)
    return {"plan": plan.to_dict(), "report": report.to_dict()}


async def _planning(
    request: Request, served: ServedEngine, caller: Caller, body: PlanTaskBody
) -> AsyncIterator[str]:
    """Yield a partial plan whenever it has grown, then the plan or why there is none. A client that leaves ends the planning."""
    drafts: asyncio.Queue[Plan] = asyncio.Queue()
    planned = asyncio.ensure_future(_planned_task(served, caller, body, drafts.put_nowait))
    stop = asyncio.ensure_future(served.closing.wait())
    coming = asyncio.ensure_future(drafts.get())
    try:
        yield ": planning\n\n"
        while not served.closing.is_set():
            await asyncio.wait(
                (planned, stop, coming), timeout=KEEPALIVE_S, return_when=asyncio.FIRST_COMPLETED
            )
            if coming.done():
                yield _named_event("draft", {"plan": coming.result().to_dict()})
                coming = asyncio.ensure_future(drafts.get())
            elif planned.done():
                try:
                    yield _named_event("plan", planned.result())
                except (Refusal, FirmplanError) as error:
                    refuse = on_http_error if isinstance(error, Refusal) else on_firmplan_error
                    refused = await refuse(request, error)
                    yield _named_event("problem", json.loads(bytes(refused.body)))
                return
            else:
                yield ": still here\n\n"
    finally:
        for task in (planned, stop, coming):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


def _named_event(name: str, document: object) -> str:
    return f"event: {name}\ndata: {json.dumps(document, ensure_ascii=False, separators=(',', ':'))}\n\n"


@plan_router.post(
    "/plans:check", response_model=ReportView, summary="Check a plan against this server's tools"
)
async def check_plan(body: PlanBody, served: Served, caller: Asking) -> Response:
    """Answer with the report, also for a plan with faults."""
    text = body.get("plan")
    is_text = isinstance(text, str) and set(body) == {"plan"}
    plan = cast("str", text) if is_text else _plan_in(body)
    report = await served.engine.check_plan(plan, tenant=caller.tenant)
    return answer(report.to_dict())


@plan_router.post("/plans:graph", response_model=PlanGraphView, summary="Get the graph of a plan")
async def graph_plan(body: PlanBody, served: Served, caller: Asking) -> Response:
    """Answer with the steps of the plan, what each does and waits for; the plan may have faults, but it has the shape of a plan."""
    return answer(await served.engine.plan_graph(_plan_in(body), tenant=caller.tenant))


@plan_router.put(
    "/plans/{name}", response_model=SavedPlanView, responses=WITH_ETAG, summary="Save a plan under a name"
)
async def save_plan(
    name: str,
    body: PlanBody,
    served: Served,
    caller: Asking,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Save the plan, which has to pass its check; an earlier plan of that name stays reachable by its digest."""
    replaces = _replaced(if_match, if_none_match)
    saved = await served.engine.save_plan(
        caller.plan(name), _plan_in(body), replaces=replaces, by=caller.name or ""
    )
    served.metrics.name_plan(saved.plan.digest, saved.name)
    return answer(_summary(name, saved.plan), headers=_etag(saved.plan))


@plan_router.delete("/plans/{name}", status_code=204, summary="Delete a saved plan")
async def delete_plan(name: str, served: Served, caller: Asking, if_match: IfMatch = None) -> Response:
    """Delete the plan, and answer with 204; its history stays, and plans that name it by its digest still find it."""
    await served.engine.delete_plan(
        caller.plan(name), replaces=_replaced(if_match, None), by=caller.name or ""
    )
    return Response(status_code=HTTPStatus.NO_CONTENT)


@plan_router.get(
    "/plans/{name}/history", response_model=PlanHistoryView, summary="List the versions of a saved plan"
)
async def list_versions(name: str, served: Served, caller: Asking) -> Response:
    """Answer with the versions, newest first, also of a name that was deleted."""
    versions = await served.engine.plan_history(caller.plan(name))
    return answer({"name": name, "versions": [each.to_dict() for each in versions]})


@plan_router.get(
    "/plans/{name}/history/{digest}",
    response_model=dict[str, Any],
    responses=WITH_ETAG,
    summary="Get one version of a saved plan",
)
async def get_version(
    name: str,
    digest: Annotated[str, InPath(description="The `digest` or `text_digest` of a version.")],
    served: Served,
    caller: Asking,
) -> Response:
    """Answer with the plan of that digest, of several the newest. `PUT` it to restore it."""
    plan = await served.engine.plan_version(caller.plan(name), digest)
    return answer(plan.to_dict(), headers=_etag(plan))


@plan_router.get(
    "/plans/{name}",
    response_model=dict[str, Any],
    responses={**WITH_ETAG, 304: {"description": "The client has this plan already"}},
    summary="Get a saved plan by name or digest",
)
async def get_plan(name: str, served: Served, caller: Asking, if_none_match: IfNoneMatch = None) -> Response:
    """Answer with the plan itself."""
    plan = await get_plan_of(caller, served, name)
    etag = _etag(plan)
    if if_none_match is not None and etag["ETag"] in (each.strip() for each in if_none_match.split(",")):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=etag)
    return answer(plan.to_dict(), headers=etag)


@plan_router.get("/plans", response_model=SavedPlansView, summary="List saved plans")
async def list_plans(served: Served, caller: Asking) -> Response:
    """Answer with the names, in order, and what each takes; a key without a tenant gets those of tenants, too, as `TENANT:NAME`."""
    tenant = caller.tenant or None
    plans = await served.engine.list_plans(tenant=tenant)
    uses = await served.engine.plan_uses(tenant=tenant)
    return answer(
        {"plans": [{**_summary(each.name, each.plan), **uses[each.name].to_dict()} for each in plans]}
    )


@plan_router.get("/tools", response_model=ToolsView, summary="List this server's tools", tags=["tools"])
async def list_tools(served: Served) -> Response:
    """Answer with every tool's signature, by name."""
    return answer({"tools": served.engine.tools.to_list()})


@plan_router.get("/me", response_model=MeView, summary="Say who asks", tags=["keys"])
async def get_me(caller: Asking) -> Response:
    """Answer with the name, the scopes and the tenant of the request's key; every key may ask."""
    return answer(caller.to_dict())


def _plan_in(body: dict[str, Any]) -> dict[str, Any]:
    """Return the plan that the body is, or holds under `plan`; a plan has no such key of its own."""
    inner = body.get("plan")
    return cast("dict[str, Any]", inner) if isinstance(inner, dict) and set(body) == {"plan"} else body


def _etag(plan: Plan) -> dict[str, str]:
    # A plan's own digest leaves prose out: another task under the same tag would be lost by who saves, and never seen by who reads.
    return {"ETag": f'"{plan.text_digest}"'}


def _replaced(if_match: str | None, if_none_match: str | None) -> str | None:
    """Return the digest, of its text, of the plan that may be replaced; empty: none; `None`: any. Raises: Refusal: as `replaced_tag`."""
    return replaced_tag(if_match, if_none_match, "plan", _TAG, '"sha256:.."')


def _summary(name: str, plan: Plan) -> dict[str, Any]:
    return {"name": name, "digest": plan.digest, "task": plan.task, "inputs": dict(plan.inputs)}


answer_heads(plan_router)
