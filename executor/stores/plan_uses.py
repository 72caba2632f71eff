"""How often saved plans answered tasks, and how often they only seemed to.

A plan is counted by its name and the digest of plan and pattern: one that is saved anew under its name starts anew. A task that it answered is a hit; once
the run of it fails or is cancelled (a person who denies a step, or stops the run, does either) it is a false one, and while the
run goes on again it is none yet. The counts are the runs' as they stand: nothing has to be told when a run ends.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...plans.values import Json
from .store import Store


@dataclass(frozen=True, slots=True)
class PlanUses:
    """What one saved plan was good for.

    Attributes:
        hits: Tasks that it answered, but for those that `run` counts.
        check: Tasks of its pattern for which it did not pass its check, or whose words its inputs did not take.
        model: Tasks near to its own for which a model found that it does not fit.
        run: Tasks that it answered whose runs failed or were cancelled.
    """

    hits: int = 0
    check: int = 0
    model: int = 0
    run: int = 0

    @property
    def false_hits(self) -> int:
        """How often it only seemed to answer a task."""
        return self.check + self.model + self.run

    def __str__(self) -> str:
        tasks = "1 task" if self.hits == 1 else f"{self.hits} tasks"
        said = (
            (self.check, "by its check"),
            (self.model, "by a model"),
            (self.run, "by what came of the run"),
        )
        why = ", ".join(f"{count} {by}" for count, by in said if count)
        return f"answered {tasks}; seemed to answer, and did not: {self.false_hits}" + (
            f" ({why})" if why else ""
        )

    def to_dict(self) -> dict[str, Json]:
        """Return the counts as JSON."""
        why: dict[str, Json] = {"check": self.check, "model": self.model, "run": self.run}
        return {"hits": self.hits, "false_hits": self.false_hits, "false_hits_by": why}


class UsesKept:
    """The uses of saved plans in one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def note(self, uses: Iterable[tuple[str, str, str]], run_id: str | None) -> None:
        """Keep uses, each by name, template digest and outcome (`answered`, `check`, `model`), and the run that they were for."""
        for name, digest, outcome in uses:
            await self._store.note_use(name, digest, outcome, run_id, time.time())

    async def of(self, plans: Mapping[str, str]) -> dict[str, PlanUses]:
        """Return the uses of plans, by name; given is name -> template digest."""
        found = {name: dict[str, int]() for name in plans}
        for name, digest, outcome, count in await self._store.count_uses():
            if plans.get(name) == digest:
                found[name][outcome] = count
        return {
            name: PlanUses(
                counts.get("answered", 0),
                counts.get("check", 0),
                counts.get("model", 0),
                counts.get("run", 0),
            )
            for name, counts in found.items()
        }
