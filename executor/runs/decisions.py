"""What people decide: approve, deny, resolve, cancel.

A decision is made durable first, then taken in by whoever drives the run; if nobody does, it is noted in the journal, and
a resume goes on from there. It names the leaf, and an approval the digest of the very arguments that were shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, cast
from weakref import WeakValueDictionary

from ...errors import InputRejected, ToolError
from ...plans.integral import with_integers
from ...plans.nearest import listing
from ...plans.program import CallTool
from ...plans.schema import literal_faults
from ...plans.values import Json, NotJson
from ..calls.facilities import Facilities
from ..cells import Turn
from ..events import (
    Approved,
    BudgetRaised,
    CancelAsked,
    Cause,
    Denied,
    ResolvedDone,
    ResolvedFailed,
    ResolvedRetry,
)
from ..journal.header import Header
from ..journal.lock import ToolLock
from ..journal.records import Entry, write_entry
from ..machine import Machine
from ..sealed import Sealed
from ..states import FINAL, Reason, RunStatus, State
from ..stores.store import RunRow
from .archive import Archive
from .arguments import run_of
from .driver import Driver
from .owner import Owner
from .run import Run

DECISIONS: Final = (Approved, Denied, ResolvedDone, ResolvedFailed, ResolvedRetry)


class Decisions:
    """The place where decisions about the runs of one store are left."""

    def __init__(
        self,
        facilities: Facilities,
        archive: Archive,
        owner: Owner,
        drivers: Mapping[str, Driver],
        driving: Mapping[str, asyncio.Task[None]],
    ) -> None:
        self._facilities = facilities
        self._store = facilities.store
        self._archive = archive
        self._owner = owner
        self._drivers = drivers
        self._driving = driving
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by run

    async def approve(self, run_id: str, step: str, *, by: str, edit: Mapping[str, Json] | None) -> Run:
        """Allow a call that waits, with exactly the arguments it has now; `edit` replaces some of them.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: The step does not wait for approval, or the edited arguments do not fit its tool.
        """
        async with self._alone(run_id):
            turn = await self._decidable(run_id, step, State.WAITING)
            call = turn.call or Sealed(b"null")
            edited = await self._edited(run_id, turn, call, edit) if edit is not None else None
            return await self._leave(run_id, Approved(step, by, call.digest, edited))

    async def _edited(self, run_id: str, turn: Turn, call: Sealed, edit: Mapping[str, Json]) -> Sealed:
        lock = await self._lock(run_id, turn)
        if lock is None:
            raise InputRejected(f"step '{turn.path}' calls no tool, so it has no arguments to edit")
        edited = {**cast("dict[str, Json]", call.value), **edit}
        tool = self._facilities.tools.find(lock.name)
        try:
            if tool is not None:
                tool.bind(edited)
            else:
                _expect_fit(edited, lock.parameters)
            return Sealed.of(edited)
        except (ToolError, NotJson) as fault:
            raise InputRejected(f"the edited arguments of step '{turn.path}' do not fit: {fault}") from fault

    async def deny(self, run_id: str, step: str, *, by: str, reason: str) -> Run:
        """Refuse a call that waits; what depends on it is cancelled. Raises: RunNotFound, InputRejected."""
        async with self._alone(run_id):
            await self._decidable(run_id, step, State.WAITING)
            return await self._leave(run_id, Denied(step, by, reason))

    async def resolve_done(self, run_id: str, step: str, output: object) -> Run:
        """Say that a call of unknown outcome took effect, and what it returned. Raises: RunNotFound, InputRejected."""
        async with self._alone(run_id):
            turn = await self._decidable(run_id, step, State.INDETERMINATE)
            return await self._leave(run_id, ResolvedDone(step, await self._done(run_id, turn, output)))

    async def _done(self, run_id: str, turn: Turn, output: object) -> Sealed:
        lock = await self._lock(run_id, turn)
        tool = self._facilities.tools.find(lock.name) if lock is not None else None
        try:
            sealed = Sealed(tool.seal(output)) if tool is not None else Sealed.of(cast("Json", output))
            if tool is None and lock is not None and lock.returns is not None:
                _expect_fit(sealed.value, lock.returns)
                sealed = Sealed.of(with_integers(sealed.value, lock.returns))
        except (ToolError, NotJson) as fault:
            raise InputRejected(f"done: the value is no result of step '{turn.path}': {fault}") from fault
        return sealed

    async def resolve_retry(self, run_id: str, step: str) -> Run:
        """Say that a call of unknown outcome did nothing, and may be made again. Raises: RunNotFound, InputRejected."""
        async with self._alone(run_id):
            await self._decidable(run_id, step, State.INDETERMINATE)
            return await self._leave(run_id, ResolvedRetry(step))

    async def resolve_failed(self, run_id: str, step: str, why: str) -> Run:
        """Say that a call of unknown outcome did nothing, and counts as failed. Raises: RunNotFound, InputRejected."""
        async with self._alone(run_id):
            await self._decidable(run_id, step, State.INDETERMINATE)
            return await self._leave(run_id, ResolvedFailed(step, why))

    async def raise_budget(self, run_id: str, budget: Mapping[str, float]) -> None:
        """Let a run use more (or less); a run that has ended is left as it is. Raises: RunNotFound."""
        row = await self._archive.row(run_id)
        if row.status not in FINAL and row.plan_digest is not None:
            row.expect_to_go_on()
            await self._leave(run_id, BudgetRaised(dict(budget)))

    async def cancel(self, run_id: str) -> Run:
        """Ask a run to stop. A run that has ended is returned as it is. Raises: RunNotFound."""
        row = await self._archive.row(run_id)
        if row.status in FINAL:
            return await self._archive.get(run_id)
        row.expect_to_go_on()
        if row.plan_digest is None:
            return await self._cancel_planning(row)
        return await self._leave(run_id, CancelAsked(self._owner.name))

    async def _cancel_planning(self, row: RunRow) -> Run:
        """Cancel a task that has no plan yet."""
        if (planning := self._driving.get(row.id)) is not None:
            planning.cancel()
            await asyncio.wait([planning])
        claimed = await self._owner.claim(self._store, row.id)
        if claimed is None:
            raise InputRejected(f"run {row.id} is being planned by another process; cancel it once it runs")
        now = self._facilities.clock.now()
        await self._store.set_header(row.id, row.header, None, claimed.epoch, RunStatus.CANCELLED.value, now)
        await self._owner.let_go(self._store, claimed)
        return await self._archive.get(row.id)

    async def _lock(self, run_id: str, turn: Turn) -> ToolLock | None:
        """Return the tool of a leaf as its run knows it: whoever decides need not have the tool."""
        action = turn.item.node.code.action
        if not isinstance(action, CallTool):
            return None
        row = await self._archive.row(run_id)
        return Header.from_dict(row.header).lock.find(action.tool)

    def _alone(self, run_id: str) -> asyncio.Lock:
        """Return what has decisions about one run made one after the other: who comes second is told that it is decided."""
        return self._locks.setdefault(run_of(run_id), asyncio.Lock())

    async def _decidable(self, run_id: str, step: str, state: State) -> Turn:
        """Return the leaf that waits for a decision. Raises: RunNotFound, InputRejected."""
        row = await self._archive.row(run_id)
        row.expect_to_go_on()
        machine = await self._archive.machine(row)
        turn = machine.turns.get(step)
        if turn is None or turn.state is not state or turn.reason is Reason.BUDGET:
            raise InputRejected(_not_decidable(step, machine, state))
        for made in await self._archive.decisions(run_id):
            if isinstance(made.event, DECISIONS) and made.event.step == step:
                raise InputRejected(
                    f"step '{step}' is decided already ({type(made.event).__name__}): whoever drives the run is about to take it in"
                )
        return turn

    async def _leave(self, run_id: str, decision: Cause) -> Run:
        """Make a decision durable, and have it taken in by the run's driver, or noted until a resume."""
        line, _ = write_entry(Entry(0, self._facilities.clock.now(), decision), inline_bytes_max=None)
        await self._store.add_decision(run_id, line)
        driver = self._drivers.get(run_id)
        if driver is not None:
            await driver.take_decisions(await self._archive.decisions(run_id))
        elif (row := await self._owner.claim(self._store, run_id)) is not None:
            await self._note(row)  # else another process drives it, and looks for decisions by itself
        return await self._archive.get(run_id)

    async def _note(self, row: RunRow) -> None:
        try:
            header = Header.from_dict(row.header)
            machine = await self._archive.rebuilt(row)
            driver = Driver(self._facilities, row, machine, header)
            await driver.note(await self._archive.decisions(row.id))
        finally:
            await self._owner.let_go(self._store, row)


def _not_decidable(step: str, machine: Machine, state: State) -> str:
    turn = machine.turns.get(step)
    if turn is not None and turn.reason is Reason.BUDGET:
        return f"step '{step}' waits for a larger budget, not for a person: resume the run with one"
    found = f"is {turn.state.value}" if turn is not None else "is not there, or has not started"
    wanted = "waits for approval" if state is State.WAITING else "is of unknown outcome"
    others = [
        each.path
        for each in machine.turns.values()
        if each.state is state and each.reason is not Reason.BUDGET
    ]
    known = (
        f"those that {'do' if state is State.WAITING else 'are'}: {listing(others)}"
        if others
        else "there is none"
    )
    return f"expected a step that {wanted}, found '{step}', which {found}; {known}"


def _expect_fit(value: Json, schema: Mapping[str, Json]) -> None:
    """Hold a value against a schema. Raises: ToolError: it does not fit."""
    faults = literal_faults(value, schema)
    if faults:
        raise ToolError(
            "; ".join(f"{fault.inner.lstrip('.') or 'the value'}: {fault.message}" for fault in faults),
            code="bad-value",
        )
