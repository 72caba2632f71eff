"""Follow one run: its progress while it moves, its outcome when it stops, and how to continue it after an interrupt.

The answer goes to stdout: the output, or what a person has to do. Everything else goes to stderr. Progress (`progress.py`) is made from the
journal's events, so it looks the same for a run that is started, resumed, watched or demonstrated.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

from ..engine import Engine
from ..errors import FirmplanError
from ..plans.reports.nearest import listing
from . import screen
from .failure import Exit
from .invocation import Invocation
from .progress import Progress
from .report import (
    advice,
    continues_elsewhere,
    errors_text,
    exit_of,
    labels_text,
    leaves_in,
    plan_text,
    resume_line,
    summary,
    view_of,
    warnings_text,
    watch_line,
)
from .screen import seconds

if TYPE_CHECKING:
    from ..executor import Run, RunOwner, WaitingCalls
    from ..plans import Plan
    from .remote import AnyEngine


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
        self._watches = False
        self._server = invocation.server
        self._under_way: tuple[str, ...] = ()
        self._other: RunOwner | None = None  # who drives the run after an interrupt
        self._noted: str | None = None  # the process about which `note_owner` has printed its note
        self._progress: Progress | None = None
        self._shows_plan = not invocation.as_json
        self._invocation = invocation

    async def follow(
        self, engine: AnyEngine, run: Run, resumed: Coroutine[Any, Any, Run] | None = None, *, after: int = 0
    ) -> int:
        """Print the run's progress until the run ends or waits, then its outcome; return the exit code.

        Args:
            engine: The engine that drives the run.
            run: The run as it stood when it was submitted.
            resumed: The coroutine that moves the run, if submitting it did not start it.
            after: Number of the last event that is not to be printed.
        """
        if isinstance(engine, Engine):
            return await self._follow(engine, run, resumed or engine.wait(run.id), after)
        self._run_id = run.id
        if resumed is not None:  # the server answers as soon as it goes on with the run
            await resumed
        return await self._follow(engine, run, None, after)

    async def watch(self, engine: AnyEngine, run: Run) -> int:
        """Print all of the run's progress as `follow` does, and drive nothing."""
        self._watches = True
        return await self._follow(engine, run, None, 0)

    async def _follow(
        self, engine: AnyEngine, run: Run, moved: Coroutine[Any, Any, Run] | None, after: int
    ) -> int:
        self._run_id = run.id
        if not self._as_json:
            screen.note(f"run {run.id}")
        # One task moves the run, the other prints its events. Events come from the journal and not from the driver, so that a run that
        # another process drives is followed in the same way.
        tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._show(engine, run, after))]
        if moved is not None:
            tasks.append(asyncio.ensure_future(moved))
        try:
            # The iterator of events ends by itself after the last durable event; not waiting for it would cut off the last lines.
            if moved is not None:
                run = await tasks[1]
            await tasks[0]
            if moved is None:
                run = await engine.get(run.id)
            waiting = None if self._as_json else await view_of(engine, run)
        except asyncio.CancelledError:
            # Who drives the run, and which steps ran, can be asked only while the engine is open. If the store fails now, the interrupt
            # counts all the same, and its message has less to say.
            if moved is not None and isinstance(engine, Engine):
                with suppress(FirmplanError):
                    owner = await engine.find_owner(run.id)
                    self._other = owner if owner is not None and not owner.is_here else None
                    self._under_way = tuple(leaves_in(await engine.get(run.id), "running"))
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
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
            screen.answer(screen.value_text(run.output), is_data=True)
            if labels := labels_text(run):
                screen.note(labels)
        elif code is Exit.WAITING:
            if run.status == "parked":
                screen.note(errors_text(run))
            screen.answer(advice(run, self._settings, waiting))
        else:
            screen.note(errors_text(run) or f"the run was {run.status}")
        return code

    def ask_about_plans(self, engine: AnyEngine, *, is_agreed: bool) -> None:
        """Have the plan that a planner makes of a task confirmed before it runs, where a person is at the terminal.

        Without a person (`--json`, a pipe, a job of a scheduler) nobody could answer: the plan runs, and is printed on stderr.
        """
        has_person = sys.stdin.isatty() and sys.stderr.isatty()
        if isinstance(engine, Engine) and has_person and not is_agreed and not self._as_json:
            engine.confirm_plans(self._confirm)

    async def _confirm(self, run_id: str, plan: Plan) -> bool:
        """Print the plan of a run, and return whether the person at the terminal wants it to run."""
        del run_id
        with self._progress.paused() if self._progress is not None else nullcontext():
            self._show_plan(plan)
            return await screen.ask("run this plan? [y/N] ")

    def _show_plan(self, plan: Plan) -> None:
        if self._shows_plan:
            self._shows_plan = False
            screen.note(plan_text(plan, self._invocation.loaded_toolset))

    def note_owner(self, owner: RunOwner) -> None:
        """Print once for each process that this command waits for it, and how to take the run from it."""
        if owner.process == self._noted:
            return
        self._noted = owner.process
        screen.note(
            f"run {owner.run} is driven by {owner.process}, whose last record of it is {seconds(owner.silent_s)} old; this command waits "
            f"for it. If that process hangs, take the run from it with\n  {resume_line(owner.run, self._settings)} --take-over"
        )

    @asynccontextmanager
    async def reach(self, *, makes_runs: bool = False) -> AsyncGenerator[AnyEngine]:
        """Yield the engine, or the server, of the run; if the block is interrupted, print how to continue the run.

        Args:
            makes_runs: Whether a missing store is made.

        Raises:
            ConfigError: As of `Invocation.reach`.
        """
        # The message comes last: who drives the run is settled only when the engine is closed.
        with self._interruptible():
            async with self._invocation.reach(makes_runs=makes_runs, on_waiting=self.note_owner) as engine:
                yield engine

    @contextmanager
    def _interruptible(self) -> Generator[None]:
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
        if self._server is not None:
            return f"interrupted; run {run_id} goes on at {self._server}; watch it with\n  {watch_line(run_id, self._settings)}"
        if self._watches:
            return f"interrupted; run {run_id} is as it was: this command only watched; watch it again with\n  {watch_line(run_id, self._settings)}"
        if (other := continues_elsewhere(self._settings)) is not None:
            return f"interrupted; run {run_id} is kept, and {other} drives it; watch it with\n  {watch_line(run_id, self._settings)}"
        line = resume_line(run_id, self._settings)
        if self._other is not None:
            unchanged = "" if self._has_changed else ", and this command changed nothing"
            return f"interrupted; run {run_id} goes on in {self._other.process}{unchanged}; wait for it with\n  {line}"
        during = f" while {listing(self._under_way)} ran" if self._under_way else ""
        return f"interrupted{during}; run {run_id} is kept; continue it with\n  {line}"

    async def _show(self, engine: AnyEngine, run: Run, after: int) -> None:
        events = engine.events(run.id, after)
        with Progress(run, after, is_quiet=self._as_json) as progress:
            self._progress = progress
            async for event in events:
                if event.type == "RunStarted" and progress.counts.total is None:
                    planned = await engine.get(run.id)  # the plan of a task is made now
                    progress.counts.know(planned)
                    if planned.plan is not None:
                        with progress.paused():
                            self._show_plan(planned.plan)
                elif progress.counts.lacks_length_of(event.step):
                    progress.counts.know(await engine.get(run.id))
                progress.show(event)
