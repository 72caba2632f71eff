"""The store in a PostgreSQL database, for engines on several machines.

An append is one statement. It changes the run's row only if epoch and number of records are as expected, and inserts records only if it
changed the row. A group of appends is one transaction, sent and answered in one round trip.

A group that holds a write's intent or outcome waits for the server's disk. Other groups are committed without waiting
(`synchronous_commit = off`): a server that crashes loses those of its last 0.6 seconds (three times `wal_writer_delay`), but never one that a
durable group follows. If a transaction sees the commit of another one, its own commit stands later in the write-ahead log, and the log is
flushed in order, whichever connection asks for it. Source: PostgreSQL, src/backend/access/transam/README, "Asynchronous Commit".

A process that drives a run may outlive the server's memory of the run. So a claim is durable before it counts, which keeps an epoch from being
given out twice, and after a crash of the server an append that follows a lost one is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any, Final, TypeVar

import orjson
import psycopg

from ...errors import StoreError
from .garbage import find_unused, named_in, remove_unused
from .postgres_connection import (
    DURABLE,
    READ_ROWS,
    SNAPSHOT,
    Connection,
    Cursor,
    PostgresServer,
    Query,
    connect,
    durably,
    postgres_error,
    rows,
)
from .sql_store import (
    CALL_COLUMNS,
    FIND_RUN,
    KEEP_USES,
    NAMING,
    NO_VALUES,
    OF_ONE_RUN,
    ROW_COLUMNS,
    Row,
    Sql,
    SqlStore,
    Values,
    find_value_in,
    read_header,
    translated,
)
from .store import (
    CHILDREN_TOLD,
    EVERYTHING,
    RESULT_COLUMNS,
    Batch,
    CallRecord,
    DecisionKey,
    Epochs,
    Pruned,
    Removal,
    Reusable,
    ReuseEntries,
    RunRow,
    fenced,
    merged_reuse,
)

T = TypeVar("T")

# --- an append, as one statement that is fenced by epoch and number of records


_MOVED: Final = """
    moved AS (
        UPDATE firmplan_runs SET status=%(status)s, digest=%(digest)s, updated=%(updated)s, head=%(head)s, last_seq=%(last)s,
            owner = CASE WHEN %(ends)s::boolean THEN NULL ELSE owner END
        WHERE id=%(run)s AND epoch=%(epoch)s AND last_seq=%(before)s RETURNING id
    )"""
_NOTED: Final = "INSERT INTO firmplan_journal SELECT id, %(first)s, %(lines)s, %(head)s FROM moved"
_PLAIN: Final = f"WITH {_MOVED} {_NOTED} RETURNING 1"
# All parts of a statement see the store as it was before it. So a write that ends and begins again in one batch is no row of `ended`: it stays
# open. Epochs are raised in the order of names, so that two processes cannot deadlock.
_WRITING: Final = f"""
    WITH {_MOVED},
    noted AS ({_NOTED}),
    taken AS (DELETE FROM firmplan_decisions USING moved WHERE number = ANY(%(decided)s::bigint[])),
    ended AS (
        DELETE FROM firmplan_open_writes w USING moved
        WHERE w.run_id=moved.id AND w.step = ANY(%(closed)s::text[]) AND w.step <> ALL(%(opened)s::text[])
        RETURNING w.resource
    ),
    replaced AS (
        SELECT w.resource FROM firmplan_open_writes w JOIN moved ON w.run_id=moved.id
        WHERE w.step = ANY(%(closed)s::text[]) AND w.step = ANY(%(opened)s::text[])
    ),
    begun AS (
        INSERT INTO firmplan_open_writes
        SELECT moved.id, o.step, o.resource FROM moved, unnest(%(opened)s::text[], %(resources)s::text[]) AS o(step, resource)
        ON CONFLICT (run_id, step) DO UPDATE SET resource=excluded.resource RETURNING resource
    ),
    raised AS (
        INSERT INTO firmplan_resources
        SELECT resource, count(*) FROM (TABLE ended UNION ALL TABLE replaced UNION ALL TABLE begun) AS touched
        GROUP BY resource ORDER BY resource
        ON CONFLICT (name) DO UPDATE SET epoch=firmplan_resources.epoch+excluded.epoch
    )
    SELECT 1 FROM moved
"""
# Values come before the append that names them. The run's row is locked, so a fence that holds here still holds for the append. They are inserted in the
# order of digests, so that two processes cannot deadlock.
_KEEP: Final = """
    WITH mine AS (SELECT 1 FROM firmplan_runs WHERE id=%(run)s AND epoch=%(epoch)s AND last_seq=%(before)s FOR UPDATE)
    INSERT INTO firmplan_stored_values
    SELECT v.digest, v.data FROM mine, unnest(%(digests)b::text[], %(values)b::bytea[]) AS v(digest, data) ORDER BY v.digest
    ON CONFLICT DO NOTHING
"""
# The appends of a group raise epochs in the order of the runs. So the resources of the whole group are locked first, in the order of names:
# otherwise two processes could deadlock.
_LOCK_RESOURCES: Final = """
    SELECT 1 FROM firmplan_resources WHERE name = ANY(%(opened)s::text[]) OR name IN (
        SELECT w.resource FROM firmplan_open_writes w JOIN unnest(%(runs)s::text[], %(closed)s::text[]) AS c(run_id, step)
        ON w.run_id=c.run_id AND w.step=c.step
    ) ORDER BY name FOR UPDATE
"""
# Do not remove other owners: another owner may be claiming its first run right now.
FREE: Final = """
    DELETE FROM firmplan_owners o WHERE o.name = ANY(%s::text[]) AND NOT EXISTS (SELECT 1 FROM firmplan_runs r WHERE r.owner=o.name)
"""
KEPT_BYTES_MAX: Final = 16 * 1024 * 1024  # values of one statement, which the server holds in memory twice


def append(db: Connection, batch: Batch) -> Cursor:
    """Append inside a transaction. The answer has a row if the batch was appended, and none if it was refused."""
    before = batch.first_seq - 1
    place: dict[str, Any] = {"run": batch.run_id, "epoch": batch.epoch, "before": before}
    for digests in _portions(batch.values):
        kept = {"digests": digests, "values": [batch.values[digest] for digest in digests]}
        db.execute(_KEEP, {**place, **kept})
    given = {
        **place,
        "status": batch.status,
        "digest": batch.digest,
        "updated": float(batch.updated),
        "head": batch.head,
        "last": before + len(batch.lines),
        "first": batch.first_seq,
        "ends": batch.releases is not None,
        "lines": b"\n".join(batch.lines),
    }
    if not (batch.opened or batch.closed or batch.decided):
        return db.execute(_PLAIN, given, prepare=True)
    given |= {
        "opened": list(batch.opened),
        "resources": list(batch.opened.values()),
        "closed": list(batch.closed),
        "decided": list(batch.decided),
    }
    return db.execute(_WRITING, given, prepare=True)


def free_owners(db: Connection, batches: Sequence[Batch]) -> None:
    """Remove the owners that gave up their last run in some batches, inside the transaction that appended them."""
    if names := sorted({batch.releases for batch in batches if batch.releases is not None}):
        db.execute(FREE, (names,), prepare=True)


def lock_resources(db: Connection, batches: Sequence[Batch]) -> None:
    """Lock the resources whose epochs several batches raise, inside a transaction."""
    closed = [(batch.run_id, step) for batch in batches for step in batch.closed]
    given = {
        "opened": sorted({resource for batch in batches for resource in batch.opened.values()}),
        "runs": [run_id for run_id, _ in closed],
        "closed": [step for _, step in closed],
    }
    db.execute(_LOCK_RESOURCES, given)


def refusal(db: Connection, run_id: str, epoch: int, first_seq: int | None = None) -> StoreError:
    """Return why an owner may not write: it is the owner no more, or the store does not hold what it believes to have written."""
    found = rows(db, "SELECT epoch, last_seq, owner FROM firmplan_runs WHERE id=%s", (run_id,))
    if first_seq is None or not found or found[0][0] != epoch:
        return fenced(run_id, found[0][2] if found else None)
    return StoreError(
        f"run {run_id} has {found[0][1]} records in the store, and record {first_seq} was to follow: the server has lost what was "
        "not durable yet (did it crash?); resume the run, it goes on from there"
    )


def _portions(values: Mapping[str, bytes]) -> Iterator[Sequence[str]]:
    """Yield the digests in order, so many at a time as one statement takes."""
    portion: list[str] = []
    size = 0
    for digest in sorted(values):
        if portion and size + len(values[digest]) > KEPT_BYTES_MAX:
            yield portion
            portion, size = [], 0
        portion.append(digest)
        size += len(values[digest])
    if portion:
        yield portion


# --- the reuse index, and the order of writes on resources


_FIND_RESULTS: Final = f"SELECT {RESULT_COLUMNS} FROM firmplan_reusable WHERE key = ANY(%s::text[])"
_ADD_RESULTS: Final = f"""
    INSERT INTO firmplan_reusable ({RESULT_COLUMNS}) SELECT * FROM unnest(
        %b::text[], %b::text[], %b::text[], %b::bytea[], %b::float8[], %b::bytea[], %b::bytea[], %b::bytea[])
    ON CONFLICT (key) DO UPDATE SET (run_id, step, output, created, epochs, env, row_digest) = (
        excluded.run_id, excluded.step, excluded.output, excluded.created, excluded.epochs, excluded.env, excluded.row_digest)
"""
_ADD_CODES: Final = (
    "INSERT INTO firmplan_codes SELECT * FROM unnest(%b::text[], %b::bytea[]) ON CONFLICT DO NOTHING"
)
_ADD_CALLS: Final = """
    INSERT INTO firmplan_calls
    SELECT * FROM unnest(%b::text[], %b::text[], %b::text[], %b::float8[], %b::text[], %b::bytea[], %b::text[], %b::text[])
    ON CONFLICT (run_id, step) DO UPDATE SET (subject, started, key, parts, code, lost) =
        (excluded.subject, excluded.started, excluded.key, excluded.parts, excluded.code, excluded.lost)
"""
_CALLS: Final = f"SELECT {CALL_COLUMNS} FROM firmplan_calls"
_NEWEST: Final = "ORDER BY started DESC, run_id, step LIMIT"
# For each step asked about: the calls of the same path, and those of others among the newest, each newest first.
_EARLIER: Final = f"""
    WITH newest AS ({_CALLS} WHERE subject=%(subject)s AND started<=%(last)s {_NEWEST} %(count)s)
    SELECT w.n, found.* FROM unnest(%(steps)s::text[], %(until)s::float8[]) WITH ORDINALITY AS w(step, at, n),
    LATERAL (
        SELECT 0 AS far, same.* FROM (
            {_CALLS} AS c WHERE c.subject=%(subject)s AND c.step=w.step AND c.started<=w.at {_NEWEST} %(limit)s) AS same
        UNION ALL
        SELECT 1, others.* FROM (
            SELECT * FROM newest WHERE started<=w.at {_NEWEST} %(limit)s) AS others WHERE others.step<>w.step
    ) AS found ORDER BY w.n, far, started DESC, run_id, found.step
"""
# One query for both: between two queries a write might begin and end.
_EPOCHS: Final = f"""
    SELECT name, epoch, EXISTS (SELECT 1 FROM firmplan_open_writes WHERE resource=name)
    FROM firmplan_resources WHERE name = ANY(%(names)s::text[])
    UNION ALL
    SELECT '{EVERYTHING}', coalesce(sum(epoch), 0)::bigint, EXISTS (SELECT 1 FROM firmplan_open_writes)
    FROM firmplan_resources HAVING '{EVERYTHING}' = ANY(%(names)s::text[])
"""


def add_reuse(db: Connection, reuse: ReuseEntries) -> None:
    """Add what calls leave, inside a transaction. In the order of keys: two processes that add the same ones wait for each other, not in a ring."""
    named = sorted(reuse.codes)
    additions: tuple[tuple[Query, tuple[Sequence[object], ...]], ...] = (
        (_ADD_RESULTS, _columns_of_results(reuse.results)),
        (_ADD_CODES, (named, [orjson.dumps(reuse.codes[digest]) for digest in named])),
        (_ADD_CALLS, _columns_of_calls(reuse.calls)),
    )
    for statement, columns in additions:
        if columns[0]:
            db.execute(statement, columns)


def _columns_of_results(results: Sequence[Reusable]) -> tuple[Sequence[object], ...]:
    newest = {entry.key: entry for entry in results}
    columns = zip(*(newest[key].to_row() for key in sorted(newest)), strict=True)
    return tuple(list(column) for column in columns) or ((),)


def _columns_of_calls(calls: Sequence[CallRecord]) -> tuple[Sequence[object], ...]:
    by_step = {(call.run_id, call.step): call for call in calls}
    newest = [by_step[step] for step in sorted(by_step)]
    return (
        [call.run_id for call in newest],
        [call.step for call in newest],
        [call.subject for call in newest],
        [float(call.started) for call in newest],
        [call.key for call in newest],
        [call.kept for call in newest],
        [call.code for call in newest],
        [call.lost.replace("\0", "\ufffd") for call in newest],
    )


# In the order in which writers take them, but for the values, which a writer may have before a run: then one of the two tries again.
_LOCK_WRITERS: Final = (
    "LOCK TABLE firmplan_runs, firmplan_headers, firmplan_journal, firmplan_decisions, firmplan_plans, firmplan_stored_values, "
    "firmplan_saved_values IN SHARE ROW EXCLUSIVE MODE"
)
TRIES: Final = 5


_CREATE: Final = f"""
    WITH made AS (
        INSERT INTO firmplan_runs ({ROW_COLUMNS}) VALUES (%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s)
        ON CONFLICT DO NOTHING RETURNING id
    ) INSERT INTO firmplan_headers SELECT id, %s FROM made RETURNING 1
"""
_SET_HEADER: Final = """
    WITH planned AS (UPDATE firmplan_runs SET plan_digest=%s, status=%s, updated=%s WHERE id=%s AND epoch=%s RETURNING id)
    UPDATE firmplan_headers SET header=%s FROM planned WHERE run_id=id RETURNING 1
"""
_LOCKED: Final = f"""
    SELECT {ROW_COLUMNS}, NULL, header FROM firmplan_runs JOIN firmplan_headers ON run_id=id WHERE id=%s FOR UPDATE OF firmplan_runs
"""
# Start from a random number: an observer that watched the same owner before sees a new beat, also after each claim.
_BEGIN_TO_BEAT: Final = """
    INSERT INTO firmplan_owners VALUES (%s, floor(random() * 2147483647)::bigint)
    ON CONFLICT (name) DO UPDATE SET beat=firmplan_owners.beat+1 RETURNING beat
"""
_BEATS: Final = "SELECT name, beat FROM firmplan_owners WHERE name IN (%s, %s) ORDER BY name FOR UPDATE"
# An owner is removed together with its last run. Other owners without runs stay: one of them may be claiming its first run right now.
_RELEASE: Final = """
    WITH held AS (
        SELECT r.id, r.owner FROM firmplan_runs r JOIN unnest(%s::text[], %s::bigint[]) AS e(id, epoch) USING (id, epoch)
        ORDER BY r.id FOR UPDATE OF r
    ), freed AS (UPDATE firmplan_runs r SET owner=NULL FROM held WHERE r.id=held.id)
    DELETE FROM firmplan_owners o WHERE o.name IN (SELECT owner FROM held)
        AND NOT EXISTS (SELECT 1 FROM firmplan_runs r WHERE r.owner=o.name AND r.id NOT IN (SELECT id FROM held))
"""
_PARENT: Final = "SELECT 1 FROM firmplan_runs WHERE id=%s FOR KEY SHARE"
_TO_DELETE: Final = "SELECT status FROM firmplan_runs WHERE id=%s FOR UPDATE"
_CHILDREN: Final = "SELECT id FROM firmplan_runs WHERE parent=%s ORDER BY created, id LIMIT %s"
_STORED: Final = "SELECT digest FROM firmplan_stored_values WHERE digest = ANY(%s::text[])"
_END_WRITES: Final = """
    WITH ended AS (DELETE FROM firmplan_open_writes WHERE run_id=%s RETURNING resource)
    INSERT INTO firmplan_resources SELECT resource, count(*) FROM ended GROUP BY resource ORDER BY resource
    ON CONFLICT (name) DO UPDATE SET epoch=firmplan_resources.epoch+excluded.epoch
"""
# Insert in the order of keys: two processes that decide about the same steps at once then cannot deadlock.
_DECIDE: Final = """
    INSERT INTO firmplan_decided_attempts
    SELECT %(run)s, d.* FROM unnest(%(steps)s::text[], %(attempts)s::bigint[], %(abouts)s::text[], %(records)b::bytea[])
        AS d(step, attempt, about, record) ORDER BY step, attempt, about
    ON CONFLICT DO NOTHING RETURNING step, attempt, about
"""
_STANDING: Final = """
    SELECT s.step, s.attempt, s.about, s.record FROM firmplan_decided_attempts s
    JOIN unnest(%(steps)s::text[], %(attempts)s::bigint[], %(abouts)s::text[]) AS d(step, attempt, about)
        ON s.step=d.step AND s.attempt=d.attempt AND s.about=d.about WHERE s.run_id=%(run)s
"""
_LEAVE: Final = """
    INSERT INTO firmplan_decisions (run_id, record)
    SELECT %(run)s, record FROM unnest(%(records)b::bytea[]) WITH ORDINALITY AS d(record, place) ORDER BY place
"""
_SAVE_VALUE: Final = """
    INSERT INTO firmplan_saved_values VALUES (%s,%s) ON CONFLICT (digest) DO UPDATE SET saved=excluded.saved
"""


class PostgresStore(PostgresServer, SqlStore):
    """A store in the database at `url`, whose tables are made if they are not there."""

    is_shared: Final = True

    async def _read(self, statement: str, values: Values = NO_VALUES, *, is_short: bool = False) -> list[Row]:
        """See `SqlStore`. The event loop never waits for a server, however short the query is."""
        del is_short
        return await self._side.call(lambda db: PostgresSql(db).rows(statement, values))

    async def _write(self, work: Callable[[Sql], T], *, is_durable: bool = False) -> T:
        """See `SqlStore`. Commits of journals go through the main connection, so that other work must not hold it for long."""

        def inside(db: Connection) -> T:
            with db.transaction():
                if is_durable:
                    db.execute(DURABLE)
                return work(PostgresSql(db))

        return await self._side.call(inside)

    def _row(self, found: Sequence[Any], header: Mapping[str, Any]) -> RunRow:
        """See `SqlStore`. A task is stored as JSON: it may hold any character, and texts of PostgreSQL hold no NUL."""
        row = super()._row(found, header)
        return row if row.task is None else replace(row, task=orjson.loads(row.task))

    def _found(self, found: Sequence[Row]) -> RunRow | None:
        return self._row(found[0][:-1], read_header(found[0][-1])) if found else None

    # --- runs

    async def create_run(self, row: RunRow) -> bool:
        """See `Store.create_run`."""
        values = (
            row.id,
            row.status,
            # As JSON: a task may hold any character, and PostgreSQL's texts none of number 0.
            None if row.task is None else orjson.dumps(row.task).decode(),
            row.plan_digest,
            row.parent,
            float(row.created),
            float(row.updated),
            row.digest,
            row.epoch,
            row.owner,
            row.head,
            row.last_seq,
            orjson.dumps(row.header),
        )

        def work(db: Connection) -> bool:
            with durably(db):
                if (
                    row.parent is not None and not row.is_replay
                ):  # it is locked: who deletes it waits, and then sees the child
                    found = db.execute(_PARENT, (row.parent,)).fetchone()
                    row.expect_parent(is_there=found is not None)
                made = db.execute(_CREATE, values)
            return made.fetchone() is not None

        return await self._main.call(work)

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

        def work(db: Connection) -> None:
            with durably(db):
                given = (plan_digest, status, float(at), run_id, epoch, orjson.dumps(header))
                changed = db.execute(_SET_HEADER, given)
            if changed.fetchone() is None:
                raise refusal(db, run_id, epoch)

        await self._main.call(work)

    async def find_run(self, run_id: str) -> RunRow | None:
        """See `Store.find_run`."""
        return self._found(await self._read(FIND_RUN, {"run": run_id}))

    async def delete_run(self, run_id: str, statuses: Collection[str]) -> Removal:
        """See `Store.delete_run`. The run is locked before the query for its children, because a transaction that makes a child locks the parent too."""

        def work(db: Connection) -> Removal:
            with db.transaction():
                found = rows(db, _TO_DELETE, (run_id,))
                if not found:
                    return Removal(None)
                ((status,),) = found
                children = tuple(child for (child,) in rows(db, _CHILDREN, (run_id, CHILDREN_TOLD)))
                if status not in statuses or children:
                    return Removal(status, children)
                sql = PostgresSql(db)
                texts = (text for each in NAMING for text in sql.texts(each, {"run": run_id}))
                named = sorted(named_in(find_value_in(sql), texts))
                stored = rows(db, _STORED, (named,))
                db.execute(_END_WRITES, (run_id,))
                for table in OF_ONE_RUN:
                    sql.change(f"DELETE FROM @{table} WHERE run_id=:run", {"run": run_id})
                sql.change(KEEP_USES, {"run": run_id, "status": status})
                # The row of the owner stays, because the owner may be claiming another run right now.
                sql.change("DELETE FROM @runs WHERE id=:run", {"run": run_id})
            return Removal(status, is_removed=True, named=frozenset(digest for (digest,) in stored))

        return await self._main.call(work)

    async def claim(
        self, run_id: str, owner: str, *, is_alive: Callable[[str, int | None], bool], by_force: bool = False
    ) -> RunRow | None:
        """See `Store.claim`. The rows of run and owner are locked while the question is asked: neither moves meanwhile."""

        def work(db: Connection) -> RunRow | None:
            with durably(db):
                found = self._found(rows(db, _LOCKED, (run_id,)))
                if found is None:
                    return None
                beats: dict[str, int] = dict(rows(db, _BEATS, (found.owner, owner)))
                if found.owner is not None and is_alive(found.owner, beats.get(found.owner)):
                    return None
                if found.owner != owner and not by_force:
                    db.execute("DELETE FROM firmplan_owners WHERE name=%s", (found.owner,))
                (beat,) = rows(db, _BEGIN_TO_BEAT, (owner,))[0]
                db.execute("UPDATE firmplan_runs SET owner=%s, epoch=epoch+1 WHERE id=%s", (owner, run_id))
                if by_force:
                    db.execute(FREE, ([found.owner],))
            taken_from = found.owner if found.owner != owner and not by_force else None
            return replace(found, owner=owner, epoch=found.epoch + 1, beat=beat, taken_from=taken_from)

        return await self._main.call(work)

    async def release(self, epochs: Mapping[str, int]) -> None:
        """See `Store.release`."""

        def work(db: Connection) -> None:
            with durably(db):
                db.execute(_RELEASE, (list(epochs), list(epochs.values())))

        await self._main.call(work)

    async def raise_beat(self, owner: str) -> bool:
        """See `Store.raise_beat`."""
        statement = "UPDATE firmplan_owners SET beat=beat+1 WHERE name=%s"
        return await self._main.call(lambda db: db.execute(statement, (owner,)).rowcount == 1)

    # --- journal

    def append(self, batches: Sequence[Batch]) -> Sequence[StoreError | None]:
        """See `Store.append`."""
        return self._main.call_here(lambda db: self._commit(db, batches))

    def _commit(self, db: Connection, batches: Sequence[Batch]) -> list[StoreError | None]:
        """Commit a group in one transaction, which the server is sent and answers as one."""
        with db.pipeline():
            db.execute("BEGIN")
            if any(batch.is_synced for batch in batches):
                db.execute(DURABLE)
            if len(writing := [batch for batch in batches if batch.opened or batch.closed]) > 1:
                lock_resources(db, writing)
            applied = [append(db, batch) if batch.lines else None for batch in batches]
            free_owners(db, batches)
            if (reuse := merged_reuse(batches)) is not None:
                add_reuse(db, reuse)
            db.execute("COMMIT")
        return [
            None
            if cursor is None or cursor.fetchone() is not None
            else refusal(db, batch.run_id, batch.epoch, batch.first_seq)
            for cursor, batch in zip(applied, batches, strict=True)
        ]

    # --- decisions

    async def add_decisions(
        self, run_id: str, decisions: Mapping[DecisionKey, bytes]
    ) -> Mapping[DecisionKey, bytes]:
        """See `Store.add_decisions`. The second writer of a key waits for the commit of the first, and then sees its row."""
        given = {
            "run": run_id,
            "steps": [key.step for key in decisions],
            "attempts": [key.attempt for key in decisions],
            "abouts": [key.about for key in decisions],
            "records": list(decisions.values()),
        }

        def work(db: Connection) -> dict[DecisionKey, bytes]:
            standing: dict[DecisionKey, bytes] = {}
            with db.transaction() as transaction:
                db.execute(DURABLE)
                added = {DecisionKey(*key) for key in rows(db, _DECIDE, given)}
                if len(added) < len(decisions):
                    found = {DecisionKey(*key): record for *key, record in rows(db, _STANDING, given)}
                    standing = {key: record for key, record in found.items() if key not in added}
                    raise psycopg.Rollback(transaction)
                db.execute(_LEAVE, given)
            return standing

        return await self._main.call(work)

    def list_decided(self) -> Sequence[str]:
        """See `Store.list_decided`."""
        statement = "SELECT DISTINCT run_id FROM firmplan_decisions"
        return [run_id for (run_id,) in self._main.call_here(lambda db: rows(db, statement))]

    # --- journals and values

    async def add_value(self, name: str, data: bytes, at: float) -> None:
        """See `Store.add_value`."""

        def work(db: Connection) -> None:
            with durably(db):
                db.execute(
                    "INSERT INTO firmplan_stored_values VALUES (%s,%s) ON CONFLICT DO NOTHING", (name, data)
                )
                db.execute(_SAVE_VALUE, (name, float(at)))

        await self._main.call(work)

    # --- plans

    # --- the reuse index

    async def find_reusable(self, keys: Sequence[str]) -> Mapping[str, Reusable]:
        """See `Store.find_reusable`."""
        return {row[0]: Reusable.from_row(row) for row in await self._look(_FIND_RESULTS, (list(keys),))}

    async def find_earlier_calls(
        self, subject: str, until: Mapping[str, float], *, limit: int
    ) -> Mapping[str, Sequence[CallRecord]]:
        """See `Store.find_earlier_calls`."""
        steps = list(until)
        given = {
            "subject": subject,
            "last": max(until.values(), default=0.0),
            "count": len(until) + limit,
            "steps": steps,
            "until": [float(at) for at in until.values()],
            "limit": limit,
        }
        made: dict[str, list[CallRecord]] = {step: [] for step in steps}
        for number, _far, *record in await self._look(_EARLIER, given):
            made[steps[number - 1]].append(CallRecord(*record))
        return made

    async def epochs(self, resources: Sequence[str]) -> Epochs:
        """See `Store.epochs`. The writes on all resources are those of each, added up."""
        found = await self._look(_EPOCHS, {"names": list(resources)})
        count = {name: epoch for name, epoch, _ in found}
        return Epochs(
            {name: count.get(name, 0) for name in resources},
            frozenset(name for name, _, is_open in found if is_open),
        )

    # --- removal of values

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
            sql = PostgresSql(db)
            try:
                unused = find_unused(sql, saved_before, among)
                for _ in range(TRIES - 1):
                    try:
                        return remove_unused(sql, unused)
                    except psycopg.errors.DeadlockDetected:
                        continue
                return remove_unused(sql, unused)
            except psycopg.Error as fault:
                raise postgres_error(self._url, fault) from fault


class PostgresSql:
    """A connection to a server, in the notation of `sql_store`."""

    def __init__(self, db: Connection) -> None:
        self._db = db

    def rows(self, statement: str, values: Values = NO_VALUES) -> list[Row]:
        """See `Sql.rows`."""
        return rows(self._db, _dialect(statement), values)

    def change(self, statement: str, values: Values = NO_VALUES) -> int:
        """See `Sql.change`."""
        return self._db.execute(_dialect(statement), values).rowcount

    def texts(self, statement: str, values: Values = NO_VALUES) -> Iterator[bytes]:
        """See `Sql.texts`."""
        # A named cursor is one on the server: without it, all rows of a query would be in memory at once.
        with self._db.cursor("texts", binary=True) as cursor:
            cursor.itersize = READ_ROWS
            for (text,) in cursor.execute(_dialect(statement), values):
                yield text.encode() if isinstance(text, str) else text

    @contextmanager
    def snapshot(self) -> Generator[None]:
        """See `Sql.snapshot`."""
        self._db.execute(SNAPSHOT)
        yield
        self._db.execute("COMMIT")

    @contextmanager
    def removal(self) -> Generator[None]:
        """See `Sql.removal`."""
        with self._db.transaction():
            self._db.execute(_LOCK_WRITERS)
            yield


def _dialect(statement: str) -> bytes:
    return translated(statement, "firmplan_", r"%(\1)s", r"= ANY(%(\1)s)").encode()
