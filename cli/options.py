"""The options that several commands share, each written once."""

from __future__ import annotations

from typing import Annotated

import typer

Tools = Annotated[
    list[str] | None,
    typer.Option(
        "--tools",
        "-t",
        metavar="FILE|MODULE",
        help="Python file or module that declares tools; repeatable. Also FIRMPLAN_TOOLS.",
    ),
]
Store = Annotated[
    str | None,
    typer.Option("--store", "-s", metavar="PATH|URL", help="Where runs are kept. Also FIRMPLAN_STORE."),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input", "-i", metavar="NAME=VALUE", help="One input, read by its declared type; repeatable."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else, on stdout.")]
Model = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="Model name. Also FIRMPLAN_MODEL.")
]
BaseUrl = Annotated[
    str | None,
    typer.Option("--base-url", metavar="URL", help="OpenAI-compatible endpoint. Also FIRMPLAN_BASE_URL."),
]
Concurrency = Annotated[
    int | None,
    typer.Option("--concurrency", min=1, help="Most calls in flight at once. Also FIRMPLAN_CONCURRENCY."),
]
Budget = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        metavar="NAME=AMOUNT",
        help="Stop and wait at this much of steps, model_calls, tokens, usd or seconds; repeatable.",
    ),
]


def hand_down(ctx: typer.Context, **given: object) -> bool:
    """Let options that stand before a group's further word hold for that command; whether there is such a word."""
    said = {name: value for name, value in given.items() if value}
    if ctx.invoked_subcommand is not None:
        ctx.default_map = {ctx.invoked_subcommand: said}
    return ctx.invoked_subcommand is not None


RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, as `firmplan runs` lists it.")]
StepPath = Annotated[
    str, typer.Argument(metavar="STEP", help="The step's path, such as mail, spots[3] or outer/inner.")
]
