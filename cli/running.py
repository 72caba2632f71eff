"""`run`, `resume` and `replay`: start one run, move it on, or look whether it can be repeated exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..engine import Engine
from ..executor import Run
from ..plans import Plan
from . import screen
from .failure import Exit
from .following import Following
from .session import drive, load_toolset, open_engine, settings_of
from .target import Task, checked, find_target
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


def run_command(request: RunRequest, flags: Mapping[str, object], *, as_json: bool) -> int:
    """Run a plan or a task to its end, or until it waits."""
    settings = settings_of(flags)
    toolset = load_toolset(settings)

    async def work() -> int:
        following = Following(settings, as_json=as_json)
        with following.kept():
            async with open_engine(settings, toolset) as engine:
                return await following.follow(engine, await _submit(engine, request, as_json=as_json))

    return drive(work)


def resume_command(
    run_id: str, budget: tuple[str, ...], flags: Mapping[str, object], *, as_json: bool
) -> int:
    """Go on with a run to its end, or until it waits."""
    settings = settings_of(flags)
    toolset = load_toolset(settings)
    raised = read_budget(budget)

    async def work() -> int:
        following = Following(settings, as_json=as_json)
        with following.kept():
            async with open_engine(settings, toolset) as engine:
                run = await engine.get(run_id)
                return await following.follow(engine, run, engine.resume(run_id, budget=raised))

    return drive(work)


def replay_command(run_id: str, flags: Mapping[str, object], *, as_json: bool) -> int:
    """Replay a run, and show the two digests that have to be equal. Needs no tools."""
    settings = settings_of(flags)

    async def work() -> int:
        async with open_engine(settings) as engine:
            recorded = await engine.get(run_id)
            replayed = await engine.replay(run_id)
        if as_json:
            screen.document(replayed.to_dict())
        else:
            screen.answer(replay_text(recorded, replayed))
        return Exit.OK

    return drive(work)


def replay_text(recorded: Run, replayed: Run) -> str:
    """Return the two digests, one below the other, and what their equality means."""
    if not recorded.digest:
        steps = screen.plural(len(replayed.steps), "step")
        return f"{steps} recomputed as far as the run has come ({recorded.status}), nothing called: the same"
    return (
        f"recorded {recorded.digest}\n"
        f"replayed {replayed.digest}\n"
        f"{screen.plural(len(replayed.steps), 'step')} recomputed, nothing called: the same run"
    )


async def _submit(engine: Engine, request: RunRequest, *, as_json: bool) -> Run:
    """Hand the plan or the task to the engine; warnings of the check are shown first."""
    target = await find_target(engine, request.what)
    what: Plan | str
    plan: Plan | None = None
    if isinstance(target, Task):
        what = target.words
    else:
        plan, report = await checked(engine, target)
        what = plan
        if report.problems and not as_json:
            screen.note(str(report))
    return await engine.submit(
        what,
        inputs=read_inputs(request.inputs, plan),
        run_id=request.run_id,
        seed=request.seed,
        budget=read_budget(request.budget),
        reuse="auto" if request.reuse else "off",
    )
