"""What an engine on a PostgreSQL store costs the server while its runs wait: sessions, and transactions a second.

    python benchmarks/bench_idle.py [--seconds S] [--lease S] [--store postgresql://..]

Without `--store` the script starts a server of its own, for which PostgreSQL has to be installed. The server counts: `pg_stat_database` of the database of the
store, which no other program may use meanwhile. The cases:

- `idle`: an engine that has been used, and does nothing;
- `recovers`: the same with `recover=True`, which looks for runs of dead processes;
- `drives`: an engine that drives a run whose only call waits;
- `waits`: what a second engine adds that waits for the run of the first one (`engine.wait`);
- `follows`: the same for a reader of its events (`engine.events`);
- `serves`: `firmplan serve`, with schedules and one webhook, and no request.

The cases `waits` and `follows` tell what they add to `drives`, which is measured before them. Exits with 1 where a limit is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Final

import psycopg
from firmplan import Engine, tool
from firmplan.executor.limits import LEASE_S

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
from postgres import MISSING, Cluster, find_binaries  # only there since the line above

# Transactions a second, with a lease of 30 seconds. The beat of a lease takes a sixth of its length.
LIMITS: Final = {"idle": 0.1, "recovers": 0.7, "drives": 0.5, "waits": 1.0, "follows": 1.2, "serves": 1.0}
SESSIONS_MAX: Final = 2  # of one engine
SETTLED_S: Final = 13.0  # an idle session tells its counts after 10 s, and whoever waits looks often at first
TOOLS: Final = '''
from firmplan import tool

@tool(effect="pure", version=1)
async def add(a: int, b: int) -> int:
    """Add."""
    return a + b
'''
WEBHOOK: Final = (
    '[webhooks.ops]\nurl = "http://127.0.0.1:9/hook"\nsecret = { env = "HOOK_SECRET" }\nallow_http = true\n'
)


class Server:
    """The server of a store, and what it says of itself.

    Args:
        url: The store.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._database = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
        # From another database: this session's own transactions must not count.
        self._db = psycopg.connect(url, autocommit=True, dbname="template1")

    def close(self) -> None:
        """Disconnect."""
        self._db.close()

    def transactions(self) -> int:
        """Return how many transactions the database has had."""
        statement = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname=%s"
        ((count,),) = self._db.execute(statement, [self._database]).fetchall()
        return int(count)

    def sessions(self) -> int:
        """Return how many sessions the database has."""
        statement = "SELECT count(*) FROM pg_stat_activity WHERE datname=%s AND backend_type='client backend'"
        ((count,),) = self._db.execute(statement, [self._database]).fetchall()
        return int(count)


@tool(effect="read", version=1)
async def hold() -> int:
    """Wait until the run is cancelled."""
    await asyncio.Event().wait()
    return 1


PLAN: Final = {"firmplan": 1, "steps": [{"id": "held", "tool": "hold"}]}


async def _driving(engine: Engine) -> str:
    """Start a run whose call waits, and return its id."""
    run = await engine.submit(PLAN)
    async for event in engine.events(run.id):
        if event.type == "CallStarted":
            break
    return str(run.id)


@asynccontextmanager
async def idle(url: str, lease_s: float) -> AsyncIterator[None]:
    """An engine that does nothing."""
    async with Engine([hold], store=url, lease=lease_s) as engine:
        await engine.list_runs()
        yield


@asynccontextmanager
async def recovers(url: str, lease_s: float) -> AsyncIterator[None]:
    """An engine that looks for runs of dead processes."""
    async with Engine([hold], store=url, lease=lease_s, recover=True) as engine:
        await engine.list_runs()
        yield


@asynccontextmanager
async def drives(url: str, lease_s: float) -> AsyncIterator[None]:
    """An engine whose run waits for a call."""
    async with Engine([hold], store=url, lease=lease_s) as engine:
        run_id = await _driving(engine)
        yield
        await engine.cancel(run_id)


@asynccontextmanager
async def waits(url: str, lease_s: float) -> AsyncIterator[None]:
    """Two engines: one drives, and the other waits for the run."""
    async with drives(url, lease_s), Engine([hold], store=url, lease=lease_s) as other:
        (run,) = (await other.list_runs(status="running")).runs
        waiting = asyncio.create_task(other.wait(run.id))
        yield
        await _ended(waiting)


@asynccontextmanager
async def follows(url: str, lease_s: float) -> AsyncIterator[None]:
    """Two engines: one drives, and the other follows the events of the run."""

    async def follow(engine: Engine, run_id: str) -> None:
        async for _ in engine.events(run_id):
            pass

    async with drives(url, lease_s), Engine([hold], store=url, lease=lease_s) as other:
        (run,) = (await other.list_runs(status="running")).runs
        following = asyncio.create_task(follow(other, run.id))
        yield
        await _ended(following)


async def _ended(task: asyncio.Task[object] | asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@asynccontextmanager
async def serves(url: str, lease_s: float) -> AsyncIterator[None]:
    """A server without requests."""
    with tempfile.TemporaryDirectory() as folder, closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
        probe.close()
        (Path(folder) / "firmplan.toml").write_text(WEBHOOK)
        (Path(folder) / "tools.py").write_text(TOOLS)
        env = {
            **os.environ,
            "FIRMPLAN_STORE": url,
            "FIRMPLAN_LEASE": str(lease_s),
            "HOOK_SECRET": "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        }
        command = [
            str(Path(sys.executable).parent / "firmplan"),
            "serve",
            "--port",
            str(port),
            "--tools",
            "tools.py",
        ]
        with subprocess.Popen(  # noqa: ASYNC220  # nothing else goes on here
            command, cwd=folder, env=env, stdout=subprocess.DEVNULL
        ) as process:
            try:
                await _answers(process, f"http://127.0.0.1:{port}/healthz")
                yield
            finally:
                process.send_signal(signal.SIGTERM)


async def _answers(process: subprocess.Popen[bytes], url: str) -> None:
    while process.poll() is None:
        with suppress(OSError):
            await asyncio.to_thread(urllib.request.urlopen, url)
            return
        await asyncio.sleep(0.1)
    raise SystemExit("the server did not start")


CASES: Final[dict[str, Callable[[str, float], object]]] = {
    "idle": idle,
    "recovers": recovers,
    "drives": drives,
    "waits": waits,
    "follows": follows,
    "serves": serves,
}


async def measure(server: Server, name: str, seconds: float, lease_s: float) -> tuple[int, float]:
    """Return the sessions of a case, and its transactions a second."""
    async with CASES[name](server.url, lease_s):  # type: ignore[attr-defined]  # each is a context manager
        await asyncio.sleep(SETTLED_S)
        sessions, before = server.sessions(), server.transactions()
        await asyncio.sleep(seconds)
        return sessions, (server.transactions() - before) / seconds


async def main() -> int:
    """Measure all cases, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="of each case")
    parser.add_argument("--lease", type=float, default=LEASE_S, help="seconds; the limits are for 30")
    parser.add_argument("--store", help="a store of your own; default: a server that is started for this")
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], help="default: all")
    options = parser.parse_args()
    if not options.store and find_binaries() is None:
        print(MISSING)  # the result
        return 0
    cluster = None if options.store else Cluster()
    broken = False
    if cluster is not None:  # its workers have transactions of their own
        cluster.sql("ALTER SYSTEM SET autovacuum = off")
        cluster.sql("SELECT pg_reload_conf()")
    server = Server(cluster.url("bench_idle") if cluster is not None else options.store)
    try:
        alone = 0.0
        for name in options.cases or CASES:
            sessions, rate = await measure(server, name, options.seconds, options.lease)
            alone = rate if name == "drives" else alone
            added = rate - alone if name in ("waits", "follows") else rate
            engines = 2 if name in ("waits", "follows") else 1
            is_broken = added > LIMITS[name] or sessions > SESSIONS_MAX * engines
            broken = broken or is_broken
            print(  # the result
                f"{name:10} {sessions} sessions  {added:6.2f} transactions a second (limit {LIMITS[name]})"
                f"{'  BROKEN' if is_broken else ''}",
                flush=True,
            )
    finally:
        server.close()
        if cluster is not None:
            cluster.remove()
    return int(broken)


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
