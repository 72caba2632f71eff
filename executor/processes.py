"""Child processes for tools with `isolation="process"`: kept for the next call, and killed when a call overruns.

A child that dies in mid-call is the call's failure, and for a write an unknown outcome; never ours.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from ..plans.signature import Effect
from ..tools import Context, Tool
from .artifacts import CallBlobs
from .calls import Failed, Lost, Outcome
from .frames import WORKER_ENV, address_of, read_outcome, write_call

CALLS_MAX: Final = 1000  # calls of one child; then a new one takes its place, and what tools leaked is gone
IDLE_MAX: Final = 8  # children kept without work: each holds some 40 MiB
LINE_BYTES_MAX: Final = 256 * 1024 * 1024  # an answer, artifacts included


class Processes:
    """A pool without an upper limit of its own: the engine's limits on calls bound it."""

    def __init__(self) -> None:
        self._idle: list[tuple[asyncio.subprocess.Process, int]] = []

    async def call(  # all that a call is made of
        self,
        tool: Tool,
        args: bytes,
        context: Context,
        blobs: CallBlobs,
        known: Mapping[str, bytes],
        *,
        secrets: Mapping[str, str],
        timeout_s: float | None,
    ) -> Outcome:
        """Call the tool in a child, and return what came of it. A cancel kills the child."""
        address = address_of(tool)
        own = None if secrets is os.environ else secrets
        line = write_call(address, args, context, known, own, timeout_s)
        child, calls = self._idle.pop() if self._idle else (await _new_child(), 0)
        try:
            async with asyncio.timeout(timeout_s):
                answer = await _exchange(child, line)
            outcome = read_outcome(answer, context, blobs)
        except TimeoutError:
            await _kill(child)
            return _interrupted(tool, "timeout", f"no result within {timeout_s:g} s; the process was killed")
        except (ConnectionError, ValueError, asyncio.IncompleteReadError):
            await _kill(child)
            return _interrupted(tool, "process-died", f"the process of the call died: {_ending(child)}")
        except BaseException:
            await _kill(child)
            raise
        if calls + 1 < CALLS_MAX and len(self._idle) < IDLE_MAX:
            self._idle.append((child, calls + 1))
        else:
            await _kill(child)
        return outcome

    async def close(self) -> None:
        """End the idle children."""
        idle, self._idle = self._idle, []
        for child, _ in idle:
            await _kill(child)


async def _new_child() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "firmplan.executor.worker",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, WORKER_ENV: "1"},
        limit=LINE_BYTES_MAX,
    )


async def _exchange(child: asyncio.subprocess.Process, line: bytes) -> bytes:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(line)
    await child.stdin.drain()
    answer = await child.stdout.readline()
    if not answer.endswith(b"\n"):
        raise asyncio.IncompleteReadError(answer, None)
    return answer


async def _kill(child: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        child.kill()
    await child.wait()


def _ending(child: asyncio.subprocess.Process) -> str:
    code = child.returncode
    if code is None or code >= 0:
        return f"exit code {code}"
    return f"signal {signal.Signals(-code).name}"


def _interrupted(tool: Tool, code: str, message: str) -> Outcome:
    if tool.effect is Effect.WRITE:
        return Lost(message)
    retryable = code == "timeout" and tool.is_worth_retrying(TimeoutError(message))
    return Failed(code, message, temporary=code == "timeout", retryable=retryable)
