"""Early steps: calls that start while the plan of their run is still being written.

Whenever another step is complete, the planner offers the partial plan, which has passed its check. Its calls without side effects start as
soon as their arguments are known; a write waits for the complete plan. Nothing is recorded here. When the plan is complete, its run starts
like any other run, and when the run reaches exactly the same call, it takes over the early one, under way or ended. Calls that the
complete plan does not make are dropped. So the run, its journal and its digest are the same as if the plan had been written first.

Each partial plan gets a new machine, to which the results so far are reported again. That is quadratic in the number of steps, which is
acceptable since plans that models write are short; changing the program under a running machine would be a second way to move a run. A
call that failed is not retried here: only the run counts attempts.

Early steps share dispatch, limits and caller with the runs. They have no `Driver` (`runs/driver.py`), because a driver makes every outcome a
record of a journal, and nothing of a plan that may still change must become one.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import field
from typing import Final

from ...errors import EngineBug, FirmplanError, ToolError
from ...plans import Plan
from ...plans.checker.body import SavedPlans, bodies_of
from ...plans.checker.survey import secrecy_in
from ...plans.format.shape import Draft
from ...plans.immutable import record
from ...plans.program.compile import compile_plan
from ...plans.signature import Effect
from ...plans.values import Json
from ..canonical_value import CanonicalValue
from ..commands import Continue, StartModelCall, StartToolCall
from ..events import CallMade, Cause, RunStarted, WorkContinued
from ..journal.header import Header
from ..journal.toolset_lock import ToolsetLock
from ..machine import Machine
from ..stores.store import Reusable
from .artifacts import digests_in
from .caller import Caller, Usage
from .concurrency import notify_wait
from .dispatch import Preparation, PreparedCall, StartCall
from .facilities import Facilities
from .reuse import epochs_at_start, find_results
from .running.invoke import Outcome, Returned

# How long `drop` waits for the calls that it cancels; a call that does not heed its cancel is abandoned.
DROP_GRACE_S: Final = 5.0


@record
class EarlyCall:
    """A call that a partial plan makes.

    Attributes:
        call: The prepared call, with its times; `None`: not made yet, or an earlier result stands for it.
        epochs: The epochs at the start of a read; `None`: its result is not kept.
        ending: Outcome and usage of the call, once it has ended.
        output: The result, or the earlier result that stands for it.
        has_waited: Whether the call has waited for anything, so that its start has to be recorded.
        task: The task that finds or makes the result, and continues with it.
    """

    command: StartCall
    call: PreparedCall | None = None
    epochs: Mapping[str, int] | None = field(default_factory=dict[str, int])
    ending: tuple[Outcome, Usage | None] | None = None
    output: CanonicalValue | None = None
    has_waited: bool = False
    task: asyncio.Task[None] = field(init=False)

    def note_wait(self) -> None:
        """Note that the call waits."""
        self.has_waited = True

    def hand_over(self, call: PreparedCall) -> tuple[Outcome, Usage | None]:
        """Return the outcome of the call, which has ended, and give its times, context and artifacts to the call of the run."""
        if self.call is None or self.ending is None:
            raise EngineBug(f"step '{call.step}' takes over a call that was never made")
        call.started, call.ended = self.call.started, self.call.ended
        call.context, call.blobs = self.call.context, self.call.blobs
        return self.ending


class EarlySteps:
    """The calls of one run that start before its plan is complete.

    Nothing starts early if the caller gave the run a budget, because a budget is checked before each call, or if it may make no calls
    (`reuse='only'`). The engine's own budgets guard against runaway runs: no more calls start early than these budgets allow, abandoned drafts included.

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
        self._preparation = Preparation(facilities, run_id, tenant=header.tenant)
        self._caller = Caller(facilities, self._preparation, header.seed)
        self._calls: dict[str, EarlyCall] = {}
        self._tasks: set[asyncio.Task[None]] = (
            set()
        )  # of all calls, those that were replaced or taken included
        self._machine: Machine | None = None
        budget = header.budget
        self._budget = budget
        self._calls_left = min(budget.get(name, math.inf) for name in ("steps", "calls", "model_calls"))
        is_callers = dict(budget) != facilities.budgets.for_run(None)
        # What a call will cost is known only after it, so a limit on tokens or dollars could be passed unseen.
        self._is_closed = is_callers or "tokens" in budget or "usd" in budget or header.reuse == "only"

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
        # Who gets private data is judged by the flow policy of the run, which there is not yet.
        if self._is_closed or secrecy_in(bodies_of(Draft(plan), plan, plans), lock).kinds:
            return
        try:
            program = compile_plan(plan, lock, plans=plans)
            machine = Machine(program, inputs, lock.policies, budget=self._budget)
        except FirmplanError:
            return  # it needs more than this part of the plan; if it is a real fault, the run reports it
        self._machine = machine
        self._advance(machine, RunStarted(""))

    async def take(self, call: PreparedCall) -> EarlyCall | None:
        """Wait for the end of the early call that is the same as this one, and return it, once; `None`: there is none.

        If the caller gave no seed, the seed follows from the complete plan, so a call that used randomness has to be made again.
        """
        early = self._calls.get(call.step)
        if early is None or early.command != call.command:
            return None
        # Only this call may take it: a retry has to make a new call. `drop` still cancels its task if the run stops meanwhile.
        del self._calls[call.step]
        await asyncio.wait([early.task])
        if early.call is None or early.ending is None:
            return None
        context = early.call.context
        is_seeded = bool(self._seed) or context is None or not context.used.random
        return early if is_seeded else None

    def close(self) -> None:
        """Start nothing more. Calls under way continue until the run takes them over or `drop` cancels them."""
        self._is_closed = True

    async def drop(self) -> None:
        """Cancel the calls that the run did not take over."""
        self.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=DROP_GRACE_S)

    # --- the machine of a partial plan

    def _advance(self, machine: Machine, event: Cause) -> None:
        """Hand an event to a machine, report the results of calls that have ended, and start the other calls that follow."""
        try:
            queue = machine.handle(event)
            while queue:
                command = queue.pop(0)
                if isinstance(command, Continue):
                    queue += machine.handle(WorkContinued(command.spent))
                if not isinstance(command, StartToolCall | StartModelCall):
                    continue  # approvals and pauses are left to the run
                early = self._calls.get(command.step)
                if early is None or early.command != command:
                    self._begin(command)
                elif early.output is not None:
                    queue += machine.handle(_made(command, early.output))
        except Exception as fault:  # noqa: BLE001  # the run meets the same fault, and records it
            self._give_up(fault)

    def _begin(self, command: StartCall) -> None:
        """Start a call unless it is left to the run; drop the call that an earlier partial plan made in its place."""
        if command.attempt > 1 or (isinstance(command, StartToolCall) and self._is_for_run(command)):
            return
        if self._calls_left < 1:
            return
        self._calls_left -= 1
        # Another draft of the plan has the same step with other arguments. A call without side effects may be stopped at any time.
        if (other := self._calls.get(command.step)) is not None:
            other.task.cancel()
        early = self._calls[command.step] = EarlyCall(command)
        name = f"firmplan early {self._run_id} {command.step}"
        early.task = asyncio.get_running_loop().create_task(self._follow(early), name=name)
        self._tasks.add(early.task)
        early.task.add_done_callback(self._tasks.discard)

    def _is_for_run(self, command: StartToolCall) -> bool:
        """Whether only the run may make a call: it writes, or the flow policy of the run has to judge its arguments.

        The check of the partial plan does not settle that: where a policy is about an argument, or a rule admits it, the check only warns.
        """
        tool = self._facilities.tools.find(command.tool)
        if tool is None or tool.effect is Effect.WRITE or self._machine is None:
            return True
        policies = self._facilities.policies
        if not policies.is_empty and policies.is_about(command.tool):
            return True
        if not tool.egress:
            return False
        labelled = self._machine.iterations[command.step].item.node.code.tainted
        return not set(tool.egress).intersection(labelled).issubset(tool.allow_untrusted)

    # --- one call

    async def _follow(self, early: EarlyCall) -> None:
        """Find or make the result of a call, and continue with it if the longest partial plan still waits for it."""
        try:
            output = early.output = await self._output_of(early)
        except Exception as fault:  # noqa: BLE001  # the run meets the same fault, and records it
            self._give_up(fault)
            return
        step, machine = early.command.step, self._machine
        if output is None or self._is_closed or machine is None or self._calls.get(step) is not early:
            return
        if machine.is_callable(step):
            self._advance(machine, _made(early.command, output))

    async def _output_of(self, early: EarlyCall) -> CanonicalValue | None:
        """Return the result of a call, or an earlier result that stands for it; `None`: it failed, or is left to the run."""
        try:
            call = self._preparation.prepare(early.command)
        except ToolError:
            return None  # the run records the failure
        if digests_in(call.args):
            return None  # artifacts of early steps are not in the store yet
        may_reuse = self._mode == "auto" and call.key.key
        if may_reuse:
            entry = (await find_results(self._facilities, [call])).get(call.step)
            if isinstance(entry, Reusable):  # the run will find it, too
                return CanonicalValue(entry.output)
        if call.tool is not None and call.is_kept_read:
            early.epochs = await epochs_at_start(self._facilities, call.tool)
        if may_reuse and (other := self._identical(call)) is not None:
            await asyncio.wait([other.task])
            return other.output
        return None if self._is_closed else await self._make(early, call)

    def _identical(self, call: PreparedCall) -> EarlyCall | None:
        """Return an identical early call under way, whose result stands for this call in the run, too."""
        others = (early for early in self._calls.values() if early.call is not None)
        return next((early for early in others if early.call and early.call.key.key == call.key.key), None)

    async def _make(self, early: EarlyCall, call: PreparedCall) -> CanonicalValue | None:
        early.call = call  # without an await since `_identical`, so that identical calls are made once
        async with self._facilities.slot_for(self._run_id, call.tool, self.semaphore):
            call.started = self._facilities.clock.now()
            early.ending = await notify_wait(self._caller.make(call), early.note_wait)
            call.ended = self._facilities.clock.now()
        outcome, _ = early.ending
        return outcome.output if isinstance(outcome, Returned) else None

    def _give_up(self, fault: Exception) -> None:
        self._is_closed = True
        self._facilities.log.warning("nothing more starts early", run=self._run_id, error=repr(fault))


def _made(command: StartCall, output: CanonicalValue) -> CallMade:
    """Return the event by which a machine takes a result in. Nothing records it, so its digest and its time are left out."""
    return CallMade(command.step, command.attempt, "", output, started=0.0)
