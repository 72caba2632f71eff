"""The work that gets a plan out of a model: draft, check, and repair, a bounded number of times; and a preview of it.

Every draft passes the same check as every other plan. The faults go back to the model with their places and hints, by the repair strategy
that is due. Only the last draft is shown again, so that the conversation does not grow.

| repair strategy | the model is asked for | schema of the answer |
| --- | --- | --- |
| `steps` | the faulty steps only | changes |
| `whole` | the complete plan; if the same fault came back, a new plan written in another way | typed |
| `simple` | a new complete plan | the simplest |

A plan that passes its check, but with warnings that foretell a failure, is kept, and the model is asked once about these.

A fault that comes back moves on to the next strategy; after the last strategy the planning fails.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil
from typing import Literal, TypeAlias, cast

from ...errors import PlanningFailed
from ...plans.checker.inference import SKIPPED_OUTPUT
from ...plans.format.property_order import text_in_order
from ...plans.format.shape import draft_of
from ...plans.plan import Plan, ToolStep
from ...plans.reports.paths import parts_of
from ...plans.reports.problems import CheckReport, Problem
from ...plans.signature import Effect
from ...plans.values import Json, canonical
from ...tools.models.answer import AnswerForm
from ...tools.models.completion import Answered, Completion, Message
from ...tools.tool import Tool
from ...tools.toolset import Toolset
from ..library.library import SavedPlan
from ..request import CHOOSE_OVER, PlanRequest, input_faults
from .adapting import fit_question, nearest_plans
from .attempt import Attempt, no_good_draft
from .conversation import Conversation, Reading
from .draft import DraftChanges, can_change, plan_in
from .form import Form, changes_answer, plan_answer
from .left_out import WritesSoFar
from .outcomes import ended_by, no_plan_in, outcome_in
from .prompt import (
    Plea,
    choosing_messages,
    planning_messages,
    repair_messages,
    shows_ways,
    unread_messages,
)
from .streaming import PartialPlanHandler, PartialPlanListener
from .tool_choice import (
    ToolChoice,
    ask_for_tools,
    by_name,
    candidates,
    choice_answer,
    choose_tools,
    is_choice_due,
    shown_by_words,
    tools_in,
    widened_tools,
    with_writing_tools,
)

RepairStrategy: TypeAlias = Literal["steps", "whole", "simple"]

STEPS_MIN = 3
"""A plan of fewer steps is asked for in full: its steps are hardly more to write than the changes."""


@dataclass(frozen=True, slots=True)
class RepairState:
    """How often faults have come back, and the last faults.

    Attributes:
        stage: How often a fault has come back: 0 repairs steps if possible, 1 asks anew, 2 asks anew in the simplest schema, 3 gives up.
        faults: The faults of the last draft, each by its code and message.
    """

    stage: int = 0
    faults: frozenset[tuple[str, str]] = frozenset()

    def after(self, faults: Iterable[tuple[str, str]]) -> RepairState:
        """Return the state after a draft with these faults."""
        found = frozenset(faults)
        # The comparison is by code and message, without the place: a fault that moved with its step is the same
        # fault.
        return RepairState(min(3, self.stage + bool(found & self.faults)), found)

    @property
    def is_exhausted(self) -> bool:
        """Whether a fault came back even in answer to the last strategy."""
        return self.stage > 2

    def strategy(self, draft: Json, faults: Sequence[Problem]) -> RepairStrategy:
        """Return how to ask for the repair of a draft."""
        if self.stage:
            return "whole" if self.stage == 1 else "simple"
        return "steps" if _has_few_faulty_steps(draft, faults) else "whole"


def _has_few_faulty_steps(draft: Json, faults: Sequence[Problem]) -> bool:
    """Whether at most half of the steps are at fault, and every fault has a place that changes can repair."""
    if not isinstance(draft, dict) or not can_change(draft) or not faults:
        return False
    # A fault of the plan as a whole, such as a cycle, cannot be repaired in one step, so that no list of steps is
    # asked for.
    count = len(cast("list[Json]", draft["steps"]))
    faulty: set[int] = set()
    for fault in faults:
        match parts_of(fault.path):
            case ("steps", int(index), *_) if index < count:
                faulty.add(index)
            case ("inputs" | "types" | "output" | "left_out", *_):
                pass
            case _:
                return False
    return count >= STEPS_MIN and 2 * len(faulty) <= count


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One request to the model: the messages, the form of the answer, and the approach."""

    messages: tuple[Message, ...]
    answer: AnswerForm
    approach: str = "draft"


@dataclass(slots=True)
class Drafting:
    """The drafts of one planning.

    Attributes:
        draft: The last draft, as JSON; `None` before the first one.
        shown: The tools that the model is shown.
        examples: The saved plans that it is shown.
        repair: How often faults came back.
        is_last: Whether the draft is the last that may be asked for.
        writes: The writes of the drafts so far, so that none is dropped in silence.
        doubted: A plan that passed its check, while the model is asked about its warnings.
        is_warned: Whether the model was sent such warnings, which happens once.
        first: The model's answer to a small question, if it was a complete plan: it is taken as the first draft.
        choose_over: A small question chooses from a toolset of more tools than this; `None`: words alone choose.
        handler: Is called with each longer partial plan that passes its check, while the draft is written.
    """

    conversation: Conversation
    max_repairs: int
    draft: Json = None
    shown: list[Tool] = field(default_factory=list[Tool])
    examples: list[SavedPlan] = field(default_factory=list[SavedPlan])
    repair: RepairState = field(default_factory=RepairState)
    is_last: bool = False
    writes: WritesSoFar = field(init=False)
    first: Completion | None = None
    doubted: Plan | None = None
    is_warned: bool = False
    choose_over: int | None = CHOOSE_OVER
    handler: PartialPlanHandler | None = None

    def __post_init__(self) -> None:
        self.writes = WritesSoFar(self.request.tools)

    @property
    def request(self) -> PlanRequest:
        """The request of the planning."""
        return self.conversation.request

    async def run(self) -> Plan:
        """Return the first plan that passes its check.

        Raises:
            PlanningFailed: No draft passed; the error carries every attempt.
        """
        chosen = (
            await ask_for_tools(self.conversation, self.choose_over, self._listener())
            if self.first is None
            else ToolChoice(choose_tools(self.request.task, self.request.tools), self.first)
        )
        chosen = replace(
            chosen, shown=with_writing_tools(self.request.task, self.request.tools, chosen.shown)
        )
        # A model may answer the small question with a complete plan. Its draft is judged like any other, and
        # saves a request.
        self.shown, completion, self.examples = chosen.shown, chosen.draft, nearest_plans(self.request)
        ask = self._first_request()
        for number in range(self.max_repairs + 1):
            self.is_last = number == self.max_repairs
            try:
                answer = completion or await self._ask(ask)
            except PlanningFailed:
                if self.doubted is None:
                    raise
                return self.doubted
            # The first draft may come from a small question; every further one is asked for.
            completion = None
            if self.doubted is None:
                self._expect_plan(answer)
            attempt = await self.conversation.judge(
                answer, ask.approach, partial(self._read, approach=ask.approach)
            )
            if attempt.ok and attempt.plan is not None:
                doubts = foretold(attempt.plan, attempt.problems, self.request.tools)
                if not doubts or self.is_last or self.is_warned or not can_change(self.draft):
                    return attempt.plan
                # The plan stands, whatever comes of the question about its warnings.
                self.doubted, self.is_warned, ask = attempt.plan, True, self._about(doubts)
                continue
            if self.doubted is not None:
                return self.doubted
            ask = self._next(ask, attempt)
            if self.repair.is_exhausted:
                break
        raise no_good_draft(self.request.task, self.conversation.attempts, self._advice)

    def _expect_plan(self, answer: Completion) -> None:
        """Raise `PlanningFailed` if the model says something in the place of a plan."""
        said = outcome_in(answer.outcome.value) if isinstance(answer.outcome, Answered) else None
        if said is not None:
            conversation = self.conversation
            conversation.attempts.append(no_plan_in(answer, said, conversation.number))
            raise ended_by(
                self.request.task, said, conversation.attempts, len(self.request.answers), self._advice
            )

    def _opening(self) -> tuple[Message, ...]:
        """Return the messages that begin every request, whatever was drafted before."""
        return planning_messages(self.request, self.shown, self.examples)

    def _first_request(self) -> ModelRequest:
        return ModelRequest(self._opening(), plan_answer(self.shown)[0])

    @property
    def _advice(self) -> str | None:
        """What to do if there is no plan, beside what is said of every profile."""
        return None

    def _listener(self) -> PartialPlanListener | None:
        return None if self.handler is None else PartialPlanListener(self.request, self.handler, self.draft)

    async def _ask(self, ask: ModelRequest) -> Completion:
        """Return the model's answer to a request. Raises: PlanningFailed."""
        return await self.conversation.ask(ask.messages, ask.answer, self._listener())

    async def _read(self, value: Json, approach: str) -> Reading:
        """Return the plan that an answer makes, and its problems; keep the draft: a complete plan, or the last draft with changes."""
        draft = plan_in(value, self.request.task, self.request.returns)
        if approach == "steps" and isinstance(self.draft, dict):
            # A model that is asked for changes may still answer with a complete plan, or write the changed steps as a plan.
            changes = DraftChanges.read(value) or DraftChanges.of_some_steps(draft, self.draft)
            if changes is not None:
                draft = cast("Json", changes.applied_to(self.draft))
        self.draft, dropped = self.writes.settle(draft, may_ask=not self.is_last)
        self.writes.note(draft)
        plan, report = await self._checked(self.draft)
        return plan, (*dropped, *report.problems)

    def _about(self, doubts: Sequence[Problem]) -> ModelRequest:
        """Return the request that asks about the warnings of a plan that passes its check."""
        text = json.dumps(self.draft, ensure_ascii=False)
        again = repair_messages(text, doubts, plea="doubts", has_provided=self.request.has_provided)
        return ModelRequest((*self._opening(), *again), changes_answer(self.shown)[0], "steps")

    def _next(self, ask: ModelRequest, attempt: Attempt) -> ModelRequest:
        """Return the request that follows an attempt with faults."""
        if attempt.error is not None:
            # An answer that could not be read counts as a fault that comes back: prose twice in a row moves to
            # the next strategy.
            self.repair = self.repair.after([("", attempt.error)])
            # Half a plan would only make the conversation longer.
            said = "" if attempt.is_cut else attempt.text
            answer, _ = plan_answer(self.shown, simplest=self.repair.stage > 1)
            strategy = self.repair.strategy(None, ())
            return ModelRequest((*self._opening(), *unread_messages(said, attempt.error)), answer, strategy)
        faults = attempt.faults
        self.repair = self.repair.after((fault.code, fault.message) for fault in faults)
        # The draft named tools that were not shown, so the model knows more than it saw: it is shown them before
        # it repairs.
        self.shown = widened_tools(self.request.task, self.request.tools, self.shown, self.draft)
        strategy = self.repair.strategy(self.draft, faults)
        unseen = [tool for tool in self.request.tools if tool not in self.shown]
        # Faults have places in the draft with the changes, so the model is shown that draft and not its changes.
        text = attempt.text if ask.approach != "steps" else json.dumps(self.draft, ensure_ascii=False)
        if strategy == "steps":
            plea: Plea = "mend"
            answer, _ = changes_answer(self.shown)
        else:
            plea = "anew" if self.repair.stage else "repair"
            answer, _ = plan_answer(self.shown, simplest=strategy == "simple")
        # The ways around an unsafe flow stand in the opening if the tools' declarations call for them; other sources of untrusted data do not show there.
        has_ways = shows_ways(self.shown) or all(fault.code != "unsafe-flow" for fault in faults)
        # Warnings that foretell a failure go along, since the model writes the plan again in any case.
        doubts = () if attempt.plan is None else foretold(attempt.plan, attempt.problems, self.request.tools)
        self.is_warned = self.is_warned or bool(doubts)
        again = repair_messages(
            text,
            (*faults, *doubts),
            unseen,
            plea,
            has_ways=has_ways,
            has_provided=self.request.has_provided,
        )
        return ModelRequest((*self._opening(), *again), answer, strategy)

    async def _checked(self, draft: Json) -> tuple[Plan | None, CheckReport]:
        """Return the plan of a draft, if it has the shape of one, and its report, faults of the given inputs included."""
        report = await self.request.check(draft)
        found = draft_of(draft)
        plan = found.plan if found.whole else None
        if plan is None:
            return None, report
        faults = (
            *report.errors,
            *input_faults(plan, self.request.inputs, complete=self.request.complete),
        )
        # Faults of inputs count like faults of the check, so that the model hears of both at once and repairs
        # them in one answer.
        return plan, CheckReport((*faults, *report.warnings), report.bounds, report.inferred)


def foretold(plan: Plan, problems: Iterable[Problem], tools: Toolset) -> tuple[Problem, ...]:
    """Return the warnings of a plan that foretell a failure: a value that may be absent in an argument of a write, or in the output.

    Other warnings say that only the run can tell, or that something is not used: a model that is sent these changes what was right.

    Args:
        plan: The plan.
        problems: The problems that its check found.
        tools: The tools, which say what is a write.
    """
    return tuple(
        problem
        for problem in problems
        if problem.code == "maybe-missing"
        and not problem.message.startswith(SKIPPED_OUTPUT)
        and _foretells(plan, parts_of(problem.path), tools)
    )


def _foretells(plan: Plan, path: Sequence[str | int], tools: Toolset) -> bool:
    match path:
        case ("output", *_):
            return True
        case ("steps", int(index), "args", *_) if index < len(plan.steps):
            step = plan.steps[index]
            tool = tools.find(step.tool) if isinstance(step, ToolStep) else None
            return tool is not None and tool.effect is Effect.WRITE
        case _:
            return False


# --- preview


@dataclass(frozen=True, slots=True)
class SmallRequest:
    """A small request beside the plan that is not sent: its messages, and the JSON Schema of its answer."""

    messages: tuple[Message, ...]
    schema: dict[str, Json]

    @property
    def tokens(self) -> int:
        """About how many tokens messages and schema have."""
        return _tokens_of_all(self.messages) + tokens_of(canonical(self.schema).decode())

    def to_dict(self) -> dict[str, Json]:
        """Return the request as JSON."""
        return {
            "messages": [{**message.to_dict()} for message in self.messages],
            "schema": self.schema,
            "tokens": self.tokens,
        }


@dataclass(frozen=True, slots=True)
class Preview:
    """The first requests of a planning, which are not sent.

    Attributes:
        answered_by: The source of the saved plan that answers the task, so that nothing would be sent; else `None`.
        messages: The request for the plan. If a model would choose the tools first, it shows the tools that words choose.
        schema: The JSON Schema of the draft.
        form: How much the schema says about the tools: `typed`, `named` or `plain`.
        tools: Names of the tools shown.
        examples: Names of the saved plans shown.
        model: The model that would be asked, and its endpoint; `None`: none is configured.
        choice: The small request that would choose tools, if there are many.
        filling: The small request about the nearest saved plan, which would come first, if a saved plan is near.
    """

    answered_by: str | None
    messages: tuple[Message, ...]
    schema: dict[str, Json]
    form: Form
    tools: tuple[str, ...]
    examples: tuple[str, ...]
    model: str | None
    choice: SmallRequest | None = None
    filling: SmallRequest | None = None

    @property
    def prompt_tokens(self) -> int:
        """About how many tokens the messages have."""
        return _tokens_of_all(self.messages)

    @property
    def schema_tokens(self) -> int:
        """About how many tokens the schema has."""
        return tokens_of(canonical(self.schema).decode())

    def to_dict(self) -> dict[str, Json]:
        """Return the preview as JSON."""
        return {
            "answered_by": self.answered_by,
            "model": self.model,
            "filling": None if self.filling is None else self.filling.to_dict(),
            "choice": None if self.choice is None else self.choice.to_dict(),
            "messages": [{**message.to_dict()} for message in self.messages],
            "schema": self.schema,
            "form": self.form,
            "tools": list(self.tools),
            "examples": list(self.examples),
            "tokens": {"prompt": self.prompt_tokens, "schema": self.schema_tokens},
        }


def preview_of(
    request: PlanRequest, answered_by: str | None, model: str | None, *, adapts: bool, choose_over: int | None
) -> Preview:
    """Return the first requests of a planning.

    Args:
        request: The request of the planning.
        answered_by: The source of the saved plan that answers the task.
        model: The model that would be asked.
        adapts: Whether a small question about the nearest saved plan is asked.
        choose_over: A small question chooses from a toolset of more tools than this.
    """
    question = fit_question(request) if adapts else None
    filling = None if question is None else SmallRequest(question.messages, question.answer.wire_schema)
    choice = None
    if is_choice_due(request.task, request.tools, choose_over):
        listed = candidates(request.task, request.tools)
        choice = SmallRequest(choosing_messages(request.task, listed), choice_answer(listed).wire_schema)
    shown, examples = shown_by_words(request.task, request.tools, choose_over), nearest_plans(request)
    answer, form = plan_answer(shown)
    return Preview(
        answered_by,
        planning_messages(request, shown, examples),
        answer.wire_schema,
        form,
        tuple(tool.name for tool in shown),
        tuple(each.name for each in examples),
        model,
        choice,
        filling,
    )


def recorded_request(request: PlanRequest, plan: Plan) -> tuple[tuple[Message, ...], str]:
    """Return the request that asks for a plan which is known, and the plan as a model writes it: an example to learn from.

    The tools of the plan are shown beside those that the task's words choose. Saved plans are not shown: which ones were near is not known any more.

    Args:
        request: The request of the planning.
        plan: The plan that was accepted.
    """
    document = plan.to_dict()
    document.pop("task", None)
    by_words = shown_by_words(request.task, request.tools, CHOOSE_OVER)
    wanted = {*tools_in(document), *(tool.name for tool in by_words)}
    shown = by_name(tool for tool in request.tools if tool.name in wanted)
    return planning_messages(request, shown), text_in_order(document)


MESSAGE_TOKENS = 4
"""Tokens that an endpoint adds for each message."""

CHARACTERS_A_TOKEN = 4
"""Characters of English text, and of JSON, that common tokenisers put into one token."""


def _tokens_of_all(messages: tuple[Message, ...]) -> int:
    return sum(tokens_of(message.content) + MESSAGE_TOKENS for message in messages)


def tokens_of(text: str) -> int:
    """Return about how many tokens a text has.

    An estimate for people. A tokeniser would be exact for one family of models only, and is a download of some megabytes.
    """
    return ceil(len(text) / CHARACTERS_A_TOKEN)
