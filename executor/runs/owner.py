"""Who drives a run, and whether that process still lives: on this machine at once, on another by its lease.

An owner is a file beside the store, locked for as long as its process lives: the operating system lets go of the lock
when the process dies, however it dies, so a dead owner is recognised at once and a stopped one (SIGSTOP) is still alive.

Another machine cannot see such locks. For its sake an owner raises a number in the store, its beat, again and again. Whoever has
watched a beat of another machine stand still for the length of a lease takes that owner for dead. No time of day is compared: each
side measures by its own clock, one that does not jump and that goes on while the machine sleeps. Before a write is called the owner
has renewed its lease, and if it cannot, the write is not called.
"""

from __future__ import annotations

import os
import secrets
import time
from glob import escape
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from ...errors import StoreError
from ..stores.store import RunRow, Store
from .host import is_same_host, this_host

LEASE_S: Final = 30.0  # how long a beat of another machine has to stand still
BEAT_S: Final = 5.0  # how often a beat is raised while runs are driven
MARGIN_S: Final = 10.0  # a write is called only while the lease has more left than this

_LIVE: Final[
    dict[str, int]
] = {}  # owners of this process, with its number: a fork of it has them only by name


def elapsed_s() -> float:
    """Return seconds since some start: they do not jump, and pass while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Owner:
    """This engine, as an owner of runs in one store.

    Args:
        store: Path of the store's file; `None`: the store is in this process's memory.
    """

    def __init__(self, store: str | None) -> None:
        # By its real name: other processes may call it otherwise, and a tool may change the working directory.
        self._store = None if store is None else os.path.realpath(store)
        self._host = this_host()
        self.name = f"{os.getpid()}-{secrets.token_hex(6)}@{self._host}"
        self._lock: FileLock | None = None
        self._held: set[str] = set()  # runs that are being claimed, or are claimed
        self._kept: dict[str, RunRow] = {}  # runs that could not be let go of: the store failed
        self._renewed = elapsed_s()
        self._seen: dict[
            str, tuple[int, float]
        ] = {}  # beats of other machines, and since when they stand still

    # --- life

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
                raise StoreError(f"cannot make a file beside the store {self._store}: {fault}") from fault
        _LIVE[self.name] = os.getpid()

    def _sweep(self, store: str) -> None:
        """Take away the files of owners of this machine that were killed."""
        path = Path(store)
        for left in sorted(path.parent.glob(f"{escape(path.name)}-owner-*")):
            name = left.name.removeprefix(f"{path.name}-owner-")
            if not self.is_elsewhere(name):
                self.is_alive(name)

    def release(self) -> None:
        """Stop being alive."""
        _LIVE.pop(self.name, None)
        if self._lock is not None and self._store is not None:
            _path(self._store, self.name).unlink(missing_ok=True)
            self._lock.release()
            self._lock = None

    # --- runs

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
                run_id, self.name, is_alive=lambda name, beat: name != self.name and self.is_alive(name, beat)
            )
        finally:
            if row is None:
                self._held.discard(run_id)
        if row is not None:
            self._renewed = elapsed_s()
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

    # --- the lease

    async def keep_beating(self, store: Store) -> None:
        """Raise the beat where that is due. Raises: StoreError: the lease has gone, or the store fails."""
        await self._renew(store, BEAT_S)

    async def expect_lease(self, store: Store) -> None:
        """Make sure that a write may be called now. Raises: StoreError: it may not."""
        await self._renew(store, LEASE_S - MARGIN_S)

    async def _renew(self, store: Store, after_s: float) -> None:
        """Raise the beat if that is so long ago."""
        began = elapsed_s()
        if self._store is None or began - self._renewed < after_s:
            return
        if not await store.raise_beat(self.name):
            raise StoreError("this process has lost its lease: another machine drives its runs now")
        self._renewed = began

    # --- others

    def is_driven(self, row: RunRow) -> bool:
        """Whether a living owner has the run."""
        if row.owner == self.name:
            return row.id in self._held
        return row.owner is not None and self.is_alive(row.owner, row.beat)

    def is_elsewhere(self, name: str) -> bool:
        """Whether an owner is a process of another machine, whose locks cannot be seen here."""
        host = name.partition("@")[2]
        return bool(host) and not is_same_host(host, self._host)

    def is_alive(self, name: str, beat: int | None = None) -> bool:
        """Whether the owner of that name still lives; of one of another machine `beat` tells, as it is in the store now."""
        if _LIVE.get(name) == os.getpid():
            return True
        if self.is_elsewhere(name):
            return self._is_beating(name, beat)
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

    def _is_beating(self, name: str, beat: int | None) -> bool:
        """Whether a beat was there and has changed within the length of a lease, as far as it was watched from here."""
        now = elapsed_s()
        if beat is None:
            self._seen.pop(name, None)
            return False
        seen_beat, since = self._seen.get(name, (-1, now))
        if seen_beat != beat:
            self._seen[name] = (beat, now)
            return True
        return now - since <= LEASE_S


def _path(store: str, name: str) -> Path:
    return Path(f"{store}-owner-{name}")
