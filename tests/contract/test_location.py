"""Where a store is: which store a setting names, what of a URL is shown, and what is there already."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from appending import emptied, row_of, with_store
from firmplan.errors import ConfigError
from firmplan.executor import SqliteStore
from firmplan.executor.stores import location
from firmplan.executor.stores.location import POSTGRES_FORMAT, PostgresUrl, is_postgres, open_location, shown
from firmplan.executor.stores.postgres_store import PostgresStore
from firmplan.executor.stores.sqlite_file import INCREMENTAL, STORE_FORMAT
from firmplan.testing import MemoryStore

SERVER = "postgresql://ann:s3cret@db.example:5432/plans"


# --- which store a setting names


@pytest.mark.parametrize(
    ("where", "name", "path"),
    [
        ("memory:", ":memory:", None),
        (":memory:", ":memory:", None),
        ("a.db", "a.db", "a.db"),
        (Path("a.db"), "a.db", "a.db"),
        ("sqlite:///a.db", "a.db", "a.db"),
        ("sqlite:////a/b.db", "/a/b.db", "/a/b.db"),
        ("~/a.db", str(Path.home() / "a.db"), str(Path.home() / "a.db")),
    ],
)
def test_a_path_or_a_url_of_sqlite_names_a_file_or_memory(where, name, path):
    """It is the same store as if it were made by hand, and no other machine uses it."""
    found = open_location(where)
    assert isinstance(found.store, SqliteStore)
    assert (found.store.name, found.path, found.is_shared) == (name, path, False)
    assert found.format_newest == STORE_FORMAT


@pytest.mark.parametrize("where", [SERVER, "postgres://db/plans", "POSTGRESQL://db/plans"])
def test_a_url_of_postgres_names_a_store_that_is_shared(where):
    """It has no file beside which others could stand, and its name has no password."""
    found = open_location(where)
    assert isinstance(found.store, PostgresStore)
    assert (found.path, found.is_shared, found.format_newest) == (None, True, POSTGRES_FORMAT)
    assert "s3cret" not in found.store.name


def test_a_store_that_somebody_made_says_where_it_is():
    """By its name: a file, memory, or a server."""
    for store, path, is_shared in (
        (SqliteStore("a.db"), "a.db", False),
        (SqliteStore(":memory:"), None, False),
        (MemoryStore(), None, False),
        (PostgresStore(SERVER), None, True),
        (SimpleNamespace(name="own"), "own", False),
    ):
        found = open_location(store)
        assert (found.store, found.path, found.is_shared) == (store, path, is_shared)


@pytest.mark.parametrize(
    ("where", "told"),
    [
        (3, "found 3"),
        (SimpleNamespace(name=4), "or a store, found namespace"),
        (None, "found None"),
        ("", "expected a path, found nothing"),
        ("sqlite:///", "expected a path, found nothing"),
        ("mysql://ann:s3cret@db/plans", "found 'mysql://ann@db/plans': this version has no store"),
        ("postgresql://a:s3cret@b:1:2/c/d", "is no such URL"),
    ],
)
def test_what_names_no_store_is_refused(where, told):
    """The message says what was found, and shows no password."""
    with pytest.raises(ConfigError, match=told) as raised:
        open_location(where)
    assert "s3cret" not in str(raised.value)


def test_a_server_needs_a_library(monkeypatch):
    """Where it is missing, the message says how to get it."""
    monkeypatch.setattr(location, "find_spec", lambda _: None)
    with pytest.raises(
        ConfigError, match=r"psycopg is not installed: pip install 'firmplan\[postgres\]'"
    ) as raised:
        open_location(SERVER)
    assert "s3cret" not in str(raised.value)
    assert open_location("a.db").path == "a.db"
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "firmplan.executor.stores.postgres_store", None)
    with pytest.raises(ConfigError, match="psycopg is not installed"):
        open_location(SERVER)
    assert open_location("a.db").path == "a.db"


def test_the_newest_format_is_that_of_its_kind(monkeypatch):
    """A file and a server may have different ones."""
    monkeypatch.setattr(location, "POSTGRES_FORMAT", 71)
    monkeypatch.setattr(location, "STORE_FORMAT", 72)
    assert [open_location(where).format_newest for where in (SERVER, "a.db", "memory:")] == [71, 72, 72]


# --- what is there already


def test_what_is_there_is_found_without_making_anything(tmp_path):
    """A file that is not there, an empty one, a store of this format and one of an older one."""

    async def look(where):
        return await where.is_there(), await where.find_format()

    where = open_location(tmp_path / "s.db")
    assert asyncio.run(look(where)) == (False, None)
    assert list(tmp_path.iterdir()) == []
    with_store(lambda: where.store, lambda store: store.create_run(row_of()))
    assert asyncio.run(look(where)) == (True, STORE_FORMAT)
    (tmp_path / "empty.db").touch()
    assert asyncio.run(look(open_location(tmp_path / "empty.db"))) == (True, 0)
    old = open_location(emptied(tmp_path / "old.db"))
    assert asyncio.run(look(old)) == (True, 1)
    assert asyncio.run(look(open_location("memory:"))) == (True, None)


def test_a_file_that_cannot_shrink_is_rewritten_once(tmp_path):
    """It holds what it held, and the store is closed afterwards; in memory there is nothing to do."""
    path = tmp_path / "s.db"
    with_store(lambda: SqliteStore(path), lambda store: store.create_run(row_of()))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=DELETE")
        db.execute("PRAGMA auto_vacuum=0")
        db.execute("VACUUM")
        assert db.execute("PRAGMA auto_vacuum").fetchone() == (0,)
    where = open_location(path)
    assert asyncio.run(where.compact()) is True
    assert not Path(f"{path}-wal").exists(), "it was left open"
    assert asyncio.run(where.compact()) is False
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        assert db.execute("PRAGMA auto_vacuum").fetchone() == (INCREMENTAL,)
        assert db.execute("SELECT id FROM runs").fetchall() == [("r",)]
    assert asyncio.run(open_location("memory:").compact()) is False


@pytest.mark.postgres
def test_a_server_is_looked_at_without_making_anything(postgres_url):
    """A database has no store until one is made there, and nothing in it has to be rewritten."""

    async def look(where):
        return await where.is_there(), await where.find_format(), await where.compact()

    where = open_location(postgres_url)
    assert asyncio.run(look(where)) == (False, None, False)
    with_store(lambda: where.store, lambda store: store.create_run(row_of()))
    assert asyncio.run(look(where)) == (True, POSTGRES_FORMAT, False)


# --- what of a URL is shown


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("a.db", "a.db"),
        ("a?password=b", "a?password=b"),
        ("postgresql://db/plans", "postgresql://db/plans"),
        ("postgresql://ann@db/plans", "postgresql://ann@db/plans"),
        (SERVER, "postgresql://ann@db.example:5432/plans"),
        ("postgresql://ann:a@b@db/plans", "postgresql://ann@db/plans"),
        ("postgresql://ann:a/b?c@db/plans", "postgresql://ann@db/plans"),
        ("postgresql://db/plans?password=x&sslmode=require", "postgresql://db/plans?password=***&sslmode=require"),
        ("postgresql://db/plans?sslmode=require&sslpassword=x", "postgresql://db/plans?sslmode=require&sslpassword=***"),
    ],
)  # fmt: skip
def test_what_is_shown_of_a_url_has_no_secrets(url, told):
    """All else of it is shown, and other texts are as they are."""
    assert shown(url) == told


def test_what_a_server_says_is_told_without_the_password():
    """As it stands in the URL, and as it is spelled there; words that only contain it stay."""
    url = PostgresUrl.of("postgresql://ann:p%40ss@db/plans?sslpassword=k%C3%A9y")
    told = url.without_secrets("p@ss p%40ss kéy k%C3%A9y: pass, xp@ss, p@ssx")
    assert told == "*** *** *** ***: pass, xp@ss, p@ssx"
    assert "p%40ss" not in repr(url)
    assert url.name == "postgresql://ann@db/plans?sslpassword=***"
    nobody = PostgresUrl.of("postgresql://db/plans?password=")
    assert nobody.without_secrets("no password was given") == "no password was given"
    assert PostgresUrl.of("postgresql://ann:@db/plans").without_secrets("none: said") == "none: said"


@pytest.mark.parametrize(
    "text", ["postgresql://a b@db/plans", "postgresql://db/plans#x", "postgresql:db", ""]
)
def test_what_is_no_url_of_a_database_is_refused(text):
    """Rather than read otherwise than it was meant."""
    with pytest.raises(ConfigError, match="is no such URL"):
        PostgresUrl.of(text)
    assert is_postgres(text) == text.startswith("postgresql://")
