"""`store`: is everything in it as it was written, a copy of it, and its format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options

PANEL = "This machine"

store_app = typer.Typer(
    help="Check the store, copy it, or bring it up to date.",
    invoke_without_command=True,
)


def register(app: typer.Typer) -> None:
    """Add the group to the group."""
    app.add_typer(store_app, name="store", rich_help_panel=PANEL)


@store_app.callback()
def store(ctx: typer.Context, store: options.Store = None, as_json: options.Json = False) -> int:
    """Check the store, copy it, or bring it up to date. Without a further word, look whether it is as it was written."""
    from .caring import check_command

    if options.hand_down(ctx, store=store, as_json=as_json):
        return 0
    return check_command({"store": store}, as_json=as_json)


@store_app.command("check")
def store_check(store: options.Store = None, as_json: options.Json = False) -> int:
    """Look whether everything is as it was written. Every run is computed again; exit code 1 if something differs."""
    from .caring import check_command

    return check_command({"store": store}, as_json=as_json)


@store_app.command("backup")
def store_backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The new file that the copy goes to.")],
    store: options.Store = None,
    as_json: options.Json = False,
) -> int:
    """Copy the store into one file, as it is now. Engines may go on meanwhile."""
    from .caring import backup_command

    return backup_command(file, {"store": store}, as_json=as_json)


@store_app.command("upgrade")
def store_upgrade(store: options.Store = None, as_json: options.Json = False) -> int:
    """Bring the store to this version's format. Every command that opens it does; this one also says which that is."""
    from .caring import upgrade_command

    return upgrade_command({"store": store}, as_json=as_json)
