"""What passes between the engine and a child process that calls tools: lines of JSON, in both directions.

A tool goes by the file or module that declares it and its name; arguments and results are canonical JSON, as everywhere. No
pickle: a child that a tool has subverted can say wrong things, but not make the engine run code.
"""

from __future__ import annotations

import sys
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson

from ..errors import ConfigError
from ..tools import Context, Tool, Used
from .artifacts import CallBlobs
from .calls import Failed, Lost, Outcome, Returned
from .sealed import Sealed

WORKER_ENV: Final = "FIRMPLAN_WORKER"  # set in children: an engine in one would start children of its own
_FILE_MODULE: Final = "firmplan_tools_"  # how `Toolset.load` names the modules of files


@dataclass(frozen=True, slots=True)
class Address:
    """Where a child finds a tool: a file or a module, and the tool's name in it."""

    source: str
    name: str


def address_of(tool: Tool) -> Address:
    """Return where a child process finds the tool.

    Raises:
        ConfigError: The tool is not at the top level of a file or module.
    """
    function = tool.source
    module = sys.modules.get(function.__module__)
    if module is None or getattr(module, function.__name__, None) is not tool:
        raise ConfigError(
            f"tool '{tool.name}': isolation='process' needs a function at the top level of a file or module, found "
            f"{function.__module__}.{function.__qualname__}; move it there, or use isolation='thread'"
        )
    is_file = function.__module__ == "__main__" or function.__module__.startswith(_FILE_MODULE)
    source = str(module.__file__) if is_file else function.__module__
    return Address(source, tool.name)


def write_call(
    address: Address,
    args: bytes,
    context: Context,
    known: Mapping[str, bytes],
    secrets: Mapping[str, str] | None,
    timeout_s: float | None,
) -> bytes:
    """Return the line that asks for a call."""
    return orjson.dumps(
        {
            "source": address.source,
            "name": address.name,
            "args": args.decode(),
            "context": context.facts(),
            "known": {name: b64encode(data).decode() for name, data in known.items()},
            "secrets": None if secrets is None else dict(secrets),
            "timeout_s": timeout_s,
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


def write_outcome(outcome: Outcome, used: Used, blobs: CallBlobs) -> bytes:
    """Return the line that answers a call."""
    made = {name: b64encode(data).decode() for name, data in blobs.made.items()}
    said: dict[str, Any] = {"used": asdict(used), "made": made}
    match outcome:
        case Returned(output):
            said |= {"kind": "returned", "output": output.data.decode()}
        case Failed(code, message, temporary, retryable):
            failed = {"code": code, "message": message, "temporary": temporary, "retryable": retryable}
            said |= {"kind": "failed", **failed}
        case Lost(why):
            said |= {"kind": "lost", "why": why}
    return orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE)


def read_outcome(line: bytes, context: Context, blobs: CallBlobs) -> Outcome:
    """Return what a child says came of a call; what the call used of its context goes there. Raises: ValueError."""
    said = orjson.loads(line)
    for name, value in said["used"].items():
        setattr(context.used, name, value)
    for data in said["made"].values():
        blobs.put(b64decode(data))
    match said["kind"]:
        case "returned":
            return Returned(Sealed(said["output"].encode()))
        case "failed":
            return Failed(said["code"], said["message"], said["temporary"], said["retryable"])
        case _:
            return Lost(said["why"])
