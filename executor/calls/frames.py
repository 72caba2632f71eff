"""What passes between the engine and a child process that calls tools: frames, in both directions.

A frame is one line of JSON, whose `parts` are sizes, and then that many bytes for each part. A tool goes by the file or
module that declares it and its name; arguments and results are canonical JSON, as everywhere. No pickle: a child that a tool
has subverted can say wrong things, but not make the engine run code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any, Final, Protocol

import orjson

from ...errors import ConfigError, ToolError
from ...tools import Context, Tool, Used
from ..canonical_value import CanonicalValue
from .invoke import CallBlobs, Failed, Lost, Outcome, Returned

WORKER_ENV: Final = "FIRMPLAN_WORKER"  # set in children: an engine in one would start children of its own
HEAD_BYTES_MAX: Final = 16 * 1024 * 1024  # the line of a frame: what the call used, and a failure's message
EVERY_S: Final = 0.2  # how often the progress of one step is recorded: nobody reads more
NOTE_MAX: Final = 500  # characters of a progress note
_FILE_MODULE: Final = "firmplan_tools_"  # how `Toolset.load` names the modules of files

READY: Final = {"kind": "ready"}  # the child has found the tool, and calls it now
NOTED: Final = {"kind": "noted"}  # the engine has what the call has drawn, which may now be told to the tool


class ByteReader(Protocol):
    """What frames are read from in a child."""

    def readline(self) -> bytes:
        """Return a line, or nothing at the end."""
        ...

    def read(self, size: int, /) -> bytes:
        """Return that many bytes, or fewer at the end."""
        ...


@dataclass(frozen=True, slots=True)
class ToolAddress:
    """Where a child finds a tool: a file or a module, and the tool's name in it."""

    source: str
    name: str


def address_of(tool: Tool) -> ToolAddress:
    """Return where a child process finds the tool.

    Raises:
        ConfigError: The tool is not at the top level of a file or module.
    """
    function = tool.source
    module = sys.modules.get(function.__module__)
    source = _source_of(module) if module is not None else None
    found = getattr(module, function.__qualname__, None)
    # By name, and not the same object: the file may have been loaded again since, as a child does too.
    if source is None or not isinstance(found, Tool) or found.name != tool.name:
        raise ConfigError(
            f"tool '{tool.name}': isolation='process' needs a function at the top level of a file or module, found "
            f"{function.__module__}.{function.__qualname__}; move it there, or use isolation='thread'"
        )
    return ToolAddress(source, tool.name)


def _source_of(module: ModuleType) -> str | None:
    """Return what `load_tools` loads a module from: its name, or the file of one that has no name to import it by."""
    if module.__name__ == "__main__" and module.__spec__ is not None:
        return module.__spec__.name  # started as `python -m`
    if module.__name__ == "__main__" or module.__name__.startswith(_FILE_MODULE):
        path = getattr(module, "__file__", None)  # what is typed in has none
        return os.path.abspath(path) if path is not None else None  # noqa: PTH100  # a link stays one
    return module.__name__


def write_frame(head: Mapping[str, Any], parts: Sequence[bytes] = ()) -> list[bytes]:
    """Return a frame, in pieces to be written one after the other."""
    line = orjson.dumps({**head, "parts": [len(part) for part in parts]}, option=orjson.OPT_APPEND_NEWLINE)
    return [line, *parts]


def read_frame(source: ByteReader) -> tuple[dict[str, Any], list[bytes]] | None:
    """Return the next frame's head and parts, or `None` at the end."""
    line = source.readline()
    if not line.endswith(b"\n"):
        return None
    head = orjson.loads(line)
    return head, [source.read(size) for size in head["parts"]]


def write_call(
    address: ToolAddress,
    args: bytes,
    context: Context,
    known: Mapping[str, bytes],
) -> list[bytes]:
    """Return the frame that asks for a call."""
    head = {
        "source": address.source,
        "name": address.name,
        "path": sys.path,
        "context": context.facts(),
        "known": list(known),
    }
    return write_frame(head, [args, *known.values()])


def write_drawn(drawn: float | str) -> list[bytes]:
    """Return the frame that says what a call has drawn of time and chance."""
    return write_frame({"kind": "drawn", "drawn": drawn})


def write_progress(fraction: float, note: str) -> list[bytes]:
    """Return the frame that says how far a call is."""
    return write_frame({"kind": "progress", "fraction": fraction, "note": note[:NOTE_MAX]})


def write_question(what: str, name: str) -> list[bytes]:
    """Return the frame that asks for an environment variable (`env`) or a secret (`secret`) of the call."""
    return write_frame({"kind": "asked", "what": what, "name": name})


def answer_to(said: Mapping[str, Any], context: Context) -> list[bytes]:
    """Return the frame that answers a question of a child: what the context of the call says. Raises: ValueError: it is no question."""
    what, name = said["what"], said["name"]
    if what not in ("env", "secret") or not isinstance(name, str):
        raise ValueError(f"expected the name of a variable or a secret, found {what!r} {name!r:.80}")
    try:
        value = context.env(name) if what == "env" else context.secret(name)
    except ToolError as fault:
        return write_frame({"kind": "answered", "value": None, "why": str(fault)})
    return write_frame({"kind": "answered", "value": value})


def drawn_in(said: Mapping[str, Any]) -> float | str:
    """Return what a child says that its call has drawn. Raises: ValueError."""
    drawn = said["drawn"]
    if not isinstance(drawn, float | str):
        raise ValueError(f"expected a time or an id, found {drawn!r}")  # noqa: TRY004  # of what a child says
    return drawn


def write_outcome(outcome: Outcome, used: Used, blobs: CallBlobs) -> list[bytes]:
    """Return the frame that answers a call."""
    said: dict[str, Any] = {"used": asdict(used)}
    parts = list(blobs.made.values())
    match outcome:
        case Returned(output):
            said |= {"kind": "returned"}
            parts.insert(0, output.data)
        case Failed(code, message, temporary, retryable):
            failed: dict[str, Any] = {"code": code, "message": message, "trace": outcome.trace}
            failed |= {"temporary": temporary, "retryable": retryable, "took_effect": outcome.took_effect}
            said |= {"kind": "failed", **failed}
        case Lost(why):
            said |= {"kind": "lost", "why": why, "trace": outcome.trace}
    return write_frame(said, parts)


def read_outcome(
    said: Mapping[str, Any], parts: Sequence[bytes], context: Context, blobs: CallBlobs
) -> Outcome:
    """Return what a child says came of a call; what the call used of its context goes there. Raises: ValueError."""
    for name, value in said["used"].items():
        setattr(context.used, name, value)
    made = list(parts)
    output = made.pop(0) if said["kind"] == "returned" else b""
    for data in made:
        blobs.put(data)
    match said["kind"]:
        case "returned":
            return Returned(CanonicalValue.checked(output))
        case "failed":
            names = ("code", "message", "temporary", "retryable", "trace", "took_effect")
            return Failed(**{name: said[name] for name in names})
        case _:
            return Lost(said["why"], said["trace"])
