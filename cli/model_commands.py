"""The commands about models: keep what they say, and measure how well they plan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options

PANEL = "Models"


def register(app: typer.Typer) -> None:
    """Add the commands to the group."""
    passed_on = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False}
    app.command(rich_help_panel=PANEL, context_settings=passed_on)(traffic)
    app.command("eval", rich_help_panel=PANEL)(evaluate)


def traffic(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The recording; exchanges are added to it.")],
    replay: Annotated[
        bool, typer.Option("--replay", help="Answer from the recording instead, without a network.")
    ] = False,
) -> int:
    """Record what models are asked and answer. Another command does the asking: `traffic calls.jsonl run "task"`."""
    from .traffic import traffic_command

    return traffic_command(file, ctx.args, replay=replay)


def evaluate(
    file: Annotated[Path, typer.Argument(metavar="SET", help="The set of tasks: YAML or JSON.")],
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", metavar="NAME", help="A model to measure; repeatable. Also FIRMPLAN_MODEL."
        ),
    ] = None,
    base_url: options.BaseUrl = None,
    samples: Annotated[int, typer.Option("--samples", "-k", min=1, max=100, help="Plannings a task.")] = 1,
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, max=64, help="Plannings at a time.")
    ] = 4,
    tasks: Annotated[
        list[str] | None, typer.Option("--task", metavar="ID", help="Only this task; repeatable.")
    ] = None,
    run: Annotated[
        bool, typer.Option("--run", help="Run plans that only read, and compare their answers.")
    ] = False,
    judge: Annotated[
        str | None,
        typer.Option("--judge", metavar="NAME", help="A model that compares the models' plans in pairs."),
    ] = None,
    at_least: Annotated[
        float | None,
        typer.Option(
            "--at-least", min=0, max=1, help="Exit with 1 where fewer plans than this share are good."
        ),
    ] = None,
    as_json: options.Json = False,
) -> int:
    """Measure how well models plan the tasks of a set."""
    from .evaluating import EvalRequest, eval_command

    request = EvalRequest(tuple(models or ()), samples, concurrency, tuple(tasks or ()), judge, at_least, run)
    return eval_command(file, request, {"base_url": base_url}, as_json=as_json)
