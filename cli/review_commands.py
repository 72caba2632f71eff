"""The commands that look back at runs: why a step ran."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options

PANEL = "Looking back"


def register(app: typer.Typer) -> None:
    """Add the commands to the group."""
    for command in (explain,):
        app.command(rich_help_panel=PANEL)(command)


def explain(
    run_id: options.RunId,
    step: Annotated[
        str | None, typer.Argument(metavar="STEP", help="The step's path; without it, every step.")
    ] = None,
    store: options.Store = None,
    as_json: options.Json = False,
) -> int:
    """Say why a step ran or was reused: which part differs from the nearest earlier call."""
    from .reviewing import explain_command

    return explain_command(run_id, step, {"store": store}, as_json=as_json)
