"""Schedules of saved plans as Schedules of Temporal, which wake a worker at each time; see `SchedulesBackend`.

Rules:

- **The store is the truth.** It says which times a schedule has, and it alone claims them: a worker that is woken looks at the store as a server does. So
  a time that Temporal and a server beside it fire, or that Temporal fires twice or late, has one run, and what a schedule does about missed times and
  about runs that have not ended is decided in the store.
- **Equal times.** An interval is an interval of Temporal's. Of a cron expression Temporal gets the next times themselves: its own cron differs
  in what changes of the clock do and where day of month and day of week are both given. The times are renewed long before the last has come.
- **A sweep mends.** Whoever changes a schedule stores it first, then tells Temporal. A worker makes what is missing there, corrects what differs (also
  what somebody has changed there), and removes what is in the store no more. It also fires what Temporal did not.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from temporalio import activity
from temporalio.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleCalendarSpec,
    ScheduleIntervalSpec,
    ScheduleListDescription,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
)
from temporalio.service import RPCError, RPCStatusCode

from ...errors import FirmplanError, ServerError
from .workflow import FIRE, FIRE_SCHEDULE

if TYPE_CHECKING:
    from ..backend import KeptSchedule, ScheduleHost
    from .backend import TemporalBackend

ID: Final = "firmplan-schedule-{identity}-{name}"
"""The id of a schedule in Temporal: several stores may have one namespace."""
TIMES: Final = 40
"""So many times of a cron expression stand in Temporal; half of them must have passed before a worker renews them."""
LATE: Final = {"skip": timedelta(seconds=60), "latest": timedelta(days=365), "all": timedelta(days=365)}
"""How late Temporal still wakes a worker after it was away, by the schedule's rule for missed times."""
EARLY_S_MAX: Final = 30.0
"""The longest that a worker waits whose clock is behind Temporal's."""
LOOK_S: Final = 5.0
"""A sweep looks for times that have passed after so many seconds, more or less by half."""
MIRROR_S: Final = 60.0
"""The same, for what differs between the store and Temporal."""
LIST_S: Final = 30.0
"""The longest that Temporal's list of schedules may take."""


class ScheduleMirror:
    """The schedules of one store in a namespace of Temporal.

    Args:
        backend: The connection.
    """

    def __init__(self, backend: TemporalBackend) -> None:
        self._backend = backend

    async def put(self, schedule: KeptSchedule) -> None:
        """Make a schedule in Temporal as it is in the store, or change it. Raises: ServerError, StoreError."""
        name, identity = schedule.full_name, await self._backend.host.store_identity()
        made, client = self._schedule(schedule, identity), self._backend.client
        memo = {"store": self._backend.host.store_name, "schedule": name}
        try:
            async with self._backend.asking(f"schedule '{name}'"):
                try:
                    await client.create_schedule(_id(identity, name), made, memo=memo)
                except ScheduleAlreadyRunningError:
                    handle = client.get_schedule_handle(_id(identity, name))
                    await handle.update(lambda _: ScheduleUpdate(made))
        except ValueError as fault:
            raise ServerError(
                f"schedule '{name}' is none of Temporal's: {fault}", code="unreachable"
            ) from fault

    async def remove(self, name: str) -> None:
        """Remove a schedule from Temporal, if it is there. Raises: ServerError, StoreError."""
        identity = await self._backend.host.store_identity()
        async with self._backend.asking(f"schedule '{name}'"):
            try:
                await self._backend.client.get_schedule_handle(_id(identity, name)).delete()
            except RPCError as fault:
                if fault.status != RPCStatusCode.NOT_FOUND:
                    raise

    async def mend(self, host: ScheduleHost) -> list[str]:
        """Make Temporal's schedules those of the store; return the names of those that differed. Raises: ServerError, StoreError."""
        # Temporal first: a schedule is stored before Temporal is told, so what Temporal has and the store then lacks was removed.
        there = await self._list()
        kept = {each.full_name: each for each in await host.list_schedules(tenant=None)}
        differing = [name for name, each in kept.items() if not _is_mirrored(each, there.get(name))]
        for name in differing:
            await self.put(kept[name])
        gone = sorted(set(there) - set(kept))
        for name in gone:
            await self.remove(name)
        return [*differing, *gone]

    async def _list(self) -> dict[str, ScheduleListDescription]:
        """Return the schedules of the store that Temporal has, by name."""
        prefix = _id(await self._backend.host.store_identity(), "")
        async with self._backend.asking("the list of schedules", LIST_S):
            found = await self._backend.client.list_schedules()
            return {each.id.removeprefix(prefix): each async for each in found if each.id.startswith(prefix)}

    def _schedule(self, schedule: KeptSchedule, identity: str) -> Schedule:
        name, spec, renew_at = schedule.full_name, _interval(schedule), None
        if spec is None:
            times = schedule.next_times(time.time(), TIMES)
            spec = ScheduleSpec(calendars=[_calendar(at) for at in times])
            renew_at = times[len(times) // 2] if times else None
        request = {
            "schedule": name,
            "store": self._backend.host.store_name,
            "identity": identity,
            "renew_at": renew_at,
        }
        return Schedule(
            action=ScheduleActionStartWorkflow(
                FIRE_SCHEDULE,
                request,
                id=f"firmplan-fire-{identity}-{name}",  # Temporal adds the time
                task_queue=self._backend.address.queue,
            ),
            spec=spec,
            # One look at the store is enough for all times that have come; a look that has begun may have missed the newest.
            policy=SchedulePolicy(ScheduleOverlapPolicy.BUFFER_ONE, LATE[schedule.catch_up]),
            state=ScheduleState(note=_note(schedule), paused=schedule.paused),
        )


class Firing:
    """What a worker does when Temporal wakes it for a schedule.

    Args:
        backend: The connection.
        schedules: The engine, as far as it has schedules.
    """

    def __init__(self, backend: TemporalBackend, schedules: ScheduleHost) -> None:
        self._backend = backend
        self._schedules = schedules

    @activity.defn(name=FIRE)
    async def fire(self, request: dict[str, Any]) -> None:
        """Start the runs of all times that have come. Raises: StoreError; ServerError: this worker is of another store."""
        if request["identity"] != await self._backend.host.store_identity():
            raise ServerError(
                f"schedule '{request['schedule']}' is in the store {request['store']}, and this worker works on {self._backend.host.store_name}: expected all "
                "engines and workers of a task queue on one store",
                code="other-store",
            )
        at = float(request["at"])
        if (early := at - time.time()) > 0:
            await asyncio.sleep(min(early, EARLY_S_MAX))
        await self._schedules.fire_schedules()
        if request.get("renew_at") is not None and at >= request["renew_at"]:
            for each in await self._schedules.list_schedules(tenant=None):
                if each.full_name == request["schedule"]:
                    await self._backend.schedules.put(each)


async def sweep(backend: TemporalBackend, schedules: ScheduleHost) -> None:
    """Mend what differs between the store and Temporal, and fire what Temporal did not, until this is cancelled."""

    async def fire() -> None:
        if schedules.schedules_due():
            await schedules.fire_schedules()

    async def mend() -> None:
        if mended := await backend.schedules.mend(schedules):
            backend.host.log.info("schedules mended in Temporal", schedules=mended)

    # Side by side: where Temporal is away, times are fired all the same.
    async with asyncio.TaskGroup() as group:
        group.create_task(_repeat(backend, fire, LOOK_S))
        group.create_task(_repeat(backend, mend, MIRROR_S))


async def _repeat(backend: TemporalBackend, work: Callable[[], Awaitable[None]], every_s: float) -> None:
    """Do some work again and again, for the first time soon."""
    trouble, pause = "", min(LOOK_S, every_s)
    while True:
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311  # no secret
        pause = every_s
        try:
            await work()
            trouble = ""
        except FirmplanError as fault:
            if fault.code != trouble:  # a server that is away for an hour is worth one line
                backend.host.log.warning("sweep of schedules failed", error=fault.message, code=fault.code)
            trouble = fault.code


def _id(identity: str, name: str) -> str:
    return ID.format(identity=identity, name=name)


def _interval(schedule: KeptSchedule) -> ScheduleSpec | None:
    """Return the times of an interval, which both count from the same moment; `None`: it is none."""
    if schedule.every is None:
        return None
    every = timedelta(seconds=schedule.every)
    offset = timedelta(seconds=schedule.start % schedule.every)  # Temporal counts from 1970
    start = datetime.fromtimestamp(schedule.start, UTC)
    return ScheduleSpec(intervals=[ScheduleIntervalSpec(every, offset)], start_at=start)


def _calendar(at: float) -> ScheduleCalendarSpec:
    """Return one moment."""
    found = datetime.fromtimestamp(at, UTC)
    return ScheduleCalendarSpec(
        second=[ScheduleRange(found.second)],
        minute=[ScheduleRange(found.minute)],
        hour=[ScheduleRange(found.hour)],
        day_of_month=[ScheduleRange(found.day)],
        month=[ScheduleRange(found.month)],
        year=[ScheduleRange(found.year)],
    )


def _note(schedule: KeptSchedule) -> str:
    """Return what people read in Temporal, and what tells whether the schedule is there as it is in the store."""
    when = (
        f"every {schedule.every:g} s"
        if schedule.every is not None
        else f"cron '{schedule.cron}' in {schedule.tz}"
    )
    return (
        f"plan '{schedule.plan}', {when}, revision {schedule.revision} of the schedule made at {schedule.created!r}: firmplan has it in its store, so change it "
        "there (`firmplan schedules`)"
    )


def _is_mirrored(kept: KeptSchedule, there: ScheduleListDescription | None) -> bool:
    """Whether Temporal has a schedule as it is in the store, and times to come."""
    if there is None or there.schedule is None:
        return False
    state = there.schedule.state
    has_times = kept.paused or kept.every is not None or bool(there.info and there.info.next_action_times)
    return state.note == _note(kept) and state.paused == kept.paused and has_times
