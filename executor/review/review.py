"""Looking back at runs: why a step ran, what differs between two, and what comes out differently when it is called again.

Nothing here moves a run; only `verify` calls tools, and only pure ones. Beside runs it looks after what they left for others: the
results that may be reused, and bytes that nothing needs any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..calls.facilities import Facilities
from ..runs.archive import Archive
from ..runs.request import runs_of
from ..runs.store_care import SAVED_S
from ..stores.store import CacheStats, Pruned
from .bisect import Bisection, changed_pairs, places_of
from .compare import compare
from .explain import Explanation, explain, explain_all
from .recall import recall
from .run_diff import RunDiff
from .shadow import shadow
from .shadow_report import ShadowReport, findings
from .verify import Verification, verify

if TYPE_CHECKING:
    from ...tools.models.models import Spec
    from ..journal.header import Header
    from ..runs.execution import Execution


class Review:
    """See the module.

    Args:
        facilities: What runs share.
        archive: Looks runs up.
    """

    def __init__(self, facilities: Facilities, archive: Archive) -> None:
        self._facilities = facilities
        self._store = facilities.store
        self._archive = archive

    @classmethod
    def of(cls, execution: Execution) -> Review:
        """Return what looks back at the runs of an execution."""
        return cls(execution.facilities, execution.archive)

    async def explain(self, run_id: str, step: str) -> Explanation:
        """Return why a step of a run ran or was reused. Raises: RunNotFound, InputRejected."""
        return await explain(self._store, self._archive, run_id, step)

    async def explain_all(self, run_id: str) -> list[Explanation]:
        """Return why each step of a run ran or was reused. Raises: RunNotFound, InputRejected: it has no plan."""
        return await explain_all(self._store, self._archive, run_id)

    async def diff(self, a: str, b: str) -> RunDiff:
        """Return what differs between two runs. Raises: RunNotFound, InputRejected: one has no plan."""
        one, other = await self._archive.row(a), await self._archive.row(b)
        return compare(await recall(self._store, one), await recall(self._store, other))

    async def bisect(self, run_ids: Sequence[str], *, step: str | None, output: str) -> Bisection:
        """Return where an output changed in a line of runs. Raises: RunNotFound, InputRejected: one has no plan, or no place."""
        runs = [await self._archive.get(run_id) for run_id in runs_of(run_ids)]
        place, seen = places_of(runs, step, output)
        changes = [await self.diff(before, after) for before, after in changed_pairs(seen)]
        return Bisection(place, seen, tuple(changes))

    async def shadow(self, run_id: str, model: Spec | None, header: Header | None) -> ShadowReport:
        """Return what another model, or another plan, would have changed. Raises: RunNotFound, InputRejected, ConfigError."""
        recalled = await recall(self._store, await self._archive.row(run_id))
        return findings(await shadow(self._facilities, recalled, header, model))

    async def verify(self, run_id: str) -> Verification:
        """Return which pure tools of a run give the same results again. Raises: RunNotFound, InputRejected: no plan."""
        return await verify(self._facilities, await recall(self._store, await self._archive.row(run_id)))

    async def cache_stats(self) -> CacheStats:
        """Return how large the reuse index is."""
        return await self._store.cache_stats()

    async def shrink_cache(self, *, age_s: float | None, bytes_max: int | None) -> int:
        """Forget results past an age, and the oldest past a size; return how many went."""
        before = None if age_s is None else self._facilities.clock.now() - age_s
        return await self._store.shrink_cache(before=before, bytes_max=bytes_max)

    async def prune_artifacts(self) -> Pruned:
        """Remove bytes that nothing refers to; return how many."""
        pruned = await self._store.prune_values(saved_before=self._facilities.clock.now() - SAVED_S)
        await self._store.give_back_room()
        return pruned
