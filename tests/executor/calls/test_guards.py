"""Guards in runs: verdicts are recorded and shown, a replay asks nobody, and what a tool's guard refuses reaches no later prompt."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest
from firmplan import ConfigError, Engine, ToolError, tool
from firmplan.testing import ScriptedModel, Text

CLEAN = {"reasoning": "..", "kinds": [], "toxic": False}
TOXIC = {"reasoning": "It calls Ada a FOOL.", "kinds": ["insult"], "toxic": True}
MAIL = "ada.lovelace@example.org"


def run(plan, tools=(), answers=(), **options):
    """Return the run of a plan, its replay, and the requests to the model."""

    async def main():
        async with ScriptedModel(list(answers)) as model:
            from firmplan.tools import Model

            models = {"default": Model("m", model.base_url)}
            async with Engine(tools, store="memory:", models=models, **options) as engine:
                done = await engine.run(plan)
                events = [event async for event in engine.events(done.id)]
                asked = len(model.requests)
                again = await engine.replay(done.id)
                assert len(model.requests) == asked, "a replay asks no model"
                return done, again, model.requests, events

    return asyncio.run(main())


def one(action):
    return {"firmplan": 1, "steps": [{"id": "a", **action}], "output": "${a}"}


def test_the_verdicts_on_an_answer_are_recorded_replayed_and_shown():
    """Answers that were refused are counted, with the last reason; the text that was refused is in no record."""
    plan = one({"ask": {"prompt": "Write", "guard": [{"personal_data": True}, {"toxicity": True}]}})
    answers = [Text(f"Write to {MAIL}"), Text("You fool"), TOXIC, Text("Dear Ada"), CLEAN]
    done, again, requests, events = run(plan, answers=answers)
    assert (done.output, len(requests)) == ("Dear Ada", 5)
    expected = {
        "personal_data": {"held": 2, "refused": 1, "why": "the value holds an e-mail address"},
        "toxicity": {"held": 1, "refused": 1, "why": "it is toxic (insult)"},
    }
    assert done.steps["a"].guards == expected
    assert again.steps["a"].guards == expected
    assert again.digest == done.digest
    assert done.usage["model_calls"] == 5
    recorded = repr(events)
    assert "personal_data" in recorded
    assert MAIL not in recorded
    assert "fool" not in recorded


def test_an_answer_that_never_passes_fails_with_its_verdicts():
    """The failed call has them too."""
    plan = one({"ask": {"prompt": "Write", "guard": [{"personal_data": ["email"]}]}})
    done, _, _, _ = run(plan, answers=[Text(MAIL)] * 3)
    assert [error.code for error in done.errors] == ["bad-output"]
    assert MAIL not in done.errors[0].message
    assert done.steps["a"].guards["personal_data"]["refused"] == 3


def test_the_error_of_an_answer_that_never_passes_has_none_of_its_words():
    """Nor of its judge, who quotes it: an error reaches records, people and the prompts of other models."""
    guards = [{"toxicity": True}, {"grounded": "claims"}, {"regex": "^a", "field": "word"}]
    returns = {
        "type": "object",
        "properties": {
            "word": {"type": "string"},
            "claims": {
                "type": "array",
                "items": {"type": "object", "properties": {"quote": {"type": "string"}}},
            },
        },
    }
    answer = {"word": "a FOOL", "claims": []}
    for guard, said, answers in (
        (guards[0], "it is toxic (insult)", [answer, TOXIC] * 3),
        (
            guards[1],
            "claims[0].quote: expected words",
            [{"claims": [{"quote": "all of them are FOOLs"}]}] * 3,
        ),
        (guards[2], "'word' does not meet {regex: ^a}", [{"word": "FOOL"}] * 3),
    ):
        ask = {"prompt": "Write", "returns": returns, "guard": [guard]}
        done, _, _, events = run(one({"ask": ask}), answers=answers)
        assert said in done.errors[0].message
        assert "FOOL" not in repr(events)


@tool(effect="read", guard=[{"personal_data": ["email"]}])
def page(name: str) -> dict[str, str]:
    """Read a page."""
    return {"text": MAIL if name == "bad" else "nothing"}


@tool(effect="read", guard=[{"personal_data": ["email"]}])
async def later(name: str) -> dict[str, str]:
    """Read a page."""
    await asyncio.sleep(0)
    return {"text": MAIL if name == "bad" else "nothing"}


@tool(effect="read", isolation="inline", guard=[{"personal_data": ["email"]}])
def inline(name: str) -> dict[str, str]:
    """Read a page."""
    return {"text": MAIL if name == "bad" else "nothing"}


@tool(effect="read", isolation="process", guard=[{"personal_data": ["email"]}])
def apart(name: str) -> dict[str, str]:
    """Read a page."""
    return {"text": MAIL if name == "bad" else "nothing"}


@pytest.mark.parametrize("made", [page, later, inline, apart], ids=lambda made: made.name)
def test_a_result_that_a_guard_refuses_fails_the_step_wherever_the_tool_runs(made):
    """The code is `guard-refused`; the message names guard, tool and place, and holds nothing of the result."""
    for name, status in (("good", "succeeded"), ("bad", "failed")):
        done, again, _, events = run(one({"tool": made.name, "args": {"name": name}}), [made])
        assert (done.status, again.status, again.digest) == (status, status, done.digest)
    (error,) = done.errors
    assert (error.code, error.temporary) == ("guard-refused", False)
    wanted = f"the guard 'personal_data' refused the result of '{made.name}': text holds an e-mail address"
    assert error.message == wanted
    assert MAIL not in repr(events)


def test_what_was_refused_reaches_no_later_prompt():
    """An agent that made the call is told that a guard refused it, and not the text; the same for code that names the text."""

    @tool(effect="read", guard=[lambda value: f"no good: {value}"])
    def secretive(name: str) -> str:
        """Read."""
        return f"{name}: SESAME"

    plan = one({"agent": {"goal": "Look", "tools": ["secretive", "page"], "max_steps": 3}})
    answers = [
        {"reasoning": "..", "call": {"tool": "secretive", "args": {"name": "x"}}},
        {"reasoning": "..", "call": {"tool": "page", "args": {"name": "bad"}}},
        {"reasoning": "..", "answer": "nothing to be had"},
    ]
    done, _, requests, events = run(plan, [secretive, page], answers)
    assert done.output == "nothing to be had"
    prompts = json.dumps(requests)
    assert prompts.count("guard-refused") >= 2
    assert "SESAME" not in prompts + repr(events)
    assert MAIL not in prompts + repr(events)


def test_a_result_can_be_judged_by_a_model():
    """The judge's requests are in the step's usage and in the run's budget; a refusal is recorded, a replay asks nobody."""

    @tool(effect="read", guard=[{"toxicity": True}])
    def read(name: str) -> str:
        """Read a page."""
        return f"a page about {name}"

    plan = one({"tool": "read", "args": {"name": "x"}})
    done, again, requests, _ = run(plan, [read], [CLEAN])
    assert (done.output, len(requests)) == ("a page about x", 1)
    assert done.usage["model_calls"] == 1
    assert done.steps["a"].guards == again.steps["a"].guards == {"toxicity": {"held": 1, "refused": 0}}
    done, again, _, events = run(plan, [read], [TOXIC])
    assert (done.errors[0].code, again.digest) == ("guard-refused", done.digest)
    assert done.usage["model_calls"] == 1
    assert "FOOL" not in repr(events)
    assert done.steps["a"].guards["toxicity"]["refused"] == 1


def test_without_a_verdict_a_result_does_not_pass():
    """A judge that cannot be asked, or that talks, fails the step."""

    @tool(effect="read", guard=[{"judge": "It is polite"}])
    def read(name: str) -> str:
        """Read a page."""
        return name

    done, _, _, _ = run(one({"tool": "read", "args": {"name": "x"}}), [read], [Text("Well ..")] * 9)
    assert done.errors[0].code == "bad-output"
    assert done.usage["model_calls"] == 2


def test_a_write_whose_result_is_refused_is_done():
    """It is not repeated, whatever its retries say; and no judge may be asked about a write."""
    calls = []

    @tool(effect="write", retries=3, idempotent=True, retry_on=ToolError, guard=[{"personal_data": True}])
    def send(to: str) -> str:
        """Send."""
        calls.append(to)
        return MAIL

    done, again, _, _ = run(one({"tool": "send", "args": {"to": "x"}}), [send])
    (error,) = done.errors
    assert (error.code, error.took_effect, calls) == ("guard-refused", True, ["x"])
    assert error.message.startswith("done, result refused: ")
    assert again.digest == done.digest

    with pytest.raises(ConfigError, match=r"tool 'wipe'.*guard: expected a guard that asks no model"):

        @tool(effect="write", guard=[{"toxicity": True}])
        def wipe(a: str) -> str:
            """Wipe."""
            return a


def test_a_private_result_is_judged_only_by_its_readers():
    """A judge is a model that reads the result: `model` has to be one of the readers."""

    def read(a: str) -> str:
        """Read."""
        return a

    for private in ({"private": True}, {"readers": ("send.body",)}):
        with pytest.raises(ConfigError, match="'model' is none of its readers"):
            tool(effect="read", guard=[{"toxicity": True}], **private)(read)
        tool(effect="read", guard=[{"personal_data": True}], **private)(read)
    tool(effect="read", guard=[{"toxicity": True}], readers=("model",))(read)


def test_a_read_may_be_tried_again():
    """Where the tool's own rule says so: the next result may pass."""
    results = [MAIL, "nothing"]

    @tool(
        effect="read",
        retries=1,
        retry_on=lambda error: getattr(error, "code", "") == "guard-refused",
        guard=[{"personal_data": True}],
    )
    def read(name: str) -> str:
        """Read a page."""
        return results.pop(0)

    done, _, _, _ = run(one({"tool": "read", "args": {"name": "x"}}), [read])
    assert (done.output, done.steps["a"].attempts) == ("nothing", 2)


def test_a_guard_that_goes_wrong_fails_closed():
    """Its mistake is the step's failure, with the code `guard-failed`."""

    @tool(effect="pure", guard=[lambda value: value["nothing"]])
    def read(name: str) -> str:
        """Read."""
        return name

    done, _, _, _ = run(one({"tool": "read", "args": {"name": "x"}}), [read])
    assert done.errors[0].code == "guard-failed"


def test_no_result_that_was_kept_before_gets_past_a_new_guard(tmp_path):
    """The guards are a part of the fingerprint; without guards it is what it was."""
    calls = []

    def read(name: str) -> str:
        """Read."""
        calls.append(name)
        return MAIL

    plain, guarded, other = (
        tool(effect="pure", version=1, **guard)(read)
        for guard in ({}, {"guard": [{"personal_data": True}]}, {"guard": [{"personal_data": ["iban"]}]})
    )
    assert plain.fingerprint == tool(effect="pure", version=1, guard=[])(read).fingerprint
    assert len({plain.fingerprint, guarded.fingerprint, other.fingerprint}) == 3

    async def both():
        plan = one({"tool": "read", "args": {"name": "x"}})
        for made, status in ((plain, "succeeded"), (guarded, "failed")):
            async with Engine([made], store=str(tmp_path / "s.db")) as engine:
                assert (await engine.run(plan)).status == status

    asyncio.run(both())


REPLAY = """
import sys
for name in ("phonenumbers", "stdnum"):
    sys.modules[name] = None
from firmplan import Engine
with Engine([], store="memory:") as engine:
    run = engine.replay_sync(sys.argv[1])
print(run.digest, run.output, sorted(run.steps["a"].guards))
"""


def test_a_replay_needs_no_library(tmp_path):
    """A bundle replays where the packages of its guards are not installed."""
    plan = one({"ask": {"prompt": "Write", "guard": [{"personal_data": True}]}})

    async def main():
        async with ScriptedModel([Text(MAIL), Text("Dear Ada")]) as model:
            from firmplan.tools import Model

            models = {"default": Model("m", model.base_url)}
            async with Engine([], store="memory:", models=models) as engine:
                done = await engine.run(plan)
                await engine.export(done.id, tmp_path / "run.bundle")
                return done

    done = asyncio.run(main())
    command = [sys.executable, "-c", REPLAY, str(tmp_path / "run.bundle")]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.stdout.strip() == f"{done.digest} Dear Ada ['personal_data']", said.stderr


def test_the_requests_of_a_judge_stay_within_the_budget():
    """A judged call is reserved like a model's: the run stops before the call that would pass the limit, and the check counts it."""
    calls = []

    @tool(effect="read", guard=[{"toxicity": True}])
    def read(n: int) -> str:
        """Read."""
        calls.append(n)
        return "fine"

    plan = {
        "firmplan": 1,
        "steps": [{"id": "a", "tool": "read", "for_each": [1, 2, 3, 4], "args": {"n": "${item}"}}],
        "output": "${a}",
    }

    async def main():
        async with ScriptedModel([CLEAN] * 4) as model:
            from firmplan.tools import Model

            models = {"default": Model("m", model.base_url)}
            async with Engine([read], store="memory:", models=models) as engine:
                assert (await engine.check_plan(plan)).bounds.model_calls_max == 4
                stopped = await engine.run(plan, budget={"model_calls": 2})
                assert (stopped.status, len(calls), len(model.requests)) == ("over_budget", 2, 2)
                done = await engine.resume(stopped.id, budget={"model_calls": 4})
                assert (done.status, len(calls), done.usage["model_calls"]) == ("succeeded", 4, 4)
                assert (await engine.replay(done.id)).digest == done.digest

    asyncio.run(main())


def test_a_judged_call_that_fails_by_itself_costs_no_request():
    """What was reserved for its judge is given back."""

    @tool(effect="read", guard=[{"toxicity": True}])
    def read(n: int) -> str:
        """Read."""
        if n == 1:
            raise ToolError("gone")
        return "fine"

    steps = [
        {"id": "a", "tool": "read", "args": {"n": 1}, "on_error": "skip"},
        {"id": "b", "tool": "read", "after": ["a"], "args": {"n": 2}},
    ]
    plan = {"firmplan": 1, "steps": steps, "output": "${b}"}
    done, _, requests, _ = run(plan, [read], [CLEAN])
    assert (done.status, done.usage["model_calls"], len(requests)) == ("succeeded", 1, 1)


def test_a_judge_sees_no_secret():
    """A result that holds a secret of its call is masked before a model sees it, as it is before it is recorded."""

    @tool(effect="read", guard=[{"toxicity": True}])
    def read(key: str) -> str:
        """Read."""
        return f"the key is {key}"

    plan = one({"tool": "read", "args": {"key": '${secret("KEY")}'}})
    done, _, requests, _ = run(plan, [read], [CLEAN], secrets={"KEY": "hunter2hunter2"})
    assert (done.status, len(requests)) == ("succeeded", 1)
    assert "hunter2" not in json.dumps(requests)
    assert "hunter2" not in str(done.output)
