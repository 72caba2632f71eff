"""Steps that start while their plan is still being written.

As long as a planner writes, it offers ever longer beginnings of the plan, each checked. Of these, steps that change nothing are called as
soon as their arguments are known; a write waits for the whole plan. Nothing of it is recorded: when the plan is complete, its run
starts as any other, and where it comes to a call that was begun here, with exactly the same arguments, it takes that call over,
under way or ended. What the final plan does not ask for is dropped. So the run, its journal and its digest are those of
a plan that was written first and run then.

Each beginning gets a machine of its own, which is told again what has ended so far: plans that models write are short.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import FirmplanError, ToolError
from ..plans import Plan
from ..plans.compile import compile_plan
from ..plans.signature import Effect
from ..plans.values import Json
from .artifacts import digests_in
from .caller import Caller, Usage
from .calls import Outcome, Returned
from .commands import Command, StartModelCall, StartToolCall
from .events import CallStarted, CallSucceeded, RunStarted
from .facilities import Facilities
from .lock import Lock
from .machine import Machine
from .prepared import Preparation, PreparedCall, StartCall
from .reuse import epochs_at_start, find_results
from .sealed import Sealed
from .store import Reusable


@dataclass(slots=True)
class EarlyCall:
    """A call that was begun before its plan was complete.

    Attributes:
        epochs: The write counts that a read started with; `None`: of no use later.
        work: Gives what came of it, once.
    """

    call: PreparedCall
    epochs: Mapping[str, int] | None
    work: asyncio.Task[tuple[Outcome, Usage | None]]


class NoJournal:
    """Stands for a journal where nothing is recorded."""

    async def flush(self) -> None:
        """There is nothing to make durable."""


class EarlySteps:
    """The calls of one run that start before its plan is complete.

    Args:
        facilities: What runs share.
        run_id: The run.
    """

    def __init__(self, facilities: Facilities, run_id: str) -> None:
        self._facilities = facilities
        self._preparation = Preparation(facilities, run_id)
        self._caller = Caller(facilities, NoJournal(), run_id, "")
        self._calls: dict[tuple[str, str], EarlyCall] = {}
        self._known: dict[tuple[str, str], Sealed] = {}
        self._machine: Machine | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def offer(self, plan: Plan, inputs: Mapping[str, Json], lock: Lock) -> None:
        """Take in a longer beginning of the plan, which has passed its check, and start what may start."""
        if self._is_closed:
            return
        try:
            machine = Machine(compile_plan(plan, lock), inputs, lock.policies)
        except FirmplanError:
            return  # it needs more than its beginning: a saved plan, a later step
        self._machine = machine
        self._carry_out(machine, machine.handle(RunStarted("")))

    async def take(self, call: PreparedCall) -> EarlyCall | None:
        """Return the call that was begun early in the place of this one, once; `None`: there is none.

        One that asked for randomness is none: the run's seed follows from the whole plan.
        """
        early = self._calls.pop((call.step, call.args_digest), None)
        if early is None:
            return None
        await asyncio.wait([early.work])
        context = early.call.context
        return None if early.work.cancelled() or (context is not None and context.used.random) else early

    def close(self) -> None:
        """Start nothing more; calls under way go on until someone takes them over or `drop` ends them."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()

    def drop(self) -> None:
        """End the calls that nobody took over."""
        self.close()
        for early in self._calls.values():
            early.work.cancel()
        self._calls.clear()

    def _carry_out(self, machine: Machine, commands: list[Command]) -> None:
        """Answer calls that have ended, and start the others, until nothing more is known."""
        queue = list(commands)
        while queue:
            command = queue.pop(0)
            if not isinstance(command, StartToolCall | StartModelCall):
                continue  # a person, a pause: the run itself will see to it
            name = (command.step, _args_of(command).digest)
            if (output := self._known.get(name)) is not None:
                machine.handle(CallStarted(command.step, 1, name[1]))
                queue += machine.handle(CallSucceeded(command.step, output))
            elif name not in self._calls:
                self._begin(command, name)

    def _begin(self, command: StartCall, name: tuple[str, str]) -> None:
        if self._is_closed or command.attempt > 1:
            return
        tool = self._facilities.tools.find(command.tool) if isinstance(command, StartToolCall) else None
        if isinstance(command, StartToolCall) and (tool is None or tool.effect is Effect.WRITE):
            return
        task = asyncio.get_running_loop().create_task(
            self._call(command, name), name=f"firmplan early {command.step}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _call(self, command: StartCall, name: tuple[str, str]) -> None:
        try:
            call = self._preparation.prepare(command)
        except ToolError:
            return  # the run itself says so
        if digests_in(call.args):
            return  # its artifacts are in no store yet
        if (output := await self._earlier(call)) is None:
            output = await self._made(call, name)
        if output is not None and self._machine is not None and not self._is_closed:
            self._known[name] = output
            self._go_on(self._machine, command, output)

    async def _made(self, call: PreparedCall, name: tuple[str, str]) -> Sealed | None:
        """Make a call; return its output if it has one."""
        if name in self._calls:
            return None
        epochs: Mapping[str, int] | None = {}
        if call.tool is not None and call.is_kept_read:
            epochs = await epochs_at_start(self._facilities, call.tool)
        work = asyncio.get_running_loop().create_task(self._placed(call))
        self._calls[name] = EarlyCall(call, epochs, work)
        outcome, _ = await asyncio.shield(work)
        return outcome.output if isinstance(outcome, Returned) else None

    async def _placed(self, call: PreparedCall) -> tuple[Outcome, Usage | None]:
        async with self._facilities.place_for(call.tool):
            return await self._caller.make(call)

    async def _earlier(self, call: PreparedCall) -> Sealed | None:
        """Return an earlier run's result for the call; the run itself will find it too."""
        if not call.key.key:
            return None
        entry = (await find_results(self._facilities, [call.candidate])).get(call.step)
        return Sealed(entry.output) if isinstance(entry, Reusable) else None

    def _go_on(self, machine: Machine, command: StartCall, output: Sealed) -> None:
        if machine.is_callable(command.step):
            machine.handle(CallStarted(command.step, 1, _args_of(command).digest))
            self._carry_out(machine, machine.handle(CallSucceeded(command.step, output)))


def _args_of(command: StartCall) -> Sealed:
    return command.args if isinstance(command, StartToolCall) else command.request
