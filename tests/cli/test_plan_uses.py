"""`plans list` and `plans show` say how often a saved plan answered tasks, and how often it only seemed to."""

from __future__ import annotations

import json
import sqlite3


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


def test_a_plan_that_was_altered_hides_no_other(firmplan, home):
    """The list has the others and says of it that it does not run, with a warning; asked for by name it is refused; to save it again mends it."""
    for name in ("one", "two"):
        firmplan("plans", "save", name, "plan.json", "--tools", "tools.py")
    assert "altered" not in firmplan("plans", "--json").document
    with sqlite3.connect(home / "firmplan.db") as db:
        db.execute("UPDATE plans SET saved=1 WHERE name='one'")
    db.close()
    listed = firmplan("plans", "list")
    one, two = listed.out.splitlines()[1:]
    assert (listed.code, one.split()) == (0, ["one", "altered", "does", "not", "run"])
    assert two.split()[0] == "two"
    assert "the saved plan 'one' is not as it was saved" in listed.err
    assert listed.err.count("passed over") == 1
    document = firmplan("plans", "list", "--json").document
    assert [each["name"] for each in document["plans"]] == ["two"]
    (told,) = document["altered"]
    assert told["name"] == "one"
    assert "does not run; save it again: firmplan plans save one FILE" in told["message"]
    assert firmplan("plans", "show", "one").code == 1
    assert firmplan("plans", "show", "two").code == 0
    firmplan("plans", "save", "one", "plan.json", "--tools", "tools.py")
    assert "altered" not in firmplan("plans", "--json").document
