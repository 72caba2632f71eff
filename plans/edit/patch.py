"""Typed changes to a plan: what a planner sends to mend one, what a person sends to edit one.

A patch is a list of operations, applied in order, wholly or not at all. It is JSON:

    [{"op": "set", "step": "wa", "at": "args.city", "value": "${inputs.b}"},
     {"op": "add", "step": {"id": "spots", "tool": "geocode"}, "after": "note"},
     {"op": "rename", "step": "wa", "to": "first_city"}]

Operations name steps by id, never by position, so that a patch still fits a plan that changed elsewhere; `plan` names an
inner plan to work on. `rename` follows every reference. The outcome has the shape of a plan; whether it is right is for
`check` to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

from ..format.shape import draft_of
from ..nearest import did_you_mean, listing
from ..paths import Part, parts_of
from ..plan import Plan
from ..problems import problem
from ..values import NotJson, normal_in_order
from .operations import (
    AddStep,
    MoveStep,
    Operation,
    Patch,
    RemoveStep,
    Rename,
    ReplaceStep,
    SetInner,
    SetInput,
    SetKey,
    SetOutput,
    SetTask,
    SetType,
    UnsetKey,
    rejected,
)
from .renaming import Captured, rename_input, rename_step

__all__ = ["Patch", "apply_patch"]

_Raw: TypeAlias = dict[str, Any]


class _Unfit(Exception):  # noqa: N818  # becomes a problem
    """An operation that does not fit the plan."""

    def __init__(self, code: str, key: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.key = key
        self.hint = hint


def apply_patch(plan: Plan, patch: Patch | Mapping[str, Any] | Sequence[Any]) -> Plan:
    """Return the plan with a patch's operations applied in order; the plan itself stays as it is.

    Raises:
        PlanRejected: An operation does not fit the plan, or the outcome has not the shape of a plan.
    """
    raw = cast("_Raw", normal_in_order(plan.to_dict()))
    for number, operation in enumerate(Patch.of(patch).operations):
        try:
            _apply(raw, operation)
        except _Unfit as fault:
            path = f"$.operations[{number}].{fault.key}"
            message = f"operation {number} ({operation.op}): {fault}"
            raise rejected([problem(fault.code, path, message, fault.hint)]) from fault
    draft = draft_of(raw)
    if draft.plan is None or not draft.whole:
        raise rejected(draft.problems)
    return draft.plan


def _apply(raw: _Raw, operation: Operation) -> None:  # noqa: C901  # one case for each operation
    match operation:
        case SetTask():
            for part in sorted(operation.model_fields_set - {"op"}):
                _put(raw, part, getattr(operation, part))
        case SetInner():
            _put(raw.setdefault("plans", {}), operation.name, operation.body)
        case SetOutput(plan=inner):
            _body(raw, inner)["output"] = operation.value
        case SetInput(plan=inner):
            _put(_body(raw, inner).setdefault("inputs", {}), operation.name, operation.declared)
        case SetType(plan=inner):
            _put(_body(raw, inner).setdefault("types", {}), operation.name, operation.declared)
        case Rename(plan=inner):
            _rename(_body(raw, inner), operation)
        case AddStep(plan=inner):
            steps = _steps(_body(raw, inner))
            _check_free(steps, operation.step.get("id"), "step.id")
            steps.insert(_place(steps, operation), _owned(operation.step, "step"))
        case MoveStep(plan=inner):
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
        raise _Unfit(
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
    raise _Unfit(
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
        raise _Unfit("duplicate-id", key, f"expected a new id, found '{id_}', which another step has")


def _owned(value: object, key: str) -> Any:  # noqa: ANN401  # any JSON
    try:
        return normal_in_order(value)
    except NotJson as fault:
        raise _Unfit("bad-shape", key, f"expected JSON, found {fault}") from fault


def _parts(at: str) -> tuple[Part, ...]:
    parts = parts_of(at if at.startswith((".", "[", "$")) else f".{at}")
    if not parts:
        raise _Unfit("bad-shape", "at", f"expected a place in the step such as 'args.city', found {at!r}")
    return parts


def _follow(step: object, way: Sequence[Part], at: str, *, create: bool) -> Any:  # noqa: ANN401  # any JSON
    current: object = step
    for part in way:
        if isinstance(current, dict) and isinstance(part, str) and create:
            current = cast("_Raw", current).setdefault(part, {})
            continue
        try:
            current = cast("Any", current)[part]
        except (KeyError, IndexError, TypeError):
            raise _nowhere(at) from None
    return current


def _assign(holder: object, last: Part, value: object, at: str) -> None:
    if isinstance(holder, dict) and isinstance(last, str):
        cast("_Raw", holder)[last] = value
    elif isinstance(holder, list) and isinstance(last, int) and last <= len(cast("list[object]", holder)):
        cast("list[object]", holder)[last : last + 1] = [value]
    else:
        raise _nowhere(at)


def _unset(holder: Any, last: Part, at: str) -> None:  # noqa: ANN401  # any JSON
    try:
        del holder[last]
    except (KeyError, IndexError, TypeError):
        raise _nowhere(at) from None


def _nowhere(at: str) -> _Unfit:
    return _Unfit("unknown-field", "at", f"expected a place in the step, found '{at}', which is not there")


def _rename(body: _Raw, operation: Rename) -> None:
    try:
        if operation.step is not None:
            steps = _steps(body)
            position = _position(steps, operation.step)
            if operation.to != operation.step:
                _check_free(steps, operation.to, "to")
            rename_step(body, operation.step, operation.to)
            steps[position]["id"] = operation.to
        elif operation.input is not None:
            inputs: _Raw = body.get("inputs", {})
            if operation.input not in inputs:
                hint = did_you_mean(operation.input, inputs)
                raise _Unfit("unknown-ref", "input", f"expected an input, found '{operation.input}'", hint)
            if operation.to in inputs and operation.to != operation.input:
                raise _Unfit(
                    "duplicate-id",
                    "to",
                    f"expected a new name, found '{operation.to}', which another input has",
                )
            rename_input(body, operation.input, operation.to)
            body["inputs"] = {
                operation.to if name == operation.input else name: each for name, each in inputs.items()
            }
    except Captured as fault:
        raise _Unfit("bad-id", "to", str(fault), "choose another name") from fault
