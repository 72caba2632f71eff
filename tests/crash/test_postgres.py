"""A store in PostgreSQL: engines are killed, and so is the server, at chosen instants of a run; nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

import pytest
from crash_child import PLAN, KilledPostgres, World, finish, run_child, tools_of
from firmplan import StoreError
from firmplan.executor.journal.restore import check_heads, load_entries
from firmplan.executor.stores.postgres_store import PostgresStore
from firmplan.testing import ScriptedTool
from forked import is_killed, start
from rig import Rig, plan_of
from seeds import seeds

pytestmark = pytest.mark.postgres
TICKS_MAX = 42  # more than a run has: the last ones do nothing
SURE = ("put_once", "put_asked")  # what a second call would do twice


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory):
    """The run that nothing interrupts."""
    world = World(tmp_path_factory.mktemp("unharmed") / "effects")

    async def main():
        async with Rig(tools_of(world)) as rig:
            return await rig.run(PLAN, "run", inputs={"n": 1})

    return asyncio.run(main())


def acknowledged(world, *, synced):
    """Return number and head of each flush that was acknowledged, or of those that were to outlive a power loss."""
    path = world.acknowledged
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return {int(line[0]): line[1] for line in lines if not synced or len(line) == 3}


async def assert_held(store, acknowledged_heads):
    """Every acknowledged flush stands in the journal as it was, and the journal is whole."""
    row = await store.find_run("run")
    await load_entries(store, row)
    await check_heads(store, row)
    starts = await store.read_heads("run")
    lasts = [*(first - 1 for first, _ in starts[1:]), *([row.last_seq] if starts else [])]
    held = {last: head.hex() for last, (_, head) in zip(lasts, starts, strict=True)}
    assert acknowledged_heads.items() <= held.items()


def assert_nothing_twice(world, run, unharmed):
    """The world saw each effect once, and the run ended as if nothing had happened."""
    assert (run.status, run.digest) == ("succeeded", unharmed.digest)
    for name, steps in (("put_once", 1), ("put_asked", 2)):
        counts = Counter(key for _, key in world.effects(name))
        assert list(counts.values()) == [1] * steps, f"{name} had an effect twice, or none"
    assert len({key for _, key in world.effects("put_keyed")}) == 1, "an idempotent write keeps its key"


@pytest.mark.sweep
@pytest.mark.parametrize("kill_at", seeds(TICKS_MAX, sampled=6))
def test_an_engine_killed_at_any_tick_goes_on(tmp_path, postgres_url, unharmed, kill_at):
    """Kill -9 before or after an effect or a commit: all that was acknowledged is there, and no write runs twice."""
    effects = tmp_path / "effects"
    is_killed(start(run_child, postgres_url, str(effects), "run", kill_at))
    world = World(effects)

    async def main():
        async with Rig(tools_of(world), PostgresStore(postgres_url)) as rig:
            if await rig.store.find_run("run") is None:
                await rig.submit(PLAN, "run", inputs={"n": 1})
            else:
                await assert_held(rig.store, acknowledged(world, synced=False))
            run = await finish(rig, world, "run")
            assert (await rig.execution.replays.replay("run", keep=False)).digest == run.digest
            return run

    assert_nothing_twice(world, asyncio.run(main()), unharmed)


class Crashing(World):
    """A world in which the server crashes at a tick, and is started again at once."""

    def __init__(self, path, cluster, crash_at):
        super().__init__(path)
        self.cluster, self.crash_at = cluster, crash_at
        self.is_back = threading.Event()

    def tick(self):
        self.ticks += 1
        if self.ticks == self.crash_at:
            self.cluster.stop("immediate")
            self.cluster.start()
            self.is_back.set()


@pytest.mark.sweep
@pytest.mark.parametrize("crash_at", seeds(TICKS_MAX, sampled=6))
def test_a_server_that_crashes_at_any_tick_loses_nothing_durable(
    tmp_path, cluster, postgres_url, unharmed, crash_at
):
    """Without writing out what it had in memory: what was to be durable is there, and the same engine goes on."""
    world = Crashing(tmp_path / "effects", cluster, crash_at)

    async def main():
        async with Rig(tools_of(world), KilledPostgres(postgres_url, world)) as rig:
            try:
                await rig.run(PLAN, "run", inputs={"n": 1})
            except StoreError:
                await asyncio.to_thread(world.is_back.wait)
                await asyncio.gather(*rig.execution._driving.values(), return_exceptions=True)
                await assert_held(rig.store, acknowledged(world, synced=True))
            world.crash_at = 0
            run = await finish(rig, world, "run")
            await assert_held(rig.store, acknowledged(world, synced=True))
            await rig.run(plan_of({"id": "next", "set": 1}))  # what could not be let go of is now
            assert (await rig.store.find_run("run")).owner is None
            return run

    assert_nothing_twice(world, asyncio.run(main()), unharmed)


def test_without_a_server_a_run_stops_and_with_one_it_goes_on(tmp_path, cluster, postgres_url):
    """A StoreError that names the store and no password; the same engine finishes the run once the server is back."""
    gates = {"stop": lambda: cluster.stop("immediate")}
    look = ScriptedTool("look", lambda x: gates.pop("stop", int)() or x, effect="read", resource="box")
    plan = plan_of(
        {"id": "a", "tool": "look", "args": {"x": 1}}, {"id": "b", "tool": "look", "args": {"x": "${a + 1}"}}
    )

    async def main():
        async with Rig([look], PostgresStore(postgres_url)) as rig:
            with pytest.raises(StoreError, match=r"the store postgresql://firmplan@127") as raised:
                await rig.run(plan, "r")
            assert "s3cr3t" not in str(raised.value)
            assert raised.value.temporary
            with pytest.raises(StoreError, match=r"cannot be reached.*is the server running there"):
                await rig.resume("r")
            cluster.start()
            assert (await rig.resume("r")).status == "succeeded"

    asyncio.run(main())


def test_a_connection_that_ended_while_nobody_used_it_is_made_anew(cluster, postgres_url):
    """Between two runs the server was started anew, or a line was cut: nobody notices."""
    plan = plan_of({"id": "a", "set": 1}, output="${a}")

    async def main():
        async with Rig([], PostgresStore(postgres_url)) as rig:
            assert (await rig.run(plan)).output == 1
            cluster.stop()
            cluster.start()
            assert (await rig.run(plan)).output == 1
            ours = "FROM pg_stat_activity WHERE application_name='firmplan'"
            cluster.sql(f"SELECT pg_terminate_backend(pid) {ours}")
            while cluster.sql(f"SELECT 1 {ours}"):  # noqa: ASYNC110  # the server says when they have ended
                await asyncio.sleep(0.01)
            assert (await rig.run(plan)).output == 1

    asyncio.run(main())
