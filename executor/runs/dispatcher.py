"""The runs of an engine whose backend hands them out: nothing is driven in the process of the caller.

What begins or moves on is in the store first, then the backend is told (`Dispatcher`). Whoever waits for a run reads from the store how it goes on.
A run of which the backend was not told, since a process died in between or the backend was away, is found by a sweep (`Stranded` in `watch.py`).

This module does not claim or drive runs (`execution.py`); a worker of the backend does, with an engine of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Protocol

from ...errors import ConfigError, ServerError
from ...plans.reports.nearest import listing
from ..calls.caller import Caller
from ..journal.toolset_lock import digest_of_toolset
from ..states import FINAL, UNDER_WAY, RunStatus
from .planning import patch_id
from .watch import LOOK_S, Stranded, Untold

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from ...backends.backend import Backend
    from ...tools import Tool
    from ..calls.dispatch import Preparation, PreparedCall
    from ..calls.facilities import Facilities
    from ..calls.running.invoke import Outcome
    from ..stores.store import RunRow
    from .archive import Archive
    from .changes import Changes, Followed
    from .owner import Owner, Presence
    from .run import Run


class Moves(Protocol):
    """What a backend may ask of the runs of its engine (`BackendHost`)."""

    async def go_on(self, run_id: str) -> object:
        """Begin or continue a run here."""
        ...

    async def rouse(self, run_id: str) -> None:
        """Continue a run that waits for a time here."""
        ...

    async def cancel(self, run_id: str) -> object:
        """Cancel a run in the store."""
        ...


class Dispatcher:
    """Tells a backend of the runs of an engine, and is the engine as the backend sees it (`BackendHost`).

    Args:
        backend: Hands the runs out; `None`, or one that drives here: this process drives them.
        facilities: What the runs of an engine share.
        presence: How processes see the owners of the store.
        archive: Reads runs.
        owner: Tells whether the owners of runs live.
        changes: Tell of changes in the store.
        runs: Moves runs in this process.
    """

    def __init__(
        self,
        backend: Backend | None,
        facilities: Facilities,
        presence: Presence,
        archive: Archive,
        owner: Owner,
        changes: Changes,
        runs: Moves,
    ) -> None:
        self._backend = backend
        self._is_for_others = backend is not None and not backend.drives_here
        self._facilities = facilities
        self._store = facilities.store
        self._presence = presence
        self._archive = archive
        self._owner = owner
        self._changes = changes
        self._runs = runs
        self._identity = ""  # of the store, once a backend has asked
        self._ignored = set[str]()  # options that do nothing with a backend, of which the log was told
        self._untold = Untold(lambda: facilities.log)
        self._stranded = Stranded(self._store, owner, facilities.clock.now)

    def close(self) -> None:
        """Tell the log of the runs of which the backend was not told."""
        self._untold.end()

    # --- the engine, as its backend sees it

    @property
    def store_name(self) -> str:
        """See `BackendHost`."""
        return self._store.name

    async def store_identity(self) -> str:
        """See `BackendHost`."""
        if not self._identity:
            self._identity = await self._store.identity()
        return self._identity

    async def find_run(self, run_id: str) -> RunRow:
        """See `BackendHost`."""
        return await self._archive.row(run_id)

    @property
    def toolset_digest(self) -> str:
        """See `BackendHost`."""
        return digest_of_toolset(self._facilities.tools)

    @property
    def is_store_shared(self) -> bool:
        """See `BackendHost`."""
        return self._presence.is_leased

    @property
    def log(self) -> FilteringBoundLogger:
        """See `BackendHost`."""
        return self._facilities.log

    async def go_on(self, run_id: str) -> object:
        """See `BackendHost`."""
        return await self._runs.go_on(run_id)

    async def rouse(self, run_id: str) -> None:
        """See `BackendHost`."""
        await self._runs.rouse(run_id)

    async def cancel(self, run_id: str) -> object:
        """See `BackendHost`."""
        return await self._runs.cancel(run_id)

    async def find_stranded(self) -> Sequence[RunRow]:
        """See `BackendHost`."""
        return await self._stranded.find()

    # --- tell the backend

    async def hand_out(self, row: RunRow) -> None:
        """Have the backend hand out a run that begins or goes on. Raises: ConfigError."""
        assert self._backend is not None
        is_new = row.status == RunStatus.QUEUED and not (
            row.last_seq or row.owner or row.header.get("planning")
        )
        await self._tell(row.id, self._backend.enqueue(row) if is_new else self._backend.wake(row.id))

    async def tell_of_decision(self, run_id: str, *, is_cancel: bool) -> None:
        """Tell the backend that a decision about a run is in the store."""
        assert self._backend is not None
        await self._tell(run_id, self._backend.cancel(run_id) if is_cancel else self._backend.wake(run_id))

    async def _tell(self, run_id: str, telling: Awaitable[None]) -> None:
        try:
            await telling
        except ServerError as fault:
            # No error of the caller's: the run is durable, and whoever submitted it again would have it twice.
            self._untold.note(run_id, fault)

    def note_ignored(self, option: str, why: str) -> None:
        """Tell the log, once, of an option that does nothing where a backend hands the runs out: the run itself is the same."""
        if self._is_for_others and option not in self._ignored:
            self._ignored.add(option)
            hint = "it works in an engine without a backend; with one leave it out, and follow the run with `events`"
            self._facilities.log.warning(
                "an option does nothing with a backend", option=option, why=why, hint=hint
            )

    # --- how a run goes on, as far as the store says

    async def goes_on(self, row: RunRow) -> bool:
        """Whether a run moves on without a person, as far as the store says."""
        if row.status in FINAL or row.status == RunStatus.PARKED or row.is_replay:
            return False
        if row.status in UNDER_WAY or self._owner.is_driven(row):
            return True
        is_timed = (await self._archive.snapshot_of(row)).until is not None
        return is_timed or bool(await self._archive.decisions(row.id))

    async def wait(self, run_id: str, followed: Followed) -> Run:
        """Return a run once nothing goes on without a person."""
        while True:
            followed.look()
            row = await self._archive.row(run_id)
            if not await self.goes_on(row):
                return await self._archive.snapshot_of(row)
            # The worker that claims the run next has perhaps not heard that somebody asks for the moves of the run.
            await followed.wait(_never, LOOK_S)

    async def find_patch(self, run: Run) -> str | None:
        """Return the run of the patched plan of a failed run once a worker has made it; `None`: no worker has found one."""
        is_told = False
        with self._changes.follow(run.id) as followed:
            while True:
                followed.look()
                # First the owner: whoever patches makes the run of the patch before it releases this one (`_settle_patch`).
                row = await self._archive.row(run.id)
                if await self._archive.is_known(patched := patch_id(run.id)):
                    return patched
                if row.owner is None:
                    return None
                if not is_told and not self._owner.is_driven(row):
                    # Mostly the backend knows. No sweep looks at runs that have failed, so where it does not, nobody else would tell it.
                    is_told = True
                    assert self._backend is not None
                    await self._tell(run.id, self._backend.wake(run.id))
                await followed.wait(_never, LOOK_S)

    # --- calls for runs that are driven elsewhere

    async def carry_out(self, queue: str, *, slots: int, grace_s: float) -> None:
        """Make the calls of the tools with a queue, for runs that are driven elsewhere, until this is cancelled.

        Args:
            queue: The queue.
            slots: The most calls at a time.
            grace_s: How long the writes in flight may take when this ends.

        Raises:
            ConfigError: No tool has the queue, or there is no backend that has calls carried out.
            ServerError: The backend cannot be reached.
        """
        from ..calls.far import FarLease, FarServer  # noqa: PLC0415  # only workers of a queue

        far, processes = self._facilities.far, self._facilities.processes
        if far is None:
            raise ConfigError(
                "queue: this engine has no backend that hands out calls, so calls of tools with a queue are made where their runs are driven. Expected "
                'one such as Engine(backend="temporal://host:port/namespace")'
            )
        known = sorted({tool.queue for tool in self._facilities.tools if tool.queue is not None})
        if queue not in known:
            raise ConfigError(
                f"queue: expected the queue of a tool of this engine ({listing(known) if known else 'no tool has one'}), found {queue!r}; "
                "declare it with @tool(queue=..)"
            )

        async def make(preparation: Preparation, call: PreparedCall, tool: Tool) -> Outcome:
            return await Caller(self._facilities, preparation, "").make_here(call, tool)

        lease = FarLease(self._owner.lease.length_s)
        processes.lease = lease.lease
        try:
            server = FarServer(self._facilities, lease, make)
            await far.serve(queue, server.carry_out, lease, slots=slots, grace_s=grace_s)
        finally:
            processes.lease = self._owner.lease
            lease.close()


def _never() -> bool:
    return False
