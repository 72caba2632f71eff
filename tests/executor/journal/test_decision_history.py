"""What people decided, as a journal has it: which attempt each decision is about, and how it is told."""

from __future__ import annotations

import pytest
from firmplan.executor.canonical_value import CanonicalValue
from firmplan.executor.events import (
    ApprovalAsked,
    Approved,
    CallStarted,
    Denied,
    ResolvedDone,
    ResolvedFailed,
    ResolvedRetry,
    StepSucceeded,
)
from firmplan.executor.journal.decision_history import (
    DecisionHistory,
    RecordedDecision,
    decision_of,
    decisions_by_step,
)
from firmplan.executor.journal.records import Entry
from firmplan.executor.stores.store import DecisionKey

ONE = CanonicalValue(b"1")


def entries_of(*events):
    return [Entry(seq, float(seq), event) for seq, event in enumerate(events, 1)]


@pytest.mark.parametrize("is_older", [True, False])
def test_a_decision_is_about_one_attempt(is_older):
    """Of an older record that names none, an approval is about the call that comes next, and an outcome about the last one."""

    def number(attempt):
        return None if is_older else attempt

    entries = entries_of(
        ApprovalAsked("s", CanonicalValue(b"0")),
        ApprovalAsked("s", ONE),
        Approved("s", "me", "sha256:a", attempt=number(1)),
        CallStarted("s", 1, "sha256:a"),
        CallStarted("t", 1, "sha256:a"),
        ResolvedRetry("s", attempt=number(1)),
        Denied("t", "me", "no", attempt=number(2)),
        Approved("s", "me", "sha256:a", attempt=number(2)),
        CallStarted("s", 2, "sha256:a"),
        ResolvedDone("s", ONE, attempt=number(2)),
        ResolvedFailed("t", "why", attempt=number(1)),
    )
    history = DecisionHistory.of(entries)
    assert history.asked == {"s": ONE}
    assert {key: entry.seq for key, entry in history.decided.items()} == {
        DecisionKey("s", 1, "call"): 3,
        DecisionKey("s", 1, "outcome"): 6,
        DecisionKey("t", 2, "call"): 7,
        DecisionKey("s", 2, "call"): 8,
        DecisionKey("s", 2, "outcome"): 10,
        DecisionKey("t", 1, "outcome"): 11,
    }


@pytest.mark.parametrize(
    ("event", "decided", "words"),
    [
        (Approved("s", "me", "sha256:a"), RecordedDecision("approved", 1.0, "me"), "approved by me at"),
        (
            Approved("s", "", "sha256:a", edit=ONE),
            RecordedDecision("approved", 1.0, "", edited=True),
            "approved with other arguments at",
        ),
        (Denied("s", "me", "no"), RecordedDecision("denied", 1.0, "me", "no"), "denied by me at"),
        (
            ResolvedDone("s", ONE, by="me"),
            RecordedDecision("resolved as done", 1.0, "me"),
            "resolved as done by me at",
        ),
        (ResolvedDone("s", ONE), RecordedDecision("resolved as done", 1.0), "resolved as done at"),
        (
            ResolvedRetry("s", by="me"),
            RecordedDecision("resolved to be called again", 1.0, "me"),
            "resolved to be called again by me at",
        ),
        (
            ResolvedFailed("s", "gone", by="me"),
            RecordedDecision("resolved as failed", 1.0, "me", "gone"),
            "resolved as failed by me at",
        ),
    ],
)
def test_a_decision_is_told_with_who_and_why(event, decided, words):
    """In words and as JSON, in the order of the journal; other records are none."""
    (entry,) = entries_of(event)
    assert decision_of(entry) == decided
    why = f": {decided.reason}" if decided.reason else ""
    assert str(decided) == f"{words} 1970-01-01 00:00:01 UTC{why}"
    assert decided.to_dict() == {
        "decision": decided.decision,
        "at": 1.0,
        "by": decided.by,
        "reason": decided.reason,
        "edited": decided.edited,
    }
    other, later = Entry(2, 2.0, StepSucceeded("s", "sha256:d")), Entry(3, 3.0, Denied("s", "you", ""))
    assert decision_of(other) is None
    assert decisions_by_step([entry, other, later]) == {
        "s": (decided, RecordedDecision("denied", 3.0, "you"))
    }
