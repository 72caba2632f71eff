"""The store in one SQLite file with a write-ahead log: the default, and in memory the store of tests.

A group of appends is one commit. A commit that holds a write's intent or outcome uses `synchronous=FULL`, and survives a power loss; other
commits use NORMAL, and survive a killed process. `sqlite_file.py` has the file and its connections, `sql_store.py` the operations. Here are
SQLite's dialect, and the operations whose fast way is SQLite's own.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar, cast

import orjson

from ...errors import StoreError
from ...plans.values import digest as digest_of
from ..states import RunStatus
from .header_text import parse_header, read_header
from .object_values import complete_copy
from .result_cache import ResultCache
from .reuse_log import ADD_SEGMENT, Segment, lines_in, prefix_of, row_of
from .sql_store import (
    CALL_COLUMNS,
    NO_VALUES,
    RUN,
    Cursor,
    Outlives,
    Row,
    Sql,
    SqlStore,
    Values,
    translated,
)
from .sqlite_file import BUSY_TIMEOUT_MS, INCREMENTAL, SqliteFile, sqlite_error
from .store import (
    EVERYTHING,
    Batch,
    CallRecord,
    Reusable,
    ReuseEntries,
    RunRow,
)

LARGE_BYTES: Final = 1024 * 1024  # a value past this is written and read in portions
PORTION_BYTES: Final = 256 * 1024
_FIND_SMALL: Final = f"""
    SELECT {RUN}, headers.rowid, CASE WHEN length(header) < {LARGE_BYTES} THEN header END
    FROM @runs JOIN @headers ON run_id=id WHERE id=:run
"""
_FIND_SMALL_TEXT: Final = f"""
    SELECT rowid, CASE WHEN length(data) < {LARGE_BYTES} THEN data END FROM @plan_texts WHERE digest=:digest
"""
_ADD_SEGMENT: Final = ADD_SEGMENT.replace("@", "")
FEW: Final = (
    2  # values of a list that is no JSON: a write that ends and the next one that begins are two steps
)
_HAND_OVER: Final = (
    "UPDATE OR IGNORE @open_writes SET step=:step WHERE run_id=:run AND step=:ended AND resource=:resource"
)
KEYS_ASKED: Final = 32  # keys that one query looks for: a list of marks has a fixed length, so that SQLite prepares the statement once
_FIND_NUMBERS: Final = (
    f"SELECT prefix, number FROM reuse_keys WHERE prefix IN ({', '.join('?' * KEYS_ASKED)})"
)
_READ_SEGMENT: Final = "SELECT results FROM reuse_log WHERE number=?"
_FIND_NUMBER: Final = "SELECT prefix, number FROM reuse_keys WHERE prefix=?"

PORTION_PAGES: Final = 1_000  # of one transaction that makes the file smaller: some milliseconds
PAUSE_S: Final = 0.005  # between two of them: whoever waits for the file looks as often
CHECKPOINT_TIMEOUT_MS: Final = (
    500  # readers are waited for this long, and hold up nothing but the size of the file
)

KEYS_MAX: Final = 500_000  # in a larger index each call is looked for
FILTER_BYTES: Final = (
    2**20
)  # eight bits for each of eight million hashes: of the calls that are new, one in seventeen is looked for in vain at most
PORTION: Final = 1_000  # keys read at a time: less than a millisecond
QUIET_S: Final = 1.0  # while others write again and again, there is no use in reading
T = TypeVar("T")


class SqliteSql(Sql):
    """A connection to a file, in the notation of `sql_store`.

    Args:
        db: The connection.
        execute: Carries a statement out; `None`: as the connection does.
        numbered: The tables whose rows have numbers (`SqliteFile`).

    Attributes:
        has_put_large: Whether a large value was written.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        execute: Callable[[str, Values], sqlite3.Cursor] | None = None,
        numbered: Collection[str] = (),
    ) -> None:
        self.db = db
        self._execute = execute or db.execute
        self._numbered = numbered
        self.has_put_large = False

    def send(self, statement: str, values: Values = NO_VALUES) -> sqlite3.Cursor:
        """See `Sql.send`. The statement is carried out now."""
        # SQLite has no arrays: a list travels as JSON. Rejected: one mark a value, which is another statement for each length. To read JSON costs
        # more than the rest of a short statement, so the most common lengths, one and two, are statements of their own.
        for value in values.values():
            if type(value) is list:
                return self._send_lists(statement, values)
        return self._execute(_dialect(statement), values)

    def _send_lists(self, statement: str, values: Values) -> sqlite3.Cursor:
        lists = {
            name: cast("Sequence[Any]", value) for name, value in values.items() if isinstance(value, list)
        }
        length = max(map(len, lists.values()))
        if length <= FEW and all(lists.values()):
            few = {
                f"{name}_{at}": value[min(at, len(value) - 1)]
                for name, value in lists.items()
                for at in range(length)
            }
            return self._execute(_dialect_of_few(statement, length), {**values, **few})
        texts = {name: orjson.dumps(value).decode() for name, value in lists.items()}
        return self._execute(_dialect(statement), {**values, **texts})

    def each(self, statement: str, many: Sequence[Values]) -> Sequence[sqlite3.Cursor]:
        """See `Sql.each`."""
        return [self.send(statement, values) for values in many]

    def insert(
        self,
        table: str,
        columns: str,
        rows: Sequence[Row],
        *,
        key: str,
        replaces: bool = False,
        large: str = "",
    ) -> None:
        """See `Sql.insert`."""
        # `ON CONFLICT .. DO UPDATE` would not tell the number of the row, by which a large value is written.
        del key
        names = columns.split(", ")
        verb = "REPLACE" if replaces else "IGNORE"
        statement = f"INSERT OR {verb} INTO {table} ({columns}) VALUES (:{', :'.join(names)})"
        given = [dict(zip(names, row, strict=True)) for row in rows]
        self.db.executemany(statement, [row for row in given if not large or len(row[large]) < LARGE_BYTES])
        for row in given:
            if large and len(row[large]) >= LARGE_BYTES:
                self._insert_large(statement, row, table, large)

    def put(
        self, table: str, row: Values, *, large: str, condition: str = "1=1", values: Values = NO_VALUES
    ) -> None:
        """See `Sql.put`."""
        head = f"INSERT OR IGNORE INTO {table} ({', '.join(row)})"
        marks = f":{', :'.join(row)}"
        if len(cast("bytes", row[large])) < LARGE_BYTES:
            self.send(f"{head} SELECT {marks} WHERE {condition}", {**values, **row})
        # SQLite would fill room that a SELECT makes with zeros in memory, so the condition is a query of its own.
        elif self.rows(f"SELECT 1 WHERE {condition}", values):
            self._insert_large(f"{head} VALUES ({marks})", row, table, large)

    def _insert_large(self, statement: str, row: Values, table: str, large: str) -> None:
        """Insert a row with a large value, which is not copied in memory."""
        # SQLite copies what a statement is handed, and once more into the row. Where the table has row numbers, a large value is written in
        # portions into room that is made for it.
        if table not in self._numbered:
            self.send(statement, row)
            return
        data = memoryview(cast("bytes", row[large]))
        inserted = self.send(statement.replace(f":{large}", f"zeroblob(:{large})"), {**row, large: len(data)})
        self.has_put_large = True
        if inserted.rowcount == 1 and inserted.lastrowid is not None:
            with self.db.blobopen(table, large, inserted.lastrowid) as blob:
                for start in range(0, len(data), PORTION_BYTES):
                    blob.write(data[start : start + PORTION_BYTES])

    def stream(self, statement: str, values: Values = NO_VALUES) -> Iterator[Row]:
        """See `Sql.stream`."""
        return iter(self.send(statement, values))

    def snapshot(self) -> AbstractContextManager[object]:
        """See `Sql.snapshot`. A reader of a write-ahead log blocks nobody."""
        return self.transaction("BEGIN")

    def removal(self) -> AbstractContextManager[object]:
        """See `Sql.removal`. A file has one writer."""
        return self.transaction("BEGIN IMMEDIATE")

    @contextmanager
    def transaction(self, begin: str) -> Generator[None]:
        """Commit what is done inside, or nothing of it if that fails."""
        self.send(begin)
        try:
            yield
            self.send("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # the error itself may have rolled back
                self.send("ROLLBACK")
            raise


@lru_cache(512)
def _dialect(statement: str) -> str:
    return translated(statement, "", r":\1", r"IN (SELECT value FROM json_each(:\1))")


@lru_cache(128)
def _dialect_of_few(statement: str, length: int) -> str:
    marks = ", ".join(rf":\g<1>_{at}" for at in range(length))
    return translated(statement, "", r":\1", rf"IN ({marks})")


class SqliteStore(SqliteFile, SqlStore):
    """A store in the SQLite file `path`, made if it is not there."""

    # One row of `resources` counts the writes on all of them.
    counts: ClassVar[Sequence[str]] = (
        f"SELECT resource, 1 {{writes}} UNION ALL SELECT '{EVERYTHING}', 1 {{writes}}",
    )
    writes_in_all: ClassVar[str] = f"SELECT coalesce(max(epoch), 0) FROM @resources WHERE name='{EVERYTHING}'"
    # The last run with a large header that was submitted here, until it ends: id, digest of the text, and the parsed header.
    _large_header: tuple[str, bytes, Mapping[str, Any]] | None = None

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._known = KeyFilter()
        self._unwritten: dict[str, Reusable] = {}  # by key, of a store in memory

    async def close(self) -> None:
        """Close the file; idempotent."""
        await super().close()
        self._known = KeyFilter()
        self._unwritten = {}

    async def copy_to(self, path: Path) -> None:
        """See `Store.copy_to`."""
        await super().copy_to(path)
        await complete_copy(self.objects, SqliteStore(path))

    # --- the dialect

    async def _query(self, work: Callable[[Sql], T], *, is_short: bool = False) -> T:
        """See `SqlStore`."""
        if is_short:
            return await self._look(lambda db: work(SqliteSql(db)))
        return await self._call(lambda: work(self._connection()))

    def _query_here(self, work: Callable[[Sql], T]) -> T:
        """See `SqlStore`."""
        return self._guarded(lambda: work(self._connection()))

    async def _write(
        self, work: Callable[[Sql], T], *, outlives: Outlives = "process", is_slow: bool = False
    ) -> T:
        """See `SqlStore`. A file has one writer, so slow work cannot step aside."""
        del is_slow
        return await self._call(lambda: self._in_transaction(work, outlives))

    def _write_here(self, work: Callable[[Sql], T], *, outlives: Outlives) -> T:
        """See `SqlStore`."""
        return self._guarded(lambda: self._in_transaction(work, outlives))

    def _connection(self) -> SqliteSql:
        return SqliteSql(self._open_db(), self._sql, self._numbered)

    def _in_transaction(self, work: Callable[[Sql], T], outlives: Outlives) -> T:
        sql = self._connection()
        self._sync("FULL" if outlives == "power" else "NORMAL")
        with sql.transaction("BEGIN IMMEDIATE"):
            made = work(sql)
        if sql.has_put_large:  # the value is not read again soon, so its pages need no memory
            self._sql("PRAGMA shrink_memory")
        return made

    async def _apart(self, work: Callable[[Sql], T]) -> T:
        """See `SqlStore`."""
        return await self._on_file(lambda db: work(SqliteSql(db)))

    async def _on_file(self, work: Callable[[sqlite3.Connection], T]) -> T:
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

    def _find_rot(self, sql: Sql) -> list[str]:
        """See `SqlStore`."""
        pages = [text for (text,) in sql.rows("PRAGMA integrity_check(20)") if text != "ok"]
        values = sql.stream("SELECT digest, data FROM @stored_values ORDER BY digest")
        changed = [name for name, data in values if digest_of(data) != name]
        return [*pages, *(f"the value {name} is not as it was written" for name in changed)]

    def _append(self, sql: Sql, batch: Batch) -> Cursor:
        """See `SqlStore`. A file has one writer: whoever has moved the run's row stands behind the fence until the transaction ends."""
        goes_on = batch.status == RunStatus.RUNNING  # most batches: the run was running, and is
        moved = self._move(sql, batch, keeps_status=goes_on)
        if goes_on and moved.rowcount != 1:
            moved = self._move(sql, batch)
        if moved.rowcount == 1:
            self._add(sql, batch, "1=1")
        return moved

    def _note_writes(self, sql: Sql, batch: Batch, place: dict[str, object], stands: str) -> None:
        """See `SqlStore`. A write that ends as the next one on its resource begins hands its row over, which is no change for any reader."""
        # Epochs tell a read whether a write has begun or ended since. Of a chain of writes, one is open all the time: nobody keeps or reuses a read of
        # its resource meanwhile, and the first one that began and the last one that ends are counted. One statement of 9 us stands for three of 13.
        if len(batch.opened) == len(batch.closed) == 1:
            ((step, resource),) = batch.opened.items()
            handed = {"step": step, "resource": resource, "ended": batch.closed[0]}
            if step != batch.closed[0] and sql.send(_HAND_OVER, {**place, **handed}).rowcount == 1:
                return
        super()._note_writes(sql, batch, place, stands)

    # --- large headers

    def _find(self, sql: Sql, run_id: str) -> RunRow | None:
        """See `SqlStore`. A large header is read in portions, and parsed once."""
        if "headers" not in self._numbered or not isinstance(sql, SqliteSql):
            return super()._find(sql, run_id)
        found = sql.rows(_FIND_SMALL, {"run": run_id})
        if not found:
            return None
        *row, number, text = found[0]
        if text is not None:
            return self._row(row, read_header(text, lambda digest: self._find_plan_text(sql, digest)))
        header = self._read_large(sql, run_id, number)
        sql.send("PRAGMA shrink_memory")  # its pages are not needed any more
        return self._row(row, header)

    def _find_plan_text(self, sql: Sql, digest: str) -> bytes | None:
        """See `SqlStore`. A large text is read in one copy."""
        if "plan_texts" not in self._numbered or not isinstance(sql, SqliteSql):
            return super()._find_plan_text(sql, digest)
        found = sql.rows(_FIND_SMALL_TEXT, {"digest": digest})
        if not found or found[0][1] is not None:
            return found[0][1] if found else None
        with sql.db.blobopen("plan_texts", "data", found[0][0], readonly=True) as blob:
            text = blob.read()
        sql.send("PRAGMA shrink_memory")  # its pages are not needed any more
        return text

    def _read_large(self, sql: SqliteSql, run_id: str, number: int) -> Mapping[str, Any]:
        """Return a large header: the cached header of the last run if the bytes are equal, else the parsed text."""
        with sql.db.blobopen("headers", "header", number, readonly=True) as blob:
            known = self._large_header
            if known is not None and known[0] == run_id:
                hashed = hashlib.sha256()
                while portion := blob.read(PORTION_BYTES):
                    hashed.update(portion)
                if hashed.digest() == known[1]:
                    return known[2]
                blob.seek(0)
            return parse_header(blob.read(), lambda digest: self._find_plan_text(sql, digest))

    def _put_header(self, sql: Sql, run_id: str, header: Mapping[str, Any]) -> bytes:
        """See `SqlStore`. A large header is kept: it is read again and again while the run is driven."""
        text = super()._put_header(sql, run_id, header)
        if len(text) >= LARGE_BYTES:
            self._large_header = (run_id, hashlib.sha256(text).digest(), header)
        return text

    # --- the key filter

    def _prepare_claim(self) -> None:
        """See `SqlStore`. The key filter may have to forget its keys."""
        self._known.check(self._open_db())

    def append(self, batches: Sequence[Batch]) -> Sequence[StoreError | None]:
        """See `Store.append`."""
        faults = super().append(batches)
        # Only now: whoever has looked before this commit must keep nothing.
        for batch, fault in zip(batches, faults, strict=True):
            if batch.reuse and batch.reuse.results and self.name != ":memory:":
                if fault is None:
                    self._known.results.add(batch.reuse.results)
                else:
                    self._known.results.forget(made.key for made in batch.reuse.results)
        # A step waits for the commit of its write, so the key filter is read on only after other commits. The last commit of a run is one of
        # these: an engine of small runs makes no other, and each of their calls would be looked for in the index.
        if not any(batch.is_synced and batch.releases is None for batch in batches):
            with suppress(StoreError):
                self._guarded(lambda: self._known.read_on(self._open_db()))
        known = self._large_header
        if known is not None and any(
            batch.run_id == known[0] and batch.releases is not None for batch in batches
        ):
            self._large_header = None
        return faults

    def list_decided(self) -> Sequence[str]:
        """See `Store.list_decided`."""
        self._guarded(lambda: self._known.read_on(self._open_db()))
        return super().list_decided()

    async def find_reusable(self, keys: Sequence[str]) -> Mapping[str, Reusable]:
        """See `Store.find_reusable`."""
        # Called on the event loop for the calls of a run: most keys are new, and the filter answers for them without a query.
        unwritten = self._unwritten
        held = {key: unwritten[key] for key in keys if key in unwritten} if unwritten else {}
        prefixes = {prefix_of(key): key for key in keys if key not in held}
        if not (wanted := self._known.among(prefixes)):
            return held
        cache = self._known.results
        changes = cache.changes
        held |= cache.find(prefixes[prefix] for prefix in wanted)
        missing = {prefix: key for prefix in wanted if (key := prefixes[prefix]) not in held}
        if not missing:
            return held

        def work(db: sqlite3.Connection) -> dict[str, Reusable]:
            named: dict[int, list[str]] = {}
            for prefix, number in _numbers_of(db, list(missing)):
                named.setdefault(number, []).append(missing[prefix])
            lines: dict[str, bytes] = {}
            for number, there in named.items():
                lines |= _newest_lines(db, cache, number, there, changes)
            return self._read_results(SqliteSql(db), list(missing.values()), lines)

        return {**held, **await self._with_objects(await self._look(work))}

    # A store in memory is read by this process alone. To write each result as a line of a segment, and to read it again, would be a tenth of a step,
    # so its results stay as they are until somebody looks at the table as a whole.

    def _add_reuse(self, sql: Sql, reuse: ReuseEntries) -> None:
        """See `SqlStore`."""
        if self.name == ":memory:":
            self._unwritten.update({result.key: result for result in reuse.results})
            reuse = ReuseEntries(reuse.calls, [], reuse.codes)
        super()._add_reuse(sql, reuse)

    def _write_results(self) -> None:
        """Write the results that stay in memory, so that the table has all."""
        if not self._unwritten:
            return
        left = ReuseEntries([], list(self._unwritten.values()))
        # Called on its own, since the method of this class would keep them in memory again.
        self._in_transaction(lambda sql: super(SqliteStore, self)._add_reuse(sql, left), "process")
        self._unwritten = {}

    def _add_segments(self, sql: Sql, segments: Sequence[Segment]) -> None:
        """See `SqlStore`."""
        self._known.add(prefix for segment in segments for prefix in segment.prefixes)
        db = cast("SqliteSql", sql).db
        keys: list[tuple[int, int]] = []
        for segment in segments:
            number = cast("int", db.execute(_ADD_SEGMENT, row_of(segment)).lastrowid)
            keys += [(prefix, number) for prefix in segment.prefixes]
        # In the order of the index: keys that are close share a page. Of two equal ones the later counts.
        db.executemany("INSERT OR REPLACE INTO reuse_keys (prefix, number) VALUES (?, ?)", sorted(keys))

    # --- the records of calls
    #
    # An insert into `calls` touches two indexes at random places, for each call of each run; few runs are ever explained. So commits append the
    # records as one row, and whoever asks sorts them first.

    def _add_calls(self, sql: Sql, calls: Sequence[CallRecord]) -> None:
        """See `SqlStore`."""
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
            for call in calls
        ]
        if made_from:
            sql.send("INSERT INTO unsorted_calls (calls) VALUES (:calls)", {"calls": orjson.dumps(made_from)})

    def _sort_calls(self) -> None:
        """Bring what runs have left into the order in which it is asked for."""
        if self._sql("SELECT 1 FROM unsorted_calls LIMIT 1").fetchone() is None:
            return
        if self.is_read_only:  # in tables of this connection, which hide those of the file
            for table in ("calls", "unsorted_calls"):
                self._sql(f"CREATE TEMP TABLE {table} AS SELECT * FROM main.{table}")
            self._sql("CREATE UNIQUE INDEX temp.calls_by_run ON calls (run_id, step)")
        sql = self._connection()
        with sql.transaction("BEGIN IMMEDIATE"):
            for (calls,) in sql.rows("DELETE FROM unsorted_calls RETURNING calls"):
                rows = [(*row[:5], orjson.dumps(row[5]), *row[6:]) for row in orjson.loads(calls)]
                sql.insert("calls", CALL_COLUMNS, rows, key="run_id, step", replaces=True)

    async def _bring_in(self, *, calls: bool = False, results: bool = False) -> None:
        """See `SqlStore`."""

        def work() -> None:
            if calls:
                self._sort_calls()
            if results:
                self._write_results()

        await self._call(work)

    async def shrink_cache(self, *, before: float | None, bytes_max: int | None) -> int:
        """See `Store.shrink_cache`. What is known of the results, some of which are removed, is read anew."""
        try:
            return await super().shrink_cache(before=before, bytes_max=bytes_max)
        finally:
            await self._call(self._known.forget)

    # --- the size of the file

    async def give_back_room(self) -> None:
        """See `Store.give_back_room`."""
        if self.name != ":memory:":
            await self._on_file(_give_back_room)

    async def compact(self) -> bool:
        """See `Store.compact`."""
        return self.name != ":memory:" and await self._on_file(_compact)


def _numbers_of(db: sqlite3.Connection, prefixes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the prefixes that the index has, each with the number of its segment."""
    if len(prefixes) == 1:
        yield from db.execute(_FIND_NUMBER, prefixes)
        return
    # Rejected: `json_each`, which takes twice the time, and a query a key, which takes five times as long.
    for start in range(0, len(prefixes), KEYS_ASKED):
        part = list(prefixes[start : start + KEYS_ASKED])
        yield from db.execute(_FIND_NUMBERS, part + part[-1:] * (KEYS_ASKED - len(part)))


def _newest_lines(
    db: sqlite3.Connection, cache: ResultCache, number: int, keys: Sequence[str], changes: int
) -> Mapping[str, bytes]:
    """Return the lines of some keys that lead to a segment, which is kept; `changes` is that of `ResultCache.keep`."""
    if (lines := cache.lines_of(number)) is None:
        row = db.execute(_READ_SEGMENT, (number,)).fetchone()
        lines = lines_in(row[0]) if row is not None else {}
    newest = [key for key in keys if key in lines]
    found = {key: lines[key] for key in newest}
    if is_complete := cache.is_worth_all(number, len(lines), len(newest)):
        prefixes = {prefix_of(key): key for key in lines}
        newest = [prefixes[prefix] for prefix, at in _numbers_of(db, list(prefixes)) if at == number]
    cache.keep(number, lines, newest, changes, is_complete=is_complete)
    return found


# --- the key filter
#
# Most calls of a run are new, and a new call needs no look into the file: the filter knows which keys the reuse index may have. It reads the
# keys a portion at a time on the thread of commits, and is complete as long as no other connection writes to the file, which SQLite reports as
# a number (`data_version`). The number is asked for when a run is claimed, at each commit, and at each look for decisions. So a run finds all
# results that were there when it began, and a moment later those that other processes add; as late it learns which ones they remove. Without the
# filter a durable run of 10,000 new steps took 7 % longer in the benchmark of that time, and one of 1,000 steps about 4 %.


_HASH: Final = 8 * FILTER_BYTES - 1
_OLDER_KEYS: Final = "SELECT key FROM reusable WHERE key > ? ORDER BY key LIMIT ?"
_PREFIXES: Final = "SELECT prefix FROM reuse_keys WHERE prefix >= ? ORDER BY prefix LIMIT ?"
_FIRST_PREFIX: Final = -(2**63)
_LAST_PREFIX: Final = 2**63 - 1


class KeyFilter:
    """Which keys the reuse index may have: a bit for each hash, so it may say yes for an absent key, and never no for a present one.

    Rejected: a set of hashes, which answers as fast, and grows by 70 bytes for each call of a server that runs for months.
    """

    def __init__(self) -> None:
        self._version: int | None = None
        self._changed = -QUIET_S
        self.forget()

    def forget(self) -> None:
        """Forget all keys, and the results that are kept."""
        self._bits = bytearray()  # made when the first key is read
        self._count = 0  # bits that are set
        self._all: bytearray | None = None  # the same bits, once they are complete
        self._read_to = _FIRST_PREFIX
        self._read_older_to = ""
        self._is_too_large = False
        self.results = ResultCache()

    def among(self, prefixes: Iterable[int]) -> Sequence[int]:
        """Return the prefixes of the keys that have to be looked up. May be called on any thread."""
        known = self._all
        if known is None:
            return list(prefixes)
        return [each for each in prefixes if known[(at := each & _HASH) >> 3] >> (at & 7) & 1]

    def add(self, prefixes: Iterable[int]) -> None:
        """Add keys that are about to be added to the index."""
        # If nothing was read yet, the index is read from its beginning later, and has these keys then.
        if self._all is not None or self._bits:
            self._add(prefixes)

    def _add(self, prefixes: Iterable[int]) -> None:
        bits = self._bits
        for prefix in prefixes:
            at = prefix & _HASH
            place, bit = at >> 3, 1 << (at & 7)
            if not bits[place] & bit:
                bits[place] |= bit
                self._count += 1
        if self._count > KEYS_MAX:
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
        self._bits = self._bits or bytearray(FILTER_BYTES)
        # First what older versions have left. They may run beside this one, so the table is looked at each time.
        older = [key for (key,) in db.execute(_OLDER_KEYS, (self._read_older_to, PORTION))]
        if older:
            self._read_older_to = older[-1]
            self._add(map(prefix_of, older))
            return
        prefixes = [each for (each,) in db.execute(_PREFIXES, (self._read_to, PORTION))]
        self._add(prefixes)
        if self._is_too_large:
            return
        if len(prefixes) == PORTION and prefixes[-1] < _LAST_PREFIX:
            self._read_to = prefixes[-1] + 1
            return
        # Another process may have written between the portions, or since the last one: then the set is no copy of the index.
        version = self._version
        self.check(db)
        if version == self._version:
            self._all = self._bits


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
