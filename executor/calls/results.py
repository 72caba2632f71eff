"""Results that stand for the calls of one run: its parent's if it is a fork, earlier runs', and those of identical calls.

What stands for a call is an event in its place; that it may not, and why, is part of the record of the call. What this run's
calls return is kept here for later ones. Which results are of use at all is `reuse.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...plans.values import Json
from ..commands import StartToolCall
from ..events import CallFailed, CallReused
from ..fork import Inherited
from ..journal.header import Header
from ..journal.journal import Journal
from ..policy import ReuseMode
from ..sealed import Sealed
from ..stores.store import Reusable, RunRow
from .facilities import Facilities
from .harvest import FAILED, Harvest
from .prepared import PreparedCall, StartCall
from .reuse import Stale, epochs_at_start, find_results
from .shared import Shared


class Results:
    """See the module.

    Args:
        facilities: What runs share.
        row: The run's row.
        header: What was settled when it was submitted.
        inherited: Of a fork: what the parent's calls came to, by path.
        journal: The run's.
    """

    def __init__(
        self,
        facilities: Facilities,
        row: RunRow,
        header: Header,
        inherited: Mapping[str, Inherited],
        journal: Journal,
    ) -> None:
        self._facilities = facilities
        self._parent = row.parent or ""
        self._header = header
        self._inherited = inherited
        self._harvest = Harvest(row.id, journal)
        self._fresh: dict[str, Reusable] = {}

    @property
    def has_parent(self) -> bool:
        """Whether a parent may answer for calls."""
        return bool(self._inherited)

    def _mode(self, call: PreparedCall) -> ReuseMode:
        """Return how far earlier results may stand for a call."""
        header = self._header
        return "refresh" if header.fork is not None and header.fork.is_afresh(call.step) else header.reuse

    # --- in place of a call

    def of_parent(self, command: StartCall) -> CallReused | CallFailed | None:
        """Return what the parent of a fork answers for a call: outside the cone nothing is called."""
        fork, known = self._header.fork, self._inherited.get(command.step)
        args = command.args if isinstance(command, StartToolCall) else command.request
        if fork is None or known is None or known.given != args.digest:
            return None
        is_kept = fork.is_kept(command.step)
        if fork.is_affected(command.step) and not is_kept:
            return None
        match known.outcome:
            case CallFailed() if command.step in fork.past_writes and not is_kept:
                return None  # an earlier attempt may have taken effect: a person has been asked
            case CallFailed() as failed:
                return replace(failed, retryable=False, usage=None, args=known.given)
            case outcome:
                return CallReused(command.step, known.given, outcome.output, "", self._parent)

    async def of_earlier(self, calls: Sequence[PreparedCall]) -> Mapping[str, Reusable | Stale]:
        """Return step -> the earlier result of the same key, or why it is of no use; steps without one are left out."""
        if self._header.fork is None and self._header.reuse in ("off", "refresh"):
            return {}
        named = [call for call in calls if call.key.key and self._mode(call) in ("auto", "only")]
        return await find_results(self._facilities, named) if named else {}

    async def of_identical(self, call: PreparedCall) -> CallReused | CallFailed | None:
        """Return the result of an identical call that was just made or is under way; a failure where none may be made."""
        key = call.key.key
        if self._mode(call) in ("off", "refresh"):
            return None
        made = self._fresh.get(key)
        while made is None and (under_way := self._facilities.in_flight.get(key)) is not None:
            made = await self._checked(call, await under_way.made()) or self._fresh.get(key)
        if made is not None:
            return reused(call, made)
        if self._header.reuse == "only" and not call.is_write:
            why_not = f": {call.key.why_not}" if call.key.why_not else ""
            message = f"no earlier result stands for this call, and reuse='only' makes none{why_not}"
            return CallFailed(call.step, "not-reusable", message)
        return None

    async def _checked(self, call: PreparedCall, made: Reusable | None) -> Reusable | None:
        """Return a joined result if no write came between: a read that started before one is of no use after it."""
        if made is None or not call.is_kept_read:
            return made
        epochs = await self.epochs(call)
        return made if epochs is not None and epochs == made.epochs else None

    def why_none(self, call: PreparedCall, found: Reusable | Stale | None) -> Mapping[str, Json] | None:
        """Return why no earlier result stands for a call that is about to be made; `None`: there is none of its key."""
        if call.key.because is not None:
            return {"because": call.key.because, "detail": call.key.why_not}
        if (mode := self._mode(call)) in ("off", "refresh"):
            return {"because": mode if mode == self._header.reuse else "afresh"}
        return found.why if isinstance(found, Stale) else None

    # --- of a call

    def begin(self, call: PreparedCall) -> Shared | None:
        """Have a call that is about to be made stand for the identical ones that come up meanwhile.

        `None`: something may stand for the call itself, or it may not be made, which is for `of_identical` to say.
        """
        key, in_flight = call.key.key, self._facilities.in_flight
        if key in self._fresh or key in in_flight or self._header.reuse == "only":
            return None
        return Shared(key, in_flight)

    def begin_beside(self, call: PreparedCall) -> Shared:
        """As `begin`, where nothing stands for a call; what is under way already stays what others find."""
        key = call.key.key
        return Shared("" if key in self._facilities.in_flight else key, self._facilities.in_flight)

    async def epochs(self, call: PreparedCall) -> Mapping[str, int] | None:
        """Return the write counts that a call starts with, none for most; `None`: of no use later, since a write is open."""
        if call.tool is None or not call.is_kept_read:
            return {}
        return await epochs_at_start(self._facilities, call.tool)

    def keep(
        self, call: PreparedCall, output: Sealed, epochs: Mapping[str, int] | None, at: float
    ) -> Reusable | None:
        """Remember a result for later calls; return it if it may stand for others right now."""
        made = self._harvest.add(
            call,
            output,
            started=call.started,
            at=call.ended or at,
            epochs=epochs,
            used=call.context.used if call.context is not None else None,
            fingerprint=call.fingerprint,
            is_kept=self._mode(call) != "off",
        )
        if made is None or made.env:
            return None
        if not call.is_kept_read:
            self._fresh[call.key.key] = made
        return made

    def note_failed(self, call: PreparedCall) -> None:
        """Remember what a call was made from that failed."""
        self._harvest.note(call, call.started, call.fingerprint, FAILED)


def reused(call: PreparedCall, made: Reusable) -> CallReused:
    """Return the event that an earlier result stands for a call."""
    return CallReused(call.step, call.args_digest, Sealed(made.output), made.key, made.run_id)
