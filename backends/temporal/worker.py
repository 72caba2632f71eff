"""A process that drives the runs which Temporal hands to it, and sweeps the store for those that it was not told of.

Rules:

- **The lease of the store decides who is dead**, never a heartbeat of Temporal's. An attempt whose run has a living owner ends at once, and Temporal
  starts the next one after `AGAIN_S`; meanwhile it holds no slot.
- **An attempt that Temporal has given up goes on**, in its slot: its process lives, and its run is its own as long as the store says so. So a server
  that was away for a while costs no call.
- **Every worker watches every owner.** It takes the whole length of a lease to see that the beat of an owner stands still; if only the next attempt began to
  look, a takeover would take the time of both, and on another worker once more.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from ...errors import ConfigError, FirmplanError, RunDriven, RunNotFound, ServerError, StoreError
from ...executor.states import FINAL
from .schedules import Firing, sweep
from .workflow import DRIVE, FireWorkflow, RunWorkflow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...executor import Run
    from ..backend import BackendHost, Drive, StrandedRun
    from .backend import TemporalBackend

BUILD: Final = "firmplan"
"""What the SDK calls this worker's code, with the digest of its tools; by itself it would hash every module of the process."""
AGAIN_S: Final = 3.0
"""Until the next attempt for a run whose owner lives, or whose store is away."""
AT_ONCE_S: Final = 0.001
"""Until the next attempt for a run that was parked: zero would mean the interval of the retry policy."""
MISFIT_S: Final = 30.0
"""Until the next attempt for a run that cannot go on here: another worker may have its tools."""
MESSAGE_MAX: Final = 1_500
"""Characters of the error of an attempt: Temporal's server keeps no failure of more than a few KB, and drops it whole."""
BEATS_S: Final = 3.0
"""Heartbeats are so far apart."""
STOP_S: Final = 3600.0
"""The longest that a worker which stops waits for its runs to be parked: `write_grace` decides, and is at most this."""
SWEEP_S: Final = 5.0
"""A sweep looks at the owners after so many seconds, more or less by half, so that workers do not look together."""
MENDS_MAX: Final = 20
"""Most runs that one sweep asks Temporal about."""
HANDED_MAX: Final = 2
"""A sweep stops asking once so many more runs were queued in Temporal than were stranded: a long queue is no fault, and each question has the server read a
workflow. Rejected: always `MENDS_MAX`, with which four workers ask about as many queued runs as they drive."""
QUIET_S: Final = 60.0
"""This worker does not ask again for so long about a run that has not moved."""
KNOWN_MAX: Final = 100_000
"""Runs of which a worker remembers that it has asked."""


async def work(backend: TemporalBackend, drive: Drive, slots: int) -> None:
    """Drive runs until this is cancelled; then park those that are driven, and return. See `Backend.take`."""
    driving = Driving(backend.host, drive)
    # Who looks at the queue in Temporal sees which versions of the tools work there, and which one each attempt had.
    toolset = backend.host.toolset_digest
    identity = f"{os.getpid()}@{socket.gethostname()} toolset {toolset}"
    failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def note_failure(fault: BaseException) -> None:
        if not failed.done():
            failed.set_result(fault)

    schedules = backend.scheduling
    firing = [] if schedules is None else [Firing(backend, schedules).fire]
    worker = Worker(
        backend.client,
        task_queue=backend.address.queue,
        workflows=[RunWorkflow, FireWorkflow],
        activities=[driving.attempt, *firing],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_concurrent_activities=slots,
        build_id=f"{BUILD}:{toolset}",
        identity=identity,
        graceful_shutdown_timeout=timedelta(seconds=STOP_S),
        on_fatal_error=note_failure,
    )
    backend.host.log.info("worker started", queue=backend.address.queue, slots=slots, toolset=toolset)
    sweeping = {asyncio.create_task(Sweep(backend).work(), name="firmplan sweep")}
    if schedules is not None:
        sweeping.add(asyncio.create_task(sweep(backend, schedules), name="firmplan sweep of schedules"))
    try:
        async with worker:
            fault = await asyncio.shield(failed)
        raise ServerError(
            f"the Temporal server at {backend.address.target} refuses this worker: {fault}"
        ) from fault
    finally:
        for each in sweeping:
            each.cancel()
        await asyncio.wait(sweeping)


class Driving:
    """The attempts of one worker.

    Args:
        host: The engine.
        drive: Drives a run.
    """

    def __init__(self, host: BackendHost, drive: Drive) -> None:
        self._host = host
        self._drive = drive
        self._runs: set[str] = set()
        self._told: set[str] = set()  # runs that cannot go on here, of which the log was told
        self._stopping: asyncio.Future[None] | None = None

    @activity.defn(name=DRIVE)
    async def attempt(self, request: dict[str, Any]) -> dict[str, Any]:
        """Drive a run until it has ended or waits; return where it stands, whether it has ended, and when it goes on by itself.

        Raises:
            ApplicationError: Another attempt is to be made later.
        """
        run_id = str(request["run"])
        if run_id in self._runs:  # an attempt that Temporal has given up, and that goes on
            raise later(f"run {run_id} is driven by this worker", "driven", AGAIN_S)
        self._runs.add(run_id)
        try:
            run = await self._driven(run_id, cancels=bool(request.get("cancel")))
        except RunDriven as fault:
            raise later(fault.message, fault.code, AGAIN_S) from None
        except RunNotFound:
            if request.get("store") == self._host.store_name:  # it has ended, and was deleted since
                return {"status": "deleted", "ended": True, "until": None}
            raise self._misfit(run_id, _other_store(run_id, request, self._host)) from None
        except StoreError as fault:
            if not fault.temporary:  # the journal was changed, say: nobody can go on with the run
                raise self._misfit(run_id, fault) from None
            raise later(fault.message, fault.code, AGAIN_S) from None
        except FirmplanError as fault:
            raise self._misfit(run_id, fault) from None
        finally:
            self._runs.discard(run_id)
        self._told.discard(run_id)
        return {"status": str(run.status), "ended": run.status in FINAL, "until": run.due}

    async def _driven(self, run_id: str, *, cancels: bool) -> Run[Any]:
        if cancels:
            await self._host.cancel(run_id)
        driving = asyncio.ensure_future(self._drive(run_id))
        if self._stopping is None:  # one for all attempts: it lasts as long as the worker
            self._stopping = asyncio.ensure_future(activity.wait_for_worker_shutdown())
        await self._watched(run_id, driving, self._stopping)
        if driving.cancelled():
            raise later(f"run {run_id} was parked: its worker stops", "parked", AT_ONCE_S)
        return driving.result()

    async def _watched(
        self, run_id: str, driving: asyncio.Future[Run[Any]], stopping: asyncio.Future[None]
    ) -> None:
        """Return once a drive has ended, to which Temporal hears heartbeats until then; have the run parked where the worker stops."""
        is_heard = True
        awaited: set[asyncio.Future[Any]] = {driving, stopping}
        while not driving.done():
            try:
                done, _ = await asyncio.wait(awaited, timeout=BEATS_S, return_when=asyncio.FIRST_COMPLETED)
                # The answer of an attempt that has ended comes next: a heartbeat before it would be one more write of the server.
                if is_heard and not done:
                    activity.heartbeat()
            except asyncio.CancelledError:
                # Temporal cancels an attempt once, and says why. The drive goes on until the run is parked or cancelled in the store.
                details = activity.cancellation_details()
                if details is not None and details.cancel_requested:
                    await self._host.cancel(run_id)
                elif details is None or not (details.not_found or details.timed_out):
                    driving.cancel()
                is_heard = details is not None and not (details.not_found or details.timed_out)
            if stopping in awaited and stopping.done():
                awaited = {driving}
                driving.cancel()  # parks the run

    def _misfit(self, run_id: str, fault: FirmplanError) -> ApplicationError:
        if run_id not in self._told:
            self._told.add(run_id)
            self._host.log.warning("run cannot go on here", run=run_id, error=fault.message, code=fault.code)
        return later(fault.message, fault.code, MISFIT_S)


def later(message: str, code: str, delay_s: float) -> ApplicationError:
    """Return the error that ends an attempt, and has Temporal make the next one after a while: it stands in no history.

    It is raised without a cause: tracebacks of causes go to the server, too, which keeps "Failure exceeds size limit." of what is longer than a few KB.
    """
    delay = timedelta(seconds=delay_s)
    return ApplicationError(
        message[:MESSAGE_MAX], type=code, next_retry_delay=delay, category=ApplicationErrorCategory.BENIGN
    )


def _other_store(run_id: str, request: dict[str, Any], host: BackendHost) -> ConfigError:
    return ConfigError(
        f"run {run_id} was stored in {request.get('store')}, and this worker works on {host.store_name}, which has not the run: expected all engines "
        "and workers of a task queue on one store; correct `store`, or give each store a queue of its own"
    )


class Sweep:
    """Wakes the runs that should go on, and that Temporal was not told of: the process that stored them died first, or the server was away."""

    def __init__(self, backend: TemporalBackend) -> None:
        self._backend = backend
        self._seen: dict[tuple[str, int, int], float] = {}  # state of a run -> when it was looked at

    async def work(self) -> None:
        """Sweep until this is cancelled."""
        trouble = ""
        while True:
            await asyncio.sleep(SWEEP_S * random.uniform(0.5, 1.5))  # noqa: S311  # no secret
            try:
                await self.once()
                trouble = ""
            except FirmplanError as fault:
                if fault.code != trouble:  # a server that is away for an hour is worth one line
                    self._backend.host.log.warning("sweep failed", error=fault.message, code=fault.code)
                trouble = fault.code

    async def once(self) -> list[str]:
        """Look at all owners once, and wake what is stranded; return the runs that were woken."""
        now = time.monotonic()
        stranded = await self._backend.host.find_stranded()
        new = [row for row in stranded if now - self._seen.get(_mark(row), -QUIET_S) >= QUIET_S]
        woken: list[str] = []
        handed = 0
        for row in _in_turn(new)[:MENDS_MAX]:
            if await self._backend.is_handed_over(row.id):
                handed += 1
            else:
                await self._backend.wake(row.id)
                woken.append(row.id)
            self._seen.pop(_mark(row), None)
            self._seen[_mark(row)] = now
            if handed >= HANDED_MAX + len(woken):
                break
        while len(self._seen) > KNOWN_MAX:
            del self._seen[next(iter(self._seen))]
        if woken:
            self._backend.host.log.info("stranded runs woken", runs=woken)
        return woken


def _in_turn(rows: Sequence[StrandedRun]) -> list[StrandedRun]:
    """Return runs in the order in which a sweep asks about them.

    The oldest come first in every second place, since a stranded run outlives those that wait for their turn. The others are drawn at random, so that several
    workers ask about different ones.
    """
    oldest = sorted(rows, key=lambda row: (row.created, row.id))
    drawn = random.sample(oldest, len(oldest))
    pairs = zip(oldest, drawn, strict=True)
    return list({row.id: row for pair in pairs for row in pair}.values())


def _mark(row: StrandedRun) -> tuple[str, int, int]:
    """Return the state of a run in which it need not be looked at again."""
    return row.id, row.epoch, row.last_seq
