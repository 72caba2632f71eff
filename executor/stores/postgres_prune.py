"""Bytes in PostgreSQL that nothing refers to any more, found and removed while others go on writing.

As in SQLite (`sqlite_prune.py`): what is named is read from a snapshot that holds up nobody. What is removed is looked at again against
all that was written since, while nobody writes: the tables in which a name may come to stand are locked against writers, who wait, and
those who were before have committed and are seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final

import psycopg

from .postgres_fault import told_fault
from .postgres_link import Connection, Query, connect, rows
from .postgres_server import PostgresServer
from .sieve import Sieve, Unused
from .store import Pruned

_SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
# In the order in which writers take them, but for the values, which a writer may have before a run: then one of the two tries again.
_LOCK: Final = (
    "LOCK TABLE firmplan_runs, firmplan_headers, firmplan_journal, firmplan_decisions, firmplan_plans, firmplan_stored_values, "
    "firmplan_saved_values IN SHARE ROW EXCLUSIVE MODE"
)
_SAVED: Final = "SELECT digest FROM firmplan_saved_values WHERE saved >= %s"
_LAST: Final = "SELECT id, created, last_seq FROM firmplan_runs"
_HEADERS: Final = "SELECT header FROM firmplan_headers"
_HEADER: Final = f"{_HEADERS} WHERE run_id=%s"
_JOURNALS: Final = "SELECT lines FROM firmplan_journal"
_JOURNAL: Final = f"{_JOURNALS} WHERE run_id=%s AND first_seq>%s"
_RESULTS: Final = "SELECT output FROM firmplan_reusable"
_RESULTS_OF: Final = f"{_RESULTS} WHERE run_id=%s"
_GONE: Final = """
    SELECT DISTINCT run_id FROM firmplan_reusable AS result
    WHERE NOT EXISTS (SELECT 1 FROM firmplan_runs AS run WHERE run.id=result.run_id)
"""
_OTHERS: Final = (
    "SELECT record FROM firmplan_decisions",
    "SELECT convert_to(plan, 'UTF8') FROM firmplan_plans",
)
_REMOVE: Final = """
    WITH gone AS (DELETE FROM firmplan_stored_values WHERE digest = ANY(%s::text[]) RETURNING octet_length(data) AS size)
    SELECT count(*), coalesce(sum(size), 0)::bigint FROM gone
"""
READ_ROWS: Final = 1_000  # how many rows of a large table are in memory at once
TRIES: Final = 5


class PostgresPrune(PostgresServer):
    """Removes bytes from the store in PostgreSQL."""

    async def prune_values(self, *, saved_before: float, among: frozenset[str] | None = None) -> Pruned:
        """See `Store.prune_values`. Through a connection of its own: commits go on while all is read."""
        return await asyncio.to_thread(self._prune_apart, saved_before, among)

    async def give_back_room(self) -> None:
        """See `Store.give_back_room`. The server reuses the space of removed rows after its autovacuum has run."""

    async def compact(self) -> bool:
        """See `Store.compact`. The server manages its own files."""
        return False

    def _prune_apart(self, saved_before: float, among: frozenset[str] | None) -> Pruned:
        with closing(connect(self._url)) as db:
            try:
                unused = find_unused(db, saved_before, among)
                for _ in range(TRIES - 1):
                    try:
                        return remove_unused(db, unused)
                    except psycopg.errors.DeadlockDetected:
                        continue
                return remove_unused(db, unused)
            except psycopg.Error as fault:
                raise told_fault(self._url, fault) from fault


def find_unused(db: Connection, saved_before: float, among: frozenset[str] | None = None) -> Unused:
    """Return the digests that nothing names, in one snapshot. O(size of the store)."""
    db.execute(_SNAPSHOT)
    stored = {digest for (digest,) in rows(db, "SELECT digest FROM firmplan_stored_values")}
    last = {(run_id, created): seq for run_id, created, seq in rows(db, _LAST)}
    gone = frozenset(run_id for (run_id,) in rows(db, _GONE))
    sieve = Sieve(value_finder(db), stored if among is None else stored & among)
    sieve.keep(digest for (digest,) in rows(db, _SAVED, (saved_before,)))
    for statement in (_HEADERS, _JOURNALS, _RESULTS, *_OTHERS):
        sieve.keep_named(_texts(db, statement) if sieve.left else ())
    db.execute("COMMIT")
    return Unused(frozenset(sieve.left), last, gone, saved_before)


def remove_unused(db: Connection, unused: Unused) -> Pruned:
    """Remove what is still named nowhere. O(what was written since it was found)."""
    if not unused.digests:
        return Pruned(0, 0)
    with db.transaction():
        db.execute(_LOCK)
        sieve = Sieve(value_finder(db), set(unused.digests))
        sieve.keep(digest for (digest,) in rows(db, _SAVED, (unused.saved_before,)))
        sieve.keep_named(_written_since(db, unused))
        ((count, size),) = rows(db, _REMOVE, (sorted(sieve.left),))
        db.execute("DELETE FROM firmplan_saved_values WHERE saved < %s", (unused.saved_before,))
    return Pruned(count, size)


def _written_since(db: Connection, unused: Unused) -> Iterator[bytes]:
    for run_id, created, now in rows(db, _LAST):
        before = unused.last.get((run_id, created), 0)
        if before == 0:  # new, or planned only now
            yield from _texts(db, _HEADER, run_id)
        if before != now:
            yield from _texts(db, _JOURNAL, run_id, before)
    for run_id in {run_id for (run_id,) in rows(db, _GONE)} - unused.gone:
        yield from _texts(db, _RESULTS_OF, run_id)
    for statement in _OTHERS:
        yield from _texts(db, statement)


def _texts(db: Connection, statement: Query, *values: object) -> Iterator[bytes]:
    """Yield the texts of one column, a bounded number in memory."""
    with db.cursor("texts", binary=True) as cursor:
        cursor.itersize = READ_ROWS
        for (text,) in cursor.execute(statement, values):
            yield text


def value_finder(db: Connection) -> Callable[[str], bytes | None]:
    """Return a function that finds a stored value by its digest."""

    def find(digest: str) -> bytes | None:
        found = rows(db, "SELECT data FROM firmplan_stored_values WHERE digest=%s", (digest,))
        return found[0][0] if found else None

    return find
