"""Evaluations run from recorded traffic: no model, no key and no network, as in a build."""

from __future__ import annotations

import json
import os
from pathlib import Path

import firmplan
import pytest
from forked import run

FOLDER = Path(firmplan.__file__).parent / "examples" / "evals" / "recorded"


def evaluated(name, *words):
    """Run `eval` over a recording in a process of its own, without any setting of a model."""
    environment = {
        key: value for key, value in os.environ.items() if "FIRMPLAN" not in key and "OPENAI" not in key
    }
    command = ("traffic", "--replay", f"{name}.traffic.jsonl", "eval", *words, "--against", "react", "--json")
    done = run(["-m", "firmplan", *command], cwd=FOLDER, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def desk():
    """The evaluation of the set with fakes and saved plans."""
    return evaluated("desk", "desk.yaml", "--replan", "1", "--at-least", "1")


def test_every_measure_comes_from_the_recording(desk):
    """Right at first and after a patch, the saved plans, retrieval, and the ReAct loop on the same tools."""
    (summary,) = desk["planners"]
    assert [summary[name] for name in ("good", "answer", "saved", "patched", "rescued")] == [1, 1, 1, 1, 1]
    assert summary["answer_first"] == pytest.approx(5 / 6)
    assert {each["what"]: each["tasks"] for each in desk["retrieval"]} == {"tools": 6, "saved plans": 2}
    assert all(0 < each["mrr"] <= 1 and 0 < each["ndcg@5"] <= 1 for each in desk["retrieval"])
    against = summary["against"]
    assert (against["planned"]["right"], against["react"]["right"], against["samples"]) == (1, 1, 6)
    assert (against["planned"]["requests"], against["react"]["requests"]) == (5, 17)


def test_plans_write_at_most_twice_what_a_loop_writes(desk):
    """Over these tasks, counted as the replaying endpoint counts tokens; saved plans cost nothing."""
    assert 0 < desk["planners"][0]["against"]["output_ratio"] <= 2


def test_a_function_calling_set_runs_from_its_recording():
    """Calls of plan and loop are those of the set, parallel ones in any order."""
    (summary,) = evaluated("calls", "calls.jsonl", "--at-least", "1")["planners"]
    assert (summary["calls"], summary["answer"], summary["against"]["react"]["right"]) == (1, 1, 1)


def test_a_worse_set_fails_the_build(tmp_path):
    """A recording whose plans are wrong is below what is asked: the exit code says so."""
    lines = (FOLDER / "calls.traffic.jsonl").read_text().replace('"base": 10', '"base": 11')
    (tmp_path / "t.jsonl").write_text(lines)
    command = (
        "traffic",
        "--replay",
        str(tmp_path / "t.jsonl"),
        "eval",
        "calls.jsonl",
        "--run",
        "--at-least",
        "1",
    )
    done = run(["-m", "firmplan", *command], cwd=FOLDER)
    assert done.returncode == 1
    assert "simple: other calls than expected" in done.stderr
