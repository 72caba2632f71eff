"""Reuse of results: which earlier result stands for a call, and which results are kept for later calls.

A result stands for a later call with the same content key, whatever run made it. A read stands only while it is fresh (`reuse_for`), and
only if no write on a conflicting resource was open when it started or has started since: the store counts the writes of each resource,
and a read keeps the counts (epochs) of its start. Environment variables that a call read must have the same values.

Every doubt means that the call is made: an entry whose digest does not match, whose age is unknown, or that depends on more than its key
says, is not reused. If a result does not stand for a call, the reason goes into the record of the call, for `explain`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol, cast

from ...plans.program import Touch
from ...plans.values import Json
from ...tools import Tool
from ...tools.failures import recorded
from ..canonical_value import CanonicalValue
from ..commands import StartToolCall
from ..events import CallFailed, CallReused
from ..fork import Inherited
from ..journal.header import Header
from ..journal.journal import Journal
from ..policy import ReuseMode
from ..stores.store import EVERYTHING, CallRecord, Reusable, RunRow
from .concurrency import InFlight
from .dispatch import PreparedCall, StartCall
from .facilities import Facilities
from .identity import ContentKey

if TYPE_CHECKING:
    from ...plans.values import Json
    from ...tools import Used
    from ...tools.fingerprint.fingerprint import Fingerprint
    from ..journal.journal import Journal


# --- the results of one run

FAILED: Final = "it failed"
WRITE_OPEN: Final = "a write on its resource was in flight"
OFF: Final = "the run was started with reuse='off'"
_NO_ENV: Final[Mapping[str, Json]] = {}


class Results:
    """The results that stand for the calls of one run, and those that its calls leave.

    Args:
        facilities: What the runs of an engine share.
        row: The run's row.
        header: What was settled when the run was submitted.
        inherited: Of a fork: path -> the outcome of the parent's call.
        journal: The run's journal.
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
        self._writer = ReuseWriter(row.id, journal)
        self._fresh: dict[str, Reusable] = {}

    @property
    def has_parent(self) -> bool:
        """Whether the results of a parent may stand for calls."""
        return bool(self._inherited)

    def _mode(self, call: PreparedCall) -> ReuseMode:
        """Return the reuse mode of a call: that of the run, or `refresh` where a fork wants the step made again."""
        header = self._header
        return "refresh" if header.fork is not None and header.fork.is_afresh(call.step) else header.reuse

    # --- before a call

    def of_parent(self, command: StartCall) -> CallReused | CallFailed | None:
        """Return the parent's outcome for a call of a fork; `None`: the call is inside the cone, or its arguments differ."""
        fork, known = self._header.fork, self._inherited.get(command.step)
        args = command.args if isinstance(command, StartToolCall) else command.request
        if fork is None or known is None or known.given != args.digest:
            return None
        is_kept = fork.is_kept(command.step)
        if fork.is_affected(command.step) and not is_kept:
            return None
        match known.outcome:
            case CallFailed() if command.step in fork.past_writes and not is_kept:
                return None  # an earlier attempt may have taken effect: a person has decided about it
            case CallFailed() as failed:
                return replace(failed, retryable=False, usage=None, args=known.given)
            case outcome:
                return CallReused(command.step, known.given, outcome.output, "", self._parent)

    async def of_earlier(self, calls: Sequence[PreparedCall]) -> Mapping[str, Reusable | Stale]:
        """Return step -> the stored result of the same key, or why it does not stand; steps without one are left out."""
        if self._header.fork is None and self._header.reuse in ("off", "refresh"):
            return {}
        named = [call for call in calls if call.key.key and self._mode(call) in ("auto", "only")]
        return await find_results(self._facilities, named) if named else {}

    async def of_identical(self, call: PreparedCall) -> CallReused | CallFailed | None:
        """Return the result of an identical call that was just made or is under way; a failure if no call may be made (`reuse='only'`)."""
        key = call.key.key
        if self._mode(call) in ("off", "refresh"):
            return None
        made = self._fresh.get(key)
        while made is None and (under_way := self._facilities.in_flight.get(key)) is not None:
            made = await self._checked(call, await under_way.result()) or self._fresh.get(key)
        if made is not None:
            return reused(call, made)
        if self._header.reuse == "only" and not call.is_write:
            why_not = f": {call.key.why_not}" if call.key.why_not else ""
            message = f"no earlier result stands for this call, and reuse='only' makes none{why_not}"
            return CallFailed(call.step, "not-reusable", message)
        return None

    async def _checked(self, call: PreparedCall, made: Reusable | None) -> Reusable | None:
        """Return the result of a joined call, unless a write came in between: a read that started before the write must not stand for one after it."""
        if made is None or not call.is_kept_read:
            return made
        epochs = await self.epochs(call)
        return made if epochs is not None and epochs == made.epochs else None

    def why_none(self, call: PreparedCall, found: Reusable | Stale | None) -> Mapping[str, Json] | None:
        """Return why no stored result stands for a call that is about to be made; `None`: the store has none of its key."""
        if call.key.because is not None:
            return {"because": call.key.because, "detail": call.key.why_not}
        if (mode := self._mode(call)) in ("off", "refresh"):
            return {"because": mode if mode == self._header.reuse else "afresh"}
        return found.why if isinstance(found, Stale) else None

    # --- around a call

    def begin(self, call: PreparedCall) -> InFlight | None:
        """Enter a call as in flight, so that identical calls wait for its result.

        `None`: a result may stand for this call itself, or the call may not be made; `of_identical` decides.
        """
        key, in_flight = call.key.key, self._facilities.in_flight
        if key in self._fresh or key in in_flight or self._header.reuse == "only":
            return None
        return InFlight(key, in_flight)

    def begin_beside(self, call: PreparedCall) -> InFlight:
        """Do the same after `of_identical` found nothing; an identical call that is in flight by now stays the one that others wait for."""
        key = call.key.key
        return InFlight("" if key in self._facilities.in_flight else key, self._facilities.in_flight)

    async def epochs(self, call: PreparedCall) -> Mapping[str, int] | None:
        """Return the epochs at the start of a call, empty unless it is a read; `None`: a write is open, so the result is not kept."""
        if call.tool is None or not call.is_kept_read:
            return {}
        return await epochs_at_start(self._facilities, call.tool)

    def keep(
        self, call: PreparedCall, output: CanonicalValue, epochs: Mapping[str, int] | None, at: float
    ) -> Reusable | None:
        """Keep a result for later calls; return it if it may stand for identical calls right now."""
        made = self._writer.add(
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
        """Record what a failed call was made from, for `explain`."""
        self._writer.note(call, call.started, call.fingerprint, FAILED)


def reused(call: PreparedCall, made: Reusable) -> CallReused:
    """Return the event that a result stands for a call."""
    return CallReused(call.step, call.args_digest, CanonicalValue(made.output), made.key, made.run_id)


# --- earlier results


class Candidate(Protocol):
    """A call for which an earlier result may stand: `dispatch.PreparedCall`, or a call in a test."""

    @property
    def step(self) -> str: ...  # noqa: D102  # path of the leaf
    @property
    def key(self) -> ContentKey: ...  # noqa: D102
    @property
    def tool(self) -> Tool | None: ...  # noqa: D102
    @property
    def is_kept_read(self) -> bool: ...  # noqa: D102  # whether it is a read whose result may be kept


@dataclass(frozen=True, slots=True)
class Stale:
    """Why an earlier result of the same key does not stand for the call: part of the record of the call."""

    why: Mapping[str, Json]


async def find_results(
    facilities: Facilities, candidates: Sequence[Candidate]
) -> Mapping[str, Reusable | Stale]:
    """Return step -> the stored result of the same key, or why it does not stand now; steps without one are left out."""
    entries = await facilities.store.find_reusable(sorted({candidate.key.key for candidate in candidates}))
    found = [
        (candidate, entry)
        for candidate in candidates
        if (entry := entries.get(candidate.key.key)) is not None
    ]
    resources = sorted({name for _, entry in found for name in entry.epochs})
    epochs: Mapping[str, int] = (await facilities.store.epochs(resources)).count if resources else {}
    now = facilities.clock.now()
    results: dict[str, Reusable | Stale] = {}
    for candidate, entry in found:
        why = _refusal(facilities, entry)
        if why is None and candidate.is_kept_read:
            why = _expiry(candidate.tool, entry, epochs, now)
        if why is None and entry.env:
            why = _changed_env(entry, facilities.environ)
        if why is not None:
            source: dict[str, Json] = {"run": entry.run_id, "step": entry.step}
            results[candidate.step] = Stale({**why, **source})
        else:
            results[candidate.step] = entry
    return results


def _refusal(facilities: Facilities, entry: Reusable) -> dict[str, Json] | None:
    """Return why an entry is never reused, whatever its age: the store could not verify its digest."""
    if not entry.refused:
        return None
    if entry.refused == "altered":
        fields = {"of_run": entry.run_id, "of_step": entry.step, "key": entry.key}
        facilities.log.warning("altered result not reused", **fields)
    return {"because": entry.refused}


def _expiry(
    tool: Tool | None, entry: Reusable, epochs: Mapping[str, int], now: float
) -> dict[str, Json] | None:
    """Return why the result of a read is too old, or was overtaken by a write; `None`: it is fresh."""
    if tool is None:
        return None
    if entry.created > now:  # the clock was ahead when it was made, so its age is unknown
        return {"because": "future", "ahead_s": round(entry.created - now, 3)}
    limit_s = tool.reuse_for_s if tool.reuse_for_s is not None else -math.inf
    if not now - entry.created <= limit_s:
        age_s = round(now - entry.created, 3)
        return {"because": "expired", "age_s": age_s, "limit_s": None if limit_s < 0 else limit_s}
    written = [name for name, count in sorted(entry.epochs.items()) if epochs.get(name) != count]
    return {"because": "written", "resource": _resource_name(written, tool.resource)} if written else None


def _resource_name(written: Sequence[str], resource: str) -> str:
    """Return the name of the resource that was written, as plans spell it."""
    return resource if resource in written or written == [EVERYTHING] else written[0]


def _changed_env(entry: Reusable, environ: Mapping[str, str]) -> dict[str, Json] | None:
    """Return the environment variable whose value has changed since the result was made; `None`: none has."""
    name = next(
        (name for name, value in sorted(entry.env.items()) if recorded(environ.get(name)) != value), None
    )
    return None if name is None else {"because": "env", "name": name}


async def epochs_at_start(facilities: Facilities, tool: Tool) -> Mapping[str, int] | None:
    """Return the epochs at the start of a read; `None`: a conflicting write is open, so the result is not kept."""
    awaited = Touch(tool.resource, writes=False).awaited
    resources = sorted(EVERYTHING if resource is None else resource for resource, _ in awaited)
    epochs = await facilities.store.epochs(resources)
    return None if epochs.open else epochs.count


# --- results for later calls


class ReuseWriter:
    """Puts the results of one run, and what its calls were made from, into the batches that the journal commits."""

    def __init__(self, run_id: str, journal: Journal) -> None:
        self._run_id = run_id
        self._journal = journal
        self._named: set[str] = set()  # fingerprints whose parts are in the journal already

    def add(  # noqa: PLR0913  # one keyword for each fact that decides whether a result is kept
        self,
        candidate: Candidate,
        output: CanonicalValue,
        *,
        started: float,
        at: float,
        epochs: Mapping[str, int] | None,
        used: Used | None,
        fingerprint: Fingerprint | None,
        is_kept: bool,
    ) -> Reusable | None:
        """Write a result and what it was made from; return the entry if the result may stand for later calls.

        Args:
            candidate: The call.
            output: Its result.
            started: Unix seconds.
            at: Unix seconds from which the age of the result counts.
            epochs: Of a read: the epochs at its start; `None`: a write was open.
            used: What the call took from its context.
            fingerprint: The fingerprint of its tool.
            is_kept: Whether this run keeps results at all.
        """
        if not is_kept:
            lost = OFF
        elif epochs is None:
            lost = WRITE_OPEN
        else:
            lost = "" if used is None else _taken(used)
        key, made = candidate.key.key, None
        if not lost and key and epochs is not None:
            env = _NO_ENV if used is None else cast("Mapping[str, Json]", dict(used.env))
            made = Reusable(key, self._run_id, candidate.step, output.data, at, epochs, env)
        self.note(candidate, started, fingerprint, lost, made)
        return made

    def note(
        self,
        candidate: Candidate,
        started: float,
        fingerprint: Fingerprint | None,
        lost: str,
        made: Reusable | None = None,
    ) -> None:
        """Write what a call was made from, and its entry. A call without a content key needs neither: that it has none explains it."""
        key = candidate.key
        if not key.key:
            return
        call = CallRecord(
            self._run_id, candidate.step, key.subject, started, key.key, key.kept_parts(), key.code, lost
        )
        parts: dict[str, Mapping[str, str]] | None = None
        if key.code and key.code not in self._named and fingerprint is not None:
            self._named.add(key.code)
            parts = {key.code: fingerprint.parts}
        self._journal.leave(call, made, parts)


def _taken(used: Used) -> str:
    """Return, as the end of a sentence, what a call took from its context and its content key does not name."""
    taken = (("the clock", used.now), ("random numbers", used.random), ("a new id", used.uuids))
    names = [name for name, was_taken in taken if was_taken]
    names += [f"the secret '{name}'" for name in used.secrets]
    return f"its result depends on {' and '.join(names)}" if names else ""
