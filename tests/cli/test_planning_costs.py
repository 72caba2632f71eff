"""What planning costs is told by `run` and `show`, and a planning over its budget is gone on with by `resume --budget`."""

from __future__ import annotations

from firmplan.testing import ScriptedModel

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


def test_planning_is_told_and_its_budget_can_be_raised(firmplan, home):
    """Exit 4 and the way on; then the same run goes on, and says what planning took in all."""
    (home / "tools.py").write_text(TOOLS)
    with ScriptedModel([BAD, GOOD]) as model:
        given = ("--tools", "tools.py", "--model", "m", "--base-url", model.base_url)
        over = firmplan("run", "Price of tea", "--budget", "model_calls=1", "--json", *given)
        run_id = over.document["id"]
        assert (over.code, over.document["status"], over.document["plan"]) == (4, "over_budget", None)
        assert over.document["usage"]["planning"]["model_calls"] == 1
        shown = firmplan("show", run_id)
        assert "planning took 1 model call, " in shown.out
        assert "the budget is used up (so far model_calls=1" in shown.out
        assert f"resume {run_id}" in shown.out
        assert "--budget NAME=AMOUNT" in shown.out
        done = firmplan("resume", run_id, "--budget", "model_calls=9", *given)
        assert done.code == 0, done.err
        shown = firmplan("show", run_id)
        assert "planning took 2 model calls, " in shown.out
        assert len(model.requests) == 2
