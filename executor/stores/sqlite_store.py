"""The store in one SQLite file (WAL), the default; in memory it is the store of tests.

Rules it keeps: a group of appends is one commit. One that holds a write's intent or outcome is made with `synchronous=FULL` (it
survives a power loss), others with NORMAL (they survive a killed process). The file itself is `sqlite_file.py`, what is kept of calls `sqlite_cache.py`.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final, cast

import orjson

from ...errors import StoreError
from .sieve import named_in
from .sqlite_cache import SqliteCache
from .sqlite_file import LARGE_BYTES, PORTION_BYTES
from .sqlite_prune import SqlitePrune, value_finder
from .sqlite_uses import SqliteUses
from .store import (
    CHILDREN_TOLD,
    EVERYTHING,
    PLAN_COLUMNS,
    SEQ_MAX,
    Batch,
    DecisionKey,
    Removal,
    RunRow,
    StoredPlan,
    digest_of_plan,
    fenced,
    left_by,
)

_ROW_COLUMNS: Final = (
    "id, status, task, plan_digest, parent, created, updated, digest, epoch, owner, head, last_seq"
)
_ROW: Final = f"{_ROW_COLUMNS}, (SELECT beat FROM owners WHERE name=owner)"
_APPEND: Final = (
    "UPDATE runs SET status=?, digest=?, updated=?, head=?, last_seq=? WHERE id=? AND epoch=? AND last_seq=?"
)
_APPEND_LAST: Final = _APPEND.replace("SET ", "SET owner=NULL, ")
# Start from a random number: an observer that watched the same owner before sees a new beat, also after each claim.
_BEGIN_TO_BEAT: Final = (
    "INSERT INTO owners VALUES (?, abs(random() >> 32)) ON CONFLICT (name) DO UPDATE SET beat=beat+1"
)
_FREE_OWNERS: Final = "DELETE FROM owners WHERE NOT EXISTS (SELECT 1 FROM runs WHERE owner=name)"
# Tables whose rows belong to one run and go with it. Rows of `reusable` need no run, and stay.
OF_ONE_RUN: Final = ("headers", "journal", "decisions", "decided_attempts", "calls")
_ENDED: Final = ("succeeded", "failed", "cancelled")
# The headers that were last read: a run is looked up several times while it is driven.
HEADERS_KEPT: Final = 4


class SqliteStore(SqliteCache, SqliteUses, SqlitePrune):
    """A store in the SQLite file `path`, made if it is not there."""

    # The last run with a large header that was submitted here, until it ends: id, digest of the text, and the parsed header.
    _large_header: tuple[str, bytes, Mapping[str, Any]] | None = None

    # --- runs

    async def create_run(self, row: RunRow) -> bool:
        """See `Store.create_run`."""

        def work() -> bool:
            self._sync("FULL")
            self._sql("BEGIN IMMEDIATE")
            if row.parent is not None and not row.is_replay:
                found = self._sql("SELECT 1 FROM runs WHERE id=?", (row.parent,)).fetchone()
                row.expect_parent(is_there=found is not None)
            cursor = self._sql(
                f"INSERT OR IGNORE INTO runs ({_ROW_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    row.id,
                    row.status,
                    row.task,
                    row.plan_digest,
                    row.parent,
                    row.created,
                    row.updated,
                    row.digest,
                    row.epoch,
                    row.owner,
                    row.head,
                    row.last_seq,
                ),
            )
            is_new = cursor.rowcount == 1
            if is_new:
                self._keep_header(row.id, row.header)
            self._sql("COMMIT")
            return is_new

        return await self._call(work)

    async def set_header(
        self,
        run_id: str,
        header: Mapping[str, Any],
        plan_digest: str | None,
        epoch: int,
        status: str,
        at: float,
    ) -> None:
        """See `Store.set_header`."""

        def work() -> None:
            self._sync("FULL")
            self._sql("BEGIN IMMEDIATE")
            cursor = self._sql(
                "UPDATE runs SET plan_digest=?, status=?, updated=? WHERE id=? AND epoch=?",
                (plan_digest, status, at, run_id, epoch),
            )
            if cursor.rowcount != 1:
                raise self._fenced(run_id)
            self._sql("DELETE FROM headers WHERE run_id=?", (run_id,))
            self._keep_header(run_id, header)
            self._sql("COMMIT")

        await self._call(work)

    async def find_run(self, run_id: str) -> RunRow | None:
        """See `Store.find_run`."""
        return await self._look(lambda db: self._find(db, run_id))

    def _find(self, db: sqlite3.Connection, run_id: str) -> RunRow | None:
        if "headers" not in self._numbered:
            return _find_run(db, run_id)
        statement = (
            f"SELECT {_ROW}, headers.rowid, CASE WHEN length(header) < {LARGE_BYTES} THEN header END "
            "FROM runs JOIN headers ON run_id=id WHERE id=?"
        )
        found = db.execute(statement, (run_id,)).fetchone()
        if found is None:
            return None
        *row, number, text = found
        if text is not None:
            return _row(row, _read_header(text))
        header = self._read_large(db, run_id, number)
        db.execute("PRAGMA shrink_memory")  # its pages are not needed any more
        return _row(row, header)

    def _read_large(self, db: sqlite3.Connection, run_id: str, number: int) -> Mapping[str, Any]:
        """Return a large header: the cached header of the last run if the bytes are equal, else the parsed text."""
        with db.blobopen("headers", "header", number, readonly=True) as blob:
            known = self._large_header
            if known is not None and known[0] == run_id:
                hashed = hashlib.sha256()
                while portion := blob.read(PORTION_BYTES):
                    hashed.update(portion)
                if hashed.digest() == known[1]:
                    return known[2]
                blob.seek(0)
            return cast("Mapping[str, Any]", orjson.loads(blob.read()))

    def _keep_header(self, run_id: str, header: Mapping[str, Any]) -> None:
        """Insert a header, inside a transaction."""
        text = orjson.dumps(header)
        self._put("INSERT INTO headers VALUES (?,?)", (run_id,), text, "headers", "header")
        if len(text) >= LARGE_BYTES:  # it is read again and again while the run is driven
            self._large_header = (run_id, hashlib.sha256(text).digest(), header)

    def _keep_value(self, name: str, data: bytes) -> None:
        """Insert a value if it is not there, inside a transaction."""
        self._put("INSERT OR IGNORE INTO stored_values VALUES (?,?)", (name,), data, "stored_values", "data")

    async def delete_run(self, run_id: str, statuses: Collection[str]) -> Removal:
        """See `Store.delete_run`. The run is read before the transaction, since an ended run never changes."""

        def work() -> Removal:
            found = self._removal(run_id, statuses)
            if not found.is_removed:
                return found
            named = self._stored_among(self._named_by(run_id))
            self._sort_calls()
            self._sync("NORMAL")
            self._sql("BEGIN IMMEDIATE")
            found = self._removal(run_id, statuses)
            if found.is_removed:
                self._delete_rows(run_id, found.status or "")
            self._sql("COMMIT")
            return replace(found, named=named)

        return await self._call(work)

    def _removal(self, run_id: str, statuses: Collection[str]) -> Removal:
        """Return whether a run may be removed now."""
        found = self._sql("SELECT status FROM runs WHERE id=?", (run_id,)).fetchone()
        if found is None:
            return Removal(None)
        statement = f"SELECT id FROM runs WHERE parent=? ORDER BY created, id LIMIT {CHILDREN_TOLD}"
        children = tuple(child for (child,) in self._sql(statement, (run_id,)))
        return Removal(found[0], children, is_removed=found[0] in statuses and not children)

    def _named_by(self, run_id: str) -> set[str]:
        texts = [
            text
            for statement in (
                "SELECT header FROM headers WHERE run_id=?",
                "SELECT lines FROM journal WHERE run_id=?",
                "SELECT record FROM decisions WHERE run_id=?",
                "SELECT record FROM decided_attempts WHERE run_id=?",
            )
            for (text,) in self._sql(statement, (run_id,))
        ]
        return named_in(value_finder(self._open_db()), texts)

    def _stored_among(self, digests: Iterable[str]) -> frozenset[str]:
        found = self._select("digest", "stored_values", "digest", sorted(digests))
        return frozenset(digest for (digest,) in found)

    def _delete_rows(self, run_id: str, status: str) -> None:
        statement = "DELETE FROM open_writes WHERE run_id=? RETURNING resource"
        for (resource,) in self._sql(statement, (run_id,)).fetchall():
            self._raise_epoch(resource)
        for table in OF_ONE_RUN:
            self._sql(f"DELETE FROM {table} WHERE run_id=?", (run_id,))
        self._sql("DELETE FROM runs WHERE id=?", (run_id,))
        self._sql(_FREE_OWNERS)
        self._keep_outcome(run_id, status)

    async def list_runs(
        self, *, status: str | None, limit: int, before: tuple[float, str] | None
    ) -> Sequence[RunRow]:
        """See `Store.list_runs`."""
        conditions, values = ["1"], list[object]()
        if status is not None:
            conditions.append("status=?")
            values.append(status)
        if before is not None:
            conditions.append("(created, id) < (?, ?)")
            values.extend(before)
        statement = (
            f"SELECT {_ROW} FROM runs WHERE {' AND '.join(conditions)} ORDER BY created DESC, id DESC LIMIT ?"
        )
        return await self._call(lambda: [_row(found, {}) for found in self._sql(statement, [*values, limit])])

    async def list_driven(self) -> Sequence[RunRow]:
        """See `Store.list_driven`."""
        statement = f"SELECT {_ROW} FROM runs WHERE owner IS NOT NULL AND status IN ('queued', 'running')"
        return await self._call(lambda: [_row(found, {}) for found in self._sql(statement)])

    async def claim(
        self, run_id: str, owner: str, *, is_alive: Callable[[str, int | None], bool], by_force: bool = False
    ) -> RunRow | None:
        """See `Store.claim`."""

        def work() -> RunRow | None:
            self._known.check(self._open_db())
            self._sql("BEGIN IMMEDIATE")
            row = self._find(self._open_db(), run_id)
            if row is None or (row.owner is not None and is_alive(row.owner, row.beat)):
                self._sql("ROLLBACK")
                return None
            if row.owner != owner and not by_force:
                self._sql("DELETE FROM owners WHERE name=?", (row.owner,))
            self._sql(_BEGIN_TO_BEAT, (owner,))
            self._sql("UPDATE runs SET owner=?, epoch=epoch+1 WHERE id=?", (owner, run_id))
            if by_force:
                self._sql(_FREE_OWNERS)
            (beat,) = self._sql("SELECT beat FROM owners WHERE name=?", (owner,)).fetchone()
            self._sql("COMMIT")
            taken_from = row.owner if row.owner != owner and not by_force else None
            return replace(row, owner=owner, epoch=row.epoch + 1, beat=beat, taken_from=taken_from)

        return await self._call(work)

    async def release(self, epochs: Mapping[str, int]) -> None:
        """See `Store.release`."""

        def work() -> None:
            self._sql("BEGIN IMMEDIATE")
            self._open_db().executemany("UPDATE runs SET owner=NULL WHERE id=? AND epoch=?", epochs.items())
            self._sql(_FREE_OWNERS)
            self._sql("COMMIT")

        await self._call(work)

    async def list_owned(self, owner: str) -> Mapping[str, int]:
        """See `Store.list_owned`."""
        statement = "SELECT id, epoch FROM runs WHERE owner=?"
        return await self._call(lambda: dict(self._sql(statement, (owner,)).fetchall()))

    async def raise_beat(self, owner: str) -> bool:
        """See `Store.raise_beat`."""
        statement = "UPDATE owners SET beat=beat+1 WHERE name=?"
        return await self._call(lambda: self._sql(statement, (owner,)).rowcount == 1)

    # --- journal

    def append(self, batches: Sequence[Batch]) -> Sequence[StoreError | None]:
        """See `Store.append`."""
        return self._guarded(lambda: self._commit(batches))

    def _commit(self, batches: Sequence[Batch]) -> list[StoreError | None]:
        is_synced = any(batch.is_synced for batch in batches)
        self._sync("FULL" if is_synced else "NORMAL")
        self._sql("BEGIN IMMEDIATE")
        faults = [self._append(batch) if batch.lines else None for batch in batches]
        if any(batch.releases for batch in batches):
            self._sql(_FREE_OWNERS)
        if (left := left_by(batches)) is not None:
            self._add_left(left)
        self._sql("COMMIT")
        if not is_synced:
            self._known.read_on(self._open_db())
        return faults

    def _append(self, batch: Batch) -> StoreError | None:
        changed = self._sql(
            _APPEND if batch.releases is None else _APPEND_LAST,
            (
                batch.status,
                batch.digest,
                batch.updated,
                batch.head,
                batch.first_seq - 1 + len(batch.lines),
                batch.run_id,
                batch.epoch,
                batch.first_seq - 1,
            ),
        )
        if changed.rowcount != 1:
            return self._fenced(batch.run_id)
        if (
            self._large_header is not None
            and self._large_header[0] == batch.run_id
            and batch.status in _ENDED
        ):
            self._large_header = None
        self._sql(
            "INSERT INTO journal VALUES (?,?,?,?)",
            (batch.run_id, batch.first_seq, b"\n".join(batch.lines), batch.head),
        )
        for digest, data in batch.values.items():
            self._keep_value(digest, data)
        for step, resource in batch.opened.items():
            self._sql("INSERT OR REPLACE INTO open_writes VALUES (?,?,?)", (batch.run_id, step, resource))
            self._raise_epoch(resource)
        for step in batch.closed:
            statement = "DELETE FROM open_writes WHERE run_id=? AND step=? RETURNING resource"
            for (resource,) in self._sql(statement, (batch.run_id, step)).fetchall():
                self._raise_epoch(resource)
        for number in batch.decided:
            self._sql("DELETE FROM decisions WHERE number=?", (number,))
        return None

    def _fenced(self, run_id: str) -> StoreError:
        """Return the error for an owner that has lost the run."""
        found = self._sql("SELECT owner FROM runs WHERE id=?", (run_id,)).fetchone()
        return fenced(run_id, found[0] if found is not None else None)

    def _raise_epoch(self, resource: str) -> None:
        for name in (resource, EVERYTHING):
            self._sql(
                "INSERT INTO resources VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET epoch=epoch+1", (name,)
            )

    async def add_decision(self, run_id: str, decision: bytes) -> None:
        """See `Store.add_decision`."""

        def work() -> None:
            self._sync("FULL")
            self._sql("INSERT INTO decisions (run_id, record) VALUES (?,?)", (run_id, decision))

        await self._call(work)

    async def add_decisions(
        self, run_id: str, decisions: Mapping[DecisionKey, bytes]
    ) -> Mapping[DecisionKey, bytes]:
        """See `Store.add_decisions`. The transaction has the only writer, so no row can come between the query and the insert."""

        def work() -> dict[DecisionKey, bytes]:
            self._sync("FULL")
            self._sql("BEGIN IMMEDIATE")
            standing: dict[DecisionKey, bytes] = {}
            for key, record in decisions.items():
                place = (run_id, key.step, key.attempt, key.about)
                added = self._sql(
                    "INSERT OR IGNORE INTO decided_attempts VALUES (?,?,?,?,?)", (*place, record)
                )
                if added.rowcount == 1:
                    self._sql("INSERT INTO decisions (run_id, record) VALUES (?,?)", (run_id, record))
                else:
                    statement = "SELECT record FROM decided_attempts WHERE run_id=? AND step=? AND attempt=? AND about=?"
                    (standing[key],) = self._sql(statement, place).fetchone()
            self._sql("ROLLBACK" if standing else "COMMIT")
            return standing

        return await self._call(work)

    async def list_decisions(self, run_id: str) -> Sequence[tuple[int, bytes]]:
        """See `Store.list_decisions`."""
        statement = "SELECT number, record FROM decisions WHERE run_id=? ORDER BY number"
        return await self._look(lambda db: db.execute(statement, (run_id,)).fetchall())

    def list_decided(self) -> Sequence[str]:
        """See `Store.list_decided`."""
        statement = "SELECT DISTINCT run_id FROM decisions"

        def work() -> list[str]:
            self._known.read_on(self._open_db())
            return [run_id for (run_id,) in self._sql(statement)]

        return self._guarded(work)

    async def drop_decisions(self, numbers: Sequence[int]) -> None:
        """See `Store.drop_decisions`."""

        def work() -> None:
            self._sql("BEGIN IMMEDIATE")
            for number in numbers:
                statement = "DELETE FROM decisions WHERE number=? RETURNING run_id, record"
                for dropped in self._sql(statement, (number,)).fetchall():
                    self._sql("DELETE FROM decided_attempts WHERE run_id=? AND record=?", dropped)
            self._sql("COMMIT")

        await self._call(work)

    async def read_journal(self, run_id: str, after: int = 0, *, limit: int | None = None) -> Sequence[bytes]:
        """See `Store.read_journal`."""

        def work() -> list[bytes]:
            lines: list[bytes] = []
            statement = (
                "SELECT first_seq, lines FROM journal WHERE run_id=? AND first_seq>=coalesce("
                "(SELECT max(first_seq) FROM journal WHERE run_id=? AND first_seq<=?), 0) AND first_seq<=? ORDER BY first_seq"
            )
            last = SEQ_MAX if limit is None else min(after + limit, SEQ_MAX)
            for first_seq, joined in self._sql(statement, (run_id, run_id, after + 1, last)):
                found = joined.split(b"\n")
                lines += found[max(0, after + 1 - first_seq) :]
            return lines if limit is None else lines[:limit]

        return await self._call(work)

    async def read_heads(self, run_id: str) -> Sequence[tuple[int, bytes]]:
        """See `Store.read_heads`."""
        statement = "SELECT first_seq, head FROM journal WHERE run_id=? ORDER BY first_seq"
        return await self._call(lambda: self._sql(statement, (run_id,)).fetchall())

    async def find_values(self, digests: Sequence[str]) -> Mapping[str, bytes]:
        """See `Store.find_values`."""
        return await self._call(
            lambda: dict(self._select("digest, data", "stored_values", "digest", digests))
        )

    async def add_value(self, name: str, data: bytes, at: float) -> None:
        """See `Store.add_value`."""

        def work() -> None:
            self._sync("FULL")
            self._sql("BEGIN IMMEDIATE")
            self._keep_value(name, data)
            self._sql("INSERT OR REPLACE INTO saved_values VALUES (?,?)", (name, at))
            self._sql("COMMIT")

        await self._call(work)

    # --- plans

    async def save_plan(self, name: str, plan: str, digest: str, at: float) -> None:
        """See `Store.save_plan`."""

        def work() -> None:
            self._sync("FULL")
            self._sql(
                f"INSERT OR REPLACE INTO plans ({PLAN_COLUMNS}) VALUES (?,?,?,?,?)",
                (name, plan, digest, at, digest_of_plan(name, plan, digest, at)),
            )

        await self._call(work)

    async def list_plans(self) -> Sequence[StoredPlan]:
        """See `Store.list_plans`."""
        statement = f"SELECT {PLAN_COLUMNS} FROM plans ORDER BY name"
        return await self._call(lambda: [StoredPlan.from_row(row) for row in self._sql(statement)])

    async def find_plan(self, name_or_digest: str) -> StoredPlan | None:
        """See `Store.find_plan`."""

        def work() -> StoredPlan | None:
            statement = f"SELECT {PLAN_COLUMNS} FROM plans WHERE name=? OR digest=? ORDER BY name=? DESC, name LIMIT 1"
            found = self._sql(statement, (name_or_digest,) * 3).fetchone()
            return StoredPlan.from_row(found) if found else None

        return await self._call(work)


def _find_run(db: sqlite3.Connection, run_id: str) -> RunRow | None:
    statement = f"SELECT {_ROW}, header FROM runs JOIN headers ON run_id=id WHERE id=?"
    found = db.execute(statement, (run_id,)).fetchone()
    return _row(found[:-1], _read_header(found[-1])) if found else None


def _row(found: Sequence[Any], header: Mapping[str, Any]) -> RunRow:
    values: list[Any] = [*found[:8], header, *found[8:]]
    return RunRow(*values)


@lru_cache(HEADERS_KEPT)
def _read_header(text: bytes) -> Mapping[str, Any]:
    """Return a header, which nobody changes."""
    return cast("Mapping[str, Any]", orjson.loads(text))
