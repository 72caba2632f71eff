"""Which earlier results stand for a call, and which never do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from firmplan.errors import OutcomeUnknown, ToolError
from firmplan.executor import Review
from firmplan.testing import FakeClock, Held, MemoryStore, ScriptedTool
from firmplan.tools import Context, tool
from rig import Rig, plan_of

ONE = plan_of(
    {"id": "s", "tool": "t", "args": {"x": "${inputs.x}"}}, output="${s}", inputs={"x": {"type": "integer"}}
)
PARAMETERS = {"type": "object", "properties": {"x": {"type": "integer"}}}


class Counted:
    """A tool that counts its calls: a script, since what a function captures is part of its fingerprint."""

    def __init__(self, fn: Callable[[int], Any] = lambda x: x, **options: Any) -> None:
        self.fn = fn
        self.tools: list[ScriptedTool] = []
        self.tool = self.made(**options)

    def made(self, *, name: str = "t", **options: Any) -> ScriptedTool:
        """Return the same body as another tool."""
        options = {"effect": "pure", "parameters": PARAMETERS, **options}
        self.tools.append(ScriptedTool(name, self.fn, **options))
        return self.tools[-1]

    @property
    def calls(self) -> list[Any]:
        """The argument of every call."""
        return [call["x"] for made in self.tools for call in made.calls]


def runs(*steps, store=None, **facilities):
    """Run (tools, plan, options) one after another on one store; return the runs."""

    async def main():
        made, kept = [], store or MemoryStore()
        for number, (tools, plan, options) in enumerate(steps):
            rig = Rig(tools, kept, **facilities)
            await rig.execution.open()
            made.append(await rig.run(plan, f"r{number}", **options))
        await kept.close()
        return made

    return asyncio.run(main())


def x(value: int, **options: Any) -> dict[str, Any]:
    return {"inputs": {"x": value}, **options}


def test_a_pure_result_stands_for_equal_arguments():
    """Equal after normalisation; others are called."""
    counted = Counted()
    first, second, third = runs(*[([counted.tool], ONE, x(value)) for value in (1, 1, 2)])
    assert counted.calls == [1, 2]
    assert [run.steps["s"].reused for run in (first, second, third)] == [False, True, False]
    assert (second.steps["s"].attempts, second.usage["reused"], second.usage["calls"]) == (0, 1, 0)
    assert second.output == first.output
    assert second.digest == first.digest, "reuse is no part of what happened"


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"name": "other"}, {"fingerprint_extra": "prompt"}, {"returns": {"type": "integer"}}],
    ids=str,
)
def test_whatever_can_change_a_result_is_in_the_key(change):
    """Another version, name, text or type: another call."""
    counted = Counted()
    plan = plan_of({"id": "s", "tool": change.get("name", "t"), "args": {"x": 1}})
    runs(([counted.tool], ONE, x(1)), ([counted.made(**change)], plan, {}))
    assert counted.calls == [1, 1]


def test_changed_code_is_another_tool():
    """Not its name decides, but what it does."""

    def make(body: str):
        scope: dict[str, Any] = {}
        exec(body, scope)
        return tool(scope["t"], effect="pure")

    one, other = (make(f"def t(x: int) -> int:\n    'Add.'\n    return x + {n}\n") for n in (1, 2))
    outputs = [run.output for run in runs(([one], ONE, x(1)), ([other], ONE, x(1)))]
    assert outputs == [2, 3]


def test_a_read_without_reuse_for_is_always_called():
    """And so is a write, whatever happens."""
    for effect in ("read", "write"):
        counted = Counted(effect=effect)
        runs(*[([counted.tool], ONE, x(1))] * 3)
        assert counted.calls == [1, 1, 1]


def test_a_read_is_reused_while_it_is_fresh():
    """By the clock: at the limit, not past it."""
    clock, counted = FakeClock(auto=False), Counted(effect="read", reuse_for="1h")

    async def main():
        async with Rig([counted.tool], clock=clock) as rig:
            for seconds, calls in ((0, 1), (3599, 1), (1, 1), (1, 2), (3600, 2), (3601, 3)):
                clock.advance(seconds)
                run = await rig.run(ONE, **x(1))
                assert len(counted.calls) == calls, f"{seconds} s later"
                assert run.steps["s"].reused == (run.usage["calls"] == 0)

    asyncio.run(main())


def test_forever_is_forever():
    """A read that never ages."""
    clock, counted = FakeClock(auto=False), Counted(effect="read", reuse_for="forever")

    async def main():
        async with Rig([counted.tool], clock=clock) as rig:
            await rig.run(ONE, **x(1))
            clock.advance(1e9)
            await rig.run(ONE, **x(1))

    asyncio.run(main())
    assert counted.calls == [1]


@pytest.mark.parametrize("reuse_for", ["1h", "forever"])
def test_a_read_from_the_future_is_called_again(reuse_for):
    """A clock was ahead when it was made, so nobody knows its age; explain says so. The new result counts from now on. Pure results have no age."""
    clock, read = FakeClock(auto=False), Counted(effect="read", reuse_for=reuse_for)
    pure = Counted(effect="pure")

    async def main():
        async with Rig([read.tool], clock=clock) as rig, Rig([pure.tool], clock=clock) as timeless:
            clock.advance(7200)
            await rig.run(ONE, **x(1))
            await timeless.run(ONE, **x(1))
            clock.advance(-3600)
            run = await rig.run(ONE, **x(1))
            assert (len(read.calls), run.steps["s"].reused) == (2, False)
            why = await Review(rig.facilities, rig.execution.archive).explain(run.id, "s")
            assert why.because == "future"
            assert "was made 3600 s in the future" in str(why)
            assert (await rig.run(ONE, **x(1))).steps["s"].reused
            assert (await timeless.run(ONE, **x(1))).steps["s"].reused

    asyncio.run(main())


WRITES = plan_of({"id": "w", "tool": "w"})


def writing(resource: str, *script: Any, **options: Any) -> ScriptedTool:
    return ScriptedTool("w", list(script) or None, effect="write", resource=resource, **options)


@pytest.mark.parametrize(
    ("read_from", "written_to", "is_reused"),
    [
        ("box", "box", False),
        ("box", "mail", True),
        ("box", "world", False),
        ("world", "mail", False),
        ("world", "world", False),
    ],
)
def test_a_write_on_a_conflicting_resource_ends_reuse(read_from, written_to, is_reused):
    """In any run of the store."""
    counted = Counted(effect="read", reuse_for="1h", resource=read_from)
    tools = [counted.tool, writing(written_to)]
    found = runs((tools, ONE, x(1)), (tools, WRITES, {}), (tools, ONE, x(1)), (tools, ONE, x(1)))
    assert found[2].steps["s"].reused == is_reused
    assert found[3].steps["s"].reused, "what was read after the write is good again"


def test_a_read_that_starts_while_a_write_is_in_flight_is_not_kept():
    """In another run: it may have seen the world half changed."""
    counted, held = Counted(effect="read", reuse_for="1h", resource="box"), Held("done")

    async def main():
        async with Rig([counted.tool, writing("box", held)]) as rig:
            await rig.start(WRITES, "w")
            await held.called.wait()
            await rig.run(ONE, **x(1))
            await rig.run(ONE, **x(1))
            assert counted.calls == [1, 1]
            held.release()
            await rig.execution.wait("w")
            for _ in range(2):
                await rig.run(ONE, **x(1))
            assert counted.calls == [1, 1, 1]

    asyncio.run(main())


def test_a_read_that_a_write_overtakes_is_not_reused():
    """The write started after the read, and before the read was kept."""
    held = Held(7)
    reading = ScriptedTool("t", [held, 8, 9], effect="read", reuse_for="1h", resource="box")

    async def main():
        async with Rig([reading, writing("box")]) as rig:
            await rig.start(ONE, "r", **x(1))
            await held.called.wait()
            await rig.run(WRITES)
            held.release()
            assert (await rig.execution.wait("r")).output == 7
            assert (await rig.run(ONE, **x(1))).output == 8
            assert (await rig.run(ONE, **x(1))).output == 8

    asyncio.run(main())


def test_a_write_of_unknown_outcome_ends_reuse_until_it_is_resolved():
    """It may take effect at any moment."""
    counted = Counted(effect="read", reuse_for="1h", resource="box")

    async def main():
        async with Rig([counted.tool, writing("box", OutcomeUnknown("lost"))]) as rig:
            await rig.run(ONE, **x(1))
            assert (await rig.run(WRITES, "w")).status == "indeterminate"
            for _ in range(2):
                await rig.run(ONE, **x(1))
            assert len(counted.calls) == 3
            await rig.decisions.resolve_done("w", "w", None)
            await rig.resume("w")
            for _ in range(2):
                await rig.run(ONE, **x(1))
            assert len(counted.calls) == 4

    asyncio.run(main())


def test_a_write_that_failed_ends_reuse_as_well():
    """Each intent and each outcome counts."""
    counted = Counted(effect="read", reuse_for="1h", resource="box")
    tools = [counted.tool, writing("box", ToolError("no"))]
    runs((tools, ONE, x(1)), (tools, WRITES, {}), (tools, ONE, x(1)), (tools, ONE, x(1)))
    assert len(counted.calls) == 2


def test_pure_results_do_not_care_about_writes():
    """They follow from their arguments."""
    counted = Counted()
    tools = [counted.tool, writing("world")]
    runs((tools, ONE, x(1)), (tools, WRITES, {}), (tools, ONE, x(1)))
    assert counted.calls == [1]


@pytest.mark.parametrize("fault", [ToolError("no"), ValueError("no"), TimeoutError()], ids=repr)
def test_failures_are_never_reused(fault):
    """Nor is a result that does not fit."""
    made = ScriptedTool("t", [fault, "text", 3], effect="pure", returns={"type": "integer"})
    found = runs(*[([made], ONE, x(1))] * 4)
    assert [run.status for run in found] == ["failed", "failed", "succeeded", "succeeded"]
    assert len(made.calls) == 3


def test_identical_calls_in_flight_are_joined():
    """In one run, and in two of one engine: one call is made."""
    held = Held(5)
    plan = plan_of(
        {"id": "s", "tool": "t", "for_each": "${[1, 1, 1]}", "args": {"x": "${item}"}}, output="${s}"
    )

    async def main():
        made = ScriptedTool("t", [held], effect="pure")
        async with Rig([made]) as rig:
            for name in ("a", "b"):
                await rig.start(plan, name)
            await held.called.wait()
            while (other := rig.execution._drivers.get("b")) is None or len(other._tasks) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0)  # until it lines up behind the other run
            await asyncio.sleep(0)
            held.release()
            one, two = await rig.execution.wait("a"), await rig.execution.wait("b")
            assert (one.output, two.output) == ([5, 5, 5], [5, 5, 5])
            assert len(made.calls) == 1
            assert sorted([one.usage["calls"], two.usage["calls"]]) == [0, 1]

    asyncio.run(main())


def test_when_the_call_that_others_wait_for_fails_only_one_more_is_made():
    """They line up again behind the next one."""
    held = Held(ToolError("no"))
    plan = plan_of(
        {
            "id": "s",
            "tool": "t",
            "for_each": "${[1, 1, 1, 1, 1, 1]}",
            "args": {"x": "${item}"},
            "on_error": "skip",
        },
        output="${s}",
    )

    async def main():
        made = ScriptedTool("t", [held, 7], effect="pure")
        async with Rig([made]) as rig:
            await rig.start(plan, "a")
            await held.called.wait()
            held.release()
            run = await rig.execution.wait("a")
            assert (run.output, len(made.calls)) == ([7] * 5, 2)

    asyncio.run(main())


def test_a_joined_read_is_of_no_use_after_a_write():
    """The one who joins would get what was read before the write."""
    held = Held("before")
    reading = ScriptedTool("t", [held, "after"], effect="read", reuse_for="1h", resource="box")

    async def main():
        async with Rig([reading, writing("box")]) as rig:
            await rig.start(ONE, "a", **x(1))
            await held.called.wait()
            await rig.run(WRITES)
            await rig.start(ONE, "b", **x(1))
            held.release()
            assert (await rig.execution.wait("a")).output == "before"
            assert (await rig.execution.wait("b")).output == "after"

    asyncio.run(main())


def test_what_a_call_read_of_the_environment_must_still_be_so():
    """The value, or that it is not set."""
    environ: dict[str, str] = {"PLACE": "Rome"}

    @tool(effect="pure", name="t", version=1)
    def where(x: int, *, ctx: Context) -> str:
        """Tell."""
        return f"{ctx.env('PLACE')} {ctx.env('UNSET', 'none')}"

    async def main():
        async with Rig([where], environ=environ) as rig:
            outputs = []
            for change in ({}, {}, {"PLACE": "Oslo"}, {}, {"UNSET": "x"}):
                environ.update(change)
                run = await rig.run(ONE, **x(1))
                outputs.append((run.output, run.steps["s"].reused))
        assert outputs == [
            ("Rome none", False),
            ("Rome none", True),
            ("Oslo none", False),
            ("Oslo none", True),
            ("Oslo x", False),
        ]

    asyncio.run(main())


@pytest.mark.parametrize("use", ["ctx.now()", "ctx.uuid()", "ctx.random.random()", "ctx.secret('KEY')"])
def test_a_read_that_used_clock_chance_or_a_secret_is_not_reused(use):
    """Its result follows from more than its arguments."""
    calls: list[int] = []

    @tool(effect="read", reuse_for="forever", name="t", version=1)
    def using(x: int, *, ctx: Context) -> str:
        """Use."""
        calls.append(x)
        return str(eval(use))

    runs(*[([using], ONE, x(1))] * 2, secrets={"KEY": "sk-1"})
    assert calls == [1, 1]


def test_secrets_stand_as_their_names():
    """In journal, intents, keys, messages and approvals; and a call that was given one is never reused."""
    given: list[str] = []

    @tool(effect="pure", name="t", version=1)
    def using(key: str, x: int) -> int:
        """Use it, or say too much."""
        given.append(key)
        if x == 2:
            raise ToolError(f"the key {key} is wrong")
        return x

    plan = plan_of(
        {"id": "a", "tool": "t", "args": {"key": '${secret("KEY")}', "x": 1}},
        {"id": "b", "tool": "t", "args": {"key": '${secret("KEY")}', "x": 2}, "on_error": "skip"},
        {"id": "c", "tool": "t", "args": {"key": '${secret("KEY")}', "x": "${[1, 2]}"}, "on_error": "skip"},
    )

    async def main():
        async with Rig([using], secrets={"KEY": "sk-very-secret"}) as rig:
            for run_id in ("one", "two"):
                run = await rig.run(plan, run_id)
                assert run.status == "succeeded"
                assert "sk-very-secret" not in str(run.to_dict())
                assert b"sk-very-secret" not in b"".join(await rig.store.read_journal(run_id))
            assert 'secret("KEY")' in run.steps["b"].error.message
            assert len(given) == 4
        async with Rig([using], secrets={}) as rig:
            run = await rig.run(plan, "three")
            assert [(e.step, e.code) for e in run.errors] == [("a", "no-secret")]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("mode", "calls", "reused_later"),
    [("auto", [1], True), ("off", [1, 1], True), ("refresh", [1, 1], True), ("only", [1], True)],
)
def test_the_mode_of_a_run_says_how_far_results_are_reused(mode, calls, reused_later):
    """After a first run in `auto`."""
    counted = Counted()
    found = runs(
        ([counted.tool], ONE, x(1)), ([counted.tool], ONE, x(1, reuse=mode)), ([counted.tool], ONE, x(1))
    )
    assert counted.calls == calls
    assert found[2].steps["s"].reused == reused_later


def test_off_keeps_nothing_and_refresh_keeps_what_is_new():
    """`off`: as if there were no index; `refresh`: called, and kept for later."""
    for mode, values in (("off", [1, 2, 3]), ("refresh", [1, 2, 2])):
        made = ScriptedTool("t", [1, 2, 3], effect="pure")
        first = "auto" if mode == "refresh" else "off"
        found = runs(([made], ONE, x(1, reuse=first)), ([made], ONE, x(1, reuse=mode)), ([made], ONE, x(1)))
        assert [run.output for run in found] == values


def test_only_makes_no_call_and_says_what_is_missing():
    """A step without an earlier result fails; writes are called."""
    counted = Counted()
    (run,) = runs(([counted.tool], ONE, x(1, reuse="only")))
    assert counted.calls == []
    assert [(e.step, e.code) for e in run.errors] == [("s", "not-reusable")]
    (run,) = runs(([writing("box")], WRITES, {"reuse": "only"}))
    assert run.status == "succeeded"


def test_items_of_a_sampled_model_call_are_different_answers():
    """Index and iteration are in the key of a `model` tool, and a later run has the same five answers."""
    made = ScriptedTool("t", [10, 11, 12, 13, 14], effect="model")
    plan = plan_of(
        {"id": "s", "tool": "t", "for_each": "${[1, 1, 1, 1, 1]}", "args": {"x": "${item}"}}, output="${s}"
    )
    one, two = runs(([made], plan, {}), ([made], plan, {}))
    assert sorted(one.output) == [10, 11, 12, 13, 14]
    assert two.output == one.output
    assert len(made.calls) == 5
    assert two.steps["s"].reused


def test_items_around_a_sub_plan_are_samples_too():
    """An inner step asks for each item of its sub-plan, and each iteration; a plain sub-plan asks what the plan by itself asks."""
    made = ScriptedTool("t", [10, 11, 12, 13, 14], effect="model")
    inner = {"steps": [{"id": "asked", "tool": "t", "args": {"x": 1}}], "output": "${asked}"}
    plan = plan_of(
        {"id": "alone", "tool": "t", "args": {"x": 1}},
        {"id": "plain", "plan": "inner", "after": ["alone"]},
        {"id": "many", "plan": "inner", "for_each": "${[1, 2, 3]}", "after": ["plain"]},
        {"id": "till", "plan": "inner", "repeat": {"until": "${till >= 14}", "max": 3}, "after": ["many"]},
        output="${[alone, plain, many, till]}",
        plans={"inner": inner},
    )
    one, two = runs(([made], plan, {}), ([made], plan, {}))
    alone, plain, many, till = one.output
    assert (alone, plain, sorted(many), till) == (10, 10, [10, 11, 12], 14)
    assert two.output == one.output
    assert len(made.calls) == 5


def test_a_chain_of_results_that_are_found_is_no_task_each(tmp_path):
    """They are noted one after another in few tasks, between which others have their turn."""
    made = Counted()
    steps = [{"id": "s0", "tool": "t", "args": {"x": 1}}]
    steps += [{"id": f"s{n}", "tool": "t", "args": {"x": f"${{s{n - 1} + 1}}"}} for n in range(1, 400)]
    plan = plan_of(*steps, output="${s399}")

    async def main():
        async with Rig([made.tool], str(tmp_path / "s.db")) as rig:
            assert (await rig.run(plan)).output == 400
            tasks, turns = 0, 0

            def count(loop, work, **options):
                nonlocal tasks
                tasks += 1
                return asyncio.Task(work, loop=loop, **options)

            async def tick():
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            asyncio.get_running_loop().set_task_factory(count)
            other = asyncio.create_task(tick())
            run = await rig.run(plan)
            other.cancel()
            return run, tasks, turns

    run, tasks, turns = asyncio.run(main())
    assert run.output == 400
    assert all(view.reused for view in run.steps.values())
    assert tasks < 200
    assert turns > 2
    assert len(made.calls) == 400
