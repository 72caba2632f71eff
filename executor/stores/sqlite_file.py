"""One SQLite file with a write-ahead log, its connections, its format, and its errors in words.

One connection writes. One thread at a time uses it: its own, or the thread that appends to journals. So no commit blocks the event loop. A
second connection only reads, and short queries that a run waits for use it on the event loop itself: a reader of a write-ahead log waits for
nobody and sees everything that was committed, and a trip to a thread and back costs more than the answer.

Every error of SQLite becomes a `StoreError`, and an open transaction is rolled back. This module does not know what the tables mean.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal, TypeVar

from ...errors import StoreError
from ...tools.private_file import make_private

STORE_FORMAT: Final = 2
# Statements that bring a store of each format to the next format.
STEPS: Final = {
    1: (
        "ALTER TABLE reusable ADD COLUMN row_digest BLOB NOT NULL DEFAULT x''",
        "ALTER TABLE plans ADD COLUMN row_digest BLOB NOT NULL DEFAULT x''",
    ),
}
# Tables that older firmplans neither make nor miss: a store without them gets them, and so it does indexes. Those that servers lack as well
# are listed once, for both: a table that is added to the format goes here and into both files of SQL.
ADDED_EVERYWHERE: Final = (
    *("pinned_tools", "learnt_types", "plan_versions", "api_keys", "spending", "schedules", "schedule_fires"),
    *("webhook_notices", "webhook_deliveries", "known_plans", "reuse_log", "reuse_keys", "due_runs"),
    *("value_parts", "plan_texts", "run_plans", "rate_limits", "stored_objects", "object_folders"),
    *("unfit_attempts", "store_facts"),
)
ADDED: Final = (
    *("plan_uses", "saved_values", "owners", "unsorted_calls", "decided_attempts"),
    *ADDED_EVERYWHERE,
)
ADDED_COLUMNS: Final = {
    "runs": {"tenant": "TEXT NOT NULL DEFAULT ''", "usd": "REAL NOT NULL DEFAULT 0.0"}
}  # the same, by table

INCREMENTAL: Final = 2  # SQLite's number of the mode in which a file can get smaller a portion at a time
BUSY_TIMEOUT_MS: Final = 10_000  # another process holds the file: its commits take milliseconds
# Of each connection, as far as it is needed: SQLite's own 2 MiB hold the results of 5,000 calls. With 32 MiB a run of 20,000 steps is no faster,
# and a server grows by the difference: other pages are in the memory of the system.
CACHE_KIB: Final = 8 * 1024
_TABLES: Final = "SELECT name FROM sqlite_master WHERE type='table' UNION SELECT name FROM sqlite_temp_master"

T = TypeVar("T")


class SqliteFile:
    """The SQLite file `path`, made if it is not there."""

    def __init__(self, path: str | Path) -> None:
        self.name = str(path)
        self._thread: ThreadPoolExecutor | None = None
        self._turn = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None  # none in memory: there is nothing to share
        self._synchronous = ""
        self._numbered: frozenset[str] = (
            frozenset()
        )  # tables that have row numbers: those of older stores have none
        self._copied: TemporaryDirectory[str] | None = None
        self.is_read_only = False

    # --- life

    async def open(self) -> None:
        """Open the file and bring its format up. Raises: StoreError."""
        if self._db is not None:
            return
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="firmplan-store")
        try:
            self._db = await self._call(self._connect)
        except StoreError:
            self._thread.shutdown()
            self._thread = None
            raise

    async def close(self) -> None:
        """Close the file; idempotent."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._db is not None and self._thread is not None:
            await self._call(self._db.close)
            self._thread.shutdown()
        self._db = self._thread = None
        self._forget_copy()

    async def expect_writable(self) -> None:
        """See `Store.expect_writable`."""
        await self._call(self._become_writable)

    async def copy_to(self, path: Path) -> None:
        """See `Store.copy_to`; others may write meanwhile."""

        def copy() -> None:
            make_private(path)  # SQLite takes an empty file for one that is not there
            self._sql("VACUUM INTO ?", (str(path),))

        await self._call(copy)

    def _connect(self) -> sqlite3.Connection:
        """Return a connection that writes, or a read-only connection if the medium takes no writes."""
        # A file that is not there yet counts as one that can be written: SQLite says best why it could not be made.
        if why_read_only(self.name) is None:
            return self._connect_to_write()
        db, self._copied = look_at(Path(self.name))
        try:
            self._expect_format(db)
            self._show_as_newest(db)
            self._expect_tables(db)
        except BaseException:
            db.close()
            self._forget_copy()
            raise
        self.is_read_only = True
        return db

    def _become_writable(self) -> None:
        """Reconnect if a read-only store takes writes by now. Raises: StoreError: it does not."""
        if not self.is_read_only:
            return
        why = why_read_only(self.name)
        if why is not None:
            raise StoreError(f"the store {self.name} is read-only: {why}")
        # First the new connection, then the end of the old one: if the file cannot be opened to write, the store stays readable.
        db = self._connect_to_write()
        if self._db is not None:
            self._db.close()
        self._db, self.is_read_only = db, False
        self._forget_copy()

    def _forget_copy(self) -> None:
        copied, self._copied = self._copied, None
        if copied is not None:
            copied.cleanup()

    def _connect_to_write(self) -> sqlite3.Connection:
        if self.name != ":memory:":
            make_private(self.name)  # SQLite gives its log and its index the mode of the file
        db = sqlite3.connect(self.name, isolation_level=None, check_same_thread=False)
        try:
            db.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
            db.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
            # SQLite takes the mode only before there is anything in the file; `store upgrade` rewrites older files.
            if db.execute("PRAGMA page_count").fetchone() == (0,):
                db.execute(f"PRAGMA auto_vacuum={INCREMENTAL}")
            self._migrate(db)
            _use_wal(db)
            db.execute("PRAGMA synchronous=NORMAL")
            self._numbered = numbered_tables(db)
            self._synchronous = "NORMAL"
            if self.name != ":memory:":
                self._reader = self._connect_reader()
        except BaseException:
            db.close()
            raise
        return db

    def _connect_reader(self) -> sqlite3.Connection:
        reader = sqlite3.connect(self.name, isolation_level=None, check_same_thread=False)
        reader.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        reader.execute("PRAGMA busy_timeout=0")  # the event loop waits for nobody
        reader.execute("PRAGMA query_only=1")
        return reader

    def _migrate(self, db: sqlite3.Connection) -> None:
        # One transaction, and the format is read inside it: of several processes that open an old or a new file, one brings it up.
        db.execute("BEGIN IMMEDIATE")
        found = self._expect_format(db)
        if found == 0:
            if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise StoreError(f"{self.name} is a database of something else, not a firmplan store")
            for statement in _schema().split(";"):
                db.execute(statement)
        for number in range(found or STORE_FORMAT, STORE_FORMAT):
            for statement in STEPS[number]:
                db.execute(statement)
        if found < STORE_FORMAT:
            db.execute(f"PRAGMA user_version={STORE_FORMAT}")
        # Indexes come last: they may be of tables that were just added, and a file of something else must get none.
        _add(db, "TABLE")
        self._expect_tables(db)
        for table, columns in ADDED_COLUMNS.items():
            there = _columns_of(db, table)
            for column, kind in columns.items():
                if column not in there:
                    db.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
        _add(db, "INDEX")
        db.execute("COMMIT")

    def _expect_format(self, db: sqlite3.Connection) -> int:
        """Return the format of the file; 0: the file holds no store yet. Raises: StoreError: a later version wrote the file."""
        (found,) = db.execute("PRAGMA user_version").fetchone()
        if found > STORE_FORMAT:
            raise StoreError(
                f"the store {self.name} has format {found}; this firmplan reads up to {STORE_FORMAT}: upgrade firmplan"
            )
        return int(found)

    def _show_as_newest(self, db: sqlite3.Connection) -> None:
        """Make a store that cannot be upgraded look like the newest format, by temporary views and tables of this connection."""
        # Temporary tables and views stand before those of the file when a name is looked up, so every statement works unchanged.
        there = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")}
        for statement in _schema().split(";"):
            found = re.search(r"CREATE TABLE (\w+)", statement)
            if found is not None and found[1] in ADDED and found[1] not in there:
                db.execute(statement.replace("CREATE TABLE", "CREATE TEMP TABLE", 1))
        of_step = {"row_digest": "BLOB NOT NULL DEFAULT x''"}
        for table, added in {**ADDED_COLUMNS, "reusable": of_step, "plans": of_step}.items():
            there_too = _columns_of(db, table)
            missing = [
                f"{kind.rpartition('DEFAULT ')[2]} AS {column}"
                for column, kind in added.items()
                if column not in there_too
            ]
            if there_too and missing:
                db.execute(f"CREATE TEMP VIEW {table} AS SELECT *, {', '.join(missing)} FROM main.{table}")

    def _expect_tables(self, db: sqlite3.Connection) -> None:
        """Refuse a store of a version that was never released: its format has this one's number, and other tables."""
        there = {name for (name,) in db.execute(_TABLES)}
        wanted = re.findall(r"CREATE TABLE (\w+)", _schema())
        if missing := [name for name in wanted if name not in there]:
            raise StoreError(
                f"the store {self.name} has no table '{missing[0]}': it was made by a firmplan between releases; "
                "move it away, and name a new one"
            )

    async def _call(self, work: Callable[[], T]) -> T:
        """Do the work on the store's thread; sqlite's errors become StoreErrors."""
        if self._thread is None:
            raise StoreError(f"the store {self.name} is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)

    async def _look(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Read a few rows by their keys, here and now if that is possible, else on the store's thread."""
        if self._reader is not None:
            # Busy or broken: then the other connection waits for the lock, or reports what is wrong.
            with suppress(sqlite3.Error):
                try:
                    return work(self._reader)
                # What is read there is not what was written.
                except (ValueError, LookupError, TypeError) as fault:
                    raise sqlite_error(self.name, fault) from fault
        return await self._call(lambda: work(self._open_db()))

    def _guarded(self, work: Callable[[], T]) -> T:
        """Do the work on the thread that asks, once nobody else uses the connection; errors become StoreErrors."""
        # The lock, not the executor, keeps threads apart: the thread of commits calls this directly, without a trip to the store's thread.
        with self._turn:
            try:
                return self._written(work)
            except StoreError:
                self._roll_back()
                raise
            except Exception as fault:  # whatever it is, whoever waits for the store must hear of it
                self._roll_back()
                raise sqlite_error(self.name, fault) from fault

    def _written(self, work: Callable[[], T]) -> T:
        """Do the work. If it writes and the connection is read-only, repeat it on a connection that writes, if the medium allows that by now."""
        try:
            return work()
        except sqlite3.OperationalError as fault:
            if not self.is_read_only or fault.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:
                raise
        # SQLite refuses the first statement that writes, so nothing of the work was done yet, and it may be done again.
        self._roll_back()
        self._become_writable()
        return work()

    def _roll_back(self) -> None:
        if self._db is not None and self._db.in_transaction:
            with suppress(sqlite3.Error):  # a disk that fails has told already
                self._db.rollback()

    def _open_db(self) -> sqlite3.Connection:
        if self._db is None:
            raise StoreError(f"the store {self.name} is closed")
        return self._db

    def _sql(self, statement: str, values: Sequence[object] | Mapping[str, object] = ()) -> sqlite3.Cursor:
        return self._open_db().execute(statement, values)

    def _sync(self, how: Literal["NORMAL", "FULL"]) -> None:
        """Have the next commit survive a killed process, or a power loss too."""
        # The mode is of the connection, and SQLite refuses to change it inside a transaction: it is set before each one, if it differs.
        if self._synchronous != how:
            self._sql(f"PRAGMA synchronous={how}")
            self._synchronous = how


def numbered_tables(db: sqlite3.Connection) -> frozenset[str]:
    """Return the tables whose rows have numbers, by which a value can be written in portions."""
    statement = "SELECT name FROM sqlite_master WHERE type='table' AND upper(sql) NOT LIKE '%WITHOUT ROWID%'"
    return frozenset(name for (name,) in db.execute(statement))


def format_of(path: Path) -> int:
    """Return the format of a store's file as it is, without bringing it up; 0: it holds nothing yet. Raises: StoreError."""
    try:
        db, copied = look_at(path)
        with closing(db):
            (found,) = db.execute("PRAGMA user_version").fetchone()
    except (sqlite3.Error, OSError) as fault:
        raise sqlite_error(str(path), fault) from fault
    if copied is not None:
        copied.cleanup()
    return int(found)


def look_at(path: Path) -> tuple[sqlite3.Connection, TemporaryDirectory[str] | None]:
    """Return a connection that never writes to the file, and the folder of the copy that it may need.

    SQLite reads a write-ahead log by way of a file beside it, which it cannot make on a medium that takes no writes. Without a log the file is
    all there is, and nobody changes it. With one that a killed process left, file and log are copied to where it can be made.
    """
    uri, log = path.resolve().as_uri(), Path(f"{path.resolve()}-wal")
    try:
        return _connect_to_look(f"{uri}?mode=ro"), None
    except sqlite3.OperationalError:
        if why_read_only(str(path)) is None:
            raise
    if not log.exists() or not log.stat().st_size:
        return _connect_to_look(f"{uri}?mode=ro&immutable=1"), None
    copied = TemporaryDirectory(prefix="firmplan-look-")
    try:
        for each in (path.resolve(), log):
            shutil.copyfile(each, Path(copied.name) / each.name)
        return _connect_to_look(f"{(Path(copied.name) / path.resolve().name).as_uri()}?mode=ro"), copied
    except BaseException:
        copied.cleanup()
        raise


def _connect_to_look(uri: str) -> sqlite3.Connection:
    db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    try:
        db.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        db.execute("PRAGMA temp_store=MEMORY")
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()  # only now the file is opened
    except BaseException:
        db.close()
        raise
    return db


def _use_wal(db: sqlite3.Connection) -> None:
    """Switch to a write-ahead log. SQLite waits for every lock but this one: others may be opening the same new file."""
    until = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as fault:
            if fault.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
            time.sleep(0.01)
        else:
            return


def _add(db: sqlite3.Connection, what: Literal["TABLE", "INDEX"]) -> None:
    """Make the tables, or the indexes, that were added to the format after stores of it were made."""
    for statement in _schema().split(";"):
        found = re.search(rf"CREATE {what} (\w+)", statement)
        if found is not None and (what == "INDEX" or found[1] in ADDED):
            db.execute(statement.replace(found[0], f"CREATE {what} IF NOT EXISTS {found[1]}", 1))


def _columns_of(db: sqlite3.Connection, table: str) -> list[str]:
    """Return the names of a table's columns in the file; empty: it has no such table."""
    return [row[1] for row in db.execute(f"PRAGMA main.table_info({table})")]


def _schema() -> str:
    return (files(__package__ or "") / "schema.sql").read_text()


# --- error messages
#
# SQLite says only that a file cannot be opened or written. These functions look at the file and its folder to say why, and what to do.
# They run after a failure, never before: the state of a file that was checked in advance may have changed at the next statement.


_LOCKS = Path("/proc/locks")  # of this machine; other systems tell it by a command
WORDS_MAX: Final = 4  # of the command line of a process: enough to know it by
COMMAND_MAX: Final = 200  # characters
_IDS = os.access in os.supports_effective_ids


def sqlite_error(path: str, fault: Exception) -> StoreError:
    """Return the error for a file that could not be used: which one, why, and what to do."""
    if path == ":memory:":
        return StoreError(f"the store in memory failed: {fault}")
    # A lock is looked at first: a file that another process holds is neither read-only nor broken.
    code = getattr(fault, "sqlite_errorcode", None)
    if isinstance(code, int) and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreError(f"the store {path} failed: {fault}, by {_holder(Path(path))}", temporary=True)
    if (why := why_read_only(path)) is not None:
        return StoreError(f"the store {path} is read-only: {why}")
    why = _why(Path(path)) or _by_code(fault)
    if why is None:
        return StoreError(f"the store {path} failed: {fault}")
    return StoreError(f"the store {path} cannot be used: {why}")


def why_read_only(name: str) -> str | None:
    """Return why an existing store is read-only, and what to do; `None`: the store can be written, or does not exist."""
    path = Path(name)
    if name == ":memory:" or not path.is_file() or not path.stat().st_size or not _may(path, os.R_OK):
        return None
    if _may(path, os.W_OK) and _may(path.parent, os.W_OK | os.X_OK):
        return None
    is_mounted_so = os.statvfs(path).f_flag & os.ST_RDONLY
    why = (
        "its file system is mounted read-only"
        if is_mounted_so
        else "this user may not write the file or its folder"
    )
    return f"{why}; its runs can be shown; to write, make file and folder writable, or copy the store elsewhere (firmplan store backup FILE)"


def _why(path: Path) -> str | None:
    folder = path.parent
    if path.is_dir():
        return "it is a folder; expected a file: name one in it"
    if not folder.exists():
        return f"its folder {folder} does not exist: make it (mkdir -p), or name a store elsewhere"
    if not folder.is_dir():
        return f"{folder}, which should be its folder, is a file: name a store elsewhere"
    if not _may(folder, os.W_OK | os.X_OK):
        return (
            f"this user may not write in its folder {folder.resolve()}, where further files of the store stand beside it: "
            "let the user write there, or name a store elsewhere"
        )
    if path.exists() and not _may(path, os.R_OK | os.W_OK):
        return "this user may not read and write it: let the user do so, or name another"
    return None


def _by_code(fault: Exception) -> str | None:
    match getattr(fault, "sqlite_errorcode", None):
        case sqlite3.SQLITE_NOTADB:
            return "it is a file of another kind, no store: name another"
        case sqlite3.SQLITE_FULL:
            return f"its disk is full ({fault}): make room; what was acknowledged before is kept"
        case sqlite3.SQLITE_CANTOPEN:
            return f"{fault}: its file system may not take such files, or too many are open; name a store elsewhere"
        case _:
            return None


def _may(path: Path, how: int) -> bool:
    return os.access(path, how, effective_ids=_IDS)


def _holder(path: Path) -> str:
    """Return the holder of the write lock of a file, if the system tells it, and what to do."""
    cure = "wait until it has ended its transaction, or end the process if it hangs"
    pids = _lockers(path)
    if os.getpid() in pids:
        return f"another connection of this process ({os.getpid()}); let that end its transaction"
    if pids:
        return f"{' and '.join(_named(pid) for pid in pids)}: {cure}"
    return f"another process, which `fuser -v {shlex.quote(str(path))}` or `lsof {shlex.quote(str(path))}` names: {cure}"


def _lockers(path: Path) -> list[int]:
    """Return the processes that hold SQLite's write lock, on the file or on its shared-memory file."""
    wanted: set[tuple[int, int, int]] = set()
    for file in (path, path.with_name(f"{path.name}-shm")):
        with suppress(OSError):
            found = file.stat()
            wanted.add((os.major(found.st_dev), os.minor(found.st_dev), found.st_ino))
    pids: list[int] = []
    with suppress(OSError, ValueError):
        for line in _LOCKS.read_text().splitlines():
            words = line.split()
            if "->" in words or "WRITE" not in words:  # the first waits for it, as this process did
                continue
            at = words.index("WRITE")
            major, minor, inode = words[at + 2].split(":")
            if (int(major, 16), int(minor, 16), int(inode)) in wanted and int(words[at + 1]) > 0:
                pids.append(int(words[at + 1]))
    return sorted(set(pids))


def _named(pid: int) -> str:
    """Return a process's number, and its command where the system tells."""
    words: list[str] = []
    with suppress(OSError):
        for word in (
            Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:WORDS_MAX]
        ):
            if not word or "=" in word or "://" in word:  # what follows may be a password
                break
            words.append(word)
    command = " ".join(words)[:COMMAND_MAX]
    return f"process {pid} ({command})" if command else f"process {pid}"
