"""Bytes that nothing refers to any more, found and removed while others go on writing.

What refers to bytes is text: a digest in a journal, a header, a decision, a saved plan, a result for reuse, or in a large value that one of
these names. So everything is read once, from a snapshot that holds up nobody, and what was named nowhere is unused. Only what is removed
is looked at again, in the transaction that removes it, against all that was written since: bytes are written in the same commit as
the first record that names them, so that one of the two sees the other.

Bytes that a caller has saved as an input are named by nobody until a run takes them: they stay for a while.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final, TypeVar

from .sieve import Sieve, Unused
from .sqlite_file import BUSY_TIMEOUT_MS, INCREMENTAL, SqliteFile
from .store import Pruned
from .store_fault import told_fault

_LAST: Final = "SELECT id, created, last_seq FROM runs"
_HEADERS: Final = "SELECT header FROM headers"
_JOURNALS: Final = "SELECT lines FROM journal"
# Outputs in `reusable` are also named in a journal until the run is deleted. So read them once, and again if a deletion came between.
_RESULTS: Final = "SELECT output FROM reusable"
_GONE: Final = "SELECT DISTINCT run_id FROM reusable WHERE run_id NOT IN (SELECT id FROM runs)"
_OTHERS: Final = ("SELECT record FROM decisions", "SELECT CAST(plan AS BLOB) FROM plans")
PORTION_PAGES: Final = 1_000  # of one transaction that makes the file smaller: some milliseconds
PAUSE_S: Final = 0.005  # between two of them: whoever waits for the file looks as often
CHECKPOINT_TIMEOUT_MS: Final = (
    500  # readers are waited for this long, and hold up nothing but the size of the file
)
T = TypeVar("T")


class SqlitePrune(SqliteFile):
    """Removes bytes from the store in SQLite."""

    async def prune_values(self, *, saved_before: float, among: frozenset[str] | None = None) -> Pruned:
        """See `Store.prune_values`."""
        return await self._apart(lambda db: _prune(db, saved_before, among))

    async def give_back_room(self) -> None:
        """See `Store.give_back_room`."""
        if self.name != ":memory:":
            await self._apart(_give_back_room)

    async def compact(self) -> bool:
        """See `Store.compact`."""
        return self.name != ":memory:" and await self._apart(_compact)

    async def _apart(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do work on a store in a file through a separate connection, so that commits continue meanwhile."""
        if self.name == ":memory:":
            return await self._call(lambda: work(self._open_db()))
        await self.expect_writable()
        # By the name that SQLite found it by when it was opened: a tool may have changed the working directory since.
        path = await self._call(lambda: str(self._sql("PRAGMA database_list").fetchone()[2]))
        return await asyncio.to_thread(self._on_connection, path, work)

    def _on_connection(self, path: str, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with closing(sqlite3.connect(path, isolation_level=None)) as db:
                db.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
                return work(db)
        except sqlite3.Error as fault:
            raise told_fault(self.name, fault) from fault


def _give_back_room(db: sqlite3.Connection) -> None:
    """Move the last pages of the file into free pages, a portion at a time so that others commit in between; then truncate the file."""
    before = -1
    while (free := db.execute("PRAGMA freelist_count").fetchone()[0]) not in (0, before):
        db.execute(
            f"PRAGMA incremental_vacuum({PORTION_PAGES})"
        ).fetchall()  # one row for each page that it moves
        before = free
        time.sleep(PAUSE_S)
    # If a reader blocks the checkpoint now, a later checkpoint truncates the file.
    db.execute(f"PRAGMA busy_timeout={CHECKPOINT_TIMEOUT_MS}")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _compact(db: sqlite3.Connection) -> bool:
    if db.execute("PRAGMA auto_vacuum").fetchone() == (INCREMENTAL,):
        return False
    db.execute(f"PRAGMA auto_vacuum={INCREMENTAL}")
    db.execute("VACUUM")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return True


def _prune(db: sqlite3.Connection, saved_before: float, among: frozenset[str] | None) -> Pruned:
    try:
        return remove_unused(db, find_unused(db, saved_before, among))
    except BaseException:
        if db.in_transaction:
            db.rollback()
        raise


def find_unused(db: sqlite3.Connection, saved_before: float, among: frozenset[str] | None = None) -> Unused:
    """Return the digests that nothing names, in one snapshot. O(size of the store)."""
    db.execute("BEGIN")
    stored = {digest for (digest,) in db.execute("SELECT digest FROM stored_values")}
    last = {(run_id, created): seq for run_id, created, seq in db.execute(_LAST)}
    gone = frozenset(run_id for (run_id,) in db.execute(_GONE))
    sieve = Sieve(value_finder(db), stored if among is None else stored & among)
    sieve.keep(_saved(db, saved_before))
    for statement in (_HEADERS, _JOURNALS, _RESULTS, *_OTHERS):
        sieve.keep_named(_texts(db, statement))
    db.execute("COMMIT")
    return Unused(frozenset(sieve.left), last, gone, saved_before)


def remove_unused(db: sqlite3.Connection, unused: Unused) -> Pruned:
    """Remove what is still named nowhere. O(what was written since it was found)."""
    if not unused.digests:
        return Pruned(0, 0)
    db.execute("BEGIN IMMEDIATE")
    sieve = Sieve(value_finder(db), set(unused.digests))
    sieve.keep(_saved(db, unused.saved_before))
    sieve.keep_named(_written_since(db, unused))
    size = 0
    for digest in sorted(sieve.left):
        statement = "DELETE FROM stored_values WHERE digest=? RETURNING length(data)"
        size += sum(length for (length,) in db.execute(statement, (digest,)).fetchall())
    db.execute("DELETE FROM saved_values WHERE saved < ?", (unused.saved_before,))
    db.execute("COMMIT")
    return Pruned(len(sieve.left), size)


def _saved(db: sqlite3.Connection, since: float) -> list[str]:
    return [name for (name,) in db.execute("SELECT digest FROM saved_values WHERE saved >= ?", (since,))]


def _written_since(db: sqlite3.Connection, unused: Unused) -> Iterator[bytes]:
    for run_id, created, now in db.execute(_LAST).fetchall():
        before = unused.last.get((run_id, created), 0)
        if before == 0:  # new, or planned only now
            yield from _texts(db, f"{_HEADERS} WHERE run_id=?", run_id)
        if before != now:
            yield from _texts(db, f"{_JOURNALS} WHERE run_id=? AND first_seq>?", run_id, before)
    for run_id in {run_id for (run_id,) in db.execute(_GONE)} - unused.gone:
        yield from _texts(db, f"{_RESULTS} WHERE run_id=?", run_id)
    for statement in _OTHERS:
        yield from _texts(db, statement)


def value_finder(db: sqlite3.Connection) -> Callable[[str], bytes | None]:
    """Return a function that finds a stored value by its digest."""

    def find(digest: str) -> bytes | None:
        found = db.execute("SELECT data FROM stored_values WHERE digest=?", (digest,)).fetchone()
        return found[0] if found else None

    return find


def _texts(db: sqlite3.Connection, statement: str, *values: object) -> Iterator[bytes]:
    for (text,) in db.execute(statement, values):
        yield text
