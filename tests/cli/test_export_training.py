"""`export-training` writes a set and its card from the runs of the store, without a model."""

from __future__ import annotations

import json

import pytest
from firmplan.testing import ScriptedModel

PLAN = {"firmplan": 1, "steps": [{"id": "s", "tool": "add", "args": {"a": 1, "b": 2}}], "output": "${s}"}


@pytest.fixture
def planned(firmplan, home):
    """Run two tasks; return their runs."""
    with ScriptedModel(lambda _: PLAN) as model:
        words = (
            "--tools",
            "tools.py",
            "--store",
            "s.db",
            "--model",
            "m",
            "--base-url",
            model.base_url,
            "--json",
        )
        return [firmplan("run", task, *words).document["id"] for task in ("Add 1 and 2", "Add 1 and two")]


def test_a_set_is_written_with_its_card(firmplan, home, planned):
    """All runs, or those that are named; verdicts from a file; the answer says what was left out."""
    (home / "v.jsonl").write_text(json.dumps({"run": planned[0], "score": 0.9}))
    where = ("--kind", "planner", "--tools", "tools.py", "--store", "s.db")
    done = firmplan("export-training", "all.jsonl", *where, "--runs", "all")
    assert (done.code, "2 examples in all.jsonl; all.md says what they are" in done.out) == (0, True)
    document = firmplan("export-training", "one.jsonl", *where, "--runs", planned[1], "--json").document
    assert (document["examples"], document["path"], document["left_out"]) == (1, "one.jsonl", {})
    judged = firmplan(
        "export-training",
        "j.jsonl",
        *where,
        "--runs",
        "all",
        "--judged",
        "v.jsonl",
        "--licence",
        "ours",
        "--card",
        "c.md",
    )
    assert "left out: 1 because no verdict says how good the run is" in judged.out
    assert "| licence of the data | ours |" in (home / "c.md").read_text()
    lines = (home / "all.jsonl").read_text().splitlines()
    assert [json.loads(line)["messages"][-1]["role"] for line in lines] == ["assistant"] * 2


def test_what_cannot_be_exported_is_said(firmplan, home, planned):
    """No kind, no runs, no such run, no such label, no store."""
    where = ("export-training", "x.jsonl", "--tools", "tools.py")
    assert firmplan(*where, "--store", "s.db", "--runs", "all").code == 2
    assert firmplan(*where, "--store", "s.db", "--kind", "planner").code == 2
    assert firmplan(*where, "--store", "s.db", "--kind", "planner", "--runs", "run_x").code != 0
    done = firmplan(*where, "--store", "s.db", "--kind", "steps", "--runs", "all", "--include", "secrets")
    assert (done.code, "expected a label, found 'secrets'" in done.err) == (2, True)
    assert firmplan(*where, "--store", "none.db", "--kind", "steps", "--runs", "run_x").code != 0
    assert not (home / "none.db").exists()
    assert not (home / "x.jsonl").exists()
