"""What `firmplan serve` costs a submission, its run included, beside a bare FastAPI endpoint that makes one durable SQLite commit.

    python benchmarks/bench_submissions.py [--rounds N] [--submissions N] [--seconds S] [--other-plans] [--profile FILE]

Both servers run in processes of their own, on loopback, with the same uvicorn, event loop and parser; this process is the load. Each round has two parts for each
server, the servers taking turns. First 16 connections submit as fast as they are answered, and the round waits until every run has ended: that gives the CPU time of
the server's process for a submission, and its capacity. Then submissions come at half of that capacity, at random moments, and the time from the moment at which each
was due to its answer is taken, so that a server which falls behind shows it. The ratios are of one round; the medians of all rounds count.

A submission is a plan of three steps, a new input each time, so that no step is reused. `--other-plans`: each plan is another one, so that it is checked and
compiled, too. `--profile FILE` has the first part of one round profiled by cProfile in the server. Exits with 1 where a limit is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CPU_TIMES_MAX: Final = 4.0
P99_TIMES_MAX: Final = 3.0
CONNECTIONS: Final = 16
END_S: Final = 120.0

TOOLS: Final = '''
from firmplan import tool

@tool(effect="pure", version=1)
async def add(a: int, b: int) -> int:
    """Add."""
    return a + b
'''
BARE: Final = '''
import sqlite3
import sys

import uvicorn
from fastapi import FastAPI, Response
from pydantic import BaseModel

app = FastAPI()
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode=WAL")
db.execute("PRAGMA synchronous=FULL")
db.execute("CREATE TABLE IF NOT EXISTS runs(id INTEGER PRIMARY KEY, status TEXT, plan TEXT, number INTEGER)")


class Body(BaseModel):
    plan: dict
    inputs: dict


class Made(BaseModel):
    id: int


@app.post("/v1/runs", status_code=202)
async def submit(body: Body) -> Made:
    """Store it."""
    import json
    row = db.execute(
        "INSERT INTO runs(status, plan, number) VALUES ('succeeded', ?, ?)", (json.dumps(body.plan), body.inputs["n"])
    )
    return Made(id=row.lastrowid)


class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print(f"serves at http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]} Ctrl-C", file=sys.stderr, flush=True)


Server(uvicorn.Config(app, port=0, log_level="warning", access_log=False)).run()
'''
PROFILED: Final = """
import cProfile
import sys

from firmplan.cli.app import main

profile = cProfile.Profile()
file, sys.argv = sys.argv[1], sys.argv[1:]
profile.enable()
try:
    main()
finally:
    profile.disable()
    profile.dump_stats(file)
"""


def body(number: int, *, is_other: bool) -> bytes:
    """Return the body of a submission."""
    steps = [
        {
            "id": f"s{n}",
            "tool": "add",
            "args": {"a": f"${{s{n - 1}}}" if n else "${inputs.n}", "b": number if is_other else 1},
        }
        for n in range(3)
    ]
    plan = {"firmplan": 1, "inputs": {"n": {"type": "integer"}}, "steps": steps, "output": "${s2}"}
    return json.dumps({"plan": plan, "inputs": {"n": 10 * number}}).encode()


# --- servers


@dataclass
class Server:
    """A server in a process of its own.

    Attributes:
        done: Runs that have ended, by its store.
    """

    name: str
    process: subprocess.Popen[str]
    port: int
    store: Path | str

    @classmethod
    def started(cls, name: str, words: list[str], folder: Path, store: Path | str) -> Server:
        """Start a server and wait until it serves."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith("FIRMPLAN_")}
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=folder,
            stderr=subprocess.PIPE,
            text=True,
            env={**clean, "FIRMPLAN_DRAIN": "0"},
        )
        assert process.stderr is not None
        said, port = "", 0
        for line in process.stderr:
            said += line
            if found := re.search(r" at http://127.0.0.1:(\d+)", line):
                port = int(found[1])
            if "Ctrl-C" in line:
                return cls(name, process, port, store)
        raise RuntimeError(f"{name} did not start: {said}")

    def cpu_s(self) -> float:
        """Return the CPU time of the process, its threads and the kernel's part included."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def done(self) -> int:
        """Return how many runs have ended."""
        if str(self.store).startswith("postgresql"):
            import psycopg  # an extra

            with psycopg.connect(str(self.store)) as server:
                row = server.execute("SELECT count(*) FROM firmplan_runs WHERE status='succeeded'").fetchone()
                return int(row[0]) if row else 0
        with closing(sqlite3.connect(f"file:{self.store}?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT count(*) FROM runs WHERE status='succeeded'").fetchone()[0])

    def wait(self, runs: int) -> None:
        """Wait until so many runs have ended."""
        until = time.monotonic() + END_S
        while self.done() < runs:
            assert time.monotonic() < until, f"{self.name}: {self.done()} of {runs} runs have ended"
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop the server in order."""
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=END_S)


# --- load


class Connection:
    """One connection that is kept open, with as little work for the client as can be: it shares the machine with the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def opened(cls, port: int) -> Connection:
        """Open one."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def submit(self, content: bytes) -> None:
        """Submit a run and read the answer."""
        self._writer.write(
            b"POST /v1/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(content), content)
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        answer = await self._reader.readexactly(int(length[1]) if length else 0)
        assert b" 202 " in head.partition(b"\r\n")[0], head + answer

    async def close(self) -> None:
        """Close it."""
        self._writer.close()
        await self._writer.wait_closed()


async def flood(port: int, bodies: list[bytes]) -> None:
    """Submit over all connections, each as fast as it is answered."""
    left = iter(bodies)

    async def one() -> None:
        connection = await Connection.opened(port)
        for content in left:
            await connection.submit(content)
        await connection.close()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))


async def paced(port: int, bodies: list[bytes], per_s: float) -> list[float]:
    """Submit at random moments, so many a second; return the seconds from when each was due to its answer."""
    dice = random.Random(1)
    idle = [await Connection.opened(port) for _ in range(CONNECTIONS)]
    taken: list[float] = []
    tasks: set[asyncio.Task[None]] = set()
    begin = due = time.perf_counter()

    async def one(content: bytes, due: float) -> None:
        connection = idle.pop() if idle else await Connection.opened(port)
        await connection.submit(content)
        taken.append(time.perf_counter() - due)
        idle.append(connection)

    for content in bodies:
        due += dice.expovariate(per_s)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(one(content, due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    assert time.perf_counter() > begin
    for connection in idle:
        await connection.close()
    return taken


@dataclass(frozen=True)
class Found:
    """What one server did in one round.

    Attributes:
        cpu_ms: CPU time of a submission, its run included.
        per_s: Capacity: submissions a second whose runs have ended.
        p50_ms: Half of the answers at half of the capacity took less.
        p99_ms: 99 of 100 did.
    """

    cpu_ms: float
    per_s: float
    p50_ms: float
    p99_ms: float


class Load:
    """The load on one server."""

    def __init__(self, server: Server, *, is_other: bool) -> None:
        self.server = server
        self._is_other = is_other
        self._number = 0

    def _bodies(self, count: int) -> list[bytes]:
        first, self._number = self._number, self._number + count
        return [body(number, is_other=self._is_other) for number in range(first, self._number)]

    def flood(self, count: int) -> tuple[float, float]:
        """Return CPU seconds and seconds of so many submissions, until their runs have ended."""
        bodies = self._bodies(count)
        cpu, begin = self.server.cpu_s(), time.perf_counter()
        asyncio.run(flood(self.server.port, bodies))
        self.server.wait(self._number)
        return self.server.cpu_s() - cpu, time.perf_counter() - begin

    def paced(self, seconds: float, per_s: float) -> list[float]:
        """Return the times of answers at that rate, in order of size."""
        taken = asyncio.run(paced(self.server.port, self._bodies(round(seconds * per_s)), per_s))
        self.server.wait(self._number)
        return sorted(taken)


def one_round(loads: list[Load], submissions: int, seconds: float) -> list[Found]:
    """Return what each server did in one round."""
    flooded = [load.flood(submissions) for load in loads]
    found: list[Found] = []
    for load, (cpu_s, wall_s) in zip(loads, flooded, strict=True):
        per_s = submissions / wall_s
        taken = load.paced(seconds, per_s / 2)
        p50_ms, p99_ms = (1_000 * taken[int(part * len(taken))] for part in (0.5, 0.99))
        found.append(Found(1_000 * cpu_s / submissions, per_s, p50_ms, p99_ms))
    return found


def main(options: argparse.Namespace) -> int:
    """Print what was measured; return the exit code."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tools.py").write_text(TOOLS)
        (folder / "bare.py").write_text(BARE)
        (folder / "profiled.py").write_text(PROFILED)
        words = [
            "serve",
            "--tools",
            "tools.py",
            "--port",
            "0",
            "--rate",
            "1000000",
            "--queue",
            "1000000",
            "--store",
            "s.db",
        ]
        begin = (
            ["profiled.py", str(Path(options.profile).resolve())] if options.profile else ["-m", "firmplan"]
        )
        servers = [
            Server.started("firmplan", [*begin, *words], folder, folder / "s.db"),
            Server.started("bare", ["bare.py", "bare.db"], folder, folder / "bare.db"),
        ]
        loads = [Load(server, is_other=options.other_plans) for server in servers]
        try:
            for load in loads:
                load.flood(200)  # what is made at the first use
            if options.profile:
                loads[0].flood(options.submissions)
                return 0
            rounds = [one_round(loads, options.submissions, options.seconds) for _ in range(options.rounds)]
        finally:
            for server in servers:
                server.stop()
    print(f"{'':10}{'CPU ms':>8}{'a second':>10}{'p50 ms':>8}{'p99 ms':>8}     at half of its capacity")
    for both in rounds:
        for load, found in zip(loads, both, strict=True):
            print(
                f"{load.server.name:10}{found.cpu_ms:8.2f}{found.per_s:10.0f}{found.p50_ms:8.2f}{found.p99_ms:8.2f}"
            )
    cpu = statistics.median(ours.cpu_ms / bare.cpu_ms for ours, bare in rounds)
    p99 = statistics.median(ours.p99_ms / bare.p99_ms for ours, bare in rounds)
    print(
        f"CPU of a submission, its run included: {cpu:.2f} times the bare endpoint's (limit {CPU_TIMES_MAX:g})"
    )
    print(f"p99 at half of the capacity: {p99:.2f} times the bare endpoint's (limit {P99_TIMES_MAX:g})")
    return int(cpu > CPU_TIMES_MAX or p99 > P99_TIMES_MAX)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--submissions", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--other-plans", action="store_true")
    parser.add_argument("--profile")
    sys.exit(main(parser.parse_args()))
