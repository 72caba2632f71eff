"""What a call was told of time and chance, it is told again: after a crash, in a retry, wherever it runs."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time

import pytest
from firmplan import Context, tool
from firmplan.executor import SqliteStore
from firmplan.tools.context import DRAWN_MAX
from forked import is_killed, start
from nondeterminism_child import WRITES, run_child, unsteady, unsteady_process
from rig import Rig, plan_of


@pytest.fixture
def noted(tmp_path, monkeypatch):
    """Return what calls have noted, one list of words a line."""
    path = tmp_path / "draws"
    monkeypatch.setenv("DRAWS_FILE", str(path))
    monkeypatch.setenv("FIRMPLAN_PROCESS_ENV", "DRAWS_FILE, DRAWS_KILL")
    return lambda: [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def lines_in(place):
    """Return the records of a store, as another process sees them now."""
    with sqlite3.connect(place) as db:
        found = [
            json.loads(line)
            for (lines,) in db.execute("SELECT lines FROM journal")
            for line in lines.split(b"\n")
        ]
    db.close()
    return found


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("kill_at", [1, 2, 3])
def test_a_write_killed_after_any_draw_is_told_the_same_again(tmp_path, noted, name, kill_at):
    """Killed the moment a value was told, which may have gone out with it: resumed, it is told that value again."""
    place = str(tmp_path / "s.db")
    env = {
        "DRAWS_FILE": str(tmp_path / "draws"),
        "DRAWS_KILL": str(kill_at),
        "FIRMPLAN_PROCESS_ENV": "DRAWS_FILE, DRAWS_KILL",
    }
    assert is_killed(start(run_child, env, place, name))
    first = noted()
    assert len(first) == kill_at

    async def main():
        async with Rig([WRITES[name]], place) as rig:
            assert (await rig.resume("r")).status == "succeeded"
            assert (await rig.execution.replays.replay("r", keep=False)).status == "succeeded"

    asyncio.run(main())
    again = noted()[kill_at:]
    assert len(again) == 3
    assert [line[2] for line in again[:kill_at]] == [line[2] for line in first]
    assert [line[1] for line in again] == ["2"] * 3


@pytest.mark.parametrize("where", ["inline", "thread", "async", "process"])
def test_retries_are_told_what_the_first_attempt_was(noted, where):
    """Also where an attempt between them asked for less."""
    if where == "process":
        trying = unsteady_process
    elif where == "async":

        @tool(effect="read", retries=2)
        async def trying(*, ctx: Context) -> list[str]:
            """Fail twice."""
            return unsteady(ctx)

    else:

        @tool(effect="read", retries=2, isolation=where)
        def trying(*, ctx: Context) -> list[str]:
            """Fail twice."""
            return unsteady(ctx)

    async def main():
        async with Rig([trying]) as rig:
            run = await rig.run(plan_of({"id": "s", "tool": trying.name}))
            types = [kind.split()[0] for kind in await rig.event_types(run.id)]
            assert (run.status, types.count("TimeTold"), types.count("IdMade")) == ("succeeded", 2, 1)

    asyncio.run(main())
    first, second, third = noted()
    assert first == third
    assert second == first[:1]


def test_a_read_goes_on_in_another_engine_with_what_it_was_told(tmp_path, noted):
    """A retry that a stop put off is told what the attempts before the stop were."""

    @tool(effect="read", retries=2)
    def trying(*, ctx: Context) -> list[str]:
        """Fail twice."""
        return unsteady(ctx)

    plan = plan_of({"id": "s", "tool": "trying"})

    class Stopped:
        """A clock on which no pause ends."""

        def now(self):
            return time.time()

        async def sleep(self, seconds):
            pausing.set()
            await asyncio.Event().wait()

    pausing = asyncio.Event()

    async def main():
        async with Rig([trying], str(tmp_path / "s.db"), clock=Stopped()) as rig:
            await rig.start(plan, "r")
            await pausing.wait()
        async with Rig([trying], str(tmp_path / "s.db")) as rig:
            assert (await rig.resume("r")).status == "succeeded"

    asyncio.run(main())
    first, _, third = noted()
    assert first == third


class Watched(SqliteStore):
    """A store that knows whether each record was committed to survive a power loss."""

    def __init__(self, path):
        super().__init__(path)
        self.synced = {}
        self.has_seen = threading.Event()

    def _append_all(self, sql, batches):
        is_synced = any(batch.is_synced for batch in batches)
        for batch in batches:
            for line in batch.lines:
                record = json.loads(line)
                self.synced.setdefault((record["type"], record.get("step")), is_synced)
        if ("TimeTold", "seen") in self.synced:
            self.has_seen.set()
        return super()._append_all(sql, batches)


@pytest.mark.parametrize("isolation", ["inline", "thread"])
def test_a_write_is_told_only_what_is_durable(tmp_path, isolation):
    """As soon as the call has the value, another process sees it in the store, safe from a power loss."""
    place, seen = str(tmp_path / "s.db"), []

    @tool(effect="write", isolation=isolation)
    def pay(*, ctx: Context) -> str:
        """Pay."""
        told = ctx.now() and ctx.used.now[-1]
        seen.append([line["seconds"] for line in lines_in(place) if line["type"] == "TimeTold"] == [told])
        made = str(ctx.uuid())
        seen.append([line["id"] for line in lines_in(place) if line["type"] == "IdMade"] == [made])
        return made

    @tool(effect="read", resource="clock")
    async def look(*, ctx: Context) -> str:
        """Look, and stay a while."""
        told = str(ctx.now())
        assert await asyncio.to_thread(store.has_seen.wait, 10)
        return told

    store = Watched(place)

    async def main():
        async with Rig([pay, look], store) as rig:
            run = await rig.run(plan_of({"id": "pay", "tool": "pay"}))
            assert run.status == "succeeded"
            assert store.synced["TimeTold", "pay"]
            assert store.synced["IdMade", "pay"]
            await rig.run(plan_of({"id": "seen", "tool": "look"}))
            assert not store.synced["TimeTold", "seen"], "a read waits for no disk"

    asyncio.run(main())
    assert seen == [True, True]


def test_what_was_given_up_draws_off_the_record():
    """A thread past its timeout adds nothing to a run that has ended; nor does one that polls fill the journal."""
    go_on, done = threading.Event(), threading.Event()

    @tool(effect="read", timeout=0.05)
    def late(*, ctx: Context) -> str:
        """Overrun."""
        go_on.wait()
        ctx.now()
        done.set()
        return ""

    @tool(effect="read")
    def polling(*, ctx: Context) -> int:
        """Ask for the time again and again."""
        return len({ctx.now() for _ in range(DRAWN_MAX + 50)}) and len(ctx.used.now)

    async def main():
        async with Rig([late, polling]) as rig:
            run = await rig.run(plan_of({"id": "late", "tool": "late"}))
            before = await rig.event_types(run.id)
            go_on.set()
            assert await asyncio.to_thread(done.wait, 10)
            assert (run.status, await rig.event_types(run.id)) == ("failed", before)
            run = await rig.run(plan_of({"id": "p", "tool": "polling"}))
            assert run.steps["p"].output == DRAWN_MAX
            assert (await rig.event_types(run.id)).count("TimeTold p") == DRAWN_MAX

    asyncio.run(main())


def test_a_draw_that_cannot_be_recorded_stops_the_run(tmp_path):
    """The call is told nothing, and the run goes on once the disk is back: the write was never told, and pays once."""
    paid = []

    class Full(SqliteStore):
        is_full = False

        def _append_all(self, sql, batches):
            if self.is_full and any(b"TimeTold" in line for batch in batches for line in batch.lines):
                raise sqlite3.OperationalError("database or disk is full")
            return super()._append_all(sql, batches)

    @tool(effect="write", idempotent=True)
    async def pay(*, ctx: Context) -> str:
        """Pay."""
        told = str(ctx.now())
        paid.append(told)
        return told

    async def main():
        store = Full(str(tmp_path / "s.db"))
        async with Rig([pay], store) as rig:
            store.is_full = True
            await rig.start(plan_of({"id": "pay", "tool": "pay"}), "r")
            with pytest.raises(Exception, match="disk is full"):
                await rig.execution.wait("r")
            assert paid == []
            store.is_full = False
            assert (await rig.resume("r")).status == "succeeded"
            assert len(paid) == 1

    asyncio.run(main())
