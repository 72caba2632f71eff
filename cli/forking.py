"""`fork` and `retry`: a new run that repeats the steps that a change affects, or that continues a failed run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..engine import Engine
from ..executor import Run
from ..plans import Json, Plan
from .following import Following
from .session import drive, load_toolset, look, settings_of
from .target import checked, find_plan
from .values import read_inputs, read_step_values


@dataclass(frozen=True, slots=True)
class ForkRequest:
    """What stood on the command line of `fork`."""

    run_id: str
    at: str | None
    values: tuple[str, ...]
    inputs: tuple[str, ...]
    plan: str | None
    allow_writes: bool
    new_id: str | None


def fork_command(request: ForkRequest, flags: Mapping[str, object], *, as_json: bool) -> int:
    """Fork a run, and follow the new one to its end, or until it waits."""
    settings = settings_of(flags)
    toolset = load_toolset(settings)
    values = read_step_values(request.values)

    async def work() -> int:
        following = Following(settings, as_json=as_json)
        with following.kept():
            async with look(settings, toolset) as engine:
                return await following.follow(engine, await _submit(engine, request, values))

    return drive(work)


async def _submit(engine: Engine, request: ForkRequest, values: Mapping[str, Json]) -> Run:
    parent = await engine.get(request.run_id)
    plan: Plan | None = None
    if request.plan is not None:
        plan, _ = await checked(engine, await find_plan(engine, request.plan))
    return await engine.submit_fork(
        request.run_id,
        at=request.at,
        set=values,
        inputs=read_inputs(request.inputs, plan or parent.plan),
        plan=plan,
        allow_writes=request.allow_writes,
        run_id_new=request.new_id,
    )


def retry_command(
    run_id: str, new_id: str | None, replan: int, flags: Mapping[str, object], *, as_json: bool
) -> int:
    """Continue an ended run as a new run, and follow the new run until it ends or waits."""
    settings = settings_of(flags)
    toolset = load_toolset(settings)

    async def work() -> int:
        following = Following(settings, as_json=as_json)
        with following.kept():
            async with look(settings, toolset) as engine:
                run = await engine.submit_retry(run_id, run_id_new=new_id, replan=replan)
                return await following.follow(engine, run)

    return drive(work)
