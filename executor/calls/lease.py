"""The lease of this process on the runs that it drives, and how the process ends itself when the lease ends in the middle of a write.

Whoever takes a run over may repeat a write whose `reconcile` finds nothing. A process that stood still (SIGSTOP, a paused container, a machine
that slept) would go on with its own call when it wakes, and the write would happen twice. So while such a call is under way the process
has a timer that ends it when its lease ends. Where others see that the process lives, they wait for it, and no timer is needed.

On Linux the timer is the kernel's (`timer_create` on the clock that counts suspended time, with SIGKILL): it strikes while the process stands
still, and before any of its threads wakes. No thread of ours could do that: threads of a woken process go on in any order. Elsewhere
a thread is all there is; `ends_surely` says so, and an owner that cannot be sure to end says so in its name (`presence.py`).

A process that runs, and cannot renew its lease, is ended a moment earlier by a thread, which tells the log why.
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

BEATS: Final = 6  # how often a lease is renewed within its length
EARLY_S: Final = 1.0  # how long before the kernel's timer a process that runs ends by itself, and says why; at most a fifth of the lease
LOOK_S: Final = 0.5  # how often it is looked whether the lease was renewed
IDLE_S: Final = 5.0  # how long the thread stays where nothing is guarded
EXIT_CODE: Final = 75  # EX_TEMPFAIL: another process goes on with the runs
MOMENT_ENV: Final = "FIRMPLAN_LEASE_FD"  # where a child process that calls tools finds the end of the lease


def elapsed_s() -> float:
    """Return seconds since some start: they do not jump, and pass while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def early_s(length_s: float) -> float:
    """Return how long before the end of a lease of that length a process that runs ends by itself."""
    return min(EARLY_S, length_s / 5)


class Moment:
    """A point in time by `elapsed_s`, in memory that child processes share.

    Args:
        fd: The memory's, in a child; without it the memory is made.
    """

    def __init__(self, fd: int | None = None) -> None:
        if fd is None:
            with TemporaryFile() as file:
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
        """Give the memory back; idempotent."""
        if not self._memory.closed:
            self._memory.close()
            os.close(self.fd)


class Watchdog:
    """Ends this process at a moment, unless nothing is guarded then, or the moment was put off before.

    Args:
        until: Returns the moment, by `elapsed_s`; asked again and again.
        early_s: How long before it a process that runs is ended.
        end: Ends it then, and says why.
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
        """Have the process end at the moment, as long as this lasts."""
        with self._changed:
            self._guards += 1
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
        """Give the timer back."""
        with self._changed:
            if self._timer is not None:
                self._timer.close()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.arm(self._until())

    def _watch(self) -> None:
        open_log()  # loaded now: at the end there is no time for it
        while self._look():
            pass

    def _look(self) -> bool:
        """Put the timer off as far as the moment has moved, or end the process; `False`: nothing has been guarded for a while."""
        with self._changed:
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
        length_s: How long it lasts after it was renewed.
        is_needed: Whether others take the runs over when it has ended, although they may live: then the process ends itself before.
    """

    def __init__(self, length_s: float, *, is_needed: bool) -> None:
        self.length_s = length_s
        self.beat_s = length_s / BEATS
        self.margin_s = length_s / 3  # a write is called only while the lease has more left than this
        self._renewed = elapsed_s()
        self._guarded: Counter[str] = Counter()
        self._watchdog = Watchdog(lambda: self.until, early_s(length_s), end_process) if is_needed else None
        self._moment: Moment | None = None

    @property
    def until(self) -> float:
        """When it ends, unless it is renewed."""
        return self._renewed + self.length_s

    @property
    def moment(self) -> Moment | None:
        """The same, for child processes; `None`: they need not know."""
        if self._watchdog is None:
            return None
        if self._moment is None:
            self._moment = Moment()
            self._moment.set(self.until)
        return self._moment

    @property
    def guarded(self) -> list[str]:
        """The runs of which a write is under way that must not outlive the lease."""
        return list(self._guarded)

    def renewed(self, at: float) -> None:
        """Note that it was renewed by something that began then."""
        self._renewed = at
        if self._moment is not None:
            self._moment.set(self.until)

    def is_older_than(self, age_s: float, now: float) -> bool:
        """Whether it was last renewed that long ago."""
        return now - self._renewed >= age_s

    @contextmanager
    def guarding(self, run_id: str) -> Generator[None]:
        """Make sure that a write of a run does not outlive the lease: the process ends first."""
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
        """Give back what the system has lent."""
        if self._watchdog is not None:
            self._watchdog.close()
        if self._moment is not None:
            self._moment.close()
            self._moment = None


def end_process(why: str) -> None:
    """End this process here and now: another may be about to repeat the write that it is in the middle of."""
    with suppress(Exception):  # the log is the program's
        open_log().error(
            "the process ends, so that no write happens twice",
            why=why,
            exit_code=EXIT_CODE,
        )
    sys.stderr.flush()
    os._exit(EXIT_CODE)


# --- the kernel's timer

_SIGEV_SIGNAL: Final = 0
_TIMER_ABSTIME: Final = 1
_EVENT: Final = (
    "Pii48x"  # C's `struct sigevent`: value, signal, how to notify, and the room that Linux gives it
)
_SPEC: Final = "llll"  # C's `struct itimerspec`: interval and time, in seconds and nanoseconds


class _KernelTimer:
    """A timer that kills this process, running or not. A fork of the process does not inherit it."""

    def __init__(self) -> None:
        import ctypes  # noqa: PLC0415  # hardly any process needs it

        self._libc = ctypes.CDLL(None, use_errno=True)
        self._error = ctypes.get_errno
        self._id: ctypes.c_void_p | None = ctypes.c_void_p()
        event = struct.pack(_EVENT, 0, signal.SIGKILL, _SIGEV_SIGNAL)
        if self._libc.timer_create(time.CLOCK_BOOTTIME, event, ctypes.byref(self._id)):
            raise OSError(self._error(), os.strerror(self._error()))

    def arm(self, at: float) -> None:
        """Kill the process at that time, by `elapsed_s`; a time in the past is now."""
        self._set(*divmod(max(1, int(at * 1e9)), 1_000_000_000))  # 0 would disarm it

    def disarm(self) -> None:
        """Kill nothing."""
        self._set(0, 0)

    def _set(self, seconds: int, nanoseconds: int) -> None:
        spec = struct.pack(_SPEC, 0, 0, seconds, nanoseconds)
        if self._id is not None and self._libc.timer_settime(self._id, _TIMER_ABSTIME, spec, None):
            raise OSError(self._error(), os.strerror(self._error()))

    def close(self) -> None:
        """Give the timer back; idempotent."""
        timer, self._id = self._id, None
        if timer is not None:
            self._libc.timer_delete(timer)


@cache
def ends_surely() -> bool:
    """Whether a process that stands still is ended at the end of its lease, before it does anything more: the system has such a timer."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        _KernelTimer().close()
    except (OSError, AttributeError):
        return False
    return True
