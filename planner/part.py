"""A part of a run that is planned while the run goes: the bounds of a sub-plan, and what its planner may see.

The plan of a part is checked like any plan, and held to the bounds of its step besides (`Part.problems`), so that a model hears of both at once.
This module does not know runs: what a sub-plan may do when it runs is decided again there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field, replace
from itertools import chain

from ..plans import check
from ..plans.checker.names import numbered
from ..plans.immutable import immutable
from ..plans.limits import Limits
from ..plans.plan import EndorseStep, Plan, PlanForStep, ToolStep
from ..plans.reports.problems import CheckReport, Problem, problem
from ..plans.values import Json
from ..tools.tool import Tool
from ..tools.toolset import Toolset

SHOWN_CHARACTERS_MAX = 8_000
"""Characters of one value that the model is shown: enough to see how it is made, and the plan has all of it."""
SHOWN_IN_ALL_MAX = 32_000
"""Characters of all values that the model is shown."""


@immutable
class Part:
    """The bounds of a sub-plan.

    Attributes:
        steps_max: The most steps, those of inner plans included.
        returns: JSON Schema of the output.
        shown: The given values that the model may see; of the others it sees types.
        untrusted: Those that it sees only if its planner is told to show untrusted text.
    """

    steps_max: int
    returns: Mapping[str, Json]
    shown: Mapping[str, Json] = field(default_factory=dict[str, Json])
    untrusted: Mapping[str, Json] = field(default_factory=dict[str, Json])

    def checked(self, report: CheckReport, plan: Plan | None, tools: Toolset, limits: Limits) -> CheckReport:
        """Return the report on a sub-plan with the problems that it has as a part.

        Args:
            report: The report of the check.
            plan: The sub-plan; `None`: it has not the shape of a plan.
            tools: The tools that it may use.
            limits: The limits of the check.
        """
        if plan is None:
            return report
        found = [*self._bound_problems(plan), *self._output_problems(plan, tools, limits)]
        known = {(each.code, each.path) for each in report.problems}
        new = [each for each in found if (each.code, each.path) not in known]
        return replace(report, problems=(*report.problems, *new)) if new else report

    def _bound_problems(self, plan: Plan) -> Iterator[Problem]:
        steps = list(chain(plan.steps, *(inner.steps for inner in plan.plans.values())))
        if len(steps) > self.steps_max:
            message = f"with those of its inner plans the plan has {len(steps)} steps: expected at most {self.steps_max}"
            yield problem("limit-exceeded", "$.steps", message, "do it in fewer steps, or only a part of it")
        bodies = [("$", plan.steps), *((f"$.plans.{name}", each.steps) for name, each in plan.plans.items())]
        for where, body in bodies:
            for position, step in enumerate(body):
                kind = "plan_for" if isinstance(step, PlanForStep) else "endorse"
                if isinstance(step, PlanForStep | EndorseStep):
                    message = f"step '{step.id}' is a '{kind}' step, and the plan of a part has none"
                    yield problem("bad-shape", f"{where}.steps[{position}]", message, "use other steps")
                elif isinstance(step, ToolStep) and step.templates["args"].secrets:
                    message = f"step '{step.id}' uses a secret, and the plan of a part has none"
                    yield problem("bad-expr", f"{where}.steps[{position}].args", message, "leave it out")

    def _output_problems(self, plan: Plan, tools: Toolset, limits: Limits) -> Iterator[Problem]:
        """Yield the problems of the output at its place in the run, where it is used like an argument of the type `returns`."""
        id_ = numbered("part_result", {*tools.names, *(step.id for step in plan.steps)})
        use = ToolStep(id=id_, tool=id_, args={"value": plan.output})
        parameters: dict[str, Json] = {
            "type": "object",
            "properties": {"value": dict(self.returns)},
            "required": ["value"],
        }
        taking = Tool.from_callable(_take, name=id_, parameters=parameters, effect="pure")
        wrapped = plan.model_copy(update={"steps": (*plan.steps, use), "output": None})
        at = f"$.steps[{len(plan.steps)}].args.value"
        for each in check(wrapped, [*tools, taking], limits=limits).problems:
            if each.path.startswith(at):
                yield replace(each, path="$.output" + each.path.removeprefix(at))


def _take(value: Json) -> Json:
    """Take the output of a part."""
    return value
