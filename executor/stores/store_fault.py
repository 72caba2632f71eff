"""Why the file of a store cannot be opened or written, in words, and what to do: SQLite says only that it cannot.

Looks at the file and its folder as they are now, so it is asked once something failed, never before.
"""

from __future__ import annotations

import os
import shlex
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

from ...errors import StoreError

_LOCKS = Path("/proc/locks")  # of this machine; other systems tell it by a command
WORDS_MAX: Final = 4  # of the command line of a process: enough to know it by
COMMAND_MAX: Final = 200  # characters
_IDS = os.access in os.supports_effective_ids


def told_fault(path: str, fault: Exception) -> StoreError:
    """Return the error for a file that could not be used: which one, why, and what to do."""
    if path == ":memory:":
        return StoreError(f"the store in memory failed: {fault}")
    code = getattr(fault, "sqlite_errorcode", None)
    if isinstance(code, int) and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreError(f"the store {path} failed: {fault}, by {_holder(Path(path))}")
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
