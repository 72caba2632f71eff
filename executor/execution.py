"""The room's door: runs, from submission to result, in one store.

What can be done with a run is here, each in a few lines: start, wait, resume, decide, cancel, replay, look at. How
a run moves is `machine.py`; how it is carried out `driver.py`; how it is read back `restore.py`.

Rules it keeps: a run is driven by one owner, who claimed it in the store; whoever decides leaves the decision in the
store and tells the owner; a snapshot of a run that this process does not drive is made from its journal.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from ..errors import InputRejected, RunNotFound
from ..plans import Plan
from ..plans.values import Json, canonical
from .driver import Driver
from .events import (
    Approved,
    CancelAsked,
    Cause,
    Denied,
    ResolvedDone,
    ResolvedFailed,
    ResolvedRetry,
    RunResumed,
    RunStarted,
)
from .facilities import Facilities
from .header import Header, default_seed
from .lock import Lock, ToolLock
from .machine import Machine
from .owner import Owner
from .records import Entry, Event, read_entry, write_entry
from .restore import build_machine, fold, load_entries, parse_lines
from .run import Run, RunError, run_errors, run_status, run_usage, step_views
from .sealed import Sealed
from .states import FINAL, RunStatus, State
from .store import RunRow

POLL_S: Final = 0.2  # how often a run that another process drives is looked at
LIMIT_MAX: Final = 1000  # runs in one page


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A line in a list of runs. Times are Unix seconds."""

    id: str
    status: str
    task: str | None
    plan_digest: str | None
    parent: str | None
    created: float
    updated: float
    digest: str

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class RunPage:
    """Some runs, newest first; `cursor` asks for the next page, `None`: there is none."""

    runs: tuple[RunSummary, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Planning:
    """What a planner made of a task, as the executor needs it."""

    plan: Plan
    inputs: Mapping[str, Json]
    record: Json


class Execution:
    """Runs of one store, as this process sees and drives them.

    Args:
        facilities: What runs share.
        store_path: Where the owner's file goes; `None`: the store is in memory.
    """

    def __init__(self, facilities: Facilities, store_path: str | None) -> None:
        self._facilities = facilities
        self._store = facilities.store
        self._owner = Owner(store_path)
        self._drivers: dict[str, Driver] = {}
        self._driving: dict[str, asyncio.Task[None]] = {}
        self._is_closing = False

    # --- life

    async def open(self) -> None:
        """Open the store and become an owner. Raises: StoreError."""
        await self._store.open()
        self._owner.acquire()

    async def close(self) -> None:
        """Park the runs under way, and let go; they go on with `resume`."""
        self._is_closing = True
        await asyncio.gather(*(driver.park() for driver in self._drivers.values()))
        for task in self._driving.values():
            if not task.done() and task.get_coro() is not None:
                task.cancel()
        await asyncio.gather(*self._driving.values(), return_exceptions=True)
        self._facilities.threads.close()
        await self._store.close()
        self._owner.release()

    # --- start

    async def submit(self, header: Header, *, run_id: str | None, parent: str | None = None) -> str:
        """Make a run durable and start driving it; return its id.

        Raises:
            InputRejected: A run of that id exists, with another plan or other inputs.
        """
        row = self._new_row(header, run_id, parent)
        if not await self._store.create_run(row):
            await self._expect_same(row, header)
            if row.id not in self._driving:
                await self.resume(row.id)
            return row.id
        if header.plan is not None:
            await self._start(row.id, RunStarted(row.id))
        return row.id

    def _new_row(self, header: Header, run_id: str | None, parent: str | None) -> RunRow:
        now = self._facilities.clock.now()
        return RunRow(
            id=run_id or f"run_{secrets.token_hex(8)}",
            status=RunStatus.QUEUED.value,
            task=header.task,
            plan_digest=header.plan.digest if header.plan else None,
            parent=parent,
            created=now,
            updated=now,
            digest="",
            header=header.to_dict(),
        )

    async def _expect_same(self, row: RunRow, header: Header) -> None:
        existing = Header.from_dict((await self._row(row.id)).header)
        is_same_work = existing.task == header.task and (
            header.plan is None or existing.plan is None or existing.plan.digest == header.plan.digest
        )
        given = {name: existing.inputs.get(name) for name in header.inputs} if header.plan is None else existing.inputs
        if not is_same_work or canonical(dict(given)) != canonical(dict(header.inputs)):
            what = "another plan or task" if not is_same_work else "other inputs"
            raise InputRejected(f"a run '{row.id}' exists already, with {what}; choose another run_id")

    def start_planning(self, run_id: str, plan: Callable[[], Awaitable[Planning]]) -> None:
        """Plan a submitted task in the background, then drive it. A failure of planning is the run's failure."""
        self._driving[run_id] = asyncio.get_running_loop().create_task(self._plan_and_drive(run_id, plan))

    async def _plan_and_drive(self, run_id: str, plan: Callable[[], Awaitable[Planning]]) -> None:
        row = await self._store.claim(run_id, self._owner.name, is_alive=self._owner.is_alive)
        if row is None:
            return
        header = Header.from_dict(row.header)
        try:
            planning = await plan()
        except Exception as fault:  # whatever it is, it is recorded, and raised again for whoever waits
            failed = {"failed": {"code": getattr(fault, "code", "planning-failed"), "message": str(fault)}}
            await self._store.fail_planning(run_id, {**row.header, "planning": failed}, row.epoch, self._facilities.clock.now())
            raise
        inputs = {**planning.inputs}
        seed = header.seed or default_seed(planning.plan, inputs)
        lock = self.lock_of(planning.plan)
        header = replace(header, plan=planning.plan, inputs=inputs, seed=seed, lock=lock, planning=planning.record)
        await self._store.set_header(run_id, header.to_dict(), planning.plan.digest, row.epoch)
        await self._drive(replace(row, header=header.to_dict()), header, [], [RunStarted(run_id)])

    def lock_of(self, plan: Plan, plans: Mapping[str, Plan] | None = None) -> Lock:
        """Return the lock of the tools that a plan, and the saved plans that it uses, name."""
        names = sorted({name for each in (plan, *(plans or {}).values()) for name in each.tool_names})
        found = [self._facilities.tools.find(name) for name in names]
        return Lock([ToolLock.of(tool) for tool in found if tool is not None])

    async def _start(self, run_id: str, *events: Cause) -> bool:
        """Claim a run and drive it in the background; `False`: another owner has it."""
        row = await self._store.claim(run_id, self._owner.name, is_alive=self._owner.is_alive)
        if row is None:
            return False
        header = Header.from_dict(row.header)
        entries = await load_entries(self._store, row)
        task = asyncio.get_running_loop().create_task(self._drive(row, header, entries, list(events)))
        self._driving[run_id] = task
        return True

    async def _drive(self, row: RunRow, header: Header, entries: Sequence[Entry], events: list[Cause]) -> None:
        """Drive a claimed run until it has ended or waits, then let go of it."""
        machine = build_machine(header)
        fold(machine, entries)
        places = asyncio.Semaphore(header.concurrency_max) if header.concurrency_max is not None else None
        driver = Driver(self._facilities, row, machine, header.seed, header.reuse, places)
        self._drivers[row.id] = driver
        try:
            await driver.drive(*(events if machine.status is None else ()))
        finally:
            driver.journal.close()
            del self._drivers[row.id]
            await self._store.release(row.id, row.epoch)

    # --- wait

    async def wait(self, run_id: str) -> Run:
        """Return the run once it has ended or nothing goes on without a person.

        Raises:
            RunNotFound: There is no such run.
            StoreError: Its journal cannot be written any more.
        """
        row = await self._row(run_id)
        while True:
            task = self._driving.get(run_id)
            if task is not None:
                await asyncio.wait([task])
                self._driving.pop(run_id, None)
                if not task.cancelled() and (fault := task.exception()) is not None:
                    raise fault
                return await self.get(run_id)
            row = await self._row(run_id)
            if row.status not in ("queued", "running") or row.owner is None or not self._owner.is_alive(row.owner):
                return await self.get(run_id)
            await asyncio.sleep(POLL_S)

    async def events(self, run_id: str, after: int = 0) -> AsyncIterator[Event]:
        """Yield the run's events past `after` as they become durable, until nothing more comes by itself."""
        await self._row(run_id)
        while True:
            driver = self._drivers.get(run_id)
            task = self._driving.get(run_id)
            for entry in await parse_lines(self._store, await self._store.read_journal(run_id, after)):
                yield Event.of(entry)
                after = entry.seq
            if driver is not None and self._drivers.get(run_id) is driver:
                await driver.journal.wait_past(after)
                continue
            row = await self._row(run_id)
            if row.last_seq > after or self._drivers.get(run_id) is not None:
                continue
            if task is not None and not task.done():
                await asyncio.wait([task], timeout=POLL_S)
                continue
            if row.owner is None or not self._owner.is_alive(row.owner):
                return
            await asyncio.sleep(POLL_S)

    # --- look

    async def _row(self, run_id: str) -> RunRow:
        row = await self._store.find_run(run_id)
        if row is None:
            raise RunNotFound(f"there is no run '{run_id}' in the store {self._store.name}; `firmplan runs` lists them")
        return row

    async def get(self, run_id: str) -> Run:
        """Return the run as it stands. Raises: RunNotFound."""
        row = await self._row(run_id)
        header = Header.from_dict(row.header)
        if header.plan is None:
            return _unplanned(row, header)
        driver = self._drivers.get(run_id)
        if driver is not None:
            return snapshot(row, header, driver.machine)
        machine = build_machine(header)
        fold(machine, await load_entries(self._store, row))
        return snapshot(row, header, machine)

    async def list_runs(self, *, status: str | None, limit: int, cursor: str | None) -> RunPage:
        """Return a page of runs, newest first. Raises: InputRejected: a bad limit, status or cursor."""
        if not 1 <= limit <= LIMIT_MAX:
            raise InputRejected(f"limit: expected 1 to {LIMIT_MAX}, found {limit}")
        if status is not None and status not in {known.value for known in RunStatus}:
            known = ", ".join(known.value for known in RunStatus)
            raise InputRejected(f"status: expected one of {known}, found '{status}'")
        rows = await self._store.list_runs(status=status, limit=limit + 1, before=_read_cursor(cursor))
        page = [
            RunSummary(r.id, r.status, r.task, r.plan_digest, r.parent, r.created, r.updated, r.digest)
            for r in rows[:limit]
        ]
        more = f"{page[-1].created!r}~{page[-1].id}" if len(rows) > limit else None
        return RunPage(tuple(page), more)

    # --- go on

    async def resume(self, run_id: str) -> None:
        """Go on with a run that nobody drives. A run that has ended, or is driven, is left as it is.

        Raises:
            RunNotFound: There is no such run.
        """
        row = await self._row(run_id)
        task = self._driving.get(run_id)
        if row.status in FINAL or (task is not None and not task.done()) or row.plan_digest is None:
            return
        first: Cause = RunResumed(self._owner.name) if row.last_seq else RunStarted(run_id)
        decisions = await self._decisions(run_id)
        await self._start(run_id, first, *[event for _, event in decisions])

    async def recover(self) -> list[str]:
        """Go on with every run whose owner is dead; return their ids."""
        recovered: list[str] = []
        for status in ("running", "queued"):
            cursor: tuple[float, str] | None = None
            while rows := await self._store.list_runs(status=status, limit=LIMIT_MAX, before=cursor):
                for row in rows:
                    is_dead = row.owner is None or not self._owner.is_alive(row.owner)
                    if is_dead and row.plan_digest is not None and row.id not in self._driving:
                        await self.resume(row.id)
                        recovered.append(row.id)
                cursor = (rows[-1].created, rows[-1].id)
        return recovered

    # --- decide

    async def decide(self, run_id: str, step: str, make: Callable[[Json], Cause], *, states: Sequence[State]) -> Run:
        """Record a person's decision about a step, and tell whoever drives the run.

        Args:
            run_id: The run.
            step: Path of the leaf.
            make: From the digest of the step's arguments to the decision.
            states: The states in which it may be decided.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: The step does not exist, or does not wait for this decision.
        """
        row = await self._row(run_id)
        machine = await self._machine_of(row)
        turn = machine.turns.get(step)
        if turn is None or turn.state not in states:
            raise InputRejected(_not_decidable(step, machine, states))
        decision = make(turn.call.digest if turn.call is not None else "")
        await self._leave(run_id, decision)
        return await self.get(run_id)

    async def cancel(self, run_id: str, by: str) -> Run:
        """Ask a run to stop. A run that has ended is returned as it is. Raises: RunNotFound."""
        row = await self._row(run_id)
        if row.status in FINAL:
            return await self.get(run_id)
        await self._leave(run_id, CancelAsked(by))
        return await self.get(run_id)

    async def _machine_of(self, row: RunRow) -> Machine:
        driver = self._drivers.get(row.id)
        if driver is not None:
            return driver.machine
        machine = build_machine(Header.from_dict(row.header))
        fold(machine, await load_entries(self._store, row))
        return machine

    async def _leave(self, run_id: str, decision: Cause) -> None:
        """Make a decision durable, and have it taken in by the run's driver, or by nobody until a resume."""
        line, _ = write_entry(Entry(0, self._facilities.clock.now(), decision))
        await self._store.add_decision(run_id, line)
        driver = self._drivers.get(run_id)
        if driver is not None:
            await driver.take_decisions(await self._decisions(run_id))
            return
        row = await self._store.claim(run_id, self._owner.name, is_alive=self._owner.is_alive)
        if row is None:
            return  # another process drives it, and looks for decisions by itself
        header = Header.from_dict(row.header)
        machine = build_machine(header)
        fold(machine, await load_entries(self._store, row))
        driver = Driver(self._facilities, row, machine, header.seed, header.reuse)
        try:
            await driver.note(await self._decisions(run_id))
        finally:
            await self._store.release(run_id, row.epoch)

    async def _decisions(self, run_id: str) -> list[tuple[int, Cause]]:
        found = await self._store.list_decisions(run_id)
        return [(number, cast("Cause", read_entry(line, _no_value).event)) for number, line in found]


def _no_value(digest: str) -> bytes:
    raise InputRejected(f"a decision may not refer to a stored value ({digest})")


def snapshot(row: RunRow, header: Header, machine: Machine) -> Run:
    """Return a run as its machine stands."""
    return Run(
        id=row.id,
        status=run_status(machine, is_live=True).value,
        output=machine.output.value if machine.output is not None else None,
        errors=run_errors(machine),
        digest=machine.digest,
        plan=header.plan,
        inputs=header.inputs,
        steps=step_views(machine),
        usage=run_usage(machine),
        parent=row.parent,
        task=row.task,
        created=row.created,
        updated=row.updated,
    )


def _unplanned(row: RunRow, header: Header) -> Run:
    planning: Any = header.planning
    failed = planning.get("failed") if isinstance(planning, dict) else None
    errors = (RunError("", failed["code"], failed["message"]),) if failed else ()
    return Run(
        id=row.id,
        status=row.status,
        errors=errors,
        inputs=header.inputs,
        parent=row.parent,
        task=row.task,
        created=row.created,
        updated=row.updated,
    )


def _not_decidable(step: str, machine: Machine, states: Sequence[State]) -> str:
    waiting = [turn.path for turn in machine.turns.values() if turn.state in states]
    wanted = " or ".join(state.value for state in states)
    found = machine.turns[step].state.value if step in machine.turns else "not there, or not started"
    listed = ", ".join(f"'{path}'" for path in waiting) or "no step"
    return f"step '{step}' is {found}; expected one that is {wanted}: {listed} is"


def _read_cursor(cursor: str | None) -> tuple[float, str] | None:
    if cursor is None:
        return None
    created, separator, run_id = cursor.partition("~")
    try:
        return float(created), run_id if separator else ""
    except ValueError:
        raise InputRejected(f"cursor: expected one that an earlier page gave, found '{cursor}'") from None


def approved(args: str, *, by: str, edit: Json = None) -> Approved:
    """Return the decision to let a call go ahead."""
    return Approved("", by, args, Sealed.of(edit) if edit is not None else None)
