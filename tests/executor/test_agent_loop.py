"""A bounded agent step: a small loop of the same machine, with limits, an allow-list, a typed answer, and a replay that asks nobody."""

from __future__ import annotations

import asyncio

from firmplan import Engine, Model, ToolError, check, tool
from firmplan.testing import ScriptedModel

RETURNS = {"type": "object", "properties": {"found": {"type": "integer"}}, "required": ["found"]}


@tool(effect="read")
def search(q: str) -> list[str]:
    """Search."""
    if q == "bad":
        raise ToolError("no luck", code="empty")
    return [f"about {q}"]


@tool(effect="read", trust="untrusted", resource="web")
def browse(url: str) -> str:
    """Read a page."""
    return f"page {url}"


@tool(effect="write", resource="mail", approval="always")
def send(to: str) -> str:
    """Send a mail."""
    return f"sent to {to}"


@tool(effect="write", resource="notes")
def note(text: str) -> str:
    """Take a note."""
    return text


def call(name, **args):
    return {"reasoning": "next", "call": {"tool": name, "args": args}}


def answer(found):
    return {"reasoning": "done", "answer": {"found": found}}


def plan_of(*tools, **agent):
    return {
        "firmplan": 1,
        "inputs": {"subject": {"type": "string"}},
        "steps": [
            {
                "id": "research",
                "agent": {
                    "goal": "Find ${inputs.subject}",
                    "tools": list(tools),
                    "returns": RETURNS,
                    **agent,
                },
            },
            {"id": "next", "set": "${research.found + 1}"},
        ],
        "output": "${next}",
    }


def run(script, tools, plan, *, approve=()):
    """Run a plan against a scripted model; return the run, its replay, and the requests."""

    async def drive():
        async with ScriptedModel(script) as model:
            models = {"default": Model("m", base_url=model.base_url)}
            async with Engine(tools, store="memory:", models=models) as engine:
                done = await engine.run(plan, inputs={"subject": "cats"})
                for step in approve:
                    await engine.approve(done.id, step, by="me")
                    done = await engine.resume(done.id)
                asked = len(model.requests)
                replayed = await engine.replay(done.id)
                assert len(model.requests) == asked
                return done, replayed, model.requests

    return asyncio.run(drive())


def test_an_agent_calls_tools_until_it_answers():
    """Each thought and each call is a step of its own; the answer is the agent's typed value."""
    done, replayed, requests = run([call("search", q="cats"), answer(2)], [search], plan_of("search"))
    assert (done.status, done.output) == ("succeeded", 3)
    assert list(done.steps) == ["research", "research/think0", "research/act0", "research/think1", "next"]
    assert replayed.digest == done.digest
    assert 'search({"q":"cats"})' in str(requests[1])


def test_a_failed_call_is_told_to_the_model():
    """A call that fails, or whose arguments do not fit, does not fail the agent."""
    script = [
        call("search", q="bad"),
        call("search", wrong=1),
        call("search", q="${not a template}"),
        answer(1),
    ]
    done, _, requests = run(script, [search], plan_of("search"))
    assert (done.status, done.output, done.errors) == ("succeeded", 2, ())
    assert "no luck" in str(requests[1])
    assert done.steps["research/act2"].output == ["about ${not a template}"]


def test_neither_or_both_is_asked_again():
    """An answer that decides nothing costs a turn, and is told."""
    both = {**call("search", q="x"), "answer": {"found": 1}}
    done, _, requests = run([both, answer(4)], [search], plan_of("search"))
    assert done.output == 5
    assert "exactly one" in str(requests[1])


def test_limits_end_an_agent():
    """At `max_steps`, or at its own budget, the step fails as exhausted."""
    script = [call("search", q="x")] * 5
    done, replayed, requests = run(script, [search], plan_of("search", max_steps=3))
    assert (done.status, len(requests)) == ("failed", 3)
    assert [(error.step, error.code) for error in done.errors] == [("research", "agent-exhausted")]
    assert replayed.digest == done.digest
    spent, _, asked = run(script, [search], plan_of("search", budget={"model_calls": 2}))
    assert (spent.errors[0].code, len(asked)) == ("agent-exhausted", 2)


def test_a_write_waits_for_its_approval_and_denial_cancels():
    """Tools keep their approvals inside an agent."""
    script = [call("send", to="me"), answer(1)]
    done, _, _ = run(script, [send], plan_of("send"), approve=["research/act0"])
    assert (done.status, done.steps["research/act0"].output) == ("succeeded", "sent to me")


def test_an_agent_calls_only_its_own_tools():
    """A tool that the step does not name cannot be chosen: the model's reply is refused until it fits."""
    done, _, _ = run([call("send", to="x"), answer(1)], [search, send], plan_of("search"))
    assert done.status == "succeeded"
    assert all(step.output != "sent to x" for step in done.steps.values())


def test_untrusted_tools_and_plain_writes_do_not_mix():
    """An agent with an untrusted tool and a write without approval is refused before it runs."""
    report = check(plan_of("browse", "note"), [browse, note])
    assert [problem.code for problem in report.errors] == ["unsafe-flow"]
    assert check(plan_of("browse", "send"), [browse, send]).ok
