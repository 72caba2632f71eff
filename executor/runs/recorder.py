"""Handles an event of a run: the machine moves, the journal records the event, and the log gets its line.

All of it happens without an await, so that the order of the journal is the order of the machine. The commands that follow are returned to the
driver; nothing is carried out here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Final, cast

from ...tools.logbook import is_enabled, open_log
from ..calls.running.frames import EVERY_S, NOTE_MAX
from ..canonical_value import CanonicalValue
from ..commands import Command, Record, StartToolCall
from ..events import (
    ApprovalAsked,
    CallFailed,
    CallProgressed,
    CallStarted,
    CallSucceeded,
    Cause,
    Consequence,
    JournalEvent,
    PlanMade,
    ResolvedDone,
    ResolvedFailed,
    RetryDue,
    RunParked,
    RunResumed,
    RunStarted,
    StepIndeterminate,
    WorkContinued,
)
from ..journal.journal import FIRST_MAX_S, START_MAX_S
from ..journal.records import FIELDS
from . import deaths

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from ..journal.journal import Journal
    from ..journal.toolset_lock import ToolsetLock
    from ..machine import Machine
    from ..observer import RunWatch


OUTCOMES: Final = (CallSucceeded, CallFailed, ResolvedDone, ResolvedFailed)


class RunRecorder:
    """Feeds events to the machine, the journal and the log of one run.

    Args:
        machine: The run's.
        journal: The run's.
        run_id: The run.
        lock: The tools as the run knows them.
        made: How a planner made the plan of the run; it is recorded right after the first record.
        fingerprint_of: Tool -> its fingerprint in this process; `None`: it is not known.

    Attributes:
        is_driving: Whether the run is being driven now.
        on_outcome: Called with the step of each call that has an outcome.
        watch: Who watches the run from outside; `None`: nobody.
        writes_next: Whether the last event is the outcome of a write that becomes durable together with the intents of the writes that follow
            from it. The driver starts them in the same turn of the event loop, and then has the journal committed.
    """

    def __init__(
        self,
        machine: Machine,
        journal: Journal,
        run_id: str,
        lock: ToolsetLock,
        made: PlanMade | None = None,
        fingerprint_of: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self._machine = machine
        self._fingerprint_of = fingerprint_of
        self._journal = journal
        self._made = made
        self.is_driving = False
        self._log = RunLog(run_id)
        self.on_outcome: Callable[[str], None] | None = None
        self.watch: RunWatch | None = None
        self.writes_next = False
        self._resources = lock.written
        self._idempotent = lock.idempotent

    def note(  # noqa: C901  # one piece without an await, on the way of every event
        self, event: Cause, at: float, decision: int | None = None
    ) -> Sequence[Command]:
        """Handle an event, record it with its consequences, and return the commands to carry out.

        Raises:
            EngineBug: The event is not possible in the state that its step is in.
            StoreError: The journal cannot be written any more.
        """
        journal, kind = self._journal, type(event)
        self.writes_next = False
        with journal.piece:
            commands = self._machine.handle(event, at)
            if self._resources and (resource := self._written_by(event)) is not None:
                opens = resource if kind is CallStarted else None
                closes = isinstance(event, OUTCOMES)
                self.writes_next = self._may_wait(event, commands)
                within_s = math.inf if self.writes_next else None
                journal.add(event, at, opens=opens, closes=closes, decision=decision, within_s=within_s)
            else:
                # A count of deaths is durable immediately: if the next call kills the process, the count must have grown, or, after an
                # explicit resume of a parked run, must have begun anew.
                within_s = START_MAX_S if kind is CallStarted else FIRST_MAX_S if kind is RunStarted else None
                is_synced = kind is RunResumed
                journal.add(event, at, decision=decision, is_synced=is_synced, within_s=within_s)
            if self._made is not None and kind is RunStarted:
                journal.add(self._made, at)
            concluded: list[Consequence] = []
            if commands and isinstance(commands[0], Record):  # records come first
                concluded = [command.event for command in commands if isinstance(command, Record)]
                for consequence in concluded:
                    if type(consequence) is ApprovalAsked:
                        self._show(consequence)
                    journal.add(consequence, at)
        if self.watch is not None:
            self.watch.note(event, at)
            for consequence in concluded:
                self.watch.note(consequence, at)
        if self._log.is_verbose:
            self._log.log(event)
        if self.on_outcome is not None and isinstance(event, deaths.OUTCOMES):
            self.on_outcome(event.step)
        for consequence in concluded:
            if self._log.is_verbose or isinstance(consequence, StepIndeterminate):
                self._log.log(consequence)
        return [command for command in commands if not isinstance(command, Record)] if concluded else commands

    def _show(self, asked: ApprovalAsked) -> None:
        """Put the fingerprint of the tool into the record of a request for approval: the consent is for this tool."""
        tool = self._machine.tool_of(asked.step)
        if tool is not None and self._machine.iterations[asked.step].question is None:
            asked.fingerprint = self._fingerprint_of(tool)
            self._machine.note_shown(asked)

    def is_called(self, step: str) -> bool:
        """Whether the call of a step is in flight and the run is driven, so that the call may add records."""
        return self.is_driving and self._machine.is_running(step)

    def must_be_durable(self, event: Cause | None, commands: Sequence[Command]) -> bool:
        """Whether the event must be durable before its commands are carried out.

        It must be if it belongs to a write, if it counts deaths, or if too many records are not durable yet.
        """
        if self._journal.is_behind or type(event) is RunResumed:
            return True
        if event is None or not self._resources or self._written_by(event) is None:
            return False
        return not self._may_wait(event, commands)

    def _may_wait(self, event: Cause, commands: Sequence[Command]) -> bool:
        """Whether the outcome of a write may become durable together with the intents of the writes that follow.

        Each of those waits for its own intent, and so for everything before it in the journal; nothing else follows from the outcome. If the
        process dies before, an idempotent write is repeated under its key. Another write would have to be decided by a person, so its
        outcome becomes durable as soon as it is known.
        """
        if not isinstance(event, CallSucceeded) or self._machine.tool_of(event.step) not in self._idempotent:
            return False
        # A write that asks its tool what became of it asks before its intent is recorded.
        starts = [
            isinstance(command, StartToolCall) and command.tool in self._resources and not command.reconcile
            for command in commands
        ]
        return bool(starts) and all(starts)

    def _written_by(self, event: Cause) -> str | None:
        """Return the resource that the step of an event writes, by the run's lock; `None`: the step is not a write."""
        step = getattr(event, "step", None)
        name = self._machine.tool_of(step) if step is not None else None
        return self._resources.get(name) if name is not None else None


# --- the log of a run
#
# One line for each change of state, with run, step and attempt. Lines say what happened and how large values were; the values themselves
# are in the journal only. A write of unknown outcome is a warning, everything else has the level `info`.

_QUIET: Final = (
    RetryDue,
    RunParked,
    WorkContinued,
)  # the line of the failure says when the retry is due, and the execution warns of a parked run


class RunLog:
    """The log lines of one run.

    Args:
        run: The id of the run.

    Attributes:
        is_verbose: Whether the log level includes more than warnings.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self.is_verbose = is_enabled("info")
        self._log: FilteringBoundLogger | None = None
        self._attempts: dict[str, int] = {}

    def log(self, event: JournalEvent) -> None:
        """Write the line of an event whose level is shown, if it has one."""
        is_warning = isinstance(event, StepIndeterminate)
        if isinstance(event, CallStarted):
            self._attempts[event.step] = event.attempt
        if isinstance(event, _QUIET):
            return
        if self._log is None:
            self._log = open_log(run=self._run)
        fields = {name: _loggable(getattr(event, name)) for name in FIELDS[type(event)] if name != "header"}
        fields = {name: value for name, value in fields.items() if value not in (None, "")}
        if (attempt := self._attempts.get(str(fields.get("step")))) is not None:
            fields.setdefault("attempt", attempt)
        (self._log.warning if is_warning else self._log.info)(_words(type(event).__name__), **fields)


def log_trace(trace: str, run: str, step: str, attempt: int) -> None:
    """Log the traceback of a call that raised, for whoever debugs the tool."""
    open_log(run=run, step=step, attempt=attempt).debug("call raised", exception=trace)


def _loggable(value: object) -> object:
    if isinstance(value, CanonicalValue):
        return f"{len(value.data)} bytes"
    if isinstance(value, list):  # sentences about a result have parts of it
        return len(cast("list[object]", value))
    return (
        None if isinstance(value, Mapping) else value
    )  # usage and reasons are for `explain`, not for the log


@cache
def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


# --- progress


class ProgressLog:
    """Records the progress of one run's calls, at most every `EVERY_S` a step: a tool may report progress in a tight loop.

    Args:
        journal: Where it is recorded.
        now: The clock.
        is_running: Whether the call of a step is under way; progress of other calls is dropped.
    """

    def __init__(self, journal: Journal, now: Callable[[], float], is_running: Callable[[str], bool]) -> None:
        self._journal = journal
        self._now = now
        self._is_running = is_running
        self._recorded: dict[str, tuple[float, float]] = {}  # step -> time and fraction of the last record

    def note(self, step: str, fraction: float, words: str) -> None:
        """Record the progress of a call, unless the last record is too recent. The first report of the end is always recorded."""
        at = self._now()
        before, done = self._recorded.get(step, (-EVERY_S, 0.0))
        is_due = at - before >= EVERY_S or done < 1.0 <= fraction
        if is_due and self._is_running(step):
            self._recorded[step] = at, fraction
            self._journal.add(CallProgressed(step, fraction, words[:NOTE_MAX]), at)
