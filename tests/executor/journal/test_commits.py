"""Commits: in groups, on a thread of their own, and while the event loop sleeps."""

from __future__ import annotations

import asyncio
import selectors
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import replace

import pytest
from firmplan.errors import StoreError
from firmplan.executor.journal import journal as module
from firmplan.executor.journal.journal import Commits
from firmplan.executor.stores.store import Batch
from firmplan.testing import MemoryStore
from firmplan.tools import tool
from rig import Rig, plan_of

BATCH = Batch("r", 1, 1, [b"x"], b"", {}, "running", "", 1.0)


class Shelf:
    """A store that notes what is committed together, and takes as long as it is told."""

    def __init__(self):
        self.groups, self.threads = [], set()
        self.gate, self.entered = threading.Event(), threading.Event()
        self.gate.set()
        self.fault = None

    def append(self, batches):
        self.entered.set()
        self.gate.wait()
        self.groups.append([batch.run_id for batch in batches])
        self.threads.add(threading.current_thread())
        if self.fault is not None:
            raise self.fault
        return [StoreError("fenced") if batch.run_id == "fenced" else None for batch in batches]


class Box:
    """A source that holds one batch at a time."""

    def __init__(self, name, bug=None):
        self.name, self.bug = name, bug
        self.is_empty = False
        self.ends, self.settled = [], threading.Event()

    def take(self):
        if self.bug is not None:
            raise self.bug
        return None if self.is_empty else replace(BATCH, run_id=self.name)

    def settle(self, batch, fault, /):
        self.ends.append((batch and batch.run_id, fault))
        self.settled.set()

    def wait(self):
        assert self.settled.wait(10)
        return self.ends


class Clock:
    """What commits take for `time`: it stands still until a test moves it, however long the machine takes."""

    now = 1_000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """The clock of all commits of a test."""
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def test_what_comes_within_a_few_milliseconds_shares_a_commit(clock):
    """And what comes while it is under way is the next."""
    shelf = Shelf()
    commits = Commits(shelf)
    one, two, three, four = (Box(name) for name in "abcd")
    shelf.gate.clear()
    for box in (one, two, one):
        commits.expect(box)
    clock.now += module.LATE_MAX_S
    assert shelf.entered.wait(10)
    commits.expect(three)
    commits.expect(four, 0)
    shelf.gate.set()
    assert (four.wait(), three.wait()) == ([("d", None)], [("c", None)])
    assert shelf.groups == [["a", "b"], ["c", "d"]]
    assert len(shelf.threads) == 1
    asyncio.run(commits.close())


def test_each_hears_what_became_of_its_own(clock):
    """A refused batch, a source that cannot say what it has, one that has nothing, and a store that fails."""
    shelf = Shelf()
    commits = Commits(shelf)
    good, fenced, empty, broken = Box("good"), Box("fenced"), Box("empty"), Box("broken", ValueError("a bug"))
    empty.is_empty = True
    for box in (broken, fenced, empty, good):
        commits.expect(box)
    clock.now += module.LATE_MAX_S
    assert good.wait() == [("good", None)]
    assert [str(fault) for _, fault in fenced.wait() + broken.wait()] == ["fenced", "a bug"]
    assert (shelf.groups, empty.ends) == ([["fenced", "good"]], [])
    shelf.fault = StoreError("full")
    good.settled.clear()
    commits.expect(good, 0)
    assert good.wait()[1:] == [("good", shelf.fault)]
    asyncio.run(commits.close())


def test_what_may_wait_longer_goes_with_what_comes_then(clock):
    """It is not committed before its time."""
    shelf = Shelf()
    commits = Commits(shelf)
    patient, hasty = Box("patient"), Box("hasty")
    commits.expect(patient, 0.2)
    commits.expect(hasty)
    clock.now += 0.1
    hasty.wait()
    assert shelf.groups == [["hasty"]]
    clock.now += 0.1
    patient.wait()
    assert shelf.groups == [["hasty"], ["patient"]]
    asyncio.run(commits.close())


def test_what_must_not_wait_wakes_the_thread_that_waits_for_something_later(monkeypatch):
    """However long that would sleep."""
    monkeypatch.setattr(module, "IDLE_S", 1_000)
    commits = Commits(Shelf())
    patient, hasty, sleeps = Box("patient"), Box("hasty"), threading.Semaphore(0)
    wait = commits._changed.wait
    commits._changed.wait = lambda timeout: sleeps.release() or wait(timeout)
    commits.expect(patient, 1_000)
    assert sleeps.acquire(timeout=10)
    commits.expect(hasty, 0)
    assert hasty.wait() == [("hasty", None)]
    assert sleeps.acquire(
        timeout=10
    )  # and it sleeps on, instead of asking again and again whether it is time
    assert patient.ends == []
    asyncio.run(commits.close())


def test_a_time_after_the_next_look_of_the_thread_wakes_nobody(clock):
    """The thread finds it when it looks; only an earlier time is worth two switches of threads."""
    commits = Commits(Shelf())
    patient, later, hasty, sleeps, wakes = (
        Box("patient"),
        Box("later"),
        Box("hasty"),
        threading.Semaphore(0),
        [],
    )
    wait, notify = commits._changed.wait, commits._changed.notify
    commits._changed.wait = lambda timeout: sleeps.release() or wait(timeout)
    commits._changed.notify = lambda: wakes.append(1) or notify()
    commits.expect(patient, 0.1)
    assert sleeps.acquire(timeout=10)
    commits.expect(later, 0.2)
    assert wakes == []
    commits.expect(hasty, 0)
    hasty.wait()
    clock.now += 0.2
    assert (patient.wait(), later.wait()) == ([("patient", None)], [("later", None)])
    assert len(wakes) <= 1
    asyncio.run(commits.close())


def test_closing_commits_what_is_expected(monkeypatch):
    """Whenever that would have been; the thread is gone then, and the next source has another."""
    shelf = Shelf()
    commits = Commits(shelf)
    box = Box("late")
    shelf.gate.clear()
    commits.expect(box, 1_000)

    async def close():
        closing = asyncio.create_task(commits.close())
        assert await asyncio.to_thread(shelf.entered.wait, 10)
        assert not closing.done()
        shelf.gate.set()
        await closing

    asyncio.run(close())
    assert (box.ends, [thread.is_alive() for thread in shelf.threads]) == ([("late", None)], [False])
    asyncio.run(commits.close())
    box.settled.clear()
    commits.expect(box, 0)
    assert len(box.wait()) == 2
    asyncio.run(commits.close())


def test_what_is_expected_again_and_again_does_not_keep_it_from_closing():
    """As the look for decisions is, while a run is driven whose tool does not heed its cancel."""
    commits = Commits(Shelf())
    looks = []

    class Again(Box):
        def take(self):
            looks.append(1)
            commits.expect(self, 0.01)

    commits.expect(Again("again"))
    asyncio.run(asyncio.wait_for(commits.close(), 10))
    assert len(looks) in (1, 2)


def test_a_thread_with_nothing_to_do_ends(monkeypatch):
    """An engine that nobody closes leaves none behind."""
    monkeypatch.setattr(module, "IDLE_S", 0.01)
    shelf = Shelf()
    commits, box = Commits(shelf), Box("a")
    for _ in range(3):
        box.settled.clear()
        commits.expect(box, 0)
        box.wait()
        (thread,) = [each for each in shelf.threads if each.is_alive()] or [None]
        if thread is not None:
            thread.join(10)
    assert len(shelf.threads) == 3
    assert not any(thread.is_alive() for thread in shelf.threads)


class Counting(selectors.DefaultSelector):
    """Counts how often an event loop is woken, other than by a time of its own."""

    wakes = 0

    def select(self, timeout=None):
        found = super().select(timeout)
        if found and (timeout is None or timeout > 0):
            self.wakes += 1
        return found


@pytest.mark.parametrize("is_reused", [False, True])
def test_the_event_loop_sleeps_through_commits(is_reused):
    """While calls wait their records become durable, what they leave is stored, decisions are looked for: nothing wakes the loop."""
    selector = Counting()
    woken_times = []
    store = MemoryStore()
    needed = 1 if is_reused else 2  # commits: what was called, and what it left
    wake, commits = None, 0

    @tool(effect="pure", version=1)
    async def wait(x: int) -> int:
        """Wait through several commits."""
        nonlocal commits
        nonlocal wake
        before, found = selector.wakes, store.appends
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        wake = (found + needed, lambda: loop.call_soon_threadsafe(woken.set))
        await woken.wait()
        woken_times.append(selector.wakes - before)
        commits = store.appends - found
        return x

    @tool(effect="pure", version=1)
    async def quick(x: int) -> int:
        """Return at once."""
        return x

    append = store.append
    store.appends = 0

    def counted(batches):
        nonlocal wake
        keys = append(batches)
        store.appends += 1
        if wake is not None and store.appends >= wake[0]:
            threading.Timer(0.6, wake[1]).start()  # meanwhile decisions are looked for, more than once
            wake = None
        return keys

    store.append = counted

    async def main():
        steps = [{"id": f"q{n}", "tool": "quick", "args": {"x": n}} for n in range(20)]
        async with Rig([wait, quick], store) as rig:
            if is_reused:
                assert (await rig.run(plan_of(*steps))).status == "succeeded"
            run = await rig.run(plan_of(*steps, {"id": "w", "tool": "wait", "args": {"x": 1}}))
            assert run.status == "succeeded"

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(main())
    assert woken_times == [1], "by the timer of the test"
    assert commits >= needed


def test_a_blocked_event_loop_does_not_keep_results_from_the_disk(tmp_path):
    """What a step returned is durable although the next one, which computes on the loop, is not done."""
    path, seen = tmp_path / "s.db", []

    @tool(effect="read")
    async def first() -> int:
        """Return at once."""
        return 1

    @tool(effect="pure", isolation="inline")
    def compute(x: int) -> int:
        """Keep the loop, until another connection sees the first result."""
        until = time.monotonic() + 10
        while time.monotonic() < until and not seen:
            time.sleep(0.01)
            seen.extend(_lines_of(path))
        return x

    async def main():
        async with Rig([first, compute], str(path)) as rig:
            plan = plan_of(
                {"id": "a", "tool": "first"}, {"id": "b", "tool": "compute", "args": {"x": "${a}"}}
            )
            assert (await rig.run(plan)).status == "succeeded"

    asyncio.run(main())
    assert any(b'"step":"a"' in line for line in seen)


def _lines_of(path):
    """Return the journal as another process sees it, once it has the first step."""
    with closing(sqlite3.connect(path)) as db:
        found = [lines for (lines,) in db.execute("SELECT lines FROM journal")]
    return found if any(b'"step":"a"' in lines for lines in found) else []
