"""Where a store is: from what people write to the store and the path beside which its own files go."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...errors import ConfigError
from .sqlite_store import SqliteStore
from .store import Store

MEMORY: Final = "memory:"
_SQLITE: Final = "sqlite:///"


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """A store, and the path of its file; `None`: it lives in this process's memory."""

    store: Store
    path: str | None


def open_location(where: str | os.PathLike[str] | Store) -> StoreLocation:
    """Return the store that a setting names; nothing is opened yet.

    Args:
        where: A path, `sqlite:///path`, `memory:`, or a store.

    Raises:
        ConfigError: It is none of these.
    """
    if not isinstance(where, str | os.PathLike):
        if not isinstance(getattr(where, "name", None), str):
            raise ConfigError(
                f"store: expected a path, sqlite:///path, memory: or a store, found {where!r:.200}"
            )
        return StoreLocation(where, None if where.name == ":memory:" else where.name)
    text = os.fspath(where)
    if text in (MEMORY, ":memory:"):
        return StoreLocation(SqliteStore(":memory:"), None)
    if text.startswith(_SQLITE):
        text = text.removeprefix(_SQLITE)
    elif "://" in text:
        raise ConfigError(
            f"store: expected a path, sqlite:///path or memory:, found '{text}': this version has no store of that kind"
        )
    if not text:
        raise ConfigError("store: expected a path, found nothing; the default is firmplan.db")
    path = str(Path(text).expanduser())
    return StoreLocation(SqliteStore(path), path)
