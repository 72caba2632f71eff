"""The runs of one store, from submission to result: the entry point of this folder.

An `Execution` plans, drives, resumes and waits for runs. Other modules do the parts: `submission.py` makes runs, `archive.py` shows them,
`decisions.py` records decisions, `driver.py` drives one run, and `restore.py` reads a journal back.

Rules: a run is driven by one owner, which has claimed it in the store. A decision is left in the store, where the owner finds it. A
snapshot of a run that this process does not drive is made from its journal.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from ...errors import ConfigError, InputRejected, PlanError, PlanningFailed, StoreError
from ...plans.nearest import listing
from ..budget import PlanningCost, amounts_in
from ..calls.caller import callers_in, recorded_values
from ..calls.early import EarlySteps
from ..calls.facilities import Facilities
from ..events import BudgetRaised, Cause, RunParked, RunResumed, RunStarted
from ..execution_tree import is_decided, undecided_attempt
from ..fork import Fork, Inherited, inherited_from
from ..journal.header import Header, header_digest
from ..journal.records import Entry, Event
from ..journal.restore import build_machine, check_header, fold, load_entries, parse_lines
from ..machine import Machine
from ..states import FINAL, RunStatus
from ..stores.store import LEASE_S, Decision, OwnerName, RunRow
from .archive import UNDER_WAY, Archive
from .deaths import (
    ALONE_AFTER,
    PARK_AFTER,
    PLANNING_DEATHS,
    Deaths,
    DriveLock,
    Permit,
    count_deaths,
    planning_deaths,
)
from .decisions import Decisions
from .driver import Driver, expect_outcomes, heap_frozen
from .owner import Owner, Presence, RunOwner
from .replays import Replays
from .run import Run, run_status
from .store_care import Deletion, RunsDeleted
from .submission import PlannedRun, Submissions
from .watch import POLL_S, Takeover, Watch

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from ...plans.values import Json
    from ...tools import Used

TELL_S: Final = 2.0  # how long to wait for a run of another process before naming that process
TELL_AGAIN_S: Final = 60.0
TAKE_OVER_HINT: Final = (
    "if it hangs, `firmplan resume RUN --take-over`, or resume(take_over=True), takes the run from it"
)
LINES_MAX: Final = 100  # of a journal, read at once for whoever follows its events
CUT_OFF_S: Final = 5.0  # how long cancelled calls may clean up


@dataclass(frozen=True, slots=True)
class JournalSeen:
    """The journal of a run as it was before the claim, with the head of its chain: if the head is the same afterwards, it need not be read again."""

    head: bytes
    entries: Sequence[Entry]
    deaths: Deaths


@dataclass(frozen=True, slots=True)
class Taken:
    """A run that was claimed to be driven.

    Attributes:
        deaths: How deaths affect the run.
        first: The events that begin or continue the run.
        is_asked: Whether this is an explicit resume.
    """

    row: RunRow
    header: Header
    entries: Sequence[Entry]
    deaths: Deaths
    first: Sequence[Cause]
    is_asked: bool = False


class Execution:
    """The runs of one store, as this process sees and drives them.

    Args:
        facilities: What the runs of an engine share.
        presence: How processes of this machine see the owners of the store.
        park_after: How many deaths of its process in a row, without progress, park a run.
        lease_s: Length of the lease in seconds.
        on_waiting: Called with the other process that this one waits for, and again from time to time; `None`: the log names it.
    """

    def __init__(
        self,
        facilities: Facilities,
        presence: Presence,
        *,
        park_after: int = PARK_AFTER,
        lease_s: float = LEASE_S,
        on_waiting: Callable[[RunOwner], None] | None = None,
    ) -> None:
        self.facilities = facilities
        self._park_after = park_after
        self._on_waiting = on_waiting or self._log_waiting
        self._lock = DriveLock()
        self._claimed: dict[str, RunRow] = {}
        self._store = facilities.store
        self._owner = Owner(presence, lease_s)
        facilities.ownership = self._owner
        facilities.processes.lease = self._owner.lease
        facilities.expect_lease = lambda since: self._owner.expect_lease(self._store, since)
        self._drivers: dict[str, Driver] = {}
        self._driving: dict[str, asyncio.Task[None]] = {}
        self._faults: dict[str, BaseException] = {}
        self._unplanned: set[str] = set()  # runs whose plan is being made here
        self.archive = Archive(self._store, self._drivers, self._is_driven)
        self.submissions = Submissions(self._store, self.archive, facilities.clock)
        self._watch = Watch(
            facilities.commits, self._store, self.archive, self._owner, self._drivers, self._driving
        )
        self.decisions = Decisions(facilities, self.archive, self._owner, self._drivers, self._driving)
        self._deletion = Deletion(self._store, self.archive, facilities.clock.now)
        self.replays = Replays(self._store, self.archive, self._owner, facilities.clock)
        self._takeover = Takeover(
            self._store, self.archive, self._is_driven, self._expect_tools, lambda: facilities.log
        )

    # --- life

    async def open(self) -> None:
        """Open the store and become an owner. Raises: StoreError."""
        await self._store.open()
        if not self._store.is_read_only:
            self._owner.acquire()

    async def close(self) -> None:
        """Stop the active runs and release all runs; `resume` continues them."""
        await self._takeover.end()
        self.facilities.threads.is_closing = True
        driven = [self._driving[run_id] for run_id in self._drivers if run_id in self._driving]
        for task in self._driving.values():
            if task not in driven:  # it plans
                task.cancel()
        await asyncio.gather(*(driver.park() for driver in self._drivers.values()))
        if driven:
            await asyncio.wait(driven, timeout=CUT_OFF_S)
        left = [*self._driving.values(), *self._watch.tasks()]
        left = [task for task in left if task.cancel()]  # the others have ended, with their loop perhaps
        if left:  # a tool may not heed it: its run stays where its journal ends
            await asyncio.wait(left, timeout=CUT_OFF_S)
        for row in list(self._claimed.values()):  # what was to drive it did not get so far, or does not end
            with suppress(StoreError):  # its next owner takes this process for dead then
                await self._let_go(row)
        await self._owner.wait()
        self.facilities.threads.close()
        await self.facilities.processes.close()
        await self.facilities.commits.close()
        await self._store.close()
        self._owner.release()

    @property
    def log(self) -> FilteringBoundLogger:
        """The log of this execution."""
        return self.facilities.log

    def _is_driven(self, row: RunRow) -> bool:
        return row.id in self._driving or self._owner.is_driven(row)

    def now(self) -> float:
        """Unix seconds, by the clock of this execution."""
        return self.facilities.clock.now()

    # --- start

    async def planning_cost(self, row: RunRow) -> PlanningCost:
        """Return the budget for planning a task, and the usage of its earlier plannings."""
        header = Header.from_dict(row.header)
        limits = dict(header.budget)
        for decision in await self.archive.decisions(row.id):
            if isinstance(decision.event, BudgetRaised):  # the run itself takes it in once it is driven
                limits |= amounts_in(decision.event.budget)
        return PlanningCost(self.facilities.clock.now, limits, before=header.planning_cost)

    async def patching_cost(self, run_id: str) -> PlanningCost:
        """Return the budget for patching the plan of an ended run, and for the run of the patched plan."""
        budget = (await self.archive.machine(await self.archive.row(run_id))).budget
        return PlanningCost(self.facilities.clock.now, budget.limits, budget.own, budget.planning)

    def start_planning(
        self,
        run_id: str,
        plan: Callable[[EarlySteps], Awaitable[PlannedRun]],
        cost: PlanningCost | None = None,
        *,
        is_asked: bool = False,
    ) -> asyncio.Task[None]:
        """Plan a submitted task in the background, then drive it; return that work.

        A failure of planning is recorded as the run's failure, and is the fault of the returned task. A planning that comes to the end
        of the run's budget leaves the run over its budget.

        Args:
            run_id: The run.
            plan: Makes its plan.
            cost: Counts the usage of `plan`; recorded with the outcome of the planning.
            is_asked: Whether this is an explicit resume, so that earlier deaths do not count.
        """
        under_way = self._driving.get(run_id)
        if under_way is not None:
            return under_way
        return self._follow(run_id, self._plan_and_drive(run_id, plan, cost, is_asked=is_asked))

    async def _plan_and_drive(
        self,
        run_id: str,
        plan: Callable[[EarlySteps], Awaitable[PlannedRun]],
        cost: PlanningCost | None,
        *,
        is_asked: bool,
    ) -> None:
        known = await self.archive.row(run_id)
        count = 0 if is_asked else planning_deaths(known.header) + self._has_lost_owner(known)
        with await self._permit(count) as permit:
            row = await self._owner.claim(self._store, run_id)
            if row is None:
                return
            self._claimed[run_id] = row
            try:
                row = await self._count_planning_deaths(row, is_asked=is_asked)
                if row.status in FINAL or row.status == RunStatus.PARKED:
                    return
                early = EarlySteps(self.facilities, run_id, Header.from_dict(row.header))
                try:
                    await self._plan_with(early, row, plan, cost, permit)
                finally:
                    await early.drop()
            finally:
                if run_id in self._claimed:
                    await self._let_go(row)

    async def _count_planning_deaths(self, row: RunRow, *, is_asked: bool) -> RunRow:
        """Return the row of a task that is about to be planned, with the deaths that count against it made durable."""
        before = planning_deaths(row.header)
        count = 0 if is_asked else before + (row.taken_from is not None)
        if count == before and (not is_asked or row.status != RunStatus.PARKED):
            return row
        planning = {name: value for name, value in _planning_of(row).items() if name != PLANNING_DEATHS}
        if count:
            planning[PLANNING_DEATHS] = count
        status = RunStatus.PARKED if count >= self._park_after else RunStatus.QUEUED
        if status is RunStatus.PARKED:
            self.facilities.log.warning("run parked", run=row.id, deaths=count, calls="its planning")
        return await self._set_planning(row, planning, status.value)

    def _has_lost_owner(self, row: RunRow) -> bool:
        """Whether the process that has a run by its row is dead."""
        return row.owner is not None and not self._owner.is_driven(row)

    async def _permit(self, deaths: int) -> Permit:
        """Return a permit to drive a run: alone, once no other run is driven, if so many deaths count against it."""
        is_alone = self._is_suspect(deaths) and not self._lock.is_inside
        return await (self._lock.alone() if is_alone else self._lock.share())

    async def _plan_with(
        self,
        early: EarlySteps,
        row: RunRow,
        plan: Callable[[EarlySteps], Awaitable[PlannedRun]],
        cost: PlanningCost | None,
        permit: Permit,
    ) -> None:
        run_id = row.id
        header = Header.from_dict(row.header)
        self._unplanned.add(run_id)
        try:
            planned = await plan(early)
        except PlanningFailed as fault:
            if fault.limit is None:
                await self._leave_unplanned(row, cost, fault)
                raise
            self.facilities.log.info("planning over budget", run=run_id, limit=fault.limit)
            await self._leave_unplanned(row, cost, fault, over=fault.limit)
            return
        except Exception as fault:  # whatever it is, it is recorded, and raised again for whoever waits
            await self._leave_unplanned(row, cost, fault)
            raise
        except asyncio.CancelledError:
            if cost is not None and any(cost.used.values()):  # it is planned again, within what is left
                await self._set_planning(row, _planning_of(row) | {"cost": cost.to_dict()}, row.status)
            await self._let_go(row)
            raise
        header = planned.complete(header, cost)
        digest = planned.plan.digest
        await self._store.set_header(
            run_id, header.to_dict(), digest, row.epoch, RunStatus.QUEUED.value, self.now()
        )
        self._unplanned.discard(run_id)
        early.close()
        settled = replace(row, header=header.to_dict())
        first = (self._started(settled),)
        await self._drive(Taken(settled, header, (), Deaths(), first), permit, early)

    async def _leave_unplanned(
        self, row: RunRow, cost: PlanningCost | None, fault: Exception, over: str | None = None
    ) -> None:
        """Record why a task has no plan, and the usage of its planning: the run failed, or is over its budget (`over` names the limit)."""
        why: dict[str, Json] = (
            {"failed": {"code": getattr(fault, "code", "error"), "message": str(fault)}}
            if over is None
            else {"over": over}
        )
        status = RunStatus.FAILED if over is None else RunStatus.OVER_BUDGET
        if cost is not None:
            why["cost"] = cost.to_dict()
        await self._set_planning(row, why, status.value)
        await self._let_go(row)

    async def _set_planning(self, row: RunRow, planning: Mapping[str, Json] | None, status: str) -> RunRow:
        """Record how the planning of a task stands; return its row. Raises: StoreError."""
        header = replace(Header.from_dict(row.header), planning=dict(planning) if planning else None)
        await self._store.set_header(row.id, header.to_dict(), None, row.epoch, status, self.now())
        return replace(row, header=header.to_dict(), status=status)

    def _follow(self, run_id: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do the work in the background, owned by this execution; a fault reaches whoever waits for the run, or the log."""
        task = asyncio.get_running_loop().create_task(work, name=f"firmplan {run_id}")
        self._driving[run_id] = task
        task.add_done_callback(lambda done: self._note_fault(run_id, done))
        self._watch.begin()
        return task

    def _note_fault(self, run_id: str, task: asyncio.Task[None]) -> None:
        fault = None if task.cancelled() else task.exception()
        is_planning = run_id in self._unplanned
        self._unplanned.discard(run_id)
        stands_in_run = is_planning and isinstance(fault, PlanError | InputRejected | ConfigError)
        if self._driving.get(run_id) is task:
            del self._driving[run_id]
        if fault is not None and not stands_in_run:
            self._faults[run_id] = fault
            # Last: a program's own log may raise, and whoever waits for the run must not wait for that.
            self.facilities.log.error(
                "run stopped", run=run_id, error=str(fault), code=getattr(fault, "code", "")
            )

    async def _start(
        self, run_id: str, permit: Permit, seen: JournalSeen | None, *, is_asked: bool, by_force: bool = False
    ) -> bool:
        """Claim a run and drive it in the background; `False`: another owner has it. The permit is given back in any case."""
        try:
            taken = await self._take(run_id, seen, is_asked=is_asked, by_force=by_force)
        except BaseException:
            permit.give_back()
            raise
        if taken is None:
            permit.give_back()
            return False
        self._faults.pop(run_id, None)
        self._follow(run_id, self._drive(taken, permit))
        return True

    async def _start_later(self, run_id: str, deaths: int, *, is_asked: bool, by_force: bool = False) -> None:
        """Wait until a run may be driven, then claim and drive it. Before the claim the run has no owner, so that no death counts against it."""
        permit = await self._permit(deaths)
        try:
            taken = await self._take(run_id, is_asked=is_asked, by_force=by_force)
        except BaseException:
            permit.give_back()
            raise
        if taken is None:
            permit.give_back()
            return
        self._faults.pop(run_id, None)
        await self._drive(taken, permit)

    async def _take(
        self, run_id: str, seen: JournalSeen | None = None, *, is_asked: bool = False, by_force: bool = False
    ) -> Taken | None:
        """Claim a run and return the objects that drive it; `None`: another owner has the run.

        Args:
            run_id: The run.
            seen: Its journal, if it was read already.
            is_asked: Whether this is an explicit resume, so that earlier deaths do not count.
            by_force: Whether a living owner loses it.

        Raises:
            StoreError: Its journal was changed.
            ConfigError: A tool of the run is missing here.
        """
        row = await self._owner.claim(self._store, run_id, by_force=by_force)
        if row is None:
            return None
        self._claimed[run_id] = row
        try:
            header = Header.from_dict(row.header)
            self._expect_tools(row.id, header)
            entries = seen.entries if seen is not None and seen.head == row.head else None
            entries = await load_entries(self._store, row) if entries is None else entries
            check_header(row, entries)
        except BaseException:
            await self._let_go(row)
            raise
        deaths = Deaths() if is_asked else count_deaths(entries, has_died=row.taken_from is not None)
        return Taken(row, header, entries, deaths, self._first_events(row, deaths), is_asked)

    def _first_events(self, row: RunRow, deaths: Deaths) -> Sequence[Cause]:
        """Return the events that begin or continue a run."""
        first: list[Cause] = [] if row.last_seq else [self._started(row)]
        if row.last_seq or deaths.count:
            has_died = row.taken_from is not None
            first.append(RunResumed(self._owner.name, has_died or None, deaths.count or None))
        return first

    async def _let_go(self, row: RunRow) -> None:
        self._claimed.pop(row.id, None)
        await self._owner.let_go(self._store, row)

    def _expect_tools(self, run_id: str, header: Header) -> None:
        """Raise where a tool of the run is missing here, or is none that the run may go on with. Raises: ConfigError."""
        tools = self.facilities.tools
        missing = [name for name in header.lock.names if tools.find(name) is None]
        if missing:
            raise ConfigError(
                f"run {run_id} uses the tool '{missing[0]}', which this engine has not; it has {listing(tools.names)}"
            )
        for name in header.lock.names:
            locked = header.lock.find(name)
            if locked is not None and (broken := locked.find_broken_promise(tools.get(name))) is not None:
                raise ConfigError(
                    f"run {run_id} cannot go on here: when it was submitted the tool '{name}' {broken}; declare it as it "
                    "was, or fork the run"
                )

    def _expect_signatures(self, run_id: str, header: Header, machine: Machine) -> None:
        """Raise if a person was asked about a call and the signature of its tool has changed since. Raises: ConfigError.

        Otherwise the call would fail, and the run for ever with it; or the call would differ from the one that the person saw.
        """
        if not machine.iterations:  # as in every run that begins
            return
        changed = {
            name: how
            for name, locked in header.lock.items()
            if (how := locked.find_changed_signature(self.facilities.tools.get(name))) is not None
        }
        if not changed:
            return
        for iteration in machine.iterations.values():
            name = machine.tool_of(iteration.path)
            if name in changed and (undecided_attempt(iteration) is not None or is_decided(iteration)):
                raise ConfigError(
                    f"run {run_id} cannot go on here: a person decides about the call of step '{iteration.path}', and the tool '{name}' is not "
                    f"the one that it was asked for: {changed[name]}. Declare the tool as it was and resume the run; or deny the call, "
                    "and retry the run with the new tool"
                )

    async def _drive(self, taken: Taken | None, permit: Permit, early: EarlySteps | None = None) -> None:
        """Drive a claimed run until it has ended or waits, then let go of it.

        Whoever decides leaves the decision in the store first and then looks for an owner; the owner lets go first and
        then looks for decisions: so one of them sees the other.
        """
        with permit:
            while taken is not None:
                run_id = taken.row.id
                # Another process may have died with the run since its journal was read.
                is_to_wait = self._is_suspect(taken.deaths.count) and not (
                    permit.is_alone or permit.is_inside
                )
                try:
                    if is_to_wait:
                        goes_on = await self._note(taken, taken.first)
                    else:
                        goes_on = await self._drive_once(taken, permit, early)
                finally:
                    self._claimed.pop(run_id, None)
                    if self._owner.has(run_id):  # else the store released the run with its last record
                        await asyncio.wait([self._owner.let_go_beside(self._store, taken.row)])
                if is_to_wait and goes_on:
                    await permit.exclude_others()
                elif not goes_on or not await self.archive.decisions(run_id):
                    return
                taken = await self._take(run_id)

    def _is_suspect(self, deaths: int) -> bool:
        """Whether a run is to be driven alone, since so many deaths count against it."""
        return ALONE_AFTER <= deaths < self._park_after

    async def _drive_once(self, taken: Taken, permit: Permit, early: EarlySteps | None) -> bool:
        """Drive a run as its owner; return whether a decision could move it on."""
        row, header = taken.row, taken.header
        machine = build_machine(header)
        fold(machine, taken.entries)
        if machine.status is not None or (machine.parked is not None and not taken.is_asked):
            return False
        if taken.deaths.count >= self._park_after:
            return await self._park(taken, machine)
        self._expect_signatures(row.id, header, machine)
        inherited = await self._inherited(row, header)
        drawn = recorded_values(taken.entries, await self._drawn_before(header))
        is_careful = taken.deaths.is_careful or row.taken_from is not None
        driver = Driver(
            self.facilities,
            row,
            machine,
            header,
            inherited,
            early,
            drawn,
            callers=callers_in(taken.entries),
            is_careful=is_careful,
        )
        if permit.is_alone:
            self.facilities.log.warning("run driven alone", run=row.id, deaths=taken.deaths.count)
            driver.call_after(taken.deaths.suspects, permit.let_others_in)
        self._drivers[row.id] = driver
        first = taken.first
        try:
            decisions: Sequence[Decision] = await self.archive.decisions(row.id)
            while first or decisions:
                with heap_frozen():
                    await driver.drive(first, decisions)
                if driver.is_parking:
                    return False
                if run_status(machine) in FINAL:
                    break
                expect_outcomes(machine)
                first, decisions = (), await self.archive.decisions(row.id)
            self.archive.remember(driver)
        finally:
            driver.journal.close()
            if driver.journal.is_released:
                self._owner.forget(row.id)
            del self._drivers[row.id]
        return run_status(machine) not in FINAL

    async def _park(self, taken: Taken, machine: Machine) -> bool:
        """Record that a run is parked; return whether the record could be made now."""
        calls: list[Mapping[str, Json]] = [
            {"step": step, "tool": tool} if (tool := machine.tool_of(step)) is not None else {"step": step}
            for step in taken.deaths.cut_off
        ]
        count = taken.deaths.count
        self.facilities.log.warning(
            "run parked", run=taken.row.id, deaths=count, calls=listing(taken.deaths.cut_off)
        )
        await self._note(taken, [*taken.first, RunParked(count, calls)], machine)
        return False

    async def _note(self, taken: Taken, events: Sequence[Cause], machine: Machine | None = None) -> bool:
        """Record events of a claimed run, and the decisions about it, without a call. Return whether the run goes on."""
        if machine is None:
            machine = build_machine(taken.header)
            fold(machine, taken.entries)
        if machine.status is not None or (machine.parked is not None and not taken.is_asked):
            return False
        driver = Driver(self.facilities, taken.row, machine, taken.header)
        await driver.note(await self.archive.decisions(taken.row.id), events)
        return machine.status is None

    async def _inherited(self, row: RunRow, header: Header) -> Mapping[str, Inherited]:
        """Return what a fork has of its parent. Raises: RunNotFound: the parent is not in the store."""
        if header.fork is None or row.parent is None:
            return {}
        entries = await load_entries(self._store, await self.archive.row(row.parent))
        return inherited_from(entry.event for entry in entries)

    async def _drawn_before(self, header: Header) -> Mapping[str, Used]:
        """Return the times and ids that earlier runs gave to the calls that a fork may repeat under their keys, so that the same call gets the same values."""
        past = (header.fork or Fork()).past_writes
        found: dict[str, Used] = {}
        for run_id in sorted({each.run for each in past.values() if each.key}):
            drawn = recorded_values(await load_entries(self._store, await self.archive.row(run_id)))
            found |= {
                path: drawn[path] for path, each in past.items() if each.run == run_id and path in drawn
            }
        return found

    # --- delete

    async def delete(self, run_id: str) -> RunsDeleted:
        """Delete a run that has ended. Raises: RunNotFound, InputRejected: the run has not ended, or has children."""
        task = self._driving.get(run_id)
        if task is not None and self.archive.find_ended(run_id) is not None:  # it is about to be let go of
            await asyncio.wait([task])
        await self._owner.wait()
        deleted = await self._deletion.delete(run_id)
        self._faults.pop(run_id, None)
        return deleted

    async def prune(
        self, *, age_s: float | None, statuses: Sequence[str] | None, is_dry_run: bool
    ) -> RunsDeleted:
        """Delete the runs of these statuses whose end is that long ago; see `Deletion.prune`."""
        await self._owner.wait()
        return await self._deletion.prune(age_s, statuses, is_dry_run=is_dry_run)

    # --- wait

    async def wait(self, run_id: str) -> Run:
        """Return the run once it has ended or nothing goes on without a person.

        Raises:
            RunNotFound: There is no such run.
            StoreError: Its journal cannot be written any more.
        """
        tell_at = time.monotonic() + TELL_S
        while True:
            task = self._driving.get(run_id)
            if task is not None:
                await asyncio.wait([task])
                continue
            if (ended := self.archive.find_ended(run_id)) is not None:
                return ended
            row = await self.archive.row(run_id)
            is_driven = self._owner.is_driven(row)
            fault = self._faults.get(run_id)  # kept until the run goes on: all who wait must hear of it
            if fault is not None and row.status not in FINAL and not is_driven:
                raise fault
            if row.status not in UNDER_WAY:
                return await self.archive.shown(row)
            if not is_driven:
                if self._takeover.is_to_come(row):
                    await self._takeover.take_up(row)
                    continue
                return await self.archive.shown(row)
            tell_at = await self._pause(row, tell_at)

    async def _pause(self, row: RunRow, tell_at: float) -> float:
        """Wait a moment for another process that drives a run. If the wait is long, log the process; return the time of the next log line."""
        now = time.monotonic()
        if now >= tell_at and self._owner.is_anothers(row):
            self._on_waiting(self._owner_of(row))
            tell_at = now + TELL_AGAIN_S
        await asyncio.sleep(POLL_S)
        return tell_at

    async def events(self, run_id: str, after: int = 0) -> AsyncIterator[Event]:
        """Yield the run's events past `after` as they become durable, until nothing more comes by itself."""
        await self.archive.row(run_id)
        while True:
            driver = self._drivers.get(run_id)
            task = self._driving.get(run_id)
            lines = await self._store.read_journal(run_id, after, limit=LINES_MAX)
            for entry in await parse_lines(self._store, lines):
                yield Event.of(entry)
                after = entry.seq
            if len(lines) == LINES_MAX:
                continue
            if driver is not None and self._drivers.get(run_id) is driver:
                await driver.journal.wait_past(after)
                continue
            row = await self.archive.row(run_id)
            if row.last_seq > after or self._drivers.get(run_id) is not None:
                continue
            if task is not None and not task.done():
                await asyncio.wait([task], timeout=POLL_S)
                continue
            if row.status in UNDER_WAY and not self._is_driven(row) and self._takeover.is_to_come(row):
                await self._takeover.take_up(row)
                continue
            if row.status in FINAL or not self._owner.is_driven(row):
                return
            await asyncio.sleep(POLL_S)

    # --- go on

    async def resume(self, run_id: str, *, take_over: bool = False) -> None:
        """Continue a run that nobody drives, also a parked run: earlier deaths no longer count against it.

        A run that has ended, or is driven, is left as it is.

        Args:
            run_id: The run.
            take_over: Whether another process that drives the run loses it: what it still appends is refused, and it calls no further write.

        Raises:
            RunNotFound: There is no such run.
        """
        await self.go_on(await self.archive.row(run_id), is_asked=True, take_over=take_over)

    async def go_on(self, row: RunRow, *, is_asked: bool = False, take_over: bool = False) -> None:
        """Continue a run, whose row was just read, if nobody drives it; a parked run continues only on an explicit resume.

        Args:
            row: The run's.
            is_asked: Whether this is an explicit resume.
            take_over: As in `resume`.
        """
        task = self._driving.get(row.id)
        if row.status in FINAL or row.plan_digest is None:
            return
        by_force = take_over and self._owner.is_anothers(row)
        if (task is not None and not task.done() and not by_force) or (
            row.status == RunStatus.PARKED and not is_asked
        ):
            return
        row.expect_to_go_on()
        if by_force:
            await self._prepare_takeover(row, task)
        seen = None if is_asked else await self._see(row)
        count = seen.deaths.count if seen is not None else 0
        is_alone = self._is_suspect(count) and not self._lock.is_inside
        permit = None if is_alone else self._lock.try_share()
        asked = {"is_asked": is_asked, "by_force": by_force}
        if (task := self._driving.get(row.id)) is not None and not task.done():  # while its journal was read
            if permit is not None:
                permit.give_back()
        elif permit is None:
            self._follow(row.id, self._start_later(row.id, count, **asked))
        elif not await self._start(row.id, permit, seen, **asked) and row.id not in self._driving:
            row = await self.archive.row(row.id)
            if row.owner is not None and self._owner.is_elsewhere(row.owner):
                self._follow(row.id, self._take_over(row.id, is_asked=is_asked))

    async def _prepare_takeover(self, row: RunRow, task: asyncio.Task[None] | None) -> None:
        """Log the process from which a run is taken by force, and stop waiting for that process."""
        self.facilities.log.warning("run taken over by force", **_logged(self._owner_of(row)))
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait([task])

    async def _see(self, row: RunRow) -> JournalSeen | None:
        """Return the journal of a run before the claim: if reading it kills this process, the death does not count against the run. `None`: not useful."""
        if not (row.last_seq or row.owner) or self._owner.is_driven(row):
            return None
        entries = await load_entries(self._store, row)
        return JournalSeen(row.head, entries, count_deaths(entries, has_died=row.owner is not None))

    async def _take_over(self, run_id: str, *, is_asked: bool) -> None:
        """Watch a run that a process of another machine had, and go on with it here once its lease has ended."""
        row, tell_at = await self.archive.row(run_id), time.monotonic() + TELL_S
        while row.status in UNDER_WAY and self._owner.is_driven(row):
            tell_at = await self._pause(row, tell_at)
            row = await self.archive.row(run_id)
        if row.status in UNDER_WAY:
            seen = None if is_asked else await self._see(row)
            await self._start_later(run_id, seen.deaths.count if seen is not None else 0, is_asked=is_asked)

    def _log_waiting(self, owner: RunOwner) -> None:
        """Tell the log for whom is waited."""
        self.facilities.log.warning(
            "waits for another process that drives the run", **_logged(owner), hint=TAKE_OVER_HINT
        )

    async def find_owner(self, run_id: str) -> RunOwner | None:
        """Return the living process that drives a run; `None`: none does. Raises: RunNotFound."""
        row = await self.archive.row(run_id)
        return self._owner_of(row) if self._is_driven(row) else None

    def _owner_of(self, row: RunRow) -> RunOwner:
        """Return who drives a run."""
        silent_s = round(max(0.0, self.now() - row.updated), 1)
        is_here = not self._owner.is_anothers(row)
        name = OwnerName.of(self._owner.name if is_here else row.owner or "")
        return RunOwner(row.id, str(name), silent_s, is_here)

    def _started(self, row: RunRow) -> RunStarted:
        return RunStarted(header_digest(row.header), self._owner.name)

    async def find_abandoned(self) -> list[Run]:
        """Return every unfinished run that nobody drives, oldest first, as it stands (`watch.py`)."""
        return await self._takeover.find()

    def recover(self, go_on: Callable[[str], Awaitable[object]]) -> None:
        """Continue, in the background, every run that nobody drives, and, while this execution is open, every run whose owner dies.

        Args:
            go_on: Continues the run of an id; leaves a parked run alone.
        """
        self._takeover.begin(go_on)


def _logged(owner: RunOwner) -> dict[str, object]:
    """Return who drives a run of another process, as fields for the log."""
    return {"run": owner.run, "owner": owner.process, "last_record_s_ago": owner.silent_s}


def _planning_of(row: RunRow) -> dict[str, Json]:
    """Return the record of the planning of a task without a plan."""
    planning = Header.from_dict(row.header).planning
    return dict(planning) if isinstance(planning, dict) else {}
