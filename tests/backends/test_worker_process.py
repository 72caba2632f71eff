"""`firmplan worker` as a process: servers that are away when it starts, wrong settings, its metrics, and its end."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import urllib.request
from contextlib import contextmanager, suppress
from itertools import count

import fleet_tools
import pytest
from firmplan import Engine
from firmplan.cli.app import app
from firmplan.errors import ConfigError
from prometheus_client.parser import text_string_to_metric_families
from typer.main import get_command
from waiting_for import in_loop, until

pytestmark = [pytest.mark.temporal, pytest.mark.postgres, pytest.mark.timeout(180)]
QUEUES = count(1)


@pytest.fixture
def backend(temporal_server):
    """The address of a queue that no other test uses."""
    return temporal_server.url(f"processes-{next(QUEUES)}")


@contextmanager
def process_of(command, backend, store, *words):
    """Yield the process of a command."""
    named = ["--backend", backend, "--store", store, "--tools", fleet_tools.__file__]
    process = subprocess.Popen(
        [sys.executable, "-m", "firmplan", command, *named, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "default"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def started_while_servers_are_away(temporal_server, cluster, backend, store):
    """Yield the processes of a worker and a server, whose own servers are there again afterwards."""
    temporal_server.kill()
    cluster.stop()
    try:
        with (
            process_of("worker", backend, store, "--metrics-port", "0", "--slots", "3") as worker,
            process_of("serve", backend, store, "--port", "0") as server,
        ):
            yield worker, server
    finally:
        with suppress(AssertionError):  # it runs
            cluster.start()
        if not temporal_server.is_running:
            temporal_server.start()


async def line_with(process, text):
    """Return the next line of a worker's log that has a text."""
    said = ""
    while text not in (line := await asyncio.to_thread(process.stderr.readline)):
        said += line
        assert line, f"the worker has ended: {said}"
    return line


def sum_of(page, name):
    """Return the sum of the samples of a metric."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name
    )


@in_loop
async def test_commands_wait_for_their_servers_and_a_worker_counts_its_runs(
    temporal_server, cluster, backend, postgres_url
):
    """`worker` and `serve` say for what they wait, each once; then the worker drives runs, tells Prometheus of them, and ends in order at SIGTERM."""
    with started_while_servers_are_away(temporal_server, cluster, backend, postgres_url) as (process, server):
        for each in (process, server):
            waits = await line_with(each, "waiting for up to ")
            assert f"no Temporal server at {temporal_server.target}" in waits
        await asyncio.to_thread(temporal_server.start)
        for each in (process, server):
            await line_with(each, "the store postgresql://")
        await asyncio.to_thread(cluster.start)
        await line_with(server, "firmplan serves ")
        url = re.search(r"metrics at (\S+)", await line_with(process, "metrics at ")).group(1)
        await line_with(process, "Ctrl-C ends")
        async with Engine([fleet_tools.pay], store=postgres_url, backend=backend) as front:
            plan = {"firmplan": 1, "steps": [{"id": "a", "set": 1}], "output": "${a}"}
            assert (await front.run(plan)).output == 1

        def scrape():
            return urllib.request.urlopen(url, timeout=30).read().decode()

        # Observers hear of an end after the store has it.
        page = await until(
            lambda: asyncio.to_thread(scrape),
            lambda page: sum_of(page, "firmplan_run_duration_seconds_count") == 1,
        )
        assert sum_of(page, "firmplan_worker_slots") == 3
        assert "firmplan_http" not in page
        process.terminate()
        assert await asyncio.to_thread(process.wait) == 0


def test_a_wrong_setting_ends_a_worker_immediately(temporal_server, cluster, postgres_url, capsys, tmp_path):
    """A namespace, a database or a user that does not exist, a store of one machine: one error, exit code 2, and no waiting."""
    there = temporal_server.url("q")
    nowhere = temporal_server.url("q", "nowhere")
    no_database = re.sub(r"/[^/?]+(\?|$)", r"/nowhere\1", postgres_url)
    for backend, store, said in (
        (nowhere, postgres_url, "has no namespace 'nowhere'"),
        (there, no_database, "does not exist"),
        (there, str(tmp_path / "runs.db"), "workers share the store of their runs"),
    ):
        words = ["worker", "--backend", backend, "--store", store, "--tools", fleet_tools.__file__]
        with pytest.raises(SystemExit) as ended:
            get_command(app)([*words, "--start-timeout", "3600"])
        assert ended.value.code == 2
        err = capsys.readouterr().err
        assert said in err
        assert "waiting for" not in err


def test_a_server_that_stays_away_ends_a_worker_in_time(postgres_url, capsys):
    """Its error is the same as without waiting."""
    words = ["worker", "--store", postgres_url, "--tools", fleet_tools.__file__]
    with pytest.raises(SystemExit) as ended:
        get_command(app)([*words, "--backend", "temporal://127.0.0.1:1/default", "--start-timeout", "4"])
    assert ended.value.code == 2
    waits, error = capsys.readouterr().err.strip().split("\n", 1)
    assert re.match(r"waiting for up to [1-4] s: backend: no Temporal server", waits)
    assert "no Temporal server at 127.0.0.1:1 could be reached" in error


@in_loop
async def test_an_error_says_whether_waiting_may_help(temporal_server, postgres_url):
    """`ConfigError.temporary`."""
    for backend, is_temporary in (
        ("temporal://127.0.0.1:1/default", True),
        (temporal_server.url("q", "nowhere"), False),
    ):
        with pytest.raises(ConfigError) as refused:
            async with Engine([fleet_tools.pay], store=postgres_url, backend=backend):
                pass
        assert refused.value.temporary is is_temporary
