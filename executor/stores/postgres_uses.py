"""What the store in PostgreSQL keeps of saved plans' uses: one row each, so that a run's end changes the count by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .postgres_server import PostgresServer

_NOTE: Final = "INSERT INTO firmplan_plan_uses (name, digest, outcome, run_id, noted) VALUES (%s,%s,%s,%s,%s)"
_COUNTS: Final = """
    SELECT uses.name, uses.digest,
        CASE WHEN uses.outcome = 'answered' AND runs.status IN ('failed', 'cancelled') THEN 'run' ELSE uses.outcome END AS became,
        count(*)
    FROM firmplan_plan_uses AS uses LEFT JOIN firmplan_runs AS runs ON runs.id = uses.run_id
    GROUP BY uses.name, uses.digest, became ORDER BY uses.name, uses.digest, became
"""


class PostgresUses(PostgresServer):
    """The uses of saved plans."""

    async def note_use(self, name: str, digest: str, outcome: str, run_id: str | None, at: float) -> None:
        """See `Store.note_use`."""
        await self._side.call(
            lambda db: db.execute(_NOTE, (name, digest, outcome, run_id, float(at))) and None
        )

    async def count_uses(self) -> Sequence[tuple[str, str, str, int]]:
        """See `Store.count_uses`."""
        return [(name, digest, outcome, count) for name, digest, outcome, count in await self._look(_COUNTS)]
