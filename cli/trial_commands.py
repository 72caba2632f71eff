"""The commands that put runs to the test: keep one as a regression test."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options

PANEL = "Putting to the test"


def register(app: typer.Typer) -> None:
    """Add the commands to the group."""
    for command in (record,):
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
    """Keep a run as a regression test that `pytest --firmplan` runs: offline, calling nothing but pure tools."""
    from .golden import record_command

    return record_command(run_id, output, plan, {"tools": tools, "store": store}, as_json=as_json)
