"""The calls of MCP clients that are under way: which run each of them moves, its progress, and its cancel.

A client cancels a call by a notification, or, by the protocol of 2026-07-28 over HTTP, by closing the stream of the answer. The run that
the call has started or resumed is then cancelled as by a person (`Engine.cancel`). A call that ends in another way (the client leaves,
the server stops) leaves its run as it is, and so does a call that only waits for a run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final, TypeVar, cast

from mcp.server.context import ServerRequestContext
from mcp.types import CancelledNotificationParams

from ...engine import Engine
from ...errors import FirmplanError
from ...executor import Event
from ...plans import Plan
from ...plans.plan import AgentStep, PlanForStep, PlanStep
from ...tools.logbook import open_log
from ...tools.provider import plain

Context = ServerRequestContext[Any, Any]
T = TypeVar("T")

CUT_KEPT_S: Final = 5.0
"""Seconds that a call is remembered after its handler was cut off: the notification that cancels it may be read after that."""
PROGRESS_EVERY_S: Final = 0.1
"""Shortest time between two progress notifications of a call."""
ENDS: Final = frozenset(
    {"CallMade", "CallReused", "CallSucceeded", "StepCancelled", "StepFailed", "StepSkipped", "StepSucceeded"}
)
"""The events that end a step. A step of a call and one without have different ones."""
NOTE_CHARACTERS_MAX: Final = 300
LEAST_PROGRESS: Final = 1e-6
"""By how much each notification exceeds the one before: the protocol lets progress only grow, and a note may be new where the number is not."""
SESSION_HEADER: Final = "mcp-session-id"
FIRST_WITHOUT_SESSIONS: Final = "2026-07-28"
"""The version of the protocol from which closing the stream of an answer cancels the call. Versions are dates."""


class Call:
    """One call of a client.

    Args:
        context: The SDK's, with which the client is reached.
        engine: The engine that cancels its run.
        tasks: Where work goes that outlives the call.
    """

    def __init__(self, context: Context, engine: Engine, tasks: set[asyncio.Task[Any]]) -> None:
        self.context = context
        self._engine = engine
        self._tasks = tasks
        self._run_id: str | None = None
        self._is_cancelled = False

    @property
    def wants_progress(self) -> bool:
        """Whether the client has asked for notifications of progress."""
        return "progress_token" in (self.context.meta or {})

    async def shielded(self, work: Awaitable[T]) -> T:
        """Await work that has to end although the call is cut off, such as making a run durable: its cancel needs the run's id."""
        task = asyncio.ensure_future(work)
        self._keep(task)
        return await asyncio.shield(task)

    def moves(self, run_id: str) -> None:
        """Note the run that the call has started or resumed."""
        self._run_id = run_id
        if self._is_cancelled:
            self._cancel_run(run_id)

    def cancel(self) -> None:
        """Cancel the run that the call moves, now or as soon as it is known."""
        if not self._is_cancelled:
            self._is_cancelled = True
            if self._run_id is not None:
                self._cancel_run(self._run_id)

    def _cancel_run(self, run_id: str) -> None:
        self._keep(
            asyncio.get_running_loop().create_task(self._cancelled(run_id), name="firmplan mcp cancel")
        )

    async def _cancelled(self, run_id: str) -> None:
        try:
            await self._engine.cancel(run_id)
        except FirmplanError as error:  # such as: it has ended
            open_log().info("a cancelled call's run is not cancelled", run=run_id, error=error.message)

    def _keep(self, task: asyncio.Future[Any]) -> None:
        if isinstance(task, asyncio.Task):
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


_CALL: ContextVar[Call] = ContextVar("firmplan_mcp_call")


def current_call() -> Call:
    """Return the call that this task answers."""
    return _CALL.get()


class Calls:
    """All calls that are under way.

    Args:
        engine: The engine that answers.

    Attributes:
        closing: Set when the server stops, so that calls that wait for runs answer with how these stand.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._open: dict[tuple[str, object], Call] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._count = 0
        self._idle = asyncio.Event()
        self.closing = asyncio.Event()

    @asynccontextmanager
    async def entered(self, context: Context) -> AsyncGenerator[Call]:
        """Have a call known for as long as it is answered."""
        call = Call(context, self._engine, self._tasks)
        key = (session_of(context), context.request_id)
        # Without sessions, ids of requests are each client's own, and no notification names them.
        is_known = not _cancels_by_closing(context)
        if is_known:
            self._open[key] = call
        token = _CALL.set(call)
        self._count += 1
        try:
            yield call
        except asyncio.CancelledError:
            if not is_known and not self.closing.is_set():
                call.cancel()
            elif is_known:
                asyncio.get_running_loop().call_later(CUT_KEPT_S, self._forget, key, call)
            raise
        except BaseException:
            self._forget(key, call)
            raise
        else:
            self._forget(key, call)
        finally:
            _CALL.reset(token)
            self._count -= 1
            self._idle.set()

    def _forget(self, key: tuple[str, object], call: Call) -> None:
        if self._open.get(key) is call:
            del self._open[key]

    async def on_cancelled(self, context: Context, params: CancelledNotificationParams) -> None:
        """Cancel the run of the call that a client cancels; the SDK has cut off the call itself."""
        call = self._open.get((session_of(context), params.request_id))
        if call is not None:
            call.cancel()

    async def answered(self) -> None:
        """Wait until no call is under way."""
        while self._count:
            self._idle.clear()
            await self._idle.wait()

    async def close(self) -> None:
        """Wait until submissions and cancels that are under way are durable."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)


def session_of(context: Context) -> str:
    """Return the id of the session; empty over stdio, where there is one."""
    return "" if context.request is None else str(context.request.headers.get(SESSION_HEADER, ""))


def _cancels_by_closing(context: Context) -> bool:
    return context.request is not None and context.protocol_version >= FIRST_WITHOUT_SESSIONS


@asynccontextmanager
async def progress_told(engine: Engine, run_id: str, call: Call) -> AsyncGenerator[None]:
    """Send the client the progress of a run for as long as the block lasts, if it has asked for that."""
    if not call.wants_progress:
        yield
        return
    telling = asyncio.get_running_loop().create_task(
        _tell(engine, run_id, call), name="firmplan mcp progress"
    )
    try:
        yield
    finally:
        # No notification may follow the answer, so the task has ended before the answer is made.
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


async def _tell(engine: Engine, run_id: str, call: Call) -> None:
    progress = RunProgress((await engine.get(run_id)).plan)
    news = asyncio.Event()
    # Events come in bursts. A task of its own sends what is known by then, so that a burst is one notification.
    sending = asyncio.get_running_loop().create_task(_send(call, progress, news))
    try:
        with suppress(FirmplanError):  # the answer of the call has the error
            async for event in engine.events(run_id):
                if progress.take(event):
                    news.set()
        await asyncio.sleep(PROGRESS_EVERY_S)  # the last news
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def _send(call: Call, progress: RunProgress, news: asyncio.Event) -> None:
    told = 0.0
    while True:
        await news.wait()
        news.clear()
        told = max(progress.done, told + LEAST_PROGRESS)
        await call.context.session.report_progress(told, progress.total, progress.note or None)
        await asyncio.sleep(PROGRESS_EVERY_S)


class RunProgress:
    """How far a run is, by its events.

    Args:
        plan: The plan of the run, as far as there is one.

    Attributes:
        total: How many steps the run will end; `None`: nobody knows yet, since the plan has lists, repeats or inner plans.
        note: The last news, in words.
    """

    def __init__(self, plan: Plan | None) -> None:
        steps = () if plan is None else plan.steps
        is_counted = plan is not None and not any(_has_parts(each) for each in steps)
        self.total = float(len(steps)) if is_counted else None
        self.note = ""
        self._fractions: dict[str, float] = {}

    @property
    def done(self) -> float:
        """How many steps have ended, with the fractions that calls under way have told."""
        return sum(self._fractions.values())

    def take(self, event: Event) -> bool:
        """Take an event; return whether it is news."""
        step = event.step
        if not step:
            return False
        if event.type == "CallProgressed":
            # An attempt that begins anew takes nothing back.
            self._fractions[step] = max(
                self._fractions.get(step, 0.0), float(cast("float", event.data["fraction"]))
            )
            words = plain(str(event.data.get("note") or ""), NOTE_CHARACTERS_MAX)
            self.note = f"{step}: {words}" if words else step
            return True
        if event.type not in ENDS or self._fractions.get(step) == 1.0:
            return False
        self._fractions[step] = 1.0
        self.note = step
        return True


def _has_parts(step: object) -> bool:
    """Whether a step has leaves of its own, whose number shows only in the run."""
    parts = (getattr(step, name, None) for name in ("for_each", "repeat"))
    return any(part is not None for part in parts) or isinstance(step, PlanStep | AgentStep | PlanForStep)
