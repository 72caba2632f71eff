"""The types of a body's steps, and the problems of the values that they are made of.

Steps are visited in program order, so every step that a step refers to has its type already. A value with a fault, and
everything computed from it, has the type without values (`NEVER`), which fits every place: so one fault is reported once.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, cast

from ..expressions.infer import Inferred, infer, infer_fields
from ..expressions.nodes import Call, Field, Index, Name, Node, Slice
from ..expressions.template import Leaf
from ..immutable import record
from ..plan import (
    PERSON,
    AgentStep,
    AskPersonStep,
    AskStep,
    EndorseStep,
    FailStep,
    PlanForStep,
    PlanStep,
    SetStep,
    Step,
    ToolStep,
    WaitStep,
)
from ..reports.codes import is_error
from ..reports.errors import LocalProblem
from ..reports.nearest import listing, short
from ..signature import Signature, called_by
from ..types.assignable import expression_of, for_null
from ..types.intersect import are_disjoint
from ..types.show import type_text
from ..types.types import (
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
    type_of,
    union,
    widened,
)
from ..types.validate import ValueSchema
from ..values import Json
from ..waits import DURATION_TYPE, TIME_TYPE, find_fault
from .arguments import argument_problems, part_problems, secret_problems, without_doubts
from .ask import example_problems, guard_problems
from .body import PlanBody
from .context import CheckContext, Parameters
from .templates import Template

PREVIOUS_ROUNDS_MAX = 4
"""Rounds in which the type of a `set` step that uses `prev` must settle; after them it is unknown."""

_ANY_LIST = ListType(UNKNOWN)
_TRUE = Scalar("boolean", (True,))


def infer_body(context: CheckContext, number: int, order: Sequence[int]) -> None:
    """Find the types of a body's steps and of its output, and report their problems. O(size of the body).

    Args:
        context: Gets the types and the problems; has the types of the bodies that this one runs.
        number: The body.
        order: Its steps in program order.
    """
    body = context.bodies.every[number]
    inputs = context.inputs(number).types
    # Steps in a cycle refer to steps without a type; `NEVER` fits every place, so the cycle is the only problem.
    scope: dict[str, Type] = dict.fromkeys(body.position, NEVER)
    scope["inputs"] = ObjectType({name: Property(found, required=True) for name, found in inputs.items()})
    # A plan that says `${weather.text}` usually means the step that calls the tool `weather`: hints name that step.
    callers = {step.tool: step.id for step in reversed(body.steps) if isinstance(step, ToolStep)}
    typed = _TypedBody(context, body, scope, [False] * len(body.steps), callers)
    types: list[Type] = [NEVER] * len(body.steps)
    for position in order:
        step = body.steps[position]
        if position not in body.broken:
            types[position] = typed.step_type(position, step)
        # A second step with the same id must not change the type that references to the first one have.
        if body.position.get(step.id) == position:
            scope[step.id] = types[position]
    # The report shows what kind of value a `set` step computes, not the one value that the plan happens to fix.
    context.steps[number] = [
        widened(found) if isinstance(step, SetStep) else found
        for step, found in zip(body.steps, types, strict=True)
    ]
    returns = body.returns
    declared = None if returns is None else context.read(body, returns, f"{body.where}.returns")
    found = typed.output_type(declared)
    # Whoever runs the plan gets what it declares: its steps may change, and the declaration stays.
    context.outputs[number] = found if declared is None else declared


SKIPPED_OUTPUT = "the output is null where it refers to a skipped step"
"""How the warning about such an output begins."""


@record
class _TypedBody:
    """One body during inference.

    Attributes:
        scope: The types of all names of the body; `NEVER` for steps that are not visited yet.
        skips: Which steps may be skipped without a failure.
        callers: Tool -> the first step that calls it, for hints.
    """

    context: CheckContext
    body: PlanBody
    scope: dict[str, Type]
    skips: list[bool]
    callers: Mapping[str, str]

    def output_type(self, declared: Type | None = None) -> Type:
        """Return the type of the output, null included if a step that it needs may be skipped.

        Args:
            declared: The type that the plan declares for its output; what does not fit it is reported. `None`: it declares none.
        """
        path = f"{self.body.where}.output"
        # An output that loses its value is null, while a step that loses one is skipped.
        parts = self.inferred(path, self.body.output, self.scope)
        if declared not in (None, NEVER) and parts.type != NEVER:
            self._expect_declared(path, parts, declared)
        found = parts.type
        lost = {
            leaf.inner: text for leaf in self.body.output.formula.leaves if (text := self._lost_text(leaf))
        }
        is_welcome = declared is not None and any(each in (NULL, UNKNOWN) for each in members(declared))
        for inner, text in () if is_welcome else lost.items():
            message = f"{SKIPPED_OUTPUT}, and {self._named_skips()} may be skipped"
            self.context.problems.add(self.body, "maybe-missing", path + inner, message, for_null(text))
        return union(found, NULL) if lost else found

    def _expect_declared(self, path: str, parts: Inferred, declared: Type) -> None:
        """Report where the output does not fit the schema in `returns`."""
        body, template = self.body, self.body.output
        value = template.formula.literal(template.value)
        judge = ValueSchema(cast("Mapping[str, Json]", body.returns), body.types)
        faults = [
            replace(fault, message=f"the output does not fit 'returns': {fault.message}")
            for fault in part_problems(value, "", declared, parts, judge)
        ]
        self.context.problems.add_local(body, path, without_doubts(faults, parts.problems))

    def _named_skips(self) -> str:
        formula, position = self.body.output.formula, self.body.position
        names = sorted(formula.strict | formula.lenient)
        ids = [name for name in names if name in position and self.skips[position[name]]]
        return listing([f"'{id_}'" for id_ in ids], 3)

    def step_type(self, position: int, step: Step) -> Type:
        """Return the type of a step's value, and report the problems of the step."""
        at = self.body.path(position)
        texts = step.templates
        scope: Mapping[str, Type] = self.scope
        is_filter = self.body.refs[position].is_filter
        if "for_each" in texts:
            items = self._item_type(at, texts["for_each"])
            scope = _extended(self.scope, {"item": items, "index": INTEGER})
        when = None
        if "when" in texts:
            when = self._condition_type(at, texts["when"], scope if is_filter else self.scope)
        self.skips[position] = self._may_be_skipped(position, step, when)
        made = self._action_type(position, step, scope)
        if "until" in texts:
            # Only `until` may use the step's own value: the value that the iteration has just made.
            names = {step.id: made, "prev": union(made, NULL)}
            self._condition_type(at, texts["until"], _extended(scope, names))
        if "fallback" in texts:
            around = _with_previous(step, made, scope)
            made = union(made, self.value_type(at + texts["fallback"].where, texts["fallback"], around))
        # Skipped and left-out items are missing from the list, so its items never are null for that reason.
        return ListType(made) if "for_each" in texts else made

    def value_type(self, path: str, template: Template, scope: Mapping[str, Type]) -> Type:
        """Return the type of a template's value, and report its faults; `NEVER` if it has an error."""
        return self.inferred(path, template, scope).type

    def inferred(self, path: str, template: Template, scope: Mapping[str, Type]) -> Inferred:
        """Return the types of a template's value and of its parts, and report its faults; `NEVER` if it has an error."""
        problems = self.context.problems
        problems.add_local(self.body, path, template.faults)
        found = infer(template.formula, scope, suggestions=problems.suggests, callers=self.callers)
        problems.add_inferred(self.body, path, found.problems)
        has_error = any(map(is_error, (*template.faults, *found.problems)))
        # Arguments of tools have a placeholder for a secret (`templates.py`), so one that is left stands in a wrong place.
        if template.formula.secret is not None and not has_error:
            message = "expected secret(..) as the whole of an argument of a tool step, found it elsewhere"
            hint = "hand the secret to the tool that needs it, as an argument"
            problems.add(self.body, "bad-expr", path, message, hint)
            has_error = True
        return replace(found, type=NEVER) if has_error else found

    # Conditions, lists and skipping

    def _condition_type(self, at: str, template: Template, scope: Mapping[str, Type]) -> Type:
        path = at + template.where
        found = self.value_type(path, template, scope)
        return found if self._expect(path, found, BOOLEAN, "not-a-bool", template.value) else NEVER

    def _item_type(self, at: str, template: Template) -> Type:
        path = at + template.where
        found = self.value_type(path, template, self.scope)
        self._expect(path, found, _ANY_LIST, "not-a-list", template.value)
        # What cannot be a list was reported; all other alternatives count.
        lists = [member for member in members(found) if isinstance(member, ListType | Unknown)]
        items = (member.item if isinstance(member, ListType) else UNKNOWN for member in lists)
        return union(*items) if lists else NEVER

    def _expect(self, path: str, found: Type, wanted: Type, code: str, text: Json) -> bool:
        """Whether a value of type `found` can be a boolean, or a list, as its place wants; problems are reported.

        Args:
            path: The place.
            found: The type of its value.
            wanted: `BOOLEAN` or a list.
            code: The code of a value that never is one.
            text: The template, for the hint.
        """
        # No member fits: an error. Null or unknown among the members: a warning, and the run decides.
        kinds = members(found)
        others = [member for member in kinds if member != NULL]
        problems = self.context.problems
        word = "true or false" if wanted == BOOLEAN else "a list"
        if kinds and not (others and all(_is_like(member, wanted) for member in others)):
            hint = "write a comparison" if wanted == BOOLEAN else "refer to a list, or write one: [..]"
            problems.add(self.body, code, path, f"expected {word} at {path}, found {type_text(found)}", hint)
            return False
        if len(others) < len(kinds):
            message = f"expected {word} at {path}, found a value that may be null"
            hint = for_null(expression_of(text), "False" if wanted == BOOLEAN else "[]")
            problems.add(self.body, "maybe-missing", path, message, hint)
        elif any(isinstance(member, Unknown) for member in kinds):
            message = (
                f"expected {word} at {path}, found a value of unknown type: it is checked when the step runs"
            )
            problems.add(self.body, "unchecked-type", path, message)
        return True

    def _may_be_skipped(self, position: int, step: Step, when: Type | None) -> bool:
        """Whether a step may be skipped without a failure that its dependants would share."""
        is_each = "for_each" in step.templates
        refs = self.body.refs[position]
        # A filter leaves items out and never skips the step; a condition that has an error is reported already.
        if when not in (None, NEVER, _TRUE) and not refs.is_filter:
            return True
        # With `for_each`, `skip` leaves the item out.
        if step.on_error == "skip" and not is_each:
            return True
        skipping = [other for other in refs.needs if self.skips[other]]
        if not skipping:
            return False
        if any(other not in refs.lenient for other in skipping):
            return True
        # Of the values of a `for_each`, only the list decides about the step: a lost value in an item skips that item.
        names = ("for_each",) if is_each else tuple(step.templates)
        leaves = (leaf for name in names for leaf in step.templates[name].formula.leaves)
        return any(self._lost_text(leaf) for leaf in leaves)

    def _lost_text(self, leaf: Leaf) -> str:
        """Return the reference through which a string loses its value if steps are skipped, such as `step.field[0]`; else empty."""
        for expression in leaf.expressions:
            node = expression.parsed.node
            if node is not None and (lost := self._lost(node)) is not None:
                return expression.parsed.text[lost.start : lost.end]
        return ""

    def _lost(self, node: Node) -> Node | None:
        """Return the widest reference to a step that may be skipped, without which the expression has no value."""
        match node:
            case Name(name=name):
                position = self.body.position.get(name)
                return node if position is not None and self.skips[position] else None
            # `first(a, b)` has a value unless all of its arguments lose theirs.
            case Call(function="first", arguments=arguments) if arguments:
                every = [self._lost(argument) for argument in arguments]
                return None if None in every else every[-1]
            case _:
                lost = next((found for part in node.parts if (found := self._lost(part)) is not None), None)
                # `step.a.b` is shown in full, since the whole reference has no value.
                is_whole = isinstance(node, Field | Index | Slice) and lost is node.base
                return node if is_whole else lost

    # Actions

    def _action_type(  # noqa: C901, PLR0911  # one case for each kind of step
        self, position: int, step: Step, scope: Mapping[str, Type]
    ) -> Type:
        """Return the type of what one call of a step's action returns."""
        path = self.body.path(position)
        context = self.context
        match step:
            case ToolStep(tool=name):  # most steps, so they are asked about first
                tool = context.tools.find(name)
                self._expect_tools_of(f"{path}.tool", name, tool)
                made = NEVER if tool is None else context.result_type(tool)
                parameters = None if tool is None else context.parameters(tool)
                self._check_args(path, step, parameters, _with_previous(step, made, scope))
                return made
            case SetStep():
                return self._set_type(path, step, scope)
            case PlanStep():
                called = self.body.calls.get(position)
                made = NEVER if called is None else context.outputs.get(called, NEVER)
                parameters = None if called is None else context.inputs(called)
                self._check_args(path, step, parameters, _with_previous(step, made, scope))
                return made
            case AskStep():
                return self._answer_type(path, step, scope)
            case WaitStep(wait=given):
                self._expect_wait(
                    path,
                    cast("Mapping[str, Json]", given),
                    step.templates["wait"],
                    _with_previous(step, NULL, scope),
                )
                return NULL
            case FailStep():
                self._expect_text(path, step, ("fail",), scope)
                return NEVER
            case AskPersonStep():
                made = context.read(self.body, step.returns, f"{path}.returns")
                self._expect_text(path, step, ("ask_person",), _with_previous(step, made, scope))
                return made
            case EndorseStep():
                return self._endorsed_type(path, step, scope)
            case PlanForStep():
                return self._planned_type(path, step, scope)
            case AgentStep(agent=agent):
                for index, name in enumerate(agent.tools):
                    self._expect_tool(f"{path}.agent.tools[{index}]", name)
                made = context.read(self.body, agent.returns, f"{path}.agent.returns")
                self._expect_text(path, step, ("goal",), _with_previous(step, made, scope))
                return made

    def _answer_type(self, path: str, step: AskStep, scope: Mapping[str, Type]) -> Type:
        made = self.context.read(self.body, step.ask.returns, f"{path}.ask.returns")
        scope = _with_previous(step, made, scope)
        self._expect_text(path, step, ("prompt", "system"), scope)
        if "examples" in step.templates:
            self._expect_examples(path, step.templates["examples"], made, scope)
        guarded = guard_problems(step.ask.guard, made, sources=())
        self.context.problems.add_local(self.body, f"{path}.ask.guard", guarded)
        return made

    def _planned_type(self, path: str, step: PlanForStep, scope: Mapping[str, Type]) -> Type:
        for index, name in enumerate(step.tools):
            self._expect_tool(f"{path}.tools[{index}]", name)
        if "${" in step.plan_for:
            message = "the words of a 'plan_for' step are plain text: an expression in them is not evaluated"
            hint = "put the value into 'given', and speak of it by its name"
            self.context.problems.add(self.body, "suspicious-text", f"{path}.plan_for", message, hint)
        made = self.context.read(self.body, step.returns, f"{path}.returns")
        self.value_type(path + ".given", step.templates["given"], _with_previous(step, made, scope))
        return made

    def _endorsed_type(self, path: str, step: EndorseStep, scope: Mapping[str, Type]) -> Type:
        made = self.context.read(self.body, step.returns, f"{path}.returns")
        template = step.templates["endorse"]
        at = path + template.where
        parts = self.inferred(at, template, _with_previous(step, made, scope))
        found = parts.leaves.get("") or parts.branches.get("") or type_of(template.value)
        # The schema may demand more than is known of the value: the run finds out. But some value has to fit.
        if are_disjoint((found, made)):
            self.context.problems.add_local(self.body, at, part_problems(template.value, "", made, parts))
        self._expect_policy(f"{path}.by", step.by)
        return made

    def _expect_policy(self, path: str, name: str) -> None:
        known = self.context.policies
        if known is None or name == PERSON or name in known:
            return
        message = f"there is no policy '{short(name)}': expected '{PERSON}' or one of {listing(known)}"
        hint = self.context.problems.suggestion(name, (PERSON, *known), f'write "by": "{PERSON}"')
        self.context.problems.add(self.body, "unknown-policy", path, message, hint)

    def _set_type(self, path: str, step: SetStep, scope: Mapping[str, Type]) -> Type:
        template = step.templates["set"]
        if step.repeat is None or "prev" not in template.formula.names:
            return self.value_type(path + template.where, template, scope)
        # The step's type depends on itself by way of `prev`: find the least fixed point from below.
        made: Type = NEVER
        for _ in range(PREVIOUS_ROUNDS_MAX):
            inferred = infer(template.formula, _with_previous(step, made, scope), suggestions=False)
            found = union(made, widened(inferred.type))
            if found == made:
                break
            made = found
        else:
            made = UNKNOWN
        return self.value_type(path + template.where, template, _with_previous(step, made, scope))

    def _expect_tools_of(self, path: str, name: str, tool: Signature | None) -> None:
        """Report that there is no such tool, or none that its agent may call."""
        if tool is None:
            self._expect_tool(path, name)
        for called in called_by(tool):
            self._expect_tool(path, called)

    def _expect_tool(self, path: str, name: str) -> None:
        if self.context.tools.find(name) is not None:
            return
        names = self.context.tools.names
        if names:
            message = f"there is no tool '{short(name)}': expected one of {listing(names)}"
            hint = self.context.problems.suggestion(name, names, "name one of the tools")
        else:
            message = f"there is no tool '{short(name)}': no tools were given"
            hint = "say where the tools are: --tools on the command line, Engine(tools=..) or check(plan, tools) in Python"
        self.context.problems.add(self.body, "unknown-tool", path, message, hint)

    def _check_args(
        self, path: str, step: ToolStep | PlanStep, parameters: Parameters | None, scope: Mapping[str, Type]
    ) -> None:
        template = step.templates["args"]
        problems, body, at = self.context.problems, self.body, path + template.where
        if misread := template.faults:
            problems.add_local(body, at, misread)
        is_whole = parameters is not None and parameters.together is not None
        inferring = infer if is_whole else infer_fields
        parts = inferring(template.formula, scope, suggestions=problems.suggests, callers=self.callers)
        # The tool or the plan is unknown, which is reported; its arguments can still have faults of their own.
        if parameters is None:
            problems.add_inferred(body, at, parts.problems)
            return
        args = cast("dict[str, Json]", template.formula.literal(cast("Json", step.args)))
        faults = list(argument_problems(args, parameters, parts, template.secrets))
        if template.secrets and isinstance(step, ToolStep) and self.context.secrets is not None:
            faults += secret_problems(
                step.tool, template.secrets, self.context.secrets, suggestions=problems.suggests
            )
        # An expression and its place may have the same doubt; that with the more exact place is kept.
        if faults or parts.problems:
            problems.add_inferred(body, at, without_doubts(parts.problems, faults))
            problems.add_local(body, at, without_doubts(faults, parts.problems))

    def _expect_text(self, path: str, step: Step, names: Sequence[str], scope: Mapping[str, Type]) -> None:
        for name in names:
            template = step.templates.get(name)
            if template is not None:
                at = path + template.where
                parts = self.inferred(at, template, scope)
                self.context.problems.add_local(self.body, at, part_problems(template.value, "", TEXT, parts))

    def _expect_wait(
        self, path: str, given: Mapping[str, Json], template: Template, scope: Mapping[str, Type]
    ) -> None:
        at = path + template.where
        parts = self.inferred(at, template, scope)
        for name, value in given.items():
            inner = f".{name}"
            wanted = DURATION_TYPE if name == "for" else TIME_TYPE
            found = list(part_problems(value, inner, wanted, parts))
            if name == "until":  # text is what a date becomes, and not what to write
                found = [
                    replace(
                        each, message=each.message.replace("text", "a date or a time", 1), hint=_UNTIL_HINT
                    )
                    if each.code == "type-mismatch"
                    else each
                    for each in found
                ]
            is_literal = inner not in parts.leaves and inner not in parts.branches
            if is_literal and not found and (fault := find_fault(given)) is not None:
                found = [LocalProblem(fault.code, str(fault), "", inner)]
            if not is_literal and not found:
                found = list(_wait_problems(name, inner, parts))
            self.context.problems.add_local(self.body, at, found)

    def _expect_examples(
        self, path: str, template: Template, answer: Type, scope: Mapping[str, Type]
    ) -> None:
        at = path + template.where
        parts = self.inferred(at, template, scope)
        if isinstance(template.value, str):
            self._expect(at, parts.type, _ANY_LIST, "type-mismatch", template.value)
            return
        examples = cast("list[Json]", template.formula.literal(template.value))
        self.context.problems.add_local(self.body, at, example_problems(examples, answer, parts))


def _wait_problems(name: str, inner: str, parts: Inferred) -> Iterator[LocalProblem]:
    """Yield what is wrong with the computed duration or time of a wait: a value of another kind, or a known text that is none."""
    # A date and a duration are both text once their expression is left, so the type of the place tells nothing.
    moment = (parts.moments or {}).get(inner)
    for member in members(moment) if moment is not None else ():
        if isinstance(member, Scalar) and member.kind in _WRONG_MOMENTS[name]:
            wanted, other = ("a duration", "until") if name == "for" else ("a date or a time", "for")
            hint = f"write it in `{other}`" + ("" if name == "for" else ", or add it to a date")
            yield LocalProblem("type-mismatch", f"expected {wanted}, found a {member.kind}", hint, inner)
            return
    known = parts.leaves.get(inner)
    for member in members(known) if known is not None else ():
        for value in (member.only or ()) if isinstance(member, Scalar) else ():
            if (fault := find_fault({name: value})) is not None:
                yield LocalProblem(fault.code, str(fault), "", inner)
                return


_UNTIL_HINT: Final = "write a date or a time, such as 2026-01-31, or an expression that makes one: ${datetime(..)}; a duration belongs in `for`"
_WRONG_MOMENTS: Final = {"for": ("date", "datetime"), "until": ("timedelta",)}
"""Kinds of expressions that a `wait` cannot take at each of its places."""


def _with_previous(step: Step, made: Type, scope: Mapping[str, Type]) -> Mapping[str, Type]:
    """Return the scope with `prev`, which is null in the first iteration."""
    return scope if step.repeat is None else _extended(scope, {"prev": union(made, NULL)})


def _extended(scope: Mapping[str, Type], names: dict[str, Type]) -> Mapping[str, Type]:
    return ChainMap(names, scope)  # type: ignore[arg-type]  # a mapping that is only read


def _is_like(member: Type, wanted: Type) -> bool:
    if isinstance(member, Unknown):
        return True
    if wanted == BOOLEAN:
        return isinstance(member, Scalar) and member.kind == "boolean"
    return isinstance(member, ListType)
