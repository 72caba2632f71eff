"""Runs end at their deadline, and approvals that nobody decides about in time are denied: durable, and recorded."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from firmplan import ConfigError, Engine, InputRejected, Plan, PlanBuilder, Planner, check, tool
from firmplan.testing import FakeClock, ScriptedModel

START = 1_750_000_000.0
HOUR = 3_600.0


@tool(effect="write", resource="till", approval="always", version=1)
def pay(x: int) -> int:
    """Pay."""
    return x


@tool(effect="write", resource="box", approval="always", approval_expires="30m", version=1)
def put(x: int) -> int:
    """Put."""
    return x


def plan_of(name="pay", **more):
    step = {"id": "paid", "tool": name, "args": {"x": 7}, **more}
    return {"firmplan": 1, "steps": [step], "output": "${paid}"}


async def ended(engine, run_id):
    """Return the run once it has ended by itself; nobody resumes it."""
    while (run := await engine.get(run_id)).status not in ("succeeded", "failed", "cancelled"):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return run


def ran(tools, plan, clock=None, **settings):
    """Return how a run that waits for a person ends by itself, and how its replay does."""

    async def main():
        options = {name: settings.pop(name) for name in ("deadline",) if name in settings}
        async with Engine(tools, store="memory:", clock=clock or FakeClock(START), **settings) as engine:
            run = await engine.submit(plan, **options)
            run = await ended(engine, run.id)
            replayed = await engine.replay(run.id)
            types = [event.type async for event in engine.events(run.id)]
            assert replayed.digest == run.digest
            sentence = (
                await engine.explain(run.id, "paid" if "paid" in run.steps else next(iter(run.steps)))
            ).sentence
            return run, types, sentence

    return asyncio.run(main())


# --- deadlines


def test_a_run_is_cancelled_at_its_deadline():
    clock = FakeClock(START)
    run, types, sentence = ran([pay], plan_of(), clock, deadline="2h")
    assert (run.status, run.deadline, clock.now()) == ("cancelled", START + 2 * HOUR, START + 2 * HOUR)
    (error,) = run.errors
    assert (error.step, error.code) == ("", "deadline")
    assert "2025-06-15T17:06:40Z" in error.message
    assert (run.steps["paid"].status, run.steps["paid"].reason) == ("cancelled", "deadline")
    assert "DeadlinePassed" in types
    assert "at the deadline of the run" in sentence


def test_a_deadline_counts_waits_and_ends_calls_that_are_under_way():
    @tool(effect="read", resource="a")
    async def hang() -> int:
        """Never return."""
        await asyncio.Event().wait()
        return 1

    steps = [{"id": "a", "tool": "hang"}, {"id": "pause", "wait": {"for": "2d"}}]
    run, _, _ = ran([hang], {"firmplan": 1, "steps": steps, "output": "${a}"}, deadline="1d")
    assert run.status == "cancelled"
    assert {step.reason for step in run.steps.values()} == {"deadline"}


def test_a_run_that_ends_in_time_knows_nothing_of_its_deadline():
    with Engine([], store="memory:", clock=FakeClock(START)) as engine:
        plan = {"firmplan": 1, "steps": [{"id": "pause", "wait": {"for": "1h"}}], "output": "${pause}"}
        run = engine.run_sync(plan, deadline="2h")
        assert (run.status, run.deadline, run.errors) == ("succeeded", START + 2 * HOUR, ())
        assert run.digest == engine.run_sync(plan).digest


def test_a_deadline_passes_while_nobody_is_there(tmp_path):
    """An engine that recovers ends the run when it opens; until then a retry is refused, and then it has no deadline."""
    store = tmp_path / "s.db"

    async def begin():
        async with Engine([pay], store=store, clock=FakeClock(START, auto=False)) as engine:
            run = await engine.submit(plan_of(), deadline=datetime.fromtimestamp(START + HOUR, UTC))
            return (await engine.wait(run.id)).id

    async def later(run_id):
        clock = FakeClock(START + 3 * HOUR, auto=False)
        async with Engine([pay], store=store, clock=clock, recover=True) as engine:
            run = await ended(engine, run_id)
            retried = await engine.retry(run_id)
            return run, retried

    run, retried = asyncio.run(later(asyncio.run(begin())))
    assert (run.status, run.errors[0].code) == ("cancelled", "deadline")
    assert (retried.status, retried.deadline) == ("waiting", None)


def test_a_plan_has_a_deadline_of_its_own():
    """It counts from the beginning of each run, forks and retries included; what the caller says replaces it."""
    clock, plan = FakeClock(START, auto=False), {**plan_of(), "deadline": "2h"}
    with Engine([pay], store="memory:", clock=clock) as engine:
        run = engine.run_sync(plan)
        assert (run.status, run.deadline) == ("waiting", START + 2 * HOUR)
        assert engine.run_sync(plan, deadline="1h").deadline == START + HOUR
        clock.advance(HOUR)
        assert engine.fork_sync(run.id, at="paid").deadline == START + 3 * HOUR
        assert engine.fork_sync(run.id, at="paid", plan=plan_of()).deadline is None
        engine.cancel_sync(run.id)
        assert engine.retry_sync(run.id).deadline == START + 3 * HOUR
        outer = {"firmplan": 1, "steps": [{"id": "s", "plan": "slow"}], "output": "${s}"}
        engine.save_plan_sync("slow", plan)
        assert engine.run_sync(outer).deadline is None


def test_the_deadline_of_a_plan_counts_in_its_digest_in_seconds():
    plain, timed = (Plan.model_validate({**plan_of(), **more}) for more in ({}, {"deadline": "2h"}))
    assert plain.digest != timed.digest == Plan.model_validate({**plan_of(), "deadline": 7200}).digest
    assert plain.digest == Plan.model_validate({**plan_of(), "deadline": None}).digest
    assert plain.apply(plain.diff(timed).to_patch()).to_dict() == timed.to_dict()
    assert timed.apply(timed.diff(plain).to_patch()).digest == plain.digest
    assert "deadline  2h" in timed.render("text")
    assert PlanBuilder.of(timed, [pay]).build().digest == timed.digest
    assert PlanBuilder(deadline=60).to_dict()["deadline"] == 60


@pytest.mark.parametrize("deadline", ["soon", 0, -1, True, "2026-12-24", [], "0s"])
def test_a_plan_with_a_deadline_that_is_none_is_refused(deadline):
    (fault,) = check({**plan_of(), "deadline": deadline}, [pay]).problems
    assert (fault.code, fault.path) == ("bad-shape", "$.deadline")


def test_a_task_has_the_deadline_of_its_plan():
    async def main():
        async with ScriptedModel([{**plan_of(), "deadline": "2h"}]) as model:
            planner = Planner("m", base_url=model.base_url)
            async with Engine(
                [pay], store="memory:", planner=planner, clock=FakeClock(START, auto=False)
            ) as engine:
                return await engine.run("Pay 7")

    run = asyncio.run(main())
    assert (run.status, run.deadline) == ("waiting", START + 2 * HOUR)


def test_a_fork_and_a_retry_have_deadlines_of_their_own():
    """That of the parent does not count, and repeating the request with the same id is the same run."""
    clock = FakeClock(START, auto=False)
    with Engine([pay], store="memory:", clock=clock) as engine:
        run = engine.run_sync(plan_of(), deadline="2h")
        fork = engine.fork_sync(run.id, at="paid", run_id_new="f", deadline="1h")
        assert (fork.status, fork.deadline) == ("waiting", START + HOUR)
        assert engine.fork_sync(run.id, at="paid", run_id_new="f", deadline="3h").deadline == START + HOUR
        assert engine.fork_sync(run.id, at="paid").deadline is None
        engine.cancel_sync(run.id)
        retried = engine.retry_sync(run.id, run_id_new="t", deadline="2025-06-15T17:06:40+00:00")
        assert (retried.status, retried.deadline) == ("waiting", START + 2 * HOUR)
        for again in (engine.fork_sync, engine.retry_sync):
            with pytest.raises(InputRejected, match="deadline: expected a time in the future"):
                again(run.id, deadline="2020-01-01")


@pytest.mark.parametrize("deadline", ["soon", -1, 0, "2020-01-01", "2025-13-01", True, [1], float("nan"), {}])
def test_a_deadline_that_is_none_is_refused(deadline):
    with Engine([pay], store="memory:", clock=FakeClock(START)) as engine:
        with pytest.raises(InputRejected, match="deadline:"):
            engine.run_sync(plan_of(), deadline=deadline)
        assert engine.list_runs_sync().runs == ()


# --- approvals


def test_an_approval_that_nobody_decides_about_is_denied():
    clock = FakeClock(START)
    run, types, sentence = ran([pay], plan_of(), clock, approval_expires="24h")
    assert (run.status, clock.now()) == ("failed", START + 24 * HOUR)
    step = run.steps["paid"]
    assert (step.status, step.reason) == ("cancelled", "denied")
    assert step.decision == {"decision": "denied", "reason": "nobody decided within 24h"}
    assert "ApprovalExpired" in types
    assert "nobody decided within 24h" in step.error.message
    assert sentence


def test_a_tool_knows_better_than_the_engine_how_long():
    clock = FakeClock(START)
    ran([put], plan_of("put"), clock, approval_expires="24h")
    assert clock.now() == START + HOUR / 2


def test_what_a_person_endorses_expires_too():
    steps = [{"id": "to", "endorse": "ann", "returns": {"type": "string"}}]
    run, types, _ = ran([], {"firmplan": 1, "steps": steps, "output": "${to}"}, approval_expires=60)
    assert (run.steps["to"].reason, "ApprovalExpired" in types) == ("denied", True)


def test_a_list_that_is_asked_about_together_expires_together():
    plan = plan_of(for_each="${[1, 2, 3]}", args={"x": "${item}"})
    run, _, _ = ran([pay], plan, approval_expires=60)
    assert [run.steps[f"paid[{n}]"].status for n in range(3)] == ["cancelled", "skipped", "skipped"]


def test_a_decision_in_time_stands_and_a_late_one_is_refused():
    clock = FakeClock(START, auto=False)
    with Engine([pay], store="memory:", clock=clock, approval_expires="1h") as engine:
        run = engine.run_sync(plan_of())
        assert engine.waiting_sync(run.id).calls[0].expires == START + HOUR
        assert run.steps["paid"].until == START + HOUR
        engine.approve_sync(run.id, "paid", by="me")
        assert engine.resume_sync(run.id).output == 7
        run = engine.run_sync(plan_of())
        clock.advance(0.5 * HOUR)
        clock._now += HOUR  # the sleeper has not been woken yet
        with pytest.raises(InputRejected) as refused:
            engine.approve_sync(run.id, "paid", by="me")
        assert refused.value.code == "expired"
        assert "is over; the call is denied" in str(refused.value)
        assert engine.resume_sync(run.id).steps["paid"].reason == "denied"


@pytest.mark.parametrize("given", ["soon", 0, -1, True])
def test_an_expiry_that_is_no_duration_is_refused(given):
    with pytest.raises(ConfigError, match="approval_expires"):
        Engine([], store="memory:", approval_expires=given)
    with pytest.raises(ConfigError, match="approval_expires"):
        tool(effect="write", name="f", approval="always", approval_expires=given)(lambda: None)
