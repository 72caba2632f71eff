"""`store`: a check that finds every changed journal and file, a copy that is a store, and nothing made where nothing was."""

from __future__ import annotations

import sqlite3

import pytest
from firmplan import Engine, InputRejected
from firmplan.executor.stores.sqlite_file import STORE_FORMAT


@pytest.fixture
def kept(firmplan):
    """Three runs in the store `firmplan.db`."""
    for number in (1, 2, 3):
        firmplan("run", "plan.json", "-t", "tools.py", "-i", f"a={number}", "--run-id", f"r{number}")
    return firmplan


def change(path, statement, *values):
    with sqlite3.connect(path) as db:
        db.execute(statement, values)
    db.close()


def test_a_whole_store_is_told_as_whole(kept):
    """`store` and `store check` look at every run; nothing is wrong."""
    answer = kept("store", "check")
    assert (answer.code, answer.out) == (0, "firmplan.db: 3 runs checked, everything is as it was written\n")
    assert kept("store", "--json").document == {"store": "firmplan.db", "ok": True, "runs": 3, "damages": []}


def test_a_changed_journal_is_found(kept, home):
    """The run is named, exit code 1; the others are as they were."""
    with sqlite3.connect(home / "firmplan.db") as db:
        (lines,) = db.execute("SELECT lines FROM journal WHERE run_id='r2'").fetchone()
    db.close()
    assert b"RunStarted" in lines
    changed = lines.replace(b"RunStarted", b"RunStartet")
    change(home / "firmplan.db", "UPDATE journal SET lines=? WHERE run_id='r2'", changed)
    answer = kept("store", "check")
    assert answer.code == 1
    assert answer.out.startswith(
        "firmplan.db: 3 runs checked, 1 run damaged\nrun r2: the journal of run r2 does not match"
    )
    assert [each["run"] for each in kept("store", "check", "--json").document["damages"]] == ["r2"]


def test_damaged_runs_and_other_damages_are_counted_apart(kept, home):
    """A saved plan that was altered is no run; the document has each damage."""
    path = home / "firmplan.db"
    for name in ("one", "two"):
        kept("plans", "save", name, "plan.json", "-t", "tools.py")
    change(path, "UPDATE plans SET saved=1 WHERE name='one'")
    assert kept("store", "check").out.startswith(
        "firmplan.db: 3 runs checked, 0 runs damaged, 1 other damage\n"
    )
    change(path, "UPDATE plans SET saved=1")
    change(path, "UPDATE runs SET digest='sha256:0' WHERE id='r3'")
    told = kept("store", "check").out.splitlines()
    assert told[0] == "firmplan.db: 3 runs checked, 1 run damaged, 2 other damages"
    assert [line.partition(":")[0] for line in told[1:]] == ["run r3", "the store", "the store"]
    assert len(kept("store", "check", "--json").document["damages"]) == 3


def test_a_digest_that_was_changed_is_found(kept, home):
    """Also where the journal is whole: the run is computed again."""
    change(home / "firmplan.db", "UPDATE runs SET digest='sha256:0' WHERE id='r3'")
    answer = kept("store", "check")
    assert answer.code == 1
    assert "run r3: replay diverged" in answer.out


def test_a_torn_file_is_found(kept, home):
    """Damage below the tables is told as the file's, without a traceback."""
    with sqlite3.connect(home / "firmplan.db") as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    path = home / "firmplan.db"
    data = path.read_bytes()
    path.write_bytes(data[:12288] + bytes(4096) + data[16384:])
    answer = kept("store", "check")
    assert answer.code in (1, 2)
    assert "damaged" in answer.out or "malformed" in answer.err
    assert "Traceback" not in answer.err
    assert "bug in firmplan" not in answer.err


def test_a_backup_is_a_store(kept, home):
    """The copy has every run, replays them and goes on from there; an existing file is left alone."""
    written = kept("store", "backup", "copy.db", "--json").document
    assert (written["file"], written["bytes"]) == ("copy.db", (home / "copy.db").stat().st_size)
    assert kept("store", "check", "--store", "copy.db").code == 0
    assert kept("replay", "r2", "--store", "copy.db").code == 0
    again = kept("run", "plan.json", "-t", "tools.py", "-i", "a=1", "--store", "copy.db", "--json").document
    assert again["steps"]["total"]["reused"]
    before = (home / "copy.db").read_bytes()
    refused = kept("store", "backup", "copy.db")
    assert refused.code == 2
    assert "found one at copy.db: name another" in refused.err
    assert (home / "copy.db").read_bytes() == before
    assert "does not exist: make it" in kept("store", "backup", "no/copy.db").err
    assert sorted(path.name for path in home.glob("*part*")) == []


def test_a_store_is_backed_up_beside_a_running_engine(home):
    """What was acknowledged before is in the copy, and the engine goes on."""
    plan = {"firmplan": 1, "steps": [{"id": "a", "set": 1}], "output": "${a}"}
    with Engine([], store="live.db") as engine:
        run = engine.run_sync(plan)
        assert engine.backup_store_sync("copy.db").name == "copy.db"
        assert engine.run_sync(plan).output == 1
        assert engine.check_store_sync().runs == 2
        with Engine([], store="copy.db") as copy:
            assert copy.replay_sync(run.id).digest == run.digest
            assert copy.check_store_sync().ok
            assert copy.check_store_sync().runs == 1
        with pytest.raises(InputRejected, match="expected a new file"):
            engine.backup_store_sync("copy.db")


def test_upgrade_tells_the_format(kept, home):
    """A store of this version has nothing to be done; one that is empty gets its format."""
    assert (
        kept("store", "upgrade").out
        == f"firmplan.db has format {STORE_FORMAT}, the newest: nothing had to be done\n"
    )
    (home / "empty.db").touch()
    told = kept("store", "upgrade", "--store", "empty.db", "--json").document
    assert told == {"store": "empty.db", "before": 0, "after": STORE_FORMAT}


def test_nothing_is_made_where_no_store_is(kept, home):
    """A misspelt name is a mistake; a store in memory has nothing to look at."""
    for words in (("check",), ("backup", "copy.db"), ("upgrade",)):
        answer = kept("store", *words, "--store", "nope.db")
        assert answer.code == 2
        assert "there is no store at nope.db" in answer.err
    assert not (home / "nope.db").exists()
    assert "in memory" in kept("store", "check", "--store", "memory:").err


def test_commands_that_look_make_no_store(firmplan, home):
    """A listing, a check, a look at a run of a misspelt store: nothing is found, and nothing is left behind."""
    assert "no runs in nope.db: there is no store yet" in firmplan("runs", "--store", "nope.db").err
    assert firmplan("runs", "--json").document == {"runs": [], "cursor": None}
    assert firmplan("plans", "--json").document == {"plans": []}
    assert firmplan("check", "plan.json", "-t", "tools.py").code == 0
    assert firmplan("show", "plan.json").code == 0
    assert firmplan("cache", "--json").document["results"] == 0
    for words in (
        ("show", "r"), ("replay", "r"), ("explain", "r"), ("diff", "r", "s"), ("verify", "r"), ("bisect", "r", "s"),
        ("export", "r", "-o", "x.bundle"), ("approve", "r", "s", "--by", "me"), ("cancel", "r"), ("resume", "r"), ("fork", "r"),
        ("plans", "learn", "r"), ("record", "r", "-o", "x.bundle"),
    ):  # fmt: skip
        answer = firmplan(*words)
        assert answer.code == 2, words
        assert "there is no store at firmplan.db yet: name the one that has it" in answer.err, words
    assert sorted(path.name for path in home.iterdir()) == ["plan.json", "tools.py"]
