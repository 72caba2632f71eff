"""A recorded run, read from its bundle: its calls, their outcomes, and the decisions of people.

Reading a bundle replays the run: a `RecordedRun` is concluded again from the journal, and nothing is called.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import Diverged, InputRejected
from ..executor.calls.running.invoke import Failed, Lost, Outcome, Returned
from ..executor.canonical_value import CanonicalValue
from ..executor.events import (
    RESOLVED_FAILED,
    Answered,
    Approved,
    CallFailed,
    CallLost,
    CallMade,
    CallReused,
    CallStarted,
    CallSucceeded,
    Denied,
    ResolvedDone,
    ResolvedFailed,
)
from ..executor.journal.bundle import Bundle, read_bundle
from ..executor.journal.header import Header, build_machine
from ..executor.journal.records import Entry
from ..executor.journal.restore import fold
from ..executor.review.recall import Recall
from ..executor.runs.archive import snapshot
from ..executor.runs.run import Run
from ..plans import Plan
from ..plans.values import Json
from ..tools import Artifact

REHEARSABLE = ("succeeded", "failed", "waiting")
"""Statuses of runs that end by themselves; a cancel or a budget is no part of the plan."""


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run as a bundle recorded it.

    Attributes:
        path: The bundle's file.
        recall: The run with its machine, its journal, and what each leaf was called with.
        ended: Path of a leaf -> outcome of its last call.
        decided: Path of a leaf -> the decision of a person about its call.
        blobs: Digest -> the bytes of an artifact among its inputs and values.
    """

    path: Path
    recall: Recall
    ended: Mapping[str, Outcome]
    decided: Mapping[str, Approved | Answered | Denied]
    blobs: Mapping[str, bytes] = field(default_factory=dict[str, bytes])

    def read_artifact(self, artifact: Artifact | Mapping[str, Json]) -> bytes:
        """Return the bytes of an artifact, given as the run's values hold it. Raises: InputRejected: they are not in the bundle."""
        name = artifact.digest if isinstance(artifact, Artifact) else artifact.get("digest")
        if not isinstance(name, str) or name not in self.blobs:
            raise InputRejected(f"{self.path}: expected an artifact of the recorded run, found {artifact!r}")
        return self.blobs[name]

    @property
    def run(self) -> Run:
        """The run as it was recorded."""
        return self.recall.run

    @property
    def plan(self) -> Plan:
        """The plan that ran."""
        return self.recall.plan

    @property
    def header(self) -> Header:
        """Plan, inputs, seed, and the lock of the tools."""
        return self.recall.header


def read_recorded(path: str | os.PathLike[str]) -> RecordedRun:
    """Return the run that a bundle holds, replayed.

    Args:
        path: The file that `firmplan export` or `firmplan record` wrote.

    Raises:
        InputRejected: It cannot be read, is damaged, or was never planned.
        Diverged: This version concludes something else than the recording.
    """
    file = Path(path)
    try:
        data = file.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise InputRejected(f"the bundle {file} cannot be read: {reason or error}") from error
    return recorded_of(read_bundle(data, str(file)), file)


def recorded_of(bundle: Bundle, path: Path) -> RecordedRun:
    """Return the run of a bundle, replayed. Raises: InputRejected, Diverged."""
    header, entries = bundle.header, bundle.entries
    if header.plan is None:
        raise InputRejected(f"{path}: the run has no plan: no step of it has started")
    machine, calls = build_machine(header), dict[str, CanonicalValue]()
    fold(machine, entries, calls)
    if bundle.row.digest != machine.digest:
        raise Diverged(step="", field="digest", expected=bundle.row.digest, found=machine.digest)
    run = snapshot(bundle.row, header, machine)
    recall = Recall(run=run, plan=header.plan, header=header, machine=machine, entries=entries, calls=calls)
    return RecordedRun(path, recall, _ended(entries), _decided(entries), bundle.blobs)


def _ended(entries: Sequence[Entry]) -> dict[str, Outcome]:
    """Return path -> outcome of the last call there."""
    found: dict[str, Outcome] = {}
    for entry in entries:
        match entry.event:
            case CallStarted(step=step):
                # A call that started and has no end was under way when the recording ended; the outcome of an earlier attempt is not its outcome.
                found.pop(step, None)
            case (
                CallReused(step=step, output=output)
                | CallSucceeded(step=step, output=output)
                | CallMade(step=step, output=output)
                | ResolvedDone(step=step, output=output)
            ):
                found[step] = Returned(output)
            case CallFailed(step=step, code=code, message=message, temporary=temporary) as failed:
                is_done = failed.is_done
                found[step] = Failed(code, message, temporary, retryable=temporary, took_effect=is_done)
            case ResolvedFailed(step=step, why=why):
                found[step] = Failed(RESOLVED_FAILED, why, temporary=False, retryable=False)
            case CallLost(step=step, why=why):
                found[step] = Lost(why)
            case _:
                pass
    return found


def _decided(entries: Sequence[Entry]) -> dict[str, Approved | Answered | Denied]:
    return {
        entry.event.step: entry.event
        for entry in entries
        if isinstance(entry.event, Approved | Answered | Denied)
    }
