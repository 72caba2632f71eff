"""Bad input by the command line: one message, the documented exit code, no traceback, and the store stays usable."""

from __future__ import annotations

import json

import pytest
from firmplan.testing import ScriptedModel


def expect(answer, code, *words):
    assert answer.code == code, answer
    for word in words:
        assert word in answer.err + answer.out
    assert "Traceback" not in answer.err
    assert "bug in firmplan" not in answer.err


def still_usable(firmplan):
    assert firmplan("run", "plan.json", "-t", "tools.py", "-i", "a=40").out == "42\n"


FAULTY = {
    "unknown tool": (
        {"steps": [{"id": "x", "tool": "ad", "args": {}}]},
        ("unknown-tool", "did you mean 'add'"),
    ),
    "misspelt field": (
        {"steps": [{"id": "x", "tool": "add", "args": {"a": 1, "b": 2}}, {"id": "y", "set": "${x.q}"}]},
        ("unknown-field", "$.steps[1].set"),
    ),
    "wrong type": (
        {"steps": [{"id": "x", "tool": "add", "args": {"a": "one", "b": 2}}]},
        ("bad-literal", ".args.a"),
    ),
    "missing argument": ({"steps": [{"id": "x", "tool": "add", "args": {"a": 1}}]}, ("missing-arg", "'b'")),
    "extra argument": (
        {"steps": [{"id": "x", "tool": "add", "args": {"a": 1, "b": 2, "c": 3}}]},
        ("unknown-arg", ".args.c"),
    ),
    "cycle": (
        {"steps": [{"id": "x", "set": "${y}"}, {"id": "y", "set": "${x}"}]},
        ("cycle", "x -> y -> x"),
    ),
    "duplicate id": ({"steps": [{"id": "x", "set": 1}, {"id": "x", "set": 2}]}, ("duplicate-id",)),
    "unknown version": ({"firmplan": 7}, ("bad-shape", "$.firmplan", "7")),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_plan_is_refused_before_anything_runs(firmplan, plan_file, name):
    """Every fault of a plan is exit code 2, from `check` and from `run`, with its code and place."""
    changes, words = FAULTY[name]
    path = plan_file(**{"inputs": {}, "output": None, **changes})
    expect(firmplan("check", path, "-t", "tools.py"), 2, *words)
    expect(firmplan("run", path, "-t", "tools.py"), 2, *words)
    assert firmplan("runs", "--json").document["runs"] == []
    still_usable(firmplan)


def test_a_file_that_is_not_json(firmplan, home):
    """The line of the fault is told."""
    (home / "bad.json").write_text('{"firmplan": 1,\n "steps": [}\n')
    expect(firmplan("check", "bad.json"), 2, "bad-shape", "line 2")
    expect(firmplan("run", "bad.json"), 2, "bad-shape", "line 2")


def test_a_file_that_is_not_there(firmplan):
    """What looks like a file is one, not a task in words."""
    expect(firmplan("run", "nope.json", "-t", "tools.py"), 2, "nope.json")
    expect(firmplan("check", "nope.yaml"), 2, "nope.yaml")


def test_a_tools_file_that_raises(firmplan, home):
    """The tools file's own error is told, with its line."""
    (home / "broken.py").write_text("import nonexistent_thing\n")
    expect(
        firmplan("run", "plan.json", "-t", "broken.py", "-i", "a=1"),
        2,
        "broken.py",
        "nonexistent_thing",
        "broken.py:1",
    )
    expect(firmplan("run", "plan.json", "-t", "missing.py", "-i", "a=1"), 2, "missing.py")


def test_a_tool_without_annotations(firmplan, home):
    """Types come from annotations: without them there is no tool."""
    (home / "bare.py").write_text("from firmplan import tool\n\n@tool\ndef f(x):\n    return x\n")
    expect(firmplan("tools", "-t", "bare.py"), 2, "f", "annotation", "x")


def test_no_model_is_configured(firmplan):
    """Without a model and a fitting saved plan, the message says how to configure one, and names the nearest tasks."""
    firmplan("plans", "save", "adder", "plan.json", "-t", "tools.py")
    for answer in (
        firmplan("plan", "Adding of things", "-t", "tools.py"),
        firmplan("run", "Adding of things", "-t", "tools.py"),
    ):
        assert answer.code in (1, 2)
        expect(answer, answer.code, "FIRMPLAN_MODEL", "OPENAI_API_KEY", "Add {a} and {b}")
    still_usable(firmplan)


def test_an_endpoint_that_cannot_be_reached(firmplan, monkeypatch):
    """The address is named."""
    monkeypatch.setattr("firmplan.tools.models.clients.PAUSE_FIRST_S", 0.001, raising=False)
    flags = ("--model", "m", "--base-url", "http://127.0.0.1:9/v1")
    answer = firmplan("plan", "Do something", "-t", "tools.py", *flags)
    expect(answer, 1, "127.0.0.1:9")
    still_usable(firmplan)


def test_a_wrong_key(firmplan, monkeypatch):
    """A refused key is told as such, and not tried again."""
    monkeypatch.setenv("OPENAI_API_KEY", "wrong")
    from firmplan.testing.replies import HttpError

    with ScriptedModel([HttpError(401)] * 5) as model:
        answer = firmplan(
            "plan", "Do something", "-t", "tools.py", "--model", "m", "--base-url", model.base_url
        )
        expect(answer, 1, "401", "key")
        assert len(model.requests) == 1


def test_endless_bad_drafts(firmplan):
    """Repairs are bounded; the last draft's faults are told."""
    draft = {"firmplan": 1, "steps": [{"id": "x", "tool": "ad", "args": {}}]}
    with ScriptedModel([draft] * 20) as model:
        flags = ("--model", "m", "--base-url", model.base_url)
        answer = firmplan("plan", "Do something", "-t", "tools.py", *flags)
        expect(answer, 1, "unknown-tool")
        assert len(model.requests) <= 12
        run = firmplan("run", "Do something", "-t", "tools.py", *flags, "--json")
        assert run.code == 1
        assert run.document["errors"][0]["code"] == "planning-failed"
    still_usable(firmplan)


@pytest.mark.parametrize(
    ("tool", "words"),
    [("half", ("1 is odd",)), ("lie", ("integer",)), ("dust", ("nan",)), ("thing", ("JSON",))],
    ids=["raises", "forbidden type", "NaN", "a set"],
)
def test_tools_that_misbehave(firmplan, plan_file, tool, words):
    """A tool that raises, or returns what its annotation or JSON forbids, fails its step and nothing else."""
    path = plan_file(
        inputs={}, output=None, steps=[{"id": "x", "tool": tool, "args": {"n": 1}}, {"id": "y", "set": 1}]
    )
    answer = firmplan("run", path, "-t", "tools.py")
    expect(answer, 1, "x", *words)
    still_usable(firmplan)


def test_a_store_that_cannot_be_written(firmplan, home):
    """The store is named, with what to do."""
    (home / "folder").mkdir()
    (home / "text.db").write_text(
        "this is no database, and long enough to be told apart from an empty file" * 20
    )
    for store in ("folder", "nowhere/run.db", "text.db", "ftp://host/db"):
        answer = firmplan("run", "plan.json", "-t", "tools.py", "-i", "a=1", "--store", store)
        expect(answer, 2, store.rpartition("/")[2] if store != "ftp://host/db" else "ftp")


def test_a_run_that_does_not_exist(firmplan):
    """Every command that names a run says so."""
    for words in (("replay", "nope"), ("resume", "nope"), ("approve", "nope", "x"), ("cancel", "nope")):
        expect(firmplan(*words), 2, "nope")


def test_inputs_that_do_not_fit(firmplan):
    """Unknown, missing, ill-typed and ill-spelt inputs are told with the input's name."""
    expect(firmplan("run", "plan.json", "-t", "tools.py", "-i", "a=one"), 2, "a", "integer", "one")
    expect(firmplan("run", "plan.json", "-t", "tools.py", "-i", "c=1"), 2, "c")
    expect(firmplan("run", "plan.json", "-t", "tools.py"), 2, "a")
    expect(firmplan("run", "plan.json", "-t", "tools.py", "-i", "a"), 2, "NAME=VALUE")


def test_errors_are_documents_too(firmplan):
    """With `--json` an error is one document on stdout."""
    answer = firmplan("replay", "nope", "--json")
    assert answer.code == 2
    assert json.loads(answer.out)["error"]["code"] == "run-not-found"


def test_a_misspelt_command(firmplan):
    """A misspelt command or option is exit code 2."""
    expect(firmplan("rum"), 2, "rum")
    expect(firmplan("run", "plan.json", "--tols", "x"), 2, "--tols")
