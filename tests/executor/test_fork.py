"""Forks: what a change affects runs again, the parent's journal answers for the rest, and writes are not repeated."""

from __future__ import annotations

import asyncio

import pytest
from firmplan import (
    Context,
    Engine,
    InputRejected,
    OutcomeUnknown,
    PlanRejected,
    RunNotFound,
    ToolError,
    tool,
)
from firmplan.executor.fork import Fork, PastWrite
from firmplan.testing import FakeClock, MemoryStore, ScriptedTool
from public import call, plan, statuses, within


class Shop:
    """Tools that note their calls."""

    def __init__(self):
        self.calls = []
        self.tools = [
            self.made("look", "read"),
            self.made("price", "read", resource="shop"),
            self.made("send", "write", resource="mail"),
            self.made("inbox", "read", resource="mail"),
        ]

    def made(self, name, effect, **options):
        def called(x: int) -> int:
            self.calls.append((name, x))
            if x < 0:
                raise ToolError("negative")
            return x + 1

        options.setdefault("resource", "none")
        return ScriptedTool(name, called, effect=effect, version="1", **options)

    def taken(self):
        """Return the calls since the last look, and forget them."""
        found, self.calls[:] = list(self.calls), []
        return sorted(found)


STEPS = plan(
    call("a", "look", args={"x": "${inputs.n}"}),
    call("b", "price", args={"x": 10}),
    call("c", "look", args={"x": "${a}"}),
    {"id": "d", "set": "${b + c}"},
    call("w", "send", args={"x": "${a}"}),
    call("e", "look", args={"x": "${b}"}),
    output="${d}",
    inputs={"n": {"type": "integer"}},
)


def forked(work, steps=STEPS, **inputs):
    """Run a plan as `one`, then do the work with its engine and shop."""
    shop = Shop()

    async def main():
        async with Engine(shop.tools, store="memory:") as engine:
            run = await engine.run(steps, inputs=inputs, run_id="one")
            shop.taken()
            return await work(engine, shop, run)

    return within(main())


@pytest.mark.parametrize("change", [{}, {"at": "after"}])
def test_a_write_that_a_person_edited_is_as_made_as_any_other(change):
    """Outside the cone it is not asked for again: it was made, if not with the arguments that the plan gave it."""
    shop = Shop()
    pay = shop.made("pay", "write", resource="bank", approval="always")
    steps = plan(
        call("p", "pay", args={"x": 1}), call("after", "look", args={"x": 5}, after=["p"]), output="${p}"
    )

    async def main():
        async with Engine([*shop.tools, pay], store="memory:") as engine:
            await engine.run(steps, run_id="one")
            await engine.approve("one", "p", by="ann", edit={"x": 8})
            run = await engine.resume("one")
            assert (run.output, shop.taken()) == (9, [("look", 5), ("pay", 8)])
            fork = await engine.fork("one", **change)
            assert (fork.status, fork.output, fork.digest) == ("succeeded", 9, run.digest)
            assert shop.taken() == ([("look", 5)] if change else [])
            assert (await engine.replay(fork.id)).digest == fork.digest
            again = await engine.fork(fork.id)
            assert (again.status, again.output, shop.taken()) == ("succeeded", 9, [])
            asked = await engine.fork("one", at="p")
            assert (asked.status, asked.steps["p"].args) == ("waiting", {"x": 1})

    within(main())


def test_nothing_is_called_where_nothing_is_changed():
    """A fork without a change is the parent again, out of its journal: reads without reuse_for and writes too."""

    async def work(engine, shop, run):
        fork = await engine.fork("one")
        assert (fork.digest, fork.parent, fork.status) == (run.digest, "one", "succeeded")
        assert fork.id != "one"
        assert shop.taken() == []
        assert (await engine.replay(fork.id)).digest == run.digest

    forked(work, n=1)


def test_at_a_step_exactly_its_cone_runs():
    """The step itself, and what depends on it; not its siblings, not what comes before."""

    async def work(engine, shop, run):
        fork = await engine.fork("one", at="c")
        assert shop.taken() == [("look", 2)]
        assert fork.digest == run.digest
        assert [path for path, step in fork.steps.items() if step.reused] == ["a", "b", "w", "e"]

    forked(work, n=1)


def test_a_given_value_stands_and_its_cone_follows():
    """An overridden step is not called; what refers to it is, with the new value."""

    async def work(engine, shop, run):
        fork = await engine.fork("one", set={"b": 100})
        assert shop.taken() == [("look", 100)]
        assert (fork.output, fork.steps["b"].output) == (run.output - 11 + 100, 100)
        assert (await engine.get("one")).output == run.output

    forked(work, n=1)


def test_writes_in_the_cone_wait_for_a_person():
    """Another input reaches a write: it waits, and is made once a person approves; `allow_writes` lets it go ahead."""

    async def work(engine, shop, run):
        fork = await engine.fork("one", inputs={"n": 5})
        assert fork.status == "waiting"
        assert fork.steps["w"].status == "waiting"
        assert shop.taken() == [("look", 5), ("look", 6)]
        await engine.approve(fork.id, "w", by="ann")
        done = await engine.resume(fork.id)
        assert done.status == "succeeded"
        assert shop.taken() == [("send", 6)]
        allowed = await engine.fork("one", inputs={"n": 7}, allow_writes=True)
        assert allowed.status == "succeeded"
        assert ("send", 8) in shop.taken()

    forked(work, n=1)


def test_writes_before_the_fork_are_not_repeated():
    """A write outside the cone counts as made, even where writes are allowed."""

    async def work(engine, shop, run):
        fork = await engine.fork("one", at="c", allow_writes=True)
        assert fork.steps["w"].reused
        assert shop.taken() == [("look", 2)]

    forked(work, n=1)


def test_reads_after_an_affected_write_are_in_the_cone():
    """A read on a resource that the cone writes may find something else, so it is made again."""
    steps = plan(
        call("w", "send", args={"x": "${inputs.n}"}),
        call("r", "inbox", args={"x": 1}),
        call("p", "price", args={"x": 1}),
        inputs={"n": {"type": "integer"}},
    )

    async def work(engine, shop, run):
        await engine.fork("one", inputs={"n": 2}, allow_writes=True)
        assert shop.taken() == [("inbox", 1), ("send", 2)]

    forked(work, steps, n=1)


def test_an_edited_plan_runs_what_the_edit_affects():
    """Steps that the edit changed or added, and what depends on them."""

    async def work(engine, shop, run):
        edited = {**STEPS, "steps": [dict(step) for step in STEPS["steps"]]}
        edited["steps"][1] = call("b", "price", args={"x": 20})
        edited["steps"].append(call("new", "look", args={"x": 50}))
        fork = await engine.fork("one", plan=edited)
        assert shop.taken() == [("look", 21), ("look", 50), ("price", 20)]
        assert fork.plan.digest != run.plan.digest
        assert fork.steps["w"].reused

    forked(work, n=1)


EACH = plan(
    {"id": "s", "tool": "send", "for_each": "${[1, 2, 3]}", "args": {"x": "${item}"}},
    {"id": "t", "tool": "look", "for_each": "${s}", "args": {"x": "${item}"}},
    {"id": "u", "set": "${t}"},
    output="${u}",
)


def test_one_item_given_leaves_the_others_as_they_were():
    """Of a list's step only the named item is affected: the writes of the others are not repeated, and need nobody."""

    async def work(engine, shop, run):
        assert run.output == [3, 4, 5]
        fork = await engine.fork("one", set={"s[1]": 9})
        assert fork.status == "succeeded"
        assert (fork.steps["s"].output, fork.output) == ([2, 9, 4], [3, 10, 5])
        assert [call for call in shop.taken() if call[0] == "send"] == []

    forked(work, EACH)


def test_one_item_can_run_again():
    """`at` an item calls that item; a write among them still waits."""

    async def work(engine, shop, run):
        fork = await engine.fork("one", at="t[2]")
        assert shop.taken() == [("look", 4)]
        assert fork.digest == run.digest
        writing = await engine.fork("one", at="s[0]")
        assert writing.status == "waiting"
        assert writing.steps["s[0]"].status == "waiting"
        assert [name for name, _ in shop.taken()] == []

    forked(work, EACH)


def test_failures_outside_the_cone_are_the_parents():
    """What failed in the parent failed in the fork, unless the fork asks for it."""
    steps = plan(
        call("bad", "look", args={"x": -1}),
        call("good", "look", args={"x": 1}),
        call("odd", "look", args={"x": "${first(inputs.v, 1)}"}),
        inputs={"v": {"default": 2}},
    )

    async def work(engine, shop, run):
        fork = await engine.fork("one", at="good")
        assert shop.taken() == [("look", 1)]
        assert statuses(fork) == statuses(run)
        await engine.fork("one", at="bad")
        assert shop.taken() == [("look", -1)]

    forked(work, steps)


def test_a_call_that_failed_before_it_was_made_can_be_forked():
    """Arguments that did not fit were never called with: the fork comes to the same failure by itself."""

    @tool(effect="pure")
    def strict(n: int) -> int:
        """Take an integer."""
        return n

    anything = ScriptedTool("anything", lambda: "text", effect="pure", version="1")
    steps = plan(call("a", "anything"), call("b", "strict", args={"n": "${a}"}), call("c", "anything"))

    async def main():
        async with Engine([strict, anything], store="memory:") as engine:
            run = await engine.run(steps, run_id="one")
            assert run.errors[0].code == "bad-args"
            fork = await engine.fork("one", at="c")
            assert statuses(fork) == statuses(run)

    within(main())


def test_a_fork_can_be_forked():
    """Each is the child of the one before, and inherits what that one inherited; a value that it was given stands until asked to run."""

    async def work(engine, shop, run):
        one = await engine.fork("one", set={"b": 100})
        shop.taken()
        two = await engine.fork(one.id, at="c")
        assert two.parent == one.id
        assert shop.taken() == [("look", 2)]
        again = await engine.fork(one.id)
        assert again.digest == one.digest
        assert shop.taken() == []
        back = await engine.fork(one.id, at="b")
        assert back.digest == run.digest

    forked(work, n=1)


def test_a_changed_tool_is_not_called_outside_the_cone():
    """However the tools have changed: what the fork leaves alone comes from the journal."""

    async def main():
        store, shop, other = MemoryStore(), Shop(), Shop()
        await store.open()
        run = await Engine(shop.tools, store=store).run(STEPS, inputs={"n": 1}, run_id="one")
        breaking = [
            ScriptedTool(t.name, lambda x: 1 // 0, effect=t.effect.value, resource=t.resource)
            for t in other.tools
        ]
        fork = await Engine(breaking, store=store).fork("one", set={"d": 5})
        assert fork.status == "succeeded"
        assert fork.output == 5
        assert run.output != 5
        await store.close()

    within(main())


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"at": "nope"}, InputRejected, "the plan has no step 'nope'"),
        ({"at": "aa"}, InputRejected, "did you mean 'a'"),
        ({"at": "a[3]"}, InputRejected, r"run one has no 'a\[3\]'"),
        ({"set": {"nope": 1}}, InputRejected, "the plan has no step 'nope'"),
        ({"set": {"b": "text"}}, InputRejected, "does not fit its step"),
        ({"inputs": {"m": 1}}, InputRejected, "'m'"),
        ({"inputs": {"n": "x"}}, InputRejected, "n"),
        ({"plan": {"firmplan": 1, "steps": [call("a", "nothing")]}}, PlanRejected, "nothing"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(options, error, told):
    """A path, a value, an input or a plan that does not fit: said at once, and no run is made."""

    async def work(engine, shop, run):
        with pytest.raises(error, match=told):
            await engine.fork("one", **options)
        assert shop.taken() == []
        assert len((await engine.list_runs()).runs) == 1

    shop_typed(work, options)


def shop_typed(work, options):
    """Do the work with tools whose results have a type."""

    @tool(effect="read")
    def look(x: int) -> int:
        """Look."""
        return x

    shop = Shop()

    async def main():
        typed = [look, *(each for each in shop.tools if each.name != "look")]
        steps = {
            **STEPS,
            "steps": [
                {**each, "tool": "look"} if each.get("tool") == "price" else each for each in STEPS["steps"]
            ],
        }
        async with Engine(typed, store="memory:") as engine:
            run = await engine.run(steps, inputs={"n": 1}, run_id="one")
            shop.taken()
            await work(engine, shop, run)

    within(main())


class Till:
    """A write that leaves open what became of it as long as it is broken, a tool that asks, and one that changes nothing."""

    def __init__(self, **options):
        self.paid, self.is_broken = [], True

        @tool(effect="write", resource="till", version=1, **options)
        def pay(x: int) -> int:
            """Pay."""
            self.paid.append(x)
            if self.is_broken:
                raise OutcomeUnknown("cut off")
            return x

        @tool(effect="write", resource="desk", approval="always", version=1)
        def ask(x: int) -> int:
            """Ask."""
            self.paid.append(-x)
            return x

        @tool(effect="read", resource="none", version=1)
        def look(x: int) -> int:
            """Look."""
            return x

        self.tools = [pay, ask, look]


PAID = plan(
    call("p", "pay", args={"x": 5}), call("q", "look", args={"x": "${p}"}), call("z", "look", args={"x": 1})
)


@pytest.mark.parametrize("options", [{}, {"idempotent": True}], ids=["plain", "idempotent"])
@pytest.mark.parametrize(
    ("changes", "again"),
    [
        ({}, {}),
        ({"at": "z"}, {"at": "z"}),
        ({"allow_writes": True}, {}),
        ({}, {"allow_writes": True}),
        ({"at": "z", "allow_writes": True}, {"at": "q", "allow_writes": True}),
    ],
)
def test_a_write_of_unknown_outcome_is_not_repeated(options, changes, again):
    """What the parent may have paid, no fork pays again unasked, nor does a fork of the fork; a person may say that it is to be done."""
    till = Till(**options)

    async def main():
        async with Engine(till.tools, store="memory:", clock=FakeClock()) as engine:
            assert (await engine.run(PAID, run_id="one")).status == "indeterminate"
            before, till.is_broken = len(till.paid), False
            fork = await engine.fork("one", **changes)
            forth = await engine.fork(fork.id, **again)
            assert len(till.paid) == before
            assert [statuses(run)["p"] for run in (fork, forth)] == ["waiting", "waiting"]
            told = str(await engine.explain(fork.id, "p"))
            await engine.approve(fork.id, "p", by="ann")
            done = await engine.resume(fork.id)
            after = await engine.fork(done.id, at="z", allow_writes=True)
            assert (len(till.paid), done.status, after.status) == (before + 1, "succeeded", "succeeded")
            return told

    assert within(main()) == (
        "step 'p' waits for a person to approve its call: run one called it, and the outcome of that call is unknown: it may have taken effect"
    )


class Flaky:
    """A write that is lost, then fails, and then works; `keys` are those that it was called under."""

    def __init__(self, **options):
        self.keys, self.asked = [], []

        @tool(effect="write", resource="till", version=1, retries=1, **options)
        def pay(x: int, *, ctx: Context) -> int:
            """Pay."""
            self.keys.append(ctx.idempotency_key)
            match len(self.keys):
                case 1:
                    raise OutcomeUnknown("cut off")
                case 2:
                    raise ToolError("no such account")
                case _:
                    return x

        self.tools = [pay, *Till().tools[2:]]


def test_a_write_that_was_lost_and_then_failed_is_of_unknown_outcome():
    """It failed for sure only if every attempt did: the first may have taken effect."""
    flaky = Flaky(idempotent=True)

    async def main():
        async with Engine(flaky.tools, store="memory:", clock=FakeClock()) as engine:
            assert statuses(await engine.run(PAID, run_id="one"))["p"] == "failed"
            fork = await engine.fork("one", at="p", allow_writes=True)
            assert fork.steps["p"].past_write["outcome"] == "unknown"
            forth = await engine.fork(fork.id, at="z", allow_writes=True)
            assert statuses(forth)["p"] == "waiting"
            await engine.approve(forth.id, "p", by="ann")
            return await engine.resume(forth.id)

    assert within(main()).status == "succeeded"
    assert len(flaky.keys) == 3
    assert len(set(flaky.keys)) == 1


def test_a_lost_attempt_that_reconcile_denies_did_nothing():
    """The tool was asked before the second attempt and said that the first did not take place: so all that is known is a failure."""
    flaky = Flaky(reconcile=lambda key, args: None)

    async def main():
        async with Engine(flaky.tools, store="memory:", clock=FakeClock()) as engine:
            assert statuses(await engine.run(PAID, run_id="one"))["p"] == "failed"
            return await engine.fork("one", at="p", allow_writes=True)

    assert within(main()).status == "succeeded"
    assert len(flaky.keys) == 3


def test_an_approved_write_of_unknown_outcome_is_asked_about_first():
    """The tool's `reconcile` is asked under the parent's key: what it finds is the result, and nothing is called again."""
    asked, paid = [], []

    def found(key, args):
        asked.append(key)
        return 5 if len(asked) > 5 else 1 // 0

    @tool(effect="write", resource="till", version=1, reconcile=found)
    def pay(x: int, *, ctx: Context) -> int:
        """Pay."""
        paid.append(ctx.idempotency_key)
        raise OutcomeUnknown("cut off")

    async def main():
        async with Engine([pay, *Till().tools[2:]], store="memory:", clock=FakeClock()) as engine:
            assert (await engine.run(PAID, run_id="one")).status == "indeterminate"
            fork = await engine.fork("one", at="p", allow_writes=True)
            assert (fork.status, len(asked)) == ("waiting", 5)
            await engine.approve(fork.id, "p", by="ann")
            return await engine.resume(fork.id)

    assert within(main()).status == "succeeded"
    assert set(asked) == set(paid)
    assert len(paid) == 1


def test_a_write_that_a_person_denied_waits_in_every_fork():
    """What somebody refused in the parent is not done by a fork that allows writes, as long as nobody is asked again."""
    till = Till()
    till.is_broken = False

    async def main():
        async with Engine(till.tools, store="memory:") as engine:
            await engine.run(PAID, run_id="one")
            fork = await engine.fork("one", at="p")
            await engine.deny(fork.id, "p", by="ann", reason="once is enough")
            await engine.resume(fork.id)
            forth = await engine.fork(fork.id, at="p", allow_writes=True)
            return forth.steps["p"]

    step = within(main())
    assert (step.status, step.past_write["outcome"], till.paid) == ("waiting", "denied", [5])
    assert "a person denied it" in step.past_write["message"]


def test_the_same_call_under_another_name_waits_as_well():
    """An edited plan has renamed the step, or another list moved the item: it is the call that may have taken effect, under its key."""
    till, keys = Till(idempotent=True), []

    @tool(effect="write", resource="till", version=1, idempotent=True)
    def pay(x: int, *, ctx: Context) -> int:
        """Pay."""
        keys.append(ctx.idempotency_key)
        if till.is_broken and x == 5:
            raise OutcomeUnknown("cut off")
        return x

    tools = [pay, *till.tools[1:]]
    each = plan(
        {"id": "p", "tool": "pay", "for_each": "${inputs.of}", "args": {"x": "${item}"}},
        inputs={"of": {"type": "array", "items": {"type": "integer"}}},
    )
    renamed = plan(call("other", "pay", args={"x": 5}), call("free", "pay", args={"x": 6}, after=["other"]))

    async def main():
        async with Engine(tools, store="memory:", clock=FakeClock()) as engine:
            assert (await engine.run(each, inputs={"of": [1, 5]}, run_id="one")).status == "indeterminate"
            before, till.is_broken = len(keys), False
            moved = await engine.fork("one", inputs={"of": [5, 2]}, allow_writes=True)
            edited = await engine.fork("one", plan=renamed, allow_writes=True)
            assert [moved.steps["p[0]"].status, edited.steps["other"].status] == ["waiting", "waiting"]
            assert edited.steps["other"].past_write["same_key"] is True
            assert len(keys) == before
            await engine.approve(edited.id, "other", by="ann")
            return await engine.resume(edited.id), keys[1:]

    done, called = within(main())
    assert statuses(done) == {"other": "succeeded", "free": "succeeded"}
    assert len(set(called[:-1])) == 1


def test_a_write_whose_result_was_refused_waits_under_another_name_too():
    """It took effect: renamed, or moved to another item, it is asked about, also where the edited plan handles its failure."""
    sent = []

    @tool(effect="write", resource="mail", version=1)
    def send(x: int) -> int:
        """Send."""
        sent.append(x)
        return "not an integer" if x == 5 else x

    renamed = plan({"id": "c", "tool": "send", "args": {"x": 5}, "on_error": {"value": 0}})
    listed = plan({"id": "c", "tool": "send", "for_each": [6, 5], "args": {"x": "${item}"}})

    async def main():
        async with Engine([send], store="memory:", clock=FakeClock()) as engine:
            assert (await engine.run(plan(call("b", "send", args={"x": 5})), run_id="one")).status == "failed"
            first = await engine.fork("one", plan=renamed, allow_writes=True)
            moved = await engine.fork("one", plan=listed, allow_writes=True)
            again = await engine.fork(first.id, at="c", allow_writes=True)
            return first.steps["c"], moved.steps["c[1]"], again.steps["c"]

    for step in within(main()):
        assert (step.status, step.past_write["outcome"], step.past_write["run"]) == (
            "waiting",
            "refused",
            "one",
        )
    assert sent == [5, 6]


def test_a_fork_of_an_older_version_decides_as_it_did():
    """Its header has `unknown` and nothing more; replayed, a write in its cone that it called without asking is no other story."""
    header = {
        "cone": ["p"],
        "overrides": {},
        "holds": "none",
        "at": "p",
        "settled": {},
        "items": [],
        "unknown": ["p", "q"],
    }
    fork = Fork.from_dict(header)
    assert (fork.is_held("p", "pay", ""), fork.is_held("q", "pay", "")) == (False, True)
    assert fork.to_dict() == header
    assert fork.find_past("p", "pay", "") == PastWrite("unknown")


def test_a_write_in_flight_is_not_repeated():
    """A fork of a run that goes on leaves its unfinished writes alone."""
    began, gate, paid = asyncio.Event(), asyncio.Event(), []

    @tool(effect="write", resource="till", version=1)
    async def pay(x: int) -> int:
        """Pay, in a while."""
        paid.append(x)
        began.set()
        await gate.wait()
        return x

    async def main():
        async with Engine([pay, *Till().tools[2:]], store="memory:") as engine:
            await engine.submit(PAID, run_id="one")
            await began.wait()
            fork = await engine.fork("one", at="z", allow_writes=True)
            gate.set()
            return statuses(fork)["p"], (await engine.wait("one")).status

    assert within(main()) == ("waiting", "succeeded")
    assert paid == [5]


def test_a_write_that_a_person_called_failed_stays_so():
    """The parent's answer stands outside the cone, whoever gave it."""
    till = Till()

    async def main():
        async with Engine(till.tools, store="memory:") as engine:
            await engine.run(PAID, run_id="one")
            await engine.resolve("one", "p", fail="looked: it did nothing")
            before = await engine.resume("one")
            fork = await engine.fork("one", at="z", allow_writes=True)
            return statuses(before), statuses(fork), fork.errors

    before, after, errors = within(main())
    assert before == after == {"p": "failed", "q": "skipped", "z": "succeeded"}
    assert [(error.step, error.code) for error in errors] == [("p", "resolved-failed")]
    assert till.paid == [5]


def test_a_write_that_the_parent_never_came_to_waits():
    """A run was cancelled before a write: its fork makes that write for the first time, so a person is asked, unless writes are allowed."""
    till = Till()
    till.is_broken = False
    steps = plan(call("a", "ask", args={"x": 1}), call("p", "pay", args={"x": 5}, after=["a"]))

    async def main():
        async with Engine(till.tools, store="memory:") as engine:
            await engine.run(steps, run_id="one")
            await engine.cancel("one")
            found = []
            for allow in (False, True):
                fork = await engine.fork("one", allow_writes=allow)
                await engine.approve(fork.id, "a", by="ann")
                found.append(statuses(await engine.resume(fork.id)))
            return found

    assert within(main()) == [{"a": "succeeded", "p": "waiting"}, {"a": "succeeded", "p": "succeeded"}]
    assert till.paid == [-1, -1, 5]


def test_unknown_runs_are_refused():
    """There is nothing to fork."""

    async def work(engine, shop, run):
        with pytest.raises(RunNotFound):
            await engine.fork("two")

    forked(work, n=1)
