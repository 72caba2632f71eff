"""The stores that keep what every store does."""

from __future__ import annotations

import pytest
from appending import emptied
from firmplan.executor import SqliteStore
from firmplan.executor.stores.postgres_store import PostgresStore
from firmplan.testing import MemoryStore


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
