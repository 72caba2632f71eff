"""One connection to a PostgreSQL server, used by one thread at a time: its own, or the one that appends to journals.

So no commit blocks the event loop. It is not psycopg's asynchronous connection, since journals are committed on a thread
(`Store.append`), for which at times the event loop itself waits.

A connection that was lost is noticed before it is used, and made anew; what was under way when it was lost is a `StoreError`. Whatever
the server says ends as one, with what was begun rolled back. What the tables mean is not known here.
"""

from __future__ import annotations

import asyncio
import select
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, LiteralString, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ...errors import StoreError
from .postgres_fault import told_connecting, told_fault
from .url import PostgresUrl, misread

if TYPE_CHECKING:
    from collections.abc import Generator

Connection = psycopg.Connection[tuple[Any, ...]]
Cursor = psycopg.Cursor[tuple[Any, ...]]
Query = LiteralString | bytes
Values = Sequence[object] | Mapping[str, object]
T = TypeVar("T")

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
        self._thread: ThreadPoolExecutor | None = None
        self._turn = threading.Lock()
        self._db: Connection | None = None

    @property
    def is_open(self) -> bool:
        """Whether it may be used; it need not be connected at this moment."""
        return self._thread is not None

    async def open(self, prepare: Callable[[Connection], None] | None = None) -> None:
        """Connect, and do what has to be done first. Raises: StoreError."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=self._name)
        try:
            await self.call(prepare or _nothing)
        except StoreError:
            await self.close()
            raise

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

    def _open_thread(self) -> ThreadPoolExecutor:
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
                    raise told_fault(self._url, fault) from fault
            except StoreError:
                raise
            except Exception as fault:  # whatever it is, whoever waits for the store must hear of it
                raise told_fault(self._url, fault) from fault

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
        if self._db is not None and not _is_lost(self._db):
            return self._db
        self._drop()
        self._db = connect(self._url)
        return self._db

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
        raise told_connecting(url, fault) from fault
    try:
        db.execute(SESSION)
    except psycopg.Error as fault:
        db.close()
        raise told_fault(url, fault) from fault
    return db


def rows(db: Connection, statement: Query, values: Values = ()) -> list[tuple[Any, ...]]:
    """Return all rows of an answer. Bytes travel as they are, not as text."""
    return db.execute(statement, values, binary=True).fetchall()


@contextmanager
def durably(db: Connection) -> Generator[None]:
    """Make what is done inside one transaction that survives a power loss once it is done. It is sent in one go, but for what is read."""
    with db.pipeline(), db.transaction():
        db.execute(DURABLE)
        yield


def _is_lost(db: Connection) -> bool:
    """Whether a connection that nobody uses right now is gone, or about to: a server says nothing else to who has asked nothing."""
    if db.closed:
        return True
    poll = select.poll()
    poll.register(db.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _nothing(_db: Connection) -> None:
    """Be connected, that is all."""
