"""What a store in PostgreSQL tells of changes: decisions to everybody who listens, moves of a run to who has asked, and that something may have been missed."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from firmplan.errors import ToolError
from firmplan.executor.runs import changes, watch
from firmplan.executor.stores import postgres_connection
from firmplan.executor.stores.postgres_store import PostgresStore
from firmplan.executor.stores.store import Change, RunRow
from firmplan.tools import tool
from rig import Rig, plan_of

pytestmark = pytest.mark.postgres
SESSIONS = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"


class Listening:
    """A store that listens, and what it has heard."""

    def __init__(self, url):
        self.store = PostgresStore(url)
        self.heard = asyncio.Queue()

    async def begin(self):
        """Open the store and listen."""
        await self.store.open()
        loop = asyncio.get_running_loop()
        await self.store.listen(lambda change: loop.call_soon_threadsafe(self.heard.put_nowait, change))
        assert await self.next() == Change("missed")
        assert self.store.is_telling

    async def next(self):
        """Return the next change."""
        return await asyncio.wait_for(self.heard.get(), 60)

    async def next_told(self):
        """Return the next change that a process has told."""
        while (change := await self.next()).kind == "missed":
            pass
        return change


@asynccontextmanager
async def stores(url):
    """A store that changes things, with the run `r`, and one that listens."""
    one, other = PostgresStore(url), Listening(url)
    await one.open()
    await other.begin()
    await one.listen(lambda _change: None)
    await one.create_run(RunRow("r", "queued", None, None, None, 1.0, 1.0, "", {}))
    try:
        yield one, other
    finally:
        await one.close()
        await other.store.close()


async def has_asked(store, run_id):
    """Wait until a store has heard that somebody asks for a run."""
    while run_id not in store._asked:  # noqa: ASYNC110  # nothing tells
        await asyncio.sleep(0.005)


def test_moves_are_told_to_those_who_ask_and_decisions_to_all(postgres_url):
    """A claim that nobody asked for is no notification; a decision is one, and after a request the release is, too."""

    async def main():
        async with stores(postgres_url) as (one, other):
            row = await one.claim("r", "me", is_alive=lambda *_: False)
            await one.add_decision("r", b"{}")
            assert await other.next() == Change("decided", ("r",))
            await other.store.ask_for(["other", "r"])
            await has_asked(one, "r")
            await one.release({"r": row.epoch})
            assert await other.next() == Change("moved", ("r",))

    asyncio.run(main())


def test_notifications_that_arrive_with_answers_are_heard(postgres_url):
    """The session that listens also looks things up: nothing is lost between the two."""

    async def main():
        async with stores(postgres_url) as (one, other):
            for _ in range(20):
                await asyncio.gather(
                    one.add_decision("r", b"{}"), *(other.store.find_run("r") for _ in range(5))
                )
            for _ in range(20):
                assert await other.next() == Change("decided", ("r",))

    asyncio.run(main())


def test_many_runs_fit_into_notifications(postgres_url):
    """A server takes only some thousand bytes in one."""

    async def main():
        async with stores(postgres_url) as (one, other):
            ids = [f"{n:0128}" for n in range(300)]
            await other.store.ask_for(ids)
            await has_asked(one, ids[-1])
            assert all(each in one._asked for each in ids)

    asyncio.run(main())


def test_what_no_version_says_is_not_heard(cluster, postgres_url):
    """Whatever others send on the channel changes nothing."""

    async def main():
        async with stores(postgres_url) as (one, other):
            channel = f"SELECT {postgres_connection.CHANNEL}"
            for payload in ("", "nonsense", "{}", '["later", "r"]', '["moved", 1]', '["asked", null]', "[]"):
                cluster.sql(
                    f"SELECT pg_notify(channel, '{payload}') FROM ({channel}) AS s(channel)", postgres_url
                )
            await one.add_decision("r", b"{}")
            assert await other.next() == Change("decided", ("r",))

    asyncio.run(main())


def test_a_session_that_is_lost_is_replaced_and_said(cluster, postgres_url):
    """Whoever waits is told to look when it was lost, and when another one listens."""

    async def main():
        async with stores(postgres_url) as (one, other):
            pids = [pid for (pid,) in cluster.sql(SESSIONS)]
            assert len(pids) == 2
            for pid in pids:
                cluster.sql(f"SELECT pg_terminate_backend({pid}, 5000)")
            assert [await other.next(), await other.next()] == [Change("missed")] * 2
            await one.add_decision("r", b"{}")
            assert await other.next_told() == Change("decided", ("r",))

    asyncio.run(main())


def test_a_server_that_comes_back_is_listened_to(cluster, postgres_url, monkeypatch):
    """While it is away nothing is told, and the store knows that."""
    monkeypatch.setattr(postgres_connection, "_RETRY_MAX_S", 0.05)

    async def main():
        async with stores(postgres_url) as (one, other):
            await asyncio.to_thread(cluster.stop, "immediate")
            try:
                assert await other.next() == Change("missed")
                assert not other.store.is_telling
            finally:
                await asyncio.to_thread(cluster.start)
            while not other.store.is_telling:
                await other.next()
            await one.add_decision("r", b"{}")
            assert await other.next_told() == Change("decided", ("r",))

    asyncio.run(main())


def test_a_listen_that_a_pooler_drops_is_repeated(postgres_url, monkeypatch):
    """The session lives and hears nothing more; it says LISTEN again after a time, and whoever waits looks."""
    monkeypatch.setattr(postgres_connection, "RELISTEN_S", 0.05)

    async def main():
        async with stores(postgres_url) as (one, other):
            await other.store._side.call(lambda db: db.execute("UNLISTEN *"))
            while not other.heard.empty():
                other.heard.get_nowait()
            assert await other.next() == Change("missed")
            await one.add_decision("r", b"{}")
            assert await other.next_told() == Change("decided", ("r",))

    asyncio.run(main())


@pytest.fixture
def hold():
    """A tool whose call ends only when its run is cancelled."""

    @tool(effect="read", version=1)
    async def hold() -> int:
        """Wait."""
        await asyncio.Event().wait()
        return 1

    return hold


async def cancelled_from_elsewhere(url, hold, prepare=None):
    """Cancel a run that another execution drives, and follow it from here until it has ended."""
    async with Rig([hold], url) as one, Rig([hold], url) as other:
        await one.start(plan_of({"id": "a", "tool": "hold"}), "r")
        first = asyncio.create_task(other.execution.wait("r"))
        while not (one.store.is_telling and other.store.is_telling):  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.005)
        if prepare is not None:
            prepare()
        waiting = asyncio.create_task(other.execution.wait("r"))
        following = asyncio.create_task(kinds(other.execution.events("r")))
        if prepare is not None:
            await has_asked(one.store, "r")
            while len(other.execution.changes._followed["r"]) < 3:  # noqa: ASYNC110  # nothing tells
                await asyncio.sleep(0.005)
        await other.decisions.cancel("r")
        assert (await asyncio.wait_for(waiting, 60)).status == "cancelled"
        assert (await asyncio.wait_for(following, 60))[-1] == "RunFinished"
        assert (await asyncio.wait_for(first, 60)).status == "cancelled"


async def kinds(events):
    """Return the kinds of events, in their order."""
    return [event.type async for event in events]


def test_decisions_and_moves_need_no_poll(postgres_url, hold, monkeypatch):
    """Without any look of its own, the driver hears of the cancel, and whoever waits and follows hears of the end."""

    def never_look():
        monkeypatch.setattr(changes, "POLL_S", 3600.0)
        monkeypatch.setattr(changes, "LOOK_MAX_S", 3600.0)
        monkeypatch.setattr(watch, "POLL_S", 3600.0)
        monkeypatch.setattr(watch, "MISSED_MAX_S", 7200.0)

    asyncio.run(cancelled_from_elsewhere(postgres_url, hold, never_look))


def test_notifications_that_are_lost_are_made_good(postgres_url, hold, monkeypatch):
    """A pooler may swallow all of them: whoever waits looks from time to time."""
    monkeypatch.setattr(PostgresStore, "_heard", lambda *_: None)
    monkeypatch.setattr(watch, "MISSED_MAX_S", 0.4)
    asyncio.run(cancelled_from_elsewhere(postgres_url, hold))


def test_a_crowd_looks_more_rarely(postgres_url):
    """However many wait in one engine, their looks are about as many a second as those of a hundred."""

    async def main():
        async with stores(postgres_url) as (one, _):
            waiting = changes.Changes(one)
            assert waiting.crowd == 1.0
            those = [waiting.follow(f"r{n}") for n in range(300)]
            for n, each in enumerate(those):
                waiting.add(f"r{n}", each)
            assert waiting.crowd == 3.0
            for n, each in enumerate(those):
                waiting.remove(f"r{n}", each)
            assert waiting.crowd == 1.0

    asyncio.run(main())


def test_work_of_a_waiting_thread_is_done_in_order():
    """Errors reach who waits; after its end it takes no work."""
    thread = postgres_connection._WaitingThread("test", select_on)
    done = []
    futures = [thread.submit(done.append, n) for n in range(100)]
    failed = thread.submit(_fail)
    for future in futures:
        future.result(60)
    with pytest.raises(ToolError):
        failed.result(60)
    thread.shutdown()
    assert done == list(range(100))
    with pytest.raises(RuntimeError, match="has ended"):
        thread.submit(done.append, 1)


def _fail():
    raise ToolError("no")


def select_on(fd):
    """Wait for a byte."""
    import select

    select.select([fd], [], [])
