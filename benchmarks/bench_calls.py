"""What one warm run of a plan of one step passes through: Python calls and modules of firmplan, per module.

    python benchmarks/bench_calls.py [--reuse] [--functions]

The plan calls one pure tool, the store is a file, and the same engine has run the plan before, so that nothing is imported, read or
compiled for the first time. Counted is each call of a function whose code lies in firmplan, comprehensions and lambdas included (they
are calls until Python 3.11), in all threads. `--reuse`: the run reuses the result instead of calling the tool. The counts are the same
on every machine, so that they show what a change adds where times would not. Exits with 1 beyond the limits.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final

from firmplan import Engine, PlanBuilder, tool

ROOT: Final = str(Path(__file__).resolve().parents[1])
WARM_UP: Final = 3  # runs before the one that is counted
CALLS_MAX: Final = 475
MODULES_MAX: Final = 50


@tool(effect="pure")
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Counting:
    """Counts calls by module and function, in the form that `sys.setprofile` wants."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()

    def __call__(self, frame: FrameType, event: str, _arg: object) -> None:
        """Count one event."""
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(ROOT) and file != __file__:
            self.calls[str(Path(file).relative_to(ROOT)), frame.f_code.co_name] += 1

    @property
    def modules(self) -> Counter[str]:
        """Calls by module."""
        found: Counter[str] = Counter()
        for (module, _), count in self.calls.items():
            found[module] += count
        return found


async def counted(*, reuse: bool) -> Counting:
    """Return what a warm run passed through."""
    builder = PlanBuilder("Add two numbers")
    builder.output(builder.call(add, a=1, b=2, id="total"))
    plan = builder.build([add])
    counting = Counting()
    with tempfile.TemporaryDirectory() as folder:
        async with Engine(tools=[add], store=Path(folder) / "runs.db") as engine:
            for _ in range(WARM_UP):
                await engine.run(plan, reuse="auto" if reuse else "off")
            threading.setprofile(counting)
            sys.setprofile(counting)
            run = await engine.run(plan, reuse="auto" if reuse else "off")
            sys.setprofile(None)
            threading.setprofile(None)
    if run.output != 1 + 2:
        raise AssertionError(run)
    return counting


def main() -> int:
    """Print the counts, and return 1 where they are beyond the limits."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reuse", action="store_true", help="reuse the result of an earlier run")
    parser.add_argument("--functions", action="store_true", help="list every function")
    options = parser.parse_args()
    found = asyncio.run(counted(reuse=options.reuse))
    calls, modules = found.calls.total(), len(found.modules)
    for module, count in found.modules.most_common():
        print(f"{count:5}  {module}")
        if options.functions:
            for (home, function), times in found.calls.most_common():
                if home == module:
                    print(f"         {times:3}  {function}")
    print(f"\n{calls} calls (limit {CALLS_MAX}), {modules} modules (limit {MODULES_MAX})")
    return int(calls > CALLS_MAX or modules > MODULES_MAX)


if __name__ == "__main__":
    sys.exit(main())
