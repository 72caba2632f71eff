"""Rates over several engines: together they start no more calls than the rate, from one row of a store in PostgreSQL."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest
from firmplan import ConfigError, Engine, Model, StoreError, tool
from firmplan.executor.stores.postgres_store import PostgresStore
from firmplan.executor.stores.shared_rates import AWAY_S_MAX, BucketRule, SharedRates
from firmplan.testing import ScriptedModel
from hypothesis import given
from hypothesis import strategies as st
from seeds import examples

PLAN = {
    "firmplan": 1,
    "inputs": {"n": {"type": "integer"}},
    "steps": [
        {"id": "s", "tool": "look", "for_each": "${range(inputs.n)}", "args": {"x": "${item}"}, "retries": 0}
    ],
    "output": "${s}",
}
CHILD = """
import asyncio, sys, time
from firmplan import Engine, tool

@tool(effect="read", rate="40/s")
async def look(x: int) -> float:
    return time.time()

async def main():
    async with Engine([look], store=sys.argv[1]) as engine:
        print("ready", flush=True)
        sys.stdin.readline()
        run = await engine.run({plan}, inputs={"n": 20}, reuse="off")
        print(*run.output)

asyncio.run(main())
"""


@examples(200)
@given(
    rate=st.one_of(st.integers(1, 400), st.floats(0.05, 400), st.just(5_000.0)),
    leases=st.lists(
        st.tuples(st.floats(0, 0.5), st.integers(1, 50), st.floats(0, 1)), min_size=1, max_size=60
    ),
)
def test_no_second_has_more_however_the_starts_are_leased_and_used(rate, leases):
    """Engines lease batches of any size at any time, and use each start at once or as late as it is valid; the law of `rate * t + burst` follows."""
    rule = BucketRule.of(rate)
    most = min(max(1, int(rate)), 1_000)
    now, end, used = 0.0, 0.0, []
    for gap, wanted, late in leases:
        now += gap
        count = min(wanted, rule.batch_max)
        head = max(end, now)
        end = head + count * rule.interval_s
        used += [now + start + late * rule.valid_s for start in rule.starts(head - now, count)]
    used.sort()
    for first, last in zip(used, used[most:], strict=False):
        assert last - first >= most / rate - 1e-6
    assert rule.burst + rule.valid_s / rule.interval_s <= max(1, most / 10) + 1e-9
    assert rule.interval_s * rate <= 1.12  # a rate is used up to nine tenths


def test_a_wrong_setting_is_told():
    """What else it could be, and what was found."""
    with pytest.raises(ConfigError, match="rate_limits: expected 'shared' or 'process', found 'all'"):
        Engine([], store="memory:", rate_limits="all")


class Passing:
    """A clock that moves only when somebody sleeps."""

    def __init__(self):
        self.now, self.slept = 0.0, []

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


class Counted(PostgresStore):
    """Counts its changes."""

    changes = 0

    async def change(self, work, **options):
        self.changes += 1
        return await super().change(work, **options)


@pytest.mark.postgres
def test_a_lease_serves_several_calls_and_survives_the_database(postgres_url):
    """A call costs no transaction of its own; without the database an engine goes on with what it has leased, waits, and then tells."""

    async def main():
        store, clock = Counted(postgres_url), Passing()
        rates = SharedRates(store, clock, clock.sleep)
        await store.open()
        for _ in range(60):
            await rates.wait("tool:a", 1_000)
        leases = store.changes
        await asyncio.gather(*(rates.wait("tool:b", 1_000) for _ in range(50)))
        assert store.changes <= leases + 2
        await rates.wait("tool:b", 1_000)
        await store.close()
        # Starts of the last lease are left: they are used up to their end, and none is added.
        left = len(rates._buckets[asyncio.get_running_loop()]["tool:b"].starts)
        assert left
        for _ in range(left):
            await rates.wait("tool:b", 1_000)
        began = clock.now
        with pytest.raises(StoreError, match="is closed"):
            await rates.wait("tool:b", 1_000)
        assert clock.now - began == pytest.approx(AWAY_S_MAX)
        return leases

    assert asyncio.run(main()) <= 12


@pytest.mark.postgres
def test_a_dead_engine_loses_one_batch_and_others_go_on(postgres_url):
    """What it has leased passes unused; a call that is cancelled while it waits leaves its start to the next one."""

    async def main():
        store, clock = PostgresStore(postgres_url), Passing()
        await store.open()
        rule = BucketRule.of(100)
        dead, lives = SharedRates(store, clock, clock.sleep), SharedRates(store, clock, clock.sleep)
        for _ in range(8):
            await dead.wait("tool:a", 100)
        clock.slept.clear()
        await lives.wait("tool:a", 100)
        # The clock of the engines passes by sleeping alone, so no more than all that was leased lies ahead.
        assert sum(clock.slept) <= (8 + rule.batch_max) * rule.interval_s
        await SharedRates(store).wait("tool:slow", 0.01)
        asleep = asyncio.Event()

        async def sleep(seconds):
            asleep.set()
            await asyncio.sleep(seconds)

        slow = SharedRates(store, sleep=sleep)
        waiting = asyncio.ensure_future(slow.wait("tool:slow", 0.01))
        await asleep.wait()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        bucket = slow._buckets[asyncio.get_running_loop()]["tool:slow"]
        assert len(bucket.starts) == 1
        await store.close()

    asyncio.run(main())


@pytest.mark.postgres
def test_engines_in_two_processes_keep_a_rate_together(postgres_url):
    """Each makes twenty calls: the forty took as long as the rate says, from a time before the first; a process apart would have taken half as long."""

    @tool(effect="read", rate="40/s")
    async def look(x: int) -> float:
        """Note when it was called."""
        return time.time()

    source = CHILD.replace("{plan}", repr(PLAN))

    async def main():
        async with Engine([look], store=postgres_url) as engine:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", source, postgres_url, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            assert await child.stdout.readline() == b"ready\n"
            began = time.time()
            child.stdin.write(b"go\n")
            run = await engine.run(PLAN, inputs={"n": 20}, reuse="off")
            said, _ = await child.communicate()
            return began, sorted([*run.output, *map(float, said.split())])

    began, times = asyncio.run(main())
    rule = BucketRule.of(40)
    burst = rule.burst + rule.valid_s / rule.interval_s
    assert len(times) == 40
    for number, at in enumerate(times, 1):
        assert number <= (at - began) / rule.interval_s + burst + 1e-3


@pytest.mark.postgres
def test_models_of_two_engines_share_the_rate_of_their_endpoint(postgres_url):
    """Each engine has models of its own; `process` keeps them apart, and a closed engine leaves nothing behind."""
    plan = {"firmplan": 1, "steps": [{"id": "a", "ask": {"prompt": "Hi"}}], "output": "${a}"}

    async def main(**options):
        async with ScriptedModel(["Hello"] * 2) as server:
            engines = [
                Engine(
                    [],
                    store=postgres_url,
                    models={"default": Model("m", base_url=server.base_url, rate="2/s")},
                    **options,
                )
                for _ in range(2)
            ]
            async with engines[0], engines[1]:
                began = time.monotonic()
                runs = await asyncio.gather(*(each.run(plan, reuse="off") for each in engines))
                took = time.monotonic() - began
            assert [run.output for run in runs] == ["Hello"] * 2
            return took, [each._models.clients.limits.shared is not None for each in engines]

    took, shared = asyncio.run(main())
    assert shared == [True, True]
    assert took >= BucketRule.of(2).interval_s - 0.01
    assert asyncio.run(main(rate_limits="process"))[1] == [False, False]
