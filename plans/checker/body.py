"""Bodies: a body is a list of steps with its scope, of the plan itself, of an inner plan or of a saved plan.

`bodies_of` finds every body that a plan may run, without recursion, and decides which plan a name in `plan:` means.
`PlanBody.refs` holds the steps that each step waits for, and why.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, TypeAlias

from ..format.shape import Draft, draft_of
from ..immutable import immutable, record
from ..plan import InnerPlan, Plan, PlanStep, Step
from ..reports.paths import path_of
from ..reports.problems import Problem
from .templates import Template, template_of

if TYPE_CHECKING:
    from ..values import Json

SavedPlans: TypeAlias = Mapping[str, Plan] | Callable[[str], Plan | None]
"""Saved plans by name or digest."""

_NOBODY: frozenset[int] = frozenset()  # one for all: most steps refer to none in this way

THE_PLAN = "the plan"
"""The checked plan's name in messages."""


@immutable
class Refs:
    """The steps that one step waits for, as positions in its body, sorted.

    Attributes:
        needs: The steps that it refers to, itself left out.
        lenient: The part of `needs` that it refers to only inside `first(..)`.
        needs_when: The steps that `when` refers to, if it is a switch.
        after: The steps that `after` names.
        is_filter: Whether `when` mentions `item` or `index`, and so filters items instead of switching the step.
        refers_to_self: Whether the step refers to itself outside `until`, which is not allowed.
    """

    needs: tuple[int, ...]
    lenient: frozenset[int]
    needs_when: tuple[int, ...]
    after: tuple[int, ...]
    is_filter: bool
    refers_to_self: bool

    @property
    def waits(self) -> tuple[int, ...]:
        """The steps that it waits for, in the order in which program order lists them: references first, then `after`."""
        return (*self.needs, *self.after) if self.after else self.needs


@record
class PlanBody:
    """One list of steps, with the names in its scope.

    Attributes:
        where: Its path: `$`, or `$.plans.name`.
        unit: The number of the whole plan that it belongs to: 0 is the checked plan, others are saved plans.
        reported_at: For a saved plan: the place in the checked plan that leads here.
        label: Its name in messages: an inner plan's name, or the name by which a saved plan was found.
        broken: Positions of steps whose shape is at fault.
        returns: The schema that the output has to fit; `None`: there is none.
        calls: For each `plan` step by position: the body it runs; missing plans are left out.
        controlled: Ids of the steps that are there because of untrusted data: a failure that it may have caused led to the patch that has them.
        written: Ids of the steps whose own words count as untrusted data: a planner wrote them that had been shown such data.
    """

    where: str
    unit: int
    name: str | None
    reported_at: str
    label: str
    inputs: Mapping[str, Mapping[str, Json]]
    types: Mapping[str, Json]
    steps: Sequence[Step]
    output: Template
    returns: Mapping[str, Json] | None
    broken: frozenset[int]
    position: Mapping[str, int]
    refs: tuple[Refs, ...]
    calls: dict[int, int] = field(default_factory=dict[int, int])
    controlled: frozenset[str] = frozenset()
    written: frozenset[str] = frozenset()

    def path(self, position: int) -> str:
        """Return the path of a step."""
        return f"{self.where}.steps[{position}]"

    def positions(self, ids: Iterable[str]) -> list[int]:
        """Return the positions of the steps that have one of some ids, sorted: sets of ids have no order, and equal plans have equal reports."""
        return sorted({self.position[id_] for id_ in ids if id_ in self.position})

    def referred(self, template: Template) -> list[int]:
        """Return the positions of the steps that a template refers to, sorted."""
        return self.positions(template.formula.strict | template.formula.lenient)

    def templates(self) -> Iterator[tuple[int | None, Template]]:
        """Yield every template of the body with the position of its step, that of the output last and without one."""
        for position, step in enumerate(self.steps):
            for template in step.templates.values():
                yield position, template
        yield None, self.output

    def place(self, position: int | None, template: Template) -> str:
        """Return the path of one of the `templates`."""
        return (self.where if position is None else self.path(position)) + template.where


@record
class Unit:
    """A whole plan, with its inner plans, among those that a check covers."""

    plan: Plan
    reported_at: str
    label: str
    bodies: dict[str | None, int] = field(default_factory=dict["str | None", int])
    """Inner plans by name; the plan itself under `None`."""


@record
class Bodies:
    """Every body that a plan may run; the first is the plan itself.

    Attributes:
        missing: The steps that run a plan that does not exist.
        misshapen: Saved plans of a faulty shape, by unit, with the faults.
        saved: Names of saved plans; empty if a function finds them.
    """

    every: list[PlanBody] = field(default_factory=list[PlanBody])
    units: list[Unit] = field(default_factory=list[Unit])
    missing: list[tuple[PlanBody, int]] = field(default_factory=list[tuple[PlanBody, int]])
    misshapen: list[tuple[int, tuple[Problem, ...]]] = field(
        default_factory=list["tuple[int, tuple[Problem, ...]]"]
    )
    saved: tuple[str, ...] = ()

    @property
    def callees(self) -> list[tuple[int, ...]]:
        """For each body: the bodies that its steps run, sorted by number."""
        return [tuple(sorted(set(body.calls.values()))) for body in self.every]


def bodies_of(draft: Draft, plan: Plan, saved: SavedPlans | None) -> Bodies:
    """Return every body that the plan may run. O(size of all of them).

    Args:
        draft: The plan with its faults of shape: steps that are broken are not looked into.
        plan: The plan.
        saved: Saved plans by name or digest, or a function that finds them.
    """
    found = Bodies(saved=() if saved is None or callable(saved) else tuple(saved))
    by_digest: dict[str, int] = {}
    _add_unit(found, plan, "", THE_PLAN, draft.broken)
    # A breadth-first walk by a growing list: recursion would let a hostile plan overflow the stack.
    for body in found.every:  # grows while it is walked
        unit = found.units[body.unit]
        for position, step in enumerate(body.steps):
            if not isinstance(step, PlanStep) or position in body.broken:
                continue
            # An inner plan hides a saved plan of the same name, so that saving a plan can never change another plan.
            if step.plan in unit.bodies:
                body.calls[position] = unit.bodies[step.plan]
                continue
            kept = _saved_draft(saved, step.plan)
            other = None if kept is None else kept.plan
            if kept is None or other is None:
                found.missing.append((body, position))
                continue
            # The same saved plan is checked once, under whatever names it is found.
            if other.digest not in by_digest:
                reported_at = body.reported_at or f"{body.path(position)}.plan"
                number = _add_unit(found, other, reported_at, step.plan, kept.broken)
                by_digest[other.digest] = number
                if kept.problems:
                    found.misshapen.append((number, kept.problems))
            body.calls[position] = found.units[by_digest[other.digest]].bodies[None]
    return found


def _saved_draft(saved: SavedPlans | None, name: str) -> Draft | None:
    """Return the saved plan of a name or digest, without the parts of a wrong shape, or `None`."""
    given: object = None
    if callable(saved):
        given = saved(name)
    elif saved is not None and name in saved:
        given = saved[name]
    elif saved is not None and name.startswith("sha256:"):
        given = next((plan for plan in saved.values() if getattr(plan, "digest", None) == name), None)
    return None if given is None else draft_of(given)


def _add_unit(
    found: Bodies, plan: Plan, reported_at: str, label: str, broken: frozenset[tuple[str | None, int]]
) -> int:
    number = len(found.units)
    unit = Unit(plan, reported_at, label)
    found.units.append(unit)
    bodies: list[tuple[str | None, Plan | InnerPlan]] = [(None, plan), *plan.plans.items()]
    lost_in: dict[str | None, frozenset[int]] = {}
    for where, position in broken:
        lost_in[where] = lost_in.get(where, frozenset()) | {position}
    for name, given in bodies:
        unit.bodies[name] = len(found.every)
        lost = lost_in.get(name, frozenset())
        found.every.append(_body(given, name, unit, number, lost))
    return number


def _body(
    given: Plan | InnerPlan, name: str | None, unit: Unit, number: int, broken: frozenset[int]
) -> PlanBody:
    position: dict[str, int] = {}
    for index, step in enumerate(given.steps):
        # Of two steps with one id, references mean the first; the second is a `duplicate-id`.
        position.setdefault(step.id, index)
    return PlanBody(
        where="$" if name is None else path_of(("plans", name)),
        unit=number,
        name=name,
        reported_at=unit.reported_at,
        label=unit.label if name is None else name,
        inputs=given.inputs,
        types=visible_types(unit.plan, given),
        steps=given.steps,
        output=template_of(".output", given.output),
        returns=given.returns,
        broken=broken,
        position=position,
        refs=tuple(_refs(step, index, position) for index, step in enumerate(given.steps)),
    )


def visible_types(plan: Plan, given: Plan | InnerPlan) -> Mapping[str, Json]:
    """Return the types that a body of a plan can name: its own, then those of the plan."""
    if not given.types or given is plan:
        return plan.types
    # A chain instead of a merged dict: a plan with many inner plans and many types would otherwise cost their product.
    return ChainMap(given.types, plan.types)


def _refs(step: Step, index: int, position: Mapping[str, int]) -> Refs:
    # A reference outside `first(..)` needs its step; one only inside `first(..)` may find the step skipped.
    strict: set[int] = set()
    lenient: set[int] = set()
    to_self = False
    templates = step.templates
    for name, template in templates.items():
        formula = template.formula
        for found, ids in (strict, formula.strict), (lenient, formula.lenient):
            if ids:
                found |= {position[id_] for id_ in ids if id_ in position}
        if index in strict or index in lenient:
            strict.discard(index)
            lenient.discard(index)
            to_self = to_self or name != "until"
    when = templates.get("when")
    is_filter = when is not None and not when.formula.names.isdisjoint({"item", "index"})
    return Refs(
        needs=tuple(sorted(strict | lenient if lenient else strict)),
        lenient=frozenset(lenient - strict) if lenient else _NOBODY,
        needs_when=() if when is None or is_filter else _positions(when, position, index),
        after=tuple(sorted({position[id_] for id_ in step.after if id_ in position})) if step.after else (),
        is_filter=is_filter,
        refers_to_self=to_self or step.id in step.after,
    )


def _positions(template: Template, position: Mapping[str, int], index: int) -> tuple[int, ...]:
    ids = (*template.formula.strict, *template.formula.lenient)
    return tuple(sorted({position[id_] for id_ in ids if id_ in position} - {index}))
