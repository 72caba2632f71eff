"""Whether scalars fit scalars: by kind, by known values, and by the conditions of a schema."""

from __future__ import annotations

from collections.abc import Iterable

from ..values import Json
from .beyond import holds, is_met, relevant
from .kinds import Scalar, Unknown
from .ranges import are_apart


def fitting(source: Scalar, target: Scalar | Unknown) -> bool | None:
    """Return whether every value of `source` fits `target`, none does (`False`), or some may (`None`)."""
    demanded = relevant(target.beyond, source.kind)
    if isinstance(target, Scalar) and {source.kind, target.kind} not in (
        {source.kind},
        {"integer", "number"},
    ):
        return False
    if source.only is not None:
        return _all_or_none(_fits(value, target) for value in source.only)
    if not is_met(demanded, source):
        is_apart = are_apart(source.beyond, demanded) and not are_apart(source.beyond, source.beyond)
        return False if is_apart else None
    if isinstance(target, Unknown):
        return True
    return True if target.only is None and target.kind in (source.kind, "number") else None


def _fits(value: Json, target: Scalar | Unknown) -> bool | None:
    """Return whether one known value fits; an integral number is an integer, as it becomes one."""
    if isinstance(target, Scalar):
        if target.kind == "integer" and isinstance(value, float) and not value.is_integer():
            return False
        if target.only is not None and value not in target.only:
            return False
    return holds(value, target.beyond)


def _all_or_none(answers: Iterable[bool | None]) -> bool | None:
    every = set(answers)
    return every.pop() if len(every) == 1 else None
