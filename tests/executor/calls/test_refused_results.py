"""A write whose result its schema refuses is done: nothing calls it again unasked, and whoever is told or asked about it is told so."""

from __future__ import annotations

import pytest
from firmplan import Engine, Planner, tool
from firmplan.testing import FakeClock, ScriptedModel
from public import call, plan, statuses, within

DONE = "done, result refused"


class Post:
    """A write that returns what its type forbids until it is mended, and a read."""

    def __init__(self, **options):
        self.sent, self.is_mended = [], False

        @tool(effect="write", resource="mail", version=1, **options)
        def send(text: str) -> int:
            """Send a mail; the number of it."""
            self.sent.append(text)
            return len(self.sent) if self.is_mended else "no number"  # type: ignore[return-value]

        @tool(effect="read", resource="none", version=1)
        def look(x: int) -> int:
            """Look."""
            return x

        self.tools = [send, look]


SENT = plan(
    call("s", "send", args={"text": "hello"}),
    call("t", "look", args={"x": "${s}"}),
    call("z", "look", args={"x": 1}),
    output="${t}",
)


def with_step(**keys):
    """Return the plan with other keys in the step that sends."""
    return {**SENT, "steps": [{**SENT["steps"][0], **keys}, *SENT["steps"][1:]]}


@pytest.fixture(params=[{}, {"idempotent": True}, {"retries": 3, "idempotent": True}, {"approval": "always"}])
def post(request):
    """The tools of one test."""
    return Post(**request.param)


async def failed_run(engine):
    """Run the plan as `one`, and approve the call if the tool asks; return the failed run."""
    run = await engine.run(SENT, run_id="one")
    if run.status == "waiting":
        await engine.approve("one", "s", by="ann")
        run = await engine.resume("one")
    assert (run.status, statuses(run)["s"]) == ("failed", "failed")
    return run


@pytest.mark.parametrize("allow", [False, True])
def test_a_patched_plan_handles_the_failure_and_sends_nothing(post, allow):
    """`on_error` on the step takes the failure that happened, with writes allowed and without; nobody has to be asked."""

    async def main():
        async with Engine(post.tools, store="memory:", clock=FakeClock()) as engine:
            await failed_run(engine)
            fork = await engine.fork("one", plan=with_step(on_error={"value": 7}), allow_writes=allow)
            forth = await engine.fork(fork.id, at="z", allow_writes=allow)
            return fork, forth, await engine.replay(fork.id)

    fork, forth, replayed = within(main())
    assert (fork.status, fork.output, fork.digest) == ("succeeded", 7, replayed.digest)
    assert (forth.status, forth.output) == ("succeeded", 7)
    assert post.sent == ["hello"]


@pytest.mark.parametrize(
    "changes",
    [
        {"at": "s"},
        {"at": "s", "allow_writes": True},
        {"plan": with_step(args={"text": "again"}), "allow_writes": True},
    ],
)
def test_a_person_is_asked_before_it_is_sent_again(post, changes):
    """Where the fork asks for the step, or gives it other arguments; so do forks of the fork. What waits says that the call is done."""

    async def main():
        async with Engine(post.tools, store="memory:", clock=FakeClock()) as engine:
            await failed_run(engine)
            fork = await engine.fork("one", **changes)
            forth = await engine.fork(fork.id, at="s", allow_writes=True)
            for run in (fork, forth):
                assert statuses(run)["s"] == "waiting"
                assert run.steps["s"].past_write["outcome"] == "refused"
                assert DONE in run.steps["s"].past_write["message"]
                assert DONE in str(await engine.explain(run.id, "s"))
            assert post.sent == ["hello"]
            post.is_mended = True
            await engine.approve(forth.id, "s", by="ann")
            done = await engine.resume(forth.id)
            return done, await engine.fork(done.id, at="z", allow_writes=True)

    done, after = within(main())
    assert (done.status, after.status, len(post.sent)) == ("succeeded", "succeeded", 2)


@pytest.mark.parametrize("allow", [False, True])
def test_a_fork_that_leaves_it_alone_leaves_it_done(post, allow):
    """The failure is the parent's, also in a fork of the fork; it is told as done."""

    async def main():
        async with Engine(post.tools, store="memory:", clock=FakeClock()) as engine:
            await failed_run(engine)
            fork = await engine.fork("one", at="z", allow_writes=allow)
            forth = await engine.fork(fork.id, at="z", allow_writes=allow)
            third = await engine.fork(forth.id, allow_writes=allow)
            return [(run.errors[0], str(await engine.explain(run.id, "s"))) for run in (fork, forth, third)]

    for error, explained in within(main()):
        assert (error.code, error.took_effect) == ("bad-result", True)
        assert error.message.startswith(DONE)
        assert DONE in explained
    assert post.sent == ["hello"]


def test_the_failure_is_told_as_done():
    """In the run's errors, in the error as JSON, and in the explanation of the call that was made."""
    post = Post()

    async def main():
        async with Engine(post.tools, store="memory:") as engine:
            run = await failed_run(engine)
            return run.errors[0], str(await engine.explain("one", "s"))

    error, explained = within(main())
    assert error.message.startswith(f"{DONE}: the call took effect, but ")
    assert error.to_dict()["took_effect"] is True
    assert f"its call is {DONE}" in explained


HANDLED = {"operations": [{"op": "set", "step": "s", "at": "on_error", "value": {"value": 7}}]}
ANEW = {
    "operations": [
        {
            "op": "replace",
            "step": "s",
            "with": {"id": "other", "tool": "send", "args": {"text": "hello"}, "on_error": {"value": 1}},
        },
        {"op": "set", "step": "t", "at": "args.x", "value": "${other}"},
    ]
}


def test_a_planner_is_told_and_its_patch_sends_nothing():
    """A patch that would send the mail under another id is refused; one that handles the failure goes on by itself."""
    post = Post()

    async def main():
        async with ScriptedModel([ANEW, HANDLED]) as model:
            planner = Planner("m", base_url=model.base_url)
            async with Engine(post.tools, store="memory:", planner=planner) as engine:
                done = await engine.run(SENT, replan=1)
                return done, [str(request) for request in model.requests]

    done, requests = within(main())
    assert (done.status, done.output) == ("succeeded", 7)
    assert post.sent == ["hello"]
    assert DONE in requests[0]
    assert "has done some of its writes" in requests[1]
