"""The child process that calls tools with `isolation="process"`: one call at a time, asked for and answered on pipes.

Started as `python -m firmplan.executor.worker`. What a tool prints goes to stderr: stdout carries the answers. The process ends
when its stdin does, so it never outlives the engine.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from base64 import b64decode
from dataclasses import replace
from functools import cache
from typing import Any, BinaryIO, Final

import orjson

from ..errors import ConfigError
from ..tools import Context, Tool, Used
from ..tools.loading import load_tools
from .artifacts import CallBlobs
from .calls import Failed, Outcome, call_tool
from .frames import write_outcome
from .threads import Threads

MEMORY_ENV: Final = "FIRMPLAN_PROCESS_MEMORY_MB"  # most memory of a child; without it the system's own limit
CPU_SPARE_S: Final = 1.0  # CPU time past the call's timeout after which the system ends the child


def main() -> None:
    """Answer calls until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    if megabytes := os.environ.get(MEMORY_ENV):
        most = int(megabytes) * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    for line in sys.stdin.buffer:
        _answer(orjson.loads(line), answers)


def _answer(call: dict[str, Any], answers: BinaryIO) -> None:
    blobs = CallBlobs({name: b64decode(data) for name, data in call["known"].items()})
    used = Used()
    try:
        tool = _tool(call["source"], call["name"])
        facts = call["context"]
        recorded = facts.pop("recorded")
        context = Context(
            **facts,
            recorded=Used(**recorded),
            effect=tool.effect,
            env=os.environ,
            secrets=os.environ if call["secrets"] is None else call["secrets"],
            blobs=blobs,
        )
        used = context.used
        _limit_cpu(call["timeout_s"])
        outcome: Outcome = asyncio.run(call_tool(tool, call["args"].encode(), context, Threads(), None))
    except ConfigError as fault:
        outcome = Failed("config-error", str(fault), temporary=False, retryable=False)
    answers.write(write_outcome(outcome, used, blobs))


@cache
def _tool(source: str, name: str) -> Tool:
    found = next((tool for tool in load_tools(source) if tool.name == name), None)
    if found is None:
        raise ConfigError(f"{source} has no tool '{name}' any more")
    return replace(found, isolation="inline")


def _limit_cpu(timeout_s: float | None) -> None:
    """Have the system end this process if the call computes far past its timeout."""
    if timeout_s is None:
        return
    spent = resource.getrusage(resource.RUSAGE_SELF)
    most = int(spent.ru_utime + spent.ru_stime + timeout_s + CPU_SPARE_S) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(
        resource.RLIMIT_CPU, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard)
    )


if __name__ == "__main__":
    main()
