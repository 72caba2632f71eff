"""The scripted model is an honest HTTP endpoint: what a real client sees of it, in every form."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import httpx2
import openai
import pytest
from firmplan.testing.replies import (
    Body,
    Cut,
    Empty,
    Faulted,
    HttpError,
    Paced,
    Refusal,
    Slow,
    Text,
    ToolCall,
    Truncated,
    exchanges_of,
    read_recording,
)
from firmplan.testing.scripted_model import ScriptedModel
from firmplan.tools.models.marks import Data, mark
from firmplan.tools.models.recorder import request_digest

TOOL = {"type": "function", "function": {"name": "plan", "parameters": {"type": "object", "properties": {}}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "plan", "schema": {"type": "object"}}}
WRAPPER = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}


def ask(script, **options):
    """Send one request through the real client and return the completion."""
    with ScriptedModel(script) as model:
        return complete(model, **options)


def complete(model, text="hello", **options):
    with openai.OpenAI(base_url=model.base_url, api_key="k", max_retries=0) as client:
        messages = [{"role": "user", "content": text}]
        answer = client.chat.completions.create(model="m", messages=messages, **options)
        return list(answer) if options.get("stream") else answer


def test_text_is_the_content():
    """A string is the text of the answer."""
    answer = ask(["hi"])
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("hi", "stop")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_value_takes_the_form_that_is_asked_for():
    """The same value is a tool call, JSON content, or JSON in markdown, as the request says."""
    value = {"steps": []}
    call = ask([value], tools=[TOOL]).choices[0]
    assert call.finish_reason == "tool_calls"
    assert call.message.tool_calls[0].function.name == "plan"
    assert json.loads(call.message.tool_calls[0].function.arguments) == value
    assert json.loads(ask([value], response_format=FORMAT).choices[0].message.content) == value
    assert (
        json.loads(ask([value], response_format={"type": "json_object"}).choices[0].message.content) == value
    )
    with ScriptedModel([value]) as model:
        assert (
            complete(model, "use a ```json codeblock").choices[0].message.content
            == '```json\n{"steps": []}\n```'
        )


def test_values_that_are_no_objects_are_wrapped():
    """Where the schema is a wrapper, the value goes inside it, once."""
    tool = {"type": "function", "function": {"name": "answer", "parameters": WRAPPER}}
    for reply in (3, {"answer": 3}):
        assert json.loads(ask([reply], tools=[tool]).choices[0].message.tool_calls[0].function.arguments) == {
            "answer": 3
        }


def test_every_misbehaviour_is_served():
    """Refusals, truncation, empty messages, wrong tool calls and odd bodies arrive as endpoints send them."""
    assert ask([Refusal("no")]).choices[0].message.refusal == "no"
    cut = ask([Truncated({"steps": [1, 2, 3]})], tools=[TOOL]).choices[0]
    assert (cut.finish_reason, cut.message.tool_calls[0].function.arguments) == ("length", '{"steps": ')
    empty = ask([Empty()]).choices[0].message
    assert (empty.content, empty.tool_calls) == (None, None)
    assert (
        ask([ToolCall("other", [1])], tools=[TOOL]).choices[0].message.tool_calls[0].function.name == "other"
    )
    assert ask([Text("Sure! {}")], tools=[TOOL]).choices[0].message.content == "Sure! {}"
    assert ask([Body("<html>", "text/html")]) == "<html>"


def test_http_errors_carry_status_headers_and_message():
    """Statuses are the client's own exceptions."""
    with pytest.raises(openai.RateLimitError, match="slow down") as caught:
        ask([HttpError(429, "slow down", {"retry-after": "7"})])
    assert caught.value.response.headers["retry-after"] == "7"
    with pytest.raises(openai.AuthenticationError):
        ask([HttpError(401)])
    with pytest.raises(openai.InternalServerError, match="raised ValueError: boom"):
        ask(lambda _: (_ for _ in ()).throw(ValueError("boom")))


@pytest.mark.parametrize("options", [{}, {"stream": True}])
def test_a_cut_connection_breaks_in_the_body(options):
    """The client sees a broken connection, not a short answer."""
    with pytest.raises((openai.APIConnectionError, httpx2.RemoteProtocolError)):
        ask([Cut("a long answer " * 20)], **options)


def test_a_slow_answer_runs_into_the_clients_timeout():
    """Silence is silence: the client's timeout ends it, and leaving the model does not wait for it."""
    with pytest.raises(openai.APITimeoutError):
        ask([Slow("late", 30)], timeout=0.1)


@pytest.mark.parametrize("options", [{}, {"tools": [TOOL]}, {"response_format": FORMAT}])
def test_a_stream_spells_the_plain_answer(options):
    """The pieces of a streamed answer, joined, are the plain answer; usage comes last when asked for."""
    value = {"steps": [{"id": "a", "set": "x" * 50}]}
    plain = ask([value], **options).choices[0]
    chunks = ask([value], stream=True, stream_options={"include_usage": True}, **options)
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    content = "".join(delta.content or "" for delta in deltas)
    arguments = "".join(d.tool_calls[0].function.arguments for d in deltas if d.tool_calls)
    assert content == (plain.message.content or "")
    assert arguments == (plain.message.tool_calls[0].function.arguments if plain.message.tool_calls else "")
    assert chunks[-2].choices[0].finish_reason == plain.finish_reason
    assert chunks[-1].usage.total_tokens > 0


@pytest.mark.parametrize("options", [{}, {"stream": True}])
def test_a_paced_answer_waits_before_each_chunk(options):
    """The pace is told how much has been sent; an answer in one piece waits as long."""
    shares = []

    async def pace(share):
        shares.append(share)

    plain = ask([Paced("a long answer " * 20, pace)], **options)
    assert plain
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert 0.9 < shares[-1] < 1
    assert len(shares) > 15


def test_an_answer_may_end_in_an_error():
    """A stream in its middle, an answer in one piece as a status."""
    with pytest.raises(openai.APIError, match="too much"):
        ask([Faulted("a long answer " * 20, 0.5, "too much")], stream=True)
    with pytest.raises(openai.InternalServerError, match="too much"):
        ask([Faulted("a long answer " * 20, 0.5, "too much")])


def test_requests_are_kept_in_order():
    """Bodies and headers of all requests can be looked at afterwards."""
    with ScriptedModel(["a", "b"]) as model:
        complete(model, "one")
        complete(model, "two")
        assert [request["messages"][0]["content"] for request in model.requests] == ["one", "two"]
        assert model.headers[0]["authorization"] == "Bearer k"


def test_an_exhausted_script_says_so():
    """The request after the last reply gets a 500 with the counts."""
    with ScriptedModel(["only"]) as model:
        complete(model)
        with pytest.raises(
            openai.InternalServerError,
            match=r"exhausted: of its replies \(1\) none is left for request number 2",
        ):
            complete(model)


def test_models_are_listed_and_other_paths_are_not_found():
    """`GET /v1/models` answers; anything else is a 404."""
    with (
        ScriptedModel([]) as model,
        openai.OpenAI(base_url=model.base_url, api_key="k", max_retries=0) as client,
    ):
        assert [listed.id for listed in client.models.list()] == ["scripted"]
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model="m", input="x")


def test_a_recording_answers_by_words_and_fingerprint_before_order(tmp_path):
    """Conditional exchanges find their requests in any order; the rest follow the file."""
    with ScriptedModel(["x"]) as model:
        complete(model, "by digest")
        digest = request_digest(model.requests[0])
    document = {
        "recording": 1,
        "exchanges": [
            {"reply": "next"},
            {"match": ["green", "apple"], "reply": "words", "always": True},
            {"request": digest, "refusal": "digest"},
        ],
    }
    path = tmp_path / "recording.json"
    path.write_text(json.dumps(document))
    with ScriptedModel(path) as model:
        texts = ["a green apple", "by digest", "anything", "green apple"]
        answers = [complete(model, text).choices[0].message for text in texts]
    assert [answer.content or answer.refusal for answer in answers] == ["words", "digest", "next", "words"]


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({"exchanges": []}, "expected a list of replies"),
        ({"recording": 1, "exchanges": [3]}, r"exchanges\[0\]: expected an object"),
        ({"recording": 1, "exchanges": [{"match": "x"}]}, r"exchanges\[0\]: expected one of reply"),
    ],
)
def test_a_faulty_recording_names_its_fault(tmp_path, document, fault):
    """What is wrong with a recording is said before anything is served."""
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=fault):
        read_recording(path)


def test_every_kind_of_recorded_answer_is_read():
    """The file's words stand for the reply classes."""
    entries = [
        {"text": "t"},
        {"truncated": {"a": 1}},
        {"error": {"status": 429, "headers": {"retry-after": 1}}},
        {"empty": True},
        {"reply": 1, "seconds": 2},
    ]
    replies = [exchange.reply for exchange in exchanges_of({"recording": 1, "exchanges": entries})]
    assert replies == [
        Text("t"),
        Truncated({"a": 1}),
        HttpError(429, "", {"retry-after": "1"}),
        Empty(),
        Slow(1, 2.0),
    ]


def test_it_serves_inside_a_running_loop():
    """The asynchronous form needs no thread, and several connections are served at once."""

    async def main():
        async with (
            ScriptedModel([Slow("late", 0.05), "soon"]) as model,
            openai.AsyncOpenAI(base_url=model.base_url, api_key="k", max_retries=0) as client,
        ):
            messages = [{"role": "user", "content": "x"}]
            calls = [client.chat.completions.create(model="m", messages=messages) for _ in range(2)]
            return {answer.choices[0].message.content for answer in await asyncio.gather(*calls)}

    assert asyncio.run(main()) == {"late", "soon"}


def test_a_recording_is_served_to_other_processes(tmp_path):
    """`python -m firmplan.testing.scripted_model FILE` prints where it listens."""
    path = tmp_path / "recording.json"
    path.write_text('["hello from afar"]')
    command = [sys.executable, "-m", "firmplan.testing.scripted_model", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            base_url = process.stdout.readline().strip()
            with openai.OpenAI(base_url=base_url, api_key="k") as client:
                answer = client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": "x"}]
                )
            assert answer.choices[0].message.content == "hello from afar"
        finally:
            process.terminate()


def test_a_match_may_run_from_the_authors_words_into_a_value():
    """The texts of `match` are found with and without the marks that stand around data in a prompt."""
    prompt = mark(["Sum up: ", Data("page", "Tides rise."), " Be brief."])
    for words in ("Sum up: Tides rise. Be brief.", "Tides rise.", "<page-"):
        (exchange,) = exchanges_of({"recording": 1, "exchanges": [{"match": words, "text": "ok"}]})
        assert exchange.fits({"messages": [{"role": "user", "content": prompt}]})
    (exchange,) = exchanges_of({"recording": 1, "exchanges": [{"match": "Sum up: Tides fall", "text": "ok"}]})
    assert not exchange.fits({"messages": [{"role": "user", "content": prompt}]})
