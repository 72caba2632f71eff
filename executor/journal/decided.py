"""What people decided about steps, who and when, as the journal has it; in words and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from ...plans.values import Json
from ..events import Approved, Denied, ResolvedDone, ResolvedFailed, ResolvedRetry
from .records import Entry


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision.

    Attributes:
        decision: `approved`, `denied`, or what the call of unknown outcome was resolved as.
        at: Unix seconds.
        by: Who; empty where nobody was named.
        reason: Why; may be empty.
        edited: Whether the arguments were changed with it.
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
        """Return it as JSON."""
        return {
            "decision": self.decision,
            "at": self.at,
            "by": self.by,
            "reason": self.reason,
            "edited": self.edited,
        }


def decided_in(entries: Iterable[Entry]) -> Mapping[str, tuple[Decided, ...]]:
    """Return the decisions of a journal by step, oldest first."""
    found: dict[str, tuple[Decided, ...]] = {}
    for entry in entries:
        match entry.event:
            case Approved(step=step, by=by, edit=edit):
                made = Decided("approved", entry.at, by, edited=edit is not None)
            case Denied(step=step, by=by, reason=reason):
                made = Decided("denied", entry.at, by, reason)
            case ResolvedDone(step=step):
                made = Decided("resolved as done", entry.at)
            case ResolvedRetry(step=step):
                made = Decided("resolved to be called again", entry.at)
            case ResolvedFailed(step=step, why=why):
                made = Decided("resolved as failed", entry.at, reason=why)
            case _:
                continue
        found[step] = (*found.get(step, ()), made)
    return found
