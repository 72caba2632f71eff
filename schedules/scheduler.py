"""Claims the times of schedules that have come, and starts their runs.

`look` is one round, and any process may call it as often as it likes. The rules:

1. A time is claimed by one process, which moves the schedule's `next_at` in the store (`ScheduleTable.claim`). The claim decides at once which
   times are missed, by the schedule's rule for catching up.
2. A claimed time is a fire that is `due`, until its run is in the store. The run's id follows from the schedule and the time, and a store makes one run
   of an id: so a fire that several processes start, one after another or at once, has one run.
3. Fires of a schedule start in the order of their times, unless its runs may overlap.

A fire whose run cannot be submitted (no such plan, an input that does not fit) has `failed`; a store that fails is asked again in the next round.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Final, Protocol

from ..errors import FirmplanError, InputRejected, StoreError
from .schedule import Fire, FireState, Schedule
from .table import DUE_MAX

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from .table import ScheduleTable

LEASE_S: Final = 15.0  # how long one process has to submit the run of a fire, which takes milliseconds
DETAIL_MAX: Final = 1_000  # characters of the reason of a fire
MISSED_COUNTED: Final = 100  # missed times up to which their number is exact
ON_TIME_MAX: Final = (
    60  # times that are claimed on time together: an interval of a second, and a look that is late
)


class Runs(Protocol):
    """What a scheduler needs of an engine."""

    async def start(self, schedule: Schedule, fire: Fire) -> None:
        """Submit and start the run of a fire. Raises: FirmplanError: it cannot be submitted."""
        ...

    async def is_known(self, run_id: str) -> bool:
        """Whether there is a run of that id."""
        ...

    async def cancel(self, run_id: str) -> None:
        """Ask a run to stop."""
        ...


class Scheduler:
    """The schedules of one store, as one process drives them.

    Args:
        table: The schedules.
        runs: Starts and stops runs.
        now: The clock, Unix seconds.
        log: The log, for fires that failed or were missed.

    Attributes:
        left_s: Seconds from the last look to the next time of a schedule, as far as it has found; 0: there is something left to do.
    """

    def __init__(
        self,
        table: ScheduleTable,
        runs: Runs,
        now: Callable[[], float],
        log: FilteringBoundLogger,
    ) -> None:
        self._table = table
        self._runs = runs
        self._now = now
        self._log = log
        self._unreadable: set[str] = (
            set()
        )  # schedules whose times cannot be computed here; each is logged once
        self.left_s = 0.0
        self._cancelled: set[str] = set()  # runs that were asked to stop for the sake of a later one

    async def look(self) -> list[Fire]:
        """Claim every time that has come, and start the runs that may start; return the fires that started or failed in this round.

        Raises:
            StoreError: The store failed; the next round goes on.
        """
        now = self._now()
        next_at = await self._table.next_at()
        is_due = next_at is not None and next_at <= now
        for schedule in await self._table.list_due(now) if is_due else ():
            await self._claim(schedule, now)
        found = await self._table.list_due_fires()
        if is_due or found:
            self.left_s = 0.0
        else:
            self.left_s = math.inf if next_at is None else next_at - now
        # Where there are more than one round goes through, fires that wait for earlier runs must not keep the others from their turn.
        is_full = len(found) >= DUE_MAX
        changed: list[Fire] = []
        due = sorted(found, key=lambda fire: (fire.tenant, fire.schedule, fire.at))
        for (tenant, name), group in groupby(due, key=lambda fire: (fire.tenant, fire.schedule)):
            known = await self._table.find(name, tenant)
            fires = list(group)
            if known is None or (
                is_full and known.overlap != "allow" and not await self._table.is_earliest(fires[0])
            ):
                continue
            changed += await self._start_all(known, fires, is_full=is_full)
        return changed

    # --- claim

    async def _claim(self, schedule: Schedule, now: float) -> None:
        try:
            fires, then = claimed_fires(schedule, now), schedule.times.after(now)
        except (
            InputRejected
        ) as fault:  # another process has another version of the time zones, or of firmplan
            if schedule.name not in self._unreadable:
                self._unreadable.add(schedule.name)
                self._log.warning(
                    "the times of a schedule cannot be computed here",
                    schedule=schedule.name,
                    error=str(fault),
                )
            return
        if not await self._table.claim(schedule, fires, then):
            return  # another process claimed them, or somebody changed the schedule
        for fire in fires:
            if fire.state == "missed":
                self._log.warning(
                    "times of a schedule missed", schedule=schedule.name, missed=fire.missed, until=fire.at
                )

    # --- start

    async def _start_all(self, schedule: Schedule, fires: Sequence[Fire], *, is_full: bool) -> list[Fire]:
        """Start the due fires of one schedule that may start, oldest first; `is_full`: those that wait let others go first in the next round."""
        changed: list[Fire] = []
        for place, fire in enumerate(fires):
            if schedule.paused:
                await self._settle(fire, "skipped", "the schedule was paused")
                continue
            if schedule.overlap != "allow":
                running = await self._table.running(schedule)
                if running and not await self._is_started(fire):
                    if await self._wait_or_skip(schedule, fire, running, fires[place + 1 :]):
                        if is_full:
                            await self._table.lease(fire, self._now(), self._now())
                        break
                    continue
            now = self._now()
            if await self._table.lease(fire, now, now + LEASE_S):
                changed += await self._start(schedule, fire)
            elif schedule.overlap != "allow":
                break  # another process is about to start it
        return changed

    async def _wait_or_skip(
        self, schedule: Schedule, fire: Fire, running: Sequence[str], later: Sequence[Fire]
    ) -> bool:
        """Do what the schedule says about a fire that comes while earlier runs have not ended; return whether it waits for them."""
        match schedule.overlap:
            case "queue":
                for each in (
                    later
                ):  # one run waits: where runs take longer than the interval, a line would grow for ever
                    await self._settle(each, "skipped", f"another run waits for run {running[0]} already")
                return True
            case "cancel":
                if later:
                    await self._settle(
                        fire, "skipped", f"run {running[0]} has not ended, and a later time came"
                    )
                    return False
                for run_id in set(running) - self._cancelled:
                    self._cancelled.add(run_id)
                    await self._runs.cancel(run_id)
                return True
            case _:
                await self._settle(fire, "skipped", f"run {running[0]} has not ended")
                return False

    async def _is_started(self, fire: Fire) -> bool:
        """Whether the run of a fire is in the store: a process may have died right after it submitted the run."""
        return fire.run_id is not None and await self._runs.is_known(fire.run_id)

    async def _start(self, schedule: Schedule, fire: Fire) -> list[Fire]:
        """Start the run of a fire that this process has leased; return it as it is then."""
        try:
            if not await self._is_started(fire):
                await self._runs.start(schedule, fire)
        except StoreError:
            raise
        except FirmplanError as fault:
            # Another process may have made the run, of another version of the plan; or a tool of the run is missing here.
            if await self._is_started(fire):
                return [await self._settle(fire, "started", str(fault)[:DETAIL_MAX])]
            return await self._failed(fire, str(fault))
        except Exception as bug:  # noqa: BLE001  # one schedule must not keep the others from their times
            self._log.exception("a schedule could not start its run", schedule=schedule.name)
            return await self._failed(fire, repr(bug))
        return [await self._settle(fire, "started")]

    async def _failed(self, fire: Fire, why: str) -> list[Fire]:
        self._log.warning(
            "the run of a schedule did not start", schedule=fire.schedule, at=fire.at, error=why
        )
        return [await self._settle(fire, "failed", why[:DETAIL_MAX])]

    async def _settle(self, fire: Fire, state: FireState, detail: str = "") -> Fire:
        run_id = fire.run_id if state == "started" else None
        settled = replace(fire, state=state, run_id=run_id, noted=self._now(), detail=detail)
        await self._table.settle(settled)
        return settled


def claimed_fires(schedule: Schedule, now: float) -> list[Fire]:
    """Return what becomes of the times of a schedule from `next_at` up to now, earliest first; at most one fire stands for all missed times."""
    times, late_until = schedule.times, now - schedule.late_s
    # Times are whole seconds, and `next_at` itself is due.
    since = (now if schedule.next_at is None else schedule.next_at) - 0.5
    on_time, _ = times.between(max(since, late_until), now, ON_TIME_MAX)
    wanted = {"skip": 0, "latest": 0 if on_time else 1, "all": schedule.catch_up_max}[schedule.catch_up]
    late, earlier = times.between(since, late_until, max(wanted, MISSED_COUNTED) + 1)
    left_out = late[: max(0, len(late) - wanted)]
    fires = [_due(schedule, at, now) for at in (*late[len(left_out) :], *on_time)]
    if left_out:
        why, count = "no process was there", earlier + len(left_out)
        missed = Fire(schedule.name, left_out[-1], "missed", None, now, why, count, schedule.tenant)
        fires.insert(0, missed)
    return fires


def _due(schedule: Schedule, at: float, now: float) -> Fire:
    return Fire(schedule.name, at, "due", schedule.run_id_at(at), now, "", 0, schedule.tenant)
