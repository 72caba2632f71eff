"""The store in a PostgreSQL database, for engines on several machines: the dialect of the operations in `sql_store.py`.

A group of appends is one transaction, sent and answered in one round trip.

A group that holds a write's intent or outcome waits for the server's disk. Other groups are committed without waiting
(`synchronous_commit = off`): a server that crashes loses those of its last 0.6 seconds (three times `wal_writer_delay`), but never one that a
durable group follows. If a transaction sees the commit of another one, its own commit stands later in the write-ahead log, and the log is
flushed in order, whichever connection asks for it. Source: PostgreSQL, src/backend/access/transam/README, "Asynchronous Commit".

A process that drives a run may outlive the server's memory of the run. So a claim is durable before it counts, which keeps an epoch from being
given out twice, and after a crash of the server an append that follows a lost one is refused.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Final, TypeVar

import orjson
import psycopg

from .object_values import complete_copy
from .postgres_connection import (
    CHANNEL,
    READ_ROWS,
    SNAPSHOT,
    Connection,
    PostgresServer,
    connect,
    in_transaction,
    postgres_error,
)
from .postgres_connection import Cursor as PostgresCursor
from .reuse_log import Segment
from .sql_store import NO_VALUES, Outlives, Row, Sql, SqlStore, Values, translated
from .sqlite_store import SqliteStore
from .store import ASKED_S, Change, ChangeKind

T = TypeVar("T")

# In the order in which writers take them, but for the values, which a writer may have before a run: then one of the two tries again.
_LOCK_WRITERS: Final = (
    "LOCK TABLE firmplan_runs, firmplan_headers, firmplan_run_plans, firmplan_plan_texts, firmplan_journal, firmplan_decisions, firmplan_plans, "
    "firmplan_plan_versions, "
    "firmplan_stored_values, firmplan_stored_objects, firmplan_saved_values, firmplan_value_parts IN SHARE ROW EXCLUSIVE MODE"
)
_ROTTEN: Final = "SELECT digest FROM @stored_values WHERE digest <> 'sha256' || chr(58) || encode(sha256(data), 'hex') ORDER BY digest"
_CHECKSUMS: Final = (
    "SELECT coalesce(checksum_failures, 0) FROM pg_stat_database WHERE datname = current_database()"
)
_ADD_SEGMENTS: Final = """
    WITH numbered AS MATERIALIZED (
        SELECT nextval(pg_get_serial_sequence('@reuse_log', 'number')) AS number, segment.*
        FROM unnest(CAST(:oldest AS double precision[]), CAST(:newest AS double precision[]), CAST(:size AS bigint[]), CAST(:results AS bytea[]))
            WITH ORDINALITY AS segment(oldest, newest, size, results, place)
    ), added AS (
        INSERT INTO @reuse_log (number, oldest, newest, size, results) SELECT number, oldest, newest, size, results FROM numbered
    )
    INSERT INTO @reuse_keys (prefix, number)
    SELECT prefix, number FROM unnest(CAST(:prefixes AS bigint[]), CAST(:places AS bigint[])) AS key(prefix, place) JOIN numbered USING (place)
    ORDER BY prefix ON CONFLICT (prefix) DO UPDATE SET number=excluded.number
"""
TRIES: Final = 5  # of work through a separate connection that the server gives up for another's sake


class PostgresSql(Sql):
    """A connection to a server, in the notation of `sql_store`."""

    lock: ClassVar[str] = " FOR UPDATE"
    lock_from_removal: ClassVar[str] = " FOR KEY SHARE"

    def __init__(self, db: Connection) -> None:
        self._db = db

    def send(self, statement: str, values: Values = NO_VALUES) -> PostgresCursor:
        """See `Sql.send`. Bytes travel as they are, not as text."""
        return self._db.execute(_dialect(statement), values, binary=True)

    def each(self, statement: str, many: Sequence[Values]) -> Sequence[PostgresCursor]:
        """See `Sql.each`. All are sent in one go."""
        with self._db.pipeline():
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
        """See `Sql.insert`. All rows are one statement, which has an array for each column."""
        del large
        if not rows:
            return
        names = columns.split(", ")
        others = [name for name in names if name not in key.split(", ")]
        does = (
            f"UPDATE SET {', '.join(f'{each}=excluded.{each}' for each in others)}" if replaces else "NOTHING"
        )
        statement = (
            f"INSERT INTO firmplan_{table} ({columns}) SELECT * FROM unnest({', '.join(['%b'] * len(names))}) "
            f"ON CONFLICT ({key}) DO {does}"
        )
        # Rejected: one statement a row. A run leaves two rows a call, and psycopg and the server would handle each of them.
        self._db.execute(statement.encode(), [list(column) for column in zip(*rows, strict=True)])

    def put(
        self, table: str, row: Values, *, large: str, condition: str = "1=1", values: Values = NO_VALUES
    ) -> None:
        """See `Sql.put`. A server is sent a value of any size in one piece."""
        del large
        statement = f"INSERT INTO @{table} ({', '.join(row)}) SELECT :{', :'.join(row)} WHERE {condition} ON CONFLICT DO NOTHING"
        self.send(statement, {**values, **row})

    def stream(self, statement: str, values: Values = NO_VALUES) -> Iterator[Row]:
        """See `Sql.stream`."""
        # A named cursor is one on the server: without it, all rows of a query would be in memory at once.
        with self._db.cursor("rows", binary=True) as cursor:
            cursor.itersize = READ_ROWS
            yield from cursor.execute(_dialect(statement), values)

    @contextmanager
    def snapshot(self) -> Generator[None]:
        """See `Sql.snapshot`."""
        self._db.execute(SNAPSHOT)
        yield
        self._db.execute("COMMIT")

    @contextmanager
    def removal(self) -> Generator[None]:
        """See `Sql.removal`."""
        # Table locks, not row locks: a new row that names a value cannot be locked before it is there.
        with self._db.transaction():
            self._db.execute(_LOCK_WRITERS)
            yield


@lru_cache(512)
def _dialect(statement: str) -> bytes:
    return translated(statement, "firmplan_", r"%(\1)s", r"= ANY(%(\1)s)").encode()


class PostgresStore(PostgresServer, SqlStore):
    """A store in the database at `url`, whose tables are made if they are not there."""

    is_shared: Final = True
    # No row counts the writes on all resources, because every write of every process would wait for it.
    writes_in_all: ClassVar[str] = "SELECT coalesce(sum(epoch), 0) FROM @resources"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._hear: Callable[[Change], None] | None = None
        self._told_of_webhooks = -math.inf  # when this process did so last, by the monotonic clock
        self._asked: dict[
            str, float
        ] = {}  # runs whose changes somebody asked for, and until when, by the monotonic clock

    async def copy_to(self, path: Path) -> None:
        """See `Store.copy_to`: the copy is a store in one SQLite file."""
        await super().copy_to(path)
        await complete_copy(self.objects, SqliteStore(path))

    async def _query(self, work: Callable[[Sql], T], *, is_short: bool = False) -> T:
        """See `SqlStore`. The event loop never waits for a server, however short the query is."""
        del is_short
        return await self._side.call(lambda db: work(PostgresSql(db)))

    def _query_here(self, work: Callable[[Sql], T]) -> T:
        """See `SqlStore`."""
        return self._main.call_here(lambda db: work(PostgresSql(db)))

    async def _write(
        self, work: Callable[[Sql], T], *, outlives: Outlives = "process", is_slow: bool = False
    ) -> T:
        """See `SqlStore`. Commits of journals go through the main connection, so that slow work must not hold it."""
        link = self._side if is_slow else self._main
        return await link.call(lambda db: _written(db, work, outlives))

    def _write_here(self, work: Callable[[Sql], T], *, outlives: Outlives) -> T:
        """See `SqlStore`."""
        return self._main.call_here(lambda db: _written(db, work, outlives))

    async def _apart(self, work: Callable[[Sql], T]) -> T:
        """See `SqlStore`."""
        return await asyncio.to_thread(self._on_connection, work)

    def _on_connection(self, work: Callable[[Sql], T]) -> T:
        with closing(connect(self._url)) as db:
            # `PostgresLink` tries again in the same way, but its connections are for short work.
            try:
                for _ in range(TRIES - 1):
                    try:
                        return work(PostgresSql(db))
                    except psycopg.errors.DeadlockDetected:
                        continue
                return work(PostgresSql(db))
            except psycopg.Error as fault:
                raise postgres_error(self._url, fault) from fault

    # --- changes
    #
    # NOTIFY makes commits of a whole database wait for each other and wakes every listening session. So a process tells what moves of a run
    # only while somebody has asked for that, which it hears as a notification, too. Nobody has to ask for decisions: they are few.

    @property
    def is_telling(self) -> bool:
        """See `Store.is_telling`."""
        return self._side.is_listening

    @property
    def can_tell(self) -> bool:
        """See `Store.can_tell`."""
        return True

    async def listen(self, hear: Callable[[Change], None]) -> None:
        """See `Store.listen`."""
        self._hear = hear
        await self._side.listen(self._heard)

    async def ask_for(self, run_ids: Sequence[str]) -> None:
        """See `Store.ask_for`."""
        await self._side.call(lambda db: _notify(PostgresSql(db), "asked", run_ids))

    def _tell(self, sql: Sql, kind: ChangeKind, run_ids: Iterable[str] = ()) -> None:
        """See `SqlStore`."""
        if kind == "webhooks":
            # Each run that ends may have something to send. Whoever hears of it looks at once and once more, at least a second later.
            if (now := time.monotonic()) - self._told_of_webhooks < WEBHOOKS_TOLD_S:
                return
            self._told_of_webhooks = now
        if kind != "moved":
            _notify(sql, kind, list(run_ids))
        elif self._asked:
            now = time.monotonic()
            # A batch may belong to a run twice; the order is kept, so that equal payloads are sent once.
            if asked := [each for each in dict.fromkeys(run_ids) if self._asked.get(each, 0.0) > now]:
                _notify(sql, kind, asked)

    def _heard(self, payload: str | None) -> None:
        """Hear a notification, on the thread of the side connection; `None`: some may have been missed."""
        change = Change("missed") if payload is None else _change_of(payload)
        if change is None:
            return
        if isinstance(change, Change):
            if self._hear is not None:
                self._hear(change)
            return
        now = time.monotonic()
        # A new dict: the thread that commits reads it meanwhile. Whoever asks again is told a little longer, and the others are forgotten.
        left = {run_id: until for run_id, until in self._asked.items() if until > now}
        self._asked = left | dict.fromkeys(change, now + ASKED_S)

    def _find_rot(self, sql: Sql) -> list[str]:
        """See `SqlStore`. The server computes the digests, so that no value has to travel."""
        failures = sum(int(count) for (count,) in sql.rows(_CHECKSUMS))
        pages = [f"the server has read {failures} pages with a wrong checksum"] if failures else []
        return [*pages, *(f"the value {name} is not as it was written" for (name,) in sql.rows(_ROTTEN))]

    def _add_segments(self, sql: Sql, segments: Sequence[Segment]) -> None:
        """See `SqlStore`. All is one statement: the numbers of the segments need not travel."""
        # In the order of prefixes, so that two processes that add the same keys cannot deadlock; of two segments with one key the later counts.
        places = {prefix: place for place, each in enumerate(segments, 1) for prefix in each.prefixes}
        prefixes = sorted(places)
        values: dict[str, object] = {"prefixes": prefixes, "places": [places[each] for each in prefixes]}
        for name in ("oldest", "newest", "size", "results"):
            values[name] = [getattr(segment, name) for segment in segments]
        sql.send(_ADD_SEGMENTS, values)

    # A task is stored as JSON: it may hold any character, and texts of PostgreSQL hold no NUL.

    def _task_to_text(self, task: str | None) -> str | None:
        """See `SqlStore`."""
        return None if task is None else orjson.dumps(task).decode()

    def _text_to_task(self, text: str | None) -> str | None:
        """See `SqlStore`."""
        return None if text is None else str(orjson.loads(text))

    async def give_back_room(self) -> None:
        """See `Store.give_back_room`. The server reuses the space of removed rows after its autovacuum has run."""

    async def compact(self) -> bool:
        """See `Store.compact`. The server manages its own files."""
        return False


_NOTIFY: Final = f"SELECT pg_notify(channel, :payload) FROM (SELECT {CHANNEL}) AS store(channel)"
WEBHOOKS_TOLD_S: Final = (
    0.5  # between two notifications of one process that there is something to send, at least
)
PAYLOAD_IDS: Final = (
    1_000  # characters of ids in a notification, the last id not counted; the server takes 7,999 bytes
)


def _notify(sql: Sql, kind: str, run_ids: Sequence[str]) -> None:
    """Send notifications about runs, with the commit of the open transaction."""
    payloads = [{"payload": orjson.dumps([kind, *ids]).decode()} for ids in _portions(run_ids)]
    if len(payloads) == 1:
        sql.send(_NOTIFY, payloads[0])
    else:
        sql.each(_NOTIFY, payloads)


def _portions(run_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    portion: list[str] = []
    size = 0
    if not run_ids:
        yield ()
    for run_id in run_ids:
        if portion and size + len(run_id) > PAYLOAD_IDS:
            yield portion
            portion, size = [], 0
        portion.append(run_id)
        size += len(run_id) + 3
    if portion:
        yield portion


def _change_of(payload: str) -> Change | Sequence[str] | None:
    """Return what a notification tells: a change, or the runs that somebody asks for; `None`: this version does not know it."""
    try:
        said = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    match said:
        case [("decided" | "moved") as kind, *ids] if all(isinstance(each, str) for each in ids):
            return Change(kind, tuple(ids))
        case [("plans" | "schedules" | "webhooks") as kind]:
            return Change(kind)
        case ["asked", *ids] if all(isinstance(each, str) for each in ids):
            return ids
        case _:
            return None


def _written(db: Connection, work: Callable[[Sql], T], outlives: Outlives) -> T:
    with in_transaction(db, is_durable=outlives != "process"):
        return work(PostgresSql(db))
