"""Calls of tools with a queue (`executor/calls/far.py`), each a standalone activity of Temporal on the task queue of that name; see `FarDispatch`.

An activity has the id of its call, and the server refuses a second one under that id for as long as it keeps the first (the namespace's retention). Histories hold
ids, digests and numbers.

Rules:

- **Heartbeats say that a call has begun**, and how often. The worker sends the first one itself and waits for the answer, before it calls the tool: so
  whoever finds none knows that the tool was not called.
- **Temporal repeats what was not called, and what may be.** A write whose worker was not heard of is not started again by Temporal: the owner of the
  run decides.
- **To look for a call takes its id.** Where there is none, the id is taken, so that a former owner of the run that stood still cannot begin the call later.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from temporalio import activity
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import (
    ActivityFailureError,
    ActivityHandle,
    AsyncActivityCancelledError,
    PendingActivityState,
)
from temporalio.common import ActivityIDConflictPolicy, ActivityIDReusePolicy, RetryPolicy
from temporalio.exceptions import (
    ActivityAlreadyStartedError,
    ApplicationError,
    ApplicationErrorCategory,
    CancelledError,
    TerminatedError,
)
from temporalio.exceptions import (
    TimeoutError as LateError,
)
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from ...errors import ConfigError, FirmplanError, ServerError, StoreError, ToolError
from ...executor.far_call import (
    Answered,
    CallBegun,
    CallMisfit,
    CallUnwanted,
    FarTask,
    NeverBegun,
    Unanswered,
)
from ...executor.limits import PARK_GRACE_S
from .worker import AGAIN_S, AT_ONCE_S, BUILD, MISFIT_S, STOP_S, later

if TYPE_CHECKING:
    from ...executor.far_call import CarryOut, FarAnswer, FarCall, FarListener, SignsOfLife
    from .backend import TemporalBackend

T = TypeVar("T")

CALL: Final = "firmplan.call"
"""The type of the activity."""
CALL_S: Final = 5.0
"""How long one request to the server may take before it counts as failed."""
PAUSE_S: Final = 1.0
"""Between two requests to a server that does not answer."""
WATCH_S: Final = 5.0
"""A call that is waited for is looked at so often: whether its queue has a worker, and how far it is."""
POLL_S: Final = 75.0
"""A worker asks for the next call at least so often. Past this it counts as gone: the server remembers it for some minutes."""
OVER_S: Final = 60.0
"""So much longer than the timeout of its tool may a call take until Temporal ends it: its worker ends it first."""
CALL_DAYS: Final = 365
"""The same for calls without a timeout; heartbeats end those whose worker has died long before."""
TAKEN: Final = timedelta(days=1)
"""Until a worker would get the activity that takes an id, if the process dies that is about to end it."""
BEATS: Final = 6
"""Heartbeats within the time after which Temporal gives a call up."""
DEATHS_MAX: Final = 3
"""A call that may be repeated is given up once it has killed so many workers."""
REFUSED: Final = frozenset(
    {
        RPCStatusCode.UNIMPLEMENTED,
        RPCStatusCode.INVALID_ARGUMENT,
        RPCStatusCode.PERMISSION_DENIED,
        RPCStatusCode.UNAUTHENTICATED,
    }
)
"""What will not get better by asking again."""
# How an attempt ends that is not to be followed by another: the type of its error. Stored in histories, so never renamed.
LOST: Final = "lost"
UNWANTED: Final = "unwanted"
MISFIT: Final = "misfit"
CANCELLED: Final = "the run does not wait for it any more"


class TemporalFarCalls:
    """See the module, and `FarDispatch` for the methods.

    Args:
        backend: Has the connection and the engine.
    """

    def __init__(self, backend: TemporalBackend) -> None:
        self._backend = backend

    # --- for the driver of a run

    async def begin(self, call: FarCall) -> None:
        """Start the activity of a call. Raises: ToolError: the server does not take it, and the tool was not called."""
        if call.queue == self._backend.address.queue:
            raise ToolError(
                f"tool '{call.tool}': its queue '{call.queue}' is the one that hands out runs; name another, or another in `backend`",
                code=ConfigError.code,
            )

        async def start() -> None:
            try:
                await self._start(call)
            except ActivityAlreadyStartedError:
                return

        await self._asked(start, call)

    async def follow(self, call: FarCall, listener: FarListener) -> FarAnswer | None:
        """Wait for the end of the activity, and say meanwhile how it gets on."""
        handle = self._handle(call.id)
        if not call.request and await self._asked(lambda: self._is_unknown(handle, call), call):
            return None
        watching = asyncio.create_task(self._watch(handle, call, listener), name="firmplan far call")
        try:
            return await self._answer(handle, call)
        finally:
            watching.cancel()

    async def withdraw(self, call_id: str) -> None:
        """Cancel the activity if no worker has it."""
        handle = self._handle(call_id)

        async def work() -> None:
            if (await handle.describe()).run_state == PendingActivityState.SCHEDULED:
                await handle.cancel(reason="the run was cancelled")

        await self._once(work())

    async def cancel(self, call_id: str) -> None:
        """Cancel the activity."""
        await self._once(self._handle(call_id).cancel(reason="the run does not wait for the call any more"))

    def _handle(self, call_id: str) -> ActivityHandle[dict[str, Any]]:
        result_type: type[dict[str, Any]] = dict
        return self._backend.client.get_activity_handle(call_id, result_type=result_type)

    async def _start(self, call: FarCall, *, delay: timedelta | None = None) -> ActivityHandle[Any]:
        facts = {
            "run": call.run_id,
            "step": call.step,
            "attempt": call.attempt,
            "request": call.request,
            "store": call.store,
            "once": call.is_once,
            "write": call.is_write,
        }
        longest = (
            timedelta(days=CALL_DAYS)
            if call.timeout_s is None
            else timedelta(seconds=call.timeout_s + OVER_S)
        )
        silences = ["TemporalTimeout:Heartbeat", "TemporalTimeout:StartToClose"]
        return await self._backend.client.start_activity(
            CALL,
            facts,
            id=call.id,
            task_queue=call.queue,
            start_to_close_timeout=longest,
            heartbeat_timeout=timedelta(seconds=call.lease_s),
            retry_policy=RetryPolicy(
                initial_interval=timedelta(seconds=PAUSE_S),
                backoff_coefficient=1.0,
                non_retryable_error_types=silences if call.is_write else None,
            ),
            id_reuse_policy=ActivityIDReusePolicy.REJECT_DUPLICATE,
            id_conflict_policy=ActivityIDConflictPolicy.USE_EXISTING,
            summary=f"{call.tool} · {call.step} of run {call.run_id}",
            start_delay=delay,
        )

    async def _is_unknown(self, handle: ActivityHandle[Any], call: FarCall) -> bool:
        """Whether the server knows no activity of a call; the id of a write is taken then, before a former owner begins it."""
        try:
            await handle.describe()
        except RPCError as fault:
            if fault.status != RPCStatusCode.NOT_FOUND:
                raise
        else:
            return False
        if not call.is_write:
            return True
        try:
            taken = await self._start(call, delay=TAKEN)
        except ActivityAlreadyStartedError:
            return False
        # It may be one that the former owner has started a moment ago.
        if (await taken.describe()).start_delay != TAKEN:
            return False
        await taken.terminate(reason="the owner of the run looked for the call, and there was none")
        return True

    async def _answer(self, handle: ActivityHandle[dict[str, Any]], call: FarCall) -> FarAnswer | None:
        while True:
            try:
                return Answered((await handle.result())["outcome"])
            except ActivityFailureError as failed:
                cause = failed.cause
                why = str(cause)
                return await self._asked(lambda: self._ending(handle, call, cause, why), call)  # noqa: B023  # awaited here
            except RPCError as fault:
                if fault.status == RPCStatusCode.NOT_FOUND:
                    return None
                self._expect_to_answer(fault, call)
            await asyncio.sleep(PAUSE_S)

    async def _ending(
        self, handle: ActivityHandle[Any], call: FarCall, cause: BaseException | None, why: str
    ) -> FarAnswer | None:
        """Return what an activity that ended without a result says of its call; `None`: the server has forgotten it since."""
        match cause:
            case ApplicationError(type="unwanted"):
                return NeverBegun(cause.message)
            case CancelledError() | TerminatedError():
                what = "terminated" if isinstance(cause, TerminatedError) else "cancelled"
                return await self._stopped(handle, call, what)
            case LateError():
                return Unanswered(
                    f"the worker of the queue '{call.queue}' that made the call was not heard of for {call.lease_s:g} s, or did not end it in time"
                )
            case ApplicationError():
                return Unanswered(cause.message)
            case _:
                return Unanswered(why)

    async def _stopped(self, handle: ActivityHandle[Any], call: FarCall, what: str) -> FarAnswer | None:
        try:
            found = await handle.describe(include_heartbeat_details=True)
        except RPCError as fault:
            # Temporal ends an activity before it deletes it, and whoever waits may hear of the end first.
            if fault.status == RPCStatusCode.NOT_FOUND:
                return None
            raise
        if not _begun_in(await found.heartbeat_details()):
            return NeverBegun(f"the call was {what} in the queue '{call.queue}' before a worker made it")
        return Unanswered(f"the call was {what} while a worker of the queue '{call.queue}' made it")

    async def _watch(self, handle: ActivityHandle[Any], call: FarCall, listener: FarListener) -> None:
        told: object = None
        while True:
            await asyncio.sleep(WATCH_S)
            try:
                found = await handle.describe(include_heartbeat_details=True, include_last_failure=True)
                if found.run_state == PendingActivityState.SCHEDULED:
                    failure = await found.last_failure()
                    if isinstance(failure, ApplicationError) and failure.type == MISFIT:
                        listener.refused(failure.message)
                    if not await self._is_served(call.queue):
                        listener.unserved(call.queue)
                details = await found.heartbeat_details()
                progress = details[0].get("progress") if details else None
                if progress is not None and progress != told:
                    told = progress
                    listener.progress(*progress)
            except RPCError:  # whoever waits for the result says so
                continue

    async def _is_served(self, queue: str) -> bool:
        """Whether a worker has asked for calls of a queue lately."""
        request = DescribeTaskQueueRequest(
            namespace=self._backend.address.namespace,
            task_queue=TaskQueue(name=queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        )
        found = await self._backend.client.workflow_service.describe_task_queue(request)
        return any(time.time() - each.last_access_time.ToSeconds() < POLL_S for each in found.pollers)

    async def _asked(self, ask: Callable[[], Awaitable[T]], call: FarCall) -> T:
        """Return what the server answers, however long it is away. Raises: ToolError: it refuses."""
        is_told = False
        while True:
            try:
                async with asyncio.timeout(CALL_S):
                    return await ask()
            except (RPCError, TimeoutError) as fault:
                if isinstance(fault, RPCError):
                    self._expect_to_answer(fault, call)
                if not is_told:
                    is_told = True
                    self._backend.host.log.warning(
                        "the Temporal server does not answer, so a call waits",
                        run=call.run_id,
                        step=call.step,
                        tool=call.tool,
                        queue=call.queue,
                        error=str(fault) or "no answer in time",
                    )
            await asyncio.sleep(PAUSE_S)

    def _expect_to_answer(self, fault: RPCError, call: FarCall) -> None:
        if fault.status not in REFUSED:
            return
        hint = ""
        if fault.status == RPCStatusCode.UNIMPLEMENTED:
            hint = (
                "; tools with a queue need a server with standalone activities (1.31 or newer, docs/FLEET.md)"
            )
        raise ToolError(
            f"the Temporal server at {self._backend.address.target} refuses a call of '{call.tool}' in the queue '{call.queue}': {fault.message}{hint}",
            code=ConfigError.code,
        )

    async def _once(self, asking: Awaitable[None]) -> None:
        """Ask the server, if it is there. Raises: ServerError: it is not."""
        try:
            async with asyncio.timeout(CALL_S):
                await asking
        except (RPCError, TimeoutError) as fault:
            if isinstance(fault, RPCError) and fault.status == RPCStatusCode.NOT_FOUND:
                return  # it has ended
            raise ServerError(
                f"the Temporal server at {self._backend.address.target} does not answer", code="unreachable"
            ) from fault

    # --- for a worker of a queue

    async def serve(
        self, queue: str, carry_out: CarryOut, signs: SignsOfLife, *, slots: int, grace_s: float
    ) -> None:
        """Carry out the activities of a task queue until this is cancelled; then writes under way may end, and others go to other workers."""
        backend = self._backend
        if queue == backend.address.queue:
            raise ConfigError(
                f"queue: '{queue}' is the queue of runs, which `firmplan worker` without --queue drives; tools have queues of other names"
            )
        toolset = backend.host.toolset_digest
        failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

        async def note_failure(fault: BaseException) -> None:
            if not failed.done():
                failed.set_result(fault)

        serving = _Serving(backend, carry_out, signs, grace_s)
        worker = Worker(
            backend.client,
            task_queue=queue,
            activities=[serving.attempt],
            max_concurrent_activities=slots,
            build_id=f"{BUILD}:{toolset}",
            identity=f"{os.getpid()}@{socket.gethostname()} toolset {toolset}",
            graceful_shutdown_timeout=timedelta(seconds=STOP_S),
            on_fatal_error=note_failure,
        )
        backend.host.log.info("worker of a queue started", queue=queue, slots=slots, toolset=toolset)
        async with worker:
            fault = await asyncio.shield(failed)
        raise ServerError(
            f"the Temporal server at {backend.address.target} refuses this worker: {fault}"
        ) from fault


class _Serving:
    """The attempts of one worker of a queue."""

    def __init__(
        self, backend: TemporalBackend, carry_out: CarryOut, signs: SignsOfLife, grace_s: float
    ) -> None:
        self._backend = backend
        self._carry_out = carry_out
        self._signs = signs
        self._grace_s = grace_s
        self._told: set[str] = set()  # what the log was told of calls that cannot be made here

    @activity.defn(name=CALL)
    async def attempt(self, request: dict[str, Any]) -> dict[str, Any]:
        """Make a call; return the digest of its outcome.

        Raises:
            ApplicationError: There is no outcome; its type says whether another attempt is made.
        """
        if not request["request"]:
            raise _final("the id of the call was taken", UNWANTED)
        attempt = _Attempt(self._backend, self._signs, request)
        calling = asyncio.ensure_future(self._carry_out(attempt.task()))
        stopping = asyncio.ensure_future(activity.wait_for_worker_shutdown())
        try:
            why = await self._watched(attempt, calling, stopping)
        finally:
            stopping.cancel()
        try:
            return {"outcome": calling.result()}
        except (CallMisfit, CallUnwanted, CallBegun, FirmplanError) as fault:
            raise self._refused(fault, attempt) from fault
        except asyncio.CancelledError:
            if why == CANCELLED:
                raise
            if attempt.is_once and attempt.begun:
                raise _final(f"the call was cut off: {why}", LOST) from None
            await attempt.forget_begun()
            raise later(f"the call was cut off: {why}", "parked", AT_ONCE_S) from None
        except Exception as fault:
            self._backend.host.log.exception(
                "call ended without an outcome", run=attempt.run, step=attempt.step
            )
            raise _final(f"{type(fault).__name__}: {fault}", LOST) from fault

    def _refused(
        self, fault: CallMisfit | CallUnwanted | CallBegun | FirmplanError, attempt: _Attempt
    ) -> ApplicationError:
        """Return the error of a call that has no outcome."""
        match fault:
            case CallMisfit():
                if str(fault) not in self._told:
                    self._told.add(str(fault))
                    self._backend.host.log.warning(
                        "call cannot be made here", run=attempt.run, step=attempt.step, error=str(fault)
                    )
                return later(str(fault), MISFIT, MISFIT_S)
            case CallUnwanted():
                return _final(str(fault), UNWANTED)
            case CallBegun():
                return _final(str(fault), LOST)
            case _ if attempt.is_once and attempt.begun:
                return _final(fault.message, LOST)
            case _:
                return later(fault.message, fault.code, AGAIN_S)

    async def _watched(
        self, attempt: _Attempt, calling: asyncio.Future[Any], stopping: asyncio.Future[None]
    ) -> str:
        """Send heartbeats until a call has ended; return why it was cut off, if it was."""
        why, ends_at = "", float("inf")
        awaited: set[asyncio.Future[Any]] = {calling, stopping}

        def stop(reason: str, grace_s: float) -> None:
            nonlocal why, ends_at
            why = why or reason
            ends_at = min(ends_at, self._signs.now() + (grace_s if attempt.is_write and attempt.begun else 0))

        while not calling.done():
            left_s = max(0.0, min(attempt.beat_s, ends_at - self._signs.now()))
            try:
                await asyncio.wait(awaited, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
                if not calling.done() and not await attempt.beat():
                    stop("Temporal has given it up", 0)
            except asyncio.CancelledError:
                # Temporal cancels an attempt once, and says why.
                details = activity.cancellation_details()
                if details is not None and details.cancel_requested:
                    stop(CANCELLED, PARK_GRACE_S)
                else:
                    stop("Temporal has given it up", 0)
            if stopping in awaited and stopping.done():
                awaited = {calling}
                stop("its worker stops", self._grace_s)
            if self._signs.now() >= ends_at:
                calling.cancel()
                awaited = {calling}
        return why


class _Attempt:
    """One attempt of an activity, as its worker sees it."""

    def __init__(self, backend: TemporalBackend, signs: SignsOfLife, request: dict[str, Any]) -> None:
        info = activity.info()
        details = cast("list[dict[str, Any]]", info.heartbeat_details)
        self._before = _begun_in(details)
        self._signs = signs
        self._request = request
        self._id = info.activity_id
        self._handle = backend.client.get_async_activity_handle(task_token=info.task_token)
        self._progress: list[Any] | None = None
        self.run, self.step = str(request["run"]), str(request["step"])
        self.is_once, self.is_write = bool(request["once"]), bool(request["write"])
        self.lease_s = info.heartbeat_timeout.total_seconds() if info.heartbeat_timeout else STOP_S
        self.beat_s = self.lease_s / BEATS
        self.begun = False

    def task(self) -> FarTask:
        """Return the call."""
        request = self._request
        return FarTask(
            id=self._id,
            run_id=self.run,
            step=self.step,
            attempt=int(request["attempt"]),
            request=str(request["request"]),
            store=str(request["store"]),
            note_begun=self.note_begun,
            on_progress=self._note_progress,
        )

    def _note_progress(self, fraction: float, note: str) -> None:
        self._progress = [fraction, note]

    @property
    def _details(self) -> dict[str, Any]:
        said: dict[str, Any] = {"begun": self._before + self.begun}
        return said if self._progress is None else {**said, "progress": self._progress}

    async def note_begun(self) -> None:
        """Have the server record that the tool is about to be called. Raises: CallBegun: it was called too often; CallUnwanted."""
        if self.is_once and self._before:
            raise CallBegun("the worker that made the call was not heard of any more")
        if self._before >= DEATHS_MAX:
            raise CallBegun(f"{self._before} workers have made the call, and none was heard of any more")
        self.begun = True
        try:
            await self._tell()
        except (RPCError, TimeoutError, AsyncActivityCancelledError) as fault:
            if isinstance(fault, AsyncActivityCancelledError) or (
                isinstance(fault, RPCError) and fault.status == RPCStatusCode.NOT_FOUND
            ):
                raise CallUnwanted("the call was cancelled before it began") from fault
            self.begun = False
            raise StoreError(f"the Temporal server did not record that the call begins: {fault}") from fault

    async def forget_begun(self) -> None:
        """Have the server forget that the tool was called: it was cut off in order."""
        self.begun = False
        try:
            await self._tell()
        except (RPCError, TimeoutError, AsyncActivityCancelledError):
            return  # one death too many is counted

    async def beat(self) -> bool:
        """Send a heartbeat; return whether the server still waits for the call, as far as this is known."""
        activity.heartbeat(self._details)
        # The SDK sends what it is given when it sees fit, and does not say when. Whether a write may go on depends on what the server has heard.
        if not (self.is_once and self.begun):
            return True
        try:
            await self._tell()
        except RPCError as fault:
            return fault.status != RPCStatusCode.NOT_FOUND
        except (TimeoutError, AsyncActivityCancelledError):  # of a cancel the SDK tells, too
            return True
        return True

    async def _tell(self) -> None:
        at = self._signs.now()
        async with asyncio.timeout(min(CALL_S, self.lease_s / 2)):
            await self._handle.heartbeat(self._details)
        if self.is_once and self.begun:
            self._signs.renewed(self._id, at, self.lease_s)


def _begun_in(details: list[Any] | None) -> int:
    """Return how many workers have begun a call, by the details of its last heartbeat."""
    return int(details[0].get("begun", 0)) if details else 0


def _final(message: str, kind: str) -> ApplicationError:
    """Return the error after which Temporal makes no other attempt; the run says it, so the SDK need not log it with a traceback."""
    return ApplicationError(message, type=kind, non_retryable=True, category=ApplicationErrorCategory.BENIGN)
