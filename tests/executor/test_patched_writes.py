"""A model's patch repeats no finished write unasked, in whatever words its steps make the call; what the patch leaves alone stays free."""

from __future__ import annotations

import pytest
from firmplan import Engine, OutcomeUnknown, Planner, tool
from firmplan.executor import Header
from firmplan.executor.canonical_value import CanonicalValue
from firmplan.executor.fork import Fork
from firmplan.testing import MemoryStore, ScriptedModel
from public import call, plan, statuses, within


class Post:
    """A write that notes its calls, and reads that fail for names in `broken`."""

    def __init__(self):
        self.sent, self.looked, self.broken = [], [], {"bad"}

        @tool(effect="write", resource="mail", version=1)
        def send(to: str, cc: str = "", copies: int = 1) -> int:
            """Send a mail; the number of it."""
            self.sent.append(to)
            if to in self.broken:
                raise ValueError("no such address")
            if to == "lost":
                raise OutcomeUnknown("cut off")
            return "no number" if to == "odd" else len(self.sent)  # type: ignore[return-value]

        @tool(effect="read", resource="none", version=1)
        def look(at: str) -> str:
            """Look something up."""
            self.looked.append(at)
            if at in self.broken:
                raise ValueError("not found")
            return at

        self.tools = [send, look]


LITERAL = plan(
    call("a", "send", args={"to": "x"}), call("c", "look", args={"at": "bad"}), task="Send", output="${c}"
)
LISTED = plan(
    {"id": "a", "tool": "send", "for_each": ["w"], "args": {"to": "${item}"}},
    {"id": "b", "tool": "send", "for_each": ["x"], "args": {"to": "${item}"}},
    call("c", "look", args={"at": "bad"}),
    task="Send",
    output="${c}",
)


def patch(*steps, **more):
    """Return a patch that puts steps in the place of `c`."""
    first, *rest = steps
    added = [{"op": "add", "step": step} for step in rest]
    outputs = [{"op": "output", "value": more["output"]}] if "output" in more else []
    return {
        "reasoning": "Another way.",
        "operations": [{"op": "replace", "step": "c", "with": first}, *added, *outputs],
    }


def patched(work, steps, *script, post=None, runs=None, replan=None):
    """Run a plan as `one` with a planner that patches it by a script; do the work with the engine, its tools and the last run."""
    post = post or Post()

    async def main():
        async with ScriptedModel(list(script)) as model:
            planner = Planner("m", base_url=model.base_url)
            async with Engine(post.tools, store="memory:", planner=planner) as engine:
                done = await engine.run(steps, run_id="one", replan=len(script) if replan is None else replan)
                assert len(model.requests) == len(script)
                return await work(engine, post, done)

    return within(main())


EACH = {"id": "c", "tool": "send", "for_each": ["x"], "args": {"to": "${item}"}}
READ = call("c", "look", args={"at": "x"})
REPEATS = [
    (LITERAL, patch(EACH), "c[0]"),
    (LISTED, patch(READ, call("d", "send", args={"to": "x"})), "d"),
    (LISTED, patch(call("c", "send", args={"to": "x"})), "c"),
    (LITERAL, patch({**EACH, "for_each": ["new", "x"]}), "c[1]"),
    (LITERAL, patch(READ, call("d", "send", args={"to": "${'x'}"})), "d"),
    (LITERAL, patch(READ, call("d", "send", args={"to": "x", "cc": ""})), "d"),
    (LITERAL, patch(READ, call("d", "send", args={"to": "${c}"})), "d"),
]


@pytest.mark.parametrize(("steps", "change", "path"), REPEATS)
def test_a_patch_that_repeats_a_finished_write_in_other_words_waits(steps, change, path):
    """The check of the patch compares texts and finds nothing; the run finds the same call, and a person is told which run made it."""

    async def work(engine, post, run):
        assert (run.status, run.parent, run.steps[path].reason) == ("waiting", "one", "approval")
        assert post.sent.count("x") == 1
        past = run.steps[path].past_write
        assert (past["outcome"], past["run"], past["same_key"]) == ("done", "one", False)
        assert past["message"] == "run one called it, and the call is done"
        assert past["message"] in str(await engine.explain(run.id, path))
        assert (await engine.replay(run.id)).status == "waiting"
        await engine.approve(run.id, path, by="ann")
        done = await engine.resume(run.id)
        assert (done.status, post.sent.count("x")) == ("succeeded", 2)
        assert (await engine.replay(run.id)).digest == done.digest

    patched(work, steps, change)


@pytest.mark.parametrize(("steps", "change", "path"), REPEATS[:2])
def test_denied_it_is_not_made(steps, change, path):
    """A person says no: nothing is sent, and the step is cancelled as any write that is denied."""

    async def work(engine, post, run):
        await engine.deny(run.id, path, by="ann", reason="it was sent")
        done = await engine.resume(run.id)
        assert (done.steps[path].status, post.sent.count("x")) == ("cancelled", 1)

    patched(work, steps, change)


def test_a_write_that_a_person_called_done_or_whose_result_was_refused_is_finished_too():
    """Neither is repeated in other words; the second is told as "done, result refused"."""
    steps = plan(
        call("l", "send", args={"to": "lost"}),
        call("a", "send", args={"to": "odd"}, on_error={"value": 0}),
        call("c", "look", args={"at": "bad"}, after=["a"]),
        task="Send",
    )
    change = patch({**EACH, "for_each": ["lost", "odd"]})
    post = Post()

    async def main():
        async with ScriptedModel([change]) as model:
            planner = Planner("m", base_url=model.base_url)
            async with Engine(post.tools, store="memory:", planner=planner) as engine:
                assert (await engine.run(steps, run_id="one", replan=1)).status == "indeterminate"
                await engine.resolve("one", "l", done=1)
                return await engine.resume("one")

    run = within(main())
    assert (run.status, post.sent) == ("waiting", ["lost", "odd"])
    assert [run.steps[path].past_write["outcome"] for path in ("c[0]", "c[1]")] == ["done", "refused"]


ON_PURPOSE = plan(
    call("a", "send", args={"to": "x"}),
    call("b", "send", args={"to": "x"}),
    call("c", "look", args={"at": "bad"}),
    call("d", "send", args={"to": "x"}, after=["c"]),
    call("e", "send", args={"to": "y"}, after=["c"]),
    task="Send",
)
MENDED = {"op": "set", "step": "c", "at": "args.at", "value": "good"}


@pytest.mark.parametrize(
    "more",
    [
        [],
        [{"op": "set", "step": "d", "at": "on_error", "value": "skip"}],
        [{"op": "set", "step": "d", "at": "timeout", "value": 5}],
        [{"op": "set", "step": "e", "at": "args.to", "value": "z"}],
    ],
)
def test_equal_calls_that_a_plan_makes_on_purpose_stay_free(more):
    """Two are finished and a third is to come: the plan is patched, and steps whose call the patch leaves alone need nobody."""

    async def work(engine, post, run):
        assert (run.status, post.sent.count("x"), len(post.sent)) == ("succeeded", 3, 4)

    patched(work, ON_PURPOSE, {"operations": [MENDED, *more]})


def test_an_equal_call_of_a_step_that_the_patch_changes_waits():
    """The step that was to come makes its call only on a condition now: it is the model's, so a person is asked."""
    change = {"operations": [MENDED, {"op": "set", "step": "d", "at": "when", "value": "${c == 'good'}"}]}

    async def work(engine, post, run):
        assert (run.status, statuses(run)["d"], post.sent.count("x")) == ("waiting", "waiting", 2)

    patched(work, ON_PURPOSE, change)


def test_other_calls_of_a_patch_and_reads_are_free():
    """A write with other arguments is made, and a read that was made is made again or reused."""
    steps = plan(
        call("a", "send", args={"to": "x"}),
        call("r", "look", args={"at": "x"}),
        call("c", "look", args={"at": "bad"}),
        task="Send",
    )
    change = patch(
        {"id": "c", "tool": "look", "for_each": ["x"], "args": {"at": "${item}"}},
        call("d", "send", args={"to": "x", "cc": "boss"}),
        call("e", "send", args={"to": "x", "copies": 2}),
        {"id": "f", "tool": "send", "for_each": ["x1", "x1"], "args": {"to": "${item}"}},
    )

    async def work(engine, post, run):
        assert (run.status, sorted(post.sent)) == ("succeeded", ["x", "x", "x", "x1", "x1"])
        assert post.looked.count("x") == 2

    patched(work, steps, change)


def test_a_write_that_surely_failed_is_not_finished():
    """It did nothing, so the patch may make the call in another step."""
    steps = plan(call("c", "send", args={"to": "bad"}), task="Send")
    post = Post()

    async def main():
        async with ScriptedModel([patch({**EACH, "id": "c2", "for_each": ["bad"]})]) as model:
            planner = Planner("m", base_url=model.base_url)
            async with Engine(post.tools, store="memory:", planner=planner) as engine:
                return await engine.run(steps, run_id="one", replan=1)

    run = within(main())
    assert (run.status, post.sent) == ("failed", ["bad", "bad"])


FIRST = patch(call("c", "look", args={"at": "x"}), call("d", "look", args={"at": "bad"}, after=["c"]))
SECOND = {
    "operations": [{"op": "replace", "step": "d", "with": {**EACH, "id": "d"}}],
}


def test_a_patch_of_a_patched_run_repeats_no_write_of_the_first():
    """What the first run has done, its second patch does not repeat either; the run that made the call is named."""

    async def work(engine, post, run):
        past = run.steps["d[0]"].past_write
        assert (run.status, past["run"], post.sent) == ("waiting", "one", ["x"])

    patched(work, LITERAL, FIRST, SECOND)


def test_a_step_of_an_earlier_patch_that_was_not_reached_waits_after_a_later_one():
    """The first patch adds it, the second mends what it waited for and leaves it alone: no person has ever seen it."""
    first = patch(call("c", "look", args={"at": "bad"}, after=["a"]), {**EACH, "id": "d", "after": ["c"]})

    async def work(engine, post, run):
        assert (run.status, statuses(run)["d"], post.sent) == ("waiting", "waiting", ["x"])
        assert run.steps["d[0]"].past_write["run"] == "one"

    patched(work, LITERAL, first, {"operations": [MENDED]})


@pytest.mark.parametrize("allow", [False, True])
def test_a_fork_of_a_run_whose_patch_waits_asks_as_well(allow):
    """Nobody has decided about the call yet, so `allow_writes` does not make it; a call that a person has approved may be made again."""

    async def work(engine, post, run):
        fork = await engine.fork(run.id, allow_writes=allow)
        assert (fork.status, post.sent) == ("waiting", ["x"])
        assert fork.steps["c[0]"].past_write["run"] == "one"
        await engine.approve(run.id, "c[0]", by="ann")
        done = await engine.resume(run.id)
        again = await engine.fork(done.id, at="c", allow_writes=allow)
        assert (again.status, len(post.sent)) == (("succeeded", 3) if allow else ("waiting", 2))
        left = await engine.fork(done.id)
        assert (left.status, left.digest, len(post.sent)) == ("succeeded", done.digest, 3 if allow else 2)

    patched(work, LITERAL, patch(EACH))


def test_a_step_that_a_person_edits_is_the_persons():
    """With `allow_writes` the person's own step goes ahead; one that the person leaves alone does not."""
    change = patch(EACH, {**EACH, "id": "d"})

    async def work(engine, post, run):
        edited = run.plan.to_dict()
        edited["steps"] = [dict(step) for step in edited["steps"]]
        assert edited["steps"][1]["id"] == "c"
        edited["steps"][1] = {**EACH, "args": {"to": "${item + ''}"}}
        fork = await engine.fork(run.id, plan=edited, allow_writes=True)
        assert (fork.steps["c[0]"].status, fork.steps["d[0]"].status) == ("succeeded", "waiting")
        assert post.sent == ["x", "x"]

    patched(work, LITERAL, change)


def test_a_retry_asks_what_its_run_had_not_asked_yet():
    """The patched run was cancelled before anybody decided: its retry asks, and so does a fork of that."""

    async def work(engine, post, run):
        await engine.cancel(run.id)
        again = await engine.retry(run.id)
        assert (again.status, again.steps["c[0]"].past_write["run"], post.sent) == ("waiting", "one", ["x"])
        fork = await engine.fork(again.id, allow_writes=True)
        assert (fork.status, post.sent) == ("waiting", ["x"])
        await engine.approve(again.id, "c[0]", by="ann")
        assert (await engine.resume(again.id)).status == "succeeded"

    patched(work, LITERAL, patch(EACH))


def test_a_retry_does_not_ask_again_about_a_call_that_was_approved_and_surely_failed():
    """A person let the patched run make it; it did nothing, and the retry makes it."""

    async def work(engine, post, run):
        post.broken.add("x")
        await engine.approve(run.id, "c[0]", by="ann")
        assert (await engine.resume(run.id)).status == "failed"
        post.broken.clear()
        return await engine.retry(run.id), post.sent

    again, sent = patched(work, LITERAL, patch(EACH), replan=1)
    assert (again.status, sent) == ("succeeded", ["x", "x", "x"])


def test_the_writes_of_a_list_are_asked_about_at_once():
    """Items of an ordered list that repeat a finished write wait as one list; the others go on."""

    async def work(engine, post, run):
        waiting = [path for path, step in run.steps.items() if step.past_write is not None]
        assert (waiting, post.sent) == (["c[1]", "c[2]"], ["x", "new"])
        await engine.deny(run.id, "c[2]", by="ann", reason="once")
        await engine.approve(run.id, "c[1]", by="ann")
        await engine.resume(run.id)
        assert post.sent == ["x", "new", "x"]

    patched(work, LITERAL, patch({**EACH, "for_each": ["new", "x", "x"]}))


def test_the_header_of_a_patch_names_its_steps_and_the_finished_writes():
    """It decides alone, in every process; older versions refuse it. The header of any other fork is as it was."""

    async def headers():
        post, store = Post(), MemoryStore()
        async with ScriptedModel([patch(EACH)]) as model:
            planner = Planner("m", base_url=model.base_url)
            async with Engine(post.tools, store=store, planner=planner) as engine:
                run = await engine.run(LITERAL, run_id="one", replan=1)
                free = await engine.fork("one", plan=run.plan)
                return [(await store.find_run(each)).header for each in (run.id, free.id)]

    written, free = within(headers())
    found = Header.from_dict(written).fork
    assert (written["format"], found.patched, list(found.done_writes)) == (2, ("c",), ["send"])
    assert list(found.done_writes["send"].values()) == ["one"]
    assert Header.from_dict(written).to_dict()["fork"] == written["fork"]
    assert free["format"] == 1
    assert not {"patched", "done_writes"} & set(free["fork"])


ARGS = CanonicalValue.of({"to": "x"})


def test_only_the_same_call_of_a_patched_step_is_found():
    """By tool, arguments and step; arguments that are left to the tool count with their defaults, and a call of this path that the parent made not at all."""
    made = {"send": {CanonicalValue.of({"to": "x", "cc": ""}).digest: "one"}}
    fork = Fork(cone=("c",), patched=("c",), done_writes=made)
    defaults = {"cc": ""}
    assert Fork.from_dict(fork.to_dict()) == fork
    assert fork.find_done("c[3]", "send", ARGS, defaults).run == "one"
    assert (
        fork.find_done("c/p", "send", CanonicalValue.of({"cc": "", "to": "x"}), {"cc": "", "to": "z"}).run
        == "one"
    )
    assert fork.find_done("cc", "send", ARGS, defaults) is None
    assert fork.find_done("c", "mail", ARGS, defaults) is None
    assert fork.find_done("c", "send", ARGS, {}) is None
    assert fork.find_done("c", "send", CanonicalValue.of({"to": "y"}), defaults) is None
    known = Fork(patched=("c",), done_writes=made, settled={"c": ARGS.digest, "c[0]": "sha256:0"})
    assert known.find_done("c", "send", ARGS, defaults) is None
    assert known.find_done("c[0]", "send", ARGS, defaults).run == "one"
    assert (fork.may_repeat("c[1]"), fork.may_repeat("b"), Fork(patched=("c",)).may_repeat("c")) == (
        True,
        False,
        False,
    )
