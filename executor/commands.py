"""What the machine asks of the driver, in the imperative. The driver carries commands out in the order given.

Nobody changes a command; as with events, freezing them would cost more than making them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ..plans.values import Json
from .canonical_value import CanonicalValue
from .events import Consequence


@dataclass(slots=True)
class Record:
    """Append a consequence to the journal."""

    event: Consequence


@dataclass(slots=True)
class StartToolCall:
    """Call a tool, or find an earlier result that stands for the call.

    Attributes:
        step: Path of the leaf.
        args: Resolved arguments, as they go into the journal: secrets stand as their expressions.
        secrets: Argument name -> secret name.
        sample: Of a model call, item indices and iterations, which belong to its key if it is sampled; else empty.
        timeout_s: The step's own limit, else the tool's.
        reconcile: An unknown outcome went before, or a person asked for the call: ask the tool first whether it took place.
    """

    step: str
    tool: str
    args: CanonicalValue
    secrets: Mapping[str, str]
    attempt: int
    sample: tuple[int, ...]
    timeout_s: float | None
    reconcile: bool


@dataclass(slots=True)
class StartModelCall:
    """Ask one prompt; `request` is {prompt, system, examples}, rendered."""

    step: str
    request: CanonicalValue
    returns: Mapping[str, Json]
    model: str
    temperature: float | None
    max_tokens: int | None
    guard: tuple[Json, ...]
    attempt: int
    sample: tuple[int, ...]
    timeout_s: float | None


@dataclass(slots=True)
class RuleApproval:
    """Ask the tool's own rule whether this call needs a person."""

    step: str
    tool: str
    args: CanonicalValue


@dataclass(slots=True)
class Pause:
    """Hand in `RetryDue` after `delay_s`."""

    step: str
    delay_s: float


@dataclass(slots=True)
class StopCall:
    """Stop a call in flight; it changes nothing in the world, so nothing is lost."""

    step: str


Call: TypeAlias = StartToolCall | StartModelCall
Command: TypeAlias = Record | Call | RuleApproval | Pause | StopCall
