"""Contract, 1 and 3: approvals of every kind, and what people decide: approve, deny, resolve, cancel."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from firmplan import (
    ConfigError,
    Context,
    Engine,
    InputRejected,
    OutcomeUnknown,
    PlanRejected,
    Run,
    RunNotFound,
    tool,
)
from public import call, once, plan, within


class Bank:
    """A write behind an approval, and what it saw."""

    def __init__(self, approval: Any = "always", **options: Any) -> None:
        self.paid: list[tuple[str, float, str]] = []

        @tool(effect="write", approval=approval, resource="bank", **options)
        def pay(to: str, amount: float, *, ctx: Context) -> str:
            """Pay."""
            self.paid.append((to, amount, ctx.idempotency_key))
            return f"paid {to} {amount:g}"

        self.pay = pay


@tool(effect="read", trust="untrusted")
def inbox() -> dict[str, str]:
    """Read mail from outside."""
    return {"from": "eve", "amount": "9"}


@tool(effect="pure")
def number(text: str) -> float:
    """Read a number."""
    return float(text)


@tool(effect="pure")
def echo(x: str) -> str:
    """Return it."""
    return x


PAY = plan(
    call("p", "pay", args={"to": "bob", "amount": 5}),
    call("e", "echo", args={"x": "${p}"}),
    call("f", "echo", args={"x": "free"}),
    output="${e}",
)


def test_approval_always_waits_for_a_person(tmp_path: Path):
    """`approval="always"`: a person is asked; what does not depend on it goes on."""
    bank = Bank()

    async def go() -> tuple[Run, Run, Run]:
        async with Engine([bank.pay, echo], store=tmp_path / "s.db") as engine:
            waiting = await engine.run(PAY, run_id="r")
            assert bank.paid == []
            approved = await engine.approve("r", "p", by="ann")
            return waiting, approved, await engine.resume("r")

    waiting, approved, done = within(go())
    assert waiting.status == "waiting"
    assert (waiting.steps["p"].status, waiting.steps["e"].status, waiting.steps["f"].status) == (
        "waiting",
        "pending",
        "succeeded",
    )
    assert waiting.steps["p"].reason == "approval"
    assert waiting.output is None
    assert waiting.errors == ()
    assert isinstance(approved, Run)
    assert (done.status, done.output) == ("succeeded", "paid bob 5")
    assert len(bank.paid) == 1


def test_the_live_owner_goes_on_after_a_decision(tmp_path: Path):
    """Record a decision; the live owner, or `resume`, goes on."""
    bank = Bank()
    entered: list[str] = []

    async def go() -> Run:
        held, is_in = asyncio.Event(), asyncio.Event()

        async def wait() -> int:
            entered.append("in")
            is_in.set()
            await held.wait()
            return 1

        hold = tool(wait, name="hold", effect="read", resource="other", description="Wait.")
        async with Engine([bank.pay, echo, hold], store=tmp_path / "s.db") as engine:
            await engine.submit({**PAY, "steps": [*PAY["steps"], call("h", "hold")]}, run_id="r")
            await is_in.wait()
            async for _ in engine.events("r"):
                if (await engine.get("r")).steps["p"].status == "waiting":
                    break
            await engine.approve("r", "p", by="ann")
            async for _ in engine.events("r"):
                if bank.paid:
                    break
            held.set()
            return await engine.wait("r")

    run = within(go())
    assert (run.status, run.output) == ("succeeded", "paid bob 5")


def test_an_approval_may_be_given_by_another_engine(tmp_path: Path):
    """Record a decision; the live owner, or `resume`, goes on."""
    bank = Bank()
    with Engine([bank.pay, echo], store=tmp_path / "s.db") as engine:
        assert engine.run_sync(PAY, run_id="r").status == "waiting"
    with Engine([], store=tmp_path / "s.db") as engine:
        engine.approve_sync("r", "p", by="ann")
        assert bank.paid == []
    with Engine([bank.pay, echo], store=tmp_path / "s.db") as engine:
        assert engine.resume_sync("r").output == "paid bob 5"


def test_an_edit_replaces_arguments(tmp_path: Path):
    """`approve(run_id, step, *, by, edit=None)`: an edit is recorded."""
    bank = Bank()

    async def go() -> tuple[Run, Run]:
        async with Engine([bank.pay, echo], store=tmp_path / "s.db") as engine:
            await engine.run(PAY, run_id="r")
            with pytest.raises(InputRejected):
                await engine.approve("r", "p", by="ann", edit={"amount": "much"})
            with pytest.raises(InputRejected):
                await engine.approve("r", "p", by="ann", edit={"sum": 3})
            await engine.approve("r", "p", by="ann", edit={"amount": 3})
            done = await engine.resume("r")
            return done, await engine.replay("r")

    done, replayed = within(go())
    assert done.output == "paid bob 3"
    assert [(to, amount) for to, amount, _ in bank.paid] == [("bob", 3.0)]
    assert replayed.digest == done.digest


def test_a_denial_cancels_the_dependent_cone(tmp_path: Path):
    """`deny(run_id, step, *, by, reason)`: a denial cancels the dependent cone."""
    bank = Bank()

    async def go() -> Run:
        async with Engine([bank.pay, echo], store=tmp_path / "s.db") as engine:
            steps = [*PAY["steps"], call("q", "pay", args={"to": "x", "amount": 1})]
            await engine.run({**PAY, "steps": steps}, run_id="r")
            await engine.deny("r", "p", by="ann", reason="too much")
            return await engine.resume("r")

    run = within(go())
    assert (run.steps["p"].status, run.steps["e"].status, run.steps["f"].status) == (
        "cancelled",
        "cancelled",
        "succeeded",
    )
    assert run.steps["p"].reason == "denied"
    assert (run.steps["q"].status, run.steps["q"].reason) == ("skipped", "blocked")
    assert run.status == "failed"
    assert bank.paid == []
    assert "too much" in (run.errors[0].message if run.errors else str(run.steps["p"].error))


def test_a_denial_without_a_reason_says_who_denied(tmp_path: Path):
    """No message is empty."""
    bank = Bank()
    with Engine([bank.pay, echo], store=tmp_path / "s.db") as engine:
        run = engine.run_sync(PAY)
        engine.deny_sync(run.id, "p", by="ann", reason="")
        (error,) = engine.resume_sync(run.id).errors
    assert (error.step, error.code, error.message) == ("p", "denied", "denied by ann")


def test_approval_untrusted_asks_only_for_labelled_arguments(tmp_path: Path):
    """`approval="untrusted"`: a person is asked if an argument is labelled."""
    bank = Bank("untrusted")
    clean = once([bank.pay], plan(call("p", "pay", args={"to": "bob", "amount": 5})), tmp_path / "s.db")
    assert clean.status == "succeeded"
    dirty = once(
        [bank.pay, inbox, number],
        plan(
            call("m", "inbox"),
            call("n", "number", args={"text": "${m.amount}"}),
            call("p", "pay", args={"to": "bob", "amount": "${n}"}),
        ),
        tmp_path / "s.db",
    )
    assert dirty.status == "waiting"
    assert dirty.steps["p"].status == "waiting"
    assert len(bank.paid) == 1


def test_approval_by_a_function_of_the_arguments(tmp_path: Path):
    """`approval=callable(args) -> bool`."""
    asked: list[dict[str, Any]] = []

    def is_large(args: dict[str, Any]) -> bool:
        asked.append(args)
        return args["amount"] > 100

    bank = Bank(is_large)
    steps = plan(
        call("a", "pay", args={"to": "bob", "amount": 5}), call("b", "pay", args={"to": "bob", "amount": 500})
    )
    run = once([bank.pay], steps, tmp_path / "s.db")
    assert run.status == "waiting"
    assert (run.steps["a"].status, run.steps["b"].status) == ("succeeded", "waiting")
    assert asked == [{"to": "bob", "amount": 5}, {"to": "bob", "amount": 500}]


def test_a_function_is_not_consulted_about_labelled_arguments(tmp_path: Path):
    """`approval=callable` is not consulted when an argument is labelled untrusted: then approval is asked."""
    asked: list[dict[str, Any]] = []

    def never(args: dict[str, Any]) -> bool:
        asked.append(args)
        return False

    bank = Bank(never)
    steps = plan(call("m", "inbox"), call("p", "pay", args={"to": "${m.from}", "amount": 1}))
    steps["steps"][1]["args"]["to"] = '${m["from"]}'
    run = once([bank.pay, inbox], steps, tmp_path / "s.db")
    assert run.status == "waiting"
    assert asked == []


async def ask_elsewhere(args: dict[str, Any]) -> bool:
    """Return what no rule can wait for."""
    return False


class Undecided:
    """Neither true nor false."""

    def __bool__(self) -> bool:
        raise ValueError("who knows")


@pytest.mark.parametrize(
    "rule",
    [
        lambda args: args["nothing"],
        lambda args: sys.exit(3),
        lambda args: ask_elsewhere({**args}),
        lambda args: Undecided(),
    ],
    ids=["raises", "exits", "waits", "undecided"],
)
def test_a_function_that_raises_has_a_person_asked(rule: Any, tmp_path: Path):
    """Fail closed: a rule that fails cannot say that nobody is needed."""
    bank = Bank(rule)
    run = once([bank.pay], plan(call("p", "pay", args={"to": "bob", "amount": 5})), tmp_path / "s.db")
    assert run.status == "waiting"
    assert bank.paid == []


def test_an_asynchronous_rule_is_a_config_error():
    """`approval`: callable(args) -> bool."""
    with pytest.raises(ConfigError, match="expected a function that returns a bool"):
        Bank(ask_elsewhere)


def test_decisions_name_the_leaf(tmp_path: Path):
    """Decisions name the leaf."""
    bank = Bank()
    steps = plan(
        call("p", "pay", args={"to": "${item}", "amount": 1}, for_each=["a", "b"]),
        {"id": "s", "plan": "inner"},
        plans={"inner": {"steps": [call("q", "pay", args={"to": "c", "amount": 2})], "output": "${q}"}},
        output=["${p}", "${s}"],
    )

    async def go() -> Run:
        async with Engine([bank.pay], store=tmp_path / "s.db") as engine:
            run = await engine.run(steps, run_id="r")
            assert [run.steps[f"p[{n}]"].status for n in range(2)] == ["waiting", "waiting"]
            with pytest.raises(InputRejected):
                await engine.approve("r", "p", by="ann")
            with pytest.raises(InputRejected):
                await engine.approve("r", "s/q", by="ann")
            with pytest.raises(InputRejected):
                await engine.approve("r", "nothing", by="ann")
            for leaf in ("p[0]", "p[1]", "s/q"):
                run = await engine.resume("r")
                assert run.status == "waiting"
                assert run.steps[leaf].status == "waiting"
                await engine.approve("r", leaf, by="ann")
            return await engine.resume("r")

    run = within(go())
    assert run.status == "succeeded"
    assert run.output == [["paid a 1", "paid b 1"], "paid c 2"]


def test_a_list_is_asked_and_decided_as_one(tmp_path: Path):
    """`decide(run_id, {step: "approve" | "deny" | ..}, by=..)` for many: writes of a `for_each` are one list."""
    bank = Bank()
    steps = plan(
        call("p", "pay", args={"to": "${item}", "amount": 1}, for_each=["a", "b", "c"]), output="${p}"
    )
    with Engine([bank.pay], store=tmp_path / "s.db") as engine:
        run = engine.run_sync(steps, run_id="r")
        assert [run.steps[f"p[{n}]"].args for n in range(3)] == [{"to": to, "amount": 1} for to in "abc"]
        for wrong in ({}, [], {"p": "perhaps"}, {"p[0]": "approve", "p[9]": "approve"}, {5: "approve"}):
            with pytest.raises(InputRejected):
                engine.decide_sync("r", wrong, by="me")  # type: ignore[arg-type]
        with pytest.raises(InputRejected, match="by: expected the name of who decides"):
            engine.decide_sync("r", {"p": "approve"}, by="")
        with pytest.raises(RunNotFound):
            engine.decide_sync("none", {"p": "approve"}, by="me")
        engine.decide_sync("r", {"p[1]": {"approve": True, "edit": {"amount": 7}}, "p": "approve"}, by="me")
        assert bank.paid == []
        assert engine.resume_sync("r").output == ["paid a 1", "paid b 7", "paid c 1"]
        run = engine.run_sync(steps, run_id="s")
        engine.decide_sync("s", {"p[0]": "approve", "p[1]": "deny", "p[2]": "approve"}, by="me")
        run = engine.resume_sync("s")
    assert [run.steps[f"p[{n}]"].reason for n in range(3)] == [None, "denied", "blocked"]
    assert [to for to, _, _ in bank.paid] == ["a", "b", "c", "a"]


def test_decisions_about_what_does_not_wait_are_rejected(tmp_path: Path):
    """Raised are only .. `InputRejected`, `RunNotFound` ..."""
    bank = Bank()
    with Engine([bank.pay, echo], store=tmp_path / "s.db") as engine:
        for decide in (
            lambda: engine.approve_sync("none", "p", by="me"),
            lambda: engine.deny_sync("none", "p", by="me", reason="x"),
            lambda: engine.resolve_sync("none", "p", done=1),
            lambda: engine.cancel_sync("none"),
            lambda: engine.resume_sync("none"),
            lambda: engine.wait_sync("none"),
            lambda: engine.get_sync("none"),
            lambda: engine.replay_sync("none"),
        ):
            with pytest.raises(RunNotFound) as caught:
                decide()
            assert caught.value.code == "run-not-found"
        engine.run_sync(PAY, run_id="r")
        with pytest.raises(InputRejected):
            engine.approve_sync("r", "f", by="me")
        with pytest.raises(InputRejected):
            engine.resolve_sync("r", "p", done=1)
        with pytest.raises(InputRejected):
            engine.deny_sync("r", "e", by="me", reason="x")
        engine.approve_sync("r", "p", by="me")
        with pytest.raises(InputRejected):
            engine.deny_sync("r", "p", by="me", reason="too late")
        assert engine.resume_sync("r").status == "succeeded"


def loser(calls: list[Any]) -> Any:
    @tool(effect="write", resource="a")
    def lose(x: int, *, ctx: Context) -> int:
        """Lose, the first time."""
        calls.append((x, ctx.attempt, ctx.idempotency_key))
        if len(calls) == 1:
            raise OutcomeUnknown("?")
        return x

    return lose


LOSE = plan(
    call("s", "lose", args={"x": 4}, on_error="skip", retries=0),
    call("t", "lose", args={"x": 5}),
    {"id": "u", "set": "${s + 1}"},
    output=["${s}", "${t}", "${u}"],
)


def lost(tmp_path: Path, calls: list[Any], **decision: Any) -> Run:
    async def go() -> Run:
        async with Engine([loser(calls)], store=tmp_path / "s.db") as engine:
            run = await engine.run(LOSE, run_id="r")
            assert run.status == "indeterminate"
            await engine.resolve("r", "s", **decision)
            return await engine.resume("r")

    return within(go())


def test_resolve_done_gives_the_value(tmp_path: Path):
    """`resolve(run_id, step, done=value)`."""
    calls: list[Any] = []
    run = lost(tmp_path, calls, done=40)
    assert (run.status, run.output) == ("succeeded", [40, 5, 41])
    assert len(calls) == 2


def test_resolve_retry_calls_again_with_the_same_key(tmp_path: Path):
    """`resolve(.., retry=True)`."""
    calls: list[Any] = []
    run = lost(tmp_path, calls, retry=True)
    assert (run.status, run.output) == ("succeeded", [4, 5, 5])
    assert calls[0][2] == calls[1][2]
    assert (calls[0][1], calls[1][1]) == (1, 2)


def test_resolve_fail_is_a_failure(tmp_path: Path):
    """`resolve(.., fail="why")`: a failure, which `on_error` handles."""
    calls: list[Any] = []
    run = lost(tmp_path, calls, fail="it did nothing")
    assert run.steps["s"].status == "skipped"
    assert run.steps["u"].status == "skipped"
    assert run.steps["t"].status == "succeeded"
    assert run.status == "succeeded"
    assert run.output is None


def test_resolve_takes_exactly_one_answer_that_fits(tmp_path: Path):
    """`resolve(run_id, step, done=value)` or `(.., retry=True)` or `(.., fail="why")`."""
    calls: list[Any] = []

    async def go() -> None:
        async with Engine([loser(calls)], store=tmp_path / "s.db") as engine:
            await engine.run(LOSE, run_id="r")
            for wrong in ({}, {"done": 1, "retry": True}, {"retry": True, "fail": "x"}, {"done": "text"}):
                with pytest.raises(InputRejected):
                    await engine.resolve("r", "s", **wrong)
            assert (await engine.get("r")).status == "indeterminate"

    within(go())


def test_done_may_be_null(tmp_path: Path):
    """`done=value`: null is a value."""

    @tool(effect="write")
    def lose() -> None:
        """Lose."""
        raise OutcomeUnknown("?")

    async def go() -> Run:
        async with Engine([lose], store=tmp_path / "s.db") as engine:
            await engine.run(plan(call("s", "lose"), output=["${s}"]), run_id="r")
            await engine.resolve("r", "s", done=None)
            return await engine.resume("r")

    run = within(go())
    assert (run.status, run.output) == ("succeeded", [None])


def test_the_worst_status_wins(tmp_path: Path):
    """The worst of indeterminate, waiting, over_budget wins."""
    calls: list[Any] = []
    bank = Bank()

    @tool(effect="pure", version="1")
    def compute(x: int) -> int:
        """Compute."""
        return x

    steps = plan(
        call("s", "lose", args={"x": 1}),
        call("p", "pay", args={"to": "bob", "amount": 5}),
    )

    async def go() -> list[str]:
        async with Engine([loser(calls), bank.pay, compute], store=tmp_path / "s.db") as engine:
            found = [(await engine.run(steps, run_id="r")).status]
            await engine.resolve("r", "s", done=1)
            found.append((await engine.resume("r")).status)
            await engine.approve("r", "p", by="me")
            found.append((await engine.resume("r")).status)
            return found

    assert within(go()) == ["indeterminate", "waiting", "succeeded"]


def test_waiting_is_worse_than_over_budget(tmp_path: Path):
    """The worst of indeterminate, waiting, over_budget wins."""
    bank = Bank()
    steps = plan(
        call("p", "pay", args={"to": "bob", "amount": 5}),
        call("e", "echo", args={"x": "1"}),
        call("f", "echo", args={"x": "2"}),
    )

    async def go() -> list[str]:
        async with Engine([bank.pay, echo], store=tmp_path / "s.db") as engine:
            found = [(await engine.run(steps, run_id="r", budget={"steps": 1})).status]
            await engine.deny("r", "p", by="me", reason="no")
            found.append((await engine.resume("r")).status)
            return found

    assert within(go()) == ["waiting", "over_budget"]


def test_cancel_ends_a_waiting_run(tmp_path: Path):
    """`cancel(run_id)`."""
    bank = Bank()
    with Engine([bank.pay, echo], store=tmp_path / "s.db") as engine:
        engine.run_sync(PAY, run_id="r")
        run = engine.cancel_sync("r")
        run = engine.resume_sync("r")
        assert run.status == "cancelled"
        assert (run.steps["p"].status, run.steps["e"].status) == ("cancelled", "cancelled")
        assert run.steps["f"].status == "succeeded"
        assert run.output is None
        assert engine.cancel_sync("r").status == "cancelled"
        with pytest.raises(InputRejected):
            engine.approve_sync("r", "p", by="me")
    assert bank.paid == []


def test_cancel_stops_a_running_read_and_lets_a_write_end(tmp_path: Path):
    """A cancel: nothing new starts."""
    started: list[str] = []

    async def go() -> Run:
        both, release = asyncio.Event(), asyncio.Event()

        async def look(*, ctx: Context) -> int:
            started.append(ctx.step)
            if len(started) == 2:
                both.set()
            await asyncio.Event().wait()
            return 1

        async def put(*, ctx: Context) -> int:
            started.append(ctx.step)
            if len(started) == 2:
                both.set()
            await release.wait()
            return 1

        tools = [
            tool(look, name="look", effect="read", resource="a", description="Wait."),
            tool(put, name="put", effect="write", resource="b", description="Wait."),
        ]
        async with Engine(tools, store=tmp_path / "s.db") as engine:
            await engine.submit(
                plan(call("r", "look"), call("w", "put"), call("x", "put", after=["w"])), run_id="r"
            )
            await both.wait()
            await engine.cancel("r")
            release.set()
            return await engine.wait("r")

    run = within(go())
    assert run.status == "cancelled"
    assert run.steps["r"].status == "cancelled"
    assert run.steps["w"].status == "succeeded"
    assert run.steps["x"].status == "cancelled"
    assert sorted(started) == ["r", "w"]


def test_unsafe_flow_is_refused_unless_allowed_or_approved(tmp_path: Path):
    """A labelled value at an argument of a `write` is `unsafe-flow`, unless `allow_untrusted` or an approval."""

    @tool(effect="write")
    def send(body: str) -> None:
        """Send."""

    @tool(effect="write", allow_untrusted=("body",))
    def send_any(body: str) -> None:
        """Send."""

    steps = plan(call("m", "inbox"), call("s", "send", args={"body": '${m["from"]}'}))
    with pytest.raises(PlanRejected) as caught:
        once([inbox, send], steps, tmp_path / "s.db")
    assert [each.code for each in caught.value.report.problems if each.severity == "error"] == ["unsafe-flow"]
    allowed = plan(call("m", "inbox"), call("s", "send_any", args={"body": '${m["from"]}'}))
    assert once([inbox, send_any], allowed, tmp_path / "s.db").status == "succeeded"
    for flow in ("warn", "off"):
        assert once([inbox, send], steps, tmp_path / "s.db", engine={"flow": flow}).status == "succeeded"


def test_explain_says_who_decided_what_and_when(tmp_path: Path):
    """The sentence and the JSON name the decision, the person, the time and the reason; what depends on a denied call names it."""
    bank = Bank()

    def decided(engine: Engine, what: str) -> Run:
        run = engine.run_sync(PAY)
        if what == "approved":
            engine.approve_sync(run.id, "p", by="ann", edit={"amount": 7})
        else:
            engine.deny_sync(run.id, "p", by="bob", reason="too late")
        return engine.resume_sync(run.id)

    with Engine([bank.pay, echo], store=tmp_path / "s.db") as engine:
        run = decided(engine, "approved")
        (at,) = [event.at for event in engine.events_sync(run.id) if event.type == "Approved"]
        told = engine.explain_sync(run.id, "p")
        when = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        assert str(told) == (
            "step 'p' ran because a write is never reused; "
            f"its call was approved with other arguments by ann at {when}"
        )
        assert told.to_dict()["decisions"] == [
            {"decision": "approved", "at": at, "by": "ann", "reason": "", "edited": True}
        ]
        denied = decided(engine, "denied")
        told = engine.explain_sync(denied.id, "p")
        assert str(told).startswith("step 'p' was cancelled; its call was denied by bob at ")
        assert str(told).endswith(" UTC: too late")
        assert str(engine.explain_sync(denied.id, "e")) == "step 'e' was cancelled because it depends on 'p'"
        assert engine.explain_sync(denied.id, "f").to_dict()["decisions"] == []


@pytest.mark.parametrize(
    ("verdict", "words"),
    [({"done": "ok"}, "resolved as done at "), ({"fail": "lost"}, "resolved as failed at ")],
)
def test_explain_says_how_a_call_was_resolved(verdict: dict[str, Any], words: str):
    """A call of unknown outcome tells what a person said became of it, and when."""

    @tool(effect="write")
    def lose() -> str:
        """Lose the answer."""
        raise OutcomeUnknown("gone")

    with Engine([lose], store="memory:") as engine:
        run = engine.run_sync(plan(call("p", "lose"), output="${p}"))
        engine.resolve_sync(run.id, "p", **verdict)
        engine.resume_sync(run.id)
        told = engine.explain_sync(run.id, "p")
    assert words in str(told)
    assert str(told).endswith(": lost" if "fail" in verdict else " UTC")


@pytest.mark.parametrize("by", ["", "  ", None, 5])
def test_a_decision_names_who_made_it(by: Any):
    """An approval or a denial without a name is refused, and the call still waits."""
    bank = Bank()
    with Engine([bank.pay, echo], store="memory:") as engine:
        run = engine.run_sync(PAY)
        with pytest.raises(InputRejected, match="by: expected the name of who decides"):
            engine.approve_sync(run.id, "p", by=by)
        with pytest.raises(InputRejected, match="by: expected the name of who decides"):
            engine.deny_sync(run.id, "p", by=by, reason="no")
        with pytest.raises(InputRejected, match="edit: expected an object of arguments by name"):
            engine.approve_sync(run.id, "p", by="me", edit=[1])  # type: ignore[arg-type]
        assert engine.get_sync(run.id).status == "waiting"
        assert bank.paid == []
