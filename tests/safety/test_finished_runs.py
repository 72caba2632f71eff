"""A finished run leaves nothing in memory: its driver goes with the last reference to it, without a look by Python's collector."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from firmplan import OutcomeUnknown, ToolError, tool
from firmplan.executor.calls.caller import Caller
from firmplan.executor.journal.journal import Journal
from firmplan.executor.runs.driver import Driver
from rig import Rig, plan_of

RUNS = 600
HANDFUL = 5


@tool(effect="pure", version=1)
async def add(n: int) -> int:
    """Add one."""
    return n + 1


@tool(effect="read", resource="shelf", version=1)
def fail() -> int:
    """Fail, in a thread."""
    raise ToolError("no")


@tool(effect="read", resource="shelf", version=1)
async def fail_late() -> int:
    """Fail, after a wait."""
    await asyncio.sleep(0)
    raise ValueError("no")


@tool(effect="read", resource="shelf", version=1, timeout=0.01)
async def stall() -> int:
    """Take longer than its timeout."""
    await asyncio.sleep(60)
    return 1


@tool(effect="read", resource="shelf", version=1, timeout=30)
async def fail_within_limit() -> int:
    """Fail, in a task of its own."""
    await asyncio.sleep(0)
    raise ValueError("no")


@tool(effect="read", resource="shelf", version=1, isolation="inline")
def fail_inline() -> int:
    """Fail on the event loop."""
    raise SystemExit(3)


@tool(effect="write", resource="bank", version=1)
async def lose() -> int:
    """Be of unknown outcome."""
    raise OutcomeUnknown("who knows")


@tool(effect="write", resource="bank", version=1, approval="always")
def pay() -> int:
    """Wait for an approval."""
    return 1


TOOLS = [add, fail, fail_late, stall, fail_within_limit, fail_inline, lose, pay]
ENDS = {
    "succeeded": [{"id": "a", "tool": "add", "args": {"n": 1}}, {"id": "b", "tool": "add", "args": {"n": "${a}"}}],
    **{each.name: [{"id": "a", "tool": each.name}] for each in TOOLS[1:]},
    "skipped": [{"id": "a", "tool": "fail", "on_error": "skip", "retries": 1}],
}  # fmt: skip


@pytest.fixture
def living(monkeypatch):
    """What is alive of each run: by class, told by weak references. Python's collector does not look."""
    alive = {}
    for kind in (Driver, Journal, Caller):
        alive[kind.__name__] = seen = weakref.WeakSet()

        def init(self, *args, __init__=kind.__init__, seen=seen, **fields):
            seen.add(self)
            __init__(self, *args, **fields)

        monkeypatch.setattr(kind, "__init__", init)
    gc.collect()
    gc.disable()
    yield lambda: {name: len(seen) for name, seen in alive.items() if len(seen) > HANDFUL}
    gc.enable()


def test_after_many_runs_a_handful_of_drivers_is_alive(living):
    """One after the other, and then all at once: nothing stays of them, and nothing waits for the collector."""

    async def main():
        plan = plan_of(*ENDS["succeeded"])
        async with Rig(TOOLS) as rig:
            for _ in range(RUNS // 2):
                assert (await rig.run(plan, reuse="off")).status == "succeeded"
            assert living() == {}
            for run_id in [await rig.start(plan, reuse="off") for _ in range(RUNS // 2)]:
                assert (await rig.execution.wait(run_id)).status == "succeeded"
            assert living() == {}

    asyncio.run(main())


@pytest.mark.parametrize("end", [*ENDS])
def test_nothing_stays_of_a_run_however_it_ends(living, end):
    """Failed in a thread, on the loop or in a task, timed out, of unknown outcome, waiting for a person, cancelled then."""

    async def main():
        async with Rig(TOOLS) as rig:
            for _ in range(3 * HANDFUL):
                run = await rig.run(plan_of(*ENDS[end]), reuse="off")
                if run.status == "waiting":
                    await rig.decisions.approve(run.id, "a", by="me", edit=None)
                    run = await rig.resume(run.id)
                await rig.decisions.cancel(run.id)
                assert (await rig.execution.archive.get(run.id)).status != "running"
            await asyncio.sleep(0)
            assert living() == {}

    asyncio.run(main())
