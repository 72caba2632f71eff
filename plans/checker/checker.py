"""`check`: all problems of a plan at once, before anything runs.

`check` reads the text, then the shape. A plan of the right shape is then checked body by body, each body after those that it runs:
names, schemas, types, retries, information flow, use. A plan that is broken in one way is not reported in another: the more
specific code wins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from os import PathLike
from typing import TypeAlias, cast

from ..collecting import collector_paused
from ..format.shape import Draft, draft_of
from ..format.source import SourceError, parse_source, source_report
from ..immutable import immutable
from ..limits import LIMITS, Limits
from ..plan import Plan
from ..reports.problems import Bounds, CheckReport, Problem, in_order, problem
from ..signature import KnownModels, SecretPlaces, Signature, Signatures, models_known, signatures_of
from ..types.assignable import assignability_problems
from ..types.read import read_schema
from ..types.types import NEVER, Type
from ..values import Json
from .body import Bodies, PlanBody, SavedPlans, bodies_of
from .bounds import bounds_of
from .context import CheckContext, ProblemList
from .flow.selection import FlowRules, default_rules, passed_to
from .flow.sinks import Judged, judge
from .inference import infer_body
from .structure import (
    check_models,
    check_names,
    check_retries,
    check_schemas,
    check_trust,
    check_usage,
    check_wiring,
)
from .survey import Survey, survey_of

MISSHAPEN_MAX = 100
"""Faults of shape whose places get no further problems: the check compares each of them with every later problem."""
Tools: TypeAlias = Signatures | Iterable[Signature]


def check(  # noqa: PLR0913  # what a plan is checked by
    plan: object,
    toolset: Tools = (),
    *,
    plans: SavedPlans | None = None,
    limits: Limits = LIMITS,
    secrets: SecretPlaces | None = None,
    rules: FlowRules | None = None,
    policies: Collection[str] | None = None,
    written: Collection[str] = (),
    models: KnownModels | Collection[str] | None = None,
) -> CheckReport:
    """Return all faults and warnings of a plan. Never raises for a bad plan. O(size of the plan).

    Args:
        plan: A `Plan`, a dict, JSON or YAML text, or the `Path` of a plan's file; any other value is a fault of shape.
        toolset: The tools that it may use: a toolset, or a list of tools.
        plans: Saved plans by name or digest, or a function that finds them.
        limits: How large a plan may be.
        secrets: The secrets that the plan may use: name -> its places, as of `Secret.tools` (none: all). `None`: any.
        rules: Where untrusted data may stand although its tool does not say so; `None`: at arguments that are selected from a trusted
            list, or that the tool's author has limited to options or marked as harmless.
        policies: The names of the policies that `endorse` steps may use; `None`: any.
        written: Ids of steps whose own words count as untrusted data: whoever wrote them had been shown such data.
        models: The models that steps may ask: their names, or what knows them; `None`: any.

    Raises:
        InputRejected: The file of a `Path` is not there or cannot be read.
    """
    if isinstance(plan, PathLike):
        from ..format.load import read_text  # noqa: PLC0415  # the edge that reads files

        plan = read_text(cast("PathLike[str]", plan), limits)
    tools = signatures_of(toolset)

    def judged(draft: Draft) -> CheckReport:
        return check_draft(
            draft, tools, plans, limits, secrets, rules, policies, written, models_known(models)
        ).report()

    with collector_paused():
        if not isinstance(plan, str | bytes):
            return judged(draft_of(plan))
        try:
            source = parse_source(plan, limits)
        except SourceError as fault:
            return source_report(fault)
        return source.located(judged(draft_of(source.value, owned=True)))


def output_problems(
    plan: Plan,
    returns: Mapping[str, Json],
    toolset: Tools = (),
    *,
    plans: SavedPlans | None = None,
    limits: Limits = LIMITS,
) -> tuple[Problem, ...]:
    """Return what speaks against the output of a plan that passed its check fitting a schema, although the plan may declare another type. O(as `check`).

    Args:
        plan: The plan.
        returns: The schema, self-contained.
        toolset: As of `check`, like the others.
        plans: See there.
        limits: See there.
    """
    if plan.returns is not None:
        declared, wanted = read_schema(plan.returns, plan.types)[0], read_schema(returns)[0]
        return tuple(
            problem(
                each.code,
                "$.returns",
                f"the output that the plan declares does not fit the type that is wanted: {each.message}"
                + (f" (at {each.inner.lstrip('.')})" if each.inner else ""),
                each.hint,
            )
            for each in assignability_problems(declared, wanted)
        )
    report = check(plan.model_copy(update={"returns": dict(returns)}), toolset, plans=plans, limits=limits)
    return tuple(each for each in report.problems if each.path.startswith(("$.output", "$.returns")))


@immutable
class Checked:
    """A plan whose check is done.

    Attributes:
        problems: As of `CheckReport`.
        survey: The survey that the check judged by, which the compiler needs too. `None`: the check did not come to it, as the next.
        context: What the check knows.
    """

    problems: tuple[Problem, ...]
    survey: Survey | None = None
    context: CheckContext | None = None

    def report(self) -> CheckReport:
        """Return the report, whose bounds and types are worked out now: a plan that runs at once does not need them."""
        if self.survey is None or self.context is None:
            return CheckReport(self.problems)
        if self.survey.runs_itself:  # such a plan has neither a bound nor a tree of steps
            return CheckReport(self.problems, Bounds(None, None, ()))
        return CheckReport(self.problems, bounds_of(self.context, self.survey), _inferred(self.context))


def check_draft(  # noqa: PLR0913, PLR0917  # the arguments of `check`
    draft: Draft,
    tools: Signatures,
    plans: SavedPlans | None,
    limits: Limits,
    secrets: SecretPlaces | None,
    rules: FlowRules | None,
    policies: Collection[str] | None,
    written: Collection[str] = (),
    models: KnownModels | None = None,
) -> Checked:
    """Check a plan of which the shape was read.

    Args:
        draft: The plan.
        tools: As of `check`, like all others.
        plans: See there.
        limits: See there.
        secrets: See there.
        rules: See there.
        policies: See there.
        written: See there.
        models: See there.
    """
    if draft.plan is None:
        return Checked(in_order(draft.problems))
    count = len(draft.plan.steps) + sum(len(inner.steps) for inner in draft.plan.plans.values())
    if count > limits.steps_max:
        message = f"the plan has {count} steps: expected at most {limits.steps_max}"
        too_large = problem("limit-exceeded", "$.steps", message, "divide it, or raise Limits.steps_max")
        return Checked(in_order([*draft.problems, too_large]))
    misshapen = tuple(fault.path for fault in draft.problems if fault.path != "$")[:MISSHAPEN_MAX]
    problems = ProblemList(list(draft.problems), misshapen, limits.suggestions_max)
    bodies = bodies_of(draft, draft.plan, plans)
    bodies.every[0].written = frozenset(written)
    if (past := _fold_all(bodies, limits)) is not None:
        return Checked(in_order([*draft.problems, past]))
    context = CheckContext(bodies, tools, limits, problems, secrets, policies, models)
    survey = survey_of(bodies, tools, limits)
    _check_bodies(context, survey, rules or default_rules)
    return Checked(in_order(problems.problems), survey, context)


def _fold_all(bodies: Bodies, limits: Limits) -> Problem | None:
    """Work out the constants of all expressions; return the problem of a plan whose constants take more work than a check may spend.

    The work of an expression counts wherever it stands, also where its value is known from before: a plan must not pass or fail by what a
    process happens to remember. All of this happens before the check looks at the first value, so that a report has either all
    problems or this one.
    """
    left = limits.work_max
    for body in bodies.every:
        for position, template in body.templates():
            for inner, expression in template.formula.foldable:
                work = expression.parsed.folding(left).work
                if work > left:
                    return _too_much_work(body, body.place(position, template) + inner, limits)
                left -= work
    return None


def _too_much_work(body: PlanBody, path: str, limits: Limits) -> Problem:
    found = ProblemList()
    message = f"the constant expressions of the plan, up to this place, take more than {limits.work_max} operations to work out"
    hint = "let a tool make large constants, give them as inputs, or raise Limits.work_max"
    found.add(body, "limit-exceeded", path, message, hint)
    return found.problems[0]


def _check_bodies(context: CheckContext, survey: Survey, rules: FlowRules) -> None:
    check_wiring(context, survey)
    judged = [Judged()] * len(context.bodies.every)
    passed = passed_to(survey.labels, survey.order, context.tools)
    for number in survey.order:
        body = context.bodies.every[number]
        check_names(context, body)
        check_schemas(context, body)
        infer_body(context, number, survey.steps[number])
        check_retries(context, body)
        labels, order = survey.labels[number], survey.steps[number]
        check_models(context, body)
        judged[number] = judge(labels, order, judged, context.tools, rules, passed[number])
        for where, found in judged[number].problems:
            context.problems.add(where, found.code, found.path, found.message, found.hint)
    check_usage(context, survey)
    check_trust(context)


def _inferred(context: CheckContext) -> dict[str, Type]:
    """Return the type of every step by its path, steps of inner plans under each step that runs them, up to `steps_max`."""
    found: dict[str, Type] = {}
    waiting = deque([("", 0)])
    while waiting:
        prefix, number = waiting.popleft()
        body = context.bodies.every[number]
        for position, step in enumerate(body.steps):
            if len(found) >= context.limits.steps_max:
                return found
            inferred = context.steps[number][position]
            if inferred != NEVER:
                found[f"{prefix}{step.id}" if prefix else step.id] = inferred
            called = body.calls.get(position)
            if called is not None:
                waiting.append((f"{prefix}{step.id}/", called))
    return found
