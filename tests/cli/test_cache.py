"""`firmplan cache`: stats, gc and clear."""

from __future__ import annotations

import json

import pytest

SAVES = '''
from firmplan import Artifact, Context, tool


@tool(effect="pure")
def save_two(*, ctx: Context) -> Artifact:
    """Save two, return one."""
    ctx.save(b"x" * 3000)
    return ctx.save(b"y" * 2000)
'''
RUN = ("run", "plan.json", "-t", "tools.py", "--json", "-i")


def test_results_are_counted_and_forgotten(firmplan):
    """`cache` alone is `cache stats`; `clear` forgets all, and the next run calls again."""
    assert firmplan("cache").out == "no results to reuse\n"
    firmplan(*RUN, "a=1")
    assert firmplan("cache").out.startswith("1 result to reuse, ")
    assert firmplan("cache", "stats", "--json").document["results"] == 1
    assert (
        firmplan("cache", "gc", "--max-age", "1d", "--max-size", "1MB", "--json").document["forgotten"] == 0
    )
    assert firmplan("cache", "gc", "--max-age", "0s").out == "1 result forgotten; no results to reuse\n"
    firmplan(*RUN, "a=1")
    assert firmplan("cache", "clear", "--json").document == {
        "forgotten": 1,
        "removed": 0,
        "removed_bytes": 0,
        "results": 0,
        "bytes": 0,
        "calls": 1,
        "oldest": None,
        "newest": None,
    }
    assert not firmplan(*RUN, "a=1").document["steps"]["total"]["reused"]


def test_bytes_that_nothing_refers_to_are_removed(firmplan, home):
    """`gc` without a limit forgets no result; what a run returned stays, and what it saved beside that goes."""
    (home / "saving.py").write_text(SAVES)
    plan = {"firmplan": 1, "steps": [{"id": "s", "tool": "save_two"}], "output": "${s}"}
    (home / "saves.json").write_text(json.dumps(plan))
    firmplan("run", "saves.json", "-t", "saving.py")
    assert firmplan("cache", "gc").out.startswith("0 results forgotten, 1 unused value removed (3.0 KB); ")
    assert firmplan("cache", "gc", "--json").document["removed"] == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--max-age", "soon"), "expected a duration"),
        (("--max-size", "big"), "expected a size such as 500MB"),
        (("--max-size", "5 parsecs"), "expected a size such as 500MB"),
    ],
)
def test_wrong_limits_are_exit_code_2(firmplan, words, told):
    """Each with its message."""
    answer = firmplan("cache", "gc", *words)
    assert answer.code == 2
    assert told in answer.err
