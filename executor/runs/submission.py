"""Submits runs: makes the header of a run, what is settled before its first event, durable under the id of the run.

A submitted run survives this process. Submitting the same work under the same id again returns the run that exists; other work under the id is
refused. A fork, a retry and the run of a patched plan are submitted here too: their headers also have a `Fork`, which is computed from the
journals of the parent and its ancestors.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from threading import Lock
from typing import Final

from ...errors import OTHER_REQUEST, InputRejected, StoreError
from ...plans.inputs import filled, given_by_clock
from ...plans.reports.nearest import did_you_mean
from ...plans.values import canonical
from ...tools.logbook import current_request
from ..calls.facilities import Clock
from ..canonical_value import CanonicalValue
from ..events import CallFailed
from ..execution_tree import walk
from ..fork import (
    Fork,
    Holds,
    PastWrite,
    PastWrites,
    complete_digest,
    controlled_steps,
    done_calls,
    fork_of,
    inherited_from,
    patched_steps,
    retry_of,
    root_of,
    written_steps,
)
from ..journal.header import Header, program_of
from ..journal.journal import Commits
from ..journal.records import Entry
from ..journal.restore import check_header, load_entries, rebuild, rebuilt
from ..machine import Machine
from ..observer import Observers
from ..states import RunStatus
from ..stores.store import Batch, RunRow, Store
from .archive import Archive

_NOT_ENDED: Final = "it has not ended; wait for it, resume it if its process has died, or cancel it"
_NOT_RETRIED: Final = {
    "succeeded": "it has succeeded, so nothing is left to continue; fork it to repeat a part of it",
    "queued": _NOT_ENDED,
    "running": _NOT_ENDED,
    "waiting": "it waits for a person; approve or deny what waits, then resume it",
    "indeterminate": "the outcome of one of its writes is unknown; resolve that, then resume it",
    "over_budget": "its budget is used up; resume it with a larger one",
    "parked": "its process died again and again; find out why, then resume it",
}
"""Status -> why a run of that status is not retried, and what to do."""


def expect_retry(row: RunRow) -> None:
    """Raise `InputRejected` for a run that cannot be retried: it has neither failed nor been cancelled, or it is a kept replay."""
    if row.is_replay:
        raise InputRejected(
            f"run {row.id} is a replay of run {row.parent} that was kept; retry run {row.parent}, if that has failed"
        )
    if (why := _NOT_RETRIED.get(row.status)) is not None:
        raise InputRejected(
            f"retry: expected a run that has failed or was cancelled, found run {row.id}, which is {row.status}: {why}"
        )


def expect_resume(row: RunRow) -> None:
    """Raise `InputRejected` for a run that failed or was cancelled: an ended run never changes; only a retry continues it."""
    if row.status in (RunStatus.FAILED, RunStatus.CANCELLED) and not row.is_replay:
        became = "has failed" if row.status == RunStatus.FAILED else "was cancelled"
        raise InputRejected(
            f"resume: run {row.id} {became}, and an ended run never changes; continue it as a new run: "
            f"`firmplan retry {row.id}`, engine.retry({row.id!r}) or POST /v1/runs/{row.id}/retry"
        )


class NewRuns:
    """Stores new runs on the thread of commits: those that come while others are being stored share the next transaction.

    A transaction waits for a disk or a server, however much it holds, and a server has many submissions at a time.

    Args:
        commits: Has the thread.
        store: Where the runs are stored.
    """

    def __init__(self, commits: Commits, store: Store) -> None:
        self._commits = commits
        self._store = store
        self._lock = Lock()
        self._waiting: list[tuple[RunRow, asyncio.Future[bool]]] = []

    def add(self, row: RunRow) -> asyncio.Future[bool]:
        """Make a run without a parent durable; `False`: a run of its id is there. Raises: StoreError."""
        loop = asyncio.get_running_loop()
        made: asyncio.Future[bool] = loop.create_future()
        with self._lock:
            self._waiting.append((row, made))
        # In the next turn of the event loop, so that the thread finds all runs that come in this one.
        loop.call_soon(self._commits.expect, self, 0)
        return made

    # --- on the thread of commits

    def take(self) -> None:
        """Store the runs that wait. There is nothing to commit with others."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        waiting.sort(key=lambda each: each[0].id)
        try:
            outcomes: Sequence[bool | Exception] = self._store.create_runs([row for row, _ in waiting])
        except StoreError as fault:
            # Perhaps because of one run among them: each has its own answer then.
            outcomes = [self._alone(row) for row, _ in waiting] if len(waiting) > 1 else [fault]
        except Exception as bug:  # noqa: BLE001  # whoever waits must hear of it
            outcomes = [bug] * len(waiting)
        for (_, made), outcome in zip(waiting, outcomes, strict=True):
            with suppress(RuntimeError):  # the event loop has closed: nobody waits
                made.get_loop().call_soon_threadsafe(_settle, made, outcome)

    def _alone(self, row: RunRow) -> bool | Exception:
        try:
            return self._store.create_runs([row])[0]
        except Exception as fault:  # noqa: BLE001  # the same
            return fault

    def settle(self, _batch: Batch | None, _fault: Exception | None, /) -> None:
        """See `Source.settle`: nothing was taken."""


def _settle(made: asyncio.Future[bool], outcome: object) -> None:
    if made.done():  # whoever waited was cancelled
        return
    if isinstance(outcome, Exception):
        made.set_exception(outcome)
    else:
        made.set_result(bool(outcome))


class Submissions:
    """Submits the runs of one store.

    Args:
        store: Has the runs.
        new_runs: Stores those without parents.
        archive: Looks up parents.
        clock: The time of new runs.
        observers: Say where in a trace a new run is.
        approval_expires_s: How long approvals of new runs are waited for; `None`: for ever.

    Attributes:
        new_runs: Stores new runs.
    """

    def __init__(
        self,
        store: Store,
        new_runs: NewRuns,
        archive: Archive,
        clock: Clock,
        observers: Observers,
        approval_expires_s: float | None = None,
    ) -> None:
        self._store = store
        self.new_runs = new_runs
        self._archive = archive
        self._clock = clock
        self._observers = observers
        self._approval_expires_s = approval_expires_s

    async def submit(self, header: Header, *, run_id: str | None, parent: str | None = None) -> RunRow:
        """Make a run durable and return its row; a run of that id with the same work is left unchanged.

        Raises:
            InputRejected: A run of that id exists, with another plan or other inputs.
            PlanRejected: The plan cannot be compiled.
        """
        if header.plan is not None:
            # Compiled before anything is stored: a plan that cannot be compiled must not become a run that nobody can continue.
            _ = header.program
        row, header = self.prepared(header, run_id, parent)
        return await self.stored(row, header)

    async def stored(self, row: RunRow, header: Header) -> RunRow:
        """Store a prepared run, and return its row or that of the run of its id. Raises: InputRejected: that has other work."""
        # First create, then compare: a look before would race with another process that submits the same id.
        # The parent of a run is locked meanwhile, and whoever deletes that must not wait for the runs of others.
        if await (self.new_runs.add(row) if row.parent is None else self._store.create_run(row)):
            return row
        kept = await self._archive.row(row.id)
        self._expect_same(kept, row, header)
        return kept

    def prepared(
        self, header: Header, run_id: str | None, parent: str | None = None, owner: str | None = None
    ) -> tuple[RunRow, Header]:
        """Return the row of a new run, which nothing has stored yet, and its header.

        Args:
            header: What the run is.
            run_id: Its id; `None`: a new one.
            parent: The run that it is a fork or retry of.
            owner: Who has claimed it as soon as it is stored; `None`: nobody.
        """
        run_id = run_id or new_run_id()
        context = current_request.get()
        if self._observers.are_some:
            context = self._observers.begin_trace(run_id, context)
        if header.context is not context:  # not that of the parent, which a fork or retry has in its header
            header = replace(header, context=context)
        if header.approval_expires_s != self._approval_expires_s:  # a retry may have that of its parent
            header = replace(header, approval_expires_s=self._approval_expires_s)
        return self._new_row(header, run_id, parent, owner), header

    def _new_row(self, header: Header, run_id: str, parent: str | None, owner: str | None) -> RunRow:
        now = self._clock.now()
        return RunRow(
            id=run_id,
            status=RunStatus.QUEUED.value,
            task=filled(header.task, header.inputs) if header.task and header.plan else header.task,
            plan_digest=header.plan.digest if header.plan else None,
            parent=parent,
            created=now,
            updated=now,
            digest="",
            header=header.to_dict(),
            epoch=0 if owner is None else 1,
            owner=owner,
            tenant=header.tenant,
            due=header.deadline,
        )

    def _expect_same(self, kept: RunRow, row: RunRow, header: Header) -> None:
        existing = Header.from_dict(kept.header)
        is_same_work = (
            existing.plan.digest == header.plan.digest
            if header.plan is not None and existing.plan is not None
            else existing.task == header.task and existing.returns == header.returns
        )
        # A task is compared by the inputs that were given with it, since the planner may have added others.
        given = (
            {name: existing.inputs.get(name) for name in header.inputs}
            if header.plan is None
            else existing.inputs
        )
        name = "run_id" if row.parent is None else "run_id_new"
        if existing.tenant != header.tenant:
            # Nothing more is told of a run of another tenant.
            raise InputRejected(f"a run '{row.id}' exists already; choose another {name}")
        if existing.request and header.request:
            # The same request asks for the same run, even if a saved plan that it names is another one by now.
            if existing.request == header.request:
                return
            raise InputRejected(
                f"a run '{row.id}' exists already, and was made for another request; repeat that request, or choose another {name}",
                code=OTHER_REQUEST,
            )
        wanted = dict(header.inputs)
        if header.plan is not None:
            # What the clock gives now was another value when the run began, and its own stands.
            today = given_by_clock(header.plan, self._clock.now)
            wanted |= {
                each: given[each] for each in today if each in given and wanted.get(each) == today[each]
            }
        if not is_same_work or canonical(dict(given)) != canonical(wanted):
            what = "another plan or task" if not is_same_work else "other inputs"
            raise InputRejected(f"a run '{row.id}' exists already, with {what}; choose another {name}")
        if row.parent is not None and not (
            _is_same_child(kept.parent, existing.fork, row.parent, header.fork)
            and existing.replan == header.replan
        ):
            found = f"its parent is run {kept.parent}" if kept.parent is not None else "it has no parent"
            raise InputRejected(
                f"a run '{row.id}' exists already, and it is not the same fork or retry of run {row.parent} ({found}): expected the "
                f"arguments with which it was made; repeat those, or choose another {name}"
            )

    async def fork(
        self,
        run_id: str,
        *,
        at: str | None,
        overrides: Mapping[str, CanonicalValue],
        holds: Holds,
        header: Header,
        also: Sequence[str] = (),
        fork_id: str | None = None,
    ) -> str:
        """Submit a fork of a run, and return its id; if the run exists already and is the same fork, it is left unchanged.

        Args:
            run_id: The parent.
            at: See `Fork`, as the next two.
            overrides: See `Fork`.
            holds: See `Fork`.
            header: Plan, inputs and lock of the fork.
            also: Ids of further steps that are affected.
            fork_id: The fork's id; `None`: a new one.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: A path is not in the plan, the run has no plan, or the id belongs to another run.
        """
        row = await self._archive.flushed_row(run_id)
        parent = Header.from_dict(row.header)
        if parent.plan is None or header.plan is None:
            raise InputRejected(f"run {run_id} has no plan: there is nothing to fork")
        program = program_of(header.plan, header.lock, header.plans, header.language, header.rules)
        entries = await load_entries(self._store, row)
        check_header(row, entries)
        events = [entry.event for entry in entries]
        inherited = inherited_from(events)
        # Only a patch asks about writes that the parent has made: no person has read its plan.
        is_patch = holds == "made"
        patched = patched_steps(parent, header, is_patch=is_patch)
        # A fork by a person keeps the done writes that its parent knew from a patch; only a new patch has to collect them again.
        carried = (parent.fork or Fork()).done_writes
        past_writes = await self._past_writes(row, entries)
        # A lost attempt before the failure may have taken effect, and a refused result has: then the write is among the past writes.
        failed = {
            path
            for path, known in inherited.items()
            if isinstance(known.outcome, CallFailed) and path not in past_writes
        }
        fork = fork_of(
            program,
            parent,
            header,
            at=at,
            overrides=overrides,
            holds=holds,
            also=also,
            settled={path: known.given for path, known in inherited.items()},
            past_writes=past_writes,
            failed=failed if is_patch else (),
            patched=patched,
            done_writes=await self._done_writes(row, entries) if is_patch and patched else carried,
            controlled=controlled_steps(parent, header, is_patch=is_patch),
            written=written_steps(parent, header, is_patch=is_patch),
        )
        await self._expect_parts(row, [*([at] if at is not None else []), *overrides])
        return (await self.submit(replace(header, fork=fork), run_id=fork_id, parent=run_id)).id

    async def retry(self, row: RunRow, header: Header, *, retry_id: str | None) -> str:
        """Submit a retry of an ended run, and return its id; if the run exists already and is the same retry, it is left unchanged.

        Args:
            row: The ended run.
            header: The header of the new run, with plan and inputs of the ended run; its plan is `None` if the ended run has no plan.
            retry_id: The id of the new run; `None`: a new id.

        Raises:
            InputRejected: The id belongs to another run.
        """
        if header.plan is None:
            return (await self.submit(header, run_id=retry_id, parent=row.id)).id
        entries = await load_entries(self._store, row)
        _, machine = await rebuilt(row, entries)
        inherited = inherited_from(entry.event for entry in entries)
        fork = retry_of(machine, inherited, await self._past_writes(row, entries))
        return (await self.submit(replace(header, fork=fork), run_id=retry_id, parent=row.id)).id

    async def _past_writes(self, row: RunRow, entries: Sequence[Entry]) -> Mapping[str, PastWrite]:
        """Return the writes about which every fork of a run asks a person, by path."""
        fork = Header.from_dict(row.header).fork or Fork()
        before = dict(fork.past_writes)
        if fork.unknown and row.parent is not None:  # a fork of an older version has only their paths
            parent = await self._archive.row(row.parent)
            above = await self._past_writes(parent, await load_entries(self._store, parent))
            before |= {path: above.get(path, PastWrite("unknown")) for path in fork.unknown}
        machines: list[
            Machine
        ] = []  # rebuilt at the first need: most forks have no open write, and a rebuild reads the complete journal

        def machine() -> Machine:
            if not machines:
                machines.append(rebuild(row, entries)[1])
            return machines[0]

        def has_reconciled(path: str) -> bool:
            iteration = machine().iterations.get(path)
            return iteration is not None and iteration.item.node.policy.can_reconcile

        found = PastWrites(row.id, before, has_reconciled).of(entry.event for entry in entries)
        for path, past in found.items():
            if past.key and not past.tool and (tool := machine().tool_of(path)) is not None:
                found[path] = replace(past, tool=tool)
        return found

    async def _done_writes(self, row: RunRow, entries: Sequence[Entry]) -> Mapping[str, Mapping[str, str]]:
        """Return the writes that a run and its ancestors have done: tool -> digest of the complete arguments -> the run that made it."""
        # All ancestors, since a fork takes results from its parent, which may have taken them from its own.
        line = [(row, entries)]
        while Header.from_dict(row.header).fork is not None and row.parent is not None:
            row = await self._archive.row(row.parent)
            line.append((row, await load_entries(self._store, row)))
        found: dict[str, dict[str, str]] = {}
        for ancestor, journal in reversed(line):  # the first run that made a call is named
            calls = done_calls(entry.event for entry in journal)
            if not calls:
                continue
            header, machine = await rebuilt(ancestor, journal)
            policies = header.lock.policies
            for path, call in calls.items():
                if (tool := machine.tool_of(path)) is not None:
                    args = complete_digest(call, policies[tool].defaults)
                    found.setdefault(tool, {}).setdefault(args, ancestor.id)
        return {tool: dict(sorted(found[tool].items())) for tool in sorted(found)}

    async def _expect_parts(self, row: RunRow, paths: Sequence[str]) -> None:
        """Check that the run has the named items, iterations and inner steps. Raises: InputRejected: a path does not exist."""
        inside = [path for path in paths if path != root_of(path)]
        if not inside:
            return
        machine = await self._archive.machine(row)
        known = [part.path for part in walk(machine.root)]
        for path in inside:
            if path not in known:
                hint = did_you_mean(path, known, "`firmplan show` lists its steps and their parts")
                raise InputRejected(f"run {row.id} has no '{path}': {hint}")


def _is_same_child(
    parent_a: str | None, fork_a: Fork | None, parent_b: str | None, fork_b: Fork | None
) -> bool:
    """Whether two runs with the same plan and inputs are the same fork or retry of one run."""
    if fork_a is None or fork_b is None:  # a task that is planned again, or a run that is no fork
        return parent_a == parent_b and fork_a is fork_b
    return parent_a == parent_b and fork_a.is_same_request(fork_b)


def new_run_id() -> str:
    """Return an id that no run has."""
    return f"run_{secrets.token_hex(8)}"
