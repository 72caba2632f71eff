"""The store in an SQL database: every operation of `Store`, once for SQLite and for PostgreSQL.

An operation is written against the face `Sql`, which is one connection inside or outside a transaction. A statement is written once. `@runs`
stands for a table of the store (`runs` in a file, `firmplan_runs` on a server), `:name` for a value, and `IN [:names]` for membership in a
list. A dialect translates these three, opens transactions, and says how rows are locked. SQLite has one writer, so it needs no row locks;
PostgreSQL locks rows in a fixed order, so that two processes cannot deadlock.

Rejected: a query builder such as SQLAlchemy Core, which would be one more dependency for some fifty statements, and an import of 100 ms.
"""

from __future__ import annotations

import random
import re
import secrets
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from functools import cache, cached_property, partial
from operator import attrgetter
from typing import Any, ClassVar, Final, Literal, Protocol, TypeVar

import orjson

from ...errors import StoreError
from ...plans.values import digest as digest_of
from ..limits import VALUE_BYTES_MAX
from . import reuse_log, saved_plans
from .api_keys import KEY_COLUMNS, ApiKey
from .garbage import find_unused, find_value_in, missing_parts, named_in, parts_in, remove_unused, with_parts
from .header_text import MissingPlan, PlanText, read_header, stored_header
from .object_values import COLUMNS as OBJECT_COLUMNS
from .object_values import ObjectValues
from .objects import READ_BYTES
from .reuse_log import (
    Segment,
    lines_in,
    prefix_of,
    read_result,
    segments_of,
    values_in,
)
from .store import (
    CHILDREN_TOLD,
    DUE_MAX,
    EVERY_RUN,
    EVERYTHING,
    LEARNT_MAX,
    RESULT_COLUMNS,
    SEQ_MAX,
    Batch,
    CacheStats,
    CallRecord,
    Change,
    ChangeKind,
    DecisionKey,
    Epochs,
    LearntKey,
    PlanVersion,
    Pruned,
    Removal,
    Reusable,
    ReuseEntries,
    RunFilter,
    RunRow,
    StoredObject,
    StoredPlan,
    damaged_results,
    fenced,
    merged_reuse,
)

T = TypeVar("T")
Row = tuple[Any, ...]
Values = Mapping[str, object]
# What a commit survives: the end of this process; the end of the database's server, which engines outlive; or a power loss.
Outlives = Literal["process", "server", "power"]
NO_VALUES: Final[Values] = {}


class Cursor(Protocol):
    """What a statement gave, as the DB-API has it."""

    @property
    def rowcount(self) -> int:
        """How many rows the statement changed."""
        ...

    def fetchall(self) -> list[Any]:
        """Return all rows."""
        ...

    def close(self) -> None:
        """Forget the rows that nobody fetched."""
        ...


class Sql(ABC):
    """One connection to a store, in the notation of this module."""

    # What follows a query whose rows must not change, or must not go, before the transaction ends.
    lock: ClassVar[str] = ""
    lock_from_removal: ClassVar[str] = ""

    @abstractmethod
    def send(self, statement: str, values: Values = NO_VALUES) -> Cursor:
        """Have a statement carried out. Inside a transaction its cursor may be read only at the end, so that no trip to a server is needed."""

    @abstractmethod
    def each(self, statement: str, many: Sequence[Values]) -> Sequence[Cursor]:
        """Carry a statement out with each of these values, and return cursors that may be read now."""

    @abstractmethod
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
        """Insert rows in the fastest way.

        Args:
            table: Its name, without `@`.
            columns: Their names, as in a statement.
            rows: Their values.
            key: The columns of the primary key.
            replaces: Whether a new row takes the place of one with the same key; else the old one stays.
            large: A column whose values may be large.
        """

    @abstractmethod
    def put(
        self, table: str, row: Values, *, large: str, condition: str = "1=1", values: Values = NO_VALUES
    ) -> None:
        """Insert a row if there is none with its key, inside a transaction.

        Args:
            table: Its name, without `@`.
            row: The value of each column.
            large: The column whose value may be large.
            condition: The row is inserted only if this is true.
            values: Of the condition.
        """

    @abstractmethod
    def stream(self, statement: str, values: Values = NO_VALUES) -> Iterator[Row]:
        """Yield the rows of an answer, a bounded number in memory. On a server only inside `snapshot` or `removal`."""

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[object]:
        """Read the store as it is at one moment, without blocking writers."""

    @abstractmethod
    def removal(self) -> AbstractContextManager[object]:
        """Remove stored values in one transaction, while nobody else writes a text that may name one."""

    def rows(self, statement: str, values: Values = NO_VALUES) -> list[Row]:
        """Return all rows of an answer."""
        return self.send(statement, values).fetchall()

    def change(self, statement: str, values: Values = NO_VALUES) -> int:
        """Carry a statement out, and return the number of rows that it changed."""
        return self.each(statement, [values])[0].rowcount

    def texts(self, statement: str, values: Values = NO_VALUES) -> Iterator[bytes]:
        """Yield the texts of one column as bytes, a bounded number in memory."""
        for (text,) in self.stream(statement, values):
            yield text.encode() if isinstance(text, str) else text


IDENTITY_BYTES: Final = 8  # random: no two stores of a namespace have the same

# --- statements

_FACT: Final = "SELECT value FROM @store_facts WHERE name=:name"
_ADD_FACT: Final = (
    "INSERT INTO @store_facts (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING"
)

_COLUMNS: Final = (
    "id, status, task, plan_digest, parent, created, updated, digest, epoch, owner, head, last_seq"
)
_COLUMN_NAMES: Final[Sequence[str]] = _COLUMNS.split(", ")
_IN_COLUMNS: Final = attrgetter(*_COLUMN_NAMES)
RUN: Final = f"{_COLUMNS}, (SELECT beat FROM @owners WHERE name=owner), tenant, usd"
_FIND_RUN: Final = f"SELECT {RUN}, header FROM @runs JOIN @headers ON run_id=id WHERE id=:run"
_CREATE_RUN: Final = f"INSERT INTO @runs ({_COLUMNS}, tenant) VALUES (:{_COLUMNS.replace(', ', ', :')}, :tenant) ON CONFLICT DO NOTHING"
# A run refers to the text of its plan if the header that refers to it is the run's: there may be a run with this id, and another header.
_IS_ITS_HEADER: Final = "EXISTS (SELECT 1 FROM @headers WHERE run_id=:run_id AND header=:header)"
_IS_ITS_PLAN: Final = "EXISTS (SELECT 1 FROM @run_plans WHERE run_id=:run AND digest=:digest)"
_HAS_TEXT: Final = "SELECT 1 FROM @plan_texts WHERE digest=:digest"
_FIND_TEXT: Final = "SELECT data FROM @plan_texts WHERE digest=:digest"
_FORGET_PLAN: Final = "DELETE FROM @run_plans WHERE run_id=:run RETURNING digest"
_DROP_TEXT: Final = "DELETE FROM @plan_texts WHERE digest=:digest AND NOT EXISTS (SELECT 1 FROM @run_plans WHERE digest=:digest)"
_LOST_TEXTS: Final = """
    SELECT DISTINCT digest FROM @run_plans AS of_run WHERE NOT EXISTS (SELECT 1 FROM @plan_texts AS text WHERE text.digest=of_run.digest)
    ORDER BY digest
"""
_SET_PLANNED: Final = (
    "UPDATE @runs SET plan_digest=:digest, status=:status, updated=:at WHERE id=:run AND epoch=:epoch"
)

# The fence of an append: epoch and number of records are what the owner believes. Each statement of an append is carried out only behind the fence,
# `{stands}`, and the last one moves the run's row. So no answer has to be waited for in between, and a refused batch leaves nothing.
_FENCE: Final = "id=:run AND epoch=:epoch AND last_seq=:before"
_STANDS: Final = f"EXISTS (SELECT 1 FROM @runs WHERE {_FENCE})"
_ADD_LINES: Final = (
    "INSERT INTO @journal (run_id, first_seq, lines, head) SELECT :run, :first, :lines, :head WHERE {stands}"
)
_MOVE_RUN: Final = f"UPDATE @runs SET status=:status, digest=:digest, updated=:updated, usd=:usd, head=:head, last_seq=:last WHERE {_FENCE}"
# An index has the status of runs. SQLite writes an entry of an index anew whenever its column is set, also to the value that it has.
_MOVE_ON: Final = f"{_MOVE_RUN.replace('status=:status, ', '')} AND status=:status"
_MOVE_AND_RELEASE: Final = _MOVE_RUN.replace("SET", "SET owner=NULL,")
_LOCK_RUNS: Final = "SELECT 1 FROM @runs WHERE id IN [:runs] ORDER BY id"
_DROP_DECIDED: Final = "DELETE FROM @decisions WHERE number IN [:decided] AND {stands}"
_WRITES_OF: Final = "FROM @open_writes WHERE run_id=:run AND step IN [:steps] AND {stands}"
_CLOSE_WRITES: Final = f"DELETE {_WRITES_OF}"
_OPEN_WRITE: Final = """
    INSERT INTO @open_writes (run_id, step, resource) SELECT :run, :step, :resource WHERE {stands}
    ON CONFLICT (run_id, step) DO UPDATE SET resource=excluded.resource
"""
_KEEP_DUE: Final = """
    INSERT INTO @due_runs (run_id, due) SELECT :run, :due WHERE {stands} ON CONFLICT (run_id) DO UPDATE SET due=excluded.due
"""
_DROP_DUE: Final = "DELETE FROM @due_runs WHERE run_id=:run AND {stands}"
_LIST_DUE: Final = f"""
    SELECT {RUN} FROM @due_runs AS due JOIN @runs ON id=due.run_id
    WHERE due.due <= :at AND owner IS NULL AND plan_digest IS NOT NULL AND status NOT IN ('succeeded', 'failed', 'cancelled', 'parked')
    ORDER BY due.due, id LIMIT :limit
"""
# What webhooks are to be told stands in the same commit as what happened: so nothing that happened is told by nobody.
ADD_NOTICE: Final = """
    INSERT INTO @webhook_notices (tenant, event, run_id, seq, noted, data)
    SELECT tenant, :event, id, :seq, :at, '' FROM @runs WHERE id=:run AND {stands}
"""
_RAISE_EPOCHS: Final = """
    INSERT INTO @resources (name, epoch) {counts} ON CONFLICT (name) DO UPDATE SET epoch=@resources.epoch+excluded.epoch
"""
_LOCK_RESOURCES: Final = """
    SELECT 1 FROM @resources WHERE name IN [:opened]
    OR name IN (SELECT resource FROM @open_writes WHERE run_id IN [:runs] AND step IN [:closed]) ORDER BY name
"""

_NOTE_UNFIT: Final = """
    INSERT INTO @unfit_attempts (run_id, epoch, noted, why) SELECT :run, :epoch, :at, :why WHERE EXISTS (SELECT 1 FROM @runs WHERE id=:run AND epoch=:epoch)
    ON CONFLICT (run_id) DO UPDATE SET epoch=excluded.epoch, noted=excluded.noted, why=excluded.why
"""
_FIND_UNFIT: Final = """
    SELECT why FROM @unfit_attempts AS unfit JOIN @runs AS run ON run.id=unfit.run_id AND run.epoch=unfit.epoch
    WHERE unfit.run_id=:run AND run.owner IS NULL
"""

_BEATS: Final = "SELECT name, beat FROM @owners WHERE name IN [:owners] ORDER BY name"
_BEGIN_TO_BEAT: Final = """
    INSERT INTO @owners (name, beat) VALUES (:owner, :beat) ON CONFLICT (name) DO UPDATE SET beat=@owners.beat+1 RETURNING beat
"""
_END_BEAT: Final = "DELETE FROM @owners WHERE name=:owner"
# One search of the index for each owner, where DISTINCT would read an entry for each run.
_LIST_OWNERS: Final = """
    WITH RECURSIVE found (name) AS (
        SELECT min(owner) FROM @runs WHERE owner IS NOT NULL
        UNION ALL
        SELECT (SELECT min(owner) FROM @runs WHERE owner IS NOT NULL AND owner > found.name) FROM found WHERE found.name IS NOT NULL
    )
    SELECT found.name, beat FROM found LEFT JOIN @owners AS o ON o.name=found.name WHERE found.name IS NOT NULL ORDER BY found.name
"""
BEAT_BITS: Final = 31
TEXT_TRIES: Final = 3  # to store the text of a plan whose last run somebody else deletes meanwhile
# Other owners without runs stay: on a server, one of them may be claiming its first run right now.
_FREE_OWNERS: Final = (
    "DELETE FROM @owners WHERE name IN [:owners] AND NOT EXISTS (SELECT 1 FROM @runs WHERE owner=name)"
)

# The texts of a run in which digests of stored values stand.
_NAMING: Final = (
    "SELECT header FROM @headers WHERE run_id=:run",
    "SELECT data FROM @plan_texts WHERE digest IN (SELECT digest FROM @run_plans WHERE run_id=:run)",
    "SELECT lines FROM @journal WHERE run_id=:run",
    "SELECT record FROM @decisions WHERE run_id=:run",
    "SELECT record FROM @decided_attempts WHERE run_id=:run",
)
# Tables whose rows belong to one run and go with it, as its row of `run_plans` does (`_forget_plan`). Rows of `reusable` need no run, and stay.
OF_ONE_RUN: Final = (
    *("open_writes", "headers", "journal", "decisions", "decided_attempts", "calls"),
    *("due_runs", "unfit_attempts"),
)
# The uses of a saved plan are counted after the run is deleted, too: they keep the outcome that the run had.
_KEEP_USES: Final = """
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

_HAS_DECISIONS: Final = "SELECT EXISTS (SELECT 1 FROM @decisions WHERE run_id=:run)"
_LEAVE_DECISION: Final = "INSERT INTO @decisions (run_id, record) VALUES (:run, :record)"
_DECIDE: Final = """
    INSERT INTO @decided_attempts (run_id, step, attempt, about, record) VALUES (:run, :step, :attempt, :about, :record) ON CONFLICT DO NOTHING
"""
_OF_ATTEMPT: Final = (
    "FROM @decided_attempts WHERE run_id=:run AND step=:step AND attempt=:attempt AND about=:about"
)

CALL_COLUMNS: Final = "run_id, step, subject, started, key, parts, code, lost"
_EARLIER_CALLS: Final = (
    f"SELECT {CALL_COLUMNS} FROM @calls WHERE subject=:subject AND started<=:until{{}} "
    "AND NOT EXISTS (SELECT 1 FROM @runs WHERE id=run_id AND tenant<>:tenant) "
    "ORDER BY started DESC, run_id, step LIMIT :limit"
)
_NEWEST_CALLS: Final = _EARLIER_CALLS.format("")
_CALLS_OF_STEP: Final = _EARLIER_CALLS.format(" AND step=:step")
_FIND_VALUES: Final = "SELECT digest, data FROM @stored_values WHERE digest IN [:digests]"
_FIND_PARTS: Final = "SELECT digest, parts FROM @value_parts WHERE digest IN [:digests]"
# In the order of numbers, so that the last line with a key is the newest.
_FIND_SEGMENTS: Final = """
    SELECT results FROM @reuse_log WHERE number IN (SELECT number FROM @reuse_keys WHERE prefix IN [:prefixes]) ORDER BY number
"""
_FIND_OLDER_RESULTS: Final = f"SELECT {RESULT_COLUMNS} FROM @reusable WHERE key IN [:keys]"
_SIZE: Final = "length(output) + length(key) + length(epochs) + length(env)"
_STATS: Final = f"""
    SELECT (SELECT count(*) FROM @reuse_keys) + count(*),
        (SELECT CAST(coalesce(sum(size), 0) AS bigint) FROM @reuse_log) + CAST(coalesce(sum({_SIZE}), 0) AS bigint),
        (SELECT count(*) FROM @calls), (SELECT min(oldest) FROM @reuse_log), min(created), (SELECT max(newest) FROM @reuse_log), max(created)
    FROM @reusable
"""
_SHRINK_OLDER: Final = f"""
    DELETE FROM @reusable WHERE key IN (
        SELECT key FROM (
            SELECT key, sum({_SIZE}) OVER (ORDER BY created DESC, key) AS size FROM @reusable
        ) AS sized WHERE size > :bytes_max)
"""

_ADD_SPENDING: Final = """
    INSERT INTO @spending (day, usd, tokens) VALUES (:day, :usd, :tokens) ON CONFLICT (day) DO UPDATE
    SET usd=@spending.usd+excluded.usd, tokens=@spending.tokens+excluded.tokens
"""
_SUM_SPENDING: Final = (
    "SELECT coalesce(sum(usd), 0), coalesce(sum(tokens), 0) FROM @spending WHERE day >= :since"
)
_ADD_API_KEY: Final = f"INSERT INTO @api_keys ({KEY_COLUMNS}) VALUES (:{KEY_COLUMNS.replace(', ', ', :')})"
_FIND_API_KEY: Final = f"SELECT {KEY_COLUMNS} FROM @api_keys WHERE id=:id"
_NOTE_API_KEY: Final = """
    UPDATE @api_keys SET used=coalesce(CAST(:used AS double precision), used), revoked=coalesce(revoked, CAST(:revoked AS double precision)) WHERE id=:id
"""
_NOTE_USE: Final = "INSERT INTO @plan_uses (name, digest, outcome, run_id, noted) VALUES (:name, :digest, :outcome, :run, :at)"
_LIST_PINS: Final = "SELECT tool, said FROM @pinned_tools WHERE provider=:provider ORDER BY tool"
_LIST_LEARNT: Final = "SELECT fingerprint, learnt FROM @learnt_types WHERE tool=:tool AND fingerprint IN [:fingerprints] ORDER BY fingerprint"
_FIND_LEARNT: Final = "SELECT learnt FROM @learnt_types WHERE tool=:tool AND fingerprint=:fingerprint"
_BEGIN_TO_LEARN: Final = "INSERT INTO @learnt_types (tool, fingerprint, learnt, updated) VALUES (:tool, :fingerprint, :learnt, :at) ON CONFLICT DO NOTHING"
_LEARN: Final = (
    "UPDATE @learnt_types SET learnt=:learnt, updated=:at WHERE tool=:tool AND fingerprint=:fingerprint"
)
_FORGET_LEARNT: Final = """
    DELETE FROM @learnt_types WHERE tool=:tool AND fingerprint NOT IN (
        SELECT fingerprint FROM @learnt_types WHERE tool=:tool ORDER BY updated DESC, fingerprint LIMIT :most)
"""
_COUNT_USES: Final = """
    SELECT uses.name, uses.digest,
        CASE WHEN uses.outcome = 'answered' AND runs.status IN ('failed', 'cancelled') THEN 'run' ELSE uses.outcome END AS became,
        count(*)
    FROM @plan_uses AS uses LEFT JOIN @runs AS runs ON runs.id = uses.run_id
    GROUP BY uses.name, uses.digest, became ORDER BY uses.name, uses.digest, became
"""


def _first_beat(owner: str) -> dict[str, object]:
    # A random number: an observer that watched the same owner before sees a new beat, also after each claim. Nobody gains by guessing it.
    return {"owner": owner, "beat": random.getrandbits(BEAT_BITS)}


class _OfObject(Reusable):
    """A result whose output is still to be fetched from outside the database."""

    __slots__ = ("line",)

    def __init__(self, line: bytes) -> None:
        super().__init__("", "", "", b"", 0.0)
        self.line = line


class SqlStore(ABC):
    """A store in an SQL database. A dialect has the abstract methods, and overrides an operation only if its fast way differs."""

    name: str
    # How much which row of `resources` is raised for the writes that `{writes}` selects. A server takes each row only once.
    counts: ClassVar[Sequence[str]] = (
        "SELECT resource, count(*) {writes} GROUP BY resource ORDER BY resource",
    )
    # How often all resources together were written.
    writes_in_all: ClassVar[str]

    @abstractmethod
    async def _query(self, work: Callable[[Sql], T], *, is_short: bool = False) -> T:
        """Do work that only reads; `is_short`: it finds a few rows by an index, so that the event loop may wait for it."""

    @abstractmethod
    def _query_here(self, work: Callable[[Sql], T]) -> T:
        """Do work that only reads, on the thread that asks."""

    @abstractmethod
    async def _write(
        self, work: Callable[[Sql], T], *, outlives: Outlives = "process", is_slow: bool = False
    ) -> T:
        """Do some work in one transaction; `is_slow`: commits of journals must not wait for it."""

    @abstractmethod
    def _write_here(self, work: Callable[[Sql], T], *, outlives: Outlives) -> T:
        """Do some work in one transaction, on the thread that asks."""

    @abstractmethod
    async def _apart(self, work: Callable[[Sql], T]) -> T:
        """Do long work through a separate connection, so that commits continue meanwhile. The work makes its own transactions."""

    @abstractmethod
    def _find_rot(self, sql: Sql) -> list[str]:
        """Return what is wrong with the medium and with stored values."""

    async def _bring_in(  # noqa: B027  # a server puts nothing aside
        self, *, calls: bool = False, results: bool = False
    ) -> None:
        """Bring records of calls, or results for reuse, that commits have put aside into their tables, before somebody looks at those."""

    @property
    def is_telling(self) -> bool:
        """See `Store.is_telling`."""
        return False

    @property
    def can_tell(self) -> bool:
        """See `Store.can_tell`."""
        return False

    async def listen(self, hear: Callable[[Change], None]) -> None:  # noqa: B027  # a file tells nothing
        """See `Store.listen`."""

    async def ask_for(self, run_ids: Sequence[str]) -> None:  # noqa: B027  # a file tells nothing
        """See `Store.ask_for`."""

    def _tell(  # noqa: B027  # the same
        self, sql: Sql, kind: ChangeKind, run_ids: Iterable[str] = ()
    ) -> None:
        """Tell other processes of a change, with the commit of the transaction that makes it."""

    def tell(self, sql: Sql, kind: Literal["schedules", "webhooks"]) -> None:
        """Tell other processes of a change in tables of another folder, with the commit of the transaction that makes it."""
        self._tell(sql, kind)

    async def look(self, work: Callable[[Sql], T]) -> T:
        """Do work that only reads, on tables that another folder has in this store (`schedules`, `webhooks`). Raises: StoreError."""
        return await self._query(work)

    async def change(self, work: Callable[[Sql], T], *, outlives: Outlives = "power") -> T:
        """Do some work on such tables in one transaction, durable through power loss if nothing else is said. Raises: StoreError."""
        return await self._write(work, outlives=outlives)

    async def identity(self) -> str:
        """See `Store.identity`."""
        name = {"name": "identity"}
        found = await self._read(_FACT, name)
        if not found:
            made = {**name, "value": secrets.token_hex(IDENTITY_BYTES)}
            await self.change(lambda sql: sql.change(_ADD_FACT, made))
            found = await self._read(_FACT, name)  # another process may have been first
        return str(found[0][0])

    async def _read(self, statement: str, values: Values = NO_VALUES, *, is_short: bool = False) -> list[Row]:
        return await self._query(lambda sql: sql.rows(statement, values), is_short=is_short)

    # --- runs

    async def create_run(self, row: RunRow) -> bool:
        """See `Store.create_run`."""
        (made,) = await self._write(lambda sql: self._create_all(sql, [row]), outlives="power")
        return made.rowcount == 1

    def create_runs(self, rows: Sequence[RunRow]) -> Sequence[bool]:
        """See `Store.create_runs`."""
        made = self._write_here(lambda sql: self._create_all(sql, rows), outlives="power")
        return [cursor.rowcount == 1 for cursor in made]

    def _create_all(self, sql: Sql, rows: Sequence[RunRow]) -> Sequence[Cursor]:
        """Add runs, and begin the beats of their owners. The cursor of a run has changed one row if none of its id was there."""
        made = [self._create(sql, row) for row in rows]
        for owner in sorted({row.owner for row in rows if row.owner is not None}):
            self._prepare_claim()
            sql.rows(_BEGIN_TO_BEAT, _first_beat(owner))
        return made

    def _create(self, sql: Sql, row: RunRow) -> Cursor:
        """Add a run."""
        values: dict[str, object] = dict(zip(_COLUMN_NAMES, _IN_COLUMNS(row), strict=True))
        values |= {
            "tenant": row.tenant,
            "task": self._task_to_text(row.task),
            "created": float(row.created),
            "updated": float(row.updated),
        }
        if row.parent is not None and not row.is_replay:
            # Whoever deletes the parent waits for this transaction, and then sees the child.
            parent = f"SELECT 1 FROM @runs WHERE id=:run{sql.lock_from_removal}"
            row.expect_parent(is_there=bool(sql.rows(parent, {"run": row.parent})))
        # A run and its header come and go together. If the run is there already, its header is, too, and both inserts do nothing.
        made = sql.send(_CREATE_RUN, values)
        self._put_header(sql, row.id, row.header)
        if row.due is not None:
            sql.send(_KEEP_DUE.format(stands="1=1"), {"run": row.id, "due": float(row.due)})
        return made

    # Only a task without a plan changes its header: the first record of a run holds the digest of the header, and fixes it.
    async def set_header(
        self,
        run_id: str,
        header: Mapping[str, Any],
        plan_digest: str | None,
        epoch: int,
        status: str,
        at: float,
        notice: str = "",
    ) -> None:
        """See `Store.set_header`."""
        values = {"run": run_id, "epoch": epoch, "digest": plan_digest, "status": status, "at": float(at)}

        def work(sql: Sql) -> None:
            if sql.change(_SET_PLANNED, values) != 1:
                raise _refusal(sql, run_id, epoch)
            _forget_plan(sql, run_id)
            sql.send("DELETE FROM @headers WHERE run_id=:run", values)
            self._put_header(sql, run_id, header)
            self._tell(sql, "moved", [run_id])
            if notice:
                told = {"run": run_id, "event": notice, "seq": 0, "at": float(at)}
                sql.send(ADD_NOTICE.format(stands="1=1"), told)
                self._tell(sql, "webhooks")

        await self._write(work, outlives="power")

    def _put_header(self, sql: Sql, run_id: str, header: Mapping[str, Any]) -> bytes:
        """Store a header, and return the text that is stored."""
        stored = stored_header(header)
        sql.put("headers", {"run_id": run_id, "header": stored.text}, large="header")
        if stored.plan is not None:
            self._put_plan(sql, run_id, stored.text, stored.plan)
        return stored.text

    def _put_plan(self, sql: Sql, run_id: str, header: bytes, plan: PlanText) -> None:
        """Store the text of a large plan, unless it is there, and that the run has it."""
        row = {"run_id": run_id, "digest": plan.digest}
        sql.put("run_plans", row, large="digest", condition=_IS_ITS_HEADER, values={"header": header})
        # Whoever deletes the last other run of the plan meanwhile waits for this transaction, or was first: then the text is stored anew.
        for _ in range(TEXT_TRIES):
            if sql.rows(f"{_HAS_TEXT}{sql.lock_from_removal}", {"digest": plan.digest}):
                return
            text = {"digest": plan.digest, "data": plan.data}
            of_run = {"run": run_id, "digest": plan.digest}
            sql.put("plan_texts", text, large="data", condition=_IS_ITS_PLAN, values=of_run)

    def _find_plan_text(self, sql: Sql, digest: str) -> bytes | None:
        """Return the text of a large plan."""
        found = sql.rows(_FIND_TEXT, {"digest": digest})
        return bytes(found[0][0]) if found else None

    async def find_run(self, run_id: str) -> RunRow | None:
        """See `Store.find_run`."""
        try:
            return await self._query(lambda sql: self._find(sql, run_id), is_short=True)
        except (
            MissingPlan
        ):  # the last run of the plan was deleted between two statements, or got another plan
            return await self._query(lambda sql: self._find(sql, run_id), is_short=True)

    def _find(self, sql: Sql, run_id: str) -> RunRow | None:
        found = sql.rows(_FIND_RUN, {"run": run_id})
        if not found:
            return None
        header = read_header(bytes(found[0][-1]), lambda digest: self._find_plan_text(sql, digest))
        return self._row(found[0][:-1], header)

    def _row(self, found: Sequence[Any], header: Mapping[str, Any]) -> RunRow:
        """Return a run's row from the columns of `RUN`."""
        run_id, status, task, *others = found
        plan_digest, parent, created, updated, digest, *last = others
        task = self._text_to_task(task)
        return RunRow(run_id, status, task, plan_digest, parent, created, updated, digest, header, *last)

    def _task_to_text(self, task: str | None) -> str | None:
        """Return a task as the database keeps it."""
        return task

    def _text_to_task(self, text: str | None) -> str | None:
        """Return a task that the database has kept."""
        return text

    async def list_runs(
        self,
        *,
        status: str | None,
        limit: int,
        before: tuple[float, str] | None,
        tenant: str = "",
        where: RunFilter = EVERY_RUN,
        down_to: tuple[float, str] | None = None,
    ) -> Sequence[RunRow]:
        """See `Store.list_runs`."""
        conditions, values = _place_in_list(status, before, tenant, where)
        if down_to is not None:
            conditions.append("(created, id) >= (:last_created, :last_id)")
            values["last_created"], values["last_id"] = down_to
        for condition, name, value in _row_conditions(where):
            conditions.append(condition)
            values[name] = value
        statement = f"SELECT {RUN} FROM @runs WHERE {' AND '.join(conditions)} ORDER BY created DESC, id DESC LIMIT :limit"
        return [self._row(found, {}) for found in await self._read(statement, values | {"limit": limit})]

    async def nth_run(
        self,
        nth: int,
        *,
        status: str | None,
        before: tuple[float, str] | None,
        tenant: str = "",
        where: RunFilter = EVERY_RUN,
    ) -> tuple[float, str] | None:
        """See `Store.nth_run`."""
        conditions, values = _place_in_list(status, before, tenant, where)
        statement = f"SELECT created, id FROM @runs WHERE {' AND '.join(conditions)} ORDER BY created DESC, id DESC LIMIT 1 OFFSET :skipped"
        found = await self._read(statement, values | {"skipped": nth - 1})
        return (found[0][0], found[0][1]) if found else None

    async def count_runs(self, statuses: Sequence[str]) -> Mapping[str, int]:
        """See `Store.count_runs`."""
        # One search of the index for each status, since a planner that sees a list of them may choose to group all rows.
        counts = " UNION ALL ".join(
            f"SELECT CAST(:s{number} AS text), count(*) FROM @runs WHERE status=:s{number}"
            for number in range(len(statuses))
        )
        found = await self._read(counts, {f"s{number}": each for number, each in enumerate(statuses)})
        return {status: count for status, count in found if count}

    async def list_driven(self, owners: Sequence[str] | None = None) -> Sequence[RunRow]:
        """See `Store.list_driven`."""
        among = "IS NOT NULL" if owners is None else "IN [:owners]"
        statement = (
            f"SELECT {RUN} FROM @runs WHERE owner {among} AND status IN ('queued', 'running') ORDER BY id"
        )
        found = await self._read(statement, {} if owners is None else {"owners": list(owners)})
        return [self._row(each, {}) for each in found]

    async def list_owners(self) -> Mapping[str, int | None]:
        """See `Store.list_owners`."""
        return dict(await self._read(_LIST_OWNERS))

    async def list_due(self, at: float, limit: int = DUE_MAX) -> Sequence[RunRow]:
        """See `Store.list_due`."""
        return [
            self._row(found, {}) for found in await self._read(_LIST_DUE, {"at": float(at), "limit": limit})
        ]

    async def note_unfit(self, run_id: str, epoch: int, why: str, at: float) -> None:
        """See `Store.note_unfit`."""
        values = {"run": run_id, "epoch": epoch, "why": why, "at": float(at)}
        await self._write(lambda sql: sql.send(_NOTE_UNFIT, values))

    async def find_unfit(self, run_id: str) -> str | None:
        """See `Store.find_unfit`."""
        found = await self._read(_FIND_UNFIT, {"run": run_id}, is_short=True)
        return str(found[0][0]) if found else None

    async def delete_run(self, run_id: str, statuses: Collection[str]) -> Removal:
        """See `Store.delete_run`."""
        await self._bring_in(calls=True)
        values = {"run": run_id}

        # Reading all texts of a run takes long, so it is done before the transaction that deletes: an ended run never changes.
        def look(sql: Sql) -> Removal:
            with sql.snapshot():
                found = _removal(sql, run_id, statuses)
                if not found.is_removed:
                    return found
                texts = (text for statement in _NAMING for text in sql.texts(statement, values))
                digests = sorted(set(with_parts(named_in(find_value_in(sql), texts), parts_in(sql))))
                stored = (
                    "SELECT digest FROM @stored_values WHERE digest IN [:digests] "
                    "UNION ALL SELECT digest FROM @value_parts WHERE digest IN [:digests] "
                    "UNION ALL SELECT digest FROM @stored_objects WHERE digest IN [:digests]"
                )
                named = frozenset(digest for (digest,) in sql.rows(stored, {"digests": digests}))
            return replace(found, named=named)

        def delete(sql: Sql) -> Removal:
            # The run is locked before the query for its children, because a transaction that makes a child locks the parent, too.
            found = _removal(sql, run_id, statuses, sql.lock)
            if found.is_removed:
                self._raise_epochs(sql, "FROM @open_writes WHERE run_id=:run", values)
                _forget_plan(sql, run_id)
                for table in OF_ONE_RUN:
                    sql.send(f"DELETE FROM @{table} WHERE run_id=:run", values)
                sql.send(_KEEP_USES, {"run": run_id, "status": found.status})
                sql.send("DELETE FROM @runs WHERE id=:run", values)
            return replace(found, named=removed.named)

        removed = await self._query(look)
        return await self._write(delete) if removed.is_removed else removed

    # --- owners

    def _prepare_claim(self) -> None:  # noqa: B027  # a server remembers nothing
        """Check what the store remembers, in the transaction of a claim: a run finds everything that was there when it was claimed."""

    async def claim(
        self,
        run_id: str,
        owner: str,
        *,
        is_alive: Callable[[str, int | None], bool],
        by_force: bool = False,
        is_wanted: Callable[[RunRow], bool] | None = None,
    ) -> RunRow | None:
        """See `Store.claim`. The rows of run and owner are locked while the question is asked: neither moves meanwhile."""

        def work(sql: Sql) -> RunRow | None:
            self._prepare_claim()
            if sql.lock:
                sql.send(f"SELECT 1 FROM @runs WHERE id=:run{sql.lock}", {"run": run_id})
            found = self._find(sql, run_id)
            if found is None or (is_wanted is not None and not is_wanted(found)):
                return None
            if found.owner is not None:
                beats: dict[str, int | None] = dict(
                    sql.rows(f"{_BEATS}{sql.lock}", {"owners": [found.owner, owner]})
                )
                if is_alive(found.owner, beats.get(found.owner)):
                    return None
            is_taken = found.owner not in (None, owner) and not by_force
            if is_taken:
                sql.send(_END_BEAT, {"owner": found.owner})
            sql.send(
                "UPDATE @runs SET owner=:owner, epoch=epoch+1 WHERE id=:run", {"owner": owner, "run": run_id}
            )
            # Sent together with the question that follows: each answer that is waited for is a trip to the server. Whatever fails, the answer is
            # closed: SQLite commits nothing on the connection while a statement that writes has rows that nobody fetched.
            with closing(sql.send(_BEGIN_TO_BEAT, _first_beat(owner))) as beating:
                ((has_decisions,),) = sql.rows(_HAS_DECISIONS, {"run": run_id})
                ((beat,),) = beating.fetchall()
            if by_force and found.owner is not None:
                sql.send(_FREE_OWNERS, {"owners": [found.owner]})
            self._tell(sql, "moved", [run_id])
            taken_from = found.owner if is_taken else None
            return replace(
                found,
                owner=owner,
                epoch=found.epoch + 1,
                beat=beat,
                taken_from=taken_from,
                has_decisions=bool(has_decisions),
            )

        # A claim has to be durable before it counts: a process that drives a run may outlive the server's memory of the run, and an epoch must not
        # be given out twice. No process outlives a power loss of the machine that has the file.
        return await self._write(work, outlives="server")

    async def release(self, epochs: Mapping[str, int]) -> None:
        """See `Store.release`."""

        # The epoch is compared, too: a run that was taken over meanwhile, and came back, is not this claim's to release.
        def work(sql: Sql) -> None:
            statement = f"SELECT id, epoch, owner FROM @runs WHERE id IN [:runs] ORDER BY id{sql.lock}"
            held = {
                run_id: owner
                for run_id, epoch, owner in sql.rows(statement, {"runs": list(epochs)})
                if epoch == epochs[run_id] and owner is not None
            }
            sql.send("UPDATE @runs SET owner=NULL WHERE id IN [:runs]", {"runs": list(held)})
            sql.send(_FREE_OWNERS, {"owners": sorted(set(held.values()))})
            self._tell(sql, "moved", held)

        await self._write(work, outlives="server")

    async def raise_beat(self, owner: str) -> bool:
        """See `Store.raise_beat`."""
        # No row is made here: an owner that was overtaken has lost its row, and must hear of that.
        statement = "UPDATE @owners SET beat=beat+1 WHERE name=:owner"
        return (await self._write(lambda sql: sql.send(statement, {"owner": owner}))).rowcount == 1

    async def end_beat(self, owner: str) -> None:
        """See `Store.end_beat`."""
        await self._write(lambda sql: sql.send(_END_BEAT, {"owner": owner}), outlives="server")

    async def list_owned(self, owner: str) -> Mapping[str, int]:
        """See `Store.list_owned`."""
        return dict(await self._read("SELECT id, epoch FROM @runs WHERE owner=:owner", {"owner": owner}))

    # --- journals

    def append(self, batches: Sequence[Batch]) -> Sequence[StoreError | None]:
        """See `Store.append`."""
        if not self.keeps_objects:
            return self._append_here(batches)
        moved = [self.objects.moved(batch) for batch in batches]
        faults = iter(self._append_here([each for each in moved if isinstance(each, Batch)]))
        return [each if isinstance(each, StoreError) else next(faults) for each in moved]

    def _append_here(self, batches: Sequence[Batch]) -> Sequence[StoreError | None]:
        # One commit for all batches: the wait for the disk or the server is its cost, however much it holds. If one batch is refused, the others stand.
        moved = self._write_here(
            lambda sql: self._append_all(sql, batches),
            outlives="power" if any(batch.is_synced for batch in batches) else "process",
        )
        return [
            None if cursor is None or cursor.rowcount == 1 else self._refused(batch)
            for cursor, batch in zip(moved, batches, strict=True)
        ]

    def _refused(self, batch: Batch) -> StoreError:
        return self._query_here(lambda sql: _refusal(sql, batch.run_id, batch.epoch, batch.first_seq))

    def _append_all(self, sql: Sql, batches: Sequence[Batch]) -> list[Cursor | None]:
        """Append in a transaction. Return for each batch with lines a cursor that has changed one row if the batch was appended."""
        if sql.lock:
            # Batches raise epochs in the order of the runs. So the resources of the whole group are locked first, in the order of names: otherwise two
            # processes could deadlock. The runs are locked, because a fence that holds at the first statement has to hold at the last one.
            opened = {resource for batch in batches for resource in batch.opened.values()}
            closed = {step for batch in batches for step in batch.closed}
            runs = [batch.run_id for batch in batches]
            if opened or closed:
                touched = {"opened": sorted(opened), "closed": sorted(closed), "runs": runs}
                sql.send(f"{_LOCK_RESOURCES}{sql.lock}", touched)
            sql.send(f"{_LOCK_RUNS}{sql.lock}", {"runs": runs})
        moved = [self._append(sql, batch) if batch.lines else None for batch in batches]
        if owners := sorted({batch.releases for batch in batches if batch.releases is not None}):
            sql.send(_FREE_OWNERS, {"owners": owners})
        self._tell(sql, "moved", (batch.run_id for batch in batches))
        if (reuse := merged_reuse(batches)) is not None:
            self._add_reuse(sql, reuse)
        return moved

    def _append(self, sql: Sql, batch: Batch) -> Cursor:
        """Append one batch. The cursor has changed one row if the owner still has the run."""
        self._add(sql, batch, _STANDS)
        return self._move(sql, batch)

    def _add(self, sql: Sql, batch: Batch, stands: str) -> None:
        """Add what a batch holds if the condition `stands` is true."""
        place = _place(batch)
        lines = {"first": batch.first_seq, "lines": b"\n".join(batch.lines), "head": batch.head}
        sql.send(_behind(_ADD_LINES, stands), place | lines)
        _put_values(sql, batch, condition=stands, values=place)
        if batch.opened or batch.closed:
            self._note_writes(sql, batch, place, stands)
        if batch.decided:
            sql.send(_behind(_DROP_DECIDED, stands), place | {"decided": list(batch.decided)})
        if batch.due is not None:
            statement = _KEEP_DUE if batch.due else _DROP_DUE
            sql.send(_behind(statement, stands), place | ({"due": float(batch.due)} if batch.due else {}))
        if batch.notice:
            seq = batch.first_seq - 1 + len(batch.lines)
            told = {"event": batch.notice, "seq": seq, "at": float(batch.updated)}
            sql.send(_behind(ADD_NOTICE, stands), place | told)
            self._tell(sql, "webhooks")

    def _note_writes(self, sql: Sql, batch: Batch, place: dict[str, object], stands: str) -> None:
        """Open and close the writes of a batch, and count them on their resources, if the condition `stands` is true."""
        writes = _behind(_WRITES_OF, stands)
        # A write that ends and begins again in one batch is counted twice, and stays open.
        both = set(batch.opened).intersection(batch.closed)
        if both:
            self._raise_epochs(sql, writes, place | {"steps": sorted(both)})
        for step, resource in batch.opened.items():
            sql.send(_behind(_OPEN_WRITE, stands), place | {"step": step, "resource": resource})
        ended = [step for step in batch.closed if step not in both]
        if batch.opened or ended:
            self._raise_epochs(sql, writes, place | {"steps": [*batch.opened, *ended]})
        if ended:
            sql.send(_behind(_CLOSE_WRITES, stands), place | {"steps": ended})

    def _move(self, sql: Sql, batch: Batch, *, keeps_status: bool = False) -> Cursor:
        """Move the run's row behind a batch if its owner still has the run, and with `keeps_status` only if its status stays what it is."""
        standing = {
            "status": batch.status,
            "digest": batch.digest,
            "updated": float(batch.updated),
            "usd": float(batch.usd),
            "head": batch.head,
            "last": batch.first_seq - 1 + len(batch.lines),
        }
        moved = _MOVE_RUN if batch.releases is None else _MOVE_AND_RELEASE
        return sql.send(_MOVE_ON if keeps_status else moved, _place(batch) | standing)

    def _raise_epochs(self, sql: Sql, writes: str, values: Values) -> None:
        """Count the writes that a part of a query selects, on their resources."""
        for counts in self.counts:
            sql.send(_raise_epochs_of(counts, writes), values)

    async def read_journal(self, run_id: str, after: int = 0, *, limit: int | None = None) -> Sequence[bytes]:
        """See `Store.read_journal`."""
        # A row holds the lines of one flush, so the first row may begin before `after`, and the last one end behind the limit.
        last = SEQ_MAX if limit is None else min(after + limit, SEQ_MAX)
        lines: list[bytes] = []
        for first_seq, joined in await self._read(_JOURNAL, {"run": run_id, "next": after + 1, "last": last}):
            lines += joined.split(b"\n")[max(0, after + 1 - first_seq) :]
        return lines if limit is None else lines[:limit]

    async def read_heads(self, run_id: str) -> Sequence[tuple[int, bytes]]:
        """See `Store.read_heads`."""
        statement = "SELECT first_seq, head FROM @journal WHERE run_id=:run ORDER BY first_seq"
        return await self._read(statement, {"run": run_id})

    # --- decisions

    async def add_decision(self, run_id: str, decision: bytes) -> None:
        """See `Store.add_decision`."""
        values = {"run": run_id, "record": decision}

        def work(sql: Sql) -> None:
            sql.send(_LEAVE_DECISION, values)
            self._tell(sql, "decided", [run_id])

        await self._write(work, outlives="power")

    async def add_decisions(
        self, run_id: str, decisions: Mapping[DecisionKey, bytes]
    ) -> Mapping[DecisionKey, bytes]:
        """See `Store.add_decisions`."""
        # In the order of keys: two processes that decide about the same steps then cannot deadlock.
        keys = sorted(decisions)
        values = [
            {"run": run_id, "step": key.step, "attempt": key.attempt, "about": key.about, "record": decisions[key]}
            for key in keys
        ]  # fmt: skip

        def work(sql: Sql) -> dict[DecisionKey, bytes]:
            # The second writer of a key waits for the commit of the first one, and then adds nothing.
            is_added = [cursor.rowcount == 1 for cursor in sql.each(_DECIDE, values)]
            if all(is_added):
                sql.each(_LEAVE_DECISION, [{"run": run_id, "record": each} for each in decisions.values()])
                self._tell(sql, "decided", [run_id])
                return {}
            added = [each for each, is_new in zip(values, is_added, strict=True) if is_new]
            sql.each(f"DELETE {_OF_ATTEMPT}", added)
            standing = sql.each(f"SELECT record {_OF_ATTEMPT}", values)
            found = {key: cursor.fetchall() for key, cursor in zip(keys, standing, strict=True)}
            return {key: rows[0][0] for key, rows in found.items() if rows}

        return await self._write(work, outlives="power")

    async def list_decisions(self, run_id: str) -> Sequence[tuple[int, bytes]]:
        """See `Store.list_decisions`."""
        statement = "SELECT number, record FROM @decisions WHERE run_id=:run ORDER BY number"
        return await self._read(statement, {"run": run_id}, is_short=True)

    def list_decided(self) -> Sequence[str]:
        """See `Store.list_decided`."""
        statement = "SELECT DISTINCT run_id FROM @decisions"
        return [run_id for (run_id,) in self._query_here(lambda sql: sql.rows(statement))]

    async def drop_decisions(self, numbers: Sequence[int]) -> None:
        """See `Store.drop_decisions`."""
        # Both tables: otherwise the next decision about the attempt would be refused for the sake of one that was never taken in.
        dropped = "SELECT run_id, record FROM @decisions WHERE number IN [:numbers]"
        values = {"numbers": list(numbers)}

        def work(sql: Sql) -> None:
            sql.send(f"DELETE FROM @decided_attempts WHERE (run_id, record) IN ({dropped})", values)
            sql.send("DELETE FROM @decisions WHERE number IN [:numbers]", values)

        await self._write(work)

    # --- values

    async def find_values(self, digests: Sequence[str]) -> Mapping[str, bytes]:
        """See `Store.find_values`."""
        found: dict[str, bytes] = dict(await self._read(_FIND_VALUES, {"digests": list(digests)}))
        if missing := [name for name in digests if name not in found]:
            found |= await self.objects.find(missing, READ_BYTES)
        return found

    async def add_value(self, name: str, data: bytes, at: float) -> None:
        """See `Store.add_value`."""
        if self.keeps_objects and len(data) >= self.objects.bytes_min:
            return await self.objects.add(name, data, at)

        def work(sql: Sql) -> None:
            sql.insert("stored_values", "digest, data", [(name, data)], key="digest", large="data")
            sql.insert("saved_values", "digest, saved", [(name, float(at))], key="digest", replaces=True)

        await self._write(work, outlives="power")
        return None

    @cached_property
    def objects(self) -> ObjectValues:
        """The values that are kept outside the database."""
        return ObjectValues(self)

    @property
    def keeps_objects(self) -> bool:
        """See `Store.keeps_objects`."""
        return self.objects.target is not None

    def change_here(self, work: Callable[[Sql], T]) -> T:
        """Do some work in one transaction, on the thread that asks. A crash of the server may forget it."""
        return self._write_here(work, outlives="process")

    async def add_pieces(self, name: str, size: int, pieces: AsyncIterator[bytes], at: float) -> None:
        """See `Store.add_pieces`."""
        await self.objects.add_pieces(name, size, pieces, at)

    async def find_object(self, name: str) -> AsyncGenerator[bytes] | None:
        """See `Store.find_object`."""
        return await self.objects.find_pieces(name)

    async def add_parts(self, name: str, size: int, parts: Sequence[str], at: float) -> None:
        """See `Store.add_parts`."""
        row = (name, size, orjson.dumps(list(parts)))

        def work(sql: Sql) -> None:
            sql.insert("value_parts", "digest, size, parts", [row], key="digest")
            sql.insert("saved_values", "digest, saved", [(name, float(at))], key="digest", replaces=True)

        await self._write(work, outlives="power")

    async def find_parts(self, digests: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """See `Store.find_parts`."""
        found = await self._read(_FIND_PARTS, {"digests": list(digests)}) if digests else ()
        return {name: tuple(orjson.loads(parts)) for name, parts in found}

    async def prune_values(self, *, saved_before: float, among: frozenset[str] | None = None) -> Pruned:
        """See `Store.prune_values`."""
        await self._bring_in(results=True)
        unused = await self._apart(lambda sql: find_unused(sql, saved_before, among))
        pruned, objects = await self._apart(lambda sql: remove_unused(sql, unused))
        # Their rows are gone, so nobody reads them. An object that cannot be removed now has no row, and a later sweep removes it.
        await self.objects.remove(objects)
        count, size = await self.objects.sweep(saved_before) if among is None else (0, 0)
        return Pruned(pruned.values + count, pruned.bytes + size)

    async def find_damage(self) -> list[str]:
        """See `Store.find_damage`."""
        await self._bring_in(results=True)

        def work(sql: Sql) -> list[str]:
            rotten = self._find_rot(sql)
            with sql.snapshot():
                older = sql.stream(f"SELECT {RESULT_COLUMNS} FROM @reusable ORDER BY key")
                rotten += damaged_results(map(Reusable.from_row, older))
                rotten += missing_parts(sql)
                rotten += _damage_of_plans(sql)
                return [*rotten, *reuse_log.find_damage(sql, partial(self.objects.read_here, sql))]

        return [*await self._query(work), *await self.objects.find_damage()]

    # --- the reuse index

    async def find_reusable(self, keys: Sequence[str]) -> Mapping[str, Reusable]:
        """See `Store.find_reusable`."""
        prefixes = {"prefixes": [prefix_of(key) for key in keys]}

        def work(sql: Sql) -> dict[str, Reusable]:
            every: dict[str, bytes] = {}
            for (results,) in sql.rows(_FIND_SEGMENTS, prefixes):
                every |= lines_in(results)
            return self._read_results(sql, keys, {key: every[key] for key in keys if key in every})

        return await self._with_objects(await self._query(work)) if keys else {}

    async def _with_objects(self, results: dict[str, Reusable]) -> dict[str, Reusable]:
        """Return results; outputs that are outside the database are fetched."""
        lines = {key: each.line for key, each in results.items() if isinstance(each, _OfObject)}
        if not lines:
            return results
        values = await self.objects.find(values_in(lines.values()), VALUE_BYTES_MAX)
        return results | {key: read_result(line, values.get) for key, line in lines.items()}

    def _read_results(self, sql: Sql, keys: Sequence[str], lines: Mapping[str, bytes]) -> dict[str, Reusable]:
        """Return the results of some keys: from the lines that were found for them, else as an older version has left them."""
        named = values_in(lines.values())
        values: dict[str, bytes] = dict(sql.rows(_FIND_VALUES, {"digests": sorted(named)})) if named else {}
        outside = self._outside(sql, named.difference(values))
        results = {
            key: _OfObject(line) if outside and outside & values_in([line]) else read_result(line, values.get)
            for key, line in lines.items()
        }
        if len(lines) < len(keys) and (missing := [key for key in keys if key not in lines]):
            if self._has_older_results is None:
                self._has_older_results = bool(sql.rows("SELECT 1 FROM @reusable LIMIT 1"))
            if self._has_older_results:
                older = sql.rows(_FIND_OLDER_RESULTS, {"keys": missing})
                results |= {row[0]: Reusable.from_row(row) for row in older}
        return results

    def _outside(self, sql: Sql, digests: Collection[str]) -> set[str]:
        """Return which of these values are outside the database."""
        if not digests:
            return set()
        found = sql.rows(
            "SELECT digest FROM @stored_objects WHERE digest IN [:digests]", {"digests": sorted(digests)}
        )
        return {name for (name,) in found}

    # Whether an older version has left results in the table `reusable`; `None`: nobody has looked.
    _has_older_results: bool | None = None

    def _add_reuse(self, sql: Sql, reuse: ReuseEntries) -> None:
        """Add what calls leave, inside a transaction."""
        codes = [(digest, orjson.dumps(reuse.codes[digest])) for digest in sorted(reuse.codes)]
        segments = list(segments_of(reuse.results))
        # Stored here, too, since the records of the run that name a value may be refused. In the order of digests: two processes cannot deadlock.
        values = {digest: data for segment in segments for digest, data in segment.values.items()}
        for digest in sorted(values):
            if digest not in reuse.objects:
                sql.put("stored_values", {"digest": digest, "data": values[digest]}, large="data")
            elif (row := reuse.objects[digest]) is not None:
                _put_object(sql, row)
        if segments:
            self._add_segments(sql, segments)
        sql.insert("codes", "digest, parts", codes, key="digest")
        self._add_calls(sql, reuse.calls)

    @abstractmethod
    def _add_segments(self, sql: Sql, segments: Sequence[Segment]) -> None:
        """Append segments to the reuse log, and have their keys lead to them, inside a transaction."""

    def _add_calls(self, sql: Sql, calls: Sequence[CallRecord]) -> None:
        rows = {
            (call.run_id, call.step): (
                call.run_id,
                call.step,
                call.subject,
                float(call.started),
                call.key,
                call.kept,
                call.code,
                call.lost.replace("\0", "\ufffd"),  # which PostgreSQL cannot keep
            )
            for call in calls
        }
        ordered = [rows[place] for place in sorted(rows)]
        sql.insert("calls", CALL_COLUMNS, ordered, key="run_id, step", replaces=True)

    async def find_calls(self, run_id: str, steps: Sequence[str]) -> Mapping[str, CallRecord]:
        """See `Store.find_calls`."""
        await self._bring_in(calls=True)
        statement = f"SELECT {CALL_COLUMNS} FROM @calls WHERE run_id=:run AND step IN [:steps]"
        found = await self._read(statement, {"run": run_id, "steps": list(steps)})
        records = {row[1]: CallRecord(*row) for row in found}
        return {step: records[step] for step in steps if step in records}

    async def find_earlier_calls(
        self, subject: str, until: Mapping[str, float], *, limit: int, tenant: str = ""
    ) -> Mapping[str, Sequence[CallRecord]]:
        """See `Store.find_earlier_calls`."""
        await self._bring_in(calls=True)
        steps: list[Values] = [
            {"subject": subject, "step": step, "until": float(at), "limit": limit, "tenant": tenant}
            for step, at in until.items()
        ]
        newest: Values = {
            "subject": subject,
            "until": max(until.values(), default=0.0),
            "limit": len(until) + limit,
            "tenant": tenant,
        }

        def work(sql: Sql) -> dict[str, Sequence[CallRecord]]:
            # The newest calls of the subject are read once for all steps, and only those of the same path step by step.
            others = [CallRecord(*each) for each in sql.rows(_NEWEST_CALLS, newest)]
            made: dict[str, Sequence[CallRecord]] = {}
            for (step, at), same in zip(until.items(), sql.each(_CALLS_OF_STEP, steps), strict=True):
                first = bisect_left(others, -at, key=lambda call: -call.started)
                made[step] = [
                    *(CallRecord(*each) for each in same.fetchall()),
                    *(call for call in others[first : first + limit] if call.step != step),
                ]
            return made

        return await self._query(work)

    async def find_codes(self, digests: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        """See `Store.find_codes`."""
        statement = "SELECT digest, parts FROM @codes WHERE digest IN [:digests]"
        found = await self._read(statement, {"digests": list(digests)})
        return {digest: orjson.loads(parts) for digest, parts in found}

    async def cache_stats(self) -> CacheStats:
        """See `Store.cache_stats`."""
        await self._bring_in(calls=True, results=True)
        ((results, size, calls, *times),) = await self._read(_STATS)
        oldest = [at for at in times[:2] if at is not None]
        newest = [at for at in times[2:] if at is not None]
        return CacheStats(results, size, calls, min(oldest, default=None), max(newest, default=None))

    async def shrink_cache(self, *, before: float | None, bytes_max: int | None) -> int:
        """See `Store.shrink_cache`."""
        await self._bring_in(calls=True, results=True)

        def work(sql: Sql) -> int:
            removed = 0
            if before is not None:
                values = {"before": before}
                removed += sql.change("DELETE FROM @reusable WHERE created < :before", values)
                removed += reuse_log.shrink(sql, before)
                sql.send("DELETE FROM @calls WHERE started < :before", values)
                sql.send("DELETE FROM @codes WHERE digest NOT IN (SELECT code FROM @calls)")
                sql.send("DELETE FROM @known_plans WHERE kept < :before", values)
            if bytes_max is not None:
                left = bytes_max - sum(size for (size,) in sql.rows("SELECT size FROM @reuse_log"))
                removed += sql.change(_SHRINK_OLDER, {"bytes_max": max(0, left)})
                removed += reuse_log.shrink_to(sql, bytes_max) if left < 0 else 0
            return removed

        return await self._write(work, is_slow=True)

    async def epochs(self, resources: Sequence[str]) -> Epochs:
        """See `Store.epochs`."""
        # One query for both: between two queries a write might begin and end.
        statement = (
            "SELECT name, epoch, EXISTS (SELECT 1 FROM @open_writes WHERE resource=name) FROM @resources "
            f"WHERE name IN [:names] AND name <> '{EVERYTHING}'"
        )
        if EVERYTHING in resources:
            statement += f" UNION ALL SELECT '{EVERYTHING}', ({self.writes_in_all}), EXISTS (SELECT 1 FROM @open_writes)"
        found = await self._read(statement, {"names": list(resources)})
        count = {name: int(epoch) for name, epoch, _ in found}
        return Epochs(
            {name: count.get(name, 0) for name in resources},
            frozenset(name for name, _, is_open in found if is_open),
        )

    # --- saved plans

    async def save_plan(  # the columns and two conditions
        self,
        name: str,
        plan: str,
        digest: str,
        at: float,
        *,
        replaces: str | None = None,
        of_text: str = "",
        author: str | None = None,
    ) -> bool:
        """See `Store.save_plan`."""

        def work(sql: Sql) -> bool:
            is_saved = saved_plans.save(
                sql, name, plan, digest, at, replaces=replaces, of_text=of_text, author=author
            )
            if is_saved:
                self._tell(sql, "plans")
            return is_saved

        return await self._write(work, outlives="power")

    async def delete_plan(
        self, name: str, at: float, *, author: str, digest: str | None = None, of_text: str = ""
    ) -> bool:
        """See `Store.delete_plan`."""

        def work(sql: Sql) -> bool:
            is_deleted = saved_plans.delete(sql, name, at, author=author, digest=digest, of_text=of_text)
            if is_deleted:
                self._tell(sql, "plans")
            return is_deleted

        return await self._write(work, outlives="power")

    async def list_plan_versions(self, name: str) -> Sequence[PlanVersion]:
        """See `Store.list_plan_versions`."""
        return await self._query(lambda sql: saved_plans.list_versions(sql, name))

    async def read_plan_version(self, version: PlanVersion) -> StoredPlan | None:
        """See `Store.read_plan_version`."""
        return await self._query(lambda sql: saved_plans.read_version(sql, version))

    async def list_plans(self, tenant: str | None = None) -> Sequence[StoredPlan]:
        """See `Store.list_plans`."""
        return await self._query(lambda sql: saved_plans.list_plans(sql, tenant))

    async def list_plan_marks(self, before: str) -> Sequence[tuple[str, float, str]]:
        """See `Store.list_plan_marks`."""
        return await self._query(lambda sql: saved_plans.list_marks(sql, before))

    async def find_plan(self, name_or_digest: str, tenant: str = "") -> StoredPlan | None:
        """See `Store.find_plan`."""
        return await self._query(lambda sql: saved_plans.find_plan(sql, name_or_digest, tenant))

    async def list_pins(self, provider: str) -> Mapping[str, bytes]:
        """See `Store.list_pins`."""
        return {tool: bytes(said) for tool, said in await self._read(_LIST_PINS, {"provider": provider})}

    async def pin_tools(
        self, provider: str, said: Mapping[str, bytes], at: float, *, replaces: bool = False
    ) -> bool:
        """See `Store.pin_tools`."""
        rows = [(provider, tool, said[tool], float(at)) for tool in sorted(said)]

        # Found and pinned in one transaction: of two engines that see a provider first, one pins.
        def work(sql: Sql) -> bool:
            if replaces:
                sql.change("DELETE FROM @pinned_tools WHERE provider=:provider", {"provider": provider})
            elif sql.rows(_LIST_PINS, {"provider": provider}):
                return False
            sql.insert("pinned_tools", "provider, tool, said, pinned", rows, key="provider, tool")
            return True

        return await self._write(work, outlives="power")

    async def merge_learnt(
        self, learnt: Mapping[LearntKey, bytes], at: float, merge: Callable[[bytes, bytes], bytes]
    ) -> None:
        """See `Store.merge_learnt`."""

        def work(sql: Sql) -> None:
            # In the order of keys, so that two processes that learn of the same tools cannot deadlock.
            for key in sorted(learnt):
                row = {**key._asdict(), "learnt": learnt[key], "at": float(at)}
                if sql.change(_BEGIN_TO_LEARN, row) == 0:
                    ((kept,),) = sql.rows(f"{_FIND_LEARNT}{sql.lock}", row)
                    sql.change(_LEARN, {**row, "learnt": merge(kept, learnt[key])})
                else:
                    sql.change(_FORGET_LEARNT, {"tool": key.tool, "most": LEARNT_MAX})

        await self._write(work, is_slow=True)

    async def list_learnt(self, keys: Collection[LearntKey]) -> Mapping[LearntKey, bytes]:
        """See `Store.list_learnt`."""

        def work(sql: Sql) -> dict[LearntKey, bytes]:
            found: dict[LearntKey, bytes] = {}
            for tool in sorted({key.tool for key in keys}):
                wanted = sorted(key.fingerprint for key in keys if key.tool == tool)
                rows = sql.rows(_LIST_LEARNT, {"tool": tool, "fingerprints": wanted})
                found |= {LearntKey(tool, fingerprint): learnt for fingerprint, learnt in rows}
            return found

        return await self._query(work)

    # --- spending

    async def add_spending(self, day: str, usd: float, tokens: int) -> None:
        """See `Store.add_spending`."""
        values = {"day": day, "usd": float(usd), "tokens": tokens}
        await self._write(lambda sql: sql.send(_ADD_SPENDING, values))

    async def sum_spending(self, since: str) -> tuple[float, int]:
        """See `Store.sum_spending`."""
        ((usd, tokens),) = await self._read(_SUM_SPENDING, {"since": since})
        return float(usd), int(tokens)

    # --- keys

    async def add_api_key(self, key: ApiKey) -> None:
        """See `Store.add_api_key`."""
        values: dict[str, object] = {}
        values.update(zip(KEY_COLUMNS.split(", "), key.to_row(), strict=True))
        await self._write(lambda sql: sql.send(_ADD_API_KEY, values), outlives="power")

    async def list_api_keys(self) -> Sequence[ApiKey]:
        """See `Store.list_api_keys`."""
        found = await self._read(f"SELECT {KEY_COLUMNS} FROM @api_keys ORDER BY created, id")
        return [ApiKey.from_row(row) for row in found]

    async def find_api_key(self, key_id: str) -> ApiKey | None:
        """See `Store.find_api_key`."""
        found = await self._read(_FIND_API_KEY, {"id": key_id}, is_short=True)
        return ApiKey.from_row(found[0]) if found else None

    async def note_api_key(
        self, key_id: str, *, used: float | None = None, revoked: float | None = None
    ) -> None:
        """See `Store.note_api_key`."""
        values = {"id": key_id, "used": used, "revoked": revoked}
        await self._write(
            lambda sql: sql.send(_NOTE_API_KEY, values), outlives="process" if revoked is None else "power"
        )

    # --- uses of saved plans

    async def note_use(self, name: str, digest: str, outcome: str, run_id: str | None, at: float) -> None:
        """See `Store.note_use`."""
        values = {"name": name, "digest": digest, "outcome": outcome, "run": run_id, "at": float(at)}
        await self._write(lambda sql: sql.send(_NOTE_USE, values))

    async def count_uses(self) -> Sequence[tuple[str, str, str, int]]:
        """See `Store.count_uses`."""
        return await self._read(_COUNT_USES)


def _forget_plan(sql: Sql, run_id: str) -> None:
    """Remove the reference of a run to the text of its plan, and the text if no other run has it."""
    for (digest,) in sql.rows(_FORGET_PLAN, {"run": run_id}):
        # A statement of its own, so that the next one sees what was committed until the lock was granted.
        if sql.lock:
            sql.rows(f"{_HAS_TEXT}{sql.lock}", {"digest": digest})
        sql.send(_DROP_TEXT, {"digest": digest})


def _damage_of_plans(sql: Sql) -> list[str]:
    """Return one sentence for each text of a plan that was changed or is missing."""
    texts = sql.stream("SELECT digest, data FROM @plan_texts ORDER BY digest")
    changed = [name for name, data in texts if digest_of(bytes(data)) != name]
    return [
        *(f"the text of the plan {name} is not as it was written" for name in changed),
        *(f"the text of the plan {name} is missing" for (name,) in sql.rows(_LOST_TEXTS)),
    ]


def _removal(sql: Sql, run_id: str, statuses: Collection[str], lock: str = "") -> Removal:
    """Return whether a run may be removed now."""
    found = sql.rows(f"SELECT status FROM @runs WHERE id=:run{lock}", {"run": run_id})
    if not found:
        return Removal(None)
    statement = f"SELECT id FROM @runs WHERE parent=:run ORDER BY created, id LIMIT {CHILDREN_TOLD}"
    children = tuple(child for (child,) in sql.rows(statement, {"run": run_id}))
    status = found[0][0]
    return Removal(status, children, is_removed=status in statuses and not children)


def _refusal(sql: Sql, run_id: str, epoch: int, first_seq: int | None = None) -> StoreError:
    """Return why an owner may not write: it is the owner no more, or the store does not hold what it believes to have written."""
    found = sql.rows("SELECT epoch, last_seq, owner FROM @runs WHERE id=:run", {"run": run_id})
    if first_seq is None or not found or found[0][0] != epoch:
        return fenced(run_id, found[0][2] if found else None)
    return StoreError(
        f"run {run_id} has {found[0][1]} records in the store, and record {first_seq} was to follow: the store has lost what was "
        "not durable yet (did its server crash?); resume the run, it goes on from there",
        temporary=True,
    )


# A commit sends these again and again: the same text each time has its hash, by which its translation and its prepared form are found.


@cache
def _behind(statement: str, stands: str) -> str:
    """Return a statement that is carried out only if `stands` is true."""
    return statement.format(stands=stands)


@cache
def _raise_epochs_of(counts: str, writes: str) -> str:
    """Return the statement that raises epochs as `SqlStore.counts` says, for the writes that a part of a query selects."""
    return _RAISE_EPOCHS.format(counts=counts.format(writes=writes))


def _place(batch: Batch) -> dict[str, object]:
    """Return the values of the fence of a batch."""
    return {"run": batch.run_id, "epoch": batch.epoch, "before": batch.first_seq - 1}


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


_NOT_ITSELF: Final = str.maketrans({sign: f"!{sign}" for sign in "!%_"})
"""Signs that mean something in `LIKE`, and how they stand for themselves."""


def _place_in_list(
    status: str | None, before: tuple[float, str] | None, tenant: str, where: RunFilter
) -> tuple[list[str], dict[str, object]]:
    """Return the conditions of a list of runs that its indexes carry, and their values."""
    # One statement with `:status IS NULL OR ..` would be shorter, but SQLite would then scan the index instead of seeking in it.
    conditions, values = ["1=1"], dict[str, object]()
    if status is not None:
        conditions.append("status=:status")
        values["status"] = status
    if tenant:
        conditions.append("tenant=:tenant AND tenant<>''")  # the second part is that of the index
        values["tenant"] = tenant
    if before is not None:
        conditions.append("(created, id) < (:created, :id)")
        values["created"], values["id"] = before
    if where.since is not None:
        conditions.append("created >= :since")
        values["since"] = float(where.since)
    if where.until is not None:
        conditions.append("created < :until")
        values["until"] = float(where.until)
    return conditions, values


def _row_conditions(where: RunFilter) -> Iterator[tuple[str, str, object]]:
    """Yield the conditions of a filter that no index carries, each with the name and the value that it uses."""
    if where.plan is not None:
        yield "plan_digest=:plan", "plan", where.plan
    if where.text is not None:
        part = f"%{where.text.translate(_NOT_ITSELF)}%"
        # The database makes both small, so that both sides follow the same rule.
        yield "(lower(task) LIKE lower(:text) ESCAPE '!' OR id LIKE lower(:text) ESCAPE '!')", "text", part
    if where.usd_min is not None:
        yield "usd >= :usd_min", "usd_min", float(where.usd_min)


def _put_values(sql: Sql, batch: Batch, condition: str, values: Values) -> None:
    """Store the values of a batch, inside a transaction."""
    # In the order of digests, so that two processes that add the same values cannot deadlock.
    for digest in sorted(batch.values):
        value = {"digest": digest, "data": batch.values[digest]}
        sql.put("stored_values", value, large="data", condition=condition, values=values)
    for digest in sorted(batch.objects):
        if (row := batch.objects[digest]) is not None:
            _put_object(sql, row, condition, values)


def _put_object(sql: Sql, row: StoredObject, condition: str = "1=1", values: Values = NO_VALUES) -> None:
    """Make a digest known whose bytes are outside the database, inside a transaction."""
    columns: dict[str, object] = {}
    columns.update(zip(OBJECT_COLUMNS.split(", "), row.to_row(), strict=True))
    sql.put("stored_objects", columns, large="named", condition=condition, values=values)
