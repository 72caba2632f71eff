"""`cache`: the results that later runs may reuse, how many they are, and how to let go of some."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options

PANEL = "This machine"

cache_app = typer.Typer(
    help="Look at results that may be reused, or let go of some. Runs stay as they are.",
    invoke_without_command=True,
)


def register(app: typer.Typer) -> None:
    """Add the group to the group."""
    app.add_typer(cache_app, name="cache", rich_help_panel=PANEL)


@cache_app.callback()
def cache(ctx: typer.Context, store: options.Store = None, as_json: options.Json = False) -> int:
    """Look at results that may be reused, or let go of some. Runs stay as they are."""
    from .caching import stats_command

    if options.hand_down(ctx, store=store, as_json=as_json):
        return 0
    return stats_command({"store": store}, as_json=as_json)


@cache_app.command("stats")
def cache_stats(store: options.Store = None, as_json: options.Json = False) -> int:
    """Say how many results there are, how large, and how old."""
    from .caching import stats_command

    return stats_command({"store": store}, as_json=as_json)


@cache_app.command("gc")
def cache_gc(
    max_age: Annotated[
        str | None, typer.Option("--max-age", metavar="AGE", help="Forget older results: 30d, 12h.")
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option("--max-size", metavar="SIZE", help="Forget the oldest past this size: 500MB, 2GiB."),
    ] = None,
    store: options.Store = None,
    as_json: options.Json = False,
) -> int:
    """Remove what nothing refers to, or is too old. Of too many results the oldest are forgotten."""
    from .caching import gc_command

    return gc_command(max_age, max_size, {"store": store}, as_json=as_json)


@cache_app.command("clear")
def cache_clear(store: options.Store = None, as_json: options.Json = False) -> int:
    """Forget every result: the next run calls everything."""
    from .caching import clear_command

    return clear_command({"store": store}, as_json=as_json)
