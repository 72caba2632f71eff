"""The loop around the machine: one run, driven by one process.

An event goes into the machine and the journal; the machine's commands are carried out; each outcome is the next event. An
event is handled and written down in one piece, without an await between, so the journal's order is the machine's order.

Rules it keeps: a write is called only once its intent is durable, with all that its arguments came from (the journal is
durable as a prefix); what follows from a write's outcome starts only once the outcome is durable; nothing starts that
the machine does not want any more. What it does not know: how a plan runs (`machine.py`), what a call is made of
(`prepared.py`), what stands for or against it (`admission.py`), how it is made (`caller.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextvars import copy_context
from typing import Any, Final, NamedTuple

from ...errors import EngineBug
from ...tools import Used
from ..calls.admission import Admission
from ..calls.clearance import Clearance
from ..calls.coroutines import STOPPED
from ..calls.crew import Crew, first_of
from ..calls.draws import Draws
from ..calls.early import EarlySteps
from ..calls.facilities import Facilities
from ..calls.prepared import Preparation, PreparedCall, StartCall
from ..calls.results import Results, reused
from ..commands import Command, Pause, Record, RuleApproval, StartModelCall, StartToolCall, StopCall
from ..events import (
    ApprovalRuled,
    CallLost,
    CancelAsked,
    Cause,
    RetryDue,
)
from ..fork import Inherited
from ..journal.header import Header
from ..journal.journal import Journal
from ..machine import Machine
from ..stores.store import Decision, Reusable, RunRow
from .calling import Calling
from .recorder import Recorder
from .run import run_status

WORKERS_MIN: Final = (
    1_000  # calls of one run that may wait for a place of their tool, before others wait behind them
)
PARK_GRACE_S: Final = 30.0  # how long a stopping process, and a cancelled run, waits for its writes in flight

_NOTHING: Final[Mapping[str, Any]] = {}


class _Shift(NamedTuple):
    """The state that exists only while a run is driven. It refers to the driver, so the driver drops it when it stops.

    This breaks the reference cycle, which would keep an ended run in memory.
    """

    group: asyncio.TaskGroup
    calling: Calling
    crew: Crew[PreparedCall]


class Driver:
    """Drives one run until it has finished, or nothing goes on without a person.

    Args:
        facilities: What runs share.
        row: The run's row, as claimed.
        machine: The run, as far as it has come.
        header: What was settled when it was submitted.
        inherited: Of a fork: what the parent's calls came to, by path.
        early: Calls that were begun while the plan was still being written.
        drawn: What calls were told of time and chance before, by step.
        callers: Step -> the former owners whose calls of the step may be in flight.
        is_careful: Whether the start of every call is durable before it (`deaths.py`).

    Attributes:
        journal: The run's.
        is_parking: Whether the driver has been told to stop.
    """

    def __init__(  # noqa: PLR0913  # what a run is driven with
        self,
        facilities: Facilities,
        row: RunRow,
        machine: Machine,
        header: Header,
        inherited: Mapping[str, Inherited] = _NOTHING,
        early: EarlySteps | None = None,
        drawn: Mapping[str, Used] = _NOTHING,
        *,
        callers: Mapping[str, Sequence[str]] = _NOTHING,
        is_careful: bool = False,
    ) -> None:
        self.facilities, self.row, self.machine, self.header = facilities, row, machine, header
        self.is_parking = False
        self.journal = Journal(facilities.commits, row, lambda: (run_status(machine), machine.digest))
        self._recorder = Recorder(machine, self.journal, row.id, header.lock, header.plan_made)
        self._results = Results(facilities, row, header, inherited, self.journal)
        self._clearance = Clearance(facilities, row.id, header)
        self._preparation = Preparation(facilities, row.id, header.fork)
        self._admission = Admission(machine, self._results, self._clearance, self._preparation)
        self._early = early
        self._callers = callers
        self._draws = Draws(drawn, self.journal, facilities.clock.now, self._recorder.is_called)
        self._is_careful = is_careful
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._shift: _Shift | None = None
        self._context = copy_context()
        self._ready: list[StartCall] = []
        self._taken: set[int] = set()

    # --- life

    async def drive(self, first: Sequence[Cause], decisions: Sequence[Decision] = ()) -> None:
        """Handle the first events and the decisions since, then continue until the run ends or waits.

        Args:
            first: The events that begin or continue the run; only the commands of the last event are carried out.
            decisions: The decisions of people that are not in the journal.

        Raises:
            StoreError: The journal cannot be written; the run stays where its durable prefix ends.
            EngineBug: A rule of firmplan was broken.
        """
        try:
            async with asyncio.TaskGroup() as group:
                self._begin(group)
                await self._take_in_first(first)
                await self._decide(decisions)
        except BaseExceptionGroup as group_of_faults:
            raise first_of(group_of_faults) from None
        finally:
            self._shift, self._recorder.is_driving = None, False
            self._recorder.on_outcome = None  # it holds the driver, which holds the recorder
        await self.journal.rest()

    async def _take_in_first(self, first: Sequence[Cause]) -> None:
        for event in first:
            follow_up = self._recorder.note(event, self.facilities.clock.now())
            if event is first[-1] or self.machine.status is not None:
                await self.go_on(event, follow_up)
                return

    def call_after(self, steps: Iterable[str], then: Callable[[], None]) -> None:
        """Call back when each of the named calls has a durable outcome; without names, when any call has."""
        left = set(steps)

        def hear(step: str) -> None:
            left.discard(step)
            if not left:
                self._recorder.on_outcome = None
                self._spawn("", flush())

        async def flush() -> None:
            await self.journal.flush()
            then()

        self._recorder.on_outcome = hear

    def _begin(self, group: asyncio.TaskGroup) -> None:
        """Make calls from now on, in tasks of this group."""
        calling = Calling(
            self,
            self.facilities,
            self.row.id,
            self.header,
            recorder=self._recorder,
            preparation=self._preparation,
            results=self._results,
            early=self._early,
            draws=self._draws,
            callers=self._callers,
            is_careful=self._is_careful,
        )
        workers_max = max(WORKERS_MIN, 2 * self.facilities.places.count)
        crew = Crew(calling.make, self._is_wanted, self._spawn, self._tasks, workers_max)
        self._shift, self._recorder.is_driving = _Shift(group, calling, crew), True

    @property
    def _writing(self) -> Mapping[str, float | None]:
        """Path of each write in flight -> its timeout in seconds, if it has a timeout."""
        return self._shift.calling.writing if self._shift is not None else {}

    async def take_decisions(self, decisions: Sequence[Decision]) -> None:
        """Take in what people decided, if the run is being driven now; else the next driver does."""
        if self._shift is None or self.is_parking:
            return
        work = self._decide(decisions)
        try:
            task = self._shift.group.create_task(work)
        except RuntimeError:  # the group has just ended
            work.close()
        else:
            await asyncio.wait([task])

    async def note(self, decisions: Sequence[Decision], events: Sequence[Cause] = ()) -> None:
        """Handle events, then the decisions of people, in a run that nobody drives; make no call. Raises: StoreError."""
        self.is_parking = True
        for event in events:
            self._recorder.note(event, self.facilities.clock.now())
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
                await self.take_in(decision.event, decision.number)
                if isinstance(decision.event, CancelAsked) and self._writing:
                    self._spawn("", self._give_up_writes())
            else:
                stale.append(decision.number)
        if stale:
            await self.facilities.store.drop_decisions(stale)

    async def park(self) -> None:
        """Stop here: start nothing more, cut off calls that change nothing, wait a while for writes in flight."""
        self.is_parking = True
        written = self._writing
        writing = [task for step, task in self._tasks.items() if step in written]
        for step, task in self._tasks.items():
            if step not in written:
                task.cancel(STOPPED)
        if writing:
            await asyncio.wait(writing, timeout=PARK_GRACE_S)
        for task in self._tasks.values():
            task.cancel(STOPPED)

    # --- the loop

    async def take_in(self, event: Cause, decision: int | None = None) -> None:
        """Machine, journal, commands: the whole of it."""
        follow_up = self._recorder.note(event, self.facilities.clock.now(), decision)
        if follow_up:
            await self.go_on(event, follow_up)

    async def go_on(self, event: Cause | None, follow_up: Sequence[Command]) -> None:
        """Carry out what follows from an event, or from several of which none is a write's."""
        if self._recorder.must_be_durable(event):
            await self.journal.flush()
        if not self.is_parking:
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
        if self._shift is None:
            raise EngineBug("a command came while nobody drives the run")
        try:
            # What a call has left in its context is for nobody else.
            task = self._shift.group.create_task(work, context=self._context.copy())
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
            if not self.is_parking and self.machine.is_pausing(step):
                await self.take_in(RetryDue(step))
        finally:
            self._forget(step)

    async def _rule(self, command: RuleApproval) -> None:
        needed = self._clearance.is_person_needed(command)
        if self.machine.is_callable(command.step):
            await self.take_in(ApprovalRuled(command.step, needed))
        self._forget(command.step)

    async def _give_up_writes(self) -> None:
        """Wait a while for the writes in flight of a cancelled run that no timeout ends; what became of the others nobody knows."""
        writing = self._writing
        endless = {step: self._tasks[step] for step, limit_s in writing.items() if limit_s is None}
        if endless:
            await asyncio.wait(endless.values(), timeout=PARK_GRACE_S)
        for step, task in endless.items():
            if step in writing and self.machine.is_running(step):
                why = f"the run was cancelled, and the call had not ended {PARK_GRACE_S:g} s later"
                await self.take_in(CallLost(step, why))
                task.cancel(STOPPED)

    # --- calls

    async def _start(self) -> None:
        """Prepare the calls that are ready, see which need not be made, and have the others made."""
        commands, self._ready = self._ready, []
        calls: list[PreparedCall] = []
        for command in commands:
            match self._admission.admit(command):
                case PreparedCall() as call:
                    calls.append(call)
                case RuleApproval() as rule:
                    self._spawn(rule.step, self._rule(rule))
                case None:
                    pass
                case instead:
                    await self.take_in(instead)
        found = await self._results.of_earlier(calls)
        if self._shift is None:
            raise EngineBug("a call became ready while nobody drives the run")
        crew = self._shift.crew
        follow_up: list[Command] = []
        now = self.facilities.clock.now()
        for call in calls:
            entry = found.get(call.step)
            if isinstance(entry, Reusable) and self.machine.is_callable(call.step):
                follow_up += self._recorder.note(reused(call, entry), now)
            elif not self.is_parking:
                call.why = self._results.why_none(call, entry)
                crew.add(call)
        crew.hire()
        if follow_up:
            await self.go_on(None, follow_up)

    def _is_wanted(self, call: PreparedCall) -> bool:
        return not self.is_parking and self.machine.is_callable(call.step)
