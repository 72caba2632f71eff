"""The time limit of a call shares a task with the tool: neither takes the other's cancels for its own."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest
from firmplan import tool
from rig import Rig, plan_of, statuses

AFTER = {"id": "after", "tool": "after", "args": {}, "after": ["a"]}
PLAN = plan_of({"id": "a", "tool": "limited", "args": {}, "on_error": "skip"}, AFTER, output="${after}")


@tool(effect="read", version=1)
async def after() -> int:
    """Tell how often the task that makes this call counts as cancelled."""
    await asyncio.sleep(0)
    task = asyncio.current_task()
    return task.cancelling() if task is not None else -1


async def bears_its_own_timeout() -> int:
    """Go on after a timeout of its own."""
    with suppress(TimeoutError):
        async with asyncio.timeout(0.01):
            await asyncio.sleep(5)
    return 7


async def groups() -> int:
    """Wait for tasks of its own, one of which fails."""
    with suppress(BaseExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(5))
            group.create_task(bears_its_own_timeout()).add_done_callback(lambda _: None)
            raise ValueError("no")
    return 8


async def blocks() -> int:
    """Take longer than the limit, and return without having waited: nothing could stop it, and the result is there."""
    time.sleep(0.15)  # noqa: ASYNC251  # as some tools do
    return 9


async def swallows() -> int:
    """Come too late, with a value."""
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(5)
    return 10


async def fails_when_stopped() -> int:
    """Come too late, with an error of its own."""
    try:
        await asyncio.sleep(5)
    finally:
        raise ValueError("in the way")


async def cancels_itself() -> int:
    """Cancel the task that runs it, twice."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    task.cancel()
    await asyncio.sleep(5)
    return 11


@pytest.mark.parametrize(
    ("fn", "limit_s", "expected"),
    [
        (bears_its_own_timeout, 5, 7),
        (groups, 5, 8),
        (blocks, 0.1, 9),
        (swallows, 0.05, "timeout"),
        (fails_when_stopped, 0.05, "timeout"),
        (cancels_itself, 5, "cancelled"),
    ],
)
def test_what_becomes_of_a_call_with_a_limit(fn, limit_s, expected):
    """And the step after it is made by a task that nobody has cancelled."""

    async def main():
        limited = tool(fn, name="limited", effect="read", timeout=limit_s, version="1")
        async with Rig([limited, after]) as rig:
            run = await rig.run(PLAN, "r")
            ends = [
                event.data
                async for event in rig.execution.events("r")
                if event.step == "a" and event.type.startswith("Call")
            ]
            found = ends[-1].get("code", run.steps["a"].output)
            assert (found, run.output) == (expected, 0)

    asyncio.run(main())


def test_a_write_past_its_limit_is_lost():
    """Whether it took effect is not known, though it swallowed its cancel."""

    async def main():
        limited = tool(swallows, name="limited", effect="write", timeout=0.05)
        async with Rig([limited, after]) as rig:
            assert statuses(await rig.run(PLAN, "r"))["a"] == "indeterminate"

    asyncio.run(main())


def test_a_cancel_of_the_run_ends_a_call_with_a_limit_as_cancelled():
    """It is not taken for a cancel of the tool, which would be a failure."""

    async def main():
        begun = asyncio.Event()

        async def waits() -> int:
            begun.set()
            await asyncio.sleep(60)
            return 1

        limited = tool(waits, name="limited", effect="read", timeout=30, version="1")
        async with Rig([limited, after]) as rig:
            await rig.start(PLAN, "r")
            await begun.wait()
            await rig.decisions.cancel("r")
            run = await rig.execution.wait("r")
            assert (run.status, statuses(run)["a"]) == ("cancelled", "cancelled:cancelled")

    asyncio.run(main())


def test_an_engine_that_closes_does_not_fail_a_call_with_a_limit(tmp_path):
    """Its run is parked, and the next owner makes the call."""

    async def main(path):
        begun = asyncio.Event()

        async def waits() -> int:
            begun.set()
            await asyncio.sleep(60 if len(made) == 0 else 0)
            return 1

        made: list[int] = []
        limited = tool(waits, name="limited", effect="read", timeout=90, version="1")
        async with Rig([limited, after], path) as rig:
            await rig.start(PLAN, "r")
            await begun.wait()
        made.append(1)
        async with Rig([limited, after], path) as rig:
            run = await rig.execution.resume("r")
            run = await rig.execution.wait("r")
            assert (run.status, run.steps["a"].output) == ("succeeded", 1)

    asyncio.run(main(str(tmp_path / "s.db")))
