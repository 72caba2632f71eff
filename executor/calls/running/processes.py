"""The pool of child processes for tools with `isolation="process"`. Children are kept for later calls, and a call that passes its limit is killed.

If a child dies during a call, the call has failed, and a write has an unknown outcome; the engine goes on. Until the child has sent `ready`,
the tool has not been called: an error before that is a plain failure, also for a write, and its time does not count against the call's limit.
Each child leads a process group, so that the processes that its tools start end with it.

This module speaks the protocol of `frames.py`; `worker.py` is the other side. It does not know runs: `caller.py` decides when a call is made.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import orjson

from ....lazy_imports import late_pattern
from ....plans.signature import Effect
from ....tools import Context, Tool
from ..artifacts import CallBlobs
from ..lease import MOMENT_ENV, Lease, Moment
from .frames import (
    CLOSE,
    HEAD_BYTES_MAX,
    NOTED,
    WORKER_ENV,
    address_of,
    answer_to,
    drawn_in,
    read_outcome,
    write_call,
    write_frame,
)
from .invoke import Failed, Lost, Outcome, call_timeout, interrupted
from .loop_watch import NO_WATCH, LoopWatch
from .resources import CLOSE_S

CALLS_MAX: Final = (
    1000  # calls of one child; then a new child takes its place, which frees the memory that tools leaked
)
IDLE_MAX: Final = 8  # idle children that are kept: each holds about 40 MiB
ANSWER_BYTES_MAX: Final = 1 << 30  # result and artifacts of one call; the limits in the child are lower
START_S: Final = 60.0  # time for Python to start and to import the tool's module, on a busy machine
LOOK_S: Final = 0.2  # how often the engine looks whether a silent child lives: a dead child may have left its pipe to a fork
END_S: Final = 5.0  # time for a killed process to end
ENV_ENV: Final = "FIRMPLAN_PROCESS_ENV"  # further variables that children inherit, comma separated
_INHERITED: Final = late_pattern(
    "PATH|HOME|USER|LOGNAME|SHELL|TERM|TZ|TMPDIR|TEMP|TMP|LANG|LANGUAGE|LC_.*|XDG_.*|LD_.*|DYLD_.*|PYTHON.*|VIRTUAL_ENV|CONDA_PREFIX"
    "|SSL_CERT_FILE|SSL_CERT_DIR|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|(?i:https?_proxy|all_proxy|no_proxy)"
    "|COVERAGE_PROCESS_.*|FIRMPLAN_LOG|FIRMPLAN_PROCESS_.*"
)


class ProcessPool:
    """The children of one engine. The pool has no limit of its own: the engine's limits on calls bound it.

    Args:
        extra: Environment variables of the children, beside those of this process.

    Attributes:
        lease: The lease of the engine, which ends the writes of the children, too.
        watch: Over the event loop of the engine.
    """

    def __init__(self, extra: Mapping[str, str] | None = None) -> None:
        self._extra = extra or {}
        self.lease: Lease | None = None
        self.watch: LoopWatch = NO_WATCH
        self._idle: list[_Child] = []
        self._all: set[_Child] = set()

    @property
    def pids(self) -> list[int]:
        """The process ids of the living children, sorted."""
        return sorted(child.pid for child in self._all)

    async def call(
        self,
        tool: Tool,
        args: bytes,
        context: Context,
        blobs: CallBlobs,
        *,
        timeout_s: float | None,
        on_drawn: Callable[[float | str], Awaitable[None]] | None = None,
    ) -> Outcome:
        """Call a tool in a child, and return the outcome. A cancel kills the child.

        Args:
            tool: The tool.
            args: Bound arguments, canonical JSON.
            context: The context of the call, which receives its progress and the values that it used.
            blobs: The artifacts that the call may read, and those that it saves.
            timeout_s: `None`: no limit.
            on_drawn: Records a time or an id; only then does the tool get it.
        """
        frame = write_call(address_of(tool), args, context, blobs, tool.result_rule)
        try:
            child, first = await self._asked(frame)
        except (_ChildDied, TimeoutError) as fault:
            message = f"no process for the call: {_words(fault)}"
            return Failed("process-died", message, temporary=False, retryable=False)
        # From here on the tool may run, so the outcome of a write is unknown unless the child sends it.
        try:
            async with call_timeout(timeout_s, self.watch):
                said, parts = first
                # Resources may ask for secrets before the tool is called.
                while said["kind"] in ("ready", "drawn", "progress", "asked"):
                    if said["kind"] != "ready":
                        await _serve(child, said, context, on_drawn)
                    said, parts = await child.read()
            outcome = read_outcome(said, parts, context, blobs)
        except TimeoutError as fault:
            await self._end(child)
            message = f"no result within {timeout_s:g} s; the process was killed"
            return interrupted(tool, fault, "timeout", message)
        except (
            _ChildDied,
            ValueError,
            TypeError,
            LookupError,
        ) as fault:  # a tool may have garbled the frames
            await self._end(child)
            message = f"the process of the call died: {_words(fault)}"
            if tool.effect is Effect.WRITE:
                return Lost(message)
            # Not temporary: the same arguments would probably kill the next child, too.
            return Failed("process-died", message, temporary=False, retryable=False)
        except BaseException:
            # A cancel, or an error while a time or an id was recorded. The child is in the middle of a call, so it cannot be used again.
            await self._end(child)
            raise
        child.calls += 1
        child.may_hold_resources = child.may_hold_resources or tool.needs_context
        if child.calls < CALLS_MAX and len(self._idle) < IDLE_MAX:
            self._idle.append(child)
        else:
            await self._retire(child)
        return outcome

    async def _asked(self, frame: Sequence[bytes]) -> tuple[_Child, tuple[dict[str, Any], list[bytes]]]:
        """Send the frame of a call to a child; return the child and its first answer. An idle child that has died is replaced by the next one.

        Raises:
            _ChildDied: A new child died before it called the tool.
            TimeoutError: A new child took too long.
        """
        while True:
            is_kept = bool(self._idle)
            child = self._idle.pop() if is_kept else await self._new_child()
            # A child has the environment with which it was started. A tool must see the present one, as it does in a thread.
            if child.environ != child_environment():
                await self._retire(child)
                continue
            try:
                async with asyncio.timeout(START_S):
                    await child.write(frame)
                    return child, await child.read()
            except (_ChildDied, TimeoutError):
                await self._end(child)
                # An idle child may have died since its last call, which says nothing about this call. A new child that dies does.
                if not is_kept:
                    raise
            except BaseException:
                await self._end(child)
                raise

    async def _new_child(self) -> _Child:
        child = await _Child.start(self._extra, self.lease.moment if self.lease is not None else None)
        self._all.add(child)
        return child

    async def _retire(self, child: _Child) -> None:
        """End a child that makes no call: it may close its resources first."""
        if child.may_hold_resources:
            with suppress(_ChildDied, TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await child.write(write_frame(CLOSE))
                    await child.wait()
        await self._end(child)

    async def _end(self, child: _Child) -> None:
        child.kill()
        self._all.discard(child)
        # Shielded, so that a cancelled call still leaves no zombie process.
        await asyncio.shield(child.wait())

    async def close(self) -> None:
        """End all children. A call that is under way in a child fails."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*map(self._retire, idle))
        for child in list(self._all):
            await self._end(child)


async def _serve(
    child: _Child,
    said: Mapping[str, Any],
    context: Context,
    on_drawn: Callable[[float | str], Awaitable[None]] | None,
) -> None:
    """Do what a child wants in the middle of its call. Raises: _ChildDied, ValueError, TypeError, LookupError."""
    match said["kind"]:
        case "progress":
            context.progress(said["fraction"], str(said["note"]))
        case "asked":
            await child.write(answer_to(said, context))
        case _:
            if on_drawn is not None:
                await on_drawn(drawn_in(said))
            await child.write(write_frame(NOTED))


class _ChildDied(Exception):  # noqa: N818  # an event, not an error of the engine
    """A child has died, so no answer will come."""


class _Child:
    """The engine's side of one child process."""

    def __init__(self, process: asyncio.subprocess.Process, environ: Mapping[str, str]) -> None:
        self._process = process
        self.pid = process.pid
        self.environ = environ
        self.calls = 0
        self.may_hold_resources = False

    @classmethod
    async def start(cls, extra: Mapping[str, str], lease_end: Moment | None) -> _Child:
        """Start a child. Raises: _ChildDied: the system starts no process."""
        environ = child_environment()
        shared = {} if lease_end is None else {MOMENT_ENV: str(lease_end.fd)}
        # uvloop starts no process in a group of its own, but in a session of its own, which is a group, too.
        is_asyncios = isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop)
        apart: dict[str, Any] = {"process_group": 0} if is_asyncios else {"start_new_session": True}
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "firmplan.executor.calls.running.worker",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**environ, **extra, **shared, WORKER_ENV: "1"},
                pass_fds=() if lease_end is None else (lease_end.fd,),
                limit=HEAD_BYTES_MAX,
                **apart,
            )
        except OSError as fault:
            raise _ChildDied(f"{sys.executable} cannot be started: {fault}") from fault
        return cls(process, environ)

    async def write(self, frame: Sequence[bytes]) -> None:
        """Write a frame to the child. Raises: _ChildDied."""
        assert self._process.stdin is not None
        try:
            for piece in frame:
                self._process.stdin.write(piece)
            await self._process.stdin.drain()
        except ConnectionError as fault:
            raise _ChildDied(await self._ending()) from fault

    async def read(self) -> tuple[dict[str, Any], list[bytes]]:
        """Return the next frame. Raises: _ChildDied, ValueError."""
        reading = asyncio.ensure_future(self._read())
        try:
            while not reading.done():
                await asyncio.wait([reading], timeout=LOOK_S)
                # The pipe of a dead child stays open as long as a process that its tool started holds it. So the end of the pipe cannot be
                # relied on: the child's own end decides, and its process group is killed.
                if self._process.returncode is not None and not reading.done():
                    self.kill()
                    await asyncio.wait([reading], timeout=LOOK_S)
                    break
            if not reading.done():
                raise _ChildDied(await self._ending())
            return reading.result()
        except (asyncio.IncompleteReadError, ConnectionError) as fault:
            raise _ChildDied(await self._ending()) from fault
        finally:
            # A reader that is left behind would take bytes of the next answer.
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self) -> tuple[dict[str, Any], list[bytes]]:
        source = self._process.stdout
        assert source is not None
        head = orjson.loads(await source.readuntil(b"\n"))
        if (size := sum(head["parts"])) > ANSWER_BYTES_MAX:
            raise _ChildDied(f"an answer of {size} bytes; the limit is {ANSWER_BYTES_MAX}")
        return head, [await source.readexactly(size) for size in head["parts"]]

    def kill(self) -> None:
        """Kill the child and the processes that its tools started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    async def wait(self) -> None:
        """Wait until a killed child has ended."""
        with suppress(
            TimeoutError
        ):  # a process that left the group may hold the pipes, and asyncio waits for them
            async with asyncio.timeout(END_S):
                await self._process.wait()

    async def _ending(self) -> str:
        self.kill()
        await self.wait()
        code = self._process.returncode
        if code is None or code >= 0:
            return f"exit code {code}"
        name = signal.Signals(-code).name
        return f"signal {name}{': it used more CPU time than FIRMPLAN_PROCESS_CPU_S' * (name == 'SIGXCPU')}"


def child_environment() -> dict[str, str]:
    """Return the environment of a child: what programs need to run, and what `FIRMPLAN_PROCESS_ENV` names.

    Keys and passwords often stand in the environment of a server. A library that a tool uses could read them there, and so could each
    program that the tool starts. A tool asks with `ctx.env` and `ctx.secret` for what it needs.
    """
    named = {each.strip() for each in os.environ.get(ENV_ENV, "").split(",")}
    return {name: value for name, value in os.environ.items() if name in named or _INHERITED.fullmatch(name)}


def _words(fault: BaseException) -> str:
    return str(fault) or f"no answer within {START_S:g} s"
