"""A fleet under faults: workers, Temporal's server and PostgreSQL are killed, stopped for longer than a lease, and restarted, while runs write.

What the writes did stands in a ledger that no part of the fleet reads, but for `reconcile`; the judges are that file and a single-machine run of the same
plans. Each worker is on a machine of its own, as far as the others see, so that leases alone tell them who is dead. A supervisor starts every worker
again that has ended. The faults of a case, and after how many ended runs each comes, follow from its seed; how the machine's speed meets them does not.

`FIRMPLAN_FLEET` gives a case another size, and other faults in turn, such as `runs=200 faults=10 kinds=kill_postgres,stop_temporal`; a sweep of 2,000 runs is so
split into parts with a seed each. A case that has passed says in a line what was done to its fleet.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from random import Random
from typing import NamedTuple

import ledger_tools
import pytest
from firmplan import Engine, Toolset
from firmplan.errors import InputRejected, StoreError
from forked import Program
from ledger_tools import read_ledger
from seeds import SWEEP, seeds
from temporalio.client import Client
from waiting_for import in_loop


class Size(NamedTuple):
    """How large a case is.

    Attributes:
        workers: Processes that drive runs.
        slots: Runs that each of them drives at a time.
        runs: Runs of the case.
        at_once: Runs that are under way at a time.
        faults: Times at which something fails.
        kinds: Names of the faults that come in turn; empty: any come.
    """

    workers: int
    slots: int
    runs: int
    at_once: int
    faults: int
    kinds: tuple[str, ...] = ()

    def changed_by(self, words):
        """Return this size with what `NAME=VALUE ..` gives."""
        given = dict(word.split("=", 1) for word in words.split())
        kinds = tuple(filter(None, given.pop("kinds", "").split(",")))
        return self._replace(**{name: int(value) for name, value in given.items()}, kinds=kinds)


SIZE = Size(4, 16, 2_000, 96, 60) if os.environ.get(SWEEP) else Size(2, 4, 20, 20, 3)
SIZE = SIZE.changed_by(os.environ.get("FIRMPLAN_FLEET", ""))
PATIENCE_S = 240.0  # in which at least one more run ends, on a machine that does much else
LEASE_S = 2.0
ENDED = ("succeeded", "failed", "cancelled", "over_budget")
WRITES_SURELY = ("asked", "apart", "once", "signed")  # what a second call would do twice
SHAPES = (
    ("look", "keyed", "asked"),
    ("look", "once", "keyed"),
    ("look", "asked", "once"),
    ("look", "signed", "asked"),
    ("look", "asked", "asked"),
)
APART_EACH = 40  # one run in so many has a tool in a process of its own, which takes half a second of processor time to start

pytestmark = [
    pytest.mark.temporal,
    pytest.mark.postgres,
    pytest.mark.sweep,
    pytest.mark.timeout(3_600 if os.environ.get(SWEEP) else 600),
]


def plan_of(n):
    """Return the plan of run `n`: steps that follow each other, and count up from `n`."""
    tools = ("look", "apart") if n % APART_EACH == APART_EACH - 1 else SHAPES[n % len(SHAPES)]
    names = [f"{tool}_{at}" for at, tool in enumerate(tools)]
    values = ["${inputs.n}", *(f"${{{name}}}" for name in names)]
    steps = [
        {"id": name, "tool": tool, "args": {"n": value}}
        for name, tool, value in zip(names, tools, values, strict=False)
    ]
    return {
        "firmplan": 1,
        "inputs": {"n": {"type": "integer"}},
        "steps": steps,
        "output": values[-1],
    }


def inputs_of(n):
    """Return the inputs of run `n`: far enough from those of others that no write of two runs has one number."""
    return {"n": 10 * n}


def load_tools(folder):
    """Return the tools whose ledger is in a folder, as a worker loads them, and that ledger."""
    folder.mkdir()
    path = shutil.copy(ledger_tools.__file__, folder / "tools.py")
    return Toolset.load(path), folder / "ledger"


class Worker:
    """A worker's process on a machine of its own, which a supervisor starts again whenever it has ended.

    Attributes:
        away_s: How long it stays away after it has ended.
        codes: How its processes have ended.
    """

    def __init__(self, number, folder, words):
        self.away_s = 0.1
        self.codes = []
        self._words = ["-m", "firmplan", "worker", *words]
        self._folder = folder
        self._env = {
            **os.environ, "FIRMPLAN_LEASE": str(LEASE_S), "FIRMPLAN_HOST": f"machine-{number}",
        }  # fmt: skip
        self._log = folder / f"worker-{number}.log"
        self._is_over = False
        self._process = None

    @property
    def pid(self):
        """Its present process, or its last one."""
        return self._process.pid

    async def keep(self):
        """Start it again and again, until `end`."""
        with ThreadPoolExecutor(1) as pool:  # a thread of its own: it waits for as long as the worker lives
            while not self._is_over:
                self._process = Program(self._words, cwd=self._folder, env=self._env)
                try:
                    said = await asyncio.get_running_loop().run_in_executor(pool, self._process.communicate)
                finally:
                    self._process.kill()  # of a test that fails, else it has ended
                with self._log.open("a") as log:
                    log.writelines(said)
                self.codes.append(self._process.returncode)
                if not self._is_over:
                    await asyncio.sleep(self.away_s)

    def signal(self, number):
        """Send a signal, if it lives."""
        self._process.send_signal(number)

    async def end(self, keeping):
        """Have it park its runs and end, and start no other."""
        self._is_over = True
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.shield(keeping)
        finally:
            self.signal(signal.SIGKILL)


class Faults:
    """What a case does to the parts of its fleet.

    Attributes:
        done: What was done.
    """

    def __init__(self, random, workers, temporal, cluster, ledger):
        self.done = Counter()
        self._random = random
        self._workers = workers
        self._temporal = temporal
        self._cluster = cluster
        self._ledger = ledger

    def choose(self):
        """Return the faults of a case, in their order: groups of what happens at once."""
        if SIZE.kinds:
            return [[getattr(self, SIZE.kinds[at % len(SIZE.kinds)])] for at in range(SIZE.faults)]
        if not os.environ.get(SWEEP):
            return self._random.sample(
                [[self.kill_worker], [self.stop_worker], [self.kill_temporal]], SIZE.faults
            )
        every = {
            self.kill_worker: 6, self.stop_worker: 6, self.park_worker: 2, self.kill_temporal: 2, self.stop_temporal: 2,
            self.kill_postgres: 2, self.restart_postgres: 1, self.stop_postgres: 2,
        }  # fmt: skip
        chosen = []
        for _ in range(SIZE.faults):
            group = {
                each.__name__.partition("_")[2]: each
                for each in self._random.choices(list(every), list(every.values()), k=2)
            }
            chosen.append(list(group.values())[: self._random.choice((1, 1, 2))])
        return chosen

    async def do(self, group):
        """Do all that happens at once, and return when the parts are there again."""
        for fault in group:
            self.done[fault.__name__] += 1
        await asyncio.gather(*(fault() for fault in group))

    async def _until_writing(self, worker):
        """Return when a call of this worker has begun a write and not ended it, if it comes to that soon; in a sweep every other fault comes anyhow."""
        if os.environ.get(SWEEP) and self._random.random() < 0.5:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                while not self._is_writing(worker.pid):  # noqa: ASYNC110  # another process writes the ledger
                    await asyncio.sleep(0.01)

    def _is_writing(self, process):
        with suppress(FileNotFoundError), self._ledger.open("rb") as file:
            file.seek(max(0, self._ledger.stat().st_size - 4_096))
            last = [line.split() for line in file.read().splitlines()[1:] if line.endswith(b" %d" % process)]
            return bool(last) and last[-1][1] == b"attempt"
        return False

    async def _wait(self, least_s, most_s):
        await asyncio.sleep(self._random.uniform(least_s, most_s))

    async def kill_worker(self):
        worker = self._random.choice(self._workers)
        worker.away_s = self._random.uniform(0.0, 2 * LEASE_S)
        await self._until_writing(worker)
        worker.signal(signal.SIGKILL)

    async def park_worker(self):
        self._random.choice(self._workers).signal(signal.SIGTERM)

    async def stop_worker(self):
        """Longer than its lease. In the middle of a write that must not be repeated, the kernel ends it meanwhile."""
        worker = self._random.choice(self._workers)
        await self._until_writing(worker)
        worker.signal(signal.SIGSTOP)
        try:
            await self._wait(1.5 * LEASE_S, 3 * LEASE_S)
        finally:
            worker.signal(signal.SIGCONT)

    async def kill_temporal(self):
        self._temporal.kill()
        try:
            await self._wait(0.0, 3 * LEASE_S)
        finally:  # other tests use it, too
            self._temporal.start()

    async def stop_temporal(self):
        os.kill(self._temporal.pid, signal.SIGSTOP)
        try:
            await self._wait(0.5, 3 * LEASE_S)
        finally:
            os.kill(self._temporal.pid, signal.SIGCONT)

    async def kill_postgres(self):
        await self._start_postgres_anew("immediate")

    async def restart_postgres(self):
        await self._start_postgres_anew("fast")

    async def _start_postgres_anew(self, mode):
        await asyncio.to_thread(self._cluster.stop, mode)
        try:
            await self._wait(0.0, 1.5 * LEASE_S)
        finally:
            self._cluster.start()

    async def stop_postgres(self):
        processes = self._cluster.processes
        for each in processes:
            with suppress(ProcessLookupError):  # a session that has just ended
                os.kill(each, signal.SIGSTOP)
        try:
            await self._wait(0.5, 2 * LEASE_S)
        finally:
            for each in processes:
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGCONT)


class Load:
    """The people who submit runs and decide about them, as often as it takes.

    Attributes:
        ended: Run -> the run.
        retried: (tool, number) -> how often a person had a write of unknown outcome called again.
        resumed: Runs that were parked, since they had lost their process three times without progress.
    """

    def __init__(self, front, prefix, ledger):
        self.ended = {}
        self.retried = Counter()
        self.resumed = []
        self._front = front
        self._prefix = prefix
        self._ledger = ledger
        self._decided = set()
        self._moved = asyncio.Condition()

    async def carry_all(self):
        """Carry all runs to their ends."""
        room = asyncio.Semaphore(SIZE.at_once)

        async def carry(n):
            async with room:
                await self._carry(n)

        async with asyncio.TaskGroup() as carrying:
            for n in range(SIZE.runs):
                carrying.create_task(carry(n))

    async def until_ended(self, count):
        """Return once so many have ended."""
        async with self._moved:
            await self._moved.wait_for(lambda: len(self.ended) >= count)

    async def watch(self):
        """Raise if for a long time no run ends."""
        while len(self.ended) < SIZE.runs:
            before = len(self.ended)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self.until_ended(before + 1)
            except TimeoutError:
                left = [self.name(n) for n in range(SIZE.runs) if n not in self.ended]
                found = {run_id: await self._front.status(run_id) for run_id in left[: SIZE.at_once]}
                raise AssertionError(f"no run has ended for {PATIENCE_S:g} s: {found}") from None

    def name(self, n):
        """Return the id of a run."""
        return f"{self._prefix}-{n}"

    async def _carry(self, n):
        name = self.name(n)
        await _insist(lambda: self._front.submit(plan_of(n), inputs=inputs_of(n), run_id=name, reuse="off"))
        while (run := await _insist(lambda: self._front.wait(name))).status not in ENDED:
            await _insist(lambda run=run: self._decide(run))
            await asyncio.sleep(0.2)
        async with self._moved:
            self.ended[n] = run
            self._moved.notify_all()

    async def _decide(self, run):
        """Decide as somebody would who looks at the world, each matter once."""
        if run.status == "parked":
            self.resumed.append(run.id)
            await self._front.resume(run.id)
        for path, step in run.steps.items():
            matter = run.id, path, step.attempts, step.status
            tool = path.partition("_")[0]
            if step.status not in ("waiting", "indeterminate") or matter in self._decided:
                continue
            try:
                if step.status == "waiting":
                    await self._front.approve(run.id, path, by="ann")
                else:
                    await self._resolve(run.id, path, tool, run.inputs["n"] + int(path.partition("_")[2]) - 1)
            except InputRejected:  # an answer was lost: it was stored, and the run may have gone on
                now = (await self._front.get(run.id)).steps[path]
                if (now.attempts, now.status) == (step.attempts, step.status):
                    raise
            self._decided.add(matter)

    async def _resolve(self, run_id, path, tool, n):
        if any(line[1:4] == ("effect", tool, n) for line in read_ledger(self._ledger)):
            await self._front.resolve(run_id, path, done=n + 1)
        else:
            self.retried[tool, n] += 1
            await self._front.resolve(run_id, path, retry=True)


async def _insist(ask):
    """Return what is asked for, once the database answers."""
    while True:
        try:
            return await ask()
        except StoreError:
            await asyncio.sleep(0.3)


@asynccontextmanager
async def a_fleet(folder, store, backend):
    """Have the workers of a fleet."""
    words = ["--backend", backend, "--store", store, "--tools", str(folder / "tools.py"), "--slots", str(SIZE.slots)]  # fmt: skip
    workers = [Worker(number, folder, words) for number in range(SIZE.workers)]
    keeping = [asyncio.create_task(worker.keep()) for worker in workers]
    try:
        yield workers
    finally:
        await asyncio.gather(*(worker.end(kept) for worker, kept in zip(workers, keeping, strict=True)))


async def digests_of_one_machine(tools):
    """Return the digest of each run, driven by an engine that nothing interrupts."""
    async with Engine(tools, store="memory:") as engine:
        room = asyncio.Semaphore(64)

        async def drive(n):
            async with room:
                run = await engine.run(plan_of(n), inputs=inputs_of(n), reuse="off")
                if run.status == "waiting":
                    (path,) = (path for path, step in run.steps.items() if step.status == "waiting")
                    await engine.approve(run.id, path, by="ann")
                    run = await engine.resume(run.id)
                assert run.status == "succeeded"
                return run.digest

        return await asyncio.gather(*(drive(n) for n in range(SIZE.runs)))


async def ids_of_runs(engine):
    """Return the ids of all runs of the store."""
    found, cursor = set(), None
    while True:
        page = await engine.list_runs(limit=1_000, cursor=cursor)
        found |= {run.id for run in page.runs}
        cursor = page.cursor
        if not cursor:
            return found


def assert_world_is_right(lines, retried):
    """Each write took effect once. A call was repeated only where that was safe, or decided; nothing came of a call that another one had followed."""
    writes = defaultdict(list)
    asks = defaultdict(set)
    for at, line in enumerate(lines):
        if line.kind == "ask":
            asks[line.key].add(at)
        else:
            writes[line.tool, line.n].append((at, line))
    for (tool, n), found in writes.items():
        kinds = Counter(line.kind for _, line in found)
        told = f"{tool} of {n}: {[(line.kind, line.call[:6], line.process) for _, line in found]}"
        assert kinds["effect"] == 1, f"not one effect: {told}"
        assert len({line.key for _, line in found}) == 1, f"two keys: {told}"
        if tool not in WRITES_SURELY:
            continue
        for (_, before), (_, line) in pairwise(found):
            assert line.kind == "attempt" or line.call == before.call, f"a zombie went on: {told}"
        attempts = [at for at, line in found if line.kind == "attempt"]
        if tool in ("once", "signed"):
            assert len(attempts) <= 1 + retried[tool, n], f"repeated blindly: {told}"
        else:
            for first, second in pairwise(attempts):
                is_asked = any(first < at < second for at in asks[found[0][1].key])
                assert is_asked or retried[tool, n], f"repeated unasked: {told}"
    expected = {
        (step["tool"], inputs_of(n)["n"] + at - 1)
        for n in range(SIZE.runs)
        for at, step in enumerate(plan_of(n)["steps"])
        if step["tool"] != "look"
    }
    assert set(writes) == expected


@pytest.mark.parametrize("seed", seeds(3, sampled=1))
@in_loop
async def test_every_run_of_a_fleet_ends_once_and_no_write_is_repeated_blindly(
    tmp_path, cluster, postgres_url, temporal_server, seed, capsys
):
    """Whatever happens to its parts; the digests are those of one machine."""
    random = Random(seed)
    began = time.monotonic()
    tools, ledger = load_tools(tmp_path / "fleet")
    queue = f"faults-{seed}-{os.getpid()}"
    backend = temporal_server.url(queue)
    async with (
        Engine(tools, store=postgres_url, backend=backend) as front,
        a_fleet(tmp_path / "fleet", postgres_url, backend) as workers,
    ):
        load = Load(front, queue, ledger)
        faults = Faults(random, workers, temporal_server, cluster, ledger)

        async def harm():
            each = 0.9 * SIZE.runs / SIZE.faults
            for at, group in enumerate(faults.choose()):
                await load.until_ended(round(each * (at + random.random())))
                await faults.do(group)

        async with asyncio.TaskGroup() as going:
            going.create_task(load.carry_all())
            going.create_task(load.watch())
            going.create_task(harm())
        stored = await ids_of_runs(front)
        finished = Counter()
        for n in load.ended:
            async for event in front.events(load.name(n)):
                finished[n] += event.type == "RunFinished"
        client = await Client.connect(temporal_server.target)
        running = f"TaskQueue = '{queue}' AND ExecutionStatus = 'Running'"
        async with asyncio.timeout(PATIENCE_S):
            while (await client.count_workflows(running)).count:  # noqa: ASYNC110  # the server says it when asked
                await asyncio.sleep(0.2)
    one_machine = await digests_of_one_machine(load_tools(tmp_path / "one")[0])

    assert stored == {load.name(n) for n in range(SIZE.runs)}
    assert {n: run.errors for n, run in load.ended.items() if run.status != "succeeded"} == {}
    assert set(finished.values()) == {1}
    assert [load.ended[n].digest for n in range(SIZE.runs)] == one_machine
    assert_world_is_right(read_ledger(ledger), load.retried)
    codes = [code for worker in workers for code in worker.codes]
    if not SIZE.kinds:
        assert -signal.SIGKILL in codes, "the faults have met nobody"
    with capsys.disabled():
        ends = ", ".join(f"{count} of {code}" for code, count in sorted(Counter(codes).items()))
        done = ", ".join(f"{count} {name}" for name, count in sorted(faults.done.items()))
        took = time.monotonic() - began
        print(  # noqa: T201  # the record of a sweep
            f"\nseed {seed}: {SIZE.runs} runs of {SIZE.workers} workers in {took:.0f} s; {done}; ends of workers: {ends}; "
            f"writes called again by a person: {load.retried.total()}; parked runs resumed: {len(load.resumed)}"
        )
