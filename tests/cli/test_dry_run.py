"""`plan --dry-run` shows the prompt and its size, and asks nobody."""

from __future__ import annotations


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
