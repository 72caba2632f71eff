"""Evaluating a plan's formulas in a frame: scopes, requests, outputs, and the faults that they end in.

Formulas see the values of the steps that have ended, and an item's own names. The machine decides what a fault means.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..plans.errors import Skipped
from ..plans.expressions.formula import SKIPPED, EvaluationError, Formula, RefersToSkipped
from ..plans.expressions.operators import kind_of
from ..plans.program import AskModel
from ..plans.values import LARGE_BYTES, Json, shared_copy
from .cells import Failure, Frame, Item, Turn
from .sealed import Sealed, Values


class Scope:
    """A frame's scope with an item's own names, for the length of one evaluation.

    The names are put into the frame's dictionary and taken out again: copying it for every call would cost the size
    of the plan. Scopes nest: a `set` that repeats asks its `until` while its value is still being made.
    """

    __slots__ = ("_extra", "_hidden", "_item", "_scope")

    def __init__(self, item: Item, made: Turn | None = None) -> None:
        self._item = item
        self._scope = item.node.frame.scope
        extra: dict[str, Json] = {}
        if item.index is not None:
            extra["item"], extra["index"] = item.value, item.index
        now = made.iteration if made is not None else len(item.turns) - 1
        previous = item.turns[now - 1] if now > 0 else None
        if previous is not None and previous.output is not None:
            extra["prev"] = previous.output.value
        if made is not None and made.output is not None:
            extra[item.node.code.id] = made.output.value
        self._extra = extra
        self._hidden = {name: self._scope[name] for name in extra if name in self._scope}

    def __enter__(self) -> Values:
        self._scope.update(self._extra)
        return self._scope

    def __exit__(self, *_: object) -> None:
        for name in self._extra:
            del self._scope[name]
        self._scope.update(self._hidden)


def sealed_in(formula: Formula, scope: Values) -> Sealed:
    """Return a template's value; a large value shares memory with existing values. Raises: EvaluationError, RefersToSkipped, NotJson."""
    data, value = formula.serialize_with_value(scope, scope.sealed)
    copy = shared_copy(value, data)
    return Sealed(data) if copy is None else Sealed.known(data, copy)


def output_of(frame: Frame) -> Sealed:
    """Return the output of a plan whose steps have all ended; null where it refers to a skipped step. Raises: EvaluationError."""
    formula = frame.program.output
    if formula is None or any(frame.scope[step] is SKIPPED for step in formula.strict):
        return Sealed(b"null")
    try:
        known = frame.scope.sealed.get(formula.whole or "")
        if known is not None and len(known.data) >= LARGE_BYTES:
            return known
        return Sealed.of(formula.evaluate(frame.scope))
    except RefersToSkipped:
        return Sealed(b"null")


def request_of(ask: AskModel, scope: Mapping[str, Json | Skipped]) -> Json:
    """Return a prompt, rendered: {prompt, system, examples}. Raises: EvaluationError, RefersToSkipped."""
    request: dict[str, Json] = {"prompt": ask.prompt.evaluate(scope)}
    if ask.system is not None:
        request["system"] = ask.system.evaluate(scope)
    if ask.examples is not None:
        request["examples"] = ask.examples.evaluate(scope)
    return request


def evaluate_bool(formula: Formula, scope: Mapping[str, Json | Skipped], where: str) -> bool:
    """Return a condition's value. Raises: EvaluationError: also if it is no boolean. RefersToSkipped."""
    value = formula.evaluate(scope)
    if not isinstance(value, bool):
        raise EvaluationError("not-a-bool", f"`{where}` needs a boolean, found {kind_of(value)}")
    return value


def failure_of(fault: Exception) -> Failure:
    """Return an evaluation's fault as the failure of a step."""
    return Failure(getattr(fault, "code", "bad-value"), str(fault))
