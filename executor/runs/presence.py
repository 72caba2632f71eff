"""How the owners of a store are seen to live by others of the same machine, where anything is seen at all.

Beside a file, an owner is a file that its process has locked: the operating system lets go of the lock when the process dies,
however it dies, so a dead owner is recognised at once and a stopped one (SIGSTOP) is still alive.

Of a store on a server nothing stands on a disk here. An owner is a process with its number and the time at which it started: that it
is gone is seen at once by processes that see the same numbers. That it is there says little (it may have closed its engine), so then its
beat tells, as it does of other machines. The server is not asked who is connected: a connection ends with its process, but
also when a server starts anew or a line fails, while the owner is in the middle of a write.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Final, Protocol

from filelock import FileLock, Timeout

from ...errors import StoreError
from ..calls.lease import ends_surely
from ..stores.location import StoreLocation
from .host import is_same_host, this_host

_LIVE: Final[
    dict[str, int]
] = {}  # owners of this process, with its number: a fork of it has them only by name
_PROC: Final = Path("/proc")


class Presence(Protocol):
    """What makes one owner visible to others, and others to it.

    Attributes:
        is_alone: Nobody else can have the store, so that no lease is needed.
        is_leased: Processes on the same machine take runs over at the end of the lease, even if the owner lives.
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
        """End that; idempotent."""
        ...

    def sees(self, name: str) -> bool | None:
        """Whether an owner lives; `None`: that cannot be seen from here."""
        ...


def presence_of(location: StoreLocation) -> Presence:
    """Return how owners of a store are seen."""
    if location.is_shared:
        return Processes()
    return Alone() if location.path is None else LockFiles(location.path)


class Alone:
    """In this process's memory: owners are those of this process."""

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


class LockFiles(Alone):
    """Locked files beside the store's file `store`."""

    is_alone = False

    def __init__(self, store: str) -> None:
        # By its real name: other processes may call it otherwise, and a tool may change the working directory.
        self._store = os.path.realpath(store)
        self._host = this_host()
        self._locks: dict[str, FileLock] = {}

    def acquire(self, name: str) -> None:
        """See `Presence.acquire`. Raises: StoreError: the file beside the store cannot be made."""
        self._sweep()
        # Locked before it has its name: whoever finds it unlocked under its name has found a dead owner's.
        made = Path(f"{self._store}-new-{name}")
        lock = self._locks[name] = FileLock(made)
        try:
            lock.acquire(timeout=0)
            made.rename(self._path(name))
        except (OSError, Timeout) as fault:
            raise StoreError(f"cannot make a file beside the store {self._store}: {fault}") from fault
        super().acquire(name)

    def _sweep(self) -> None:
        """Take away the files of owners of this machine that were killed."""
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
        """See `Presence.sees`. The lock of another machine cannot be seen."""
        if _is_own(name):
            return True
        if _is_elsewhere(name, self._host):
            return None
        path = self._path(name)
        if not path.exists():
            return False
        probe = FileLock(path)
        try:
            probe.acquire(timeout=0)
        except Timeout:
            return True
        except OSError:  # nobody can write there, or not this user
            return _is_locked(path)
        path.unlink(missing_ok=True)
        probe.release()
        return False

    def _path(self, name: str) -> Path:
        return Path(f"{self._store}-owner-{name}")


class Processes(Alone):
    """Processes of this machine, by number and start: nothing is written anywhere."""

    is_alone = False
    is_leased = True

    def __init__(self) -> None:
        self._host = this_host()

    def new_name(self, lease_s: float) -> str:
        """See `Presence.new_name`."""
        return _name(".".join(_process()), lease_s, ends=ends_surely())

    def sees(self, name: str) -> bool | None:
        """See `Presence.sees`. What is there may be another by the same number, or may have let go: then nothing is said."""
        if _is_own(name):
            return True
        pid, _, rest = name.partition("@")[0].rpartition("-")[0].partition(".")
        start, _, space = rest.partition(".")
        own = _process()
        if _is_elsewhere(name, self._host) or space != own[2] or not pid.isdecimal():
            return None
        if (pid, start) == own[:2]:
            return False  # it was this process's, and has let go
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
    """Return this process's number, its start, and what names the numbers' space: containers of one machine count for themselves."""
    space = ""
    with suppress(OSError):
        space = str((_PROC / "self/ns/pid").stat().st_ino)
    pid = os.getpid()
    return str(pid), (_state(pid) or ("", ""))[1], space


def _is_running(pid: int, start: str) -> bool:
    """Whether there may be such a process. One that has ended, and that nobody has asked how, is none any more."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        pass
    found = _state(pid)
    return found is None or (found[0] not in "ZX" and start in ("", found[1]))


def _state(pid: int) -> tuple[str, str] | None:
    """Return the state of a process, one letter, and its start, where the system tells."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None
    return (fields[0], fields[19]) if len(fields) > 19 else None
