"""What a stranger reads: runs by what they were about, mistakes by what to do about them."""

from __future__ import annotations

import json


def test_runs_of_a_pattern_are_told_with_their_inputs(firmplan):
    """A plan's task is a pattern; `runs`, `show` and a fork tell what each run was about."""
    run = firmplan("run", "plan.json", "-t", "tools.py", "-i", "a=40", "--json").document
    assert run["task"] == "Add 40 and 2"
    assert "Add 40 and 2" in firmplan("runs").out
    assert "task: Add 40 and 2" in firmplan("show", run["id"]).out
    fork = firmplan("fork", run["id"], "-i", "b=5", "-t", "tools.py", "--json").document
    assert (fork["task"], fork["output"]) == ("Add 40 and 5", 45)
    assert [each["task"] for each in firmplan("runs", "--json").document["runs"]] == [
        "Add 40 and 5",
        "Add 40 and 2",
    ]


def test_a_filled_task_is_short_and_leaves_other_braces(firmplan, plan_file):
    """Lists are comma separated, long values cut; braces that name no input are text; the plan keeps its pattern."""
    inputs = {"names": {"type": "array", "items": {"type": "string"}}, "text": {"type": "string"}}
    path = plan_file(task="Greet {names} by {text} {else}", inputs=inputs, steps=[], output="${inputs.text}")
    words = ("-i", 'names=["ada", "bob"]', "-i", f"text={'x' * 500}")
    run = firmplan("run", path, *words, "--json").document
    assert run["task"] == f"Greet ada, bob by {'x' * 78}.. {{else}}"
    assert run["plan"]["task"] == "Greet {names} by {text} {else}"


def test_the_same_run_id_is_the_same_work_whatever_its_task_says(firmplan, plan_file):
    """Prose is no part of a plan's digest: a reworded task goes on with the run of that name."""
    first = firmplan("run", "plan.json", "-t", "tools.py", "-i", "a=40", "--run-id", "r", "--json").document
    path = plan_file(task="Sum {a} with {b}")
    again = firmplan("run", path, "-t", "tools.py", "-i", "a=40", "--run-id", "r", "--json")
    assert (again.code, again.document["digest"]) == (0, first["digest"])
    assert (
        json.loads(firmplan("run", path, "-i", "a=41", "--run-id", "r", "-t", "tools.py", "--json").out)[
            "error"
        ]["code"]
        == "input-rejected"
    )
