"""The loop around the machine: one run, driven by one process.

An event goes into the machine and the journal, the commands of the machine are carried out, and each outcome is the next event. An
event is handled and recorded without an await in between, so the order of the journal is the order of the machine.

Rules: a write is called only after its intent is durable, and with it, since the journal is durable as a prefix, everything that its
arguments came from. The consequences of a write's outcome start only after the outcome is durable; only the intents of further writes
may share its commit, if the write is idempotent. Nothing starts that the machine no longer wants.

This module does not know how a plan runs (`machine.py`), how a command becomes a call (`dispatch.py`), or how a call is made (`caller.py`).
"""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from functools import partial
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ...errors import ConfigError, EngineBug, ToolError
from ...plans.collecting import Aside, new_objects, uncollected
from ...plans.signature import Effect
from ...tools import Tool, Used
from ..calls.caller import Caller, Nondeterminism, Usage
from ..calls.concurrency import TURN_S, WorkerPool, first_error, notify_wait
from ..calls.dispatch import Preparation, PreparedCall, StartCall, dispatch, endorsed
from ..calls.early import EarlyCall, EarlySteps
from ..calls.facilities import Facilities
from ..calls.flow.flow_policy import FlowPolicy
from ..calls.lease import elapsed_s
from ..calls.reuse import Results, reused
from ..calls.running.invoke import Failed, Lost, Outcome, Returned, begin_call, fitting
from ..calls.running.stoppable import STOPPED, BegunCall
from ..calls.step_planning import StepTask, cost_of, sub_plan_of
from ..commands import (
    Command,
    Continue,
    FollowCall,
    Pause,
    Record,
    RecordEndorsement,
    RuleApproval,
    StartModelCall,
    StartPlanning,
    StartToolCall,
    StopCall,
    WakeAt,
)
from ..events import (
    WITHDRAWN,
    BudgetReached,
    CallFailed,
    CallLost,
    CallMade,
    CallStarted,
    CallSucceeded,
    CancelAsked,
    Cause,
    DeadlinePassed,
    LoopBlocked,
    QueueUnserved,
    RetryDue,
    WaitEnded,
    WorkContinued,
)
from ..fork import Inherited
from ..journal.header import Header
from ..journal.journal import Journal
from ..limits import FRAMES_KEPT_MAX, PARK_GRACE_S
from ..machine import Machine
from ..observer import ObservedCall, ObservedRun, RunWatch
from ..stores.store import Decision, Reusable, RunRow
from .recorder import ProgressLog, RunRecorder, log_trace
from .run import run_status

if TYPE_CHECKING:
    from ..calls.far import FarCalls
    from ..far_call import FarDispatch

# Calls of one run that may wait for the semaphore of their tool before the calls of other tools have to wait behind them.
WORKERS_MIN: Final = 1_000
UNKNOWN_HINT: Final = (
    "whether it took effect may be unknown: the next owner of the run repeats it under its key if its tool is idempotent, asks the tool if it can "
    "`reconcile`, and otherwise waits for `firmplan resolve RUN STEP`"
)

_NOTHING: Final[Mapping[str, Any]] = {}


class _Active(NamedTuple):
    """The state that exists only while a run is driven.

    It refers to the driver, so the driver drops it when it stops: the cycle would keep an ended run in memory.
    """

    group: asyncio.TaskGroup
    pool: WorkerPool


class _Ending:
    """Whether the tasks of a run are being cancelled: an error, or a cancel of the task that drives the run, does so.

    The caller of the run needs it, and must not hold the driver, which holds the caller.
    """

    __slots__ = ("task",)

    def __init__(self) -> None:
        self.task: asyncio.Task[Any] | None = None

    def is_so(self) -> bool:
        """Whether they are."""
        return self.task is None or self.task.cancelling() > 0


class Driver:
    """Drives one run until it has finished, or until it waits for a person.

    Args:
        facilities: What the runs of an engine share.
        row: The run's row, as claimed.
        machine: The run, as far as it has come.
        header: What was settled when the run was submitted.
        inherited: Of a fork: path -> the outcome of the parent's call.
        early: Calls that started while the plan was still being written.
        drawn: Step -> the times and ids that its open calls got before this process drove the run.
        callers: Step -> the former owners whose calls of the step may still be in flight.
        is_careful: Whether the start of every call is durable before the call is made, because the run follows a death (`deaths.py`).

    Attributes:
        journal: The run's journal.
        is_parking: Whether the driver has been asked to stop.
    """

    def __init__(  # noqa: PLR0913  # everything that a run is driven with
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
        self.journal = Journal(
            facilities.commits,
            row,
            lambda: (run_status(machine), machine.digest),
            lambda: machine.budget.spent["usd"],
            lambda: machine.next_due,
            lambda: machine.needs_nobody,
            tells=facilities.tells_webhooks,
        )
        self._preparation = Preparation(facilities, row.id, header.fork, row.tenant)
        self._recorder = RunRecorder(
            machine,
            self.journal,
            row.id,
            header.lock,
            header.plan_made if header.planning is not None else None,
            self._preparation.approved_fingerprint,
        )
        self._watch = watch_of(facilities, row, header, machine) if facilities.observers.are_some else None
        self._recorder.watch = self._watch
        self._results = Results(facilities, row, header, inherited, self.journal)
        self._frames_kept = 0  # failed calls whose last frames are on record
        self._flow_policy = FlowPolicy(facilities, row.id, header)
        self._early = early
        self._ending = _Ending()
        now, is_called = facilities.clock.now, self._recorder.is_called
        self._far = self._far_calls(facilities.far) if facilities.far is not None else None
        self._caller = Caller(
            facilities,
            self._preparation,
            header.seed,
            self.journal,
            ProgressLog(self.journal, now, is_called).note,
            Nondeterminism(drawn, self.journal, now, is_called),
            callers,
            self._ending.is_so,
            self._far,
        )
        # The run's own limit on calls at a time. Calls that began early hold its places already, so both share one semaphore.
        self._semaphore: asyncio.Semaphore | None = None
        if header.concurrency_max is not None:
            shared = early.semaphore if early is not None else None
            self._semaphore = shared or asyncio.Semaphore(header.concurrency_max)
        self._loop_watch = facilities.loop_watch
        self._is_careful = is_careful
        # Whether every call needs something before it is made, or somebody stands around it.
        self._is_held_up = (
            is_careful or early is not None or self._semaphore is not None or self._watch is not None
        )
        owner = facilities.ownership
        self._lease = owner.lease if owner is not None and owner.lease.is_needed else None
        self._begins: dict[str, bool] = {}  # tool -> whether its calls are begun like functions
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._writing: dict[str, float | None] = {}  # path of each write in flight -> its timeout in seconds
        self._active: _Active | None = None
        self._context = copy_context()
        self._taken: set[int] = set()

    def _far_calls(self, dispatch: FarDispatch) -> FarCalls:
        from ..calls.far import FarCalls  # noqa: PLC0415  # only with a backend that carries out calls

        row = self.row
        is_wanted, tell = self.machine.is_running, self._note_unserved
        return FarCalls(
            self.facilities,
            dispatch,
            row.id,
            epoch=row.epoch,
            tenant=self.header.tenant,
            is_wanted=is_wanted,
            tell_unserved=tell,
        )

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
        self._ending.task = asyncio.current_task()
        self._loop_watch.begin()
        try:
            async with asyncio.TaskGroup() as group:
                self._enter(group)
                await self._take_in_first(first)
                if decisions:
                    await self._decide(decisions)
                if self.machine.shown:
                    await self._ask_anew()
                if self.machine.next_due is not None:
                    await self._end_waits()
                if self.machine.deadline is not None:
                    self._set_timer()
                # After the decisions, which may withdraw what is ready; and here, since a task of its own would be one more for each run.
                await self._start()
        except BaseExceptionGroup as group_of_faults:
            raise first_error(group_of_faults) from None
        finally:
            self._active, self._ending.task, self._recorder.is_driving = None, None, False
            self._recorder.on_outcome = None  # it holds the driver, which holds the recorder
            self._loop_watch.end()
        await self.journal.rest()

    async def _take_in_first(self, first: Sequence[Cause]) -> None:
        # The commands of the last event start everything that may start; those of an event before it would start the same calls twice.
        for event in first:
            follow_up = self._recorder.note(event, self.facilities.clock.now())
            if event is first[-1] or self.machine.status is not None:
                await self._go_on(event, follow_up, starts=False)
                return

    async def _ask_anew(self) -> None:
        """Ask again about all calls whose tools have changed since a person was asked about them, so that the person sees all of them."""
        for step in list(self.machine.shown):
            if (
                not self.is_parking
                and (voided := self._preparation.find_void(step, self.machine)) is not None
            ):
                await self._take_in(voided)

    def call_after(self, steps: Iterable[str], then: Callable[[], None]) -> None:
        """Call `then` after each of the named calls has a durable outcome; without names, after any call has one."""
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

    def _enter(self, group: asyncio.TaskGroup) -> None:
        """Start tasks in this group from now on."""
        workers_max = max(WORKERS_MIN, 2 * self.facilities.semaphore.count)
        prepare = partial(self._start, free_workers=1)
        pool = WorkerPool(prepare, self._begin, self._is_wanted, self._spawn, self._tasks, workers_max)
        self._active, self._recorder.is_driving = _Active(group, pool), True

    async def take_decisions(self, decisions: Sequence[Decision]) -> None:
        """Handle the decisions of people if this driver is active; if not, the next driver of the run handles them."""
        if self._active is None or self.is_parking:
            return
        work = self._decide(decisions)
        try:
            # In the group of the run and not in the caller's task: an error of the machine or of the store ends the run, whoever was heard.
            task = self._active.group.create_task(work)
        except RuntimeError:  # the group has ended since the check above
            work.close()
        else:
            await asyncio.wait([task])

    async def note(self, decisions: Sequence[Decision], events: Sequence[Cause] = ()) -> None:
        """Handle events, then the decisions of people, of a run that is not being driven. Makes no calls. Raises: StoreError."""
        self.is_parking = True
        try:
            for event in events:
                self._recorder.note(event, self.facilities.clock.now())
            await self._decide(decisions)
            await self.journal.flush()
        finally:
            self.end_watch()

    def end_watch(self) -> None:
        """Tell those who watch the run that this process stops driving it."""
        if self._watch is not None:
            self._watch.end(run_status(self.machine).value, self.facilities.clock.now())

    async def _decide(self, decisions: Sequence[Decision]) -> None:
        """Handle the decisions that the machine still accepts, and drop the others: an earlier decision made them void."""
        stale: list[int] = []
        for decision in decisions:
            if decision.number in self._taken:
                continue
            self._taken.add(decision.number)
            # The machine is asked, not the journal: another decision, or the end of the step, may have come first.
            if self.machine.accepts(decision.event):
                await self._take_in(decision.event, decision.number)
                if isinstance(decision.event, CancelAsked) and self._writing:
                    self._spawn("", self._give_up_writes())
            else:
                stale.append(decision.number)
        if stale:
            await self.facilities.store.drop_decisions(stale)

    async def end_waits(self) -> bool:
        """Handle the times that have come, if this driver is active; return whether it is."""
        if self._active is None or self.is_parking:
            return self.is_parking
        work = self._end_waits()
        try:
            task = self._active.group.create_task(work)
        except RuntimeError:  # the group has ended since the check above
            work.close()
            return False
        await asyncio.wait([task])
        self._set_timer()
        return True

    def _set_timer(self) -> None:
        """Have this driver told of the next time that comes."""
        if (wake_at := self.facilities.wake_at) is not None and (due := self._next_due()) is not None:
            wake_at(self.row.id, due)

    def _next_due(self) -> float | None:
        # Where nothing expires, a time of an expiry that has passed would wake the run again and again.
        machine = self.machine
        return machine.next_due if self.facilities.expires else min(machine.timers.values(), default=None)

    async def _end_waits(self) -> None:
        """End the waits whose time has come: of `wait` steps, of questions, of approvals, and of the run itself."""
        for event in self.machine.due(self.facilities.clock.now(), expires=self.facilities.expires):
            if not self.is_parking and self.machine.accepts(event):
                await self._take_in(event)
                if isinstance(event, DeadlinePassed) and self._writing:
                    self._spawn("", self._give_up_writes())

    async def park(self, grace_s: float = PARK_GRACE_S) -> None:
        """Stop: start nothing more, cancel calls that are not writes, and wait up to `grace_s` for the writes in flight; the log names them."""
        self.is_parking = True
        # A write that is cancelled has an unknown outcome, and then a person has to find out what it did. So writes get time to end.
        written = self._writing
        # A worker of a queue goes on with its call, which the next owner of the run follows.
        far = self._far
        stays = {step for step in written if far is not None and far.has(step)}
        writing = [task for step, task in self._tasks.items() if step in written and step not in stays]
        for step, task in self._tasks.items():
            if step not in written or step in stays:
                task.cancel(STOPPED)
        if writing:
            self._log_writes("waits for a write before it stops", up_to_s=grace_s)
            await asyncio.wait(writing, timeout=grace_s)
            self._log_writes("stopped during a write", hint=UNKNOWN_HINT)
        for task in self._tasks.values():
            task.cancel(STOPPED)

    def _log_writes(self, words: str, **fields: object) -> None:
        """Write a line for each write in flight."""
        for step in self._writing:
            tool = self.machine.tool_of(step)
            self.facilities.log.warning(words, run=self.row.id, step=step, tool=tool, **fields)

    # --- the loop

    async def _take_in(self, event: Cause, decision: int | None = None) -> None:
        """Handle one event: machine and journal, then the commands that follow."""
        follow_up = self._recorder.note(event, self.facilities.clock.now(), decision)
        if self._recorder.writes_next:
            await self._write_next(follow_up)
        elif follow_up:
            await self._go_on(event, follow_up)

    def _take_in_now(self, event: Cause, at: float) -> Coroutine[Any, Any, None] | None:
        """Do the same in a worker, which then starts the calls; return the rest where the commands have to wait for the store."""
        follow_up = self._recorder.note(event, at)
        if self._recorder.writes_next:
            return self._write_next(follow_up)
        if not follow_up:
            return None
        if self._recorder.must_be_durable(event, follow_up):
            return self._go_on(event, follow_up, starts=False)
        if not self.is_parking:
            self._carry_out(follow_up, starts=False)
        return None

    async def _write_next(self, follow_up: Sequence[Command]) -> None:
        """Start the writes that follow from the outcome of a write: its commit holds their intents, too."""
        # In this worker and in this turn of the event loop: otherwise the thread of commits would be woken once for the outcome and once more
        # for the intents, a turn later.
        try:
            if self.journal.is_behind:
                await self.journal.flush()
            if not self.is_parking:
                self._carry_out(follow_up, starts=False)
                await self._start(free_workers=1)
        finally:
            self.journal.expect()

    async def _go_on(self, event: Cause, follow_up: Sequence[Command], *, starts: bool = True) -> None:
        """Carry out the commands that follow from an event; `starts` is as of `_carry_out`."""
        if self._recorder.must_be_durable(event, follow_up):
            await self.journal.flush()
        # The driver may have been asked to stop during the flush. The event is in the journal, so the next owner carries out the commands.
        if not self.is_parking:
            self._carry_out(follow_up, starts=starts)

    def _carry_out(  # noqa: C901, PLR0912  # one case for each kind of command
        self, commands: Sequence[Command], *, starts: bool = True
    ) -> None:
        """Carry commands out; calls are started by a worker, unless the caller starts them."""
        calls: list[StartCall] = []
        for command in commands:
            match command:
                case StartToolCall() | StartModelCall():
                    calls.append(command)
                case Pause(step, delay_s):
                    self._spawn(step, self._pause(step, delay_s))
                case WakeAt():
                    self._wait(command)
                case RuleApproval():
                    self._spawn(command.step, self._rule(command))
                case RecordEndorsement(step):
                    self._spawn(step, self._endorse(command))
                case StartPlanning(step):
                    self._spawn(step, self._plan(command))
                case Continue():
                    self._spawn("", self._continue(command))
                case FollowCall(call):
                    self._spawn(call.step, self._follow(call))
                case StopCall(step):
                    if step in self._tasks:
                        self._tasks[step].cancel(STOPPED)
                case Record():
                    raise EngineBug("records are written before commands are carried out")
        if calls:
            pool = self._pool()
            pool.ready += calls
            if starts:
                pool.start_workers()

    def _pool(self) -> WorkerPool:
        if self._active is None:
            raise EngineBug("a call became ready while nobody drives the run")
        return self._active.pool

    def _spawn(self, step: str, work: Coroutine[Any, Any, None]) -> None:
        if self._active is None:
            raise EngineBug("a command came while nobody drives the run")
        try:
            # A new copy of the context: a context variable that a tool sets must not reach other calls.
            task = self._active.group.create_task(work, context=self._context.copy())
        except RuntimeError:  # an error is ending the group: nothing more starts
            work.close()
            return
        if step:
            self._tasks[step] = task

    def _forget(self, step: str) -> None:
        """Forget the current task, which is about to end, unless the step has a new task already."""
        if self._tasks.get(step) is asyncio.current_task():
            del self._tasks[step]

    async def _pause(self, step: str, delay_s: float) -> None:
        try:
            await self.facilities.clock.sleep(delay_s)
            if not self.is_parking and self.machine.is_pausing(step):
                await self._take_in(RetryDue(step))
        finally:
            self._forget(step)

    def _wait(self, command: WakeAt) -> None:
        """Have the run woken when a wait is over; a fork does not repeat what its parent has waited for."""
        is_over = command.at <= self.facilities.clock.now()
        if command.args is not None and self._results.of_parent(command) is not None:
            self._spawn("", self._end_wait(WaitEnded(command.step)))
        elif is_over or self.facilities.wake_at is None:
            self._spawn("", self._end_waits())
        else:
            self.facilities.wake_at(self.row.id, self._next_due())

    async def _end_wait(self, event: WaitEnded) -> None:
        if not self.is_parking and self.machine.accepts(event):
            await self._take_in(event)

    async def _continue(self, command: Continue) -> None:
        # One run at a time, so that a hundred runs with dear expressions are a hundred turns of the loop, and others get theirs in between.
        async with self.facilities.turns:
            await asyncio.sleep(0)
            if not self.is_parking and self.machine.status is None:
                await self._take_in(WorkContinued(command.spent))

    async def _rule(self, command: RuleApproval) -> None:
        # The rule runs in a task of its own, since its turn may come after the step was cancelled, and it is code of the tool that may block.
        if self.machine.is_callable(command.step):
            await self._take_in(self._flow_policy.rule(command, self.machine))
        self._forget(command.step)

    async def _endorse(self, command: RecordEndorsement) -> None:
        # In a task of its own, since the machine takes one event at a time.
        if self.machine.is_callable(command.step):
            made = self._results.of_parent(command) or endorsed(command, self.facilities.clock.now())
            await self._take_in(made)
        self._forget(command.step)

    async def _plan(self, command: StartPlanning) -> None:
        """Get the sub-plan of a `plan_for` step: from the parent of a fork or retry, else from the planner."""
        step, machine, now = command.step, self.machine, self.facilities.clock.now
        try:
            if not machine.is_callable(step):
                return
            instead = self._results.of_parent(command) or self._flow_policy.find_private(command, machine)
            if instead is None and self.header.reuse == "only":
                message = "a planning is never reused, and reuse='only' asks no planner"
                instead = CallFailed(step, "not-reusable", message)
            if instead is not None:
                await self._take_in(instead)
                return
            async with self.facilities.slot_for(self.row.id, None, self._semaphore):
                if self._lease is not None and self._lease.is_over:
                    await self._expect_lease()
                if self.is_parking or not machine.is_callable(step):
                    return
                at = now()
                if (limit := machine.find_short(step, at)) is not None:
                    await self._take_in(BudgetReached(step, limit))
                    return
                cost = cost_of(machine.budget, now)
                hidden = None if self._flow_policy.is_stricter else command.hidden
                task = StepTask.of(command.args.value, hidden)
                self._recorder.note(CallStarted(step, command.attempt, command.args.digest), at)
                if self._is_careful:
                    await self.journal.flush()
                with self._around(step, command.attempt, None, command.args.data, is_planning=True):
                    outcome = await sub_plan_of(command, self.facilities.step_planner, task, cost)
            # A kill before this line costs a planning, and nothing else has happened. After it the sub-plan is in the journal.
            if not self.is_parking and machine.is_running(step):
                await self._take_in(outcome)
        finally:
            self._forget(step)

    async def _give_up_writes(self) -> None:
        """Give the writes in flight of a cancelled run `PARK_GRACE_S` to end, then record their outcome as unknown.

        Writes with a timeout are left alone: the timeout ends them.
        """
        writing = self._writing
        if self._far is not None:
            await asyncio.gather(*(self._far.withdraw(step) for step in writing if self._far.has(step)))
        # A copy: while this waits, writes end and leave the map.
        endless = {step: self._tasks[step] for step, limit_s in writing.items() if limit_s is None}
        if endless:
            await asyncio.wait(endless.values(), timeout=PARK_GRACE_S)
        for step, task in endless.items():
            if step in writing and self.machine.is_running(step):
                why = f"the run was cancelled, and the call had not ended {PARK_GRACE_S:g} s later"
                await self._take_in(CallLost(step, why))
                task.cancel(STOPPED)

    # --- from commands to calls

    async def _start(self, *, free_workers: int = 0) -> None:
        """Start the calls that are ready, and those that become ready as earlier results stand for them.

        Args:
            free_workers: As of `WorkerPool.start_workers`.
        """
        # In one task, since a chain of results that are found would otherwise be a task each. As in a worker, others get their turn in between.
        pool, until = self._pool(), monotonic() + TURN_S
        while pool.ready:
            follow_up = await self._start_ready(pool, free_workers)
            if follow_up and self._recorder.must_be_durable(None, follow_up):
                await self.journal.flush()
            is_over = monotonic() > until
            if not self.is_parking:
                self._carry_out(follow_up, starts=is_over)
            if is_over:
                return

    async def _start_ready(self, pool: WorkerPool, free_workers: int) -> Sequence[Command]:
        """Prepare the calls that are ready, let earlier results stand for some of them, and give the others to the worker pool.

        Returns:
            The commands that follow from the results that were found.
        """
        commands, pool.ready = pool.ready, []
        calls: list[PreparedCall] = []
        for command in commands:
            match dispatch(command, self.machine, self._results, self._flow_policy, self._preparation):
                case PreparedCall() as call:
                    calls.append(call)
                case RuleApproval() as rule:
                    self._spawn(rule.step, self._rule(rule))
                case None:
                    pass
                case instead:
                    await self._take_in(instead)
        # One look-up for all calls of this turn: a look-up of its own for each would cost more than most calls.
        found = await self._results.of_earlier(calls)
        await self._results.note_epochs(
            [call for call in calls if not isinstance(found.get(call.step), Reusable)]
        )
        # During the lookup steps may have been cancelled, and the driver asked to stop: so each call is checked again.
        follow_up: list[Command] = []
        now = self.facilities.clock.now()
        for call in calls:
            entry = found.get(call.step)
            if isinstance(entry, Reusable) and self.machine.is_callable(call.step):
                follow_up += self._recorder.note(reused(call, entry), now)
            elif not self.is_parking:
                call.why = self._results.why_none(call, entry)
                call.ready = now
                pool.add(call)
        pool.start_workers(free=free_workers)
        return follow_up

    def _is_wanted(self, call: PreparedCall) -> bool:
        return not self.is_parking and self.machine.is_callable(call.step)

    # --- one call
    #
    # An identical call of this engine that is under way, or was just made, gives its result to this one. A call holds its semaphores
    # while it runs. When the start of a call is recorded depends on what a crash must not lose:
    #   write: the intent is durable before the call, so that a write is never repeated on a guess;
    #   any call of a run that follows a death (`is_careful`): the start is durable before the call, to show which call kills the process;
    #   other calls: the start is recorded when the call first waits, so that a call that never waits is one record.

    def _begin(self, call: PreparedCall) -> Coroutine[Any, Any, None] | None:
        """Begin a call; return the rest of the work on it, if the call waits or has to wait for something."""
        # The way of most calls. It is `_make` without what such calls do not need; `tests/laws/test_begun_calls.py` holds both to the same records.
        tool = call.tool
        has_lapsed = self._lease is not None and self._lease.is_over
        begins = self._begins
        if tool is not None and tool.name not in begins:
            begins[tool.name] = self._can_begin(tool)
        is_in_flight = call.key.key in self.facilities.in_flight
        if (
            tool is None
            or has_lapsed
            or not begins[tool.name]
            or (is_in_flight and self._results.is_identical_under_way(call))
        ):
            return self._make(call)
        at = self.facilities.clock.now()
        if (known := self._results.at_hand(call)) is not None:
            return self._take_in_now(known, at)
        if self.machine.budget.limits and (limit := self.machine.find_short(call.step, at)) is not None:
            return self._take_in_now(BudgetReached(call.step, limit), at)
        if not self.facilities.semaphore.try_acquire():
            return self._make(call)
        # From here to the first await of the tool nothing else runs on the loop, so the state of the machine that was asked above still holds.
        call.started = at
        outcome: Outcome | BegunCall | None = None
        try:
            outcome = self._begun(call, tool)
            if isinstance(outcome, BegunCall):
                return self._finish(call, tool, outcome, self._results.begin(call))
            return self._make(call) if outcome is None else self._ended_at_once(call, outcome)
        finally:
            # A call that waits keeps its place until it has ended (`_finish`).
            if not isinstance(outcome, BegunCall):
                self.facilities.semaphore.release()

    def _begun(self, call: PreparedCall, tool: Tool) -> Outcome | BegunCall | None:
        """Begin a call, and record its start if it waits, or draws what is recorded from its context; `None`: it needs artifacts first."""
        timeout_s, owner = call.command.timeout_s, (self.row.id, call.step, tool.name)
        if not tool.needs_context:
            outcome = begin_call(tool, call.args, None, timeout_s, call.given, self._loop_watch, owner)
        elif self._caller.can_begin_with_context(call, tool, lambda: self._record_start(call)):
            try:
                outcome = begin_call(
                    tool, call.args, call.context, timeout_s, call.given, self._loop_watch, owner
                )
            finally:
                self._caller.has_begun(call)
        else:
            return None
        if isinstance(outcome, BegunCall) and not call.is_begun:
            try:
                self._record_start(call)
            except BaseException:
                outcome.close()
                raise
        return outcome

    def _can_begin(self, tool: Tool) -> bool:
        """Whether the calls of a tool are begun like functions: they need nothing before they run, and leave nothing but their outcome."""
        # Resources may have to be opened first, and their use is no call that never waits.
        has_needs = tool.guard or tool.injected or tool.effect is Effect.WRITE or tool.request_of is not None
        is_limited = tool.max_concurrency is not None or tool.rate is not None
        is_far = self._far is not None and tool.queue is not None
        return tool.is_on_loop and not (has_needs or is_limited or is_far or self._is_held_up)

    def _ended_at_once(self, call: PreparedCall, outcome: Outcome) -> Coroutine[Any, Any, Any] | None:
        """Record the outcome of a call that never waited; return what has to wait for the store."""
        if call.blobs is not None and call.blobs.made_files:
            return self._concluded(call, outcome, call.kept_epochs)
        return self._conclude(call, outcome, call.kept_epochs)[1]

    async def _finish(
        self, call: PreparedCall, tool: Tool, begun: BegunCall, in_flight: asyncio.Future[Reusable | None]
    ) -> None:
        """Follow a call that waits to its end, and record its outcome."""
        made: Reusable | None = None
        try:
            outcome = await self._caller.finish(call, tool, begun)
            if call.blobs is not None and call.blobs.made_files:
                outcome = await self._caller.keep_files(call, outcome)
            made, rest = self._conclude(call, outcome, call.kept_epochs)
            if rest is not None:
                await rest
        finally:
            self.facilities.semaphore.release()
            self._results.end(call, in_flight, made)

    async def _make(self, call: PreparedCall) -> None:
        """Make one call, unless the result of an identical call stands for it."""
        known = await self._results.of_identical(call)
        if known is not None:
            if self.machine.is_callable(call.step):
                await self._take_in(known)
            return
        # Announced before the call waits for a place: an identical call must wait for this one, and not for a place of its own.
        in_flight = self._results.begin(call)
        made: Reusable | None = None
        try:
            if self._early is None and self._semaphore is None and self.facilities.try_acquire(call.tool):
                try:
                    made = await self._call(call)
                finally:
                    self.facilities.semaphore.release()
            else:
                made = await self._place_and_call(call)
        finally:
            self._results.end(call, in_flight, made)

    async def _place_and_call(self, call: PreparedCall) -> Reusable | None:
        """Make a call that may have begun early, or that limits of the run or of its tool may hold up."""
        early = await self._early.take(call) if self._early is not None else None
        if early is not None:  # it has held its semaphores while it ran
            return None if self.is_parking else await self._call(call, early)
        async with self.facilities.slot_for(self.row.id, call.tool, self._semaphore):
            return None if self.is_parking else await self._call(call)

    async def _call(  # noqa: C901  # one way for each kind of call
        self, call: PreparedCall, early: EarlyCall | None = None
    ) -> Reusable | None:
        """Start one call and record its outcome; return the result if identical calls may take it."""
        # A process that stood still for longer than its lease begins nothing, not even a read, before it knows that the run is still its own.
        if self._lease is not None and self._lease.is_over:
            await self._expect_lease()
        # A write of unknown outcome whose tool can tell what became of it: ask first, and do not call if it took effect.
        is_write, now = call.is_write, self.facilities.clock.now
        known = await self._caller.reconcile(call) if is_write else None
        if known is not None and self.machine.is_callable(call.step):
            call.started = now()
            self._record_start(call)
            return await self._concluded(call, known, None)
        epochs: Mapping[str, int] | None = _NOTHING
        if early is not None:
            epochs = early.epochs
        elif call.is_kept_read:
            epochs = call.epochs
        if not self.machine.is_callable(call.step):
            return None
        # The budget is asked at the last moment, since other calls may have used it up while this one waited for its place.
        at = now()
        if (limit := self.machine.find_short(call.step, at)) is not None:
            await self._take_in(BudgetReached(call.step, limit))
            return None
        call.started = at
        if early is not None:
            if early.has_waited or call.has_more_to_record:
                self._record_start(call)
            outcome, usage = self._caller.adopt(call, early.hand_over(call))
        elif is_write:
            return await self._write(call)
        elif self._is_careful or call.has_more_to_record:
            outcome, usage = await self._begin_and_make(call)
        else:
            outcome, usage = await notify_wait(self._make_call(call), lambda: self._record_start(call))
        return await self._concluded(call, outcome, epochs, usage)

    async def _expect_lease(self) -> None:
        """Renew the lease, which has ended. Raises: StoreError: other processes drive the runs of this one."""
        if self.facilities.expect_lease is not None:
            await self.facilities.expect_lease(-math.inf)

    async def _begin_and_make(self, call: PreparedCall) -> tuple[Outcome, Usage | None]:
        self._record_start(call)
        if self._is_careful:  # if this call kills the process, the next owner sees it in the journal
            await self.journal.flush()
        return await self._make_call(call)

    def _make_call(self, call: PreparedCall) -> Coroutine[Any, Any, tuple[Outcome, Usage | None]]:
        """Make one call; whoever watches the run may stand around it."""
        made = self._caller.make(call)
        if self._watch is None:
            return made
        self._watch.note_wait(call.step, call.started - call.ready)
        return self._watched(call, made) if self._watch.stands_around else made

    async def _watched(
        self, call: PreparedCall, made: Coroutine[Any, Any, tuple[Outcome, Usage | None]]
    ) -> tuple[Outcome, Usage | None]:
        # Not `call.args`, which hold the values of secrets.
        args = call.command.args.data if isinstance(call.command, StartToolCall) else b""
        with self._around(call.step, call.command.attempt, call.tool, args):
            return await made

    def _around(
        self, step: str, attempt: int, tool: Tool | None, args: bytes, *, is_planning: bool = False
    ) -> AbstractContextManager[None]:
        if self._watch is None or not self._watch.stands_around:
            return nullcontext()
        name, effect = (tool.name, tool.effect.value) if tool is not None else (None, None)
        return self._watch.around(ObservedCall(step, attempt, name, effect, args, is_planning))

    async def _write(self, call: PreparedCall) -> Reusable | None:
        """Make a write after its intent is durable, unless the run was cancelled meanwhile."""
        self._record_start(call)
        # The time that a call waits for a worker of its queue does not count against its timeout, which then ends nothing here.
        self._writing[call.step] = None if self._caller.is_far(call.tool) else call.command.timeout_s
        call.handed = elapsed_s()
        try:
            await self.journal.flush()
            # The only await between the intent and the call: whatever stops the run from here on finds a call that may have taken effect.
            if self.machine.is_cancelled:  # the write has not been called yet, so it can be withdrawn
                self._writing.pop(call.step, None)
                await self._take_in(self.machine.withdrawn(call.step))
                return None
            outcome, usage = await self._make_call(call)
        finally:
            self._writing.pop(call.step, None)
        if self._is_withdrawn(outcome):
            await self._take_in(self.machine.withdrawn(call.step))
            return None
        return await self._concluded(call, outcome, _NOTHING, usage)

    def _is_withdrawn(self, outcome: Outcome) -> bool:
        """Whether a call was not made because its run was cancelled while it waited in a queue."""
        return isinstance(outcome, Failed) and outcome.code == WITHDRAWN and self.machine.is_cancelled

    async def _follow(self, command: StartToolCall) -> None:
        """Follow a call that a former owner has had a worker make, and record its outcome."""
        step = command.step
        try:
            try:
                call = self._preparation.prepare(command)
            except ToolError as fault:  # the tool is another one than the one that was called
                why = f"nobody follows the call any more: {fault}"
                is_write = self.facilities.tools.get(command.tool).effect is Effect.WRITE
                await self._take_in(CallLost(step, why) if is_write else CallFailed(step, fault.code, why))
                return
            call.is_begun, call.started = True, self.facilities.clock.now()
            if call.is_write:
                self._writing[step] = None
            async with self.facilities.slot_for(self.row.id, None, self._semaphore):
                outcome, usage = await self._caller.follow(call)
            self._writing.pop(step, None)
            if self.is_parking or not self.machine.is_running(step):
                return
            if self._is_withdrawn(outcome):
                await self._take_in(self.machine.withdrawn(step))
            else:
                await self._concluded(call, outcome, _NOTHING, usage)
                self._pool().start_workers()  # which this task is not
        finally:
            self._writing.pop(step, None)
            self._forget(step)

    def _note_unserved(self, step: str, tool: str, queue: str) -> None:
        """Warn of a queue without a worker, each queue once."""
        event = QueueUnserved(step, tool, queue)
        if self._recorder.is_called(step) and self.machine.note_unserved(event):
            self.journal.add(event, self.facilities.clock.now())

    def _record_start(self, call: PreparedCall) -> None:
        """Record that a call has started."""
        self._recorder.note(call.start(), call.started)

    async def _concluded(
        self,
        call: PreparedCall,
        outcome: Outcome,
        epochs: Mapping[str, int] | None,
        usage: Usage | None = None,
    ) -> Reusable | None:
        """Record the outcome of a call, and go on from there; return the result if identical calls may take it."""
        if call.blobs is not None and call.blobs.made_files:
            outcome = await self._caller.keep_files(call, outcome)
        made, rest = self._conclude(call, outcome, epochs, usage)
        if rest is not None:
            await rest
        return made

    def _conclude(
        self,
        call: PreparedCall,
        outcome: Outcome,
        epochs: Mapping[str, int] | None,
        usage: Usage | None = None,
    ) -> tuple[Reusable | None, Coroutine[Any, Any, None] | None]:
        """Record the outcome of a call; return the result if identical calls may take it, and what has to wait for the store."""
        if self._loop_watch.blocked:
            self._note_blocked()
        if call.is_begun and not self.machine.is_running(
            call.step
        ):  # it was stopped, and returned all the same
            return None, None
        # The limit on the results of the run comes before secrets are masked: what is too large is not worth looking through.
        outcome = fitting(outcome, call.tool, self.machine.size)
        ended = self._preparation.redacted(call, outcome)
        match ended:
            case Returned():
                return self._returned(call, ended, epochs, usage)
            case Failed(code, message, temporary, retryable):
                if ended.trace:
                    log_trace(ended.trace, self.row.id, call.step, call.command.attempt)
                if not call.is_begun:
                    self._record_start(call)
                self._results.note_failed(call)
                took_effect = ended.took_effect or None
                failed = CallFailed(
                    call.step,
                    code,
                    message,
                    temporary,
                    retryable,
                    usage,
                    took_effect,
                    question=ended.question,
                    frames=self._kept_frames(ended.frames),
                )
                return None, self._take_in_now(failed, self.facilities.clock.now())
            case Lost(why, trace, frames):
                if trace:
                    log_trace(trace, self.row.id, call.step, call.command.attempt)
                lost = CallLost(call.step, why, self._kept_frames(frames))
                return None, self._take_in_now(lost, self.facilities.clock.now())

    def _kept_frames(self, frames: str) -> str | None:
        """Return the frames of a failed call for its record; `None`: there are none, or the run has enough of them."""
        if not frames or self._frames_kept >= FRAMES_KEPT_MAX:
            return None
        self._frames_kept += 1
        return frames

    def _note_blocked(self) -> None:
        """Warn of the calls of this run that blocked the event loop, each tool once."""
        # Before an outcome is recorded, which may end the run: an ended run never changes.
        for blocked in self._loop_watch.take_blocked(self.row.id):
            event = LoopBlocked(blocked.step, blocked.tool, blocked.seconds())
            if self.machine.note_blocked(event):
                self.journal.add(event, self.facilities.clock.now())

    def _returned(
        self,
        call: PreparedCall,
        returned: Returned,
        epochs: Mapping[str, int] | None,
        usage: Usage | None,
    ) -> tuple[Reusable | None, Coroutine[Any, Any, None] | None]:
        output = returned.output
        if call.context is not None:
            self._caller.forget(call)
            if not call.is_begun and call.used is not None:
                self._record_start(call)  # what it used is in the record of its end
        at = self.facilities.clock.now()
        made = self._results.keep(call, output, epochs, at)
        if (tool := call.tool) is not None and tool.is_learnt:
            self.facilities.learnt.note(tool, output, at, is_unfit=bool(returned.mismatch))
        blobs = call.blobs.made if call.blobs is not None else None
        if blobs:
            self.journal.keep(blobs)
        mismatch = self.machine.new_mismatch(call.step, returned.mismatch) if returned.mismatch else None
        event: CallMade | CallSucceeded
        if call.is_begun:
            used = call.used if call.context is not None else None
            event = CallSucceeded(call.step, output, used, usage, mismatch)
        else:
            event = call.made(output, mismatch)
        rest = self._take_in_now(event, at)
        return made, self._stored(rest) if blobs else rest

    async def _stored(self, rest: Coroutine[Any, Any, None] | None) -> None:
        """Wait for the artifacts of a call: an identical call of another run may be waiting, and reads them from the store."""
        if rest is not None:
            await rest
        await self.journal.flush()


def watch_of(facilities: Facilities, row: RunRow, header: Header, machine: Machine | None) -> RunWatch:
    """Return the watch over a run by the observers of its engine; without a machine, while it is planned."""
    source = header.planning.get("source") if isinstance(header.planning, dict) else None
    run = ObservedRun(row.id, row.created, row.plan_digest, parent=row.parent, context=header.context)
    run.source = source if isinstance(source, str) else None
    run.is_continued = row.last_seq > 0
    if machine is not None:
        run.tool_of, run.has_ended = machine.tool_of, machine.has_ended
    return facilities.observers.begin_run(run)


def expect_outcomes(machine: Machine) -> None:
    """Raise if a call of a run that is no longer driven has no outcome.

    A tool that cancels the task it runs in leaves neither a result nor an error. A cancel looks the same whoever asked for it, so this can be
    seen only after all tasks of the run have ended: a call that still runs, as far as the machine knows, has no task any more.

    Raises:
        ConfigError: A call has no outcome.
    """
    if machine.status is not None or machine.is_stuck():
        return
    step = next((step for step in machine.iterations if machine.is_running(step)), "")
    raise ConfigError(
        f"the call of step '{step}' left no outcome: its tool '{machine.tool_of(step)}' has cancelled the task that called "
        "it; let it cancel only tasks of its own, or give it a timeout: then the step fails instead"
    )


# --- Python's garbage collector


PYTHONS_YOUNG: Final = (700, 2_000)
"""After how many new objects Python looks for garbage among them (3.11, 3.13), where the program says nothing else."""
YOUNG_MAX: Final = 10_000
"""The same while runs are driven: a twentieth of the time of a step. More gains little, and garbage may hold large values."""
MIDDLE_MAX: Final = 3
"""After how many such looks Python looks at what they have left. Its own 10 would be too many, since the looks are rarer."""


class _HeapFrozen:
    """Keeps the collector from looking through the objects that exist now, as long as any run is inside, and has it look more rarely.

    A plan of thousands of steps is a hundred thousand objects that live long and hold no garbage, but each full collection looks at them all:
    that was half of the time of a step in a large run. So the objects that exist when a run starts are frozen (`gc.freeze`) until no run is
    driven. New objects are collected as usual, but after more of them; only cycles among the frozen objects that become garbage have to wait.

    It counts the runs that are driven, over all event loops of the process. A program that freezes objects itself is left alone, and so are
    thresholds that it has set.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._runs = 0
        self._is_ours = False
        self._thresholds: tuple[int, int, int] | None = None  # Python's, while ours are set
        self._set: tuple[int, int, int] | None = None

    def __enter__(self) -> None:
        uncollected.collect_if_due()  # outside the lock: finalizers of the program run here
        with self._lock:
            self._runs += 1
            if self._runs == 1 and not Aside.is_of_program():
                uncollected.add(new_objects())
                gc.freeze()
                self._is_ours = Aside.is_on = True
                young, middle, old = thresholds = gc.get_threshold()
                if young in PYTHONS_YOUNG:
                    self._thresholds = thresholds
                    self._set = YOUNG_MAX, min(middle, MIDDLE_MAX), old
                    gc.set_threshold(*self._set)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._runs -= 1
            if self._runs == 0 and self._is_ours:
                if self._thresholds is not None and gc.get_threshold() == self._set:
                    gc.set_threshold(*self._thresholds)
                self._thresholds = None
                gc.unfreeze()
                self._is_ours = Aside.is_on = False


heap_frozen: Final = _HeapFrozen()
