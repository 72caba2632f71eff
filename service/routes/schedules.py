"""The routes of schedules, and the work that a server does for them beside requests: it starts the runs whose time has come."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Response

from ...schedules import ANY_REVISION, Fire, Schedule
from ..background import repeat
from ..callers import Caller
from ..problems import Refusal
from ..schemas import FiresView, ScheduleBody, SchedulesView, ScheduleView, TimesBody, TimesView
from .runs import Asking, Served, ServedEngine, StrictRoute, answer, answer_heads, replaced_tag, with_etag

NEXT_SHOWN: Final = 5
"""Next times in the answer about one schedule."""
FIRES_SHOWN: Final = 10
"""Last times in the answer about one schedule; `../fires` has more."""

schedule_router = APIRouter(prefix="/v1", route_class=StrictRoute, tags=["schedules"])

WITH_ETAG: Final = with_etag("The schedule's revision, in quotes.")
_TAG: Final = re.compile(r'"(\d{1,15})"', re.ASCII)
IfMatch = Annotated[
    str | None, Header(description='Change the schedule only if it has this revision: `"3"`.')
]
IfNoneMatch = Annotated[str | None, Header(description="`*`: make the schedule only if none has the name.")]


@schedule_router.get("/schedules", response_model=SchedulesView, summary="List schedules")
async def list_schedules(served: Served, caller: Asking) -> Response:
    """Answer with the schedules, by name, each with its next time and its last one; a key without a tenant gets those of tenants, too, as `TENANT:NAME`."""
    found = await served.engine.list_schedules(tenant=caller.tenant or None)
    return answer({"schedules": [await _view(served, caller, each, next_count=1, fires=1) for each in found]})


@schedule_router.post("/schedules:next", response_model=TimesView, summary="See the times of a schedule")
async def preview_times(
    body: TimesBody, served: Served, count: Annotated[int, Query(ge=1, le=100)] = 10
) -> Response:
    """Answer with the next times of an interval or a cron expression; nothing is stored."""
    given = body.model_dump(exclude_none=True)
    return answer({"times": served.engine.preview_schedule(count=count, **given)})


@schedule_router.put(
    "/schedules/{name}", response_model=ScheduleView, responses=WITH_ETAG, summary="Make or change a schedule"
)
async def put_schedule(
    name: str,
    body: ScheduleBody,
    served: Served,
    caller: Asking,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Check the plan and its inputs, and answer with the schedule; a schedule that is changed goes on from now."""
    given = body.model_dump(exclude={"budget"})
    made = await served.engine.add_schedule(
        caller.plan(name),
        **given,
        budget=body.budget.amounts() if body.budget else None,
        submitter=caller.submitter,
        by=caller.name or "",
        replaces=_replaced(if_match, if_none_match),
    )
    return await _answer(served, caller, made)


@schedule_router.get(
    "/schedules/{name}", response_model=ScheduleView, responses=WITH_ETAG, summary="Get a schedule"
)
async def get_schedule(name: str, served: Served, caller: Asking) -> Response:
    """Answer with the schedule, its next times, and the last ones with their runs."""
    return await _answer(served, caller, await served.engine.get_schedule(caller.plan(name)))


@schedule_router.delete("/schedules/{name}", status_code=204, summary="Remove a schedule")
async def remove_schedule(name: str, served: Served, caller: Asking) -> Response:
    """Remove the schedule and the record of its times, and answer with 204; its runs stay."""
    await served.engine.remove_schedule(caller.plan(name))
    return Response(status_code=HTTPStatus.NO_CONTENT)


@schedule_router.post(
    "/schedules/{name}/pause", response_model=ScheduleView, responses=WITH_ETAG, summary="Pause a schedule"
)
async def pause_schedule(name: str, served: Served, caller: Asking) -> Response:
    """Let its times pass without runs; a run that is under way goes on."""
    return await _answer(
        served, caller, await served.engine.pause_schedule(caller.plan(name), by=caller.name or "")
    )


@schedule_router.post(
    "/schedules/{name}/resume", response_model=ScheduleView, responses=WITH_ETAG, summary="Resume a schedule"
)
async def resume_schedule(name: str, served: Served, caller: Asking) -> Response:
    """Let a paused schedule go on from now; the times that passed are not caught up on."""
    return await _answer(
        served, caller, await served.engine.resume_schedule(caller.plan(name), by=caller.name or "")
    )


@schedule_router.get(
    "/schedules/{name}/fires", response_model=FiresView, summary="List the times of a schedule"
)
async def list_fires(
    name: str,
    served: Served,
    caller: Asking,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    before: Annotated[float | None, Query(description="Only earlier times, Unix seconds.")] = None,
) -> Response:
    """Answer with the last times, the latest first, what became of each, and their runs."""
    fires = await served.engine.schedule_fires(caller.plan(name), limit=limit, before=before)
    return answer({"fires": [_fire(caller, fire) for fire in fires]})


async def _answer(served: ServedEngine, caller: Caller, schedule: Schedule) -> Response:
    view = await _view(served, caller, schedule, next_count=NEXT_SHOWN, fires=FIRES_SHOWN)
    return answer(view, headers={"ETag": f'"{schedule.revision}"'})


async def _view(
    served: ServedEngine, caller: Caller, schedule: Schedule, *, next_count: int, fires: int
) -> dict[str, Any]:
    last = await served.engine.schedule_fires(schedule.full_name, limit=fires)
    return {
        **schedule.to_dict(),
        "name": schedule.name if caller.tenant else schedule.full_name,
        "next": served.engine.next_times(schedule, next_count),
        "fires": [_fire(caller, fire) for fire in last],
    }


def _fire(caller: Caller, fire: Fire) -> dict[str, Any]:
    """Return one time as the caller sees it: a tenant sees its own names alone."""
    return {**fire.to_dict(), **({"schedule": fire.schedule} if caller.tenant else {})}


def _replaced(if_match: str | None, if_none_match: str | None) -> int | None:
    """Return the revision that may be replaced; `None`: none has the name, -1: any. Raises: Refusal: as `replaced_tag`."""
    tag = replaced_tag(if_match, if_none_match, "schedule", _TAG, '"3"')
    if tag is None:
        return ANY_REVISION
    return int(tag) if tag else None


answer_heads(schedule_router)


async def drive_schedules(served: ServedEngine) -> None:
    """Start the runs whose time has come, until it is cancelled."""
    await repeat(lambda: _fire_due(served), "no look for the times of schedules")


async def _fire_due(served: ServedEngine) -> None:
    if not served.engine.schedules_due():
        return
    try:
        await served.queue.check_queue()
    except Refusal:  # the times wait until there is room again, or count as missed
        return
    if not await served.queue.has_budget():  # times that pass now are caught up on by the schedule's own rule
        return
    for fire in await served.engine.fire_schedules():
        if fire.state == "started" and fire.run_id is not None:
            served.queue.adopt(fire.run_id)
