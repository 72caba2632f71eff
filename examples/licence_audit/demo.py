"""`firmplan demo`: the main job from a task in words to a strict replay, shown while it happens.

Everything is real: the planner talks HTTP, its draft is checked, repaired and run by the engine. Only the model is a
recording where no key and no endpoint is set; the screen says so. All files go to one folder, and each demonstration
makes new runs there, so that one that was killed leaves nothing that the next could trip over.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, chdir
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from firmplan import ConfigError, Engine, Planner, Toolset, check
from firmplan.cli.config import Settings
from firmplan.cli.failure import Exit
from firmplan.cli.invocation import drive
from firmplan.cli.report import report_text
from firmplan.cli.screen import ASCII_HANDLER, picture_width
from firmplan.plans.reports.visible import visible
from firmplan.testing import ScriptedModel
from firmplan.tools.models.endpoint import OPENAI_URL
from rich.console import Console
from rich.text import Text

from .board import Board

if TYPE_CHECKING:
    from firmplan import Plan, Run
    from firmplan.planner import Planned

HERE = Path(__file__).parent
TASK = (HERE / "task.txt").read_text(encoding="utf-8").strip()
STORE = "demo.db"
REPORT_LINES_SHOWN = 9

LIVE_MODEL = "gpt-5-mini"
"""The model that is asked at OpenAI's own address where `FIRMPLAN_MODEL` names none."""

NEXT_STEPS = """\
With a model      export OPENAI_API_KEY=..   (or FIRMPLAN_BASE_URL=http://127.0.0.1:8080/v1)
                  export FIRMPLAN_MODEL=..   then again: {command} demo
With your tools   {command} run "a task in words" --tools tools.py
Without a model   {command} run plan.yaml --tools tools.py
As a server       {command} serve --tools tools.py      (with the extra firmplan[server])
What happened     {command} runs --store {store}"""


class Screen(Console):
    """A console that raises an ordinary error if the pipe is closed; rich's own console would end the process inside the event loop."""

    def on_broken_pipe(self) -> None:
        """Raise the error that says that the reader has closed the pipe."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the demonstration takes place."""

    console: Console
    toolset: Toolset
    folder: Path

    def title(self, text: str) -> None:
        """Begin a section."""
        self.console.print()
        self.console.rule(Text(visible(text), style="bold"), align="left")

    def say(self, text: str, style: str = "") -> None:
        """Print a sentence or more; a terminal gets it broken between words."""
        self.console.print(Text(visible(text), style=style), soft_wrap=not self.console.is_terminal)

    def show(self, text: str, style: str = "") -> None:
        """Print what has lines of its own: a picture, a document, a digest."""
        self.console.print(Text(visible(text), style=style), soft_wrap=True)


def show(folder: Path | None, settings: Settings) -> int:
    """Show the whole of firmplan on one task; return the exit code."""
    chosen = Path(tempfile.mkdtemp(prefix="firmplan-demo-")) if folder is None else folder.resolve()
    try:
        chosen.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"expected a folder that can be written, found {chosen}: {error.strerror}"
        ) from error
    if reconfigure := getattr(sys.stdout, "reconfigure", None):
        reconfigure(errors=ASCII_HANDLER)  # a terminal without box drawing gets other signs, not an error
    stage = Stage(Screen(highlight=False), Toolset.load(f"{__package__}.tools"), chosen)
    with chdir(chosen):
        return drive(lambda: _demonstrate(stage, settings))


async def _demonstrate(stage: Stage, settings: Settings) -> int:
    stage.title("The task")
    stage.say(TASK, "bold cyan")
    stage.say(f"All files go to {stage.folder}")
    async with _planner(stage, settings) as planner:
        plan = await _plan(stage, planner)
        async with Engine(
            stage.toolset, store=STORE, planner=planner, max_concurrency=settings.concurrency
        ) as engine:
            first = await _run(stage, engine, plan, "The run: every step as it ends")
            if first.status != "succeeded":
                return Exit.FAILED
            _show_answer(stage, first)
            second = await _run(
                stage, engine, plan, "The same again: all reused, but the write and what is only computed"
            )
            stage.title("A strict replay of the first run: nothing is called")
            replayed = await engine.replay(first.id)
    return _compare(stage, first, second, replayed)


@asynccontextmanager
async def _planner(stage: Stage, settings: Settings) -> AsyncGenerator[Planner]:
    """Yield a planner: at the endpoint that is set, else at a recorded model behind a real HTTP server."""
    if os.environ.get("OPENAI_API_KEY") or settings.base_url:
        name = settings.model or (None if settings.base_url else LIVE_MODEL)
        stage.say(f"Planned by the model {name or 'that is set'} at {settings.base_url or OPENAI_URL}")
        planner = Planner(name, base_url=settings.base_url)
        yield planner
        await planner.aclose()
        return
    async with ScriptedModel(HERE / "recording.json") as model:
        stage.say(
            "No key and no endpoint is set, so the model's answers come from a recording, over real HTTP from "
            f"{model.base_url}",
            "yellow",
        )
        planner = Planner("recorded", base_url=model.base_url, api_key="recorded")
        yield planner
        await planner.aclose()


async def _plan(stage: Stage, planner: Planner) -> Plan:
    stage.title("The plan: drafted by the model, checked like a program")
    with stage.console.status("the model writes a plan"):
        planned = await planner.plan(TASK, stage.toolset)
    _show_attempts(stage, planned)
    stage.say("")
    stage.show(planned.plan.render("text", stage.toolset, width=picture_width()))
    stage.show(f"\nThe check: {report_text(check(planned.plan, stage.toolset))}")
    stage.show(f"The plan's digest: {planned.plan.digest}")
    return planned.plan


def _show_attempts(stage: Stage, planned: Planned) -> None:
    """Show what the check said to each draft, and that the faults went back to the model."""
    for number, attempt in enumerate(planned.attempts, start=1):
        faults = [problem for problem in attempt.problems if problem.severity == "error"]
        if not faults:
            stage.say(f"Draft {number} passes the check.", "green")
            continue
        stage.say(f"Draft {number} does not pass the check; this goes back to the model:", "yellow")
        for fault in faults:
            stage.say(f"  {fault.code} at {fault.path}:")
            stage.say(f"    {fault.message}; {fault.hint}")


async def _run(stage: Stage, engine: Engine, plan: Plan, title: str) -> Run:
    stage.title(title)
    run = await engine.submit(plan)
    with Board(stage.console, plan) as board:
        async for event in engine.events(run.id):
            board.show(event)
    run = await engine.wait(run.id)
    for error in run.errors:
        stage.say(f"step '{error.step}' failed [{error.code}]: {error.message}", "red")
    calls, reused = run.usage.get("calls"), run.usage.get("reused")
    stage.say(
        f"Run {run.id} {run.status}: {calls} made, {reused} reused, of the calls that the plan asked for."
    )
    return run


def _show_answer(stage: Stage, run: Run) -> None:
    stage.title("The answer")
    stage.show(json.dumps(run.output, indent=2, ensure_ascii=False))
    written = run.output.get("report") if isinstance(run.output, dict) else None
    report = stage.folder / str(written or "licences.md")
    if report.is_file():
        stage.say(f"\nThe report, {report}, begins:")
        lines = report.read_text(encoding="utf-8").splitlines()
        stage.show("\n".join(f"  {line}" for line in lines[:REPORT_LINES_SHOWN]), "dim")


def _compare(stage: Stage, first: Run, second: Run, replayed: Run) -> int:
    """Show the digests, what follows from them, and where to go from here."""
    for name, run in (("first run", first), ("second run", second), ("replay", replayed)):
        stage.show(f"  {name:<10}  {run.digest}")
    stage.say(
        f"{len(replayed.steps)} steps, items included, were computed again from the journal; nothing was called."
    )
    is_same = first.digest == second.digest == replayed.digest
    if is_same:
        stage.say(
            "The digests are equal: plan, inputs, every step's status and every value are the same.",
            "bold green",
        )
    else:
        stage.say("The digests differ: `firmplan diff` shows where.", "bold red")
    stage.title("What to try next")
    stage.show(NEXT_STEPS.format(command=_command(), store=stage.folder / STORE))
    return Exit.OK if is_same else Exit.DIVERGED


def _command() -> str:
    """Return how this shell calls firmplan: by its name where that is found, else by its path."""
    return "firmplan" if shutil.which("firmplan") else str(Path(sys.executable).with_name("firmplan"))
