"""The conversation that gets a plan out of a model: draft, check, faults sent back, at most so many times.

Every draft is checked by the same check as every other plan. What it found goes back with places and hints, by the approach
that is due (see `approach.py`); only the last draft is shown again, so that the conversation does not grow.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from ...plans.format.shape import draft_of
from ...plans.plan import Plan
from ...plans.problems import CheckReport
from ...plans.values import Json
from ...tools.models.answer import Answer
from ...tools.models.completion import Answered, Completion, Invalid, Message, Refused, Truncated
from ...tools.tool import Tool
from ..given import given_faults
from ..order import Order
from ..saved import SavedPlan
from .approach import Course
from .attempt import Attempt
from .changes import Changes, steps_alone
from .choice import choose_tools, widened
from .choosing import CHOOSE_OVER, Chosen, choose
from .conversation import Conversation
from .draft import plan_in
from .ear import Ear, Heard
from .failure import no_good_draft
from .form import changes_answer, plan_answer
from .nearest import nearest_plans
from .prompt import Plea, planning_messages, repair_messages, unread_messages


@dataclass(frozen=True, slots=True)
class _Ask:
    """One request: what is said, what is wanted, and by which approach."""

    messages: tuple[Message, ...]
    answer: Answer
    approach: str = "draft"


@dataclass(slots=True)
class Drafting:
    """One conversation.

    Attributes:
        draft: The last one, as JSON; `None` where there was none yet.
        shown: The tools that the model is shown.
        examples: The saved plans that it is shown.
        course: How often faults came back.
        first: What the model wrote when it was asked for something less: taken as the first draft.
        choose_over: A toolset of more tools than this is chosen from by a question of its own; `None`: by words alone.
        heard: Is handed each longer beginning of a draft that passes its check, while it is written.
    """

    conversation: Conversation
    max_repairs: int
    draft: Json = None
    shown: list[Tool] = field(default_factory=list[Tool])
    examples: list[SavedPlan] = field(default_factory=list[SavedPlan])
    course: Course = field(default_factory=Course)
    first: Completion | None = None
    choose_over: int | None = CHOOSE_OVER
    heard: Heard | None = None

    @property
    def order(self) -> Order:
        """What is to be planned."""
        return self.conversation.order

    async def run(self) -> Plan:
        """Return the first plan that passes its check.

        Raises:
            PlanningFailed: None did; it carries every attempt.
        """
        chosen = (
            await choose(self.conversation, self.choose_over, self._listener())
            if self.first is None
            else Chosen(choose_tools(self.order.task, self.order.tools), self.first)
        )
        self.shown, turn, self.examples = chosen.shown, chosen.plan, nearest_plans(self.order)
        ask = _Ask(self._opening(), plan_answer(self.shown)[0])
        for _ in range(self.max_repairs + 1):
            attempt = self._judge(turn or await self._ask(ask), ask)
            turn = None
            self.conversation.attempts.append(attempt)
            if attempt.ok and attempt.plan is not None:
                return attempt.plan
            ask = self._next(ask, attempt)
            if self.course.is_spent:
                break
        raise no_good_draft(self.order.task, self.conversation.attempts)

    def _opening(self) -> tuple[Message, ...]:
        """Return what is said first, whatever was drafted before."""
        count = len(self.order.tools)
        return planning_messages(self.order.task, self.shown, self.order.inputs, self.examples, count)

    def _listener(self) -> Ear | None:
        return None if self.heard is None else Ear(self.order, self.heard, self.draft)

    async def _ask(self, ask: _Ask) -> Completion:
        """Send the conversation; return what the model said. Raises: PlanningFailed."""
        return await self.conversation.ask(ask.messages, ask.answer, self._listener())

    def _judge(self, turn: Completion, ask: _Ask) -> Attempt:
        """Return what a turn amounts to; the draft that it makes is kept."""
        number = self.conversation.number
        match turn.outcome:
            case Answered(value):
                self.draft, plan, report = self._best_reading(value, ask)
                return Attempt(number, turn.raw, plan, report.problems, turn.usage, approach=ask.approach)
            case Invalid() | Truncated() as unread:
                return self.conversation.unread(turn, unread, ask.approach)
            case Refused():
                raise AssertionError("refusals end the conversation")

    def _best_reading(self, value: Json, ask: _Ask) -> tuple[Json, Plan | None, CheckReport]:
        """Return the draft that an answer makes: a plan, or the last draft with the answer's changes.

        Where steps were asked for, a plan may be a whole one or those steps only: that with fewer faults is meant.
        """
        old, task = self.draft, self.order.task
        whole = plan_in(value, task)
        if ask.approach != "steps" or not isinstance(old, dict):
            return whole, *self._checked(whole)
        changes = Changes.read(value) or steps_alone(whole, old)
        if changes is not None:
            changed = changes.applied_to(old)
            return changed, *self._checked(changed)
        plan, report = self._checked(whole)
        partial = Changes.of_steps(whole)
        if report.ok or partial is None:
            return whole, plan, report
        changed = partial.applied_to(old)
        changed_plan, changed_report = self._checked(changed)
        if len(changed_report.errors) < len(report.errors):
            return changed, changed_plan, changed_report
        return whole, plan, report

    def _next(self, ask: _Ask, attempt: Attempt) -> _Ask:
        """Return what to ask after an attempt that did not do."""
        if attempt.error is not None:
            self.course = self.course.after([("", attempt.error)])
            said = "" if attempt.is_cut else attempt.text
            answer, _ = plan_answer(self.shown, simplest=self.course.stage > 1)
            approach = self.course.approach(None, ())
            return _Ask((*self._opening(), *unread_messages(said, attempt.error)), answer, approach)
        faults = attempt.faults
        self.course = self.course.after((fault.code, fault.message) for fault in faults)
        self.shown = widened(self.order.task, self.order.tools, self.shown, self.draft)
        approach = self.course.approach(self.draft, faults)
        unseen = [tool for tool in self.order.tools if tool not in self.shown]
        text = attempt.text if ask.approach != "steps" else _shown(self.draft)
        match approach:
            case "steps":
                plea: Plea = "mend"
                answer, _ = changes_answer(self.shown)
            case "whole" | "simple":
                plea = "anew" if self.course.stage else "repair"
                answer, _ = plan_answer(self.shown, simplest=approach == "simple")
        return _Ask((*self._opening(), *repair_messages(text, faults, unseen, plea)), answer, approach)

    def _checked(self, draft: Json) -> tuple[Plan | None, CheckReport]:
        """Return the plan in a draft, as far as it is one, and what is wrong with it."""
        report = self.order.check(draft)
        found = draft_of(draft)
        plan = found.plan if found.whole else None
        if plan is None:
            return None, report
        faults = (*report.errors, *given_faults(plan, self.order.inputs, complete=self.order.complete))
        return plan, CheckReport((*faults, *report.warnings), report.bounds, report.inferred)


def _shown(draft: Json) -> str:
    """Return a draft as it stands after changes, for the model to see its places."""
    return json.dumps(draft, ensure_ascii=False)
