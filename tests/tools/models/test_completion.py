"""A conversation with a model ends in one valid answer or one failure that says what to do; real clients, real HTTP."""

from __future__ import annotations

import asyncio

import pytest
from firmplan.errors import ConfigError
from firmplan.testing import (
    Body,
    Cut,
    Empty,
    HttpError,
    Refusal,
    ScriptedModel,
    Slow,
    Text,
    ToolCall,
    Truncated,
)
from firmplan.tools import Model, ModelError, Models, ask_request
from firmplan.tools.models.probing import probe

AT_ONCE = {"retry-after-ms": "1"}
RETURNS = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def ask(script, *, times=1, mode=None, returns=RETURNS, timeout_s=5, **options):
    """Return (the answers or the one error, the requests) of asking a scripted endpoint."""

    async def main():
        async with ScriptedModel(script) as model:
            models = Models({"default": Model("m", model.base_url, "secret-key", mode)})
            try:
                request = ask_request("How many?", returns=returns, **options)
                found = [await models.ask(request, timeout_s=timeout_s) for _ in range(times)]
            except ModelError as error:
                return error, model.requests
            return [reply.value for reply in found], model.requests

    return asyncio.run(main())


def form(request):
    """Return how a request asks for structure."""
    response_format = request.get("response_format") or {}
    return "tools" if "tools" in request else response_format.get("type", "text")


def forms(requests):
    return [form(request) for request in requests]


@pytest.mark.parametrize("mode", ["tools", "json_schema", "json", "md_json"])
def test_every_mode_brings_the_same_value(mode):
    """Structure is asked for in four ways, and read alike; an integral float is the integer that the schema wants."""
    wire = {"tools": "tools", "json_schema": "json_schema", "json": "json_object", "md_json": "text"}
    values, requests = ask([{"n": 3.0}], mode=mode)
    assert (values, forms(requests)) == ([{"n": 3}], [wire[mode]])


def test_without_a_mode_the_first_that_works_is_found_once():
    """An endpoint that refuses a form is asked in the next; the second question goes straight to what worked."""

    def endpoint(request):
        works = form(request) == "json_object"
        return {"n": 1} if works else HttpError(400, f"{form(request)} is not supported")

    values, requests = ask(endpoint, times=2)
    assert values == [{"n": 1}, {"n": 1}]
    assert forms(requests) == ["tools", "json_schema", "json_object", "json_object"]


def test_an_endpoint_that_only_talks_is_read_all_the_same():
    """JSON in prose is an answer in any mode; where there is no JSON at all, the next question takes another form."""
    assert ask([Text('Sure!\n```json\n{"n": 2}\n```\nAnything else?')])[0] == [{"n": 2}]
    values, requests = ask([Text("Two, I think."), Text('{"n": 2}')])
    assert (values, forms(requests)) == ([{"n": 2}], ["tools", "json_schema"])


def test_a_refused_request_is_no_refused_form_for_ever():
    """Where no form is taken it was not the form; and once a form has worked, a 400 is about the question."""
    error, requests = ask([HttpError(400, "bad temperature")] * 4)
    assert (error.code, forms(requests)) == (
        "model-rejected",
        ["tools", "json_schema", "json_object", "text"],
    )
    error, requests = ask([{"n": 1}, HttpError(400, "too long")], times=2)
    assert (error.code, forms(requests)) == ("model-rejected", ["tools", "tools"])


def test_text_and_bare_values_need_no_object():
    """Text is asked for as text; other values travel in a wrapper, or bare."""
    values, requests = ask([Text("  42 of them ")], returns=None)
    assert (values, forms(requests)) == (["42 of them"], ["text"])
    assert ask([[1, 2]], returns={"type": "array", "items": {"type": "integer"}})[0] == [[1, 2]]
    assert ask([Text("7")], returns={"type": "integer"})[0] == [7]


def test_an_unfit_answer_is_asked_for_again_with_its_fault():
    """The model is shown its answer and what is wrong with it, `retries` times."""
    values, requests = ask([{"m": 1}, Empty(), {"n": 1}])
    assert values == [{"n": 1}]
    said = [message["content"] for message in requests[1]["messages"]]
    assert said[-2] == '{"m": 1}'
    assert "expected the field 'n'" in said[-1]
    error, requests = ask([{"m": 1}] * 9)
    assert (error.code, len(requests)) == ("bad-output", 3)


def test_guards_are_conditions_like_the_schema():
    """An answer that a guard refuses is made again, told why."""
    values, requests = ask([Text("far too long"), Text("short")], returns=None, guard=[{"max_length": 5}])
    assert values == ["short"]
    assert "longer than 5" in requests[1]["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("script", "code", "asked", "words"),
    [
        ([Refusal("I won't.")], "refused", 1, "I won't"),
        ([Truncated({"n": 12345})], "truncated", 1, "cut off"),
        ([HttpError(401)], "model-auth", 1, "set OPENAI_API_KEY"),
        ([HttpError(404)], "model-unknown", 1, "lacks '/v1'"),
        ([HttpError(429, "", AT_ONCE)] * 3, "rate-limited", 3, "too many requests"),
        ([HttpError(429, "insufficient_quota")], "rate-limited", 1, "insufficient_quota"),
        ([HttpError(429, "", {"retry-after": "3600"})], "rate-limited", 1, "429"),
        ([HttpError(503, "", AT_ONCE)] * 3, "model-unavailable", 3, "503"),
        (
            [Body("<html>log in</html>", "text/html")],
            "model-unavailable",
            1,
            "with a web page without a title",
        ),
        ([Body("log in", "text/plain")] * 3, "bad-output", 3, "no chat completion"),
    ],
)
def test_each_failure_has_a_code_and_says_what_to_do(script, code, asked, words):
    """What may pass is tried again at once where the endpoint says so; what may not is not."""
    error, requests = ask(script)
    assert (error.code, len(requests)) == (code, asked)
    assert words in str(error)


def test_what_may_pass_is_tried_again():
    """A limit, a fault of the server and a broken connection are survived."""
    assert ask([HttpError(429, "", AT_ONCE), HttpError(500, "", AT_ONCE), {"n": 1}])[0] == [{"n": 1}]
    assert ask([Cut({"n": 1}), {"n": 1}])[0] == [{"n": 1}]


def test_silence_ends_at_the_timeout():
    """The time given is for the whole conversation, retries included."""
    error, requests = ask([Slow({"n": 1}, 30)] * 3, timeout_s=1)
    assert (error.code, error.temporary, len(requests)) == ("timeout", True, 1)


def test_an_unreachable_endpoint_is_named():
    """Nobody there: the message has the address and where to set it."""

    async def main():
        models = Models({"default": Model("m", "http://127.0.0.1:9/v1")})
        await models.ask(ask_request("x"), timeout_s=0.4)

    with pytest.raises(ModelError, match=r"127\.0\.0\.1:9/v1.*FIRMPLAN_BASE_URL") as caught:
        asyncio.run(main())
    assert caught.value.code == "model-unreachable"


def test_keys_are_never_quoted():
    """What an endpoint says is told without the key, even if it repeats it."""
    error, _ = ask([HttpError(401, "bad key secret-key")])
    assert "***" in str(error)
    assert "secret-key" not in str(error) + repr(Model("m", "http://x/v1", "secret-key"))


def test_the_next_model_is_asked_where_one_cannot_answer():
    """Fallbacks are for endpoints that cannot answer, not for answers that do not please."""

    async def main():
        async with ScriptedModel([HttpError(401), {"m": 1}]) as first, ScriptedModel([{"n": 5}]) as second:
            models = Models({"default": [Model("a", first.base_url), Model("b", second.base_url)]})
            reply = await models.ask(ask_request("x", returns=RETURNS))
            assert (reply.value, reply.model) == ({"n": 5}, "b")

    asyncio.run(main())


def test_a_wrong_tool_call_is_read_for_what_it_says():
    """Models misname the one tool there is; its arguments are the answer all the same."""
    assert ask([ToolCall("something", {"n": 4})])[0] == [{"n": 4}]


def test_settings_come_from_the_environment_when_used(monkeypatch):
    """What is missing is named with the variable to set; a local endpoint needs no key."""
    for name in ("FIRMPLAN_MODEL", "FIRMPLAN_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    models = Models()
    with pytest.raises(ConfigError, match="FIRMPLAN_MODEL"):
        models.resolve()
    monkeypatch.setenv("FIRMPLAN_MODEL", "m")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        models.resolve()
    monkeypatch.setenv("FIRMPLAN_BASE_URL", "http://localhost:8080/v1/")
    assert models.resolve()[0].base_url == "http://localhost:8080/v1"
    with pytest.raises(ModelError, match="no model is called 'smal'") as caught:
        asyncio.run(Models({"small": "m"}).ask(ask_request("x", model="smal")))
    assert caught.value.code == "no-model"


def test_a_key_holds_what_decides_an_answer_and_no_alias():
    """Resolved model and address, messages, schema, parameters, guards: data as it is, code by its digest."""

    def is_short(value):
        return len(value) < 5

    models = Models({"a": Model("m", "http://localhost/v1"), "b": Model("m", "http://localhost/v1")})
    parts = [models.key_parts(ask_request("x", model=alias, guard=[is_short])) for alias in "ab"]
    assert parts[0] == parts[1]
    assert parts[0]["models"] == ["m at http://localhost/v1"]
    other = models.key_parts(ask_request("x", model="a", guard=[lambda value: len(value) < 6]))
    assert parts[0]["guard"] != other["guard"]


@pytest.mark.parametrize("mode", ["tool", 3])
def test_an_unknown_mode_is_refused(mode):
    """The modes are named, with the nearest."""
    with pytest.raises(ConfigError, match=r"mode: expected one of tools, json_schema, json, md_json, found"):
        Model("m", mode=mode)


# --- what an endpoint can do

GOOD = {"word": "seven", "numbers": [7, 8]}


def probed(script):
    async def main():
        async with ScriptedModel(script) as model:
            return await probe(Model("m", model.base_url).resolve()), model.requests

    return asyncio.run(main())


def test_every_mode_is_asked_once():
    """In order; each with its own form."""
    found, requests = probed(lambda _: GOOD)
    assert [(each.mode, each.works) for each in found] == [
        ("TOOLS", True), ("JSON_SCHEMA", True), ("JSON", True), ("MD_JSON", True)
    ]  # fmt: skip
    assert ["tools" in request for request in requests] == [True, False, False, False]


def test_what_does_not_work_says_why():
    """A server that only takes schemas, one that talks, one that declines."""
    script = [HttpError(400, "tools need --jinja"), GOOD, Text("Seven!"), Refusal("No.")]
    found, requests = probed(script)
    assert [each.works for each in found] == [False, True, False, False]
    assert "--jinja" in found[0].found
    assert "no JSON" in found[2].found
    assert "declines" in found[3].found
    assert len(requests) == 4
