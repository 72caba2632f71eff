"""A run is built again from what its store holds: what does not fit its chain, its header or the machine is found, each at its place."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import replace

import pytest
from firmplan.errors import Diverged, EngineBug, InputRejected, RunNotFound, StoreError
from firmplan.executor import Header
from firmplan.executor.canonical_value import CanonicalValue
from firmplan.executor.events import (
    CallMade,
    CallStarted,
    CallSucceeded,
    RunFinished,
    RunStarted,
    StepSucceeded,
    is_cause,
)
from firmplan.executor.journal.records import GENESIS, Entry, chain
from firmplan.executor.journal.restore import (
    build_machine,
    check_header,
    check_heads,
    expect_run,
    fold,
    load_entries,
    parse_lines,
    read_entries,
    rebuild,
)
from firmplan.executor.stores.store import RunRow
from firmplan.testing import ScriptedTool
from rig import Rig, plan_of

PLAN = plan_of(
    {"id": "a", "tool": "add", "args": {"n": 1}},
    {"id": "b", "set": "${a + 1}"},
    {"id": "c", "tool": "add", "args": {"n": "${b}"}},
    output="${c}",
)


@pytest.fixture(scope="module")
def made():
    """The row of a run that has ended, and its journal."""

    async def main():
        add = ScriptedTool("add", lambda n: n + 1, effect="read")
        async with Rig([add]) as rig:
            run = await rig.run(PLAN, "r")
            assert run.output == 4
            row = await rig.store.find_run("r")
            return row, await load_entries(rig.store, row)

    return asyncio.run(main())


@pytest.fixture
def row(made):
    return made[0]


@pytest.fixture
def entries(made):
    return copy.deepcopy(made[1])


def at(entries, kind, step=""):
    """Return the place of an event."""
    return next(
        place
        for place, entry in enumerate(entries)
        if isinstance(entry.event, kind) and getattr(entry.event, "step", "") == step
    )


def differing(row, entries):
    with pytest.raises(Diverged) as raised:
        rebuild(row, entries)
    fault = raised.value
    return fault.step, fault.field, fault.expected, fault.found


# --- the machine


def test_a_machine_stands_where_the_journal_ends_and_has_what_was_called_with(row, entries):
    """And counts again from there as a machine does that moves by itself."""
    calls = {}
    header, machine = rebuild(row, entries, calls)
    assert header.plan == PLAN
    assert machine.status.value == "succeeded"
    assert not machine.is_recounting
    assert {step: call.value for step, call in calls.items()} == {"a": {"n": 1}, "c": {"n": 3}}


def test_each_conclusion_that_is_not_recorded_is_missed(row, entries):
    """In the middle, where the next cause comes, and at the end."""
    for place, entry in enumerate(entries):
        if not is_cause(entry.event) and isinstance(entry.event, StepSucceeded | RunFinished):
            step, field, _, found = differing(row, entries[:place] + entries[place + 1 :])
            assert (step, field) == (getattr(entry.event, "step", ""), "status")
            assert "succeeded" in found or "RunFinished" in found
    assert differing(row, entries[:-1])[2] is None


def test_a_conclusion_that_the_machine_does_not_draw_is_found(row, entries):
    """Its step, and that the machine has nothing there."""
    place = at(entries, StepSucceeded, "b")
    doubled = [*entries[: place + 1], entries[place], *entries[place + 1 :]]
    assert differing(row, doubled) == ("b", "status", "succeeded", "nothing")


def test_what_was_called_with_and_what_came_of_it_is_compared(row, entries):
    """Arguments, outputs of steps, digest and status of the run."""
    called = entries[at(entries, CallMade | CallStarted, "c")].event
    args, called.args = called.args, "sha256:other"
    assert differing(row, entries) == ("c", "args", "sha256:other", args)
    called.args = args
    ended = entries[at(entries, StepSucceeded, "b")].event
    output, ended.output = ended.output, "sha256:other"
    assert differing(row, entries) == ("b", "output", "sha256:other", output)
    ended.output = output
    finished = entries[at(entries, RunFinished)].event
    digest, finished.digest = finished.digest, "sha256:other"
    assert differing(row, entries) == ("", "digest", "sha256:other", digest)
    finished.digest = digest
    status, finished.status = finished.status, "failed"
    assert differing(row, entries) == ("", "status", "failed", status)
    finished.status = status
    called.step = "b"
    step, field, *_ = differing(row, entries)
    assert (step, field) == ("b", "args")
    called.step = "c"
    rebuild(row, entries)


def test_a_cause_that_the_machine_does_not_take_is_found(row, entries):
    """A call that is made once more after the run has ended, and one that ends without having begun."""
    called = entries[at(entries, CallMade | CallStarted, "c")]
    assert differing(row, [*entries, called])[:3] == ("c", "args", called.event.args)
    ended = Entry(len(entries) + 1, 1.0, CallSucceeded("c", CanonicalValue(b"4")))
    assert differing(row, [*entries, ended])[:3] == ("c", "status", "CallSucceeded")


# --- the header


def test_a_header_that_is_not_the_one_of_the_first_record_is_found(row, entries):
    """Where a replay would come to the same, and where there is nothing left to replay; older records name none."""
    other = replace(row, header={**row.header, "task": "other"})
    with pytest.raises(StoreError, match="the header of run r is not the one that it started with"):
        rebuild(other, entries)
    for change in ({"lock": 1}, {"plan": {"firmplan": 1, "steps": []}}):
        with pytest.raises((StoreError, Diverged)):
            rebuild(replace(row, header={**row.header, **change}), entries)
    for change in ({"lock": 1}, {"plan": None}):  # no lock or plan at all
        with pytest.raises(StoreError, match="the header of run r is not the one that it started with"):
            rebuild(replace(row, header={**row.header, **change}), entries)
    entries[0].event.header = ""
    check_header(other, entries)
    check_header(other, [])
    with pytest.raises(InputRejected, match="run r has no plan"):
        rebuild(replace(row, header={**row.header, "plan": None}), [])
    with pytest.raises(EngineBug, match="a run without a plan"):
        build_machine(replace(Header.from_dict(row.header), plan=None))


# --- the chain


class Kept:
    """A store that has one run's journal, as flushes of some sizes left it."""

    name = "kept"

    def __init__(self, lines, *flushes, row=None, values=()):
        self.lines, self.row, self.values = lines, row, dict(values)
        self.heads, head, first = [], GENESIS, 1
        for size in flushes:
            part = lines[first - 1 : first - 1 + size]
            head = chain(head, part)
            self.heads.append((first, head))
            first += size

    async def read_journal(self, run_id, after=0, *, limit=None):
        if self.lines is None:
            raise StoreError("cannot be read")
        return self.lines

    async def read_heads(self, run_id):
        return self.heads

    async def find_run(self, run_id):
        return self.row

    async def find_values(self, digests):
        return {name: self.values[name] for name in digests if name in self.values}

    async def find_parts(self, digests):
        return {}

    async def find_object(self, name):
        return None


LINES = [b'{"n":%d,"at":1.0,"type":"StepSucceeded","step":"s","output":"d"}' % n for n in range(1, 8)]
ROW = RunRow("r", "running", None, None, None, 1.0, 1.0, "", {}, head=chain(GENESIS, LINES), last_seq=7)


@pytest.mark.parametrize(
    ("changed", "told"), [(1, "at record 1:"), (2, "between records 2 and 4:"), (4, "between records 2 and 4:"), (5, "at record 5:"), (6, "between records 6 and 7:")]
)  # fmt: skip
def test_a_changed_record_is_told_by_the_flush_that_wrote_it(changed, told):
    """Records that were written alone are told alone."""
    store = Kept(LINES, 1, 3, 1, 2)
    assert [entry.seq for entry in asyncio.run(read_entries(store, ROW, LINES))] == list(range(1, 8))
    lines = list(LINES)
    lines[changed - 1] = lines[changed - 1].replace(b"1.0", b"2.0")
    with pytest.raises(StoreError, match=f"the journal of run r does not match its hash chain {told}"):
        asyncio.run(read_entries(store, ROW, lines))


def test_a_journal_that_lacks_records_is_found_and_later_ones_are_read_too():
    """Whoever reads the row first may find more records than it knows of; where all heads fit, no place is told."""
    store = Kept(LINES, 1, 3, 1, 2)
    with pytest.raises(StoreError, match="hash chain between records 6 and 7:"):
        asyncio.run(read_entries(store, ROW, LINES[:-1]))
    earlier = replace(ROW, head=chain(GENESIS, LINES[:5]), last_seq=5)
    assert len(asyncio.run(read_entries(store, earlier, LINES))) == 7
    wrong = replace(ROW, head=GENESIS)
    with pytest.raises(StoreError, match="does not match its hash chain: it was changed"):
        asyncio.run(read_entries(store, wrong, LINES))


def test_records_of_a_right_chain_and_wrong_numbers_are_found():
    """A record's number is its place."""
    for lines, told in (
        ([LINES[0], LINES[2]], "record 2 of the journal of run r is numbered 3"),
        ([LINES[0], LINES[0]], "record 2 of the journal of run r is numbered 1"),
        (LINES[1:], "record 1 of the journal of run r is numbered 2"),
    ):
        row = replace(ROW, head=chain(GENESIS, lines), last_seq=len(lines))
        with pytest.raises(StoreError, match=told):
            asyncio.run(read_entries(Kept(lines), row, lines))


def test_a_head_that_is_not_the_one_of_its_records_is_found():
    """By a check of the store."""
    store = Kept(LINES, 1, 3, 1, 2)
    asyncio.run(check_heads(store, ROW))
    store.heads[1] = (2, GENESIS)
    with pytest.raises(StoreError, match="the chain of run r was changed between records 2 and 4"):
        asyncio.run(check_heads(store, ROW))
    store = Kept(LINES, 7)
    store.lines = [*LINES, LINES[0]]  # more than the row knew of
    asyncio.run(check_heads(store, ROW))


def test_a_value_that_is_missing_or_changed_is_told():
    """It is named by its digest."""
    name = "sha256:" + "0" * 64
    line = b'{"n":1,"at":1.0,"type":"CallSucceeded","step":"s","output":{"$value":"%s"}}' % name.encode()
    with pytest.raises(StoreError, match=f"the value {name} is missing from the store"):
        asyncio.run(parse_lines(Kept([]), [line]))
    with pytest.raises(StoreError, match=f"the value {name} was changed in the store kept"):
        asyncio.run(parse_lines(Kept([], values={name: b"1"}), [line]))


def test_a_run_that_is_deleted_while_it_is_read_is_told_as_deleted():
    """Also where another run has its id by now; what else is wrong with a run that is there is told as it is."""
    gone, again = Kept(None), Kept(None, row=replace(ROW, created=2.0))
    for store in (gone, again):
        with pytest.raises(RunNotFound, match="run r was deleted from the store kept while it was read"):
            asyncio.run(expect_run(store, ROW))
        with pytest.raises(RunNotFound):
            asyncio.run(load_entries(store, ROW))
    asyncio.run(expect_run(Kept(None, row=ROW), ROW))
    with pytest.raises(StoreError, match="cannot be read"):
        asyncio.run(load_entries(Kept(None, row=ROW), ROW))
    assert asyncio.run(load_entries(gone, replace(ROW, last_seq=0))) == []


def test_the_machine_counts_again_while_it_is_built(row, entries):
    """What it concludes then was concluded before."""
    machine = build_machine(Header.from_dict(row.header))
    seen, handle = [], machine.handle
    machine.handle = lambda event, at: seen.append(machine.is_recounting) or handle(event, at)
    fold(machine, entries)
    assert seen
    assert all(seen)
    assert isinstance(entries[0].event, RunStarted)
