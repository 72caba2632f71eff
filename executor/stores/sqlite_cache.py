"""What the store in SQLite keeps of calls: results that may stand for later ones, what calls were made from, writes on resources."""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from ...plans.values import digest as digest_of
from .known_keys import KnownKeys
from .sqlite_file import LARGE_BYTES, SqliteFile, selected
from .store import (
    EVERYTHING,
    RESULT_COLUMNS,
    CacheStats,
    CallRecord,
    Epochs,
    Leavings,
    Reusable,
    damaged_results,
)

_CALL_COLUMNS: Final = "run_id, step, subject, started, key, parts, code, lost"
_ADD_RESULT: Final = "INSERT OR REPLACE INTO reusable (key, run_id, step, created, epochs, env, row_digest, output) VALUES (?,?,?,?,?,?,?,?)"
_RESULT_BYTES: Final = "length(output) + length(key) + length(epochs) + length(env)"


class SqliteCache(SqliteFile):
    """The reuse index, and the order of writes on resources."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._known = KnownKeys()

    async def close(self) -> None:
        """Close the file; idempotent."""
        await super().close()
        self._known = KnownKeys()

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

    # --- results

    async def find_reusable(self, keys: Sequence[str]) -> Mapping[str, Reusable]:
        """See `Store.find_reusable`."""

        def work(db: sqlite3.Connection) -> dict[str, Reusable]:
            found = selected(db, RESULT_COLUMNS, "reusable", "key", wanted)
            return {row[0]: Reusable.from_row(row) for row in found}

        wanted = self._known.among(keys)
        return await self._look(work) if wanted else {}

    def _add_left(self, left: Leavings) -> None:
        """Add what calls leave, inside a transaction. Calls are sorted when someone asks: few are ever asked about."""
        rows = [_output_last(entry.to_row()) for entry in left.results if len(entry.output) < LARGE_BYTES]
        large = [_output_last(entry.to_row()) for entry in left.results if len(entry.output) >= LARGE_BYTES]
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
            for call in left.calls
        ]
        self._known.add(entry.key for entry in left.results)
        self._open_db().executemany(_ADD_RESULT, rows)
        for *row, output in large:
            self._put(_ADD_RESULT, row, output, "reusable", "output")
        for digest, parts in left.codes.items():
            self._sql("INSERT OR IGNORE INTO codes VALUES (?,?)", (digest, orjson.dumps(parts)))
        if made_from:
            self._sql("INSERT INTO unsorted_calls (calls) VALUES (?)", (orjson.dumps(made_from),))

    # --- calls

    def _sort_calls(self) -> None:
        """Bring what runs have left into the order in which it is asked for."""
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
                f"INSERT OR REPLACE INTO calls ({_CALL_COLUMNS}) VALUES (?,?,?,?,?,?,?,?)", rows
            )
        self._sql("COMMIT")

    async def find_calls(self, run_id: str, steps: Sequence[str]) -> Mapping[str, CallRecord]:
        """See `Store.find_calls`."""
        statement = f"SELECT {_CALL_COLUMNS} FROM calls WHERE run_id=? AND step=?"

        def work() -> list[CallRecord]:
            self._sort_calls()
            found = [self._sql(statement, (run_id, step)).fetchone() for step in steps]
            return [CallRecord(*each) for each in found if each]

        return {each.step: each for each in await self._call(work)}

    async def find_earlier_calls(
        self, subject: str, until: Mapping[str, float], *, limit: int
    ) -> Mapping[str, Sequence[CallRecord]]:
        """See `Store.find_earlier_calls`."""
        select = f"SELECT {_CALL_COLUMNS} FROM calls WHERE subject=? AND started<=?"
        order = "ORDER BY started DESC, run_id, step LIMIT ?"

        def work() -> dict[str, Sequence[CallRecord]]:
            self._sort_calls()
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

    async def find_codes(self, digests: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        """See `Store.find_codes`."""
        found = await self._call(lambda: self._select("digest, parts", "codes", "digest", digests))
        return {digest: orjson.loads(parts) for digest, parts in found}

    async def cache_stats(self) -> CacheStats:
        """See `Store.cache_stats`."""

        def work() -> CacheStats:
            self._sort_calls()
            results, size, oldest, newest = self._sql(
                f"SELECT count(*), coalesce(sum({_RESULT_BYTES}), 0), min(created), max(created) FROM reusable"
            ).fetchone()
            (calls,) = self._sql("SELECT count(*) FROM calls").fetchone()
            return CacheStats(results, size, calls, oldest, newest)

        return await self._call(work)

    async def shrink_cache(self, *, before: float | None, bytes_max: int | None) -> int:
        """See `Store.shrink_cache`."""

        def work() -> int:
            self._sort_calls()
            self._sql("BEGIN IMMEDIATE")
            self._known.forget()
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


def _output_last(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a row of the table `reusable` with the output, which may be large, in the last column."""
    return (*row[:3], *row[4:], row[3])
