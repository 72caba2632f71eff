"""The commands about schedules: make, list, show, pause, resume and remove them. `firmplan serve` starts their runs, or `schedules fire`, or the workers of a fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import screen
from ..command import MOVES, STORE, TOOLS_AND_STORE, Budget, CommandGroup, Inputs, login_name
from ..failure import Exit

if TYPE_CHECKING:
    from ...engine import Engine
    from ...schedules import Fire, Schedule
    from ..invocation import Invocation

commands = CommandGroup()
schedule_commands = commands.group(
    "schedules",
    "Run saved plans every so often, or by cron. Without a further word, list the schedules.",
)

ScheduleName = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]
FIRES_SHOWN = 10
NEXT_SHOWN = 5
_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


@schedule_commands.command(
    uses=TOOLS_AND_STORE, example="hourly-report --plan report --every 1h --tools tools.py"
)
async def schedules_add(
    invocation: Invocation,
    name: ScheduleName,
    plan: Annotated[str, typer.Option("--plan", metavar="PLAN", help="A saved plan's name or digest.")],
    every: str | None = None,
    cron: str | None = None,
    tz: str | None = None,
    inputs: Inputs = None,
    budget: Budget = None,
    deadline: str | None = None,
    priority: int | None = None,
    time_input: str | None = None,
    catch_up: str | None = None,
    catch_up_max: int | None = None,
    overlap: str | None = None,
    start: str | None = None,
    paused: bool = False,
    replace: bool = False,
) -> None:
    """Run a saved plan every so often, or by cron. A server on this store starts the runs.

    Args:
        every (DURATION): The time between two runs, such as 1h.
        cron (CRON): Five fields, such as '0 8 * * 1-5', in place of --every.
        tz (ZONE): Time zone of --cron, such as Europe/Berlin; default: UTC.
        deadline (2h): How long each run may take, waits included.
        priority (1-5): Which runs get a place first: 1 first, 5 last; default: 3.
        time_input (NAME): The input that gets the time of the schedule.
        catch_up (RULE): Times that no server was there for: latest (default), skip, all.
        catch_up_max (N): Most times that --catch-up all runs; default: 100.
        overlap (RULE): While an earlier run has not ended: skip (default), allow, queue, cancel.
        start (TIME): First time, such as 2026-12-24T18:00:00+01:00; default: now.
        paused: Make it without letting it run yet.
        replace: Change the schedule if there is one of that name.
    """
    from ...executor.runs.archive import qualified, split_name
    from ...schedules import ANY_REVISION
    from ..arguments import get_saved_plan, read_budget, read_inputs

    async with invocation.engine() as engine:
        saved = qualified(plan, split_name(name)[0])
        values = read_inputs(inputs or (), await get_saved_plan(engine, saved))
        made = await engine.add_schedule(
            name,
            plan,
            every=every,
            cron=cron,
            tz=tz,
            inputs=values,
            budget=read_budget(budget or ()),
            deadline=deadline,
            priority=priority,
            time_input=time_input,
            catch_up=catch_up,  # type: ignore[arg-type]  # the engine names the rules that there are
            catch_up_max=catch_up_max,
            overlap=overlap,  # type: ignore[arg-type]  # the same
            start=start,
            paused=paused,
            by=login_name(),
            replaces=ANY_REVISION if replace else None,
        )
        _answer_state(invocation, engine, made, "added")


@schedule_commands.command(uses=STORE, is_default=True, example="--json")
async def schedules_list(invocation: Invocation) -> None:
    """List the schedules, with the next time and the last one."""
    async with invocation.look() as engine:
        found = await engine.list_schedules(tenant=None)
        last = {each.full_name: await engine.schedule_fires(each.full_name, limit=1) for each in found}
    document = {
        "schedules": [
            {**each.to_dict(), "fires": [fire.to_dict() for fire in last[each.full_name]]} for each in found
        ]
    }
    if not found and not invocation.as_json:
        screen.note("no schedules; make one with `firmplan schedules add NAME --plan PLAN --every 1h`")
        return
    rows = [
        (
            each.full_name,
            each.plan,
            _when(each),
            "paused" if each.paused else _moment(each.next_at),
            " ".join(f"{screen.moment(fire.at)} {fire.state}" for fire in last[each.full_name]),
        )
        for each in found
    ]
    invocation.answer(document, screen.table(("NAME", "PLAN", "WHEN", "NEXT", "LAST"), rows))


@schedule_commands.command(uses=STORE, example="hourly-report")
async def schedules_show(invocation: Invocation, name: ScheduleName) -> None:
    """Show a schedule, its next times, and what became of the last ones."""
    from ...plans.durations import duration_text

    async with invocation.look() as engine:
        found = await engine.get_schedule(name)
        fires = await engine.schedule_fires(name, limit=FIRES_SHOWN)
        times = engine.next_times(found, NEXT_SHOWN)
    document = {**found.to_dict(), "next": times, "fires": [fire.to_dict() for fire in fires]}
    facts = [
        f"{name}: plan {screen.one_line(found.plan)}, {_when(found)}{', paused' if found.paused else ''}",
        f"catch-up {found.catch_up}, overlap {found.overlap}",
    ]
    if found.deadline is not None:
        facts.append(f"each run is cancelled after {duration_text(found.deadline)}")
    if found.priority is not None:
        facts.append(f"priority {found.priority}")
    if found.inputs:
        facts.append(f"inputs {screen.short(dict(found.inputs))}")
    if not found.paused:
        facts += [f"next {screen.moment(at)}" for at in times]
    if fires:
        facts += ["", screen.table(("TIME", "STATE", "RUN", "WHY"), [_fire_row(fire) for fire in fires])]
    invocation.answer(document, "\n".join(facts))


@schedule_commands.command(uses=STORE, example="hourly-report --count 20")
async def schedules_next(
    invocation: Invocation, name: ScheduleName, count: Annotated[int, typer.Option(min=1, max=1000)] = 10
) -> None:
    """Show the next times of a schedule.

    Args:
        count (N): How many.
    """
    async with invocation.look() as engine:
        times = engine.next_times(await engine.get_schedule(name), count)
    invocation.answer({"name": name, "times": times}, "\n".join(screen.moment(at) for at in times))


@schedule_commands.command(uses=STORE, example="hourly-report")
async def schedules_pause(invocation: Invocation, name: ScheduleName) -> None:
    """Let the times of a schedule pass without runs. A run that is under way goes on."""
    async with invocation.look() as engine:
        made = await engine.pause_schedule(name, by=login_name())
        _answer_state(invocation, engine, made, "paused")


@schedule_commands.command(uses=STORE, example="hourly-report")
async def schedules_resume(invocation: Invocation, name: ScheduleName) -> None:
    """Let a paused schedule go on from now."""
    async with invocation.look() as engine:
        made = await engine.resume_schedule(name, by=login_name())
        _answer_state(invocation, engine, made, "resumed")


@schedule_commands.command(uses=STORE, example="hourly-report")
async def schedules_remove(invocation: Invocation, name: ScheduleName) -> None:
    """Remove a schedule and the record of its times. Its runs stay."""
    async with invocation.look() as engine:
        await engine.remove_schedule(name)
    invocation.answer({"name": name, "removed": True}, f"removed {name}")


@schedule_commands.command(uses=MOVES, example="--tools tools.py")
async def schedules_fire(invocation: Invocation) -> int:
    """Start the runs whose time has come, and wait for them. For machines without a server, from cron or a timer."""
    async with invocation.engine() as engine:
        fires = await engine.fire_schedules()
        runs = [await engine.wait(fire.run_id) for fire in fires if fire.state == "started" and fire.run_id]
    document = {"fires": [fire.to_dict() for fire in fires], "runs": [run.to_dict() for run in runs]}
    rows = [(str(fire.to_dict()["schedule"]), *_fire_row(fire)) for fire in fires]
    head = ("SCHEDULE", "TIME", "STATE", "RUN", "WHY")
    invocation.answer(document, screen.table(head, rows) if rows else "no time of a schedule has come")
    is_fine = all(fire.state == "started" for fire in fires) and all(
        run.status not in ("failed", "cancelled") for run in runs
    )
    return Exit.OK if is_fine else Exit.FAILED


def _answer_state(invocation: Invocation, engine: Engine, made: Schedule, word: str) -> None:
    document: dict[str, Any] = {**made.to_dict(), "next": engine.next_times(made, NEXT_SHOWN)}
    then = "" if made.paused else f"; next time {_moment(made.next_at)}"
    invocation.answer(document, f"{word} {made.full_name}: {made.plan} {_when(made)}{then}")


def _when(schedule: Schedule) -> str:
    if schedule.every is not None:
        return f"every {_duration(int(schedule.every))}"
    return f"at '{schedule.cron}' {schedule.tz}"


def _duration(seconds: int) -> str:
    """Return whole seconds as `--every` takes them."""
    unit = next(each for each in _UNITS if seconds % _UNITS[each] == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


def _moment(at: float | None) -> str:
    return "never" if at is None else screen.moment(at)


def _fire_row(fire: Fire) -> tuple[str, ...]:
    why = f"{fire.missed} times; {fire.detail}" if fire.missed else fire.detail
    return screen.moment(fire.at), fire.state, fire.run_id or "", why
