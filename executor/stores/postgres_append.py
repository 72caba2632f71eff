"""One append to a journal in PostgreSQL, as one statement: fenced by epoch and number of records, and nothing of it if it is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ...errors import StoreError
from .postgres_link import Connection, Cursor, rows
from .store import Batch, fenced

_MOVED: Final = """
    moved AS (
        UPDATE firmplan_runs SET status=%(status)s, digest=%(digest)s, updated=%(updated)s, head=%(head)s, last_seq=%(last)s,
            owner = CASE WHEN %(ends)s::boolean THEN NULL ELSE owner END
        WHERE id=%(run)s AND epoch=%(epoch)s AND last_seq=%(before)s RETURNING id
    )"""
_NOTED: Final = "INSERT INTO firmplan_journal SELECT id, %(first)s, %(lines)s, %(head)s FROM moved"
_PLAIN: Final = f"WITH {_MOVED} {_NOTED} RETURNING 1"
# All parts see the store as it was before. So a write that ends and begins again in one batch is told apart from one that only
# ends: it stays open. Epochs are raised in the order of names, so that two processes wait for each other in no ring.
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
# Before the append itself, which it foretells: the row is locked, so what held here holds there. In the order of digests: see above.
_KEEP: Final = """
    WITH mine AS (SELECT 1 FROM firmplan_runs WHERE id=%(run)s AND epoch=%(epoch)s AND last_seq=%(before)s FOR UPDATE)
    INSERT INTO firmplan_stored_values
    SELECT v.digest, v.data FROM mine, unnest(%(digests)b::text[], %(values)b::bytea[]) AS v(digest, data) ORDER BY v.digest
    ON CONFLICT DO NOTHING
"""
# In the order of names, before the appends of a group, which come in another one: two processes would wait for each other in a ring.
_LOCK: Final = """
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
    db.execute(_LOCK, given)


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
