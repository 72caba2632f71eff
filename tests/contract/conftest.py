"""The stores that keep what every store does."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from firmplan.executor import SqliteStore
from firmplan.executor.stores.postgres_store import PostgresStore
from firmplan.testing import MemoryStore

OLD = Path(__file__).parents[1] / "vectors" / "journals" / "0.3" / "store.sqlite"


def emptied(path: Path) -> Path:
    """Make a store as an older firmplan made it, with nothing in it: it is brought up, but its rows never get numbers."""
    shutil.copyfile(OLD, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall():
            db.execute(f"DELETE FROM {table}")
    return path


@pytest.fixture(params=["memory", "file", "older file", pytest.param("postgres", marks=pytest.mark.postgres)])
def make_store(request, tmp_path):
    """Makes a store; a second one of the same file or database sees what the first one wrote."""
    if request.param == "memory":
        return MemoryStore
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
        return lambda: PostgresStore(url)
    path = tmp_path / "s.db"
    if request.param == "older file":
        emptied(path)
    return lambda: SqliteStore(path)


@pytest.fixture(params=["file", pytest.param("postgres", marks=pytest.mark.postgres)])
def make_shared(request, tmp_path):
    """As `make_store`, of the stores that several processes may use at once."""
    if request.param == "file":
        return lambda: SqliteStore(tmp_path / "s.db")
    url = request.getfixturevalue("postgres_url")
    return lambda: PostgresStore(url)
