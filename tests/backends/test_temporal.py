"""Runs through Temporal, with its development server and PostgreSQL: workers in this process, and in processes that are killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import count
from types import SimpleNamespace

import fleet_tools
import pytest
import structlog
from firmplan import Engine, InputRejected, Submitter, Toolset, tool
from firmplan.backends.temporal import TemporalAddress, worker
from firmplan.backends.temporal.backend import FAIRNESS_KEY_BYTES_MAX, Gate
from firmplan.backends.temporal.workflow import TENANT
from firmplan.errors import ConfigError, StoreError
from firmplan.executor.journal.toolset_lock import digest_of_toolset
from firmplan.executor.runs import watch
from structlog.testing import capture_logs
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import WorkflowExecutionStatus
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.testing import ActivityEnvironment
from waiting_for import in_loop, until

pytestmark = [pytest.mark.temporal, pytest.mark.postgres, pytest.mark.timeout(180)]
TOOLS = [fleet_tools.hold, fleet_tools.note, fleet_tools.pay]
QUEUES = count(1)
LEASE_S = 2.0


@pytest.fixture
def backend(temporal_server):
    """The address of a queue that no other test uses."""
    return temporal_server.url(f"queue-{next(QUEUES)}")


def plan_of(*steps, output=None):
    """Return a plan of steps that follow each other."""
    made = [
        {"id": name, "tool": tool, "args": args, **({"after": [steps[at - 1][0]]} if at else {})}
        for at, (name, tool, args) in enumerate(steps)
    ]
    return {"firmplan": 1, "steps": made, "output": output or f"${{{steps[-1][0]}}}"}


def held_and_noted(folder, name):
    """Return a plan that waits for a file, then writes a line."""
    folder = str(folder)
    return plan_of(
        ("h", "hold", {"folder": folder, "name": name}), ("n", "note", {"folder": folder, "text": name})
    )


PAID = plan_of(("p", "pay", {"amount": 7}))


@asynccontextmanager
async def working(backend, store, tools=TOOLS, *, slots=4):
    """Have a worker in this process."""
    async with Engine(tools, store=store, backend=backend, lease=LEASE_S) as engine:
        task = asyncio.create_task(engine.work(slots=slots))
        try:
            yield engine
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


@asynccontextmanager
async def submitting(backend, store, tools=TOOLS):
    """Have an engine that only submits."""
    async with Engine(tools, store=store, backend=backend) as engine:
        yield engine


def start_worker(backend, store, *, host="elsewhere", slots=4):
    """Start a worker in a process of its own, which this machine does not see."""
    words = ["worker", "--backend", backend, "--store", store, "--tools", fleet_tools.__file__]
    env = {**os.environ, "FIRMPLAN_LEASE": str(LEASE_S), "FIRMPLAN_HOST": host, "PYTHONWARNINGS": "default"}
    return subprocess.Popen(
        [sys.executable, "-m", "firmplan", *words, "--slots", str(slots)],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@in_loop
async def test_runs_go_through_temporal_and_waiting_ones_hold_no_slot(backend, postgres_url, tmp_path):
    """With one slot: runs that wait for a person leave it to others, an approval wakes them, and they can be searched for."""
    async with submitting(backend, postgres_url) as front, working(backend, postgres_url, slots=1) as back:
        paid = [(await front.submit(PAID)).id for _ in range(3)]
        for run_id in paid:
            assert (await front.wait(run_id)).status == "waiting"
        (tmp_path / "a.go").touch()
        run = await front.run(held_and_noted(tmp_path, "a"))
        assert (run.status, run.output) == ("succeeded", "a")
        for run_id in paid:
            await front.approve(run_id, "p", by="ann")
            assert (await front.wait(run_id)).output == 7
        cancelled = (await front.submit(PAID)).id
        assert (await front.wait(cancelled)).status == "waiting"
        await front.cancel(cancelled)
        assert (await front.wait(cancelled)).status == "cancelled"
        client = back._backend.client
        assert [await client.get_workflow_handle(each).result() for each in (*paid, cancelled)] == [
            "succeeded", "succeeded", "succeeded", "cancelled",
        ]  # fmt: skip
        plan = (await front.get(paid[0])).plan.digest
        query = f"FirmplanPlan = '{plan}' AND FirmplanStatus = 'succeeded' AND TaskQueue = '{TemporalAddress.parse(backend).queue}'"

        async def found():
            return {each.id async for each in client.list_workflows(query)}

        await until(found, lambda ids: ids == set(paid))


@in_loop
async def test_a_killed_worker_is_taken_over_and_a_stopped_one_parks(backend, postgres_url, tmp_path):
    """SIGTERM hands a run on at once; after SIGKILL of a worker on another machine the run goes on within the lease and 15 seconds. No write is repeated."""
    first = start_worker(backend, postgres_url)
    try:
        async with submitting(backend, postgres_url) as front:
            parked = (await front.submit(held_and_noted(tmp_path, "parked"))).id
            await until((tmp_path / "parked.begun").exists)
            async with working(backend, postgres_url):
                first.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(first.wait, 30) == 0
                (tmp_path / "parked.go").touch()
                assert (await front.wait(parked)).status == "succeeded"
            first = start_worker(backend, postgres_url)
            killed = (await front.submit(held_and_noted(tmp_path, "killed"))).id
            await until((tmp_path / "killed.begun").exists)
            async with working(backend, postgres_url):
                first.kill()
                (tmp_path / "killed.go").touch()
                async with asyncio.timeout(LEASE_S + 15):
                    assert (await front.wait(killed)).status == "succeeded"
            assert (tmp_path / "ledger").read_text().split() == ["parked", "killed"]
    finally:
        first.kill()
        first.wait()


@in_loop
async def test_a_server_that_was_away_loses_nothing(
    temporal_server, backend, postgres_url, tmp_path, monkeypatch
):
    """Runs under way go on without Temporal; what was submitted and decided meanwhile is handed over once the server is there again."""
    monkeypatch.setattr(watch, "SETTLED_S", 0.0)
    monkeypatch.setattr(worker, "SWEEP_S", 0.5)
    async with submitting(backend, postgres_url) as front, working(backend, postgres_url):
        held = (await front.submit(held_and_noted(tmp_path, "held"))).id
        paid = (await front.submit(PAID)).id
        assert (await front.wait(paid)).status == "waiting"
        await until((tmp_path / "held.begun").exists)
        temporal_server.kill()
        try:
            late = (await front.submit(held_and_noted(tmp_path, "late"))).id
            # As if the process had died before it told Temporal.
            untold = await front.accept(
                held_and_noted(tmp_path, "untold"), priority=1, submitter=Submitter("ada", tenant="acme")
            )
            await front.approve(paid, "p", by="ann")
            for name in ("held", "late", "untold"):
                (tmp_path / f"{name}.go").touch()
            assert (await front.wait(held)).status == "succeeded"
        finally:
            await asyncio.to_thread(temporal_server.start)
        for run_id in (late, untold, paid):
            await until(lambda run_id=run_id: front.status(run_id), lambda status: status == "succeeded")
        assert sorted((tmp_path / "ledger").read_text().split()) == ["held", "late", "untold"]
        # A worker started its workflow: with what the store says of the run.
        found = await front._backend.client.get_workflow_handle(untold).describe()
        key = found.raw_description.workflow_execution_info.priority
        assert (key.priority_key, key.fairness_key) == (1, "acme")
        assert found.typed_search_attributes.get(TENANT) == "acme"


@in_loop
async def test_a_worker_without_the_tool_or_the_store_leaves_the_run(
    backend, postgres_url, cluster, monkeypatch, tmp_path
):
    """Each says so in Temporal, once in its log, and the run goes on at a worker that has both."""
    monkeypatch.setattr(worker, "MISFIT_S", 0.2)
    (tmp_path / "a.go").touch()
    async with submitting(backend, postgres_url) as front:
        run_id = (await front.submit(held_and_noted(tmp_path, "a"))).id

        async def failure(engine):
            handle = engine._backend.client.get_workflow_handle(run_id)
            (pending,) = (await handle.describe()).raw_description.pending_activities or (None,)
            return pending.last_failure.message if pending else ""

        async with working(backend, postgres_url, [fleet_tools.pay]) as poor:
            await until(
                lambda: failure(poor), lambda text: "uses the tool 'hold', which this engine has not" in text
            )
            waits = await until(lambda: front.get(run_id), lambda run: run.warnings)
            assert "step 'h' uses the tool 'hold'" in waits.warnings[0].message
            assert "step 'n' uses the tool 'note'" in waits.warnings[0].message
        async with working(backend, cluster.fresh_url()) as other:
            await until(
                lambda: failure(other),
                lambda text: "expected all engines and workers of a task queue on one store" in text,
            )
        async with working(backend, postgres_url):
            assert (await front.wait(run_id)).status == "succeeded"


@in_loop
async def test_a_run_whose_store_was_away_goes_on_soon(backend, postgres_url, cluster, monkeypatch, tmp_path):
    """PostgreSQL dies under a run: the next attempts come as for a run that has an owner, not as for one that nobody here can drive."""
    monkeypatch.setattr(worker, "AGAIN_S", 0.2)
    monkeypatch.setattr(worker, "MISFIT_S", 3_600.0)
    async with submitting(backend, postgres_url) as front, working(backend, postgres_url) as back:
        run_id = (await front.submit(held_and_noted(tmp_path, "a"))).id
        await until((tmp_path / "a.begun").exists)
        handle = back._backend.client.get_workflow_handle(run_id)

        async def failure():
            (pending,) = (await handle.describe()).raw_description.pending_activities
            return pending.last_failure.message

        await asyncio.to_thread(cluster.stop, "immediate")
        try:
            (tmp_path / "a.go").touch()
            await until(failure, lambda text: "the store postgresql://" in text)
        finally:
            await asyncio.to_thread(cluster.start)
        await until(handle.describe, lambda found: found.status == WorkflowExecutionStatus.COMPLETED)
        assert (await front.get(run_id)).status == "succeeded"
        assert (tmp_path / "ledger").read_text() == "a\n"


@pytest.mark.parametrize(
    ("fault", "delay_s"),
    [
        (StoreError("the server is away", temporary=True), worker.AGAIN_S),
        (StoreError("the journal was changed"), worker.MISFIT_S),
        (ConfigError("a tool is missing"), worker.MISFIT_S),
    ],
)
@in_loop
async def test_the_next_attempt_comes_soon_only_where_it_may_succeed(fault, delay_s):
    """A changed journal is tried as seldom as a run whose tools are missing, a store that is away as often as a run that has an owner."""

    async def drive(_run_id):
        raise fault

    host = SimpleNamespace(log=structlog.get_logger(), store_name="a store")
    with pytest.raises(ApplicationError) as ended:
        await ActivityEnvironment().run(worker.Driving(host, drive).attempt, {"run": "r", "store": "a store"})
    assert ended.value.type == fault.code
    assert ended.value.next_retry_delay == timedelta(seconds=delay_s)


def stamping(version, effect="read"):
    """Return the tools of a version: an approval, then a step that says which version has done it."""

    @tool(effect=effect)
    async def stamp(text: str) -> str:
        """Put the version before a text."""
        return f"{version}:{text}"

    return [fleet_tools.pay, stamp]


STAMPED = plan_of(("p", "pay", {"amount": 7}), ("s", "stamp", {"text": "x"}))


@in_loop
async def test_a_rolling_deploy_leaves_runs_to_workers_whose_tools_fit(backend, postgres_url, monkeypatch):
    """Two versions side by side: a run says which steps would differ and waits without a slot, and ends where its promises hold."""
    monkeypatch.setattr(worker, "MISFIT_S", 0.2)
    old, new, later = stamping("old"), stamping("new", "write"), stamping("later")

    async def announced(engine):
        request = DescribeTaskQueueRequest(
            namespace="default",
            task_queue=TaskQueue(name=engine._backend.address.queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        )
        found = await engine._backend.client.workflow_service.describe_task_queue(request)
        return {poller.identity.rpartition(" ")[2] for poller in found.pollers}

    async with submitting(backend, postgres_url, old) as front:
        async with working(backend, postgres_url, old):
            first, second = [(await front.submit(STAMPED)).id for _ in range(2)]
            for run_id in (first, second):
                assert (await front.wait(run_id)).status == "waiting"
        async with working(backend, postgres_url, new, slots=1) as back:
            await front.approve(first, "p", by="ann")
            stuck = await until(lambda: front.get(first), lambda run: run.warnings)
            assert [warning.code for warning in stuck.warnings] == ["unfit-worker"]
            assert (
                "step 's' uses the tool 'stamp', which had the effect 'read', and has 'write' now"
                in stuck.warnings[0].message
            )
            fresh = await back.submit(STAMPED)
            assert (await back.wait(fresh.id)).status == "waiting"
            await back.approve(fresh.id, "p", by="ann")
            async with working(backend, postgres_url, old):
                assert (await front.wait(first)).output == "old:x"
                assert (await back.wait(fresh.id)).output == "new:x"
                assert (await front.get(first)).warnings == ()
                versions = {digest_of_toolset(Toolset(each)) for each in (old, new)}
                await until(lambda: announced(back), lambda digests: versions <= digests)
        async with working(backend, postgres_url, later):
            await front.approve(second, "p", by="ann")
            assert (await front.wait(second)).output == "later:x"


@in_loop
async def test_cancelling_the_workflow_cancels_the_run(backend, postgres_url, tmp_path):
    """While the run is driven, and while it waits."""
    async with submitting(backend, postgres_url) as front, working(backend, postgres_url) as back:
        held = (await front.submit(held_and_noted(tmp_path, "held"))).id
        paid = (await front.submit(PAID)).id
        assert (await front.wait(paid)).status == "waiting"
        await until((tmp_path / "held.begun").exists)
        for run_id in (held, paid):
            handle = back._backend.client.get_workflow_handle(run_id)
            await handle.cancel()
            await until(lambda run_id=run_id: front.status(run_id), lambda status: status == "cancelled")
            assert await handle.result() == "cancelled"
    assert not (tmp_path / "ledger").exists()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (
            "temporal://127.0.0.1:1/default",
            "no Temporal server at 127.0.0.1:1 could be reached (connection refused)",
        ),
        ("temporal://SERVER/nowhere", "has no namespace 'nowhere': correct `backend`, or make it with"),
        ("temporal:///default", "expected temporal://host:port/namespace"),
        ("temporal://host:x/default", "expected temporal://host:port/namespace"),
        ("temporal://key@host/default", "found 'temporal://***@host/default'"),
        ("temporal://host/default?queu=a", "'queu' is no option"),
        ("temporal://host/default?queue=", "the queue is ''"),
        ("temporal://host/a/b", "the namespace is 'a/b'"),
        ("redis://host", "expected a URL that begins with temporal://"),
    ],
)
@in_loop
async def test_a_wrong_backend_is_one_error(temporal_server, postgres_url, address, said):
    """Before a run is stored, and with what to do."""
    with pytest.raises(ConfigError) as refused:
        async with Engine(
            TOOLS, store=postgres_url, backend=address.replace("SERVER", temporal_server.target)
        ):
            pass
    assert said in str(refused.value)
    assert not isinstance(refused.value, RPCError)


@in_loop
async def test_an_engine_whose_server_is_away_tries_again(postgres_url):
    """Each use says the same, until the server is there."""
    engine = Engine(TOOLS, store=postgres_url, backend="temporal://127.0.0.1:1/default")
    for _ in range(2):
        with pytest.raises(ConfigError, match="could be reached"):
            await engine.count_runs()
    await engine.aclose()


@in_loop
async def test_a_store_of_one_machine_is_refused(backend, tmp_path):
    """A SQLite file, or a store in memory."""
    for store in (tmp_path / "runs.db", "memory:"):
        with pytest.raises(ConfigError, match="workers share the store of their runs"):
            async with Engine(TOOLS, store=store, backend=backend):
                pass


@in_loop
async def test_a_run_id_of_another_store_is_refused(backend, temporal_server, postgres_url, cluster):
    """The submission says which store has the id; the run waits in its own store, and a sweep hands it over once the id is free."""
    other_backend = temporal_server.url(f"queue-{next(QUEUES)}")
    async with submitting(backend, postgres_url) as front, working(backend, postgres_url):
        await front.submit(PAID, run_id="daily")
        assert (await front.wait("daily")).status == "waiting"
        assert (await front.submit(PAID, run_id="daily")).status == "waiting"
        async with working(other_backend, cluster.fresh_url()) as other:
            their = other._backend
            with pytest.raises(InputRejected) as refused:
                await other.submit(PAID, run_id="daily")
            assert (
                f"a run of the store {front._backend.host.store_name}; this run is in {their.host.store_name}"
                in str(refused.value)
            )
            assert "Expected another run_id, or a namespace for each store" in str(refused.value)
            assert await other.status("daily") == "queued"
            with capture_logs() as logs:
                for _ in range(2):
                    assert await their.is_handed_over("daily")
            structlog.reset_defaults()
            assert [line["event"] for line in logs] == ["run waits for its id"]
            await front.deny("daily", "p", by="ann", reason="no")
            assert (await front.wait("daily")).status == "failed"
            await until(lambda: their.is_handed_over("daily"), lambda is_so: not is_so)
            await their.wake("daily")
            await other.wait("daily")
            assert (await other.get("daily")).status == "waiting"


class Queue:
    """A backend that has some runs queued, and was not told of others."""

    def __init__(self, untold, queued):
        rows = [(name, True) for name in untold] + [(name, False) for name in queued]
        self.untold, self.asked = set(untold), []
        self.rows = [
            SimpleNamespace(id=name, created=float(at), epoch=0, last_seq=0)
            for at, (name, _) in enumerate(rows)
        ]
        self.host = self
        self.log = structlog.get_logger()

    async def find_stranded(self):
        """Return all of them."""
        return self.rows

    async def is_handed_over(self, run_id):
        """Note the question."""
        self.asked.append(run_id)
        return run_id not in self.untold

    async def wake(self, run_id):
        """Note that the run is queued now."""
        self.untold.discard(run_id)


@in_loop
async def test_a_sweep_asks_about_few_runs_where_many_are_queued():
    """The oldest run is always asked about, all that are stranded are woken within a few sweeps, and no run is asked about twice."""
    queued = [f"q{number}" for number in range(200)]
    busy = Queue(["old"], queued)
    assert await worker.Sweep(busy).once() == ["old"]
    assert len(busy.asked) <= 2 * 1 + worker.HANDED_MAX
    away = Queue([f"u{number}" for number in range(30)], [])
    sweep = worker.Sweep(away)
    woken = [len(await sweep.once()), len(await sweep.once()), len(await sweep.once())]
    assert woken == [20, 10, 0]
    assert len(away.asked) == len(set(away.asked)) == 30


@in_loop
async def test_requests_are_bounded_and_those_that_wait_give_up_together():
    """As many as there are places are under way; a server without an answer costs all that wait the time of one request."""
    gate, under_way, most, tried = Gate(4), 0, 0, 0
    is_away = asyncio.Event()

    async def request():
        nonlocal under_way, most, tried
        async with gate.passed():
            tried += 1
            under_way += 1
            most = max(most, under_way)
            try:
                await asyncio.sleep(0)
                if is_away.is_set():
                    raise TimeoutError
            finally:
                under_way -= 1

    await asyncio.gather(*(request() for _ in range(40)))
    assert (most, tried) == (4, 40)
    is_away.set()
    failed = await asyncio.gather(*(request() for _ in range(40)), return_exceptions=True)
    assert {type(each) for each in failed} == {TimeoutError}
    assert tried == 44
    is_away.clear()
    await request()
    assert tried == 45


@in_loop
async def test_runs_are_handed_out_by_priority_and_tenants_take_turns(backend, postgres_url, tmp_path):
    """Temporal has the keys of both, of the workflow and of its activity; the order is Temporal's, which keeps it but for small deviations."""
    ada, long = Submitter("ada", tenant="acme"), Submitter("key " * 30)
    waiting = {
        "low": {"priority": 5},
        "middle": {"submitter": ada},
        "high": {"priority": 1, "submitter": long},
    }
    async with submitting(backend, postgres_url) as front, working(backend, postgres_url, slots=1):
        await front.submit(held_and_noted(tmp_path, "busy"), run_id="busy")
        await until((tmp_path / "busy.begun").exists)

        async def found(run_id):
            return (await front._backend.client.get_workflow_handle(run_id).describe()).raw_description

        keys = []
        for name, options in waiting.items():
            (tmp_path / f"{name}.go").touch()
            await front.submit(held_and_noted(tmp_path, name), run_id=name, **options)
            there = await until(lambda name=name: found(name), lambda there: there.pending_activities)
            key = there.workflow_execution_info.priority
            keys.append((key.priority_key, key.fairness_key))
        assert keys[:2] == [(5, ""), (0, "acme")]
        assert (keys[2][0], len(keys[2][1])) == (1, FAIRNESS_KEY_BYTES_MAX)
        with pytest.raises(ConfigError, match="priority: expected an integer from 1 to 5, found"):
            await front.submit(PAID, priority=6)
        (tmp_path / "busy.go").touch()
        for run_id in waiting:
            assert (await front.wait(run_id)).status == "succeeded"
        assert sorted((tmp_path / "ledger").read_text().split()) == ["busy", "high", "low", "middle"]


ENDING = """
import sys
import temporalio.bridge.temporal_sdk_bridge
from firmplan.cli import main

class Kept:
    def __del__(self):
        print("the interpreter has ended")

kept = Kept()
main()
"""
"""A process that says when its interpreter ends, with the SDK of Temporal."""

HANDLED = """
import atexit
from firmplan import tool

@tool
def size(text: str) -> int:
    "Return the length of a text."
    return len(text)

atexit.register(print, "a handler has run")
"""


@pytest.mark.parametrize(("plan", "code"), [(plan_of(("s", "size", {"text": "abc"})), 0), ({}, 2)])
def test_a_process_that_uses_temporal_ends_before_its_interpreter(tmp_path, plan, code):
    """A result that a thread of the SDK hands over later would abort it; the handlers of tools run as ever, and all output is written."""
    (tmp_path / "tools.py").write_text(HANDLED)
    (tmp_path / "plan.json").write_text(json.dumps(plan))

    def ended(script):
        command = [sys.executable, "-c", script, "check", "plan.json", "--tools", "tools.py"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    here, usual = ended(ENDING), ended(ENDING.replace("import temporalio.bridge.temporal_sdk_bridge", ""))
    assert here.returncode == usual.returncode == code, here.stderr
    assert here.stderr == usual.stderr
    assert "a handler has run" in here.stdout
    assert usual.stdout == here.stdout + "the interpreter has ended\n"
