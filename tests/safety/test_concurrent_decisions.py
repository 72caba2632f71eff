"""Two processes decide about one attempt at the same moment: one decision stands, and the other process is told which."""

from __future__ import annotations

import json
from pathlib import Path

import decision_child
import pytest
from firmplan import Engine, InputRejected, OutcomeUnknown, tool
from forked import Program
from public import call, plan

ROUNDS = 20
CHILD = Path(decision_child.__file__)
PAY = plan(call("p", "pay", args={"amount": 5}), output="${p}")


class Decider:
    """A process of `decision_child`."""

    def __init__(self, store, name):
        self.name = name
        self.process = Program([CHILD, store, name], stdin=True)

    def tell(self, run, what, **more):
        self.process.stdin.write(json.dumps({"run": run, "step": "p", "what": what, **more}) + "\n")
        self.process.stdin.flush()

    def answer(self):
        return json.loads(self.process.stdout.readline())


@pytest.fixture(params=["file", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request, tmp_path):
    return str(tmp_path / "s.db") if request.param == "file" else request.getfixturevalue("postgres_url")


@pytest.fixture
def deciders(store):
    """Two processes on the store, ready."""
    with Engine([], store=store) as engine:
        engine.list_runs_sync()
    started = [Decider(store, name) for name in ("ann", "bob")]
    for each in started:
        assert each.answer() == {"ready": each.name}
    yield started
    for each in started:
        each.process.kill()
        each.process.communicate()


def decided_at_once(deciders, run, words):
    """Have both decide at once; return who was accepted, and what the other was told."""
    for each, word in zip(deciders, words, strict=True):
        each.tell(run, word)
    answers = {each.name: each.answer() for each in deciders}
    accepted = [name for name, answer in answers.items() if answer["code"] is None]
    assert len(accepted) == 1, answers
    (other,) = set(answers) - set(accepted)
    assert answers[other]["code"] == "decided", answers
    return accepted[0], answers[other]["message"]


def test_of_an_approval_and_a_denial_at_once_one_stands(store, deciders):
    """The loser's message names who decided what and when; the payment is made exactly where the approval stands."""
    paid = []

    @tool(effect="write", approval="always")
    def pay(amount: int) -> str:
        """Pay."""
        paid.append(amount)
        return "paid"

    with Engine([pay], store=store) as engine:
        for number in range(ROUNDS):
            run_id, before = f"r{number}", len(paid)
            assert engine.run_sync(PAY, run_id=run_id).steps["p"].attempt == 1
            words = ("approve", "deny") if number % 2 else ("deny", "approve")
            winner, message = decided_at_once(deciders, run_id, words)
            is_approved = dict(zip(("ann", "bob"), words, strict=True))[winner] == "approve"
            assert (
                f"step 'p', attempt 1, is decided already: {'approved' if is_approved else 'denied'} by {winner} at "
                in message
            )
            run = engine.resume_sync(run_id)
            assert (run.status == "succeeded") is is_approved
            assert len(paid) - before == is_approved
            assert run.steps["p"].decision["by"] == winner
            decisions = [e for e in engine.events_sync(run_id) if e.type in ("Approved", "Denied")]
            assert [(e.data["by"], e.data["attempt"]) for e in decisions] == [(winner, 1)]


def test_of_done_and_retry_at_once_one_stands(store, deciders):
    """A write that a person has called done is not called again."""
    sent = []

    @tool(effect="write")
    def pay(amount: int) -> str:
        """Pay, and lose the answer the first time."""
        sent.append(amount)
        if len(sent) % 2:
            raise OutcomeUnknown("?")
        return "paid"

    with Engine([pay], store=store) as engine:
        for number in range(ROUNDS):
            sent.clear()
            run_id = f"r{number}"
            assert engine.run_sync(PAY, run_id=run_id).steps["p"].attempt == 1
            words = ("done", "retry") if number % 2 else ("retry", "done")
            winner, message = decided_at_once(deciders, run_id, words)
            is_done = dict(zip(("ann", "bob"), words, strict=True))[winner] == "done"
            what = "resolved as done" if is_done else "resolved to be called again"
            assert (
                f"the outcome of step 'p', attempt 1, is decided already: {what} by {winner} at " in message
            )
            run = engine.resume_sync(run_id)
            assert (run.status, run.output) == ("succeeded", "found" if is_done else "paid")
            assert len(sent) == (1 if is_done else 2)


def test_a_late_decision_about_one_attempt_is_not_applied_to_the_next(store, deciders):
    """Ann has attempt 1 called again, and that gets lost too; what Bob says late about attempt 1 says nothing about attempt 2."""
    sent = []

    @tool(effect="write")
    def pay(amount: int) -> str:
        """Pay, and lose the answer."""
        sent.append(amount)
        raise OutcomeUnknown("?")

    ann, bob = deciders
    with Engine([pay], store=store) as engine:
        engine.run_sync(PAY, run_id="r")
        ann.tell("r", "retry", attempt=1)
        assert ann.answer()["code"] is None
        run = engine.resume_sync("r")
        assert (run.status, run.steps["p"].attempt, len(sent)) == ("indeterminate", 2, 2)
        for word in ("retry", "done", "fail"):
            bob.tell("r", word, attempt=1)
            answer = bob.answer()
            assert answer["code"] == "decided"
            assert (
                "attempt 1, is decided already: resolved to be called again by ann at " in answer["message"]
            )
        ann.tell("r", "retry", attempt=1)  # her own, once more
        assert ann.answer()["code"] is None
        bob.tell("r", "retry", attempt=3)
        assert bob.answer()["code"] == "input-rejected"
        run = engine.resume_sync("r")
        assert (run.status, run.steps["p"].attempt, len(sent)) == ("indeterminate", 2, 2)
        bob.tell("r", "done", attempt=2)
        assert bob.answer()["code"] is None
        assert engine.resume_sync("r").output == "found"
        assert len(sent) == 2
        with pytest.raises(InputRejected) as caught:
            engine.resolve_sync("r", "p", fail="no", by="eve")
        assert caught.value.code == "decided"
        assert "attempt 2, is decided already: resolved as done by bob at " in caught.value.message
