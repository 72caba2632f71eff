"""The untrusted sources of one value: every step and input of a plan from which labelled data reaches an argument, a condition or the output.

`labels.py` decides whether a value is labelled. This module says where the label comes from, for people: it walks from the value back along the references
of labelled steps, into the plans that they run and out to the callers; from a step that reads a resource it walks to the earlier steps that have left labelled data there. The nearest sources come first. It changes no label.

A step is named by its trail: the positions of the `plan` steps around it, outermost first, then its own. A plan step that runs many times has one trail.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from operator import itemgetter
from typing import TypeAlias

from ...format.shape import Draft
from ...immutable import immutable, record
from ...plan import (
    AgentStep,
    AskPersonStep,
    AskStep,
    EndorseStep,
    Fallback,
    Plan,
    PlanForStep,
    PlanStep,
    ToolStep,
)
from ...reports.paths import key
from ...signature import Signature, Signatures, signatures_of
from ...values import Json
from ..body import PlanBody, SavedPlans, bodies_of
from ..survey import survey_of
from ..templates import Template, template_of
from .labels import CONDITIONS, UNNAMED, UNTRUSTED, Labels, is_untrusted
from .world import conflict

Trail: TypeAlias = tuple[int, ...]

VISITED_MAX = 20_000
"""Steps that one question looks at; past that the answer names every untrusted tool of the plan, which errs on the safe side."""
PLACES_MAX = 1_000
"""Places of an output that are labelled apart; past that the part of the output is labelled as a whole."""
_INTO = -1
"""After the trail of a `plan` step: the way goes through an argument of the step into its plan."""
HOPS_MAX = 20
"""Steps of the way from a source to a value that are named; after these the way ends in `..`."""
WHOLE = "$"
"""The place of the complete output."""


@immutable
class Source:
    """A place where untrusted data enters a plan.

    Attributes:
        name: The step's path in the plan, without items; of an input, `inputs.` and its name.
        tools: The untrusted tools that the step calls, sorted; empty for an input.
        trail: The step; empty for an input.
        via: Paths of the steps through which the data goes, the source first.
    """

    name: str
    tools: tuple[str, ...]
    trail: Trail
    via: tuple[str, ...]


@immutable
class Found:
    """The sources of a value, the nearest first.

    Attributes:
        is_complete: Whether every source is among them.
    """

    sources: tuple[Source, ...] = ()
    is_complete: bool = True


class Sources:
    """Answers from where values of a plan have untrusted data.

    Args:
        plan: A plan that passed its check.
        signatures: The tools.
        plans: Saved plans by name or digest.
        written: Ids of steps whose own words count as untrusted data.
    """

    def __init__(
        self,
        plan: Plan,
        signatures: Signatures | Iterable[Signature],
        plans: SavedPlans | None = None,
        written: Iterable[str] = (),
    ) -> None:
        self._tools = signatures_of(signatures)
        bodies = bodies_of(Draft(plan), plan, plans)
        bodies.every[0].written = frozenset(written)
        self._survey = survey_of(bodies, self._tools)
        self._ranks: dict[int, Mapping[int, int]] = {}
        self._writers: dict[int, Sequence[tuple[int, int]]] = {}

    def of_argument(self, trail: Trail, argument: str) -> Found:
        """Return the sources of an argument of a tool, or of a part of a prompt; all arguments of an agent's calls are as untrusted as its goal and its tools."""
        walk, labels = _Walk(self), self.labels(trail[:-1])
        step = labels.body.steps[trail[-1]]
        given: Template | None = None
        # The model chooses all arguments of its calls, so each is as untrusted as everything that it saw.
        if isinstance(step, AgentStep | PlanForStep):
            walk.visit(trail, None)
        elif isinstance(step, ToolStep | PlanStep) and argument in step.args:
            given = template_of("", step.args[argument])
        elif isinstance(step, AskStep):
            given = step.templates.get(argument)
        elif isinstance(step, AskPersonStep | EndorseStep):
            given = step.templates["endorse" if isinstance(step, EndorseStep) else "ask_person"]
        if given is not None:
            walk.add(trail[:-1], trail[-1], given, None)
        is_agent = isinstance(step, AgentStep | PlanForStep)
        if labels.varies_for_agent(trail[-1]) if is_agent else labels.variation.has(given, trail[-1]):
            walk.add_choice(trail)
        return walk.found()

    def of_control(self, trail: Trail) -> Found:
        """Return the sources of what decides whether, and how often, a step runs: its conditions, and those of the steps around it."""
        walk = _Walk(self)
        walk.add_control(trail, None)
        return walk.found()

    def of_output(self) -> dict[str, tuple[str, ...]]:
        """Return the labelled places of the plan's output, each with the names of its sources, sorted; empty: nothing is labelled.

        A place is `$` for the complete output, else such as `$.title` or `$.items[0]`, as far as the plan's text tells places apart.
        """
        labels = self.labels(())
        output = labels.body.output
        if not labels.of(output) & UNTRUSTED:
            return {}
        made: dict[str, tuple[str, ...]] = {}
        # One bound for all places together: each walk has what the earlier ones left.
        left = VISITED_MAX
        for place, template in _places(output):
            if not labels.of(template) & UNTRUSTED:
                continue
            walk = _Walk(self, left)
            walk.add((), None, template, None)
            names = walk.names()
            left -= walk.visited
            # An answer that may lack a source names all of them.
            if not walk.is_complete or not names:
                names |= self._all_names()
            made[place] = tuple(sorted(names or {UNNAMED}))
        return made or {WHOLE: tuple(sorted(self._all_names() or {UNNAMED}))}

    def body(self, prefix: Trail) -> PlanBody:
        """Return the body that the `plan` steps of a prefix lead to."""
        return self.labels(prefix).body

    def labels(self, prefix: Trail) -> Labels:
        """Return the labels of the body that the `plan` steps of a prefix lead to."""
        return self._survey.labels[self._number(prefix)]

    def _number(self, prefix: Trail) -> int:
        # Trails are short, as plans nest; the number of a body is not kept for each of them.
        number = 0
        for position in prefix:
            number = self._survey.bodies.every[number].calls[position]
        return number

    def rank(self, prefix: Trail, position: int) -> int:
        """Return the place of a step in the program order of its body."""
        number = self._number(prefix)
        if number not in self._ranks:
            self._ranks[number] = {each: rank for rank, each in enumerate(self._survey.steps[number])}
        return self._ranks[number][position]

    def writers(self, prefix: Trail) -> Sequence[tuple[int, int]]:
        """Return the steps of a body that leave labelled data in a resource, in program order, each after its place in it."""
        number = self._number(prefix)
        if number not in self._writers:
            stored = self._survey.labels[number].stored
            every = enumerate(self._survey.steps[number])
            self._writers[number] = [(rank, each) for rank, each in every if stored[each]]
        return self._writers[number]

    def path(self, trail: Trail) -> str:
        """Return the path of a step in the plan, without items."""
        return "/".join(self.body(trail[:depth]).steps[position].id for depth, position in enumerate(trail))

    def untrusted_tools(self, trail: Trail) -> tuple[str, ...]:
        """Return the untrusted tools that a step calls itself, sorted."""
        step = self.body(trail[:-1]).steps[trail[-1]]
        return tuple(sorted({name for name in step.may_call if self._is_untrusted(name)}))

    def _is_untrusted(self, name: str) -> bool:
        tool = self._tools.find(name)
        return tool is not None and tool.trust == "untrusted"

    def _all_names(self) -> set[str]:
        inputs = {
            f"inputs.{name}"
            for body in self._survey.bodies.every
            for name, schema in body.inputs.items()
            if is_untrusted(schema)
        }
        return inputs | {name for name in self._tools.names if self._is_untrusted(name)}


@record
class _Walk:
    """One walk from a value back to its sources, breadth first.

    Attributes:
        towards: Visited step -> the next step on the way to the value; `None`: the value itself mentions it. For a `plan` step there is another one with
            `_INTO`, if the way leads through its arguments.
        inputs: Visited untrusted input of the plan -> the same.
        waiting: Templates to look into: prefix of their body, position of their step, and the step that they belong to on the way.
        due: Steps to look at: a step, and the step that it belongs to on the way.
        passed: Inputs of inner plans whose arguments have been looked into.
        ended: Visited steps of whose end it was looked into, too.
        valued: Visited steps of whose value it was looked into, too.
        searches: Bodies to look for writes in: the body, how many of the steps around it are also around the reader, in the same round; the place in
            its program order before which they stand (`None`: anywhere), the resource, and the step that they belong to on the way.
        searched: The same without place and step -> how many of the writes have been looked at.
        scanned: How many writes have been looked at.
        writers: Visited writes.
    """

    sources: Sources
    visited_max: int = VISITED_MAX
    towards: dict[Trail, Trail | None] = field(default_factory=dict[Trail, "Trail | None"])
    inputs: dict[str, Trail | None] = field(default_factory=dict[str, "Trail | None"])
    waiting: deque[tuple[Trail, int | None, Template, Trail | None]] = field(
        default_factory=deque["tuple[Trail, int | None, Template, Trail | None]"]
    )
    due: deque[tuple[Trail, Trail | None]] = field(default_factory=deque["tuple[Trail, Trail | None]"])
    passed: set[tuple[Trail, str]] = field(default_factory=set[tuple[Trail, str]])
    ended: set[Trail] = field(default_factory=set[Trail])
    valued: set[Trail] = field(default_factory=set[Trail])
    searches: deque[tuple[Trail, int, int | None, str, Trail]] = field(
        default_factory=deque["tuple[Trail, int, int | None, str, Trail]"]
    )
    searched: dict[tuple[Trail, int, str], int] = field(default_factory=dict[tuple[Trail, int, str], int])
    scanned: int = 0
    writers: set[tuple[Trail, int]] = field(default_factory=set[tuple[Trail, int]])
    is_complete: bool = True

    @property
    def visited(self) -> int:
        """How many steps and inputs it has looked at."""
        return len(self.towards) + len(self.passed) + self.scanned

    def found(self) -> Found:
        """Walk to the end, and return the sources."""
        self._run()
        made = [
            Source(self.sources.path(trail), tools, trail, self._via(trail))
            for trail in self.towards
            if trail[-1] != _INTO and (tools := self.sources.untrusted_tools(trail))
        ]
        for name, towards in self.inputs.items():
            made.append(Source(name, (), (), (name, *(self._via(towards) if towards is not None else ()))))
        return Found(tuple(made), self.is_complete)

    def names(self) -> set[str]:
        """Walk to the end, and return the names of the sources."""
        self._run()
        steps = [trail for trail in self.towards if trail[-1] != _INTO]
        tools = {name for trail in steps for name in self.sources.untrusted_tools(trail)}
        return tools | set(self.inputs)

    def _run(self) -> None:
        # Steps before templates, and writes last: so the nearest sources are found first.
        while self.due or self.waiting or self.searches:
            if self.visited > self.visited_max:
                self.is_complete = False
                return
            if self.due:
                self.visit(*self.due.popleft(), of_end=True)
            elif self.waiting:
                self._look(*self.waiting.popleft())
            else:
                self._look_for_writers(*self.searches.popleft())

    def _via(self, trail: Trail) -> tuple[str, ...]:
        names: list[str] = []
        at: Trail | None = trail
        # No circle can arise: the next step of each was set once, at its first visit, and was visited before.
        while at is not None:
            if len(names) >= HOPS_MAX:
                return (*names, "..")
            names.append(self.sources.path(at[:-1] if at[-1] == _INTO else at))
            at = self.towards[at]
        return tuple(names)

    def add(self, prefix: Trail, position: int | None, template: Template, towards: Trail | None) -> None:
        """Look into a template; `position` is its step, whose `item` and `prev` it may mention."""
        self.waiting.append((prefix, position, template, towards))

    def add_control(self, trail: Trail, towards: Trail | None, shared: int = 0) -> None:
        """Look at what decides whether, and how often, a step runs: its conditions, and those of the steps around it but for the `shared` outermost."""
        for depth in range(len(trail), shared, -1):
            prefix, position = trail[: depth - 1], trail[depth - 1]
            step = self.sources.body(prefix).steps[position]
            for name in ("when", "for_each", "until"):
                if name in step.templates:
                    self.add(prefix, position, step.templates[name], towards)
            if depth < len(trail) and "args" in step.templates:
                # A plan does not run if its inputs have no value, or do not fit.
                self.add(prefix, position, step.templates["args"], towards)
            if step.repeat is not None:
                # A round that fails is the last. With a value for its failure a step always ends, and the value tells of the failure.
                self.visit(trail[:depth], towards, of_end=not isinstance(step.on_error, Fallback))
            self.add_awaited(prefix, position, towards)

    def add_choice(self, trail: Trail) -> None:
        """Look at what chooses whether a step runs, in those runs of the plans around it that the callers ask for."""
        for depth in range(len(trail), 0, -1):
            prefix, position = trail[: depth - 1], trail[depth - 1]
            labels = self.sources.labels(prefix)
            is_inside = depth < len(trail)
            # A level that chooses nothing ends the walk outwards.
            if not labels.choice(position, is_inside=is_inside):
                return
            found = labels.choosers(position, is_inside=is_inside)
            for template in found[0]:
                self.add(prefix, position, template, None)
            self.due += (((*prefix, other), None) for other in found[1])

    def add_awaited(self, prefix: Trail, position: int, towards: Trail | None) -> None:
        """Look at the steps on whose end it depends whether a step runs: those that it waits for, as far as untrusted data decides how they end."""
        labels = self.sources.labels(prefix)
        for other in labels.body.refs[position].waits:
            if labels.ends[other] & _mask((*prefix, other)):
                self.due.append(((*prefix, other), towards))

    def visit(self, trail: Trail, towards: Trail | None, *, of_end: bool = False) -> None:
        """Look at a step that the value mentions, if its value is labelled; or at one whose end matters, if its end is."""
        labels, position = self.sources.labels(trail[:-1]), trail[-1]
        label = labels.ends[position] if of_end else labels.values[position]
        # A step counts by its value or by its end, which other templates decide: each is looked at once.
        is_known = trail in self.ended if of_end else trail in self.valued
        if is_known or not label & _mask(trail):
            return
        prefix, step = trail[:-1], labels.body.steps[position]
        called = labels.body.calls.get(position)
        if of_end and isinstance(step.on_error, Fallback):
            self._visit_end(trail, towards)
            return
        self.towards.setdefault(trail, towards)
        self.valued.add(trail)
        tells_end = of_end or step.on_error != "fail"  # a value that stands for a failure tells of it
        if tells_end:
            self.ended.add(trail)
        for name, template in step.templates.items():
            # Arguments of a plan count as far as its output mentions its inputs; but the plan fails if one of them has no value.
            if name != "args" or called is None or tells_end:
                self.add(prefix, position, template, trail)
        # Into the plan that the step runs: its value is what that plan gives.
        if called is not None:
            inner = self.sources.body(trail)
            self.add(trail, None, inner.output, trail)
            if tells_end:  # any of its steps may be the one that fails by untrusted data
                self.due += (((*trail, other), trail) for other in range(len(inner.steps)))
        if tells_end:
            self.add_awaited(prefix, position, trail)
        if labels.held[position] & _mask(trail):
            self._search(trail, trail)

    def _visit_end(self, trail: Trail, towards: Trail | None) -> None:
        """Look at whether a step runs that has a value for its failure: if it runs it ends with a value, whatever it gets."""
        self.ended.add(trail)
        prefix, position = trail[:-1], trail[-1]
        body = self.sources.body(prefix)
        for name in (*CONDITIONS, *(("args",) if position in body.calls else ())):
            if name in (templates := body.steps[position].templates):
                self.add(prefix, position, templates[name], towards)
        self.add_awaited(prefix, position, towards)

    def _search(self, trail: Trail, towards: Trail) -> None:
        """Look for the steps, in the body of a step and around it, that may have left labelled data where this step gets it."""
        for touch in self.sources.labels(trail[:-1]).touches[trail[-1]]:
            for depth in range(len(trail)):
                prefix, position = trail[:depth], trail[depth]
                place = self.sources.rank(prefix, position)
                self.searches.append((prefix, depth, place, touch.resource, towards))
                if depth + 1 < len(trail) and self.sources.body(prefix).steps[position].may_run_again:
                    # A plan that runs again gets what its last run has left.
                    self.searches.append((trail[: depth + 1], depth, None, touch.resource, towards))

    def _look_for_writers(
        self, prefix: Trail, shared: int, end: int | None, resource: str, towards: Trail
    ) -> None:
        """Look at the steps of a body before place `end` of its program order that may have left labelled data in a resource."""
        writers = self.sources.writers(prefix)
        # Writers that an earlier search has seen are left out, so that all searches together are linear.
        begin = self.searched.get((prefix, shared, resource), 0)
        stop = len(writers) if end is None else bisect_left(writers, end, key=itemgetter(0))
        self.scanned += max(0, stop - begin)
        self.searched[prefix, shared, resource] = max(begin, stop)
        labels = self.sources.labels(prefix)
        for _, position in writers[begin:stop]:
            if any(touch.writes and conflict(touch.resource, resource) for touch in labels.touches[position]):
                self._visit_writer((*prefix, position), shared, resource, towards)

    def _visit_writer(self, trail: Trail, shared: int, resource: str, towards: Trail) -> None:
        """Look at what a step has left in a resource: its arguments, what decided about it, and what it has read itself."""
        prefix, position = trail[:-1], trail[-1]
        labels = self.sources.labels(prefix)
        if not labels.stored[position] & _mask(trail):
            return
        if position in labels.body.calls:
            self.searches.append((trail, shared, None, resource, towards))
            return
        if (trail, shared) in self.writers:
            return
        self.writers.add((trail, shared))
        self.towards.setdefault(trail, towards)
        for name in ("args", "goal"):
            if name in (templates := labels.body.steps[position].templates):
                self.add(prefix, position, templates[name], trail)
        # What decides about a plan in which both steps are decides nothing about what one finds of the other.
        self.add_control(trail, trail, shared)
        if labels.held[position] & labels.stored[position] & _mask(trail):
            self._search(trail, trail)

    def _look(self, prefix: Trail, position: int | None, template: Template, towards: Trail | None) -> None:
        body, formula = self.sources.body(prefix), template.formula
        for other in body.referred(template):
            self.visit((*prefix, other), towards)
        # `first(..)` tells whether its steps have ended with a value.
        for other in body.positions(formula.lenient):
            self.due.append(((*prefix, other), towards))
        if "inputs" in formula.names:
            for name in sorted(formula.inputs or body.inputs):
                self._look_at_input(prefix, name, towards)
        if position is not None and not formula.names.isdisjoint({"item", "index"}):
            # An item has the label of its list, and of the filter that let it pass; the filter itself looks at items of the list.
            templates = body.steps[position].templates
            of_item = [templates.get("for_each")]
            if body.refs[position].is_filter and template is not templates["when"]:
                of_item.append(templates["when"])
            for mentioned in of_item:
                if mentioned is not None and mentioned is not template:
                    self.add(prefix, position, mentioned, towards)
        if position is not None and "prev" in formula.names:
            self.visit((*prefix, position), towards)

    def _look_at_input(self, prefix: Trail, name: str, towards: Trail | None) -> None:
        if (prefix, name) in self.passed:
            return
        self.passed.add((prefix, name))
        if is_untrusted(self.sources.body(prefix).inputs.get(name, {})):
            inside = f"{self.sources.path(prefix)}/" if prefix else ""
            self.inputs.setdefault(f"{inside}inputs.{name}", towards)
        if not prefix:
            return
        outer, position = prefix[:-1], prefix[-1]
        step = self.sources.body(outer).steps[position]
        if isinstance(step, PlanStep) and name in step.args:  # an input that is not given has its default
            into = (*prefix, _INTO)
            self.towards.setdefault(into, towards)
            self.add(outer, position, template_of("", step.args[name]), into)


def _mask(trail: Trail) -> int:
    """Return the bits of a label that count for a step."""
    # In an inner plan a label may stand for an input, which only the caller can judge: the walk goes on, and finds a source or none.
    return UNTRUSTED if len(trail) == 1 else ~0


def _places(output: Template) -> Iterator[tuple[str, Template]]:
    """Yield the parts of an output's template that the plan's text tells apart, with their places."""
    waiting: list[tuple[str, Json]] = [(WHOLE, output.value)]
    count = 1
    while waiting:
        place, value = waiting.pop()
        parts: Sequence[tuple[str, Json]] = ()
        match value:
            case dict():
                parts = [(f"{place}{key(name)}", part) for name, part in value.items()]
            case list():
                parts = [(f"{place}[{index}]", part) for index, part in enumerate(value)]
            case _:
                pass
        count += len(parts)
        if parts and count <= PLACES_MAX:
            waiting += reversed(parts)
        else:
            yield place, output if place == WHOLE else template_of("", value)
