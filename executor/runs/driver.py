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
import gc
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from ...errors import ConfigError, EngineBug
from ...plans.collecting import PYTHONS_OWN_MAX, Aside
from ...tools import Used
from ..calls.caller import Caller, Draws, Usage
from ..calls.concurrency import Crew, first_of, noticed
from ..calls.dispatch import Admission, Preparation, PreparedCall, StartCall
from ..calls.early import EarlySteps
from ..calls.facilities import Facilities
from ..calls.flow_policy import Clearance
from ..calls.invoke import STOPPED, Failed, Lost, Outcome, Returned, fitting
from ..calls.lease import elapsed_s
from ..calls.reuse import Results, reused
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
from ..stores.store import Decision, Reusable, RunRow
from .recorder import Progress, Recorder, tell_trace
from .run import run_status

if TYPE_CHECKING:
    from ..calls.early import EarlyCall, EarlySteps
    from ..calls.facilities import Facilities
    from ..canonical_value import CanonicalValue
    from ..commands import Command
    from ..journal.header import Header
    from ..machine import Machine


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


# --- The calls of one run that are due: each made in its place, at most once, and what came of it handed to the loop.
#
# A call takes what an identical one returns that is under way, or was just made. It has a place while it runs. Of a write the intent is
# durable before it is called; in a life of the run that follows a death the start of every call is, so that it shows which call kills.
# Of others the start goes on record when they first wait, so that a call that never does is one record.
# How a call is made is `caller.py`; what follows from what came of it is for the loop to carry out.


_NO_EPOCHS: Final[Mapping[str, int]] = {}


class Loop(Protocol):
    """What takes in what came of a call: `driver.Driver`.

    Attributes:
        is_parking: Whether nothing more is to begin.
    """

    machine: Machine
    journal: Journal
    is_parking: bool

    async def take_in(self, event: Cause) -> None:
        """Hand an event to machine and journal, and carry out what follows."""
        ...

    async def go_on(self, event: Cause, follow_up: Sequence[Command]) -> None:
        """Carry out what follows from an event that has been taken in."""
        ...


class Calling:
    """See the module. The loop makes this object when it begins to drive, and drops it when it stops, because the two refer to each other.

    Args:
        loop: The run's.
        facilities: What runs share.
        run_id: The run.
        header: What was settled when it was submitted.
        recorder: The run's.
        preparation: Has prepared the calls.
        results: What stands for calls, and what is kept of them.
        early: Calls that were begun while the plan was still being written.
        draws: The times, ids and random numbers that calls get.
        callers: Step -> the former owners whose calls of the step may be in flight.
        is_careful: Whether the start of every call is durable before it (`deaths.py`).

    Attributes:
        writing: Path of each write in flight -> its timeout in seconds, if it has a timeout.
    """

    def __init__(  # noqa: PLR0913  # what the calls of a run meet on their way
        self,
        loop: Loop,
        facilities: Facilities,
        run_id: str,
        header: Header,
        *,
        recorder: Recorder,
        preparation: Preparation,
        results: Results,
        early: EarlySteps | None,
        draws: Draws,
        callers: Mapping[str, Sequence[str]],
        is_careful: bool,
    ) -> None:
        self._loop = loop
        self._is_careful = is_careful
        self._machine = loop.machine
        self._journal = loop.journal
        self._facilities = facilities
        self._run_id = run_id
        self._recorder = recorder
        self._preparation = preparation
        self._results = results
        self._early = early
        progress = Progress(loop.journal, facilities.clock.now, recorder.is_called)
        self._caller = Caller(facilities, run_id, header.seed, loop.journal, progress.note, draws, callers)
        self._places: asyncio.Semaphore | None = None  # a limit of the run's own
        if header.concurrency_max is not None:
            shared = early.places if early is not None else None
            self._places = shared or asyncio.Semaphore(header.concurrency_max)
        self.writing: dict[str, float | None] = {}

    async def make(self, call: PreparedCall) -> None:
        """Make one call, unless an identical one is under way or was just made."""
        shared = self._results.begin(call)
        if shared is None:
            known = await self._results.of_identical(call)
            if known is not None:
                if self._machine.is_callable(call.step):
                    await self._loop.take_in(known)
                return
            shared = self._results.begin_beside(call)
        made: Reusable | None = None
        try:
            if self._early is None and self._places is None and self._facilities.take_free(call.tool):
                try:
                    made = await self._call(call)
                finally:
                    self._facilities.places.give_back()
            else:
                made = await self._place_and_call(call)
        finally:
            shared.end(made)

    async def _place_and_call(self, call: PreparedCall) -> Reusable | None:
        """Make a call for which there may be a limit of the run or of its tool, or which may have begun early."""
        early = await self._early.take(call) if self._early is not None else None
        if early is not None:  # it has had its place
            return None if self._loop.is_parking else await self._call(call, early)
        async with self._facilities.place_for(self._run_id, call.tool, self._places):
            return None if self._loop.is_parking else await self._call(call)

    async def _call(self, call: PreparedCall, early: EarlyCall | None = None) -> Reusable | None:
        """Start, call, and say what came of it; return the result if others may use it."""
        is_write, now = call.is_write, self._facilities.clock.now
        known = await self._caller.reconcile(call) if is_write else None
        if known is not None and self._machine.is_callable(call.step):
            call.started = now()
            self._begin(call)
            return await self._conclude(call, known, None)
        epochs: Mapping[str, int] | None = _NO_EPOCHS
        if early is not None:
            epochs = early.epochs
        elif call.is_kept_read:
            epochs = await self._results.epochs(call)
        if not self._machine.is_callable(call.step):
            return None
        at = now()
        if (limit := self._machine.find_short(call.step, at)) is not None:
            await self._loop.take_in(BudgetReached(call.step, limit))
            return None
        call.started = at
        if early is not None:
            if early.has_waited or call.has_more_to_record:
                self._begin(call)
            outcome, usage = self._caller.adopt(call, early.hand_over(call))
        elif is_write:
            return await self._write(call)
        elif self._is_careful or call.has_more_to_record:
            outcome, usage = await self._begin_and_make(call)
        else:
            outcome, usage = await noticed(self._caller.make(call), lambda: self._begin(call))
        return await self._conclude(call, outcome, epochs, usage)

    async def _begin_and_make(self, call: PreparedCall) -> tuple[Outcome, Usage | None]:
        self._begin(call)
        if self._is_careful:  # if it kills this process, the next one knows which call did
            await self._journal.flush()
        return await self._caller.make(call)

    async def _write(self, call: PreparedCall) -> Reusable | None:
        """Call a write, once its intent is durable, unless the run was cancelled meanwhile."""
        self._begin(call)
        self.writing[call.step] = call.command.timeout_s
        call.handed = elapsed_s()
        try:
            await self._journal.flush()
            if self._machine.is_cancelled:  # and nothing has happened yet
                self.writing.pop(call.step, None)
                await self._loop.take_in(self._machine.withdrawn(call.step))
                return None
            outcome, usage = await self._caller.make(call)
        finally:
            self.writing.pop(call.step, None)
        return await self._conclude(call, outcome, _NO_EPOCHS, usage)

    def _begin(self, call: PreparedCall) -> None:
        """Put on record that a call has started."""
        self._recorder.note(call.start(), call.started)

    async def _conclude(
        self,
        call: PreparedCall,
        outcome: Outcome,
        epochs: Mapping[str, int] | None,
        usage: Usage | None = None,
    ) -> Reusable | None:
        if call.is_begun and not self._machine.is_running(call.step):  # stopped, and returned all the same
            return None
        ended = self._preparation.told(call, fitting(outcome, call.tool, self._machine.size))
        if not isinstance(ended, Returned) and ended.trace:
            tell_trace(ended.trace, self._run_id, call.step, call.command.attempt)
        match ended:
            case Returned(output):
                return await self._returned(call, output, epochs, usage)
            case Failed(code, message, temporary, retryable):
                if not call.is_begun:
                    self._begin(call)
                self._results.note_failed(call)
                took_effect = ended.took_effect or None
                failed = CallFailed(call.step, code, message, temporary, retryable, usage, took_effect)
                await self._loop.take_in(failed)
            case Lost(why):
                await self._loop.take_in(CallLost(call.step, why))
        return None

    async def _returned(
        self,
        call: PreparedCall,
        output: CanonicalValue,
        epochs: Mapping[str, int] | None,
        usage: Usage | None,
    ) -> Reusable | None:
        if call.context is not None:
            self._caller.forget(call)
        at = self._facilities.clock.now()
        made = self._results.keep(call, output, epochs, at)
        blobs = call.blobs.made if call.blobs is not None else None
        if blobs:
            self._journal.keep(blobs)
        event = call.made(output) if not call.is_begun else CallSucceeded(call.step, output, call.used, usage)
        follow_up = self._recorder.note(event, at)
        if follow_up:
            await self._loop.go_on(event, follow_up)
        if blobs:  # an identical call of another run may wait for this one, and read them
            await self._journal.flush()
        return made


# --- Calls that have vanished: a tool has cancelled the task that it ran in, and so left neither a result nor an error.
#
# A cancel looks the same whoever asked for it. So this is seen only once nothing of the run is under way any more: a call that is
# still running as far as the machine knows has vanished.


def expect_outcomes(machine: Machine) -> None:
    """Raise where a call has vanished from a run that is not being driven any more. Raises: ConfigError."""
    if machine.status is not None or machine.is_stuck():
        return
    step = next((step for step in machine.iterations if machine.is_running(step)), "")
    raise ConfigError(
        f"the call of step '{step}' left no outcome: its tool '{machine.tool_of(step)}' has cancelled the task that called "
        "it; let it cancel tasks of its own only, or give it a timeout, which gives its calls a task of their own"
    )


# --- Python's garbage collector while runs are driven or replayed.
#
# A plan of thousands of steps is a hundred thousand objects that live for long and hold no garbage, but each full collection looks at
# all of them: half of what a step of a large run cost. So what is alive when a run begins to move is put aside (`gc.freeze`) until no
# run moves any more. What comes up meanwhile is collected as always; of what was put aside, only cycles that become garbage wait.
# A process that has put objects aside itself, as servers do before they fork, is left alone.


class _Aside:
    """How many runs move, over all event loops of the process; whether it was we who put objects aside."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._moving = 0
        self._is_ours = False

    def begin(self) -> None:
        with self._lock:
            self._moving += 1
            if self._moving == 1 and gc.get_freeze_count() <= PYTHONS_OWN_MAX:
                gc.freeze()
                self._is_ours = Aside.is_on = True

    def end(self) -> None:
        with self._lock:
            self._moving -= 1
            if self._moving == 0 and self._is_ours:
                gc.unfreeze()
                self._is_ours = Aside.is_on = False


_ASIDE = _Aside()


@contextmanager
def old_objects_aside() -> Generator[None]:
    """Keep the collector from looking at what is alive now, as long as any run is inside."""
    _ASIDE.begin()
    try:
        yield
    finally:
        _ASIDE.end()
