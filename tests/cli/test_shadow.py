"""`firmplan shadow`: another model on a recorded run."""

from __future__ import annotations

import json

import pytest
from firmplan.testing import ScriptedModel


@pytest.fixture
def models():
    with (
        ScriptedModel(lambda request: f"from {request['model']}") as old,
        ScriptedModel(lambda request: f"from {request['model']}") as new,
    ):
        yield old, new


@pytest.fixture
def run_id(firmplan, plan_file, models, monkeypatch):
    monkeypatch.setenv("FIRMPLAN_MODEL", "old")
    monkeypatch.setenv("FIRMPLAN_BASE_URL", models[0].base_url)
    path = plan_file(inputs={}, steps=[{"id": "a", "ask": {"prompt": "Who?"}}], output="${a}")
    return firmplan("run", path, "--json").document["id"]


def test_shadow_in_words_and_as_json(firmplan, run_id, models):
    """A name is asked at the usual endpoint, or at the one given; --json has the same; --exit-code makes a change a failure."""
    answer = firmplan("shadow", run_id, "--model", "new")
    assert answer.code == 0
    assert '~ a  output: "from old" -> "from new"' in answer.out
    document = firmplan(
        "shadow", run_id, "--model", "new", "--base-url", models[1].base_url, "--json"
    ).document
    assert (document["model"], document["changed"]) == ("new", True)
    assert document["answers"][0]["value"] == "from new"
    assert len(models[1].requests) == 1
    assert firmplan("shadow", run_id, "--model", "new", "--exit-code").code == 1
    assert firmplan("shadow", run_id, "--exit-code").code == 0


def test_shadow_with_an_edited_plan(firmplan, run_id, plan_file, models):
    """`--plan` asks as the edited plan asks."""
    path = plan_file(
        "edited.json", inputs={}, steps=[{"id": "a", "ask": {"prompt": "Where?"}}], output="${a}"
    )
    answer = firmplan("shadow", run_id, "--plan", path)
    assert answer.code == 0
    assert "Where?" in json.dumps(models[0].requests[-1])
    assert "its input would be another" in answer.out


def test_what_cannot_be_shadowed_is_a_wrong_command(firmplan):
    """Exit code 2: no such run, nothing to ask."""
    assert firmplan("shadow", "nowhere", "--model", "m").code == 2
    run = firmplan("run", "plan.json", "-t", "tools.py", "-i", "a=1", "--json").document
    answer = firmplan("shadow", run["id"])
    assert answer.code == 2
    assert "asked no model" in answer.err
