"""The protocol between the engine and the child processes that call tools: frames on two pipes, one pipe for each direction.

A frame is one line of JSON, followed by the bytes of its parts; the JSON lists their sizes. The engine names a tool by the file or module that
declares it and by its name. Arguments and results are canonical JSON. Nothing is pickled: a tool may take over its child process, and then the
child can send wrong values, but it cannot make the engine run code.

For each call, the engine sends one call frame. The child answers with `ready` when it has found the tool, then with any number of `drawn`,
`asked` and `progress` frames, then with the outcome. The engine answers each `drawn` frame with `noted`, and only then does the tool get the
value. It answers each `asked` frame with an environment variable or a secret, if the tool may have it: the child starts without them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import ModuleType
from typing import Any, BinaryIO, Final

import orjson

from ....errors import ConfigError, ToolError
from ....plans.immutable import immutable
from ....tools import Context, Tool, Used
from ....tools.declaration import Results
from ....tools.remote.active_trace import trace_headers
from ...canonical_value import CanonicalValue
from ..artifacts import CallBlobs
from .invoke import Failed, Lost, Outcome, Returned

WORKER_ENV: Final = "FIRMPLAN_WORKER"  # set in children: an engine there would start children of its own
HEAD_BYTES_MAX: Final = (
    16 * 1024 * 1024
)  # the line of a frame: the values that the call used, and a failure's message
EVERY_S: Final = 0.2  # the progress of one step is recorded at most this often: nobody reads more
NOTE_MAX: Final = 500  # characters of a progress note
_FILE_MODULE: Final = "firmplan_tools_"  # how `Toolset.load` names the modules of files

READY: Final = {"kind": "ready"}  # the child has found the tool, and calls it now
CLOSE: Final = {"kind": "close"}  # the engine needs the child no more: it closes its resources, and ends
NOTED: Final = {"kind": "noted"}  # the engine has recorded a time or an id, so the tool may get it


@immutable
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
    # Compared by name, not by identity: the file may have been loaded again since, and a child loads it again, too.
    if source is None or not isinstance(found, Tool) or found.name != tool.name:
        raise ConfigError(
            f"tool '{tool.name}': isolation='process' needs a function at the top level of a file or module, found "
            f"{function.__module__}.{function.__qualname__}; move it there, or use isolation='thread'"
        )
    return ToolAddress(source, tool.name)


def _source_of(module: ModuleType) -> str | None:
    """Return the name by which `load_tools` imports a module, or the file of a module that cannot be imported by name."""
    if module.__name__ == "__main__" and module.__spec__ is not None:
        return module.__spec__.name  # started as `python -m`
    if module.__name__ == "__main__" or module.__name__.startswith(_FILE_MODULE):
        path = getattr(module, "__file__", None)  # code that was typed in has no file
        return os.path.abspath(path) if path is not None else None  # noqa: PTH100  # symbolic links are not resolved
    return module.__name__


def write_frame(head: Mapping[str, Any], parts: Sequence[bytes] = ()) -> list[bytes]:
    """Return the pieces of a frame, to be written one after the other."""
    line = orjson.dumps({**head, "parts": [len(part) for part in parts]}, option=orjson.OPT_APPEND_NEWLINE)
    return [line, *parts]


def read_frame(source: BinaryIO) -> tuple[dict[str, Any], list[bytes]] | None:
    """Return head and parts of the next frame; `None`: the pipe has ended."""
    line = source.readline()
    if not line.endswith(b"\n"):
        return None
    head = orjson.loads(line)
    return head, [source.read(size) for size in head["parts"]]


def write_call(
    address: ToolAddress,
    args: bytes,
    context: Context,
    blobs: CallBlobs,
    results: Results,
) -> list[bytes]:
    """Return the frame that asks for a call.

    Args:
        address: Where the child finds the tool.
        args: Bound arguments, canonical JSON.
        context: The context of the call.
        blobs: The artifacts that the arguments name, and the folder for files that the call saves.
        results: What becomes of a result that does not fit, which toolset or engine may have said.
    """
    # The child imports modules as this process does, also from folders that the program has added since the child was started.
    head = {
        "source": address.source,
        "name": address.name,
        "path": sys.path,
        "context": context.facts(),
        "known": list(blobs.known),
        "files": {name: str(path) for name, path in blobs.files.items()},
        "folder": str(blobs.folder),
        "results": results,
        "trace": trace_headers(),
    }
    return write_frame(head, [args, *blobs.known.values()])


def write_drawn(drawn: float | str) -> list[bytes]:
    """Return the frame that hands a time or an id to the engine before the tool gets it."""
    return write_frame({"kind": "drawn", "drawn": drawn})


def write_progress(fraction: float, note: str) -> list[bytes]:
    """Return the frame with the progress of a call."""
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
    """Return the time or the id in a frame of a child. Raises: ValueError."""
    drawn = said["drawn"]
    if not isinstance(drawn, float | str):
        raise ValueError(f"expected a time or an id, found {drawn!r}")  # noqa: TRY004  # a value of a frame, not an argument
    return drawn


def write_outcome(outcome: Outcome, used: Used, blobs: CallBlobs) -> list[bytes]:
    """Return the frame with the outcome of a call.

    Args:
        outcome: The outcome.
        used: The values that the call took from its context.
        blobs: The artifacts that the call has saved.
    """
    said: dict[str, Any] = {"used": asdict(used), "files": list(blobs.made_files)}
    saved = list(blobs.made.values())
    match outcome:
        case Returned(output, mismatch):
            head = {**said, "kind": "returned", "mismatch": list(mismatch)}
            return write_frame(head, [output.data, *saved])
        case Failed():
            return write_frame({**said, "kind": "failed", "outcome": asdict(outcome)}, saved)
        case Lost():
            return write_frame({**said, "kind": "lost", "outcome": asdict(outcome)}, saved)


def read_outcome(
    said: Mapping[str, Any], parts: Sequence[bytes], context: Context, blobs: CallBlobs
) -> Outcome:
    """Return the outcome in a frame of a child, and note in context and blobs the values that the call took and the artifacts that it saved.

    Args:
        said: The head of the frame.
        parts: The parts of the frame.
        context: The context of the call in the engine.
        blobs: The artifacts of the call in the engine.

    Raises:
        ValueError: The result is not canonical JSON.
        KeyError: The head lacks a field.
        TypeError: The outcome lacks a field, or has an unknown one.
    """
    # The child's context is a copy. Journal and reuse look at the context of the engine, so the values move there.
    used = dict(said["used"])
    # What the engine answered it knows itself: code in the child could leave a secret out, which would then not be masked.
    secrets = list(dict.fromkeys([*context.used.secrets, *used.pop("secrets")]))
    env = used.pop("env") | context.used.env
    for name, value in (used | {"secrets": secrets, "env": env}).items():
        setattr(context.used, name, value)
    is_returned = said["kind"] == "returned"
    for data in parts[1:] if is_returned else parts:
        blobs.put(data)
    for name in said["files"]:
        blobs.add_file(name)
    if is_returned:
        return Returned(CanonicalValue.checked(parts[0]), [str(each) for each in said["mismatch"]])
    return Failed(**said["outcome"]) if said["kind"] == "failed" else Lost(**said["outcome"])
