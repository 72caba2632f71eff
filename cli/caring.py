"""`store check`, `store backup` and `store upgrade`. None of them makes a store where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import InputRejected
from ..executor.stores.location import open_location
from ..executor.stores.sqlite_file import STORE_FORMAT, format_of
from . import screen
from .config import Settings
from .failure import Exit
from .session import drive, open_engine, settings_of


def check_command(flags: Mapping[str, object], *, as_json: bool) -> int:
    """Say what is not as it was written; that something is not is a failure."""
    settings = settings_of(flags)
    _expect_store(settings)

    async def work() -> int:
        async with open_engine(settings) as engine:
            report = await engine.check_store()
        if as_json:
            screen.document(report.to_dict())
        else:
            screen.answer(str(report))
        return Exit.OK if report.ok else Exit.FAILED

    return drive(work)


def backup_command(file: Path, flags: Mapping[str, object], *, as_json: bool) -> int:
    """Copy the store."""
    settings = settings_of(flags)
    _expect_store(settings)

    async def work() -> int:
        async with open_engine(settings) as engine:
            written = await engine.backup_store(file)
        if as_json:
            screen.document({"store": settings.store, "file": str(written), "bytes": written.stat().st_size})
        else:
            screen.answer(f"{settings.store} is copied to {written}; it is a store like any other")
        return Exit.OK

    return drive(work)


def upgrade_command(flags: Mapping[str, object], *, as_json: bool) -> int:
    """Open the store, which brings it up, and say from what to what."""
    settings = settings_of(flags)
    before = format_of(_expect_store(settings))

    async def work() -> int:
        async with open_engine(settings):
            pass
        if as_json:
            screen.document({"store": settings.store, "before": before, "after": STORE_FORMAT})
        elif before == STORE_FORMAT:
            screen.answer(f"{settings.store} has format {STORE_FORMAT}, the newest: nothing was to do")
        else:
            screen.answer(f"{settings.store} had format {before}, and has {STORE_FORMAT} now")
        return Exit.OK

    return drive(work)


def _expect_store(settings: Settings) -> Path:
    """Return the store's file. Raises: InputRejected: there is none."""
    path = open_location(settings.store).path
    if path is None:
        raise InputRejected("expected a store in a file, found one in memory, which is gone with its process")
    if not Path(path).exists():
        raise InputRejected(
            f"there is no store at {path}: name one with --store, FIRMPLAN_STORE or firmplan.toml"
        )
    return Path(path)
