"""A run on the screen, a line for each step of the plan: its parts are counted, not listed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from firmplan.cli.progress import skipped_because
from rich.text import Text

if TYPE_CHECKING:
    from firmplan import Event, Plan
    from rich.console import Console

PATH_END = re.compile(r"[\[#/]")
"""Where the path of a part goes on after the step's own id."""


@dataclass(slots=True)
class Line:
    """What is known of one step so far."""

    started: float | None = None
    calls: int = 0
    reused: int = 0


class Board:
    """Prints every step as it ends; on a terminal also what is under way. A context manager.

    Args:
        console: Where to print.
        plan: The plan that runs.
    """

    def __init__(self, console: Console, plan: Plan) -> None:
        self._console = console
        self._lines = {step.id: Line() for step in plan.steps}
        self._width = max((len(id_) for id_ in self._lines), default=0)
        self._status = console.status("starting")

    def __enter__(self) -> Self:
        self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.stop()

    def show(self, event: Event) -> None:
        """Take in one event of the journal."""
        name = PATH_END.split(event.step, maxsplit=1)[0]
        if name not in self._lines:
            return
        line = self._lines[name]
        is_whole = name == event.step
        match event.type:
            case "CallStarted":
                line.started = event.at if line.started is None else line.started
                self._status.update(f"{name} {line.calls or ''}")
            case "CallSucceeded" | "CallMade" | "CallReused":
                line.calls += 1
                line.reused += event.type == "CallReused"
                if line.started is None and isinstance(started := event.data.get("started"), float):
                    line.started = started
                if is_whole:
                    self._print("✓", "green", name, self._told(line, event.at))
            case "StepSucceeded" if is_whole:
                self._print("✓", "green", name, self._told(line, event.at))
            case "StepSkipped" if is_whole:
                self._print("-", "dim", name, f"skipped: {skipped_because(event.data.get('reason'))}")
            case "StepFailed" if is_whole:
                self._print("✗", "bold red", name, str(event.data.get("message")))
            case _:
                pass

    def _told(self, line: Line, ended: float) -> str:
        if line.calls == 0:
            return "computed"
        if line.reused == line.calls:
            return f"{_calls(line.calls)}, reused"
        reused = f", {line.reused} reused" if line.reused else ""
        took = f", {ended - line.started:.2f} s" if line.started is not None else ""
        return f"{_calls(line.calls)}{reused}{took}"

    def _print(self, mark: str, style: str, name: str, told: str) -> None:
        self._console.print(
            Text.assemble("  ", (mark, style), f" {name:<{self._width}}  {told}"), soft_wrap=True
        )


def _calls(count: int) -> str:
    return "1 call" if count == 1 else f"{count} calls"
