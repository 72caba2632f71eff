"""The lease by itself: when it ends, which runs are guarded, and when the process is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest
from firmplan.executor.calls import lease
from firmplan.executor.calls.lease import (
    EARLY_S,
    EXIT_CODE,
    Lease,
    Moment,
    Watchdog,
    early_s,
    elapsed_s,
    ends_surely,
)

WHY = "this process cannot renew its lease while a write is under way"


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
    finally:
        made.close()
        made.close()


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


@pytest.mark.skipif(not ends_surely(), reason="this system has no such timer")
@pytest.mark.parametrize(("when", "code"), [("within", -signal.SIGKILL), ("after", 0), ("closed", 0)])
def test_the_kernel_ends_a_process_that_stands_still_in_a_write(when, code):
    """At the end of its lease, and not after the write has ended."""
    done = subprocess.run([sys.executable, "-c", KERNEL, "0.5", when], check=False, timeout=60)
    assert done.returncode == code


def test_a_process_that_ends_itself_says_why():
    code = "from firmplan.executor.calls.lease import end_process; end_process('so it is'); print('never')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, "so it is" in done.stderr, done.stdout) == (EXIT_CODE, True, "")
