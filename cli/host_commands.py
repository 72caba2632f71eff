"""The commands about the place where all this happens: its runs, its server, its health, and a demonstration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options

PANEL = "This machine"


runs_app = typer.Typer(help="List runs, or delete some.", invoke_without_command=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the group."""
    app.add_typer(runs_app, name="runs", rich_help_panel=PANEL)
    for command in (serve, demo, doctor):
        app.command(rich_help_panel=PANEL)(command)


@runs_app.callback()
def runs(
    ctx: typer.Context,
    status: Annotated[str | None, typer.Option("--status", help="Only runs in this status.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=500, help="Most runs to list.")] = 20,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Go on where an earlier list ended.")] = None,
    tree: Annotated[
        bool, typer.Option("--tree", help="Put forks and kept replays under the run that they came of.")
    ] = False,
    store: options.Store = None,
    as_json: options.Json = False,
) -> int:
    """List runs, newest first; with a further word, delete some."""
    from .listing import runs_command

    if options.hand_down(ctx, store=store, as_json=as_json):
        return 0
    return runs_command(status, limit, cursor, {"store": store}, tree=tree, as_json=as_json)


@runs_app.command("delete")
def runs_delete(run: options.RunId, store: options.Store = None, as_json: options.Json = False) -> int:
    """Delete a run that has ended. A run with children (forks, retries, kept replays) stays."""
    from .caring import delete_command

    return delete_command(run, {"store": store}, as_json=as_json)


@runs_app.command("prune")
def runs_prune(
    older: Annotated[
        str,
        typer.Option("--older", metavar="AGE", help="Only runs whose last record is older: 90d, 12h."),
    ],
    keep_failed: Annotated[bool, typer.Option("--keep-failed", help="Keep runs that failed.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Delete nothing, and list the runs that would be deleted.")
    ] = False,
    store: options.Store = None,
    as_json: options.Json = False,
) -> int:
    """Delete the runs that ended long enough ago. Runs that have not ended, and runs with children that stay, are kept."""
    from .caring import prune_command

    return prune_command(older, {"store": store}, keep_failed=keep_failed, dry_run=dry_run, as_json=as_json)


def serve(
    tools: options.Tools = None,
    store: options.Store = None,
    host: Annotated[
        str, typer.Option("--host", help="Interface; all but loopback need API keys.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", "-p", min=0, max=65535, help="Port; 0 takes a free one.")
    ] = 8000,
    model: options.Model = None,
    base_url: options.BaseUrl = None,
    concurrency: options.Concurrency = None,
    queue: Annotated[
        int, typer.Option("--queue", min=1, help="Most runs queued or running at once.")
    ] = 1_000,
    rate: Annotated[float, typer.Option("--rate", min=0.1, help="Requests per second and client.")] = 50.0,
    body_limit: Annotated[
        int, typer.Option("--body-limit", min=1, help="Largest request body, in MiB.")
    ] = 16,
) -> int:
    """Serve the HTTP API and the web page. Keys come from FIRMPLAN_API_KEYS, comma separated."""
    from .hosting import ServeRequest, serve_command

    flags = {"tools": tools, "store": store, "model": model, "base_url": base_url, "concurrency": concurrency}
    return serve_command(ServeRequest(host, port, queue, rate, body_limit), flags)


def demo(
    folder: Annotated[
        Path | None,
        typer.Option("--folder", metavar="FOLDER", help="Where the report and the store go; else a new one."),
    ] = None,
    model: options.Model = None,
    base_url: options.BaseUrl = None,
) -> int:
    """Show all of it: audit the licences of the packages here. Plan, check, repair, run, reuse, replay."""
    from .demo import demo_command

    return demo_command(folder, {"model": model, "base_url": base_url})


def doctor(
    tools: options.Tools = None,
    store: options.Store = None,
    model: options.Model = None,
    base_url: options.BaseUrl = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Ask the model one tiny thing in each mode: four requests.")
    ] = False,
    as_json: options.Json = False,
) -> int:
    """Look whether everything is in place. Where it is not, say what to do."""
    from .doctor import doctor_command

    flags = {"tools": tools, "store": store, "model": model, "base_url": base_url}
    return doctor_command(flags, probe=probe, as_json=as_json)
