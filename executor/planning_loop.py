"""The loop of a `plan_for` step: what the planner is asked, and what becomes of its answer.

A `plan_for` step is a small loop inside one iteration, as that of an agent (`agent_loop.py`): `plan0` asks the planner, `run` runs the sub-plan that
it made, and between them `ask0` asks a person if the planner has a question; then `plan1` asks the planner again, with the answer. Each of them is
a step of its own with a path (`rest/plan0`, `rest/run/pay`). The sub-plan is the value of `plan0` and stands in the journal, so that a replay, a
resume, a fork and a retry run the same sub-plan and ask no model. This module holds state and answers questions; the machine moves the steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final, cast

from ..plans.immutable import immutable, record
from ..plans.program.program import QUESTION, AskPerson, AskPlanner, Program, RunPlanned, RunSubPlan, StepCode
from ..plans.types.validate import value_problems
from ..plans.values import Json
from .agent_loop import constant
from .execution_tree import Failure

PLAN: Final = "plan"  # the key, in the value of a planning, of the sub-plan
EXPRESSIONS: Final = "expressions"  # and of the version of the expression language in which it was checked
ASKED: Final = "question"  # and of the planner's question in the place of a plan: `text returns`
RUN: Final = "run"  # id of the step that runs the sub-plan


@immutable
class SubPlanned:
    """The value of a planning: a sub-plan."""

    plan: Mapping[str, Any]
    language: int


@immutable
class SubQuestion:
    """The value of a planning: a question in the place of a plan."""

    text: str
    returns: Mapping[str, Json]


@record
class PlanningLoop:
    """The progress of one `plan_for` step.

    Attributes:
        given: The values that it is given.
        retries: Further plannings after a failed one, as the step says.
        timeout_s: Limit of one planning, as the step says.
        answers: The planner's questions so far, each with the answer.
        asked: The last question.
    """

    planned: RunPlanned
    given: Mapping[str, Json]
    retries: int | None = None
    timeout_s: float | None = None
    answers: list[Json] = field(default_factory=list[Json])
    asked: SubQuestion | None = None

    def ask_planner(self) -> StepCode:
        """Return the next question to the planner, as a step."""
        planned = self.planned
        request: dict[str, Json] = {
            "task": planned.words,
            "given": dict(self.given),
            "tools": list(planned.tools),
            "max_steps": planned.steps_max,
            "returns": dict(planned.returns),
        }
        if self.answers:
            request["answers"] = list(self.answers)
        action = AskPlanner(request, planned.hidden)
        id_ = f"plan{len(self.answers)}"
        return StepCode(position=0, id=id_, action=action, retries=self.retries, timeout_s=self.timeout_s)

    def read(self, value: Json) -> SubPlanned | SubQuestion:
        """Return what the planner said."""
        said = cast("dict[str, Any]", value)
        if ASKED in said:
            self.asked = SubQuestion(said[ASKED]["text"], said[ASKED]["returns"])
            return self.asked
        return SubPlanned(said[PLAN], said[EXPRESSIONS])

    def ask_person(self, question: SubQuestion) -> StepCode:
        """Return the planner's question, as a step that asks a person."""
        shown = constant({QUESTION: question.text})
        # A planner that has read untrusted data may have its question from there.
        tainted = (QUESTION,) if self.planned.is_tainted else ()
        return StepCode(
            position=0,
            id=f"ask{len(self.answers)}",
            action=AskPerson(shown, question.returns, is_question=True),
            tainted=tainted,
        )

    def note_answer(self, answer: Json) -> None:
        """Keep the answer to the last question for the next planning."""
        assert self.asked is not None
        self.answers.append([self.asked.text, answer])

    def run(self, program: Program) -> StepCode:
        """Return the sub-plan as a step that runs it."""
        return StepCode(position=0, id=RUN, action=RunSubPlan(program, self.given))

    def find_misfit(self, output: Json) -> Failure | None:
        """Return the failure if the output of the sub-plan does not fit `returns`."""
        # The planner was held to the type, but a value of unknown type may turn out to be of another one.
        faults = value_problems(output, self.planned.returns)
        if not faults:
            return None
        told = "; ".join(
            f"{fault.inner}: {fault.message}" if fault.inner else fault.message for fault in faults
        )
        return Failure(
            "bad-output", f"the output of the sub-plan does not fit the schema in `returns`: {told}"
        )
