"""Retry: a failed or cancelled run goes on as a new run; what succeeded stands, what failed or was not reached runs."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from firmplan import (
    Context,
    Engine,
    InputRejected,
    Model,
    OutcomeUnknown,
    PlanningFailed,
    PlanRejected,
    RunNotFound,
    ToolError,
    tool,
)
from firmplan.executor.canonical_value import CanonicalValue
from firmplan.executor.events import CallSucceeded
from firmplan.executor.fork import Fork, Inherited, PastWrite, retry_of
from firmplan.testing import FakeClock, MemoryStore, ScriptedModel, ScriptedTool
from public import call, plan, statuses, within
from waiting_for import until


class Desk:
    """Tools that note their calls, and fail for the values in `bad`."""

    def __init__(self, *bad, **write):
        self.calls, self.bad, self.keys = [], set(bad), []

        def made(name, effect, resource, **options):
            def called(x: int) -> int:
                self.calls.append((name, x))
                if x in self.bad:
                    raise ToolError("not now")
                return x + 1

            return ScriptedTool(name, called, effect=effect, version="1", resource=resource, **options)

        self.tools = [
            made("look", "read", "none"),
            made("send", "write", "mail", **write),
            made("pay", "write", "till"),
        ]

    def taken(self):
        """Return the calls since the last look, and forget them."""
        found, self.calls[:] = list(self.calls), []
        return sorted(found)


STEPS = plan(
    call("a", "look", args={"x": 1}),
    call("s", "send", args={"x": "${a}"}),
    call("b", "look", args={"x": 50}),
    call("p", "pay", args={"x": "${b}"}),
    call("e", "send", args={"x": "${p}"}, after=["s"]),
    output=["${s}", "${e}"],
)


def failed(work, desk, steps=STEPS, **options):
    """Run a plan as `one`, which fails, then do the work with its engine."""

    async def main():
        async with Engine(desk.tools, store="memory:", clock=FakeClock(), **options) as engine:
            run = await engine.run(steps, run_id="one")
            assert run.status == "failed"
            desk.taken()
            desk.bad.clear()
            return await work(engine, run)

    return within(main())


def test_what_succeeded_stands_and_the_rest_runs():
    """Reads and writes that succeeded are not called; the failed read and the writes behind it are, without an approval."""
    desk = Desk(50)

    async def work(engine, run):
        assert statuses(run) == {
            "a": "succeeded",
            "s": "succeeded",
            "b": "failed",
            "p": "skipped",
            "e": "skipped",
        }
        done = await engine.retry("one")
        assert desk.taken() == [("look", 50), ("pay", 51), ("send", 52)]
        assert (done.status, done.output, done.parent) == ("succeeded", [3, 53], "one")
        assert [path for path, step in done.steps.items() if step.reused] == ["a", "s"]
        assert (await engine.replay(done.id)).digest == done.digest
        assert (await engine.get("one")) == run
        told = str(await engine.explain(done.id, "a"))
        assert "was taken from its parent one, where it succeeded" in told

    failed(work, desk)


def test_a_write_that_failed_for_sure_is_called_again_unasked():
    """Under a key of its own: the failed call did nothing."""
    keys = []

    @tool(effect="write", version=1)
    def pay(x: int, *, ctx: Context) -> int:
        """Pay."""
        keys.append(ctx.idempotency_key)
        if len(keys) == 1:
            raise ToolError("no money")
        return x

    async def main():
        async with Engine([pay], store="memory:") as engine:
            await engine.run(plan(call("p", "pay", args={"x": 1}), output="${p}"), run_id="one")
            return await engine.retry("one")

    assert within(main()).output == 1
    assert len(set(keys)) == 2


def test_the_tool_s_own_approval_is_asked_for_again():
    """What the parent never called, or what failed, needs no approval of the retry's, but the tool's policy holds."""
    desk = Desk(50, approval="always")

    async def work(engine, run):
        again = await engine.retry("one")
        assert statuses(again) == {
            "a": "succeeded",
            "s": "succeeded",
            "b": "succeeded",
            "p": "succeeded",
            "e": "waiting",
        }
        await engine.approve(again.id, "e", by="ann")
        assert (await engine.resume(again.id)).status == "succeeded"
        assert desk.taken() == [("look", 50), ("pay", 51), ("send", 52)]

    async def main():
        async with Engine(desk.tools, store="memory:") as engine:
            await engine.run(STEPS, run_id="one")
            await engine.approve("one", "s", by="ann")
            run = await engine.resume("one")
            assert run.status == "failed"
            desk.taken()
            desk.bad.clear()
            await work(engine, run)

    within(main())


EACH = plan(
    {"id": "s", "tool": "send", "for_each": "${[1, 2, 3, 4]}", "args": {"x": "${item}"}},
    {"id": "sub", "plan": "inner", "for_each": "${[10, 20]}", "args": {"n": "${item}"}},
    {
        "id": "r",
        "tool": "look",
        "args": {"x": "${first(prev, 0)}"},
        "repeat": {"until": "${r > 2}", "max": 5},
    },
    plans={
        "inner": {
            "inputs": {"n": {"type": "integer"}},
            "steps": [call("i", "pay", args={"x": "${inputs.n}"}), call("j", "look", args={"x": "${i}"})],
            "output": "${j}",
        }
    },
    output=["${s}", "${sub}", "${r}"],
)


def test_items_iterations_and_inner_steps_stand_one_by_one():
    """Of a list the items that are done, of a sub-plan the steps, of a repeated step the iterations."""
    desk = Desk(3, 21, 2)

    async def work(engine, run):
        done = await engine.retry("one")
        assert desk.taken() == [("look", 2), ("look", 21), ("send", 2), ("send", 3), ("send", 4)]
        assert done.output == [[2, 3, 4, 5], [12, 22], 3]

    failed(work, desk, EACH)


def test_a_failure_that_on_error_handled_stands():
    """The step succeeded with the value of `on_error`, and what came after went on with that."""
    steps = plan(
        call("h", "look", args={"x": 7}, on_error={"value": 70}),
        call("k", "look", args={"x": 8}, on_error="skip"),
        call("s", "send", args={"x": "${h}"}),
        call("b", "look", args={"x": 50}),
        output=["${s}", "${b}"],
    )
    desk = Desk(7, 8, 50)

    async def work(engine, run):
        done = await engine.retry("one")
        assert desk.taken() == [("look", 50)]
        assert (done.output, done.steps["h"].output, statuses(done)["k"]) == ([71, 51], 70, "skipped")

    failed(work, desk, steps)


def test_a_step_that_only_ran_out_of_iterations_begins_anew():
    """None of its calls failed: with the same results it would fail in the same way. A repeated write is not called again."""
    answers = iter(range(10))
    ask = ScriptedTool("ask", lambda: next(answers), effect="read", version="1", reuse_for="forever")
    sent = []
    note = ScriptedTool("note", lambda: sent.append(1) or len(sent), effect="write", version="1")
    steps = plan(
        {"id": "a", "tool": "ask", "args": {}, "repeat": {"until": "${a > 3}", "max": 3}},
        {"id": "n", "tool": "note", "args": {}, "repeat": {"until": "${n > 3}", "max": 2}},
    )

    async def main():
        async with Engine([ask, note], store="memory:") as engine:
            run = await engine.run(steps, run_id="one")
            assert {error.code for error in run.errors} == {"repeat-exhausted"}
            again = await engine.retry("one")
            return statuses(again), len(sent)

    found, count = within(main())
    assert (found["a"], found["n"], count) == ("succeeded", "failed", 2)


def test_a_repeated_inner_plan_that_only_ran_out_of_iterations_begins_anew():
    """With all calls inside it; one with a write in it is not repeated."""
    desk, answers = Desk(), iter(range(10))
    ask = ScriptedTool("ask", lambda: next(answers), effect="read", version="1", resource="none")
    inner = {"steps": [call("a", "ask")], "output": "${a}"}
    writing = {"steps": [call("s", "send", args={"x": 1}), {"id": "n", "set": 0}], "output": "${n}"}
    steps = plan(
        {"id": "r", "plan": "inner", "repeat": {"until": "${r > 3}", "max": 3}},
        {"id": "w", "plan": "writing", "repeat": {"until": "${w > 3}", "max": 2}},
        plans={"inner": inner, "writing": writing},
    )

    async def main():
        async with Engine([ask, *desk.tools], store="memory:") as engine:
            run = await engine.run(steps, run_id="one")
            assert {error.code for error in run.errors} == {"repeat-exhausted"}
            assert desk.taken() == [("send", 1), ("send", 1)]
            again = await engine.retry("one")
            return statuses(again)

    found = within(main())
    assert (found["r"], found["w"]) == ("succeeded", "failed")
    assert desk.taken() == []


def test_a_failed_write_that_an_agent_was_shown_stands():
    """The agent ran out of turns: the retry repeats none of its writes, neither those that succeeded nor those that failed."""
    desk = Desk(50)
    iterations = [{"reasoning": "try", "call": {"tool": "pay", "args": {"x": x}}} for x in (50, 1)]
    agent = {"goal": "Pay", "tools": ["pay"], "returns": {"type": "integer"}, "max_steps": 2}

    async def main():
        async with ScriptedModel(iterations) as model:
            models = {"default": Model("m", base_url=model.base_url)}
            async with Engine(desk.tools, store="memory:", models=models) as engine:
                run = await engine.run(plan({"id": "g", "agent": agent}), run_id="one")
                assert [(error.step, error.code) for error in run.errors] == [("g", "agent-exhausted")]
                assert (run.steps["g/act0"].status, desk.taken()) == ("failed", [("pay", 1), ("pay", 50)])
                again = await engine.retry("one")
                assert (again.status, again.steps["g/act0"].status) == ("failed", "failed")

    within(main())
    assert desk.taken() == []


def test_a_write_that_a_fork_was_to_ask_about_is_asked_about_by_its_retry():
    """The fork never came to it, so that its own journal does not tell that the write was made: the fork's header does."""
    args = "sha256:a"
    settled = dict.fromkeys(("made", "reached", "beside", "lost"), args)
    fork = Fork(cone=("made", "reached", "lost"), holds="made", settled=settled)
    reached = {"reached": Inherited(args, CallSucceeded("reached", CanonicalValue(b"1")), args)}
    lost = PastWrite("unknown", "one", args, "key")
    found = retry_of(SimpleNamespace(fork=fork, iterations={}), reached, {"lost": lost})
    assert found.past_writes == {"made": PastWrite("done", args=args), "lost": lost}
    assert [found.is_held(path, "send", args) for path in settled] == [True, True, False, True]


def test_a_write_of_unknown_outcome_waits_and_goes_out_under_the_parent_s_key():
    """The first attempt was lost and the second failed: nobody knows what the first one did."""
    keys = []

    @tool(effect="write", idempotent=True, retries=1, version=1)
    def pay(x: int, *, ctx: Context) -> int:
        """Pay."""
        keys.append(ctx.idempotency_key)
        match len(keys):
            case 1:
                raise OutcomeUnknown("cut off")
            case 2:
                raise ToolError("no such account")
            case _:
                return x

    async def main():
        async with Engine([pay], store="memory:", clock=FakeClock()) as engine:
            run = await engine.run(plan(call("p", "pay", args={"x": 1}), output="${p}"), run_id="one")
            assert run.status == "failed"
            again = await engine.retry("one")
            assert (again.status, again.steps["p"].past_write["outcome"]) == ("waiting", "unknown")
            await engine.cancel(again.id)
            third = await engine.retry(again.id)
            assert statuses(third) == {"p": "waiting"}
            await engine.approve(third.id, "p", by="ann")
            return await engine.resume(third.id)

    assert within(main()).output == 1
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_a_write_whose_result_was_refused_waits():
    """It is done: a person decides, and an approved call has the parent's key."""
    keys = []

    @tool(effect="write", idempotent=True, version=1)
    def pay(x: int, *, ctx: Context) -> int:
        """Pay."""
        keys.append(ctx.idempotency_key)
        return "receipt" if len(keys) == 1 else x  # type: ignore[return-value]

    async def main():
        async with Engine([pay], store="memory:") as engine:
            await engine.run(plan(call("p", "pay", args={"x": 1}), output="${p}"), run_id="one")
            again = await engine.retry("one")
            assert (again.status, again.steps["p"].past_write["outcome"]) == ("waiting", "refused")
            await engine.approve(again.id, "p", by="ann")
            return await engine.resume(again.id)

    assert within(main()).output == 1
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_what_a_person_denied_is_not_done_by_a_retry_unasked():
    """Neither where the tool asks, nor where a fork asked."""
    desk = Desk()

    async def main():
        async with Engine(desk.tools, store="memory:") as engine:
            await engine.run(STEPS, run_id="one")
            fork = await engine.fork("one", at="s")
            await engine.deny(fork.id, "s", by="ann", reason="once is enough")
            assert (await engine.resume(fork.id)).status == "failed"
            return (await engine.retry(fork.id)).steps["s"]

    step = within(main())
    assert (step.status, step.past_write["outcome"]) == ("waiting", "denied")


def test_a_retry_of_a_fork_asks_for_what_the_fork_was_to_ask():
    """The fork was cancelled while an affected write waited for a person: the retry does not make it unasked."""
    desk = Desk()

    async def main():
        async with Engine(desk.tools, store="memory:") as engine:
            await engine.run(STEPS, run_id="one")
            desk.taken()
            fork = await engine.fork("one", at="s")
            await engine.cancel(fork.id)
            again = await engine.retry(fork.id)
            assert (again.status, statuses(again)["s"]) == ("waiting", "waiting")
            assert desk.taken() == []

    within(main())


def test_a_cancelled_run_goes_on():
    """What was cut off or not begun runs."""
    began, gate, calls = asyncio.Event(), asyncio.Event(), []

    @tool(effect="read", version=1)
    async def look(x: int) -> int:
        """Look, in a while."""
        calls.append(x)
        if x == 2:
            began.set()
            await gate.wait()
        return x

    async def main():
        async with Engine([look], store="memory:") as engine:
            steps = plan(
                call("a", "look", args={"x": 1}), call("b", "look", args={"x": "${a + 1}"}), output="${b}"
            )
            await engine.submit(steps, run_id="one")
            await began.wait()
            await engine.cancel("one")
            assert (await engine.wait("one")).status == "cancelled"
            gate.set()
            return await engine.retry("one")

    done = within(main())
    assert (done.output, done.parent, calls) == (2, "one", [1, 2, 2])


def test_a_retry_uses_the_tools_as_they_are_now():
    """A mended tool is called where the run failed, and nowhere else."""

    def tools(mended):
        def look(x: int) -> int:
            return x if mended or x != 50 else 1 // 0

        return [ScriptedTool("look", look, effect="read", version=str(mended)), *Desk().tools[1:]]

    async def main():
        store = MemoryStore()
        await store.open()
        run = await Engine(tools(mended=False), store=store).run(STEPS, run_id="one")
        assert run.status == "failed"
        with pytest.raises(PlanRejected, match="unknown-tool"):
            await Engine(Desk().tools[1:], store=store).retry("one")
        return await Engine(tools(mended=True), store=store).retry("one")

    assert within(main()).status == "succeeded"


def test_repeating_a_retry_with_its_id_is_that_run():
    """Whoever lost the answer asks again; another run's retry under that id is refused."""
    desk = Desk(50)

    async def work(engine, run):
        first = await engine.submit_retry("one", run_id_new="two")
        second = await engine.retry("one", run_id_new="two")
        third = await engine.retry("one", run_id_new="two")
        assert (first.id, second.id, third.digest) == ("two", "two", second.digest)
        assert desk.taken() == [("look", 50), ("pay", 51), ("send", 52)]
        with pytest.raises(
            InputRejected, match="a run 'two' exists already, and it is not the same fork or retry"
        ):
            await engine.fork("one", run_id_new="two")
        with pytest.raises(InputRejected, match="a run 'one' exists already"):
            await engine.retry("one", run_id_new="one")
        with pytest.raises(
            InputRejected, match="a run 'two' exists already, and it is not the same fork or retry"
        ):
            await engine.retry("one", run_id_new="two", replan=1)
        first = await engine.submit_retry("one", run_id_new="three", replan=2)
        assert (await engine.submit_retry("one", run_id_new="three", replan=2)).id == first.id
        for times in (0, 1):
            with pytest.raises(
                InputRejected, match="a run 'three' exists already, and it is not the same fork or retry"
            ):
                await engine.submit_retry("one", run_id_new="three", replan=times)

    failed(work, desk)


def test_repeating_a_fork_with_its_id_is_that_run():
    """The same changes are the same fork; others are refused, as is an id that no run, or only a kept replay, may have."""
    desk = Desk()

    async def main():
        async with Engine(desk.tools, store="memory:") as engine:
            await engine.run(STEPS, run_id="one")
            desk.taken()
            first = await engine.fork("one", at="b", set={"a": 7}, allow_writes=True, run_id_new="two")
            desk.taken()
            again = await engine.fork("one", at="b", set={"a": 7}, allow_writes=True, run_id_new="two")
            assert (first.id, again.digest, desk.taken()) == ("two", first.digest, [])
            for changes in ({"at": "b"}, {"at": "a"}, {"at": "b", "set": {"a": 8}, "allow_writes": True}, {}):
                with pytest.raises(InputRejected, match="exists already"):
                    await engine.fork("one", **changes, run_id_new="two")
            await engine.run(STEPS, run_id="other")
            with pytest.raises(InputRejected, match="its parent is run one"):
                await engine.fork("other", at="b", set={"a": 7}, allow_writes=True, run_id_new="two")
            with pytest.raises(InputRejected, match="run_id_new: expected text of 1 to 128"):
                await engine.fork("one", run_id_new="a b")
            with pytest.raises(InputRejected, match="kept replays"):
                await engine.fork("one", run_id_new="replay_1")
            assert len((await engine.list_runs()).runs) == 3

    within(main())


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("succeeded", "fork it"),
        ("waiting", "approve or deny"),
        ("indeterminate", "resolve that"),
        ("over_budget", "a larger one"),
    ],
)
def test_a_run_that_has_not_failed_is_not_retried(status, told):
    """The message says what to do instead."""

    @tool(effect="write", approval="always", version=1)
    def ask(x: int) -> int:
        """Ask."""
        return x

    @tool(effect="write", version=1)
    def lose(x: int) -> int:
        """Lose."""
        raise OutcomeUnknown("cut off")

    name = {"succeeded": "look", "waiting": "ask", "indeterminate": "lose", "over_budget": "look"}[status]
    budget = {"steps": 0} if status == "over_budget" else None

    async def main():
        async with Engine([ask, lose, *Desk().tools], store="memory:") as engine:
            run = await engine.run(plan(call("a", name, args={"x": 1})), run_id="one", budget=budget)
            assert run.status == status
            with pytest.raises(InputRejected, match=told):
                await engine.retry("one")
            with pytest.raises(RunNotFound):
                await engine.retry("nobody")

    within(main())


def test_a_kept_replay_is_not_retried():
    """It made no calls of its own: the run that it tells of is retried."""
    desk = Desk(50)

    async def work(engine, run):
        kept = await engine.replay("one", keep=True)
        with pytest.raises(InputRejected, match="retry run one"):
            await engine.retry(kept.id)

    failed(work, desk)


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_resume_of_an_ended_run_names_retry(end):
    """It says that the run never changes, and calls nothing. Whoever has just decided is given the run that this has ended."""
    desk = Desk(50, approval="always")

    async def main():
        async with Engine(desk.tools, store="memory:") as engine:
            await engine.run(STEPS, run_id="one")
            if end == "failed":
                await engine.deny("one", "s", by="ann")
            else:
                await engine.cancel("one")
            run = await engine.resume("one")
            assert run.status == end
            desk.taken()
            with pytest.raises(InputRejected, match=r"never changes.*firmplan retry one"):
                await engine.resume("one")
            assert desk.taken() == []
            assert await engine.get("one") == run

    within(main())


def test_a_resume_that_a_decision_overtook_returned_the_end():
    """It began while the run went on, and a denial ended the run: whoever resumes after it makes a mistake."""

    async def main():
        began, gate = asyncio.Event(), asyncio.Event()

        async def slow(x: int) -> int:
            began.set()
            await gate.wait()
            return x

        tools = [ScriptedTool("slow", slow, effect="read", resource="none"), *Desk(approval="always").tools]
        steps = plan(call("w", "slow", args={"x": 1}), call("s", "send", args={"x": 2}))
        async with Engine(tools, store="memory:") as engine:
            await engine.submit(steps, run_id="one")
            await began.wait()
            resumed = asyncio.create_task(engine.resume("one"))
            await until(lambda: engine.get("one"), lambda run: run.steps["s"].status == "waiting")
            await engine.deny("one", "s", by="ann")
            gate.set()
            assert (await resumed).status == "failed"
            with pytest.raises(InputRejected, match="never changes"):
                await engine.resume("one")

    within(main())


def test_a_task_that_could_not_be_planned_is_planned_again():
    """It has no steps that could stand: a retry is a new planning, under the run's words and inputs."""

    async def main():
        async with Engine(Desk().tools, store="memory:") as engine:
            await engine.submit("Look at 4", run_id="one")
            assert (await engine.wait("one")).status == "failed"
            with pytest.raises(PlanningFailed):
                await engine.retry("one", run_id_new="two")
            await engine.save_plan(
                "look", {**plan(call("a", "look", args={"x": 4}), output="${a}"), "task": "Look at 4"}
            )
            return await engine.retry("one"), await engine.get("two")

    done, before = within(main())
    assert (done.output, done.parent, done.task) == (5, "one", "Look at 4")
    assert (before.status, before.parent) == ("failed", "one")
