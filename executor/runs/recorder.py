"""Taking an event in: the machine hears of it and the journal keeps it, in one piece, so that the journal's order is the machine's.

It does not carry anything out: what is to be done now is returned to the driver.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Final

from ...plans.signature import Effect
from ...tools.logbook import is_enabled, open_log
from ..calls.frames import EVERY_S, NOTE_MAX
from ..canonical_value import CanonicalValue
from ..commands import Command, Record
from ..events import (
    CallFailed,
    CallProgressed,
    CallStarted,
    CallSucceeded,
    Cause,
    JournalEvent,
    PlanMade,
    ResolvedDone,
    ResolvedFailed,
    RetryDue,
    RunParked,
    RunResumed,
    RunStarted,
    StepIndeterminate,
)
from ..journal.records import FIELDS
from . import deaths

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from ..journal.journal import Journal
    from ..journal.toolset_lock import ToolsetLock
    from ..machine import Machine


OUTCOMES: Final = (CallSucceeded, CallFailed, ResolvedDone, ResolvedFailed)


class Recorder:
    """The record of one run that is being driven.

    Args:
        machine: The run's.
        journal: The run's.
        run_id: The run.
        lock: The tools as the run knows them.
        made: How a planner made the run's plan; this record follows the run's first record.

    Attributes:
        is_driving: Whether the run is being driven now.
        on_outcome: Told the step of each call that has an outcome; `None`: nobody is.
    """

    def __init__(
        self, machine: Machine, journal: Journal, run_id: str, lock: ToolsetLock, made: PlanMade | None = None
    ) -> None:
        self._machine = machine
        self._journal = journal
        self._made = made
        self.is_driving = False
        self._telling = Telling(run_id)
        self.on_outcome: Callable[[str], None] | None = None
        self._resources = {name: tool.resource for name, tool in lock.items() if tool.effect is Effect.WRITE}

    def note(self, event: Cause, at: float, decision: int | None = None) -> Sequence[Command]:
        """Take an event in, with what the machine concludes from it; return what is to be done now.

        Raises:
            EngineBug: The event is not possible in the state that its step is in.
            StoreError: The journal cannot be written any more.
        """
        journal = self._journal
        with journal.piece:
            commands = self._machine.handle(event, at)
            if self._resources and (resource := self._written_by(event)) is not None:
                opens = resource if isinstance(event, CallStarted) else None
                journal.add(event, at, opens=opens, closes=isinstance(event, OUTCOMES), decision=decision)
            else:
                # A count of deaths has to survive whatever happens next.
                journal.add(event, at, decision=decision, is_synced=_is_count(event))
            if self._made is not None and isinstance(event, RunStarted):
                journal.add(self._made, at)
            concluded = [command.event for command in commands if isinstance(command, Record)]
            for consequence in concluded:
                journal.add(consequence, at)
        if self._telling.is_told:
            self._telling.tell(event)
        if self.on_outcome is not None and isinstance(event, deaths.OUTCOMES):
            self.on_outcome(event.step)
        for consequence in concluded:
            self._telling.tell(consequence)
        return [command for command in commands if not isinstance(command, Record)] if concluded else commands

    def is_called(self, step: str) -> bool:
        """Whether the call of a step is in flight and the run is driven, so that the call may add records."""
        return self.is_driving and self._machine.is_running(step)

    def must_be_durable(self, event: Cause | None) -> bool:
        """Whether the consequences of an event wait until the event is durable: for a write, for a death, or if too many records are not durable yet."""
        if self._journal.is_behind or (event is not None and _is_count(event)):
            return True
        return event is not None and bool(self._resources) and self._written_by(event) is not None

    def _written_by(self, event: Cause) -> str | None:
        """Return the resource that the step of an event writes, as the run knows its tool; `None`: it writes none."""
        step = getattr(event, "step", None)
        name = self._machine.tool_of(step) if step is not None else None
        return self._resources.get(name) if name is not None else None


def _is_count(event: Cause) -> bool:
    """Whether an event says how many deaths count against the run."""
    return type(event) is RunResumed and bool(event.deaths)


# --- What the log says of a run: one line for each change of its state, bound to run, step and attempt.
#
# Lines say what happened and how large it was, never a value: those are in the journal. A write of unknown outcome is a warning,
# everything else is information, and costs nothing where nobody asked for it.


_QUIET: Final = (RetryDue, RunParked)  # the schedule has said when; of a parked run the execution warns


class Telling:
    """The log of one run.

    Args:
        run: Its id.

    Attributes:
        is_told: Whether anybody wants to hear more than warnings.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self.is_told = is_enabled("info")
        self._log: FilteringBoundLogger | None = None
        self._attempts: dict[str, int] = {}

    def tell(self, event: JournalEvent) -> None:
        """Say what happened."""
        is_warning = isinstance(event, StepIndeterminate)
        if not self.is_told and not is_warning:
            return
        if isinstance(event, CallStarted):
            self._attempts[event.step] = event.attempt
        if isinstance(event, _QUIET):
            return
        if self._log is None:
            self._log = open_log(run=self._run)
        told = {name: _told(getattr(event, name)) for name in FIELDS[type(event)] if name != "header"}
        told = {name: value for name, value in told.items() if value not in (None, "")}
        if (attempt := self._attempts.get(str(told.get("step")))) is not None:
            told.setdefault("attempt", attempt)
        (self._log.warning if is_warning else self._log.info)(_words(type(event).__name__), **told)


def tell_trace(trace: str, run: str, step: str, attempt: int) -> None:
    """Say where a call raised what it failed of: for whoever looks for a mistake in a tool."""
    open_log(run=run, step=step, attempt=attempt).debug("call raised", exception=trace)


def _told(value: object) -> object:
    if isinstance(value, CanonicalValue):
        return f"{len(value.data)} bytes"
    return None if isinstance(value, Mapping) else value  # what was used, and what only `explain` asks for


@cache
def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


# --- How far calls have come, written down seldom enough for a tool that says so in a loop.


class Progress:
    """The progress of one run's calls.

    Args:
        journal: Where it is written down.
        now: The clock.
        is_running: Whether a step's call is under way: others have nothing to say any more.
    """

    def __init__(self, journal: Journal, now: Callable[[], float], is_running: Callable[[str], bool]) -> None:
        self._journal = journal
        self._now = now
        self._is_running = is_running
        self._told: dict[str, tuple[float, float]] = {}  # when, and how far it was then

    def note(self, step: str, fraction: float, words: str) -> None:
        """Write down how far a call has come, unless it said so just before; its end is written down once in any case."""
        at = self._now()
        before, done = self._told.get(step, (-EVERY_S, 0.0))
        is_due = at - before >= EVERY_S or done < 1.0 <= fraction
        if is_due and self._is_running(step):
            self._told[step] = at, fraction
            self._journal.add(CallProgressed(step, fraction, words[:NOTE_MAX]), at)
