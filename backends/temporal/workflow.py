"""The workflow of a run: it has the run driven by an activity, and waits between two drives. The run itself is in the store. And that of a time of a schedule.

This module imports nothing of firmplan: Temporal replays it on every worker, and each name here is stored in the histories of workflows, so that
none may be renamed, and the order of commands may change only behind `workflow.patched`. It runs outside the sandbox of the SDK, which would
load it anew for each run: it reads no clock but the workflow's, and holds no state but its own.

A history holds ids, statuses and times. Plans, inputs and results never pass through Temporal.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Final

from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

RUN: Final = "firmplan.run"
"""The type of the workflow."""
DRIVE: Final = "firmplan.drive"
"""The type of the activity."""
FIRE_SCHEDULE: Final = "firmplan.schedule"
"""The type of the workflow of one time of a schedule."""
FIRE: Final = "firmplan.fire"
"""The type of its activity."""
WAKE: Final = "wake"
"""The signal that a decision was stored, or that the run may go on for another reason."""

PLAN: Final = SearchAttributeKey.for_keyword("FirmplanPlan")
STATUS: Final = SearchAttributeKey.for_keyword("FirmplanStatus")
TENANT: Final = SearchAttributeKey.for_keyword("FirmplanTenant")
KEY: Final = SearchAttributeKey.for_keyword("FirmplanKey")

HEARTBEAT_S: Final = 8.0
"""After so many seconds without a heartbeat Temporal starts the next attempt. It decides nothing but that: the attempt asks the store whether the owner lives."""
RETRY_S: Final = 1.0
"""Seconds until the attempt after one that ended without an answer, such as with its worker."""
DRIVE_DAYS: Final = 365
"""Temporal asks for an end of every activity; heartbeats end those whose worker has died long before."""

FIRE_S: Final = 120.0
"""The longest that an attempt to start what is due may take: one that is cut off has claimed nothing that another does not find."""
FIRE_RETRIES: Final = RetryPolicy(
    initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30)
)
SCHEDULED: Final = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")
"""Temporal's own: the time for which a schedule has started a workflow."""

_RETRIES: Final = RetryPolicy(
    # Flat: a wait that doubles would add itself to the time of a takeover.
    initial_interval=timedelta(seconds=RETRY_S),
    backoff_coefficient=1.0,
)


@workflow.defn(name=RUN, sandboxed=False)
class RunWorkflow:
    """One run."""

    def __init__(self) -> None:
        self._wakes = 0
        self._status = ""

    @workflow.run
    async def run(self, request: dict[str, Any]) -> str:
        """Have the run driven until it has ended; return its status.

        Args:
            request: `run`: its id; `store`: where it is, without secrets; `attributes`: whether the namespace has the search attributes.
        """
        self._status = str(request.get("status", ""))
        while True:
            wakes = self._wakes
            try:
                found = await self._drive(request)
            except asyncio.CancelledError:
                # Somebody cancelled the workflow: so the run is cancelled, in the store, by its owner or the next drive.
                request = {**request, "cancel": True}
                continue
            self._note_status(request, found["status"])
            if found["ended"]:
                return str(found["status"])
            request = await self._wait(request, wakes, found.get("until"))
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new({**request, "status": self._status})

    async def _drive(self, request: dict[str, Any]) -> dict[str, Any]:
        driving: dict[str, Any] = await workflow.execute_activity(
            DRIVE,
            request,
            heartbeat_timeout=timedelta(seconds=HEARTBEAT_S),
            start_to_close_timeout=timedelta(days=DRIVE_DAYS),
            retry_policy=_RETRIES,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        return driving

    async def _wait(self, request: dict[str, Any], wakes: int, until: float | None) -> dict[str, Any]:
        """Wait for a signal that came since the last drive began, or for a time; return the request of the next drive."""
        timeout = None if until is None else max(0.0, until - workflow.time())
        try:
            await workflow.wait_condition(lambda: self._wakes > wakes, timeout=timeout)
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            return {**request, "cancel": True}
        return request

    def _note_status(self, request: dict[str, Any], status: str) -> None:
        if request.get("attributes") and status != self._status:
            workflow.upsert_search_attributes([STATUS.value_set(status)])  # pyright: ignore[reportUnknownMemberType]  # as the SDK has it
        self._status = status

    @workflow.signal(name=WAKE)
    def wake(self) -> None:
        """Have the run driven again, if it waits."""
        self._wakes += 1


@workflow.defn(name=FIRE_SCHEDULE, sandboxed=False)
class FireWorkflow:
    """One time of a schedule: a worker looks which times have come, and starts their runs."""

    @workflow.run
    async def run(self, request: dict[str, Any]) -> None:
        """Have what is due started.

        Args:
            request: `schedule`: its name; `store` and `identity`: where it is; `renew_at`: the time from which on Temporal needs further times.
        """
        at = workflow.info().typed_search_attributes.get(SCHEDULED) or workflow.now()
        await workflow.execute_activity(
            FIRE,
            {**request, "at": at.timestamp()},
            start_to_close_timeout=timedelta(seconds=FIRE_S),
            retry_policy=FIRE_RETRIES,
        )


def attributes_of(plan: str, status: str, tenant: str, key: str) -> TypedSearchAttributes:
    """Return the search attributes of a run; those without a value are left out."""
    given = ((PLAN, plan), (STATUS, status), (TENANT, tenant), (KEY, key))
    return TypedSearchAttributes([SearchAttributePair(name, value) for name, value in given if value])
