"""Retry: decide which calls of an ended run are made again by a new run, and which results stand.

Results of calls that succeeded stand, reads included, and so does a failure that `on_error` handled. Every other failed call is made again,
and a call that was not reached is made for the first time. A write of unknown outcome, a write whose result was refused, and a write that a
person denied wait for a person (`fork.PastWrite`).

This module only reads the cells of a run that has ended; it changes no state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ..plans.program import CallTool
from ..plans.signature import Effect
from .cells import Item, Turn
from .events import CallFailed
from .fork import Fork, Inherited, PastWrite
from .machine import Machine
from .states import State

EXHAUSTED: Final = ("repeat-exhausted", "agent-exhausted")
"""Codes of steps that failed although none of their calls failed: the same results would fail the step again."""
_KEPT: Final = (State.SUCCEEDED, State.SKIPPED)


def retry_of(
    machine: Machine, inherited: Mapping[str, Inherited], past_writes: Mapping[str, PastWrite]
) -> Fork:
    """Return how a run goes on with an ended one.

    Args:
        machine: The ended run's.
        inherited: The outcomes of the parent's calls, by path.
        past_writes: See `Fork`.
    """
    before = machine.fork
    asked = dict(past_writes)
    for path, args in before.settled.items():
        # The ended run had to ask before it repeated this call of its own parent, but never reached the call. So this run asks.
        if path not in inherited and path not in asked and before.is_in_cone(path):
            asked[path] = PastWrite("done", args=args)
    return Fork(
        cone=before.cone,
        overrides=before.overrides,
        holds=before.holds,
        at=before.at,
        settled={path: known.given for path, known in inherited.items()},
        items=before.items,
        past_writes=asked,
        again=frozenset(_calls_again(machine, inherited)),
        patched=before.patched,
        done_writes=before.done_writes,
    )


def _calls_again(machine: Machine, inherited: Mapping[str, Inherited]) -> Iterator[str]:
    """Yield the paths of the calls of the ended run that the retry repeats."""
    for path, known in inherited.items():
        if isinstance(known.outcome, CallFailed) and not _is_handled(machine.turns[path]):
            yield path
    for turn in machine.turns.values():
        failure = turn.failure or turn.item.failure
        if failure is not None and failure.code in EXHAUSTED and not _is_handled(turn):
            calls = list(_calls_in(turn.item))
            if not any(call.item.node.policy.effect is Effect.WRITE for call in calls):
                yield from (call.path for call in calls)


def _is_handled(turn: Turn) -> bool:
    """Whether a failure was handled at its place or further out: by `on_error`, or by an agent that was shown it."""
    at: Turn | None = turn
    while at is not None:
        if at.item.state in _KEPT:
            return True
        owner = at.item.node.frame.owner
        if owner is not None and owner.agency is not None and isinstance(at.item.node.code.action, CallTool):
            return True
        at = owner
    return False


def _calls_in(item: Item) -> Iterator[Turn]:
    """Yield the calls of an item, those of its inner steps included."""
    for turn in item.turns:
        if turn.is_call:
            yield turn
        for frame in turn.frames:
            for node in frame.nodes:
                for inner in node.items:
                    yield from _calls_in(inner)
