"""The conversation that gets a plan out of a model: draft, check, faults sent back, at most so many times.

Every draft is checked by the same check as every other plan. What it found goes back with places and hints; only the
last draft is shown again, so that the conversation does not grow. All requests, retries of the transport and waits
included, come out of one allowance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import PlanningFailed
from ..plans.inputs import fit_inputs
from ..plans.paths import parts_of
from ..plans.plan import Plan
from ..plans.problems import CheckReport, Problem, problem
from ..plans.shape import draft_of
from ..plans.values import Json
from ..tools.allowance import Allowance
from ..tools.clients import Clients
from ..tools.completion import Answered, Call, CutShort, Message, Refused, Turn, Unfit, complete_within
from ..tools.endpoint import Endpoint
from ..tools.outage import ModelError
from .attempt import Attempt
from .choice import choose_tools
from .draft import ANSWER, plan_in
from .failure import no_endpoint, no_good_draft
from .library import nearest_tasks
from .order import Order
from .prompt import given_schemas, planning_messages, repair_messages, unread_messages

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
        opening = planning_messages(
            self.order.task, choose_tools(self.order.task, self.order.tools), self.order.inputs
        )
        messages = opening
        for _ in range(self.max_repairs + 1):
            turn = await self._ask(messages)
            attempt, plea = self._judge(turn)
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

    def _judge(self, turn: Turn) -> tuple[Attempt, tuple[Message, ...]]:
        """Return what a turn amounts to, and the messages to send if that is not enough."""
        number = len(self.attempts) + 1
        match turn.outcome:
            case Answered(value):
                draft = plan_in(value, self.order.task)
                plan, report = self._checked(draft)
                attempt = Attempt(number, turn.raw, plan, report.problems, turn.usage)
                return attempt, repair_messages(turn.raw, report.errors)
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
        undeclared = input_faults(plan, self.order.inputs)
        return plan, CheckReport(
            (*report.errors, *undeclared, *report.warnings), report.bounds, report.inferred
        )


def input_faults(plan: Plan, given: Mapping[str, Json]) -> tuple[Problem, ...]:
    """Return what keeps given inputs from being the plan's: not declared, or of another type.

    An input that is not given is no fault here: whoever runs the plan may give it then.
    """
    undeclared = [
        problem(
            "bad-input",
            "$.inputs",
            f"expected the given input '{name}' under `inputs`, found no such input",
            f"declare it as {schema}",
        )
        for name, schema in given_schemas(given).items()
        if name not in plan.inputs
    ]
    declared = {name: value for name, value in given.items() if name in plan.inputs}
    _, problems = fit_inputs(plan, declared)
    return (*undeclared, *(each for each in problems if not is_missing(each, declared)))


def is_missing(fault: Problem, given: Mapping[str, Json]) -> bool:
    """Whether a fault of a plan's inputs is that one was not given."""
    match parts_of(fault.path):
        case ["inputs", str(name), *_]:
            return name not in given
        case _:
            return False
