"""A call that returns without ever having waited is one record; one that waits is two, as is whatever may tell more."""

from __future__ import annotations

import asyncio

import pytest
from firmplan import Context, Engine, ToolError, tool
from firmplan.executor.calls.concurrency import notify_wait
from firmplan.executor.review.review import Review
from firmplan.tools import Tool
from rig import Rig, plan_of, statuses


@tool(effect="pure", version=1)
async def double(x: int) -> int:
    """Return at once."""
    return 2 * x


@tool(effect="pure", isolation="inline", version=1)
def triple(x: int) -> int:
    """Return at once, without a coroutine."""
    return 3 * x


@tool(effect="pure", version=1)
async def wait_and_double(x: int) -> int:
    """Wait for the loop, twice."""
    await asyncio.sleep(0)
    await asyncio.sleep(0.001)
    return 2 * x


@tool(effect="pure", version=1)
async def refuse(x: int) -> int:
    """Fail at once."""
    raise ToolError(f"no {x}", code="no")


@tool(effect="read", version=1)
async def look(x: int, *, ctx: Context) -> int:
    """Draw a time, which is a record of its own."""
    return x if ctx.now().year > 2000 else 0


@tool(effect="read", version=1)
async def idle(x: int, *, ctx: Context) -> int:
    """Take nothing from the context."""
    return x


@tool(effect="read", version=1)
async def ask_env(x: int, *, ctx: Context) -> int:
    """Take a variable, which is in the record of the end."""
    return x if ctx.env("FIRMPLAN_NONE") is None else 0


@tool(effect="read", version=1)
async def draw_late(x: int, *, ctx: Context) -> int:
    """Wait, then draw an id."""
    await asyncio.sleep(0)
    return x if ctx.uuid() else 0


@tool(effect="read", version=1)
async def draw_and_fail(x: int, *, ctx: Context) -> int:
    """Draw a time, then fail."""
    raise ToolError(str(ctx.now()), code="no")


@tool(effect="read", version=1, reuse_for="1h")
async def known_for_an_hour(x: int) -> int:
    """Return at once what may be kept."""
    return x


@tool(effect="write", version=1)
async def put(x: int) -> int:
    """Change something."""
    return x


TOOLS: list[Tool] = [
    double,
    triple,
    wait_and_double,
    refuse,
    look,
    idle,
    ask_env,
    draw_late,
    draw_and_fail,
    known_for_an_hour,
    put,
]


def events_of(plan, *, tools=TOOLS):
    """Return the run of a plan, and its events as (type, step)."""

    async def main():
        async with Rig(tools) as rig:
            run = await rig.run(plan, "r")
            return run, [(event.type, event.step) async for event in rig.execution.events("r")]

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("double", ["CallMade"]),
        ("triple", ["CallMade"]),
        ("wait_and_double", ["CallStarted", "CallSucceeded"]),
        ("refuse", ["CallStarted", "CallFailed", "StepFailed"]),
        ("look", ["CallStarted", "TimeTold", "CallSucceeded"]),
        ("idle", ["CallMade"]),
        ("ask_env", ["CallStarted", "CallSucceeded"]),
        ("draw_late", ["CallStarted", "IdMade", "CallSucceeded"]),
        ("draw_and_fail", ["CallStarted", "TimeTold", "CallFailed", "StepFailed"]),
        ("known_for_an_hour", ["CallMade"]),
        ("put", ["CallStarted", "CallSucceeded"]),
    ],
)
def test_what_is_recorded_of_a_call(name, expected):
    """One record only where nothing could have come between start and end, and nothing more is to be told."""
    _, events = events_of(plan_of({"id": "a", "tool": name, "args": {"x": 2}}))
    assert [type_ for type_, step in events if step == "a"] == expected


def test_a_call_in_one_piece_counts_as_any_other(tmp_path):
    """Attempts, times, usage, replay, fork, explain and verify of it are those of a call in two pieces."""
    plan = plan_of(
        {"id": "a", "tool": "double", "args": {"x": 2}},
        {"id": "b", "tool": "wait_and_double", "args": {"x": 2}},
        {"id": "c", "tool": "triple", "args": {"x": "${a + b}"}},
        output="${c}",
    )

    async def main():
        async with Rig(TOOLS, str(tmp_path / "s.db")) as rig:
            run = await rig.run(plan, "r")
            one, two = run.steps["a"], run.steps["b"]
            assert (one.attempts, one.reused, one.status) == (two.attempts, two.reused, two.status)
            assert None not in (one.started, one.finished)
            assert one.started <= one.finished
            assert run.usage["steps"] == 3
            again = await rig.execution.replays.replay("r", keep=False)
            assert (again.digest, statuses(again)) == (run.digest, statuses(run))
            review = Review(rig.facilities, rig.execution.archive)
            explained = await review.explain("r", "a")
            assert str(explained) == "step 'a' ran because it is the first call of 'double' in this store"
            changed = await rig.run(
                plan_of({"id": "a", "tool": "double", "args": {"x": 3}}, output="${a}"), "other"
            )
            assert changed.output == 6
            assert "args.x was 2, now 3" in str(await review.explain("other", "a"))

    asyncio.run(main())


def test_a_fork_takes_it_from_the_parent():
    """Outside the cone nothing is called, whether the parent's call waited or not."""
    calls = []

    @tool(effect="read", resource="clock", version=1)
    async def count(x: int) -> int:
        """Count calls."""
        calls.append(x)
        return x

    async def main():
        plan = plan_of(
            {"id": "a", "tool": "count", "args": {"x": 1}},
            {"id": "b", "tool": "count", "args": {"x": 2}},
            output="${a + b}",
        )
        async with Engine([count], store="memory:") as engine:
            run = await engine.run(plan)
            forked = await engine.fork(run.id, at="b")
            assert forked.output == run.output
            assert [forked.steps[step].reused for step in "ab"] == [True, False]

    asyncio.run(main())
    assert calls == [1, 2, 2]


# --- awaiting


def noticed_waits(work):
    """Return what awaiting a coroutine returned or raised, and how often its first wait was notify_wait, and when."""
    log = []

    async def main():
        return await notify_wait(work(log), lambda: log.append("waits"))

    try:
        log.append(asyncio.run(main()))
    except Exception as error:  # noqa: BLE001  # what came through is what is looked at
        log.append(repr(error))
    return log


async def _at_once(log):
    log.append("begins")
    return 1


async def _later(log):
    log.append("begins")
    for _ in range(3):
        await asyncio.sleep(0)
    await asyncio.sleep(0.001)
    return 2


async def _raises(log):
    raise ValueError("at once")


async def _raises_later(log):
    await asyncio.sleep(0)
    raise ValueError("later")


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (_at_once, ["begins", 1]),
        (_later, ["begins", "waits", 2]),
        (_raises, ["ValueError('at once')"]),
        (_raises_later, ["waits", "ValueError('later')"]),
    ],
)
def test_the_first_wait_is_noticed_and_nothing_else_changes(work, expected):
    """Results and errors come through as if the coroutine had been awaited."""
    assert noticed_waits(work) == expected


def test_a_cancel_and_an_error_of_what_is_awaited_reach_the_coroutine():
    """It can tidy up, swallow the cancel, and go on."""
    log = []

    async def work():
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            log.append("cancelled")
        failed = asyncio.get_running_loop().create_future()
        failed.set_exception(KeyError("k"))
        try:
            await failed
        except KeyError:
            log.append("key")
        return "done"

    async def main():
        task = asyncio.create_task(_awaited(work()))
        await asyncio.sleep(0)
        task.cancel()
        return await task

    assert asyncio.run(main()) == "done"
    assert log == ["cancelled", "key"]


async def _awaited(work):
    return await notify_wait(work, lambda: None)


def test_what_fails_when_it_is_noticed_ends_the_coroutine():
    """A journal that cannot be written: the call is not left half begun."""
    closed = []

    async def work():
        try:
            await asyncio.sleep(1000)
        finally:
            closed.append(True)

    def fail():
        raise OSError("full")

    async def main():
        with pytest.raises(OSError, match="full"):
            await notify_wait(work(), fail)

    asyncio.run(main())
    assert closed == [True]
