"""The writing end of a journal, apart from stores and threads: what a commit takes, what waits for the disk, and what a failure stops."""

from __future__ import annotations

import asyncio
import math
import threading

import pytest
from firmplan.errors import EngineBug, StoreError
from firmplan.executor.canonical_value import CanonicalValue
from firmplan.executor.events import CallMade, CallStarted, CallSucceeded, StepSucceeded
from firmplan.executor.journal import journal as module
from firmplan.executor.journal.journal import BEHIND_MAX, Journal
from firmplan.executor.journal.records import (
    GENESIS,
    INLINE_BYTES_MAX,
    Entry,
    Event,
    chain,
    read_entry,
    split_calls,
    values_by,
    write_line,
)
from firmplan.executor.states import FINAL, RunStatus
from firmplan.executor.stores.store import CallRecord, Reusable, RunRow

HEAD = chain(GENESIS, [b"before"])
ROW = RunRow(
    "r", "running", None, None, None, 1.0, 1.0, "", {}, epoch=7, owner="me", head=HEAD, last_seq=4, beat=1
)
STARTED = CallStarted("pay", 1, "sha256:0")
ENDED = CallSucceeded("pay", CanonicalValue(b"1"))
PLAIN = StepSucceeded("add", "sha256:1")


class Asked:
    """Stands for the commits: notes within how many seconds one is asked for; `None`: as soon as commits usually come."""

    def __init__(self):
        self.within = []

    def expect(self, source, within_s=None):
        self.within.append(within_s)


class Written:
    """A journal that goes on behind record 4, and the commits that it asks for."""

    def __init__(self, status=RunStatus.RUNNING):
        self.status = status
        self.asked = Asked()
        self.journal = Journal(self.asked, ROW, lambda: (self.status, "sha256:d"))

    def commit(self):
        batch = self.journal.take()
        self.journal.settle(batch, None)
        return batch


def test_a_commit_takes_all_that_was_added_once_and_goes_on_with_the_chain():
    """Numbers, epoch, heads and what stands beside the records; then there is nothing left to take."""
    written = Written()
    journal = written.journal
    assert (journal.last, journal.durable, journal.updated) == (4, 4, 1.0)
    journal.add(PLAIN, 2.0)
    journal.keep({"sha256:k": b"kept"})
    journal.add(PLAIN, 3.0)
    assert (journal.last, journal.durable, journal.updated) == (6, 4, 3.0)
    assert written.asked.within == [None]  # one commit is asked for, once
    batch = written.commit()
    lines = [write_line(5, 2.0, PLAIN)[0], write_line(6, 3.0, PLAIN)[0]]
    assert (batch.run_id, batch.epoch, batch.first_seq, batch.lines) == ("r", 7, 5, lines)
    assert batch.head == chain(HEAD, lines)
    assert (batch.values, batch.status, batch.digest, batch.updated) == (
        {"sha256:k": b"kept"},
        "running",
        "sha256:d",
        3.0,
    )
    assert journal.durable == 6
    assert journal.take() is None
    journal.add(PLAIN, 4.0)
    batch = written.commit()
    lines.append(write_line(7, 4.0, PLAIN)[0])
    assert (batch.first_seq, batch.head, batch.values) == (7, chain(HEAD, lines), {})


def test_a_write_is_noted_with_its_records_and_waits_for_the_disk():
    """Its intent opens it, its outcome closes it: each once. What begins and ends in one commit is closed and not opened."""
    written = Written()
    journal = written.journal
    journal.add(STARTED, 2.0, opens="box")
    opening = written.commit()
    assert (opening.opened, opening.closed, opening.is_synced) == ({"pay": "box"}, [], True)
    journal.add(PLAIN, 2.0)
    between = written.commit()
    assert (between.opened, between.closed, between.is_synced) == ({}, [], False)
    journal.add(ENDED, 2.0, closes=True)
    ending = written.commit()
    assert (ending.opened, ending.closed, ending.is_synced) == ({}, ["pay"], True)
    journal.add(STARTED, 2.0, opens="box")
    journal.add(ENDED, 2.0, closes=True)
    both = written.commit()
    assert (both.opened, both.closed) == ({}, ["pay"])


@pytest.mark.parametrize("how", [{"opens": "box"}, {"closes": True}, {"decision": 3}, {"is_synced": True}])
def test_what_must_survive_a_power_loss_is_committed_at_once_and_nothing_else_is(how):
    """A write's intent and outcome, a decision, and what says so; each commit says it anew."""
    written = Written()
    written.journal.add(PLAIN, 2.0)
    assert written.asked.within == [None]
    written.journal.add(STARTED, 2.0, **how)
    assert written.asked.within == [None, 0]
    batch = written.commit()
    assert batch.is_synced
    assert batch.decided == ([3] if "decision" in how else [])
    written.journal.add(PLAIN, 3.0)
    assert written.asked.within == [None, 0, None]
    batch = written.commit()
    assert (batch.is_synced, batch.decided) == (False, [])


@pytest.mark.parametrize("status", list(RunStatus))
def test_a_run_that_stands_still_or_has_ended_waits_for_the_disk_and_only_one_that_has_ended_is_released(
    status,
):
    """A person may be shown it, and an owner lets go of it."""
    written = Written(status)
    written.journal.add(PLAIN, 2.0)
    assert not written.journal.is_released
    batch = written.commit()
    assert batch.status == status.value
    assert batch.is_synced == (status not in (RunStatus.QUEUED, RunStatus.RUNNING))
    assert batch.releases == ("me" if status in FINAL else None)
    assert written.journal.is_released == (status in FINAL)


def test_what_calls_leave_releases_no_run(monkeypatch):
    """It may come after the record that ends the run, whose owner is let go of with that record alone."""
    written = Written(RunStatus.SUCCEEDED)
    monkeypatch.setattr(module, "LEFT_MAX_S", 0.0)
    call = CallRecord("r", "pay", "t", 1.0, "k", b"{}")
    written.journal.leave(call)
    batch = written.commit()
    assert (batch.lines, batch.releases, batch.head, batch.reuse.calls) == ([], None, HEAD, [call])
    assert not written.journal.is_released
    written.journal.add(PLAIN, 2.0)
    assert written.commit().releases == "me"
    written.journal.leave(call)
    written.commit()
    assert written.journal.is_released  # and stays so


def test_what_calls_leave_waits_longer_the_more_they_have_left(monkeypatch):
    """Each commit of it touches pages at random, so that a large run makes fewer of them; the wait has an end."""
    written = Written()
    monkeypatch.setattr(module, "LEFT_MORE", 2)
    monkeypatch.setattr(module, "LEFT_MAX_S", 100.0)
    call = CallRecord("r", "pay", "t", 1.0, "k", b"{}")
    for waited in (1, 1, 2, 2, 3, 3, 4, 4, 4, 4):
        written.journal._left = None
        written.journal.leave(call)
        assert written.asked.within[-1] == 100.0 * waited


def test_what_calls_leave_waits_for_more_of_it_and_then_goes_at_once(monkeypatch):
    """A commit before its time takes the records alone; whoever waits for all of it does not wait for its time."""
    written = Written()
    monkeypatch.setattr(module, "LEFT_MAX_S", 1_000.0)
    call = CallRecord("r", "pay", "t", 1.0, "k", b"{}")
    result = Reusable("k", "r", "pay", b"1", 1.0)

    async def main():
        written.journal.leave(call, result, {"sha256:c": {"a": "b"}})
        assert written.asked.within == [1_000.0]
        written.journal.leave(call)
        assert written.journal.take() is None
        assert len(written.asked.within) == 2  # too early: it is asked for again
        assert written.asked.within[-1] == pytest.approx(1_000, abs=100)
        written.journal.add(PLAIN, 2.0)
        assert written.commit().reuse is None
        resting = asyncio.create_task(written.journal.rest())
        await asyncio.sleep(0)
        assert written.asked.within[-1] == 0
        assert not resting.done()
        left = written.journal.take()
        assert (left.reuse.calls, left.reuse.results, left.reuse.codes) == (
            [call, call],
            [result],
            {"sha256:c": {"a": "b"}},
        )
        written.journal.settle(left, None)
        await resting
        await written.journal.rest()
        assert written.journal.take() is None

    asyncio.run(main())


def test_waiting_ends_with_the_commit_of_what_was_added_and_not_before():
    """A commit that came earlier is not enough; what is durable is not waited for."""

    async def main():
        written = Written()
        await written.journal.flush()
        assert written.asked.within == []
        written.journal.add(PLAIN, 2.0)
        early = written.journal.take()
        written.journal.add(PLAIN, 3.0)
        flushing = asyncio.create_task(written.journal.flush())
        await asyncio.sleep(0)
        assert written.asked.within[-1] == 0
        written.journal.settle(early, None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (flushing.done(), written.journal.durable) == (False, 5)
        written.commit()
        await flushing
        assert written.journal.durable == 6
        waiting = asyncio.create_task(written.journal.wait_past(6))
        await asyncio.sleep(0)
        written.journal.close()
        await waiting

    asyncio.run(main())


@pytest.mark.parametrize(
    ("fault", "told"), [(StoreError("full"), StoreError), (ValueError("a bug"), EngineBug)]
)
def test_after_a_commit_that_failed_nothing_more_is_taken(fault, told):
    """The run stops where its durable prefix ends: no later record is committed behind the gap, and all who wait hear of it."""

    async def main():
        written = Written()
        journal = written.journal
        journal.add(PLAIN, 2.0)
        flushing = asyncio.create_task(journal.flush())
        await asyncio.sleep(0)
        batch = journal.take()
        journal.add(PLAIN, 3.0)
        journal.settle(batch, fault)
        with pytest.raises(told):
            await flushing
        assert journal.durable == 4
        assert journal.take() is None
        with pytest.raises(told):
            journal.add(PLAIN, 4.0)
        with pytest.raises(told):
            await journal.flush()
        with pytest.raises(told):
            journal.flush_here()
        assert journal.take() is None

    asyncio.run(main())


def test_an_outcome_waits_for_the_intents_that_share_its_commit():
    """It asks for no commit of its own: the next intent does, or whoever adds none asks for one."""
    written = Written()
    journal = written.journal
    journal.add(STARTED, 2.0, opens="box")
    written.commit()
    written.asked.within.clear()
    journal.add(ENDED, 3.0, closes=True, within_s=math.inf)
    assert written.asked.within == []
    journal.add(CallStarted("pay2", 1, "sha256:1"), 4.0, opens="box")
    journal.expect()
    assert written.asked.within == [0]  # one commit for both, and nobody asks twice
    batch = written.commit()
    assert (len(batch.lines), batch.is_synced, batch.closed) == (2, True, ["pay"])
    journal.add(CallSucceeded("pay2", CanonicalValue(b"1")), 5.0, closes=True, within_s=math.inf)
    journal.expect()
    assert written.asked.within == [0, None]
    assert written.commit().is_synced
    journal.expect()  # nothing is left
    assert written.asked.within == [0, None]


def test_so_many_events_may_wait_for_the_disk_and_no_more():
    """A store that is slow slows the run down, instead of filling the memory."""
    written = Written()
    for _ in range(BEHIND_MAX):
        written.journal.add(PLAIN, 2.0)
    assert not written.journal.is_behind
    written.journal.add(PLAIN, 2.0)
    assert written.journal.is_behind
    batch = written.journal.take()
    assert written.journal.is_behind  # what was taken is not durable yet
    written.journal.settle(batch, None)
    assert not written.journal.is_behind


def test_a_value_stands_in_its_record_up_to_its_size_and_beside_it_past_that():
    """Either is read back as it was; what stands beside is found by its digest alone."""
    for size in (INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1):
        value = CanonicalValue.of("x" * (size - 2))
        assert len(value.data) == size
        line, large = write_line(5, 2.0, CallSucceeded("pay", value))
        assert [each.data for each in large] == ([value.data] if size > INLINE_BYTES_MAX else [])
        assert (len(line) > size) == (size == INLINE_BYTES_MAX)
        kept = {each.digest: each.data for each in large}
        entry = read_entry(line, values_by(kept.__getitem__))
        assert (entry.seq, entry.at, entry.event.output.data) == (5, 2.0, value.data)
    written = Written()
    written.journal.add(CallSucceeded("pay", value), 2.0)
    assert written.journal.take().values == {value.digest: value.data}


@pytest.mark.parametrize(
    "value",
    [
        {"b": [1, 2.5, None, True], "a": {"\u00e9": '\u2028 \\ " \u0000'}},
        [1e16, 1e-7, -1e300, 1e15, 0.001, 123456789012345.6],
        {"$json": 1e16, "output": {"$json": 10000000000000000.0}},
        '"output":{"$json":1}',
        {"$value": "sha256:none"},
        [],
        9223372036854775807,
        "x" * 70_000,
    ],
)
def test_a_value_is_read_with_the_bytes_that_were_written(value):
    """Also where orjson spells its numbers otherwise, or it looks like a record itself."""
    sealed = CanonicalValue.of(value)
    event = CallSucceeded("pay", sealed, usage={"output": {"$json": value}})
    line, _ = write_line(5, 2.0, event, None)
    assert read_entry(line, {}.__getitem__).event.output.data == sealed.data


def test_the_start_of_a_call_may_wait_for_its_end():
    """It asks for a later commit, once, and an event that may not wait for so long asks for one as usual."""
    written = Written()
    journal = written.journal
    journal.add(STARTED, 2.0, within_s=0.2)
    journal.add(CallStarted("b", 1, "sha256:1"), 2.0, within_s=0.05)
    journal.add(CallStarted("c", 1, "sha256:1"), 2.0, within_s=0.05)
    assert written.asked.within == [0.2, 0.05]
    journal.add(ENDED, 3.0)
    journal.add(CallStarted("d", 1, "sha256:1"), 3.0, within_s=0.05)
    assert written.asked.within == [0.2, 0.05, None]
    assert len(written.commit().lines) == 5
    journal.add(CallStarted("e", 1, "sha256:1"), 4.0, within_s=0.05)
    assert written.asked.within == [0.2, 0.05, None, 0.05]


def test_a_line_holds_what_there_is_and_no_more():
    """Fields of which nothing is known are not written, so that lines are the same as those of versions without them."""
    assert write_line(5, 2.0, STARTED)[0] == (
        b'{"n":5,"at":2.0,"type":"CallStarted","step":"pay","attempt":1,"args":"sha256:0","key":""}'
    )
    line = write_line(6, 2.5, CallSucceeded("pay", CanonicalValue(b'{"a":1}'), usage={"tokens": 3}))[0]
    assert line == (
        b'{"n":6,"at":2.5,"type":"CallSucceeded","step":"pay","output":{"$json":{"a":1}},"usage":{"tokens":3}}'
    )


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[1]",
        b'{"n":1,"at":2.0}',
        b'{"n":1,"type":"StepSucceeded","step":"a","output":"d"}',
        b'{"at":2.0,"type":"StepSucceeded","step":"a","output":"d"}',
        b'{"n":1,"at":2.0,"type":"Strange","step":"a"}',
        b'{"n":1,"at":2.0,"type":"StepSucceeded","step":"a"}',
        b'{"n":1,"at":2.0,"type":"StepSucceeded","step":"a","output":"d","more":1}',
        b'{"n":1,"at":2.0,"type":"CallSucceeded","step":"a","output":{"$value":"sha256:none"}}',
        b'{"n":1,"at":2.0,"type":"CallSucceeded","step":"a","output":{"$value":"sha256:spaced"}}',
    ],
)
def test_a_line_that_is_no_record_is_refused(line):
    """One of a newer version, one that lacks a field, one whose value is missing or not as it was written."""
    with pytest.raises(StoreError, match="not a journal record of format 1"):
        read_entry(line, values_by({"sha256:spaced": b"[1, 2]"}.__getitem__))


def test_a_call_made_in_one_piece_is_told_as_its_start_and_its_success():
    """For whoever looks for either; everything else is told as it is."""
    made = CallMade("pay", 2, "sha256:0", CanonicalValue(b"1"), 1.5, "k", {"because": "first"})
    entries = [Entry(1, 1.0, STARTED), Entry(2, 2.0, made), Entry(3, 3.0, PLAIN)]
    assert list(split_calls(entries)) == [
        entries[0],
        Entry(2, 1.5, CallStarted("pay", 2, "sha256:0", "k", None, {"because": "first"})),
        Entry(2, 2.0, CallSucceeded("pay", made.output)),
        entries[2],
    ]


def test_an_entry_is_shown_without_the_types_of_the_engine():
    """Values stand as JSON; the step stands apart, and what is not known is left out."""
    event = Event.of(Entry(6, 2.5, CallSucceeded("pay", CanonicalValue(b'{"a":1}'), usage={"tokens": 3})))
    assert event.to_dict() == {
        "seq": 6,
        "type": "CallSucceeded",
        "step": "pay",
        "at": 2.5,
        "data": {"output": {"a": 1}, "usage": {"tokens": 3}},
    }


@pytest.mark.parametrize("fails", [False, True])
def test_who_waits_on_the_event_loop_itself_goes_on_once_all_is_durable_or_nothing_will_be(
    monkeypatch, fails
):
    """A commit of a part of it is not enough."""
    written, said = Written(), []
    journal = written.journal
    journal.add(PLAIN, 2.0)
    early = journal.take()
    journal.add(PLAIN, 3.0)

    class Settled:
        """Stands for the condition, and does the work of the thread of commits."""

        def notify_all(self):
            pass

        def wait_for(self, is_so):
            assert written.asked.within[-1] == 0
            said.append(is_so())
            journal.settle(early, None)
            said.append(is_so())
            journal.settle(journal.take(), StoreError("full") if fails else None)
            said.append(is_so())

    monkeypatch.setattr(journal, "_settled", Settled())
    if fails:
        with pytest.raises(StoreError, match="full"):
            journal.flush_here()
    else:
        journal.flush_here()
    assert said == [False, False, True]
    assert journal.durable == (5 if fails else 6)


def test_who_waits_on_another_thread_is_woken_by_the_commit():
    """As soon as it has waited for it."""
    written, is_asked = Written(), threading.Event()
    written.asked.expect = lambda *_: is_asked.set()
    written.journal.add(PLAIN, 2.0)
    is_asked.clear()
    waiting = threading.Thread(target=written.journal.flush_here, daemon=True)
    waiting.start()
    assert is_asked.wait(10)
    written.commit()  # takes the piece, which is free once the other one waits
    waiting.join(10)
    assert not waiting.is_alive()


def test_what_only_looks_like_a_value_stays_as_it_is():
    """The class of an event says which of its fields hold a value; a mapping elsewhere may have any keys."""
    for why in ({"$json": 1}, {"$value": "sha256:0"}):
        made = CallMade("s", 1, "sha256:a", CanonicalValue(b'{"$json":2}'), 1.0, "", why)
        line, _ = write_line(1, 2.0, made)
        assert read_entry(line, CanonicalValue.of).event == made
