"""Making the calls of one run: tools on the loop, in threads or in child processes, models over the wire.

A call is handed its context, with what an earlier attempt has recorded of time and chance, and the bytes of the artifacts
that its arguments name. What came of it is an `Outcome`; what follows from it is the machine's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from ...errors import EngineBug, ToolError
from ...plans.values import Json
from ...tools import Context, ModelRequest, Tool, Used
from ...tools.failures import text_of
from ...tools.models.completion import Usage as ModelUsage
from ...tools.models.errors import ModelError
from ..canonical_value import CanonicalValue
from ..commands import StartToolCall
from ..events import (
    CallFailed,
    CallMade,
    CallReused,
    CallStarted,
    CallSucceeded,
    IdMade,
    ResolvedDone,
    ResolvedFailed,
    ResolvedRetry,
    RunResumed,
    RunStarted,
    TimeTold,
)
from ..journal.journal import Journal
from ..journal.records import Entry
from .dispatch import PreparedCall
from .facilities import Facilities
from .identity import idempotency_key
from .invoke import (
    CallBlobs,
    Failed,
    Lost,
    Outcome,
    Returned,
    call_tool,
    digests_in,
    is_unrepeatable,
    reconcile,
)

if TYPE_CHECKING:
    from ..journal.journal import Journal


Usage: TypeAlias = Mapping[str, Json]


def callers_in(entries: Iterable[Entry]) -> dict[str, tuple[str, ...]]:
    """Return step -> the owners, oldest first, that began a call of the step whose outcome is not in the journal."""
    owner: str | None = None
    found: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        match entry.event:
            case RunStarted(by=owner) | RunResumed(by=owner):
                pass
            case CallStarted(step=step) if owner is not None:
                found[step] = (*(name for name in found.get(step, ()) if name != owner), owner)
            case (
                CallSucceeded(step=step)
                | CallFailed(step=step)
                | CallMade(step=step)
                | CallReused(step=step)
                | ResolvedDone(step=step)
                | ResolvedRetry(step=step)
                | ResolvedFailed(step=step)
            ):
                found.pop(step, None)
            case _:
                pass
    return found


class Caller:
    """Makes the calls of one run, each when it is told to.

    Args:
        facilities: What runs share.
        run_id: The run.
        seed: The run's.
        journal: Where the run is recorded; `None`: nowhere.
        on_progress: Told how far a call has come: step, fraction, note.
        draws: What calls are told of time and chance, where that is recorded.
        callers: Step -> the former owners whose calls of the step may be in flight.
    """

    def __init__(
        self,
        facilities: Facilities,
        run_id: str,
        seed: str,
        journal: Journal | None = None,
        on_progress: Callable[[str, float, str], None] | None = None,
        draws: Draws | None = None,
        callers: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._facilities = facilities
        self._journal = journal
        self._run_id = run_id
        self._seed = seed
        self._on_progress = on_progress
        self._draws = draws
        self._callers = callers or {}

    async def reconcile(self, call: PreparedCall) -> Outcome | None:
        """Return what became of a write of unknown outcome; `None`: it did not take place, or there is nothing to ask."""
        if call.tool is None or not getattr(call.command, "reconcile", False):
            return None
        found = await self._reconciled(call, call.tool)
        callers, ownership = self._callers.get(call.step, ()), self._facilities.ownership
        if found is not None or ownership is None or not ownership.may_survive(callers):
            return found
        # `reconcile` found nothing so far, but a process that stood still may be about to continue its call.
        if (survivor := await ownership.find_survivor(callers)) is not None:
            return Lost(
                f"reconcile found nothing, but {survivor}, which made the call and lost the run, may still continue the call; end that process, "
                "then resolve the step"
            )
        return await self._reconciled(call, call.tool)

    async def _reconciled(self, call: PreparedCall, tool: Tool) -> Outcome | None:
        args = cast("dict[str, Json]", CanonicalValue(call.args).value)
        threads, timeout_s = self._facilities.threads, call.command.timeout_s
        return await reconcile(tool, call.write_key, args, threads, timeout_s)

    async def make(self, call: PreparedCall) -> tuple[Outcome, Usage | None]:
        """Return what came of a call, and what it used of a model. Raises: StoreError: the lease has gone, before a write."""
        if not call.is_write:
            return await self._make(call)
        if self._facilities.expect_lease is not None:
            await self._facilities.expect_lease(call.handed)
        ownership = self._facilities.ownership
        if ownership is None or call.tool is None or not is_unrepeatable(call.tool):
            return await self._make(call)
        with ownership.lease.guarding(self._run_id):
            return await self._make(call)

    async def _make(self, call: PreparedCall) -> tuple[Outcome, Usage | None]:
        if call.request is not None:
            return await self._ask(call.request, call.tool, call.command.timeout_s)
        tool = call.tool
        if tool is None:
            raise EngineBug(f"step '{call.step}' has neither tool nor request")
        if tool.is_async and not tool.wants_context:  # it takes nothing of us
            timeout_s = call.command.timeout_s
            return await call_tool(
                tool, call.args, None, self._facilities.threads, timeout_s, call.value
            ), None
        return await self._call(call, tool), None

    def adopt(self, call: PreparedCall, ended: tuple[Outcome, Usage | None]) -> tuple[Outcome, Usage | None]:
        """Return what came of a call that was made elsewhere; later attempts are told what it was told."""
        if call.context is not None and self._draws is not None:
            self._draws.take_over(call.step, call.context.used)
        return ended

    def forget(self, call: PreparedCall) -> None:
        """Forget what its attempts have drawn: it has returned."""
        if self._draws is not None:
            self._draws.forget(call.step)

    async def _call(self, call: PreparedCall, tool: Tool) -> Outcome:
        blobs = call.blobs = CallBlobs(await self._artifacts(call.args))
        context = call.context = self._context(call, tool, blobs)
        secrets, timeout_s = self._facilities.secrets, call.command.timeout_s
        if tool.isolation != "process":
            return await call_tool(tool, call.args, context, self._facilities.threads, timeout_s, call.value)
        return await self._facilities.processes.call(
            tool,
            call.args,
            context,
            blobs,
            secrets=secrets,
            timeout_s=timeout_s,
            on_drawn=lambda drawn: self._drawn(call, drawn),
        )

    async def _drawn(self, call: PreparedCall, drawn: float | str) -> None:
        if self._draws is not None:
            await self._draws.record(call.step, drawn, is_write=call.is_write)

    async def _artifacts(self, args: bytes) -> Mapping[str, bytes]:
        """Return the bytes of the artifacts in a call's arguments."""
        wanted = digests_in(args)
        if not wanted:
            return {}
        if self._journal is not None:
            await self._journal.flush()  # a step of this run may just have made them
        return await self._facilities.store.find_values(wanted)

    def _context(self, call: PreparedCall, tool: Tool, blobs: CallBlobs) -> Context:
        draws = self._draws if tool.wants_context else None
        return Context(
            run_id=self._run_id,
            step=call.step,
            attempt=call.command.attempt,
            idempotency_key=self._key_of(call, tool),
            seed=self._seed,
            effect=tool.effect,
            clock=self._facilities.clock.now,
            env=self._facilities.environ,
            secrets=self._facilities.secrets,
            recorded=draws.of(call.step) if draws is not None else None,
            on_drawn=draws.recorder(call.step, is_write=call.is_write) if draws is not None else None,
            blobs=blobs,
            on_progress=self._progress_of(call.step),
            given=tuple(call.command.secrets.values()) if isinstance(call.command, StartToolCall) else (),
        )

    def _key_of(self, call: PreparedCall, tool: Tool) -> str:
        """Return a call's idempotency key, whatever its effect, if it may be asked for."""
        if call.write_key or not tool.wants_context:
            return call.write_key
        return idempotency_key(self._run_id, call.step, call.args_digest)

    def _progress_of(self, step: str) -> Callable[[float, str], None] | None:
        """Return what a call tells its progress to, on whatever thread it runs."""
        tell = self._on_progress
        if tell is None:
            return None
        loop = asyncio.get_running_loop()
        return lambda fraction, note: _soon(loop, tell, step, fraction, note)

    async def _ask(
        self, request: ModelRequest, tool: Tool | None, timeout_s: float | None
    ) -> tuple[Outcome, Usage | None]:
        try:
            reply = await self._facilities.models.ask(request, timeout_s=timeout_s)
            output = (
                CanonicalValue(tool.seal(reply.value)) if tool is not None else CanonicalValue.of(reply.value)
            )
        except ToolError as fault:
            spent = fault.usage if isinstance(fault, ModelError) else None
            failed = Failed(fault.code, text_of(fault), fault.temporary, retryable=fault.temporary)
            return failed, None if spent is None else _told(spent)
        return Returned(output), {**_told(reply.usage), "model": text_of(reply.model)}


def _told(usage: ModelUsage) -> dict[str, Json]:
    return {
        "calls": usage.requests,
        "tokens": usage.prompt_tokens + usage.completion_tokens,
        "usd": usage.usd,
    }


def _soon(
    loop: asyncio.AbstractEventLoop,
    tell: Callable[[str, float, str], None],
    step: str,
    fraction: float,
    note: str,
) -> None:
    with suppress(RuntimeError):  # the loop has ended: nobody looks
        loop.call_soon_threadsafe(tell, step, fraction, note)


# --- What calls are told of time and chance, on record before they are told: a repeated call of the step is told the same.
#
# A time or an id may be in a payment. So a call of a `write` gets a new one only once it is durable through a power loss, and the
# payment that is made again after a crash is the same payment. For other effects it is recorded with the next group: what a lost
# one has led to is lost as well, since no write is durable before all that went before it.


_NOTHING: Final[Mapping[str, Used]] = {}


def recalled(entries: Iterable[Entry], before: Mapping[str, Used] = _NOTHING) -> dict[str, Used]:
    """Return step -> the recorded times and ids of its open calls, as a journal has them; steps that have returned are left out.

    Args:
        entries: The journal.
        before: What the calls of an earlier run have drawn that this run makes again under the same key.
    """
    found: dict[str, Used] = dict(before)
    for entry in entries:
        match entry.event:
            case TimeTold(step=step, seconds=drawn) | IdMade(step=step, id=drawn):
                _add(found.setdefault(step, Used()), drawn)
            case (
                CallSucceeded(step=step)
                | CallMade(step=step)
                | CallReused(step=step)
                | ResolvedDone(step=step)
            ):
                found.pop(step, None)
            case _:
                pass
    return found


class Draws:
    """What the calls of one run have drawn so far, by step.

    Args:
        known: What was drawn before this process drove the run.
        journal: Where it is recorded.
        now: The clock.
        is_running: Whether a step's call is under way: one that was given up draws off the record.
    """

    def __init__(
        self,
        known: Mapping[str, Used],
        journal: Journal,
        now: Callable[[], float],
        is_running: Callable[[str], bool],
    ) -> None:
        self._drawn = dict(known)
        self._journal = journal
        self._now = now
        self._is_running = is_running

    def of(self, step: str) -> Used:
        """Return what the step's calls have drawn; it grows as they draw."""
        return self._drawn.setdefault(step, Used())

    async def record(self, step: str, drawn: float | str, *, is_write: bool) -> None:
        """Put on record what a call draws; after that the call may be told. Raises: StoreError."""
        if self._note(step, drawn, is_write=is_write) and is_write:
            await self._journal.flush()

    def recorder(self, step: str, *, is_write: bool) -> Callable[[float | str], None]:
        """Return the same for a call that cannot await, on whatever thread it runs."""
        loop = asyncio.get_running_loop()

        def record(drawn: float | str) -> None:
            if not _is_here(loop):
                work = self.record(step, drawn, is_write=is_write)
                asyncio.run_coroutine_threadsafe(work, loop).result()
            elif self._note(step, drawn, is_write=is_write) and is_write:
                self._journal.flush_here()

        return record

    def _note(self, step: str, drawn: float | str, *, is_write: bool) -> bool:
        if not self._is_running(step):
            return False
        _add(self.of(step), drawn)
        event = IdMade(step, drawn) if isinstance(drawn, str) else TimeTold(step, drawn)
        self._journal.add(event, self._now(), is_synced=is_write)
        return True

    def take_over(self, step: str, used: Used) -> None:
        """Put on record what a call drew that was made elsewhere, and that changes nothing."""
        drawn: list[float | str] = [*used.now, *used.uuids]
        for each in drawn:
            self._note(step, each, is_write=False)

    def forget(self, step: str) -> None:
        """Forget a step that has returned."""
        self._drawn.pop(step, None)


def _is_here(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether this is the thread of the loop."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _add(used: Used, drawn: float | str) -> None:
    if isinstance(drawn, str):
        used.uuids.append(drawn)
    else:
        used.now.append(drawn)
