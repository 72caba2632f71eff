"""The life of an execution: faults reach everyone who waits, closing parks, what is parked goes on."""

from __future__ import annotations

import asyncio

import pytest
from firmplan.errors import ConfigError, EngineBug, StoreError
from firmplan.executor import SqliteStore
from firmplan.testing import Held, MemoryStore, ScriptedTool
from rig import Rig, plan_of, statuses, stop_at_once

PLAN = plan_of({"id": "a", "tool": "t"}, {"id": "b", "tool": "t", "after": ["a"]}, output="${[a, b]}")


class FailingStore(SqliteStore):
    """A store whose appends fail from the n-th on."""

    def __init__(self, good: int, fault: Exception) -> None:
        super().__init__(":memory:")
        self.good, self.fault = good, fault

    def append(self, batches):
        self.good -= 1
        if self.good < 0:
            raise self.fault
        return super().append(batches)


@pytest.mark.parametrize("good", range(6))
@pytest.mark.parametrize(
    ("fault", "kind"), [(StoreError("no"), StoreError), (ValueError("a bug"), EngineBug)]
)
def test_a_journal_that_cannot_be_written_is_told_to_everyone_who_waits(good, fault, kind):
    """Nobody hangs, nobody is told that all is well; once it can be written, the run goes on."""
    store = FailingStore(good, fault)

    async def main():
        made = ScriptedTool("t", lambda: 1, effect="read")
        async with Rig([made], store) as rig:
            await rig.start(PLAN, "r")
            waits = [rig.execution.wait("r") for _ in range(3)]
            outcomes = await asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), 10)
            if store.good >= 0:
                assert {outcome.status for outcome in outcomes} == {"succeeded"}
                return
            assert [type(outcome) for outcome in outcomes] == [kind] * 3
            store.good = 1000
            assert (await rig.resume("r")).output == [1, 1]

    asyncio.run(main())


def test_a_write_is_not_called_where_its_intent_cannot_be_written():
    """The intent is durable first."""
    made = ScriptedTool("t", effect="write")

    async def main():
        async with Rig([made], FailingStore(0, StoreError("no"))) as rig:
            await rig.start(PLAN, "r")
            with pytest.raises(StoreError):
                await rig.execution.wait("r")
            assert made.calls == []

    asyncio.run(main())


def test_closing_parks_reads_and_waits_for_writes(tmp_path):
    """The write's result is in the journal; the read is called again by the next."""
    store, reading, writing = str(tmp_path / "s.db"), Held("late"), Held("sent")
    plan = plan_of({"id": "r", "tool": "look"}, {"id": "w", "tool": "send"}, output="${[r, w]}")
    look = ScriptedTool("look", [reading, "seen"], effect="read", resource="box")
    send = ScriptedTool("send", [writing], effect="write", resource="mail")

    async def main():
        rig = Rig([look, send], store)
        await rig.execution.open()
        await rig.start(plan, "r")
        await reading.called.wait()
        await writing.called.wait()
        closing = asyncio.create_task(rig.execution.close())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not closing.done()
        writing.release()
        await closing
        async with Rig([look, send], store) as rig:
            parked = await rig.execution.archive.get("r")
            assert statuses(parked)["w"] == "succeeded"
            run = await rig.resume("r")
            assert run.output == ["seen", "sent"]
            assert (len(look.calls), len(send.calls)) == (2, 1)

    asyncio.run(main())


def test_closing_twice_and_closing_what_was_never_opened_do_no_harm():
    """Both are allowed."""

    async def main():
        rig = Rig([], MemoryStore())
        await rig.execution.close()
        async with Rig([], MemoryStore()) as rig:
            await rig.execution.close()

    asyncio.run(main())


def test_resuming_what_is_driven_waits_for_it():
    """No second driver."""
    held = Held(1)
    made = ScriptedTool("t", [held, 2], effect="read")

    async def main():
        async with Rig([made]) as rig:
            await rig.start(PLAN, "r")
            await held.called.wait()
            again = asyncio.create_task(rig.resume("r"))
            for _ in range(5):
                await asyncio.sleep(0)
            held.release()
            assert (await again).output == [1, 2]
            assert len(made.calls) == 2

    asyncio.run(main())


def test_many_resumes_at_once_are_one():
    """Whoever comes first drives."""
    made = ScriptedTool("t", lambda: 1, effect="read")

    async def main():
        async with Rig([made]) as rig:
            await rig.submit(PLAN, "r")
            runs = await asyncio.gather(*(rig.resume("r") for _ in range(8)))
            assert {run.status for run in runs} == {"succeeded"}
            assert len(made.calls) == 2

    asyncio.run(main())


def test_an_event_loop_that_ends_in_mid_run_leaves_a_run_that_goes_on(tmp_path):
    """As after a crash: the program did not close its engine."""
    store, held = str(tmp_path / "s.db"), Held(1)
    made = ScriptedTool("t", [held, 1, 2], effect="read")

    async def cut_off():
        rig = Rig([made], store)
        await rig.execution.open()
        await rig.start(PLAN, "r")
        await held.called.wait()
        return rig

    rig = asyncio.run(cut_off())
    rig.execution._owner.release()

    async def main():
        async with Rig([made], store) as rig:
            assert (await rig.resume("r")).output == [1, 2]

    asyncio.run(main())
    for db in (rig.store._db, rig.store._reader):  # as the end of the program would
        db.close()


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"effect": "read"}, {"effect": "write"}, "had the effect 'read', and has 'write' now"),
        ({"effect": "write"}, {"effect": "pure"}, "had the effect 'write', and has 'pure' now"),
        ({"effect": "write", "idempotent": True}, {"effect": "write"}, "was idempotent"),
        ({"effect": "write", "reconcile": lambda key, args: None}, {"effect": "write"}, "had a reconcile"),
    ],
)
def test_a_tool_that_keeps_its_promises_no_more_stops_the_run(tmp_path, before, after, told):
    """What decides whether a call may be repeated has changed since the run was submitted: nothing is called, and why is told."""
    plan = plan_of({"id": "ready", "tool": "ready"}, {"id": "t", "tool": "t", "after": ["ready"]})
    ready = ScriptedTool("ready", effect="pure", approval="always")
    later = ScriptedTool("t", **after)

    async def main():
        async with Rig([ready, ScriptedTool("t", **before)], str(tmp_path / "s.db")) as rig:
            assert (await rig.run(plan, "r")).status == "waiting"
            await rig.decisions.approve("r", "ready", by="ann", edit=None)
        async with Rig([ready, later], str(tmp_path / "s.db")) as rig:
            with pytest.raises(ConfigError, match=told):
                await rig.resume("r")
            assert later.calls == []
        async with Rig([ready, ScriptedTool("t", **before)], str(tmp_path / "s.db")) as rig:
            assert (await rig.resume("r")).status == "succeeded"

    asyncio.run(main())


class Counting(SqliteStore):
    """A store that counts its transactions, and the runs that it was asked to release by itself."""

    def __init__(self, path=":memory:"):
        super().__init__(path)
        self.commits, self.released = 0, []

    def _sql(self, statement, values=()):
        self.commits += statement == "COMMIT"
        return super()._sql(statement, values)

    async def release(self, epochs):
        self.released.append(set(epochs))
        await super().release(epochs)


def test_an_ended_run_is_released_with_its_last_record():
    """No statement of its own is needed, and nobody waits for one."""
    store = Counting()

    async def main():
        async with Rig([ScriptedTool("t", lambda: 1, effect="read")], store) as rig:
            await rig.start(PLAN, "r")
            events = [event.type async for event in rig.execution.events("r")]
            assert events[-1] == "RunFinished"
            assert (await store.find_run("r")).owner is None
            assert (await rig.execution.wait("r")).output == [1, 1]
        assert store.released == []

    asyncio.run(asyncio.wait_for(main(), 20))


def test_runs_that_stop_at_once_are_released_together():
    """Whether they end or wait for a person: their number does not decide how many transactions release them."""
    store = Counting()
    waiting, commits = asyncio.run(asyncio.wait_for(stop_at_once(store, lambda: store.commits), 60))
    assert commits < 40
    assert set().union(*store.released) == waiting
    assert len(store.released) < 20


def test_an_ended_run_has_no_owner_once_its_engine_is_closed(tmp_path):
    """Whatever was still to be let go of."""

    async def main():
        async with Rig([ScriptedTool("t", lambda: 1, effect="read")], str(tmp_path / "s.db")) as rig:
            await rig.run(PLAN, "r")
        store = SqliteStore(tmp_path / "s.db")
        await store.open()
        assert (await store.find_run("r")).owner is None
        await store.close()

    asyncio.run(main())
