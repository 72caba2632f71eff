"""The store in a PostgreSQL database, for engines on several machines.

Rules it keeps: an append is one statement that changes the run's row only where epoch and number of records are the expected ones,
and inserts only if it did; a group of appends is one transaction, sent in one go and answered in one. A group that holds a write's intent
or outcome waits for the server's disk; others are committed without (`synchronous_commit = off`), so that a server that crashes loses up to
three times its `wal_writer_delay` of them, 0.6 seconds, and never one that a durable one follows: if a transaction sees what another one has
committed, its own commit stands later in the write-ahead log, and the log is flushed in order, whichever connection asks for it.
Source: PostgreSQL, src/backend/access/transam/README, "Asynchronous Commit".

Whoever drives a run may outlive the server's memory of it: an owner's claim is durable before it counts, so that no epoch is given
out twice, and after a crash of the server an append that follows a lost one is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final, cast

import orjson
import psycopg

from ...errors import StoreError
from .postgres_append import FREE, append, free_owners, lock_resources, refusal
from .postgres_cache import PostgresCache, add_left
from .postgres_link import DURABLE, Connection, durably, rows
from .postgres_prune import PostgresPrune, value_finder
from .postgres_uses import PostgresUses
from .sieve import named_in
from .store import (
    CHILDREN_TOLD,
    PLAN_COLUMNS,
    SEQ_MAX,
    Batch,
    DecisionKey,
    Removal,
    RunRow,
    StoredPlan,
    digest_of_plan,
    left_by,
)

_ROW_COLUMNS: Final = (
    "id, status, task, plan_digest, parent, created, updated, digest, epoch, owner, head, last_seq"
)
_ROW: Final = f"{_ROW_COLUMNS}, (SELECT beat FROM firmplan_owners WHERE name=owner)"
_FIND: Final = f"SELECT {_ROW}, header FROM firmplan_runs JOIN firmplan_headers ON run_id=id WHERE id=%s"
_LIST: Final = f"""
    SELECT {_ROW} FROM firmplan_runs
    WHERE (%(status)s::text IS NULL OR status=%(status)s)
        AND (%(created)s::float8 IS NULL OR (created, id) < (%(created)s, %(id)s::text))
    ORDER BY created DESC, id DESC LIMIT %(limit)s
"""
_DRIVEN: Final = f"SELECT {_ROW} FROM firmplan_runs WHERE owner IS NOT NULL AND status IN ('queued', 'running') ORDER BY id"
_CREATE: Final = f"""
    WITH made AS (
        INSERT INTO firmplan_runs ({_ROW_COLUMNS}) VALUES (%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s)
        ON CONFLICT DO NOTHING RETURNING id
    ) INSERT INTO firmplan_headers SELECT id, %s FROM made RETURNING 1
"""
_SET_HEADER: Final = """
    WITH planned AS (UPDATE firmplan_runs SET plan_digest=%s, status=%s, updated=%s WHERE id=%s AND epoch=%s RETURNING id)
    UPDATE firmplan_headers SET header=%s FROM planned WHERE run_id=id RETURNING 1
"""
_LOCKED: Final = f"""
    SELECT {_ROW_COLUMNS}, NULL, header FROM firmplan_runs JOIN firmplan_headers ON run_id=id WHERE id=%s FOR UPDATE OF firmplan_runs
"""
# Start from a random number: an observer that watched the same owner before sees a new beat, also after each claim.
_BEGIN_TO_BEAT: Final = """
    INSERT INTO firmplan_owners VALUES (%s, floor(random() * 2147483647)::bigint)
    ON CONFLICT (name) DO UPDATE SET beat=firmplan_owners.beat+1 RETURNING beat
"""
_BEATS: Final = "SELECT name, beat FROM firmplan_owners WHERE name IN (%s, %s) ORDER BY name FOR UPDATE"
# An owner is let go of together with its last run. Nobody else's is looked at: it may be claiming its first one right now.
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
_NAMING: Final = (
    "SELECT header FROM firmplan_headers WHERE run_id=%s",
    "SELECT lines FROM firmplan_journal WHERE run_id=%s",
    "SELECT record FROM firmplan_decisions WHERE run_id=%s",
    "SELECT record FROM firmplan_decided_attempts WHERE run_id=%s",
)
_STORED: Final = "SELECT digest FROM firmplan_stored_values WHERE digest = ANY(%s::text[])"
# Uses of a saved plan keep counting after the run is deleted. Rows of `reusable` need no run, and stay. The row of an owner stays too,
# because the owner may be claiming another run right now.
_DELETING: Final = (
    """
    WITH ended AS (DELETE FROM firmplan_open_writes WHERE run_id=%(run)s RETURNING resource)
    INSERT INTO firmplan_resources SELECT resource, count(*) FROM ended GROUP BY resource ORDER BY resource
    ON CONFLICT (name) DO UPDATE SET epoch=firmplan_resources.epoch+excluded.epoch
    """,
    "DELETE FROM firmplan_headers WHERE run_id=%(run)s",
    "DELETE FROM firmplan_journal WHERE run_id=%(run)s",
    "DELETE FROM firmplan_decisions WHERE run_id=%(run)s",
    "DELETE FROM firmplan_decided_attempts WHERE run_id=%(run)s",
    "DELETE FROM firmplan_calls WHERE run_id=%(run)s",
    """
    UPDATE firmplan_plan_uses SET run_id=NULL, outcome=CASE
        WHEN outcome='answered' AND %(status)s IN ('failed', 'cancelled') THEN 'run' ELSE outcome END
    WHERE run_id=%(run)s
    """,
    "DELETE FROM firmplan_runs WHERE id=%(run)s",
)
_JOURNAL: Final = """
    SELECT first_seq, lines FROM firmplan_journal WHERE run_id=%(run)s AND first_seq>=coalesce(
        (SELECT max(first_seq) FROM firmplan_journal WHERE run_id=%(run)s AND first_seq<=%(next)s), 0)
        AND first_seq<=%(last)s ORDER BY first_seq
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
_DROP: Final = """
    WITH dropped AS (DELETE FROM firmplan_decisions WHERE number = ANY(%s::bigint[]) RETURNING run_id, record)
    DELETE FROM firmplan_decided_attempts d USING dropped WHERE d.run_id=dropped.run_id AND d.record=dropped.record
"""
_FIND_PLAN: Final = f"""
    SELECT {PLAN_COLUMNS} FROM firmplan_plans WHERE name=%(wanted)s OR digest=%(wanted)s ORDER BY name=%(wanted)s DESC, name LIMIT 1
"""
_SAVE_PLAN: Final = f"""
    INSERT INTO firmplan_plans ({PLAN_COLUMNS}) VALUES (%s,%s,%s,%s,%s) ON CONFLICT (name) DO UPDATE
    SET (plan, digest, saved, row_digest) = (excluded.plan, excluded.digest, excluded.saved, excluded.row_digest)
"""
_SAVE_VALUE: Final = """
    INSERT INTO firmplan_saved_values VALUES (%s,%s) ON CONFLICT (digest) DO UPDATE SET saved=excluded.saved
"""
# The headers that were last read: a run is looked up several times while it is driven.
HEADERS_KEPT: Final = 4


class PostgresStore(PostgresCache, PostgresUses, PostgresPrune):
    """A store in the database at `url`, whose tables are made if they are not there."""

    is_shared: Final = True

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
        return _found(await self._look(_FIND, (run_id,)))

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
                texts = [text for statement in _NAMING for (text,) in rows(db, statement, (run_id,))]
                named = sorted(named_in(value_finder(db), texts))
                stored = rows(db, _STORED, (named,))
                for statement in _DELETING:
                    db.execute(statement, {"run": run_id, "status": status})
            return Removal(status, is_removed=True, named=frozenset(digest for (digest,) in stored))

        return await self._main.call(work)

    async def list_runs(
        self, *, status: str | None, limit: int, before: tuple[float, str] | None
    ) -> Sequence[RunRow]:
        """See `Store.list_runs`."""
        created, run_id = (None, None) if before is None else before
        given = {"status": status, "created": created, "id": run_id, "limit": limit}
        return [_row(found, {}) for found in await self._look(_LIST, given)]

    async def list_driven(self) -> Sequence[RunRow]:
        """See `Store.list_driven`."""
        return [_row(found, {}) for found in await self._look(_DRIVEN)]

    async def claim(
        self, run_id: str, owner: str, *, is_alive: Callable[[str, int | None], bool], by_force: bool = False
    ) -> RunRow | None:
        """See `Store.claim`. The rows of run and owner are locked while the question is asked: neither moves meanwhile."""

        def work(db: Connection) -> RunRow | None:
            with durably(db):
                found = _found(rows(db, _LOCKED, (run_id,)))
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

    async def list_owned(self, owner: str) -> Mapping[str, int]:
        """See `Store.list_owned`."""
        return dict(await self._look("SELECT id, epoch FROM firmplan_runs WHERE owner=%s", (owner,)))

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
            if (left := left_by(batches)) is not None:
                add_left(db, left)
            db.execute("COMMIT")
        return [
            None
            if cursor is None or cursor.fetchone() is not None
            else refusal(db, batch.run_id, batch.epoch, batch.first_seq)
            for cursor, batch in zip(applied, batches, strict=True)
        ]

    # --- decisions

    async def add_decision(self, run_id: str, decision: bytes) -> None:
        """See `Store.add_decision`."""

        def work(db: Connection) -> None:
            with durably(db):
                db.execute(
                    "INSERT INTO firmplan_decisions (run_id, record) VALUES (%s,%s)", (run_id, decision)
                )

        await self._main.call(work)

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

    async def list_decisions(self, run_id: str) -> Sequence[tuple[int, bytes]]:
        """See `Store.list_decisions`."""
        statement = "SELECT number, record FROM firmplan_decisions WHERE run_id=%s ORDER BY number"
        return [(number, record) for number, record in await self._look(statement, (run_id,))]

    def list_decided(self) -> Sequence[str]:
        """See `Store.list_decided`."""
        statement = "SELECT DISTINCT run_id FROM firmplan_decisions"
        return [run_id for (run_id,) in self._main.call_here(lambda db: rows(db, statement))]

    async def drop_decisions(self, numbers: Sequence[int]) -> None:
        """See `Store.drop_decisions`."""
        await self._main.call(lambda db: db.execute(_DROP, (list(numbers),)) and None)

    # --- journals and values

    async def read_journal(self, run_id: str, after: int = 0, *, limit: int | None = None) -> Sequence[bytes]:
        """See `Store.read_journal`."""
        lines: list[bytes] = []
        last = SEQ_MAX if limit is None else min(after + limit, SEQ_MAX)
        for first_seq, joined in await self._look(_JOURNAL, {"run": run_id, "next": after + 1, "last": last}):
            lines += joined.split(b"\n")[max(0, after + 1 - first_seq) :]
        return lines if limit is None else lines[:limit]

    async def read_heads(self, run_id: str) -> Sequence[tuple[int, bytes]]:
        """See `Store.read_heads`."""
        statement = "SELECT first_seq, head FROM firmplan_journal WHERE run_id=%s ORDER BY first_seq"
        return [(first_seq, head) for first_seq, head in await self._look(statement, (run_id,))]

    async def find_values(self, digests: Sequence[str]) -> Mapping[str, bytes]:
        """See `Store.find_values`."""
        statement = "SELECT digest, data FROM firmplan_stored_values WHERE digest = ANY(%s::text[])"
        return dict(await self._look(statement, (list(digests),)))

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

    async def save_plan(self, name: str, plan: str, digest: str, at: float) -> None:
        """See `Store.save_plan`."""

        def work(db: Connection) -> None:
            with durably(db):
                db.execute(
                    _SAVE_PLAN, (name, plan, digest, float(at), digest_of_plan(name, plan, digest, at))
                )

        await self._main.call(work)

    async def list_plans(self) -> Sequence[StoredPlan]:
        """See `Store.list_plans`."""
        found = await self._look(f"SELECT {PLAN_COLUMNS} FROM firmplan_plans ORDER BY name")
        return [StoredPlan.from_row(row) for row in found]

    async def find_plan(self, name_or_digest: str) -> StoredPlan | None:
        """See `Store.find_plan`."""
        found = await self._look(_FIND_PLAN, {"wanted": name_or_digest})
        return StoredPlan.from_row(found[0]) if found else None


def _found(found: Sequence[Sequence[Any]]) -> RunRow | None:
    return _row(found[0][:-1], _read_header(found[0][-1])) if found else None


def _row(found: Sequence[Any], header: Mapping[str, Any]) -> RunRow:
    values: list[Any] = [*found[:8], header, *found[8:]]
    if values[2] is not None:
        values[2] = orjson.loads(values[2])
    return RunRow(*values)


@lru_cache(HEADERS_KEPT)
def _read_header(text: bytes) -> Mapping[str, Any]:
    """Return a header, which nobody changes."""
    return cast("Mapping[str, Any]", orjson.loads(text))
