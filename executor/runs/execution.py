"""The runs of one store, from submission to result: the entry point of this folder.

An `Execution` starts, drives, resumes and waits for runs. Other modules do the parts: `submission.py` makes runs, `planning.py` plans tasks,
`archive.py` shows runs, `decisions.py` records decisions, and `driver.py` drives one run.

Rules: a run is driven by one owner, which has claimed it in the store. A decision is left in the store, where the owner finds it. The
snapshot of a run that this process does not drive is made from its journal.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ...errors import (
    ConfigError,
    FirmplanError,
    InputRejected,
    PlanningFailed,
    RunDriven,
    StoreError,
)
from ...plans.immutable import immutable
from ...plans.reports.nearest import listing
from ..calls.caller import callers_in, recorded_values
from ..calls.early import EarlySteps
from ..calls.facilities import Facilities
from ..events import CancelAsked, Cause, RunParked, RunResumed, RunStarted
from ..execution_tree import is_decided, undecided_attempt
from ..fork import Fork, Inherited, inherited_from
from ..journal.header import Header, build_machine, header_digest
from ..journal.records import Entry, Event
from ..journal.restore import check_header, load_entries, machine_at_end, parse_lines
from ..limits import LEASE_S, PARK_AFTER, PARK_GRACE_S
from ..machine import Machine
from ..states import FINAL, UNDER_WAY, RunStatus
from ..stores.store import Decision, OwnerName, RunRow
from .archive import Archive, Standing
from .changes import POLL_S, Changes, Followed
from .deaths import ALONE_AFTER, Deaths, DriveLock, Permit, count_deaths
from .decisions import Decisions
from .dispatcher import Dispatcher
from .driver import Driver, expect_outcomes, heap_frozen, watch_of
from .owner import Owner, Presence, RunOwner
from .planning import Planning, planning_deaths
from .replays import Replays
from .run import Run
from .store_care import RunsDeleted, StoreCare
from .submission import NewRuns, Submissions
from .watch import LOOK_S, Takeover, Timers, Watch

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from ...backends.backend import Backend
    from ...plans import Plan
    from ...plans.values import Json
    from ...tools import Used

TELL_S: Final = 2.0  # how long to wait for a run of another process before naming that process
TELL_AGAIN_S: Final = 60.0
TAKE_OVER_HINT: Final = (
    "if it hangs, `firmplan resume RUN --take-over`, or resume(take_over=True), takes the run from it"
)
LOOKS_MAX: Final = 100  # looks a second at the runs that wait for a time and that callers wait for
WAKES_MAX: Final = 8  # runs whose time has come that are claimed at a time: each reads its journal
LINES_MAX: Final = 100  # of a journal, read together for a reader who follows its events
CUT_OFF_S: Final = 5.0  # how long cancelled calls may clean up
UNPATCHED_MAX: Final = 10_000  # failed runs without a patch that an engine remembers
NEAR_S: Final = 1.0  # `drive` sits out a wait that ends so soon: to hand the run out again would take as long

RECOVERS: Final = (
    "recover: expected False beside a backend, which alone says who drives a run, and hands the runs of dead processes out again; an engine "
    "that recovers would take all queued runs of the store"
)
REFUSED_PLAN: Final = "who was shown the plan"
"""Who cancels a run whose plan was refused before it began."""

ConfirmsPlan: TypeAlias = "Callable[[str, Plan], Awaitable[bool]]"
"""Is asked with the id of a run and the plan that a planner made for it; false: the run is cancelled."""

RunWork: TypeAlias = "asyncio.Task[Exception | None]"
"""The work on one run, planning and driving; its result is the error of the planning, which the run has as its failure."""


class UnfitToolsError(ConfigError):
    """A run cannot go on with the tools of this engine; others may have what it needs.

    Attributes:
        epoch: At which this engine had claimed the run; 0: it had not.
    """

    def __init__(self, message: str, epoch: int) -> None:
        super().__init__(message)
        self.epoch = epoch

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.message, self.epoch)


@immutable
class JournalSeen:
    """The journal of a run as it was before the claim, with the head of its chain: if the head is the same afterwards, it need not be read again."""

    head: bytes
    entries: Sequence[Entry]
    deaths: Deaths


@immutable
class Taken:
    """A run that was claimed to be driven.

    Attributes:
        deaths: How deaths affect the run.
        first: The events that begin or continue the run.
        is_asked: Whether this is an explicit resume.
        machine: Of a run that was made and claimed together: its machine, before the first event. Nobody can have decided about it before.
        told: How often decisions had been told before the claim; `None`: the store tells none.
    """

    row: RunRow
    header: Header
    entries: Sequence[Entry]
    deaths: Deaths
    first: Sequence[Cause]
    is_asked: bool = False
    machine: Machine | None = None
    told: int | None = None


@immutable
class _Past:
    """What a driver has to know of a run from before it drives the run; see `Driver` for each of them."""

    inherited: Mapping[str, Inherited]
    drawn: Mapping[str, Used]
    callers: Mapping[str, Sequence[str]]


_NO_PAST: Final = _Past({}, {}, {})


class Execution:
    """The runs of one store, as this process sees and drives them.

    Args:
        facilities: What the runs of an engine share.
        presence: How processes of this machine see the owners of the store.
        park_after: How many deaths of its process in a row, without progress, park a run.
        lease_s: Length of the lease in seconds.
        write_grace_s: How long `close` waits for the writes in flight.
        expires: Whether questions expire while nobody drives their run.
        on_waiting: Called with the other process that this one waits for, and again from time to time; `None`: the log names it.
        backend: Who drives the runs; `None`: this process.
    """

    def __init__(  # noqa: PLR0913  # the settings of an engine
        self,
        facilities: Facilities,
        presence: Presence,
        *,
        park_after: int = PARK_AFTER,
        lease_s: float = LEASE_S,
        on_waiting: Callable[[RunOwner], None] | None = None,
        write_grace_s: float = PARK_GRACE_S,
        expires: bool = True,
        backend: Backend | None = None,
    ) -> None:
        self.facilities = facilities
        self.backend = backend
        self._drives_here = backend is None or backend.drives_here
        self._park_after = park_after
        self._write_grace_s = write_grace_s
        self._on_waiting = on_waiting or self._log_waiting
        self.confirms: ConfirmsPlan | None = (
            None  # who is asked about the plan of a task before its steps start
        )
        self._lock = DriveLock()
        self._claimed: dict[str, RunRow] = {}
        self._store = facilities.store
        self._owner = Owner(presence, lease_s)
        facilities.ownership = self._owner
        facilities.processes.lease = self._owner.lease
        facilities.expires = expires
        # Calls must know the owner and its lease, but the owner is made here: so the facilities get both now.
        facilities.expect_lease = lambda since: self._owner.expect_lease(self._store, since)
        self._drivers: dict[str, Driver] = {}
        self._driving: dict[str, RunWork] = {}  # the work on each run: planning and driving
        self._settling = set[str]()  # tasks whose planning waits for somebody, and is about to be released
        self._errors: dict[str, BaseException] = {}  # of runs whose work has stopped here
        self._patching: dict[
            str, asyncio.Task[str | None]
        ] = {}  # by failed run: the attempt to patch its plan
        # Failed runs without a patch, oldest first: this engine makes no second attempt. A patch itself is found in the store.
        self._unpatched: dict[str, None] = {}
        # Failed runs that this owner has until it is known whether there is a patch.
        self._settled_here: set[str] = set()
        self._tending: dict[str, asyncio.Task[None]] = {}  # by run: the work that patches its plan
        self._timers = Timers(facilities.clock, self._wake)
        self._wakes = asyncio.Semaphore(WAKES_MAX)
        facilities.wake_at = self._timers.set
        # Runs that a `wait` step lets go on: whoever waits for them sits it out.
        self._sleeping: set[str] = set()
        # Runs that callers of `drive` drive: nothing goes on with them beside these.
        self._handed: set[str] = set()
        self._parking: dict[str, asyncio.Task[None]] = {}  # by run: the work that stops it here
        self._parked: set[str] = set()  # runs that were stopped here, and that nobody has asked for since
        self._is_closing = False
        self.archive = Archive(self._store, self._drivers, self._is_left_to_somebody, facilities.known)
        new_runs = NewRuns(facilities.commits, self._store)
        self.submissions = Submissions(
            self._store,
            new_runs,
            self.archive,
            facilities.clock,
            facilities.observers,
            facilities.approval_expires_s,
        )
        self.planning = Planning(facilities, self.archive, self.submissions, park_after)
        self.changes = Changes(self._store)
        self._looks: dict[asyncio.AbstractEventLoop, asyncio.TimerHandle] = {}  # the next look for decisions
        # Whether a run has begun since the last look that nobody asks the store about after its claim.
        self._must_look = False
        self._watch = Watch(
            facilities.commits,
            self._store,
            self.archive,
            self._owner,
            self._drivers,
            self._driving,
            self.changes,
        )
        self.dispatcher = Dispatcher(
            backend, facilities, presence, self.archive, self._owner, self.changes, self
        )
        self.decisions = Decisions(
            facilities,
            self.archive,
            self._owner,
            self._drivers,
            self._driving,
            self.planning,
            self.rouse if backend is None or not self._drives_here else backend.wake,
            tell=None if self._drives_here else self.dispatcher.tell_of_decision,
        )
        self._watch.cancel_planning = self.decisions.cancel_planning_here
        self._watch.is_needed = lambda: bool(self._settled_here)
        self.care = StoreCare(self._store, self.archive, facilities.clock.now)
        self.replays = Replays(self._store, self.archive, self._owner, facilities.clock)
        self._takeover = Takeover(
            self._store,
            self.archive,
            lambda: self._owner.find_lost(self._store),
            self._is_driven,
            self._expect_tools,
            self.go_on,
            lambda: facilities.log,
            self.now,
        )

    # --- life

    async def open(self) -> None:
        """Open the store and become an owner. Raises: StoreError; ConfigError: the backend cannot work with this engine."""
        if self.backend is not None:  # first: a wrong backend is no reason to make a store
            await self.backend.open(self.dispatcher)
        try:
            await self._open_store()
        except BaseException:  # the engine opens later, with another execution
            if self.backend is not None:
                await self.backend.close()
            raise

    async def _open_store(self) -> None:
        await self._store.open()
        self.facilities.resources.note_loop()
        if (
            not self._store.is_read_only
        ):  # an engine that only reads must not look like an owner, nor leave a file beside the store
            self._owner.acquire()
        await self.facilities.pins.open(self.now())

    async def close(self) -> None:
        """Stop the active runs and release all runs; `resume` continues them."""
        self._is_closing = True
        if self.backend is not None:
            await self.backend.close()
        self.dispatcher.close()
        # Patches first: the run of a new patch would start after the active runs have been stopped.
        patching: list[asyncio.Task[Any]] = [
            *self._tending.values(),
            *self._patching.values(),
        ]
        for task in patching:
            task.cancel()
        await asyncio.gather(*patching, return_exceptions=True)
        self._sleeping.clear()
        await self._timers.end()
        await self._takeover.end()
        self.facilities.threads.is_closing = True
        driven = [self._driving[run_id] for run_id in self._drivers if run_id in self._driving]
        for task in self._driving.values():
            if task not in driven:  # it plans
                task.cancel()
        await asyncio.gather(*(driver.park(self._write_grace_s) for driver in self._drivers.values()))
        if driven:
            await asyncio.wait(driven, timeout=CUT_OFF_S)
        for look in self._looks.values():
            look.cancel()
        self._looks.clear()
        running = [*self._driving.values(), *self._watch.tasks()]
        # `cancel` is false for tasks that have ended; the loop of such a task may be closed, so it must not be awaited.
        running = [task for task in running if task.cancel()]
        if running:  # a tool may ignore the cancel; its run then stays where its journal ends
            await asyncio.wait(running, timeout=CUT_OFF_S)
        # Runs that were claimed, but whose tasks did not begin to drive them, or do not end.
        for row in list(self._claimed.values()):
            with suppress(StoreError):  # the next owner then takes this process for dead
                await self._let_go(row)
        await self.facilities.learnt.close(self.now())
        await self.facilities.known.close()
        if self._parking:
            await asyncio.wait(list(self._parking.values()), timeout=CUT_OFF_S)
        await self._owner.wait()
        await self.facilities.resources.close()
        self.facilities.threads.close()
        self.facilities.loop_watch.close()
        await self.facilities.processes.close()
        await self.facilities.commits.close()
        await self.changes.end()
        await self._owner.leave(self._store)  # not before its calls have ended
        await self._store.close()
        self._owner.release()

    @property
    def log(self) -> FilteringBoundLogger:
        """The log of this execution."""
        return self.facilities.log

    def now(self) -> float:
        """Unix seconds, by the clock of this execution."""
        return self.facilities.clock.now()

    def recover(self) -> None:
        """Continue, in the background, every run that nobody drives, and, while this execution is open, every run whose owner dies.

        Raises:
            ConfigError: A backend hands the runs out.
        """
        if not self._drives_here:
            raise ConfigError(RECOVERS)
        self._takeover.begin(self._owner.is_owner_gone, self._owner.beat_pause_s)

    # --- start and continue
    #
    # Every run comes here, whether it was just submitted, is resumed, was taken over or forked: `start` claims it and begins its work, a
    # task in the background. The claim itself is awaited, so that a caller gets its errors; only a run that has to wait for other runs
    # (`_start_later`) is claimed in the background.

    async def submit(
        self, header: Header, *, run_id: str | None, stream: bool = False
    ) -> tuple[RunRow, Standing | None, RunWork | None]:
        """Submit a run and start it, as `Submissions.submit` and `start` do.

        Args:
            header: What the run is. Its tools are those of this engine.
            run_id: Its id; `None`: a new one.
            stream: As of `start`.

        Returns:
            The row of the run; the run as it begins, if it is new and has its plan already; and its planning, if it has none.

        Raises:
            InputRejected: A run of that id exists, with other work.
            ConfigError: A run of that id exists, and a tool of it is missing here.
            StoreError: The store cannot be written.
        """
        if not self._drives_here:
            if stream:
                self.dispatcher.note_ignored(
                    "stream",
                    "the steps of a task start once a worker has its plan, not while the plan is being written",
                )
            row = await self.submissions.submit(header, run_id=run_id)
            await self.start(row)
            return row, None, None
        new, header = self.submissions.prepared(header, run_id, owner=self._owner.name)
        if header.plan is not None and (begun := await self._begin_new(new, header)) is not None:
            return new, begun, None
        row = await self.submissions.stored(replace(new, owner=None, epoch=0), header)
        return row, None, await self.start(row, stream=stream)

    async def _begin_new(self, row: RunRow, header: Header) -> Standing | None:
        """Store a run and claim it in one transaction, and start it; `None`: a run of that id is there, or others have to end first."""
        # First of all: a plan that cannot be compiled must not become a run that nobody can continue.
        machine = build_machine(header)
        permit = self._lock.try_share()
        if permit is None:
            return None
        taken = None
        try:
            if not await self._owner.claim_new(self._store, row, self.submissions.new_runs.add):
                return None
            self._claimed[row.id] = row
            taken = Taken(row, header, (), Deaths(), (self._started(row),), machine=machine)
        finally:
            if taken is None:
                permit.give_back()
        self._errors.pop(row.id, None)
        self._follow(row.id, self._drive(taken, permit))
        if row.header.get("replan"):
            self._tend(row.id)
        return Standing(row, header, machine, row.updated, row.last_seq)

    async def resume(self, run_id: str, *, take_over: bool = False) -> RunWork | None:
        """Continue a run as `go_on` does, also a parked run: earlier deaths no longer count against it.

        Args:
            run_id: The run.
            take_over: Whether another process that drives the run loses it: what it still appends is refused, and it calls no further write.

        Raises:
            RunNotFound: There is no such run.
        """
        return await self.go_on(run_id, is_asked=True, take_over=take_over)

    async def go_on(
        self, run_id: str, *, stream: bool = False, is_asked: bool = False, take_over: bool = False
    ) -> RunWork | None:
        """Continue a run as `start` does. Raises: as `start`; RunNotFound: there is no such run."""
        row = await self.archive.row(run_id)
        return await self.start(row, stream=stream, is_asked=is_asked, take_over=take_over)

    async def start(
        self, row: RunRow, *, stream: bool = False, is_asked: bool = False, take_over: bool = False
    ) -> RunWork | None:
        """Begin or continue a run if nobody drives it and it has not ended; return its planning if it is a task without a plan.

        Args:
            row: The run, as it was just submitted or read.
            stream: Whether steps of a task start while its plan is being written.
            is_asked: Whether this is an explicit resume, which alone continues a parked run.
            take_over: As in `resume`.

        Raises:
            ConfigError: A tool of the run is missing here.
            StoreError: Its journal was changed.
        """
        if row.status in FINAL or (row.status == RunStatus.PARKED and not is_asked):
            return None
        if not self._drives_here:
            row.expect_to_go_on()
            by_force = take_over and self._owner.is_anothers(row)
            if is_asked and (row.status == RunStatus.PARKED or by_force):
                await self._note_asked(row, by_force=by_force)
            await self.dispatcher.hand_out(row)
            return None
        if self._parked:
            self._parked.discard(row.id)
        if row.plan_digest is None:
            if self.planning.planner is None:
                return None
            if row.id in self._settling:
                return await self._start_again(row.id, stream=stream, is_asked=is_asked)
            work = self._driving.get(row.id)  # two callers of one run share its planning
            return work or self._follow(row.id, self._plan_and_drive(row, stream=stream, is_asked=is_asked))
        await self._claim_and_drive(row, is_asked=is_asked, take_over=take_over)
        if row.header.get("replan"):
            self._tend(row.id)
        return None

    async def _start_again(self, run_id: str, *, stream: bool, is_asked: bool) -> RunWork | None:
        """Begin a task again whose planning has ended here and is about to be released: a decision since then would not move it."""
        await asyncio.wait([self._driving[run_id]])
        return await self.go_on(run_id, stream=stream, is_asked=is_asked)

    async def _claim_and_drive(self, row: RunRow, *, is_asked: bool, take_over: bool) -> None:
        by_force = take_over and self._owner.is_anothers(row)
        if self._is_under_way(row.id) and not by_force:
            return
        row.expect_to_go_on()
        if by_force:
            await self._prepare_takeover(row)
        seen = None if is_asked else await self._see(row)
        if self._is_under_way(row.id):  # somebody else has begun while the journal was read
            return
        count = seen.deaths.count if seen is not None else 0
        permit = None if self._must_be_alone(count) else self._lock.try_share()
        if permit is None:
            work = self._start_later(row.id, count, is_asked=is_asked, by_force=by_force)
            self._follow(row.id, work)
            return
        taken = await self._take_under(permit, row.id, seen, is_asked=is_asked, by_force=by_force)
        if taken is not None:
            self._follow(row.id, self._drive(taken, permit))
        elif row.id not in self._driving:
            row = await self.archive.row(row.id)
            if row.owner is not None and self._owner.is_elsewhere(row.owner):
                self._follow(row.id, self._take_over(row.id, is_asked=is_asked))

    def _is_under_way(self, run_id: str) -> bool:
        task = self._driving.get(run_id)
        return task is not None and not task.done()

    async def _start_later(self, run_id: str, deaths: int, *, is_asked: bool, by_force: bool = False) -> None:
        """Wait until a run may be driven, then claim and drive it. Before the claim the run has no owner, so that no death counts against it."""
        permit = await self._permit(deaths)
        taken = await self._take_under(permit, run_id, None, is_asked=is_asked, by_force=by_force)
        if taken is not None:
            await self._drive(taken, permit)

    async def _see(self, row: RunRow) -> JournalSeen | None:
        """Return the journal of a run before the claim: if reading it kills this process, the death does not count against the run. `None`: not useful."""
        if not (row.last_seq or row.owner) or self._owner.is_driven(row):
            return None
        entries = await load_entries(self._store, row)
        return JournalSeen(row.head, entries, count_deaths(entries, has_died=row.owner is not None))

    async def _prepare_takeover(self, row: RunRow) -> None:
        """Log the process from which a run is taken by force, and stop waiting for that process."""
        self.facilities.log.warning("run taken over by force", **_logged(self._owner_of(row)))
        task = self._driving.get(row.id)
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait([task])

    async def _take_over(self, run_id: str, *, is_asked: bool) -> None:
        """Wait for a run that a process of another machine drives, and continue it here once the lease of that process has ended."""
        row, tell_at = await self.archive.row(run_id), time.monotonic() + TELL_S
        with self.changes.follow(run_id) as followed:
            while row.status in UNDER_WAY and self._owner.is_driven(row):
                tell_at = await self._pause(row, tell_at, followed)
                followed.look()
                row = await self.archive.row(run_id)
        if row.status in UNDER_WAY:
            seen = None if is_asked else await self._see(row)
            await self._start_later(run_id, seen.deaths.count if seen is not None else 0, is_asked=is_asked)

    def _follow(self, run_id: str, work: Coroutine[Any, Any, Exception | None]) -> RunWork:
        """Do the work in the background, owned by this execution; its error reaches whoever waits for the run, or the log."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(work, name=f"firmplan {run_id}")
        self._driving[run_id] = task
        if run_id in self._timers.awaited:
            self._timers.stir(run_id)
        task.add_done_callback(partial(self._note_error, run_id))
        # Most runs end sooner than the store would be asked for decisions about them, so they begin no look; and one look is enough for all that do not.
        self._must_look = self._must_look or run_id not in self._handed
        if loop not in self._looks:
            self._looks[loop] = loop.call_later(POLL_S, self._begin_look, loop)
        return task

    def _begin_look(self, loop: asyncio.AbstractEventLoop) -> None:
        del self._looks[loop]
        if self._driving:
            self._watch.begin(may_have_missed=self._must_look)
            self._must_look = False

    def _note_error(self, run_id: str, task: RunWork) -> None:
        if self._driving.get(run_id) is task:
            del self._driving[run_id]
        self._settling.discard(run_id)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._errors[run_id] = error
            # Last: a program's own log may raise, and whoever waits for the run must not wait for that.
            self.facilities.log.error(
                "run stopped", run=run_id, error=str(error), code=getattr(error, "code", "")
            )

    # --- drive for a caller, and park
    #
    # A caller of `drive` stands for whoever hands runs out: the work ends with the call, and nothing of the run goes on beside it. No time wakes the
    # run here afterwards, and no second attempt is made.

    async def drive(self, run_id: str) -> Run:
        """Drive a run until it has ended or waits, and then the run of its patched plan, if the plan is patched; return the last of them.

        To cancel this parks the run.

        Raises:
            RunNotFound: There is no such run.
            RunDriven: A living owner has it.
            InputRejected: It is a kept replay.
            ConfigError: A tool of the run is missing here.
            StoreError: The store failed, or the journal was changed.
        """
        run = await self._driven(run_id)
        while await self._patches_left(run) and (patched := await self._patch_handed(run)):
            if not self._drives_here:
                break
            run = await self._driven(patched)
        return run

    async def _patch_handed(self, run: Run) -> str | None:
        """Return the run of the patched plan of a failed run; `None`: there is no patch. Raises: RunDriven: another worker is patching it."""
        if run.id in self._unpatched:
            return None
        if (settling := self._patching.get(run.id)) is None:
            settling = self._begin_patch(run.id, None)
        await asyncio.wait([settling])  # to cancel this call does not cut the patch off
        return None if settling.cancelled() else settling.result()

    def _patches_as_owner(self, taken: Taken) -> bool:
        """Whether a run stays with this owner when it fails, until it is settled whether its plan is patched; see `_settle_patch`."""
        return taken.header.replan > 0 and not self._drives_here

    def _begin_patch(self, run_id: str, row: RunRow | None) -> asyncio.Task[str | None]:
        """Patch the plan of a failed run in the background; `row`: as this owner has it already."""
        self._settled_here.add(run_id)
        self._watch.begin()  # a model may take longer than a lease
        return self._attempt_patch(run_id, self._settle_patch(run_id, row))

    def _attempt_patch(self, run_id: str, work: Coroutine[Any, Any, str | None]) -> asyncio.Task[str | None]:
        """Do the work in the background: all who wait for the patch share the attempt."""
        attempt = asyncio.get_running_loop().create_task(work, name=f"firmplan patch {run_id}")
        self._patching[run_id] = attempt
        attempt.add_done_callback(lambda done: self._end_patch(run_id, done))
        return attempt

    async def _settle_patch(self, run_id: str, row: RunRow | None) -> str | None:
        """Patch the plan of a failed run as its owner, and release the run once it is known whether there is a patch.

        A failed run whose plan may be patched has an owner until then, from its last record on. So whoever waits for the run sees in the store when the answer is there, and
        if this process dies or closes before, the next attempt finds the run of a dead owner and patches its plan.
        """
        claimed = row or await self._owner.claim(self._store, run_id)
        if claimed is None:
            raise self._driven_by(await self.archive.row(run_id))
        try:
            run = await self.archive.get(run_id)
            times = await self._patches_left(run)
            patched = await self._patch(run, times) if times else None
            if patched is not None and not self._drives_here:
                await self.go_on(patched)  # a run of its own, which has its own place in the queue
        except asyncio.CancelledError:  # the engine closes
            raise
        except BaseException:
            await self._owner.let_go_beside(self._store, claimed)
            raise
        await self._owner.let_go_beside(self._store, claimed)
        return patched

    def _end_patch(self, run_id: str, attempt: asyncio.Task[str | None]) -> None:
        self._settled_here.discard(run_id)
        del self._patching[run_id]
        # An attempt that was cut off, or failed with an error, is made again for the next caller.
        if not attempt.cancelled() and attempt.exception() is None and attempt.result() is None:
            self._unpatched[run_id] = None
            if len(self._unpatched) > UNPATCHED_MAX:
                del self._unpatched[next(iter(self._unpatched))]

    async def _driven(self, run_id: str) -> Run:
        while True:
            # Most runs that are handed out are new, and end in their first drive: their row is read by the claim, and not again at the end.
            row, is_driven = await self._drive_new(run_id)
            if is_driven:
                ended = self.archive.find_ended(run_id)
                if ended is not None and ended.created == row.created:
                    return ended
            else:
                await self._drive_again(row)
            run = await self.archive.get(run_id)
            left_s = math.inf if run.until is None else run.until - self.now()
            if run_id in self._parked or left_s > NEAR_S or self._is_closing:
                self._parked.discard(run_id)
                return run
            await self.facilities.clock.sleep(max(0.0, left_s))

    async def _can_go_on(self, row: RunRow) -> bool:
        """Whether there is something to do in a run. To drive one that waits would only add a record to its journal."""
        if row.status in FINAL or row.status == RunStatus.PARKED:
            return False
        if row.status in UNDER_WAY:
            return True
        due = (await self.archive.snapshot_of(row)).due
        return (due is not None and due <= self.now()) or bool(await self.archive.decisions(row.id))

    async def _drive_new(self, run_id: str) -> tuple[RunRow, bool]:
        """Drive a run if it is new; return its row as it was before, and whether it was driven."""
        seen: list[RunRow] = []

        def is_new(row: RunRow) -> bool:
            seen[:] = [row]
            return row.is_new

        if not self._is_under_way(run_id):
            await self._drive_handed(run_id, self._claim_if(is_new, run_id))
        if not seen:  # it is driven or being claimed here, or there is none
            return await self.archive.row(run_id), False
        return seen[0], seen[0].is_new

    async def _drive_again(self, row: RunRow) -> None:
        """Drive a run that is not new, if there is something to do in it. Raises: RunDriven."""
        row.expect_to_go_on()
        if not await self._can_go_on(row):
            return
        if self._is_under_way(row.id) or self._owner.is_driven(row):
            raise self._driven_by(row)
        await self._drive_handed(row.id, self._claim_handed(row))

    async def _claim_if(self, is_wanted: Callable[[RunRow], bool], run_id: str) -> Exception | None:
        """Claim a run and drive it, if it is wanted; return why it cannot be driven here."""
        permit = await self._permit(0)
        try:
            taken = await self._take_under(
                permit, run_id, None, is_asked=False, by_force=False, is_wanted=is_wanted
            )
        except FirmplanError as fault:
            return fault
        if taken is not None:
            await self._drive(taken, permit)
        return None

    async def _drive_handed(self, run_id: str, work: Coroutine[Any, Any, Exception | None]) -> None:
        """Do the work of a caller of `drive`; to cancel this parks the run. Raises: the error that the work returns, or ends with."""
        self._handed.add(run_id)
        self._parked.discard(run_id)
        driving = self._follow(run_id, work)
        driving.add_done_callback(lambda _: self._handed.discard(run_id))
        try:
            await asyncio.wait([driving])
        except asyncio.CancelledError:
            await self._stop(run_id)
            self._parked.discard(run_id)
            raise
        if not driving.cancelled() and (fault := driving.exception() or driving.result()) is not None:
            if isinstance(fault, UnfitToolsError):
                with suppress(StoreError):  # the next attempt notes it again
                    await self._store.note_unfit(run_id, fault.epoch, fault.message, self.now())
            raise fault

    async def _claim_handed(self, row: RunRow) -> Exception | None:
        """Claim a run and drive it; return why it is not claimed, of which the caller of `drive` alone is told."""
        try:
            if row.plan_digest is None:
                self._must_look = True
                await self._plan_and_drive(row, stream=False, is_asked=False)
                return None  # a task that cannot be planned is a failed run
            seen = await self._see(row)
            permit = await self._permit(seen.deaths.count if seen is not None else 0)
        except RunDriven as fault:
            return fault
        try:
            taken = await self._take_under(permit, row.id, seen, is_asked=False, by_force=False)
            if taken is None:
                return self._driven_by(await self.archive.row(row.id))
        except FirmplanError as fault:
            return fault
        await self._drive(taken, permit)
        return None

    def _driven_by(self, row: RunRow) -> RunDriven:
        owner = self._owner_of(row)
        if owner.is_here:
            found = "this engine drives it already: wait for it with engine.wait, or stop it with engine.park"
        else:
            found = f"{owner.process or 'a process that has just released it'} drives it: wait for it, or try again later"
        return RunDriven(f"run {row.id}: expected a run that no living process drives; {found}", owner)

    async def park(self, run_id: str) -> None:
        """Stop whoever drives a run here, and release the run; where nobody drives it, there is nothing to do.

        Raises:
            RunNotFound: There is no such run.
            RunDriven: Another living owner has it.
        """
        row = await self.archive.row(run_id)
        if self._is_under_way(run_id):
            await self._stop(run_id)
        elif self._owner.is_anothers(row):
            raise self._driven_by(row)
        else:
            self._forget_times(run_id)
            await self._owner.wait()

    async def _stop(self, run_id: str) -> None:
        """Park a run that is driven here. The work goes on in the background if this call is cancelled."""
        if (parking := self._parking.get(run_id)) is None:
            name = f"firmplan park {run_id}"
            parking = asyncio.get_running_loop().create_task(self._stop_work(run_id), name=name)
            self._parking[run_id] = parking
            parking.add_done_callback(lambda _: self._parking.pop(run_id, None))
        await asyncio.wait([parking])
        if not parking.cancelled() and (fault := parking.exception()) is not None:
            raise fault

    async def _stop_work(self, run_id: str) -> None:
        self._parked.add(run_id)
        work = self._driving.get(run_id)
        while work is not None and not work.done():
            if (driver := self._drivers.get(run_id)) is not None:
                await driver.park(self._write_grace_s)
                await asyncio.wait([work], timeout=CUT_OFF_S)
                if not work.done():  # a tool ignores the cancel
                    work.cancel()
                    await asyncio.wait([work], timeout=CUT_OFF_S)
                    break
            elif self._owner.has(run_id) and run_id not in self._claimed:
                # It is being claimed, or released. A claim that is cut off would look like a death; what follows a claim sees that the run is parked.
                await asyncio.wait([work])
            else:
                work.cancel()
                await asyncio.wait([work], timeout=CUT_OFF_S)
        self._forget_times(run_id)
        if (row := self._claimed.pop(run_id, None)) is not None:
            # The run is released all the same: what the call still returns is refused, and a write has its intent on record.
            self.facilities.log.warning("run parked while a call does not end", run=run_id)
            with suppress(StoreError):  # the release is repeated before the next claim
                await self._let_go(row)
        await self._owner.wait()

    def _forget_times(self, run_id: str) -> None:
        self._sleeping.discard(run_id)
        self._timers.set(run_id, None)

    # --- a backend hands the runs out (`dispatcher.py`)

    async def cancel(self, run_id: str) -> Run:
        """Cancel a run, as a backend asks for it."""
        return await self.decisions.cancel(run_id)

    async def carry_out(self, queue: str, *, slots: int) -> None:
        """Make the calls of the tools with a queue; see `Dispatcher.carry_out`."""
        await self.dispatcher.carry_out(queue, slots=slots, grace_s=self._write_grace_s)

    async def _note_asked(self, row: RunRow, *, by_force: bool) -> None:
        """Record that a person asks for a run that is parked, or that another process has; nothing is called."""
        if row.plan_digest is None:
            claimed = await self._owner.claim(self._store, row.id, by_force=by_force)
            if claimed is not None:
                try:
                    await self.planning.count_deaths(claimed, is_asked=True)
                finally:
                    await self._owner.let_go(self._store, claimed)
            return
        if by_force:
            await self._prepare_takeover(row)
        taken = await self._take(row.id, is_asked=True, by_force=by_force)
        if taken is None:  # somebody drives it
            return
        try:
            if (machine := await self._machine_of(taken)) is not None:
                await self._note(taken, self._with_kept(taken, machine), machine)
        finally:
            await self._let_go(taken.row)

    # --- permits: who is driven alone

    async def _permit(self, deaths: int) -> Permit:
        """Return a permit to drive a run: alone, once no other run is driven, if so many deaths count against it."""
        return await (self._lock.alone() if self._must_be_alone(deaths) else self._lock.share())

    def _must_be_alone(self, deaths: int) -> bool:
        return self._is_suspect(deaths) and not self._lock.is_inside

    def _is_suspect(self, deaths: int) -> bool:
        """Whether so many deaths count against a run that no other run may be driven beside it."""
        return ALONE_AFTER <= deaths < self._park_after

    # --- plan

    async def _plan_and_drive(self, row: RunRow, *, stream: bool, is_asked: bool) -> Exception | None:
        """Plan a submitted task, then drive it; return the error of the planning, which is recorded as the failure of the run."""
        run_id = row.id
        has_lost_owner = row.owner is not None and not self._owner.is_driven(row)
        deaths = 0 if is_asked else planning_deaths(row.header) + has_lost_owner
        with await self._permit(deaths) as permit:
            claimed = await self._owner.claim(self._store, run_id)
            if claimed is None:
                await self._left_to_another(run_id)
                return None
            self._claimed[run_id] = claimed
            early: EarlySteps | None = None
            try:
                claimed = await self.planning.take_up(claimed, is_asked=is_asked)
                if claimed.status in (*FINAL, RunStatus.PARKED) or run_id in self._parking:
                    return None
                # The claim holds while the plan is made, so that no second process plans the same task and pays for it.
                if stream:
                    early = EarlySteps(self.facilities, run_id, Header.from_dict(claimed.header))
                match await self._plan(claimed, early):
                    case None:
                        self._settling.add(run_id)
                        return None
                    case Exception() as failed:
                        return failed
                    case settled, header:
                        pass
                if early is not None:
                    early.close()
                first = await self._first_of_planned(settled, header, early)
                taken = Taken(settled, header, (), Deaths(), first)
                await self._drive(taken, permit, early)
            finally:
                self.facilities.observers.end_run(run_id, self.now())  # if no driver did
                if early is not None:
                    await early.drop()
                if run_id in self._claimed:
                    await self._let_go(claimed)
        return None

    async def _left_to_another(self, run_id: str) -> None:
        """Leave a task to the owner that has it. Raises: RunDriven: a caller of `drive` is to be told."""
        if run_id in self._handed:
            raise self._driven_by(await self.archive.row(run_id))

    async def _plan(self, row: RunRow, early: EarlySteps | None) -> tuple[RunRow, Header] | Exception | None:
        """Plan a claimed task, watched by the observers, who go on to watch the run if it got a plan."""
        if not self.facilities.observers.are_some:
            return await self.planning.plan(row, early)
        watch = watch_of(self.facilities, row, Header.from_dict(row.header), None)
        try:
            with watch.around(None):
                found = await self.planning.plan(row, early)
        except Exception:
            watch.end(RunStatus.FAILED.value, self.now())
            raise
        if isinstance(found, Exception):
            watch.end(RunStatus.FAILED.value, self.now())
        return found

    async def _first_of_planned(
        self, row: RunRow, header: Header, early: EarlySteps | None
    ) -> Sequence[Cause]:
        """Return the events that begin the run of a planned task, or that cancel it, if its plan is refused by who is asked about it."""
        begun = self._started(row)
        # Nobody is asked where steps have started while the plan was written.
        if self.confirms is None or early is not None or header.plan is None:
            return (begun,)
        if await self.confirms(row.id, header.plan):
            return (begun,)
        # Of the first events only the commands of the last one are carried out, so nothing is called.
        return (begun, CancelAsked(REFUSED_PLAN))

    # --- claim

    async def _take_under(
        self,
        permit: Permit,
        run_id: str,
        seen: JournalSeen | None,
        *,
        is_asked: bool,
        by_force: bool,
        is_wanted: Callable[[RunRow], bool] | None = None,
    ) -> Taken | None:
        """Claim a run that is to be driven under a permit; the permit is given back unless the run is claimed."""
        taken = None
        try:
            taken = await self._take(run_id, seen, is_asked=is_asked, by_force=by_force, is_wanted=is_wanted)
        finally:
            if taken is None:
                permit.give_back()
        if taken is not None:
            self._errors.pop(run_id, None)
        return taken

    async def _take(
        self,
        run_id: str,
        seen: JournalSeen | None = None,
        *,
        is_asked: bool = False,
        by_force: bool = False,
        is_wanted: Callable[[RunRow], bool] | None = None,
    ) -> Taken | None:
        """Claim a run and return what drives it; `None`: another owner has the run, or it is not wanted.

        Args:
            run_id: The run.
            seen: Its journal, if it was read already.
            is_asked: Whether this is an explicit resume, so that earlier deaths do not count.
            by_force: Whether a living owner loses it.
            is_wanted: As in `Store.claim`.

        Raises:
            StoreError: Its journal was changed.
            ConfigError: A tool of the run is missing here.
        """
        # Taken before the claim: if no decision is told from then on until the driver is there to hear of it, the answer of the claim stands.
        told = self.changes.count("decided") if run_id in self._handed else None
        row = await self._owner.claim(self._store, run_id, by_force=by_force, is_wanted=is_wanted)
        if row is None:
            return None
        self._claimed[run_id] = row
        try:
            header = Header.from_dict(row.header)
            self._expect_tools(row.id, header, row.epoch)
            if self.facilities.pins.has_changes:
                await self.facilities.pins.expect(header.lock.names)
            # The chain's head is the same if nobody has appended since, so the journal need not be read twice.
            is_seen = seen is not None and seen.head == row.head
            entries = seen.entries if seen is not None and is_seen else await load_entries(self._store, row)
            check_header(row, entries)
        except BaseException:
            await self._let_go(row)
            raise
        deaths = Deaths() if is_asked else count_deaths(entries, has_died=row.taken_from is not None)
        return Taken(row, header, entries, deaths, self._first_events(row, deaths), is_asked, told=told)

    def _first_events(self, row: RunRow, deaths: Deaths) -> Sequence[Cause]:
        """Return the events that begin or continue a run."""
        first: list[Cause] = [] if row.last_seq else [self._started(row)]
        if row.last_seq or deaths.count:
            has_died = row.taken_from is not None
            first.append(RunResumed(self._owner.name, has_died or None, deaths.count or None))
        return first

    def _started(self, row: RunRow) -> RunStarted:
        return RunStarted(header_digest(row.header), self._owner.name)

    async def _let_go(self, row: RunRow) -> None:
        self._claimed.pop(row.id, None)
        await self._owner.let_go(self._store, row)

    def _expect_tools(self, run_id: str, header: Header, epoch: int = 0) -> None:
        """Raise where a tool of the run is missing here, or is none that the run may go on with. Raises: UnfitToolsError."""
        if not (differences := header.lock.find_differences(self.facilities.tools)):
            return
        plans = [*([header.plan] if header.plan is not None else []), *header.plans.values()]
        told = [
            f"{_steps_text(header.lock.steps_with(name, plans))} uses the tool '{name}', {how}"
            for name, how in differences.items()
        ]
        raise UnfitToolsError(
            f"run {run_id} cannot go on here, its tools were others when it was submitted: {'; '.join(told)}. Expected an engine with the "
            "tools as they were, such as a worker of the earlier version; or fork the run",
            epoch,
        )

    def _expect_signatures(self, row: RunRow, header: Header, machine: Machine) -> None:
        """Raise if a person was asked about a call and the signature of its tool has changed since. Raises: UnfitToolsError.

        Otherwise the call would fail, and the run for ever with it; or the call would differ from the one that the person saw.
        """
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
                raise UnfitToolsError(
                    f"run {row.id} cannot go on here: a person decides about the call of step '{iteration.path}', and the tool '{name}' is not "
                    f"the one that it was asked for: {changed[name]}. Declare the tool as it was and resume the run; or deny the call, "
                    "and retry the run with the new tool",
                    row.epoch,
                )

    # --- drive

    async def _drive(self, taken: Taken | None, permit: Permit, early: EarlySteps | None = None) -> None:
        """Drive a claimed run until it has ended or waits, then release it."""
        with permit:
            while taken is not None:
                run_id = taken.row.id
                # Another process may have died with the run since its journal was read. Then the deaths are recorded, the run is
                # released, and it is claimed again once no other run is driven.
                count = taken.deaths.count
                is_to_wait = (
                    count > 0 and self._is_suspect(count) and not (permit.is_alone or permit.is_inside)
                )
                keeps = False
                try:
                    machine = taken.machine or await self._machine_of(taken)
                    if machine is None:
                        goes_on = False
                    elif is_to_wait:
                        goes_on = await self._note(taken, self._with_kept(taken, machine), machine)
                    else:
                        goes_on = await self._drive_once(taken, machine, permit, early)
                        keeps = machine.status is RunStatus.FAILED and self._patches_as_owner(taken)
                finally:
                    self._claimed.pop(run_id, None)
                    if keeps:
                        if not self._is_closing:  # else the next attempt patches
                            self._begin_patch(run_id, taken.row)
                    elif self._owner.has(run_id):  # else the store released the run with its last record
                        await asyncio.wait([self._owner.let_go_beside(self._store, taken.row)])
                if is_to_wait and goes_on:
                    await permit.exclude_others()
                # Whoever decides leaves the decision in the store first and then looks for an owner; the owner releases the run first and
                # then looks for decisions. So one of them sees the other, and no decision is left lying.
                elif not goes_on or not await self.archive.decisions(run_id):
                    return
                taken = await self._take(run_id)

    async def _machine_of(self, taken: Taken) -> Machine | None:
        """Return the machine of a claimed run, as its journal says; `None`: the run has ended, or is parked and nobody asked for it."""
        await self.facilities.known.load(taken.header)
        machine = await machine_at_end(taken.header, taken.entries)
        self.facilities.known.note_program(taken.header)
        has_stopped = machine.status is not None or (machine.parked is not None and not taken.is_asked)
        return None if has_stopped else machine

    async def _drive_once(
        self, taken: Taken, machine: Machine, permit: Permit, early: EarlySteps | None
    ) -> bool:
        """Drive a run as its owner; return whether a decision could move it on."""
        row, header = taken.row, taken.header
        if self._parking and row.id in self._parking:
            return False
        if taken.deaths.count >= self._park_after:
            await self._park(taken, machine)
            return False
        past = await self._past_of(taken, machine) if taken.entries or header.fork is not None else _NO_PAST
        driver = Driver(
            self.facilities,
            row,
            machine,
            header,
            past.inherited,
            early,
            past.drawn,
            callers=past.callers,
            is_careful=taken.deaths.is_careful or row.taken_from is not None,
        )
        if permit.is_alone:
            self.facilities.log.warning("run driven alone", run=row.id, deaths=taken.deaths.count)
            driver.call_after(taken.deaths.suspects, permit.let_others_in)
        driver.journal.keeps_failed = self._patches_as_owner(taken)
        self._drivers[row.id] = driver
        self.facilities.semaphore.prefer(row.id, header.priority)
        first = self._with_kept(taken, machine)
        try:
            decisions: Sequence[Decision] = ()
            if self._may_be_decided(taken):
                decisions = await self.archive.decisions(row.id)
            # Decisions may come after the driver has looked for the last time; so it looks again until there are none.
            while first or decisions:
                with nullcontext() if machine.root.program.waits.is_brief else heap_frozen:
                    await driver.drive(first, decisions)
                if driver.is_parking:
                    return False
                if machine.status is not None:
                    break
                expect_outcomes(machine)
                first, decisions = (), await self.archive.decisions(row.id)
            self.archive.remember(driver)
            if machine.status is None or row.id in self._sleeping or row.id in self._timers.due:
                self._leave_to_timers(row.id, machine)
        finally:
            driver.journal.close()
            driver.end_watch()
            if driver.journal.is_released:
                self._owner.forget(row.id)
            del self._drivers[row.id]
            self.facilities.semaphore.forget(row.id)
        return machine.status is None

    def _may_be_decided(self, taken: Taken) -> bool:
        """Whether the store may have decisions about a run that has just got its driver."""
        if taken.machine is not None:
            return False
        # What the claim did not see was told later: to this driver, or before it was there. Then the count has changed.
        return taken.row.has_decisions or taken.told is None or self.changes.count("decided") != taken.told

    def _leave_to_timers(self, run_id: str, machine: Machine) -> None:
        """Have a run that is no longer driven woken when something happens by itself."""
        if run_id in self._handed:
            self._forget_times(run_id)
            return
        if machine.timers and not self._is_closing:
            self._sleeping.add(run_id)
        else:
            self._sleeping.discard(run_id)
        times = machine.timers.values()
        self._timers.set(run_id, machine.next_due if self.facilities.expires else min(times, default=None))

    async def _wake(self, run_id: str) -> None:
        """Have a run go on whose time has come."""
        driver, task = self._drivers.get(run_id), self._driving.get(run_id)
        if (driver is not None and await driver.end_waits()) or run_id in self._handed:
            return
        if (
            task is not None
        ):  # a driver that begins looks at the times itself; one that ends releases the run first
            await asyncio.wait([task])
        async with self._wakes:
            await self._go_on_or_forget(run_id)

    async def rouse(self, run_id: str) -> None:
        """Have a run go on that waits for a time here, after a decision about it: a decision does not wait for the time."""
        if run_id in self._sleeping:
            await self._go_on_or_forget(run_id)

    async def _go_on_or_forget(self, run_id: str) -> None:
        with suppress(FirmplanError):  # whoever resumes the run meets the same error
            await self.go_on(run_id)
        if not self._is_under_way(run_id):
            self._sleeping.discard(run_id)
            self._timers.set(run_id, None)

    async def _sleep(self, row: RunRow) -> None:
        """Wait a moment with a run that waits for a time; another process may end it, or go on with it."""
        if row.status in FINAL or row.status in UNDER_WAY:
            await self._go_on_or_forget(row.id)
        elif not self._timers.is_set(row.id):  # another process has driven it since
            until = (await self.archive.get(row.id)).until
            self._timers.set(row.id, until)
            if until is None:
                self._sleeping.discard(row.id)
        else:
            await self._timers.wait(row.id, LOOK_S * max(1.0, len(self._sleeping) / LOOKS_MAX))

    def _with_kept(self, taken: Taken, machine: Machine) -> Sequence[Cause]:
        """Return the events that continue a run, which name the calls that workers of a queue go on with."""
        if self.facilities.far is None:
            return taken.first
        tools = self.facilities.tools
        kept = machine.find_kept(
            lambda name: (tool := tools.find(name)) is not None and tool.queue is not None
        )
        return [
            replace(event, kept=list(kept)) if kept and isinstance(event, RunResumed) else event
            for event in taken.first
        ]

    async def _park(self, taken: Taken, machine: Machine) -> None:
        """Record that a run is parked."""
        calls: list[Mapping[str, Json]] = [
            {"step": step, "tool": tool} if (tool := machine.tool_of(step)) is not None else {"step": step}
            for step in taken.deaths.cut_off
        ]
        count = taken.deaths.count
        self.facilities.log.warning(
            "run parked", run=taken.row.id, deaths=count, calls=listing(taken.deaths.cut_off)
        )
        await self._note(taken, [*self._with_kept(taken, machine), RunParked(count, calls)], machine)

    async def _note(self, taken: Taken, events: Sequence[Cause], machine: Machine) -> bool:
        """Record events of a claimed run, and the decisions about it, without a call. Return whether the run goes on."""
        driver = Driver(self.facilities, taken.row, machine, taken.header)
        await driver.note(await self.archive.decisions(taken.row.id), events)
        return machine.status is None

    async def _past_of(self, taken: Taken, machine: Machine) -> _Past:
        """Return what a run has of its own journal, and a fork of its parent.

        Raises:
            RunNotFound: The parent is not in the store.
            UnfitToolsError: A person was asked about a call, and its tool has another signature now.
        """
        self._expect_signatures(taken.row, taken.header, machine)
        fork = taken.header.fork
        return _Past(
            await self._inherited(taken.row) if fork is not None else {},
            recorded_values(taken.entries, await self._drawn_before(fork) if fork is not None else {}),
            callers_in(taken.entries),
        )

    async def _inherited(self, row: RunRow) -> Mapping[str, Inherited]:
        """Return what a fork has of its parent. Raises: RunNotFound: the parent is not in the store."""
        if row.parent is None:
            return {}
        entries = await load_entries(self._store, await self.archive.row(row.parent))
        return inherited_from(entry.event for entry in entries)

    async def _drawn_before(self, fork: Fork) -> Mapping[str, Used]:
        """Return the times and ids that earlier runs gave to the calls that a fork may repeat under their keys, so that the same call gets the same values."""
        past = fork.past_writes
        found: dict[str, Used] = {}
        for run_id in sorted({each.run for each in past.values() if each.key}):
            drawn = recorded_values(await load_entries(self._store, await self.archive.row(run_id)))
            found |= {
                path: drawn[path] for path, each in past.items() if each.run == run_id and path in drawn
            }
        return found

    # --- wait

    async def wait(self, run_id: str) -> Run:
        """Return the run once it has ended or nothing goes on without a person.

        Raises:
            RunNotFound: There is no such run.
            StoreError: Its journal cannot be written any more.
        """
        if not self._drives_here:
            with self.changes.follow(run_id) as followed:
                return await self.dispatcher.wait(run_id, followed)
        while True:
            while (task := self._driving.get(run_id)) is not None:
                await asyncio.wait([task])
            if (ended := self.archive.find_ended(run_id)) is not None:
                return ended
            with self.changes.follow(run_id) as followed:
                if (found := await self._wait(run_id, followed)) is not None:
                    return found

    async def _wait(self, run_id: str, followed: Followed) -> Run | None:
        """Wait for a run that nobody drives here; `None`: this engine has begun to, or the run has ended here."""
        tell_at = time.monotonic() + TELL_S
        while True:
            followed.look()
            if run_id in self._driving or self.archive.find_ended(run_id) is not None:
                return None
            has_slept = run_id in self._sleeping
            row = await self.archive.row(run_id)
            if has_slept and run_id not in self._sleeping:  # it went on while its row was read
                continue
            is_driven = self._owner.is_driven(row)
            error = self._errors.get(run_id)  # kept until the run goes on: all who wait must get it
            if error is not None and row.status not in FINAL and not is_driven:
                raise error
            # While such a run is claimed, its row still says that it waits.
            is_to_go_on = run_id in self._sleeping
            if is_to_go_on and not is_driven:
                await self._sleep(row)
                continue
            if row.status not in UNDER_WAY and not is_to_go_on:
                return await self.archive.snapshot_of(row)
            if not is_driven:
                if self._takeover.is_to_come(row) and run_id not in self._parked:
                    await self._takeover.take_up(row)
                    continue
                return await self.archive.snapshot_of(row)
            tell_at = await self._pause(row, tell_at, followed)

    async def finish(self, run_id: str, planning: RunWork | None = None) -> Run:
        """Return a run when it has ended or waits; if its driver stops before that, drive it here. A failed plan is patched.

        Args:
            run_id: The run.
            planning: The planning of the run, whose error is raised.

        Raises:
            RunNotFound: There is no such run.
            PlanningFailed: The planning has found no plan.
        """
        if planning is not None:
            await asyncio.wait([planning])
            is_done = not planning.cancelled() and planning.exception() is None
            if is_done and (failed := planning.result()) is not None:
                raise failed
        run = await self._moved(run_id)
        if run.status == RunStatus.FAILED:
            run = await self._patched(run)
        if not self._drives_here and run.status == RunStatus.FAILED and run.plan is None:
            raise _planning_error(run)
        return run

    async def wait_patched(self, run_id: str) -> Run:
        """Return as `wait` does, but the run of the last patched plan if the plan of the run is patched. Raises: as `wait`."""
        return await self._patched(await self.wait(run_id))

    async def _moved(self, run_id: str) -> Run:
        run = await self.wait(run_id)
        while run.abandoned and not self._is_closing and run_id not in self._parked:
            await self.go_on(run_id)
            run = await self.wait(run_id)
        return run

    async def _pause(self, row: RunRow, tell_at: float, followed: Followed) -> float:
        """Wait for another process that drives a run to move it. If the wait is long, log the process; return the time of the next log line."""
        now = time.monotonic()
        if now >= tell_at and self._owner.is_anothers(row):
            self._on_waiting(self._owner_of(row))
            tell_at = now + TELL_AGAIN_S
        await followed.wait(partial(self._owner.is_gone, row), self._owner.look_s(row))
        return tell_at

    async def events(self, run_id: str, after: int = 0) -> AsyncIterator[Event]:
        """Yield the run's events past `after` as they become durable, until nothing more comes by itself."""
        await self.archive.row(run_id)
        with self.changes.follow(run_id) as followed:
            async with aclosing(self._events(run_id, after, followed)) as events:
                async for event in events:
                    yield event

    async def _events(  # noqa: C901  # a branch for each way in which a run goes on
        self, run_id: str, after: int, followed: Followed
    ) -> AsyncGenerator[Event]:
        while True:
            followed.look()
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
            if not self._drives_here:
                if not await self.dispatcher.goes_on(row):
                    return
                await followed.wait(_never, LOOK_S)
                continue
            if task is not None and not task.done():
                await asyncio.wait([task], timeout=POLL_S)
                continue
            if row.status in UNDER_WAY and not self._is_driven(row) and self._takeover.is_to_come(row):
                await self._takeover.take_up(row)
                continue
            if run_id in self._sleeping and row.status not in FINAL:
                await self._timers.wait(run_id, LOOK_S)
                continue
            if row.status in FINAL or not self._owner.is_driven(row):
                return
            await followed.wait(partial(self._owner.is_gone, row), self._owner.look_s(row))

    # --- patched plans
    #
    # Each patched plan is a run of its own, whose parent is the run that failed: finished steps keep their results, and a write that was
    # made is not made again unless a person allows it.

    def _tend(self, run_id: str) -> None:
        """Patch the plan of a run if the run fails, whether or not a caller waits for the run."""
        if run_id not in self._tending:
            name = f"firmplan patch {run_id}"
            tending = asyncio.get_running_loop().create_task(self._tended(run_id), name=name)
            self._tending[run_id] = tending
            tending.add_done_callback(lambda _: self._tending.pop(run_id, None))

    async def _tended(self, run_id: str) -> None:
        try:
            await self.wait_patched(run_id)
        except FirmplanError as fault:  # whoever waits for the run gets the error as well
            self.log.warning("not mended", run=run_id, why=str(fault))

    async def _patched(self, run: Run) -> Run:
        """Return a run; if the run failed, return the run of its patched plan (the header says how often a plan is patched)."""
        while run.status == RunStatus.FAILED and run.plan is not None:
            if not (times := await self._patches_left(run)):
                return run
            if not self._drives_here:
                patched = await self.dispatcher.find_patch(run)
            elif (patched := await self._patch_once(run, times)) is not None:
                await self.resume(patched)
            if patched is None:
                return run
            run = await self._moved(patched)
        return run

    async def _patches_left(self, run: Run) -> int:
        if run.status != RunStatus.FAILED or run.plan is None:
            return 0
        return Header.from_dict((await self.archive.row(run.id)).header).replan

    async def _patch_once(self, run: Run, times: int) -> str | None:
        if run.id in self._unpatched:
            return None
        if (patching := self._patching.get(run.id)) is None:
            patching = self._attempt_patch(run.id, self._patch(run, times))
        await asyncio.wait([patching])
        return None if patching.cancelled() else patching.result()

    async def _patch(self, run: Run, times: int) -> str | None:
        patched = await self.planning.patch(run, times)
        if patched is not None:
            self.facilities.words.follow(run.id, patched)
        return patched

    # --- owners

    def _is_driven(self, row: RunRow) -> bool:
        return row.id in self._driving or self._owner.is_driven(row)

    def _is_left_to_somebody(self, row: RunRow) -> bool:
        """Whether a run is driven, or is the business of a backend, so that it is not abandoned."""
        return not self._drives_here or self._is_driven(row)

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

    def _log_waiting(self, owner: RunOwner) -> None:
        """Log the process that this one waits for."""
        self.facilities.log.warning(
            "waits for another process that drives the run", **_logged(owner), hint=TAKE_OVER_HINT
        )

    # --- delete

    async def delete(self, run_id: str) -> RunsDeleted:
        """Delete a run that has ended. Raises: RunNotFound, InputRejected: the run has not ended, or has children."""
        task, driver = self._driving.get(run_id), self._drivers.get(run_id)
        has_ended = self.archive.find_ended(run_id) is not None
        if task is not None and (has_ended or (driver is not None and driver.machine.status is not None)):
            await asyncio.wait([task])  # it is about to be released
        await self._owner.wait()
        deleted = await self.care.delete(run_id)
        self._errors.pop(run_id, None)
        return deleted

    async def prune(
        self, *, age_s: float | None, statuses: Sequence[str] | None, is_dry_run: bool
    ) -> RunsDeleted:
        """Delete the runs of these statuses whose end is that long ago; see `StoreCare.prune`."""
        await self._owner.wait()
        return await self.care.prune(age_s, statuses, is_dry_run=is_dry_run)


def _steps_text(steps: Sequence[str]) -> str:
    """Return the subject of a sentence about steps, in the singular."""
    shown = listing((f"'{step}'" for step in steps), 4)
    return f"step {shown}" if len(steps) == 1 else f"each of the steps {shown}" if steps else "the plan"


def _never() -> bool:
    return False


def _planning_error(run: Run) -> FirmplanError:
    """Return the error of a planning that a worker has recorded in its run, as a planning here raises it."""
    error = run.errors[0] if run.errors else None
    kinds = {kind.code: kind for kind in (ConfigError, InputRejected)}
    kind = PlanningFailed if error is None else kinds.get(error.code, PlanningFailed)
    return kind(error.message if error is not None else f"the task of run {run.id} could not be planned")


def _logged(owner: RunOwner) -> dict[str, object]:
    """Return who drives a run of another process, as fields for the log."""
    return {"run": owner.run, "owner": owner.process, "last_record_s_ago": owner.silent_s}
