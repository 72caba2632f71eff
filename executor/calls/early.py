"""Early steps: calls that start while the plan of their run is still being written.

Whenever another step is complete, the planner offers the partial plan, which has passed its check. Its calls without side effects start as
soon as their arguments are known; a write waits for the complete plan. Nothing is recorded here. When the plan is complete, its run starts
like any other run, and when the run reaches exactly the same call, it takes over the early one, under way or ended. Calls that the
complete plan does not make are dropped. So the run, its journal and its digest are the same as if the plan had been written first.

Each partial plan gets a new machine, to which the results so far are reported again. That is quadratic in the number of steps, which is
acceptable since plans that models write are short; changing the program under a running machine would be a second way to move a run. A
call that failed is not retried here: only the run counts attempts.
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

# How long `drop` waits for the calls that it cancels; a call that does not heed its cancel is abandoned.
DROP_GRACE_S: Final = 5.0

Work: TypeAlias = "asyncio.Task[tuple[Outcome, Usage | None]]"


@dataclass(slots=True)
class EarlyCall:
    """A call that a partial plan makes.

    Attributes:
        call: The prepared call; `None`: not made yet, or an earlier result stands for it.
        epochs: The epochs at the start of a read; `None`: its result is not kept.
        work: The task of the call, whose result is its outcome and usage.
        output: The result, or the earlier result that stands for it.
        started: Unix seconds.
        ended: Unix seconds, from which the age of the result counts.
        has_waited: Whether the call has waited for anything, so that its start has to be recorded.
        following: The task that waits for the call and continues with its result.
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
        """Note that the call waits."""
        self.has_waited = True

    def tasks(self) -> list[asyncio.Task[None] | Work]:
        """Return its tasks that have not ended."""
        return [task for task in (self.following, self.work) if task is not None and not task.done()]

    def hand_over(self, call: PreparedCall) -> tuple[Outcome, Usage | None]:
        """Return the outcome of the call, which has ended, and give its times, context and artifacts to the call of the run."""
        if self.call is None or self.work is None:
            raise EngineBug(f"step '{call.step}' takes over a call that was never begun")
        call.started, call.ended = self.started, self.ended
        call.context, call.blobs = self.call.context, self.call.blobs
        return self.work.result()


class EarlySteps:
    """The calls of one run that start before its plan is complete.

    Nothing starts early if the run has a budget, because a budget is checked before each call, or if it may make no calls (`reuse='only'`).

    Args:
        facilities: What the runs of an engine share.
        run_id: The run.
        header: What was settled when the task was submitted.

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
        self._caller = Caller(facilities, self._preparation, header.seed)
        self._calls: dict[str, EarlyCall] = {}
        self._dropped: list[EarlyCall] = []
        self._machine: Machine | None = None
        self._is_closed = bool(header.budget) or header.reuse == "only"

    def offer(
        self, plan: Plan, inputs: Mapping[str, Json], lock: ToolsetLock, plans: SavedPlans | None = None
    ) -> None:
        """Continue with a longer partial plan, which has passed its check, and start the calls that may start.

        Args:
            plan: The partial plan.
            inputs: The inputs of the run, fitted to the partial plan.
            lock: The tools that the partial plan names.
            plans: The saved plans that the partial plan may run.
        """
        if self._is_closed:
            return
        try:
            machine = Machine(compile_plan(plan, lock, plans=plans), inputs, lock.policies)
        except FirmplanError:
            return  # it needs more than this part of the plan; if it is a real fault, the run reports it
        self._machine = machine
        try:
            self._carry_out(machine, machine.handle(RunStarted("")))
        except Exception as fault:  # noqa: BLE001  # the run meets the same fault, and records it
            self._give_up(fault)

    async def take(self, call: PreparedCall) -> EarlyCall | None:
        """Wait for the end of the early call that is the same as this one, and return it, once; `None`: there is none.

        If the caller gave no seed, the seed follows from the complete plan, so a call that used randomness has to be made again.
        """
        early = self._calls.get(call.step)
        if early is None or early.work is None or early.command != call.command:
            return None
        self._dropped.append(
            self._calls.pop(call.step)
        )  # `drop` cancels it, too, if the run stops before it has ended
        await asyncio.wait([early.work])
        context = early.call.context if early.call is not None else None
        is_seeded = bool(self._seed) or context is None or not context.used.random
        return early if is_seeded and not early.work.cancelled() else None

    def close(self) -> None:
        """Start nothing more. Calls under way continue until the run takes them over or `drop` cancels them."""
        self._is_closed = True
        for early in self._calls.values():
            if early.following is not None:
                early.following.cancel()

    async def drop(self) -> None:
        """Cancel the calls that the run did not take over."""
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
        """Report the results of calls that have ended, and start other calls, until no more commands follow."""
        queue = list(commands)
        while queue:
            command = queue.pop(0)
            if not isinstance(command, StartToolCall | StartModelCall):
                continue  # approvals and pauses are left to the run
            early = self._calls.get(command.step)
            if early is None or early.command != command:
                self._begin(command)
            elif early.output is not None:
                queue += _report(machine, command, early.output)

    def _begin(self, command: StartCall) -> None:
        """Start a call unless it is a write; drop the call that an earlier partial plan made in its place."""
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
        """Wait for the result of a call, and continue with it."""
        try:
            early.output = await self._output_of(early)
            if early.output is not None and (machine := self._waiting_for(early)) is not None:
                self._carry_out(machine, _report(machine, early.command, early.output))
        except Exception as fault:  # noqa: BLE001  # the run meets the same fault, and records it
            self._give_up(fault)

    def _waiting_for(self, early: EarlyCall) -> Machine | None:
        """Return the machine of the longest partial plan, if it still waits for this call."""
        step, machine = early.command.step, self._machine
        is_wanted = self._calls.get(step) is early and not self._is_closed
        return machine if machine is not None and is_wanted and machine.is_callable(step) else None

    async def _output_of(self, early: EarlyCall) -> CanonicalValue | None:
        """Return the result of a call, or an earlier result that stands for it; `None`: it failed, or is left to the run."""
        try:
            call = self._preparation.prepare(early.command)
        except ToolError:
            return None  # the run records the failure
        if digests_in(call.args):
            return None  # artifacts of early steps are not in the store yet
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
        """Return the result of an earlier run that stands for a call; the run will find the same one."""
        if self._mode != "auto" or not call.key.key:
            return None
        entry = (await find_results(self._facilities, [call])).get(call.step)
        return CanonicalValue(entry.output) if isinstance(entry, Reusable) else None

    def _identical(self, call: PreparedCall) -> Work | None:
        """Return the task of an identical early call, whose result stands for this call in the run, too."""
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


def _report(machine: Machine, command: StartCall, output: CanonicalValue) -> list[Command]:
    """Report to a machine that a call has returned; return the commands that follow."""
    args = command.args if isinstance(command, StartToolCall) else command.request
    machine.handle(CallStarted(command.step, command.attempt, args.digest))
    return machine.handle(CallSucceeded(command.step, output))
