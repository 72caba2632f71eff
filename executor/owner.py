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

from .store import RunRow, Store
from .store_fault import told_fault

_LIVE: Final[
    dict[str, int]
] = {}  # owners of this process, with its number: a fork of it has them only by name


class Owner:
    """This engine, as an owner of runs in one store.

    Args:
        store: Path of the store's file; `None`: the store is in this process's memory.
    """

    def __init__(self, store: str | None) -> None:
        # By its real name: other processes may call it otherwise, and a tool may change the working directory.
        self._store = None if store is None else os.path.realpath(store)
        self.name = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._lock: FileLock | None = None
        self._held: set[str] = set()  # runs that are being claimed, or are claimed
        self._kept: dict[str, RunRow] = {}  # runs that could not be let go of: the store failed

    def acquire(self) -> None:
        """Become visible as alive. Raises: StoreError: the file beside the store cannot be made."""
        if self._store is not None:
            self._sweep(self._store)
            # Locked before it has its name: whoever finds it unlocked under its name has found a dead owner's.
            made = Path(f"{self._store}-new-{self.name}")
            self._lock = FileLock(made)
            try:
                self._lock.acquire(timeout=0)
                made.rename(_path(self._store, self.name))
            except (OSError, Timeout) as fault:
                raise told_fault(self._store, fault) from fault
        _LIVE[self.name] = os.getpid()

    def _sweep(self, store: str) -> None:
        """Take away the files of owners that were killed."""
        path = Path(store)
        for left in sorted(path.parent.glob(f"{escape(path.name)}-owner-*")):
            self.is_alive(left.name.removeprefix(f"{path.name}-owner-"))

    def release(self) -> None:
        """Stop being alive."""
        _LIVE.pop(self.name, None)
        if self._lock is not None and self._store is not None:
            _path(self._store, self.name).unlink(missing_ok=True)
            self._lock.release()
            self._lock = None

    async def claim(self, store: Store, run_id: str) -> RunRow | None:
        """Become the owner of a run that no living owner has; `None`: one has it, or there is no such run."""
        if run_id in self._held:
            return None
        self._held.add(run_id)
        row = None
        try:
            await self._let_go_of_kept(store)
            # Where the store says that this owner has it, an earlier claim or release failed in a way nobody can know of.
            row = await store.claim(
                run_id, self.name, is_alive=lambda name: name != self.name and self.is_alive(name)
            )
        finally:
            if row is None:
                self._held.discard(run_id)
        return row

    async def let_go(self, store: Store, row: RunRow) -> None:
        """Stop owning a run. Where the store fails, that is made good before the next claim. Raises: StoreError."""
        self._kept[row.id] = row
        try:
            await self._let_go_of_kept(store)
        finally:
            self._held.discard(row.id)

    async def _let_go_of_kept(self, store: Store) -> None:
        for row in list(self._kept.values()):
            await store.release(row.id, row.epoch)
            if self._kept.get(row.id) is row:
                del self._kept[row.id]

    def is_driven(self, row: RunRow) -> bool:
        """Whether a living owner has the run."""
        if row.owner == self.name:
            return row.id in self._held
        return row.owner is not None and self.is_alive(row.owner)

    def is_alive(self, name: str) -> bool:
        """Whether the owner of that name still lives."""
        if _LIVE.get(name) == os.getpid():
            return True
        if self._store is None or not (path := _path(self._store, name)).exists():
            return False
        probe = FileLock(path)
        try:
            probe.acquire(timeout=0)
        except (OSError, Timeout):
            return True
        path.unlink(missing_ok=True)
        probe.release()
        return False


def _path(store: str, name: str) -> Path:
    return Path(f"{store}-owner-{name}")
