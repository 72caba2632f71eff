"""How long `import firmplan` and `firmplan --help` take, against their limits; and what the time goes to.

    python benchmarks/bench_import.py

Each is started `ROUNDS` times in a new process; the least and the median are shown, less what Python itself takes for the
import. Exits with 1 if a median is over its limit.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time

ROUNDS = 9
SLOWEST_SHOWN = 8
CASES = (
    ("import firmplan", [sys.executable, "-c", "import firmplan"], 0.15),
    ("from firmplan import tool", [sys.executable, "-c", "from firmplan import tool"], None),
    ("firmplan --help", [sys.executable, "-m", "firmplan", "--help"], 0.3),
)


def main():
    """Print the table and the slowest imports; return the exit code."""
    bare = min(seconds([sys.executable, "-c", "pass"]) for _ in range(ROUNDS))
    print(f"python itself: {bare * 1000:.0f} ms; {ROUNDS} rounds; the times below include it")
    over = False
    for name, words, limit_s in CASES:
        taken = sorted(seconds(words) for _ in range(ROUNDS))
        median = statistics.median(taken)
        told = f"(limit {limit_s * 1000:.0f} ms)" if limit_s else ""
        print(f"{name:<28} least {taken[0] * 1000:4.0f} ms   median {median * 1000:4.0f} ms   {told}")
        over = over or bool(limit_s and median > limit_s)
    for name, words, _ in CASES:
        print(f"\npython -X importtime, {name}: milliseconds, with what each imports")
        for cumulative, module in slowest(words):
            print(f"  {cumulative / 1000:6.1f}  {module}")
    return 1 if over else 0


def seconds(words):
    """Return the wall time of one process."""
    begun = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True)
    return time.perf_counter() - begun


def slowest(words):
    """Return cumulative microseconds and name of the slowest imports, as `-X importtime` tells them."""
    done = subprocess.run(
        [words[0], "-X", "importtime", *words[1:]], check=True, capture_output=True, text=True
    )
    found = re.findall(r"^import time:\s+\d+ \|\s+(\d+) \|\s+(\S+)$", done.stderr, re.MULTILINE)
    return sorted(((int(taken), module) for taken, module in found), reverse=True)[:SLOWEST_SHOWN]


if __name__ == "__main__":
    sys.exit(main())
