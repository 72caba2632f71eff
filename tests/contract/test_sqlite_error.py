"""Why a file cannot be used, who holds its lock, and whether it is read-only: told from the file as it is."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys

import pytest
from firmplan.executor.stores import sqlite_file
from firmplan.executor.stores.sqlite_file import COMMAND_MAX, WORDS_MAX, sqlite_error, why_read_only


def fault_of(code, text="it said"):
    fault = sqlite3.OperationalError(text)
    fault.sqlite_errorcode = code
    return fault


@pytest.fixture
def path(tmp_path):
    """A file of a store, and the file that its processes share."""
    for name in ("s.db", "s.db-shm"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path / "s.db"


def place_of(path):
    found = path.stat()
    return f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"


@pytest.fixture
def locks(tmp_path, monkeypatch):
    """Sets the locks that the system tells of."""

    def write(*lines):
        text = "".join(f"{number}: {line} 1073741824 1073742335\n" for number, line in enumerate(lines, 1))
        (tmp_path / "locks").write_text(text)

    monkeypatch.setattr(sqlite_file, "_LOCKS", tmp_path / "locks")
    return write


@pytest.fixture
def other():
    """Starts a process that waits, with words of one's own."""
    started = []

    def start(*words):
        code = "import sys; print(1, flush=True); sys.stdin.read()"
        command = [sys.executable, "-c", code] if not words else [sys.executable, *words]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        process.stdout.readline()
        return process

    yield start
    for process in started:
        process.communicate()


BUSY = fault_of(sqlite3.SQLITE_BUSY, "database is locked")


@pytest.mark.parametrize(
    "code", [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_BUSY_SNAPSHOT, sqlite3.SQLITE_LOCKED_SHAREDCACHE]
)  # fmt: skip
def test_who_holds_a_lock_is_told_whatever_kind_it_is(path, locks, code):
    """Where the system does not tell, the command that does."""
    locks()
    told = sqlite_error(str(path), fault_of(code, "database is locked")).message
    assert told.startswith(
        f"the store {path} failed: database is locked, by another process, which `fuser -v {path}`"
    )
    assert told.endswith("wait until it has ended its transaction, or end the process if it hangs")


def test_only_who_has_the_write_lock_is_named(path, locks, other):
    """On the file or on the one beside it, each process once, in order; not who waits for it, reads, or has locked another file."""
    one, two = sorted(other().pid for _ in range(2))
    file, shared = place_of(path), place_of(path.with_name("s.db-shm"))
    elsewhere = place_of(path.parent)
    locks(
        f"POSIX  ADVISORY  WRITE {two} {shared}",
        f"POSIX  ADVISORY  WRITE {one} {file}",
        f"POSIX  ADVISORY  WRITE {one} {shared}",
        f"-> POSIX  ADVISORY  WRITE 11 {file}",
        f"POSIX  ADVISORY  READ 12 {file}",
        f"POSIX  ADVISORY  WRITE 13 {elsewhere}",
        f"OFDLCK ADVISORY  WRITE -1 {file}",
        f"OFDLCK ADVISORY  WRITE 0 {file}",
    )
    told = sqlite_error(str(path), BUSY).message
    name = f"{sys.executable} -c"
    assert f"is locked, by process {one} ({name}) and process {two} ({name}): wait until" in told


def test_a_lock_of_this_process_is_told_as_its_own(path, locks):
    """Ending it would help nobody."""
    locks(f"POSIX  ADVISORY  WRITE {os.getpid()} {place_of(path)}")
    told = sqlite_error(str(path), BUSY).message
    assert f"by another connection of this process ({os.getpid()}); let that end its transaction" in told


def test_a_command_is_told_up_to_a_word_that_may_be_a_secret(path, locks, other, tmp_path):
    """And not past so many words and characters; of a process that is gone only its number."""
    assert (WORDS_MAX, COMMAND_MAX) == (4, 200)
    script = tmp_path / "wait.py"
    script.write_text("import sys; print(1, flush=True); sys.stdin.read()")
    long = "x" * COMMAND_MAX
    for words, told in (
        (("run", "now", "or", "never"), f"{script} run now"),
        (("run", "key=1", "now"), f"{script} run"),
        (("postgresql://a:b@c", "now"), f"{script}"),
        (("", "now"), f"{script}"),
        ((long,), f"{script} {long}"),
    ):
        pid = other(str(script), *words).pid
        locks(f"POSIX  ADVISORY  WRITE {pid} {place_of(path)}")
        command = f"{sys.executable} {told}"[:COMMAND_MAX]
        assert f"by process {pid} ({command}): wait" in sqlite_error(str(path), BUSY).message
    locks(f"POSIX  ADVISORY  WRITE {2**22 + 1} {place_of(path)}")  # more than any process has
    assert f"by process {2**22 + 1}: wait" in sqlite_error(str(path), BUSY).message


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (fault_of(sqlite3.SQLITE_NOTADB), "cannot be used: it is a file of another kind, no store"),
        (fault_of(sqlite3.SQLITE_FULL), r"cannot be used: its disk is full \(it said\)"),
        (
            fault_of(sqlite3.SQLITE_CANTOPEN),
            "cannot be used: it said: its file system may not take such files",
        ),
        (fault_of(sqlite3.SQLITE_IOERR), "failed: it said$"),
        (sqlite3.OperationalError("it said"), "failed: it said$"),
        (ValueError("it said"), "failed: it said$"),
    ],
)
def test_what_sqlite_says_is_told_with_what_to_do(path, fault, told):
    """Where nothing else is known, its own words."""
    found = sqlite_error(str(path), fault)
    assert found.message.startswith(f"the store {path} ")
    with pytest.raises(type(found), match=told):
        raise found
    assert sqlite_error(":memory:", fault).message == "the store in memory failed: it said"


def test_only_what_is_there_and_has_something_in_it_is_read_only(path, tmp_path):
    """A store that is to be made is none, and one that can be written is none."""
    (tmp_path / "empty.db").touch()
    assert [
        why_read_only(str(each))
        for each in (path, tmp_path / "empty.db", tmp_path / "no.db", tmp_path, ":memory:")
    ] == [None] * 5
