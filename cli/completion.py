"""Completion of command lines by the shell: the words that only this program knows. `firmplan completion` prints the script that asks for them.

The script asks this program at each TAB, so that commands, options and choices are those of the parser. Ids of runs, paths of steps and names of
saved plans come from the store or the server that the line, the environment or `firmplan.toml` names. Whatever goes wrong on the way gives no
words and no message: the line that a person types must stay as it is.
"""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Awaitable, Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any, Final

import typer

from .failure import Exit

if TYPE_CHECKING:
    from .remote import AnyEngine

VARIABLE: Final = "_FIRMPLAN_COMPLETE"
"""The variable by which the script asks this program."""
PATIENCE_S: Final = 2.0
"""Seconds that a TAB may take where the store or the server does not answer."""
RUNS_MAX: Final = 50
"""Runs that are offered: the newest, as nobody looks through more."""


def script_of(command: Callable[..., Any], shell: str) -> str:
    """Return the script that a shell loads, as typer makes it of its templates.

    Args:
        command: Runs firmplan's command line.
        shell: The shell.
    """
    said = io.StringIO()
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = f"source_{shell}"
    try:
        # typer answers a variable, prints, and exits: its functions that make the script are none of its public ones.
        with suppress(SystemExit), redirect_stdout(said):
            command([])
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
    return said.getvalue().strip()


def complete_runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the ids of the newest runs that begin so."""

    async def find(engine: AnyEngine) -> list[str]:
        return [run.id for run in (await engine.list_runs(status=None, limit=RUNS_MAX, cursor=None)).runs]

    return _found(ctx, incomplete, find)


def complete_plans(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of saved plans that begin so; the shell itself adds files."""

    async def find(engine: AnyEngine) -> list[str]:
        return [each.name for each in await engine.list_plans()]

    return _found(ctx, incomplete, find)


def complete_plans_and_runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of saved plans and the ids of runs that begin so."""
    return [*complete_plans(ctx, incomplete), *complete_runs(ctx, incomplete)]


def complete_steps(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the paths of the steps of the run on the line; those that wait for a person, if some do."""

    async def find(engine: AnyEngine) -> list[str]:
        steps = (await engine.get(str(ctx.params.get("run_id")))).steps
        waiting = [path for path, step in steps.items() if step.attempt is not None]
        return waiting or list(steps)

    return _found(ctx, incomplete, find)


def _found(
    ctx: typer.Context, incomplete: str, find: Callable[[AnyEngine], Awaitable[list[str]]]
) -> list[str]:
    """Return the words of a store or server that begin with what is typed; none where it cannot be asked."""
    words: list[str] = []
    with suppress(Exception), redirect_stderr(io.StringIO()):
        from .invocation import Invocation, drive  # noqa: PLC0415  # loads the engine

        given = {name: ctx.params.get(name) for name in ("store", "server")}
        invocation = Invocation(given, as_json=True, at_server=True)

        async def work() -> int:
            async with asyncio.timeout(PATIENCE_S), invocation.reach() as engine:
                words.extend(await find(engine))
            return Exit.OK

        drive(work)
    return [word for word in words if word.startswith(incomplete)]
