"""Rates: at most so many calls in any second, over all runs and engines of a process, and no later than that."""

from __future__ import annotations

import asyncio

import pytest
from firmplan import Context, Engine, tool
from firmplan.testing import FakeClock, MemoryStore
from firmplan.tools.models.limits import STARTS_KEPT_MAX, RateLimiter
from hypothesis import given
from hypothesis import strategies as st
from seeds import examples


def booked(rate, asked):
    """Return when calls start that are asked for at those times."""
    limiter = RateLimiter(rate)
    return [now + limiter.reserve(now) for now in asked]


def test_as_many_start_at_once_as_a_second_may_have():
    """Then those of the next second; a pause is not made up for."""
    assert booked(2, [100.0] * 5) == [100.0, 100.0, 101.0, 101.0, 102.0]
    assert booked(2, [100.0, 100.0, 100.5, 200.0, 200.0, 200.0]) == [100.0, 100.0, 101.0, 200.0, 200.0, 201.0]
    assert booked(0.5, [5.0, 5.0]) == [5.0, 7.0]
    assert booked(2.5, [0.0] * 5) == [0.0, 0.0, 0.8, 0.8, 1.6]


@examples(300)
@given(
    rate=st.one_of(st.integers(1, 20), st.floats(0.05, 20), st.just(STARTS_KEPT_MAX * 2.0)),
    gaps=st.lists(st.one_of(st.just(0.0), st.floats(0, 3)), min_size=1, max_size=80),
)
def test_no_second_has_more(rate, gaps):
    """Whenever they are asked for; in the order in which they were, and none waits where there is room."""
    asked = [sum(gaps[: at + 1]) for at in range(len(gaps))]
    starts = booked(rate, asked)
    assert starts == sorted(starts)
    most = min(max(1, int(rate)), STARTS_KEPT_MAX)
    within = most / rate
    for at, start in enumerate(starts):
        before = starts[at - most] if at >= most else -within
        assert start - before >= within - 1e-9
        assert start == pytest.approx(max(asked[at], before + within, starts[at - 1] if at else 0.0))


def limited(rate, noted):
    @tool(effect="read", rate=rate)
    async def look(x: int, *, ctx: Context) -> int:
        """Note when it was called."""
        noted.append(ctx.now().timestamp())
        return x

    return look


def plan(count):
    step = {"id": "s", "tool": "look", "for_each": f"${{range({count})}}", "args": {"x": "${item}"}}
    return {"firmplan": 1, "steps": [step], "output": "${len(s)}"}


def test_all_runs_and_engines_of_a_process_share_a_rate():
    """Whatever the runs, no second has more; and the calls that fit into it are made at once."""
    noted, clock = [], FakeClock(start=0.0)
    look = limited("10/s", noted)

    async def main():
        one, two = (Engine([look], store=MemoryStore(), clock=clock) for _ in range(2))
        async with one, two:
            runs = await asyncio.gather(*(each.run(plan(8), reuse="off") for each in (one, one, two)))
            assert [run.output for run in runs] == [8] * 3

    asyncio.run(main())
    assert noted == [0.0] * 10 + [1.0] * 10 + [2.0] * 4


def test_a_test_clock_has_a_pace_of_its_own():
    """What one engine's clock says is nothing to another's."""
    noted = []
    look = limited(1, noted)

    async def main():
        for start in (1_000.0, 0.0):
            async with Engine([look], store=MemoryStore(), clock=FakeClock(start=start)) as engine:
                assert (await engine.run(plan(3), reuse="off")).output == 3

    asyncio.run(main())
    assert noted == [1_000.0, 1_001.0, 1_002.0, 0.0, 1.0, 2.0]


def test_runs_take_turns_at_a_rate():
    """A run of two calls does not wait behind one of twenty, all of which were due before."""
    called, gate = [], asyncio.Event()

    @tool(effect="read")
    async def begin() -> bool:
        """Wait until the other run is under way."""
        return await gate.wait()

    @tool(effect="read", rate=1)
    async def look(x: int, *, ctx: Context) -> int:
        """Note whose call it is."""
        called.append(ctx.run_id)
        if len(called) == 3:
            gate.set()
        return x

    small = plan(2)
    small["steps"] = [{"id": "b", "tool": "begin"}, {**small["steps"][0], "after": ["b"]}]

    async def main():
        async with Engine([begin, look], store=MemoryStore(), clock=FakeClock(start=0.0)) as engine:
            await engine.submit(small, run_id="small", reuse="off")
            assert (await engine.run(plan(20), run_id="large", reuse="off")).status == "succeeded"
            assert (await engine.wait("small")).status == "succeeded"

    asyncio.run(main())
    assert called.count("large") == 20
    first, second = (at for at, run in enumerate(called) if run == "small")
    assert (first < 10, second - first) == (True, 2)
