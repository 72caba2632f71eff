"""The questions about finished calls: why a step ran, what differs between two runs, and which calls give another result when they are repeated.

Each method reads the journals that its question needs, once, and hands them to the module that answers it. No run is moved or changed; `verify` and
`shadow` repeat calls, but only of pure tools and of models.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...errors import InputRejected
from ...plans.values import Json
from ..approvals.view import CallDetails, WaitingCalls
from ..approvals.waiting import call_details, waiting_calls
from ..calls.facilities import Facilities
from ..journal.header import Header
from ..runs.archive import Archive
from ..runs.request import runs_of
from .bisect import Bisection, changed_pairs, places_of
from .compare import compare
from .explain import Explanation, explain, explain_all
from .model_calls import RecordedModelCalls, model_calls
from .recall import Recall, recall
from .run_diff import RunDiff
from .shadow import shadow
from .shadow_report import ShadowReport, findings
from .verify import Verification, verify

if TYPE_CHECKING:
    from ...tools.models.models import Spec


class Review:
    """Answers questions about the runs of one store.

    Args:
        facilities: What the runs of an engine share.
        archive: Looks runs up.
    """

    def __init__(self, facilities: Facilities, archive: Archive) -> None:
        self._facilities = facilities
        self._store = facilities.store
        self._archive = archive

    async def waiting(self, run_id: str) -> WaitingCalls:
        """Return the calls of a run that wait for a person. Raises: RunNotFound."""
        return await waiting_calls(self._store, self._archive, self._facilities.tools, run_id)

    async def call_details(self, run_id: str, step: str) -> CallDetails:
        """Return what a step of a run called. Raises: RunNotFound, InputRejected."""
        return await call_details(self._store, self._archive, self._facilities.tools, run_id, step)

    async def graph(self, run_id: str) -> dict[str, Json]:
        """Return the graph of a run's plan, with the effects that its tools had then. Raises: RunNotFound, InputRejected: it has no plan."""
        from ...plans.render import graph_of  # noqa: PLC0415  # only for people

        header = Header.from_dict((await self._archive.row(run_id)).header)
        if header.plan is None:
            raise InputRejected(f"run {run_id} has no plan: no step of it has started")
        return await asyncio.to_thread(graph_of, header.plan, header.lock, header.plans)

    async def explain(self, run_id: str, step: str) -> Explanation:
        """Return why a step of a run ran or was reused. Raises: RunNotFound, InputRejected."""
        return await explain(self._store, self._archive, run_id, step)

    async def explain_all(self, run_id: str) -> list[Explanation]:
        """Return why each step of a run ran or was reused. Raises: RunNotFound, InputRejected: it has no plan."""
        return await explain_all(self._store, self._archive, run_id)

    async def diff(self, a: str, b: str) -> RunDiff:
        """Return what differs between two runs. Raises: RunNotFound, InputRejected: one has no plan."""
        return compare(await self._recall(a), await self._recall(b))

    async def bisect(self, run_ids: Sequence[str], *, step: str | None, output: str) -> Bisection:
        """Return where an output changed in a line of runs. Raises: RunNotFound, InputRejected: one has no plan, or no place."""
        runs = [await self._archive.get(run_id) for run_id in runs_of(run_ids)]
        place, seen = places_of(runs, step, output)
        changes = [await self.diff(before, after) for before, after in changed_pairs(seen)]
        return Bisection(place, seen, tuple(changes))

    async def shadow(self, run_id: str, model: Spec | None, header: Header | None) -> ShadowReport:
        """Return what another model, or another plan, would have changed. Raises: RunNotFound, InputRejected, ConfigError."""
        return findings(await shadow(self._facilities, await self._recall(run_id), header, model))

    async def model_calls(self, run_id: str) -> RecordedModelCalls:
        """Return what the model steps of a run asked, and the accepted answers. Raises: RunNotFound, InputRejected: no plan."""
        return model_calls(await self._recall(run_id), self._facilities)

    async def verify(self, run_id: str) -> Verification:
        """Return which pure tools of a run give the same results again. Raises: RunNotFound, InputRejected: no plan."""
        return await verify(self._facilities, await self._recall(run_id))

    async def _recall(self, run_id: str) -> Recall:
        """Return a run with the arguments of its calls, up to its newest record. Raises: RunNotFound, InputRejected: it has no plan."""
        return await recall(self._store, await self._archive.flushed_row(run_id))
