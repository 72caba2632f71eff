"""The types of a body's steps, and what is wrong with the values that they are made of.

Steps are looked at in program order, so that whatever a step refers to has its type already. About what is broken, and
because of it, nothing is said twice: it has the type that no value has (`NEVER`), which fits every place.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .arguments import argument_faults, computed, value_faults
from .body import UNKNOWN as NO_BODY
from .body import Body
from .checking import Accepted, Checking
from .findings import is_error
from .formula import Fault, infer
from .nearest import listing
from .plan import AgentStep, AskStep, PlanStep, SetStep, Step, ToolStep
from .skips import may_skip
from .templates import Template
from .types import (
    BOOLEAN,
    INTEGER,
    NEVER,
    NULL,
    TEXT,
    UNKNOWN,
    ListType,
    ObjectType,
    Property,
    Scalar,
    Type,
    Unknown,
    members,
    shown,
    union,
    widened,
)

PREVIOUS_ROUNDS_MAX = 4
"""Rounds until the type of a `set` step that builds on `prev` must have settled; past them it is unknown."""
_ANY_LIST = ListType(UNKNOWN)
_TRUE = Scalar("boolean", (True,))


@dataclass(slots=True)
class _Steps:
    """One body under way.

    Attributes:
        scope: The types of all names of the body; of steps not yet looked at: `NEVER`.
        skips: Which steps may be skipped without a failure.
    """

    checking: Checking
    body: Body
    scope: dict[str, Type]
    types: list[Type]
    skips: list[bool]


def infer_body(checking: Checking, number: int, order: Sequence[int]) -> None:
    """Find the types of a body's steps and of its output. O(size of the body)."""
    body = checking.bodies.every[number]
    inputs = checking.inputs_of(number).types
    scope: dict[str, Type] = dict.fromkeys(body.position, NEVER)
    scope["inputs"] = ObjectType({name: Property(found, required=True) for name, found in inputs.items()})
    steps = _Steps(checking, body, scope, [NEVER] * len(body.steps), [False] * len(body.steps))
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


def _output_type(steps: _Steps) -> Type:
    body = steps.body
    found = _value_type(steps, f"{body.where}.output", body.output, steps.scope)
    skipped = [leaf.inner for leaf in body.output.formula.leaves if may_skip(leaf, _skipped_ids(steps))]
    for inner in skipped:
        message = (
            f"the output is null where it refers to a skipped step, and {_named_skips(steps)} may be skipped"
        )
        hint = "write first(step.field, a value for that case)"
        steps.checking.findings.add(body, "maybe-missing", f"{body.where}.output{inner}", message, hint)
    return union(found, NULL) if skipped else found


def _named_skips(steps: _Steps) -> str:
    formula = steps.body.output.formula
    ids = [id_ for id_ in sorted(formula.strict | formula.lenient) if id_ in _skipped_ids(steps)]
    return listing([f"'{id_}'" for id_ in ids], 3)


@dataclass(frozen=True, slots=True)
class _SkippedIds:
    """The ids of steps that may be skipped, without a set as large as the plan."""

    steps: _Steps

    def __contains__(self, id_: object) -> bool:
        position = self.steps.body.position.get(str(id_))
        return position is not None and self.steps.skips[position]


def _skipped_ids(steps: _Steps) -> _SkippedIds:
    return _SkippedIds(steps)


def _step_type(steps: _Steps, position: int, step: Step) -> Type:
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
    made = _made_type(steps, position, step, scope)
    if "until" in texts:
        names = {step.id: made, "prev": union(made, NULL)}
        _condition_type(steps, at, texts["until"], ChainMap(names, scope))  # type: ignore[arg-type]  # a mapping that is only read
    if "fallback" in texts:
        made = union(made, _value_type(steps, at + texts["fallback"].where, texts["fallback"], scope))
    return ListType(made) if "for_each" in texts else made


def _may_be_skipped(steps: _Steps, position: int, step: Step, when: Type | None) -> bool:
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


def _value_type(steps: _Steps, path: str, template: Template, scope: Mapping[str, Type]) -> Type:
    """Return the type of a template's value, with its faults noted; `NEVER` if it has no type."""
    findings, body = steps.checking.findings, steps.body
    findings.add_faults(body, path, template.faults)
    inferred = infer(template.formula, scope, suggestions=findings.suggests)
    findings.add_inferred(body, path, inferred.faults)
    wrong = _wrong(template, inferred.faults)
    if template.formula.secret is not None and not wrong:
        message = "expected secret(..) as the whole of an argument of a tool step, found it elsewhere"
        findings.add(
            body, "bad-expr", path, message, "hand the secret to the tool that needs it, as an argument"
        )
        return NEVER
    return NEVER if wrong else inferred.type


def _wrong(template: Template, faults: Sequence[Fault]) -> list[str]:
    """Return the places in a template about which an error was told."""
    return [fault.inner for fault in (*template.faults, *faults) if is_error(fault)]


def _condition_type(steps: _Steps, at: str, template: Template, scope: Mapping[str, Type]) -> Type:
    path = at + template.where
    found = _value_type(steps, path, template, scope)
    return found if _expect(steps, path, found, BOOLEAN, "not-a-bool") else NEVER


def _list_items(steps: _Steps, at: str, template: Template) -> Type:
    path = at + template.where
    found = _value_type(steps, path, template, steps.scope)
    _expect(steps, path, found, _ANY_LIST, "not-a-list")
    lists = [member for member in members(found) if isinstance(member, ListType | Unknown)]
    return (
        union(*(member.item if isinstance(member, ListType) else UNKNOWN for member in lists))
        if lists
        else NEVER
    )


def _expect(steps: _Steps, path: str, found: Type, wanted: Type, code: str) -> bool:
    """Whether a value can be a boolean, or a list, as its place wants; what is wrong or doubtful is noted."""
    kinds = members(found)
    others = [member for member in kinds if member != NULL]
    findings, body = steps.checking.findings, steps.body
    word = "true or false" if wanted == BOOLEAN else "a list"
    if kinds and not (others and all(_is_like(member, wanted) for member in others)):
        hint = "write a comparison" if wanted == BOOLEAN else "refer to a list, or write one: [..]"
        findings.add(body, code, path, f"expected {word} at {path}, found {shown(found)}", hint)
        return False
    if len(others) < len(kinds):
        findings.add(
            body, "maybe-missing", path, f"expected {word} at {path}, found what may be null", "use first(..)"
        )
    elif UNKNOWN in kinds:
        message = (
            f"expected {word} at {path}, found a value of unknown type: it is checked when the step runs"
        )
        findings.add(body, "unchecked-type", path, message)
    return True


def _is_like(member: Type, wanted: Type) -> bool:
    if isinstance(member, Unknown):
        return True
    if wanted == BOOLEAN:
        return isinstance(member, Scalar) and member.kind == "boolean"
    return isinstance(member, ListType)


def _made_type(steps: _Steps, position: int, step: Step, scope: Mapping[str, Type]) -> Type:
    """Return the type of what one call of the step's action gives."""
    path = steps.body.path(position)
    match step:
        case SetStep():
            return _set_type(steps, path, step, scope)
        case ToolStep():
            return _tool_type(steps, path, step, scope)
        case PlanStep():
            return _plan_type(steps, path, position, step, scope)
        case AskStep(ask=ask):
            made = steps.checking.read(steps.body, ask.returns, f"{path}.ask.returns")
            scope = _with_previous(step, made, scope)
            _expect_text(steps, path, step, ("prompt", "system"), scope)
            if "examples" in step.templates:
                _expect_examples(steps, path, step.templates["examples"], scope)
            return made
        case AgentStep(agent=agent):
            for index, name in enumerate(agent.tools):
                _expect_tool(steps, f"{path}.agent.tools[{index}]", name)
            made = steps.checking.read(steps.body, agent.returns, f"{path}.agent.returns")
            _expect_text(steps, path, step, ("goal",), _with_previous(step, made, scope))
            return made


def _with_previous(step: Step, made: Type, scope: Mapping[str, Type]) -> Mapping[str, Type]:
    """Return the scope with `prev`, which is absent in the first iteration."""
    if step.repeat is None:
        return scope
    return ChainMap({"prev": union(made, NULL)}, scope)  # type: ignore[arg-type]  # a mapping that is only read


def _set_type(steps: _Steps, path: str, step: SetStep, scope: Mapping[str, Type]) -> Type:
    template = step.templates["set"]
    if step.repeat is None or "prev" not in template.formula.names:
        return _value_type(steps, path + template.where, template, scope)
    made: Type = NEVER
    for _ in range(PREVIOUS_ROUNDS_MAX):
        found = union(
            made, widened(infer(template.formula, _with_previous(step, made, scope), suggestions=False).type)
        )
        if found == made:
            break
        made = found
    else:
        made = UNKNOWN
    return _value_type(steps, path + template.where, template, _with_previous(step, made, scope))


def _expect_tool(steps: _Steps, path: str, name: str) -> bool:
    if steps.checking.toolset.find(name) is not None:
        return True
    names = steps.checking.toolset.names
    message = f"there is no tool '{name}': expected one of {listing(names)}"
    hint = steps.checking.findings.suggestion(name, names, "name one of the tools")
    steps.checking.findings.add(steps.body, "unknown-tool", path, message, hint)
    return False


def _tool_type(steps: _Steps, path: str, step: ToolStep, scope: Mapping[str, Type]) -> Type:
    known = _expect_tool(steps, f"{path}.tool", step.tool)
    tool = steps.checking.toolset.find(step.tool)
    made = NEVER if tool is None else steps.checking.returned_by(tool)
    accepted = steps.checking.accepted_by(tool) if known and tool is not None else None
    _check_args(steps, path, step, accepted, _with_previous(step, made, scope))
    return made


def _plan_type(steps: _Steps, path: str, position: int, step: PlanStep, scope: Mapping[str, Type]) -> Type:
    called = steps.body.calls.get(position, NO_BODY)
    made = steps.checking.outputs.get(called, NEVER)
    accepted = None if called == NO_BODY else steps.checking.inputs_of(called)
    _check_args(steps, path, step, accepted, _with_previous(step, made, scope))
    return made


def _check_args(
    steps: _Steps, path: str, step: ToolStep | PlanStep, accepted: Accepted | None, scope: Mapping[str, Type]
) -> None:
    template = step.templates["args"]
    findings, body, at = steps.checking.findings, steps.body, path + template.where
    findings.add_faults(body, at, template.faults)
    inferred = infer(template.formula, scope, suggestions=findings.suggests)
    findings.add_inferred(body, at, inferred.faults)
    if accepted is not None:
        parts = computed(inferred.leaves, _wrong(template, inferred.faults))
        findings.add_faults(body, at, argument_faults(step.args, accepted, parts, template.secrets))


def _expect_text(
    steps: _Steps, path: str, step: Step, names: Sequence[str], scope: Mapping[str, Type]
) -> None:
    for name in names:
        template = step.templates.get(name)
        if template is not None:
            found = _value_type(steps, path + template.where, template, scope)
            parts = computed({"": found}, ())
            faults = value_faults(template.value, "", TEXT, parts)
            steps.checking.findings.add_faults(steps.body, path + template.where, faults)


def _expect_examples(steps: _Steps, path: str, template: Template, scope: Mapping[str, Type]) -> None:
    found = _value_type(steps, path + template.where, template, scope)
    if isinstance(template.value, str):
        _expect(steps, path + template.where, found, _ANY_LIST, "type-mismatch")
