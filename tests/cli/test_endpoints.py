"""`[models]` in `firmplan.toml` names endpoints with their own settings; `model`, `--model` and `small_model` may name one."""

from __future__ import annotations

import json

import pytest
from firmplan import Plan
from firmplan.testing import HttpError, ScriptedModel

DRAFT = {"firmplan": 1, "steps": [{"id": "n", "tool": "add", "args": {"a": 1, "b": 2}}], "output": "${n}"}
ASK = {"firmplan": 1, "steps": [{"id": "a", "ask": {"prompt": "Say hi"}}], "output": "${a}"}
DOWN = [HttpError(503, headers={"retry-after-ms": "1"})] * 9


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Write `firmplan.toml`; nothing of the environment names a model."""
    for name in ("OPENAI_API_KEY", "FIRMPLAN_MODEL", "FIRMPLAN_BASE_URL"):
        monkeypatch.delenv(name, raising=False)

    def write(text):
        (tmp_path / "firmplan.toml").write_text(text)

    return write


def test_the_model_of_a_planner_may_be_an_alias_with_all_its_settings(firmplan, settings, monkeypatch):
    """Name, address, key, retries and fallback are those of the file, for the planner and for steps."""
    monkeypatch.setenv("LAB_KEY", "lab")
    with ScriptedModel(DOWN) as broken, ScriptedModel(lambda _: DRAFT) as good:
        settings(f"""
            tools = ["tools.py"]
            model = "lab"
            [models]
            lab = [
              {{name = "big", base_url = "{broken.base_url}", api_key = {{env = "LAB_KEY"}}, retries = 0}},
              {{name = "spare", base_url = "{good.base_url}", timeout = "2m"}},
            ]
        """)
        done = firmplan("run", "Add one and two", "--json")
        assert (done.code, done.document["output"]) == (0, 3)
        assert [each["model"] for each in broken.requests] == ["big"]
        assert broken.headers[0]["authorization"] == "Bearer lab"
        assert {each["model"] for each in good.requests} == {"spare"}


def test_a_step_is_asked_where_the_alias_says(firmplan, settings, tmp_path):
    """`default` is the alias that `--model` names."""
    Plan.model_validate(ASK).save(tmp_path / "ask.json")
    with ScriptedModel(lambda _: "hi") as model:
        settings(f'[models]\nlab = {{name = "big", base_url = "{model.base_url}"}}\n')
        done = firmplan("run", "ask.json", "--model", "lab", "--json")
        assert (done.code, done.document["output"]) == (0, "hi")
        assert [each["model"] for each in model.requests] == ["big"]


def test_a_key_that_is_missing_is_told_with_its_variable(firmplan, settings):
    """And `doctor` shows each endpoint of the file."""
    settings("""
        model = "far"
        [models]
        far = {name = "m", base_url = "https://models.example.org/v1", api_key = {env = "FAR_KEY"}}
        near = {name = "n", base_url = "http://127.0.0.1:9/v1"}
    """)
    done = firmplan("run", "Add one and two", "--tools", "tools.py")
    assert "FAR_KEY" in done.err
    found = {each["what"]: each for each in firmplan("doctor", "--json").document["findings"]}
    assert (found["model far"]["ok"], found["model near"]["ok"]) == (False, True)
    assert "FAR_KEY" in found["model far"]["advice"]
    assert "n at http://127.0.0.1:9/v1" in found["model near"]["found"]


def test_an_entry_that_is_no_model_is_told_with_its_place(firmplan, settings):
    settings('model = "lab"\n[models]\nlab = {nam = "x"}\n')
    done = firmplan("run", "Add one and two", "--tools", "tools.py")
    assert done.code == 2
    assert "models.lab" in done.err
    assert "firmplan.toml" in done.err


def test_prices_may_stand_beside_the_file(firmplan, settings, tmp_path):
    """With them a budget in dollars is taken; without them it is refused."""
    Plan.model_validate(ASK).save(tmp_path / "ask.json")
    (tmp_path / "prices.json").write_text(
        json.dumps({"prices": 1, "models": [{"model": "m", "input": 1, "output": 1}]})
    )
    with ScriptedModel(lambda _: "hi") as model:
        endpoint = f'model = "m"\nbase_url = "{model.base_url}"\n'
        settings(endpoint)
        refused = firmplan("run", "ask.json", "--budget", "usd=1")
        assert (refused.code, len(model.requests)) == (2, 0)
        assert "FIRMPLAN_PRICES" in refused.err
        settings(endpoint + 'prices = "prices.json"\n')
        done = firmplan("run", "ask.json", "--budget", "usd=1", "--json")
        assert done.code == 0
        assert done.document["usage"]["usd"] > 0


def test_cached_tokens_are_shown(firmplan, settings, tmp_path):
    """Beside the tokens, on the line of the outcome and in the document."""
    Plan.model_validate(ASK).save(tmp_path / "ask.json")
    counts = {"prompt_tokens": 90, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 64}}
    message = {"role": "assistant", "content": "hi"}
    reply = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": counts}
    with ScriptedModel(lambda _: reply) as model:
        settings(f'model = "m"\nbase_url = "{model.base_url}"\n')
        done = firmplan("run", "ask.json", "--store", "a.db")
        assert "100 tokens (64 cached)" in done.err + done.out
        document = firmplan("run", "ask.json", "--store", "b.db", "--json").document
        assert (document["usage"]["tokens"], document["usage"]["cached_tokens"]) == (100, 64)
        assert document["usage"]["usd"] is None
