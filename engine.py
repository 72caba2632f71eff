"""The public surface: one `Engine` connects planner, check, executor and store.

    async with Engine(tools=toolset, planner=Planner(model="gpt-5-mini")) as engine:
        run = await engine.run("Compare the weather in Rome and Oslo")

Every coroutine method has a `_sync` twin for programs without an event loop; the engine then runs on a thread of its own. An engine opens
at its first use, belongs to the event loop that opened it, and stays closed after it is closed.

This module is the complete public surface: a method for each public call, whose docstring states what the method promises, and which reads its
arguments and delegates. Plans come from `run_planner.py`, runs are in `executor/runs`, those of schedules begin in `scheduled_runs.py`, reviews of runs are in `executor/review`.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sys
import threading
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Literal,
    ParamSpec,
    Self,
    TypeAlias,
    cast,
    get_args,
    get_origin,
)

from typing_extensions import TypeVar

from . import executor
from .errors import (
    ConfigError,
    InputRejected,
    RunNotFound,
)
from .executor.limits import LEASE_S, PARK_AFTER, PARK_GRACE_S
from .lazy_imports import LazyModule
from .plans.immutable import immutable

if TYPE_CHECKING:
    from . import planner as _planner
    from . import plans as _plans
    from . import run_planner as _run_planner
    from . import tools as _tools
    from .backends import Backend, SchedulesBackend
    from .backends import embedded as _embedded
    from .executor import (
        Bisection,
        CacheStats,
        CallDetails,
        Clock,
        Event,
        Execution,
        Explanation,
        Facilities,
        Header,
        PlanUses,
        PlanVersion,
        Pruned,
        RecordedModelCalls,
        ReuseMode,
        Review,
        Run,
        RunDiff,
        RunFilter,
        RunOwner,
        RunPage,
        RunsDeleted,
        ShadowReport,
        Store,
        StoreReport,
        Submitter,
        Verification,
        WaitingCalls,
    )
    from .executor import budget as _budget
    from .executor import observer as _observer
    from .executor.calls import concurrency as _concurrency
    from .executor.calls.flow import flow_policy as _flow_policy
    from .executor.calls.flow import policies as _policies
    from .executor.calls.flow.flow_policy import Flow
    from .executor.calls.flow.policies import Policy
    from .executor.calls.running import frames as _frames
    from .executor.calls.words import OnWords, WordsListener
    from .executor.journal.tool_pins import ProviderChanges
    from .executor.observer import Observer
    from .executor.runs import archive as _archive
    from .executor.runs import owner as _owner
    from .executor.runs import replays as _replays
    from .executor.runs import request as _request
    from .executor.runs import store_care as _store_care
    from .executor.runs import submission as _submission
    from .executor.runs.changes import Kind as ChangeCounted
    from .executor.runs.changes import Lookout
    from .executor.runs.execution import ConfirmsPlan, RunWork
    from .executor.runs.request import Options
    from .executor.stores import api_keys as _api_keys
    from .executor.stores import location as _location
    from .executor.stores import store as _store
    from .executor.stores.api_keys import ApiKey
    from .executor.stores.location import StoreLocation
    from .planner import Planner, SavedPlan
    from .plans import CheckReport, Plan
    from .plans.format import saved as _saved
    from .plans.python_types import Inputs, OutputType
    from .plans.values import Json
    from .run_planner import EnginePlanner, PlanLike, RecordedPlanning
    from .scheduled_runs import ScheduledRuns
    from .schedules import Fire, Schedule, ScheduleBook, Scheduler
    from .schedules.schedule import CatchUp, Overlap
    from .telemetry import Telemetry
    from .tools import Artifact, ArtifactPreview, Models, Tool, Toolset
    from .tools import background as _background
    from .tools import provider as _provider
    from .tools import secret as _secret
    from .tools.background import Background
    from .tools.declaration import Results
    from .tools.models.models import Spec
    from .tools.provider import Server
    from .tools.secret import Secret, SecretFinder
    from .webhooks import Delivery, Webhook, WebhookSender
    from .webhooks.messages import DeliveryPage

else:  # most of what an engine works with is imported when it works
    _embedded = LazyModule(".backends.embedded", __package__)
    _budget = LazyModule(".executor.budget", __package__)
    _concurrency = LazyModule(".executor.calls.concurrency", __package__)
    _flow_policy = LazyModule(".executor.calls.flow.flow_policy", __package__)
    _frames = LazyModule(".executor.calls.running.frames", __package__)
    _policies = LazyModule(".executor.calls.flow.policies", __package__)
    _observer = LazyModule(".executor.observer", __package__)
    _archive = LazyModule(".executor.runs.archive", __package__)
    _owner = LazyModule(".executor.runs.owner", __package__)
    _replays = LazyModule(".executor.runs.replays", __package__)
    _request = LazyModule(".executor.runs.request", __package__)
    _store_care = LazyModule(".executor.runs.store_care", __package__)
    _submission = LazyModule(".executor.runs.submission", __package__)
    _api_keys = LazyModule(".executor.stores.api_keys", __package__)
    _location = LazyModule(".executor.stores.location", __package__)
    _store = LazyModule(".executor.stores.store", __package__)
    _planner = LazyModule(".planner", __package__)
    _plans = LazyModule(".plans", __package__)
    _saved = LazyModule(".plans.format.saved", __package__)
    _run_planner = LazyModule(".run_planner", __package__)
    _tools = LazyModule(".tools", __package__)
    _background = LazyModule(".tools.background", __package__)
    _provider = LazyModule(".tools.provider", __package__)
    _secret = LazyModule(".tools.secret", __package__)

TelemetryMode: TypeAlias = Literal["auto", "contents", "off"]
P = ParamSpec("P")
R = TypeVar("R")
Value = TypeVar("Value")
T = TypeVar("T", default=Any)
SLOTS_MAX: Final = 10_000  # runs that an engine drives for a backend at a time
UNSET: Final = object()  # `done=None` says that a call took effect and returned null


@immutable
class _Opened:
    """The parts of an open engine."""

    execution: Execution
    plans: EnginePlanner
    facilities: Facilities

    @property
    def review(self) -> Review:
        """What looks back at runs; its modules are imported at the first question."""
        from .executor.review.review import Review  # noqa: PLC0415  # most processes only run plans

        return Review(self.facilities, self.execution.archive)


def _backend_of(given: str | Backend | None, *, recovers: bool) -> Backend:
    """Return the backend of an engine. Raises: ConfigError: it is none, or the engine also recovers runs."""
    if given is None:
        return _embedded.EmbeddedBackend()
    from .backends.location import backend_of  # noqa: PLC0415  # only where there is one

    backend = backend_of(given)
    if recovers and not backend.drives_here:
        from .executor.runs.execution import RECOVERS  # noqa: PLC0415  # only for the message

        raise ConfigError(RECOVERS)
    return backend


def _no_telemetry(found: object) -> ConfigError:
    modes = ", ".join(get_args(TelemetryMode))
    return ConfigError(f"telemetry: expected one of {modes}, or a Telemetry, found {found!r}")


def _resources_of(given: object) -> dict[Any, object]:
    """Return what stands for resources. Raises: ConfigError: it is no mapping, or a key is neither a resource nor a type."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ConfigError(f"resources: expected a mapping such as {{Pool: fake}}, found {given!r}")
    from .tools.resources import Resource  # noqa: PLC0415  # only where there are some

    found = dict(cast("Mapping[Any, object]", given))
    for key in found:
        if not isinstance(key, Resource | type) and get_origin(key) is None:
            raise ConfigError(
                f"resources: expected keys that are types or @resource functions, found {key!r}"
            )
    return found


def _day_of(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def _in_tenant(submitter: Submitter, tenant: str) -> Submitter:
    """Return the submitter of a run that came of a run of a tenant: it stays there, whoever makes it."""
    return replace(submitter, tenant=tenant)


def _closed() -> ConfigError:
    # It does not open again by itself: the content of a store in memory would be lost without a word.
    return ConfigError("this engine is closed; expected one that is open: make another for its store")


def _typed(run: Run, wanted: OutputType[T] | None) -> Run[T]:
    return run if wanted is None else run.of_type(wanted)


def _twin(
    method: Callable[Concatenate[Engine, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Engine, P], R]:
    """Return the `_sync` twin of a coroutine method."""
    # A table of twins at the end of the class, one line each: type checkers and `help` know only names that are assigned in the class, so a class decorator or
    # `__getattr__` would hide the twins from both, and generated code would double the module.

    @functools.wraps(method)
    def twin(self: Engine, /, *args: P.args, **kwargs: P.kwargs) -> R:
        loop = self._loop_for_sync(method.__name__)  # pyright: ignore[reportPrivateUsage]  # the twin is a method of Engine
        return _background.call(loop, method(self, *args, **kwargs))

    twin.__name__ = f"{method.__name__}_sync"
    twin.__qualname__ = f"{method.__qualname__}_sync"
    return twin


class Engine:
    """Plans tasks, checks plans, runs them, and looks back at every run.

    Args:
        tools: What steps may call: a `Toolset` or a list of tools.
        store: Where runs live: a path, `sqlite:///path`, `postgresql://..`, `memory:`, or a store. A file's others are P and `P-*`.
        planner: Makes plans of tasks; `None`: one that is configured by the environment.
        models: Alias -> model, for prompts and agents; `None`: the planner's endpoint, else the environment's.
        max_concurrency: Calls at a time, over all runs.
        flow: What untrusted data at a write's argument means: an error, a warning, nothing; `"strict"`: an error also if it only decides
            whether the write happens.
        policies: Rules about the arguments of calls, beside the default rules (docs/SECURITY.md); with `flow="strict"` there are no default rules.
        default_trust: The trust of a tool that does not state it (`Toolset.with_default_trust`), in checks, plannings and runs.
        secrets: Name -> secret, as text or as a `Secret`; `None`: none. `"environment"`: every environment variable but keys of
            firmplan, models and stores; only for a program that serves nobody else.
        budget: The budget of runs whose caller gives no limit of that name: any of the names that `run` takes.
        budget_max: Ceilings of these limits, past which no caller of `run` or `resume` gets. Both count for new runs; a run keeps its budget.
        results: What becomes of a result that does not fit its declared type, for tools that do not state it, and whose toolset does not (`@tool`).
        recover: Continue, in the background, every run without a driver when the engine opens, and later each run whose process
            dies; parked runs stay parked.
        lease: Seconds (1 to 3600) without a sign of life after which others take over the runs of a process on another machine.
        park_after: How many deaths of its process in a row, without progress, park a run.
        write_grace: Seconds (0 to 3600) that closing the engine waits for writes in flight. What is longer is cut off, and named in the log: its
            outcome may be unknown.
        on_waiting: Called with the other process that drives a run, when the engine waits for it: after 2 s, then once a minute. `None`: the log names it.
        telemetry: `"auto"`: spans and metrics go to the OpenTelemetry providers of this process, if it has set any; `"contents"`: also prompts,
            arguments, answers and results; `"off"`: none; or a `firmplan.telemetry.Telemetry`.
        webhooks: Endpoints that are told when runs end or wait for a person, and when schedules fail (docs/WEBHOOKS.md). Every process that moves
            runs of the store should have the same; `deliver_webhooks`, or a server, sends the messages.
        approval_expires: How long a person is waited for whose approval a call needs (`"24h"`, seconds), where its tool does not say; then the call is denied.
            Counts for new runs. `None`: for ever.
        clock: What the time is and how pauses pass; `None`: the machine's. Tests hand over a `FakeClock`.
        resources: What stands for resources of the tools: `@resource`, or the type that it gives -> another `@resource`, or a value that is used as it
            is and never closed. Tests hand over fakes; results made with them are not reused.
        backend: Who drives the runs: `None`, this process; a URL such as `"temporal://host:port/namespace?queue=default"`, or a `firmplan.backends.Backend`: the
            workers of that backend (`work`), which share the store, while this engine only stores runs and decisions, and tells the backend.
        rate_limits: Whether the `rate` of tools and models holds over all engines on a store in PostgreSQL (`"shared"`), or over those of this process
            (`"process"`). On other stores it always holds over this process.
        artifacts: Where artifacts and values of 1 MiB and more are kept: `s3://bucket/prefix` (with `firmplan[s3]`), or a folder; `None`: in the store.

    Raises:
        ConfigError: A setting is not one of these.
    """

    def __init__(  # noqa: PLR0913, PLR0915  # the contract's settings
        self,
        tools: Toolset | Sequence[Tool],
        *,
        store: str | os.PathLike[str] | Store = "firmplan.db",
        planner: Planner | None = None,
        models: Models | Mapping[str, Spec] | None = None,
        max_concurrency: int = 64,
        flow: Flow = "enforce",
        secrets: Mapping[str, str | Secret] | Literal["environment"] | None = None,
        recover: bool = False,
        lease: float = LEASE_S,
        park_after: int = PARK_AFTER,
        write_grace: float = PARK_GRACE_S,
        on_waiting: Callable[[RunOwner], None] | None = None,
        clock: Clock | None = None,
        policies: Iterable[Policy] = (),
        default_trust: Literal["trusted", "untrusted"] = "trusted",
        budget: Mapping[str, float] | None = None,
        budget_max: Mapping[str, float] | None = None,
        results: Results | None = None,
        telemetry: Telemetry | TelemetryMode = "auto",
        webhooks: Sequence[Webhook] = (),
        approval_expires: str | float | timedelta | None = None,
        resources: Mapping[Any, object] | None = None,
        rate_limits: Literal["shared", "process"] = "shared",
        backend: str | Backend | None = None,
        artifacts: str | os.PathLike[str] | None = None,
    ) -> None:
        is_known = (
            telemetry in get_args(TelemetryMode)
            if isinstance(telemetry, str)
            else hasattr(telemetry, "begin_run")
        )
        if not is_known:
            raise _no_telemetry(telemetry)
        if flow not in _flow_policy.FLOWS:
            raise ConfigError(f"flow: expected one of {', '.join(_flow_policy.FLOWS)}, found {flow!r}")
        self._resources = _resources_of(resources)
        self.tools = (
            _tools.Toolset.of(tools)
            .with_default_trust(default_trust)
            .with_default_results(results)
            .with_replaced_resources(self._resources)
        )
        self.tools.expect_called()
        for tool in self.tools:
            if tool.isolation == "process":
                _frames.address_of(tool)
        if _frames.WORKER_ENV in os.environ:
            raise ConfigError(
                'an engine was made in a process that calls tools: put what runs plans under `if __name__ == "__main__":`'
            )
        self._location: StoreLocation = _location.open_location(store, artifacts)
        if planner is not None and not hasattr(planner, "plan"):
            raise ConfigError(f"planner: expected a Planner, found {planner!r}; write Planner(model=..)")
        self._planner = planner or _planner.Planner()
        fallback = {"default": self._planner.endpoint} if models is None and self._planner.endpoint else None
        self._models = _tools.Models(fallback if models is None else models)
        if hasattr(self._planner, "sharing"):
            self._planner = self._planner.sharing(self._models.clients)
        self._calls_max = _request.count_of("max_concurrency", max_concurrency, least=1, error=ConfigError)
        self._flow: Flow = flow
        self._policies = _policies.Policies(policies, has_defaults=flow != "strict")
        # A planner of another class may have no models of its own.
        keys: frozenset[str] = getattr(self._planner, "key_variables", frozenset[str]())
        self._secrets = _secret.Secrets(secrets, keys=self._models.key_variables | keys)
        self._budgets = _budget.BudgetPolicy.of(budget, budget_max)
        if not isinstance(cast("object", recover), bool):
            raise ConfigError(f"recover: expected True or False, found {recover!r}")
        self._recovers = recover
        self._backend = _backend_of(backend, recovers=recover)
        self._lease = _request.lease_of(lease)
        self._park_after = _request.count_of("park_after", park_after, least=1, error=ConfigError)
        self._write_grace_s = _request.write_grace_of(write_grace)
        self._approval_expires_s = _request.expires_of(approval_expires)
        self._shares_rates = _request.shares_rates(rate_limits) and self._location.is_shared
        self._on_waiting = on_waiting
        self._clock = clock or executor.SystemClock()
        self._opened: _Opened | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening = asyncio.Lock()
        self._background: Background | None = None
        self._threads = threading.Lock()  # the first uses may come from several threads
        self._servers: tuple[Server, ...] = ()
        self._observers = _observer.Observers()
        self._telemetry = telemetry
        self._is_closed = False
        self._scheduler: Scheduler | None = None
        self._webhooks: Mapping[str, Webhook] = {}
        if not isinstance(cast("object", webhooks), Sequence) or webhooks:
            from .webhooks.endpoint import webhooks_of  # noqa: PLC0415  # only where there are webhooks

            self._webhooks = webhooks_of(webhooks)
        self._sender: WebhookSender | None = None
        self._firing = asyncio.Lock()
        self._lookouts: dict[tuple[str, str], Lookout] = {}
        self._confirms: ConfirmsPlan | None = None

    # --- life

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        _background.call(self._loop_for_sync("__enter__"), self._open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def aclose(self) -> None:
        """Stop the active runs and close the store; idempotent. `resume` continues the runs in another engine."""
        self._is_closed = True
        opened, self._opened, self._loop = self._opened, None, None
        sender, self._sender = self._sender, None
        if sender is not None:
            await sender.close()
        if opened is not None:
            await opened.execution.close()
            await opened.facilities.words.close()
            await self._planner.aclose()
            # Another engine may share the models.
            if self._observers in self._models.clients.observers:
                self._models.clients.observers.remove(self._observers)
            await _provider.release_servers(self._servers)

    def close(self) -> None:
        """Close an engine that was used through its `_sync` methods; idempotent."""
        self._is_closed = True
        background, self._background = self._background, None
        if background is not None:
            _background.call(background.loop, self.aclose())
            background.close()

    async def _open(self) -> _Opened:
        """Return the parts of the engine; the first use opens it. Raises: StoreError, ConfigError."""
        if self._is_closed:
            raise _closed()
        loop = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not loop:
            raise ConfigError(
                "this engine belongs to another event loop; close it there, or make an engine for each loop"
            )
        if (opened := self._opened) is not None:
            return opened
        async with self._opening:
            if self._opened is None:
                facilities = executor.Facilities(
                    self.tools,
                    self._models,
                    self._location.store,
                    _concurrency.FairSemaphore(self._calls_max),
                    clock=self._clock,
                    secrets=self._secrets,
                    flow=self._flow,
                    policies=self._policies,
                    budgets=self._budgets,
                    observers=self._observers,
                    tells_webhooks=bool(self._webhooks),
                    approval_expires_s=self._approval_expires_s,
                )
                facilities.resources.replaced.update(self._resources)
                facilities.far = getattr(self._backend, "far_calls", None)
                if self._shares_rates:
                    from .executor.stores.shared_rates import SharedRates  # noqa: PLC0415  # only on a server

                    # The server's clock counts, so a test's clock does not.
                    facilities.rates = self._models.clients.limits.shared = SharedRates(self._location.store)
                execution = executor.Execution(
                    facilities,
                    _owner.presence_of(self._location),
                    park_after=self._park_after,
                    lease_s=self._lease,
                    on_waiting=self._on_waiting,
                    write_grace_s=self._write_grace_s,
                    backend=self._backend,
                )
                plans = _run_planner.EnginePlanner(self._planner, facilities, execution.archive)
                execution.planning.planner = facilities.step_planner = plans
                execution.confirms = self._confirms
                await self._location.check_artifacts()
                await execution.open()
                self._observe_by_telemetry()
                if self.opens_environment:
                    execution.log.warning("secrets: every environment variable is open to plans")
                self._opened = _Opened(execution, plans, facilities)
                self._loop = loop
                self._servers = _provider.hold_servers(self.tools)
                if self._recovers:
                    execution.recover()
        return self._opened

    def observe(self, observer: Observer) -> None:
        """Have an observer hear of the runs that begin or continue from now on, and of the requests to models (`executor/observer.py`)."""
        self._observers.add(observer)
        if self._observers not in self._models.clients.observers:
            self._models.clients.observers.append(self._observers)

    def confirm_plans(self, confirms: ConfirmsPlan | None) -> None:
        """Have the plan of each task confirmed before its steps start; `None`: no longer.

        The run has its plan, and what the planning has cost, while it waits for the answer; a process that ends meanwhile leaves it queued, and
        `resume` starts it. Plans that a caller hands in are not asked about, nor those of `stream=True`, whose steps start while the plan is written.

        Args:
            confirms: A coroutine function that gets the id of the run and its plan. True: the run begins; false: it is cancelled, and nothing is called.

        Raises:
            ConfigError: A backend has the tasks planned by its workers.
        """
        if confirms is not None and not self._backend.drives_here:
            raise ConfigError(
                "confirm_plans: the workers of this engine's backend plan its tasks, and ask nobody here; plan first (engine.plan), then run the plan"
            )
        self._confirms = confirms
        if self._opened is not None:
            self._opened.execution.confirms = confirms

    def _observe_by_telemetry(self) -> None:
        telemetry = self._telemetry
        if isinstance(telemetry, str):
            # Not loaded, OpenTelemetry has no provider, and is not loaded here: it takes 50 ms.
            if telemetry == "off" or "opentelemetry" not in sys.modules:
                return
            from .telemetry.providers import find_telemetry  # noqa: PLC0415  # see above

            if (found := find_telemetry(contents=telemetry == "contents")) is not None:
                self.observe(found)
        else:
            self.observe(telemetry)

    @property
    def opens_environment(self) -> bool:
        """Whether plans may use environment variables as secrets (`secrets="environment"`)."""
        return self._secrets.is_environment

    def _loop_for_sync(self, name: str) -> asyncio.AbstractEventLoop:
        """Return the loop that a `_sync` method uses. Raises: ConfigError: the call is made on that loop, or the engine is closed."""
        if self._is_closed:
            raise _closed()
        with self._threads:
            if self._loop is None and self._background is None:
                self._background = _background.Background()
            loop = self._loop or (self._background.loop if self._background else None)
        try:
            own = asyncio.get_running_loop()
        except RuntimeError:
            own = None
        if own is not None and own is loop:
            raise ConfigError(
                f"{name}_sync was called on the engine's own event loop; write: await engine.{name}(..)"
            )
        return cast("asyncio.AbstractEventLoop", loop)

    # --- plans

    async def plan(
        self,
        task: str,
        *,
        inputs: Inputs | None = None,
        tenant: str = "",
        heard: Callable[[Plan], None] | None = None,
        returns: type[Any] | Mapping[str, Any] | None = None,
    ) -> Plan:
        """Return a checked plan for a task; inputs that its words give become defaults.

        Args:
            task: The task in words.
            inputs: Values that are given beside the words.
            tenant: Whose saved plans may answer it; empty: those of no tenant.
            heard: Is called with each longer partial plan that passes its check, while a model writes; a later draft may differ.
            returns: The type that the plan's output has to have, as in `run`; a plan that a model writes declares it.

        Raises:
            PlanningFailed: There is no valid plan; `.attempts` has every draft and its problems.
        """
        wanted = _request.output_type_of(returns)
        planned = await (await self._open()).plans.plan(
            task,
            _request.task_inputs(_request.inputs_of(inputs)),
            tenant=_api_keys.tenant_of(tenant),
            heard=heard,
            returns=None if wanted is None else wanted.schema,
        )
        return planned.runnable

    async def check_plan(self, plan: PlanLike | str, *, tenant: str = "") -> CheckReport:
        """Return every problem of a plan: a `Plan`, a dict, JSON or YAML text, or the `Path` of its file. It may run the saved plans of `tenant`. Never raises for a bad plan."""
        return await (await self._open()).plans.check(plan, _api_keys.tenant_of(tenant))

    async def plan_graph(self, plan: PlanLike, *, tenant: str = "") -> dict[str, Json]:
        """Return the graph of a plan as JSON: its steps, what each does and waits for, and the plans that they run. The plan may have faults.

        Raises:
            PlanRejected: It has not the shape of a plan.
        """
        return await (await self._open()).plans.graph(plan, _api_keys.tenant_of(tenant))

    async def save_plan(
        self, name: str, plan: PlanLike, *, replaces: str | None = None, by: str = ""
    ) -> SavedPlan:
        """Save a plan under a name, replacing one of that name; tasks that fit its `task` are answered by it.

        Args:
            name: The name; `TENANT:NAME` for a plan of a tenant, whose tasks alone it answers. So it is for all methods that take the name of a plan.
            plan: The plan.
            replaces: The `digest` or the `text_digest` of the plan that it may replace, empty: none; otherwise nothing is saved. `None`: it
                may replace any. Plans that differ in prose alone have one `digest`.
            by: Who saves it, for `plan_history`; may be left out.

        Raises:
            PlanRejected: It has problems.
            InputRejected: The name is no valid name, the plan's `task` is a pattern that would match unrelated tasks, or another plan
                stands than `replaces` (code `replaced`).
        """
        opened = await self._open()
        checked, _ = await opened.plans.accept(plan, _archive.split_name(str(name))[0])
        from .planner import pattern_fault  # noqa: PLC0415  # only where plans are saved

        if (fault := pattern_fault(checked)) is not None:
            raise InputRejected(f"the plan '{name}' cannot be saved with the task '{checked.task}': {fault}")
        execution = opened.execution
        saved = await execution.archive.save_plan(
            name, checked, execution.now(), replaces=replaces, by=_request.author_of(by)
        )
        return _planner.SavedPlan(name, saved)

    async def delete_plan(self, name: str, *, replaces: str | None = None, by: str = "") -> None:
        """Delete a saved plan: it answers no task any more. Its history stays, and plans that name it by its digest still find it.

        Args:
            name: The name.
            replaces: The `digest` or the `text_digest` of the plan that is deleted; otherwise nothing is deleted. `None`: whichever it is.
            by: Who deletes it, for `plan_history`; may be left out.

        Raises:
            InputRejected: There is no plan of that name (code `unknown-plan`), or another one than `replaces` (code `replaced`).
        """
        execution = (await self._open()).execution
        await execution.archive.delete_plan(
            name, execution.now(), replaces=replaces, by=_request.author_of(by)
        )

    async def plan_history(self, name: str) -> list[PlanVersion]:
        """Return the versions that the name of a saved plan had, newest first; a deletion is a version, too.

        Raises:
            InputRejected: No plan was saved under the name (code `unknown-plan`).
        """
        return await (await self._open()).execution.archive.plan_history(name)

    async def plan_version(self, name: str, version: int | str) -> Plan:
        """Return the plan of one version. To restore it, save it: `save_plan(name, plan, replaces=..)`.

        Args:
            name: The name.
            version: Its number, or the `digest` or `text_digest` of the plan: of several, the newest.

        Raises:
            InputRejected: There is no such version (code `unknown-plan`).
            StoreError: The version was changed since it was saved.
        """
        return await (await self._open()).execution.archive.plan_version(name, version)

    async def list_plans(self, *, tenant: str | None = "") -> list[SavedPlan]:
        """Return the saved plans, by name. A plan that was altered in the store is left out, with a warning in the log.

        Args:
            tenant: Whose; empty: the plans of no tenant, `None`: all, those of tenants as `TENANT:NAME`.
        """
        archive = (await self._open()).execution.archive
        return [_planner.SavedPlan(name, plan) for name, plan in await archive.list_plans(tenant)]

    async def plans_revision(self) -> str:
        """Return a text that is another one after a plan was saved, replaced or deleted, by whatever process; the plans themselves are not read."""
        return await (await self._open()).execution.archive.plans_revision()

    def change_count(self, kind: ChangeCounted) -> int | None:
        """Return a number that is another one after a process on this store has told of a change; `None`: none are told, so look at the store.

        Only a store on a server tells changes, and notifications may be lost: look from time to time in any case. The engine listens from the
        first call on.

        Args:
            kind: Decisions about runs (`decided`), saved plans (`plans`), `schedules`, or messages of `webhooks`.

        Raises:
            InputRejected: There is no such kind.
        """
        from .executor.runs.changes import KINDS  # noqa: PLC0415  # most processes only run plans

        if kind not in KINDS:
            raise InputRejected(f"kind: expected one of {', '.join(KINDS)}, found {kind!r:.80}")
        try:
            is_here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            is_here = False
        return self._opened.execution.changes.count(kind) if self._opened is not None and is_here else None

    def _lookout(self, kind: ChangeCounted, name: str = "") -> Lookout:
        from .executor.runs.changes import Lookout  # noqa: PLC0415  # only where something is looked for again and again

        if (found := self._lookouts.get((kind, name))) is None:
            found = self._lookouts[kind, name] = Lookout(lambda: self.change_count(kind))
        return found

    async def learnt_tools(self) -> Toolset:
        """Return the tools as a planner sees them: `tool.learnt` is what their results looked like, as far as this store knows.

        Results are looked at whose declared type is missing, says little, or is not enforced.
        """
        return await (await self._open()).plans.learnt_tools()

    async def find_altered_plans(self) -> dict[str, str]:
        """Return the saved plans that were altered in the store and do not run: name -> the fault and what to do."""
        return (await (await self._open()).execution.archive.sift_plans(None))[1]

    async def plan_uses(self, *, tenant: str | None = "") -> dict[str, PlanUses]:
        """Return how often each saved plan of the store and the library answered a task, and how often it only seemed to, by name.

        Args:
            tenant: As of `list_plans`; with a tenant, its tasks alone are counted.
        """
        archive = (await self._open()).execution.archive
        saved, _ = await archive.sift_plans(tenant)
        plans = {each.name: each.plan for each in self._planner.library} | saved
        noted = {
            _archive.qualified(name, tenant or ""): _saved.template_digest(plan)
            for name, plan in plans.items()
        }
        found = await archive.uses.of(noted)
        return {name: found[_archive.qualified(name, tenant or "")] for name in plans}

    async def find_plan(self, name_or_digest: str) -> Plan | None:
        """Return a saved plan by name or digest, or `None`."""
        return await (await self._open()).execution.archive.find_plan(name_or_digest)

    # --- schedules

    async def add_schedule(  # noqa: PLR0913  # the fields of a schedule
        self,
        name: str,
        plan: str,
        *,
        every: str | float | None = None,
        cron: str | None = None,
        tz: str | None = None,
        inputs: Mapping[str, Json] | None = None,
        budget: Mapping[str, float] | None = None,
        deadline: str | float | timedelta | None = None,
        priority: int | None = None,
        time_input: str | None = None,
        catch_up: CatchUp | None = None,
        catch_up_max: int | None = None,
        overlap: Overlap | None = None,
        start: str | float | None = None,
        paused: bool = False,
        submitter: Submitter | None = None,
        by: str = "",
        replaces: int | None = None,
    ) -> Schedule:
        """Run a saved plan every so often, or by cron. Whoever calls `fire_schedules`, such as a server, starts the runs; each time has one run.

        Args:
            name: The schedule's name; `TENANT:NAME` for a schedule of a tenant, whose plan and runs it has. So it is for all methods that take the
                name of a schedule.
            plan: The name of a saved plan, whichever stands under it at each time, or the digest of one.
            every: The time between two runs: seconds, or text such as `"1h"`.
            cron: A cron expression of five fields, in place of `every`.
            tz: The time zone of `cron`; UTC if not given.
            inputs: Of each run.
            budget: Of each run, as in `run`.
            deadline: How long each run may take from its start, waits included: `"2h"` or seconds; as the plan says if not given.
            priority: Of each run, as in `run`.
            time_input: The input that gets the time of the schedule, as ISO 8601 text.
            catch_up: What becomes of times that no process was there for: `latest` (one run, unless a later time has come), `skip` or `all`.
            catch_up_max: Most times that `all` catches up on, the newest; 100 if not given.
            overlap: What a time does while an earlier run has not ended: `skip` it, `allow` both, `queue` one run behind the earlier one,
                or `cancel` the earlier one.
            start: No time is earlier, and intervals count from here: ISO 8601 text with an offset, or Unix seconds; now if not given.
            paused: Whether times pass without runs, until `resume_schedule`.
            submitter: Who submits the runs, as in `run`.
            by: Who makes the schedule; may be left out.
            replaces: The `revision` that is changed; `None`: the name is new, -1: whichever stands, or none.

        Raises:
            InputRejected: A value is not valid, there is no such plan (code `unknown-plan`), its inputs do not fit, or another schedule stands
                than `replaces` (code `replaced`).
            PlanRejected: The plan does not pass its check any more.
        """
        given = {
            "every": every,
            "cron": cron,
            "tz": tz,
            "inputs": _request.values_of("inputs", inputs or {}, "inputs"),
            "budget": budget,
            "deadline": deadline,
            "priority": priority,
            "time_input": time_input,
            "catch_up": catch_up,
            "catch_up_max": catch_up_max,
            "overlap": overlap,
            "start": start,
            "paused": paused,
            "submitter": submitter,
            "by": _request.author_of(by),
        }
        return await (await self._schedules()).put(name, plan, replaces=replaces, given=given)

    async def list_schedules(self, *, tenant: str | None = "") -> list[Schedule]:
        """Return the schedules, by name.

        Args:
            tenant: Whose; empty: those of no tenant, `None`: all.
        """
        return await (await self._schedules()).list_all(tenant)

    async def get_schedule(self, name: str) -> Schedule:
        """Return a schedule. Raises: InputRejected: there is none of that name (code `unknown-schedule`)."""
        return await (await self._schedules()).get(name)

    async def pause_schedule(self, name: str, *, by: str = "") -> Schedule:
        """Let the times of a schedule pass without runs; a run that is under way goes on. Raises: InputRejected: as `get_schedule`."""
        return await (await self._schedules()).pause(name, paused=True, by=_request.author_of(by))

    async def resume_schedule(self, name: str, *, by: str = "") -> Schedule:
        """Let a paused schedule go on from now. Raises: InputRejected: as `get_schedule`."""
        return await (await self._schedules()).pause(name, paused=False, by=_request.author_of(by))

    async def remove_schedule(self, name: str) -> None:
        """Remove a schedule and the record of its times; its runs stay. Raises: InputRejected: as `get_schedule`."""
        await (await self._schedules()).remove(name)

    async def schedule_fires(self, name: str, *, limit: int = 50, before: float | None = None) -> list[Fire]:
        """Return the last times of a schedule and what became of them, the latest first.

        Args:
            name: The schedule.
            limit: Most of them, up to 500.
            before: Only times earlier than this, Unix seconds.

        Raises:
            InputRejected: As `get_schedule`, or an argument is out of its range.
        """
        from .schedules.book import FIRES_MAX  # noqa: PLC0415  # only where there are schedules

        _request.count_of("limit", limit, least=1, most=FIRES_MAX)
        return await (await self._schedules()).fires(name, limit=limit, before=before)

    def next_times(self, schedule: Schedule, count: int = 10) -> list[float]:
        """Return the next times of a schedule, Unix seconds, the earliest first. Raises: InputRejected: the count is none from 1 to 1,000."""
        from .schedules.book import NEXT_MAX  # noqa: PLC0415  # only where there are schedules

        return schedule.next_times(
            self._clock.now(), _request.count_of("count", count, least=1, most=NEXT_MAX)
        )

    def preview_schedule(
        self,
        *,
        every: str | float | None = None,
        cron: str | None = None,
        tz: str | None = None,
        start: str | float | None = None,
        count: int = 10,
    ) -> list[float]:
        """Return the next times that a schedule with these fields would have; nothing is stored.

        Args:
            every: As in `add_schedule`.
            cron: The same.
            tz: The same.
            start: The same.
            count: How many, up to 1,000.

        Raises:
            InputRejected: A value is not valid.
        """
        from .schedules.schedule import new_schedule  # noqa: PLC0415  # only where there are schedules

        given = {"every": every, "cron": cron, "tz": tz, "start": start}
        return self.next_times(new_schedule("preview", "preview", self._clock.now(), given), count)

    async def fire_schedules(self) -> list[Fire]:
        """Start the run of each schedule whose time has come; return the times that started a run or failed. Call it again and again, in any process.

        A server does so each second if something is due (`schedules_due`). The run of a time is started once, whoever calls it and whenever a process dies. Calls of this engine
        that come at the same time share one round.

        Raises:
            StoreError: The store failed; the next call goes on.
        """
        opened = await self._open()
        if self._scheduler is None:
            execution = opened.execution
            from .schedules import Scheduler, ScheduleTable  # noqa: PLC0415  # only where there are schedules

            self._scheduler = Scheduler(
                ScheduleTable(self._location.store, tells_webhooks=bool(self._webhooks)),
                self._scheduled_runs(opened),
                execution.now,
                execution.log,
            )
        lookout = self._lookout("schedules")
        async with self._firing:
            lookout.begin()
            fires = await self._scheduler.look()
            lookout.end(self._scheduler.left_s)
        return fires

    def schedules_due(self) -> bool:
        """Whether `fire_schedules` may have something to do, without a look at the store: a time has come, or a schedule was changed.

        A store in a file tells no changes, so there it is always true, and on a server it is true every 20 seconds in any case.
        """
        return self._lookout("schedules").is_due()

    async def _schedules(self) -> ScheduleBook:
        opened = await self._open()
        from .schedules import ScheduleBook, ScheduleTable  # noqa: PLC0415  # only where there are schedules

        check = self._scheduled_runs(opened).check
        execution, mirror = opened.execution, self._schedules_backend()
        return ScheduleBook(ScheduleTable(self._location.store), execution.now, check, mirror, execution.log)

    def _schedules_backend(self) -> SchedulesBackend | None:
        """Return the backend, if it keeps times of schedules."""
        if self._backend.drives_here:
            return None
        from .backends.backend import SchedulesBackend as Keeps  # noqa: PLC0415  # only where there is one

        return self._backend if isinstance(self._backend, Keeps) else None

    def _scheduled_runs(self, opened: _Opened) -> ScheduledRuns:
        from .scheduled_runs import ScheduledRuns  # noqa: PLC0415  # only where there are schedules

        return ScheduledRuns(opened.execution, opened.plans, self._budgets)

    # --- webhooks

    @property
    def webhooks(self) -> tuple[Webhook, ...]:
        """The endpoints that are told of runs, by name."""
        return tuple(self._webhooks[name] for name in sorted(self._webhooks))

    async def deliver_webhooks(self, endpoint: str | None = None) -> list[Delivery]:
        """Send the messages of webhooks that are due, and return how they fared. Call it again and again, in any process with these webhooks.

        A server does so each second for each endpoint if something is due (`webhooks_due`). A message is sent at least once, always under the same id, whichever process dies.

        Args:
            endpoint: Send to this endpoint alone; `None`: to all, one after the other.

        Raises:
            InputRejected: There is no such endpoint.
            StoreError: The store failed; the next call goes on.
        """
        sender = await self._webhook_sender()
        sent: list[Delivery] = []
        for name in self._webhooks if endpoint is None else (endpoint,):
            sender.endpoint(name)
            lookout = self._lookout("webhooks", name)
            lookout.begin()
            sent += await sender.round(name)
            lookout.end(sender.left_s[name])
        return sent

    def webhooks_due(self, endpoint: str) -> bool:
        """Whether `deliver_webhooks` may have something to send to an endpoint, without a look at the store; as `schedules_due`.

        Raises:
            InputRejected: There is no such endpoint.
        """
        from .webhooks.sender import endpoint_of  # noqa: PLC0415  # only where there are webhooks

        endpoint_of(self._webhooks, endpoint)
        return self._lookout("webhooks", endpoint).is_due()

    async def test_webhook(self, endpoint: str) -> Delivery:
        """Send a message that says nothing (`webhook.test`) to an endpoint, once, and return how it fared.

        Raises:
            InputRejected: There is no such endpoint.
        """
        return await (await self._webhook_sender()).test(endpoint)

    async def list_deliveries(
        self,
        *,
        state: str | None = None,
        endpoint: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
        tenant: str | None = None,
    ) -> DeliveryPage:
        """Return a page of the messages of webhooks, the newest first; they stay for 30 days after they were delivered or given up.

        Args:
            state: Of this state: `pending`, `delivered` or `failed`.
            endpoint: To this endpoint.
            limit: Most of a page, up to 500.
            cursor: The `cursor` of an earlier page asks for the one that follows.
            tenant: About runs and schedules of this tenant; `None`: about all.

        Raises:
            InputRejected: An argument is out of its range.
        """
        await self._open()
        from .webhooks import Outbox  # noqa: PLC0415  # only where there are webhooks
        from .webhooks.messages import page_of  # noqa: PLC0415  # only where there are webhooks

        return await page_of(
            Outbox(self._location.store),
            state=state,
            endpoint=endpoint,
            limit=limit,
            cursor=cursor,
            tenant=tenant,
        )

    async def retry_delivery(self, delivery_id: str, *, tenant: str | None = None) -> Delivery:
        """Have a message of a webhook sent again that was given up, or delivered, with the same id.

        Args:
            delivery_id: The message.
            tenant: Its tenant; `None`: any.

        Raises:
            InputRejected: There is no such message (code `unknown-delivery`).
        """
        execution = (await self._open()).execution
        from .webhooks import Outbox  # noqa: PLC0415  # only where there are webhooks
        from .webhooks.messages import retried  # noqa: PLC0415  # only where there are webhooks

        return await retried(Outbox(self._location.store), delivery_id, execution.now(), tenant)

    async def _webhook_sender(self) -> WebhookSender:
        execution = (await self._open()).execution
        if self._sender is None:
            from .webhooks import Outbox, WebhookSender  # noqa: PLC0415  # only where there are webhooks

            self._sender = WebhookSender(
                Outbox(self._location.store),
                self._webhooks,
                self._webhook_facts,
                execution.now,
                execution.log,
            )
        return self._sender

    async def _webhook_facts(self, run_id: str, endpoint: Webhook) -> dict[str, Json]:
        from .webhooks.messages import run_facts  # noqa: PLC0415  # only where there are webhooks

        try:
            return run_facts(await self.get(run_id), has_output=endpoint.outputs)
        except RunNotFound:  # it was deleted meanwhile
            return {}

    # --- tools of others

    async def find_changed_tools(self) -> list[ProviderChanges]:
        """Return the servers that say something else of their tools than what was accepted, with the differences."""
        return await (await self._open()).execution.facilities.pins.find_changes()

    async def accept_tools(self, server: str, *, dry_run: bool = False) -> ProviderChanges:
        """Consent to what a server says of its tools now; return what has changed since it was last accepted.

        Args:
            server: The name of the server, or its address or command as errors show it.
            dry_run: Return the changes without consenting to them.

        Raises:
            ConfigError: No tool of this engine comes from that server.
        """
        execution = (await self._open()).execution
        return await execution.facilities.pins.accept(server, execution.now(), dry_run=dry_run)

    # --- runs

    async def run(  # noqa: PLR0913  # the contract's options
        self,
        plan_or_task: PlanLike | str,
        *,
        inputs: Inputs | None = None,
        run_id: str | None = None,
        seed: str | int | None = None,
        budget: Mapping[str, float] | None = None,
        max_concurrency: int | None = None,
        reuse: ReuseMode = "auto",
        stream: bool = False,
        replan: int = 0,
        submitter: Submitter | None = None,
        request: str = "",
        deadline: str | float | timedelta | datetime | None = None,
        priority: int | None = None,
        returns: type[T] | Mapping[str, Any] | None = None,
        on_words: OnWords | None = None,
    ) -> Run[T]:
        """Run a plan, or plan a task and run its plan; return when the run has ended or waits for a person.

        Args:
            plan_or_task: A plan or a dict, or the `Path` of a plan's file; text is a task.
            inputs: Values of the plan's inputs by name, or a model or dataclass with a field for each. Models, dates, enums, ids, decimals and paths
                become JSON.
            run_id: Its name: a run of that name with the same plan and inputs is continued or returned, with the options that it
                was made with (`resume` raises its budget).
            seed: Of `ctx.random`; made from plan and inputs if not given.
            budget: Most `steps`, `calls` (attempts), `model_calls`, `items` (of lists), `tokens`, `usd` or `seconds` that it may use; at a
                limit the run waits. The engine's `budget` holds for the other names, and none is above its `budget_max`.
            max_concurrency: Calls at a time in this run.
            reuse: `auto`; `off`: every step is called; `refresh`: called, and kept for later; `only`: nothing is called.
            stream: Start steps of a task while its plan is still being written, but for writes; where `budget` is given
                nothing starts early. Plan, digest and journal are those of a run without it.
            replan: How often, at most, the planner may patch the plan of a failed run. Each patched plan is a run of its own,
                whose parent is the run that failed; the last one is returned.
            submitter: Who submits the run, by a name that the caller has established, and whether this name may approve the run's calls.
            request: Digest of the request that asks for the run, stored with it. Under the same `run_id` an equal digest returns that run, and another digest
                is refused (code `other-request`). Empty: plan and inputs are compared.
            deadline: How long the run may take from now on, waits included (`"2h"`, seconds), or until when (a `datetime`, or its ISO text): then
                it is cancelled, also where no process drives it.
            priority: From 1, first, to 5, last; 3 if not given. Where runs wait for a place, for calls here or for a worker of the backend, those that come first get it. It
                changes no result and no digest.
            returns: The type of the output: a model, a dataclass, any type that JSON can carry, or a JSON Schema. A plan whose output cannot be of it is
                rejected before anything runs; a task's plan is made to give it. `run.value` has the output as that type.
            on_words: Told what models write while they write it (`Words`): a function, called on a thread of its own, or a coroutine function. Only for the
                eyes of who waits: nothing of it is recorded, a replay and a reused answer tell none, and a listener that raises or is slow harms no run.

        Raises:
            PlanRejected: The plan has faults, or its output cannot be of the type `returns`; `.report` has them all. Nothing was run.
            PlanningFailed: The task could not be planned.
            InputRejected: An input does not fit, or the run's name is taken.
            ConfigError: An option is wrong.
            StoreError: The store cannot be written.
        """
        listener = None
        if on_words is not None:
            run_id, listener = await self._listen(run_id, on_words)
        try:
            options = self._options(
                run_id, seed, max_concurrency, reuse, budget, replan, submitter, request, deadline, priority
            )
            wanted = None if returns is None else _request.output_type_of(returns)
            opened, header = await self._header(plan_or_task, inputs, options, wanted)
            execution = opened.execution
            row, _, planning = await execution.submit(header, run_id=options.run_id, stream=stream)
            run = await execution.finish(row.id, planning)
            return run if wanted is None else run.of_type(wanted)
        finally:
            if listener is not None:
                await listener.close()

    def _options(  # noqa: PLR0913, PLR0917  # the options that `run`, `submit` and `accept` share
        self,
        run_id: str | None,
        seed: str | int | None,
        concurrency_max: int | None,
        reuse: ReuseMode,
        budget: Mapping[str, float] | None,
        replan: int,
        submitter: Submitter | None,
        request: str,
        deadline: str | float | timedelta | datetime | None,
        priority: int | None,
    ) -> _request.Options:
        """Return the options of a run. Raises: InputRejected, ConfigError: one of them is wrong."""
        return _request.Options(
            run_id,
            seed,
            concurrency_max,
            reuse,
            self._budgets.for_run(budget),
            _request.times_of(replan),
            submitter,
            request,
            deadline=None if deadline is None else _request.deadline_of(deadline, self._clock.now()),
            priority=priority,
        )

    async def _listen(self, run_id: str | None, on_words: OnWords) -> tuple[str, WordsListener]:
        """Have a function hear what models write in a run. Return the run's id, which is made here if need be, so that not even the first word is missed.

        Raises:
            InputRejected: The id is not valid.
            ConfigError: `on_words` is no function.
        """
        heard = _request.new_id_of("run_id", run_id) or _submission.new_run_id()
        opened = await self._open()
        opened.execution.dispatcher.note_ignored(
            "on_words",
            "models are asked by the worker that drives the run, and what they write is told there",
        )
        return heard, opened.facilities.words.add(heard, on_words)

    async def submit(  # noqa: PLR0913  # the contract's options
        self,
        plan_or_task: PlanLike | str,
        *,
        inputs: Inputs | None = None,
        run_id: str | None = None,
        seed: str | int | None = None,
        budget: Mapping[str, float] | None = None,
        max_concurrency: int | None = None,
        reuse: ReuseMode = "auto",
        stream: bool = False,
        replan: int = 0,
        submitter: Submitter | None = None,
        request: str = "",
        deadline: str | float | timedelta | datetime | None = None,
        priority: int | None = None,
        returns: type[T] | Mapping[str, Any] | None = None,
        on_words: OnWords | None = None,
    ) -> Run[T]:
        """Make a run durable, start it, and return it immediately; a task that cannot be planned becomes a failed run.

        Arguments and errors are those of `run`. With `replan`, `wait` returns the run of the last patched plan; the number is stored with the run, so
        that `wait` and `resume` of a later engine patch the plan too. `on_words` hears until the run has ended or waits for a person.
        """
        listener = None
        if on_words is not None:
            run_id, listener = await self._listen(run_id, on_words)
        try:
            options = self._options(
                run_id, seed, max_concurrency, reuse, budget, replan, submitter, request, deadline, priority
            )
            wanted = None if returns is None else _request.output_type_of(returns)
            opened, header = await self._header(plan_or_task, inputs, options, wanted)
            execution = opened.execution
            row, begun, _ = await execution.submit(header, run_id=options.run_id, stream=stream)
        except BaseException:
            if listener is not None:
                await listener.close()
            raise
        if listener is not None:
            listener.close_after(execution.wait_patched(row.id))
        # Right away: the machine moves with the next turn of the event loop.
        return _typed(begun.run if begun is not None else await execution.archive.get(row.id), wanted)

    async def accept(  # noqa: PLR0913  # the contract's options
        self,
        plan_or_task: PlanLike | str,
        *,
        inputs: Inputs | None = None,
        run_id: str | None = None,
        seed: str | int | None = None,
        budget: Mapping[str, float] | None = None,
        max_concurrency: int | None = None,
        reuse: ReuseMode = "auto",
        replan: int = 0,
        submitter: Submitter | None = None,
        request: str = "",
        deadline: str | float | timedelta | datetime | None = None,
        priority: int | None = None,
        returns: type[Any] | Mapping[str, Any] | None = None,
    ) -> str:
        """Make a run durable, drive nothing, and return the id of the run.

        The run is queued until somebody drives it: `drive`, or `run`, `submit` or `resume` with its id, in this or another engine of the store. No
        backend is told of it. A run of that id that exists is left as it is. Errors are those of `submit`.

        Args:
            plan_or_task: As in `run`.
            inputs: The same.
            run_id: The same.
            seed: The same.
            budget: The same.
            max_concurrency: The same.
            reuse: The same.
            replan: The same.
            submitter: The same.
            request: The same.
            deadline: The same.
            priority: The same.
            returns: The same.
        """
        options = self._options(
            run_id, seed, max_concurrency, reuse, budget, replan, submitter, request, deadline, priority
        )
        opened, header = await self._header(plan_or_task, inputs, options, _request.output_type_of(returns))
        return (await opened.execution.submissions.submit(header, run_id=options.run_id)).id

    async def drive(self, run_id: str) -> Run:
        """Claim a run and drive it here until it has ended, waits, or is parked; return it. For whoever hands runs out, such as a queue's worker.

        A run waits for a person, for a larger budget, or for a time: `run.due` is when it goes on by itself, and `drive` sits out a wait that ends within a
        second. Nothing of the run goes on here afterwards; to go on, drive it again. A run that has ended, or waits and has nothing to do, is returned as it
        is, and so is one that is parked because its process died again and again (`resume` continues it). A task is planned first; if that fails, the run has
        failed. If the plan of a failed run is patched (`replan`), the run of the patched plan is driven, too, and returned.

        To cancel `drive` parks the run, as `park` does, and another engine can drive it at once.

        Raises:
            RunNotFound: There is no such run.
            RunDriven: A living owner drives it, in this engine or elsewhere (`.owner`); nothing has happened.
            InputRejected: It is a replay that was kept, which does not go on.
            ConfigError: A tool of the run is missing here, or has changed since a person was asked about its call.
            StoreError: The store failed; the run stays where its journal ends.
        """
        return await (await self._open()).execution.drive(_request.run_of(run_id))

    async def park(self, run_id: str) -> None:
        """Stop driving a run here, and release it: any engine can drive it at once. Returns when it is released.

        Nothing new starts. Calls that are not writes are cut off and made again later; writes in flight may end within `write_grace`, and what is longer is
        cut off as when the engine closes. What was recorded is durable. Whoever waits for the run here gets it as it stands (`run.abandoned`), and it goes
        on when it is driven or resumed. Where nobody drives the run, `park` does nothing, so that it may be repeated.

        Raises:
            RunNotFound: There is no such run.
            RunDriven: Another engine drives it (`.owner`): park it there.
        """
        await (await self._open()).execution.park(_request.run_of(run_id))

    async def work(self, *, slots: int = 8, queue: str | None = None) -> None:
        """Take runs from the engine's backend and drive them here, until this call is cancelled; the runs that are under way are parked then.

        Args:
            slots: How many runs at a time, 1 to 10,000. A run that waits has none. `max_concurrency` still limits the calls of all of them.
            queue: Drive no runs, but make the calls of the tools with this `queue`, `slots` at a time, for runs that are driven elsewhere.

        Raises:
            ConfigError: The engine has no backend that hands out runs, or a setting of it is wrong.
            ServerError: The backend cannot be reached.
        """
        count = _request.count_of("slots", slots, least=1, most=SLOTS_MAX, error=ConfigError)
        opened = await self._open()
        if queue is not None:
            await opened.execution.carry_out(queue, slots=count)
            return
        if (mirror := self._schedules_backend()) is not None:
            mirror.serve_schedules(self)
        await self._backend.take(self.drive, slots=count)

    async def _header(
        self, what: PlanLike | str, inputs: Inputs | None, options: Options, wanted: OutputType[Any] | None
    ) -> tuple[_Opened, Header]:
        """Return what a new run is, before anything of it is stored."""
        opened = await self._open()
        if inputs is not None:
            inputs = await opened.execution.archive.with_encoded(inputs, opened.execution.now())
        given: Mapping[str, Json] = {} if inputs is None else _request.inputs_of(inputs)
        if isinstance(what, str):
            header = options.header(
                None, _request.task_inputs(given), {}, executor.ToolsetLock(()), task=_request.words_of(what)
            )
            if wanted is not None:
                header = replace(header, returns=wanted.schema)
        else:
            header = await opened.plans.header(what, options, given, wanted=wanted)
        return opened, header

    def budget_for(self, budget: Mapping[str, float] | None = None) -> dict[str, float]:
        """Return the limits of a run whose caller asks for this budget. Raises: InputRejected: it is none, or past a ceiling."""
        return self._budgets.for_run(budget)

    async def go_on(self, run_id: str) -> Run:
        """Continue a run that nobody drives, as `recover` does, and return as `run` does; a parked run stays parked.

        Raises:
            RunNotFound: There is no such run.
        """
        execution = (await self._open()).execution
        await execution.go_on(run_id)
        return await execution.finish(run_id)

    async def wait(self, run_id: str, *, returns: type[T] | Mapping[str, Any] | None = None) -> Run[T]:
        """Return the run when it has ended or waits for a person. If a run with `replan` failed, return the run of its last plan.

        Args:
            run_id: The run.
            returns: The type of `run.value`, as in `run`.

        Raises:
            RunNotFound: There is no such run.
        """
        wanted = _request.output_type_of(returns)
        found = await (await self._open()).execution.wait_patched(_request.run_of(run_id))
        return _typed(found, wanted)

    async def get(self, run_id: str, *, returns: type[T] | Mapping[str, Any] | None = None) -> Run[T]:
        """Return the run as it stands, with `returns` as in `wait`. Raises: RunNotFound."""
        wanted = _request.output_type_of(returns)
        return _typed(await (await self._open()).execution.archive.get_with_attempts(run_id), wanted)

    async def expect_run(self, run_id: str, *, tenant: str) -> None:
        """Return if there is a run of that id, and the run is of that tenant.

        Raises:
            RunNotFound: There is none, or the run is of another tenant: the two errors are the same.
        """
        await (await self._open()).execution.archive.row(run_id, _api_keys.tenant_of(tenant))

    async def find_owner(self, run_id: str) -> RunOwner | None:
        """Return the living process that drives a run, with the age of its last record; `None`: none does. Raises: RunNotFound."""
        return await (await self._open()).execution.find_owner(_request.run_of(run_id))

    async def status(self, run_id: str) -> str:
        """Return a run's status alone, as `list_runs` has it; its journal, which may be long, is not read. Raises: RunNotFound."""
        return (await (await self._open()).execution.archive.row(run_id)).status

    async def list_runs(
        self,
        *,
        status: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
        where: RunFilter | None = None,
        tenant: str = "",
    ) -> RunPage:
        """Return a page of runs, newest first.

        Args:
            status: Only runs of this status.
            limit: Most runs of a page, up to 1,000.
            cursor: The `cursor` of an earlier page asks for the one that follows.
            where: Only runs of a plan, with a text, or of a time.
            tenant: Only runs of this tenant; empty: all runs.

        Raises:
            InputRejected: An argument is out of its range.
        """
        return await (await self._open()).execution.archive.list_runs(
            status=status,
            limit=limit,
            cursor=cursor,
            tenant=_api_keys.tenant_of(tenant),
            where=where or _store.EVERY_RUN,
        )

    async def count_runs(self) -> dict[str, int]:
        """Return the number of runs in each status that is not final. Runs that have ended cost nothing."""
        return await (await self._open()).execution.archive.count_runs()

    async def events(self, run_id: str, after: int = 0) -> AsyncIterator[Event]:
        """Yield the run's events past number `after` as they become durable, until nothing more comes by itself.

        Raises:
            RunNotFound: There is no such run.
        """
        execution = (await self._open()).execution
        async for event in execution.events(run_id, _request.count_of("after", after)):
            yield event

    def events_sync(self, run_id: str, after: int = 0) -> Iterator[Event]:
        """Yield as `events` does, for programs without an event loop."""
        return _background.iterate(self._loop_for_sync("events"), self.events(run_id, after))

    async def resume(
        self,
        run_id: str,
        *,
        budget: Mapping[str, float] | None = None,
        take_over: bool = False,
        returns: type[T] | Mapping[str, Any] | None = None,
        on_words: OnWords | None = None,
    ) -> Run[T]:
        """Continue a run after a crash, a pause or a decision, with a larger budget, or after parking; return as `run` does.

        If another process drives the run, `resume` waits for it, and `on_waiting`, or a warning in the log, names that process.

        Args:
            run_id: The run.
            budget: A larger budget, where the run waits for one.
            take_over: Take the run from a process that drives it and hangs. What that process still appends is refused, it calls no further
                write, and where a write is under way that may not be repeated, it ends itself as soon as it notices.
            returns: The type of the output, as in `run`.
            on_words: Told what models write while they write it, as in `run`; nothing where another process drives the run.

        Raises:
            RunNotFound: There is no such run.
            PlanRejected: The output of its plan cannot be of the type `returns`; the run goes no further.
            InputRejected: The budget is not one. Or the run has failed or was cancelled: it never changes, and `retry` goes on with it. Where a
                decision has ended it, the first `resume` after that returns the run.
            ConfigError: A tool of the run is missing, or has changed since a person was asked about its call.
        """
        execution = (await self._open()).execution
        wanted = await self._expected(run_id, returns)
        if budget is not None:
            await execution.decisions.raise_budget(run_id, self._budgets.within(budget))
        row = await execution.archive.flushed_row(run_id)
        listener = None if on_words is None else (await self._listen(run_id, on_words))[1]
        try:
            await execution.resume(run_id, take_over=_request.take_over_of(take_over))
            run = await execution.finish(run_id)
        finally:
            if listener is not None:
                await listener.close()
        if run.id == row.id and run.status in executor.FINAL:
            if row.status not in executor.FINAL:
                execution.archive.note_end(run.id)
            elif not await execution.archive.take_decided_end(row):
                _submission.expect_resume(row)
        return _typed(run, wanted)

    async def retry(
        self,
        run_id: str,
        *,
        run_id_new: str | None = None,
        replan: int = 0,
        deadline: str | float | timedelta | datetime | None = None,
        submitter: Submitter | None = None,
        returns: type[T] | Mapping[str, Any] | None = None,
    ) -> Run[T]:
        """Continue a run that failed or was cancelled as a new run, whose parent is the ended run; return as `run` does.

        Calls that succeeded are not repeated, reads included. Calls that failed or were not reached are made, with the present tools. Writes
        that the ended run never called, or every attempt of which failed, need no approval but the tool's own. A write of unknown
        outcome, one that is done and whose result was refused, and one that a person denied wait for a person. The ended run stays as it is.

        Args:
            run_id: The run that has ended.
            run_id_new: The new run's id: repeating the same retry with it returns or continues that run. `None`: each retry is another run.
            replan: As in `run`.
            deadline: Of the new run, as in `run`; that of the ended run does not count.
            submitter: As in `run`; `None`: that of the ended run.
            returns: The type of the output, as in `run`.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: The run has neither failed nor been cancelled (the message says what to do), or the new id belongs to another run.
            PlanRejected: The plan has faults with the tools as they are now, or its output cannot be of the type `returns`.
            PlanningFailed: The run is a task without a plan, and the planning failed.
        """
        wanted = await self._expected(run_id, returns)
        execution, retried, planning = await self._retry(run_id, run_id_new, replan, submitter, deadline)
        return _typed(await execution.finish(retried, planning), wanted)

    async def submit_retry(
        self,
        run_id: str,
        *,
        run_id_new: str | None = None,
        replan: int = 0,
        deadline: str | float | timedelta | datetime | None = None,
        submitter: Submitter | None = None,
        returns: type[T] | Mapping[str, Any] | None = None,
    ) -> Run[T]:
        """Start a retry and return its run immediately. Arguments and errors are those of `retry`; if the planning fails, the run fails."""
        wanted = await self._expected(run_id, returns)
        execution, retried, _ = await self._retry(run_id, run_id_new, replan, submitter, deadline)
        return _typed(await execution.archive.get(retried), wanted)

    async def _retry(
        self, run_id: str, run_id_new: str | None, replan: int, submitter: Submitter | None, deadline: object
    ) -> tuple[Execution, str, RunWork | None]:
        opened, name, times = await self._open(), _request.child_id_of(run_id_new), _request.times_of(replan)
        execution, until = opened.execution, _request.deadline_of(deadline, self._clock.now())
        row = await execution.archive.flushed_row(run_id)
        _submission.expect_retry(row)
        header = await opened.plans.retry_header(executor.Header.from_dict(row.header), times, until)
        await execution.facilities.pins.expect(header.lock.names)
        if submitter is not None:
            header = replace(header, submitter=_in_tenant(submitter, header.tenant))
        retried = await execution.submissions.retry(row, header, retry_id=name)
        return execution, retried, await execution.go_on(retried)

    async def _expected(
        self, run_id: str, returns: type[T] | Mapping[str, Any] | None
    ) -> OutputType[T] | None:
        """Return the type that a caller wants of the output of a run. Raises: PlanRejected: its plan cannot give it; RunNotFound."""
        wanted = _request.output_type_of(returns)
        if wanted is not None:
            opened = await self._open()
            header = executor.Header.from_dict((await opened.execution.archive.row(run_id)).header)
            if header.plan is not None:
                await opened.plans.expect_output(header.plan, header.plans, wanted)
        return wanted

    async def replay(
        self,
        run_id_or_bundle: str | os.PathLike[str],
        *,
        keep: bool = False,
        returns: type[T] | Mapping[str, Any] | None = None,
    ) -> Run[T]:
        """Return a run as its journal tells it, with every conclusion computed and compared again; nothing is called.

        Args:
            run_id_or_bundle: A run of the store, or the path of a bundle: a file of that name goes first, and needs no store.
            keep: Keep the replay as a run of its own, whose parent is the replayed one. Nobody goes on with it.
            returns: The type of `run.value`, as in `run`.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: The bundle was damaged or changed; the message says where.
            Diverged: Something differs from what was recorded; `.step .field .expected .found`.
        """
        wanted = _request.output_type_of(returns)
        if (bundle := _replays.bundle_path(run_id_or_bundle)) is None:
            run = await self.replay_run(os.fspath(run_id_or_bundle), keep=keep)
        elif keep:
            run = await (await self._open()).execution.replays.replay_bundle(bundle, keep=True)
        else:
            run = _replays.replayed(await _replays.load_bundle(bundle))
        return _typed(run, wanted)

    async def replay_run(self, run_id: str, *, keep: bool = False) -> Run:
        """Return as `replay` does, but only for a run of the store: no name makes it open a file, so that strangers may choose the name.

        Raises:
            RunNotFound: There is no such run.
            Diverged: Something differs from what was recorded.
        """
        return await (await self._open()).execution.replays.replay(run_id, keep=keep)

    async def export(self, run_id: str, path: str | os.PathLike[str]) -> Path:
        """Write a run into one portable file, a bundle, and return its path: `replay(path)` needs neither tools nor store.

        Secrets stand in it as their names; values that tools read through `ctx.env` are in it, as they are in the store.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: It was never planned, or the file cannot be written.
        """
        return await (await self._open()).execution.replays.export(run_id, path)

    async def call_details(self, run_id: str, step: str) -> CallDetails:
        """Return what a step of a run called: every argument or the prompt, complete, and from which calls its untrusted data is.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: It has no plan, or no such step.
        """
        return await (await self._open()).review.call_details(run_id, step)

    async def run_graph(self, run_id: str) -> dict[str, Json]:
        """Return the graph of a run's plan as `plan_graph` does, with the effects that its tools had then.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: It has no plan.
        """
        return await (await self._open()).review.graph(run_id)

    async def explain(self, run_id: str, step: str) -> Explanation:
        """Return why a step ran or was reused, with the part that differs from the nearest earlier call; `str()` is a sentence.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: It has no such step.
        """
        return await (await self._open()).review.explain(run_id, step)

    async def explain_all(self, run_id: str) -> list[Explanation]:
        """Return an explanation of every step, in the order of `run.steps`; all are looked up together.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: It was never planned.
        """
        return await (await self._open()).review.explain_all(run_id)

    async def verify(self, run_id: str) -> Verification:
        """Call a run's pure steps again, in fresh processes with other hash seeds and in another order, and compare the results.

        Nothing is stored, and nothing but pure steps is called. `.ok` is false if a tool is not deterministic; `str()` names it,
        the step, and the places in which its results differ.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: It was never planned.
        """
        return await (await self._open()).review.verify(run_id)

    async def diff(self, a: str, b: str) -> RunDiff:
        """Return what differs between two runs, by step path, and why; false if nothing does.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: One of them was never planned.
        """
        return await (await self._open()).review.diff(a, b)

    async def bisect(self, run_ids: Sequence[str], *, step: str | None = None, output: str = "") -> Bisection:
        """Return where an output changed in a line of runs: between which two, and at which step first; false if it did not.

        Args:
            run_ids: At least two, in the order in which they are compared.
            step: Look at this step's value; without it at the run's output.
            output: A place in that value, such as `items[0].price`.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: There are too few runs, one was never planned, or none has the step.
        """
        return await (await self._open()).review.bisect(run_ids, step=step, output=output)

    async def shadow(
        self, run_id: str, *, model: Spec | None = None, plan: PlanLike | None = None
    ) -> ShadowReport:
        """Return what another model, or another plan, would have changed in a run; false if nothing would. Nothing is stored.

        Model steps are asked again on their recorded input; pure tools are called where their arguments or code are new. Nothing
        else is called: the recording answers, and calls that would be different are reported.

        Args:
            run_id: The run.
            model: Whom to ask: a name at the usual endpoint, an alias, or a `Model`; `None`: each step's own model.
            plan: An edited plan, such as one with another prompt; without it the run's own.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: It asked no model.
            PlanRejected: The edited plan has faults.
            ConfigError: The model is not one.
        """
        opened = await self._open()
        header: Header | None = None
        if plan is not None:
            run = await opened.execution.archive.get(run_id)
            before = executor.Header.from_dict((await opened.execution.archive.row(run_id)).header)
            options = _request.Options(reuse="off", submitter=before.submitter)
            header = await opened.plans.header(plan, options, {}, run)
        return await opened.review.shadow(run_id, model, header)

    async def fork(  # noqa: PLR0913  # the contract's options
        self,
        run_id: str,
        *,
        at: str | None = None,
        set: Mapping[str, Json] | None = None,  # noqa: A002  # the contract's word
        inputs: Inputs | None = None,
        plan: PlanLike | None = None,
        allow_writes: bool = False,
        run_id_new: str | None = None,
        deadline: str | float | timedelta | datetime | None = None,
        submitter: Submitter | None = None,
        returns: type[T] | Mapping[str, Any] | None = None,
    ) -> Run[T]:
        """Run again the steps that a change affects, as a new run; the other steps keep their results from the parent's journal.

        Args:
            run_id: The parent.
            at: A step to run again, with whatever depends on it.
            set: Path of a step or item -> the value that stands in its place.
            inputs: Inputs that differ from the parent's.
            plan: An edited plan; without it the parent's.
            allow_writes: Whether writes in the affected cone go ahead; without it each waits for approval. A write of unknown outcome waits
                in any case.
            run_id_new: The fork's id: repeating the same fork with it returns or continues that run. `None`: each fork is another run.
            deadline: Of the fork, as in `run`; that of the parent does not count.
            submitter: As in `run`; `None`: that of the parent.
            returns: The type of the output, as in `run`.

        Raises:
            RunNotFound: There is no such run.
            PlanRejected: The edited plan has faults, or the output cannot be of the type `returns`.
            InputRejected: A path is none of the plan's, a value does not fit its step or input, or the new id belongs to another run.
        """
        forked = await self.submit_fork(
            run_id,
            at=at,
            set=set,
            inputs=inputs,
            plan=plan,
            allow_writes=allow_writes,
            run_id_new=run_id_new,
            deadline=deadline,
            submitter=submitter,
            returns=returns,
        )
        return await self.wait(forked.id, returns=returns)

    async def submit_fork(  # noqa: PLR0913  # the contract's options
        self,
        run_id: str,
        *,
        at: str | None = None,
        set: Mapping[str, Json] | None = None,  # noqa: A002  # the contract's word
        inputs: Inputs | None = None,
        plan: PlanLike | None = None,
        allow_writes: bool = False,
        run_id_new: str | None = None,
        deadline: str | float | timedelta | datetime | None = None,
        submitter: Submitter | None = None,
        returns: type[T] | Mapping[str, Any] | None = None,
    ) -> Run[T]:
        """Start a fork and return it immediately. Arguments and errors are those of `fork`."""
        opened, wanted = await self._open(), _request.output_type_of(returns)
        execution = opened.execution
        parent = await execution.archive.get(run_id)
        if parent.plan is None:
            raise InputRejected(f"run {run_id} has no plan: there is nothing to fork")
        edited = parent.plan if plan is None else plan
        values, given, name = (
            _request.values_of("set", set),
            _request.inputs_of(inputs),
            _request.child_id_of(run_id_new),
        )
        before = executor.Header.from_dict((await execution.archive.row(parent.id)).header)
        by = before.submitter if submitter is None else _in_tenant(submitter, before.tenant)
        options = _request.Options(
            budget=self._budgets.for_run(None),
            submitter=by,
            deadline=_request.deadline_of(deadline, self._clock.now()),
            priority=before.priority,
        )
        header = await opened.plans.header(edited, options, given, parent, wanted)
        # Only given values need the types of steps: the header's plan has passed its check.
        report = await opened.plans.check(edited, options.tenant) if values else _plans.CheckReport(())
        forked = await execution.submissions.fork(
            parent.id,
            at=None if at is None else _request.step_of(at),
            overrides={path: _request.value_for(report, path, value) for path, value in values.items()},
            holds="none" if allow_writes else "all",
            header=header,
            fork_id=name,
        )
        await execution.resume(forked)
        return _typed(await execution.archive.get(forked), wanted)

    # --- deleting

    async def delete(self, run_id: str) -> RunsDeleted:
        """Delete a run that has ended, with its journal and the stored values and artifacts that nothing else names.

        A run with children (a fork, a retry, a kept replay) stays. Results that later runs may reuse stay, since they need no journal.
        The id is free again: a new run of that id makes its writes again.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: The run has not ended (code `not-ended`), or has children (code `has-children`).
        """
        return await (await self._open()).execution.delete(_request.run_of(run_id))

    async def prune(
        self,
        *,
        older_than: str | float | None = None,
        statuses: Sequence[str] | None = None,
        dry_run: bool = False,
    ) -> RunsDeleted:
        """Delete all runs that ended long enough ago, children before their parents; runs with children that stay are kept.

        Args:
            older_than: Seconds since a run's last record, or text such as `"90d"`; `None`: any age.
            statuses: Some of `succeeded`, `failed`, `cancelled`; `None`: all three.
            dry_run: Delete nothing, and return the runs that would be deleted.

        Raises:
            InputRejected: Neither an age nor statuses are given, or one of them is not valid.
        """
        if older_than is None and statuses is None:
            raise InputRejected(
                "prune: expected older_than, statuses or both; without them every ended run would be deleted"
            )
        age_s, named = _request.age_of("older_than", older_than), _store_care.statuses_of(statuses)
        return await (await self._open()).execution.prune(age_s=age_s, statuses=named, is_dry_run=dry_run)

    # --- artifacts

    async def read_artifact(self, artifact: Artifact | Mapping[str, Json]) -> bytes:
        """Return the bytes of an artifact, as a run's output or a step's has it.

        Raises:
            InputRejected: It is no artifact, or its bytes are not in this store.
        """
        return await (await self._open()).execution.archive.read_artifact(_request.artifact_of(artifact))

    async def preview_artifact(
        self, artifact: Artifact | Mapping[str, Json], *, rows: int = 10
    ) -> ArtifactPreview:
        """Return the first rows of a frame, an array or a text, as text for people.

        Of an array or a text that was saved as a file, no more than its first 4 MiB are read.

        Args:
            artifact: The artifact, or what stands for the frame or array, as a run's output or a step's has it.
            rows: How many rows, 1 to 1,000.

        Raises:
            InputRejected: As `read_artifact`; or it has no preview.
            ConfigError: A package that reads it is not installed.
        """
        archive = (await self._open()).execution.archive
        return await archive.preview_artifact(_request.artifact_of(artifact), rows)

    async def download_artifact(
        self, artifact: Artifact | Mapping[str, Json], path: str | os.PathLike[str]
    ) -> Path:
        """Write the bytes of an artifact of any size to a file, and return its path. There is either the whole file or none.

        Raises:
            InputRejected: As `read_artifact`; or the file cannot be written.
        """
        archive = (await self._open()).execution.archive
        return await archive.download_artifact(_request.artifact_of(artifact), _request.file_of(path))

    async def stream_artifact(self, artifact: Artifact | Mapping[str, Json]) -> AsyncIterator[bytes]:
        """Yield the bytes of an artifact of any size, a part of at most 4 MiB at a time.

        Raises:
            InputRejected: As `read_artifact`.
            StoreError: They were changed in the store; the last part is not given then.
        """
        archive = (await self._open()).execution.archive
        async for piece in await archive.stream_artifact(_request.artifact_of(artifact)):
            yield piece

    def stream_artifact_sync(self, artifact: Artifact | Mapping[str, Json]) -> Iterator[bytes]:
        """Yield as `stream_artifact` does, for programs without an event loop."""
        return _background.iterate(self._loop_for_sync("stream_artifact"), self.stream_artifact(artifact))

    async def save_value(self, value: object) -> dict[str, Json]:
        """Keep a frame, an array or another value whose type has a codec, and return what stands for it: an input for runs.

        A run takes such values as inputs, too, and keeps them itself.

        Raises:
            InputRejected: Its type has no codec, or the value has no bytes.
        """
        execution = (await self._open()).execution
        return await execution.archive.save_value(value, execution.now())

    async def read_value(self, description: Mapping[str, Json], kind: type[Value]) -> Value:
        """Return the frame, the array or other value that a description stands for, as a run's output or a step's has it.

        Args:
            description: The description.
            kind: The type: the one that the tool returned, or, of a frame, that of another library.

        Raises:
            InputRejected: The description is of another kind of value, or the bytes are not in this store.
        """
        archive = (await self._open()).execution.archive
        return await archive.read_value(_request.artifact_of(description), kind)

    async def save_artifact(
        self,
        data: bytes | os.PathLike[str] | AsyncIterator[bytes],
        *,
        media_type: str | None = None,
        name: str = "",
    ) -> Artifact:
        """Keep bytes or a file in the store, and return the artifact that stands for them: an input for runs.

        A file may have any size: it is read and stored a part at a time.

        Args:
            data: The bytes, the path of a file, or an asynchronous iterator of pieces.
            media_type: What they are; `None`: the name's ending says it.
            name: A name for people; a file has its own.

        Raises:
            InputRejected: They are too many, or the file cannot be read.
        """
        execution = (await self._open()).execution
        if isinstance(data, AsyncIterator):
            return await execution.archive.save_pieces(
                data, media_type=media_type, name=name, now=execution.now
            )
        if not isinstance(data, bytes):
            path = _request.file_of(data)
            return await execution.archive.save_file(
                path, media_type=media_type, name=name or path.name, now=execution.now
            )
        return await execution.archive.save_artifact(
            data, media_type=media_type, name=name, at=execution.now()
        )

    # --- what runs leave for others

    async def cache_stats(self) -> CacheStats:
        """Return how many results may be reused, and how large they are."""
        return await (await self._open()).execution.care.cache_stats()

    async def shrink_cache(self, *, max_age: str | float | None = None, max_bytes: int | None = None) -> int:
        """Forget results that are older than `max_age`, and the oldest past `max_bytes` in all; return how many went.

        Runs stay as they are and replay as before; only later runs may have to call more.

        Args:
            max_age: Seconds, or text such as `"30d"`; `None`: no limit.
            max_bytes: `0` forgets every result; `None`: no limit.

        Raises:
            InputRejected: A limit is not one.
        """
        age_s, bytes_max = _request.limits_of(max_age, max_bytes)
        return await (await self._open()).execution.care.shrink_cache(age_s=age_s, bytes_max=bytes_max)

    async def prune_artifacts(self) -> Pruned:
        """Remove bytes that no run, result for reuse, decision or saved plan refers to; return how many, and how large.

        Others may go on writing meanwhile. Artifacts that were saved in the last 24 hours stay, used or not.
        """
        return await (await self._open()).execution.care.prune_artifacts()

    async def check_store(self) -> StoreReport:
        """Check the store's file, and compute every run again from its journal; return what is not as it was written.

        Nothing is called or changed. `.ok` is false if something is wrong; `str()` says what.
        """
        return await (await self._open()).execution.care.check()

    async def backup_store(self, path: str | os.PathLike[str]) -> Path:
        """Copy the store into one new file, as it is at this moment, and return its path; other engines may go on meanwhile.

        Raises:
            InputRejected: There is a file of that name, or it cannot be written.
        """
        return await (await self._open()).execution.care.back_up(path)

    # --- what models were asked

    async def model_calls(self, run_id: str) -> RecordedModelCalls:
        """Return what the model steps of a run asked, and the answers that were accepted; nothing is called. Turns of agents are passed over.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: It was never planned.
        """
        return await (await self._open()).review.model_calls(run_id)

    async def recorded_planning(self, run_id: str) -> RecordedPlanning:
        """Return how a planner came to the plan of a run, with the request as the present prompts and tools make it; nothing is sent. Raises: RunNotFound."""
        return await (await self._open()).plans.recorded_planning(run_id)

    def secret_finder(self) -> SecretFinder:
        """Return what finds secrets in texts: those of this engine, keys of its models, and values of the environment that are named like secrets.

        Raises:
            ConfigError: A secret cannot be read, so that nobody could tell whether a text holds it.
        """
        # A planner of another class may have no models of its own.
        keys = self._planner.secret_keys() if hasattr(self._planner, "secret_keys") else {}
        return _secret.SecretFinder(
            {**_secret.environment_secrets(), **self._models.secret_keys(), **keys, **self._secrets.values()}
        )

    # --- what servers spend

    async def note_spending(self, *, usd: float, tokens: int) -> None:
        """Add to what was spent on models today (UTC), by all programs on this store that count it. Raises: StoreError."""
        execution = (await self._open()).execution
        await execution.facilities.store.add_spending(_day_of(execution.now()), usd, tokens)

    async def spending(self, *, per: Literal["day", "total"] = "day") -> dict[str, float]:
        """Return what was noted as spent: `usd` and `tokens`, of today (UTC) or, with `total`, since the store was made. Raises: StoreError."""
        execution = (await self._open()).execution
        since = _day_of(execution.now()) if per == "day" else ""
        usd, tokens = await execution.facilities.store.sum_spending(since)
        return {"usd": usd, "tokens": tokens}

    # --- keys

    async def add_key(
        self,
        name: str,
        *,
        scopes: Collection[str],
        tenant: str = "",
        expires: str | float | None = None,
        may_approve_own: bool = False,
    ) -> ApiKey:
        """Make an API key for clients of servers on this store, and return it: its `text` is the key, which nobody can read again.

        A name may have several keys, so that a key can be replaced without a gap, but all in one tenant.

        Args:
            name: Who asks with it: runs and decisions are recorded under this name.
            scopes: What it may do, some of `read`, `submit`, `approve` and `admin`; `admin` includes the others.
            tenant: Whose runs and plans alone it sees; empty: all.
            expires: Seconds from now, or text such as `"90d"`; `None`: never.
            may_approve_own: Whether it may approve calls of runs that it has submitted.

        Raises:
            InputRejected: One of these is not valid, or the name has a key in another tenant.
        """
        execution = (await self._open()).execution
        now, left_s = execution.now(), _request.age_of("expires", expires)
        if left_s is not None and left_s <= 0:
            raise InputRejected(f"expires: expected a time from now, found {expires!r}")
        return await _api_keys.ApiKeys(self._location.store).add(
            name,
            scopes,
            tenant=tenant,
            may_approve_own=may_approve_own,
            at=now,
            expires=None if left_s is None else now + left_s,
        )

    async def list_keys(self) -> list[ApiKey]:
        """Return all API keys, oldest first, revoked and expired ones too; never the text of a key."""
        await self._open()
        return list(await _api_keys.ApiKeys(self._location.store).all())

    async def find_key(self, text: str) -> ApiKey | None:
        """Return the API key that a text is, valid or not (`is_valid`); `None`: it is none. The use of a valid key is noted."""
        execution = (await self._open()).execution
        return await _api_keys.ApiKeys(self._location.store).find(text, execution.now())

    async def revoke_key(self, name_or_id: str) -> list[ApiKey]:
        """Refuse all keys of a name, or one key by its id, and return them. Servers that run refuse them within seconds.

        Raises:
            InputRejected: There is no such key, or it is revoked already.
        """
        execution = (await self._open()).execution
        return await _api_keys.ApiKeys(self._location.store).revoke(name_or_id, execution.now())

    # --- decisions

    async def waiting(self, run_id: str) -> WaitingCalls:
        """Return the calls of a run that wait for a person, with everything that the person needs to decide; `str()` is the complete text.

        Each call has all its arguments, those with defaults included; each argument with untrusted data has the calls from which the data
        is, and the parts that stand verbatim in their results; and there is what the same step did last time.

        Raises:
            RunNotFound: There is no such run.
        """
        return await (await self._open()).review.waiting(run_id)

    async def approve(
        self,
        run_id: str,
        step: str,
        *,
        by: str,
        edit: Mapping[str, Json] | None = None,
        attempt: int | None = None,
    ) -> Run:
        """Allow the call that waits at a step; the live owner, or `resume`, continues the run.

        One decision stands for an attempt: another decision is refused, and the error names the decision that stands (`.code` is `decided`).
        If a caller repeats its own decision, the run is returned. The same holds for `deny` and `resolve`.

        Args:
            run_id: The run.
            step: Path of the leaf.
            by: Who decides.
            edit: Arguments in the place of some of the present ones; without it the call is made with exactly those.
            attempt: The attempt that the decision is about, counted from 1 (`attempt` of the step); `None`: the attempt that waits now.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: Nothing waits there, the arguments do not fit, or another decision stands. With the code `own-run`: this name has
                submitted the run and may not approve its calls.
        """
        decision = {"approve": True, "edit": edit, "attempt": attempt}
        return await self._decide_one(run_id, step, decision, _request.person_of(by))

    async def deny(
        self, run_id: str, step: str, *, by: str, reason: str = "", attempt: int | None = None
    ) -> Run:
        """Refuse the call that waits at a step; the steps that depend on it are cancelled.

        Args:
            run_id: The run.
            step: Path of the leaf.
            by: Who decides.
            reason: Why, for the record.
            attempt: As in `approve`.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: Nothing waits there, or another decision stands.
        """
        decision = {"deny": True, "reason": reason, "attempt": attempt}
        return await self._decide_one(run_id, step, decision, _request.person_of(by))

    async def answer(
        self, run_id: str, step: str | None, value: object, *, by: str, attempt: int | None = None
    ) -> Run:
        """Answer the question of an `ask_person` step, or of the planner; the live owner, or `resume`, continues the run.

        Args:
            run_id: The run.
            step: Path of the leaf; `None`: the planner asks about the task (`run.question`).
            value: The answer, which fits the `returns` of the question.
            by: Who answers.
            attempt: As in `approve`.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: Nothing is asked there, the value does not fit, the question has expired (code `expired`), or another decision
                stands (code `decided`).
        """
        if step is None:
            decisions = (await self._open()).execution.decisions
            return await decisions.answer_planner(run_id, value, by=_request.person_of(by))
        decision = {"answer": value, "attempt": attempt}
        return await self._decide_one(run_id, step, decision, _request.person_of(by))

    async def resolve(  # the contract's options
        self,
        run_id: str,
        step: str,
        *,
        done: object = UNSET,
        retry: bool = False,
        fail: str | None = None,
        by: str = "",
        attempt: int | None = None,
    ) -> Run:
        """Say what became of a write of unknown outcome: exactly one of `done`, `retry` and `fail`.

        Args:
            run_id: The run.
            step: Path of the leaf.
            done: It took effect, and returned this.
            retry: It did nothing, and may be made again.
            fail: It did nothing, and counts as failed for this reason.
            by: Who says so; may be left out.
            attempt: As in `approve`: the attempt whose outcome is unknown.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: Not exactly one of the three, the step's outcome is not unknown, the value does not fit, or another decision stands.
        """
        decision: dict[str, object] = {} if done is UNSET else {"done": done}
        decision |= ({"retry": True} if retry else {}) | ({"fail": fail} if fail else {})
        if len(decision) != 1:
            found = " and ".join(decision) or "none"
            raise InputRejected(f"resolve: expected exactly one of done=, retry=True, fail=, found {found}")
        decision["attempt"] = attempt
        return await self._decide_one(run_id, step, decision, _request.reason_of("by", by))

    async def _decide_one(self, run_id: str, step: str, decision: Mapping[str, object], by: str) -> Run:
        decisions = (await self._open()).execution.decisions
        return await decisions.decide_one(run_id, step, decision, by=by)

    async def decide(self, run_id: str, decisions: Mapping[str, str | Mapping[str, Any]], *, by: str) -> Run:
        """Decide about several calls together, all or none: about single items of a list, or all items together.

        Args:
            run_id: The run.
            decisions: Path of a leaf -> `"approve"`, `"deny"`, `"retry"`, or an object that says more: `{"approve": True, "edit": {..}}`,
                `{"deny": True, "reason": ".."}`, `{"done": value}`, `{"retry": True}`, `{"fail": "why"}`, each with `attempt` if it is to
                be named. The path of a step means all its parts that wait and are not named themselves.
            by: Who decides.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: An entry is not valid, or another decision stands. No decision is recorded, and the error names each such entry.
        """
        read = _request.decisions_of(decisions)
        return await (await self._open()).execution.decisions.decide(run_id, read, by=_request.person_of(by))

    async def cancel(self, run_id: str) -> Run:
        """Ask a run to stop: nothing new starts; writes in flight end by themselves. Raises: RunNotFound."""
        return await (await self._open()).execution.decisions.cancel(run_id)

    aclose_sync = close
    deliver_webhooks_sync = _twin(deliver_webhooks)
    test_webhook_sync = _twin(test_webhook)
    list_deliveries_sync = _twin(list_deliveries)
    retry_delivery_sync = _twin(retry_delivery)
    add_schedule_sync = _twin(add_schedule)
    list_schedules_sync = _twin(list_schedules)
    get_schedule_sync = _twin(get_schedule)
    pause_schedule_sync = _twin(pause_schedule)
    resume_schedule_sync = _twin(resume_schedule)
    remove_schedule_sync = _twin(remove_schedule)
    schedule_fires_sync = _twin(schedule_fires)
    fire_schedules_sync = _twin(fire_schedules)
    plan_sync = _twin(plan)
    check_plan_sync = _twin(check_plan)
    plan_graph_sync = _twin(plan_graph)
    save_plan_sync = _twin(save_plan)
    delete_plan_sync = _twin(delete_plan)
    plan_history_sync = _twin(plan_history)
    plan_version_sync = _twin(plan_version)
    list_plans_sync = _twin(list_plans)
    plans_revision_sync = _twin(plans_revision)
    learnt_tools_sync = _twin(learnt_tools)
    find_altered_plans_sync = _twin(find_altered_plans)
    plan_uses_sync = _twin(plan_uses)
    find_plan_sync = _twin(find_plan)
    find_changed_tools_sync = _twin(find_changed_tools)
    accept_tools_sync = _twin(accept_tools)
    model_calls_sync = _twin(model_calls)
    recorded_planning_sync = _twin(recorded_planning)
    run_sync = _twin(run)
    submit_sync = _twin(submit)
    accept_sync = _twin(accept)
    drive_sync = _twin(drive)
    park_sync = _twin(park)
    work_sync = _twin(work)
    wait_sync = _twin(wait)
    get_sync = _twin(get)
    expect_run_sync = _twin(expect_run)
    find_owner_sync = _twin(find_owner)
    status_sync = _twin(status)
    list_runs_sync = _twin(list_runs)
    count_runs_sync = _twin(count_runs)
    resume_sync = _twin(resume)
    go_on_sync = _twin(go_on)
    retry_sync = _twin(retry)
    submit_retry_sync = _twin(submit_retry)
    replay_sync = _twin(replay)
    replay_run_sync = _twin(replay_run)
    export_sync = _twin(export)
    call_details_sync = _twin(call_details)
    run_graph_sync = _twin(run_graph)
    explain_sync = _twin(explain)
    explain_all_sync = _twin(explain_all)
    diff_sync = _twin(diff)
    bisect_sync = _twin(bisect)
    shadow_sync = _twin(shadow)
    verify_sync = _twin(verify)
    note_spending_sync = _twin(note_spending)
    spending_sync = _twin(spending)
    add_key_sync = _twin(add_key)
    list_keys_sync = _twin(list_keys)
    find_key_sync = _twin(find_key)
    revoke_key_sync = _twin(revoke_key)
    cache_stats_sync = _twin(cache_stats)
    shrink_cache_sync = _twin(shrink_cache)
    check_store_sync = _twin(check_store)
    backup_store_sync = _twin(backup_store)
    prune_artifacts_sync = _twin(prune_artifacts)
    delete_sync = _twin(delete)
    prune_sync = _twin(prune)
    fork_sync = _twin(fork)
    submit_fork_sync = _twin(submit_fork)
    download_artifact_sync = _twin(download_artifact)
    preview_artifact_sync = _twin(preview_artifact)
    read_artifact_sync = _twin(read_artifact)
    read_value_sync = _twin(read_value)
    save_value_sync = _twin(save_value)
    save_artifact_sync = _twin(save_artifact)
    waiting_sync = _twin(waiting)
    approve_sync = _twin(approve)
    deny_sync = _twin(deny)
    resolve_sync = _twin(resolve)
    answer_sync = _twin(answer)
    decide_sync = _twin(decide)
    cancel_sync = _twin(cancel)
