"""Whether scalars fit scalars: by kind, by known values, and by the conditions of a schema."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import cast

from .literal import literal_faults
from .types import Scalar
from .values import Json


def fitting(source: Scalar, target: Scalar) -> bool | None:
    """Return whether every value of `source` fits `target`, none does (`False`), or some may (`None`)."""
    if source.kind != target.kind and {source.kind, target.kind} != {"integer", "number"}:
        return False
    if source.only is not None:
        return _all_or_none(_fits(value, target) for value in source.only)
    if target.only is not None or (target.beyond and target.beyond != source.beyond):
        return None
    return True if target.kind in (source.kind, "number") else None


def _fits(value: Json, target: Scalar) -> bool | None:
    """Return whether one known value fits; an integral number is an integer, as it becomes one."""
    if target.kind == "integer" and isinstance(value, float) and not value.is_integer():
        return False
    if target.only is not None:
        return value in target.only
    if target.exact:
        return True
    conditions = cast("dict[str, Json]", json.loads(target.beyond))
    if "$comment" in conditions:
        return None  # conditions that rest on definitions, which are not here
    return not literal_faults(value, conditions)


def _all_or_none(answers: Iterable[bool | None]) -> bool | None:
    every = set(answers)
    return every.pop() if len(every) == 1 else None
