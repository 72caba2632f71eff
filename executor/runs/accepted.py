"""Plans that were just accepted, so that the same plan with the same tools is not checked again.

A `Plan` is known by being the same object, a dict by its content. A plan that runs saved plans is never known: what is saved
under a name may have changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeAlias

import orjson

from ...plans import Plan
from ...plans.format.saved import references_of
from ...plans.values import NotJson, canonical
from ..lru_cache import LruCache

_Name: TypeAlias = "int | bytes"


@dataclass(frozen=True, slots=True)
class _Accepted:
    """A plan, and what it was accepted with; `given` is kept so that no other object gets its identity."""

    plan: Plan
    given: object
    tools: object


class AcceptedPlans:
    """See the module."""

    def __init__(self) -> None:
        self._recent: LruCache[_Name, _Accepted] = LruCache()

    def find(self, given: Plan | Mapping[str, Any], tools: object) -> Plan | None:
        """Return the plan that was accepted as this, with these tools; `None`: it has to be checked."""
        name = _name_of(given)
        found = self._recent.find(name) if name is not None else None
        if found is None or found.tools is not tools:
            return None
        return found.plan if isinstance(name, bytes) or found.given is given else None

    def keep(self, given: Plan | Mapping[str, Any], tools: object, plan: Plan) -> None:
        """Remember that a plan was accepted."""
        name = _name_of(given)
        if name is not None and not references_of(plan):
            kept = _Accepted(plan, given if isinstance(given, Plan) else None, tools)
            self._recent.keep(name, kept, len(plan.steps))


def _name_of(given: Plan | Mapping[str, Any]) -> _Name | None:
    if isinstance(given, Plan):
        return id(given)
    try:
        canonical(given)
        # Keep the given order, which the digest of a plan leaves out: the properties of answers have an order.
        return sha256(orjson.dumps(given)).digest()
    except (NotJson, orjson.JSONEncodeError):  # the check says what is wrong with it
        return None
