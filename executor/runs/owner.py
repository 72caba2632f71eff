"""Who drives a run, and whether that process still lives: on this machine at once, on another by its lease.

What can be seen of an owner on this machine is `presence.py`. Another machine sees nothing of it. For its sake an owner raises a number
in the store, its beat, again and again. Whoever has watched a beat that stands still for the length of a lease takes that owner for
dead. No time of day is compared: each side measures by its own clock, one that does not jump and that goes on while the machine sleeps.
Before a write is called the owner has renewed its lease, and if it cannot, the write is not called.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Final

from ...errors import StoreError
from ..stores.store import RunRow, Store
from .presence import Presence

LEASE_S: Final = 30.0  # how long a beat of another machine has to stand still
BEAT_S: Final = 5.0  # how often a beat is raised while runs are driven
MARGIN_S: Final = 10.0  # a write is called only while the lease has more left than this


def elapsed_s() -> float:
    """Return seconds since some start: they do not jump, and pass while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Owner:
    """This engine, as an owner of runs in one store.

    Args:
        presence: How owners of the store are seen.
    """

    def __init__(self, presence: Presence) -> None:
        self._presence = presence
        self.name = presence.new_name()
        self._is_visible = False  # nobody is where a store can only be looked at
        self._held: set[str] = set()  # runs that are being claimed, or are claimed
        self._kept: dict[str, RunRow] = {}  # runs to be released: now, or again after the store failed
        self._releasing = asyncio.Lock()
        self._letting_go: set[asyncio.Task[None]] = set()
        self._renewed = elapsed_s()
        self._seen: dict[
            str, tuple[int, float]
        ] = {}  # beats of those that are not seen, and since when they stand still

    # --- life

    def acquire(self) -> None:
        """Become visible as alive. Raises: StoreError."""
        self._presence.acquire(self.name)
        self._is_visible = True

    def release(self) -> None:
        """Stop being alive."""
        self._presence.release(self.name)

    # --- runs

    async def claim(self, store: Store, run_id: str) -> RunRow | None:
        """Become the owner of a run that no living owner has; `None`: one has it, or there is no such run."""
        if run_id in self._held:
            return None
        if not self._is_visible:
            await store.expect_writable()
            self.acquire()
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

    def let_go_beside(self, store: Store, row: RunRow) -> asyncio.Task[None]:
        """Stop owning a run, while others go on; where the store fails, that is made good later."""
        task = asyncio.get_running_loop().create_task(self._let_go_quietly(store, row))
        self._letting_go.add(task)
        task.add_done_callback(self._letting_go.discard)
        return task

    async def _let_go_quietly(self, store: Store, row: RunRow) -> None:
        with suppress(StoreError):  # what happened stands in the journal
            await self.let_go(store, row)

    async def wait(self) -> None:
        """Wait until all is let go of that is to be, as far as this event loop does it."""
        loop = asyncio.get_running_loop()
        if here := [task for task in self._letting_go if task.get_loop() is loop]:
            await asyncio.wait(here)

    def has(self, run_id: str) -> bool:
        """Whether this owner has a run, or is about to claim it."""
        return run_id in self._held

    def forget(self, run_id: str) -> None:
        """Count a run as let go of: the store has released it with its last record (`Batch.releases`)."""
        self._held.discard(run_id)

    async def _let_go_of_kept(self, store: Store) -> None:
        """Release all kept runs in one transaction. Runs that are kept meanwhile share the next one."""
        if not self._kept:
            return
        async with self._releasing:
            rows = dict(self._kept)
            if not rows:  # the transaction that was waited for had them
                return
            await store.release({row.id: row.epoch for row in rows.values()})
            for run_id, row in rows.items():
                if self._kept.get(run_id) is row:
                    del self._kept[run_id]

    # --- the lease

    @property
    def is_beat_due(self) -> bool:
        """Whether the beat is to be raised; asked on any thread."""
        return self._is_older_than(BEAT_S)

    async def keep_beating(self, store: Store) -> None:
        """Raise the beat where that is due. Raises: StoreError: the lease has gone, or the store fails."""
        await self._renew(store, BEAT_S)

    async def expect_lease(self, store: Store) -> None:
        """Make sure that a write may be called now. Raises: StoreError: it may not."""
        await self._renew(store, LEASE_S - MARGIN_S)

    async def _renew(self, store: Store, after_s: float) -> None:
        """Raise the beat if that is so long ago."""
        began = elapsed_s()
        if not self._is_older_than(after_s):
            return
        if not await store.raise_beat(self.name):
            raise StoreError("this process has lost its lease: another machine drives its runs now")
        self._renewed = began

    def _is_older_than(self, age_s: float) -> bool:
        """Whether the lease, if one is needed, was last renewed that long ago."""
        return not self._presence.is_alone and elapsed_s() - self._renewed >= age_s

    # --- others

    def is_driven(self, row: RunRow) -> bool:
        """Whether a living owner has the run, or this one is about to: the row may have been read before."""
        if row.id in self._held or row.owner == self.name:
            return row.id in self._held
        return row.owner is not None and self.is_alive(row.owner, row.beat)

    def is_elsewhere(self, name: str) -> bool:
        """Whether an owner cannot be seen from here, so that its beat alone tells of it."""
        return self._presence.sees(name) is None

    def is_alive(self, name: str, beat: int | None = None) -> bool:
        """Whether the owner of that name still lives; of one that cannot be seen `beat` tells, as it is in the store now."""
        seen = self._presence.sees(name)
        return self._is_beating(name, beat) if seen is None else seen

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
