"""One planning's conversation with a model: every request, its budget, and the end of a planning without an answer.

All requests of a planning, retries of the transport and pauses included, come out of one budget. Every answer, and every failure, is an
attempt. What an answer amounts to is decided elsewhere: in `drafting.py` for plans, in `patching.py` for patches, in `tool_choice.py` and
`adapting.py` for small questions beside the plan.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from ...errors import PlanningFailed
from ...plans.plan import Plan
from ...plans.reports.problems import Problem
from ...plans.values import Json
from ...tools.models.answer import AnswerForm
from ...tools.models.clients import Clients
from ...tools.models.completion import (
    Answered,
    Completion,
    Invalid,
    Message,
    ModelCall,
    Refused,
    TruncatedAnswer,
    Usage,
    complete_within,
)
from ...tools.models.endpoint import Endpoint
from ...tools.models.errors import ELSEWHERE, ModelError
from ...tools.models.limits import RequestBudget, RetryPolicy
from ..library.library import nearest_tasks
from ..request import PlanRequest
from .attempt import CUT_OFF, Attempt, no_endpoint, over_budget
from .draft import unwrapped

if TYPE_CHECKING:
    from ...tools.models.transport import Listener

REQUESTS_MAX = 12
"""Requests of one planning, including retries of the transport."""

TIMEOUTS_A_PLANNING = 10
"""A planning may take this many times the timeout of a request, including pauses."""

ONCE = RetryPolicy(tries_max=1)
"""Small questions beside the plan are asked once: planning goes on without an answer, and may need the requests."""

REFUSAL_CHARACTERS_MAX = 500
"""Characters of a refusal that are shown."""

T = TypeVar("T")

Reading: TypeAlias = "tuple[Plan | None, tuple[Problem, ...]]"
"""A plan, if there is one, and its problems."""


@dataclass(slots=True)
class PlanningBudget:
    """The limits of a planning and its usage, by name: `model_calls`, `tokens`, `usd` and `seconds`.

    A request is not sent if a request as large as the largest so far would pass a limit. The size of the first request is unknown.

    Attributes:
        limits: Name -> limit; a missing name has no limit.
        on_usage: Is called with the usage of each answered request.
    """

    limits: Mapping[str, float] = field(default_factory=dict[str, float])
    on_usage: Callable[[Usage], None] | None = None
    _used: dict[str, float] = field(default_factory=dict[str, float])
    _largest: dict[str, float] = field(default_factory=dict[str, float])
    _started: float = field(default_factory=monotonic)

    @property
    def seconds_left(self) -> float:
        """Seconds until the limit; infinity without a limit."""
        return self.limits.get("seconds", inf) - (monotonic() - self._started)

    def find_exhausted(self) -> str | None:
        """Return the limit that another request would pass; `None`: the request may be sent."""
        if self.seconds_left <= 0:
            return "seconds"
        for name in ("model_calls", "tokens", "usd"):
            limit, used = self.limits.get(name), self._used.get(name, 0.0)
            # The largest request so far stands for the next one, whose size nobody knows. A first request is
            # always sent.
            if limit is not None and (used >= limit or used + self._largest.get(name, 0.0) > limit):
                return name
        return None

    def add(self, usage: Usage) -> None:
        """Record the usage of a request."""
        amounts = {
            "model_calls": float(usage.requests),
            "tokens": float(usage.prompt_tokens + usage.completion_tokens),
            "usd": usage.usd or 0.0,
        }
        for name, amount in amounts.items():
            self._used[name] = self._used.get(name, 0.0) + amount
            # Per request and not on average: a planning must not pass a limit by much.
            self._largest[name] = max(self._largest.get(name, 0.0), amount)
        if self.on_usage is not None:
            self.on_usage(usage)


@dataclass(frozen=True, slots=True)
class SideAnswer:
    """The answer to a small question beside the plan.

    Attributes:
        value: The answer as JSON; `None` if there is none.
        fault: Why there is none: an error, a refusal, prose.
        completion: The model's words; `None`: the model could not be asked.
    """

    value: Json = None
    fault: str | None = None
    completion: Completion | None = None

    @classmethod
    def of(cls, completion: Completion) -> SideAnswer:
        """Return the answer in a model's words."""
        match completion.outcome:
            case Answered(value):
                return cls(value, None, completion)
            case TruncatedAnswer():
                fault = CUT_OFF
            case Invalid(reason):
                fault = reason
            case Refused(text):
                fault = _refusal(text)
        return cls(None, fault, completion)

    @property
    def plan(self) -> Completion | None:
        """The model's words, if they are a complete plan instead of an answer."""
        is_plan = isinstance(self.value, dict) and "steps" in unwrapped(self.value)
        return self.completion if is_plan else None

    def attempt(
        self, number: int, source: str, approach: str, fault: str | None, plan: Plan | None = None
    ) -> Attempt:
        """Return the answer as an attempt of the planning.

        Args:
            number: Its number.
            source: What the question was about.
            approach: What was asked for.
            fault: Why the answer is of no use; `None`: it is.
            plan: The plan that the answer makes.
        """
        text, usage = (
            ("", Usage()) if self.completion is None else (self.completion.raw, self.completion.usage)
        )
        return Attempt(number, text, plan, (), usage, fault, source, approach)


@dataclass(slots=True)
class Conversation:
    """The conversation of one planning.

    Attributes:
        attempts: All attempts so far, including saved plans that matched but could not be used.
        approach: The approach of an attempt that brings nothing: `"draft"` or `"patch"`.
        small: The model for small questions beside the plan; `None`: the same model.
        is_reachable: Whether the model for small questions could be asked so far.
        budget: The limits of the caller.
        fallbacks: Who is asked if the model cannot answer; who answered goes on.
        temperature: Of every request; `None`: the endpoint's own.
        requests: The limits of every planning: number of requests, and seconds.
    """

    request: PlanRequest
    endpoint: Endpoint
    clients: Clients
    timeout_s: float
    attempts: list[Attempt] = field(default_factory=list[Attempt])
    approach: str = "draft"
    small: Endpoint | None = None
    is_reachable: bool = True
    budget: PlanningBudget = field(default_factory=PlanningBudget)
    fallbacks: tuple[Endpoint, ...] = ()
    temperature: float | None = None
    requests: RequestBudget = field(init=False)

    def __post_init__(self) -> None:
        self.requests = RequestBudget(REQUESTS_MAX, self._seconds)

    @property
    def _seconds(self) -> float:
        return self.timeout_s * TIMEOUTS_A_PLANNING

    @property
    def number(self) -> int:
        """The number of the next attempt, from 1."""
        return len(self.attempts) + 1

    async def within(self, work: Awaitable[T]) -> T:
        """Return the result of the planning's work. Raises: PlanningFailed: its time is over."""
        # Two clocks run: the caller's limit, whose end is a fault of the budget, and the planner's own, whose end
        # is a fault of the model.
        left = self.budget.seconds_left
        try:
            async with asyncio.timeout(max(0.0, min(self._seconds, left))):
                return await work
        except TimeoutError as over:
            if left < self._seconds:
                raise over_budget(self.request.task, "seconds", self.attempts) from over
            fault = ModelError(f"planning took longer than {self._seconds:g} s", code="limit-exceeded")
            raise self._ended(fault) from over

    async def ask(
        self, messages: Sequence[Message], answer: AnswerForm, listener: Listener | None = None
    ) -> Completion:
        """Return the model's words.

        Args:
            messages: All messages of the request.
            answer: The form of the answer.
            listener: Hears the words while they are written.

        Raises:
            PlanningFailed: The model could not be asked, or it declines.
        """
        try:
            completion = await self._send_to_first(messages, answer, listener)
        except ModelError as error:
            raise self._ended(error) from error
        if isinstance(completion.outcome, Refused):
            raise self._ended(ModelError(_refusal(completion.outcome.text), code="refused"), completion)
        return completion

    async def ask_aside(
        self, messages: Sequence[Message], answer: AnswerForm, listener: Listener | None = None
    ) -> SideAnswer:
        """Return the answer to a small question beside the plan; no failure of it ends the planning, except a budget that is used up.

        If the model could not be asked, `is_reachable` becomes false: further small questions would only use up the requests.

        Args:
            messages: The question.
            answer: The form of the answer.
            listener: Hears the words while they are written.

        Raises:
            PlanningFailed: The question would pass a limit of the budget.
        """
        try:
            return SideAnswer.of(await self._send(messages, answer, listener, ONCE, self.small))
        except ModelError as error:
            # A model for small questions that cannot be reached is not asked again: each try would take a request
            # from the plan.
            self.is_reachable = False
            return SideAnswer(fault=str(error))

    async def _send_to_first(
        self, messages: Sequence[Message], answer: AnswerForm, listener: Listener | None
    ) -> Completion:
        """Send a request to the model, or to the first fallback that can answer, which is asked from then on."""
        while True:
            try:
                return await self._send(messages, answer, listener)
            except ModelError as error:
                if error.code not in ELSEWHERE or not self.fallbacks:
                    raise
                self.endpoint, *rest = self.fallbacks
                self.fallbacks = tuple(rest)

    async def _send(
        self,
        messages: Sequence[Message],
        answer: AnswerForm,
        listener: Listener | None,
        policy: RetryPolicy | None = None,
        endpoint: Endpoint | None = None,
    ) -> Completion:
        if (limit := self.budget.find_exhausted()) is not None:
            raise over_budget(self.request.task, limit, self.attempts)
        call = ModelCall(
            endpoint or self.endpoint,
            tuple(messages),
            answer,
            self.timeout_s,
            self.temperature,
            listener=listener,
        )
        completion = await complete_within(self.requests, call, self.clients, policy)
        # Only an answered request is known to have cost something.
        self.budget.add(completion.usage)
        return completion

    async def judge(
        self, completion: Completion, approach: str, read: Callable[[Json], Awaitable[Reading]]
    ) -> Attempt:
        """Return an answer as an attempt of the planning, and record it.

        Args:
            completion: The model's words.
            approach: What was asked for.
            read: Returns the plan in an answer, if there is one, and its problems.
        """
        plan: Plan | None = None
        problems: tuple[Problem, ...] = ()
        error = None
        match completion.outcome:
            case Answered(value):
                plan, problems = await read(value)
            case Invalid(fault):
                error = fault
            case TruncatedAnswer():
                error = f"{CUT_OFF}: make the {'patch' if approach == 'patch' else 'plan'} shorter"
            case Refused():
                raise AssertionError("refusals end the conversation")
        attempt = Attempt(
            self.number, completion.raw, plan, problems, completion.usage, error, approach=approach
        )
        self.attempts.append(attempt)
        return attempt

    def _ended(self, fault: ModelError, completion: Completion | None = None) -> PlanningFailed:
        """Return the failure of a planning whose model gave no answer, after recording it as an attempt."""
        raw, usage = ("", Usage()) if completion is None else (completion.raw, completion.usage)
        self.attempts.append(Attempt(self.number, raw, usage=usage, error=str(fault), approach=self.approach))
        nearest = nearest_tasks(self.request.task, self.request.saved)
        return no_endpoint(self.request.task, fault, nearest, self.attempts)


def _refusal(text: str) -> str:
    return f"the model declined to answer: {text[:REFUSAL_CHARACTERS_MAX]}"
