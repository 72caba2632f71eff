"""The owner of a run: the process that drives it, and how other processes decide whether it still lives.

Processes of the same machine see an owner directly (its presence: a locked file, or its process id). Processes of other machines see only
its beat, a number in the store that the owner raises again and again: if the beat stands still for the length of a lease, they take the
owner for dead. No times of day are compared. Each side measures with its own clock, which does not jump and includes the time while
the machine sleeps. The owner renews its lease before each write, and if it cannot, the write is not called.
"""

from __future__ import annotations

import asyncio
import fcntl
import math
import os
import re
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Final, Protocol

from filelock import FileLock, Timeout

from ...errors import StoreError
from ...plans.immutable import frozen
from ...tools.private_file import PRIVATE, mode_of
from ..calls.lease import Lease, elapsed_s, end_process, ends_surely
from ..limits import LEASE_S
from ..stores.location import StoreLocation
from ..stores.store import OwnerName, RunRow, Store

# How long after the end of its lease the calls of a process that ends itself are over: its timer is exact, but a command that it sent may
# still take a moment.
GONE_S: Final = 1.0
LOOK_S: Final = 0.2  # how often to check whether a process is gone
LOOKS: Final = 3  # looks at another owner's beat within the length of its lease
SEARCH_S: Final = 5.0  # the longest pause between two searches for dead owners that cannot be seen
STILL_S: Final = 1.0  # a process that stood still for longer asks the store before it calls a write


@frozen
class RunOwner:
    """The process that drives a run.

    Attributes:
        run: The run's id.
        process: Its process id and its machine, as text.
        silent_s: Seconds since its last record in the journal of the run.
        is_here: Whether it is the engine that was asked.
    """

    run: str
    process: str
    silent_s: float
    is_here: bool


class Owner:
    """This engine, as an owner of runs in one store.

    Args:
        presence: How processes of this machine see the owners of the store.
        lease_s: Length of the lease in seconds.

    Attributes:
        lease: The lease of this owner.
    """

    def __init__(self, presence: Presence, lease_s: float = LEASE_S) -> None:
        self._presence = presence
        self.name = presence.new_name(lease_s)
        self.lease = Lease(lease_s, is_needed=presence.is_leased)
        self.lease.renewed(elapsed_s())
        self._is_visible = False  # an engine that only reads the store never becomes visible
        self._held: dict[str, int] = {}  # runs that are being claimed (0), or are claimed, with their epochs
        self._kept: dict[str, RunRow] = {}  # runs to be released: now, or again after the store failed
        self._is_unsure = False  # whether a claim failed, so that the store may name this owner of a run that it does not hold
        self._releasing = asyncio.Lock()
        self._letting_go: set[asyncio.Task[None]] = set()
        # Heartbeats of owners that cannot be observed directly, and since when each stands still.
        self._seen: dict[str, tuple[int, float]] = {}
        self._gone: dict[str, float] = {}  # until when calls of owners that were overtaken may be under way

    # --- life

    def acquire(self) -> None:
        """Become visible as alive. Raises: StoreError."""
        self._presence.acquire(self.name)
        self._is_visible = True

    def release(self) -> None:
        """Stop being visible as alive, and release the lease."""
        self._presence.release(self.name)
        self.lease.close()

    async def leave(self, store: Store) -> None:
        """Let others take over at once what this owner still has as it closes, such as failed runs whose plans were being patched."""
        if self._held:
            with suppress(StoreError):  # then they wait for the end of the lease
                await store.end_beat(self.name)

    # --- runs

    async def claim(
        self,
        store: Store,
        run_id: str,
        *,
        by_force: bool = False,
        is_wanted: Callable[[RunRow], bool] | None = None,
    ) -> RunRow | None:
        """Become the owner of a run that no living owner has; `None`: another owner has it, it is not wanted, or there is no such run.

        Args:
            store: Where the run is.
            run_id: The run.
            by_force: Whether a living owner loses it.
            is_wanted: As in `Store.claim`.
        """
        former: list[tuple[str, bool]] = []  # the former owner, and whether it lives

        # The store calls this within its transaction, so that the answer is about the owner that it replaces.

        def is_alive(name: str, beat: int | None) -> bool:
            # If the store says that this owner has the run, an earlier claim or release failed with an unknown outcome.
            lives = name != self.name and self.is_alive(name, beat)
            former[:] = [(name, lives)]
            return lives and not by_force

        row = await self._hold(
            store,
            run_id,
            lambda: store.claim(run_id, self.name, is_alive=is_alive, by_force=by_force, is_wanted=is_wanted),
        )
        if row is not None:
            for name, lives in former:
                self._note_overtaken(name, lives=lives)
        return row

    async def claim_new(self, store: Store, row: RunRow, add: Callable[[RunRow], Awaitable[bool]]) -> bool:
        """Add a run to the store, whose row names this owner; return false if a run of that id is there, or is being claimed here.

        Args:
            store: Where the run will be.
            row: Its row.
            add: Adds the row; `False`: a run of that id is there.

        Raises:
            StoreError: The store cannot be written. The run may be there all the same, as if a claim of it had failed.
        """

        async def added() -> RunRow | None:
            return row if await add(row) else None

        return await self._hold(store, row.id, added) is not None

    async def _hold(
        self, store: Store, run_id: str, become: Callable[[], Awaitable[RunRow | None]]
    ) -> RunRow | None:
        """Hold a run whose owner this becomes in the store; `None`: it does not become its owner, or has the run already, or claims it right now.

        Args:
            store: Where the run is, or will be.
            run_id: The run.
            become: Has the store name this owner, and returns the run's row; `None`: the store does not.
        """
        if run_id in self._held:
            return None
        if not self._is_visible:
            await store.expect_writable()
            self.acquire()
        # Entered before the store is asked: nobody here claims the run a second time meanwhile, and `is_driven` says that it is driven.
        self._held[run_id] = 0
        row = None
        try:
            await self._let_go_of_kept(store)
            # From before the request: the store may have written the beat at any time since.
            began = elapsed_s()
            row = await become()
        except BaseException:
            self._is_unsure = True  # the store may have done it all the same
            raise
        finally:
            if row is None:
                self._held.pop(run_id, None)
        if row is not None:
            self._held[run_id] = row.epoch
            self.lease.renewed(began)
        return row

    def _note_overtaken(self, name: str, *, lives: bool) -> None:
        """Note until when calls may be in flight of an owner that just lost a run to this owner."""
        # The heartbeat stood still since then; if the run was taken by force, the beat may have been raised right before.
        since = elapsed_s() if lives or name not in self._seen else self._seen[name][1]
        self._gone[name] = since + OwnerName.of(name).lease_s + GONE_S

    async def let_go(self, store: Store, row: RunRow) -> None:
        """Release a run. If the store fails, the release is repeated before the next claim. Raises: StoreError."""
        self._kept[row.id] = row
        try:
            await self._let_go_of_kept(store)
        finally:
            self._held.pop(row.id, None)

    def let_go_beside(self, store: Store, row: RunRow) -> asyncio.Task[None]:
        """Release a run in the background; if the store fails, the release is repeated later."""
        task = asyncio.get_running_loop().create_task(self._let_go_quietly(store, row))
        self._letting_go.add(task)
        task.add_done_callback(self._letting_go.discard)
        return task

    async def _let_go_quietly(self, store: Store, row: RunRow) -> None:
        with suppress(StoreError):  # the run itself is complete in the journal
            await self.let_go(store, row)

    async def wait(self) -> None:
        """Wait until this event loop has released the runs that it is releasing."""
        loop = asyncio.get_running_loop()
        if here := [task for task in self._letting_go if task.get_loop() is loop]:
            await asyncio.wait(here)

    def has(self, run_id: str) -> bool:
        """Whether this owner has a run, or is about to claim the run."""
        return run_id in self._held

    def forget(self, run_id: str) -> None:
        """Note that the store has released a run with its last record (`Batch.releases`)."""
        self._held.pop(run_id, None)

    async def _let_go_of_kept(self, store: Store) -> None:
        """Release all kept runs in one transaction. Runs that are kept meanwhile share the next one."""
        if not self._kept:
            return
        async with self._releasing:
            rows = dict(self._kept)
            if not rows:  # the transaction that held the lock has released them, too
                return
            await store.release({row.id: row.epoch for row in rows.values()})
            for run_id, row in rows.items():
                if self._kept.get(run_id) is row:
                    del self._kept[run_id]

    # --- the lease

    @property
    def is_beat_due(self) -> bool:
        """Whether the beat has to be raised. Safe on any thread."""
        return self._is_older_than(self.lease.beat_s)

    @property
    def beat_due_in_s(self) -> float:
        """Return in how many seconds the beat has to be raised; `inf`: never. Safe on any thread."""
        if self._presence.is_alone:
            return math.inf
        return self.lease.beat_s - self.lease.age_s(elapsed_s())

    async def keep_beating(self, store: Store) -> None:
        """Raise the beat if it is due. Raises: StoreError: the lease is lost, or the store failed."""
        await self._renew(store, self.lease.beat_s)

    async def expect_lease(self, store: Store, since: float) -> None:
        """Make sure that this process still has its lease, so that a write may be called.

        Args:
            store: Where the runs are.
            since: When the write's intent was handed to the store, by `elapsed_s`: if this process has stood still since, the run may
                have been taken from it.

        Raises:
            StoreError: The write may not be called.
        """
        has_stood_still = elapsed_s() - since > STILL_S
        await self._renew(store, 0 if has_stood_still else self.lease.length_s - self.lease.margin_s)

    async def _renew(self, store: Store, after_s: float) -> None:
        """Raise the beat if the last renewal is that long ago."""
        began = elapsed_s()
        if not self._is_older_than(after_s):
            return
        # Take the time before the beat is raised: a process that takes a run by force later counts from the beat.
        lost = await self._find_lost(store)
        if not await store.raise_beat(self.name):
            self._end_if(self.lease.guarded)
            raise StoreError(
                "this process has lost its lease: another process drives its runs now", temporary=True
            )
        self._end_if(lost)
        self.lease.renewed(began)

    async def _find_lost(self, store: Store) -> list[str]:
        """Return the runs that were taken from this owner while a write of the run is in flight here."""
        if not (guarded := self.lease.guarded):
            return []
        owned = await store.list_owned(self.name)
        return [run_id for run_id in guarded if self._held.get(run_id) != owned.get(run_id)]

    def _end_if(self, lost: Iterable[str]) -> None:
        """End this process if one of these runs is in the middle of a write."""
        if named := sorted(set(lost) & set(self.lease.guarded)):
            end_process(f"run {named[0]} was taken from this process while a write of it is under way")

    def _is_older_than(self, age_s: float) -> bool:
        """Whether the lease, if one is needed, was last renewed that long ago."""
        return not self._presence.is_alone and self.lease.is_older_than(age_s, elapsed_s())

    # --- others

    def is_driven(self, row: RunRow) -> bool:
        """Whether a living owner has the run. This owner counts as soon as it starts to claim it, since the row may have been read before that."""
        if row.id in self._held or row.owner == self.name:
            return row.id in self._held
        return row.owner is not None and self.is_alive(row.owner, row.beat)

    def is_anothers(self, row: RunRow) -> bool:
        """Whether another living owner has the run."""
        return row.id not in self._held and self.is_driven(row)

    async def find_survivor(self, names: Iterable[str]) -> str | None:
        """Return a former owner that no lease ends and whose calls may still be in flight; `None`: there is no such owner.

        Waits for the owners that end by themselves.
        """
        for name in names:
            while (left_s := self._outlives_s(name)) > 0:
                if left_s == math.inf:
                    return str(OwnerName.of(name))
                await asyncio.sleep(min(left_s, LOOK_S))
        return None

    def may_survive(self, names: Iterable[str]) -> bool:
        """Whether a call of one of these former owners may still be in flight."""
        return any(self._outlives_s(name) > 0 for name in names)

    def _outlives_s(self, name: str) -> float:
        """Return for how many seconds calls of a former owner may still be in flight; `inf`: unknown."""
        if name == self.name or self._presence.sees(name) is False:
            return 0
        known = OwnerName.of(name)
        if not (known.ends_surely and self._presence.is_leased):
            return math.inf
        until = self._gone.setdefault(name, elapsed_s() + known.lease_s + GONE_S)
        return max(0.0, until - elapsed_s())

    def is_gone(self, row: RunRow) -> bool:
        """Whether the owner of a run is seen to be dead, without a look at the store."""
        return row.owner is not None and row.owner != self.name and self._presence.sees(row.owner) is False

    def is_owner_gone(self, name: str) -> bool:
        """Whether another owner is seen to be dead, without a look at the store."""
        return name != self.name and self._presence.sees(name) is False

    async def find_lost(self, store: Store) -> tuple[list[RunRow], list[str]]:
        """Return the runs of dead owners, and those that this owner has no more, without headers; and the names of the other owners, which live.

        The rows of runs whose owner lives are not read: there are many. Notes the beats of all owners. Raises: StoreError.
        """
        beats = await store.list_owners()
        living = [name for name, beat in beats.items() if name != self.name and self.is_alive(name, beat)]
        silent = sorted(beats.keys() - {self.name, *living})
        # The store may name this owner of a run that it does not hold, but only after a claim or a release whose outcome is not known.
        is_unsure, self._is_unsure = self._is_unsure or bool(self._kept), False
        if is_unsure and self.name in beats:
            silent.append(self.name)
        try:
            rows = await store.list_driven(silent) if silent else ()
        except BaseException:
            self._is_unsure = self._is_unsure or is_unsure
            raise
        lost = [row for row in rows if not self.is_driven(row)]
        # Until somebody has claimed them, the next look has to find them, too.
        self._is_unsure = self._is_unsure or any(row.owner == self.name for row in lost)
        return lost, living

    def look_s(self, row: RunRow) -> float:
        """Return the longest pause between two looks at the beat of the owner of a run, for one who must notice when its lease has ended."""
        return OwnerName.of(row.owner).lease_s / LOOKS if row.owner is not None else math.inf

    @property
    def beat_pause_s(self) -> float:
        """Return the pause between two searches for owners whose beat stands still; 0: each owner is seen directly, and no beat is looked at."""
        return min(self.lease.beat_s, SEARCH_S) if self._presence.is_leased else 0.0

    def is_elsewhere(self, name: str) -> bool:
        """Whether an owner cannot be seen from this machine, so that only its beat shows whether it lives."""
        return self._presence.sees(name) is None

    def is_alive(self, name: str, beat: int | None = None) -> bool:
        """Whether an owner still lives. If it cannot be seen from here, `beat`, its present value in the store, decides."""
        seen = self._presence.sees(name)
        return self._is_beating(name, beat) if seen is None else seen

    def _is_beating(self, name: str, beat: int | None) -> bool:
        """Whether the beat has changed within the length of a lease, as far as this process has watched it."""
        now = elapsed_s()
        if beat is None:
            self._seen.pop(name, None)
            return False
        seen_beat, since = self._seen.get(name, (-1, now))
        if seen_beat != beat:
            self._seen[name] = (beat, now)
            return True
        return now - since <= OwnerName.of(name).lease_s


# --- the machine
#
# Processes see each other's locks if one kernel runs them. Containers of one machine have the boot id of the kernel in common; a machine that
# was rebooted keeps its name. So two names mean one machine if either part is equal. `FIRMPLAN_HOST` names a machine whose name is not unique.

HOST_ENV: Final = "FIRMPLAN_HOST"
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


def this_host() -> str:
    """Return the name and the boot id of this machine, fit for the name of a file; the boot id is empty if it is unknown or `FIRMPLAN_HOST` is set."""
    if given := os.environ.get(HOST_ENV):
        return f"{_plain(given)}~"
    boot = ""
    with suppress(OSError):
        boot = _BOOT.read_text().strip()[:8]
    return f"{_plain(socket.gethostname())}~{boot}"


def is_same_host(one: str, other: str) -> bool:
    """Whether two names mean the same machine."""
    (name, _, boot), (other_name, _, other_boot) = one.partition("~"), other.partition("~")
    return name == other_name or (bool(boot) and boot == other_boot)


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "-", name)[:64]


# --- presence: how processes of the same machine see an owner
#
# A store in a file: each owner is a file beside the store that its process has locked. The operating system releases the lock when the process
# dies, however it dies, so a dead owner is recognised immediately, and a stopped one (SIGSTOP) still counts as alive.
#
# A store on a server: an owner is named by its process id and start time. Processes that see the same ids notice immediately that it is gone. A
# live process proves nothing (its engine may be closed), so then its beat decides, as for other machines. The server is not asked who
# is connected: a connection ends with its process, but also when the server restarts or the network fails, and the owner may be in the
# middle of a write then.


_LIVE: Final[
    dict[str, int]
] = {}  # owners of this process, with its number: a fork of it has them only by name
_PROC: Final = Path("/proc")


class Presence(Protocol):
    """What makes one owner visible to others, and others to it.

    Attributes:
        is_alone: Whether no other process can open the store, so that no lease is needed.
        is_leased: Whether processes on the same machine take runs over at the end of the lease, even if the owner lives.
    """

    is_alone: bool
    is_leased: bool

    def new_name(self, lease_s: float) -> str:
        """Return a name for an owner of this process, whose lease has that length."""
        ...

    def acquire(self, name: str) -> None:
        """Make an owner of this process visible as alive. Raises: StoreError."""
        ...

    def release(self, name: str) -> None:
        """Stop showing an owner as alive; idempotent."""
        ...

    def sees(self, name: str) -> bool | None:
        """Whether an owner lives; `None`: this process cannot know."""
        ...


def presence_of(location: StoreLocation) -> Presence:
    """Return how the owners of a store see each other."""
    if location.is_shared:
        return ProcessPresence()
    return MemoryPresence() if location.path is None else LockFilePresence(location.path)


class MemoryPresence:
    """Owners of a store in memory: all of them are in this process."""

    is_alone = True
    is_leased = False

    def new_name(self, lease_s: float) -> str:
        """See `Presence.new_name`."""
        return _name(str(os.getpid()), lease_s, ends=False)

    def acquire(self, name: str) -> None:
        """See `Presence.acquire`."""
        _LIVE[name] = os.getpid()

    def release(self, name: str) -> None:
        """See `Presence.release`."""
        _LIVE.pop(name, None)

    def sees(self, name: str) -> bool | None:
        """See `Presence.sees`."""
        return _is_own(name)


class LockFilePresence(MemoryPresence):
    """Owners of a store in a file: each locks a file beside the store."""

    is_alone = False

    def __init__(self, store: str) -> None:
        # The real path: other processes may use another name for the file, and a tool may change the working directory.
        self._store = os.path.realpath(store)
        self._host = this_host()
        self._locks: dict[str, FileLock] = {}

    def acquire(self, name: str) -> None:
        """See `Presence.acquire`. Raises: StoreError: the file beside the store cannot be made."""
        self._sweep()
        # The file is locked before it gets its final name, so that an unlocked file of that name belongs to a dead owner.
        made = Path(f"{self._store}-new-{name}")
        lock = self._locks[name] = FileLock(made, mode=self._mode())
        try:
            lock.acquire(timeout=0)
            made.rename(self._path(name))
        except (OSError, Timeout) as fault:
            raise StoreError(f"cannot make a file beside the store {self._store}: {fault}") from fault
        super().acquire(name)

    def _sweep(self) -> None:
        """Remove the files of killed owners of this machine."""
        path = Path(self._store)
        for left in sorted(path.parent.glob(f"{escape(path.name)}-owner-*")):
            self.sees(left.name.removeprefix(f"{path.name}-owner-"))

    def release(self, name: str) -> None:
        """See `Presence.release`."""
        super().release(name)
        if (lock := self._locks.pop(name, None)) is not None:
            self._path(name).unlink(missing_ok=True)
            lock.release()

    def sees(self, name: str) -> bool | None:
        """See `Presence.sees`. Locks of other machines cannot be tested."""
        if _is_own(name):
            return True
        if _is_elsewhere(name, self._host):
            return None
        path = self._path(name)
        if not path.exists():
            return False
        probe = FileLock(path, mode=self._mode())
        try:
            probe.acquire(timeout=0)
        except Timeout:
            return True
        except OSError:  # the folder is read-only, at least for this user
            return _is_locked(path)
        path.unlink(missing_ok=True)
        probe.release()
        return False

    def _mode(self) -> int:
        """Return the mode of the store, so that whoever may use the store may test the locks."""
        return mode_of(self._store) & 0o666 | PRIVATE

    def _path(self, name: str) -> Path:
        return Path(f"{self._store}-owner-{name}")


class ProcessPresence(MemoryPresence):
    """Owners of a store on a server: processes are known by their id and start time, and nothing is written anywhere."""

    is_alone = False
    is_leased = True

    def __init__(self) -> None:
        self._host = this_host()

    def new_name(self, lease_s: float) -> str:
        """See `Presence.new_name`."""
        return _name(".".join(_process()), lease_s, ends=ends_surely())

    def sees(self, name: str) -> bool | None:
        """See `Presence.sees`. A live process proves nothing (its engine may be closed), so the answer is then `None`."""
        if _is_own(name):
            return True
        pid, _, rest = name.partition("@")[0].rpartition("-")[0].partition(".")
        start, _, space = rest.partition(".")
        own = _process()
        if _is_elsewhere(name, self._host) or space != own[2] or not pid.isdecimal():
            return None
        if (pid, start) == own[:2]:
            return False  # an owner of this process, which has been released
        return None if _is_running(int(pid), start) else False


def _is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a read-only file; if the lock cannot be tested, it counts as held."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def _name(process: str, lease_s: float, *, ends: bool) -> str:
    kind = "k" if ends else "l"
    return f"{process}-{kind}{round(lease_s * 1000)}x{secrets.token_hex(6)}@{this_host()}"


def _is_own(name: str) -> bool:
    return _LIVE.get(name) == os.getpid()


def _is_elsewhere(name: str, here: str) -> bool:
    host = name.partition("@")[2]
    return bool(host) and not is_same_host(host, here)


def _process() -> tuple[str, str, str]:
    """Return the id of this process, its start time, and its namespace of process ids: containers of one machine have their own ids."""
    space = ""
    with suppress(OSError):
        space = str((_PROC / "self/ns/pid").stat().st_ino)
    pid = os.getpid()
    return str(pid), (_state(pid) or ("", ""))[1], space


def _is_running(pid: int, start: str) -> bool:
    """Whether such a process may be alive; a zombie, which has ended without being waited for, is not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # the process belongs to another user
        pass
    found = _state(pid)
    return found is None or (found[0] not in "ZX" and start in ("", found[1]))


def _state(pid: int) -> tuple[str, str] | None:
    """Return the state of a process (one letter) and its start time, if the system has `/proc`."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None
    return (fields[0], fields[19]) if len(fields) > 19 else None
