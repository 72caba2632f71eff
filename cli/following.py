"""Follow one run: its progress while it moves, its outcome when it stops, and how to go on when it was interrupted.

The answer goes to stdout: the output, or what a person has to do; all else goes to stderr.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Generator
from contextlib import contextmanager, suppress
from typing import Any

from ..engine import Engine
from ..errors import FirmplanError
from ..executor import Event, Run, RunOwner
from ..plans.nearest import listing
from . import screen
from .config import Settings
from .failure import Exit
from .progress import Progress
from .report import advice, errors_text, exit_of, leaves_in, summary
from .screen import seconds
from .suggesting import resume_line


class Following:
    """One command's look at one run.

    Args:
        settings: For the flags that the commands need which it advises.
        as_json: Answer with the run's document.
        has_changed: Whether the command decides about the run, whoever drives it.
    """

    def __init__(self, settings: Settings, *, as_json: bool, has_changed: bool = False) -> None:
        self._settings = settings
        self._as_json = as_json
        self._run_id: str | None = None
        self._has_changed = has_changed
        self._under_way: tuple[str, ...] = ()
        self._other: RunOwner | None = None  # who goes on with the run after an interrupt
        self._told: str | None = None  # of which process was said that it is waited for

    async def follow(
        self, engine: Engine, run: Run, resumed: Coroutine[Any, Any, Run] | None = None, *, after: int = 0
    ) -> int:
        """Show the run's progress until it ends or waits, then its outcome; return the exit code.

        Args:
            engine: What drives the run.
            run: The run as it stood when it was submitted.
            resumed: What moves the run, where submitting it did not.
            after: The last event that was there before.
        """
        self._run_id = run.id
        if not self._as_json:
            screen.note(f"run {run.id}")
        moving = asyncio.ensure_future(resumed or engine.wait(run.id))
        watching = asyncio.ensure_future(self._watch(engine.events(run.id, after)))
        try:
            run = await moving
            await watching
        except asyncio.CancelledError:
            with suppress(FirmplanError):
                owner = await engine.find_owner(run.id)
                self._other = owner if owner is not None and not owner.is_here else None
                self._under_way = tuple(leaves_in(await engine.get(run.id), "running"))
            raise
        finally:
            for task in (moving, watching):
                task.cancel()
            await asyncio.gather(moving, watching, return_exceptions=True)
        return self.tell(run)

    def tell(self, run: Run) -> int:
        """Show the outcome and return its exit code."""
        code = exit_of(run)
        if self._as_json:
            screen.document(run.to_dict())
            return code
        screen.note(summary(run))
        if run.status == "succeeded":
            screen.answer(screen.value_text(run.output))
        elif code is Exit.WAITING:
            if run.status == "parked":
                screen.note(errors_text(run))
            screen.answer(advice(run, self._settings))
        else:
            screen.note(errors_text(run) or f"the run was {run.status}")
        return code

    def tell_owner(self, owner: RunOwner) -> None:
        """Say for which process this command waits, and how the run is taken from it; once of each."""
        if owner.process == self._told:
            return
        self._told = owner.process
        screen.note(
            f"run {owner.run} is driven by {owner.process}, whose last record of it is {seconds(owner.silent_s)} old; this command waits "
            f"for it. If that process hangs, take the run from it with\n  {resume_line(owner.run, self._settings)} --take-over"
        )

    @contextmanager
    def kept(self) -> Generator[None]:
        """Say how to go on, if what happens inside is interrupted; the engine is closed by then."""
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
        return f"interrupted{during}; run {run_id} is kept, go on with\n  {line}"

    async def _watch(self, events: AsyncIterator[Event]) -> None:
        with Progress(is_quiet=self._as_json) as progress:
            async for event in events:
                progress.show(event)
