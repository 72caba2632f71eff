"""A template learnt from a good plan: what its task's words name becomes typed inputs, and holes in the task.

    "Compare the weather in Rome and Oslo"   ->   "Compare the weather in {city} and {city_2}"
    {"city": "Rome"}                         ->   {"city": "${inputs.city}"}, city: {"type": "string", "default": "Rome"}

A text or a number of the plan is lifted where it stands in the task as a word of its own, and only if it then stands
nowhere else in the plan: a template that still says `Rome` somewhere would lie about Oslo. The learnt plan, run with its
defaults and what the run was given beside its words, is the plan it was learnt from. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeGuard, cast

from ..errors import InputRejected
from ..plans.derived_ids import derived_id
from ..plans.plan import Plan
from ..plans.signature import Signatures
from ..plans.values import Json, normal
from .literals import rewritten, still_says, texts, word_pattern
from .pattern import TaskPattern

WORDS_MIN = 2
"""Words of its own that a pattern needs: with fewer it would answer tasks that are not meant."""

TEXT_CHARACTERS_MIN = 2
"""A shorter text is in the task by chance."""

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


@dataclass(slots=True)
class _Work:
    """A plan being made into a template."""

    raw: _Raw
    task: str
    lifted: list[Lifted] = field(default_factory=list[Lifted])
    kept: list[str | int | float] = field(default_factory=list[str | int | float])


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
        InputRejected: There is no task, or too little of it is left to tell it from others.
    """
    words = " ".join((task or plan.task or "").split())
    if not words:
        raise InputRejected("expected a plan with a task to learn from, found none; give the plan a 'task'")
    work = _Work(cast("_Raw", normal(plan.to_dict())), words)
    given = _named_inputs(work, plan, inputs or {})
    for name, value in given.items():
        _name(work, name, value)
    for value, argument, schema in _candidates(work.raw, tools):
        if _is_word(work.task, value):
            _lift(work, value, argument, schema)
    learned = Plan.model_validate({**work.raw, "task": work.task})
    _check(learned, words, {**given, **{each.name: each.value for each in work.lifted}})
    return Learned(learned, tuple(work.lifted), tuple(work.kept))


def _named_inputs(work: _Work, plan: Plan, inputs: Mapping[str, Json]) -> dict[str, str | int | float]:
    """Return the plan's inputs whose values the task names, the longest first; their defaults become these values.

    Other values of the run are left out: they are the caller's data, and a template's defaults are shown to planners.
    """
    declared = cast("_Raw", work.raw.get("inputs") or {})
    found: dict[str, str | int | float] = {}
    for name, schema in plan.inputs.items():
        value = inputs.get(name, schema.get("default"))
        if _is_liftable(value) and _is_word(work.task, value) and value not in found.values():
            found[name] = value
            declared[name] = {**declared[name], "default": value}
    return dict(sorted(found.items(), key=lambda entry: (-len(str(entry[1])), entry[0])))


def _candidates(raw: _Raw, tools: Signatures | None) -> list[tuple[str | int | float, str, dict[str, Json]]]:
    """Return values in arguments with the argument's name and type, the longest first, in plan order."""
    found: dict[tuple[type, object], tuple[str | int | float, str, dict[str, Json]]] = {}
    for step in cast("list[_Raw]", raw["steps"]):
        tool = tools.find(str(step.get("tool"))) if tools is not None else None
        parameters = {} if tool is None else cast("_Raw", tool.parameters.get("properties") or {})
        for argument, value in cast("_Raw", step.get("args") or {}).items():
            for name, each, is_whole in _leaves(argument, value):
                schema = parameters.get(argument) if is_whole else None
                found.setdefault((type(each), each), (each, name, _type_of(each, schema)))
    return sorted(found.values(), key=lambda entry: -len(str(entry[0])))


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


def _lift(work: _Work, value: str | float, argument: str, schema: dict[str, Json]) -> None:
    """Make an input of a value, unless it would be left standing somewhere."""
    name = _free_name(derived_id(argument).removeprefix("step_") or "value", work)
    changed = rewritten(work.raw, value, f"inputs.{name}")
    if any(still_says(text, value) for text in texts(changed)):
        work.kept.append(value)
        return
    inputs = {**cast("_Raw", changed.get("inputs") or {}), name: {**schema, "default": value}}
    work.raw = {**changed, "inputs": inputs}
    work.task = _with_hole(work.task, str(value), name)
    work.lifted.append(Lifted(name, value, schema))


def _name(work: _Work, name: str, value: str | float) -> None:
    """Have the task and the plan name an input that the plan has, where they say its value."""
    changed = rewritten(work.raw, value, f"inputs.{name}")
    if any(still_says(text, value) for text in texts(changed)):
        work.kept.append(value)
        return
    work.raw = changed
    work.task = _with_hole(work.task, str(value), name)


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


def _is_word(task: str, value: str | float) -> bool:
    return word_pattern(str(value)).search(task) is not None


def _with_hole(task: str, text: str, name: str) -> str:
    return word_pattern(text).sub(lambda _: f"{{{name}}}", task)


def _check(plan: Plan, task: str, values: Mapping[str, Json]) -> None:
    """Raise `InputRejected` unless the template answers the task that it was learnt from, and not every other."""
    pattern = TaskPattern.of(plan)
    shown = f"the task '{plan.task}'"
    if pattern is None or -pattern.rank[0] < WORDS_MIN:
        raise InputRejected(f"{shown} has too few words of its own to tell it from other tasks; reword it")
    if pattern.holes and pattern.match(task) != {
        name: values[name] for name in pattern.holes if name in values
    }:
        raise InputRejected(f"{shown} does not tell its inputs apart in the words '{task}'; reword it")
