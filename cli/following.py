"""Follow one run: its progress while it moves, its outcome when it stops, and how to continue it after an interrupt.

The answer goes to stdout: the output, or what a person has to do. Everything else goes to stderr. Progress is made from the
journal's events alone, so it looks the same for a run that is started, resumed or demonstrated.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Coroutine, Generator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from ..engine import Engine
from ..errors import FirmplanError
from ..executor import Event, Run, RunOwner, WaitingCalls
from ..plans.nearest import listing
from ..plans.visible import visible
from . import screen
from .failure import Exit
from .invocation import Invocation
from .report import (
    advice,
    errors_text,
    exit_of,
    labels_text,
    leaves_in,
    resume_line,
    summary,
    view_of,
    warnings_text,
)
from .screen import note, one_line, seconds

if TYPE_CHECKING:
    from rich.status import Status


class RunFollower:
    """One command's view of one run.

    Args:
        invocation: How the command answers, and its settings for the commands that are advised.
        has_changed: Whether the command has changed something for the run, even if another process drives it.
    """

    def __init__(self, invocation: Invocation, *, has_changed: bool = False) -> None:
        self._settings = invocation.settings
        self._as_json = invocation.as_json
        self._run_id: str | None = None
        self._has_changed = has_changed
        self._under_way: tuple[str, ...] = ()
        self._other: RunOwner | None = None  # who drives the run after an interrupt
        self._noted: str | None = None  # the process about which `note_owner` has printed its note

    async def follow(
        self, engine: Engine, run: Run, resumed: Coroutine[Any, Any, Run] | None = None, *, after: int = 0
    ) -> int:
        """Print the run's progress until the run ends or waits, then its outcome; return the exit code.

        Args:
            engine: The engine that drives the run.
            run: The run as it stood when it was submitted.
            resumed: The coroutine that moves the run, if submitting it did not start it.
            after: Number of the last event that is not to be printed.
        """
        self._run_id = run.id
        if not self._as_json:
            screen.note(f"run {run.id}")
        # One task moves the run, the other prints its events. Events come from the journal and not from the driver, so that a run that
        # another process drives is followed in the same way.
        moving = asyncio.ensure_future(resumed or engine.wait(run.id))
        watching = asyncio.ensure_future(self._watch(engine.events(run.id, after)))
        try:
            # The iterator of events ends by itself after the last durable event; not waiting for it would cut off the last lines.
            run = await moving
            await watching
            waiting = None if self._as_json else await view_of(engine, run)
        except asyncio.CancelledError:
            # Who drives the run, and which steps ran, can be asked only while the engine is open. If the store fails now, the interrupt
            # counts all the same, and its message has less to say.
            with suppress(FirmplanError):
                owner = await engine.find_owner(run.id)
                self._other = owner if owner is not None and not owner.is_here else None
                self._under_way = tuple(leaves_in(await engine.get(run.id), "running"))
            raise
        finally:
            for task in (moving, watching):
                task.cancel()
            await asyncio.gather(moving, watching, return_exceptions=True)
        return self._report(run, waiting)

    def _report(self, run: Run, waiting: WaitingCalls | None) -> int:
        """Print the outcome and return its exit code."""
        code = exit_of(run)
        if self._as_json:
            screen.document(run.to_dict())
            return code
        screen.note(summary(run))
        if warnings := warnings_text(run):
            screen.note(warnings)
        if run.status == "succeeded":
            screen.answer(screen.value_text(run.output))
            if labels := labels_text(run):
                screen.note(labels)
        elif code is Exit.WAITING:
            if run.status == "parked":
                screen.note(errors_text(run))
            screen.answer(advice(run, self._settings, waiting))
        else:
            screen.note(errors_text(run) or f"the run was {run.status}")
        return code

    def note_owner(self, owner: RunOwner) -> None:
        """Print once for each process that this command waits for it, and how to take the run from it."""
        if owner.process == self._noted:
            return
        self._noted = owner.process
        screen.note(
            f"run {owner.run} is driven by {owner.process}, whose last record of it is {seconds(owner.silent_s)} old; this command waits "
            f"for it. If that process hangs, take the run from it with\n  {resume_line(owner.run, self._settings)} --take-over"
        )

    @contextmanager
    def interruptible(self) -> Generator[None]:
        """Print how to continue the run if the block is interrupted. The engine is closed by then."""
        try:
            yield
        except asyncio.CancelledError:
            if self._run_id is None:
                message = "interrupted before a run began; nothing is left to do"
            else:
                message = self._interrupted(self._run_id)
            if self._as_json:
                screen.document({"error": {"code": "interrupted", "message": message, "run": self._run_id}})
            else:
                screen.note(message)
            raise

    def _interrupted(self, run_id: str) -> str:
        line = resume_line(run_id, self._settings)
        if self._other is not None:
            unchanged = "" if self._has_changed else ", and this command changed nothing"
            return f"interrupted; run {run_id} goes on in {self._other.process}{unchanged}; wait for it with\n  {line}"
        during = f" while {listing(self._under_way)} ran" if self._under_way else ""
        return f"interrupted{during}; run {run_id} is kept; continue it with\n  {line}"

    async def _watch(self, events: AsyncIterator[Event]) -> None:
        with Progress(is_quiet=self._as_json) as progress:
            async for event in events:
                progress.show(event)


UNDER_WAY_MAX = 5
"""Steps under way that the terminal's last line names."""


class Progress:
    """Shows events as they come; a context manager, so that the terminal is left clean.

    Args:
        is_quiet: Show nothing where stderr is no terminal; with `--json` nobody reads it.
    """

    def __init__(self, *, is_quiet: bool = False) -> None:
        # On a terminal the last line is rewritten in place; in a file or a pipe each event is a line of its own.
        self._is_live = sys.stderr.isatty()
        self._is_silent = is_quiet and not self._is_live
        self._started: dict[str, float] = {}
        self._printed: set[str] = set()
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
            from rich.text import Text  # noqa: PLC0415  # imported already by the console

            # As a `str` the names of steps would be read as rich's markup.
            self._status.update(Text(self._under_way()))

    def _print(self, line: str) -> None:
        if self._status is None:
            note(line)
            return
        from rich.text import Text  # noqa: PLC0415  # imported already by the console

        mark, _, rest = visible(line).partition(" ")
        self._status.console.print(Text.assemble((mark, COLOURS.get(mark, "")), " ", rest), soft_wrap=True)

    def _line(self, event: Event) -> str | None:  # noqa: C901, PLR0911, PLR0912  # one line for each kind of event: a table
        step, data = one_line(event.step), event.data
        match event.type:
            case "CallStarted":
                # A step that is tried again has been under way since its first attempt.
                self._started.setdefault(event.step, event.at)
                return None
            case "CallMade":
                self._printed.add(event.step)
                return f"{OK} {step}  {seconds(event.at - cast('float', data['started']))}"
            case "CallSucceeded":
                self._printed.add(event.step)
                return f"{OK} {step}  {self._took(event)}"
            case "CallReused":
                self._printed.add(event.step)
                return f"{OK} {step}  reused"
            case "StepSucceeded":
                # A leaf has been printed with its call already; `set` steps and steps of parts have no call.
                return None if event.step in self._printed else f"{OK} {step}"
            case "RetryScheduled":
                return f"{AGAIN} {step}  attempt {data.get('attempt')} follows"
            case "StepFailed":
                return f"{BAD} {step}  {data.get('code')}: {one_line(str(data.get('message')))}  {self._took(event)}"
            case "StepSkipped":
                return f"{OUT} {step}  {skipped_because(data.get('reason'))}"
            case "StepCancelled":
                return f"{OUT} {step}  cancelled: {data.get('reason')}"
            case "StepIndeterminate":
                # The call is over as far as this process knows: without this the last line would name the step as under way.
                self._started.pop(event.step, None)
                return f"{WAIT} {step}  outcome unknown: {one_line(str(data.get('why')))}"
            case "ApprovalAsked":
                is_question = isinstance(args := data.get("args"), dict) and "question" in args
                return f"{WAIT} {step}  waits for {'an answer' if is_question else 'approval'}"
            case "RunParked":
                return f"{WAIT} parked after {data.get('deaths')} deaths of its process"
            case "ListHeld":
                return f"{WAIT} {step}  waits for a larger budget: items, of which its list has {data.get('items')}"
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
