"""The progress of a run on stderr: a line for each event that says something, and on a terminal a last line that is rewritten in place.

The last line has how many of the plan's steps have ended, the time since the run began, what its models cost, and the calls under way with the
progress that they report. Everything is counted from events and from the run as it stood at first, so a run of another process or of a server
looks the same.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

from ..executor import Event, Run
from ..executor.fork import root_of
from ..plans.durations import time_text
from ..plans.nearest import listing
from ..plans.values import Json
from ..plans.visible import visible
from . import screen
from .screen import note, one_line, seconds
from .wrapping import wrapped

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.status import Status

UNDER_WAY_MAX = 3
"""Steps under way that the terminal's last line names."""
ENDED = ("succeeded", "failed", "skipped", "cancelled")
ENDS = (
    "CallMade",
    "CallSucceeded",
    "CallReused",
    "StepSucceeded",
    "StepFailed",
    "StepSkipped",
    "StepCancelled",
)
"""Events after which their step has ended; a step of parts has the last four only."""


class RunCounts:
    """How far a run is, counted from its events.

    Args:
        run: The run as it stood at first; `None`: nothing is known of it.
        after: Number of the last event that is not counted here, because the run as it stood has it.

    Attributes:
        total: The number of steps of its plan; `None`: there is no plan yet.
    """

    def __init__(self, run: Run | None, after: int) -> None:
        self.total: int | None = None
        self._ended: set[str] = set()
        self._begun_at: float | None = None
        self._usd, self._tokens = 0.0, 0
        self._reports: dict[str, str] = {}  # step -> its last progress
        self._under_way: dict[str, float] = {}  # step -> when its call began
        if run is None:
            return
        self.know_plan(run)
        if after:
            self._ended |= {path for path, step in run.steps.items() if step.status in ENDED}
        if after and run.last_event <= after:  # else the usage of some events would count twice
            self._add(run.usage)

    def know_plan(self, run: Run) -> None:
        """Take the number of steps from the plan of a run."""
        self.total = None if run.plan is None else len(run.plan.steps)

    def _add(self, usage: Mapping[str, Json]) -> None:
        usd, tokens = usage.get("usd"), usage.get("tokens")
        self._usd += float(usd) if isinstance(usd, int | float) else 0.0
        self._tokens += int(tokens) if isinstance(tokens, int | float) else 0

    def take(self, event: Event) -> None:
        """Count one event."""
        step, data = event.step, event.data
        if event.type in ("RunStarted", "RunResumed"):
            self._begun_at = event.at
            self._under_way.clear()  # what was under way was cut off
        elif event.type == "CallStarted":
            self._under_way.setdefault(
                step, event.at
            )  # a step that is tried again is under way since its first attempt
        elif event.type == "CallProgressed":
            words = one_line(str(data.get("note") or ""))
            self._reports[step] = f"{cast('float', data['fraction']):.0%}{f' {words}' if words else ''}"
        elif event.type in ENDS:
            self._ended.add(step)
            self.leave(step)
        usage = data.get("usage")
        if isinstance(usage, dict):
            self._add(usage)

    def leave(self, step: str) -> float | None:
        """Note that no call of a step is under way any more; return when the first one began."""
        self._reports.pop(step, None)
        return self._under_way.pop(step, None)

    def since(self, step: str) -> float | None:
        """Return when the first call of a step began that is under way."""
        return self._under_way.get(step)

    def line(self, now: float) -> str:
        """Return the last line of the terminal: `3 of 12 steps, 4.2 s, 0.0123 USD: fetch 45% page 4`."""
        ended = sum(root_of(path) == path for path in self._ended)
        counted = "" if self.total is None else f"{ended} of {screen.plural(self.total, 'step')}"
        took = "" if self._begun_at is None else seconds(max(0.0, now - self._begun_at))
        tokens = f"{self._tokens} tokens" if self._tokens else ""
        cost = f"{self._usd:.4g} USD" if self._usd else tokens
        facts = ", ".join(part for part in (counted, took, cost) if part)
        calls = [
            f"{one_line(step)} {report}" if (report := self._reports.get(step)) else one_line(step)
            for step in self._under_way
        ]
        doing = listing(calls, UNDER_WAY_MAX) if calls else "working"
        return f"{facts}: {doing}" if facts else doing


class Progress:
    """Shows events as they come; a context manager, so that the terminal is left clean.

    Args:
        run: The run as it stood at first.
        after: Number of the last event that is not shown.
        is_quiet: Show nothing where stderr is no terminal; with `--json` nobody reads it.
    """

    def __init__(self, run: Run | None = None, after: int = 0, *, is_quiet: bool = False) -> None:
        self.counts = RunCounts(run, after)
        # On a terminal the last line is rewritten in place; in a file or a pipe each event is a line of its own.
        self._is_live = sys.stderr.isatty()
        self._is_silent = is_quiet and not self._is_live
        self._printed: set[str] = set()
        self._status: Status | None = None

    def __enter__(self) -> Self:
        if self._is_live:
            from rich.console import Console  # noqa: PLC0415  # only a terminal needs it, and it takes a while to import

            self._status = Console(stderr=True, highlight=False, markup=False).status(_LastLine(self.counts))
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
        begun = self.counts.since(event.step)
        self.counts.take(event)
        if (line := self._line(event, begun)) is not None:
            self._print(line)

    def _print(self, line: str) -> None:
        if self._status is None:
            note(line)
            return
        from rich.text import Text  # noqa: PLC0415  # imported already by the console

        mark, _, rest = wrapped(visible(line), self._status.console.width).partition(" ")
        self._status.console.print(Text.assemble((mark, COLOURS.get(mark, "")), " ", rest), soft_wrap=True)

    def _line(self, event: Event, begun: float | None) -> str | None:  # noqa: C901, PLR0911, PLR0912  # one line for each kind of event: a table
        step, data = one_line(event.step), event.data
        match event.type:
            case "CallMade":
                self._printed.add(event.step)
                return f"{OK} {step}  {seconds(event.at - cast('float', data['started']))}"
            case "CallSucceeded":
                self._printed.add(event.step)
                return f"{OK} {step}  {_took(event, begun)}"
            case "CallReused":
                self._printed.add(event.step)
                return f"{OK} {step}  reused"
            case "StepSucceeded":
                # A leaf has been printed with its call already; `set` steps and steps of parts have no call.
                return None if event.step in self._printed else f"{OK} {step}"
            case "RetryScheduled":
                return f"{AGAIN} {step}  attempt {data.get('attempt')} follows"
            case "StepFailed":
                return f"{BAD} {step}  {data.get('code')}: {one_line(str(data.get('message')))}  {_took(event, begun)}"
            case "StepSkipped":
                return f"{OUT} {step}  {skipped_because(data.get('reason'))}"
            case "StepCancelled":
                return f"{OUT} {step}  cancelled: {data.get('reason')}"
            case "StepIndeterminate":
                # The call is over as far as this process knows: without this the last line would name the step as under way.
                self.counts.leave(event.step)
                return f"{WAIT} {step}  outcome unknown: {one_line(str(data.get('why')))}"
            case "ApprovalAsked":
                is_question = isinstance(args := data.get("args"), dict) and "question" in args
                return f"{WAIT} {step}  waits for {'an answer' if is_question else 'approval'}"
            case "WaitBegun":
                return f"{WAIT} {step}  waits until {time_text(cast('float', data['until']))}"
            case "ApprovalExpired":
                return f"{OUT} {step}  nobody decided in time"
            case "DeadlinePassed":
                return f"{OUT} the deadline of the run has passed"
            case "RunParked":
                return f"{WAIT} parked after {data.get('deaths')} deaths of its process"
            case "ListHeld":
                return f"{WAIT} {step}  waits for a larger budget: items, of which its list has {data.get('items')}"
            case "BudgetReached":
                return f"{WAIT} {step}  waits for a larger budget: {data.get('limit')}"
            case _:
                return None


def _took(event: Event, begun: float | None) -> str:
    return seconds(event.at - begun) if begun is not None else ""


class _LastLine:
    """The last line of the terminal; rich draws it again several times a second, so that its time goes on."""

    def __init__(self, counts: RunCounts) -> None:
        self._counts = counts

    def __rich__(self) -> RenderableType:
        from rich.text import Text  # noqa: PLC0415  # imported already by the console

        # As a `str` the names of steps would be read as rich's markup.
        return Text(visible(self._counts.line(time.time())), no_wrap=True, overflow="ellipsis")


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
