"""The commands about what a store holds: its runs, results that may be reused, its integrity, its copies and its format."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import InputRejected
from .. import screen
from ..command import STORE, CommandGroup, RunId
from ..failure import Exit

if TYPE_CHECKING:
    from ...executor import CacheStats, RunSummary
    from ...executor.stores.location import StoreLocation
    from ..invocation import Invocation

commands = CommandGroup()
TIME = "%Y-%m-%d %H:%M:%S"
TASK_WIDTH = 100
"""Characters of a task in a table: it tells runs apart, and `show` has all of it."""
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}

run_commands = commands.group(
    "runs",
    "List runs, newest first, or delete some. Without a further word, list them.",
    example="--status failed --limit 5",
)


@run_commands.command(name="", uses=STORE, at_server=True)
async def runs(
    invocation: Invocation,
    status: str | None = None,
    text: str | None = None,
    limit: Annotated[int, typer.Option("-n", min=1, max=500)] = 20,
    cursor: str | None = None,
    tree: bool = False,
) -> None:
    """List runs, newest first; as a tree, each under its parent if the parent is in the list.

    Args:
        status: Only runs in this status.
        text: Only runs with this text in their task or id.
        limit: Most runs to list.
        cursor: Continue where an earlier list ended.
        tree: Put forks, retries and kept replays under their parent.
    """
    from ...executor import RunFilter
    from ..report import continues_elsewhere, resume_line

    settings = invocation.settings
    where = RunFilter(text=text) if text is not None else None
    async with invocation.reach() as engine:
        page = await engine.list_runs(status=status, limit=limit, cursor=cursor, where=where)
    if invocation.as_json:
        listed = _tree_document(page.runs) if tree else [run.to_dict() for run in page.runs]
        screen.document({"runs": listed, "cursor": page.cursor})
        return
    if not page.runs and page.cursor:
        screen.note(f"no run with this text among those searched; older ones with --cursor {page.cursor}")
        return
    if not page.runs:
        if invocation.server is not None:
            screen.note(f"no runs at {invocation.server}")
            return
        yet = "" if await invocation.is_store_there() else ": there is no store yet"
        screen.note(f"no runs in {settings.store_name}{yet}")
        return
    rows = (_run_row(*line) for line in _tree(page.runs)) if tree else map(_run_row, page.runs)
    screen.answer(screen.table(("RUN", "STATUS", "CREATED (UTC)", "TASK OR PLAN"), rows))
    if any(run.abandoned for run in page.runs):
        other = continues_elsewhere(settings)
        what = f"{other} takes it over" if other else f"continue it with\n  {resume_line('RUN', settings)}"
        screen.note(f"abandoned: its process is gone; {what}")
    for run in page.runs:
        if run.status == "parked":
            reason = screen.one_line(run.reason or "")
            screen.note(f"parked: run {run.id}: {reason}\n  {resume_line(run.id, settings)}")
    if page.cursor:
        screen.note(f"more with --cursor {page.cursor}")


def _tree(listed: Sequence[RunSummary]) -> Iterator[tuple[RunSummary, int]]:
    """Yield run and depth: roots newest first, each followed by its children, oldest first."""
    known = {run.id for run in listed}
    children: dict[str | None, list[RunSummary]] = {None: []}
    for run in listed:  # newest first
        children.setdefault(run.parent if run.parent in known else None, []).append(run)
    waiting = [(run, 0) for run in reversed(children[None])]
    while waiting:
        run, depth = waiting.pop()
        yield run, depth
        waiting += [(child, depth + 1) for child in children.get(run.id, [])]


def _tree_document(listed: Sequence[RunSummary]) -> list[dict[str, Any]]:
    """Return the roots as JSON, each run with its `children`."""
    made: dict[str, dict[str, Any]] = {run.id: {**run.to_dict(), "children": []} for run in listed}
    for run in reversed(listed):
        if run.parent in made:
            made[run.parent]["children"].append(made[run.id])
    return [made[run.id] for run in listed if run.parent not in made]


def _run_row(run: RunSummary, depth: int | None = None) -> tuple[str, ...]:
    created = datetime.fromtimestamp(run.created, UTC).strftime(TIME)
    status = f"{run.status} (abandoned)" if run.abandoned else run.status
    task = screen.one_line(run.task or "")
    task = task if len(task) <= TASK_WIDTH else f"{task[: TASK_WIDTH - 2]}.."
    parent = f" (of {run.parent})" if run.parent and depth == 0 else ""
    name = f"{'  ' * (depth or 0)}{run.id}{parent}"
    return name, status, created, task or screen.short_digest(run.plan_digest or "")


@run_commands.command(uses=STORE, at_server=True, example="run_be40097b6b473dae")
async def runs_delete(invocation: Invocation, run_id: RunId) -> None:
    """Delete a run that has ended. A run with children (forks, retries, kept replays) stays."""
    from ...engine import Engine

    async with invocation.reach() as engine:
        if isinstance(engine, Engine):
            invocation.answer(await engine.delete(run_id))
        else:
            await engine.delete(run_id)
            invocation.answer({"runs": [run_id]}, "1 run deleted")


@run_commands.command(uses=STORE, example="--older 90d --keep-failed --dry-run")
async def runs_prune(
    invocation: Invocation,
    older: Annotated[str, typer.Option()],
    keep_failed: bool = False,
    dry_run: bool = False,
) -> None:
    """Delete the runs that ended long enough ago. Runs that have not ended, and runs with children that stay, are kept.

    Args:
        older (AGE): Only runs whose last record is older: 90d, 12h.
        keep_failed: Keep runs that failed.
        dry_run: Delete nothing, and list the runs that would be deleted.
    """
    from ...executor.runs.store_care import ENDED

    statuses = [status for status in ENDED if status != "failed"] if keep_failed else None
    async with invocation.look() as engine:
        invocation.answer(await engine.prune(older_than=older, statuses=statuses, dry_run=dry_run))


store_commands = commands.group(
    "store", "Check the store, copy it, or upgrade its format. Without a further word, check it."
)


@store_commands.command(uses=STORE, is_default=True, example="--store runs.db")
async def store_check(invocation: Invocation) -> int:
    """Check that nothing in the store was changed since it was written. Every run is computed again; exit code 1 if one differs."""
    location = await _expect_store(invocation)
    async with invocation.engine() as engine:
        report = await engine.check_store()
    invocation.answer(report)
    if (readers := location.find_readers()) is not None:
        invocation.note(f"{invocation.settings.store_name}: {readers}")
    return Exit.OK if report.ok else Exit.FAILED


@store_commands.command(uses=STORE, example="runs-monday.db --store runs.db")
async def store_backup(invocation: Invocation, file: Path) -> None:
    """Copy the store into one file, as it is now. Engines may go on meanwhile.

    Args:
        file (FILE): The new file that the copy goes to.
    """
    await _expect_store(invocation)
    async with invocation.engine() as engine:
        written = await engine.backup_store(file)
    store = invocation.settings.store_name
    invocation.answer(
        {"store": store, "file": str(written), "bytes": written.stat().st_size},
        f"{store} is copied to {written}; the copy is a complete store",
    )


@store_commands.command(uses=STORE, example="--store runs.db")
async def store_upgrade(invocation: Invocation) -> None:
    """Upgrade the store to this version's format. Every command that opens it does; this one also names the format."""
    location = await _expect_store(invocation)
    before, after = await location.find_format(), location.format_newest
    async with invocation.engine():  # opening a store upgrades it
        pass
    is_compacted = await location.compact()
    compacted = "; its file can shrink now" if is_compacted else ""
    store = invocation.settings.store_name
    text = (
        f"{store} has format {after}, the newest{compacted or ': nothing had to be done'}"
        if before == after
        else f"{store} had format {before}, and has {after} now{compacted}"
    )
    document = {"store": store, "before": before, "after": after}
    invocation.answer(document | ({"compacted": True} if is_compacted else {}), text)


async def _expect_store(invocation: Invocation) -> StoreLocation:
    """Return the store's location. Raises: InputRejected: there is no store, and these commands make none."""
    from ...executor.stores.location import open_location

    location = open_location(invocation.settings.store)
    if location.path is None and not location.is_shared:
        raise InputRejected("expected a store in a file, found one in memory, which is gone with its process")
    if not await invocation.is_store_there():
        raise InputRejected(
            f"there is no store at {location.path or location.store.name}: name one with --store, FIRMPLAN_STORE or firmplan.toml"
        )
    return location


cache_commands = commands.group(
    "cache",
    "Count results that may be reused, or remove some. Without a further word, count them. Runs stay as they are.",
)


@cache_commands.command(uses=STORE, is_default=True, example="--store runs.db")
async def cache_stats(invocation: Invocation) -> None:
    """Say how many results there are, how large, and how old."""
    async with invocation.look() as engine:
        stats = await engine.cache_stats()
    invocation.answer({**stats.to_dict(), "store": invocation.settings.store_name}, _stats_text(stats))


@cache_commands.command(uses=STORE, example="--max-age 30d --max-size 500MB")
async def cache_gc(invocation: Invocation, max_age: str | None = None, max_size: str | None = None) -> int:
    """Remove bytes that nothing refers to, and results past a limit.

    Args:
        max_age (AGE): Remove older results: 30d, 12h.
        max_size (SIZE): Remove the oldest past this size: 500MB, 2GiB.
    """
    return await _shrink(
        invocation, max_age, None if max_size is None else _read_size("--max-size", max_size)
    )


@cache_commands.command(uses=STORE, example="--store runs.db")
async def cache_clear(invocation: Invocation) -> int:
    """Remove every result: the next run calls everything."""
    return await _shrink(invocation, None, 0)


async def _shrink(invocation: Invocation, max_age: str | None, size: int | None) -> int:
    async with invocation.look() as engine:
        count = await engine.shrink_cache(max_age=max_age, max_bytes=size)
        pruned = await engine.prune_artifacts()
        stats = await engine.cache_stats()
    unused = f", {screen.plural(pruned.values, 'unused value')} removed ({_size_text(pruned.bytes)})"
    results = f"{screen.plural(count, 'result')} forgotten{unused if pruned.values else ''}"
    removed = {"removed": pruned.values, "removed_bytes": pruned.bytes}
    invocation.answer({"forgotten": count, **removed, **stats.to_dict()}, f"{results}; {_stats_text(stats)}")
    return Exit.OK


def _stats_text(stats: CacheStats) -> str:
    if not stats.results or stats.oldest is None or stats.newest is None:
        return "no results to reuse"
    oldest, newest = (datetime.fromtimestamp(at, UTC).strftime(TIME) for at in (stats.oldest, stats.newest))
    results = screen.plural(stats.results, "result")
    return f"{results} to reuse, {_size_text(stats.bytes)}\noldest {oldest} UTC, newest {newest} UTC"


def _size_text(size: int) -> str:
    unit = next((unit for unit in ("GB", "MB", "KB") if size >= UNITS[unit]), None)
    return f"{size} B" if unit is None else f"{size / UNITS[unit]:.1f} {unit}"


def _read_size(option: str, text: str) -> int:
    """Return a size in bytes. Raises: InputRejected: the text is no size."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if found is None or found[2].upper() not in UNITS:
        raise InputRejected(f"{option}: expected a size such as 500MB or 2GiB, found {text!r}")
    return int(float(found[1]) * UNITS[found[2].upper()])
