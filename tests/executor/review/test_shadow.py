"""`shadow`: another model on a recorded run, and what would change downstream; nothing but pure tools is called."""

from __future__ import annotations

import pytest
from firmplan import ConfigError, Engine, InputRejected, RunNotFound, ToolError, agent, tool
from firmplan.testing import HttpError, MemoryStore, Refusal, ScriptedModel, ScriptedTool, unmarked
from public import call, plan, within

SENT: list[str] = []
COUNTED: list[str] = []


@tool(effect="pure")
def count(text: str) -> int:
    """Count words."""
    COUNTED.append(text)
    return len(text.split())


@tool(effect="write", resource="mail")
def send(body: str, words: int) -> str:
    """Change the world."""
    SENT.append(body)
    return "sent"


def look(**said):
    return ScriptedTool("look", lambda q: said.get(q, "nothing"), effect="read", returns={"type": "string"})


REPORT = plan(
    call("found", "look", args={"q": "weather"}),
    {"id": "note", "ask": {"prompt": "Sum up: ${found}"}},
    call("words", "count", args={"text": "${note}"}),
    call("length", "count", args={"text": "${found}"}),
    {"id": "title", "ask": {"prompt": "A title for: ${note}"}},
    call("mail", "send", args={"body": "${title}", "words": "${words}"}),
    {"id": "done", "set": "${mail}"},
    output="${title}",
)
TOOLS = [look(weather="sun and wind"), count, send]


def shadowed(before, after, what=REPORT, tools=TOOLS, later=None, **options):
    """Run a plan with one model, then shadow the run with another; return the report, and how often it was asked."""

    async def main():
        store = MemoryStore()
        await store.open()
        async with ScriptedModel(before) as old, ScriptedModel(after) as new:
            spec = {"name": "old", "base_url": old.base_url}
            run = await Engine(tools, store=store, models={"default": spec}).run(what)
            calls = [len(SENT), len(COUNTED), len(old.requests)]
            engine = Engine(tools if later is None else later, store=store, models={"default": spec})
            model = {"name": "new", "base_url": new.base_url}
            report = await engine.shadow(run.id, model=model, **options)
            page = await engine.list_runs()
            assert len(page.runs) == 1, "a shadow run stores nothing"
            assert calls[0] == len(SENT), "a shadow run calls no write"
            if not options:
                assert calls[2] == len(old.requests), "the old model is not asked"
            await store.close()
            return report, new, len(COUNTED) - calls[1]

    return within(main())


def answers(**by_word):
    """Answer by a word in the prompt."""

    def reply(request):
        prompt = request["messages"][-1]["content"]
        return next(answer for word, answer in by_word.items() if word in prompt)

    return reply


OLD = answers(Sum="warm and windy", title="Weather")


def test_a_model_that_says_the_same_changes_nothing():
    """Each model step is asked once, on its recorded input; no tool is called at all."""
    report, new, counted = shadowed(OLD, OLD)
    assert not report
    assert (len(new.requests), counted) == (2, 0)
    assert [(each.step, each.kind) for each in report.answers] == [("note", "same"), ("title", "same")]
    assert "downstream nothing would change: 5 other steps come out the same" in str(report)
    assert report.model == "new"


def test_what_would_change_downstream_is_told():
    """The answer that differs, the pure step after it, the write that would be called otherwise, and what waits for it."""
    report, new, counted = shadowed(OLD, answers(Sum="warm", title="Weather"))
    assert report
    assert counted == 1
    assert len(new.requests) == 3, "the title is asked twice: on its recorded and on its new input"
    assert str(report).splitlines()[:8] == [
        f"run {report.run_id} with model 'new': 2 model steps asked again, 1 answered otherwise",
        '~ note  output: "warm and windy" -> "warm"',
        '  title  (its input would be another: prompt: "A title for: warm and windy" -> "A title for: warm")',
        "downstream 3 steps would be otherwise, 2 the same",
        "~ words  output: 3 -> 1",
        "? mail  would be called otherwise: words: 3 -> 1  [a write, so it was not called]",
        ". done  unknown",
        "status: succeeded -> unknown",
    ]
    assert [(each.step, each.kind) for each in report.effects] == [
        ("words", "changed"),
        ("mail", "would-call"),
        ("done", "unknown"),
    ]


def test_a_model_step_behind_a_read_is_asked_on_its_recorded_input():
    """What waits for a read that would be called otherwise is not reached, and is asked all the same."""
    what = plan(
        {"id": "query", "ask": {"prompt": "Query?"}},
        call("found", "look", args={"q": "${query}"}),
        {"id": "note", "ask": {"prompt": "Sum up: ${found}"}},
        output="${note}",
    )
    report, new, _ = shadowed(
        answers(Query="weather", Sum="fine"), answers(Query="wind", Sum="fine too"), what
    )
    assert len(new.requests) == 2
    assert [(each.step, each.kind) for each in report.answers] == [("query", "changed"), ("note", "changed")]
    assert [(each.step, each.kind) for each in report.effects] == [("found", "would-call")]
    assert report.effects[0].places[0].after == "wind"
    assert report.status == ("succeeded", "unknown")


def test_a_model_that_fails_is_told():
    """A refusal is an answer of its own: the step failed, and what depends on it would be skipped."""
    report, _, _ = shadowed(OLD, [Refusal("I would rather not"), Refusal("No")])
    assert [each.kind for each in report.answers] == ["failed", "failed"]
    assert "[refused]" in str(report)
    assert report.status == ("succeeded", "failed")
    assert {each.step: each.detail for each in report.effects}["mail"] == "succeeded -> skipped"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (HttpError(429, "slow down", {"retry-after": "3600"}), "rate-limited"),
        (HttpError(401), "model-auth"),
        (HttpError(500, "", {"x-should-retry": "false"}), "model-unavailable"),
    ],
)
def test_an_endpoint_that_is_down_says_nothing_of_the_model(fault, code):
    """What would follow is not known: nothing is told as if the model had failed."""
    report, _, _ = shadowed(OLD, lambda _: fault)
    assert [(each.step, each.kind) for each in report.answers] == [("note", "unheard"), ("title", "unheard")]
    assert all(each.error.startswith(f"[{code}]") for each in report.answers)
    assert {each.kind for each in report.effects} == {"unknown"}
    assert report.status == ("succeeded", "unknown")
    assert "2 model steps asked again, 0 answered otherwise, 2 not at all" in str(report)


def test_agents_items_and_iterations_are_asked_again():
    """`@agent` tools, items of a for_each and iterations are model steps like any other."""

    @agent
    def judge(word: str) -> int:
        """How nice is ${word}?"""
        raise AssertionError

    what = plan(
        {"id": "each", "tool": "judge", "for_each": "${['sun', 'rain']}", "args": {"word": "${item}"}},
        {
            "id": "till",
            "ask": {"prompt": "Ready?", "returns": {"type": "boolean"}},
            "repeat": {"until": "${till}", "max": 3},
        },
        output="${sum(each)}",
    )
    tools = [judge]
    ready = iter([False, True])
    old = answers(**{"nice is": 3, "Ready": lambda _: next(ready)})

    def before(request):
        said = old(request)
        return said(request) if callable(said) else said

    report, new, _ = shadowed(before, answers(sun=9, rain=3, Ready=True), what, tools)
    kinds = {each.step: each.kind for each in report.answers}
    assert kinds == {"each[0]": "changed", "each[1]": "same", "till#0": "changed", "till#1": "same"}
    assert report.output[0].before == 6
    assert report.output[0].after == 12
    assert len(new.requests) == 4


def test_another_prompt_in_an_edited_plan():
    """With `plan=` the model steps are asked as the edited plan asks them."""
    edited = {**REPORT, "steps": [dict(step) for step in REPORT["steps"]]}
    edited["steps"][1] = {"id": "note", "ask": {"prompt": "In one word: ${found}"}}
    report, new, _ = shadowed(OLD, answers(one="warm", title="Weather"), plan=edited)
    assert len(new.requests) == 2
    assert "In one word" in str(report)
    assert {each.step: each.kind for each in report.answers} == {"note": "changed", "title": "same"}


def test_a_changed_pure_tool_is_called():
    """Code that is new since the run counts: the pure step is called with it."""

    @tool(effect="pure", name="count")
    def count_letters(text: str) -> int:
        return len(text)

    report, _, _ = shadowed(OLD, OLD, later=[TOOLS[0], count_letters, send])
    assert [(each.step, each.kind) for each in report.effects] == [
        ("words", "changed"),
        ("length", "changed"),
        ("mail", "would-call"),
        ("done", "unknown"),
    ]


def test_recorded_failures_stay():
    """A read that failed and was handled is handled again; a run that failed is shadowed too."""
    flaky = ScriptedTool("look", [ToolError("down")], effect="read", returns={"type": "string"}, retries=0)
    what = plan(
        call("found", "look", args={"q": "x"}, on_error={"value": "none"}),
        {"id": "note", "ask": {"prompt": "Sum up: ${found}"}},
        output="${note}",
    )
    report, _, _ = shadowed(answers(Sum="a"), answers(Sum="b"), what, [flaky])
    assert report.status == ("succeeded", "succeeded")
    assert [str(each) for each in report.output] == ['"a" -> "b"']


def test_arguments_that_do_not_fit_fail_as_before():
    """Such a call is never made, so that nothing of it is on record but its failure; it is not told as one that would be made."""
    what = plan(
        {"id": "note", "ask": {"prompt": "Sum up"}},
        {"id": "gap", "set": "${first(inputs.none, inputs.none)}"},
        call("mail", "send", args={"body": "${gap}", "words": 1}, on_error={"value": "unsent"}),
        output="${note + mail}",
        inputs={"none": {"type": ["string", "null"], "default": None}},
    )
    report, _, _ = shadowed(answers(Sum="a"), answers(Sum="a"), what, [send])
    assert not report
    assert report.status == ("succeeded", "succeeded")


def test_parts_of_a_step_that_waits_are_unknown():
    """An inner plan that waits for a call that was not made may still come to its steps; what is left out for good is gone."""
    inner = {
        "inputs": {"x": {"type": "string"}},
        "steps": [{"id": "i", "set": "${inputs.x}"}],
        "output": "${i}",
    }
    what = plan(
        {"id": "query", "ask": {"prompt": "Query?"}},
        call("found", "look", args={"q": "${query}"}),
        {"id": "part", "plan": "inner", "for_each": "${found.split()}", "args": {"x": "${item}"}},
        {"id": "each", "plan": "inner", "for_each": "${query.split()}", "args": {"x": "${item}"}},
        plans={"inner": inner},
        output="${part}",
    )
    report, _, _ = shadowed(answers(Query="a b"), answers(Query="a"), what, [look(**{"a b": "one two"})])
    assert {each.step: each.kind for each in report.effects} == {
        "found": "would-call",
        "part": "unknown",
        "part[0]": "unknown",
        "part[0]/i": "unknown",
        "part[1]": "unknown",
        "part[1]/i": "unknown",
        "each": "changed",
        "each[1]": "gone",
        "each[1]/i": "gone",
    }


@pytest.mark.parametrize("effect", ["read", "pure"])
def test_another_tool_at_the_same_step_is_not_answered_by_the_recording(effect):
    """An edited plan calls it with the same arguments; what the first tool said is not its answer."""

    def made(name, answer):
        return ScriptedTool(name, lambda q: answer, effect=effect, returns={"type": "string"}, version="1")

    def using(tool):
        return plan(
            call("found", tool, args={"q": "x"}),
            call("more", "look", args={"q": "y"}),
            call("less", "peek", args={"q": "z"}),
            {"id": "note", "ask": {"prompt": "Sum up: ${found}"}},
            output="${note}",
        )

    tools = [made("look", "looked"), made("peek", "peeked")]
    report, new, _ = shadowed(answers(Sum="a"), answers(Sum="a"), using("look"), tools, plan=using("peek"))
    told = {each.step: each for each in report.effects}
    if effect == "read":
        assert (told["found"].kind, report.status[1]) == ("would-call", "unknown")
    else:
        assert (told["found"].kind, told["found"].places[0].after) == ("changed", "peeked")
        assert "Sum up: peeked" in unmarked(str(new.requests[0]))


@pytest.mark.parametrize("edit", [None, {"amount": 4}])
def test_approved_calls_stay_approved_and_others_would_ask(edit):
    """A call with the approved arguments goes on, edited as it was; with others a person would be asked."""

    @tool(effect="write", approval="always")
    def pay(amount: int) -> str:
        SENT.append("paid")
        return "paid"

    what = plan(
        {"id": "amount", "ask": {"prompt": "How much?", "returns": {"type": "integer"}}},
        call("p", "pay", args={"amount": "${amount}"}),
        output="${p}",
    )

    async def main(new_amount):
        store = MemoryStore()
        await store.open()
        async with ScriptedModel(lambda _: 5) as old, ScriptedModel(lambda _: new_amount) as new:
            engine = Engine([pay], store=store, models={"default": {"name": "o", "base_url": old.base_url}})
            run = await engine.run(what)
            await engine.approve(run.id, "p", by="ann", edit=edit)
            assert (await engine.resume(run.id)).status == "succeeded"
            found = await engine.shadow(run.id, model={"name": "n", "base_url": new.base_url})
        await store.close()
        return found

    assert not within(main(5))
    report = within(main(7))
    assert [(each.step, each.kind) for each in report.effects] == [("p", "would-ask")]
    assert f"amount: {5 if edit is None else 4} -> 7" in str(report)


def test_tools_that_are_not_loaded_are_answered_by_the_recording():
    """Without tools the model steps are asked all the same; a pure step that would be called is told."""
    report, new, _ = shadowed(OLD, answers(Sum="warm", title="Weather"), later=[])
    assert len(new.requests) == 3
    assert {each.step: each.detail for each in report.effects}["words"] == "the tool 'count' is not loaded"


def test_what_cannot_be_shadowed_is_refused():
    """A run without model steps, an unknown run, a model that is none."""

    async def main(**options):
        async with Engine([], store="memory:", models={"small": "s"}) as engine:
            run = await engine.run(plan({"id": "a", "set": 1}))
            return await engine.shadow(options.pop("run", run.id), **options)

    with pytest.raises(InputRejected, match="asked no model"):
        within(main(model={"name": "m", "base_url": "http://127.0.0.1:9/v1"}))
    with pytest.raises(RunNotFound):
        within(main(run="nowhere", model="small"))
    with pytest.raises(ConfigError):
        within(main(model={"name": "m", "base_url": "ftp://x"}))


def test_a_name_means_a_model_at_the_usual_endpoint():
    """A plain name is asked where the default model is; an alias is what it says."""

    async def main():
        async with ScriptedModel(lambda request: request["model"]) as endpoint:
            spec = {"name": "old", "base_url": endpoint.base_url}
            other = {"name": "aliased", "base_url": endpoint.base_url}
            models = {"default": spec, "small": other}
            async with Engine([], store="memory:", models=models) as engine:
                run = await engine.run(plan({"id": "a", "ask": {"prompt": "Who are you?"}}, output="${a}"))
                named = await engine.shadow(run.id, model="new")
                alias = await engine.shadow(run.id, model="small")
                again = await engine.shadow(run.id)
            return [report.answers[0].value for report in (named, alias, again)]

    assert within(main()) == ["new", "aliased", "old"]


def test_the_document_has_all():
    """`to_dict` says what the text says, and all differing places."""
    report, _, _ = shadowed(OLD, answers(Sum="warm", title="Weather"))
    document = report.to_dict()
    assert document["changed"] is True
    assert [each["step"] for each in document["effects"]] == ["words", "mail", "done"]
    assert document["usage"][1]["calls"] == 3
