"""`plans list` and `plans show` say how often a saved plan answered tasks, and how often it only seemed to."""

from __future__ import annotations

import json


def test_uses_are_shown(firmplan, home):
    """In the list, in its document, and below the plan; a run that fails turns its hit into a false one."""
    task = {
        "firmplan": 1,
        "task": "Halve {n}",
        "inputs": {"n": {"type": "integer"}},
        "steps": [{"id": "h", "tool": "half", "args": {"n": "${inputs.n}"}}],
        "output": "${h}",
    }
    (home / "half.json").write_text(json.dumps(task))
    firmplan("plans", "save", "half", "half.json", "--tools", "tools.py")
    for number, code in ((4, 0), (8, 0), (3, 1)):
        assert firmplan("run", f"halve {number}", "--tools", "tools.py").code == code
    (listed,) = firmplan("plans", "--json").document["plans"]
    by = {"check": 0, "model": 0, "run": 1}
    assert {key: listed[key] for key in ("name", "hits", "false_hits", "false_hits_by")} == {
        "name": "half",
        "hits": 2,
        "false_hits": 1,
        "false_hits_by": by,
    }
    head, row = firmplan("plans", "list").out.splitlines()[:2]
    assert head.split()[:4] == ["NAME", "DIGEST", "HITS", "FALSE"]
    assert row.split()[2:4] == ["2", "1"]
    shown = firmplan("plans", "show", "half").out
    assert "answered 2 tasks; seemed to answer, and did not: 1 (1 by what came of the run)" in shown
    document = firmplan("plans", "show", "half", "--format", "json").document
    assert "hits" not in document, "a plan's document is a plan"
