"""The lease of this process on the runs that it drives, and how the process ends itself if the lease ends during a write.

The next owner of a run may repeat a write whose `reconcile` finds nothing. A process that was stopped (SIGSTOP, a paused container, a machine
that slept) would continue its own call when it wakes, and the write would happen twice. Therefore the process has a timer, while such a call
is in flight, that ends it when its lease ends. If other processes can see that this process lives, they wait for it, and no timer is needed.

On Linux the timer is one of the kernel (`timer_create` with SIGKILL, on the clock that counts suspended time). It kills the process while the
process is stopped, before any thread wakes. A thread could not do this, because the threads of a woken process continue in any order. Other
systems have only the thread. There `ends_surely` is false, and the owner's name says that the process may survive its lease (`runs.owner`).

If a running process cannot renew its lease, a thread ends the process shortly before the kernel's timer would, and logs the reason.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import cache
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Final

from ...tools.logbook import open_log

if TYPE_CHECKING:
    import ctypes

BEATS: Final = 6  # renewals within the length of a lease
EARLY_S: Final = 1.0  # time between the end that a running process gives itself and the kernel's timer; at most a fifth of the lease
LOOK_S: Final = 0.5  # pause between two looks at the end of the lease, which a renewal has moved
IDLE_S: Final = 5.0  # time that the thread waits for another write to guard before it ends
EXIT_CODE: Final = 75  # EX_TEMPFAIL: another process continues the runs
MOMENT_ENV: Final = (
    "FIRMPLAN_LEASE_FD"  # tells a child process that calls tools the file descriptor of the lease's end
)


def elapsed_s() -> float:
    """Return seconds of a clock that does not jump and includes the time while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def early_s(length_s: float) -> float:
    """Return how many seconds before the end of its lease a running process ends itself."""
    return min(EARLY_S, length_s / 5)


class Moment:
    """A point in time by `elapsed_s`, in memory that child processes share.

    Args:
        fd: The file descriptor of the memory, in a child process; `None`: make the memory.
    """

    # Shared memory, because a child in the middle of a write cannot read a message about each renewal. The value is 8 bytes at the start of
    # a page, which processors write at once, so a reader never sees half of it.

    def __init__(self, fd: int | None = None) -> None:
        if fd is None:
            with (
                TemporaryFile() as file
            ):  # a file without a name: nothing is left behind, however the process ends
                file.truncate(mmap.PAGESIZE)
                fd = os.dup(file.fileno())
        self.fd = fd
        self._memory = mmap.mmap(fd, mmap.PAGESIZE)

    def set(self, at: float) -> None:
        """Move the moment."""
        self._memory[:8] = struct.pack("d", at)

    def get(self) -> float:
        """Return the moment."""
        (at,) = struct.unpack("d", self._memory[:8])
        return float(at)

    def close(self) -> None:
        """Release the memory; idempotent."""
        if not self._memory.closed:
            self._memory.close()
            os.close(self.fd)


class Watchdog:
    """Ends this process at the end of a lease, if a write is guarded then and the lease was not renewed.

    Args:
        until: Returns the end of the lease by `elapsed_s`; it is called repeatedly, because renewals move the end.
        early_s: How many seconds before the end of the lease a running process is ended.
        end: Ends the process; its argument is the reason.
    """

    def __init__(self, until: Callable[[], float], early_s: float, end: Callable[[str], None]) -> None:
        self._until = until
        self._early_s = early_s
        self._end = end
        self._guards = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._timer: _KernelTimer | None = None

    @contextmanager
    def guarding(self) -> Generator[None]:
        """Guard a write: while the context is open, the process ends with the lease."""
        with self._changed:
            self._guards += 1
            # The kernel's timer is armed before the write can begin. The thread alone could be late: it shares the interpreter with the tools.
            if self._timer is None and ends_surely():
                self._timer = _KernelTimer()
            self._arm()
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="firmplan-lease", daemon=True)
                self._thread.start()
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._guards -= 1
                if not self._guards and self._timer is not None:
                    self._timer.disarm()

    def close(self) -> None:
        """Release the timer."""
        with self._changed:
            if self._timer is not None:
                self._timer.close()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.arm(self._until())

    def _watch(self) -> None:
        open_log()  # imports the log now: when the lease ends, there is no time for it
        while self._look():
            pass

    def _look(self) -> bool:
        """Set the timer to the present end of the lease, or end the process if that has come; `False`: no write was guarded for `IDLE_S`."""
        with self._changed:
            # The thread ends when nothing is to be guarded, so that a program without writes has no thread of the lease. `guarding` starts another.
            if not self._guards and not self._changed.wait(IDLE_S) and not self._guards:
                self._thread = None
                return False
            if self._guards:
                self._arm()
                left_s = self._until() - self._early_s - elapsed_s()
                if left_s <= 0:
                    self._end("this process cannot renew its lease while a write is under way")
                self._changed.wait(min(LOOK_S, max(left_s, 0)))
            return True


class Lease:
    """The lease of one engine's owner.

    Args:
        length_s: How long the lease lasts after a renewal.
        is_needed: Whether other processes take the runs over at the end of the lease even if this process lives. Then it ends itself before that.

    Attributes:
        is_needed: As given.
    """

    def __init__(self, length_s: float, *, is_needed: bool) -> None:
        self.length_s = length_s
        self.is_needed = is_needed
        self.beat_s = length_s / BEATS
        # A write is called only while the lease has more left than this, so that an ordinary write ends within the lease.
        self.margin_s = length_s / 3
        self._renewed = elapsed_s()
        self._guarded: Counter[str] = Counter()
        self._watchdog = Watchdog(lambda: self.until, early_s(length_s), end_process) if is_needed else None
        self._moment: Moment | None = None

    @property
    def until(self) -> float:
        """The end of the lease, unless it is renewed."""
        return self._renewed + self.length_s

    @property
    def is_over(self) -> bool:
        """Whether the lease has ended: this process has stood still, or cannot reach the store, and others may drive its runs."""
        return elapsed_s() > self.until

    @property
    def moment(self) -> Moment | None:
        """The end of the lease, for child processes; `None`: they need no timer."""
        if self._watchdog is None:
            return None
        if self._moment is None:
            self._moment = Moment()
            self._moment.set(self.until)
        return self._moment

    @property
    def guarded(self) -> list[str]:
        """The runs that have a write in flight which must not outlive the lease."""
        return list(self._guarded)

    def renewed(self, at: float) -> None:
        """Note that a renewal which began at that time has succeeded."""
        # The lease counts from the begin of the renewal, not from its answer: the store may have written it at any time in between.
        self._renewed = at
        if self._moment is not None:
            self._moment.set(self.until)

    def is_older_than(self, age_s: float, now: float) -> bool:
        """Whether the last renewal is that long ago."""
        return self.age_s(now) >= age_s

    def age_s(self, now: float) -> float:
        """Return how long ago the last renewal is."""
        return now - self._renewed

    @contextmanager
    def guarding(self, run_id: str) -> Generator[None]:
        """Guard a write of a run: the process ends before the write can outlive the lease."""
        # Counted by run, so that the owner can name the runs whose writes it has to end.
        self._guarded[run_id] += 1
        try:
            if self._watchdog is None:
                yield
            else:
                with self._watchdog.guarding():
                    yield
        finally:
            self._guarded[run_id] -= 1
            if not self._guarded[run_id]:
                del self._guarded[run_id]

    def close(self) -> None:
        """Release the timer and the shared memory."""
        if self._watchdog is not None:
            self._watchdog.close()
        if self._moment is not None:
            self._moment.close()
            self._moment = None


def end_process(why: str) -> None:
    """End this process immediately: another process may be about to repeat the write that is in flight here."""
    with suppress(
        Exception
    ):  # the program may have configured a log that raises, and the end must not depend on it
        open_log().error(
            "the process ends, so that no write happens twice",
            why=why,
            exit_code=EXIT_CODE,
        )
    sys.stderr.flush()
    # No `sys.exit`: `finally` blocks and exit handlers take time, and a tool's thread would go on with the write meanwhile.
    os._exit(EXIT_CODE)


# --- the kernel's timer

_SIGEV_SIGNAL: Final = 0
_TIMER_ABSTIME: Final = 1
_EVENT: Final = (
    "Pii48x"  # `struct sigevent` of C: value, signal, kind of notification, padding up to the size on Linux
)
_SPEC: Final = "llll"  # `struct itimerspec` of C: interval and time, each in seconds and nanoseconds


class _KernelTimer:
    """A timer of the kernel that kills this process, running or stopped. A fork of the process does not inherit the timer.

    Python has no function for such timers, so the C library is called. Rejected: `signal.setitimer`, which every library of the process may
    use for itself, and whose clock stands still while the machine sleeps.
    """

    def __init__(self) -> None:
        import ctypes  # noqa: PLC0415  # few processes need it

        self._libc = ctypes.CDLL(None, use_errno=True)
        self._error = ctypes.get_errno
        self._id: ctypes.c_void_p | None = ctypes.c_void_p()
        event = struct.pack(_EVENT, 0, signal.SIGKILL, _SIGEV_SIGNAL)
        if self._libc.timer_create(time.CLOCK_BOOTTIME, event, ctypes.byref(self._id)):
            raise OSError(self._error(), os.strerror(self._error()))

    def arm(self, at: float) -> None:
        """Kill the process at that time by `elapsed_s`; a time in the past means now."""
        self._set(*divmod(max(1, int(at * 1e9)), 1_000_000_000))  # 0 would disarm it

    def disarm(self) -> None:
        """Stop the timer."""
        self._set(0, 0)

    def _set(self, seconds: int, nanoseconds: int) -> None:
        spec = struct.pack(_SPEC, 0, 0, seconds, nanoseconds)
        if self._id is not None and self._libc.timer_settime(self._id, _TIMER_ABSTIME, spec, None):
            raise OSError(self._error(), os.strerror(self._error()))

    def close(self) -> None:
        """Delete the timer; idempotent."""
        timer, self._id = self._id, None
        if timer is not None:
            self._libc.timer_delete(timer)


@cache
def ends_surely() -> bool:
    """Whether the system kills a stopped process at the end of its lease, before the process can do anything more."""
    if not sys.platform.startswith("linux"):
        return False
    # Tried instead of looked up: a container or a C library may not have the call.
    try:
        _KernelTimer().close()
    except (OSError, AttributeError):
        return False
    return True
