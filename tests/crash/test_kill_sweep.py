"""kill -9 at every instant of a long run of all classes of effects; `make sweep` tries all of them, the tests some."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from random import Random

import pytest
from crash_child import LONG_PLAN, World, models_at, run_child, tools_of
from firmplan.executor.journal.records import chain
from firmplan.testing import ScriptedModel
from forked import is_killed, start
from rig import Rig
from seeds import seeds

TICKS_MAX = 270  # more than the run has: the last ones do not kill, and neither does the first
TIMES = 500
SURE = ("put_once", "put_asked")  # what a second call would do twice


def named(request):
    """Answer a prompt: a name as long as the last digit of its number."""
    return "n" * (int(request["messages"][-1]["content"].rpartition(" ")[2]) % 10 + 1)


@pytest.fixture(scope="module")
def model():
    """The endpoint that all processes ask."""
    with ScriptedModel(named) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory, model):
    """The run that nothing interrupts: its digest, output, how long a process needs for it, and the number of its instants."""
    folder = tmp_path_factory.mktemp("unharmed")
    kill(folder, model, 0)  # warms the server of processes
    folder = tmp_path_factory.mktemp("timed")
    begun = time.monotonic()
    kill(folder, model, 0)
    seconds = time.monotonic() - begun

    async def main():
        async with Rig([], str(folder / "s.db")) as rig:
            return await rig.execution.archive.get("run")

    run, world = asyncio.run(main()), World(folder / "effects")
    assert run.status == "succeeded"
    assert len(run.steps) == 60
    ticks = int(world.lived.read_text())
    assert 100 < ticks < TICKS_MAX, "the sweep tries every instant that the run has"
    heard = [int(line.split()[0]) for line in world.acknowledged.read_text().splitlines()]
    assert heard[-1] == run.last_event, "what the process hears of its commits is all of them"
    return run.digest, run.output, seconds, ticks


def kill(folder, model, kill_at, *, after_s=None):
    """Run the plan in a process of its own, which dies; return whether it did."""
    args = (str(folder / "s.db"), str(folder / "effects"), "run", kill_at, model.base_url)
    return is_killed(start(run_child, *args), after_s=after_s)


async def go_on(folder, model):
    """Resume until the run has ended, deciding where asked as a person who has seen the world would."""
    world = World(folder / "effects")
    asked = 0
    async with Rig(tools_of(world), str(folder / "s.db"), models=models_at(model.base_url)) as rig:
        if await rig.store.find_run("run") is None:
            return await rig.run(LONG_PLAN, "run", inputs={"n": 1}), 0
        await assert_nothing_lost(rig, world)
        run = await rig.resume("run")
        while run.status == "indeterminate":
            (step,) = [path for path, view in run.steps.items() if view.status == "indeterminate"]
            assert step.startswith("once_"), "only a write that cannot be asked about is left open"
            asked += 1
            if any(step == found for found, _ in world.effects("put_once")):
                await rig.decisions.resolve_done("run", step, run.steps[step].args["x"] + 1)
            else:
                await rig.decisions.resolve_retry("run", step)
            run = await rig.resume("run")
        replayed = await rig.execution.replays.replay("run", keep=False)
        assert replayed.digest == run.digest
        return run, asked


async def assert_nothing_lost(rig, world):
    """Every record of which the dead process had heard that it is kept, is kept as it was."""
    lines = await rig.store.read_journal("run")
    told = world.acknowledged.read_text().splitlines() if world.acknowledged.exists() else []
    for each in (line.split() for line in told if line.count(" ") == 1):
        count, head = int(each[0]), each[1]
        assert count <= len(lines), "an acknowledged record is lost"
        if each == told[-1].split():
            assert chain(bytes(32), lines[:count]).hex() == head


def assert_done_right(folder, run, asked, unharmed):
    """The end is that of the run that nothing interrupted, and the world saw each effect as its class promises."""
    digest, output, *_ = unharmed
    assert (run.status, run.output, run.digest) == ("succeeded", output, digest)
    world = World(folder / "effects")
    for name in SURE:
        effects = Counter(step for step, _ in world.effects(name))
        assert set(effects.values()) == {1}, f"{name} had an effect twice"
        assert len(effects) == 10
    keys: dict[str, set[str]] = {}
    for step, key in world.effects("put_keyed"):
        keys.setdefault(step, set()).add(key)
    assert len(keys) == 10
    assert all(len(found) == 1 for found in keys.values()), (
        "an idempotent write was called again with another key"
    )
    assert asked <= 1, "a process that dies leaves one write open at most"


@pytest.mark.sweep
@pytest.mark.parametrize("kill_at", seeds(TICKS_MAX, sampled=6))
def test_a_long_run_killed_at_any_tick_goes_on(tmp_path, model, unharmed, kill_at):
    """Before and after each commit of the journal, and before and after each effect."""
    is_dead = kill(tmp_path, model, kill_at)
    assert is_dead == (0 < kill_at <= unharmed[3]) or kill_at > unharmed[3] / 2, (
        "how many commits there are depends on time, but not by so much"
    )
    run, asked = asyncio.run(go_on(tmp_path, model))
    assert_done_right(tmp_path, run, asked, unharmed)


@pytest.mark.sweep
@pytest.mark.parametrize("seed", seeds(TIMES, sampled=4))
def test_a_long_run_killed_at_any_time_goes_on(tmp_path, model, unharmed, seed):
    """Killed from outside, at a seeded part of the time that the run takes."""
    kill(tmp_path, model, 0, after_s=Random(seed).random() * unharmed[2] * 1.1)
    run, asked = asyncio.run(go_on(tmp_path, model))
    assert_done_right(tmp_path, run, asked, unharmed)
