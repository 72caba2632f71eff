"""What the store in SQLite keeps of saved plans' uses: one row each, so that a run's end changes the count by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .sqlite_file import SqliteFile

_COUNTS: Final = """
    SELECT uses.name, uses.digest,
        CASE WHEN uses.outcome = 'answered' AND runs.status IN ('failed', 'cancelled') THEN 'run' ELSE uses.outcome END AS became,
        count(*)
    FROM plan_uses AS uses LEFT JOIN runs ON runs.id = uses.run_id
    GROUP BY uses.name, uses.digest, became ORDER BY uses.name, uses.digest, became
"""


class SqliteUses(SqliteFile):
    """The uses of saved plans."""

    async def note_use(self, name: str, digest: str, outcome: str, run_id: str | None, at: float) -> None:
        """See `Store.note_use`."""
        statement = "INSERT INTO plan_uses (name, digest, outcome, run_id, noted) VALUES (?,?,?,?,?)"
        await self._call(lambda: self._sql(statement, (name, digest, outcome, run_id, at)) and None)

    def _keep_outcome(self, run_id: str, status: str) -> None:
        """Keep the counted uses of saved plans by a run that is being deleted, inside a transaction."""
        became = "run" if status in ("failed", "cancelled") else "answered"
        self._sql(
            "UPDATE plan_uses SET run_id=NULL, outcome=CASE outcome WHEN 'answered' THEN ? ELSE outcome END WHERE run_id=?",
            (became, run_id),
        )

    async def count_uses(self) -> Sequence[tuple[str, str, str, int]]:
        """See `Store.count_uses`."""
        return await self._call(lambda: self._sql(_COUNTS).fetchall())
