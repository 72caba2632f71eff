"""The states of a step and of a run, and the legal moves between them.

`MOVES` is the one table: the machine asserts every change against it, and the diagram in the docs is drawn from it.
Nothing here knows plans, calls or time.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a step, an item or an iteration stands."""

    PENDING = "pending"
    READY = "ready"
    RUNNING = "running"
    WAITING = "waiting"
    INDETERMINATE = "indeterminate"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


# The states that nearly every step passes, by themselves: to read an attribute of an enumeration takes as long as a call, and a step read a dozen.
PENDING: Final = State.PENDING
READY: Final = State.READY
RUNNING: Final = State.RUNNING
SUCCEEDED: Final = State.SUCCEEDED


class RunStatus(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    INDETERMINATE = "indeterminate"
    OVER_BUDGET = "over_budget"
    PARKED = "parked"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Reason(StrEnum):
    """Why a step was skipped or cancelled, or what it waits for."""

    WHEN = "when"
    ON_ERROR = "on-error"
    SKIPPED_REFERENCE = "skipped-reference"
    DEPENDENCY_FAILED = "dependency-failed"
    BLOCKED = "blocked"
    DENIED = "denied"
    CANCELLED = "cancelled"
    APPROVAL = "approval"
    QUESTION = "question"
    BUDGET = "budget"
    TIMER = "timer"
    DEADLINE = "deadline"


TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.SKIPPED, State.CANCELLED})
LIVE = frozenset({State.READY, State.RUNNING})
FINAL = frozenset({RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED})
UNDER_WAY = (RunStatus.QUEUED.value, RunStatus.RUNNING.value)  # these continue by themselves, if driven

# Skips that spread through references but block nothing: a plan says that they may happen.
SOFT = frozenset({Reason.WHEN, Reason.ON_ERROR, Reason.SKIPPED_REFERENCE})

MOVES: dict[State, frozenset[State]] = {
    # Waiting without having been ready: the list of the step has more items than the budget has left.
    State.PENDING: frozenset({State.READY, State.RUNNING, State.WAITING}) | TERMINAL,
    # Back to pending: the approval rule of the tool wants no person, but the turn of the item has not come.
    State.READY: frozenset({State.PENDING, State.RUNNING, State.WAITING, State.INDETERMINATE}) | TERMINAL,
    State.RUNNING: frozenset({State.READY, State.INDETERMINATE}) | TERMINAL,
    # Back to pending: a person decided about an item whose turn has not come. Succeeded: a person answered, or the time of a `wait` step came.
    # Failed: nobody answered in time.
    # Skipped: an earlier item failed.
    State.WAITING: frozenset({State.PENDING, State.READY, State.INDETERMINATE}) | TERMINAL,
    State.INDETERMINATE: frozenset({State.READY, State.SUCCEEDED, State.FAILED, State.SKIPPED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.SKIPPED: frozenset(),
    State.CANCELLED: frozenset(),
}
