"""What went other than declared is printed once: by `run`, by `show`, and in the document of `--json`."""

from __future__ import annotations

import json

TOOLS = '''
from firmplan import Tool, tool


look = Tool.from_callable(
    lambda: [{"celsius": "warm\\\\x1b[31m"} for _ in range(3)],
    name="look",
    parameters={"type": "object"},
    returns={"type": "array", "items": {"type": "object", "properties": {"celsius": {"type": "number"}}}},
    effect="read",
)


@tool(effect="pure")
def lie() -> int:
    """Return what the annotation forbids."""
    return "three"
'''
PLAN = {
    "firmplan": 1,
    "steps": [{"id": "a", "tool": "look"}, {"id": "b", "tool": "look", "after": ["a"]}],
    "output": {"now": "${a[0].celsius}"},
}


def test_run_and_show_print_each_warning_once(firmplan, tmp_path):
    """On stderr, so that the output stays what it is; no character that a terminal obeys gets through."""
    (tmp_path / "own.py").write_text(TOOLS)
    (tmp_path / "plan.json").write_text(json.dumps(PLAN))
    done = firmplan("run", "plan.json", "-t", "own.py")
    assert done.code == 0
    assert done.err.count("[result-mismatch]") == 1
    assert (
        "warning: step 'a': what the tool 'look' returned does not fit its declared type, and stands"
        in done.err
    )
    assert "\x1b[31m" not in done.err
    assert "warning" not in done.out
    run_id = firmplan("runs", "--json").document["runs"][0]["id"]
    assert firmplan("show", run_id).out.count("[result-mismatch]") == 1
    (warning,) = firmplan("show", run_id, "--format", "json").document["warnings"]
    assert (warning["step"], warning["code"]) == ("a", "result-mismatch")


def test_a_dry_run_of_a_planning_shows_what_results_looked_like(firmplan, tmp_path):
    """It is what a planner would be sent."""
    (tmp_path / "own.py").write_text(TOOLS)
    (tmp_path / "plan.json").write_text(json.dumps(PLAN))
    assert "did not fit" not in firmplan("plan", "Look", "-t", "own.py", "--dry-run").out
    assert firmplan("run", "plan.json", "-t", "own.py").code == 0
    shown = firmplan("plan", "Look", "-t", "own.py", "--dry-run").out
    assert (
        "-> list of {celsius?: number}; but 2 of 2 results did not fit, and they were list of {celsius: text}"
        in shown
    )


def test_the_setting_decides_for_tools_that_do_not(firmplan, tmp_path):
    """`results` of the file or of the environment is that of the engine."""
    (tmp_path / "own.py").write_text(TOOLS)
    (tmp_path / "lie.json").write_text(
        json.dumps({"firmplan": 1, "steps": [{"id": "a", "tool": "lie"}], "output": "${a}"})
    )
    assert firmplan("run", "lie.json", "-t", "own.py").code == 1
    (tmp_path / "firmplan.toml").write_text('results = "warn"\n')
    done = firmplan("run", "lie.json", "-t", "own.py", "--json")
    assert (done.code, done.document["output"], len(done.document["warnings"])) == (0, "three", 1)
