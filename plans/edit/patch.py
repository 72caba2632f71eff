"""Patches: typed changes to a plan, sent by a planner to repair it or by a person to edit it.

A patch is a list of operations, which are applied in order, all or none. It is JSON:

    [{"op": "set", "step": "wa", "at": "args.city", "value": "${inputs.b}"},
     {"op": "add", "step": {"id": "spots", "tool": "geocode"}, "after": "note"},
     {"op": "rename", "step": "wa", "to": "first_city"}]

Operations name steps by id, never by position, so that a patch still fits a plan that changed elsewhere; `plan` names an
inner plan to work on. `rename` changes every reference too. The result has the shape of a plan; only `check` finds its other problems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ...errors import PlanRejected
from ..format.shape import draft_of
from ..plan import Plan
from ..reports.nearest import did_you_mean, listing
from ..reports.paths import Part, parts_of
from ..reports.problems import CheckReport, Problem, problem
from ..values import Json, NotJson, normal_in_order
from .renaming import NameCapturedError, rename_input, rename_step

_Raw: TypeAlias = dict[str, Any]


class _Operation(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class _Inside(_Operation):
    plan: str | None = Field(
        default=None, description="The inner plan to work on; the plan itself by default."
    )


class _Placed(_Inside):
    before: str | None = Field(default=None, description="The step before which it goes.")
    after: str | None = Field(
        default=None, description="The step after which it goes; at the end by default."
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.before is not None and self.after is not None:
            raise ValueError("expected 'before' or 'after', found both")
        return self


class AddStep(_Placed):
    """Add a step."""

    op: Literal["add"] = "add"
    step: dict[str, Any]


class RemoveStep(_Inside):
    """Remove a step; references to it stay, and the check reports them."""

    op: Literal["remove"] = "remove"
    step: str


class ReplaceStep(_Inside):
    """Replace a step; the id may change."""

    op: Literal["replace"] = "replace"
    step: str
    new: dict[str, Any] = Field(alias="with")


class MoveStep(_Placed):
    """Move a step within the list."""

    op: Literal["move"] = "move"
    step: str


class SetKey(_Inside):
    """Set one place of a step: `args.city`, `when`, `ask.prompt`, `args.rows[0]`."""

    op: Literal["set"] = "set"
    step: str
    at: str
    value: Any


class UnsetKey(_Inside):
    """Remove one place of a step."""

    op: Literal["unset"] = "unset"
    step: str
    at: str


class Rename(_Inside):
    """Rename a step or an input, and every reference to it."""

    op: Literal["rename"] = "rename"
    step: str | None = None
    input: str | None = None
    to: str

    @model_validator(mode="after")
    def _one_name(self) -> Self:
        if (self.step is None) == (self.input is None):
            raise ValueError("expected 'step' or 'input', and not both")
        return self


class SetInput(_Inside):
    """Declare an input, or remove it: `schema` null."""

    op: Literal["input"] = "input"
    name: str
    declared: dict[str, Any] | None = Field(alias="schema")


class SetType(_Inside):
    """Name a type, or remove it: `schema` null."""

    op: Literal["type"] = "type"
    name: str
    declared: dict[str, Any] | None = Field(alias="schema")


class SetInner(_Operation):
    """Set an inner plan, or remove it: `body` null."""

    op: Literal["inner"] = "inner"
    name: str
    body: dict[str, Any] | None


class SetOutput(_Inside):
    """Set the output."""

    op: Literal["output"] = "output"
    value: Any


class SetReturns(_Inside):
    """Declare the type of the output, or no longer: `schema` null."""

    op: Literal["returns"] = "returns"
    declared: dict[str, Any] | None = Field(alias="schema")


class SetTask(_Operation):
    """Set the task, the description or both; null removes one."""

    op: Literal["task"] = "task"
    task: str | None = None
    description: str | None = None


class SetLeftOut(_Operation):
    """Set what of the task the plan leaves out; an empty list removes it."""

    op: Literal["left_out"] = "left_out"
    value: Annotated[tuple[str, ...], Field(strict=False)]


class SetDeadline(_Operation):
    """Set how long a run of the plan may take; null: as long as it likes."""

    op: Literal["deadline"] = "deadline"
    value: str | int | float | None


Operation: TypeAlias = (
    AddStep | RemoveStep | ReplaceStep | MoveStep | SetKey | UnsetKey | Rename
    | SetInput | SetType | SetInner | SetOutput | SetReturns | SetTask | SetLeftOut | SetDeadline
)  # fmt: skip
_Every: TypeAlias = Annotated[Operation, Field(discriminator="op")]


class Patch(BaseModel):
    """Operations on a plan, in order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operations: Annotated[tuple[_Every, ...], Field(strict=False)] = ()

    @classmethod
    def of(cls, given: Patch | Mapping[str, Any] | Sequence[Any]) -> Patch:
        """Return a patch from operations, or from JSON: a list, or an object with `operations`.

        Raises:
            PlanRejected: An operation is malformed; the report has every fault with its place in the patch.
        """
        if isinstance(given, Patch):
            return given
        listed: object = given.get("operations") if isinstance(given, Mapping) else given
        if not isinstance(listed, list | tuple):
            raise rejected([_fault("$", 'expected a list of operations, or {"operations": [..]}')])
        try:
            return cls(operations=cast("Any", listed))
        except ValidationError as fault:
            raise rejected(_shape_faults(fault)) from fault

    def to_dict(self) -> dict[str, Json]:
        """Return the patch as JSON; `Patch.of` reads it back."""
        return {"operations": [_written(each) for each in self.operations]}


def rejected(problems: Sequence[Problem]) -> PlanRejected:
    """Return the error of a patch that cannot be applied."""
    return PlanRejected(CheckReport(tuple(problems)))


def _fault(path: str, message: str) -> Problem:
    return problem("bad-shape", path, message)


def _shape_faults(fault: ValidationError) -> list[Problem]:
    found: list[Problem] = []
    for error in fault.errors(include_url=False, include_input=False):
        # A location is "operations", the number of the operation, its kind, and the place in it.
        _, number, *inside = error["loc"]
        path = ".".join([f"$.operations[{number}]", *map(str, inside[1:])])
        found.append(_fault(path, f"operation {number}: {error['msg'][:1].lower()}{error['msg'][1:]}"))
    return found


def _written(operation: Operation) -> dict[str, Json]:
    # Where an operation was made in Python, pydantic counts `op` as not given.
    given = operation.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return {"op": operation.op, **given}


class _PatchError(Exception):
    """An operation does not fit the plan; `apply_patch` makes a problem of it."""

    def __init__(self, code: str, key: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.key = key
        self.hint = hint


def apply_patch(plan: Plan, patch: Patch | Mapping[str, Any] | Sequence[Any]) -> Plan:
    """Return the plan with a patch's operations applied in order; the plan itself stays as it is.

    Raises:
        PlanRejected: An operation does not fit the plan, or the result has not the shape of a plan.
    """
    # Operations work on a private copy of the JSON, so a patch that fails half way leaves no trace.
    raw = cast("_Raw", normal_in_order(plan.to_dict()))
    for number, operation in enumerate(Patch.of(patch).operations):
        try:
            _apply(raw, operation)
        except _PatchError as fault:
            path = f"$.operations[{number}].{fault.key}"
            message = f"operation {number} ({operation.op}): {fault}"
            raise rejected([problem(fault.code, path, message, fault.hint)]) from fault
    draft = draft_of(raw)
    if draft.plan is None or not draft.whole:
        raise rejected(draft.problems)
    return draft.plan


def _apply(  # noqa: C901, PLR0912  # one case for each operation
    raw: _Raw, operation: Operation
) -> None:
    match operation:
        case SetTask():
            # Only what was given is set: a new description leaves the task as it is.
            for part in sorted(operation.model_fields_set - {"op"}):
                _put(raw, part, getattr(operation, part))
        case SetLeftOut():
            # An empty list is written as an absent key, as in plans that leave nothing out.
            _put(raw, "left_out", list(operation.value) or None)
        case SetDeadline():
            _put(raw, "deadline", operation.value)
        case SetInner():
            _put(raw.setdefault("plans", {}), operation.name, operation.body)
        case SetOutput(plan=inner):
            _body(raw, inner)["output"] = operation.value
        case SetReturns(plan=inner):
            _put(_body(raw, inner), "returns", operation.declared)
        case SetInput(plan=inner):
            _put(_body(raw, inner).setdefault("inputs", {}), operation.name, operation.declared)
        case SetType(plan=inner):
            _put(_body(raw, inner).setdefault("types", {}), operation.name, operation.declared)
        case Rename(plan=inner):
            _rename(_body(raw, inner), operation)
        case AddStep(plan=inner):
            steps = _steps(_body(raw, inner))
            # A second step with the same id would make later operations ambiguous, so the patch fails here, not in the check.
            _check_free(steps, operation.step.get("id"), "step.id")
            steps.insert(_place(steps, operation), _owned(operation.step, "step"))
        case MoveStep(plan=inner):
            # Taken out first: its new place counts in the list without it.
            steps = _steps(_body(raw, inner))
            step = steps.pop(_position(steps, operation.step))
            steps.insert(_place(steps, operation), step)
        case RemoveStep(plan=inner) | ReplaceStep(plan=inner) | SetKey(plan=inner) | UnsetKey(plan=inner):
            _apply_to_step(_steps(_body(raw, inner)), operation)


def _apply_to_step(steps: list[_Raw], operation: RemoveStep | ReplaceStep | SetKey | UnsetKey) -> None:
    position = _position(steps, operation.step)
    match operation:
        case RemoveStep():
            del steps[position]
        case ReplaceStep(new=new):
            if new.get("id") != operation.step:
                _check_free(steps, new.get("id"), "with.id")
            steps[position] = _owned(new, "with")
        # Whether the value may stand there is decided by the shape of the plan that comes out.
        case SetKey(at=at):
            *way, last = _parts(at)
            holder = _follow(steps[position], way, at, create=True)
            _assign(holder, last, _owned(operation.value, "value"), at)
        case UnsetKey(at=at):
            *way, last = _parts(at)
            _unset(_follow(steps[position], way, at, create=False), last, at)


def _body(raw: _Raw, inner: str | None) -> _Raw:
    if inner is None:
        return raw
    plans: _Raw = raw.get("plans", {})
    if inner not in plans:
        raise _PatchError(
            "unknown-plan", "plan", f"expected an inner plan, found '{inner}'", did_you_mean(inner, plans)
        )
    return cast("_Raw", plans[inner])


def _steps(body: _Raw) -> list[_Raw]:
    return cast("list[_Raw]", body["steps"])


def _put(holder: _Raw, name: str, value: object) -> None:
    if value is None:
        holder.pop(name, None)
    else:
        holder[name] = value


def _position(steps: list[_Raw], id_: str, key: str = "step") -> int:
    for position, step in enumerate(steps):
        if step["id"] == id_:
            return position
    known = [str(step["id"]) for step in steps]
    raise _PatchError(
        "unknown-ref",
        key,
        f"expected the id of a step, found '{id_}'",
        did_you_mean(id_, known, f"there are {listing(known)}"),
    )


def _place(steps: list[_Raw], placed: AddStep | MoveStep) -> int:
    if placed.before is not None:
        return _position(steps, placed.before, "before")
    return len(steps) if placed.after is None else _position(steps, placed.after, "after") + 1


def _check_free(steps: list[_Raw], id_: object, key: str) -> None:
    if any(step["id"] == id_ for step in steps):
        raise _PatchError("duplicate-id", key, f"expected a new id, found '{id_}', which another step has")


def _owned(value: object, key: str) -> Any:  # noqa: ANN401  # any JSON
    try:
        # The patch stays the caller's, who may change it or apply it again.
        return normal_in_order(value)
    except NotJson as fault:
        raise _PatchError("bad-shape", key, f"expected JSON, found {fault}") from fault


def _parts(at: str) -> tuple[Part, ...]:
    # The dot or bracket at the beginning may be left out.
    parts = parts_of(at if at.startswith((".", "[", "$")) else f".{at}")
    if not parts:
        raise _PatchError(
            "bad-shape", "at", f"expected a place in the step such as 'args.city', found {at!r}"
        )
    return parts


def _follow(step: object, way: Sequence[Part], at: str, *, create: bool) -> Any:  # noqa: ANN401  # any JSON
    current: object = step
    for part in way:
        # `set` makes missing objects on its way (`repeat.until` of a step without `repeat`), but never list items.
        if isinstance(current, dict) and isinstance(part, str) and create:
            current = cast("_Raw", current).setdefault(part, {})
            continue
        try:
            current = cast("Any", current)[part]
        except (KeyError, IndexError, TypeError):
            raise _no_place(at) from None
    return current


def _assign(holder: object, last: Part, value: object, at: str) -> None:
    if isinstance(holder, dict) and isinstance(last, str):
        cast("_Raw", holder)[last] = value
    # The index after the last item appends.
    elif isinstance(holder, list) and isinstance(last, int) and last <= len(cast("list[object]", holder)):
        cast("list[object]", holder)[last : last + 1] = [value]
    else:
        raise _no_place(at)


def _unset(holder: Any, last: Part, at: str) -> None:  # noqa: ANN401  # any JSON
    try:
        del holder[last]
    except (KeyError, IndexError, TypeError):
        raise _no_place(at) from None


def _no_place(at: str) -> _PatchError:
    return _PatchError(
        "unknown-field", "at", f"expected a place in the step, found '{at}', which is not there"
    )


def _rename(body: _Raw, operation: Rename) -> None:
    try:
        if operation.step is not None:
            steps = _steps(body)
            position = _position(steps, operation.step)
            # A new name that is the old one changes nothing, and is not taken.
            if operation.to != operation.step:
                _check_free(steps, operation.to, "to")
            # References first: if a loop would capture one, the step keeps its id.
            rename_step(body, operation.step, operation.to)
            steps[position]["id"] = operation.to
        elif operation.input is not None:
            inputs: _Raw = body.get("inputs", {})
            if operation.input not in inputs:
                hint = did_you_mean(operation.input, inputs)
                raise _PatchError(
                    "unknown-ref", "input", f"expected an input, found '{operation.input}'", hint
                )
            if operation.to in inputs and operation.to != operation.input:
                raise _PatchError(
                    "duplicate-id",
                    "to",
                    f"expected a new name, found '{operation.to}', which another input has",
                )
            rename_input(body, operation.input, operation.to)
            body["inputs"] = {
                operation.to if name == operation.input else name: each for name, each in inputs.items()
            }
    except NameCapturedError as fault:
        raise _PatchError("bad-id", "to", str(fault), "choose another name") from fault
