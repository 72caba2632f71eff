"""How long `import firmplan`, `from firmplan import Engine`, `firmplan --help` and a small `firmplan run` take in a new process; and what the time goes to.

    python benchmarks/bench_import.py

Each is started `ROUNDS` times in a new process, with bytecode that an earlier process has left, as an installed package has it. Shown are
the least and the median of wall and processor time. Exits with 1 if the least processor time is over its limit: these processes hardly wait, and other
work on the machine does not count.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 9
SLOWEST_SHOWN = 8
RUN = ["-m", "firmplan", "run", "plan.json", "--tools", "tools.py", "--store", "runs.db", "-i", "n=1"]
CASES = (
    ("import firmplan", ["-c", "import firmplan"], 0.15),
    ("from firmplan import tool", ["-c", "from firmplan import tool"], None),
    ("from firmplan import Engine", ["-c", "from firmplan import Engine"], 0.25),
    ("firmplan --help", ["-m", "firmplan", "--help"], 0.3),
    ("firmplan run, 5 steps", RUN, 0.4),
)
TOOLS = '''from firmplan import tool


@tool(effect="pure", version="1")
def add(a: int, b: int) -> int:
    """Add."""
    return a + b
'''
STEPS = [
    {"id": f"s{i}", "tool": "add", "args": {"a": f"${{s{i - 1}}}" if i else "${inputs.n}", "b": i}}
    for i in range(5)
]
PLAN = {"firmplan": 1, "inputs": {"n": {"type": "integer"}}, "steps": STEPS, "output": "${s4}"}


def main():
    """Print the table and the slowest imports; return the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "tools.py").write_text(TOOLS)
        (place / "plan.json").write_text(json.dumps(PLAN))
        bare = min(taken(["-c", "pass"], place)["wall"] for _ in range(ROUNDS))
        print(f"python itself: {bare * 1000:.0f} ms; {ROUNDS} rounds; the times below include it")
        over = False
        for name, words, limit_s in CASES:
            taken(words, place)  # leaves the bytecode
            rounds = [taken(words, place) for _ in range(ROUNDS)]
            told = f"(limit {limit_s * 1000:.0f} ms of processor time)" if limit_s else ""
            shown = "   ".join(
                f"{each} least {min(one[each] for one in rounds) * 1000:4.0f} median "
                f"{statistics.median(one[each] for one in rounds) * 1000:4.0f} ms"
                for each in ("wall", "cpu")
            )
            print(f"{name:<28} {shown}   {told}")
            over = over or bool(limit_s and min(one["cpu"] for one in rounds) > limit_s)
        for name, words, _ in CASES:
            print(f"\npython -X importtime, {name}: milliseconds, with what each imports")
            for cumulative, module in slowest(words, place):
                print(f"  {cumulative / 1000:6.1f}  {module}")
    return 1 if over else 0


def started(words, place):
    """Start a process in a new store."""
    for old in place.glob("runs.db*"):
        old.unlink()
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPYCACHEPREFIX"] = str(place / "bytecode")
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=place,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def taken(words, place):
    """Return the wall and processor time of one process, in seconds."""
    begun = time.perf_counter()
    process = started(words, place)
    told = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{words}: {told}")
    return {"wall": wall, "cpu": used.ru_utime + used.ru_stime}


def slowest(words, place):
    """Return cumulative microseconds and name of the slowest imports, as `-X importtime` tells them."""
    told = started(["-X", "importtime", *words], place).communicate()[1]
    found = re.findall(r"^import time:\s+\d+ \|\s+(\d+) \|\s+(\S+)$", told, re.MULTILINE)
    return sorted(((int(cumulative), module) for cumulative, module in found), reverse=True)[:SLOWEST_SHOWN]


if __name__ == "__main__":
    sys.exit(main())
