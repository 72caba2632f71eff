"""The child process that calls tools with `isolation="process"`: one call at a time, by the protocol of `frames.py`.

The engine starts it as `python -m firmplan.executor.calls.running.worker`. Synchronous tools run on its main thread, asynchronous tools on the thread
that answers. Tools have an empty stdin, and their stdout goes to stderr, so they cannot reach the pipes. Each call begins in the folder and
with the environment with which the child was started, whatever the call before changed. The child and the processes that it started end with
the engine, also during a call: a thread watches for the end of the pipe.
"""

from __future__ import annotations

import asyncio
import math
import os
import resource
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn

from typing_extensions import override

from ....errors import ConfigError, ToolError
from ....tools import Context, Tool, Used
from ....tools.declaration import Results
from ....tools.logbook import is_json, render_others_as_json
from ....tools.remote.active_trace import trace_continued
from ....tools.toolset import load_tools
from ..artifacts import CallBlobs
from ..lease import EARLY_S, MOMENT_ENV, Moment, Watchdog
from .frames import (
    CLOSE,
    EVERY_S,
    READY,
    read_frame,
    write_drawn,
    write_frame,
    write_outcome,
    write_progress,
    write_question,
)
from .invoke import Failed, Outcome, call_tool, is_unrepeatable, is_worth_retrying
from .resources import ProcessResources, ResourceError
from .stoppable import ThreadPool, ToolThread

MEMORY_ENV: Final = (
    "FIRMPLAN_PROCESS_MEMORY_MB"  # limit on the memory of a child; without it the system's own limit
)
# Limit on the CPU time of one call, all its threads together; without it no limit.
CPU_ENV: Final = "FIRMPLAN_PROCESS_CPU_S"


def main() -> None:
    """Answer calls until the engine has ended."""
    calls, answers = _take_pipes()
    if is_json():  # what libraries of the tools say goes to the stderr of the engine's process
        render_others_as_json()
    if megabytes := os.environ.get(MEMORY_ENV):
        most = int(megabytes) * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    # Tools that use signals, or libraries that insist on the main thread, work as in a program of their own. So the main thread calls the
    # tools, and another thread reads the pipe.
    main_thread = ToolThread()
    watchdog = _watchdog(os.environ.pop(MOMENT_ENV, None))
    child = Child(calls, answers, ThreadPool([main_thread]), os.getcwd(), dict(os.environ), watchdog)  # noqa: PTH109  # a string, as `os.chdir` takes it
    for work in (lambda: _end_with(calls), lambda: _answer_all(child, calls)):
        threading.Thread(target=work, daemon=True).start()
    main_thread.work()


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return the pipes on new file descriptors, and give stdin and stdout other targets, so that tools do not read or print frames."""
    calls, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return calls, answers


def _watchdog(fd: str | None) -> Watchdog | None:
    """Return the timer that ends this process if the engine's lease ends during a write; `None`: no other process takes runs over."""
    return None if fd is None else Watchdog(Moment(int(fd)).get, EARLY_S, lambda _why: _end())


def _end_with(calls: BinaryIO) -> None:
    """End this process group once the engine's side of the pipe is closed."""
    watch = select.poll()
    watch.register(
        calls.fileno(), 0
    )  # no event mask: `poll` always reports the end, and new calls must not wake this thread
    while not watch.poll():
        pass
    _end()


def _end() -> NoReturn:
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def _answer_all(child: Child, calls: BinaryIO) -> None:
    try:
        while (frame := read_frame(calls)) is not None:
            if frame[0].get("kind") == CLOSE["kind"]:
                child.close()
                return
            child.answer(*frame)
    finally:
        _end()


@dataclass(frozen=True)
class Child:
    """The state of one child process.

    Attributes:
        calls: The pipe on which the engine sends calls.
        answers: The pipe on which answers go to the engine.
        threads: A pool with one thread, the main thread.
        folder: The working directory at the start of each call.
        environ: The environment at the start of each call.
        resources: What the tools of this process have opened.
        watchdog: Ends the process if a write would outlive the engine's lease; `None`: no other process takes the runs over.
    """

    calls: BinaryIO
    answers: BinaryIO
    threads: ThreadPool
    folder: str
    environ: Mapping[str, str]
    watchdog: Watchdog | None
    resources: ProcessResources = field(default_factory=ProcessResources)

    def answer(self, call: Mapping[str, Any], parts: Sequence[bytes]) -> None:
        """Make a call, and send its outcome.

        Args:
            call: The head of the call frame.
            parts: The arguments, then the bytes of the artifacts that they name.
        """
        args, *known = parts
        files = {name: Path(path) for name, path in call["files"].items()}
        blobs = CallBlobs(dict(zip(call["known"], known, strict=True)), files, call["folder"])
        used, line = Used(), Line(self)
        try:
            self._put_back(call["path"])
            tool = _tool(call["source"], call["name"], call["results"])
        except ConfigError as fault:  # the tool cannot be found
            line.close()
            missing = Failed("config-error", str(fault), temporary=False, retryable=False)
            self.say(write_outcome(missing, used, blobs))
            return
        try:
            context = self._context(call, tool, blobs, line)
            used = context.used
            if tool.injected:  # before the tool is called: if one does not open, a write did nothing
                asyncio.run(self.threads.call(lambda: self.resources.inject(tool, context)))
            _limit_cpu()
            self.say(write_frame(READY))
            is_guarded = self.watchdog is not None and is_unrepeatable(tool)
            guarding = self.watchdog.guarding() if self.watchdog is not None and is_guarded else nullcontext()
            with guarding, trace_continued(call["trace"]):
                outcome = self._outcome(tool, args, context)
        except ResourceError as fault:
            may_help = fault.temporary or is_worth_retrying(tool, fault.cause)
            outcome = Failed(fault.code, str(fault), fault.temporary, may_help)
        except ConfigError as fault:
            outcome = Failed("config-error", str(fault), temporary=False, retryable=False)
        line.close()
        self.say(write_outcome(outcome, used, blobs))

    def _outcome(self, tool: Tool, args: bytes, context: Context) -> Outcome:
        made: list[Outcome] = []

        async def call() -> None:
            made.append(await call_tool(tool, args, context, self.threads, None))

        # Kept here, not returned: `asyncio.run` writes what a coroutine returns as text, all its megabytes, when it gives back the signals.
        asyncio.run(call())
        return made[0]

    def _put_back(self, path: Sequence[str]) -> None:
        # Paths are added, never removed: modules that an earlier call imported may need them.
        sys.path += [entry for entry in path if entry not in sys.path]
        with suppress(OSError):  # the folder was removed; a tool that needs it fails by itself
            os.chdir(self.folder)
        if os.environ != self.environ:
            os.environ.clear()
            os.environ.update(self.environ)

    def _context(self, call: Mapping[str, Any], tool: Tool, blobs: CallBlobs, line: Line) -> Context:
        facts = dict(call["context"])
        recorded = Used(**facts.pop("recorded"))
        effect = tool.effect
        return Context(
            **facts,
            recorded=recorded,
            on_drawn=line.record,
            on_progress=line.tell,
            effect=effect,
            env=AskedMapping(line, "env"),
            secrets=AskedMapping(line, "secret"),
            blobs=blobs,
            resources=(self.resources, tool),
        )

    def close(self) -> None:
        """Close the resources, on the thread that opened them."""
        asyncio.run(self.threads.call(self.resources.close))

    def say(self, frame: Sequence[bytes]) -> None:
        """Write a frame to the engine."""
        for piece in frame:
            self.answers.write(piece)
        self.answers.flush()


class AskedMapping(Mapping[str, str]):
    """Environment variables or secrets of a call, asked from the engine one by one. They are not listed.

    Args:
        line: Where the engine answers.
        what: `env` or `secret`.
    """

    def __init__(self, line: Line, what: str) -> None:
        self._line = line
        self._what = what
        self._known: dict[str, str | None] = {}

    @override
    def __getitem__(self, name: str) -> str:
        if name not in self._known:
            self._known[name] = self._line.ask(self._what, name)
        if (value := self._known[name]) is None:
            raise KeyError(name)
        return value

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(())

    @override
    def __len__(self) -> int:
        return 0


class Line:
    """The messages of one call while it runs. Threads that the call leaves behind send nothing after its end."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._turn = threading.Lock()
        self._is_open = True
        self._reported_at, self._fraction = -math.inf, 0.0

    def record(self, drawn: float | str) -> None:
        """Send a time or an id to the engine, and wait until the engine has recorded it. Nothing else reads the pipe during a call."""
        with self._turn:
            if self._is_open:
                self._child.say(write_drawn(drawn))
                if read_frame(self._child.calls) is None:
                    _end()

    def ask(self, what: str, name: str) -> str | None:
        """Ask the engine for an environment variable or a secret. Raises: ToolError: the engine refuses."""
        with self._turn:
            if not self._is_open:
                return None
            self._child.say(write_question(what, name))
            if (answer := read_frame(self._child.calls)) is None:
                _end()
        said: Mapping[str, Any] = answer[0]
        if (why := said.get("why")) is not None:
            raise ToolError(why, code="no-secret")
        value: str | None = said["value"]
        return value

    def tell(self, fraction: float, note: str) -> None:
        """Send the progress of the call, unless the last report is too recent; the first report of the end is always sent."""
        # The engine drops reports that come too often (`ProgressLog`). A frame for each of them would delay the call and the engine's event loop.
        with self._turn:
            is_due = self._fraction < 1.0 <= fraction or time.monotonic() - self._reported_at >= EVERY_S
            if self._is_open and is_due:
                self._reported_at, self._fraction = time.monotonic(), fraction
                self._child.say(write_progress(fraction, note))

    def close(self) -> None:
        """Send nothing more."""
        with self._turn:
            self._is_open = False


@cache
def _tool(source: str, name: str, results: Results) -> Tool:
    found = next((tool for tool in load_tools(source) if tool.name == name), None)
    if found is None:
        raise ConfigError(f"{source} has no tool '{name}' any more")
    return replace(found, isolation="thread", results=results)  # the tool is in its process already


def _limit_cpu() -> None:
    """Have the system end this process if the call uses more CPU time than the setting allows."""
    if not (setting := os.environ.get(CPU_ENV)):
        return
    # The system counts the CPU time of the process, so the limit of this call starts at what earlier calls have used.
    spent = resource.getrusage(resource.RUSAGE_SELF)
    most = int(spent.ru_utime + spent.ru_stime + float(setting)) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(
        resource.RLIMIT_CPU, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard)
    )


if __name__ == "__main__":
    main()
