"""Processes of tests, forked from one that has loaded what they need: each starts in milliseconds, where a new interpreter takes a second."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self, TextIO

from firmplan.executor.review import verify

_CONTEXT = multiprocessing.get_context("forkserver")
# A process of tests has one server, which loads these modules when the first child starts; the modules of tests are not on its path. What children
# would import when they need it stands here too: a child that asks a model would take a second for its client.
_CONTEXT.set_forkserver_preload(
    [
        "anyio._backends._asyncio",
        "firmplan.cli.app",
        "firmplan.cli.commands.decide",
        "firmplan.cli.following",
        "firmplan.cli.commands.host",
        "firmplan.cli.invocation",
        "firmplan.cli.mcp",
        "firmplan.cli.commands.plans",
        "firmplan.cli.commands.review",
        "firmplan.cli.commands.run",
        "firmplan.cli.commands.schedules",
        "firmplan.cli.commands.store",
        "firmplan.client",
        "firmplan.engine",
        "firmplan.executor.approvals.waiting",
        "firmplan.executor.calls.running.worker",
        "firmplan.executor.review.review",
        "firmplan.executor.review.verify",
        "firmplan.executor.runs.execution",
        "firmplan.executor.stores.postgres_store",
        "firmplan.planner.drafting.adapting",
        "firmplan.planner.drafting.drafting",
        "firmplan.plans.checker.flow.sources",
        "firmplan.plans.format.yaml_text",
        "firmplan.run_planner",
        "firmplan.scheduled_runs",
        "firmplan.service",
        "firmplan.tools.fingerprint.closure",
        "firmplan.tools.models.completion",
        "firmplan.tools.models.transport",
        "httpcore2",
        "instructor.v2.providers.openai.client",
        "openai.resources.chat",
        "rich.status",
        "rich.table",
        "structlog",
        "tomllib",
        "typer._adapters",
        "uvicorn.lifespan.on",
        "uvicorn.protocols.websockets.auto",
        "uvloop",
    ]
)
END_S = 60.0  # a child lives for less than a second; a machine under load gets some patience


def start(work: Callable[..., None], *args: Any, **options: Any) -> BaseProcess:
    """Start a process that does some work and ends."""
    child = _CONTEXT.Process(target=work, args=args, kwargs=options)
    child.start()
    return child


def start_script(*words: object) -> BaseProcess:
    """Start a script with its arguments, as `python` would, with the streams of this process; a script that a failed test leaves behind ends with the tests."""
    child = _CONTEXT.Process(target=_run_script, args=([str(word) for word in words],), daemon=True)
    child.start()
    return child


def run(
    words: Sequence[object], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end (see `Program`); return what it said."""
    with Program(words, cwd=cwd, env=env) as program:
        out, err = program.communicate(END_S)
    return subprocess.CompletedProcess(list(words), program.wait(), out, err)


def is_killed(child: BaseProcess, *, after_s: float | None = None) -> bool:
    """Wait until a process has ended, or kill it after a time; return whether it was killed. It never fails."""
    if after_s is not None:
        child.join(after_s)
        child.kill()
    child.join(END_S)
    assert child.exitcode in (0, -9)
    return child.exitcode == -9


class Program:
    """A Python program in a process of its own, with the face of `subprocess.Popen`: its output is text in pipes.

    Args:
        words: What follows `python` on a command line: a path or `-m` and a module, then arguments.
        cwd: The folder in which it runs.
        env: Its environment; without it, this process's.
        stdin: Whether it has a pipe to read from.
        terminal: The file descriptor of a terminal that is its stdin, stdout and stderr in place of pipes.
    """

    def __init__(
        self,
        words: Sequence[object],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bool = False,
        terminal: int | None = None,
    ) -> None:
        ends = [os.pipe() for _ in range(3)]
        (read, write), *outs = ends
        theirs = [Connection(read, writable=False), *(Connection(fd, readable=False) for _, fd in outs)]
        if terminal is not None:
            for end in theirs:
                os.dup2(terminal, end.fileno())
        self.stdin = open(write, "w")  # noqa: SIM115, PTH123  # closed with the program
        self.stdout, self.stderr = (open(fd) for fd, _ in outs)  # noqa: SIM115, PTH123
        if not stdin:
            self.stdin.close()
        environment = dict(os.environ if env is None else env)
        # A daemon: a program that a failed test leaves behind ends with the tests.
        self._process = _CONTEXT.Process(
            target=_become,
            args=([str(word) for word in words], str(cwd or Path.cwd()), environment, theirs),
            daemon=True,
        )
        self._process.start()
        self.pid = self._process.pid
        for end in theirs:
            end.close()

    @property
    def returncode(self) -> int | None:
        """The exit code, or the negative number of the signal that ended it; `None` while it lives."""
        return self._process.exitcode

    poll = returncode.fget

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended; return its exit code."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("a program of a test", timeout or 0.0)
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Close its input, wait until it has ended, and return its output and errors."""
        self.stdin.close()
        with ThreadPoolExecutor(2) as pool:
            said = [pool.submit(_rest, pipe) for pipe in (self.stdout, self.stderr)]
            out, err = (each.result(timeout) for each in said)
        self.wait(timeout)
        self.close()
        return out, err

    def close(self) -> None:
        """Let go of its pipes."""
        for pipe in (self.stdin, self.stdout, self.stderr):
            pipe.close()

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it lives."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, if it lives."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.communicate()


def read_terminal(main: int) -> str:
    """Return everything that is printed on a terminal until its other end is closed; close this end."""
    said = b""
    with suppress(OSError):  # how a terminal says that nobody writes any more
        while piece := os.read(main, 65536):
            said += piece
    os.close(main)
    return said.decode()


def _rest(pipe: TextIO) -> str:
    return "" if pipe.closed else pipe.read()


def _run_script(words: list[str]) -> None:
    sys.argv = words
    sys.path.insert(0, str(Path(words[0]).parent))
    runpy.run_path(words[0], run_name="__main__")


def _become(words: list[str], cwd: str, env: dict[str, str], ends: list[Connection]) -> None:
    """Run a program in this process, as `python` would; its `verify` starts two processes, as in the tests themselves (`tests/conftest.py`)."""
    verify.MORE_S = 0.0
    for number, end in enumerate(ends):
        os.dup2(end.fileno(), number)
        end.close()
    encoding = env.get("PYTHONIOENCODING")
    sys.stdin = open(0, encoding=encoding)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding=encoding)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding=encoding, buffering=1, errors="backslashreplace")  # noqa: SIM115
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    is_module = words[0] == "-m"
    if is_module:
        words = words[1:]
    sys.argv = words
    sys.path.insert(0, cwd if is_module else str(Path(words[0]).parent))
    if is_module:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(words[0], run_name="__main__")
