"""`store check`, `store backup` and `store upgrade`. None of them makes a store where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import InputRejected
from ..executor.stores.location import StoreLocation, open_location
from . import screen
from .config import Settings
from .failure import Exit
from .session import drive, is_store_there, open_engine, settings_of


def check_command(flags: Mapping[str, object], *, as_json: bool) -> int:
    """Say what is not as it was written; that something is not is a failure."""
    settings = settings_of(flags)

    async def work() -> int:
        await _expect_store(settings)
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

    async def work() -> int:
        await _expect_store(settings)
        async with open_engine(settings) as engine:
            written = await engine.backup_store(file)
        if as_json:
            screen.document(
                {"store": settings.store_name, "file": str(written), "bytes": written.stat().st_size}
            )
        else:
            screen.answer(f"{settings.store_name} is copied to {written}; it is a store like any other")
        return Exit.OK

    return drive(work)


def upgrade_command(flags: Mapping[str, object], *, as_json: bool) -> int:
    """Open the store, which brings it up, and say from what to what."""
    settings = settings_of(flags)

    async def work() -> int:
        location = await _expect_store(settings)
        before, after = await location.find_format(), location.format_newest
        async with open_engine(settings):
            pass
        if as_json:
            screen.document({"store": settings.store_name, "before": before, "after": after})
        elif before == after:
            screen.answer(f"{settings.store_name} has format {after}, the newest: nothing was to do")
        else:
            screen.answer(f"{settings.store_name} had format {before}, and has {after} now")
        return Exit.OK

    return drive(work)


async def _expect_store(settings: Settings) -> StoreLocation:
    """Return where the store is. Raises: InputRejected: there is none."""
    location = open_location(settings.store)
    if location.path is None and not location.is_shared:
        raise InputRejected("expected a store in a file, found one in memory, which is gone with its process")
    if not await is_store_there(settings):
        raise InputRejected(
            f"there is no store at {location.path or location.store.name}: name one with --store, FIRMPLAN_STORE or firmplan.toml"
        )
    return location
