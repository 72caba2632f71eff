"""A trace as a value: what an agent was asked, which calls it made and what came back, and what it said at the end.

Every format is read into the same sequence of `Said`, `Called` and `Answered`, and `trace_of` makes the trace of it. A call's `turn` is the number of the
model's turn that made it: results of earlier turns were known to the model, results of the same turn were not (parallel calls). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from ...plans.values import Json

Outcome: TypeAlias = Literal["returned", "failed", "unknown"]


@dataclass(frozen=True, slots=True)
class Said:
    """A text in the conversation.

    Attributes:
        role: Who said it: `user`, `system` or `model`.
    """

    role: Literal["user", "system", "model"]
    text: str


@dataclass(frozen=True, slots=True)
class Called:
    """A call that the model asked for.

    Attributes:
        id: The call's id; empty if the trace has none.
        tool: The tool's name.
        args: The arguments, as JSON or as text that should be JSON; `None`: the trace does not have them.
        place: Where it stands in the trace.
        turn: The model's turn, where the format says it; `None`: what stands between two results is one turn.
    """

    id: str
    tool: str
    args: Json
    place: str
    turn: int | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """The result of a call.

    Attributes:
        id: The call's id; empty: the first call without a result.
        value: The result, as JSON or as text.
        is_error: Whether the trace says that the call failed.
        place: Where it stands in the trace.
    """

    id: str
    value: Json
    is_error: bool
    place: str


Event: TypeAlias = Said | Called | Answered


@dataclass(frozen=True, slots=True)
class TracedCall:
    """A call with its result.

    Attributes:
        index: Its number in the trace, from 0.
        id: As in the trace; empty if there is none.
        tool: The tool's name.
        args: The arguments as the trace has them.
        turn: The model's turn that made it, from 0.
        place: Where it stands in the trace.
        outcome: Whether a result came; `unknown`: the trace does not have one.
        value: The result as the trace has it.
    """

    index: int
    id: str
    tool: str
    args: Json
    turn: int
    place: str
    outcome: Outcome = "unknown"
    value: Json = None


@dataclass(frozen=True, slots=True)
class Trace:
    """What one agent did for one task.

    Attributes:
        name: The file, and the number of the conversation in it if there are several.
        task: The words of the user.
        system: The words of the system message.
        calls: The calls, in the order in which the model made them.
        answer: What the model said after the last call; `None`: nothing.
        remarks: What was odd about the trace, a sentence each.
    """

    name: str
    task: str
    system: str
    calls: tuple[TracedCall, ...]
    answer: str | None
    remarks: tuple[str, ...] = ()


def trace_of(name: str, events: Iterable[Event], remarks: Sequence[str] = ()) -> Trace:
    """Return the trace of a conversation.

    Args:
        name: The name of the trace.
        events: What was said, called and answered, in order.
        remarks: What was odd about its text.
    """
    said: dict[str, list[str]] = {"user": [], "system": [], "model": []}
    calls: list[TracedCall] = []
    odd = list(remarks)
    turn, is_open, answer = -1, False, None
    for event in events:
        match event:
            case Said(role, text):
                # Agents repeat the system message in each request, and a user's turn ends the model's turn.
                if text and text not in said[role][-1:]:
                    said[role].append(text)
                if role != "system":
                    is_open = is_open and role == "model"
                    answer = text or answer if role == "model" else answer
            case Called(id_, tool, args, place, known):
                turn, is_open, answer = turn if is_open else turn + 1, True, None
                calls.append(TracedCall(len(calls), id_, tool, args, turn if known is None else known, place))
            case Answered():
                is_open, answer = False, None
                _take(event, calls, odd)
    missing = [call for call in calls if call.outcome == "unknown"]
    odd += [
        f"{call.place}: the call of '{call.tool}' has no result in the trace; a rehearsal gives null"
        for call in missing
    ]
    return Trace(name, "\n".join(said["user"]), "\n".join(said["system"]), tuple(calls), answer, tuple(odd))


def _take(event: Answered, calls: list[TracedCall], odd: list[str]) -> None:
    """Give a result to its call: the one with its id, else the first that has none."""
    open_calls = [call for call in calls if call.outcome == "unknown"]
    found = [call for call in open_calls if call.id == event.id] if event.id else open_calls
    if not found:
        odd.append(f"{event.place}: a result of no call (id '{event.id}'); it is passed over")
        return
    outcome: Outcome = "failed" if event.is_error else "returned"
    calls[found[0].index] = replace(found[0], outcome=outcome, value=event.value)
