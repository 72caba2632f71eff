"""`traffic` writes what models say while another command runs, and answers from it without them."""

from __future__ import annotations

from firmplan.testing import ScriptedModel

PLAN = {"firmplan": 1, "steps": [{"id": "s", "tool": "add", "args": {"a": 1, "b": 2}}], "output": "${s}"}


def test_a_command_is_recorded_and_replayed(firmplan, home, monkeypatch):
    """The same command, the second time with nobody there."""
    words = ("run", "Add 1 and 2", "--tools", "tools.py", "--json")
    with ScriptedModel([PLAN]) as model:
        monkeypatch.setenv("FIRMPLAN_MODEL", "m")
        monkeypatch.setenv("FIRMPLAN_BASE_URL", model.base_url)
        live = firmplan("traffic", "calls.jsonl", *words)
    assert (live.code, live.document["output"]) == (0, 3)
    assert len((home / "calls.jsonl").read_text().splitlines()) == 2
    again = firmplan("traffic", "--replay", "calls.jsonl", *words)
    assert (again.code, again.document["output"]) == (0, 3)


def test_what_is_no_recording_and_no_command_is_said(firmplan, home):
    """Each is the command's mistake."""
    assert firmplan("traffic", "calls.jsonl").code == 2
    assert firmplan("traffic", "calls.jsonl", "traffic", "x.jsonl", "runs").code == 2
    assert firmplan("traffic", "--replay", "none.jsonl", "runs").code == 2
    (home / "bad.jsonl").write_text("hm")
    done = firmplan("traffic", "--replay", "bad.jsonl", "runs")
    assert (done.code, "recording" in done.err) == (2, True)


def test_a_recording_that_is_not_there_is_named(firmplan):
    """Not as an error of Python's."""
    answer = firmplan("traffic", "--replay", "nope.jsonl", "run", "x")
    assert (answer.code, answer.out) == (2, "")
    assert "found no file at nope.jsonl: check the path" in answer.err
