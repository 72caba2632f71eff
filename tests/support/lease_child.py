"""A process with an engine, as tests of leases start, stop and kill it: `python lease_child.py COMMAND FOLDER [RUN]`.

Its tools note what they do in `FOLDER/effects`, and wait for the file `FOLDER/go` where they are told to.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from firmplan import Engine, RunNotFound, tool
from firmplan.executor.runs import owner

FOLDER = Path(sys.argv[2] if len(sys.argv) > 2 else ".")

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
    """Change the world: a line in a file."""
    with (FOLDER / "effects").open("a") as file:
        file.write(f"{word} {os.getpid()}\n")
    return word


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


TOOLS = [note, wait_for_go, leave_a_fork]


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


FORKS = {
    "firmplan": 1,
    "steps": [{"id": "f", "tool": "leave_a_fork"}, {"id": "g", "tool": "wait_for_go", "after": ["f"]}],
}


def main() -> None:
    """Do as told. With `LEASE_S` leases are that short; `LEASE_STORE` is another store than the file in the folder."""
    if short := os.environ.get("LEASE_S"):
        owner.LEASE_S, owner.BEAT_S, owner.MARGIN_S = float(short), float(short) / 8, float(short) / 4
    command, run_id = sys.argv[1], sys.argv[3] if len(sys.argv) > 3 else "r"
    store = os.environ.get("LEASE_STORE", FOLDER / "s.db")
    if command == "open":
        for _ in range(15):
            with Engine(TOOLS, store=store, recover=True):
                pass
        return
    with Engine(TOOLS, store=store) as engine:
        if command == "resume":
            run = engine.resume_sync(run_id)
        else:
            plan = {"run": PLAN, "many": MANY, "fork": FORKS}[command]
            run = engine.run_sync(plan, run_id=run_id)
        print(run.status)  # noqa: T201  # what the test reads


if __name__ == "__main__":
    main()
