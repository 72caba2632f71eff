"""One line from a plan to its run, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..engine import Engine
from ..executor import Run
from ..plans import Plan
from ..tools import Tool, Toolset
from .memory_store import MemoryStore


def run_plan(plan: Plan | Mapping[str, Any], tools: Toolset | Sequence[Tool], /, **inputs: Any) -> Run:  # noqa: ANN401  # any JSON
    """Return the run of a plan in a new store in memory.

    Raises:
        PlanRejected: The plan has faults.
        InputRejected: An input does not fit.
    """
    with Engine(tools, store=MemoryStore()) as engine:
        return engine.run_sync(plan, inputs=inputs)
