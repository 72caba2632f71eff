"""The care of a store: check that it is intact, copy it while engines use it, and delete runs.

A check reads every journal along its chain of digests and replays every run from it; it calls nothing and changes nothing. A backup is one
file that holds the store as it was at one moment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from typing import Final, cast

from ...errors import HAS_CHILDREN, NOT_ENDED, FirmplanError, InputRejected, RunNotFound, StoreError
from ...plans.format.shape import describe
from ...plans.immutable import frozen
from ...plans.values import Json
from ..journal.restore import check_heads
from ..states import FINAL, RunStatus
from ..stores.store import CacheStats, Pruned, Removal, RunRow, Store
from .archive import Archive, read_plan
from .request import file_of
from .run import Run, and_more, counted, report_json

ENDED: Final = tuple(status.value for status in RunStatus if status in FINAL)
SAVED_S: Final = 24 * 3600.0  # how long bytes stay that a caller has saved and no run has used yet
SHOWN_MAX: Final = 20  # damages, or kept runs, that a text lists


@frozen
class Damage:
    """A difference from what was written; `run` is empty if the damage is in the file itself or in a saved plan."""

    run: str
    message: str

    def to_dict(self) -> dict[str, Json]:
        """Return the damage as JSON."""
        return report_json(self)


@frozen
class StoreReport:
    """The result of a check of a store.

    Attributes:
        store: The name of the store.
        runs: The number of runs that were checked.
        damages: All damages: of the file, then of runs, newest first, then of saved plans.
    """

    store: str
    runs: int
    damages: tuple[Damage, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no damage."""
        return not self.damages

    def __str__(self) -> str:
        head = f"{self.store}: {counted(self.runs, 'run')} checked, "
        if self.ok:
            return f"{head}everything is as it was written"
        lines = [
            f"{f'run {each.run}' if each.run else 'the store'}: {each.message}"
            for each in self.damages[:SHOWN_MAX]
        ]
        runs = len({each.run for each in self.damages if each.run})
        others = sum(not each.run for each in self.damages)  # of the file or of saved plans
        more = f", {counted(others, 'other damage')}" if others else ""
        damaged = f"{head}{counted(runs, 'run')} damaged{more}"
        return "\n".join([damaged, *and_more(lines, len(self.damages))])

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {"ok": self.ok, **report_json(self)}


@frozen
class RunsDeleted:
    """The runs that were deleted, or would be.

    Attributes:
        runs: Ids of the deleted runs, newest first.
        kept: Run -> why it stays, for runs that were old enough.
        values: The number of stored values, artifacts included, that were removed because no run refers to them any more.
        bytes: Their size.
        is_dry_run: Whether nothing was deleted; `values` and `bytes` are then unknown.
    """

    runs: tuple[str, ...]
    kept: Mapping[str, str] = field(default_factory=dict[str, str])
    values: int = 0
    bytes: int = 0
    is_dry_run: bool = False

    def __str__(self) -> str:
        would = "would be " if self.is_dry_run else ""
        deleted = f"{counted(len(self.runs), 'run')} {would}deleted"
        if self.values:
            deleted += f", with {counted(self.values, 'stored value')} ({self.bytes} bytes)"
        kept = [f"{run_id} stays: {why}" for run_id, why in list(self.kept.items())[:SHOWN_MAX]]
        return "\n".join([deleted, *and_more(kept, len(self.kept), "more stay")])

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return report_json(self, is_dry_run="dry_run")


class StoreCare:
    """Checks, copies and cleans one store.

    Args:
        store: The store.
        archive: Looks runs up, and forgets deleted ones.
        now: Unix seconds.
    """

    def __init__(self, store: Store, archive: Archive, now: Callable[[], float]) -> None:
        self._store = store
        self._archive = archive
        self._now = now

    # --- check and copy

    async def check(self) -> StoreReport:
        """Return everything in the store that differs from what was written. O(size of the store)."""
        damages = [Damage("", text) for text in await self._store.find_damage()]
        count = 0
        async for row in self._archive.rows():
            count += 1
            if (why := await self._damage_of(row.id)) is not None:
                damages.append(Damage(row.id, why))
        for stored in await self._store.list_plans():  # the plans that are kept for the planner included
            try:
                read_plan(stored)
            except StoreError as fault:
                damages.append(Damage("", fault.message))
        return StoreReport(self._store.name, count, tuple(damages))

    async def _damage_of(self, run_id: str) -> str | None:
        """Return why a run cannot be computed again from its journal; `None`: it can."""
        try:
            row = await self._archive.row(run_id)
            if row.plan_digest is not None:
                if row.status in FINAL:
                    _expect_row(row, await self._archive.replayed(row))
                else:
                    await self._archive.rebuilt(row)
                await check_heads(self._store, row)
        except FirmplanError as fault:
            return fault.message
        return None

    async def back_up(self, path: str | os.PathLike[str]) -> Path:
        """Copy the store into one new file, complete or not at all, and return its path.

        Raises:
            InputRejected: There is a file of that name, or it cannot be written.
        """
        target = file_of(path)
        part = target.with_name(f"{target.name}-part-{os.getpid()}")
        try:
            _expect_new(target)
            await self._store.copy_to(part)
            part.rename(target)
        except (
            OSError,
            StoreError,
        ) as fault:  # an `OSError` of `_expect_new`: the name is too long for a file
            raise InputRejected(f"backup: {target} cannot be written: {fault}") from fault
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        return target

    # --- results for reuse, and stored bytes

    async def cache_stats(self) -> CacheStats:
        """Return how many results may be reused, and how large they are."""
        return await self._store.cache_stats()

    async def shrink_cache(self, *, age_s: float | None, bytes_max: int | None) -> int:
        """Forget results past an age, and the oldest past a size; return how many were forgotten."""
        before = None if age_s is None else self._now() - age_s
        return await self._store.shrink_cache(before=before, bytes_max=bytes_max)

    async def prune_artifacts(self, among: frozenset[str] | None = None) -> Pruned:
        """Remove bytes that nothing refers to; `among`: only these digests. Bytes that a caller saved lately stay."""
        pruned = await self._store.prune_values(saved_before=self._now() - SAVED_S, among=among)
        await self._store.give_back_room()
        return pruned

    # --- delete
    #
    # A run that has not ended is not deleted, because a process may continue it. A run with children is not deleted, because a fork needs
    # the journal of its parent. Each run is deleted in one transaction, so that a kill leaves it complete or gone. The bytes that no run
    # refers to any more are removed afterwards; if the process is killed before that, they take space until the next `prune` and do no
    # harm. Results that later runs may reuse stay: each has its own digest and needs no journal.

    async def delete(self, run_id: str) -> RunsDeleted:
        """Delete one run.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: The run has not ended (code `not-ended`), or has children (code `has-children`).
        """
        row = await self._archive.row(run_id)
        removed = await self._remove(row)
        if removed.status is None:
            raise RunNotFound(f"there is no run '{run_id}' in the store {self._store.name} any more")
        if not removed.is_removed:
            raise InputRejected(
                f"run {run_id} stays: {_why_kept(removed)}",
                code=HAS_CHILDREN if removed.children else NOT_ENDED,
            )
        pruned = await self.prune_artifacts(removed.named)
        return RunsDeleted((run_id,), {}, pruned.values, pruned.bytes)

    async def prune(
        self, age_s: float | None, statuses: Collection[str] | None, *, is_dry_run: bool
    ) -> RunsDeleted:
        """Delete all runs of these statuses whose end is that long ago, children before their parents.

        Args:
            age_s: Seconds since a run's last record; `None`: any age.
            statuses: Some of `ENDED`; `None`: each of them.
            is_dry_run: Delete nothing, and report the runs that would be deleted.
        """
        rows = [row async for row in self._archive.rows()]
        gone, kept = await self._remove_old(rows, age_s, statuses, is_dry_run=is_dry_run)
        runs = tuple(row.id for row in rows if row.id in gone)
        why = {row.id: kept[row.id] for row in rows if row.id in kept}
        if is_dry_run:
            return RunsDeleted(runs, why, is_dry_run=True)
        # Scan all bytes, not only those of these runs, to remove also the bytes that a killed process has left behind.
        pruned = await self.prune_artifacts()
        return RunsDeleted(runs, why, pruned.values, pruned.bytes)

    async def _remove_old(
        self,
        rows: Sequence[RunRow],
        age_s: float | None,
        statuses: Collection[str] | None,
        *,
        is_dry_run: bool,
    ) -> tuple[set[str], dict[str, str]]:
        """Remove the selected runs; return the deleted runs, and why others stay. One pass is enough if the clocks were right."""
        children: dict[str, set[str]] = {}
        for row in rows:
            if row.parent is not None:
                children.setdefault(row.parent, set()).add(row.id)
        until = None if age_s is None else self._now() - age_s
        left = [row for row in rows if _is_meant(row, until, statuses)]
        gone: set[str] = set()
        kept: dict[str, str] = {}
        # Leaves of the family tree first, until a pass deletes nothing: a parent can go once its last child has gone.
        goes_on = True
        while goes_on:
            goes_on = False
            for row in left:
                if row.id in gone or row.id in kept or children.get(row.id, set()) - gone:
                    continue
                goes_on = True
                removed = None if is_dry_run else await self._remove(row)
                if removed is None or removed.is_removed or removed.status is None:
                    gone.add(row.id)
                else:  # a child was made meanwhile
                    kept[row.id] = _why_kept(removed)
        for row in left:
            if row.id not in gone and row.id not in kept:
                kept[row.id] = _why_kept(Removal(row.status, sorted(children[row.id] - gone)))
        return gone, kept

    async def _remove(self, row: RunRow) -> Removal:
        # A kept replay never goes on, whatever its status: it is a copy of another run.
        statuses = (*ENDED, row.status) if row.is_replay else ENDED
        removed = await self._store.delete_run(row.id, statuses)
        if removed.is_removed:
            self._archive.forget(row.id)
        return removed


def statuses_of(given: object) -> Sequence[str] | None:
    """Return statuses of ended runs; `None`: all such statuses. Raises: InputRejected: a value is no such status."""
    if given is None:
        return None
    listed = (
        cast("Sequence[object]", given) if isinstance(given, list | tuple | set | frozenset) else (given,)
    )
    for status in listed:
        if status not in ENDED:
            raise InputRejected(
                f"statuses: expected some of {', '.join(ENDED)}, found {describe(status)}; runs that have not ended are not deleted"
            )
    return cast("Sequence[str]", listed)


def _is_meant(row: RunRow, until: float | None, statuses: Collection[str] | None) -> bool:
    if until is not None and row.updated > until:
        return False
    if statuses is None:
        return row.status in ENDED or row.is_replay
    return row.status in statuses


def _why_kept(removal: Removal) -> str:
    if removal.children:
        return f"{' and '.join(removal.children[:3])} was made from it and may need its journal: delete that run first"
    return f"it has not ended (it is {removal.status}): cancel it first, or let it end"


def _expect_row(row: RunRow, run: Run) -> None:
    """Raise `StoreError` if the row of an ended run differs from its header and journal."""
    found = (run.status, run.plan.digest if run.plan is not None else None)
    if (row.status, row.plan_digest) != found:
        raise StoreError(
            f"the row of run {row.id} was changed: its status or its plan's digest is not that of its journal"
        )


def _expect_new(target: Path) -> None:
    if target.exists():
        raise InputRejected(f"backup: expected a new file, found one at {target}: name another")
    if not target.parent.is_dir():
        raise InputRejected(f"backup: the folder {target.parent} does not exist: make it, or name another")
