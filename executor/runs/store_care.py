"""Looking after a store: is everything in it as it was written, and a copy of it beside running engines.

A check reads every journal along its chain of digests and computes every run again from it, as a replay does; nothing is called
and nothing is changed. A backup is one file, as the store was at one moment.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from ...errors import FirmplanError, InputRejected, StoreError
from ...plans.values import Json
from ..journal.restore import check_heads
from ..states import FINAL
from ..stores.store import RunRow, Store
from .archive import Archive, read_plan
from .arguments import file_of
from .run import Run

PAGE: Final = 500  # rows that are looked at together
SHOWN_MAX: Final = 20  # damaged runs that the text names


@dataclass(frozen=True, slots=True)
class Damage:
    """Something that is not as it was written; `run` is empty where it is the file itself."""

    run: str
    message: str

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {"run": self.run, "message": self.message}


@dataclass(frozen=True, slots=True)
class StoreReport:
    """What a check of a store found.

    Attributes:
        runs: How many were looked at.
        damages: All that is wrong, the file's own first, then runs, newest first, then saved plans.
    """

    store: str
    runs: int
    damages: tuple[Damage, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.damages

    def __str__(self) -> str:
        head = f"{self.store}: {self.runs} {'run' if self.runs == 1 else 'runs'} checked, "
        if self.ok:
            return f"{head}everything is as it was written"
        shown = [
            f"{f'run {each.run}' if each.run else 'the store'}: {each.message}"
            for each in self.damages[:SHOWN_MAX]
        ]
        more = len(self.damages) - SHOWN_MAX
        return "\n".join([f"{head}{self._counted()}", *shown, *([f"and {more} more"] if more > 0 else [])])

    def _counted(self) -> str:
        """Return how many runs are damaged, and how much else is: a line in a list need not be about a run."""
        runs = len({each.run for each in self.damages if each.run})
        others = sum(not each.run for each in self.damages)
        more = f", {others} {'other damage' if others == 1 else 'other damages'}" if others else ""
        return f"{runs} {'run' if runs == 1 else 'runs'} damaged{more}"

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        damages = [cast("Json", each.to_dict()) for each in self.damages]
        return {"store": self.store, "ok": self.ok, "runs": self.runs, "damages": damages}


async def check_store(store: Store, archive: Archive) -> StoreReport:
    """Return what in a store is not as it was written. O(size of the store)."""
    damages = [Damage("", text) for text in await store.find_damage()]
    count = 0
    async for row in _rows(store):
        count += 1
        if (why := await _damage_of(store, archive, row.id)) is not None:
            damages.append(Damage(row.id, why))
    damages += [Damage("", text) for text in await _damaged_plans(store)]
    return StoreReport(store.name, count, tuple(damages))


async def _damaged_plans(store: Store) -> list[str]:
    """Return the saved plans, and the plans kept for the planner, that were changed since they were saved."""
    found: list[str] = []
    for stored in await store.list_plans():
        try:
            read_plan(stored)
        except StoreError as fault:
            found.append(fault.message)
    return found


async def _rows(store: Store) -> AsyncIterator[RunRow]:
    before: tuple[float, str] | None = None
    while rows := await store.list_runs(status=None, limit=PAGE, before=before):
        for row in rows:
            yield row
        before = (rows[-1].created, rows[-1].id)


async def _damage_of(store: Store, archive: Archive, run_id: str) -> str | None:
    """Return why a run cannot be computed again from its journal; `None`: it can."""
    try:
        row = await archive.row(run_id)
        if row.plan_digest is not None:
            if row.status in FINAL:
                _expect_row(row, await archive.replayed(row))
            else:
                await archive.rebuilt(row)
            await check_heads(store, row)
    except FirmplanError as fault:
        return fault.message
    return None


def _expect_row(row: RunRow, run: Run) -> None:
    """Raise `StoreError` if the row of an ended run differs from its header and journal."""
    found = (run.status, run.plan.digest if run.plan is not None else None)
    if (row.status, row.plan_digest) != found:
        raise StoreError(
            f"the row of run {row.id} was changed: its status or its plan's digest is not that of its journal"
        )


async def back_up(store: Store, path: str | os.PathLike[str]) -> Path:
    """Copy a store into one new file, whole or not at all, and return its path.

    Raises:
        InputRejected: There is a file of that name, or it cannot be written.
    """
    target = file_of(path)
    try:
        _expect_new(target)
    except OSError as fault:  # its name is longer than a file's may be
        raise InputRejected(f"backup: {target} cannot be written: {fault}") from fault
    part = target.with_name(f"{target.name}-part-{os.getpid()}")
    try:
        await store.copy_to(part)
        part.rename(target)
    except (OSError, StoreError) as fault:
        raise InputRejected(f"backup: {target} cannot be written: {fault}") from fault
    finally:
        part.unlink(missing_ok=True)
    return target


def _expect_new(target: Path) -> None:
    if target.exists():
        raise InputRejected(f"backup: expected a new file, found one at {target}: name another")
    if not target.parent.is_dir():
        raise InputRejected(f"backup: the folder {target.parent} does not exist: make it, or name another")
