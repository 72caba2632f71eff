"""The loop around the machine: one run, driven by one process.

An event goes into the machine and the journal; the machine's commands are carried out; each outcome is the next event. An
event is handled and written down in one piece, without an await between, so the journal's order is the machine's order.

Rules it keeps: a write is called only once its intent is durable, with all that its arguments came from (the journal is
durable as a prefix); what follows from a write's outcome starts only once the outcome is durable; nothing starts that
the machine does not want any more. What it does not know: how a plan runs (`machine.py`), what a call is made of
(`prepared.py`), what stands for it (`results.py`), how it is made (`caller.py`). The loop is one module, since whoever carries
out a command has to see all that is under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ...errors import EngineBug, ToolError
from ...tools import Used
from ..calls.caller import Caller, Usage
from ..calls.calls import Failed, Lost, Outcome, Returned, fitting
from ..calls.clearance import Clearance
from ..calls.coroutines import STOPPED
from ..calls.crew import Crew, first_of
from ..calls.draws import Draws
from ..calls.early import EarlyCall, EarlySteps
from ..calls.facilities import Facilities
from ..calls.prepared import Preparation, PreparedCall, StartCall
from ..calls.progress import Progress
from ..calls.results import Results, reused
from ..commands import Command, Pause, Record, RuleApproval, StartModelCall, StartToolCall, StopCall
from ..events import (
    ApprovalRuled,
    BudgetReached,
    CallFailed,
    CallLost,
    CallSucceeded,
    CancelAsked,
    Cause,
    RetryDue,
)
from ..fork import Inherited
from ..journal.header import Header
from ..journal.journal import Journal
from ..machine import Machine
from ..sealed import Sealed
from ..states import RunStatus
from ..stores.store import Decision, Reusable, RunRow
from .recorder import Recorder
from .run import run_status

WORKERS_MIN: Final = (
    1_000  # calls of one run that may wait for a place of their tool, before others wait behind them
)
PARK_GRACE_S: Final = 30.0  # how long a stopping process, and a cancelled run, waits for its writes in flight

_NO_EPOCHS: Final[Mapping[str, int]] = {}


@dataclass(slots=True)
class Driver:
    """Drives one run until it has finished, or nothing goes on without a person.

    Attributes:
        row: The run's row, as claimed.
        header: What was settled when it was submitted.
        inherited: Of a fork: what the parent's calls came to, by path.
        drawn: What calls were told of time and chance before, by step.
        early: Calls that were begun while the plan was still being written.
        places: Calls at a time in this run, if it has a limit of its own.
    """

    facilities: Facilities
    row: RunRow
    machine: Machine
    header: Header
    inherited: Mapping[str, Inherited] = field(default_factory=dict[str, Inherited])
    early: EarlySteps | None = None
    drawn: Mapping[str, Used] = field(default_factory=dict[str, Used])
    places: asyncio.Semaphore | None = field(init=False, default=None)
    journal: Journal = field(init=False)
    _group: asyncio.TaskGroup | None = field(init=False, default=None)
    _tasks: dict[str, asyncio.Task[None]] = field(init=False, default_factory=dict[str, "asyncio.Task[None]"])
    _writing: dict[str, float | None] = field(init=False, default_factory=dict[str, "float | None"])
    _preparation: Preparation = field(init=False)
    _results: Results = field(init=False)
    _caller: Caller = field(init=False)
    _clearance: Clearance = field(init=False)
    _recorder: Recorder = field(init=False)
    _ready: list[StartCall] = field(init=False, default_factory=list["StartCall"])
    _crew: Crew[PreparedCall] = field(init=False)
    _is_parking: bool = field(init=False, default=False)
    _taken: set[int] = field(init=False, default_factory=set[int])

    def __post_init__(self) -> None:
        self.journal = Journal(self.facilities.store, self.row, self._standing)
        self._recorder = Recorder(self.machine, self.journal, self.row.id, self.header.lock)
        workers_max = max(WORKERS_MIN, 2 * self.facilities.places.count)
        self._crew = Crew(self._make, self._is_wanted, self._spawn, self._tasks, workers_max)
        self._preparation = Preparation(self.facilities, self.row.id)
        self._results = Results(self.facilities, self.row, self.header, self.inherited)
        self._clearance = Clearance(self.facilities, self.row.id, self.header)
        calls = (self.journal, self.facilities.clock.now, self._is_called)
        draws, progress = Draws(self.drawn, *calls), Progress(*calls)
        seed = self.header.seed
        self._caller = Caller(self.facilities, self.row.id, seed, self.journal, progress.note, draws)
        if self.header.concurrency_max is not None:
            shared = self.early.places if self.early is not None else None
            self.places = shared or asyncio.Semaphore(self.header.concurrency_max)

    def _is_called(self, step: str) -> bool:
        """Whether a step's call is under way, and the run is being driven."""
        return self._group is not None and self.machine.is_running(step)

    def _standing(self) -> tuple[RunStatus, str]:
        return run_status(self.machine), self.machine.digest

    # --- life

    async def drive(self, first: Cause | None, decisions: Sequence[Decision] = ()) -> None:
        """Hand in the first event and what people decided since, and go on until nothing more happens by itself.

        Raises:
            StoreError: The journal cannot be written; the run stays where its durable prefix ends.
            EngineBug: A rule of firmplan was broken.
        """
        ended = asyncio.Event()
        storing = asyncio.create_task(
            self._results.store_until(ended), name=f"firmplan results of {self.row.id}"
        )
        storing.add_done_callback(lambda done: done.cancelled() or done.exception())  # raised again below
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                if first is not None:
                    await self._take_in(first)
                await self._decide(decisions)
        except BaseExceptionGroup as group_of_faults:
            raise first_of(group_of_faults) from None
        finally:
            self._group = None
            ended.set()
            await asyncio.wait([storing])
        await self.journal.flush()
        await storing

    async def take_decisions(self, decisions: Sequence[Decision]) -> None:
        """Take in what people decided, if the run is being driven now; else the next driver does."""
        if self._group is None or self._is_parking:
            return
        work = self._decide(decisions)
        try:
            task = self._group.create_task(work)
        except RuntimeError:  # the group has just ended
            work.close()
        else:
            await asyncio.wait([task])

    async def note(self, decisions: Sequence[Decision]) -> None:
        """Take in what people decided about a run that nobody drives; nothing is called. Raises: StoreError."""
        self._is_parking = True
        await self._decide(decisions)
        await self.journal.flush()

    async def _decide(self, decisions: Sequence[Decision]) -> None:
        """Hand in the decisions that still fit; drop the others, which another decision overtook."""
        stale: list[int] = []
        for decision in decisions:
            if decision.number in self._taken:
                continue
            self._taken.add(decision.number)
            if self.machine.accepts(decision.event):
                await self._take_in(decision.event, decision.number)
                if isinstance(decision.event, CancelAsked) and self._writing:
                    self._spawn("", self._give_up_writes())
            else:
                stale.append(decision.number)
        if stale:
            await self.facilities.store.drop_decisions(stale)

    @property
    def is_parking(self) -> bool:
        """Whether the driver has been told to stop."""
        return self._is_parking

    async def park(self) -> None:
        """Stop here: start nothing more, cut off calls that change nothing, wait a while for writes in flight."""
        self._is_parking = True
        writing = [task for step, task in self._tasks.items() if step in self._writing]
        for step, task in self._tasks.items():
            if step not in self._writing:
                task.cancel(STOPPED)
        if writing:
            await asyncio.wait(writing, timeout=PARK_GRACE_S)
        for task in self._tasks.values():
            task.cancel(STOPPED)

    # --- the loop

    async def _take_in(self, event: Cause, decision: int | None = None) -> None:
        """Machine, journal, commands: the whole of it."""
        follow_up = self._recorder.note(event, self.facilities.clock.now(), decision)
        if follow_up:
            await self._go_on(event, follow_up)

    async def _go_on(self, event: Cause, follow_up: Sequence[Command]) -> None:
        """Carry out what follows from an event."""
        if self._recorder.must_be_durable(event):
            await self.journal.flush()
        if not self._is_parking:
            self._carry_out(follow_up)

    def _carry_out(self, commands: Sequence[Command]) -> None:
        calls: list[StartCall] = []
        for command in commands:
            match command:
                case StartToolCall() | StartModelCall():
                    calls.append(command)
                case Pause(step, delay_s):
                    self._spawn(step, self._pause(step, delay_s))
                case RuleApproval():
                    self._spawn(command.step, self._rule(command))
                case StopCall(step):
                    if step in self._tasks:
                        self._tasks[step].cancel(STOPPED)
                case Record():
                    raise EngineBug("records are written before commands are carried out")
        if calls:
            if not self._ready:  # what becomes ready in the same turn of the loop is looked up together
                self._spawn("", self._start())
            self._ready += calls

    def _spawn(self, step: str, work: Coroutine[Any, Any, None]) -> None:
        if self._group is None:
            raise EngineBug("a command came while nobody drives the run")
        try:
            task = self._group.create_task(work)
        except RuntimeError:  # a fault ends the group: nothing more begins
            work.close()
            return
        if step:
            self._tasks[step] = task

    def _forget(self, step: str) -> None:
        """Forget the task that ends here, unless another has taken its place."""
        if self._tasks.get(step) is asyncio.current_task():
            del self._tasks[step]

    async def _pause(self, step: str, delay_s: float) -> None:
        try:
            await self.facilities.clock.sleep(delay_s)
            if not self._is_parking and self.machine.is_pausing(step):
                await self._take_in(RetryDue(step))
        finally:
            self._forget(step)

    async def _rule(self, command: RuleApproval) -> None:
        needed = self._clearance.is_person_needed(command)
        if self.machine.is_callable(command.step):
            await self._take_in(ApprovalRuled(command.step, needed))
        self._forget(command.step)

    async def _give_up_writes(self) -> None:
        """Wait a while for the writes in flight of a cancelled run that no timeout ends; what became of the others nobody knows."""
        endless = {step: self._tasks[step] for step, limit_s in self._writing.items() if limit_s is None}
        if endless:
            await asyncio.wait(endless.values(), timeout=PARK_GRACE_S)
        for step, task in endless.items():
            if step in self._writing and self.machine.is_running(step):
                why = f"the run was cancelled, and the call had not ended {PARK_GRACE_S:g} s later"
                await self._take_in(CallLost(step, why))
                task.cancel(STOPPED)

    # --- calls

    async def _start(self) -> None:
        """Prepare the calls that are ready, see which need not be made, and have the others made."""
        commands, self._ready = self._ready, []
        calls: list[PreparedCall] = []
        for command in commands:
            if self.inherited and (inherited := self._results.of_parent(command)) is not None:
                await self._take_in(inherited)
                continue
            if (objection := self._clearance.find_objection(command, self.machine)) is not None:
                if isinstance(objection, RuleApproval):
                    self._spawn(command.step, self._rule(objection))
                else:
                    await self._take_in(objection)
                continue
            try:
                calls.append(self._preparation.prepare(command))
            except ToolError as fault:
                if self.machine.is_callable(command.step):
                    message = self._preparation.without_secrets(command, str(fault))
                    await self._take_in(CallFailed(command.step, fault.code, message, fault.temporary))
        found = await self._results.of_earlier(calls)
        for call in calls:
            entry = found.get(call.step)
            if isinstance(entry, Reusable) and self.machine.is_callable(call.step):
                await self._take_in(reused(call, entry))
            elif not self._is_parking:
                call.why = self._results.why_none(call, entry)
                self._crew.add(call)
        self._crew.hire()

    def _is_wanted(self, call: PreparedCall) -> bool:
        return not self._is_parking and self.machine.is_callable(call.step)

    async def _make(self, call: PreparedCall) -> None:
        """Make one call, unless an identical one is under way or was just made."""
        shared = self._results.begin(call)
        if shared is None:
            known = await self._results.of_identical(call)
            if known is not None:
                if self.machine.is_callable(call.step):
                    await self._take_in(known)
                return
            shared = self._results.begin_beside(call)
        made: Reusable | None = None
        try:
            if self.early is None and self.places is None and self.facilities.take_free(call.tool):
                try:
                    made = await self._call(call)
                finally:
                    self.facilities.places.give_back()
            else:
                made = await self._place_and_call(call)
        finally:
            shared.end(made)

    async def _place_and_call(self, call: PreparedCall) -> Reusable | None:
        """Make a call for which there may be a limit of the run or of its tool, or which may have begun early."""
        early = await self.early.take(call) if self.early is not None else None
        if early is not None:  # it has had its place
            return None if self._is_parking else await self._call(call, early)
        async with self.facilities.place_for(self.row.id, call.tool, self.places):
            return None if self._is_parking else await self._call(call)

    async def _call(self, call: PreparedCall, early: EarlyCall | None = None) -> Reusable | None:
        """Start, call, and say what came of it; return the result if others may use it."""
        is_write, now = call.is_write, self.facilities.clock.now
        known = await self._caller.reconcile(call) if is_write else None
        if known is not None and self.machine.is_callable(call.step):
            self._recorder.note(call.start(at := now()), at)
            return await self._conclude(call, known, None)
        epochs: Mapping[str, int] | None = _NO_EPOCHS
        if early is not None:
            epochs = early.epochs
        elif call.is_kept_read:
            epochs = await self._results.epochs(call)
        if not self.machine.is_callable(call.step):
            return None
        at = now()
        if (limit := self.machine.find_short(call.step, at)) is not None:
            await self._take_in(BudgetReached(call.step, limit))
            return None
        self._recorder.note(call.start(at), at)
        if is_write:
            self._writing[call.step] = call.command.timeout_s
            await self.journal.flush()
            if self.machine.is_cancelled:  # meanwhile, and nothing has happened yet
                del self._writing[call.step]
                await self._take_in(self.machine.withdrawn(call.step))
                return None
        try:
            if early is None:
                outcome, usage = await self._caller.make(call)
            else:
                outcome, usage = self._caller.adopt(call, early.hand_over(call))
        finally:
            if is_write:
                del self._writing[call.step]
        return await self._conclude(call, outcome, epochs, usage)

    async def _conclude(
        self,
        call: PreparedCall,
        outcome: Outcome,
        epochs: Mapping[str, int] | None,
        usage: Usage | None = None,
    ) -> Reusable | None:
        if not self.machine.is_running(call.step):  # it was stopped, and returned all the same
            return None
        match self._preparation.told(call, fitting(outcome, call.tool, self.machine.size)):
            case Returned(output):
                return await self._returned(call, output, epochs, usage)
            case Failed(code, message, temporary, retryable):
                self._results.note_failed(call)
                await self._take_in(CallFailed(call.step, code, message, temporary, retryable, usage))
            case Lost(why):
                await self._take_in(CallLost(call.step, why))
        return None

    async def _returned(
        self, call: PreparedCall, output: Sealed, epochs: Mapping[str, int] | None, usage: Usage | None
    ) -> Reusable | None:
        if call.context is not None:
            self._caller.forget(call)
        at = self.facilities.clock.now()
        made = self._results.keep(call, output, epochs, at)
        blobs = call.blobs.made if call.blobs is not None else None
        if blobs:
            self.journal.keep(blobs)
        event = CallSucceeded(call.step, output, call.used, usage)
        follow_up = self._recorder.note(event, at)
        if follow_up:
            await self._go_on(event, follow_up)
        if blobs:  # an identical call of another run may wait for this one, and read them
            await self.journal.flush()
        return made
