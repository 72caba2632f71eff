"""The protocol between an engine and what dispatches its runs.

Rules, for engines and for backends:

- **Store first.** A run is durable before it is enqueued, and a decision is durable before its run is woken or cancelled. A backend that fails in
  between loses nothing: the run is in the store, and whoever finds it there enqueues it again.
- **The store is the truth.** A backend keeps ids of runs, never their state. Status and results are read from the store.
- **At least once.** Every call may be repeated, and every run may be handed out twice: `Engine.drive` claims the run in the store, and where a living
  owner has it, it raises `RunDriven`. A backend then hands the run out again later, without holding a place for it meanwhile.
- **A run that waits holds nothing.** `drive` returns when the run waits. `wake` hands it out again; for a wait that ends by itself,
  `Run.due` of the returned run is the time at which the backend does so without being asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from ..executor import Run

Drive: TypeAlias = "Callable[[str], Awaitable[Run[Any]]]"
"""Drives the run of an id, and returns it once it has ended or waits: `Engine.drive`, which says what it raises. To cancel it parks the run."""


class AcceptedRun(Protocol):
    """What a backend may know of a run that is in the store; none of it changes but `status`, and `plan_digest`, which a task gets once it is planned."""

    @property
    def id(self) -> str:
        """Its id."""
        ...

    @property
    def status(self) -> str:
        """Its status, as it was when the row was read."""
        ...

    @property
    def task(self) -> str | None:
        """Its task in words, if it has one."""
        ...

    @property
    def plan_digest(self) -> str | None:
        """The digest of its plan; `None`: it is a task that is planned first."""
        ...

    @property
    def tenant(self) -> str:
        """Whose it is; empty: of no tenant."""
        ...

    @property
    def submitter(self) -> str:
        """Who submitted it, such as the name of an API key; empty: nobody is known."""
        ...

    @property
    def priority(self) -> int | None:
        """Before which runs it is handed out where runs wait for a worker: from 1, first, to 5; `None`: in the middle, 3."""
        ...

    @property
    def created(self) -> float:
        """When it was accepted, in Unix seconds."""
        ...


class StrandedRun(Protocol):
    """A run that should go on, and that nobody drives."""

    @property
    def id(self) -> str:
        """Its id."""
        ...

    @property
    def created(self) -> float:
        """When it was accepted, in Unix seconds."""
        ...

    @property
    def epoch(self) -> int:
        """How many owners it has had."""
        ...

    @property
    def last_seq(self) -> int:
        """How many records its journal has."""
        ...


class BackendHost(Protocol):
    """The engine that a backend belongs to, as the backend sees it."""

    @property
    def store_name(self) -> str:
        """The name of the engine's store, without passwords: every worker has to work on the same store."""
        ...

    async def store_identity(self) -> str:
        """Return what tells the store from others, whichever address an engine has for it. Raises: StoreError."""
        ...

    async def find_run(self, run_id: str) -> AcceptedRun:
        """Return a run of the store: of a run that is woken, and that the backend does not know, it tells the priority, say. Raises: RunNotFound, StoreError."""
        ...

    @property
    def toolset_digest(self) -> str:
        """Digits for what runs rely on in the engine's tools: runs go on alike at workers that have the same."""
        ...

    @property
    def is_store_shared(self) -> bool:
        """Whether processes of other machines may use the store."""
        ...

    @property
    def log(self) -> FilteringBoundLogger:
        """The log of the engine."""
        ...

    async def go_on(self, run_id: str) -> object:
        """Have this process begin or continue a run; returns once the run is claimed. For a backend that drives where it is."""
        ...

    async def rouse(self, run_id: str) -> None:
        """Have this process continue a run that waits for a time here."""
        ...

    async def cancel(self, run_id: str) -> object:
        """Cancel a run in the store, as `Engine.cancel` does: somebody has asked the backend for it."""
        ...

    async def find_stranded(self) -> Sequence[StrandedRun]:
        """Return runs that should go on, and that nobody drives: those that a sweep hands out again. Each call looks at all owners, and at a part of the runs."""
        ...


class Backend(Protocol):
    """Dispatches the runs of one store; see the module for the rules.

    Attributes:
        drives_here: Whether the runs that an engine submits are driven by its own process. Otherwise the engine only stores, enqueues, wakes and
            cancels, and reads from the store how a run goes on.
    """

    drives_here: bool

    async def open(self, host: BackendHost) -> None:
        """Begin to work for an engine, at its first use. Raises: ConfigError: the backend cannot work with this engine or its settings."""
        ...

    async def close(self) -> None:
        """End the work for the engine; idempotent. Runs that were enqueued stay so."""
        ...

    async def enqueue(self, run: AcceptedRun) -> None:
        """Have a run handed out that is in the store. A run that is enqueued already, or is driven, is left as it is.

        Raises:
            ConfigError: A setting is wrong, such as a queue that does not exist.
            InputRejected: The backend has a run of another store under this id.
            ServerError: The backend cannot be reached at the moment. The engine logs it: the run is in the store, and is enqueued later.
        """
        ...

    async def wake(self, run_id: str) -> None:
        """Have a run handed out again: a decision about it is in the store. A run that the backend does not know is enqueued. Raises: as `enqueue`."""
        ...

    async def cancel(self, run_id: str) -> None:
        """Have whoever drives a run see that it is cancelled; that is in the store. At least what `wake` does. Raises: as `enqueue`."""
        ...

    async def take(self, drive: Drive, *, slots: int) -> None:
        """Hand runs to `drive` until this call is cancelled; then the runs that it has handed out are parked, by cancelling their drives.

        Args:
            drive: See `Drive`. An error of one run, other than `RunDriven`, is logged, and the run is left to whoever resumes it.
            slots: How many runs at a time.

        Raises:
            ConfigError: This backend hands out no runs, or a setting is wrong.
            ServerError: The backend cannot be reached.
        """
        ...


class KeptSchedule(Protocol):
    """A schedule as the store has it (`schedules.Schedule`); the store alone claims its times."""

    @property
    def full_name(self) -> str:
        """Its name; `TENANT:NAME` of a schedule of a tenant."""
        ...

    @property
    def plan(self) -> str:
        """The name or digest of a saved plan."""
        ...

    @property
    def every(self) -> float | None:
        """Seconds between two times, counted from `start`; `None`: `cron` says when."""
        ...

    @property
    def cron(self) -> str | None:
        """A cron expression, for people: `next_times` has the times."""
        ...

    @property
    def tz(self) -> str:
        """The time zone of `cron`."""
        ...

    @property
    def start(self) -> float:
        """No time is earlier, in Unix seconds."""
        ...

    @property
    def catch_up(self) -> Literal["skip", "latest", "all"]:
        """What becomes of times that no process was there for."""
        ...

    @property
    def paused(self) -> bool:
        """Whether times pass without runs."""
        ...

    @property
    def created(self) -> float:
        """When it was made, in Unix seconds."""
        ...

    @property
    def revision(self) -> int:
        """Counts its changes."""
        ...

    def next_times(self, after: float, count: int) -> Sequence[float]:
        """Return the next times later than `after`, at most `count`, in Unix seconds."""
        ...


class ScheduleHost(Protocol):
    """The engine, as far as it has schedules."""

    async def list_schedules(self, *, tenant: str | None) -> Sequence[KeptSchedule]:
        """Return the schedules of a tenant, by name; `None`: all. Raises: StoreError."""
        ...

    async def fire_schedules(self) -> object:
        """Start the runs of all times that have come, each once, however many processes do this at the same time. Raises: StoreError."""
        ...

    def schedules_due(self) -> bool:
        """Whether `fire_schedules` may have something to do, without a look at the store."""
        ...


@runtime_checkable
class SchedulesBackend(Protocol):
    """A backend that also wakes its workers at the times of schedules; one that does not leaves them to servers.

    The store stays the truth: a schedule is stored, paused and removed there first, and the backend's copy wakes a worker that looks at the store. The workers
    of the backend mend what differs.
    """

    async def put_schedule(self, schedule: KeptSchedule) -> None:
        """Take over a schedule that was made or changed in the store. Raises: ServerError: the backend cannot be reached at the moment."""
        ...

    async def remove_schedule(self, name: str) -> None:
        """Forget a schedule that was removed from the store. Raises: as `put_schedule`."""
        ...

    def serve_schedules(self, host: ScheduleHost) -> None:
        """Have the next `take` of this process fire schedules, too."""
        ...
