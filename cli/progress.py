"""A run's progress on stderr: a line for each step that ends, and on a terminal what is under way now.

Made from the journal's events alone, so it looks the same for a run that is followed, resumed or demonstrated.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

from ..plans.nearest import listing
from .screen import note, one_line, seconds

if TYPE_CHECKING:
    from rich.status import Status

    from ..executor import Event

UNDER_WAY_MAX = 5
"""Steps under way that the terminal's last line names."""


class Progress:
    """Shows events as they come; a context manager, so that the terminal is left clean.

    Args:
        is_quiet: Show nothing where stderr is no terminal; with `--json` nobody reads it.
    """

    def __init__(self, *, is_quiet: bool = False) -> None:
        self._is_live = sys.stderr.isatty()
        self._is_silent = is_quiet and not self._is_live
        self._started: dict[str, float] = {}
        self._told: set[str] = set()
        self._status: Status | None = None

    def __enter__(self) -> Self:
        if self._is_live:
            from rich.console import Console  # noqa: PLC0415  # only a terminal needs it, and it takes a while to import

            self._status = Console(stderr=True, highlight=False, markup=False).status("starting")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def show(self, event: Event) -> None:
        """Show one event."""
        if self._is_silent:
            return
        if (line := self._line(event)) is not None:
            self._print(line)
        if self._status is not None:
            self._status.update(self._under_way())

    def _print(self, line: str) -> None:
        if self._status is None:
            note(line)
            return
        from rich.text import Text  # noqa: PLC0415  # imported already by the console

        mark, _, rest = line.partition(" ")
        self._status.console.print(Text.assemble((mark, COLOURS.get(mark, "")), " ", rest), soft_wrap=True)

    def _line(self, event: Event) -> str | None:  # noqa: C901, PLR0911, PLR0912  # one line for each kind of event: a table
        step, data = one_line(event.step), event.data
        match event.type:
            case "CallStarted":
                self._started.setdefault(event.step, event.at)
                return None
            case "CallMade":
                self._told.add(event.step)
                return f"{OK} {step}  {seconds(event.at - cast('float', data['started']))}"
            case "CallSucceeded":
                self._told.add(event.step)
                return f"{OK} {step}  {self._took(event)}"
            case "CallReused":
                self._told.add(event.step)
                return f"{OK} {step}  reused"
            case "StepSucceeded":
                return None if event.step in self._told else f"{OK} {step}"
            case "RetryScheduled":
                return f"{AGAIN} {step}  attempt {data.get('attempt')} follows"
            case "StepFailed":
                return f"{BAD} {step}  {data.get('code')}: {one_line(str(data.get('message')))}  {self._took(event)}"
            case "StepSkipped":
                return f"{OUT} {step}  {skipped_because(data.get('reason'))}"
            case "StepCancelled":
                return f"{OUT} {step}  cancelled: {data.get('reason')}"
            case "StepIndeterminate":
                self._started.pop(event.step, None)
                return f"{WAIT} {step}  outcome unknown: {one_line(str(data.get('why')))}"
            case "ApprovalAsked":
                return f"{WAIT} {step}  waits for approval"
            case "RunParked":
                return f"{WAIT} parked after {data.get('deaths')} deaths of its process"
            case "BudgetReached":
                return f"{WAIT} {step}  waits for a larger budget: {data.get('limit')}"
            case _:
                return None

    def _took(self, event: Event) -> str:
        begun = self._started.pop(event.step, None)
        return seconds(event.at - begun) if begun is not None else ""

    def _under_way(self) -> str:
        return listing(map(one_line, self._started), UNDER_WAY_MAX) if self._started else "working"


OK, BAD, OUT, WAIT, AGAIN = "done", "FAILED", "skip", "WAIT", "again"
COLOURS = {OK: "green", BAD: "bold red", OUT: "dim", WAIT: "bold yellow", AGAIN: "yellow"}

SKIPPED = {
    "when": "its condition is false",
    "on-error": "it failed, which its on_error lets pass",
    "skipped-reference": "it refers to a step that was skipped",
    "dependency-failed": "it refers to a step that went wrong",
    "blocked": "a step that has to go before it went wrong",
}
"""The reasons of docs/ERRORS.md, for people."""


def skipped_because(reason: object) -> str:
    """Return why a step was skipped, in words."""
    return SKIPPED.get(str(reason), str(reason))
