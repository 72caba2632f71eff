"""The progress of a run on stderr: a line for each event that says something, and on a terminal a last line that is rewritten in place.

The last line has how many of the plan's steps have ended, the time since the run began, what its models cost, and the calls under way with the
progress that they report. Everything is counted from events and from the run as it stood at first, so a run of another process or of a server
looks the same.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import field
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

from ..executor import Event, Run
from ..executor.fork import root_of
from ..plans.durations import time_text
from ..plans.immutable import record
from ..plans.reports.nearest import listing
from ..plans.reports.visible import visible
from ..plans.values import Json
from . import screen
from .screen import note, one_line, seconds
from .wrapping import wrapped

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.status import Status

UNDER_WAY_MAX = 3
"""Steps under way that the terminal's last line names."""
LISTED_MAX = 20
"""Items of a list whose ends are printed, each on a line; of a longer list only failures are, and the last line counts the others."""

LOOKS_MAX = 3
"""How often the length of a list is looked for: an item may be on record a moment before its list is."""

WAITS = ("ApprovalAsked", "BudgetReached", "ListHeld", "StepIndeterminate")
"""Events after which their step waits for a person or for budget."""

TOLD = ("StepFailed", *WAITS)
"""Events of an item that have a line also where the items of its list are only counted."""

ITEM = re.compile(r"([^\[#]+)\[\d+\]")
"""The path of an item of a list, or the start of the path of a part of it; the group is the path of the list."""

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

REMEDIED = ("CallFailed", "CallLost")
"""Events of attempts after which another attempt may follow."""


def failure_line(event: Event) -> str:
    """Return why an attempt was no success, on one line: `tool-error: busy, come again`."""
    if event.type == "CallLost":
        return f"its outcome is unknown: {one_line(str(event.data.get('why')))}"
    return f"{event.data.get('code')}: {one_line(str(event.data.get('message')))}"


@record
class ListCount:
    """How far the items of a list are.

    Attributes:
        total: The length of the list; `None`: not known yet.
        asked: How often it was looked for.
    """

    total: int | None = None
    asked: int = 0
    ended: set[str] = field(default_factory=set[str])
    failed: set[str] = field(default_factory=set[str])
    skipped: set[str] = field(default_factory=set[str])
    again: int = 0

    @property
    def is_long(self) -> bool:
        """Whether its items are counted, and not listed."""
        return self.total is not None and self.total > LISTED_MAX

    def text(self, noun: str = "") -> str:
        """Return the counts as `312/500, 2 failed`, with a noun behind the first."""
        of = "" if self.total is None else f"/{self.total}"
        more = ((len(self.failed), "failed"), (len(self.skipped), "skipped"), (self.again, "tried again"))
        counts = [f"{len(self.ended)}{of}{noun}", *(f"{count} {word}" for count, word in more if count)]
        return ", ".join(counts)


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
        self._lists: dict[
            str, ListCount
        ] = {}  # lists of which an item has begun or ended, and not yet the list
        self._failures: dict[str, str] = {}  # step -> why its last attempt was no success
        self._waiting: set[str] = set()
        if run is None:
            return
        self.know(run)
        if after:
            self._ended |= {path for path, step in run.steps.items() if step.status in ENDED}
        if after and run.last_event <= after:  # else the usage of some events would count twice
            self._add(run.usage)

    def know(self, run: Run) -> None:
        """Take the number of steps, and the lengths of the lists under way, from a run."""
        self.total = None if run.plan is None else len(run.plan.steps)
        if any(each.total is None for each in self._lists.values()):
            lengths = Counter(found[1] for path in run.steps if (found := ITEM.fullmatch(path)) is not None)
            for name, each in self._lists.items():
                each.asked += 1
                each.total = each.total if each.total is not None else lengths.get(name)

    def lacks_length_of(self, step: str) -> bool:
        """Whether a step is of a list whose length is unknown, and worth a look at the run (`know`)."""
        if (found := ITEM.match(step)) is None:
            return False
        each = self._lists.setdefault(found[1], ListCount())
        return each.total is None and each.asked < LOOKS_MAX

    def long_list(self, step: str) -> ListCount | None:
        """Return the count of a long list by the path of the list."""
        each = self._lists.get(step)
        return each if each is not None and each.is_long else None

    def long_list_of(self, step: str) -> ListCount | None:
        """Return the count of a step's list if its items are counted and not listed."""
        found = ITEM.match(step)
        each = None if found is None else self._lists.get(found[1])
        return each if each is not None and each.is_long else None

    def _add(self, usage: Mapping[str, Json]) -> None:
        usd, tokens = usage.get("usd"), usage.get("tokens")
        self._usd += float(usd) if isinstance(usd, int | float) else 0.0
        self._tokens += int(tokens) if isinstance(tokens, int | float) else 0

    def take(self, event: Event) -> None:
        """Count one event."""
        if event.type in ("RunStarted", "RunResumed", "RunParked", "RunFinished"):
            if event.type in ("RunStarted", "RunResumed"):
                self._begun_at = event.at
            self._under_way.clear()  # what was under way was cut off
            self._waiting.clear()
        elif event.type in WAITS:
            self.leave(event.step)
            self._waiting.add(event.step)
        elif event.type in ENDS:
            self._ended.add(event.step)
            self._waiting.discard(event.step)
            self.leave(event.step)
            self._count_item(event)
        else:
            self._take_call(event)
        usage = event.data.get("usage")
        if isinstance(usage, dict):
            self._add(usage)

    def _take_call(self, event: Event) -> None:
        """Count an event of a call that has not ended its step."""
        step, data = event.step, event.data
        match event.type:
            case "CallStarted":
                self._waiting.discard(step)
                self._reports.pop(step, None)
                # A step that is tried again is under way since its first attempt.
                self._under_way.setdefault(step, event.at)
            case "CallProgressed":
                words = one_line(str(data.get("note") or ""))
                self._reports[step] = f"{cast('float', data['fraction']):.0%}{f' {words}' if words else ''}"
            case "CallFailed" | "CallLost":
                self._failures[step] = failure_line(event)
            case "RetryScheduled":
                self._reports[step] = f"attempt {data.get('attempt')} follows"
                if (count := self.long_list_of(step)) is not None:
                    count.again += 1
            case _:
                pass

    def _count_item(self, event: Event) -> None:
        self._lists.pop(event.step, None)  # the end of a list
        found = ITEM.fullmatch(event.step)
        if found is None or (count := self._lists.get(found[1])) is None:
            return
        count.ended.add(event.step)
        if event.type == "StepFailed":
            count.failed.add(event.step)
        elif event.type in ("StepSkipped", "StepCancelled"):
            count.skipped.add(event.step)

    def failure_of(self, step: str) -> str:
        """Return why the last attempt of a step was no success."""
        return self._failures.get(step, "")

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
        doing = listing(calls, UNDER_WAY_MAX) if (calls := self._calls()) else self._idle(ended)
        return f"{facts}: {doing}" if facts and doing else facts or doing

    def _calls(self) -> list[str]:
        """Return what is under way, as words: a long list is one."""
        long = {name: count for name, count in self._lists.items() if count.is_long}
        lists = [f"{one_line(name)} {count.text()}" for name, count in long.items()]
        return lists + [
            f"{one_line(step)} {report}" if (report := self._reports.get(step)) else one_line(step)
            for step in self._under_way
            if (found := ITEM.match(step)) is None or found[1] not in long
        ]

    def _idle(self, ended: int) -> str:
        """Return what a run does while none of its calls is under way; empty: nothing that it has said."""
        if self._waiting:
            return f"waits for {screen.plural(len(self._waiting), 'decision')}"
        if self.total is None:
            return "planning" if self._begun_at is None else ""
        return "finishing" if ended >= self.total else ""


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
        closed = self.counts.long_list(event.step)
        self.counts.take(event)
        if closed is not None and event.type in ("StepSucceeded", "StepFailed"):
            mark = BAD if event.type == "StepFailed" else OK
            self._print(f"{mark} {one_line(event.step)}  {closed.text(' items')}")
        elif (line := self._line(event, begun)) is not None:
            self._print(line)

    @contextmanager
    def paused(self) -> Generator[None]:
        """Take the last line off the terminal while the block prints, or asks, by itself."""
        status = self._status
        if status is not None:
            status.stop()
        try:
            yield
        finally:
            if status is not None:
                status.start()

    def _print(self, line: str) -> None:
        if self._status is None:
            note(line)
            return
        from rich.text import Text  # noqa: PLC0415  # imported already by the console

        mark, _, rest = wrapped(visible(line), self._status.console.width).partition(" ")
        self._status.console.print(Text.assemble((mark, COLOURS.get(mark, "")), " ", rest), soft_wrap=True)

    def _line(self, event: Event, begun: float | None) -> str | None:  # noqa: C901, PLR0911, PLR0912  # one line for each kind of event: a table
        step, data = one_line(event.step), event.data
        if event.type not in TOLD and self.counts.long_list_of(event.step) is not None:
            return None
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
                pause = data.get("delay_s")
                when = f" in {seconds(float(pause))}" if isinstance(pause, int | float) and pause else ""
                why = f": {reason}" if (reason := self.counts.failure_of(event.step)) else ""
                return f"{AGAIN} {step}  attempt {data.get('attempt')} follows{when}{why}"
            case "StepFailed":
                return f"{BAD} {step}  {data.get('code')}: {one_line(str(data.get('message')))}  {_took(event, begun)}"
            case "StepSkipped":
                return f"{OUT} {step}  {skipped_because(data.get('reason'))}"
            case "StepCancelled":
                return f"{OUT} {step}  cancelled: {data.get('reason')}"
            case "StepIndeterminate":
                return f"{WAIT} {step}  outcome unknown: {one_line(str(data.get('why')))}"
            case "ApprovalAsked":
                is_question = isinstance(args := data.get("args"), dict) and "question" in args
                return f"{WAIT} {step}  waits for {'an answer' if is_question else 'approval'}"
            case "ApprovalVoided":
                return f"{WAIT} {step}  {data.get('tool')} has changed since approval was asked for: it is asked for again"
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
