"""A call that is begun like a function leaves what it leaves on the long way, which a limit on the calls of its run makes it take."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from firmplan import Engine, ToolError, tool
from hypothesis import given, settings
from hypothesis import strategies as st


@tool(effect="pure", version=1)
async def at_once(n: int) -> int:
    """Return without having waited."""
    return 2 * n


@tool(effect="pure", isolation="inline", version=1)
def inline(n: int) -> int:
    """Return without a coroutine."""
    return 3 * n


@tool(effect="pure", version=1, timeout=60)
async def limited(n: int) -> int:
    """Wait now and then, within a limit."""
    for _ in range(n % 3):
        await asyncio.sleep(0)
    return n + 1


@tool(effect="read", version=1, retries=2)
async def unsteady(n: int) -> int:
    """Fail for some arguments, before or after a wait, for good or for a while."""
    if n % 2:
        await asyncio.sleep(0)
    if n % 5 == 1:
        raise ToolError(f"no {n}", code="no", temporary=n % 2 == 0)
    if n % 5 == 2:
        raise asyncio.CancelledError
    return n


@tool(effect="pure", version=1)
async def untrue(n: int) -> int:
    """Return now and then what is no integer."""
    return n if n % 2 else "text"  # type: ignore[return-value]


@tool(effect="read", version=1, reuse_for="1h", resource="shelf")
async def looked(n: int) -> int:
    """Return what may be kept, after a wait for some arguments."""
    if n % 2:
        await asyncio.sleep(0)
    return n


@tool(effect="write", version=1, resource="shelf", idempotent=True)
async def put(n: int) -> int:
    """Change what `looked` looks at."""
    return n


TOOLS = [looked, put, at_once, inline, limited, unsteady, untrue]
TIMES = {"started", "at"}


@st.composite
def plans(draw):
    """Return a plan in which each step may take the value of an earlier one, and some calls are identical."""
    steps = []
    for number in range(draw(st.integers(1, 8))):
        name = draw(st.sampled_from([each.name for each in TOOLS]))
        given_args = draw(st.integers(0, 6))
        args = (
            f"${{s{draw(st.integers(0, number - 1))} + {given_args}}}"
            if number and draw(st.booleans())
            else given_args
        )
        steps.append(
            {"id": f"s{number}", "tool": name, "args": {"n": args}, "on_error": draw(st.sampled_from(["skip", {"value": 1}]))}
        )  # fmt: skip
    output = {f"s{n}": f"${{first(s{n}, -1)}}" for n in range(len(steps))}
    return {"firmplan": 1, "steps": steps, "output": output}


async def told(plan, limit, budget):
    """Return the digest of a run and, by step, what its journal holds but for times."""
    async with Engine(TOOLS, store="memory:") as engine:
        run = await engine.run(plan, max_concurrency=limit, budget=budget, run_id="r")
        found = defaultdict(list)
        async for event in engine.events("r"):
            data = {
                name: value for name, value in event.data.items() if name not in TIMES and name != "header"
            }
            found[event.step].append((event.type, data))
        del found[""]
        return run.digest, run.status, dict(found)


@settings(max_examples=60, deadline=None)
@given(plans(), st.sampled_from([None, {"steps": 3}, {"calls": 100}]))
def test_a_begun_call_leaves_what_a_call_leaves_on_the_long_way(plan, budget):
    """Its records, its outcome and the digest of its run are the same."""

    async def main():
        begun, long = await told(plan, None, budget), await told(plan, 1_000, budget)
        if budget is None or "steps" not in budget:
            assert begun == long
        else:
            assert begun[1] == long[1]

    asyncio.run(main())
