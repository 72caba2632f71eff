"""What the log says of a run: one line for each change of its state, bound to run, step and attempt.

Lines say what happened and how large it was, never a value: those are in the journal. A write of unknown outcome is a warning,
everything else is information, and costs nothing where nobody asked for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Final

from ...tools.logbook import is_enabled, open_log
from ..events import CallStarted, JournalEvent, RetryDue, RunParked, StepIndeterminate
from ..journal.records import FIELDS
from ..sealed import Sealed

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

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
    if isinstance(value, Sealed):
        return f"{len(value.data)} bytes"
    return None if isinstance(value, Mapping) else value  # what was used, and what only `explain` asks for


@cache
def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
