"""What the store in PostgreSQL keeps of calls: results that may stand for later ones, what calls were made from, writes on resources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import orjson

from .postgres_link import Connection, Query
from .postgres_server import PostgresServer
from .store import EVERYTHING, RESULT_COLUMNS, CacheStats, CallRecord, Epochs, Leavings, Reusable

_FIND: Final = f"SELECT {RESULT_COLUMNS} FROM firmplan_reusable WHERE key = ANY(%s::text[])"
_ADD: Final = f"""
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
_CALLS: Final = "SELECT run_id, step, subject, started, key, parts, code, lost FROM firmplan_calls"
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
_SIZE: Final = "octet_length(output) + octet_length(key) + octet_length(epochs) + octet_length(env)"
_STATS: Final = f"""
    SELECT count(*), coalesce(sum({_SIZE}), 0)::bigint, (SELECT count(*) FROM firmplan_calls), min(created), max(created)
    FROM firmplan_reusable
"""
_SHRINK: Final = f"""
    DELETE FROM firmplan_reusable WHERE key IN (
        SELECT key FROM (
            SELECT key, sum({_SIZE}) OVER (ORDER BY created DESC, key) AS size FROM firmplan_reusable
        ) AS sized WHERE size > %s)
"""
# Both in one look: between two of them a write might begin and end.
_EPOCHS: Final = f"""
    SELECT name, epoch, EXISTS (SELECT 1 FROM firmplan_open_writes WHERE resource=name)
    FROM firmplan_resources WHERE name = ANY(%(names)s::text[])
    UNION ALL
    SELECT '{EVERYTHING}', coalesce(sum(epoch), 0)::bigint, EXISTS (SELECT 1 FROM firmplan_open_writes)
    FROM firmplan_resources HAVING '{EVERYTHING}' = ANY(%(names)s::text[])
"""


def add_left(db: Connection, left: Leavings) -> None:
    """Add what calls leave, inside a transaction. In the order of keys: two processes that add the same ones wait for each other, not in a ring."""
    named = sorted(left.codes)
    additions: tuple[tuple[Query, tuple[Sequence[object], ...]], ...] = (
        (_ADD, _columns_of_results(left.results)),
        (_ADD_CODES, (named, [orjson.dumps(left.codes[digest]) for digest in named])),
        (_ADD_CALLS, _columns_of_calls(left.calls)),
    )
    for statement, columns in additions:
        if columns[0]:
            db.execute(statement, columns)


class PostgresCache(PostgresServer):
    """The reuse index, and the order of writes on resources."""

    # --- results

    async def find_reusable(self, keys: Sequence[str]) -> Mapping[str, Reusable]:
        """See `Store.find_reusable`."""
        return {row[0]: Reusable.from_row(row) for row in await self._look(_FIND, (list(keys),))}

    # --- calls

    async def find_calls(self, run_id: str, steps: Sequence[str]) -> Mapping[str, CallRecord]:
        """See `Store.find_calls`."""
        found = await self._look(
            f"{_CALLS} WHERE run_id=%s AND step = ANY(%s::text[])", (run_id, list(steps))
        )
        records = {row[1]: CallRecord(*row) for row in found}
        return {step: records[step] for step in steps if step in records}

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

    async def find_codes(self, digests: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        """See `Store.find_codes`."""
        statement = "SELECT digest, parts FROM firmplan_codes WHERE digest = ANY(%s::text[])"
        return {
            digest: orjson.loads(parts) for digest, parts in await self._look(statement, (list(digests),))
        }

    async def cache_stats(self) -> CacheStats:
        """See `Store.cache_stats`."""
        ((results, size, calls, oldest, newest),) = await self._look(_STATS)
        return CacheStats(results, size, calls, oldest, newest)

    async def shrink_cache(self, *, before: float | None, bytes_max: int | None) -> int:
        """See `Store.shrink_cache`."""

        def work(db: Connection) -> int:
            gone = 0
            with db.transaction():
                if before is not None:
                    gone += db.execute("DELETE FROM firmplan_reusable WHERE created < %s", (before,)).rowcount
                    db.execute("DELETE FROM firmplan_calls WHERE started < %s", (before,))
                    db.execute(
                        "DELETE FROM firmplan_codes WHERE digest NOT IN (SELECT code FROM firmplan_calls)"
                    )
                if bytes_max is not None:
                    gone += db.execute(_SHRINK, (bytes_max,)).rowcount
            return gone

        return await self._side.call(work)

    async def epochs(self, resources: Sequence[str]) -> Epochs:
        """See `Store.epochs`. The writes on all resources are those of each, added up."""
        found = await self._look(_EPOCHS, {"names": list(resources)})
        count = {name: epoch for name, epoch, _ in found}
        return Epochs(
            {name: count.get(name, 0) for name in resources},
            frozenset(name for name, _, is_open in found if is_open),
        )


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
