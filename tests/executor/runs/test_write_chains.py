"""The outcome of an idempotent write shares the commit of the intent that follows, and nothing else waits less than before."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from firmplan import Engine, tool
from firmplan.executor.journal.journal import Commits
from firmplan.executor.stores.store import Batch
from firmplan.testing import MemoryStore

LENGTH = 4
CHAIN = {
    "firmplan": 1,
    "steps": [
        {"id": f"w{n}", "tool": "put", "args": {"n": n}, "after": [f"w{n - 1}"] if n else []}
        for n in range(LENGTH)
    ],
    "output": f"${{w{LENGTH - 1}}}",
}


class Watched(MemoryStore):
    """Keeps what was committed, and which commits wait for the disk."""

    def __init__(self) -> None:
        super().__init__()
        self.synced: list[list[str]] = []
        self.durable: list[str] = []

    def append(self, batches: list[Batch]) -> Any:
        faults = super().append(batches)
        lines = [orjson.loads(line) for batch in batches for line in batch.lines]
        told = [f"{line['type']} {line.get('step', '')}".strip() for line in lines]
        self.durable += told
        if any(batch.is_synced for batch in batches):
            self.synced.append(told)
        return faults


def ran(plan: dict[str, Any], *, is_idempotent: bool = True) -> tuple[Watched, dict[str, list[str]]]:
    """Return the store after a run of a plan, and what was durable when each call was made."""
    store, before = Watched(), dict[str, list[str]]()

    @tool(effect="write", resource="x", idempotent=is_idempotent)
    async def put(n: int) -> int:
        """Write."""
        before[f"w{n}"] = list(store.durable)
        return n

    @tool(effect="read", resource="y")
    async def look(n: int) -> int:
        """Read."""
        before[f"r{n}"] = list(store.durable)
        return n

    async def main() -> Any:
        async with Engine([put, look], store=store) as engine:
            return await engine.run(plan)

    assert asyncio.run(main()).status == "succeeded"
    return store, before


def test_a_chain_of_idempotent_writes_waits_for_the_disk_once_a_write(monkeypatch):
    """One commit has the outcome of a write and the intent of the next; the last one has the end of the run, too."""
    expect = Commits.expect

    def patient(self: Commits, source: Any, within_s: float = 60.0) -> None:
        expect(self, source, within_s)

    # A loaded machine may need longer than the usual delay of a commit from an outcome to the next intent.
    monkeypatch.setattr(Commits, "expect", patient)
    store, before = ran(CHAIN)
    inner = [[f"CallSucceeded w{n - 1}", f"CallStarted w{n}"] for n in range(1, LENGTH)]
    last = [f"CallSucceeded w{LENGTH - 1}", "RunFinished"]
    assert store.synced == [["RunStarted", "CallStarted w0"], *inner, last]
    for n in range(LENGTH):
        assert before[f"w{n}"][-1] == f"CallStarted w{n}"
        assert not n or f"CallSucceeded w{n - 1}" in before[f"w{n}"]


def test_the_outcome_of_a_write_that_cannot_be_repeated_waits_for_nothing():
    """A person would have to decide about it if the process died."""
    store, before = ran(CHAIN, is_idempotent=False)
    assert [f"CallSucceeded w{LENGTH - 2}"] in store.synced
    assert all(before[f"w{n}"][-1] == f"CallStarted w{n}" for n in range(LENGTH))


@pytest.mark.parametrize("beside", [False, True])
def test_what_is_no_write_starts_after_the_durable_outcome(beside: bool):
    """Also where a write starts with it."""
    steps = [
        {"id": "w0", "tool": "put", "args": {"n": 0}},
        {"id": "r1", "tool": "look", "args": {"n": 1}, "after": ["w0"]},
        *([{"id": "w2", "tool": "put", "args": {"n": 2}, "after": ["w0"]}] if beside else []),
    ]
    _, before = ran({"firmplan": 1, "steps": steps, "output": "${r1}"})
    assert "CallSucceeded w0" in before["r1"]
    assert not beside or "CallStarted w2" in before["w2"]


def test_an_outcome_becomes_durable_though_the_next_write_waits_for_its_turn():
    """The intent that it may share a commit with does not come while another run holds the tool."""
    store, held, is_free = Watched(), asyncio.Event(), asyncio.Event()

    @tool(effect="write", resource="x", idempotent=True, max_concurrency=1)
    async def one_by_one(n: int) -> int:
        """Write, one call at a time."""
        if n == 0:
            held.set()
            await is_free.wait()
        return n

    @tool(effect="write", resource="y", idempotent=True)
    async def put(n: int) -> int:
        """Write."""
        return n

    first = {
        "firmplan": 1,
        "steps": [{"id": "a", "tool": "one_by_one", "args": {"n": 0}}],
        "output": "${a}",
    }
    steps = [
        {"id": "b", "tool": "put", "args": {"n": 1}},
        {"id": "c", "tool": "one_by_one", "args": {"n": 2}, "after": ["b"]},
    ]
    second = {"firmplan": 1, "steps": steps, "output": "${c}"}

    async def main() -> tuple[Any, Any]:
        async with Engine([one_by_one, put], store=store) as engine:
            holds = asyncio.create_task(engine.run(first))
            await held.wait()
            waits = asyncio.create_task(engine.run(second))
            while "CallSucceeded b" not in store.durable:  # noqa: ASYNC110  # commits come on another thread
                await asyncio.sleep(0.001)
            assert "CallStarted c" not in store.durable
            is_free.set()
            return await holds, await waits

    assert [run.status for run in asyncio.run(main())] == ["succeeded", "succeeded"]
