"""`plan --dry-run` shows the prompt and its size, and asks nobody."""

from __future__ import annotations

import json
import re

PLAN = {
    "firmplan": 1,
    "inputs": {"a": {"type": "integer"}, "b": {"type": "integer", "default": 2}},
    "output": "${total}",
}


def test_the_prompt_is_shown(firmplan, home):
    """Without a model, without a file written; as a document too."""
    shown = firmplan("plan", "Add 1 and 2", "--tools", "tools.py", "--dry-run", "-o", "x.json")
    assert shown.code == 0
    assert "# Task\n\nAdd 1 and 2" in shown.out
    assert "add(a: integer, b: integer) -> integer" in shown.out
    assert "tokens" in shown.err
    assert not (home / "x.json").exists()
    document = firmplan("plan", "Add 1 and 2", "--tools", "tools.py", "--dry-run", "--json").document
    assert document["tokens"]["prompt"] > 1000
    assert document["form"] == "typed"
    assert [message["role"] for message in document["messages"]] == ["system", "user"]


def test_small_requests_are_shown_with_their_size(firmplan, home):
    """Of many tools the choice; where a saved plan is near, the question whether it fits."""
    every = "\n".join(
        f'@tool(effect="read")\ndef look_{number}(what: str) -> str:\n    """Look at {number}."""\n    return what\n\n'
        for number in range(21)
    )
    (home / "many.py").write_text(f"from firmplan import tool\n\n\n{every}")
    plan = {**PLAN, "steps": [{"id": "total", "set": "${inputs.a + inputs.b}"}]}
    (home / "sum.json").write_text(json.dumps({**plan, "task": "Add up the numbers {a} and {b}"}))
    assert firmplan("plans", "save", "sum", "sum.json").code == 0
    shown = firmplan("plan", "Numbers to add up: 1, 2", "--tools", "many.py", "--dry-run")
    assert "--- system, to fill in a saved plan\nYou fill in a form." in shown.out
    assert "--- system, to choose tools\nYou choose tools." in shown.out
    assert "- look_20: Look at 20." in shown.out
    assert re.search(r"about \d+ tokens to choose tools", shown.err)
    assert re.search(r"about \d+ tokens to ask whether a saved plan fits", shown.err)
    few = firmplan("plan", "Add 1 and 2", "--tools", "tools.py", "--dry-run")
    assert "to choose tools" not in few.out + few.err
