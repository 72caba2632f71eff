"""What the same steps did last time: the newest earlier run of the same plan that came as far, found in the store.

A run that this one continues (fork, retry, patched plan) goes first. Reading a journal costs as much as rebuilding its run, so the search is bounded:
`RUNS_LISTED_MAX`, `RUNS_READ_MAX` and `RECORDS_MAX` say by what.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Final

from ...errors import FirmplanError
from ...plans.values import Json
from ..canonical_value import CanonicalValue
from ..execution_tree import Iteration
from ..journal.decision_history import DecisionHistory, decisions_by_step
from ..journal.restore import load_entries, rebuild
from ..runs.archive import Archive
from ..stores.store import RunRow, Store
from .view import EarlierCall

RUNS_LISTED_MAX: Final = 5_000
"""Rows of runs that are looked at; older runs are not found."""
RUNS_READ_MAX: Final = 20
"""Runs of the same plan whose journals are read."""
RECORDS_MAX: Final = 50_000
"""Records that are read in all of these journals."""


async def earlier_calls(
    store: Store, archive: Archive, row: RunRow, tools: Mapping[str, str]
) -> Mapping[str, EarlierCall]:
    """Return what steps of a run's plan did last time, by path; a step that no earlier run has called is left out.

    Args:
        store: Has the runs.
        archive: Lists them.
        row: The run.
        tools: Path of each step -> its tool. A step counts as the same if both are equal.
    """
    found: dict[str, EarlierCall] = {}
    if not tools:
        return found
    records = 0
    async for candidate in _candidates(store, archive, row):
        # Counted before it is read: a long journal ends the search, and is not read in part, because a part of a journal makes no run.
        if len(found) == len(tools) or records + candidate.last_seq > RECORDS_MAX:
            break
        records += candidate.last_seq
        try:
            calls: dict[str, CanonicalValue] = {}
            entries = await load_entries(store, candidate)
            _, machine = await asyncio.to_thread(rebuild, candidate, entries, calls)
        except FirmplanError:  # deleted meanwhile, or altered: what it tells cannot be relied on
            continue
        asked = DecisionHistory.of(entries).asked
        decisions = decisions_by_step(entries)
        for path, tool in tools.items():
            iteration = machine.iterations.get(path)
            # Newest runs come first, so the first that has called the step stands. A step of that path may have had another tool then.
            if path in found or iteration is None or machine.tool_of(path) != tool:
                continue
            # A call that was denied was never made: its arguments are those that the person was asked about.
            args = calls.get(path) or asked.get(path)
            if args is None or not (path in decisions or path in calls):
                continue
            found[path] = EarlierCall(
                run=candidate.id,
                at=iteration.finished or (decisions[path][-1].at if path in decisions else None),
                status=iteration.state.value,
                args=args.value,
                decisions=decisions.get(path, ()),
                output=_output(iteration),
                error=iteration.failure.message if iteration.failure is not None else None,
                is_parent=candidate.id == row.parent,
            )
    return found


def _output(iteration: Iteration) -> Json:
    return iteration.output.value if iteration.output is not None else None


async def _candidates(store: Store, archive: Archive, row: RunRow) -> AsyncIterator[RunRow]:
    """Yield the rows of the earlier runs of a run's plan, newest first, its parent before the others."""
    read = 0
    parent = await store.find_run(row.parent) if row.parent is not None else None
    if parent is not None and parent.plan_digest is not None:
        read += 1
        yield parent
    listed = 0
    async for each in archive.rows():
        listed += 1
        if listed > RUNS_LISTED_MAX or read >= RUNS_READ_MAX:
            return
        if (
            each.plan_digest != row.plan_digest
            or each.tenant != row.tenant
            or each.is_replay
            or each.id in (row.id, row.parent)
        ):
            continue
        # "Last time" is before this run: what a person sees must not change because somebody submits another run meanwhile.
        if each.created > row.created:
            continue
        if (whole := await store.find_run(each.id)) is not None:
            read += 1
            yield whole
