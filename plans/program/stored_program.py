"""A program as JSON: what the compiler found out about a plan, beside the plan itself.

A compiled plan is its templates, which the plan has, and facts that take the compiler a walk over all steps: who waits for whom, which resources a
step touches, and where untrusted data goes. Only these facts are written down, as positions, flags and names: no value and no text of the plan is
in them. `program_from_json` puts plan and facts together again, without a check and without a walk.

The facts are as good as their source. Whoever reads them has to know that they are of this plan, these saved plans, these tools and this
version of the compiler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..checker.body import visible_types
from ..checker.templates import Template, template_of
from ..collecting import collector_paused
from ..expressions.formula import Formula, splices_of_names
from ..plan import InnerPlan, Plan, PlanStep, Step, ToolStep
from ..signature import Signature, Signatures, signatures_of
from ..types.standalone import self_contained
from ..values import Digest, Json
from .compile import NOTHING_FOUND, Found, action_of, on_error_of, plan_of_inner
from .program import (
    Action,
    CallTool,
    Program,
    RepeatUntil,
    RunAgent,
    RunPlan,
    RunPlanned,
    StepCode,
    Touch,
    UseFallback,
    Waits,
)

FORMAT: Final = 1
"""Of the JSON: a reader takes no other."""

_FILTERS, _SEQUENTIAL, _CONTROLLED, _INSIDE, _READS, _NAMES = 1, 2, 4, 8, 16, 32
_NOTHING: Final[tuple[Any, ...]] = ((), 0, 0, (), (), (), (), (), None)
"""The facts of a step, in their order, where there is nothing to say: needs, number of its touches, flags, needs_when, lenient, after, tainted,
selected, and what the action adds."""


class MisfitError(ValueError):
    """The facts are not of this plan."""


def program_to_json(program: Program) -> dict[str, Json]:
    """Return the facts of a program and of all programs that it runs. O(steps)."""
    programs = _callees_first(program)
    numbers = {id(each): number for number, each in enumerate(programs)}
    touches: dict[tuple[Touch, ...], int] = {(): 0}
    made: list[Json] = []
    for each in programs:
        steps: list[Json] = [_facts(code, touches, numbers) for code in each.steps]
        is_listed = each.order == tuple(range(len(each.order)))
        made.append({"order": None if is_listed else list(each.order), "steps": steps})
    shared: list[Json] = [[[one.resource, one.writes] for one in group] for group in touches]
    return {"format": FORMAT, "digest": program.plan.digest, "touches": shared, "programs": made}


def _callees_first(program: Program) -> list[Program]:
    """Return a program and those that it runs, each once, after the programs that it runs itself."""
    found: dict[int, Program] = {}
    waiting = [(program, False)]
    while waiting:
        each, is_done = waiting.pop()
        if id(each) in found:
            continue
        if is_done:
            found[id(each)] = each
            continue
        waiting.append((each, True))
        waiting += [(code.action.program, False) for code in each.steps if isinstance(code.action, RunPlan)]
    return list(found.values())


def _facts(code: StepCode, touches: dict[tuple[Touch, ...], int], numbers: Mapping[int, int]) -> list[Json]:
    flags = (
        _FILTERS * code.when_filters
        | _SEQUENTIAL * code.sequential
        | _CONTROLLED * code.controlled
        | _INSIDE * code.controlled_inside
        | _READS * code.reads_untrusted
        | _NAMES * _has_names_only(code)
    )
    made: list[Any] = [
        code.needs,
        touches.setdefault(code.touches, len(touches)),
        flags,
        code.needs_when,
        sorted(code.lenient),
        code.after,
        code.tainted,
        code.selected,
        None,
    ]
    match code.action:
        case RunPlan(program=program):
            made[-1] = numbers[id(program)]
        case RunAgent(is_tainted=is_tainted, is_controlled=is_controlled):
            made[-1] = [is_tainted, is_controlled]
        case RunPlanned(is_tainted=is_tainted, is_controlled=is_controlled, hidden=hidden):
            made[-1] = [is_tainted, is_controlled, *hidden]
        case _:
            while made and not made[-1]:  # most steps have their needs, and nothing else
                made.pop()
    return made


def program_from_json(
    facts: Mapping[str, Any], plan: Plan, tools: Signatures | Sequence[Signature], plans: Mapping[str, Plan]
) -> tuple[Program, Digest]:
    """Return the program of a plan, by its facts, and the digest of the plan. O(steps).

    Args:
        facts: What `program_to_json` gave.
        plan: The plan.
        tools: The tools that it was compiled with.
        plans: The saved plans that it runs.

    Raises:
        MisfitError: The facts are of another plan, or of another format.
    """
    try:
        if facts["format"] != FORMAT:
            raise MisfitError(f"expected facts of format {FORMAT}, found {facts['format']!r}")
        with collector_paused():
            made = _Reader(facts, signatures_of(tools), plans).program(len(facts["programs"]) - 1, plan, None)
        return made, Digest(facts["digest"])
    except (LookupError, TypeError, AttributeError) as fault:
        raise MisfitError(f"facts that say too little or too much: {fault!r}") from fault


def _has_names_only(code: StepCode) -> bool:
    """Whether a step calls a tool, and its only template is arguments in which each expression is the name of a step."""
    others = (code.when, code.for_each, code.repeat)
    return (
        isinstance(code.action, CallTool)
        and others == (None, None, None)
        and not isinstance(code.on_error, UseFallback)
        and not code.action.secrets
        and code.action.args.names_in() is not None
    )


class _Reader:
    """Makes the programs of one plan, each once."""

    def __init__(self, facts: Mapping[str, Any], tools: Signatures, plans: Mapping[str, Plan]) -> None:
        self._programs: Sequence[Mapping[str, Any]] = facts["programs"]
        groups: list[list[tuple[str, bool]]] = facts["touches"]
        self._touches: list[tuple[Touch, ...]] = [
            tuple([Touch(resource, writes) for resource, writes in group]) for group in groups
        ]
        self._tools = tools
        self._plans = plans
        self._made: dict[int, Program] = {}

    def program(self, number: int, unit: Plan, name: str | None) -> Program:
        """Return a program.

        Args:
            number: Its number among the facts.
            unit: The whole plan that it belongs to.
            name: Of the inner plan that it is; `None`: it is of the whole plan.
        """
        if number in self._made:
            return self._made[number]
        given: Plan | InnerPlan = unit if name is None else unit.plans[name]
        facts, types = self._programs[number], visible_types(unit, given)
        if len(facts["steps"]) != len(given.steps):
            raise MisfitError(f"expected the facts of {len(given.steps)} steps, found {len(facts['steps'])}")
        steps = tuple(
            [
                self._step(position, step, found, types, unit, number)
                for position, (step, found) in enumerate(zip(given.steps, facts["steps"], strict=True))
            ]
        )
        order = range(len(steps)) if facts["order"] is None else facts["order"]
        output = None if given.output is None else template_of(".output", given.output).formula
        made = self._made[number] = Program(
            plan=unit if name is None else plan_of_inner(unit, name, types),
            steps=steps,
            order=tuple(order),
            output=output,
            returns=None if given.returns is None else self_contained(given.returns, types),
            defaults={
                each: schema["default"] for each, schema in given.inputs.items() if "default" in schema
            },
            waits=Waits.of(steps),
        )
        return made

    def _step(
        self,
        position: int,
        step: Step,
        facts: Sequence[Any],
        types: Mapping[str, Json],
        unit: Plan,
        number: int,
    ) -> StepCode:
        row: list[Any] = [*facts, *_NOTHING[len(facts) :]]
        needs, touches, flags, needs_when, lenient, after, tainted, selected, more = row
        found = NOTHING_FOUND
        if isinstance(step, PlanStep):
            if not 0 <= more < number:  # callees come first, so that no program runs itself
                raise MisfitError(f"expected the number of an earlier program than {number}, found {more}")
            found = Found(self.program(more, *self._called(step.plan, unit)))
        elif more is not None:
            found = Found(None, more[0], more[1], tuple(more[2:]))
        if flags & _NAMES and isinstance(step, ToolStep):
            # Most steps of a large plan: their arguments are not even read.
            texts: Mapping[str, Template] = {}
            action: Action = CallTool(step.tool, Formula.of_names(step.args, splices_of_names(step.args)), {})
        else:
            texts, action = step.templates, action_of(step, types, self._tools, found)
        when, for_each, until = texts.get("when"), texts.get("for_each"), texts.get("until")
        return StepCode(
            position=position,
            id=step.id,
            action=action,
            when=None if when is None else when.formula,
            when_filters=bool(flags & _FILTERS),
            for_each=None if for_each is None else for_each.formula,
            on_error=on_error_of(step),
            repeat=None
            if step.repeat is None or until is None
            else RepeatUntil(until.formula, step.repeat.max),
            retries=step.retries,
            timeout_s=None if step.timeout is None else float(step.timeout),
            needs_when=tuple(needs_when),
            needs=tuple(needs),
            lenient=frozenset(lenient),
            after=tuple(after),
            touches=self._touches[int(touches)],
            sequential=bool(flags & _SEQUENTIAL),
            tainted=tuple(tainted),
            selected=tuple(selected),
            controlled=bool(flags & _CONTROLLED),
            controlled_inside=bool(flags & _INSIDE),
            reads_untrusted=bool(flags & _READS),
        )

    def _called(self, name: str, unit: Plan) -> tuple[Plan, str | None]:
        """Return the whole plan that a `plan` step means, or the plan around the inner plan that it means with the name of that."""
        if name in unit.plans:
            return unit, name
        saved = self._plans.get(name) or next(
            (each for each in self._plans.values() if each.digest == name), None
        )
        if saved is None:
            raise MisfitError(f"expected the saved plan '{name}', which a step runs, found none")
        return saved, None
