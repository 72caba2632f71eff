"""Submitting runs: what is settled about a run before its first event, made durable under its name.

A run that is submitted goes on whatever happens to this process. The same name with the same work is the same run.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ...errors import InputRejected
from ...plans import Plan
from ...plans.expressions.functions import EXPRESSION_VERSION
from ...plans.holes import filled
from ...plans.nearest import did_you_mean
from ...plans.values import Json, canonical
from ..budget import PlanningCost
from ..calls.facilities import Clock
from ..fork import Fork, Holds, PastWrite, PastWrites, fork_of, inherited_from, root_of
from ..journal.header import Header, default_seed
from ..journal.lock import Lock
from ..journal.programs import keep_plan, program_of
from ..journal.records import Entry
from ..journal.restore import check_header, load_entries, rebuild
from ..machine import Machine
from ..outcome import walk
from ..sealed import Sealed
from ..states import RunStatus
from ..stores.store import RunRow, Store
from .archive import Archive


@dataclass(frozen=True, slots=True)
class Planned:
    """What became of a task: a checked plan, its inputs, and the record of its planning."""

    plan: Plan
    plans: Mapping[str, Plan]
    inputs: Mapping[str, Json]
    lock: Lock
    record: Json

    def complete(self, header: Header, cost: PlanningCost | None = None) -> Header:
        """Return a task's header with its plan, and what making it has used."""
        seed = header.seed or default_seed(self.plan, self.inputs)
        return replace(
            header,
            plan=self.plan,
            plans=self.plans,
            inputs=self.inputs,
            lock=self.lock,
            seed=seed,
            planning=with_cost(self.record, cost),
            language=EXPRESSION_VERSION,  # of the planner, which may be newer than the process that took the task
        )


def with_cost(record: Json, cost: PlanningCost | None) -> Json:
    """Return the record of a planning with what all plannings of the run have used."""
    if cost is None or not isinstance(record, dict):
        return record
    return {**record, "cost": cost.to_dict()}


class Submissions:
    """New runs of one store."""

    def __init__(self, store: Store, archive: Archive, clock: Clock) -> None:
        self._store = store
        self._archive = archive
        self._clock = clock

    async def submit(self, header: Header, *, run_id: str | None, parent: str | None = None) -> str:
        """Make a run durable and return its id; a run of that id that is the same work is left as it is.

        Raises:
            InputRejected: A run of that id exists, with another plan or other inputs.
            PlanRejected: The plan cannot be compiled.
        """
        row = self._new_row(header, run_id, parent)
        if header.plan is not None:
            keep_plan(row.header["plan"], header.plan)
            program_of(
                header.plan, header.lock, header.plans, header.language
            )  # compiled before anything is stored
        if not await self._store.create_run(row):
            await self._expect_same(row, header)
        return row.id

    def _new_row(self, header: Header, run_id: str | None, parent: str | None) -> RunRow:
        now = self._clock.now()
        return RunRow(
            id=run_id or f"run_{secrets.token_hex(8)}",
            status=RunStatus.QUEUED.value,
            task=filled(header.task, header.inputs) if header.task and header.plan else header.task,
            plan_digest=header.plan.digest if header.plan else None,
            parent=parent,
            created=now,
            updated=now,
            digest="",
            header=header.to_dict(),
        )

    async def _expect_same(self, row: RunRow, header: Header) -> None:
        existing = Header.from_dict((await self._archive.row(row.id)).header)
        is_same_work = (
            existing.plan.digest == header.plan.digest
            if header.plan is not None and existing.plan is not None
            else existing.task == header.task
        )
        given = (
            {name: existing.inputs.get(name) for name in header.inputs}
            if header.plan is None
            else existing.inputs
        )
        if not is_same_work or canonical(dict(given)) != canonical(dict(header.inputs)):
            what = "another plan or task" if not is_same_work else "other inputs"
            raise InputRejected(f"a run '{row.id}' exists already, with {what}; choose another run_id")

    async def fork(
        self,
        run_id: str,
        *,
        at: str | None,
        overrides: Mapping[str, Sealed],
        holds: Holds,
        header: Header,
        also: Sequence[str] = (),
    ) -> str:
        """Submit a fork of a run, with the plan, inputs and lock of `header`; return its id.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: A path is none of the plan's, or the run was never planned.
        """
        row = await self._archive.row(run_id)
        parent = Header.from_dict(row.header)
        if parent.plan is None or header.plan is None:
            raise InputRejected(f"run {run_id} has no plan: there is nothing to fork")
        program = program_of(header.plan, header.lock, header.plans, header.language)
        entries = await load_entries(self._store, row)
        check_header(row, entries)
        events = [entry.event for entry in entries]
        inherited = inherited_from(events)
        fork = fork_of(
            program,
            parent,
            header,
            at=at,
            overrides=overrides,
            holds=holds,
            also=also,
            settled={path: known.given for path, known in inherited.items()},
            past_writes=await self._past_writes(row, entries),
        )
        await self._expect_parts(row, [*([at] if at is not None else []), *overrides])
        return await self.submit(replace(header, fork=fork), run_id=None, parent=run_id)

    async def _past_writes(self, row: RunRow, entries: Sequence[Entry]) -> Mapping[str, PastWrite]:
        """Return the writes about which forks of a run ask a person in any case, by path."""
        fork = Header.from_dict(row.header).fork or Fork()
        before = dict(fork.past_writes)
        if fork.unknown and row.parent is not None:  # a fork of an older version tells their paths only
            parent = await self._archive.row(row.parent)
            above = await self._past_writes(parent, await load_entries(self._store, parent))
            before |= {path: above.get(path, PastWrite("unknown")) for path in fork.unknown}
        machines: list[Machine] = []  # built where a lost attempt was followed by another

        def has_reconciled(path: str) -> bool:
            if not machines:
                machines.append(rebuild(row, entries)[1])
            turn = machines[0].turns.get(path)
            return turn is not None and turn.item.node.policy.can_reconcile

        return PastWrites(row.id, before, has_reconciled).of(entry.event for entry in entries)

    async def _expect_parts(self, row: RunRow, paths: Sequence[str]) -> None:
        """Raise where a path is an item, iteration or inner step that the run has not. Raises: InputRejected."""
        inside = [path for path in paths if path != root_of(path)]
        if not inside:
            return
        known = [cell.path for cell in walk((await self._archive.machine(row)).root)]
        for path in inside:
            if path not in known:
                hint = did_you_mean(path, known, "`firmplan show` lists its steps and their parts")
                raise InputRejected(f"run {row.id} has no '{path}': {hint}")
