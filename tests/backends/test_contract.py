"""What every backend keeps: the engine's methods mean the same, whoever drives the runs."""

from __future__ import annotations

import asyncio

import pytest
from firmplan import ConfigError, InputRejected
from public import call, plan, within

SAY = plan(
    call("a", "say", args={"word": "${inputs.w}"}),
    call("b", "say", args={"word": "then"}, after=["a"]),
    inputs={"w": {"type": "string"}},
    output="${a}",
)
SEND = plan(call("s", "send", args={"word": "letter"}), call("t", "say", args={"word": "done"}, after=["s"]))
HANG = plan(call("h", "hang", args={"word": "gate"}), call("t", "say", args={"word": "done"}, after=["h"]))
WAIT = plan({"id": "w", "wait": {"for": "2s"}}, call("t", "say", args={"word": "done"}, after=["w"]))
BREAK = plan(call("a", "say", args={"word": "once"}), call("b", "break_once", args={"word": "${a}"}))


def driver(harness):
    """Return the name of the engine that has to drive."""
    return "worker" if harness.hands_out else "caller"


def test_run_and_submit(place, bench):
    """A run that is submitted is driven by who has to drive it, each step once, and its caller gets the result."""
    harness, store = place

    async def main():
        async with bench(harness, store) as b:
            caller = await b.engine("caller")
            await b.worker("worker")
            submitted = await caller.submit(SAY, inputs={"w": "one"}, run_id="r")
            assert submitted.status in ("queued", "running")
            run = await caller.wait("r")
            assert (run.status, run.output, run.abandoned) == ("succeeded", "one", False)
            assert b.world.calls == [(driver(harness), "one"), (driver(harness), "then")]
            assert (await caller.run(SAY, inputs={"w": "one"}, run_id="r")).digest == run.digest
            again = await caller.run(SAY, inputs={"w": "two"})
            assert (again.output, b.world.of("two")) == ("two", [driver(harness)])
            with pytest.raises(InputRejected, match="exists already"):
                await caller.submit(SAY, inputs={"w": "two"}, run_id="r")
            events = [event.type async for event in caller.events(again.id)]
            assert events[-1] == "RunFinished"

    within(main())


def test_a_decision_moves_a_run_on(harness, bench):
    """A run waits for its approval without anybody, and goes on after it."""

    async def main():
        async with bench(harness) as b:
            caller = await b.engine("caller")
            await b.worker("worker")
            run = await caller.run(SEND, run_id="r")
            assert (run.status, b.world.calls) == ("waiting", [])
            assert await caller.find_owner("r") is None
            await caller.approve("r", "s", by="me")
            run = await caller.resume("r")
            assert run.status == "succeeded"
            assert b.world.calls == [(driver(harness), "letter"), (driver(harness), "done")]

    within(main())


def test_cancel(harness, bench):
    """A run is cancelled while it is driven, and while it waits."""

    async def main():
        async with bench(harness) as b:
            caller = await b.engine("caller")
            await b.worker("worker")
            await caller.submit(HANG, run_id="r")
            await b.world.begun.wait()
            await caller.cancel("r")
            assert (await caller.wait("r")).status == "cancelled"
            await caller.run(SEND, run_id="w")
            await caller.cancel("w")
            assert (await caller.wait("w")).status == "cancelled"
            assert b.world.of("letter") == b.world.of("done") == []

    within(main())


def test_a_wait_ends_by_itself(harness, bench):
    """Whoever waits for a run sits its `wait` steps out; nobody drives it meanwhile."""

    async def main():
        async with bench(harness) as b:
            caller = await b.engine("caller")
            await b.worker("worker")
            await caller.submit(WAIT, run_id="r")
            assert (await caller.wait("r")).status == "succeeded"
            assert b.world.of("done") == [driver(harness)]

    within(main())


def test_runs_that_come_of_runs(harness, bench):
    """A retry, a fork and a larger budget are driven by who has to drive them."""

    async def main():
        async with bench(harness) as b:
            caller = await b.engine("caller")
            await b.worker("worker")
            b.world.dies = True
            failed = await caller.run(BREAK)
            assert failed.status == "failed"
            b.world.dies = False
            assert (await caller.retry(failed.id)).status == "succeeded"
            forked = await caller.fork(failed.id, at="b")
            assert forked.status == "succeeded"
            assert b.world.of("once").count("caller") == (0 if harness.hands_out else len(b.world.of("once")))
            small = await caller.run(SAY, inputs={"w": "dear"}, budget={"calls": 1}, reuse="off")
            assert small.status == "over_budget"
            assert (await caller.resume(small.id, budget={"calls": 9})).status == "succeeded"
            assert b.world.of("dear") == [driver(harness)]

    within(main())


def test_enqueued_twice_is_driven_once(harness, bench):
    """A run that the backend hears of again and again makes its calls once."""

    async def main():
        async with bench(harness) as b:
            caller = await b.engine("caller")
            run_id = await caller.accept(SAY, inputs={"w": "once"})
            assert b.world.calls == []
            await caller.submit(SAY, inputs={"w": "once"}, run_id=run_id)
            await caller.submit(SAY, inputs={"w": "once"}, run_id=run_id)
            await caller.go_on(run_id) if not harness.hands_out else None
            await b.worker("worker")
            await b.worker("worker")
            assert (await caller.wait(run_id)).status == "succeeded"
            await caller.submit(SAY, inputs={"w": "once"}, run_id=run_id)
            assert (await caller.wait(run_id)).status == "succeeded"
            assert b.world.of("once") == [driver(harness)]

    within(main())


def test_schedules(harness, bench):
    """The run of a time is driven by who has to drive it."""

    async def main():
        async with bench(harness) as b:
            caller = await b.engine("caller")
            await b.worker("worker")
            await caller.save_plan("say", {**SAY, "task": "say it"})
            await caller.add_schedule("s", "say", every=1, inputs={"w": "timed"})
            while not (fires := await caller.fire_schedules()):  # noqa: ASYNC110  # the time comes
                await asyncio.sleep(0.05)
            assert (await caller.wait(fires[0].run_id)).status == "succeeded"
            assert b.world.of("timed") == [driver(harness)]

    within(main())


# --- backends whose workers drive


def test_a_decision_wakes_a_run(dispatching, bench):
    """After the approval nobody has to resume the run; the process of the caller drives nothing."""

    async def main():
        async with bench(dispatching) as b:
            caller = await b.engine("caller")
            await b.worker("worker")
            await caller.run(SEND, run_id="r")
            await caller.approve("r", "s", by="me")
            assert (await caller.wait("r")).status == "succeeded"
            assert b.world.of("letter") == ["worker"]

    within(main())


def test_submitted_before_anybody_works(dispatching, bench):
    """A run waits in the store for its first worker, and outlives the engine that submitted it."""

    async def main():
        async with bench(dispatching) as b:
            caller = await b.engine("caller")
            submitted = await caller.submit(SAY, inputs={"w": "early"}, run_id="r")
            assert (submitted.status, submitted.abandoned) == ("queued", False)
            await caller.aclose()
            await b.worker("worker")
            other = await b.engine("other")
            assert (await other.wait("r")).output == "early"
            assert b.world.of("early") == ["worker"]

    within(main())


def test_a_worker_that_stops_hands_its_run_on(dispatching, bench):
    """To cancel `work` parks its runs: another worker goes on at once, and finished steps keep their results."""

    async def main():
        async with bench(dispatching) as b:
            caller = await b.engine("caller")
            first = await b.worker("first")
            await caller.submit(HANG, run_id="r")
            await b.world.begun.wait()
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            assert await caller.find_owner("r") is None
            b.world.gates["gate"].set()
            await b.worker("second")
            assert (await caller.wait("r")).status == "succeeded"
            assert b.world.of("gate") == ["first", "second"]
            assert b.world.of("done") == ["second"]

    within(main())


def test_a_run_that_waits_has_no_slot(dispatching, bench):
    """With one slot, runs that wait for people keep no other run from being driven."""

    async def main():
        async with bench(dispatching) as b:
            caller = await b.engine("caller")
            await b.worker("worker", slots=1)
            for n in range(3):
                assert (await caller.run(SEND, run_id=f"w{n}")).status == "waiting"
            assert (await caller.run(SAY, inputs={"w": "free"})).status == "succeeded"

    within(main())


def test_a_parked_run_goes_on_when_it_is_asked_for(dispatching, bench):
    """A run that killed its workers again and again is handed out again after `resume`, and only then."""

    async def main():
        async with bench(dispatching) as b:
            caller = await b.engine("caller")
            await caller.accept(SAY, inputs={"w": "deadly"}, run_id="r")
            execution = (await caller._open()).execution
            await _park_for_deaths(execution, "r")
            await b.worker("worker")
            assert (await caller.wait("r")).status == "parked"
            assert (await caller.go_on("r")).status == "parked"
            assert (await caller.resume("r")).status == "succeeded"
            assert b.world.of("deadly") == ["worker"]

    within(main())


async def _park_for_deaths(execution, run_id):
    from firmplan.executor.runs.deaths import Deaths

    taken = await execution._take(run_id)
    from dataclasses import replace

    machine = await execution._machine_of(taken)
    await execution._park(replace(taken, deaths=Deaths(3)), machine)
    await execution._let_go(taken.row)


def test_what_is_refused(dispatching, bench, tmp_path):
    """Beside a backend nobody recovers runs, and nobody here is asked about plans."""

    async def main():
        async with bench(dispatching) as b:
            with pytest.raises(ConfigError, match="recover: expected False beside a backend"):
                await b.engine("caller", recover=True)
            caller = await b.engine("caller")
            with pytest.raises(ConfigError, match="confirm_plans"):
                caller.confirm_plans(lambda _run, _plan: None)
            with pytest.raises(ConfigError, match="slots: expected"):
                await caller.work(slots=0)

    within(main())
