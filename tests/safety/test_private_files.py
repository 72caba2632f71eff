"""What holds data of runs is its owner's alone from the moment it is made, whatever the umask; what others share stays shared."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading

import pytest
from firmplan import Engine, Model, Plan
from firmplan.testing import ScriptedModel
from firmplan.tools import tool
from firmplan.tools.models.recorder import Recorder
from firmplan.tools.private_file import is_read_by_others, make_private, write_private
from forked import run
from rig import plan_of

PRIVATE = 0o600
UMASKS = (0o000, 0o022, 0o077)


@tool(effect="read", version=1)
def look(at: str) -> str:
    """Look."""
    return f"seen {at}"


LOOK = plan_of({"id": "a", "tool": "look", "args": {"at": "x"}})


@pytest.fixture(params=UMASKS, ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes_in(folder):
    """Return name -> mode of the files of a folder; which process owns a lock is left out of its name."""
    return {
        each.name.partition("-owner-")[0] + ("-owner" if "-owner-" in each.name else ""): stat.S_IMODE(
            each.stat().st_mode
        )
        for each in folder.iterdir()
        if each.is_file()
    }


def test_a_store_and_the_files_beside_it(tmp_path, umask):
    """File, log, index and lock, while the engine is open and after."""
    with Engine([look], store=tmp_path / "s.db") as engine:
        engine.run_sync(LOOK)
        expected = dict.fromkeys(("s.db", "s.db-wal", "s.db-shm", "s.db-owner"), PRIVATE)
        assert modes_in(tmp_path) == expected
    assert set(modes_in(tmp_path).values()) == {PRIVATE}


def test_a_store_behind_a_link_to_nothing(tmp_path, umask):
    """The file that the link names is made, and is private too."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "s.db").symlink_to(tmp_path / "deep" / "real.db")
    with Engine([look], store=tmp_path / "s.db") as engine:
        engine.run_sync(LOOK)
    assert modes_in(tmp_path / "deep")["real.db"] == PRIVATE


def test_a_bundle_a_backup_a_recording_and_a_plan(tmp_path, umask):
    """Each is private when it is new, the bundle also after it was replaced."""
    with Engine([look], store=tmp_path / "s.db") as engine:
        run = engine.run_sync(LOOK)
        for _ in range(2):
            engine.export_sync(run.id, tmp_path / "r.bundle")
        engine.backup_store_sync(tmp_path / "b.db")
    Recorder(tmp_path / "r.jsonl").add({"messages": []}, 200, {}, "{}")
    for name in ("p.json", "p.yaml"):
        LOOK.save(tmp_path / name)
    assert set(modes_in(tmp_path).values()) == {PRIVATE}
    with Engine([look], store=tmp_path / "b.db") as engine:
        assert engine.get_sync(run.id).output == run.output


def test_what_was_shared_stays_shared(tmp_path):
    """A file that is there keeps its mode; locks of a store for a group can be tested by the group."""
    (tmp_path / "s.db").touch()
    (tmp_path / "r.bundle").touch()
    (tmp_path / "r.jsonl").touch()
    LOOK.save(tmp_path / "p.json")
    for each in tmp_path.iterdir():
        each.chmod(0o664)
    with Engine([look], store=tmp_path / "s.db") as engine:
        run = engine.run_sync(LOOK)
        engine.export_sync(run.id, tmp_path / "r.bundle")
        Recorder(tmp_path / "r.jsonl").add({"messages": []}, 200, {}, "{}")
        LOOK.save(tmp_path / "p.json")
        found = modes_in(tmp_path)
    assert set(found.values()) == {0o664}
    assert "s.db-owner" in found
    assert Plan.load(tmp_path / "p.json") == LOOK


def test_nobody_can_open_a_store_while_it_is_made(tmp_path):
    """Another thread looks at the folder all the time: no file of the store is ever readable by others."""
    seen, is_over = set(), threading.Event()

    def watch():
        while not is_over.is_set():
            for each in tmp_path.glob("*"):
                try:
                    seen.add((each.name[:4], stat.S_IMODE(each.stat().st_mode)))
                except FileNotFoundError:
                    continue

    before = os.umask(0)
    watching = threading.Thread(target=watch)
    watching.start()
    try:
        for number in range(10):
            with Engine([look], store=tmp_path / f"s{number:02}.db") as engine:
                engine.export_sync(engine.run_sync(LOOK).id, tmp_path / f"b{number:02}.x")
    finally:
        is_over.set()
        watching.join()
        os.umask(before)
    assert {mode for _, mode in seen} == {PRIVATE}
    assert len(seen) >= 20


def test_an_open_store_keeps_its_locks(tmp_path):
    """A file that is there is left alone: opening and closing it would drop SQLite's locks of this process."""
    file = tmp_path / "s.db"
    db = sqlite3.connect(file, isolation_level=None)
    db.execute("CREATE TABLE t (x)")
    file.chmod(0o640)
    db.execute("BEGIN IMMEDIATE")
    make_private(file)
    write = f"import sqlite3; sqlite3.connect({str(file)!r}, timeout=0, isolation_level=None).execute('INSERT INTO t VALUES (1)')"
    done = subprocess.run([sys.executable, "-c", write], check=False, capture_output=True, text=True)
    assert "database is locked" in done.stderr
    db.close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    make_private(tmp_path / "missing" / "s.db")  # for SQLite to report


@pytest.mark.parametrize(
    ("folder", "mode", "is_read"),
    [(0o755, 0o644, True), (0o755, 0o640, True), (0o755, 0o600, False), (0o700, 0o644, False)],
)
def test_who_may_read_a_file(tmp_path, folder, mode, is_read):
    """The mode of the file counts, where others can enter its folder."""
    write_private(tmp_path / "f", b"")
    (tmp_path / "f").chmod(mode)
    tmp_path.chmod(folder)
    assert is_read_by_others(tmp_path / "f") is is_read


def test_a_store_that_others_may_read_is_named(tmp_path):
    """`store check` and `doctor` say so, with the command that ends it; a private store has no such line."""
    (tmp_path / "t.py").write_text(
        "from firmplan import tool\n\n\n@tool(effect='pure')\ndef one() -> int:\n    return 1\n"
    )
    (tmp_path / "p.json").write_text(json.dumps({"firmplan": 1, "steps": [{"id": "a", "tool": "one"}]}))
    tmp_path.chmod(0o755)

    def firmplan(*words):
        env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
        return run(["-m", "firmplan", *words], cwd=tmp_path, env=env)

    assert firmplan("run", "p.json", "-t", "t.py", "--run-id", "r").returncode == 0
    line = "other users may read it (mode 0644), with all that tools returned: chmod 600 firmplan.db*"
    assert line not in firmplan("store", "check").stderr
    (tmp_path / "firmplan.db").chmod(0o644)
    checked = firmplan("store", "check")
    assert (checked.returncode, line in checked.stderr) == (0, True)
    found = json.loads(firmplan("doctor", "--json").stdout)["findings"]
    assert any(line in each["advice"] for each in found if each["what"] == "store")
    diff = firmplan("diff", "r", "r", "-o", "d.txt")
    assert diff.returncode == 0
    assert stat.S_IMODE((tmp_path / "d.txt").stat().st_mode) == PRIVATE


def test_traffic_with_a_model_is_recorded_privately(tmp_path, monkeypatch, umask):
    """`FIRMPLAN_RECORD` names a file that is made with the first request."""
    monkeypatch.setenv("FIRMPLAN_RECORD", str(tmp_path / "calls.jsonl"))
    step = {"id": "a", "ask": {"prompt": "Say it.", "returns": {"type": "string"}}}
    with ScriptedModel(["said"]) as model:
        models = {"default": Model("m", base_url=model.base_url)}
        with Engine([], store="memory:", models=models) as engine:
            engine.run_sync(plan_of(step))
    assert stat.S_IMODE((tmp_path / "calls.jsonl").stat().st_mode) == PRIVATE
