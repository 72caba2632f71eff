"""`plans learn`: a run's plan becomes a template that answers like tasks, without a model."""

from __future__ import annotations


def test_a_run_teaches_a_template(firmplan, plan_file):
    """What the task names becomes inputs; the saved template answers another task of the kind."""
    steps = [{"id": "total", "tool": "add", "args": {"a": 40, "b": 2}}]
    plan = plan_file(task="Please add 40 and 2", inputs={}, steps=steps)
    run = firmplan("run", plan, "--tools", "tools.py", "--json").document
    learned = firmplan("plans", "learn", run["id"], "--name", "sum", "--tools", "tools.py", "--json").document
    assert learned["plan"]["task"] == "Please add {a} and {b}"
    assert learned["lifted"] == {"a": 40, "b": 2}
    again = firmplan("run", "please add 5 and 6", "--tools", "tools.py", "--json").document
    assert again["output"] == 11


def test_only_runs_that_went_well_teach(firmplan, plan_file):
    """A failed run's plan is no example."""
    steps = [{"id": "h", "tool": "half", "args": {"n": 3}}]
    plan = plan_file(task="Halve 3 now please", inputs={}, steps=steps, output="${h}")
    run = firmplan("run", plan, "--tools", "tools.py", "--json").document
    done = firmplan("plans", "learn", run["id"], "--tools", "tools.py")
    assert done.code == 2
    assert "succeeded" in done.err
