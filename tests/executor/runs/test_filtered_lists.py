"""Lists filtered by what no index knows: each page reads a bounded number of runs, and together they find every run."""

from __future__ import annotations

import asyncio

import pytest
from firmplan import Engine
from firmplan.executor import RunFilter
from firmplan.executor.runs import archive
from firmplan.tools import tool


@tool(effect="pure", version=1)
async def double(n: int) -> int:
    """Double it."""
    return 2 * n


def plan(task):
    """One step."""
    steps = [{"id": "a", "tool": "double", "args": {"n": 1}}]
    return {"firmplan": 1, "task": task, "steps": steps, "output": "${a}"}


@pytest.mark.parametrize("status", [None, "succeeded"])
def test_a_page_reads_a_bounded_number_of_runs(tmp_path, monkeypatch, status):
    """A page that has read enough ends with a cursor, whatever it found; the pages together have each run once."""
    monkeypatch.setattr(archive, "RUNS_READ_MAX", 4)

    async def main():
        async with Engine([double], store=tmp_path / "s.db") as engine:
            for number in range(11):
                await engine.run(plan("goose" if number in (0, 1, 8) else "duck"), run_id=f"r{number:02}")
            pages, cursor = [], None
            while True:
                page = await engine.list_runs(
                    status=status, limit=2, cursor=cursor, where=RunFilter(text="goose")
                )
                pages.append([run.id for run in page.runs])
                cursor = page.cursor
                if cursor is None:
                    break
            whole = await engine.list_runs(status=status, limit=100, where=RunFilter(since=1.0))
            none = await engine.list_runs(status="failed", where=RunFilter(usd_min=1.0))
            return pages, whole, none

    pages, whole, none = asyncio.run(main())
    assert pages == [["r08"], [], ["r01", "r00"]]
    assert (len(whole.runs), whole.cursor) == (11, None)
    assert (none.runs, none.cursor) == ((), None)


def test_a_full_page_goes_on_after_its_last_run(tmp_path, monkeypatch):
    """More fit than a page has: the next page begins behind the last one shown, not behind the last one read."""
    monkeypatch.setattr(archive, "RUNS_READ_MAX", 4)

    async def main():
        async with Engine([double], store=tmp_path / "s.db") as engine:
            for number in range(6):
                await engine.run(plan("goose"), run_id=f"r{number}")
            found, cursor = [], None
            while True:
                page = await engine.list_runs(limit=3, cursor=cursor, where=RunFilter(text="GOOSE"))
                found.append([run.id for run in page.runs])
                cursor = page.cursor
                if cursor is None:
                    return found

    assert asyncio.run(main()) == [["r5", "r4", "r3"], ["r2", "r1", "r0"]]
