"""Exact reuse: a task that was planned before, with the same tools, model and prompts, is not planned again.

Whoever keeps plans (an engine's store) gives a `PlanCache`. What it returns is checked like a draft, so that a wrong or
stale entry costs a model call and never a wrong run. Values of inputs are no part of the key: a model does not see them.
"""

from __future__ import annotations

from typing import Protocol, cast

from ..plans.plan import Plan
from ..plans.signature import Signature
from ..plans.values import Json, canonical, digest
from ..tools.models.endpoint import Endpoint
from .drafting.prompt import prompt_version
from .given import given_schemas
from .order import Order


class PlanCache(Protocol):
    """Plans that models wrote, by the key of their planning."""

    async def find(self, key: str, /) -> Plan | None:
        """Return the plan that was kept under a key, if there is one."""
        ...

    async def keep(self, key: str, plan: Plan, /) -> None:
        """Keep a plan under a key; an older one of that key goes."""
        ...


def planning_key(order: Order, *endpoints: Endpoint) -> str:
    """Return the digest of what decides a planning: task, tools, models, prompts, and names and types of given inputs."""
    parts: dict[str, Json] = {
        "task": order.task,
        "tools": [_told(tool) for tool in sorted(order.tools, key=lambda tool: tool.name)],
        "models": [[endpoint.name, endpoint.base_url] for endpoint in endpoints],
        "prompts": prompt_version(),
        "inputs": cast("Json", dict(given_schemas(order.inputs))),
        "complete": order.complete,
    }
    return digest(canonical(parts))


def _told(tool: Signature) -> Json:
    """Return all of a tool that a model, or the check of its plan, looks at."""
    allowed: list[Json] = [*sorted(tool.allow_untrusted)]
    return {
        "name": tool.name,
        "description": tool.description,
        "effect": str(tool.effect),
        "parameters": dict(tool.parameters),
        "returns": None if tool.returns is None else dict(tool.returns),
        "resource": tool.resource,
        "trust": tool.trust,
        "approval": tool.asks_approval,
        "allow_untrusted": allowed,
    }
