"""The part of a store that SQLite and PostgreSQL have in common: statements that both understand, and the rows that they give.

A statement is written once. `@runs` stands for a table of the store (`runs` in a file, `firmplan_runs` on a server), `:name` for a value,
and `IN [:names]` for membership in a list. Each store translates these three (`Sql`), and carries statements out on its own connections.

A method belongs here if one statement is good for both databases. It belongs to a store if the fast way differs: appends, claims, large
values, the reuse index of a file that one process holds, transactions of several statements that a server is sent in one go.
Rejected: a query builder such as SQLAlchemy Core, which would be one more dependency for some thirty statements, and an import of 100 ms.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any, Final, Protocol, TypeVar, cast

import orjson

from .store import (
    PLAN_COLUMNS,
    SEQ_MAX,
    CacheStats,
    CallRecord,
    RunRow,
    StoredPlan,
    digest_of_plan,
)

T = TypeVar("T")
Row = tuple[Any, ...]
Values = Mapping[str, object]
NO_VALUES: Final[Values] = {}

ROW_COLUMNS: Final = (
    "id, status, task, plan_digest, parent, created, updated, digest, epoch, owner, head, last_seq"
)
ROW: Final = f"{ROW_COLUMNS}, (SELECT beat FROM @owners WHERE name=owner)"
FIND_RUN: Final = f"SELECT {ROW}, header FROM @runs JOIN @headers ON run_id=id WHERE id=:run"
CALL_COLUMNS: Final = "run_id, step, subject, started, key, parts, code, lost"
# The texts of a run in which digests of stored values stand.
NAMING: Final = (
    "SELECT header FROM @headers WHERE run_id=:run",
    "SELECT lines FROM @journal WHERE run_id=:run",
    "SELECT record FROM @decisions WHERE run_id=:run",
    "SELECT record FROM @decided_attempts WHERE run_id=:run",
)
# Tables whose rows belong to one run and go with it. Rows of `reusable` need no run, and stay.
OF_ONE_RUN: Final = ("headers", "journal", "decisions", "decided_attempts", "calls")
# The uses of a saved plan are counted after the run is deleted, too: they keep the outcome that the run had.
KEEP_USES: Final = """
    UPDATE @plan_uses SET run_id=NULL, outcome=CASE
        WHEN outcome='answered' AND :status IN ('failed', 'cancelled') THEN 'run' ELSE outcome END
    WHERE run_id=:run
"""
# A row of `journal` holds the lines of one flush. The first row may begin before the wanted line.
_JOURNAL: Final = """
    SELECT first_seq, lines FROM @journal WHERE run_id=:run AND first_seq>=coalesce(
        (SELECT max(first_seq) FROM @journal WHERE run_id=:run AND first_seq<=:next), 0)
        AND first_seq<=:last ORDER BY first_seq
"""
_FIND_PLAN: Final = f"""
    SELECT {PLAN_COLUMNS} FROM @plans WHERE name=:wanted OR digest=:wanted ORDER BY name=:wanted DESC, name LIMIT 1
"""
_SAVE_PLAN: Final = f"""
    INSERT INTO @plans ({PLAN_COLUMNS}) VALUES (:name, :plan, :digest, :at, :row_digest) ON CONFLICT (name) DO UPDATE
    SET plan=excluded.plan, digest=excluded.digest, saved=excluded.saved, row_digest=excluded.row_digest
"""
_NOTE_USE: Final = "INSERT INTO @plan_uses (name, digest, outcome, run_id, noted) VALUES (:name, :digest, :outcome, :run, :at)"
_COUNT_USES: Final = """
    SELECT uses.name, uses.digest,
        CASE WHEN uses.outcome = 'answered' AND runs.status IN ('failed', 'cancelled') THEN 'run' ELSE uses.outcome END AS became,
        count(*)
    FROM @plan_uses AS uses LEFT JOIN @runs AS runs ON runs.id = uses.run_id
    GROUP BY uses.name, uses.digest, became ORDER BY uses.name, uses.digest, became
"""
_SIZE: Final = "length(output) + length(key) + length(epochs) + length(env)"
_STATS: Final = f"""
    SELECT count(*), CAST(coalesce(sum({_SIZE}), 0) AS bigint), (SELECT count(*) FROM @calls), min(created), max(created)
    FROM @reusable
"""
_SHRINK: Final = f"""
    DELETE FROM @reusable WHERE key IN (
        SELECT key FROM (
            SELECT key, sum({_SIZE}) OVER (ORDER BY created DESC, key) AS size FROM @reusable
        ) AS sized WHERE size > :bytes_max)
"""
# The headers that were last read: a run is looked up several times while it is driven.
HEADERS_KEPT: Final = 4


class Sql(Protocol):
    """A connection to a store, in the notation of this module."""

    def rows(self, statement: str, values: Values = NO_VALUES) -> list[Row]:
        """Return all rows of an answer."""
        ...

    def change(self, statement: str, values: Values = NO_VALUES) -> int:
        """Carry a statement out, and return the number of rows that it changed."""
        ...

    def texts(self, statement: str, values: Values = NO_VALUES) -> Iterator[bytes]:
        """Yield the texts of one column as bytes, a bounded number in memory."""
        ...

    def snapshot(self) -> AbstractContextManager[object]:
        """Read the store as it is at one moment, without blocking writers."""
        ...

    def removal(self) -> AbstractContextManager[object]:
        """Remove stored values in one transaction, while nobody else writes a text that may name one."""
        ...


class SqlStore(ABC):
    """The methods of `Store` that are equal in both dialects."""

    @abstractmethod
    async def _read(self, statement: str, values: Values = NO_VALUES, *, is_short: bool = False) -> list[Row]:
        """Return the rows of a query; `is_short`: it finds a few rows by an index, so that the event loop may wait for it."""

    @abstractmethod
    async def _write(self, work: Callable[[Sql], T], *, is_durable: bool = False) -> T:
        """Do some work in one transaction; `is_durable`: it survives a power loss once this returns."""

    def _row(self, found: Sequence[Any], header: Mapping[str, Any]) -> RunRow:
        """Return a run's row from the columns of `ROW`."""
        values: list[Any] = [*found[:8], header, *found[8:]]
        return RunRow(*values)

    # --- runs

    async def list_runs(
        self, *, status: str | None, limit: int, before: tuple[float, str] | None
    ) -> Sequence[RunRow]:
        """See `Store.list_runs`."""
        # One statement with `:status IS NULL OR ..` would be shorter, but SQLite would then scan the index instead of seeking in it.
        conditions, values = ["1=1"], dict[str, object](limit=limit)
        if status is not None:
            conditions.append("status=:status")
            values["status"] = status
        if before is not None:
            conditions.append("(created, id) < (:created, :id)")
            values["created"], values["id"] = before
        statement = f"SELECT {ROW} FROM @runs WHERE {' AND '.join(conditions)} ORDER BY created DESC, id DESC LIMIT :limit"
        return [self._row(found, {}) for found in await self._read(statement, values)]

    async def list_driven(self) -> Sequence[RunRow]:
        """See `Store.list_driven`."""
        statement = (
            f"SELECT {ROW} FROM @runs WHERE owner IS NOT NULL AND status IN ('queued', 'running') ORDER BY id"
        )
        return [self._row(found, {}) for found in await self._read(statement)]

    async def list_owned(self, owner: str) -> Mapping[str, int]:
        """See `Store.list_owned`."""
        return dict(await self._read("SELECT id, epoch FROM @runs WHERE owner=:owner", {"owner": owner}))

    # --- decisions

    async def add_decision(self, run_id: str, decision: bytes) -> None:
        """See `Store.add_decision`."""
        statement = "INSERT INTO @decisions (run_id, record) VALUES (:run, :record)"
        values = {"run": run_id, "record": decision}
        await self._write(lambda sql: sql.change(statement, values), is_durable=True)

    async def list_decisions(self, run_id: str) -> Sequence[tuple[int, bytes]]:
        """See `Store.list_decisions`."""
        statement = "SELECT number, record FROM @decisions WHERE run_id=:run ORDER BY number"
        return [
            (number, record) for number, record in await self._read(statement, {"run": run_id}, is_short=True)
        ]

    async def drop_decisions(self, numbers: Sequence[int]) -> None:
        """See `Store.drop_decisions`."""
        dropped = "SELECT run_id, record FROM @decisions WHERE number IN [:numbers]"
        values = {"numbers": list(numbers)}

        def work(sql: Sql) -> None:
            sql.change(f"DELETE FROM @decided_attempts WHERE (run_id, record) IN ({dropped})", values)
            sql.change("DELETE FROM @decisions WHERE number IN [:numbers]", values)

        await self._write(work)

    # --- journals and values

    async def read_journal(self, run_id: str, after: int = 0, *, limit: int | None = None) -> Sequence[bytes]:
        """See `Store.read_journal`."""
        last = SEQ_MAX if limit is None else min(after + limit, SEQ_MAX)
        lines: list[bytes] = []
        for first_seq, joined in await self._read(_JOURNAL, {"run": run_id, "next": after + 1, "last": last}):
            lines += joined.split(b"\n")[max(0, after + 1 - first_seq) :]
        return lines if limit is None else lines[:limit]

    async def read_heads(self, run_id: str) -> Sequence[tuple[int, bytes]]:
        """See `Store.read_heads`."""
        statement = "SELECT first_seq, head FROM @journal WHERE run_id=:run ORDER BY first_seq"
        return [(first_seq, head) for first_seq, head in await self._read(statement, {"run": run_id})]

    async def find_values(self, digests: Sequence[str]) -> Mapping[str, bytes]:
        """See `Store.find_values`."""
        statement = "SELECT digest, data FROM @stored_values WHERE digest IN [:digests]"
        return dict(await self._read(statement, {"digests": list(digests)}))

    # --- calls

    async def find_calls(self, run_id: str, steps: Sequence[str]) -> Mapping[str, CallRecord]:
        """See `Store.find_calls`."""
        statement = f"SELECT {CALL_COLUMNS} FROM @calls WHERE run_id=:run AND step IN [:steps]"
        found = await self._read(statement, {"run": run_id, "steps": list(steps)})
        records = {row[1]: CallRecord(*row) for row in found}
        return {step: records[step] for step in steps if step in records}

    async def find_codes(self, digests: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        """See `Store.find_codes`."""
        statement = "SELECT digest, parts FROM @codes WHERE digest IN [:digests]"
        found = await self._read(statement, {"digests": list(digests)})
        return {digest: orjson.loads(parts) for digest, parts in found}

    async def cache_stats(self) -> CacheStats:
        """See `Store.cache_stats`."""
        ((results, size, calls, oldest, newest),) = await self._read(_STATS)
        return CacheStats(results, size, calls, oldest, newest)

    async def shrink_cache(self, *, before: float | None, bytes_max: int | None) -> int:
        """See `Store.shrink_cache`."""

        def work(sql: Sql) -> int:
            removed = 0
            if before is not None:
                values = {"before": before}
                removed += sql.change("DELETE FROM @reusable WHERE created < :before", values)
                sql.change("DELETE FROM @calls WHERE started < :before", values)
                sql.change("DELETE FROM @codes WHERE digest NOT IN (SELECT code FROM @calls)")
            if bytes_max is not None:
                removed += sql.change(_SHRINK, {"bytes_max": bytes_max})
            return removed

        return await self._write(work)

    # --- saved plans

    async def save_plan(self, name: str, plan: str, digest: str, at: float) -> None:
        """See `Store.save_plan`."""
        row_digest = digest_of_plan(name, plan, digest, at)
        values = {"name": name, "plan": plan, "digest": digest, "at": float(at), "row_digest": row_digest}
        await self._write(lambda sql: sql.change(_SAVE_PLAN, values), is_durable=True)

    async def list_plans(self) -> Sequence[StoredPlan]:
        """See `Store.list_plans`."""
        found = await self._read(f"SELECT {PLAN_COLUMNS} FROM @plans ORDER BY name")
        return [StoredPlan.from_row(row) for row in found]

    async def find_plan(self, name_or_digest: str) -> StoredPlan | None:
        """See `Store.find_plan`."""
        found = await self._read(_FIND_PLAN, {"wanted": name_or_digest})
        return StoredPlan.from_row(found[0]) if found else None

    async def note_use(self, name: str, digest: str, outcome: str, run_id: str | None, at: float) -> None:
        """See `Store.note_use`."""
        values = {"name": name, "digest": digest, "outcome": outcome, "run": run_id, "at": float(at)}
        await self._write(lambda sql: sql.change(_NOTE_USE, values))

    async def count_uses(self) -> Sequence[tuple[str, str, str, int]]:
        """See `Store.count_uses`."""
        return [
            (name, digest, outcome, count) for name, digest, outcome, count in await self._read(_COUNT_USES)
        ]


def find_value_in(sql: Sql) -> Callable[[str], bytes | None]:
    """Return a function that finds a stored value by its digest."""
    statement = "SELECT data FROM @stored_values WHERE digest=:digest"

    def find(digest: str) -> bytes | None:
        found = sql.rows(statement, {"digest": digest})
        return found[0][0] if found else None

    return find


@lru_cache(512)
def translated(statement: str, prefix: str, value: str, members: str) -> str:
    """Return a statement in a dialect.

    Args:
        statement: In the notation of this module. It holds no other `:` and no other `@`.
        prefix: What the names of the store's tables begin with.
        value: How a value is written, as a replacement that refers to the name as group 1.
        members: How `IN [:names]` is written, in the same way.
    """
    statement = re.sub(r"@(\w+)", rf"{prefix}\1", statement)
    return re.sub(r":(\w+)", value, re.sub(r"IN \[:(\w+)\]", members, statement))


@lru_cache(HEADERS_KEPT)
def read_header(text: bytes) -> Mapping[str, Any]:
    """Return a header, which nobody changes."""
    return cast("Mapping[str, Any]", orjson.loads(text))
