"""Problems of a plan that need no types of values: names, schemas, how steps and plans hang together, retries, unused parts, unstated trust.

`checker.py` calls these functions; each adds its problems to the context. None of them depends on another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from ..format.shape import describe
from ..inputs import GIVEN_KEY, TODAY
from ..plan import AgentStep, AskStep, FailStep, PlanForStep, PlanStep, Step, ToolStep, tools_path
from ..program.graph import cycles
from ..reports.nearest import listing, short
from ..reports.paths import key
from ..signature import DEFAULT_MODEL, Effect, called_by, models_asked_by
from ..types.validate import value_problems
from ..values import Json
from .body import PlanBody
from .context import CheckContext
from .flow.labels import TRUST_KEY
from .flow.secrecy import READERS_KEY
from .names import close_name, is_name, name_fault
from .survey import Survey, is_write

CYCLE_SHOWN_MAX = 12
"""Steps of a cycle that a message names."""


def check_wiring(context: CheckContext, survey: Survey) -> None:
    """Report cycles, plans that are missing or misshapen, and plans that nest too deep or grow too large. O(size of all bodies)."""
    for unit, faults in context.bodies.misshapen:
        body = context.bodies.every[context.bodies.units[unit].bodies[None]]
        for fault in faults:
            context.problems.add(body, fault.code, fault.path, fault.message, fault.hint)
    for body, position in context.bodies.missing:
        _report_missing(context, body, position)
    for number in survey.circular:
        _report_cycles(context, context.bodies.every[number])
    if survey.runs_itself:
        _report_recursion(context)
    else:
        _check_size(context, survey)


def _report_missing(context: CheckContext, body: PlanBody, position: int) -> None:
    step = body.steps[position]
    if isinstance(step, PlanStep):
        inner = tuple(context.bodies.units[body.unit].plan.plans)
        message = f"step '{step.id}' runs '{step.plan[:100]}': there is no inner plan ({listing(inner)}) and no saved plan of that name"
        known = (*inner, *context.bodies.saved)
        hint = context.problems.suggestion(step.plan, known, "define it in 'plans', or save it first")
        context.problems.add(body, "unknown-plan", f"{body.path(position)}.plan", message, hint)


def _report_cycles(context: CheckContext, body: PlanBody) -> None:
    for position, refs in enumerate(body.refs):
        if refs.refers_to_self:
            id_ = body.steps[position].id
            hint = "the step's own value is known only in repeat.until; in a repeated step 'prev' is the value before"
            context.problems.add(body, "cycle", body.path(position), f"step '{id_}' refers to itself", hint)
    # One cycle for each group of steps that wait for one another: all cycles may be exponentially many.
    for cycle in cycles([refs.waits for refs in body.refs]):
        if len(cycle) == 2:
            continue  # a step that waits for itself is reported above
        names = [body.steps[position].id for position in cycle]
        if len(names) > CYCLE_SHOWN_MAX:
            names = [*names[: CYCLE_SHOWN_MAX - 1], "..", names[-1]]
        message = f"steps wait for one another in a cycle: {' -> '.join(names)}"
        hint = "break it: take one of the references out"
        context.problems.add(body, "cycle", body.path(cycle[0]), message, hint)


def _report_recursion(context: CheckContext) -> None:
    bodies = context.bodies
    for cycle in cycles(bodies.callees):
        body = bodies.every[cycle[0]]
        # Reported at the first step that runs the next plan of the cycle.
        position = next(at for at, called in sorted(body.calls.items()) if called == cycle[1])
        names = [bodies.every[number].label for number in cycle]
        message = f"a plan runs itself: {' -> '.join(names)}"
        hint = "a plan cannot call itself; use for_each or repeat"
        context.problems.add(body, "recursive-plan", f"{body.path(position)}.plan", message, hint)


def _check_size(context: CheckContext, survey: Survey) -> None:
    """Report plans that nest too deep, or that are too large once every `plan` step is replaced by the steps of its plan."""
    bodies, limits = context.bodies, context.limits
    depth = [1] * len(bodies.every)
    count = [0] * len(bodies.every)
    for number in survey.order:
        body = bodies.every[number]
        called = body.calls.values()
        # Counts and depths are computed from the inside out, so that nested plans cost no more than their own size.
        depth[number] = 1 + max((depth[inner] for inner in called), default=0)
        count[number] = len(body.steps) + sum(count[inner] for inner in called)
    plan = bodies.every[0]
    if depth[0] - 1 > limits.nesting_max:
        message = f"plans run inside one another {depth[0] - 1} deep: expected at most {limits.nesting_max}"
        hint = "run fewer plans inside one another, or raise Limits.nesting_max"
        context.problems.add(plan, "limit-exceeded", "$.steps", message, hint)
    if count[0] > limits.steps_max:
        message = f"with its inner plans written out the plan has {count[0]} steps: expected at most {limits.steps_max}"
        hint = "divide it, or raise Limits.steps_max"
        context.problems.add(plan, "limit-exceeded", "$.steps", message, hint)


def check_names(context: CheckContext, body: PlanBody) -> None:
    """Report names that are not allowed, ids that two steps share, and unknown steps in `after`. O(steps)."""
    for name in body.inputs:
        _check_name(context, body, f"{body.where}.inputs{key(name)}", "an input", name)
    for position, step in enumerate(body.steps):
        if position in body.broken:
            continue
        path = body.path(position)
        _check_name(context, body, f"{path}.id", "a step", step.id)
        for name in step.given if isinstance(step, PlanForStep) else ():
            _check_name(context, body, f"{path}.given{key(name)}", "a given value", name)
        # References mean the first of two steps with one id, so the second is the one to rename.
        first = body.position[step.id]
        if first != position:
            message = f"the id '{step.id}' is taken by the step at {body.path(first)}"
            context.problems.add(body, "duplicate-id", f"{path}.id", message, "give one of them another id")
        for index, name in enumerate(step.after):
            if name not in body.position:
                message = (
                    f"'after' of step '{short(step.id)}' names '{name[:100]}', and there is no such step"
                )
                other = "name the id of a step of the same plan"
                hint = context.problems.suggestion(name, body.position, other)
                context.problems.add(body, "unknown-ref", f"{path}.after[{index}]", message, hint)


def _check_name(context: CheckContext, body: PlanBody, path: str, what: str, name: str) -> None:
    fault = name_fault(name)
    if fault is not None:
        close = close_name(name, {*body.position, *body.inputs})
        hint = f"write '{close}'" if close else "use small letters, digits and '_', a letter first"
        message = f"'{name[:100]}' cannot be the name of {what}: {fault}"
        context.problems.add(body, "bad-id", path, message, hint)


def _check_labels(context: CheckContext, body: PlanBody, path: str, schema: Mapping[str, Json]) -> None:
    """Report declarations of an input's labels that mean nothing."""
    if (trust := schema.get(TRUST_KEY, "trusted")) not in ("trusted", "untrusted"):
        message = f"expected 'trusted' or 'untrusted', found {trust!r}"
        context.problems.add(body, "bad-input", f"{path}{key(TRUST_KEY)}", message)
    if (given := schema.get(GIVEN_KEY, TODAY)) != TODAY:
        message = f"expected {TODAY!r}, found {given!r}"
        context.problems.add(body, "bad-input", f"{path}{key(GIVEN_KEY)}", message)
    readers = schema.get(READERS_KEY, [])
    if not isinstance(readers, list) or not all(isinstance(each, str) and each for each in readers):
        message = f"expected a list of names, such as ['send_mail'], found {describe(readers)}"
        context.problems.add(body, "bad-input", f"{path}{key(READERS_KEY)}", message)


def check_schemas(context: CheckContext, body: PlanBody) -> None:
    """Report faults of a body's types and inputs, and defaults that do not fit their inputs."""
    plan = context.bodies.units[body.unit].plan
    types: Mapping[str, Mapping[str, Json]] = plan.types if body.name is None else plan.plans[body.name].types
    for name, schema in types.items():
        context.read(body, schema, f"{body.where}.types{key(name)}")
    for name, schema in body.inputs.items():
        path = f"{body.where}.inputs{key(name)}"
        before = len(context.problems.problems)
        context.read(body, schema, path)
        _check_labels(context, body, path, schema)
        of_schema = context.problems.problems[before:]
        # A schema with an error says nothing of its default.
        if "default" in schema and all(problem.severity == "warning" for problem in of_schema):
            faults = value_problems(schema["default"], schema, body.types)
            # Whatever is wrong with a default is wrong with its input.
            codes = {fault.code: "bad-input" for fault in faults}
            context.problems.add_local(body, f"{path}.default", faults, codes)


def check_retries(context: CheckContext, body: PlanBody) -> None:
    """Report `retries` that may repeat a write of which nobody knows whether it took effect. O(steps)."""
    for position, step in enumerate(body.steps):
        if not step.retries or position in body.broken:
            continue
        # One such tool is enough, since the step has one `retries` for all of them.
        for name in step.may_call:
            tool = context.tools.find(name)
            if tool is None or tool.effect != Effect.WRITE or tool.idempotent or tool.can_reconcile:
                continue
            message = f"step '{step.id}' retries the write '{name}', which may have happened although it seemed to fail"
            hint = "leave 'retries' out, or make the tool idempotent, or give it a 'reconcile'"
            context.problems.add(body, "unsafe-retry", f"{body.path(position)}.retries", message, hint)
            break


def check_trust(context: CheckContext) -> None:
    """Report each tool whose results flow on, come from outside, and are of unstated trust, once. O(steps)."""
    # Once a tool and not once a step: its declaration is what lacks the trust.
    told: set[str] = set()
    stated: set[str] = set()
    for body in context.bodies.every:
        if body.unit:
            continue  # the check reported this when the plan was saved
        used: list[bool] | None = None
        for position, step in enumerate(body.steps):
            names = step.may_call
            if isinstance(step, ToolStep):
                names += called_by(context.tools.find(step.tool))
            for number, name in enumerate(names):
                if name in told or name in stated:
                    continue
                if (reach := _unstated_reach(context, name)) is None:
                    stated.add(name)
                    continue
                used = _used(body) if used is None else used
                # An agent reads every result of its tools, and what a sub-plan does with its results is not known yet.
                if isinstance(step, AgentStep | PlanForStep) or used[position]:
                    told.add(name)
                    where = (
                        f"{tools_path(step)}[{number}]"
                        if isinstance(step, AgentStep | PlanForStep)
                        else ".tool"
                    )
                    message = f"the tool '{name}' {reach}, and does not state whether its results may be trusted, so that they may steer writes"
                    hint = 'declare trust="untrusted" if strangers can write what it returns, else trust="trusted"; or set default_trust'
                    context.problems.add(body, "unstated-trust", body.path(position) + where, message, hint)


def _unstated_reach(context: CheckContext, name: str) -> str | None:
    # Signatures of other programs may lack the property.
    return getattr(context.tools.find(name), "unstated_reach", None)


def check_models(context: CheckContext, body: PlanBody) -> None:
    """Report steps that ask a model which is not known, or not configured. O(steps), and the models are asked about once for each name."""
    if context.models is None:
        return
    silent = set[str]()  # tools that ask no model, as most tools and most steps of a large plan
    for position, step in enumerate(body.steps):
        if isinstance(step, ToolStep) and step.tool in silent:
            continue
        asked = list(_models_of(context, step))
        if not asked and not isinstance(step, PlanForStep):
            if isinstance(step, ToolStep):
                silent.add(step.tool)
            continue
        # A step may name a model at several places; the first is reported.
        seen = set[str]()
        for path, name in asked:
            if name not in seen and (fault := context.model_fault(name)) is not None:
                _report_model(context, body, position, path, fault)
            seen.add(name)
        if isinstance(step, PlanForStep) and (fault := context.models.find_planner_fault()) is not None:
            _report_model(context, body, position, ".plan_for", fault)


def _report_model(
    context: CheckContext, body: PlanBody, position: int, path: str, fault: tuple[str, str]
) -> None:
    why, hint = fault
    message = f"step '{body.steps[position].id}' asks a model: {why}"
    context.problems.add(body, "unknown-model", f"{body.path(position)}{path}", message, hint)


def _models_of(context: CheckContext, step: Step) -> Iterator[tuple[str, str]]:
    """Yield the models that a step may ask, each with its place in the step: that of the step, of its judges, and of its tools."""
    match step:
        case AskStep():
            own = step.ask.model or DEFAULT_MODEL
            yield ".ask.model" if step.ask.model else ".ask", own
            for at, guard in enumerate(step.ask.guard):
                judge = cast("dict[str, Json]", guard).get("model") if isinstance(guard, dict) else None
                if isinstance(judge, str):
                    yield f".ask.guard[{at}].model", judge
        case AgentStep() | PlanForStep():
            if isinstance(step, AgentStep):
                yield ".agent", DEFAULT_MODEL
            for at, name in enumerate(step.may_call):
                yield from _models_of_tool(context, name, f"{tools_path(step)}[{at}]")
        case ToolStep():
            yield from _models_of_tool(context, step.tool, ".tool")
        case _:
            return


def _models_of_tool(context: CheckContext, name: str, path: str) -> Iterator[tuple[str, str]]:
    if (tool := context.tools.find(name)) is not None:
        for model in models_asked_by(tool):
            yield path, model


def check_usage(context: CheckContext, survey: Survey) -> None:
    """Report steps that change nothing and that nothing refers to, and unused inputs. O(steps and references)."""
    for number, body in enumerate(context.bodies.every):
        if body.unit:
            continue  # the check reported this when the plan was saved
        used = _used(body)
        for position, step in enumerate(body.steps):
            if used[position]:
                continue
            # A step that has another problem may be unused because of it.
            has_problem = (
                position in body.broken or not is_name(step.id) or body.position[step.id] != position
            )
            if not has_problem and _is_idle(context, survey, number, position):
                message = f"nothing refers to step '{step.id}', and it changes nothing"
                hint = f"leave it out, or refer to it: ${{{step.id}}}"
                context.problems.add(body, "unused-step", body.path(position), message, hint)
        _check_inputs(context, body)


def _used(body: PlanBody) -> list[bool]:
    used = [False] * len(body.steps)
    for refs in body.refs:
        for other in refs.waits:
            used[other] = True
    for other in body.referred(body.output):
        used[other] = True
    return used


def _is_idle(context: CheckContext, survey: Survey, number: int, position: int) -> bool:
    """Whether a step is known to change nothing."""
    body = context.bodies.every[number]
    step = body.steps[position]
    # A `fail` step decides whether the run goes on, though nothing refers to it. What a missing plan does is not known.
    if isinstance(step, FailStep) or (isinstance(step, PlanStep) and position not in body.calls):
        return False
    is_known = all(context.tools.find(name) is not None for name in step.may_call)
    return is_known and not is_write(survey.touches[number][position])


def _check_inputs(context: CheckContext, body: PlanBody) -> None:
    used: set[str] = set()
    for _, template in body.templates():
        formula = template.formula
        if "inputs" in formula.names:
            if not formula.inputs:
                return  # the template uses the object of all inputs
            used.update(formula.inputs)
    if body.broken:
        return  # a broken step may have used them
    for name in body.inputs:
        if name not in used and is_name(name):
            message = f"nothing refers to the input '{name}'"
            hint = f"leave it out, or refer to it: ${{inputs.{name}}}"
            context.problems.add(body, "unused-input", f"{body.where}.inputs{key(name)}", message, hint)
