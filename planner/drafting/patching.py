"""Re-planning: a typed patch for the rest of a plan whose run failed, checked before it is applied.

The model is shown a report of the failure (`failure_report.py`). A patch may not touch finished work: steps that succeeded keep their
place, their words and their results, and a write that happened, or may have happened, is not made again under another id. The patched plan
passes the same check as every plan. The bounds are those of a planning.

A model that was shown untrusted text (`Planner(untrusted_text=True)`) may write it down. So what it changes counts as untrusted data, in the check
of the patch and in the run of the patched plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from ...errors import Cannot, PlanningFailed, PlanRejected, Question
from ...plans.edit.patch import Patch, SetLeftOut, apply_patch
from ...plans.plan import AgentStep, Plan, PlanForStep, PlanStep, Step, ToolStep
from ...plans.reports.paths import path_of
from ...plans.reports.problems import CheckReport, Problem, problem
from ...plans.signature import Effect
from ...plans.values import Json, canonical
from ...tools.models.answer import AnswerForm
from ...tools.models.completion import Answered, Completion, Usage
from ..request import PlanRequest
from .attempt import Attempt, no_good_draft
from .conversation import Conversation, Reading
from .draft import parsed, plan_in, unwrapped
from .failure_report import FailureReport
from .left_out import WritesSoFar
from .outcomes import ended_by, no_plan_in, outcome_in
from .prompt import patch_messages, repair_messages, unread_messages
from .tool_choice import choose_tools, widened_tools

_OBJECT: Json = {"type": "object", "additionalProperties": True}
_TEXT: Json = {"type": "string"}
_OPERATIONS = ("replace", "add", "remove", "set", "unset", "output", "input", "type", "left_out")
_SHOWN_SCHEMA: dict[str, Json] = {
    "type": "object",
    "properties": {
        "reasoning": {"type": "string", "description": "What went wrong, and what can be done instead."},
        "operations": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "op": {"enum": list(_OPERATIONS)},
                    "step": {},
                    "with": _OBJECT,
                    "at": _TEXT,
                    "value": {},
                    "before": _TEXT,
                    "after": _TEXT,
                    "name": _TEXT,
                    "schema": _OBJECT,
                },
                "required": ["op"],
            },
        },
    },
    "required": ["operations"],
}
ANSWER = AnswerForm(
    {"type": "object"}, name="patch", purpose="Operations that mend the plan.", shown_schema=_SHOWN_SCHEMA
)
_ABOUT_FAILURE = ("why", "retries", "timeout", "on_error", "after")
_ASKED = problem(
    "bad-shape",
    "$",
    "expected operations, found a question",
    "ask it with an `ask_person` step before the step that needs the answer",
)
_NO_WAY = "the model sees no way to repair the plan"


@dataclass(frozen=True, slots=True)
class Mended:
    """A patch that passed its check.

    Attributes:
        plan: The patched plan.
        attempts: All attempts; the last of them is this patch.
        shows_untrusted: Whether the model was shown untrusted text, so that what it changed counts as untrusted data.
    """

    patch: Patch
    plan: Plan
    attempts: tuple[Attempt, ...]
    usage: Usage
    shows_untrusted: bool = False


@dataclass(slots=True)
class PatchDrafting:
    """The patches that a model proposes for one failed run.

    Attributes:
        patch: The patch in the last answer; `None`: there is none.
        is_last: Whether the patch is the last that may be asked for.
        writes: The writes of the plan that failed, so that no patch drops one in silence.
    """

    failure_report: FailureReport
    conversation: Conversation
    max_repairs: int
    patch: Patch | None = None
    is_last: bool = False
    writes: WritesSoFar = field(init=False)

    def __post_init__(self) -> None:
        self.writes = WritesSoFar(self.request.tools)
        self.writes.note(self.failure_report.plan.to_dict())

    @property
    def request(self) -> PlanRequest:
        """The task, the tools and the check of the patched plan."""
        return self.conversation.request

    async def run(self) -> Mended:
        """Return the first patch that passes its check.

        Raises:
            PlanningFailed: No patch passed, or the model sees no way; the error carries every attempt.
        """
        attempts = self.conversation.attempts
        by_words = choose_tools(self.request.task, self.request.tools)
        shown = widened_tools(
            self.request.task, self.request.tools, by_words, self.failure_report.plan.to_dict()
        )
        messages = opening = patch_messages(self.failure_report.parts(), shown)
        for number in range(self.max_repairs + 1):
            self.is_last = number == self.max_repairs
            completion = await self.conversation.ask(messages, ANSWER)
            self._expect_patch(completion)
            patch, attempt = await self._judge(completion)
            if patch is not None and not patch.operations:
                raise PlanningFailed(_NO_WAY, attempts)
            if patch is not None and attempt.ok and attempt.plan is not None:
                usage = sum((each.usage for each in attempts), Usage())
                return Mended(
                    patch, attempt.plan, tuple(attempts), usage, self.failure_report.shows_untrusted
                )
            unseen = [tool for tool in self.request.tools if tool not in shown]
            plea = (
                unread_messages("" if attempt.is_cut else attempt.text, attempt.error, "patch")
                if attempt.error is not None
                else repair_messages(
                    attempt.text,
                    attempt.faults,
                    unseen,
                    "repatch",
                    has_provided=self.request.has_provided,
                )
            )
            messages = (*opening, *plea)
        raise no_good_draft(self.request.task, attempts)

    def _expect_patch(self, completion: Completion) -> None:
        """Raise `PlanningFailed` if the model says that the task cannot be done."""
        said = outcome_in(completion.outcome.value) if isinstance(completion.outcome, Answered) else None
        if isinstance(said, Cannot):
            attempts = self.conversation.attempts
            attempts.append(no_plan_in(completion, said, self.conversation.number, "patch"))
            raise ended_by(self.request.task, said, attempts, 0)

    async def _judge(self, completion: Completion) -> tuple[Patch | None, Attempt]:
        """Return the patch in an answer, if there is one, and the answer as an attempt."""
        self.patch = None
        attempt = await self.conversation.judge(completion, "patch", self._read)
        return self.patch, attempt

    async def _read(self, value: Json) -> Reading:
        """Return the patched plan that an answer makes, and its problems; keep the patch."""
        try:
            patch = await self._patch_in(value)
            plan = apply_patch(self.failure_report.plan, patch) if patch.operations else None
        except PlanRejected as rejected:
            return None, rejected.report.problems
        self.patch = patch
        if plan is None:
            return None, ()
        settled, dropped = self.writes.settle(plan.to_dict(), may_ask=not self.is_last)
        if settled != plan.to_dict():
            said = cast("dict[str, Json]", settled)["left_out"]
            operation = SetLeftOut.model_validate({"value": said})
            self.patch = Patch(operations=(*patch.operations, operation))
            plan = apply_patch(self.failure_report.plan, self.patch)
        report = await self.request.check(plan, self._written(plan))
        return plan, (*dropped, *self.broken_rules(plan), *report.problems)

    def _written(self, plan: Plan) -> tuple[str, ...]:
        """Return the ids of the steps that the patch adds or changes, if its author was shown untrusted text."""
        if not self.failure_report.shows_untrusted:
            return ()
        old = {step.id: _canonical_step(step) for step in self.failure_report.plan.steps}
        return tuple(step.id for step in plan.steps if old.get(step.id) != _canonical_step(step))

    async def _patch_in(self, value: Json) -> Patch:
        """Return the patch in an answer; a complete plan in answer is read as its difference from the plan. Raises: PlanRejected."""
        if isinstance(outcome_in(value), Question):
            raise PlanRejected(CheckReport((_ASKED,)))
        if isinstance(value, dict):
            whole = unwrapped(value)
            # Models write a plan as easily as a patch. Its difference from the old plan is a patch, and passes
            # the same rules.
            if "operations" not in value and "steps" in whole:
                plan = plan_in(value, self.request.task, self.failure_report.plan.returns)
                report = await self.request.check(plan)
                if not report.ok:
                    raise PlanRejected(report)
                return self.failure_report.plan.diff(Plan.model_validate(plan)).to_patch()
            operations = parsed(value.get("operations"))
            return Patch.of(operations if isinstance(operations, list) else {"operations": operations})
        raise PlanRejected(
            CheckReport((problem("bad-shape", "$", 'expected {"operations": [..]}, found something else'),))
        )

    def broken_rules(self, plan: Plan) -> tuple[Problem, ...]:
        """Return where a patched plan changes finished work, or would repeat a write."""
        old = {step.id: step for step in self.failure_report.plan.steps}
        new = {step.id: step for step in plan.steps}
        finished = self.failure_report.finished
        problems: list[Problem] = []
        for id_ in finished:
            if id_ not in new or _canonical_step(new[id_]) != _canonical_step(old[id_]):
                state = self.failure_report.state(id_).status
                change = "removed" if id_ not in new else "changed"
                text = f"step '{id_}' has {state} and must stay as it is, found it {change}"
                problems.append(problem("bad-shape", "$.steps", text, "leave it as it was, and refer to it"))
        # A step that has written for some of its items goes on with the rest; with other arguments it would write
        # twice for the same items.
        begun = [id_ for id_ in self.failure_report.begun if self._may_write(old[id_])]
        for id_ in begun:
            if id_ not in new or self._work(new[id_], plan) != self._work(old[id_], self.failure_report.plan):
                text = f"step '{id_}' has done some of its writes, and must go on as it began"
                hint = "change 'retries', 'timeout' or 'on_error' only"
                problems.append(problem("unsafe-retry", "$.steps", text, hint))
        writes = [old[id_] for id_ in (*finished, *begun) if self._may_write(old[id_])]
        if self.failure_report.shows_untrusted and plan.plans != self.failure_report.plan.plans:
            text = "expected the inner plans as they were, since untrusted text was shown; found them changed"
            problems.append(problem("unsafe-flow", "$.plans", text, "change steps instead"))
        return (*problems, *_repeated(writes, old, plan))

    def _may_write(self, step: Step) -> bool:
        """Whether a step may change the world: it calls a write, an unknown tool, an inner plan, an agent or a planner."""
        if not isinstance(step, ToolStep):
            return isinstance(step, PlanStep | AgentStep | PlanForStep)
        # A tool that is gone may have been a write, so that the careful answer is yes.
        tool = self.request.tools.find(step.tool)
        return tool is None or tool.effect is Effect.WRITE

    @staticmethod
    def _work(step: Step, plan: Plan) -> bytes:
        """Return the work of a step, with the inner plan that it runs, and without the handling of its failures."""
        given = step.model_dump(mode="json", exclude_unset=True)
        inner = plan.plans.get(step.plan) if isinstance(step, PlanStep) else None
        # Retries and timeouts decide how often a call is made and not what it does, so that a patch may change
        # them.
        work = {key: part for key, part in given.items() if key not in _ABOUT_FAILURE}
        return canonical([work, None if inner is None else inner.model_dump(mode="json", exclude_unset=True)])


def _canonical_step(step: Step) -> bytes:
    """Return all of a step that decides what happens."""
    return canonical(
        {key: part for key, part in step.model_dump(mode="json", exclude_unset=True).items() if key != "why"}
    )


def _repeated(writes: Sequence[Step], old: Mapping[str, Step], plan: Plan) -> list[Problem]:
    """Return the places where a patched plan repeats a write.

    Only steps that the patch adds, or whose call it changes, are checked: if the plan itself makes one write twice, for example for two
    lists of people, both writes were intended and stay.

    Args:
        writes: Steps whose writes are done or may be done.
        old: Steps of the plan that ran, by their ids.
        plan: The patched plan.
    """
    problems: list[Problem] = []
    for index, step in enumerate(plan.steps):
        before = old.get(step.id)
        if before is not None and _calls(before) == _calls(step):
            continue
        # A step that made this call for some items may make it for further items, but not for the items that are done.
        same = _calls if before is not None and _call(before) == _call(step) else _call
        done = next((each for each in writes if each.id != step.id and same(each) == same(step)), None)
        if done is not None:
            text = f"step '{step.id}' makes the write of step '{done.id}' again, which is done or may be done"
            path = path_of(("steps", index))
            problems.append(problem("unsafe-retry", path, text, f"remove '{step.id}'"))
    return problems


def _calls(step: Step) -> bytes:
    """Return the call that a step makes, with the items for which it is made."""
    given = step.model_dump(mode="json", include={"for_each"})
    return canonical([_call(step).decode(), given])


def _call(step: Step) -> bytes:
    """Return the call that a step makes; two steps that make the same call give the same bytes, whatever their ids."""
    match step:
        case ToolStep():
            return canonical([step.tool, step.args])
        case PlanStep():
            return canonical(["plan", step.plan, step.args])
        case _:
            # Other steps write by what they reach and not by their arguments, so that only the same step is the
            # same call.
            return canonical([step.id])
