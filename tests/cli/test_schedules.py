"""Schedules on the command line."""

from __future__ import annotations

import json
import time


def test_the_command_line_makes_shows_and_removes_schedules(home, firmplan):
    """One line makes one; `fire` starts what is due where there is no server."""
    (home / "p.json").write_text(json.dumps({"firmplan": 1, "inputs": {"n": {"type": "integer"}}, "steps": [{"id": "x", "set": "${inputs.n}"}], "output": "${x}"}))  # fmt: skip

    def answer(*words, code=0):
        said = firmplan(*words, "--store", "s.db", "--json")
        assert said.code == code, said
        return said.document

    answer("plans", "save", "report", "p.json")
    made = answer("schedules", "add", "hourly-report", "--plan", "report", "--every", "1h", "--input", "n=3")
    assert (made["every"], made["inputs"], made["next"][0]) == (3600.0, {"n": 3}, made["next_at"])
    again = answer(
        "schedules", "add", "hourly-report", "--plan", "report", "--every", "2h", "--input", "n=3", code=2
    )
    assert again["error"]["code"] == "replaced"
    cron = ("--cron", "0 8 * * 1-5", "--tz", "Europe/Berlin", "--start", "2020-01-01T00:00:00Z", "--replace")
    changed = answer("schedules", "add", "hourly-report", "--plan", "report", *cron, "--input", "n=4")
    assert (changed["revision"], changed["cron"]) == (2, "0 8 * * 1-5")
    assert answer("schedules", "next", "hourly-report", "--count", "3")["times"] == changed["next"][:3]
    assert answer("schedules", "pause", "hourly-report")["paused"] is True
    assert answer("schedules", "resume", "hourly-report")["paused"] is False
    answer(
        "schedules", "add", "now", "--plan", "report", "--every", "1s", "--input", "n=5", "--priority", "2"
    )
    time.sleep(1.1)
    fired = answer("schedules", "fire")
    assert {(run["status"], run["output"], run["priority"]) for run in fired["runs"]} == {("succeeded", 5, 2)}
    assert "priority 2" in firmplan("show", fired["runs"][0]["id"], "--store", "s.db").out.splitlines()[0]
    assert "priority 2" in firmplan("schedules", "show", "now", "--store", "s.db").out
    shown = answer("schedules", "show", "now")
    assert shown["fires"][-1]["state"] in ("started", "missed")
    assert [each["name"] for each in answer("schedules")["schedules"]] == ["hourly-report", "now"]
    answer("schedules", "remove", "now")
    assert answer("schedules", "show", "now", code=2)["error"]["code"] == "unknown-schedule"
    assert answer("schedules", "add", "x", "--plan", "report", "--every", "1h", "--input", "m=3", code=2)
