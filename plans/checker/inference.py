"""The types of a body's steps, and what is wrong with the values that they are made of.

Steps are looked at in program order, so that whatever a step refers to has its type already. About what is broken, and
because of it, nothing is said twice: it has the type that no value has (`NEVER`), which fits every place.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..nearest import listing
from ..plan import SetStep, Step, ToolStep
from ..types.assignable import for_null
from ..types.types import (
    BOOLEAN,
    INTEGER,
    NEVER,
    NULL,
    UNKNOWN,
    ListType,
    ObjectType,
    Property,
    Scalar,
    Type,
    Unknown,
    members,
    union,
    widened,
)
from .actions import made_type, with_previous
from .checking import Checking
from .conditions import ANY_LIST, expect
from .skips import lost_text, may_skip
from .templates import Template
from .typed_body import TypedBody, value_type

_TRUE = Scalar("boolean", (True,))


def infer_body(checking: Checking, number: int, order: Sequence[int]) -> None:
    """Find the types of a body's steps and of its output. O(size of the body)."""
    body = checking.bodies.every[number]
    inputs = checking.inputs_of(number).types
    scope: dict[str, Type] = dict.fromkeys(body.position, NEVER)
    scope["inputs"] = ObjectType({name: Property(found, required=True) for name, found in inputs.items()})
    callers = {step.tool: step.id for step in reversed(body.steps) if isinstance(step, ToolStep)}
    count = len(body.steps)
    steps = TypedBody(checking, body, scope, [NEVER] * count, [False] * count, callers)
    for position in order:
        step = body.steps[position]
        if position not in body.broken:
            steps.types[position] = _step_type(steps, position, step)
        if body.position.get(step.id) == position:
            scope[step.id] = steps.types[position]
    checking.steps[number] = [
        widened(found) if isinstance(step, SetStep) else found
        for step, found in zip(body.steps, steps.types, strict=True)
    ]
    checking.outputs[number] = _output_type(steps)


def _output_type(steps: TypedBody) -> Type:
    body = steps.body
    found = value_type(steps, f"{body.where}.output", body.output, steps.scope)
    lost = [(leaf.inner, lost_text(leaf, _skipped_ids(steps))) for leaf in body.output.formula.leaves]
    skipped = [(inner, text) for inner, text in lost if text]
    for inner, text in skipped:
        message = (
            f"the output is null where it refers to a skipped step, and {_named_skips(steps)} may be skipped"
        )
        hint = for_null(text)
        steps.checking.findings.add(body, "maybe-missing", f"{body.where}.output{inner}", message, hint)
    return union(found, NULL) if skipped else found


def _named_skips(steps: TypedBody) -> str:
    formula = steps.body.output.formula
    ids = [id_ for id_ in sorted(formula.strict | formula.lenient) if id_ in _skipped_ids(steps)]
    return listing([f"'{id_}'" for id_ in ids], 3)


@dataclass(frozen=True, slots=True)
class _SkippedIds:
    """The ids of steps that may be skipped, without a set as large as the plan."""

    steps: TypedBody

    def __contains__(self, id_: object) -> bool:
        position = self.steps.body.position.get(str(id_))
        return position is not None and self.steps.skips[position]


def _skipped_ids(steps: TypedBody) -> _SkippedIds:
    return _SkippedIds(steps)


def _step_type(steps: TypedBody, position: int, step: Step) -> Type:
    """Return the type of a step's value, and note what is wrong with the step."""
    at = steps.body.path(position)
    texts = step.templates
    scope: Mapping[str, Type] = steps.scope
    is_filter = steps.body.refs[position].is_filter
    if "for_each" in texts:
        items = _list_items(steps, at, texts["for_each"])
        scope = ChainMap({"item": items, "index": INTEGER}, steps.scope)
    when = (
        _condition_type(steps, at, texts["when"], scope if is_filter else steps.scope)
        if "when" in texts
        else None
    )
    steps.skips[position] = _may_be_skipped(steps, position, step, when)
    made = made_type(steps, position, step, scope)
    if "until" in texts:
        names = {step.id: made, "prev": union(made, NULL)}
        _condition_type(steps, at, texts["until"], ChainMap(names, scope))  # type: ignore[arg-type]  # a mapping that is only read
    if "fallback" in texts:
        around = with_previous(step, made, scope)
        made = union(made, value_type(steps, at + texts["fallback"].where, texts["fallback"], around))
    return ListType(made) if "for_each" in texts else made


def _may_be_skipped(steps: TypedBody, position: int, step: Step, when: Type | None) -> bool:
    """Whether a step may be skipped without a failure that its dependants would share."""
    is_each = "for_each" in step.templates
    if when not in (None, NEVER, _TRUE) and not steps.body.refs[position].is_filter:
        return True
    if step.on_error == "skip" and not is_each:
        return True
    refs, ids = steps.body.refs[position], _skipped_ids(steps)
    skipping = [other for other in refs.needs if steps.skips[other]]
    if any(other not in refs.lenient for other in skipping):
        return True
    names = ("for_each",) if is_each else tuple(step.templates)
    return bool(skipping) and any(
        may_skip(leaf, ids) for name in names for leaf in step.templates[name].formula.leaves
    )


def _condition_type(steps: TypedBody, at: str, template: Template, scope: Mapping[str, Type]) -> Type:
    path = at + template.where
    found = value_type(steps, path, template, scope)
    return found if expect(steps, path, found, BOOLEAN, "not-a-bool", template.value) else NEVER


def _list_items(steps: TypedBody, at: str, template: Template) -> Type:
    path = at + template.where
    found = value_type(steps, path, template, steps.scope)
    expect(steps, path, found, ANY_LIST, "not-a-list", template.value)
    lists = [member for member in members(found) if isinstance(member, ListType | Unknown)]
    return (
        union(*(member.item if isinstance(member, ListType) else UNKNOWN for member in lists))
        if lists
        else NEVER
    )
