"""Dispatch through Temporal: each run is a workflow, whose id is the run's; see `Backend` for the rules.

Nothing is read from Temporal: status and results are in the store. So a server that is away costs nothing but time, and what was not handed over is
handed over by the sweep of a worker (`worker.py`).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import cache, cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.common import Priority, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.envconfig import ClientConfigProfile
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.runtime import LogForwardingConfig, LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.service import GrpcCompression, RPCError, RPCStatusCode

from ...errors import ConfigError, InputRejected, RunNotFound, ServerError, StoreError
from . import workflow
from .workflow import KEY, PLAN, RUN, STATUS, TENANT, WAKE

if TYPE_CHECKING:
    from ..backend import AcceptedRun, BackendHost, Drive, KeptSchedule, ScheduleHost
    from .address import TemporalAddress
    from .far import TemporalFarCalls
    from .schedules import ScheduleMirror

OPEN_S: Final = 10.0
"""How long opening waits for the server."""
CALL_S: Final = 3.0
"""How long a submission or a decision waits for the server: past it the store has all that a sweep needs."""
CALLS_MAX: Final = 16
"""Requests of one process that are under way at a time. A server that gets hundreds at once answers none of them in time; more than it can work on make none of them faster."""
AWAY: Final = frozenset(
    {
        RPCStatusCode.CANCELLED,
        RPCStatusCode.UNKNOWN,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.ABORTED,
        RPCStatusCode.INTERNAL,
        RPCStatusCode.UNAVAILABLE,
    }
)
"""How a server refuses that is starting, stopping or overloaded."""
THREADS: Final = "TOKIO_WORKER_THREADS"
"""Where the SDK's runtime looks how many threads it has for its requests; by itself it takes one a core, which wake each other for every small message: a
tenth of a worker's CPU for a run. It has no option for them, and reads the variable as it is made."""
CERTIFICATE: Final = "certificate"  # of a failed connection: waiting does not help
FAIRNESS_KEY_BYTES_MAX: Final = 64
"""Bytes of a key by which Temporal takes turns; of a longer name its digest stands for it."""
STORE: Final = "store"  # of the memo of a workflow: the name of its store, for people
IDENTITY: Final = "store_identity"  # of the memo of a workflow: what tells its store from others


class TemporalBackend:
    """Hands runs to the workers of a task queue; see `Backend`.

    Args:
        address: The server, the namespace and the queue.
    """

    drives_here = False

    def __init__(self, address: TemporalAddress) -> None:
        self.address = address
        self._host: BackendHost | None = None
        self._client: Client | None = None
        self._has_attributes = False
        self._gate = Gate(CALLS_MAX)
        self._scheduling: ScheduleHost | None = None
        self._taken_ids: set[str] = set()  # of runs of which the log was told that another store has the id

    @property
    def client(self) -> Client:
        """The connection, which `open` makes."""
        assert self._client is not None, "the backend is open"
        return self._client

    @cached_property
    def far_calls(self) -> TemporalFarCalls:
        """Has the calls of tools with a queue carried out."""
        from .far import TemporalFarCalls  # noqa: PLC0415  # most engines only submit

        return TemporalFarCalls(self)

    @property
    def host(self) -> BackendHost:
        """The engine."""
        assert self._host is not None, "the backend is open"
        return self._host

    # --- life

    async def open(self, host: BackendHost) -> None:
        """Connect. Raises: ConfigError: no server answers, it has not the namespace, or the store is not one that workers can share."""
        if not host.is_store_shared:
            raise ConfigError(
                f"backend: workers share the store of their runs, and {host.store_name} belongs to one machine: expected a store in PostgreSQL, such as "
                "store='postgresql://user@host/database'"
            )
        if self._host is not None and self._host is not host:
            raise ConfigError("backend: a TemporalBackend belongs to one engine; make another")
        where = f"no Temporal server at {self.address.target}"
        hint = "expected one that answers there: start it (docs/FLEET.md), or correct `backend`"
        try:
            async with asyncio.timeout(OPEN_S):
                self._client = await Client.connect(self.address.target, **_connection(self.address))
                await self._expect_namespace()
                self._has_attributes = await self._find_attributes()
        except TimeoutError as late:
            raise ConfigError(
                f"backend: {where} has answered within {OPEN_S:g} s; {hint}", temporary=True
            ) from late
        except RPCError as fault:
            raise ConfigError(
                f"backend: the Temporal server at {self.address.target} refuses: {fault.message}",
                temporary=fault.status in AWAY,
            ) from fault
        except RuntimeError as fault:  # how the SDK says that it cannot connect
            cause = _cause(fault)
            raise ConfigError(
                f"backend: {where} could be reached ({cause}); {hint}", temporary=cause != CERTIFICATE
            ) from fault
        self._host = host  # last: an engine whose backend was away opens later

    async def close(self) -> None:
        """See `Backend.close`; the connection closes with its last user."""
        self._client = self._host = None

    async def _expect_namespace(self) -> None:
        request = DescribeNamespaceRequest(namespace=self.address.namespace)
        try:
            await self.client.workflow_service.describe_namespace(request)
        except RPCError as fault:
            if fault.status != RPCStatusCode.NOT_FOUND:
                raise
            raise ConfigError(
                f"backend: the Temporal server at {self.address.target} has no namespace '{self.address.namespace}': correct `backend`, or make it "
                f"with `temporal operator namespace create --namespace {self.address.namespace}`"
            ) from fault

    async def _find_attributes(self) -> bool:
        """Whether the namespace has the search attributes, which are added where that is allowed."""
        operator, namespace = self.client.operator_service, self.address.namespace
        names = {key.name for key in (PLAN, STATUS, TENANT, KEY)}
        try:
            listed = await operator.list_search_attributes(ListSearchAttributesRequest(namespace=namespace))
            if missing := names - set(listed.custom_attributes):
                kinds = dict.fromkeys(sorted(missing), IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD)
                await operator.add_search_attributes(
                    AddSearchAttributesRequest(namespace=namespace, search_attributes=kinds)
                )
        except RPCError as fault:
            # Another engine has just added them, or they are the namespace's administrator's to add: runs do without.
            return fault.status == RPCStatusCode.ALREADY_EXISTS
        return True

    # --- dispatch

    async def enqueue(self, run: AcceptedRun) -> None:
        """Start the workflow of a run; one of the same run stays. Raises: as `Backend.enqueue`."""
        await self._start(run, wakes=False)

    async def wake(self, run_id: str) -> None:
        """Signal the workflow of a run, which is started if there is none. Raises: as `Backend.enqueue`."""
        # Most runs have a workflow. Only a new one needs what the store knows of the run: its place among those that wait, and what it is found by.
        if await self._signal(run_id):
            return
        try:
            run = await self.host.find_run(run_id)
        except RunNotFound:  # it was deleted meanwhile
            return
        except StoreError as fault:  # what the caller has stored is stored: no error of the caller's
            raise ServerError(
                f"run {run_id} was not handed over, the store does not answer ({fault}): a worker hands it over later",
                code="unreachable",
            ) from fault
        await self._start(run, wakes=True)

    async def cancel(self, run_id: str) -> None:
        """See `wake`: the owner of a run that is driven polls the store for decisions."""
        await self.wake(run_id)

    async def _signal(self, run_id: str) -> bool:
        """Signal the workflow of a run; return whether there is one that has not ended. Raises: ServerError."""
        async with self._handing_over(run_id):
            try:
                await self.client.get_workflow_handle(run_id).signal(WAKE)
            except RPCError as fault:
                if fault.status != RPCStatusCode.NOT_FOUND:
                    raise
                return False
        return True

    async def _start(self, run: AcceptedRun, *, wakes: bool) -> None:
        identity = await self.host.store_identity()
        async with self._handing_over(run.id):
            try:
                await self._start_workflow(run, identity, wakes=wakes, has_attributes=self._has_attributes)
            except RPCError as fault:
                if fault.status != RPCStatusCode.INVALID_ARGUMENT or not self._has_attributes:
                    raise
                # The server takes some seconds to know search attributes that were just added: the run does without.
                await self._start_workflow(run, identity, wakes=wakes, has_attributes=False)

    @asynccontextmanager
    async def _handing_over(self, run_id: str) -> AsyncGenerator[None]:
        """Make requests about a run that is in the store. Raises: ServerError: the server does not answer, or refuses."""
        try:
            async with self._gate.passed(), asyncio.timeout(CALL_S):
                yield
        except (RPCError, TimeoutError) as fault:
            raise ServerError(
                f"the Temporal server at {self.address.target} did not take run {run_id} ({_cause(fault)}): the run is stored, and a worker hands it over "
                "once the server answers",
                code="unreachable",
            ) from fault

    async def _start_workflow(
        self, run: AcceptedRun, identity: str, *, wakes: bool, has_attributes: bool
    ) -> None:
        run_id, options = run.id, dict[str, Any]()
        if wakes:
            options["start_signal"] = WAKE
        if has_attributes:
            options["search_attributes"] = workflow.attributes_of(
                plan=run.plan_digest or "", status=run.status, tenant=run.tenant, key=run.submitter
            )
        request = {
            "run": run_id,
            "store": self.host.store_name,
            "attributes": has_attributes,
            "status": run.status,
        }
        # A new run expects no workflow of its id. If there is one, it is the run's own, from an earlier try, or that of a run of another store.
        conflict = (
            WorkflowIDConflictPolicy.USE_EXISTING if wakes else WorkflowIDConflictPolicy.FAIL
        )  # a signal goes with no other
        try:
            await self.client.start_workflow(
                RUN,
                request,
                id=run_id,
                task_queue=self.address.queue,
                # A run may go on after its workflow has ended: a parked one, or one whose workflow was terminated.
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                id_conflict_policy=conflict,
                priority=priority_of(run),  # the activities of the workflow inherit it
                memo={STORE: self.host.store_name, IDENTITY: identity},
                **options,
            )
        except WorkflowAlreadyStartedError:
            if (other := await self._other_store(await self._describe(run_id), identity)) is not None:
                raise self._taken(run_id, other) from None

    async def _other_store(self, found: WorkflowExecutionDescription | None, identity: str) -> str | None:
        """Return the store of a workflow that belongs to another store than this one; `None`: it does not, or has ended."""
        if found is None or found.status != WorkflowExecutionStatus.RUNNING:
            return None
        memo = await found.memo()
        # Workflows of older versions do not say.
        return str(memo.get(STORE)) if memo.get(IDENTITY, identity) != identity else None

    def _taken(self, run_id: str, other: str) -> InputRejected:
        return InputRejected(
            f"run {run_id}: the Temporal namespace '{self.address.namespace}' has a workflow of that id already, for a run of the store {other}; this run "
            f"is in {self.host.store_name}. Expected another run_id, or a namespace for each store. The run is stored, and goes on once that workflow has ended"
        )

    async def _describe(self, run_id: str) -> WorkflowExecutionDescription | None:
        """Return the newest workflow of an id; `None`: there is none."""
        try:
            return await self.client.get_workflow_handle(run_id).describe()
        except RPCError as fault:
            if fault.status == RPCStatusCode.NOT_FOUND:
                return None
            raise

    async def is_handed_over(self, run_id: str) -> bool:
        """Whether Temporal is about to have a run driven, or has it driven, or cannot yet, since a run of another store has its id. Raises: as `Backend.enqueue`."""
        identity = await self.host.store_identity()
        try:
            async with self._gate.passed(), asyncio.timeout(CALL_S):
                found = await self._describe(run_id)
                other = await self._other_store(found, identity)
        except (RPCError, TimeoutError) as fault:
            raise ServerError(
                f"the Temporal server at {self.address.target} does not answer ({_cause(fault)})",
                code="unreachable",
            ) from fault
        if other is not None:
            if run_id not in self._taken_ids:
                self._taken_ids.add(run_id)
                self.host.log.warning("run waits for its id", error=str(self._taken(run_id, other)))
            return True
        if found is None:
            return False
        raw = found.raw_description
        return bool(raw.pending_activities) or raw.HasField("pending_workflow_task")

    # --- schedules

    @cached_property
    def schedules(self) -> ScheduleMirror:
        """The schedules of the store in Temporal."""
        from .schedules import ScheduleMirror  # noqa: PLC0415  # only where there are schedules

        return ScheduleMirror(self)

    @property
    def scheduling(self) -> ScheduleHost | None:
        """The engine, as far as it has schedules; `None`: this process fires none."""
        return self._scheduling

    async def put_schedule(self, schedule: KeptSchedule) -> None:
        """See `SchedulesBackend.put_schedule`."""
        await self.schedules.put(schedule)

    async def remove_schedule(self, name: str) -> None:
        """See `SchedulesBackend.remove_schedule`."""
        await self.schedules.remove(name)

    def serve_schedules(self, host: ScheduleHost) -> None:
        """See `SchedulesBackend.serve_schedules`."""
        self._scheduling = host

    @asynccontextmanager
    async def asking(self, what: str, most_s: float = CALL_S) -> AsyncGenerator[None]:
        """Make requests about something, not longer than that. Raises: ServerError: the server does not answer, or refuses."""
        try:
            async with self._gate.passed(), asyncio.timeout(most_s):
                yield
        except (RPCError, TimeoutError) as fault:
            raise ServerError(
                f"the Temporal server at {self.address.target} did not take {what} ({_cause(fault)}): the store has it, and a worker tells Temporal later",
                code="unreachable",
            ) from fault

    async def take(self, drive: Drive, *, slots: int) -> None:
        """See `Backend.take`."""
        from .worker import work  # noqa: PLC0415  # most engines only submit

        await work(self, drive, slots)


def priority_of(run: AcceptedRun) -> Priority:
    """Return which runs come first where they wait for workers: by priority, and those of one priority in turn by whose they are."""
    key = run.tenant or run.submitter
    if len(key.encode()) > FAIRNESS_KEY_BYTES_MAX:
        key = sha256(key.encode()).hexdigest()[:FAIRNESS_KEY_BYTES_MAX]
    return Priority(priority_key=run.priority, fairness_key=key or None)


class Gate:
    """Lets a bounded number of requests through at a time; those that wait give up together once the server is away.

    Args:
        places: How many at a time.
    """

    def __init__(self, places: int) -> None:
        self._places = asyncio.Semaphore(places)
        self._count = places
        self._failed = 0  # requests, one after the other, that had no answer

    @asynccontextmanager
    async def passed(self) -> AsyncGenerator[None]:
        """Hold a place. Raises: TimeoutError: the requests before had no answer, so that this one is not tried."""
        has_waited = self._places.locked()
        async with self._places:
            # Each would wait for the whole time of a request, those at the end of the line for minutes. Who comes later tries.
            if has_waited and self._failed >= self._count:
                raise TimeoutError
            try:
                yield
            except (RPCError, TimeoutError):
                self._failed += 1
                raise
            self._failed = 0


def _connection(address: TemporalAddress) -> dict[str, Any]:
    """Return how to connect, beside the address: TLS and keys, as Temporal's own variables and file say. Raises: ConfigError."""
    try:
        found = dict(ClientConfigProfile.load().to_client_connect_config())
    except (RuntimeError, ValueError, OSError) as fault:
        raise ConfigError(f"backend: Temporal's configuration cannot be read: {fault}") from fault
    found.pop("target_host", None)
    # The SDK compresses by itself. Messages are a few hundred bytes of ids, so it costs both sides more than the network saves.
    plain = {"grpc_compression": GrpcCompression.NONE}
    return {**found, **plain, "namespace": address.namespace, "runtime": _runtime()}


@cache
def _runtime() -> Runtime:
    """Return the SDK's runtime. By itself it writes a line to stdout, which is for answers, each time that it tries a server again."""
    errors = TelemetryFilter(core_level="ERROR", other_level="ERROR")
    forwarding = LogForwardingConfig(logger=logging.getLogger("temporalio.core"))
    telemetry = TelemetryConfig(logging=LoggingConfig(filter=errors, forwarding=forwarding))
    with _default_of(THREADS, "1"):
        return Runtime(telemetry=telemetry)


@contextmanager
def _default_of(name: str, value: str) -> Generator[None]:
    """Have an environment variable for a moment, unless it is set."""
    is_set = name in os.environ
    os.environ.setdefault(name, value)
    try:
        yield
    finally:
        if not is_set:
            del os.environ[name]


def _cause(fault: BaseException) -> str:
    """Return what went wrong in the words of the network, without the names of the SDK's types."""
    text = str(fault)
    if isinstance(fault, TimeoutError):
        return "no answer in time"
    for known in (
        "Connection refused",
        "failed to lookup address",
        "timed out",
        "Timeout expired",
        CERTIFICATE,
    ):
        if known.lower() in text.lower():
            return known[0].lower() + known[1:]
    return text or type(fault).__name__
