"""Going on with an ended run as a new run: which of its calls are made again, and which stand.

What succeeded stands, reads included, and so does a failure that `on_error` handled. Every other call that failed is made again, and
what was not reached is made for the first time. A write of unknown outcome, one whose result was refused, and one that a person denied
wait for a person (`fork.PastWrite`).

Pure questions to the cells of a run that has ended; nothing is moved here.
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
"""Codes of steps that failed although none of their calls did: with the same results they would fail in the same way."""
_KEPT: Final = (State.SUCCEEDED, State.SKIPPED)


def retry_of(
    machine: Machine, inherited: Mapping[str, Inherited], past_writes: Mapping[str, PastWrite]
) -> Fork:
    """Return how a run goes on with an ended one.

    Args:
        machine: The ended run's.
        inherited: What its calls came to, by path.
        past_writes: See `Fork`.
    """
    before = machine.fork
    asked = dict(past_writes)
    for path, args in before.settled.items():
        # The ended run was to ask before it made this call of its own parent's again, and did not come to it: so this run asks.
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
    )


def _calls_again(machine: Machine, inherited: Mapping[str, Inherited]) -> Iterator[str]:
    """Yield the paths of the calls that were made and are made again."""
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
    """Whether a failure was dealt with where it happened or further out: by `on_error`, or by an agent, which was told of it."""
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
