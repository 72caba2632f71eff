"""A template learnt from a good plan: what its task's words name becomes typed inputs, and holes in the task.

    "Compare the weather in Rome and Oslo"   ->   "Compare the weather in {city} and {city_2}"
    {"city": "Rome"}                         ->   {"city": "${inputs.city}"}, city: {"type": "string", "default": "Rome"}

A text or a number of the plan is lifted where it stands in the task as a word of its own, and only if it then stands
nowhere else in the plan: a template that still says `Rome` somewhere would lie about Oslo. Holes are made by place: each input
that the task names has a place of its own, and a plan of which one would have none is refused. The learnt plan, run with its
defaults and what the run was given beside its words, is the plan it was learnt from. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeGuard, cast

from ...errors import InputRejected
from ...plans.checker.names import derived_id
from ...plans.plan import Plan
from ...plans.signature import Signatures
from ...plans.values import Json, canonical, normal_in_order
from .literals import is_said, place_pattern, rewritten
from .pattern import TaskPattern, pattern_fault

WORDS_MIN = 2
"""Words of its own that a pattern needs: with fewer it would answer tasks that are not meant."""

TEXT_CHARACTERS_MIN = 2
"""A shorter text is in the task by chance."""

_WORD = re.compile(r"\w+")
_KINDS = {str: "string", int: "integer", float: "number"}

_Raw: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Lifted:
    """A value that became an input."""

    name: str
    value: str | int | float
    schema: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Learned:
    """A template, and how it came to be.

    Attributes:
        plan: With the task's pattern and the new inputs.
        lifted: Values that became inputs.
        kept: Values that the task names and that stay: they stand in places where they cannot be lifted.
    """

    plan: Plan
    lifted: tuple[Lifted, ...]
    kept: tuple[str | int | float, ...] = ()


Span: TypeAlias = tuple[int, int]
"""Where a text stands in a task: start and end."""


@dataclass(frozen=True, slots=True)
class _Value:
    """A value of the plan that the task names.

    Attributes:
        places: Where it stands in the task's words; a place inside a longer value's is none.
        inputs: The plan's inputs with this value; empty for a value of an argument.
        argument: The argument's name.
        schema: The argument's type.
    """

    value: str | int | float
    places: tuple[Span, ...]
    inputs: tuple[str, ...] = ()
    argument: str = ""
    schema: Mapping[str, Json] = field(default_factory=dict[str, Json], hash=False)

    @property
    def text(self) -> str:
        """The value as the task says it."""
        return str(self.value)


@dataclass(slots=True)
class _Work:
    """A plan being made into a template.

    Attributes:
        holes: Where each input stands in the task's words.
    """

    raw: _Raw
    task: str
    holes: dict[Span, str] = field(default_factory=dict[Span, str])
    lifted: list[Lifted] = field(default_factory=list[Lifted])
    kept: list[str | int | float] = field(default_factory=list[str | int | float])

    @property
    def pattern(self) -> str:
        """The task with its holes."""
        text = self.task
        for (start, end), name in sorted(self.holes.items(), reverse=True):
            text = f"{text[:start]}{{{name}}}{text[end:]}"
        return text


def learn(
    plan: Plan,
    inputs: Mapping[str, Json] | None = None,
    *,
    task: str | None = None,
    tools: Signatures | None = None,
) -> Learned:
    """Return the template of a plan.

    Args:
        plan: A plan that did its task.
        inputs: The inputs it ran with; others stand at their defaults.
        task: What was asked for; by default the plan's own task.
        tools: The tools it calls: inputs get their parameters' types.

    Raises:
        InputRejected: There is no task, too little of it is left to tell it from others, or an input whose value it names
            would have no hole of its own.
    """
    words = " ".join((task or plan.task or "").split())
    if not words:
        raise InputRejected("expected a plan with a task to learn from, found none; give the plan a 'task'")
    work = _Work(cast("_Raw", normal_in_order(plan.to_dict())), words)
    named = _named_inputs(work, plan, inputs or {})
    free = [each for each in _candidates(work, tools) if each.text not in {other.text for other in named}]
    alone, shared = _apart([*named, *free])
    for each in shared:
        _keep(work, each)
    for each in alone:
        if each.inputs:
            _name(work, each)
        else:
            _lift(work, each)
    learned = Plan.model_validate({**work.raw, "task": work.pattern})
    _check(learned, words, {name: learned.inputs[name].get("default") for name in work.holes.values()})
    return Learned(learned, tuple(work.lifted), tuple(work.kept))


def _named_inputs(work: _Work, plan: Plan, inputs: Mapping[str, Json]) -> list[_Value]:
    """Return the values of the plan's inputs that the task names; they become the inputs' defaults.

    Other values of the run are left out: they are the caller's data, and a template's defaults are shown to planners.
    """
    declared = cast("_Raw", work.raw.get("inputs") or {})
    found: dict[str, _Value] = {}
    for name, schema in plan.inputs.items():
        value = inputs.get(name, schema.get("default"))
        if isinstance(value, float) and value.is_integer():  # the words say `8` for 8.0
            value = int(value)
        if not _is_liftable(value) or not (places := _places(work.task, value)):
            continue
        declared[name] = {**declared[name], "default": value}
        others = found[str(value)].inputs if str(value) in found else ()
        found[str(value)] = _Value(value, places, (*others, name))
    return list(found.values())


def _candidates(work: _Work, tools: Signatures | None) -> list[_Value]:
    """Return the values in arguments that the task names, with the argument's name and type, in plan order."""
    found: dict[tuple[type, object], _Value] = {}
    for step in cast("list[_Raw]", work.raw["steps"]):
        tool = tools.find(str(step.get("tool"))) if tools is not None else None
        parameters = {} if tool is None else cast("_Raw", tool.parameters.get("properties") or {})
        for argument, value in cast("_Raw", step.get("args") or {}).items():
            for name, each, is_whole in _leaves(argument, value):
                if places := _places(work.task, each):
                    schema = parameters.get(argument) if is_whole else None
                    candidate = _Value(each, places, (), name, _type_of(each, schema))
                    found.setdefault((type(each), each), candidate)
    return list(found.values())


def _leaves(
    name: str, value: object, *, is_whole: bool = True
) -> Iterator[tuple[str, str | int | float, bool]]:
    """Yield the texts without holes and the numbers in an argument, each with the nearest name."""
    match value:
        case dict():
            for key, part in cast("_Raw", value).items():
                yield from _leaves(key, part, is_whole=False)
        case list():
            for part in cast("list[object]", value):
                yield from _leaves(name, part, is_whole=False)
        case _ if _is_liftable(value) and "${" not in str(value):
            yield name, value, is_whole
        case _:
            pass


def _type_of(value: str | float, schema: Json) -> dict[str, Json]:
    """Return the type of an input: the parameter's where it is simple, else the value's."""
    match schema:
        case {"type": str(kind), "enum": list(options)} if value in options:
            return {"type": kind, "enum": options}
        case {"enum": list(options)} if value in options:
            return {"enum": options}
        case {"type": "number"} if not isinstance(value, str):
            return {"type": "number"}
        case _:
            return {"type": _KINDS[type(value)]}


def _apart(values: Sequence[_Value]) -> tuple[list[_Value], list[_Value]]:
    """Return the values that have places of their own, the longest value first, and the values that share a place.

    `York` in `New York` has no place there. Where it has no other, both stay as they are: with another city in the hole, the
    plan would still say `York`.
    """
    owners: dict[Span, _Value] = {}
    alone: list[_Value] = []
    shared: list[_Value] = []
    for each in sorted(values, key=lambda value: -len(value.text)):
        within = [owner for span, owner in owners.items() if any(_overlap(span, own) for own in each.places)]
        own = tuple(place for place in each.places if not any(_overlap(place, span) for span in owners))
        if own:
            alone.append(replace(each, places=own))
            owners |= dict.fromkeys(own, each)
        else:
            shared += [each, *within]
    texts = {each.text for each in shared}
    return [each for each in alone if each.text not in texts], list(dict.fromkeys(shared))


def _keep(work: _Work, each: _Value) -> None:
    """Leave a value unchanged if it shares its place with another value. Raises: InputRejected: the value belongs to an input."""
    if each.inputs:
        raise InputRejected(
            f"the value {canonical(each.value).decode()} of the input '{each.inputs[0]}' shares its place in the words "
            f"'{work.task}' with another value of the plan; expected a place of its own: reword the task"
        )
    work.kept.append(each.value)


def _lift(work: _Work, each: _Value) -> None:
    """Make an input of a value, unless it would be left standing somewhere."""
    name = _free_name(derived_id(each.argument).removeprefix("step_") or "value", work)
    changed = rewritten(work.raw, each.value, f"inputs.{name}")
    if is_said(changed, each.value, everywhere=len(each.places) > 1):
        work.kept.append(each.value)
        return
    inputs = {**cast("_Raw", changed.get("inputs") or {}), name: {**each.schema, "default": each.value}}
    work.raw = {**changed, "inputs": inputs}
    work.holes |= dict.fromkeys(each.places, name)
    work.lifted.append(Lifted(name, each.value, each.schema))


def _name(work: _Work, each: _Value) -> None:
    """Replace the values of the plan's inputs in the task by holes, each at its own place. Raises: InputRejected: an input would have no place."""
    names = ", ".join(f"'{name}'" for name in each.inputs)
    shown = canonical(each.value).decode()
    if len(each.inputs) == 1:
        work.raw = rewritten(work.raw, each.value, f"inputs.{each.inputs[0]}")
        places = dict.fromkeys(each.places, each.inputs[0])
    else:
        own = _own_places(work, each)
        if own is None:
            raise InputRejected(
                f"the inputs {names} all have the value {shown}, and the words '{work.task}' do not tell which place belongs to which input; "
                "expected a task that names each input at a place of its own: reword it, or run it with distinct values"
            )
        places = own
    if is_said(work.raw, each.value, everywhere=len(each.places) > len(each.inputs)):
        raise InputRejected(
            f"the task names the value {shown} of the input {names}, but the plan also has it as a literal: "
            f"a template would keep that for every other value; write a reference such as ${{inputs.{each.inputs[0]}}} there"
        )
    work.holes |= places


def _own_places(work: _Work, each: _Value) -> dict[Span, str] | None:
    """Return which of several places of one value belongs to which input; `None`: the words do not tell.

    Only a word beside a place that is part of an input's name identifies the input: `8 men` is `men`, `from 8` is `from_day`. The order
    of the inputs identifies nothing, since a plan has them in the order of the alphabet.
    """
    near = {name: _beside(work.task, each.places, name) for name in each.inputs}
    own = {places[0]: name for name, places in near.items() if len(places) == 1}
    return own if len(own) == len(each.inputs) == len(each.places) else None


def _beside(task: str, places: Sequence[Span], name: str) -> list[Span]:
    """Return the places next to which a word of an input's name stands."""
    parts = {part for part in name.casefold().split("_") if not part.isdigit()}
    found: list[Span] = []
    for start, end in places:
        words = [*_WORD.findall(task[:start])[-1:], *_WORD.findall(task[end:])[:1]]
        if parts & {word.casefold() for word in words}:
            found.append((start, end))
    return found


def _free_name(base: str, work: _Work) -> str:
    taken = cast("_Raw", work.raw.get("inputs") or {})
    number, name = 1, derived_id(base)
    while name in taken or f"{{{name}}}" in work.task:
        number += 1
        name = f"{derived_id(base)}_{number}"
    return name


def _is_liftable(value: object) -> TypeGuard[str | int | float]:
    if isinstance(value, str):
        return len(value.strip()) >= TEXT_CHARACTERS_MIN and value == " ".join(value.split())
    return isinstance(value, int | float) and not isinstance(value, bool)


def _places(task: str, value: str | float) -> tuple[Span, ...]:
    return tuple(found.span() for found in place_pattern(str(value)).finditer(task))


def _overlap(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _check(plan: Plan, task: str, values: Mapping[str, Json]) -> None:
    """Raise `InputRejected` unless the template answers the task that it was learnt from, and not every other."""
    shown = f"the task '{plan.task}'"
    if (fault := pattern_fault(plan)) is not None:
        raise InputRejected(f"{shown}: {fault}")
    pattern = TaskPattern.of(plan)
    if pattern is None or -pattern.rank[0] < WORDS_MIN:
        raise InputRejected(f"{shown} has too few words of its own to tell it from other tasks; reword it")
    if pattern.holes and pattern.match(task) != values:
        raise InputRejected(f"{shown} does not tell its inputs apart in the words '{task}'; reword it")
