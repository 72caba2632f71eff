"""Where a store is: from what people write to the store, and what is there already."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from ...errors import ConfigError
from .sqlite_file import format_of
from .sqlite_store import SqliteStore
from .store import Store
from .url import is_postgres, shown

MEMORY: Final = "memory:"
_SQLITE: Final = "sqlite:///"
_KINDS: Final = "a path, sqlite:///path, postgresql://user@host/database or memory:"


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """A store, and what is known of where it is.

    Attributes:
        path: Its file, beside which files of its own may stand; `None`: it has none.
        is_shared: It is on a server, which engines of other machines use as well.
    """

    store: Store
    path: str | None
    is_shared: bool = False

    async def find_format(self) -> int | None:
        """Return the format of what is there, without making or changing anything; `None`: there is no store yet.

        Raises:
            StoreError: It cannot be looked at.
        """
        if self.is_shared:
            return await _postgres_format(self.store)
        return _file_format(self.path)


def open_location(where: str | os.PathLike[str] | Store) -> StoreLocation:
    """Return the store that a setting names; nothing is opened yet.

    Args:
        where: A path, `sqlite:///path`, `postgresql://user@host/database`, `memory:`, or a store.

    Raises:
        ConfigError: It is none of these, or what it needs is not installed.
    """
    if not isinstance(where, str | os.PathLike):
        if not isinstance(getattr(where, "name", None), str):
            raise ConfigError(f"store: expected {_KINDS}, or a store, found {where!r:.200}")
        if getattr(where, "is_shared", False):
            return StoreLocation(where, None, is_shared=True)
        return StoreLocation(where, None if where.name == ":memory:" else where.name)
    text = os.fspath(where)
    if text in (MEMORY, ":memory:"):
        return StoreLocation(SqliteStore(":memory:"), None)
    if is_postgres(text):
        return StoreLocation(_postgres_store(text), None, is_shared=True)
    if text.startswith(_SQLITE):
        text = text.removeprefix(_SQLITE)
    elif "://" in text:
        raise ConfigError(
            f"store: expected {_KINDS}, found '{shown(text)}': this version has no store of that kind"
        )
    if not text:
        raise ConfigError("store: expected a path, found nothing; the default is firmplan.db")
    path = str(Path(text).expanduser())
    return StoreLocation(SqliteStore(path), path)


def _file_format(path: str | None) -> int | None:
    return format_of(Path(path)) if path is not None and Path(path).exists() else None


def _postgres_store(url: str) -> Store:
    """Return the store, whose library is loaded only where it is used. Raises: ConfigError: it is not installed."""
    missing = "the library psycopg is not installed: pip install 'firmplan[postgres]'"
    if find_spec("psycopg") is None:
        raise ConfigError(f"store {shown(url)}: {missing}")
    try:
        from .postgres_store import PostgresStore  # noqa: PLC0415  # only here
    except ImportError as fault:  # it needs a library of PostgreSQL's own
        raise ConfigError(f"store {shown(url)}: {missing} ({fault})") from fault
    return PostgresStore(url)


async def _postgres_format(store: Store) -> int | None:
    from .postgres_store import PostgresStore  # noqa: PLC0415  # only here

    assert isinstance(store, PostgresStore)
    return await store.find_format()
