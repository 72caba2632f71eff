"""Who drives a run on this machine, and whether that process still lives.

An owner is a file beside the store, locked for as long as its process lives: the operating system lets go of the lock
when the process dies, however it dies, so a dead owner is recognised at once and a stopped one (SIGSTOP) is still alive.
"""

from __future__ import annotations

import os
import secrets
from glob import escape
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from ..errors import StoreError
from .store import RunRow, Store

_LIVE: Final[set[str]] = set()  # owners of this process: the only ones of stores that no other process sees


class Owner:
    """This engine, as an owner of runs in one store.

    Args:
        store: Path of the store's file; `None`: the store is in this process's memory.
    """

    def __init__(self, store: str | None) -> None:
        self._store = store
        self.name = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._lock: FileLock | None = None

    def acquire(self) -> None:
        """Become visible as alive. Raises: StoreError: the file beside the store cannot be made."""
        _LIVE.add(self.name)
        if self._store is None:
            return
        self._sweep(self._store)
        self._lock = FileLock(_path(self._store, self.name))
        try:
            self._lock.acquire(timeout=0)
        except (OSError, Timeout) as fault:
            raise StoreError(f"cannot make a file beside the store {self._store}: {fault}") from fault

    def _sweep(self, store: str) -> None:
        """Take away the files of owners that were killed."""
        path = Path(store)
        for left in sorted(path.parent.glob(f"{escape(path.name)}-owner-*")):
            self.is_alive(left.name.removeprefix(f"{path.name}-owner-"))

    def release(self) -> None:
        """Stop being alive."""
        _LIVE.discard(self.name)
        if self._lock is not None and self._store is not None:
            self._lock.release()
            _path(self._store, self.name).unlink(missing_ok=True)
            self._lock = None

    async def claim(self, store: Store, run_id: str) -> RunRow | None:
        """Become the owner of a run that no living owner has; `None`: one has it, or there is no such run."""
        return await store.claim(run_id, self.name, is_alive=self.is_alive)

    def is_alive(self, name: str) -> bool:
        """Whether the owner of that name still lives."""
        if name in _LIVE:
            return True
        if self._store is None or not (path := _path(self._store, name)).exists():
            return False
        probe = FileLock(path)
        try:
            probe.acquire(timeout=0)
        except (OSError, Timeout):
            return True
        probe.release()
        path.unlink(missing_ok=True)
        return False


def _path(store: str, name: str) -> Path:
    return Path(f"{store}-owner-{name}")
