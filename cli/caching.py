"""`cache stats`, `cache gc` and `cache clear`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from ..errors import InputRejected
from ..executor import CacheStats
from . import screen
from .failure import Exit
from .session import drive, look, settings_of

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_TIME = "%Y-%m-%d %H:%M:%S"


def stats_command(flags: Mapping[str, object], *, as_json: bool) -> int:
    """Say how many results there are."""
    settings = settings_of(flags)

    async def work() -> int:
        async with look(settings) as engine:
            stats = await engine.cache_stats()
        if as_json:
            screen.document({**stats.to_dict(), "store": settings.store_name})
        else:
            screen.answer(stats_text(stats))
        return Exit.OK

    return drive(work)


def gc_command(
    max_age: str | None, max_size: str | None, flags: Mapping[str, object], *, as_json: bool
) -> int:
    """Forget what is past a limit, and remove bytes that nothing refers to. Raises: InputRejected: a limit is not one."""
    size = None if max_size is None else read_size("--max-size", max_size)
    return _shrink(max_age, size, flags, as_json=as_json)


def clear_command(flags: Mapping[str, object], *, as_json: bool) -> int:
    """Forget every result, and remove bytes that nothing refers to."""
    return _shrink(None, 0, flags, as_json=as_json)


def stats_text(stats: CacheStats) -> str:
    """Return the numbers in words."""
    if not stats.results or stats.oldest is None or stats.newest is None:
        return "no results to reuse"
    oldest, newest = (datetime.fromtimestamp(at, UTC).strftime(_TIME) for at in (stats.oldest, stats.newest))
    return (
        f"{screen.plural(stats.results, 'result')} to reuse, {size_text(stats.bytes)}\n"
        f"oldest {oldest} UTC, newest {newest} UTC"
    )


def size_text(size: int) -> str:
    """Spell a size as people read it."""
    for unit in ("GB", "MB", "KB"):
        if size >= UNITS[unit]:
            return f"{size / UNITS[unit]:.1f} {unit}"
    return f"{size} B"


def read_size(option: str, text: str) -> int:
    """Return a size in bytes. Raises: InputRejected: it is none."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or found[2].upper() not in UNITS:
        raise InputRejected(f"{option}: expected a size such as 500MB or 2GiB, found {text!r}")
    return int(float(found[1]) * UNITS[found[2].upper()])


def _shrink(max_age: str | None, size: int | None, flags: Mapping[str, object], *, as_json: bool) -> int:
    settings = settings_of(flags)

    async def work() -> int:
        async with look(settings) as engine:
            gone = await engine.shrink_cache(max_age=max_age, max_bytes=size)
            pruned = await engine.prune_artifacts()
            stats = await engine.cache_stats()
        if as_json:
            removed = {"removed": pruned.values, "removed_bytes": pruned.bytes}
            screen.document({"forgotten": gone, **removed, **stats.to_dict()})
        else:
            unused = f", {screen.plural(pruned.values, 'unused value')} removed ({size_text(pruned.bytes)})"
            told = f"{screen.plural(gone, 'result')} forgotten{unused if pruned.values else ''}"
            screen.answer(f"{told}; {stats_text(stats)}")
        return Exit.OK

    return drive(work)
