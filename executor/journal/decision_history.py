"""The decisions of people in a journal: which decision, by whom and when, as text and as JSON.

`explain` and the snapshots of runs show them; `decisions.py` finds out with them whether a new decision repeats or contradicts an old one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, field
from datetime import UTC, datetime
from typing import TypeGuard

from ...plans.immutable import immutable, record
from ...plans.values import Json
from ..canonical_value import CanonicalValue
from ..events import (
    Answered,
    ApprovalAsked,
    Approved,
    CallStarted,
    DecisionEvent,
    Denied,
    JournalEvent,
    ResolvedDone,
    ResolvedFailed,
    ResolvedRetry,
)
from ..stores.store import DecisionKey
from .records import Entry


@immutable
class RecordedDecision:
    """One decision.

    Attributes:
        decision: `approved`, `denied`, or how a call of unknown outcome was resolved.
        at: Unix seconds.
        by: The person; empty if no name was given.
        reason: The reason; may be empty.
        edited: Whether the person changed the arguments.
    """

    decision: str
    at: float
    by: str = ""
    reason: str = ""
    edited: bool = False

    def __str__(self) -> str:
        when = datetime.fromtimestamp(self.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        who = f" by {self.by}" if self.by else ""
        what = " with other arguments" if self.edited else ""
        why = f": {self.reason}" if self.reason else ""
        return f"{self.decision}{what}{who} at {when}{why}"

    def to_dict(self) -> dict[str, Json]:
        """Return the decision as JSON."""
        return asdict(self)


def decision_of(entry: Entry) -> RecordedDecision | None:  # noqa: PLR0911  # one return for each kind of decision
    """Return the decision in a record; `None`: the record is not a decision."""
    match entry.event:
        case Approved(by=by, edit=edit):
            return RecordedDecision("approved", entry.at, by, edited=edit is not None)
        case Answered(by=by):
            return RecordedDecision("answered", entry.at, by)
        case Denied(by=by, reason=reason):
            return RecordedDecision("denied", entry.at, by, reason)
        case ResolvedDone(by=by):
            return RecordedDecision("resolved as done", entry.at, by or "")
        case ResolvedRetry(by=by):
            return RecordedDecision("resolved to be called again", entry.at, by or "")
        case ResolvedFailed(why=why, by=by):
            return RecordedDecision("resolved as failed", entry.at, by or "", why)
        case _:
            return None


def decisions_by_step(entries: Iterable[Entry]) -> Mapping[str, tuple[RecordedDecision, ...]]:
    """Return the decisions of a journal by step, oldest first."""
    found: dict[str, tuple[RecordedDecision, ...]] = {}
    for entry in entries:
        if (made := decision_of(entry)) is not None:
            step: str = getattr(entry.event, "step", "")
            found[step] = (*found.get(step, ()), made)
    return found


def is_decision(event: JournalEvent) -> TypeGuard[DecisionEvent]:
    """Whether an event is a person's decision about an attempt."""
    return isinstance(event, Approved | Denied | Answered | ResolvedDone | ResolvedRetry | ResolvedFailed)


def key_of(event: DecisionEvent, attempt: int) -> DecisionKey:
    """Return the attempt that a decision is about; `attempt` is used for older records, which do not name theirs."""
    # An approval and an outcome are two questions about one attempt: whoever approves a call does not say what became of it.
    number = event.attempt if event.attempt is not None else attempt
    return DecisionKey(
        event.step, number, "call" if isinstance(event, Approved | Denied | Answered) else "outcome"
    )


@record
class DecisionHistory:
    """The questions and decisions in a journal.

    Attributes:
        decided: Attempt -> the record of its decision, in order.
        asked: Path of a leaf -> the arguments that a person was last asked about.
    """

    decided: dict[DecisionKey, Entry] = field(default_factory=dict[DecisionKey, Entry])
    asked: dict[str, CanonicalValue] = field(default_factory=dict[str, CanonicalValue])

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> DecisionHistory:
        """Return the history in a journal; the attempt of an older decision is found by counting the calls before it."""
        found = cls()
        attempts: dict[str, int] = {}
        for entry in entries:
            event = entry.event
            match event:
                case CallStarted(step=step, attempt=attempt):
                    attempts[step] = attempt
                case ApprovalAsked(step=step, args=args):
                    found.asked[step] = args
                # An approval comes before the call that it is about, an outcome after it: hence the attempt that follows, or the last one.
                case Approved() | Denied() | Answered():
                    found.decided[key_of(event, attempts.get(event.step, 0) + 1)] = entry
                case ResolvedDone() | ResolvedRetry() | ResolvedFailed():
                    found.decided[key_of(event, attempts.get(event.step, 0))] = entry
                case _:
                    pass
        return found
