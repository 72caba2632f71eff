"""The tables of a store in PostgreSQL: made, counted by their format, checked for rot.

They are made in the first schema of the session's search path that there is; where the path names none that is there, its first is
made. Their names begin with `firmplan_`, so that a database may hold other things as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Final, LiteralString

import psycopg
from psycopg import sql

from ...errors import StoreError
from .location import POSTGRES_FORMAT
from .postgres_link import DURABLE, Connection, rows
from .store import RESULT_COLUMNS, damaged_results

SERVER_MIN: Final = 130000  # as the server counts: 13.0
_MAKING: Final = 0x6669726D706C616E  # "firmplan": whoever makes tables holds the lock of this number
# Statements that bring a store of each format to the next format.
STEPS: Final[Mapping[int, Sequence[LiteralString]]] = {
    1: (
        "ALTER TABLE firmplan_reusable ADD COLUMN row_digest bytea NOT NULL DEFAULT ''",
        "ALTER TABLE firmplan_plans ADD COLUMN row_digest bytea NOT NULL DEFAULT ''",
        "CREATE INDEX IF NOT EXISTS firmplan_runs_by_parent ON firmplan_runs (parent) WHERE parent IS NOT NULL",
        (
            'CREATE TABLE IF NOT EXISTS firmplan_decided_attempts (run_id text COLLATE "C" NOT NULL, step text COLLATE "C" NOT NULL, '
            'attempt bigint NOT NULL, about text COLLATE "C" NOT NULL, record bytea NOT NULL, '
            "PRIMARY KEY (run_id, step, attempt, about))"
        ),
    ),
}
_HOME: Final = "SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid=c.relnamespace WHERE c.oid='firmplan_store'::regclass"
_ROTTEN: Final = "SELECT digest FROM firmplan_stored_values WHERE digest <> 'sha256:' || encode(sha256(data), 'hex') ORDER BY digest"
READ_ROWS: Final = 1_000  # how many results are in memory at once
_CHECKSUMS: Final = (
    "SELECT coalesce(checksum_failures, 0) FROM pg_stat_database WHERE datname = current_database()"
)


def bring_up(db: Connection, name: str) -> None:
    """Make the tables where there are none. Raises: StoreError: the store is of another format, or cannot be made."""
    _expect_server(db, name)
    if (find_format(db) or 0) < POSTGRES_FORMAT:
        _make(db, name)
    found = find_format(db)
    if found is None or found > POSTGRES_FORMAT:
        raise StoreError(
            f"the store {name} has format {found}; this firmplan reads up to {POSTGRES_FORMAT}: upgrade firmplan"
        )
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
    rotten = rows(db, _ROTTEN)
    told += [f"the value {digest} is not as it was written" for (digest,) in rotten]
    return [*told, *damaged_results(_results(db))]


def _results(db: Connection) -> Iterator[Sequence[object]]:
    """Yield all rows of results that may be reused, a bounded number in memory."""
    with db.transaction(), db.cursor("results", binary=True) as cursor:
        cursor.itersize = READ_ROWS
        yield from cursor.execute(f"SELECT {RESULT_COLUMNS} FROM firmplan_reusable ORDER BY key")


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


def _make(db: Connection, name: str) -> None:
    # A lock of the session, not of the transaction: what another process made meanwhile is seen by a transaction that begins later.
    db.execute("SELECT pg_advisory_lock(%s)", (_MAKING,))
    try:
        found = find_format(db)
        if found is None:
            _make_tables(db, name)
        elif found < POSTGRES_FORMAT:
            _upgrade(db, name, found)
    finally:
        db.execute("SELECT pg_advisory_unlock(%s)", (_MAKING,))


def _make_tables(db: Connection, name: str) -> None:
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


def _upgrade(db: Connection, name: str, found: int) -> None:
    try:
        with db.transaction():
            db.execute(DURABLE)
            ((schema,),) = rows(db, _HOME)  # the search path may name another one first
            db.execute(sql.SQL("SET LOCAL search_path TO {}").format(sql.Identifier(schema)))
            for number in range(found, POSTGRES_FORMAT):
                for statement in STEPS[number]:
                    db.execute(statement)
            db.execute("UPDATE firmplan_store SET format=%s", (POSTGRES_FORMAT,))
    except psycopg.errors.InsufficientPrivilege as fault:
        raise StoreError(
            f"the store {name} has format {found}, and the user {db.info.user} may not bring it to format {POSTGRES_FORMAT}: "
            "the tables belong to another user; run `firmplan store upgrade` as the user who made them"
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
    wanted = re.findall(r"CREATE TABLE (\w+)", _statements())
    missing = rows(
        db,
        "SELECT t FROM unnest(%s::text[]) WITH ORDINALITY AS w(t, n) WHERE to_regclass(t) IS NULL ORDER BY n",
        (wanted,),
    )
    if missing:
        raise StoreError(
            f"the store {name} has no table '{missing[0][0]}': something removed it, or the search path finds only a part of "
            "the tables; restore it from a backup, or name another schema"
        )


def _statements() -> str:
    return (files(__package__ or "") / "postgres.sql").read_text()
