"""The store in one SQLite file with a write-ahead log: the default, and in memory the store of tests.

A group of appends is one commit. A commit that holds a write's intent or outcome uses `synchronous=FULL`, and survives a power loss; other
commits use NORMAL, and survive a killed process. `sqlite_file.py` has the file and its connections, `sql_store.py` the statements that
PostgreSQL understands, too. Here are those whose fast way is SQLite's own.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import orjson

from ...errors import StoreError
from ...plans.values import digest as digest_of
from .garbage import find_unused, named_in, remove_unused
from .sql_store import (
    CALL_COLUMNS,
    FIND_RUN,
    KEEP_USES,
    NAMING,
    NO_VALUES,
    OF_ONE_RUN,
    ROW,
    ROW_COLUMNS,
    Row,
    Sql,
    SqlStore,
    Values,
    find_value_in,
    read_header,
    translated,
)
from .sqlite_file import (
    BUSY_TIMEOUT_MS,
    INCREMENTAL,
    LARGE_BYTES,
    PORTION_BYTES,
    SqliteFile,
    selected,
    sqlite_error,
)
from .store import (
    CHILDREN_TOLD,
    EVERYTHING,
    RESULT_COLUMNS,
    Batch,
    CacheStats,
    CallRecord,
    DecisionKey,
    Epochs,
    Pruned,
    Removal,
    Reusable,
    ReuseEntries,
    RunRow,
    damaged_results,
    fenced,
    merged_reuse,
)

_ADD_RESULT: Final = "INSERT OR REPLACE INTO reusable (key, run_id, step, created, epochs, env, row_digest, output) VALUES (?,?,?,?,?,?,?,?)"
_ROW: Final = translated(ROW, "", "", "")
_APPEND: Final = (
    "UPDATE runs SET status=?, digest=?, updated=?, head=?, last_seq=? WHERE id=? AND epoch=? AND last_seq=?"
)
_APPEND_LAST: Final = _APPEND.replace("SET ", "SET owner=NULL, ")
# Start from a random number: an observer that watched the same owner before sees a new beat, also after each claim.
_BEGIN_TO_BEAT: Final = (
    "INSERT INTO owners VALUES (?, abs(random() >> 32)) ON CONFLICT (name) DO UPDATE SET beat=beat+1"
)
_FREE_OWNERS: Final = "DELETE FROM owners WHERE NOT EXISTS (SELECT 1 FROM runs WHERE owner=name)"
_ENDED: Final = ("succeeded", "failed", "cancelled")


PORTION_PAGES: Final = 1_000  # of one transaction that makes the file smaller: some milliseconds
PAUSE_S: Final = 0.005  # between two of them: whoever waits for the file looks as often
CHECKPOINT_TIMEOUT_MS: Final = (
    500  # readers are waited for this long, and hold up nothing but the size of the file
)

KEYS_MAX: Final = 200_000  # some 70 bytes of memory each; in a larger index each call is looked for
PORTION: Final = 1_000  # keys read at a time: less than a millisecond
QUIET_S: Final = 1.0  # while others write again and again, there is no use in reading
T = TypeVar("T")


class SqliteStore(SqliteFile, SqlStore):
    """A store in the SQLite file `path`, made if it is not there."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._known = KeyFilter()

    async def close(self) -> None:
        """Close the file; idempotent."""
        await super().close()
        self._known = KeyFilter()

    async def _read(self, statement: str, values: Values = NO_VALUES, *, is_short: bool = False) -> list[Row]:
        """See `SqlStore`."""
        if is_short:
            return await self._look(lambda db: SqliteSql(db.execute).rows(statement, values))
        return await self._call(lambda: SqliteSql(self._sql).rows(statement, values))

    async def _write(self, work: Callable[[Sql], T], *, is_durable: bool = False) -> T:
        """See `SqlStore`."""

        def inside() -> T:
            if is_durable:
                self._sync("FULL")
            self._sql("BEGIN IMMEDIATE")
            made = work(SqliteSql(self._sql))
            self._sql("COMMIT")
            return made

        return await self._call(inside)

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
                f"INSERT OR IGNORE INTO runs ({ROW_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
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
            rows = SqliteSql(db.execute).rows(FIND_RUN, {"run": run_id})
            return self._row(rows[0][:-1], read_header(rows[0][-1])) if rows else None
        statement = (
            f"SELECT {_ROW}, headers.rowid, CASE WHEN length(header) < {LARGE_BYTES} THEN header END "
            "FROM runs JOIN headers ON run_id=id WHERE id=?"
        )
        found = db.execute(statement, (run_id,)).fetchone()
        if found is None:
            return None
        *row, number, text = found
        if text is not None:
            return self._row(row, read_header(text))
        header = self._read_large(db, run_id, number)
        db.execute("PRAGMA shrink_memory")  # its pages are not needed any more
        return self._row(row, header)

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
            # Reading all texts of a run takes long, so it is done before the write lock is taken.
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
        sql = SqliteSql(self._sql)
        texts = (text for statement in NAMING for text in sql.texts(statement, {"run": run_id}))
        return named_in(find_value_in(sql), texts)

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
        SqliteSql(self._sql).change(KEEP_USES, {"run": run_id, "status": status})

    async def claim(
        self, run_id: str, owner: str, *, is_alive: Callable[[str, int | None], bool], by_force: bool = False
    ) -> RunRow | None:
        """See `Store.claim`."""

        def work() -> RunRow | None:
            # A run finds all results that were there when it was claimed, so the key filter is checked here.
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

    async def raise_beat(self, owner: str) -> bool:
        """See `Store.raise_beat`."""
        statement = "UPDATE owners SET beat=beat+1 WHERE name=?"
        return await self._call(lambda: self._sql(statement, (owner,)).rowcount == 1)

    # --- journal

    def append(self, batches: Sequence[Batch]) -> Sequence[StoreError | None]:
        """See `Store.append`."""
        return self._guarded(lambda: self._commit(batches))

    def _commit(self, batches: Sequence[Batch]) -> list[StoreError | None]:
        # One commit for all batches: the wait for the disk is its cost, however much it holds. If one batch is refused, the others stand.
        is_synced = any(batch.is_synced for batch in batches)
        self._sync("FULL" if is_synced else "NORMAL")
        self._sql("BEGIN IMMEDIATE")
        faults = [self._append(batch) if batch.lines else None for batch in batches]
        if any(batch.releases for batch in batches):
            self._sql(_FREE_OWNERS)
        if (reuse := merged_reuse(batches)) is not None:
            self._add_reuse(reuse)
        self._sql("COMMIT")
        # A write waits for this commit to return, so the key filter is read on only after commits that nobody waits for.
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
        # The fence: another owner has raised the epoch, or the row has other records than this process believes.
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

    def list_decided(self) -> Sequence[str]:
        """See `Store.list_decided`."""
        statement = "SELECT DISTINCT run_id FROM decisions"

        def work() -> list[str]:
            self._known.read_on(self._open_db())
            return [run_id for (run_id,) in self._sql(statement)]

        return self._guarded(work)

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

    # --- the reuse index

    def _find_damage(self) -> list[str]:
        values = self._sql("SELECT digest, data FROM stored_values ORDER BY digest")
        results = self._sql(f"SELECT {RESULT_COLUMNS} FROM reusable ORDER BY key")
        return [
            *super()._find_damage(),
            *(
                f"the value {name} is not as it was written"
                for name, data in values
                if digest_of(data) != name
            ),
            *damaged_results(results),
        ]

    async def find_reusable(self, keys: Sequence[str]) -> Mapping[str, Reusable]:
        """See `Store.find_reusable`."""

        def work(db: sqlite3.Connection) -> dict[str, Reusable]:
            found = selected(db, RESULT_COLUMNS, "reusable", "key", wanted)
            return {row[0]: Reusable.from_row(row) for row in found}

        # Called on the event loop for each call of a run: most keys are new, and the filter answers for them without a query.
        wanted = self._known.among(keys)
        return await self._look(work) if wanted else {}

    def _add_reuse(self, reuse: ReuseEntries) -> None:
        """Add reuse entries, inside a transaction. The records of calls stay unsorted until somebody asks: few are ever asked about."""
        rows = [_output_last(entry.to_row()) for entry in reuse.results if len(entry.output) < LARGE_BYTES]
        large = [_output_last(entry.to_row()) for entry in reuse.results if len(entry.output) >= LARGE_BYTES]
        made_from = [
            (
                call.run_id,
                call.step,
                call.subject,
                call.started,
                call.key,
                orjson.Fragment(call.kept),
                call.code,
                call.lost,
            )
            for call in reuse.calls
        ]
        self._known.add(entry.key for entry in reuse.results)
        self._open_db().executemany(_ADD_RESULT, rows)
        for *row, output in large:
            self._put(_ADD_RESULT, row, output, "reusable", "output")
        for digest, parts in reuse.codes.items():
            self._sql("INSERT OR IGNORE INTO codes VALUES (?,?)", (digest, orjson.dumps(parts)))
        if made_from:
            self._sql("INSERT INTO unsorted_calls (calls) VALUES (?)", (orjson.dumps(made_from),))

    def _sort_calls(self) -> None:
        """Bring what runs have left into the order in which it is asked for."""
        # An insert into `calls` touches two indexes at random places, for each call of each run; few runs are ever explained. So commits append the
        # records as one row, and whoever asks sorts them first.
        if self._sql("SELECT 1 FROM unsorted_calls LIMIT 1").fetchone() is None:
            return
        if self.is_read_only:  # in tables of this connection, which hide those of the file
            for table in ("calls", "unsorted_calls"):
                self._sql(f"CREATE TEMP TABLE {table} AS SELECT * FROM main.{table}")
            self._sql("CREATE UNIQUE INDEX temp.calls_by_run ON calls (run_id, step)")
        self._sql("BEGIN IMMEDIATE")
        for (calls,) in self._sql("DELETE FROM unsorted_calls RETURNING calls").fetchall():
            rows = [(*row[:5], orjson.dumps(row[5]), *row[6:]) for row in orjson.loads(calls)]
            self._open_db().executemany(
                f"INSERT OR REPLACE INTO calls ({CALL_COLUMNS}) VALUES (?,?,?,?,?,?,?,?)", rows
            )
        self._sql("COMMIT")

    async def find_earlier_calls(
        self, subject: str, until: Mapping[str, float], *, limit: int
    ) -> Mapping[str, Sequence[CallRecord]]:
        """See `Store.find_earlier_calls`."""
        select = f"SELECT {CALL_COLUMNS} FROM calls WHERE subject=? AND started<=?"
        order = "ORDER BY started DESC, run_id, step LIMIT ?"

        def work() -> dict[str, Sequence[CallRecord]]:
            self._sort_calls()
            # The newest calls of the subject are read once for all steps, and only those of the same path step by step.
            last, count = max(until.values(), default=0.0), len(until) + limit
            newest = [
                CallRecord(*each)
                for each in self._sql(f"{select} {order}", (subject, last, count)).fetchall()
            ]
            newest.reverse()
            starts = [each.started for each in newest]
            made: dict[str, Sequence[CallRecord]] = {}
            for step, at in until.items():
                same = self._sql(f"{select} AND step=? {order}", (subject, at, step, limit)).fetchall()
                end = bisect_right(starts, at)
                others = newest[max(0, end - limit) : end]
                made[step] = [
                    *(CallRecord(*each) for each in same),
                    *(each for each in reversed(others) if each.step != step),
                ]
            return made

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

    async def find_calls(self, run_id: str, steps: Sequence[str]) -> Mapping[str, CallRecord]:
        """See `Store.find_calls`."""
        await self._call(self._sort_calls)
        return await super().find_calls(run_id, steps)

    async def cache_stats(self) -> CacheStats:
        """See `Store.cache_stats`."""
        await self._call(self._sort_calls)
        return await super().cache_stats()

    async def shrink_cache(self, *, before: float | None, bytes_max: int | None) -> int:
        """See `Store.shrink_cache`."""

        def prepare() -> None:
            self._sort_calls()
            self._known.forget()

        await self._call(prepare)
        return await super().shrink_cache(before=before, bytes_max=bytes_max)

    # --- removal of values

    async def prune_values(self, *, saved_before: float, among: frozenset[str] | None = None) -> Pruned:
        """See `Store.prune_values`."""

        def work(db: sqlite3.Connection) -> Pruned:
            sql = SqliteSql(db.execute)
            return remove_unused(sql, find_unused(sql, saved_before, among))

        return await self._apart(work)

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
            raise sqlite_error(self.name, fault) from fault


def _output_last(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a row of the table `reusable` with the output, which may be large, in the last column."""
    return (*row[:3], *row[4:], row[3])


class SqliteSql:
    """A connection to a file, in the notation of `sql_store`.

    Args:
        execute: Carries a statement out; its values are named.
    """

    def __init__(self, execute: Callable[[str, Mapping[str, object]], sqlite3.Cursor]) -> None:
        self._execute_plain = execute

    def _execute(self, statement: str, values: Values) -> sqlite3.Cursor:
        # SQLite has no arrays: a list travels as JSON. Rejected: one mark a value, which is another statement for each length.
        given = {
            name: orjson.dumps(value).decode() if isinstance(value, list) else value
            for name, value in values.items()
        }
        return self._execute_plain(
            translated(statement, "", r":\1", r"IN (SELECT value FROM json_each(:\1))"), given
        )

    def rows(self, statement: str, values: Values = NO_VALUES) -> list[Row]:
        """See `Sql.rows`."""
        return self._execute(statement, values).fetchall()

    def change(self, statement: str, values: Values = NO_VALUES) -> int:
        """See `Sql.change`."""
        return self._execute(statement, values).rowcount

    def texts(self, statement: str, values: Values = NO_VALUES) -> Iterator[bytes]:
        """See `Sql.texts`."""
        for (text,) in self._execute(statement, values):
            yield text.encode() if isinstance(text, str) else text

    def snapshot(self) -> AbstractContextManager[object]:
        """See `Sql.snapshot`. A reader of a write-ahead log blocks nobody."""
        return self._transaction("BEGIN")

    def removal(self) -> AbstractContextManager[object]:
        """See `Sql.removal`. A file has one writer."""
        return self._transaction("BEGIN IMMEDIATE")

    @contextmanager
    def _transaction(self, begin: str) -> Generator[None]:
        self._execute_plain(begin, {})
        try:
            yield
        except BaseException:
            with suppress(sqlite3.Error):  # the error itself may have rolled back
                self._execute_plain("ROLLBACK", {})
            raise
        self._execute_plain("COMMIT", {})


# --- the key filter
#
# Most calls of a run are new, and a new call needs no look into the file: the filter knows which keys the reuse index may have. It reads the
# keys a portion at a time on the thread of commits, and is complete as long as no other connection writes to the file, which SQLite reports as
# a number (`data_version`). The number is asked for when a run is claimed, at each commit, and at each look for decisions. So a run finds all
# results that were there when it began, and results of other processes a moment later.


class KeyFilter:
    """Which keys the reuse index may have. It holds hashes of keys, so it may say yes for an absent key, and never no for a present one."""

    def __init__(self) -> None:
        self._version: int | None = None
        self._changed = -QUIET_S
        self.forget()

    def forget(self) -> None:
        """Forget all keys."""
        self._hashes: set[int] = set()
        self._all: set[int] | None = None  # the same set, once it is complete
        self._read_to = ""
        self._is_too_large = False

    def among(self, keys: Sequence[str]) -> Sequence[str]:
        """Return the keys that have to be looked up. May be called on any thread."""
        known = self._all
        return keys if known is None else [key for key in keys if hash(key) in known]

    def add(self, keys: Iterable[str]) -> None:
        """Add keys that are about to be added to the index."""
        if self._is_too_large:
            return
        self._hashes.update(map(hash, keys))
        if len(self._hashes) > KEYS_MAX:
            self.forget()
            self._is_too_large = True

    def check(self, db: sqlite3.Connection) -> None:
        """Forget all keys if another connection has written to the file since the last check."""
        # Incomplete while the number is read: another thread that asks now must not get an answer of before the check.
        known, self._all = self._all, None
        (version,) = db.execute("PRAGMA data_version").fetchone()
        if version == self._version:
            self._all = known
            return
        if self._version is not None:
            self._changed = time.monotonic()
        self._version = version
        self.forget()

    def read_on(self, db: sqlite3.Connection) -> None:
        """Read some more keys, outside a transaction. Errors of the file are ignored here: the next use of the store reports them."""
        with suppress(sqlite3.Error):
            self.check(db)
            is_quiet = time.monotonic() - self._changed >= QUIET_S
            if is_quiet and self._all is None and not self._is_too_large:
                self._read_portion(db)

    def _read_portion(self, db: sqlite3.Connection) -> None:
        statement = "SELECT key FROM reusable WHERE key > ? ORDER BY key LIMIT ?"
        keys = [key for (key,) in db.execute(statement, (self._read_to, PORTION))]
        self.add(keys)
        if self._is_too_large:
            return
        if len(keys) == PORTION:
            self._read_to = keys[-1]
            return
        # Another process may have written between the portions, or since the last one: then the set is no copy of the index.
        version = self._version
        self.check(db)
        if version == self._version:
            self._all = self._hashes


# --- the size of the file


def _give_back_room(db: sqlite3.Connection) -> None:
    """Move the last pages of the file into free pages, a portion at a time so that others commit in between; then truncate the file."""
    before = -1
    while (free := db.execute("PRAGMA freelist_count").fetchone()[0]) not in (0, before):
        # SQLite makes one step of the statement for each page. `execute` makes a single step of a statement that returns no columns.
        db.executescript(f"PRAGMA incremental_vacuum({PORTION_PAGES})")
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
