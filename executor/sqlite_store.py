"""The store in one SQLite file (WAL), the default; in memory it is the store of tests.

Rules it keeps: one connection, used by one thread of its own, so that no commit blocks the event loop. Appends of all runs
are committed in groups with one group in flight: what arrives meanwhile forms the next. A group that holds a write's intent
or outcome is committed with `synchronous=FULL` (it survives a power loss), others with NORMAL (they survive a killed process).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

from ..errors import StoreError
from .store import EVERYTHING, Batch, CacheStats, CallRecord, Epochs, Reusable, RunRow

STORE_FORMAT: Final = 1
BUSY_TIMEOUT_MS: Final = 10_000  # another process holds the file: its commits take milliseconds
VARIABLES_MAX: Final = 500  # SQLite's own limit is far above; keeps statements small

T = TypeVar("T")

_ROW_COLUMNS: Final = (
    "id, status, task, plan_digest, parent, created, updated, digest, header, epoch, owner, head, last_seq"
)
_CALL_COLUMNS: Final = "run_id, step, subject, started, key, parts, code, lost"
_RESULT_BYTES: Final = "length(output) + length(key) + length(epochs) + length(env)"


class SqliteStore:
    """A store in the SQLite file `path`, made if it is not there."""

    def __init__(self, path: str | Path) -> None:
        self.name = str(path)
        self._thread: ThreadPoolExecutor | None = None
        self._db: sqlite3.Connection | None = None
        self._pending: list[tuple[Batch, asyncio.Future[None]]] = []
        self._flusher: asyncio.Task[None] | None = None

    # --- life

    async def open(self) -> None:
        """Open the file and bring its format up. Raises: StoreError."""
        if self._db is not None:
            return
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="firmplan-store")
        try:
            self._db = await self._call(self._connect)
        except StoreError:
            self._thread.shutdown()
            self._thread = None
            raise

    async def close(self) -> None:
        """Flush what is pending, and close."""
        if self._flusher is not None:
            await asyncio.wait([self._flusher])
        if self._db is not None and self._thread is not None:
            await self._call(self._db.close)
            self._thread.shutdown()
        self._db = self._thread = None

    def _connect(self) -> sqlite3.Connection:
        if self.name != ":memory:" and not Path(self.name).parent.is_dir():
            raise StoreError(f"cannot open the store {self.name}: its folder does not exist")
        db = sqlite3.connect(self.name, isolation_level=None, check_same_thread=False)
        try:
            db.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
            self._migrate(db)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
        except BaseException:
            db.close()
            raise
        return db

    def _migrate(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        (found,) = db.execute("PRAGMA user_version").fetchone()
        if found > STORE_FORMAT:
            raise StoreError(
                f"the store {self.name} has format {found}; this firmplan reads up to {STORE_FORMAT}: upgrade firmplan"
            )
        if found == 0:
            if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise StoreError(f"{self.name} is a database of something else, not a firmplan store")
            for statement in (files(__package__ or "") / "schema.sql").read_text().split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version={STORE_FORMAT}")
        db.execute("COMMIT")

    async def _call(self, work: Callable[[], T]) -> T:
        """Do the work on the store's thread; sqlite's errors become StoreErrors."""
        if self._thread is None:
            raise StoreError(f"the store {self.name} is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except StoreError:
            self._roll_back()
            raise
        except Exception as fault:  # whatever it is, whoever waits for the store must hear of it
            self._roll_back()
            raise StoreError(f"the store {self.name} failed: {fault}") from fault

    def _roll_back(self) -> None:
        if self._db is not None and self._db.in_transaction:
            with suppress(sqlite3.Error):  # a disk that fails has told already
                self._db.rollback()

    def _sql(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        if self._db is None:
            raise StoreError(f"the store {self.name} is closed")
        return self._db.execute(statement, values)

    # --- runs

    async def create_run(self, row: RunRow) -> bool:
        """See `Store.create_run`."""

        def work() -> bool:
            self._sql("PRAGMA synchronous=FULL")
            cursor = self._sql(
                f"INSERT OR IGNORE INTO runs ({_ROW_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    row.id,
                    row.status,
                    row.task,
                    row.plan_digest,
                    row.parent,
                    row.created,
                    row.updated,
                    row.digest,
                    orjson.dumps(row.header),
                    row.epoch,
                    row.owner,
                    row.head,
                    row.last_seq,
                ),
            )
            return cursor.rowcount == 1

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
            self._sql("PRAGMA synchronous=FULL")
            cursor = self._sql(
                "UPDATE runs SET header=?, plan_digest=?, status=?, updated=? WHERE id=? AND epoch=?",
                (orjson.dumps(header), plan_digest, status, at, run_id, epoch),
            )
            if cursor.rowcount != 1:
                raise _fenced(run_id)

        await self._call(work)

    async def find_run(self, run_id: str) -> RunRow | None:
        """See `Store.find_run`."""
        return await self._call(lambda: self._find_run(run_id))

    def _find_run(self, run_id: str) -> RunRow | None:
        found = self._sql(f"SELECT {_ROW_COLUMNS} FROM runs WHERE id=?", (run_id,)).fetchone()
        return _row(found) if found else None

    async def list_runs(
        self, *, status: str | None, limit: int, before: tuple[float, str] | None
    ) -> Sequence[RunRow]:
        """See `Store.list_runs`."""
        columns = _ROW_COLUMNS.replace("header", "'{}'")
        conditions, values = ["1"], list[object]()
        if status is not None:
            conditions.append("status=?")
            values.append(status)
        if before is not None:
            conditions.append("(created, id) < (?, ?)")
            values.extend(before)
        statement = f"SELECT {columns} FROM runs WHERE {' AND '.join(conditions)} ORDER BY created DESC, id DESC LIMIT ?"
        return await self._call(lambda: [_row(found) for found in self._sql(statement, [*values, limit])])

    async def claim(self, run_id: str, owner: str, *, is_alive: Callable[[str], bool]) -> RunRow | None:
        """See `Store.claim`."""

        def work() -> RunRow | None:
            self._sql("BEGIN IMMEDIATE")
            row = self._find_run(run_id)
            if row is None or (row.owner is not None and is_alive(row.owner)):
                self._sql("ROLLBACK")
                return None
            self._sql("UPDATE runs SET owner=?, epoch=epoch+1 WHERE id=?", (owner, run_id))
            self._sql("COMMIT")
            return self._find_run(run_id)

        return await self._call(work)

    async def release(self, run_id: str, epoch: int) -> None:
        """See `Store.release`."""
        await self._call(
            lambda: self._sql("UPDATE runs SET owner=NULL WHERE id=? AND epoch=?", (run_id, epoch)) and None
        )

    # --- journal

    async def append(self, batch: Batch) -> None:
        """See `Store.append`. Batches that arrive while a group is being committed form the next group."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((batch, done))
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        await done

    async def _flush(self) -> None:
        while self._pending:
            group, self._pending = self._pending, []
            for (_, done), fault in zip(group, await self._faults_of(group), strict=True):
                if done.cancelled():
                    continue
                if fault is None:
                    done.set_result(None)
                else:
                    done.set_exception(fault)

    async def _faults_of(
        self, group: Sequence[tuple[Batch, asyncio.Future[None]]]
    ) -> Sequence[StoreError | None]:
        """Commit a group; return what was wrong with each batch."""
        try:
            return await self._call(lambda: self._commit([batch for batch, _ in group]))
        except StoreError as fault:
            return [fault] * len(group)

    def _commit(self, batches: Sequence[Batch]) -> list[StoreError | None]:
        is_synced = any(batch.is_synced for batch in batches)
        self._sql(f"PRAGMA synchronous={'FULL' if is_synced else 'NORMAL'}")
        self._sql("BEGIN IMMEDIATE")
        faults = [self._append(batch) for batch in batches]
        self._sql("COMMIT")
        return faults

    def _append(self, batch: Batch) -> StoreError | None:
        changed = self._sql(
            "UPDATE runs SET status=?, digest=?, updated=?, head=?, last_seq=? WHERE id=? AND epoch=? AND last_seq=?",
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
            return _fenced(batch.run_id)
        self._sql(
            "INSERT INTO journal VALUES (?,?,?,?)",
            (batch.run_id, batch.first_seq, b"\n".join(batch.lines), batch.head),
        )
        for digest, data in batch.values.items():
            self._sql("INSERT OR IGNORE INTO stored_values VALUES (?,?)", (digest, data))
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

    def _raise_epoch(self, resource: str) -> None:
        for name in (resource, EVERYTHING):
            self._sql(
                "INSERT INTO resources VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET epoch=epoch+1", (name,)
            )

    async def add_decision(self, run_id: str, decision: bytes) -> None:
        """See `Store.add_decision`."""

        def work() -> None:
            self._sql("PRAGMA synchronous=FULL")
            self._sql("INSERT INTO decisions (run_id, record) VALUES (?,?)", (run_id, decision))

        await self._call(work)

    async def list_decisions(self, run_id: str) -> Sequence[tuple[int, bytes]]:
        """See `Store.list_decisions`."""
        statement = "SELECT number, record FROM decisions WHERE run_id=? ORDER BY number"
        return await self._call(lambda: self._sql(statement, (run_id,)).fetchall())

    async def drop_decisions(self, numbers: Sequence[int]) -> None:
        """See `Store.drop_decisions`."""
        marks = ",".join("?" * len(numbers))
        await self._call(
            lambda: self._sql(f"DELETE FROM decisions WHERE number IN ({marks})", list(numbers)) and None
        )

    async def read_journal(self, run_id: str, after: int = 0) -> Sequence[bytes]:
        """See `Store.read_journal`."""

        def work() -> list[bytes]:
            lines: list[bytes] = []
            statement = (
                "SELECT first_seq, lines FROM journal WHERE run_id=?1 AND first_seq>=coalesce("
                "(SELECT max(first_seq) FROM journal WHERE run_id=?1 AND first_seq<=?2), 0) ORDER BY first_seq"
            )
            for first_seq, joined in self._sql(statement, (run_id, after + 1)):
                found = joined.split(b"\n")
                lines += found[max(0, after + 1 - first_seq) :]
            return lines

        return await self._call(work)

    async def find_values(self, digests: Sequence[str]) -> Mapping[str, bytes]:
        """See `Store.find_values`."""
        return await self._call(
            lambda: dict(self._select("digest, data", "stored_values", "digest", digests))
        )

    async def add_value(self, name: str, data: bytes) -> None:
        """See `Store.add_value`."""

        def work() -> None:
            self._sql("PRAGMA synchronous=FULL")
            self._sql("INSERT OR IGNORE INTO stored_values VALUES (?,?)", (name, data))

        await self._call(work)

    # --- reuse

    async def find_reusable(self, keys: Sequence[str]) -> Mapping[str, Reusable]:
        """See `Store.find_reusable`."""
        columns = "key, run_id, step, output, created, epochs, env"

        def work() -> dict[str, Reusable]:
            found = self._select(columns, "reusable", "key", keys)
            return {
                key: Reusable(
                    key,
                    run_id,
                    step,
                    output,
                    created,
                    orjson.loads(epochs),
                    orjson.loads(env),
                )
                for key, run_id, step, output, created, epochs, env in found
            }

        return await self._call(work)

    async def add_reusable(self, entries: Sequence[Reusable]) -> None:
        """See `Store.add_reusable`."""

        def work() -> None:
            self._sql("BEGIN IMMEDIATE")
            for entry in entries:
                self._sql(
                    "INSERT OR REPLACE INTO reusable VALUES (?,?,?,?,?,?,?)",
                    (
                        entry.key,
                        entry.run_id,
                        entry.step,
                        entry.output,
                        entry.created,
                        orjson.dumps(entry.epochs),
                        orjson.dumps(entry.env),
                    ),
                )
            self._sql("COMMIT")

        await self._call(work)

    # --- calls

    async def add_calls(self, calls: Sequence[CallRecord], codes: Mapping[str, Mapping[str, str]]) -> None:
        """See `Store.add_calls`."""

        def work() -> None:
            self._sql("BEGIN IMMEDIATE")
            for digest, parts in codes.items():
                self._sql("INSERT OR IGNORE INTO codes VALUES (?,?)", (digest, orjson.dumps(parts)))
            for call in calls:
                self._sql(
                    f"INSERT OR REPLACE INTO calls ({_CALL_COLUMNS}) VALUES (?,?,?,?,?,?,?,?)",
                    (
                        call.run_id,
                        call.step,
                        call.subject,
                        call.started,
                        call.key,
                        orjson.dumps(call.parts),
                        call.code,
                        call.lost,
                    ),
                )
            self._sql("COMMIT")

        await self._call(work)

    async def find_call(self, run_id: str, step: str) -> CallRecord | None:
        """See `Store.find_call`."""
        statement = f"SELECT {_CALL_COLUMNS} FROM calls WHERE run_id=? AND step=?"
        found = await self._call(lambda: self._sql(statement, (run_id, step)).fetchone())
        return _call_record(found) if found else None

    async def find_earlier_calls(
        self, subject: str, step: str, *, until: float, limit: int
    ) -> Sequence[CallRecord]:
        """See `Store.find_earlier_calls`."""
        select = f"SELECT {_CALL_COLUMNS} FROM calls WHERE subject=? AND started<=? AND step"
        order = "ORDER BY started DESC, run_id, step LIMIT ?"

        def work() -> list[tuple[Any, ...]]:
            same = self._sql(f"{select}=? {order}", (subject, until, step, limit)).fetchall()
            others = self._sql(f"{select}<>? {order}", (subject, until, step, limit)).fetchall()
            return [*same, *others]

        return [_call_record(found) for found in await self._call(work)]

    async def find_codes(self, digests: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        """See `Store.find_codes`."""
        found = await self._call(lambda: self._select("digest, parts", "codes", "digest", digests))
        return {digest: orjson.loads(parts) for digest, parts in found}

    async def cache_stats(self) -> CacheStats:
        """See `Store.cache_stats`."""

        def work() -> CacheStats:
            results, size, oldest, newest = self._sql(
                f"SELECT count(*), coalesce(sum({_RESULT_BYTES}), 0), min(created), max(created) FROM reusable"
            ).fetchone()
            (calls,) = self._sql("SELECT count(*) FROM calls").fetchone()
            return CacheStats(results, size, calls, oldest, newest)

        return await self._call(work)

    async def shrink_cache(self, *, before: float | None, bytes_max: int | None) -> int:
        """See `Store.shrink_cache`."""

        def work() -> int:
            self._sql("BEGIN IMMEDIATE")
            gone = 0
            if before is not None:
                gone += self._sql("DELETE FROM reusable WHERE created < ?", (before,)).rowcount
                self._sql("DELETE FROM calls WHERE started < ?", (before,))
                self._sql("DELETE FROM codes WHERE digest NOT IN (SELECT code FROM calls)")
            if bytes_max is not None:
                gone += self._sql(
                    "DELETE FROM reusable WHERE key IN (SELECT key FROM (SELECT key, "
                    f"sum({_RESULT_BYTES}) OVER (ORDER BY created DESC, key) AS size FROM reusable) WHERE size > ?)",
                    (bytes_max,),
                ).rowcount
            self._sql("COMMIT")
            return gone

        return await self._call(work)

    async def epochs(self, resources: Sequence[str]) -> Epochs:
        """See `Store.epochs`."""

        def work() -> Epochs:
            count = dict(self._select("name, epoch", "resources", "name", resources))
            opened = {resource for (resource,) in self._sql("SELECT DISTINCT resource FROM open_writes")}
            if opened:
                opened.add(EVERYTHING)
            return Epochs(
                {name: count.get(name, 0) for name in resources}, frozenset(opened & set(resources))
            )

        return await self._call(work)

    # --- plans

    async def save_plan(self, name: str, plan: str, digest: str, at: float) -> None:
        """See `Store.save_plan`."""
        await self._call(
            lambda: (
                self._sql("INSERT OR REPLACE INTO plans VALUES (?,?,?,?)", (name, plan, digest, at)) and None
            )
        )

    async def list_plans(self) -> Sequence[tuple[str, str]]:
        """See `Store.list_plans`."""
        return await self._call(lambda: self._sql("SELECT name, plan FROM plans ORDER BY name").fetchall())

    async def find_plan(self, name_or_digest: str) -> str | None:
        """See `Store.find_plan`."""

        def work() -> str | None:
            statement = (
                "SELECT plan FROM plans WHERE name=?1 OR digest=?1 ORDER BY name=?1 DESC, name LIMIT 1"
            )
            found = self._sql(statement, (name_or_digest,)).fetchone()
            return found[0] if found else None

        return await self._call(work)

    def _select(self, columns: str, table: str, key: str, wanted: Sequence[str]) -> list[tuple[Any, ...]]:
        """Select the rows whose `key` is among `wanted`, a bounded number a statement."""
        rows: list[tuple[Any, ...]] = []
        for start in range(0, len(wanted), VARIABLES_MAX):
            part = wanted[start : start + VARIABLES_MAX]
            marks = ",".join("?" * len(part))
            rows += self._sql(f"SELECT {columns} FROM {table} WHERE {key} IN ({marks})", part).fetchall()
        return rows


def _row(found: Sequence[Any]) -> RunRow:
    values = list(found)
    values[8] = orjson.loads(values[8])
    return RunRow(*values)


def _call_record(found: Sequence[Any]) -> CallRecord:
    values = list(found)
    values[5] = orjson.loads(values[5])
    return CallRecord(*values)


def _fenced(run_id: str) -> StoreError:
    return StoreError(f"run {run_id} has another owner now: this process may not write to it any more")
