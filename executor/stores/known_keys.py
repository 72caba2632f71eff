"""Which keys the reuse index in a SQLite file may have: most calls of a run are new, and that needs no look into the file.

The keys are read bit by bit, on the thread of commits. They are all as long as nobody else has written to the file since: SQLite
tells a connection of that by a number. It is asked when a run is claimed, at each commit, and while runs are driven at each look for
decisions. So a run knows all that was there when it began, and what other processes add meanwhile a moment later.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

KEYS_MAX: Final = 200_000  # some 70 bytes of memory each; in a larger index each call is looked for
PORTION: Final = 1_000  # keys read at a time: less than a millisecond
QUIET_S: Final = 1.0  # while others write again and again, there is no use in reading


class KnownKeys:
    """See the module. Keys are known by their hash: one that is not there may be looked for in vain."""

    def __init__(self) -> None:
        self._version: int | None = None
        self._changed = -QUIET_S
        self.forget()

    def forget(self) -> None:
        """Know nothing."""
        self._hashes: set[int] = set()
        self._all: set[int] | None = None  # the same, once it has all
        self._read_to = ""
        self._is_too_large = False

    def among(self, keys: Sequence[str]) -> Sequence[str]:
        """Return those of the keys that have to be looked for; on any thread."""
        known = self._all
        return keys if known is None else [key for key in keys if hash(key) in known]

    def add(self, keys: Iterable[str]) -> None:
        """Add keys that are about to be added to the index."""
        if self._is_too_large:
            return
        self._hashes.update(map(hash, keys))
        if len(self._hashes) > KEYS_MAX:
            self.forget()
            self._is_too_large = True

    def check(self, db: sqlite3.Connection) -> None:
        """Forget all if anybody but this connection has written to the file since the last time."""
        known, self._all = self._all, None
        (version,) = db.execute("PRAGMA data_version").fetchone()
        if version == self._version:
            self._all = known
            return
        if self._version is not None:
            self._changed = time.monotonic()
        self._version = version
        self.forget()

    def read_on(self, db: sqlite3.Connection) -> None:
        """Read some more keys, outside a transaction; what the file says against it is for others to hear."""
        with suppress(sqlite3.Error):
            self.check(db)
            is_quiet = time.monotonic() - self._changed >= QUIET_S
            if is_quiet and self._all is None and not self._is_too_large:
                self._read_portion(db)

    def _read_portion(self, db: sqlite3.Connection) -> None:
        statement = "SELECT key FROM reusable WHERE key > ? ORDER BY key LIMIT ?"
        keys = [key for (key,) in db.execute(statement, (self._read_to, PORTION))]
        self.add(keys)
        if self._is_too_large:
            return
        if len(keys) == PORTION:
            self._read_to = keys[-1]
            return
        version = self._version
        self.check(db)
        if version == self._version:
            self._all = self._hashes
