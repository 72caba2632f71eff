"""Fills a store with copies of its only run, as if so many runs had ended there: with headers, journals, reusable results and records of calls.

Ids and keys are in random order, as those of runs are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from typing import Final

# An odd factor has every number of 32 bits once, in an order as good as random.
MIXED: Final = "n * CAST(2654435761 AS bigint) % 4294967296"
# The tables that a run leaves rows in, and what differs in each copy; `{id}` and `{word}` are of the copy's number.
COPIED: Final[Mapping[str, Mapping[str, str]]] = {
    "runs": {
        "id": "{id}",
        "created": "created - n",
        "status": "CASE WHEN n % 10 = 0 THEN 'failed' ELSE 'succeeded' END",
    },
    "headers": {"run_id": "{id}"},
    "journal": {"run_id": "{id}"},
    "reuse_log": {"number": "number + n * 1000"},
    "reuse_keys": {
        "number": "number + n * 1000",
        "prefix": f"({MIXED} - 2147483648) * 4294967296 + (prefix & 65535)",
    },
    "calls": {"run_id": "{id}", "key": "substr(key, 1, 7) || {word} || substr(key, 16)"},
}


def copies(table: str, columns: list[str], prefix: str, word: str, numbers: str) -> str:
    """Return the statement that copies the rows of a table."""
    changed = {name: text.format(id=f"'run_' || {word}", word=word) for name, text in COPIED[table].items()}
    chosen = ", ".join(changed.get(name, name) for name in columns)
    return (
        f"INSERT INTO {prefix}{table} ({', '.join(columns)}) SELECT {chosen} FROM {prefix}{table}, {numbers}"
    )


def fill_file(path: str, runs: int) -> None:
    """Copy the only run of a store in a file."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TEMP TABLE numbers AS WITH RECURSIVE all_of(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM all_of "
                   f"WHERE n < {runs}) SELECT n FROM all_of")  # fmt: skip
        for table in COPIED:
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            db.execute(copies(table, columns, "", f"printf('%08x', {MIXED})", "numbers"))


def fill_server(url: str, runs: int) -> None:
    """Copy the only run of a store on a server, and count what is there, as the server does by itself after a while."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as db:
        for table in COPIED:
            found = db.execute(
                "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = %s "
                "ORDER BY ordinal_position", [f"firmplan_{table}"]
            ).fetchall()  # fmt: skip
            columns = [str(row[0]) for row in found]
            numbers = f"generate_series(1, {runs}) AS numbers(n)"
            db.execute(
                copies(table, columns, "firmplan_", f"lpad(to_hex({MIXED}), 8, '0')", numbers).encode()
            )
        db.execute("VACUUM ANALYZE")
