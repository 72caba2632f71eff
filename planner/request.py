"""The request of a planning: the task, the tools, the given inputs, and the check that a plan has to pass.

A model sees the names and the types of given inputs (`input_schemas`), never their values. `input_faults` says whether a plan takes the
inputs that are given, and whether it needs others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TypeAlias, cast

from ..errors import InputRejected
from ..lazy_imports import late_pattern
from ..plans import SavedPlans, check
from ..plans.checker.checker import output_problems
from ..plans.checker.flow.selection import FlowRules
from ..plans.format.shape import draft_of
from ..plans.immutable import immutable
from ..plans.inputs import fit_inputs, is_given
from ..plans.limits import LIMITS, Limits
from ..plans.plan import Plan
from ..plans.reports.paths import key, parts_of
from ..plans.reports.problems import CheckReport, Problem, problem
from ..plans.signature import KnownModels
from ..plans.types.show import schema_of
from ..plans.types.types import type_of, widened
from ..plans.values import Json, NotJson, canonical, normal
from ..tools.toolset import Toolset
from .checking import INLINE_LIMITS, checked, is_small
from .library.library import SavedPlan
from .part import Part

CHOOSE_OVER = 20
"""A toolset of up to this many tools is shown in full: a choice would cost a request, and could only lose tools."""

TASK_CHARACTERS_MAX = 100_000
"""A longer task is a document: it belongs in an input, or behind a tool."""

_NAME = late_pattern(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")

Judge: TypeAlias = Callable[[CheckReport], CheckReport]
"""Changes the verdict of a check: an engine takes some faults for warnings."""


@immutable
class PlanRequest:
    """The request of a planning.

    Attributes:
        inputs: The given values, by name.
        saved: The saved plans that may answer the task.
        plans: Finds the saved plan that a `plan` step names; `None`: `saved` is looked through.
        judge: Has the last word on a check's report; `None`: the check has.
        rules: Where untrusted data may stand although its tool does not say so.
        complete: Whether the plan is to run with just these inputs, so that every other input needs a default.
        answers: The questions that the model asked before about this task, each with the user's answer.
        models: The models that its steps may ask; `None`: any.
        part: The bounds of the plan if it is one part of a run; `None`: it is the plan of a run.
        returns: JSON Schema that the output of the plan has to fit; `None`: any output will do.
    """

    task: str
    tools: Toolset
    inputs: Mapping[str, Json]
    saved: tuple[SavedPlan, ...] = ()
    plans: SavedPlans | None = None
    judge: Judge | None = None
    complete: bool = False
    rules: FlowRules | None = None
    answers: tuple[tuple[str, Json], ...] = ()
    part: Part | None = None
    models: KnownModels | None = None
    returns: Mapping[str, Json] | None = None

    @property
    def has_provided(self) -> bool:
        """Whether somebody else provides one of the tools: then a fault may repeat names and choices of a stranger, and is data."""
        return any(tool.is_provided for tool in self.tools)

    async def check(self, plan: Plan | Json, written: Collection[str] = ()) -> CheckReport:
        """Return the check's report on a plan, saved or drafted; the words of the steps in `written` count as untrusted data."""
        return await checked(lambda limits: self._check(plan, limits, written), small=is_small(plan))

    def check_here(self, plan: Plan | Json) -> CheckReport:
        """Return the same report as `check`, for callers that are not on an event loop."""
        return self._check(plan, LIMITS)

    def check_quickly(self, plan: Plan | Json) -> CheckReport:
        """Return the check's report on a plan that may be passed over, or that has no output yet: one with dear constants has the problem `limit-exceeded`."""
        return self._check(plan, INLINE_LIMITS, is_partial=True)

    def _check(
        self, plan: Plan | Json, limits: Limits, written: Collection[str] = (), *, is_partial: bool = False
    ) -> CheckReport:
        plans = self.plans or self._find
        report = check(
            plan,
            self.tools,
            plans=plans,
            limits=limits,
            rules=self.rules,
            written=written,
            models=self.models,
        )
        if self.returns is not None and not is_partial and report.ok:
            draft = draft_of(plan)
            # A draft has the schema already. A saved plan stays as it is, or what runs would be another one.
            if draft.plan is not None and draft.plan.returns != self.returns:
                found = output_problems(draft.plan, self.returns, self.tools, plans=plans, limits=limits)
                report = replace(report, problems=(*report.problems, *found))
        if self.part is not None:
            draft = draft_of(plan)
            report = self.part.checked(report, draft.plan if draft.whole else None, self.tools, limits)
        return report if self.judge is None else self.judge(report)

    def _find(self, name: str) -> Plan | None:
        return next((each.plan for each in self.saved if name in (each.name, each.plan.digest)), None)


def task_of(given: object) -> str:
    """Return a task without surrounding space. Raises: InputRejected: it is no text, empty, or too long."""
    if not isinstance(given, str) or not given.strip():
        raise InputRejected(f"expected a task in words, found {given!r}")
    if len(given) > TASK_CHARACTERS_MAX:
        raise InputRejected(
            f"expected a task of at most {TASK_CHARACTERS_MAX} characters, found {len(given)}"
        )
    return given.strip()


def inputs_of(given: Mapping[str, Json] | None) -> dict[str, Json]:
    """Return a canonical copy of given inputs. Raises: InputRejected: they are not JSON."""
    try:
        values = normal(dict(given or {}))
    except NotJson as error:
        raise InputRejected(f"the inputs of a task must be JSON: {error}") from error
    return cast("dict[str, Json]", values)


def input_schemas(inputs: Mapping[str, Json]) -> dict[str, str]:
    """Return the JSON Schemas of given inputs as text, derived from their values.

    If an object has a key that is not a short identifier, its keys are data, and its schema is that of any object: a key must not carry
    text of a stranger into a prompt.
    """
    # Widened, so that a schema says `string` and not the one text that was given: a model must not see values.
    schemas = {name: schema_of(widened(type_of(value))) for name, value in inputs.items()}
    return {name: canonical(_without_data_keys(schema)).decode() for name, schema in schemas.items()}


def _without_data_keys(schema: Json) -> Json:
    match schema:
        # A key such as `ignore all previous instructions` would reach the prompt as part of a schema.
        case {"properties": dict(fields)} if not all(_NAME.fullmatch(name) for name in fields):
            return {"type": "object"}
        case {"properties": dict(fields)}:
            named: Json = {name: _without_data_keys(each) for name, each in fields.items()}
            rest = {key: part for key, part in cast("dict[str, Json]", schema).items() if key != "properties"}
            return {**rest, "properties": named}
        case dict():
            return {key: _without_data_keys(part) for key, part in schema.items()}
        case list():
            return [_without_data_keys(part) for part in schema]
        case _:
            return schema


def input_faults(plan: Plan, inputs: Mapping[str, Json], *, complete: bool) -> tuple[Problem, ...]:
    """Return why a plan that a model wrote does not take the given inputs: not declared, or of another type.

    Args:
        plan: The plan.
        inputs: The given values, by name.
        complete: Whether the plan is to run with just these. Then an input with neither a value nor a default is a fault, too; otherwise
            the caller may give it later.
    """
    declared = {name: value for name, value in inputs.items() if name in plan.inputs}
    _, problems = fit_inputs(plan, declared)
    mistyped = [each for each in problems if not is_missing_input(each, declared)]
    # An input that the plan does not declare would be refused by the run, so that the model hears of it now.
    undeclared = [
        _undeclared(name, schema) for name, schema in input_schemas(inputs).items() if name not in declared
    ]
    missing = [
        _missing(name)
        for name, schema in plan.inputs.items()
        if name not in inputs and "default" not in schema and not is_given(schema)
    ]
    return (*undeclared, *mistyped, *(missing if complete else ()))


def with_defaults(plan: Plan, values: Mapping[str, Json]) -> Plan:
    """Return a plan with values as the defaults of its inputs, so that it runs as it is."""
    declared = {
        name: {**schema, "default": values[name]} if name in values else schema
        for name, schema in plan.inputs.items()
    }
    return plan.model_copy(update={"inputs": declared})


def is_missing_input(fault: Problem, inputs: Mapping[str, Json]) -> bool:
    """Whether a fault of a plan's inputs means that an input was not given."""
    match parts_of(fault.path):
        case ("inputs", str(name), *_):
            return name not in inputs
        case _:
            return False


def _undeclared(name: str, schema: str) -> Problem:
    message = f"expected the given input '{name}' under 'inputs', found no such input"
    return problem("bad-input", "$.inputs", message, f"declare it as {schema}, and use it")


def _missing(name: str) -> Problem:
    message = f"expected a value for the input '{name}', found neither a default nor a given value"
    hint = "give it a default taken from the task's words"
    return problem("bad-input", f"$.inputs{key(name)}", message, hint)
