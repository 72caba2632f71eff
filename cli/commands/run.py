"""The commands that start a run, move it on, make another run of it, replay it and export it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import InputRejected
from .. import screen
from ..command import MOVES, STORE, AnyRun, Budget, CommandGroup, Inputs, PlanOrTask, RunId

if TYPE_CHECKING:
    from ...executor import Run
    from ...plans import Json, Plan
    from ..invocation import Invocation
    from ..remote import AnyEngine

commands = CommandGroup()

Yes = Annotated[
    bool,
    typer.Option("--yes", "-y", help="Run the plan that the planner makes of a task without a question."),
]


@commands.command(uses=MOVES, at_server=True, example="plan.yaml --tools tools.py --input today=2026-03-10")
async def run(
    invocation: Invocation,
    what: PlanOrTask,
    inputs: Inputs = None,
    run_id: str | None = None,
    seed: int | None = None,
    budget: Budget = None,
    deadline: str | None = None,
    priority: int | None = None,
    reuse: Annotated[bool, typer.Option("--reuse/--no-reuse")] = True,
    stream: bool = False,
    yes: Yes = False,
) -> int:
    """Run a plan, or plan a task and run it. On a terminal the plan of a task is shown first, and runs if you say yes.

    Args:
        what (PLAN|TASK): A plan's file (-: standard input), a saved plan's name, or a task in words.
        run_id (ID): Id of the run; the same id again continues that run.
        seed: Seed of `ctx.random`; default: derived from plan and inputs.
        deadline (2h|TIME): How long the run may take, or until when (ISO 8601).
        priority (1-5): Which runs get a place first: 1 first, 5 last; default: 3.
        reuse: Reuse earlier results where nothing changed.
        stream: Start steps while the plan is being written; writes wait for the complete plan.
    """
    from ..arguments import Task, checked, find_target, read_budget, read_inputs, read_task
    from ..following import RunFollower

    follower = RunFollower(invocation)
    async with follower.reach(makes_runs=True) as engine:
        before = await _find_run(engine, run_id)
        target = await find_target(engine, what)
        work: Plan | str
        if isinstance(target, Task):
            work = target.words
            follower.ask_about_plans(engine, is_agreed=yes or stream)
            values = await read_task(engine, work, inputs or (), invocation.settings)
        else:
            work, report = await checked(engine, target)
            values = read_inputs(inputs or (), work)
            if report.problems:
                invocation.note(str(report))
        submitted = await engine.submit(
            work,
            inputs=values,
            run_id=run_id,
            seed=seed,
            budget=read_budget(budget or ()),
            reuse="auto" if reuse else "off",
            stream=stream,
            deadline=deadline,
            priority=priority,
        )
        if before is not None:
            invocation.note(_existing(before))
        return await follower.follow(engine, submitted, after=before.last_event if before else 0)


async def _find_run(engine: AnyEngine, run_id: str | None) -> Run | None:
    from ...errors import RunNotFound

    try:
        return None if run_id is None else await engine.get(run_id)
    except RunNotFound:
        return None


def _existing(run: Run) -> str:
    """Return the note that the run of this id existed before this command."""
    from ...executor.states import FINAL

    if run.status in FINAL:
        return f"run {run.id} has ended before and is not repeated; this is its outcome"
    return f"run {run.id} exists already ({run.status}) and is continued"


@commands.command(uses=MOVES, at_server=True, example="run_be40097b6b473dae --tools tools.py --budget usd=2")
async def resume(
    invocation: Invocation,
    run_id: RunId,
    budget: Budget = None,
    take_over: bool = False,
    yes: Yes = False,
) -> int:
    """Continue a run after a crash or a decision. Also after a pause, or with a larger budget.

    Args:
        take_over: Take the run from a process that drives it and hangs.
    """
    from ...errors import ConfigError
    from ..arguments import read_budget
    from ..following import RunFollower
    from ..invocation import NO_TOOLS
    from ..report import retry_line

    raised = read_budget(budget or ())
    follower = RunFollower(invocation, has_changed=raised is not None)
    async with follower.reach() as engine:
        found = await engine.get(run_id)
        follower.ask_about_plans(engine, is_agreed=yes)
        try:
            resumed = engine.resume(run_id, budget=raised, take_over=take_over)
            code = await follower.follow(engine, found, resumed, after=found.last_event)
        except ConfigError as error:
            if len(invocation.toolset) or invocation.server is not None:
                raise
            raise ConfigError(f"{error.message}; {NO_TOOLS}") from error
        if found.status in ("failed", "cancelled"):
            line = retry_line(run_id, invocation.settings)
            invocation.note(f"the run has ended and never changes; continue it as a new run\n  {line}")
        return code


@commands.command(uses=STORE, at_server=True, example="run_be40097b6b473dae")
async def watch(invocation: Invocation, run_id: RunId) -> int:
    """Show a run's progress until it ends or waits. Nothing is driven: another process or a server runs it."""
    from ..following import RunFollower

    follower = RunFollower(invocation)
    async with follower.reach() as engine:
        return await follower.watch(engine, await engine.get(run_id))


NewId = Annotated[
    str | None,
    typer.Option(
        "--run-id", metavar="ID", help="Id of the new run; the same command again continues that run."
    ),
]


@commands.command(
    uses=MOVES, at_server=True, example="run_be40097b6b473dae --tools tools.py --run-id invoices-second-try"
)
async def retry(
    invocation: Invocation, run_id: RunId, new_id: NewId = None, replan: int = 0, deadline: str | None = None
) -> int:
    """Continue a failed or cancelled run as a new run. Calls that succeeded are not repeated; the others run.

    Args:
        replan (N): Patch the plan at most N times if the run fails.
        deadline (2h|TIME): How long the new run may take, or until when (ISO 8601).
    """
    from ..following import RunFollower

    follower = RunFollower(invocation)
    async with follower.reach() as engine:
        submitted = await engine.submit_retry(run_id, run_id_new=new_id, replan=replan, deadline=deadline)
        return await follower.follow(engine, submitted)


@commands.command(
    uses=MOVES, at_server=True, example="run_be40097b6b473dae --tools tools.py --at price --set rate=0.07"
)
async def fork(
    invocation: Invocation,
    run_id: RunId,
    at: str | None = None,
    values: Annotated[list[str] | None, typer.Option("--set")] = None,
    inputs: Inputs = None,
    plan: str | None = None,
    allow_writes: bool = False,
    new_id: NewId = None,
    deadline: str | None = None,
) -> int:
    """Repeat the steps that a change affects, as a new run. The other results come from the parent's journal.

    Args:
        at (STEP): Run this step again, and whatever depends on it.
        values (STEP=JSON): A value that replaces a step's; repeatable.
        plan (PLAN): An edited plan: a file (-: standard input), or a saved plan's name.
        allow_writes: Call affected writes; else each waits for approval.
        deadline (2h|TIME): How long the new run may take, or until when (ISO 8601).
    """
    from ..arguments import checked, find_plan, read_inputs, read_step_values
    from ..following import RunFollower

    replaced = read_step_values(values or ())
    follower = RunFollower(invocation)
    async with follower.reach() as engine:
        parent = await engine.get(run_id)
        edited = None if plan is None else (await checked(engine, await find_plan(engine, plan)))[0]
        submitted = await engine.submit_fork(
            run_id,
            at=at,
            set=replaced,
            inputs=read_inputs(inputs or (), edited or parent.plan),
            plan=edited,
            allow_writes=allow_writes,
            run_id_new=new_id,
            deadline=deadline,
        )
        return await follower.follow(engine, submitted)


@commands.command(uses=STORE, at_server=True, example="run_be40097b6b473dae")
async def replay(invocation: Invocation, what: AnyRun, keep: bool = False) -> None:
    """Replay a run from its journal. Nothing is called, and every digest must match.

    Args:
        what (RUN|BUNDLE): The run's id, or the file of an exported run.
        keep: Keep the replay as a run of its own.
    """
    from ...engine import Engine
    from ...errors import RunNotFound
    from ...executor.runs.replays import bundle_path
    from ...tools import Toolset

    is_bundle = bundle_path(what) is not None
    if is_bundle and not keep:  # needs no store
        replayed = await Engine(Toolset(), store=invocation.settings.store).replay(what)
    else:
        opened = invocation.engine() if is_bundle else invocation.reach()
        async with opened as engine:
            try:
                replayed = await engine.replay(what, keep=keep)
            except RunNotFound as error:
                raise RunNotFound(
                    f"expected a run's id or a bundle's file, found neither under '{what}': {error.message}"
                ) from error
    invocation.answer(replayed, _replay_text(replayed))
    if keep:
        screen.note(f"kept as run {replayed.id}, whose parent is {replayed.parent}")


def _replay_text(run: Run) -> str:
    """Return the two digests, one below the other. They are equal, because a replay that differs raises `Diverged`."""
    from ...executor.runs.run import counted, steps_in

    steps = counted(steps_in(run.steps))
    if not run.digest:
        return f"{steps} recomputed as far as the run has come ({run.status}), nothing called: the same"
    return f"recorded {run.digest}\nreplayed {run.digest}\n{steps} recomputed, nothing called: the same run"


@commands.command(uses=STORE, at_server=True, example="run_be40097b6b473dae --output run.bundle")
async def export(invocation: Invocation, run_id: RunId, output: Annotated[Path, typer.Option("-o")]) -> None:
    """Write a run into one file. It replays on another machine, without tools and store.

    Args:
        output (FILE): Where the bundle goes.
    """
    async with invocation.reach() as engine:
        written = await engine.export(run_id, output)
    invocation.answer(
        {"run": run_id, "bundle": str(written), "bytes": written.stat().st_size},
        f"run {run_id} is in {written}\nreplay it anywhere with\n  firmplan replay {shlex.quote(str(written))}",
    )


artifact_commands = commands.group(
    "artifacts",
    "List the artifacts of a run, show one, or get its bytes.",
    example="list run_be40097b6b473dae",
    does_something=False,
)


@artifact_commands.command(uses=STORE, at_server=True, example="run_be40097b6b473dae")
async def artifacts_list(invocation: Invocation, run_id: RunId) -> None:
    """List the artifacts in the inputs, the output and the steps of a run."""
    async with invocation.reach() as engine:
        found = _artifacts_of(await engine.get(run_id))
    rows = [
        (str(each["digest"]), str(each["media_type"]), str(each["size"]), str(each["name"])) for each in found
    ]
    head = ("DIGEST", "TYPE", "BYTES", "NAME")
    invocation.answer({"run": run_id, "artifacts": found}, screen.table(head, rows))


@artifact_commands.command(uses=STORE, at_server=True, example="run_be40097b6b473dae prices --rows 5")
async def artifacts_show(
    invocation: Invocation,
    run_id: RunId,
    artifact: Annotated[str | None, typer.Argument()] = None,
    rows: Annotated[int, typer.Option(min=1, max=1000)] = 10,
) -> None:
    """Show the first rows of a frame, an array or a text.

    Args:
        artifact (STEP|NAME|DIGEST): Its name or digest, or the step that returned it; may be left out if the run has only one.
        rows: How many.
    """
    from ...engine import Engine
    from ..report import preview_text

    async with invocation.reach() as engine:
        run = await engine.get(run_id)
        chosen = _chosen(_artifacts_of(run), run, artifact)
        if isinstance(engine, Engine):
            shown = await engine.preview_artifact(chosen, rows=rows)
        else:
            shown = await engine.preview_artifact(run_id, chosen, rows=rows)
    invocation.answer({"run": run_id, "artifact": chosen, **shown.to_dict()}, preview_text(shown))


@artifact_commands.command(
    uses=STORE, at_server=True, example="run_be40097b6b473dae report.pdf --output report.pdf"
)
async def artifacts_get(
    invocation: Invocation,
    run_id: RunId,
    artifact: Annotated[str | None, typer.Argument()] = None,
    output: Annotated[Path | None, typer.Option("-o")] = None,
) -> None:
    """Write the bytes of an artifact to a file, or to a pipe.

    Args:
        artifact (STEP|NAME|DIGEST): Its name or digest, or the step that returned it; may be left out if the run has only one.
        output (FILE): Where they go; without it to stdout, which must be no terminal.
    """
    from ...engine import Engine

    if output is None and (invocation.as_json or sys.stdout.isatty()):
        raise InputRejected("expected --output FILE: bytes are no text for a terminal, and no JSON")
    async with invocation.reach() as engine:
        run = await engine.get(run_id)
        chosen = _chosen(_artifacts_of(run), run, artifact)
        # A part at a time: an artifact may be larger than memory.
        if isinstance(engine, Engine):
            if output is not None:
                await engine.download_artifact(chosen, output)
            else:
                async for piece in engine.stream_artifact(chosen):
                    screen.put_bytes(piece)
        elif output is not None:
            await engine.download_artifact(run_id, chosen, output)
        else:
            async for piece in engine.stream_artifact(run_id, chosen):
                screen.put_bytes(piece)
    if output is None:
        return
    document = {"run": run_id, "artifact": chosen, "file": str(output)}
    invocation.answer(document, f"{screen.plural(int(str(chosen['size'])), 'byte')} written to {output}")


def _artifacts_of(run: Run) -> list[dict[str, Json]]:
    """Return the artifacts of a run, each once, by name and digest."""
    from ...executor.runs.run import artifacts_in

    found = {(str(each["name"]), str(each["digest"])): each for each in artifacts_in(run)}
    return [found[key] for key in sorted(found)]


def _chosen(found: list[dict[str, Json]], run: Run, wanted: str | None) -> dict[str, Json]:
    """Return the artifact that a command names. Raises: InputRejected: there is none, or more than one, of that name."""
    from ...executor.runs.run import artifacts_within

    fits = [each for each in found if wanted is None or wanted in (each["name"], each["digest"])]
    if not fits and wanted is not None and wanted in run.steps:
        fits = list(artifacts_within(run.steps[wanted].output))
    if len({str(each["digest"]) for each in fits}) == 1:
        return fits[0]
    known = ", ".join(f"{each['name'] or 'without a name'} ({each['digest']})" for each in found) or "none"
    asked = "one artifact" if wanted is None else f"one artifact '{wanted}'"
    raise InputRejected(f"expected {asked} of run {run.id}, found {len(fits)}; the run has {known}")
