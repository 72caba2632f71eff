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
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from .sieve import Sieve
from .sqlite_file import BUSY_TIMEOUT_MS, SqliteFile
from .store import Pruned
from .store_fault import told_fault

_HEADERS: Final = "SELECT header FROM headers"
_JOURNALS: Final = "SELECT lines FROM journal"
# What is named for reuse is named in a journal as well, but not for longer: reading it once is enough.
_RESULTS: Final = "SELECT output FROM reusable"
_OTHERS: Final = ("SELECT record FROM decisions", "SELECT CAST(plan AS BLOB) FROM plans")


@dataclass(frozen=True, slots=True)
class Unused:
    """What was named nowhere, and how far the store was read.

    Attributes:
        last: Run -> the number of its last record that was read.
        saved_before: What was saved later is not unused.
    """

    digests: frozenset[str]
    last: Mapping[str, int]
    saved_before: float


class SqlitePrune(SqliteFile):
    """Removes bytes from the store in SQLite."""

    async def prune_values(self, *, saved_before: float) -> Pruned:
        """See `Store.prune_values`. A store in a file is read through a connection of its own: commits go on meanwhile."""
        if self.name == ":memory:":
            return await self._call(lambda: _prune(self._open_db(), saved_before))
        # By the name that SQLite found it by when it was opened: a tool may have changed the working directory since.
        path = await self._call(lambda: str(self._sql("PRAGMA database_list").fetchone()[2]))
        return await asyncio.to_thread(self._prune_apart, path, saved_before)

    def _prune_apart(self, path: str, saved_before: float) -> Pruned:
        try:
            with closing(sqlite3.connect(path, isolation_level=None)) as db:
                db.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
                return _prune(db, saved_before)
        except sqlite3.Error as fault:
            raise told_fault(self.name, fault) from fault


def _prune(db: sqlite3.Connection, saved_before: float) -> Pruned:
    try:
        return remove_unused(db, find_unused(db, saved_before))
    except BaseException:
        if db.in_transaction:
            db.rollback()
        raise


def find_unused(db: sqlite3.Connection, saved_before: float) -> Unused:
    """Return what nothing names, as one snapshot has it. O(size of the store)."""
    db.execute("BEGIN")
    stored = {digest for (digest,) in db.execute("SELECT digest FROM stored_values")}
    last = dict(db.execute("SELECT id, last_seq FROM runs"))
    sieve = Sieve(_finder(db), stored)
    sieve.keep(_saved(db, saved_before))
    for statement in (_HEADERS, _JOURNALS, _RESULTS, *_OTHERS) if stored else ():
        sieve.keep_named(_texts(db, statement))
    db.execute("COMMIT")
    return Unused(frozenset(sieve.left), last, saved_before)


def remove_unused(db: sqlite3.Connection, unused: Unused) -> Pruned:
    """Remove what is still named nowhere. O(what was written since it was found)."""
    if not unused.digests:
        return Pruned(0, 0)
    db.execute("BEGIN IMMEDIATE")
    sieve = Sieve(_finder(db), set(unused.digests))
    sieve.keep(_saved(db, unused.saved_before))
    sieve.keep_named(_written_since(db, unused.last))
    size = 0
    for digest in sorted(sieve.left):
        statement = "DELETE FROM stored_values WHERE digest=? RETURNING length(data)"
        size += sum(length for (length,) in db.execute(statement, (digest,)).fetchall())
    db.execute("DELETE FROM saved_values WHERE saved < ?", (unused.saved_before,))
    db.execute("COMMIT")
    return Pruned(len(sieve.left), size)


def _saved(db: sqlite3.Connection, since: float) -> list[str]:
    return [name for (name,) in db.execute("SELECT digest FROM saved_values WHERE saved >= ?", (since,))]


def _written_since(db: sqlite3.Connection, last: Mapping[str, int]) -> Iterator[bytes]:
    for run_id, now in db.execute("SELECT id, last_seq FROM runs").fetchall():
        before = last.get(run_id, 0)
        if before == 0:  # new, or planned only now
            yield from _texts(db, f"{_HEADERS} WHERE run_id=?", run_id)
        if before != now:
            yield from _texts(db, f"{_JOURNALS} WHERE run_id=? AND first_seq>?", run_id, before)
    for statement in _OTHERS:
        yield from _texts(db, statement)


def _finder(db: sqlite3.Connection) -> Callable[[str], bytes | None]:
    def find(digest: str) -> bytes | None:
        found = db.execute("SELECT data FROM stored_values WHERE digest=?", (digest,)).fetchone()
        return found[0] if found else None

    return find


def _texts(db: sqlite3.Connection, statement: str, *values: object) -> Iterator[bytes]:
    for (text,) in db.execute(statement, values):
        yield text
