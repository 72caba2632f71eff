"""A conversation with a model, as far as it is the same whatever comes of it: asking, and ending where no answer comes.

Every request, retries of the transport and waits included, comes out of one budget; whatever was tried is an attempt. What
an answer amounts to is for those who ask: `drafting.py` for plans, `mending.py` for patches, `choosing.py` and `adapting.py` for
small questions beside them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from ...errors import PlanningFailed
from ...tools.models.answer import Answer
from ...tools.models.clients import Clients
from ...tools.models.completion import (
    Call,
    Completion,
    Invalid,
    Message,
    Refused,
    Truncated,
    Usage,
    complete_within,
)
from ...tools.models.endpoint import Endpoint
from ...tools.models.errors import ModelError
from ...tools.models.limits import RETRY_POLICY, RequestBudget, RetryPolicy
from ..library.library import nearest_tasks
from ..order import Order
from .attempt import CUT_OFF, Attempt
from .failure import no_endpoint, over_budget

if TYPE_CHECKING:
    from ...tools.models.transport import Listener

REQUESTS_MAX = 12
"""Requests of one planning, retries of the transport included."""

TIMEOUTS_A_PLANNING = 10
"""A planning may take this many times the timeout of a request, waits included."""

ONCE = RetryPolicy(tries_max=1)
"""Small questions beside the plan are asked once: planning goes on without an answer, and may need the requests."""

T = TypeVar("T")


@dataclass(slots=True)
class Spending:
    """The budget of a planning and its usage, of `model_calls`, `tokens`, `usd` and `seconds`.

    A request is not sent if a request as large as the largest so far would pass a limit. The size of the first request is unknown.

    Attributes:
        limits: Name -> its limit; a missing name has no limit.
        told: Is told what each answered request used.
    """

    limits: Mapping[str, float] = field(default_factory=dict[str, float])
    told: Callable[[Usage], None] | None = None
    _spent: dict[str, float] = field(default_factory=dict[str, float])
    _largest: dict[str, float] = field(default_factory=dict[str, float])
    _started: float = field(default_factory=monotonic)

    @property
    def seconds_left(self) -> float:
        """Seconds until the limit; infinitely many without one."""
        return self.limits.get("seconds", inf) - (monotonic() - self._started)

    def find_short(self) -> str | None:
        """Return the limit that another request would pass; `None`: it may be sent."""
        if self.seconds_left <= 0:
            return "seconds"
        for name in ("model_calls", "tokens", "usd"):
            limit, spent = self.limits.get(name), self._spent.get(name, 0.0)
            if limit is not None and (spent >= limit or spent + self._largest.get(name, 0.0) > limit):
                return name
        return None

    def add(self, usage: Usage) -> None:
        """Note what a request used."""
        used = {
            "model_calls": float(usage.requests),
            "tokens": float(usage.prompt_tokens + usage.completion_tokens),
            "usd": usage.usd or 0.0,
        }
        for name, amount in used.items():
            self._spent[name] = self._spent.get(name, 0.0) + amount
            self._largest[name] = max(self._largest.get(name, 0.0), amount)
        if self.told is not None:
            self.told(usage)


@dataclass(slots=True)
class Conversation:
    """See the module.

    Attributes:
        attempts: What was tried so far, saved plans that fit but could not be used included.
        approach: What attempts that bring nothing were made for, `"draft"` or `"patch"`.
        small: Who is asked small questions beside the plan; `None`: the same model.
        is_reachable: Whether that one could be asked so far.
        spending: What the conversation may use.
    """

    order: Order
    endpoint: Endpoint
    clients: Clients
    timeout_s: float
    attempts: list[Attempt] = field(default_factory=list[Attempt])
    approach: str = "draft"
    small: Endpoint | None = None
    is_reachable: bool = True
    spending: Spending = field(default_factory=Spending)
    budget: RequestBudget = field(init=False)

    def __post_init__(self) -> None:
        self.budget = RequestBudget(REQUESTS_MAX, self._seconds)

    @property
    def _seconds(self) -> float:
        return self.timeout_s * TIMEOUTS_A_PLANNING

    @property
    def number(self) -> int:
        """Of the next attempt, from 1."""
        return len(self.attempts) + 1

    async def within(self, work: Awaitable[T]) -> T:
        """Return what the work comes to, if the time of a planning is enough. Raises: PlanningFailed."""
        left = self.spending.seconds_left
        try:
            async with asyncio.timeout(max(0.0, min(self._seconds, left))):
                return await work
        except TimeoutError as over:
            if left < self._seconds:
                raise over_budget(self.order.task, "seconds", self.attempts) from over
            fault = ModelError(f"planning took longer than {self._seconds:g} s", code="limit-exceeded")
            raise self._ended(fault) from over

    async def ask(
        self, messages: Sequence[Message], answer: Answer, listener: Listener | None = None
    ) -> Completion:
        """Return what the model says. Raises: PlanningFailed: nothing, or that it declines."""
        try:
            turn = await self._send(messages, answer, listener)
        except ModelError as fault:
            raise self._ended(fault) from fault
        if isinstance(turn.outcome, Refused):
            words = f"the model declined to answer: {turn.outcome.text[:500]}"
            raise self._ended(ModelError(words, code="refused"), turn)
        return turn

    async def ask_aside(
        self, messages: Sequence[Message], answer: Answer, listener: Listener | None = None
    ) -> Completion | ModelError:
        """Return what the model says to a small question beside the plan; no answer to it ends a planning.

        Where the model could not be asked, `is_reachable` is false: other small questions would only use up the budget.
        """
        try:
            return await self._send(messages, answer, listener, ONCE, self.small)
        except ModelError as fault:
            self.is_reachable = False
            return fault

    async def _send(
        self,
        messages: Sequence[Message],
        answer: Answer,
        listener: Listener | None,
        policy: RetryPolicy = RETRY_POLICY,
        endpoint: Endpoint | None = None,
    ) -> Completion:
        if (short := self.spending.find_short()) is not None:
            raise over_budget(self.order.task, short, self.attempts)
        call = Call(endpoint or self.endpoint, tuple(messages), answer, self.timeout_s, listener=listener)
        turn = await complete_within(self.budget, call, self.clients, policy)
        self.spending.add(turn.usage)
        return turn

    def unread(self, turn: Completion, outcome: Invalid | Truncated, approach: str) -> Attempt:
        """Return an attempt whose answer cannot be read."""
        what = "patch" if approach == "patch" else "plan"
        cut = f"{CUT_OFF}: make the {what} shorter"
        error = cut if isinstance(outcome, Truncated) else outcome.fault
        return Attempt(self.number, turn.raw, usage=turn.usage, error=error, approach=approach)

    def _ended(self, fault: ModelError, turn: Completion | None = None) -> PlanningFailed:
        attempt = Attempt(self.number, error=str(fault), approach=self.approach)
        if turn is not None:
            attempt = Attempt(
                self.number, turn.raw, usage=turn.usage, error=str(fault), approach=self.approach
            )
        self.attempts.append(attempt)
        nearest = nearest_tasks(self.order.task, self.order.saved)
        return no_endpoint(self.order.task, fault, nearest, self.attempts)
