"""Calls: what is retried, how long they may take, how many at a time, and what a cancel does to them."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any

import pytest
from firmplan.errors import OutcomeUnknown, ToolError
from firmplan.testing import FakeClock, Held, ScriptedTool
from firmplan.tools import Context, Tool, tool
from rig import Rig, one_run, plan_of, statuses

FOREVER = Held()


def calling(**keys: Any):
    return plan_of({"id": "s", "tool": "t", **keys}, output="${s}")


def scripted(*script, **options):
    return ScriptedTool("t", list(script), **{"effect": "read", **options})


class Odd(Exception):  # noqa: N818  # as tools raise them
    """An ordinary exception."""


@pytest.mark.parametrize(
    ("fault", "is_retried"),
    [
        (ToolError("busy", temporary=True), True),
        (ToolError("wrong"), False),
        (TimeoutError("late"), True),
        (ConnectionResetError("cut"), True),
        (ConnectionRefusedError("closed"), True),
        (OSError("disk"), False),
        (Odd("odd"), False),
    ],
    ids=repr,
)
@pytest.mark.parametrize("effect", ["pure", "read", "model"])
def test_by_default_interruptions_and_temporary_errors_are_retried(fault, is_retried, effect):
    """Whatever the effect, as long as it changes nothing."""
    made = scripted(fault, "ok", effect=effect, retries=2)
    run = one_run_on_fake_clock(calling(), made)
    assert len(made.calls) == (2 if is_retried else 1)
    assert run.status == ("succeeded" if is_retried else "failed")
    assert run.steps["s"].attempts == len(made.calls)


def one_run_on_fake_clock(plan, *tools, **facilities):
    async def main():
        async with Rig(tools, clock=FakeClock(), **facilities) as rig:
            return await rig.run(plan)

    return asyncio.run(main())


def says_again(error):
    return "again" in str(error)


@pytest.mark.parametrize(
    ("retry_on", "fault", "is_retried"),
    [
        pytest.param(Odd, Odd(), True, id="its class"),
        pytest.param((Odd, ValueError), ValueError(), True, id="one of several classes"),
        pytest.param(Odd, TimeoutError(), False, id="another class"),
        pytest.param(says_again, Odd("again"), True, id="a function that says yes"),
        pytest.param(says_again, Odd("never"), False, id="a function that says no"),
        pytest.param(ToolError, ToolError("x"), True, id="a tool's error"),
    ],
)
def test_retry_on_says_what_is_worth_another_call(retry_on, fault, is_retried):
    """Classes, or a function of the exception."""
    made = scripted(fault, "ok", retries=1, retry_on=retry_on)
    run = one_run_on_fake_clock(calling(), made)
    assert (run.status, len(made.calls)) == (("succeeded", 2) if is_retried else ("failed", 1))


def test_retries_of_the_step_come_before_those_of_the_tool():
    """Retries count further calls; the last failure is the step's."""
    busy = [ToolError(f"busy {n}", temporary=True) for n in range(9)]
    for own, expected in ((0, 1), (3, 4), (None, 3)):
        made = scripted(*busy, retries=2)
        keys = {} if own is None else {"retries": own}
        run = one_run_on_fake_clock(calling(**keys), made)
        assert (run.steps["s"].attempts, len(made.calls)) == (expected, expected)
        assert [(e.code, e.message, e.temporary) for e in run.errors] == [
            ("tool-error", f"busy {expected - 1}", True)
        ]


def test_pauses_grow_and_are_the_same_in_every_run():
    """Exponential with jitter from the run's seed; a fake clock sees them without waiting."""
    pauses: list[list[float]] = []

    class Noting(FakeClock):
        async def sleep(self, seconds):
            pauses[-1].append(seconds)
            await super().sleep(seconds)

    async def main():
        for _ in range(2):
            pauses.append([])
            made = scripted(*[ToolError("busy", temporary=True)] * 8, "ok", retries=9)
            async with Rig([made], clock=Noting()) as rig:
                assert (await rig.run(calling(), "same", seed="7")).output == "ok"

    asyncio.run(main())
    assert pauses[0] == pauses[1]
    assert len(pauses[0]) == 8
    for number, pause in enumerate(pauses[0]):
        whole = 0.2 * 2**number
        assert whole * 0.5 <= pause <= whole * 1.5 + 0.001


@pytest.mark.parametrize(
    ("options", "fault", "calls"),
    [
        ({}, ToolError("busy", temporary=True), 2),
        ({}, ToolError("wrong"), 1),
        ({}, Odd(), 1),
        ({"retry_on": Odd}, Odd(), 1),
        ({"idempotent": True, "retry_on": Odd}, Odd(), 2),
        ({"idempotent": True}, ToolError("wrong"), 1),
        ({"idempotent": True}, ToolError("busy", temporary=True), 2),
    ],
    ids=repr,
)
def test_a_write_is_retried_only_where_it_did_nothing_or_may_be_repeated(options, fault, calls):
    """A write that is not idempotent: only after `ToolError(temporary=True)`; the key stays the same."""
    made = scripted(fault, "ok", effect="write", retries=3, **options)
    one_run_on_fake_clock(calling(), made)
    assert len(made.calls) == calls
    assert len({call.idempotency_key for call in made.played}) == 1


def test_a_crash_does_not_use_up_a_retry():
    """Retries count failures, not calls that were cut off."""
    first, plan = Held(), calling(retries=1)

    async def main():
        made = scripted(first, ToolError("busy", temporary=True), "ok")
        rig = Rig([made], clock=FakeClock())
        await rig.execution.open()
        await rig.start(plan, "r")
        await first.called.wait()
        await rig.execution._drivers["r"].park()
        await rig.execution.wait("r")
        run = await rig.resume("r")
        assert (run.status, run.output, run.steps["s"].attempts) == ("succeeded", "ok", 3)
        await rig.execution.close()

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["async", "thread"])
def test_a_call_that_takes_too_long_fails_with_a_timeout(kind):
    """The step's limit comes before the tool's; the run goes on without waiting for the call."""
    release = threading.Event()

    async def slow_async() -> int:
        await asyncio.Event().wait()
        return 1

    def slow_thread() -> int:
        release.wait(20)
        return 1

    fn = slow_async if kind == "async" else slow_thread
    made = Tool.from_callable(
        fn, name="t", parameters={"type": "object"}, effect="read", timeout=60, version=1
    )

    async def main():
        async with Rig([made]) as rig:
            run = await rig.run(calling(timeout=0.02))
            assert [(e.code, e.temporary) for e in run.errors] == [("timeout", True)]
            assert "0.02 s" in run.errors[0].message
            assert rig.facilities.threads.abandoned == (1 if kind == "thread" else 0)

    asyncio.run(main())
    release.set()


def test_a_write_that_takes_too_long_is_of_unknown_outcome():
    """It may still happen."""
    made = scripted(FOREVER, effect="write", retries=5, timeout=0.02)
    run = one_run(calling(), made)
    assert (run.status, run.steps["s"].attempts) == ("indeterminate", 1)


@pytest.mark.parametrize("effect", ["read", "write"])
def test_an_asynchronous_tool_that_heeds_no_cancel_is_ended(effect, capsys):
    """Past its timeout the step ends as for any other tool, and the tool with it; the log says so."""
    go_on, ended = asyncio.Event(), []

    @tool(effect=effect, timeout=0.05, name="t")
    async def stubborn() -> int:
        """Swallow every cancel."""
        try:
            while not go_on.is_set():
                with suppress(asyncio.CancelledError):
                    await go_on.wait()
        finally:
            ended.append(1)
        raise RuntimeError("too late")

    async def main():
        async with Rig([stubborn]) as rig:
            run = await rig.run(calling(), "r")
            before = await rig.event_types("r")
            go_on.set()
            await asyncio.sleep(0.05)
            assert await rig.event_types("r") == before
            return run

    run = asyncio.run(main())
    assert statuses(run) == {"s": "failed" if effect == "read" else "indeterminate"}
    assert ended == [1]
    said = capsys.readouterr().err
    assert "a call was ended that did not heed its cancel" in said
    assert "too late" not in said


def test_the_late_result_of_an_abandoned_thread_is_dropped():
    """It reaches neither the run nor the journal, and the pool goes on."""
    release, ended = threading.Event(), threading.Event()

    @tool(effect="read", name="t", version=1)
    def slow(x: int) -> int:
        """Overrun the first time."""
        if x == 1:
            release.wait(20)
            ended.set()
        return x

    plan = plan_of(
        {"id": "a", "tool": "t", "args": {"x": 1}, "timeout": 0.02, "on_error": {"value": 0}},
        {"id": "b", "tool": "t", "args": {"x": 2}, "after": ["a"]},
        output="${[a, b]}",
    )

    async def main():
        async with Rig([slow]) as rig:
            run = await rig.run(plan, "r")
            release.set()
            await asyncio.to_thread(ended.wait)
            assert run.output == [0, 2]
            again = await rig.execution.archive.get("r")
            assert (again.output, again.digest) == ([0, 2], run.digest)

    asyncio.run(main())


class Gauge:
    """A tool that says how many of its calls were under way at once."""

    def __init__(self, name: str = "t", *, on_thread: bool = False, **options: Any) -> None:
        self.now = self.most = 0
        lock = threading.Lock()

        def enter(change: int) -> None:
            with lock:
                self.now += change
                self.most = max(self.most, self.now)

        async def called(x: int) -> int:
            enter(1)
            for _ in range(5):
                await asyncio.sleep(0)
            enter(-1)
            return x

        barrier = threading.Barrier(2, timeout=5)

        def on_a_thread(x: int) -> int:
            enter(1)
            barrier.wait()
            enter(-1)
            return x

        parameters = {"type": "object", "properties": {"x": {"type": "integer"}}}
        fn = on_a_thread if on_thread else called
        self.tool = Tool.from_callable(
            fn, name=name, parameters=parameters, **{"effect": "read", "version": 1, **options}
        )


@pytest.mark.parametrize(
    ("engine", "run_limit", "tool_limit", "most"),
    [
        (64, None, None, 20),
        (5, None, None, 5),
        (64, 4, None, 4),
        (64, None, 3, 3),
        (5, 4, 3, 3),
        (1, 9, 9, 1),
    ],
)
def test_the_narrowest_limit_holds(engine, run_limit, tool_limit, most):
    """Engine, run and tool each bound the calls under way at once."""
    gauge = Gauge(max_concurrency=tool_limit)
    plan = plan_of({"id": "s", "tool": "t", "for_each": "${range(20)}", "args": {"x": "${item}"}})

    async def main():
        async with Rig([gauge.tool], places=engine) as rig:
            assert (await rig.run(plan, concurrency_max=run_limit)).status == "succeeded"

    asyncio.run(main())
    assert gauge.most == most


def test_the_engines_limit_spans_its_runs():
    """Two runs share the places."""
    gauge = Gauge()
    plan = plan_of({"id": "s", "tool": "t", "for_each": "${range(10)}", "args": {"x": "${item}"}})

    async def main():
        async with Rig([gauge.tool], places=3) as rig:
            await asyncio.gather(*(rig.run(plan, reuse="off") for _ in range(4)))

    asyncio.run(main())
    assert gauge.most == 3


def test_synchronous_tools_run_side_by_side_on_threads():
    """Two calls meet at a barrier; the event loop is not blocked."""
    gauge = Gauge(on_thread=True)
    plan = plan_of({"id": "s", "tool": "t", "for_each": "${range(6)}", "args": {"x": "${item}"}})
    assert one_run(plan, gauge.tool).steps["s"].output == list(range(6))
    assert gauge.most >= 2


def test_effect_order_holds_whatever_the_limits():
    """One write at a time on one resource, items in order, reads between writes side by side."""
    order: list[int] = []

    @tool(effect="write", name="t", resource="box")
    async def put(x: int) -> int:
        """Put."""
        for _ in range(20 - x):
            await asyncio.sleep(0)
        order.append(x)
        return x

    plan = plan_of({"id": "s", "tool": "t", "for_each": "${range(10)}", "args": {"x": "${item}"}})
    assert one_run(plan, put).status == "succeeded"
    assert order == list(range(10))


def test_the_context_tells_a_call_its_place_in_the_run():
    """Run, step, attempt and key; the key is there for writes, and differs from item to item."""
    seen: list[tuple[str, str, int, str]] = []

    @tool(effect="write", name="t")
    async def put(x: int, *, ctx: Context) -> int:
        """Put."""
        seen.append((ctx.run_id, ctx.step, ctx.attempt, ctx.idempotency_key))
        return x

    plan = plan_of({"id": "s", "tool": "t", "for_each": "${[1, 1]}", "args": {"x": "${item}"}})

    async def main():
        async with Rig([put]) as rig:
            await rig.run(plan, "r")

    asyncio.run(main())
    assert [each[:3] for each in seen] == [("r", "s[0]", 1), ("r", "s[1]", 1)]
    assert seen[0][3] != seen[1][3]


def test_randomness_follows_from_seed_and_step():
    """The same numbers in every run of one seed, others in each step and with another seed."""

    @tool(effect="read", name="t")
    def draw(*, ctx: Context) -> float:
        """Draw."""
        return ctx.random.random()

    plan = plan_of({"id": "a", "tool": "t"}, {"id": "b", "tool": "t"}, output="${[a, b]}")

    async def main():
        async with Rig([draw]) as rig:
            one, two, other = [(await rig.run(plan, seed=seed)).output for seed in ("1", "1", "2")]
        assert one == two
        assert one[0] != one[1]
        assert one != other

    asyncio.run(main())


def test_a_pure_tool_may_not_look_at_the_clock():
    """Code `impure`."""

    @tool(effect="pure", name="t")
    def impure(*, ctx: Context) -> str:
        """Look."""
        return str(ctx.now())

    (error,) = one_run(calling(), impure).errors
    assert error.code == "impure"


def test_on_error_handles_failures_item_by_item():
    """`skip` leaves the item out, a value stands in for it; the failures are no errors of the run."""

    def body(x: int) -> int:
        if x == 2:
            raise ToolError("no twos")
        return x

    made = ScriptedTool("t", body, effect="read")
    each = {"for_each": "${[1, 2, 3]}", "args": {"x": "${item}"}}
    run = one_run(calling(**each, on_error="skip"), made)
    assert (run.output, run.errors) == ([1, 3], ())
    assert statuses(run) == {
        "s": "succeeded",
        "s[0]": "succeeded",
        "s[1]": "skipped:on-error",
        "s[2]": "succeeded",
    }
    run = one_run(calling(**each, on_error={"value": "${item * 100}"}), made)
    assert (run.output, run.errors) == ([1, 200, 3], ())
    assert run.steps["s[1]"].error.message == "no twos"
    run = one_run(calling(**each), made)
    assert (run.status, [e.step for e in run.errors]) == ("failed", ["s[1]"])
    assert [statuses(run)[path] for path in ("s[0]", "s[1]", "s[2]")] == ["succeeded", "failed", "succeeded"]


def test_outcome_unknown_of_a_read_is_a_failure_like_any_other():
    """Only writes can be indeterminate."""
    run = one_run(calling(on_error={"value": 1}), scripted(OutcomeUnknown("who knows")))
    assert run.output == 1
