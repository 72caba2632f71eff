"""How owners are seen: other processes that hold a lock, have let go of it, were killed, have ended, or are not what their number says."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

import hold_child
import pytest
from firmplan import StoreError
from firmplan.executor.calls.lease import ends_surely
from firmplan.executor.runs import owner as presence
from firmplan.executor.runs.owner import LockFilePresence, MemoryPresence, ProcessPresence, presence_of
from firmplan.executor.stores.location import open_location
from firmplan.executor.stores.store import OwnerName
from forked import Program


@contextmanager
def child(store):
    """A process of `hold_child`, and the first line that it says."""
    with Program([hold_child.__file__, store], stdin=True) as made:
        yield made, made.stdout.readline().strip()


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_owner_beside_a_file_is_seen_as_long_as_it_holds_its_lock(tmp_path):
    """By another process; once it lets go, it is seen to be gone, and leaves nothing behind."""
    store = str(tmp_path / "s.db")
    here = LockFilePresence(store)
    with child(store) as (other, name):
        assert files(tmp_path) == [f"s.db-owner-{name}"]
        assert [here.sees(name) for _ in range(3)] == [True] * 3
        assert files(tmp_path) == [f"s.db-owner-{name}"]
        other.stdin.write("go\n")
        other.stdin.flush()
        assert other.stdout.readline() == "released\n"
        assert here.sees(name) is False
        assert files(tmp_path) == []


@pytest.mark.parametrize("how", ["looked for", "swept"])
def test_a_killed_owner_beside_a_file_is_gone_at_once(tmp_path, how):
    """Its file goes when someone looks for it, or when the next owner comes."""
    store = str(tmp_path / "s.db")
    here = LockFilePresence(store)
    with child(store) as (other, name):
        other.kill()
        other.wait()
        assert files(tmp_path) == [f"s.db-owner-{name}"]
        if how == "looked for":
            assert here.sees(name) is False
            assert files(tmp_path) == []
        own = here.new_name(30.0)
        here.acquire(own)
        assert files(tmp_path) == [f"s.db-owner-{own}"]
        assert here.sees(own) is True
        here.release(own)
        assert files(tmp_path) == []
        here.release(own)
        assert here.sees(own) is False


def test_an_owner_that_cannot_make_its_file_is_none(tmp_path):
    (tmp_path / "file").write_text("no folder")
    here = LockFilePresence(str(tmp_path / "file" / "s.db"))
    name = here.new_name(30.0)
    with pytest.raises(StoreError, match="cannot make a file beside the store"):
        here.acquire(name)
    assert here.sees(name) is False


def test_a_lock_that_can_only_be_read_is_seen_too(tmp_path):
    """What cannot be opened at all counts as held."""
    store = str(tmp_path / "s.db")
    with child(store) as (other, name):
        path = tmp_path / f"s.db-owner-{name}"
        assert presence._is_locked(path) is True
        other.kill()
        other.wait()
        assert presence._is_locked(path) is False
        path.unlink()
        assert presence._is_locked(path) is True


def test_an_owner_whose_lock_cannot_be_tried_is_seen_by_reading(tmp_path, monkeypatch):
    """Another user may read the file, and not write it: a living owner is no dead one, and a dead one's file stays."""
    store = str(tmp_path / "s.db")

    class Refused(presence.FileLock):
        def acquire(self, *_, **__):
            raise PermissionError("not yours")

    with child(store) as (other, name):
        monkeypatch.setattr(presence, "FileLock", Refused)
        here = LockFilePresence(store)
        assert here.sees(name) is True
        other.kill()
        other.wait()
        assert here.sees(name) is False
        assert files(tmp_path) == [f"s.db-owner-{name}"]


def test_two_that_take_a_dead_owner_s_file_away_at_once_are_both_right(tmp_path, monkeypatch):
    """Neither fails: the file is gone as both want it. Nor does an owner whose file was taken away."""
    store = str(tmp_path / "s.db")

    class Overtaken(presence.FileLock):
        def acquire(self, *what, **options):
            found = super().acquire(*what, **options)
            Path(self.lock_file).unlink()
            return found

    with child(store) as (other, name):
        other.kill()
        other.wait()
    monkeypatch.setattr(presence, "FileLock", Overtaken)
    here = LockFilePresence(store)
    assert here.sees(name) is False
    assert files(tmp_path) == []
    monkeypatch.undo()
    own = here.new_name(30.0)
    here.acquire(own)
    (tmp_path / f"s.db-owner-{own}").unlink()
    here.release(own)
    assert here.sees(own) is False


def test_an_owner_in_memory_is_one_of_this_process():
    """As long as it is there; no other is."""
    here = MemoryPresence()
    name, other = here.new_name(30.0), here.new_name(30.0)
    here.acquire(name)
    assert (here.sees(name), here.sees(other)) == (True, False)
    here.release(name)
    here.release(name)
    assert here.sees(name) is False


def test_the_name_of_an_owner_tells_its_lease(tmp_path):
    """And whether its process surely ends with it: where others wait for the process, nothing ends it."""
    for here, ends in (
        (MemoryPresence(), False),
        (LockFilePresence(str(tmp_path / "s.db")), False),
        (ProcessPresence(), ends_surely()),
    ):
        known = OwnerName.of(here.new_name(2.5))
        assert (known.process, known.lease_s, known.ends_surely) == (str(os.getpid()), 2.5, ends)


def test_an_owner_elsewhere_is_not_seen(tmp_path):
    """Neither by its lock nor by its number."""
    for here in (LockFilePresence(str(tmp_path / "s.db")), ProcessPresence()):
        name = here.new_name(30.0).partition("@")[0]
        assert here.sees(f"{name}@some-other-machine~x") is None


def test_who_a_store_belongs_to_decides_how_owners_are_seen(tmp_path):
    """A server's: by number, and leased. A file's: by lock. In memory: nobody else has it."""
    seen = [
        presence_of(open_location(url)) for url in ("postgresql://me@db/x", str(tmp_path / "s.db"), "memory:")
    ]
    assert [(each.is_alone, each.is_leased) for each in seen] == [
        (False, True),
        (False, False),
        (True, False),
    ]


# --- by number


def named(pid, **changed):
    """The name of an owner that is a process of this machine."""
    _, start, space = presence._process()
    told = {"pid": str(pid), "start": (presence._state(pid) or ("", start))[1], "space": space, **changed}
    _, _, rest = ProcessPresence().new_name(30.0).partition("-")
    return f"{told['pid']}.{told['start']}.{told['space']}-{rest}"


def test_a_process_that_is_gone_is_seen_to_be():
    """Also one that has ended and that nobody has asked how, and one whose number another has now; of one that is there nothing is said."""
    here = ProcessPresence()
    with subprocess.Popen(["sleep", "60"]) as other:
        assert here.sees(named(other.pid)) is None
        assert here.sees(named(other.pid, start="")) is None
        assert here.sees(named(other.pid, start="1")) is False
        assert here.sees(named(other.pid, space="1")) is None
        name = named(other.pid)
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and its number is still taken
        assert here.sees(name) is False
        other.wait()
        assert here.sees(name) is False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system does not tell")
def test_the_name_of_a_process_tells_when_it_started():
    """By what never changes in its life (the 22nd field of `proc(5)`): else its next look would find a living owner dead."""
    started = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[22 - 3]
    assert ProcessPresence().new_name(30.0).startswith(f"{os.getpid()}.{started}.")
    with subprocess.Popen(["sleep", "60"]) as other:
        path = Path(f"/proc/{other.pid}/stat")
        assert presence._state(other.pid)[1] == path.read_text().rpartition(")")[2].split()[22 - 3] != started
        other.kill()


def test_an_owner_of_this_process_is_seen_until_it_lets_go():
    here = ProcessPresence()
    name = here.new_name(30.0)
    here.acquire(name)
    assert here.sees(name) is True
    here.release(name)
    assert here.sees(name) is False
