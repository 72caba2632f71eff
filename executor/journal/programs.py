"""Plans and programs as stored runs need them: read once, compiled once, however often a run is shown, resumed or replayed.

A plan is found by the bytes that it is stored as, a program by the plan and the lock of its tools: nothing else decides it.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import orjson

from ...plans import Plan
from ...plans.compile import compile_plan
from ...plans.format.property_order import order_in
from ...plans.values import canonical
from .recent import Lately, Recent

if TYPE_CHECKING:
    from ...plans.program import Program
    from .lock import Lock

_NAMES: Lately[object, bytes] = Lately(8)
_ORDERS: Lately[Plan, bytes] = Lately(8)
_PLANS: Recent[bytes, Plan] = Recent()
_PROGRAMS: Recent[tuple[bytes, ...], Program] = Recent()


def read_plan(data: Mapping[str, Any]) -> Plan:
    """Return the plan that was stored as `data`. Raises: pydantic's ValidationError: it is none."""
    return _PLANS.get(_name(data), lambda: Plan.model_validate(data), _steps)


def keep_plan(data: Mapping[str, Any], plan: Plan) -> None:
    """Remember what plan is stored as `data`: whoever submits it has read, checked and digested it already."""
    _PLANS.keep(_name(data), plan, _steps(plan))


def program_of(plan: Plan, lock: Lock, plans: Mapping[str, Plan], language: int) -> Program:
    """Return the program of a run.

    Args:
        plan: The plan.
        lock: The run's tools.
        plans: Saved plans that the plan uses.
        language: The version of the expression language that the run began with.

    Raises:
        PlanRejected: The plan cannot be compiled.
    """
    key = (
        str(language).encode(),
        _ORDERS.get(plan, _order),
        _name(lock.to_list()),
        plan.digest.encode(),
        *(
            f"{name} {plans[name].digest}".encode() + _ORDERS.get(plans[name], _order)
            for name in sorted(plans)
        ),
    )
    return _PROGRAMS.get(
        key,
        lambda: compile_plan(plan, lock, plans=plans, language=language),
        lambda program: _steps(program.plan),
    )


def _name(data: object) -> bytes:
    """Return what names stored JSON; what was stored holds no NaN, which orjson would write as null."""
    return _NAMES.get(data, lambda given: sha256(orjson.dumps(given)).digest())


def _order(plan: Plan) -> bytes:
    """Return the order of the properties that models are asked for: it distinguishes plans with one digest."""
    return canonical(order_in(plan))


def _steps(plan: Plan) -> int:
    return len(plan.steps) + sum(len(inner.steps) for inner in plan.plans.values())
