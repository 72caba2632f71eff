"""Why the file of a store cannot be opened or written, in words, and what to do: SQLite says only that it cannot.

Looks at the file and its folder as they are now, so it is asked once something failed, never before.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from ...errors import StoreError

_IDS = os.access in os.supports_effective_ids


def told_fault(path: str, fault: Exception) -> StoreError:
    """Return the error for a file that could not be used: which one, why, and what to do."""
    if path == ":memory:":
        return StoreError(f"the store in memory failed: {fault}")
    if (why := why_read_only(path)) is not None:
        return StoreError(f"the store {path} is read-only: {why}")
    why = _why(Path(path)) or _by_code(fault)
    if why is None:
        return StoreError(f"the store {path} failed: {fault}")
    return StoreError(f"the store {path} cannot be used: {why}")


def why_read_only(name: str) -> str | None:
    """Return why a store that is there can be read and not written, and what to do; `None`: it can be written, or is not there."""
    path = Path(name)
    if name == ":memory:" or not path.is_file() or not path.stat().st_size or not _may(path, os.R_OK):
        return None
    if _may(path, os.W_OK) and _may(path.parent, os.W_OK | os.X_OK):
        return None
    is_mounted_so = os.statvfs(path).f_flag & os.ST_RDONLY
    why = (
        "its file system is mounted so"
        if is_mounted_so
        else "this user may not write it, or not in its folder"
    )
    return f"{why}; its runs can be looked at; to write, make that possible, or copy the store elsewhere (firmplan store backup FILE)"


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
