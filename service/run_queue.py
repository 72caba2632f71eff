"""The queue of a server: its limit, idempotency keys, and the work on runs that continues after an answer was sent.

An idempotency key becomes the run's id, and the digest of the request's body stands in the run's header. So the store itself keeps the promise
"same key, same run, and no other request under the key": it holds through a restart, between servers of one store, and until the run is deleted.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from weakref import WeakValueDictionary

from ..engine import Engine
from ..errors import OTHER_REQUEST, FirmplanError, InputRejected, RunNotFound, StoreError
from ..executor import Run, RunSummary
from ..executor.lru_cache import LruCache
from ..executor.runs.changes import Lookout
from ..executor.states import UNDER_WAY
from ..tools.logbook import open_log
from .auth import ServerLimits
from .metrics import Metrics
from .problems import Refusal
from .spending import Spending

OWN_MAX = 10_000
"""Runs that a server continues by itself; beyond that the least recently used are left to `resume`."""
PAGE = 500
"""Runs of one page."""
LOOK_S = 1.0
"""Seconds between two looks for decisions that were recorded outside this server, while something may be found."""
RECORDED_S = 10.0
"""Seconds after a decision was told for which looks go on: the process that has left it records it, and only then the run is without a driver."""
RETRY_AFTER_S = 5
"""Seconds in the header `Retry-After` when the queue is full."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A request to run a plan or a task.

    Attributes:
        what: A plan (a dict, or one that was saved), or a task in words.
        key: The idempotency key with the client's name, so that keys of two clients differ; `None`: none was sent.
        body: Digest of the request, which tells a repeated request from another request with the same key.
        options: Options of `Engine.submit`, by name.
    """

    what: Any
    key: str | None
    body: str
    options: Mapping[str, Any]


@dataclass(slots=True)
class RunQueue:
    """Accepts the runs of one engine, and continues them."""

    engine: Engine
    limits: ServerLimits
    metrics: Metrics
    # Of two equal requests at the same time, one makes the run and the other finds it. A lock lives as long as a request holds it.
    _locks: WeakValueDictionary[str, asyncio.Lock] = field(
        default_factory=WeakValueDictionary[str, asyncio.Lock]
    )
    _spending: Spending | None = field(init=False)
    # The work in the background, and the run of each piece.
    _tasks: dict[asyncio.Task[None], str] = field(default_factory=dict[asyncio.Task[None], str])
    _own: LruCache[str, bool] = field(
        default_factory=lambda: LruCache(OWN_MAX, weight_min=1)
    )  # runs of this server
    _adopted: int = 0  # so many runs were adopted
    _adopted_before: int = 0  # and so many of them before the last look
    _seen: int = 0  # runs that processes of the store worked on at the last look
    _looked: float = -math.inf  # when it began, by the monotonic clock
    _lookout: Lookout = field(init=False)

    def __post_init__(self) -> None:
        budget = self.limits.budget
        self._spending = Spending(self.engine, budget) if budget is not None else None
        self._lookout = Lookout(lambda: self.engine.change_count("decided"), RECORDED_S)

    async def accept(self, submission: Submission) -> Run:
        """Return the run, which is durable in the store: a new run, or the earlier run with the same key.

        Raises:
            Refusal: The queue is full (429), the budget of the server is used up (429, 403), or an earlier request with the same key differs (409).
        """
        if submission.key is None:
            await self.check_queue()
            return await self._submit(submission, None)
        run_id = run_id_of(submission.key)
        async with self._locks.setdefault(run_id, asyncio.Lock()):
            known = await self._is_known(run_id)
            if not known:
                await self.check_queue()
            try:
                return await self._submit(submission, run_id)
            except InputRejected as error:
                # Another server may have made the run since the question; then its header has the other request.
                raise (_other_body() if known or error.code == OTHER_REQUEST else error) from error

    def drive(self, run_id: str, work: Coroutine[Any, Any, object]) -> None:
        """Carry out work on a run in the background; an error is in the run, or else in the log."""
        self.adopt(run_id)
        # The loop holds tasks weakly; the dict keeps them alive.
        task = asyncio.create_task(self._watched(run_id, work))
        self._tasks[task] = run_id
        task.add_done_callback(self._tasks.pop)

    async def settle(self, run_id: str) -> None:
        """Wait until all work in the background on a run is done."""
        if works := [task for task, its_run in self._tasks.items() if its_run == run_id]:
            await asyncio.wait(works)

    def adopt(self, run_id: str) -> None:
        """Continue a run by itself from now on, wherever a decision about it is recorded (`watch`)."""
        self._own.keep(run_id, value=True)
        self._adopted += 1

    async def watch(self) -> None:
        """Continue runs of this server after decisions that were recorded outside it, and keep what it spends. Runs until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            with suppress(StoreError):  # the next user of the store gets the error
                if self._spending is not None:
                    await self._spending.flush()
                # The queue's count stays fresh while runs come.
                if self._adopted == self._adopted_before and not self._lookout.is_due():
                    continue
                self._lookout.begin()
                # A decision by another process makes the run ready but leaves it without a driver: it shows as abandoned. Runs of other servers that share the
                # store are not touched, because these look for their own.
                for run in await self._look():
                    if run.abandoned and self._own.find(run.id):
                        self.drive(run.id, self._resumed(run.id))
                self._lookout.end()

    async def _resumed(self, run_id: str) -> None:
        try:
            await self.engine.go_on(run_id)
        except FirmplanError:
            self._own.drop(run_id)  # the next attempt would fail in the same way
            raise

    async def close(self) -> None:
        """Stop the work in the background; the runs stay resumable."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._spending is not None:
            with suppress(StoreError):  # a store that is gone forgets it
                await self._spending.flush()

    async def active(self) -> dict[str, int]:
        """Return the number of runs in each status that is not final."""
        return await self.engine.count_runs()

    async def _runs_in(self, status: str) -> list[RunSummary]:
        """Return the runs of a status, up to the queue's limit."""
        found: list[RunSummary] = []
        cursor: str | None = None
        while (room := self.limits.queue - len(found)) > 0:
            page = await self.engine.list_runs(status=status, limit=min(room, PAGE), cursor=cursor)
            found += page.runs
            if (cursor := page.cursor) is None:
                break
        return found

    async def _submit(self, submission: Submission, run_id: str | None) -> Run:
        run = await self.engine.submit(
            submission.what,
            run_id=run_id,
            request="" if run_id is None else submission.body,
            **submission.options,
        )
        self.adopt(run.id)
        self.metrics.note_accepted("task" if isinstance(submission.what, str) else "plan")
        return run

    async def check_budget(self) -> None:
        """Raise if the budget of the server is used up. Raises: Refusal (429, 403)."""
        if self._spending is not None:
            await self._spending.expect_left()

    async def has_budget(self) -> bool:
        """Whether the budget of the server is not used up."""
        try:
            await self.check_budget()
        except Refusal:
            return False
        return True

    async def check_queue(self) -> None:
        """Raise if no new work is taken: the budget of the server is used up, or the queue is full. Raises: Refusal (429, 403)."""
        await self.check_budget()
        # The last look and what was accepted since are at least what this server has under way. So while both together are within the limit, a
        # submission asks the store nothing; runs that another server of the store has accepted since are seen a second later.
        is_recent = time.monotonic() - self._looked < 2 * LOOK_S
        if not (is_recent and self._under_way() < self.limits.queue):
            await self._look()
        if (under_way := self._under_way()) >= self.limits.queue:
            raise Refusal(
                HTTPStatus.TOO_MANY_REQUESTS,
                "queue-full",
                f"{under_way} runs are queued or running, and this server takes {self.limits.queue}; try again later",
                {"Retry-After": str(RETRY_AFTER_S)},
            )

    def _under_way(self) -> int:
        """Return how many runs processes of the store work on: those of the last look, and those that were adopted since it began."""
        return self._seen + self._adopted - self._adopted_before

    async def _look(self) -> list[RunSummary]:
        """Return the runs that are queued or running, and count those that a process works on."""
        looked, adopted_before = time.monotonic(), self._adopted
        runs = [run for status in UNDER_WAY for run in await self._runs_in(status)]
        # The limit bounds the work of this store's processes, not the number of rows. No process works on an abandoned run.
        self._seen = sum(not run.abandoned for run in runs)
        self._looked, self._adopted_before = looked, adopted_before
        return runs

    async def _is_known(self, run_id: str) -> bool:
        try:
            await self.engine.status(run_id)
        except RunNotFound:
            return False
        return True

    async def _watched(self, run_id: str, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except Exception:  # noqa: BLE001  # nothing awaits this task, so the log is the only place for its error
            open_log().exception("a run could not go on", run=run_id)


def run_id_of(key: str) -> str:
    """Return the id of the run that an idempotency key stands for."""
    return "key-" + hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _other_body() -> Refusal:
    return Refusal(
        HTTPStatus.CONFLICT,
        "idempotency-conflict",
        "an earlier request with this Idempotency-Key differs; send the same request again, or take a new key",
    )
