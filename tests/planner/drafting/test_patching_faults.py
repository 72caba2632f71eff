"""Whatever a model answers where a patch is wanted, re-planning ends within a planning's bounds, with a patch or a failure that says why."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import pytest
from firmplan import Plan, Planner, PlanningFailed, tool
from firmplan.planner import Mended
from firmplan.planner.drafting.conversation import REQUESTS_MAX
from firmplan.testing import ScriptedModel
from misbehaviours import EVERY, SAMPLED
from seeds import seeds

OVERHEAD_S = 12.0
"""What it may take beyond waiting for its endpoint, on a busy machine."""


@tool(effect="read")
def weather(city: str) -> float:
    """Temperature in a city."""
    return 1.0


@dataclass(frozen=True)
class Step:
    status: str
    error: object = None
    reason: str | None = None


PLAN = Plan.model_validate(
    {
        "firmplan": 1,
        "task": "Compare two cities",
        "steps": [
            {"id": "a", "tool": "weather", "args": {"city": "Rome"}},
            {"id": "b", "tool": "weather", "args": {"city": "Oslo"}},
        ],
        "output": "${[a, b]}",
    }
)
STEPS = {"a": Step("succeeded"), "b": Step("failed")}
PATCH = {"operations": [{"op": "set", "step": "b", "at": "on_error", "value": {"value": 0}}]}


@pytest.mark.sweep
@pytest.mark.parametrize("number", seeds(len(EVERY), sampled=SAMPLED))
def test_each_misbehaviour_ends(number):
    """A patch comes where the model does well in the end; nothing that it said before is applied."""
    case = EVERY[number]

    async def main():
        async with ScriptedModel([*case.script, *([PATCH] * 3 if case.then_good else ())]) as model:
            planner = Planner("m", base_url=model.base_url, timeout=case.timeout_s, **case.options)
            began = time.monotonic()
            try:
                outcome = await planner.repair_run(PLAN, STEPS, [weather])
            except PlanningFailed as failure:
                outcome = failure
            return outcome, len(model.requests), time.monotonic() - began

    outcome, requests, seconds = asyncio.run(main())
    assert requests <= REQUESTS_MAX
    assert seconds < 10 * case.timeout_s + OVERHEAD_S
    if case.then_good:
        assert isinstance(outcome, Mended), str(outcome)[:2000]
        assert outcome.plan == PLAN.apply(outcome.patch)
        assert outcome.plan.steps[0] == PLAN.steps[0]
    else:
        assert isinstance(outcome, PlanningFailed)
        assert outcome.attempts
