"""A template learnt from a good plan: what its task's words name becomes typed inputs, and holes in the task.

    "Compare the weather in Rome and Oslo"   ->   "Compare the weather in {city} and {city_2}"
    {"city": "Rome"}                         ->   {"city": "${inputs.city}"}, city: {"type": "string", "default": "Rome"}

A text or a number of the plan is lifted (made an input) if it stands in the task as a word of its own, and only if it then stands nowhere
else in the plan: a template in which `Rome` remains somewhere would be wrong for Oslo. Holes are made by place. Each input that the task
names needs a place of its own; a plan in which an input has none is refused. The learnt plan, run with its defaults and with the inputs
that the run was given beside its words, is the plan it was learnt from. Pure.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeGuard, cast

from ...errors import InputRejected
from ...plans.checker.names import derived_id, numbered
from ...plans.checker.templates import TEMPLATE_PLACES
from ...plans.expressions.lexical import find_placeholder
from ...plans.inputs import HOLE
from ...plans.plan import Plan
from ...plans.signature import Signatures, properties_of
from ...plans.values import Json, canonical, normal_in_order
from .pattern import TaskPattern, pattern_fault
from .retrieval import words_in

WORDS_MIN = 2
"""Words outside holes that a pattern needs: with fewer it would match tasks that mean something else."""

TEXT_CHARACTERS_MIN = 2
"""A shorter text stands in the task by chance."""

_KINDS = {str: "string", int: "integer", float: "number"}


Span: TypeAlias = tuple[int, int]
"""A place of a text in a task: start and end."""

_Raw: TypeAlias = dict[str, Any]
"""A plan, or a part of one, as JSON."""


@dataclass(frozen=True, slots=True)
class LearnedInput:
    """A value that became an input."""

    name: str
    value: str | int | float
    schema: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class LearnedTemplate:
    """A template, with the values that became its inputs.

    Attributes:
        plan: The plan with the new inputs; its task is the pattern.
        lifted: The values that became inputs.
        kept: Values that the task names and that remain literals, since some of their places cannot hold a reference.
    """

    plan: Plan
    lifted: tuple[LearnedInput, ...]
    kept: tuple[str | int | float, ...] = ()


@dataclass(frozen=True, slots=True)
class _NamedValue:
    """A value of the plan that the task names.

    Attributes:
        places: Its places in the task; a place inside a longer value does not count.
        inputs: The plan's inputs with this value; empty for a value of an argument.
        argument: The argument's name.
        schema: The type of the argument.
    """

    value: str | int | float
    places: tuple[Span, ...]
    inputs: tuple[str, ...] = ()
    argument: str = ""
    schema: Mapping[str, Json] = field(default_factory=dict[str, Json], hash=False)

    @property
    def text(self) -> str:
        """The value as the task spells it."""
        return str(self.value)


@dataclass(slots=True)
class _TemplateDraft:
    """A plan being made into a template.

    Attributes:
        raw: The plan as JSON.
        task: The words, with single spaces.
        holes: The place of each hole in the task, with the name of its input.
    """

    raw: _Raw
    task: str
    holes: dict[Span, str] = field(default_factory=dict[Span, str])
    lifted: list[LearnedInput] = field(default_factory=list[LearnedInput])
    kept: list[str | int | float] = field(default_factory=list[str | int | float])

    @property
    def pattern(self) -> str:
        """The task with its holes."""
        text = self.task
        for (start, end), name in sorted(self.holes.items(), reverse=True):
            text = f"{text[:start]}{{{name}}}{text[end:]}"
        return text

    def with_holes(self, text: str) -> str:
        """Return prose of the plan with the names of inputs, in braces, for the words of the task that became holes."""
        # What the plan leaves out for Rome, the template leaves out for every city.
        names = {self.task[start:end].casefold(): name for (start, end), name in sorted(self.holes.items())}
        words = sorted(names, key=len, reverse=True)
        if not words:
            return text
        pattern = "|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in words)
        return re.sub(pattern, lambda found: f"{{{names[found[0].casefold()]}}}", text, flags=re.IGNORECASE)


def learn(
    plan: Plan,
    inputs: Mapping[str, Json] | None = None,
    *,
    task: str | None = None,
    tools: Signatures | None = None,
) -> LearnedTemplate:
    """Return the template of a plan.

    Args:
        plan: A plan that did its task.
        inputs: The inputs of its run; the other inputs had their defaults.
        task: The words of the task; `None`: the plan's own task.
        tools: The tools that the plan calls; the new inputs get the types of their parameters.

    Raises:
        InputRejected: There is no task, the pattern has too few words to distinguish it from other tasks, or an input whose value the task
            names would have no hole of its own.
    """
    words = " ".join((task or plan.task or "").split())
    if not words:
        raise InputRejected("expected a plan with a task to learn from, found none; give the plan a 'task'")
    template = _TemplateDraft(cast("_Raw", normal_in_order(plan.to_dict())), words)
    # The plan's own inputs come first. A value that is both an input's and an argument's belongs to the input,
    # which the plan already has.
    named = _inputs_in_task(template, plan, inputs or {})
    free = [
        each
        for each in _arguments_in_task(template, tools)
        if each.text not in {other.text for other in named}
    ]
    # Places decide, not values: `York` inside `New York` is another value at the same place.
    alone, shared = _by_place([*named, *free])
    for each in shared:
        _keep_literal(template, each)
    for each in alone:
        if each.inputs:
            _open_holes(template, each)
        else:
            _lift(template, each)
    # The result is read as a plan again, and its pattern has to match the task it came from: a template that does
    # not even answer its own task would answer others wrongly.
    raw = {**template.raw, "task": template.pattern}
    if plan.left_out:
        raw["left_out"] = [template.with_holes(text) for text in plan.left_out]
    learned = Plan.model_validate(raw)
    _check(learned, words, {name: learned.inputs[name].get("default") for name in template.holes.values()})
    return LearnedTemplate(learned, tuple(template.lifted), tuple(template.kept))


def _inputs_in_task(template: _TemplateDraft, plan: Plan, inputs: Mapping[str, Json]) -> list[_NamedValue]:
    """Return the values of the plan's inputs that the task names, and make them the defaults of these inputs.

    Other values of the run become no defaults: they are the caller's data, and planners are shown the defaults of templates.
    """
    declared = cast("_Raw", template.raw.get("inputs") or {})
    found: dict[str, _NamedValue] = {}
    for name, schema in plan.inputs.items():
        value = inputs.get(name, schema.get("default"))
        # A task says `8` for 8.0, and holes are found by the words of the task.
        if isinstance(value, float) and value.is_integer():  # words spell 8.0 as `8`
            value = int(value)
        if not _is_liftable(value) or not (places := _places(template.task, value)):
            continue
        declared[name] = {**declared[name], "default": value}
        others = found[str(value)].inputs if str(value) in found else ()
        found[str(value)] = _NamedValue(value, places, (*others, name))
    return list(found.values())


def _arguments_in_task(template: _TemplateDraft, tools: Signatures | None) -> list[_NamedValue]:
    """Return the values in arguments of steps that the task names, in plan order."""
    found: dict[tuple[type, object], _NamedValue] = {}
    for step in cast("list[_Raw]", template.raw["steps"]):
        tool = tools.find(str(step.get("tool"))) if tools is not None else None
        parameters: Mapping[str, Json] = {} if tool is None else properties_of(tool.parameters)
        for argument, value in cast("_Raw", step.get("args") or {}).items():
            for name, each, is_whole in _argument_values(argument, value):
                if places := _places(template.task, each):
                    # A part of an object or a list has no schema of its own here, so that its own type must do.
                    schema = parameters.get(argument) if is_whole else None
                    candidate = _NamedValue(each, places, (), name, _type_of(each, schema))
                    # The first argument names the input. 1 and True, or 1 and 1.0, are equal in Python and two
                    # values in a plan.
                    found.setdefault((type(each), each), candidate)
    return list(found.values())


def _argument_values(
    name: str, value: object, *, is_whole: bool = True
) -> Iterator[tuple[str, str | int | float, bool]]:
    """Yield the literal texts and numbers in an argument, each with the nearest name and whether it is the whole argument."""
    match value:
        case dict():
            for key, part in cast("_Raw", value).items():
                yield from _argument_values(key, part, is_whole=False)
        case list():
            for part in cast("list[object]", value):
                yield from _argument_values(name, part, is_whole=False)
        case _ if _is_liftable(value) and "${" not in str(value):
            yield name, value, is_whole
        case _:
            pass


def _type_of(value: str | float, schema: Json) -> dict[str, Json]:
    """Return the type of an input: that of the parameter if it is simple, else that of the value."""
    match schema:
        case {"type": str(kind), "enum": list(options)} if value in options:
            return {"type": kind, "enum": options}
        case {"enum": list(options)} if value in options:
            return {"enum": options}
        case {"type": "number"} if not isinstance(value, str):
            return {"type": "number"}
        case _:
            return {"type": _KINDS[type(value)]}


def _by_place(values: Sequence[_NamedValue]) -> tuple[list[_NamedValue], list[_NamedValue]]:
    """Return the values that have a place of their own, the longest value first, and the values that share all their places.

    `York` has no place of its own in `New York`. If it has no other place, both values remain literals: with another city in the hole, the
    plan would still contain `York`.
    """
    owners: dict[Span, _NamedValue] = {}
    alone: list[_NamedValue] = []
    shared: list[_NamedValue] = []
    # Longest first, so that a longer value takes its places before the values inside it.
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


def _keep_literal(template: _TemplateDraft, each: _NamedValue) -> None:
    """Keep a value that shares its place with another value as a literal. Raises: InputRejected: it is the value of an input."""
    if each.inputs:
        raise InputRejected(
            f"the value {canonical(each.value).decode()} of the input '{each.inputs[0]}' shares its place in the words "
            f"'{template.task}' with another value of the plan; expected a place of its own: reword the task"
        )
    template.kept.append(each.value)


def _lift(template: _TemplateDraft, each: _NamedValue) -> None:
    """Make an input of a value, unless the value would remain somewhere in the plan."""
    name = _free_name(derived_id(each.argument).removeprefix("step_") or "value", template)
    # Replace first and look afterwards: what is left of the value is in a place that cannot hold a reference,
    # such as a key or a tool's name.
    changed = with_reference(template.raw, each.value, f"inputs.{name}")
    if is_still_named(changed, each.value, everywhere=len(each.places) > 1):
        template.kept.append(each.value)
        return
    inputs = {**cast("_Raw", changed.get("inputs") or {}), name: {**each.schema, "default": each.value}}
    template.raw = {**changed, "inputs": inputs}
    template.holes |= dict.fromkeys(each.places, name)
    template.lifted.append(LearnedInput(name, each.value, each.schema))


def _open_holes(template: _TemplateDraft, each: _NamedValue) -> None:
    """Make the holes of inputs that the plan has and that share a value. Raises: InputRejected: an input would have no place of its own."""
    names = ", ".join(f"'{name}'" for name in each.inputs)
    shown = canonical(each.value).decode()
    if len(each.inputs) == 1:
        template.raw = with_reference(template.raw, each.value, f"inputs.{each.inputs[0]}")
        places = dict.fromkeys(each.places, each.inputs[0])
    else:
        own = _places_by_name(template, each)
        if own is None:
            raise InputRejected(
                f"the inputs {names} all have the value {shown}, and the words '{template.task}' do not tell which place belongs to which input; "
                "expected a task that names each input at a place of its own: reword it, or run it with distinct values"
            )
        places = own
    # If the task says the value more often than there are inputs for it, the extra word may mean a setting such
    # as `retries`.
    if is_still_named(template.raw, each.value, everywhere=len(each.places) > len(each.inputs)):
        raise InputRejected(
            f"the task names the value {shown} of the input {names}, but the plan also has it as a literal: "
            f"a template would keep that for every other value; write a reference such as ${{inputs.{each.inputs[0]}}} there"
        )
    template.holes |= places


def _places_by_name(template: _TemplateDraft, each: _NamedValue) -> dict[Span, str] | None:
    """Return which place of a value belongs to which of several inputs; `None`: the words do not tell.

    An input is identified by a word next to the place that is part of its name: `8 men` is `men`, `from 8` is `from_day`. The order of the
    inputs identifies nothing, since a plan has its inputs in alphabetical order.
    """
    near = {name: _next_to_name(template.task, each.places, name) for name in each.inputs}
    own = {places[0]: name for name, places in near.items() if len(places) == 1}
    return own if len(own) == len(each.inputs) == len(each.places) else None


def _next_to_name(task: str, places: Sequence[Span], name: str) -> list[Span]:
    """Return the places next to a word that is part of an input's name."""
    parts = {part for part in name.casefold().split("_") if not part.isdigit()}
    found: list[Span] = []
    for start, end in places:
        if parts & {*words_in(task[:start])[-1:], *words_in(task[end:])[:1]}:
            found.append((start, end))
    return found


def _free_name(base: str, template: _TemplateDraft) -> str:
    taken = cast("_Raw", template.raw.get("inputs") or {})
    # Words in braces would become holes.
    return numbered(derived_id(base), {*taken, *(hole[1] for hole in HOLE.finditer(template.task))})


def _is_liftable(value: object) -> TypeGuard[str | int | float]:
    if isinstance(value, str):
        # A text with outer or double spaces never stands in a task, whose spaces are single.
        return len(value.strip()) >= TEXT_CHARACTERS_MIN and value == " ".join(value.split())
    return isinstance(value, int | float) and not isinstance(value, bool)


def _places(task: str, value: str | float) -> tuple[Span, ...]:
    return tuple(found.span() for found in task_word(str(value)).finditer(task))


def _overlap(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _check(plan: Plan, task: str, values: Mapping[str, Json]) -> None:
    """Raise `InputRejected` unless the template's pattern matches the task that it was learnt from, and is specific enough."""
    shown = f"the task '{plan.task}'"
    # In this order: the first test says best what to do about the words.
    if (fault := pattern_fault(plan)) is not None:
        raise InputRejected(f"{shown}: {fault}")
    pattern = TaskPattern.of(plan)
    if pattern is None or -pattern.rank[0] < WORDS_MIN:
        raise InputRejected(f"{shown} has too few words of its own to tell it from other tasks; reword it")
    if pattern.holes and pattern.match(task) != values:
        raise InputRejected(f"{shown} does not tell its inputs apart in the words '{task}'; reword it")


# --- Literals of a plan, as JSON: replaced by a reference, and looked for.
# A template is text with code in holes. Between the holes a literal is a word; in the code it is a quoted text or a number. Any other value
# is a literal as a whole.

_QUOTED = re.compile(r"""(?<![\w"'])("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.])")


def with_reference(raw: _Raw, value: str | float, reference: str) -> _Raw:
    """Return a plan with a value replaced by a reference in every template.

    Args:
        raw: The plan as JSON.
        value: The value.
        reference: The expression that takes its place, such as `inputs.city`.
    """
    steps: list[_Raw] = []
    for step in cast("list[_Raw]", raw["steps"]):
        made: _Raw = {**step}
        for *way, last in TEMPLATE_PLACES.values():
            holder = made.get(way[0]) if way else made
            if isinstance(holder, dict) and last in holder:
                new = {
                    **cast("_Raw", holder),
                    last: _replaced(cast("_Raw", holder)[last], value, reference),
                }
                made = {**made, way[0]: new} if way else new
        steps.append(made)
    output = {"output": _replaced(raw["output"], value, reference)} if "output" in raw else {}
    return {**raw, "steps": steps, **output}


def _replaced(part: object, value: str | float, reference: str) -> object:
    match part:
        case dict():
            return {key: _replaced(each, value, reference) for key, each in cast("_Raw", part).items()}
        case list():
            return [_replaced(each, value, reference) for each in cast("list[object]", part)]
        case str() if isinstance(value, str):
            return _replaced_in_text(part, value, reference)
        # By type, since `True == 1` and `1.0 == 1`.
        case _ if type(part) is type(value) and part == value:
            return f"${{{reference}}}"
        case _:
            return part


def _replaced_in_text(text: str, value: str, reference: str) -> str:
    """Return a template with a text replaced: a word between holes, a quoted literal in their code."""

    def word(part: str) -> str:
        return template_word(value).sub(lambda _: f"${{{reference}}}", part)

    def quoted(found: re.Match[str]) -> str:
        return reference if _literal(found[1]) == value else found[0]

    return _template_mapped(text, word, lambda code: _QUOTED.sub(quoted, code))


def _template_mapped(text: str, outside: Callable[[str], str], inside: Callable[[str], str]) -> str:
    """Return a template with `outside` applied to the text between its holes, and `inside` to the code in them."""
    made: list[str] = []
    at = 0
    while (start := text.find("${", at)) >= 0:
        # `$${` is a literal `${`, so that what follows is text.
        if start > 0 and text[start - 1] == "$":
            made.append(outside(text[at : start + 2]))
            at = start + 2
            continue
        hole = find_placeholder(text, start + 2)
        made += [
            outside(text[at:start]),
            "${",
            inside(text[hole.start : hole.end]),
            text[hole.end : hole.end + 1],
        ]
        at = hole.end + 1
    return "".join([*made, outside(text[at:])])


def is_still_named(raw: _Raw, value: str | float, *, everywhere: bool = False) -> bool:
    """Whether steps, output or inner plans of a plan still contain a value.

    Args:
        raw: The plan.
        value: A text or a number.
        everywhere: Whether numbers in the settings of a step, such as `retries`, count too.
    """
    steps = cast("list[_Raw]", raw["steps"])
    holders: list[Json] = [raw.get("output"), raw.get("plans"), *(_templates(step) for step in steps)]
    # Texts outside templates always count: the task may mean a tool or a step of that name.
    settings = [leaf for leaf in _texts_and_numbers(raw["steps"]) if everywhere or isinstance(leaf, str)]
    return any(_names_value(leaf, value) for leaf in (*_texts_and_numbers(holders), *settings))


def _templates(step: _Raw) -> list[Json]:
    """Return the parts of a step that may be templates."""
    found: list[Json] = []
    for *way, last in TEMPLATE_PLACES.values():
        holder = step.get(way[0]) if way else step
        if isinstance(holder, dict):
            found.append(cast("_Raw", holder).get(last))
    return found


def _texts_and_numbers(part: Json) -> Iterator[str | int | float]:
    """Yield every text and number in a part of a plan; `why` is left out, since it is for people only."""
    parts: list[Json] = [part]
    while parts:
        match parts.pop():
            case list() as items:
                parts += items
            case dict() as fields:
                parts += [each for key, each in fields.items() if key != "why"]
            case bool() | None:
                pass
            case leaf:
                yield leaf


def _names_value(leaf: str | float, value: str | float) -> bool:
    """Whether a text or a number of a plan contains a value: as a word of its own, or as a number of equal value."""
    # Compared as a number and as text, since words spell 8 and 8.0 alike.
    if not isinstance(leaf, str):
        return leaf == value or str(leaf) == str(value)
    if task_word(str(value)).search(leaf) is not None:
        return True
    if isinstance(value, str):
        return template_word(value).search(leaf) is not None
    codes: list[str] = []

    def note(code: str) -> str:
        codes.append(code)
        return code

    _template_mapped(leaf, lambda part: part, note)
    return any(float(found) == value for code in codes for found in _NUMBER.findall(code))


def _literal(code: str) -> object:
    try:
        return ast.literal_eval(code)
    except (ValueError, SyntaxError):
        return None


def template_word(text: str) -> re.Pattern[str]:
    """Return the regular expression of a text in a template, as a word of its own and not as the name of a hole."""
    return re.compile(rf"(?<![\w{{]){re.escape(text)}(?![\w}}])")


def task_word(text: str) -> re.Pattern[str]:
    """Return the regular expression of a text in a task, as a word of its own: `3`, but not the `3` of `3.5`, `1,300` or `-3`."""
    before = r"(?<!\d[.,])(?<!(?<!\w)[-+])" if text[:1].isdigit() else ""
    after = r"(?![.,]\d)" if text[-1:].isdigit() else ""
    return re.compile(rf"(?<![\w{{]){before}{re.escape(text)}{after}(?![\w}}])")
