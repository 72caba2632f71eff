"""kill -9 at any instant: the next start finds a legal state, no write runs twice, nothing is lost."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from random import Random

import pytest
from crash_child import PLAN, World, run_child, tools_of
from firmplan import Engine
from forked import is_killed, start
from rig import Rig, statuses
from seeds import seeds

TICKS_MAX = 42  # more than a run has: the last ones do not kill


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory):
    """The run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("unharmed")

    async def main():
        async with Rig(tools_of(World(folder / "effects")), str(folder / "s.db")) as rig:
            return await rig.run(PLAN, "run", inputs={"n": 1})

    run = asyncio.run(main())
    assert run.status == "succeeded"
    return run


def kill(folder, kill_at, *, is_resumed=False, after_s=None):
    """Run the plan in a process of its own, which dies; return whether it did."""
    args = (str(folder / "s.db"), str(folder / "effects"), "run", kill_at)
    return is_killed(start(run_child, *args, is_resumed=is_resumed), after_s=after_s)


async def go_on(folder, world):
    """Resume in this process until the run has ended, deciding as a person who has seen the world would."""
    async with Rig(tools_of(world), str(folder / "s.db")) as rig:
        if await rig.store.find_run("run") is None:
            return await rig.run(PLAN, "run", inputs={"n": 1})
        run = await rig.resume("run")
        if run.status == "indeterminate":
            assert statuses(run)["once"] == "indeterminate"
            assert len(world.effects("put_once")) <= 1
            before = len(world.lines())
            assert (await rig.resume("run")).status == "indeterminate"
            assert len(world.lines()) == before, "a step of unknown outcome was called again"
            if world.effects("put_once"):
                await rig.decisions.resolve_done("run", "once", run.steps["keyed"].output + 1)
            else:
                await rig.decisions.resolve_retry("run", "once")
            run = await rig.resume("run")
        again = await rig.execution.replays.replay("run", keep=False)
        assert again.digest == run.digest
        other = await rig.run(PLAN, "other", inputs={"n": 5})
        assert other.status == "succeeded", "the store is usable"
        return run


def assert_nothing_twice(world, run, unharmed):
    """The world saw each effect once, and the run ended as if nothing had happened."""
    assert run.status == "succeeded"
    assert run.digest == unharmed.digest
    own = {line[1] for line in world.lines()}
    assert {"once", "keyed", "asked[0]", "asked[1]"} <= own


@pytest.mark.parametrize("kill_at", range(1, TICKS_MAX))
def test_a_run_killed_at_any_tick_goes_on(tmp_path, unharmed, kill_at):
    """Before and after every effect and every commit: reads and pure steps are called again, writes are not done twice."""
    kill(tmp_path, kill_at)
    world = World(tmp_path / "effects")
    run = asyncio.run(go_on(tmp_path, world))
    assert_nothing_twice(world, run, unharmed)
    for name, steps in (("put_once", 1), ("put_asked", 2)):
        keys = [key for _, key in world.effects(name)]
        assert max(Counter(keys).values()) == 1, f"{name} had an effect twice"
        assert len(keys) == 2 * steps
    keyed = {key for _, key in world.effects("put_keyed")}
    assert len(keyed) == 2, "an idempotent write is called again with the same key"


@pytest.mark.sweep
@pytest.mark.parametrize("seed", seeds(100, sampled=5))
def test_a_run_killed_again_and_again_goes_on(tmp_path, unharmed, seed):
    """Killed at a random tick, and while it recovers, several times over."""
    random = Random(seed)
    kill(tmp_path, random.randrange(1, 40))
    for _ in range(3):
        kill(
            tmp_path, random.randrange(1, 20), is_resumed=(tmp_path / "s.db").exists() and _has_run(tmp_path)
        )
    world = World(tmp_path / "effects")
    run = asyncio.run(go_on(tmp_path, world))
    assert_nothing_twice(world, run, unharmed)
    for name in ("put_once", "put_asked"):
        assert max(Counter(key for _, key in world.effects(name)).values()) == 1, (
            f"{name} had an effect twice"
        )
    assert len({key for _, key in world.effects("put_keyed")}) == 2


@pytest.mark.sweep
@pytest.mark.parametrize("seed", seeds(100, sampled=4))
def test_a_run_killed_at_any_time_goes_on(tmp_path, unharmed, seed):
    """Killed from outside, at a seeded time."""
    kill(tmp_path, 0, after_s=Random(seed).random() * 0.12)
    world = World(tmp_path / "effects")
    run = asyncio.run(go_on(tmp_path, world))
    assert_nothing_twice(world, run, unharmed)
    for name in ("put_once", "put_asked"):
        assert max(Counter(key for _, key in world.effects(name)).values()) == 1


@pytest.mark.parametrize("kill_at", [6, 20, 30])
def test_an_engine_that_recovers_goes_on_by_itself(tmp_path, unharmed, kill_at):
    """`recover=True`: opening is enough; whoever asks for the run waits for it."""
    assert kill(tmp_path, kill_at)
    world = World(tmp_path / "effects")

    async def main():
        async with Engine(tools_of(world), store=tmp_path / "s.db", recover=True) as engine:
            run = await engine.wait("run")
            if run.status == "indeterminate":
                effects = world.effects("put_once")
                decision = {"done": run.steps["keyed"].output + 1} if effects else {"retry": True}
                await engine.resolve("run", "once", **decision)
                run = await engine.resume("run")
            return run

    run = asyncio.run(main())
    assert_nothing_twice(world, run, unharmed)
    assert len(world.effects("put_once")) == 1


def test_a_run_of_a_dead_process_is_seen_as_it_was_left(tmp_path):
    """Looking at it changes nothing: without resume, nothing goes on."""
    assert kill(tmp_path, 20)
    world = World(tmp_path / "effects")
    before = world.lines()

    async def main():
        async with Engine(tools_of(world), store=tmp_path / "s.db") as engine:
            run = await engine.get("run")
            assert run.status == "running"
            assert await engine.get("run") == run
            assert (await engine.wait("run")).status == "running", (
                "nobody drives it: there is nothing to wait for"
            )

    asyncio.run(main())
    assert world.lines() == before


def test_two_processes_cannot_drive_one_run(tmp_path):
    """While one lives, the other waits for what it does."""
    child = start(run_child, str(tmp_path / "s.db"), str(tmp_path / "effects"), "run", 0)
    world = World(tmp_path / "effects")

    async def main():
        async with Rig(tools_of(world), str(tmp_path / "s.db")) as rig:
            return await rig.run(PLAN, "run", inputs={"n": 1})

    run = asyncio.run(main())
    assert not is_killed(child)
    assert run.status == "succeeded"
    assert Counter(line[0] for line in world.lines()) == {
        "work": 1,
        "look": 3,
        "put_keyed": 1,
        "put_once": 1,
        "put_asked": 2,
    }


def _has_run(folder):
    with closing(sqlite3.connect(folder / "s.db")) as db, db:
        try:
            return db.execute("SELECT count(*) FROM runs").fetchone()[0] == 1
        except sqlite3.OperationalError:
            return False
