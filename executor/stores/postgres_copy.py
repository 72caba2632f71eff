"""A copy of a store in PostgreSQL: one SQLite file, which is a store like any other, with all that was there at one moment.

For a copy that goes back into PostgreSQL there is `pg_dump`, which the tables need nothing special for.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import orjson
import psycopg

from .postgres_fault import told_fault
from .postgres_link import Connection, connect
from .sqlite_store import SqliteStore
from .store import EVERYTHING, PLAN_COLUMNS, RESULT_COLUMNS
from .store_fault import told_fault as told_of_file
from .url import PostgresUrl

_SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
# Table of the copy -> what its rows are there.
_TABLES: Final = {
    "runs": "id, status, task, plan_digest, parent, created, updated, digest, epoch, owner, head, last_seq FROM firmplan_runs",
    "owners": "name, beat FROM firmplan_owners",
    "headers": "run_id, header FROM firmplan_headers",
    "journal": "run_id, first_seq, lines, head FROM firmplan_journal",
    "stored_values": "digest, data FROM firmplan_stored_values",
    "saved_values": "digest, saved FROM firmplan_saved_values",
    "reusable": f"{RESULT_COLUMNS} FROM firmplan_reusable",
    "calls": "run_id, step, subject, started, key, parts, code, lost FROM firmplan_calls",
    "codes": "digest, parts FROM firmplan_codes",
    "resources": f"name, epoch FROM firmplan_resources UNION ALL SELECT '{EVERYTHING}', sum(epoch)::bigint "
    "FROM firmplan_resources HAVING count(*) > 0",
    "open_writes": "run_id, step, resource FROM firmplan_open_writes",
    "decisions": "number, run_id, record FROM firmplan_decisions",
    "decided_attempts": "run_id, step, attempt, about, record FROM firmplan_decided_attempts",
    "plans": f"{PLAN_COLUMNS} FROM firmplan_plans",
    "plan_uses": "number, name, digest, outcome, run_id, noted FROM firmplan_plan_uses",
}
READ_ROWS: Final = 500  # how many rows are in memory at once


async def copy_into(url: PostgresUrl, path: Path) -> None:
    """Make the copy, through a connection of its own: others go on meanwhile. Raises: StoreError."""
    made = SqliteStore(path)
    await made.open()
    await made.close()
    await asyncio.to_thread(_copy_all, url, path)


def _copy_all(url: PostgresUrl, path: Path) -> None:
    try:
        with closing(connect(url)) as db, closing(sqlite3.connect(path, isolation_level=None)) as copy:
            db.execute(_SNAPSHOT)
            copy.execute("BEGIN IMMEDIATE")
            for table, columns in _TABLES.items():
                _copy(db, copy, table, columns)
            copy.execute("COMMIT")
            copy.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except psycopg.Error as fault:
        raise told_fault(url, fault) from fault
    except sqlite3.Error as fault:
        raise told_of_file(str(path), fault) from fault


def _copy(db: Connection, copy: sqlite3.Connection, table: str, columns: str) -> None:
    with db.cursor("copied", binary=True) as cursor:
        cursor.itersize = READ_ROWS
        cursor.execute(f"SELECT {columns}".encode())
        names = [column.name for column in cursor.description or ()]
        marks = ",".join("?" * len(names))
        rows = (_plain(table, row) for row in cursor)
        copy.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", rows)


def _plain(table: str, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a row as it stands in SQLite, where a task is a text and not JSON."""
    if table != "runs" or row[2] is None:
        return row
    return (*row[:2], orjson.loads(row[2]), *row[3:])
