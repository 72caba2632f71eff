"""The search for runs that nobody drives, over a store that the test makes: which runs are claimed, how many at a time, and what is left alone."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from firmplan import ConfigError, StoreError
from firmplan.executor import Header, ToolsetLock
from firmplan.executor.runs import watch as takeover
from firmplan.executor.runs.watch import CLAIMS_MAX, Takeover
from firmplan.executor.stores.store import REPLAY, RunRow
from firmplan.tools import Toolset
from rig import plan_of

PLAN = plan_of({"id": "a", "set": 1}, output="${a}")
HEADER = Header(PLAN, {}, 1, ToolsetLock.of([PLAN], Toolset([])), {}).to_dict()


def row(run_id, *, owner=None, created=0.0, epoch=1, status="running", parent=None):
    return RunRow(run_id, status, None, "p", parent, created, created, "", {}, epoch, owner)


class World:
    """Runs, and a takeover of them: what it goes on with, what it tells the log, and which owners live."""

    def __init__(self, *rows):
        self.runs = {each.id: each for each in rows}
        self.begun, self.told, self.looks = [], [], 0
        self.fault = self.missing = None
        self.looked = asyncio.Event()
        self.drive = self.go_on
        self.takeover = Takeover(
            self,
            self,
            self.find_lost,
            lambda each: each.owner == "alive",
            self._expect,
            lambda run_id: self.drive(run_id),  # noqa: PLW0108  # tests replace it
            lambda: self,
            lambda: 0.0,
        )

    # as store and archive

    async def rows(self, status):
        if self.fault is not None:
            raise self.fault
        for each in sorted(self.runs.values(), key=lambda each: (each.created, each.id), reverse=True):
            if each.status == status:
                yield each

    async def find_lost(self):
        self.looks += 1
        self.looked.set()
        if self.fault is not None:
            raise self.fault
        lost = [each for each in self.runs.values() if each.owner not in (None, "alive")]
        return lost, sorted({each.owner for each in self.runs.values()} & {"alive"})

    async def list_due(self, at):
        return []

    async def row(self, run_id):
        known = self.runs[run_id]
        return RunRow(known.id, known.status, None, "p", None, 0.0, 0.0, "", HEADER)

    def _expect(self, run_id, header):
        assert header.plan == PLAN
        if run_id == self.missing:
            raise ConfigError(f"no tool for {run_id}")

    # as log

    def info(self, event, *, run):
        self.told.append((event, run))

    def error(self, event, *, run, **_):
        self.told.append((event, run))

    def warning(self, event, *, run=None, error="", code=""):
        self.told.append((event, run or (error, code)))

    # as engine

    async def go_on(self, run_id):
        """Drive a run from now on."""
        self.begun.append(run_id)
        known = self.runs[run_id]
        self.runs[run_id] = row(run_id, owner="alive", created=known.created, epoch=known.epoch + 1)

    async def look_twice(self):
        """Wait until a whole look that began after this has ended."""
        for _ in range(2):
            self.looked.clear()
            await self.looked.wait()


@asynccontextmanager
async def looking(world, go_on=None):
    """Look for runs all the time, until the context is left."""
    world.drive = go_on or world.go_on
    world.takeover.begin()
    try:
        yield world
    finally:
        await world.takeover.end()


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Dead owners are looked for all the time."""
    monkeypatch.setattr(takeover, "LOOK_S", 0.001)


def test_all_runs_that_nobody_drives_go_on_oldest_first():
    """Queued ones and running ones; not those of living owners, and no kept replays."""

    async def main():
        rows = [row(f"r{n}", created=float(n), status="queued" if n % 2 else "running") for n in range(20)]
        dead = row("dead", owner="dead", created=4.5)
        others = [row("driven", owner="alive"), row("waits", status="waiting"), row("ended", status="failed")]
        world = World(*reversed(rows), dead, *others, row(f"{REPLAY}x", parent="r1"))
        async with looking(world):
            await world.look_twice()
        assert world.begun == [*(f"r{n}" for n in range(5)), "dead", *(f"r{n}" for n in range(5, 20))]
        assert world.told == [("run taken over", "dead")], "the others had no owner"

    asyncio.run(main())


def test_runs_whose_owner_dies_later_go_on_and_others_are_left_alone():
    """A run that ended in order and has no owner goes on when the engine opens, or when someone resumes it: not meanwhile."""

    async def main():
        world = World(row("r", owner="alive"), row("s", owner="alive", created=1.0), row("t", owner="alive"))
        async with looking(world):
            await world.look_twice()
            assert world.begun == []
            world.runs["r"], world.runs["t"] = row("r", owner="dead", created=2.0), row("t", owner="dead")
            world.runs["s"] = row("s")
            await world.look_twice()
            assert world.begun == ["t", "r"]

    asyncio.run(main())


@pytest.mark.parametrize("fault", ["missing", "bug"])
def test_what_cannot_go_on_here_is_tried_once_for_each_owner_that_dies(fault):
    """It is told once, not each second; the owner in its row stays, since the row shows other engines that it died."""

    async def main():
        world = World(row("r", owner="dead"), row("s", owner="dead", created=1.0))
        world.missing = "r" if fault == "missing" else None
        tried = []

        async def go_on(run_id):
            tried.append(run_id)
            if run_id == "r":
                raise ValueError("a bug")
            await world.go_on(run_id)

        async with looking(world, go_on):
            await world.look_twice()
            await world.look_twice()
            assert world.begun == ["s"]
            assert world.told.count(("run not recovered", "r")) == 1
            world.missing = None
            world.runs["r"] = row("r", owner="dead", epoch=2)
            await world.look_twice()
        assert tried.count("r") == (1 if fault == "missing" else 2)

    asyncio.run(main())


@pytest.mark.parametrize("fault", [StoreError("is locked"), ValueError("a bug")], ids=["store", "bug"])
def test_a_look_that_fails_is_told_and_the_next_one_comes(fault):
    """The first one too."""

    async def main():
        world = World(row("r", owner="dead"))
        world.fault = fault
        async with looking(world):
            await world.look_twice()
            assert len(world.told) == 1 + world.looks, "the first one looks for runs without an owner too"
            assert set(world.told) == {
                ("no look for runs of dead processes", (str(fault), getattr(fault, "code", "")))
            }
            assert world.begun == []
            assert not world.takeover.is_to_come(world.runs["r"]), "the first look is over"
            world.fault = None
            await world.look_twice()
            assert world.begun == ["r"]

    asyncio.run(main())


class Gate:
    """Runs that are gone on with once the gate opens."""

    def __init__(self, world):
        self.world, self.open, self.under_way, self.most = world, asyncio.Event(), 0, 0
        self.is_full = asyncio.Event()

    async def go_on(self, run_id):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        if self.under_way == CLAIMS_MAX:
            self.is_full.set()
        await self.open.wait()
        await self.world.go_on(run_id)
        self.under_way -= 1


def test_claims_are_bounded_and_each_run_is_tried_once_in_the_first_look():
    """Who asks for a run that is tried waits for that; one that is to come is tried at once; then nothing is to come any more."""

    async def main():
        world = World(*(row(f"r{n:02}", created=float(n)) for n in range(20)))
        gate = Gate(world)
        last, replay = world.runs["r19"], row(f"{REPLAY}x", parent="r1")
        assert not world.takeover.is_to_come(last), "nobody looks yet"
        async with looking(world, gate.go_on):
            assert world.takeover.is_to_come(last)
            assert not world.takeover.is_to_come(replay)
            await gate.is_full.wait()
            assert gate.under_way == CLAIMS_MAX
            asked = [
                asyncio.create_task(world.takeover.take_up(world.runs[run_id])) for run_id in ("r00", "r19")
            ]
            for _ in range(5):
                await asyncio.sleep(0)
            assert gate.under_way == CLAIMS_MAX + 1
            assert not any(each.done() for each in asked)
            assert world.takeover.is_to_come(last), "it is being tried"
            gate.open.set()
            await asyncio.gather(*asked)
            assert not world.takeover.is_to_come(last)
            await world.look_twice()
            assert sorted(world.begun) == [f"r{n:02}" for n in range(20)]
            assert gate.most == CLAIMS_MAX + 1
            assert not world.takeover.is_to_come(row("new"))
            await world.takeover.take_up(world.runs["r00"])
            assert world.begun.count("r00") == 2, (
                "the first look is over: it is claimed as whoever asks wants it"
            )

    asyncio.run(main())


def test_who_waits_for_a_run_that_cannot_go_on_is_told_by_the_run_and_waits_no_longer():
    """A claim that fails ends the wait for it."""

    async def main():
        world = World(row("r"))
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def fail(run_id):
            begun.set()
            await go_on.wait()
            raise StoreError("is locked")

        async with looking(world, fail):
            await begun.wait()
            asked = asyncio.create_task(world.takeover.take_up(world.runs["r"]))
            await asyncio.sleep(0)
            assert not asked.done()
            go_on.set()
            await asked
            assert world.told == [("run not recovered", "r")]

    asyncio.run(main())


def test_the_end_waits_for_claims_under_way_and_begins_none():
    """A claim that is cut off would look like a death. A second end, or one of what never began, does nothing."""

    async def main():
        world = World(*(row(f"r{n:02}", created=float(n)) for n in range(20)))
        gate = Gate(world)
        await world.takeover.end()
        world.drive = gate.go_on
        world.takeover.begin()
        world.takeover.begin()
        await gate.is_full.wait()
        ending = asyncio.create_task(world.takeover.end())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not ending.done()
        gate.open.set()
        await ending
        assert sorted(world.begun) == [f"r{n:02}" for n in range(CLAIMS_MAX)]
        assert world.looks == 0
        await world.takeover.end()

    asyncio.run(main())


def test_a_claim_that_does_not_end_is_cut_off(monkeypatch):
    """After a while, so that the engine closes in any case."""
    monkeypatch.setattr(takeover, "STOP_S", 0.01)

    async def main():
        world = World(row("r"))
        begun, cut_off = asyncio.Event(), asyncio.Event()

        async def hang(run_id):
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                cut_off.set()

        world.drive = hang
        world.takeover.begin()
        await begun.wait()
        await world.takeover.end()
        assert cut_off.is_set()

    asyncio.run(main())


def test_scans_rest_while_every_known_owner_is_seen_to_live():
    """A store on a server is scanned every few seconds, and at once when a process of this machine is gone."""

    async def main():
        world = World(row("r", owner="alive"))
        gone, asked = set(), asyncio.Event()
        checks = []

        def is_gone(owner):
            checks.append(owner)
            asked.set()
            return owner in gone

        world.takeover.begin(is_gone, look_s=3600.0)
        try:
            await world.looked.wait()
            while len(checks) < 3:
                asked.clear()
                await asyncio.wait_for(asked.wait(), 60)
            assert world.looks == 1, "nothing has happened since"
            world.looked.clear()
            gone.add("alive")
            await asyncio.wait_for(world.looked.wait(), 60)
            assert world.looks == 2
        finally:
            await world.takeover.end()

    asyncio.run(main())


def test_scans_do_not_rest_while_a_run_is_due_before_the_next_one():
    """It goes on at its time, and not at the next scan."""

    async def main():
        world, now = World(row("r", status="waiting")), [0.0]
        waits = world.runs["r"]

        async def list_due(at):
            is_due = at >= 5.0 and world.runs["r"] is waits
            return [waits] if is_due else []

        world.list_due = list_due
        world.takeover._now = lambda: now[0]
        world.takeover.begin(look_s=10.0)
        try:
            await world.look_twice()
            assert world.begun == []
            now[0] = 5.0
            while not world.begun:
                await world.look_twice()
            assert world.begun == ["r"]
        finally:
            await world.takeover.end()

    asyncio.run(main())
