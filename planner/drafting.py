"""The conversation that gets a plan out of a model: draft, check, faults sent back, at most so many times.

Every draft is checked by the same check as every other plan. What it found goes back with places and hints; only the
last draft is shown again, so that the conversation does not grow. All requests, retries of the transport and waits
included, come out of one allowance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import PlanningFailed
from ..plans.plan import Plan
from ..plans.problems import CheckReport
from ..plans.shape import draft_of
from ..plans.values import Json
from ..tools.allowance import Allowance
from ..tools.clients import Clients
from ..tools.completion import Answered, Call, CutShort, Message, Refused, Turn, Unfit, complete_within
from ..tools.endpoint import Endpoint
from ..tools.outage import ModelError
from ..tools.tool import Tool
from .attempt import Attempt
from .choice import choose_tools
from .draft import ANSWER, plan_in
from .failure import no_endpoint, no_good_draft
from .given import given_faults
from .library import nearest_tasks
from .order import Order
from .prompt import planning_messages, repair_messages, unread_messages

REQUESTS_MAX = 12
"""Requests of one planning, retries of the transport included."""

_CUT_OFF = "the answer was cut off before its end: make the plan shorter"


@dataclass(slots=True)
class Drafting:
    """One conversation.

    Attributes:
        attempts: What was tried so far, saved plans that fit but could not be used included.
    """

    order: Order
    endpoint: Endpoint
    clients: Clients
    timeout_s: float
    max_repairs: int
    allowance: Allowance
    attempts: list[Attempt] = field(default_factory=list[Attempt])

    async def run(self) -> Plan:
        """Return the first plan that passes its check.

        Raises:
            PlanningFailed: None did; it carries every attempt.
        """
        shown = choose_tools(self.order.task, self.order.tools)
        messages = opening = planning_messages(self.order.task, shown, self.order.inputs)
        for _ in range(self.max_repairs + 1):
            turn = await self._ask(messages)
            attempt, plea = self._judge(turn, shown)
            self.attempts.append(attempt)
            if attempt.ok and attempt.plan is not None:
                return attempt.plan
            messages = (*opening, *plea)
        raise no_good_draft(self.order.task, self.attempts)

    async def _ask(self, messages: tuple[Message, ...]) -> Turn:
        """Send the conversation; return what the model said. Raises: PlanningFailed."""
        call = Call(self.endpoint, messages, ANSWER, self.timeout_s)
        try:
            turn = await complete_within(self.allowance, call, self.clients)
        except ModelError as fault:
            raise self._ended(fault) from fault
        if isinstance(turn.outcome, Refused):
            words = f"the model declined to answer: {turn.outcome.text[:500]}"
            raise self._ended(ModelError(words, code="refused"), turn) from None
        return turn

    def _ended(self, fault: ModelError, turn: Turn | None = None) -> PlanningFailed:
        number = len(self.attempts) + 1
        attempt = (
            Attempt(number, error=str(fault))
            if turn is None
            else Attempt(number, turn.raw, usage=turn.usage, error=str(fault))
        )
        self.attempts.append(attempt)
        return no_endpoint(
            self.order.task, fault, nearest_tasks(self.order.task, self.order.saved), self.attempts
        )

    def _judge(self, turn: Turn, shown: Sequence[Tool]) -> tuple[Attempt, tuple[Message, ...]]:
        """Return what a turn amounts to, and the messages to send if that is not enough."""
        number = len(self.attempts) + 1
        match turn.outcome:
            case Answered(value):
                draft = plan_in(value, self.order.task)
                plan, report = self._checked(draft)
                attempt = Attempt(number, turn.raw, plan, report.problems, turn.usage)
                unseen = [tool for tool in self.order.tools if tool not in shown]
                return attempt, repair_messages(turn.raw, report.errors, unseen)
            case Unfit(fault):
                return Attempt(number, turn.raw, usage=turn.usage, error=fault), unread_messages(
                    turn.raw, fault
                )
            case CutShort():
                attempt = Attempt(number, turn.raw, usage=turn.usage, error=_CUT_OFF)
                return attempt, unread_messages("", _CUT_OFF)
            case Refused():
                raise AssertionError("refusals end the conversation")

    def _checked(self, draft: Json) -> tuple[Plan | None, CheckReport]:
        """Return the plan in a draft, as far as it is one, and what is wrong with it."""
        report = self.order.check(draft)
        found = draft_of(draft)
        plan = found.plan if found.whole else None
        if plan is None:
            return None, report
        faults = (*report.errors, *given_faults(plan, self.order.inputs, complete=self.order.complete))
        return plan, CheckReport((*faults, *report.warnings), report.bounds, report.inferred)
