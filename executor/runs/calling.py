"""The calls of one run that are due: each made in its place, at most once, and what came of it handed to the loop.

A call takes what an identical one returns that is under way, or was just made. It has a place while it runs. Of a write the intent is
durable before it is called; in a life of the run that follows a death the start of every call is, so that it shows which call kills.
Of others the start goes on record when they first wait, so that a call that never does is one record.
How a call is made is `caller.py`; what follows from what came of it is for the loop to carry out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from ..calls.at_once import noticed
from ..calls.caller import Caller, Usage
from ..calls.calls import Failed, Lost, Outcome, Returned, fitting
from ..calls.lease import elapsed_s
from ..calls.progress import Progress
from ..calls.telling import tell_trace
from ..events import BudgetReached, CallFailed, CallLost, CallSucceeded, Cause

if TYPE_CHECKING:
    from ..calls.draws import Draws
    from ..calls.early import EarlyCall, EarlySteps
    from ..calls.facilities import Facilities
    from ..calls.prepared import Preparation, PreparedCall
    from ..calls.results import Results
    from ..commands import Command
    from ..journal.header import Header
    from ..journal.journal import Journal
    from ..machine import Machine
    from ..sealed import Sealed
    from ..stores.store import Reusable
    from .recorder import Recorder

_NO_EPOCHS: Final[Mapping[str, int]] = {}


class Loop(Protocol):
    """What takes in what came of a call: `driver.Driver`.

    Attributes:
        is_parking: Whether nothing more is to begin.
    """

    machine: Machine
    journal: Journal
    is_parking: bool

    async def take_in(self, event: Cause) -> None:
        """Hand an event to machine and journal, and carry out what follows."""
        ...

    async def go_on(self, event: Cause, follow_up: Sequence[Command]) -> None:
        """Carry out what follows from an event that has been taken in."""
        ...


class Calling:
    """See the module. The loop makes this object when it begins to drive, and drops it when it stops, because the two refer to each other.

    Args:
        loop: The run's.
        facilities: What runs share.
        run_id: The run.
        header: What was settled when it was submitted.
        recorder: The run's.
        preparation: Has prepared the calls.
        results: What stands for calls, and what is kept of them.
        early: Calls that were begun while the plan was still being written.
        draws: The times, ids and random numbers that calls get.
        callers: Step -> the former owners whose calls of the step may be in flight.
        is_careful: Whether the start of every call is durable before it (`deaths.py`).

    Attributes:
        writing: Path of each write in flight -> its timeout in seconds, if it has a timeout.
    """

    def __init__(  # noqa: PLR0913  # what the calls of a run meet on their way
        self,
        loop: Loop,
        facilities: Facilities,
        run_id: str,
        header: Header,
        *,
        recorder: Recorder,
        preparation: Preparation,
        results: Results,
        early: EarlySteps | None,
        draws: Draws,
        callers: Mapping[str, Sequence[str]],
        is_careful: bool,
    ) -> None:
        self._loop = loop
        self._is_careful = is_careful
        self._machine = loop.machine
        self._journal = loop.journal
        self._facilities = facilities
        self._run_id = run_id
        self._recorder = recorder
        self._preparation = preparation
        self._results = results
        self._early = early
        progress = Progress(loop.journal, facilities.clock.now, recorder.is_called)
        self._caller = Caller(facilities, run_id, header.seed, loop.journal, progress.note, draws, callers)
        self._places: asyncio.Semaphore | None = None  # a limit of the run's own
        if header.concurrency_max is not None:
            shared = early.places if early is not None else None
            self._places = shared or asyncio.Semaphore(header.concurrency_max)
        self.writing: dict[str, float | None] = {}

    async def make(self, call: PreparedCall) -> None:
        """Make one call, unless an identical one is under way or was just made."""
        shared = self._results.begin(call)
        if shared is None:
            known = await self._results.of_identical(call)
            if known is not None:
                if self._machine.is_callable(call.step):
                    await self._loop.take_in(known)
                return
            shared = self._results.begin_beside(call)
        made: Reusable | None = None
        try:
            if self._early is None and self._places is None and self._facilities.take_free(call.tool):
                try:
                    made = await self._call(call)
                finally:
                    self._facilities.places.give_back()
            else:
                made = await self._place_and_call(call)
        finally:
            shared.end(made)

    async def _place_and_call(self, call: PreparedCall) -> Reusable | None:
        """Make a call for which there may be a limit of the run or of its tool, or which may have begun early."""
        early = await self._early.take(call) if self._early is not None else None
        if early is not None:  # it has had its place
            return None if self._loop.is_parking else await self._call(call, early)
        async with self._facilities.place_for(self._run_id, call.tool, self._places):
            return None if self._loop.is_parking else await self._call(call)

    async def _call(self, call: PreparedCall, early: EarlyCall | None = None) -> Reusable | None:
        """Start, call, and say what came of it; return the result if others may use it."""
        is_write, now = call.is_write, self._facilities.clock.now
        known = await self._caller.reconcile(call) if is_write else None
        if known is not None and self._machine.is_callable(call.step):
            call.started = now()
            self._begin(call)
            return await self._conclude(call, known, None)
        epochs: Mapping[str, int] | None = _NO_EPOCHS
        if early is not None:
            epochs = early.epochs
        elif call.is_kept_read:
            epochs = await self._results.epochs(call)
        if not self._machine.is_callable(call.step):
            return None
        at = now()
        if (limit := self._machine.find_short(call.step, at)) is not None:
            await self._loop.take_in(BudgetReached(call.step, limit))
            return None
        call.started = at
        if early is not None:
            if early.has_waited or call.has_more_to_record:
                self._begin(call)
            outcome, usage = self._caller.adopt(call, early.hand_over(call))
        elif is_write:
            return await self._write(call)
        elif self._is_careful or call.has_more_to_record:
            outcome, usage = await self._begin_and_make(call)
        else:
            outcome, usage = await noticed(self._caller.make(call), lambda: self._begin(call))
        return await self._conclude(call, outcome, epochs, usage)

    async def _begin_and_make(self, call: PreparedCall) -> tuple[Outcome, Usage | None]:
        self._begin(call)
        if self._is_careful:  # if it kills this process, the next one knows which call did
            await self._journal.flush()
        return await self._caller.make(call)

    async def _write(self, call: PreparedCall) -> Reusable | None:
        """Call a write, once its intent is durable, unless the run was cancelled meanwhile."""
        self._begin(call)
        self.writing[call.step] = call.command.timeout_s
        call.handed = elapsed_s()
        try:
            await self._journal.flush()
            if self._machine.is_cancelled:  # and nothing has happened yet
                self.writing.pop(call.step, None)
                await self._loop.take_in(self._machine.withdrawn(call.step))
                return None
            outcome, usage = await self._caller.make(call)
        finally:
            self.writing.pop(call.step, None)
        return await self._conclude(call, outcome, _NO_EPOCHS, usage)

    def _begin(self, call: PreparedCall) -> None:
        """Put on record that a call has started."""
        self._recorder.note(call.start(), call.started)

    async def _conclude(
        self,
        call: PreparedCall,
        outcome: Outcome,
        epochs: Mapping[str, int] | None,
        usage: Usage | None = None,
    ) -> Reusable | None:
        if call.is_begun and not self._machine.is_running(call.step):  # stopped, and returned all the same
            return None
        ended = self._preparation.told(call, fitting(outcome, call.tool, self._machine.size))
        if not isinstance(ended, Returned) and ended.trace:
            tell_trace(ended.trace, self._run_id, call.step, call.command.attempt)
        match ended:
            case Returned(output):
                return await self._returned(call, output, epochs, usage)
            case Failed(code, message, temporary, retryable):
                if not call.is_begun:
                    self._begin(call)
                self._results.note_failed(call)
                took_effect = ended.took_effect or None
                failed = CallFailed(call.step, code, message, temporary, retryable, usage, took_effect)
                await self._loop.take_in(failed)
            case Lost(why):
                await self._loop.take_in(CallLost(call.step, why))
        return None

    async def _returned(
        self, call: PreparedCall, output: Sealed, epochs: Mapping[str, int] | None, usage: Usage | None
    ) -> Reusable | None:
        if call.context is not None:
            self._caller.forget(call)
        at = self._facilities.clock.now()
        made = self._results.keep(call, output, epochs, at)
        blobs = call.blobs.made if call.blobs is not None else None
        if blobs:
            self._journal.keep(blobs)
        event = call.made(output) if not call.is_begun else CallSucceeded(call.step, output, call.used, usage)
        follow_up = self._recorder.note(event, at)
        if follow_up:
            await self._loop.go_on(event, follow_up)
        if blobs:  # an identical call of another run may wait for this one, and read them
            await self._journal.flush()
        return made
