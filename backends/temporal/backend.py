"""Dispatch through Temporal: each run is a workflow, whose id is the run's; see `Backend` for the rules.

Nothing is read from Temporal: status and results are in the store. So a server that is away costs nothing but time, and what was not handed over is
handed over by the sweep of a worker (`worker.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Final

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.envconfig import ClientConfigProfile
from temporalio.runtime import LogForwardingConfig, LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.service import RPCError, RPCStatusCode

from ...errors import ConfigError, ServerError
from . import workflow
from .workflow import KEY, PLAN, RUN, STATUS, TENANT, WAKE

if TYPE_CHECKING:
    from ..backend import AcceptedRun, BackendHost, Drive
    from .address import TemporalAddress
    from .far import TemporalFarCalls

OPEN_S: Final = 10.0
"""How long opening waits for the server."""
CALL_S: Final = 3.0
"""How long a submission or a decision waits for the server: past it the store has all that a sweep needs."""


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
            raise ConfigError(f"backend: {where} has answered within {OPEN_S:g} s; {hint}") from late
        except RPCError as fault:
            raise ConfigError(
                f"backend: the Temporal server at {self.address.target} refuses: {fault.message}"
            ) from fault
        except RuntimeError as fault:  # how the SDK says that it cannot connect
            raise ConfigError(f"backend: {where} could be reached ({_cause(fault)}); {hint}") from fault
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
        """Start the workflow of a run; one that is there already stays. Raises: as `Backend.enqueue`."""
        facts = {
            "plan": run.plan_digest or "",
            "status": "queued",
            "tenant": run.tenant,
            "key": run.submitter,
        }
        await self._start(run.id, facts, wakes=False)

    async def wake(self, run_id: str) -> None:
        """Signal the workflow of a run, which is started if there is none. Raises: as `Backend.enqueue`."""
        await self._start(run_id, {}, wakes=True)

    async def cancel(self, run_id: str) -> None:
        """See `wake`: the owner of a run that is driven polls the store for decisions."""
        await self.wake(run_id)

    async def _start(self, run_id: str, facts: Mapping[str, str], *, wakes: bool) -> None:
        try:
            async with asyncio.timeout(CALL_S):
                try:
                    await self._start_workflow(
                        run_id, facts, wakes=wakes, has_attributes=self._has_attributes
                    )
                except RPCError as fault:
                    if fault.status != RPCStatusCode.INVALID_ARGUMENT or not self._has_attributes:
                        raise
                    # The server takes some seconds to know search attributes that were just added: the run does without.
                    await self._start_workflow(run_id, facts, wakes=wakes, has_attributes=False)
        except (RPCError, TimeoutError) as fault:
            raise ServerError(
                f"the Temporal server at {self.address.target} did not take run {run_id} ({_cause(fault)}): the run is stored, and a worker hands it over "
                "once the server answers",
                code="unreachable",
            ) from fault

    async def _start_workflow(
        self, run_id: str, facts: Mapping[str, str], *, wakes: bool, has_attributes: bool
    ) -> None:
        options: dict[str, Any] = {"start_signal": WAKE} if wakes else {}
        if has_attributes and facts:
            options["search_attributes"] = workflow.attributes_of(**facts)
        request = {
            "run": run_id,
            "store": self.host.store_name,
            "attributes": has_attributes,
            "status": facts.get("status", ""),
        }
        await self.client.start_workflow(
            RUN,
            request,
            id=run_id,
            task_queue=self.address.queue,
            # A run may go on after its workflow has ended: a parked one, or one whose workflow was terminated.
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            **options,
        )

    async def is_handed_over(self, run_id: str) -> bool:
        """Whether Temporal is about to have a run driven, or has it driven. Raises: as `Backend.enqueue`."""
        handle = self.client.get_workflow_handle(run_id)
        try:
            async with asyncio.timeout(CALL_S):
                found = (await handle.describe()).raw_description
        except (RPCError, TimeoutError) as fault:
            if isinstance(fault, RPCError) and fault.status == RPCStatusCode.NOT_FOUND:
                return False
            raise ServerError(
                f"the Temporal server at {self.address.target} does not answer ({_cause(fault)})",
                code="unreachable",
            ) from fault
        return bool(found.pending_activities) or found.HasField("pending_workflow_task")

    async def take(self, drive: Drive, *, slots: int) -> None:
        """See `Backend.take`."""
        from .worker import work  # noqa: PLC0415  # most engines only submit

        await work(self, drive, slots)


def _connection(address: TemporalAddress) -> dict[str, Any]:
    """Return how to connect, beside the address: TLS and keys, as Temporal's own variables and file say. Raises: ConfigError."""
    try:
        found = dict(ClientConfigProfile.load().to_client_connect_config())
    except (RuntimeError, ValueError, OSError) as fault:
        raise ConfigError(f"backend: Temporal's configuration cannot be read: {fault}") from fault
    found.pop("target_host", None)
    return {**found, "namespace": address.namespace, "runtime": _runtime()}


@cache
def _runtime() -> Runtime:
    """Return the SDK's runtime. By itself it writes a line to stdout, which is for answers, each time that it tries a server again."""
    errors = TelemetryFilter(core_level="ERROR", other_level="ERROR")
    forwarding = LogForwardingConfig(logger=logging.getLogger("temporalio.core"))
    return Runtime(telemetry=TelemetryConfig(logging=LoggingConfig(filter=errors, forwarding=forwarding)))


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
        "certificate",
    ):
        if known.lower() in text.lower():
            return known[0].lower() + known[1:]
    return text or type(fault).__name__
