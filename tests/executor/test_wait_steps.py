"""A `wait` step waits for some time or until a time: durable, without a worker, and never again in a replay."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import date, timedelta

import pytest
from firmplan import Engine, Plan, PlanBuilder, ToolError, check, tool
from firmplan.plans.waits import WAIT_MAX_S
from firmplan.testing import FakeClock

START = 1_750_000_000.0
HOURS = 3_600.0


def waiting(wait, **more):
    """Return a plan that writes before and after a wait."""
    return {
        "firmplan": 1,
        "inputs": {"d": {"type": "string", "default": "2h"}},
        "steps": [
            {"id": "before", "tool": "send", "args": {"x": 1}},
            {"id": "pause", "wait": wait, "after": ["before"], **more},
            {"id": "then", "tool": "send", "args": {"x": 2}, "after": ["pause"]},
        ],
        "output": "${then}",
    }


PLAN = waiting({"for": "${inputs.d}"})


def sender(sent):
    @tool(effect="write", version=1)
    def send(x: int) -> int:
        """Send."""
        sent.append(x)
        return x

    return send


async def until_waiting(engine, run_id):
    """Return the run once nothing of it is under way."""
    async for event in engine.events(run_id):
        if event.type == "WaitBegun":
            break
    while (run := await engine.get(run_id)).status != "waiting":  # noqa: ASYNC110  # the driver lets go of it
        await asyncio.sleep(0.01)
    return run


async def ended(engine, run_id):
    """Return the run once it has ended by itself."""
    while (run := await engine.get(run_id)).status not in ("succeeded", "failed", "cancelled"):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return run


# --- a wait


def test_a_run_sits_the_wait_out_and_a_replay_does_not():
    sent, clock = [], FakeClock(START)
    with Engine([sender(sent)], store="memory:", clock=clock) as engine:
        run = engine.run_sync(PLAN)
        assert (run.status, run.output, sent) == ("succeeded", 2, [1, 2])
        pause = run.steps["pause"]
        assert (pause.output, pause.until, pause.finished - pause.started) == (None, None, 2 * HOURS)
        assert clock.now() == START + 2 * HOURS
        assert run.usage["seconds"] < HOURS
        assert engine.replay_sync(run.id).digest == run.digest
        assert engine.verify_sync(run.id).ok
        assert clock.now() == START + 2 * HOURS
        begun = next(event for event in engine.events_sync(run.id) if event.type == "WaitBegun")
        assert begun.data["until"] == START + 2 * HOURS
        assert "has waited until 2025-06-15T17:06:40Z" in engine.explain_sync(run.id, "pause").sentence


@pytest.mark.parametrize(
    ("wait", "seconds"),
    [
        ({"for": 90}, 90),
        ({"for": "1h30m"}, 1.5 * HOURS),
        ({"for": "PT2H"}, 2 * HOURS),
        ({"for": "${timedelta(minutes=3)}"}, 180),
        ({"for": 0}, 0),
        ({"until": "2025-06-16"}, 1_750_032_000 - START),
        ({"until": "2025-06-16T02:00:00+02:00"}, 1_750_032_000 - START),
        ({"until": "2025-06-16T00:00:00"}, 1_750_032_000 - START),
        ({"until": "${date('2025-06-14') + timedelta(days=2)}"}, 1_750_032_000 - START),
        ({"until": "${datetime('2025-06-16T02:00:00', 'Europe/Oslo')}"}, 1_750_032_000 - START),
        ({"until": "2020-01-01"}, 0),
    ],
)
def test_how_long_a_wait_is(wait, seconds):
    clock = FakeClock(START)
    with Engine([sender([])], store="memory:", clock=clock) as engine:
        assert check(waiting(wait), engine.tools).ok
        assert engine.run_sync(waiting(wait)).status == "succeeded"
    assert clock.now() == START + seconds


def test_a_computed_wait_that_is_none_fails_its_step():
    with Engine([sender([])], store="memory:", clock=FakeClock(START)) as engine:
        for given, code in (("soon", "bad-value"), ("-1h", "bad-value"), ("99999w", "limit-exceeded")):
            run = engine.run_sync(PLAN, inputs={"d": given})
            assert (run.status, run.errors[0].step, run.errors[0].code) == ("failed", "pause", code)
        run = engine.run_sync(waiting({"for": "${inputs.d}"}, on_error="skip"), inputs={"d": "soon"})
        assert run.steps["pause"].reason == "on-error"


@pytest.mark.parametrize(
    ("wait", "code", "path"),
    [
        ({"for": "soon"}, "bad-literal", ".for"),
        ({"for": -3}, "bad-literal", ".for"),
        ({"for": [1]}, "bad-literal", ".for"),
        ({"for": True}, "bad-literal", ".for"),
        ({"for": WAIT_MAX_S + 1}, "limit-exceeded", ".for"),
        ({"for": "${[1]}"}, "type-mismatch", ".for"),
        ({"until": "tomorrow"}, "bad-literal", ".until"),
        ({"until": "2026-13-01"}, "bad-literal", ".until"),
        ({"until": 3}, "bad-literal", ".until"),
        ({"until": "${inputs.n}"}, "type-mismatch", ".until"),
        ({"until": "${inputs.x}"}, "unknown-ref", ".until"),
        ({}, "bad-shape", ""),
        ({"until": "${timedelta(hours=2)}"}, "type-mismatch", ".until"),
        ({"until": "${date('2026-01-01') if inputs.n else timedelta(days=1)}"}, "type-mismatch", ".until"),
        ({"until": "${date('2026-01-02') - date('2026-01-01')}"}, "type-mismatch", ".until"),
        ({"for": "${date('2026-01-01') + timedelta(days=1)}"}, "type-mismatch", ".for"),
        ({"for": "${'1h' if inputs.n else 'soon'}"}, "bad-literal", ".for"),
        ({"for": f"${{{WAIT_MAX_S} + 1}}"}, "limit-exceeded", ".for"),
        ({"for": 1, "until": "2026-01-01"}, "bad-shape", ""),
        ({"fo": 1}, "bad-shape", ".fo"),
        ("2h", "bad-shape", ""),
    ],
)
def test_the_check_finds_a_wait_that_is_none(wait, code, path):
    plan = {
        "firmplan": 1,
        "inputs": {"n": {"type": "integer"}},
        "steps": [{"id": "p", "wait": wait}],
        "output": "${p}",
    }
    faults = [each for each in check(plan, []).problems if each.severity == "error"]
    assert [(each.code, each.path) for each in faults] == [(code, f"$.steps[0].wait{path}")]


def test_a_wait_has_a_limit():
    """A plan that computes a longer wait fails its step, and one that spells it is refused."""
    assert check(waiting({"for": WAIT_MAX_S}), [sender([])]).ok
    assert not check(waiting({"for": WAIT_MAX_S + 1}), [sender([])]).ok
    with Engine([sender([])], store="memory:", clock=FakeClock(START)) as engine:
        for wait in ({"for": "${int(inputs.d)}"}, {"until": "2200-01-01"}):
            run = engine.run_sync(waiting(wait), inputs={"d": str(WAIT_MAX_S + 1)})
            assert run.errors[0].code == "limit-exceeded"


def test_a_wait_costs_no_call_and_its_value_is_null():
    report = check(waiting({"for": 1}), [sender([])])
    assert (report.bounds.calls_max, report.types["pause"]) == (2, {"type": "null"})


def test_items_wait_together_and_a_plan_that_repeats_polls():
    looks = []

    @tool(effect="read", resource="queue")
    def look() -> int:
        """Look."""
        looks.append(1)
        return len(looks)

    poll = {
        "firmplan": 1,
        "plans": {
            "round": {
                "steps": [
                    {"id": "pause", "wait": {"for": 60}},
                    {"id": "seen", "tool": "look", "after": ["pause"]},
                ],
                "output": "${seen}",
            }
        },
        "steps": [{"id": "poll", "plan": "round", "repeat": {"until": "${poll >= 3}", "max": 9}}],
        "output": "${poll}",
    }
    clock = FakeClock(START)
    with Engine([look], store="memory:", clock=clock) as engine:
        each = {"id": "w", "for_each": "${[60, 120, 60]}", "wait": {"for": "${item}"}}
        run = engine.run_sync({"firmplan": 1, "steps": [each], "output": "${w}"})
        assert (run.output, clock.now()) == ([None, None, None], START + 120)
        assert engine.replay_sync(run.id).digest == run.digest
        run = engine.run_sync(poll)
        assert (run.output, clock.now()) == (3, START + 300)
        assert engine.replay_sync(run.id).digest == run.digest


def test_a_wait_ends_while_other_calls_are_under_way():
    released = asyncio.Event()

    @tool(effect="read", resource="a")
    async def hold() -> int:
        """Return after the other call."""
        await released.wait()
        return 1

    @tool(effect="read", resource="b")
    async def release() -> int:
        """Let the other call return."""
        released.set()
        return 2

    steps = [
        {"id": "a", "tool": "hold"},
        {"id": "pause", "wait": {"for": "1d"}},
        {"id": "b", "tool": "release", "after": ["pause"]},
    ]

    async def main():
        async with Engine([hold, release], store="memory:", clock=FakeClock(START)) as engine:
            return await engine.run({"firmplan": 1, "steps": steps, "output": "${a + b}"})

    run = asyncio.run(main())
    assert (run.status, run.output) == ("succeeded", 3)


# --- durable, and cheap


def test_another_process_waits_for_the_rest(tmp_path):
    """The time is computed once: a later engine ends the wait when the first one would have ended it."""
    sent, store = [], tmp_path / "s.db"

    async def begin():
        async with Engine([sender(sent)], store=store, clock=FakeClock(START, auto=False)) as engine:
            run = await engine.submit(PLAN)
            run = await until_waiting(engine, run.id)
            assert (run.steps["pause"].reason, run.until) == ("timer", START + 2 * HOURS)
            assert not run.abandoned
            return run.id

    async def go_on(run_id):
        clock = FakeClock(START + HOURS)
        async with Engine([sender(sent)], store=store, clock=clock) as engine:
            run = await engine.resume(run_id)
            return run, clock.now()

    run_id = asyncio.run(begin())
    assert sent == [1]
    run, now = asyncio.run(go_on(run_id))
    assert (run.status, sent, now) == ("succeeded", [1, 2], START + 2 * HOURS)


def test_an_engine_that_recovers_takes_up_a_run_whose_time_has_come(tmp_path):
    sent, store = [], tmp_path / "s.db"

    async def begin():
        async with Engine([sender(sent)], store=store, clock=FakeClock(START, auto=False)) as engine:
            return [(await until_waiting(engine, (await engine.submit(PLAN)).id)).id for _ in range(2)]

    async def recovered(run_ids):
        clock = FakeClock(START + HOURS, auto=False)
        async with Engine([sender(sent)], store=store, clock=clock, recover=True) as engine:
            assert [(await engine.get(run_id)).status for run_id in run_ids] == ["waiting", "waiting"]
            clock.advance(HOURS)
            return [(await ended(engine, run_id)).status for run_id in run_ids]

    assert asyncio.run(recovered(asyncio.run(begin()))) == ["succeeded", "succeeded"]
    assert sorted(sent) == [1, 1, 2, 2]
    with sqlite3.connect(store) as db:
        assert db.execute("SELECT * FROM due_runs").fetchall() == []
    db.close()


def test_many_waiting_runs_cost_one_timer(tmp_path):
    async def main():
        clock = FakeClock(START, auto=False)
        async with Engine([sender([])], store="memory:", clock=clock) as engine:
            ids = [(await engine.submit(PLAN)).id for _ in range(30)]
            for run_id in ids:
                await until_waiting(engine, run_id)
            assert len(asyncio.all_tasks()) < 10
            clock.advance(2 * HOURS)
            return [(await engine.wait(run_id)).status for run_id in ids]

    assert asyncio.run(main()) == ["succeeded"] * 30


def test_whoever_waits_is_answered_when_the_engine_closes(tmp_path):
    async def main():
        clock = FakeClock(START, auto=False)
        async with Engine([sender([])], store="memory:", clock=clock) as engine:
            run = await engine.submit(PLAN)
            waits = asyncio.ensure_future(engine.wait(run.id))
            await until_waiting(engine, run.id)
            assert not waits.done()
        return await waits

    assert asyncio.run(main()).status == "waiting"


# --- people, forks and retries


def test_a_waiting_run_can_be_cancelled_and_decided_about():
    sent = []

    @tool(effect="write", resource="till", approval="always")
    def pay(x: int) -> int:
        """Pay."""
        sent.append(x)
        return x

    plan = {
        "firmplan": 1,
        "steps": [
            {"id": "pause", "wait": {"for": "2h"}},
            {"id": "paid", "tool": "pay", "args": {"x": 7}},
            {"id": "both", "set": "${paid}", "after": ["pause"]},
        ],
        "output": "${both}",
    }

    async def main():
        async with Engine([pay], store="memory:", clock=FakeClock(START, auto=False)) as engine:
            run = await until_waiting(engine, (await engine.submit(plan)).id)
            assert [call.step for call in (await engine.waiting(run.id)).calls] == ["paid"]
            await engine.approve(run.id, "paid", by="me")
            async for event in engine.events(run.id):  # a decision does not wait for the time
                if event.type == "CallSucceeded":
                    break
            assert sent == [7]
            await engine.cancel(run.id)
            run = await ended(engine, run.id)
            assert (run.status, run.steps["pause"].status) == ("cancelled", "cancelled")
            retried = await until_waiting(engine, (await engine.submit_retry(run.id)).id)
            assert (retried.steps["pause"].status, sent) == ("waiting", [7])
            await engine.cancel(retried.id)

    asyncio.run(main())


def test_a_fork_waits_again_only_where_it_has_to():
    clock = FakeClock(START)
    with Engine([sender([])], store="memory:", clock=clock) as engine:
        run = engine.run_sync(PLAN)
        fork = engine.wait_sync(engine.fork_sync(run.id, at="then", allow_writes=True).id)
        assert (fork.status, clock.now()) == ("succeeded", START + 2 * HOURS)
        assert "was over in the parent" in engine.explain_sync(fork.id, "pause").sentence
        assert engine.replay_sync(fork.id).digest == fork.digest
        fork = engine.wait_sync(engine.fork_sync(run.id, at="pause", allow_writes=True).id)
        assert (fork.status, clock.now()) == ("succeeded", START + 4 * HOURS)
        # Another time is another wait.
        fork = engine.wait_sync(engine.fork_sync(run.id, inputs={"d": "1h"}, allow_writes=True).id)
        assert (fork.status, clock.now()) == ("succeeded", START + 5 * HOURS)
        fork = engine.wait_sync(engine.fork_sync(run.id, set={"pause": None}, allow_writes=True).id)
        assert (fork.status, clock.now()) == ("succeeded", START + 5 * HOURS)


def test_a_retry_does_not_repeat_a_wait_that_is_over():
    calls = []

    @tool(effect="read", resource="a")
    def look() -> int:
        """Fail once."""
        calls.append(1)
        if len(calls) == 1:
            raise ToolError("not yet")
        return 5

    steps = [{"id": "pause", "wait": {"for": "2h"}}, {"id": "seen", "tool": "look", "after": ["pause"]}]
    clock = FakeClock(START)
    with Engine([look], store="memory:", clock=clock) as engine:
        run = engine.run_sync({"firmplan": 1, "steps": steps, "output": "${seen}"})
        assert run.status == "failed"
        assert engine.retry_sync(run.id).output == 5
    assert clock.now() == START + 2 * HOURS


# --- how plans show it


def test_a_builder_writes_waits_and_plans_show_them():
    p = PlanBuilder("Wait")
    day = p.input("day", str)
    p.wait("2h")
    p.wait(timedelta(minutes=1))
    p.wait(until=date(2026, 12, 24), id="eve")
    last = p.wait(until=day, after=["eve"])
    p.output(last)
    plan = p.build([])
    assert [step.wait for step in plan.steps] == [
        {"for": "2h"},
        {"for": 60.0},
        {"until": "2026-12-24"},
        {"until": "${inputs.day}"},
    ]
    assert 'wait for "2h"' in plan.render("text")
    assert Plan.model_validate(plan.to_dict()).digest == plan.digest
    shorter = plan.apply(
        {"operations": [{"op": "set", "step": "waited", "at": "wait", "value": {"for": "1h"}}]}
    )
    assert "wait" in str(plan.diff(shorter))
    for wrong in ({}, {"until": "2026-01-01"}):
        with pytest.raises(TypeError, match="takes a duration"):
            PlanBuilder("Wait").wait(*(["1h"] if wrong else []), **wrong)
