"""The tables of a store in PostgreSQL: made, counted by their format, checked for rot.

They are made in the first schema of the session's search path that there is; where the path names none that is there, its first is
made. Their names begin with `firmplan_`, so that a database may hold other things as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Final

import psycopg
from psycopg import sql

from ...errors import StoreError
from .location import POSTGRES_FORMAT
from .postgres_link import DURABLE, Connection, rows

SERVER_MIN: Final = 130000  # as the server counts: 13.0
_MAKING: Final = 0x6669726D706C616E  # "firmplan": whoever makes tables holds the lock of this number
# Tables that older firmplans neither make nor miss: a store without them gets them.
ADDED: Final = ("firmplan_decided_attempts",)
_MISSING: Final = (
    "SELECT t FROM unnest(%s::text[]) WITH ORDINALITY AS w(t, n) WHERE to_regclass(t) IS NULL ORDER BY n"
)
_HOME: Final = "SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid=c.relnamespace WHERE c.oid='firmplan_store'::regclass"
_DAMAGES_MAX: Final = 20
_ROTTEN: Final = "SELECT digest FROM firmplan_stored_values WHERE digest <> 'sha256:' || encode(sha256(data), 'hex') ORDER BY digest LIMIT %s"
_CHECKSUMS: Final = (
    "SELECT coalesce(checksum_failures, 0) FROM pg_stat_database WHERE datname = current_database()"
)


def bring_up(db: Connection, name: str) -> None:
    """Make the tables where there are none. Raises: StoreError: the store is of another format, or cannot be made."""
    _expect_server(db, name)
    if find_format(db) is None:
        _locked(db, lambda: _make_tables(db, name))
    found = find_format(db)
    if found is None or found > POSTGRES_FORMAT:
        raise StoreError(
            f"the store {name} has format {found}; this firmplan reads up to {POSTGRES_FORMAT}: upgrade firmplan"
        )
    if _missing(db, ADDED):
        _locked(db, lambda: _add_tables(db, name))
    _expect_tables(db, name)


def find_format(db: Connection) -> int | None:
    """Return the format of the store in a database; `None`: there is no store in it."""
    if rows(db, "SELECT to_regclass('firmplan_store')") == [(None,)]:
        return None
    found = rows(db, "SELECT format FROM firmplan_store")
    return int(found[0][0]) if found else None


def find_rot(db: Connection) -> list[str]:
    """Return what is wrong below runs and journals: pages that the server could not read, values that are not what they were."""
    failures = sum(int(count) for (count,) in rows(db, _CHECKSUMS))
    told = [f"the server has read {failures} pages with a wrong checksum"] if failures else []
    rotten = rows(db, _ROTTEN, (_DAMAGES_MAX,))
    return [*told, *(f"the value {digest} is not as it was written" for (digest,) in rotten)]


def _expect_server(db: Connection, name: str) -> None:
    version = db.info.server_version
    if version < SERVER_MIN:
        raise StoreError(
            f"the store {name} is on PostgreSQL {version // 10000}; expected at least {SERVER_MIN // 10000}: upgrade the server"
        )
    ((encoding,),) = rows(db, "SELECT current_setting('server_encoding')")
    if encoding != "UTF8":
        raise StoreError(
            f"the store {name}: the database keeps texts as {encoding}; expected UTF8: make one that does "
            "(createdb --encoding UTF8 --template template0), or name another"
        )


def _locked(db: Connection, work: Callable[[], None]) -> None:
    """Do the work while no other process makes tables."""
    # A lock of the session, not of the transaction: what another process made meanwhile is seen by a transaction that begins later.
    db.execute("SELECT pg_advisory_lock(%s)", (_MAKING,))
    try:
        work()
    finally:
        db.execute("SELECT pg_advisory_unlock(%s)", (_MAKING,))


def _add_tables(db: Connection, name: str) -> None:
    """Make the tables that were added to the format after stores of it were made, beside the others."""
    missing = _missing(db, ADDED)
    made = [
        each
        for each in _statements().split(";")
        if any(f"CREATE TABLE {table} (" in each for table in missing)
    ]
    ((schema,),) = rows(db, _HOME)
    quoted = sql.Identifier(schema)
    try:
        with db.transaction():
            db.execute(DURABLE)
            db.execute(sql.SQL("SET LOCAL search_path TO {}").format(quoted))
            for statement in made:
                db.execute(statement.encode())
    except psycopg.errors.ReadOnlySqlTransaction:
        pass  # what is there can be looked at; who writes is told
    except psycopg.errors.InsufficientPrivilege as fault:
        user = sql.Identifier(db.info.user).as_string(db)
        raise StoreError(
            f"the store {name} has no table '{missing[0]}' yet, and the user {db.info.user} may not make it in the schema {schema}: "
            f"open the store once as a user who may, or let this one do so (GRANT CREATE ON SCHEMA {quoted.as_string(db)} TO {user})"
        ) from fault


def _make_tables(db: Connection, name: str) -> None:
    if find_format(db) is not None:
        return
    schema, is_there = _schema(db)
    quoted = sql.Identifier(schema)
    try:
        with db.transaction():
            db.execute(DURABLE)
            if not is_there:
                db.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(quoted))
            db.execute(_statements().encode())
            db.execute("INSERT INTO firmplan_store VALUES (%s)", (POSTGRES_FORMAT,))
    except psycopg.errors.InsufficientPrivilege as fault:
        user = sql.Identifier(db.info.user).as_string(db)
        cure = f"GRANT CREATE ON SCHEMA {quoted.as_string(db)}" if is_there else "GRANT CREATE ON DATABASE .."
        raise StoreError(
            f"the store {name}: the user {db.info.user} may not make its tables in the schema {schema}: let the user do so "
            f"({cure} TO {user}), or name a schema of its own: ?options=-csearch_path%3DSCHEMA at the end of the URL"
        ) from fault


def _schema(db: Connection) -> tuple[str, bool]:
    """Return the schema in which tables are made, and whether it is there: the first of the search path is made where none is."""
    ((there, path, user),) = rows(db, "SELECT current_schema(), current_setting('search_path'), current_user")
    if there is not None:
        return str(there), True
    first = re.match(r'\s*(?:"((?:[^"]|"")*)"|([^\s,]+))', path)
    wanted = "public" if first is None else (first[1] or first[2] or "public").replace('""', '"')
    return str(user) if wanted == "$user" else wanted, False


def _expect_tables(db: Connection, name: str) -> None:
    wanted = [table for table in re.findall(r"CREATE TABLE (\w+)", _statements()) if table not in ADDED]
    if missing := _missing(db, wanted):
        raise StoreError(
            f"the store {name} has no table '{missing[0]}': something removed it, or the search path finds only a part of "
            "the tables; restore it from a backup, or name another schema"
        )


def _missing(db: Connection, tables: Sequence[str]) -> list[str]:
    """Return which of some tables are not there."""
    return [table for (table,) in rows(db, _MISSING, (list(tables),))]


def _statements() -> str:
    return (files(__package__ or "") / "postgres.sql").read_text()
