"""What a step costs in this checkout beside another one, the two in turn in one process.

    python benchmarks/compare_versions.py OTHER [ROW ..] [--rounds 40]

OTHER is the root of another checkout: `git worktree add /tmp/before HEAD~1`. On a machine that does other work too, the same code takes 15 %
more in one process than in the next, and twice as long in one minute as in the one before. So both are loaded into one process, under names of their
own, and run one after the other, some 20 to 100 ms at a time, each of them first in every other round. A row shows the median over
the rounds of the ratio of their CPU, threads included, with the bounds between which it lies with 95 % confidence. The tools are those of `workloads.py` of this
checkout; only what both have can be compared.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import itertools
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeAlias

HERE: Final = Path(__file__).parent
STEPS: Final = 500
SETTLED_S: Final = 0.02
MANY: Final = 200
Work: TypeAlias = "Callable[[], Awaitable[None]]"

_numbers = itertools.count(1)


def fresh() -> int:
    """Return a number by which all calls are new."""
    return next(_numbers) * 1_000_000


class Renamed(MetaPathFinder):
    """Finds `firmplan` and its modules as those of a package that was loaded under another name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """See `MetaPathFinder`."""
        del path, target
        if fullname.partition(".")[0] != "firmplan":
            return None
        return importlib.util.spec_from_loader(fullname, self)  # type: ignore[arg-type]  # it has the methods of a loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module of the package."""
        return importlib.import_module(spec.name.replace("firmplan", self._name, 1))

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: it was executed under its own name."""


def loaded(root: Path, name: str) -> tuple[ModuleType, ModuleType]:
    """Return the package in a checkout under a name of its own, and `workloads` over that package."""
    where = {"submodule_search_locations": [str(root)]}
    for alias, path, more in (
        (name, root / "__init__.py", where),
        (f"workloads_of_{name}", HERE / "workloads.py", {}),
    ):
        spec = importlib.util.spec_from_file_location(alias, path, **more)  # type: ignore[arg-type]
        if spec is None or spec.loader is None:
            raise SystemExit(f"{root} is no checkout of firmplan")
        sys.modules[alias] = importlib.util.module_from_spec(spec)
        finder = Renamed(name)
        sys.meta_path.insert(0, finder)
        spec.loader.exec_module(sys.modules[alias])
        sys.meta_path.remove(finder)
        for known in [each for each in sys.modules if each.partition(".")[0] == "firmplan"]:
            del sys.modules[known]
    return sys.modules[name], sys.modules[f"workloads_of_{name}"]


def rows(engine: Any, memory: Any, work: ModuleType) -> dict[str, tuple[int, Callable[[], Awaitable[Any]]]]:
    """Return name -> how many steps or runs a block has, and what runs it."""
    kind, waiting = work.KINDS["TypedDict"], work.WAITING["5 ms"]
    plan, small = work.layered(kind, STEPS), work.layered(kind, 5, layer=2)
    waits, writes, reads = work.layered(waiting, 200), work.chain(work.PUT, 40), work.chain(work.LOOK, 40)
    kept: list[Any] = []

    async def run(given: Any, n: int | None = None, engine: Any = engine) -> Any:
        made = await engine.run(given, inputs={"n": fresh() if n is None else n})
        assert made.status == "succeeded", made
        return made

    async def first() -> Any:
        if not kept:
            kept.append(await run(plan, 7))
        return kept[0]

    async def reused() -> None:
        await first()
        assert (await run(plan, 7)).usage["reused"] == STEPS

    async def replay() -> None:
        made = await first()
        assert (await engine.replay(made.id)).digest == made.digest

    async def one_by_one() -> None:
        for _ in range(10):
            await run(small)

    async def at_once() -> None:
        await asyncio.gather(*(run(small) for _ in range(MANY)))

    return {
        "known plan": (STEPS, lambda: run(plan)),
        "new plan": (STEPS, lambda: run(work.layered(kind, STEPS, tag=fresh()))),
        "all reused": (STEPS, reused),
        "strict replay": (STEPS, replay),
        "memory: store": (STEPS, lambda: run(plan, engine=memory)),
        "waits of 5 ms": (200, lambda: run(waits)),
        "idempotent writes": (40, lambda: run(writes)),
        "reads of a chain": (40, lambda: run(reads)),
        "small runs, one by one": (10, one_by_one),
        "small runs, at once": (MANY, at_once),
    }


async def opened(stack: AsyncExitStack, package: ModuleType, work: ModuleType, store: str) -> Any:
    """Return an engine."""
    tools = [work.KINDS["TypedDict"].tool, work.WAITING["5 ms"].tool, work.PUT, work.LOOK]
    return await stack.enter_async_context(package.Engine(tools, store=store))


async def ratios(both: Sequence[Work], rounds: int) -> tuple[list[float], list[list[float]]]:
    """Return the ratio of the second one's CPU seconds to the first one's in each round, and the seconds of each."""
    for work in both:
        for _ in range(3):
            await work()
    taken: list[list[float]] = [[], []]
    for number in range(rounds):
        for place in (0, 1) if number % 2 else (1, 0):
            await asyncio.sleep(SETTLED_S)  # what an engine writes a moment after a run is in no block
            started = time.process_time()
            await both[place]()
            taken[place].append(time.process_time() - started)
    return sorted(mine / other for other, mine in zip(*taken, strict=True)), taken


async def compared(other: Path, wanted: Sequence[str], rounds: int) -> None:
    """Measure and print."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        both = []
        for name, root in (("firmplan_other", other), ("firmplan_here", HERE.parent)):
            package, work = loaded(root, name)
            engine = await opened(stack, package, work, str(folder / f"{name}.db"))
            both.append(rows(engine, await opened(stack, package, work, "memory:"), work))
        for row, (count, _) in both[1].items():
            if wanted and row not in wanted:
                continue
            found, taken = await ratios([each[row][1] for each in both], rounds)
            told = [statistics.median(seconds) / count * 1e6 for seconds in taken]
            low, high = bounds(found)
            print(
                f"{row:24} {told[0]:9.1f} -> {told[1]:9.1f} us   x {statistics.median(found):.3f} ({low:.3f} to {high:.3f})"
            )


def bounds(ordered: Sequence[float]) -> Iterator[float]:
    """Yield the values between which the median lies with 95 % confidence."""
    middle, half = len(ordered) / 2, math.sqrt(len(ordered))
    yield ordered[max(0, int(middle - half))]
    yield ordered[min(len(ordered) - 1, math.ceil(middle + half))]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other", type=Path, metavar="OTHER")
    parser.add_argument("rows", nargs="*", metavar="ROW")
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    asyncio.run(compared(options.other.resolve(), options.rows, options.rounds))
