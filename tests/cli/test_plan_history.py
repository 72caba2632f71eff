"""The history of a saved plan on the command line."""

from __future__ import annotations

import json


def test_the_command_line_lists_restores_and_deletes(home, firmplan):
    """Each change makes a version, which stays."""
    (home / "one.json").write_text(json.dumps({"firmplan": 1, "steps": [{"id": "x", "set": 1}]}))
    (home / "two.json").write_text(json.dumps({"firmplan": 1, "steps": [{"id": "x", "set": 2}]}))

    def answer(*words, code=0):
        said = firmplan("plans", *words, "--store", "s.db", "--json")
        assert said.code == code, said
        return said.document

    one = answer("save", "p", "one.json")["digest"]
    answer("save", "p", "two.json")
    assert answer("show", "p", "--version", "1")["steps"][0]["set"] == 1
    assert answer("restore", "p", "1") == {"name": "p", "digest": one}
    assert answer("delete", "p") == {"name": "p", "deleted": True}
    assert answer("restore", "p", one)["digest"] == one
    versions = answer("history", "p")["versions"]
    assert [(each["version"], each["deleted"]) for each in versions] == [
        (5, False),
        (4, True),
        (3, False),
        (2, False),
        (1, False),
    ]
    assert len({each["by"] for each in versions}) == 1
    assert answer("history", "q", code=2)["error"]["code"] == "unknown-plan"
