"""`doctor --probe` finds out what an endpoint can do, and what to write in the settings; without it nobody is asked."""

from __future__ import annotations

import tomllib

from firmplan.testing import Body, HttpError, ScriptedModel, ToolCalls

GOOD = {"word": "seven", "numbers": [7, 8]}
LISTED = {"object": "list", "data": [{"id": "m", "object": "model", "max_model_len": 4096}]}


def plan(*steps):
    listed = [{"id": f"s{index}", **step} for index, step in enumerate(steps)]
    return {"firmplan": 1, "steps": listed, "output": "${s0}"}


PRODUCT = {"tool": "calculate", "args": {"expression": "17 * 23"}}
CITIES = [{"tool": "population", "args": {"city": city}} for city in ("Rome", "Oslo")]
PLANS = (plan(PRODUCT), plan(*CITIES))


def able(request):
    """Answer as an endpoint that can do everything."""
    if request["messages"][0]["content"].startswith("You turn a task into a plan"):
        return PLANS["17" not in request["messages"][-1]["content"]]
    tools = [each["function"]["name"] for each in request.get("tools", ())]
    if "temperature" in tools:
        if request["messages"][-1]["role"] == "tool":
            return {"answer": {"temperature": 7, "wind": 12}}
        return ToolCalls([("temperature", {"city": "Oslo"}), ("wind", {"city": "Oslo"})])
    return (
        GOOD if "seven" in str(request["messages"][-1]) and "numbers" in str(request) else "seven eight nine"
    )


def probed(firmplan, script, *, models=LISTED, words=()):
    """Return the findings by name, the document, the exit code and the requests."""
    with ScriptedModel(script, models=models) as model:
        words = ("doctor", "--model", "m", "--base-url", model.base_url, *words)
        done = firmplan(*words, "--probe", "--json")
        return {each["what"]: each for each in done.document["findings"]}, done, model.requests


def test_an_endpoint_that_can_do_everything(firmplan):
    """Each thing is one line, and the settings are an entry of the file."""
    found, done, requests = probed(firmplan, able)
    assert done.code == 0
    assert len(requests) == 10
    assert found["profile"]["found"] == "full suits it: it plans two tiny tasks well"
    good = [
        "reachable",
        "key",
        "model listed",
        "modes",
        "text",
        "tool calls",
        "parallel tool calls",
        "tool results",
    ]
    good += ["streaming", "usage", "finish_reason"]
    assert {name: found[name]["ok"] for name in good} == dict.fromkeys(good, True)
    assert "4096" in found["context length"]["found"]
    settings = done.document["settings"]
    assert (settings["name"], settings["mode"], settings["tool_calls"]) == ("m", "tools", True)


def test_the_settings_can_be_written_to_the_file(firmplan, home):
    """As they are printed; a command then uses them."""
    with ScriptedModel(able, models=LISTED) as model:
        done = firmplan("doctor", "--model", "m", "--base-url", model.base_url, "--probe")
        text = done.err[done.err.index("[models]") :]
        table = tomllib.loads(text)["models"]["probed"]
        assert table == {"name": "m", "base_url": model.base_url, "mode": "tools", "tool_calls": True}
        (home / "firmplan.toml").write_text(f'model = "probed"\n{text}')
        again = {each["what"]: each for each in firmplan("doctor", "--json").document["findings"]}
        assert again["model probed"]["ok"] is True


def test_a_probe_names_the_mode_to_use(firmplan):
    """A server that takes schemas only is told as one, and offers no tools."""

    def schemas_only(request):
        if "tools" in request:
            return HttpError(400, "this model does not support tools")
        form = request.get("response_format", {}).get("type")
        return GOOD if form == "json_schema" else "seven"

    found, done, _ = probed(firmplan, schemas_only)
    assert done.code == 0
    assert (found["mode tools"]["ok"], found["mode json_schema"]["ok"]) == (None, True)
    assert "json_schema" in found["modes"]["found"]
    assert found["tool calls"]["ok"] is None
    assert "does not support tools" in found["tool calls"]["found"]
    assert done.document["settings"]["mode"] == "json_schema"
    assert "tool_calls" not in done.document["settings"]


def test_without_the_option_nobody_is_asked(firmplan):
    with ScriptedModel([]) as model:
        done = firmplan("doctor", "--model", "m", "--base-url", model.base_url, "--json")
    assert (done.code, model.requests) == (0, [])
    assert "settings" not in done.document


def test_an_endpoint_that_takes_no_key_is_a_fault(firmplan):
    """With what to do; nothing else is asked."""
    found, done, requests = probed(firmplan, able, models=HttpError(401))
    assert (done.code, requests) == (1, [])
    assert (found["reachable"]["ok"], found["key"]["ok"]) == (True, False)
    assert "OPENAI_API_KEY" in found["key"]["advice"]


def test_an_endpoint_that_nobody_reaches_is_a_fault(firmplan):
    done = firmplan("doctor", "--model", "m", "--base-url", "http://127.0.0.1:9/v1", "--probe", "--json")
    found = {each["what"]: each for each in done.document["findings"]}
    assert (done.code, found["reachable"]["ok"]) == (1, False)
    assert done.document["settings"] == {}


def test_an_endpoint_that_cannot_be_asked_is_a_fault(firmplan):
    """With what to do."""
    with ScriptedModel([HttpError(401)] * 8) as model:
        done = firmplan("doctor", "--model", "m", "--base-url", model.base_url, "--probe")
    assert done.code == 1
    assert "none works" in done.out


def test_a_model_that_is_not_listed_is_told_with_the_nearest(firmplan):
    """Some servers take any name, so it is no fault; and one without a list is asked all the same."""
    listed = {"object": "list", "data": [{"id": "mm"}, {"id": "other"}]}
    found, done, _ = probed(firmplan, able, models=listed)
    assert (done.code, found["model listed"]["ok"]) == (0, None)
    assert "'mm'" in found["model listed"]["advice"]
    found, done, _ = probed(firmplan, able, models=HttpError(404))
    assert (done.code, found["model listed"]["ok"]) == (0, None)


def test_nonsense_is_told_as_such(firmplan):
    """Lists and completions of any shape end in findings, not in a crash."""
    for models in ({"data": 3}, {"data": [3, None, {"id": None}]}, {"object": "list"}):
        _, done, _ = probed(firmplan, able, models=models)
        assert done.code == 0
    for body in ("[]", "null", "{}", '{"choices": 3}', '{"choices": [{"message": 3}]}', "<html>", '"x"'):
        found, done, _ = probed(firmplan, lambda _, body=body: Body(body))
        assert done.code == 1
        assert found["modes"]["ok"] is False


def test_a_model_that_plans_badly_is_a_small_one(firmplan):
    """One that searches without need, whose plan has a fault, or that answers with prose."""
    needless = plan(PRODUCT, {"tool": "search", "args": {"query": "17"}})
    faulty = plan({"tool": "calc", "args": {"expression": "17 * 23"}})
    for bad, why in ((needless, "calls calculate, search"), (faulty, "has faults"), ("prose", "no JSON")):

        def answer(request, bad=bad):
            is_plan = request["messages"][0]["content"].startswith("You turn a task into a plan")
            return bad if is_plan else able(request)

        found, done, requests = probed(firmplan, answer)
        assert done.code == 0
        assert found["profile"]["found"].startswith("small suits it: ")
        assert why in found["profile"]["found"]
        assert len(requests) == 9
