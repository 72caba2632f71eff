"""Whatever JSON a model answers to small questions and to the plan's, planning ends: with a checked plan, or with a failure."""

from __future__ import annotations

import asyncio
import json

from firmplan import Plan, Planner, PlanningFailed, SavedPlan, check
from firmplan.planner.drafting.conversation import REQUESTS_MAX
from firmplan.testing import ScriptedModel, Text
from hypothesis import given
from hypothesis import strategies as st
from seeds import examples
from tool_catalogue import catalogue

TOOLS = catalogue()
TASK = "Who is off next week?"
GOOD = {
    "firmplan": 1,
    "task": TASK,
    "steps": [{"id": "s", "tool": "list_vacation", "args": {"page": "1"}}],
    "output": "${s}",
}
NEAR = {**GOOD, "task": "Who is off next {who}?", "inputs": {"who": {"type": "string"}}}
SAVED = [SavedPlan("near", Plan.model_validate({**NEAR, "output": "${inputs.who}"}))]
KEYS = ("fits", "inputs", "tools", "reasoning", "steps", "plan", "answer", "who", "set", "id", "tool", "args")
LEAVES = st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["list_vacation", "${a}", "a", ""])
ANSWERS = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=10,
)


@examples(60)
@given(answers=st.lists(ANSWERS, min_size=1, max_size=3), is_heard=st.booleans())
def test_planning_ends(answers, is_heard):
    """Within its bounds; nothing but a plan that passes comes out, and nothing but `PlanningFailed` is raised."""
    script = [Text(json.dumps(each)) if isinstance(each, str) else each for each in answers]

    async def main():
        async with ScriptedModel([*script, *[GOOD] * 3]) as model:
            planner = Planner("m", base_url=model.base_url)
            heard = (lambda _: None) if is_heard else None
            try:
                outcome = await planner.plan(TASK, TOOLS, saved=SAVED, heard=heard)
            except PlanningFailed as failure:
                outcome = failure
            assert outcome.attempts
            assert isinstance(outcome, PlanningFailed) or check(outcome.plan, TOOLS).ok
            assert len(model.requests) <= REQUESTS_MAX

    asyncio.run(main())
