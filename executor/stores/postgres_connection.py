"""The connections of a store to a PostgreSQL server: errors in words, one connection, the tables, a copy as a file, and the server as a whole.

Only `postgres_store.py` knows what the tables mean. psycopg is imported in these two modules, and nowhere else in the product.
"""

from __future__ import annotations

import asyncio
import os
import re
import select
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, LiteralString, ParamSpec, TypeVar

import orjson
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ...errors import StoreError
from .location import POSTGRES_FORMAT, PostgresUrl, misread
from .sqlite_file import ADDED_EVERYWHERE, sqlite_error
from .sqlite_store import SqliteStore
from .store import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Generator


# --- errors
#
# An error while connecting has no code, only a text. The text is shown as it is, with a remedy if it is a usual one.

_LOST: Final = (
    "the connection is lost; nothing is known of what was not acknowledged, and the next use connects anew"
)
# By the five letters of the SQL standard's codes, or by the first two or three of them; none at all where the server said nothing.
_CURES: Final = {
    "42501": "this user may not do that: let the owner of the tables grant it",
    "42P01": "a table of the store is missing: was it removed while the store was in use?",
    "53100": "the server's disk is full: make room; what was acknowledged before is kept",
    "53": "the server has no more room, memory or connections",
    "55P03": "another session holds locks on the store's tables: end it, and go on",
    "25006": "the server takes no writes: it is a standby, or is set to read only; name the primary",
    "22021": "a text holds a character that PostgreSQL cannot keep",
    "57P": _LOST,
    "25P03": _LOST,
    "08": _LOST,
}
# No room, a lock, a conflict of transactions, and a server that takes no writes, which a failover ends.
_TEMPORARY: Final = ("53", "55P03", "40", "25006")
# Texts of a server whose messages are in English; others are told without a cure, and as if the server were away.
_NOT_LET_IN: Final = (
    "password authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "does not exist",
)
"""The server is there, and somebody has to change a setting of one of the two sides."""
_CONNECTING: Final = (
    ("password authentication failed", "give the right password in the URL, in PGPASSWORD or in ~/.pgpass"),
    ("no password supplied", "give the password in the URL, in PGPASSWORD or in ~/.pgpass"),
    ("no pg_hba.conf entry", "let the server admit this user from here (pg_hba.conf)"),
    ("does not exist", "make it (createdb, createuser), or name another in the URL"),
    ("too many", "let the server take more connections (max_connections); each engine has two"),
    ("starting up", "wait until it is up"),
    ("resolve host", "the host's name is not known: look for a slip in the URL"),
    ("translate host name", "the host's name is not known: look for a slip in the URL"),
    ("refused", "is the server running there, and does it listen on that address and port?"),
    ("timeout", "nothing answers there: look at the host's name, and at firewalls on the way"),
    ("No such file", "its socket is not there: is the server running on this machine?"),
)

_ASKED: Final = "Is the server running"  # libpq's own advice, on a line of its own; ours says the same


def postgres_error(url: PostgresUrl, fault: Exception) -> StoreError:
    """Return the error for what a store's server, or the way to it, said."""
    said = _words(url, fault)
    state = getattr(fault, "sqlstate", None) or ""
    cure = _CURES.get(state) or _CURES.get(state[:3]) or _CURES.get(state[:2])
    if not state and isinstance(fault, psycopg.OperationalError | psycopg.InterfaceError):
        cure = _LOST
    return StoreError(
        f"the store {url.name} failed: {said}" + (f": {cure}" if cure else ""),
        temporary=cure == _LOST or state.startswith(_TEMPORARY),
    )


def connect_error(url: PostgresUrl, fault: Exception) -> StoreError:
    """Return the error for a server that was not reached, or that let nobody in."""
    said = _words(url, fault)
    cure = next((cure for text, cure in _CONNECTING if text in said), None)
    return StoreError(
        f"the store {url.name} cannot be reached: {said}" + (f": {cure}" if cure else ""),
        temporary=not any(text in said for text in _NOT_LET_IN),
    )


def _words(url: PostgresUrl, fault: Exception) -> str:
    """Return what was said, on one line; a server says more than one host or one line has to say."""
    detail = str(fault).strip() or type(fault).__name__
    lines = (line.strip() for line in detail.splitlines())
    return url.without_secrets("; ".join(line for line in lines if line and not line.startswith(_ASKED)))


# --- one connection
#
# A connection is used by one thread at a time: its own, or the thread that appends to journals. So no commit blocks the event loop. Rejected:
# psycopg's asynchronous connection. Journals are committed on a thread (`Store.append`), and at times the event loop itself waits for it.
#
# A lost connection is noticed before it is used, and made anew. A statement that was under way is a `StoreError`, as is everything that the
# server reports, and an open transaction is rolled back.


Connection = psycopg.Connection[tuple[Any, ...]]
Cursor = psycopg.Cursor[tuple[Any, ...]]
Query = LiteralString | bytes
Values = Sequence[object] | Mapping[str, object]
T = TypeVar("T")
P = ParamSpec("P")

# What a URL may say otherwise. A server that is gone without a word is noticed within half a minute, not after hours.
DEFAULTS: Final = {
    "application_name": "firmplan",
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
# Another session holds a lock: its transactions take milliseconds. A process that stands still in the middle of a transaction must
# not hold up others. Commits wait for the disk only where `durably` says so; how many disks that are is the server's to say, but
# for none: off is what the session has.
SESSION: Final = (
    "SELECT set_config('firmplan.durable', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' "
    "ELSE current_setting('synchronous_commit') END, false); "
    "SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '10s'; "
    "SET default_transaction_isolation = 'read committed'; SET synchronous_commit = off"
)
DURABLE: Final = "SELECT set_config('synchronous_commit', current_setting('firmplan.durable'), true)"
DEADLOCKS_MAX: Final = 5  # how often a transaction is tried again that the server gave up for another's sake


class PostgresLink:
    """A connection to the server at `url`, made when it is needed."""

    def __init__(self, url: PostgresUrl, thread: str) -> None:
        self._url = url
        self._name = thread
        self._thread: Executor | None = None
        self._turn = threading.Lock()
        self._db: Connection | None = None

    @property
    def is_open(self) -> bool:
        """Whether it may be used; it need not be connected at this moment."""
        return self._thread is not None

    async def open(self, prepare: Callable[[Connection], None] | None = None) -> None:
        """Connect, and do what has to be done first. Raises: StoreError."""
        self._thread = self._new_thread()
        try:
            await self.call(prepare or _nothing)
        except StoreError:
            await self.close()
            raise

    def _new_thread(self) -> Executor:
        return ThreadPoolExecutor(1, thread_name_prefix=self._name)

    async def close(self) -> None:
        """Disconnect; idempotent."""
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.get_running_loop().run_in_executor(thread, self._end)
            thread.shutdown()

    async def call(self, work: Callable[[Connection], T]) -> T:
        """Do the work on the thread. Raises: StoreError."""
        return await asyncio.get_running_loop().run_in_executor(self._open_thread(), self._guarded, work)

    def call_here(self, work: Callable[[Connection], T]) -> T:
        """Do the work on the thread that asks, once nobody else uses the connection. Raises: StoreError."""
        self._open_thread()
        return self._guarded(work)

    def _open_thread(self) -> Executor:
        if self._thread is None:
            raise StoreError(f"the store {self._url.name} is closed")
        return self._thread

    def _guarded(self, work: Callable[[Connection], T]) -> T:
        with self._turn:
            return self._tried_again(work)

    def _tried_again(self, work: Callable[[Connection], T]) -> T:
        tries = DEADLOCKS_MAX
        while True:
            try:
                return self._tried(work)
            except psycopg.errors.DeadlockDetected as fault:
                tries -= 1
                if not tries:
                    raise postgres_error(self._url, fault) from fault
            except StoreError:
                raise
            except Exception as fault:  # whatever it is, whoever waits for the store must hear of it
                raise postgres_error(self._url, fault) from fault

    def _tried(self, work: Callable[[Connection], T]) -> T:
        db = self._connected()
        try:
            return work(db)
        except BaseException:
            self._roll_back(db)
            raise

    def _roll_back(self, db: Connection) -> None:
        if db.closed:
            self._drop()
        elif db.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            with suppress(psycopg.Error):  # a server that is gone has told already
                db.rollback()

    def _connected(self) -> Connection:
        if self._db is not None and not self._is_lost(self._db):
            return self._db
        self._drop()
        self._db = connect(self._url)
        return self._db

    def _is_lost(self, db: Connection) -> bool:
        """Whether a connection that nobody uses right now is gone, or about to: a server says nothing else to a session that has asked nothing."""
        return db.closed or _is_readable(db)

    def _end(self) -> None:
        with self._turn:
            self._drop()

    def _drop(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with suppress(psycopg.Error):
                db.close()


def connect(url: PostgresUrl) -> Connection:
    """Return a new connection on which each statement is a transaction unless it stands in one. Raises: StoreError, ConfigError."""
    try:
        given = conninfo_to_dict(url.text)
    except psycopg.ProgrammingError:  # its words may hold parts of the password
        raise misread(url.text) from None
    try:
        settings = make_conninfo("", **{**DEFAULTS, **given, "client_encoding": "UTF8"})
        db: Connection = psycopg.connect(settings, autocommit=True)
    except psycopg.OperationalError as fault:
        raise connect_error(url, fault) from fault
    try:
        db.execute(SESSION)
    except psycopg.Error as fault:
        db.close()
        raise postgres_error(url, fault) from fault
    return db


def rows(db: Connection, statement: Query, values: Values = ()) -> list[tuple[Any, ...]]:
    """Return all rows of an answer. Bytes travel as they are, not as text."""
    return db.execute(statement, values, binary=True).fetchall()


@contextmanager
def in_transaction(db: Connection, *, is_durable: bool) -> Generator[None]:
    """Make what is done inside one transaction, which is sent in one go, but for what is read.

    Args:
        db: A connection on which no transaction is open.
        is_durable: Whether the transaction survives a crash of the server, and of its machine, once it is done.
    """
    # Not `db.transaction()`: in a pipeline it waits for the server's answer to its BEGIN. `PostgresLink` rolls back what fails.
    with db.pipeline():
        db.execute("BEGIN")
        if is_durable:
            db.execute(DURABLE)
        yield
        db.execute("COMMIT")


def _is_readable(db: Connection) -> bool:
    """Whether the server has said something that nobody has read, or has gone."""
    poll = select.poll()
    poll.register(db.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _nothing(_db: Connection) -> None:
    """Be connected, that is all."""


# --- notifications
#
# One session both looks things up and listens, so that listening costs no session of its own. Its thread waits for work and for the server in
# one `poll`: no other thread could read the socket while a query is under way. Notifications that arrive with the answer to a query are heard
# there. Rejected: a reader of the event loop, which would wake for every answer to a query.
#
# A notification is lost if it is sent while no session listens. So `hear` is called with `None` when a connection was lost and when another one
# listens: whoever waits then looks. A pooler may drop LISTEN without a word, so it is repeated from time to time.

_RETRY_FIRST_S: Final = 0.5  # between two attempts to connect and listen again; it doubles
_RETRY_MAX_S: Final = 15.0
RELISTEN_S: Final = 60.0  # after which an idle session says LISTEN again
# Notifications are those of a whole database, and each schema may hold a store.
CHANNEL: Final = "'firmplan_' || relnamespace FROM pg_class WHERE oid = CAST('firmplan_runs' AS regclass)"


class ListeningLink(PostgresLink):
    """A connection that also hears the notifications of the store.

    Attributes:
        is_listening: Whether notifications are heard at this moment.
    """

    def __init__(self, url: PostgresUrl, thread: str) -> None:
        super().__init__(url, thread)
        self.is_listening = False
        self._hear: Callable[[str | None], None] | None = None
        self._retry_at = 0.0
        self._retry_s = _RETRY_FIRST_S

    async def listen(self, hear: Callable[[str | None], None]) -> None:
        """Have `hear` called on the thread with each notification, and with `None` when some may have been missed. Raises: StoreError."""
        self._hear = hear
        await self.call(self._listen)

    async def close(self) -> None:
        """See `PostgresLink.close`."""
        self._hear = None  # the thread must not connect again
        await super().close()

    def _new_thread(self) -> Executor:
        return _WaitingThread(self._name, self._wait)

    def _connected(self) -> Connection:
        before = self._db
        db = super()._connected()
        if db is not before and self._hear is not None:
            self._listen(db)
        return db

    def _is_lost(self, db: Connection) -> bool:
        if not self.is_listening:
            return super()._is_lost(db)
        while not db.closed and _is_readable(db):
            if not self._has_heard(db):
                return True
        return db.closed

    def _drop(self) -> None:
        super()._drop()
        if self.is_listening:
            self.is_listening = False
            self._told(None)

    def _listen(self, db: Connection) -> None:
        """Listen on a connection. If that fails, the connection is used all the same, and the thread tries again."""
        try:
            ((channel,),) = rows(db, b"SELECT " + CHANNEL.encode())
            db.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        except (psycopg.Error, ValueError):  # no such table, or the server is going down
            self.is_listening = False
            self._retry_later()
            return
        if not self.is_listening:
            db.add_notify_handler(lambda said: self._told(said.payload))
        self.is_listening = True
        self._retry_s = _RETRY_FIRST_S
        self._told(None)

    def _told(self, payload: str | None) -> None:
        if self._hear is not None:
            self._hear(payload)

    def _retry_later(self) -> None:
        self._retry_at = time.monotonic() + self._retry_s
        self._retry_s = min(2 * self._retry_s, _RETRY_MAX_S)

    # --- while there is no work

    def _wait(self, woken: int) -> None:
        """Wait until there is work, which a byte at `woken` says, or the server has said something; return early when in doubt."""
        poll = select.poll()
        poll.register(woken, select.POLLIN)
        db, left_s = self._db, None
        if self._hear is not None:
            if self.is_listening and db is not None and not db.closed:
                poll.register(db.fileno(), select.POLLIN)
                left_s = RELISTEN_S
            else:
                left_s = max(0.0, self._retry_at - time.monotonic())
        ready = poll.poll(None if left_s is None else left_s * 1000)
        if any(fd == woken for fd, _ in ready):
            return
        with self._turn:
            if not ready:
                self._listen_again()
            elif db is self._db and db is not None and not self._has_heard(db):
                self._drop()
                self._retry_at = 0.0

    def _listen_again(self) -> None:
        try:
            if (db := self._db) is not None and not self._is_lost(db):
                self._listen(db)
            else:
                self._connected()
        except (StoreError, psycopg.Error):
            self._retry_later()

    def _has_heard(self, db: Connection) -> bool:
        """Hear what the server has said to an idle session; `False`: it has said something else, which is most often its farewell."""
        has_heard = False
        try:
            db.pgconn.consume_input()
            while (said := db.pgconn.notifies()) is not None:
                has_heard = True
                self._told(said.extra.decode(errors="replace"))
        except psycopg.Error:
            return False
        return has_heard


class _WaitingThread(Executor):
    """An executor with one thread, which waits in a way of its own while there is no work.

    Args:
        name: The name of the thread.
        wait: Waits until a byte can be read from the file descriptor that it gets, or for something else.
    """

    def __init__(self, name: str, wait: Callable[[int], None]) -> None:
        self._wait = wait
        self._work: deque[Callable[[], None]] = deque()
        self._is_waiting = False
        self._is_closing = False
        self._woken, self._waking = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._waking, False)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """See `Executor.submit`."""
        if self._is_closing:
            raise RuntimeError("the thread of the connection has ended")
        future = Future[T]()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                made = fn(*args, **kwargs)
            except BaseException as fault:  # noqa: BLE001  # whoever waits for the future gets it
                future.set_exception(fault)
            else:
                future.set_result(made)

        self._work.append(work)
        self._wake()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002  # as the class above has it
        """See `Executor.shutdown`."""
        del cancel_futures
        self._is_closing = True
        self._wake()
        if wait:
            self._thread.join()

    def _wake(self) -> None:
        # The thread says that it waits before it looks for work the last time, so that no work is left lying.
        if self._is_waiting:
            with suppress(BlockingIOError, OSError):  # it is full, or the thread has ended
                os.write(self._waking, b"\0")

    def _run(self) -> None:
        while self._next():
            pass
        os.close(self._woken)
        os.close(self._waking)

    def _next(self) -> bool:
        """Do the next work, or wait; `False`: the thread is to end."""
        if self._work:
            self._work.popleft()()
            return True
        if self._is_closing:
            return False
        self._is_waiting = True
        if not self._work and not self._is_closing:
            self._wait(self._woken)
        self._is_waiting = False
        with suppress(BlockingIOError):
            os.read(self._woken, 4096)
        return True


# --- the tables
#
# Tables are made in the first existing schema of the session's search path. If none exists, the first schema of the path is made. The names of
# all tables begin with `firmplan_`, so that a database may hold other tables as well.


SERVER_MIN: Final = 130000  # as the server counts: 13.0
_MAKING: Final = 0x6669726D706C616E  # "firmplan": whoever makes tables holds the lock of this number
# Tables that were added to the format after stores of it were made: a store without them gets them.
ADDED: Final = tuple(f"firmplan_{name}" for name in ADDED_EVERYWHERE)
# Columns of `firmplan_runs` that were added in the same way, each with its type.
ADDED_COLUMNS: Final[Mapping[str, LiteralString]] = {
    "tenant": "text COLLATE \"C\" NOT NULL DEFAULT ''",
    "usd": "double precision NOT NULL DEFAULT 0",
}
# Statements that bring a store of each format to the next format.
STEPS: Final[Mapping[int, Sequence[LiteralString]]] = {
    1: (
        "ALTER TABLE firmplan_reusable ADD COLUMN row_digest bytea NOT NULL DEFAULT ''",
        "ALTER TABLE firmplan_plans ADD COLUMN row_digest bytea NOT NULL DEFAULT ''",
        "CREATE INDEX IF NOT EXISTS firmplan_runs_by_parent ON firmplan_runs (parent) WHERE parent IS NOT NULL",
        (
            'CREATE TABLE IF NOT EXISTS firmplan_decided_attempts (run_id text COLLATE "C" NOT NULL, step text COLLATE "C" NOT NULL, '
            'attempt bigint NOT NULL, about text COLLATE "C" NOT NULL, record bytea NOT NULL, '
            "PRIMARY KEY (run_id, step, attempt, about))"
        ),
    ),
}
_HAS_COLUMN: Final = (
    "SELECT 1 FROM pg_attribute WHERE attrelid='firmplan_runs'::regclass AND attname=%s AND NOT attisdropped"
)
_HOME: Final = "SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid=c.relnamespace WHERE c.oid='firmplan_store'::regclass"
READ_ROWS: Final = 1_000  # how many rows of a large table are in memory at once


def bring_up(db: Connection, name: str) -> None:
    """Make the tables where there are none. Raises: StoreError: the store is of another format, or cannot be made."""
    _expect_server(db, name)
    if (find_format(db) or 0) < POSTGRES_FORMAT:
        _make(db, name)
    found = find_format(db)
    if found is None or found > POSTGRES_FORMAT:
        raise StoreError(
            f"the store {name} has format {found}; this firmplan reads up to {POSTGRES_FORMAT}: upgrade firmplan"
        )
    if missing := [table for table in _missing_tables(db) if table in ADDED]:
        _add_tables(db, name, missing[0])
    _expect_tables(db, name)
    for column, kind in ADDED_COLUMNS.items():
        if not rows(db, _HAS_COLUMN, (column,)):
            _add_column(db, name, column, kind)
    if missing := _missing(db, re.findall(r"CREATE INDEX (\w+)", _statements())):
        # Another user has made the tables, or the server takes no writes. Without an index a store is only slower.
        with suppress(psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction):
            _add(db, "INDEX", missing)


def find_format(db: Connection) -> int | None:
    """Return the format of the store in a database; `None`: there is no store in it."""
    if rows(db, "SELECT to_regclass('firmplan_store')") == [(None,)]:
        return None
    found = rows(db, "SELECT format FROM firmplan_store")
    return int(found[0][0]) if found else None


def _expect_server(db: Connection, name: str) -> None:
    version = db.info.server_version
    if version < SERVER_MIN:
        raise StoreError(
            f"the store {name} is on PostgreSQL {version // 10000}; expected at least {SERVER_MIN // 10000}: upgrade the server"
        )
    ((encoding,),) = rows(db, "SELECT current_setting('server_encoding')")
    if encoding != "UTF8":
        raise StoreError(
            f"the store {name}: the database keeps texts as {encoding}; expected UTF8: make one that does "
            "(createdb --encoding UTF8 --template template0), or name another"
        )


def _make(db: Connection, name: str) -> None:
    # A lock of the session, not of the transaction: what another process made meanwhile is seen by a transaction that begins later.
    db.execute("SELECT pg_advisory_lock(%s)", (_MAKING,))
    try:
        found = find_format(db)
        if found is None:
            _make_tables(db, name)
        elif found < POSTGRES_FORMAT:
            _upgrade(db, name, found)
    finally:
        db.execute("SELECT pg_advisory_unlock(%s)", (_MAKING,))


def _make_tables(db: Connection, name: str) -> None:
    schema, is_there = _schema(db)
    quoted = sql.Identifier(schema)
    try:
        with db.transaction():
            db.execute(DURABLE)
            if not is_there:
                db.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(quoted))
            db.execute(_statements().encode())
            db.execute("INSERT INTO firmplan_store VALUES (%s)", (POSTGRES_FORMAT,))
    except psycopg.errors.InsufficientPrivilege as fault:
        user = sql.Identifier(db.info.user).as_string(db)
        cure = f"GRANT CREATE ON SCHEMA {quoted.as_string(db)}" if is_there else "GRANT CREATE ON DATABASE .."
        raise StoreError(
            f"the store {name}: the user {db.info.user} may not make its tables in the schema {schema}: let the user do so "
            f"({cure} TO {user}), or name a schema of its own: ?options=-csearch_path%3DSCHEMA at the end of the URL"
        ) from fault


def _upgrade(db: Connection, name: str, found: int) -> None:
    try:
        with db.transaction():
            db.execute(DURABLE)
            ((schema,),) = rows(db, _HOME)  # the search path may name another one first
            db.execute(sql.SQL("SET LOCAL search_path TO {}").format(sql.Identifier(schema)))
            for number in range(found, POSTGRES_FORMAT):
                for statement in STEPS[number]:
                    db.execute(statement)
            db.execute("UPDATE firmplan_store SET format=%s", (POSTGRES_FORMAT,))
    except psycopg.errors.InsufficientPrivilege as fault:
        raise StoreError(
            f"the store {name} has format {found}, and the user {db.info.user} may not bring it to format {POSTGRES_FORMAT}: "
            "the tables belong to another user; run `firmplan store upgrade` as the user who made them"
        ) from fault


def _schema(db: Connection) -> tuple[str, bool]:
    """Return the schema in which tables are made, and whether it is there: the first of the search path is made where none is."""
    ((there, path, user),) = rows(db, "SELECT current_schema(), current_setting('search_path'), current_user")
    if there is not None:
        return str(there), True
    first = re.match(r'\s*(?:"((?:[^"]|"")*)"|([^\s,]+))', path)
    wanted = "public" if first is None else (first[1] or first[2] or "public").replace('""', '"')
    return str(user) if wanted == "$user" else wanted, False


def _add_tables(db: Connection, name: str, missing: str) -> None:
    """Make the tables that were added to the format, beside those that are there; a message names the missing one."""
    try:
        _add(db, "TABLE", ADDED)
    except psycopg.errors.InsufficientPrivilege as fault:
        raise StoreError(
            f"the store {name} lacks the table '{missing}', and the user {db.info.user} may not make it: run `firmplan store upgrade` as "
            "the user who made the other tables, and grant SELECT, INSERT, UPDATE and DELETE on it"
        ) from fault


def _add_column(db: Connection, name: str, column: str, kind: LiteralString) -> None:
    """Add a column to the table of runs, which was made before the column was added to the format."""
    statement = sql.SQL("ALTER TABLE firmplan_runs ADD COLUMN IF NOT EXISTS {} {}")
    try:
        with db.transaction():
            db.execute(DURABLE)
            db.execute(statement.format(sql.Identifier(column), sql.SQL(kind)))
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction) as fault:
        raise StoreError(
            f"the store {name} lacks the column 'firmplan_runs.{column}', and the user {db.info.user} may not add it: run `firmplan store upgrade` as "
            "the user who made the tables"
        ) from fault


def _add(db: Connection, what: Literal["TABLE", "INDEX"], names: Collection[str]) -> None:
    """Make tables or indexes that were added to the format, beside what is there."""
    made = [
        each
        for each in _statements().split(";")
        if (found := re.search(rf"CREATE {what} (\w+)", each)) and found[1] in names
    ]
    with db.transaction():
        db.execute(DURABLE)
        # A lock of the transaction: of several processes, one makes them.
        db.execute("SELECT pg_advisory_xact_lock(%s)", (_MAKING,))
        ((schema,),) = rows(db, _HOME)
        db.execute(sql.SQL("SET LOCAL search_path TO {}").format(sql.Identifier(schema)))
        for statement in made:
            db.execute(statement.replace(f"CREATE {what}", f"CREATE {what} IF NOT EXISTS", 1).encode())


def _missing_tables(db: Connection) -> list[str]:
    return _missing(db, re.findall(r"CREATE TABLE (\w+)", _statements()))


def _missing(db: Connection, names: Sequence[str]) -> list[str]:
    statement = (
        "SELECT t FROM unnest(%s::text[]) WITH ORDINALITY AS w(t, n) WHERE to_regclass(t) IS NULL ORDER BY n"
    )
    return [str(name) for (name,) in rows(db, statement, (list(names),))]


def _expect_tables(db: Connection, name: str) -> None:
    if missing := _missing_tables(db):
        raise StoreError(
            f"the store {name} has no table '{missing[0]}': something removed it, or the search path finds only a part of "
            "the tables; restore it from a backup, or name another schema"
        )


def _statements() -> str:
    return (files(__package__ or "") / "postgres.sql").read_text()


# --- a copy of the store
#
# A copy is a store in one SQLite file, with everything that was there at one moment. For a copy that goes back into PostgreSQL there is
# `pg_dump`, which works on these tables like on any others.


SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
# In a file, a row counts the writes on all resources.
_ADD_SUM: Final = f"INSERT INTO resources SELECT '{EVERYTHING}', sum(epoch) FROM resources WHERE 1=1 GROUP BY '{EVERYTHING}'"
COPY_ROWS: Final = 500  # how many rows are in memory at once


async def copy_into(url: PostgresUrl, path: Path) -> None:
    """Make the copy, through a connection of its own: others go on meanwhile. Raises: StoreError."""
    made = SqliteStore(path)
    await made.open()
    await made.close()
    await asyncio.to_thread(_copy_all, url, path)


def _copy_all(url: PostgresUrl, path: Path) -> None:
    try:
        with closing(connect(url)) as db, closing(sqlite3.connect(path, isolation_level=None)) as copy:
            db.execute(SNAPSHOT)
            copy.execute("BEGIN IMMEDIATE")
            for table in re.findall(r"CREATE TABLE firmplan_(\w+)", _statements()):
                if table != "store":
                    _copy(db, copy, table)
            copy.execute(_ADD_SUM)
            copy.execute("COMMIT")
            copy.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except psycopg.Error as fault:
        raise postgres_error(url, fault) from fault
    except sqlite3.Error as fault:
        raise sqlite_error(str(path), fault) from fault


def _copy(db: Connection, copy: sqlite3.Connection, table: str) -> None:
    columns = ", ".join(name for _, name, *_ in copy.execute(f"PRAGMA table_info({table})"))
    with db.cursor("copied", binary=True) as cursor:
        cursor.itersize = COPY_ROWS
        cursor.execute(f"SELECT {columns} FROM firmplan_{table}".encode())
        marks = ",".join("?" * len(columns.split(", ")))
        rows = (_plain(table, row) for row in cursor)
        copy.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)


def _plain(table: str, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a row as it stands in SQLite, where a task is a text and not JSON."""
    if table != "runs" or row[2] is None:
        return row
    return (*row[:2], orjson.loads(row[2]), *row[3:])


# --- the server
#
# A store has two connections: one commits journals, the other looks things up, does slow work and listens, so that no query waits for a commit's disk.
# The second one sees what the first has committed, durable or not: a commit is visible before it is acknowledged.


class PostgresServer:
    """The server that a URL names."""

    is_read_only = False  # whoever may not write there is told by the server, write by write

    def __init__(self, url: str) -> None:
        self._url = PostgresUrl.of(url)
        self.name = self._url.name
        self._main = PostgresLink(self._url, "firmplan-store")
        self._side = ListeningLink(self._url, "firmplan-store-look")

    async def open(self) -> None:
        """Connect, and make the tables where there are none. Raises: StoreError."""
        if self._main.is_open:
            return
        await self._main.open(lambda db: bring_up(db, self.name))
        try:
            await self._side.open()
        except BaseException:
            await self._main.close()
            raise

    async def close(self) -> None:
        """Disconnect; idempotent."""
        await self._main.close()
        await self._side.close()

    async def expect_writable(self) -> None:
        """See `Store.expect_writable`."""

    async def find_format(self) -> int | None:
        """Return the format of what is there, without making anything; `None`: there is no store. Raises: StoreError."""
        link = PostgresLink(self._url, "firmplan-store-format")
        await link.open()
        try:
            return await link.call(find_format)
        finally:
            await link.close()

    async def copy_to(self, path: Path) -> None:
        """See `Store.copy_to`: the copy is a store in one SQLite file."""
        await copy_into(self._url, path)
