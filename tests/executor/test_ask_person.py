"""An `ask_person` step waits for a typed answer of a person, and a `fail` step fails with a message."""

from __future__ import annotations

import asyncio
import time

import pytest
from firmplan import Engine, InputRejected, OutcomeUnknown, PlanBuilder, Submitter, check, tool
from firmplan.testing import read_recorded
from firmplan.testing.rehearsal import Rehearsal

QUESTION = {
    "id": "who",
    "ask_person": "Who shall get ${inputs.n}?",
    "returns": {"type": "string", "enum": ["ann", "bob"]},
}
ASKS = {
    "firmplan": 1,
    "inputs": {"n": {"type": "integer", "default": 3}},
    "steps": [QUESTION, {"id": "told", "set": "${who} gets ${inputs.n}"}],
    "output": "${told}",
}


@tool(effect="read", trust="untrusted", resource="web")
def page() -> str:
    """Read a page."""
    return "evil@example.org"


@tool(effect="write", resource="mail")
def send(to: str) -> str:
    """Send a mail."""
    return f"sent to {to}"


def asking(**more):
    return {**ASKS, "steps": [{**QUESTION, **more}, ASKS["steps"][1]]}


def codes(plan):
    return {problem.code for problem in check(plan, [page, send]).problems}


# --- the question


def test_a_run_waits_for_the_answer_and_goes_on_with_it():
    with Engine([], store="memory:") as engine:
        run = engine.run_sync(ASKS)
        assert (run.status, run.steps["who"].reason, run.steps["who"].args) == (
            "waiting",
            "question",
            {"question": "Who shall get 3?"},
        )
        (call,) = engine.waiting_sync(run.id).calls
        assert (call.about, call.tool, call.returns) == (
            "question",
            "ask_person",
            {"enum": ["ann", "bob"], "type": "string"},
        )
        assert "waits for an answer" in str(call)
        assert "Who shall get 3?" in str(call)
        engine.answer_sync(run.id, "who", "ann", by="joe")
        run = engine.resume_sync(run.id)
        assert (run.status, run.output) == ("succeeded", "ann gets 3")
        assert run.steps["who"].decision == {"decision": "answered", "by": "joe"}
        assert "was answered by joe" in engine.explain_sync(run.id, "who").sentence
        assert engine.replay_sync(run.id).digest == run.digest
        assert engine.verify_sync(run.id).ok


@pytest.mark.parametrize("value", ["eve", 3, None, {"who": "ann"}, float("nan")])
def test_an_answer_that_does_not_fit_is_refused_and_the_question_stands(value):
    with Engine([], store="memory:") as engine:
        run = engine.run_sync(ASKS)
        with pytest.raises(InputRejected, match="the answer to step 'who' does not fit"):
            engine.answer_sync(run.id, "who", value, by="joe")
        assert engine.get_sync(run.id).status == "waiting"


def test_a_value_that_does_not_fit_is_refused_with_the_place_of_each_fault():
    """For answers, edits and what a call returned alike, so that a form shows the fault at its field."""
    form = {
        "type": "object",
        "properties": {"who": {"type": "string"}, "counts": {"type": "array", "items": {"type": "integer"}}},
        "required": ["who"],
    }
    unsure = {
        "firmplan": 1,
        "steps": [{"id": "mail", "tool": "lose", "args": {"to": "a"}}],
        "output": "${mail}",
    }
    value = {"counts": [1, "two"]}

    @tool(effect="write", approval="always")
    def lose(to: str) -> list[int]:
        raise OutcomeUnknown("no answer")

    with Engine([lose], store="memory:") as engine:
        run = engine.run_sync(asking(returns=form))
        with pytest.raises(InputRejected) as refused:
            engine.answer_sync(run.id, "who", value, by="joe")
        assert {each.path for each in refused.value.problems} == {"$.value.counts[1]", "$.value"}
        endorsing = {"id": "to", "endorse": {"who": "a"}, "returns": form}
        run = engine.run_sync({**ASKS, "steps": [endorsing], "output": "${to}"})
        with pytest.raises(InputRejected) as refused:
            engine.approve_sync(run.id, "to", by="joe", edit={"value": value})
        assert {each.path for each in refused.value.problems} == {
            "$.edit.value.counts[1]",
            "$.edit.value",
        }
        run = engine.run_sync(unsure)
        with pytest.raises(InputRejected) as refused:
            engine.approve_sync(run.id, "mail", by="joe", edit={"to": 3, "cc": "b"})
        assert {each.path for each in refused.value.problems} == {"$.edit.to", "$.edit.cc"}
        engine.approve_sync(run.id, "mail", by="joe")
        assert engine.resume_sync(run.id).status == "indeterminate"
        with pytest.raises(InputRejected) as refused:
            engine.resolve_sync(run.id, "mail", done=[1, "x"], by="joe")
        assert [each.path for each in refused.value.problems] == ["$.done[1]"]


def test_a_question_is_not_approved_and_a_call_is_not_answered():
    steps = [{"id": "to", "endorse": "${inputs.n}", "returns": {"type": "integer"}}]
    with Engine([], store="memory:") as engine:
        run = engine.run_sync(ASKS)
        for decide in (
            lambda: engine.approve_sync(run.id, "who", by="joe"),
            lambda: engine.decide_sync(run.id, {"who": "approve"}, by="joe"),
        ):
            with pytest.raises(InputRejected, match="asks a question"):
                decide()
        other = engine.run_sync({**ASKS, "steps": steps, "output": "${to}"})
        with pytest.raises(InputRejected, match="asks no question"):
            engine.answer_sync(other.id, "to", 3, by="joe")
        with pytest.raises(InputRejected, match="name the step that asks"):
            engine.answer_sync(run.id, None, "ann", by="joe")


def test_one_answer_stands():
    with Engine([], store="memory:") as engine:
        run = engine.run_sync(ASKS)
        engine.answer_sync(run.id, "who", "ann", by="joe")
        engine.answer_sync(run.id, "who", "ann", by="joe")  # a client that repeats itself gets the run
        with pytest.raises(InputRejected) as refused:
            engine.answer_sync(run.id, "who", "bob", by="joe")
        assert refused.value.code == "decided"


def test_a_denied_question_ends_the_step():
    with Engine([], store="memory:") as engine:
        run = engine.run_sync(ASKS)
        engine.deny_sync(run.id, "who", by="joe", reason="none of my business")
        run = engine.resume_sync(run.id)
        assert (run.steps["who"].status, run.steps["who"].reason) == ("cancelled", "denied")


def test_whoever_submitted_a_run_may_answer_its_questions():
    with Engine([], store="memory:") as engine:
        run = engine.run_sync(ASKS, submitter=Submitter("joe", may_approve=False))
        engine.answer_sync(run.id, "who", "ann", by="joe")
        assert engine.resume_sync(run.id).status == "succeeded"


def test_items_are_asked_about_together_and_answered_one_by_one():
    step = {
        "id": "who",
        "for_each": "${range(inputs.n)}",
        "ask_person": "For ${item}?",
        "returns": {"type": "integer"},
    }
    with Engine([], store="memory:") as engine:
        run = engine.run_sync({**ASKS, "steps": [step], "output": "${who}"})
        assert [call.step for call in engine.waiting_sync(run.id).calls] == ["who[0]", "who[1]", "who[2]"]
        with pytest.raises(InputRejected, match="one call only"):
            engine.decide_sync(run.id, {"who": {"answer": 1}}, by="joe")
        engine.decide_sync(run.id, {f"who[{n}]": {"answer": n * n} for n in range(3)}, by="joe")
        assert engine.resume_sync(run.id).output == [0, 1, 4]


def test_a_fork_takes_the_answer_of_its_parent():
    with Engine([], store="memory:") as engine:
        run = engine.run_sync(ASKS)
        engine.answer_sync(run.id, "who", "ann", by="joe")
        engine.resume_sync(run.id)
        fork = engine.fork_sync(run.id, at="told")
        assert (fork.status, fork.output, fork.steps["who"].reused) == ("succeeded", "ann gets 3", True)
        assert engine.fork_sync(run.id, at="who").steps["who"].reason == "question"
        # Another question is another answer.
        assert engine.fork_sync(run.id, inputs={"n": 4}).steps["who"].reason == "question"


def test_a_recording_answers_again(tmp_path):
    with Engine([], store="memory:") as engine:
        run = engine.run_sync(asking(expires="24h"))
        engine.answer_sync(run.id, "who", "bob", by="joe")
        engine.resume_sync(run.id)
        bundle = engine.export_sync(run.id, tmp_path / "run.fpb")
    golden = read_recorded(bundle)
    assert (
        asyncio.run(Rehearsal(golden.plan, golden.run.inputs, recorded=golden).run()).run.output
        == "bob gets 3"
    )


def test_an_answer_waits_for_the_next_process(tmp_path):
    with Engine([], store=tmp_path / "s.db") as engine:
        run = engine.run_sync(ASKS)
    with Engine([], store=tmp_path / "s.db") as engine:
        engine.answer_sync(run.id, "who", "ann", by="joe")
    with Engine([], store=tmp_path / "s.db") as engine:
        assert engine.resume_sync(run.id).output == "ann gets 3"


# --- what the check knows


def test_the_answer_has_the_type_of_the_step():
    plan = {
        "firmplan": 1,
        "steps": [{"id": "n", "ask_person": "How many?", "returns": {"type": "integer"}}],
        "output": "${n.x}",
    }
    assert codes(plan) == {"unknown-field"}
    assert codes({**plan, "output": "${n + 1}"}) == set()
    assert codes({**plan, "steps": [{"id": "n", "ask_person": "${3}"}], "output": "${n}"}) == {
        "type-mismatch"
    }


def test_an_answer_is_trusted_whatever_the_question_shows():
    steps = [
        {"id": "p", "tool": "page"},
        {"id": "who", "ask_person": "The page names ${p}. Who gets it?"},
        {"id": "s", "tool": "send", "args": {"to": "${who}"}},
    ]
    assert codes({"firmplan": 1, "steps": steps, "output": "${s}"}) == set()
    steps[1]["ask_person"], steps[1]["when"] = "Who gets it?", "${len(p) > 3}"
    assert "untrusted-condition" in codes({"firmplan": 1, "steps": steps, "output": "${s}"})


@pytest.mark.parametrize("expires", ["0s", "soon", True, [1], -1, "1y", {}])
def test_an_expiry_that_is_no_duration_is_a_fault(expires):
    (problem,) = check(asking(expires=expires)).problems
    assert (problem.code, problem.path) == ("bad-shape", "$.steps[0].expires")
    assert 'a duration above 0, in seconds or such as "24h"' in problem.message


# --- expiry


def ended(engine, run_id):
    """Return the run once it has ended; nobody resumes it."""
    for _ in range(200):
        run = engine.get_sync(run_id)
        if run.status != "waiting":
            return engine.wait_sync(run_id)
        time.sleep(0.02)
    raise AssertionError(run)


def test_a_question_that_nobody_answers_in_time_fails_its_step():
    with Engine([], store="memory:") as engine:
        run = engine.run_sync(asking(expires="0.1s"))
        assert engine.waiting_sync(run.id).calls[0].expires is not None
        run = ended(engine, run.id)
        assert (run.status, run.steps["who"].error.code) == ("failed", "expired")
        with pytest.raises(InputRejected):
            engine.answer_sync(run.id, "who", "ann", by="joe")
        assert engine.replay_sync(run.id).digest == run.digest


def test_an_expired_question_has_the_value_of_on_error():
    with Engine([], store="memory:") as engine:
        run = engine.run_sync(asking(expires=0.1, on_error={"value": "bob"}))
        assert ended(engine, run.id).output == "bob gets 3"


def test_a_question_expires_also_if_its_process_has_gone(tmp_path):
    with Engine([], store=tmp_path / "s.db") as engine:
        run = engine.run_sync(asking(expires=0.2))
    time.sleep(0.3)
    with Engine([], store=tmp_path / "s.db") as engine:
        with pytest.raises(InputRejected) as refused:
            engine.answer_sync(run.id, "who", "ann", by="joe")
        assert refused.value.code == "expired"
        assert engine.resume_sync(run.id).steps["who"].error.code == "expired"


def test_an_answer_in_time_beats_the_expiry():
    async def main():
        async with Engine([], store="memory:") as engine:
            run = await engine.run(asking(expires=0.3))
            await engine.answer(run.id, "who", "ann", by="joe")
            run = await engine.resume(run.id)
            await asyncio.sleep(0.4)
            assert (await engine.get(run.id)).output == "ann gets 3"

    asyncio.run(main())


# --- fail


def test_a_fail_step_fails_with_its_message():
    steps = [
        {"id": "few", "fail": "${inputs.n} are too many", "when": "${inputs.n > 5}"},
        {"id": "told", "set": "${inputs.n}", "after": ["few"]},
    ]
    plan = {**ASKS, "steps": steps, "output": "${told}"}
    assert codes(plan) == set()
    with Engine([], store="memory:") as engine:
        assert engine.run_sync(plan).output == 3
        run = engine.run_sync(plan, inputs={"n": 7})
        assert (run.status, run.errors[0].code, run.errors[0].message) == ("failed", "fail", "7 are too many")
        assert run.steps["told"].status == "skipped"
        assert engine.replay_sync(run.id).digest == run.digest


def test_the_message_of_a_fail_step_is_text():
    assert codes({"firmplan": 1, "steps": [{"id": "f", "fail": "${1}"}]}) == {"type-mismatch"}
    assert codes({"firmplan": 1, "steps": [{"id": "f", "fail": 1}]}) == {"bad-shape"}


# --- command line, HTTP and builder


def test_a_builder_writes_both():
    """The steps of a builder are those of the format."""
    p = PlanBuilder()
    n = p.input("n", int)
    p.fail("too many", when=n > 5, id="few")
    p.output(p.ask_person("Who?", returns=bool, expires="1h", after=["few"]))
    steps = p.build().to_dict()["steps"]
    assert steps == [
        {"id": "few", "fail": "too many", "when": "${inputs.n > 5}"},
        {
            "id": "answer",
            "ask_person": "Who?",
            "returns": {"type": "boolean"},
            "expires": "1h",
            "after": ["few"],
        },
    ]
