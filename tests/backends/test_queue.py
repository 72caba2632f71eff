"""The seam, with a queue between processes: a worker is killed, tasks are planned and patched by workers, the backend is away."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import backend_child
import pytest
import structlog
from firmplan import Engine, Model, Planner, PlanningFailed, RunDriven, ServerError, tool
from firmplan.executor.runs.owner import HOST_ENV
from firmplan.testing import ScriptedModel, Slow
from public import call, plan, within
from queue_backend import QueueBackend
from structlog.testing import capture_logs
from waiting_for import until

HANG = plan(
    call("a", "say", args={"word": "first"}),
    call("h", "hang", args={"word": "gate"}, after=["a"]),
    output="${h}",
)


@tool(effect="read", version="1")
async def hang(word: str) -> str:
    """Return at once."""
    return word


@tool(effect="read", version="1")
async def price(item: str) -> int:
    """Price of an item in cents."""
    if item == "gold":
        raise ValueError("not for sale")
    return len(item)


def test_a_killed_worker_is_taken_over(tmp_path):
    """The run of a worker that is killed is handed out again, and taken over; the caller's wait goes on meanwhile."""
    store, queue = str(tmp_path / "s.db"), tmp_path / "queue.db"

    async def main():
        async with Engine([backend_child.say, hang], store=store, backend=QueueBackend(queue)) as caller:
            await caller.submit(HANG, run_id="r")
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                str(Path(backend_child.__file__)),
                store,
                str(queue),
                stdout=asyncio.subprocess.PIPE,
            )
            assert await child.stdout.readline() == b"gate\n"
            waiting = asyncio.create_task(caller.wait("r"))
            assert (await caller.find_owner("r")).is_here is False
            child.kill()
            await child.wait()
            async with Engine([backend_child.say, hang], store=store, backend=QueueBackend(queue)) as worker:
                working = asyncio.create_task(worker.work(slots=1))
                run = await waiting
                working.cancel()
                await asyncio.wait([working])
            assert (run.status, run.output) == ("succeeded", "gate")
            resumed = [event.data async for event in caller.events("r") if event.type == "RunResumed"]
            assert [each.get("died") for each in resumed] == [True]

    within(main())


GOLD = plan(call("g", "price", args={"item": "gold"}), task="Tell the price of gold", output="${g}")
PATCH = {
    "reasoning": "Gold is not for sale.",
    "operations": [
        {"op": "replace", "step": "g", "with": {"id": "g", "tool": "price", "args": {"item": "silver"}}}
    ],
}


def test_workers_patch_plans(tmp_path):
    """A worker patches the plan of a failed run, once, and the run of the patched plan is queued; the caller asks no model."""
    queue = tmp_path / "queue.db"

    async def main():
        async with ScriptedModel([PATCH]) as model, ScriptedModel([]) as unasked:
            callers, workers = Planner("m", base_url=unasked.base_url), Planner("m", base_url=model.base_url)
            async with (
                Engine([price], store=tmp_path / "s.db", planner=callers, backend=QueueBackend(queue)) as one,
                Engine([price], store=tmp_path / "s.db", planner=workers, backend=QueueBackend(queue)) as two,
            ):
                working = asyncio.create_task(two.work(slots=2))
                run = await one.run(GOLD, run_id="r", replan=1)
                assert (run.status, run.output, run.parent) == ("succeeded", 6, "r")
                assert (len(model.requests), unasked.requests) == (1, [])
                working.cancel()
                await asyncio.wait([working])

    within(main())


def test_a_caller_hears_at_once_that_no_worker_finds_a_patch(tmp_path):
    """However long the worker looks for one: the run has an owner until the answer is there, and no caller asks a clock."""
    queue = tmp_path / "queue.db"

    async def main():
        async with (
            ScriptedModel([]) as unasked,
            ScriptedModel([Slow({"operations": []}, 4.0)] + [{"operations": []}] * 19) as model,
        ):
            callers, workers = Planner("m", base_url=unasked.base_url), Planner("m", base_url=model.base_url)
            async with (
                Engine([price], store=tmp_path / "s.db", planner=callers, backend=QueueBackend(queue)) as one,
                Engine([price], store=tmp_path / "s.db", planner=workers, backend=QueueBackend(queue)) as two,
            ):
                working = asyncio.create_task(two.work(slots=2))
                waiting = asyncio.create_task(one.run(GOLD, run_id="r", replan=1))
                await until(lambda: model.requests)
                # The run has failed, and has its owner yet: nobody else patches its plan, and who waits goes on waiting.
                assert await one.status("r") == "failed"
                with pytest.raises(RunDriven):
                    await one.drive("r")
                assert not waiting.done()
                run = await waiting
                assert (run.status, run.id, unasked.requests) == ("failed", "r", [])
                asked = len(model.requests)
                working.cancel()
                await asyncio.wait([working])
                # It is settled, for every later caller, too.
                assert (await one.wait("r")).status == "failed"
                assert len(model.requests) == asked

    within(main())


@pytest.mark.postgres
def test_the_lease_of_a_worker_is_renewed_while_it_looks_for_a_patch(tmp_path, postgres_url):
    """A model may take longer than a lease, and another worker would ask one as well."""
    queue = tmp_path / "queue.db"

    async def main():
        async with ScriptedModel([]) as unasked, ScriptedModel([Slow(PATCH, 600.0)]) as model:
            callers, workers = Planner("m", base_url=unasked.base_url), Planner("m", base_url=model.base_url)
            async with (
                Engine([price], store=postgres_url, planner=callers, backend=QueueBackend(queue)) as one,
                Engine(
                    [price], store=postgres_url, planner=workers, backend=QueueBackend(queue), lease=2
                ) as two,
            ):
                working = asyncio.create_task(two.work(slots=1))
                await one.submit(GOLD, run_id="r", replan=1)
                await until(lambda: model.requests)
                execution = two._opened.execution
                await until(lambda: not execution._driving)

                async def beat():
                    return (await execution._store.list_owners())[execution._owner.name]

                begun = await beat()
                await until(beat, lambda found: found >= begun + 3)
                working.cancel()
                await asyncio.wait([working])

    within(main())


def test_a_patch_that_its_worker_did_not_finish_is_made_by_the_next(tmp_path, monkeypatch):
    """The worker closes while it asks for a patch: the failed run stays with its owner, and the caller waits for the next worker.

    The first worker is of another machine: that it is gone is in the store, so nobody waits for the end of its lease, which is longer than this test may take.
    """
    queue = tmp_path / "queue.db"

    async def main():
        async with ScriptedModel([]) as unasked, ScriptedModel([Slow(PATCH, 60.0), PATCH]) as model:
            callers, workers = Planner("m", base_url=unasked.base_url), Planner("m", base_url=model.base_url)
            store = tmp_path / "s.db"
            async with Engine([price], store=store, planner=callers, backend=QueueBackend(queue)) as one:
                await one.count_runs()
                monkeypatch.setenv(HOST_ENV, "elsewhere")
                async with Engine(
                    [price], store=store, planner=workers, backend=QueueBackend(queue), lease=3600
                ) as two:
                    working = asyncio.create_task(two.work(slots=2))
                    waiting = asyncio.create_task(one.run(GOLD, run_id="r", replan=1))
                    await until(lambda: model.requests)
                    monkeypatch.delenv(HOST_ENV)
                    working.cancel()
                    await asyncio.wait([working])
                assert not waiting.done()
                async with Engine([price], store=store, planner=workers, backend=QueueBackend(queue)) as two:
                    working = asyncio.create_task(two.work(slots=2))
                    run = await waiting
                    assert (run.status, run.output, run.parent) == ("succeeded", 6, "r")
                    working.cancel()
                    await asyncio.wait([working])

    within(main())


ASKED = {"firmplan": 1, "steps": [{"id": "a", "ask": {"prompt": "Say hello"}}], "output": "${a}"}


def test_what_a_caller_cannot_hear_is_told_once(tmp_path):
    """`on_words` and `stream` change nothing where workers drive; the log says so, and the events have the answer as a whole."""
    queue, heard = tmp_path / "queue.db", []

    async def main():
        async with ScriptedModel(["hello", "hello again"]) as model:
            options = {"store": tmp_path / "s.db", "models": {"default": Model("m", base_url=model.base_url)}}
            async with (
                Engine([price], backend=QueueBackend(queue), **options) as one,
                Engine([price], backend=QueueBackend(queue), **options) as two,
            ):
                working = asyncio.create_task(two.work(slots=1))
                with capture_logs() as told:
                    for run_id in ("r", "s"):
                        run = await one.run(
                            ASKED, run_id=run_id, on_words=heard.append, stream=True, reuse="off"
                        )
                        assert run.status == "succeeded"
                answers = [
                    str(event.data) async for event in one.events("r") if event.type == "CallSucceeded"
                ]
                assert "'hello'" in answers[0]
                working.cancel()
                await asyncio.wait([working])
                return [
                    line["option"]
                    for line in told
                    if line["event"] == "an option does nothing with a backend"
                ]

    assert within(main()) == ["on_words", "stream"]
    structlog.reset_defaults()
    assert heard == []


def test_workers_plan_tasks(tmp_path):
    """A worker plans a task; if it finds no plan, whoever runs the task gets the error, as from an engine without a backend."""
    queue = tmp_path / "queue.db"

    async def main():
        async with ScriptedModel([{"nonsense": 1}] * 20) as model, ScriptedModel([]) as unasked:
            callers, workers = Planner("m", base_url=unasked.base_url), Planner("m", base_url=model.base_url)
            async with (
                Engine([price], store=tmp_path / "s.db", planner=callers, backend=QueueBackend(queue)) as one,
                Engine([price], store=tmp_path / "s.db", planner=workers, backend=QueueBackend(queue)) as two,
            ):
                working = asyncio.create_task(two.work(slots=1))
                with pytest.raises(PlanningFailed):
                    await one.run("Tell the price of tea")
                assert unasked.requests == []
                working.cancel()
                await asyncio.wait([working])

    within(main())


TEA = {
    "firmplan": 1,
    "task": "Tell the price of tea",
    "steps": [{"id": "t", "tool": "price", "args": {"item": "tea"}}],
    "output": "${t}",
}


def test_a_drive_that_plans_is_cancelled(tmp_path):
    """A task that is parked while a model writes its plan is released, and planned by the next one who drives it."""

    async def main():
        async with ScriptedModel([Slow(TEA, 60), TEA]) as model:
            planner = Planner("m", base_url=model.base_url)
            async with Engine([price], store=tmp_path / "s.db", planner=planner) as engine:
                run_id = await engine.accept("Tell the price of tea")
                driving = asyncio.create_task(engine.drive(run_id))
                while not model.requests:  # noqa: ASYNC110  # a list, which tells nobody
                    await asyncio.sleep(0.01)
                driving.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await driving
                assert (await engine.status(run_id), await engine.find_owner(run_id)) == ("queued", None)
                assert (await engine.drive(run_id)).output == 3

    within(main())


class Away(QueueBackend):
    """A queue that cannot be reached."""

    async def enqueue(self, run):
        """Fail."""
        raise ServerError("the queue does not answer", code="unreachable")

    async def wake(self, run_id):
        """Fail."""
        raise ServerError("the queue does not answer", code="unreachable")


def test_a_backend_that_is_away_loses_no_run(tmp_path):
    """The run is durable, its caller gets it and no error, the log says so in a line or two for all; it goes on when it is resumed later."""
    queue, store = tmp_path / "queue.db", tmp_path / "s.db"

    async def main():
        with capture_logs() as logs:
            async with Engine([hang], store=store, backend=Away(queue)) as caller:
                runs = [
                    await caller.submit(plan(call("h", "hang", args={"word": "x"})), run_id=run_id)
                    for run_id in ("r", "s", "t", "u")
                ]
                assert {run.status for run in runs} == {"queued"}
        structlog.reset_defaults()
        told = [line["runs"] for line in logs if line["event"] == "the backend was not told"]
        assert (sum(told), len(told) < len(runs)) == (4, True)
        async with Engine([hang], store=store, backend=QueueBackend(queue)) as worker:
            working = asyncio.create_task(worker.work(slots=1))
            assert (await worker.resume("r")).status == "succeeded"
            working.cancel()
            await asyncio.wait([working])

    within(main())
