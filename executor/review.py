"""Looking back at runs: why a step ran. Nothing here moves a run or calls a tool of one."""

from __future__ import annotations

from .archive import Archive
from .explain import Explanation, explain
from .facilities import Facilities


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

    async def explain(self, run_id: str, step: str) -> Explanation:
        """Return why a step of a run ran or was reused. Raises: RunNotFound, InputRejected."""
        return await explain(self._store, self._archive, run_id, step)
