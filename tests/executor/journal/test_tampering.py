"""The law of tampering: a byte that was changed in a stored run is found, and the message says where. Bundles: `test_bundle.py`.

What is changed lies in the store's file: the records as flushes wrote them, the heads beside them, the header, large values. Tests try a
sample of the bytes, `make sweep` all of them.
"""

from __future__ import annotations

import re
import sqlite3
from random import Random

import pytest
from firmplan import Engine, tool
from firmplan.errors import Diverged, FirmplanError, StoreError
from public import call, plan
from seeds import seeds

PLAN = plan(
    call("one", "put", args={"x": "${inputs.n}"}),
    call("long", "stretch", args={"size": 20_000}),
    call("two", "put", args={"x": "${len(long)}"}),
    inputs={"n": {"type": "integer"}},
    output="${two}",
)
BYTES_EACH = 40  # bytes of each stored text that one seed changes


@tool(effect="write", resource="box", idempotent=True)
def put(x: int) -> int:
    """Change something."""
    return x


@tool(effect="read")
def stretch(size: int) -> str:
    """Make a value that stands out of line."""
    return "x" * size


class Stored:
    """One run in a file, which is changed under the open engine."""

    def __init__(self, path):
        self.engine = Engine([put, stretch], store=path)
        self.run = self.engine.run_sync(PLAN, inputs={"n": 1}, run_id="r")
        self.db = sqlite3.connect(path, isolation_level=None)

    def rows(self, what):
        return self.db.execute(what).fetchall()

    def fault(self):
        """Why the run does not replay; `None`: it does."""
        try:
            assert self.engine.replay_sync("r").digest == self.run.digest
        except FirmplanError as fault:
            return fault
        return None

    def damages(self):
        return [each.message for each in self.engine.check_store_sync().damages]

    def close(self):
        self.db.close()
        self.engine.close()


@pytest.fixture
def stored(tmp_path):
    made = Stored(tmp_path / "s.db")
    assert made.fault() is None
    yield made
    assert made.fault() is None, "what was changed was not put back"
    made.close()


def changes(random, data):
    """Yield copies of some bytes, each with one bit of one byte changed."""
    for at in random.sample(range(len(data)), min(BYTES_EACH, len(data))):
        changed = bytearray(data)
        changed[at] ^= 1 << random.randrange(8)
        yield bytes(changed)


@pytest.mark.sweep
@pytest.mark.parametrize("seed", seeds(100, sampled=2))
def test_a_changed_byte_of_a_record_is_found_at_its_place(stored, seed):
    """Every flush is checked: the message names the run, and the record or the few that were written with it."""
    rows = stored.rows("SELECT first_seq, lines FROM journal ORDER BY first_seq")
    assert len(rows) > 3
    for first, lines in rows:
        for changed in changes(Random(seed), lines):
            stored.db.execute("UPDATE journal SET lines=? WHERE first_seq=?", (changed, first))
            fault = stored.fault()
            assert isinstance(fault, StoreError)
            assert not fault.temporary
            assert "journal of run r does not match its hash chain" in fault.message
            told = [int(each) for each in re.findall(r"\b\d+\b", fault.message.partition("chain")[2])]
            assert told[0] == first
            assert told[-1] >= first
        stored.db.execute("UPDATE journal SET lines=? WHERE first_seq=?", (lines, first))


@pytest.mark.sweep
@pytest.mark.parametrize("seed", seeds(100, sampled=2))
def test_a_changed_byte_of_the_header_is_found(stored, seed):
    """Also where a replay would come to the same, since the header's digest is in the chain; where it diverges, it says at which step."""
    ((header,),) = stored.rows("SELECT header FROM headers")
    for changed in changes(Random(seed), header):
        stored.db.execute("UPDATE headers SET header=?", (changed,))
        fault = stored.fault()
        assert isinstance(fault, Diverged) or "header of run r" in str(fault) or "the store" in str(fault)
    stored.db.execute("UPDATE headers SET header=?", (header,))


@pytest.mark.sweep
@pytest.mark.parametrize("seed", seeds(100, sampled=2))
def test_a_changed_byte_of_a_large_value_is_found(stored, seed):
    """The value is named by its digest."""
    ((name, data),) = stored.rows("SELECT digest, data FROM stored_values")
    for changed in changes(Random(seed), data):
        stored.db.execute("UPDATE stored_values SET data=?", (changed,))
        fault = stored.fault()
        assert fault is not None
        assert f"the value {name} was changed" in str(fault)
    stored.db.execute("DELETE FROM stored_values")
    assert f"the value {name} is missing" in str(stored.fault())
    stored.db.execute("INSERT INTO stored_values VALUES (?, ?)", (name, data))


def test_a_changed_head_is_found_by_a_check(stored):
    """The heads beside the records decide nothing in a replay; a check of the store compares them too."""
    for first, head in stored.rows("SELECT first_seq, head FROM journal"):
        changed = bytes([head[0] ^ 1]) + head[1:]
        stored.db.execute("UPDATE journal SET head=? WHERE first_seq=?", (changed, first))
        (told,) = stored.damages()
        assert "the chain of run r was changed" in told
        stored.db.execute("UPDATE journal SET head=? WHERE first_seq=?", (head, first))
    assert stored.damages() == []


def test_a_damaged_header_is_one_damage_among_others(stored):
    """A check goes on to the other runs, and says of this one what is wrong."""
    stored.engine.run_sync(PLAN, inputs={"n": 2}, run_id="other")
    ((header,),) = stored.rows("SELECT header FROM headers WHERE run_id='r'")
    stored.db.execute("UPDATE headers SET header=? WHERE run_id='r'", (header.replace(b'"fork"', b'"folk"'),))
    assert stored.damages() == ["the header of run r is not the one that it started with: it was changed"]
    stored.db.execute("UPDATE headers SET header=? WHERE run_id='r'", (header,))


def test_a_run_does_not_go_on_with_another_header(tmp_path):
    """Inputs that were changed while a run waited reach no write; neither do they in a fork."""
    paid = []

    @tool(effect="write", resource="till", approval="always")
    def pay(amount: int) -> int:
        """Pay."""
        paid.append(amount)
        return amount

    steps = plan(call("p", "pay", args={"amount": "${inputs.n}"}), inputs={"n": {"type": "integer"}})
    with Engine([pay], store=tmp_path / "s.db") as engine:
        assert engine.run_sync(steps, inputs={"n": 4}, run_id="r").status == "waiting"
    with sqlite3.connect(tmp_path / "s.db") as db:
        ((header,),) = db.execute("SELECT header FROM headers")
        assert b'"fork":null' in header
        db.execute("UPDATE headers SET header=?", (header.replace(b'"task":null', b'"task":"?"'),))
    db.close()
    with Engine([pay], store=tmp_path / "s.db") as engine:
        for go_on in (lambda: engine.resume_sync("r"), lambda: engine.fork_sync("r", inputs={"n": 5})):
            with pytest.raises(StoreError, match="the header of run r is not the one"):
                go_on()
    assert paid == []


def test_lost_swapped_and_cut_records_are_found(stored):
    """Whole flushes cannot be taken away or exchanged, and lines cannot be cut off or moved within one."""
    rows = stored.rows("SELECT first_seq, lines, head FROM journal ORDER BY first_seq")
    for at, (first, lines, head) in enumerate(rows):
        stored.db.execute("DELETE FROM journal WHERE first_seq=?", (first,))
        assert "does not match its hash chain" in str(stored.fault())
        stored.db.execute("INSERT INTO journal VALUES ('r', ?, ?, ?)", (first, lines, head))
        parts = lines.split(b"\n")
        other = rows[at - 1][1]
        for changed in (b"\n".join(parts[::-1]), b"\n".join(parts[:-1]), lines[:-1], other):
            if changed not in (lines, b""):
                stored.db.execute("UPDATE journal SET lines=? WHERE first_seq=?", (changed, first))
                assert "does not match its hash chain" in str(stored.fault())
        stored.db.execute("UPDATE journal SET lines=? WHERE first_seq=?", (lines, first))
