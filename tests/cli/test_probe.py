"""`doctor --probe` finds out how an endpoint can be asked; without it nobody is."""

from __future__ import annotations

from firmplan.testing import HttpError, ScriptedModel, Text

GOOD = {"word": "seven", "numbers": [7, 8]}


def plan(*steps):
    return {
        "firmplan": 1,
        "steps": [{"id": f"s{index}", **step} for index, step in enumerate(steps)],
        "output": "${s0}",
    }


PRODUCT = {"tool": "calculate", "args": {"expression": "17 * 23"}}
PLANS = [plan(PRODUCT), plan(*({"tool": "population", "args": {"city": city}} for city in ("Rome", "Oslo")))]


def test_a_probe_names_the_mode_to_use(firmplan):
    """A server that takes schemas only is told as one, and the profile that suits the model."""
    with ScriptedModel([HttpError(400, "no tools"), GOOD, GOOD, GOOD, *PLANS]) as model:
        words = ("doctor", "--model", "m", "--base-url", model.base_url, "--json")
        findings = firmplan(*words, "--probe").document["findings"]
        found = {each["what"]: each for each in findings}
        assert len(model.requests) == 6
        assert firmplan(*words).code == 0
        assert len(model.requests) == 6
    assert (found["mode tools"]["ok"], found["mode json_schema"]["ok"]) == (None, True)
    assert "json_schema" in found["modes"]["found"]
    assert found["profile"]["found"].startswith("full suits this model")
    assert all("response_format" in each for each in model.requests[4:])


def test_a_model_that_plans_badly_is_a_small_one(firmplan):
    """One whose plan has a fault, and one that searches without need."""
    needless = plan({"tool": "search", "args": {"query": "17"}}, PRODUCT)
    faulty = plan({"tool": "calc", "args": {"expression": "17 * 23"}})
    for bad, why in ((needless, "calls calculate, search"), (faulty, "has faults"), ("prose", "no JSON")):
        with ScriptedModel([GOOD, GOOD, GOOD, GOOD, bad if isinstance(bad, dict) else Text(bad)]) as model:
            words = ("doctor", "--model", "m", "--base-url", model.base_url, "--json", "--probe")
            (found,) = [each for each in firmplan(*words).document["findings"] if each["what"] == "profile"]
        assert found["found"].startswith("small suits this model")
        assert why in found["found"]


def test_an_endpoint_that_cannot_be_asked_is_a_fault(firmplan):
    """With what to do."""
    with ScriptedModel([HttpError(401)] * 4) as model:
        done = firmplan("doctor", "--model", "m", "--base-url", model.base_url, "--probe")
    assert done.code == 1
    assert "none works" in done.out
