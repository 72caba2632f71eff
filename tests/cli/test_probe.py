"""`doctor --probe` finds out how an endpoint can be asked; without it nobody is."""

from __future__ import annotations

from firmplan.testing import HttpError, ScriptedModel

GOOD = {"word": "seven", "numbers": [7, 8]}


def test_a_probe_names_the_mode_to_use(firmplan):
    """A server that takes schemas only is told as one."""
    with ScriptedModel([HttpError(400, "no tools"), GOOD, GOOD, GOOD]) as model:
        words = ("doctor", "--model", "m", "--base-url", model.base_url, "--json")
        findings = firmplan(*words, "--probe").document["findings"]
        found = {each["what"]: each for each in findings}
        assert len(model.requests) == 4
        assert firmplan(*words).code == 0
        assert len(model.requests) == 4
    assert (found["mode tools"]["ok"], found["mode json_schema"]["ok"]) == (None, True)
    assert "json_schema" in found["modes"]["found"]


def test_an_endpoint_that_cannot_be_asked_is_a_fault(firmplan):
    """With what to do."""
    with ScriptedModel([HttpError(401)] * 4) as model:
        done = firmplan("doctor", "--model", "m", "--base-url", model.base_url, "--probe")
    assert done.code == 1
    assert "none works" in done.out
