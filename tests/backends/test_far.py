"""Calls of tools with a queue, through Temporal's development server and PostgreSQL: workers of the queue in this process, and in processes that are killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count

import far_tools
import pytest
import structlog
from firmplan import Artifact, Context, Engine, ToolError, tool
from firmplan.backends.temporal import far
from firmplan.errors import ConfigError
from firmplan.executor.calls.far import FarServer
from firmplan.executor.calls.lease import EXIT_CODE
from structlog.testing import capture_logs
from temporalio.api.workflowservice.v1 import DeleteActivityExecutionRequest
from temporalio.service import RPCError, RPCStatusCode
from waiting_for import in_loop, until

pytestmark = [pytest.mark.temporal, pytest.mark.postgres, pytest.mark.timeout(180)]
NUMBERS = count(1)
LEASE_S = 6.0


@pytest.fixture
def backend(temporal_server):
    """The address of a queue of runs that no other test uses."""
    return temporal_server.url(f"runs-{next(NUMBERS)}")


@pytest.fixture
def queue():
    """A queue of calls that no other test uses."""
    return f"calls-{next(NUMBERS)}"


def in_queue(queue, *tools):
    """Return tools with another queue."""
    return [replace(each, queue=queue) for each in tools or (far_tools.look, far_tools.pay, far_tools.put)]


def plan_of(tool, /, **args):
    """Return a plan of one step."""
    return {"firmplan": 1, "steps": [{"id": "s", "tool": tool, "args": args}], "output": "${s}"}


def engine_of(backend, store, tools, **options):
    """Return an engine of a fleet."""
    return Engine(tools, store=store, backend=backend, lease=LEASE_S, **options)


@asynccontextmanager
async def working(backend, store, tools, *, queue=None, slots=4, **options):
    """Have a worker in this process: of runs, or of a queue of calls."""
    async with engine_of(backend, store, tools, **options) as engine:
        task = asyncio.create_task(engine.work(slots=slots, queue=queue))
        try:
            yield engine
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


def start_worker(backend, store, queue, *words):
    """Start a worker in a process of its own, which this machine does not see."""
    command = ["worker", "--backend", backend, "--store", store, "--tools", far_tools.__file__, *words]
    env = {
        **os.environ,
        "FIRMPLAN_LEASE": str(LEASE_S),
        "FIRMPLAN_HOST": "elsewhere",
        "FAR_QUEUE": queue,
        "PYTHONWARNINGS": "default",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "firmplan", *command],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def end(*processes):
    """Kill processes."""
    for each in processes:
        each.send_signal(signal.SIGKILL)
        each.wait()


def lines(folder):
    """Return the lines of the ledger."""
    path = folder / "ledger"
    return path.read_text().splitlines() if path.exists() else []


def begins(folder, name):
    """Return the processes that have begun a call."""
    path = folder / f"{name}.begun"
    return path.read_text().split() if path.exists() else []


async def kept_in(engine, run_id):
    """Wait until a run is taken over; return the steps whose calls go on."""
    async for event in engine.events(run_id):
        if event.type == "RunResumed":
            return event.data["kept"]
    return None


def tools_of(queue, seen):
    """Return tools that say in which context they ran."""

    @tool(effect="pure", queue=queue)
    def double(text: str) -> str:
        """Return a text twice."""
        seen.append(len(text))
        return text * 2

    @tool(effect="read", queue=queue)
    async def store_text(text: str, *, ctx: Context) -> Artifact:
        """Keep a text."""
        ctx.progress(0.5, "half")
        return ctx.save(text.encode(), name="a.txt")

    @tool(effect="read", queue=queue, isolation="process")
    def fail(secret_text: str) -> str:
        """Fail, and tell the secret."""
        raise ToolError(f"no {secret_text}", code="bad-luck")

    @tool(effect="pure")
    def size(file: Artifact, *, ctx: Context) -> int:
        """Return the size of an artifact."""
        return len(ctx.open(file))

    return [double, store_text, size, fail]


@in_loop
async def test_values_pass_through_the_store_and_temporal_has_digests(backend, queue, postgres_url):
    """Small and large values, artifacts, failures and secrets; the same run without a backend has the same digest, and reuses the results."""
    seen = []
    tools = tools_of(queue, seen)[:3]
    plan = {
        "firmplan": 1,
        "inputs": {"text": {"type": "string"}},
        "steps": [
            {"id": "d", "tool": "double", "args": {"text": "${inputs.text}"}},
            {"id": "a", "tool": "store_text", "args": {"text": "${d}"}},
            {"id": "n", "tool": "size", "args": {"file": "${a}"}},
        ],
        "output": "${n}",
    }
    async with (
        engine_of(backend, postgres_url, tools) as front,
        working(backend, postgres_url, tools) as driver,
        working(backend, postgres_url, tools, queue=queue),
    ):
        for text in ("secret words ", "secret words " * 5000):
            run = await front.run(plan, inputs={"text": text})
            assert (run.status, run.output) == ("succeeded", 2 * len(text)), run.errors
            async with Engine(tools, store="memory:") as alone:
                assert (await alone.run(plan, inputs={"text": text})).digest == run.digest
        seen.clear()
        again = await front.run(plan, inputs={"text": "secret words "})
        assert again.steps["d"].reused
        assert not seen
        client = driver._backend.client
        activities = [each async for each in client.list_activities(f"TaskQueue = '{queue}'")]
        for each in activities:
            handle = client.get_activity_handle(each.activity_id)
            found = await handle.describe(include_input=True, include_outcome=True)
            assert "secret words" not in str(
                found.raw_description if hasattr(found, "raw_description") else found
            )
            assert str(await found.result()).startswith("{'outcome': 'sha256:")


@in_loop
async def test_a_queue_without_a_worker_is_told_and_the_call_begins_with_one(
    backend, queue, postgres_url, tmp_path, monkeypatch
):
    """In the warnings of the run, while it waits; and a cancel needs no worker."""
    monkeypatch.setattr(far, "WATCH_S", 0.2)
    tools = in_queue(queue)
    async with engine_of(backend, postgres_url, tools) as front, working(backend, postgres_url, tools):
        run_id = (await front.submit(plan_of("look", folder=str(tmp_path), name="a"))).id
        other = (await front.submit(plan_of("pay", folder=str(tmp_path), name="b"))).id
        for each in (run_id, other):
            waits = await until(lambda each=each: front.get(each), lambda run: run.warnings)
            assert [warning.code for warning in waits.warnings] == ["unserved-queue"]
            assert f"`firmplan worker --queue {queue}`" in waits.warnings[0].message
        await front.cancel(other)
        assert (await front.wait(other)).status == "cancelled"
        (tmp_path / "a.go").touch()
        async with working(backend, postgres_url, tools, queue=queue):
            assert (await front.wait(run_id)).output == "a"
    assert not lines(tmp_path)
    assert not (tmp_path / "b.begun").exists()


@in_loop
async def test_the_next_driver_follows_the_call_of_one_that_was_killed(
    backend, queue, postgres_url, tmp_path
):
    """A read and two writes, none of which is called again: the journal says that they were kept. What follows from them is called."""
    tools, names = in_queue(queue), ("pay", "look", "put")
    first = start_worker(backend, postgres_url, queue)
    try:
        async with (
            engine_of(backend, postgres_url, tools) as front,
            working(backend, postgres_url, tools, queue=queue),
        ):
            runs: dict[str, str] = {}
            for name in names:
                plan = plan_of(name, folder=str(tmp_path), name=name)
                args = {"folder": str(tmp_path), "name": f"{name}-next"}
                plan["steps"].append({"id": "next", "tool": name, "args": args, "after": ["s"]})
                (tmp_path / f"{name}-next.go").touch()
                runs[name] = (await front.submit(plan)).id
            for name in names:
                await until((tmp_path / f"{name}.begun").exists)
            end(first)
            async with working(backend, postgres_url, tools):
                for run_id in runs.values():
                    assert await kept_in(front, run_id) == ["s"]
                for name in names:
                    (tmp_path / f"{name}.go").touch()
                for run_id in runs.values():
                    (await front.wait(run_id)).raise_for_status()
                    events = [event.type async for event in front.events(run_id)]
                    assert events.count("RunResumed") == 1
        made = [f"{name}{after}" for name in names for after in ("", "-next")]
        assert sorted(line.split()[0] for line in lines(tmp_path)) == ["pay", "pay-next", "put", "put-next"]
        assert [len((tmp_path / f"{name}.begun").read_text().splitlines()) for name in made] == [1] * 6
    finally:
        end(first)


@in_loop
async def test_a_worker_of_the_queue_that_is_killed_repeats_no_write(backend, queue, postgres_url, tmp_path):
    """A read is made again, an idempotent write under its key, with its ids; the outcome of another write is unknown."""
    tools = in_queue(queue)
    first = start_worker(backend, postgres_url, queue, "--queue", queue)
    names = ("look", "put", "pay")
    try:
        async with engine_of(backend, postgres_url, tools) as front, working(backend, postgres_url, tools):
            runs = {
                name: (await front.submit(plan_of(name, folder=str(tmp_path), name=name))).id
                for name in names
            }
            for name in names:
                await until((tmp_path / f"{name}.begun").exists)
            end(first)
            for name in names:
                (tmp_path / f"{name}.go").touch()
            async with working(backend, postgres_url, tools, queue=queue):
                assert (await front.wait(runs["look"])).output == "look"
                put = await front.wait(runs["put"])
                lost = await front.wait(runs["pay"])
        assert lost.status == "indeterminate"
        assert "was not heard of" in lost.steps["s"].error.message
        (line,) = lines(tmp_path)
        assert line.split() == ["put", *put.output]
        first_try, second_try = (tmp_path / "put.begun").read_text().splitlines()
        assert first_try == second_try
        assert len((tmp_path / "pay.begun").read_text().split()) == 1
    finally:
        end(first)


@in_loop
async def test_a_call_that_nobody_knows_is_left_to_the_effect(
    backend, queue, postgres_url, tmp_path, monkeypatch
):
    """As after the retention of the namespace: a read is made again, a write is indeterminate, and nobody can begin it late."""
    tools = in_queue(queue)
    asked = []
    begin = far.TemporalFarCalls.begin

    async def stand_still(self, call):
        asked.append((self, call))
        await asyncio.Event().wait()

    monkeypatch.setattr(far.TemporalFarCalls, "begin", stand_still)
    async with engine_of(backend, postgres_url, tools) as front:
        async with working(backend, postgres_url, tools):
            runs = {
                name: (await front.submit(plan_of(name, folder=str(tmp_path), name=name))).id
                for name in ("look", "pay")
            }
            await until(lambda: len(asked) == 2)
        monkeypatch.setattr(far.TemporalFarCalls, "begin", begin)
        (tmp_path / "look.go").touch()
        (tmp_path / "pay.go").touch()
        async with (
            working(backend, postgres_url, tools) as driver,
            working(backend, postgres_url, tools, queue=queue),
        ):
            assert (await front.wait(runs["look"])).output == "look"
            lost = await front.wait(runs["pay"])
            assert lost.status == "indeterminate"
            # The former owner wakes, and begins its call.
            late = next(call for _, call in asked if call.tool == "pay")
            calls = driver._backend.far_calls
            await calls.begin(late)
            answer = await calls.follow(late, None)
            assert isinstance(answer, far.NeverBegun)
    assert not (tmp_path / "pay.begun").exists()


@in_loop
async def test_a_worker_of_the_queue_that_stood_still_counts_no_more(backend, queue, postgres_url, tmp_path):
    """Stopped for longer than Temporal waits, then continued: a read's late answer is refused, and a write ends with its process before anybody decides about it."""
    tools = in_queue(queue, far_tools.pay, far_tools.who)
    # With one slot each, so that Temporal hands nothing else to a process that does not answer.
    paying = start_worker(backend, postgres_url, queue, "--queue", queue, "--slots", "1")
    telling = None
    try:
        async with engine_of(backend, postgres_url, tools) as front, working(backend, postgres_url, tools):

            async def submit(name, file):
                run = await front.submit(plan_of(name, folder=str(tmp_path), name=file))
                await until((tmp_path / f"{file}.begun").exists)
                return run.id

            pay = await submit("pay", "pay")
            telling = start_worker(backend, postgres_url, queue, "--queue", queue, "--slots", "1")
            who = await submit("who", "who")
            for process in (paying, telling):
                process.send_signal(signal.SIGSTOP)
            lost = await front.wait(pay)
            assert lost.status == "indeterminate"
            assert "was not heard of" in lost.steps["s"].error.message
            assert await until(paying.poll, lambda code: code is not None) in {-signal.SIGKILL, EXIT_CODE}
            async with working(backend, postgres_url, tools, queue=queue):
                await until(lambda: len(begins(tmp_path, "who")) == 2)
                (tmp_path / "who.go").touch()
                (tmp_path / "pay.go").touch()
                assert (await front.wait(who)).output == os.getpid()
            telling.send_signal(signal.SIGCONT)
            # It takes the next call once its slot is free: then its late answer was refused.
            (tmp_path / "next.go").touch()
            following = (await front.submit(plan_of("who", folder=str(tmp_path), name="next"))).id
            assert (await front.wait(following)).output == telling.pid
            run = await front.get(who)
            assert (run.output, run.steps["s"].attempts) == (os.getpid(), 1)
        assert begins(tmp_path, "who") == [str(telling.pid), str(os.getpid())]
        assert begins(tmp_path, "pay") == [str(paying.pid)]
        assert not lines(tmp_path)
    finally:
        for process in (paying, telling):
            if process is not None:
                end(process)


@in_loop
async def test_a_worker_of_the_queue_that_is_told_to_stop(backend, queue, postgres_url, tmp_path):
    """A write in flight may end, and its result counts; a read goes to another worker at once."""
    tools = in_queue(queue, far_tools.pay, far_tools.who)
    first = start_worker(backend, postgres_url, queue, "--queue", queue)
    try:
        async with engine_of(backend, postgres_url, tools) as front, working(backend, postgres_url, tools):
            runs = {
                name: (await front.submit(plan_of(name, folder=str(tmp_path), name=name))).id
                for name in ("pay", "who")
            }
            for name in runs:
                await until((tmp_path / f"{name}.begun").exists)
            async with working(backend, postgres_url, tools, queue=queue):
                first.terminate()
                await until(lambda: len(begins(tmp_path, "who")) == 2)
                for name in runs:
                    (tmp_path / f"{name}.go").touch()
                assert (await front.wait(runs["pay"])).output == "pay"
                assert (await front.wait(runs["who"])).output == os.getpid()
                assert await until(first.poll, lambda code: code is not None) == 0
        assert begins(tmp_path, "pay") == [str(first.pid)]
        assert lines(tmp_path) == ["pay"]
    finally:
        end(first)


@in_loop
async def test_a_write_that_is_longer_than_the_grace_is_left_to_a_person(
    backend, queue, postgres_url, tmp_path, monkeypatch
):
    """Its worker was told to stop: the outcome is unknown, no other worker makes the call, and the process ends."""
    monkeypatch.setenv("FIRMPLAN_WRITE_GRACE", "0")
    tools = in_queue(queue)
    first = start_worker(backend, postgres_url, queue, "--queue", queue)
    try:
        async with engine_of(backend, postgres_url, tools) as front, working(backend, postgres_url, tools):
            run_id = (await front.submit(plan_of("pay", folder=str(tmp_path), name="pay"))).id
            await until((tmp_path / "pay.begun").exists)
            async with working(backend, postgres_url, tools, queue=queue):
                first.terminate()
                lost = await front.wait(run_id)
            assert lost.status == "indeterminate"
            assert "its worker stops" in lost.steps["s"].error.message
            assert await until(first.poll, lambda code: code is not None) == 0
        assert begins(tmp_path, "pay") == [str(first.pid)]
        assert not lines(tmp_path)
    finally:
        end(first)


@pytest.mark.parametrize("is_end_heard_of", [False, True])
@in_loop
async def test_a_call_that_temporal_forgets_while_it_is_made(
    backend, queue, postgres_url, tmp_path, monkeypatch, is_end_heard_of
):
    """Deleted there, as at the end of the namespace's retention; Temporal ends a call before it deletes it, so the run may hear of the end first.

    A read is made again, an idempotent write under its key, and the outcome of any other write is unknown whatever its worker says later.
    """
    tools = in_queue(queue)
    ending, heard_of = far.TemporalFarCalls._ending, []

    async def late_ending(self, handle, *told):
        async def is_gone():
            try:
                await handle.describe()
            except RPCError as fault:
                return fault.status == RPCStatusCode.NOT_FOUND
            return False

        heard_of.append(handle.id)
        await until(is_gone)
        return await ending(self, handle, *told)

    monkeypatch.setattr(far.TemporalFarCalls, "_ending", late_ending)
    async with (
        engine_of(backend, postgres_url, tools) as front,
        working(backend, postgres_url, tools) as driver,
        working(backend, postgres_url, tools, queue=queue),
    ):
        runs = {
            name: (await front.submit(plan_of(name, folder=str(tmp_path), name=name))).id
            for name in ("look", "pay", "put")
        }
        for name in runs:
            await until((tmp_path / f"{name}.begun").exists)
        client = driver._backend.client

        async def listed():
            return [each async for each in client.list_activities(f"TaskQueue = '{queue}'")]

        # Lists of Temporal are late.
        calls = await until(listed, lambda found: len(found) == len(runs))
        if is_end_heard_of:
            for each in calls:
                await client.get_activity_handle(each.activity_id).terminate()
            await until(lambda: len(heard_of) == len(runs))
        for each in calls:
            request = DeleteActivityExecutionRequest(
                namespace="default", activity_id=each.activity_id, run_id=each.activity_run_id
            )
            await client.workflow_service.delete_activity_execution(request)
        lost = await front.wait(runs["pay"])
        assert lost.status == "indeterminate"
        await until(lambda: len(begins(tmp_path, "look")) == 2)
        await until(lambda: len((tmp_path / "put.begun").read_text().splitlines()) == 2)
        for name in runs:
            (tmp_path / f"{name}.go").touch()
        assert (await front.wait(runs["look"])).output == "look"
        put = await front.wait(runs["put"])
        # The call whose worker was told too late that nobody waits for it writes as well, under the same key.
        first_try, second_try = (tmp_path / "put.begun").read_text().splitlines()
        assert first_try.split() == second_try.split() == put.output
        assert (await front.get(runs["pay"])).status == "indeterminate"
        assert len(begins(tmp_path, "pay")) == 1


@in_loop
async def test_a_cancel_reaches_the_worker(backend, queue, postgres_url):
    """A read is stopped where it runs."""
    begun, stopped = asyncio.Event(), asyncio.Event()

    @tool(effect="read", queue=queue)
    async def hang() -> str:
        """Wait until somebody stops it."""
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.set()
            raise
        return ""

    async with (
        engine_of(backend, postgres_url, [hang]) as front,
        working(backend, postgres_url, [hang]),
        working(backend, postgres_url, [hang], queue=queue),
    ):
        run_id = (await front.submit(plan_of("hang"))).id
        await asyncio.wait_for(begun.wait(), 60)
        await front.cancel(run_id)
        assert (await front.wait(run_id)).status == "cancelled"
        await asyncio.wait_for(stopped.wait(), 60)


@in_loop
async def test_failures_timeouts_and_workers_that_do_not_fit(backend, queue, postgres_url, monkeypatch):
    """An error of the tool is the step's, with the name of a secret in the place of its value; a worker without the tool leaves the call to others."""
    monkeypatch.setattr(far, "MISFIT_S", 0.2)
    monkeypatch.setattr(far, "WATCH_S", 0.2)

    @tool(effect="read", queue=queue)
    def fail(word: str) -> str:
        """Fail, and tell the word."""
        raise ToolError(f"no {word}", code="bad-luck")

    @tool(effect="write", queue=queue, timeout=0.2)
    async def sleep() -> str:
        """Sleep for too long."""
        await asyncio.sleep(60)
        return ""

    @tool(effect="read", queue=queue)
    def other() -> str:
        """Do nothing."""
        return ""

    tools, secrets = [fail, sleep], {"WORD": "hush-hush"}
    async with (
        engine_of(backend, postgres_url, tools, secrets=secrets) as front,
        working(backend, postgres_url, tools, secrets=secrets),
    ):
        async with working(backend, postgres_url, [other], queue=queue) as poor:
            failed = (await front.submit(plan_of("fail", word='${secret("WORD")}'))).id

            async def refusals():
                listed = [
                    each async for each in poor._backend.client.list_activities(f"TaskQueue = '{queue}'")
                ]
                handles = [poor._backend.client.get_activity_handle(each.activity_id) for each in listed]
                found = [await each.describe(include_last_failure=True) for each in handles]
                return [str(await each.last_failure()) for each in found]

            await until(
                refusals,
                lambda told: any(
                    "this worker has not the tool 'fail'; it has other" in each for each in told
                ),
            )
        async with working(backend, postgres_url, tools, queue=queue, secrets=secrets):
            run = await front.wait(failed)
            assert [(error.code, error.message) for error in run.errors] == [
                ("bad-luck", 'no ${secret("WORD")}')
            ]
            late = await front.run(plan_of("sleep"))
            assert late.status == "indeterminate"
            assert "no result within 0.2 s" in late.steps["s"].error.message


@in_loop
async def test_a_fault_of_the_worker_itself_is_logged_with_its_place(
    backend, queue, postgres_url, monkeypatch
):
    """Nobody expects it, so the run alone would not say where it came from."""

    async def carry_out(*_):
        raise RuntimeError("out of order")

    monkeypatch.setattr(FarServer, "carry_out", carry_out)
    tools = in_queue(queue)
    with capture_logs() as logs:
        async with (
            engine_of(backend, postgres_url, tools) as front,
            working(backend, postgres_url, tools),
            working(backend, postgres_url, tools, queue=queue),
        ):
            run = await front.run(plan_of("pay", folder="/nowhere", name="pay"))
    structlog.reset_defaults()
    assert run.status == "indeterminate"
    assert "RuntimeError: out of order" in run.steps["s"].error.message
    (line,) = (line for line in logs if line["event"] == "call ended without an outcome")
    assert (line["run"], line["step"], line["level"]) == (run.id, "s", "error")
    assert line["exception"].startswith("Traceback")
    assert "in carry_out" in line["exception"]


@in_loop
async def test_wrong_queues_are_one_error(backend, queue, postgres_url, tmp_path):
    """A queue that no tool has, the queue of the runs, and an engine without a backend."""
    tools = in_queue(queue)
    async with engine_of(backend, postgres_url, tools) as engine:
        with pytest.raises(
            ConfigError, match=f"expected the queue of a tool of this engine .'?{queue}'?., found 'gpu'"
        ):
            await engine.work(queue="gpu")
    of_runs = backend.rpartition("=")[2]
    async with engine_of(backend, postgres_url, in_queue(of_runs)) as engine:
        with pytest.raises(ConfigError, match="is the queue of runs"):
            await engine.work(queue=of_runs)
    async with Engine(tools, store=tmp_path / "s.db") as engine:
        with pytest.raises(ConfigError, match="no backend that hands out calls"):
            await engine.work(queue=queue)
