"""Taking an event in: the machine hears of it and the journal keeps it, in one piece, so that the journal's order is the machine's.

It does not carry anything out: what is to be done now is returned to the driver.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from ...plans.signature import Effect
from ..calls.telling import Telling
from ..commands import Command, Record
from ..events import (
    CallFailed,
    CallStarted,
    CallSucceeded,
    Cause,
    PlanMade,
    ResolvedDone,
    ResolvedFailed,
    RunResumed,
    RunStarted,
)
from . import deaths

if TYPE_CHECKING:
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
