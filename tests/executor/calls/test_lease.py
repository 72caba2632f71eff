"""The lease by itself: when it ends, which runs are guarded, and when the process is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import warnings
from contextlib import suppress
from typing import ClassVar

import pytest
from firmplan.executor.calls import lease
from firmplan.executor.calls.lease import (
    EARLY_S,
    EXIT_CODE,
    Lease,
    Moment,
    Watchdog,
    _KernelTimer,
    early_s,
    elapsed_s,
    end_process,
    ends_surely,
)

WHY = "this process cannot renew its lease while a write is under way"


def is_open(fd):
    """Whether a file descriptor is one."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_a_lease_ends_its_length_after_it_was_renewed():
    """A third of it is the margin of a write, a sixth the time between two beats."""
    made = Lease(30.0, is_needed=False)
    assert (made.beat_s, made.margin_s) == (5.0, 10.0)
    assert abs(made.until - elapsed_s() - 30.0) < 5
    made.renewed(100.0)
    assert made.until == 130.0
    assert not made.is_older_than(5.0, 104.9)
    assert made.is_older_than(5.0, 105.0)
    assert made.moment is None, "others see that the process lives: nothing is to be ended"
    assert [early_s(length) for length in (30.0, 5.0, 1.0)] == [EARLY_S, 1.0, 0.2]


def test_runs_are_guarded_as_long_as_one_of_their_writes_is_under_way():
    made = Lease(30.0, is_needed=False)
    with made.guarding("a"):
        with made.guarding("a"), made.guarding("b"):
            assert made.guarded == ["a", "b"]
        assert made.guarded == ["a"]
        with pytest.raises(KeyError), made.guarding("b"):
            raise KeyError
        assert made.guarded == ["a"]
    assert made.guarded == []


def test_child_processes_see_when_the_lease_ends():
    """Through memory that they share, also once it was renewed."""
    made = Lease(30.0, is_needed=True)
    try:
        moment = made.moment
        assert moment is made.moment
        assert moment.get() == made.until
        shared = Moment(os.dup(moment.fd))
        made.renewed(elapsed_s() + 5)
        assert shared.get() == moment.get() == made.until
        shared.close()
        shared.close()
        assert [is_open(each.fd) for each in (shared, moment)] == [False, True]
    finally:
        made.close()
        made.close()
    assert not is_open(moment.fd)


@pytest.fixture
def watched(monkeypatch):
    """A watchdog without a timer of the kernel, the moment that it watches, and why it has ended the process."""
    monkeypatch.setattr(lease, "ends_surely", lambda: False)
    monkeypatch.setattr(lease, "IDLE_S", 0.0)
    monkeypatch.setattr(lease, "LOOK_S", 0.0)
    until, ended = [elapsed_s() + 1000], []
    return Watchdog(lambda: until[0], 1.0, ended.append), until, ended


def test_a_process_is_ended_a_moment_before_its_lease_if_a_write_is_under_way(watched):
    dog, until, ended = watched
    dog._guards = 1
    assert dog._look()
    assert ended == []
    until[0] = elapsed_s() + 0.9
    assert dog._look()
    assert ended == [WHY]


def test_a_process_without_a_write_under_way_outlives_its_lease(watched):
    """The thread that watches ends too, after a while."""
    dog, until, ended = watched
    until[0] = elapsed_s() - 1000
    dog._thread = threading.current_thread()
    assert not dog._look()
    assert (dog._thread, ended) == (None, [])


def test_a_write_that_begins_has_its_lease_watched(monkeypatch):
    """By a thread, which ends the process as soon as the moment is near."""
    monkeypatch.setattr(lease, "ends_surely", lambda: False)
    monkeypatch.setattr(lease, "IDLE_S", 0.0)
    ended = threading.Event()
    with Watchdog(elapsed_s, 1.0, lambda why: ended.set()).guarding():
        assert ended.wait(30)


def test_a_process_is_watched_until_its_lease_comes_near(monkeypatch):
    """By one thread, which goes on looking, and which a write that begins after a pause wakes at once."""
    monkeypatch.setattr(lease, "ends_surely", lambda: False)
    monkeypatch.setattr(lease, "IDLE_S", 1000.0)
    monkeypatch.setattr(lease, "LOOK_S", 0.001)
    until, looks, ended = [elapsed_s() + 1000], threading.Semaphore(0), threading.Event()

    def moment():
        looks.release()
        return until[0]

    dog = Watchdog(moment, 1.0, lambda why: ended.set())
    with dog.guarding():
        thread = dog._thread
        assert thread.daemon, "no program waits for it"
        for _ in range(5):
            assert looks.acquire(timeout=30)
    waits = None
    while waits is None or [*dog._changed._waiters] != waits:  # until it stands still
        waits = [*dog._changed._waiters] or None
        thread.join(0.02)
    assert not ended.is_set()
    until[0] = elapsed_s()
    with dog.guarding():
        assert dog._thread is thread
        assert ended.wait(30)


def test_how_long_the_next_look_at_a_lease_is_away(watched, monkeypatch):
    """As long as usual, and not longer than until the moment at which the process is to end."""
    dog, until, ended = watched
    monkeypatch.setattr(lease, "LOOK_S", 0.5)
    dog._guards, waits = 1, []
    monkeypatch.setattr(dog._changed, "wait", waits.append)
    until[0] = elapsed_s() + 1.4
    assert dog._look()
    assert (len(ended), 0.0 < waits[-1] <= 0.4) == (0, True)
    until[0] = elapsed_s() + 100
    assert dog._look()
    assert (ended, waits[-1]) == ([], 0.5)


class Timer:
    """In the place of the kernel's: what it was told."""

    made: ClassVar[list[Timer]] = []

    def __init__(self):
        self.did = []
        self.made.append(self)

    def arm(self, at):
        self.did.append(at)

    def disarm(self):
        self.did.append("disarm")

    def close(self):
        self.did.append("close")


@pytest.fixture
def timers(monkeypatch):
    """The timers that are made instead of the kernel's."""
    monkeypatch.setattr(Timer, "made", [])
    monkeypatch.setattr(lease, "_KernelTimer", Timer)
    monkeypatch.setattr(lease, "ends_surely", lambda: True)
    return Timer.made


def test_the_kernel_s_timer_is_set_while_any_write_is_under_way(timers):
    """To the moment as it is when a write begins, and at each look; it is one timer for all writes."""
    until = [elapsed_s() + 1000]
    dog = Watchdog(lambda: until[0], 1.0, print)
    dog._thread = threading.current_thread()  # it looks when the test says so
    dog.close()
    assert timers == []
    with dog.guarding():
        with dog.guarding():
            until[0] += 1
        until[0] += 1
        with dog.guarding():
            pass
        until[0] += 1
        with pytest.MonkeyPatch.context() as soon:
            soon.setattr(lease, "LOOK_S", 0.0)
            assert dog._look()
    first = until[0] - 3
    (timer,) = timers
    assert timer.did == [first, first, first + 2, first + 3, "disarm"]
    with dog.guarding():
        assert timer.did[-1] == until[0]
    dog.close()
    assert timer.did[-2:] == ["disarm", "close"]
    assert len(timers) == 1


def test_a_lease_that_is_needed_has_its_writes_guarded(timers):
    """Until they have ended, however they end; a lease that nobody waits for has no timer."""
    for is_needed in (True, False):
        made = Lease(30.0, is_needed=is_needed)
        if made._watchdog is not None:
            made._watchdog._thread = threading.current_thread()
        with suppress(KeyError), made.guarding("a"):
            assert made.guarded == ["a"]
            assert [each.did for each in timers] == ([[made.until]] if is_needed else [])
            raise KeyError
        assert made.guarded == []
        made.close()
        assert [each.did[1:] for each in timers] == ([["disarm", "close"]] if is_needed else [])
        timers.clear()


def ended(work):
    """How a fork of this process ends that does some work: with an exit code, 99 after an error, or a signal, as a negative number."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # of forks beside threads: this one needs none of them
        pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001  # nothing of the tests' goes on in the fork
            os._exit(99)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def stay(seconds):
    """Do nothing for so long."""
    signal.sigtimedwait([], seconds)


def set_and_give_back():
    """Do in this process all that a timer does but kill: the check of mutants looks which tests call what, and does not look into forks."""
    timer = _KernelTimer()
    timer.arm(elapsed_s() + 1000.0)
    timer.disarm()
    timer.close()


needs_timer = pytest.mark.skipif(not ends_surely(), reason="this system has no such timer")


@needs_timer
@pytest.mark.parametrize("left_s", [0.02, 0.0, -10.0, -1e6])
def test_the_kernel_s_timer_kills_at_its_moment(left_s):
    """At once where that is over."""
    set_and_give_back()

    def work():
        _KernelTimer().arm(elapsed_s() + left_s)
        stay(30.0)

    assert ended(work) == -signal.SIGKILL


@needs_timer
@pytest.mark.parametrize("how", ["far", "disarm", "close", "close twice", "closed before", "moved"])
def test_the_kernel_s_timer_kills_nothing_else(how):
    """Neither before its moment, nor once it is disarmed or given back."""
    set_and_give_back()

    def work():
        timer = _KernelTimer()
        if how == "closed before":
            timer.close()
        timer.arm(elapsed_s() + (1000.0 if how == "far" else 0.03))
        match how:
            case "disarm":
                timer.disarm()
            case "close":
                timer.close()
            case "close twice":
                timer.close()
                timer.close()
                timer.disarm()
            case "moved":
                timer.arm(elapsed_s() + 1000.0)
        stay(0.06)

    assert ended(work) == 0


@needs_timer
def test_a_system_that_refuses_the_timer_has_none(monkeypatch):
    """Then the owner's name does not promise that its process ends; nor on a system that is not Linux."""
    assert ends_surely.__wrapped__() is True
    with monkeypatch.context() as other:
        other.setattr(sys, "platform", "darwin")
        assert ends_surely.__wrapped__() is False
    timer = _KernelTimer()
    with pytest.raises(OSError, match="Invalid argument"):
        timer._set(0, 1_000_000_000)
    timer.close()
    monkeypatch.setattr(lease, "_SIGEV_SIGNAL", 77)
    with pytest.raises(OSError, match="Invalid argument"):
        _KernelTimer()
    assert ends_surely.__wrapped__() is False


def test_a_process_that_ends_itself_does_not_go_on(monkeypatch, capfd):
    """Neither does anything that it would do at its end. A log that fails is no reason to stay."""

    def failing():
        raise ValueError("no log")

    codes = []
    with monkeypatch.context() as here:
        here.setattr(lease.os, "_exit", codes.append)
        end_process("so it is")
    assert codes == [EXIT_CODE]
    assert "so it is" in capfd.readouterr().err
    monkeypatch.setattr(lease, "open_log", failing)
    assert ended(lambda: end_process("so it is")) == EXIT_CODE


KERNEL = """
import os, signal, sys
from firmplan.executor.calls.lease import Watchdog, elapsed_s
at = elapsed_s() + float(sys.argv[1])
dog = Watchdog(lambda: at, -1000.0, print)
with dog.guarding():
    if sys.argv[2] == "within":
        os.kill(os.getpid(), signal.SIGSTOP)
if sys.argv[2] == "closed":
    dog.close()
while elapsed_s() < at + 0.5:
    pass
"""


@needs_timer
@pytest.mark.parametrize(("when", "code"), [("within", -signal.SIGKILL), ("after", 0), ("closed", 0)])
def test_the_kernel_ends_a_process_that_stands_still_in_a_write(when, code):
    """At the end of its lease, and not after the write has ended."""
    done = subprocess.run([sys.executable, "-c", KERNEL, "0.5", when], check=False, timeout=60)
    assert done.returncode == code


def test_a_process_that_ends_itself_says_why():
    code = "from firmplan.executor.calls.lease import end_process; end_process('so it is'); print('never')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, "so it is" in done.stderr, done.stdout) == (EXIT_CODE, True, "")
