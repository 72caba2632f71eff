"""Two servers on one database are killed again and again under load: every accepted run ends once, and no write happens twice.

Clients submit without a pause, and repeat a request at the other server, under the same key, until a server has accepted it. What the writes did
stands in files that no server reads but by `reconcile`: they are the judge.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from random import Random

import httpx2
import pytest
from firmplan import Engine
from seeds import seeds
from served import Server

pytestmark = [pytest.mark.postgres, pytest.mark.sweep]
KILLS = 5  # of one case: 50 in a sweep
CLIENTS = 3
PAUSE_S = (0.05, 0.6)  # between a server that is up, and the kill of one
END_S = 120.0

TOOLS = '''
import asyncio
import os
import time
from pathlib import Path

from firmplan import Context, tool

LOG = Path(__file__).parent.parent


def note(name, line):
    """Add a line in one call of the system: it is there or not, whenever the process is killed."""
    file = os.open(LOG / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, f"{line}\\n".encode())
    os.close(file)


def is_paid(key, args):
    """Whether the payment took place."""
    return (LOG / "paid").exists() and f"{key}\\n" in (LOG / "paid").read_text() or None


@tool(effect="read", resource="prices", version=1)
async def look(number: int) -> int:
    """Look something up."""
    await asyncio.sleep(0.005)
    return number


@tool(effect="write", resource="bank", reconcile=is_paid, version=1)
def pay(amount: int, ctx: Context) -> bool:
    """Pay. Twice would be twice: only the question of what became of it keeps it from that."""
    time.sleep(0.005)
    note("paid", ctx.idempotency_key)
    time.sleep(0.005)
    return True


@tool(effect="write", resource="mail", idempotent=True, version=1)
async def tell(amount: int, ctx: Context) -> int:
    """Tell somebody who takes notice of each key once."""
    note("told", ctx.idempotency_key)
    await asyncio.sleep(0.005)
    return amount
'''


def plan(number):
    """A read and two writes."""
    return {
        "firmplan": 1,
        "steps": [
            {"id": "found", "tool": "look", "args": {"number": number}},
            {"id": "paid", "tool": "pay", "args": {"amount": "${found}"}},
            {"id": "told", "tool": "tell", "args": {"amount": "${found if paid else 0}"}},
        ],
        "output": "${told}",
    }


class Load:
    """Clients that submit runs to whichever server takes them.

    Attributes:
        accepted: Run -> the number that it was submitted with.
    """

    def __init__(self, servers):
        self.accepted = {}
        self._urls = {name: server.url for name, server in servers.items()}
        self._is_over = threading.Event()
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._clients = [self._pool.submit(self._submit, number) for number in range(CLIENTS)]

    def restarted(self, name, server):
        """Use a server's new address."""
        self._urls[name] = server.url

    def _submit(self, client):
        with httpx2.Client(timeout=10.0) as http:
            number = client
            while not self._is_over.is_set():
                self.accepted[self._accepted(http, number)] = number
                number += CLIENTS

    def _accepted(self, http, number):
        turn = number
        headers = {"Idempotency-Key": f"order-{number}"}
        until = time.monotonic() + END_S
        while True:
            url = list(self._urls.values())[turn % len(self._urls)]
            try:
                answer = http.post(f"{url}/v1/runs", json={"plan": plan(number)}, headers=headers)
            except httpx2.TransportError:  # the server was killed: nobody knows whether it accepted the run
                turn += 1
                assert time.monotonic() < until, "no server takes a run"
                time.sleep(0.01)
                continue
            assert answer.status_code == 202, answer.text
            return answer.json()["id"]

    def end(self):
        """Submit no more, and raise what a client met."""
        self._is_over.set()
        for client in self._clients:
            client.result(END_S)
        self._pool.shutdown()


def ended(engine, runs):
    """Return run -> the run, once all have ended."""
    until = time.monotonic() + END_S
    found = {}
    while len(found) < len(runs):
        for run_id in runs:
            if run_id not in found and engine.status_sync(run_id) in ("succeeded", "failed", "cancelled"):
                found[run_id] = engine.get_sync(run_id)
        left = {run_id: engine.status_sync(run_id) for run_id in runs if run_id not in found}
        assert time.monotonic() < until, f"have not ended: {left}"
        time.sleep(0.1)
    return found


def listed(engine):
    """Return the ids of all runs of a store."""
    page = engine.list_runs_sync(limit=1_000)
    found = [run.id for run in page.runs]
    while page.cursor is not None:
        page = engine.list_runs_sync(limit=1_000, cursor=page.cursor)
        found += [run.id for run in page.runs]
    return found


@pytest.mark.parametrize("seed", seeds(10, sampled=1))
def test_every_accepted_run_ends_once_and_no_write_happens_twice(tmp_path, postgres_url, seed):
    """Whichever of two servers is killed at whatever moment, sometimes both."""
    random = Random(seed)

    def served(name):
        (tmp_path / name).mkdir(exist_ok=True)
        words = ("--store", postgres_url, "--rate", "100000", "--queue", "100000")
        return Server(tmp_path / name, *words, tools=TOOLS)

    servers = {name: served(name) for name in ("a", "b")}
    load = Load(servers)
    try:
        for _ in range(KILLS):
            time.sleep(random.uniform(*PAUSE_S))
            for name in random.choice((["a"], ["b"], ["a", "b"])):
                assert servers[name].stop(signal.SIGKILL) == -signal.SIGKILL
                servers[name] = served(name)
                load.restarted(name, servers[name])
        load.end()
        with Engine([], store=postgres_url) as engine:
            runs = ended(engine, load.accepted)
            stored = listed(engine)
            finished = {
                run_id: sum(event.type == "RunFinished" for event in engine.events_sync(run_id))
                for run_id in runs
            }
    finally:
        load.end()
        for server in servers.values():
            server.stop(signal.SIGTERM)
    assert len(runs) > KILLS
    assert sorted(stored) == sorted(runs)
    assert {run_id: run.output for run_id, run in runs.items() if run.status != "succeeded"} == {}
    assert {run_id: run.output for run_id, run in runs.items()} == load.accepted
    assert set(finished.values()) == {1}
    paid = Counter((tmp_path / "paid").read_text().split())
    assert (len(paid), set(paid.values())) == (len(runs), {1})
    assert len(set((tmp_path / "told").read_text().split())) == len(runs)
