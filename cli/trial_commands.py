"""The commands that put runs to the test: as regression tests, side by side, with another model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options

PANEL = "Putting to the test"


def register(app: typer.Typer) -> None:
    """Add the commands to the group."""
    for command in (record, bisect, shadow):
        app.command(rich_help_panel=PANEL)(command)


def record(
    run_id: options.RunId,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where it goes: tests/golden/NAME.bundle.")
    ],
    plan: Annotated[
        Path | None,
        typer.Option("--plan", metavar="PLAN", help="The plan's file, to be held to this run from now on."),
    ] = None,
    tools: options.Tools = None,
    store: options.Store = None,
    as_json: options.Json = False,
) -> int:
    """Keep a run as a test for `pytest --firmplan`. It runs offline, and calls nothing but pure tools."""
    from .golden import record_command

    return record_command(run_id, output, plan, {"tools": tools, "store": store}, as_json=as_json)


def bisect(
    run_ids: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="At least two runs, in the order of comparing.")
    ],
    output: Annotated[
        str,
        typer.Option("--output", metavar="PATH", help="A place in the value, such as items[0].price."),
    ] = "",
    step: Annotated[
        str | None, typer.Option("--step", metavar="STEP", help="Look at this step's value, not the run's.")
    ] = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 1 if it changed; else with 0 either way.")
    ] = False,
    store: options.Store = None,
    as_json: options.Json = False,
) -> int:
    """Find where an output changed in a line of runs. Told are between which two, at which step first, and why."""
    from .trying import bisect_command

    return bisect_command(run_ids, step, output, {"store": store}, exit_code=exit_code, as_json=as_json)


def shadow(
    run_id: options.RunId,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="NAME", help="The new model: its name, or an alias of firmplan.toml."
        ),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option("--base-url", metavar="URL", help="Where the new model is; else the usual endpoint."),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", metavar="PLAN", help="An edited plan, such as one with another prompt."),
    ] = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 1 if something would change; else with 0.")
    ] = False,
    tools: options.Tools = None,
    store: options.Store = None,
    as_json: options.Json = False,
) -> int:
    """Say what another model would have changed in a run. Its model steps are asked again; nothing else is called but pure tools."""
    from .trying import Trial, shadow_command

    trial = Trial(run_id, model, base_url, plan, exit_code=exit_code)
    return shadow_command(trial, {"tools": tools, "store": store}, as_json=as_json)
