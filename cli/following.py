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
from ..executor import Event, Run
from ..plans.nearest import listing
from . import screen
from .config import Settings
from .failure import Exit
from .progress import Progress
from .report import advice, errors_text, exit_of, leaves_in, summary
from .suggesting import resume_line


class Following:
    """One command's look at one run.

    Args:
        settings: For the flags that the commands need which it advises.
        as_json: Answer with the run's document.
    """

    def __init__(self, settings: Settings, *, as_json: bool) -> None:
        self._settings = settings
        self._as_json = as_json
        self._run_id: str | None = None
        self._under_way: tuple[str, ...] = ()

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

    @contextmanager
    def kept(self) -> Generator[None]:
        """Say how to go on, if what happens inside is interrupted; the engine is closed by then."""
        try:
            yield
        except asyncio.CancelledError:
            if self._run_id is None:
                message = "interrupted before a run began; nothing is left to do"
            else:
                during = f" while {listing(self._under_way)} ran" if self._under_way else ""
                line = resume_line(self._run_id, self._settings)
                message = f"interrupted{during}; run {self._run_id} is kept, go on with\n  {line}"
            if self._as_json:
                screen.document({"error": {"code": "interrupted", "message": message, "run": self._run_id}})
            else:
                screen.note(message)
            raise

    async def _watch(self, events: AsyncIterator[Event]) -> None:
        with Progress(is_quiet=self._as_json) as progress:
            async for event in events:
                progress.show(event)
