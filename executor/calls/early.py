"""Steps that start while their plan is still being written.

As long as a planner writes, it offers ever longer beginnings of the plan, each checked. Of these, steps that change nothing are called as
soon as their arguments are known; a write waits for the whole plan. Nothing of it is recorded: when the plan is complete, its run
starts as any other, and where it comes to a call that was begun here, exactly the same call, it takes that over, under way or
ended. What the final plan does not ask for is dropped. So the run, its journal and its digest are those of a plan that was written
first and run then.

Each beginning gets a machine of its own, which is told again what has ended so far: plans that models write are short. A call that
failed is not made again here: that is for the run, which knows what was retried.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from ...errors import EngineBug, FirmplanError, ToolError
from ...plans import Plan
from ...plans.checker.body import SavedPlans
from ...plans.compile import compile_plan
from ...plans.signature import Effect
from ...plans.values import Json
from ..canonical_value import CanonicalValue
from ..commands import Command, StartModelCall, StartToolCall
from ..events import CallStarted, CallSucceeded, RunStarted
from ..journal.header import Header
from ..journal.toolset_lock import ToolsetLock
from ..machine import Machine
from ..stores.store import Reusable
from .caller import Caller, Usage
from .concurrency import notify_wait
from .dispatch import Preparation, PreparedCall, StartCall
from .facilities import Facilities
from .invoke import Outcome, Returned, digests_in
from .reuse import epochs_at_start, find_results

# How long the end of dropped calls is waited for: one that does not heed a cancel is let go.
DROP_GRACE_S: Final = 5.0

Work: TypeAlias = "asyncio.Task[tuple[Outcome, Usage | None]]"


@dataclass(slots=True)
class EarlyCall:
    """A call that a beginning of the plan asks for.

    Attributes:
        call: What was called; `None`: nothing yet, or an earlier result stands for it.
        epochs: The write counts that a read started with; `None`: of no use later.
        work: Gives what came of it, once.
        output: What it returned, or what stands for that.
        started: Unix seconds.
        ended: Unix seconds: the age of its result is counted from here.
        following: Sees the call through, and goes on with what it returned.
    """

    command: StartCall
    call: PreparedCall | None = None
    epochs: Mapping[str, int] | None = field(default_factory=dict[str, int])
    work: Work | None = None
    output: CanonicalValue | None = None
    started: float = 0.0
    ended: float = 0.0
    has_waited: bool = False
    following: asyncio.Task[None] | None = None

    def note_wait(self) -> None:
        """Note that the call waits for something."""
        self.has_waited = True

    def tasks(self) -> list[asyncio.Task[None] | Work]:
        """Return what is under way for it."""
        return [task for task in (self.following, self.work) if task is not None and not task.done()]

    def hand_over(self, call: PreparedCall) -> tuple[Outcome, Usage | None]:
        """Return what came of the call, once it has ended; the run's own takes on all that is known of it."""
        if self.call is None or self.work is None:
            raise EngineBug(f"step '{call.step}' takes over a call that was never begun")
        call.started, call.ended = self.started, self.ended
        call.context, call.blobs = self.call.context, self.call.blobs
        return self.work.result()


class EarlySteps:
    """The calls of one run that start before its plan is complete.

    Where the run has a budget nothing starts early, since a budget is looked at before each call; nor where it may call nothing.

    Args:
        facilities: What runs share.
        run_id: The run.
        header: What was settled when its task was submitted.

    Attributes:
        semaphore: The run's own limit on calls at a time, if it has one; the driver of the run uses it, too.
    """

    def __init__(self, facilities: Facilities, run_id: str, header: Header) -> None:
        self._facilities = facilities
        self._run_id = run_id
        self._mode = header.reuse
        self._seed = header.seed
        most = header.concurrency_max
        self.semaphore = None if most is None else asyncio.Semaphore(most)
        self._preparation = Preparation(facilities, run_id)
        self._caller = Caller(facilities, run_id, header.seed)
        self._calls: dict[str, EarlyCall] = {}
        self._dropped: list[EarlyCall] = []
        self._machine: Machine | None = None
        self._is_closed = bool(header.budget) or header.reuse == "only"

    def offer(
        self, plan: Plan, inputs: Mapping[str, Json], lock: ToolsetLock, plans: SavedPlans | None = None
    ) -> None:
        """Take in a longer beginning of the plan, which has passed its check, and start what may start.

        Args:
            plan: The beginning.
            inputs: The run's inputs, as they fit it.
            lock: The tools that it names.
            plans: The saved plans that it may name.
        """
        if self._is_closed:
            return
        try:
            machine = Machine(compile_plan(plan, lock, plans=plans), inputs, lock.policies)
        except FirmplanError:
            return  # it needs more than its beginning: the run says so if it is a fault
        self._machine = machine
        try:
            self._carry_out(machine, machine.handle(RunStarted("")))
        except Exception as fault:  # noqa: BLE001  # the run comes to it too, and there it is recorded
            self._give_up(fault)

    async def take(self, call: PreparedCall) -> EarlyCall | None:
        """Return the same call if it was begun early, once it has ended and only once; `None`: it was not.

        One that asked for randomness is of no use where the seed was not given: it follows from the whole plan.
        """
        early = self._calls.get(call.step)
        if early is None or early.work is None or early.command != call.command:
            return None
        self._dropped.append(self._calls.pop(call.step))  # until it has ended, it is ended with the others
        await asyncio.wait([early.work])
        context = early.call.context if early.call is not None else None
        is_seeded = bool(self._seed) or context is None or not context.used.random
        return early if is_seeded and not early.work.cancelled() else None

    def close(self) -> None:
        """Start nothing more; calls under way go on until someone takes them over or `drop` ends them."""
        self._is_closed = True
        for early in self._calls.values():
            if early.following is not None:
                early.following.cancel()

    async def drop(self) -> None:
        """End the calls that nobody took over."""
        self.close()
        tasks = [task for early in (*self._calls.values(), *self._dropped) for task in early.tasks()]
        self._calls.clear()
        self._dropped.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=DROP_GRACE_S)

    # --- the loop

    def _carry_out(self, machine: Machine, commands: list[Command]) -> None:
        """Answer calls that have ended, and start the others, until nothing more is known."""
        queue = list(commands)
        while queue:
            command = queue.pop(0)
            if not isinstance(command, StartToolCall | StartModelCall):
                continue  # a person, a pause: the run itself will see to it
            early = self._calls.get(command.step)
            if early is None or early.command != command:
                self._begin(command)
            elif early.output is not None:
                queue += _told(machine, command, early.output)

    def _begin(self, command: StartCall) -> None:
        """Start a call that changes nothing; one that an earlier beginning asked for in its place goes."""
        if command.attempt > 1 or (isinstance(command, StartToolCall) and self._is_write(command.tool)):
            return
        if (other := self._calls.get(command.step)) is not None:
            for task in other.tasks():
                task.cancel()
            self._dropped.append(other)
        early = self._calls[command.step] = EarlyCall(command)
        name = f"firmplan early {self._run_id} {command.step}"
        early.following = asyncio.get_running_loop().create_task(self._follow(early), name=name)

    def _is_write(self, name: str) -> bool:
        tool = self._facilities.tools.find(name)
        return tool is None or tool.effect is Effect.WRITE

    async def _follow(self, early: EarlyCall) -> None:
        """See a call through, and go on with what it returned."""
        try:
            early.output = await self._output_of(early)
            if early.output is not None and (machine := self._waiting_for(early)) is not None:
                self._carry_out(machine, _told(machine, early.command, early.output))
        except Exception as fault:  # noqa: BLE001  # the run comes to it too, and there it is recorded
            self._give_up(fault)

    def _waiting_for(self, early: EarlyCall) -> Machine | None:
        """Return the machine of the longest beginning, if it still waits for this call."""
        step, machine = early.command.step, self._machine
        is_wanted = self._calls.get(step) is early and not self._is_closed
        return machine if machine is not None and is_wanted and machine.is_callable(step) else None

    async def _output_of(self, early: EarlyCall) -> CanonicalValue | None:
        """Return what a call returns, or what stands for that; `None`: it failed, or has to wait for the run."""
        try:
            call = self._preparation.prepare(early.command)
        except ToolError:
            return None  # the run itself says so
        if digests_in(call.args):
            return None  # its artifacts are in no store yet
        if (earlier := await self._earlier(call)) is not None:
            return earlier
        if call.tool is not None and call.is_kept_read:
            early.epochs = await epochs_at_start(self._facilities, call.tool)
        work = self._identical(call)
        if work is None:
            early.call = call
            work = early.work = asyncio.get_running_loop().create_task(self._make(early, call))
        outcome, _ = await asyncio.shield(work)
        return outcome.output if isinstance(outcome, Returned) else None

    async def _earlier(self, call: PreparedCall) -> CanonicalValue | None:
        """Return an earlier run's result that stands for a call; the run itself will find it too."""
        if self._mode != "auto" or not call.key.key:
            return None
        entry = (await find_results(self._facilities, [call])).get(call.step)
        return CanonicalValue(entry.output) if isinstance(entry, Reusable) else None

    def _identical(self, call: PreparedCall) -> Work | None:
        """Return an identical call that was begun here: its result will stand for this one in the run too."""
        if self._mode != "auto" or not call.key.key:
            return None
        made = (early for early in self._calls.values() if early.call is not None)
        return next((early.work for early in made if early.call and early.call.key.key == call.key.key), None)

    async def _make(self, early: EarlyCall, call: PreparedCall) -> tuple[Outcome, Usage | None]:
        async with self._facilities.slot_for(self._run_id, call.tool, self.semaphore):
            early.started = self._facilities.clock.now()
            made = await notify_wait(self._caller.make(call), early.note_wait)
            early.ended = self._facilities.clock.now()
            return made

    def _give_up(self, fault: Exception) -> None:
        self._is_closed = True
        self._facilities.log.warning("nothing more starts early", run=self._run_id, error=repr(fault))


def _told(machine: Machine, command: StartCall, output: CanonicalValue) -> list[Command]:
    """Tell a machine that a call has returned; return what it asks for next."""
    args = command.args if isinstance(command, StartToolCall) else command.request
    machine.handle(CallStarted(command.step, command.attempt, args.digest))
    return machine.handle(CallSucceeded(command.step, output))
