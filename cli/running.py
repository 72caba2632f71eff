"""`run`, `resume`, `replay` and `export`: start one run, move it on, look whether it can be repeated exactly, take it along."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..engine import Engine
from ..errors import ConfigError, RunNotFound
from ..executor import Run
from ..executor.runs.replays import bundle_path
from ..executor.runs.run import counted, steps_in
from ..executor.states import FINAL
from ..plans import Plan
from ..tools import Toolset
from . import screen
from .config import Settings
from .failure import Exit
from .following import Following
from .session import NO_TOOLS, drive, load_toolset, look, open_engine, settings_of
from .suggesting import retry_line
from .target import Task, checked, find_target
from .tasks import read_task
from .values import read_budget, read_inputs


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What stood on the command line of `run`."""

    what: str
    inputs: tuple[str, ...]
    run_id: str | None
    seed: int | None
    budget: tuple[str, ...]
    reuse: bool
    stream: bool


def run_command(request: RunRequest, flags: Mapping[str, object], *, as_json: bool) -> int:
    """Run a plan or a task to its end, or until it waits."""
    settings = settings_of(flags)
    toolset = load_toolset(settings)

    async def work() -> int:
        following = Following(settings, as_json=as_json)
        with following.kept():
            async with open_engine(settings, toolset, on_waiting=following.tell_owner) as engine:
                before = await _before(engine, request.run_id)
                run = await _submit(engine, request, settings, as_json=as_json)
                if before is not None and not as_json:
                    screen.note(_told_before(before))
                return await following.follow(engine, run, after=before.last_event if before else 0)

    return drive(work)


def resume_command(
    run_id: str, budget: tuple[str, ...], flags: Mapping[str, object], *, take_over: bool, as_json: bool
) -> int:
    """Go on with a run to its end, or until it waits."""
    settings = settings_of(flags)
    toolset = load_toolset(settings)
    raised = read_budget(budget)

    async def work() -> int:
        following = Following(settings, as_json=as_json, has_changed=raised is not None)
        with following.kept():
            async with look(settings, toolset, on_waiting=following.tell_owner) as engine:
                run = await engine.get(run_id)
                try:
                    going_on = engine.resume(run_id, budget=raised, take_over=take_over)
                    code = await following.follow(engine, run, going_on, after=run.last_event)
                except ConfigError as fault:
                    if len(toolset):
                        raise
                    raise ConfigError(f"{fault.message}; {NO_TOOLS}") from fault
                if run.status in ("failed", "cancelled") and not as_json:
                    line = retry_line(run_id, settings)
                    screen.note(f"the run has ended and never changes; continue it as a new run\n  {line}")
                return code

    return drive(work)


def replay_command(run_or_bundle: str, flags: Mapping[str, object], *, keep: bool, as_json: bool) -> int:
    """Replay a run or a bundle, and show the two digests that have to be equal. Needs no tools, and for a bundle no store."""
    settings = settings_of(flags)

    async def work() -> int:
        if bundle_path(run_or_bundle) is not None and not keep:
            replayed = await Engine(Toolset(), store=settings.store).replay(run_or_bundle)
        else:
            opened = look if bundle_path(run_or_bundle) is None else open_engine
            async with opened(settings) as engine:
                replayed = await _replayed(engine, run_or_bundle, keep=keep)
        if as_json:
            screen.document(replayed.to_dict())
        else:
            screen.answer(replay_text(replayed))
        if keep:
            screen.note(f"kept as run {replayed.id}, whose parent is {replayed.parent}")
        return Exit.OK

    return drive(work)


async def _replayed(engine: Engine, run_or_bundle: str, *, keep: bool) -> Run:
    try:
        return await engine.replay(run_or_bundle, keep=keep)
    except RunNotFound as fault:
        raise RunNotFound(
            f"expected a run's id or a bundle's file, found neither under '{run_or_bundle}': {fault.message}"
        ) from fault


def export_command(run_id: str, path: Path, flags: Mapping[str, object], *, as_json: bool) -> int:
    """Write a run into a bundle."""
    settings = settings_of(flags)

    async def work() -> int:
        async with look(settings) as engine:
            written = await engine.export(run_id, path)
        if as_json:
            screen.document({"run": run_id, "bundle": str(written), "bytes": written.stat().st_size})
        else:
            screen.answer(
                f"run {run_id} is in {written}\nreplay it anywhere with\n  firmplan replay {shlex.quote(str(written))}"
            )
        return Exit.OK

    return drive(work)


def replay_text(run: Run) -> str:
    """Return the two digests, one below the other, and what their equality means: else the replay had diverged."""
    steps = counted(steps_in(run.steps))
    if not run.digest:
        return f"{steps} recomputed as far as the run has come ({run.status}), nothing called: the same"
    return f"recorded {run.digest}\nreplayed {run.digest}\n{steps} recomputed, nothing called: the same run"


def _told_before(run: Run) -> str:
    if run.status in FINAL:
        return f"the run {run.id} has ended before, and is not run again: this is what came of it"
    return f"the run {run.id} is there already ({run.status}), and is gone on with"


async def _before(engine: Engine, run_id: str | None) -> Run | None:
    """Return the run that has that name already, if one has."""
    if run_id is None:
        return None
    with suppress(RunNotFound):
        return await engine.get(run_id)
    return None


async def _submit(engine: Engine, request: RunRequest, settings: Settings, *, as_json: bool) -> Run:
    """Hand the plan or the task to the engine; warnings of the check are shown first."""
    target = await find_target(engine, request.what)
    what: Plan | str
    if isinstance(target, Task):
        what = target.words
        inputs = await read_task(engine, what, request.inputs, settings)
    else:
        plan, report = await checked(engine, target)
        what = plan
        inputs = read_inputs(request.inputs, plan)
        if report.problems and not as_json:
            screen.note(str(report))
    return await engine.submit(
        what,
        inputs=inputs,
        run_id=request.run_id,
        seed=request.seed,
        budget=read_budget(request.budget),
        reuse="auto" if request.reuse else "off",
        stream=request.stream,
    )
