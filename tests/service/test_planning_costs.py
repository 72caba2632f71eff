"""A task's budget holds for its planning, over HTTP too; what it used is in the run and in its events."""

from __future__ import annotations

from firmplan.testing import ScriptedModel
from served import Server

TOOLS = '''
from firmplan import tool

@tool(effect="read")
def price(item: str) -> int:
    """Price of an item in cents."""
    return len(item)
'''
GOOD = {
    "firmplan": 1,
    "steps": [{"id": "a", "tool": "price", "args": {"item": "tea"}}],
    "output": "${a}",
}
BAD = {**GOOD, "steps": [{"id": "a", "tool": "prize", "args": {"item": "tea"}}]}


def test_a_planning_over_its_budget_goes_on_with_a_larger_one(tmp_path):
    """The run has no plan and waits; `resume` with a budget plans again."""
    with (
        ScriptedModel([BAD, GOOD]) as model,
        Server(tmp_path, tools=TOOLS, FIRMPLAN_MODEL="m", FIRMPLAN_BASE_URL=model.base_url) as server,
    ):
        taken = server.post("/v1/tasks", {"task": "Price of tea", "budget": {"model_calls": 1}})
        run_id = taken.json()["id"]
        run = server.wait(run_id, "over_budget")
        assert (run["status"], run["plan"], run["usage"]["planning"]["model_calls"]) == (
            "over_budget",
            None,
            1,
        )
        server.post(f"/v1/runs/{run_id}/resume", {"budget": {"model_calls": 9}})
        run = server.wait(run_id)
        assert (run["status"], run["output"], run["usage"]["planning"]["model_calls"]) == ("succeeded", 3, 2)
        events = server.get(f"/v1/runs/{run_id}/events").text
        assert '"PlanMade"' in events or "event: PlanMade" in events
