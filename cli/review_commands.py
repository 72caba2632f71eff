"""The commands that look back at runs: why a step ran, what differs, what is not deterministic."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from . import options

PANEL = "Looking back"


class DiffFormat(StrEnum):
    """How a comparison can be spelled."""

    TEXT = "text"
    JSON = "json"
    HTML = "html"


def register(app: typer.Typer) -> None:
    """Add the commands to the group."""
    for command in (verify, explain, diff):
        app.command(rich_help_panel=PANEL)(command)


def explain(
    run_id: options.RunId,
    step: Annotated[
        str | None, typer.Argument(metavar="STEP", help="The step's path; without it, every step.")
    ] = None,
    store: options.Store = None,
    as_json: options.Json = False,
) -> int:
    """Say why a step ran or was reused. It names the part that differs from the nearest earlier call."""
    from .reviewing import explain_command

    return explain_command(run_id, step, {"store": store}, as_json=as_json)


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A run's id.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The id of the run to compare it with.")],
    form: Annotated[
        DiffFormat,
        typer.Option("--format", "-f", help="How to spell it; html is one page that stands alone."),
    ] = DiffFormat.TEXT,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there, not to stdout.")
    ] = None,
    store: options.Store = None,
    as_json: options.Json = False,
) -> int:
    """Compare two runs step by step. Told are what differs, why, and where they part first."""
    from .reviewing import diff_command

    return diff_command(a, b, {"store": store}, form, output, as_json=as_json)


def verify(
    run_id: options.RunId,
    tools: options.Tools = None,
    store: options.Store = None,
    as_json: options.Json = False,
) -> int:
    """Call a run's pure steps again, in fresh processes. Tools that are not deterministic are named (exit code 3)."""
    from .reviewing import verify_command

    return verify_command(run_id, {"tools": tools, "store": store}, as_json=as_json)
