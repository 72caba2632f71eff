"""An engine that recovers opens at once, whatever it finds; the runs come beside, a few at a time."""

from __future__ import annotations

import asyncio

import pytest
from firmplan import Engine, tool
from firmplan.executor import SqliteStore
from firmplan.executor.runs import watch as takeover
from rig import Rig, plan_of

RUNS = 300


@tool(effect="pure", version=1)
async def double(x: int) -> int:
    """Double."""
    return 2 * x


PLAN = {
    "firmplan": 1,
    "inputs": {"n": {"type": "integer"}},
    "steps": [{"id": "d", "tool": "double", "args": {"x": "${inputs.n}"}}],
    "output": "${d}",
}


class Counting(SqliteStore):
    """A store that counts claims, and how many are under way; each waits at a gate if there is one."""

    def __init__(self, path):
        super().__init__(path)
        self.claimed, self.under_way, self.most = 0, 0, 0
        self.gate, self.is_full = None, asyncio.Event()

    async def claim(self, run_id, owner, **options):
        self.claimed += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        if self.under_way == takeover.CLAIMS_MAX:
            self.is_full.set()
        try:
            if self.gate is not None:
                await self.gate.wait()
            return await super().claim(run_id, owner, **options)
        finally:
            self.under_way -= 1


@pytest.fixture
def left(tmp_path):
    """A store with runs that nobody drives."""
    path = tmp_path / "s.db"

    async def main():
        async with Rig([double], str(path)) as rig:
            plan = plan_of(*PLAN["steps"], output="${d}", inputs=PLAN["inputs"])
            for n in range(RUNS):
                await rig.submit(plan, f"r{n}", {"n": n})

    asyncio.run(main())
    return path


def test_opening_waits_for_no_claim(left):
    """While every claim hangs the engine is open and answers; claims are bounded; once they go on, all runs end."""

    async def main():
        store = Counting(left)
        store.gate = asyncio.Event()
        async with Engine([double], store=store, recover=True) as engine:
            assert len((await engine.list_runs(status="queued", limit=1000)).runs) == RUNS
            await store.is_full.wait()
            assert store.claimed == takeover.CLAIMS_MAX
            store.gate.set()
            for n in range(RUNS):
                assert (await engine.wait(f"r{n}")).output == 2 * n
            assert store.most <= takeover.CLAIMS_MAX + 1, "and the one that was asked for"
            assert store.claimed == RUNS

    asyncio.run(main())


def test_a_run_that_is_asked_for_comes_first(left):
    """Whoever waits for the newest of many runs does not wait for all the others."""

    async def main():
        store = Counting(left)
        async with Engine([double], store=store, recover=True) as engine:
            await engine.get("r0")
            assert (await engine.wait(f"r{RUNS - 1}")).output == 2 * (RUNS - 1)
            assert store.claimed < RUNS
            followed = [event.type async for event in engine.events(f"r{RUNS - 2}")]
            assert followed[-1] == "RunFinished"

    asyncio.run(main())


def test_closing_ends_the_claims_and_leaves_nobodys_run(left):
    """An engine that is closed while it recovers: no run counts as lost by it, and the next engine goes on with all of them."""

    async def main():
        store = Counting(left)
        store.gate = asyncio.Event()
        async with Engine([double], store=store, recover=True) as engine:
            await engine.list_runs()
            await store.is_full.wait()
            closing = asyncio.create_task(engine.aclose())
            await asyncio.sleep(0)
            store.gate.set()
            await closing
            assert store.claimed == takeover.CLAIMS_MAX
        async with Engine([double], store=Counting(left), recover=True) as engine:
            for n in range(RUNS):
                assert (await engine.wait(f"r{n}")).status == "succeeded"
            for n in range(takeover.CLAIMS_MAX):
                events = [event async for event in engine.events(f"r{n}")]
                assert not any("died" in event.data for event in events)

    asyncio.run(main())


def test_what_fails_is_told_and_hinders_nobody(left, capfd):
    """A store that refuses one claim: the log has the run, and the others go on."""

    class Refusing(Counting):
        async def claim(self, run_id, owner, **options):
            if run_id == "r7":
                raise ValueError("a bug of the store")
            return await super().claim(run_id, owner, **options)

    async def main():
        async with Engine([double], store=Refusing(left), recover=True) as engine:
            for n in range(RUNS):
                run = await engine.wait(f"r{n}")
                assert run.status == "succeeded" or n == 7
            run = await engine.wait("r7")
            assert (run.status, run.abandoned) == ("queued", True)

    asyncio.run(main())
    assert capfd.readouterr().err.count("run not recovered") == 1
