"""A process with an engine that recovers, as tests of poison runs start it again and again: `python poison_child.py FOLDER STORE [RUNS]`.

RUNS is JSON, run id -> name of a plan, or `task` for one that is to be planned; the runs are submitted, then waited for until none goes on by
itself. `resume:ID` in its place resumes that run, `budget:N` runs one with so many steps. Tools note each call in `FOLDER/calls` before it is
made, and its end; the planner notes each planning, and kills its process.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from firmplan import Engine, Planner, PlanningFailed, tool

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
INNOCENTS = 6
EFFECTS = ("pure", "read", "write")


def note(*words: object) -> None:
    """Append a line, at once."""
    with (FOLDER / "calls").open("a") as file:
        file.write(" ".join(map(str, (*words, os.getpid()))) + "\n")


def lines() -> list[list[str]]:
    """Return the words of all lines."""
    path = FOLDER / "calls"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def await_innocents() -> None:
    """Wait until the innocents are in flight in this process too, unless it is alone."""
    if not (FOLDER / "together").exists():
        return
    wanted = int((FOLDER / "together").read_text())
    if sum(words[0] == "poison" for words in lines()) >= 3:
        return  # it is alone by now
    while sum(words[0] == "innocent" and words[-1] == str(os.getpid()) for words in lines()) < wanted:
        time.sleep(0.01)


def kill() -> int:
    """Note the call, and end this process without a word."""
    note("poison")
    await_innocents()
    if not (FOLDER / "cured").exists():
        os._exit(9)
    return 1


@tool(effect="pure", version=1)
def kill_pure() -> int:
    """Kill the process."""
    return kill()


@tool(effect="read", resource="lair", version=1)
def kill_read() -> int:
    """Kill the process."""
    return kill()


@tool(effect="write", idempotent=True, resource="lair", version=1)
def kill_write() -> int:
    """Kill the process."""
    return kill()


@tool(effect="pure", version=1)
async def kill_at_once() -> int:
    """Kill the process without having waited."""
    return kill()


@tool(effect="read", resource="meadow", version=1)
def graze(name: str) -> str:
    """Be there until the gate is opened."""
    note("innocent", name)
    while not (FOLDER / "go").exists():
        time.sleep(0.01)
    note("done", name)
    return name


@tool(effect="read", resource="meadow", version=1)
def kill_once(name: str) -> str:
    """Kill the process that calls it first."""
    note("once", name)
    if sum(words[:2] == ["once", name] for words in lines()) == 1:
        os._exit(9)
    return name


@tool(effect="pure", version=1)
def quick(number: int) -> int:
    """Return a number."""
    note("quick", number)
    return number


class Deadly(Planner):
    """A planner that kills its process."""

    async def plan(self, *_args: object, **_options: object) -> object:
        """Kill the process, or give up."""
        kill()
        raise PlanningFailed("cured, and none the wiser", [])


TOOLS = [kill_pure, kill_read, kill_write, kill_at_once, graze, kill_once, quick]
PLANS = {
    **{
        name: {"firmplan": 1, "steps": [{"id": "bite", "tool": f"kill_{name}"}], "output": "${bite}"}
        for name in ("pure", "read", "write", "at_once")
    },
    "twice": {
        "firmplan": 1,
        "steps": [
            {
                "id": f"s{n}",
                "tool": "kill_once",
                "args": {"name": f"s{n}"},
                "after": [f"s{n - 1}"] if n else [],
            }
            for n in range(5)
        ],
    },
    "beside": {
        "firmplan": 1,
        "steps": [
            {"id": "many", "tool": "quick", "args": {"number": "${item}"}, "for_each": "${range(20)}"},
            {"id": "bite", "tool": "kill_pure"},
        ],
        "output": "${bite}",
    },
    **{
        f"graze{n}": {
            "firmplan": 1,
            "steps": [{"id": "stand", "tool": "graze", "args": {"name": f"i{n}"}}],
            "output": "${stand}",
        }
        for n in range(INNOCENTS + 1)
    },
}


def main() -> None:
    """Do as told; print each run's status, for the test to read."""
    store, words = sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "{}"
    what, _, which = words.partition(":")
    with Engine(
        TOOLS, store=store, planner=Deadly(), recover=not which or what not in ("resume", "budget")
    ) as engine:
        if what == "resume":
            engine.resume_sync(which)
        elif what == "budget":
            engine.run_sync(PLANS["write"], run_id="p", budget={"steps": int(which)})
        for run_id, name in json.loads(words).items():
            engine.submit_sync("Do what kills" if name == "task" else PLANS[name], run_id=run_id)
        while any(engine.list_runs_sync(status=status).runs for status in ("queued", "running")):
            time.sleep(0.02)
        found = {run.id: run.status for run in engine.list_runs_sync().runs}
        print(json.dumps(found))  # noqa: T201  # what the test reads


if __name__ == "__main__":
    main()
