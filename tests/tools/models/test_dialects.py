"""Dialects of llama.cpp's server, vLLM and Ollama, as far as their documents and sources tell: `tests/vectors/dialects`.

A file has the shapes of a server's answers, written by us from the sources that it names: whole answers, chunks of streams, refusals and errors. A real HTTP server
answers in these shapes, and everything that asks a model is driven against each: prompts, agent steps, planners (streamed too) and the probe. All of them
work, or fail with the error that the file names.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from firmplan import Engine, Model, Planner, PlanningFailed, tool
from firmplan.testing import Body, ScriptedModel, ToolCalls
from firmplan.testing.scripted_model import completion_of
from firmplan.tools.models.probing import probe_endpoint

FILES = sorted((Path(__file__).parents[2] / "vectors" / "dialects").glob("*.json"))
DIALECTS = [json.loads(file.read_text(encoding="utf-8")) for file in FILES]
VARIANTS = [
    pytest.param(dialect, variant, id=f"{dialect['dialect']}: {variant['name']}")
    for dialect in DIALECTS
    for variant in dialect["variants"]
]
ERRORS = [
    pytest.param(dialect, error, id=f"{dialect['dialect']}: {error['name']}")
    for dialect in DIALECTS
    for error in dialect["errors"]
]

NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
PLAN = {"firmplan": 1, "steps": [{"id": "n", "tool": "double", "args": {"x": 21}}], "output": "${n}"}
ASKS = {
    "firmplan": 1,
    "steps": [
        {"id": "a", "ask": {"prompt": "Text?"}},
        {"id": "b", "ask": {"prompt": "Number?", "returns": NUMBER}},
    ],
    "output": ["${a}", "${b}"],
}
AGENT = {
    "firmplan": 1,
    "steps": [{"id": "r", "agent": {"goal": "Double 21", "tools": ["double"], "returns": NUMBER}}],
    "output": "${r}",
}
ONE_ASK = {"firmplan": 1, "steps": [{"id": "a", "ask": {"prompt": "Number?", "returns": NUMBER}}]}


@tool(effect="read")
def double(x: int) -> int:
    """Double a number."""
    return 2 * x


# --- the server


def filled(template, values):
    """Return a template with its `$NAMES` replaced: a text that is only a name by the value, others by its text."""
    match template:
        case str():
            if template in values:
                return values[template]
            for name, value in values.items():
                template = template.replace(name, str(value)) if isinstance(value, str) else template
            return template
        case list():
            return [filled(each, values) for each in template]
        case dict():
            return {key: filled(value, values) for key, value in template.items()}
        case _:
            return template


def is_refused(request, when):
    match when:
        case "tools":
            return "tools" in request
        case "free choice":
            return "tools" in request and not isinstance(request.get("tool_choice"), dict)
    raise AssertionError(when)


def rendered(variant, request, value):
    """Return a value as this server would send it."""
    for refusal in variant.get("refuses", ()):
        if is_refused(request, refusal["when"]):
            return Body(json.dumps(refusal["body"]), status=refusal["status"])
    made = completion_of(value, request)
    numbered = [
        {"$NAME": name, "$ARGUMENTS": words, "$ID": f"q{index}", "$INDEX": index}
        for index, (name, words) in enumerate(made.calls)
    ]
    values = {
        "$MODEL": request["model"],
        "$CONTENT": made.content or "",
        "$CALLS": [filled(variant["call"], each) for each in numbered],
        "$FINISH": "tool_calls" if made.calls else "stop",
    }
    if request.get("stream"):
        chunks = list(streamed(variant["stream"], made, numbered))
        events = [f"data: {json.dumps(filled(each, values))}\n\n" for each in chunks]
        return Body("".join([*events, "data: [DONE]\n\n"]), "text/event-stream")
    return Body(json.dumps(filled(variant["body"]["calls" if made.calls else "content"], values)))


def streamed(shapes, made, numbered):
    """Yield the chunks of an answer."""
    yield from shapes["first"]
    for piece in pieces(made.content or ""):
        yield filled(shapes["piece"], {"$PIECE": piece})
    for values in numbered:
        for each in shapes["call"]:
            yield filled(each, values)
        for piece in pieces(values["$ARGUMENTS"]) if "arguments" in shapes else ():
            yield filled(shapes["arguments"], {**values, "$PIECE": piece})
    yield from shapes["last"]


def pieces(text):
    return [text[at : at + 9] for at in range(0, len(text), 9)]


def serving(dialect, variant, answer):
    """Return a server of the dialect; `answer(request)` is the value that its model has in mind."""
    listed = filled(dialect["models"], {"$MODEL": "m"})
    return ScriptedModel(lambda request: rendered(variant, request, answer(request)), models=listed)


def failing(dialect, error):
    listed = filled(dialect["models"], {"$MODEL": "m"})
    body = Body(json.dumps(error["body"]), status=error["status"])
    return ScriptedModel(lambda _: body, models=listed)


def model_of(server, **settings):
    return Model("m", server.base_url, "k", retries=0, **settings)


def driven(server, plan, *, planner=None, stream=False, **settings):
    """Run a plan, or a task in words, against a server; return the run, and its replay."""

    async def main():
        async with server:
            spec = model_of(server, **settings)
            made = {} if planner is None else {"planner": Planner(spec, adapt=False)}
            async with Engine([double], store="memory:", models={"default": spec}, **made) as engine:
                run = await engine.run(plan, stream=stream)
                asked = len(server.requests)
                again = await engine.replay(run.id) if run.plan is not None else run
                assert (again.digest, len(server.requests)) == (run.digest, asked)
                return run

    return asyncio.run(main())


# --- what works


@pytest.mark.parametrize(("dialect", "variant"), VARIANTS)
def test_prompts_are_answered(dialect, variant):
    """A text, and an object in whichever mode the server takes; thoughts are no part of either."""
    server = serving(
        dialect, variant, lambda request: "seven" if "Text?" in str(request["messages"]) else {"n": 7}
    )
    run = driven(server, ASKS)
    assert (run.status, run.output) == ("succeeded", ["seven", {"n": 7}])
    assert run.usage["tokens"] > 0


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(("dialect", "variant"), VARIANTS)
def test_agents_call_tools(dialect, variant, native):
    """In the server's own form where it has one, else in structured output."""

    def answer(request):
        seen = str(request["messages"])
        is_done = "42" in seen
        return (
            {"reasoning": "x", "answer": {"n": 42}}
            if is_done
            else {
                "reasoning": "x",
                "call": {"tool": "double", "args": {"x": 21}},
            }
        )

    run = driven(serving(dialect, variant, answer), AGENT, tool_calls=native)
    assert (run.status, run.output) == ("succeeded", {"n": 42})
    assert run.steps["r/act0"].output == 42


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("dialect", "variant"), VARIANTS)
def test_planners_plan(dialect, variant, stream):
    """In one piece, and while the plan is being written."""
    server = serving(dialect, variant, lambda _: PLAN)
    run = driven(server, "Double 21", planner=True, stream=stream)
    assert (run.status, run.output) == ("succeeded", 42)
    assert any(request.get("stream") for request in server.requests) is stream


@pytest.mark.parametrize(("dialect", "variant"), VARIANTS)
def test_the_probe_tells_what_the_server_can_do(dialect, variant):
    """Each finding that the file names, and a length of context where the list of models has one."""

    def answer(request):
        offered = str(request.get("tools"))
        if "temperature" not in offered:
            return (
                {"word": "seven", "numbers": [7, 8]} if "numbers" in str(request) else "seven eight nine ten"
            )
        if request["messages"][-1]["role"] == "tool":
            return {"answer": {"temperature": 7, "wind": 12}}
        return ToolCalls([("temperature", {"city": "Oslo"}), ("wind", {"city": "Oslo"})])

    async def main():
        async with serving(dialect, variant, answer) as server:
            return await probe_endpoint(model_of(server).resolve())

    report = asyncio.run(main())
    found = {each.what: each.ok for each in report.findings}
    assert {name: found.get(name, "missing") for name in variant["probe"]} == variant["probe"]
    said = {each.what: each.found for each in report.findings}
    assert said["context length"] == dialect["context"]
    assert said["reasoning"].startswith("in ") is ("reasoning" in variant["probe"])
    assert report.settings.get("tool_calls", False) is (found["tool calls"] is True)


# --- what fails


@pytest.mark.parametrize("plan", [ONE_ASK, AGENT], ids=["ask", "agent"])
@pytest.mark.parametrize(("dialect", "error"), ERRORS)
def test_errors_have_their_names_in_steps(dialect, error, plan):
    """The code says what to do, and the message quotes the server."""
    run = driven(failing(dialect, error), plan, tool_calls=True)
    assert run.status == "failed"
    inner = [each for each in run.errors if each.code == error["code"]]
    assert inner, run.errors
    assert error["says"] in inner[0].message


@pytest.mark.parametrize(("dialect", "error"), ERRORS)
def test_errors_have_their_words_in_plannings(dialect, error):
    async def main():
        async with failing(dialect, error) as server:
            with pytest.raises(PlanningFailed) as failed:
                await Planner(model_of(server), adapt=False, max_repairs=1).plan("Double 21", [double])
            return failed.value

    failed = asyncio.run(main())
    assert any(error["says"] in str(each.error) for each in failed.attempts), failed.attempts


@pytest.mark.parametrize(("dialect", "error"), ERRORS)
def test_errors_are_findings_of_the_probe(dialect, error):
    async def main():
        async with failing(dialect, error) as server:
            return await probe_endpoint(model_of(server).resolve())

    report = asyncio.run(main())
    found = {each.what: each for each in report.findings}
    assert (found["modes"].ok, report.settings) == (False, {})
    assert error["says"] in " ".join(each.found for each in report.findings)


def test_every_file_names_its_sources():
    """And each variant says what is special in it."""
    assert [dialect["dialect"] for dialect in DIALECTS] == ["llama.cpp's server", "Ollama", "vLLM"]
    for dialect in DIALECTS:
        assert dialect["source"]
        assert all(variant["why"] for variant in dialect["variants"])
