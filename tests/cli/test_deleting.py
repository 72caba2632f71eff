"""`runs delete` and `runs prune`; `runs` without a further word lists, as ever."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing

import pytest


def write(path, tool, **args):
    path.write_text(json.dumps({"firmplan": 1, "steps": [{"id": "a", "tool": tool, "args": args}]}))


@pytest.fixture
def kept(firmplan, home):
    """Three runs that ended, the second of them failed, and one that waits."""
    firmplan("run", "plan.json", "-t", "tools.py", "-i", "a=1", "--run-id", "r1")
    write(home / "odd.json", "half", n=3)
    assert firmplan("run", "odd.json", "-t", "tools.py", "--run-id", "r2").code == 1
    firmplan("run", "plan.json", "-t", "tools.py", "-i", "a=3", "--run-id", "r3")
    write(home / "mail.json", "send", to="a")
    assert firmplan("run", "mail.json", "-t", "tools.py", "--run-id", "r4").code == 4
    return firmplan


def ids(firmplan):
    return [run["id"] for run in firmplan("runs", "--json").document["runs"]]


def test_a_run_is_deleted(kept):
    """It is gone from the list; deleting it again, or one that waits, is a mistake that says what to do."""
    answer = kept("runs", "delete", "r1")
    assert (answer.code, answer.out) == (0, "1 run deleted\n")
    assert ids(kept) == ["r4", "r3", "r2"]
    again = kept("runs", "delete", "r1")
    assert again.code == 2
    assert "there is no run 'r1'" in again.err
    waits = kept("runs", "delete", "r4", "--json")
    assert waits.code == 2
    assert waits.document["error"]["code"] == "not-ended"
    assert "cancel it first" in waits.document["error"]["message"]


def test_a_run_with_a_fork_stays(kept):
    """The fork is named; a prune tells it as kept, and takes both at once where both are old."""
    fork = kept("fork", "r1", "--at", "total", "-t", "tools.py", "--json").document["id"]
    refused = kept("runs", "delete", "r1")
    assert refused.code == 2
    assert (
        f"run r1 stays: {fork} was made from it and may need its journal: delete that run first"
        in refused.err
    )
    told = kept("runs", "prune", "--older", "0s", "--json").document
    assert told == {"runs": [fork, "r3", "r2", "r1"], "kept": {}, "values": 0, "bytes": 0, "dry_run": False}
    assert ids(kept) == ["r4"]


def test_old_runs_are_pruned(kept, home):
    """By age; failed ones stay if asked for; a dry run only tells."""
    old = time.time() - 100 * 24 * 3600
    with sqlite3.connect(home / "firmplan.db") as db:
        db.execute("UPDATE runs SET updated=? WHERE id IN ('r1', 'r2', 'r4')", (old,))
    db.close()
    assert kept("runs", "prune", "--older", "90d", "--dry-run").out == "2 runs would be deleted\n"
    dry = kept("runs", "prune", "--older", "90d", "--keep-failed", "--dry-run", "--json").document
    assert (dry["runs"], dry["dry_run"]) == (["r1"], True)
    assert ids(kept) == ["r4", "r3", "r2", "r1"]
    assert kept("runs", "prune", "--older", "90d", "--keep-failed").out == "1 run deleted\n"
    assert kept("runs", "prune", "--older", "90d", "--keep-failed").out == "0 runs deleted\n"
    assert kept("runs", "prune", "--older", "90d").out == "1 run deleted\n"
    assert ids(kept) == ["r4", "r3"]


def test_an_age_is_asked_for(kept):
    """Nobody deletes everything by leaving a word out, and what is no age is told."""
    assert kept("runs", "prune").code == 2
    wrong = kept("runs", "prune", "--older", "long")
    assert wrong.code == 2
    assert "older_than" in wrong.err
    assert len(ids(kept)) == 4


def test_runs_lists_as_ever(kept):
    """Its options hold, and so does a store that stands before a further word."""
    assert kept("runs", "--status", "failed", "--json").document["runs"][0]["id"] == "r2"
    assert kept("runs", "-n", "1").out.splitlines()[1].startswith("r4")
    assert "no runs in nope.db: there is no store yet" in kept("runs", "--store", "nope.db").err
    refused = kept("runs", "--store", "nope.db", "delete", "r1")
    assert refused.code == 2
    assert "there is no store at nope.db yet" in refused.err


def test_an_older_store_can_get_smaller_after_its_upgrade(kept, home):
    """The command says so, once."""
    with closing(sqlite3.connect(home / "firmplan.db", isolation_level=None)) as db:
        db.execute("PRAGMA auto_vacuum=NONE")
        db.execute("VACUUM")
        assert db.execute("PRAGMA auto_vacuum").fetchone() == (0,)
    assert kept("store", "upgrade").out.endswith("the newest; its file can shrink now\n")
    assert kept("store", "upgrade").out.endswith("the newest: nothing had to be done\n")
    with closing(sqlite3.connect(home / "firmplan.db")) as db:
        assert db.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    assert kept("store", "check").code == 0
