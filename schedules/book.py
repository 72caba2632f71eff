"""What people do with schedules: make, change, pause and remove them, and look at their times.

A schedule is checked like a run when it is made: its plan is there and passes its check, and its inputs fit. Both may change later; then a time
of the schedule fails, and says why.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ..errors import REPLACED, UNKNOWN_SCHEDULE, InputRejected, ServerError
from ..executor.runs.archive import qualified, split_name
from ..plans.reports.nearest import short
from .schedule import Fire, Schedule, new_schedule

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from ..backends.backend import SchedulesBackend
    from ..plans.values import Json
    from .table import ScheduleTable

SCHEDULES_MAX: Final = 1_000  # of one tenant: each look goes through those that are due
FIRES_MAX: Final = 500  # fires of one answer
NEXT_MAX: Final = 1_000  # times of one answer
ANY_REVISION: Final = -1  # of `put`: the schedule may be new, or replace any


class ScheduleBook:
    """The schedules of one store.

    Args:
        table: Where they are.
        now: The clock, Unix seconds.
        check: Returns the plans that the run of a schedule would have now (`Schedule.seen`); raises `FirmplanError` if it could not be submitted.
        mirror: The backend that wakes its workers at the times of schedules; `None`: processes look by themselves.
        log: The log, for what a mirror was not told.
    """

    def __init__(
        self,
        table: ScheduleTable,
        now: Callable[[], float],
        check: Callable[[Schedule], Awaitable[Mapping[str, Json]]],
        mirror: SchedulesBackend | None,
        log: FilteringBoundLogger,
    ) -> None:
        self._table = table
        self._now = now
        self._check = check
        self._mirror = mirror
        self._log = log

    async def put(self, name: str, plan: str, *, replaces: int | None, given: Mapping[str, Any]) -> Schedule:
        """Make a schedule, or change one; a changed schedule goes on from now.

        Args:
            name: Its name.
            plan: The name or digest of a saved plan.
            replaces: The revision that it replaces; `None`: none has the name, `ANY_REVISION`: it may be new, or replace any.
            given: The other fields (`new_schedule`).

        Raises:
            InputRejected: A value is not valid, or another schedule stands than `replaces` (code `replaced`).
            PlanRejected: The plan does not pass its check any more.
        """
        made = new_schedule(name, plan, self._now(), given)
        made = made.changed(seen=await self._check(made))
        old = await self._table.find(made.name, made.tenant)
        if old is not None:
            made = made.changed(created=old.created, revision=old.revision + 1)
        elif await self._table.count(made.tenant) >= SCHEDULES_MAX:
            raise InputRejected(
                f"there are {SCHEDULES_MAX:,} schedules already; expected no more of one tenant: remove some, or have one run do more"
            )
        expected = None if old is None else old.revision
        is_expected = replaces in (ANY_REVISION, expected)
        if is_expected and await self._table.save(made, replaces=expected):
            await self._tell(made.full_name, made)
            return made
        wanted = "no schedule of that name" if replaces is None else f"revision {replaces}"
        if replaces == ANY_REVISION:
            wanted = "nobody to change it at the same moment"
        found = "none" if expected is None else f"revision {expected}"
        raise InputRejected(
            f"the schedule '{name}' was not saved: expected {wanted}, found {found}; read it again, and save your change of it",
            code=REPLACED,
        )

    async def list_all(self, tenant: str | None) -> list[Schedule]:
        """Return the schedules of a tenant, by name; `None`: all schedules."""
        return await self._table.list_all(tenant)

    async def get(self, name: str) -> Schedule:
        """Return a schedule. Raises: InputRejected: there is none of that name (code `unknown-schedule`)."""
        tenant, own = _parts(name)
        found = await self._table.find(own, tenant) if own else None
        if found is None:
            raise _unknown(name)
        return found

    async def remove(self, name: str) -> None:
        """Remove a schedule and the record of its times; its runs stay. Raises: InputRejected: as `get`."""
        tenant, own = _parts(name)
        if not own or not await self._table.remove(own, tenant):
            raise _unknown(name)
        await self._tell(qualified(own, tenant), None)

    async def pause(self, name: str, *, paused: bool, by: str) -> Schedule:
        """Pause a schedule, or let it go on from now. Raises: InputRejected: as `get`, or somebody changes it at the same moment."""
        old = await self.get(name)
        if old.paused == paused:
            return old
        then = old.times.after(max(self._now(), old.start - 1))
        made = old.changed(paused=paused, by=by, revision=old.revision + 1, next_at=then)
        if not await self._table.save(made, replaces=old.revision):
            raise InputRejected(
                f"somebody else has just changed the schedule '{name}'; try again", code=REPLACED
            )
        await self._tell(made.full_name, made)
        return made

    async def _tell(self, name: str, schedule: Schedule | None) -> None:
        """Tell the mirror of a schedule that was stored, or removed."""
        if self._mirror is None:
            return
        try:
            if schedule is None:
                await self._mirror.remove_schedule(name)
            else:
                await self._mirror.put_schedule(schedule)
        except (
            ServerError
        ) as fault:  # no error of the caller's: it is stored, and a worker tells the mirror later
            self._log.warning("the backend was not told of a schedule", schedule=name, error=str(fault))

    async def fires(self, name: str, *, limit: int, before: float | None) -> list[Fire]:
        """Return the last fires of a schedule, the latest time first; `before`: of earlier times. Raises: InputRejected: as `get`."""
        found = await self.get(name)
        return await self._table.list_fires(found.name, found.tenant, limit=limit, before=before)


def _parts(name: object) -> tuple[str, str]:
    """Return the tenant and the own name of a schedule; an empty name where there can be no such schedule."""
    if not isinstance(name, str) or not name.isascii() or "\0" in name:
        return "", ""
    return split_name(name)


def _unknown(name: object) -> InputRejected:
    return InputRejected(
        f"there is no schedule {short(str(name))!r}; `firmplan schedules` lists them", code=UNKNOWN_SCHEDULE
    )
