"""A process with an engine, as tests of leases start, stop and kill it: `python lease_child.py COMMAND FOLDER [RUN]`.

Its tools note what they do in `FOLDER/effects`, and wait for the file `FOLDER/go` where they are told to.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from firmplan import Engine, RunNotFound, tool
from firmplan.executor.calls import lease as lease_of_calls
from firmplan.executor.runs import owner

FOLDER = Path(sys.argv[2] if len(sys.argv) > 2 else os.environ.get("LEASE_FOLDER", "."))

# As on a system that has no timer which ends a stopped process; also in the processes of tools.
if os.environ.get("LEASE_WITHOUT_TIMER"):
    lease_of_calls.ends_surely = owner.ends_surely = lambda: False

PLAN = {
    "firmplan": 1,
    "steps": [
        {"id": "one", "tool": "note", "args": {"word": "first"}},
        {"id": "gate", "tool": "wait_for_go", "after": ["one"]},
        {"id": "two", "tool": "note", "args": {"word": "second"}, "after": ["gate"]},
    ],
    "output": "${two}",
}
MANY = {
    "firmplan": 1,
    "steps": [
        {"id": f"s{n}", "tool": "note", "args": {"word": f"s{n}"}, "after": [f"s{n - 1}"] if n else []}
        for n in range(30)
    ],
}


@tool(effect="write", resource="box", version=1)
def note(word: str) -> str:
    """Change the world: a line in a file, which is on the disk when this returns."""
    with (FOLDER / "effects").open("a") as file:
        file.write(f"{word} {os.getpid()}\n")
        file.flush()
        os.fsync(file.fileno())
    return word


@tool(effect="read", resource="elsewhere", version=1)
def look(word: str) -> str:
    """Look at something; the file tells that, too."""
    return note.fn(word=word)


@tool(effect="read", resource="elsewhere", version=1)
async def look_on_loop(word: str) -> str:
    """Do the same on the event loop."""
    return note.fn(word=word)


@tool(effect="read", resource="elsewhere", version=1)
def wait_for_go() -> int:
    """Say that it is here, and wait."""
    (FOLDER / "waiting").write_text(str(os.getpid()))
    while not (FOLDER / "go").exists():
        time.sleep(0.01)
    return 1


@tool(effect="read", resource="elsewhere", version=1)
def leave_a_fork() -> int:
    """Leave a process behind that has all that this one had open."""
    pid = os.fork()
    if pid == 0:
        time.sleep(1000)
        os._exit(0)
    (FOLDER / "fork").write_text(str(pid))
    return pid


def sent(_key: str, _args: dict[str, object]) -> str | None:
    """Say whether the letter is out."""
    path = FOLDER / "effects"
    return "letter" if path.exists() and "letter" in path.read_text() else None


def _send() -> str:
    (FOLDER / "waiting").write_text(str(os.getpid()))
    while not (FOLDER / "go").exists():
        time.sleep(0.01)
    return note.fn(word="letter")


@tool(effect="write", resource="box", version=1, reconcile=sent)
def send() -> str:
    """Send a letter, once the file says so; in a thread."""
    return _send()


@tool(effect="write", resource="box", version=1, reconcile=sent, isolation="process")
def send_apart() -> str:
    """Do the same in a process."""
    return _send()


TOOLS = [note, look, look_on_loop, wait_for_go, leave_a_fork, send, send_apart]
LOOKS = {
    "firmplan": 1,
    "steps": [
        {"id": "gate", "tool": "wait_for_go"},
        {"id": "one", "tool": "look", "args": {"word": "looked"}, "after": ["gate"]},
        {"id": "two", "tool": "look_on_loop", "args": {"word": "looked_again"}, "after": ["gate"]},
    ],
}
SENDS = {"firmplan": 1, "steps": [{"id": "s", "tool": "send"}], "output": "${s}"}
SENDS_APART = {"firmplan": 1, "steps": [{"id": "s", "tool": "send_apart"}], "output": "${s}"}


def wait_at_gate(store: str | Path, run_id: str = "r", step: str = "gate") -> None:
    """Wait until the store says that the run waits for the file: then what came before is durable, whatever dies next.

    The file `waiting` says less: the tool writes it while the result before it may still be on its way to the disk.
    """
    with Engine(TOOLS, store=store) as engine:
        while True:
            with suppress(RunNotFound):
                steps = engine.get_sync(run_id).steps
                if step in steps and steps[step].status == "running":
                    return
            time.sleep(0.02)


def wait_for(path: Path, within_s: float = 30.0) -> None:
    """Wait until something stands in a file."""
    end = time.monotonic() + within_s
    while not path.exists() or not path.read_text():
        assert time.monotonic() < end, f"no {path.name}"
        time.sleep(0.02)


def effects(folder: Path) -> list[tuple[str, ...]]:
    """Return (word, process) of each change of the world."""
    path = folder / "effects"
    return [tuple(line.split()) for line in path.read_text().splitlines()] if path.exists() else []


FORKS = {
    "firmplan": 1,
    "steps": [{"id": "f", "tool": "leave_a_fork"}, {"id": "g", "tool": "wait_for_go", "after": ["f"]}],
}


def main() -> None:
    """Do as told. With `LEASE_S` leases are that short; `LEASE_STORE` is another store than the file in the folder."""
    lease = float(os.environ.get("LEASE_S", "30"))
    command, run_id = sys.argv[1], sys.argv[3] if len(sys.argv) > 3 else "r"
    store = os.environ.get("LEASE_STORE", FOLDER / "s.db")
    if command == "open":
        for _ in range(15):
            with Engine(TOOLS, store=store, recover=True, lease=lease):
                pass
        return
    with Engine(TOOLS, store=store, lease=lease) as engine:
        if command == "resume":
            run = engine.resume_sync(run_id)
        elif command == "take_over":
            (FOLDER / "go").unlink(missing_ok=True)
            threading.Thread(target=lambda: engine.resume_sync(run_id, take_over=True), daemon=True).start()
            while (
                engine.get_sync(run_id).last_event < 3
            ):  # it was started, its call was, and it was taken over
                time.sleep(0.01)
            print("taken", flush=True)  # noqa: T201  # what the test reads
            time.sleep(1000)
            return
        else:
            plans = {
                "run": PLAN,
                "looks": LOOKS,
                "many": MANY,
                "fork": FORKS,
                "send": SENDS,
                "send_apart": SENDS_APART,
            }
            plan = plans[command]
            run = engine.run_sync(plan, run_id=run_id)
        print(run.status)  # noqa: T201  # what the test reads


if __name__ == "__main__":
    main()
