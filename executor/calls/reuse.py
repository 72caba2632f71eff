"""Reuse of results: which earlier result stands for a call, and which results are kept for later calls.

A result stands for a later call with the same content key, whatever run made it. A read stands only while it is fresh (`reuse_for`), and
only if no write on a conflicting resource was open when it started or has started since: the store counts the writes of each resource,
and a read keeps the counts (epochs) of its start. Environment variables that a call read must have the same values.

Every doubt means that the call is made: an entry whose digest does not match, whose age is unknown, or that depends on more than its key
says, is not reused. If a result does not stand for a call, the reason goes into the record of the call, for `explain`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, cast

from ...plans.immutable import immutable
from ...plans.program.program import Touch
from ...plans.values import Json
from ...tools import Tool
from ...tools.failures import recorded
from ..canonical_value import CanonicalValue
from ..commands import RecordEndorsement, StartModelCall, StartPlanning, WakeAt
from ..events import CallFailed, CallReused
from ..fork import Inherited
from ..journal.header import Header
from ..journal.journal import Journal
from ..policy import ReuseMode
from ..stores.store import EVERYTHING, CallRecord, Reusable, RunRow
from .dispatch import PreparedCall, StartCall
from .facilities import Facilities

if TYPE_CHECKING:
    from ...tools import Used


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

    Attributes:
        is_of_fork: Whether outcomes of a parent may stand for calls (`of_parent`).
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
        self._run_id = row.id
        self._journal = journal
        self.is_of_fork = header.fork is not None
        self._named: set[str] = set()  # fingerprints whose parts are in the journal already
        self._fresh: dict[str, Reusable] = {}  # content key -> result that a call of this run just made
        self._mode_of_all: ReuseMode | None = header.reuse if header.fork is None else None

    def _mode(self, call: PreparedCall) -> ReuseMode:
        """Return the reuse mode of a call: that of the run, or `refresh` where a fork wants the step made again."""
        if self._mode_of_all is not None:
            return self._mode_of_all
        header = self._header
        return "refresh" if header.fork is not None and header.fork.is_afresh(call.step) else header.reuse

    # --- before a call

    def of_parent(
        self, command: StartCall | StartPlanning | RecordEndorsement | WakeAt
    ) -> CallReused | CallFailed | None:
        """Return the parent's outcome for a call of a fork; `None`: the call is inside the cone, or its arguments differ."""
        fork = self._header.fork
        if fork is None:
            return None
        known = self._inherited.get(command.step)
        # The digest is that of the plan's arguments, before binding: the parent's journal has this one.
        args = command.request if isinstance(command, StartModelCall) else command.args
        if known is None or args is None or known.given != args.digest:
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
        if self._header.fork is not None:
            named = [call for call in calls if call.key.key and self._mode(call) in ("auto", "only")]
        elif self._header.reuse in ("off", "refresh"):
            return {}
        else:
            named = [call for call in calls if call.key.key]
        return await find_results(self._facilities, named) if named else {}

    def is_identical_under_way(self, call: PreparedCall) -> bool:
        """Whether an identical call is under way, whose result may stand for this call."""
        return call.key.key in self._facilities.in_flight and self._mode(call) not in ("off", "refresh")

    async def of_identical(self, call: PreparedCall) -> CallReused | CallFailed | None:
        """Return the result of an identical call that was just made or is under way; a failure if no call may be made (`reuse='only'`)."""
        key, made = call.key.key, None
        if self._mode(call) in ("off", "refresh"):
            return None
        # A call under way may end without a result to share; then the first of the calls that waited for it is made, and the others wait for that.
        while (
            made is None
            and key not in self._fresh
            and (in_flight := self._facilities.in_flight.get(key)) is not None
        ):
            made_there = await asyncio.shield(in_flight)  # a cancel of this call must not cancel the others
            made = await self._checked(call, made_there)
        return self.at_hand(call) if made is None else reused(call, made)

    def at_hand(self, call: PreparedCall) -> CallReused | CallFailed | None:
        """Return the result of an identical call that this run just made; a failure if no call may be made (`reuse='only'`)."""
        if (self._mode_of_all or self._mode(call)) in ("off", "refresh"):
            return None
        if (made := self._fresh.get(call.key.key)) is not None:
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
        # A result of the same run or engine needs no look at its age: it is seconds old. Only a write can have overtaken it.
        epochs = await self.epochs(call)
        return made if epochs is not None and epochs == made.epochs else None

    def why_none(self, call: PreparedCall, found: Reusable | Stale | None) -> Mapping[str, Json] | None:
        """Return why no stored result stands for a call that is about to be made; `None`: the store has none of its key."""
        if call.key.because is not None:
            return {"because": call.key.because, "detail": call.key.why_not}
        if (mode := self._mode_of_all or self._mode(call)) in ("off", "refresh"):
            return {"because": mode if mode == self._header.reuse else "afresh"}
        return found.why if isinstance(found, Stale) else None

    # --- around a call

    # Single flight: of identical calls under way in one engine, one is made. The store could not do this, since it learns of a result only with the
    # next commit.

    def begin(self, call: PreparedCall) -> asyncio.Future[Reusable | None]:
        """Enter a call as in flight, so that identical calls wait for its result; `end` hands them the result."""
        in_flight: asyncio.Future[Reusable | None] = asyncio.get_running_loop().create_future()
        if call.key.key:
            # An identical call may be in flight already, if this run does not look for results (`refresh`). It stays the one to wait for.
            self._facilities.in_flight.setdefault(call.key.key, in_flight)
        return in_flight

    def end(
        self, call: PreparedCall, in_flight: asyncio.Future[Reusable | None], made: Reusable | None
    ) -> None:
        """Hand the result of a call to the identical calls that wait; `None`: they may not take it.

        Args:
            call: The call, which has ended.
            in_flight: What `begin` returned for it.
            made: Its result; `None`: the calls that wait may not take it.
        """
        key = call.key.key
        if self._facilities.in_flight.get(key) is in_flight:
            del self._facilities.in_flight[key]
        in_flight.set_result(made)

    async def note_epochs(self, calls: Sequence[PreparedCall]) -> None:
        """Give the reads among some calls that are about to be made their epochs, with one look at the store."""
        # Epochs from before the start will do: a write that begins between the look and the start raises them, so that the result does not stand.
        tools = {call.tool.name: call.tool for call in calls if call.is_kept_read and call.tool is not None}
        if not tools:
            return
        resources = {name: resources_of(tool) for name, tool in tools.items()}
        found = await self._facilities.store.epochs(
            sorted({each for names in resources.values() for each in names})
        )
        for call in calls:
            if call.is_kept_read and call.tool is not None:
                names = resources[call.tool.name]
                call.epochs = (
                    None
                    if found.open.intersection(names)
                    else {name: found.count[name] for name in names if name in found.count}
                )

    async def epochs(self, call: PreparedCall) -> Mapping[str, int] | None:
        """Return the epochs at the start of a call, empty unless it is a read; `None`: a write is open, so the result is not kept."""
        if call.tool is None or not call.is_kept_read:
            return {}
        return await epochs_at_start(self._facilities, call.tool)

    def keep(
        self, call: PreparedCall, output: CanonicalValue, epochs: Mapping[str, int] | None, at: float
    ) -> Reusable | None:
        """Put a result and what it was made from into the journal's next commit; return it if identical calls may take it right now.

        Args:
            call: The call.
            output: Its result.
            epochs: Of a read: the epochs at its start; `None`: a write was open.
            at: Unix seconds from which the age of the result counts, unless the call started early.
        """
        used = call.context.used if call.context is not None else None
        if (self._mode_of_all or self._mode(call)) == "off":
            lost = OFF
        elif call.unkept:
            lost = call.unkept
        elif epochs is None:
            lost = WRITE_OPEN
        else:
            lost = "" if used is None else _taken(used)
        key, made = call.key.key, None
        if key and not lost and epochs is not None:
            env = _NO_ENV if used is None else cast("Mapping[str, Json]", dict(used.env))
            made = Reusable(key, self._run_id, call.step, output.data, call.ended or at, epochs, env)
        self._record(call, lost, made)
        # Identical calls under way take the result without asking the store. So it must depend on nothing that may differ for them: a result that
        # depends on the environment is not handed on, and the result of a read is not kept in memory, where nothing would count its writes.
        if made is None or made.env:
            return None
        if not call.is_kept_read:
            self._fresh[key] = made
        return made

    def note_failed(self, call: PreparedCall) -> None:
        """Record what a failed call was made from, for `explain`."""
        self._record(call, FAILED)

    def _record(self, call: PreparedCall, lost: str, made: Reusable | None = None) -> None:
        """Record what a call was made from, and its entry. A call without a content key needs neither: that it has none explains it."""
        key = call.key
        if not key.key:
            return
        record = CallRecord(
            self._run_id, call.step, key.subject, call.started, key.key, key.kept_parts(), key.code, lost
        )
        parts: dict[str, Mapping[str, str]] | None = None
        if key.code and key.code not in self._named and call.fingerprint is not None:
            self._named.add(key.code)
            parts = {key.code: call.fingerprint.parts}
        self._journal.leave(record, made, parts)


def reused(call: PreparedCall, made: Reusable) -> CallReused:
    """Return the event that a result stands for a call."""
    # A text that a step passes on is known: comparing it costs a tenth of reading and hashing it.
    output = call.given.find(made.output) if call.given is not None else None
    return CallReused(
        call.step, call.args_digest, output or CanonicalValue(made.output), made.key, made.run_id
    )


# --- earlier results


@immutable
class Stale:
    """Why an earlier result of the same key does not stand for the call: part of the record of the call."""

    why: Mapping[str, Json]


async def find_results(
    facilities: Facilities, calls: Sequence[PreparedCall]
) -> Mapping[str, Reusable | Stale]:
    """Return step -> the stored result of the same key, or why it does not stand now; steps without one are left out."""
    entries = await facilities.store.find_reusable(list(dict.fromkeys([call.key.key for call in calls])))
    if not entries:
        return {}
    # One question to the store for all keys, and one for the epochs of all resources that the found reads name, however many calls there are.
    resources = sorted({name for entry in entries.values() for name in entry.epochs})
    epochs: Mapping[str, int] = (await facilities.store.epochs(resources)).count if resources else {}
    now = facilities.clock.now()
    results: dict[str, Reusable | Stale] = {}
    for call in calls:
        if (entry := entries.get(call.key.key)) is None:
            continue
        why = _refusal(facilities, entry) if entry.refused else None
        if why is None and call.is_kept_read:
            why = _expiry(call.tool, entry, epochs, now)
        if why is None and entry.env:
            why = _changed_env(entry, facilities.environ)
        if why is not None:
            source: dict[str, Json] = {"run": entry.run_id, "step": entry.step}
            results[call.step] = Stale({**why, **source})
        else:
            results[call.step] = entry
    return results


def _refusal(facilities: Facilities, entry: Reusable) -> dict[str, Json]:
    """Return why an entry that is refused is never reused, whatever its age: the store could not verify its digest."""
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
    # Fail closed: a read without `reuse_for` has no content key, but if one came here, no result would be young enough. `not <=` refuses a NaN, too.
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


def resources_of(tool: Tool) -> Sequence[str]:
    """Return the resources whose writes a read looks at, in order."""
    # Those that a read waits for in effect order: the same rule, for writes of all runs of the store.
    awaited = Touch(tool.resource, writes=False).awaited
    return sorted(EVERYTHING if resource is None else resource for resource, _ in awaited)


async def epochs_at_start(facilities: Facilities, tool: Tool) -> Mapping[str, int] | None:
    """Return the epochs at the start of a read; `None`: a conflicting write is open, so the result is not kept."""
    epochs = await facilities.store.epochs(resources_of(tool))
    return None if epochs.open else epochs.count


def _taken(used: Used) -> str:
    """Return, as the end of a sentence, what a call took from its context and its content key does not name."""
    taken = (("the clock", used.now), ("random numbers", used.random), ("a new id", used.uuids))
    names = [name for name, was_taken in taken if was_taken]
    names += [f"the secret '{name}'" for name in used.secrets]
    return f"its result depends on {' and '.join(names)}" if names else ""
