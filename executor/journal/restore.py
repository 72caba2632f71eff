"""Building a run's machine again from header and journal. The same fold resumes, replays and shows runs.

Every cause in the journal is handed to a new machine. Every consequence that the machine draws, and the arguments of every call, are
compared with the recorded ones. If they are equal, the machine is in the state of the first one. If not, the fold raises `Diverged`.
Rejected: snapshots of the machine. They would be faster to read, but a second format of everything, and nothing would notice a version that
concludes otherwise.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from operator import attrgetter
from typing import Final, TypeVar

import orjson

from ...errors import Diverged, EngineBug, InputRejected, RunNotFound, StoreError
from ...lazy_imports import late_pattern
from ...plans.collecting import collector_paused
from ...tools.background import WorkThread
from ..canonical_value import CanonicalValue
from ..commands import Record
from ..events import (
    REMARKS,
    ApprovalAsked,
    CallMade,
    CallReused,
    CallStarted,
    Consequence,
    JournalEvent,
    LoopBlocked,
    QueueUnserved,
    RunFinished,
    RunStarted,
    StepCancelled,
    StepFailed,
    StepIndeterminate,
    StepSkipped,
    StepSucceeded,
    WorkContinued,
    is_cause,
)
from ..machine import Machine
from ..stores.store import RunRow, Store, read_values
from .header import Header, build_machine, header_digest
from .records import GENESIS, Entry, chain, read_entry, values_by

_T = TypeVar("_T")
_THREAD: Final = WorkThread("firmplan-rebuild")
_STATUS_OF: Final[Mapping[type, str]] = {
    StepSucceeded: "succeeded",
    StepFailed: "failed",
    StepSkipped: "skipped",
    StepCancelled: "cancelled",
    StepIndeterminate: "indeterminate",
    ApprovalAsked: "waiting",
}
_CALLED: Final = (CallMade, CallStarted, CallReused)
_EVENT_OF: Final = attrgetter("event")
_VALUE_REFERENCE = late_pattern(rb'\{"\$value":"(sha256:[0-9a-f]{64})"\}')


async def load_entries(store: Store, row: RunRow) -> list[Entry]:
    """Return a run's journal, its hash chain checked.

    Raises:
        StoreError: A record was changed, lost or swapped.
        RunNotFound: The run was deleted while its journal was read.
    """
    if not row.last_seq:  # it has just been submitted
        return []
    try:
        return await read_entries(store, row, await store.read_journal(row.id))
    # A journal that is deleted while it is read looks like one that was changed. So the error is kept only if the run is still there.
    except StoreError:
        await expect_run(store, row)
        raise


async def expect_run(store: Store, row: RunRow) -> None:
    """Raise `RunNotFound` if a run was deleted since its row was read.

    A run is read in several transactions. If it is still there after the last one, what they read is whole: its records and values go only
    with it.
    """
    # The id of a deleted run is free, and another run may have it by now: the time of creation tells them apart.
    found = await store.find_run(row.id)
    if found is None or found.created != row.created:
        raise RunNotFound(
            f"run {row.id} was deleted from the store {store.name} while it was read; `firmplan runs` lists the runs that are there"
        )


def rebuild(
    row: RunRow, entries: Sequence[Entry], calls: dict[str, CanonicalValue] | None = None
) -> tuple[Header, Machine]:
    """Return a run's header, and its machine where the journal ends.

    Args:
        row: The run.
        entries: Its journal.
        calls: Filled as by `fold`.

    Raises:
        InputRejected: The run has no plan.
        Diverged: The plan language or the machine concludes something else than what was recorded.
        StoreError: The header was changed, also where nothing diverges.
    """
    try:
        header = _planned(row)
        machine = _folded(header, entries, calls)
    except Diverged:
        raise
    # A header that somebody changed may be no plan, lock or input at all. The digest in the first record says so better than the error here.
    except Exception:
        check_header(row, entries)
        raise
    check_header(row, entries)
    return header, machine


def _folded(
    header: Header, entries: Sequence[Entry], calls: dict[str, CanonicalValue] | None = None
) -> Machine:
    """Return the machine of a run where its journal ends."""
    # Of all that a fold makes nothing is garbage, and the collector would look through it again and again: 6 % of a replay.
    with collector_paused():
        machine = build_machine(header)
        fold(machine, entries, calls)
        return machine


async def rebuilt(
    row: RunRow, entries: Sequence[Entry], calls: dict[str, CanonicalValue] | None = None
) -> tuple[Header, Machine]:
    """Return what `rebuild` does, from a thread if the run's expressions have taken long: now they take as long again.

    Args:
        row: As of `rebuild`.
        entries: As of `rebuild`.
        calls: As of `rebuild`.

    Raises:
        InputRejected: The run has no plan.
        Diverged: Something else follows than what was recorded.
        StoreError: The header was changed.
    """
    return await _beside(entries, lambda: rebuild(row, entries, calls))


async def machine_at_end(header: Header, entries: Sequence[Entry]) -> Machine:
    """Return a run's machine where its journal ends, from a thread as `rebuilt`. Raises: PlanRejected, Diverged."""
    return await _beside(entries, lambda: _folded(header, entries))


async def _beside(entries: Sequence[Entry], work: Callable[[], _T]) -> _T:
    is_dear = WorkContinued in map(type, map(_EVENT_OF, entries))
    return await _THREAD.run(work) if is_dear else work()


def _planned(row: RunRow) -> Header:
    header = Header.from_dict(row.header)
    if header.plan is None:
        raise InputRejected(f"run {row.id} has no plan: no step of it has started")
    return header


def check_header(row: RunRow, entries: Sequence[Entry]) -> None:
    """Raise `StoreError` if a run's header is not the one that its first record names; old records name none."""
    match entries[0].event if entries else None:
        case RunStarted(header=named) if named.startswith("sha256:") and named != header_digest(row.header):
            raise StoreError(
                f"the header of run {row.id} is not the one that it started with: it was changed"
            )
        case _:
            pass


async def check_heads(store: Store, row: RunRow) -> None:
    """Raise `StoreError` if a head that a flush left beside its records is not theirs."""
    if place := await _place(store, row, (await store.read_journal(row.id))[: row.last_seq]):
        raise StoreError(f"the chain of run {row.id} was changed{place}")


async def read_entries(store: Store, row: RunRow, lines: Sequence[bytes]) -> list[Entry]:
    """Return the entries of all lines of a journal.

    Args:
        store: Has the large values.
        row: The row of the run, with the head of its chain.
        lines: All lines of its journal.

    Raises:
        StoreError: A record was changed, lost or swapped, or a value is missing.
    """
    # The journal may have grown since the row was read: the row's head is that of its first `last_seq` lines.
    if len(lines) < row.last_seq or chain(GENESIS, lines[: row.last_seq]) != row.head:
        raise StoreError(
            f"the journal of run {row.id} does not match its hash chain{await _place(store, row, lines)}: "
            "it was changed outside firmplan"
        )
    entries = await parse_lines(store, lines)
    # The chain covers the numbers, too, but only as far as the row's length.
    for place, entry in enumerate(entries, 1):
        if entry.seq != place:
            raise StoreError(f"record {place} of the journal of run {row.id} is numbered {entry.seq}")
    return entries


async def _place(store: Store, row: RunRow, lines: Sequence[bytes]) -> str:
    """Return where a journal stops matching the heads that its flushes left, as words."""
    # The head of the last flush stands in the run's row, too. The heads before it narrow down the place of a change.
    heads = await store.read_heads(row.id)
    head = GENESIS
    for (first, recorded), (following, _) in pairwise([*heads, (row.last_seq + 1, b"")]):
        part = lines[first - 1 : following - 1]
        head = chain(head, part)
        if head != recorded or len(part) != following - first:
            last = following - 1
            return f" at record {first}" if last == first else f" between records {first} and {last}"
    return ""


async def parse_lines(store: Store, lines: Iterable[bytes]) -> list[Entry]:
    """Return the entries of some lines, with large values fetched from the store.

    Raises:
        StoreError: A line is no record of this format, or a value is missing or was changed.
    """
    # Large values are named by a pattern in the bytes, and fetched by one query, before any line is parsed.
    listed = list(lines)
    wanted = value_names(listed)
    values = await read_values(store, wanted)

    def find_value(name: str) -> bytes:
        if name not in values:
            raise StoreError(f"the value {name} is missing from the store")
        return values[name]

    with collector_paused():
        shared = values_by(find_value)
        return [read_entry(line, shared) for line in listed]


def value_names(lines: Iterable[bytes]) -> list[str]:
    """Return the digests of the stored values that some lines refer to, sorted."""
    text = b"\n".join(lines)
    # Most runs have none, and to look for plain bytes takes a tenth of the time.
    if b'{"$value":"' not in text:
        return []
    return sorted({found.decode() for found in _VALUE_REFERENCE.findall(text)})


def fold(  # noqa: C901, PLR0912  # one loop over what a journal holds
    machine: Machine, entries: Sequence[Entry], calls: dict[str, CanonicalValue] | None = None
) -> None:
    """Bring a new machine to where the journal ends.

    Args:
        machine: Before its first event.
        entries: The journal.
        calls: Filled with what each leaf was called with, by path; of several attempts the last counts.

    Raises:
        Diverged: The machine draws other conclusions than those recorded, or computes other arguments.
    """
    # A cause is followed in the journal by its consequences, in the order in which the machine draws them. So a queue is enough to compare them.
    # Remarks have no influence on what the machine decides; one of them is a warning of the run.
    drawn: deque[Consequence] = deque()
    machine.is_recounting = True
    iterations = machine.iterations
    for entry in entries:
        event = entry.event
        if is_cause(event):
            if drawn:
                _expect_none(drawn)
            if isinstance(event, _CALLED):
                iteration = iterations.get(event.step)
                call = iteration.call if iteration is not None else None
                if call is None or call.digest != event.args:
                    raise _other_args(event, call)
                if calls is not None:
                    calls[event.step] = call
            # The machine refuses an event that is impossible in its state. In a replay that means that it stands elsewhere than the first one did.
            try:
                commands = machine.handle(event, entry.at)
            except EngineBug as bug:
                step = getattr(event, "step", "")
                raise Diverged(
                    step=step, field="status", expected=type(event).__name__, found=str(bug)
                ) from bug
            for command in commands:
                if isinstance(command, Record):
                    drawn.append(command.event)
        elif type(event) is LoopBlocked:
            machine.note_blocked(event)
        elif type(event) is QueueUnserved:
            machine.note_unserved(event)
        elif not isinstance(event, REMARKS):
            _compare(event, drawn.popleft() if drawn else None)
            if type(event) is ApprovalAsked:
                machine.note_shown(event)
    # A journal that ends between a cause and its consequences cannot be: both are of one flush, and a flush is durable as a whole.
    _expect_none(drawn)
    machine.is_recounting = False


def _other_args(event: CallMade | CallStarted | CallReused, call: CanonicalValue | None) -> Diverged:
    """Return the error of a leaf that is called with something else than what was recorded."""
    found = call.digest if call is not None else None
    return Diverged(step=event.step, field="args", expected=event.args, found=found)


def _expect_none(drawn: Sequence[Consequence]) -> None:
    if drawn:
        step = getattr(drawn[0], "step", "")
        raise Diverged(step=step, field="status", expected=None, found=_show(drawn[0]))


def _compare(recorded: JournalEvent, drawn: Consequence | None) -> None:
    if recorded == drawn:
        return
    # The most telling field comes first: a changed output says more than "succeeded instead of succeeded".
    step = getattr(recorded, "step", "")
    if isinstance(recorded, RunFinished) and isinstance(drawn, RunFinished):
        field = "status" if recorded.status != drawn.status else "digest"
        raise Diverged(step="", field=field, expected=getattr(recorded, field), found=getattr(drawn, field))
    if (
        isinstance(recorded, StepSucceeded)
        and isinstance(drawn, StepSucceeded)
        and recorded.step == drawn.step
    ):
        raise Diverged(step=step, field="output", expected=recorded.output, found=drawn.output)
    raise Diverged(step=step, field="status", expected=_show(recorded), found=_show(drawn))


def _show(event: JournalEvent | None) -> str:
    if event is None:
        return "nothing"
    status = _STATUS_OF.get(type(event))
    reason = getattr(event, "reason", "") or getattr(event, "code", "")
    return (
        f"{status} ({reason})" if status and reason else status or orjson.dumps(type(event).__name__).decode()
    )
