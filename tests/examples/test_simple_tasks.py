"""The set of simple tasks, answered as a model of 1.5 billion parameters has answered: its drafts become plans that run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import firmplan
import pytest
from forked import run

FOLDER = Path(firmplan.__file__).parent / "examples" / "evals" / "simple"


@pytest.fixture(scope="module")
def tasks():
    """The score of each task, from the recording, without a model."""
    environment = {
        key: value for key, value in os.environ.items() if "FIRMPLAN" not in key and "OPENAI" not in key
    }
    command = ("traffic", "--replay", "simple.traffic.jsonl", "eval", "simple.yaml", "--run", "--json")
    done = run(["-m", "firmplan", *command], cwd=FOLDER, env={**environment, "FIRMPLAN_PROFILE": "small"})
    assert done.returncode == 0, done.stderr
    return {each["task"]: each["scores"][0] for each in json.loads(done.stdout)["tasks"]}


def test_most_tasks_are_right_at_the_first_draft(tasks):
    """At least 21 of 24, by the value of the answer; among them `What is 17 * 23?`."""
    right = [name for name, score in tasks.items() if score["good"] and not score["rounds"]]
    assert len(tasks) == 24
    assert len(right) >= 21, set(tasks) - set(right)
    assert "f1" in right
    assert all(sum(name.startswith(group) for name in right) >= 6 for group in "fso")


def test_no_right_plan_has_a_call_that_its_task_does_not_need(tasks):
    """Arithmetic is one call, populations are no sums of a calculator, and lookups ask no model."""
    called = {
        name: [step.get("tool", "ask") for step in score["plan"]["steps"]]
        for name, score in tasks.items()
        if score["good"]
    }
    assert called["f1"] == ["calculate"]
    assert called["f3"] == ["city"]
    assert called["s1"] == ["product"]
    assert [name for name, steps in called.items() if "ask" in steps] == ["f8"]
