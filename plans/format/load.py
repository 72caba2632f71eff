"""The edge of the room: plans in files.

Reading and writing files is all that happens here; what a text holds is `source.py`'s business, and whether it is a plan
`shape.py`'s.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from ...errors import InputRejected, PlanRejected
from ..collecting import collector_paused
from ..limits import LIMITS, Limits
from ..plan import Plan
from ..reports.problems import CheckReport
from .shape import draft_of
from .source import Source, SourceError, parse_source, source_report

PART_BYTES = 1024 * 1024
"""Bytes of a file that are read at a time."""


def read_source(path: str | PathLike[str], limits: Limits = LIMITS) -> Source:
    """Return the value in a plan file, with its text.

    Raises:
        InputRejected: The file is not there or cannot be read.
        PlanRejected: It is neither JSON nor YAML.
    """
    return _parsed(read_text(path, limits), limits)


def _parsed(text: str | bytes, limits: Limits) -> Source:
    try:
        return parse_source(text, limits)
    except SourceError as fault:
        raise PlanRejected(source_report(fault)) from fault


def read_text(path: str | PathLike[str], limits: Limits = LIMITS) -> bytes:
    """Return a plan file's bytes; of a file past the limit only as many as show that.

    Raises:
        InputRejected: The file is not there or cannot be read.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            return read_stream(stream, limits)
    except FileNotFoundError:
        raise InputRejected(f"expected a plan file, found nothing at {file}: check the path") from None
    except IsADirectoryError:
        raise InputRejected(f"expected a plan file, found a folder at {file}: name a file in it") from None
    except (OSError, ValueError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) else str(fault)
        raise InputRejected(f"the plan file {file} cannot be read: {reason}") from fault


def read_stream(stream: BinaryIO, limits: Limits = LIMITS) -> bytes:
    """Return the bytes of a plan in a stream; past the limit only as many as show that. Raises: OSError."""
    return b"".join(_parts(stream, limits.text_bytes_max + 1))


def _parts(stream: BinaryIO, most: int) -> Iterator[bytes]:
    """Yield a file's bytes, so many at most: to ask for them at once would set aside that much memory for any file."""
    while most > 0 and (part := stream.read(min(most, PART_BYTES))):
        yield part
        most -= len(part)


def load_plan(path: str | PathLike[str]) -> Plan:
    """Return the plan in a JSON or YAML file; only its shape is checked.

    Raises:
        InputRejected: The file is not there or cannot be read.
        PlanRejected: What it holds has not the shape of a plan.
    """
    with collector_paused():
        return _plan_in(read_source(path))


def plan_of_text(text: str | bytes) -> Plan:
    """Return the plan in a JSON or YAML text; only its shape is checked. Raises: PlanRejected: the text has not the shape of a plan."""
    with collector_paused():
        return _plan_in(_parsed(text, LIMITS))


def _plan_in(source: Source) -> Plan:
    draft = draft_of(source.value, owned=source.is_json)
    if draft.plan is None or not draft.whole:
        raise PlanRejected(source.located(CheckReport(draft.problems)))
    return draft.plan


def save_plan(plan: Plan, path: str | PathLike[str]) -> None:
    """Write a plan to a file, whole or not at all: YAML if the name ends in `.yaml` or `.yml`, else JSON.

    Raises:
        InputRejected: The file cannot be written.
    """
    file = Path(path)
    text = to_yaml(plan) if file.suffix in (".yaml", ".yml") else plan.to_json() + "\n"
    try:
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
            with suppress(FileNotFoundError):  # a new file stays the owner's alone: its constants may be data
                Path(name).chmod(file.stat().st_mode & 0o777)
            Path(name).replace(file)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as fault:
        raise InputRejected(f"the plan file {file} cannot be written: {fault.strerror}") from fault


def to_yaml(plan: Plan) -> str:
    """Return the plan as YAML that reads back as the same plan, under YAML 1.1's rules too."""
    from .yaml_text import dump_yaml  # noqa: PLC0415  # only for text

    return dump_yaml(plan.to_dict())
