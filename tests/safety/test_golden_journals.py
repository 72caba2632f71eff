"""Journals that any version has written are read by this one: `tests/vectors/journals/`, kept for ever.

A folder holds a store as a released format left it, and what its runs came to. Folders are added, never changed: made anew
only while a format has not been released.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shutil
import sqlite3
from dataclasses import is_dataclass
from pathlib import Path

import firmplan
import golden_runs
import pytest
from firmplan import Engine
from firmplan.executor import events
from firmplan.executor.events import CAUSES, CONSEQUENCES, REMARKS
from firmplan.executor.journal.records import FIELDS, JOURNAL_FORMAT
from firmplan.executor.stores.sqlite_file import STORE_FORMAT

VECTORS = Path(__file__).parents[1] / "vectors" / "journals"
FOLDERS = sorted(path for path in VECTORS.iterdir() if path.is_dir())
PAGE = (Path(firmplan.__file__).parent / "docs" / "JOURNAL_FORMAT.md").read_text(encoding="utf-8")


@pytest.fixture(params=FOLDERS, ids=lambda path: path.name)
def golden(request, tmp_path):
    """A copy of a golden store, and what its runs came to."""
    shutil.copy(request.param / "store.sqlite", tmp_path / "store.sqlite")
    return tmp_path / "store.sqlite", json.loads((request.param / "runs.json").read_text(encoding="utf-8"))


def test_every_golden_run_is_read_and_replayed(golden):
    """Without a single tool: statuses, outputs, digests, usage are those that were written down then."""
    store, runs = golden
    found = asyncio.run(golden_runs.told(store))
    assert found == {run_id: _without_journal(run) for run_id, run in runs.items()}
    with Engine([], store=store) as engine:
        for run_id, run in runs.items():
            again = engine.replay_sync(run_id)
            assert (again.status, again.digest) == (run["status"], run["digest"])


def _without_journal(run):
    return {name: value for name, value in run.items() if name != "journal"}


def test_the_journal_lines_are_those_written_down(golden):
    """The text beside the store is the store's: what the page says of lines can be looked at."""
    store, runs = golden
    assert golden_runs.journals(store) == {run_id: run["journal"] for run_id, run in runs.items()}


def test_the_chain_is_as_the_page_says(golden):
    """head(n) = sha256(head(n-1) + line(n)), from 32 zero bytes; computed here from the text alone."""
    store, runs = golden
    with sqlite3.connect(store) as db:
        heads = dict(db.execute("SELECT id, head FROM runs"))
    db.close()
    for run_id, run in runs.items():
        head = bytes(32)
        for line in run["journal"]:
            head = hashlib.sha256(head + line.encode()).digest()
        assert head == heads[run_id]


def test_an_old_run_goes_on(golden):
    """One that waited when it was written is decided and ends, its journal grows, and all of it replays."""
    store, _ = golden
    calls = []
    with Engine(golden_runs.tools_of(calls), store=store) as engine:
        engine.approve_sync("waiting", "pay", by="me")
        run = engine.resume_sync("waiting")
        if run.status == "waiting":  # the golden tool was edited since the store was written
            assert run.steps["pay"].asked_again is not None
            engine.approve_sync("waiting", "pay", by="me")
            run = engine.resume_sync("waiting")
        assert (run.status, run.output, calls) == ("succeeded", 8, ["pay"])
        assert engine.replay_sync("waiting").digest == run.digest
        assert engine.find_plan_sync("golden") is not None
        assert engine.read_artifact_sync(engine.get_sync("plain").steps["file"].output) == b"golden"


def test_the_newest_golden_store_has_every_event():
    """So that each kind of record is known to be read."""
    runs = json.loads((FOLDERS[-1] / "runs.json").read_text(encoding="utf-8"))
    kinds = {json.loads(line)["type"] for run in runs.values() for line in run["journal"]}
    assert kinds == {kind.__name__ for kind in (*CAUSES, *CONSEQUENCES, *REMARKS)}
    assert kinds == {name for name, each in vars(events).items() if is_dataclass(each)}


def test_this_version_writes_what_it_reads(tmp_path):
    """The same runs, made now, differ from the newest golden ones in nothing but times and ids."""
    store = tmp_path / "store.sqlite"
    asyncio.run(golden_runs.make(store))
    runs = json.loads((FOLDERS[-1] / "runs.json").read_text(encoding="utf-8"))
    found = asyncio.run(golden_runs.told(store))
    named = [run_id for run_id in runs if not run_id.startswith(("run_", "replay_"))]
    assert {run_id: found[run_id]["digest"] for run_id in named} == {
        run_id: runs[run_id]["digest"] for run_id in named
    }
    lines = golden_runs.journals(store)
    for run_id in named:
        made, kept = ([_shape(line) for line in each] for each in (lines[run_id], runs[run_id]["journal"]))
        assert sorted(made) == sorted(kept), run_id


def _shape(line):
    """A record without what differs from time to time."""
    record = json.loads(line)
    return json.dumps([record["type"], record.get("step"), sorted(record)])


def test_the_page_names_every_record_and_field():
    """`docs/JOURNAL_FORMAT.md` is complete, and speaks of this format."""
    assert f"format {JOURNAL_FORMAT}" in PAGE
    assert f"`user_version` {STORE_FORMAT}" in PAGE
    for kind, names in FIELDS.items():
        (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{kind.__name__}` |")]
        assert re.findall(r"`(\w+)`", row.split("|")[2]) == list(names), kind.__name__


def test_the_page_names_every_table_and_column(tmp_path):
    """As they are in a store made now."""
    with Engine([], store=tmp_path / "s.db") as engine:
        engine.list_runs_sync()
    with sqlite3.connect(tmp_path / "s.db") as db:
        for (table,) in db.execute(
            "SELECT name FROM sqlite_master WHERE type='table' AND name NOT LIKE 'sqlite_%'"
        ):
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{table}` |")]
            assert re.findall(r"`(\w+)`", row.split("|")[2]) == columns, table
    db.close()
