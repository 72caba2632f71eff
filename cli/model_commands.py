"""The commands about models: keep what they say, and measure how well they plan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Models"


def register(app: typer.Typer) -> None:
    """Add the commands to the group."""
    passed_on = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False}
    app.command(rich_help_panel=PANEL, context_settings=passed_on)(traffic)


def traffic(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The recording; exchanges are added to it.")],
    replay: Annotated[
        bool, typer.Option("--replay", help="Answer from the recording instead, without a network.")
    ] = False,
) -> int:
    """Run another command and record all that models are asked and answer: `traffic calls.jsonl run "task"`."""
    from .traffic import traffic_command

    return traffic_command(file, ctx.args, replay=replay)
