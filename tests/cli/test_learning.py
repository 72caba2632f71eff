"""`plans learn`: a run's plan becomes a template that answers like tasks, without a model."""

from __future__ import annotations

from firmplan.testing import ScriptedModel


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


def test_the_words_that_were_asked_are_the_pattern(firmplan):
    """Not what the model called the task in its plan; and a saved plan that a model filled in teaches its new words."""
    plan = {
        "firmplan": 1,
        "task": "Sum of two numbers",
        "steps": [{"id": "total", "tool": "add", "args": {"a": 40, "b": 2}}],
        "output": "${total}",
    }
    filled = {"reasoning": "It adds.", "fits": True, "inputs": {"a": 7, "b": 8}}
    with ScriptedModel([plan, filled]) as model:
        words = ("--tools", "tools.py", "--json", "--model", "m", "--base-url", model.base_url)
        run = firmplan("run", "Please add up 40 and 2", *words).document
        learned = firmplan("plans", "learn", run["id"], "--name", "sum", *words[:3]).document
        assert learned["plan"]["task"] == "Please add up {a} and {b}"
        other = firmplan("run", "Would you please add 7 to 8 and tell me?", *words).document
        assert (other["output"], len(model.requests)) == (15, 2)
    learned = firmplan("plans", "learn", other["id"], "--name", "told", *words[:3]).document
    assert learned["plan"]["task"] == "Would you please add {a} to {b} and tell me?"
    again = firmplan("run", "would you please add 1 to 2 and tell me", *words[:3]).document
    assert again["output"] == 3
