"""`store check`, `store backup`, `store upgrade`, `runs delete` and `runs prune`. None of them makes a missing store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import InputRejected
from ..executor import RunsDeleted
from ..executor.runs.store_care import ENDED
from ..executor.stores.location import StoreLocation, open_location
from . import screen
from .config import Settings
from .failure import Exit
from .session import drive, is_store_there, look, open_engine, settings_of


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
        is_compacted = await location.compact()
        compacted = "; its file can get smaller now" if is_compacted else ""
        if as_json:
            more = {"compacted": True} if is_compacted else {}
            screen.document({"store": settings.store_name, "before": before, "after": after, **more})
        elif before == after:
            rest = compacted or ": nothing had to be done"
            screen.answer(f"{settings.store_name} has format {after}, the newest{rest}")
        else:
            screen.answer(f"{settings.store_name} had format {before}, and has {after} now{compacted}")
        return Exit.OK

    return drive(work)


def delete_command(run: str, flags: Mapping[str, object], *, as_json: bool) -> int:
    """Delete a run."""
    settings = settings_of(flags)

    async def work() -> int:
        async with look(settings) as engine:
            deleted = await engine.delete(run)
        return _told(deleted, as_json=as_json)

    return drive(work)


def prune_command(
    older: str, flags: Mapping[str, object], *, keep_failed: bool, dry_run: bool, as_json: bool
) -> int:
    """Delete the runs that ended long enough ago, and name the equally old runs that stay."""
    settings = settings_of(flags)
    statuses = [status for status in ENDED if status != "failed"] if keep_failed else None

    async def work() -> int:
        async with look(settings) as engine:
            deleted = await engine.prune(older_than=older, statuses=statuses, dry_run=dry_run)
        return _told(deleted, as_json=as_json)

    return drive(work)


def _told(deleted: RunsDeleted, *, as_json: bool) -> int:
    if as_json:
        screen.document(deleted.to_dict())
    else:
        screen.answer(str(deleted))
    return Exit.OK


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
